/**
 * Receivers that are killed, paused or slow: the others go on within `AckTimeoutMilli`, what the
 * sender still keeps is not lost, and events tell exactly what happened.
 */

import assert from "node:assert/strict";
import type { RcmConfigInput } from "../../mod.ts";
import { type Bed, e2e, LIMIT_MS, type Node, sleep, until } from "./harness/driver.ts";
import { longestGapMs } from "./harness/history.ts";
import { txStats } from "./harness/stats.ts";

const TX = { context: "tx", topic: "t" } as const;
const STREAM = { from: "tx", topic: "t", partition: 1 } as const;
const ACK_TIMEOUT_MS = 2000;
/** What a slow machine may add to a time that the protocol bounds. */
const SLACK_MS = 1500;
const ENDLESS = 1_000_000_000;

interface Wish {
  /** Values of the transport and of all contexts. */
  readonly transport?: Record<string, unknown>;
  readonly all?: Record<string, unknown>;
}

function config(bed: Bed, wish: Wish = {}): RcmConfigInput {
  const RxTopics = [{ Name: "t" }];
  return bed.config({
    ...wish,
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      { Name: "steady", RxTopics },
      { Name: "faulty", RxTopics },
    ],
  });
}

interface Trio {
  readonly config: RcmConfigInput;
  readonly tx: Node;
  readonly steady: Node;
  readonly faulty: Node;
}

/** A sender, a receiver that nothing happens to, and one that something happens to. */
async function trio(bed: Bed, wish: Wish = {}, inject = ""): Promise<Trio> {
  const c = config(bed, wish);
  const steady = await bed.node("deno", c);
  const faulty = await bed.node("bun", c, { env: { RCM_INJECT: inject } });
  const tx = await bed.node("deno", c);
  await Promise.all([steady.receiver("steady"), faulty.receiver("faulty")]);
  await tx.sender("tx");
  assert.equal(await tx.call("connected", { ...TX, receivers: 2, timeoutMs: LIMIT_MS }), true);
  return { config: c, tx, steady, faulty };
}

/** The receiver got something all the time between two moments, but for the time-out. */
async function assertWentOn(node: Node, context: string, from: number, to: number) {
  const { records } = await node.history(context);
  const gap = longestGapMs(records.map(({ ms }) => ms), from, to);
  assert.ok(gap < ACK_TIMEOUT_MS + SLACK_MS, `${context} got nothing for ${gap} ms`);
  return gap;
}

const typesOf = (node: Node) => node.events.map(({ type }) => type);
const countOf = (node: Node, type: string) => typesOf(node).filter((t) => t === type).length;

e2e("a receiver is killed: the others go on; started again it begins at joinAt", async (bed) => {
  const { config: c, tx, steady, faulty } = await trio(bed, { all: { MaxCacheMsgCount: 0 } });
  const run = { seed: 41, sizes: { kind: "fixed", bytes: 300 } } as const;
  const sending = tx.call("send", { ...TX, ...run, count: ENDLESS, perSecond: 4000 });
  await faulty.received("faulty", 4000);
  const killedAt = Date.now();
  await faulty.kill();
  await until(
    async () => (await txStats(tx, "tx")).ConnectedCount === 1,
    () => "the killed one is disconnected",
    ACK_TIMEOUT_MS + SLACK_MS,
  );
  const { FirstMsgNo: wasAcked } = await txStats(tx, "tx");
  await until(
    async () => (await txStats(tx, "tx")).FirstMsgNo > wasAcked,
    () => "the others are not held any more",
  );
  await sleep(500);
  assert.equal(countOf(tx, "NO_RECEIVER"), 0, "one is still there");

  const before = (await txStats(tx, "tx")).FirstMsgNo;
  const again = await bed.node("bun", c);
  await again.receiver("faulty");
  await tx.call("connected", { ...TX, receivers: 2, timeoutMs: LIMIT_MS });
  await again.received("faulty", 4000);
  const after = (await txStats(tx, "tx")).FirstMsgNo;
  await tx.call("halt", TX);
  const { sent } = await sending;
  await steady.received("steady", sent);

  const { records } = await again.history("faulty");
  const fromNo = records[0]!.no;
  assert.ok(fromNo >= before && fromNo <= after, `${before} <= ${fromNo} <= ${after}`);
  await again.received("faulty", sent - fromNo);
  const runs = [{ ...run, count: sent }];
  await again.check("faulty", [{ ...STREAM, runs, fromNo }]);
  await steady.check("steady", [{ ...STREAM, runs }]);
  await assertWentOn(steady, "steady", killedAt, killedAt + 2 * ACK_TIMEOUT_MS);
  const came = tx.events.filter(({ type, peer }) => type === "NEW_RECEIVER" && peer === "faulty");
  assert.equal(came.length, 2, "it was new twice");
  assert.ok(came.every((e) => e.context === "tx" && e.topic === "t" && e.partition === 1));
  assert.equal(countOf(again, "MESSAGE_LOSS"), 0, "it had no position: nothing was lost");
  await Promise.all([tx, steady, again].map((node) => node.close()));
});

