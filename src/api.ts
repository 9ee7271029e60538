/**
 * The interfaces of the public surface (guide chapters 7 and 9 in TypeScript).
 *
 * Set-up calls throw `RcmError`; `send*`, `poll` and `sendAck` never throw for conditions of
 * traffic, they return a number. Message and sequence numbers are safe integers that begin at 0.
 */

import type { RcmLogLevel, RcmReliability, RcmRole, RcmStatus } from "./enums.ts";
import type { RcmConfig } from "./config/mod.ts";
import type { RcmEventCallback } from "./observe/events.ts";
import type { RcmLogger } from "./observe/logger.ts";

/** How long to wait. */
export interface WaitOptions {
  /** Milliseconds; absent: without limit; 0: just look. */
  timeoutMs?: number | undefined;
  /** When it aborts, the wait rejects with its reason; nothing else changes. */
  signal?: AbortSignal | undefined;
}

/** Owns the contexts of one configuration (guide 7.1, 9.13). */
export interface RcmFactory extends AsyncDisposable {
  /**
   * Creates a context that is configured under `name` (guide 9.13.1).
   * @throws RcmError `ARGUMENT` for an unknown name or a template (with the nearest name), `STATE`
   * when the name is already open in this process, `UNSUPPORTED` for keys that nothing acts on yet
   */
  newRcmContext(name: string): RcmContext;
  /** Stops a context of this factory and forgets it (guide 9.13.2). */
  deleteRcmContext(c: RcmContext): Promise<void>;
  /** The configuration, after templates (guide 9.13.3). */
  getConfig(): RcmConfig;
  /**
   * The state of senders, receivers and delivery as JSON text (guide 9.13.4).
   * @param request JSON text; absent or `{}`: all contexts; `{"Context": name}`: that one
   * @throws RcmError `ARGUMENT` when the request is not JSON
   */
  getStatistics(request?: string): string;
  /**
   * Sets the lowest level that is logged and who gets the lines (guide 7.6); at any time.
   * @param minLevel lines below it are dropped; INFO until set
   * @param logger absent or null: files in `<workDir>/log`
   */
  setLogArg(minLevel: RcmLogLevel, logger?: RcmLogger | null): void;
  /**
   * Sets where arbitration lives (guide 9.13.6); before the first context.
   * @throws RcmError `STATE` after the first context, `UNSUPPORTED` until there are tiers
   */
  setArbArg(address: string, path: string): void;
  /** Sets who is told of events (guide 7.5); at any time; null: nobody. Nothing earlier is kept. */
  setEventCallback(cb: RcmEventCallback | null, user?: unknown): void;
  /**
   * Sets what stands in front of the names of files in `/dev/shm` (guide 9.13.8); before the first
   * context. A `/` in it makes folders.
   * @throws RcmError `STATE` after the first context, `ARGUMENT` for a prefix that is no path there
   */
  setFilePrefix(prefix: string): void;
}

