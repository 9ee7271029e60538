//! The ordered log: what goes in comes out, memory goes back, and nobody waits for ever.

const std = @import("std");
const limits = @import("../limits.zig");
const record = @import("record.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Log = @import("log.zig").Log;
const Descriptor = record.Descriptor;
const Meta = record.Meta;
const testing = std.testing;

const TestLog = struct {
    memory: []align(limits.page_bytes) u8,
    pool: *ChunkPool,
    log: Log,

    fn init(chunks: u32, first_sqn: u64) !TestLog {
        const bytes = @as(u64, chunks) * limits.chunk_bytes_min;
        const alignment: std.mem.Alignment = comptime .fromByteUnits(limits.page_bytes);
        const memory = try testing.allocator.alignedAlloc(u8, alignment, bytes);
        const pool = try testing.allocator.create(ChunkPool);
        pool.* = try .init(testing.allocator, .{
            .base = memory.ptr,
            .bytes = bytes,
            .chunk_bytes = limits.chunk_bytes_min,
        });
        const log: Log = try .init(testing.allocator, pool, first_sqn);
        return .{ .memory = memory, .pool = pool, .log = log };
    }

    fn deinit(self: *TestLog) void {
        self.log.deinit(testing.allocator);
        self.pool.deinit(testing.allocator);
        testing.allocator.destroy(self.pool);
        testing.allocator.free(self.memory);
    }
};

fn test_meta(no: u64) Meta {
    return .{
        .msg_no = no * 3,
        .time_ms = no + 7,
        .stream = @truncate(no % 5),
        .msg_arg = @truncate(no),
        .tx_arg = @truncate(no >> 3),
    };
}

/// Length and content of test message `no`, so that the consumer can check both.
fn test_length(no: u64, max: u32) u32 {
    var hash: u64 = (no + 1) *% 0x9e37_79b9_7f4a_7c15;
    hash ^= hash >> 29;
    if (hash % 16 == 0) return @intCast(hash / 16 % max);
    return @intCast(hash / 16 % 300);
}

fn test_fill_payload(payload: []u8, no: u64) void {
    for (payload, 0..) |*byte, i| byte.* = @truncate(no *% 31 +% i);
}

fn expect_record(log: *const Log, descriptor: *const Descriptor, no: u64, max: u32) !void {
    try testing.expectEqual(@as(f64, @floatFromInt(no)), descriptor.sqn);
    try testing.expectEqual(test_length(no, max), descriptor.length);
    const meta = test_meta(no);
    try testing.expectEqual(meta.stream, descriptor.stream);
    try testing.expectEqual(@as(u32, meta.tx_arg) << 16 | meta.msg_arg, descriptor.args);
    const header = log.header_of(descriptor);
    try testing.expectEqual(no, header.sqn);
    try testing.expectEqual(meta.msg_no, header.msg_no);
    try testing.expectEqual(meta.time_ms, header.time_ms);
    for (log.payload_of(descriptor), 0..) |byte, i| {
        if (byte != @as(u8, @truncate(no *% 31 +% i))) return error.WrongContent;
    }
}

/// Appends message `no`, a part of them by reserve and commit. False when there is no room.
fn append_test_message(log: *Log, buffer: []u8, no: u64, max: u32) !bool {
    const length = test_length(no, max);
    if (no % 3 == 0 and length > 1000) {
        const extent = log.reserve(length) orelse return false;
        test_fill_payload(extent.payload, no);
        const sqn = log.commit(extent, test_meta(no)) catch {
            log.abort(extent);
            return false;
        };
        try testing.expectEqual(no, sqn);
    } else {
        test_fill_payload(buffer[0..length], no);
        const sqn = log.append(test_meta(no), buffer[0..length]) catch return false;
        try testing.expectEqual(no, sqn);
    }
    return true;
}

test "messages come out as they went in, and memory goes back" {
    var t: TestLog = try .init(64, 5);
    defer t.deinit();
    var prng: std.Random.DefaultPrng = .init(0x10c);
    const random = prng.random();
    const max = 20000;
    const buffer = try testing.allocator.alloc(u8, max);
    defer testing.allocator.free(buffer);
    var descriptors: [50]Descriptor = undefined;
    var next_in: u64 = 5;
    var next_out: u64 = 5;
    var processed: u64 = 5;
    for (0..40000) |_| {
        switch (random.uintLessThan(u32, 8)) {
            0...3 => if (try append_test_message(&t.log, buffer, next_in, max)) {
                next_in += 1;
            },
            4 => t.log.publish(),
            5 => {
                const count = t.log.fill(&descriptors, random.intRangeAtMost(u32, 0, 50));
                for (descriptors[0..count]) |*descriptor| {
                    try expect_record(&t.log, descriptor, next_out, max);
                    next_out += 1;
                }
                try testing.expectEqual(next_out, t.log.read_next());
            },
            6 => {
                processed = random.intRangeAtMost(u64, processed, next_out);
                t.log.processed(processed);
            },
            else => if (random.uintLessThan(u32, 4) == 0) {
                t.log.rewind();
                next_out = processed;
            },
        }
    }
    try testing.expect(next_in > 10000);
    t.log.publish();
    while (t.log.fill(&descriptors, 50) > 0) t.log.processed(t.log.read_next());
    t.log.processed(t.log.read_next());
    try testing.expectEqual(next_in, t.log.processed_next());
    // Only the open segment is still in use, and even that can be had.
    try testing.expect(t.pool.free_count() >= 63);
    const extent = t.log.reserve(@intCast(t.log.payload_bytes_max())).?;
    t.log.abort(extent);
}

test "the largest message fits whenever everything is processed" {
    var t: TestLog = try .init(32, 0);
    defer t.deinit();
    var descriptors: [256]Descriptor = undefined;
    var small: [500]u8 = @splat(1);
    const max: u32 = @intCast(t.log.payload_bytes_max());
    var appended: u64 = 0;
    for (0..200) |round| {
        // A backlog of another height in each round, so that the open segment stands anywhere.
        for (0..round % 200 + 1) |_| {
            _ = t.log.append(test_meta(appended), &small) catch break;
            appended += 1;
        }
        t.log.publish();
        while (t.log.fill(&descriptors, 256) > 0) {}
        try testing.expectEqual(appended, t.log.read_next());
        t.log.processed(appended);
        const extent = t.log.reserve(max) orelse return error.NoRoom;
        @memset(extent.payload, @truncate(round));
        // The reference still finds room: the last chunk is for it.
        try testing.expectEqual(appended, try t.log.commit(extent, test_meta(appended)));
        appended += 1;
        t.log.publish();
        try testing.expectEqual(1, t.log.fill(&descriptors, 256));
        try testing.expectEqual(max, descriptors[0].length);
        const last = t.log.payload_of(&descriptors[0])[max - 1];
        try testing.expectEqual(@as(u8, @truncate(round)), last);
        t.log.rewind();
        try testing.expectEqual(1, t.log.fill(&descriptors, 256));
        try testing.expectEqual(max, descriptors[0].length);
        t.log.processed(appended);
    }
}

test "a full log refuses and goes on when there is room" {
    var t: TestLog = try .init(8, 0);
    defer t.deinit();
    var payload: [1000]u8 = @splat(9);
    var count: u64 = 0;
    while (true) : (count += 1) _ = t.log.append(test_meta(count), &payload) catch break;
    try testing.expectEqual(8 * (limits.chunk_bytes_min / 1040), count);
    try testing.expectEqual(null, t.log.reserve(10));
    t.log.publish();
    var descriptors: [64]Descriptor = undefined;
    const read = t.log.fill(&descriptors, 64);
    try testing.expectEqual(count, read);
    t.log.processed(4);
    _ = try t.log.append(test_meta(count), &payload);
    try testing.expectEqual(0, t.log.fill(&descriptors, 64));
    t.log.rewind();
    try testing.expectEqual(count - 4, t.log.fill(&descriptors, 64));
    try testing.expectEqual(4, descriptors[0].sqn);
}

test "one thread appends, another one consumes" {
    var t: TestLog = try .init(64, 0);
    defer t.deinit();
    const total = 200_000;
    const max = 30000;
    const Appender = struct {
        fn run(log: *Log, failed: *std.atomic.Value(bool)) void {
            var buffer: [max]u8 = undefined;
            var no: u64 = 0;
            while (no < total and !failed.load(.monotonic)) {
                const done = append_test_message(log, &buffer, no, max) catch {
                    failed.store(true, .monotonic);
                    return;
                };
                if (done) no += 1;
                if (no % 7 == 0 or !done) log.publish();
                if (!done) std.Thread.yield() catch {};
            }
            log.publish();
        }
    };
    var failed: std.atomic.Value(bool) = .init(false);
    const thread = try std.Thread.spawn(.{}, Appender.run, .{ &t.log, &failed });
    defer thread.join();
    errdefer failed.store(true, .monotonic);
    var descriptors: [64]Descriptor = undefined;
    var no: u64 = 0;
    var round: u64 = 0;
    while (no < total) : (round += 1) {
        if (failed.load(.monotonic)) return error.AppenderFailed;
        const count = t.log.fill(&descriptors, 64);
        if (count == 0) std.Thread.yield() catch {};
        for (descriptors[0..count], no..) |*descriptor, expected| {
            try expect_record(&t.log, descriptor, expected, max);
        }
        // Now and then a part of a batch is refused and offered again.
        const taken = if (round % 5 == 0) count / 2 else count;
        no += taken;
        t.log.processed(no);
        if (taken < count) t.log.rewind();
    }
}
