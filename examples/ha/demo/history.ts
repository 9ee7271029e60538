/**
 * A life's history: every message in the order in which the program was given it, in a file; and
 * the comparison of all of them.
 *
 * An entry is 32 bytes and the message: sqn, the sender's number, time (float64), the sender as its
 * place in `senderNames`, the message's length (uint32). Two lives that were given the same are two
 * equal files; one that was killed has the beginning of it.
 */

import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { contentOf, senderNames } from "./config.ts";

const HEAD = 32;
const FLUSH_BYTES = 1 << 16;

/** What a message was given with. */
export interface Given {
  readonly sqn: number;
  readonly sender: string;
  readonly number: number;
  readonly timeMilli: number;
}

/** Writes a history. What was not flushed when the process is killed is lost: its end. */
export function writeHistory(path: string) {
  const file = openSync(path, "w");
  const buffer = new Uint8Array(FLUSH_BYTES);
  const view = new DataView(buffer.buffer);
  let used = 0;
  function flush(): void {
    if (used > 0) writeSync(file, buffer, 0, used);
    used = 0;
  }
  return {
    add({ sqn, sender, number, timeMilli }: Given, data: Uint8Array): void {
      if (used + HEAD + data.length > buffer.length) flush();
      view.setFloat64(used, sqn);
      view.setFloat64(used + 8, number);
      view.setFloat64(used + 16, timeMilli);
      view.setUint32(used + 24, senderNames.findIndex((name) => name === sender));
      view.setUint32(used + 28, data.length);
      buffer.set(data, used + HEAD);
      used += HEAD + data.length;
    },
    flush,
    close(): void {
      flush();
      closeSync(file);
    },
  };
}

/** A life of a member. */
export interface Life {
  readonly member: string;
  readonly life: number;
  readonly path: string;
  /** It was killed: it has a beginning. */
  readonly wasKilled: boolean;
}

/** What the comparison says of a life. */
export interface LifeVerdict {
  readonly life: Life;
  readonly messages: number;
  readonly sha256: string;
}

/** What the comparison says. */
export interface Verdict {
  readonly lives: readonly LifeVerdict[];
  readonly messages: number;
  readonly sha256: string;
  /** Null: all are equal. */
  readonly difference: string | null;
}

interface History extends LifeVerdict {
  readonly bytes: Uint8Array;
  /** Where each entry begins, and the end. */
  readonly starts: readonly number[];
}

/**
 * Compares all lives.
 *
 * @param sent how many messages of each sender were accepted, in the order of `senderNames`
 */
export function compareHistories(lives: readonly Life[], sent: readonly number[]): Verdict {
  const histories = lives.map(read);
  const total = sent.reduce((sum, count) => sum + count, 0);
  const longest = histories.reduce((a, b) => b.messages > a.messages ? b : a);
  const difference = histories.map((one) => differenceOf(one, longest, total))
    .find((text) => text !== null) ?? wrongIn(longest, sent);
  return {
    lives: histories.map(({ life, messages, sha256 }) => ({ life, messages, sha256 })),
    messages: longest.messages,
    sha256: longest.sha256,
    difference,
  };
}

function read(life: Life): History {
  const bytes = new Uint8Array(readFileSync(life.path));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const starts = [0];
  let at = 0;
  while (at + HEAD <= bytes.length) {
    const end = at + HEAD + view.getUint32(at + 28);
    if (end > bytes.length) break; // Killed while it wrote.
    starts.push(at = end);
  }
  const whole = bytes.subarray(0, at);
  return { life, messages: starts.length - 1, sha256: hash(whole), bytes: whole, starts };
}

const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Null: a life has the same as the longest one, as far as it goes. */
function differenceOf(one: History, longest: History, total: number): string | null {
  const name = nameOf(one.life);
  const same = longest.bytes.subarray(0, longest.starts[one.messages]);
  if (hash(same) !== one.sha256) {
    for (let sqn = 0; sqn < one.messages; sqn += 1) {
      if (hash(entry(one, sqn)) === hash(entry(longest, sqn))) continue;
      return `place ${sqn}: ${name} was given ${shown(one, sqn)}, ` +
        `${nameOf(longest.life)} ${shown(longest, sqn)}`;
    }
  }
  if (one.life.wasKilled || one.messages === total) return null;
  return `${name} was given ${one.messages} messages, ${total} were sent`;
}

/** Null: each place has its sqn, each sender's numbers are whole, each message is what was sent. */
function wrongIn(one: History, sent: readonly number[]): string | null {
  const counts = sent.map(() => 0);
  for (let place = 0; place < one.messages; place += 1) {
    const { sqn, sender, number, text } = entryAt(one, place);
    const name = senderNames[sender] ?? "";
    if (sqn !== place) return `place ${place} has ${shown(one, place)}`;
    if (number !== counts[sender]) {
      return `place ${place} has ${shown(one, place)}, number ${counts[sender]} was due`;
    }
    if (text !== contentOf(name, number)) return `place ${place}: not what ${name} has sent`;
    counts[sender] = number + 1;
  }
  const at = counts.findIndex((count, i) => count !== sent[i]);
  if (at < 0) return null;
  return `${senderNames[at]} has sent ${sent[at]} messages, ${counts[at]} were given`;
}

function entry({ bytes, starts }: History, place: number): Uint8Array {
  return bytes.subarray(starts[place], starts[place + 1]);
}

function entryAt(one: History, place: number) {
  const bytes = entry(one, place);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    sqn: view.getFloat64(0),
    number: view.getFloat64(8),
    timeMilli: view.getFloat64(16),
    sender: view.getUint32(24),
    text: new TextDecoder().decode(bytes.subarray(HEAD)),
  };
}

function shown(one: History, place: number): string {
  const { sqn, number, timeMilli, sender, text } = entryAt(one, place);
  return `sqn ${sqn}: message ${number} of ${senderNames[sender]} at ${timeMilli} ` +
    `(${text.length} bytes, "${text.slice(0, 24)}")`;
}

const nameOf = ({ member, life }: Life) => `${member}, life ${life}`;
