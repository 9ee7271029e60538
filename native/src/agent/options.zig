//! What TypeScript hands over when a context starts: the resolved configuration as JSON, after
//! templates, defaults and validation (`src/plan.ts` writes it). Names here are the names there.

const std = @import("std");

/// `shared`: reads the window in place.
pub const Receiver = struct { id: u16, name: []const u8, shared: bool = false };
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
    /// Names of things, for who reads the counters file; "": there is none.
    countersText: []const u8 = "",
    injectDropPpm: u32,
    injectDuplicatePpm: u32,
    injectDelayPpm: u32,
    injectSeed: u64,
    tx: []const Tx,
    rx: []const Rx,
};

pub const Parsed = std.json.Parsed(Options);

pub fn parse(gpa: std.mem.Allocator, text: []const u8) !Parsed {
    return std.json.parseFromSlice(Options, gpa, text, .{
        .allocate = .alloc_always,
        .ignore_unknown_fields = true,
    });
}