/** A node of the bus: its transmitters and its receiver (guide 7.2, 9.9). */
export interface RcmContext extends AsyncDisposable {
  /**
   * Creates the sender of a topic; before `start()` (guide 9.9.1).
   * @param topic one of the context's `TxTopics`
   * @param partitionNos partitions to send to; null or absent: all that are configured
   * @param txArg 0..65535, handed to receivers with every message (guide 9.5.1)
   * @throws RcmError `ARGUMENT`, `STATE` (the topic has one, or the context was started), `SOCKET`
   * when `RepairPort` is taken
   */
  createTransmitter(
    topic: string,
    partitionNos?: readonly number[] | null,
    txArg?: number,
  ): RcmTransmitter;
  /**
   * Creates the receiver of all `RxTopics`; before `start()`, once (guide 9.9.2).
   * @param cb gets the messages; null only with `delivery: "iterate"`
   * @param user what `RcmMsgInfo.getUserArg()` gives
   * @throws RcmError `ARGUMENT`, `STATE`
   */
  createReceiver(
    cb: RcmReceiverCallback | null,
    user?: unknown,
    options?: ReceiverOptions,
  ): RcmReceiver;
  /**
   * Creates the object that replicates results in a tier with `SyncMode` 1 or 2 (guide 9.9.3);
   * before `start()`, once. Such a context needs it, and a receiver. Only the leader's handler gets
   * messages; the others get what it makes of them.
   * @param startTransNo the first transaction that this start is given, of those that the tier has;
   * where it has none, the number of the first one
   * @param cb gets transactions that others made, and roles
   * @param user what `onSyn` is given
   * @throws RcmError `ARGUMENT` (also where `SyncMode` is 0), `STATE`
   */
  createTierSync(startTransNo: number, cb: RcmTierSyncCallback, user?: unknown): RcmTierSync;
  /**
   * Opens files and sockets and begins to run (guide 9.9.4). With `IsHandshake: 1` and a blank
   * window it waits for the configured receivers, at most `StartTimeoutSecs`. A failed start has
   * released everything and may be called again.
   * @throws RcmError `STATE` when started or stopped before, `SHM`, `SOCKET`, `TIMEOUT`
   */
  start(options?: WaitOptions): Promise<void>;
  /**
   * Ends sending, waits until what was accepted is acknowledged (at most `AckTimeoutMilli`) and
   * releases everything (guide 9.9.5). No callback runs after it has resolved. Allowed inside a
   * callback, which may await it.
   */
  stop(): Promise<void>;
  /**
   * Delivers messages in the caller's thread (`delivery: "poll"`); with `Threading: "inline"` also
   * does the network's work, for a context that only sends too.
   * @param limit most messages to deliver; absent or below 1: 1024
   * @returns messages handed over; 0 before start, after stop, inside a callback and in other modes
   */
  poll(limit?: number): number;
  /** The role (guide 9.9.6): INIT before `start()`, then SINGLE for a single node. */
  getRole(): RcmRole;
  /** What the context guarantees (guide 9.9.7). */
  getReliability(): RcmReliability;
  /** The tier's name (guide 9.9.8); for a single node the context's own. */
  getTierName(): string;
  /**
   * Sets the first sequence number to be replayed (guide 9.9.9); before `start()`.
   * @throws RcmError `ARGUMENT` unless a decimal number, `UNSUPPORTED` with `SyncMode` 1 and 2,
   * where `startTransNo` takes its place
   */
  setInitParam(key: "replay_start_point", value: string): void;
  /**
   * What a Worker opens a lane with (`openLane`, guide 7.2.7); once the context is started.
   * @param threadNo the lane's number: the place of its topic in `RxTopics`, from 0
   * @throws RcmError `ARGUMENT` (no such lane, `IsTotalOrder: 1`), `STATE` (not started, or without
   * a receiver)
   */
  laneToken(threadNo: number): RcmLaneToken;
}

/** Sends the messages of one topic (guide 9.3). */
export interface RcmTransmitter {
  /**
   * The allocator of a thread number (guide 9.3.1); the same number gives the same object.
   * @param threadNo 0..63
   * @throws RcmError `ARGUMENT`
   */
  getAllocator(threadNo: number): RcmAllocator;
  /**
   * Sends what was written into the allocator's memory, without a copy (guide 9.3.2).
   * @param a an allocator of this transmitter with an unsent `malloc`
   * @param length bytes, at most the size asked for; 0 is a message
   * @param partitionNo 1..65535, or 0: the partitions in turn; absent: 1
   * @param msgArg 0..65535, what `RcmMsgInfo.getMsgArg()` gives
   * @returns `RcmStatus`; after anything but OK the reservation stays and may be sent again
   */
  send(a: RcmAllocator, length: number, partitionNo?: number, msgArg?: number): RcmStatus;
  /**
   * Sends a copy (guide 9.3.3); `data` may be reused when it returns. A string goes as UTF-8.
   * Parameters and result as for `send`.
   */
  sendData(data: Uint8Array | string, partitionNo?: number, msgArg?: number): RcmStatus;
  /**
   * False: messages take numbers and are kept, but nothing is told of them (guide 9.3.4). True
   * again: receivers see the jump and repair it from the cache.
   */
  setSendFlag(flag: boolean): void;
  /**
   * Waits until the message that was refused last would fit (none refused: any room).
   * @returns false at the time-out or `stop()`
   */
  ready(wait?: number | WaitOptions): Promise<boolean>;
  /**
   * Waits until every connected receiver, and at least one, has acknowledged all that was sent
   * before the call.
   * @returns false at the time-out or `stop()`
   */
  flush(wait?: number | WaitOptions): Promise<boolean>;
  /**
   * Waits until so many receivers have an agreed session on every partition.
   * @param receivers absent: 1
   * @returns false at the time-out or `stop()`
   */
  connected(receivers?: number, wait?: number | WaitOptions): Promise<boolean>;
  /**
   * Lets another thread of this process send on this transmitter: post the token to a Worker,
   * which gives it to {@linkcode openSender}.
   * @param threadNo 0..63; one sender at a time has it. `getAllocator`'s numbers are apart.
   * @throws RcmError `ARGUMENT` for another number, `STATE` before `start()` and after `stop()`
   */
  senderToken(threadNo: number): RcmSenderToken;
}

