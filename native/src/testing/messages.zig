//! What the simulated producers publish: the length, argument and bytes of a message are a function
//! of the seed, the window, its epoch (how often it was wiped) and the message's number. So the
//! checker knows every byte that was ever sent without keeping any.

const std = @import("std");
const dice = @import("dice.zig");

pub const table_bytes = 1 << 20;
/// Longest simulated message: its bytes are a slice of the table.
pub const length_max = table_bytes / 2;

var table: [table_bytes]u8 = undefined;
var table_ready = false;

/// To be called once before `bytes_of`.
pub fn prepare() void {
    if (table_ready) return;
    var prng: std.Random.DefaultPrng = .init(0x5243_4d31);
    prng.fill(&table);
    table_ready = true;
}

pub const Content = struct {
    length: u32,
    arg: u16,
    at: u32,

    pub fn bytes(self: Content) []const u8 {
        std.debug.assert(table_ready);
        return table[self.at..][0..self.length];
    }
};

/// How long the messages of one window are.
pub const Sizes = struct {
    /// Longest message of this window.
    max: u32,
    /// Longest that goes in one datagram, and what a full fragment holds.
    message_bytes: u32,
    fragment_bytes: u32,
    /// Out of a million: large messages, and messages around the bounds of datagrams.
    large_ppm: u32,
    edge_ppm: u32,
    /// Of all others.
    usual_max: u32,
};

pub fn content(seed: u64, window: u32, epoch: u32, number: u64, sizes: *const Sizes) Content {
    const identity = @as(u64, window) << 32 | epoch;
    const h = dice.mix(dice.mix(seed, identity), number);
    const g = dice.mix(h, 0x6c65_6e67_7468);
    const length = @min(length_of(g, sizes), sizes.max, length_max);
    return .{
        .length = length,
        .arg = @truncate(h),
        .at = @intCast((h >> 16) % (table_bytes - length_max)),
    };
}

fn length_of(g: u64, sizes: *const Sizes) u32 {
    const roll: u32 = @intCast((g & 0xffff_ffff) * 1_000_000 >> 32);
    const rest = g >> 32;
    if (roll < sizes.large_ppm) {
        return @intCast(rest % (@as(u64, sizes.max) + 1));
    }
    if (roll < sizes.large_ppm +| sizes.edge_ppm) {
        // One, two or three datagrams, give or take eight bytes.
        const whole = [_]u32{
            sizes.message_bytes,
            sizes.fragment_bytes,
            sizes.fragment_bytes * 2,
            sizes.fragment_bytes * 3,
        };
        const base = whole[@intCast(rest % whole.len)];
        return base - 8 + @as(u32, @intCast((rest >> 8) % 17));
    }
    if (rest % 16 == 0) return 0;
    return @intCast((rest >> 4) % (@as(u64, sizes.usual_max) + 1));
}

test "messages are the same each time they are asked for, and differ by epoch" {
    prepare();
    const sizes: Sizes = .{
        .max = 20_000,
        .message_bytes = 1432,
        .fragment_bytes = 1424,
        .large_ppm = 100_000,
        .edge_ppm = 100_000,
        .usual_max = 200,
    };
    var lengths: u64 = 0;
    var differ = false;
    for (0..1000) |n| {
        const a = content(1, 2, 0, n, &sizes);
        const b = content(1, 2, 0, n, &sizes);
        try std.testing.expectEqual(a, b);
        try std.testing.expectEqualStrings(a.bytes(), b.bytes());
        try std.testing.expect(a.length <= sizes.max);
        if (!std.meta.eql(a, content(1, 2, 1, n, &sizes))) differ = true;
        lengths += a.length;
    }
    try std.testing.expect(differ and lengths > 0);
}
