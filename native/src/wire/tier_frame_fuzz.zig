//! Forged datagrams of a tier, and the fuzzer of their decoder. As in `frame_fuzz.zig` the
//! conditions stand here a second time, written from the callers' side.

const std = @import("std");
const frame = @import("frame.zig");
const wire = @import("tier_frame.zig");
const forge_file = @import("forge_fuzz.zig");
const Bench = forge_file.Bench;
const Forge = forge_file.Forge;
const Entry = @import("../tier/entry.zig").Entry;
const Era = @import("../tier/epoch.zig").Era;
const StreamEntry = @import("../order/record_file.zig").StreamEntry;
const expect = forge_file.expect;

pub const kinds = std.enums.values(wire.Type);

/// Who says it, to whom, and in which epoch.
pub const Speech = struct {
    tier: u16,
    source: u16,
    nonce: u64,
    to: u16 = 0,
    epoch: frame.Epoch,
};

/// A valid datagram of a kind, with numbers near `forge.near`, not yet finished.
pub fn whole(forge: *Forge, kind: wire.Type, s: Speech) void {
    const h = forge.head();
    h.* = .{
        .type = @backingInt(kind),
        .length = 0,
        .cluster = forge_file.cluster,
        .check = 0,
        .source = s.source,
        .transport = s.tier,
        .connection_flags = .{ .connection = @intCast(s.nonce), .flags = .{} },
        .number = forge.true_number(),
    };
    @memset(forge.image[frame.header_bytes..][0..512], 0);
    const bytes = switch (kind) {
        .sqn => put_sqn(forge),
        .commit => put_commit(forge),
        .sqn_ack => put_ack(forge),
        .sqn_nak => put_nak(forge),
        .prepare => put(forge, wire.Prepare),
        .promise => put_promise(forge),
        .refuse => put_refuse(forge, s),
        .join => put_join(forge),
        .join_reply => put_join_reply(forge, s),
        .pull => put_pull(forge),
        .fill => put_fill(forge),
        .stream_ask => put_stream_ask(forge),
        .stream => put_stream(forge),
        .tx_acked => put_tx_acked(forge),
    };
    forge.body(wire.Said).* = .{ .epoch = s.epoch, .to = s.to };
    forge.length = frame.header_bytes + bytes;
}

fn put(forge: *Forge, comptime T: type) u32 {
    if (@hasField(T, "config_hash")) forge.body(T).config_hash = 77;
    return @sizeOf(T);
}

pub fn entry(forge: *Forge) Entry {
    const d = &forge.dice;
    return .{
        .connection = if (forge.once_in(4)) d.bits() >> 11 else 5,
        .msg_no = forge.true_number(),
        .time_ms = d.bits() >> 20,
        .length = @intCast(if (forge.once_in(4)) d.below(4000) else 8),
        .source = if (forge.once_in(4)) @truncate(d.bits()) else 9,
        .transport = if (forge.once_in(4)) @truncate(d.bits()) else 1,
        .tx_arg = @truncate(d.bits()),
        .msg_arg = @truncate(d.bits()),
        .is_tier = @intFromBool(forge.once_in(8)),
    };
}

fn put_sqn(forge: *Forge) u32 {
    const d = &forge.dice;
    const count: u32 = @intCast(d.below(8));
    const h = forge.head();
    h.number = @min(h.number, frame.number_max - 16);
    const next = h.number + count + d.below(8);
    const b = forge.body(wire.Sqn);
    b.first = d.between(0, next);
    b.committed = d.between(0, next);
    b.next = next;
    b.count = count;
    for (0..count) |i| {
        const at: *Entry = @ptrCast(@alignCast(forge.rest(
            @intCast(@sizeOf(wire.Sqn) + i * @sizeOf(Entry)),
        ).ptr));
        at.* = entry(forge);
    }
    return @intCast(@sizeOf(wire.Sqn) + count * @sizeOf(Entry));
}

fn put_commit(forge: *Forge) u32 {
    const b = forge.body(wire.Commit);
    b.first = forge.dice.between(0, forge.head().number);
    b.committed = forge.dice.between(0, forge.head().number);
    return @sizeOf(wire.Commit);
}

fn put_ack(forge: *Forge) u32 {
    const b = forge.body(wire.SqnAck);
    b.is_intact = @intCast(forge.dice.below(2));
    b.handed = forge.true_number();
    return @sizeOf(wire.SqnAck);
}

fn put_nak(forge: *Forge) u32 {
    const h = forge.head();
    h.number = @min(h.number, frame.number_max - 1);
    const far = if (forge.once_in(4)) frame.number_max else h.number + 40;
    forge.body(wire.SqnNak).end = forge.dice.between(h.number + 1, @min(far, frame.number_max));
    return @sizeOf(wire.SqnNak);
}

fn put_promise(forge: *Forge) u32 {
    const d = &forge.dice;
    const b = forge.body(wire.Promise);
    b.adopted = .{ .number = d.below(4), .id = d.below(4) };
    b.config_hash = 77;
    b.is_intact = @intCast(d.below(2));
    return @sizeOf(wire.Promise);
}

