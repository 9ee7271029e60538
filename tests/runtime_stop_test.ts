/**
 * Clean stop under traffic: senders and receivers stop at random moments while messages fly, over
 * and over, in every mode of delivery and threading. Nothing hangs, nobody is called afterwards,
 * and what the others get stays whole.
 */

import assert from "node:assert/strict";
import process from "node:process";
import test from "node:test";
import { setImmediate, setTimeout } from "node:timers";
import {
  type RcmContext,
  type RcmEvent,
  RcmEventType,
  type RcmFactory,
  RcmStatus,
  type RcmTransmitter,
} from "../mod.ts";
import { type Bus, type BusOptions, until, withBus } from "./api_bus.ts";

const isLong = process.env["RCM_LONG"] === "1";
const ROUNDS = isLong ? 600 : 30;
const PER_TURN = 50;
const decoder = new TextDecoder();

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
/** 0 to `below` - 1. Which moment it is decides the scheduler: a seed would repeat nothing. */
const roll = (below: number) => Math.floor(Math.random() * below);

const modes = ["callback", "poll", "iterate"] as const;
const threadings = ["shared", "dedicated", "inline"] as const;

/** A member of a round. */
interface Member {
  readonly name: string;
  readonly context: RcmContext;
  /** What runs for it beside its callbacks; it ends after the stop. */
  readonly running: Promise<void>[];
  readonly violations: string[];
  readonly jumps: Jump[];
  isStopped: boolean;
}

/** Numbers of a sender that a receiver did not get, `start` to `end` - 1. */
interface Jump {
  readonly from: string;
  readonly start: number;
  readonly end: number;
}

function member(factory: RcmFactory, name: string): Member {
  const context = factory.newRcmContext(name);
  return { name, context, running: [], violations: [], jumps: [], isStopped: false };
}

/** Sends numbers as fast as they go, until it is told that the context stops. */
async function pump(m: Member, tx: RcmTransmitter, isInline: boolean): Promise<void> {
  let next = 0;
  while (true) {
    for (let i = 0; i < PER_TURN; i += 1) {
      const status = tx.sendData(`${m.name} ${next}`);
      if (status === RcmStatus.STOPPED) return;
      if (m.isStopped) m.violations.push(`send answered ${status} after the stop`);
      if (status === RcmStatus.WOULD_BLOCK) {
        // False: the context was stopped meanwhile.
        if (!await tx.ready()) break;
      } else if (status === RcmStatus.OK) next += 1;
      else m.violations.push(`send answered ${status}`);
    }
    if (isInline) m.context.poll();
    await turn();
  }
}

/** Checks that a stream goes on by one, or notes what was left out; it may begin anywhere. */
function follow(m: Member): (from: string, text: string) => void {
  const next = new Map<string, number>();
  return (from, text) => {
    const [name, digits] = text.split(" ");
    const number = Number(digits);
    const due = next.get(from) ?? number;
    if (name !== from || number < due) m.violations.push(`${text} of ${from} where ${due} was due`);
    if (number > due) m.jumps.push({ from, start: due, end: number });
    next.set(from, number + 1);
    if (m.isStopped) m.violations.push(`${text} came after the stop`);
  };
}

/** What was left out was told, range by range: a machine that stands still for a while loses. */
function assertTold(m: Member, events: readonly RcmEvent[]): void {
  const losses = events.filter((event) =>
    event.getEventType() === RcmEventType.MESSAGE_LOSS && event.getRcmContext() === m.name
  );
  for (const { from, start, end } of m.jumps) {
    for (let at = start; at < end;) {
      const loss = losses.find((event) =>
        event.getPeerName() === from && event.getLossMsgNoStart() === at
      );
      assert.ok(loss, `${m.name}: ${from} ${at}..${end - 1} is left out, and nothing told of it`);
      at = loss.getLossMsgNoEnd() + 1;
    }
  }
}

function receive(m: Member, mode: typeof modes[number]): void {
  const check = follow(m);
  if (mode === "iterate") {
    const receiver = m.context.createReceiver(null, undefined, { delivery: mode });
    const iterate = async () => {
      for await (const one of receiver) check(one.txContextName, decoder.decode(one.data));
    };
    m.running.push(iterate());
    return;
  }
  m.context.createReceiver(
    {
      onMessage(data, _sqn, _txArg, info) {
        check(info.getTxContextName(), decoder.decode(data));
        // Now and then a handler that takes its time: the stop may come while it does.
        return roll(200) === 0 ? sleep(roll(3)) : undefined;
      },
    },
    undefined,
    { delivery: mode },
  );
  if (mode !== "poll") return;
  const poll = async () => {
    while (!m.isStopped) {
      if (m.context.poll() === 0) await sleep(1);
      else await turn();
    }
    if (m.context.poll() !== 0) m.violations.push("poll delivered after the stop");
  };
  m.running.push(poll());
}

