/**
 * A native library in JavaScript, for tests of the TypeScript side alone: what is sent is listed,
 * what is to be received is put in by the test, and everything that the real one does in its
 * threads happens when the test says so.
 */

import type { ContextPlan } from "../src/plan.ts";
import { type ContextOptions, createContext, type FactoryContext } from "../src/context.ts";
import { ContextState, Descriptor, Notice } from "../src/native/abi.ts";
import type { NativeLibrary } from "../src/native/library.ts";
import type { NativeBuffer, NativeCalls } from "../src/native/symbols.ts";
import { createEventHub } from "../src/observe/events.ts";
import { openLogSink } from "../src/observe/logger.ts";
import { RcmLogLevel } from "../src/enums.ts";
import net from "node:net";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";

const LOG_BYTES = 1 << 20;
const ARENA_BYTES = 1 << 16;
const BATCH = 1024;

/** A message on its way to the program. */
interface Incoming {
  readonly unit: number;
  readonly length: number;
  readonly args: number;
  readonly sqn: number;
}

/** What the test sees and steers. */
export interface Fake {
  readonly library: NativeLibrary;
  /** JSON of each start. */
  readonly starts: Record<string, unknown>[];
  readonly sent: { data: string; partitionNo: number; arg: number; tx: number }[];
  readonly lines: { key: number; level: number; content: string }[];
  /** Bits of `rcm_context_state`. */
  state: number;
  /** What the next start answers; 0 or more: good. */
  startResult: number;
  sendStatus: number;
  ready: boolean;
  flushed: boolean;
  connected: number;
  /** Messages that were told to be processed. */
  processed: number;
  works: number;
  interest: number;
  open: boolean;
  wakers: number;
  /** Makes a message arrive. */
  arrive(text: string, options?: { msgArg?: number; txArg?: number }): void;
  /** Makes a notice arrive. */
  notice(kind: number, code: number, level: number, args?: readonly number[]): void;
  /** Wakes the event loop as a native thread would. */
  wake(): void;
}

/** A context over a fake. */
export interface FakeContext {
  readonly fake: Fake;
  readonly context: FactoryContext;
  /** Names of contexts that have stopped. */
  readonly stopped: string[];
}

/** A plan of one topic in both directions; `change` overrides the context's values. */
export function fakePlan(change: Partial<ContextPlan["context"]> = {}): ContextPlan {
  const transport = {
    addrs: ["127.0.0.1"],
    port: 1,
    mtu: 1500,
    heartbeatIntervalMs: 100,
    heartbeatTimeoutMs: 300,
    ackIntervalMs: 100,
    ackTimeoutMs: 300,
    groupKey: "",
  };
  const partition = {
    ...transport,
    asynchronous: false,
    slowDisconnect: false,
    receivers: [],
    sharedMemory: false,
  };
  return {
    tier: null,
    isRecord: false,
    record: { directory: "", fileBytes: 8 << 20, sync: "async", replayFrom: 0 },
    context: {
      name: "node",
      id: 1,
      clusterId: 0,
      ip: "127.0.0.1",
      threading: "shared",
      waitStrategy: "adaptive",
      bindCoreId: -1,
      mcLoop: true,
      ttl: 8,
      socketBufferBytes: 1 << 18,
      repairPortStart: 30001,
      repairPortEnd: 40000,
      repairPort: 0,
      sendWindowSize: 256,
      arenaBytes: ARENA_BYTES,
      maxCacheMsgCount: 10,
      receiveBytes: LOG_BYTES,
      isHandshake: false,
      startTimeoutMs: 1000,
      isTotalOrder: true,
      usePreAllocate: false,
      latencySamples: 0,
      txTierId: 0,
      txTierName: "",
      ...change,
    },
    tx: [{
      topic: "out",
      partitions: [{ ...partition, transportId: 1, partitionNo: 1 }, {
        ...partition,
        transportId: 2,
        partitionNo: 2,
      }],
    }],
    rx: [{
      ...transport,
      transportId: 3,
      topic: "in",
      partitionNo: 1,
      lane: 0,
      inPlace: [],
      network: true,
    }],
  };
}

