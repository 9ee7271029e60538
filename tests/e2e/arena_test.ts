/**
 * Full memory: WOULD_BLOCK at the sender, nothing dropped at the receiver, bounded use at both
 * ends, waiting that costs nothing, and a sender that keeps what nobody has got yet.
 */

import assert from "node:assert/strict";
import { RcmStatus } from "../../mod.ts";
import { e2e, LIMIT_MS, type Node, runtimes, sleep } from "./harness/driver.ts";
import { statsOf, txStats } from "./harness/stats.ts";

const MIB = 2 ** 20;
const PAGE = 4096;
const TX = { context: "tx", topic: "t" } as const;
const STREAM = { from: "tx", topic: "t", partition: 1 } as const;
/** What a runtime's own heap may grow by meanwhile. */
const RUNTIME_BYTES = 96 * MIB;
/** Of 2 s in which a process has nothing to do but heartbeats and acknowledgements. */
const IDLE_CPU_MS = 500;

/** Processor time that the process takes within two seconds. */
async function cpuOfTwoSeconds(node: Node): Promise<number> {
  const before = (await node.call("usage", {})).cpuMs;
  await sleep(2000);
  return (await node.call("usage", {})).cpuMs - before;
}

for (const runtime of runtimes) {
  e2e(
    `${runtime}: a sender without receivers keeps all, then the first one gets it`,
    async (bed) => {
      const c = bed.config({
        all: { MaxMemoryAllowedMBytes: 4 },
        contexts: [
          { Name: "tx", TxTopics: [{ Name: "t" }] },
          { Name: "rx", RxTopics: [{ Name: "t" }] },
        ],
      });
      const tx = await bed.node(runtime, c);
      await tx.sender("tx");
      const run = { seed: 71, sizes: { kind: "fixed", bytes: 1000 } } as const;
      const filled = await tx.call("send", { ...TX, ...run, count: 1_000_000, whenFull: "stop" });
      assert.equal(filled.status, RcmStatus.WOULD_BLOCK);
      assert.ok(filled.sent > 3000 && filled.sent < 4300, `${filled.sent} messages in 4 MiB`);
      // Longer than AckTimeoutMilli: also what nobody was there for is kept.
      await sleep(2500);
      const again = await tx.call("send", {
        ...TX,
        ...run,
        first: filled.sent,
        count: 1,
        whenFull: "stop",
      });
      assert.equal(again.status, RcmStatus.WOULD_BLOCK, "nothing makes room");
      const stats = await statsOf(tx, "tx");
      assert.ok(stats.ArenaUsedBytes <= stats.ArenaBytes);
      // The file has a page of its own in front.
      assert.ok(stats.ArenaBytes >= 4 * MIB && stats.ArenaBytes <= 4 * MIB + PAGE);
      const { CurrentMsgNo, FirstMsgNo, WouldBlockCount } = await txStats(tx, "tx");
      assert.deepEqual([FirstMsgNo, CurrentMsgNo], [0, filled.sent], "nothing is half written");
      assert.ok(WouldBlockCount >= 2);
      assert.equal(await tx.call("ready", { ...TX, timeoutMs: 0 }), false);
      assert.equal(await tx.call("ready", { ...TX, timeoutMs: 300 }), false);
      assert.equal(await tx.call("flush", { ...TX, timeoutMs: 100 }), false, "nobody has it");

      const waiting = tx.call("ready", { ...TX, timeoutMs: LIMIT_MS });
      const cpu = await cpuOfTwoSeconds(tx);
      assert.ok(cpu < IDLE_CPU_MS, `waiting took ${cpu} ms of 2000`);
      const rx = await bed.node(runtime === "deno" ? "bun" : "deno", c);
      await rx.receiver("rx");
      assert.equal(await waiting, true);
      await tx.call("send", { ...TX, ...run, first: filled.sent, count: 1000 });
      const all = { ...run, count: filled.sent + 1000 };
      await rx.received("rx", all.count);
      await rx.check("rx", [{ ...STREAM, runs: [all] }]);
      assert.equal(await tx.call("flush", { ...TX, timeoutMs: LIMIT_MS }), true);
      await Promise.all([tx, rx].map((node) => node.close()));
    },
  );

  e2e(`${runtime}: a receiver that takes nothing bounds memory at both ends`, async (bed) => {
    const c = bed.config({
      all: { MaxMemoryAllowedMBytes: 8, ReceiveMemoryMBytes: 16 },
      contexts: [
        { Name: "tx", TxTopics: [{ Name: "t" }] },
        { Name: "rx", RxTopics: [{ Name: "t" }] },
      ],
    });
    const rx = await bed.node(runtime, c);
    const tx = await bed.node(runtime === "deno" ? "bun" : "deno", c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
    const begin = await Promise.all([tx.call("usage", {}), rx.call("usage", {})]);
    await rx.call("handler", { context: "rx", paused: true });
    // 100 MB through 8 and 16 MiB.
    const run = { seed: 72, sizes: { kind: "fixed", bytes: 2000 }, count: 50_000 } as const;
    const sending = tx.call("send", { ...TX, ...run });
    await sleep(2500);
    const [txCpu, rxCpu] = await Promise.all([cpuOfTwoSeconds(tx), cpuOfTwoSeconds(rx)]);
    assert.ok(txCpu < IDLE_CPU_MS, `the sender took ${txCpu} ms of 2000`);
    assert.ok(rxCpu < IDLE_CPU_MS, `the receiver took ${rxCpu} ms of 2000`);
    const sender = await statsOf(tx, "tx");
    const receiver = await statsOf(rx, "rx");
    assert.ok(sender.ArenaUsedBytes <= 8 * MIB + PAGE);
    assert.ok(receiver.ReceiveUsedBytes > 8 * MIB, `${receiver.ReceiveUsedBytes} bytes are held`);
    assert.ok(receiver.ReceiveUsedBytes <= 16 * MIB);
    assert.equal((await txStats(tx, "tx")).ConnectedCount, 1, "it is slow, not silent");

    await rx.call("handler", { context: "rx", paused: false });
    assert.equal((await sending).sent, run.count);
    await rx.received("rx", run.count);
    await rx.check("rx", [{ ...STREAM, runs: [run] }]);
    const end = await Promise.all([tx.call("usage", {}), rx.call("usage", {})]);
    for (const [i, bound] of [8 * MIB, 16 * MIB].entries()) {
      const grown = end[i]!.residentBytes - begin[i]!.residentBytes;
      assert.ok(grown < bound + RUNTIME_BYTES, `grown by ${grown} bytes`);
    }
    const after = await statsOf(rx, "rx");
    assert.ok(after.ReceiveUsedBytes < MIB, "all of it is free again");
    await Promise.all([tx, rx].map((node) => node.close()));
  });
}

e2e(
  "a message over ReceiveMemoryMBytes is one MESSAGE_LOSS, and the stream goes on",
  async (bed) => {
    const c = bed.config({
      all: { MaxMemoryAllowedMBytes: 64, ReceiveMemoryMBytes: 8 },
      contexts: [
        { Name: "tx", TxTopics: [{ Name: "t" }] },
        { Name: "rx", RxTopics: [{ Name: "t" }] },
      ],
    });
    const rx = await bed.node("bun", c);
    const tx = await bed.node("deno", c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
    const small = { sizes: { kind: "fixed", bytes: 100 }, count: 10 } as const;
    const large = { seed: 74, sizes: { kind: "fixed", bytes: 32 * MIB }, count: 1 } as const;
    const runs = [{ ...small, seed: 73 }, large, { ...small, seed: 75 }];
    for (const run of runs) await tx.call("send", { ...TX, ...run });
    await rx.received("rx", 20);
    await rx.check("rx", [{ ...STREAM, runs, lost: [[10, 10]] }]);
    const told = rx.events.filter(({ type }) => type === "MESSAGE_LOSS" || type === "OUT_OF_SYNC");
    assert.deepEqual(
      told.map(({ type, lossStart, lossEnd }) => [type, lossStart, lossEnd]),
      [["MESSAGE_LOSS", 10, 10], ["OUT_OF_SYNC", 10, 10]],
    );
    await rx.log({ key: 21066, content: /ReceiveMemoryMBytes/ });
    await Promise.all([tx, rx].map((node) => node.close()));
  },
);

e2e(
  "four senders overrun a small receive memory under loss: all arrives in the end",
  async (bed) => {
    const senders = ["a", "b", "c", "d"];
    const c = bed.config({
      // More in flight than fits, together.
      all: { ReceiveMemoryMBytes: 8, SendWindowSize: 4096, SocketBufferSizeKBytes: 4096 },
      contexts: [
        ...senders.map((Name) => ({ Name, TxTopics: [{ Name: "t" }] })),
        { Name: "rx", RxTopics: [{ Name: "t" }] },
      ],
    });
    const rx = await bed.node("bun", c, { env: { RCM_INJECT: "drop=0.05,seed=8" } });
    const tx = await bed.node("deno", c);
    await rx.receiver("rx");
    for (const context of senders) {
      await tx.sender(context);
      const wait = { context, topic: "t", receivers: 1, timeoutMs: LIMIT_MS };
      assert.equal(await tx.call("connected", wait), true);
    }
    const run = { seed: 76, sizes: { kind: "fixed", bytes: 1300 }, count: 12_000 } as const;
    const sending = senders.map((context) => tx.call("send", { context, topic: "t", ...run }));
    // Again and again it takes nothing for a while.
    for (let pauses = 0; pauses < 6; pauses += 1) {
      await rx.call("handler", { context: "rx", paused: true });
      await sleep(700);
      await rx.call("handler", { context: "rx", paused: false });
      await sleep(100);
    }
    for (const result of await Promise.all(sending)) assert.equal(result.sent, run.count);
    await rx.received("rx", senders.length * run.count);
    await rx.check("rx", senders.map((from) => ({ ...STREAM, from, runs: [run] })));
    assert.ok(!rx.events.some(({ type }) => type === "MESSAGE_LOSS"));
    await Promise.all([tx, rx].map((node) => node.close()));
  },
);
