/**
 * Handing messages to the program, the same for all three modes.
 *
 * One native call fills a batch of descriptors; this walks it and makes one `Uint8Array` view a
 * message, nothing else. A message is processed when its handler has accepted it; until then it is
 * the next one, so a refused message is delivered again and never skipped. How many were processed
 * is told to the native side with the next call.
 */

import { performance } from "node:perf_hooks";
import { inspect } from "node:util";
import type { RcmMessage, RcmReceiverCallback } from "./api.ts";
import { createMessageCursor, plainMessage, type StreamNames } from "./message.ts";
import { descriptor } from "./native/layout.ts";
import type { Region } from "./native/memory.ts";
import type { NativeCalls } from "./native/symbols.ts";
import { createViews } from "./native/views.ts";
import { errorText } from "./observe/logger.ts";

/** Messages that one native call hands over; more gained nothing (measured). */
const BATCH = 256;
/** Pause after a refusal, doubled with each one up to the limit. */
const PAUSE_FIRST_MS = 1;
const PAUSE_MAX_MS = 100;
/** How often a lasting refusal is logged. */
const REFUSAL_LOG_MS = 1000;
/** The clock is read again after so many messages, as long as they are quick. */
const CLOCK_STEP_MAX = 32;
const CLOCK_STEP_QUICK_MS = 0.02;

/** What a delivery works on. */
export interface DeliveryOptions {
  readonly calls: Pick<NativeCalls, "rcm_drain" | "rcm_ack">;
  readonly context: number;
  readonly descriptors: Region;
  readonly log: Region;
  /** Memory of a window that is read in place, by its number in descriptors; asked for once. */
  sharedRegion(number: number): Region;
  /** Null for iterators. */
  readonly callback: RcmReceiverCallback | null;
  readonly user: unknown;
  /** True: handlers get copies (`RCM_COPY=1`). */
  readonly copy: boolean;
  /**
   * True: what was processed is told at the end of a `run`, for native threads that may wait.
   * False: with the next call; nobody but the caller of `run` moves the context.
   */
  readonly tellsAtOnce: boolean;
  /** True: processed is what `sendAck` covers; a message that was accepted is only handed over. */
  readonly isManual: boolean;
  streamNames(stream: number): StreamNames;
  /** A handler refused a message for the first time. */
  onRefused(outcome: unknown, thrown: boolean): void;
  /** It has gone on for another second. */
  onStillRefusing(refusals: number): void;
  /** What held delivery (a promise, a pause) is over. */
  onResume(): void;
}

/** The delivery of one started context. */
export interface Delivery {
  /**
   * Calls the handler for waiting messages.
   * @param limit most messages
   * @param deadlineMs `performance.now()` after which it returns; Infinity: none
   * @returns messages handed over and not refused
   */
  run(limit: number, deadlineMs: number): number;
  /** The next message as a copy, which it marks as being worked on; null: none waits. */
  take(): RcmMessage | null;
  /** Marks the message taken last as processed. */
  release(): void;
  /** Tells the native side at once what has been processed. */
  settle(): void;
  /** The same, and forgets the rest of what was handed out: somebody else may take it. */
  drop(): void;
  /** Whoever took messages before takes them again: what is not processed goes back. */
  giveBack(): void;
  /** The first message that is neither processed nor in its handler now. */
  carried(): number;
  /**
   * Everything up to `sqn` was processed, once its handlers have accepted it.
   * @returns false for what was not handed over yet
   */
  sendAck(sqn: number): boolean;
  /** True while a promise or a pause holds delivery. */
  held(): boolean;
  /** True while a promise does. */
  working(): boolean;
  /** True while the handler is being called. */
  entered(): boolean;
  /** Refusals so far. */
  refusals(): number;
  /** No handler is called any more, whatever is still under way. */
  end(): void;
}

