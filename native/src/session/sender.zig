//! One sending window on the network: session, flow control, new data, repairs, heartbeats. No I/O.
//!
//! The producer writes messages into the window (`SendingWindow`); this machine moves `sent` over
//! them, makes datagrams, and moves `acked` and `reclaimed` by what receivers answer. A driver (the
//! engine or the simulator) hands it received datagrams (`on_datagram`) and time (`tick`), and
//! takes datagrams out of it (`poll_send`) until there is none. Exactly one thread runs it at a
//! time (the engine's token); the producer runs beside it.
//!
//! Phases: INIT -> HANDSHAKE (only with `IsHandshake` and a window without numbers) -> STARTED ->
//! CLOSED; of a tier: INIT -> FOLLOWER <-> STARTED (its leader), FOLLOWER, STARTED -> CLOSED.

const std = @import("std");
const abi = @import("../abi.zig");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("limits.zig");
const assert = @import("../assert.zig").assert;
const mutant = @import("../testing/mutant.zig");
const Packer = @import("../wire/packer.zig").Packer;
const Address = @import("../transport/address.zig").Address;
const SendingWindow = @import("../window/sending_window.zig").SendingWindow;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const layout = @import("../window/node.zig");
const retransmit = @import("../repair/retransmit_handler.zig");
const peers_file = @import("peers.zig");
const notices_file = @import("notices.zig");
const inbox = @import("sender_inbox.zig");
const outbox = @import("sender_outbox.zig");
const role = @import("sender_role.zig");
const in_place = @import("sender_in_place.zig");

const Peer = peers_file.Peer;
const Peers = peers_file.Peers;
const Position = frame.Position;
const Notices = notices_file.Notices;
const number = notices_file.number;
const ns_per_ms = std.time.ns_per_ms;

pub const Phase = enum(u32) { init, handshake, started, closed, follower };

pub const Options = struct {
    cluster: u16 = 0,
    source: u16,
    /// It is one of several that send the same (guide 9.9.1): `source` and `name` are the tier's.
    tier: bool = false,
    transport: u16,
    tx_arg: u16 = 0,
    name: []const u8,
    sizes: frame.Sizes,
    is_multicast: bool,
    window_datagrams: u32,
    max_cache_messages: u64,
    heartbeat_interval_ns: u64,
    ack_timeout_ns: u64,
    slow_disconnect: bool = false,
    handshake: bool = false,
    /// The window did not exist before: its numbers continue nothing.
    fresh: bool = false,
    /// There are sockets. Without, only receivers on this machine are reached.
    has_network: bool = true,
    /// Receivers may read the window in place (`UseSharedMemory`).
    shared_memory: bool = false,
    start_timeout_ns: u64 = 0,
    configured: []const peers_file.Configured = &.{},
    group_key: ?seal.GroupKey = null,
    repair_address: Address,
    connection: u64,
    seed: u64,
};

pub const Counters = struct {
    datagrams_sent: u64 = 0,
    bytes_sent: u64 = 0,
    repairs_sent: u64 = 0,
    heartbeats_sent: u64 = 0,
    naks_received: u64 = 0,
    window_full: u64 = 0,
    disconnects: u64 = 0,
    refused: [@typeInfo(frame.Refusal).@"enum".field_names.len]u64 = @splat(0),
    unknown_stream: u64 = 0,
    bad_token: u64 = 0,
    out_of_range: u64 = 0,
    unauthenticated: u64 = 0,
    replayed: u64 = 0,
};

/// What the driver puts on the wire: a run of datagrams of one length (the last may be shorter),
/// for one place.
pub const Run = struct {
    /// null: the stream's own address (the group, or every address of the list).
    to: ?Address,
    bytes: u32,
    segment_bytes: u32,
    /// Messages, which receivers that read in place do not need.
    is_data: bool = false,
};

/// A frame to one receiver that waits to be sent.
pub const Control = union(enum) {
    confirm: struct { peer: u16, token: u64, session_token: u64, start: u64, frag: u32 },
    rst: struct { to: Address, token: u64, reason: frame.RstReason, receiver: u16 },
    heartbeat: struct { peer: u16 },
    fill: struct { peer: u16, start: u64, end: u64, reason: frame.FillReason },
};

