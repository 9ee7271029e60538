//! Fuzzer of the sender: a session with a few receivers that everybody plays false with.
//!
//! A life is a sender over a small window with up to three receivers that agreed on sessions as the
//! protocol says, because the fuzzer answers. Each execution is one datagram to it: an ACK, NAK,
//! SYN_REPLY or RST, mostly with the ids, connection and tokens of a receiver and numbers near
//! where the window stands, often bent; messages, time and sending go on in between. At the end a
//! receiver that is honest must still get everything, and all memory must come back.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const layout = @import("../window/node.zig");
const base_limits = @import("../limits.zig");
const limits = @import("limits.zig");
const forge_file = @import("../wire/forge_fuzz.zig");
const frame_fuzz = @import("../wire/frame_fuzz.zig");
const peers_file = @import("peers.zig");
const role = @import("sender_role.zig");
const sender_file = @import("sender.zig");
const Address = @import("../transport/address.zig").Address;
const SendingWindow = @import("../window/sending_window.zig").SendingWindow;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Bump = @import("../window/pool.zig").Bump;
const Bench = forge_file.Bench;
const Forge = forge_file.Forge;
const Sender = sender_file.Sender;
const expect = forge_file.expect;

const ms = std.time.ns_per_ms;
const chunk_count = 32;
const node_counts = [_]u32{ 64, 256, 1024 };
const source = 3;
const transport = 9;
const plays_max = 3;
const header_bytes = base_limits.message_header_bytes;
const configured = [_]peers_file.Configured{.{ .id = 1, .name = "first" }};

pub fn run(bench: *Bench, seed: u64, executions: u64) void {
    var gpa: std.heap.FixedBufferAllocator = .init(bench.memory);
    const world = gpa.allocator().create(World) catch @panic("the bench is too small");
    world.init(bench, gpa.allocator(), seed) catch @panic("the bench is too small");
    for (0..executions) |_| {
        bench.count();
        world.execute();
    }
    world.finish();
}

/// One of the receivers that the fuzzer plays.
const Play = struct {
    id: u16,
    instance: u64,
    address: Address,
    sealer: seal.Sealer,
};

