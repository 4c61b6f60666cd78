// Forwards the jobs of BullMQ's queues to skycap, so that producers can move one by one: node forward-bullmq.mjs
// Needs Node 20 or newer, and the backend's own `bullmq`, 5 or 6, since only that knows its layout in Redis.
//
//   SKYCAP_URL, SKYCAP_TOKEN       where the jobs go; the token needs the scope enqueue
//   BULLMQ_REDIS_URL               where they are; may be skycap's own server, whose keys have another prefix
//   BULLMQ_QUEUES, BULLMQ_PREFIX   email,processing,scheduled and bull, if not given
//   BULLMQ_LOCK_SECONDS            10: a killed forwarder's jobs are another's at most twice as much later
//
// A job is forwarded when it is due, and then counts as completed for BullMQ, with skycap's job id as its result. It
// becomes one job, however often a forwarder is killed: its id says which job it was. A job that skycap refuses is
// among BullMQ's failed ones, with the reason, to be retried there. While skycap is away, jobs wait and lose no attempt.
import { createHash } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { DelayedError, UnrecoverableError, Worker } from "bullmq";

const { SKYCAP_URL = "http://127.0.0.1:8600", SKYCAP_TOKEN, BULLMQ_REDIS_URL = "redis://127.0.0.1:6379" } = process.env;
const { BULLMQ_QUEUES = "email,processing,scheduled", BULLMQ_PREFIX = "bull", BULLMQ_LOCK_SECONDS = "10" } = process.env;

const CONCURRENCY = 50;
const TIMEOUT_MS = 10_000;
const LONGEST_PAUSE_MS = 5_000;
const REFUSED = new Set([400, 413, 422]);
const KNOWN_WITH_OTHER_DATA = 409; // it was forwarded, and its data was changed since

const stopping = new AbortController();
let away = "";

/** @param {import("bullmq").Job} job @param {string | undefined} [token] */
async function forward(job, token) {
  const id = idOf(job);
  for (let failures = 0; ; failures++) {
    const problem = await post(id, job).catch(unreachable);
    if (problem !== away) console.error(problem || "skycap takes jobs again");
    away = problem;
    if (!problem) return id;
    const milliseconds = Math.min(LONGEST_PAUSE_MS, 200 * 2 ** failures) * (0.5 + Math.random() / 2);
    await pause(milliseconds, undefined, { signal: stopping.signal }).catch(() => undefined);
    if (stopping.signal.aborted) {
      await job.moveToDelayed(Date.now(), token);
      throw new DelayedError(); // which is no failed attempt
    }
  }
}

/** What keeps skycap from taking it now; "" when it has. @param {string} id @param {import("bullmq").Job} job */
async function post(id, job) {
  const response = await fetch(`${SKYCAP_URL}/api/jobs`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "Idempotency-Key": id, // known for 24 hours, also when the job itself is forgotten by then
      ...(SKYCAP_TOKEN && { Authorization: `Bearer ${SKYCAP_TOKEN}` }),
    },
    body: JSON.stringify(requestOf(id, job)),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const { message } = /** @type {{ message?: string }} */ (await response.json().catch(() => ({})));
  if (response.ok || response.status === KNOWN_WITH_OTHER_DATA) return "";
  if (REFUSED.has(response.status)) throw new UnrecoverableError(message ?? `HTTP ${response.status}`);
  return `skycap answers with HTTP ${response.status}${message ? `: ${message}` : ""}`;
}

/** @param {Error} error */
function unreachable(error) {
  if (error instanceof UnrecoverableError) throw error;
  return `skycap cannot be reached: ${error.cause instanceof Error ? error.cause.message : error.message}`;
}

/** @param {string} id @param {import("bullmq").Job} job */
function requestOf(id, job) {
  const { priority } = job.opts;
  return {
    id,
    kind: job.name,
    payload: job.data ?? {},
    tags: [`bullmq-${job.queueName}`.slice(0, 200)],
    ...(priority && { priority: Math.min(priority, 1000) }), // BullMQ's 0 is "none": then it is the kind's own
  };
}

/** BullMQ numbers from 1 again when a queue was emptied: the time belongs to it. @param {import("bullmq").Job} job */
function idOf({ queueName, id, timestamp }) {
  const name = `bullmq:${queueName}:${id}:${timestamp}`;
  return /^[\w.:-]{1,200}$/.test(name) ? name : `bullmq:${createHash("sha256").update(name).digest("hex")}`;
}

const workers = BULLMQ_QUEUES.split(",").map((queue) => {
  const worker = new Worker(queue.trim(), forward, {
    connection: { url: BULLMQ_REDIS_URL, maxRetriesPerRequest: null },
    prefix: BULLMQ_PREFIX,
    concurrency: CONCURRENCY,
    lockDuration: Number(BULLMQ_LOCK_SECONDS) * 1000, // renewed for as long as it takes
    stalledInterval: Number(BULLMQ_LOCK_SECONDS) * 1000,
    maxStalledCount: Number.MAX_SAFE_INTEGER, // a forwarder's death says nothing about its jobs
  });
  worker.on("error", (error) => console.error(`${queue}: ${error.message}`));
  worker.on("failed", (job, error) => console.error(`${queue}: ${job?.name} ${job?.id} is refused: ${error.message}`));
  return worker;
});

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, async () => {
    stopping.abort();
    await Promise.all(workers.map((worker) => worker.close()));
    process.exit(0);
  });
}
