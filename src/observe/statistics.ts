/**
 * `RcmFactory.getStatistics` (guide 9.13.4): requests, and the JSON of a native snapshot.
 *
 * The snapshot's structs are described in `native/src/stats/snapshot.zig`. Field names are the
 * guide's as printed, `MsgNoAacked` too; `IsMandatoryAcker` is right (one line of the guide has it
 * misspelt). Behind the guide's fields of an object come this library's own.
 */

import { RcmRole } from "../enums.ts";
import { RcmError } from "../errors.ts";
import { logTextOf } from "./log_texts.ts";
import { readStruct, type StructLayout, type StructValues } from "./structs.ts";
import { errorName } from "./system_error.ts";

type HeaderField =
  | "hasTier"
  | "totalBytes"
  | "contextId"
  | "txCount"
  | "rxCount"
  | "role"
  | "lastErrno"
  | "lastErrorKey"
  | "lastErrorMs"
  | "nowMs"
  | "datagramsSent"
  | "bytesSent"
  | "datagramsReceived"
  | "bytesReceived"
  | "droppedBadMagic"
  | "droppedBadLength"
  | "droppedBadCheck"
  | "droppedOtherCluster"
  | "droppedUnknownType"
  | "droppedUnknownStream"
  | "droppedBadToken"
  | "droppedOutOfRange"
  | "droppedUnauthenticated"
  | "droppedReplayed"
  | "droppedInjected"
  | "kernelDrops"
  | "sendFailures"
  | "noticesDropped"
  | "arenaBytes"
  | "arenaUsedBytes"
  | "receiveBytes"
  | "receiveUsedBytes";

type TxField =
  | "txIndex"
  | "ackCount"
  | "transportId"
  | "phase"
  | "sendFlag"
  | "maxUdpSize"
  | "availableSpace"
  | "regularLength"
  | "firstIndex"
  | "currentIndex"
  | "firstFragNo"
  | "toSendFragNo"
  | "connectedCount"
  | "windowFull"
  | "connectionId"
  | "usedMsgNo"
  | "firstMsgNo"
  | "toSendMsgNo"
  | "currentMsgNo"
  | "lastSendMs"
  | "phaseSinceMs"
  | "lastSynMs"
  | "sendCount"
  | "bytesSent"
  | "repairCount"
  | "nakCount"
  | "heartbeatCount"
  | "wouldBlockCount"
  | "windowFullCount"
  | "repairsSuppressed"
  | "datagramsDropped"
  | "disconnectCount";

type AckField =
  | "contextId"
  | "state"
  | "ip"
  | "port"
  | "isMandatoryAcker"
  | "isConfigured"
  | "fragNo"
  | "isOutOfMemory"
  | "msgNo"
  | "highestMsgNo"
  | "lastRecvMs"
  | "ackCount"
  | "nakCount";

type RxField =
  | "stream"
  | "contextId"
  | "transportId"
  | "phase"
  | "ip"
  | "port"
  | "isMandatoryAcker"
  | "nextFragNo"
  | "maxFragNo"
  | "maxFragNoNak"
  | "gapsOpen"
  | "connectionId"
  | "nextMsgNo"
  | "nextMsgNoDeliver"
  | "msgNoAcked"
  | "maxMsgNo"
  | "maxMsgNoNak"
  | "lastRecvMs"
  | "lastAckMs"
  | "lastNakMs"
  | "lastRstMs"
  | "datagramsReceived"
  | "bytesReceived"
  | "messageCount"
  | "gapCount"
  | "nakSent"
  | "ackSent"
  | "repairCount"
  | "duplicateCount"
  | "droppedCount"
  | "outOfOrderHeld"
  | "lostCount"
  | "kernelDrops";

type DeliverField =
  | "firstMsgSqn"
  | "nextMsgSqn"
  | "nextMsgSqnDeliver"
  | "msgsDelivered"
  | "nextMsgSqnRecord"
  | "msgsRecorded"
  | "committedSqn"
  | "waitContextId"
  | "waitTransportId";

type TierSendField =
  | "ackCount"
  | "toSendFragNo"
  | "waitAckFragNo"
  | "need"
  | "toSendMsgSqn"
  | "flowControlCount"
  | "waitAckMsgSqn"
  | "lastSendMs";

