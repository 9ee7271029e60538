//! `GroupKey` between the members of a tier: what a member says is sealed as what a sender says is
//! (`wire/seal.zig`), under a key of its own for each start, and is taken once.
//!
//! A start is known by its nonce, which is the instance of the seal. What is recorded of a start
//! that this process has heard opens as often as it is played; so the counters of earlier starts
//! are remembered too. A later start can't push out an earlier one that still speaks: no order of
//! starts is known, and somebody who plays an old one must not silence the new one.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const assert = @import("../assert.zig").assert;

/// Earlier starts of a speaker whose counters are remembered.
pub const starts_max = 64;

const Start = struct { instance: u64 = 0, top: u64 = 0 };

/// What is known of one who speaks.
pub const Opening = struct {
    /// Context id; 0: nobody's.
    id: u16 = 0,
    /// The start that spoke last.
    instance: u64 = 0,
    key: seal.Key = @splat(0),
    window: seal.ReplayWindow = .{},
    earlier: [starts_max]Start = @splat(.{}),
    /// Where the next one is put; the oldest gives way.
    at: u32 = 0,

    /// Another start than the last one spoke. What it said before, if it is known, stays said.
    fn turn_to(self: *Opening, instance: u64, key: seal.Key) void {
        if (self.instance != 0) self.keep(.{ .instance = self.instance, .top = self.window.top });
        self.instance = instance;
        self.key = key;
        self.window = .{};
        for (&self.earlier) |*start| {
            if (start.instance == instance) self.window = .after(start.top);
        }
    }

    fn keep(self: *Opening, kept: Start) void {
        for (&self.earlier) |*start| {
            if (start.instance != kept.instance) continue;
            start.top = kept.top;
            return;
        }
        self.earlier[self.at] = kept;
        self.at = (self.at + 1) % starts_max;
    }
};

pub const Sealing = struct {
    group_key: seal.GroupKey,
    cluster: u16,
    tier: u16,
    sealer: seal.Sealer,
    /// By place of the peer.
    openings: []Opening,

    pub const Options = struct { group_key: seal.GroupKey, cluster: u16, tier: u16, peers: usize };

    /// `begin` follows, before anything is sealed.
    pub fn init(gpa: std.mem.Allocator, o: Options) error{OutOfMemory}!Sealing {
        const openings = try gpa.alloc(Opening, o.peers);
        @memset(openings, .{});
        return .{
            .group_key = o.group_key,
            .cluster = o.cluster,
            .tier = o.tier,
            .sealer = undefined,
            .openings = openings,
        };
    }

    pub fn deinit(self: *Sealing, gpa: std.mem.Allocator) void {
        gpa.free(self.openings);
    }

    /// A start of member `id`; its nonce is never used twice.
    pub fn begin(self: *Sealing, id: u16, nonce: u64) void {
        assert(nonce != 0);
        self.sealer = .{ .key = self.key_of(id, nonce), .instance = nonce };
    }

    fn key_of(self: *const Sealing, id: u16, instance: u64) seal.Key {
        return seal.derive(&self.group_key, .{
            .direction = .from_member,
            .tier = false,
            .cluster = self.cluster,
            .source = id,
            .transport = self.tier,
            .receiver = 0,
            .instance = instance,
        });
    }

    /// Seals a whole datagram of `bytes`; the image has room for the trailer. All its bytes now.
    pub fn seal_datagram(self: *Sealing, image: []align(8) u8, bytes: u32) u32 {
        const all = bytes + @sizeOf(frame.SealTrailer);
        assert(all <= image.len);
        const h: *frame.Header = @ptrCast(image.ptr);
        h.length = @intCast(all);
        h.connection_flags.flags.sealed = true;
        self.sealer.seal(image[0..all]);
        return all;
    }

    /// Opens a datagram in place, and takes seal and flag off it. The key that it opened with; null:
    /// it is not of this group. Nothing is remembered: `accept` follows.
    pub fn open(self: *const Sealing, known: ?*const Opening, bytes: []align(8) u8) ?seal.Key {
        const h: *frame.Header = @ptrCast(bytes.ptr);
        assert(h.flags().sealed and h.length == bytes.len);
        const instance = seal.trailer_of(h).instance;
        if (instance == 0 or instance != h.connection()) return null;
        const key = if (known != null and known.?.instance == instance)
            known.?.key
        else
            self.key_of(h.source, instance);
        if (!seal.open(key, bytes)) return null;
        h.length -= @sizeOf(frame.SealTrailer);
        h.connection_flags.flags.sealed = false;
        return key;
    }

    /// False: it was said before. `place` is the speaker's; its datagram was opened with `key`.
    pub fn accept(self: *Sealing, place: usize, h: *const frame.Header, key: seal.Key) bool {
        const o = &self.openings[place];
        if (o.id != h.source) o.* = .{ .id = h.source };
        if (o.instance != h.connection()) o.turn_to(h.connection(), key);
        const p: [*]const u8 = @ptrCast(h);
        const trailer: *const frame.SealTrailer = @ptrCast(@alignCast(p + h.length));
        assert(trailer.instance == h.connection());
        return o.window.accept(trailer.counter);
    }
};

