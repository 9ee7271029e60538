//! Members of a tier send one logical stream, over real sockets: the leader sends, a follower keeps
//! and gives up, the next leader goes on; a plain receiver gets each message once.

const std = @import("std");
const linux = std.os.linux;
const clock = @import("clock.zig");
const waker = @import("waker.zig");
const options_file = @import("options.zig");
const context_start = @import("context_start.zig");
const files = @import("../window/files.zig");
const Context = @import("context.zig").Context;
const Epoch = @import("../tier/epoch.zig").Epoch;
const Descriptor = @import("../order/record.zig").Descriptor;
const Failure = @import("../transport/failure.zig").Failure;

const testing = std.testing;

const topic = "t";
const receiver_id = 9;
const wait_limit_ns = 60 * clock.ns_per_s;

const Bus = struct {
    ip_buffer: [16]u8 = undefined,
    ip: []const u8 = "",
    port: u16 = 0,
    tag: u64,
    wakers: waker.WakerTable = .{},
    failure: Failure = .{},
    names: [3][32]u8 = undefined,
    contexts: [3]?*Context = @splat(null),
    received: u64 = 0,

    fn init(self: *Bus) !void {
        // An address of its own, so that tests may run side by side.
        const random = files.random_u64();
        self.* = .{ .tag = random >> 16 };
        self.ip = try std.fmt.bufPrint(&self.ip_buffer, "127.{d}.{d}.{d}", .{
            1 + random % 250,
            1 + (random >> 16) % 250,
            1 + (random >> 32) % 250,
        });
        self.port = @intCast(10_000 + (random >> 48) % 19_000);
    }

    fn name_of(self: *Bus, index: usize) ![]const u8 {
        return std.fmt.bufPrint(&self.names[index], "tier{d}x{x}", .{ index, self.tag });
    }

    /// 0, 1: members; 2: the receiver.
    fn open(self: *Bus, index: usize) !*Context {
        const addrs = [_][]const u8{self.ip};
        const is_member = index < 2;
        const receivers = [_]options_file.Receiver{.{
            .id = receiver_id,
            .name = try self.name_of(2),
        }};
        var sending = [_]options_file.TxPartition{partition_options(self.port, &addrs)};
        sending[0].receivers = &receivers;
        const receiving = [_]options_file.Rx{channel_options(&sending[0])};
        const tx = [_]options_file.Tx{.{ .topic = topic, .txArg = 5, .partitions = &sending }};
        var o = context_options(try self.name_of(index), self.ip);
        o.id = if (is_member) @intCast(3 + index) else receiver_id;
        if (is_member) {
            o.tx = &tx;
            o.txTierId = 3;
            o.txTierName = "T";
        } else o.rx = &receiving;
        const json = try std.json.Stringify.valueAlloc(testing.allocator, o, .{});
        defer testing.allocator.free(json);
        const c = try context_start.start(testing.allocator, .{
            .json = json,
            .waker_id = -1,
            .wakers = &self.wakers,
        }, &self.failure);
        self.contexts[index] = c;
        return c;
    }

    fn close(self: *Bus, index: usize) void {
        const c = self.contexts[index] orelse return;
        c.close();
        self.contexts[index] = null;
    }

    fn deinit(self: *Bus) void {
        for (0..self.contexts.len) |i| self.close(i);
        const ends = [_][]const u8{
            "allocator",                "t_1_sendingwindow",
            "t_1_sendingwindowblock_1", "t_1_sendingwindowblock_2",
        };
        for (0..2) |i| for (ends) |end| {
            var path: [128]u8 = undefined;
            const name = self.name_of(i) catch return;
            const text = std.fmt.bufPrintSentinel(&path, "/dev/shm/{s}_{s}", .{ name, end }, 0);
            _ = linux.unlink(text catch return);
        };
    }

    /// Everybody runs once; the receiver takes what has come.
    fn turn(self: *Bus) !void {
        for (self.contexts) |c| if (c) |x| {
            _ = x.work_inline();
        };
        const r = self.contexts[2] orelse return;
        const log = r.rx.?.log;
        var descriptors: [64]Descriptor = undefined;
        const count = log.fill(&descriptors, descriptors.len);
        for (descriptors[0..count]) |*d| {
            try testing.expectEqual(self.received, log.header_of(d).msg_no);
            var buffer: [32]u8 = undefined;
            try testing.expectEqualStrings(try text_of(&buffer, self.received), log.payload_of(d));
            self.received += 1;
        }
        log.processed(log.processed_next() + count);
    }

    const Wish = union(enum) { received: u64, acked: Acked };
    const Acked = struct { by: *Context, to: u64 };

    fn until(self: *Bus, wish: Wish) !void {
        const end_ns = clock.monotonic_ns() + wait_limit_ns;
        while (!self.is_so(wish)) {
            try self.turn();
            if (clock.monotonic_ns() > end_ns) return error.TimedOut;
        }
    }

    fn is_so(self: *const Bus, wish: Wish) bool {
        return switch (wish) {
            .received => |count| self.received == count,
            .acked => |w| w.by.tx_position(0).acked == w.to,
        };
    }
};