type LatencyField =
  | "capacity"
  | "kept"
  | "total"
  | "minNs"
  | "p50Ns"
  | "p90Ns"
  | "p99Ns"
  | "p999Ns"
  | "maxNs";

/** Generated layouts and enums that a snapshot is read by; `src/native/abi.ts` has them all. */
export interface StatsAbi {
  readonly StatsHeader: StructLayout<HeaderField>;
  readonly TxStats: StructLayout<TxField>;
  readonly AckStats: StructLayout<AckField>;
  readonly RxStats: StructLayout<RxField>;
  readonly DeliverStats: StructLayout<DeliverField>;
  readonly LatencyStats: StructLayout<LatencyField>;
  readonly TierSendStats: StructLayout<TierSendField>;
  readonly TxPhase: Readonly<Record<string, number>>;
  readonly RxPhase: Readonly<Record<string, number>>;
  readonly AckState: Readonly<Record<string, number>>;
}

/** A snapshot, read. */
export interface Snapshot {
  readonly header: StructValues<HeaderField>;
  readonly tx: readonly {
    readonly stats: StructValues<TxField>;
    /** From `send` to the acknowledgement of everybody. */
    readonly latency: StructValues<LatencyField>;
    readonly acks: readonly StructValues<AckField>[];
  }[];
  readonly rx: readonly StructValues<RxField>[];
  readonly deliver: StructValues<DeliverField>;
  /** From a message's arrival to its handing over to the program. */
  readonly latency: StructValues<LatencyField>;
  /** Of a member of a tier; null: a single node. */
  readonly tier: {
    readonly send: StructValues<TierSendField>;
    /** One for each other member. */
    readonly acks: readonly StructValues<AckField>[];
  } | null;
}

/** A topic and partition, as configured. */
export interface StatsTransport {
  readonly topic: string;
  readonly partitionNo: number;
  readonly addrs: readonly string[];
  readonly port: number;
}

/** What the configuration and the TypeScript side know of a context. */
export interface StatsContext {
  readonly contextId: number;
  readonly context: string;
  /** For a single node the context's name. */
  readonly tierName: string;
  readonly role: RcmRole;
  /** Times that a handler refused a message. */
  readonly refusedCount: number;
  /** Undefined for a transport that the context does not have. */
  transport(transportId: number): StatsTransport | undefined;
  /** Name of a context by its id; "" when unknown. */
  contextName(contextId: number): string;
  /** Null: the context has not been started. */
  readonly snapshot: Snapshot | null;
}

/**
 * Reads what `rcm_stats` has written.
 *
 * @param bytes a whole snapshot
 * @throws RcmError `NATIVE` when it is not whole, or not of these layouts
 */
export function readSnapshot(bytes: Uint8Array, abi: StatsAbi): Snapshot {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  function next<F extends string>(layout: StructLayout<F>): StructValues<F> {
    if (at + layout.bytes > view.byteLength) {
      throw new RcmError("NATIVE", `a statistics snapshot ends after ${view.byteLength} bytes`);
    }
    const values = readStruct(view, at, layout);
    at += layout.bytes;
    return values;
  }

  const header = next(abi.StatsHeader);
  const tx: Snapshot["tx"][number][] = [];
  for (let i = 0; i < header.txCount; i += 1) {
    const stats = next(abi.TxStats);
    const latency = next(abi.LatencyStats);
    const acks: StructValues<AckField>[] = [];
    for (let k = 0; k < stats.ackCount; k += 1) acks.push(next(abi.AckStats));
    tx.push({ stats, latency, acks });
  }
  const rx: StructValues<RxField>[] = [];
  for (let i = 0; i < header.rxCount; i += 1) rx.push(next(abi.RxStats));
  const deliver = next(abi.DeliverStats);
  const latency = next(abi.LatencyStats);
  const tier = header.hasTier === 0 ? null : tierPart();
  if (at !== header.totalBytes) {
    throw new RcmError(
      "NATIVE",
      `a statistics snapshot of ${header.totalBytes} bytes was read as ${at}`,
    );
  }
  return { header, tx, rx, deliver, latency, tier };

  function tierPart(): NonNullable<Snapshot["tier"]> {
    const send = next(abi.TierSendStats);
    const acks: StructValues<AckField>[] = [];
    for (let i = 0; i < send.ackCount; i += 1) acks.push(next(abi.AckStats));
    return { send, acks };
  }
}

