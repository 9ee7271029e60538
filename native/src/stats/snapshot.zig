//! What `getStatistics` reads (guide 9.13.4): plain structs, written by the native side into a
//! buffer of the caller, read by `src/observe/statistics.ts` with the offsets that the abi
//! generator takes from here.
//!
//! A snapshot is one `StatsHeader`; then, for each sending window (a partition of a transmitter), a
//! `TxStats`, a `LatencyStats` (from `send` to the acknowledgement of everybody), and `ack_count`
//! times `AckStats`; then `rx_count` times `RxStats`, one for each stream (sender, topic,
//! partition); then one `DeliverStats` and a `LatencyStats` (from a message's arrival to its
//! handing over to the program); of a member of a tier then one `TierSendStats` and its `AckStats`.
//! Names and group addresses are not in it: TypeScript has them from
//! the configuration, by transport id and context id.
//!
//! The fields of guide 9.13.4 say in their comment which one they are; the others are this
//! library's own. A number of a message (`_no`) is the stream's, a sqn the context's; "next" is
//! always one past the last, so a cursor of 0 says "none yet". Stamps (`_ms`) are milliseconds of
//! the monotonic clock, 0 for "never". Counters count since the start of the context and never go
//! back.

const std = @import("std");
const assert = @import("../assert.zig").assert;

/// Where a sending window stands (`Phase`). The text in JSON is the name with a capital letter.
pub const TxPhase = enum(u32) {
    /// Opened; nothing was announced yet.
    init = 0,
    /// `IsHandshake`: asks the receivers where to begin; nothing is sent yet.
    handshake = 1,
    /// The first number stands; data flows.
    started = 2,
    /// `stop()` was called: what was accepted is sent and acknowledged.
    draining = 3,
    /// Said goodbye to its receivers.
    closed = 4,
    /// Of a member of a tier that does not lead: numbers and keeps what another one sends.
    follower = 5,
};

/// Where a receiving stream stands (`RmsPhase`). The text in JSON is the name with a capital
/// letter.
pub const RxPhase = enum(u32) {
    /// Waits for the sender's announcement.
    init = 0,
    /// Has answered the announcement with a challenge and waits for its confirmation.
    handshake = 1,
    /// The session is agreed; data flows.
    started = 2,
    /// The sender has been silent for longer than `HeartbeatTimeoutMilli`.
    silent = 3,
    /// The sender said goodbye.
    closed = 4,
};

/// The session with a receiver (`Status`). The text in JSON is the name in capital letters.
pub const AckState = enum(u32) {
    /// No session: never there, not confirmed yet, or gone.
    disconnect = 0,
    /// The session is agreed and the receiver is not silent.
    connected = 1,
};

/// The context as a whole.
pub const StatsHeader = extern struct {
    /// Bytes of the whole snapshot, this struct included.
    total_bytes: u32,
    /// `ContextId`.
    context_id: u32,
    /// How many `TxStats` follow.
    tx_count: u32,
    /// How many `RxStats` follow those and their `AckStats`.
    rx_count: u32,
    /// `Role`, by the numbers of guide 9.9.6.
    role: u32,
    /// System error number of the last failure of a socket, 0: none yet.
    last_errno: u32,
    /// Log key of the last line of level ERROR or FATAL that went to JavaScript, 0: none yet.
    last_error_key: u32,
    /// 1: a member of a tier; a `TierSendStats` with its `AckStats` ends the snapshot.
    has_tier: u32 = 0,
    /// When that line went there.
    last_error_ms: u64,
    /// The clock, as this snapshot was taken.
    now_ms: u64,

    /// Whole datagrams and their bytes (UDP content), of all types and streams; what is sent to a
    /// list of addresses counts once.
    datagrams_sent: u64,
    bytes_sent: u64,
    datagrams_received: u64,
    bytes_received: u64,

    /// Datagrams that were not taken, by the first reason that was found.
    dropped_bad_magic: u64,
    dropped_bad_length: u64,
    dropped_bad_check: u64,
    dropped_other_cluster: u64,
    dropped_unknown_type: u64,
    /// Well formed, of a stream, a connection or a peer that this context does not have.
    dropped_unknown_stream: u64,
    /// Does not quote the token of the session.
    dropped_bad_token: u64,
    /// A number, a range or a sum outside of what the session allows.
    dropped_out_of_range: u64,
    /// `GroupKey`: not sealed, or the seal does not fit.
    dropped_unauthenticated: u64,
    /// `GroupKey`: a good seal, seen before or too old to tell.
    dropped_replayed: u64,
    /// By the fault injector, on purpose.
    dropped_injected: u64,

    /// Datagrams that the kernel threw away because a socket's buffer was full.
    kernel_drops: u64,
    /// Datagrams that the kernel refused to send (counted as lost, repaired like any loss).
    send_failures: u64,
    /// Events and log lines that found no room on their way to JavaScript.
    notices_dropped: u64,

    /// The sending arena: all of it, and what messages occupy.
    arena_bytes: u64,
    arena_used_bytes: u64,
    /// The receive memory (`ReceiveMemoryMBytes`): all of it, and what messages occupy.
    receive_bytes: u64,
    receive_used_bytes: u64,
};