fn text_of(buffer: []u8, number: u64) ![]const u8 {
    return std.fmt.bufPrint(buffer, "message {d}", .{number});
}

/// What the program of every member does.
fn send(c: *Context, from: u64, to: u64) !void {
    const t = &c.transmitters[0];
    for (from..to) |number| {
        var buffer: [32]u8 = undefined;
        const text = try text_of(&buffer, number);
        try testing.expectEqual(.ok, t.send_data(&t.own, text, 1, 0));
    }
}

test "a tier's stream goes on from another member, each message once" {
    var bus: Bus = undefined;
    try bus.init();
    defer bus.deinit();
    const a = try bus.open(0);
    const b = try bus.open(1);
    const r = try bus.open(2);
    try send(a, 0, 100);
    try send(b, 0, 100);
    const first: Epoch = .{ .number = 1, .id = 77 };
    b.set_tier_role(false, first);
    a.set_tier_role(true, first);
    try bus.until(.{ .received = 100 });
    try bus.until(.{ .acked = .{ .by = a, .to = 100 } });
    try testing.expectEqual(0, b.channels[0].sender.counters.datagrams_sent);
    // The follower gives up what the leader's receivers have.
    try testing.expectEqual(0, b.tx_position(0).acked);
    b.tx_told(1, a.tx_position(0).acked);
    try bus.until(.{ .acked = .{ .by = b, .to = 100 } });

    // The leader dies, behind the one that follows it.
    try send(a, 100, 120);
    try send(b, 100, 150);
    try bus.until(.{ .received = 120 });
    bus.close(0);
    b.set_tier_role(true, .{ .number = 2, .id = 5 });
    try bus.until(.{ .received = 150 });
    try bus.until(.{ .acked = .{ .by = b, .to = 150 } });

    // It comes back and has not heard that it leads no more: nobody listens.
    const again = try bus.open(0);
    try testing.expectEqual(120, again.channels[0].window.written());
    again.set_tier_role(true, first);
    try send(again, 120, 170);
    const end_ns = clock.monotonic_ns() + 100 * clock.ns_per_ms;
    const refused = r.rx.?.receiver.counters.out_of_range;
    while (clock.monotonic_ns() < end_ns or r.rx.?.receiver.counters.out_of_range == refused) {
        try bus.turn();
        if (clock.monotonic_ns() > end_ns + wait_limit_ns) return error.TimedOut;
    }
    try testing.expectEqual(150, bus.received);
    try send(b, 150, 160);
    try bus.until(.{ .received = 160 });

    const streams = r.rx.?.receiver.active();
    try testing.expectEqual(1, streams.len);
    try testing.expectEqualStrings("T", streams[0].name_slice());
    try testing.expectEqual(3, streams[0].key.source);
    try testing.expectEqual(2, streams[0].epoch.number);
    try testing.expectEqual(0, streams[0].counters.lost_messages);
}

fn partition_options(port: u16, addrs: []const []const u8) options_file.TxPartition {
    return .{
        .transportId = 1,
        .partitionNo = 1,
        .addrs = addrs,
        .port = port,
        .mtu = 1500,
        .asynchronous = true,
        .heartbeatIntervalMs = 20,
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
        .topic = topic,
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

fn context_options(name: []const u8, ip: []const u8) options_file.Options {
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
        .arenaBytes = 1 << 20,
        .maxCacheMsgCount = 0,
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
        .tx = &.{},
        .rx = &.{},
    };
}
