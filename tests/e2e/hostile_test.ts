/**
 * Hostile datagrams at every port of running contexts, at full speed, while real traffic flows
 * between Deno and Bun: nothing is lost, doubled or changed, no event tells of anything, and only
 * counters move.
 */

import assert from "node:assert/strict";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Attack, AttackReport } from "./fixtures/attacker.ts";
import { runProgram } from "./fixtures/program.ts";
import {
  type Bed,
  e2e,
  isLong,
  LIMIT_MS,
  type Node,
  type Runtime,
  until,
} from "./harness/driver.ts";
import type { SentRun } from "./harness/history.ts";

const attackerFile = fileURLToPath(new URL("./fixtures/attacker.ts", import.meta.url));
/** Datagrams of an attack; there are six. */
const COUNT = isLong ? 1_000_000 : 100_000;
const ATTACK_MS = isLong ? 3_600_000 : 180_000;
const RESIDENT_GROWTH_MAX = 96 * 2 ** 20;
/** Log key: the kernel's own losses, which a flood brings about. */
const KERNEL_DROPS = 22005;
const KEY = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";

/** What this test reads of the statistics of a context. */
interface Stats {
  readonly ContextId: number;
  readonly txs: readonly (readonly TxPart[])[];
  readonly rx: { readonly Rms: readonly RxPart[] };
  readonly Dropped: Readonly<Record<string, number>>;
  readonly KernelDrops: number;
}
interface TxPart {
  readonly TransportId: number;
  readonly TopicName: string;
  readonly ConnectionId: number;
  readonly Phase: string;
  readonly FirstMsgNo: number;
  readonly ToSendMsgNo: number;
  readonly CurrentMsgNo: number;
  readonly UsedMsgNo: number;
  readonly ConnectedCount: number;
  readonly DisconnectCount: number;
  readonly Ack: readonly {
    readonly ContextId: number;
    readonly Address: string;
    readonly Status: string;
    readonly MsgNo: number;
  }[];
}
interface RxPart {
  readonly ContextId: number;
  readonly TransportId: number;
  readonly Address: string;
  readonly ConnectionId: number;
  readonly RmsPhase: string;
  readonly NextMsgNo: number;
  readonly GapCount: number;
  readonly LostCount: number;
}

/** One side of the bus: it sends and receives. */
interface Side {
  readonly node: Node;
  readonly context: "left" | "right";
  readonly topics: readonly string[];
}

/** A multicast topic in each direction, and one to a unicast address. */
function config(bed: Bed, transport: Record<string, unknown>) {
  return bed.config({
    transports: [
      { Topic: "there" },
      { Topic: "back", Port: bed.port },
      { Topic: "single", Addr: "127.0.0.2" },
    ],
    transport,
    contexts: [
      {
        Name: "left",
        TxTopics: [{ Name: "there" }, { Name: "single" }],
        RxTopics: [{ Name: "back" }],
      },
      {
        Name: "right",
        Ip: "127.0.0.2",
        TxTopics: [{ Name: "back" }],
        RxTopics: [{ Name: "there" }, { Name: "single" }],
      },
      { Name: "late", RxTopics: [{ Name: "there" }] },
    ],
  });
}

async function bothSides(
  bed: Bed,
  runtimes: readonly [Runtime, Runtime],
  transport: Record<string, unknown> = {},
): Promise<[Side, Side]> {
  const c = config(bed, transport);
  const left = await bed.node(runtimes[0], c);
  const right = await bed.node(runtimes[1], c);
  const sides: [Side, Side] = [
    { node: left, context: "left", topics: ["there", "single"] },
    { node: right, context: "right", topics: ["back"] },
  ];
  for (const { node, context, topics } of sides) {
    await node.call("context", { context });
    for (const topic of topics) await node.call("transmitter", { context, topic });
    await node.call("receiver", { context });
    await node.call("start", { context });
  }
  for (const { node, context, topics } of sides) {
    for (const topic of topics) {
      const wait = { context, topic, receivers: 1, timeoutMs: LIMIT_MS };
      assert.equal(await node.call("connected", wait), true);
    }
  }
  return sides;
}

