/**
 * Manual acknowledgement (guide 9.4.1; rules 20, 21, 27, 28): what a sender is told, and keeps,
 * with real sockets and with windows that are read in place, in one process.
 */

import assert from "node:assert/strict";
import test from "node:test";
import {
  type RcmContext,
  type RcmFactory,
  type RcmReceiver,
  RcmStatus,
  type RcmTransmitter,
} from "../mod.ts";
import { type Bus, type BusOptions, throwsCode, until, withBus } from "./api_bus.ts";

const SHARED: BusOptions = {
  transport: { UseSharedMemory: 1, Addr: undefined, Port: undefined },
  all: { Ip: undefined },
  contexts: { rx1: { ShmContext: "tx1" } },
};
const WAYS: readonly (readonly [string, BusOptions])[] = [
  ["datagrams", {}],
  ["shared memory", SHARED],
];

interface Seen {
  readonly text: string;
  readonly sqn: number;
}

const decoder = new TextDecoder();
const textOf = (data: Uint8Array) => decoder.decode(data.subarray(0, 16)).trimEnd();

interface Ack {
  readonly MsgNo: number;
  readonly Status: string;
  readonly IsMandatoryAcker: boolean;
}

function contextOf(factory: RcmFactory, name: string) {
  return JSON.parse(factory.getStatistics(JSON.stringify({ Context: name }))).ctxs[0];
}

function windowOf(factory: RcmFactory): { FirstMsgNo: number; UsedMsgNo: number; Ack: Ack[] } {
  return contextOf(factory, "tx1").txs[0][0];
}

const acked = (factory: RcmFactory) => windowOf(factory).FirstMsgNo;

/** The receiving context of each test. */
const contexts = new WeakMap<RcmFactory, RcmContext>();

/** A receiver that acknowledges by itself, in front of a sender. */
async function open(
  factory: RcmFactory,
  seen: Seen[],
  onMessage?: (seen: Seen, receiver: RcmReceiver) => number | void | Promise<number | void>,
): Promise<{ receiver: RcmReceiver; tx: RcmTransmitter }> {
  const rx = factory.newRcmContext("rx1");
  const receiver: RcmReceiver = rx.createReceiver(
    {
      onMessage(data, sqn) {
        const one = { text: textOf(data), sqn };
        if (onMessage !== undefined) return onMessage(one, receiver);
        seen.push(one);
        return undefined;
      },
    },
    null,
    { ack: "manual" },
  );
  contexts.set(factory, rx);
  await rx.start();
  const tx = await openSender(factory);
  return { receiver, tx };
}

async function openSender(factory: RcmFactory): Promise<RcmTransmitter> {
  const sender = factory.newRcmContext("tx1");
  const tx = sender.createTransmitter("t");
  await sender.start();
  assert.equal(await tx.connected(1, 10_000), true);
  return tx;
}

/** Messages `from`..`to - 1`; waits for room. */
async function send(tx: RcmTransmitter, from: number, to: number, bytes = 16): Promise<void> {
  for (let i = from; i < to; i += 1) {
    while (tx.sendData(`${i}`.padEnd(bytes)) === RcmStatus.WOULD_BLOCK) await tx.ready();
  }
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `${from + i}`);
const texts = (seen: readonly Seen[]) => seen.map(({ text }) => text);

function withWay(
  [name, options]: readonly [string, BusOptions],
  more: Record<string, unknown>,
  run: (bus: Bus, factory: RcmFactory) => Promise<void>,
): Promise<void> {
  const contexts = { ...options.contexts };
  contexts["rx1"] = { ...contexts["rx1"], ...more };
  return withBus({ ...options, contexts }, run).catch((error: unknown) => {
    throw new Error(`${name}, ${JSON.stringify(more)}`, { cause: error });
  });
}

