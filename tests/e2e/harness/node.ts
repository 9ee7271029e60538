/**
 * A node process of the end-to-end tests, the same source in Deno and in Bun: takes commands as
 * lines of JSON on its standard input and reports on its standard output (`commands.ts`). It ends
 * when its input ends, so that it never outlives the test.
 */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import process from "node:process";
import { createInterface } from "node:readline";
import { setImmediate, setTimeout } from "node:timers";
import {
  deleteRcmFactory,
  newRcmFactory,
  type RcmContext,
  RcmError,
  RcmEventType,
  type RcmFactory,
  RcmLogLevel,
  type RcmMsgInfo,
  type RcmReceiver,
  RcmRole,
  RcmStatus,
  type RcmTierSync,
  type RcmTransmitter,
} from "../../../mod.ts";
import type { BigReport, Commands, Report, SendRun, StreamName } from "./commands.ts";
import { checkContent, type ContentFound, fillContent, sizeOf } from "./content.ts";
import { createHistory } from "./history.ts";
import { createJournal, type Journal } from "./journal.ts";
import { createResults, type Results } from "./results.ts";
import { refuseForces } from "./seccomp.ts";

/** Messages from this size on are hashed and reported one by one. */
const BIG_BYTES = 2 ** 20;
/** Messages that are sent before the event loop has a turn. */
const PER_TURN = 256;

interface Stream extends StreamName {
  messages: number;
  lastNo: number;
  lastMs: number;
  longestGapMs: number;
}

/** A context of this node, and what its receiver has got. */
interface Member {
  readonly context: RcmContext;
  readonly transmitters: Map<string, RcmTransmitter>;
  receiver: RcmReceiver | null;
  delivery: "callback" | "poll" | "iterate";
  readonly streams: Stream[];
  readonly history: ReturnType<typeof createHistory>;
  journal: Journal | null;
  forward: string | null;
  results: { readonly sync: RcmTierSync; readonly journal: Results } | null;
  messages: number;
  bytes: number;
  wrong: number;
  paused: Promise<void> | null;
  resume: () => void;
  delayMs: number;
  every: number;
}

let factory: RcmFactory | null = null;
const members = new Map<string, Member>();
let scratch = new Uint8Array(64 * 1024);
const found: ContentFound = { isRight: false, seed: 0, index: 0 };

const now = () => performance.timeOrigin + performance.now();
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function report(what: Report): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

function requireFactory(): RcmFactory {
  if (factory === null) throw new Error("no factory: open comes first");
  return factory;
}

function member(name: string): Member {
  const found = members.get(name);
  if (found === undefined) throw new Error(`this node has no context ${name}`);
  return found;
}

function transmitter(name: string, topic: string): RcmTransmitter {
  const found = member(name).transmitters.get(topic);
  if (found === undefined) throw new Error(`${name} has no transmitter of ${topic}`);
  return found;
}

function nameOf(enumeration: Readonly<Record<string, number>>, value: number): string {
  return Object.entries(enumeration).find(([, number]) => number === value)?.[0] ?? `${value}`;
}

// Receiving

/** What a message says of itself, from a callback's `info` or from an iterator's message. */
type Told = StreamName & {
  readonly no: number;
  readonly timeMs: number;
  readonly msgArg: number;
};

function take(m: Member, data: Uint8Array, sqn: number, txArg: number, told: Told): void {
  const ms = now();
  checkContent(data, told.msgArg, found);
  let at = m.streams.findIndex((s) =>
    s.from === told.from && s.topic === told.topic && s.partition === told.partition
  );
  if (at < 0) {
    const { from, topic, partition } = told;
    const fresh = { messages: 0, lastNo: -1, lastMs: ms, longestGapMs: 0 };
    at = m.streams.push({ from, topic, partition, ...fresh }) - 1;
  }
  const stream = m.streams[at]!;
  stream.longestGapMs = Math.max(stream.longestGapMs, ms - stream.lastMs);
  stream.messages += 1;
  stream.lastNo = told.no;
  stream.lastMs = ms;
  m.messages += 1;
  m.bytes += data.byteLength;
  if (!found.isRight) m.wrong += 1;
  m.journal?.add({
    sqn,
    no: told.no,
    timeMs: told.timeMs,
    ms,
    seed: found.seed,
    index: found.index,
    isRight: found.isRight,
    from: told.from,
  });
  if (m.journal === null) {
    m.history.add({
      no: told.no,
      sqn,
      ms,
      index: found.index,
      seed: found.seed,
      length: data.byteLength,
      stream: at,
      msgArg: told.msgArg,
      txArg,
      isRight: found.isRight,
    });
  }
  if (data.byteLength >= BIG_BYTES) reportBig(m, data, told.from, ms, m.messages - stream.messages);
}

