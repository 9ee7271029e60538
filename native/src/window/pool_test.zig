//! Tests of the chunk pool and its allocators: models from seeds, and two threads.

const std = @import("std");
const limits = @import("../limits.zig");
const pool_file = @import("pool.zig");

const testing = std.testing;
const Bump = pool_file.Bump;
const ChunkPool = pool_file.ChunkPool;

const TestPool = struct {
    memory: []align(limits.page_bytes) u8,
    pool: ChunkPool,

    fn init(chunks: u32) !TestPool {
        const alignment: std.mem.Alignment = comptime .fromByteUnits(limits.page_bytes);
        const bytes = @as(u64, chunks) * limits.chunk_bytes_min;
        const memory = try testing.allocator.alignedAlloc(u8, alignment, bytes);
        return .{ .memory = memory, .pool = try .init(testing.allocator, .{
            .base = memory.ptr,
            .bytes = bytes,
            .chunk_bytes = limits.chunk_bytes_min,
        }) };
    }

    fn deinit(self: *TestPool) void {
        self.pool.deinit(testing.allocator);
        testing.allocator.free(self.memory);
    }
};

test "single chunks are the lowest free ones, large runs come from the high end" {
    var t: TestPool = try .init(200);
    defer t.deinit();
    const pool = &t.pool;
    for (0..70) |i| try testing.expectEqual(@as(u32, @intCast(i)), pool.take(1).?);
    pool.release(66, 1);
    pool.release(3, 1);
    try testing.expectEqual(3, pool.take(1).?);
    try testing.expectEqual(66, pool.take(1).?);
    try testing.expectEqual(70, pool.take(1).?);
    // 25 chunks are 1/8: from the low end; 26 from the high end.
    try testing.expectEqual(71, pool.take(25).?);
    try testing.expectEqual(174, pool.take(26).?);
    try testing.expectEqual(148, pool.take(26).?);
    try testing.expectEqual(52, pool.free_count());
    try testing.expectEqual(null, pool.take(53));
    try testing.expectEqual(96, pool.take(52).?);
    try testing.expectEqual(0, pool.free_count());
    try testing.expectEqual(null, pool.take(1));
    pool.release(0, 200);
    try testing.expectEqual(200, pool.free_count());
    try testing.expectEqual(0, pool.take(200).?);
}

test "chunks go back with their last reference" {
    var t: TestPool = try .init(70);
    defer t.deinit();
    const pool = &t.pool;
    try testing.expectEqual(0, pool.take(3).?);
    pool.retain(1, 2);
    pool.release(0, 3);
    try testing.expectEqual(68, pool.free_count());
    try testing.expect(!pool.take_at(2, 1));
    try testing.expect(pool.take_at(3, 67));
    try testing.expect(!pool.take_at(70, 1));
    try testing.expect(!pool.take_at(69, 2));
    try testing.expectEqual(0, pool.take(1).?);
    pool.release(1, 1);
    pool.release(2, 1);
    try testing.expectEqual(1, pool.take(2).?);
}

test "runs of every length at every place" {
    var t: TestPool = try .init(131);
    defer t.deinit();
    const pool = &t.pool;
    for (1..131) |count| {
        for (0..131 - count) |hole| {
            // All used but [hole, hole + count): exactly that is found.
            try testing.expect(pool.take_at(0, 131));
            pool.release(@intCast(hole), @intCast(count));
            try testing.expectEqual(null, pool.take(@intCast(count + 1)));
            try testing.expectEqual(@as(u32, @intCast(hole)), pool.take(@intCast(count)).?);
            pool.release(0, 131);
        }
    }
}

test "many allocators: nothing overlaps, waste is bounded, and all comes back" {
    for (0..40) |seed| try model_bump(seed);
}

const Live = struct { bump: u32, offset: u64, bytes: u64, fill: u8 };

