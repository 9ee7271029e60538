/**
 * Receivers in shared memory that are killed, stopped or slow: the others go on within
 * `AckTimeoutMilli`; whoever wakes up reads what was written, or is told what it missed.
 */

import assert from "node:assert/strict";
import type { RcmConfigInput } from "../../mod.ts";
import { type Bed, e2e, LIMIT_MS, type Node, sleep, until, within } from "./harness/driver.ts";
import { longestGapMs } from "./harness/history.ts";
import { txStats } from "./harness/stats.ts";
import { freeze } from "./fixtures/pair.ts";
import {
  ACK_TIMEOUT_MS,
  closeAll,
  connect,
  countOf,
  ENDLESS,
  sharedConfig,
  SLACK_MS,
  STREAM,
  TX,
  typesOf,
} from "./fixtures/shared.ts";

interface Trio {
  readonly config: RcmConfigInput;
  readonly tx: Node;
  readonly steady: Node;
  readonly faulty: Node;
}

/** A sender, a receiver that nothing happens to, and one that something happens to. */
async function trio(
  bed: Bed,
  all: Record<string, unknown> = {},
  transport: Record<string, unknown> = {},
): Promise<Trio> {
  const c = sharedConfig(bed, { all, transport, receivers: { steady: {}, faulty: {} } });
  const steady = await bed.node("deno", c);
  const faulty = await bed.node("bun", c);
  const tx = await bed.node("deno", c);
  await Promise.all([steady.receiver("steady"), faulty.receiver("faulty"), tx.sender("tx")]);
  await connect(tx, 2);
  return { config: c, tx, steady, faulty };
}

/** The receiver got something all the time between two moments, but for `limitMs`. */
async function assertWentOn(
  node: Node,
  context: string,
  from: number,
  to: number,
  limitMs: number,
) {
  const { records } = await node.history(context);
  const gap = longestGapMs(records.map(({ ms }) => ms), from, to);
  assert.ok(gap < limitMs, `${context} got nothing for ${gap} ms`);
}

/** Every range that a receiver was told it lost; its history lacks exactly these. */
async function assertLosses(
  node: Node,
  context: string,
  run: { seed: number; sizes: { kind: "fixed"; bytes: number }; count: number },
): Promise<number> {
  const losses = node.events.filter(({ type }) => type === "MESSAGE_LOSS");
  const lost = losses.map(({ lossStart, lossEnd }) => [lossStart, lossEnd] as const);
  assert.ok(lost.every(([start, end]) => start <= end));
  assert.equal(countOf(node, "OUT_OF_SYNC"), losses.length);
  await node.check(context, [{ ...STREAM, runs: [run], lost }]);
  return losses.length;
}

const lastNo = async (node: Node, context: string) =>
  (await node.call("counts", { context })).streams[0]?.lastNo ?? -1;

e2e(
  "in place: a killed receiver is gone at once, and its successor begins at joinAt",
  async (bed) => {
    const { config, tx, steady, faulty } = await trio(bed, { MaxCacheMsgCount: 0 });
    const run = { seed: 41, sizes: { kind: "fixed", bytes: 300 } } as const;
    const sending = tx.call("send", { ...TX, ...run, count: ENDLESS, perSecond: 4000 });
    await faulty.received("faulty", 4000);
    const killedAt = Date.now();
    await faulty.kill();
    // By its lock, not by a time-out.
    const gone = async () => (await txStats(tx, "tx")).ConnectedCount === 1;
    await until(gone, () => "the killed one is disconnected", ACK_TIMEOUT_MS / 2);
    await until(() => !bed.files().includes("faulty_receiver"), () => "its file is removed");
    await sleep(ACK_TIMEOUT_MS + 200); // From now on a receiver without a position begins at acked.
    const before = (await txStats(tx, "tx")).FirstMsgNo;
    const again = await bed.node("bun", config);
    await again.receiver("faulty");
    await connect(tx, 2);
    await again.received("faulty", 4000);
    await tx.call("halt", TX);
    const { sent } = await within(sending, LIMIT_MS, () => "the sender goes on");
    await steady.received("steady", sent);
    const { records } = await again.history("faulty");
    const fromNo = records[0]!.no;
    assert.ok(fromNo >= before, `${before} <= ${fromNo}`);
    await again.received("faulty", sent - fromNo);
    const runs = [{ ...run, count: sent }];
    await again.check("faulty", [{ ...STREAM, runs, fromNo }]);
    await steady.check("steady", [{ ...STREAM, runs }]);
    await assertWentOn(steady, "steady", killedAt, Date.now() - 200, SLACK_MS);
    const came = tx.events.filter(({ type, peer }) => type === "NEW_RECEIVER" && peer === "faulty");
    assert.equal(came.length, 2, "it was new twice");
    assert.equal(countOf(tx, "NO_RECEIVER"), 0);
    assert.equal(countOf(again, "MESSAGE_LOSS"), 0, "it had no position: nothing was lost");
    await closeAll(tx, steady, again);
  },
);

