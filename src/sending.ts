/** The calls by which a thread sends: of a transmitter, and of a sender in another thread. */

import { Allocator, type TrafficGate } from "./allocator.ts";
import type { RcmAllocator, RcmTransmitter, WaitOptions } from "./api.ts";
import { RcmStatus } from "./enums.ts";
import type { NativeCalls } from "./native/symbols.ts";
import type { WaitList } from "./wait.ts";

/** Most bytes a length argument can say; the native side refuses long before. */
const LENGTH_MAX = 2 ** 32 - 1;
/** Strings up to so many UTF-16 units are encoded into memory that is kept. */
const SCRATCH_UNITS = 64 * 1024;
/** Stands for no bytes: neither runtime hands over an empty buffer's address. */
const NOTHING = new Uint8Array(8);

const encoder = new TextEncoder();

/** What they work on. */
export interface SendingOptions {
  /** Whose allocators are taken. */
  readonly owner: object;
  readonly gate: TrafficGate;
  readonly calls: NativeCalls;
  readonly waits: WaitList;
  readonly partitionCount: number;
  /** The native transmitter, or the sender that stands for it. */
  readonly handle: () => number;
  /** Looks whether the native side still is there; the gate alone knows it of a transmitter. */
  readonly isAlive: () => boolean;
}

/** @returns the calls */
export function createSending(
  options: SendingOptions,
): Pick<RcmTransmitter, "send" | "sendData" | "ready" | "flush"> {
  const { owner, gate, calls, waits, partitionCount, handle, isAlive } = options;
  const sendReserved = calls.rcm_send;
  const sendCopy = calls.rcm_send_data;
  let scratch = new Uint8Array(256);

  const running = () => gate.status === RcmStatus.OK;
  /** What a wrong call answers, unless everything has stopped. */
  const refuse = (status: RcmStatus) => isAlive() ? status : RcmStatus.STOPPED;

  function encode(text: string): Uint8Array {
    if (text.length > SCRATCH_UNITS) return encoder.encode(text);
    if (scratch.byteLength < text.length * 3) scratch = new Uint8Array(text.length * 3);
    return scratch.subarray(0, encoder.encodeInto(text, scratch).written);
  }

  /** @returns what a waiting call answered; a negative answer: the native side has gone */
  function asked(answer: number): boolean {
    if (answer < 0) gate.status = RcmStatus.STOPPED;
    return answer === 1;
  }

  return {
    send(a: RcmAllocator, length, partitionNo = 1, msgArg = 0) {
      if (gate.status !== RcmStatus.OK) return gate.status;
      if (
        !(a instanceof Allocator) || a.owner !== owner || a.reserved < 0 ||
        !Number.isInteger(length) || length < 0 || length > a.reserved ||
        (msgArg & 0xffff) !== msgArg
      ) {
        return refuse(RcmStatus.BAD_ARGUMENT);
      }
      if ((partitionNo & 0xffff) !== partitionNo) return refuse(RcmStatus.BAD_PARTITION);
      const status = sendReserved(a.handle, length, partitionNo, msgArg) as RcmStatus;
      if (status === RcmStatus.OK) a.reserved = -1;
      return status;
    },
    sendData(data: Uint8Array | string, partitionNo = 1, msgArg = 0) {
      if (gate.status !== RcmStatus.OK) return gate.status;
      if ((msgArg & 0xffff) !== msgArg) return refuse(RcmStatus.BAD_ARGUMENT);
      let bytes: Uint8Array;
      if (data instanceof Uint8Array) bytes = data;
      else if (typeof data === "string") bytes = encode(data);
      else return refuse(RcmStatus.BAD_ARGUMENT);
      if ((partitionNo & 0xffff) !== partitionNo) return refuse(RcmStatus.BAD_PARTITION);
      const length = Math.min(bytes.byteLength, LENGTH_MAX);
      const source = length === 0 ? NOTHING : bytes;
      return sendCopy(handle(), source, length, partitionNo, msgArg) as RcmStatus;
    },
    ready: (wait) => waits.wait(() => running() && asked(calls.rcm_tx_ready(handle())), wait),
    flush(wait?: number | WaitOptions) {
      const marks = new Float64Array(partitionCount);
      let marked = running();
      if (marked) calls.rcm_tx_marks(handle(), marks);
      return waits.wait(() => {
        if (!running()) return false;
        if (!marked) {
          // Nothing can have been sent before the start: what is there now was there before.
          marked = true;
          calls.rcm_tx_marks(handle(), marks);
        }
        return asked(calls.rcm_tx_flushed(handle(), marks));
      }, wait);
    },
  };
}
