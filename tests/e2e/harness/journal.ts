/**
 * A history that grows while messages come: what a node had been given before it was killed can be
 * read from it (but for the last few milliseconds).
 */

import { Buffer } from "node:buffer";
import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";

const RECORD_BYTES = 64;
const NAME_BYTES = 24;
const BATCH = 1024;
const FLUSH_MS = 5;

/** One delivered message. */
export interface JournalEntry {
  readonly sqn: number;
  /** `getTxMsgNo` */
  readonly no: number;
  /** `getMsgTimeMilli` */
  readonly timeMs: number;
  /** Unix milliseconds of its delivery. */
  readonly ms: number;
  readonly seed: number;
  readonly index: number;
  readonly isRight: boolean;
  /** `getTxContextName` */
  readonly from: string;
}

/** Appends to a file. */
export interface Journal {
  add(entry: JournalEntry): void;
  close(): void;
}

export function createJournal(path: string): Journal {
  const file = openSync(path, "a");
  const bytes = Buffer.alloc(BATCH * RECORD_BYTES);
  let count = 0;
  let timer: ReturnType<typeof setTimeout> | null = null;
  function flush(): void {
    timer = null;
    if (count > 0) writeSync(file, bytes, 0, count * RECORD_BYTES);
    count = 0;
  }
  return {
    add({ sqn, no, timeMs, ms, seed, index, isRight, from }) {
      const at = count * RECORD_BYTES;
      bytes.writeDoubleLE(sqn, at);
      bytes.writeUIntLE(no, at + 8, 6);
      bytes.writeUInt16LE(isRight ? 1 : 0, at + 14);
      bytes.writeDoubleLE(timeMs, at + 16);
      bytes.writeDoubleLE(ms, at + 24);
      bytes.writeUInt32LE(seed, at + 32);
      bytes.writeUInt32LE(index, at + 36);
      bytes.fill(0, at + 40, at + 40 + NAME_BYTES);
      bytes.write(from.slice(0, NAME_BYTES), at + 40, "latin1");
      count += 1;
      if (count === BATCH) flush();
      else timer ??= setTimeout(flush, FLUSH_MS);
    },
    close() {
      if (timer !== null) clearTimeout(timer);
      flush();
      closeSync(file);
    },
  };
}

/** @returns what a journal holds; a record that was cut by a kill is left out */
export function readJournal(path: string): JournalEntry[] {
  if (!existsSync(path)) return [];
  const bytes = readFileSync(path);
  const entries: JournalEntry[] = [];
  for (let at = 0; at + RECORD_BYTES <= bytes.byteLength; at += RECORD_BYTES) {
    const name = bytes.toString("latin1", at + 40, at + 40 + NAME_BYTES);
    entries.push({
      sqn: bytes.readDoubleLE(at),
      no: bytes.readUIntLE(at + 8, 6),
      isRight: bytes.readUInt16LE(at + 14) === 1,
      timeMs: bytes.readDoubleLE(at + 16),
      ms: bytes.readDoubleLE(at + 24),
      seed: bytes.readUInt32LE(at + 32),
      index: bytes.readUInt32LE(at + 36),
      from: name.replace(/\0+$/, ""),
    });
  }
  return entries;
}
