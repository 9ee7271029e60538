/** The numbered constants of the public API. Their values are the guide's and never change. */

/**
 * The role of a context in its tier (guide 9.9.6). A context on its own is `INIT` before its start
 * and `SINGLE` after it.
 */
export const RcmRole = Object.freeze(
  {
    SEPARATE: 0x00,
    INIT: 0x01,
    SYNC: 0x02,
    INACTIVE: 0x04,
    ACTIVE: 0x10,
    SINGLE: 0x11,
  } as const,
);
/** One of the values of {@linkcode RcmRole}. */
export type RcmRole = (typeof RcmRole)[keyof typeof RcmRole];

/** How reliable a context's delivery is (guide 9.9.7). */
export const RcmReliability = Object.freeze(
  {
    UNRELIABLE: 0,
    NOT_ORDERED: 1,
    ORDERED: 2,
    TIER: 3,
  } as const,
);
/** One of the values of {@linkcode RcmReliability}. */
export type RcmReliability = (typeof RcmReliability)[keyof typeof RcmReliability];

/** How much a log line matters, least first (guide 7.6). */
export const RcmLogLevel = Object.freeze(
  {
    DEBUG: 0,
    INFO: 1,
    WARN: 2,
    ERROR: 3,
    IMP: 4,
    FATAL: 5,
  } as const,
);
/** One of the values of {@linkcode RcmLogLevel}. */
export type RcmLogLevel = (typeof RcmLogLevel)[keyof typeof RcmLogLevel];

/** What an event tells of (guide 7.5 and 9.11). */
export const RcmEventType = Object.freeze(
  {
    /** A receiver has given up numbers of a stream: `getLossMsgNoStart` to `getLossMsgNoEnd`. */
    MESSAGE_LOSS: 1,
    /** The ordered log has a hole that can't be filled any more. */
    OUT_OF_SYNC: 2,
    /** A sender has been silent for longer than its heartbeat time-out. */
    HEARTBEAT_TIMEOUT: 3,
    /** The last sender of a topic and partition is gone. */
    NO_TRANSMITTER: 4,
    /** The last receiver of a topic and partition is gone. */
    NO_RECEIVER: 5,
    /** A session with a sender is agreed. */
    NEW_TRANSMITTER: 6,
    /** A session with a receiver is agreed. */
    NEW_RECEIVER: 7,
    /** Missing numbers were asked for. */
    FILL_GAP: 8,
    /** A receiver came too late for numbers that a tier's leader no longer has. */
    RECEIVER_LATE_JOIN: 9,
    /** A member of the tier no longer receives. */
    TIER_RECEIVER_DOWN: 10,
  } as const,
);
/** One of the values of {@linkcode RcmEventType}. */
export type RcmEventType = (typeof RcmEventType)[keyof typeof RcmEventType];

/** What a call of traffic answers; 0 is good. */
export const RcmStatus = Object.freeze(
  {
    /** Done. */
    OK: 0,
    /** No room in the arena or its index now: wait with `ready()`, or try again. */
    WOULD_BLOCK: 1,
    /** The message is over 2^30 bytes, or over the whole arena. */
    TOO_LARGE: 2,
    /** The system refused memory. */
    NO_MEMORY: 3,
    /** The context has not been started. */
    NOT_STARTED: 4,
    /** The context is stopping or has been stopped. */
    STOPPED: 5,
    /** The transmitter has no such partition. */
    BAD_PARTITION: 6,
    /** An argument is out of its range. */
    BAD_ARGUMENT: 7,
    /** Only the tier's leader may do this. */
    NOT_LEADER: 8,
  } as const,
);
/** One of the values of {@linkcode RcmStatus}. */
export type RcmStatus = (typeof RcmStatus)[keyof typeof RcmStatus];
