/** The harness itself: its content, its checker, its cleaning. */

import assert from "node:assert/strict";
import test from "node:test";
import { checkContent, fillContent, hash, sizeOf } from "./content.ts";
import { checkHistory, createHistory, type Delivered, readHistory } from "./history.ts";
import { e2e } from "./driver.ts";

const found = { isRight: false, seed: 0, index: 0 };

test("content is right as it was made, and wrong with any byte changed", () => {
  for (const length of [0, 1, 15, 16, 17, 1432, 3_000_000]) {
    const bytes = new Uint8Array(length);
    fillContent(bytes, 7, 70_001);
    checkContent(bytes, 70_001 & 0xffff, found);
    assert.equal(found.isRight, true);
    assert.equal(found.index, length < 16 ? 70_001 & 0xffff : 70_001);
    for (const at of [0, 5, 14, 16, length >> 1, length - 1]) {
      if (at < 0 || at >= length) continue;
      bytes[at]! ^= 4;
      checkContent(bytes, 70_001 & 0xffff, found);
      assert.ok(!found.isRight || found.seed !== 7 || found.index !== 70_001, `byte ${at}`);
      bytes[at]! ^= 4;
    }
  }
});

test("mixed sizes reach from nothing to several fragments", () => {
  const sizes = Array.from({ length: 10_000 }, (_, i) => sizeOf({ kind: "mixed", seed: 1 }, i));
  assert.ok(sizes.includes(0) && sizes.some((size) => size > 10_000));
  assert.ok(sizes.filter((size) => size > 1432).length > 500);
});

const names = [{ from: "a", topic: "t", partition: 1 }];
const runs = [
  { seed: 3, sizes: { kind: "fixed", bytes: 20 }, count: 5 },
  { seed: 4, sizes: { kind: "fixed", bytes: 30 }, count: 5, first: 100 },
] as const;

function rightHistory(): Delivered[] {
  return Array.from({ length: 10 }, (_, no) => ({
    no,
    sqn: no,
    ms: 0,
    index: no < 5 ? no : 95 + no,
    seed: no < 5 ? 3 : 4,
    length: no < 5 ? 20 : 30,
    stream: 0,
    msgArg: no < 5 ? no : 95 + no,
    txArg: 0,
    isRight: true,
  }));
}
const check = (history: readonly Delivered[], more = {}) =>
  checkHistory(history, names, [{ ...names[0]!, runs, ...more }]);
const renumbered = (history: Delivered[]) => history.map((got, sqn) => ({ ...got, sqn }));

test("the checker finds nothing wrong with what is right", () => {
  assert.deepEqual(check(rightHistory()), []);
  assert.deepEqual(check(rightHistory().slice(0, 6), { mayEndEarly: true }), []);
  assert.deepEqual(check(renumbered(rightHistory().slice(4)), { fromNo: 4 }), []);
  const gap = rightHistory().filter(({ no }) => no < 3 || no > 6);
  assert.deepEqual(check(renumbered(gap), { lost: [[3, 6]] }), []);
});

test("the checker finds what is lost, doubled, swapped, changed or foreign", () => {
  const right = rightHistory();
  const cases: [string, Delivered[], RegExp][] = [
    ["lost", right.filter(({ no }) => no !== 4), /message 5 came where 4 was due/],
    ["lost at the end", right.slice(0, 9), /ends at number 9, 10 were sent/],
    ["doubled", [...right.slice(0, 5), ...right.slice(4)], /message 4 came where 5 was due/],
    ["swapped", [right[1]!, right[0]!, ...right.slice(2)], /message 1 came where 0 was due/],
    ["changed", right.map((got) => ({ ...got, isRight: got.no !== 7 })), /7 has a wrong byte/],
    ["cut", right.map((got) => ({ ...got, length: 20 })), /has 20 bytes, 30 were sent/],
    ["another", right.map((got) => ({ ...got, seed: 3 })), /of seed 3/],
    ["never sent", [...right, { ...right[9]!, no: 10 }], /10 was never sent/],
  ];
  for (const [what, history, expected] of cases) {
    assert.match(check(renumbered(history)).join("\n"), expected, what);
  }
  assert.match(check(right.map((got) => ({ ...got, sqn: 3 }))).join("\n"), /has the sqn 3/);
  const foreign = checkHistory(right, [{ ...names[0]!, from: "b" }], []);
  assert.match(foreign.join("\n"), /which sent nothing/);
});

test("a history is read as it was written", async () => {
  const { mkdtempSync, rmSync } = await import("node:fs");
  const { tmpdir } = await import("node:os");
  const folder = mkdtempSync(`${tmpdir()}/rcm-history-`);
  try {
    const writer = createHistory();
    const records = Array.from({ length: 3000 }, (_, i) => ({
      no: 2 ** 40 + i,
      sqn: i,
      ms: 1.5 * i,
      index: i,
      seed: hash(i, 1),
      length: i,
      stream: i % 7,
      msgArg: i,
      txArg: 3,
      isRight: i % 2 === 0,
    }));
    for (const record of records) writer.add(record);
    writer.save(`${folder}/h`);
    assert.deepEqual(readHistory(`${folder}/h`), records);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

e2e("hosts reach each other by multicast, and lose what they should", async (bed) => {
  const [a, b] = bed.hosts(2);
  const config = bed.config({
    contexts: [
      { Name: "tx", Ip: a!.ip, TxTopics: [{ Name: "t" }] },
      { Name: "rx", Ip: b!.ip, RxTopics: [{ Name: "t" }] },
    ],
  });
  const rx = await bed.node("bun", config, { host: b! });
  const tx = await bed.node("deno", config, { host: a! });
  b!.lose(0.2, bed.port);
  await rx.receiver("rx");
  await tx.sender("tx");
  assert.equal(
    await tx.call("connected", { context: "tx", topic: "t", receivers: 1, timeoutMs: 20_000 }),
    true,
  );
  const run = { seed: 1, sizes: { kind: "fixed", bytes: 1400 }, count: 2000 } as const;
  await tx.call("send", { context: "tx", topic: "t", ...run });
  await rx.received("rx", 2000);
  await rx.check("rx", [{ from: "tx", topic: "t", partition: 1, runs: [run] }]);
  const { data, dataSeen } = b!.losses();
  const share = data / dataSeen;
  assert.ok(share > 0.15 && share < 0.25, `${data} of ${dataSeen} datagrams were dropped`);
  await rx.close();
  await tx.close();
}, { network: true });