for (const way of WAYS) {
  for (const IsRecord of [0, 1]) {
    test(`rules 27, 28: acknowledged is what was processed (${way[0]}, IsRecord ${IsRecord})`, () =>
      withWay(way, { IsRecord }, async (_bus, factory) => {
        const seen: Seen[] = [];
        const { receiver, tx } = await open(factory, seen);
        await send(tx, 0, 300);
        await until(() => seen.length >= 300, "all messages are delivered");
        assert.deepEqual(texts(seen), numbers(0, 300));
        assert.equal(await tx.flush(100), false);
        assert.equal(acked(factory), 0);
        const ack = windowOf(factory).Ack.find(({ Status }) => Status === "CONNECTED")!;
        assert.equal(ack.MsgNo, 0);
        assert.equal(ack.IsMandatoryAcker, true);
        const rms = contextOf(factory, "rx1").rx.Rms[0];
        assert.equal(rms.IsMandatoryAcker, true);
        assert.equal(rms.NextMsgNo, 300);
        assert.equal(rms.NextMsgNoDeliver, 0);

        assert.equal(receiver.sendAck(300), RcmStatus.BAD_ARGUMENT);
        assert.equal(receiver.sendAck(-1), RcmStatus.BAD_ARGUMENT);
        assert.equal(receiver.sendAck(1.5), RcmStatus.BAD_ARGUMENT);
        assert.equal(receiver.sendAck(99), RcmStatus.OK);
        await until(() => acked(factory) === 100, "the sender counts on 100");
        assert.equal(receiver.sendAck(50), RcmStatus.OK);
        assert.equal(receiver.sendAck(99), RcmStatus.OK);
        assert.equal(await tx.flush(50), false);
        assert.equal(acked(factory), 100);
        assert.equal(receiver.sendAck(299), RcmStatus.OK);
        assert.equal(await tx.flush(10_000), true);
        assert.equal(acked(factory), 300);
        assert.equal(contextOf(factory, "rx1").rx.Rms[0].NextMsgNoDeliver, 300);
      }));
  }

  test(`rule 27: delivery does not wait for it, however much is unprocessed (${way[0]})`, () =>
    withWay(way, {}, async (_bus, factory) => {
      const seen: Seen[] = [];
      const { receiver, tx } = await open(factory, seen);
      // More than a window of datagrams, and than a receiver in place may hold unread.
      await send(tx, 0, 6000, 200);
      // In more fragments than a window.
      await send(tx, 6000, 6001, 1_000_000);
      await until(() => seen.length >= 6001, "all messages are delivered");
      assert.deepEqual(texts(seen), numbers(0, 6001));
      assert.equal(acked(factory), 0);
      assert.equal(receiver.sendAck(6000), RcmStatus.OK);
      assert.equal(await tx.flush(10_000), true);
    }));

  test(`rule 28: the arena is released by processed messages only (${way[0]})`, () =>
    withWay(way, {}, async (_bus, factory) => {
      const seen: Seen[] = [];
      const { receiver, tx } = await open(factory, seen);
      let sent = 0;
      while (tx.sendData(`${sent}`.padEnd(10_000)) === RcmStatus.OK) sent += 1;
      await until(() => seen.length >= sent, "what was accepted is delivered");
      assert.equal(await tx.ready(200), false);
      assert.equal(tx.sendData("x".repeat(10_000)), RcmStatus.WOULD_BLOCK);
      assert.equal(acked(factory), 0);
      assert.equal(receiver.sendAck(sent / 2 | 0), RcmStatus.OK);
      assert.equal(await tx.ready(10_000), true);
      await send(tx, sent, sent + 10, 10_000);
      await until(() => seen.length >= sent + 10, "more");
      assert.deepEqual(texts(seen), numbers(0, sent + 10));
      assert.equal(acked(factory), (sent / 2 | 0) + 1);
    }));
}

test("rules 20, 21: refusals, promises and acknowledgements in any order skip nothing", () =>
  withBus({}, async (_bus, factory) => {
    const count = 2000;
    const accepted: string[] = [];
    const held: number[] = [];
    let refusals = 0;
    let highest = -1;
    let chance = 7;
    const next = () => (chance = chance * 1103515245 + 12345 >>> 0) / 2 ** 32;
    const { receiver, tx } = await open(factory, [], ({ text, sqn }, own) => {
      assert.ok(sqn >= highest, `sqn ${sqn} again, ${highest} was accepted`);
      const roll = next();
      if (roll < 0.02) {
        refusals += 1;
        // An acknowledgement of what is refused counts when it is accepted.
        own.sendAck(sqn);
        if (roll < 0.01) throw new Error("not now");
        return 7;
      }
      const accept = () => {
        accepted.push(text);
        highest = sqn + 1;
        held.push(sqn);
      };
      if (roll > 0.1) return accept();
      return new Promise<void>((resolve, reject) => {
        setTimeout(() => {
          if (roll > 0.05) return resolve(accept());
          refusals += 1;
          reject(new Error("later"));
        });
      });
    });
    const sending = send(tx, 0, count);
    while (accepted.length < count) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      // Late, and any of those that wait.
      const at = Math.floor(next() * held.length);
      const [sqn] = held.splice(at, 1);
      if (sqn !== undefined) assert.equal(receiver.sendAck(sqn), RcmStatus.OK);
      assert.ok(acked(factory) <= highest, `acknowledged ${acked(factory)} of ${highest}`);
    }
    await sending;
    assert.deepEqual(accepted, numbers(0, count));
    assert.equal(receiver.sendAck(count - 1), RcmStatus.OK);
    assert.equal(await tx.flush(10_000), true);
    assert.ok(refusals > 0);
    assert.equal(contextOf(factory, "rx1").RefusedCount, refusals);
  }));

