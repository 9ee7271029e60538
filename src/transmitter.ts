/** Sending on one topic (guide 9.3). */

import { Allocator, checkThreadNo, type TrafficGate } from "./allocator.ts";
import type { RcmTransmitter } from "./api.ts";
import { RcmStatus } from "./enums.ts";
import { RcmError } from "./errors.ts";
import type { NativeCalls } from "./native/symbols.ts";
import { newSenderToken } from "./sender.ts";
import { createSending } from "./sending.ts";
import type { WaitList } from "./wait.ts";

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
  const allocators = new Map<number, Allocator>();
  let sendFlag = true;

  const handle = () => gate.context * 256 + tx;
  const running = () => gate.status === RcmStatus.OK;
  const { send, sendData, ready, flush } = createSending({
    owner: options,
    gate,
    calls,
    waits,
    partitionCount: partitionNos.length,
    handle,
    isAlive: () => true,
  });

  return {
    getAllocator(threadNo) {
      checkThreadNo(threadNo, "getAllocator");
      let allocator = allocators.get(threadNo);
      if (allocator === undefined) {
        const makeHandle = () => calls.rcm_allocator(gate.context, tx, threadNo);
        allocator = new Allocator(gate, calls, options, makeHandle);
        allocators.set(threadNo, allocator);
      }
      return allocator;
    },
    send,
    sendData,
    ready,
    flush,
    setSendFlag(flag) {
      sendFlag = Boolean(flag);
      if (gate.context >= 0) calls.rcm_send_flag(handle(), sendFlag ? 1 : 0);
    },
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
    senderToken(threadNo) {
      checkThreadNo(threadNo, "senderToken");
      if (!running() || calls.rcm_tx_share(handle()) < 0) {
        throw new RcmError(
          "STATE",
          `senderToken of the transmitter of ${topic}: its context ` +
            (gate.status === RcmStatus.NOT_STARTED ? "has not been started" : "has been stopped"),
        );
      }
      return newSenderToken(calls, handle(), threadNo);
    },
    onStarted() {
      if (!sendFlag) calls.rcm_send_flag(handle(), 0);
    },
  };
}
