/**
 * Drives node processes: starts them in Deno or Bun, on a host of its own or on this one, kills and
 * stops them, collects what they report, and waits for what should happen.
 *
 *     e2e("a receiver gets what was sent", async (bed) => {
 *       const config = bed.config({ topics: [...], contexts: [...] });
 *       const a = await bed.node("deno", config);
 *       await a.sender("tx");
 *       ...
 *     });
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import test from "node:test";
import { setTimeout } from "node:timers";
import { fileURLToPath } from "node:url";
import type { RcmConfigInput } from "../../../mod.ts";
import type {
  Answer,
  BigReport,
  Commands,
  EventReport,
  LogReport,
  Report,
  RoleReport,
  StreamName,
} from "./commands.ts";
import { checkHistory, type Delivered, type Expected, readHistory } from "./history.ts";
import { type Host, makeNetwork, type Network, networkMissing } from "./hosts.ts";
import { beginRun, forgetChild, keepChild, makeFolder, RUN_VARIABLE, runId } from "./run.ts";

export type Runtime = "deno" | "bun";
export const runtimes: readonly Runtime[] = ["deno", "bun"];

/** `RCM_LONG=1`: full length. */
export const isLong = process.env["RCM_LONG"] === "1";
/** How long a test waits for something that should happen soon. */
export const LIMIT_MS = 60_000;

const nodeFile = fileURLToPath(new URL("./node.ts", import.meta.url));
const root = fileURLToPath(new URL("../../../", import.meta.url));
/** Below the ports that systems give out by themselves, and below the repair ports. */
const PORT_FIRST = 10_000;
const PORT_COUNT = 18_000;

/** What a command of a node has thrown. */
export class NodeError extends Error {
  override readonly name = "NodeError";
  readonly code: string;
  readonly details: readonly string[];
  constructor(who: string, command: string, error: NonNullable<Answer["error"]>) {
    super(`${who}: ${command}: ${error.code} ${error.message}`);
    this.code = error.code;
    this.details = error.details;
  }
}

/** A running node process. */
export interface Node {
  readonly runtime: Runtime;
  readonly pid: number;
  /** All that came so far. */
  readonly events: readonly EventReport[];
  readonly logs: readonly LogReport[];
  readonly bigs: readonly BigReport[];
  readonly roles: readonly RoleReport[];
  /** Sends a command and waits for its answer; throws a {@linkcode NodeError}. */
  call<K extends keyof Commands>(
    command: K,
    args: Commands[K]["in"],
  ): Promise<Commands[K]["out"]>;
  /** A context with a transmitter of each topic named, started. */
  sender(context: string, options?: SenderOptions): Promise<void>;
  /** A context with a receiver, started. */
  receiver(context: string, options?: ReceiverOptions): Promise<void>;
  /** The part of `getStatistics` that is about one context. */
  statistics(context: string): Promise<Record<string, unknown>>;
  /** Waits until the context's receiver has got so many messages. */
  received(context: string, messages: number, limitMs?: number): Promise<void>;
  /** What the context's receiver has got. */
  history(context: string): Promise<{ records: Delivered[]; streams: readonly StreamName[] }>;
  /** Fails where the history is not what was sent. */
  check(context: string, expected: readonly Expected[]): Promise<void>;
  /** Waits for an event of these properties that came at or after place `from` of `events`. */
  event(want: Partial<EventReport>, from?: number, limitMs?: number): Promise<EventReport>;
  /** Waits for a log line. */
  log(want: { key: number; content?: RegExp }, limitMs?: number): Promise<LogReport>;
  /** SIGSTOP, SIGCONT: all threads. */
  freeze(): void;
  thaw(): void;
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>;
  /** Stops its contexts and lets it end by itself; fails where it does not. */
  close(): Promise<void>;
  /** Exit code once it has ended; -1: by a signal. */
  readonly ended: Promise<number>;
  /** For the text of a failure: its last lines and events, its counters, its standard error. */
  describe(): Promise<string>;
}

