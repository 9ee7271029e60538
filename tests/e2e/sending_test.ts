/** Load balancing, partitions, the send flag, `txArg`, the ways to receive: over processes. */

import assert from "node:assert/strict";
import { RcmStatus } from "../../mod.ts";
import { type Bed, e2e, LIMIT_MS, runtimes, sleep } from "./harness/driver.ts";
import { statsOf, txStats } from "./harness/stats.ts";

const TX = { context: "tx", topic: "t" } as const;
const STREAM = { from: "tx", topic: "t", partition: 1 } as const;
const sizes = { kind: "mixed", seed: 5 } as const;

e2e("partition 0 balances the load: strict round robin, each partition in order", async (bed) => {
  const c = bed.config({
    transports: [1, 2, 3].map((PartitionNo) => ({ PartitionNo })),
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      { Name: "all", RxTopics: [{ Name: "t" }] },
      { Name: "two", RxTopics: [{ Name: "t", Partitions: [2] }] },
    ],
  });
  const all = await bed.node("deno", c);
  const two = await bed.node("bun", c);
  const tx = await bed.node("deno", c);
  await Promise.all([
    all.receiver("all"),
    two.receiver("two"),
    tx.sender("tx", { txArg: 77 }),
  ]);
  assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
  // "connected" is the smallest number over the partitions.
  assert.equal(await tx.call("connected", { ...TX, receivers: 2, timeoutMs: 100 }), false);
  const run = { seed: 101, sizes, partition: 0 } as const;
  await tx.call("send", { ...TX, ...run, count: 3000 });
  const of = (partition: number) => ({
    ...STREAM,
    partition,
    txArg: 77,
    runs: [{ ...run, first: partition - 1, step: 3, count: 1000 }],
  });
  await all.received("all", 3000);
  await all.check("all", [of(1), of(2), of(3)]);
  await two.received("two", 1000);
  await two.check("two", [of(2)]);
  const other = await tx.call("send", { ...TX, ...run, partition: 4, count: 1 });
  assert.equal(other.status, RcmStatus.BAD_PARTITION);
  await Promise.all([all, two, tx].map((node) => node.close()));
});

e2e("load balancing passes over a partition without room", async (bed) => {
  const c = bed.config({
    transports: [1, 2].map((PartitionNo) => ({ PartitionNo })),
    all: { MaxMemoryAllowedMBytes: 4, MaxCacheMsgCount: 0 },
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      { Name: "rx", RxTopics: [{ Name: "t", Partitions: [2] }] },
    ],
  });
  const rx = await bed.node("bun", c);
  const tx = await bed.node("deno", c);
  await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
  // Nobody takes partition 1: its index fills up, and the other goes on alone.
  const run = { seed: 102, sizes: { kind: "fixed", bytes: 20 }, partition: 0 } as const;
  const count = 100_000;
  const { sent } = await tx.call("send", { ...TX, ...run, count });
  assert.equal(sent, count);
  const first = await txStats(tx, "tx", "t", 1);
  const second = await txStats(tx, "tx", "t", 2);
  assert.equal(first.CurrentMsgNo + second.CurrentMsgNo, count);
  assert.equal(first.FirstMsgNo, 0, "nobody has partition 1");
  assert.ok(first.CurrentMsgNo < count / 4, `${first.CurrentMsgNo} went where there is no room`);
  await rx.received("rx", second.CurrentMsgNo);
  await Promise.all([rx, tx].map((node) => node.close()));
});

async function flagTest(bed: Bed, from: "deno" | "bun", to: "deno" | "bun"): Promise<void> {
  const c = bed.config({
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      { Name: "rx", RxTopics: [{ Name: "t" }] },
    ],
  });
  const rx = await bed.node(to, c);
  const tx = await bed.node(from, c);
  await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
  assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
  const run = { seed: 103, sizes } as const;
  await tx.call("send", { ...TX, ...run, count: 100 });
  await rx.received("rx", 100);
  await tx.call("flag", { ...TX, on: false });
  const hidden = await tx.call("send", { ...TX, ...run, first: 100, count: 200 });
  assert.equal(hidden.status, RcmStatus.OK);
  assert.equal((await txStats(tx, "tx")).CurrentMsgNo, 300, "they take numbers");
  // Several heartbeats: none of them tells of the hidden ones.
  await sleep(1000);
  assert.equal((await rx.call("counts", { context: "rx" })).messages, 100);
  assert.equal((await statsOf(rx, "rx")).rx.Rms[0]!.NakSent, 0);
  await tx.call("flag", { ...TX, on: true });
  await tx.call("send", { ...TX, ...run, first: 300, count: 50 });
  await rx.received("rx", 350);
  await rx.check("rx", [{ ...STREAM, runs: [{ ...run, count: 350 }] }]);
  assert.ok((await statsOf(rx, "rx")).rx.Rms[0]!.NakSent > 0, "it asked for them");
  assert.ok(!rx.events.some(({ type }) => type === "MESSAGE_LOSS"));
  assert.equal(await tx.call("flush", { ...TX, timeoutMs: LIMIT_MS }), true);
  await Promise.all([rx, tx].map((node) => node.close()));
}

e2e(
  "setSendFlag: what was hidden is repaired from the cache, deno to bun",
  async (bed) => await flagTest(bed, "deno", "bun"),
);
e2e(
  "setSendFlag: what was hidden is repaired from the cache, bun to deno",
  async (bed) => await flagTest(bed, "bun", "deno"),
);

for (const runtime of runtimes) {
  for (const Threading of ["shared", "dedicated", "inline"] as const) {
    const delivery = Threading === "shared" ? "iterate" : "poll";
    e2e(`${runtime}, ${Threading}, ${delivery}: 5,000 messages under 2 % loss`, async (bed) => {
      const c = bed.config({
        all: { Threading },
        contexts: [
          { Name: "tx", TxTopics: [{ Name: "t" }], Threading: "dedicated" },
          { Name: "rx", RxTopics: [{ Name: "t" }] },
        ],
        transport: { AsynchronousRms: Threading === "dedicated" ? 1 : 0 },
      });
      const rx = await bed.node(runtime, c, { env: { RCM_INJECT: "drop=0.02,seed=3" } });
      const tx = await bed.node(runtime === "deno" ? "bun" : "deno", c);
      await Promise.all([rx.receiver("rx", { delivery }), tx.sender("tx")]);
      assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
      const run = { seed: 104, sizes, count: 5000 } as const;
      await tx.call("send", { ...TX, ...run });
      await rx.received("rx", run.count);
      await rx.check("rx", [{ ...STREAM, runs: [run] }]);
      const { Dropped, rx: { Rms } } = await statsOf(rx, "rx");
      assert.ok(Dropped["Injected"]! > 5 && Rms[0]!.GapCount > 0, "there was loss");
      assert.equal(await tx.call("flush", { ...TX, timeoutMs: LIMIT_MS }), true);
      await Promise.all([rx, tx].map((node) => node.close()));
    });
  }
}
