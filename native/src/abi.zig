//! Everything that both languages see: structs in mapped memory, codes, and the numbers that bound
//! them.
//!
//! The generator (`zig build abi`) walks `shared_structs`, `shared_enums` and `constants` and
//! writes `src/native/abi.ts`; the hash over names, types and offsets is compared at load, so a
//! library and a TypeScript side that do not fit are a clear error. Nothing here is kept in step by
//! hand.

const std = @import("std");
const record = @import("order/record.zig");
const snapshot = @import("stats/snapshot.zig");

/// What a traffic call answers (`RcmStatus` of the public API, guide 9.3).
pub const Status = enum(u32) {
    ok = 0,
    would_block = 1,
    too_large = 2,
    no_memory = 3,
    not_started = 4,
    stopped = 5,
    bad_partition = 6,
    bad_argument = 7,
    not_leader = 8,
};

/// Why a set-up call failed; the negative of it is returned (`RcmErrorCode` of the public API).
pub const ErrorCode = enum(u32) {
    config = 1,
    argument = 2,
    state = 3,
    native = 4,
    socket = 5,
    shm = 6,
    arbitration = 7,
    record = 8,
    timeout = 9,
    unsupported = 10,
};

/// Events of guide 7.5, by their numbers there.
pub const EventType = enum(u32) {
    message_loss = 1,
    out_of_sync = 2,
    heartbeat_timeout = 3,
    no_transmitter = 4,
    no_receiver = 5,
    new_transmitter = 6,
    new_receiver = 7,
    fill_gap = 8,
    receiver_late_join = 9,
    tier_receiver_down = 10,
};

pub const LogLevel = enum(u32) { debug = 0, info = 1, warn = 2, err = 3, imp = 4, fatal = 5 };

/// Log lines that the native side raises; texts live in `src/observe/log_texts.ts`.
pub const LogKey = enum(u32) {
    session_agreed_tx = 20060,
    receiver_disconnected = 20061,
    sender_wiped = 20062,
    handshake_timeout = 20063,
    slow_receiver_disconnected = 20064,
    window_recovered = 20065,
    drain_incomplete = 20066,
    receiver_limit = 20067,
    session_agreed_rx = 21060,
    sender_wiped_rx = 21061,
    heartbeat_timeout = 21062,
    message_loss = 21063,
    transmitter_closed = 21064,
    receive_memory_full = 21065,
    message_over_memory = 21066,
    gap_given_up = 21067,
    stream_limit = 21068,
    record_recovered = 21069,
    record_cut = 21070,
    record_head_damaged = 21071,
    record_stopped = 21072,
    gso_unavailable = 22001,
    gro_unavailable = 22002,
    receive_buffer_small = 22003,
    send_failed = 22004,
    kernel_drops = 22005,
    bind_core_failed = 22006,
    injector_on = 22007,
    agent_failed = 22008,
};

pub const NoticeKind = enum(u32) { event = 1, log = 2, role = 3 };

/// What `rcm_region` maps; `shared` and above: windows that are read in place, by
/// `Descriptor.region`.
pub const Region = enum(u32) { descriptors = 0, receive_log = 1, arena = 2, shared = 16 };

/// Bits of `rcm_context_state`.
/// `visited`: another thread is inside a lane.
pub const ContextState = enum(u32) { handshaking = 1, draining = 2, drained = 4, visited = 8 };

/// One event, log line or role change on its way to JavaScript.
pub const Notice = extern struct {
    kind: u32,
    code: u32,
    level: u32,
    /// 0: of the context as a whole.
    transport_id: u32,
    args: [4]f64,
    name_len: u32,
    pad: u32,
    /// The other side's context name, or text that the log key calls for.
    name: [64]u8,
    reserved: u64,
};

/// Names of a stream, asked for once for each stream id seen in a record.
pub const StreamInfo = extern struct {
    transport_id: u32,
    context_id: u32,
    name_len: u32,
    pad: u32,
    name: [64]u8,
};

pub const constants = struct {
    pub const abi_version: u32 = 2;
    pub const descriptor_batch: u32 = 1024;
    pub const record_header_bytes: u32 = @sizeOf(record.RecordHeader);
    pub const message_bytes_max: u32 = 1 << 30;
    pub const thread_no_max: u32 = 63;
    /// Of one context: their index is 8 bits of a handle.
    pub const transmitters_max: u32 = 256;
};

pub const shared_structs = .{
    .Descriptor = record.Descriptor,
    .RecordHeader = record.RecordHeader,
    .Notice = Notice,
    .StreamInfo = StreamInfo,
    .StatsHeader = snapshot.StatsHeader,
    .TxStats = snapshot.TxStats,
    .AckStats = snapshot.AckStats,
    .RxStats = snapshot.RxStats,
    .DeliverStats = snapshot.DeliverStats,
};

pub const shared_enums = .{
    .Status = Status,
    .ErrorCode = ErrorCode,
    .EventType = EventType,
    .LogLevel = LogLevel,
    .LogKey = LogKey,
    .NoticeKind = NoticeKind,
    .Region = Region,
    .ContextState = ContextState,
    .TxPhase = snapshot.TxPhase,
    .RxPhase = snapshot.RxPhase,
    .AckState = snapshot.AckState,
};

comptime {
    std.debug.assert(@sizeOf(Notice) == 128);
    std.debug.assert(@sizeOf(StreamInfo) == 80);
    std.debug.assert(@sizeOf(record.Descriptor) == 32);
    std.debug.assert(@sizeOf(record.RecordHeader) == 40);
}
