/** Sending in another thread than the transmitter's: tokens, and what opens them. */

import { Allocator, checkThreadNo, type TrafficGate } from "./allocator.ts";
import type { RcmSender, RcmSenderToken } from "./api.ts";
import { RcmStatus } from "./enums.ts";
import { RcmError } from "./errors.ts";
import { nativeError, nativeLibrary } from "./native/library.ts";
import { openRegion } from "./native/memory.ts";
import type { NativeCalls } from "./native/symbols.ts";
import { createSending } from "./sending.ts";
import { tokenIdentity, tokenRefusal } from "./token.ts";
import { createWaitList } from "./wait.ts";

/**
 * How often `ready` and `flush` look. Native threads wake the event loop of a context's own thread
 * only; a Worker's looks by itself, while somebody waits.
 */
const LOOK_MS = 1;
/** Handles of transmitters are below. */
const HANDLE_END = 2 ** 30;

/** @internal A token of a native transmitter that is shared. */
export function newSenderToken(
  calls: NativeCalls,
  handle: number,
  threadNo: number,
): RcmSenderToken {
  return { kind: "rcm-sender", abi: tokenIdentity(calls), handle, threadNo };
}

/**
 * Opens a transmitter for the calling thread: a Worker of this process, or the transmitter's own.
 *
 * @param token what `senderToken` gave, as it is or posted to a Worker
 * @returns the sender; `await using` or `[Symbol.asyncDispose]()` gives its thread number back
 * @throws RcmError `ARGUMENT` for what is no such token, or one of another process or of another
 * build; `STATE` when the context has stopped, or a sender with this thread number is open
 *
 * @example A Worker that sends
 * ```ts ignore
 * self.onmessage = async ({ data: token }) => {
 *   await using sender = openSender(token);
 *   while (sender.sendData("from a Worker") === RcmStatus.WOULD_BLOCK) await sender.ready();
 *   await sender.flush();
 * };
 * ```
 */
export function openSender(token: RcmSenderToken): RcmSender {
  const library = nativeLibrary();
  const { calls } = library;
  checkToken(token, calls);
  const { threadNo } = token;
  const place = new Float64Array(3);
  const handle = calls.rcm_sender_open(token.handle, threadNo, place);
  if (handle < 0) throw nativeError(library, handle, `openSender with thread number ${threadNo}`);
  const [address, length, partitionCount] = place as unknown as [number, number, number];
  const gate: TrafficGate = {
    status: RcmStatus.OK,
    context: 0,
    arena: openRegion(library.map, address, length),
  };
  let timer: ReturnType<typeof setInterval> | null = null;
  const waits = createWaitList((on) => {
    if (timer !== null) clearInterval(timer);
    timer = on ? setInterval(look, LOOK_MS) : null;
  });
  function look(): void {
    waits.check();
    if (gate.status !== RcmStatus.OK) waits.end();
  }
  const owner = {};
  const sending = createSending({
    owner,
    gate,
    calls,
    waits,
    partitionCount,
    handle: () => handle,
    isAlive: () => calls.rcm_tx_marks(handle, new Float64Array(partitionCount)) >= 0,
  });
  return {
    ...sending,
    allocator: new Allocator(gate, calls, owner, () => handle),
    // deno-lint-ignore require-await -- what it gives back is given back at once
    async [Symbol.asyncDispose]() {
      gate.status = RcmStatus.STOPPED;
      waits.end();
      calls.rcm_sender_close(handle);
    },
  };
}

function checkToken(token: RcmSenderToken, calls: NativeCalls): void {
  const refusal = tokenRefusal(token, "rcm-sender", "senderToken", calls, HANDLE_END);
  if (refusal !== null) throw new RcmError("ARGUMENT", `openSender: ${refusal}`);
  checkThreadNo(token.threadNo, "openSender");
}
