/** What a driver asks of a node process, and what the node reports; a line of JSON each. */

import type { RcmConfigInput, RcmStatus } from "../../../mod.ts";
import type { Sizes } from "./content.ts";

/** A run of messages: numbers `first` to `first + count - 1` of a seed. */
export interface SendRun {
  readonly context: string;
  readonly topic: string;
  readonly seed: number;
  readonly sizes: Sizes;
  readonly count: number;
  /** Default 0. */
  readonly first?: number;
  /** Default 1; 0 balances the load. */
  readonly partition?: number;
  /** Messages a second; absent: as fast as it goes. */
  readonly perSecond?: number;
  /** What to do at WOULD_BLOCK: wait for room (default), or end the run. */
  readonly whenFull?: "wait" | "stop";
  /** Writes into memory of the transmitter's allocator instead of copying. */
  readonly allocator?: boolean;
}

/** How a run ended. */
export interface SendResult {
  readonly sent: number;
  /** Times that there was no room. */
  readonly blocked: number;
  /** The answer that ended the run early; 0: all were sent. */
  readonly status: RcmStatus;
  readonly milliseconds: number;
  /** Of the last message of 1 MiB or more. */
  readonly sha256: string | null;
}

/** What a receiving context has got so far. */
export interface Counts {
  readonly messages: number;
  readonly bytes: number;
  /** Messages with a wrong byte. */
  readonly wrong: number;
  readonly streams: readonly StreamCount[];
}
export interface StreamCount extends StreamName {
  readonly messages: number;
  /** `getTxMsgNo` of the last one. */
  readonly lastNo: number;
  /** Unix milliseconds when it was delivered. */
  readonly lastMs: number;
  /** Longest time between two deliveries in milliseconds. */
  readonly longestGapMs: number;
}
export interface StreamName {
  readonly from: string;
  readonly topic: string;
  readonly partition: number;
}

/** What the process uses. */
export interface Usage {
  readonly residentBytes: number;
  /** Of all threads, user and system. */
  readonly cpuMs: number;
  readonly threads: number;
  readonly descriptors: number;
}

/** A context and one of its transmitters, and how long to wait (no limit unless told). */
interface TxWait {
  readonly context: string;
  readonly topic: string;
  readonly timeoutMs?: number;
}

/** Every command: what it takes (`in`) and what it answers (`out`). */
export interface Commands {
  /** Makes the factory. All contexts of the node are its. */
  open: {
    in: {
      config: RcmConfigInput;
      prefix: string;
      workDir: string;
      /** For `setArbArg`. */
      arbitration?: { readonly address: string; readonly path: string };
    };
    out: null;
  };
  context: { in: { context: string }; out: null };
  transmitter: {
    in: { context: string; topic: string; partitions?: readonly number[]; txArg?: number };
    out: null;
  };
  receiver: {
    in: {
      context: string;
      delivery?: "callback" | "poll" | "iterate";
      /** A history that grows as messages come, so that a node that is killed leaves it. */
      journal?: string;
      /** Topic of the context on which each message is sent on, before it counts. */
      forward?: string;
      /** Each message makes one transaction; a journal of those that were made and given. */
      results?: string;
    };
    out: null;
  };
  /** Resolves with the milliseconds that it took. */
  start: { in: { context: string; timeoutMs?: number }; out: number };
  stop: { in: { context: string }; out: null };
  /** Sends a run; other commands go on meanwhile. */
  send: { in: SendRun; out: SendResult };
  /** Ends the transmitter's run after the message it is at. */
  halt: { in: { context: string; topic: string }; out: null };
  /** How many messages the transmitter's run has had accepted so far. */
  accepted: { in: { context: string; topic: string }; out: number };
  ready: { in: TxWait; out: boolean };
  flush: { in: TxWait; out: boolean };
  connected: { in: TxWait & { receivers: number }; out: boolean };
  flag: { in: { context: string; topic: string; on: boolean }; out: null };
  /** What the handler does with a message besides checking it. */
  handler: {
    in: {
      context: string;
      /** True: its promise does not settle before this is false again. */
      paused?: boolean;
      /** Every so many messages it takes this long. */
      delayMs?: number;
      every?: number;
    };
    out: null;
  };
  counts: { in: { context: string }; out: Counts };
  /** Writes what the context has got to a file (`history.ts`). */
  history: { in: { context: string; path: string }; out: { streams: readonly StreamName[] } };
  /** `getStatistics`, parsed: of one context, or of all. */
  statistics: { in: { context?: string }; out: unknown };
  role: { in: { context: string }; out: { role: number; reliability: number; tier: string } };
  usage: { in: Record<string, never>; out: Usage };
  /** The process' forces of data to a disk fail from now on (`seccomp.ts`). */
  refuseForces: { in: Record<string, never>; out: null };
  /** Deletes the factory: stops everything. */
  close: { in: Record<string, never>; out: null };
}

/** The answer to a command. */
export interface Answer {
  readonly kind: "answer";
  readonly id: number;
  readonly value?: unknown;
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly details: readonly string[];
  };
}

/** An event of the node's factory. */
export interface EventReport {
  readonly kind: "event";
  /** A key of `RcmEventType`. */
  readonly type: string;
  readonly context: string;
  readonly peer: string;
  readonly topic: string;
  readonly partition: number;
  readonly lossStart: number;
  readonly lossEnd: number;
  /** Unix milliseconds. */
  readonly ms: number;
}

/** A line of the node's log, from INFO on. */
export interface LogReport {
  readonly kind: "log";
  readonly key: number;
  readonly level: number;
  readonly content: string;
  readonly ms: number;
}

/** A context's role has changed. */
export interface RoleReport {
  readonly kind: "role";
  readonly context: string;
  /** A key of `RcmRole`. */
  readonly role: string;
  readonly ms: number;
}

/** A message of 1 MiB or more has come. */
export interface BigReport {
  readonly kind: "big";
  readonly context: string;
  readonly from: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly isRight: boolean;
  /** Unix milliseconds of its delivery. */
  readonly ms: number;
  /** How many messages of other streams the context had got before it. */
  readonly othersBefore: number;
}

/** The node is there and takes commands. */
export interface HelloReport {
  readonly kind: "hello";
  readonly runtime: "deno" | "bun";
  readonly pid: number;
}

export type Report = Answer | EventReport | LogReport | RoleReport | BigReport | HelloReport;
