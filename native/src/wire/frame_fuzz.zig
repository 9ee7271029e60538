//! Fuzzers of the datagrams: every type's decoder, and the seal.
//!
//! Each decoder is given whole datagrams, which it must accept, and bent ones, of which it must
//! refuse what its callers rely on: here the conditions stand a second time, written from the
//! callers' side.

const std = @import("std");
const frame = @import("frame.zig");
const seal = @import("seal.zig");
const session_limits = @import("../session/limits.zig");
const forge_file = @import("forge_fuzz.zig");
const Bench = forge_file.Bench;
const Forge = forge_file.Forge;
const Position = frame.Position;
const expect = forge_file.expect;

/// The target of one type.
pub fn Decoder(comptime kind: frame.Type) type {
    return struct {
        pub fn run(bench: *Bench, seed: u64, executions: u64) void {
            var forge: Forge = .init(seed);
            for (0..executions) |i| {
                if (i % 64 == 0) forge.near = forge.dice.magnitude(0, frame.number_max);
                bench.count();
                execute(bench, &forge, kind);
            }
        }
    };
}

fn execute(bench: *Bench, forge: *Forge, kind: frame.Type) void {
    forge.whole(kind);
    const is_bent = !forge.once_in(8);
    if (is_bent) forge.bend();
    forge.finish(null, is_bent);
    const is_damaged = forge.once_in(32);
    if (is_damaged) forge.damage();
    const bytes = bench.place(forge.bytes());
    const h = switch (frame.decode_header(bytes, forge_file.cluster)) {
        .ok => |h| h,
        .refused => {
            expect(is_bent or is_damaged, "a whole datagram is accepted");
            return;
        },
    };
    check_header(bytes, h);
    const is_accepted = check_body(h);
    expect(is_accepted or is_bent, "the body of a whole datagram is accepted");
}

fn check_header(bytes: []const u8, h: *const frame.Header) void {
    expect(h.length >= frame.header_bytes and h.length <= bytes.len, "length is in the buffer");
    expect(h.length % 8 == 0, "length keeps what follows aligned");
    expect(h.source != 0 and h.transport != 0, "ids are set");
    expect(h.number <= frame.number_max, "the number is exact");
    expect(h.connection() <= frame.number_max, "the connection is exact");
    const body = frame.body_of(h);
    expect(body.len % 8 == 0 and body.len < h.length, "the body is in the datagram");
}

/// Decodes the body by its type; false when it was refused.
pub fn check_body(h: *const frame.Header) bool {
    const kind = frame.type_of(h) orelse return false;
    return switch (kind) {
        .data => check_data(h),
        .fragment => check_fragment(h),
        .syn => check_syn(h),
        .syn_reply => check_syn_reply(h),
        .confirm => check_confirm(h),
        .heartbeat => if (frame.decode_heartbeat(h)) |b| blk: {
            expect(b.first <= h.number, "a heartbeat keeps no more than it announces");
            break :blk true;
        } else false,
        .ack => if (frame.decode_ack(h)) |a| blk: {
            expect(a.receiver != 0 and a.highest <= frame.number_max, "an ACK has a receiver");
            break :blk true;
        } else false,
        .nak => check_nak(h),
        .rst => if (frame.decode_rst(h)) |r| blk: {
            const reason = std.enums.fromInt(frame.RstReason, r.reason);
            expect(reason != null, "the reason of a RST is known");
            break :blk true;
        } else false,
        .fill => if (frame.decode_fill(h)) |f| blk: {
            const reason = std.enums.fromInt(frame.FillReason, f.reason);
            expect(reason != null, "the reason of a FILL is known");
            expect(f.end > h.number and f.end <= frame.number_max, "a FILL has a range");
            break :blk true;
        } else false,
    };
}