const stats = async ({ node, context }: Side) => await node.statistics(context) as unknown as Stats;

function addressOf(text: string): { address: string; port: number } {
  const [address = "", port = ""] = text.split(":");
  return { address, port: Number(port) };
}

interface AttackWish {
  readonly seed: number;
  readonly count: number;
  /** Names of types; none: all. */
  readonly only?: readonly string[];
}

/** Every port that the two contexts have: data, repair and control. */
function attackOn(
  bed: Bed,
  sides: readonly Stats[],
  { seed, count, only = [] }: AttackWish,
): Attack {
  const groups = [{ address: bed.group, port: bed.port }];
  const victims = [...groups, { address: "127.0.0.2", port: bed.port + 2 }];
  for (const side of sides) {
    for (const { Address } of side.rx.Rms) victims.push(addressOf(Address));
    for (const { Ack } of side.txs.flat()) {
      for (const { Address, Status } of Ack) {
        if (Status === "CONNECTED") victims.push(addressOf(Address));
      }
    }
  }
  assert.ok(victims.every(({ address, port }) => /^\d/.test(address) && port > 0));
  const streams = sides.flatMap(({ ContextId, txs }) =>
    txs.flat().map(({ TransportId, ConnectionId }) => ({
      source: ContextId,
      transport: TransportId,
      connectionLow: ConnectionId,
    }))
  );
  const receivers = sides.map(({ ContextId }) => ContextId);
  return { seed, count, groups, victims, streams, receivers, only };
}

async function attack(runtime: Runtime, of: Attack): Promise<AttackReport> {
  const { code, stdout, stderr } = await runProgram(runtime, attackerFile, {
    args: [JSON.stringify(of)],
    limitMs: ATTACK_MS,
  });
  assert.equal(code, 0, `the attacker: ${stderr}`);
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as AttackReport;
}

/** Sends on every topic of both sides for as long as something lasts, and then a last run. */
async function sendDuring(sides: readonly Side[], lasts: Promise<unknown>) {
  let isOver = false;
  const end = () => void (isOver = true);
  lasts.then(end, end);
  const runs = new Map<string, SentRun[]>();
  const one = async ({ node, context, topics }: Side) => {
    for (const topic of topics) runs.set(topic, []);
    for (let last = false; !last;) {
      last = isOver;
      for (const topic of topics) {
        const done = runs.get(topic)!;
        const sizes = { kind: "mixed", seed: 51 } as const;
        const first = done.reduce((sum, run) => sum + run.count, 0);
        const run: SentRun = { seed: 52, sizes, count: 200, first };
        const sent = await node.call("send", { context, topic, ...run, perSecond: 4000 });
        assert.equal(sent.sent, run.count, `${topic}: ${sent.status}`);
        done.push(run);
      }
    }
  };
  await Promise.all(sides.map(one));
  return runs;
}

/** Everything that was sent has come, once, in order and unchanged; and is acknowledged. */
async function assertWhole([left, right]: [Side, Side], runs: ReadonlyMap<string, SentRun[]>) {
  const stream = (from: string, topic: string) => ({
    from,
    topic,
    partition: 1,
    runs: runs.get(topic)!,
  });
  const expected = [
    [left, [stream("right", "back")]],
    [right, [stream("left", "there"), stream("left", "single")]],
  ] as const;
  for (const [{ node, context }, streams] of expected) {
    const total = streams.flatMap((s) => s.runs).reduce((sum, run) => sum + run.count, 0);
    await node.received(context, total);
    await node.check(context, streams);
  }
  for (const { node, context, topics } of [left, right]) {
    for (const topic of topics) {
      assert.equal(await node.call("flush", { context, topic, timeoutMs: LIMIT_MS }), true);
    }
  }
}

