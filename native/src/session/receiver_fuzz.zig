//! Fuzzer of the receiver: sessions with a few senders that everybody plays false with.
//!
//! A life is a receiver with a small log that agreed on sessions with up to three senders as the
//! protocol says, because the fuzzer answers. Each execution is one buffer of it: one datagram or
//! several joined ones, mostly with the ids, connection, address and tokens of a sender and numbers
//! near where the stream stands, often bent; the program that takes messages, time and sending go
//! on in between. In some lives nothing is bent, only out of order: there every message must come
//! out with its own bytes. At the end a sender that is honest must still be heard, and all memory
//! must come back.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const record = @import("../order/record.zig");
const log_file = @import("../order/log.zig");
const loss = @import("../repair/loss_detector.zig");
const base_limits = @import("../limits.zig");
const limits = @import("limits.zig");
const forge_file = @import("../wire/forge_fuzz.zig");
const frame_fuzz = @import("../wire/frame_fuzz.zig");
const stream_file = @import("stream.zig");
const receiver_file = @import("receiver.zig");
const mix = @import("../testing/dice.zig").mix;
const Address = @import("../transport/address.zig").Address;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Bench = forge_file.Bench;
const Forge = forge_file.Forge;
const Receiver = receiver_file.Receiver;
const Stream = stream_file.Stream;
const Key = stream_file.Key;
const expect = forge_file.expect;

const ms = std.time.ns_per_ms;
const receiver_id = 500;
const plays_max = 3;
const joined_max = 3;
const streams_checked = 64;
const silence_ns = 1000 * ms;

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

/// One of the senders that the fuzzer plays.
const Play = struct {
    key: Key,
    connection: u64,
    /// First number ever.
    first: u64,
    data_from: Address,
    repair: Address,
    stream_token: u64,
    session_token: u64,
    has_key: bool,
    sealer: seal.Sealer,

    /// Length of a message, the same each time; every eighth is in fragments.
    fn length_of(self: *const Play, no: u64) u32 {
        const h = mix(self.first + self.key.source, no);
        const fragments: u32 = @intCast(2 + h / 256 % 5);
        if (h % 8 != 0) return @intCast(h / 256 % 90);
        return (fragments - 1) * fragment_bytes + 1 + @as(u32, @intCast(h / 4096 % fragment_bytes));
    }

    const fragment_bytes = frame.fragment_bytes_min;

    fn is_fragmented(self: *const Play, no: u64) bool {
        return self.length_of(no) > fragment_bytes;
    }

    fn byte_of(self: *const Play, no: u64) u8 {
        return @truncate(no *% 7 + self.key.source);
    }
};

