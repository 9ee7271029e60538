import { test } from "node:test";
import assert from "node:assert/strict";
import { RcmRole } from "../src/enums.ts";
import { RcmError } from "../src/errors.ts";
import {
  parseStatisticsRequest,
  readSnapshot,
  roleText,
  statisticsText,
  type StatsAbi,
  type StatsContext,
} from "../src/observe/statistics.ts";
import { type ReadLayout, writeStruct, zigEnum, zigSource, zigStruct } from "./observe_layouts.ts";

const source = zigSource("stats/snapshot.zig");
const layouts = {
  StatsHeader: zigStruct(source, "StatsHeader"),
  TxStats: zigStruct(source, "TxStats"),
  AckStats: zigStruct(source, "AckStats"),
  RxStats: zigStruct(source, "RxStats"),
  DeliverStats: zigStruct(source, "DeliverStats"),
  LatencyStats: zigStruct(source, "LatencyStats"),
  TierSendStats: zigStruct(source, "TierSendStats"),
};
const abi = {
  ...layouts,
  TxPhase: zigEnum(source, "TxPhase"),
  RxPhase: zigEnum(source, "RxPhase"),
  AckState: zigEnum(source, "AckState"),
} as unknown as StatsAbi;

type Values = Readonly<Record<string, number>>;

/** Puts structs behind one another, as the native side does. */
function snapshotBytes(header: Values, ...parts: [keyof typeof layouts, Values][]): Uint8Array {
  const all: [ReadLayout, Values][] = [
    [layouts.StatsHeader, header],
    ...parts.map(([name, values]): [ReadLayout, Values] => [layouts[name], values]),
  ];
  const total = all.reduce((sum, [layout]) => sum + layout.bytes, 0);
  // Not at the begin of its memory: a reader must not assume that.
  const bytes = new Uint8Array(new ArrayBuffer(total + 24), 8, total);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  for (const [layout, values] of all) {
    writeStruct(view, at, layout, values);
    at += layout.bytes;
  }
  writeStruct(view, 0, layouts.StatsHeader, { totalBytes: total });
  return bytes;
}

/** Every scalar field its own number, so that fields that are mixed up show. */
function numbered(layout: ReadLayout, from: number, set: Values = {}): Values {
  const values: Record<string, number> = {};
  let n = from;
  for (const [name, field] of Object.entries(layout.fields)) {
    values[name] = n;
    if (field.type === "u64") values[name] = 2 ** 40 + n;
    n += 1;
  }
  return { ...values, ...set };
}

/** 192.168.86.101 in written order. */
const IP = 192 + 168 * 2 ** 8 + 86 * 2 ** 16 + 101 * 2 ** 24;

function context(over: Partial<StatsContext> = {}): StatsContext {
  return {
    contextId: 1,
    context: "MiniContext",
    tierName: "MiniContext",
    role: RcmRole.SINGLE,
    refusedCount: 3,
    transport: (id) =>
      id === 1
        ? { topic: "MiniTopic", partitionNo: 1, addrs: ["239.0.1.1"], port: 5001 }
        : id === 2
        ? { topic: "MiniTopic", partitionNo: 2, addrs: ["10.0.0.1", "10.0.0.2"], port: 5002 }
        : undefined,
    contextName: (id) => ["", "MiniContext", "Second"][id] ?? "",
    snapshot: null,
    ...over,
  };
}

interface Answer {
  ctxs: {
    [key: string]: unknown;
    Context: string;
    txs: { [key: string]: unknown; Ack: Record<string, unknown>[] }[][];
    rx: { Rms: Record<string, unknown>[] };
    Tier: { Deliver: Record<string, unknown> };
  }[];
}

function answer(contexts: StatsContext[], request?: string): Answer {
  return JSON.parse(statisticsText(parseStatisticsRequest(request), contexts, abi)) as Answer;
}

test("the structs are as large as the native side asserts", () => {
  for (const [name, layout] of Object.entries(layouts)) {
    const asserted = new RegExp(`assert\\(@sizeOf\\(${name}\\) == (\\d+)\\)`).exec(source);
    assert.equal(layout.bytes, Number(asserted?.[1]), name);
  }
});