export type Delivery = "callback" | "poll" | "iterate";
export interface ReceiverOptions {
  readonly delivery?: Delivery;
  readonly journal?: string;
  /** Topic on which it sends on what it is given. */
  readonly forward?: string;
  /** Journal of transactions: each message makes one (`SyncMode` 1 and 2). */
  readonly results?: string;
}
export interface SenderOptions {
  /** Default `["t"]`. */
  readonly topics?: readonly string[];
  readonly txArg?: number;
  readonly partitions?: readonly number[];
}

/** What is left open of a configuration: the bed fills in ports, ids and quick timers. */
export interface ConfigWish {
  /** Default: one topic "t" with one partition. */
  readonly transports?: readonly Record<string, unknown>[];
  readonly contexts: readonly ({ readonly Name: string } & Record<string, unknown>)[];
  /** Values of all contexts, of all transports. */
  readonly all?: Record<string, unknown>;
  readonly transport?: Record<string, unknown>;
  readonly top?: Record<string, unknown>;
}

/** A test's place: what is made here goes away with the test. */
export interface Bed {
  /** Of this test only. */
  readonly folder: string;
  /** In front of all names in `/dev/shm`. */
  readonly prefix: string;
  /** A port that no other test of this process has, for data; multicast group likewise. */
  readonly port: number;
  readonly group: string;
  /** Transports get Id, Topic "t", group and port where they say nothing; contexts Id, Ip. */
  config(wish: ConfigWish): RcmConfigInput;
  node(runtime: Runtime, config: RcmConfigInput, options?: NodeOptions): Promise<Node>;
  /** Hosts that reach each other; the test must be made with `{ network: true }`. */
  hosts(count: number): readonly Host[];
  /** Names of this test's files in /dev/shm, without the prefix. */
  files(): string[];
  /** Removes those of a context; nothing may have them open. */
  wipe(context: string): void;
}

export interface NodeOptions {
  readonly host?: Host;
  /** It gets a `/dev/shm` of its own, of this size; needs what `{ network: true }` needs. */
  readonly shmMBytes?: number;
  /** The same of a folder: a disk of its own. */
  readonly disk?: { readonly folder: string; readonly mBytes: number };
  readonly env?: Readonly<Record<string, string>>;
  /** For `setArbArg`: members of tiers need it. */
  readonly arbitration?: { readonly address: string; readonly path: string };
  /** Of an earlier node: its record and state are found again. */
  readonly workDir?: string;
}

let beds = 0;

/** Defines a test. Without what it needs it is skipped, with the command that installs it. */
export function e2e(
  name: string,
  run: (bed: Bed) => Promise<void>,
  needs: { readonly network?: boolean; readonly long?: boolean } = {},
): void {
  if (needs.long === true && !isLong) return;
  const missing = needs.network === true ? networkMissing() : false;
  const title = missing === false ? name : `${name} [${missing}]`;
  test(title, { skip: missing }, async () => {
    beginRun();
    const { bed, end, describe } = makeBed();
    try {
      await run(bed);
    } catch (error) {
      if (error instanceof Error) error.message += `\n${await describe()}`;
      throw error;
    } finally {
      await end();
    }
  });
}

