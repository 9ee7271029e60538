/**
 * The rows of `deno task bench`: what is run, beside which yardstick, in which configuration, and
 * what it is to reach.
 */

import type { Wiring } from "../bench/config.ts";
import type { Job } from "../bench/job.ts";
import type { Reading, Runner, Target } from "./bench_figures.ts";

/** A yardstick, as `native/bench/bench.zig` reads it. */
export interface Task {
  readonly work: string;
  readonly warm?: number;
  readonly count?: number;
  readonly bytes?: number;
  readonly receivers?: number;
  readonly everyNs?: number;
}

/** One process of a row. */
export interface Program {
  readonly context: string;
  readonly job: Job;
  /** Which of the two cores it stays on; absent: any. */
  readonly core?: 0 | 1;
  /** Its answer is the row's. */
  readonly measures?: boolean;
  /** Always in Zig, so that only the other end is measured. */
  readonly native?: boolean;
  readonly delivery?: "callback";
  /** `RCM_INJECT`. */
  readonly inject?: string;
}

export interface Row {
  readonly id: string;
  readonly work: string;
  /** Keys that are not at their default, in words. */
  readonly configuration: string;
  readonly reading: Reading;
  readonly yardstick: { readonly name: string; readonly task: Task; readonly reading: Reading };
  readonly runners: readonly Exclude<Runner, "raw">[];
  readonly wiring: Wiring;
  /** In the order in which they are started. */
  readonly programs: readonly Program[];
  readonly targets: Partial<Record<Runner, readonly Target[]>>;
}

const WARM = 130_000;
const ALL = ["zig", "deno", "bun"] as const;
const SCRIPTS = ["deno", "bun"] as const;
const GIB = 2 ** 30;

const INLINE = { Threading: "inline", WaitStrategy: "spin" };
const oneWay: Reading = { unit: "ns", half: true };
const both = (targets: readonly Target[]) => ({ deno: targets, bun: targets });

/** Ping-pong of 140-byte messages. */
function pingPong(count: number): readonly Program[] {
  return [
    { context: "far", core: 1, job: { role: "pong", bytes: 140 } },
    {
      context: "near",
      core: 0,
      measures: true,
      job: { role: "ping", bytes: 140, warm: WARM, count },
    },
  ];
}

/** One sender as fast as it goes. */
function flood(bytes: number, count: number, receivers = 1): readonly Program[] {
  const sink = { role: "sink", warm: count / 4, count, shares: receivers > 1 } as const;
  const names = Array.from({ length: receivers }, (_, i) => i === 0 ? "far" : `far${i + 1}`);
  return [
    ...names.slice(1).map((context) => ({
      context,
      core: 1 as const,
      job: { ...sink, count: 1e12 },
    })),
    { context: "near", core: 0, job: { role: "flood", bytes, receivers } },
    { context: "far", core: 1, measures: true, job: sink },
  ];
}

/** 20 messages of 64 bytes fill a datagram of MTU 1500. */
const PACKED = 20 / 1472;
const rawFlood = (receivers: number) => ({
  name: "raw flood: full datagrams in runs (GSO, GRO), credit through shared memory",
  task: { work: "flood", receivers, warm: 1e9, count: receivers > 1 ? 3e9 : 6e9 },
  reading: { unit: "M/s", weight: PACKED } as Reading,
});

const rawMulticast = {
  name: "raw connected multicast ping-pong",
  task: { work: "multicast_ping_pong", warm: WARM, count: 200_000 },
  reading: oneWay,
};

const RATE_KEYS = "AsynchronousRms 1, Threading inline, SocketBufferSizeKBytes 4096; window 256";
const rateWiring = (receivers: number): Wiring => ({
  transport: "multicast",
  receivers,
  transportKeys: { AsynchronousRms: 1 },
  contextKeys: { ...INLINE, SocketBufferSizeKBytes: 4096 },
});

const EVERY_20_US = 20_000;

function repair(id: string, loss: number): Row {
  const limits: readonly Target[] = [
    { of: "repairRoundTrips", atMost: 5 },
    { of: "repairP99", atMost: 200_000 },
  ];
  return {
    id,
    work: `multicast at 50,000/s, ${loss * 100} % lost: gap seen -> delivered`,
    configuration: "defaults, Threading inline; losses by RCM_INJECT in the receiver",
    reading: { unit: "ns", repair: true },
    yardstick: {
      ...rawMulticast,
      name: "raw connected multicast round trip",
      reading: { unit: "ns" },
    },
    runners: ALL,
    wiring: { transport: "multicast", contextKeys: INLINE },
    programs: [
      { context: "near", core: 0, job: { role: "paced", bytes: 140, everyNs: EVERY_20_US } },
      {
        context: "far",
        core: 1,
        measures: true,
        inject: `drop=${loss},seed=7`,
        job: { role: "paced_sink", warm: WARM / 4, count: 500_000, everyNs: EVERY_20_US },
      },
    ],
    targets: { zig: limits, ...both(limits) },
  };
}

