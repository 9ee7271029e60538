/** Numbers of ZooKeeper's client (zookeeper.h). */

import { RcmError } from "../errors.ts";

export const ZkCode = {
  OK: 0,
  CONNECTION_LOSS: -4,
  TIMED_OUT: -7,
  BAD_ARGUMENTS: -8,
  NO_NODE: -101,
  NO_AUTH: -102,
  BAD_VERSION: -103,
  NODE_EXISTS: -110,
  NOT_EMPTY: -111,
  EXPIRED: -112,
  AUTH_FAILED: -113,
  INVALID_ACL: -114,
  CLOSING: -116,
  SESSION_MOVED: -118,
  READ_ONLY: -119,
} as const;

/** States of a session; also `ZkCode.EXPIRED` and `ZkCode.AUTH_FAILED`. */
export const ZkState = { CONNECTED: 3 } as const;

const words: Readonly<Record<number, string>> = {
  [ZkCode.BAD_ARGUMENTS]: "it was not understood",
  [ZkCode.NO_AUTH]: "the node belongs to another user: authenticate by " +
    '"digest:user:password@host:port" in setArbArg',
  [ZkCode.EXPIRED]: "the session has expired",
  [ZkCode.AUTH_FAILED]: "authentication failed",
  [ZkCode.INVALID_ACL]: "the servers do not take this authentication",
  [ZkCode.CLOSING]: "the session is being closed",
  [ZkCode.READ_ONLY]: "the server is cut off from the others and only reads",
};

/** Whether a request was done is not known: it, or its answer, was lost. */
export function isLost(code: number): boolean {
  return code === ZkCode.CONNECTION_LOSS || code === ZkCode.TIMED_OUT ||
    code === ZkCode.SESSION_MOVED;
}

/** @returns the error that an answer's code tells of */
export function zkError(code: number, doing: string): RcmError {
  const why = words[code] ?? "ZooKeeper refused it";
  return new RcmError("ARBITRATION", `${doing}: ${why} (ZooKeeper's code ${code})`);
}
