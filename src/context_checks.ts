/** What the set-up calls of a context refuse, and what their arguments mean. */

import process from "node:process";
import type { RcmReceiverCallback, RcmTierSyncCallback, ReceiverOptions } from "./api.ts";
import type { ResolvedTx, ResolvedTxPartition } from "./config/mod.ts";
import { RcmError } from "./errors.ts";
import { type ContextPlan, type Injection, parseInjection } from "./plan.ts";
import type { DeliveryMode } from "./receiver.ts";

/** What a `createTransmitter` asks for. */
export interface WantedTx {
  readonly plan: ResolvedTx;
  /** Ascending by number. */
  readonly partitions: readonly ResolvedTxPartition[];
  readonly txArg: number;
}

/** What a `createReceiver` asks for. */
export interface WantedRx {
  readonly delivery: DeliveryMode;
  /** Processed is what `sendAck` covers. */
  readonly isManual: boolean;
}

/**
 * Reads the arguments of `createTransmitter`.
 * @throws RcmError `ARGUMENT` naming what was wrong
 */
export function checkTransmitter(
  plan: ContextPlan,
  topic: string,
  partitionNos: readonly number[] | null | undefined,
  txArg: number,
): WantedTx {
  const where = `createTransmitter of context ${plan.context.name}`;
  const tx = plan.tx.find((candidate) => candidate.topic === topic);
  if (tx === undefined) {
    const known = plan.tx.map((candidate) => candidate.topic).join(", ");
    throw new RcmError(
      "ARGUMENT",
      `${where}: topic ${JSON.stringify(topic)} is not in its TxTopics (${known || "none"})`,
    );
  }
  if (!Number.isInteger(txArg) || txArg < 0 || txArg > 0xffff) {
    throw new RcmError("ARGUMENT", `${where}: txArg is 0..65535, not ${String(txArg)}`);
  }
  return { plan: tx, partitions: choosePartitions(where, tx.partitions, partitionNos), txArg };
}

function choosePartitions(
  where: string,
  configured: readonly ResolvedTxPartition[],
  wanted: readonly number[] | null | undefined,
): readonly ResolvedTxPartition[] {
  if (wanted === null || wanted === undefined) return configured;
  const known = configured.map((partition) => partition.partitionNo);
  if (!Array.isArray(wanted) || wanted.length === 0) {
    throw new RcmError(
      "ARGUMENT",
      `${where}: partitionNos is a list of at least one partition, or null for all`,
    );
  }
  for (const [index, partitionNo] of wanted.entries()) {
    if (!known.includes(partitionNo)) {
      throw new RcmError(
        "ARGUMENT",
        `${where}: partition ${String(partitionNo)} is not configured, ${known.join(", ")} are`,
      );
    }
    if (wanted.indexOf(partitionNo) !== index) {
      throw new RcmError("ARGUMENT", `${where}: partition ${partitionNo} is named twice`);
    }
  }
  return configured.filter((partition) => wanted.includes(partition.partitionNo));
}

/**
 * Reads the arguments of `createReceiver`.
 * @returns who runs the receiver, and who says what was processed
 * @throws RcmError `ARGUMENT` naming what was wrong
 */