/** What a program asked for. */
export interface StatisticsRequest {
  /** Name of the one context that it wants; undefined: all. */
  readonly context: string | undefined;
}

/**
 * Reads the argument of `getStatistics`: nothing, `{}` or `{"Context": name}`.
 *
 * @throws RcmError `ARGUMENT` for anything else
 */
export function parseStatisticsRequest(request?: string): StatisticsRequest {
  if (request === undefined) return { context: undefined };
  let parsed: unknown;
  try {
    parsed = JSON.parse(request);
  } catch (cause) {
    throw new RcmError("ARGUMENT", `getStatistics: the request is not JSON: ${shown(request)}`, {
      cause,
    });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new RcmError(
      "ARGUMENT",
      `getStatistics: the request must be {} or {"Context": name}, it is ${shown(request)}`,
    );
  }
  for (const key of Object.keys(parsed)) {
    if (key !== "Context") {
      throw new RcmError("ARGUMENT", `getStatistics: the request knows only Context, not ${key}`);
    }
  }
  const context = (parsed as { Context?: unknown }).Context;
  if (context !== undefined && typeof context !== "string") {
    throw new RcmError(
      "ARGUMENT",
      `getStatistics: Context must be a name, it is ${shown(JSON.stringify(context))}`,
    );
  }
  return { context };
}

/**
 * The answer of `getStatistics`.
 *
 * @param request of {@linkcode parseStatisticsRequest}
 * @param contexts all contexts of the factory
 * @returns JSON text; a context that there is not gives empty `ctxs`
 */
export function statisticsText(
  request: StatisticsRequest,
  contexts: readonly StatsContext[],
  abi: StatsAbi,
): string {
  const wanted = contexts.filter((c) =>
    request.context === undefined || c.context === request.context
  );
  return JSON.stringify({ ctxs: wanted.map((c) => contextJson(c, abi)) });
}

/** One entry of `ctxs`. */
export function contextJson(c: StatsContext, abi: StatsAbi): object {
  const { snapshot } = c;
  return {
    ContextId: c.contextId,
    Context: c.context,
    txs: snapshot === null ? [] : transmittersJson(c, snapshot, abi),
    rx: { Rms: snapshot === null ? [] : snapshot.rx.map((r) => rxJson(c, r, abi)) },
    Tier: { Deliver: deliverJson(c, snapshot), ...tierSendJson(c, snapshot, abi) },
    RefusedCount: c.refusedCount,
    LastError: snapshot === null ? null : lastErrorJson(snapshot.header),
    ...(snapshot === null ? {} : contextCountersJson(snapshot.header)),
  };
}

/** One array a transmitter with one object a partition. */
function transmittersJson(c: StatsContext, snapshot: Snapshot, abi: StatsAbi): object[][] {
  const transmitters = new Map<number, object[]>();
  for (const { stats, latency, acks } of snapshot.tx) {
    const partitions = transmitters.get(stats.txIndex) ?? [];
    transmitters.set(stats.txIndex, partitions);
    partitions.push({ ...txJson(c, stats, acks, abi), ...latencyJson("AckLatency", latency) });
  }
  return [...transmitters].sort(([a], [b]) => a - b).map(([, partitions]) => partitions);
}

function txJson(
  c: StatsContext,
  tx: StructValues<TxField>,
  acks: readonly StructValues<AckField>[],
  abi: StatsAbi,
): object {
  const transport = c.transport(tx.transportId);
  return {
    Addr: transport?.addrs.join(",") ?? "",
    Port: transport?.port ?? 0,
    MaxUdpSize: tx.maxUdpSize,
    AvailableSpace: tx.availableSpace,
    RegularLength: tx.regularLength,
    SendFlag: tx.sendFlag !== 0,
    TransportId: tx.transportId,
    TopicName: transport?.topic ?? "",
    PartitionNo: transport?.partitionNo ?? 0,
    SendCount: tx.sendCount,
    LastSendMilli: tx.lastSendMs,
    CurPhaseTickMilli: tx.phaseSinceMs,
    LastSendSynTickMilli: tx.lastSynMs,
    ConnectionId: low32(tx.connectionId),
    Phase: capitalized(nameOf(abi.TxPhase, tx.phase)),
    Role: roleText(c.role),
    UsedMsgNo: tx.usedMsgNo,
    FirstIndex: tx.firstIndex,
    FirstMsgNo: tx.firstMsgNo,
    FirstFragNo: tx.firstFragNo,
    ToSendMsgNo: tx.toSendMsgNo,
    ToSendFragNo: tx.toSendFragNo,
    CurrentMsgNo: tx.currentMsgNo,
    CurrentIndex: tx.currentIndex,
    Ack: acks.filter((a) => a.isConfigured !== 0).map((a) => ackJson(c, a, abi)),
    // The guide's list is the configured receivers; who else has come stands here.
    OtherReceivers: acks.filter((a) => a.isConfigured === 0).map((a) => ackJson(c, a, abi)),
    ConnectedCount: tx.connectedCount,
    WindowFull: tx.windowFull !== 0,
    BytesSent: tx.bytesSent,
    RepairCount: tx.repairCount,
    NakCount: tx.nakCount,
    HeartbeatCount: tx.heartbeatCount,
    WouldBlockCount: tx.wouldBlockCount,
    WindowFullCount: tx.windowFullCount,
    RepairsSuppressed: tx.repairsSuppressed,
    DatagramsDropped: tx.datagramsDropped,
    DisconnectCount: tx.disconnectCount,
  };
}

