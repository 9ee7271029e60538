/**
 * Histories: what a receiving context was given, message by message, in a binary file; and the
 * checker, which holds a history against what was sent.
 */

import { readFileSync, writeFileSync } from "node:fs";
import type { StreamName } from "./commands.ts";
import { HEADER_BYTES, sizeOf, type Sizes } from "./content.ts";

const RECORD_BYTES = 48;
const FIRST_RECORDS = 1024;

/** One delivered message. */
export interface Delivered {
  readonly no: number;
  readonly sqn: number;
  /** Unix milliseconds. */
  readonly ms: number;
  /** The sender's index; only its low 16 bits for a message of less than 16 bytes. */
  readonly index: number;
  readonly seed: number;
  readonly length: number;
  /** Place of its stream among the history's names. */
  readonly stream: number;
  readonly msgArg: number;
  readonly txArg: number;
  readonly isRight: boolean;
}

/** Grows a record at a time. */
export interface HistoryWriter {
  add(record: Delivered): void;
  save(path: string): void;
}

export function createHistory(): HistoryWriter {
  let bytes = new Uint8Array(FIRST_RECORDS * RECORD_BYTES);
  let view = new DataView(bytes.buffer);
  let used = 0;
  return {
    add(record) {
      if (used === bytes.byteLength) {
        const grown = new Uint8Array(2 * used);
        grown.set(bytes);
        bytes = grown;
        view = new DataView(bytes.buffer);
      }
      view.setFloat64(used, record.no, true);
      view.setFloat64(used + 8, record.sqn, true);
      view.setFloat64(used + 16, record.ms, true);
      view.setFloat64(used + 24, record.index, true);
      view.setUint32(used + 32, record.seed, true);
      view.setUint32(used + 36, record.length, true);
      view.setUint16(used + 40, record.stream, true);
      view.setUint16(used + 42, record.msgArg, true);
      view.setUint16(used + 44, record.txArg, true);
      view.setUint16(used + 46, record.isRight ? 1 : 0, true);
      used += RECORD_BYTES;
    },
    save: (path) => writeFileSync(path, bytes.subarray(0, used)),
  };
}

export function readHistory(path: string): Delivered[] {
  const bytes = readFileSync(path);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: Delivered[] = [];
  for (let at = 0; at < bytes.byteLength; at += RECORD_BYTES) {
    records.push({
      no: view.getFloat64(at, true),
      sqn: view.getFloat64(at + 8, true),
      ms: view.getFloat64(at + 16, true),
      index: view.getFloat64(at + 24, true),
      seed: view.getUint32(at + 32, true),
      length: view.getUint32(at + 36, true),
      stream: view.getUint16(at + 40, true),
      msgArg: view.getUint16(at + 42, true),
      txArg: view.getUint16(at + 44, true),
      isRight: view.getUint16(at + 46, true) === 1,
    });
  }
  return records;
}

/** Messages that were sent one behind the other on one stream. */
export interface SentRun {
  readonly seed: number;
  readonly sizes: Sizes;
  readonly count: number;
  /** Index of the first; default 0. */
  readonly first?: number;
  /** From one index to the next; default 1. */
  readonly step?: number;
}

/** What a receiver should have got of a stream. */
export interface Expected extends StreamName {
  /** Everything that was sent, from number `base` on. */
  readonly runs: readonly SentRun[];
  /** Number of the first message of the runs; default 0. */
  readonly base?: number;
  /** Number of the first that the receiver should have; default `base`. */
  readonly fromNo?: number;
  /** Ranges [start, end] that `MESSAGE_LOSS` has told. */
  readonly lost?: readonly (readonly [number, number])[];
  /** The receiver may not have everything yet: only what it has is checked. */
  readonly mayEndEarly?: boolean;
  readonly txArg?: number;
}

/** Violations listed at most. */
const LISTED = 20;

/**
 * Holds a history against what was sent: every stream in order of numbers, no gap that was not
 * told, nothing twice, every byte right, nothing from elsewhere, and the context's own count
 * contiguous from 0.
 *
 * @returns what is wrong, a line each; empty: all is as it should be
 */
