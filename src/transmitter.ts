/** Sending on one topic (guide 9.3). */

import { Allocator, THREAD_NO_MAX, type TrafficGate } from "./allocator.ts";
import type { RcmAllocator, RcmTransmitter, WaitOptions } from "./api.ts";
import { RcmStatus } from "./enums.ts";
import { RcmError } from "./errors.ts";
import type { NativeCalls } from "./native/symbols.ts";
import { unsupported } from "./unsupported.ts";
import type { WaitList } from "./wait.ts";

/** Most bytes a length argument can say; the native side refuses long before. */
const LENGTH_MAX = 2 ** 32 - 1;
/** Strings up to so many UTF-16 units are encoded into memory that is kept. */
const SCRATCH_UNITS = 64 * 1024;
/** Stands for no bytes: neither runtime hands over an empty buffer's address. */
const NOTHING = new Uint8Array(8);

const encoder = new TextEncoder();

/** What a transmitter is made of. */
export interface TransmitterOptions {
  readonly topic: string;
  /** Its number in the context, 0..255. */
  readonly tx: number;
  /** Ascending. */
  readonly partitionNos: readonly number[];
  readonly gate: TrafficGate;
  readonly calls: NativeCalls;
  readonly waits: WaitList;
}

/** A transmitter as its context sees it. */
export interface ContextTransmitter extends RcmTransmitter {
  /** Tells a context that has just been started what was set before. */
  onStarted(): void;
}

/** @returns the transmitter; it sends once the gate is open */
export function createTransmitter(options: TransmitterOptions): ContextTransmitter {
  const { topic, tx, partitionNos, gate, calls, waits } = options;
  const sendReserved = calls.rcm_send;
  const sendCopy = calls.rcm_send_data;
  const allocators = new Map<number, Allocator>();
  let scratch = new Uint8Array(256);
  let sendFlag = true;

  const handle = () => gate.context * 256 + tx;
  const running = () => gate.status === RcmStatus.OK;

  function encode(text: string): Uint8Array {
    if (text.length > SCRATCH_UNITS) return encoder.encode(text);
    if (scratch.byteLength < text.length * 3) scratch = new Uint8Array(text.length * 3);
    return scratch.subarray(0, encoder.encodeInto(text, scratch).written);
  }

  function sendData(data: Uint8Array | string, partitionNo = 1, msgArg = 0): RcmStatus {
    if (gate.status !== RcmStatus.OK) return gate.status;
    if ((msgArg & 0xffff) !== msgArg) return RcmStatus.BAD_ARGUMENT;
    let bytes: Uint8Array;
    if (data instanceof Uint8Array) bytes = data;
    else if (typeof data === "string") bytes = encode(data);
    else return RcmStatus.BAD_ARGUMENT;
    if ((partitionNo & 0xffff) !== partitionNo) return RcmStatus.BAD_PARTITION;
    const length = Math.min(bytes.byteLength, LENGTH_MAX);
    const source = length === 0 ? NOTHING : bytes;
    return sendCopy(handle(), source, length, partitionNo, msgArg) as RcmStatus;
  }

  function flushWait(wait: number | WaitOptions | undefined): Promise<boolean> {
    const marks = new Float64Array(partitionNos.length);
    let marked = running();
    if (marked) calls.rcm_tx_marks(handle(), marks);
    return waits.wait(() => {
      if (!running()) return false;
      if (!marked) {
        // Nothing can have been sent before the start: what is there now was there before.
        marked = true;
        calls.rcm_tx_marks(handle(), marks);
      }
      return calls.rcm_tx_flushed(handle(), marks) === 1;
    }, wait);
  }

  return {
    getAllocator(threadNo) {
      if (!Number.isInteger(threadNo) || threadNo < 0 || threadNo > THREAD_NO_MAX) {
        throw new RcmError(
          "ARGUMENT",
          `getAllocator: a thread number is 0..${THREAD_NO_MAX}, not ${String(threadNo)}`,
        );
      }
      let allocator = allocators.get(threadNo);
      if (allocator === undefined) {
        allocator = new Allocator(gate, calls, tx, threadNo);
        allocators.set(threadNo, allocator);
      }
      return allocator;
    },
    send(a: RcmAllocator, length, partitionNo = 1, msgArg = 0) {
      if (gate.status !== RcmStatus.OK) return gate.status;
      if (
        !(a instanceof Allocator) || a.tx !== tx || a.gate !== gate || a.reserved < 0 ||
        !Number.isInteger(length) || length < 0 || length > a.reserved ||
        (msgArg & 0xffff) !== msgArg
      ) {
        return RcmStatus.BAD_ARGUMENT;
      }
      if ((partitionNo & 0xffff) !== partitionNo) return RcmStatus.BAD_PARTITION;
      const status = sendReserved(a.handle, length, partitionNo, msgArg) as RcmStatus;
      if (status === RcmStatus.OK) a.reserved = -1;
      return status;
    },
    sendData,
    setSendFlag(flag) {
      sendFlag = Boolean(flag);
      if (gate.context >= 0) calls.rcm_send_flag(handle(), sendFlag ? 1 : 0);
    },
    ready: (wait) => waits.wait(() => running() && calls.rcm_tx_ready(handle()) === 1, wait),
    flush: flushWait,
    async connected(receivers = 1, wait) {
      if (!Number.isInteger(receivers) || receivers < 0) {
        throw new RcmError(
          "ARGUMENT",
          `connected: a number of receivers from 0, not ${String(receivers)}`,
        );
      }
      return await waits.wait(
        () => running() && calls.rcm_tx_connected(handle()) >= receivers,
        wait,
      );
    },
    senderToken: () => unsupported(`senderToken of the transmitter of ${topic} (Workers)`),
    onStarted() {
      if (!sendFlag) calls.rcm_send_flag(handle(), 0);
    },
  };
}
