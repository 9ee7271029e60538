//! The two clocks of the engine. Nothing below the agents reads them: protocol code is given `now`.
//!
//! Both go through libc, which reads them without a system call (23 ns); the raw call that
//! `std.os.linux.clock_gettime` makes in a library costs ten times that.

const std = @import("std");
const assert = @import("../assert.zig").assert;

pub const ns_per_us: u64 = 1_000;
pub const ns_per_ms: u64 = 1_000_000;
pub const ns_per_s: u64 = 1_000_000_000;

/// Nanoseconds of CLOCK_MONOTONIC: never goes back, comparable between processes of one machine.
pub fn monotonic_ns() u64 {
    const now = read(.MONOTONIC);
    return @as(u64, @intCast(now.sec)) * ns_per_s + @as(u64, @intCast(now.nsec));
}

/// Milliseconds since 1970 (UTC). May jump either way when the machine's clock is set.
pub fn wall_ms() u64 {
    const now = read(.REALTIME);
    if (now.sec < 0) return 0; // A clock before 1970 must not become a huge number.
    return @as(u64, @intCast(now.sec)) * 1_000 + @as(u64, @intCast(now.nsec)) / ns_per_ms;
}

fn read(comptime id: std.c.clockid_t) std.c.timespec {
    var now: std.c.timespec = undefined;
    const result = std.c.clock_gettime(id, &now);
    assert(result == 0); // Fails only for a bad id or address.
    return now;
}

test "clocks move forward and agree with the calendar" {
    const first = monotonic_ns();
    const wall_first = wall_ms();
    var last = first;
    for (0..1000) |_| {
        const now = monotonic_ns();
        try std.testing.expect(now >= last);
        last = now;
    }
    try std.testing.expect(last > first);
    try std.testing.expect(wall_first > 1_700_000_000_000);
    try std.testing.expect(wall_ms() >= wall_first);
}