e2e(
  "the only receiver is killed: NO_RECEIVER, what it did not acknowledge is kept",
  async (bed) => {
    const c = config(bed);
    const first = await bed.node("deno", c);
    const tx = await bed.node("bun", c);
    await first.receiver("faulty");
    await tx.sender("tx");
    assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
    const run = { seed: 42, sizes: { kind: "mixed", seed: 1 } } as const;
    await tx.call("send", { ...TX, ...run, count: 1000 });
    await first.received("faulty", 1000);
    assert.equal(await tx.call("flush", { ...TX, timeoutMs: LIMIT_MS }), true);
    await sleep(ACK_TIMEOUT_MS); // From now on a receiver without a position begins at acked.
    await first.kill();
    await tx.call("send", { ...TX, ...run, count: 5000, first: 1000 });
    const gone = await tx.event({ type: "NO_RECEIVER" }, 0, ACK_TIMEOUT_MS + SLACK_MS);
    const { kind: _kind, ms: _ms, ...told } = gone;
    assert.deepEqual(told, {
      type: "NO_RECEIVER",
      context: "tx",
      peer: "faulty",
      topic: "t",
      partition: 1,
      lossStart: 0,
      lossEnd: 0,
    });
    const second = await bed.node("bun", c);
    await second.receiver("faulty");
    await second.received("faulty", 5000);
    const runs = [{ ...run, count: 6000 }];
    await second.check("faulty", [{ ...STREAM, runs, fromNo: 1000 }]);
    assert.deepEqual(typesOf(tx), ["NEW_RECEIVER", "NO_RECEIVER", "NEW_RECEIVER"]);
    await Promise.all([tx, second].map((node) => node.close()));
  },
);

e2e("a receiver paused for 10 s: the others go on, afterwards it has everything", async (bed) => {
  const { tx, steady, faulty } = await trio(bed, { all: { MaxCacheMsgCount: 100_000 } });
  const run = { seed: 43, sizes: { kind: "fixed", bytes: 100 } } as const;
  const sending = tx.call("send", { ...TX, ...run, count: ENDLESS, perSecond: 2000 });
  await faulty.received("faulty", 2000);
  const pausedAt = Date.now();
  faulty.freeze();
  await sleep(10_000);
  faulty.thaw();
  const thawedAt = Date.now();
  await sleep(2000);
  await tx.call("halt", TX);
  const { sent } = await sending;
  const runs = [{ ...run, count: sent }];
  for (const [node, name] of [[steady, "steady"], [faulty, "faulty"]] as const) {
    await node.received(name, sent);
    await node.check(name, [{ ...STREAM, runs }]);
    assert.equal(countOf(node, "MESSAGE_LOSS"), 0);
    assert.equal(countOf(node, "OUT_OF_SYNC"), 0);
  }
  await assertWentOn(steady, "steady", pausedAt, thawedAt);
  assert.equal(countOf(tx, "NO_RECEIVER"), 0);
  assert.equal((await txStats(tx, "tx")).DisconnectCount, 1);
  await tx.log({ key: 20061, content: /faulty/ });
  await Promise.all([tx, steady, faulty].map((node) => node.close()));
});

/** Every range that a receiver was told it lost, as told; its history lacks exactly these. */
async function assertLosses(
  node: Node,
  context: string,
  runs: readonly { seed: number; sizes: { kind: "fixed"; bytes: number }; count: number }[],
): Promise<number> {
  const losses = node.events.filter(({ type }) => type === "MESSAGE_LOSS");
  const lost: [number, number][] = [];
  for (const loss of losses) {
    const { kind: _kind, ms: _ms, lossStart, lossEnd, ...told } = loss;
    const where = { context, peer: "tx", topic: "t", partition: 1 };
    assert.deepEqual(told, { type: "MESSAGE_LOSS", ...where });
    const next = node.events[node.events.indexOf(loss) + 1];
    assert.equal(next?.type, "OUT_OF_SYNC", "right after it");
    assert.deepEqual([next.lossStart, next.lossEnd], [lossStart, lossEnd]);
    assert.ok(lossEnd >= lossStart);
    lost.push([lossStart, lossEnd]);
  }
  assert.equal(countOf(node, "OUT_OF_SYNC"), losses.length);
  await node.check(context, [{ ...STREAM, runs, lost }]);
  await node.log({ key: 21063 });
  return losses.length;
}

