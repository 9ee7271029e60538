/** Arithmetic of the benchmarks: what a run's answer says, rounds put together, targets judged. */

import { Histogram, type HistogramText } from "../bench/histogram.ts";
import type { Answer } from "../bench/job.ts";

/** A cache line goes to and fro between the cores in less than 200 ns (NEAR), or not (FAR). */
export type Mood = "NEAR" | "FAR";
const NEAR_BELOW_NS = 200;

/** Who does the work; the yardstick is the raw limit. */
export type Runner = "raw" | "zig" | "deno" | "bun";

/** What the figures of a row are. */
export type Unit = "ns" | "M/s" | "GB/s" | "ms" | "bytes" | "ratio";

/** What one run found. */
export interface Run {
  readonly runner: Runner;
  readonly round: number;
  /** Null: it was not the same before and after. */
  readonly mood: Mood | null;
  readonly moodNs: readonly [before: number, after: number];
  /** Somebody else used the cores. */
  readonly disturbed: boolean;
  /** The figure that targets are about: a p50, or a rate. */
  readonly value: number;
  /** Besides it, by name. */
  readonly more: Readonly<Record<string, number>>;
  readonly histogram: HistogramText | null;
}

/** One condition; several must hold together. */
export interface Target {
  /** `value`, `ratio` (to the yardstick of the same round), or a name of `more`. */
  readonly of: string;
  readonly atMost?: number;
  readonly atLeast?: number;
  /** Only in this mood. */
  readonly mood?: Mood;
}

/** A line of the table: all good rounds of one runner in one mood. */
export interface Line {
  readonly runner: Runner;
  readonly mood: Mood | null;
  readonly rounds: number;
  /** No round was good: these were not. */
  readonly disturbed: boolean;
  readonly value: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly yardstick: number;
  readonly ratio: number;
  readonly more: Readonly<Record<string, number>>;
  readonly histogram: HistogramText | null;
  /** Null: there is no target for it. */
  readonly met: boolean | null;
}

/** @returns the mood that a cache line's round trip shows */
export const moodOf = (roundTripNs: number): Mood => roundTripNs < NEAR_BELOW_NS ? "NEAR" : "FAR";

/** @returns the mood of a run; null when it changed */
export function moodAround(beforeNs: number, afterNs: number): Mood | null {
  return moodOf(beforeNs) === moodOf(afterNs) ? moodOf(beforeNs) : null;
}

/** @returns the middle of some numbers; NaN of none */
export function median(values: readonly number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  if (sorted.length === 0) return NaN;
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** How a row reads answers. */
export interface Reading {
  readonly unit: Unit;
  /** Latencies are halves of what was measured. */
  readonly half?: boolean;
  /** Of an open loop: how late messages behind a gap were is what counts. */
  readonly repair?: boolean;
  /** What a message of a rate counts for: messages a byte, or bytes a message. */
  readonly weight?: number;
}

/** What an answer says in a row's unit. */
export type Figures = Pick<Run, "value" | "more" | "histogram">;

/** @returns an answer in a row's unit */
export function figuresOf(answer: Answer, reading: Reading): Figures {
  const none = { more: {}, histogram: null };
  switch (answer.kind) {
    case "latency": {
      const histogram = reading.half === true ? halved(answer) : answer;
      return { value: percentile(histogram, 0.5), more: {}, histogram };
    }
    case "rate":
      return { ...none, value: answer.messages * (reading.weight ?? 1) * 1e3 / answer.ns };
    case "time":
      return { ...none, value: reading.unit === "ms" ? answer.ns / 1e6 : answer.ns };
    case "times": {
      const rates = answer.ns.map((ns) => (reading.weight ?? 1) / ns);
      return { value: median(rates.slice(1)), more: { cold: rates[0] ?? NaN }, histogram: null };
    }
    case "copy": {
      const { bytes, warmNs, readNs, coldNs } = answer;
      const more = { cold: bytes / (coldNs + readNs) };
      return { value: bytes / (warmNs + readNs), more, histogram: null };
    }
    case "paced":
      return pacedFigures(answer, reading.repair === true);
  }
}

/** The message behind a gap was seen as late as others usually are; what came on top is repair. */
function pacedFigures(answer: Answer & { kind: "paced" }, repairs: boolean): Figures {
  const usual = percentile(answer.all, 0.5);
  const repair = (share: number) => percentile(answer.behind, share) - usual;
  return {
    value: usual,
    more: {
      p99: percentile(answer.all, 0.99),
      perSecond: answer.messages * 1e9 / answer.ns,
      ...(repairs ? { gaps: answer.gaps, repairP50: repair(0.5), repairP99: repair(0.99) } : {}),
    },
    histogram: answer.all,
  };
}

/** @returns the value that a share does not exceed */
export function percentile(text: HistogramText, share: number): number {
  return merged([text]).at(share);
}

function merged(texts: readonly HistogramText[]): Histogram {
  const histogram = new Histogram();
  for (const text of texts) histogram.merge(text);
  return histogram;
}

function halved(text: HistogramText): HistogramText {
  const histogram = new Histogram();
  return histogram.mergeScaled(text, 0.5).toText();
}

/** @returns the lines of a row: a runner in a mood each, from good rounds where there are any */
export function linesOf(
  runs: readonly Run[],
  targets: Partial<Record<Runner, readonly Target[]>>,
): Line[] {
  const lines: Line[] = [];
  for (const runner of ["raw", "zig", "deno", "bun"] as const) {
    const own = runs.filter((run) => run.runner === runner);
    for (const mood of ["NEAR", "FAR"] as const) {
      const inMood = own.filter((run) => run.mood === mood);
      const good = inMood.filter((run) => !run.disturbed);
      if (good.length > 0) lines.push(lineOf(good, runs, targets[runner] ?? [], false));
      else if (inMood.length > 0) lines.push(lineOf(inMood, runs, targets[runner] ?? [], true));
    }
    const hasLine = lines.some((line) => line.runner === runner);
    if (!hasLine && own.length > 0) lines.push(lineOf(own, runs, targets[runner] ?? [], true));
  }
  return lines;
}

function lineOf(
  runs: readonly Run[],
  all: readonly Run[],
  targets: readonly Target[],
  disturbed: boolean,
): Line {
  const { runner, mood } = runs[0]!;
  const raws = runs.map((run) => {
    const ofRound = all.filter((other) => other.runner === "raw" && other.round === run.round);
    // A run whose mood changed is compared with what there is, and marked.
    return ofRound.find((other) => other.mood === run.mood) ??
      (run.mood === null ? ofRound[0] : undefined);
  });
  const ratios = runs.map((run, i) => {
    const raw = raws[i];
    return raw === undefined || runner === "raw" ? NaN : run.value / raw.value;
  });
  const texts = runs.flatMap((run) => run.histogram === null ? [] : [run.histogram]);
  const histogram = texts.length === 0 ? null : merged(texts);
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.more)))];
  const more = Object.fromEntries(
    names.map((name) => [name, median(runs.map((run) => run.more[name] ?? NaN))]),
  );
  const rawValue = median(raws.map((raw) => raw?.value ?? NaN));
  if ("repairP50" in more) more["repairRoundTrips"] = more["repairP50"]! / rawValue;
  const value = median(runs.map((run) => run.value));
  const ratio = median(ratios);
  return {
    runner,
    mood,
    rounds: runs.length,
    disturbed,
    value,
    p50: histogram?.at(0.5) ?? NaN,
    p99: histogram?.at(0.99) ?? NaN,
    p999: histogram?.at(0.999) ?? NaN,
    yardstick: rawValue,
    ratio,
    more,
    histogram: histogram?.toText() ?? null,
    // What somebody disturbed says nothing about a target, whichever side of it it is on.
    met: mood === null || disturbed ? null : judge(targets, mood, { ...more, value, ratio }),
  };
}

