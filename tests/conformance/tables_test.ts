/**
 * `docs/configuration.md` and `docs/conformance.md` say which test shows each key of guide 10.1 and
 * each function of guide 9. They name all there are, and tests that exist and speak of them.
 */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import type { Key } from "../../src/config/key_kinds.ts";
import { BUILT_PARTS, KEYS, UNBUILT_VALUES } from "../../src/config/keys.ts";

const root = new URL("../../", import.meta.url);
const textOf = (path: string) => readFileSync(new URL(path, root), "utf8");

/** Cells of the rows of a document's one table, without its head. */
function rows(path: string): string[][] {
  const lines = textOf(path).split("\n").filter((line) => line.startsWith("|"));
  return lines.slice(2).map((line) => line.slice(1, -1).split("|").map((cell) => cell.trim()));
}

const quoted = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text!);

/** Options have other names there: only that the file exists is checked. */
const isNative = (name: string) => name.startsWith("native/");

/** Names of tests that are there and have the word. */
function assertTests(what: string, word: string, cell: string): void {
  const [own = "", fields = ""] = cell.split("; its fields:");
  const named = quoted(own);
  assert.ok(named.length > 0, `${what}: no test`);
  for (const name of [...named, ...quoted(fields)]) {
    const path = isNative(name) ? name : `tests/${name}`;
    assert.ok(existsSync(new URL(path, root)), `${what}: there is no ${path}`);
  }
  const speaks = (name: string) => new RegExp(`\\b${word}\\b`).test(textOf(`tests/${name}`));
  for (const name of named.filter((one) => !isNative(one))) {
    assert.ok(speaks(name), `${what}: tests/${name} has no ${word}`);
  }
}

test("docs/configuration.md has every key at every place, once", () => {
  const wanted = KEYS.flatMap((key: Key) => key.where.map((place) => `${place}.${key.name}`));
  const found = rows("docs/configuration.md").flatMap(([key, where]) =>
    where!.split(", ").map((place) => `${place}.${quoted(key!)[0]}`)
  );
  assert.deepEqual(found.sort(), wanted.sort());
});

test("each key names code and tests that exist and speak of it; the tier's are marked", () => {
  for (const [cell, where, acts, tests] of rows("docs/configuration.md")) {
    const name = quoted(cell!)[0]!;
    const place = where!.split(", ")[0]!;
    const key = KEYS.find((one: Key) => one.name === name && one.where.some((at) => at === place))!;
    const what = `${place}.${name}`;
    if (key.part === "tier" && !BUILT_PARTS.has("tier")) {
      assert.deepEqual([acts, tests], ["tier", "–"], what);
      continue;
    }
    const isPartly = !BUILT_PARTS.has(key.part) || name in UNBUILT_VALUES;
    assert.equal(acts!.includes("not in this version"), isPartly, `${what}: ${acts}`);
    const code = quoted(acts!)[0]!;
    const path = code.endsWith(".zig") ? `native/src/${code}` : code;
    assert.ok(existsSync(new URL(path, root)), `${what}: there is no ${path}`);
    assertTests(what, name, tests!);
  }
});

/** Methods of the interfaces that `mod.ts` exports, and its functions. */
function publicFunctions(): string[] {
  const sources = [
    "src/api.ts",
    "src/observe/events.ts",
    "src/observe/logger.ts",
    "src/config/view.ts",
  ].map(textOf);
  const exported = new Set(textOf("mod.ts").match(/\bRcm\w+/g));
  const methods = sources.flatMap((source) =>
    [...source.matchAll(/^export interface (\w+)[^{]*\{\n(.*?)^\}/gms)]
      .filter(([, name]) => exported.has(name!))
      .flatMap(([, name, body]) =>
        [...body!.matchAll(/^ {2}(\w+)\??\(/gm)].map(([, method]) => `${name}.${method}`)
      )
  );
  const functions = textOf("mod.ts").match(/\b(getRcmVersion|new\w+|delete\w+|open\w+)\b/g)!;
  return [...methods, ...functions];
}

test("docs/conformance.md has every function of the public interface, once", () => {
  const found = rows("docs/conformance.md").map(([call]) => quoted(call!)[0]!);
  assert.ok(found.length > 60);
  assert.deepEqual(found.sort(), [...new Set(publicFunctions())].sort());
});

test("each function names a section of the guide, and tests that speak of it", () => {
  for (const [call, section, tests] of rows("docs/conformance.md")) {
    const name = quoted(call!)[0]!;
    assert.match(section!, /^(–|(\d+\.\d+(\.\d+)?)(, \d+\.\d+(\.\d+)?)*)$/, name);
    if (tests === "tier") continue;
    assertTests(name, name.split(".").at(-1)!, tests!);
  }
});
