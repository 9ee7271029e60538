/**
 * Every field of guide 9.13.4 that belongs to senders and receivers is there and true: each is held
 * against what the test did (rule 33). Sessions are in `statistics_session_test.ts`.
 */

import assert from "node:assert/strict";
import { becomes, fixed, flushed, freeze, pair, PATIENT, send, some, TX } from "./fixtures/pair.ts";
import {
  type AckPart,
  type ContextPart,
  oneRx,
  oneTx,
  readStatistics,
  type RxPart,
  type TxPart,
} from "./fixtures/statistics.ts";
import { e2e, type Node, until } from "./harness/driver.ts";

const cursors = (tx: TxPart) =>
  some(
    tx,
    "UsedMsgNo",
    "FirstIndex",
    "FirstMsgNo",
    "FirstFragNo",
    "ToSendMsgNo",
    "ToSendFragNo",
    "CurrentMsgNo",
    "CurrentIndex",
  );

const unheard = (ContextId: number, Context: string): Partial<AckPart> => ({
  ContextId,
  Context,
  Address: "",
  MsgNo: 0,
  FragNo: 0,
  LastRecvMilli: 0,
  AckCount: 0,
  NakCount: 0,
  Status: "DISCONNECT",
  IsMandatoryAcker: false,
});

for (const runtime of ["deno", "bun"] as const) {
  e2e(`${runtime}: a sender that nobody hears, and before its start`, async (bed) => {
    const c = bed.config({
      transports: [{ Id: 31 }],
      transport: PATIENT,
      contexts: [
        { Name: "tx", Id: 7, TxTopics: [{ Name: "t" }] },
        { Name: "rx1", Id: 9, RxTopics: [{ Name: "t" }] },
        { Name: "rx2", Id: 4, RxTopics: [{ Name: "t" }] },
      ],
    });
    const node = await bed.node(runtime, c);
    await node.call("context", { context: "tx" });
    const before = await node.statistics("tx") as Record<string, unknown>;
    assert.deepEqual(some(before, "ContextId", "Context", "txs", "rx"), {
      ContextId: 7,
      Context: "tx",
      txs: [],
      rx: { Rms: [] },
    });
    await node.call("transmitter", TX);
    await node.call("start", TX);
    await send(node, 100, 10);
    const tx = await becomes(() => oneTx(node), (t) => t.ToSendMsgNo === 10, "10 are sent");
    assert.deepEqual(cursors(tx), {
      UsedMsgNo: 0,
      FirstIndex: 0,
      FirstMsgNo: 0,
      FirstFragNo: 0,
      ToSendMsgNo: 10,
      ToSendFragNo: 0,
      CurrentMsgNo: 10,
      CurrentIndex: 10,
    });
    assert.deepEqual(
      some(tx, "Addr", "Port", "MaxUdpSize", "AvailableSpace", "RegularLength", "SendFlag"),
      {
        Addr: bed.group,
        Port: bed.port,
        MaxUdpSize: 1472,
        AvailableSpace: 1432,
        RegularLength: 1424,
        SendFlag: true,
      },
    );
    assert.deepEqual(some(tx, "TransportId", "TopicName", "PartitionNo", "Phase", "Role"), {
      TransportId: 31,
      TopicName: "t",
      PartitionNo: 1,
      Phase: "Started",
      Role: "Single",
    });
    assert.ok(tx.ConnectionId < 2 ** 32);
    const acks = tx.Ack.map((ack) => some(ack, ...Object.keys(unheard(0, "")) as []));
    assert.deepEqual(acks, [unheard(9, "rx1"), unheard(4, "rx2")]);
    assert.deepEqual(tx.OtherReceivers, []);
    assert.deepEqual(some(tx, "ConnectedCount", "NakCount", "RepairCount", "DisconnectCount"), {
      ConnectedCount: 0,
      NakCount: 0,
      RepairCount: 0,
      DisconnectCount: 0,
    });

    const { NowMilli } = await readStatistics(node, "tx");
    assert.ok(tx.CurPhaseTickMilli > 0 && tx.CurPhaseTickMilli <= tx.LastSendSynTickMilli);
    assert.ok(tx.LastSendSynTickMilli <= tx.LastSendMilli && tx.LastSendMilli <= NowMilli);
    // It goes on announcing itself.
    const later = await becomes(
      () => oneTx(node),
      (t) => t.LastSendSynTickMilli > tx.LastSendSynTickMilli && t.HeartbeatCount > 3,
      "another SYN",
    );
    assert.ok(later.SendCount > tx.SendCount && later.BytesSent > tx.BytesSent);
    assert.equal(later.CurPhaseTickMilli, tx.CurPhaseTickMilli);
    const { DatagramsReceived, Tier, ReceiveUsedBytes } = await readStatistics(node, "tx");
    assert.deepEqual([DatagramsReceived, ReceiveUsedBytes], [0, 0], "it has no receiver");
    assert.equal(Tier.Deliver.TierName, "tx");

    await node.call("flag", { ...TX, on: false });
    await send(node, 100, 3);
    const silent = await oneTx(node);
    assert.equal(silent.SendFlag, false);
    assert.equal(silent.CurrentMsgNo, 13);
    await node.call("flag", { ...TX, on: true });
    assert.equal((await oneTx(node)).SendFlag, true);
    // To stop would take AckTimeoutMilli: there is nobody to acknowledge.
    await node.kill();
  });
}

