/** Runs the programs of a row, a yardstick beside them, and looks at the machine around each. */

import { configOf, nativeText, unsupportedKeys } from "../bench/config.ts";
import type { Answer } from "../bench/job.ts";
import { parseInjection } from "../src/plan.ts";
import {
  busyShare,
  coreTimes,
  type Figures,
  figuresOf,
  moodAround,
  type Run,
  type Runner,
  stolenShare,
} from "./bench_figures.ts";
import type { Program, Row, Task } from "./bench_rows.ts";
import { nativeRoot } from "./native.ts";
import { removeIfThere } from "./paths.ts";
import { capture, findProgram, ToolError } from "./process.ts";
import { projectRoot } from "./toolchain.ts";

/** Longest run of a row's programs. */
const runMs = 90_000;
/** Cores are idle when they work less than this share of the time. */
const idleBelow = 0.04;
const stolenBelow = 0.02;
const idleLookMs = 150;

export interface Stage {
  readonly bun: string;
  readonly cores: readonly [number, number];
  /** Network namespace of this run; null: the machine's own. */
  readonly namespace: string | null;
  /** Folder for configurations and logs. */
  readonly folder: string;
  /** How long the cores are waited for before a run. */
  readonly patienceMs: number;
}

/** Opens what a run of the benchmarks needs: a namespace with a loopback of MTU 1500 as root. */
export async function openStage(
  bun: string,
  patienceMs: number,
): Promise<Stage & AsyncDisposable> {
  if (findProgram("taskset") === null) {
    throw new ToolError("taskset is missing: sudo apt-get install -y util-linux");
  }
  const cores = navigator.hardwareConcurrency;
  if (cores < 2) throw new ToolError("the benchmarks need two cores");
  const folder = await Deno.makeTempDir({ prefix: "rcm-bench-" });
  const name = `rcm-bench-${Deno.pid}`;
  let namespace: string | null = null;
  if (Deno.uid() === 0 && findProgram("ip") !== null) {
    const added = await capture("ip", ["netns", "add", name]);
    if (added.code === 0) {
      namespace = name;
      const lo = ["netns", "exec", name, "ip", "link", "set", "lo", "mtu", "1500", "up"];
      const { code, output } = await capture("ip", lo);
      if (code !== 0) throw new ToolError(`lo of a namespace: ${output}`);
    }
  }
  const close = async () => {
    for (const child of running) end(child);
    if (namespace !== null) await capture("ip", ["netns", "del", namespace]);
    await removeIfThere(folder);
    await removeIfThere(`/dev/shm/${name}`);
  };
  // Who interrupts a run gets the cores back, and nothing stays behind.
  const interrupted = () => void close().finally(() => Deno.exit(130));
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) Deno.addSignalListener(signal, interrupted);
  return {
    bun,
    cores: [0, 1],
    namespace,
    folder,
    patienceMs,
    async [Symbol.asyncDispose]() {
      for (const signal of signals) Deno.removeSignalListener(signal, interrupted);
      await close();
    },
  };
}

/** Programs that have not ended. */
const running = new Set<Child>();

interface Child {
  readonly process: Deno.ChildProcess;
  readonly output: Promise<string>;
  readonly error: Promise<string>;
}

function spawn(
  stage: Stage,
  core: number | null,
  command: readonly string[],
  env: Record<string, string> = {},
): Child {
  const inside = stage.namespace === null ? [] : ["ip", "netns", "exec", stage.namespace];
  const pinned = core === null ? [] : ["taskset", "-c", `${core}`];
  const [program = "", ...args] = [...inside, ...pinned, ...command];
  const process = new Deno.Command(program, {
    args,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const text = (stream: ReadableStream<Uint8Array>) => new Response(stream).text();
  const child = { process, output: text(process.stdout), error: text(process.stderr) };
  running.add(child);
  void process.status.then(() => running.delete(child));
  return child;
}

/** Waits for a program that answers; ends it when it takes too long. */
async function answerOf(child: Child): Promise<Answer> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end(child);
  }, runMs);
  const { success } = await child.process.status;
  clearTimeout(timer);
  const [output, error] = [await child.output, await child.error];
  if (late) throw new RunError(`no answer within ${runMs / 1000} s ${error}`);
  if (!success) throw new RunError(error.trim() || output.trim() || "it failed");
  return JSON.parse(output) as Answer;
}

