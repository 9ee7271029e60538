/** What stands in the nodes, as text: checked when it is read, because anybody may write there. */

import type { Epoch, Established, MasterRecord, MemberState } from "./arbiter.ts";
import { arbitrationError } from "./native_session.ts";

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0;
const isText = (value: unknown): value is string => typeof value === "string" && value !== "";

function isEpoch(value: unknown): value is Epoch {
  return isFields(value) && isCount(value["number"]) && isCount(value["id"]);
}

function isEstablished(value: unknown): value is Established {
  if (!isFields(value) || !isEpoch(value["epoch"]) || !isText(value["leader"])) return false;
  const members = value["S"];
  return Array.isArray(members) && members.every(isText) && isCount(value["need"]);
}

function isForced(value: unknown): boolean {
  return value === undefined ||
    isFields(value) && isText(value["node"]) && isCount(value["timeMilli"]);
}

function isMaster(value: unknown): value is MasterRecord {
  if (!isFields(value) || !isText(value["candidate"]) || !isEpoch(value["epoch"])) return false;
  const established = value["established"];
  return (established === null || isEstablished(established)) && isForced(value["forced"]);
}

function isMember(value: unknown): value is MemberState {
  if (!isFields(value) || !isCount(value["lastSqn"])) return false;
  const adopted = value["adopted"];
  return (adopted === null || isEpoch(adopted)) && typeof value["address"] === "string";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * @throws RcmError `ARBITRATION` when it is none: going on as if there were none could elect a
 * leader that lacks what was committed
 */
export function readMaster(path: string, text: string): MasterRecord {
  const value = parse(text);
  if (isMaster(value)) return value;
  throw arbitrationError(
    `${path} holds no record of a tier: ${JSON.stringify(text.slice(0, 200))}; ` +
      "remove it only when no member runs (guide 8.7.2)",
  );
}

/** @returns null for what is no state of a member */
export function readMember(text: string): MemberState | null {
  const value = parse(text);
  return isMember(value) ? value : null;
}

/** The same record always gives the same text, so that texts can be compared. */
export function masterText(record: MasterRecord): string {
  const epoch = ({ number, id }: Epoch): Epoch => ({ number, id });
  const { candidate, established, forced } = record;
  return JSON.stringify({
    candidate,
    epoch: epoch(record.epoch),
    established: established === null ? null : {
      epoch: epoch(established.epoch),
      leader: established.leader,
      S: [...established.S].sort(),
      need: established.need,
    },
    ...(forced === undefined ? {} : { forced: { node: forced.node, timeMilli: forced.timeMilli } }),
  });
}

/** Whether two records say the same. */
export const sameMaster = (a: MasterRecord, b: MasterRecord): boolean =>
  masterText(a) === masterText(b);
