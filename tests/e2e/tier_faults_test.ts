/**
 * A tier under random faults, by `local:` arbitration on this machine: three members (Deno and Bun
 * mixed), two senders; members are killed and come back with their record or without it, are
 * stopped for longer than the session, senders are killed and go on with their window.
 *
 * One fault at a time: no more members are lost than a commit waits for, so nothing may be lost.
 * `RCM_SEED` replays the choice of faults; `RCM_LONG=1` makes 100 rounds of 10. The senders are
 * paced: the test is about order, and shares a few cores with its seven processes.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import process from "node:process";
import { hash } from "./harness/content.ts";
import { type Bed, e2e, isLong, LIMIT_MS, type Node, NodeError } from "./harness/driver.ts";
import { sleep, until } from "./harness/driver.ts";
import { checkTier, makeTier, type SenderLife, type Tier } from "./harness/tier.ts";

const seed = Number(process.env["RCM_SEED"] ?? 1 + Math.floor(Math.random() * 2 ** 31));
const ROUNDS = isLong ? 100 : 10;
const PER_SECOND = 500;
/** Of each sender, to every member, before a round is over. */
const ADVANCE = 300;
/** Longer than the session of `makeTier`. */
const PAUSE_MS = 2500;
/** None is so short that it does not say whose it is. */
const SIZES = { kind: "list", bytes: [16, 100, 1432, 5000, 300] } as const;

/** What a commit waits for, and what followers are given: each for a part of the rounds. */
const KINDS = [1, 2, -1].flatMap((AckCount) =>
  [0, 1].map((UseCommitted) => ({ AckCount, UseCommitted }))
);
const FAULTS = ["kill", "wipe", "pause", "sender"] as const;

interface Fault {
  readonly what: typeof FAULTS[number];
  readonly atLeader: boolean;
  /** Chooses the follower or the sender. */
  readonly which: number;
}

function faultOf(round: number): Fault {
  const dice = hash(seed, round);
  return {
    what: FAULTS[dice % FAULTS.length]!,
    atLeader: (dice >>> 8) % 2 === 0,
    which: (dice >>> 16) % 2,
  };
}

/** A sender: the life that runs. */
interface Sending {
  readonly node: Node;
  readonly seed: number;
  readonly run: Promise<{ sent: number; status: number }>;
}

function makeSenders(tier: Tier) {
  const lives: SenderLife[] = [];
  const now: Sending[] = [];
  let begun = 0;
  const where = (place: number) => ({ context: tier.senders[place]!, topic: "t" });

  return {
    lives,
    async start(place: number): Promise<void> {
      const node = await tier.sender(place);
      begun += 1;
      const mine = begun;
      const run = node.call("send", {
        ...where(place),
        seed: mine,
        sizes: SIZES,
        count: 1_000_000_000,
        perSecond: PER_SECOND,
      });
      now[place] = { node, seed: mine, run };
    },
    async kill(place: number): Promise<void> {
      const { node, seed } = now[place]!;
      const accepted = await node.call("accepted", where(place));
      await node.kill();
      lives.push({ sender: tier.senders[place]!, seed, accepted, isExact: false });
    },
    async finish(place: number): Promise<void> {
      const { node, seed, run } = now[place]!;
      await node.call("halt", where(place));
      const { sent, status } = await run;
      assert.equal(status, 0, "a sender sees only WOULD_BLOCK at worst");
      const flushed = await node.call("flush", { ...where(place), timeoutMs: LIMIT_MS });
      assert.equal(flushed, true, "the tier committed everything");
      lives.push({ sender: tier.senders[place]!, seed, accepted: sent, isExact: true });
    },
  };
}

/** A member is there again, and follows; where it can't agree, without its record. */
async function comeBack(tier: Tier, place: number): Promise<void> {
  try {
    await tier.start(place);
  } catch (error) {
    if (!(error instanceof NodeError && error.message.includes("SEPARATE"))) throw error;
    await beginAnew(tier, place);
  }
}

async function beginAnew(tier: Tier, place: number): Promise<void> {
  await tier.separate(place);
  tier.wipe(place);
  await tier.start(place);
}

