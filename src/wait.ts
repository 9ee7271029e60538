/**
 * Waiting for a condition of native state: room, acknowledgements, connections, the handshake.
 *
 * While somebody waits the native side wakes this thread whenever one of these changes, and each
 * wake-up looks again at all that is waited for. Nothing is polled.
 */

import type { WaitOptions } from "./api.ts";
import { RcmError } from "./errors.ts";

/** Longer time-outs are none: the runtimes' timers end here (24 days). */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Those who wait in one context. */
export interface WaitList {
  /**
   * Waits until `look` gives true.
   * @returns true, or false at the time-out and when the list ends
   * @throws RcmError `ARGUMENT` (as a rejection) for a wrong time-out; the signal's reason
   */
  wait(look: () => boolean, wait: number | WaitOptions | undefined): Promise<boolean>;
  /** Looks again for everybody. */
  check(): void;
  /** Everybody gets false, now and later. */
  end(): void;
  /** How many wait. */
  size(): number;
}

interface Entry {
  readonly look: () => boolean;
  /** Resolves, and lets go of timer and signal. */
  readonly settle: (outcome: boolean) => void;
}

/**
 * @param onInterest called with true when the first begins to wait, with false when the last left
 */
export function createWaitList(onInterest: (on: boolean) => void): WaitList {
  const entries = new Set<Entry>();
  let ended = false;

  function wait(
    look: () => boolean,
    options: number | WaitOptions | undefined,
  ): Promise<boolean> {
    const { timeoutMs, signal } = waitOptions(options);
    signal?.throwIfAborted();
    if (ended) return Promise.resolve(false);
    if (look()) return Promise.resolve(true);
    if (timeoutMs <= 0) return Promise.resolve(false);
    return new Promise<boolean>((resolve, reject) => {
      let timer: ReturnType<typeof setTimeout> | null = null;
      const leave = () => {
        entries.delete(entry);
        if (timer !== null) clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        if (entries.size === 0) onInterest(false);
      };
      const entry: Entry = {
        look,
        settle(outcome) {
          leave();
          resolve(outcome);
        },
      };
      const abort = () => {
        leave();
        reject(signal?.reason);
      };
      if (timeoutMs <= TIMER_MAX_MS) timer = setTimeout(() => entry.settle(look()), timeoutMs);
      signal?.addEventListener("abort", abort);
      entries.add(entry);
      if (entries.size === 1) onInterest(true);
      // What changed before the native side knew of the interest woke nobody.
      if (look()) entry.settle(true);
    });
  }

  return {
    // deno-lint-ignore require-await -- a throw must become a rejection
    wait: async (look, options) => wait(look, options),
    check() {
      for (const entry of [...entries]) {
        if (entries.has(entry) && entry.look()) entry.settle(true);
      }
    },
    end() {
      ended = true;
      for (const entry of [...entries]) entry.settle(false);
    },
    size: () => entries.size,
  };
}

/** @returns a wait in its long form; Infinity: no limit */
function waitOptions(
  wait: number | WaitOptions | undefined,
): { timeoutMs: number; signal: AbortSignal | undefined } {
  const options = typeof wait === "number" ? { timeoutMs: wait } : wait ?? {};
  const timeoutMs = options.timeoutMs ?? Infinity;
  if (typeof timeoutMs !== "number" || Number.isNaN(timeoutMs)) {
    throw new RcmError("ARGUMENT", `timeoutMs: a number of milliseconds, not ${timeoutMs}`);
  }
  return { timeoutMs, signal: options.signal };
}