for (const runtimes of [["deno", "bun"], ["bun", "deno"]] as const) {
  e2e(`${runtimes.join(" to ")}: 1000 messages, all acknowledged and processed`, async (bed) => {
    const { tx, rx, close } = await pair(bed, { runtimes, tx: { MaxCacheMsgCount: 100 } });
    await send(tx, 200, 1000);
    await rx.received("rx", 1000);
    await flushed(tx);
    const sent = await becomes(() => oneTx(tx), (t) => t.UsedMsgNo === 900, "100 are kept");
    assert.deepEqual(cursors(sent), {
      UsedMsgNo: 900,
      FirstIndex: 1000,
      FirstMsgNo: 1000,
      FirstFragNo: 0,
      ToSendMsgNo: 1000,
      ToSendFragNo: 0,
      CurrentMsgNo: 1000,
      CurrentIndex: 1000,
    });
    const got = await becomes(
      () => oneRx(rx),
      (r) => r.NextMsgNoDeliver === 1000,
      "all are processed",
    );
    assertAllReceived(got, sent, 1000);
    const [ack] = sent.Ack;
    assert.equal(sent.Ack.length, 1);
    assert.deepEqual(some(ack!, "ContextId", "MsgNo", "FragNo", "NakCount", "Status"), {
      ContextId: 9,
      MsgNo: 1000,
      FragNo: 0,
      NakCount: 0,
      Status: "CONNECTED",
    });
    assert.equal(ack!.IsMandatoryAcker, false);
    assert.match(ack!.Address, /^127\.0\.0\.1:[1-9]\d*$/);
    assert.ok(ack!.AckCount > 0 && ack!.AckCount <= (await oneRx(rx)).AckSent);
    assert.ok(ack!.LastRecvMilli >= sent.CurPhaseTickMilli);
    assert.equal(sent.ConnectedCount, 1);

    const { Tier } = await readStatistics(rx, "rx");
    assert.deepEqual(Tier.Deliver, {
      TierName: "rx",
      Role: "Single",
      FirstMsgSqn: 1000,
      NextMsgSqn: 1000,
      NextMsgSqnDeliver: 1000,
      MsgsDelivered: 1000,
      NextMsgSqnRecord: 0,
      MsgsRecorded: 0,
      WaitContextId: 0,
      WaitTransportId: 0,
      CommittedSqn: 1000,
    });
    await assertTraffic(tx, rx);
    await close();
  });
}

