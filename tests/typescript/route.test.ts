// The example of a route of Next.js, called as Next.js would; a daemon is at SKYCAP_URL.
import assert from "node:assert/strict";
import { test } from "node:test";
import { POST } from "../../plugins/typescript/next-route.ts";

async function confirm(id: string, body: object): Promise<[number, { jobId?: string; error?: string }]> {
  const request = new Request(`http://localhost/api/bookings/${id}/confirm`, { method: "POST", body: JSON.stringify(body) });
  const response = await POST(request, { params: Promise.resolve({ id }) });
  return [response.status, (await response.json()) as { jobId?: string; error?: string }];
}

test("a request becomes a job, and again the same one", async () => {
  const [status, { jobId }] = await confirm("b1", { userId: "u1", userEmail: "ada@example.com" });
  assert.equal(status, 202);
  assert.ok(jobId);
  assert.deepEqual(await confirm("b1", { userId: "u1", userEmail: "ada@example.com" }), [202, { jobId }]);
});

test("what skycap refuses is the asker's fault, without the address in the answer", async () => {
  const [status, { error }] = await confirm("b2", { userId: "u1", userEmail: "nobody at home" });
  assert.equal(status, 400);
  assert.match(error ?? "", /payload\.userEmail/);
  assert.doesNotMatch(error ?? "", /at home/);
});
