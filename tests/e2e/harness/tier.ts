/**
 * A tier of node processes: members in Deno and Bun by turns, each with a folder and a journal for
 * each of its lives, and the comparison of all that was ever delivered.
 */

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { RcmConfigInput } from "../../../mod.ts";
import { type Bed, LIMIT_MS, type Node, runtimes, until } from "./driver.ts";
import type { Host } from "./hosts.ts";
import { type JournalEntry, readJournal } from "./journal.ts";

/** What a tier of a test is. */
export interface TierWish {
  readonly members: number;
  readonly senders: number;
  readonly arbitration: { readonly address: string; readonly path: string };
  /** Values of all members. */
  readonly values?: Record<string, unknown>;
  /** Values of one member. */
  readonly of?: (place: number) => Record<string, unknown>;
  readonly transport?: Record<string, unknown>;
  /** Topic on which every member sends on what it is given; context "sink" receives it. */
  readonly forward?: string;
  /** Each message makes one transaction (`SyncMode` 1 and 2). */
  readonly results?: boolean;
  /** By member, then by sender. */
  readonly hosts?: readonly Host[];
}

/** A member: the life that runs, and what earlier ones have left. */
export interface TierMember {
  readonly name: string;
  readonly workDir: string;
  readonly journals: string[];
  /** Of transactions, a life each. */
  readonly results: string[];
  /** Lives that ended in SEPARATE, by journal, with the range that the tier does not have. */
  readonly separated: Map<string, { readonly first: number; readonly last: number }>;
  node: Node | null;
  /** Stopped by SIGSTOP: it is not asked, and its last role is an old one. */
  isAway: boolean;
  /** The first of its lives that had the record it has now. */
  recordSince: number;
}

/** A tier of a test. */
export interface Tier {
  readonly config: RcmConfigInput;
  readonly members: readonly TierMember[];
  readonly senders: readonly string[];
  /** A life of a member begins; resolves when `start` does. */
  start(place: number): Promise<Node>;
  kill(place: number): Promise<void>;
  /** The record of a member that does not run is gone. */
  wipe(place: number): void;
  /** A member is in SEPARATE: notes the range that its OUT_OF_SYNC has told, and kills it. */
  separate(place: number): Promise<void>;
  /** A node with a sender; its window goes on where an earlier one of the name was. */
  sender(place: number): Promise<Node>;
  /** Place of the member whose last role is ACTIVE or SINGLE, of those that run. */
  leader(): number | null;
  /** Waits until one leads and all others that run follow. */
  settled(limitMs?: number): Promise<number>;
  /** Waits until every running member was given so many messages of a sender. */
  delivered(sender: string, count: number, limitMs?: number): Promise<void>;
}

const SESSION_MS = 1000;

/** Starts nothing yet. */
export function makeTier(bed: Bed, wish: TierWish): Tier {
  const names = Array.from({ length: wish.members }, (_, i) => `m${i + 1}`);
  const senders = Array.from({ length: wish.senders }, (_, i) => `s${i + 1}`);
  const { forward } = wish;
  const config = bed.config({
    transports: forward === undefined ? [{}] : [{}, { Topic: forward }],
    transport: wish.transport ?? {},
    contexts: [
      ...senders.map((Name) => ({ Name, TxTopics: [{ Name: "t" }] })),
      ...names.map((Name, place) => ({
        Name,
        IsSingleton: 0,
        TierName: "tier",
        SyncAddr: `${bed.group.split(".").slice(0, 3).join(".")}.253`,
        SyncPort: bed.port + 5,
        UseSameMachine: 1,
        SyncHeartbeatIntervalMilli: 200,
        SyncHeartbeatTimeoutMilli: 1000,
        SyncAckIntervalMilli: 100,
        SyncAckTimeoutMilli: 2000,
        SessionTimeoutMilli: SESSION_MS,
        StartTimeoutSecs: 20,
        IsRecord: 1,
        RecordSegmentMBytes: 16,
        RxTopics: [{ Name: "t" }],
        ...(forward === undefined ? {} : { TxTopics: [{ Name: forward }] }),
        ...wish.values,
        ...wish.of?.(place),
      })),
      ...(forward === undefined ? [] : [{ Name: "sink", RxTopics: [{ Name: forward }] }]),
    ],
  });
  const members: TierMember[] = names.map((name) => ({
    name,
    workDir: join(bed.folder, `work-${name}`),
    journals: [],
    results: [],
    separated: new Map(),
    node: null,
    isAway: false,
    recordSince: 0,
  }));

  function roleOf(member: TierMember): string | null {
    return member.node?.roles.at(-1)?.role ?? null;
  }

  const running = () => members.filter(({ node, isAway }) => node !== null && !isAway);

  function leader(): number | null {
    const place = members.findIndex((member) => {
      const role = roleOf(member);
      return !member.isAway && (role === "ACTIVE" || role === "SINGLE");
    });
    return place < 0 ? null : place;
  }

  function hostOf(place: number): { host: Host } | Record<string, never> {
    const host = wish.hosts?.[place];
    return host === undefined ? {} : { host };
  }

  return {
    config,
    members,
    senders,
    async start(place) {
      const member = members[place]!;
      const node = await bed.node(runtimes[place % 2]!, config, {
        arbitration: wish.arbitration,
        workDir: member.workDir,
        ...hostOf(place),
      });
      member.node = node;
      const journal = join(bed.folder, `${member.name}-${member.journals.length}.journal`);
      member.journals.push(journal);
      const results = join(bed.folder, `${member.name}-${member.results.length}.results`);
      member.results.push(results);
      await node.receiver(member.name, {
        journal,
        ...(wish.results === true ? { results } : {}),
        ...(forward === undefined ? {} : { forward }),
      });
      return node;
    },
    async kill(place) {
      const member = members[place]!;
      const node = member.node;
      member.node = null;
      await node?.kill();
    },
    wipe(place) {
      const member = members[place]!;
      assert.equal(member.node, null, `${member.name} does not run`);
      rmSync(member.workDir, { recursive: true, force: true });
      member.recordSince = member.journals.length;
    },
    async separate(place) {
      const member = members[place]!;
      const { lossStart, lossEnd } = await member.node!.event({ type: "OUT_OF_SYNC" });
      // Lives of the same record were given the same.
      for (const path of member.journals.slice(member.recordSince)) {
        member.separated.set(path, { first: lossStart, last: lossEnd });
      }
      await this.kill(place);
    },
    async sender(place) {
      const node = await bed.node(runtimes[(place + 1) % 2]!, config, {
        workDir: join(bed.folder, `work-${senders[place]}`),
        ...hostOf(wish.members + place),
      });
      await node.sender(senders[place]!);
      return node;
    },
    leader,
    async settled(limitMs = LIMIT_MS) {
      await until(
        () => {
          const place = leader();
          if (place === null) return false;
          const others = running().filter((member) => member !== members[place]);
          return others.every((member) => roleOf(member) === "INACTIVE") &&
            (others.length === 0 || roleOf(members[place]!) === "ACTIVE");
        },
        () => `one leads, the others follow: ${members.map(roleOf).join(", ")}`,
        limitMs,
      );
      return leader()!;
    },
    async delivered(sender, count, limitMs = LIMIT_MS) {
      for (const member of running()) {
        await until(
          async () => {
            const { streams } = await member.node!.call("counts", { context: member.name });
            const last = streams.find(({ from }) => from === sender)?.lastNo ?? -1;
            return last >= count - 1;
          },
          () => `${member.name} was given ${count} messages of ${sender}`,
          limitMs,
        );
      }
    },
  };
}