const World = struct {
    bench: *Bench,
    forge: Forge,
    pool: ChunkPool,
    bump: Bump,
    window: SendingWindow,
    sender: Sender,
    group_key: ?seal.GroupKey,
    opening: seal.Key,
    sizes: frame.Sizes,
    plays: [plays_max]Play,
    now_ns: u64,
    acked: u64,
    reclaimed: u64,
    /// How many of 16 datagrams are bent.
    bent: u64,
    /// How many of 8 executions publish a message, and how many of 16 ACKs move nothing: windows
    /// are empty in some lives, full in others.
    pace: u64,
    standing: u64,
    /// The CONFIRM for this token was seen, with this session token.
    awaited_token: u64,
    session_token: u64,
    image: [4 * 1504]u8 align(8),

    fn init(self: *World, bench: *Bench, gpa: std.mem.Allocator, seed: u64) !void {
        self.bench = bench;
        self.forge = .init(seed);
        const d = &self.forge.dice;
        const memory = try gpa.alignedAlloc(
            u8,
            .fromByteUnits(base_limits.page_bytes),
            chunk_count * base_limits.chunk_bytes_min,
        );
        self.pool = try .init(gpa, .{
            .base = memory.ptr,
            .bytes = memory.len,
            .chunk_bytes = base_limits.chunk_bytes_min,
        });
        self.bump = Bump.init(&self.pool) orelse return error.OutOfMemory;
        self.window = try .create_in_memory(gpa, d.one_of(u32, &node_counts), memory);
        const first: u64 = switch (d.below(4)) {
            0 => 1 << 20,
            1 => limits.first_number_max,
            else => 0,
        };
        self.window.start_at(first, &self.pool);
        self.acked = first;
        self.reclaimed = first;
        self.now_ns = d.between(1, 1 << 50);
        self.group_key = if (d.below(4) == 0) key_of(seed) else null;
        self.sizes = .init(@intCast(d.between(576, 1500)), self.group_key != null);
        self.bent = d.below(12);
        self.pace = d.between(1, 7);
        self.standing = d.below(16);
        self.awaited_token = 0;
        self.session_token = 0;
        self.sender = try .init(gpa, self.options(first), &self.window, &self.pool, self.now_ns);
        self.sender.settle();
        if (self.sender.o.tier) {
            const id = self.forge.dice.between(1, frame.number_max);
            role.set(&self.sender, self.now_ns, true, .{ .number = 1, .id = 1 }, id);
        }
        self.opening = if (self.sender.sealer) |*s| s.key else @splat(0);
        for (&self.plays, 1..) |*play, id| self.start_play(play, @intCast(id));
    }

    fn key_of(seed: u64) seal.GroupKey {
        var key: seal.GroupKey = @splat(0x5a);
        std.mem.writeInt(u64, key[0..8], seed, .little);
        return key;
    }

    fn options(self: *World, first: u64) sender_file.Options {
        const d = &self.forge.dice;
        const is_of_tier = d.below(8) == 0;
        return .{
            .cluster = forge_file.cluster,
            .source = source,
            .tier = is_of_tier,
            .transport = transport,
            .tx_arg = 5,
            .name = "sender",
            .sizes = self.sizes,
            .is_multicast = d.coin(),
            .window_datagrams = @intCast(d.magnitude(1, 64)),
            .max_cache_messages = d.magnitude(0, 1000),
            .heartbeat_interval_ns = 100 * ms,
            .ack_timeout_ns = 500 * ms,
            .slow_disconnect = d.coin(),
            .handshake = first == 0 and d.below(4) == 0 and !is_of_tier,
            .fresh = d.coin(),
            .start_timeout_ns = d.below(50) * ms,
            .configured = if (d.coin()) &configured else &.{},
            .group_key = self.group_key,
            .repair_address = .init(0x0100007f, 4000),
            .connection = d.between(1, frame.number_max),
            .seed = d.bits(),
        };
    }

    /// A receiver starts, for the first time or again.
    fn start_play(self: *World, play: *Play, id: u16) void {
        const d = &self.forge.dice;
        const instance = (d.bits() << 16) | id;
        play.* = .{
            .id = id,
            .instance = instance,
            .address = .init(0x0100007f, @intCast(d.between(5000, 6000))),
            .sealer = undefined,
        };
        if (self.group_key) |*key| play.sealer = .init(key, .{
            .direction = .from_receiver,
            .tier = self.sender.o.tier,
            .cluster = forge_file.cluster,
            .source = source,
            .transport = transport,
            .receiver = id,
            .instance = instance,
        });
    }

    fn sealer_of(self: *const World, play: *Play) ?*seal.Sealer {
        return if (self.group_key != null) &play.sealer else null;
    }

    // ---------------------------------------------------------------- one execution

    fn execute(self: *World) void {
        self.pass_time();
        self.work();
        self.check();
        const play = &self.plays[@intCast(self.forge.dice.below(plays_max))];
        if (self.forge.once_in(256)) self.start_play(play, play.id);
        self.forge_input(play);
        const is_bent = self.forge.dice.below(16) < self.bent;
        if (is_bent) self.forge.bend();
        self.forge.finish(self.sealer_of(play), is_bent);
        if (self.forge.once_in(64)) self.forge.damage();
        const from = if (self.forge.once_in(16)) Address.init(0x0200007f, 9) else play.address;
        self.sender.on_datagram(self.now_ns, from, self.bench.place(self.forge.bytes()));
        self.check();
    }

    fn pass_time(self: *World) void {
        const f = &self.forge;
        self.now_ns += f.dice.below(20_000);
        if (f.once_in(32)) self.now_ns += f.dice.below(30 * ms);
        if (f.once_in(512)) self.now_ns += f.dice.below(1000 * ms);
    }

    /// What producer and engine do meanwhile.
    fn work(self: *World) void {
        const f = &self.forge;
        if (f.dice.below(8) < self.pace) self.publish();
        if (f.once_in(4)) self.send(f.dice.between(1, 12));
        if (f.once_in(64)) _ = self.sender.make_room(self.now_ns);
        if (f.once_in(64)) self.sender.want_ack(self.now_ns);
        if (f.once_in(64)) self.sender.send_flag = !self.sender.send_flag;
    }

    fn publish(self: *World) void {
        if (self.sender.phase != .started) return;
        const d = &self.forge.dice;
        const is_large = self.forge.once_in(16);
        const most = if (is_large) 5 * self.sizes.fragment_bytes else 100;
        const length: u32 = @intCast(d.below(most + 1));
        if (self.window.ring_full()) return self.make_room();
        const bytes = header_bytes + @as(u64, length);
        const offset = self.bump.alloc(bytes, 8) orelse return self.make_room();
        const no = self.window.next_no;
        @memset(self.pool.slice(offset + header_bytes, length), @truncate(no));
        const flags: u16 = if (self.sender.send_flag) 0 else layout.flag_unsent;
        const given = self.window.publish(
            @intCast((offset + header_bytes) / 8),
            length,
            @truncate(no *% 7),
            flags,
        );
        expect(given == no, "a ring that is not full gives the next number");
    }

    fn make_room(self: *World) void {
        _ = self.sender.make_room(self.now_ns);
    }

    fn send(self: *World, runs: u64) void {
        const sender = &self.sender;
        sender.tick(self.now_ns);
        for (0..runs) |_| {
            // A driver may have room for one datagram, or for several.
            const segments: usize = @intCast(self.forge.dice.between(1, 4));
            const image = self.image[0 .. segments * self.sizes.datagram_bytes];
            const sent = sender.poll_send(self.now_ns, image) orelse break;
            self.check_run(sent, image);
        }
        expect(sender.next_deadline_ns(self.now_ns) > 0, "there is a deadline");
    }

    // ---------------------------------------------------------------- what comes in

    fn near_number(self: *World) u64 {
        const d = &self.forge.dice;
        const base = switch (d.below(6)) {
            0 => self.window.reclaimed(),
            1 => self.window.acked(),
            2 => self.sender.sent.msg,
            3 => self.sender.announced.msg,
            4 => self.window.written(),
            else => d.between(self.window.reclaimed(), self.window.written()),
        };
        return (base + d.below(4)) -| d.below(4);
    }

    fn near_fragment(self: *World) u32 {
        const d = &self.forge.dice;
        return switch (d.below(16)) {
            0...11 => 0,
            12...14 => @intCast(d.below(7)),
            else => @truncate(self.forge.number()),
        };
    }

    fn token_of(self: *World, play: *const Play) u64 {
        const d = &self.forge.dice;
        const peer = self.sender.peers.find(play.id) orelse return d.bits();
        return switch (d.below(16)) {
            0...4 => if (peer.candidate.token != 0) peer.candidate.token else peer.session_token,
            5...14 => if (peer.session_token != 0) peer.session_token else peer.candidate.token,
            else => d.below(2) * d.bits(),
        };
    }

    fn forge_input(self: *World, play: *Play) void {
        const f = &self.forge;
        const d = &f.dice;
        f.near = self.near_number();
        const kind: frame.Type = switch (d.below(64)) {
            0...27 => .ack,
            28...53 => .nak,
            54...61 => .syn_reply,
            62 => .rst,
            else => d.one_of(frame.Type, std.enums.values(frame.Type)),
        };
        f.whole(kind);
        const h = f.head();
        h.source = source;
        h.transport = transport;
        h.connection_flags.connection = @intCast(self.sender.o.connection);
        h.connection_flags.flags.tier = self.sender.o.tier;
        if (f.once_in(64)) h.source = @truncate(d.bits());
        if (f.once_in(64)) h.connection_flags.connection = @truncate(f.number());
        switch (kind) {
            .ack => self.set_ack(play),
            .nak => self.set_nak(play),
            .syn_reply => self.set_syn_reply(play),
            .rst => f.body(frame.Rst).* = .{
                .token = self.token_of(play),
                .reason = @intCast(d.between(1, 3)),
                .receiver = play.id,
            },
            else => {},
        }
    }

    fn set_ack(self: *World, play: *const Play) void {
        const f = &self.forge;
        f.head().number = if (f.once_in(4))
            self.near_number()
        else if (f.dice.below(16) < self.standing)
            self.window.acked()
        else
            self.window.acked() + f.dice.below(4);
        f.body(frame.Ack).* = .{
            .session_token = self.token_of(play),
            .highest = self.near_number(),
            .frag = self.near_fragment(),
            .receiver = play.id,
            .no_memory = @intFromBool(f.once_in(8)),
        };
    }

    fn set_nak(self: *World, play: *const Play) void {
        const f = &self.forge;
        const d = &f.dice;
        const count = f.body(frame.Nak).count;
        f.body(frame.Nak).session_token = self.token_of(play);
        f.body(frame.Nak).receiver = play.id;
        if (f.once_in(16)) return;
        const kept = self.window.reclaimed();
        var at: frame.Position = .{
            .msg = if (f.once_in(8))
                self.near_number()
            else
                d.between(kept, @max(kept, self.sender.announced.msg)),
            .frag = self.near_fragment(),
        };
        for (f.nak_ranges(count)) |*r| {
            var end: frame.Position = .{ .msg = at.msg + d.below(4), .frag = self.near_fragment() };
            if (!at.less(end)) end = .{ .msg = at.msg + 1 };
            r.* = .{
                .start_msg = at.msg,
                .start_frag = at.frag,
                .end_msg = end.msg,
                .end_frag = end.frag,
            };
            at = .{ .msg = end.msg + d.below(3), .frag = end.frag };
        }
    }

    fn set_syn_reply(self: *World, play: *const Play) void {
        const f = &self.forge;
        const r = f.body(frame.SynReply);
        r.receiver = play.id;
        r.instance = play.instance;
        if (r.has_position != 0) f.head().number = self.near_number();
    }

    // ---------------------------------------------------------------- what must hold

    fn check(self: *World) void {
        const window = &self.window;
        const sender = &self.sender;
        const reclaimed = window.reclaimed();
        const acked = window.acked();
        const written = window.written();
        expect(reclaimed <= acked and acked <= written, "cursors are in order");
        expect(sender.sent.msg >= acked and sender.sent.msg <= written, "sent is between them");
        expect(acked >= self.acked and reclaimed >= self.reclaimed, "cursors never go back");
        expect(written - reclaimed <= window.capacity, "nothing that is kept was overwritten");
        expect(sender.inflight_count <= sender.inflight.len, "in flight is at most the window");
        expect(sender.controls_count <= sender.controls.len, "controls are bounded");
        expect(sender.peers.count <= sender.peers.list.len, "receivers are bounded");
        expect(sender.repairs.count <= limits.repair_jobs_max, "repairs are bounded");
        expect(!sender.announced.less(.{ .msg = acked }), "what is acknowledged was announced");
        var connected: u32 = 0;
        for (sender.peers.slice()) |*p| {
            if (p.state != .connected) continue;
            connected += 1;
            expect(p.acked.msg <= written, "nobody has what was not written");
            expect(acked == self.acked or p.acked.msg >= acked, "acked waits for everybody");
        }
        expect(connected == sender.peers.connected, "the connected ones are counted");
        self.acked = acked;
        self.reclaimed = reclaimed;
    }

    fn check_run(self: *World, sent: sender_file.Run, image: []align(8) u8) void {
        expect(sent.bytes > 0 and sent.bytes <= image.len, "a run is in its buffer");
        expect(sent.segment_bytes > 0 and sent.segment_bytes <= sent.bytes, "it has segments");
        expect(sent.segment_bytes % 8 == 0, "segments are aligned");
        var at: u32 = 0;
        while (at < sent.bytes) : (at += sent.segment_bytes) {
            const length = @min(sent.segment_bytes, sent.bytes - at);
            const bytes: []align(8) u8 = @alignCast(image[at..][0..length]);
            const h = switch (frame.decode_header(bytes, forge_file.cluster)) {
                .ok => |h| h,
                .refused => @panic("broken: what is sent has a valid header"),
            };
            expect(h.length == length, "a segment is one datagram");
            expect(h.flags().sealed == (self.group_key != null), "it is sealed if there is a key");
            if (h.flags().sealed) expect(seal.open(self.opening, bytes), "it can be opened");
            expect(frame_fuzz.check_body(h), "what is sent can be decoded");
            self.check_sent(h);
        }
    }

    fn check_sent(self: *World, h: *const frame.Header) void {
        const written = self.window.written();
        switch (frame.type_of(h) orelse return) {
            .data => {
                var it: frame.MessageIterator = .init(h);
                var no = h.number;
                while (it.next()) |m| : (no += 1) {
                    self.check_message(no, m.head.length, m.head.msg_arg, m.payload);
                }
            },
            .fragment => {
                const f = frame.decode_fragment(h) orelse return;
                self.check_message(h.number, f.head.message_length, f.head.msg_arg, f.payload);
            },
            .confirm => {
                const c = frame.decode_confirm(h) orelse return;
                if (c.receiver_token == self.awaited_token) self.session_token = c.session_token;
                expect(c.announced <= written, "only what was written is announced");
            },
            .syn, .heartbeat => expect(h.number <= written, "only what was written is announced"),
            .fill => {
                const f = frame.decode_fill(h) orelse return;
                expect(f.end <= self.window.reclaimed(), "only what is not kept is given up");
            },
            .rst => {},
            .syn_reply, .ack, .nak => @panic("broken: a sender sends no frame of a receiver"),
        }
    }

    fn check_message(self: *World, no: u64, length: u32, arg: u16, part: []const u8) void {
        expect(no >= self.window.reclaimed() and no < self.window.written(), "it is kept");
        const node = self.window.node(no);
        expect(node.length == length and node.msg_arg == arg, "a message is as it was written");
        expect(arg == @as(u16, @truncate(no *% 7)), "an argument belongs to its number");
        const byte: u8 = @truncate(no);
        if (part.len == 0) return;
        const is_own = part[0] == byte and part[part.len - 1] == byte and
            part[part.len / 2] == byte;
        expect(is_own, "bytes belong to their number");
    }

    // ---------------------------------------------------------------- the end

    /// All receivers fall silent, an honest one comes: it is served, and all memory comes back.
    fn finish(self: *World) void {
        // Twice: a handshake ends with the first, the time of configured receivers with the second.
        for (0..2) |_| {
            self.now_ns += 4000 * ms;
            self.drain();
        }
        expect(self.sender.phase == .started, "a handshake ends");
        expect(self.sender.peers.connected == 0, "who is silent is disconnected");
        self.publish();
        const play = &self.plays[0];
        self.start_play(play, 900);
        self.awaited_token = self.forge.dice.bits() | 1;
        self.forge.near = 0;
        self.forge.whole(.syn_reply);
        self.address_to_sender();
        self.forge.head().number = 0;
        const r = self.forge.body(frame.SynReply);
        r.receiver = play.id;
        r.instance = play.instance;
        r.receiver_token = self.awaited_token;
        r.has_position = 0;
        r.frag = 0;
        self.deliver(play);
        self.drain();
        expect(self.session_token != 0, "an honest receiver is given a session");
        self.forge.whole(.ack);
        self.address_to_sender();
        self.forge.head().number = self.window.written();
        self.forge.body(frame.Ack).* = .{
            .session_token = self.session_token,
            .highest = self.window.written(),
            .frag = 0,
            .receiver = play.id,
            .no_memory = 0,
        };
        self.deliver(play);
        const written = self.window.written();
        expect(self.window.acked() == written, "what it has is acknowledged");
        while (self.sender.make_room(self.now_ns)) {}
        expect(self.window.reclaimed() == written, "what is acknowledged can be freed");
        self.bump.close();
        expect(self.pool.free_count() == chunk_count, "all memory comes back");
        self.sender.close(self.now_ns);
        self.drain();
        expect(self.sender.phase == .closed, "it closes");
    }

    fn address_to_sender(self: *World) void {
        const h = self.forge.head();
        h.source = source;
        h.transport = transport;
        h.connection_flags.connection = @intCast(self.sender.o.connection);
        h.connection_flags.flags.tier = self.sender.o.tier;
    }

    fn deliver(self: *World, play: *Play) void {
        self.forge.finish(self.sealer_of(play), false);
        const bytes = self.bench.place(self.forge.bytes());
        self.sender.on_datagram(self.now_ns, play.address, bytes);
        self.check();
    }

    fn drain(self: *World) void {
        self.sender.tick(self.now_ns);
        for (0..20_000) |_| {
            const sent = self.sender.poll_send(self.now_ns, &self.image) orelse return;
            self.check_run(sent, &self.image);
        }
        @panic("broken: sending comes to an end");
    }
};
