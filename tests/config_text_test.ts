import assert from "node:assert/strict";
import { test } from "node:test";
import { JsonTextError, parseJsonText } from "../src/config/json_text.ts";
import { editDistance, nearestName, suggestion } from "../src/config/names.ts";

const value = (text: string) => parseJsonText(text).value;

function failure(text: string): string {
  try {
    value(text);
  } catch (error) {
    assert.ok(error instanceof JsonTextError, String(error));
    assert.ok(error.message.startsWith(`line ${error.line}, column ${error.column}: `));
    return error.message;
  }
  return assert.fail(`read: ${text}`);
}

// What JSON is

test("all of JSON is read as JSON.parse reads it", () => {
  const texts = [
    "{}",
    "[]",
    ' \t\r\n{ "a" : [ 1 , -2.5e-3 , 0 , -0 , 1E+2 ] , "b" : { "c" : null } } ',
    '[true, false, null, "", "\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00 名字"]',
    '{"a":1,"a":2}',
    '"\u007f\u0085\u2028"',
    "12345678901234567890",
    '{"": 1, "__proto__": 2, "constructor": 3}',
  ];
  for (const text of texts) assert.deepEqual(value(text), JSON.parse(text), text);
  assert.ok(Object.is((value("[-0]") as number[])[0], -0));
});

test("a key called __proto__ is a key", () => {
  const object = value('{"__proto__": {"Id": 1}}') as object;
  assert.deepEqual(Object.keys(object), ["__proto__"]);
  assert.equal(Reflect.get(object, "Id"), undefined);
});

test("what JSON.parse refuses is refused, commas at the end aside", () => {
  const texts = [
    "",
    "{",
    "[1",
    '{"a"}',
    '{"a":}',
    '{"a":1 "b":2}',
    "{a: 1}",
    "{'a': 1}",
    "[,]",
    "[1,,2]",
    "{,}",
    '{"a":1,,}',
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e",
    "0x10",
    "1a",
    "NaN",
    "Infinity",
    "undefined",
    "True",
    "nulls",
    '"a',
    '"a\nb"',
    '"\t"',
    '"\\x"',
    '"\\u12g4"',
    "{} {}",
    "[] 1",
    "\u00a0{}",
    "\u{feff}\u{feff}{}",
  ];
  for (const text of texts) {
    assert.throws(() => JSON.parse(text));
    failure(text);
  }
});

// What people write

test("commas after the last element, comments, and a byte order mark", () => {
  assert.deepEqual(value("[1, 2,]"), [1, 2]);
  assert.deepEqual(value('{"a": {"b": 1,},}'), { a: { b: 1 } });
  assert.deepEqual(value('// x\n{ /* " */ "a": /**/ 1, // "b": 2\r\n /* * / */ }//'), { a: 1 });
  assert.deepEqual(value('["// no comment", "/* nor this */"]'), [
    "// no comment",
    "/* nor this */",
  ]);
  assert.deepEqual(value("\ufeff[1]"), [1]);
});

test("keys given twice are told with their places, in objects apart they are not twice", () => {
  const { repeated } = parseJsonText(
    '{"a": 1,\n "a": {"a": 2},\n  "b": [{"a": 1}, {"a": 1}], "a": 3}',
  );
  assert.deepEqual(repeated, [
    { line: 2, column: 2, key: "a" },
    { line: 3, column: 30, key: "a" },
  ]);
});

test("errors say line, column, what was expected and what was found", () => {
  const cases: Record<string, string> = {
    "": "line 1, column 1: expected a JSON value, found the end of the file",
    '{"a": 1': 'line 1, column 8: expected "," or "}", found the end of the file',
    '{"a": 1\n "b": 2}': 'line 2, column 2: expected "," or "}", found "\\""',
    "{\r\n  a: 1}": 'line 2, column 3: expected a key in quotes or "}", found "a"',
    '{"a" 1}': 'line 1, column 6: expected ":", found "1"',
    '{"Port": }': 'line 1, column 10: expected a value of "Port", found "}"',
    "[1,\n\n2 3]": 'line 3, column 3: expected "," or "]", found "3"',
    "[1,,]": 'line 1, column 4: expected a value or "]", found ","',
    "[01]": 'line 1, column 2: expected a number of JSON, found "01"',
    "[1.2.3]": 'line 1, column 2: expected a number of JSON, found "1.2.3"',
    "[TRUE]": 'line 1, column 2: expected a value or "]", found "TRUE"',
    '["名\n"]': 'line 1, column 4: expected the closing "\\"", found the end of the line',
    '["😀" x]': 'line 1, column 6: expected "," or "]", found "x"',
    "{} x": 'line 1, column 4: expected the end of the file, found "x"',
    "{ /* x": 'line 1, column 3: a comment without its "*/"',
    "\ufeffx": 'line 1, column 1: expected a JSON value, found "x"',
  };
  for (const [text, message] of Object.entries(cases)) assert.equal(failure(text), message);
  const long = failure(`[${"x".repeat(500)}]`);
  assert.ok(long.length < 100, long);
});

test("nesting has an end", () => {
  assert.deepEqual(JSON.stringify(value("[".repeat(64) + "]".repeat(64))).length, 128);
  assert.match(failure("[".repeat(65) + "]".repeat(65)), /column 65: more than 64 levels/);
  assert.match(failure("[".repeat(1_000_000)), /more than 64 levels/);
});

// Names

test("edits: insertions, deletions, substitutions, swaps of neighbours", () => {
  const cases: readonly (readonly [string, string, number])[] = [
    ["", "", 0],
    ["", "abc", 3],
    ["abc", "", 3],
    ["abc", "abc", 0],
    ["abc", "abx", 1],
    ["abc", "ab", 1],
    ["abc", "abcd", 1],
    ["abcd", "abdc", 1],
    ["abcd", "badc", 2],
    ["kitten", "sitting", 3],
    ["ca", "abc", 3],
    ["名字", "字名", 1],
    ["a😀", "a", 1],
  ];
  for (const [a, b, distance] of cases) {
    assert.equal(editDistance(a, b), distance, `${a} ${b}`);
    assert.equal(editDistance(b, a), distance, `${b} ${a}`);
  }
});

test("the nearest name, the first of several, capitals count little", () => {
  assert.equal(nearestName("servre1", ["client1", "server2", "server1"])?.name, "server1");
  assert.equal(nearestName("x1", ["a1", "b1"])?.name, "a1");
  assert.equal(nearestName("REQ", ["rep", "req", "Req"])?.name, "req");
  assert.equal(nearestName("req", ["Req", "req"])?.name, "req");
  assert.equal(nearestName("Heartbeat", ["HeartbeatTimeoutMilli", "Addr"])?.name, "Addr");
  assert.equal(nearestName("a", []), undefined);
  assert.equal(nearestName("", ["abc", "ab"])?.name, "ab");
});

test("a suggestion asks when the name is near, and says so when it is not", () => {
  assert.equal(suggestion("sever1", ["server1", "client1"]), '; did you mean "server1"?');
  assert.equal(suggestion("gateway", ["server1", "client1"]), '; the nearest is "client1"');
  assert.equal(suggestion("ab", ["cd"]), '; the nearest is "cd"');
  assert.equal(suggestion("x", []), "");
});
