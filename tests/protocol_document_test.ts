/** Keeps `docs/protocol.md`, `docs/files.md`, the dissector and the native code in step. */

import { test } from "node:test";
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import {
  documentConstants,
  documentLayouts,
  documentNumbers,
  documentTable,
  type LayoutField,
  type Layouts,
  luaLayouts,
  luaNumbers,
  projectText,
  zigConstants,
  zigEnum,
  zigFlags,
  zigLayouts,
} from "./vectors/document.ts";
import {
  crc32c,
  encode,
  fromHex,
  readVectors,
  toHex,
  typeName,
  typeNumber,
} from "./vectors/wire.ts";

const protocol = projectText("docs/protocol.md");
const files = projectText("docs/files.md");
const dissector = projectText("tools/wireshark/rcm.lua");
const frame = projectText("native/src/wire/frame.zig");
const node = projectText("native/src/window/node.zig");
const record = projectText("native/src/order/record.zig");
const counters = projectText("native/src/stats/counters.zig");
const recordFile = projectText("native/src/order/record_file.zig");
const limits = projectText("native/src/session/limits.zig");
const seal = projectText("native/src/wire/seal.zig");
const tierFrame = projectText("native/src/wire/tier_frame.zig");
const tierLimits = projectText("native/src/tier/limits.zig");

/** Zig's structs as the document tells of them: nested structs field by field. */
function wireLayouts(): Layouts {
  const layouts = new Map(zigLayouts(frame));
  const epoch = layouts.get("Epoch")!;
  layouts.delete("Epoch");
  for (const [name, fields] of layouts) {
    layouts.set(name, fields.flatMap((field) => expand(field, epoch)));
  }
  return layouts;
}

function expand(field: LayoutField, epoch: readonly LayoutField[]): LayoutField[] {
  const { name, offset } = field;
  if (["epoch", "adopted", "promised"].includes(name)) {
    return epoch.map((part) => ({
      name: `${name}.${part.name}`,
      offset: offset + part.offset,
      size: part.size,
    }));
  }
  if (name !== "connection_flags") return [field];
  return [{ name: "connection", offset, size: 7 }, { name: "flags", offset: offset + 7, size: 1 }];
}

/** A struct of a file, with the words around it. */
function zigStruct(text: string, name: string): string {
  const found = new RegExp(`^pub const ${name} = extern struct \\{.*?\\};$`, "ms").exec(text);
  if (found === null) throw new Error(`no ${name}`);
  return found[0];
}

/** The tier's structs, under the names that the document has for them. */
function tierLayouts(): Layouts {
  const text = [
    zigStruct(frame, "Epoch"),
    projectText("native/src/tier/entry.zig"),
    zigStruct(projectText("native/src/tier/epoch.zig"), "Era"),
    zigStruct(recordFile, "StreamEntry"),
    tierFrame,
  ].join("\n");
  const layouts = zigLayouts(text);
  const epoch = layouts.get("Epoch")!;
  return new Map(
    [...layouts].filter(([name]) => name !== "Epoch" && name !== "StreamEntry").map((
      [name, fields],
    ) => [`Tier${name}`, fields.flatMap((field) => expand(field, epoch))]),
  );
}

const allLayouts = (): Layouts => new Map([...wireLayouts(), ...tierLayouts()]);

function assertSameLayouts(actual: Layouts, expected: Layouts, what: string): void {
  assert.deepEqual([...actual.keys()].sort(), [...expected.keys()].sort(), `${what}: structs`);
  for (const [name, fields] of expected) {
    assert.deepEqual(actual.get(name), fields, `${what}: ${name}`);
  }
}

const upper = (names: ReadonlyMap<number, string>) =>
  new Map([...names].map(([n, name]) => [n, name.toUpperCase()]));

test("every struct of the wire stands in docs/protocol.md as it is in the code", () => {
  assertSameLayouts(documentLayouts(protocol), allLayouts(), "docs/protocol.md");
});

test("the dissector shows every field where it is", () => {
  const streamEntry = zigLayouts(recordFile, { "limits.page_bytes": 4096 }).get("StreamEntry")!;
  const expected = new Map([...allLayouts(), ["StreamEntry", streamEntry] as const]);
  assertSameLayouts(luaLayouts(dissector), expected, "rcm.lua");
});

test("a header's fields leave no hole", () => {
  for (const [name, fields] of documentLayouts(protocol)) {
    let end = 0;
    for (const field of fields) {
      assert.equal(field.offset, end, `${name}.${field.name}`);
      end += field.size;
    }
    assert.equal(end % 8, 0, name);
  }
});

test("types, reasons and flags are the same in code, document and dissector", () => {
  const types = upper(zigEnum(frame, "Type"));
  assert.deepEqual(documentNumbers(protocol, "types"), types);
  const tierTypes = upper(zigEnum(tierFrame, "Type"));
  assert.deepEqual(documentNumbers(protocol, "tier types"), tierTypes);
  assert.deepEqual(luaNumbers(dissector, "types"), new Map([...types, ...tierTypes]));
  const rst = zigEnum(frame, "RstReason");
  assert.deepEqual(documentNumbers(protocol, "enum: RstReason"), rst);
  assert.deepEqual(luaNumbers(dissector, "rst_reasons"), rst);
  const fill = zigEnum(frame, "FillReason");
  assert.deepEqual(documentNumbers(protocol, "enum: FillReason"), fill);
  assert.deepEqual(luaNumbers(dissector, "fill_reasons"), fill);
  const flags = zigFlags(frame, "Flags");
  assert.deepEqual(documentNumbers(protocol, "flags"), flags);
  assert.deepEqual(luaNumbers(dissector, "flags"), flags);
});

