/** A small tree with versions, ephemerals, transactions and watches, as ZooKeeper has it. */

import type { LeaseView, SessionState } from "./arbiter.ts";

/** A node as it was read. */
export interface TreeNode {
  readonly data: string;
  /** 0 when it was made; each change adds 1. */
  readonly version: number;
  /** It goes with its session. */
  readonly ephemeral: boolean;
  /** It belongs to this session. */
  readonly mine: boolean;
}

/** A part of a transaction. */
export type TreeChange =
  | {
    readonly op: "create";
    readonly path: string;
    readonly data: string;
    readonly ephemeral?: boolean;
  }
  /** `version` -1: whichever it has. */
  | { readonly op: "set"; readonly path: string; readonly data: string; readonly version: number }
  | { readonly op: "remove"; readonly path: string; readonly version: number };

/**
 * What became of a transaction: done; or nothing was done, because a node `"exists"`, is
 * `"missing"`, has another `"version"`, or has children (`"busy"`); `"lost"`: it is not known.
 */
export type Outcome = "done" | "exists" | "missing" | "version" | "busy" | "lost";

/** What a tree tells. Called from the event loop, never inside a call. */
export interface TreeEvents {
  session(state: SessionState, why: string): void;
  /** A node that was read with `watch` changed since (once for each such reading). */
  changed(path: string): void;
  watchdog(): void;
  /** Something failed that lasts only for a moment: for the log. */
  fault(text: string): void;
}

export interface Tree {
  /** Number of the native side. */
  readonly handle: number;
  readonly session: SessionState;
  /** T as negotiated; as asked for before that. */
  readonly timeoutMilli: number;
  /**
   * Begins a session, in place of one that has expired.
   * @throws RcmError `ARBITRATION` when nobody answers in time
   */
  open(connectTimeoutMilli: number): Promise<void>;
  /** null: there is no such node. Reading waits out a lost link, for 2T. */
  get(path: string, watch: boolean): Promise<TreeNode | null>;
  /** Names, sorted; null: there is no such node. */
  children(path: string, watch: boolean): Promise<string[] | null>;
  /** All of it or nothing. */
  change(changes: readonly TreeChange[]): Promise<Outcome>;
  /** What is read after it is as new as the call. */
  sync(path: string): Promise<void>;
  /** The node of this session that the lease is written to; with `hurry` at once. */
  keep(path: string, data: string, hurry: boolean): void;
  /** `running` is this session's from now on, or no longer. */
  hold(path: string, on: boolean): void;
  lease(): LeaseView;
  /** Ends the session, without a word; `open` may begin another. */
  end(): void;
  /** Ends the session and frees the native side, within that time. */
  close(timeoutMilli: number): Promise<void>;
}

/** Longest data of a node and of a transaction; ZooKeeper drops the link at 1 MiB of both. */
export const DATA_BYTES_MAX = 1_000_000;
