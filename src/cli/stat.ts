/** `rcm stat`: the contexts that run on this machine, in whatever process. */

import type { Command } from "commander";
import * as abi from "../native/abi.ts";
import type { RcmRole } from "../enums.ts";
import { contextJson } from "../observe/statistics.ts";
import {
  COUNTERS_FOLDER,
  type CountersLook,
  type Found,
  readAllCounters,
} from "./counters_file.ts";
import { Exit, pause, type Shell, wholeNumber } from "./shell.ts";
import { statLines } from "./stat_text.ts";

const HOUR_MS = 3_600_000;
const LOOKS_MAX = 1_000_000_000;
/** Clears the terminal from the top, as `top` does. */
const HOME = "\x1b[H\x1b[J";

interface StatOptions {
  readonly json?: true;
  readonly watch?: true;
  readonly context?: string[];
  readonly interval: string;
  readonly count?: string;
  readonly directory: string;
  readonly prefix?: string;
}

/** Two looks at all contexts, `rates` between them. */
export interface Looks {
  readonly now: Found;
  /** Null: the first look. */
  readonly before: Found | null;
}

const ABOUT =
  "Lists the contexts that run on this machine: what they send and receive, how far each cursor " +
  "is, and rates. Reads files in shared memory only: a running program does not notice.";

/** Adds `rcm stat`. */
export function addStat(program: Command, shell: Shell): void {
  program.command("stat")
    .summary("lists the contexts that run on this machine")
    .description(ABOUT)
    .option("-w, --watch", "go on until Ctrl-C, like top")
    .option("-i, --interval <ms>", "between two looks, which rates are taken from; 0: one", "500")
    .option("-n, --count <looks>", "with --watch: end after so many")
    .option("-c, --context <name...>", "these contexts only")
    .option("--prefix <text>", "contexts with this file prefix only (setFilePrefix)")
    .option("--json", "one line of JSON a look: getStatistics, and where each context runs")
    .option("--directory <folder>", "where the files lie", COUNTERS_FOLDER)
    .addHelpText(
      "after",
      "\nExit code 1: no context runs (of those asked for), or a file can't be read.",
    )
    .action((options: StatOptions) => stat(options, shell));
}

async function stat(options: StatOptions, shell: Shell): Promise<void> {
  const intervalMs = wholeNumber("--interval", options.interval, 0, HOUR_MS);
  const most = options.count === undefined
    ? LOOKS_MAX
    : wholeNumber("--count", options.count, 1, LOOKS_MAX);
  let before: Found | null = null;
  if (!options.watch && intervalMs > 0) {
    before = look(options);
    if (!await pause(intervalMs, shell.signal)) return;
  }
  for (let looks = 1;; looks += 1) {
    const now = look(options);
    show({ now, before }, options, shell);
    shell.exit = now.looks.length === 0 || now.faults.length > 0 ? Exit.FAULT : Exit.OK;
    before = now;
    if (!options.watch || looks >= most) return;
    if (!await pause(Math.max(1, intervalMs), shell.signal)) return;
  }
}

function look({ context, directory, prefix }: StatOptions): Found {
  const { looks, faults } = readAllCounters(directory);
  const isWanted = ({ names }: CountersLook) =>
    (context?.includes(names.context) ?? true) && (prefix ?? names.prefix) === names.prefix;
  return { looks: looks.filter(isWanted), faults };
}

function show(looks: Looks, options: StatOptions, shell: Shell): void {
  if (options.json) return shell.out(statJson(looks));
  const lines = statLines(looks);
  if (options.watch && shell.terminal !== null) {
    // Two are left for the cursor's line and for who resizes.
    const { rows } = shell.terminal;
    const shown = lines.slice(0, Math.max(1, rows - 2));
    return shell.out(HOME + shown.join("\n"));
  }
  for (const line of lines) shell.out(line);
}

/** What `getStatistics` gives, without `RefusedCount`, which the program alone knows. */
function statJson({ now, before }: Looks): string {
  const ctxs = now.looks.map((one) => {
    const { RefusedCount: _, ...rest } = statisticsOf(one) as Record<string, unknown>;
    const { pid, runtime, workDir, prefix } = one.names;
    return {
      ...rest,
      Process: {
        Pid: pid,
        Runtime: runtime,
        WorkDir: workDir,
        FilePrefix: prefix,
        File: one.path,
        StartedMilli: one.startedMs,
        StampMilli: one.stampMs,
      },
      Rates: ratesOf(one, before),
    };
  });
  return JSON.stringify({ ctxs, faults: now.faults });
}

function statisticsOf({ names, snapshot }: CountersLook): object {
  const transports = new Map(names.transports.map((one) => [one.id, one]));
  const contexts = new Map(names.contexts.map(({ id, name }) => [id, name]));
  return contextJson({
    contextId: names.contextId,
    context: names.context,
    tierName: names.tierName,
    role: snapshot.header.role as RcmRole,
    refusedCount: 0,
    transport: (id) => transports.get(id),
    contextName: (id) => contexts.get(id) ?? "",
    snapshot,
  }, abi);
}

/** A second's worth of what was sent, received and processed; null: there was no earlier look. */
export interface Rates {
  readonly SentMsgs: number;
  readonly SentBytes: number;
  readonly ReceivedMsgs: number;
  readonly ReceivedBytes: number;
  readonly ProcessedMsgs: number;
}

/** @returns what went by between two looks at a context, by the second of its own clock */
export function ratesOf(now: CountersLook, before: Found | null): Rates | null {
  const old = before?.looks.find(({ path, startedMs }) =>
    path === now.path && startedMs === now.startedMs
  );
  if (old === undefined) return null;
  const seconds = (now.stampMs - old.stampMs) / 1000;
  const rate = (count: (look: CountersLook) => number) =>
    seconds > 0 ? Math.round((count(now) - count(old)) / seconds) : 0;
  return {
    SentMsgs: rate(({ snapshot }) => sum(snapshot.tx.map((tx) => tx.stats.currentMsgNo))),
    SentBytes: rate(({ snapshot }) => snapshot.header.bytesSent),
    ReceivedMsgs: rate(({ snapshot }) => sum(snapshot.rx.map((rx) => rx.messageCount))),
    ReceivedBytes: rate(({ snapshot }) => snapshot.header.bytesReceived),
    ProcessedMsgs: rate(({ snapshot }) => snapshot.deliver.nextMsgSqnDeliver),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