export function checkReceiver(
  plan: ContextPlan,
  cb: RcmReceiverCallback | null,
  wanted: ReceiverOptions,
): WantedRx {
  const where = `createReceiver of context ${plan.context.name}`;
  const delivery = wanted.delivery ?? "callback";
  const ack = wanted.ack ?? "auto";
  if (plan.rx.length === 0) throw new RcmError("ARGUMENT", `${where}: it has no RxTopics`);
  if (delivery !== "callback" && delivery !== "poll" && delivery !== "iterate") {
    throw new RcmError(
      "ARGUMENT",
      `${where}: delivery is "callback", "poll" or "iterate", not ${JSON.stringify(delivery)}`,
    );
  }
  if (ack !== "auto" && ack !== "manual") {
    throw new RcmError(
      "ARGUMENT",
      `${where}: ack is "auto" or "manual", not ${JSON.stringify(ack)}`,
    );
  }
  if (plan.context.threading === "inline" && delivery !== "poll") {
    throw new RcmError(
      "ARGUMENT",
      `${where}: delivery "${delivery}" needs native threads, and Threading is "inline"; ` +
        'use delivery "poll"',
    );
  }
  if (cb === null ? delivery !== "iterate" : typeof cb?.onMessage !== "function") {
    throw new RcmError("ARGUMENT", `${where}: a callback with onMessage is needed`);
  }
  if (ack === "manual" && !plan.context.isTotalOrder) {
    throw new RcmError(
      "ARGUMENT",
      `${where}: ack "manual" needs IsTotalOrder 1, and it is 0: without a total order no ` +
        "sequence number covers all streams",
    );
  }
  return { delivery, isManual: ack === "manual" };
}

/**
 * Reads the arguments of `createTierSync`.
 * @throws RcmError `ARGUMENT` naming what was wrong
 */
export function checkTierSync(
  plan: ContextPlan,
  startTransNo: number,
  cb: RcmTierSyncCallback,
): void {
  const where = `createTierSync of context ${plan.context.name}`;
  if (plan.tier === null || plan.tier.syncMode === 0) {
    const is = plan.tier === null ? "it is a single node" : "SyncMode is 0";
    throw new RcmError(
      "ARGUMENT",
      `${where}: ${is}; results are replicated in a tier with SyncMode 1 or 2`,
    );
  }
  if (!Number.isSafeInteger(startTransNo) || startTransNo < 0) {
    throw new RcmError(
      "ARGUMENT",
      `${where}: startTransNo is an integer from 0, not ${String(startTransNo)}`,
    );
  }
  if (typeof cb?.onSyn !== "function") {
    throw new RcmError("ARGUMENT", `${where}: a callback with onSyn is needed`);
  }
}

/**
 * What a start with `SyncMode` 1 or 2 needs.
 * @throws RcmError `STATE` naming the call that was forgotten
 */
export function checkResults(
  plan: ContextPlan,
  made: { readonly hasReceiver: boolean; readonly hasTierSync: boolean },
): void {
  const mode = plan.tier?.syncMode ?? 0;
  if (mode === 0 || made.hasReceiver && made.hasTierSync) return;
  const missing = made.hasReceiver ? "createTierSync" : "createReceiver";
  throw new RcmError(
    "STATE",
    `start of context ${plan.context.name}: SyncMode ${mode} needs ${missing} before it`,
  );
}

/**
 * Reads the arguments of `setInitParam`.
 * @returns the first sequence number that is replayed
 * @throws RcmError `ARGUMENT`
 */
export function checkInitParam(plan: ContextPlan, key: string, value: string): number {
  if (key !== "replay_start_point") {
    throw new RcmError(
      "ARGUMENT",
      `setInitParam: the only key is "replay_start_point", not ${JSON.stringify(key)}`,
    );
  }
  if (typeof value !== "string" || !/^[0-9]+$/.test(value)) {
    throw new RcmError(
      "ARGUMENT",
      `setInitParam: replay_start_point is a decimal number, not ${JSON.stringify(value)}`,
    );
  }
  if (plan.tier !== null && plan.tier.syncMode !== 0 && Number(value) !== 0) {
    throw new RcmError(
      "UNSUPPORTED",
      `setInitParam: replay_start_point of context ${plan.context.name}: with SyncMode ` +
        `${plan.tier.syncMode} startTransNo of createTierSync says what is given again`,
    );
  }
  // Larger numbers are beyond any record's end all the same.
  return Math.min(Number(value), Number.MAX_SAFE_INTEGER);
}

/**
 * The faults that `RCM_INJECT` asks for.
 * @throws RcmError `ARGUMENT` when it can't be read
 */
export function readInjection(): Injection {
  try {
    return parseInjection(process.env["RCM_INJECT"]);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RcmError("ARGUMENT", reason, { cause });
  }
}
