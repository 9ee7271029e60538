/**
 * What the tier's native member and its arbiter say to each other, as bytes: `View`, `Command`,
 * `Answer` of `native/src/tier/tree.zig`. Members are numbers there: places in the configured list.
 */

import type {
  Epoch,
  Established,
  MasterRecord,
  SessionState,
  TierView,
} from "../arbitration/arbiter.ts";
import { TierAnswer, TierCommand, TierView as ViewLayout } from "../native/abi.ts";

/** No member. */
export const NOBODY = 0xffff_ffff;
/** Somebody, but no member that can be asked: an earlier session of this node still stands. */
export const SOMEBODY = 0xffff_fffe;
/** `master` has not been made: it has no version yet. */
export const NO_VERSION = -1;

/** What the native member asks for. */
export interface Command {
  readonly kind: "campaign" | "establish" | "resign" | "read";
  readonly serial: number;
  /** Of `master`, or `NO_VERSION`. */
  readonly version: number;
  readonly epoch: Epoch;
  readonly established: Established;
}

/** How it went. */
export type Outcome = "done" | "refused" | "unknown";

const SESSIONS: Readonly<Record<SessionState, number>> = {
  closed: 0,
  connecting: 0,
  suspended: 0,
  connected: 1,
  expired: 2,
};
const KINDS = [null, "campaign", "establish", "resign", "read"] as const;
const OUTCOMES: Readonly<Record<Outcome, number>> = { done: 1, refused: 2, unknown: 3 };

/** @returns the bytes of a view, in memory that is used again by the next one */
export function createViewWriter(names: readonly string[], self: string) {
  const bytes = new Uint8Array(ViewLayout.bytes);
  const view = new DataView(bytes.buffer);
  const at = ViewLayout.fields;
  let serial = 0;
  return (tree: TierView, session: SessionState): Uint8Array<ArrayBuffer> => {
    bytes.fill(0);
    serial = (serial + 1) >>> 0;
    const record = tree.master?.record ?? null;
    view.setUint32(at.serial.offset, serial, true);
    view.setUint32(at.session.offset, SESSIONS[session], true);
    view.setInt32(at.masterVersion.offset, tree.master?.version ?? NO_VERSION, true);
    view.setUint32(at.candidate.offset, numberOf(names, record?.candidate), true);
    setEpoch(view, at.epoch.offset, record?.epoch ?? null);
    const established = record?.established ?? null;
    setEpoch(view, at.establishedEpoch.offset, established?.epoch ?? null);
    view.setUint32(at.establishedLeader.offset, numberOf(names, established?.leader), true);
    const stands = tree.running !== null && tree.running.node === self && !tree.running.mine;
    const running = stands ? SOMEBODY : numberOf(names, tree.running?.node);
    view.setUint32(at.running.offset, running, true);
    view.setBigUint64(at.established.offset, setOf(names, established?.S ?? []), true);
    view.setUint32(at.established.offset + 8, established?.need ?? 0, true);
    view.setBigUint64(at.present.offset, setOf(names, tree.members.map(({ node }) => node)), true);
    view.setUint32(at.forced.offset, numberOf(names, record?.forced?.node), true);
    return bytes;
  };
}

/** Bytes for `rcm_tier_command`, and what it wrote there. */
export function createCommandReader(names: readonly string[]) {
  const bytes = new Uint8Array(TierCommand.bytes);
  const view = new DataView(bytes.buffer);
  const at = TierCommand.fields;
  return {
    bytes,
    read(): Command {
      const kind = KINDS[view.getUint32(at.kind.offset, true)] ?? null;
      if (kind === null) throw new RangeError("the native member asked for nothing known");
      const epoch = getEpoch(view, at.epoch.offset);
      const set = view.getBigUint64(at.quorum.offset, true);
      return {
        kind,
        serial: view.getUint32(at.serial.offset, true),
        version: view.getInt32(at.version.offset, true),
        epoch,
        established: {
          epoch,
          leader: names[view.getUint32(at.leader.offset, true)] ?? "",
          S: names.filter((_, place) => (set >> BigInt(place) & 1n) === 1n).sort(),
          need: view.getUint32(at.quorum.offset + 8, true),
        },
      };
    },
  };
}

/** @returns the bytes of an answer */
export function answerBytes(
  serial: number,
  outcome: Outcome,
  version: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(TierAnswer.bytes);
  const view = new DataView(bytes.buffer);
  const at = TierAnswer.fields;
  view.setUint32(at.serial.offset, serial, true);
  view.setUint32(at.outcome.offset, OUTCOMES[outcome], true);
  view.setInt32(at.version.offset, version, true);
  return bytes;
}

/** @returns what is written into `master` by a win: it changes nothing of what stood there */
export function recordOfWin(
  command: Command,
  candidate: string,
  before: MasterRecord | null,
): MasterRecord {
  const established = before?.established ?? null;
  const record = { candidate, epoch: command.epoch, established };
  return before?.forced === undefined ? record : { ...record, forced: before.forced };
}

/** @returns what a leader writes: what an operator has forced is over with that, whoever leads */
export function recordOfLeader(command: Command, leader: string): MasterRecord {
  return { candidate: leader, epoch: command.epoch, established: command.established };
}

function numberOf(names: readonly string[], name: string | undefined): number {
  const place = name === undefined ? -1 : names.indexOf(name);
  return place < 0 ? NOBODY : place;
}

function setOf(names: readonly string[], chosen: readonly string[]): bigint {
  let set = 0n;
  for (const [place, name] of names.entries()) {
    if (chosen.includes(name)) set |= 1n << BigInt(place);
  }
  return set;
}

function setEpoch(view: DataView, offset: number, epoch: Epoch | null): void {
  view.setBigUint64(offset, BigInt(epoch?.number ?? 0), true);
  view.setBigUint64(offset + 8, BigInt(epoch?.id ?? 0), true);
}

function getEpoch(view: DataView, offset: number): Epoch {
  return {
    number: Number(view.getBigUint64(offset, true)),
    id: Number(view.getBigUint64(offset + 8, true)),
  };
}
