/**
 * A sender in traffic is killed again and again, at any moment, and started again on its files:
 * everything that it accepted is delivered, once, in order, byte for byte, and nothing else.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { RcmConfigInput } from "../../mod.ts";
import { seedOf } from "./fixtures/crash_loop.ts";
import type { CrashLine, CrashRun } from "./fixtures/crash_sender.ts";
import { hash } from "./harness/content.ts";
import {
  type Bed,
  e2e,
  isLong,
  LIMIT_MS,
  programOf,
  type Runtime,
  runtimes,
  sleep,
  until,
  within,
} from "./harness/driver.ts";
import { forgetChild, keepChild, RUN_VARIABLE } from "./harness/run.ts";
import { statsOf } from "./harness/stats.ts";

const ROUNDS = isLong ? 200 : 20;
/** Sent by the last one, which is not killed. */
const LAST_COUNT = 200;
const PARTITIONS = [1, 2] as const;
/** Most kills come so soon after the start, in traffic; the others at any time before. */
const TRAFFIC_MS = 120;
const START_MS = 150;
const program = fileURLToPath(new URL("./fixtures/crash_sender.ts", import.meta.url));

/** How messages get to the receiver. */
interface Way {
  readonly name: string;
  readonly isNetwork: boolean;
  readonly transport: Record<string, unknown>;
  readonly receiver: Record<string, unknown>;
}
const ways: readonly Way[] = [
  { name: "UDP", isNetwork: true, transport: {}, receiver: {} },
  {
    name: "shared memory",
    isNetwork: false,
    transport: { UseSharedMemory: 1 },
    receiver: { ShmContext: ["tx"] },
  },
];

/** Mostly small ones, many of several chunks, and a few that fill most of the arena. */
function mixedSizes(count: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    const dice = hash(77, i);
    const share = dice % 1000;
    const most = share < 500 ? 200 : share < 800 ? 4400 : share < 990 ? 65_536 : 2_600_000;
    return hash(dice, i) % (most + 1);
  });
}

/** From round to round another network thread sends, or none; memory is touched, or not. */
function configOf(bed: Bed, way: Way, round: number): RcmConfigInput {
  return bed.config({
    transports: PARTITIONS.map((PartitionNo) => ({
      PartitionNo,
      AsynchronousRms: round % 2,
      ...way.transport,
    })),
    contexts: [
      {
        Name: "tx",
        TxTopics: [{ Name: "t" }],
        MaxMemoryAllowedMBytes: 4,
        // Kept for late repair: the arena is full of it, so that reclaiming goes on all the time.
        MaxCacheMsgCount: 500,
        UsePreAllocate: round % 5 === 0 ? 1 : 0,
        Threading: round % 3 === 0 ? "dedicated" : "shared",
      },
      { Name: "rx", RxTopics: [{ Name: "t" }], ...way.receiver },
    ],
  });
}

/** A sender process, and what it has said. */
function startSender(runtime: Runtime, run: CrashRun) {
  const [file = "", ...args] = programOf(runtime);
  const child = spawn(file, [...args, program, JSON.stringify(run)], {
    env: { ...process.env, NO_COLOR: "1", [RUN_VARIABLE]: String(process.pid) },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { pid = 0 } = child;
  keepChild(pid);
  const lines: CrashLine[] = [];
  let stderr = "";
  let tell = () => {};
  const said = new Promise<void>((resolve) => tell = resolve);
  child.stderr.on("data", (data: Uint8Array) => stderr += String(data));
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(JSON.parse(line) as CrashLine);
    tell();
  });
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(String(error)));
    child.on("close", (code, signal) => {
      forgetChild(pid);
      resolve(signal ?? `code ${code}: ${stderr}`);
    });
  });
  return { lines, said, ended, kill: () => child.kill("SIGKILL") };
}

/** Waits a part of a millisecond too. */
async function pause(ms: number): Promise<void> {
  const end = performance.now() + ms;
  if (ms > 2) await sleep(ms - 2);
  while (performance.now() < end);
}

/** What was accepted, and what was tried, of each partition. */
interface Counter {
  readonly accepted: number;
  readonly tried: number;
}
function readCounters(path: string): Counter[] {
  const numbers = new Float64Array(new Uint8Array(readFileSync(path)).buffer);
  return PARTITIONS.map((_, i) => ({ accepted: numbers[2 * i]!, tried: numbers[2 * i + 1]! }));
}