e2e("a receiver paused for longer than is kept gets one MESSAGE_LOSS, exactly", async (bed) => {
  const { tx, steady, faulty } = await trio(bed, {
    all: { MaxCacheMsgCount: 100, MaxMemoryAllowedMBytes: 2 },
  });
  const run = { seed: 44, sizes: { kind: "fixed", bytes: 1000 } } as const;
  await tx.call("send", { ...TX, ...run, count: 1000 });
  await faulty.received("faulty", 1000);
  const pausedAt = Date.now();
  faulty.freeze();
  await tx.call("send", { ...TX, ...run, count: 20_000, first: 1000 });
  await steady.received("steady", 21_000);
  const doneAt = Date.now();
  faulty.thaw();
  await faulty.event({ type: "MESSAGE_LOSS" });
  await tx.call("connected", { ...TX, receivers: 2, timeoutMs: LIMIT_MS });
  await tx.call("send", { ...TX, ...run, count: 1000, first: 21_000 });
  const runs = [{ ...run, count: 22_000 }];
  await until(
    async () => (await faulty.call("counts", { context: "faulty" })).streams[0]!.lastNo === 21_999,
    () => "the paused one is where the sender is",
  );
  assert.equal(await assertLosses(faulty, "faulty", runs), 1, "one MESSAGE_LOSS");
  await steady.received("steady", 22_000);
  await steady.check("steady", [{ ...STREAM, runs }]);
  await assertWentOn(steady, "steady", pausedAt, doneAt);
  await Promise.all([tx, steady, faulty].map((node) => node.close()));
});

const SLOW_COUNT = 30_000;
const slowRun = { seed: 45, sizes: { kind: "fixed", bytes: 1000 }, count: SLOW_COUNT } as const;
/** Much less memory at both ends than is sent. */
const tight = { MaxMemoryAllowedMBytes: 4, ReceiveMemoryMBytes: 8, MaxCacheMsgCount: 100 };

e2e("SlowReceiver wait: everybody goes at its pace, and nothing is lost", async (bed) => {
  const { tx, steady, faulty } = await trio(bed, { all: tight });
  await faulty.call("handler", { context: "faulty", paused: true });
  const sending = tx.call("send", { ...TX, ...slowRun });
  await sleep(2 * ACK_TIMEOUT_MS);
  const held = await steady.call("counts", { context: "steady" });
  assert.ok(held.messages < SLOW_COUNT, "the others are held");
  await sleep(500);
  const still = await steady.call("counts", { context: "steady" });
  assert.equal(still.messages, held.messages, "nothing moves while it takes nothing");
  await faulty.log({ key: 21065 });
  await faulty.call("handler", { context: "faulty", paused: false, delayMs: 20, every: 200 });
  const { sent, blocked } = await sending;
  assert.equal(sent, SLOW_COUNT);
  assert.ok(blocked > 0, "the arena was full");
  for (const [node, name] of [[steady, "steady"], [faulty, "faulty"]] as const) {
    await node.received(name, SLOW_COUNT);
    await node.check(name, [{ ...STREAM, runs: [slowRun] }]);
    assert.equal(countOf(node, "MESSAGE_LOSS"), 0);
  }
  assert.equal((await txStats(tx, "tx")).DisconnectCount, 0);
  assert.equal(countOf(tx, "NO_RECEIVER"), 0);
  await Promise.all([tx, steady, faulty].map((node) => node.close()));
});

