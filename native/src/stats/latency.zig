//! Latency statistics (`LatencyStatisticCount`, guide 10.1): how long messages took from one place
//! to another, of the last so many.
//!
//! Two threads at most: the first one notes when messages pass it (`mark`, once for a run of
//! them), the second one when they reach it (`reach`). Between the two lies a ring of marks; where
//! it is full, messages go by unmeasured. The samples are kept in a ring, and counted by size in a
//! histogram, from which the oldest is taken when a new one comes: a quantile is a walk over 1024
//! counters, however many samples are kept. Sizes are in nanoseconds, to 3 %, up to 68 seconds.
//!
//! No clock is read here. What is not configured has no `Latency`: a null pointer is compared.

const std = @import("std");
const assert = @import("../assert.zig").assert;
const snapshot = @import("snapshot.zig");

const marks_min = 4096;
const marks_max = 64 * 1024;
/// Each power of two is cut into so many parts.
const sub_bits = 5;
const sub_count = 1 << sub_bits;
/// 68 seconds; what took longer counts as that.
const value_bits = 36;
const value_max: u64 = (1 << value_bits) - 1;
const bucket_count = (value_bits - sub_bits + 1) * sub_count;

/// Messages [from, to) passed at a time.
const Mark = struct { from: u64, to: u64, at_ns: u64 };

pub const Latency = struct {
    marks: []Mark,
    /// Bucket of each kept sample.
    samples: []u16,
    buckets: [bucket_count]u32 = @splat(0),

    // ---- the first thread's
    /// When what is marked next passed.
    now_ns: u64 = 0,
    /// The next message to be marked.
    next: u64,
    head: std.atomic.Value(u64) align(64) = .init(0),

    // ---- the second thread's
    tail: std.atomic.Value(u64) align(64) = .init(0),
    /// The next message to be measured.
    reached: u64,
    /// Samples ever taken.
    total: u64 = 0,
    /// Samples in the ring, and where the next one goes.
    kept: usize = 0,
    place: usize = 0,

    /// `LatencyStatisticCount`; null: nobody wants to know.
    pub fn wanted(gpa: std.mem.Allocator, count: u32, first: u64) error{OutOfMemory}!?*Latency {
        return if (count > 0) try create(gpa, count, first) else null;
    }

    /// `count`: samples that are kept. `first`: the first message.
    pub fn create(
        gpa: std.mem.Allocator,
        count: u32,
        first: u64,
    ) error{OutOfMemory}!*Latency {
        assert(count > 0);
        const self = try gpa.create(Latency);
        errdefer gpa.destroy(self);
        const runs = std.math.clamp(count, marks_min, marks_max);
        const marks = try gpa.alloc(Mark, std.math.ceilPowerOfTwoAssert(u32, runs));
        errdefer gpa.free(marks);
        const samples = try gpa.alloc(u16, count);
        self.* = .{ .marks = marks, .samples = samples, .next = first, .reached = first };
        return self;
    }

    pub fn destroy(self: *Latency, gpa: std.mem.Allocator) void {
        gpa.free(self.marks);
        gpa.free(self.samples);
        gpa.destroy(self);
    }

    // ---- first thread

    /// Everything below `to` has passed, at `now_ns`. Before the second thread can see it.
    pub fn mark(self: *Latency, to: u64) void {
        if (to == self.next) return;
        const from = self.next;
        self.next = to;
        // Nobody said when: it comes from the record, or numbers were jumped over.
        if (self.now_ns == 0 or to < from) return;
        const head = self.head.load(.monotonic);
        if (head - self.tail.load(.acquire) == self.marks.len) return;
        const mask = self.marks.len - 1;
        self.marks[head & mask] = .{ .from = from, .to = to, .at_ns = self.now_ns };
        self.head.store(head + 1, .release);
    }

    // ---- second thread

    /// Everything below `to` is there.
    pub fn reach(self: *Latency, to: u64, now_ns: u64) void {
        if (to <= self.reached) return;
        const mask = self.marks.len - 1;
        const head = self.head.load(.acquire);
        var tail = self.tail.load(.monotonic);
        while (tail != head) {
            const m = &self.marks[tail & mask];
            const begin = @max(m.from, self.reached);
            const end = @min(m.to, to);
            if (begin < end) self.take(now_ns -| m.at_ns, end - begin);
            if (m.to > to) break;
            tail += 1;
        }
        self.tail.store(tail, .release);
        self.reached = to;
    }

    fn take(self: *Latency, ns: u64, count: u64) void {
        const bucket = bucket_of(ns);
        // All are alike: of more than are kept the first ones would be gone at once.
        for (0..@min(count, self.samples.len)) |_| {
            if (self.kept == self.samples.len) {
                add(&self.buckets[self.samples[self.place]], std.math.maxInt(u32));
            } else self.kept += 1;
            self.samples[self.place] = bucket;
            self.place = if (self.place + 1 < self.samples.len) self.place + 1 else 0;
            add(&self.buckets[bucket], 1);
        }
        @atomicStore(u64, &self.total, self.total + count, .monotonic);
    }

    /// The largest value takes one away.
    fn add(counter: *u32, value: u32) void {
        @atomicStore(u32, counter, counter.* +% value, .monotonic);
    }

    // ---- any thread (while the second one goes on, a little of both states)

    pub fn stats(self: *const Latency) snapshot.LatencyStats {
        var s = std.mem.zeroes(snapshot.LatencyStats);
        s.total = @atomicLoad(u64, &self.total, .monotonic);
        for (&self.buckets) |*b| s.kept += @atomicLoad(u32, b, .monotonic);
        s.capacity = self.samples.len;
        if (s.kept == 0) return s;
        s.min_ns = self.quantile(1);
        s.p50_ns = self.quantile(rank(s.kept, 500));
        s.p90_ns = self.quantile(rank(s.kept, 900));
        s.p99_ns = self.quantile(rank(s.kept, 990));
        s.p999_ns = self.quantile(rank(s.kept, 999));
        s.max_ns = self.quantile(s.kept);
        return s;
    }

    fn rank(kept: u64, per_mille: u64) u64 {
        return @max(1, (kept * per_mille + 999) / 1000);
    }

    /// Size of the sample that has `place` - 1 smaller ones in front of it: its bucket's largest.
    fn quantile(self: *const Latency, place: u64) u64 {
        var seen: u64 = 0;
        for (&self.buckets, 0..) |*b, i| {
            seen += @atomicLoad(u32, b, .monotonic);
            if (seen >= place) return largest_in(i);
        }
        return value_max;
    }
};

