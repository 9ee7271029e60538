/**
 * What a context needs of the configuration, and the text that starts its native side.
 *
 * The names in it are those of the native side's JSON reader; all are required.
 */

import type { ResolvedContext, ResolvedTx, ResolvedTxPartition } from "./config/mod.ts";

/** Everything that a context asks of its configuration. */
export type ContextPlan = Pick<
  ResolvedContext,
  "context" | "isRecord" | "record" | "tier" | "tx" | "rx"
>;

/** A created transmitter: its topic, and the chosen of its partitions. */
export interface ChosenTx {
  readonly plan: ResolvedTx;
  readonly partitions: readonly ResolvedTxPartition[];
  readonly txArg: number;
  /** A socket that is bound to the fixed `RepairPort` already; -1: none. */
  readonly repairFd: number;
}

/** Faults that the native side puts into received and sent datagrams: a tool for tests. */
export interface Injection {
  readonly dropPpm: number;
  readonly delayPpm: number;
  readonly duplicatePpm: number;
  readonly seed: number;
}

/** No faults. */
export const NO_INJECTION: Injection = { dropPpm: 0, delayPpm: 0, duplicatePpm: 0, seed: 0 };

/**
 * Reads `RCM_INJECT`, for example `"drop=0.02,duplicate=0.01,delay=0.01,seed=7"`: fractions of
 * datagrams, and the seed of the choice.
 * @throws RangeError naming what can't be read
 */
export function parseInjection(text: string | undefined): Injection {
  if (text === undefined || text.trim() === "") return NO_INJECTION;
  const injection = { ...NO_INJECTION };
  for (const part of text.split(",")) {
    const [key = "", value = ""] = part.split("=").map((side) => side.trim());
    const number = value === "" ? NaN : Number(value);
    if (key === "seed" && Number.isInteger(number) && number >= 0 && number < 2 ** 32) {
      injection.seed = number;
    } else if (isFault(key) && number >= 0 && number <= 1) {
      injection[`${key}Ppm`] = Math.round(number * 1e6);
    } else {
      throw new RangeError(
        `RCM_INJECT: "${part}" is not drop=, duplicate= or delay= with a fraction 0..1, nor ` +
          "seed= with an integer",
      );
    }
  }
  return injection;
}

function isFault(key: string): key is "drop" | "delay" | "duplicate" {
  return key === "drop" || key === "delay" || key === "duplicate";
}

/** How the program takes its messages; `"none"`: it has no receiver. */
export type Deliver = "callback" | "poll" | "iterate" | "none";

/** Where a start records, and from where on it delivers again. */
export interface RecordStart {
  /** Absolute; the context's folder is made in it. */
  readonly directory: string;
  readonly replayFrom: number;
}

/** What a start adds to the plan. */
export interface StartOptions {
  /** What stands in front of file names in `/dev/shm`. */
  readonly prefix: string;
  readonly deliver: Deliver;
  readonly tx: readonly ChosenTx[];
  readonly injection: Injection;
  readonly record: RecordStart | null;
  /** The program says what it has processed (`sendAck`). */
  readonly isManual: boolean;
  /** What the counters' file says of names and places. */
  readonly countersText: string;
  /** Absolute: where a tier's member keeps its state; "" for a single node. */
  readonly stateDirectory: string;
  /** The first transaction that the program is given (`SyncMode` 1 and 2); absent: 0. */
  readonly startTransNo?: number;
}

/** @returns the JSON text for `rcm_context_start` */
export function startText(plan: ContextPlan, options: StartOptions): string {
  const { prefix, deliver, tx, injection, record, isManual, countersText } = options;
  const tier = {
    stateDirectory: `${options.stateDirectory}/`,
    startTransNo: options.startTransNo ?? 0,
  };
  return JSON.stringify({
    ...plan.context,
    prefix,
    deliver,
    ackManual: isManual,
    recordDirectory: record === null ? "" : `${record.directory}/`,
    recordFileBytes: plan.record.fileBytes,
    recordSync: plan.record.sync,
    replayFrom: record?.replayFrom ?? 0,
    countersText,
    tier: plan.tier === null ? null : { ...plan.tier, ...tier },
    injectDropPpm: injection.dropPpm,
    injectDelayPpm: injection.delayPpm,
    injectDuplicatePpm: injection.duplicatePpm,
    injectSeed: injection.seed,
    tx: tx.map(({ plan: { topic }, partitions, txArg, repairFd }) => ({
      topic,
      txArg,
      partitions: partitions.map((partition) => ({ ...partition, repairFd })),
    })),
    rx: deliver === "none" ? [] : plan.rx,
  });
}
