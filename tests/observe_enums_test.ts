import { test } from "node:test";
import assert from "node:assert/strict";
import { RcmEventType, RcmLogLevel, RcmStatus } from "../src/enums.ts";
import { ERROR_CODES, errorCodeOfNative, RcmError } from "../src/errors.ts";
import { zigEnum, zigSource } from "./observe_layouts.ts";

const abi = zigSource("abi.zig");

test("RcmError carries code, message, cause and frozen details", () => {
  const cause = new Error("why");
  const details = ["one", "two"];
  const error = new RcmError("CONFIG", "two faults", { cause, details });
  details.push("three");
  assert.ok(error instanceof Error);
  assert.equal(error.name, "RcmError");
  assert.equal(error.code, "CONFIG");
  assert.equal(error.message, "two faults");
  assert.equal(error.cause, cause);
  assert.deepEqual(error.details, ["one", "two"]);
  assert.throws(() => (error.details as string[]).push("four"), TypeError);
  assert.deepEqual(new RcmError("STATE", "m").details, []);
  assert.match(String(error), /^RcmError: two faults/);
});

test("native error numbers are the codes in order", () => {
  const native = zigEnum(abi, "ErrorCode");
  assert.deepEqual(Object.keys(native), [...ERROR_CODES]);
  for (const [name, number] of Object.entries(native)) {
    assert.equal(errorCodeOfNative(-number), name);
  }
  assert.equal(errorCodeOfNative(-99), "NATIVE");
  assert.equal(errorCodeOfNative(0), "NATIVE");
});

test("numbered constants are the native side's", () => {
  assert.deepEqual({ ...RcmStatus }, zigEnum(abi, "Status"));
  assert.deepEqual({ ...RcmEventType }, zigEnum(abi, "EventType"));
  assert.deepEqual(Object.values(RcmLogLevel), Object.values(zigEnum(abi, "LogLevel")));
});