/// One sending window: a partition of a transmitter.
pub const TxStats = extern struct {
    /// Index of its transmitter, in the order of `createTransmitter`.
    tx_index: u32,
    /// How many `AckStats` follow this struct.
    ack_count: u32,
    /// `TransportId`.
    transport_id: u32,
    /// `Phase`.
    phase: TxPhase,
    /// `SendFlag`, 0 or 1.
    send_flag: u32,
    /// `MaxUdpSize`: bytes of the largest datagram (UDP content).
    max_udp_size: u32,
    /// `AvailableSpace`: bytes of the largest message that goes in one datagram.
    available_space: u32,
    /// `RegularLength`: bytes of a message in a fragment, of each but the last.
    regular_length: u32,
    /// `FirstIndex`, `CurrentIndex`: the node slots of `first_msg_no` and `current_msg_no`.
    first_index: u32,
    current_index: u32,
    /// `FirstFragNo`: beside `first_msg_no`.
    first_frag_no: u32,
    /// `ToSendFragNo`: beside `to_send_msg_no`.
    to_send_frag_no: u32,
    /// Receivers whose session is agreed now.
    connected_count: u32,
    /// 1: the window of `SendWindowSize` datagrams is full, the network side waits.
    window_full: u32,

    /// `ConnectionId`, all 53 bits.
    connection_id: u64,
    /// `UsedMsgNo`: messages below it are reclaimed.
    used_msg_no: u64,
    /// `FirstMsgNo`: messages below it are acknowledged by everybody who holds the window.
    first_msg_no: u64,
    /// `ToSendMsgNo`: messages below it are sent.
    to_send_msg_no: u64,
    /// `CurrentMsgNo`: the number that the next message gets.
    current_msg_no: u64,

    /// `LastSendMilli`: last datagram of any type.
    last_send_ms: u64,
    /// `CurPhaseTickMilli`: when `phase` was entered.
    phase_since_ms: u64,
    /// `LastSendSynTickMilli`: last announcement.
    last_syn_ms: u64,

    /// `SendCount`: datagrams of any type, repairs included.
    send_count: u64,
    /// Bytes of them (UDP content).
    bytes_sent: u64,
    /// Datagrams that were sent again because somebody asked.
    repair_count: u64,
    /// Requests for repair that were taken.
    nak_count: u64,
    heartbeat_count: u64,
    /// `send` calls that were answered WOULD_BLOCK.
    would_block_count: u64,
    /// Times that the window became full.
    window_full_count: u64,
    /// Repair requests that were dropped: budget spent, queue full, or just repaired.
    repairs_suppressed: u64,
    /// Datagrams that the kernel refused, or lost on purpose by the injector.
    datagrams_dropped: u64,
    /// Receivers that were disconnected: silent, or slow with `SlowReceiver: "disconnect"`.
    disconnect_count: u64,
};

/// A receiver of a sending window, as its sender knows it.
pub const AckStats = extern struct {
    /// `ContextId`.
    context_id: u32,
    /// `Status`.
    state: AckState,
    /// `Address`: four bytes in the order in which they are written, all 0 while unknown.
    ip: u32,
    /// `Address`: port as a number.
    port: u16,
    /// `IsMandatoryAcker`, 0 or 1: it acknowledges what was processed, not what was logged.
    is_mandatory_acker: u16,
    /// 1: the loaded configuration names it as a receiver of this topic and partition.
    is_configured: u32,
    /// `FragNo`: beside `msg_no`.
    frag_no: u32,
    /// 1: its memory is used up, it takes nothing.
    is_out_of_memory: u32,
    pad: u32 = 0,
    /// `MsgNo`: the number that it waits for; everything below is acknowledged.
    msg_no: u64,
    /// One past the highest number that it has heard of.
    highest_msg_no: u64,
    /// `LastRecvMilli`: its last datagram.
    last_recv_ms: u64,
    /// `AckCount`, `NakCount`: acknowledgements and requests for repair that came from it.
    ack_count: u64,
    nak_count: u64,
};

