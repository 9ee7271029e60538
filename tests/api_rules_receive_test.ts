/** Delivery and observation, by the rules of the public API, with real sockets in one process. */

import assert from "node:assert/strict";
import process from "node:process";
import test from "node:test";
import { RcmEventType, type RcmMessage, RcmRole, RcmStatus } from "../mod.ts";
import { collect, type Got, throwsCode, until, withBus } from "./api_bus.ts";

const texts = (got: readonly Got[]) => got.map(({ text }) => text);

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
