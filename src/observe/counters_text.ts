/**
 * The text in a context's counters file (`native/src/stats/counters_file.zig`): what the numbers in
 * it stand for, so that another process can read it without the configuration. No secrets.
 */

import process from "node:process";
import type { TransportInfo } from "../config/mod.ts";
import type { ContextPlan } from "../plan.ts";

/** What the text says. */
export interface CountersNames {
  readonly context: string;
  readonly contextId: number;
  /** The context's name for a single node. */
  readonly tierName: string;
  readonly pid: number;
  /** "deno" or "bun", and its version. */
  readonly runtime: string;
  /** Absolute. */
  readonly workDir: string;
  /** Of file names (`setFilePrefix`). */
  readonly prefix: string;
  readonly transports: readonly (TransportInfo & { readonly id: number })[];
  readonly contexts: readonly { readonly id: number; readonly name: string }[];
}

/** Where a context runs, and who is known to it. */
export interface CountersPlace {
  readonly tierName: string;
  readonly workDir: string;
  readonly prefix: string;
  /** Contexts of the configuration: id and name. */
  readonly contexts: CountersNames["contexts"];
}

/** @returns the JSON text for a context that starts */
export function countersText(plan: ContextPlan, place: CountersPlace): string {
  const transports = new Map<number, TransportInfo & { id: number }>();
  for (const { topic, partitions } of plan.tx) {
    for (const one of partitions) transports.set(one.transportId, shownOf(topic, one));
  }
  for (const one of plan.rx) transports.set(one.transportId, shownOf(one.topic, one));
  const { versions } = process;
  const runtime = ["bun", "deno"].find((name) => versions[name] !== undefined);
  const names: CountersNames = {
    context: plan.context.name,
    contextId: plan.context.id,
    tierName: place.tierName,
    pid: process.pid,
    runtime: runtime === undefined ? "" : `${runtime} ${versions[runtime]}`,
    workDir: place.workDir,
    prefix: place.prefix,
    transports: [...transports.values()],
    contexts: place.contexts,
  };
  return JSON.stringify(names);
}

function shownOf(
  topic: string,
  one: { transportId: number; partitionNo: number; addrs: readonly string[]; port: number },
): TransportInfo & { id: number } {
  const { transportId, partitionNo, addrs, port } = one;
  return { id: transportId, topic, partitionNo, addrs, port };
}
