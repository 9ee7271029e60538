/** Life cycle and sending, by the rules of the public API, with real sockets in one process. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";
import test from "node:test";
import { deleteRcmFactory, getRcmVersion, newRcmFactory, RcmLogLevel, RcmStatus } from "../mod.ts";
import { collect, type Got, rejectsCode, throwsCode, until, withBus } from "./api_bus.ts";

const texts = (got: readonly Got[]) => got.map(({ text }) => text);

test("getRcmVersion tells the version of the native library", () => {
  assert.match(getRcmVersion(), /^rcm version V\d+\.\d+\.\d+\.\d+/);
});

test("rule 1: a factory makes its log folder and nothing else", () =>
  withBus({}, async (bus) => {
    assert.ok(existsSync(`${bus.workDir}/log`));
    assert.deepEqual(bus.files(), []);
    const unset = newRcmFactory(null, bus.workDir);
    throwsCode(() => unset.newRcmContext("x"), "STATE");
    throwsCode(() => unset.getConfig(), "STATE");
    throwsCode(() => unset.setArbArg("127.0.0.1:2181", "rcm"), "ARGUMENT");
    throwsCode(() => unset.setArbArg("not a server", "/rcm"), "ARGUMENT");
    throwsCode(() => unset.newRcmContext("x"), "STATE");
    await deleteRcmFactory(unset);
    const lang = "de_DE" as unknown as "en_US";
    throwsCode(() => newRcmFactory(bus.config, bus.workDir, lang), "ARGUMENT");
  }));

test("rule 2: names of contexts", () =>
  withBus({ nodes: ["rx1", "rx2"] }, async (bus, factory) => {
    const unknown = throwsCode(() => factory.newRcmContext("rx"), "ARGUMENT");
    assert.match(unknown.message, /rx1|rx2/, "the nearest name");
    const first = factory.newRcmContext("rx1");
    throwsCode(() => factory.newRcmContext("rx1"), "STATE");
    throwsCode(() => bus.factory().newRcmContext("rx1"), "STATE");
    throwsCode(() => factory.setFilePrefix("late_"), "STATE");
    throwsCode(() => factory.setArbArg("a", "b"), "STATE");
    factory.setLogArg(RcmLogLevel.WARN);
    factory.setEventCallback(null);
    await factory.deleteRcmContext(first);
    await factory.deleteRcmContext(first);
    const again = factory.newRcmContext("rx1");
    await rejectsCode(bus.factory().deleteRcmContext(again), "ARGUMENT");
  }));

test("rule 9: a deleted factory throws STATE, its dead objects answer", () =>
  withBus({ nodes: ["both", "tx1"] }, async (_bus, factory) => {
    const context = factory.newRcmContext("both");
    const tx = context.createTransmitter("t");
    const receiver = context.createReceiver({ onMessage() {} });
    await context.start();
    await deleteRcmFactory(factory);
    await deleteRcmFactory(factory);
    throwsCode(() => factory.newRcmContext("tx1"), "STATE");
    throwsCode(() => factory.getStatistics(), "STATE");
    throwsCode(() => factory.getConfig(), "STATE");
    throwsCode(() => factory.setLogArg(RcmLogLevel.INFO), "STATE");
    throwsCode(() => context.createTransmitter("t"), "STATE");
    await rejectsCode(context.start(), "STATE");
    assert.equal(tx.sendData("x"), RcmStatus.STOPPED);
    assert.equal(tx.getAllocator(0).malloc(1), null);
    assert.equal(receiver.sendAck(0), RcmStatus.STOPPED);
    assert.equal(context.poll(), 0);
    assert.equal(await tx.flush(), false);
    assert.equal(await tx.connected(), false);
    tx.setSendFlag(true);
    await context.stop();
  }));

test("rule 11: answers of a running transmitter", () =>
  withBus({ partitions: 2, all: { MaxMemoryAllowedMBytes: 1 } }, async (_bus, factory) => {
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t", [2]);
    assert.equal(tx.sendData("x", 2), RcmStatus.NOT_STARTED);
    await sender.start();
    assert.equal(tx.sendData("x"), RcmStatus.BAD_PARTITION, "1 is not this transmitter's");
    assert.equal(tx.sendData(new Uint8Array(2 ** 21), 1), RcmStatus.BAD_PARTITION);
    assert.equal(tx.sendData(new Uint8Array(2 ** 21), 2), RcmStatus.TOO_LARGE);
    assert.equal(tx.sendData("x", 2, 70_000), RcmStatus.BAD_ARGUMENT);
    assert.equal(tx.send(tx.getAllocator(0), 1, 2), RcmStatus.BAD_ARGUMENT);
    assert.equal(tx.sendData("x", 2), RcmStatus.OK);
    assert.equal(tx.sendData("x", 0), RcmStatus.OK);
    await sender.stop();
    assert.equal(tx.sendData("x", 2), RcmStatus.STOPPED);
  }));

test("rules 12, 13: without receivers messages are kept until the arena is full", () =>
  withBus({ all: { MaxMemoryAllowedMBytes: 1 } }, async (_bus, factory) => {
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    assert.equal(await tx.ready(0), true, "nothing refused, any room");
    const message = new Uint8Array(10_000);
    let sent = 0;
    for (; sent < 1000; sent += 1) {
      message[0] = sent;
      if (tx.sendData(message) !== RcmStatus.OK) break;
    }
    assert.ok(sent > 50 && sent < 110, `${sent} messages of 10,000 bytes in 1 MiB`);
    assert.equal(tx.sendData(message), RcmStatus.WOULD_BLOCK);
    assert.equal(await tx.ready(50), false);
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    const ready = tx.ready(10_000);
    await rx.start();
    assert.equal(await ready, true);
    assert.equal(await tx.flush(10_000), true);
    await until(() => got.length >= sent, "everything kept");
    assert.deepEqual(got.map(({ txMsgNo }) => txMsgNo), Array.from({ length: sent }, (_, i) => i));
  }));

test("rule 14: strings, empty messages, memory of the arena", () =>
  withBus({}, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    await tx.connected(1, 10_000);
    const reused = new TextEncoder().encode("first");
    assert.equal(tx.sendData(reused), RcmStatus.OK);
    reused.fill(0);
    assert.equal(tx.sendData(""), RcmStatus.OK);
    assert.equal(tx.sendData("grüße 组播"), RcmStatus.OK);
    const allocator = tx.getAllocator(63);
    allocator.malloc(5)!.set(new TextEncoder().encode("gone!"));
    allocator.malloc(100)!.set(new TextEncoder().encode("arena"));
    assert.equal(tx.send(allocator, 5, 1, 77), RcmStatus.OK);
    assert.equal(tx.send(allocator, 5), RcmStatus.BAD_ARGUMENT, "sent already");
    allocator.malloc(4)!.set(new TextEncoder().encode("grow"));
    allocator.realloc(100_000)!.set(new TextEncoder().encode("n"), 4);
    assert.equal(tx.send(allocator, 5), RcmStatus.OK);
    assert.ok(allocator.malloc(0));
    assert.equal(tx.send(allocator, 0), RcmStatus.OK);
    await until(() => got.length >= 6, "all messages");
    assert.deepEqual(texts(got), ["first", "", "grüße 组播", "arena", "grown", ""]);
    assert.equal(got[3]!.msgArg, 77);
  }));

test("rule 15: partition 0 is round robin in ascending order", () =>
  withBus({ partitions: 3 }, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t", [3, 1]);
    await sender.start();
    assert.equal(await tx.connected(1, 10_000), true);
    for (let i = 0; i < 6; i += 1) assert.equal(tx.sendData(`${i}`, 0), RcmStatus.OK);
    await until(() => got.length >= 6, "all messages");
    const of = (partitionNo: number) => texts(got.filter((g) => g.partitionNo === partitionNo));
    assert.deepEqual([of(1), of(2), of(3)], [["0", "2", "4"], [], ["1", "3", "5"]]);
  }));

test("rule 16: setSendFlag(false) keeps messages, true lets them be repaired", () =>
  withBus({}, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    await tx.connected(1, 10_000);
    tx.sendData("a");
    await tx.flush(10_000);
    tx.setSendFlag(false);
    tx.sendData("b");
    tx.sendData("c");
    const [[partition]] = JSON.parse(factory.getStatistics('{"Context":"tx1"}')).ctxs[0].txs;
    assert.equal(partition.CurrentMsgNo, 3, "numbers are taken");
    assert.equal(partition.SendFlag, false);
    assert.deepEqual(texts(got), ["a"]);
    tx.setSendFlag(true);
    tx.sendData("d");
    assert.equal(await tx.flush(10_000), true);
    await until(() => got.length >= 4, "all messages");
    assert.deepEqual(texts(got), ["a", "b", "c", "d"]);
  }));

test("rules 6, 13: a sender that is run again goes on with its numbers", () =>
  withBus({}, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    for (let run = 0; run < 3; run += 1) {
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      await sender.start();
      for (let i = 0; i < 10; i += 1) assert.equal(tx.sendData(`${run}.${i}`), RcmStatus.OK);
      assert.equal(await tx.flush(10_000), true);
      await sender.stop();
    }
    await until(() => got.length >= 30, "all messages");
    assert.deepEqual(got.map(({ txMsgNo }) => txMsgNo), Array.from({ length: 30 }, (_, i) => i));
  }));

test("rule 6: a wiped sender with IsHandshake 1 goes on where its receivers are", () =>
  withBus({
    contexts: { tx1: { IsHandshake: 1 } },
  }, async (bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    for (let run = 0; run < 2; run += 1) {
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      await sender.start();
      for (let i = 0; i < 10; i += 1) assert.equal(tx.sendData(`${run}.${i}`), RcmStatus.OK);
      assert.equal(await tx.flush(10_000), true);
      await factory.deleteRcmContext(sender);
      const left = bus.files().filter((name) => name !== "rx1_counters");
      for (const name of left) assert.ok(name.startsWith("tx1_"), name);
      bus.wipe();
    }
    await until(() => got.length >= 20, "all messages");
    assert.deepEqual(got.map(({ txMsgNo }) => txMsgNo), Array.from({ length: 20 }, (_, i) => i));
  }));

test("rule 6: a wiped sender with IsHandshake 0 is dropped up to where its receivers are", () =>
  withBus({}, async (bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    for (let run = 0; run < 2; run += 1) {
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      await sender.start();
      const count = run === 0 ? 10 : 15;
      for (let i = 0; i < count; i += 1) assert.equal(tx.sendData(`${run}.${i}`), RcmStatus.OK);
      assert.equal(await tx.flush(10_000), true);
      await sender.stop();
      bus.wipe();
    }
    await until(() => got.length >= 15, "all messages");
    const first = Array.from({ length: 10 }, (_, i) => `0.${i}`);
    assert.deepEqual(texts(got), [...first, "1.10", "1.11", "1.12", "1.13", "1.14"]);
    assert.ok(bus.lines.some(({ key }) => key === 21061), "the receiver tells");
    assert.ok(bus.lines.some(({ key }) => key === 20062), "the sender tells");
  }));

test("rule 8: stop sends what was accepted", () =>
  withBus({}, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    await tx.connected(1, 10_000);
    for (let i = 0; i < 1000; i += 1) assert.equal(tx.sendData(`${i}`), RcmStatus.OK);
    const stop = sender.stop();
    assert.equal(tx.sendData("late"), RcmStatus.STOPPED);
    await stop;
    await sender.stop();
    await until(() => got.length >= 1000, "all messages");
    assert.equal(texts(got)[999], "999");
  }));

test("rule 34: keys and calls of later versions are named, not ignored", () =>
  withBus(
    {
      nodes: ["rx1", "rx2"],
      contexts: {
        rx2: {
          IsSingleton: 0,
          TierName: "tier",
          SyncAddr: "239.250.0.1",
          SyncPort: 29_499,
          TierAsync: 1,
        },
      },
    },
    async (_bus, factory) => {
      const error = throwsCode(() => factory.newRcmContext("rx2"), "UNSUPPORTED");
      assert.match(error.message, /TierAsync/);
      const rx = factory.newRcmContext("rx1");
      const config = factory.getConfig().getRcmContextConfig("rx1")!;
      assert.equal(config.getTxTopicCount(), 0);
      assert.equal(config.getTxTopic(0), null);
      assert.deepEqual(config.getRxTopic(0), { name: "t", partitionNo: 1 });
      assert.equal(factory.getConfig().getRcmContextConfig("nobody"), null);
      await rx.stop();
    },
  ));

test("rule 35: the guide's four files, kept after stop", () =>
  withBus({}, async (bus, factory) => {
    const sender = factory.newRcmContext("tx1");
    sender.createTransmitter("t");
    await sender.start();
    await sender.stop();
    assert.deepEqual(bus.files().sort(), [
      "tx1_allocator",
      "tx1_t_1_sendingwindow",
      "tx1_t_1_sendingwindowblock_1",
      "tx1_t_1_sendingwindowblock_2",
    ]);
  }));

test("rule 10: a started context keeps the process alive until stop, then it ends", () => {
  const mod = new URL("../mod.ts", import.meta.url);
  const bus = new URL("./api_bus.ts", import.meta.url);
  const program = `
    import { makeBus } from ${JSON.stringify(bus.href)};
    import { getRcmVersion } from ${JSON.stringify(mod.href)};
    getRcmVersion();
    const bus = makeBus();
    const context = bus.factory().newRcmContext("rx1");
    context.createReceiver({ onMessage() {} });
    await context.start();
    const timer = setTimeout(() => bus.close().then(() => console.log("stopped")), 300);
    timer.unref?.();
  `;
  const isDeno = process.versions["deno"] !== undefined;
  const args = isDeno ? ["eval", "--ext=ts", program] : ["-e", program];
  const result = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 30_000 });
  assert.equal(result.status, 0, result.stderr);
  assert.match(result.stdout, /stopped/, "the context kept the process alive");
});