fn put_refuse(forge: *Forge, s: Speech) u32 {
    const d = &forge.dice;
    forge.body(wire.Refuse).promised = .{
        .number = s.epoch.number +| d.below(3),
        .id = d.bits(),
    };
    return @sizeOf(wire.Refuse);
}

fn put_join(forge: *Forge) u32 {
    const d = &forge.dice;
    const b = forge.body(wire.Join);
    b.config_hash = 77;
    b.era_from = @intCast(d.below(4));
    b.is_observer = @intCast(d.below(2));
    b.question = @intCast(d.below(4));
    return @sizeOf(wire.Join);
}

fn put_join_reply(forge: *Forge, s: Speech) u32 {
    const d = &forge.dice;
    const count: u32 = @intCast(d.below(4));
    const h = forge.head();
    const b = forge.body(wire.JoinReply);
    b.nonce = if (d.coin()) s.nonce else d.bits();
    b.first = d.between(0, h.number);
    b.committed = d.between(0, h.number);
    b.config_hash = 77;
    b.era_from = @intCast(d.below(2));
    b.count = count;
    b.era_total = b.era_from + count + @as(u32, @intCast(d.below(2)));
    b.is_leader = @intCast(d.below(2));
    b.question = @intCast(d.below(3));
    for (0..count) |i| {
        const at: *Era = @ptrCast(@alignCast(forge.rest(
            @intCast(@sizeOf(wire.JoinReply) + i * @sizeOf(Era)),
        ).ptr));
        at.* = .{
            .epoch = .{ .number = i + 1, .id = d.bits() },
            .first_sqn = h.number / count * i,
        };
    }
    return @intCast(@sizeOf(wire.JoinReply) + count * @sizeOf(Era));
}

fn put_pull(forge: *Forge) u32 {
    const d = &forge.dice;
    const b = forge.body(wire.Pull);
    b.offset = @truncate(if (forge.once_in(4)) forge.number() else 0);
    b.request = @intCast(d.below(8));
    b.allowed_bytes = if (forge.once_in(4)) forge.number() else d.below(100_000);
    return @sizeOf(wire.Pull);
}

fn put_fill(forge: *Forge) u32 {
    const d = &forge.dice;
    const count: u32 = @intCast(d.between(1, 4));
    const b = forge.body(wire.Fill);
    b.request = @intCast(d.below(8));
    b.count = count;
    var at: u32 = @sizeOf(wire.Fill);
    for (0..count) |_| {
        const piece: *wire.Piece = @ptrCast(@alignCast(forge.rest(at).ptr));
        var e = entry(forge);
        e.length = @min(e.length, 64);
        const from: u32 = @intCast(if (forge.once_in(4)) d.below(e.length + 1) else 0);
        // A piece has a byte, unless its message has none.
        const offset = if (from == e.length) from -| 1 else from;
        const bytes = e.length - offset;
        piece.* = .{ .entry = e, .offset = offset, .bytes = bytes };
        at += @sizeOf(wire.Piece) + frame.align8(bytes);
    }
    return at;
}

fn put_stream_ask(forge: *Forge) u32 {
    forge.body(wire.StreamAsk).entry = entry(forge);
    return @sizeOf(wire.StreamAsk);
}

fn put_stream(forge: *Forge) u32 {
    const d = &forge.dice;
    const name = d.one_of([]const u8, &Forge.names);
    var e: StreamEntry = .{
        .id = @truncate(d.bits()),
        .connection = d.bits() >> 11,
        .first_sqn = forge.true_number(),
        .source = @as(u16, @truncate(d.bits())) | 1,
        .transport = @as(u16, @truncate(d.bits())) | 1,
        .partition = 1,
        .tx_arg = 0,
        .is_tier = @intCast(d.below(2)),
        .name_bytes = @intCast(name.len),
        .topic_bytes = 1,
        .name = frame.name_copy(name),
        .topic = @splat('t'),
    };
    e.check = e.check_now();
    forge.body(wire.StreamTold).entry = e;
    return @sizeOf(wire.StreamTold);
}

fn put_tx_acked(forge: *Forge) u32 {
    const count: u32 = @intCast(forge.dice.below(8));
    forge.body(wire.TxAcked).count = count;
    for (0..count) |i| {
        const at: *wire.TxPosition = @ptrCast(@alignCast(forge.rest(
            @intCast(@sizeOf(wire.TxAcked) + i * @sizeOf(wire.TxPosition)),
        ).ptr));
        at.* = .{ .transport = forge.number(), .acked = forge.number() };
    }
    return @intCast(@sizeOf(wire.TxAcked) + count * @sizeOf(wire.TxPosition));
}

// -------------------------------------------------------------------- what was decoded

