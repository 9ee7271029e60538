//! One stream at a receiver: what a sender (context or tier) sends on one topic and partition.
//!
//! `next` is the contiguous end: everything below it is in the ordered log. What arrives at `next`
//! is appended at once; what arrives beyond it is held (`LossDetector`) until the gap is repaired.
//! Fragments are placed into memory that is reserved for the whole message when its first fragment
//! comes.
//!
//! A stream has a position as long as the process lives: a sender that restarts, or is silent for a
//! while, goes on from it. Numbers are never skipped without MESSAGE_LOSS and the exact range.
//!
//! Long because a stream is one state with its doors, and cut it would be no easier to follow.

const std = @import("std");
const abi = @import("../abi.zig");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("limits.zig");
const assert = @import("../assert.zig").assert;
const mutant = @import("../testing/mutant.zig");
const Address = @import("../transport/address.zig").Address;
const log_file = @import("../order/log.zig");
const record = @import("../order/record.zig");
const layout = @import("../window/node.zig");
const loss = @import("../repair/loss_detector.zig");
const durable = @import("durable.zig");
const Stage = @import("../tier/stage.zig").Stage;
const notices_file = @import("notices.zig");

pub const Position = frame.Position;
const number = notices_file.number;

pub const Phase = enum(u32) {
    /// Never agreed.
    init,
    /// Session agreed, sender heard.
    started,
    /// Silent for `HeartbeatTimeoutMilli`; goes on when it is heard again and the session is agreed
    /// anew.
    lost,
    /// The sender said that it stops.
    closed,
};

/// Of a tier's transactions (`tier/results.zig`): no sender has this id.
pub const results_key: Key = .{ .tier = true, .source = 0, .transport = 0 };

pub const Key = struct {
    tier: bool,
    source: u16,
    transport: u16,

    pub fn of(h: *const frame.Header) Key {
        return .{ .tier = h.flags().tier, .source = h.source, .transport = h.transport };
    }
    pub fn eql(a: Key, b: Key) bool {
        return a.transport == b.transport and a.source == b.source and a.tier == b.tier;
    }
    /// An order that is the same at every receiver.
    pub fn less(a: Key, b: Key) bool {
        if (a.source != b.source) return a.source < b.source;
        if (a.transport != b.transport) return a.transport < b.transport;
        return !a.tier and b.tier;
    }
};

/// What a receiving context knows of one transport that it receives.
pub const Channel = struct {
    transport: u16,
    topic: []const u8 = "",
    partition: u16 = 0,
    /// Which of the receiver's orders its messages go to (0 where there is one).
    lane: u16 = 0,
    is_multicast: bool,
    heartbeat_timeout_ns: u64,
    ack_interval_ns: u64,
    group_key: ?seal.GroupKey = null,
    /// Contexts whose windows are read in place: what they send to the network is not for us.
    in_place: []const u16 = &.{},

    pub fn reads_in_place(self: *const Channel, source: u16) bool {
        return std.mem.indexOfScalar(u16, self.in_place, source) != null;
    }
};

/// What all streams of a lane share: with a total order, all of a context.
pub const Shared = struct {
    log: *log_file.Log,
    /// In a tier what is complete waits here for its place in the order.
    stage: ?*Stage = null,
    holding: *loss.HoldingPool,
    notices: *notices_file.Notices,
    is_total_order: bool,
    wall_ms: u64 = 0,
    now_ns: u64 = 0,
    /// Memory reserved for messages in assembly.
    extent_bytes: u64 = 0,
    /// Only what is on the disk is acknowledged (`durable.zig`).
    waits_for_disk: bool = false,
    /// The stream for which room is being made; the others take none.
    favoured: ?u32 = null,

    /// Longest message that would fit if nothing but messages in assembly took memory.
    pub fn free_of_extents(self: *const Shared) u64 {
        const spare = 2 * @as(u64, self.log.pool.chunk_bytes);
        return (self.log.pool.bytes - self.extent_bytes) -| spare;
    }
};

