/**
 * Sessions in shared memory: events, statistics, several senders, topics and receivers, one order
 * over memory and network, receivers that come late, and senders that are run twice.
 */

import assert from "node:assert/strict";
import type { RcmConfigInput } from "../../mod.ts";
import { type Bed, e2e, LIMIT_MS, type Node, refused, sleep, until } from "./harness/driver.ts";
import { txStats } from "./harness/stats.ts";
import { freeze, some } from "./fixtures/pair.ts";
import { oneRx, oneTx } from "./fixtures/statistics.ts";
import {
  ACK_TIMEOUT_MS,
  closeAll,
  connect,
  countOf,
  ENDLESS,
  flush,
  NOWHERE,
  sharedConfig,
  STREAM,
  TX,
  typesOf,
} from "./fixtures/shared.ts";

const sizes = { kind: "mixed", seed: 7 } as const;
const directions = [["deno", "bun"], ["bun", "deno"]] as const;

for (const [from, to] of directions) {
  e2e(`in place, ${from} to ${to}: statistics of both sides are true`, async (bed) => {
    const c = sharedConfig(bed);
    const rx = await bed.node(to, c);
    const tx = await bed.node(from, c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    await connect(tx, 1);
    const run = { seed: 51, sizes, count: 3000 } as const;
    await tx.call("send", { ...TX, ...run });
    await rx.received("rx", run.count);
    await flush(tx);
    const sender = await oneTx(tx, "tx");
    assert.deepEqual(
      some(sender, "FirstMsgNo", "CurrentMsgNo", "ToSendMsgNo", "RepairCount", "NakCount"),
      { FirstMsgNo: 3000, CurrentMsgNo: 3000, ToSendMsgNo: 3000, RepairCount: 0, NakCount: 0 },
    );
    const [ack] = sender.Ack;
    assert.deepEqual(some(ack!, "Context", "Status", "MsgNo", "IsMandatoryAcker", "Address"), {
      Context: "rx",
      Status: "CONNECTED",
      MsgNo: 3000,
      IsMandatoryAcker: true,
      Address: "",
    });
    const stream = await oneRx(rx, "rx");
    assert.deepEqual(
      some(stream, "Context", "NextMsgNo", "NextMsgNoDeliver", "MessageCount", "IsMandatoryAcker"),
      {
        Context: "tx",
        NextMsgNo: 3000,
        NextMsgNoDeliver: 3000,
        MessageCount: 3000,
        IsMandatoryAcker: true,
      },
    );
    assert.deepEqual(some(stream, "NakSent", "GapCount", "LostCount", "DuplicateCount"), {
      NakSent: 0,
      GapCount: 0,
      LostCount: 0,
      DuplicateCount: 0,
    });
    await closeAll(rx, tx);
  });

  e2e(`in place, ${from} to ${to}: acknowledged is what was processed`, async (bed) => {
    const c = sharedConfig(bed);
    const rx = await bed.node(to, c);
    const tx = await bed.node(from, c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    await connect(tx, 1);
    await rx.call("handler", { context: "rx", paused: true });
    await tx.call("send", { ...TX, seed: 52, sizes, count: 200 });
    await rx.received("rx", 1);
    await sleep(500);
    assert.equal((await txStats(tx, "tx")).FirstMsgNo, 0, "the first one is not processed");
    assert.equal(await tx.call("flush", { ...TX, timeoutMs: 200 }), false);
    await rx.call("handler", { context: "rx", paused: false });
    await flush(tx);
    assert.equal((await txStats(tx, "tx")).FirstMsgNo, 200);
    await closeAll(rx, tx);
  });
}

e2e("in place: events of both sides, in their order", async (bed) => {
  const c = sharedConfig(bed);
  const rx = await bed.node("deno", c);
  const tx = await bed.node("bun", c);
  await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
  await connect(tx, 1);
  const run = { seed: 53, sizes } as const;
  await tx.call("send", { ...TX, ...run, count: 100 });
  await rx.received("rx", 100);
  // A sender that hangs: heard again, it goes on.
  await freeze(tx);
  await rx.event({ type: "HEARTBEAT_TIMEOUT", peer: "tx" });
  tx.thaw();
  await rx.event({ type: "NEW_TRANSMITTER", peer: "tx" }, 2);
  await connect(tx, 1);
  await tx.call("send", { ...TX, ...run, count: 100, first: 100 });
  await rx.received("rx", 200);
  await rx.call("stop", { context: "rx" });
  await tx.event({ type: "NO_RECEIVER", peer: "rx" });
  await rx.receiver("rx");
  await connect(tx, 1);
  const events = rx.events.length;
  await tx.close();
  await rx.event({ type: "NO_TRANSMITTER", peer: "tx" }, events);
  assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
  await rx.close();
});

e2e(
  "in place: a killed sender is NO_TRANSMITTER, what it had published is delivered",
  async (bed) => {
    const c = sharedConfig(bed);
    const rx = await bed.node("bun", c);
    const tx = await bed.node("deno", c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    await connect(tx, 1);
    await rx.call("handler", { context: "rx", paused: true });
    const run = { seed: 54, sizes, count: 900 } as const;
    await tx.call("send", { ...TX, ...run });
    await tx.kill();
    await rx.call("handler", { context: "rx", paused: false });
    await rx.received("rx", run.count);
    await rx.check("rx", [{ ...STREAM, runs: [run] }]);
    await until(
      () => typesOf(rx).some((type) => type === "HEARTBEAT_TIMEOUT" || type === "NO_TRANSMITTER"),
      () => "its death is told",
    );
    assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
    await rx.close();
  },
);

e2e("in place: with the send flag off nothing is read, afterwards all of it is", async (bed) => {
  const c = sharedConfig(bed, { all: { MaxCacheMsgCount: 10_000 } });
  const rx = await bed.node("bun", c);
  const tx = await bed.node("deno", c);
  await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
  await connect(tx, 1);
  const run = { seed: 55, sizes } as const;
  await tx.call("send", { ...TX, ...run, count: 100 });
  await rx.received("rx", 100);
  await tx.call("flag", { ...TX, on: false });
  await tx.call("send", { ...TX, ...run, count: 50, first: 100 });
  await sleep(300);
  assert.equal((await rx.call("counts", { context: "rx" })).messages, 100);
  await tx.call("flag", { ...TX, on: true });
  await tx.call("send", { ...TX, ...run, count: 50, first: 150 });
  await rx.received("rx", 200);
  await rx.check("rx", [{ ...STREAM, runs: [{ ...run, count: 200 }] }]);
  assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
  await closeAll(rx, tx);
});

/** Three senders: two in memory with two partitions each, and one by network. */
function manyConfig(bed: Bed): RcmConfigInput {
  const Topics = ["a", "b"].map((Name) => ({ Name }));
  return bed.config({
    transports: [
      { Topic: "a", PartitionNo: 1, UseSharedMemory: 1, ...NOWHERE },
      { Topic: "a", PartitionNo: 2, UseSharedMemory: 1, ...NOWHERE },
      { Topic: "b", PartitionNo: 1, UseSharedMemory: 1, ...NOWHERE },
      { Topic: "net", PartitionNo: 1 },
    ],
    contexts: [
      { Name: "tx", TxTopics: Topics },
      { Name: "ty", TxTopics: Topics },
      { Name: "tz", TxTopics: [{ Name: "net" }] },
      ...["rx1", "rx2", "rx3"].map((Name) => ({
        Name,
        ShmContext: ["tx", "ty"],
        RxTopics: [...Topics, { Name: "net" }],
      })),
    ],
  });
}

e2e("three senders, two topics, partitions, memory and network: one order each", async (bed) => {
  const c = manyConfig(bed);
  const names = ["rx1", "rx2", "rx3"] as const;
  const receivers = [await bed.node("deno", c), await bed.node("bun", c), await bed.node("bun", c)];
  const deliveries = ["callback", "poll", "iterate"] as const;
  await Promise.all(
    receivers.map((rx, i) => rx.receiver(names[i]!, { delivery: deliveries[i]! })),
  );
  const senders = [await bed.node("bun", c), await bed.node("deno", c), await bed.node("deno", c)];
  const from = ["tx", "ty", "tz"] as const;
  const routes = [["a", 1], ["a", 2], ["b", 1]] as const;
  await Promise.all(
    senders.map((tx, i) => tx.sender(from[i]!, { topics: i < 2 ? ["a", "b"] : ["net"] })),
  );
  const streams = from.flatMap((context, i) =>
    (i < 2 ? routes : [["net", 1]] as const).map(([topic, partition], k) => ({
      node: senders[i]!,
      context,
      topic,
      partition,
      run: { seed: 100 + 10 * i + k, sizes, count: 3000 },
    }))
  );
  for (const { node, context, topic } of streams) {
    const wait = { context, topic, receivers: 3, timeoutMs: LIMIT_MS };
    assert.equal(await node.call("connected", wait), true, `${context} ${topic}`);
  }
  await Promise.all(streams.map(async ({ node, context, topic, partition, run }) => {
    const { sent } = await node.call("send", { context, topic, partition, ...run });
    assert.equal(sent, run.count);
  }));
  for (const [i, rx] of receivers.entries()) {
    await rx.received(names[i]!, streams.length * 3000);
    // The context's own count is contiguous over all streams: `check` holds it against 0, 1, 2.
    await rx.check(
      names[i]!,
      streams.map(({ context, topic, partition, run }) => ({
        from: context,
        topic,
        partition,
        runs: [run],
      })),
    );
    assert.equal(countOf(rx, "NEW_TRANSMITTER"), 7);
  }
  await closeAll(...receivers, ...senders);
});

e2e("in place: receivers that come one after the other, in traffic", async (bed) => {
  const names = Array.from({ length: 6 }, (_, i) => `rx${i}`);
  const c = sharedConfig(bed, {
    receivers: Object.fromEntries(names.map((name) => [name, {}])),
    transport: { AckTimeoutMilli: 30_000 },
    all: { MaxCacheMsgCount: 1_000_000 },
  });
  const tx = await bed.node("deno", c);
  await tx.sender("tx");
  const run = { seed: 56, sizes: { kind: "fixed", bytes: 64 } } as const;
  const sending = tx.call("send", { ...TX, ...run, count: ENDLESS, perSecond: 2000 });
  const receivers: Node[] = [];
  for (const [i, name] of names.entries()) {
    const rx = await bed.node(i % 2 === 0 ? "bun" : "deno", c);
    await rx.receiver(name);
    await connect(tx, i + 1);
    receivers.push(rx);
  }
  await tx.call("halt", TX);
  const { sent } = await sending;
  for (const [i, rx] of receivers.entries()) {
    // Within the first AckTimeoutMilli everybody begins at the connection's first.
    await rx.received(names[i]!, sent);
    await rx.check(names[i]!, [{ ...STREAM, runs: [{ ...run, count: sent }] }]);
  }
  await closeAll(tx, ...receivers);
});

for (const IsHandshake of [0, 1]) {
  e2e(`in place: a sender run again goes on, IsHandshake ${IsHandshake}`, async (bed) => {
    const c = sharedConfig(bed, { all: { IsHandshake, StartTimeoutSecs: 3 } });
    const rx = await bed.node("bun", c);
    await rx.receiver("rx");
    const run = { seed: 61, sizes } as const;
    let sent = 0;
    for (const runtime of ["deno", "bun", "deno"] as const) {
      const tx = await bed.node(runtime, c);
      await tx.sender("tx");
      assert.equal((await txStats(tx, "tx")).CurrentMsgNo, sent);
      await connect(tx, 1);
      await tx.call("send", { ...TX, ...run, first: sent, count: 500 });
      sent += 500;
      await tx.close();
    }
    await rx.received("rx", sent);
    await rx.check("rx", [{ ...STREAM, runs: [{ ...run, count: sent }] }]);
    assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
    await rx.close();
  });
}

e2e("in place: a wiped sender asks for its first number with IsHandshake 1", async (bed) => {
  const c = sharedConfig(bed, { all: { IsHandshake: 1, StartTimeoutSecs: 3 } });
  const rx = await bed.node("bun", c);
  await rx.receiver("rx");
  const first = await bed.node("deno", c);
  await first.sender("tx");
  await connect(first, 1);
  await first.call("send", { ...TX, seed: 62, sizes, count: 500 });
  await rx.received("rx", 500);
  await first.close();
  bed.wipe("tx");
  const second = await bed.node("bun", c);
  await second.sender("tx");
  assert.equal((await txStats(second, "tx")).CurrentMsgNo, 500);
  await connect(second, 1);
  await second.call("send", { ...TX, seed: 63, sizes, count: 300 });
  await rx.received("rx", 800);
  const runs = [{ seed: 62, sizes, count: 500 }, { seed: 63, sizes, count: 300 }];
  await rx.check("rx", [{ ...STREAM, runs }]);
  assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
  await closeAll(second, rx);
});

e2e("in place: a wiped sender begins behind what was taken, processed or not", async (bed) => {
  const c = sharedConfig(bed, { all: { IsHandshake: 1, StartTimeoutSecs: 3 } });
  const rx = await bed.node("deno", c);
  await rx.receiver("rx");
  const first = await bed.node("bun", c);
  await first.sender("tx");
  await connect(first, 1);
  await rx.call("handler", { context: "rx", paused: true });
  await first.call("send", { ...TX, seed: 64, sizes, count: 200 });
  await until(
    async () => (await oneRx(rx, "rx")).NextMsgNo === 200,
    () => "all of it is taken",
  );
  await first.kill();
  bed.wipe("tx");
  const second = await bed.node("deno", c);
  await second.sender("tx");
  assert.equal((await txStats(second, "tx")).CurrentMsgNo, 200);
  await second.call("send", { ...TX, seed: 65, sizes, count: 300 });
  await rx.call("handler", { context: "rx", paused: false });
  await rx.received("rx", 500);
  const runs = [{ seed: 64, sizes, count: 200 }, { seed: 65, sizes, count: 300 }];
  await rx.check("rx", [{ ...STREAM, runs }]);
  assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
  await closeAll(second, rx);
});

e2e("in place: a wiped sender begins at 0 with IsHandshake 0: known numbers drop", async (bed) => {
  const c = sharedConfig(bed);
  const rx = await bed.node("deno", c);
  await rx.receiver("rx");
  const first = await bed.node("bun", c);
  await first.sender("tx");
  await connect(first, 1);
  await first.call("send", { ...TX, seed: 66, sizes, count: 500 });
  await rx.received("rx", 500);
  await first.close();
  bed.wipe("tx");
  const second = await bed.node("bun", c);
  await second.sender("tx");
  assert.equal((await txStats(second, "tx")).CurrentMsgNo, 0);
  await connect(second, 1);
  await second.call("send", { ...TX, seed: 67, sizes, count: 300 });
  await flush(second);
  assert.equal((await rx.call("counts", { context: "rx" })).messages, 500, "all 300 are dropped");
  await second.call("send", { ...TX, seed: 67, sizes, first: 300, count: 500 });
  await rx.received("rx", 800);
  const runs = [
    { seed: 66, sizes, count: 500 },
    { seed: 67, sizes, first: 500, count: 300 },
  ];
  await rx.check("rx", [{ ...STREAM, runs }]);
  await second.log({ key: 20062 });
  await rx.log({ key: 21061 });
  assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
  await closeAll(second, rx);
});

e2e(
  "in place: another arena size; what was not processed is read from the old one",
  async (bed) => {
    const small = sharedConfig(bed, { tx: { MaxMemoryAllowedMBytes: 4 } });
    const large = sharedConfig(bed, { tx: { MaxMemoryAllowedMBytes: 9 } });
    const rx = await bed.node("bun", small);
    await rx.receiver("rx");
    const run = { seed: 71, sizes } as const;
    let sent = 0;
    for (const c of [small, large, small]) {
      const tx = await bed.node("deno", c);
      await tx.sender("tx");
      assert.equal((await txStats(tx, "tx")).CurrentMsgNo, sent);
      await connect(tx, 1);
      await tx.call("send", { ...TX, ...run, first: sent, count: 700 });
      sent += 700;
      await flush(tx);
      await tx.close();
    }
    await rx.received("rx", sent);
    await rx.check("rx", [{ ...STREAM, runs: [{ ...run, count: sent }] }]);
    // What waits in a receiver does not hinder a sender's kill and wipe; the old memory is read on.
    await rx.call("handler", { context: "rx", paused: true });
    const tx = await bed.node("deno", small);
    await tx.sender("tx");
    await connect(tx, 1);
    await tx.call("send", { ...TX, ...run, first: sent, count: 700 });
    const { messages } = await rx.call("counts", { context: "rx" });
    assert.ok(messages <= sent + 1, `${messages}`);
    await sleep(200); // Until the receiver has taken what it may take at once.
    await tx.kill();
    bed.wipe("tx");
    const wiped = await bed.node("bun", large);
    await wiped.sender("tx");
    await connect(wiped, 1);
    await wiped.call("send", { ...TX, seed: 72, sizes, count: sent + 1700 });
    await rx.call("handler", { context: "rx", paused: false });
    await until(
      async () => {
        const { streams } = await rx.call("counts", { context: "rx" });
        return streams[0]!.lastNo === sent + 1699;
      },
      () => "it is where the new sender is",
    );
    const { records } = await rx.history("rx");
    assert.ok(records.every(({ isRight }) => isRight), "every byte is right");
    assert.deepEqual(
      records.map(({ no }) => no),
      records.map((_, no) => no),
      "no number is missing",
    );
    await closeAll(rx, wiped);
  },
);

e2e("in place: one context's file is one process's", async (bed) => {
  const c = sharedConfig(bed);
  const rx = await bed.node("deno", c);
  await rx.receiver("rx");
  const second = await bed.node("bun", c);
  const error = await refused(second.receiver("rx"), "SHM");
  assert.match(error.message, /in use/);
  await sleep(ACK_TIMEOUT_MS / 10);
  const tx = await bed.node("deno", c);
  await tx.sender("tx");
  await connect(tx, 1);
  await closeAll(rx, tx, second);
});