export function checkHistory(
  history: readonly Delivered[],
  names: readonly StreamName[],
  expected: readonly Expected[],
): string[] {
  const wrong: string[] = [];
  const say = (text: string) => {
    if (wrong.length < LISTED) wrong.push(text);
  };
  const cursors = expected.map(startCursor);
  const byStream = names.map((name) =>
    cursors.find(({ expected }) =>
      expected.from === name.from && expected.topic === name.topic &&
      expected.partition === name.partition
    )
  );
  history.forEach((got, place) => {
    if (got.sqn !== place) say(`message ${place} of the context has the sqn ${got.sqn}`);
    const cursor = byStream[got.stream];
    const name = names[got.stream];
    if (cursor === undefined) {
      say(`a message of ${name?.from}/${name?.topic}/${name?.partition}, which sent nothing`);
    } else {
      checkOne(cursor, got, say);
    }
  });
  for (const { expected, next, end } of cursors) {
    if (expected.mayEndEarly || next === end) continue;
    say(`${title(expected)}: it ends at number ${next}, ${end} were sent`);
  }
  return wrong;
}

interface Cursor {
  readonly expected: Expected;
  readonly end: number;
  next: number;
  run: number;
  /** Number of the first message of that run. */
  runBase: number;
}

function startCursor(expected: Expected): Cursor {
  const base = expected.base ?? 0;
  const end = expected.runs.reduce((sum, run) => sum + run.count, base);
  const cursor = { expected, end, next: expected.fromNo ?? base, run: 0, runBase: base };
  skipLost(cursor);
  return cursor;
}

function title({ from, topic, partition }: StreamName): string {
  return `${from}/${topic}/${partition}`;
}

function checkOne(cursor: Cursor, got: Delivered, say: (text: string) => void): void {
  const { expected } = cursor;
  const where = `${title(expected)}: message ${got.no}`;
  if (got.no !== cursor.next) say(`${where} came where ${cursor.next} was due`);
  if (!got.isRight) say(`${where} has a wrong byte`);
  // One mistake is told once: what follows is judged from where it went on.
  cursor.next = got.no + 1;
  let run = expected.runs[cursor.run];
  if (run !== undefined && got.no < cursor.runBase) {
    cursor.run = 0;
    cursor.runBase = expected.base ?? 0;
    run = expected.runs[0];
  }
  while (run !== undefined && got.no >= cursor.runBase + run.count) {
    cursor.runBase += run.count;
    cursor.run += 1;
    run = expected.runs[cursor.run];
  }
  if (run === undefined) return say(`${where} was never sent`);
  const index = (run.first ?? 0) + (got.no - cursor.runBase) * (run.step ?? 1);
  const length = sizeOf(run.sizes, index);
  if (got.length !== length) say(`${where} has ${got.length} bytes, ${length} were sent`);
  if (got.msgArg !== (index & 0xffff)) say(`${where} has the msgArg of another`);
  if (expected.txArg !== undefined && got.txArg !== expected.txArg) {
    say(`${where} has the txArg ${got.txArg}`);
  }
  if (length >= HEADER_BYTES && (got.index !== index || got.seed !== run.seed)) {
    say(`${where} is message ${got.index} of seed ${got.seed}, ${index} of ${run.seed} was sent`);
  }
  skipLost(cursor);
}

/** Goes on behind a range that was told as lost. */
function skipLost(cursor: Cursor): void {
  for (const [start, end] of cursor.expected.lost ?? []) {
    if (cursor.next === start) cursor.next = end + 1;
  }
}

/** The longest time between two deliveries, or to either end, between two moments in Unix ms. */
export function longestGapMs(times: readonly number[], fromMs: number, toMs: number): number {
  const during = [fromMs, ...times.filter((ms) => ms > fromMs && ms < toMs), toMs];
  return during.reduce((most, ms, i) => Math.max(most, ms - (during[i - 1] ?? ms)), 0);
}
