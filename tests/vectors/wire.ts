/**
 * An encoder of datagrams that knows nothing but `docs/protocol.md`: it takes offsets and sizes
 * from the tables of the document. That its datagrams are equal to those that the library made
 * shows that the document is enough.
 */

import { documentLayouts, documentNumbers, type LayoutField, projectText } from "./document.ts";

/** Decimal, or for fields that are not numbers: bytes in hexadecimal. */
export type FieldValues = Readonly<Record<string, string>>;

/** A datagram of `datagrams.json`. */
export interface Vector {
  readonly name: string;
  readonly hex: string;
  readonly header: FieldValues;
  readonly body?: FieldValues;
  readonly messages?: readonly { readonly msg_arg: string; readonly payload: string }[];
  readonly payload?: string;
  readonly ranges?: readonly FieldValues[];
  readonly trailer?: FieldValues;
  readonly groupKey?: string;
  readonly key?: string;
  readonly plain?: string;
}

const text = projectText("docs/protocol.md");
const layouts = documentLayouts(text);
const types = documentNumbers(text, "types");
const bodyNames: Readonly<Record<string, string>> = {
  FRAGMENT: "FragmentHeader",
  SYN: "Syn",
  SYN_REPLY: "SynReply",
  CONFIRM: "Confirm",
  HEARTBEAT: "Heartbeat",
  ACK: "Ack",
  NAK: "Nak",
  RST: "Rst",
  FILL: "Fill",
};
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

/** @returns the struct of a type's fixed body; DATA has none. */
export const bodyLayout = (type: string): string | undefined => bodyNames[type];

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
  const layout = bodyNames[typeName(vector)]!;
  put(bytes, at, layout, vector.body!);
  at += sizeOf(layout);
  if (vector.payload !== undefined) bytes.set(fromHex(vector.payload), at);
  for (const range of vector.ranges ?? []) {
    put(bytes, at, "Range", range);
    at += sizeOf("Range");
  }
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
