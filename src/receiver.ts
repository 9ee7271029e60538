/** Receiving (guide 9.4): acknowledgements, and messages as an iterator. */

import type { RcmMessage, RcmReceiver } from "./api.ts";
import type { TrafficGate } from "./allocator.ts";
import { RcmStatus } from "./enums.ts";
import { RcmError } from "./errors.ts";
import type { Delivery } from "./delivery.ts";

/** How the program takes its messages. */
export type DeliveryMode = "callback" | "poll" | "iterate";

/** A receiver as its context sees it. */
export interface ContextReceiver extends RcmReceiver {
  /** The context runs: messages come from here. */
  onStarted(delivery: Delivery): void;
  /** Serves iterators that wait for a message. @returns messages handed over */
  feed(): number;
  /** True while an iterator waits for a message. */
  hungry(): boolean;
  /** Ends the iterator and everything that it waits for. */
  end(): void;
}

interface Waiter {
  resolve(result: IteratorResult<RcmMessage>): void;
  reject(reason: unknown): void;
}

/**
 * @param mode who runs it
 * @param gate the context's state
 * @param onHungry an iterator has begun to wait
 */
export function createReceiver(
  mode: DeliveryMode,
  gate: TrafficGate,
  onHungry: () => void,
): ContextReceiver {
  let delivery: Delivery | null = null;
  let ended = false;
  /** The iterator in use, by the function that ends it. */
  let leave: ((reason?: { readonly error: unknown }) => void) | null = null;
  const waiters: Waiter[] = [];

  function messages(signal: AbortSignal | undefined): AsyncIterableIterator<RcmMessage> {
    if (mode !== "iterate") {
      throw new RcmError("STATE", `this receiver's delivery is "${mode}", not "iterate"`);
    }
    if (leave !== null) throw new RcmError("STATE", "this receiver has an iterator already");
    let over = ended;
    /** Told once to whoever asks next, then the iterator has ended. */
    let failure: { readonly error: unknown } | null = null;

    const abort = () => finish({ error: signal?.reason });
    const finish = (reason?: { readonly error: unknown }) => {
      if (over) return;
      over = true;
      signal?.removeEventListener("abort", abort);
      leave = null;
      delivery?.release();
      if (!ended) delivery?.settle();
      const waiting = waiters.splice(0);
      if (reason !== undefined && waiting.length === 0) failure = reason;
      waiting.forEach((waiter, index) => {
        if (reason !== undefined && index === 0) waiter.reject(reason.error);
        else waiter.resolve({ done: true, value: undefined });
      });
    };
    if (!over) {
      if (signal?.aborted) {
        over = true;
        failure = { error: signal.reason };
      } else {
        leave = finish;
        signal?.addEventListener("abort", abort);
      }
    }

    return {
      next() {
        if (failure !== null) {
          const { error } = failure;
          failure = null;
          return Promise.reject(error);
        }
        if (over) return Promise.resolve({ done: true, value: undefined });
        if (waiters.length === 0) {
          const message = delivery?.take() ?? null;
          if (message !== null) return Promise.resolve({ done: false, value: message });
        }
        return new Promise((resolve, reject) => {
          waiters.push({ resolve, reject });
          onHungry();
        });
      },
      return() {
        finish();
        return Promise.resolve({ done: true, value: undefined });
      },
      throw(error) {
        finish();
        return Promise.reject(error);
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  return {
    sendAck(ackSqn) {
      if (gate.status !== RcmStatus.OK) return gate.status;
      return delivery?.sendAck(ackSqn) === true ? RcmStatus.OK : RcmStatus.BAD_ARGUMENT;
    },
    messages: (options) => messages(options?.signal),
    [Symbol.asyncIterator]: () => messages(undefined),
    onStarted(started) {
      delivery = started;
    },
    feed() {
      let fed = 0;
      while (waiters.length > 0) {
        const message = delivery?.take() ?? null;
        if (message === null) break;
        waiters.shift()!.resolve({ done: false, value: message });
        fed += 1;
      }
      return fed;
    },
    hungry: () => waiters.length > 0,
    end() {
      ended = true;
      leave?.();
    },
  };
}
