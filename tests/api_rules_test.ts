/** The rules of the public API, by their numbers, with real sockets in one process. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";
import test from "node:test";
import {
  deleteRcmFactory,
  getRcmVersion,
  newRcmFactory,
  RcmEventType,
  RcmLogLevel,
  type RcmMessage,
  RcmRole,
  RcmStatus,
} from "../mod.ts";
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
    throwsCode(() => unset.setArbArg("127.0.0.1:2181", "/rcm"), "UNSUPPORTED");
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

test("rules 18, 19: messages arrive once, in order, with their info", () =>
  withBus({}, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got), "user");
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t", null, 4242);
    await sender.start();
    assert.equal(await tx.connected(1, 10_000), true);
    const before = Date.now();
    for (let i = 0; i < 5000; i += 1) {
      while (tx.sendData(`m${i}`, 1, i & 0xffff) === RcmStatus.WOULD_BLOCK) await tx.ready();
    }
    assert.equal(await tx.flush(10_000), true);
    await until(() => got.length >= 5000, "all messages");
    assert.deepEqual(texts(got), Array.from({ length: 5000 }, (_, i) => `m${i}`));
    const last = got[4999]!;
    assert.deepEqual({ ...last, timeMs: 0 }, {
      text: "m4999",
      sqn: 4999,
      txArg: 4242,
      topic: "t",
      partitionNo: 1,
      from: "tx1",
      txMsgNo: 4999,
      timeMs: 0,
      threadNo: 0,
      msgArg: 4999,
      user: "user",
    });
    assert.ok(last.timeMs >= before - 1 && last.timeMs <= Date.now() + 1, `${last.timeMs}`);
  }));

test("rule 18: two senders make one contiguous sequence, each with its own numbers", () =>
  withBus({ nodes: ["tx1", "tx2", "rx1"] }, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    for (const name of ["tx1", "tx2"]) {
      const sender = factory.newRcmContext(name);
      const tx = sender.createTransmitter("t");
      await sender.start();
      await tx.connected(1, 10_000);
      for (let i = 0; i < 100; i += 1) assert.equal(tx.sendData(`${name} ${i}`), RcmStatus.OK);
    }
    await until(() => got.length >= 200, "all messages");
    assert.deepEqual(got.map(({ sqn }) => sqn), Array.from({ length: 200 }, (_, i) => i));
    for (const name of ["tx1", "tx2"]) {
      const numbers = got.filter(({ from }) => from === name).map(({ txMsgNo }) => txMsgNo);
      assert.deepEqual(numbers, Array.from({ length: 100 }, (_, i) => i));
    }
  }));

test("two receivers of a group each get everything", () =>
  withBus({ nodes: ["tx1", "rx1", "rx2"] }, async (_bus, factory) => {
    const got: Got[][] = [[], []];
    for (const [index, name] of ["rx1", "rx2"].entries()) {
      const rx = factory.newRcmContext(name);
      rx.createReceiver(collect(got[index]!));
      await rx.start();
    }
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    assert.equal(await tx.connected(2, 10_000), true);
    for (let i = 0; i < 1000; i += 1) assert.equal(tx.sendData(`${i}`), RcmStatus.OK);
    assert.equal(await tx.flush(10_000), true);
    const expected = Array.from({ length: 1000 }, (_, i) => `${i}`);
    for (const list of got) {
      await until(() => list.length >= 1000, "all messages");
      assert.deepEqual(texts(list), expected);
    }
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

test("rule 24: poll, with native threads and inline", async () => {
  for (const Threading of ["shared", "dedicated", "inline"]) {
    await withBus({ all: { Threading } }, async (_bus, factory) => {
      const got: Got[] = [];
      const rx = factory.newRcmContext("rx1");
      rx.createReceiver(collect(got), null, { delivery: "poll" });
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      await Promise.all([rx.start(), sender.start()]);
      const connected = tx.connected(1, 10_000);
      let over = false;
      const done = connected.finally(() => over = true);
      while (!over) {
        rx.poll();
        sender.poll();
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal(await done, true, Threading);
      for (let i = 0; i < 100; i += 1) assert.equal(tx.sendData(`${i}`), RcmStatus.OK);
      let polled = 0;
      const deadline = performance.now() + 10_000;
      while (polled < 100 && performance.now() < deadline) {
        polled += rx.poll();
        sender.poll();
      }
      assert.equal(polled, 100, Threading);
      assert.deepEqual(texts(got), Array.from({ length: 100 }, (_, i) => `${i}`));
    });
  }
});

test("rules 17, 24: inline contexts are driven by their waits", () =>
  withBus({ nodes: ["both"], all: { Threading: "inline" } }, async (_bus, factory) => {
    const both = factory.newRcmContext("both");
    const got: Got[] = [];
    const tx = both.createTransmitter("t");
    both.createReceiver(collect(got), null, { delivery: "poll" });
    await both.start();
    assert.equal(await tx.connected(1, 10_000), true);
    tx.sendData("x");
    assert.equal(await tx.flush(10_000), true);
    await until(() => both.poll() > 0 || got.length === 1, "the message");
    assert.deepEqual(texts(got), ["x"]);
  }));

test("rule 26: iterators, and back pressure by await", () =>
  withBus({}, async (_bus, factory) => {
    const rx = factory.newRcmContext("rx1");
    const receiver = rx.createReceiver(null, null, { delivery: "iterate" });
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    await tx.connected(1, 10_000);
    for (let i = 0; i < 300; i += 1) tx.sendData(`${i}`);
    const kept: RcmMessage[] = [];
    for await (const message of receiver) {
      kept.push(message);
      if (kept.length === 300) break;
    }
    const decoder = new TextDecoder();
    assert.deepEqual(
      kept.map(({ data }) => decoder.decode(data)),
      Array.from({ length: 300 }, (_, i) => `${i}`),
    );
    const waiting = receiver.messages().next();
    await rx.stop();
    assert.equal((await waiting).done, true);
  }));

test("rule 20: a refused message is redelivered, nothing is skipped", () =>
  withBus({}, async (bus, factory) => {
    const got: string[] = [];
    let refusals = 0;
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({
      onMessage(data) {
        const text = new TextDecoder().decode(data);
        if (text === "1" && refusals < 5) {
          refusals += 1;
          return -1;
        }
        got.push(text);
        return undefined;
      },
    });
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    await tx.connected(1, 10_000);
    for (let i = 0; i < 3; i += 1) tx.sendData(`${i}`);
    await until(() => got.length >= 3, "all messages");
    assert.deepEqual(got, ["0", "1", "2"]);
    assert.equal(bus.lines.filter(({ key }) => key === 23002).length, 1);
    const statistics = JSON.parse(factory.getStatistics('{"Context":"rx1"}'));
    assert.equal(statistics.ctxs[0].RefusedCount, 5);
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
      for (const name of bus.files()) assert.ok(name.startsWith("tx1_"), name);
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

test("rules 8, 23: sends, statistics and stop inside a handler", () =>
  withBus({ nodes: ["both"] }, async (_bus, factory) => {
    const both = factory.newRcmContext("both");
    const seen: string[] = [];
    const tx = both.createTransmitter("t");
    both.createReceiver({
      async onMessage(data) {
        const text = new TextDecoder().decode(data);
        seen.push(text);
        if (text === "ask") {
          assert.equal(tx.sendData("answer"), RcmStatus.OK);
          JSON.parse(factory.getStatistics());
          return;
        }
        await both.stop();
        seen.push("stopped");
      },
    });
    await both.start();
    await tx.connected(1, 10_000);
    tx.sendData("ask");
    await until(() => seen.includes("stopped"), "stop inside the handler");
    assert.deepEqual(seen, ["ask", "answer", "stopped"]);
  }));

test("rule 30: roles of a single node", () =>
  withBus({}, async (_bus, factory) => {
    const roles: number[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({ onMessage() {}, onRoleChanged: (role) => void roles.push(role) });
    assert.equal(rx.getRole(), RcmRole.INIT);
    await rx.start();
    assert.equal(rx.getRole(), RcmRole.SINGLE);
    assert.deepEqual(roles, [RcmRole.SINGLE]);
    assert.equal(rx.getTierName(), "rx1");
  }));

test("rules 31, 32: events of coming and going", () =>
  withBus({}, async (bus, factory) => {
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({ onMessage() {} });
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    assert.equal(await tx.connected(1, 10_000), true);
    const types = () => bus.events.map((event) => event.getEventType());
    await until(() => types().includes(RcmEventType.NEW_TRANSMITTER), "NEW_TRANSMITTER");
    await until(() => types().includes(RcmEventType.NEW_RECEIVER), "NEW_RECEIVER");
    const came = bus.events.find((e) => e.getEventType() === RcmEventType.NEW_TRANSMITTER)!;
    assert.deepEqual(
      [came.getRcmContext(), came.getPeerName(), came.getTopicName(), came.getPartitionNo()],
      ["rx1", "tx1", "t", 1],
    );
    assert.deepEqual([came.getLossMsgNoStart(), came.getLossMsgNoEnd()], [0, 0]);
    const receiver = bus.events.find((e) => e.getEventType() === RcmEventType.NEW_RECEIVER)!;
    assert.deepEqual([receiver.getRcmContext(), receiver.getPeerName()], ["tx1", "rx1"]);
    await sender.stop();
    await until(() => types().includes(RcmEventType.NO_TRANSMITTER), "NO_TRANSMITTER");
    const again = factory.newRcmContext("tx1");
    const next = again.createTransmitter("t");
    await again.start();
    assert.equal(await next.connected(1, 10_000), true);
    await rx.stop();
    await until(() => types().includes(RcmEventType.NO_RECEIVER), "NO_RECEIVER");
  }));

test("rule 33: statistics tell what was done", () =>
  withBus({}, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    const sender = factory.newRcmContext("tx1");
    const tx = sender.createTransmitter("t");
    await sender.start();
    await tx.connected(1, 10_000);
    for (let i = 0; i < 25; i += 1) tx.sendData(`${i}`);
    assert.equal(await tx.flush(10_000), true);
    await until(() => got.length >= 25, "all messages");
    throwsCode(() => factory.getStatistics("no"), "ARGUMENT");
    const all = JSON.parse(factory.getStatistics("{}"));
    assert.deepEqual(all.ctxs.map((c: { Context: string }) => c.Context).sort(), ["rx1", "tx1"]);
    const one = JSON.parse(factory.getStatistics('{"Context":"tx1"}')).ctxs;
    assert.equal(one.length, 1);
    const partition = one[0].txs[0][0];
    assert.equal(partition.CurrentMsgNo, 25);
    assert.equal(partition.FirstMsgNo, 25);
    assert.equal(partition.ToSendMsgNo, 25);
    assert.equal(partition.SendFlag, true);
    assert.equal(partition.TopicName, "t");
    assert.equal(partition.Phase, "Started");
    const connected = partition.Ack.filter((a: { Status: string }) => a.Status === "CONNECTED");
    assert.equal(connected.length, 1);
    assert.equal(connected[0].MsgNo, 25);
    const receiver = JSON.parse(factory.getStatistics('{"Context":"rx1"}')).ctxs[0];
    assert.equal(receiver.rx.Rms[0].NextMsgNo, 25);
    assert.equal(receiver.Tier.Deliver.NextMsgSqn, 25);
    assert.equal(receiver.Tier.Deliver.NextMsgSqnDeliver, 25);
    assert.equal(receiver.Tier.Deliver.TierName, "rx1");
  }));

test("rule 34: keys and calls of later versions are named, not ignored", () =>
  withBus(
    { nodes: ["rx1", "rx2"], contexts: { rx2: { IsTotalOrder: 0 } } },
    async (_bus, factory) => {
      const error = throwsCode(() => factory.newRcmContext("rx2"), "UNSUPPORTED");
      assert.match(error.message, /IsTotalOrder/);
      const rx = factory.newRcmContext("rx1");
      throwsCode(() => rx.createReceiver({ onMessage() {} }, 0, { ack: "manual" }), "UNSUPPORTED");
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

test("losses, copies and delays put in by RCM_INJECT are repaired", () =>
  withBus({}, async (_bus, factory) => {
    process.env["RCM_INJECT"] = "drop=0.05,duplicate=0.02,seed=3";
    try {
      const got: Got[] = [];
      const rx = factory.newRcmContext("rx1");
      rx.createReceiver(collect(got));
      await rx.start();
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      await sender.start();
      assert.equal(await tx.connected(1, 10_000), true);
      for (let i = 0; i < 3000; i += 1) {
        while (tx.sendData(`${i}`.padEnd(100 + i % 3000)) === RcmStatus.WOULD_BLOCK) {
          await tx.ready();
        }
      }
      assert.equal(await tx.flush(20_000), true);
      await until(() => got.length >= 3000, "all messages");
      assert.deepEqual(
        got.map(({ text }) => Number(text)),
        Array.from({ length: 3000 }, (_, i) => i),
      );
    } finally {
      delete process.env["RCM_INJECT"];
    }
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
