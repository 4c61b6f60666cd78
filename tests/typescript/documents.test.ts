// The vectors that the clients of all languages share: what options become in a document.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { requestDocument } from "../../plugins/typescript/skycap.ts";
import type { JobOptions } from "../../plugins/typescript/skycap.ts";

interface Vector {
  name: string;
  kind: string;
  payload: object;
  options: JobOptions;
  document: object;
}

const vectors = JSON.parse(readFileSync("tests/vectors/requests.json", "utf8")) as Vector[];

for (const { name, kind, payload, options, document } of vectors) {
  test(name, () => {
    assert.deepEqual(JSON.parse(JSON.stringify(requestDocument(kind, payload, options))), document);
  });
}

test("a time goes as a Date, too, and what is undefined does not go", () => {
  const { at } = requestDocument("say-hello", {}, { at: new Date(0) });
  assert.equal(JSON.stringify(at), '"1970-01-01T00:00:00.000Z"');
  assert.deepEqual(requestDocument("say-hello", {}, JSON.parse("{}") as JobOptions), { kind: "say-hello", payload: {} });
});
