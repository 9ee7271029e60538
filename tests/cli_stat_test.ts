import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { constants, CountersPage } from "../src/native/abi.ts";
import { type Bus, collect, type Got, LIMIT_MS, until, withBus } from "./api_bus.ts";
import { rcm, rcmUntil } from "./cli_run.ts";

const MESSAGES = 500;

interface Shown {
  readonly ctxs: readonly {
    readonly [key: string]: unknown;
    readonly Context: string;
    readonly txs: readonly (readonly Record<string, unknown>[])[];
    readonly rx: { readonly Rms: readonly Record<string, unknown>[] };
    readonly Tier: { readonly Deliver: Record<string, unknown> };
    readonly Process: Record<string, unknown>;
    readonly Rates: Record<string, number> | null;
  }[];
  readonly faults: readonly { readonly path: string; readonly reason: string }[];
}

/** What moves while nothing is sent: heartbeats, acknowledgements, and the times of both. */
const MOVING = /Milli$|Count$|^(Bytes|Datagrams|AckSent|Highest|Process$|Rates$|RefusedCount$)/;

/** Without what moves by itself. */
function still(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, inner) => MOVING.test(key) ? undefined : inner));
}

async function statJson(bus: Bus, ...more: readonly string[]): Promise<Shown> {
  const { out } = await rcm("stat", "--json", "--prefix", bus.prefix, "-i", "0", ...more);
  assert.equal(out.length, 1);
  return JSON.parse(out[0]!) as Shown;
}

/** Two contexts, between which messages have gone. */
async function withTraffic(
  options: Parameters<typeof withBus>[0],
  run: (bus: Bus, statistics: () => Shown["ctxs"], send: (count: number) => void) => Promise<void>,
): Promise<void> {
  await withBus(options, async (bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    const tx = factory.newRcmContext("tx1");
    const transmitter = tx.createTransmitter("t");
    await tx.start();
    await transmitter.connected(1, LIMIT_MS);
    let sent = 0;
    const send = (count: number) => {
      for (let i = 0; i < count; i += 1) assert.equal(transmitter.sendData(`m${sent++}`), 0);
    };
    send(MESSAGES);
    await until(() => got.length === MESSAGES, "all messages");
    assert.equal(await transmitter.flush(LIMIT_MS), true);
    await run(bus, () => (JSON.parse(factory.getStatistics()) as Shown).ctxs, send);
  });
}

test("rcm stat --json tells what getStatistics tells, from another side", async () => {
  await withTraffic({}, async (bus, statistics) => {
    let shown = await statJson(bus);
    const deadline = performance.now() + LIMIT_MS;
    // The file is at most some tenths of a second behind.
    for (;;) {
      const wanted = new Map(statistics().map((one) => [one.Context, still(one)]));
      const is = shown.ctxs.every((one) => sameText(still(one), wanted.get(one.Context)));
      if (is || performance.now() > deadline) {
        for (const one of shown.ctxs) assert.deepEqual(still(one), wanted.get(one.Context));
        break;
      }
      shown = await statJson(bus);
    }
    assert.deepEqual(shown.ctxs.map((one) => one.Context), ["rx1", "tx1"]);
    const [rx, tx] = shown.ctxs;
    assert.equal(rx?.rx.Rms[0]?.["NextMsgNo"], MESSAGES);
    assert.equal(rx?.Tier.Deliver["NextMsgSqnDeliver"], MESSAGES);
    assert.equal(tx?.txs[0]?.[0]?.["CurrentMsgNo"], MESSAGES);
    assert.equal(tx?.Process["Pid"], process.pid);
    assert.equal(tx?.Process["FilePrefix"], bus.prefix);
    assert.ok(Math.abs(Number(tx?.Process["StartedMilli"]) - Date.now()) < 2 * LIMIT_MS);
    assert.equal(tx?.Rates, null, "one look has no rates");
    assert.deepEqual(shown.faults, []);
  });
});

test("rcm stat --watch goes on until it is stopped, and tells rates", async () => {
  await withTraffic({}, async (bus, _statistics, send) => {
    const timer = setInterval(() => send(10), 1);
    try {
      const looks = ["--watch", "--json", "-i", "300", "-c", "tx1", "--prefix", bus.prefix];
      const counted = await rcm("stat", ...looks, "--count", "3");
      assert.equal(counted.exit, 0);
      const rates = counted.out.map((line) => (JSON.parse(line) as Shown).ctxs[0]?.Rates);
      assert.equal(rates.length, 3);
      assert.equal(rates[0], null);
      assert.ok(rates.slice(1).every((one) => one!["SentMsgs"]! > 0), JSON.stringify(rates));
      const stop = new AbortController();
      const endless = rcmUntil(stop.signal, "stat", ...looks);
      setTimeout(() => stop.abort(), 50);
      assert.ok((await endless).out.length >= 1);
    } finally {
      clearInterval(timer);
    }
  });
});

