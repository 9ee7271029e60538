/**
 * An encoder of datagrams that knows nothing but `docs/protocol.md`: it takes offsets and sizes
 * from the tables of the document. That its datagrams are equal to those that the library made
 * shows that the document is enough.
 */

import {
  documentLayouts,
  documentNumbers,
  documentTable,
  type LayoutField,
  projectText,
} from "./document.ts";

/** Decimal, or for fields that are not numbers: bytes in hexadecimal. */
export type FieldValues = Readonly<Record<string, string>>;

/** A datagram of `datagrams.json`. */
export interface Vector {
  readonly name: string;
  readonly hex: string;
  readonly header: FieldValues;
  readonly body?: FieldValues;
  /** Of a tier's frames: whom and when, what nests, and what follows the body. */
  readonly said?: FieldValues;
  readonly entry?: FieldValues;
  readonly entries?: readonly FieldValues[];
  readonly eras?: readonly FieldValues[];
  readonly positions?: readonly FieldValues[];
  readonly pieces?: readonly {
    readonly head: FieldValues;
    readonly entry: FieldValues;
    readonly payload: string;
  }[];
  readonly messages?: readonly { readonly msg_arg: string; readonly payload: string }[];
  readonly payload?: string;
  readonly ranges?: readonly FieldValues[];
  readonly trailer?: FieldValues;
  readonly groupKey?: string;
  readonly key?: string;
  readonly plain?: string;
}

const text = projectText("docs/protocol.md");
const layouts = new Map([
  ...documentLayouts(text),
  // STREAM carries one.
  ["StreamEntry", documentLayouts(projectText("docs/files.md")).get("StreamEntry")!] as const,
]);
const types = new Map([
  ...documentNumbers(text, "types"),
  ...documentNumbers(text, "tier types"),
]);
/** By type; DATA has none. Two types are called FILL. */
const bodyNames: ReadonlyMap<number, string> = new Map([
  [2, "FragmentHeader"],
  [3, "Syn"],
  [4, "SynReply"],
  [5, "Confirm"],
  [6, "Heartbeat"],
  [7, "Ack"],
  [8, "Nak"],
  [9, "Rst"],
  [10, "Fill"],
  ...documentTable(text, "tier types").map((row) => [Number(row[0]), row[4]!] as const),
]);
const HEADER_BYTES = 32;
const TRAILER_BYTES = 32;
const FLAG_SEALED = 4;

/** @returns the datagrams that the library made. */
export function readVectors(): readonly Vector[] {
  return (JSON.parse(projectText("tests/vectors/datagrams.json")) as { datagrams: Vector[] })
    .datagrams;
}

/** @returns the name of a vector's type, as in the document. */
export const typeName = (vector: Vector): string => types.get(Number(vector.header["type"]))!;

/** @returns a vector's type in numbers. */
export const typeNumber = (vector: Vector): number => Number(vector.header["type"]);

/** @returns the struct of a type's fixed body; DATA has none. */
export const bodyLayout = (type: number): string | undefined => bodyNames.get(type);

/** CRC32C of bytes (docs/protocol.md, 3.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc >>> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** @returns bytes in hexadecimal as bytes. */
export function fromHex(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length / 2);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** @returns bytes in hexadecimal. */
export const toHex = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Writes the fields of a struct of the document; what has no value stays 0. */
function put(bytes: Uint8Array, at: number, layout: string, values: FieldValues): void {
  const fields = layouts.get(layout);
  if (fields === undefined) throw new Error(`the document has no ${layout}`);
  const known = new Set(fields.map((field) => field.name));
  for (const name of Object.keys(values)) {
    if (!known.has(name)) throw new Error(`the document's ${layout} has no field ${name}`);
  }
  for (const field of fields) {
    const value = values[field.name];
    if (value !== undefined) putField(bytes, at, field, value);
  }
}

