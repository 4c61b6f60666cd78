// A producer with BullMQ, as the backend has: node bullmq-queue.mjs REDIS_URL QUEUE JOBS, a JSON list of
// {name, data, opts}, or nothing to only look. Prints how many jobs stand where, and why some failed.
import { Queue } from "bullmq";

const [url = "", name = "", text = "[]"] = process.argv.slice(2);
const queue = new Queue(name, { connection: { url } });
for (const { every, ...job } of JSON.parse(text)) {
  if (every) await queue.upsertJobScheduler(job.name, every, { name: job.name, data: job.data });
  else await queue.add(job.name, job.data, { attempts: 3, ...job.opts });
}
const failed = await queue.getJobs("failed");
const others = await queue.getJobs(["completed", "active", "waiting", "delayed", "prioritized"], 0, 2000);
console.log(
  JSON.stringify({
    counts: await queue.getJobCounts(),
    reasons: failed.map((job) => [job.name, job.failedReason, job.attemptsMade]),
    attempts: Math.max(0, ...others.map((job) => job.attemptsMade)),
    stalled: others.reduce((sum, job) => sum + (job.stalledCounter ?? 0), 0),
    results: others.map((job) => job.returnvalue),
  }),
);
await queue.close();
