/**
 * The event loop's side of a running context.
 *
 * While messages flow, each turn of the loop (`setImmediate`) hands over a bounded number of them,
 * so that timers and promises go on. When nothing has come for a moment the native side is armed:
 * it then writes one byte to the waker's socket, and the loop sleeps until it does.
 */

import { performance } from "node:perf_hooks";
import type { NativeCalls } from "./native/symbols.ts";

/** What one turn of the event loop may take. */
const TURN_MESSAGES = 1024;
const TURN_MS = 1;
/**
 * While messages wait that this loop may not take (a promise or a pause holds delivery, the program
 * polls, nobody asks the iterator) arming would answer "something waits" at once; meanwhile events
 * and waits are looked after at this period.
 */
const BLOCKED_MS = 5;

/** What a pump moves. */
export interface PumpOptions {
  readonly calls: Pick<NativeCalls, "rcm_arm">;
  readonly context: number;
  /** How long after the last message the loop looks again before it sleeps. */
  readonly hotMs: number;
  /** Reads events, log lines and role changes. */
  notices(): void;
  /** Looks at everything that is waited for. */
  check(): void;
  /** True while this loop may hand over messages. */
  delivers(): boolean;
  /** Hands over messages. @returns how many */
  deliver(limit: number, deadlineMs: number): number;
}

/** Moves messages, events and waits on the event loop. */
export interface Pump {
  /** The native side has woken this thread. */
  wake(): void;
  /** Something may be handed over again: take a turn soon. */
  resume(): void;
  /** No turn is taken any more. */
  end(): void;
}

/** @returns a pump that takes its first turn soon */
export function createPump(options: PumpOptions): Pump {
  const { context, hotMs } = options;
  const arm = options.calls.rcm_arm;
  let immediate: ReturnType<typeof setImmediate> | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let inTurn = false;
  let ended = false;
  let workedAtMs = -Infinity;

  function resume(): void {
    if (ended || immediate !== null) return;
    immediate = setImmediate(() => {
      immediate = null;
      turn();
    });
  }

  function turn(): void {
    if (ended || inTurn) return;
    inTurn = true;
    if (timer !== null) clearTimeout(timer);
    timer = null;
    try {
      if (look()) resume();
    } finally {
      inTurn = false;
    }
  }

  /** @returns true when another turn shall follow at once */
  function look(): boolean {
    options.notices();
    if (ended) return false;
    const began = performance.now();
    const given = options.delivers() ? options.deliver(TURN_MESSAGES, began + TURN_MS) : 0;
    if (ended) return false;
    options.check();
    if (ended) return false;
    if (given > 0) {
      workedAtMs = performance.now();
      return true;
    }
    if (options.delivers() && began - workedAtMs < hotMs) return true;
    if (arm(context) === 0) {
      // What changed before the native side was armed woke nobody.
      options.check();
      return false;
    }
    if (options.delivers()) return true;
    timer = setTimeout(() => {
      timer = null;
      turn();
    }, BLOCKED_MS);
    return false;
  }

  resume();
  return {
    wake() {
      if (immediate === null) turn();
    },
    resume,
    end() {
      ended = true;
      if (immediate !== null) clearImmediate(immediate);
      if (timer !== null) clearTimeout(timer);
      immediate = null;
      timer = null;
    },
  };
}

/** Turns without work after which an inline context's waits sleep between looks. */
const IDLE_TURNS_MAX = 200;

/**
 * Runs a context without native threads while something is waited for.
 * @param work runs it once; gives false when it is over
 */
export function createInlineDriver(work: () => boolean): { start(): void } {
  let running = false;
  let idle = 0;
  const turn = () => {
    if (!work()) {
      running = false;
      return;
    }
    idle += 1;
    if (idle < IDLE_TURNS_MAX) setImmediate(turn);
    else setTimeout(turn, 1);
  };
  return {
    start() {
      idle = 0;
      if (running) return;
      running = true;
      setImmediate(turn);
    },
  };
}
