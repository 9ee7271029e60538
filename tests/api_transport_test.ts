/** Channels, sizes and ownership, with real sockets in one process. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import dgram from "node:dgram";
import process from "node:process";
import test from "node:test";
import { RcmStatus, type RcmTransmitter } from "../mod.ts";
import { collect, type Got, rejectsCode, throwsCode, until, withBus } from "./api_bus.ts";

/** Sends, waiting for room where there is none. */
async function sendAll(tx: RcmTransmitter, messages: readonly Uint8Array[]): Promise<void> {
  for (const message of messages) {
    for (;;) {
      const status = tx.sendData(message);
      if (status === RcmStatus.OK) break;
      assert.equal(status, RcmStatus.WOULD_BLOCK);
      assert.equal(await tx.ready(20_000), true);
    }
  }
}

/** Bytes that differ from place to place and from message to message. */
function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let x = seed * 2654435761 + 1;
  for (let i = 0; i < length; i += 1) {
    x = (x * 1664525 + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

for (const addr of ["127.0.0.1", "127.0.0.2,127.0.0.1"]) {
  test(`unicast to ${addr}`, () =>
    withBus({
      nodes: addr.includes(",") ? ["tx1", "rx1", "rx2"] : ["tx1", "rx1"],
      addr,
      contexts: { rx2: { Ip: "127.0.0.2" } },
    }, async (_bus, factory) => {
      const names = addr.includes(",") ? ["rx1", "rx2"] : ["rx1"];
      const got: Got[][] = names.map(() => []);
      for (const [index, name] of names.entries()) {
        const rx = factory.newRcmContext(name);
        rx.createReceiver(collect(got[index]!));
        await rx.start();
      }
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      await sender.start();
      assert.equal(await tx.connected(names.length, 10_000), true);
      for (let i = 0; i < 500; i += 1) assert.equal(tx.sendData(`${i}`), RcmStatus.OK);
      assert.equal(await tx.flush(10_000), true);
      for (const list of got) {
        await until(() => list.length >= 500, "all messages");
        assert.deepEqual(list.map(({ text }) => Number(text)), [...Array(500).keys()]);
      }
    }));
}

test("every size around a datagram's and two and three fragments' limits arrives byte-equal", () =>
  withBus({}, async (_bus, factory) => {
    const received: Uint8Array[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({ onMessage: (data) => void received.push(data.slice()) });
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    assert.equal(await tx.connected(1, 10_000), true);
    const [[stats]] = JSON.parse(factory.getStatistics('{"Context":"tx1"}')).ctxs[0].txs;
    const { RegularLength, MaxUdpSize } = stats as { RegularLength: number; MaxUdpSize: number };
    assert.ok(RegularLength > 1000 && MaxUdpSize <= 1472);
    const sizes = [0, 1, 65_536];
    for (let parts = 1; parts <= 3; parts += 1) {
      const last = parts * MaxUdpSize + 8;
      for (let size = parts * RegularLength - 8; size <= last; size += 1) sizes.push(size);
    }
    const sent = sizes.map((size, index) => pattern(size, index));
    await sendAll(tx, sent);
    await until(() => received.length >= sent.length, "all messages");
    sent.forEach((bytes, index) =>
      assert.deepEqual(received[index], bytes, `message ${index} of ${bytes.length} bytes`)
    );
  }));

test("a message of 16 MiB, while a small stream keeps flowing", () =>
  withBus({
    nodes: ["tx1", "tx2", "rx1"],
    all: { MaxMemoryAllowedMBytes: 40, ReceiveMemoryMBytes: 64 },
  }, async (_bus, factory) => {
    const big = pattern(2 ** 24, 7);
    let bigAt = -1;
    let small = 0;
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({
      onMessage(data, _sqn, _txArg, info) {
        if (info.getTxContextName() === "tx2") small += 1;
        else {
          assert.deepEqual(data, big);
          bigAt = small;
        }
      },
    });
    await rx.start();
    const [a, b] = await Promise.all(["tx1", "tx2"].map(async (name) => {
      const sender = factory.newRcmContext(name);
      const tx = sender.createTransmitter("t");
      await sender.start();
      assert.equal(await tx.connected(1, 10_000), true);
      return tx;
    }));
    assert.equal(a!.sendData(big), RcmStatus.OK);
    for (let i = 0; i < 1000; i += 1) assert.equal(b!.sendData("small"), RcmStatus.OK);
    assert.equal(await a!.flush(20_000), true);
    await until(() => bigAt >= 0 && small === 1000, "both streams");
  }));

test("GroupKey: only those who have it understand each other", () =>
  withBus({
    nodes: ["tx1", "tx2", "rx1"],
    contexts: {
      tx1: { GroupKey: "a5".repeat(32) },
      rx1: { GroupKey: "a5".repeat(32) },
    },
  }, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    const stranger = factory.newRcmContext("tx2");
    const foreign = stranger.createTransmitter("t");
    await stranger.start();
    assert.equal(foreign.sendData("forged"), RcmStatus.OK);
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    assert.equal(await tx.connected(1, 10_000), true);
    for (let i = 0; i < 100; i += 1) assert.equal(tx.sendData(`${i}`), RcmStatus.OK);
    await until(() => got.length >= 100, "all messages");
    assert.deepEqual(got.map(({ from }) => from), Array(100).fill("tx1"));
    assert.equal(await foreign.connected(1, 0), false);
  }));

test("rule 3: a fixed RepairPort that is taken fails createTransmitter", async () => {
  const other = dgram.createSocket("udp4");
  await new Promise<void>((resolve) => other.bind(0, "127.0.0.1", resolve));
  const { port } = other.address();
  try {
    await withBus({ contexts: { tx1: { RepairPort: port } } }, async (_bus, factory) => {
      const sender = factory.newRcmContext("tx1");
      const error = throwsCode(() => sender.createTransmitter("t"), "SOCKET");
      assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port}`));
      await new Promise<void>((resolve) => other.close(() => resolve()));
      const tx = sender.createTransmitter("t");
      await sender.start();
      assert.equal(tx.sendData("x"), RcmStatus.OK);
    });
  } finally {
    try {
      other.close();
    } catch {
      // closed by the test already
    }
  }
});

test("a unicast port that is taken fails start and releases everything", () =>
  withBus({ addr: "127.0.0.1" }, async (bus, factory) => {
    const { Port } = bus.config.Rcm!.Transports![0]!;
    const other = dgram.createSocket("udp4");
    await new Promise<void>((resolve) => other.bind(Port!, "127.0.0.1", resolve));
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({ onMessage() {} });
    const error = await rejectsCode(rx.start(), "SOCKET");
    assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${Port}`));
    await new Promise<void>((resolve) => other.close(() => resolve()));
    await rx.start();
  }));

test("rule 2: a context that another process has open is SHM with its pid", () =>
  withBus({}, async (bus, factory) => {
    const mod = new URL("../mod.ts", import.meta.url).href;
    const program = `
      import { newRcmFactory } from ${JSON.stringify(mod)};
      const factory = newRcmFactory(${JSON.stringify(bus.config)}, ${JSON.stringify(bus.workDir)});
      factory.setFilePrefix(${JSON.stringify(bus.prefix)});
      const context = factory.newRcmContext("tx1");
      context.createTransmitter("t");
      await context.start();
      console.log("open");
    `;
    const isDeno = process.versions["deno"] !== undefined;
    const args = isDeno ? ["eval", "--ext=ts", program] : ["-e", program];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    try {
      let printed = "";
      child.stdout.on("data", (data) => printed += String(data));
      await until(() => printed.includes("open"), "the other process");
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      const error = await rejectsCode(sender.start(), "SHM");
      assert.match(error.message, new RegExp(`\\b${child.pid}\\b`));
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
      await sender.start();
      assert.equal(tx.sendData("x"), RcmStatus.OK);
    } finally {
      child.kill("SIGKILL");
    }
  }));