function large(id: string, transport: "multicast" | "shm", target: readonly Target[]): Row {
  const isShm = transport === "shm";
  const memory = { MaxMemoryAllowedMBytes: 1536, MaxCacheMsgCount: 0, ReceiveMemoryMBytes: 1536 };
  return {
    id,
    work: isShm
      ? "1 GiB message over shared memory: copied in, sent, read"
      : "1 GiB message over multicast: sent to handed over",
    configuration: `${isShm ? "UseSharedMemory 1, IsRecord 0" : RATE_KEYS}, memory of 1536 MiB ` +
      "each; the first message is the cold one",
    reading: { unit: "GB/s", weight: GIB },
    yardstick: isShm
      ? {
        name: "memcpy of 1 GiB between mappings, and reading it",
        task: { work: "copy", bytes: GIB },
        reading: { unit: "GB/s" },
      }
      : { ...rawFlood(1), name: "raw flood, bytes", reading: { unit: "GB/s", weight: 1e-3 } },
    runners: ALL,
    wiring: {
      transport,
      transportKeys: { AsynchronousRms: 1 },
      contextKeys: { ...INLINE, ...memory, ...(isShm ? {} : { SocketBufferSizeKBytes: 4096 }) },
    },
    programs: [
      { context: "near", core: 0, job: { role: "large", bytes: GIB, readsAll: isShm } },
      {
        context: "far",
        core: 1,
        measures: true,
        job: { role: "large_sink", count: 4, readsAll: isShm },
      },
    ],
    targets: { zig: target, ...both(target) },
  };
}

function callback(
  id: string,
  transport: "multicast" | "shm",
  busy: boolean,
  targets: readonly Target[],
): Row {
  const everyNs = busy ? EVERY_20_US : 5_000_000;
  const far = busy
    ? { job: { warm: WARM / 4, count: 250_000 } }
    : { job: { warm: 50, count: 1000 } };
  return {
    id,
    work: `callback mode, ${busy ? "50,000/s" : "event loop idle"}, ${
      transport === "shm" ? "shared memory" : "multicast"
    }, one way`,
    configuration: `defaults${
      transport === "shm" ? ", UseSharedMemory 1, IsRecord 0" : ""
    }; sender in Zig, Threading inline`,
    reading: { unit: "ns" },
    yardstick: busy ? rawMulticast : {
      name: "raw multicast to a process that sleeps in recv",
      task: { work: "multicast_ping_pong", warm: 50, count: 1000, everyNs: 2_000_000 },
      reading: { unit: "ns" },
    },
    runners: SCRIPTS,
    wiring: {
      transport,
    },
    programs: [
      { context: "near", core: 0, native: true, job: { role: "paced", bytes: 140, everyNs } },
      {
        context: "far",
        core: 1,
        measures: true,
        delivery: "callback",
        job: { role: "paced_sink", everyNs, ...far.job },
      },
    ],
    targets: both(targets),
  };
}

function start(id: string, mib: number, touched: boolean): Row {
  // Space is reserved at start in any case, for which the kernel takes and clears each page.
  const atMost = 30 + 0.6 * mib;
  return {
    id,
    work: `context start without peers, window of ${mib} MiB${touched ? ", touched at start" : ""}`,
    configuration: `MaxMemoryAllowedMBytes ${mib}, UsePreAllocate ${
      touched ? 1 : 0
    }; 0.6 ms a MiB reserved`,
    reading: { unit: "ms" },
    yardstick: {
      name: "first touch of as much memory, by copying into a file in memory",
      task: { work: "copy", bytes: mib * 2 ** 20 },
      reading: { unit: "ms" },
    },
    runners: ALL,
    wiring: {
      transport: "multicast",
      contextKeys: { MaxMemoryAllowedMBytes: mib, ...(touched ? { UsePreAllocate: 1 } : {}) },
    },
    programs: [{ context: "near", core: 0, measures: true, job: { role: "start" } }],
    targets: { zig: [{ of: "value", atMost }], ...both([{ of: "value", atMost }]) },
  };
}