/** Sessions are the same as before, whatever was tried. */
function assertSameSessions(before: readonly Stats[], after: readonly Stats[]): void {
  const sessions = (sides: readonly Stats[]) =>
    sides.map(({ txs, rx }) => ({
      txs: txs.flat().map((tx) => ({
        state: [tx.ConnectionId, tx.Phase, tx.ConnectedCount, tx.DisconnectCount],
        receivers: tx.Ack.map(({ ContextId, Address, Status }) => [ContextId, Address, Status]),
      })),
      streams: rx.Rms.map((s) => [s.ContextId, s.Address, s.ConnectionId, s.RmsPhase, s.LostCount]),
    }));
  assert.deepEqual(sessions(after), sessions(before));
}

/**
 * No event tells of anything. A flood may overflow a socket: then gaps are true, and told of. The
 * kernel is asked once a second how much it has dropped.
 */
async function assertNoEvents(sides: readonly Side[], from: readonly number[]): Promise<void> {
  for (const [i, side] of sides.entries()) {
    const told = side.node.events.slice(from[i]).map((event) => event.type);
    assert.deepEqual(told.filter((type) => type !== "FILL_GAP"), [], `events of ${side.context}`);
    if (told.length === 0) continue;
    await until(
      async () => (await stats(side)).KernelDrops > 0,
      () => `${side.context} tells of gaps, and the kernel has dropped nothing`,
    );
  }
}

function moved(before: readonly Stats[], after: readonly Stats[]): Record<string, number> {
  const sum = (sides: readonly Stats[], name: string) =>
    sides.reduce((total, { Dropped }) => total + Dropped[name]!, 0);
  const names = Object.keys(before[0]!.Dropped);
  return Object.fromEntries(names.map((name) => [name, sum(after, name) - sum(before, name)]));
}

/** What is forged must not hold up what is true: most of it had come when the attack ended. */
function assertFlow(runs: ReadonlyMap<string, SentRun[]>, delivered: readonly number[]): void {
  const sent = [...runs.values()].flat().reduce((sum, run) => sum + run.count, 0);
  const got = delivered.reduce((sum, messages) => sum + messages, 0);
  assert.ok(got > sent / 2, `${got} of ${sent} messages were delivered while it lasted`);
}

const seedOf = () => Number(process.env["RCM_SEED"] ?? 1 + Math.floor(Math.random() * 2 ** 31));

/** Adds the seed to whatever fails: `RCM_SEED` takes it. */
async function seeded(run: (seed: number) => Promise<void>): Promise<void> {
  const seed = seedOf();
  try {
    await run(seed);
  } catch (error) {
    if (error instanceof Error) error.message += `\nRCM_SEED=${seed}`;
    throw error;
  }
}

const residentBytes = async ({ node }: Side) => (await node.call("usage", {})).residentBytes;

/** Floods both sides while they talk, and holds everything against what was before. */
async function underAttack(
  bed: Bed,
  sides: [Side, Side],
  wish: AttackWish,
): Promise<Record<string, number>> {
  // A first exchange, so that every session and every cache is there.
  const warm = await sendDuring(sides, Promise.resolve());
  await assertWhole(sides, warm);
  const before = await Promise.all(sides.map(stats));
  const events = sides.map(({ node }) => node.events.length);
  const logs = sides.map(({ node }) => node.logs.length);
  const resident = await Promise.all(sides.map(residentBytes));

  const attacking = attack(sides[1].node.runtime, attackOn(bed, before, wish));
  const runs = await sendDuring(sides, attacking);
  const report = await attacking;
  const delivered = await Promise.all(
    sides.map(async ({ node, context }) => (await node.call("counts", { context })).messages),
  );
  assert.equal(report.sent, wish.count);
  for (const [topic, done] of runs) runs.set(topic, [...warm.get(topic)!, ...done]);
  assertFlow(runs, delivered);
  await assertWhole(sides, runs);

  const after = await Promise.all(sides.map(stats));
  assertSameSessions(before, after);
  await assertNoEvents(sides, events);
  for (const [i, side] of sides.entries()) {
    const growth = await residentBytes(side) - resident[i]!;
    assert.ok(growth < RESIDENT_GROWTH_MAX, `${side.context} grew by ${growth} bytes`);
    const lines = side.node.logs.slice(logs[i]).filter(({ key }) => key !== KERNEL_DROPS);
    assert.deepEqual(lines, [], `${side.context} logged what was forged`);
  }
  return moved(before, after);
}

