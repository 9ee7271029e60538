/** Taking the messages of a lane in another thread: tokens, and what opens them. */

import process from "node:process";
import type { RcmLane, RcmLaneToken, RcmReceiverCallback, ReceiverOptions } from "./api.ts";
import { createDelivery, describeOutcome } from "./delivery.ts";
import { RcmStatus } from "./enums.ts";
import { RcmError } from "./errors.ts";
import { createLaneVisits } from "./lane_delivery.ts";
import { createLaneStreamNames } from "./message.ts";
import { Region as RegionKind } from "./native/abi.ts";
import { nativeError, type NativeLibrary, nativeLibrary } from "./native/library.ts";
import { openRegion } from "./native/memory.ts";
import type { NativeCalls } from "./native/symbols.ts";
import { acquireWaker, type WakerLease } from "./native/waker.ts";
import { createPump, type Pump } from "./pump.ts";
import { tokenIdentity, tokenRefusal } from "./token.ts";

/** Messages that `poll()` hands over unless told otherwise. */
const POLL_LIMIT = 1024;
/** How long the event loop looks again after the last message before it sleeps. */
const HOT_MS = 0.1;
/** Where no waker can be had the loop looks by itself. */
const LOOK_MS = 1;
/** A context's handles are below. */
const HANDLE_END = 2 ** 24;
/** Stands for no bytes: neither runtime hands over an empty buffer's address. */
const NOTHING = new Uint8Array(8);

/** @internal A token of a lane of a started context. */
export function newLaneToken(calls: NativeCalls, handle: number, threadNo: number): RcmLaneToken {
  return { kind: "rcm-lane", abi: tokenIdentity(calls), handle, threadNo };
}

/**
 * Takes over a lane (guide 7.2.7): the messages of one topic are handed to `cb` in the calling
 * thread, a Worker of the context's process, while other threads take those of other lanes. The
 * context's own thread leaves the lane alone until it is given back, which also happens when the
 * Worker ends; what was not processed then comes there.
 *
 * @param token what `laneToken` gave, as it is or posted to a Worker
 * @param cb gets the messages; refusals and promises hold this lane only; `onRoleChanged` is not
 * called
 * @param user what `RcmMsgInfo.getUserArg()` gives
 * @param options `"callback"` (default): the calling thread's event loop; `"poll"`: `poll()`
 * @returns the lane; `await using` or `[Symbol.asyncDispose]()` gives it back
 * @throws RcmError `ARGUMENT` for what is no such token, or one of another process or of another
 * build, and for other options; `STATE` when the context has stopped, or the lane is open
 *
 * @example A Worker that handles one topic
 * ```ts ignore
 * self.onmessage = ({ data: token }) => {
 *   openLane(token, { onMessage: (data, msgSqn) => handle(data, msgSqn) });
 * };
 * ```
 */
export function openLane(
  token: RcmLaneToken,
  cb: RcmReceiverCallback,
  user?: unknown,
  options: Pick<ReceiverOptions, "delivery"> = {},
): RcmLane {
  const library = nativeLibrary();
  const { calls } = library;
  const mode = options.delivery ?? "callback";
  const { threadNo } = token ?? {};
  checkArguments(token, cb, mode, calls);
  const handle = calls.rcm_lane_open(token.handle, threadNo);
  if (handle < 0) throw nativeError(library, handle, `openLane of lane ${threadNo}`);

  let ended: Promise<void> | null = null;
  let pump: Pump | null = null;
  let lease: Promise<WakerLease | null> = Promise.resolve(null);
  let timer: ReturnType<typeof setInterval> | null = null;
  let refusalsTold = 0;

  const delivery = createDelivery({
    calls: { rcm_drain: calls.rcm_lane_drain, rcm_ack: calls.rcm_ack },
    context: handle,
    descriptors: laneRegion(library, handle, RegionKind.DESCRIPTORS),
    log: laneRegion(library, handle, RegionKind.RECEIVE_LOG),
    sharedRegion: (number) => laneRegion(library, handle, RegionKind.SHARED + number),
    callback: cb,
    user,
    copy: process.env["RCM_COPY"] === "1",
    tellsAtOnce: true,
    isManual: false,
    streamNames: createLaneStreamNames(calls, handle, threadNo),
    // The context's logger is another thread's.
    onRefused(outcome, thrown) {
      const text = new TextEncoder().encode(describeOutcome(outcome, thrown));
      calls.rcm_lane_refused(handle, 0, text, text.byteLength);
    },
    onStillRefusing: (count) => void calls.rcm_lane_refused(handle, count, NOTHING, 0),
    onResume: () => pump?.resume(),
  });
  const visits = createLaneVisits(calls, handle, delivery);

  function run(limit: number, deadlineMs: number): number {
    if (ended !== null) return 0;
    const given = visits.run(limit, deadlineMs);
    for (const total = delivery.refusals(); refusalsTold < total; refusalsTold += 1) {
      calls.rcm_lane_refused(handle, 0, NOTHING, 0);
    }
    if (given < 0) void end();
    return Math.max(0, given);
  }

  function end(): Promise<void> {
    ended ??= close();
    return ended;
  }

  async function close(): Promise<void> {
    delivery.end();
    pump?.end();
    if (timer !== null) clearInterval(timer);
    visits.leave();
    calls.rcm_lane_close(handle);
    await (await lease)?.release();
  }

  if (mode === "callback") {
    pump = createPump({
      calls: { rcm_arm: calls.rcm_lane_arm },
      context: handle,
      hotMs: HOT_MS,
      notices() {},
      check() {},
      delivers: () => !delivery.held(),
      deliver: run,
    });
    lease = acquireWaker(library, () => pump?.wake()).then((acquired) => {
      // What came before that woke nobody.
      calls.rcm_lane_waker(handle, acquired.id);
      pump?.resume();
      return acquired;
    }, () => {
      if (ended === null) timer = setInterval(() => pump?.resume(), LOOK_MS);
      return null;
    });
  }
  return {
    threadNo,
    poll(limit = POLL_LIMIT) {
      if (mode !== "poll") return 0;
      return run(limit >= 1 ? Math.floor(limit) : POLL_LIMIT, Infinity);
    },
    sendAck(ackSqn) {
      if (ended !== null) return RcmStatus.STOPPED;
      return delivery.sendAck(ackSqn) ? RcmStatus.OK : RcmStatus.BAD_ARGUMENT;
    },
    [Symbol.asyncDispose]: end,
  };
}

function laneRegion(library: NativeLibrary, handle: number, which: number) {
  const place = new Float64Array(2);
  const result = library.calls.rcm_lane_region(handle, which, place);
  if (result < 0) throw nativeError(library, result, `memory ${which} of a lane`);
  return openRegion(library.map, place[0]!, place[1]!);
}

function checkArguments(
  token: RcmLaneToken,
  cb: RcmReceiverCallback,
  mode: string,
  calls: NativeCalls,
): void {
  const refuse = (what: string) => {
    throw new RcmError("ARGUMENT", `openLane: ${what}`);
  };
  const refusal = tokenRefusal(token, "rcm-lane", "laneToken", calls, HANDLE_END);
  if (refusal !== null) refuse(refusal);
  const { threadNo } = token;
  if (!Number.isInteger(threadNo) || threadNo < 0) {
    refuse(`a token with the thread number ${String(threadNo)}`);
  }
  if (mode !== "callback" && mode !== "poll") {
    refuse(`delivery is "callback" or "poll", not ${JSON.stringify(mode)}`);
  }
  if (typeof cb?.onMessage !== "function") refuse("a callback with onMessage is needed");
}