/** Memory for messages of one thread number (guide 9.2). */
export interface RcmAllocator {
  /**
   * Reserves memory for one message; an unsent reservation is forgotten.
   * @param size bytes, 0..2^30
   * @returns a view to write the message into, dead after a good `send`; null: no room now, the
   * size is out of range, or the context is not running
   */
  malloc(size: number): Uint8Array<ArrayBuffer> | null;
  /**
   * Changes the reservation's size and keeps its bytes; the memory may move.
   * @returns the view, or null: nothing is reserved, or no room (the reservation stays as it was)
   */
  realloc(size: number): Uint8Array<ArrayBuffer> | null;
}

/** Receives the messages of all the context's `RxTopics` (guide 9.4). */
export interface RcmReceiver extends AsyncIterable<RcmMessage> {
  /**
   * Confirms all messages up to a sequence number (guide 9.4.1). With `ack: "manual"` this is what
   * makes them processed: their senders keep them until then, whatever handlers have returned.
   * Delivery does not wait for it. A message that its handler refuses, or still works on, is
   * processed once it is accepted too. At any time, in any order, also within the handler.
   * @returns 0, also for what is confirmed already; BAD_ARGUMENT above the last one delivered
   */
  sendAck(ackSqn: number): RcmStatus;
  /**
   * The messages as copies, one at a time (`delivery: "iterate"` only). Asking for the next, or
   * leaving the loop, marks the last one processed. One iterator at a time.
   * @throws RcmError `STATE` in another mode, or while there is another iterator
   */
  messages(options?: { signal?: AbortSignal | undefined }): AsyncIterableIterator<RcmMessage>;
}

/** How a receiver acknowledges and who runs it. */
export interface ReceiverOptions {
  /**
   * `"auto"` (default): a message is processed when its handler has accepted it. `"manual"`: when
   * `sendAck` covers it; senders are told of what was processed instead of what was received, and
   * keep the rest. Needs `IsTotalOrder: 1`.
   */
  ack?: "auto" | "manual";
  /** Absent: `"callback"`. */
  delivery?: "callback" | "poll" | "iterate";
}

/** Gets messages (guide 9.5). */
export interface RcmReceiverCallback {
  /**
   * One message.
   * @param data view of native memory, read-only, valid until the handler returns or first awaits;
   * `data.slice()` keeps it; writing to it is a bug that may end the process
   * @param msgSqn the context's own contiguous count
   * @param txArg what the sender gave `createTransmitter`
   * @param info more about it, one reused object
   * @returns 0 or nothing: processed. Anything else, a throw or a rejection: the same message is
   * delivered again after a short pause and never skipped. A promise holds the context's delivery.
   */
  onMessage(
    data: Uint8Array<ArrayBuffer>,
    msgSqn: number,
    txArg: number,
    info: RcmMsgInfo,
  ): number | void | Promise<number | void>;
  /** The context's role has changed (guide 9.5.2). */
  onRoleChanged?(role: RcmRole): void;
}

/** About a message (guide 9.8); valid as long as the message's `data`. */
export interface RcmMsgInfo {
  /** The topic that it came on. */
  getTopicName(): string;
  /** The partition that it came on, 1..65535. */
  getPartitionNo(): number;
  /** What was given to `createReceiver` as `user`. */
  getUserArg(): unknown;
  /** Name of the context that sent it. */
  getTxContextName(): string;
  /** The sender's number: contiguous from 0 per (sender context, topic, partition). */
  getTxMsgNo(): number;
  /** Unix time in milliseconds at which it was ordered. */
  getMsgTimeMilli(): number;
  /** The receiving lane, from 0; 0 in an ordered context. */
  getThreadNo(): number;
  /** What the sender gave with the message, 0..65535. */
  getMsgArg(): number;
}