/** @returns whether all targets that apply are met; null when none applies or it can't be said */
export function judge(
  targets: readonly Target[],
  mood: Mood | null,
  figures: Readonly<Record<string, number>>,
): boolean | null {
  const known = targets.flatMap((target) => {
    const figure = figures[target.of];
    if (target.mood !== undefined && target.mood !== mood) return [];
    if (figure === undefined || Number.isNaN(figure)) return [];
    const low = target.atLeast === undefined || figure >= target.atLeast;
    const high = target.atMost === undefined || figure <= target.atMost;
    return [low && high];
  });
  return known.length === 0 ? null : known.every((met) => met);
}

/** @returns a figure as people read it */
export function show(value: number, unit: Unit): string {
  if (Number.isNaN(value)) return "-";
  switch (unit) {
    case "ns":
      if (value < 1000) return `${Math.round(value)} ns`;
      return value < 1e6 ? `${(value / 1e3).toFixed(2)} us` : `${(value / 1e6).toFixed(2)} ms`;
    case "M/s":
      return `${value.toFixed(value < 10 ? 2 : 1)} M/s`;
    case "GB/s":
      return `${value.toFixed(2)} GB/s`;
    case "ms":
      return `${value.toFixed(1)} ms`;
    case "bytes":
      return `${Math.round(value)} bytes`;
    case "ratio":
      return `${value.toFixed(2)}x`;
  }
}

/** @returns a target as people read it */
export function showTarget(target: Target, unit: Unit): string {
  const limit = target.atMost ?? target.atLeast ?? NaN;
  const sign = target.atMost === undefined ? ">=" : "<=";
  const plain = target.of === "ratio" ? "ratio" : target.of === "repairRoundTrips" ? null : unit;
  const text = plain === null
    ? `${limit} round trips`
    : show(limit, target.of.startsWith("repair") ? "ns" : plain);
  const name = target.of === "value" || target.of === "ratio" ? "" : `${target.of} `;
  return `${name}${sign} ${text}${target.mood === undefined ? "" : ` ${target.mood}`}`;
}

/** Times of the processor's cores as `/proc/stat` counts them. */
export interface CoreTimes {
  readonly idle: number;
  readonly stolen: number;
  readonly all: number;
}

/** @returns the sum over some cores of a `/proc/stat` */
export function coreTimes(stat: string, cores: readonly number[]): CoreTimes {
  let idle = 0;
  let stolen = 0;
  let all = 0;
  for (const line of stat.split("\n")) {
    const [name = "", ...rest] = line.trim().split(/\s+/);
    const match = /^cpu(\d+)$/.exec(name);
    if (match === null || !cores.includes(Number(match[1]))) continue;
    const ticks = rest.slice(0, 8).map(Number);
    idle += (ticks[3] ?? 0) + (ticks[4] ?? 0);
    stolen += ticks[7] ?? 0;
    all += ticks.reduce((sum, tick) => sum + tick, 0);
  }
  return { idle, stolen, all };
}

/** @returns which share of the time between two looks the cores worked */
export function busyShare(from: CoreTimes, to: CoreTimes): number {
  const all = to.all - from.all;
  return all <= 0 ? 0 : 1 - (to.idle - from.idle) / all;
}

/** @returns which share of that time another guest of the machine had */
export function stolenShare(from: CoreTimes, to: CoreTimes): number {
  const all = to.all - from.all;
  return all <= 0 ? 0 : (to.stolen - from.stolen) / all;
}
