/** Memory for messages, reserved in the sender's arena (guide 9.2). */

import type { RcmAllocator } from "./api.ts";
import { RcmStatus } from "./enums.ts";
import { RcmError } from "./errors.ts";
import type { Region } from "./native/memory.ts";
import type { NativeCalls } from "./native/symbols.ts";

/** Longest message, in bytes. */
export const MESSAGE_BYTES_MAX = 2 ** 30;
/** Highest thread number of `getAllocator` and `senderToken`. */
const THREAD_NO_MAX = 63;

/** @throws RcmError `ARGUMENT` for what is no thread number */
export function checkThreadNo(threadNo: number, call: string): void {
  if (Number.isInteger(threadNo) && threadNo >= 0 && threadNo <= THREAD_NO_MAX) return;
  throw new RcmError(
    "ARGUMENT",
    `${call}: a thread number is 0..${THREAD_NO_MAX}, not ${String(threadNo)}`,
  );
}

/** What traffic calls of one context look at first. */
export interface TrafficGate {
  /** OK while messages may be sent, else NOT_STARTED or STOPPED. */
  status: RcmStatus;
  /** The native context, -1 while there is none. */
  context: number;
  /** The arena of a running context. */
  arena: Region | null;
}

/** A class, so that `send` knows its own allocators without a look-up. */
export class Allocator implements RcmAllocator {
  /** What sends by it: a transmitter, or a sender of another thread. */
  readonly owner: object;
  /** Bytes reserved and not sent; -1: nothing is. */
  reserved = -1;
  readonly #gate: TrafficGate;
  readonly #calls: NativeCalls;
  readonly #makeHandle: () => number;
  #handle = -1;
  /** The native context of the handle: a start that failed after it was made invalidates it. */
  #context = -1;

  /** @param makeHandle makes the native allocator when first needed; negative: it could not */
  constructor(gate: TrafficGate, calls: NativeCalls, owner: object, makeHandle: () => number) {
    this.owner = owner;
    this.#gate = gate;
    this.#calls = calls;
    this.#makeHandle = makeHandle;
  }

  /** The native allocator; only valid while something is reserved. */
  get handle(): number {
    return this.#handle;
  }

  malloc(size: number): Uint8Array<ArrayBuffer> | null {
    this.reserved = -1;
    if (this.#gate.status !== RcmStatus.OK || !isSize(size)) return null;
    if (this.#context !== this.#gate.context && !this.#open()) return null;
    return this.#view(this.#calls.rcm_malloc(this.#handle, size), size);
  }

  realloc(size: number): Uint8Array<ArrayBuffer> | null {
    if (this.#gate.status !== RcmStatus.OK || !isSize(size) || this.reserved < 0) return null;
    return this.#view(this.#calls.rcm_realloc(this.#handle, size), size);
  }

  #open(): boolean {
    const { context } = this.#gate;
    const handle = this.#makeHandle();
    if (handle < 0) return false;
    this.#handle = handle;
    this.#context = context;
    return true;
  }

  #view(offset: number, size: number): Uint8Array<ArrayBuffer> | null {
    const { arena } = this.#gate;
    if (offset < 0 || arena === null) return null;
    this.reserved = size;
    return arena.view(offset / 8, size);
  }
}

function isSize(size: number): boolean {
  return Number.isInteger(size) && size >= 0 && size <= MESSAGE_BYTES_MAX;
}
