//! How long a leader may act, and whether its engine still runs.
//!
//! A member proves to the arbitration that it lives by writing to its own node every T/4 (T: the
//! session's time-out as negotiated). A write that was answered makes the session good until the
//! moment it was *sent* + 2T/3: the servers give it up T after they heard of it, which is later. A
//! leader that is cut off so stops itself at least T/3 before anybody can follow it.
//!
//! The other way round, ZooKeeper's own thread would keep the session of a hung engine alive for
//! ever: the engine counts its heart, and where that stands still for T/3 of the time in which this
//! process ran, `running` is given up.
//!
//! The lease only stops a leader early. What is safe rests on promises and on conditional writes,
//! never on this clock.
//!
//! Here is no I/O and no clock: `Keeper` is told the time (CLOCK_BOOTTIME, which runs through a
//! suspend) and says what to do. Its caller holds a lock; `Lease` is read by other threads.

const std = @import("std");
const assert = @import("../assert.zig").assert;

/// What engine and arbiter share; at one place from the arbiter's opening to its end.
pub const Lease = struct {
    /// CLOCK_BOOTTIME in nanoseconds until which `running` is surely this session's; 0: it is not.
    until_ns: std.atomic.Value(u64) align(64) = .init(0),
    /// Counted up by the engine, one writer; the watchdog looks whether it moves.
    heart: std.atomic.Value(u64) align(64) = .init(0),
    /// An engine has begun to count: from then on the watchdog bites.
    watched: std.atomic.Value(bool) = .init(false),

    /// Engine: may a leader assign or commit now?
    pub inline fn holds(self: *const Lease, boottime_ns: u64) bool {
        return boottime_ns < self.until_ns.load(.acquire);
    }

    /// Engine: it runs. Two plain instructions; call it on every step.
    pub inline fn beat(self: *Lease) void {
        self.heart.store(self.heart.load(.monotonic) +% 1, .monotonic);
    }

    /// Engine: its begin and its end. Between them the watchdog expects beats.
    pub fn watch(self: *Lease, on: bool) void {
        self.watched.store(on, .release);
    }
};

pub const Action = enum {
    none,
    /// Write to the own node now; `on_sent` has been counted already.
    write,
    /// The engine hangs: remove `running`. The lease has ended.
    give_up,
};

pub const Keeper = struct {
    lease: *Lease,
    /// T; 0: there is no session.
    timeout_ns: u64 = 0,
    /// Until when the session is good, whether or not `running` is this node's.
    good_until_ns: u64 = 0,
    holding: bool = false,
    /// A write is under way since then; 0: none is.
    sent_ns: u64 = 0,
    next_write_ns: u64 = 0,
    heart_seen: u64 = 0,
    /// How long the heart stood still, counted only while this process ran.
    still_ns: u64 = 0,
    polled_ns: u64 = 0,

    /// A session was agreed on (again after a reconnection: `good_until_ns` stays).
    pub fn on_connected(self: *Keeper, timeout_ns: u64) void {
        assert(timeout_ns > 0);
        self.timeout_ns = timeout_ns;
        self.next_write_ns = 0;
    }

    /// The session is over.
    pub fn on_lost(self: *Keeper) void {
        self.lease.until_ns.store(0, .release);
        self.* = .{ .lease = self.lease };
    }

    /// `running` became this session's, or was given up.
    pub fn hold(self: *Keeper, on: bool) void {
        self.holding = on;
        self.still_ns = 0;
        self.show();
    }

    /// Something new is to be written: do not wait for the next turn.
    pub fn hurry(self: *Keeper) void {
        self.next_write_ns = 0;
    }

    /// A write was answered; `sent_ns` is what it was sent with.
    pub fn on_answer(self: *Keeper, sent_ns: u64, ok: bool) void {
        if (self.timeout_ns == 0) return; // Of a session that is over.
        if (self.sent_ns == sent_ns) self.sent_ns = 0;
        if (!ok) {
            self.next_write_ns = sent_ns + self.timeout_ns / retry_part;
            return;
        }
        self.good_until_ns = @max(self.good_until_ns, sent_ns + self.timeout_ns * 2 / 3);
        self.show();
    }

    /// What is to be done now. Call it every `interval_ns`.
    pub fn poll(self: *Keeper, now_ns: u64) Action {
        if (self.timeout_ns == 0) return .none;
        const ran_ns = @min(now_ns -| self.polled_ns, 2 * self.interval_ns());
        self.polled_ns = now_ns;
        if (self.is_still(ran_ns)) {
            self.hold(false);
            return .give_up;
        }
        if (self.sent_ns != 0 or now_ns < self.next_write_ns) return .none;
        self.sent_ns = now_ns;
        self.next_write_ns = now_ns + self.timeout_ns / write_part;
        return .write;
    }

    /// How often to look.
    pub fn interval_ns(self: *const Keeper) u64 {
        return std.math.clamp(self.timeout_ns / 48, interval_min_ns, interval_max_ns);
    }

    /// The engine's heart stood still for T/3. After a pause of the whole process (SIGSTOP) both
    /// threads get their turn first: only time in which this one ran counts.
    fn is_still(self: *Keeper, ran_ns: u64) bool {
        const heart = self.lease.heart.load(.monotonic);
        const moved = heart != self.heart_seen;
        self.heart_seen = heart;
        if (moved or !self.holding or !self.lease.watched.load(.acquire)) {
            self.still_ns = 0;
            return false;
        }
        self.still_ns += ran_ns;
        return self.still_ns >= self.timeout_ns / 3;
    }

    fn show(self: *Keeper) void {
        self.lease.until_ns.store(if (self.holding) self.good_until_ns else 0, .release);
    }

    const write_part = 4;
    /// A write that failed is tried again after this part of T.
    const retry_part = 16;
    const interval_min_ns = 5 * std.time.ns_per_ms;
    const interval_max_ns = 100 * std.time.ns_per_ms;

    comptime {
        // A write and its first repetition fit into the lease of the one before: T/4 + T/16 < 2T/3.
        assert(3 * (retry_part + write_part) < 2 * write_part * retry_part);
    }
};