/// One seed of the model: allocations of several allocators with their bytes, freed about in order.
fn model_bump(seed: u64) !void {
    var t: TestPool = try .init(256);
    defer t.deinit();
    const pool = &t.pool;
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    const bump_count = random.intRangeAtMost(u32, 1, 5);
    var bumps: [5]Bump = undefined;
    for (bumps[0..bump_count]) |*bump| bump.* = Bump.init(pool).?;
    var live: std.ArrayList(Live) = .empty;
    defer live.deinit(testing.allocator);
    const bytes_max: u64 = if (seed % 2 == 0) 2000 else 60_000;
    for (0..3000) |_| {
        const index = random.uintLessThan(u32, bump_count);
        const bump = &bumps[index];
        if (random.uintLessThan(u32, 100) < 55) {
            const bytes = random.intRangeAtMost(u64, 1, bytes_max);
            const offset = bump.alloc(bytes, 8) orelse {
                try testing.expect(live.items.len > 0);
                continue;
            };
            try testing.expect(offset % 8 == 0 and offset + bytes <= pool.bytes);
            var entry: Live = .{ .bump = index, .offset = offset, .bytes = bytes, .fill = 0 };
            if (!resize(bump, &entry, random)) continue;
            entry.fill = random.int(u8);
            @memset(pool.slice(entry.offset, entry.bytes), entry.fill);
            try live.append(testing.allocator, entry);
        } else if (live.items.len > 0) {
            // In order but for a few.
            const at = @min(random.uintLessThan(usize, 4), live.items.len - 1);
            const entry = live.orderedRemove(at);
            try expect_filled(pool, entry);
            pool.free(entry.offset, entry.bytes);
        }
    }
    for (live.items) |entry| try expect_filled(pool, entry);
    while (live.pop()) |entry| pool.free(entry.offset, entry.bytes);
    // Whatever is still open is idle, and all of it can be had at once.
    const all = pool.take(256) orelse return error.NotAllFree;
    pool.release(all, 256);
    for (bumps[0..bump_count]) |*bump| bump.close();
    try testing.expectEqual(256, pool.free_count());
}

/// What a program does between `malloc` and `send`. False when it gave the allocation up.
fn resize(bump: *Bump, entry: *Live, random: std.Random) bool {
    const now = entry.bytes;
    switch (random.uintLessThan(u32, 6)) {
        0 => {
            entry.bytes = random.intRangeAtMost(u64, 1, now);
            bump.shrink_last(entry.offset, now, entry.bytes);
        },
        1 => {
            const wanted = now + random.uintLessThan(u64, 10_000);
            if (bump.grow_last(entry.offset, now, wanted)) entry.bytes = wanted;
        },
        2 => {
            bump.cancel(entry.offset, now);
            return false;
        },
        else => {},
    }
    return true;
}

fn expect_filled(pool: *const ChunkPool, entry: Live) !void {
    for (pool.slice(entry.offset, entry.bytes)) |byte| {
        if (byte != entry.fill) return error.Overlap;
    }
}

test "chunks in use have less than twice the bytes that live in them, and the open one" {
    var prng: std.Random.DefaultPrng = .init(0xb0);
    const random = prng.random();
    for ([_]u64{ 100, 500, 900, 2100, 4000, 4097, 5000, 9000, 30_000 }) |bytes_max| {
        var t: TestPool = try .init(1024);
        defer t.deinit();
        var bump = Bump.init(&t.pool).?;
        // Every second chunk is somebody else's: nothing can be extended.
        if (bytes_max <= 4096) {
            var at: u32 = 0;
            while (at < 1024) : (at += 2) _ = t.pool.take_at(at, 1);
        }
        const before = t.pool.free_count();
        var live: u64 = 0;
        while (true) {
            const bytes = random.intRangeAtMost(u64, bytes_max / 2 + 1, bytes_max);
            _ = bump.alloc(bytes, 8) orelse break;
            live += std.mem.alignForward(u64, bytes, 8);
            const used = @as(u64, before - t.pool.free_count()) * t.pool.chunk_bytes;
            try testing.expect(used < 2 * live + t.pool.chunk_bytes);
            const small = bytes_max <= t.pool.chunk_bytes / limits.bump_small_divisor;
            if (small) try testing.expect(used <= live * 8 / 7 + t.pool.chunk_bytes);
        }
        try testing.expect(live > 0);
    }
}

