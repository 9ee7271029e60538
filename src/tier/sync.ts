/**
 * Results that a tier's leader replicates (`SyncMode` 1 and 2, guide 9.6 and 9.7): `sync` at the
 * leader, `onSyn` at the others, and the role, which is told when its turn has come.
 */

import { performance } from "node:perf_hooks";
import type { TrafficGate } from "../allocator.ts";
import type { RcmTierSync, RcmTierSyncCallback } from "../api.ts";
import { RcmStatus } from "../enums.ts";
import type { NativeCalls } from "../native/symbols.ts";

/** Pause after a refusal, doubled with each one up to the limit (as for messages). */
const PAUSE_FIRST_MS = 1;
const PAUSE_MAX_MS = 100;
/** How often a lasting refusal is logged. */
const REFUSAL_LOG_MS = 1000;
/** Transactions grow the buffer; it begins with this. */
const BUFFER_BYTES = 64 * 1024;
/** The next number, to the native side. */
const COUNTED = -1;

/** What the object is made of. */
export interface TierSyncOptions {
  readonly calls: Pick<NativeCalls, "rcm_tier_sync" | "rcm_tier_syn">;
  readonly gate: TrafficGate;
  readonly startTransNo: number;
  readonly callback: RcmTierSyncCallback;
  readonly user: unknown;
  /** True: what was given is applied when `sendAck` covers it. */
  isManual(): boolean;
  /** The program was told that it leads. */
  leads(): boolean;
  /** The first message that a transaction made now does not cover. */
  carried(): number;
  /** A handler refused a transaction for the first time. */
  onRefused(outcome: unknown, thrown: boolean): void;
  /** It has gone on for another second. */
  onStillRefusing(refusals: number): void;
  /** What held transactions (a promise, a pause) is over, or `sendAck` came. */
  onResume(): void;
}

/** As its context sees it. */
export interface ContextTierSync extends RcmTierSync {
  readonly startTransNo: number;
  readonly callback: RcmTierSyncCallback;
  /**
   * Gives the program what waits.
   * @returns transactions that were accepted
   */
  run(limit: number, deadlineMs: number): number;
  /** A promise or a pause holds transactions. */
  held(): boolean;
  /** True while the handler is being called. */
  entered(): boolean;
  /** How often transactions were refused. */
  refusals(): number;
  /** Nothing is given any more. */
  end(): void;
}