fn check_data(h: *const frame.Header) bool {
    const body = frame.body_of(h);
    const counted = frame.message_count(h);
    var it: frame.MessageIterator = .init(h);
    var count: u32 = 0;
    var bytes: usize = 0;
    var sum: u64 = 0;
    while (it.next()) |m| {
        expect(m.payload.len == m.head.length, "a message has its length");
        expect(is_inside(body, m.payload), "a message is in its datagram");
        expect(@intFromPtr(m.payload.ptr) % 8 == 0, "a message is aligned");
        sum +%= touch(m.payload);
        bytes += frame.message_header_bytes + m.payload.len;
        count += 1;
    }
    std.mem.doNotOptimizeAway(sum);
    expect(bytes <= body.len, "messages do not overlap");
    expect(count <= session_limits.messages_per_datagram_max, "messages are bounded");
    const told = counted orelse {
        expect(it.broken or count == 0, "what is refused is broken or empty");
        return false;
    };
    expect(!it.broken and told == count and count > 0, "all messages are counted");
    return true;
}

fn check_fragment(h: *const frame.Header) bool {
    const f = frame.decode_fragment(h) orelse return false;
    const size: u64 = f.head.fragment_bytes;
    const length: u64 = f.head.message_length;
    const at = f.head.fragment_no * size;
    expect(length <= session_limits.message_bytes_max, "a message has at most 1 GiB");
    expect(f.count >= 2 and f.head.fragment_no < f.count, "a fragment is one of several");
    expect((f.count - 1) * size < length and length <= f.count * size, "fragments make a message");
    expect(at + f.payload.len <= length, "a fragment is in its message");
    const is_last = f.head.fragment_no + 1 == f.count;
    expect(f.payload.len == if (is_last) length - at else size, "a fragment is full");
    expect(is_inside(frame.body_of(h), f.payload), "a fragment is in its datagram");
    std.mem.doNotOptimizeAway(touch(f.payload));
    return true;
}

fn check_syn(h: *const frame.Header) bool {
    const s = frame.decode_syn(h) orelse return false;
    expect(s.first <= s.join_at and s.join_at <= frame.number_max, "one joins at what is kept");
    expect(s.first <= h.number, "what is kept was announced");
    expect(s.window_datagrams >= 1, "a window has room");
    expect(s.window_datagrams <= session_limits.window_datagrams_max, "a window is bounded");
    expect(s.repair_ip != 0 and s.repair_port != 0, "there is an address to answer to");
    check_name(s.name_len, &s.name);
    return true;
}

fn check_syn_reply(h: *const frame.Header) bool {
    const r = frame.decode_syn_reply(h) orelse return false;
    expect(r.receiver != 0 and r.has_position <= 2, "an answer has a receiver");
    expect(r.has_position != 0 or h.number == 0, "no position has no number");
    check_name(r.name_len, &r.name);
    return true;
}

fn check_confirm(h: *const frame.Header) bool {
    const c = frame.decode_confirm(h) orelse return false;
    expect(c.receiver != 0, "a confirmation has a receiver");
    expect(@max(c.first, c.announced, c.connection_first) <= frame.number_max, "numbers are exact");
    expect(c.window_datagrams >= 1, "a confirmed window has room");
    expect(c.window_datagrams <= session_limits.window_datagrams_max, "and is bounded");
    return true;
}

fn check_nak(h: *const frame.Header) bool {
    const n = frame.decode_nak(h) orelse return false;
    const ranges = frame.ranges(h, n);
    expect(ranges.len > 0 and ranges.len <= session_limits.nak_ranges_max, "ranges are bounded");
    expect(is_inside(frame.body_of(h), std.mem.sliceAsBytes(ranges)), "ranges are in the NAK");
    var last: Position = .{ .msg = 0 };
    for (ranges) |r| {
        expect(!r.start().less(last), "ranges ascend");
        expect(r.start().less(r.end()), "a range is not empty");
        expect(r.end_msg <= frame.number_max, "a range is exact");
        last = r.end();
    }
    return true;
}

fn check_name(length: u16, name: *const [64]u8) void {
    expect(length >= 1 and length <= 63, "a name has a length");
    expect(std.unicode.utf8ValidateSlice(name[0..length]), "a name is text");
    const is_path = std.mem.indexOfAny(u8, name[0..length], "/\n\x00") != null;
    expect(!is_path, "a name fits into a line and a file name");
}

fn is_inside(outer: []const u8, inner: []const u8) bool {
    const start = @intFromPtr(inner.ptr);
    const from = @intFromPtr(outer.ptr);
    return start >= from and start + inner.len <= from + outer.len;
}

/// Reads the ends, which is where a wrong length shows.
fn touch(bytes: []const u8) u64 {
    if (bytes.len == 0) return 0;
    return @as(u64, bytes[0]) + bytes[bytes.len - 1];
}

