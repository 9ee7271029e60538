//! How an agent's thread waits when its agents found nothing to do (`WaitStrategy`).
//!
//! - `spin`: never gives up the core; lowest latency, one core for each thread.
//! - `yield`: lets others run, never sleeps.
//! - `adaptive`: spins for 50 us, yields for as long again, then sleeps in the kernel until a
//!   socket is readable, another thread calls `wake_if_sleeping`, or the deadline is reached.
//! - `block`: sleeps at once.
//!
//! A thread that hands over work (JavaScript that sends) pays for a wake-up only when the agent
//! sleeps, and no wake-up is lost: before it sleeps, the agent sets its flag and looks for work
//! once more; who hands over work publishes it and then reads the flag, a full barrier between the
//! two on both sides. Whoever comes first, the other one sees it.

const std = @import("std");
const linux = std.os.linux;
const barrier = @import("barrier.zig");
const clock = @import("clock.zig");
const failure_module = @import("../transport/failure.zig");

pub const Failure = failure_module.Failure;
pub const PollFd = linux.pollfd;
const errno_of = failure_module.errno_of;
const assert = @import("../assert.zig").assert;
const Bell = @import("../window/node.zig").Bell;
const ShmPeers = @import("../session/shm_peers.zig").ShmPeers;

pub const Strategy = enum {
    spin,
    yield,
    adaptive,
    block,

    /// By its name in the configuration; null for any other text.
    pub fn parse(text: []const u8) ?Strategy {
        return std.meta.stringToEnum(Strategy, text);
    }
};

/// `adaptive`: how long it spins, and how long it yields after that.
pub const spin_ns: u64 = 50 * clock.ns_per_us;
pub const yield_ns: u64 = 50 * clock.ns_per_us;
/// One `idle` call that spins makes this many pauses (25 ns each); then sockets are looked at.
pub const pauses = 4;
/// A sleep without a deadline ends after this time at the latest.
pub const sleep_ns_max: u64 = 3600 * clock.ns_per_s;

/// What an `idle` call did.
pub const Idled = enum {
    /// Passed a moment without sleeping, or found work before it would have slept.
    stayed,
    /// Slept until the deadline, or was interrupted; no socket had anything.
    slept,
    /// Slept, and a socket (see `revents`) or another thread ended it.
    woken,
};

