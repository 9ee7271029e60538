/**
 * What both languages see, made from `native/src/abi.zig` by `deno task build`.
 *
 * A struct is its size in bytes and its fields: byte offset, type, and how many there are
 * where it is an array.
 *
 * Long because it is generated.
 */

/** Compared with the library's own at load. */
export const ABI_HASH = 0xca8e79f1;

/** Bounds and versions. */
export const constants = {
  abiVersion: 5,
  descriptorBatch: 1024,
  recordHeaderBytes: 40,
  messageBytesMax: 1073741824,
  threadNoMax: 63,
  transmittersMax: 256,
  countersPageOffset: 512,
  countersFileKind: 6,
  fileVersion: 2,
  recordVersion: 2,
  recordBlockBytes: 524288,
  recordBlockHeaderBytes: 64,
  recordTableOffset: 4096,
  recordEntriesMax: 2032,
} as const;

export const Status = {
  OK: 0,
  WOULD_BLOCK: 1,
  TOO_LARGE: 2,
  NO_MEMORY: 3,
  NOT_STARTED: 4,
  STOPPED: 5,
  BAD_PARTITION: 6,
  BAD_ARGUMENT: 7,
  NOT_LEADER: 8,
} as const;
export type Status = (typeof Status)[keyof typeof Status];

