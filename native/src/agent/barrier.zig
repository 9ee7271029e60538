//! The one barrier that stores and loads of atomics do not give: a store before it is visible to
//! every thread before a load after it reads. Both sides of a "look, then sleep" need it.

const std = @import("std");
const builtin = @import("builtin");

/// A full memory barrier, about 5 ns.
pub inline fn full() void {
    switch (builtin.cpu.arch) {
        .x86_64 => asm volatile ("lock addl $0, (%%rsp)" ::: .{ .memory = true, .cc = true }),
        .aarch64 => asm volatile ("dmb ish" ::: .{ .memory = true }),
        else => {
            var word: std.atomic.Value(u32) = .init(0);
            _ = word.fetchAdd(0, .seq_cst);
        },
    }
}

/// Stores before it are visible before stores after it.
pub inline fn stores() void {
    switch (builtin.cpu.arch) {
        .x86_64 => asm volatile ("" ::: .{ .memory = true }),
        .aarch64 => asm volatile ("dmb ishst" ::: .{ .memory = true }),
        else => full(),
    }
}

/// Two threads that each store and then load what the other stored ("store buffering").
const Litmus = struct {
    turn: std.atomic.Value(u32) = .init(0),
    x: std.atomic.Value(u32) align(64) = .init(0),
    y: std.atomic.Value(u32) align(64) = .init(0),
    seen_y: std.atomic.Value(u32) align(64) = .init(0),
    finished: std.atomic.Value(u32) = .init(0),

    const rounds = 20_000;

    fn wait_for(word: *const std.atomic.Value(u32), value: u32) void {
        var spins: u32 = 0;
        while (word.load(.acquire) != value) : (spins +%= 1) {
            std.atomic.spinLoopHint();
            if (spins % 1024 == 1023) std.Thread.yield() catch {};
        }
    }

    fn other(self: *Litmus) void {
        for (1..rounds + 1) |round| {
            wait_for(&self.turn, @intCast(round));
            self.x.store(1, .monotonic);
            full();
            self.seen_y.store(self.y.load(.monotonic), .monotonic);
            self.finished.store(@intCast(round), .release);
        }
    }
};

test "a store before the barrier is seen, or the other side's is" {
    var litmus: Litmus = .{};
    const thread = try std.Thread.spawn(.{}, Litmus.other, .{&litmus});
    var blind: u32 = 0;
    for (1..Litmus.rounds + 1) |round| {
        litmus.x.store(0, .monotonic);
        litmus.y.store(0, .monotonic);
        litmus.turn.store(@intCast(round), .release);
        // Meets the other thread at different moments.
        for (0..round % 23) |_| std.atomic.spinLoopHint();
        litmus.y.store(1, .monotonic);
        full();
        const seen_x = litmus.x.load(.monotonic);
        Litmus.wait_for(&litmus.finished, @intCast(round));
        if (seen_x == 0 and litmus.seen_y.load(.monotonic) == 0) blind += 1;
    }
    thread.join();
    try std.testing.expectEqual(@as(u32, 0), blind);
}
