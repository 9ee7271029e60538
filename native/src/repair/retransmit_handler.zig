//! Answers NAKs: which ranges are sent again, to whom, and how fast.
//!
//! A lossy group must not take its sender down, so three things bound the answer:
//! - *hold-off*: what was repaired to the group a moment ago is not repaired again for a first
//!   request, because the other receivers that lost the same datagram ask at about the same time;
//! - *budget*: a token bucket in bytes for all repairs together, and a share for each receiver;
//! - *a bounded queue*: what does not fit is dropped and asked for again.
//!
//! The first request of a range is answered to the group (others have probably lost it too); from
//! the second request on the answer goes to the receiver that asks. Pure state: time comes in as an
//! argument.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const limits = @import("../session/limits.zig");
const assert = @import("../assert.zig").assert;

const Position = frame.Position;

pub const Bucket = struct {
    tokens: u64,
    burst: u64,
    filled_ns: u64,

    pub fn init(burst: u64, now_ns: u64) Bucket {
        return .{ .tokens = burst, .burst = burst, .filled_ns = now_ns };
    }

    pub fn refill(self: *Bucket, now_ns: u64, bytes_per_s: u64) void {
        assert(bytes_per_s > 0);
        const elapsed = now_ns -| self.filled_ns;
        const add = @as(u128, elapsed) * bytes_per_s / std.time.ns_per_s;
        if (add == 0) return;
        self.tokens = @intCast(@min(self.burst, self.tokens + add));
        self.filled_ns = now_ns;
    }

    pub fn take(self: *Bucket, bytes: u64) void {
        self.tokens -|= bytes;
    }

    /// When `bytes` will be there.
    pub fn ready_ns(self: *const Bucket, bytes: u64, bytes_per_s: u64) u64 {
        if (self.tokens >= bytes) return self.filled_ns;
        const missing = bytes - self.tokens;
        return self.filled_ns + (missing * std.time.ns_per_s + bytes_per_s - 1) / bytes_per_s;
    }
};

pub const Job = struct {
    start: Position,
    end: Position,
    /// Index of the receiver that asked.
    receiver: u16,
    unicast: bool,
    /// Datagrams that may still be sent for it: a request is answered with a window at most, so
    /// that nobody is sent again and again what it can't hold.
    left: u32,
};

const Recent = struct { start: Position, end: Position, until_ns: u64 };

pub const RetransmitHandler = struct {
    jobs: [limits.repair_jobs_max]Job = undefined,
    first: u32 = 0,
    count: u32 = 0,
    recent: [limits.repair_recent_max]Recent = @splat(.{
        .start = .{ .msg = 0 },
        .end = .{ .msg = 0 },
        .until_ns = 0,
    }),
    recent_at: u32 = 0,
    dropped: u64 = 0,
    suppressed: u64 = 0,

    pub const Request = struct {
        start: Position,
        end: Position,
        receiver: u16,
        attempt: u32,
        /// The stream goes to a multicast group: one answer can serve several.
        has_group: bool,
        /// Datagrams at most.
        datagrams_max: u32,
    };

    /// Queues the answer to one range of a NAK, less what is queued or was just answered.
    pub fn request(self: *RetransmitHandler, now_ns: u64, r: Request) void {
        assert(r.start.less(r.end));
        var start = r.start;
        const unicast = !r.has_group or r.attempt > 1;
        if (!unicast) start = self.after_recent(now_ns, start);
        start = self.after_queued(start, r.receiver);
        if (!start.less(r.end)) {
            self.suppressed += 1;
            return;
        }
        if (self.count == self.jobs.len) {
            self.dropped += 1;
            return;
        }
        const at = (self.first + self.count) % self.jobs.len;
        self.jobs[at] = .{
            .start = start,
            .end = r.end,
            .receiver = r.receiver,
            .unicast = unicast,
            .left = r.datagrams_max,
        };
        self.count += 1;
    }

    pub fn peek(self: *RetransmitHandler) ?*Job {
        return if (self.count == 0) null else &self.jobs[self.first];
    }

    /// The first job was answered up to `to`, by so many datagrams.
    pub fn advance(self: *RetransmitHandler, now_ns: u64, to: Position, datagrams: u32) void {
        const job = self.peek().?;
        assert(job.start.less(to));
        if (!job.unicast) {
            self.recent[self.recent_at] = .{
                .start = job.start,
                .end = to,
                .until_ns = now_ns + limits.repair_hold_off_ns,
            };
            self.recent_at = (self.recent_at + 1) % @as(u32, self.recent.len);
        }
        job.start = to;
        job.left -|= datagrams;
        if (job.left == 0 or !job.start.less(job.end)) self.finish();
    }

    /// Drops the first job: done, or what it asks for is not kept.
    pub fn finish(self: *RetransmitHandler) void {
        assert(self.count > 0);
        self.first = (self.first + 1) % @as(u32, self.jobs.len);
        self.count -= 1;
    }

    pub fn forget(self: *RetransmitHandler) void {
        self.count = 0;
    }

    fn after_recent(self: *const RetransmitHandler, now_ns: u64, start: Position) Position {
        var at = start;
        // Twice, because one recent range may lead into another that stands before it in the ring.
        for (0..2) |_| {
            for (&self.recent) |*r| {
                if (now_ns < r.until_ns and !at.less(r.start) and at.less(r.end)) at = r.end;
            }
        }
        return at;
    }

    fn after_queued(self: *const RetransmitHandler, start: Position, receiver: u16) Position {
        var at = start;
        for (0..self.count) |i| {
            const job = &self.jobs[(self.first + i) % self.jobs.len];
            if (job.unicast and job.receiver != receiver) continue;
            if (!at.less(job.start) and at.less(job.end)) at = job.end;
        }
        return at;
    }
};