function makeBed(): { bed: Bed; end(): Promise<void>; describe(): Promise<string> } {
  beds += 1;
  const nodes: Node[] = [];
  const networks: Network[] = [];
  const place = process.pid * 37 + beds * 11;
  const prefix = `${runId}-${beds}/`;
  const folder = makeFolder();
  const shm = join("/dev/shm", prefix);
  const port = PORT_FIRST + (place * 8) % PORT_COUNT;
  const group = `239.${1 + place % 250}.${1 + (place >> 8) % 250}.${1 + beds % 250}`;
  const files = () => (existsSync(shm) ? readdirSync(shm) : []);
  const bed: Bed = {
    folder,
    prefix,
    port,
    group,
    config: (wish) => makeConfig(wish, group, port),
    async node(runtime, config, options = {}) {
      const workDir = options.workDir ?? join(folder, `${nodes.length}`);
      mkdirSync(workDir, { recursive: true });
      const node = await startNode(runtime, options, folder);
      nodes.push(node);
      const { arbitration } = options;
      await node.call(
        "open",
        arbitration === undefined
          ? { config, prefix, workDir }
          : { config, prefix, workDir, arbitration },
      );
      return node;
    },
    hosts(count) {
      const network = makeNetwork(count);
      networks.push(network);
      return network.hosts;
    },
    files,
    wipe(context) {
      for (const name of files()) if (name.startsWith(`${context}_`)) rmSync(join(shm, name));
    },
  };
  return {
    bed,
    async end() {
      await Promise.all(nodes.map((node) => node.kill()));
      for (const network of networks) network.close();
      rmSync(shm, { recursive: true, force: true });
      rmSync(folder, { recursive: true, force: true });
    },
    async describe() {
      return (await Promise.all(nodes.map((node) => node.describe()))).join("\n");
    },
  };
}

function makeConfig(wish: ConfigWish, group: string, port: number): RcmConfigInput {
  const transports = (wish.transports ?? [{}]).map((transport, index) => ({
    Id: index + 1,
    Topic: "t",
    Addr: group,
    Port: port + index,
    HeartbeatIntervalMilli: 200,
    HeartbeatTimeoutMilli: 2000,
    AckIntervalMilli: 100,
    AckTimeoutMilli: 2000,
    ...wish.transport,
    ...transport,
  }));
  const contexts = wish.contexts.map((context, index) => ({
    Id: index + 1,
    Ip: "127.0.0.1",
    IsRecord: 0,
    MaxMemoryAllowedMBytes: 16,
    ReceiveMemoryMBytes: 64,
    ...wish.all,
    ...context,
  }));
  const config = { Rcm: { ...wish.top, Transports: transports, Contexts: contexts } };
  return config as unknown as RcmConfigInput;
}

/** The program of a runtime: as the test runner names it, else this one, or the project's own. */
export function programOf(runtime: Runtime): readonly string[] {
  if (runtime === "deno") {
    return [process.env["RCM_DENO"] ?? process.execPath, "run", "-A", "--quiet"];
  }
  const named = process.env["RCM_BUN"];
  if (named !== undefined) return [named];
  const folder = join(root, ".toolchain");
  const versions = existsSync(folder) ? readdirSync(folder) : [];
  for (const version of versions.filter((name) => name.startsWith("bun-"))) {
    const found = findBun(join(folder, version));
    if (found !== null) return [found];
  }
  throw new Error("RCM_BUN does not name Bun; run this by: deno task test --only=e2e");
}

function findBun(folder: string): string | null {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.name === "bun" && entry.isFile()) return path;
    const deeper = entry.isDirectory() ? findBun(path) : null;
    if (deeper !== null) return deeper;
  }
  return null;
}

