//! Several threads send on one transmitter, through the functions that JavaScript calls: contents,
//! each thread's order, refusals, and a context that stops and closes in the middle of it.

const std = @import("std");
const linux = std.os.linux;
const abi = @import("../abi.zig");
const clock = @import("clock.zig");
const options_file = @import("options.zig");
const files = @import("../window/files.zig");
const Descriptor = @import("../order/record.zig").Descriptor;

const testing = std.testing;

extern fn rcm_context_start(json: ?[*]const u8, length: u32, waker_id: i32) i32;
extern fn rcm_context_state(handle: u32) i32;
extern fn rcm_context_drain(handle: u32) i32;
extern fn rcm_context_close(handle: u32) i32;
extern fn rcm_work(handle: u32) i32;
extern fn rcm_drain(handle: u32, processed: u32, max: u32) i32;
extern fn rcm_region(handle: u32, which: u32, out: *[2]f64) i32;
extern fn rcm_tx_share(handle: u32) i32;
extern fn rcm_tx_connected(handle: u32) i32;
extern fn rcm_tx_ready(handle: u32) i32;
extern fn rcm_tx_marks(handle: u32, marks: [*]f64) i32;
extern fn rcm_tx_flushed(handle: u32, marks: [*]f64) i32;
extern fn rcm_send_data(handle: u32, data: [*]const u8, length: u32, to: u32, arg: u32) i32;
extern fn rcm_allocator(context: u32, tx: u32, thread_no: u32) i32;
extern fn rcm_malloc(handle: u32, size: u32) f64;
extern fn rcm_realloc(handle: u32, size: u32) f64;
extern fn rcm_send(handle: u32, length: u32, partition: u32, arg: u32) i32;
extern fn rcm_sender_open(handle: u32, thread_no: u32, out: *[3]f64) i32;
extern fn rcm_sender_close(handle: u32) i32;

const partitions = 2;
const threads_max = 4;
const arena_bytes = 1 << 20;
const ok = @backingInt(abi.Status.ok);
const would_block = @backingInt(abi.Status.would_block);
const stopped = @backingInt(abi.Status.stopped);
const wait_limit_ns = 60 * clock.ns_per_s;