e2e("in place: the only receiver is killed: what it did not acknowledge is kept", async (bed) => {
  const c = sharedConfig(bed);
  const first = await bed.node("deno", c);
  const tx = await bed.node("bun", c);
  await Promise.all([first.receiver("rx"), tx.sender("tx")]);
  await connect(tx, 1);
  const run = { seed: 42, sizes: { kind: "mixed", seed: 1 } } as const;
  await tx.call("send", { ...TX, ...run, count: 1000 });
  await first.received("rx", 1000);
  assert.equal(await tx.call("flush", { ...TX, timeoutMs: LIMIT_MS }), true);
  await sleep(ACK_TIMEOUT_MS);
  await first.kill();
  await tx.event({ type: "NO_RECEIVER", context: "tx", peer: "rx" }, 0, ACK_TIMEOUT_MS / 2);
  await tx.call("send", { ...TX, ...run, count: 5000, first: 1000 });
  const second = await bed.node("bun", c);
  await second.receiver("rx");
  await second.received("rx", 5000);
  await second.check("rx", [{ ...STREAM, runs: [{ ...run, count: 6000 }], fromNo: 1000 }]);
  assert.deepEqual(typesOf(tx), ["NEW_RECEIVER", "NO_RECEIVER", "NEW_RECEIVER"]);
  await closeAll(tx, second);
});

e2e(
  "in place: a receiver stopped for longer than AckTimeoutMilli gets all that is kept",
  async (bed) => {
    const { tx, steady, faulty } = await trio(bed, { MaxCacheMsgCount: 100_000 });
    const run = { seed: 43, sizes: { kind: "fixed", bytes: 100 } } as const;
    const sending = tx.call("send", { ...TX, ...run, count: ENDLESS, perSecond: 2000 });
    await faulty.received("faulty", 2000);
    const stoppedAt = Date.now();
    await freeze(faulty);
    await sleep(2 * ACK_TIMEOUT_MS + 500);
    assert.equal((await txStats(tx, "tx")).ConnectedCount, 1);
    faulty.thaw();
    const thawedAt = Date.now();
    await connect(tx, 2);
    await sleep(500);
    await tx.call("halt", TX);
    const { sent } = await within(sending, LIMIT_MS, () => "the sender goes on");
    for (const [node, name] of [[steady, "steady"], [faulty, "faulty"]] as const) {
      await node.received(name, sent);
      await node.check(name, [{ ...STREAM, runs: [{ ...run, count: sent }] }]);
      assert.equal(countOf(node, "MESSAGE_LOSS"), 0);
    }
    await assertWentOn(steady, "steady", stoppedAt, thawedAt, ACK_TIMEOUT_MS + SLACK_MS);
    assert.equal((await txStats(tx, "tx")).DisconnectCount, 1);
    await tx.log({ key: 20061, content: /faulty/ });
    await closeAll(tx, steady, faulty);
  },
);

for (const [bytes, count] of [[1000, 20_000], [60_000, 400]] as const) {
  e2e(
    `in place: stopped while the window laps: intact messages of ${bytes} bytes, one MESSAGE_LOSS`,
    async (bed) => {
      const { tx, steady, faulty } = await trio(bed, {
        MaxCacheMsgCount: 10,
        MaxMemoryAllowedMBytes: 2,
      });
      const run = { seed: 44, sizes: { kind: "fixed", bytes } } as const;
      // It stands in the middle of messages that were handed over and are not processed.
      const sending = tx.call("send", { ...TX, ...run, count });
      await faulty.received("faulty", 20);
      await freeze(faulty);
      const stoppedAt = Date.now();
      const { sent } = await within(sending, LIMIT_MS, () => "the sender goes on");
      assert.equal(sent, count);
      await steady.received("steady", count);
      const doneAt = Date.now();
      assert.equal(countOf(steady, "MESSAGE_LOSS"), 0);
      faulty.thaw();
      await connect(tx, 2);
      await tx.call("send", { ...TX, ...run, count: 100, first: count });
      await until(
        async () => await lastNo(faulty, "faulty") === count + 99,
        () => "the stopped one is where the sender is",
      );
      assert.equal(await assertLosses(faulty, "faulty", { ...run, count: count + 100 }), 1);
      await steady.received("steady", count + 100);
      await steady.check("steady", [{ ...STREAM, runs: [{ ...run, count: count + 100 }] }]);
      await assertWentOn(steady, "steady", stoppedAt, doneAt, ACK_TIMEOUT_MS + SLACK_MS);
      await closeAll(tx, steady, faulty);
    },
  );
}