/** What must not move by itself: cursors and states, without counters and stamps. */
const still = (sides: readonly Stats[]) =>
  sides.map(({ txs, rx }) => ({
    txs: txs.flat().map((tx) => [
      [tx.ConnectionId, tx.Phase, tx.ConnectedCount, tx.DisconnectCount],
      [tx.UsedMsgNo, tx.FirstMsgNo, tx.ToSendMsgNo, tx.CurrentMsgNo],
      tx.Ack.map((ack) => [ack.ContextId, ack.Address, ack.Status, ack.MsgNo]),
    ]),
    streams: rx.Rms.map((s) => [
      [s.ContextId, s.Address, s.ConnectionId, s.RmsPhase],
      [s.NextMsgNo, s.GapCount, s.LostCount],
    ]),
  }));

for (const runtimes of [["deno", "bun"], ["bun", "deno"]] as const) {
  const names = runtimes.join(" and ");
  e2e(
    `${names} under hostile datagrams of all kinds: only counters move`,
    async (bed) =>
      await seeded(async (seed) => {
        const sides = await bothSides(bed, runtimes);
        const counters = await underAttack(bed, sides, { seed, count: COUNT });
        const { Replayed, Injected, ...refused } = counters;
        assert.deepEqual({ Replayed, Injected }, { Replayed: 0, Injected: 0 });
        for (const [name, n] of Object.entries(refused)) assert.ok(n > 0, `${name} moved by ${n}`);
        for (const { node } of sides) await node.close();
      }),
  );

  e2e(
    `${names}: answers to SYN that nobody gave hold nothing up`,
    async (bed) =>
      await seeded(async (seed) => {
        const sides = await bothSides(bed, runtimes);
        await underAttack(bed, sides, { seed, count: COUNT, only: ["SYN_REPLY"] });
        for (const { node } of sides) await node.close();
      }),
  );

  e2e(
    `${names} with a GroupKey: what nobody sealed changes nothing`,
    async (bed) =>
      await seeded(async (seed) => {
        const sides = await bothSides(bed, runtimes, { GroupKey: KEY });
        const before = await Promise.all(sides.map(stats));
        await attack(runtimes[0], attackOn(bed, before, { seed, count: COUNT / 4 }));
        assert.deepEqual(still(await Promise.all(sides.map(stats))), still(before));
        const counters = await underAttack(bed, sides, { seed: seed + 1, count: COUNT });
        assert.ok(counters["Unauthenticated"]! > COUNT / 50, JSON.stringify(counters));
        for (const { node } of sides) await node.close();
      }),
  );

  e2e(
    `${names}: a receiver finds its sender among forged announcements`,
    async (bed) =>
      await seeded(async (seed) => {
        const sides = await bothSides(bed, runtimes);
        const before = await Promise.all(sides.map(stats));
        const only = ["SYN", "SYN_REPLY", "CONFIRM"];
        const attacking = attack(
          runtimes[1],
          attackOn(bed, before, { seed, count: 4 * COUNT, only }),
        );
        let isOver = false;
        const over = attacking.then(() => void (isOver = true));
        do {
          const late = await bed.node(runtimes[0], config(bed, {}));
          await late.receiver("late");
          const left = sides[0].node;
          const wait = { context: "left", topic: "there", receivers: 2, timeoutMs: LIMIT_MS };
          assert.equal(await left.call("connected", wait), true);
          await late.close();
        } while (!isOver);
        await over;
        await assertWhole(sides, await sendDuring(sides, Promise.resolve()));
        for (const { node } of sides) await node.close();
      }),
  );
}