/// A context without threads of its own that sends to itself, over an arena of the least size.
const Bus = struct {
    context: u32,
    tx: u32,
    name: [32]u8 = undefined,
    name_len: usize = 0,
    descriptors: [*]const Descriptor = undefined,
    log: [*]const u8 = undefined,
    processed: u32 = 0,

    fn open(asynchronous: bool) !Bus {
        var self: Bus = .{ .context = 0, .tx = 0 };
        const name = try std.fmt.bufPrint(&self.name, "test{x}", .{files.random_u64() >> 16});
        self.name_len = name.len;
        errdefer self.wipe() catch {};
        // An address of its own, so that tests may run side by side.
        var ip_buffer: [16]u8 = undefined;
        const random = files.random_u64();
        const ip = try std.fmt.bufPrint(&ip_buffer, "127.{d}.{d}.{d}", .{
            1 + random % 250,
            1 + (random >> 16) % 250,
            1 + (random >> 32) % 250,
        });
        const addrs = [_][]const u8{ip};
        const port: u16 = @intCast(10_000 + (random >> 48) % 19_000);
        var sending: [partitions]options_file.TxPartition = undefined;
        var receiving: [partitions]options_file.Rx = undefined;
        for (&sending, &receiving, 0..) |*tx, *rx, i| {
            tx.* = partition_options(@intCast(i + 1), port + @as(u16, @intCast(i)), &addrs);
            tx.asynchronous = asynchronous;
            rx.* = channel_options(tx);
        }
        const tx: options_file.Tx = .{ .topic = "t", .txArg = 0, .partitions = &sending };
        const options = context_options(name, ip, &.{tx}, &receiving);
        const json = try std.json.Stringify.valueAlloc(testing.allocator, options, .{});
        defer testing.allocator.free(json);
        const handle = rcm_context_start(json.ptr, @intCast(json.len), -1);
        if (handle < 0) return error.NotStarted;
        self.context = @intCast(handle);
        self.tx = self.context << 8;
        errdefer _ = rcm_context_close(self.context);
        var place: [2]f64 = undefined;
        try testing.expectEqual(0, rcm_region(self.context, 0, &place));
        self.descriptors = @ptrFromInt(@as(usize, @intFromFloat(place[0])));
        try testing.expectEqual(0, rcm_region(self.context, 1, &place));
        self.log = @ptrFromInt(@as(usize, @intFromFloat(place[0])));
        const until_ns = clock.monotonic_ns() + wait_limit_ns;
        while (rcm_tx_connected(self.tx) < 1) {
            _ = rcm_work(self.context);
            if (clock.monotonic_ns() > until_ns) return error.NotConnected;
        }
        return self;
    }

    /// Gives everything back, the files too.
    fn close(self: *Bus) void {
        _ = rcm_context_close(self.context);
        self.wipe() catch {};
    }

    fn wipe(self: *Bus) !void {
        const ends = [_][]const u8{
            "allocator",                "t_1_sendingwindow",
            "t_1_sendingwindowblock_1", "t_1_sendingwindowblock_2",
            "t_2_sendingwindow",        "t_2_sendingwindowblock_1",
            "t_2_sendingwindowblock_2",
        };
        for (ends) |end| {
            var path: [128]u8 = undefined;
            const name = self.name[0..self.name_len];
            _ = linux.unlink(try std.fmt.bufPrintSentinel(
                &path,
                "/dev/shm/{s}_{s}",
                .{ name, end },
                0,
            ));
        }
    }

    fn sender(self: *const Bus, thread_no: u32, arena: ?*[*]u8) !u32 {
        var out: [3]f64 = undefined;
        const handle = rcm_sender_open(self.tx, thread_no, &out);
        if (handle < 0) return error.NotOpened;
        try testing.expectEqual(partitions, out[2]);
        if (arena) |a| a.* = @ptrFromInt(@as(usize, @intFromFloat(out[0])));
        return @intCast(handle);
    }

    /// Runs the agents, and takes what has come.
    fn turn(self: *Bus, check: anytype) !u32 {
        _ = rcm_work(self.context);
        const count: u32 = @intCast(rcm_drain(self.context, self.processed, 1024));
        for (self.descriptors[0..count]) |*d| {
            try check.message(d.stream, (self.log + @as(u64, d.offset8) * 8)[0..d.length]);
        }
        self.processed = count;
        return count;
    }
};

fn partition_options(no: u16, port: u16, addrs: []const []const u8) options_file.TxPartition {
    return .{
        .transportId = no,
        .partitionNo = no,
        .addrs = addrs,
        .port = port,
        .mtu = 1500,
        .asynchronous = true,
        .heartbeatIntervalMs = 100,
        .heartbeatTimeoutMs = 30_000,
        .ackIntervalMs = 10,
        .ackTimeoutMs = 30_000,
        .slowDisconnect = false,
        .groupKey = "",
        .repairFd = -1,
        .receivers = &.{},
    };
}

fn channel_options(tx: *const options_file.TxPartition) options_file.Rx {
    return .{
        .transportId = tx.transportId,
        .topic = "t",
        .partitionNo = tx.partitionNo,
        .lane = 0,
        .addrs = tx.addrs,
        .port = tx.port,
        .mtu = tx.mtu,
        .heartbeatIntervalMs = tx.heartbeatIntervalMs,
        .heartbeatTimeoutMs = tx.heartbeatTimeoutMs,
        .ackIntervalMs = tx.ackIntervalMs,
        .ackTimeoutMs = tx.ackTimeoutMs,
        .groupKey = "",
    };
}

