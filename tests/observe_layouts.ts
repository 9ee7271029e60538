/**
 * Layouts for the tests of `src/observe`, read from the Zig sources themselves: the tests need no
 * built library, and what the generator emits is checked by a second reader.
 */

import { readFileSync } from "node:fs";
import type { FieldLayout } from "../src/observe/structs.ts";

const SIZES: Readonly<Record<string, number>> = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8, f64: 8 };

/** A struct of which only the size and the fields are known. */
export interface ReadLayout {
  readonly bytes: number;
  readonly fields: Record<string, FieldLayout>;
}

/** Text of a source below `native/src`. */
export function zigSource(path: string): string {
  return readFileSync(new URL(`../native/src/${path}`, import.meta.url), "utf8");
}

/** Layout of `pub const <name> = extern struct`, in which padding always has a name. */
export function zigStruct(source: string, name: string): ReadLayout {
  const body = between(source, `pub const ${name} = extern struct {`);
  const fields: Record<string, FieldLayout> = {};
  let offset = 0;
  for (const [, field, count, type] of body.matchAll(/^ {4}(\w+): (?:\[(\d+)\])?(\w+)/gm)) {
    // An enum's field has the type of its tag, which is u32 everywhere.
    const scalar = type! in SIZES ? type! : "u32";
    const entry: FieldLayout = { offset, type: scalar };
    fields[camelCase(field!)] = count === undefined ? entry : { ...entry, count: Number(count) };
    offset += SIZES[scalar]! * Number(count ?? 1);
  }
  return { bytes: offset, fields };
}

/** Names (in capitals) and numbers of `pub const <name> = enum(u32)`. */
export function zigEnum(source: string, name: string): Record<string, number> {
  const body = between(source, `pub const ${name} = enum(u32) {`);
  const values: Record<string, number> = {};
  for (const [, tag, value] of body.matchAll(/(\w+) = (\d+)\s*,?/g)) {
    values[tag!.toUpperCase()] = Number(value);
  }
  return values;
}

/** Writes scalars into a struct; a field without a value stays as it is. */
export function writeStruct(
  view: DataView,
  at: number,
  layout: ReadLayout,
  values: Readonly<Record<string, number>>,
): void {
  for (const [name, value] of Object.entries(values)) {
    const field = layout.fields[name];
    if (field === undefined) throw new Error(`no field ${name}`);
    writeScalar(view, at + field.offset, field.type, value);
  }
}

/** Writes one scalar, little-endian. */
export function writeScalar(view: DataView, at: number, type: string, value: number): void {
  if (type === "u8") view.setUint8(at, value);
  else if (type === "u16") view.setUint16(at, value, true);
  else if (type === "u32") view.setUint32(at, value, true);
  else if (type === "i32") view.setInt32(at, value, true);
  else if (type === "u64") view.setBigUint64(at, BigInt(value), true);
  else if (type === "f64") view.setFloat64(at, value, true);
  else throw new Error(`no writer for ${type}`);
}

function between(source: string, head: string): string {
  const start = source.indexOf(head);
  if (start < 0) throw new Error(`no "${head}"`);
  const end = source.indexOf("}", start);
  return source.slice(start + head.length, end).replace(/\/\/.*$/gm, "");
}

function camelCase(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}
