/**
 * Reads counters files (`native/src/stats/counters_file.zig`, docs/files.md): what contexts of this
 * machine count, whatever process they run in. The process is not asked and does not notice.
 */

import { closeSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import * as abi from "../native/abi.ts";
import { nativeLibrary } from "../native/library.ts";
import type { CountersNames } from "../observe/counters_text.ts";
import { readSnapshot, type Snapshot } from "../observe/statistics.ts";
import { readStruct, type StructLayout, type StructValues } from "../observe/structs.ts";

/** Where the files lie. */
export const COUNTERS_FOLDER = "/dev/shm";
const NAME_END = "_counters";
const MAGIC = "RCM SHM1";
/** Folders in folders that a prefix may name. */
const DEPTH_MAX = 8;
/** A section is written in microseconds: so often it is not found half written. */
const TRIES_MAX = 100;

/** A look at a running context. */
export interface CountersLook {
  readonly path: string;
  readonly names: CountersNames;
  /** Unix milliseconds of its start. */
  readonly startedMs: number;
  /** Milliseconds of the monotonic clock at the youngest section. */
  readonly stampMs: number;
  readonly snapshot: Snapshot;
}

/** A file that can't be read, and why. */
export interface CountersFault {
  readonly path: string;
  readonly reason: string;
}

/** What lies in a folder. */
export interface Found {
  readonly looks: readonly CountersLook[];
  readonly faults: readonly CountersFault[];
}

/** Looks at every context that runs on this machine. */
export function readAllCounters(folder: string = COUNTERS_FOLDER): Found {
  const looks: CountersLook[] = [];
  const faults: CountersFault[] = [];
  for (const path of countersPaths(folder, 0)) {
    if (!isOwned(path)) continue; // It has ended, or was killed.
    const read = readCounters(path);
    if ("snapshot" in read) looks.push(read);
    // Between the two looks it may have ended.
    else if (isOwned(path)) faults.push(read);
  }
  return { looks, faults };
}

function countersPaths(folder: string, depth: number): string[] {
  const paths: string[] = [];
  let entries;
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch {
    return []; // Another user's.
  }
  for (const entry of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
    const path = join(folder, entry.name);
    if (entry.isFile() && entry.name.endsWith(NAME_END)) paths.push(path);
    if (entry.isDirectory() && depth < DEPTH_MAX) paths.push(...countersPaths(path, depth + 1));
  }
  return paths;
}

function isOwned(path: string): boolean {
  const bytes = new TextEncoder().encode(path);
  return nativeLibrary().calls.rcm_file_owned(bytes, bytes.byteLength) === 1;
}

/** Looks at one context. */
export function readCounters(path: string): CountersLook | CountersFault {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    return { path, reason: error instanceof Error ? error.message : String(error) };
  }
  try {
    return readOpened(path, file);
  } catch (error) {
    return { path, reason: error instanceof Error ? error.message : String(error) };
  } finally {
    closeSync(file);
  }
}

function readOpened(path: string, file: number): CountersLook | CountersFault {
  const head = readAt(file, 0, abi.constants.countersPageOffset + abi.CountersPage.bytes);
  const view = new DataView(head.buffer);
  const header = readStruct(view, 0, abi.FileHeader);
  const text = new TextDecoder();
  if (text.decode(head.subarray(0, 8)) !== MAGIC) return { path, reason: "it is being made" };
  if (header.kind !== abi.constants.countersFileKind) {
    return { path, reason: "it is no counters file" };
  }
  const page = readStruct(view, abi.constants.countersPageOffset, abi.CountersPage);
  if (page.abiHash !== abi.ABI_HASH) {
    const found = page.abiHash.toString(16);
    return { path, reason: `it is of another version of this library (interface ${found})` };
  }
  const names = JSON.parse(text.decode(readAt(file, page.textOffset, page.textBytes)));
  const parts: Snapshot[] = [];
  let stampMs = 0;
  let at = page.sectionsOffset;
  for (let i = 0; i < page.sectionCount; i += 1) {
    const section = readSection(file, at);
    if (section === null) return { path, reason: "it changes all the time" };
    if (section.bytes.byteLength > 0) parts.push(readSnapshot(section.bytes, abi));
    stampMs = Math.max(stampMs, section.stampMs);
    at += abi.CountersSection.bytes + section.capacity;
  }
  return { path, names, startedMs: page.startedMs, stampMs, snapshot: addUp(parts) };
}

/** Null: it was never found whole. */
function readSection(
  file: number,
  at: number,
): { bytes: Uint8Array; stampMs: number; capacity: number } | null {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const before = sectionAt(file, at);
    if (before.sequence % 2 === 1) continue;
    const bytes = readAt(file, at + abi.CountersSection.bytes, before.bytes);
    if (sectionAt(file, at).sequence === before.sequence) return { ...before, bytes };
  }
  return null;
}

function sectionAt(file: number, at: number) {
  const bytes = readAt(file, at, abi.CountersSection.bytes);
  return readStruct(new DataView(bytes.buffer), 0, abi.CountersSection);
}

function readAt(file: number, at: number, bytes: number): Uint8Array<ArrayBuffer> {
  const buffer = new Uint8Array(bytes);
  let done = 0;
  while (done < bytes) {
    const got = readSync(file, buffer, done, bytes - done, at + done);
    if (got === 0) throw new Error(`it ends at byte ${at + done}`);
    done += got;
  }
  return buffer;
}

/** Of each part; everything else in a header counts something, and is added up. */
const SAME = new Set(["contextId", "role", "totalBytes", "txCount", "rxCount"]);
const LATEST = new Set(["lastErrno", "lastErrorKey", "lastErrorMs", "nowMs"]);

/** Every part is about one agent: together they are the context. */
function addUp(parts: readonly Snapshot[]): Snapshot {
  const header: Record<string, number> = {};
  for (const part of parts) {
    for (const [name, value] of Object.entries(part.header)) {
      const known = header[name] ?? 0;
      if (SAME.has(name)) header[name] = value;
      else header[name] = LATEST.has(name) ? Math.max(known, value) : known + value;
    }
  }
  // The receiving side's is the only one that is not empty.
  const order = parts.find(({ deliver }) => deliver.nextMsgSqn > 0) ?? parts[0];
  return {
    header: header as Snapshot["header"],
    tx: parts.flatMap((part) => part.tx),
    rx: parts.flatMap((part) => part.rx),
    deliver: order?.deliver ?? empty(abi.DeliverStats),
    latency: parts.find(({ latency }) => latency.capacity > 0)?.latency ?? empty(abi.LatencyStats),
    tier: null,
  };
}

function empty<F extends string>(layout: StructLayout<F>): StructValues<F> {
  return readStruct(new DataView(new ArrayBuffer(layout.bytes)), 0, layout);
}