const testing = std.testing;

const Talk = struct {
    from: Sealing,
    to: Sealing,
    image: [256]u8 align(8) = undefined,

    fn make(from_key: u8, to_key: u8) !Talk {
        const gpa = testing.allocator;
        var t: Talk = .{
            .from = try .init(gpa, .{
                .group_key = @splat(from_key),
                .cluster = 7,
                .tier = 3,
                .peers = 1,
            }),
            .to = try .init(gpa, .{
                .group_key = @splat(to_key),
                .cluster = 7,
                .tier = 3,
                .peers = 1,
            }),
        };
        t.from.begin(5, 77);
        return t;
    }

    fn free(t: *Talk) void {
        t.from.deinit(testing.allocator);
        t.to.deinit(testing.allocator);
    }

    fn say(t: *Talk, nonce: u64) []align(8) u8 {
        const wire = @import("../wire/tier_frame.zig");
        const speaker: wire.Speaker = .{ .cluster = 7, .tier = 3, .id = 5, .nonce = nonce };
        const b = wire.begin(wire.SqnNak, .sqn_nak, &t.image, speaker, 9);
        b.end = 11;
        const bytes = wire.finish(&t.image, frame.header_bytes + @sizeOf(wire.SqnNak));
        return t.image[0..t.from.seal_datagram(&t.image, bytes)];
    }

    fn hear(t: *Talk, said: []align(8) const u8) ?bool {
        var copy: [256]u8 align(8) = undefined;
        @memcpy(copy[0..said.len], said);
        const key = t.to.open(&t.to.openings[0], copy[0..said.len]) orelse return null;
        return t.to.accept(0, @ptrCast(&copy), key);
    }
};

test "what a member says is taken once, also of a start that is over" {
    var t: Talk = try .make(1, 1);
    defer t.free();
    var old: [256]u8 align(8) = undefined;
    const first = t.say(77);
    @memcpy(old[0..first.len], first);
    const old_bytes = old[0..first.len];
    try testing.expectEqual(true, t.hear(old_bytes).?);
    try testing.expectEqual(false, t.hear(old_bytes).?);
    const counter = t.from.sealer.counter;
    for (100..100 + starts_max - 1) |nonce| {
        t.from.begin(5, nonce);
        try testing.expectEqual(true, t.hear(t.say(nonce)).?);
        try testing.expectEqual(false, t.hear(old_bytes).?);
    }
    // The earlier one speaks again: it was the network that was slow.
    t.from.begin(5, 77);
    t.from.sealer.counter = counter;
    try testing.expectEqual(true, t.hear(t.say(77)).?);
}

test "another key, another instance or no seal at all is not of the group" {
    var t: Talk = try .make(1, 2);
    defer t.free();
    try testing.expectEqual(null, t.hear(t.say(77)));
    var same: Talk = try .make(1, 1);
    defer same.free();
    // Sealed as start 77, and the header says another one.
    try testing.expectEqual(null, same.hear(same.say(78)));
    const said = same.say(77);
    for (0..said.len) |i| {
        if (i == 4 or i == 5 or i == 23) continue; // Length and flags: `decode_header` refuses.
        said[i] ^= 1;
        try testing.expectEqual(null, same.hear(said));
        said[i] ^= 1;
    }
    try testing.expectEqual(true, same.hear(said).?);
}
