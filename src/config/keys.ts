/**
 * Every key of the configuration, once: name, place, type, default, range, meaning, and the part of
 * the library that makes it act (guide 10.1, and keys that this library adds).
 *
 * Types, defaults, checks and the JSON Schema come from this table; nothing is kept in step by
 * hand. A key whose part is not built yet is checked like all others, and a context that uses it
 * can't be created ({@linkcode BUILT_PARTS}).
 */

import { choice, flag, integer, type Key, list, type Part, type Place, text } from "./key_kinds.ts";

/** The parts that this version has. */
export const BUILT_PARTS: ReadonlySet<Part> = new Set<Part>([
  "bus",
  "shared memory",
  "record",
  "tier",
]);

const U16_MAX = 0xffff;
const I31_MAX = 2 ** 31 - 1;
const HOUR_MS = 3_600_000;
/** Largest size of a buffer in KiB: the kernel doubles it, in bytes, into 32 bits. */
const BUFFER_KBYTES_MAX = 4_194_303;
const TOP = ["top"] as const;
const TRANSPORT = ["transport"] as const;
const CONTEXT = ["context"] as const;
const TOPIC = ["topic"] as const;
const BOTH = ["transport", "context"] as const;

const PORTS = [1, U16_MAX] as const;
const FIXED_PORT = [0, U16_MAX] as const;
const PERIOD_MS = [1, HOUR_MS] as const;
const PACKET_BYTES = [576, U16_MAX] as const;
const HOPS = [0, 255] as const;
const COUNT = [0, I31_MAX] as const;
const WINDOW = [1, 65_536] as const;
const BUFFER_KBYTES = [4, BUFFER_KBYTES_MAX] as const;
const ENTRIES = [1, U16_MAX] as const;
const LIST = [0, U16_MAX] as const;