function reportBig(
  m: Member,
  data: Uint8Array,
  from: string,
  ms: number,
  othersBefore: number,
): void {
  const context = [...members].find(([, other]) => other === m)?.[0] ?? "";
  const { isRight } = found;
  const big: BigReport = {
    kind: "big",
    context,
    from,
    bytes: data.byteLength,
    sha256: sha256(data),
    isRight,
    ms,
    othersBefore,
  };
  report(big);
}

/** In pieces: a hash takes no more than 2 GiB at once. */
function sha256(data: Uint8Array): string {
  const piece = 2 ** 28;
  const hash = createHash("sha256");
  for (let at = 0; at < data.byteLength; at += piece) hash.update(data.subarray(at, at + piece));
  return hash.digest("hex");
}

/** What the handler gives back: nothing, or a promise that takes its time. */
function pace(m: Member): Promise<void> | undefined {
  if (m.paused !== null) return m.paused;
  if (m.delayMs > 0 && m.messages % m.every === 0) return sleep(m.delayMs);
  return undefined;
}

function onMessage(m: Member, data: Uint8Array, sqn: number, txArg: number, info: RcmMsgInfo) {
  if (m.forward !== null) {
    const status = m.transmitters.get(m.forward)!.sendData(data, 1, info.getMsgArg());
    if (status !== RcmStatus.OK) return status;
  }
  if (m.results !== null) {
    checkContent(data, info.getMsgArg(), found);
    const { sync, journal } = m.results;
    const status = journal.make(sync, sqn, found.seed, found.index);
    if (status !== RcmStatus.OK) return status;
  }
  take(m, data, sqn, txArg, {
    from: info.getTxContextName(),
    topic: info.getTopicName(),
    partition: info.getPartitionNo(),
    no: info.getTxMsgNo(),
    timeMs: info.getMsgTimeMilli(),
    msgArg: info.getMsgArg(),
  });
  return pace(m);
}

async function iterate(m: Member): Promise<void> {
  for await (const message of m.receiver!) {
    take(m, message.data, message.msgSqn, message.txArg, {
      from: message.txContextName,
      topic: message.topicName,
      partition: message.partitionNo,
      no: message.txMsgNo,
      timeMs: message.msgTimeMilli,
      msgArg: message.msgArg,
    });
    await pace(m);
  }
}

/** Polls until the context stops; asleep for a moment when there is nothing. */
async function poll(m: Member, isRunning: () => boolean): Promise<void> {
  while (isRunning()) {
    if (m.context.poll() === 0) await sleep(1);
    else await turn();
  }
}

// Sending

/** The run of each transmitter, by context and topic: to end it early. */
const running = new Map<string, { halted: boolean; accepted: number }>();
/** Of the last message of 1 MiB or more. */
let lastHash: string | null = null;

function sendOne(tx: RcmTransmitter, run: SendRun, index: number): RcmStatus {
  const length = sizeOf(run.sizes, index);
  const partition = run.partition ?? 1;
  if (run.allocator === true) {
    const allocator = tx.getAllocator(0);
    const memory = allocator.malloc(length);
    if (memory === null) return RcmStatus.WOULD_BLOCK;
    fillContent(memory, run.seed, index);
    if (length >= BIG_BYTES) lastHash = sha256(memory);
    return tx.send(allocator, length, partition, index & 0xffff);
  }
  if (scratch.byteLength < length) scratch = new Uint8Array(length);
  const bytes = scratch.subarray(0, length);
  fillContent(bytes, run.seed, index);
  if (length >= BIG_BYTES) lastHash = sha256(bytes);
  return tx.sendData(bytes, partition, index & 0xffff);
}