fn context_options(
    name: []const u8,
    ip: []const u8,
    tx: []const options_file.Tx,
    rx: []const options_file.Rx,
) options_file.Options {
    return .{
        .name = name,
        .id = 1,
        .clusterId = 0,
        .prefix = "",
        .ip = ip,
        .threading = .@"inline",
        .waitStrategy = "adaptive",
        .bindCoreId = -1,
        .mcLoop = true,
        .ttl = 1,
        .socketBufferBytes = 1 << 18,
        .repairPortStart = 30_001,
        .repairPortEnd = 40_000,
        .repairPort = 0,
        .sendWindowSize = 256,
        .arenaBytes = arena_bytes,
        .maxCacheMsgCount = 1000,
        .receiveBytes = 64 << 20,
        .isHandshake = false,
        .startTimeoutMs = 5000,
        .isTotalOrder = true,
        .deliver = .poll,
        .ackManual = false,
        .usePreAllocate = false,
        .injectDropPpm = 0,
        .injectDuplicatePpm = 0,
        .injectDelayPpm = 0,
        .injectSeed = 0,
        .tx = tx,
        .rx = rx,
    };
}

/// A message: who sent it, which of that thread's it is, and bytes that follow from both.
const Head = extern struct { thread: u32, number: u32 };

fn fill_message(bytes: []u8, thread: u32, number: u32) void {
    const head: Head = .{ .thread = thread, .number = number };
    @memcpy(bytes[0..@sizeOf(Head)], std.mem.asBytes(&head));
    for (bytes[@sizeOf(Head)..], 0..) |*byte, i| byte.* = @truncate(thread *% 31 +% number +% i);
}

/// What has come of each thread.
const Check = struct {
    /// By stream (a partition) and thread: the least number that may come next.
    next: [partitions + 1][threads_max]u32 = @splat(@splat(0)),
    count: [threads_max]u64 = @splat(0),
    /// Sum of all numbers of a thread: none twice and none missing, with the count.
    sum: [threads_max]u64 = @splat(0),

    fn message(self: *Check, stream: u32, bytes: []const u8) !void {
        var head: Head = undefined;
        @memcpy(std.mem.asBytes(&head), bytes[0..@sizeOf(Head)]);
        if (head.thread >= threads_max or stream > partitions) return error.WrongContent;
        const next = &self.next[stream][head.thread];
        if (head.number < next.*) return error.WrongOrder;
        next.* = head.number + 1;
        for (bytes[@sizeOf(Head)..], 0..) |byte, i| {
            const expected: u8 = @truncate(head.thread *% 31 +% head.number +% i);
            if (byte != expected) return error.WrongContent;
        }
        self.count[head.thread] += 1;
        self.sum[head.thread] += head.number;
    }

    /// Something of every thread.
    fn has_all(self: *const Check) bool {
        return std.mem.findScalar(u64, &self.count, 0) == null;
    }

    fn expect_all(self: *const Check, thread: u32, accepted: u64) !void {
        try testing.expectEqual(accepted, self.count[thread]);
        const sum = if (accepted == 0) 0 else accepted * (accepted - 1) / 2;
        try testing.expectEqual(sum, self.sum[thread]);
    }
};