function putField(bytes: Uint8Array, at: number, field: LayoutField, value: string): void {
  const place = bytes.subarray(at + field.offset, at + field.offset + field.size);
  // Fields of bytes are in hexadecimal, so that they have two digits for each.
  const isBytes = field.size > 8 || field.name === "pad" || field.name === "name";
  if (isBytes && value.length === 2 * field.size) return place.set(fromHex(value));
  let rest = BigInt(value);
  for (let i = 0; i < place.length; i += 1) {
    place[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}

/** @returns bytes of a struct of the document. */
export function sizeOf(layout: string): number {
  const last = layouts.get(layout)?.at(-1);
  if (last === undefined) throw new Error(`the document has no ${layout}`);
  return last.offset + last.size;
}

const align8 = (n: number) => Math.ceil(n / 8) * 8;

/** Writes the body of a vector behind the header. */
function putBody(bytes: Uint8Array, vector: Vector): void {
  if (vector.trailer !== undefined) {
    // AEGIS-128L is not at hand here: the sealed body is taken as it is, all around it is made.
    const stop = bytes.length - TRAILER_BYTES;
    bytes.set(fromHex(vector.hex).subarray(HEADER_BYTES, stop), HEADER_BYTES);
    return put(bytes, stop, "SealTrailer", vector.trailer);
  }
  let at = HEADER_BYTES;
  if (vector.messages !== undefined) {
    for (const message of vector.messages) {
      const payload = fromHex(message.payload);
      const length = String(payload.length);
      put(bytes, at, "MessageHeader", { length, msg_arg: message.msg_arg });
      bytes.set(payload, at + 8);
      at += 8 + align8(payload.length);
    }
    if (at < bytes.length) put(bytes, at, "MessageHeader", { length: String(0xffffffff) });
    return;
  }
  const layout = bodyLayout(typeNumber(vector))!;
  put(bytes, at, layout, vector.body!);
  if (vector.said !== undefined) putNested(bytes, at, layout, vector);
  at += sizeOf(layout);
  at = putList(bytes, at, "TierEntry", vector.entries);
  at = putList(bytes, at, "TierEra", vector.eras);
  at = putList(bytes, at, "TierTxPosition", vector.positions);
  for (const { head, entry, payload } of vector.pieces ?? []) {
    put(bytes, at, "TierEntry", entry);
    put(bytes, at, "TierPiece", head);
    at += sizeOf("TierPiece");
    bytes.set(fromHex(payload), at);
    at += align8(payload.length / 2);
  }
  if (vector.payload !== undefined) bytes.set(fromHex(vector.payload), at);
  for (const range of vector.ranges ?? []) {
    put(bytes, at, "Range", range);
    at += sizeOf("Range");
  }
}

/** What has a layout of its own inside a tier's body. */
function putNested(bytes: Uint8Array, at: number, layout: string, vector: Vector): void {
  put(bytes, at, "TierSaid", vector.said!);
  if (vector.entry === undefined) return;
  const field = layouts.get(layout)!.find(({ name }) => name === "entry")!;
  const nested = layout === "TierStreamTold" ? "StreamEntry" : "TierEntry";
  assertSize(nested, field);
  put(bytes, at + field.offset, nested, vector.entry);
}

function assertSize(layout: string, field: LayoutField): void {
  if (sizeOf(layout) !== field.size) throw new Error(`${layout} does not fit ${field.name}`);
}

function putList(
  bytes: Uint8Array,
  at: number,
  layout: string,
  items: readonly FieldValues[] = [],
): number {
  for (const [i, item] of items.entries()) put(bytes, at + i * sizeOf(layout), layout, item);
  return at + items.length * (items.length === 0 ? 0 : sizeOf(layout));
}

/** Makes a vector's datagram from its fields; the check is computed, not taken. */
export function encode(vector: Vector): Uint8Array {
  const bytes = new Uint8Array(Number(vector.header["length"]));
  put(bytes, 0, "Header", { ...vector.header, check: "0" });
  putBody(bytes, vector);
  if ((Number(vector.header["flags"]) & FLAG_SEALED) !== 0) return bytes;
  put(bytes, 0, "Header", { check: String(crc32c(bytes)) });
  return bytes;
}