e2e("in place: a receiver stopped again and again never reads a wrong byte", async (bed) => {
  const { tx, steady, faulty } = await trio(bed, {
    MaxCacheMsgCount: 0,
    MaxMemoryAllowedMBytes: 2,
  }, { AckTimeoutMilli: 300 });
  const run = { seed: 47, sizes: { kind: "fixed", bytes: 700 } } as const;
  const sending = tx.call("send", { ...TX, ...run, count: ENDLESS });
  for (let round = 0; round < 8; round += 1) {
    const { messages } = await faulty.call("counts", { context: "faulty" });
    await faulty.received("faulty", messages + 500);
    await freeze(faulty);
    await sleep(200 + 100 * round);
    faulty.thaw();
    await connect(tx, 2);
  }
  await tx.call("halt", TX);
  const { sent } = await within(sending, LIMIT_MS, () => "the sender goes on");
  await steady.received("steady", sent);
  await until(
    async () => await lastNo(faulty, "faulty") === sent - 1,
    () => "the stopped one is where the sender is",
  );
  const losses = await assertLosses(faulty, "faulty", { ...run, count: sent });
  assert.ok(losses >= 1 && losses <= 8, `${losses} losses`);
  await steady.check("steady", [{ ...STREAM, runs: [{ ...run, count: sent }] }]);
  await closeAll(tx, steady, faulty);
});

const slowRun = { seed: 45, sizes: { kind: "fixed", bytes: 1000 }, count: 30_000 } as const;
/** Much less memory than is sent. */
const tight = { MaxMemoryAllowedMBytes: 4, ReceiveMemoryMBytes: 8, MaxCacheMsgCount: 100 };

e2e("in place, SlowReceiver wait: everybody goes at its pace, nothing is lost", async (bed) => {
  const { tx, steady, faulty } = await trio(bed, tight);
  await faulty.call("handler", { context: "faulty", paused: true });
  const sending = tx.call("send", { ...TX, ...slowRun });
  await sleep(2 * ACK_TIMEOUT_MS);
  const held = await steady.call("counts", { context: "steady" });
  assert.ok(held.messages < slowRun.count, "the others are held");
  await sleep(500);
  const still = await steady.call("counts", { context: "steady" });
  assert.equal(still.messages, held.messages, "nothing moves while it takes nothing");
  await faulty.call("handler", { context: "faulty", paused: false, delayMs: 20, every: 200 });
  const { sent, blocked } = await within(sending, LIMIT_MS, () => "the sender goes on");
  assert.equal(sent, slowRun.count);
  assert.ok(blocked > 0, "the arena was full");
  for (const [node, name] of [[steady, "steady"], [faulty, "faulty"]] as const) {
    await node.received(name, slowRun.count);
    await node.check(name, [{ ...STREAM, runs: [slowRun] }]);
    assert.equal(countOf(node, "MESSAGE_LOSS"), 0);
  }
  assert.equal((await txStats(tx, "tx")).DisconnectCount, 0);
  await closeAll(tx, steady, faulty);
});

e2e("in place, SlowReceiver disconnect: the others go on after AckTimeoutMilli", async (bed) => {
  const { tx, steady, faulty } = await trio(bed, tight, { SlowReceiver: "disconnect" });
  await faulty.call("handler", { context: "faulty", paused: true });
  const begin = Date.now();
  const sending = tx.call("send", { ...TX, ...slowRun });
  const { sent } = await within(sending, LIMIT_MS, () => "the sender goes on");
  assert.equal(sent, slowRun.count);
  await steady.received("steady", slowRun.count);
  await steady.check("steady", [{ ...STREAM, runs: [slowRun] }]);
  await assertWentOn(steady, "steady", begin, Date.now(), ACK_TIMEOUT_MS + SLACK_MS);
  // As long as it takes nothing, it does not come back to hold the others again.
  assert.equal((await txStats(tx, "tx")).DisconnectCount, 1);
  await tx.log({ key: 20064, content: /faulty/ });
  assert.equal(countOf(tx, "NO_RECEIVER"), 0);
  await faulty.call("handler", { context: "faulty", paused: false });
  await connect(tx, 2);
  await tx.call("send", { ...TX, ...slowRun, count: 100, first: slowRun.count });
  await until(
    async () => await lastNo(faulty, "faulty") === slowRun.count + 99,
    () => "the slow one is where the sender is",
  );
  const all = { ...slowRun, count: slowRun.count + 100 };
  assert.equal(await assertLosses(faulty, "faulty", all), 1);
  await closeAll(tx, steady, faulty);
});