for (const Threading of ["shared", "inline"] as const) {
  test(`manual acknowledgement in a context that is polled (${Threading})`, () =>
    withBus({ contexts: { rx1: { Threading } } }, async (_bus, factory) => {
      const seen: Seen[] = [];
      const rx = factory.newRcmContext("rx1");
      const receiver = rx.createReceiver(
        { onMessage: (data, sqn) => void seen.push({ text: textOf(data), sqn }) },
        null,
        { ack: "manual", delivery: "poll" },
      );
      await rx.start();
      const timer = setInterval(() => rx.poll(), 1);
      try {
        const tx = await openSender(factory);
        await send(tx, 0, 2000);
        await until(() => seen.length >= 2000, "all messages");
        assert.equal(acked(factory), 0);
        assert.equal(receiver.sendAck(1500), RcmStatus.OK);
        await until(() => acked(factory) === 1501, "a part is acknowledged");
        assert.equal(receiver.sendAck(1999), RcmStatus.OK);
        assert.equal(await tx.flush(10_000), true);
        assert.deepEqual(texts(seen), numbers(0, 2000));
      } finally {
        clearInterval(timer);
      }
    }));
}

test("manual acknowledgement with an iterator", () =>
  withBus({}, async (_bus, factory) => {
    const rx = factory.newRcmContext("rx1");
    const receiver = rx.createReceiver(null, null, { ack: "manual", delivery: "iterate" });
    await rx.start();
    const tx = await openSender(factory);
    await send(tx, 0, 100);
    const seen: string[] = [];
    for await (const { data, msgSqn } of receiver) {
      seen.push(textOf(data));
      if (msgSqn === 49) assert.equal(receiver.sendAck(msgSqn), RcmStatus.OK);
      if (msgSqn === 50) await until(() => acked(factory) === 50, "the first 50");
      if (msgSqn === 99) break;
    }
    assert.deepEqual(seen, numbers(0, 100));
    assert.equal(acked(factory), 50);
    assert.equal(receiver.sendAck(99), RcmStatus.OK);
    assert.equal(await tx.flush(10_000), true);
  }));

for (const way of WAYS) {
  test(`what was not processed comes again to the next life of a receiver (${way[0]})`, () =>
    withWay(way, {}, async (_bus, factory) => {
      const first: Seen[] = [];
      const { receiver, tx } = await open(factory, first);
      await send(tx, 0, 100);
      await until(() => first.length >= 100, "all messages");
      assert.equal(receiver.sendAck(39), RcmStatus.OK);
      await until(() => acked(factory) === 40, "40 are acknowledged");
      await contexts.get(factory)!.stop();
      // A new receiver begins at what is acknowledged, once the connection is not new any more.
      await new Promise((resolve) => setTimeout(resolve, 1100));
      const again: Seen[] = [];
      const rx = factory.newRcmContext("rx1");
      const next = rx.createReceiver(
        { onMessage: (data, sqn) => void again.push({ text: textOf(data), sqn }) },
        null,
        { ack: "manual" },
      );
      await rx.start();
      await until(() => again.length >= 60, "what was not processed");
      assert.deepEqual(texts(again), numbers(40, 100));
      assert.equal(again[0]!.sqn, 0);
      assert.equal(next.sendAck(59), RcmStatus.OK);
      assert.equal(await tx.flush(10_000), true);
    }));

  test(`a replay is not acknowledged before it is processed again (${way[0]})`, () =>
    withWay(way, { IsRecord: 1 }, async (_bus, factory) => {
      const first: Seen[] = [];
      const { receiver, tx } = await open(factory, first);
      await send(tx, 0, 100);
      await until(() => first.length >= 100, "all messages");
      assert.equal(receiver.sendAck(39), RcmStatus.OK);
      await until(() => acked(factory) === 40, "40 are acknowledged");
      await contexts.get(factory)!.stop();
      const again: Seen[] = [];
      const rx = factory.newRcmContext("rx1");
      rx.setInitParam("replay_start_point", "20");
      const next = rx.createReceiver(
        { onMessage: (data, sqn) => void again.push({ text: textOf(data), sqn }) },
        null,
        { ack: "manual" },
      );
      await rx.start();
      await send(tx, 100, 110);
      await until(() => again.length >= 90, "the replay, and more");
      assert.deepEqual(texts(again), numbers(20, 110));
      assert.deepEqual(again.map(({ sqn }) => `${sqn}`), numbers(20, 110));
      assert.equal(await tx.flush(100), false);
      assert.equal(acked(factory), 40);
      assert.equal(next.sendAck(30), RcmStatus.OK);
      assert.equal(await tx.flush(100), false);
      assert.equal(acked(factory), 40);
      assert.equal(next.sendAck(59), RcmStatus.OK);
      await until(() => acked(factory) === 60, "60 are acknowledged");
      assert.equal(next.sendAck(109), RcmStatus.OK);
      assert.equal(await tx.flush(10_000), true);
    }));
}

test("rule 27: manual acknowledgement needs a total order", () =>
  withBus({ contexts: { rx1: { IsTotalOrder: 0 } } }, (_bus, factory) => {
    const rx = factory.newRcmContext("rx1");
    const error = throwsCode(
      () => rx.createReceiver({ onMessage() {} }, null, { ack: "manual" }),
      "ARGUMENT",
    );
    assert.match(error.message, /IsTotalOrder/);
    return Promise.resolve();
  }));