/** A message of an iterator: a plain object that may be kept. */
export interface RcmMessage {
  /** Its bytes, a copy. */
  data: Uint8Array<ArrayBuffer>;
  /** The context's own contiguous count. */
  msgSqn: number;
  /** What the sender gave `createTransmitter`, 0..65535. */
  txArg: number;
  /** The topic that it came on. */
  topicName: string;
  /** The partition that it came on, 1..65535. */
  partitionNo: number;
  /** Name of the context that sent it. */
  txContextName: string;
  /** The sender's number: contiguous from 0 per (sender context, topic, partition). */
  txMsgNo: number;
  /** Unix time in milliseconds at which it was ordered. */
  msgTimeMilli: number;
  /** The receiving lane, from 0; 0 in an ordered context. */
  threadNo: number;
  /** What the sender gave with the message, 0..65535. */
  msgArg: number;
}

/** Names a lane for a Worker; plain, structured-cloneable, good until the context stops. */
export interface RcmLaneToken {
  /** Tells tokens apart. */
  readonly kind: "rcm-lane";
  /** The layout that both sides must have. */
  readonly abi: string;
  /** The native number of what it names. */
  readonly handle: number;
  /** The lane's number. */
  readonly threadNo: number;
}

/** A lane opened in a Worker. */
export interface RcmLane extends AsyncDisposable {
  /** The lane's number, from 0. */
  readonly threadNo: number;
  /** As `RcmContext.poll`, for this lane. */
  poll(limit?: number): number;
  /** As `RcmReceiver.sendAck`, for this lane. */
  sendAck(ackSqn: number): RcmStatus;
}

/** Names a transmitter for a Worker; plain, structured-cloneable, good until the context stops. */
export interface RcmSenderToken {
  /** Tells tokens apart. */
  readonly kind: "rcm-sender";
  /** The layout that both sides must have, and the process in which `handle` means something. */
  readonly abi: string;
  /** The native number of what it names. */
  readonly handle: number;
  /** The sender's number. */
  readonly threadNo: number;
}

/**
 * A transmitter opened in a Worker (or once more in its own thread), with an allocator of its own.
 *
 * It sends on the same windows as the transmitter: what one sender sends keeps its order, and
 * everything has one order. When the context stops, what was accepted goes out, and from then on
 * it answers STOPPED; so it does after it was disposed of. A Worker that is ended without disposing
 * of it gives its thread number back when its thread has ended.
 */
export type RcmSender =
  & Pick<RcmTransmitter, "send" | "sendData" | "ready" | "flush">
  & AsyncDisposable
  & {
    /** Memory for its messages. */
    readonly allocator: RcmAllocator;
  };

/** Replicates what a leader's program makes of messages (`SyncMode` 1 and 2, guide 9.6). */
export interface RcmTierSync {
  /**
   * Replicates a transaction (guide 9.6.1): everybody gets transactions in the order of their
   * numbers, each once. Made within a handler it covers the handler's message: once it is committed
   * no other leader handles that message again, so results of one message that belong together are
   * one transaction. Apply it yourself when `sync` has answered 0, not before: a program that was
   * told 0 for what never becomes the tier's ends as SEPARATE.
   * @param data at most 8 MiB
   * @param transNo absent or -1: the next number; else one that was not used: the transaction waits
   * until those before it have come
   * @param copyData `data` is copied before it returns in any case
   * @returns 0; NOT_LEADER unless this program was told ACTIVE or SINGLE; WOULD_BLOCK (no room
   * now); TOO_LARGE; BAD_ARGUMENT (a number that is used)
   */
  sync(data: Uint8Array, transNo?: number, copyData?: boolean): RcmStatus;
  /**
   * Confirms that what `onSyn` was given is applied, up to a number (guide 9.6.2). It counts where
   * the receiver was made with `ack: "manual"`: before all that was given is confirmed, the program
   * does not become the tier's leader.
   * @returns 0, also for what is confirmed already; BAD_ARGUMENT above the last one given
   */
  sendAck(transNo: number): RcmStatus;
}

/** Gets what a tier replicates (guide 9.7). */
export interface RcmTierSyncCallback {
  /**
   * One transaction that another program, or an earlier start of this one, has made and that is
   * committed (guide 9.7.1).
   * @param data a copy, which may be kept
   * @param transNo grows; a member that restarts gets all from its `startTransNo` on again
   * @param user what `createTierSync` was given
   * @returns 0 or nothing: accepted. Anything else, or a throw: the same one comes again after a
   * short pause, and nothing is skipped
   */
  onSyn(data: Uint8Array<ArrayBuffer>, transNo: number, user: unknown): number | void;
  /**
   * The context's role has changed (guide 9.7.2). ACTIVE and SINGLE come when all that was
   * committed before was accepted, and before the first message.
   */
  onRoleChanged?(role: RcmRole): void;
}
