//! Who runs the agents of a context that delivers to handlers: its native thread, or the JavaScript
//! thread that looks for messages again and again anyway.
//!
//! Two threads that look cost twice: a core where there are few, and a hand-over for each message.
//! So the native thread lends its agents and parks:
//!
//!     it has woken JavaScript for messages            (`lend`)
//!     JavaScript has taken all there was              (`lend`)
//!
//! and has them back when JavaScript goes to sleep, or its program holds it (`give_back`). Where
//! JavaScript has not looked from one beat of the parked thread to the next, the thread does what
//! there is to do and parks again: a handler that takes long does not end sessions.
//!
//! Who runs an agent is said by its token alone; this only says who is to try. So nothing depends
//! on a change being seen at once, and no datagram can be taken twice or in another order.

const std = @import("std");
const barrier = @import("barrier.zig");
const clock = @import("clock.zig");
const wait = @import("wait.zig");

/// The parked thread looks this often whether JavaScript still does.
pub const beat_ns = clock.ns_per_ms;

pub const Lending = struct {
    lent: std.atomic.Value(u32) align(64) = .init(0),
    /// 1 while the native thread is parked or about to.
    parked: std.atomic.Value(u32) = .init(0),
    /// How often JavaScript has looked. It alone writes.
    looks: std.atomic.Value(u32) = .init(0),

    pub fn lend(self: *Lending) void {
        self.lent.store(1, .release);
    }

    pub inline fn is_lent(self: *const Lending) bool {
        return self.lent.load(.monotonic) != 0;
    }

    pub inline fn is_parked(self: *const Lending) bool {
        return self.parked.load(.monotonic) != 0;
    }

    /// JavaScript looks.
    pub inline fn note_look(self: *Lending) void {
        self.looks.store(self.looks.load(.monotonic) +% 1, .monotonic);
    }

    /// The native thread goes on; it is woken where it is parked.
    pub fn give_back(self: *Lending, waiter: *wait.Waiter) void {
        if (self.lent.load(.monotonic) == 0) return;
        self.lent.store(0, .seq_cst);
        barrier.full(); // The thread stores that it parks, then looks whether they are lent.
        if (self.parked.load(.monotonic) == 0) return;
        if (self.parked.swap(0, .seq_cst) == 1) waiter.poke();
    }

    /// The native thread, while its agents are lent: sleeps until they are its own again, or for a
    /// beat. True when JavaScript has not looked during all of it: work may lie about. Somebody who
    /// wakes the thread for another reason ends it as well.
    pub fn park(self: *Lending, waiter: *wait.Waiter) bool {
        const looks = self.looks.load(.monotonic);
        self.parked.store(1, .seq_cst);
        barrier.full();
        defer self.parked.store(0, .monotonic);
        if (!self.is_lent()) return false;
        if (waiter.nap(beat_ns)) {
            // JavaScript sleeps: nothing has come for a while, so the thread sleeps as well.
            waiter.tire();
            return false;
        }
        return self.is_unused(looks);
    }

    /// JavaScript has not looked since `looks` was read.
    pub fn is_unused(self: *const Lending, looks: u32) bool {
        return self.looks.load(.monotonic) == looks;
    }
};

const expect = std.testing.expect;

test "who is lent to and does not look is noticed after a beat" {
    var failure: wait.Failure = .{};
    var waiter: wait.Waiter = try .init(.adaptive, &failure);
    defer waiter.deinit();
    var lending: Lending = .{};
    try expect(!lending.park(&waiter));
    lending.lend();
    lending.note_look();
    const from_ns = clock.monotonic_ns();
    try expect(lending.park(&waiter));
    try expect(clock.monotonic_ns() - from_ns >= beat_ns);
    try expect(lending.is_lent() and !lending.is_parked());
    waiter.wake();
    try expect(!lending.park(&waiter));
}

/// A JavaScript thread that looks, and lends and gives back at random moments.
const Borrower = struct {
    lending: Lending = .{},
    waiter: wait.Waiter,
    stop: std.atomic.Value(bool) = .init(false),
    /// Times that the native thread had its turn.
    turns: std.atomic.Value(u32) = .init(0),

    fn native(self: *Borrower) void {
        while (!self.stop.load(.acquire)) {
            if (self.lending.is_lent()) {
                _ = self.lending.park(&self.waiter);
                continue;
            }
            _ = self.turns.fetchAdd(1, .release);
            _ = std.os.linux.sched_yield();
        }
    }
};

test "what is given back is taken at once, however the two meet" {
    var failure: wait.Failure = .{};
    var b: Borrower = .{ .waiter = try .init(.adaptive, &failure) };
    defer b.waiter.deinit();
    const thread = try std.Thread.spawn(.{}, Borrower.native, .{&b});
    for (0..5000) |round| {
        b.lending.lend();
        for (0..round % 97) |_| std.atomic.spinLoopHint();
        if (round % 7 == 0) while (b.lending.is_lent() and !b.lending.is_parked()) {
            _ = std.os.linux.sched_yield();
        };
        b.lending.note_look();
        b.lending.give_back(&b.waiter);
        const turns = b.turns.load(.acquire);
        while (b.turns.load(.acquire) == turns) _ = std.os.linux.sched_yield();
    }
    b.stop.store(true, .release);
    thread.join();
    try expect(!b.lending.is_lent() and !b.lending.is_parked());
}
