/**
 * An operator's way out of a tier whose committed messages are with members that are lost
 * (`rcm tier force-leader`): `forced` in `master` lets one member lead without the usual condition,
 * once. What it leads with is the freshest log that it reaches (`native/src/tier/election.zig`).
 */

import {
  type Arbiter,
  compareEpochs,
  type Established,
  type MasterRecord,
  type TierView,
  type WriteResult,
} from "./arbiter.ts";

/** The tree is read again while it changes, so often. */
const READS_MAX = 10;

/** What would be done, or why it can't be. */
export interface ForcePlan {
  readonly node: string;
  /** The tree that it was made from. */
  readonly view: TierView;
  /** Null: it may be done. */
  readonly refusal: string | null;
  /** What the operator should know before. */
  readonly notes: readonly string[];
}

/** @returns the node that leads: established, and its session lives */
export function leaderOf(view: TierView): string | null {
  const record = view.master?.record ?? null;
  const established = record?.established ?? null;
  if (record === null || established === null || view.running === null) return null;
  const isItsEpoch = compareEpochs(record.epoch, established.epoch) === 0;
  return isItsEpoch && view.running.node === established.leader ? established.leader : null;
}

/** @returns the members whose logs an election misses; none: it needs nobody's word */
export function missingFor(view: TierView, established: Established): readonly string[] {
  const intact = new Set(
    view.members.filter(({ state }) => state?.intact === true).map(({ node }) => node),
  );
  const missing = established.S.filter((node) => !intact.has(node));
  const isEnough = intact.has(established.leader) || missing.length <= established.need;
  return isEnough ? [] : missing;
}

/**
 * Looks whether a member may be made a leader by an operator.
 *
 * @param arbiter joined, with kind `"none"`
 */
export async function planForce(arbiter: Arbiter, node: string): Promise<ForcePlan> {
  const { view, isStill } = await readStill(arbiter);
  const notes: string[] = [];
  const plan = (refusal: string | null): ForcePlan => ({ node, view, refusal, notes });
  if (!isStill) return plan("the tree changes all the time: try again");
  const established = view.master?.record.established ?? null;
  if (established === null) {
    return plan("nothing was ever established here: its members elect a leader by themselves");
  }
  const leader = leaderOf(view);
  if (leader !== null) {
    return plan(
      `${leader} leads (epoch ${established.epoch.number}): nobody is forced beside a leader. ` +
        "If its machine is gone, its session ends within its SessionTimeoutMilli: try again then",
    );
  }
  if (view.observers.some((observer) => observer.node === node)) {
    return plan(`${node} is an observer: observers never lead`);
  }
  const isThere = view.members.some((member) => member.node === node);
  if (!isThere) {
    const isKnown = established.S.includes(node) || established.leader === node;
    notes.push(
      `${node} does not run now: it will lead when it starts, unless another member does before.` +
        (isKnown ? "" : " The tree does not know this name: see that it is a member's, as written"),
    );
  }
  if (missingFor(view, established).length === 0) {
    notes.push(
      "The members that run hold everything that was committed: they elect a leader by " +
        "themselves in a moment, unless something else keeps them from it (look at their logs)",
    );
  }
  return plan(null);
}

/**
 * `running` is read before `master`: a leader that came between the two would be in one only. With
 * the same `master` around a reading of `running` nobody won in between.
 */
async function readStill(arbiter: Arbiter): Promise<{ view: TierView; isStill: boolean }> {
  let before = await arbiter.read();
  for (let reads = 0; reads < READS_MAX; reads += 1) {
    const view = await arbiter.read();
    if (view.master?.version === before.master?.version) return { view, isStill: true };
    before = view;
  }
  return { view: before, isStill: false };
}

/**
 * Does what was planned, if the tree is still that of the plan.
 *
 * @throws RcmError `ARBITRATION`: it is not known whether it was done
 */
export async function forceLeader(arbiter: Arbiter, plan: ForcePlan): Promise<WriteResult> {
  const master = plan.view.master;
  if (master === null || plan.refusal !== null) {
    return { kind: "refused", why: plan.refusal ?? "there is no tier", view: plan.view };
  }
  const record: MasterRecord = {
    ...master.record,
    forced: { node: plan.node, timeMilli: Date.now() },
  };
  return await arbiter.establish(master.version, record);
}