/// A message of the model below: which allocator made it, and how many bytes that one had given out
/// before it.
const Sent = struct { bump: u32, offset: u64, bytes: u64, at: u64 };

/// Several threads send messages of all sizes to several windows, which are acknowledged each in
/// its own order and at its own pace, one of them hardly at all for a while.
const Traffic = struct {
    const bumps_count = 6;
    const windows_count = 5;
    const chunks = 4096;

    test_pool: TestPool,
    random: std.Random,
    bumps: [bumps_count]Bump = undefined,
    /// Bytes that each allocator has given out.
    given: [bumps_count]u64 = @splat(0),
    live: [bumps_count]u64 = @splat(0),
    windows: [windows_count]std.ArrayList(Sent) = @splat(.empty),
    first: [windows_count]usize = @splat(0),
    refused: u32 = 0,

    fn send(self: *Traffic) !void {
        const bump = self.random.uintLessThan(u32, bumps_count);
        const window = self.random.uintLessThan(u32, windows_count);
        // As many of each order of magnitude: 8 bytes to 256 KiB, which are 64 chunks.
        const most = @as(u64, 8) << self.random.uintLessThan(u6, 16);
        const bytes = self.random.intRangeAtMost(u64, most / 2 + 1, most);
        const offset = self.bumps[bump].alloc(bytes, 8) orelse {
            self.refused += 1;
            return;
        };
        try self.windows[window].append(testing.allocator, .{
            .bump = bump,
            .offset = offset,
            .bytes = bytes,
            .at = self.given[bump],
        });
        self.given[bump] += std.mem.alignForward(u64, bytes, 8);
        self.live[bump] += std.mem.alignForward(u64, bytes, 8);
    }

    fn acknowledge(self: *Traffic, window: usize) void {
        const sent = self.windows[window].items[self.first[window]];
        self.first[window] += 1;
        self.live[sent.bump] -= std.mem.alignForward(u64, sent.bytes, 8);
        self.test_pool.pool.free(sent.offset, sent.bytes);
    }

    fn waiting(self: *const Traffic, window: usize) usize {
        return self.windows[window].items.len - self.first[window];
    }

    /// Bytes from the oldest message of each allocator that is still kept to its newest.
    fn spans(self: *const Traffic) u64 {
        var oldest = self.given;
        for (&self.windows, self.first) |*window, first| {
            for (window.items[first..]) |*sent| {
                oldest[sent.bump] = @min(oldest[sent.bump], sent.at);
            }
        }
        var sum: u64 = 0;
        for (self.given, oldest) |given, from| sum += given - from;
        return sum;
    }

    /// What `pool.zig` promises whatever the program does: chunks in use have less than twice the
    /// bytes of the spans, and two chunks for each allocator (the one that the span begins in, and
    /// the open one). And what comes of it here: a fifth over what lives (measured: 11 % at most,
    /// 5 % on the average).
    fn expect_bounded(self: *const Traffic) !void {
        const pool = &self.test_pool.pool;
        const used = @as(u64, chunks - pool.free_count()) * pool.chunk_bytes;
        const slack = @as(u64, 2 * bumps_count) * pool.chunk_bytes;
        const span = self.spans();
        var live: u64 = 0;
        for (self.live) |bytes| live += bytes;
        try testing.expect(live <= span and live <= used);
        try testing.expect(used < 2 * span + slack);
        if (live > pool.bytes / 4) try testing.expect(used < live + live / 5);
    }

    /// Everything was acknowledged: all can be had at once, while the allocators are open.
    fn expect_all_back(self: *Traffic) !void {
        const all = self.test_pool.pool.take(chunks) orelse return error.NotAllFree;
        self.test_pool.pool.release(all, chunks);
    }
};