const testing = std.testing;

fn ask(start: u64, end: u64, receiver: u16, attempt: u32) RetransmitHandler.Request {
    return .{
        .start = .{ .msg = start },
        .end = .{ .msg = end },
        .receiver = receiver,
        .attempt = attempt,
        .has_group = true,
        .datagrams_max = 8,
    };
}

test "one answer serves all who ask within the hold-off" {
    var h: RetransmitHandler = .{};
    h.request(1000, ask(5, 8, 0, 1));
    h.request(1001, ask(5, 8, 1, 1));
    try testing.expectEqual(1, h.count);
    h.advance(1002, .{ .msg = 8 }, 1);
    try testing.expectEqual(0, h.count);
    h.request(1003, ask(5, 8, 2, 1));
    try testing.expectEqual(0, h.count);
    try testing.expectEqual(2, h.suppressed);
    h.request(1003 + limits.repair_hold_off_ns, ask(5, 8, 2, 1));
    try testing.expectEqual(1, h.count);
}

test "a second request is answered to the one who asks, also within the hold-off" {
    var h: RetransmitHandler = .{};
    h.request(1000, ask(5, 8, 0, 1));
    h.advance(1002, .{ .msg = 8 }, 1);
    h.request(1003, ask(5, 8, 1, 2));
    try testing.expectEqual(1, h.count);
    try testing.expect(h.peek().?.unicast);
    h.request(1004, ask(5, 8, 1, 3));
    try testing.expectEqual(1, h.count);
    h.request(1004, ask(5, 8, 2, 2));
    try testing.expectEqual(2, h.count);
}

test "only the part that nobody repaired yet is queued" {
    var h: RetransmitHandler = .{};
    h.request(1000, ask(5, 8, 0, 1));
    h.request(1000, ask(6, 12, 1, 1));
    try testing.expectEqual(2, h.count);
    try testing.expectEqual(8, h.jobs[1].start.msg);
}

test "the queue is bounded" {
    var h: RetransmitHandler = .{};
    for (0..limits.repair_jobs_max + 5) |i| h.request(1000, ask(i * 2, i * 2 + 1, 0, 1));
    try testing.expectEqual(limits.repair_jobs_max, h.count);
    try testing.expectEqual(5, h.dropped);
}

test "a bucket gives its rate and no more than its burst" {
    var b: Bucket = .init(1000, 0);
    b.take(1000);
    b.refill(1_000_000, 100_000);
    try testing.expectEqual(100, b.tokens);
    try testing.expectEqual(1_000_000 + 9_000_000, b.ready_ns(1000, 100_000));
    b.refill(10_000_000_000, 100_000);
    try testing.expectEqual(1000, b.tokens);
}

test "a request is answered with a window at most" {
    var h: RetransmitHandler = .{};
    h.request(1000, ask(0, 1000, 0, 1));
    h.advance(1001, .{ .msg = 10 }, 5);
    try testing.expectEqual(3, h.peek().?.left);
    h.advance(1002, .{ .msg = 20 }, 3);
    try testing.expectEqual(0, h.count);
}