test("a sender's statistics have every field of guide 9.13.4", () => {
  const tx = numbered(layouts.TxStats, 100, {
    txIndex: 0,
    ackCount: 3,
    transportId: 1,
    phase: 2,
    sendFlag: 1,
    windowFull: 0,
    connectionId: 2 ** 52 + 7 * 2 ** 32 + 8620,
  });
  const ack = numbered(layouts.AckStats, 300, {
    contextId: 2,
    state: 1,
    ip: IP,
    port: 5001,
    isMandatoryAcker: 0,
    isConfigured: 1,
    isOutOfMemory: 0,
  });
  const silent = { contextId: 3, isConfigured: 1, isMandatoryAcker: 1 };
  const stranger = { contextId: 9, state: 1, ip: IP, port: 1 };
  const bytes = snapshotBytes(
    numbered(layouts.StatsHeader, 500, { txCount: 1, rxCount: 0, hasTier: 0 }),
    ["TxStats", tx],
    ["LatencyStats", {}],
    ["AckStats", ack],
    ["AckStats", silent],
    ["AckStats", stranger],
    ["DeliverStats", {}],
    ["LatencyStats", {}],
  );
  const { ctxs } = answer([context({ snapshot: readSnapshot(bytes, abi) })]);
  const [ctx] = ctxs;
  assert.equal(ctxs.length, 1);
  assert.equal(ctx?.["ContextId"], 1);
  assert.equal(ctx?.Context, "MiniContext");
  const sender = ctx?.txs[0]?.[0];
  const { Ack, ...fields } = sender!;
  const guide = {
    Addr: "239.0.1.1",
    Port: 5001,
    MaxUdpSize: tx["maxUdpSize"],
    AvailableSpace: tx["availableSpace"],
    RegularLength: tx["regularLength"],
    SendFlag: true,
    TransportId: 1,
    TopicName: "MiniTopic",
    PartitionNo: 1,
    SendCount: tx["sendCount"],
    LastSendMilli: tx["lastSendMs"],
    CurPhaseTickMilli: tx["phaseSinceMs"],
    LastSendSynTickMilli: tx["lastSynMs"],
    ConnectionId: 8620,
    Phase: "Started",
    Role: "Single",
    UsedMsgNo: tx["usedMsgNo"],
    FirstIndex: tx["firstIndex"],
    FirstMsgNo: tx["firstMsgNo"],
    FirstFragNo: tx["firstFragNo"],
    ToSendMsgNo: tx["toSendMsgNo"],
    ToSendFragNo: tx["toSendFragNo"],
    CurrentMsgNo: tx["currentMsgNo"],
    CurrentIndex: tx["currentIndex"],
  };
  for (const [name, value] of Object.entries(guide)) assert.deepEqual(fields[name], value, name);
  // Guide order first: what a person compares with the page.
  assert.deepEqual(Object.keys(sender!).slice(0, 25), [...Object.keys(guide), "Ack"]);

  // ConnectionId is exactly its low 32 bits.
  assert.equal(tx["connectionId"]! % 2 ** 32, 8620);

  const own = {
    ConnectedCount: tx["connectedCount"],
    WindowFull: false,
    BytesSent: tx["bytesSent"],
    RepairCount: tx["repairCount"],
    NakCount: tx["nakCount"],
    HeartbeatCount: tx["heartbeatCount"],
    WouldBlockCount: tx["wouldBlockCount"],
    WindowFullCount: tx["windowFullCount"],
    RepairsSuppressed: tx["repairsSuppressed"],
    DatagramsDropped: tx["datagramsDropped"],
    DisconnectCount: tx["disconnectCount"],
  };
  for (const [name, value] of Object.entries(own)) assert.deepEqual(fields[name], value, name);

  assert.deepEqual(Ack, [
    {
      ContextId: 2,
      Address: "192.168.86.101:5001",
      MsgNo: ack["msgNo"],
      FragNo: ack["fragNo"],
      LastRecvMilli: ack["lastRecvMs"],
      AckCount: ack["ackCount"],
      NakCount: ack["nakCount"],
      Status: "CONNECTED",
      IsMandatoryAcker: false,
      Context: "Second",
      HighestMsgNo: ack["highestMsgNo"],
      IsOutOfMemory: false,
    },
    {
      ContextId: 3,
      Address: "",
      MsgNo: 0,
      FragNo: 0,
      LastRecvMilli: 0,
      AckCount: 0,
      NakCount: 0,
      Status: "DISCONNECT",
      IsMandatoryAcker: true,
      Context: "",
      HighestMsgNo: 0,
      IsOutOfMemory: false,
    },
  ]);
  const others = fields["OtherReceivers"] as Record<string, unknown>[];
  assert.deepEqual(others.map((o) => [o["ContextId"], o["Address"]]), [[9, "192.168.86.101:1"]]);
});

test("txs has one array a transmitter with one object a partition", () => {
  const bytes = snapshotBytes(
    { txCount: 3 },
    ["TxStats", { txIndex: 0, transportId: 1 }],
    ["LatencyStats", {}],
    ["TxStats", { txIndex: 0, transportId: 2 }],
    ["LatencyStats", {}],
    ["TxStats", { txIndex: 1, transportId: 77 }],
    ["LatencyStats", {}],
    ["DeliverStats", {}],
    ["LatencyStats", {}],
  );
  const { txs } = answer([context({ snapshot: readSnapshot(bytes, abi) })]).ctxs[0]!;
  assert.deepEqual(
    txs.map((tx) => tx.map((p) => [p["TransportId"], p["PartitionNo"], p["Addr"], p["Phase"]])),
    [
      [[1, 1, "239.0.1.1", "Init"], [2, 2, "10.0.0.1,10.0.0.2", "Init"]],
      [[77, 0, "", "Init"]],
    ],
  );
});