const SHM_KEYS = "UseSharedMemory 1, ShmContext, IsRecord 0, Threading inline";
const shmWiring = (answers: boolean): Wiring => ({
  transport: "shm",
  answers,
  transportKeys: { AsynchronousRms: 1 },
  contextKeys: INLINE,
});

/** The table of the issue, in its order. */
export const rows: readonly Row[] = [
  {
    id: "shm-latency",
    work: "shared memory, 140 bytes, one way (half a ping-pong, payload read)",
    configuration: SHM_KEYS,
    reading: oneWay,
    yardstick: {
      name: "raw ring of 4096 slots, ping-pong",
      task: { work: "ring_ping_pong", warm: WARM, count: 1_000_000 },
      reading: oneWay,
    },
    runners: ALL,
    wiring: shmWiring(true),
    programs: pingPong(1_000_000),
    targets: {
      zig: [{ of: "ratio", atMost: 1.3 }],
      ...both([{ of: "ratio", atMost: 1.6 }, { of: "value", atMost: 250, mood: "NEAR" }]),
    },
  },
  {
    id: "shm-rate",
    work: "shared memory, 140 bytes, one publish a message",
    configuration: `${SHM_KEYS}, MaxMemoryAllowedMBytes 1 (a ring of 4096 messages)`,
    reading: { unit: "M/s" },
    yardstick: {
      name: "raw ring of 4096 slots, one publish a message",
      task: { work: "ring_rate", warm: 5e6, count: 20e6 },
      reading: { unit: "M/s" },
    },
    runners: ALL,
    wiring: {
      ...shmWiring(false),
      contextKeys: { ...INLINE, MaxMemoryAllowedMBytes: 1, MaxCacheMsgCount: 0 },
    },
    programs: flood(140, 10e6),
    targets: {
      zig: [{ of: "ratio", atLeast: 0.75 }],
      ...both([
        { of: "value", atLeast: 15, mood: "NEAR" },
        { of: "ratio", atLeast: 0.5, mood: "FAR" },
      ]),
    },
  },
  {
    id: "multicast-latency",
    work: "UDP multicast (lo, MTU 1500), 140 bytes, one way",
    configuration: "defaults, Threading inline",
    reading: oneWay,
    yardstick: rawMulticast,
    runners: ALL,
    wiring: { transport: "multicast", answers: true, contextKeys: INLINE },
    programs: pingPong(200_000),
    targets: {
      zig: [{ of: "ratio", atMost: 1.1 }],
      ...both([{ of: "ratio", atMost: 1.2 }]),
    },
  },
  {
    id: "unicast-round-trip",
    work: "UDP unicast, 140 bytes, round trip",
    configuration: "defaults, Threading inline",
    reading: { unit: "ns" },
    yardstick: {
      name: "raw connected unicast ping-pong",
      task: { work: "unicast_ping_pong", warm: WARM, count: 200_000 },
      reading: { unit: "ns" },
    },
    runners: ALL,
    wiring: { transport: "unicast", answers: true, contextKeys: INLINE },
    programs: pingPong(200_000),
    targets: {
      zig: [{ of: "ratio", atMost: 1.1 }],
      ...both([{ of: "ratio", atMost: 1.2 }]),
    },
  },
  {
    id: "multicast-rate",
    work: "UDP multicast, 64 bytes, MTU 1500, one receiver, nothing lost",
    configuration: RATE_KEYS,
    reading: { unit: "M/s" },
    yardstick: rawFlood(1),
    runners: ALL,
    wiring: rateWiring(1),
    programs: flood(64, 20e6),
    targets: {
      zig: [
        { of: "value", atLeast: 35, mood: "NEAR" },
        { of: "value", atLeast: 14, mood: "FAR" },
        { of: "ratio", atLeast: 0.5 },
      ],
      deno: [
        { of: "value", atLeast: 15, mood: "NEAR" },
        { of: "value", atLeast: 10, mood: "FAR" },
      ],
      bun: [
        { of: "value", atLeast: 11, mood: "NEAR" },
        { of: "value", atLeast: 10, mood: "FAR" },
      ],
    },
  },
  {
    id: "multicast-rate-defaults",
    work: "the same with all defaults (native threads, AsynchronousRms 0)",
    configuration: "defaults; poll",
    reading: { unit: "M/s" },
    yardstick: rawFlood(1),
    runners: ALL,
    wiring: { transport: "multicast" },
    programs: flood(64, 5e6),
    targets: {},
  },
  {
    id: "multicast-rate-two",
    work: "UDP multicast, 64 bytes, two receivers (on one core, yielding), each",
    configuration: RATE_KEYS,
    reading: { unit: "M/s" },
    yardstick: rawFlood(2),
    runners: ALL,
    wiring: rateWiring(2),
    programs: flood(64, 10e6, 2),
    targets: both([{ of: "value", atLeast: 5 }]),
  },
  {
    id: "lane-latency",
    work: "UDP multicast, 140 bytes, one way, without a total order; compare multicast-latency",
    configuration: "IsTotalOrder 0, Threading inline",
    reading: oneWay,
    yardstick: rawMulticast,
    runners: SCRIPTS,
    wiring: {
      transport: "multicast",
      answers: true,
      contextKeys: { ...INLINE, IsTotalOrder: 0 },
    },
    programs: pingPong(200_000),
    targets: {},
  },
  {
    id: "lane-rate",
    work: "UDP multicast, 64 bytes, without a total order; compare multicast-rate",
    configuration: `${RATE_KEYS}, IsTotalOrder 0`,
    reading: { unit: "M/s" },
    yardstick: rawFlood(1),
    runners: SCRIPTS,
    wiring: { ...rateWiring(1), farKeys: { IsTotalOrder: 0 } },
    programs: flood(64, 20e6),
    targets: {},
  },
  {
    id: "record-latency",
    work: "UDP multicast, 140 bytes, one way, recorded at both ends; compare multicast-latency",
    configuration: "defaults (IsRecord 1), Threading inline",
    reading: oneWay,
    yardstick: rawMulticast,
    runners: ALL,
    wiring: {
      transport: "multicast",
      answers: true,
      contextKeys: { ...INLINE, IsRecord: 1 },
    },
    programs: pingPong(200_000),
    targets: {
      zig: [{ of: "ratio", atMost: 1.16 }],
      ...both([{ of: "ratio", atMost: 1.26 }]),
    },
  },
  {
    id: "record-rate",
    work: "UDP multicast, 100 bytes, recorded",
    configuration: `${RATE_KEYS}, IsRecord 1`,
    reading: { unit: "M/s" },
    yardstick: {
      name: "144 bytes a message through mapped files of 256 MiB",
      task: { work: "mapped_file", bytes: 144, count: 5e6 },
      reading: { unit: "M/s" },
    },
    runners: ALL,
    wiring: { ...rateWiring(1), farKeys: { IsRecord: 1 } },
    programs: flood(100, 5e6),
    targets: { zig: [{ of: "ratio", atLeast: 0.8 }] },
  },
  {
    id: "record-replay",
    work: "3,000,000 messages of 100 bytes from a record, as soon as the context has started",
    configuration: "IsRecord 1, Threading inline; poll",
    reading: { unit: "M/s" },
    yardstick: {
      name: "144 bytes a message through mapped files of 256 MiB",
      task: { work: "mapped_file", bytes: 144, count: 5e6 },
      reading: { unit: "M/s" },
    },
    runners: SCRIPTS,
    wiring: { transport: "multicast", contextKeys: INLINE, farKeys: { IsRecord: 1 } },
    programs: [
      { context: "far", core: 1, measures: true, job: { role: "replay", bytes: 100, count: 3e6 } },
    ],
    targets: both([{ of: "value", atLeast: 5 }]),
  },
  repair("repair-0.1", 0.001),
  repair("repair-1", 0.01),
  {
    id: "multicast-rate-loss",
    work: "UDP multicast, 64 bytes, 1 % of the datagrams lost",
    configuration: `${RATE_KEYS}; losses by RCM_INJECT in the receiver; compare multicast-rate`,
    reading: { unit: "M/s" },
    yardstick: rawFlood(1),
    runners: ALL,
    wiring: rateWiring(1),
    programs: flood(64, 10e6).map((program) =>
      program.measures === true ? { ...program, inject: "drop=0.01,seed=7" } : program
    ),
    targets: {},
  },
  large("large-multicast", "multicast", [
    { of: "value", atLeast: 2, mood: "NEAR" },
    { of: "value", atLeast: 1, mood: "FAR" },
  ]),
  large("large-shm", "shm", [{ of: "value", atLeast: 5 }]),
  callback("callback-idle", "multicast", false, [
    { of: "value", atMost: 90_000 },
    { of: "p99", atMost: 250_000 },
  ]),
  callback("callback-idle-shm", "shm", false, [
    { of: "value", atMost: 60_000 },
    { of: "p99", atMost: 250_000 },
  ]),
  callback("callback-busy", "multicast", true, [{ of: "ratio", atMost: 1.5 }]),
  callback("callback-busy-shm", "shm", true, [{ of: "value", atMost: 2000 }]),
  start("start-16", 16, true),
  start("start-256", 256, true),
  start("start-default", 256, false),
];