/** @returns the object; the context calls `run` once it is started */
export function createTierSync(options: TierSyncOptions): ContextTierSync {
  const { calls, gate, callback, user, startTransNo } = options;
  const told = new Float64Array(2); // number and length
  const toldBytes = new Uint8Array(told.buffer);
  let buffer = new Uint8Array(BUFFER_BYTES);
  let hasAccepted = false; // the native side does not know yet
  let lastGiven = -1;
  let lastAcked = -1;
  let inHandler = false;
  let promised = false;
  let ended = false;
  let refusalsTotal = 0;
  let refusalsInRow = 0;
  let pauseMs = PAUSE_FIRST_MS;
  let resumeAtMs = 0;
  let logAtMs = 0;
  let timer: ReturnType<typeof setTimeout> | null = null;

  function isSettled(): boolean {
    return !options.isManual() || lastAcked >= lastGiven;
  }

  /** Asks for the next one, and tells that the one before was accepted. */
  function ask(): number {
    const accepted = hasAccepted ? 1 : 0;
    hasAccepted = false;
    const settled = isSettled() ? 1 : 0;
    return calls.rcm_tier_syn(gate.context, accepted, settled, buffer, buffer.length, toldBytes);
  }

  /** @returns the next transaction, a copy; null: none waits */
  function next(): Uint8Array<ArrayBuffer> | null {
    if (ask() !== 1) return null;
    const length = told[1]!;
    if (length > buffer.length) {
      buffer = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
      if (ask() !== 1) return null;
    }
    return buffer.slice(0, length);
  }

  function accept(): void {
    hasAccepted = true;
    refusalsInRow = 0;
    pauseMs = PAUSE_FIRST_MS;
    resumeAtMs = 0;
  }

  function refuse(outcome: unknown, thrown: boolean): void {
    const now = performance.now();
    refusalsTotal += 1;
    refusalsInRow += 1;
    resumeAtMs = now + pauseMs;
    timer = setTimeout(() => {
      timer = null;
      resumeAtMs = 0;
      options.onResume();
    }, pauseMs);
    pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS);
    if (refusalsInRow === 1) {
      logAtMs = now + REFUSAL_LOG_MS;
      options.onRefused(outcome, thrown);
    } else if (now >= logAtMs) {
      logAtMs = now + REFUSAL_LOG_MS;
      options.onStillRefusing(refusalsInRow);
    }
  }

  function paused(): boolean {
    if (resumeAtMs === 0) return false;
    if (performance.now() < resumeAtMs) return true;
    if (timer !== null) clearTimeout(timer);
    timer = null;
    resumeAtMs = 0;
    return false;
  }

  function hold(promise: PromiseLike<unknown>): void {
    promised = true;
    const settled = (outcome: unknown, thrown: boolean) => {
      promised = false;
      if (ended) return;
      if (!thrown && isAccepted(outcome)) accept();
      else refuse(outcome, thrown);
      if (!paused()) options.onResume();
    };
    promise.then((outcome) => settled(outcome, false), (reason) => settled(reason, true));
  }

  /** True: accepted, and the next may follow. */
  function give(data: Uint8Array<ArrayBuffer>, transNo: number): boolean {
    if (transNo > lastGiven) lastGiven = transNo;
    let outcome: unknown;
    inHandler = true;
    try {
      outcome = callback.onSyn(data, transNo, user);
    } catch (error) {
      inHandler = false;
      if (!ended) refuse(error, true);
      return false;
    }
    inHandler = false;
    if (isAccepted(outcome)) {
      accept();
      return true;
    }
    if (isPromise(outcome)) hold(outcome);
    else if (!ended) refuse(outcome, false);
    return false;
  }

  return {
    startTransNo,
    callback,
    sync(data, transNo = COUNTED, _copyData = false) {
      if (gate.status !== RcmStatus.OK) return gate.status;
      const isNumber = Number.isSafeInteger(transNo) && transNo >= COUNTED;
      if (!(data instanceof Uint8Array) || !isNumber) return RcmStatus.BAD_ARGUMENT;
      if (!options.leads()) return RcmStatus.NOT_LEADER;
      const { buffer: memory, byteOffset, byteLength } = data;
      const bytes = memory instanceof ArrayBuffer
        ? new Uint8Array(memory, byteOffset, byteLength)
        : data.slice();
      const status = calls.rcm_tier_sync(
        gate.context,
        bytes,
        bytes.byteLength,
        transNo,
        options.carried(),
      );
      return status as RcmStatus;
    },
    sendAck(transNo) {
      if (gate.status !== RcmStatus.OK) return gate.status;
      if (!(Number.isInteger(transNo) && transNo >= 0 && transNo <= lastGiven)) {
        return RcmStatus.BAD_ARGUMENT;
      }
      if (transNo > lastAcked) {
        lastAcked = transNo;
        // Within a handler `run` goes on anyway.
        if (!inHandler) options.onResume();
      }
      return RcmStatus.OK;
    },
    run(limit, deadlineMs) {
      if (inHandler || promised || ended || paused()) return 0;
      let given = 0;
      while (given < limit) {
        const data = next();
        if (data === null || !give(data, told[0]!)) break;
        given += 1;
        if (ended) break;
        if (deadlineMs !== Infinity && performance.now() >= deadlineMs) break;
      }
      return given;
    },
    held: () => promised || paused(),
    entered: () => inHandler,
    refusals: () => refusalsTotal,
    end() {
      ended = true;
      if (timer !== null) clearTimeout(timer);
      timer = null;
    },
  };
}

function isAccepted(outcome: unknown): boolean {
  return outcome === undefined || outcome === 0 || outcome === null;
}

function isPromise(outcome: unknown): outcome is PromiseLike<unknown> {
  return typeof outcome === "object" && outcome !== null &&
    typeof (outcome as { then?: unknown }).then === "function";
}
