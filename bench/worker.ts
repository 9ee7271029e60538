/**
 * One program of the benchmarks in Deno or in Bun, told by one JSON argument (`job.ts`). What
 * measures answers with one line of JSON and ends; the others are ended by who started them.
 */

import process from "node:process";
import { setImmediate } from "node:timers";
import {
  newRcmFactory,
  type RcmContext,
  RcmEventType,
  type RcmFactory,
  type RcmReceiverCallback,
  RcmStatus,
  type RcmTransmitter,
} from "../mod.ts";
import { Histogram } from "./histogram.ts";
import type { Answer, ScriptJob } from "./job.ts";
import { nowNs, yieldCore } from "./machine.ts";

/** Messages that one look at the network hands over. */
const BATCH = 256;
/**
 * Messages between two looks at the network of a sender that never waits: 64 bytes each, they fill
 * the 44 datagrams that leave in one call.
 */
const RUN_MESSAGES = 880;

const job = JSON.parse(process.argv[2] ?? "null") as ScriptJob;
const { bytes = 140, warm = 0, count = 0, receivers = 1, everyNs = 0, shares = false } = job;
const message = new Uint8Array(bytes);
const stampOf = new Float64Array(message.buffer, 0, bytes >= 8 ? 1 : 0);

/** What a handler does with a message; replaced by the role. */
let take: (data: Uint8Array<ArrayBuffer>) => void = () => {};
let received = 0;

const callback: RcmReceiverCallback = {
  onMessage(data, sqn) {
    if (sqn !== received) fail(`message ${sqn} instead of ${received}`);
    received += 1;
    take(data);
  },
};

function fail(text: string): never {
  console.error(text);
  process.exit(1);
}

function answer(what: Answer): never {
  process.stdout.write(`${JSON.stringify(what)}\n`);
  process.exit(0);
}

/** Reads something of each of a message's cache lines, so that all of it has to come. */
function readLines(data: Uint8Array): number {
  let sum = data[data.length - 1]!;
  for (let i = 0; i < data.length; i += 64) sum += data[i]!;
  return sum;
}

/** Sums a large message word by word; four sums side by side, so that none waits for the last. */
function readAll(data: Uint8Array): number {
  const words = new Float64Array(data.buffer, data.byteOffset, data.length >>> 3);
  const end = words.length & ~3;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let i = 0; i < end; i += 4) {
    a += words[i]!;
    b += words[i + 1]!;
    c += words[i + 2]!;
    d += words[i + 3]!;
  }
  for (let i = end; i < words.length; i += 1) a += words[i]!;
  return a + b + c + d;
}

/** One look at the network and what came. */
function poll(context: RcmContext): void {
  if (context.poll(BATCH) === 0 && shares) yieldCore();
}

function send(context: RcmContext, transmitter: RcmTransmitter): void {
  for (;;) {
    const status = transmitter.sendData(message);
    if (status === RcmStatus.OK) return;
    if (status !== RcmStatus.WOULD_BLOCK) fail(`send: status ${status}`);
    context.poll();
  }
}