pub const Counters = struct {
    datagrams: u64 = 0,
    bytes: u64 = 0,
    duplicates: u64 = 0,
    repairs: u64 = 0,
    early: u64 = 0,
    out_of_range: u64 = 0,
    no_room: u64 = 0,
    naks_sent: u64 = 0,
    nak_ranges_sent: u64 = 0,
    acks_sent: u64 = 0,
    gaps: u64 = 0,
    lost_messages: u64 = 0,
    messages: u64 = 0,
};

pub const Stream = struct {
    id: u32,
    key: Key,
    channel: *const Channel,
    phase: Phase = .init,
    connection: u64 = 0,
    /// Of a tier's stream: under whose reign it was agreed.
    epoch: frame.Epoch = .{},
    has_position: bool = false,
    next: Position = .{ .msg = 0 },
    /// What the program has processed is told (`sendAck`), and acknowledged instead of what the log
    /// has. All below `processed` is; its writer is the thread that processes.
    is_manual: bool = false,
    processed: u64 = 0,
    /// What was acknowledged as processed.
    told: u64 = 0,
    /// What the sender had announced when the session was agreed: numbers are judged from there.
    confirmed: u64 = 0,
    /// Everything below was sent, as far as this receiver knows.
    announced: Position = .{ .msg = 0 },
    acked: Position = .{ .msg = 0 },
    /// `RecordSync: "commit"`: everything below is on the disk, and will be after this force.
    forced: u64 = 0,
    forcing: u64 = 0,
    /// Of a tier's member: nothing from here on is committed. What the log has is told besides.
    committed: ?u64 = null,
    /// Read in place: where this context says what it has processed. Null: datagrams come.
    slot: ?*layout.Slot = null,
    /// One past the last number that the log has; read in place: and past the last that is claimed.
    tail: u64 = 0,
    claimed: u64 = 0,
    /// What was processed when the session turned out to be over.
    stuck_at: ?u64 = null,
    rest_until_ns: u64 = 0,
    nak_end: Position = .{ .msg = 0 },
    session_token: u64 = 0,
    stream_token: u64 = 0,
    repair: Address = .{ .ip = 0, .port = 0 },
    data_from: Address = .{ .ip = 0, .port = 0 },
    tx_arg: u16 = 0,
    group_size: u16 = 1,
    window_datagrams: u32 = 1,
    name_len: u16 = 0,
    name: [64]u8 = @splat(0),
    detector: loss.LossDetector = .{},
    extent: ?log_file.Extent = null,
    extent_arg: u16 = 0,
    extent_fragment_bytes: u16 = 0,
    /// Acknowledge with the next `poll_send`.
    ack_now: bool = false,
    /// The log has no room for what comes next: nothing is taken, nothing more is acknowledged.
    no_memory: bool = false,
    /// That the memory is full was logged, and it still is.
    full_told: bool = false,
    /// What it waits for: bytes of a message, since when without having got any.
    wanted_bytes: u64 = 0,
    starved_since_ns: u64 = 0,
    /// When the contiguous end moved last.
    moved_ns: u64 = 0,
    since_ack_datagrams: u32 = 0,
    /// Messages in a datagram, times 8: a mean of the last ones.
    packed_eighths: u32 = 8,
    last_ack_ns: u64 = 0,
    last_nak_ns: u64 = 0,
    last_heard_ns: u64 = 0,
    last_reply_ns: u64 = 0,
    last_rst_ns: u64 = 0,
    round_trip_ns: u64 = limits.round_trip_first_ns,
    /// FILL_GAP that is not told yet, when it was told last, and its range.
    gap_untold: bool = false,
    gap_told_ns: u64 = 0,
    gap_start: u64 = 0,
    gap_end: u64 = 0,
    sealing: seal.Key = @splat(0),
    opening: seal.Key = @splat(0),
    replay: seal.ReplayWindow = .{},
    counters: Counters = .{},

    pub fn name_slice(self: *const Stream) []const u8 {
        return self.name[0..self.name_len];
    }

    pub fn timing(self: *const Stream) loss.Timing {
        const group = @as(u64, self.group_size);
        const backoff = @min(limits.nak_backoff_ns * group, limits.nak_backoff_max_ns);
        const retry = std.math.clamp(
            self.round_trip_ns * 4,
            limits.nak_retry_min_ns,
            limits.nak_retry_max_ns,
        );
        return .{ .backoff_ns = backoff, .retry_ns = retry + backoff };
    }

    // ---------------------------------------------------------------- data

    /// A checked DATA or FRAGMENT of this connection from the stream's own sender.
    pub fn on_data(
        self: *Stream,
        shared: *Shared,
        now_ns: u64,
        h: *const frame.Header,
        random: std.Random,
    ) void {
        const span = self.span_of(h) orelse {
            self.counters.out_of_range += 1;
            return;
        };
        self.last_heard_ns = now_ns;
        self.counters.datagrams += 1;
        self.counters.bytes += h.length;
        self.since_ack_datagrams += 1;
        const messages: u32 = @intCast(span.end.msg - span.begin.msg);
        self.packed_eighths = self.packed_eighths - self.packed_eighths / 8 + messages;
        const flags = h.flags();
        if (flags.repair) self.counters.repairs += 1;
        if (flags.ack_request or self.since_ack_datagrams >= @max(1, self.window_datagrams / 4)) {
            self.ack_now = if (shared.stage) |stage| stage.mark(self, span.end.msg) else true;
        }
        self.announced = Position.max(self.announced, span.end);
        if (mutant.on(.skip_gap) and self.next.less(span.begin) and !flags.repair) {
            self.abort_extent(shared);
            self.next = .{ .msg = span.begin.msg };
        }
        if (!self.next.less(span.end) and !mutant.on(.take_duplicates)) {
            self.counters.duplicates += 1;
            if (flags.repair) self.ack_now = true;
            return;
        }
        if (!self.next.less(span.begin)) {
            const was_behind = self.detector.count > 0;
            if (!self.take(shared, h)) return;
            // A sender that went back to this receiver's place sends all anew, which is an answer.
            const has_more = self.next.less(self.announced);
            if (has_more and !flags.repair) self.detector.answered(shared.holding);
            if (flags.repair) self.measure(shared, now_ns);
            if (was_behind) self.take_held(shared);
        } else {
            self.hold(shared, h, span);
        }
        if (self.detector.count > 0 or self.next.less(self.announced)) {
            self.detector.watch(
                shared.holding,
                now_ns,
                self.next,
                self.announced,
                self.timing(),
                random,
            );
        }
    }

    const Span = struct { begin: Position, end: Position };

    /// Where a datagram lies, or null when it is malformed or too far ahead to be true.
    fn span_of(self: *const Stream, h: *const frame.Header) ?Span {
        if (!self.is_near(h.number)) return null;
        // The end of what came is a number too, and told in ACK and NAK.
        if (h.number == frame.number_max) return null;
        if (h.type == @backingInt(frame.Type.fragment)) {
            const f = frame.decode_fragment(h) orelse return null;
            const begin: Position = .{ .msg = h.number, .frag = f.head.fragment_no };
            const end: Position = if (f.head.fragment_no + 1 == f.count)
                .{ .msg = h.number + 1 }
            else
                .{ .msg = h.number, .frag = f.head.fragment_no + 1 };
            return .{ .begin = begin, .end = end };
        }
        const count = frame.message_count(h) orelse return null;
        if (h.number + count > frame.number_max) return null;
        return .{ .begin = .{ .msg = h.number }, .end = .{ .msg = h.number + count } };
    }

    /// A window at most beyond what this receiver has, or the sender had when they agreed: a number
    /// beyond that is damaged or forged, and believing it would end the stream.
    pub fn is_near(self: *const Stream, number_told: u64) bool {
        const base = @max(self.next.msg, self.confirmed);
        const window = @as(u64, self.window_datagrams) * limits.messages_per_datagram_max;
        // Numbers given while the send flag was off come as one jump, as long as a window's ring.
        return number_told -| base <= @max(window, limits.numbers_ahead_min);
    }

    fn measure(self: *Stream, shared: *Shared, now_ns: u64) void {
        const took = self.detector.progressed(shared.holding, now_ns, self.timing()) orelse return;
        self.round_trip_ns = @min(
            (self.round_trip_ns * 7 + took) / 8 + 1,
            limits.nak_retry_max_ns,
        );
    }

    fn hold(self: *Stream, shared: *Shared, h: *const frame.Header, span: Span) void {
        if (self.stands_back(shared)) {
            self.counters.no_room += 1;
            return;
        }
        const p: [*]const u8 = @ptrCast(h);
        const bytes = p[0..h.length];
        const had_gap = self.detector.count > 0;
        switch (self.detector.insert(shared.holding, span.begin, span.end, .datagram, bytes)) {
            .held => {
                self.counters.early += 1;
                if (!had_gap) self.counters.gaps += 1;
            },
            .duplicate => self.counters.duplicates += 1,
            .no_room => self.counters.no_room += 1,
        }
    }

    /// The sender is gone: what is not ordered yet is not needed before it is back, and then comes
    /// again, but others need the memory now.
    pub fn let_go(self: *Stream, shared: *Shared) void {
        self.detector.clear(shared.holding);
        self.abort_extent(shared);
    }

    /// Takes what is held and now lies at `next`.
    pub fn take_held(self: *Stream, shared: *Shared) void {
        while (self.detector.peek(shared.holding)) |held| {
            if (self.next.less(held.begin)) return;
            if (self.next.less(held.end)) {
                switch (held.kind) {
                    .datagram => {
                        const bytes = shared.holding.bytes_of(held);
                        if (!self.take(shared, @ptrCast(bytes.ptr))) return;
                    },
                    .unused => self.move_to(shared, held.end.msg),
                    .gone => {
                        if (!shared.notices.has_room_for_loss()) return;
                        self.lose(shared, held.end.msg);
                    },
                }
            }
            self.detector.pop(shared.holding);
        }
    }

    /// Appends what a datagram has at `next`. False: the log has no room.
    fn take(self: *Stream, shared: *Shared, h: *const frame.Header) bool {
        if (h.type == @backingInt(frame.Type.fragment)) return self.take_fragment(shared, h);
        if (self.next.frag != 0) {
            // The same number was in fragments before: not from the sender that we agreed with.
            self.counters.out_of_range += 1;
            return true;
        }
        var it: frame.MessageIterator = .init(h);
        var msg = h.number;
        while (it.next()) |m| : (msg += 1) {
            if (msg < self.next.msg and !mutant.on(.take_duplicates)) continue;
            if (self.stands_back(shared)) return self.refuse_for_room(shared, m.payload.len);
            self.put(shared, msg, m.head.msg_arg, m.payload) catch {
                return self.refuse_for_room(shared, m.payload.len);
            };
            self.counters.messages += 1;
            self.next = .{ .msg = msg + 1 };
            self.tail = msg + 1;
        }
        assert(!it.broken);
        self.moved(shared);
        return true;
    }

    inline fn put(
        self: *const Stream,
        shared: *Shared,
        msg: u64,
        msg_arg: u16,
        payload: []const u8,
    ) error{NoMemory}!void {
        if (shared.stage) |stage| return stage.put(self.id, msg, msg_arg, self.tx_arg, payload);
        _ = try shared.log.append(self.meta(shared, msg, msg_arg), payload);
    }

    fn meta(self: *const Stream, shared: *const Shared, msg: u64, msg_arg: u16) record.Meta {
        return .{
            .stream = self.id,
            .msg_no = msg,
            .time_ms = shared.wall_ms,
            .msg_arg = msg_arg,
            .tx_arg = self.tx_arg,
        };
    }

    fn refuse_for_room(self: *Stream, shared: *Shared, wanted_bytes: u64) bool {
        self.counters.no_room += 1;
        self.detector.answered(shared.holding);
        self.wanted_bytes = wanted_bytes;
        if (self.starved_since_ns == 0) self.starved_since_ns = @max(1, shared.now_ns);
        if (!self.no_memory) {
            self.no_memory = true;
            self.ack_now = true;
        }
        return false;
    }

    fn take_fragment(self: *Stream, shared: *Shared, h: *const frame.Header) bool {
        const f = frame.decode_fragment(h).?;
        assert(h.number == self.next.msg);
        if (self.next.frag == 0) {
            if (f.head.message_length > shared.log.payload_bytes_max()) {
                if (!shared.notices.has_room_for_loss()) return true;
                shared.notices.log(.message_over_memory, .err, .{
                    .transport = self.key.transport,
                    .name = self.name_slice(),
                    .args = .{
                        number(h.number),
                        number(f.head.message_length),
                        number(shared.log.pool.bytes),
                        0,
                    },
                });
                self.lose(shared, h.number + 1);
                return true;
            }
            assert(self.extent == null);
            const length = f.head.message_length;
            if (self.stands_back(shared)) return self.refuse_for_room(shared, length);
            self.extent = self.take_room(shared, length) orelse
                return self.refuse_for_room(shared, length);
            self.extent_arg = f.head.msg_arg;
            self.extent_fragment_bytes = f.head.fragment_bytes;
        }
        const extent = self.extent.?;
        const payload = extent.payload;
        const fits = payload.len == f.head.message_length and
            f.head.fragment_bytes == self.extent_fragment_bytes and
            f.head.fragment_no == self.next.frag;
        if (!fits) {
            self.counters.out_of_range += 1;
            return true;
        }
        var at = @as(u64, f.head.fragment_no) * f.head.fragment_bytes;
        if (mutant.on(.fragment_misplaced) and f.head.fragment_no == 1) at = 0;
        @memcpy(payload[at..][0..f.payload.len], f.payload);
        if (f.head.fragment_no + 1 < f.count) {
            self.next.frag += 1;
            self.moved(shared);
            return true;
        }
        self.commit(shared, extent, h.number) catch return self.refuse_for_room(shared, 0);
        self.extent = null;
        self.counters.messages += 1;
        self.next = .{ .msg = h.number + 1 };
        self.tail = h.number + 1;
        self.moved(shared);
        return true;
    }

    fn take_room(self: *const Stream, shared: *Shared, length: u32) ?log_file.Extent {
        if (shared.stage) |stage| return stage.reserve(self.id, self.next.msg, length);
        const extent = shared.log.reserve(length) orelse return null;
        shared.extent_bytes += reserved_bytes(shared, length);
        return extent;
    }

    fn commit(
        self: *const Stream,
        shared: *Shared,
        extent: log_file.Extent,
        msg: u64,
    ) error{NoMemory}!void {
        if (shared.stage) |stage| {
            return stage.commit(self.id, extent, msg, self.extent_arg, self.tx_arg);
        }
        _ = try shared.log.commit(extent, self.meta(shared, msg, self.extent_arg));
        shared.extent_bytes -= reserved_bytes(shared, extent.payload.len);
    }

    fn reserved_bytes(shared: *const Shared, length: u64) u64 {
        return std.mem.alignForward(u64, record.record_bytes(length), shared.log.pool.chunk_bytes);
    }

    /// The log took something: there is room.
    fn moved(self: *Stream, shared: *Shared) void {
        self.no_memory = false;
        self.starved_since_ns = 0;
        self.moved_ns = shared.now_ns;
        if (shared.favoured == self.id) shared.favoured = null;
    }

    /// Room is being made for another stream.
    fn stands_back(self: *const Stream, shared: *const Shared) bool {
        const id = shared.favoured orelse return false;
        return id != self.id;
    }

    /// What was refused would not be refused now.
    pub fn would_fit(self: *const Stream, shared: *Shared) bool {
        if (shared.stage) |stage| {
            if (self.extent != null) return true;
            return stage.would_fit(self.id, self.next.msg, self.wanted_bytes);
        }
        if (self.extent != null) {
            // It is complete and lacks only its place in the order.
            const chunk = shared.log.pool.take(1) orelse return false;
            shared.log.pool.release(chunk, 1);
            return true;
        }
        return shared.log.could_reserve(@intCast(self.wanted_bytes));
    }

    pub fn abort_extent(self: *Stream, shared: *Shared) void {
        if (self.extent) |e| {
            if (shared.stage) |stage| {
                stage.abort(self.id, e);
            } else {
                shared.extent_bytes -= reserved_bytes(shared, e.payload.len);
                shared.log.abort(e);
            }
        }
        self.extent = null;
        self.next.frag = 0;
    }

    /// Goes on at `msg` without messages: nothing was ever sent under the numbers between.
    fn move_to(self: *Stream, shared: *Shared, msg: u64) void {
        assert(msg > self.next.msg);
        self.abort_extent(shared);
        self.next = .{ .msg = msg };
    }

    /// Gives [next, end) up: exactly one MESSAGE_LOSS with the range, and OUT_OF_SYNC where there
    /// is an order.
    pub fn lose(self: *Stream, shared: *Shared, end: u64) void {
        const begin = self.next.msg;
        assert(begin < end);
        self.move_to(shared, end);
        self.announced = Position.max(self.announced, self.next);
        // What its sender does not have any more the tier has: a follower gets it from the leader.
        if (shared.stage) |stage| if (!stage.is_leader) return;
        self.counters.lost_messages += end - begin;
        self.ack_now = true;
        if (mutant.on(.loss_silent)) return;
        const last = if (mutant.on(.loss_short)) end -| 2 else end - 1;
        const a: notices_file.Notices.Args = .{
            .transport = self.key.transport,
            .name = self.name_slice(),
            .args = .{ number(begin), number(last), 0, 0 },
        };
        shared.notices.log(.message_loss, .err, a);
        shared.notices.event(.message_loss, a);
        if (!shared.is_total_order or mutant.on(.out_of_sync_forgotten)) return;
        shared.notices.event(.out_of_sync, a);
    }

    /// A FILL of the sender: the numbers [start, end) will not come.
    pub fn on_fill(
        self: *Stream,
        shared: *Shared,
        start: u64,
        end: u64,
        reason: frame.FillReason,
    ) void {
        if (end > self.announced.msg or end <= self.next.msg) return;
        if (start <= self.next.msg) {
            // The sender is asked again until whoever reads events has room for this one.
            if (reason == .gone and !shared.notices.has_room_for_loss()) return;
            switch (reason) {
                .unused => self.move_to(shared, end),
                .gone => self.lose(shared, end),
            }
            self.detector.settled(shared.holding, shared.now_ns);
            self.ack_now = true;
            return;
        }
        _ = self.detector.insert(
            shared.holding,
            .{ .msg = start },
            .{ .msg = end },
            if (reason == .gone) .gone else .unused,
            "",
        );
    }

    // ---------------------------------------------------------------- acknowledgement and repair

    /// What may be acknowledged now: the log has it, the sender has announced it, and there is room
    /// for more.
    pub fn ack_position(self: *Stream, shared: *Shared) Position {
        if (mutant.on(.ack_highest)) return self.announced;
        // The sender's memory is read until a message was processed.
        if (self.slot != null and !self.is_manual) return self.processed_position();
        if (shared.stage) |stage| return stage.ack_position(self);
        const have = Position.min(durable.limit(self, shared, self.next), self.announced);
        if (self.withheld(shared)) return Position.min(have, self.acked);
        return have;
    }

    /// The sender counts on what was processed, not on what the log has.
    pub fn is_mandatory(self: *const Stream) bool {
        return self.slot != null or self.is_manual or self.committed != null;
    }

    /// A mandatory ACK is not about what the log has, and tells that too; who reads in place has
    /// what was written.
    pub fn tells_taken(self: *const Stream, ack: *const frame.Header) bool {
        return ack.flags().mandatory and (self.slot == null or self.is_manual);
    }

    /// What is acknowledged where the log has all below `taken`.
    pub fn said_position(self: *const Stream, taken: Position) Position {
        if (self.committed) |committed| return .{ .msg = @min(committed, taken.msg) };
        return if (self.is_manual) self.processed_position() else taken;
    }

    /// What a mandatory acker acknowledges.
    pub fn processed_position(self: *const Stream) Position {
        return Position.min(.{ .msg = self.processed_next() }, self.announced);
    }

    /// Everything below was processed, or is not there to be processed.
    pub fn processed_next(self: *const Stream) u64 {
        const at = if (self.is_manual) &self.processed else &self.slot.?.consumed;
        const consumed = @atomicLoad(u64, at, .acquire);
        if (mutant.on(.manual_ack_logged) and self.is_manual) return self.next.msg;
        return if (consumed >= self.tail) self.next.msg else consumed;
    }

    /// Read in place: everything below needs the sender's memory no longer.
    pub fn released_next(self: *const Stream) u64 {
        return if (self.is_manual) self.next.msg else self.processed_next();
    }

    /// As long as the program processes nothing of what waits for it, this receiver does not come
    /// back to hold everybody up once more.
    pub fn is_stuck(self: *Stream) bool {
        const slot = self.slot orelse return false;
        if (self.is_manual) return false;
        const consumed = @atomicLoad(u64, &slot.consumed, .acquire);
        if (self.stuck_at == null) self.stuck_at = consumed;
        return consumed < self.tail and consumed == self.stuck_at.?;
    }

    /// The same where the program acknowledges: it may need more before it does, so the rest ends.
    pub fn rests(self: *Stream, now_ns: u64) bool {
        const at = self.processed_next();
        if (at == self.next.msg) return false;
        const stuck_at = self.stuck_at orelse {
            self.stuck_at = at;
            // Far shorter than the patience for a gap, which nobody repairs meanwhile.
            const rest_ns = @min(limits.processed_rest_ns, self.channel.heartbeat_timeout_ns);
            self.rest_until_ns = now_ns + rest_ns;
            return true;
        };
        return at == stuck_at and now_ns < self.rest_until_ns;
    }

    /// Near the end of the memory nothing more is acknowledged, so that the sender pauses before
    /// anything would have to be dropped: what is in flight still fits.
    pub fn withheld(self: *const Stream, shared: *Shared) bool {
        // The rest of a message that is being assembled needs no more memory, nor does one that is
        // read in place.
        if (self.extent != null or self.slot != null) return false;
        // A tier acknowledges what is committed, and refuses by itself what it has no room for.
        if (shared.stage != null) return false;
        const in_flight = @as(u64, self.window_datagrams) * limits.log_bytes_per_datagram;
        const pool = shared.log.pool;
        const reserve = @min((pool.bytes - shared.extent_bytes) / 4, in_flight);
        return @as(u64, pool.free_count()) * pool.chunk_bytes < reserve;
    }

    /// Says once that the sender is held up for want of memory here.
    pub fn tell_full(self: *Stream, shared: *Shared, is_full: bool) void {
        if (is_full and !self.full_told) shared.notices.log(.receive_memory_full, .warn, .{
            .transport = self.key.transport,
            .name = self.name_slice(),
            .args = .{ number(shared.log.pool.bytes), 0, 0, 0 },
        });
        self.full_told = is_full;
    }

    /// Nothing is asked for beyond a window above the contiguous end: whoever is far behind takes
    /// it window by window, instead of again and again what it can't hold.
    pub fn repair_limit(self: *const Stream) Position {
        const messages = @as(u64, self.window_datagrams) * (self.packed_eighths / 8 + 1);
        if (self.next.frag == 0) return .{ .msg = self.next.msg + messages };
        return .{ .msg = self.next.msg, .frag = self.next.frag + self.window_datagrams };
    }

    pub fn is_behind(self: *const Stream) bool {
        return self.next.less(self.announced);
    }
};