export const ErrorCode = {
  CONFIG: 1,
  ARGUMENT: 2,
  STATE: 3,
  NATIVE: 4,
  SOCKET: 5,
  SHM: 6,
  ARBITRATION: 7,
  RECORD: 8,
  TIMEOUT: 9,
  UNSUPPORTED: 10,
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

export const EventType = {
  MESSAGE_LOSS: 1,
  OUT_OF_SYNC: 2,
  HEARTBEAT_TIMEOUT: 3,
  NO_TRANSMITTER: 4,
  NO_RECEIVER: 5,
  NEW_TRANSMITTER: 6,
  NEW_RECEIVER: 7,
  FILL_GAP: 8,
  RECEIVER_LATE_JOIN: 9,
  TIER_RECEIVER_DOWN: 10,
} as const;
export type EventType = (typeof EventType)[keyof typeof EventType];

export const LogLevel = {
  DEBUG: 0,
  INFO: 1,
  WARN: 2,
  ERR: 3,
  IMP: 4,
  FATAL: 5,
} as const;
export type LogLevel = (typeof LogLevel)[keyof typeof LogLevel];

export const LogKey = {
  SESSION_AGREED_TX: 20060,
  RECEIVER_DISCONNECTED: 20061,
  SENDER_WIPED: 20062,
  HANDSHAKE_TIMEOUT: 20063,
  SLOW_RECEIVER_DISCONNECTED: 20064,
  WINDOW_RECOVERED: 20065,
  DRAIN_INCOMPLETE: 20066,
  RECEIVER_LIMIT: 20067,
  SESSION_AGREED_RX: 21060,
  SENDER_WIPED_RX: 21061,
  HEARTBEAT_TIMEOUT: 21062,
  MESSAGE_LOSS: 21063,
  TRANSMITTER_CLOSED: 21064,
  RECEIVE_MEMORY_FULL: 21065,
  MESSAGE_OVER_MEMORY: 21066,
  GAP_GIVEN_UP: 21067,
  STREAM_LIMIT: 21068,
  RECORD_RECOVERED: 21069,
  RECORD_CUT: 21070,
  RECORD_HEAD_DAMAGED: 21071,
  RECORD_STOPPED: 21072,
  TIER_ESTABLISHED: 22101,
  TIER_QUORUM: 22102,
  TIER_SINGLE: 22103,
  TIER_NO_QUORUM: 22104,
  TIER_OTHER_CONFIGURATION: 22105,
  TIER_DISK_FAILED: 22106,
  TIER_SEPARATE: 22107,
  TIER_FORCED: 22108,
  TIER_TREE_WIPED: 22109,
  TIER_UNSAFE_POLICY: 22110,
  TIER_UNHEARD: 22111,
  TIER_LEADER_SILENT: 22112,
  TIER_UNAUTHENTICATED: 22113,
  GSO_UNAVAILABLE: 22001,
  GRO_UNAVAILABLE: 22002,
  RECEIVE_BUFFER_SMALL: 22003,
  SEND_FAILED: 22004,
  KERNEL_DROPS: 22005,
  BIND_CORE_FAILED: 22006,
  INJECTOR_ON: 22007,
  AGENT_FAILED: 22008,
} as const;
export type LogKey = (typeof LogKey)[keyof typeof LogKey];

export const NoticeKind = {
  EVENT: 1,
  LOG: 2,
  ROLE: 3,
} as const;
export type NoticeKind = (typeof NoticeKind)[keyof typeof NoticeKind];

export const Region = {
  DESCRIPTORS: 0,
  RECEIVE_LOG: 1,
  ARENA: 2,
  SHARED: 16,
} as const;
export type Region = (typeof Region)[keyof typeof Region];

export const ContextState = {
  HANDSHAKING: 1,
  DRAINING: 2,
  DRAINED: 4,
  VISITED: 8,
} as const;
export type ContextState = (typeof ContextState)[keyof typeof ContextState];

export const TxPhase = {
  INIT: 0,
  HANDSHAKE: 1,
  STARTED: 2,
  DRAINING: 3,
  CLOSED: 4,
  FOLLOWER: 5,
} as const;
export type TxPhase = (typeof TxPhase)[keyof typeof TxPhase];

export const RxPhase = {
  INIT: 0,
  HANDSHAKE: 1,
  STARTED: 2,
  SILENT: 3,
  CLOSED: 4,
} as const;
export type RxPhase = (typeof RxPhase)[keyof typeof RxPhase];

export const AckState = {
  DISCONNECT: 0,
  CONNECTED: 1,
} as const;
export type AckState = (typeof AckState)[keyof typeof AckState];

export const ArbiterOp = {
  CONNECT: 1,
  CREATE: 2,
  REMOVE: 3,
  SET: 4,
  GET: 5,
  EXISTS: 6,
  CHILDREN: 7,
  MULTI: 8,
  SYNC: 9,
  CHECK: 10,
  KEEP: 11,
  HOLD: 12,
  BEAT: 13,
} as const;
export type ArbiterOp = (typeof ArbiterOp)[keyof typeof ArbiterOp];

export const ArbiterFlag = {
  EPHEMERAL: 1,
  WATCH: 2,
  PRIVATE: 4,
  MINE: 8,
} as const;
export type ArbiterFlag = (typeof ArbiterFlag)[keyof typeof ArbiterFlag];

export const ArbiterEventKind = {
  ANSWER: 1,
  WATCH: 2,
  SESSION: 3,
  WATCHDOG: 4,
  ENDED: 5,
} as const;
export type ArbiterEventKind = (typeof ArbiterEventKind)[keyof typeof ArbiterEventKind];

export const CountersSectionKind = {
  TX: 1,
  RX: 2,
  STREAMS: 3,
} as const;
export type CountersSectionKind = (typeof CountersSectionKind)[keyof typeof CountersSectionKind];

export const Descriptor = {
  bytes: 32,
  fields: {
    offset8: { offset: 0, type: "u32" },
    length: { offset: 4, type: "u32" },
    stream: { offset: 8, type: "u32" },
    args: { offset: 12, type: "u32" },
    sqn: { offset: 16, type: "f64" },
    header8: { offset: 24, type: "u32" },
    region: { offset: 28, type: "u32" },
  },
} as const;

export const RecordHeader = {
  bytes: 40,
  fields: {
    length: { offset: 0, type: "u32" },
    check: { offset: 4, type: "u32" },
    sqn: { offset: 8, type: "u64" },
    msgNo: { offset: 16, type: "u64" },
    timeMs: { offset: 24, type: "u64" },
    stream: { offset: 32, type: "u32" },
    msgArg: { offset: 36, type: "u16" },
    txArg: { offset: 38, type: "u16" },
  },
} as const;

export const Notice = {
  bytes: 128,
  fields: {
    kind: { offset: 0, type: "u32" },
    code: { offset: 4, type: "u32" },
    level: { offset: 8, type: "u32" },
    transportId: { offset: 12, type: "u32" },
    args: { offset: 16, type: "f64", count: 4 },
    nameLen: { offset: 48, type: "u32" },
    pad: { offset: 52, type: "u32" },
    name: { offset: 56, type: "u8", count: 64 },
    reserved: { offset: 120, type: "u64" },
  },
} as const;

export const StreamInfo = {
  bytes: 80,
  fields: {
    transportId: { offset: 0, type: "u32" },
    contextId: { offset: 4, type: "u32" },
    nameLen: { offset: 8, type: "u32" },
    pad: { offset: 12, type: "u32" },
    name: { offset: 16, type: "u8", count: 64 },
  },
} as const;

export const TierView = {
  bytes: 88,
  fields: {
    serial: { offset: 0, type: "u32" },
    session: { offset: 4, type: "u32" },
    masterVersion: { offset: 8, type: "i32" },
    candidate: { offset: 12, type: "u32" },
    epoch: { offset: 16, type: "u8", count: 16 },
    establishedEpoch: { offset: 32, type: "u8", count: 16 },
    establishedLeader: { offset: 48, type: "u32" },
    running: { offset: 52, type: "u32" },
    established: { offset: 56, type: "u8", count: 16 },
    present: { offset: 72, type: "u64" },
    forced: { offset: 80, type: "u32" },
    pad: { offset: 84, type: "u32" },
  },
} as const;

export const TierCommand = {
  bytes: 48,
  fields: {
    kind: { offset: 0, type: "u32" },
    serial: { offset: 4, type: "u32" },
    version: { offset: 8, type: "i32" },
    leader: { offset: 12, type: "u32" },
    epoch: { offset: 16, type: "u8", count: 16 },
    quorum: { offset: 32, type: "u8", count: 16 },
  },
} as const;

export const TierAnswer = {
  bytes: 16,
  fields: {
    serial: { offset: 0, type: "u32" },
    outcome: { offset: 4, type: "u32" },
    version: { offset: 8, type: "i32" },
    pad: { offset: 12, type: "u32" },
  },
} as const;

export const TierState = {
  bytes: 96,
  fields: {
    role: { offset: 0, type: "u32" },
    started: { offset: 4, type: "u32" },
    failure: { offset: 8, type: "u32" },
    hasCommand: { offset: 12, type: "u32" },
    epochNumber: { offset: 16, type: "u64" },
    epochId: { offset: 24, type: "u64" },
    adoptedNumber: { offset: 32, type: "u64" },
    adoptedId: { offset: 40, type: "u64" },
    next: { offset: 48, type: "u64" },
    committed: { offset: 56, type: "u64" },
    leaderId: { offset: 64, type: "u32" },
    isIntact: { offset: 68, type: "u32" },
    ip: { offset: 72, type: "u32" },
    port: { offset: 76, type: "u32" },
    separateFrom: { offset: 80, type: "u64" },
    separateTo: { offset: 88, type: "u64" },
  },
} as const;

export const StatsHeader = {
  bytes: 224,
  fields: {
    totalBytes: { offset: 0, type: "u32" },
    contextId: { offset: 4, type: "u32" },
    txCount: { offset: 8, type: "u32" },
    rxCount: { offset: 12, type: "u32" },
    role: { offset: 16, type: "u32" },
    lastErrno: { offset: 20, type: "u32" },
    lastErrorKey: { offset: 24, type: "u32" },
    hasTier: { offset: 28, type: "u32" },
    lastErrorMs: { offset: 32, type: "u64" },
    nowMs: { offset: 40, type: "u64" },
    datagramsSent: { offset: 48, type: "u64" },
    bytesSent: { offset: 56, type: "u64" },
    datagramsReceived: { offset: 64, type: "u64" },
    bytesReceived: { offset: 72, type: "u64" },
    droppedBadMagic: { offset: 80, type: "u64" },
    droppedBadLength: { offset: 88, type: "u64" },
    droppedBadCheck: { offset: 96, type: "u64" },
    droppedOtherCluster: { offset: 104, type: "u64" },
    droppedUnknownType: { offset: 112, type: "u64" },
    droppedUnknownStream: { offset: 120, type: "u64" },
    droppedBadToken: { offset: 128, type: "u64" },
    droppedOutOfRange: { offset: 136, type: "u64" },
    droppedUnauthenticated: { offset: 144, type: "u64" },
    droppedReplayed: { offset: 152, type: "u64" },
    droppedInjected: { offset: 160, type: "u64" },
    kernelDrops: { offset: 168, type: "u64" },
    sendFailures: { offset: 176, type: "u64" },
    noticesDropped: { offset: 184, type: "u64" },
    arenaBytes: { offset: 192, type: "u64" },
    arenaUsedBytes: { offset: 200, type: "u64" },
    receiveBytes: { offset: 208, type: "u64" },
    receiveUsedBytes: { offset: 216, type: "u64" },
  },
} as const;

export const TxStats = {
  bytes: 200,
  fields: {
    txIndex: { offset: 0, type: "u32" },
    ackCount: { offset: 4, type: "u32" },
    transportId: { offset: 8, type: "u32" },
    phase: { offset: 12, type: "u32" },
    sendFlag: { offset: 16, type: "u32" },
    maxUdpSize: { offset: 20, type: "u32" },
    availableSpace: { offset: 24, type: "u32" },
    regularLength: { offset: 28, type: "u32" },
    firstIndex: { offset: 32, type: "u32" },
    currentIndex: { offset: 36, type: "u32" },
    firstFragNo: { offset: 40, type: "u32" },
    toSendFragNo: { offset: 44, type: "u32" },
    connectedCount: { offset: 48, type: "u32" },
    windowFull: { offset: 52, type: "u32" },
    connectionId: { offset: 56, type: "u64" },
    usedMsgNo: { offset: 64, type: "u64" },
    firstMsgNo: { offset: 72, type: "u64" },
    toSendMsgNo: { offset: 80, type: "u64" },
    currentMsgNo: { offset: 88, type: "u64" },
    lastSendMs: { offset: 96, type: "u64" },
    phaseSinceMs: { offset: 104, type: "u64" },
    lastSynMs: { offset: 112, type: "u64" },
    sendCount: { offset: 120, type: "u64" },
    bytesSent: { offset: 128, type: "u64" },
    repairCount: { offset: 136, type: "u64" },
    nakCount: { offset: 144, type: "u64" },
    heartbeatCount: { offset: 152, type: "u64" },
    wouldBlockCount: { offset: 160, type: "u64" },
    windowFullCount: { offset: 168, type: "u64" },
    repairsSuppressed: { offset: 176, type: "u64" },
    datagramsDropped: { offset: 184, type: "u64" },
    disconnectCount: { offset: 192, type: "u64" },
  },
} as const;

export const AckStats = {
  bytes: 72,
  fields: {
    contextId: { offset: 0, type: "u32" },
    state: { offset: 4, type: "u32" },
    ip: { offset: 8, type: "u32" },
    port: { offset: 12, type: "u16" },
    isMandatoryAcker: { offset: 14, type: "u16" },
    isConfigured: { offset: 16, type: "u32" },
    fragNo: { offset: 20, type: "u32" },
    isOutOfMemory: { offset: 24, type: "u32" },
    pad: { offset: 28, type: "u32" },
    msgNo: { offset: 32, type: "u64" },
    highestMsgNo: { offset: 40, type: "u64" },
    lastRecvMs: { offset: 48, type: "u64" },
    ackCount: { offset: 56, type: "u64" },
    nakCount: { offset: 64, type: "u64" },
  },
} as const;

export const RxStats = {
  bytes: 216,
  fields: {
    stream: { offset: 0, type: "u32" },
    contextId: { offset: 4, type: "u32" },
    transportId: { offset: 8, type: "u32" },
    phase: { offset: 12, type: "u32" },
    ip: { offset: 16, type: "u32" },
    port: { offset: 20, type: "u16" },
    isMandatoryAcker: { offset: 22, type: "u16" },
    nextFragNo: { offset: 24, type: "u32" },
    maxFragNo: { offset: 28, type: "u32" },
    maxFragNoNak: { offset: 32, type: "u32" },
    gapsOpen: { offset: 36, type: "u32" },
    connectionId: { offset: 40, type: "u64" },
    nextMsgNo: { offset: 48, type: "u64" },
    nextMsgNoDeliver: { offset: 56, type: "u64" },
    msgNoAcked: { offset: 64, type: "u64" },
    maxMsgNo: { offset: 72, type: "u64" },
    maxMsgNoNak: { offset: 80, type: "u64" },
    lastRecvMs: { offset: 88, type: "u64" },
    lastAckMs: { offset: 96, type: "u64" },
    lastNakMs: { offset: 104, type: "u64" },
    lastRstMs: { offset: 112, type: "u64" },
    datagramsReceived: { offset: 120, type: "u64" },
    bytesReceived: { offset: 128, type: "u64" },
    messageCount: { offset: 136, type: "u64" },
    gapCount: { offset: 144, type: "u64" },
    nakSent: { offset: 152, type: "u64" },
    ackSent: { offset: 160, type: "u64" },
    repairCount: { offset: 168, type: "u64" },
    duplicateCount: { offset: 176, type: "u64" },
    droppedCount: { offset: 184, type: "u64" },
    outOfOrderHeld: { offset: 192, type: "u64" },
    lostCount: { offset: 200, type: "u64" },
    kernelDrops: { offset: 208, type: "u64" },
  },
} as const;

export const DeliverStats = {
  bytes: 64,
  fields: {
    firstMsgSqn: { offset: 0, type: "u64" },
    nextMsgSqn: { offset: 8, type: "u64" },
    nextMsgSqnDeliver: { offset: 16, type: "u64" },
    msgsDelivered: { offset: 24, type: "u64" },
    nextMsgSqnRecord: { offset: 32, type: "u64" },
    msgsRecorded: { offset: 40, type: "u64" },
    committedSqn: { offset: 48, type: "u64" },
    waitContextId: { offset: 56, type: "u32" },
    waitTransportId: { offset: 60, type: "u32" },
  },
} as const;

export const TierSendStats = {
  bytes: 48,
  fields: {
    ackCount: { offset: 0, type: "u32" },
    toSendFragNo: { offset: 4, type: "u32" },
    waitAckFragNo: { offset: 8, type: "u32" },
    need: { offset: 12, type: "u32" },
    toSendMsgSqn: { offset: 16, type: "u64" },
    flowControlCount: { offset: 24, type: "u64" },
    waitAckMsgSqn: { offset: 32, type: "u64" },
    lastSendMs: { offset: 40, type: "u64" },
  },
} as const;

export const ArbiterRequest = {
  bytes: 32,
  fields: {
    bytes: { offset: 0, type: "u32" },
    op: { offset: 4, type: "u32" },
    id: { offset: 8, type: "u32" },
    version: { offset: 12, type: "i32" },
    flags: { offset: 16, type: "u32" },
    pathLen: { offset: 20, type: "u32" },
    dataLen: { offset: 24, type: "u32" },
    count: { offset: 28, type: "u32" },
  },
} as const;

export const ArbiterEvent = {
  bytes: 32,
  fields: {
    bytes: { offset: 0, type: "u32" },
    kind: { offset: 4, type: "u32" },
    id: { offset: 8, type: "u32" },
    code: { offset: 12, type: "i32" },
    session: { offset: 16, type: "u32" },
    version: { offset: 20, type: "i32" },
    flags: { offset: 24, type: "u32" },
    dataLen: { offset: 28, type: "u32" },
  },
} as const;

export const ArbiterLease = {
  bytes: 24,
  fields: {
    leftMs: { offset: 0, type: "f64" },
    timeoutMs: { offset: 8, type: "f64" },
    holding: { offset: 16, type: "u32" },
    beats: { offset: 20, type: "u32" },
  },
} as const;

export const LatencyStats = {
  bytes: 72,
  fields: {
    capacity: { offset: 0, type: "u64" },
    kept: { offset: 8, type: "u64" },
    total: { offset: 16, type: "u64" },
    minNs: { offset: 24, type: "u64" },
    p50Ns: { offset: 32, type: "u64" },
    p90Ns: { offset: 40, type: "u64" },
    p99Ns: { offset: 48, type: "u64" },
    p999Ns: { offset: 56, type: "u64" },
    maxNs: { offset: 64, type: "u64" },
  },
} as const;

export const FileHeader = {
  bytes: 264,
  fields: {
    magic: { offset: 0, type: "u64" },
    version: { offset: 8, type: "u32" },
    layoutHash: { offset: 12, type: "u32" },
    kind: { offset: 16, type: "u32" },
    headerBytes: { offset: 20, type: "u32" },
    bodyBytes: { offset: 24, type: "u64" },
    arenaBytes: { offset: 32, type: "u64" },
    chunkBytes: { offset: 40, type: "u32" },
    nodeCount: { offset: 44, type: "u32" },
    partition: { offset: 48, type: "u32" },
    contextBytes: { offset: 52, type: "u16" },
    topicBytes: { offset: 54, type: "u16" },
    context: { offset: 56, type: "u8", count: 64 },
    topic: { offset: 120, type: "u8", count: 128 },
    reserved: { offset: 248, type: "u64" },
    check: { offset: 256, type: "u32" },
    pid: { offset: 260, type: "u32" },
  },
} as const;

export const CountersPage = {
  bytes: 40,
  fields: {
    abiHash: { offset: 0, type: "u32" },
    contextId: { offset: 4, type: "u32" },
    intervalMs: { offset: 8, type: "u32" },
    sectionCount: { offset: 12, type: "u32" },
    textOffset: { offset: 16, type: "u32" },
    textBytes: { offset: 20, type: "u32" },
    sectionsOffset: { offset: 24, type: "u32" },
    pad: { offset: 28, type: "u32" },
    startedMs: { offset: 32, type: "u64" },
  },
} as const;

export const CountersSection = {
  bytes: 32,
  fields: {
    sequence: { offset: 0, type: "u64" },
    stampMs: { offset: 8, type: "u64" },
    capacity: { offset: 16, type: "u32" },
    bytes: { offset: 20, type: "u32" },
    kind: { offset: 24, type: "u32" },
    index: { offset: 28, type: "u32" },
  },
} as const;

export const RecordFileHeader = {
  bytes: 264,
  fields: {
    magic: { offset: 0, type: "u64" },
    version: { offset: 8, type: "u32" },
    layoutHash: { offset: 12, type: "u32" },
    fileNo: { offset: 16, type: "u32" },
    blockBytes: { offset: 20, type: "u32" },
    blockCount: { offset: 24, type: "u32" },
    contextId: { offset: 28, type: "u32" },
    baseSqn: { offset: 32, type: "u64" },
    life: { offset: 40, type: "u64" },
    reservedEpoch: { offset: 48, type: "u8", count: 16 },
    contextBytes: { offset: 64, type: "u32" },
    reserved: { offset: 68, type: "u32" },
    context: { offset: 72, type: "u8", count: 64 },
    zeros: { offset: 136, type: "u8", count: 120 },
    check: { offset: 256, type: "u32" },
    pid: { offset: 260, type: "u32" },
  },
} as const;

export const RecordStreamEntry = {
  bytes: 256,
  fields: {
    check: { offset: 0, type: "u32" },
    id: { offset: 4, type: "u32" },
    connection: { offset: 8, type: "u64" },
    firstSqn: { offset: 16, type: "u64" },
    source: { offset: 24, type: "u16" },
    transport: { offset: 26, type: "u16" },
    partition: { offset: 28, type: "u16" },
    txArg: { offset: 30, type: "u16" },
    isTier: { offset: 32, type: "u8" },
    nameBytes: { offset: 33, type: "u8" },
    topicBytes: { offset: 34, type: "u8" },
    pad: { offset: 35, type: "u8" },
    reserved: { offset: 36, type: "u32" },
    name: { offset: 40, type: "u8", count: 64 },
    topic: { offset: 104, type: "u8", count: 128 },
    zeros: { offset: 232, type: "u8", count: 24 },
  },
} as const;

export const RecordBlockHeader = {
  bytes: 64,
  fields: {
    magic: { offset: 0, type: "u64" },
    kind: { offset: 8, type: "u32" },
    blocks: { offset: 12, type: "u32" },
    fileNo: { offset: 16, type: "u32" },
    block: { offset: 20, type: "u32" },
    baseSqn: { offset: 24, type: "u64" },
    life: { offset: 32, type: "u64" },
    epochNumber: { offset: 40, type: "u64" },
    epochId: { offset: 48, type: "u64" },
    zeros: { offset: 56, type: "u8", count: 4 },
    check: { offset: 60, type: "u32" },
  },
} as const;
