//! Decisions of a simulation, all from one seed: the same seed rolls the same dice.

const std = @import("std");

pub const Dice = struct {
    prng: std.Random.DefaultPrng,

    pub fn init(seed: u64) Dice {
        return .{ .prng = .init(seed) };
    }

    pub fn random(self: *Dice) std.Random {
        return self.prng.random();
    }

    pub inline fn bits(self: *Dice) u64 {
        return self.prng.next();
    }

    /// 0..bound-1.
    pub inline fn below(self: *Dice, bound: u64) u64 {
        std.debug.assert(bound > 0);
        return @intCast((@as(u128, self.prng.next()) * bound) >> 64);
    }

    /// low..high, both included.
    pub inline fn between(self: *Dice, low: u64, high: u64) u64 {
        std.debug.assert(low <= high);
        return low + self.below(high - low + 1);
    }

    /// low..high, each order of magnitude as likely as the next: small values are worth as many
    /// tries as large ones.
    pub fn magnitude(self: *Dice, low: u64, high: u64) u64 {
        std.debug.assert(low <= high);
        const first: u6 = @intCast(bit_count(low));
        const last: u6 = @intCast(bit_count(high));
        const count: u6 = @intCast(self.between(first, last));
        if (count == 0) return low;
        const from = @as(u64, 1) << (count - 1);
        const to = (from << 1) - 1;
        return self.between(@max(low, from), @max(low, @min(high, to)));
    }

    fn bit_count(n: u64) u64 {
        return 64 - @as(u64, @clz(n));
    }

    /// True `ppm` times in a million.
    pub inline fn chance(self: *Dice, ppm: u64) bool {
        if (ppm == 0) return false;
        return self.below(1_000_000) < ppm;
    }

    pub fn coin(self: *Dice) bool {
        return self.bits() & 1 == 1;
    }

    pub fn one_of(self: *Dice, comptime T: type, items: []const T) T {
        return items[@intCast(self.below(items.len))];
    }
};

/// A hash of two numbers: decisions that must not depend on the order in which they are made.
pub fn mix(a: u64, b: u64) u64 {
    var x = a ^ (b *% 0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x *%= 0xd6e8_feb8_6659_fd93;
    x ^= x >> 32;
    x *%= 0xd6e8_feb8_6659_fd93;
    return x ^ (x >> 32);
}

test "dice stay within their bounds and repeat" {
    var a: Dice = .init(7);
    var b: Dice = .init(7);
    for (0..2000) |_| {
        const x = a.between(3, 9);
        try std.testing.expectEqual(x, b.between(3, 9));
        try std.testing.expect(x >= 3 and x <= 9);
        const y = a.magnitude(1, 512);
        try std.testing.expectEqual(y, b.magnitude(1, 512));
        try std.testing.expect(y >= 1 and y <= 512);
        const z = a.magnitude(0, 5);
        try std.testing.expectEqual(z, b.magnitude(0, 5));
        try std.testing.expect(z <= 5);
    }
    try std.testing.expect(!a.chance(0));
    try std.testing.expect(a.chance(1_000_000));
}
