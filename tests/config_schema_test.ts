import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { parseJsonText } from "../src/config/json_text.ts";
import type { Key, Place } from "../src/config/key_kinds.ts";
import { KEYS } from "../src/config/keys.ts";
import { type JsonSchema, jsonSchema, jsonSchemaText } from "../src/config/schema.ts";
import { change, faultsOf, guideFolder, type Loose, simple, tier } from "./config_fixture.ts";

const file = new URL("../schema/rcm.schema.json", import.meta.url);
const schema = jsonSchema();

/** The keywords that the schema uses, as in draft 7. Returns the first path that fails. */
function check(rule: unknown, value: unknown, path = ""): string | null {
  const { $ref, anyOf, enum: words, type, ...rest } = rule as Record<string, unknown>;
  if (typeof $ref === "string") {
    const definitions = schema["definitions"] as Record<string, JsonSchema>;
    return check(definitions[$ref.replace("#/definitions/", "")], value, path);
  }
  if (Array.isArray(anyOf) && anyOf.every((one) => check(one, value) !== null)) return path;
  if (Array.isArray(words) && !words.includes(value)) return path;
  if ("const" in rest && rest["const"] !== value) return path;
  const types: Record<string, boolean> = {
    integer: Number.isInteger(value),
    string: typeof value === "string",
    array: Array.isArray(value),
    object: typeof value === "object" && value !== null && !Array.isArray(value),
  };
  if (typeof type === "string" && types[type] !== true) return path;
  if (typeof value === "number") {
    if (typeof rest["minimum"] === "number" && value < rest["minimum"]) return path;
    if (typeof rest["maximum"] === "number" && value > rest["maximum"]) return path;
  }
  if (typeof value === "string" && typeof rest["pattern"] === "string") {
    if (!new RegExp(rest["pattern"], "u").test(value)) return path;
  }
  if (Array.isArray(value)) {
    if (typeof rest["minItems"] === "number" && value.length < rest["minItems"]) return path;
    if (typeof rest["maxItems"] === "number" && value.length > rest["maxItems"]) return path;
    if (rest["uniqueItems"] === true && new Set(value).size < value.length) return path;
    if (rest["items"] === undefined) return null;
    return firstOf(value.map((item, index) => check(rest["items"], item, `${path}[${index}]`)));
  }
  return types["object"] === true ? checkObject(rest, value as Loose, path) : null;
}

function checkObject(rule: Loose, value: Loose, path: string): string | null {
  const properties = rule["properties"] as Record<string, JsonSchema> | undefined;
  if (properties === undefined) return null;
  for (const name of (rule["required"] ?? []) as string[]) {
    if (value[name] === undefined) return `${path}.${name}`;
  }
  return firstOf(
    Object.entries(value).map(([name, item]) => {
      const property = properties[name];
      if (property === undefined) return `${path}.${name}`;
      return check(property, item, `${path}.${name}`);
    }),
  );
}

function firstOf(results: readonly (string | null)[]): string | null {
  return results.find((result) => result !== null) ?? null;
}

test("schema/rcm.schema.json is fresh (deno run -A src/config/write_schema.ts)", () => {
  assert.equal(readFileSync(file, "utf8"), jsonSchemaText());
  assert.deepEqual(JSON.parse(jsonSchemaText()), schema);
});

test("every key of the table stands in the schema at its place, described", () => {
  const definitions = schema["definitions"] as Record<Place, { properties: Record<string, Loose> }>;
  const seen = Object.entries(definitions).flatMap(([place, { properties }]) =>
    Object.keys(properties).map((name) => `${place}.${name}`)
  );
  const known = KEYS.flatMap((key: Key) => key.where.map((place) => `${place}.${key.name}`));
  assert.deepEqual(seen.sort(), known.sort());
  for (const { properties } of Object.values(definitions)) {
    for (const property of Object.values(properties)) assert.ok(property["description"]);
  }
});

