// From a transaction to a job that has run: DATABASE_URL is that of the daemon at SKYCAP_URL.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { Skycap } from "../../plugins/typescript/skycap.ts";

test("a job runs when its transaction is committed, and not before", async () => {
  const skycap = new Skycap({ url: process.env["SKYCAP_URL"] ?? "" });
  const client = new pg.Client({ connectionString: process.env["DATABASE_URL"] });
  await client.connect();
  try {
    await client.query("BEGIN");
    const { jobId } = await skycap.enqueueTx(client, "say-hello", { name: "Ada" });
    assert.equal(await skycap.get(jobId), undefined);
    await client.query("COMMIT");
    while (!(await skycap.get(jobId))) await pause(10);
    const job = await skycap.wait(jobId, { signal: AbortSignal.timeout(20_000) });
    assert.deepEqual([job.state, job.result], ["completed", { greeting: "Hello Ada" }]);
  } finally {
    await client.end();
  }
});