test "windows out of step: memory in use stays bounded, and all of it comes back" {
    for (0..6) |seed| {
        var prng: std.Random.DefaultPrng = .init(seed);
        var t: Traffic = .{ .test_pool = try .init(Traffic.chunks), .random = prng.random() };
        defer t.test_pool.deinit();
        defer for (&t.windows) |*window| window.deinit(testing.allocator);
        for (&t.bumps) |*bump| bump.* = Bump.init(&t.test_pool.pool).?;
        for (0..3) |_| {
            const slow = t.random.uintLessThan(usize, Traffic.windows_count);
            for (0..4000) |step| {
                try t.send();
                for (0..Traffic.windows_count) |window| {
                    // In bursts; the slow one keeps five times as many.
                    const keep: usize = if (window == slow) 200 else 40;
                    if (t.waiting(window) < keep) continue;
                    for (0..t.random.uintAtMost(usize, 30)) |_| t.acknowledge(window);
                }
                if (step % 50 == 0) try t.expect_bounded();
            }
            for (0..Traffic.windows_count) |window| {
                while (t.waiting(window) > 0) t.acknowledge(window);
            }
            try t.expect_all_back();
        }
        // About half of the arena lives: nothing is refused for want of neighbours.
        try testing.expectEqual(0, t.refused);
        for (&t.bumps) |*bump| bump.close();
        try testing.expectEqual(Traffic.chunks, t.test_pool.pool.free_count());
    }
}

test "allocations lie one behind the other, and the last one gives its bytes back" {
    var t: TestPool = try .init(16);
    defer t.deinit();
    const pool = &t.pool;
    var bump = Bump.init(pool).?;
    try testing.expectEqual(0, bump.alloc(13, 8).?);
    try testing.expectEqual(16, bump.alloc(100, 8).?);
    bump.shrink_last(16, 100, 4);
    try testing.expectEqual(24, bump.alloc(8, 8).?);
    // A large one goes on from here into the chunks behind.
    try testing.expectEqual(32, bump.alloc(3 * 4096, 8).?);
    try testing.expectEqual(12, pool.free_count());
    bump.shrink_last(32, 3 * 4096, 4096);
    try testing.expectEqual(14, pool.free_count());
    try testing.expectEqual(32 + 4096, bump.alloc(1, 8).?);
    try testing.expect(bump.grow_last(32 + 4096, 1, 2 * 4096));
    try testing.expectEqual(12, pool.free_count());
    try testing.expect(!bump.grow_last(32, 4096, 5000));
    bump.cancel(32 + 4096, 2 * 4096);
    try testing.expectEqual(14, pool.free_count());
    try testing.expectEqual(32 + 4096, bump.alloc(1, 8).?);
    // Only the last one has bytes to give; others free their chunks in any order.
    bump.shrink_last(16, 4, 1);
    for ([_][2]u64{ .{ 32, 4096 }, .{ 0, 13 }, .{ 16, 1 }, .{ 24, 8 }, .{ 32 + 4096, 1 } }) |one| {
        pool.free(one[0], one[1]);
    }
    try testing.expectEqual(15, pool.free_count());
    bump.close();
    try testing.expectEqual(16, pool.free_count());
}

test "an idle open chunk stands in nobody's way" {
    var t: TestPool = try .init(16);
    defer t.deinit();
    const pool = &t.pool;
    var one = Bump.init(pool).?;
    var other = Bump.init(pool).?;
    const first = one.alloc(10, 8).?;
    try testing.expectEqual(null, other.alloc(16 * 4096, 8));
    pool.free(first, 10);
    // Everything is free now, although `one` has a chunk open.
    const all = other.alloc(16 * 4096, 8).?;
    try testing.expectEqual(0, all);
    try testing.expectEqual(null, one.alloc(10, 8));
    pool.free(all, 16 * 4096);
    const again = one.alloc(10, 8).?;
    const beside = other.alloc(10, 8).?;
    try testing.expect(again >> pool.chunk_shift != beside >> pool.chunk_shift);
    pool.free(again, 10);
    pool.free(beside, 10);
    one.close();
    other.close();
    try testing.expectEqual(16, pool.free_count());
}

