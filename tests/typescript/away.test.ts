// The client where skycap is away, busy, or behind a proxy that is: a server that answers as it is told.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import { Skycap, SkycapError } from "../../plugins/typescript/skycap.ts";

interface Seen {
  headers: IncomingMessage["headers"];
  url: string | undefined;
  body: { id?: string; kind?: string };
}

type Answer = (response: ServerResponse) => void;

const seen: Seen[] = [];
let answers: Answer[] = [];
let url = "";

const server = createServer((request, response) => {
  let text = "";
  request.on("data", (chunk: Buffer) => (text += chunk.toString()));
  request.on("end", () => {
    seen.push({ headers: request.headers, url: request.url, body: JSON.parse(text || "{}") as Seen["body"] });
    (answers.length > 1 ? answers.shift() : answers[0])?.(response);
  });
});

const json =
  (status: number, body: object, headers: Record<string, string> = {}): Answer =>
  (response) =>
    response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));
const accepted = json(202, { jobId: "j1", state: "available", duplicate: false });
const away = json(503, { message: "Redis is away", code: "EXTERNAL_SERVICE_001", requestId: "r1" }, { "Retry-After": "0" });
const broken: Answer = (response) => response.destroy();
const silent: Answer = () => undefined;

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  seen.length = 0;
});

function client(token = "sc_secret"): Skycap {
  return new Skycap({ url, token });
}

async function refused(call: Promise<unknown>): Promise<SkycapError> {
  const error: unknown = await call.then(
    () => assert.fail("it was not refused"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof SkycapError, String(error));
  assert.ok(!`${error.stack} ${JSON.stringify(error)}`.includes("sc_secret"));
  return error;
}

test("a lost answer is asked for again with the same id", async () => {
  answers = [broken, json(502, {}), accepted];
  const enqueued = await client().enqueue("say-hello", { name: "Ada" });
  assert.deepEqual(enqueued, { jobId: "j1", state: "available", duplicate: false });
  assert.equal(seen.length, 3);
  assert.match(seen[0]?.body.id ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual(new Set(seen.map((each) => each.body.id)).size, 1);
  assert.equal(seen[0]?.headers.authorization, "Bearer sc_secret");
});

test("an idempotency key goes as a header, and no id makes another request of it", async () => {
  answers = [accepted];
  await client().enqueue("say-hello", { name: "Ada" }, { idempotencyKey: "greet:7" });
  assert.equal(seen[0]?.headers["idempotency-key"], "greet:7");
  assert.deepEqual(seen[0]?.body, { kind: "say-hello", payload: { name: "Ada" } });
});

test("it gives up after four tries, and says that it may be tried again", async () => {
  answers = [away];
  const error = await refused(client().enqueue("say-hello", {}));
  assert.deepEqual(
    [error.status, error.code, error.message, error.requestId, error.retryable, seen.length],
    [503, "EXTERNAL_SERVICE_001", "Redis is away", "r1", true, 4],
  );
});

test("it does not wait for longer than a caller would", async () => {
  answers = [json(429, { message: "too many", code: "RATE_LIMIT_001" }, { "Retry-After": "3600" })];
  const error = await refused(client().enqueue("say-hello", {}));
  assert.deepEqual([error.retryAfterSeconds, error.retryable, seen.length], [3600, true, 1]);
});

test("what is wrong with a job is said at once", async () => {
  answers = [json(400, { message: "payload.name: is missing", code: "VALIDATION_001" })];
  const error = await refused(client().enqueue("say-hello", {}));
  assert.deepEqual([error.status, error.code, error.retryable, seen.length], [400, "VALIDATION_001", false, 1]);
});

test("a page of a proxy is an error with its status", async () => {
  answers = [(response) => response.writeHead(401, { "Content-Type": "text/html" }).end("<h1>no</h1>")];
  const error = await refused(client().get("j1"));
  assert.deepEqual([error.status, error.code, error.message], [401, "HTTP_401", "skycap answered with HTTP 401"]);
});

test("a try that takes too long is given up, and tried again", async () => {
  answers = [silent, accepted];
  const enqueued = await client().enqueue("say-hello", {}, { timeoutMs: 100 });
  assert.equal(enqueued.jobId, "j1");
  answers = [silent];
  const error = await refused(client().enqueue("say-hello", {}, { timeoutMs: 10 }));
  assert.deepEqual([error.code, error.status, error.retryable], ["TIMEOUT", 0, true]);
});

test("a caller who gives up gets the own reason, also between two tries", async () => {
  answers = [silent];
  const reason = new Error("the visitor left");
  const leaving = new AbortController();
  const call = client().enqueue("say-hello", {}, { signal: leaving.signal });
  leaving.abort(reason);
  await assert.rejects(call, reason);

  answers = [json(503, {}, { "Retry-After": "20" })];
  const left = AbortSignal.timeout(100);
  await assert.rejects(client().enqueue("say-hello", {}, { signal: left }), { name: "TimeoutError" });
});

test("nobody listens", async () => {
  const error = await refused(new Skycap({ url: "http://127.0.0.1:9", token: "sc_secret" }).enqueue("say-hello", {}));
  assert.deepEqual([error.code, error.status, error.retryable], ["UNREACHABLE", 0, true]);
});

test("a token that cannot be sent is refused without being shown", () => {
  assert.throws(() => client("sc_secret\nX-Other: 1"), (error: Error) => !error.message.includes("secret"));
});

test("without a stream of events a job is asked for until it has ended", async () => {
  answers = [
    json(200, { id: "j1", state: "available" }),
    json(404, {}),
    json(200, { id: "j1", state: "running" }),
    broken,
    json(200, { id: "j1", state: "completed", result: 7 }),
  ];
  const job = await client().wait("j1");
  assert.deepEqual([job.state, job.result], ["completed", 7]);
  assert.deepEqual(
    seen.map((each) => each.url),
    ["/api/jobs/j1", "/api/jobs/j1/events", "/api/jobs/j1", "/api/jobs/j1/events", "/api/jobs/j1"],
  );
});

test("a job that is forgotten as soon as it has ended is still waited for", async () => {
  answers = [
    json(200, { id: "j1", state: "running" }),
    (response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end("event: completed\ndata: {}\n\n"),
    json(404, {}),
  ];
  assert.deepEqual(await client().wait("j1"), { id: "j1", state: "completed" });
  answers = [json(404, {})];
  assert.equal((await refused(client().wait("j2"))).status, 404);
});
