// What the compiler must refuse: a line that it takes after all is an error of its own.
import { Skycap } from "../../plugins/typescript/skycap.ts";
import type { Transaction } from "../../plugins/typescript/skycap.ts";
import type { Pool, PoolClient } from "pg";
import type { PrismaClient } from "./generated/client.ts";

interface Kinds {
  "say-hello": { name: string };
  "say-goodbye": { name: string; loudly?: boolean };
}

export async function checked(skycap: Skycap<Kinds>, untyped: Skycap): Promise<void> {
  await skycap.enqueue("say-hello", { name: "Ada" }, { delaySeconds: 5, at: new Date() });
  await skycap.enqueueMany([
    { kind: "say-hello", payload: { name: "Ada" } },
    { kind: "say-goodbye", payload: { name: "Ada", loudly: true }, options: { priority: 1 } },
  ]);
  await untyped.enqueue("anything", { at: "all" });

  // @ts-expect-error: there is no such kind
  await skycap.enqueue("say-nothing", { name: "Ada" });
  // @ts-expect-error: a field is missing
  await skycap.enqueue("say-hello", {});
  // @ts-expect-error: a field has another type
  await skycap.enqueue("say-hello", { name: 7 });
  // @ts-expect-error: a field of another kind
  await skycap.enqueue("say-hello", { name: "Ada", loudly: true });
  // @ts-expect-error: no option has this name
  await skycap.enqueue("say-hello", { name: "Ada" }, { delay: 5 });
  // @ts-expect-error: each job has the payload of its own kind
  await skycap.enqueueMany([{ kind: "say-hello", payload: { name: "Ada", loudly: true } }]);
  // @ts-expect-error: a transaction has no idempotency key, but a job id
  await skycap.enqueueTx({} as PoolClient, "say-hello", { name: "Ada" }, { idempotencyKey: "k" });
}

export type Taken = [Taking<PoolClient>, Taking<Pool>, Taking<Parameters<Parameters<PrismaClient["$transaction"]>[0]>[0]>];
type Taking<Tx extends Transaction> = Tx;