fn bucket_of(ns: u64) u16 {
    const value = @min(ns, value_max);
    if (value < sub_count) return @intCast(value);
    const exponent = std.math.log2_int(u64, value) - sub_bits;
    const sub = (value >> exponent) & (sub_count - 1);
    return @intCast((@as(u64, exponent) + 1) * sub_count + sub);
}

fn largest_in(bucket: usize) u64 {
    if (bucket < sub_count) return bucket;
    const exponent: u6 = @intCast(bucket / sub_count - 1);
    const first = (sub_count + @as(u64, bucket % sub_count)) << exponent;
    return first + (@as(u64, 1) << exponent) - 1;
}

const testing = std.testing;

test "buckets hold what is within 3 % of their largest" {
    for ([_]u64{ 0, 1, 31, 32, 33, 1000, 123_456, 99_999_999, value_max }) |ns| {
        const bucket = bucket_of(ns);
        try testing.expect(bucket < bucket_count);
        const largest = largest_in(bucket);
        try testing.expect(largest >= ns and largest - ns <= ns / sub_count);
        if (bucket > 0) try testing.expect(largest_in(bucket - 1) < ns);
    }
    try testing.expectEqual(bucket_of(value_max), bucket_of(std.math.maxInt(u64)));
}

test "the last samples count, from when they passed to when they came" {
    var l = try Latency.create(testing.allocator, 10, 100);
    defer l.destroy(testing.allocator);
    l.now_ns = 1000;
    l.mark(103);
    l.now_ns = 1010;
    l.mark(104);
    l.reach(102, 1020); // Two of the first three.
    try testing.expectEqual(2, l.stats().total);
    try testing.expectEqual(20, l.stats().max_ns);
    l.reach(104, 1030);
    try testing.expectEqual(4, l.stats().kept);
    try testing.expectEqual(20, l.stats().p50_ns);
    try testing.expectEqual(20, l.stats().min_ns);
    try testing.expectEqual(30, l.stats().max_ns);
    l.now_ns = 2000;
    for (104..111) |no| l.mark(no + 1);
    l.reach(111, 2007);
    // Of eleven samples the first one is gone.
    try testing.expectEqual(11, l.stats().total);
    try testing.expectEqual(10, l.stats().kept);
    try testing.expectEqual(7, l.stats().min_ns);
    try testing.expectEqual(30, l.stats().max_ns);
    l.mark(200);
    l.reach(200, 2001);
    try testing.expectEqual(100, l.stats().total);
    try testing.expectEqual(10, l.stats().kept);
    try testing.expectEqual(1, l.stats().max_ns);
    l.reach(200, 9999); // Given out again: it was measured.
    try testing.expectEqual(100, l.stats().total);
}

test "what nobody marked is not measured" {
    var l = try Latency.create(testing.allocator, 4, 0);
    defer l.destroy(testing.allocator);
    l.mark(5); // From the record: no time.
    l.now_ns = 50;
    l.mark(6);
    l.reach(6, 60);
    try testing.expectEqual(1, l.stats().total);
    try testing.expectEqual(10, l.stats().p50_ns);
    // The ring of marks is full: these go by.
    for (6..6 + marks_min + 100) |no| l.mark(no + 1);
    l.reach(6 + marks_min + 100, 70);
    try testing.expectEqual(1 + marks_min, l.stats().total);
    l.mark(9000);
    l.reach(9000, 80);
    try testing.expectEqual(4, l.stats().kept);
    try testing.expectEqual(30, l.stats().min_ns);
}