function assertAllReceived(got: RxPart, sent: TxPart, count: number): void {
  assert.deepEqual(some(got, "ContextId", "Context", "TransportId", "TopicName", "PartitionNo"), {
    ContextId: 7,
    Context: "tx",
    TransportId: sent.TransportId,
    TopicName: "t",
    PartitionNo: 1,
  });
  assert.equal(got.ConnectionId, sent.ConnectionId);
  assert.deepEqual(
    some(got, "NextMsgNo", "NextFragNo", "NextMsgNoDeliver", "MsgNoAacked", "MaxMsgNo"),
    {
      NextMsgNo: count,
      NextFragNo: 0,
      NextMsgNoDeliver: count,
      MsgNoAacked: count,
      MaxMsgNo: count - 1,
    },
  );
  assert.deepEqual(some(got, "MaxFragNo", "MaxMsgNoNak", "MaxFragNoNak", "LastNakMilli"), {
    MaxFragNo: 0,
    MaxMsgNoNak: 0,
    MaxFragNoNak: 0,
    LastNakMilli: 0,
  });
  assert.deepEqual(
    some(got, "RmsPhase", "MessageCount", "NakSent", "RepairCount", "DuplicateCount", "LostCount"),
    {
      RmsPhase: "Started",
      MessageCount: count,
      NakSent: 0,
      RepairCount: 0,
      DuplicateCount: 0,
      LostCount: 0,
    },
  );
  assert.deepEqual(some(got, "GapsOpen", "GapCount", "OutOfOrderHeld", "IsMandatoryAcker"), {
    GapsOpen: 0,
    GapCount: 0,
    OutOfOrderHeld: 0,
    IsMandatoryAcker: false,
  });
  assert.ok(got.LastAckMilli > 0 && got.LastRecvMilli > 0);
  assert.equal(got.LastRstTickMilli, 0, "nothing had to be refused");
  assert.match(got.Address, /^127\.0\.0\.1:[1-9]\d*$/);
}

/** What one has sent the other has received: datagrams and bytes of all types, both ways. */
async function assertTraffic(tx: Node, rx: Node): Promise<void> {
  const difference = (from: ContextPart, to: ContextPart) => [
    from.DatagramsSent - to.DatagramsReceived,
    from.BytesSent - to.BytesReceived,
  ];
  await becomes(
    async () => {
      const before = await readStatistics(tx, "tx");
      const receiver = await readStatistics(rx, "rx");
      const sender = await readStatistics(tx, "tx");
      const { SendCount, BytesSent } = sender.txs[0]![0]!;
      assert.deepEqual([sender.DatagramsSent, sender.BytesSent], [SendCount, BytesSent]);
      return [
        ...difference(before, receiver),
        ...difference(sender, receiver),
        ...difference(receiver, sender),
      ];
    },
    (differences) => differences.every((n) => n === 0),
    "the same datagrams at both ends, in a moment in which nothing is sent",
  );
}

e2e(
  "fragments in flight: a window of 16 datagrams, and a receiver that stands still",
  async (bed) => {
    const { tx, rx, close } = await pair(bed, { tx: { SendWindowSize: 16 } });
    await send(tx, 10, 5);
    await rx.received("rx", 5);
    await flushed(tx);
    const idle = await oneTx(tx);
    assert.equal(idle.WindowFull, false);
    const { RegularLength } = idle;
    await freeze(rx);
    try {
      await send(tx, 100 * RegularLength, 1);
      await send(tx, 10, 2);
      const full = await becomes(() => oneTx(tx), (t) => t.WindowFull, "the window is full");
      assert.deepEqual(
        some(full, "FirstMsgNo", "FirstFragNo", "ToSendMsgNo", "ToSendFragNo", "CurrentMsgNo"),
        { FirstMsgNo: 5, FirstFragNo: 0, ToSendMsgNo: 5, ToSendFragNo: 16, CurrentMsgNo: 8 },
      );
      assert.deepEqual([full.FirstIndex, full.CurrentIndex], [5, 8]);
      assert.equal(full.WindowFullCount, idle.WindowFullCount + 1);
      const [ack] = full.Ack;
      assert.deepEqual(some(ack!, "MsgNo", "FragNo", "Status"), {
        MsgNo: 5,
        FragNo: 0,
        Status: "CONNECTED",
      });
      // Heartbeats and announcements go on; the data are 16 datagrams.
      const others = full.HeartbeatCount - idle.HeartbeatCount;
      const data = full.SendCount - idle.SendCount - others;
      assert.ok(data >= 16 && data <= 20, `${data} datagrams`);
      assert.ok(full.BytesSent - idle.BytesSent > 16 * RegularLength);
    } finally {
      rx.thaw();
    }
    await rx.received("rx", 8);
    await flushed(tx);
    const { FirstMsgNo, FirstFragNo, ToSendFragNo } = await oneTx(tx);
    assert.deepEqual([FirstMsgNo, FirstFragNo, ToSendFragNo], [8, 0, 0]);
    await close();
  },
);

