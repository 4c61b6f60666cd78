// The client with a real daemon at SKYCAP_URL, which greets.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Skycap, SkycapError } from "../../plugins/typescript/skycap.ts";

interface Kinds {
  "say-hello": { name: string; seconds?: number };
}

const skycap = new Skycap<Kinds>({ url: process.env["SKYCAP_URL"] ?? "" });
const soon = () => ({ signal: AbortSignal.timeout(20_000) });

test("a job is enqueued, waited for, and tells its result", async () => {
  const { jobId, state, duplicate } = await skycap.enqueue("say-hello", { name: "Zoë ☃" });
  assert.deepEqual([state, duplicate], ["available", false]);
  const job = await skycap.wait(jobId, soon());
  assert.deepEqual([job.id, job.kind, job.state, job.attempt], [jobId, "say-hello", "completed", 1]);
  assert.deepEqual(job.result, { greeting: "Hello Zoë ☃" });
});

test("a job is waited for by its events, not by asking again and again", async () => {
  const asked: string[] = [];
  const watched = new Skycap<Kinds>({
    url: process.env["SKYCAP_URL"] ?? "",
    fetch: (input, init) => {
      asked.push(String(input).replace(/^.*jobs/, ""));
      return fetch(input, init);
    },
  });
  const { jobId } = await watched.enqueue("say-hello", { name: "Ada", seconds: 0.5 });
  assert.equal((await watched.wait(jobId, soon())).state, "completed");
  assert.deepEqual(asked, ["", `/${jobId}`, `/${jobId}/events`, `/${jobId}`]);
});

test("who stops waiting gets the own reason", async () => {
  const { jobId } = await skycap.enqueue("say-hello", { name: "Ada" }, { delaySeconds: 60 });
  await assert.rejects(skycap.wait(jobId, { signal: AbortSignal.timeout(200) }), { name: "TimeoutError" });
});

test("options arrive", async () => {
  const at = new Date(Date.now() + 3_600_000);
  const options = { at, priority: 3, tags: ["vip"], deadlineSeconds: 7200, labels: { trace: "t" } };
  const { jobId, state } = await skycap.enqueue("say-hello", { name: "Ada" }, options);
  assert.equal(state, "scheduled");
  const job = await skycap.get(jobId);
  assert.deepEqual([job?.state, job?.priority, job?.tags], ["scheduled", 3, ["vip"]]);
  assert.equal(Date.parse(job?.dueAt ?? ""), at.getTime());
});

test("the same idempotency key is one job, with another payload it is refused", async () => {
  const options = { idempotencyKey: "greet:1", delaySeconds: 60 };
  const first = await skycap.enqueue("say-hello", { name: "Ada" }, options);
  assert.deepEqual(await skycap.enqueue("say-hello", { name: "Ada" }, options), { ...first, duplicate: true });
  await refused(skycap.enqueue("say-hello", { name: "Bob" }, options), 409);
});

test("the same id, and the same unique key, is one job", async () => {
  for (const options of [{ id: "greet-2", delaySeconds: 60 }, { unique: { key: "greet:3" }, delaySeconds: 60 }]) {
    const first = await skycap.enqueue("say-hello", { name: "Ada" }, options);
    assert.deepEqual(await skycap.enqueue("say-hello", { name: "Ada" }, options), { ...first, duplicate: true });
  }
});

test("many are all enqueued or none", async () => {
  const ada = { kind: "say-hello", payload: { name: "Ada" } } as const;
  const enqueued = await skycap.enqueueMany([ada, { ...ada, options: { id: "greet-4", delaySeconds: 60 } }]);
  assert.deepEqual(enqueued[1], { jobId: "greet-4", state: "scheduled", duplicate: false });
  const broken = { ...ada, payload: { name: 7 as unknown as string } };
  const error = await refused(skycap.enqueueMany([{ ...ada, options: { id: "greet-5" } }, broken]), 400);
  assert.match(error.message, /jobs\.1\.payload\.name/);
  assert.equal(await skycap.get("greet-5"), undefined);
});

test("what is wrong is named, without the value", async () => {
  const error = await refused(skycap.enqueue("say-hello", { name: 4711 as unknown as string }), 400);
  assert.match(error.message, /name/);
  assert.doesNotMatch(error.message, /4711/);
  assert.match(error.code, /^VALIDATION_/);
  assert.ok(error.requestId);
  await refused(skycap.enqueue("say-nothing" as "say-hello", { name: "Ada" }), 400);
});

test("a job is cancelled, and a discarded one runs again", async () => {
  const { jobId } = await skycap.enqueue("say-hello", { name: "Ada" }, { delaySeconds: 60 });
  assert.deepEqual(await skycap.cancel(jobId), { jobId, state: "cancelled" });
  await refused(skycap.cancel(jobId), 409);

  const nobody = await skycap.enqueue("say-hello", { name: "" });
  const discarded = await skycap.wait(nobody.jobId, soon());
  assert.equal(discarded.state, "discarded");
  assert.equal((await skycap.retry(nobody.jobId)).jobId, nobody.jobId);
  assert.equal((await skycap.wait(nobody.jobId, soon())).state, "discarded");
});

test("the version that the backend was built with is sent along", async () => {
  const newer = new Skycap<Kinds>({ url: process.env["SKYCAP_URL"] ?? "", versions: { "say-hello": 2 } });
  assert.equal((await refused(newer.enqueue("say-hello", { name: "Ada" }), 400)).code, "VALIDATION_003");
});

test("there is nothing where nothing is", async () => {
  assert.equal(await skycap.get("no-such-job"), undefined);
  await refused(skycap.cancel("no-such-job"), 404);
});

async function refused(call: Promise<unknown>, status: number): Promise<SkycapError> {
  const error: unknown = await call.then(
    () => assert.fail("it was not refused"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof SkycapError, String(error));
  assert.equal(error.status, status, error.message);
  return error;
}
