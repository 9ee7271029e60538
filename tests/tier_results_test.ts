/**
 * Replicated results (`SyncMode` 1 and 2; guide 9.6, 9.7, 9.9.3): the calls, their answers, and the
 * order of what a program is given, with tiers of one and of two members in one process.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import {
  type RcmContext,
  type RcmFactory,
  RcmRole,
  RcmStatus,
  type RcmTierSync,
  type RcmTransmitter,
} from "../mod.ts";
import { type Bus, rejectsCode, throwsCode, until, withBus } from "./api_bus.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const MEMBER = {
  IsSingleton: 0,
  TierName: "tier",
  SyncMode: 1,
  UseSameMachine: 1,
  IsRecord: 1,
  RecordSegmentMBytes: 16,
  SyncHeartbeatIntervalMilli: 100,
  SyncHeartbeatTimeoutMilli: 500,
  SyncAckIntervalMilli: 50,
  SyncAckTimeoutMilli: 1000,
  SessionTimeoutMilli: 1000,
  StartTimeoutSecs: 15,
};
/** Log key of a leader whose epoch is established. */
const ESTABLISHED = 22101;
let made = 0;

function tierOf(nodes: readonly ("rx1" | "rx2")[], more: Record<string, unknown> = {}) {
  made += 1;
  const member = {
    ...MEMBER,
    SyncAddr: `239.251.${made % 250}.${1 + performance.timeOrigin % 250 | 0}`,
    SyncPort: 29_500 + made,
    ...more,
  };
  return {
    nodes: ["tx1", ...nodes] as const,
    contexts: Object.fromEntries(nodes.map((name) => [name, member])),
  };
}

/** A life of a member's program: what it was given, by name, in order. */
interface Life {
  readonly context: RcmContext;
  readonly sync: RcmTierSync;
  readonly seen: string[];
  /** Answers of `onSyn`, then 0. */
  readonly answers: (number | Error)[];
  /** What it does with a message. */
  onMessage: (text: string, sync: RcmTierSync) => RcmStatus | void;
}

const arbitrated = new WeakSet<RcmFactory>();

function begin(
  bus: Bus,
  factory: RcmFactory,
  name: string,
  startTransNo = 0,
  ack: "auto" | "manual" = "auto",
): Life {
  if (!arbitrated.has(factory)) {
    factory.setArbArg(`local:${join(bus.workDir, "arbiter")}`, "/rcm");
    arbitrated.add(factory);
  }
  const context = factory.newRcmContext(name);
  const seen: string[] = [];
  const answers: (number | Error)[] = [];
  context.createReceiver(
    {
      onMessage(data, sqn) {
        const text = decoder.decode(data);
        seen.push(`message ${sqn} ${text}`);
        return life.onMessage(text, sync) ?? 0;
      },
    },
    undefined,
    { ack },
  );
  const sync = context.createTierSync(startTransNo, {
    onSyn(data, transNo, user) {
      seen.push(`syn ${transNo} ${decoder.decode(data)} ${String(user)}`);
      const answer = answers.shift() ?? 0;
      if (answer instanceof Error) throw answer;
      return answer;
    },
    onRoleChanged(role) {
      const leads = role === RcmRole.ACTIVE || role === RcmRole.SINGLE;
      if (leads && !seen.includes("leads")) seen.push("leads");
    },
  }, "user");
  const life: Life = { context, sync, seen, answers, onMessage: () => {} };
  return life;
}

async function sender(factory: RcmFactory): Promise<RcmTransmitter> {
  const context = factory.newRcmContext("tx1");
  const tx = context.createTransmitter("t");
  await context.start();
  return tx;
}

const send = (tx: RcmTransmitter, text: string) => assert.equal(tx.sendData(text), RcmStatus.OK);
const bytes = (text: string) => encoder.encode(text);