e2e("fragments under way: every cursor is seen inside a message, at both ends", async (bed) => {
  const length = 4 * 2 ** 20;
  const { tx, rx, close } = await pair(bed, {
    tx: { SendWindowSize: 8, MaxMemoryAllowedMBytes: 64 },
  });
  const fragments = Math.ceil(length / (await oneTx(tx)).RegularLength);
  const inside = (fragNo: number) => {
    assert.ok(fragNo < fragments, `fragment ${fragNo} of ${fragments}`);
    return fragNo > 0;
  };
  const seen = new Set<string>();
  const wanted = 6;
  const look = async () => {
    const sent = await oneTx(tx);
    if (inside(sent.FirstFragNo)) seen.add("FirstFragNo");
    if (inside(sent.ToSendFragNo)) seen.add("ToSendFragNo");
    if (inside(sent.Ack[0]!.FragNo)) seen.add("Ack.FragNo");
    // What the window holds at most lies between the two.
    if (sent.FirstMsgNo === sent.ToSendMsgNo) {
      const flying = sent.ToSendFragNo - sent.FirstFragNo;
      assert.ok(flying >= 0 && flying <= 8, `${flying} datagrams in a window of 8`);
    }
    const got = await oneRx(rx);
    if (inside(got.NextFragNo)) seen.add("NextFragNo");
    if (inside(got.MaxFragNo)) seen.add("MaxFragNo");
    assert.ok(got.MaxMsgNo + 1 >= got.NextMsgNo);
    const { ReceiveUsedBytes } = await readStatistics(rx, "rx");
    if (ReceiveUsedBytes >= length) seen.add("ReceiveUsedBytes");
  };
  let count = 0;
  await until(
    async () => {
      await send(tx, length, 4);
      count += 4;
      for (let i = 0; i < 20 && seen.size < wanted; i += 1) await look();
      return seen.size === wanted;
    },
    () => `all of them; seen were ${[...seen]}`,
  );
  await rx.received("rx", count);
  await flushed(tx);
  await close();
});

e2e("a handler that takes its time: received, ordered, not processed", async (bed) => {
  const { tx, rx, close } = await pair(bed, { runtimes: ["bun", "deno"] });
  await send(tx, 100, 20);
  await becomes(() => oneRx(rx), (r) => r.NextMsgNoDeliver === 20, "20 are processed");
  await rx.call("handler", { context: "rx", paused: true });
  await send(tx, 1000, 50);
  const got = await becomes(
    () => oneRx(rx),
    (r) => r.MsgNoAacked === 70 && r.NextMsgNo === 70,
    "acknowledged without being processed",
  );
  await rx.received("rx", 21);
  assert.equal(got.NextMsgNoDeliver, 20, "the handler has the first of them and keeps it");
  assert.equal(got.MessageCount, 70);
  const part = await readStatistics(rx, "rx");
  assert.deepEqual(
    some(part.Tier.Deliver, "FirstMsgSqn", "NextMsgSqn", "NextMsgSqnDeliver", "CommittedSqn"),
    { FirstMsgSqn: 20, NextMsgSqn: 70, NextMsgSqnDeliver: 20, CommittedSqn: 70 },
  );
  assert.equal(part.Tier.Deliver.MsgsDelivered, 20);
  assert.ok(part.ReceiveUsedBytes >= 50_000 && part.ReceiveUsedBytes < part.ReceiveBytes);
  await rx.call("handler", { context: "rx", paused: false });
  await becomes(
    async () => (await readStatistics(rx, "rx")).Tier.Deliver,
    (d) => d.NextMsgSqnDeliver === 70 && d.MsgsDelivered === 70 && d.FirstMsgSqn === 70,
    "the rest is processed",
  );
  await close();
});

e2e("losses: what was asked for, and what was sent again", async (bed) => {
  const count = 5000;
  const { tx, rx, close } = await pair(bed, {
    rxEnv: { RCM_INJECT: "drop=0.05,seed=5" },
    rx: { WaitStrategy: "block" },
  });
  const sizes = { kind: "mixed", seed: 3 } as const;
  await tx.call("send", { ...TX, seed: 3, sizes, count });
  await rx.received("rx", count);
  await rx.check("rx", [{
    from: "tx",
    topic: "t",
    partition: 1,
    runs: [{ seed: 3, sizes, count }],
  }]);
  await flushed(tx);
  const sent = await oneTx(tx);
  const part = await readStatistics(rx, "rx");
  const [got] = part.rx.Rms;
  const injected = part.Dropped["Injected"]!;
  assert.ok(injected > 50, `${injected} were dropped on purpose`);
  assert.equal(sent.Ack[0]!.NakCount, sent.NakCount);
  assert.ok(
    sent.NakCount > 0 && sent.NakCount <= got!.NakSent,
    `${sent.NakCount} of ${got!.NakSent}`,
  );
  assert.ok(got!.RepairCount > 0 && got!.RepairCount <= sent.RepairCount);
  assert.ok(sent.RepairCount <= 3 * injected + 10, `${sent.RepairCount} for ${injected}`);
  assert.ok(got!.GapCount > 0 && got!.GapCount <= injected);
  assert.ok(got!.LastNakMilli > 0 && got!.LastNakMilli <= part.NowMilli);
  assert.ok(got!.MaxMsgNoNak > 0 && got!.MaxMsgNoNak < count);
  assert.deepEqual(some(got!, "GapsOpen", "OutOfOrderHeld", "LostCount", "NextMsgNo"), {
    GapsOpen: 0,
    OutOfOrderHeld: 0,
    LostCount: 0,
    NextMsgNo: count,
  });
  await close();
});

