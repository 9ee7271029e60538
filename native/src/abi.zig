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
const tree = @import("tier/tree.zig");
const counters = @import("stats/counters.zig");
const limits = @import("limits.zig");
const node = @import("window/node.zig");
const record_file = @import("order/record_file.zig");

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
    tier_established = 22101,
    tier_quorum = 22102,
    tier_single = 22103,
    tier_no_quorum = 22104,
    tier_other_configuration = 22105,
    tier_disk_failed = 22106,
    tier_separate = 22107,
    tier_forced = 22108,
    tier_tree_wiped = 22109,
    tier_unsafe_policy = 22110,
    tier_unheard = 22111,
    tier_leader_silent = 22112,
    tier_unauthenticated = 22113,
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

/// What is asked of the arbitration (`arbiter/request.zig`).
pub const ArbiterOp = enum(u32) {
    connect = 1,
    create = 2,
    remove = 3,
    set = 4,
    get = 5,
    exists = 6,
    children = 7,
    /// `count` requests follow: create, remove, set, check; all or none.
    multi = 8,
    sync = 9,
    check = 10,
    /// The node that the lease is written to, and what with.
    keep = 11,
    /// `version` 1: `running` (path) is this session's; 0: it is not.
    hold = 12,
    /// The engine's heart, for who has no engine yet; `version` 0: it ends.
    beat = 13,
};

/// Bits of a request (`ephemeral`, `watch`, `private`) and of an event (`ephemeral`, `mine`).
pub const ArbiterFlag = enum(u32) { ephemeral = 1, watch = 2, private = 4, mine = 8 };

pub const ArbiterEventKind = enum(u32) {
    answer = 1,
    /// `id`: `count` of the request that set it; `code`: what happened.
    watch = 2,
    /// `code`: the session's state.
    session = 3,
    /// `running` was given up, because the engine does not run.
    watchdog = 4,
    /// The session's client is gone.
    ended = 5,
};

/// Header of a request; path, a 0 and data follow. `bytes` is all of it, a multiple of 8.
pub const ArbiterRequest = extern struct {
    bytes: u32 = 0,
    op: u32 = 0,
    id: u32 = 0,
    version: i32 = 0,
    flags: u32 = 0,
    path_len: u32 = 0,
    data_len: u32 = 0,
    count: u32 = 0,
};

/// Header of what happened; data follows. `bytes` is all of it, a multiple of 8.
pub const ArbiterEvent = extern struct {
    bytes: u32 = 0,
    kind: u32 = 0,
    id: u32 = 0,
    /// 0, or a negative code of ZooKeeper's client.
    code: i32 = 0,
    /// Number of the session: answers of an earlier one count for nothing.
    session: u32 = 0,
    version: i32 = 0,
    flags: u32 = 0,
    data_len: u32 = 0,
};

/// How a lease stands, for who does not read it in native memory.
pub const ArbiterLease = extern struct {
    /// Milliseconds that it is good for; 0: it is not.
    left_ms: f64,
    timeout_ms: f64,
    holding: u32,
    beats: u32,
};

/// What arbiter and member of a tier say to each other.
pub const TierView = tree.View;
pub const TierCommand = tree.Command;
pub const TierAnswer = tree.Answer;

/// A member of a tier, as its engine knows it (`rcm_tier_state`).
pub const TierState = extern struct {
    /// `RcmRole` of the public API.
    role: u32,
    /// 1: `start` of the context is done.
    started: u32,
    /// Why it failed (`TierFailure`); 0: it did not.
    failure: u32,
    /// 1: `rcm_tier_command` has something for the arbiter.
    has_command: u32,
    epoch_number: u64,
    epoch_id: u64,
    adopted_number: u64,
    adopted_id: u64,
    /// One past the last entry of the log.
    next: u64,
    committed: u64,
    /// Context id; 0: nobody that is known leads.
    leader_id: u32,
    is_intact: u32,
    /// Where the other members reach this one: four bytes in written order, and the port.
    ip: u32,
    port: u32,
    /// What the log has and the tier's has not, when the role is SEPARATE.
    separate_from: u64,
    separate_to: u64,
};

pub const constants = struct {
    pub const abi_version: u32 = 5;
    pub const descriptor_batch: u32 = 1024;
    pub const record_header_bytes: u32 = @sizeOf(record.RecordHeader);
    pub const message_bytes_max: u32 = 1 << 30;
    pub const thread_no_max: u32 = 63;
    /// Of one context: their index is 8 bits of a handle.
    pub const transmitters_max: u32 = 256;
    /// Of a counters file.
    pub const counters_page_offset: u32 = counters.page_offset;
    pub const counters_file_kind: u32 = @backingInt(node.FileKind.counters);
    pub const file_version: u32 = node.file_version;
    /// Of record files.
    pub const record_version: u32 = record_file.version;
    pub const record_block_bytes: u32 = limits.record_block_bytes;
    pub const record_block_header_bytes: u32 = limits.record_block_header_bytes;
    pub const record_table_offset: u32 = record_file.table_offset;
    pub const record_entries_max: u32 = record_file.entries_max;
};

pub const shared_structs = .{
    .Descriptor = record.Descriptor,
    .RecordHeader = record.RecordHeader,
    .Notice = Notice,
    .StreamInfo = StreamInfo,
    .TierView = TierView,
    .TierCommand = TierCommand,
    .TierAnswer = TierAnswer,
    .TierState = TierState,
    .StatsHeader = snapshot.StatsHeader,
    .TxStats = snapshot.TxStats,
    .AckStats = snapshot.AckStats,
    .RxStats = snapshot.RxStats,
    .DeliverStats = snapshot.DeliverStats,
    .TierSendStats = snapshot.TierSendStats,
    .ArbiterRequest = ArbiterRequest,
    .ArbiterEvent = ArbiterEvent,
    .ArbiterLease = ArbiterLease,
    .LatencyStats = snapshot.LatencyStats,
    .FileHeader = node.FileHeader,
    .CountersPage = counters.CountersPage,
    .CountersSection = counters.CountersSection,
    .RecordFileHeader = record_file.RecordFileHeader,
    .RecordStreamEntry = record_file.StreamEntry,
    .RecordBlockHeader = record_file.BlockHeader,
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
    .ArbiterOp = ArbiterOp,
    .ArbiterFlag = ArbiterFlag,
    .ArbiterEventKind = ArbiterEventKind,
    .CountersSectionKind = counters.SectionKind,
};

comptime {
    std.debug.assert(@sizeOf(Notice) == 128);
    std.debug.assert(@sizeOf(StreamInfo) == 80);
    std.debug.assert(@sizeOf(record.Descriptor) == 32);
    std.debug.assert(@sizeOf(record.RecordHeader) == 40);
}
