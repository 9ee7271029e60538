/**
 * Reads the tables of `docs/protocol.md` and `docs/files.md`, which are marked by a comment in
 * front of them (`<!-- layout: Ack -->`), and the same facts from the Zig and Lua texts, so that a
 * test can compare them.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A field of a struct on the wire or in a file. */
export interface LayoutField {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** Fields of structs, by the struct's name, in the order of their offsets. */
export type Layouts = ReadonlyMap<string, readonly LayoutField[]>;

/** @returns the text of a file of the project. */
export const projectText = (path: string): string =>
  readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), "utf8");

/** A table of a document: cells by row, without the two lines of its head. */
export function documentTable(text: string, mark: string): string[][] {
  const at = text.indexOf(`<!-- ${mark} -->`);
  if (at < 0) throw new Error(`the document has no table marked "${mark}"`);
  const lines = text.slice(at).split("\n").slice(1);
  const start = lines.findIndex((line) => line.startsWith("|"));
  const rows: string[][] = [];
  for (const line of lines.slice(start)) {
    if (!line.startsWith("|")) break;
    rows.push(line.split("|").slice(1, -1).map((cell) => cell.trim()));
  }
  return rows.slice(2);
}

/** All tables marked as layouts. */
export function documentLayouts(text: string): Layouts {
  const layouts = new Map<string, LayoutField[]>();
  for (const [, name] of text.matchAll(/<!-- layout: (\w+) -->/g)) {
    const rows = documentTable(text, `layout: ${name}`);
    layouts.set(
      name!,
      rows.map(([offset, size, field]) => ({
        name: field!,
        offset: Number(offset),
        size: Number(size),
      })),
    );
  }
  return layouts;
}

/** A table of numbers and names. */
export function documentNumbers(text: string, mark: string): ReadonlyMap<number, string> {
  return new Map(documentTable(text, mark).map(([n, name]) => [Number(n), name!]));
}

/** The constants of the document in plain numbers (nanoseconds, bytes). */
export function documentConstants(
  text: string,
  mark = "constants",
): ReadonlyMap<string, number> {
  const units: Readonly<Record<string, number>> = {
    us: 1000,
    ms: 1_000_000,
    s: 1_000_000_000,
    KiB: 1024,
    MiB: 1024 ** 2,
    GiB: 1024 ** 3,
  };
  return new Map(
    documentTable(text, mark).map(([name, value]) => {
      const [amount, unit] = value!.split(" ");
      return [name!, Number(amount) * (unit === undefined ? 1 : units[unit]!)];
    }),
  );
}

/** Extern structs of a Zig file with the offsets that the C ABI gives them. */
export function zigLayouts(text: string, numbers: Readonly<Record<string, number>> = {}): Layouts {
  const layouts = new Map<string, LayoutField[]>();
  const sizes = new Map<string, { size: number; align: number }>([
    ["u8", { size: 1, align: 1 }],
    ["u16", { size: 2, align: 2 }],
    ["u32", { size: 4, align: 4 }],
    ["u64", { size: 8, align: 8 }],
    ["f64", { size: 8, align: 8 }],
  ]);
  for (const [, name, bits] of text.matchAll(/^pub const (\w+) = packed struct\(u(\d+)\)/gm)) {
    const bytes = Number(bits) / 8;
    sizes.set(name!, { size: bytes, align: bytes });
  }
  for (const [, name, bits] of text.matchAll(/^pub const (\w+) = enum\(u(\d+)\)/gm)) {
    sizes.set(name!, { size: Number(bits) / 8, align: Number(bits) / 8 });
  }
  const structs = /^pub const (\w+) = extern struct \{(.*?)\}(?:;\n|;$)/gms;
  for (const [, name, body] of text.matchAll(structs)) {
    const fields: LayoutField[] = [];
    let end = 0;
    let widest = 1;
    for (const declaration of fieldDeclarations(body!)) {
      const field = /^(\w+): ([^=]+?)(?: align\((\d+)\))?(?: = .*?)?,?$/.exec(declaration);
      if (field === null) throw new Error(`${name}: what is ${declaration}?`);
      const type = field[2]!.trim();
      const array = /^\[(.+)\](\w+)$/.exec(type);
      const one = sizes.get(array === null ? type : array[2]!);
      if (one === undefined) throw new Error(`${name}.${field[1]}: the type ${type} is not known`);
      const count = array === null ? 1 : evaluate(array[1]!, sizes, numbers);
      const align = field[3] === undefined ? one.align : Number(field[3]);
      const offset = Math.ceil(end / align) * align;
      fields.push({ name: field[1]!, offset, size: one.size * count });
      end = offset + one.size * count;
      widest = Math.max(widest, align);
    }
    sizes.set(name!, { size: Math.ceil(end / widest) * widest, align: widest });
    layouts.set(name!, fields);
  }
  return layouts;
}

