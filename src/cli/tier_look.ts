/** Tiers as `rcm members` and the demo show them: the arbiter's tree, and counters files. */

import type { MemberView, TierView } from "../arbitration/arbiter.ts";
import { leaderOf } from "../arbitration/force_leader.ts";
import { listTiers, openOutside, type OutsideTier, type TiersPlace } from "../arbitration/tiers.ts";
import { nativeLibrary } from "../native/library.ts";
import { roleName } from "../tier/tier.ts";
import { COUNTERS_FOLDER, type CountersLook, readAllCounters } from "./counters_file.ts";

/** A member or an observer. */
export interface MemberLook {
  readonly node: string;
  readonly kind: "member" | "observer";
  /** It runs: its node is in `classer` or `observer`. */
  readonly isThere: boolean;
  /** A commit may need it. */
  readonly isInSync: boolean;
  /** Name of its `RcmRole`; null: it has not said, or is not there. */
  readonly role: string | null;
  /** Number of the epoch whose leader's log it has taken over. */
  readonly epoch: number | null;
  /** The next sqn of its log. */
  readonly sqn: number | null;
  /** By how much the leader's log is longer; null: not known. */
  readonly lag: number | null;
  readonly isIntact: boolean | null;
  readonly address: string | null;
  /** It runs on this machine, for this user: what it counts, a tenth of a second old. */
  readonly here: {
    readonly pid: number;
    readonly runtime: string;
    readonly committed: number;
    readonly delivered: number;
  } | null;
}

/** A tier. */
export interface TierLook {
  readonly tier: string;
  /** Leads: established, and its session lives. */
  readonly leader: string | null;
  /** Who stands for election, or leads. */
  readonly running: string | null;
  /** Of the last win. */
  readonly epoch: number;
  /** What stands of the last leader; null: there was none yet. */
  readonly established: {
    readonly epoch: number;
    readonly leader: string;
    readonly S: readonly string[];
    readonly need: number;
  } | null;
  /** Whom an operator lets lead (`rcm tier force-leader`), until somebody does. */
  readonly forced: string | null;
  readonly members: readonly MemberLook[];
}

/** Somebody who looks again and again. */
export interface TiersWatcher {
  readonly tiers: readonly string[];
  look(): Promise<TierLook[]>;
  close(): Promise<void>;
}

/**
 * Opens a session for each tier.
 *
 * @param names these tiers only; none: all that are below the path
 * @param folder where counters files lie
 * @throws RcmError `ARGUMENT`, `ARBITRATION`
 */
export async function watchTiers(
  place: TiersPlace,
  names: readonly string[] = [],
  folder: string = COUNTERS_FOLDER,
): Promise<TiersWatcher> {
  const library = nativeLibrary();
  const known = await listTiers(library, place);
  const tiers = names.length === 0 ? known : known.filter((name) => names.includes(name));
  const opened: OutsideTier[] = [];
  const close = async () => void await Promise.all(opened.map((tier) => tier.close()));
  try {
    for (const name of tiers) opened.push(await openOutside(library, place, name));
  } catch (error) {
    await close();
    throw error;
  }
  return {
    tiers,
    async look() {
      const { looks } = readAllCounters(folder);
      return await Promise.all(
        opened.map(async (tier) => lookAt(tier.name, await tier.read(), looks)),
      );
    },
    close,
  };
}

/** @returns what is to be shown of a tier */
export function lookAt(
  tier: string,
  view: TierView,
  counters: readonly CountersLook[],
): TierLook {
  const record = view.master?.record ?? null;
  const established = record?.established ?? null;
  const leader = leaderOf(view);
  const inSync = new Set(established?.S ?? []);
  const there = new Set(view.members.map(({ node }) => node));
  const away = [...inSync].filter((node) => !there.has(node))
    .map((node): MemberView => ({ node, state: null }));
  const looks = [
    ...[...view.members, ...away].sort((a, b) => a.node < b.node ? -1 : 1)
      .map((member) => memberLook(tier, "member", member, there.has(member.node), counters)),
    ...view.observers.map((member) => memberLook(tier, "observer", member, true, counters)),
  ];
  const head = looks.find(({ node }) => node === leader)?.sqn ?? null;
  const lagOf = (sqn: number | null) =>
    head === null || sqn === null ? null : Math.max(0, head - sqn);
  return {
    tier,
    leader,
    running: view.running?.node ?? null,
    epoch: record?.epoch.number ?? 0,
    established: established === null ? null : {
      epoch: established.epoch.number,
      leader: established.leader,
      S: established.S,
      need: established.need,
    },
    forced: record?.forced?.node ?? null,
    members: looks.map((look) => ({
      ...look,
      isInSync: inSync.has(look.node),
      lag: lagOf(look.sqn),
    })),
  };
}

function memberLook(
  tier: string,
  kind: MemberLook["kind"],
  { node, state }: MemberView,
  isThere: boolean,
  counters: readonly CountersLook[],
): MemberLook {
  const own = counters.filter(({ names }) => names.context === node && names.tierName === tier);
  // Two of that name belong to two trees: which is whose is not known.
  const here = isThere && own.length === 1 ? own[0]! : null;
  const deliver = here?.snapshot.deliver;
  return {
    node,
    kind,
    isThere,
    isInSync: false,
    role: here === null ? state?.role ?? null : roleName(here.snapshot.header.role),
    epoch: state === null ? null : state.adopted?.number ?? 0,
    sqn: deliver?.nextMsgSqn ?? state?.lastSqn ?? null,
    lag: null,
    isIntact: state?.intact ?? null,
    address: state?.address ?? null,
    here: here === null || deliver === undefined ? null : {
      pid: here.names.pid,
      runtime: here.names.runtime,
      committed: deliver.committedSqn,
      delivered: deliver.nextMsgSqnDeliver,
    },
  };
}