test "allocators are counted, and their ids come back" {
    var t: TestPool = try .init(8);
    defer t.deinit();
    const bumps = try testing.allocator.alloc(Bump, limits.bump_owners_max);
    defer testing.allocator.free(bumps);
    for (bumps) |*bump| bump.* = Bump.init(&t.pool).?;
    try testing.expectEqual(null, Bump.init(&t.pool));
    const id = bumps[100].id;
    bumps[100].close();
    bumps[100] = Bump.init(&t.pool).?;
    try testing.expectEqual(id, bumps[100].id);
    for (bumps) |*bump| bump.close();
}

/// Threads that allocate, and one another's memory freed: a queue from each to its neighbour.
const Stress = struct {
    const threads = 2;
    const rounds = 150_000;
    const queue_slots = 256;

    const Queue = struct {
        items: [queue_slots]Live = undefined,
        written: std.atomic.Value(u64) = .init(0),
        read: std.atomic.Value(u64) = .init(0),
    };

    pool: *ChunkPool,
    queues: [threads]Queue = @splat(.{}),
    failed: std.atomic.Value(bool) = .init(false),

    fn run(self: *Stress, index: u32) void {
        self.work(index) catch self.failed.store(true, .monotonic);
    }

    fn work(self: *Stress, index: u32) !void {
        var prng: std.Random.DefaultPrng = .init(index);
        const random = prng.random();
        var bump = Bump.init(self.pool) orelse return error.NoOwner;
        const out = &self.queues[index];
        const in = &self.queues[(index + 1) % threads];
        for (0..rounds) |round| {
            if (self.failed.load(.monotonic)) return;
            try self.take_from(in, random.uintLessThan(u32, 4));
            if (out.written.load(.monotonic) - out.read.load(.acquire) == queue_slots) continue;
            const large = random.uintLessThan(u32, 50) == 0;
            const bytes = random.intRangeAtMost(u64, 1, if (large) 200_000 else 1500);
            const offset = bump.alloc(bytes, 8) orelse continue;
            const fill: u8 = @truncate(round *% 2 + index);
            @memset(self.pool.slice(offset, bytes), fill);
            const at = out.written.load(.monotonic);
            out.items[at % queue_slots] = .{
                .bump = index,
                .offset = offset,
                .bytes = bytes,
                .fill = fill,
            };
            out.written.store(at + 1, .release);
        }
        bump.close();
    }

    fn take_from(self: *Stress, queue: *Queue, count: u32) !void {
        for (0..count) |_| {
            const at = queue.read.load(.monotonic);
            if (at == queue.written.load(.acquire)) return;
            const entry = queue.items[at % queue_slots];
            try expect_filled(self.pool, entry);
            self.pool.free(entry.offset, entry.bytes);
            queue.read.store(at + 1, .release);
        }
    }
};

test "two threads allocate and free each other's memory" {
    var t: TestPool = try .init(300);
    defer t.deinit();
    var stress: Stress = .{ .pool = &t.pool };
    var threads: [Stress.threads]std.Thread = undefined;
    for (&threads, 0..) |*thread, i| {
        thread.* = try std.Thread.spawn(.{}, Stress.run, .{ &stress, @as(u32, @intCast(i)) });
    }
    for (threads) |thread| thread.join();
    try testing.expect(!stress.failed.load(.monotonic));
    for (&stress.queues) |*queue| try stress.take_from(queue, Stress.queue_slots);
    try testing.expectEqual(300, t.pool.free_count());
    try testing.expectEqual(0, t.pool.take(300).?);
}
