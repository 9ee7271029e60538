//! The two clocks of the engine. Nothing below the agents reads them: protocol code is given `now`.
//!
//! Both go through libc, which reads them without a system call (23 ns); the raw call that
//! `std.os.linux.clock_gettime` makes in a library costs ten times that.

const std = @import("std");
const builtin = @import("builtin");
const assert = @import("../assert.zig").assert;

pub const ns_per_us: u64 = 1_000;
pub const ns_per_ms: u64 = 1_000_000;
pub const ns_per_s: u64 = 1_000_000_000;

/// Nanoseconds of CLOCK_MONOTONIC: never goes back, comparable between processes of one machine.
pub fn monotonic_ns() u64 {
    const now = read(.MONOTONIC);
    return @as(u64, @intCast(now.sec)) * ns_per_s + @as(u64, @intCast(now.nsec));
}

/// Nanoseconds of CLOCK_BOOTTIME: as `monotonic_ns`, but goes on while the machine is suspended.
/// For leases: what others count as over must not look good here after a suspend.
pub fn boottime_ns() u64 {
    const now = read(.BOOTTIME);
    return @as(u64, @intCast(now.sec)) * ns_per_s + @as(u64, @intCast(now.nsec));
}

/// Milliseconds since 1970 (UTC). May jump either way when the machine's clock is set.
pub fn wall_ms() u64 {
    const now = read(.REALTIME);
    if (now.sec < 0) return 0; // A clock before 1970 must not become a huge number.
    return @as(u64, @intCast(now.sec)) * 1_000 + @as(u64, @intCast(now.nsec)) / ns_per_ms;
}

/// The calendar's time from a reading of the monotonic clock, for who has one already: the distance
/// of the two clocks is looked at once in a millisecond, so that a clock that is set counts then.
pub const Calendar = struct {
    distance_ns: i64 = 0,
    due_ns: u64 = 0,

    const every_ns = ns_per_ms;

    /// Milliseconds since 1970 (UTC).
    pub inline fn ms(self: *Calendar, now_ns: u64) u64 {
        if (now_ns >= self.due_ns) self.look(now_ns);
        const wall_ns = @as(i64, @intCast(now_ns)) + self.distance_ns;
        return @as(u64, @intCast(@max(0, wall_ns))) / ns_per_ms;
    }

    noinline fn look(self: *Calendar, now_ns: u64) void {
        const wall = read(.REALTIME);
        const wall_ns = @as(i64, wall.sec) * ns_per_s + @as(i64, wall.nsec);
        self.distance_ns = wall_ns - @as(i64, @intCast(monotonic_ns()));
        self.due_ns = now_ns + every_ns;
    }
};

/// A count of the processor that only grows, for short distances: a third of what a clock costs.
/// Always 0 where there is none.
pub inline fn ticks() u64 {
    if (comptime builtin.cpu.arch != .x86_64) return 0;
    var low: u32 = undefined;
    var high: u32 = undefined;
    asm volatile ("rdtsc"
        : [low] "={eax}" (low),
          [high] "={edx}" (high),
    );
    return @as(u64, high) << 32 | low;
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

test "the calendar's time follows the monotonic clock" {
    var calendar: Calendar = .{};
    for (0..10_000) |_| {
        const before = wall_ms();
        const now = calendar.ms(monotonic_ns());
        // The two clocks are read one after the other.
        try std.testing.expect(now + 2 >= before and now <= wall_ms() + 2);
    }
    calendar = .{ .distance_ns = -10, .due_ns = std.math.maxInt(u64) };
    try std.testing.expectEqual(@as(u64, 0), calendar.ms(5));
}

test "ticks grow" {
    if (comptime builtin.cpu.arch != .x86_64) return error.SkipZigTest;
    const first = ticks();
    for (0..1000) |_| std.atomic.spinLoopHint();
    try std.testing.expect(ticks() > first);
}