/** A run of messages that a life of a sender has sent. */
export interface SenderLife {
  readonly sender: string;
  /** Of this life only; its messages are of at least 16 bytes. */
  readonly seed: number;
  readonly accepted: number;
  /** False: it was killed, and may have accepted more after it was asked. */
  readonly isExact: boolean;
}

/** What the comparison has found. */
export interface TierHistory {
  /** One past the last sqn that anybody was given. */
  readonly next: number;
  readonly deliveries: number;
  readonly lives: number;
}

/**
 * Compares all lives of all members: sqn to message and time is one function; each life's sqns are
 * contiguous from 0 on (replay included); every stream's numbers are contiguous, each once. What a
 * life that ended in SEPARATE was given in the range it told is compared with nothing.
 *
 * @param expected how many messages each sender's calls have accepted; absent: not compared
 * @param lives of senders, in their order; absent: not compared
 */
export function checkTier(
  tier: Tier,
  expected: Readonly<Record<string, number>> = {},
  senderLives: readonly SenderLife[] = [],
): TierHistory {
  const order = new Map<number, JournalEntry>();
  let deliveries = 0;
  let lives = 0;
  let next = 0;
  for (const member of tier.members) {
    for (const path of member.journals) {
      const entries = readJournal(path);
      const range = member.separated.get(path);
      lives += 1;
      deliveries += entries.length;
      entries.forEach((entry, at) => {
        const where = `${member.name}, life ${member.journals.indexOf(path)}`;
        assert.equal(entry.sqn, at, `${where}: place ${at} has sqn ${entry.sqn}`);
        assert.ok(entry.isRight, `${where}: sqn ${entry.sqn} has a wrong byte`);
        if (range !== undefined && entry.sqn >= range.first) {
          assert.ok(entry.sqn <= range.last, `${where}: given ${entry.sqn}, behind OUT_OF_SYNC`);
          return;
        }
        const known = order.get(entry.sqn);
        if (known === undefined) order.set(entry.sqn, entry);
        else {
          assert.deepEqual(what(entry), what(known), `${where}: sqn ${entry.sqn} is another`);
        }
        next = Math.max(next, entry.sqn + 1);
      });
    }
  }
  const numbers = new Map<string, number>();
  const runs = new Map<number, number>();
  for (let sqn = 0; sqn < next; sqn += 1) {
    const entry = order.get(sqn);
    assert.ok(entry !== undefined, `sqn ${sqn} was given to nobody`);
    const due = numbers.get(entry.from) ?? 0;
    assert.equal(entry.no, due, `sqn ${sqn}: ${entry.from} ${entry.no}, ${due} was due`);
    numbers.set(entry.from, due + 1);
    const index = runs.get(entry.seed) ?? 0;
    if (senderLives.length > 0) {
      assert.equal(entry.index, index, `sqn ${sqn}: ${entry.from}, seed ${entry.seed}`);
    }
    runs.set(entry.seed, index + 1);
  }
  for (const [sender, count] of Object.entries(expected)) {
    assert.equal(numbers.get(sender) ?? 0, count, `messages of ${sender}`);
  }
  for (const { sender, seed, accepted, isExact } of senderLives) {
    const got = runs.get(seed) ?? 0;
    const isAll = isExact ? got === accepted : got >= accepted;
    assert.ok(isAll, `${sender}, seed ${seed}: ${accepted} accepted, ${got} delivered`);
  }
  return { next, deliveries, lives };
}

function what({ from, no, timeMs, seed, index }: JournalEntry) {
  return { from, no, timeMs, seed, index };
}
