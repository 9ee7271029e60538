/** What a program of the benchmarks is told and what it answers: one JSON text each way. */

import type { HistogramText } from "./histogram.ts";

/** Parts that programs play; each is in `worker.ts` and in `native/bench/ours.zig`. */
export type Role =
  | "ping"
  | "pong"
  | "flood"
  | "sink"
  | "paced"
  | "paced_sink"
  | "large"
  | "large_sink"
  | "start"
  /** Records in one life of a context and takes it again in the next; not in Zig. */
  | "replay";

/** What both kinds of programs are told; times are in nanoseconds. */
export interface Job {
  readonly role: Role;
  /** Bytes of a message. */
  readonly bytes?: number;
  /** Messages before measuring begins. */
  readonly warm?: number;
  /** Messages measured. */
  readonly count?: number;
  /** Receivers that a sender waits for. */
  readonly receivers?: number;
  /** Time between two messages; absent: as fast as it goes. */
  readonly everyNs?: number;
  /** The program shares its core and gives it away when nothing has come. */
  readonly shares?: boolean;
  /** A large message is copied in and read within the time measured. */
  readonly readsAll?: boolean;
}

/** What a program in Deno or Bun is told besides. */
export interface ScriptJob extends Job {
  /** Path of the configuration. */
  readonly config: string;
  readonly context: string;
  /** In front of the names of files in `/dev/shm`. */
  readonly prefix: string;
  readonly delivery: "poll" | "callback";
  /** Folder for logs. */
  readonly workDir: string;
}

/** One line of JSON that a measuring program ends with. */
export type Answer =
  | { readonly kind: "latency" } & HistogramText
  | { readonly kind: "rate"; readonly messages: number; readonly ns: number }
  | { readonly kind: "time"; readonly ns: number }
  | { readonly kind: "times"; readonly ns: readonly number[] }
  | {
    readonly kind: "copy";
    readonly bytes: number;
    readonly coldNs: number;
    readonly warmNs: number;
    readonly readNs: number;
  }
  | {
    readonly kind: "paced";
    readonly messages: number;
    readonly ns: number;
    readonly gaps: number;
    readonly all: HistogramText;
    readonly behind: HistogramText;
  };