async function stop(m: Member): Promise<void> {
  await sleep(roll(25));
  await m.context.stop();
  m.isStopped = true;
}

/** Two senders and two receivers start, talk, and stop in any order, each at its moment. */
async function round(
  bus: Bus,
  factory: RcmFactory,
  mode: typeof modes[number],
  isInline: boolean,
): Promise<void> {
  const eventsBefore = bus.events.length;
  const members = ["tx1", "tx2", "rx1", "rx2"].map((name) => member(factory, name));
  for (const m of members.slice(2)) receive(m, mode);
  const transmitters = members.slice(0, 2).map((m) => m.context.createTransmitter("t"));
  // In any order, or all at once.
  await Promise.all(members.map(async ({ context }) => {
    if (roll(2) === 0) await sleep(roll(5));
    await context.start();
  }));
  transmitters.forEach((tx, i) => {
    const m = members[i]!;
    m.running.push(pump(m, tx, isInline));
  });
  // Half of the rounds are in full flow when they end, the others wherever they are.
  if (roll(2) === 0) await Promise.all(transmitters.map((tx) => tx.connected(1, 5000)));
  await Promise.all(members.map(stop));
  await Promise.all(members.flatMap(({ running }) => running));
  for (const m of members) {
    assert.deepEqual(m.violations, [], m.name);
    assertTold(m, bus.events.slice(eventsBefore));
    await factory.deleteRcmContext(m.context);
  }
}

const quick: BusOptions = {
  nodes: ["tx1", "tx2", "rx1", "rx2"],
  transport: {
    HeartbeatIntervalMilli: 20,
    HeartbeatTimeoutMilli: 500,
    AckIntervalMilli: 10,
    AckTimeoutMilli: 150,
  },
};

/** The next round begins with nothing. */
function clean(bus: Bus): void {
  bus.wipe();
  const failed = bus.lines.filter(({ level }) => level === 3 || level === 5);
  // Losses are looked at by themselves; nothing else may go wrong.
  const wrong = failed.filter(({ key }) => key !== 21063 && key !== 21067);
  assert.deepEqual(wrong, []);
}

for (const threading of threadings) {
  for (const mode of modes) {
    if (threading === "inline" && mode !== "poll") continue;
    const rounds = Math.ceil(ROUNDS / 6);
    test(`${rounds} rounds stop under traffic: ${threading}, ${mode}`, () =>
      withBus({ ...quick, all: { Threading: threading } }, async (bus, factory) => {
        for (let i = 0; i < rounds; i += 1) {
          await round(bus, factory, mode, threading === "inline");
          clean(bus);
        }
      }));
  }
}

test("stop inside a handler, awaited or not, while messages fly", async () => {
  for (const isAwaited of [false, true]) {
    for (const mode of ["callback", "poll"] as const) {
      await withBus(quick, async (_bus, factory) => {
        const sender = member(factory, "tx1");
        const tx = sender.context.createTransmitter("t");
        const receiver = member(factory, "rx1");
        const at = 50 + roll(500);
        let stopped: Promise<void> | null = null;
        let isDone = false;
        let after = 0;
        receiver.context.createReceiver(
          {
            onMessage(_data, sqn) {
              if (isDone) after += 1;
              if (sqn !== at) return;
              stopped = receiver.context.stop().then(() => void (isDone = true));
              return isAwaited ? stopped : undefined;
            },
          },
          undefined,
          { delivery: mode },
        );
        await receiver.context.start();
        await sender.context.start();
        assert.equal(await tx.connected(1, 5000), true);
        const pumping = pump(sender, tx, false);
        await until(() => {
          if (mode === "poll") receiver.context.poll();
          return isDone;
        }, "it stops");
        await stopped;
        await sender.context.stop();
        await pumping;
        assert.equal(after, 0, "nobody is called after the stop");
        assert.deepEqual(sender.violations, []);
      });
    }
  }
});

test("a factory is deleted with everything running", () =>
  withBus(quick, async (bus) => {
    for (let i = 0; i < 5; i += 1) {
      const factory = bus.factory();
      const members = ["tx1", "tx2", "rx1", "rx2"].map((name) => member(factory, name));
      receive(members[2]!, "callback");
      receive(members[3]!, "iterate");
      const transmitters = members.slice(0, 2).map((m) => m.context.createTransmitter("t"));
      await Promise.all(members.map(({ context }) => context.start()));
      const pumps = transmitters.map((tx, k) => pump(members[k]!, tx, false));
      await sleep(roll(30));
      await factory[Symbol.asyncDispose]();
      for (const m of members) m.isStopped = true;
      await Promise.all([...pumps, ...members.flatMap(({ running }) => running)]);
      for (const m of members) assert.deepEqual(m.violations, [], m.name);
      bus.wipe();
    }
  }));
