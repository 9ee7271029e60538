/**
 * A context's membership in its tier, from start to stop (guide 8, 9.9.4): the arbiter, the driver
 * between it and the native member, and what `start` waits for.
 */

import type { MemberState } from "../arbitration/arbiter.ts";
import { openArbiter } from "../arbitration/open.ts";
import { performance } from "node:perf_hooks";
import type { ResolvedTier } from "../config/tier.ts";
import { RcmRole } from "../enums.ts";
import { RcmError } from "../errors.ts";
import { TierState } from "../native/abi.ts";
import { nativeError, type NativeLibrary } from "../native/library.ts";
import { createTierDriver, type TierDriver } from "./driver.ts";

/** How often what stands in `classer/<me>` is compared with what is so, in milliseconds. */
const PUBLISH_MS = 500;
/** Failures come first, then the general one. */
const START_GRACE_MS = 1000;

/** What a membership is made of. */
export interface TierOptions {
  readonly library: NativeLibrary;
  /** Of the native context, started. */
  readonly context: number;
  /** Name of the context. */
  readonly name: string;
  readonly tier: ResolvedTier;
  readonly arbitration: { readonly address: string; readonly path: string };
  /** Something went wrong that nobody waits for. */
  onFault(text: string): void;
}

/** A member of a tier. */
export interface Membership {
  /** Takes what the native member asks of the arbiter; cheap. */
  pump(): void;
  /** True: leads, or follows closely enough. */
  isStarted(): boolean;
  /** Why the start has failed; null: it has not, so far. */
  failure(): RcmError | null;
  /** The native member's state. */
  state(): TierStateView;
  /** A clean end: gives up what it holds, so that others need not wait. */
  leave(): Promise<void>;
}

/** What the native member says of itself. */
export interface TierStateView {
  readonly role: number;
  readonly started: boolean;
  readonly failure: number;
  readonly epoch: number;
  readonly next: number;
  readonly committed: number;
  /** Context id; 0: unknown. */
  readonly leaderId: number;
  readonly member: MemberState;
}

/**
 * Joins the tier.
 *
 * @throws RcmError `ARBITRATION` where the arbiter can't be reached, or another session has the
 * name; `NATIVE` without ZooKeeper's client library
 */
export async function joinTier(options: TierOptions): Promise<Membership> {
  const { library, context, name, tier, arbitration } = options;
  const { calls } = library;
  const stateBytes = new Uint8Array(TierState.bytes);
  const stateView = new DataView(stateBytes.buffer);
  const arbiter = await openArbiter(library, {
    ...arbitration,
    tier: tier.name,
    node: name,
    sessionTimeoutMilli: tier.sessionTimeoutMs,
  });
  const bound = calls.rcm_tier_bind(context, arbiter.handle);
  if (bound < 0) {
    await arbiter.close();
    throw nativeError(library, bound, `start of context ${name}`);
  }

  function state(): TierStateView {
    const result = calls.rcm_tier_state(context, stateBytes);
    if (result < 0) throw nativeError(library, result, `tier ${tier.name} of context ${name}`);
    return readState(stateView);
  }

  const driver: TierDriver = createTierDriver({
    arbiter,
    members: tier.members.map((member) => member.name),
    self: name,
    isObserver: tier.isObserver,
    native: {
      view: (bytes) => void calls.rcm_tier_view(context, bytes),
      answer: (bytes) => void calls.rcm_tier_answer(context, bytes),
      command: (bytes) => calls.rcm_tier_command(context, bytes) === 1,
    },
    state: () => state().member,
    onFault: options.onFault,
  });
  let published = "";
  const timer = setInterval(publish, PUBLISH_MS);
  const joinedMs = await driver.join().then(() => performance.now(), async (error: unknown) => {
    clearInterval(timer);
    await driver.close();
    throw error;
  });
  let lastNext = -1;
  let movedMs = joinedMs;
  let leaving: Promise<void> | null = null;

  function publish(): void {
    const text = JSON.stringify(state().member);
    if (text === published) return;
    published = text;
    driver.publish();
  }

  function failure(): RcmError | null {
    const now = state();
    if (now.started) return null;
    if (now.next !== lastNext) {
      lastNext = now.next;
      movedMs = performance.now();
    }
    const known = failureText(now.failure, tier, name);
    if (known !== null) return new RcmError("ARBITRATION", known);
    const waitedMs = performance.now() - movedMs;
    if (waitedMs < tier.startTimeoutMs + START_GRACE_MS) return null;
    return new RcmError("ARBITRATION", waitingText(now, tier, name, waitedMs));
  }

  return {
    pump: () => driver.pump(),
    isStarted: () => state().started,
    failure,
    state,
    leave() {
      leaving ??= (async () => {
        clearInterval(timer);
        calls.rcm_tier_leave(context);
        await driver.close();
        calls.rcm_tier_bind(context, -1);
      })();
      return leaving;
    },
  };
}

function readState(view: DataView): TierStateView {
  const at = TierState.fields;
  const number = (field: keyof typeof at) => Number(view.getBigUint64(at[field].offset, true));
  const small = (field: keyof typeof at) => view.getUint32(at[field].offset, true);
  const ip = view.getUint32(at.ip.offset, true);
  const octets = [ip & 255, ip >>> 8 & 255, ip >>> 16 & 255, ip >>> 24];
  const role = small("role");
  const adopted = { number: number("adoptedNumber"), id: number("adoptedId") };
  return {
    role,
    started: small("started") === 1,
    failure: small("failure"),
    epoch: number("epochNumber"),
    next: number("next"),
    committed: number("committed"),
    leaderId: small("leaderId"),
    member: {
      adopted: adopted.number === 0 ? null : adopted,
      lastSqn: number("next"),
      address: `${octets.join(".")}:${small("port")}`,
      intact: small("isIntact") === 1,
      role: roleName(role),
    },
  };
}

/** @returns the name of a role, as `RcmRole` has it */
export function roleName(role: number): string {
  return Object.entries(RcmRole).find(([, number]) => number === role)?.[0] ?? `${role}`;
}

/** `Failure` of `native/src/tier/member.zig`. */
function failureText(failure: number, tier: ResolvedTier, name: string): string | null {
  const where = `start of context ${name} in tier ${tier.name}`;
  switch (failure) {
    case 1:
      return `${where}: the recorded leader, or enough members whose logs hold what was ` +
        `committed, did not answer within StartTimeoutSecs (${
          tier.startTimeoutMs / 1000
        }); start ` +
        `the recorded leader first; if it is lost for ever: rcm tier force-leader ${name}`;
    case 2:
      return `${where}: another member's configuration of the tier differs (members, AckCount, ` +
        "SyncMode, UseCommitted, topics); give all members the same file";
    case 3:
      return `${where}: the tier's state can't be written to disk; look at the disk of RecordDir`;
    case 4:
      return `${where}: its record has messages that the tier's log has not, and they were ` +
        "delivered (SEPARATE); remove the record and join again";
    default:
      return null;
  }
}

function waitingText(
  state: TierStateView,
  tier: ResolvedTier,
  name: string,
  waitedMs: number,
): string {
  const need = tier.ackCount > 1 ? `; AckCount ${tier.ackCount} needs as many followers` : "";
  const leader = state.leaderId === 0 ? "no leader was heard" : `context ${state.leaderId} leads`;
  return `start of context ${name} in tier ${tier.name}: neither leads nor follows within ` +
    `SyncMaxDiff after ${(waitedMs / 1000).toFixed(1)} s without progress (StartTimeoutSecs): ` +
    `${leader}, own log ends at sqn ${state.next}${need}`;
}