/// A thread that sends until it has sent `messages`, or is told that the context has stopped.
const Producer = struct {
    bus: *const Bus,
    thread: u32,
    messages: u32,
    handle: u32 = 0,
    arena: [*]u8 = undefined,
    accepted: u32 = 0,
    refused: std.atomic.Value(u32) = .init(0),
    was_stopped: bool = false,
    failed: ?anyerror = null,
    done: std.atomic.Value(bool) = .init(false),

    fn run(self: *Producer) void {
        self.send_all() catch |e| {
            self.failed = e;
        };
        self.done.store(true, .release);
    }

    fn send_all(self: *Producer) !void {
        self.handle = try self.bus.sender(self.thread, &self.arena);
        defer _ = rcm_sender_close(self.handle);
        var prng: std.Random.DefaultPrng = .init(self.thread);
        const random = prng.random();
        const until_ns = clock.monotonic_ns() + wait_limit_ns;
        while (self.accepted < self.messages) {
            const long = random.uintLessThan(u32, 200) == 0;
            const length = random.intRangeAtMost(u32, 8, if (long) 60_000 else 300);
            const partition = random.uintLessThan(u32, partitions + 1);
            const status = if (random.boolean())
                try self.send_copy(length, partition)
            else
                try self.send_reserved(length, partition);
            if (status == ok) {
                self.accepted += 1;
            } else if (status == stopped) {
                self.was_stopped = true;
                return;
            } else {
                try testing.expectEqual(would_block, status);
                _ = self.refused.fetchAdd(1, .monotonic);
                if (clock.monotonic_ns() > until_ns) return error.NoRoomForLong;
                while (rcm_tx_ready(self.handle) == 0) std.Thread.yield() catch {};
            }
        }
    }

    fn send_copy(self: *Producer, length: u32, partition: u32) !u32 {
        var bytes: [60_000]u8 = undefined;
        fill_message(bytes[0..length], self.thread, self.accepted);
        return @intCast(rcm_send_data(self.handle, &bytes, length, partition, 0));
    }

    fn send_reserved(self: *Producer, length: u32, partition: u32) !u32 {
        var offset = rcm_malloc(self.handle, length / 2 + 100);
        if (offset < 0) return @intFromFloat(-offset);
        offset = rcm_realloc(self.handle, length + 50);
        if (offset < 0) return @intFromFloat(-offset);
        const at: usize = @intFromFloat(offset);
        fill_message(self.arena[at..][0..length], self.thread, self.accepted);
        return @intCast(rcm_send(self.handle, length, partition, 0));
    }
};

fn all_done(producers: []const Producer) bool {
    for (producers) |*p| if (!p.done.load(.acquire)) return false;
    return true;
}

fn send_from_threads(asynchronous: bool, messages: u32) !void {
    var bus: Bus = try .open(asynchronous);
    defer bus.close();
    try testing.expectEqual(0, rcm_tx_share(bus.tx));
    var producers: [threads_max - 1]Producer = undefined;
    var threads: [threads_max - 1]std.Thread = undefined;
    for (&producers, 1..) |*p, i| {
        p.* = .{ .bus = &bus, .thread = @intCast(i), .messages = messages };
    }
    for (&producers, &threads) |*p, *t| t.* = try std.Thread.spawn(.{}, Producer.run, .{p});
    const until_ns = clock.monotonic_ns() + wait_limit_ns;
    // Nobody runs the agents: the arena, which is a part of what is sent, fills up.
    for (&producers) |*p| while (p.refused.load(.monotonic) == 0) {
        std.Thread.yield() catch {};
        if (clock.monotonic_ns() > until_ns) return error.NeverFull;
    };
    // The context's own thread sends too (thread 0), without a sender.
    var check: Check = .{};
    var sent: u32 = 0;
    var received: u64 = 0;
    while (received < @as(u64, messages) * threads_max) {
        var bytes: [100]u8 = undefined;
        if (sent < messages) {
            fill_message(&bytes, 0, sent);
            if (rcm_send_data(bus.tx, &bytes, bytes.len, 0, 0) == ok) sent += 1;
        }
        received += try bus.turn(&check);
        if (clock.monotonic_ns() > until_ns) return error.NotAllCame;
        if (all_done(&producers)) for (&producers) |*p| if (p.failed) |e| return e;
    }
    for (&threads) |t| t.join();
    for (0..threads_max) |i| try check.expect_all(@intCast(i), messages);
    // Everything was acknowledged: one message may have all of the arena.
    const allocator = rcm_allocator(bus.context, 0, 0);
    while (rcm_malloc(@intCast(allocator), arena_bytes) < 0) {
        _ = try bus.turn(&check);
        if (clock.monotonic_ns() > until_ns) return error.ArenaInPieces;
    }
}

test "threads that send on one transmitter keep their order and lose nothing" {
    try send_from_threads(true, 6000);
}

test "threads that send their datagrams themselves" {
    if (@import("builtin").sanitize_thread) return error.SkipZigTest; // It reads agents unlocked.
    try send_from_threads(false, 6000);
}

