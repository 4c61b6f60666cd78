// What skycap's HTTP API is compared with: BullMQ behind Express, which checks nothing of what it is sent.
import express from "express";
import { Queue } from "bullmq";

const queue = new Queue("email", { connection: { url: process.env.REDIS_URL } });
await queue.waitUntilReady();

const app = express();
app.use(express.json({ limit: "2mb" }));
app.post("/jobs", async (request, response) => {
  const { kind, payload } = request.body;
  const job = await queue.add(kind, payload);
  response.status(202).json({ jobId: job.id });
});
app.post("/jobs/batch", async (request, response) => {
  const jobs = await queue.addBulk(request.body.jobs.map(({ kind, payload }) => ({ name: kind, data: payload })));
  response.status(202).json({ jobs: jobs.map((job) => ({ jobId: job.id })) });
});
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