async function send(run: SendRun): Promise<Commands["send"]["out"]> {
  const tx = transmitter(run.context, run.topic);
  const first = run.first ?? 0;
  const start = performance.now();
  lastHash = null;
  let sent = 0;
  let blocked = 0;
  let status: RcmStatus = RcmStatus.OK;
  const mine = { halted: false, accepted: 0 };
  running.set(`${run.context}/${run.topic}`, mine);
  while (sent < run.count && !mine.halted) {
    if (run.perSecond !== undefined) {
      const due = start + sent * 1000 / run.perSecond;
      const early = due - performance.now();
      if (early > 0) await sleep(early);
    }
    status = sendOne(tx, run, first + sent);
    if (status === RcmStatus.OK) {
      sent += 1;
      mine.accepted = sent;
      if (sent % PER_TURN === 0) await turn();
    } else if (status === RcmStatus.WOULD_BLOCK) {
      blocked += 1;
      if (run.whenFull === "stop" || !await tx.ready()) break;
    } else break;
  }
  const milliseconds = performance.now() - start;
  return { sent, blocked, status, milliseconds, sha256: lastHash };
}

// Commands

function open({ config, prefix, workDir, arbitration }: Commands["open"]["in"]): null {
  factory = newRcmFactory(config, workDir, "en_US");
  if (arbitration !== undefined) factory.setArbArg(arbitration.address, arbitration.path);
  factory.setFilePrefix(prefix);
  factory.setLogArg(RcmLogLevel.INFO, {
    log: (key, level, content) => report({ kind: "log", key, level, content, ms: now() }),
  });
  factory.setEventCallback({
    onEvent: (_user, event) =>
      report({
        kind: "event",
        type: nameOf(RcmEventType, event.getEventType()),
        context: event.getRcmContext(),
        peer: event.getPeerName(),
        topic: event.getTopicName(),
        partition: event.getPartitionNo(),
        lossStart: event.getLossMsgNoStart(),
        lossEnd: event.getLossMsgNoEnd(),
        ms: now(),
      }),
  });
  return null;
}

function newMember(name: string): Member {
  return {
    context: requireFactory().newRcmContext(name),
    transmitters: new Map(),
    receiver: null,
    delivery: "callback",
    streams: [],
    history: createHistory(),
    journal: null,
    forward: null,
    results: null,
    messages: 0,
    bytes: 0,
    wrong: 0,
    paused: null,
    resume: () => {},
    delayMs: 0,
    every: 1,
  };
}

async function start(name: string, timeoutMs: number | undefined): Promise<number> {
  const m = member(name);
  const begin = performance.now();
  await m.context.start(timeoutMs === undefined ? {} : { timeoutMs });
  const took = performance.now() - begin;
  const isRunning = () => members.get(name) === m;
  if (m.receiver !== null && m.delivery === "iterate") failLoudly(iterate(m));
  if (m.delivery === "poll") failLoudly(poll(m, isRunning));
  return took;
}

/** What runs beside the commands must not fail unseen. */
function failLoudly(running: Promise<void>): void {
  running.catch((error: unknown) => {
    console.error(error);
    process.exit(70);
  });
}

function setHandler({ context, paused, delayMs, every }: Commands["handler"]["in"]): null {
  const m = member(context);
  if (delayMs !== undefined) m.delayMs = delayMs;
  if (every !== undefined) m.every = every;
  if (paused === true && m.paused === null) {
    m.paused = new Promise((resolve) => m.resume = resolve);
  } else if (paused === false) {
    m.paused = null;
    m.resume();
  }
  return null;
}