test "a context that stops while threads send loses nothing that it accepted" {
    for (0..5) |round| {
        var bus: Bus = try .open(true);
        defer bus.close();
        try testing.expectEqual(0, rcm_tx_share(bus.tx));
        var producers: [threads_max]Producer = undefined;
        var threads: [threads_max]std.Thread = undefined;
        for (&producers, 0..) |*p, i| {
            p.* = .{ .bus = &bus, .thread = @intCast(i), .messages = std.math.maxInt(u32) };
        }
        for (&producers, &threads) |*p, *t| t.* = try std.Thread.spawn(.{}, Producer.run, .{p});
        var check: Check = .{};
        var received: u64 = 0;
        const until_ns = clock.monotonic_ns() + wait_limit_ns;
        while (received < 500 + round * 997 or !check.has_all()) {
            received += try bus.turn(&check);
            if (clock.monotonic_ns() > until_ns) return error.NothingCame;
        }
        try testing.expectEqual(0, rcm_context_drain(bus.context));
        for (&threads) |t| t.join();
        const drained = @backingInt(abi.ContextState.drained);
        while (rcm_context_state(bus.context) & drained == 0 or try bus.turn(&check) > 0) {
            _ = try bus.turn(&check);
            if (clock.monotonic_ns() > until_ns) return error.NotDrained;
        }
        for (&producers, 0..) |*p, i| {
            if (p.failed) |e| return e;
            try testing.expect(p.was_stopped);
            try check.expect_all(@intCast(i), p.accepted);
        }
    }
}

test "a context may close while threads are inside calls; handles stay harmless" {
    for (0..20) |_| {
        var bus: Bus = try .open(true);
        try testing.expectEqual(0, rcm_tx_share(bus.tx));
        var producers: [threads_max]Producer = undefined;
        var threads: [threads_max]std.Thread = undefined;
        for (&producers, 0..) |*p, i| {
            p.* = .{ .bus = &bus, .thread = @intCast(i), .messages = std.math.maxInt(u32) };
        }
        for (&producers, &threads) |*p, *t| t.* = try std.Thread.spawn(.{}, Producer.run, .{p});
        var check: Check = .{};
        var received: u64 = 0;
        const until_ns = clock.monotonic_ns() + wait_limit_ns;
        while (received < 100 or !check.has_all()) {
            received += try bus.turn(&check);
            if (clock.monotonic_ns() > until_ns) return error.NothingCame;
        }
        bus.close();
        for (&threads) |t| t.join();
        for (&producers) |*p| {
            if (p.failed) |e| return e;
            try testing.expect(p.was_stopped);
            try testing.expectEqual(stopped, @as(u32, @intCast(rcm_send(p.handle, 0, 0, 0))));
            try testing.expect(rcm_sender_close(p.handle) < 0);
        }
        var out: [3]f64 = undefined;
        try testing.expect(rcm_sender_open(bus.tx, 1, &out) < 0);
    }
}

/// Opens a sender, reserves memory, and ends without giving anything back.
fn forget_sender(bus: *const Bus, handle: *u32) void {
    var out: [3]f64 = undefined;
    const opened = rcm_sender_open(bus.tx, 7, &out);
    if (opened < 0) return;
    handle.* = @intCast(opened);
    _ = rcm_malloc(handle.*, 500_000);
}

test "a sender's thread number is its own until it is closed, or its thread has ended" {
    var bus: Bus = try .open(true);
    defer bus.close();
    var out: [3]f64 = undefined;
    const state = -@as(i32, @intCast(@backingInt(abi.ErrorCode.state)));
    const argument = -@as(i32, @intCast(@backingInt(abi.ErrorCode.argument)));
    try testing.expectEqual(state, rcm_sender_open(bus.tx, 7, &out)); // Not shared.
    try testing.expectEqual(0, rcm_tx_share(bus.tx));
    try testing.expectEqual(argument, rcm_sender_open(bus.tx, 64, &out));
    try testing.expectEqual(state, rcm_sender_open(bus.tx + 1, 7, &out)); // No such transmitter.
    const first = try bus.sender(7, null);
    try testing.expectEqual(state, rcm_sender_open(bus.tx, 7, &out));
    const other = try bus.sender(8, null);
    try testing.expectEqual(0, rcm_sender_close(first));
    try testing.expectEqual(state, rcm_sender_close(first));
    try testing.expectEqual(stopped, @as(u32, @intCast(rcm_send_data(first, "x", 1, 0, 0))));
    try testing.expectEqual(state, rcm_tx_ready(first));
    // Threads that forget theirs, each with half of the arena: no number and no memory is lost.
    for (0..10) |_| {
        var handle: u32 = 0;
        const thread = try std.Thread.spawn(.{}, forget_sender, .{ &bus, &handle });
        thread.join();
        try testing.expect(handle != 0);
        try testing.expectEqual(stopped, @as(u32, @intCast(rcm_send(handle, 1, 0, 0))));
    }
    try testing.expect(rcm_malloc(other, 900_000) > 0);
}