pub const Sender = struct {
    o: Options,
    window: *SendingWindow,
    pool: *ChunkPool,
    packer: Packer,
    sealer: ?seal.Sealer,
    peers: Peers,
    repairs: retransmit.RetransmitHandler = .{},
    budget: retransmit.Bucket,
    notices: Notices = .{},
    counters: Counters = .{},
    rng: std.Random.DefaultPrng,
    stream_token: u64,
    phase: Phase = .init,
    phase_since_ns: u64,
    started_ns: u64,
    sent: Position = .{ .msg = 0 },
    announced: Position = .{ .msg = 0 },
    send_flag: bool = true,
    /// Of a tier: the reign in which this member leads or follows.
    epoch: frame.Epoch = .{},
    /// Of a tier: a leader's receivers have all below.
    told_acked: u64 = 0,
    /// End positions of datagrams that nobody acknowledged yet: the window is counted in datagrams.
    inflight: []Position,
    inflight_first: u32 = 0,
    inflight_count: u32 = 0,
    datagrams_numbered: u64 = 0,
    window_was_full: bool = false,
    controls: [limits.controls_max]Control = undefined,
    controls_first: u32 = 0,
    controls_count: u32 = 0,
    syn_due_ns: u64,
    syn_step_ns: u64 = limits.syn_first_ns,
    heartbeat_due_ns: u64,
    heartbeat_step_ns: u64,
    ack_wanted: bool = false,
    /// Since when window or arena have been full; 0: they are not.
    stuck_since_ns: u64 = 0,
    closing_left: u32 = 0,
    last_send_ns: u64 = 0,
    last_syn_ns: u64 = 0,
    /// Somebody wants datagrams.
    network_on: bool = true,
    /// Counts everything that a waiter in JavaScript may care about (ack, room, connection).
    progress: u64 = 0,

    pub fn init(
        gpa: std.mem.Allocator,
        o: Options,
        window: *SendingWindow,
        pool: *ChunkPool,
        now_ns: u64,
    ) !Sender {
        assert(o.source != 0 and o.transport != 0);
        assert(o.connection > 0 and o.connection <= frame.number_max);
        assert(o.window_datagrams >= 1 and o.window_datagrams <= limits.window_datagrams_max);
        var rng: std.Random.DefaultPrng = .init(o.seed);
        const inflight = try gpa.alloc(Position, o.window_datagrams);
        errdefer gpa.free(inflight);
        var self: Sender = .{
            .o = o,
            .window = window,
            .pool = pool,
            .packer = .{ .sizes = o.sizes, .head = undefined, .sealer = null },
            .sealer = null,
            .peers = try .init(gpa, o.configured),
            .budget = .init(limits.repair_burst_bytes, now_ns),
            .rng = rng,
            .stream_token = rng.random().int(u64) | 1,
            .phase_since_ns = now_ns,
            .started_ns = now_ns,
            .inflight = inflight,
            .syn_due_ns = now_ns,
            .heartbeat_due_ns = now_ns + o.heartbeat_interval_ns,
            .heartbeat_step_ns = o.heartbeat_interval_ns,
        };
        self.rng = rng;
        if (o.group_key) |*k| self.sealer = .init(k, role.identity(&self.o));
        self.packer.head = self.head(.data, 0, .{});
        self.network_on = in_place.wants_network(&self);
        if (o.tier) {
            assert(!o.handshake and !o.shared_memory);
            self.sent = .{ .msg = window.acked() };
            self.announced = self.sent;
            self.window.set_sent(self.sent.msg, 0);
            self.set_phase(.follower, now_ns);
        } else if (o.handshake) {
            self.set_phase(.handshake, now_ns);
        } else {
            self.begin(window.acked(), now_ns);
        }
        return self;
    }

    pub fn deinit(self: *Sender, gpa: std.mem.Allocator) void {
        self.peers.deinit(gpa);
        gpa.free(self.inflight);
    }

    /// To be called once the struct is where it stays: the packer keeps a pointer to the sealer.
    pub fn settle(self: *Sender) void {
        self.packer.sealer = if (self.sealer) |*s| s else null;
    }

    pub fn begin(self: *Sender, first: u64, now_ns: u64) void {
        self.sent = .{ .msg = first };
        self.announced = self.sent;
        self.window.set_sent(first, 0);
        self.window.set_connection(self.o.connection, first);
        self.started_ns = now_ns;
        self.syn_due_ns = now_ns;
        self.syn_step_ns = limits.syn_first_ns;
        self.set_phase(.started, now_ns);
        for (self.peers.slice()) |*p| p.begin_at(.{ .msg = first });
        // Of a window that was kept the tiers have all that was acknowledged in it.
        for (self.peers.tiers) |*t| t.acked = first;
    }

    pub fn set_phase(self: *Sender, phase: Phase, now_ns: u64) void {
        self.phase = phase;
        self.phase_since_ns = now_ns;
        self.progress += 1;
    }

    pub fn head(self: *const Sender, kind: frame.Type, n: u64, flags: frame.Flags) frame.Header {
        var f = flags;
        f.tier = self.o.tier;
        f.sealed = self.sealer != null;
        return .{
            .type = @backingInt(kind),
            .length = 0,
            .cluster = self.o.cluster,
            .check = 0,
            .source = self.o.source,
            .transport = self.o.transport,
            .connection_flags = .{ .connection = @intCast(self.o.connection), .flags = f },
            .number = n,
        };
    }

    fn sealer_ptr(self: *Sender) ?*seal.Sealer {
        return if (self.sealer) |*s| s else null;
    }

    /// A body of a fixed layout, finished after `fill` has written it.
    pub fn put(
        self: *Sender,
        comptime T: type,
        image: []align(8) u8,
        header: frame.Header,
        value: T,
    ) u32 {
        frame.begin(T, image, header).* = value;
        const h: *frame.Header = @ptrCast(image.ptr);
        if (self.sealer != null) h.length += @sizeOf(frame.SealTrailer);
        seal.finish(self.sealer_ptr(), image[0..h.length]);
        return h.length;
    }

    // ---------------------------------------------------------------- received

    /// One datagram for this window from `from`. `bytes` may be decrypted in place.
    pub fn on_datagram(self: *Sender, now_ns: u64, from: Address, bytes: []align(8) u8) void {
        if (self.phase == .follower) return; // To a leader that it was.
        const h = switch (frame.decode_header(bytes, self.o.cluster)) {
            .refused => |why| {
                if (!(mutant.on(.check_ignored) and why == .bad_check)) {
                    self.counters.refused[@backingInt(why)] += 1;
                    return;
                }
                const damaged: *const frame.Header = @ptrCast(bytes.ptr);
                return self.dispatch(now_ns, from, damaged);
            },
            .ok => |h| h,
        };
        if (h.source != self.o.source or h.transport != self.o.transport or
            h.flags().tier != self.o.tier)
        {
            self.counters.unknown_stream += 1;
            return;
        }
        if (!inbox.authentic(self, h, bytes)) return;
        self.dispatch(now_ns, from, h);
    }

    fn dispatch(self: *Sender, now_ns: u64, from: Address, h: *const frame.Header) void {
        switch (frame.type_of(h) orelse return) {
            .syn_reply => inbox.on_syn_reply(self, now_ns, from, h),
            .ack => inbox.on_ack(self, now_ns, from, h),
            .nak => inbox.on_nak(self, now_ns, from, h),
            .rst => inbox.on_rst(self, now_ns, h),
            else => self.counters.refused[@backingInt(frame.Refusal.unknown_type)] += 1,
        }
    }

    fn hold(self: *const Sender, now_ns: u64) Peers.Hold {
        return .{
            .now_ns = now_ns,
            .configured_until_ns = self.started_ns + self.o.ack_timeout_ns,
            .connection_first = self.window.connection_first(),
        };
    }

    pub fn advance_acked(self: *Sender, now_ns: u64) void {
        var low = self.peers.lowest(self.hold(now_ns)) orelse return;
        const taken = Position.max(low, self.peers.lowest_taken(self.hold(now_ns)).?);
        if (mutant.on(.release_by_fastest)) {
            for (self.peers.slice()) |*p| {
                if (p.state == .connected) low = Position.max(low, p.acked);
            }
        }
        while (self.inflight_count > 0) {
            if (taken.less(self.inflight[self.inflight_first])) break;
            self.inflight_first = (self.inflight_first + 1) % @as(u32, @intCast(self.inflight.len));
            self.inflight_count -= 1;
        }
        // At least one has it: a tier's position is what somebody said.
        if (self.peers.connected == 0 and self.peers.tiers.len == 0) return;
        const acked = self.window.acked();
        if (low.msg > acked and low.msg <= self.window.written()) {
            self.window.set_acked(low.msg);
            self.progress += 1;
        }
        // What the fastest of a tier has taken the others may need.
        const known = if (self.peers.tiers.len > 0) low else taken;
        if (known.msg > acked and known.msg <= self.window.written()) self.skip_to(known);
        self.reclaim_cache(now_ns);
    }

    /// A restarted sender may hear of numbers that it has not sent in this life.
    fn skip_to(self: *Sender, taken: Position) void {
        // Who has it need not be told of it: the numbers that SYN tells stay in order.
        self.announced = Position.max(self.announced, taken);
        if (self.sent.msg >= taken.msg) return;
        self.sent = taken;
        self.window.set_sent(taken.msg, taken.frag);
    }

    /// Frees acknowledged messages beyond the cache, and of the cache what room calls for.
    fn reclaim_cache(self: *Sender, now_ns: u64) void {
        const bound = self.reclaim_bound(now_ns);
        var to = bound -| self.o.max_cache_messages;
        const tight = self.pool.free_count() < self.pool.chunk_count / 4 or
            self.used_nodes() > self.window.capacity / 4 * 3;
        if (tight) to = @max(to, @min(bound, self.window.reclaimed() + limits.reclaim_step));
        if (to > self.window.reclaimed()) self.window.reclaim_to(to, self.pool);
    }

    /// Nothing at or above this may be freed: not acknowledged by everybody who is connected.
    fn reclaim_bound(self: *Sender, now_ns: u64) u64 {
        if (mutant.on(.reclaim_unacked)) return self.sent.msg;
        if (self.phase == .follower) return self.window.acked();
        const low = self.peers.lowest(self.hold(now_ns)) orelse return self.window.acked();
        return @min(self.window.acked(), low.msg);
    }

    /// The producer found no room: gives up cached messages, oldest first. True when something was
    /// freed.
    pub fn make_room(self: *Sender, now_ns: u64) bool {
        if (self.o.tier) role.apply_told(self);
        const bound = self.reclaim_bound(now_ns);
        const from = self.window.reclaimed();
        if (bound <= from or mutant.on(.cache_blocks)) return false;
        self.window.reclaim_to(@min(bound, from + limits.reclaim_step), self.pool);
        return true;
    }

    /// The process of a receiver that read in place has ended.
    pub fn on_receiver_gone(self: *Sender, now_ns: u64, p: *Peer) void {
        p.address = .{ .ip = 0, .port = 0 };
        if (p.state != .connected and p.state != .confirming) return;
        if (p.state == .connected) self.tell_silent(now_ns, p);
        self.disconnect(now_ns, p);
    }

    /// What a receiver that reads in place has processed. True when that is more than before.
    pub fn on_consumed(self: *Sender, now_ns: u64, p: *Peer, consumed: u64) bool {
        assert(p.state == .connected and p.shared);
        if (consumed <= p.acked.msg or consumed > self.window.written()) return false;
        p.acked = .{ .msg = consumed };
        p.taken = Position.max(p.taken, p.acked);
        p.last_progress_ns = now_ns;
        return true;
    }

    pub fn disconnect(self: *Sender, now_ns: u64, p: *Peer) void {
        if (p.state != .connected and p.state != .confirming) return;
        const was_connected = p.state == .connected;
        if (was_connected) self.counters.disconnects += 1;
        self.peers.set_state(p, .disconnected);
        self.progress += 1;
        in_place.look_at_network(self);
        if (was_connected and self.peers.connected == 0) {
            self.notices.event(.no_receiver, .{
                .transport = self.o.transport,
                .name = p.name_slice(),
            });
        }
        self.syn_step_ns = limits.syn_first_ns;
        self.syn_due_ns = @min(self.syn_due_ns, now_ns + self.syn_step_ns);
        self.advance_acked(now_ns);
    }

    // ---------------------------------------------------------------- time

    /// Timeouts of the session; call it before `poll_send` when `next_deadline_ns` has come.
    pub fn tick(self: *Sender, now_ns: u64) void {
        if (self.o.tier) {
            role.apply_told(self);
            if (self.phase == .follower) self.reclaim_cache(now_ns);
        }
        in_place.tell_in_place(self);
        if (self.phase == .handshake) self.tick_handshake(now_ns);
        if (self.phase != .started) return;
        if (!self.is_stuck()) {
            self.stuck_since_ns = 0;
        } else if (self.stuck_since_ns == 0) self.stuck_since_ns = now_ns;
        for (self.peers.slice()) |*p| {
            if (p.state == .confirming and now_ns >= p.confirmed_ns + self.o.ack_timeout_ns) {
                self.peers.set_state(p, .known);
                continue;
            }
            if (p.state != .connected) continue;
            const is_silent = now_ns >= p.last_heard_ns + self.o.ack_timeout_ns;
            if (is_silent and !mutant.on(.dead_holds)) {
                self.tell_silent(now_ns, p);
                self.disconnect(now_ns, p);
            } else if (self.o.slow_disconnect and self.stuck_since_ns != 0 and
                p.counts_alone() and self.holds_up(p) and
                now_ns >= self.slow_since_ns(p) + self.o.ack_timeout_ns)
            {
                self.notices.log(.slow_receiver_disconnected, .warn, .{
                    .transport = self.o.transport,
                    .name = p.name_slice(),
                    .args = .{
                        number((now_ns - self.slow_since_ns(p)) / ns_per_ms),
                        number(p.acked.msg),
                        0,
                        0,
                    },
                });
                self.disconnect(now_ns, p);
            }
        }
        self.advance_acked(now_ns);
    }

    fn tell_silent(self: *Sender, now_ns: u64, p: *const Peer) void {
        self.notices.log(.receiver_disconnected, .warn, .{
            .transport = self.o.transport,
            .name = p.name_slice(),
            .args = .{
                number((now_ns - p.last_heard_ns) / ns_per_ms),
                number(p.acked.msg),
                0,
                0,
            },
        });
    }

    fn used_nodes(self: *const Sender) u64 {
        return self.window.written() - self.window.reclaimed();
    }

    /// Since when a receiver has been behind without need: idle time does not count against it.
    fn slow_since_ns(self: *const Sender, p: *const Peer) u64 {
        return @max(p.last_progress_ns, self.stuck_since_ns);
    }

    fn is_stuck(self: *const Sender) bool {
        return self.credit() == 0 or self.is_full();
    }

    fn is_full(self: *const Sender) bool {
        return self.pool.free_count() == 0 or self.used_nodes() == self.window.capacity;
    }

    /// It lacks what others wait for it to take, or to process where memory is full.
    fn holds_up(self: *const Sender, p: *const Peer) bool {
        if (self.credit() == 0 and p.taken.less(self.announced)) return true;
        return self.is_full() and p.acked.less(self.announced);
    }

    fn tick_handshake(self: *Sender, now_ns: u64) void {
        var waiting = false;
        var first: u64 = self.window.written();
        for (self.peers.slice()) |*p| {
            if (p.configured and !p.answered) waiting = true;
            first = @max(first, p.reported);
        }
        const late = now_ns >= self.phase_since_ns + self.o.start_timeout_ns;
        if (waiting and !late) return;
        for (self.peers.slice()) |*p| {
            if (!p.configured or p.answered) continue;
            self.notices.log(.handshake_timeout, .warn, .{
                .transport = self.o.transport,
                .name = p.name_slice(),
                .args = .{ number(self.o.start_timeout_ns / ns_per_ms), 0, 0, 0 },
            });
        }
        self.window.start_at(first, self.pool);
        self.begin(first, now_ns);
    }

    /// The earliest time at which `tick` or `poll_send` has something to do by itself.
    pub fn next_deadline_ns(self: *Sender, now_ns: u64) u64 {
        if (self.phase == .closed) {
            return if (self.closing_left > 0) now_ns else std.math.maxInt(u64);
        }
        if (self.phase == .follower) return std.math.maxInt(u64);
        if (self.controls_count > 0 or self.ack_wanted or self.has_new_data()) return now_ns;
        var at = self.syn_due_ns;
        if (self.phase == .handshake) {
            return @min(at, self.phase_since_ns + self.o.start_timeout_ns);
        }
        at = @min(at, self.heartbeat_due_ns);
        if (self.repairs.peek()) |job| at = @min(at, outbox.repair_ready_ns(self, now_ns, job));
        for (self.peers.slice()) |*p| {
            switch (p.state) {
                .connected => {
                    at = @min(at, p.last_heard_ns + self.o.ack_timeout_ns);
                    if (self.o.slow_disconnect and p.counts_alone() and self.is_stuck()) {
                        const slow_ns = self.slow_since_ns(p) + self.o.ack_timeout_ns;
                        at = @min(at, @max(now_ns + ns_per_ms, slow_ns));
                    }
                },
                .confirming => {
                    at = @min(at, p.confirmed_ns + self.o.ack_timeout_ns);
                    // When it stops holding, the window may move.
                    if (now_ns < p.hold_until_ns) at = @min(at, p.hold_until_ns);
                },
                .known, .disconnected => {},
            }
        }
        // When configured receivers stop holding, the window may move.
        const until = self.started_ns + self.o.ack_timeout_ns;
        if (now_ns < until) at = @min(at, until);
        return at;
    }

    // ---------------------------------------------------------------- to send

    pub fn credit(self: *const Sender) u32 {
        if (mutant.on(.window_ignored)) return @intCast(self.inflight.len);
        return @as(u32, @intCast(self.inflight.len)) - self.inflight_count;
    }

    pub fn has_new_data(self: *const Sender) bool {
        return self.phase == .started and self.network_on and
            self.sent.msg < self.window.written() and self.credit() > 0;
    }

    pub fn control(self: *Sender, c: Control) void {
        if (self.controls_count == self.controls.len) return; // asked for again by its receiver
        const at = (self.controls_first + self.controls_count) % self.controls.len;
        self.controls[at] = c;
        self.controls_count += 1;
    }

    /// The next run of datagrams, in order of urgency, or null when there is nothing to send now.
    pub fn poll_send(self: *Sender, now_ns: u64, image: []align(8) u8) ?Run {
        assert(image.len >= self.o.sizes.datagram_bytes);
        const run = self.next_run(now_ns, image) orelse return null;
        const datagrams = (run.bytes + run.segment_bytes - 1) / run.segment_bytes;
        self.counters.datagrams_sent += datagrams;
        self.counters.bytes_sent += run.bytes;
        self.last_send_ns = now_ns;
        return run;
    }

    fn next_run(self: *Sender, now_ns: u64, image: []align(8) u8) ?Run {
        if (self.phase == .closed) return outbox.closing_run(self, image);
        if (self.phase == .follower) return null;
        if (self.controls_count > 0) return self.next_control(image);
        if (now_ns >= self.syn_due_ns) return outbox.syn_run(self, now_ns, image);
        if (self.phase != .started) return null;
        if (outbox.repair_run(self, now_ns, image)) |run| return run;
        // What is not kept any more was answered by a FILL.
        if (self.controls_count > 0) return self.next_control(image);
        if (now_ns >= self.heartbeat_due_ns or self.ack_wanted) {
            return outbox.heartbeat_run(self, now_ns, image);
        }
        in_place.tell_in_place(self);
        return if (self.network_on) self.data_run(now_ns, image) else null;
    }

    fn next_control(self: *Sender, image: []align(8) u8) Run {
        const c = self.controls[self.controls_first];
        self.controls_first = (self.controls_first + 1) % @as(u32, self.controls.len);
        self.controls_count -= 1;
        return outbox.control_run(self, image, c);
    }

    fn data_run(self: *Sender, now_ns: u64, image: []align(8) u8) ?Run {
        const written = self.window.written();
        const segments = @min(outbox.segments_max(self, image), self.credit());
        const size = self.o.sizes.datagram_bytes;
        const quarter = @max(1, self.inflight.len / 4);
        var built: u32 = 0;
        var n: u32 = 0;
        if (self.o.slow_disconnect and segments > 0 and self.sent.msg < written) {
            // Who has everything was not slow while others held the window: its time begins now.
            for (self.peers.slice()) |*p| {
                if (p.state == .connected and !p.acked.less(self.announced)) {
                    p.last_progress_ns = now_ns;
                }
            }
        }
        const tells_all = mutant.on(.flag_ignored);
        const skipped = layout.flag_lost | (if (tells_all) 0 else layout.flag_unsent);
        while (n < segments and self.sent.msg < written) {
            const flags = self.window.node(self.sent.msg).flags;
            if (flags & skipped != 0) {
                // Numbered, not told: who sees the jump asks. A receiver that had asked for a part
                // of it when nobody listened any more may have led into it.
                self.sent = .{ .msg = self.sent.msg + 1 };
                continue;
            }
            const last = self.credit() == 1;
            const ask = last or (self.datagrams_numbered + 1) % quarter == 0;
            const piece = self.packer.build(
                self.window,
                self.sent,
                .{ .msg = written },
                @alignCast(image[built..]),
                .{ .flags = .{ .ack_request = ask }, .skip_unsent = !tells_all },
            );
            built += piece.bytes;
            n += 1;
            self.sent = piece.end;
            self.announced = Position.max(self.announced, self.sent);
            self.datagrams_numbered += 1;
            self.push_inflight(piece.end);
            if (piece.bytes != size) break;
        }
        self.window.set_sent(self.sent.msg, self.sent.frag);
        if (self.credit() == 0 and self.sent.msg < written) {
            if (!self.window_was_full) self.counters.window_full += 1;
            self.window_was_full = true;
        } else {
            self.window_was_full = false;
        }
        if (n == 0) return null;
        self.heartbeat_step_ns = limits.heartbeat_first_ns;
        self.heartbeat_due_ns = now_ns + limits.heartbeat_first_ns;
        return .{
            .to = null,
            .bytes = built,
            .segment_bytes = @min(built, size),
            .is_data = true,
        };
    }

    fn push_inflight(self: *Sender, end: Position) void {
        if (mutant.on(.window_ignored) and self.inflight_count == self.inflight.len) return;
        assert(self.inflight_count < self.inflight.len);
        const at = (self.inflight_first + self.inflight_count) % self.inflight.len;
        self.inflight[at] = end;
        self.inflight_count += 1;
    }

    // ---------------------------------------------------------------- calls of the driver

    /// Everything accepted was sent and acknowledged by those who are connected (at least one).
    pub fn is_flushed(self: *const Sender, target: u64) bool {
        return self.window.acked() >= target;
    }

    /// A waiter wants acknowledgements now (flush, ready): asks for them with the next heartbeat.
    pub fn want_ack(self: *Sender, now_ns: u64) void {
        if (self.phase != .started) return;
        if (now_ns < self.last_send_ns + limits.want_ack_interval_ns and self.last_send_ns != 0) {
            self.heartbeat_due_ns = @min(
                self.heartbeat_due_ns,
                self.last_send_ns + limits.want_ack_interval_ns,
            );
            return;
        }
        self.ack_wanted = true;
    }

    /// Tells the receivers that no more comes. The window's files keep what is not acknowledged.
    pub fn close(self: *Sender, now_ns: u64) void {
        if (self.phase == .closed) return;
        // A tier goes on without this member; or is missed.
        const says_so = self.phase == .started and !self.o.tier;
        self.closing_left = if (says_so) limits.closing_repeats else 0;
        self.set_phase(.closed, now_ns);
    }
};