test("a receiver's and the deliverer's statistics have every field of guide 9.13.4", () => {
  const rx = numbered(layouts.RxStats, 700, {
    contextId: 2,
    transportId: 1,
    phase: 3,
    ip: IP,
    port: 65535,
    isMandatoryAcker: 1,
    connectionId: 2 ** 52 + 17,
  });
  const deliver = numbered(layouts.DeliverStats, 900);
  const bytes = snapshotBytes({ rxCount: 1 }, ["RxStats", rx], ["DeliverStats", deliver], [
    "LatencyStats",
    {},
  ]);
  const [ctx] = answer([context({ snapshot: readSnapshot(bytes, abi) })]).ctxs;
  assert.deepEqual(ctx?.txs, []);
  const guide = {
    ContextId: 2,
    LastRecvMilli: rx["lastRecvMs"],
    ConnectionId: 17,
    LastRstTickMilli: rx["lastRstMs"],
    TransportId: 1,
    TopicName: "MiniTopic",
    PartitionNo: 1,
    NextMsgNo: rx["nextMsgNo"],
    NextMsgNoDeliver: rx["nextMsgNoDeliver"],
    MsgNoAacked: rx["msgNoAcked"],
    MaxMsgNo: rx["maxMsgNo"],
    MaxFragNo: rx["maxFragNo"],
    NextFragNo: rx["nextFragNo"],
    MaxMsgNoNak: rx["maxMsgNoNak"],
    MaxFragNoNak: rx["maxFragNoNak"],
    LastAckMilli: rx["lastAckMs"],
    LastNakMilli: rx["lastNakMs"],
    RmsPhase: "Silent",
  };
  const own = {
    Context: "Second",
    Address: "192.168.86.101:65535",
    IsMandatoryAcker: true,
    StreamId: rx["stream"],
    GapsOpen: rx["gapsOpen"],
    DatagramsReceived: rx["datagramsReceived"],
    BytesReceived: rx["bytesReceived"],
    MessageCount: rx["messageCount"],
    GapCount: rx["gapCount"],
    NakSent: rx["nakSent"],
    AckSent: rx["ackSent"],
    RepairCount: rx["repairCount"],
    DuplicateCount: rx["duplicateCount"],
    DroppedCount: rx["droppedCount"],
    OutOfOrderHeld: rx["outOfOrderHeld"],
    LostCount: rx["lostCount"],
    KernelDrops: rx["kernelDrops"],
  };
  assert.deepEqual(ctx?.rx, { Rms: [{ ...guide, ...own }] });
  assert.deepEqual(ctx?.Tier, {
    Deliver: {
      TierName: "MiniContext",
      Role: "Single",
      FirstMsgSqn: deliver["firstMsgSqn"],
      NextMsgSqn: deliver["nextMsgSqn"],
      NextMsgSqnDeliver: deliver["nextMsgSqnDeliver"],
      MsgsDelivered: deliver["msgsDelivered"],
      NextMsgSqnRecord: deliver["nextMsgSqnRecord"],
      MsgsRecorded: deliver["msgsRecorded"],
      WaitContextId: deliver["waitContextId"],
      WaitTransportId: deliver["waitTransportId"],
      CommittedSqn: deliver["committedSqn"],
    },
  });
});

test("a context's counters are there, each from its field", () => {
  const header = numbered(layouts.StatsHeader, 500, {
    txCount: 0,
    rxCount: 0,
    hasTier: 0,
    lastErrno: 1,
    lastErrorKey: 22004,
  });
  const bytes = snapshotBytes(header, ["DeliverStats", {}], ["LatencyStats", {}]);
  const [ctx] = answer([context({ snapshot: readSnapshot(bytes, abi) })]).ctxs;
  assert.equal(ctx?.["RefusedCount"], 3);
  assert.deepEqual(ctx?.["LastError"], {
    Key: 22004,
    Name: "send_failed",
    Milli: header["lastErrorMs"],
    Errno: "EPERM (1)",
  });
  assert.deepEqual(ctx?.["Dropped"], {
    BadMagic: header["droppedBadMagic"],
    BadLength: header["droppedBadLength"],
    BadCheck: header["droppedBadCheck"],
    OtherCluster: header["droppedOtherCluster"],
    UnknownType: header["droppedUnknownType"],
    UnknownStream: header["droppedUnknownStream"],
    BadToken: header["droppedBadToken"],
    OutOfRange: header["droppedOutOfRange"],
    Unauthenticated: header["droppedUnauthenticated"],
    Replayed: header["droppedReplayed"],
    Injected: header["droppedInjected"],
  });
  const plain = {
    NowMilli: "nowMs",
    DatagramsSent: "datagramsSent",
    BytesSent: "bytesSent",
    DatagramsReceived: "datagramsReceived",
    BytesReceived: "bytesReceived",
    KernelDrops: "kernelDrops",
    SendFailures: "sendFailures",
    NoticesDropped: "noticesDropped",
    ArenaBytes: "arenaBytes",
    ArenaUsedBytes: "arenaUsedBytes",
    ReceiveBytes: "receiveBytes",
    ReceiveUsedBytes: "receiveUsedBytes",
  };
  for (const [name, field] of Object.entries(plain)) assert.equal(ctx?.[name], header[field], name);
});

