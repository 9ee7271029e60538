//! The receiving side of a context: sessions with all senders, dispatch, acknowledgements, NAKs,
//! silence. No I/O.
//!
//! A session is agreed in three steps. A sender announces itself (SYN, to all). The receiver
//! answers with a random token and what it has (SYN_REPLY, to the sender's repair address). The
//! sender quotes the token (CONFIRM) and gives two tokens of its own: one that this receiver's ACKs
//! and NAKs must quote, and one that the sender's control frames quote. Only then does anything
//! change: a datagram that somebody forged without seeing the traffic can neither start, move nor
//! end a stream.
//!
//! Long because dispatch, time and sending share one state.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("limits.zig");
const assert = @import("../assert.zig").assert;
const mutant = @import("../testing/mutant.zig");
const Address = @import("../transport/address.zig").Address;
const log_file = @import("../order/log.zig");
const StreamEntry = @import("../order/record_file.zig").StreamEntry;
const loss = @import("../repair/loss_detector.zig");
const notices_file = @import("notices.zig");
const challenge = @import("challenge.zig");
const durable = @import("durable.zig");
const room = @import("room.zig");
const stream_file = @import("stream.zig");
const layout = @import("../window/node.zig");

const Position = frame.Position;
const Stream = stream_file.Stream;
const Channel = stream_file.Channel;
const Key = stream_file.Key;
const Notices = notices_file.Notices;
const number = notices_file.number;
const Run = @import("sender.zig").Run;
const ns_per_ms = std.time.ns_per_ms;

pub const Options = struct {
    cluster: u16 = 0,
    id: u16,
    name: []const u8,
    channels: []const Channel,
    is_total_order: bool = true,
    /// The program says what it has processed (`sendAck`).
    is_manual: bool = false,
    seed: u64,
    /// Largest datagram that this receiver builds.
    datagram_bytes: u32 = 1472,
};

pub const Counters = struct {
    /// Also those that are refused; the kernel hands over several in one buffer.
    datagrams: u64 = 0,
    refused: [@typeInfo(frame.Refusal).@"enum".field_names.len]u64 = @splat(0),
    unknown_stream: u64 = 0,
    bad_token: u64 = 0,
    out_of_range: u64 = 0,
    unauthenticated: u64 = 0,
    replayed: u64 = 0,
};

