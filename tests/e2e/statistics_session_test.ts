/**
 * Statistics of sessions: phases, who is connected, several topics and partitions, each held
 * against what the test did (guide 9.13.4, rule 33).
 */

import assert from "node:assert/strict";
import { becomes, connected, flushed, freeze, pairConfig, PATIENT, send } from "./fixtures/pair.ts";
import { oneRx, oneTx, readStatistics } from "./fixtures/statistics.ts";
import { e2e, LIMIT_MS } from "./harness/driver.ts";

e2e("phases of a sender and of a stream, as they come", async (bed) => {
  const c = pairConfig(bed, {
    transport: { AckTimeoutMilli: 4000, HeartbeatIntervalMilli: 100, HeartbeatTimeoutMilli: 1000 },
    tx: { IsHandshake: 1, StartTimeoutSecs: 60 },
  });
  const tx = await bed.node("deno", c);
  const rx = await bed.node("bun", c);
  const started = tx.sender("tx");
  const asking = await becomes(
    () => readStatistics(tx, "tx"),
    ({ txs }) => txs.length === 1 && txs[0]![0]!.Phase === "Handshake",
    "it asks where to begin",
  );
  assert.equal(asking.txs[0]![0]!.Ack[0]!.Status, "DISCONNECT");
  await rx.receiver("rx");
  assert.deepEqual((await readStatistics(rx, "rx")).rx.Rms.length <= 1, true);
  await started;
  assert.equal(await connected(tx, 1), true);
  const begun = await oneTx(tx);
  assert.equal(begun.Phase, "Started");
  assert.ok(begun.CurPhaseTickMilli > asking.txs[0]![0]!.CurPhaseTickMilli);
  assert.equal((await oneRx(rx)).RmsPhase, "Started");

  await freeze(tx);
  try {
    await becomes(() => oneRx(rx), (r) => r.RmsPhase === "Silent", "it notices the silence");
  } finally {
    tx.thaw();
  }
  await becomes(() => oneRx(rx), (r) => r.RmsPhase === "Started", "it is heard again");
  assert.equal(await connected(tx, 1), true);

  await freeze(rx);
  let stopped: Promise<unknown>;
  try {
    await send(tx, 100, 3);
    stopped = tx.call("stop", { context: "tx" });
    await becomes(() => oneTx(tx), (t) => t.Phase === "Draining", "it waits for the last ACK");
  } finally {
    rx.thaw();
  }
  await stopped;
  await becomes(() => oneRx(rx), (r) => r.RmsPhase === "Closed", "it has said goodbye");
  assert.equal((await oneRx(rx)).NextMsgNo, 3);
  await Promise.all([tx.close(), rx.close()]);
});

e2e("receivers that go and come: Status, ConnectedCount, DisconnectCount", async (bed) => {
  const transport = { AckTimeoutMilli: 1500, AckIntervalMilli: 100 };
  const c = pairConfig(bed, { transport });
  const tx = await bed.node("deno", c);
  let rx = await bed.node("bun", c);
  await rx.receiver("rx");
  await tx.sender("tx");
  assert.equal(await connected(tx, 1), true);
  await send(tx, 100, 10);
  await flushed(tx);
  const there = await oneTx(tx);
  assert.deepEqual([there.Ack[0]!.Status, there.ConnectedCount], ["CONNECTED", 1]);

  await rx.kill();
  const gone = await becomes(() => oneTx(tx), (t) => t.ConnectedCount === 0, "it is missed");
  assert.equal(gone.Ack[0]!.Status, "DISCONNECT");
  assert.equal(gone.Ack[0]!.MsgNo, 10, "what it had is remembered");
  assert.equal(gone.DisconnectCount, 1);
  const { NowMilli } = await readStatistics(tx, "tx");
  assert.ok(NowMilli - gone.Ack[0]!.LastRecvMilli >= transport.AckTimeoutMilli);
  await send(tx, 100, 5);
  assert.equal((await oneTx(tx)).FirstMsgNo, 10, "nobody acknowledges");

  rx = await bed.node("bun", c);
  await rx.receiver("rx");
  assert.equal(await connected(tx, 1), true);
  await flushed(tx);
  const back = await oneTx(tx);
  assert.deepEqual([back.Ack[0]!.Status, back.ConnectedCount, back.FirstMsgNo], [
    "CONNECTED",
    1,
    15,
  ]);
  assert.notEqual(back.Ack[0]!.Address, there.Ack[0]!.Address);

  await rx.close();
  const left = await becomes(() => oneTx(tx), (t) => t.ConnectedCount === 0, "it said goodbye");
  assert.equal(left.DisconnectCount, 2);
  await tx.close();
});

