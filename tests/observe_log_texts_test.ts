import { test } from "node:test";
import assert from "node:assert/strict";
import { fillText, LOG_TEXTS, LogKey, type LogText, logTextOf } from "../src/observe/log_texts.ts";
import { errorName } from "../src/observe/system_error.ts";
import { zigEnum, zigSource } from "./observe_layouts.ts";

const lines: [number, LogText][] = Object.entries(LOG_TEXTS as Record<number, LogText>)
  .map(([key, text]) => [Number(key), text]);

function placeholders(text: string): string[] {
  return [...new Set([...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!))].sort();
}

/** Numbers are for ever: a line here may be added, never changed or removed. */
const PUBLISHED: Readonly<Record<number, string>> = {
  20060: "session_agreed_tx",
  20061: "receiver_disconnected",
  20062: "sender_wiped",
  20063: "handshake_timeout",
  20064: "slow_receiver_disconnected",
  20065: "window_recovered",
  20066: "drain_incomplete",
  20067: "receiver_limit",
  21060: "session_agreed_rx",
  21061: "sender_wiped_rx",
  21062: "heartbeat_timeout",
  21063: "message_loss",
  21064: "transmitter_closed",
  21065: "receive_memory_full",
  21066: "message_over_memory",
  21067: "gap_given_up",
  21068: "stream_limit",
  21069: "record_recovered",
  21070: "record_cut",
  21071: "record_head_damaged",
  21072: "record_stopped",
  22001: "gso_unavailable",
  22002: "gro_unavailable",
  22003: "receive_buffer_small",
  22004: "send_failed",
  22005: "kernel_drops",
  22006: "bind_core_failed",
  22007: "injector_on",
  22008: "agent_failed",
  22101: "tier_established",
  22102: "tier_quorum",
  22103: "tier_single",
  22104: "tier_no_quorum",
  22105: "tier_other_configuration",
  22106: "tier_disk_failed",
  22107: "tier_separate",
  22108: "tier_forced",
  22109: "tier_tree_wiped",
  22110: "tier_unsafe_policy",
  22111: "tier_unheard",
  22112: "tier_leader_silent",
  22113: "tier_unauthenticated",
  22120: "tier_results_open",
  23001: "event_callback_threw",
  23002: "handler_refused",
  23003: "handler_still_refusing",
  23004: "role_callback_threw",
  23005: "not_recorded",
  23006: "context_started",
  23007: "context_stopped",
  23008: "logger_failed",
  23009: "log_lines_lost",
  23010: "arbiter_fault",
  23011: "lanes_not_recorded",
};

test("log keys keep their meaning", () => {
  for (const [key, name] of Object.entries(PUBLISHED)) {
    assert.equal(logTextOf(Number(key))?.name, name, `key ${key}`);
  }
});

test("log keys and names are unique, and a source does not repeat a key", () => {
  assert.equal(new Set(lines.map(([, { name }]) => name)).size, lines.length);
  // An object swallows a repeated key silently.
  assert.equal(lines.length, Object.keys(PUBLISHED).length, "a new key belongs in PUBLISHED too");
  for (const [key, { name }] of lines) assert.equal(PUBLISHED[key], name);
});

test("every log text has both languages with the same placeholders", () => {
  for (const [key, { args, zh, en }] of lines) {
    assert.match(zh, /[\u4e00-\u9fff]/, `${key} in Chinese`);
    assert.doesNotMatch(en, /[\u4e00-\u9fff]/, `${key} in English`);
    assert.deepEqual(placeholders(zh), placeholders(en), `${key}`);
    const known = new Set<string>([...args, "stream", "peer"]);
    for (const name of placeholders(zh)) assert.ok(known.has(name), `${key}: {${name}}`);
    for (const name of args) assert.ok(placeholders(zh).includes(name), `${key} shows ${name}`);
    if (key >= 23000) {
      // Those of the TypeScript side come with named values only.
      assert.deepEqual(placeholders(zh), [...args].sort(), `${key}`);
    }
  }
});

test("texts about a limit name the configuration key that sets it", () => {
  for (const key of [21065, 21066]) {
    assert.match(logTextOf(key)!.zh, /ReceiveMemoryMBytes/);
    assert.match(logTextOf(key)!.en, /ReceiveMemoryMBytes/);
  }
  assert.match(logTextOf(22003)!.en, /SocketBufferSizeKBytes.*net\.core\.rmem_max/);
  assert.match(logTextOf(22003)!.zh, /SocketBufferSizeKBytes.*net\.core\.rmem_max/);
  assert.match(logTextOf(23002)!.en, /return 0 or nothing to accept a message/);
});

test("the native side's log keys are those of the table", () => {
  const native = zigEnum(zigSource("abi.zig"), "LogKey");
  const named = Object.fromEntries(
    Object.entries(native).map(([name, key]) => [key, name.toLowerCase()]),
  );
  const table = Object.fromEntries(
    lines.filter(([key]) => key < 23000).map(([key, { name }]) => [key, name]),
  );
  assert.deepEqual(table, named);
});

test("the TypeScript side's log keys are those of the table", () => {
  const named = Object.entries(LogKey).map(([name, key]) => [key, name.toLowerCase()]);
  const table = lines.filter(([key]) => key >= 23000).map(([key, { name }]) => [key, name]);
  assert.deepEqual(table, named);
});

test("fillText() puts values in, tells errno by name and keeps holes", () => {
  assert.equal(fillText("{a}->{b} {a}", { a: 1, b: "x" }), "1->x 1");
  assert.equal(fillText("{a} {b}", { a: "{b}" }), "{b} {b}");
  assert.equal(fillText("failed: {errno}", { errno: 1 }), "failed: EPERM (1)");
});

test("errorName() gives the usual name, or the number", () => {
  assert.equal(errorName(11), "EAGAIN (11)");
  assert.equal(errorName(9999), "9999");
});