test("right configurations fit the schema", () => {
  for (const name of readdirSync(guideFolder).filter((one) => one.endsWith(".json"))) {
    const { value } = parseJsonText(readFileSync(new URL(name, guideFolder), "utf8"));
    assert.equal(check(schema, value), null, name);
  }
  assert.equal(check(schema, { $schema: "x", ...simple() }), null);
  assert.equal(check(schema, tier()), null);
});

test("the schema and the loader think the same of single values", () => {
  const values: Record<string, readonly unknown[]> = {
    "Transports[0].Id": [0, 1, 65535, 65536, -1, "1", 1.5],
    "Transports[0].Topic": ["t", "", "a/b", "a\n", "x".repeat(127), "x".repeat(128), 1],
    "Transports[0].Addr": [
      "224.0.0.0",
      "239.255.255.255",
      "10.0.0.1",
      "10.0.0.1, 10.0.0.2",
      "10.0.0.256",
      "10.0.0",
      "10.0.0.01",
      "host",
      "239.0.0.1,239.0.0.2,",
      "",
    ],
    "Transports[0].Port": [0, 1, 65535, 65536],
    "Transports[0].UseSharedMemory": [0, 1, 2, true, false, "1"],
    "Transports[0].SlowReceiver": ["wait", "disconnect", "", "Wait"],
    "Transports[0].GroupKey": ["a".repeat(64), "A0".repeat(32), "a".repeat(63), "g".repeat(64)],
    "Transports[0].Context": ["", "a", 1],
    "Transports[0].Unknown": [1],
    "Contexts[0].Name": ["n", 1, "a/b", "名".repeat(21), "x".repeat(64)],
    "Contexts[0].Ip": ["1.2.3.4", "1.2.3.4/0", "1.2.3.4/32", "1.2.3.4/33", "1.2.3", "a"],
    "Contexts[0].BindCoreId": [-1, 0, -2, 0.5],
    "Contexts[0].RecordReplayStartPoint": [0, 2 ** 53 - 1, -1],
    "Contexts[0].AckCount": [-1, 0, 64, 65, -2],
    "Contexts[0].SyncAddr": ["239.1.1.1", "10.0.0.1", ""],
    "Contexts[0].RecordDir": ["x", ""],
    "Contexts[0].ShmContext": ["", "b", ["a", "b"], [], 1, [1]],
    "Contexts[0].TxTopics": [[], [{ Name: "t" }], [{}], {}, [{ Name: "t", Partitions: [1] }]],
    "Contexts[0].RxTopics": [
      [{ Name: "t", Partitions: [] }],
      [{ Name: "t", Partitions: [1, 1] }],
      [{ Name: "t", Partitions: [0] }],
      [{ Name: "t", Partition: [1] }],
    ],
  };
  let refused = 0;
  for (const [path, list] of Object.entries(values)) {
    const [, entry = "", key = ""] = /^(.*)\.(\w+)$/.exec(path) ?? [];
    for (const value of list) {
      const sample = change(simple(), { [entry]: { [key]: value } });
      // Faults of the value itself: others come of what it does to the rest.
      const faults = faultsOf(sample).filter((line) =>
        line.startsWith(`Rcm.${path}`) && !line.includes("that has a transport")
      );
      const place = check(schema, sample);
      assert.equal(
        place === null,
        faults.length === 0,
        `${path} ${JSON.stringify(value)} ${faults}`,
      );
      if (place !== null) {
        assert.ok(place.startsWith(`.Rcm.${path}`), place);
        refused += 1;
      }
    }
  }
  assert.ok(refused > 40, `${refused}`);
});

test("what the whole needs, the schema needs", () => {
  assert.equal(check(schema, {}), ".Rcm");
  assert.equal(check(schema, { Rcm: {} }), ".Rcm.Transports");
  assert.equal(check(schema, { ...simple(), Other: 1 }), ".Other");
  const nameless = simple();
  delete nameless.Rcm.Contexts[1]?.["Name"];
  assert.equal(check(schema, nameless), ".Rcm.Contexts[1].Name");
});
