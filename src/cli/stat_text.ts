/** How `rcm stat` shows contexts to people. */

import * as abi from "../native/abi.ts";
import type { Snapshot } from "../observe/statistics.ts";
import { roleText } from "../observe/statistics.ts";
import type { CountersLook } from "./counters_file.ts";
import { table } from "./shell.ts";
import { type Looks, ratesOf } from "./stat.ts";

type Row = (string | number)[];

/** @returns the lines of one look */
export function statLines({ now, before }: Looks): string[] {
  const lines = now.faults.map(({ path, reason }) => `${path}: ${reason}`);
  if (now.looks.length === 0) lines.push("no context runs");
  for (const [index, look] of now.looks.entries()) {
    if (index > 0) lines.push("");
    lines.push(...contextLines(look, before));
  }
  return lines;
}

function contextLines(look: CountersLook, before: Looks["before"]): string[] {
  const { names, snapshot } = look;
  const { header } = snapshot;
  const rates = ratesOf(look, before);
  const age = Math.max(0, Math.round((Date.now() - look.startedMs) / 1000));
  const head = `${names.context} (${names.contextId})  ${roleText(header.role)}  ` +
    `pid ${names.pid}  ${names.runtime}  up ${duration(age)}`;
  const lines = [head];
  if (rates !== null) {
    lines.push(
      `  sends ${shown(rates.SentMsgs)} msg/s ${shown(rates.SentBytes)}B/s, ` +
        `receives ${shown(rates.ReceivedMsgs)} msg/s ${shown(rates.ReceivedBytes)}B/s, ` +
        `processes ${shown(rates.ProcessedMsgs)} msg/s`,
    );
  }
  if (header.arenaBytes > 0) {
    lines.push(`  arena ${part(header.arenaUsedBytes, header.arenaBytes)}`);
  }
  if (header.receiveBytes > 0) {
    lines.push(`  receive memory ${part(header.receiveUsedBytes, header.receiveBytes)}`);
  }
  lines.push(...txLines(look), ...rxLines(look), ...orderLines(snapshot));
  return lines;
}

/** Windows and who receives them. */
function txLines({ names, snapshot }: CountersLook): string[] {
  if (snapshot.tx.length === 0) return [];
  const rows: Row[] = [[
    "SENDS",
    "PHASE",
    "RECLAIMED",
    "ACKED",
    "SENT",
    "WRITTEN",
    "REPAIRS",
    "NAKS",
    "FULL",
  ]];
  for (const { stats, acks } of snapshot.tx) {
    rows.push([
      topicOf(names, stats.transportId),
      textOf(abi.TxPhase, stats.phase),
      stats.usedMsgNo,
      stats.firstMsgNo,
      stats.toSendMsgNo,
      stats.currentMsgNo,
      stats.repairCount,
      stats.nakCount,
      stats.wouldBlockCount,
    ]);
    for (const ack of acks) {
      rows.push([
        `  to ${nameOf(names, ack.contextId)}`,
        textOf(abi.AckState, ack.state),
        "",
        ack.msgNo,
        "",
        "",
        "",
        ack.nakCount,
        ack.isOutOfMemory === 0 ? "" : "no memory",
      ]);
    }
  }
  return table(rows, "  ");
}

function rxLines({ names, snapshot }: CountersLook): string[] {
  if (snapshot.rx.length === 0) return [];
  const rows: Row[] = [[
    "RECEIVES",
    "FROM",
    "PHASE",
    "PROCESSED",
    "ACKED",
    "NEXT",
    "GAPS",
    "NAKS",
    "LOST",
  ]];
  for (const rx of snapshot.rx) {
    rows.push([
      topicOf(names, rx.transportId),
      nameOf(names, rx.contextId),
      textOf(abi.RxPhase, rx.phase),
      rx.nextMsgNoDeliver,
      rx.msgNoAcked,
      rx.nextMsgNo,
      rx.gapsOpen,
      rx.nakSent,
      rx.lostCount,
    ]);
  }
  return table(rows, "  ");
}

function orderLines({ rx, deliver }: Snapshot): string[] {
  if (rx.length === 0 && deliver.nextMsgSqn === 0) return [];
  const waits = deliver.nextMsgSqn - deliver.nextMsgSqnDeliver;
  const recorded = deliver.nextMsgSqnRecord > 0 ? `, recorded ${deliver.nextMsgSqnRecord}` : "";
  return [
    `  order: next ${deliver.nextMsgSqn}, processed ${deliver.nextMsgSqnDeliver}` +
    ` (${waits} wait)${recorded}`,
  ];
}

function topicOf(names: CountersLook["names"], transportId: number): string {
  const found = names.transports.find(({ id }) => id === transportId);
  return found === undefined ? `transport ${transportId}` : `${found.topic}/${found.partitionNo}`;
}

function nameOf(names: CountersLook["names"], contextId: number): string {
  return names.contexts.find(({ id }) => id === contextId)?.name ?? `context ${contextId}`;
}

function textOf(values: Readonly<Record<string, number>>, number: number): string {
  const found = Object.entries(values).find(([, value]) => value === number);
  return found?.[0].toLowerCase() ?? String(number);
}

/** "1.2 M" */
function shown(value: number): string {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]] as const) {
    if (value >= size) return `${(value / size).toFixed(value >= 100 * size ? 0 : 1)} ${unit}`;
  }
  return `${value} `.trimEnd() + (value < 1000 ? " " : "");
}

function part(used: number, all: number): string {
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  return `${mib(used)} of ${mib(all)} MiB (${(100 * used / all).toFixed(1)} %)`;
}

function duration(seconds: number): string {
  const [days, rest] = [Math.floor(seconds / 86_400), seconds % 86_400];
  const two = (value: number) => String(Math.floor(value)).padStart(2, "0");
  const clock = `${two(rest / 3600)}:${two(rest % 3600 / 60)}:${two(rest % 60)}`;
  return days > 0 ? `${days}d ${clock}` : clock;
}
