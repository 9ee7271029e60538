/** Requests to the native side of an arbiter, and events from it, as they lie in memory. */

import { RcmError } from "../errors.ts";
import * as abi from "../native/abi.ts";
import { nativeError, type NativeLibrary } from "../native/library.ts";
import { acquireWaker, type WakerLease } from "../native/waker.ts";
import type { LeaseView } from "./arbiter.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const HEADER = abi.ArbiterRequest.bytes;
const request = abi.ArbiterRequest.fields;
const event = abi.ArbiterEvent.fields;

/** One request, or one part of a transaction. */
export interface ArbiterRequest {
  readonly op: number;
  readonly id?: number;
  readonly path?: string;
  readonly data?: string;
  readonly version?: number;
  readonly flags?: number;
  /** Parts that follow, or the number of a watch. */
  readonly count?: number;
}

/** One event. */
export interface ArbiterEvent {
  readonly kind: number;
  readonly id: number;
  readonly code: number;
  readonly session: number;
  readonly version: number;
  readonly flags: number;
  readonly data: Uint8Array;
}

/** @returns requests, one behind the other */
export function encodeRequests(requests: readonly ArbiterRequest[]): Uint8Array {
  const parts = requests.map((r) => ({
    r,
    path: encoder.encode(r.path ?? ""),
    data: encoder.encode(r.data ?? ""),
  }));
  const sizeOf = (path: Uint8Array, data: Uint8Array) =>
    Math.ceil((HEADER + path.length + 1 + data.length) / 8) * 8;
  const bytes = new Uint8Array(parts.reduce((sum, p) => sum + sizeOf(p.path, p.data), 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { r, path, data } of parts) {
    const size = sizeOf(path, data);
    view.setUint32(at + request.bytes.offset, size, true);
    view.setUint32(at + request.op.offset, r.op, true);
    view.setUint32(at + request.id.offset, r.id ?? 0, true);
    view.setInt32(at + request.version.offset, r.version ?? 0, true);
    view.setUint32(at + request.flags.offset, r.flags ?? 0, true);
    view.setUint32(at + request.pathLen.offset, path.length, true);
    view.setUint32(at + request.dataLen.offset, data.length, true);
    view.setUint32(at + request.count.offset, r.count ?? 0, true);
    bytes.set(path, at + HEADER);
    bytes.set(data, at + HEADER + path.length + 1);
    at += size;
  }
  return bytes;
}

function decodeEvent(bytes: Uint8Array<ArrayBuffer>): ArbiterEvent {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = view.getUint32(event.dataLen.offset, true);
  const start = abi.ArbiterEvent.bytes;
  return {
    kind: view.getUint32(event.kind.offset, true),
    id: view.getUint32(event.id.offset, true),
    code: view.getInt32(event.code.offset, true),
    session: view.getUint32(event.session.offset, true),
    version: view.getInt32(event.version.offset, true),
    flags: view.getUint32(event.flags.offset, true),
    data: bytes.slice(start, start + length),
  };
}

/** @returns the text of an event's data */
export const textOf = (e: ArbiterEvent): string => decoder.decode(e.data);

/** The native side of an arbiter, without an event loop. */
export interface NativeArbiter {
  readonly handle: number;
  /** @throws RcmError when it can't even be queued */
  request(requests: readonly ArbiterRequest[], doing: string): void;
  /** The oldest event; null: there is none. */
  take(): ArbiterEvent | null;
  /** Blocks this thread until an event waits, or so long. */
  wait(timeoutMilli: number): void;
  /** True: something waits already; else the waker's byte comes. */
  arm(): boolean;
  lease(): LeaseView;
  /** Ends the session; false: there is none. */
  end(): boolean;
  /** Forgets all. */
  close(): void;
}

/**
 * @param local sessions are files of this machine
 * @param wakerId -1: nobody is woken, `wait` is called
 * @param clientPath ZooKeeper's client library; "": where the system has it
 * @throws RcmError `NATIVE` naming the package when the client library is missing
 */
export function openNativeArbiter(
  library: NativeLibrary,
  local: boolean,
  wakerId: number,
  clientPath: string,
): NativeArbiter {
  const { calls } = library;
  const path = encoder.encode(clientPath);
  const handle = calls.rcm_arbiter_open(local ? 1 : 0, wakerId, path, path.length);
  if (handle < 0) throw nativeError(library, handle, "arbitration");
  let buffer = new Uint8Array(64 * 1024);
  return {
    handle,
    request(requests, doing) {
      const bytes = encodeRequests(requests);
      const result = calls.rcm_arbiter_request(handle, bytes, bytes.length);
      if (result < 0) throw nativeError(library, result, doing);
    },
    take() {
      let bytes = calls.rcm_arbiter_take(handle, buffer, buffer.length);
      if (bytes > buffer.length) {
        buffer = new Uint8Array(bytes);
        bytes = calls.rcm_arbiter_take(handle, buffer, buffer.length);
      }
      return bytes <= 0 ? null : decodeEvent(buffer.subarray(0, bytes));
    },
    wait: (timeoutMilli) => void calls.rcm_arbiter_wait(handle, Math.max(0, timeoutMilli)),
    arm: () => calls.rcm_arbiter_arm(handle) === 1,
    lease() {
      const out = new Uint8Array(abi.ArbiterLease.bytes);
      const { leftMs, timeoutMs, holding } = abi.ArbiterLease.fields;
      const view = new DataView(out.buffer);
      if (calls.rcm_arbiter_lease(handle, out, out.length) < 0) {
        return { leftMilli: 0, sessionTimeoutMilli: 0, holds: false };
      }
      return {
        leftMilli: view.getFloat64(leftMs.offset, true),
        sessionTimeoutMilli: view.getFloat64(timeoutMs.offset, true),
        holds: view.getUint32(holding.offset, true) !== 0,
      };
    },
    end: () => calls.rcm_arbiter_end(handle) === 1,
    close: () => void calls.rcm_arbiter_close(handle),
  };
}

/** What an event-driven session hands on. */
export interface SessionEvents {
  state(code: number, timeoutMilli: number, text: string): void;
  watch(id: number, code: number): void;
  watchdog(): void;
}

/** The same on an event loop: answers are promises. */
export interface NativeSession {
  readonly handle: number;
  /** Begins a session; of an earlier one nothing is heard any more. */
  connect(target: string, data: string, timeoutMilli: number): void;
  /** Resolves with the answer, whatever its code; `null` when the session is replaced or closed. */
  ask(requests: readonly ArbiterRequest[]): Promise<ArbiterEvent | null>;
  /** A request without an answer. */
  tell(r: ArbiterRequest): void;
  lease(): LeaseView;
  /** Ends the session; `connect` may begin another. */
  end(): void;
  /** Ends the session and forgets the native side; waits for the client for at most so long. */
  close(timeoutMilli: number): Promise<void>;
}

/** Opens it; the process stays alive until `close`. */
export async function openNativeSession(
  library: NativeLibrary,
  local: boolean,
  clientPath: string,
  events: SessionEvents,
): Promise<NativeSession> {
  const waker: WakerLease = await acquireWaker(library, drain);
  let native: NativeArbiter;
  try {
    native = openNativeArbiter(library, local, waker.id, clientPath);
  } catch (error) {
    await waker.release();
    throw error;
  }
  const waiting = new Map<number, (answer: ArbiterEvent | null) => void>();
  let lastId = 0;
  let current = 0;
  let ended: (() => void) | null = null;
  let isClosed = false;

  function handle(e: ArbiterEvent): void {
    const kinds = abi.ArbiterEventKind;
    if (e.kind === kinds.ENDED && isClosed) ended?.();
    if (e.session !== current || isClosed) return;
    if (e.kind === kinds.ANSWER) {
      const resolve = waiting.get(e.id);
      waiting.delete(e.id);
      resolve?.(e);
    } else if (e.kind === kinds.WATCH) events.watch(e.id, e.code);
    else if (e.kind === kinds.SESSION) events.state(e.code, e.version, textOf(e));
    else if (e.kind === kinds.WATCHDOG) events.watchdog();
  }

  function drain(): void {
    if (isClosed && ended === null) return;
    do {
      for (let e = native.take(); e !== null; e = native.take()) handle(e);
    } while (native.arm());
  }

  function forget(): void {
    for (const resolve of waiting.values()) resolve(null);
    waiting.clear();
  }

  return {
    handle: native.handle,
    connect(target, data, timeoutMilli) {
      forget();
      const version = timeoutMilli;
      current += 1; // the native side counts them too
      native.request([{ op: abi.ArbiterOp.CONNECT, path: target, data, version }], "arbitration");
      // What came at once is told from the event loop, not in here.
      setTimeout(drain, 0);
    },
    ask(requests) {
      const [first, ...rest] = requests;
      if (first === undefined || isClosed) return Promise.resolve(null);
      lastId = lastId % 0x7fffffff + 1;
      const id = lastId;
      native.request([{ ...first, id }, ...rest], "arbitration");
      return new Promise((resolve) => waiting.set(id, resolve));
    },
    tell(r) {
      if (!isClosed) native.request([r], "arbitration");
    },
    lease: () => native.lease(),
    end: () => void native.end(),
    async close(timeoutMilli) {
      if (isClosed) return;
      isClosed = true;
      forget();
      if (native.end()) {
        let timer: ReturnType<typeof setTimeout> | undefined;
        await new Promise<void>((resolve) => {
          ended = resolve;
          timer = setTimeout(resolve, timeoutMilli);
          drain();
        });
        clearTimeout(timer);
        ended = null;
      }
      native.close();
      await waker.release();
    },
  };
}

/** @throws RcmError `ARBITRATION`, always */
export function arbitrationError(what: string, cause?: unknown): RcmError {
  return new RcmError("ARBITRATION", what, cause === undefined ? undefined : { cause });
}