function ackJson(c: StatsContext, ack: StructValues<AckField>, abi: StatsAbi): object {
  return {
    ContextId: ack.contextId,
    Address: addressText(ack.ip, ack.port),
    MsgNo: ack.msgNo,
    FragNo: ack.fragNo,
    LastRecvMilli: ack.lastRecvMs,
    AckCount: ack.ackCount,
    NakCount: ack.nakCount,
    Status: nameOf(abi.AckState, ack.state),
    IsMandatoryAcker: ack.isMandatoryAcker !== 0,
    Context: c.contextName(ack.contextId),
    HighestMsgNo: ack.highestMsgNo,
    IsOutOfMemory: ack.isOutOfMemory !== 0,
  };
}

function rxJson(c: StatsContext, rx: StructValues<RxField>, abi: StatsAbi): object {
  const transport = c.transport(rx.transportId);
  return {
    ContextId: rx.contextId,
    LastRecvMilli: rx.lastRecvMs,
    ConnectionId: low32(rx.connectionId),
    LastRstTickMilli: rx.lastRstMs,
    TransportId: rx.transportId,
    TopicName: transport?.topic ?? "",
    PartitionNo: transport?.partitionNo ?? 0,
    NextMsgNo: rx.nextMsgNo,
    NextMsgNoDeliver: rx.nextMsgNoDeliver,
    MsgNoAacked: rx.msgNoAcked,
    MaxMsgNo: rx.maxMsgNo,
    MaxFragNo: rx.maxFragNo,
    NextFragNo: rx.nextFragNo,
    MaxMsgNoNak: rx.maxMsgNoNak,
    MaxFragNoNak: rx.maxFragNoNak,
    LastAckMilli: rx.lastAckMs,
    LastNakMilli: rx.lastNakMs,
    RmsPhase: capitalized(nameOf(abi.RxPhase, rx.phase)),
    Context: c.contextName(rx.contextId),
    Address: addressText(rx.ip, rx.port),
    IsMandatoryAcker: rx.isMandatoryAcker !== 0,
    StreamId: rx.stream,
    GapsOpen: rx.gapsOpen,
    DatagramsReceived: rx.datagramsReceived,
    BytesReceived: rx.bytesReceived,
    MessageCount: rx.messageCount,
    GapCount: rx.gapCount,
    NakSent: rx.nakSent,
    AckSent: rx.ackSent,
    RepairCount: rx.repairCount,
    DuplicateCount: rx.duplicateCount,
    DroppedCount: rx.droppedCount,
    OutOfOrderHeld: rx.outOfOrderHeld,
    LostCount: rx.lostCount,
    KernelDrops: rx.kernelDrops,
  };
}

function deliverJson(c: StatsContext, snapshot: Snapshot | null): object {
  const deliver = snapshot?.deliver;
  return {
    TierName: c.tierName,
    Role: roleText(c.role),
    FirstMsgSqn: deliver?.firstMsgSqn ?? 0,
    NextMsgSqn: deliver?.nextMsgSqn ?? 0,
    NextMsgSqnDeliver: deliver?.nextMsgSqnDeliver ?? 0,
    MsgsDelivered: deliver?.msgsDelivered ?? 0,
    NextMsgSqnRecord: deliver?.nextMsgSqnRecord ?? 0,
    MsgsRecorded: deliver?.msgsRecorded ?? 0,
    WaitContextId: deliver?.waitContextId ?? 0,
    WaitTransportId: deliver?.waitTransportId ?? 0,
    CommittedSqn: deliver?.committedSqn ?? 0,
    ...(snapshot === null ? {} : latencyJson("DeliverLatency", snapshot.latency)),
  };
}