async function startNode(runtime: Runtime, options: NodeOptions, folder: string): Promise<Node> {
  const { host, env, shmMBytes, disk } = options;
  const enter = host === undefined ? [] : ["ip", "netns", "exec", host.namespace];
  const small = shmMBytes === undefined ? disk : { folder: "/dev/shm", mBytes: shmMBytes };
  if (small !== undefined) {
    const mount = `mount -t tmpfs -o size=${small.mBytes}m rcm-e2e "${small.folder}" && exec "$@"`;
    enter.push("unshare", "--mount", "sh", "-c", mount, "sh");
  }
  const [program = "", ...args] = [...enter, ...programOf(runtime), nodeFile];
  const child = spawn(program, args, {
    env: { ...process.env, NO_COLOR: "1", ...env, [RUN_VARIABLE]: String(process.pid) },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const node = attach(child, runtime, folder);
  await node.hello;
  return node;
}

let histories = 0;

function attach(
  child: ChildProcess,
  runtime: Runtime,
  folder: string,
): Node & { readonly hello: Promise<void> } {
  const pid = child.pid ?? 0;
  if (pid > 0) keepChild(pid);
  const events: EventReport[] = [];
  const logs: LogReport[] = [];
  const roles: RoleReport[] = [];
  const bigs: BigReport[] = [];
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  const commands = new Map<number, string>();
  let stderr = "";
  let nextId = 1;
  let isOver = false;
  let exit: string | null = null;
  const who = () => `${runtime} node ${pid}`;

  let hello!: () => void;
  let noHello!: (error: Error) => void;
  const helloCame = new Promise<void>((resolve, reject) => {
    hello = resolve;
    noHello = reject;
  });
  const ended = new Promise<number>((resolve) => {
    child.on("error", (error) => {
      stderr += String(error);
      finish("it could not be started");
      resolve(-1);
    });
    child.on("close", (code, signal) => {
      finish(signal === null ? `it ended with code ${code}` : `it was ended by ${signal}`);
      resolve(code ?? -1);
    });
  });

  function finish(how: string): void {
    if (isOver) return;
    isOver = true;
    exit = how;
    forgetChild(pid);
    const error = new Error(`${who()}: ${how}: ${tail(stderr)}`);
    noHello(error);
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  }

  function settle(answer: Answer): void {
    const waiter = waiting.get(answer.id);
    waiting.delete(answer.id);
    const command = commands.get(answer.id) ?? "";
    commands.delete(answer.id);
    if (answer.error === undefined) waiter?.resolve(answer.value);
    else waiter?.reject(new NodeError(who(), command, answer.error));
  }

  child.stderr!.on("data", (data: Uint8Array) => stderr += String(data));
  // A node that was killed can't be written to; its end is told by `ended`.
  child.stdin!.on("error", () => {});
  createInterface({ input: child.stdout! }).on("line", (line) => {
    if (!line.startsWith("{")) return void (stderr += `${line}\n`);
    const report = JSON.parse(line) as Report;
    if (report.kind === "answer") settle(report);
    else if (report.kind === "event") events.push(report);
    else if (report.kind === "log") logs.push(report);
    else if (report.kind === "role") roles.push(report);
    else if (report.kind === "big") bigs.push(report);
    else hello();
  });

  const node: Node & { readonly hello: Promise<void> } = {
    runtime,
    pid,
    events,
    logs,
    roles,
    bigs,
    hello: helloCame,
    ended,
    call<K extends keyof Commands>(command: K, args: Commands[K]["in"]) {
      const id = nextId++;
      const answer = new Promise<unknown>((resolve, reject) => {
        if (isOver) return reject(new Error(`${who()}: ${command}: ${exit}: ${tail(stderr)}`));
        waiting.set(id, { resolve, reject });
        commands.set(id, command);
        child.stdin!.write(`${JSON.stringify({ id, command, args })}\n`);
      });
      // A test that fails does not wait for all that it has begun.
      answer.catch(() => {});
      return answer as Promise<Commands[K]["out"]>;
    },
    async sender(context, { topics = ["t"], txArg, partitions } = {}) {
      await node.call("context", { context });
      for (const topic of topics) {
        await node.call("transmitter", {
          context,
          topic,
          ...(txArg === undefined ? {} : { txArg }),
          ...(partitions === undefined ? {} : { partitions }),
        });
      }
      await node.call("start", { context });
    },
    async receiver(context, { delivery = "callback", ...options } = {}) {
      await node.call("context", { context });
      const topic = options.forward;
      if (topic !== undefined) await node.call("transmitter", { context, topic });
      await node.call("receiver", { context, delivery, ...options });
      await node.call("start", { context });
    },
    async statistics(context) {
      const { ctxs } = await node.call("statistics", { context }) as {
        ctxs: Record<string, unknown>[];
      };
      assert.equal(ctxs.length, 1, `statistics of ${context}`);
      return ctxs[0]!;
    },
    async received(context, messages, limitMs = LIMIT_MS) {
      let got = 0;
      await until(
        async () => {
          got = (await node.call("counts", { context })).messages;
          return got >= messages;
        },
        () => `${context} gets ${messages} messages; it got ${got}`,
        limitMs,
        20,
      );
    },
    async history(context) {
      histories += 1;
      const path = join(folder, `history-${histories}.bin`);
      const { streams } = await node.call("history", { context, path });
      const records = readHistory(path);
      rmSync(path);
      return { records, streams };
    },
    async check(context, expected) {
      const { records, streams } = await node.history(context);
      const wrong = checkHistory(records, streams, expected);
      assert.deepEqual(wrong, [], `what ${context} got`);
    },
    async event(want, from = 0, limitMs = LIMIT_MS) {
      const keys = Object.entries(want) as [keyof EventReport, unknown][];
      const find = () =>
        events.slice(from).find((event) => keys.every(([key, value]) => event[key] === value));
      await until(() => find() !== undefined, () => `an event ${JSON.stringify(want)}`, limitMs);
      return find()!;
    },
    async log({ key, content }, limitMs = LIMIT_MS) {
      const find = () =>
        logs.find((line) => line.key === key && (content?.test(line.content) ?? true));
      await until(() => find() !== undefined, () => `a log line ${key} ${content ?? ""}`, limitMs);
      return find()!;
    },
    freeze: () => void process.kill(pid, "SIGSTOP"),
    thaw: () => void process.kill(pid, "SIGCONT"),
    async kill() {
      if (!isOver) child.kill("SIGKILL");
      await ended;
    },
    async close() {
      await node.call("close", {});
      child.stdin!.end();
      const code = await within(ended, LIMIT_MS, () => `${who()} ends`);
      assert.equal(code, 0, `${who()}: ${stderr}`);
    },
    async describe() {
      const lines = logs.slice(-15).map((line) => `  ${line.key} ${line.content}`);
      const told = events.slice(-15).map((e) =>
        `  ${e.type} in ${e.context} of ${e.peer} ${e.topic}/${e.partition} ` +
        `${e.lossStart}..${e.lossEnd}`
      );
      const counters = isOver ? [] : await countersOf(node).catch((error) => [String(error)]);
      const head = `${who()} (${exit ?? "running"}):`;
      return [head, ...lines, ...told, ...counters, stderr].join("\n");
    },
  };
  return node;
}

/** What matters of a long text. */
const tail = (text: string) => text.slice(-4000);

/** A line for each sent partition and each received stream of a node: what is not 0. */
async function countersOf(node: Node): Promise<string[]> {
  const statistics = node.call("statistics", {}) as Promise<
    { ctxs: { Context: string; txs: object[][]; rx: { Rms: object[] } }[] }
  >;
  const { ctxs } = await within(statistics, 1000, () => "statistics: it does not answer");
  return ctxs.flatMap(({ Context, txs, rx }) =>
    [...txs.flat(), ...rx.Rms].map((counters) => {
      const shown = Object.entries(counters).filter(([, value]) => value !== 0);
      return `  ${Context}: ${JSON.stringify(Object.fromEntries(shown))}`;
    })
  );
}

/** Waits until a condition holds; throws when it does not within the limit. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: () => string,
  limitMs = LIMIT_MS,
  everyMs = 5,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what()}`);
    await sleep(everyMs);
  }
}

/** Waits for a promise, but not for ever. */
export async function within<T>(
  promise: Promise<T>,
  limitMs: number,
  what: () => string,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`not within ${limitMs} ms: ${what()}`)),
      limitMs,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Asserts that a command is refused with an `RcmError` of a code. @returns the error */
export async function refused(promise: Promise<unknown>, code: string): Promise<NodeError> {
  const error = await promise.then(() => null, (reason: unknown) => reason);
  assert.ok(error instanceof NodeError, `${code} expected, not ${String(error)}`);
  assert.equal(error.code, code, error.message);
  return error;
}