test("every refusal of a header stands in the document with its statistics field", () => {
  const refusals = /pub const Refusal = enum \{(.*?)\}/s.exec(frame)![1]!;
  // `seal` is no refusal of a header; the trailing comma of a list leaves an empty name.
  const names = refusals.split(",").map((name) => name.trim())
    .filter((name) => name !== "" && name !== "seal");
  const rows = documentTable(protocol, "refusals");
  assert.deepEqual([...new Set(rows.map(([name]) => name!))].sort(), names.sort());
  const snapshot = projectText("native/src/stats/snapshot.zig");
  for (const [, counter] of protocol.matchAll(/`(dropped_\w+)`/g)) {
    assert.match(snapshot, new RegExp(`\\b${counter}: u64`), counter);
  }
});

test("the constants of the document are those of the code", () => {
  const expected = new Map(zigConstants(limits));
  // The only one that is taken from the other file.
  const base = /^pub const message_bytes_max: .*$/m.exec(projectText("native/src/limits.zig"))!;
  expected.set("message_bytes_max", zigConstants(base[0]).get("message_bytes_max")!);
  const actual = documentConstants(protocol);
  assert.deepEqual(new Map([...actual].sort()), new Map([...expected].sort()));
});

test("the constants of the tier are those of the code", () => {
  const actual = documentConstants(protocol, "tier constants");
  for (const [name, value] of actual) {
    const line = new RegExp(`^pub const ${name} = [\\w *]+;$`, "m").exec(tierLimits);
    assert.ok(line, `no ${name} in native/src/tier/limits.zig`);
    assert.equal(value, zigConstants(line[0]).get(name), name);
  }
  for (const [, name] of tierLimits.matchAll(/^pub const (\w+_ns) =/gm)) {
    assert.ok(actual.has(name!), `${name} is not in the document`);
  }
});

test("the files are as docs/files.md says", () => {
  const numbers = { "limits.page_bytes": 4096 };
  const expected = new Map([
    ...zigLayouts(node, numbers),
    ...zigLayouts(recordFile, numbers),
    ...zigLayouts(counters),
    ...[...zigLayouts(record, numbers)].filter(([name]) => name === "RecordHeader"),
  ]);
  assertSameLayouts(documentLayouts(files), expected, "docs/files.md");
});

test("an encoder that follows the document makes the library's datagrams", () => {
  const vectors = readVectors();
  const seen = new Set<number>();
  for (const vector of vectors) {
    assert.equal(toHex(encode(vector)), vector.hex, vector.name);
    seen.add(typeNumber(vector));
  }
  const numbers = ["types", "tier types"].flatMap((mark) => [
    ...documentNumbers(protocol, mark).keys(),
  ]);
  assert.deepEqual([...seen].sort((a, b) => a - b), numbers);
});

test("CRC32C has its well-known check value", () => {
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
});

test("the example of the document is the vector ACK", () => {
  const example = /```text\n((?:[0-9a-f]{2}[ \n])+)```/.exec(protocol);
  assert.ok(example, "no example in docs/protocol.md");
  const ack = readVectors().find((vector) => vector.name === "ACK");
  assert.equal(example[1]!.replaceAll(/\s/g, ""), ack?.hex);
});

test("a sealed vector's key follows from the document's derivation", () => {
  const sealed = readVectors().filter((vector) => vector.key !== undefined);
  assert.equal(sealed.length, 3);
  for (const vector of sealed) {
    const info = new DataView(new ArrayBuffer(32));
    new Uint8Array(info.buffer).set(new TextEncoder().encode("rcm seal"));
    const fromReceiver = typeName(vector) === "ACK";
    const fromMember = typeName(vector) === "COMMIT";
    info.setUint8(8, fromReceiver ? 1 : fromMember ? 2 : 0);
    info.setUint8(9, 0);
    info.setUint16(10, Number(vector.header["cluster"]), true);
    info.setUint16(12, Number(vector.header["source"]), true);
    info.setUint16(14, Number(vector.header["transport"]), true);
    const instance = BigInt(vector.trailer!["instance"]!);
    info.setUint16(16, fromReceiver ? Number(instance & 0xffffn) : 0, true);
    info.setBigUint64(18, instance, true);
    // HKDF by hand: one block of the expansion is enough for 16 bytes.
    const prk = createHmac("sha256", "rcm group key v1").update(fromHex(vector.groupKey!)).digest();
    const block = createHmac("sha256", prk).update(new Uint8Array(info.buffer))
      .update(new Uint8Array([1])).digest();
    assert.equal(toHex(new Uint8Array(block.subarray(0, 16))), vector.key, vector.name);
  }
});

test("the strings of the seal are the document's", () => {
  for (const string of ["rcm seal", "rcm group key v1"]) {
    assert.ok(seal.includes(`"${string}"`), string);
    assert.ok(protocol.includes(`"${string}"`), string);
  }
  const width = Number(/const width = (\d+);/.exec(seal)![1]);
  assert.ok(protocol.includes(`${width} or more below the highest`), `replay window of ${width}`);
});