function spinUntil(context: RcmContext, dueNs: number): void {
  while (nowNs() < dueNs) context.poll();
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Round trips; the answer comes before the next question goes. */
function ping(context: RcmContext, transmitter: RcmTransmitter): void {
  const histogram = new Histogram();
  let sum = 0;
  take = (data) => {
    sum = readLines(data);
  };
  let from = nowNs();
  for (let i = 0; i < warm + count; i += 1) {
    const wanted = received + 1;
    send(context, transmitter);
    while (received < wanted) poll(context);
    message[8] = sum;
    const now = nowNs();
    if (i >= warm) histogram.add(now - from);
    from = now;
  }
  answer({ kind: "latency", ...histogram.toText() });
}

/** Answers from the first message on, which may come while this end still waits for the other. */
function answerEach(context: RcmContext, transmitter: RcmTransmitter): void {
  take = (data) => {
    message[8] = readLines(data);
    send(context, transmitter);
  };
}

function flood(context: RcmContext, transmitter: RcmTransmitter): void {
  for (;;) {
    for (let i = 0; i < RUN_MESSAGES; i += 1) send(context, transmitter);
    context.poll();
  }
}

function sink(context: RcmContext): void {
  let sum = 0;
  take = (data) => {
    sum += data[0]! + data[data.length - 1]!;
  };
  while (received < warm) poll(context);
  const first = received;
  const from = nowNs();
  while (received < first + count) poll(context);
  const ns = nowNs() - from;
  if (sum < 0) fail("what was read is gone");
  answer({ kind: "rate", messages: received - first, ns });
}

/**
 * Open loop: a message is stamped with the time at which it was due, so that a sender that was held
 * up makes the messages late instead of leaving them out.
 */
function paced(context: RcmContext, transmitter: RcmTransmitter): void {
  let due = nowNs();
  for (;;) {
    due += everyNs;
    spinUntil(context, due);
    stampOf[0] = due;
    send(context, transmitter);
  }
}

/** The stamp of a message; a view's offset is a multiple of 8 only by luck of the runtime. */
const stampBytes = new Uint8Array(8);
const stampWord = new Float64Array(stampBytes.buffer);
function readStamp(data: Uint8Array): number {
  for (let i = 0; i < 8; i += 1) stampBytes[i] = data[i]!;
  return stampWord[0]!;
}

/**
 * Latencies from when a message was due. Apart from all of them those of messages behind a gap: the
 * one that showed the gap was due before its predecessor, which had to be repaired, was delivered.
 */
async function pacedSink(context: RcmContext): Promise<void> {
  const all = new Histogram();
  const behind = new Histogram();
  let gaps = 0;
  let firstNs = 0;
  let late = 0;
  let lateBefore = 0;
  const done = Promise.withResolvers<void>();
  take = (data) => {
    const now = nowNs();
    const lateNow = now - readStamp(data);
    if (received > warm) {
      if (firstNs === 0) firstNs = now;
      all.add(lateNow);
      if (late > everyNs && lateBefore <= everyNs) {
        gaps += 1;
        behind.add(lateNow);
      }
      if (received === warm + count) done.resolve();
    }
    lateBefore = late;
    late = lateNow;
  };
  if (job.delivery === "callback") await done.promise;
  while (received < warm + count) poll(context);
  const found = { all: all.toText(), behind: behind.toText() };
  answer({ kind: "paced", messages: count, ns: nowNs() - firstNs, gaps, ...found });
}

/** Large messages, one at a time. */
function large(context: RcmContext, transmitter: RcmTransmitter): void {
  const allocator = transmitter.getAllocator(0);
  const source = new Uint8Array(bytes).fill(5);
  const stamp = new Float64Array(1);
  for (;;) {
    const memory = allocator.malloc(bytes);
    if (memory === null) {
      context.poll();
      continue;
    }
    stamp[0] = nowNs();
    memory.set(source);
    if (!job.readsAll) stamp[0] = nowNs();
    memory.set(new Uint8Array(stamp.buffer));
    while (transmitter.send(allocator, bytes) !== RcmStatus.OK) context.poll();
    spinUntil(context, nowNs() + everyNs);
  }
}

function largeSink(context: RcmContext): void {
  const times: number[] = [];
  let sum = 0;
  take = (data) => {
    if (job.readsAll) sum += readAll(data);
    times.push(nowNs() - readStamp(data));
  };
  while (times.length < count) context.poll(1);
  if (sum === Infinity) fail("what was read can't be");
  answer({ kind: "times", ns: times });
}

/** All of it in one process: what is measured is the second life of the receiver. */
async function replay(factory: RcmFactory): Promise<void> {
  let sum = 0;
  take = (data) => {
    sum += data[0]! + data[data.length - 1]!;
  };
  const near = factory.newRcmContext("near");
  const transmitter = near.createTransmitter("to");
  await near.start();
  const receiver = () => {
    const context = factory.newRcmContext(job.context);
    context.createReceiver(callback, undefined, { delivery: "poll" });
    return context;
  };
  const first = receiver();
  await first.start();
  while (!await transmitter.connected(1, 10)) first.poll();
  for (let sent = 0; sent < count; sent += 1) {
    while (transmitter.sendData(message) !== RcmStatus.OK) {
      near.poll();
      first.poll();
    }
  }
  while (received < count) {
    near.poll();
    first.poll();
  }
  await first.stop();
  await near.stop();
  received = 0;
  const second = receiver();
  await second.start();
  const from = nowNs();
  while (received < count) second.poll(BATCH);
  const ns = nowNs() - from;
  if (sum < 0) fail("what was read is gone");
  answer({ kind: "rate", messages: count, ns });
}

async function main(): Promise<void> {
  const factory = newRcmFactory(job.config, job.workDir);
  factory.setFilePrefix(job.prefix);
  factory.setEventCallback({
    onEvent(_user, event) {
      if (event.getEventType() === RcmEventType.MESSAGE_LOSS) fail("messages were lost");
    },
  });
  const { role } = job;
  if (role === "replay") await replay(factory);
  const context = factory.newRcmContext(job.context);
  const receives = role !== "flood" && role !== "paced" && role !== "large" && role !== "start";
  const sends = role !== "sink" && role !== "paced_sink" && role !== "large_sink";
  const topic = role === "pong" ? "back" : "to";
  const transmitter = sends ? context.createTransmitter(topic) : null;
  if (receives) context.createReceiver(callback, undefined, { delivery: job.delivery });
  if (role === "pong" && transmitter !== null) answerEach(context, transmitter);
  const began = nowNs();
  await context.start();
  if (role === "start") answer({ kind: "time", ns: nowNs() - began });
  if (transmitter !== null) {
    while (!await transmitter.connected(receivers, 10)) await turn();
    if (role === "ping") ping(context, transmitter);
    while (role === "pong") poll(context);
    if (role === "flood") flood(context, transmitter);
    if (role === "paced") paced(context, transmitter);
    if (role === "large") large(context, transmitter);
  }
  if (role === "sink") sink(context);
  if (role === "paced_sink") await pacedSink(context);
  if (role === "large_sink") largeSink(context);
}

await main();