/// A stream that is received: a sender's topic and partition.
pub const RxStats = extern struct {
    /// The stream's number, as in the record header.
    stream: u32,
    /// `ContextId`: the sender's; 0 while no sender was heard.
    context_id: u32,
    /// `TransportId`.
    transport_id: u32,
    /// `RmsPhase`.
    phase: RxPhase,
    /// Where the sender sends from and takes NAKs: four bytes in written order, and the port.
    ip: u32,
    port: u16,
    /// 0 or 1: acknowledges what was processed, not what was logged.
    is_mandatory_acker: u16,
    /// `NextFragNo`: the fragment waited for, of `next_msg_no`.
    next_frag_no: u32,
    /// `MaxFragNo`: beside `max_msg_no`.
    max_frag_no: u32,
    /// `MaxFragNoNak`: beside `max_msg_no_nak`.
    max_frag_no_nak: u32,
    /// Gaps that are open now.
    gaps_open: u32,

    /// `ConnectionId`, all 53 bits.
    connection_id: u64,
    /// `NextMsgNo`: the number waited for; everything below is in the context's log.
    next_msg_no: u64,
    /// `NextMsgNoDeliver`: the number that the program gets next.
    next_msg_no_deliver: u64,
    /// `MsgNoAacked`: everything below was acknowledged to the sender.
    msg_no_acked: u64,
    /// `MaxMsgNo`: the highest number received; 0 before the first, too.
    max_msg_no: u64,
    /// `MaxMsgNoNak`: the highest number asked for again; 0 before the first, too.
    max_msg_no_nak: u64,

    /// `LastRecvMilli`: last datagram of the stream.
    last_recv_ms: u64,
    /// `LastAckMilli`, `LastNakMilli`, `LastRstTickMilli`: last datagram sent of that type.
    last_ack_ms: u64,
    last_nak_ms: u64,
    last_rst_ms: u64,

    /// Datagrams of the stream, of all types, and their bytes (UDP content).
    datagrams_received: u64,
    bytes_received: u64,
    /// Messages appended to the context's log.
    message_count: u64,
    /// Gaps that were ever opened.
    gap_count: u64,
    nak_sent: u64,
    ack_sent: u64,
    /// DATA and FRAGMENT that carry the mark of a repair.
    repair_count: u64,
    /// Messages and fragments that were here already.
    duplicate_count: u64,
    /// Datagrams of the stream that were refused: token, range, memory.
    dropped_count: u64,
    /// Messages and fragments held because something before them is missing, now.
    out_of_order_held: u64,
    /// Numbers given up (`MESSAGE_LOSS`).
    lost_count: u64,
    /// Datagrams that the kernel threw away at the data sockets of the context; it does not tell of
    /// which stream they were, and counts a run that it joined once.
    kernel_drops: u64,
};

/// How long messages took (`LatencyStatisticCount`): of the last ones, to 3 %. All 0: not measured.
pub const LatencyStats = extern struct {
    /// How many samples are kept at most; 0: none are taken.
    capacity: u64,
    kept: u64,
    /// Samples ever taken.
    total: u64,
    min_ns: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
};

/// The ordered log of the context and its cursors (`Tier.Deliver`).
pub const DeliverStats = extern struct {
    /// `FirstMsgSqn`: the lowest that the log still has.
    first_msg_sqn: u64,
    /// `NextMsgSqn`: the sqn that the next message gets.
    next_msg_sqn: u64,
    /// `NextMsgSqnDeliver`: the sqn that the program gets next.
    next_msg_sqn_deliver: u64,
    /// `MsgsDelivered`: processed since the start.
    msgs_delivered: u64,
    /// `NextMsgSqnRecord`, `MsgsRecorded`: the same for the record.
    next_msg_sqn_record: u64,
    msgs_recorded: u64,
    /// `CommittedSqn`: one past the highest that is committed; on a single node: ordered.
    committed_sqn: u64,
    /// `WaitContextId`, `WaitTransportId`: the stream that the next sqn waits for, 0: none.
    wait_context_id: u32,
    wait_transport_id: u32,
};