/** A context of `plan` over a fake native side. */
export function fakeContext(plan: ContextPlan = fakePlan()): FakeContext {
  const fake = createFake();
  const folder = mkdtempSync(`${tmpdir()}/rcm-fake-`);
  const log = openLogSink({ folder, lang: "en_US" });
  log.setLogArg(RcmLogLevel.DEBUG, {
    log: (key, level, content) => void fake.lines.push({ key, level, content }),
  });
  // All lines go to the test from here on.
  rmSync(folder, { recursive: true });
  const stopped: string[] = [];
  const options: ContextOptions = {
    plan,
    prefix: "",
    workDir: "rcm-fake",
    tierName: plan.context.name,
    arbitration: null,
    contexts: [],
    library: fake.library,
    log,
    events: createEventHub(log),
    onStopped: () => void stopped.push(plan.context.name),
  };
  return { fake, context: createContext(options), stopped };
}

function createFake(): Fake {
  const memory = [
    new ArrayBuffer(BATCH * Descriptor.bytes),
    new ArrayBuffer(LOG_BYTES),
    new ArrayBuffer(ARENA_BYTES),
  ] as const;
  const descriptorWords = new Uint32Array(memory[0]);
  const descriptorFloats = new Float64Array(memory[0]);
  const log = new Uint8Array(memory[1]);
  const logWords = new Uint32Array(memory[1]);
  const arena = new Uint8Array(memory[2]);
  const queue: Incoming[] = [];
  const notices: Uint8Array[] = [];
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  let logAt = 64;
  let sqn = 0;
  let socket: net.Socket | null = null;
  let reserved = 0;
  let handedOut = 0;

  const text = (buffer: NativeBuffer, length: number) =>
    decoder.decode((buffer as Uint8Array).subarray(0, length));
  const put = (buffer: NativeBuffer, content: string) =>
    encoder.encodeInto(content, buffer as Uint8Array).written;

  const known: Partial<NativeCalls> = {
    rcm_abi_hash: () => 0,
    rcm_version: (buffer) => put(buffer, "rcm version fake"),
    rcm_last_error: (buffer) => put(buffer, "what went wrong"),
    rcm_context_start(json, length) {
      fake.starts.push(JSON.parse(text(json, length)));
      if (fake.startResult < 0) return fake.startResult;
      fake.open = true;
      return 7;
    },
    rcm_context_state: () => fake.state,
    rcm_context_drain() {
      fake.state |= ContextState.DRAINED;
      return 0;
    },
    rcm_context_close() {
      fake.open = false;
      return 0;
    },
    rcm_drain(_context, processed, max) {
      if (processed > handedOut) throw new Error(`${processed} of ${handedOut} processed`);
      queue.splice(0, processed);
      fake.processed += processed;
      const count = Math.min(max, queue.length);
      for (let i = 0; i < count; i += 1) {
        const { unit, length, args, sqn } = queue[i]!;
        const at = i * (Descriptor.bytes / 4);
        descriptorWords.set([unit, length, 0, args], at);
        descriptorWords.set([unit - 5, 0], at + 6);
        descriptorFloats[at / 2 + 2] = sqn;
      }
      handedOut = count;
      return count;
    },
    rcm_ack: () => 0,
    rcm_lanes: () => 0,
    rcm_lane_open: () => -3,
    rcm_lane_close: () => -3,
    rcm_lane_waker: () => -3,
    rcm_lane_enter: () => -1,
    rcm_lane_leave: () => -1,
    rcm_lane_drain: () => 0,
    rcm_lane_arm: () => 0,
    rcm_lane_region: () => -3,
    rcm_lane_stream: () => -3,
    rcm_lane_topic: () => -3,
    rcm_lane_refused: () => -3,
    rcm_lane_fault: () => -1,
    rcm_work() {
      fake.works += 1;
      return 0;
    },
    rcm_arm: () => queue.length + notices.length > 0 ? 1 : 0,
    rcm_notices(_context, buffer, max) {
      const given = notices.splice(0, max);
      given.forEach((notice, i) => (buffer as Uint8Array).set(notice, i * Notice.bytes));
      return given.length;
    },
    rcm_interest(_context, on) {
      fake.interest = on;
      return 0;
    },
    rcm_region(_context, which, out) {
      out.set([which * 2 ** 40, memory[which as 0 | 1 | 2].byteLength]);
      return 0;
    },
    rcm_stats: () => 0,
    rcm_stream(_context, _stream, buffer) {
      const words = new Uint32Array(buffer.buffer);
      words[0] = 3;
      words[2] = encoder.encodeInto("peer", (buffer as Uint8Array).subarray(16)).written;
      return buffer.byteLength;
    },
    rcm_malloc(_allocator, size) {
      if (fake.sendStatus !== 0) return -fake.sendStatus;
      reserved = size;
      return 64;
    },
    rcm_realloc(_allocator, size) {
      arena.copyWithin(256, 64, 64 + reserved);
      reserved = size;
      return 256;
    },
    rcm_allocator: (_context, tx, threadNo) => threadNo * 256 + tx,
    rcm_send(allocator, length, partitionNo, arg) {
      if (fake.sendStatus !== 0) return fake.sendStatus;
      const data = decoder.decode(arena.slice(64, 64 + length));
      fake.sent.push({ data, partitionNo, arg, tx: allocator % 256 });
      return 0;
    },
    rcm_send_data(tx, buffer, length, partitionNo, arg) {
      if (fake.sendStatus !== 0) return fake.sendStatus;
      fake.sent.push({ data: text(buffer, length), partitionNo, arg, tx });
      return 0;
    },
    rcm_send_flag: () => 0,
    rcm_tx_marks: () => 1,
    rcm_tx_flushed: () => fake.flushed ? 1 : 0,
    rcm_tx_ready: () => fake.ready ? 1 : 0,
    rcm_tx_connected: () => fake.connected,
    rcm_file_owned: () => 0,
    rcm_record_cut: () => 0,
    rcm_process_nonce: () => 1,
    rcm_tx_share: () => 0,
    rcm_sender_open: () => -3,
    rcm_sender_close: () => 0,
    rcm_repair_socket: () => 99,
    rcm_fd_close: () => 0,
    rcm_waker_open(path, length) {
      fake.wakers += 1;
      socket = net.connect(text(path, length));
      socket.on("error", () => {});
      return 0;
    },
    rcm_waker_close() {
      fake.wakers -= 1;
      socket?.destroy();
      return 0;
    },
  };

  // Calls that no test of the fake needs are told by name.
  const calls = new Proxy(known, {
    get(target, name) {
      const call = target[name as keyof NativeCalls];
      if (call === undefined) throw new Error(`the fake library has no ${String(name)}`);
      return call;
    },
  }) as NativeCalls;

  const fake: Fake = {
    library: { calls, map: (address) => memory[(address / 2 ** 40) as 0 | 1 | 2], path: "fake" },
    starts: [],
    sent: [],
    lines: [],
    state: 0,
    startResult: 7,
    sendStatus: 0,
    ready: false,
    flushed: false,
    connected: 0,
    processed: 0,
    works: 0,
    interest: 0,
    open: false,
    wakers: 0,
    arrive(content, { msgArg = 0, txArg = 0 } = {}) {
      const data = encoder.encode(content);
      log.set(data, logAt);
      const header = (logAt - 40) / 4;
      logWords.set([data.length, 0, sqn, 0, sqn + 100, 0, 5000, 1], header);
      queue.push({ unit: logAt / 8, length: data.length, args: msgArg | txArg << 16, sqn });
      sqn += 1;
      logAt += 64 + Math.ceil(data.length / 8) * 8;
      if (logAt > LOG_BYTES - 4096) logAt = 64;
      fake.wake();
    },
    notice(kind, code, level, args = []) {
      const bytes = new Uint8Array(Notice.bytes);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, kind, true);
      view.setUint32(4, code, true);
      view.setUint32(8, level, true);
      view.setUint32(12, 3, true);
      args.forEach((arg, i) => view.setFloat64(16 + 8 * i, arg, true));
      notices.push(bytes);
      fake.wake();
    },
    wake: () => void socket?.write("w"),
  };
  return fake;
}