e2e("several topics and partitions, and a receiver that is not configured", async (bed) => {
  const transports = [
    { Id: 1, Topic: "t", PartitionNo: 1 },
    { Id: 2, Topic: "t", PartitionNo: 2 },
    { Id: 3, Topic: "t", PartitionNo: 3 },
    { Id: 5, Topic: "u", MTU: 9000 },
    { Id: 6, Topic: "v", GroupKey: "ab".repeat(32) },
  ];
  const contexts = [
    { Name: "tx", Id: 1, TxTopics: [{ Name: "t" }, { Name: "u" }, { Name: "v" }] },
    { Name: "rx12", Id: 2, RxTopics: [{ Name: "t", Partitions: [1, 2] }] },
    {
      Name: "rx3",
      Id: 3,
      RxTopics: [{ Name: "t", Partitions: [3] }, { Name: "u" }, { Name: "v" }],
    },
  ];
  const guest = { Name: "guest", Id: 44, RxTopics: [{ Name: "u" }] };
  const c = bed.config({ transports, transport: PATIENT, contexts });
  const tx = await bed.node("bun", c);
  const rx = await bed.node("deno", c);
  const other = await bed.node(
    "deno",
    bed.config({ transports, transport: PATIENT, contexts: [...contexts, guest] }),
  );
  await rx.receiver("rx12");
  await rx.receiver("rx3");
  await other.receiver("guest");
  await tx.sender("tx", { topics: ["t", "u", "v"], txArg: 5 });
  const wait = { context: "tx", timeoutMs: LIMIT_MS };
  assert.equal(await tx.call("connected", { ...wait, topic: "t", receivers: 1 }), true);
  assert.equal(await tx.call("connected", { ...wait, topic: "u", receivers: 2 }), true);
  assert.equal(await tx.call("connected", { ...wait, topic: "v", receivers: 1 }), true);
  await send(tx, 100, 30, "t", 0);
  await send(tx, 100, 7, "t", 2);
  await send(tx, 20_000, 4, "u");
  await send(tx, 100, 9, "v");
  for (const topic of ["t", "u", "v"]) {
    assert.equal(await tx.call("flush", { ...wait, topic }), true);
  }
  const { txs } = await readStatistics(tx, "tx");
  const shape = txs.map((parts) =>
    parts.map((
      p,
    ) => [p.TransportId, p.TopicName, p.PartitionNo, p.Port, p.CurrentMsgNo, p.FirstMsgNo])
  );
  assert.deepEqual(shape, [
    [
      [1, "t", 1, bed.port, 10, 10],
      [2, "t", 2, bed.port + 1, 17, 17],
      [3, "t", 3, bed.port + 2, 10, 10],
    ],
    [[5, "u", 1, bed.port + 3, 4, 4]],
    [[6, "v", 1, bed.port + 4, 9, 9]],
  ]);
  const receivers = txs.flat().map((p) => [
    p.Ack.map((ack) => [ack.ContextId, ack.Context, ack.Status, ack.MsgNo === p.FirstMsgNo]),
    p.OtherReceivers.map((ack) => [ack.ContextId, ack.Status]),
  ]);
  assert.deepEqual(receivers, [
    [[[2, "rx12", "CONNECTED", true]], []],
    [[[2, "rx12", "CONNECTED", true]], []],
    [[[3, "rx3", "CONNECTED", true]], []],
    [[[3, "rx3", "CONNECTED", true]], [[44, "CONNECTED"]]],
    [[[3, "rx3", "CONNECTED", true]], []],
  ]);
  const sizes = txs.flat().map((p) => [p.MaxUdpSize, p.AvailableSpace, p.RegularLength]);
  assert.deepEqual(sizes, [
    [1472, 1432, 1424],
    [1472, 1432, 1424],
    [1472, 1432, 1424],
    [8972, 8928, 8920],
    [1472, 1400, 1392],
  ]);

  for (
    const [context, expected] of [
      ["rx12", [[1, "t", 1, 10], [2, "t", 2, 17]]],
      ["rx3", [[3, "t", 3, 10], [5, "u", 1, 4], [6, "v", 1, 9]]],
    ] as const
  ) {
    const { Rms } = (await readStatistics(rx, context)).rx;
    const streams = Rms.map((s) => [s.TransportId, s.TopicName, s.PartitionNo, s.NextMsgNo]);
    assert.deepEqual(streams.sort(), expected);
    for (const s of Rms) {
      const of = txs.flat().find((p) => p.TransportId === s.TransportId);
      assert.equal(s.ConnectionId, of?.ConnectionId);
    }
  }
  await Promise.all([tx, rx, other].map((node) => node.close()));
});