test("createTierSync() and start() tell what they need", () =>
  withBus(tierOf(["rx1"]), async (bus, factory) => {
    factory.setArbArg(`local:${join(bus.workDir, "arbiter")}`, "/rcm");
    const single = factory.newRcmContext("tx1");
    throwsCode(() => single.createTierSync(0, { onSyn() {} }), "ARGUMENT");
    const context = factory.newRcmContext("rx1");
    throwsCode(() => context.createTierSync(-1, { onSyn() {} }), "ARGUMENT");
    throwsCode(() => context.createTierSync(0.5, { onSyn() {} }), "ARGUMENT");
    throwsCode(() => context.createTierSync(0, {} as { onSyn(): void }), "ARGUMENT");
    throwsCode(() => context.setInitParam("replay_start_point", "1"), "UNSUPPORTED");
    context.createReceiver({ onMessage() {} });
    const error = await rejectsCode(context.start(), "STATE");
    assert.match(error.message, /createTierSync/);
    const sync = context.createTierSync(0, { onSyn() {} });
    throwsCode(() => context.createTierSync(0, { onSyn() {} }), "STATE");
    assert.equal(sync.sync(bytes("x")), RcmStatus.NOT_STARTED);
    assert.equal(sync.sendAck(0), RcmStatus.NOT_STARTED);
    await context.start();
    throwsCode(() => context.createTierSync(0, { onSyn() {} }), "STATE");
    await context.stop();
    assert.equal(sync.sync(bytes("x")), RcmStatus.STOPPED);
    assert.equal(sync.sendAck(0), RcmStatus.STOPPED);
  }));

test("transactions are counted, or wait for the numbers before theirs", () =>
  withBus(tierOf(["rx1"]), async (bus, factory) => {
    const first = begin(bus, factory, "rx1", 10);
    await first.context.start();
    await until(() => first.seen.includes("leads"), "it leads");
    const { sync } = first;
    assert.equal(sync.sync(bytes("ten")), RcmStatus.OK);
    assert.equal(sync.sync(bytes("thirteen"), 13), RcmStatus.OK);
    assert.equal(sync.sync(bytes("again"), 13), RcmStatus.BAD_ARGUMENT);
    assert.equal(sync.sync(bytes("used"), 10), RcmStatus.BAD_ARGUMENT);
    assert.equal(sync.sync(bytes("fourteen"), 14, true), RcmStatus.OK);
    assert.equal(sync.sync(bytes("eleven"), -1), RcmStatus.OK);
    assert.equal(sync.sync(bytes("twelve"), 12), RcmStatus.OK);
    assert.equal(sync.sync(bytes("")), RcmStatus.OK);
    assert.equal(sync.sync(bytes("x"), 1.5), RcmStatus.BAD_ARGUMENT);
    assert.equal(sync.sync("x" as unknown as Uint8Array), RcmStatus.BAD_ARGUMENT);
    assert.equal(sync.sync(new Uint8Array(8 * 2 ** 20 + 1)), RcmStatus.TOO_LARGE);
    const large = new Uint8Array(8 * 2 ** 20).fill(7);
    assert.equal(sync.sync(large), RcmStatus.OK);
    assert.equal(sync.sendAck(10), RcmStatus.BAD_ARGUMENT); // it was given none
    await committed(factory, 7);
    await first.context.stop();

    // A new life is given them from the number on that it asks for, before it leads.
    const second = begin(bus, factory, "rx1", 12);
    second.answers.push(5, new Error("not yet"));
    await second.context.start();
    await until(() => second.seen.includes("leads"), "it leads again");
    const wanted = ["12 twelve", "12 twelve", "12 twelve", "13 thirteen", "14 fourteen", "15 "];
    assert.deepEqual(
      second.seen.slice(0, 6),
      wanted.map((text) => `syn ${text} user`),
    );
    assert.equal(second.seen[6], `syn 16 ${"\x07".repeat(8 * 2 ** 20)} user`);
    assert.deepEqual(second.seen.slice(7), ["leads"]);
    assert.equal(second.sync.sync(bytes("used"), 16), RcmStatus.BAD_ARGUMENT);
    assert.equal(second.sync.sync(bytes("next"), 17), RcmStatus.OK);
  }));

/** Waits until the tier has committed so many entries. */
async function committed(factory: RcmFactory, entries: number): Promise<void> {
  await until(() => {
    const text = factory.getStatistics(JSON.stringify({ Context: "rx1" }));
    return JSON.parse(text).ctxs[0].Tier.Deliver.CommittedSqn >= entries;
  }, `${entries} entries are committed`);
}

test("a queue that nobody empties is full: WOULD_BLOCK, and what was refused may come again", () =>
  withBus(tierOf(["rx1"]), async (bus, factory) => {
    const life = begin(bus, factory, "rx1");
    await life.context.start();
    await until(() => life.seen.includes("leads"), "it leads");
    const piece = new Uint8Array(8 * 2 ** 20);
    let accepted = 0;
    // Faster than any log takes them.
    while (life.sync.sync(piece) === RcmStatus.OK && accepted < 1000) accepted += 1;
    assert.ok(accepted < 1000, "it blocked");
    await until(() => life.sync.sync(bytes("small")) === RcmStatus.OK, "there is room again");
    await committed(factory, accepted + 1);
  }));