/** Of a member of a tier: what it tells the others, and how far they are. */
function tierSendJson(c: StatsContext, snapshot: Snapshot | null, abi: StatsAbi): object {
  const tier = snapshot?.tier;
  if (tier === undefined || tier === null) return {};
  const { send, acks } = tier;
  return {
    Send: {
      ToSendMsgSqn: send.toSendMsgSqn,
      ToSendFragNo: send.toSendFragNo,
      FlowControlCount: send.flowControlCount,
      WaitAckMsgSqn: send.waitAckMsgSqn,
      WaitAckFragNo: send.waitAckFragNo,
      LastSendTickMilli: send.lastSendMs,
      Need: send.need,
      Ack: acks.map((ack) => ackJson(c, ack, abi)),
    },
  };
}

/** Only with `LatencyStatisticCount`. Nanoseconds, to 3 %; 0 while there are no samples. */
function latencyJson(name: string, latency: StructValues<LatencyField>): object {
  if (latency.capacity === 0) return {};
  return {
    [name]: {
      Samples: latency.kept,
      Total: latency.total,
      MinNano: latency.minNs,
      P50Nano: latency.p50Ns,
      P90Nano: latency.p90Ns,
      P99Nano: latency.p99Ns,
      P999Nano: latency.p999Ns,
      MaxNano: latency.maxNs,
    },
  };
}

/** Null: no failure yet. */
function lastErrorJson(header: StructValues<HeaderField>): object | null {
  if (header.lastErrorKey === 0 && header.lastErrno === 0) return null;
  return {
    Key: header.lastErrorKey,
    Name: logTextOf(header.lastErrorKey)?.name ?? "",
    Milli: header.lastErrorMs,
    Errno: header.lastErrno === 0 ? "" : errorName(header.lastErrno),
  };
}

function contextCountersJson(header: StructValues<HeaderField>): object {
  return {
    NowMilli: header.nowMs,
    DatagramsSent: header.datagramsSent,
    BytesSent: header.bytesSent,
    DatagramsReceived: header.datagramsReceived,
    BytesReceived: header.bytesReceived,
    Dropped: {
      BadMagic: header.droppedBadMagic,
      BadLength: header.droppedBadLength,
      BadCheck: header.droppedBadCheck,
      OtherCluster: header.droppedOtherCluster,
      UnknownType: header.droppedUnknownType,
      UnknownStream: header.droppedUnknownStream,
      BadToken: header.droppedBadToken,
      OutOfRange: header.droppedOutOfRange,
      Unauthenticated: header.droppedUnauthenticated,
      Replayed: header.droppedReplayed,
      Injected: header.droppedInjected,
    },
    KernelDrops: header.kernelDrops,
    SendFailures: header.sendFailures,
    NoticesDropped: header.noticesDropped,
    ArenaBytes: header.arenaBytes,
    ArenaUsedBytes: header.arenaUsedBytes,
    ReceiveBytes: header.receiveBytes,
    ReceiveUsedBytes: header.receiveUsedBytes,
  };
}

/** A role as the guide prints it: "Single", "Active", ... */
export function roleText(role: number): string {
  return capitalized(nameOf(RcmRole, role));
}

function nameOf(names: Readonly<Record<string, number>>, number: number): string {
  for (const [name, value] of Object.entries(names)) {
    if (value === number) return name;
  }
  return String(number);
}

/** "STARTED" becomes "Started". */
function capitalized(name: string): string {
  return name.charAt(0) + name.slice(1).toLowerCase();
}

/**
 * @param ip four bytes in written order, read as a little-endian number
 * @returns "" while the address is unknown
 */
function addressText(ip: number, port: number): string {
  if (ip === 0) return "";
  return `${ip & 255}.${(ip >>> 8) & 255}.${(ip >>> 16) & 255}.${ip >>> 24}:${port}`;
}

function low32(connection: number): number {
  return connection % 2 ** 32;
}

/** A piece of text that is short enough for a message. */
function shown(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 60)}...`;
}