// -------------------------------------------------------------------- garbage

/// Bytes of no structure, with and without the first words of a header.
pub const Garbage = struct {
    pub fn run(bench: *Bench, seed: u64, executions: u64) void {
        var forge: Forge = .init(seed);
        const d = &forge.dice;
        for (0..executions) |_| {
            bench.count();
            forge.length = @intCast(d.below(if (forge.once_in(8)) 512 else 80) + 1);
            for (0..forge.length / 8 + 1) |i| {
                const word: *u64 = @ptrCast(@alignCast(forge.image[i * 8 ..].ptr));
                word.* = d.bits();
            }
            const h = forge.head();
            if (!forge.once_in(4)) {
                h.magic = frame.magic;
                h.version = frame.version;
                h.cluster = forge_file.cluster;
                h.type = @intCast(d.below(12));
                h.number = forge.number();
                h.connection_flags.connection = @truncate(forge.number());
                h.connection_flags.flags = .{ .sealed = d.coin() };
                if (!forge.once_in(4)) h.length = @intCast(forge.length & ~@as(u32, 7));
                if (h.flags().sealed) h.check = 0;
            }
            const is_long = forge.length >= frame.header_bytes and h.length <= forge.length and
                h.length >= frame.header_bytes;
            if (is_long and !h.flags().sealed) h.check = frame.check_of(forge.image[0..h.length]);
            const bytes = bench.place(forge.bytes());
            switch (frame.decode_header(bytes, forge_file.cluster)) {
                .refused => {},
                .ok => |found| {
                    check_header(bytes, found);
                    _ = check_body(found);
                },
            }
        }
    }
};

// -------------------------------------------------------------------- seal

/// Sealed datagrams that were changed anywhere, or are of another key, are never opened.
pub const Seal = struct {
    const kinds = std.enums.values(frame.Type);

    pub fn run(bench: *Bench, seed: u64, executions: u64) void {
        var forge: Forge = .init(seed);
        const d = &forge.dice;
        var group_key: seal.GroupKey = undefined;
        d.random().bytes(&group_key);
        const id: seal.Identity = .{
            .direction = if (d.coin()) .from_sender else .from_receiver,
            .tier = d.coin(),
            .cluster = forge_file.cluster,
            .source = @truncate(d.bits()),
            .transport = @truncate(d.bits()),
            .receiver = @truncate(d.bits()),
            .instance = d.bits(),
        };
        var sealer: seal.Sealer = .init(&group_key, id);
        const other = other_key(&forge, &group_key, id);
        for (0..executions) |_| {
            bench.count();
            execute_seal(bench, &forge, &sealer, other);
        }
    }

    /// The key of somebody who differs in one thing.
    fn other_key(forge: *Forge, group_key: *const seal.GroupKey, id: seal.Identity) seal.Key {
        const d = &forge.dice;
        var key = group_key.*;
        var changed = id;
        switch (d.below(7)) {
            0 => changed.direction = if (id.direction == .from_sender)
                .from_receiver
            else
                .from_sender,
            1 => changed.tier = !id.tier,
            2 => changed.source ^= @as(u16, 1) << @intCast(d.below(16)),
            3 => changed.transport ^= @as(u16, 1) << @intCast(d.below(16)),
            4 => changed.receiver ^= @as(u16, 1) << @intCast(d.below(16)),
            5 => changed.instance ^= @as(u64, 1) << @intCast(d.below(64)),
            else => key[@intCast(d.below(key.len))] ^= 1,
        }
        return seal.derive(&key, changed);
    }

    fn execute_seal(bench: *Bench, forge: *Forge, sealer: *seal.Sealer, other: seal.Key) void {
        const d = &forge.dice;
        forge.whole(d.one_of(frame.Type, kinds));
        var plain: [forge_file.image_bytes]u8 align(8) = undefined;
        const plain_bytes = forge.length;
        @memcpy(plain[0..plain_bytes], forge.bytes());
        forge.finish(sealer, false);
        var sealed: [forge_file.image_bytes]u8 align(8) = undefined;
        const sealed_bytes = forge.length;
        @memcpy(sealed[0..sealed_bytes], forge.bytes());
        const is_other_key = forge.once_in(8);
        if (!is_other_key and !forge.once_in(8)) change(forge);
        const bytes = bench.place(forge.bytes());
        const is_changed = !std.mem.eql(u8, bytes, sealed[0..sealed_bytes]);
        const h = switch (frame.decode_header(bytes, forge_file.cluster)) {
            .ok => |h| h,
            .refused => return expect(is_changed, "a sealed datagram is accepted"),
        };
        if (!h.flags().sealed) return expect(is_changed, "it says that it is sealed");
        // A longer buffer may begin with the datagram as it was.
        const is_whole = h.length == sealed_bytes and
            std.mem.eql(u8, bytes[0..h.length], sealed[0..sealed_bytes]);
        const key = if (is_other_key) other else sealer.key;
        const opened = seal.open(key, bytes[0..h.length]);
        expect(opened == (is_whole and !is_other_key), "only the right key opens what is whole");
        if (!opened) return;
        const from = frame.header_bytes;
        expect(std.mem.eql(u8, frame.body_of(h), plain[from..plain_bytes]), "it was not changed");
        expect(check_body(h), "what was whole is whole again");
    }

    /// Anything but its length field is worthless to change, so that one is kept consistent.
    fn change(forge: *Forge) void {
        const d = &forge.dice;
        const h = forge.head();
        switch (d.below(4)) {
            0 => forge.image[@intCast(d.below(forge.length))] ^= @as(u8, 1) << @intCast(d.below(8)),
            1 => {
                const trailer = forge.length - @sizeOf(frame.SealTrailer);
                const at: usize = @intCast(d.between(trailer, forge.length - 1));
                forge.image[at] = @truncate(d.bits());
            },
            2 => {
                forge.length = @intCast(d.below(forge.length / 8 + 4) * 8);
                h.length = @intCast(forge.length);
            },
            else => {
                forge.bend();
                if (!forge.once_in(4)) h.length = @intCast(forge.length);
            },
        }
        if (forge.length == 0) forge.length = 1;
    }
};

