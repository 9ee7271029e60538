/** Events: what happens to a context's peers and streams, told to the program (guide 7.5, 9.11). */

import { RcmError } from "../errors.ts";
import type { RcmEventType } from "../enums.ts";
import { LogKey } from "./log_texts.ts";
import { errorText, isPromiseLike, type LogSink } from "./logger.ts";

/** Something that happened; immutable, may be kept. Getters that do not apply give "" or 0. */
export interface RcmEvent {
  getEventType(): RcmEventType;
  /** Name of the context it happened in. */
  getRcmContext(): string;
  /** Name of the context on the other side. */
  getPeerName(): string;
  getTopicName(): string;
  getPartitionNo(): number;
  /** First number of the range that it tells of. */
  getLossMsgNoStart(): number;
  /** Last number of that range; it belongs to the range. */
  getLossMsgNoEnd(): number;
}

/** Is told of events (guide 9.12). */
export interface RcmEventCallback {
  /**
   * One event, on the event loop of the thread that made the factory. A throw is logged (23001)
   * and has no other effect.
   * @param user what was given to `setEventCallback`
   */
  onEvent(user: unknown, event: RcmEvent): void;
}

/** What an event is made of; what is left out does not apply. */
export interface EventFields {
  readonly type: RcmEventType;
  readonly context: string;
  readonly peer?: string;
  readonly topic?: string;
  readonly partitionNo?: number;
  readonly lossStart?: number;
  readonly lossEnd?: number;
}

/** Hands events to whoever was set last. */
export interface EventHub {
  /** `RcmFactory.setEventCallback` (guide 9.13.8): at any time; null: nobody. */
  setEventCallback(callback: RcmEventCallback | null, user?: unknown): void;
  /** Tells of an event; without a callback it is forgotten. Never throws. */
  emit(fields: EventFields): void;
}

/** @returns an event that never changes */
export function createEvent(fields: EventFields): RcmEvent {
  const { type, context } = fields;
  const peer = fields.peer ?? "";
  const topic = fields.topic ?? "";
  const partitionNo = fields.partitionNo ?? 0;
  const lossStart = fields.lossStart ?? 0;
  const lossEnd = fields.lossEnd ?? 0;
  return Object.freeze({
    getEventType: () => type,
    getRcmContext: () => context,
    getPeerName: () => peer,
    getTopicName: () => topic,
    getPartitionNo: () => partitionNo,
    getLossMsgNoStart: () => lossStart,
    getLossMsgNoEnd: () => lossEnd,
  });
}

/** @param log takes what a callback throws */
export function createEventHub(log: Pick<LogSink, "log">): EventHub {
  let callback: RcmEventCallback | null = null;
  let user: unknown;

  function threw(error: unknown, context: string): void {
    log.log(LogKey.EVENT_CALLBACK_THREW, { error: errorText(error) }, context);
  }

  return {
    setEventCallback(next, nextUser) {
      const given: unknown = next ?? null;
      if (given !== null && typeof (given as { onEvent?: unknown }).onEvent !== "function") {
        throw new RcmError("ARGUMENT", "setEventCallback: the callback has no method onEvent");
      }
      callback = next ?? null;
      user = callback === null ? undefined : nextUser;
    },
    emit(fields) {
      if (callback === null) return;
      const { context } = fields;
      try {
        const result: unknown = callback.onEvent(user, createEvent(fields));
        // An async callback passes for a `void` one; its rejection must not end the program.
        if (isPromiseLike(result)) {
          result.then(undefined, (error: unknown) => threw(error, context));
        }
      } catch (error) {
        threw(error, context);
      }
    },
  };
}