/** The table. Choices begin with their default. */
export const KEYS = [
  // Top level
  list("Transports", TOP, "transports", ENTRIES, "bus", "Topics by partition, and templates"),
  list("Contexts", TOP, "contexts", ENTRIES, "bus", "Nodes, and templates"),
  integer(
    "ClusterId",
    TOP,
    0,
    [0, U16_MAX],
    "bus",
    "Stands in every datagram; those of others are ignored and counted",
  ),

  // Transports and contexts
  text("Name", BOTH, "", "name", "bus", "Name of the template, the transport or the context"),
  text(
    "REF",
    BOTH,
    "Default",
    "name",
    "bus",
    "Template whose values are taken over; without it the one called Default, if there is one",
  ),
  integer(
    "Id",
    BOTH,
    0,
    [1, U16_MAX],
    "bus",
    "Number of the transport or the context in datagrams; without it (0) this is a template",
  ),
  integer(
    "MTU",
    BOTH,
    1500,
    PACKET_BYTES,
    "bus",
    "Limit of an IP packet in bytes; the transport's wins over the context's",
  ),
  text(
    "GroupKey",
    BOTH,
    null,
    "hex key",
    "bus",
    "Key material that authenticates datagrams; the transport's wins over the context's",
  ),

  // Transport
  text("Topic", TRANSPORT, null, "topic", "bus", "Name of the topic"),
  integer("PartitionNo", TRANSPORT, 1, [1, U16_MAX], "bus", "Number of the partition"),
  flag(
    "UseSharedMemory",
    TRANSPORT,
    0,
    "shared memory",
    "Receivers on this machine read the sender's shared memory (guide 7.2.6)",
  ),
  integer(
    "HeartbeatIntervalMilli",
    TRANSPORT,
    1000,
    PERIOD_MS,
    "bus",
    "Period of the sender's heartbeat, in milliseconds",
  ),
  integer(
    "HeartbeatTimeoutMilli",
    TRANSPORT,
    3000,
    PERIOD_MS,
    "bus",
    "Silence after which a receiver gives the sender up, in milliseconds",
  ),
  integer(
    "AckIntervalMilli",
    TRANSPORT,
    1000,
    PERIOD_MS,
    "bus",
    "Longest time between a receiver's acknowledgements, in milliseconds",
  ),
  integer(
    "AckTimeoutMilli",
    TRANSPORT,
    3000,
    PERIOD_MS,
    "bus",
    "Silence after which the sender disconnects a receiver, in milliseconds",
  ),
  flag(
    "AsynchronousRms",
    TRANSPORT,
    0,
    "bus",
    "0: send itself calls sendto; 1: the network thread sends",
  ),
  text(
    "Addr",
    TRANSPORT,
    null,
    "addresses",
    "bus",
    "Where data goes: an IPv4 multicast group, or unicast addresses by comma (guide 7.3)",
  ),
  integer("Port", TRANSPORT, null, PORTS, "bus", "Port of the data"),
  text(
    "Context",
    TRANSPORT,
    "",
    "name",
    "bus",
    "This entry is for the context of this name only, and wins over one for all",
  ),
  choice(
    "SlowReceiver",
    TRANSPORT,
    ["wait", "disconnect"],
    "bus",
    "What a receiver that acknowledges without progress does: hold the group, or be disconnected",
  ),

  // Context: one node
  text(
    "Ip",
    CONTEXT,
    null,
    "interface",
    "bus",
    "Interface to send and join on: its IPv4 address, or its network as a.b.c.d/n",
  ),
  text(
    "RecordDir",
    CONTEXT,
    null,
    "folder",
    "record",
    "Folder of the record, relative to the factory's workDir, which is the default",
  ),
  integer(
    "BindCoreId",
    CONTEXT,
    -1,
    [-1, "cores"],
    "bus",
    "Processor core of the receiving thread, and only of that; -1: any",
  ),
  flag("McLoop", CONTEXT, 1, "bus", "Receivers on the sender's machine get its multicast"),
  integer("TTL", CONTEXT, 8, HOPS, "bus", "Hops of multicast and unicast datagrams"),
  flag("IsSingleton", CONTEXT, 1, "tier", "1: a single node; 0: a member of a tier"),
  flag(
    "IsRecord",
    CONTEXT,
    1,
    "record",
    "What is received is recorded on disk, asynchronously (guide 8.4)",
  ),
  flag(
    "IsHandshake",
    CONTEXT,
    0,
    "bus",
    "1: a sender that starts without its files asks the receivers for its first number",
  ),
  integer(
    "StartTimeoutSecs",
    CONTEXT,
    5,
    [0, 3600],
    "bus",
    "How long start waits for the answers to IsHandshake, in seconds",
  ),
  flag(
    "IsTotalOrder",
    CONTEXT,
    1,
    "bus",
    "1: one sequence over all topics; 0: a lane for each topic (guide 7.2.7)",
  ),
  integer(
    "MaxCacheMsgCount",
    CONTEXT,
    10_240,
    COUNT,
    "bus",
    "Acknowledged messages of a topic and partition that are kept for late repair",
  ),
  integer(
    "RecordReplayStartPoint",
    CONTEXT,
    0,
    [0, Number.MAX_SAFE_INTEGER],
    "record",
    "First sequence number that is delivered again from the record at start",
  ),
  flag(
    "UsePreAllocate",
    CONTEXT,
    0,
    "bus",
    "1: all memory of the sending windows is touched at start; 0: soon after it, in the background",
  ),
  integer(
    "LatencyStatisticCount",
    CONTEXT,
    0,
    [0, 10_000_000],
    "bus",
    "Samples that are kept for the latency statistics; 0: none are taken",
  ),
  integer(
    "SendWindowSize",
    CONTEXT,
    256,
    WINDOW,
    "bus",
    "Datagrams that may be sent without being acknowledged; full pauses the network side only",
  ),
  integer(
    "MaxMemoryAllowedMBytes",
    CONTEXT,
    256,
    [1, 65_536],
    "bus",
    "Memory of all senders of the context, in MiB; full: WOULD_BLOCK (guide 8.3)",
  ),
  integer(
    "SocketBufferSizeKBytes",
    CONTEXT,
    256,
    BUFFER_KBYTES,
    "bus",
    "Buffer of a receiving socket, in KiB",
  ),
  integer(
    "RepairPortStart",
    CONTEXT,
    30_001,
    PORTS,
    "bus",
    "Lowest port for what receivers answer to a sender",
  ),
  integer(
    "RepairPortEnd",
    CONTEXT,
    40_000,
    PORTS,
    "bus",
    "Highest port for what receivers answer to a sender",
  ),
  integer(
    "RepairPort",
    CONTEXT,
    0,
    FIXED_PORT,
    "bus",
    "The one port for what receivers answer; taken: the transmitter can't be created; 0: the range",
  ),
  list(
    "ShmContext",
    CONTEXT,
    "names",
    LIST,
    "shared memory",
    "Contexts whose messages are read through shared memory: a name, or an array (guide 7.2.6)",
  ),
  list("TxTopics", CONTEXT, "topics", LIST, "bus", "Topics that this context sends"),
  list("RxTopics", CONTEXT, "topics", LIST, "bus", "Topics that this context receives"),
  integer(
    "ReceiveMemoryMBytes",
    CONTEXT,
    1024,
    [8, 65_536],
    "bus",
    "Memory of messages not delivered yet, in MiB; full: senders are slowed, nothing is dropped",
  ),
  choice(
    "WaitStrategy",
    CONTEXT,
    ["adaptive", "spin", "yield", "block"],
    "bus",
    "How native threads wait for work",
  ),
  choice(
    "Threading",
    CONTEXT,
    ["shared", "dedicated", "inline"],
    "bus",
    "Which native threads run the context; inline: poll() does",
  ),
  choice(
    "RecordSync",
    CONTEXT,
    ["async", "interval", "commit"],
    "record",
    "When what is recorded is forced to disk; interval: every 10 milliseconds",
  ),
  integer(
    "RecordSegmentMBytes",
    CONTEXT,
    256,
    [8, 2048],
    "record",
    "Size of one file of the record, in MiB",
  ),

  // Context: member of a tier
  text("TierName", CONTEXT, "", "name", "tier", "Tier that the context belongs to (guide 6.2)"),
  integer(
    "TierRmsLimitCount",
    CONTEXT,
    0,
    COUNT,
    "tier",
    "Messages ahead of the confirmed sequence number before reception stops; 0: no limit",
  ),
  flag("TierAsync", CONTEXT, 0, "tier", "Results are replicated asynchronously"),
  text("SyncIp", CONTEXT, null, "interface", "tier", "Interface for the tier's traffic; like Ip"),
  text("SyncAddr", CONTEXT, null, "multicast", "tier", "IPv4 multicast group of the tier"),
  integer("SyncPort", CONTEXT, null, PORTS, "tier", "Port of the tier"),
  flag("SyncMcLoop", CONTEXT, 1, "tier", "Members on the leader's machine get its multicast"),
  integer("SyncTTL", CONTEXT, 8, HOPS, "tier", "Hops of the tier's datagrams"),
  integer("SyncMTU", CONTEXT, 1500, PACKET_BYTES, "tier", "Limit of the tier's IP packets, bytes"),
  integer(
    "SyncMode",
    CONTEXT,
    0,
    [0, 2],
    "tier",
    "0: state machine; 1: leader and followers, synchronous; 2: the same, asynchronous",
  ),
  integer(
    "SyncHeartbeatIntervalMilli",
    CONTEXT,
    1000,
    PERIOD_MS,
    "tier",
    "Period of the leader's heartbeat, in milliseconds",
  ),
  integer(
    "SyncHeartbeatTimeoutMilli",
    CONTEXT,
    3000,
    PERIOD_MS,
    "tier",
    "Silence after which followers suspect the leader, in milliseconds",
  ),
  integer(
    "SyncAckIntervalMilli",
    CONTEXT,
    1000,
    PERIOD_MS,
    "tier",
    "Longest time between a follower's acknowledgements, in milliseconds",
  ),
  integer(
    "SyncAckTimeoutMilli",
    CONTEXT,
    3000,
    PERIOD_MS,
    "tier",
    "Silence after which the leader drops a follower, in milliseconds",
  ),
  integer(
    "SyncSendWindowSize",
    CONTEXT,
    256,
    WINDOW,
    "tier",
    "Sequence numbers that the leader may send without acknowledgement",
  ),
  integer(
    "SyncSocketBufferSizeKBytes",
    CONTEXT,
    256,
    BUFFER_KBYTES,
    "tier",
    "Buffer of the tier's socket, in KiB",
  ),
  integer(
    "SyncRepairPortStart",
    CONTEXT,
    40_001,
    PORTS,
    "tier",
    "Lowest port for what followers answer to the leader",
  ),
  integer(
    "SyncRepairPortEnd",
    CONTEXT,
    50_000,
    PORTS,
    "tier",
    "Highest port for what followers answer to the leader",
  ),
  integer(
    "SyncRepairPort",
    CONTEXT,
    0,
    FIXED_PORT,
    "tier",
    "The one port for what followers answer; taken: start fails; 0: the range",
  ),
  integer(
    "SyncMaxDiff",
    CONTEXT,
    10_000,
    COUNT,
    "tier",
    "Sequence numbers that a joining member may lag and still finish start",
  ),
  integer(
    "AckCount",
    CONTEXT,
    1,
    [-1, 64],
    "tier",
    "Followers that must acknowledge before a commit; 0 is 1; -1: all that are in step",
  ),
  flag(
    "AsynchronousSqn",
    CONTEXT,
    0,
    "tier",
    "0: sequence numbers are multicast at once; 1: in batches",
  ),
  flag("IsObserver", CONTEXT, 0, "tier", "Follows only: no acknowledgement, no election"),
  flag("UseSameMachine", CONTEXT, 0, "tier", "Some members share a machine"),
  flag("UseCommitted", CONTEXT, 0, "tier", "1: followers deliver on commit (two phases)"),
  integer(
    "SessionTimeoutMilli",
    CONTEXT,
    2000,
    [800, 60_000],
    "tier",
    "Time-out of the session with the arbitration, in milliseconds",
  ),
  choice(
    "ElectionPolicy",
    CONTEXT,
    ["safe", "freshest", "race"],
    "tier",
    "How a leader is chosen",
  ),

  // In TxTopics and RxTopics
  text("Name", TOPIC, null, "topic", "bus", "Name of the topic"),
  list(
    "Partitions",
    TOPIC,
    "partitions",
    ENTRIES,
    "bus",
    "Partitions of the topic; without it all that have a transport (guide 7.2.9)",
  ),
] as const;

/** Values that are not built yet of keys that are. */
export const UNBUILT_VALUES: Readonly<Record<string, readonly unknown[]>> = {};

/** Every row at a place, in the table's order. */
export function keysAt(place: Place): readonly Key[] {
  return BY_PLACE[place];
}

/** @returns the row of a key at a place, if it may stand there */
export function keyAt(place: Place, name: string): Key | undefined {
  return BY_NAME[place].get(name);
}

const BY_PLACE: Readonly<Record<Place, readonly Key[]>> = {
  top: rowsAt("top"),
  transport: rowsAt("transport"),
  context: rowsAt("context"),
  topic: rowsAt("topic"),
};

function rowsAt(place: Place): readonly Key[] {
  return KEYS.filter((key: Key) => key.where.includes(place));
}

const BY_NAME: Readonly<Record<Place, ReadonlyMap<string, Key>>> = {
  top: byName("top"),
  transport: byName("transport"),
  context: byName("context"),
  topic: byName("topic"),
};

function byName(place: Place): ReadonlyMap<string, Key> {
  return new Map(BY_PLACE[place].map((key) => [key.name, key]));
}