/** The fields among the lines of a struct: one on each line, or all on the struct's own. */
function fieldDeclarations(body: string): string[] {
  if (!body.includes("\n")) return body.split(/,(?= \w+:)/).map((part) => part.trim());
  const lines = body.split("\n").filter((line) => /^ {4}\w+: /.test(line));
  return lines.map((line) => line.trim());
}

/** `512 - @sizeOf(FileHeader)`, `limits.page_bytes - 1024`, `64`. */
function evaluate(
  expression: string,
  sizes: ReadonlyMap<string, { size: number }>,
  numbers: Readonly<Record<string, number>>,
): number {
  return expression.split(" - ").map((part) => {
    const sizeOf = /^@sizeOf\((\w+)\)$/.exec(part);
    const value = sizeOf === null ? numbers[part] ?? Number(part) : sizes.get(sizeOf[1]!)?.size;
    if (value === undefined || Number.isNaN(value)) throw new Error(`what is ${part}?`);
    return value;
  }).reduce((a, b) => a - b);
}

/** Values of an enum of a Zig file, by number. */
export function zigEnum(text: string, name: string): ReadonlyMap<number, string> {
  const body = new RegExp(`^pub const ${name} = enum\\(\\w+\\) \\{(.*?)^\\};`, "ms").exec(text);
  if (body === null) throw new Error(`no enum ${name}`);
  const values = body[1]!.matchAll(/^\s*(\w+) = (\d+),/gm);
  return new Map([...values].map(([, value, n]) => [Number(n), value!]));
}

/** Names of the one-bit fields of a packed struct of a Zig file, by bit. */
export function zigFlags(text: string, name: string): ReadonlyMap<number, string> {
  const body = new RegExp(`^pub const ${name} = packed struct\\(\\w+\\) \\{(.*?)^\\};`, "ms")
    .exec(text);
  if (body === null) throw new Error(`no packed struct ${name}`);
  const flags = [...body[1]!.matchAll(/^\s*(\w+): bool/gm)];
  return new Map(flags.map(([, flag], bit) => [bit, flag!]));
}

/** Public integer constants of a Zig file whose values are sums, products and shifts of numbers. */
export function zigConstants(text: string): ReadonlyMap<string, number> {
  const known: Record<string, number> = { us: 1000, ms: 1_000_000 };
  const constants = new Map<string, number>();
  for (const [, name, value] of text.matchAll(/^pub const (\w+)(?:: \w+)? = ([\w\s*/<]+);/gm)) {
    const words = value!.split(" ");
    let result = number(words[0]!);
    for (let i = 1; i < words.length; i += 2) {
      const right = number(words[i + 1]!);
      if (words[i] === "*") result *= right;
      else if (words[i] === "/") result = Math.floor(result / right);
      else if (words[i] === "<<") result *= 2 ** right;
      else throw new Error(`${name}: what does ${words[i]} mean?`);
    }
    known[name!] = result;
    constants.set(name!, result);
  }
  return constants;

  function number(word: string): number {
    const value = known[word] ?? Number(word.replaceAll("_", ""));
    if (Number.isNaN(value)) throw new Error(`what is ${word}?`);
    return value;
  }
}

/** The layouts of the dissector. */
export function luaLayouts(text: string): Layouts {
  const layouts = new Map<string, LayoutField[]>();
  const all = /^local layouts = \{\n(.*?)^\}/ms.exec(text);
  if (all === null) throw new Error("the dissector has no layouts");
  for (const [, name, body] of all[1]!.matchAll(/^ {2}(\w+) = \{\n(.*?)^ {2}\},/gms)) {
    const entries = body!.matchAll(/\{ "([\w.]+)", (\d+), (\d+), /g);
    layouts.set(
      name!,
      [...entries].map(([, field, offset, size]) => ({
        name: field!,
        offset: Number(offset),
        size: Number(size),
      })),
    );
  }
  return layouts;
}

/** A table of the dissector from numbers to names. */
export function luaNumbers(text: string, name: string): ReadonlyMap<number, string> {
  const table = new RegExp(`^local ${name} = \\{\\n(.*?)^\\}`, "ms").exec(text);
  if (table === null) throw new Error(`the dissector has no ${name}`);
  const entries = table[1]!.matchAll(/\[(\d+)\] = "(\w+)"/g);
  return new Map([...entries].map(([, n, value]) => [Number(n), value!]));
}