/// The window of counters against what it should say, at both ends of the numbers.
pub const Replay = struct {
    const span = 1 << 15;
    const width = 4096;

    pub fn run(bench: *Bench, seed: u64, executions: u64) void {
        var forge: Forge = .init(seed);
        const d = &forge.dice;
        const base: u64 = switch (d.below(3)) {
            0 => 0,
            1 => std.math.maxInt(u64) - (span - 1),
            else => d.bits() >> 1,
        };
        var window: seal.ReplayWindow = .{};
        var seen: std.StaticBitSet(span) = .empty;
        var top: u64 = 0;
        for (0..executions) |_| {
            bench.count();
            const last = top -| base;
            const ahead = d.below(if (forge.once_in(8)) width + 2 else 4);
            const offset = switch (d.below(4)) {
                0 => d.below(span),
                1 => last -| d.below(width + 2),
                else => @min(last + ahead, span - 1),
            };
            const counter = base + offset;
            const is_new = counter != 0 and !seen.isSet(@intCast(offset)) and
                (counter > top or top - counter < width);
            expect(window.accept(counter) == is_new, "a counter is accepted once");
            if (is_new) seen.set(@intCast(offset));
            if (is_new) top = @max(top, counter);
        }
    }
};

// -------------------------------------------------------------------- canary

/// A NAK's decoder with a bug that is easily made: the count of ranges is believed. If the fuzzers
/// did not reach it, or a crash was not seen, no other result would mean anything.
pub const Canary = struct {
    pub fn run(bench: *Bench, seed: u64, executions: u64) void {
        var forge: Forge = .init(seed);
        for (0..executions) |_| {
            bench.count();
            forge.whole(.nak);
            forge.bend();
            forge.finish(null, true);
            const bytes = bench.place(forge.bytes());
            const h = switch (frame.decode_header(bytes, forge_file.cluster)) {
                .ok => |h| h,
                .refused => continue,
            };
            if (h.type != @backingInt(frame.Type.nak)) continue;
            const n = frame.body(frame.Nak, h);
            const body = frame.body_of(h);
            var sum: u64 = 0;
            for (0..n.count) |i| sum +%= body[@sizeOf(frame.Nak) + i * @sizeOf(frame.Range)];
            std.mem.doNotOptimizeAway(sum);
        }
    }
};
