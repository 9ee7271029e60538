//! One sending window on the network: session, flow control, new data, repairs, heartbeats. No I/O.
//!
//! The producer writes messages into the window (`SendingWindow`); this machine moves `sent` over them, makes
//! datagrams, and moves `acked` and `reclaimed` by what receivers answer. A driver (the engine or the simulator)
//! hands it received datagrams (`on_datagram`) and time (`tick`), and takes datagrams out of it (`poll_send`) until
//! there is none. Exactly one thread runs it at a time (the engine's token); the producer runs beside it.
//!
//! Phases: INIT -> HANDSHAKE (only with `IsHandshake` and a window without numbers) -> STARTED -> CLOSED.

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

const Peer = peers_file.Peer;
const Peers = peers_file.Peers;
const Position = frame.Position;
const Notices = notices_file.Notices;
const number = notices_file.number;
const ns_per_ms = std.time.ns_per_ms;

pub const Phase = enum(u32) { init, handshake, started, closed };

pub const Options = struct {
    cluster: u16 = 0,
    source: u16,
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

/// What the driver puts on the wire: a run of datagrams of one length (the last may be shorter), for one place.
pub const Run = struct {
    /// null: the stream's own address (the group, or every address of the list).
    to: ?Address,
    bytes: u32,
    segment_bytes: u32,
};

const Control = union(enum) {
    confirm: struct { peer: u16, token: u64, start: u64, frag: u32 },
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
    closing_left: u32 = 0,
    last_send_ns: u64 = 0,
    last_syn_ns: u64 = 0,
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
            .sealer = if (o.group_key) |*k| .init(k, .{
                .direction = .from_sender,
                .tier = o.tier,
                .cluster = o.cluster,
                .source = o.source,
                .transport = o.transport,
                .receiver = 0,
                .instance = o.connection,
            }) else null,
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
        self.packer.head = self.head(.data, 0, .{});
        if (o.handshake) {
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

    fn begin(self: *Sender, first: u64, now_ns: u64) void {
        self.sent = .{ .msg = first };
        self.announced = self.sent;
        self.window.set_sent(first, 0);
        self.window.set_connection(self.o.connection, first);
        self.started_ns = now_ns;
        self.syn_due_ns = now_ns;
        self.syn_step_ns = limits.syn_first_ns;
        self.set_phase(.started, now_ns);
        for (self.peers.slice()) |*p| p.acked = .{ .msg = first };
    }

    fn set_phase(self: *Sender, phase: Phase, now_ns: u64) void {
        self.phase = phase;
        self.phase_since_ns = now_ns;
        self.progress += 1;
    }

    fn head(self: *const Sender, kind: frame.Type, n: u64, flags: frame.Flags) frame.Header {
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
    fn put(
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
        if (!self.authentic(h, bytes)) return;
        self.dispatch(now_ns, from, h);
    }

    fn dispatch(self: *Sender, now_ns: u64, from: Address, h: *const frame.Header) void {
        switch (frame.type_of(h) orelse return) {
            .syn_reply => self.on_syn_reply(now_ns, from, h),
            .ack => self.on_ack(now_ns, from, h),
            .nak => self.on_nak(now_ns, from, h),
            .rst => self.on_rst(now_ns, h),
            else => self.counters.refused[@backingInt(frame.Refusal.unknown_type)] += 1,
        }
    }

    fn authentic(self: *Sender, h: *const frame.Header, bytes: []align(8) u8) bool {
        const group_key = if (self.o.group_key) |*k| k else {
            if (!h.flags().sealed) return true;
            self.counters.unauthenticated += 1;
            return false;
        };
        if (!h.flags().sealed) {
            self.counters.unauthenticated += 1;
            return false;
        }
        const trailer = frame.SealTrailer{
            .instance = seal.trailer_of(h).instance,
            .counter = seal.trailer_of(h).counter,
            .tag = undefined,
        };
        const receiver: u16 = @truncate(trailer.instance);
        const peer = self.peers.find(receiver);
        const known = peer != null and peer.?.instance == trailer.instance;
        const key = if (known) peer.?.key else seal.derive(group_key, .{
            .direction = .from_receiver,
            .tier = self.o.tier,
            .cluster = self.o.cluster,
            .source = self.o.source,
            .transport = self.o.transport,
            .receiver = receiver,
            .instance = trailer.instance,
        });
        if (!seal.open(key, bytes[0..h.length])) {
            self.counters.unauthenticated += 1;
            return false;
        }
        if (known and !peer.?.replay.accept(trailer.counter)) {
            self.counters.replayed += 1;
            return false;
        }
        return true;
    }

    fn on_syn_reply(self: *Sender, now_ns: u64, from: Address, h: *const frame.Header) void {
        const r = frame.decode_syn_reply(h) orelse {
            self.counters.out_of_range += 1;
            return;
        };
        if (h.connection() != self.o.connection) {
            self.counters.bad_token += 1;
            return;
        }
        if (self.sealer != null and @as(u16, @truncate(r.instance)) != r.receiver) {
            self.counters.unauthenticated += 1;
            return;
        }
        const p = self.peers.find_or_add(r.receiver, r.name[0..r.name_len]) orelse {
            self.notices.log(.receiver_limit, .err, .{
                .transport = self.o.transport,
                .args = .{ number(limits.peers_max), 0, 0, 0 },
            });
            return;
        };
        if (self.phase == .handshake) {
            p.answered = true;
            p.reported = @max(p.reported, h.number);
            return;
        }
        if (self.phase != .started) return;
        self.agree(now_ns, from, p, h, r);
    }

    fn agree(
        self: *Sender,
        now_ns: u64,
        from: Address,
        p: *Peer,
        h: *const frame.Header,
        r: *const frame.SynReply,
    ) void {
        const new_session = p.instance != r.instance or p.session_token == 0;
        if (new_session) {
            // A connected receiver is replaced only by an answer that quotes a token which it gets now.
            p.instance = r.instance;
            p.session_token = self.rng.random().int(u64) | 1;
            p.name_len = r.name_len;
            p.name = r.name;
            p.replay = .{};
            p.wiped_told = false;
            if (self.o.group_key) |*k| p.key = seal.derive(k, .{
                .direction = .from_receiver,
                .tier = self.o.tier,
                .cluster = self.o.cluster,
                .source = self.o.source,
                .transport = self.o.transport,
                .receiver = p.id,
                .instance = r.instance,
            });
            self.peers.set_state(p, .known);
        }
        p.mandatory = h.flags().mandatory;
        p.address = from;
        const start: Position = if (r.has_position == 1)
            .{ .msg = h.number, .frag = r.frag }
        else
            .{ .msg = self.join_at(now_ns) };
        if (p.state != .connected) {
            p.acked = Position.min(start, self.announced);
            p.confirmed_ns = now_ns;
            self.peers.set_state(p, .confirming);
        }
        if (start.msg > self.window.written() and !p.wiped_told) {
            p.wiped_told = true;
            self.notices.log(.sender_wiped, .imp, .{
                .transport = self.o.transport,
                .name = p.name_slice(),
                .args = .{ number(self.window.connection_first()), number(start.msg), 0, 0 },
            });
        }
        self.control(.{ .confirm = .{
            .peer = self.peers.index_of(p),
            .token = r.receiver_token,
            .start = start.msg,
            .frag = start.frag,
        } });
    }

    /// Where a receiver without a position begins (protocol.md, "Session"; rule 7).
    fn join_at(self: *const Sender, now_ns: u64) u64 {
        const at_first = !self.peers.ever_connected or
            now_ns < self.started_ns + self.o.ack_timeout_ns;
        if (mutant.on(.join_anywhere)) return self.sent.msg;
        const at = if (at_first) self.window.connection_first() else self.window.acked();
        return @max(at, self.window.reclaimed());
    }

    /// The peer that a frame with a session token belongs to, or null (counted, and answered by a RST).
    fn session_peer(
        self: *Sender,
        now_ns: u64,
        from: Address,
        h: *const frame.Header,
        receiver: u16,
        token: u64,
    ) ?*Peer {
        if (self.phase != .started) return null;
        const p = self.peers.find(receiver);
        const known = p != null and p.?.session_token == token and
            h.connection() == self.o.connection;
        if (known and p.?.state != .disconnected) return p;
        if (mutant.on(.token_ignored) and p != null) return p;
        if (!known) self.counters.bad_token += 1;
        if (p) |q| {
            if (now_ns < q.last_rst_ns + limits.rst_interval_ns) return null;
            q.last_rst_ns = now_ns;
        }
        self.control(.{ .rst = .{
            .to = from,
            .token = token,
            .reason = if (known) .disconnected else .unknown_session,
            .receiver = receiver,
        } });
        return null;
    }

    fn on_ack(self: *Sender, now_ns: u64, from: Address, h: *const frame.Header) void {
        const a = frame.decode_ack(h) orelse {
            self.counters.out_of_range += 1;
            return;
        };
        const p = self.session_peer(now_ns, from, h, a.receiver, a.session_token) orelse return;
        const at: Position = .{ .msg = h.number, .frag = a.frag };
        if (!self.plausible(at) and !mutant.on(.ack_beyond_written)) {
            self.counters.out_of_range += 1;
            return;
        }
        p.ack_count += 1;
        p.last_heard_ns = now_ns;
        p.highest = a.highest;
        p.no_memory = a.no_memory == 1;
        p.mandatory = h.flags().mandatory;
        p.address = from;
        const was_connected = p.state == .connected;
        if (!was_connected) self.connect(now_ns, p, at);
        if (p.acked.less(at) or !was_connected) {
            p.last_progress_ns = now_ns;
            if (p.acked.less(at)) p.acked = at;
            self.advance_acked(now_ns);
        }
    }

    /// The highest that anybody can have is what was ever written; a fragment must be one of its message.
    fn plausible(self: *const Sender, at: Position) bool {
        const written = self.window.written();
        if (at.msg > written) return false;
        if (at.frag == 0) return true;
        if (at.msg == written or at.msg < self.window.reclaimed()) return false;
        return at.frag < self.o.sizes.fragments(self.window.node(at.msg).length);
    }

    fn connect(self: *Sender, now_ns: u64, p: *Peer, at: Position) void {
        const alone = self.peers.connected == 0;
        self.peers.set_state(p, .connected);
        p.acked = at;
        p.last_progress_ns = now_ns;
        self.progress += 1;
        self.notices.log(.session_agreed_tx, .info, .{
            .transport = self.o.transport,
            .name = p.name_slice(),
            .args = .{ number(self.o.connection & 0xffff_ffff), number(at.msg), 0, 0 },
        });
        self.notices.event(.new_receiver, .{ .transport = self.o.transport, .name = p.name_slice() });
        const back = Position.max(at, .{ .msg = self.window.acked() });
        if (alone and back.less(self.sent)) {
            // Nobody listened so far: what was sent into the void goes again as new data, in window's pace.
            self.sent = back;
            self.inflight_first = 0;
            self.inflight_count = 0;
            self.window.set_sent(back.msg, back.frag);
        }
    }

    fn hold(self: *const Sender, now_ns: u64) Peers.Hold {
        return .{
            .now_ns = now_ns,
            .configured_until_ns = self.started_ns + self.o.ack_timeout_ns,
            .connection_first = self.window.connection_first(),
        };
    }

    fn advance_acked(self: *Sender, now_ns: u64) void {
        var low = self.peers.lowest(self.hold(now_ns)) orelse return;
        if (mutant.on(.release_by_fastest)) {
            for (self.peers.slice()) |*p| {
                if (p.state == .connected) low = Position.max(low, p.acked);
            }
        }
        while (self.inflight_count > 0) {
            if (low.less(self.inflight[self.inflight_first])) break;
            self.inflight_first = (self.inflight_first + 1) % @as(u32, @intCast(self.inflight.len));
            self.inflight_count -= 1;
        }
        if (self.peers.connected == 0) return;
        if (low.msg > self.window.acked() and low.msg <= self.window.written()) {
            self.window.set_acked(low.msg);
            // A restarted sender may hear of numbers that it has not sent in this life.
            if (self.sent.msg < low.msg) {
                self.sent = low;
                self.announced = Position.max(self.announced, low);
                self.window.set_sent(low.msg, low.frag);
            }
            self.progress += 1;
        }
        self.reclaim_cache(now_ns);
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
        const low = self.peers.lowest(self.hold(now_ns)) orelse return self.window.acked();
        return @min(self.window.acked(), low.msg);
    }

    /// The producer found no room: gives up cached messages, oldest first. True when something was freed.
    pub fn make_room(self: *Sender, now_ns: u64) bool {
        const bound = self.reclaim_bound(now_ns);
        const from = self.window.reclaimed();
        if (bound <= from) return false;
        self.window.reclaim_to(@min(bound, from + limits.reclaim_step), self.pool);
        return true;
    }

    fn on_nak(self: *Sender, now_ns: u64, from: Address, h: *const frame.Header) void {
        const n = frame.decode_nak(h) orelse {
            self.counters.out_of_range += 1;
            return;
        };
        const p = self.session_peer(now_ns, from, h, n.receiver, n.session_token) orelse return;
        self.counters.naks_received += 1;
        p.nak_count += 1;
        p.last_heard_ns = now_ns;
        p.address = from;
        for (frame.ranges(h, n)) |r| self.request_repair(now_ns, p, r, n.attempt);
    }

    fn request_repair(self: *Sender, now_ns: u64, p: *Peer, r: frame.Range, attempt: u32) void {
        const index = self.peers.index_of(p);
        var start = r.start();
        var end = Position.min(r.end(), self.announced);
        if (!start.less(end)) {
            // Asks for what was not sent (a damaged or forged number led it there): tell it the truth.
            self.counters.out_of_range += 1;
            self.control(.{ .heartbeat = .{ .peer = index } });
            return;
        }
        const kept = self.window.reclaimed();
        if (start.msg < kept) {
            self.control(.{ .fill = .{
                .peer = index,
                .start = start.msg,
                .end = @min(kept, @max(end.msg, start.msg + 1)),
                .reason = .gone,
            } });
            start = .{ .msg = kept };
            if (!start.less(end)) return;
        }
        if (start.frag > 0 and
            start.frag >= self.o.sizes.fragments(self.window.node(start.msg).length))
        {
            self.counters.out_of_range += 1;
            return;
        }
        if (mutant.on(.repair_no_hold_off)) self.repairs.recent = @splat(.{
            .start = start,
            .end = start,
            .until_ns = 0,
        });
        if (mutant.on(.repair_late)) start.msg += 1;
        end = self.message_boundary(end);
        if (!start.less(end)) return;
        self.repairs.request(now_ns, .{
            .start = start,
            .end = end,
            .receiver = index,
            .attempt = attempt,
            .has_group = self.o.is_multicast,
        });
    }

    /// A range may end inside a message only at one of its fragments.
    fn message_boundary(self: *const Sender, end: Position) Position {
        if (end.frag == 0) return end;
        const fragments = self.o.sizes.fragments(self.window.node(end.msg).length);
        return if (end.frag < fragments) end else .{ .msg = end.msg + 1 };
    }

    fn on_rst(self: *Sender, now_ns: u64, h: *const frame.Header) void {
        const r = frame.decode_rst(h) orelse {
            self.counters.out_of_range += 1;
            return;
        };
        const p = self.peers.find(r.receiver) orelse return;
        if (p.session_token != r.token or h.connection() != self.o.connection) {
            self.counters.bad_token += 1;
            return;
        }
        if (r.reason != @backingInt(frame.RstReason.closed)) return;
        self.disconnect(now_ns, p);
    }

    fn disconnect(self: *Sender, now_ns: u64, p: *Peer) void {
        if (p.state != .connected and p.state != .confirming) return;
        const was_connected = p.state == .connected;
        if (was_connected) self.counters.disconnects += 1;
        self.peers.set_state(p, .disconnected);
        self.progress += 1;
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
        if (self.phase == .handshake) self.tick_handshake(now_ns);
        if (self.phase != .started) return;
        for (self.peers.slice()) |*p| {
            if (p.state == .confirming and now_ns >= p.confirmed_ns + self.o.ack_timeout_ns) {
                self.peers.set_state(p, .known);
                continue;
            }
            if (p.state != .connected) continue;
            if (now_ns >= p.last_heard_ns + self.o.ack_timeout_ns) {
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
                self.disconnect(now_ns, p);
            } else if (self.o.slow_disconnect and self.is_stuck() and p.acked.less(self.announced) and
                now_ns >= p.last_progress_ns + self.o.ack_timeout_ns)
            {
                self.notices.log(.slow_receiver_disconnected, .warn, .{
                    .transport = self.o.transport,
                    .name = p.name_slice(),
                    .args = .{
                        number((now_ns - p.last_progress_ns) / ns_per_ms),
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

    fn used_nodes(self: *const Sender) u64 {
        return self.window.written() - self.window.reclaimed();
    }

    fn is_stuck(self: *const Sender) bool {
        return self.credit() == 0 or self.pool.free_count() == 0 or
            self.used_nodes() == self.window.capacity;
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
        if (self.controls_count > 0 or self.ack_wanted or self.has_new_data()) return now_ns;
        var at = self.syn_due_ns;
        if (self.phase == .handshake) {
            return @min(at, self.phase_since_ns + self.o.start_timeout_ns);
        }
        at = @min(at, self.heartbeat_due_ns);
        if (self.repairs.peek()) |job| at = @min(at, self.repair_ready_ns(now_ns, job));
        for (self.peers.slice()) |*p| {
            switch (p.state) {
                .connected => {
                    at = @min(at, p.last_heard_ns + self.o.ack_timeout_ns);
                    if (self.o.slow_disconnect and self.is_stuck()) {
                        at = @min(at, @max(now_ns + ns_per_ms, p.last_progress_ns +
                            self.o.ack_timeout_ns));
                    }
                },
                .confirming => at = @min(at, p.confirmed_ns + self.o.ack_timeout_ns),
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
        return self.phase == .started and self.sent.msg < self.window.written() and
            self.credit() > 0;
    }

    fn control(self: *Sender, c: Control) void {
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
        if (self.phase == .closed) return self.closing_run(image);
        if (self.controls_count > 0) {
            const c = self.controls[self.controls_first];
            self.controls_first = (self.controls_first + 1) % @as(u32, self.controls.len);
            self.controls_count -= 1;
            return self.control_run(image, c);
        }
        if (now_ns >= self.syn_due_ns) return self.syn_run(now_ns, image);
        if (self.phase != .started) return null;
        if (self.repair_run(now_ns, image)) |run| return run;
        if (now_ns >= self.heartbeat_due_ns or self.ack_wanted) {
            return self.heartbeat_run(now_ns, image);
        }
        return self.data_run(now_ns, image);
    }

    fn one(bytes: u32, to: ?Address) Run {
        return .{ .to = to, .bytes = bytes, .segment_bytes = bytes };
    }

    fn control_run(self: *Sender, image: []align(8) u8, c: Control) Run {
        switch (c) {
            .confirm => |x| {
                const p = &self.peers.list[x.peer];
                const bytes = self.put(frame.Confirm, image, self.head(.confirm, x.start, .{}), .{
                    .receiver_token = x.token,
                    .session_token = p.session_token,
                    .stream_token = self.stream_token,
                    .epoch = .{},
                    .first = self.window.reclaimed(),
                    .announced = self.announced.msg,
                    .receiver = p.id,
                    .tx_arg = self.o.tx_arg,
                    .fragment_bytes = @intCast(self.o.sizes.fragment_bytes),
                    .group_size = self.group_size(),
                    .window_datagrams = self.o.window_datagrams,
                });
                return one(bytes, p.address);
            },
            .rst => |x| return one(self.put(frame.Rst, image, self.head(.rst, 0, .{}), .{
                .token = x.token,
                .reason = @backingInt(x.reason),
                .receiver = x.receiver,
            }), x.to),
            .heartbeat => |x| {
                const bytes = self.put_heartbeat(image, false);
                return one(bytes, self.peers.list[x.peer].address);
            },
            .fill => |x| {
                const bytes = self.put(frame.Fill, image, self.head(.fill, x.start, .{}), .{
                    .stream_token = self.stream_token,
                    .end = x.end,
                    .reason = @backingInt(x.reason),
                });
                return one(bytes, self.peers.list[x.peer].address);
            },
        }
    }

    fn group_size(self: *const Sender) u16 {
        return @intCast(@max(1, @min(self.peers.connected, std.math.maxInt(u16))));
    }

    fn syn_run(self: *Sender, now_ns: u64, image: []align(8) u8) Run {
        self.last_syn_ns = now_ns;
        const asking = self.phase == .handshake;
        var waiting = asking or self.peers.connected == 0;
        for (self.peers.slice()) |*p| {
            if (p.configured and p.state != .connected) waiting = true;
        }
        const slowest = @min(limits.syn_waiting_max_ns, self.o.heartbeat_interval_ns);
        self.syn_step_ns = if (waiting)
            @min(self.syn_step_ns * 2, slowest)
        else
            self.o.heartbeat_interval_ns;
        self.syn_due_ns = now_ns + self.syn_step_ns;
        const bytes = self.put(frame.Syn, image, self.head(.syn, self.announced.msg, .{
            .handshake = asking,
        }), .{
            .first = if (asking) 0 else self.window.reclaimed(),
            .join_at = if (asking) 0 else self.join_at(now_ns),
            .epoch = .{},
            .repair_ip = self.o.repair_address.ip,
            .repair_port = self.o.repair_address.port,
            .tx_arg = self.o.tx_arg,
            .fragment_bytes = @intCast(self.o.sizes.fragment_bytes),
            .group_size = self.group_size(),
            .window_datagrams = self.o.window_datagrams,
            .name_len = @intCast(self.o.name.len),
            .name = frame.name_copy(self.o.name),
        });
        return one(bytes, null);
    }

    fn put_heartbeat(self: *Sender, image: []align(8) u8, ack_request: bool) u32 {
        var told = self.announced;
        if (mutant.on(.heartbeat_silent)) told = .{ .msg = self.window.acked() };
        const flags: frame.Flags = .{ .ack_request = ack_request };
        return self.put(frame.Heartbeat, image, self.head(.heartbeat, told.msg, flags), .{
            .stream_token = self.stream_token,
            .epoch = .{},
            .first = @min(self.window.reclaimed(), told.msg),
            .frag = told.frag,
            .group_size = self.group_size(),
        });
    }

    fn heartbeat_run(self: *Sender, now_ns: u64, image: []align(8) u8) Run {
        // After the last data several come soon, so that a lost tail is seen quickly; then the usual interval.
        self.heartbeat_step_ns = @min(self.heartbeat_step_ns * 4, self.o.heartbeat_interval_ns);
        self.heartbeat_due_ns = now_ns + self.heartbeat_step_ns;
        if (self.send_flag) self.announced = Position.max(self.announced, self.sent);
        const unacked = self.window.acked() < self.announced.msg or self.announced.frag > 0;
        const ask = self.ack_wanted or unacked;
        self.ack_wanted = false;
        self.counters.heartbeats_sent += 1;
        return one(self.put_heartbeat(image, ask), null);
    }

    fn repair_bytes_per_s(self: *const Sender) u64 {
        return limits.repair_bytes_per_s / @max(1, self.peers.connected);
    }

    fn repair_ready_ns(self: *Sender, now_ns: u64, job: *const retransmit.Job) u64 {
        const need = self.o.sizes.datagram_bytes;
        const p = &self.peers.list[job.receiver];
        const all = self.budget.ready_ns(need, limits.repair_bytes_per_s);
        const own = p.bucket.ready_ns(need, self.repair_bytes_per_s());
        return @max(now_ns, @max(all, own));
    }

    fn repair_run(self: *Sender, now_ns: u64, image: []align(8) u8) ?Run {
        while (self.repairs.peek()) |job| {
            const kept = self.window.reclaimed();
            if (job.start.msg < kept) {
                job.start = .{ .msg = kept };
                if (!job.start.less(job.end)) {
                    self.repairs.finish();
                    continue;
                }
            }
            const p = &self.peers.list[job.receiver];
            if (self.window.node(job.start.msg).flags & layout.flag_lost != 0) {
                const lost = job.start.msg;
                self.control(.{ .fill = .{
                    .peer = job.receiver,
                    .start = lost,
                    .end = lost + 1,
                    .reason = .gone,
                } });
                self.repairs.advance(now_ns, .{ .msg = lost + 1 });
                continue;
            }
            self.budget.refill(now_ns, limits.repair_bytes_per_s);
            p.bucket.refill(now_ns, self.repair_bytes_per_s());
            const tokens = @min(self.budget.tokens, p.bucket.tokens);
            const size = self.o.sizes.datagram_bytes;
            if (tokens < size) return null;
            const segments = @min(self.segments_max(image), tokens / size);
            const to: ?Address = if (job.unicast) p.address else null;
            var built: u32 = 0;
            var n: u32 = 0;
            var at = job.start;
            while (n < segments and at.less(job.end)) : (n += 1) {
                if (self.window.node(at.msg).flags & layout.flag_lost != 0) break;
                const piece = self.packer.build(
                    self.window,
                    at,
                    repair_limit(at, job.end),
                    @alignCast(image[built..]),
                    .{ .flags = .{ .repair = true } },
                );
                built += piece.bytes;
                at = piece.end;
                if (piece.bytes != size) {
                    n += 1;
                    break;
                }
            }
            self.repairs.advance(now_ns, at);
            self.budget.take(built);
            p.bucket.take(built);
            self.counters.repairs_sent += n;
            return .{ .to = to, .bytes = built, .segment_bytes = @min(built, size) };
        }
        return null;
    }

    /// The packer takes a message boundary as its limit; a range that ends inside a message ends that message's
    /// datagrams one by one.
    fn repair_limit(at: Position, end: Position) Position {
        if (at.msg == end.msg) return end;
        return .{ .msg = end.msg };
    }

    fn segments_max(self: *const Sender, image: []const u8) u32 {
        const size = self.o.sizes.datagram_bytes;
        const room = @min(image.len, limits.gso_bytes_max);
        return @min(limits.gso_segments_max, @as(u32, @intCast(room / size)));
    }

    fn data_run(self: *Sender, now_ns: u64, image: []align(8) u8) ?Run {
        const written = self.window.written();
        const segments = @min(self.segments_max(image), self.credit());
        const size = self.o.sizes.datagram_bytes;
        const quarter = @max(1, self.inflight.len / 4);
        var built: u32 = 0;
        var n: u32 = 0;
        while (n < segments and self.sent.msg < written) {
            const flags = self.window.node(self.sent.msg).flags;
            if (flags & (layout.flag_unsent | layout.flag_lost) != 0 and self.sent.frag == 0) {
                self.sent.msg += 1; // numbered, not told: who sees the jump asks
                continue;
            }
            const last = n + 1 == self.credit();
            const ask = last or (self.datagrams_numbered + 1) % quarter == 0;
            const piece = self.packer.build(
                self.window,
                self.sent,
                .{ .msg = written },
                @alignCast(image[built..]),
                .{ .flags = .{ .ack_request = ask }, .skip_unsent = true },
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
        self.heartbeat_step_ns = limits.heartbeat_first_ns / 4;
        self.heartbeat_due_ns = now_ns + limits.heartbeat_first_ns;
        return .{ .to = null, .bytes = built, .segment_bytes = @min(built, size) };
    }

    fn push_inflight(self: *Sender, end: Position) void {
        if (mutant.on(.window_ignored) and self.inflight_count == self.inflight.len) return;
        assert(self.inflight_count < self.inflight.len);
        const at = (self.inflight_first + self.inflight_count) % self.inflight.len;
        self.inflight[at] = end;
        self.inflight_count += 1;
    }

    fn closing_run(self: *Sender, image: []align(8) u8) ?Run {
        if (self.closing_left == 0) return null;
        self.closing_left -= 1;
        return one(self.put(frame.Rst, image, self.head(.rst, self.announced.msg, .{}), .{
            .token = self.stream_token,
            .reason = @backingInt(frame.RstReason.closed),
            .receiver = 0,
        }), null);
    }

    // ---------------------------------------------------------------- calls of the driver

    /// Everything accepted was sent and acknowledged by those who are connected (at least one).
    pub fn is_flushed(self: *const Sender, target: u64) bool {
        return self.window.acked() >= target;
    }

    /// A waiter wants acknowledgements now (flush, ready): asks for them with the next heartbeat.
    pub fn want_ack(self: *Sender, now_ns: u64) void {
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
        self.closing_left = if (self.phase == .started) limits.closing_repeats else 0;
        self.set_phase(.closed, now_ns);
    }
};