test("rcm stat shows people what runs, and says where nothing does", async () => {
  await withTraffic({}, async (bus) => {
    let text = "";
    const deadline = performance.now() + LIMIT_MS;
    while (!/processed 500/.test(text) || !/to rx1 +connected +500/.test(text)) {
      assert.ok(performance.now() < deadline, text);
      const shown = await rcm("stat", "-i", "1", "--prefix", bus.prefix);
      assert.equal(shown.exit, 0);
      text = shown.out.join("\n");
    }
    assert.match(text, /^rx1 \(2\) {2}Single {2}pid \d+ {2}(deno|bun) \S+ {2}up 00:00:\d\d$/m);
    assert.match(text, /^ {2}t\/1 +tx1 +started +500 +500 +500 +0/m);
    assert.match(text, /^ {4}to rx1 +connected +500 /m);
    assert.match(text, /order: next 500, processed 500 \(0 wait\)/);
    assert.match(text, /arena \d/);
    const none = await rcm("stat", "-i", "0", "--prefix", `${bus.prefix}no`);
    assert.deepEqual([none.exit, none.out], [1, ["no context runs"]]);
    const other = await rcm("stat", "-i", "0", "-c", "nobody");
    assert.deepEqual([other.exit, other.out], [1, ["no context runs"]]);
  });
});

test("files are private, and go with their context; dead ones are swept", async () => {
  await withBus({}, async (bus, factory) => {
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({ onMessage() {} });
    const path = `/dev/shm/${bus.prefix}rx1_counters`;
    await rx.start();
    const file = openSync(path, "r");
    const { mode, size } = fstatSync(file);
    assert.equal(mode & 0o777, 0o600);
    const bytes = new Uint8Array(size);
    assert.equal(readSync(file, bytes, 0, size, 0), size);
    closeSync(file);
    // Copies: nobody owns them, as after a kill; one without a header may be anybody's.
    const dead = `/dev/shm/${bus.prefix}dead_counters`;
    const strange = `/dev/shm/${bus.prefix}strange_counters`;
    writeFileSync(dead, bytes, { mode: 0o600 });
    writeFileSync(strange, "something else", { mode: 0o600 });
    assert.deepEqual((await statJson(bus)).ctxs.map((one) => one.Context), ["rx1"]);
    const tx = factory.newRcmContext("tx1");
    tx.createTransmitter("t");
    await tx.start();
    assert.equal(existsSync(dead), false);
    assert.equal(existsSync(strange), true);
    rmSync(strange);
    await tx.stop();
    await rx.stop();
    assert.ok(!bus.files().some((name) => name.endsWith("_counters")));
  });
});

test("a context in a folder of its prefix is found; another version's file is told", async () => {
  await withBus({}, async (bus, factory) => {
    const folder = `${bus.prefix}folder`;
    factory.setFilePrefix(`${folder}/p_`);
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({ onMessage() {} });
    await rx.start();
    assert.deepEqual(readdirSync(`/dev/shm/${folder}`), ["p_rx1_counters"]);
    const seen = await rcm("stat", "--json", "-i", "0", "--directory", `/dev/shm/${folder}`);
    assert.equal(seen.exit, 0);
    assert.deepEqual((JSON.parse(seen.out[0]!) as Shown).ctxs.map((one) => one.Context), ["rx1"]);

    const file = openSync(`/dev/shm/${folder}/p_rx1_counters`, "r+");
    const at = constants.countersPageOffset + CountersPage.fields.abiHash.offset;
    writeSync(file, new Uint8Array([1, 2, 3, 4]), 0, 4, at);
    closeSync(file);
    const wrong = await rcm("stat", "-i", "0", "--directory", `/dev/shm/${folder}`);
    assert.equal(wrong.exit, 1);
    assert.match(wrong.out[0]!, /p_rx1_counters: it is of another version .*4030201/);
    await rx.stop();
    rmSync(`/dev/shm/${folder}`, { recursive: true });
  });
});

function sameText(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
