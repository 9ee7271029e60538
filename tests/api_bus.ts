/**
 * Buses for tests: contexts of one process over 127.0.0.1, each test with ports, a group and a file
 * prefix of its own, so that test files may run side by side.
 */

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import {
  deleteRcmFactory,
  newRcmFactory,
  type RcmConfigInput,
  RcmError,
  type RcmEvent,
  type RcmFactory,
  RcmLogLevel,
  type RcmReceiverCallback,
} from "../mod.ts";

/** Fails after so long; no test waits for a time. */
export const LIMIT_MS = 20_000;

/** Below the range that systems give out by themselves. */
const PORT_FIRST = 10_000;
const PORT_COUNT = 19_000;

let made = 0;

/** Waits until a condition holds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Asserts that a call throws an RcmError of a code. */
export function throwsCode(run: () => unknown, code: string): RcmError {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof RcmError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  return assert.fail(`nothing thrown, ${code} expected`);
}

/** Asserts that a promise rejects with an RcmError of a code. */
export async function rejectsCode(promise: Promise<unknown>, code: string): Promise<RcmError> {
  const error = await promise.then(() => null, (reason: unknown) => reason);
  assert.ok(error instanceof RcmError, `${code} expected, not ${String(error)}`);
  assert.equal(error.code, code, error.message);
  return error;
}

/** How a bus differs from the usual one. */
export interface BusOptions {
  /** Which contexts there are, of those of {@linkcode Bus}; default tx1 and rx1. */
  nodes?: readonly (keyof typeof SHAPES)[];
  /** Default: a group of its own. `"127.0.0.1"` for one receiver. */
  addr?: string;
  /** Partitions of each topic; default 1. */
  partitions?: number;
  /** Default: "t", which all contexts send or receive. */
  topics?: readonly string[];
  /** Values of every context, of single ones by name, and of the transports. */
  all?: Record<string, unknown>;
  contexts?: Record<string, Record<string, unknown>>;
  transport?: Record<string, unknown>;
}

const TOPICS = [{ Name: "t" }];
const SHAPES = {
  tx1: { TxTopics: TOPICS },
  tx2: { TxTopics: TOPICS },
  rx1: { RxTopics: TOPICS },
  rx2: { RxTopics: TOPICS },
  both: { TxTopics: TOPICS, RxTopics: TOPICS },
};

/** A bus of senders tx1, tx2 and receivers rx1, rx2 of topic "t", and "both", which does both. */
export interface Bus {
  readonly prefix: string;
  readonly config: RcmConfigInput;
  readonly workDir: string;
  /** Another factory of this bus; all end with `close`. */
  factory(): RcmFactory;
  /** Log lines of all factories. */
  readonly lines: { key: number; level: number; content: string }[];
  /** Events of all factories. */
  readonly events: RcmEvent[];
  /** Names of this bus's files in /dev/shm, without the prefix. */
  files(): string[];
  /** Removes them. */
  wipe(): void;
  close(): Promise<void>;
}

export function makeBus(options: BusOptions = {}): Bus {
  made += 1;
  const place = process.pid * 31 + made * 7;
  const prefix = `rcmtest_${process.pid}_${made}_`;
  const workDir = mkdtempSync(`${tmpdir()}/rcm-test-`);
  const group = `239.${1 + place % 250}.${1 + (place >> 8) % 250}`;
  const partitions = options.partitions ?? 1;
  const topics = options.topics ?? ["t"];
  const transports = Array.from({ length: topics.length * partitions }, (_, index) => ({
    Id: index + 1,
    Topic: topics[Math.floor(index / partitions)],
    PartitionNo: index % partitions + 1,
    Addr: options.addr ?? `${group}.${made % 250 + 1}`,
    Port: PORT_FIRST + (place * 8 + index) % PORT_COUNT,
    HeartbeatIntervalMilli: 100,
    HeartbeatTimeoutMilli: 1000,
    AckIntervalMilli: 20,
    AckTimeoutMilli: 1000,
    ...options.transport,
  }));
  const contexts = (options.nodes ?? ["tx1", "rx1"]).map((Name, index) => ({
    Name,
    Id: index + 1,
    Ip: "127.0.0.1",
    IsRecord: 0,
    MaxMemoryAllowedMBytes: 4,
    ReceiveMemoryMBytes: 16,
    StartTimeoutSecs: 2,
    ...SHAPES[Name],
    ...options.all,
    ...options.contexts?.[Name],
  }));
  const config = { Rcm: { Transports: transports, Contexts: contexts } } as RcmConfigInput;
  const factories: RcmFactory[] = [];
  const lines: Bus["lines"] = [];
  const events: RcmEvent[] = [];
  const files = () =>
    readdirSync("/dev/shm")
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length));
  const wipe = () => {
    for (const name of files()) rmSync(`/dev/shm/${prefix}${name}`);
  };
  return {
    prefix,
    config,
    workDir,
    lines,
    events,
    files,
    wipe,
    factory() {
      const factory = newRcmFactory(config, workDir, "en_US");
      factories.push(factory);
      factory.setFilePrefix(prefix);
      factory.setLogArg(RcmLogLevel.INFO, {
        log: (key, level, content) => void lines.push({ key, level, content }),
      });
      factory.setEventCallback({ onEvent: (_user, event) => void events.push(event) });
      return factory;
    },
    async close() {
      for (const factory of factories) await deleteRcmFactory(factory);
      wipe();
      rmSync(workDir, { recursive: true, force: true });
    },
  };
}

/** Runs a test over a bus and cleans up whatever comes. */
export async function withBus(
  options: BusOptions,
  run: (bus: Bus, factory: RcmFactory) => Promise<void>,
): Promise<void> {
  const bus = makeBus(options);
  try {
    await run(bus, bus.factory());
  } finally {
    await bus.close();
  }
}

/** What a collecting receiver has got. */
export interface Got {
  readonly text: string;
  readonly sqn: number;
  readonly txArg: number;
  readonly topic: string;
  readonly partitionNo: number;
  readonly from: string;
  readonly txMsgNo: number;
  readonly timeMs: number;
  readonly threadNo: number;
  readonly msgArg: number;
  readonly user: unknown;
}

const decoder = new TextDecoder();

/** A callback that collects what it gets. */
export function collect(into: Got[]): RcmReceiverCallback {
  return {
    onMessage(data, sqn, txArg, info) {
      into.push({
        text: decoder.decode(data),
        sqn,
        txArg,
        topic: info.getTopicName(),
        partitionNo: info.getPartitionNo(),
        from: info.getTxContextName(),
        txMsgNo: info.getTxMsgNo(),
        timeMs: info.getMsgTimeMilli(),
        threadNo: info.getThreadNo(),
        msgArg: info.getMsgArg(),
        user: info.getUserArg(),
      });
    },
  };
}