function usage(): Commands["usage"]["out"] {
  const status = readFileSync("/proc/self/status", "utf8");
  const numberOf = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+)`, "m").exec(status)?.[1]);
  const { user, system } = process.cpuUsage();
  return {
    residentBytes: numberOf("VmRSS") * 1024,
    cpuMs: (user + system) / 1000,
    threads: numberOf("Threads"),
    descriptors: readdirSync("/proc/self/fd").length,
  };
}

type Handlers = {
  [K in keyof Commands]: (
    args: Commands[K]["in"],
  ) => Commands[K]["out"] | Promise<Commands[K]["out"]>;
};

/** Only what was given: an option that is undefined would be one that was given. */
const waitOf = (timeoutMs: number | undefined) => (timeoutMs === undefined ? {} : { timeoutMs });

const handlers: Handlers = {
  open,
  context({ context }) {
    members.set(context, newMember(context));
    return null;
  },
  transmitter({ context, topic, partitions, txArg }) {
    const m = member(context);
    m.transmitters.set(topic, m.context.createTransmitter(topic, partitions ?? null, txArg ?? 0));
    return null;
  },
  receiver({ context, delivery = "callback", journal, forward, results }) {
    const m = member(context);
    if (results !== undefined) {
      const journal = createResults(results);
      m.results = { sync: m.context.createTierSync(0, journal), journal };
    }
    m.forward = forward ?? null;
    if (journal !== undefined) m.journal = createJournal(journal);
    m.delivery = delivery;
    const callback = delivery === "iterate" ? null : {
      onMessage: (data: Uint8Array, sqn: number, txArg: number, info: RcmMsgInfo) =>
        onMessage(m, data, sqn, txArg, info),
      onRoleChanged: (role: RcmRole) =>
        report({ kind: "role", context, role: nameOf(RcmRole, role), ms: now() }),
    };
    m.receiver = m.context.createReceiver(callback, undefined, { delivery });
    return null;
  },
  start: async ({ context, timeoutMs }) => await start(context, timeoutMs),
  async stop({ context }) {
    const m = member(context);
    m.resume();
    await m.context.stop();
    members.delete(context);
    return null;
  },
  send,
  halt({ context, topic }) {
    const run = running.get(`${context}/${topic}`);
    if (run !== undefined) run.halted = true;
    return null;
  },
  accepted: ({ context, topic }) => running.get(`${context}/${topic}`)?.accepted ?? 0,
  ready: async ({ context, topic, timeoutMs }) =>
    await transmitter(context, topic).ready(waitOf(timeoutMs)),
  flush: async ({ context, topic, timeoutMs }) =>
    await transmitter(context, topic).flush(waitOf(timeoutMs)),
  connected: async ({ context, topic, receivers, timeoutMs }) =>
    await transmitter(context, topic).connected(receivers, waitOf(timeoutMs)),
  flag({ context, topic, on }) {
    transmitter(context, topic).setSendFlag(on);
    return null;
  },
  handler: setHandler,
  counts({ context }) {
    const { messages, bytes, wrong, streams } = member(context);
    return { messages, bytes, wrong, streams };
  },
  history({ context, path }) {
    const { history, streams } = member(context);
    history.save(path);
    return { streams: streams.map(({ from, topic, partition }) => ({ from, topic, partition })) };
  },
  statistics({ context }) {
    const request = context === undefined ? {} : { Context: context };
    return JSON.parse(requireFactory().getStatistics(JSON.stringify(request)));
  },
  role({ context }) {
    const { context: c } = member(context);
    return { role: c.getRole(), reliability: c.getReliability(), tier: c.getTierName() };
  },
  usage,
  refuseForces() {
    refuseForces();
    return null;
  },
  async close() {
    for (const m of members.values()) m.resume();
    members.clear();
    if (factory !== null) await deleteRcmFactory(factory);
    factory = null;
    return null;
  },
};

interface Request {
  readonly id: number;
  readonly command: keyof Commands;
  readonly args: never;
}

async function answer({ id, command, args }: Request): Promise<void> {
  try {
    report({ kind: "answer", id, value: await handlers[command](args) });
  } catch (error) {
    const code = error instanceof RcmError ? error.code : "";
    const details = error instanceof RcmError ? error.details : [];
    const message = error instanceof Error ? error.message : String(error);
    report({ kind: "answer", id, error: { code, message, details } });
  }
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => void answer(JSON.parse(line) as Request));
lines.on("close", () => process.exit(0));
report({
  kind: "hello",
  runtime: process.versions["bun"] === undefined ? "deno" : "bun",
  pid: process.pid,
});