pub const Waiter = struct {
    strategy: Strategy,
    event_fd: i32,
    /// When the present idle time began; 0 while there is work.
    idle_since_ns: u64 = 0,
    /// Times that the agent slept in the kernel, and that another thread had to wake it.
    sleeps: u64 = 0,
    wakes: std.atomic.Value(u64) = .init(0),
    /// While it sleeps: until when, unless it is woken.
    until_ns: std.atomic.Value(u64) = .init(0),
    /// Where other processes see that the agent sleeps, and wake it (`ring`). Null: none do.
    bell: ?*Bell = null,
    /// The agent sleeps on sockets, and `relay` passes rings on.
    is_relayed: bool = false,
    /// 1 while the agent sleeps or is about to. A line of its own: producers read it often.
    sleeping: std.atomic.Value(u32) align(64) = .init(0),

    pub const OpenError = error{Refused};

    /// Opens the event descriptor that other threads wake the agent by. The result must not move
    /// any more once another thread knows it.
    pub fn init(strategy: Strategy, failure: *Failure) OpenError!Waiter {
        const result = linux.eventfd(0, linux.EFD.CLOEXEC | linux.EFD.NONBLOCK);
        if (errno_of(result) != 0) {
            failure.set_errno(errno_of(result), "cannot open an event descriptor", .{});
            return error.Refused;
        }
        return .{ .strategy = strategy, .event_fd = @intCast(result) };
    }

    /// After this nobody may call `wake_if_sleeping`.
    pub fn deinit(self: *Waiter) void {
        _ = linux.close(self.event_fd);
        self.* = undefined;
    }

    /// The agent's thread, after a duty cycle that did something: the idle time starts anew.
    pub fn busy(self: *Waiter) void {
        self.idle_since_ns = 0;
    }

    /// The agent's thread: others have looked for long enough, `adaptive` sleeps at once.
    pub fn tire(self: *Waiter) void {
        self.idle_since_ns = 1;
    }

    /// The agent's thread, after a duty cycle that found nothing to do. `fds[0]` belongs to the
    /// waiter, which fills it; the others are sockets, `events` as for poll(2). `deadline_ns` is on
    /// the monotonic clock; null: none. `has_work(context)` looks for work that other threads
    /// publish; it is called once, directly before sleeping.
    pub fn idle(
        self: *Waiter,
        now_ns: u64,
        fds: []PollFd,
        deadline_ns: ?u64,
        context: anytype,
        comptime has_work: fn (@TypeOf(context)) bool,
    ) Idled {
        assert(fds.len >= 1);
        switch (self.strategy) {
            .spin => return pause(),
            .yield => return yield(),
            .adaptive => {
                if (self.idle_since_ns == 0) self.idle_since_ns = @max(now_ns, 1);
                const idle_ns = now_ns -| self.idle_since_ns;
                if (idle_ns < spin_ns) return pause();
                if (idle_ns < spin_ns + yield_ns) return yield();
            },
            .block => {},
        }
        if (deadline_ns) |deadline| if (deadline <= now_ns) return .stayed;
        self.until_ns.store(deadline_ns orelse std.math.maxInt(u64), .monotonic);
        // Read before the flag is set: a ring from then on ends the sleep.
        const rings = if (self.bell) |b| @atomicLoad(u32, &b.rings, .acquire) else 0;
        self.sleeping.store(1, .seq_cst);
        if (self.bell) |b| @atomicStore(u32, &b.sleeping, 1, .seq_cst);
        barrier.full(); // `has_work` must not read before the flag is seen.
        const stays = has_work(context);
        defer self.rise();
        if (stays) return .stayed;
        if (!self.is_relayed) if (self.bell) |b| return self.sleep_on_bell(b, rings, deadline_ns);
        return self.sleep(fds, deadline_ns);
    }

    fn rise(self: *Waiter) void {
        self.sleeping.store(0, .monotonic);
        if (self.bell) |b| @atomicStore(u32, &b.sleeping, 0, .monotonic);
    }

    /// Without sockets there is only the bell to wait for.
    fn sleep_on_bell(self: *Waiter, bell: *Bell, rings: u32, deadline_ns: ?u64) Idled {
        self.sleeps += 1;
        const wait_ns = if (deadline_ns) |deadline|
            @min(deadline -| clock.monotonic_ns(), sleep_ns_max)
        else
            sleep_ns_max;
        return if (wait_for_ring(bell, rings, wait_ns)) .woken else .slept;
    }

    fn sleep(self: *Waiter, fds: []PollFd, deadline_ns: ?u64) Idled {
        fds[0] = .{ .fd = self.event_fd, .events = linux.POLL.IN, .revents = 0 };
        self.sleeps += 1;
        // The time is read again: `now_ns` is as old as the duty cycle.
        const wait_ns = if (deadline_ns) |deadline|
            @min(deadline -| clock.monotonic_ns(), sleep_ns_max)
        else
            sleep_ns_max;
        // The kernel writes the rest of the time into it; it is not used again.
        var timeout: linux.timespec = .{
            .sec = @intCast(wait_ns / clock.ns_per_s),
            .nsec = @intCast(wait_ns % clock.ns_per_s),
        };
        const result = linux.ppoll(fds.ptr, @intCast(fds.len), &timeout, null);
        if (errno_of(result) != 0) {
            // Interrupted by a signal: `revents` were not written.
            for (fds) |*fd| fd.revents = 0;
            return .slept;
        }
        if (result == 0) return .slept;
        if (fds[0].revents != 0) {
            var count: u64 = 0;
            _ = linux.read(self.event_fd, std.mem.asBytes(&count), @sizeOf(u64));
        }
        return .woken;
    }

    /// Any thread, after it published work for the agent. True when the agent had to be woken; a
    /// few ns when not. A wake-up that comes too late makes the agent's next sleep a short one.
    pub fn wake_if_sleeping(self: *Waiter) bool {
        barrier.full(); // The work must be visible before the flag is read.
        if (self.sleeping.load(.monotonic) == 0) return false;
        if (self.sleeping.swap(0, .seq_cst) == 0) return false; // Another thread wakes it.
        self.wake();
        return true;
    }

    /// Any thread, after it gave the agent something to do at `deadline_ns`: wakes it if it would
    /// sleep longer. `has_work` must know of the new deadline.
    pub fn wake_if_later(self: *Waiter, deadline_ns: u64) bool {
        barrier.full();
        if (self.sleeping.load(.monotonic) == 0) return false;
        if (self.until_ns.load(.monotonic) <= deadline_ns) return false;
        return self.wake_if_sleeping();
    }

    /// Any thread: wakes the agent, or makes its next sleep a short one, whatever the flag says (to
    /// stop it).
    pub fn wake(self: *Waiter) void {
        self.poke();
        _ = self.wakes.fetchAdd(1, .monotonic);
        if (self.is_relayed) return;
        if (self.bell) |b| ring(b);
    }

    /// Ends the agent's `nap`, or its next one.
    pub fn poke(self: *Waiter) void {
        const one: u64 = 1;
        const result = linux.write(self.event_fd, std.mem.asBytes(&one), @sizeOf(u64));
        assert(errno_of(result) != @backingInt(linux.E.BADF));
    }

    /// The agent's thread: sleeps, whatever comes at its sockets. True when it was poked or woken.
    pub fn nap(self: *Waiter, nap_ns: u64) bool {
        assert(nap_ns < clock.ns_per_s);
        var fds = [1]PollFd{.{ .fd = self.event_fd, .events = linux.POLL.IN, .revents = 0 }};
        var timeout: linux.timespec = .{ .sec = 0, .nsec = @intCast(nap_ns) };
        const result = linux.ppoll(&fds, 1, &timeout, null);
        if (errno_of(result) != 0 or result == 0) return false;
        var count: u64 = 0;
        _ = linux.read(self.event_fd, std.mem.asBytes(&count), @sizeOf(u64));
        return true;
    }

    /// Passes rings on to a thread that sleeps on sockets, until `stopping`. A thread of its own;
    /// `seen`: `rings` of the bell before the agent's thread could sleep for the first time.
    pub fn relay(self: *Waiter, seen: u32, stopping: *const std.atomic.Value(bool)) void {
        const bell = self.bell.?;
        var rings = seen;
        while (!stopping.load(.acquire)) {
            _ = wait_for_ring(bell, rings, sleep_ns_max);
            const now = @atomicLoad(u32, &bell.rings, .acquire);
            if (now == rings) continue;
            rings = now;
            const one: u64 = 1;
            _ = linux.write(self.event_fd, std.mem.asBytes(&one), @sizeOf(u64));
        }
    }

    fn pause() Idled {
        for (0..pauses) |_| std.atomic.spinLoopHint();
        return .stayed;
    }

    fn yield() Idled {
        _ = linux.sched_yield();
        return .stayed;
    }
};