e2e("a kernel that drops: counted where it happened", async (bed) => {
  const count = 4000;
  const { tx, rx, close } = await pair(bed, {
    tx: { SendWindowSize: 4096, MaxMemoryAllowedMBytes: 32 },
    rx: { SocketBufferSizeKBytes: 128 },
  });
  await freeze(rx);
  try {
    await send(tx, 1400, count);
    await becomes(() => oneTx(tx), (t) => t.ToSendMsgNo === count, "all were sent once");
  } finally {
    rx.thaw();
  }
  await rx.received("rx", count);
  await flushed(tx);
  // The kernel is asked once a second. A run of datagrams that it joined counts once.
  const part = await becomes(
    () => readStatistics(rx, "rx"),
    (r) => r.KernelDrops > 0,
    "drops are seen",
  );
  const [got] = part.rx.Rms;
  assert.equal(got!.KernelDrops, part.KernelDrops);
  assert.ok(got!.RepairCount > count / 2, `${got!.RepairCount} repairs`);
  assert.equal(got!.LostCount, 0);
  await close();
});

e2e("memory that is full: WouldBlockCount, ArenaUsedBytes", async (bed) => {
  const { tx, rx, close } = await pair(bed, { tx: { MaxMemoryAllowedMBytes: 4 } });
  await rx.call("handler", { context: "rx", paused: true });
  await freeze(rx);
  const full = { ...TX, seed: 1, sizes: fixed(10_000), count: 10_000, whenFull: "stop" } as const;
  let sent = 0;
  try {
    const result = await tx.call("send", full);
    sent = result.sent;
    assert.ok(sent > 300 && sent < 430, `${sent} messages of 10,000 bytes in 4 MiB`);
    const { txs, ArenaBytes, ArenaUsedBytes } = await readStatistics(tx, "tx");
    assert.equal(txs[0]![0]!.WouldBlockCount, 1);
    assert.equal(txs[0]![0]!.CurrentMsgNo, sent);
    assert.ok(ArenaUsedBytes > 0.9 * ArenaBytes && ArenaUsedBytes <= ArenaBytes);
  } finally {
    rx.thaw();
  }
  await rx.call("handler", { context: "rx", paused: false });
  await rx.received("rx", sent);
  await flushed(tx);
  await close();
});

e2e("a message that no memory could hold: LostCount, LastError", async (bed) => {
  const { tx, rx, close } = await pair(bed, { rx: { ReceiveMemoryMBytes: 8 } });
  await send(tx, 100, 3);
  await send(tx, 12 * 2 ** 20, 1);
  await send(tx, 100, 3);
  await rx.received("rx", 6);
  await rx.event({ type: "MESSAGE_LOSS", lossStart: 3, lossEnd: 3 });
  const part = await becomes(
    () => readStatistics(rx, "rx"),
    (r) => r.rx.Rms[0]!.NextMsgNoDeliver === 7,
    "the rest is processed",
  );
  assert.deepEqual(some(part.rx.Rms[0]!, "LostCount", "MessageCount", "NextMsgNo", "MaxMsgNo"), {
    LostCount: 1,
    MessageCount: 6,
    NextMsgNo: 7,
    MaxMsgNo: 6,
  });
  assert.deepEqual(some(part.LastError!, "Key", "Name"), {
    Key: 21063,
    Name: "message_loss",
  });
  assert.ok(part.LastError!.Milli > 0 && part.LastError!.Milli <= part.NowMilli);
  assert.equal((await readStatistics(tx, "tx")).LastError, null);
  await close();
});