pub const Receiver = struct {
    o: Options,
    /// One for each order: without a total order each topic has its own.
    lanes: []stream_file.Shared,
    streams: []Stream,
    count: u32 = 0,
    last: u32 = 0,
    pendings: [limits.pendings_max]challenge.Pending = @splat(.{}),
    notices: Notices = .{},
    counters: Counters = .{},
    rng: std.Random.DefaultPrng,
    instance: u64,
    seal_counter: u64 = 0,
    deadline_ns: u64 = 0,
    /// Something may want to be sent.
    dirty: bool = false,
    closing: bool = false,
    closing_at: u32 = 0,
    was_withheld: bool = false,
    /// When room is looked for again, if somebody waits for it.
    room_due_ns: u64 = 0,
    /// Of windows that are read in place, by the port of their frames' address - 1.
    slots: []const *layout.Slot = &.{},

    pub fn init(
        gpa: std.mem.Allocator,
        o: Options,
        log: *log_file.Log,
        holding: *loss.HoldingPool,
    ) !Receiver {
        return init_lanes(gpa, o, &.{.{ .log = log, .holding = holding }});
    }

    pub const Lane = struct { log: *log_file.Log, holding: *loss.HoldingPool };

    /// With an order for each lane that a channel names.
    pub fn init_lanes(gpa: std.mem.Allocator, o: Options, orders: []const Lane) !Receiver {
        assert(o.id != 0);
        const lanes = try gpa.alloc(stream_file.Shared, orders.len);
        errdefer gpa.free(lanes);
        for (lanes, orders) |*lane, order| lane.* = .{
            .log = order.log,
            .holding = order.holding,
            .notices = undefined,
            .is_total_order = o.is_total_order,
        };
        var rng: std.Random.DefaultPrng = .init(o.seed);
        const instance = (rng.random().int(u64) << 16) | o.id;
        return .{
            .o = o,
            .lanes = lanes,
            .streams = try gpa.alloc(Stream, limits.streams_max),
            .rng = rng,
            .instance = instance,
        };
    }

    /// To be called once the struct is where it stays.
    pub fn settle(self: *Receiver) void {
        for (self.lanes) |*lane| lane.notices = &self.notices;
    }

    /// What the streams of its lane share.
    pub inline fn shared_of(self: *Receiver, s: *const Stream) *stream_file.Shared {
        return &self.lanes[s.channel.lane];
    }

    /// The calendar's time of what comes next.
    pub fn set_wall(self: *Receiver, wall_ms: u64) void {
        for (self.lanes) |*lane| lane.wall_ms = wall_ms;
    }

    fn set_now(self: *Receiver, now_ns: u64) void {
        for (self.lanes) |*lane| lane.now_ns = now_ns;
    }

    /// Everything appended becomes visible.
    pub fn publish(self: *Receiver) void {
        for (self.lanes) |*lane| lane.log.publish();
    }

    pub fn deinit(self: *Receiver, gpa: std.mem.Allocator) void {
        for (self.active()) |*s| {
            const shared = self.shared_of(s);
            s.detector.clear(shared.holding);
            s.abort_extent(shared);
        }
        gpa.free(self.lanes);
        gpa.free(self.streams);
    }

    pub fn active(self: *Receiver) []Stream {
        return self.streams[0..self.count];
    }

    // ---------------------------------------------------------------- received

    /// What one receive call brought: one datagram, or several of one sender joined by the kernel.
    pub fn on_buffer(
        self: *Receiver,
        now_ns: u64,
        wall_ms: u64,
        from: Address,
        bytes: []align(8) u8,
    ) void {
        self.set_wall(wall_ms);
        self.set_now(now_ns);
        var left = bytes;
        while (left.len > 0) {
            self.counters.datagrams += 1;
            const used = self.on_datagram(now_ns, from, left);
            left = @alignCast(left[used..]);
        }
        self.publish();
    }

    /// Handles the first datagram of `bytes` and says how long it was.
    fn on_datagram(self: *Receiver, now_ns: u64, from: Address, bytes: []align(8) u8) usize {
        const h = switch (frame.decode_header(bytes, self.o.cluster)) {
            .ok => |h| h,
            .refused => |why| {
                if (mutant.on(.check_ignored) and why == .bad_check) {
                    const damaged: *const frame.Header = @ptrCast(bytes.ptr);
                    self.dispatch(now_ns, from, damaged, bytes);
                    return damaged.length;
                }
                self.counters.refused[@backingInt(why)] += 1;
                return bytes.len; // its length field can't be trusted
            },
        };
        const length = h.length;
        self.dispatch(now_ns, from, h, bytes);
        return length;
    }

    fn dispatch(
        self: *Receiver,
        now_ns: u64,
        from: Address,
        h: *const frame.Header,
        bytes: []align(8) u8,
    ) void {
        const kind = frame.type_of(h) orelse return;
        const key: Key = .of(h);
        switch (kind) {
            .syn => return challenge.on_syn(self, now_ns, from, h, bytes),
            .confirm => return challenge.on_confirm(self, now_ns, h, bytes),
            .syn_reply, .ack, .nak => {
                self.counters.refused[@backingInt(frame.Refusal.unknown_type)] += 1;
                return;
            },
            else => {},
        }
        const s = self.find(key) orelse {
            self.counters.unknown_stream += 1;
            return;
        };
        if (s.connection != h.connection() or s.phase == .init or s.phase == .closed) {
            self.counters.unknown_stream += 1;
            return;
        }
        // Where there is a seal, it says who sends. An address says less: whoever plays a SYN again
        // from another place would lead the stream there.
        const is_foreign = !from.eql(s.data_from) and !from.eql(s.repair);
        const is_elsewhere = (from.ip == 0) != (s.repair.ip == 0);
        if (is_elsewhere or is_foreign and s.channel.group_key == null) {
            self.counters.bad_token += 1;
            return;
        }
        if (!self.authentic(s, h, bytes)) return;
        switch (kind) {
            .data, .fragment => {
                s.on_data(self.shared_of(s), now_ns, h, self.rng.random());
                self.revive(now_ns, s);
                if (s.ack_now) self.dirty = true;
                self.deadline_ns = @min(self.deadline_ns, s.detector.due_ns);
                if (s.is_manual) self.look_soon(now_ns);
            },
            .heartbeat => self.on_heartbeat(now_ns, from, s, h),
            .fill => self.on_fill(now_ns, s, h),
            .rst => self.on_rst(now_ns, s, h),
            else => unreachable,
        }
    }

    /// The program has processed everything below `next`, a place in the order that was read. Of
    /// the thread that takes messages, where the program acknowledges.
    pub fn process_to(self: *Receiver, next: u64) void {
        assert(self.o.is_manual and self.lanes.len == 1);
        const log = self.lanes[0].log;
        for (log.processed_next()..next) |_| {
            const header = log.next_done();
            const s = &self.streams[header.stream];
            @atomicStore(u64, &s.processed, header.msg_no + 1, .release);
        }
        log.processed(next);
    }

    /// The program may acknowledge soon what was just taken.
    pub fn look_soon(self: *Receiver, now_ns: u64) void {
        self.deadline_ns = @min(self.deadline_ns, now_ns + limits.processed_look_ns);
    }

    pub fn find(self: *Receiver, key: Key) ?*Stream {
        if (self.last < self.count and self.streams[self.last].key.eql(key)) {
            return &self.streams[self.last];
        }
        for (self.active(), 0..) |*s, i| {
            if (!s.key.eql(key)) continue;
            self.last = @intCast(i);
            return s;
        }
        return null;
    }

    /// Before anything is received: a stream that an earlier process recorded goes on behind its
    /// last message. Streams come in the order of their ids. False: its transport is not received
    /// here.
    pub fn restore(
        self: *Receiver,
        entry: *const StreamEntry,
        next_msg: u64,
        has_position: bool,
    ) bool {
        assert(entry.id == self.count);
        const key: Key = .{
            .tier = entry.is_tier != 0,
            .source = entry.source,
            .transport = entry.transport,
        };
        const of_results = key.eql(stream_file.results_key);
        const channel = if (of_results)
            &self.o.channels[0]
        else
            self.channel_of(entry.transport) orelse return false;
        const topic = entry.topic[0..entry.topic_bytes];
        if (!of_results and !std.mem.eql(u8, channel.topic, topic)) return false;
        const s = challenge.add_stream(self, key, channel) orelse return false;
        s.connection = entry.connection;
        s.tx_arg = entry.tx_arg;
        s.name = entry.name;
        s.name_len = entry.name_bytes;
        s.has_position = has_position and !mutant.on(.restore_forgotten);
        s.next = .{ .msg = next_msg };
        s.announced = s.next;
        durable.begin(s);
        if (self.lanes[0].stage) |stage| stage.restore(s);
        // Nothing of it counts as processed before the program has said so again.
        s.tail = next_msg;
        return true;
    }

    pub fn channel_of(self: *Receiver, transport: u16) ?*const Channel {
        for (self.o.channels) |*c| if (c.transport == transport) return c;
        return null;
    }

    /// Sealed exactly where there is a group key, by the right one, and not seen before.
    fn authentic(self: *Receiver, s: *Stream, h: *const frame.Header, bytes: []align(8) u8) bool {
        if ((s.channel.group_key != null) != h.flags().sealed) {
            self.counters.unauthenticated += 1;
            return false;
        }
        if (!h.flags().sealed) return true;
        const counter = seal.trailer_of(h).counter;
        if (seal.trailer_of(h).instance != s.connection or
            !seal.open(s.opening, bytes[0..h.length]))
        {
            self.counters.unauthenticated += 1;
            return false;
        }
        if (s.replay.accept(counter) or mutant.on(.replay_accepted)) return true;
        self.counters.replayed += 1;
        return false;
    }

    /// The stream moved, or may move: takes what is held at its end, and starts timers of gaps.
    pub fn watch(self: *Receiver, now_ns: u64, s: *Stream) void {
        if (s.slot != null) return; // Nothing can be missing in memory.
        s.take_held(self.shared_of(s));
        s.detector.watch(
            self.shared_of(s).holding,
            now_ns,
            s.next,
            s.announced,
            s.timing(),
            self.rng.random(),
        );
        self.deadline_ns = @min(self.deadline_ns, s.detector.due_ns);
    }

    /// A stream that was given up is heard again: the session is agreed anew before it counts as
    /// alive.
    fn revive(self: *Receiver, now_ns: u64, s: *Stream) void {
        if (s.phase != .lost) return;
        self.deadline_ns = @min(
            self.deadline_ns,
            s.last_heard_ns + s.channel.heartbeat_timeout_ns,
        );
        challenge.challenge_again(self, now_ns, s);
    }

    fn on_heartbeat(
        self: *Receiver,
        now_ns: u64,
        from: Address,
        s: *Stream,
        h: *const frame.Header,
    ) void {
        const b = frame.decode_heartbeat(h) orelse {
            self.counters.out_of_range += 1;
            return;
        };
        if (b.stream_token != s.stream_token) {
            self.counters.bad_token += 1;
            return;
        }
        if (!s.is_near(h.number)) {
            self.counters.out_of_range += 1;
            return;
        }
        s.last_heard_ns = now_ns;
        s.group_size = @max(1, b.group_size);
        const told: Position = .{ .msg = h.number, .frag = b.frag };
        if (s.slot == null and from.eql(s.repair)) {
            // To this receiver alone: the answer to a NAK for what was never sent.
            s.announced = Position.max(told, s.detector.highest(self.shared_of(s).holding, s.next));
        } else s.announced = Position.max(s.announced, told);
        if (h.flags().ack_request) {
            s.ack_now = true;
            self.dirty = true;
            if (self.lanes[0].stage) |stage| _ = stage.mark(s, s.announced.msg);
        }
        self.revive(now_ns, s);
        self.watch(now_ns, s);
    }

    fn on_fill(self: *Receiver, now_ns: u64, s: *Stream, h: *const frame.Header) void {
        const f = frame.decode_fill(h) orelse {
            self.counters.out_of_range += 1;
            return;
        };
        if (f.stream_token != s.stream_token) {
            self.counters.bad_token += 1;
            return;
        }
        s.on_fill(self.shared_of(s), h.number, f.end, @fromBackingInt(@intCast(f.reason)));
        self.watch(now_ns, s);
        self.dirty = true;
    }

    fn on_rst(self: *Receiver, now_ns: u64, s: *Stream, h: *const frame.Header) void {
        const r = frame.decode_rst(h) orelse {
            self.counters.out_of_range += 1;
            return;
        };
        switch (@as(frame.RstReason, @fromBackingInt(@intCast(r.reason)))) {
            .closed => {
                if (r.token != s.stream_token) {
                    self.counters.bad_token += 1;
                    return;
                }
                self.notices.log(.transmitter_closed, .info, .{
                    .transport = s.key.transport,
                    .name = s.name_slice(),
                });
                const was_started = s.phase == .started;
                s.phase = .closed;
                s.let_go(self.shared_of(s));
                if (was_started) self.tell_no_transmitter(s);
            },
            .unknown_session, .disconnected => {
                if (r.token != s.session_token or r.receiver != self.o.id) {
                    self.counters.bad_token += 1;
                    return;
                }
                s.last_rst_ns = now_ns;
                const is_slow = r.reason == @backingInt(frame.RstReason.disconnected);
                if (is_slow and s.is_manual and s.rests(now_ns)) return;
                challenge.challenge_again(self, now_ns, s);
            },
        }
    }

    /// The last sender of a topic and partition is gone.
    fn tell_no_transmitter(self: *Receiver, gone: *const Stream) void {
        for (self.active()) |*s| {
            if (s.key.transport == gone.key.transport and s.phase == .started) return;
        }
        self.notices.event(.no_transmitter, .{
            .transport = gone.key.transport,
            .name = gone.name_slice(),
        });
    }

    // ---------------------------------------------------------------- time

    /// Silence, acknowledgement intervals, due NAKs. Cheap while the deadline has not come.
    pub fn tick(self: *Receiver, now_ns: u64) void {
        const room_is_back = self.was_withheld and !self.any_withheld();
        if (self.lanes[0].waits_for_disk and durable.step(self)) {
            self.deadline_ns = @min(self.deadline_ns, now_ns + durable.look_ns);
        }
        if (now_ns < self.deadline_ns and !room_is_back) return;
        self.set_now(now_ns);
        if (now_ns >= self.room_due_ns and room.is_wanted(self)) {
            self.room_due_ns = now_ns + ns_per_ms;
            room.find(self, now_ns);
        }
        var deadline: u64 = std.math.maxInt(u64);
        for (self.active()) |*s| {
            if (s.phase == .init or s.phase == .closed) continue;
            if (s.phase == .started) self.tick_silence(now_ns, s);
            if (s.phase == .lost) deadline = @min(deadline, self.tick_lost(now_ns, s));
            if (s.gap_untold) {
                self.tell_gap(now_ns, s);
                if (s.gap_untold) {
                    deadline = @min(deadline, s.gap_told_ns + limits.gap_event_interval_ns);
                }
            }
            if (s.phase != .started) continue;
            const ack_due = s.last_ack_ns + s.channel.ack_interval_ns;
            if (now_ns >= ack_due or room_is_back) s.ack_now = true;
            if (s.is_manual) deadline = @min(deadline, tick_processed(now_ns, s));
            if (s.ack_now or s.detector.due_ns <= now_ns) self.dirty = true;
            deadline = @min(deadline, s.last_heard_ns + s.channel.heartbeat_timeout_ns);
            deadline = @min(deadline, @max(ack_due, now_ns + 1));
            deadline = @min(deadline, @max(s.detector.due_ns, now_ns + 1));
        }
        if (self.lanes[0].waits_for_disk) deadline = @min(deadline, now_ns + durable.look_ns);
        self.was_withheld = self.any_withheld();
        if (self.was_withheld) deadline = @min(deadline, now_ns + ns_per_ms);
        self.deadline_ns = deadline;
    }

    /// What the program has processed is told within a moment. When to look again.
    fn tick_processed(now_ns: u64, s: *Stream) u64 {
        const at = s.processed_position().msg;
        if (at > s.told and now_ns >= s.last_ack_ns + limits.processed_look_ns) s.ack_now = true;
        const is_done = at == s.told and s.processed_next() == s.next.msg;
        return if (is_done) std.math.maxInt(u64) else now_ns + limits.processed_look_ns;
    }

    fn any_withheld(self: *Receiver) bool {
        for (self.active()) |*s| {
            if (s.phase == .started and (s.no_memory or s.withheld(self.shared_of(s)))) return true;
        }
        return false;
    }

    fn tick_silence(self: *Receiver, now_ns: u64, s: *Stream) void {
        const silent = now_ns -| s.last_heard_ns;
        if (silent < s.channel.heartbeat_timeout_ns or mutant.on(.silence_unnoticed)) return;
        self.notices.log(.heartbeat_timeout, .warn, .{
            .transport = s.key.transport,
            .name = s.name_slice(),
            .args = .{ number(silent / ns_per_ms), 0, 0, 0 },
        });
        self.notices.event(.heartbeat_timeout, .{
            .transport = s.key.transport,
            .name = s.name_slice(),
        });
        s.phase = .lost;
        s.let_go(self.shared_of(s));
        self.tell_no_transmitter(s);
    }

    /// A sender that was given up may be heard for a moment and then never again: what came of it
    /// does not stand in the way of others for ever. When to look again.
    fn tick_lost(self: *Receiver, now_ns: u64, s: *Stream) u64 {
        const never = std.math.maxInt(u64);
        if (s.extent == null and s.detector.count == 0) return never;
        const until_ns = s.last_heard_ns + s.channel.heartbeat_timeout_ns;
        if (now_ns < until_ns) return until_ns;
        s.let_go(self.shared_of(s));
        return never;
    }

    pub fn next_deadline_ns(self: *const Receiver, now_ns: u64) u64 {
        return if (self.dirty) now_ns else self.deadline_ns;
    }

    // ---------------------------------------------------------------- to send

    /// The next datagram to a sender, or null.
    pub fn poll_send(self: *Receiver, now_ns: u64, image: []align(8) u8) ?Run {
        if (self.closing) return self.closing_run(image);
        if (!self.dirty) return null;
        for (&self.pendings) |*p| {
            if (!p.used or !p.reply_due) continue;
            p.reply_due = false;
            if (now_ns < p.last_reply_ns + limits.syn_reply_interval_ns and p.last_reply_ns != 0) {
                continue;
            }
            p.last_reply_ns = now_ns;
            return challenge.syn_reply_run(self, image, p);
        }
        for (self.active()) |*s| {
            if (s.phase != .started) continue;
            if (s.ack_now) return self.ack_run(now_ns, s, image);
            if (s.detector.due_ns <= now_ns) {
                if (self.nak_run(now_ns, s, image)) |run| return run;
            }
        }
        self.dirty = false;
        return null;
    }

    pub fn finish(
        self: *Receiver,
        group_key: bool,
        key: *const seal.Key,
        to: Address,
        image: []align(8) u8,
    ) Run {
        const h: *frame.Header = @ptrCast(image.ptr);
        if (group_key) {
            h.length += @sizeOf(frame.SealTrailer);
            // One counter for all keys of this receiver: no nonce can come twice under any of them.
            var sealer: seal.Sealer = .{
                .key = key.*,
                .instance = self.instance,
                .counter = self.seal_counter,
            };
            sealer.seal(image[0..h.length]);
            self.seal_counter = sealer.counter;
        } else frame.write_check(image[0..h.length]);
        return .{ .to = to, .bytes = h.length, .segment_bytes = h.length };
    }

    pub fn head(
        self: *const Receiver,
        kind: frame.Type,
        key: Key,
        connection: u64,
        sealed: bool,
        n: u64,
    ) frame.Header {
        return .{
            .type = @backingInt(kind),
            .length = 0,
            .cluster = self.o.cluster,
            .check = 0,
            .source = key.source,
            .transport = key.transport,
            .connection_flags = .{
                .connection = @intCast(connection),
                .flags = .{ .tier = key.tier, .sealed = sealed },
            },
            .number = n,
        };
    }

    /// What it acknowledges is acknowledged by the tier.
    pub fn is_tier_member(self: *const Receiver) bool {
        const stage = self.lanes[0].stage orelse return false;
        return !stage.is_observer;
    }

    fn ack_run(self: *Receiver, now_ns: u64, s: *Stream, image: []align(8) u8) Run {
        const shared = self.shared_of(s);
        const taken = s.ack_position(shared);
        const said = s.said_position(taken);
        const at = if (s.is_manual) durable.limit(s, shared, said) else said;
        s.ack_now = false;
        s.since_ack_datagrams = 0;
        s.last_ack_ns = now_ns;
        s.acked = taken;
        s.told = at.msg;
        s.counters.acks_sent += 1;
        const withheld = s.no_memory or s.withheld(self.shared_of(s));
        if (withheld) self.was_withheld = true;
        s.tell_full(self.shared_of(s), withheld);
        const sealed = s.channel.group_key != null;
        const body = frame.begin(
            frame.Ack,
            image,
            self.head(.ack, s.key, s.connection, sealed, at.msg),
        );
        const h: *frame.Header = @ptrCast(image.ptr);
        h.connection_flags.flags.mandatory = s.is_mandatory() or self.is_tier_member();
        body.* = .{
            .session_token = s.session_token,
            .highest = if (s.tells_taken(h)) taken.msg else s.announced.msg,
            .frag = taken.frag,
            .receiver = self.o.id,
            .no_memory = @intFromBool(withheld),
        };
        return self.finish(sealed, &s.sealing, s.repair, image);
    }

    fn nak_run(self: *Receiver, now_ns: u64, s: *Stream, image: []align(8) u8) ?Run {
        if (mutant.on(.nak_never)) {
            s.detector.due_ns = std.math.maxInt(u64);
            return null;
        }
        if (s.no_memory or s.withheld(self.shared_of(s))) {
            // No room for the answer: ask when there is.
            s.detector.due_ns = now_ns + ns_per_ms;
            self.deadline_ns = @min(self.deadline_ns, s.detector.due_ns);
            return null;
        }
        const ranges_max = frame.nak_ranges_max(self.o.datagram_bytes - @sizeOf(frame.SealTrailer));
        const first: [*]frame.Range = @ptrCast(@alignCast(
            image.ptr + frame.header_bytes + @sizeOf(frame.Nak),
        ));
        const due = s.detector.collect(
            self.shared_of(s).holding,
            now_ns,
            s.next,
            s.announced,
            s.repair_limit(),
            s.timing(),
            first[0..ranges_max],
        );
        self.deadline_ns = @min(self.deadline_ns, s.detector.due_ns);
        const patience_ns = if (mutant.on(.give_up_at_once))
            1
        else
            s.channel.heartbeat_timeout_ns * limits.give_up_heartbeat_timeouts;
        if (!s.no_memory and due.waited_ns >= patience_ns) {
            self.give_up(now_ns, s, due.waited_ns);
            return null;
        }
        if (due.count == 0) return null;
        s.last_nak_ns = now_ns;
        s.counters.naks_sent += 1;
        s.counters.nak_ranges_sent += due.count;
        const low = first[0].start();
        const high = first[due.count - 1].end();
        s.nak_end = Position.max(s.nak_end, high);
        self.note_gap(now_ns, s, low.msg, if (high.frag == 0) high.msg - 1 else high.msg);
        const sealed = s.channel.group_key != null;
        const body = frame.begin(
            frame.Nak,
            image,
            self.head(.nak, s.key, s.connection, sealed, s.next.msg),
        );
        body.* = .{
            .session_token = s.session_token,
            .receiver = self.o.id,
            .count = @intCast(due.count),
            .attempt = due.attempt,
        };
        const h: *frame.Header = @ptrCast(image.ptr);
        h.length += @intCast(due.count * @sizeOf(frame.Range));
        return self.finish(sealed, &s.sealing, s.repair, image);
    }

    fn give_up(self: *Receiver, now_ns: u64, s: *Stream, waited_ns: u64) void {
        const held = s.detector.peek(self.shared_of(s).holding);
        const end: Position = if (held) |x| x.begin else s.announced;
        // A message of which a part is missing is lost as a whole.
        const to = if (end.frag == 0) end.msg else end.msg + 1;
        if (to <= s.next.msg or !self.notices.has_room_for_loss()) return;
        self.notices.log(.gap_given_up, .err, .{
            .transport = s.key.transport,
            .name = s.name_slice(),
            .args = .{ number(s.next.msg), number(to - 1), number(waited_ns / ns_per_ms), 0 },
        });
        s.lose(self.shared_of(s), to);
        self.shared_of(s).log.publish();
        self.watch(now_ns, s);
    }

    /// FILL_GAP at most ten times a second for a stream, with the union of what was asked for.
    fn note_gap(self: *Receiver, now_ns: u64, s: *Stream, start: u64, end: u64) void {
        s.gap_start = if (s.gap_untold) @min(s.gap_start, start) else start;
        s.gap_end = if (s.gap_untold) @max(s.gap_end, end) else end;
        s.gap_untold = true;
        self.tell_gap(now_ns, s);
    }

    fn tell_gap(self: *Receiver, now_ns: u64, s: *Stream) void {
        const due_ns = s.gap_told_ns + limits.gap_event_interval_ns;
        if (s.gap_told_ns != 0 and now_ns < due_ns and !mutant.on(.gaps_told_always)) {
            self.deadline_ns = @min(self.deadline_ns, due_ns);
            return;
        }
        s.gap_untold = false;
        s.gap_told_ns = now_ns;
        self.notices.event(.fill_gap, .{
            .transport = s.key.transport,
            .name = s.name_slice(),
            .args = .{ number(s.gap_start), number(s.gap_end), 0, 0 },
        });
    }

    // ---------------------------------------------------------------- end

    /// Tells every sender that this receiver stops, after a last ACK.
    pub fn close(self: *Receiver) void {
        self.closing = true;
        self.closing_at = 0;
    }

    fn closing_run(self: *Receiver, image: []align(8) u8) ?Run {
        while (self.closing_at < self.count * 2) {
            const s = &self.streams[self.closing_at / 2];
            const is_ack = self.closing_at % 2 == 0;
            self.closing_at += 1;
            if (s.phase != .started) continue;
            if (is_ack) return self.ack_run(s.last_ack_ns, s, image);
            const sealed = s.channel.group_key != null;
            const body = frame.begin(
                frame.Rst,
                image,
                self.head(.rst, s.key, s.connection, sealed, 0),
            );
            body.* = .{
                .token = s.session_token,
                .reason = @backingInt(frame.RstReason.closed),
                .receiver = self.o.id,
            };
            return self.finish(sealed, &s.sealing, s.repair, image);
        }
        self.dirty = false;
        return null;
    }
};
