// Jobs in the backend's own transactions: DATABASE_URL has skycap's schema and a table bookings.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";
import { VERSIONS, type Kinds } from "../../plugins/typescript/kinds.ts";
import { Skycap } from "../../plugins/typescript/skycap.ts";
import { PrismaClient } from "./generated/client.ts";
import { confirm } from "./prisma-booking.ts";

const connectionString = process.env["DATABASE_URL"] ?? "";
const pool = new pg.Pool({ connectionString, max: 2 });
const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString }) });
// Nothing of this goes over HTTP.
const skycap = new Skycap({ url: "http://127.0.0.1:9" });
const travel = new Skycap<Kinds>({ url: "http://127.0.0.1:9", versions: VERSIONS });

before(async () => {
  await pool.query('CREATE TABLE public.bookings (id text PRIMARY KEY, status text NOT NULL, "userId" text NOT NULL)');
});
after(async () => {
  await pool.end();
  await prisma.$disconnect();
});

async function outbox(jobId: string): Promise<{ kind: string; payload: unknown; options: Record<string, unknown> }[]> {
  const found = await pool.query("SELECT kind, payload, options FROM skycap.outbox WHERE job_id = $1", [jobId]);
  return found.rows as { kind: string; payload: unknown; options: Record<string, unknown> }[];
}

async function inTransaction<T>(end: "COMMIT" | "ROLLBACK", work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query(end);
    return result;
  } finally {
    client.release(true);
  }
}

test("with pg, a committed transaction leaves a job with its options", async () => {
  const options = { priority: 3, tags: ["a"], labels: { trace: "t" }, unique: { key: "k", onConflict: "replace" } } as const;
  const payload = { name: "Zoë \u2028 ☃" };
  const { jobId, duplicate } = await inTransaction("COMMIT", (client) =>
    skycap.enqueueTx(client, "say-hello", payload, { ...options, tags: ["a"], at: new Date(2e12) }),
  );
  assert.equal(duplicate, false);
  const [row] = await outbox(jobId);
  assert.deepEqual([row?.kind, row?.payload], ["say-hello", payload]);
  assert.deepEqual(row?.options, { ...options, at: "2033-05-18T03:33:20.000Z" });
});

test("with pg, a transaction that is rolled back leaves none", async () => {
  const { jobId } = await inTransaction("ROLLBACK", (client) => skycap.enqueueTx(client, "say-hello", { name: "Ada" }));
  assert.deepEqual(await outbox(jobId), []);
});

test("with Prisma, a booking and its mail are committed together", async () => {
  await prisma.booking.create({ data: { id: "b2", status: "PENDING", userId: "u1" } });
  const jobId = await confirm(prisma, travel, "b2");
  assert.equal((await prisma.booking.findUnique({ where: { id: "b2" } }))?.status, "CONFIRMED");
  assert.deepEqual(await outbox(jobId), [
    { kind: "send-payment-receipt", payload: { bookingId: "b2", userId: "u1" }, options: { version: 1 } },
  ]);
});

test("with Prisma, a transaction that fails leaves neither", async () => {
  const id = "outbox-rolled-back";
  const failing = prisma.$transaction(async (tx) => {
    await tx.booking.create({ data: { id: "b3", status: "PENDING", userId: "u1" } });
    await skycap.enqueueTx(tx, "say-hello", { name: "Ada" }, { id });
    throw new Error("no room");
  });
  await assert.rejects(failing, /no room/);
  assert.deepEqual(await outbox(id), []);
});

test("the same id twice is one job", async () => {
  const id = "outbox-once";
  assert.deepEqual(await skycap.enqueueTx(pool, "say-hello", { name: "Ada" }, { id }), { jobId: id, duplicate: false });
  assert.deepEqual(await skycap.enqueueTx(prisma, "say-hello", { name: "Ada" }, { id }), { jobId: id, duplicate: true });
  assert.equal((await outbox(id)).length, 1);
});

test("a job that cannot be one fails its transaction", async () => {
  await assert.rejects(skycap.enqueueTx(pool, "No Kind!", {}), (error: { code?: string; hint?: string }) => {
    assert.equal(error.code, "22023");
    assert.match(error.hint ?? "", /hyphens/);
    return true;
  });
});
