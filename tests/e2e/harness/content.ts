/**
 * Content of test messages, made from a seed and an index, so that whoever receives one can tell
 * whether every byte is right without having what was sent.
 *
 * A message of at least 16 bytes begins with seed, length and index; behind them come bytes of one
 * pseudo-random block, from a place that seed and index choose. A shorter one has only such bytes,
 * by the low 16 bits of the index, which every message also carries as `msgArg`.
 */

import { Buffer } from "node:buffer";

/** Bytes in front of the random ones. */
export const HEADER_BYTES = 16;
/** A prime: two fragments of one message are never equal, whatever the fragment's length. */
const PERIOD = 1_048_573;

/** Two periods, so that a piece of one period is in one place wherever it begins. */
const block = makeBlock();

function makeBlock(): Buffer {
  const bytes = Buffer.alloc(2 * PERIOD);
  let x = 0x9e3779b9;
  for (let i = 0; i < PERIOD; i += 1) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes[i] = x;
  }
  bytes.copy(bytes, PERIOD, 0, PERIOD);
  return bytes;
}

/** A 32-bit hash of two numbers. */
export function hash(a: number, b: number): number {
  let h = (Math.imul(a | 0, 0x85ebca6b) ^ Math.imul(b | 0, 0xc2b2ae35)) >>> 0;
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) >>> 0;
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39) >>> 0;
  return (h ^ (h >>> 15)) >>> 0;
}

function startOf(seed: number, index: number, length: number): number {
  return (length < HEADER_BYTES ? hash(0, index & 0xffff) : hash(seed, index)) % PERIOD;
}

/** Writes message `index` of `seed` over the whole of `target`. */
export function fillContent(target: Uint8Array, seed: number, index: number): void {
  const length = target.byteLength;
  let place = startOf(seed, index, length);
  let at = 0;
  if (length >= HEADER_BYTES) {
    const view = new DataView(target.buffer, target.byteOffset, HEADER_BYTES);
    view.setUint32(0, seed, true);
    view.setUint32(4, length, true);
    view.setFloat64(8, index, true);
    at = HEADER_BYTES;
  }
  while (at < length) {
    const piece = Math.min(PERIOD, length - at);
    target.set(block.subarray(place, place + piece), at);
    at += piece;
    place = (place + piece) % PERIOD;
  }
}

/** Which message it is, and whether every byte of it is right. */
export interface ContentFound {
  isRight: boolean;
  /** 0 where the message is too short to say. */
  seed: number;
  /** The low 16 bits of it where the message is too short to say. */
  index: number;
}

/**
 * Compares all bytes of a received message with what they should be.
 *
 * @param into is filled: nothing is made for each message
 */
export function checkContent(data: Uint8Array, msgArg: number, into: ContentFound): void {
  const length = data.byteLength;
  const bytes = Buffer.from(data.buffer, data.byteOffset, length);
  into.seed = 0;
  into.index = msgArg;
  let at = 0;
  if (length >= HEADER_BYTES) {
    into.seed = bytes.readUInt32LE(0);
    into.index = bytes.readDoubleLE(8);
    at = HEADER_BYTES;
  }
  into.isRight = length < HEADER_BYTES || bytes.readUInt32LE(4) === length;
  let place = startOf(into.seed, into.index, length);
  while (at < length && into.isRight) {
    const piece = Math.min(PERIOD, length - at);
    // Of whole pieces: Deno's `compare` by ranges checks them against the wrong buffer.
    const should = block.subarray(place, place + piece);
    into.isRight = bytes.subarray(at, at + piece).equals(should);
    at += piece;
    place = (place + piece) % PERIOD;
  }
}

/** The sizes of the messages of a run, by their index. */
export type Sizes =
  | { readonly kind: "fixed"; readonly bytes: number }
  | { readonly kind: "list"; readonly bytes: readonly number[] }
  /** Mostly small ones, some of a few fragments; about `bytes` at most, 20,000 unless told. */
  | { readonly kind: "mixed"; readonly seed: number; readonly bytes?: number };

/** Size in bytes of message `index`. */
export function sizeOf(sizes: Sizes, index: number): number {
  if (sizes.kind === "fixed") return sizes.bytes;
  if (sizes.kind === "list") return sizes.bytes[index % sizes.bytes.length]!;
  const dice = hash(sizes.seed, index);
  const share = dice % 100;
  const most = share < 60 ? 200 : share < 90 ? 1432 : share < 99 ? 4400 : sizes.bytes ?? 20_000;
  return hash(dice, index) % (most + 1);
}
