//! The monotonic clock of one simulated node: off by a constant, and running a little fast or slow.

const std = @import("std");

pub const SimClock = struct {
    offset_ns: u64 = 0,
    drift_ppm: i32 = 0,

    /// What the node's clock shows at a time of the simulation.
    pub fn local(self: SimClock, now_ns: u64) u64 {
        const drift = @divFloor(@as(i128, now_ns) * self.drift_ppm, 1_000_000);
        return @intCast(@as(i128, now_ns) + self.offset_ns + drift);
    }

    /// The first time of the simulation at which the node's clock shows `local_ns` or more.
    pub fn when(self: SimClock, local_ns: u64) u64 {
        if (local_ns == std.math.maxInt(u64)) return local_ns;
        const gone = local_ns -| self.offset_ns;
        const rate: i128 = 1_000_000 + self.drift_ppm;
        var at: u64 = @intCast(@divFloor(@as(i128, gone) * 1_000_000, rate));
        while (self.local(at) < local_ns) at += 1;
        while (at > 0 and self.local(at - 1) >= local_ns) at -= 1;
        return at;
    }
};

test "a deadline of the node is reached at its time and not before" {
    for ([_]i32{ -500, -1, 0, 3, 500 }) |drift_ppm| {
        const clock: SimClock = .{ .offset_ns = 123_456_789, .drift_ppm = drift_ppm };
        for ([_]u64{ 0, 1, 999, 1_000_000_007, 86_400_000_000_000 }) |now_ns| {
            const shown = clock.local(now_ns);
            const at = clock.when(shown + 1);
            try std.testing.expect(at > now_ns);
            try std.testing.expect(clock.local(at) >= shown + 1);
            try std.testing.expect(clock.local(at - 1) < shown + 1);
        }
        try std.testing.expectEqual(std.math.maxInt(u64), clock.when(std.math.maxInt(u64)));
    }
}