test("a new life handles messages that no transaction covers, under their sqns", () =>
  withBus(tierOf(["rx1"]), async (bus, factory) => {
    const first = begin(bus, factory, "rx1");
    first.onMessage = (text, sync) => {
      if (text === "c") return;
      assert.equal(sync.sync(bytes(`${text}1`)), RcmStatus.OK);
      return sync.sync(bytes(`${text}2`));
    };
    await first.context.start();
    const tx = await sender(factory);
    await tx.connected(1, 10_000);
    for (const text of ["a", "b", "c"]) send(tx, text);
    assert.equal(await tx.flush(10_000), true);
    assert.deepEqual(first.seen, ["leads", "message 0 a", "message 1 b", "message 2 c"]);
    await first.context.stop();

    const second = begin(bus, factory, "rx1");
    await second.context.start();
    send(tx, "d");
    assert.equal(await tx.flush(10_000), true);
    assert.deepEqual(second.seen, [
      "syn 0 a1 user",
      "syn 1 a2 user",
      "syn 2 b1 user",
      "syn 3 b2 user",
      "leads",
      "message 2 c",
      "message 3 d",
    ]);
  }));

test("a follower is given transactions, may make none, and goes on when the leader ends", () =>
  withBus(tierOf(["rx1", "rx2"]), async (bus, factory) => {
    const lives = [begin(bus, factory, "rx1"), begin(bus, factory, "rx2", 0, "manual")];
    for (const life of lives) life.onMessage = (text, sync) => sync.sync(bytes(text));
    const [leader, follower] = [lives[0]!, lives[1]!];
    await leader.context.start();
    await follower.context.start();
    const tx = await sender(factory);
    await tx.connected(2, 10_000);
    for (const text of ["a", "b", "c"]) send(tx, text);
    await until(() => follower.seen.length === 3, "it applied all");
    const given = ["syn 0 a user", "syn 1 b user", "syn 2 c user"];
    assert.deepEqual(follower.seen, given);
    assert.equal(follower.sync.sync(bytes("mine")), RcmStatus.NOT_LEADER);
    assert.equal(follower.sync.sendAck(3), RcmStatus.BAD_ARGUMENT);
    assert.equal(follower.sync.sendAck(1), RcmStatus.OK);
    await leader.context.stop();
    send(tx, "d");
    // With `ack: "manual"` it leads when what it was given is acknowledged.
    await until(
      () => bus.lines.filter(({ key }) => key === ESTABLISHED).length === 2,
      "it was elected",
    );
    assert.deepEqual(follower.seen, given);
    assert.equal(follower.sync.sendAck(2), RcmStatus.OK);
    assert.equal(follower.sync.sendAck(0), RcmStatus.OK);
    assert.equal(await tx.flush(20_000), true);
    assert.deepEqual(follower.seen, [...given, "leads", "message 3 d"]);
  }));

test("with TierAsync senders do not wait for what is made of their messages", () =>
  withBus(tierOf(["rx1"], { TierAsync: 1 }), async (bus, factory) => {
    const life = begin(bus, factory, "rx1");
    let refuses = true;
    life.onMessage = () => refuses ? RcmStatus.WOULD_BLOCK : RcmStatus.OK;
    await life.context.start();
    const tx = await sender(factory);
    await tx.connected(1, 10_000);
    send(tx, "a");
    assert.equal(await tx.flush(10_000), true); // committed, and not yet handled
    refuses = false;
    await until(() => life.seen.length >= 2, "it was handled");
  }));

test("without it they do (SyncMode 1)", () =>
  withBus(tierOf(["rx1"]), async (bus, factory) => {
    const life = begin(bus, factory, "rx1");
    let refuses = true;
    life.onMessage = () => refuses ? RcmStatus.WOULD_BLOCK : RcmStatus.OK;
    await life.context.start();
    const tx = await sender(factory);
    await tx.connected(1, 10_000);
    send(tx, "a");
    await until(() => life.seen.length >= 3, "it was refused twice");
    assert.equal(await tx.flush(0), false);
    refuses = false;
    assert.equal(await tx.flush(10_000), true);
  }));