/// Wakes the owner of a bell, in whatever process. For who took `sleeping` back to 0.
pub fn ring(bell: *Bell) void {
    _ = @atomicRmw(u32, &bell.rings, .Add, 1, .release);
    const op: linux.FUTEX_OP = .{ .cmd = .WAKE, .private = false };
    _ = linux.futex_3arg(&bell.rings, op, 1);
}

/// True when somebody rang since `rings` was read.
fn wait_for_ring(bell: *Bell, rings: u32, wait_ns: u64) bool {
    const timeout: linux.timespec = .{
        .sec = @intCast(wait_ns / clock.ns_per_s),
        .nsec = @intCast(wait_ns % clock.ns_per_s),
    };
    const op: linux.FUTEX_OP = .{ .cmd = .WAIT, .private = false };
    const result = linux.futex_4arg(&bell.rings, op, rings, &timeout);
    return errno_of(result) != @backingInt(linux.E.TIMEDOUT);
}

const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

fn nothing(_: void) bool {
    return false;
}

test "strategies are found by their names in the configuration" {
    try expectEqual(Strategy.adaptive, Strategy.parse("adaptive").?);
    try expectEqual(@as(?Strategy, null), Strategy.parse("Adaptive"));
}

test "spin and yield never sleep" {
    for ([_]Strategy{ .spin, .yield }) |strategy| {
        var failure: Failure = .{};
        var waiter: Waiter = try .init(strategy, &failure);
        defer waiter.deinit();
        var fds: [1]PollFd = undefined;
        for (0..1000) |_| {
            try expectEqual(.stayed, waiter.idle(clock.monotonic_ns(), &fds, null, {}, nothing));
        }
        try expectEqual(@as(u64, 0), waiter.sleeps);
        try expect(!waiter.wake_if_sleeping());
    }
}