test "flush marks cover what the thread has sent before" {
    var bus: Bus = try .open(true);
    defer bus.close();
    try testing.expectEqual(0, rcm_tx_share(bus.tx));
    const sender = try bus.sender(3, null);
    var bytes: [100]u8 = undefined;
    for (0..50) |i| {
        fill_message(&bytes, 1, @intCast(i));
        try testing.expectEqual(0, rcm_send_data(sender, &bytes, bytes.len, 0, 0));
    }
    var marks: [partitions]f64 = undefined;
    try testing.expectEqual(partitions, rcm_tx_marks(sender, &marks));
    try testing.expectEqual([_]f64{ 25, 25 }, marks);
    try testing.expectEqual(0, rcm_tx_flushed(sender, &marks));
    var check: Check = .{};
    const until_ns = clock.monotonic_ns() + wait_limit_ns;
    while (rcm_tx_flushed(sender, &marks) == 0) {
        _ = try bus.turn(&check);
        if (clock.monotonic_ns() > until_ns) return error.NotFlushed;
    }
    while (check.count[1] < 50) _ = try bus.turn(&check);
    try check.expect_all(1, 50);
}

test "a reservation grows in its place once what lies behind it was acknowledged" {
    var bus: Bus = try .open(true);
    defer bus.close();
    try testing.expectEqual(0, rcm_tx_share(bus.tx));
    var arena: [*]u8 = undefined;
    const grows = try bus.sender(1, &arena);
    const other = try bus.sender(2, null);
    const before = rcm_malloc(grows, 100_000);
    try testing.expect(before > 0);
    fill_message(arena[@intFromFloat(before)..][0..100_000], 1, 0);
    const bytes = try testing.allocator.alloc(u8, 600_000);
    defer testing.allocator.free(bytes);
    fill_message(bytes, 2, 0);
    try testing.expectEqual(0, rcm_send_data(other, bytes.ptr, 600_000, 1, 0));
    // Beside what it has there will never be room for so much.
    const full: f64 = -@as(f64, @floatFromInt(would_block));
    try testing.expectEqual(full, rcm_realloc(grows, 1_000_000));
    try testing.expectEqual(0, rcm_tx_ready(grows));
    var check: Check = .{};
    const until_ns = clock.monotonic_ns() + wait_limit_ns;
    while (rcm_tx_ready(grows) == 0) {
        _ = try bus.turn(&check);
        if (clock.monotonic_ns() > until_ns) return error.NeverReady;
    }
    const after = rcm_realloc(grows, 1_000_000);
    try testing.expectEqual(before, after);
    const message = arena[@intFromFloat(after)..][0..1_000_000];
    const kept = try testing.allocator.alloc(u8, 100_000);
    defer testing.allocator.free(kept);
    fill_message(kept, 1, 0);
    try testing.expectEqualSlices(u8, kept, message[0..kept.len]);
    fill_message(message, 1, 0);
    try testing.expectEqual(0, rcm_send(grows, 1_000_000, 1, 0));
    while (check.count[1] == 0) {
        _ = try bus.turn(&check);
        if (clock.monotonic_ns() > until_ns) return error.NotAllCame;
    }
    try check.expect_all(1, 1);
    try check.expect_all(2, 1);
}