/** @returns a delivery; nothing is delivered before its first `run` or `take` */
export function createDelivery(options: DeliveryOptions): Delivery {
  const { context, log, callback, copy, tellsAtOnce, isManual } = options;
  const drain = options.calls.rcm_drain;
  const { words, memory } = options.descriptors.first();
  const floats = new Float64Array(memory, 0, Math.floor(memory.byteLength / 8));
  const batchMax = Math.min(BATCH, Math.floor(memory.byteLength / descriptor.bytes));
  const cursor = createMessageCursor(log, options.streamNames, options.user);

  /** By number; the receive log is 0. */
  const regions: Region[] = [log];
  const views = createViews((number) =>
    regions[number] ?? (regions[number] = options.sharedRegion(number))
  );

  let count = 0; // descriptors of the batch
  let at = 0; // the first of them that is not processed
  let toldAt = 0; // the native side knows of the acceptance of those below
  let isLast = false; // nothing waited behind the batch when it was made
  let taken = false;
  let inHandler = false;
  let promised = false;
  let ended = false;
  let clockStep = 1;
  let sqnLast = -1;
  let sqnHigh = -1; // where streams have numbers of their own, they repeat

  // Manual acknowledgement: sequence numbers that follow what was accepted, what was acknowledged,
  // and what the native side knows of both.
  let acceptedNext = 0;
  let ackNext = 0;
  let ackTold = 0;

  let refusalsTotal = 0;
  let refusalsInRow = 0;
  let pauseMs = PAUSE_FIRST_MS;
  let resumeAtMs = 0;
  let logAtMs = 0;
  let timer: ReturnType<typeof setTimeout> | null = null;

  /** Makes sure that `at` is a message; false: none waits. */
  function fill(limit: number): boolean {
    if (at < count) return true;
    const told = at - toldAt;
    const max = limit < batchMax ? limit : batchMax;
    at = 0;
    toldAt = 0;
    count = 0;
    const found = drain(context, told, max);
    isLast = found < max;
    if (found <= 0) return false;
    count = found;
    return true;
  }

  /** The bytes of the message whose descriptor begins at `word`. */
  function payload(word: number): Uint8Array<ArrayBuffer> {
    const number = words[word + descriptor.region]!;
    return views.view(number, words[word + descriptor.unit]!, words[word + descriptor.length]!);
  }

  function accept(): void {
    at += 1;
    acceptedNext = sqnLast + 1;
    if (refusalsInRow > 0) {
      refusalsInRow = 0;
      pauseMs = PAUSE_FIRST_MS;
      resumeAtMs = 0;
    }
  }

  /** Tells what is both acknowledged and accepted: a refused message comes again. */
  function tellAck(): void {
    const next = Math.min(ackNext, acceptedNext);
    if (next <= ackTold) return;
    ackTold = next;
    options.calls.rcm_ack(context, next);
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

  function hold(promise: PromiseLike<unknown>): void {
    promised = true;
    const settled = (outcome: unknown, thrown: boolean) => {
      promised = false;
      if (ended) return;
      if (!thrown && accepted(outcome)) {
        accept();
        tellAck();
      } else refuse(outcome, thrown);
      if (!paused()) options.onResume();
    };
    promise.then((outcome) => settled(outcome, false), (reason) => settled(reason, true));
  }

  function paused(): boolean {
    if (resumeAtMs === 0) return false;
    if (performance.now() < resumeAtMs) return true;
    // A program that polls without a pause never lets the timer run.
    if (timer !== null) clearTimeout(timer);
    timer = null;
    resumeAtMs = 0;
    return false;
  }

  /** Hands over the message at `at`; true: it was processed, and the next may follow. */
  function deliver(handler: RcmReceiverCallback): boolean {
    const word = at * descriptor.words;
    const args = words[word + descriptor.args]!;
    const sqn = floats[at * descriptor.floats + descriptor.sqn]!;
    const view = payload(word);
    cursor.point(words[word + descriptor.header]!, words[word + descriptor.stream]!, args);
    sqnLast = sqn;
    if (sqn > sqnHigh) sqnHigh = sqn;
    let outcome: unknown;
    inHandler = true;
    try {
      outcome = handler.onMessage(copy ? view.slice() : view, sqn, args >>> 16, cursor);
    } catch (error) {
      inHandler = false;
      if (!ended) refuse(error, true);
      return false;
    }
    inHandler = false;
    if (accepted(outcome)) {
      accept();
      return true;
    }
    if (isPromise(outcome)) hold(outcome);
    else if (!ended) refuse(outcome, false);
    return false;
  }

  return {
    run(limit, deadlineMs) {
      if (callback === null || inHandler || promised || ended || paused()) return 0;
      let given = 0;
      let step = clockStep;
      let stepBegan = deadlineMs === Infinity ? 0 : performance.now();
      while (given < limit) {
        if (at === count && given > 0 && isLast && !tellsAtOnce) break;
        if (!fill(limit - given)) break;
        if (!deliver(callback)) {
          if (promised) given += 1;
          break;
        }
        given += 1;
        if (ended) break;
        step -= 1;
        if (step > 0 || deadlineMs === Infinity) continue;
        const now = performance.now();
        clockStep = now - stepBegan < CLOCK_STEP_QUICK_MS
          ? Math.min(clockStep * 2, CLOCK_STEP_MAX)
          : 1;
        if (now >= deadlineMs) break;
        step = clockStep;
        stepBegan = now;
      }
      if (isManual) tellAck();
      return given;
    },
    take() {
      if (taken) this.release();
      if (ended || !fill(batchMax)) return null;
      const word = at * descriptor.words;
      const args = words[word + descriptor.args]!;
      sqnLast = floats[at * descriptor.floats + descriptor.sqn]!;
      if (sqnLast > sqnHigh) sqnHigh = sqnLast;
      cursor.point(words[word + descriptor.header]!, words[word + descriptor.stream]!, args);
      const data = payload(word).slice();
      const message = plainMessage(data, sqnLast, args >>> 16, cursor);
      // Whoever acknowledges by itself has the copy: nothing can refuse it any more.
      if (isManual) accept();
      else taken = true;
      return message;
    },
    release() {
      if (!taken) return;
      taken = false;
      accept();
    },
    settle() {
      if (isManual) {
        // The rest of the batch stays as it is: nothing of it can go before it is acknowledged.
        if (at > toldAt) drain(context, at - toldAt, 0);
        toldAt = at;
        return tellAck();
      }
      if (at === 0) return;
      const told = at;
      const rest = count - at;
      at = 0;
      // The rest of the batch is handed out again: the native side counts from what is processed.
      count = Math.max(0, drain(context, told, rest));
    },
    drop() {
      if (at > 0) drain(context, at, 0);
      at = 0;
      count = 0;
    },
    giveBack() {
      drain(context, at, 0);
      at = 0;
      toldAt = 0;
      count = 0;
      taken = false;
    },
    carried: () => inHandler || promised || taken ? sqnLast + 1 : acceptedNext,
    sendAck(sqn) {
      if (!(Number.isInteger(sqn) && sqn >= 0 && sqn <= sqnHigh)) return false;
      if (sqn + 1 > ackNext) ackNext = sqn + 1;
      // Within a handler it waits for what the handler answers.
      if (isManual && !inHandler) tellAck();
      return true;
    },
    held: () => promised || paused(),
    working: () => promised,
    entered: () => inHandler,
    refusals: () => refusalsTotal,
    end() {
      ended = true;
      if (timer !== null) clearTimeout(timer);
      timer = null;
    },
  };
}

/** @returns what a handler gave or threw, for a log line */
export function describeOutcome(outcome: unknown, thrown: boolean): string {
  if (thrown) return errorText(outcome);
  return `returned ${inspect(outcome, { depth: 1, breakLength: Infinity })}`;
}

function accepted(outcome: unknown): boolean {
  return outcome === undefined || outcome === 0 || outcome === null;
}

function isPromise(outcome: unknown): outcome is PromiseLike<unknown> {
  return typeof outcome === "object" && outcome !== null &&
    typeof (outcome as { then?: unknown }).then === "function";
}