test "adaptive spins, yields, then sleeps until the deadline; work starts it anew" {
    var failure: Failure = .{};
    var waiter: Waiter = try .init(.adaptive, &failure);
    defer waiter.deinit();
    var fds: [1]PollFd = undefined;
    const start = clock.monotonic_ns();
    const deadline = start + 20 * clock.ns_per_ms;
    while (waiter.idle(clock.monotonic_ns(), &fds, deadline, {}, nothing) == .stayed) {
        try expect(clock.monotonic_ns() < deadline + clock.ns_per_s);
    }
    try expect(clock.monotonic_ns() >= deadline);
    try expectEqual(@as(u64, 1), waiter.sleeps);
    // A deadline that passed is not slept on.
    const now = clock.monotonic_ns();
    try expectEqual(.stayed, waiter.idle(now, &fds, now, {}, nothing));
    waiter.busy();
    try expectEqual(.stayed, waiter.idle(now, &fds, null, {}, nothing));
    try expectEqual(.stayed, waiter.idle(now + spin_ns - 1, &fds, null, {}, nothing));
    try expectEqual(@as(u64, 1), waiter.sleeps);
}

test "a readable socket ends the sleep" {
    var failure: Failure = .{};
    var waiter: Waiter = try .init(.block, &failure);
    defer waiter.deinit();
    var pair: [2]i32 = undefined;
    const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;
    try expectEqual(@as(u16, 0), errno_of(linux.socketpair(linux.AF.UNIX, kind, 0, &pair)));
    defer for (pair) |fd| {
        _ = linux.close(fd);
    };
    var fds: [2]PollFd = .{ undefined, .{ .fd = pair[0], .events = linux.POLL.IN } };
    const deadline = clock.monotonic_ns() + 10 * clock.ns_per_s;
    _ = linux.write(pair[1], "x", 1);
    try expectEqual(.woken, waiter.idle(0, &fds, deadline, {}, nothing));
    try expect(fds[0].revents == 0 and fds[1].revents & linux.POLL.IN != 0);
    // So does a wake-up that came before, once.
    waiter.wake();
    fds[1].events = 0;
    try expectEqual(.woken, waiter.idle(0, &fds, deadline, {}, nothing));
    try expect(fds[0].revents != 0);
    const soon = clock.monotonic_ns() + clock.ns_per_ms;
    try expectEqual(.slept, waiter.idle(0, &fds, soon, {}, nothing));
}