e2e("SlowReceiver disconnect: the others go on after AckTimeoutMilli", async (bed) => {
  const { tx, steady, faulty } = await trio(bed, {
    all: tight,
    transport: { SlowReceiver: "disconnect" },
  });
  await faulty.call("handler", { context: "faulty", paused: true });
  const begin = Date.now();
  const { sent } = await tx.call("send", { ...TX, ...slowRun });
  assert.equal(sent, SLOW_COUNT);
  await steady.received("steady", SLOW_COUNT);
  const end = Date.now();
  await steady.check("steady", [{ ...STREAM, runs: [slowRun] }]);
  await assertWentOn(steady, "steady", begin, end);
  // It holds the group once; as long as it takes nothing, it does not come back to hold it again.
  assert.equal((await txStats(tx, "tx")).DisconnectCount, 1);
  await tx.log({ key: 20064, content: /faulty/ });
  assert.equal(countOf(tx, "NO_RECEIVER"), 0);

  await faulty.call("handler", { context: "faulty", paused: false });
  await faulty.event({ type: "MESSAGE_LOSS" });
  await tx.call("connected", { ...TX, receivers: 2, timeoutMs: LIMIT_MS });
  const more = { ...slowRun, count: 100, first: SLOW_COUNT } as const;
  await tx.call("send", { ...TX, ...more });
  await until(
    async () => {
      const { streams } = await faulty.call("counts", { context: "faulty" });
      return streams[0]!.lastNo === SLOW_COUNT + 99;
    },
    () => "the slow one is where the sender is",
  );
  // What it heard and kept while it was out it delivers: there may be a loss on either side of it.
  const runs = [{ ...slowRun, count: SLOW_COUNT + 100 }];
  assert.ok(await assertLosses(faulty, "faulty", runs) >= 1);
  await Promise.all([tx, steady, faulty].map((node) => node.close()));
});

e2e(
  "SlowReceiver disconnect: one that comes back goes on where it was, if that is kept",
  async (bed) => {
    const { tx, steady, faulty } = await trio(bed, {
      all: { MaxMemoryAllowedMBytes: 64, ReceiveMemoryMBytes: 8, MaxCacheMsgCount: 1_000_000 },
      transport: { SlowReceiver: "disconnect" },
    }, "drop=0.05,seed=4");
    await faulty.call("handler", { context: "faulty", paused: true });
    const { sent } = await tx.call("send", { ...TX, ...slowRun });
    assert.equal(sent, SLOW_COUNT);
    await steady.received("steady", SLOW_COUNT);
    assert.ok((await txStats(tx, "tx")).DisconnectCount >= 1);
    await faulty.call("handler", { context: "faulty", paused: false });
    await faulty.received("faulty", SLOW_COUNT);
    for (const [node, name] of [[steady, "steady"], [faulty, "faulty"]] as const) {
      await node.check(name, [{ ...STREAM, runs: [slowRun] }]);
      assert.equal(countOf(node, "MESSAGE_LOSS"), 0);
    }
    // It asks for what it can take: 5 % loss, and what was sent while it was out.
    const { RepairCount } = await txStats(tx, "tx");
    assert.ok(RepairCount < 2 * SLOW_COUNT, `${RepairCount} repairs`);
    const came = tx.events.filter(({ type, peer }) => type === "NEW_RECEIVER" && peer === "faulty");
    assert.equal(came.length, 2, "it was new at first, and when it came back");
    await Promise.all([tx, steady, faulty].map((node) => node.close()));
  },
);

e2e("FILL_GAP tells ranges that are asked for, at most ten a second", async (bed) => {
  const c = config(bed);
  const rx = await bed.node("bun", c, { env: { RCM_INJECT: "drop=0.05,seed=5" } });
  const tx = await bed.node("deno", c);
  await rx.receiver("steady");
  await tx.sender("tx");
  assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
  const run = { seed: 46, sizes: { kind: "fixed", bytes: 1000 }, count: 6000 } as const;
  const begin = Date.now();
  await tx.call("send", { ...TX, ...run, perSecond: 3000 });
  await rx.received("steady", run.count);
  const seconds = (Date.now() - begin) / 1000;
  await rx.check("steady", [{ ...STREAM, runs: [run] }]);
  const gaps = rx.events.filter(({ type }) => type === "FILL_GAP");
  assert.ok(gaps.length >= 3, `${gaps.length} gaps`);
  assert.ok(gaps.length <= 10 * (seconds + 1), `${gaps.length} in ${seconds} s`);
  for (const { context, peer, topic, partition, lossStart, lossEnd } of gaps) {
    assert.deepEqual({ context, peer, topic, partition }, {
      context: "steady",
      peer: "tx",
      topic: "t",
      partition: 1,
    });
    assert.ok(lossStart >= 0 && lossStart <= lossEnd && lossEnd < run.count);
  }
  assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
  await Promise.all([tx, rx].map((node) => node.close()));
});