/** Messages that a member was given of each sender. */
async function countsOf(tier: Tier, place: number): Promise<number[]> {
  const { name, node } = tier.members[place]!;
  const { streams } = await node!.call("counts", { context: name });
  return tier.senders.map((sender) =>
    (streams.find(({ from }) => from === sender)?.lastNo ?? -1) + 1
  );
}

/** One leads, the others follow, and all are given more of both senders. */
async function heal(tier: Tier): Promise<void> {
  for (const [place, { node }] of tier.members.entries()) {
    if (node!.roles.at(-1)?.role === "SEPARATE") await beginAnew(tier, place);
  }
  await tier.settled();
  const all = await Promise.all(tier.members.map((_, place) => countsOf(tier, place)));
  for (const [at, sender] of tier.senders.entries()) {
    await tier.delivered(sender, Math.max(...all.map((counts) => counts[at]!)) + ADVANCE);
  }
}

/** @returns when another member leads */
async function another(tier: Tier, place: number): Promise<void> {
  await until(
    () => ![null, place].includes(tier.leader()),
    () => `another than ${tier.members[place]!.name} leads`,
  );
}

async function pause(tier: Tier, place: number, wasLeader: boolean): Promise<void> {
  const member = tier.members[place]!;
  member.isAway = true;
  member.node!.freeze();
  await sleep(PAUSE_MS); // the fault: longer than the session
  if (wasLeader) await another(tier, place);
  member.node!.thaw();
  member.isAway = false;
  // It learns that it was away before it is believed.
  if (wasLeader) await until(() => isNoLeader(member.node!), () => `${member.name} steps down`);
}

function isNoLeader({ roles }: Node): boolean {
  const role = roles.at(-1)?.role;
  return role !== "ACTIVE" && role !== "SINGLE";
}

async function round(
  tier: Tier,
  senders: ReturnType<typeof makeSenders>,
  { what, atLeader, which }: Fault,
): Promise<void> {
  const leader = await tier.settled();
  const place = atLeader ? leader : (leader + 1 + which) % tier.members.length;
  if (what === "sender") {
    await senders.kill(which);
    await senders.start(which);
  } else if (what === "pause") await pause(tier, place, atLeader);
  else {
    await tier.kill(place);
    if (atLeader) await another(tier, place);
    if (what === "wipe") tier.wipe(place);
    await comeBack(tier, place);
  }
  await heal(tier);
}

async function rounds(bed: Bed, kind: typeof KINDS[number], first: number): Promise<void> {
  const path = `/ack${kind.AckCount}-${kind.UseCommitted}`;
  const arbitration = { address: `local:${join(bed.folder, "arbiter")}`, path };
  const tier = makeTier(bed, { members: 3, senders: 2, arbitration, values: kind });
  await Promise.all([0, 1, 2].map((place) => tier.start(place)));
  const senders = makeSenders(tier);
  await senders.start(0);
  await senders.start(1);
  await heal(tier);
  for (let no = first; no < ROUNDS; no += KINDS.length) {
    const fault = faultOf(no);
    console.log(`round ${no}: ${JSON.stringify({ ...kind, ...fault })}`);
    await round(tier, senders, fault);
  }
  for (const place of [0, 1]) await senders.finish(place);
  const counts = await Promise.all(tier.members.map((_, place) => countsOf(tier, place)));
  for (const [at, sender] of tier.senders.entries()) {
    await tier.delivered(sender, Math.max(...counts.map((of) => of[at]!)));
  }
  for (const { node, name } of tier.members) await node!.call("stop", { context: name });
  const history = checkTier(tier, {}, senders.lives);
  const separated = tier.members.reduce((sum, member) => sum + member.separated.size, 0);
  console.log(`${path}: ${JSON.stringify({ ...history, separated })}`);
}

for (const [first, kind] of KINDS.entries()) {
  const { AckCount, UseCommitted } = kind;
  const name = `local: faults, AckCount ${AckCount}, UseCommitted ${UseCommitted}`;
  e2e(`${name}, RCM_SEED=${seed}`, async (bed) => await rounds(bed, kind, first));
}