/// A producer that hands one unit of work over at a time to an agent that sleeps in between.
const Handover = struct {
    waiter: Waiter,
    published: std.atomic.Value(u32) = .init(0),
    done: std.atomic.Value(u32) = .init(0),
    /// Sleeps that ended by the deadline although work was there: each is a lost wake-up.
    overslept: u32 = 0,

    const rounds = 20_000;

    /// How the producer's process sees the agent: through its bell.
    const Peers = struct {
        bells: [1]std.atomic.Value(?*Bell),
        shm: ShmPeers = undefined,

        fn settle(self: *Peers) void {
            self.shm.bells = &self.bells;
            self.shm.bells_high = .init(1);
            self.shm.sleepers = .init(1);
            self.shm.ring_bell = ring;
        }
    };

    fn has_work(self: *Handover) bool {
        return self.published.load(.acquire) != self.done.load(.monotonic);
    }

    fn agent(self: *Handover) void {
        var fds: [1]PollFd = undefined;
        while (self.done.load(.monotonic) < rounds) {
            if (self.has_work()) {
                self.done.store(self.published.load(.acquire), .release);
                self.waiter.busy();
                continue;
            }
            const now = clock.monotonic_ns();
            const deadline = now + 5 * clock.ns_per_s;
            const idled = self.waiter.idle(now, &fds, deadline, self, has_work);
            if (idled == .slept and self.has_work()) self.overslept += 1;
        }
    }

    fn run(strategy: Strategy, by: enum { event, bell, relay }) !Handover {
        var failure: Failure = .{};
        var self: Handover = .{ .waiter = try .init(strategy, &failure) };
        defer self.waiter.deinit();
        var bell: Bell = std.mem.zeroes(Bell);
        var peers: Peers = .{ .bells = .{.init(&bell)} };
        peers.settle();
        if (by != .event) self.waiter.bell = &bell;
        self.waiter.is_relayed = by == .relay;
        var stopping: std.atomic.Value(bool) = .init(false);
        const relay: ?std.Thread = if (by == .relay)
            try std.Thread.spawn(.{}, Waiter.relay, .{ &self.waiter, bell.rings, &stopping })
        else
            null;
        const thread = try std.Thread.spawn(.{}, agent, .{&self});
        for (1..rounds + 1) |round| {
            // Now and then late enough that the agent is on its way to sleep, or asleep.
            for (0..round % 97) |_| std.atomic.spinLoopHint();
            self.published.store(@intCast(round), .release);
            if (by == .event) _ = self.waiter.wake_if_sleeping() else peers.shm.wake();
            while (self.done.load(.acquire) != round) _ = linux.sched_yield();
        }
        thread.join();
        const wakes = if (by == .event) self.waiter.wakes.load(.monotonic) else bell.rings;
        stopping.store(true, .release);
        ring(&bell);
        if (relay) |other| other.join();
        try expect(wakes <= rounds);
        try expect(strategy != .block or wakes > 0);
        return self;
    }
};

test "a bell ends a sleep, by itself or through the relay" {
    var bell: Bell = std.mem.zeroes(Bell);
    var failure: Failure = .{};
    var waiter: Waiter = try .init(.block, &failure);
    defer waiter.deinit();
    waiter.bell = &bell;
    const Ringer = struct {
        fn run(b: *Bell) void {
            while (@atomicRmw(u32, &b.sleeping, .Xchg, 0, .seq_cst) == 0) _ = linux.sched_yield();
            ring(b);
        }
    };
    var pair: [2]i32 = undefined;
    const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;
    try expectEqual(@as(u16, 0), errno_of(linux.socketpair(linux.AF.UNIX, kind, 0, &pair)));
    defer for (pair) |fd| {
        _ = linux.close(fd);
    };
    var fds: [2]PollFd = .{ undefined, .{ .fd = pair[0], .events = linux.POLL.IN } };
    for (1..3) |sockets| {
        var stopping: std.atomic.Value(bool) = .init(false);
        waiter.is_relayed = sockets == 2;
        const relay: ?std.Thread = if (waiter.is_relayed)
            try std.Thread.spawn(.{}, Waiter.relay, .{ &waiter, bell.rings, &stopping })
        else
            null;
        for (0..200) |_| {
            const ringer = try std.Thread.spawn(.{}, Ringer.run, .{&bell});
            const deadline = clock.monotonic_ns() + 20 * clock.ns_per_s;
            try expectEqual(.woken, waiter.idle(0, fds[0..sockets], deadline, {}, nothing));
            ringer.join();
            try expectEqual(0, bell.sleeping);
        }
        stopping.store(true, .release);
        ring(&bell);
        if (relay) |thread| thread.join();
    }
}

test "no wake-up is lost between two threads" {
    for ([_]Strategy{ .block, .adaptive }) |strategy| {
        try expectEqual(0, (try Handover.run(strategy, .event)).overslept);
    }
}

test "no ring is lost between two processes, by itself or through the relay" {
    for ([_]Strategy{ .block, .adaptive }) |strategy| {
        try expectEqual(0, (try Handover.run(strategy, .bell)).overslept);
        try expectEqual(0, (try Handover.run(strategy, .relay)).overslept);
    }
}