/** Waits until every thread sends: a Worker takes its time. */
async function sendsAll([started]: readonly CrashLine[], counters: string): Promise<void> {
  const all = () =>
    readCounters(counters).every(({ accepted }, i) => accepted > (started?.written[i] ?? Infinity));
  await until(all, () => "every thread sends", LIMIT_MS, 1);
}

/** What a successor finds is what its predecessor had accepted, and at most what it was at. */
function assertWritten({ written }: CrashLine, kept: readonly Counter[], where: string): void {
  for (const [i, { accepted, tried }] of kept.entries()) {
    const no = written[i]!;
    const text = `partition ${
      PARTITIONS[i]
    } goes on at ${no}, ${accepted} accepted, ${tried} tried`;
    assert.ok(no >= accepted && no <= Math.max(accepted, tried), `${where}: ${text}`);
  }
}

/** Killed in every round but the last. */
async function killAgainAndAgain(bed: Bed, runtime: Runtime, way: Way): Promise<void> {
  const sizes = { kind: "list", bytes: mixedSizes(997) } as const;
  const counters = join(bed.folder, "counters");
  writeFileSync(counters, new Uint8Array(PARTITIONS.length * 16));
  const rx = await bed.node(runtime === "deno" ? "bun" : "deno", configOf(bed, way, 0));
  await rx.receiver("rx");
  const workDir = join(bed.folder, "sender");
  mkdirSync(workDir);
  const runOf = (round: number): CrashRun => ({
    config: configOf(bed, way, round),
    prefix: bed.prefix,
    workDir,
    context: "tx",
    topic: "t",
    partitions: PARTITIONS,
    workers: round % 4 >= 2,
    sizes,
    counters,
  });
  let inTraffic = 0;
  let inWorkers = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const kept = readCounters(counters);
    const sender = startSender(runtime, runOf(round));
    const early = round % 5 === 4;
    if (early) {
      await Promise.race([pause(Math.random() * START_MS), sender.ended]);
    } else {
      const begun = Promise.race([sender.said, sender.ended]);
      await within(begun, LIMIT_MS, () => `round ${round}: the sender starts`);
      if (runOf(round).workers) await sendsAll(sender.lines, counters);
      await pause(Math.random() * TRAFFIC_MS);
    }
    sender.kill();
    assert.equal(await sender.ended, "SIGKILL", `round ${round}`);
    const [started] = sender.lines;
    if (started === undefined) continue;
    assertWritten(started, kept, `round ${round}`);
    const [first, second] = readCounters(counters).map(({ accepted }, i) =>
      accepted > started.written[i]!
    );
    if (first) inTraffic += 1;
    if (second && runOf(round).workers) inWorkers += 1;
  }
  const kept = readCounters(counters);
  const last = startSender(runtime, { ...runOf(ROUNDS), count: LAST_COUNT });
  assert.match(await within(last.ended, LIMIT_MS, () => "the last sender ends"), /^code 0: /);
  const [started, all] = last.lines as [CrashLine, CrashLine];
  assertWritten(started, kept, "the last one");
  assert.deepEqual(all.written, started.written.map((no) => no + LAST_COUNT));
  assert.ok(inTraffic >= ROUNDS / 2, `only ${inTraffic} of ${ROUNDS} were killed in traffic`);
  assert.ok(inWorkers >= ROUNDS / 10, `in ${inWorkers} of ${ROUNDS} a Worker was sending`);
  await rx.received("rx", all.written.reduce((sum, no) => sum + no, 0));
  await rx.check(
    "rx",
    PARTITIONS.map((partition, i) => ({
      from: "tx",
      topic: "t",
      partition,
      runs: [{ seed: seedOf(partition), sizes, count: all.written[i]! }],
    })),
  );
  assert.deepEqual(rx.events.filter(({ type }) => type === "MESSAGE_LOSS"), []);
  const { Rms } = (await statsOf(rx, "rx")).rx;
  assert.equal(Rms.length, PARTITIONS.length);
  for (const { DatagramsReceived } of Rms) {
    assert.equal(DatagramsReceived > 0, way.isNetwork, `${DatagramsReceived} datagrams came`);
  }
  await rx.close();
}

for (const way of ways) {
  for (const runtime of runtimes) {
    e2e(
      `${way.name}: a ${runtime} sender killed ${ROUNDS} times loses and repeats nothing`,
      async (bed) => await killAgainAndAgain(bed, runtime, way),
    );
  }
}
