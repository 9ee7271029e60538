/**
 * A program that replicates its results (`SyncMode` 1 and 2): each message makes one transaction,
 * and a journal has all that this life of the program has made or was given, in order. So
 * transaction n is of message n, whoever led when.
 */

import { Buffer } from "node:buffer";
import assert from "node:assert/strict";
import { RcmStatus, type RcmTierSync } from "../../../mod.ts";
import type { JournalEntry } from "./journal.ts";
import { createJournal, readJournal } from "./journal.ts";
import type { Tier } from "./tier.ts";

const BYTES = 24;

/** Makes transactions of messages. */
export interface Results {
  /** For `createTierSync`. */
  onSyn(data: Uint8Array, transNo: number): number;
  /** The result of a message; the answer is the handler's. */
  make(sync: RcmTierSync, sqn: number, seed: number, index: number): RcmStatus;
  close(): void;
}

export function createResults(path: string): Results {
  const journal = createJournal(path);
  let nextNo = 0;
  const add = (from: string, transNo: number, data: Uint8Array, isRight: boolean) => {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    journal.add({
      sqn: transNo,
      no: bytes.readDoubleLE(0),
      seed: bytes.readUInt32LE(8),
      index: bytes.readUInt32LE(12),
      timeMs: 0,
      ms: 0,
      isRight,
      from,
    });
  };
  return {
    onSyn(data, transNo) {
      add("given", transNo, data, data.byteLength === BYTES);
      nextNo = transNo + 1;
      return 0;
    },
    make(sync, sqn, seed, index) {
      const data = Buffer.alloc(BYTES);
      data.writeDoubleLE(sqn, 0);
      data.writeUInt32LE(seed, 8);
      data.writeUInt32LE(index, 12);
      // Given and counted numbers are the same ones.
      const status = index % 2 === 0 ? sync.sync(data) : sync.sync(data, nextNo);
      if (status !== RcmStatus.OK) return status;
      add("made", nextNo, data, true);
      nextNo += 1;
      return RcmStatus.OK;
    },
    close: () => journal.close(),
  };
}

/**
 * Compares all lives: each has every transaction once, in order from 0 on, first those it was given
 * and then those it made; a number is the same transaction everywhere; and transaction n is of
 * message n.
 * @returns one past the last transaction
 */
export function checkResults(tier: Tier): number {
  const known = new Map<number, JournalEntry>();
  for (const member of tier.members) {
    for (const path of member.results) {
      const where = `${member.name}, life ${member.results.indexOf(path)}`;
      readJournal(path).forEach((entry, at) => {
        assert.equal(entry.sqn, at, `${where}: transaction ${entry.sqn} at place ${at}`);
        assert.equal(entry.no, at, `${where}: transaction ${at} is of message ${entry.no}`);
        assert.ok(entry.isRight, `${where}: transaction ${at} has another length`);
        const other = known.get(at);
        if (other === undefined) known.set(at, entry);
        else assert.deepEqual(what(entry), what(other), `${where}: transaction ${at}`);
      });
    }
  }
  return known.size;
}

function what({ sqn, no, seed, index }: JournalEntry) {
  return { sqn, no, seed, index };
}