const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const ms = std.time.ns_per_ms;
const session_ns = 2400 * ms; // T/4 = 600, 2T/3 = 1600, T/3 = 800

test "the lease runs from the time of sending, and only while running is held" {
    var lease: Lease = .{};
    var keeper: Keeper = .{ .lease = &lease };
    try expectEqual(Action.none, keeper.poll(1 * ms));
    keeper.on_connected(session_ns);
    try expectEqual(Action.write, keeper.poll(1000 * ms));
    try expectEqual(Action.none, keeper.poll(1700 * ms)); // One write at a time.
    keeper.on_answer(1000 * ms, true);
    try expect(!lease.holds(1000 * ms));
    keeper.hold(true);
    try expect(lease.holds(2599 * ms) and !lease.holds(2600 * ms));
    keeper.hold(false);
    try expect(!lease.holds(1001 * ms));
}

test "it is renewed every T/4, ends when answers stay away, and an older answer takes nothing" {
    var lease: Lease = .{};
    var keeper: Keeper = .{ .lease = &lease };
    keeper.on_connected(session_ns);
    keeper.hold(true);
    var now_ns: u64 = 10_000 * ms;
    var writes: u32 = 0;
    while (now_ns < 16_000 * ms) : (now_ns += 50 * ms) {
        if (keeper.poll(now_ns) != .write) continue;
        writes += 1;
        keeper.on_answer(now_ns, true);
    }
    try expectEqual(@as(u32, 10), writes);
    const last_ns = 10_000 * ms + 9 * 600 * ms;
    try expectEqual(last_ns + 1600 * ms, lease.until_ns.load(.acquire));
    keeper.on_answer(12_000 * ms, true);
    try expectEqual(last_ns + 1600 * ms, lease.until_ns.load(.acquire));
    try expectEqual(Action.write, keeper.poll(now_ns));
    keeper.on_answer(now_ns, false);
    try expectEqual(last_ns + 1600 * ms, lease.until_ns.load(.acquire));
    try expectEqual(Action.none, keeper.poll(now_ns + 149 * ms));
    try expectEqual(Action.write, keeper.poll(now_ns + 150 * ms)); // T/16 after a failure.
}

test "a session that is over leaves no lease, and its late answers nothing" {
    var lease: Lease = .{};
    var keeper: Keeper = .{ .lease = &lease };
    keeper.on_connected(session_ns);
    keeper.hold(true);
    try expectEqual(Action.write, keeper.poll(1000 * ms));
    keeper.on_answer(1000 * ms, true);
    try expect(lease.holds(1001 * ms));
    keeper.on_lost();
    keeper.on_answer(1000 * ms, true);
    try expect(!lease.holds(1001 * ms));
    try expectEqual(Action.none, keeper.poll(1100 * ms));
    keeper.on_connected(session_ns);
    try expectEqual(Action.write, keeper.poll(1200 * ms));
    keeper.on_answer(1200 * ms, true);
    try expect(!lease.holds(1201 * ms)); // The new session does not hold running.
}

test "a heart that stands still for T/3 gives running up; nobody asks one that is not watched" {
    var lease: Lease = .{};
    var keeper: Keeper = .{ .lease = &lease };
    keeper.on_connected(session_ns);
    keeper.hold(true);
    var now_ns: u64 = 10_000 * ms;
    const polls = 60;
    for (0..polls) |_| {
        now_ns += 50 * ms;
        const action = keeper.poll(now_ns);
        try expect(action != .give_up);
        if (action == .write) keeper.on_answer(now_ns, true);
    }
    lease.watch(true);
    for (0..polls) |_| {
        lease.beat();
        now_ns += 50 * ms;
        const action = keeper.poll(now_ns);
        try expect(action != .give_up);
        if (action == .write) keeper.on_answer(now_ns, true);
    }
    const last_beat_ns = now_ns;
    while (keeper.poll(now_ns) != .give_up) {
        keeper.on_answer(keeper.sent_ns, true);
        now_ns += 50 * ms;
        try expect(now_ns < last_beat_ns + 2000 * ms);
    }
    try expectEqual(last_beat_ns + 800 * ms, now_ns);
    try expect(!lease.holds(now_ns));
    try expect(!keeper.holding);
}

test "a pause of the whole process is not the engine's fault" {
    var lease: Lease = .{};
    var keeper: Keeper = .{ .lease = &lease };
    keeper.on_connected(session_ns);
    keeper.hold(true);
    lease.watch(true);
    lease.beat();
    _ = keeper.poll(10_000 * ms);
    try expect(keeper.poll(15_000 * ms) != .give_up); // Five seconds in which nobody ran.
    lease.beat();
    try expect(keeper.poll(15_050 * ms) != .give_up);
    try expectEqual(@as(u64, 0), keeper.still_ns);
}
