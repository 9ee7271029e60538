//! What TypeScript hands over when a context starts: the resolved configuration as JSON, after
//! templates, defaults and validation (`src/plan.ts` writes it). Names here are the names there.

const std = @import("std");

/// `shared`: reads the window in place. `tier`: name of the tier that it is a member of, or ""; an
/// observer has its tier's name too.
pub const Receiver = struct {
    id: u16,
    name: []const u8,
    shared: bool = false,
    tier: []const u8 = "",
    observer: bool = false,
};
/// A context whose window of the transport is read in place.
pub const InPlace = struct { id: u16, name: []const u8 };

pub const TxPartition = struct {
    transportId: u16,
    partitionNo: u16,
    addrs: []const []const u8,
    port: u16,
    mtu: u32,
    /// `AsynchronousRms`: false: the caller of `send` sends; true: the network thread does.
    asynchronous: bool,
    heartbeatIntervalMs: u64,
    heartbeatTimeoutMs: u64,
    ackIntervalMs: u64,
    ackTimeoutMs: u64,
    slowDisconnect: bool,
    /// 64 hex digits, or "".
    groupKey: []const u8,
    /// Socket that `createTransmitter` bound for a fixed `RepairPort`, or -1.
    repairFd: i32,
    receivers: []const Receiver,
    /// Receivers on this machine may read the window in place.
    sharedMemory: bool = false,
};

pub const Tx = struct {
    topic: []const u8,
    txArg: u16,
    partitions: []const TxPartition,
};

pub const Rx = struct {
    transportId: u16,
    topic: []const u8,
    partitionNo: u16,
    lane: u16,
    addrs: []const []const u8,
    port: u16,
    mtu: u32,
    heartbeatIntervalMs: u64,
    heartbeatTimeoutMs: u64,
    ackIntervalMs: u64,
    ackTimeoutMs: u64,
    groupKey: []const u8,
    inPlace: []const InPlace = &.{},
    /// Somebody else sends it too, or may.
    network: bool = true,
};

pub const Threading = enum { shared, dedicated, @"inline" };
pub const Deliver = enum { callback, poll, iterate, none };

pub const TierMember = struct { id: u16, name: []const u8 };

/// The tier that the context belongs to (guide 8).
pub const Tier = struct {
    name: []const u8,
    /// Observers aside, in the order of ids.
    members: []const TierMember,
    isObserver: bool = false,
    ackCount: i32,
    useCommitted: bool,
    asynchronousSqn: bool,
    syncMode: u32 = 0,
    tierAsync: bool = false,
    syncMaxDiff: u64,
    sendWindowSize: u32,
    /// `TierRmsLimitCount`; 0: no limit.
    rmsLimitCount: u32,
    heartbeatIntervalMs: u64,
    heartbeatTimeoutMs: u64,
    ackIntervalMs: u64,
    ackTimeoutMs: u64,
    startTimeoutMs: u64,
    sessionTimeoutMs: u64,
    policy: @import("../tier/member.zig").Policy = .safe,
    /// 16 hex digits.
    configHash: []const u8,
    /// 64 hex digits, or "".
    groupKey: []const u8 = "",
    /// `SyncIp`; "": the context's.
    ip: []const u8 = "",
    addr: []const u8,
    port: u16,
    mcLoop: bool,
    ttl: u32,
    mtu: u32,
    socketBufferBytes: u32,
    repairPortStart: u16,
    repairPortEnd: u16,
    repairPort: u16 = 0,
    useSameMachine: bool = false,
    /// Parent of the context's folder with `rcm_tier_state.dat`, with a slash at its end.
    stateDirectory: []const u8,
};

pub const Options = struct {
    name: []const u8,
    id: u16,
    clusterId: u16,
    /// Put between "/dev/shm/" and the context's name.
    prefix: []const u8,
    ip: []const u8,
    threading: Threading,
    waitStrategy: []const u8,
    bindCoreId: i32,
    mcLoop: bool,
    ttl: u8,
    socketBufferBytes: u64,
    repairPortStart: u16,
    repairPortEnd: u16,
    repairPort: u16,
    sendWindowSize: u32,
    arenaBytes: u64,
    maxCacheMsgCount: u64,
    receiveBytes: u64,
    isHandshake: bool,
    startTimeoutMs: u64,
    isTotalOrder: bool,
    deliver: Deliver,
    ackManual: bool,
    usePreAllocate: bool,
    /// Folder of the context's folder of record files, with a slash at its end; "": no record.
    recordDirectory: []const u8 = "",
    recordFileBytes: u64 = 0,
    recordSync: @import("record_agent.zig").Sync = .async,
    /// First sqn of the record that is delivered again.
    replayFrom: u64 = 0,
    /// `LatencyStatisticCount`; 0: nothing is measured.
    latencySamples: u32 = 0,
    /// Names of things, for who reads the counters file; "": there is none.
    countersText: []const u8 = "",
    injectDropPpm: u32,
    injectDuplicatePpm: u32,
    injectDelayPpm: u32,
    injectSeed: u64,
    /// Of a member of a tier that sends (guide 9.9.1): the id and name that its streams go by, the
    /// same for all members. 0: a single node.
    txTierId: u16 = 0,
    txTierName: []const u8 = "",
    tx: []const Tx,
    rx: []const Rx,
    /// Null: a single node.
    tier: ?Tier = null,
};

pub const Parsed = std.json.Parsed(Options);

pub fn parse(gpa: std.mem.Allocator, text: []const u8) !Parsed {
    return std.json.parseFromSlice(Options, gpa, text, .{
        .allocate = .alloc_always,
        .ignore_unknown_fields = true,
    });
}