/// What a member of a tier tells the others (`Tier.Send`). `ack_count` times `AckStats` follow
/// (`Tier.Send.Ack`), one for each other member: there `msg_no` is the sqn that it waits for.
pub const TierSendStats = extern struct {
    ack_count: u32,
    /// `ToSendFragNo`, `WaitAckFragNo`: entries have no fragments.
    to_send_frag_no: u32 = 0,
    wait_ack_frag_no: u32 = 0,
    /// Members that a commit needs besides the leader.
    need: u32,
    /// `ToSendMsgSqn`: a leader sends the entry of this sqn next.
    to_send_msg_sqn: u64,
    /// `FlowControlCount`: how often the window was full.
    flow_control_count: u64,
    /// `WaitAckMsgSqn`: of all members, the highest sqn that one waits to have acknowledged.
    wait_ack_msg_sqn: u64,
    /// `LastSendTickMilli`.
    last_send_ms: u64,
};

/// Everything that TypeScript reads from here.
pub const shared_structs = .{
    .StatsHeader = StatsHeader,
    .TxStats = TxStats,
    .AckStats = AckStats,
    .RxStats = RxStats,
    .DeliverStats = DeliverStats,
    .TierSendStats = TierSendStats,
    .LatencyStats = LatencyStats,
};

/// Puts a snapshot together in a buffer of the caller. What does not fit is counted but not
/// written, so that `finish` tells the bytes that a caller must bring: a snapshot is whole or it is
/// not read.
pub const Writer = struct {
    buffer: []u8,
    /// Bytes that the snapshot needs so far.
    len: usize = 0,

    /// Appends one struct.
    pub fn put(self: *Writer, value: anytype) void {
        const T = @TypeOf(value);
        comptime assert(@sizeOf(T) % 8 == 0);
        if (self.len + @sizeOf(T) <= self.buffer.len) {
            @memcpy(self.buffer[self.len..][0..@sizeOf(T)], std.mem.asBytes(&value));
        }
        self.len += @sizeOf(T);
    }

    /// Writes the total into the header, which was put first. Returns the bytes of the snapshot;
    /// the buffer holds it only if they are not more than the buffer's.
    pub fn finish(self: *Writer) usize {
        assert(self.len >= @sizeOf(StatsHeader));
        const at = @offsetOf(StatsHeader, "total_bytes");
        if (self.len <= self.buffer.len) {
            std.mem.writeInt(u32, self.buffer[at..][0..4], @intCast(self.len), .little);
        }
        return self.len;
    }
};

comptime {
    for (@typeInfo(@TypeOf(shared_structs)).@"struct".field_names) |name| {
        const T = @field(shared_structs, name);
        assert(@sizeOf(T) % 8 == 0);
        assert(@alignOf(T) == 8);
        // TypeScript takes a field's width from the offset of the next one: no padding without a
        // name.
        var at: usize = 0;
        const s = @typeInfo(T).@"struct";
        for (s.field_names, s.field_types) |field, F| {
            assert(@offsetOf(T, field) == at);
            at += @sizeOf(F);
        }
        assert(at == @sizeOf(T));
    }
    assert(@sizeOf(StatsHeader) == 224);
    assert(@sizeOf(TxStats) == 200);
    assert(@sizeOf(AckStats) == 72);
    assert(@sizeOf(RxStats) == 216);
    assert(@sizeOf(DeliverStats) == 64);
    assert(@sizeOf(LatencyStats) == 72);
    assert(@sizeOf(TierSendStats) == 48);
}

test "a snapshot is written whole, or its size is told" {
    var header = std.mem.zeroes(StatsHeader);
    header.context_id = 7;
    header.rx_count = 1;
    const deliver = std.mem.zeroes(DeliverStats);
    const rx = std.mem.zeroes(RxStats);
    const size = @sizeOf(StatsHeader) + @sizeOf(RxStats) + @sizeOf(DeliverStats);

    var room: [size]u8 align(8) = @splat(0xaa);
    var whole: Writer = .{ .buffer = &room };
    whole.put(header);
    whole.put(rx);
    whole.put(deliver);
    try std.testing.expectEqual(size, whole.finish());
    const read = std.mem.bytesAsValue(StatsHeader, room[0..@sizeOf(StatsHeader)]);
    try std.testing.expectEqual(size, read.total_bytes);
    try std.testing.expectEqual(7, read.context_id);

    var narrow: Writer = .{ .buffer = room[0 .. size - 1] };
    narrow.put(header);
    narrow.put(rx);
    narrow.put(deliver);
    try std.testing.expectEqual(size, narrow.finish());

    var none: Writer = .{ .buffer = &.{} };
    none.put(header);
    try std.testing.expectEqual(@sizeOf(StatsHeader), none.finish());
}