test("a context that was not started answers too", () => {
  const [ctx] = answer([context({ role: RcmRole.INIT })]).ctxs;
  assert.deepEqual(ctx?.txs, []);
  assert.deepEqual(ctx?.rx, { Rms: [] });
  assert.equal(ctx?.Tier.Deliver["Role"], "Init");
  assert.equal(ctx?.Tier.Deliver["NextMsgSqn"], 0);
  assert.equal(ctx?.["LastError"], null);
});

test("a request picks all contexts, one, or none", () => {
  const contexts = [context(), context({ context: "Other", contextId: 2 })];
  const names = (request?: string) => answer(contexts, request).ctxs.map((c) => c.Context);
  assert.deepEqual(names(), ["MiniContext", "Other"]);
  assert.deepEqual(names("{}"), ["MiniContext", "Other"]);
  assert.deepEqual(names(' {"Context": "Other"} '), ["Other"]);
  assert.deepEqual(names('{"Context":"Nobody"}'), []);
});

test("a request that is none is an ARGUMENT error", () => {
  for (
    const request of [
      "",
      "{",
      "Other",
      "[]",
      "null",
      "7",
      '{"Context":7}',
      '{"Context":null}',
      '{"x":1}',
    ]
  ) {
    assert.throws(
      () => parseStatisticsRequest(request),
      (e: unknown) => e instanceof RcmError && e.code === "ARGUMENT" && e.message.length < 200,
      request,
    );
  }
});

test("a snapshot that is cut, or longer than read, is a NATIVE error", () => {
  const bytes = snapshotBytes({ rxCount: 1 }, ["RxStats", {}], ["DeliverStats", {}], [
    "LatencyStats",
    {},
  ]);
  readSnapshot(bytes, abi);
  const native = (e: unknown) => e instanceof RcmError && e.code === "NATIVE";
  assert.throws(() => readSnapshot(bytes.subarray(0, bytes.length - 8), abi), native);
  assert.throws(() => readSnapshot(new Uint8Array(0), abi), native);
  writeStruct(new DataView(bytes.buffer, bytes.byteOffset), 0, layouts.StatsHeader, {
    rxCount: 0,
  });
  assert.throws(() => readSnapshot(bytes, abi), native);
});

test("roles are told as the guide prints them", () => {
  assert.deepEqual(Object.values(RcmRole).map(roleText), [
    "Separate",
    "Init",
    "Sync",
    "Inactive",
    "Active",
    "Single",
  ]);
});

test("latencies are there where they are measured, each figure from its field", () => {
  const ack = numbered(layouts.LatencyStats, 100);
  const deliver = numbered(layouts.LatencyStats, 200);
  const bytes = snapshotBytes(
    { txCount: 2 },
    ["TxStats", { transportId: 1 }],
    ["LatencyStats", ack],
    ["TxStats", { transportId: 2 }],
    ["LatencyStats", {}],
    ["DeliverStats", {}],
    ["LatencyStats", deliver],
  );
  const [ctx] = answer([context({ snapshot: readSnapshot(bytes, abi) })]).ctxs;
  const figures = (stats: Record<string, number>) => ({
    Samples: stats["kept"],
    Total: stats["total"],
    MinNano: stats["minNs"],
    P50Nano: stats["p50Ns"],
    P90Nano: stats["p90Ns"],
    P99Nano: stats["p99Ns"],
    P999Nano: stats["p999Ns"],
    MaxNano: stats["maxNs"],
  });
  assert.deepEqual(ctx?.txs[0]?.[0]?.["AckLatency"], figures(ack));
  assert.ok(!("AckLatency" in ctx!.txs[0]![1]!), "it is not measured");
  const tier = ctx?.["Tier"] as { Deliver: Record<string, unknown> };
  assert.deepEqual(tier.Deliver["DeliverLatency"], figures(deliver));
});