const World = struct {
    bench: *Bench,
    gpa: std.mem.Allocator,
    forge: Forge,
    pool: ChunkPool,
    log: log_file.Log,
    holding: loss.HoldingPool,
    receiver: Receiver,
    channels: [2]stream_file.Channel,
    plays: [plays_max]Play,
    group_key: seal.GroupKey,
    now_ns: u64,
    /// How many of 16 datagrams are bent; 0: none is, and bytes can be checked.
    bent: u64,
    /// The program looks for messages once in so many executions.
    patience: u64,
    /// The next message of the log, and one past the highest that was ever seen.
    next_sqn: u64,
    seen_sqn: u64,
    last_no: [streams_checked]u64,
    next_before: [streams_checked]frame.Position,
    joined: [joined_max * forge_file.image_bytes]u8 align(8),
    image: [2048]u8 align(8),

    fn init(self: *World, bench: *Bench, gpa: std.mem.Allocator, seed: u64) !void {
        self.bench = bench;
        self.gpa = gpa;
        self.forge = .init(seed);
        const d = &self.forge.dice;
        // A program that takes little or nothing, and little memory: the other way to be at an end.
        const is_hungry = self.forge.once_in(3);
        const chunks = if (is_hungry) d.between(12, 24) else d.between(40, 200);
        const memory = try gpa.alignedAlloc(
            u8,
            .fromByteUnits(base_limits.page_bytes),
            @intCast(chunks * base_limits.chunk_bytes_min),
        );
        self.pool = try .init(gpa, .{
            .base = memory.ptr,
            .bytes = memory.len,
            .chunk_bytes = base_limits.chunk_bytes_min,
        });
        self.log = try .init(gpa, &self.pool, 0);
        self.holding = try .init(gpa, &self.pool, memory.len / 4);
        d.random().bytes(&self.group_key);
        for (&self.channels, 0..) |*channel, i| channel.* = .{
            .transport = @intCast(10 + i),
            .is_multicast = d.coin(),
            .heartbeat_timeout_ns = silence_ns,
            .ack_interval_ns = 20 * ms,
            .group_key = if (i == 1) self.group_key else null,
        };
        self.receiver = try .init(gpa, .{
            .cluster = forge_file.cluster,
            .id = receiver_id,
            .name = "receiver",
            .channels = &self.channels,
            .is_total_order = d.coin(),
            .seed = d.bits(),
        }, &self.log, &self.holding);
        self.receiver.settle();
        self.now_ns = d.between(1, 1 << 50);
        self.bent = if (self.forge.once_in(4)) 0 else d.between(1, 12);
        self.patience = if (is_hungry) d.magnitude(16, 1024) else d.magnitude(1, 64);
        self.next_sqn = 0;
        self.seen_sqn = 0;
        self.last_no = @splat(0);
        self.next_before = @splat(.{ .msg = 0 });
        for (&self.plays, 0..) |*play, i| self.start_play(play, @intCast(i));
    }

    fn start_play(self: *World, play: *Play, index: u16) void {
        const d = &self.forge.dice;
        const is_keyed = self.forge.once_in(4);
        play.* = .{
            .key = .{
                .tier = d.below(8) == 0,
                .source = 20 + index,
                .transport = if (is_keyed) 11 else 10,
            },
            .connection = 0,
            .first = switch (d.below(4)) {
                0 => 0,
                1 => d.below(1 << 32),
                2 => frame.number_max - (1 << 21),
                else => d.below(limits.first_number_max),
            },
            .data_from = .init(0x0100007f, 6000 + index),
            .repair = .init(0x0100007f, 7000 + index),
            .stream_token = 0,
            .session_token = 0,
            .has_key = is_keyed,
            .sealer = undefined,
        };
        self.connect(play);
    }

    /// The sender starts (again): a higher connection, other tokens.
    fn connect(self: *World, play: *Play) void {
        const d = &self.forge.dice;
        play.connection += d.between(1, 1 << 40);
        play.stream_token = d.bits() | 1;
        play.session_token = d.bits() | 1;
        if (play.has_key) play.sealer = .init(&self.group_key, .{
            .direction = .from_sender,
            .tier = play.key.tier,
            .cluster = forge_file.cluster,
            .source = play.key.source,
            .transport = play.key.transport,
            .receiver = 0,
            .instance = play.connection,
        });
    }

    // ---------------------------------------------------------------- one execution

    fn execute(self: *World) void {
        self.pass_time();
        if (self.forge.once_in(self.patience)) self.consume();
        if (self.forge.once_in(4)) self.send(self.forge.dice.between(1, 6));
        const d = &self.forge.dice;
        const play = &self.plays[@intCast(d.below(plays_max))];
        if (self.forge.once_in(512)) self.connect(play);
        var length: usize = 0;
        var has_syn = false;
        const count = if (self.forge.once_in(4)) d.between(2, joined_max) else 1;
        for (0..count) |_| {
            self.forge_input(play);
            if (self.forge.head().type == @backingInt(frame.Type.syn)) has_syn = true;
            const is_bent = d.below(16) < self.bent;
            if (is_bent) self.forge.bend();
            self.forge.finish(if (play.has_key) &play.sealer else null, is_bent);
            if (self.bent > 0 and self.forge.once_in(64)) self.forge.damage();
            const bytes = self.forge.bytes();
            @memcpy(self.joined[length..][0..bytes.len], bytes);
            length += bytes.len;
        }
        const from = switch (d.below(32)) {
            0 => Address.init(0x0200007f, 9),
            // From where a SYN comes, data is taken from then on.
            1...6 => if (has_syn) play.data_from else play.repair,
            else => play.data_from,
        };
        self.receive(from, self.joined[0..length]);
    }

    fn receive(self: *World, from: Address, bytes: []const u8) void {
        const wall_ms = self.now_ns / ms;
        self.receiver.on_buffer(self.now_ns, wall_ms, from, self.bench.place(bytes));
        self.check();
    }

    fn pass_time(self: *World) void {
        const f = &self.forge;
        self.now_ns += f.dice.below(20_000);
        if (f.once_in(32)) self.now_ns += f.dice.below(30 * ms);
        if (f.once_in(512)) self.now_ns += f.dice.below(3 * silence_ns);
    }

    // ---------------------------------------------------------------- what comes in

    fn forge_input(self: *World, play: *Play) void {
        const f = &self.forge;
        const d = &f.dice;
        const stream = self.receiver.find(play.key);
        const is_started = if (stream) |s|
            s.phase == .started and s.connection == play.connection
        else
            false;
        const kind: frame.Type = if (self.bent > 0 and f.once_in(64))
            d.one_of(frame.Type, std.enums.values(frame.Type))
        else if (!is_started) switch (d.below(8)) {
            0 => .syn,
            1...5 => if (self.token_of(play) == null) .syn else .confirm,
            else => .data,
        } else switch (d.below(64)) {
            0...46 => .data,
            47...55 => .heartbeat,
            56...60 => .fill,
            61 => .syn,
            62 => .confirm,
            else => if (f.once_in(8)) .rst else .heartbeat,
        };
        f.near = if (stream) |s| self.near_number(s) else play.first;
        switch (kind) {
            .data => return self.set_data(play, stream),
            .syn => self.set_syn(play),
            .confirm => self.set_confirm(play, stream),
            else => {
                f.whole(kind);
                self.address(play);
                if (stream) |s| self.set_control(kind, s);
            },
        }
        if (self.bent == 0) return;
        if (f.once_in(64)) f.head().source = @intCast(d.between(19, 24));
        if (f.once_in(64)) f.head().connection_flags.connection = @truncate(f.number());
    }

    fn address(self: *World, play: *const Play) void {
        const h = self.forge.head();
        h.source = play.key.source;
        h.transport = play.key.transport;
        h.connection_flags.connection = @intCast(play.connection);
        h.connection_flags.flags.tier = play.key.tier;
    }

    fn near_number(self: *World, s: *const Stream) u64 {
        const d = &self.forge.dice;
        const base = switch (d.below(4)) {
            0 => s.announced.msg,
            1 => s.acked.msg,
            else => s.next.msg,
        };
        return (base + d.below(6)) -| d.below(4);
    }

    fn set_syn(self: *World, play: *const Play) void {
        const f = &self.forge;
        f.whole(.syn);
        self.address(play);
        f.head().number = play.first;
        const syn = f.body(frame.Syn);
        syn.first = play.first;
        syn.join_at = play.first;
        syn.repair_ip = play.repair.ip;
        syn.repair_port = play.repair.port;
    }

    fn set_confirm(self: *World, play: *const Play, stream: ?*const Stream) void {
        const f = &self.forge;
        f.whole(.confirm);
        self.address(play);
        f.head().connection_flags.flags.fresh = f.once_in(4);
        const at = if (stream) |s| @max(s.next.msg, play.first) else play.first;
        f.head().number = at;
        const c = f.body(frame.Confirm);
        c.receiver_token = self.token_of(play) orelse c.receiver_token;
        c.session_token = play.session_token;
        c.stream_token = play.stream_token;
        c.receiver = receiver_id;
        c.window_datagrams = @intCast(f.dice.magnitude(1, 64));
        c.first = if (f.once_in(8)) at + f.dice.below(3) else play.first;
        c.announced = at + f.dice.below(8);
        c.connection_first = at;
    }

    /// The receiver's challenge to the sender.
    fn token_of(self: *World, play: *const Play) ?u64 {
        for (&self.receiver.pendings) |*p| {
            if (p.used and p.key.eql(play.key) and p.connection == play.connection) return p.token;
        }
        return null;
    }

    fn set_control(self: *World, kind: frame.Type, s: *const Stream) void {
        const f = &self.forge;
        const d = &f.dice;
        const token = if (f.once_in(16)) d.bits() else s.stream_token;
        const n = @min(self.near_number(s), frame.number_max - 8);
        switch (kind) {
            .heartbeat => {
                f.head().number = n;
                const b = f.body(frame.Heartbeat);
                b.stream_token = token;
                b.first = n -| d.below(100);
                b.frag = if (f.once_in(8)) @truncate(f.number()) else 0;
            },
            .fill => {
                f.head().number = n;
                const b = f.body(frame.Fill);
                b.stream_token = token;
                b.end = n + 1 + d.below(4);
            },
            .rst => {
                const b = f.body(frame.Rst);
                b.token = if (b.reason == @backingInt(frame.RstReason.closed))
                    token
                else
                    s.session_token;
                b.receiver = receiver_id;
            },
            else => {},
        }
    }

    /// DATA or FRAGMENT at a number: mostly what comes next, else somewhere around.
    fn set_data(self: *World, play: *const Play, stream: ?*const Stream) void {
        const f = &self.forge;
        const d = &f.dice;
        var no = play.first;
        var frag: u32 = 0;
        if (stream) |s| {
            no = @max(play.first, s.next.msg);
            frag = s.next.frag;
            if (f.once_in(3)) {
                no = @max(play.first, (no + d.below(12)) -| d.below(4));
                frag = @intCast(d.below(7));
            }
        }
        no = @min(no, frame.number_max - 16);
        const is_strange = self.bent > 0 and f.once_in(32);
        if (is_strange) {
            f.whole(if (f.once_in(2)) .data else .fragment);
            self.set_strange();
        } else if (play.is_fragmented(no)) {
            f.whole(.fragment);
            const length = play.length_of(no);
            const size = Play.fragment_bytes;
            frag = @min(frag, frame.fragment_count(length, size) - 1);
            const used = f.put_fragment_of(length, size, frag, @truncate(no));
            const here = @min(size, length - frag * size);
            @memset(f.rest(frame.fragment_header_bytes)[0..here], play.byte_of(no));
            f.length = frame.header_bytes + used;
        } else {
            f.whole(.data);
            self.set_messages(play, no);
        }
        self.address(play);
        f.head().number = no;
    }

    fn set_messages(self: *World, play: *const Play, first: u64) void {
        const f = &self.forge;
        var used: u32 = 0;
        for (first..first + 1 + f.dice.below(6)) |no| {
            if (play.is_fragmented(no)) break;
            const length = play.length_of(no);
            @memset(f.rest(used + frame.message_header_bytes)[0..length], play.byte_of(no));
            used += f.put_message(used, length, @truncate(no));
        }
        f.length = frame.header_bytes + used;
    }

    /// Large claims: messages that hardly fit, or do not fit at all.
    fn set_strange(self: *World) void {
        const f = &self.forge;
        if (f.head().type != @backingInt(frame.Type.fragment)) return;
        const most = if (f.once_in(8)) base_limits.message_bytes_max else self.pool.bytes;
        const size: u32 = frame.fragment_bytes_min + 8 * @as(u32, @intCast(f.dice.below(4)));
        const length: u32 = @intCast(f.dice.between(size + 1, most));
        const used = f.put_fragment_of(length, size, @intCast(f.dice.below(2)), 0);
        f.length = frame.header_bytes + used;
    }

    // ---------------------------------------------------------------- the program

    fn consume(self: *World) void {
        const d = &self.forge.dice;
        var descriptors: [32]record.Descriptor = undefined;
        const count = self.log.fill(&descriptors, @intCast(d.below(33)));
        for (descriptors[0..count]) |*descriptor| self.check_message(descriptor);
        const processed = self.log.processed_next();
        self.log.processed(if (self.forge.once_in(4))
            d.between(processed, self.next_sqn)
        else
            self.next_sqn);
        if (self.forge.once_in(16)) {
            self.log.rewind();
            self.next_sqn = self.log.processed_next();
        }
    }

    fn check_message(self: *World, descriptor: *const record.Descriptor) void {
        const header = self.log.header_of(descriptor);
        expect(header.sqn == self.next_sqn, "places in the order are contiguous");
        expect(descriptor.sqn == @as(f64, @floatFromInt(header.sqn)), "and told as they are");
        expect(descriptor.stream < self.receiver.count, "a message has a stream");
        const payload = self.log.payload_of(descriptor);
        const is_again = self.next_sqn < self.seen_sqn;
        self.next_sqn += 1;
        self.seen_sqn = @max(self.seen_sqn, self.next_sqn);
        if (descriptor.stream >= streams_checked) return;
        const last = &self.last_no[descriptor.stream];
        if (!is_again) {
            expect(header.msg_no >= last.*, "numbers of a stream ascend");
            last.* = header.msg_no + 1;
        }
        if (self.bent > 0) return;
        const key = self.receiver.streams[descriptor.stream].key;
        for (&self.plays) |*play| {
            if (!play.key.eql(key)) continue;
            expect(payload.len == play.length_of(header.msg_no), "a message has its length");
            expect(header.msg_arg == @as(u16, @truncate(header.msg_no)), "it has its argument");
            const is_own = std.mem.allEqual(u8, payload, play.byte_of(header.msg_no));
            expect(is_own, "a message has its bytes");
        }
    }

    // ---------------------------------------------------------------- what goes out

    fn send(self: *World, runs: u64) void {
        self.receiver.tick(self.now_ns);
        for (0..runs) |_| {
            const sent = self.receiver.poll_send(self.now_ns, &self.image) orelse break;
            self.check_sent(sent);
        }
    }

    fn check_sent(self: *World, sent: @import("sender.zig").Run) void {
        expect(sent.bytes == sent.segment_bytes, "a receiver sends one datagram at a time");
        expect(sent.bytes <= self.receiver.o.datagram_bytes, "it fits");
        expect(sent.to != null, "it goes to somebody");
        const bytes = self.image[0..sent.bytes];
        const h = switch (frame.decode_header(bytes, forge_file.cluster)) {
            .ok => |h| h,
            .refused => @panic("broken: what is sent has a valid header"),
        };
        const channel = self.receiver.channel_of(h.transport);
        expect(channel != null, "it belongs to a transport");
        expect(h.flags().sealed == (channel.?.group_key != null), "it is sealed if there is a key");
        if (h.flags().sealed) expect(seal.open(self.opening_of(h), bytes), "it can be opened");
        expect(frame_fuzz.check_body(h), "what is sent can be decoded");
        switch (frame.type_of(h) orelse return) {
            .syn_reply, .nak, .rst => {},
            .ack => {
                const s = self.receiver.find(.of(h));
                expect(s != null and h.number <= s.?.next.msg, "what is acknowledged is there");
            },
            else => @panic("broken: a receiver sends no frame of a sender"),
        }
    }

    fn opening_of(self: *World, h: *const frame.Header) seal.Key {
        return seal.derive(&self.group_key, .{
            .direction = .from_receiver,
            .tier = h.flags().tier,
            .cluster = forge_file.cluster,
            .source = h.source,
            .transport = h.transport,
            .receiver = receiver_id,
            .instance = self.receiver.instance,
        });
    }

    // ---------------------------------------------------------------- what must hold

    fn check(self: *World) void {
        const receiver = &self.receiver;
        expect(receiver.count <= receiver.streams.len, "streams are bounded");
        expect(self.log.ordered_next() == self.log.next(), "what was taken is visible");
        expect(self.log.processed_next() <= self.log.ordered_next(), "nobody reads ahead");
        expect(self.holding.used_bytes <= self.holding.bytes_max, "what is held is bounded");
        expect(receiver.lanes[0].extent_bytes <= self.pool.bytes, "what is reserved is bounded");
        var held: u64 = 0;
        for (receiver.active(), 0..) |*s, i| {
            held += s.detector.count;
            if (i >= streams_checked) continue;
            const before = &self.next_before[i];
            expect(s.next.msg >= before.msg, "a stream never goes back");
            expect((s.next.frag == 0) == (s.extent == null), "who is in a message has room for it");
            before.* = s.next;
        }
        expect(held == self.holding.used, "what is held belongs to a stream");
    }

    // ---------------------------------------------------------------- the end

    /// All senders fall silent, an honest one comes: it is heard, and all memory comes back.
    fn finish(self: *World) void {
        self.bent = @max(1, self.bent);
        self.fall_silent();
        self.expect_empty();
        const play = &self.plays[0];
        self.start_play(play, 30);
        const port = play.data_from;
        const order = [_]frame.Type{ .syn, .confirm, .data };
        for (order) |kind| {
            switch (kind) {
                .syn => self.set_syn(play),
                .confirm => self.set_confirm(play, null),
                else => {
                    self.forge.whole(.data);
                    self.forge.length = frame.header_bytes + self.forge.put_message(0, 8, 1);
                    self.address(play);
                    const s = self.receiver.find(play.key);
                    expect(s != null and s.?.phase == .started, "an honest sender is heard");
                    self.forge.head().number = s.?.next.msg;
                },
            }
            const ordered = self.log.ordered_next();
            self.forge.finish(if (play.has_key) &play.sealer else null, false);
            self.receive(port, self.forge.bytes());
            self.drain();
            const taken = self.log.ordered_next() - ordered;
            expect(taken == @intFromBool(kind == .data), "its message is taken");
        }
        self.fall_silent();
        self.expect_empty();
        self.receiver.close();
        self.drain();
        self.receiver.deinit(self.gpa);
        self.holding.deinit(self.gpa);
        const open = @intFromBool(self.log.end != 0);
        expect(self.pool.free_count() == self.pool.chunk_count - open, "all memory comes back");
    }

    /// The program takes everything, and nobody is heard for long.
    fn fall_silent(self: *World) void {
        for (0..3) |_| {
            self.now_ns += 2 * silence_ns;
            self.drain();
            while (self.next_sqn < self.log.ordered_next()) {
                self.consume();
            }
            self.log.processed(self.next_sqn);
        }
    }

    fn expect_empty(self: *World) void {
        expect(self.holding.used == 0, "nothing is held for who is gone");
        expect(self.holding.used_bytes == 0, "and takes no memory");
        expect(self.receiver.lanes[0].extent_bytes == 0, "nothing is reserved for who is gone");
    }

    fn drain(self: *World) void {
        self.receiver.tick(self.now_ns);
        for (0..20_000) |_| {
            const sent = self.receiver.poll_send(self.now_ns, &self.image) orelse return;
            self.check_sent(sent);
        }
        @panic("broken: sending comes to an end");
    }
};