/// All that who takes a decoded datagram relies on.
pub fn check(h: *const frame.Header, bytes: []const u8) void {
    expect(h.length == bytes.len and h.length % 8 == 0, "a datagram has its length");
    expect(h.source != 0 and h.number <= frame.number_max, "it has a speaker, the number is exact");
    expect(h.connection() <= frame.number_max, "the nonce is exact");
    expect(wire.said_of(h).epoch.number <= frame.number_max, "the epoch is exact");
    switch (wire.type_of(h).?) {
        .sqn => {
            const b = wire.body(wire.Sqn, h);
            const entries = wire.entries_of(h);
            expect(is_inside(bytes, std.mem.sliceAsBytes(entries)), "entries are in the datagram");
            expect(h.number + entries.len <= b.next, "entries were assigned");
            for (entries) |*e| check_entry(e);
            expect(b.committed <= b.next and b.next <= frame.number_max, "cursors are in order");
        },
        .commit => {
            const b = wire.body(wire.Commit, h);
            expect(@max(b.committed, b.first) <= h.number, "cursors are in order");
        },
        .sqn_nak => expect(wire.body(wire.SqnNak, h).end > h.number, "a range is not empty"),
        .join_reply => check_eras(h, bytes),
        .fill => check_pieces(h, bytes),
        .stream => check_stream(&wire.body(wire.StreamTold, h).entry),
        .tx_acked => {
            const positions = std.mem.sliceAsBytes(wire.positions_of(h));
            expect(is_inside(bytes, positions), "positions are in the datagram");
        },
        else => {},
    }
}

fn check_eras(h: *const frame.Header, bytes: []const u8) void {
    const eras = wire.eras_of(h);
    expect(is_inside(bytes, std.mem.sliceAsBytes(eras)), "eras are in the datagram");
    var last: u64 = 0;
    var number: u64 = 0;
    for (eras) |era| {
        expect(era.epoch.number > number, "eras ascend");
        expect(era.first_sqn >= last and era.first_sqn <= h.number, "eras begin in order");
        number = era.epoch.number;
        last = era.first_sqn;
    }
}

fn check_pieces(h: *const frame.Header, bytes: []const u8) void {
    var it: wire.PieceIterator = .init(h);
    var count: u32 = 0;
    var sum: u64 = 0;
    while (it.next()) |item| : (count += 1) {
        expect(is_inside(bytes, item.bytes), "a piece is in the datagram");
        expect(item.bytes.len == item.piece.bytes, "a piece has its length");
        const end = @as(u64, item.piece.offset) + item.piece.bytes;
        expect(end <= item.piece.entry.length, "a piece is in its message");
        check_entry(&item.piece.entry);
        if (item.bytes.len > 0) sum +%= @as(u64, item.bytes[0]) + item.bytes[item.bytes.len - 1];
    }
    std.mem.doNotOptimizeAway(sum);
    expect(count > 0, "a FILL has a piece");
    expect(!it.broken and count == wire.body(wire.Fill, h).count, "all pieces are counted");
}

fn check_entry(e: *const Entry) void {
    expect(e.length <= 1 << 30, "a message has at most 1 GiB");
    expect(@max(e.connection, e.msg_no) <= frame.number_max, "numbers of an entry are exact");
}

fn check_stream(e: *const StreamEntry) void {
    expect(e.name_bytes >= 1 and e.name_bytes <= 63, "a name fits where names go");
    const is_path = std.mem.indexOfAny(u8, e.name[0..e.name_bytes], "/\n\x00") != null;
    expect(!is_path, "a name fits into a line");
    expect(e.source != 0 and e.transport != 0, "a stream has a key");
}

fn is_inside(outer: []const u8, inner: []const u8) bool {
    if (inner.len == 0) return true;
    const start = @intFromPtr(inner.ptr);
    const from = @intFromPtr(outer.ptr);
    return start >= from and start + inner.len <= from + outer.len;
}

/// The target: every kind whole, which must be accepted, and bent.
pub fn run(bench: *Bench, seed: u64, executions: u64) void {
    var forge: Forge = .init(seed);
    const d = &forge.dice;
    const tier: u16 = @as(u16, @truncate(d.bits())) | 1;
    for (0..executions) |i| {
        if (i % 64 == 0) forge.near = d.magnitude(0, frame.number_max);
        bench.count();
        whole(&forge, d.one_of(wire.Type, kinds), .{
            .tier = tier,
            .source = @as(u16, @truncate(d.bits())) | 1,
            .nonce = d.bits() >> 11,
            .epoch = .{ .number = d.bits() >> 11 >> @intCast(d.below(53)), .id = d.bits() },
        });
        const is_bent = !forge.once_in(8);
        if (is_bent) bend(&forge);
        forge.finish(null, is_bent);
        const is_damaged = forge.once_in(32);
        if (is_damaged) forge.damage();
        const bytes = bench.place(forge.bytes());
        switch (wire.decode(bytes, forge_file.cluster, tier)) {
            .ok => |h| check(h, bytes),
            .refused => expect(is_bent or is_damaged, "a whole datagram is accepted"),
        }
    }
}

/// As the others are bent; types are a tier's.
pub fn bend(forge: *Forge) void {
    const h = forge.head();
    const kind = h.type;
    forge.bend();
    if (h.type == kind or h.type > 12) return;
    h.type = @intCast(if (forge.once_in(4)) h.type else 31 + forge.dice.below(16));
}