function end(child: Child): void {
  try {
    child.process.kill("SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** Why a run has no figure. */
export class RunError extends Error {
  override readonly name = "RunError";
}

const benchProgram = `${nativeRoot}/out/bench`;

/** Runs one of the yardsticks. */
export async function runTask(stage: Stage, task: Task): Promise<Answer> {
  const text = JSON.stringify({ ...task, cores: stage.cores, folder: stage.folder });
  return await answerOf(spawn(stage, null, [benchProgram, text]));
}

let started = 0;

/** Runs a row's programs in Zig, Deno or Bun. */
export async function runPrograms(
  stage: Stage,
  row: Row,
  runner: Exclude<Runner, "raw">,
): Promise<Answer> {
  started += 1;
  const prefix = `rcm-bench-${Deno.pid}/${started}-`;
  const config = configOf(row.wiring);
  const configPath = `${stage.folder}/${started}.json`;
  await Deno.writeTextFile(configPath, JSON.stringify(config));
  const children: Child[] = [];
  await Deno.mkdir(workDirOf(stage));
  try {
    let measuring: Child | null = null;
    for (const program of row.programs) {
      const core = program.core === undefined ? null : stage.cores[program.core];
      const isNative = runner === "zig" || program.native === true;
      const child = isNative
        ? spawn(stage, core, await nativeCommand(stage, row, program, prefix))
        : spawn(stage, core, scriptCommand(stage, program, runner, prefix, configPath), {
          ...(program.inject === undefined ? {} : { RCM_INJECT: program.inject }),
          DENO_NO_UPDATE_CHECK: "1",
        });
      children.push(child);
      if (program.measures === true) measuring = child;
    }
    if (measuring === null) throw new RunError("nobody measures");
    const others = children.filter((child) => child !== measuring);
    const early = Promise.race(others.map(async (child) => {
      await child.process.status;
      throw new RunError(`the other end: ${(await child.error).trim()}`);
    }));
    const answer = answerOf(measuring);
    return await (others.length === 0 ? answer : Promise.race([answer, early]));
  } finally {
    for (const child of children) end(child);
    await Promise.allSettled(
      children.flatMap((child) => [child.process.status, child.output, child.error]),
    );
    await removeIfThere(`/dev/shm/rcm-bench-${Deno.pid}`);
    await removeIfThere(workDirOf(stage));
  }
}

/** Of the programs started last: their logs and records. */
const workDirOf = (stage: Stage) => `${stage.folder}/work-${started}`;

async function nativeCommand(stage: Stage, row: Row, program: Program, prefix: string) {
  const path = `${stage.folder}/${started}-${program.context}.txt`;
  const config = configOf(row.wiring);
  // What is native in a row of scripts is there to send: nobody measures its threads.
  const inline = program.native === true
    ? configOf({ ...row.wiring, contextKeys: { ...row.wiring.contextKeys, Threading: "inline" } })
    : config;
  await Deno.writeTextFile(
    path,
    nativeText(inline, program.context, prefix, workDirOf(stage), parseInjection(program.inject)),
  );
  const core = program.core === undefined ? 0 : stage.cores[program.core];
  const job = { ...program.job, start: path, core };
  return [benchProgram, JSON.stringify({ work: "ours", job })];
}

function scriptCommand(
  stage: Stage,
  program: Program,
  runner: Exclude<Runner, "raw" | "zig">,
  prefix: string,
  config: string,
): string[] {
  const job = JSON.stringify({
    ...program.job,
    config,
    context: program.context,
    prefix,
    delivery: program.delivery ?? "poll",
    workDir: workDirOf(stage),
  });
  const worker = `${projectRoot}/bench/worker.ts`;
  return runner === "deno"
    ? [Deno.execPath(), "run", "-A", "--no-prompt", worker, job]
    : [stage.bun, worker, job];
}

/** @returns why a row can't be run in this version; null: it can */
export function missingOf(row: Row): string | null {
  const keys = unsupportedKeys(configOf(row.wiring));
  return keys.length === 0 ? null : `needs ${keys.join(", ")}, which this version does not have`;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const look = (stage: Stage) => coreTimes(Deno.readTextFileSync("/proc/stat"), stage.cores);

/** Waits until nobody uses the cores. @returns whether that came true */
async function isIdle(stage: Stage, patienceMs: number): Promise<boolean> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const from = look(stage);
    await sleep(idleLookMs);
    if (busyShare(from, look(stage)) < idleBelow) return true;
    if (Date.now() >= deadline) return false;
  }
}

async function moodNs(stage: Stage): Promise<number> {
  const answer = await runTask(stage, { work: "mood" });
  return answer.kind === "time" ? answer.ns : NaN;
}

/** A yardstick or a runner of a row once, with a look at the machine before and after. */
export async function runOnce(
  stage: Stage,
  row: Row,
  runner: Runner,
  round: number,
): Promise<Run> {
  const quietBefore = await isIdle(stage, stage.patienceMs);
  const beforeNs = await moodNs(stage);
  const from = look(stage);
  let figures: Figures;
  if (runner === "raw") {
    const { task, reading } = row.yardstick;
    figures = figuresOf(await runTask(stage, task), reading);
  } else {
    figures = figuresOf(await runPrograms(stage, row, runner), row.reading);
  }
  const stolen = stolenShare(from, look(stage));
  const afterNs = await moodNs(stage);
  const quietAfter = await isIdle(stage, idleLookMs);
  return {
    runner,
    round,
    mood: moodAround(beforeNs, afterNs),
    moodNs: [beforeNs, afterNs],
    disturbed: !quietBefore || !quietAfter || stolen > stolenBelow,
    ...figures,
  };
}
