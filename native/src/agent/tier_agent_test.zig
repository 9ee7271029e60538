//! Members of a tier as contexts over loopback sockets, with an arbiter that is a struct: elected,
//! fed by a sender, killed, restarted on their records.

const std = @import("std");
const linux = std.os.linux;
const testing = std.testing;
const abi = @import("../abi.zig");
const clock = @import("clock.zig");
const options_file = @import("options.zig");
const files = @import("../window/files.zig");
const record_file = @import("../order/record_file.zig");
const state_file = @import("../tier/state_file.zig");
const tree = @import("../tier/tree.zig");
const arbiter_file = @import("../arbiter/agent.zig");
const member_file = @import("../tier/member.zig");
const waker = @import("waker.zig");
const context_start = @import("context_start.zig");
const Context = @import("context.zig").Context;
const Failure = @import("../transport/udp.zig").Failure;
const Descriptor = @import("../order/record.zig").Descriptor;

const members_max = 3;
const wait_limit_ns = 60 * clock.ns_per_s;
const gpa = testing.allocator;
const topic_port_offset = 1;

var wakers: waker.WakerTable = .{};

/// The tree as an arbiter keeps it.
const Arbiter = struct {
    view: tree.View = .{
        .serial = 1,
        .session = .connected,
        .master_version = 0,
        .candidate = tree.nobody,
        .epoch = .{},
        .established_epoch = .{},
        .established_leader = tree.nobody,
        .running = tree.nobody,
        .established = .{},
        .present = 0,
        .forced = tree.nobody,
    },

    fn carry_out(self: *Arbiter, by: u32, c: *const tree.Command) tree.Answer {
        const v = &self.view;
        var outcome: tree.Outcome = .refused;
        switch (c.kind) {
            .none => {},
            // What is shown next is what stands.
            .read => outcome = .done,
            .campaign => if (v.running == tree.nobody and v.master_version == c.version) {
                v.candidate = by;
                v.epoch = c.epoch;
                v.running = by;
                v.master_version += 1;
                outcome = .done;
            },
            .establish => if (v.master_version == c.version) {
                v.established_epoch = c.epoch;
                v.established_leader = c.leader;
                v.established = c.quorum;
                v.master_version += 1;
                outcome = .done;
            },
            .resign => {
                if (v.running == by) v.running = tree.nobody;
                outcome = .done;
            },
        }
        v.serial += 1;
        return .{ .serial = c.serial, .outcome = outcome, .version = v.master_version };
    }
};

const Node = struct {
    context: *Context,
    agent: *arbiter_file.Agent,
    seen_serial: u32 = 0,
    processed: u32 = 0,
    /// One past the last number of the sender that the program was given.
    next: u64 = 0,
};

const World = struct {
    ip_buffer: [16]u8 = undefined,
    ip: []const u8 = "",
    folder: [64]u8 = undefined,
    folder_len: usize = 0,
    port: u16 = 0,
    arbiter: Arbiter = .{},
    nodes: [members_max]?Node = @splat(null),
    sender: ?*Context = null,
    is_recorded: bool,
    ack_count: i32 = 1,
    sent: u64 = 0,
    large_every: u64 = 50,
    threading: options_file.Threading = .@"inline",

    fn init(self: *World) !void {
        const random = files.random_u64();
        self.ip = try std.fmt.bufPrint(&self.ip_buffer, "127.{d}.{d}.{d}", .{
            1 + random % 250, 1 + (random >> 16) % 250, 1 + (random >> 32) % 250,
        });
        self.port = @intCast(10_000 + (random >> 48) % 19_000);
        const name = try std.fmt.bufPrint(&self.folder, "rcmtest_tier{x}", .{random >> 16});
        self.folder_len = name.len;
    }

    fn prefix(self: *const World) []const u8 {
        return self.folder[0..self.folder_len];
    }

    fn deinit(self: *World) void {
        for (0..members_max) |i| self.kill(i);
        if (self.sender) |s| s.close();
        self.wipe() catch {};
    }

    fn wipe(self: *World) !void {
        var path: [160]u8 = undefined;
        for (0..members_max) |i| {
            var text: files.ErrorText = .{};
            const parent = try std.fmt.bufPrint(&path, "/dev/shm/{s}/", .{self.prefix()});
            var name: [8]u8 = undefined;
            const own = try std.fmt.bufPrint(&name, "m{d}", .{i});
            const folder = files.Folder.open(parent, own, &text) catch continue;
            defer folder.close();
            var buffer: [record_file.file_name_bytes]u8 = undefined;
            for (0..50) |n| folder.remove(record_file.file_name(&buffer, @intCast(n)));
            folder.remove(state_file.file_name);
            var z: [160]u8 = undefined;
            const dir = "/dev/shm/{s}/m{d}";
            _ = linux.rmdir(try std.fmt.bufPrintSentinel(&z, dir, .{ self.prefix(), i }, 0));
        }
        _ = linux.rmdir(try std.fmt.bufPrintSentinel(&path, "/dev/shm/{s}", .{self.prefix()}, 0));
        for ([_][]const u8{
            "allocator",                "t_1_sendingwindow",
            "t_1_sendingwindowblock_1", "t_1_sendingwindowblock_2",
        }) |end| {
            const format = "/dev/shm/{s}sender_{s}";
            const text = try std.fmt.bufPrintSentinel(&path, format, .{ self.prefix(), end }, 0);
            _ = linux.unlink(text);
        }
    }

    fn base_options(self: *const World, name: []const u8, id: u16) options_file.Options {
        return .{
            .name = name,
            .id = id,
            .clusterId = 3,
            .prefix = self.prefix(),
            .ip = self.ip,
            .threading = self.threading,
            .waitStrategy = "adaptive",
            .bindCoreId = -1,
            .mcLoop = true,
            .ttl = 1,
            .socketBufferBytes = 4 << 20,
            .repairPortStart = 30_001,
            .repairPortEnd = 40_000,
            .repairPort = 0,
            .sendWindowSize = 256,
            .arenaBytes = 8 << 20,
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

    const group = [_][]const u8{"239.17.20.1"};

    const members = [members_max]options_file.TierMember{
        .{ .id = 11, .name = "m0" },
        .{ .id = 12, .name = "m1" },
        .{ .id = 13, .name = "m2" },
    };

    fn start_context(options: *const options_file.Options) !*Context {
        const json = try std.json.Stringify.valueAlloc(gpa, options.*, .{});
        defer gpa.free(json);
        var failure: Failure = .{};
        const request: context_start.Request = .{ .json = json, .waker_id = -1, .wakers = &wakers };
        return context_start.start(gpa, request, &failure) catch |e| {
            std.log.warn("{t}: {s}", .{ e, failure.text() });
            return e;
        };
    }

    fn start(self: *World, i: usize) !void {
        var directory_buffer: [128]u8 = undefined;
        const made = try std.fmt.bufPrintSentinel(
            &directory_buffer,
            "/dev/shm/{s}/",
            .{self.prefix()},
            0,
        );
        _ = linux.mkdir(made, 0o700);
        const rx: options_file.Rx = .{
            .transportId = 1,
            .topic = "t",
            .partitionNo = 1,
            .lane = 0,
            .addrs = &group,
            .port = self.port,
            .mtu = 1500,
            .heartbeatIntervalMs = 100,
            .heartbeatTimeoutMs = 30_000,
            .ackIntervalMs = 20,
            .ackTimeoutMs = 30_000,
            .groupKey = "",
        };
        var options = self.base_options(members[i].name, members[i].id);
        options.rx = &.{rx};
        if (self.is_recorded) options.recordDirectory = made;
        options.recordFileBytes = 8 << 20;
        options.tier = .{
            .name = "T",
            .members = &members,
            .ackCount = self.ack_count,
            .useCommitted = false,
            .asynchronousSqn = false,
            .syncMaxDiff = 1000,
            .sendWindowSize = 256,
            .rmsLimitCount = 0,
            .heartbeatIntervalMs = 100,
            .heartbeatTimeoutMs = 300,
            .ackIntervalMs = 100,
            .ackTimeoutMs = 2000,
            .startTimeoutMs = 10_000,
            .sessionTimeoutMs = 1000,
            .configHash = "00000000000000aa",
            .addr = "239.17.20.2",
            .port = self.port + topic_port_offset,
            .mcLoop = true,
            .ttl = 1,
            .mtu = 1500,
            .socketBufferBytes = 1 << 20,
            .repairPortStart = 40_001,
            .repairPortEnd = 50_000,
            .stateDirectory = made,
        };
        const context = try start_context(&options);
        errdefer context.close();
        const agent = try arbiter_file.Agent.open(&wakers, -1, null);
        agent.lease.until_ns.raw = std.math.maxInt(u64) / 2;
        agent.retain();
        context.rx.?.tier.?.bind(agent);
        self.nodes[i] = .{ .context = context, .agent = agent };
        self.arbiter.view.present |= tree.set_of(@intCast(i));
        self.arbiter.view.serial += 1;
    }

    fn kill(self: *World, i: usize) void {
        const node = if (self.nodes[i]) |*n| n else return;
        node.context.close();
        node.agent.release();
        self.nodes[i] = null;
        self.arbiter.view.present &= ~tree.set_of(@intCast(i));
        if (self.arbiter.view.running == i) self.arbiter.view.running = tree.nobody;
        self.arbiter.view.serial += 1;
    }

    fn start_sender(self: *World) !void {
        var receivers: [members_max]options_file.Receiver = undefined;
        for (&receivers, members) |*r, m| r.* = .{ .id = m.id, .name = m.name, .tier = "T" };
        var name_buffer: [80]u8 = undefined;
        const name = try std.fmt.bufPrint(&name_buffer, "sender", .{});
        var options = self.base_options(name, 20);
        options.tx = &.{.{ .topic = "t", .txArg = 0, .partitions = &.{.{
            .transportId = 1,
            .partitionNo = 1,
            .addrs = &group,
            .port = self.port,
            .mtu = 1500,
            .asynchronous = true,
            .heartbeatIntervalMs = 100,
            .heartbeatTimeoutMs = 30_000,
            .ackIntervalMs = 20,
            .ackTimeoutMs = 30_000,
            .slowDisconnect = false,
            .groupKey = "",
            .repairFd = -1,
            .receivers = &receivers,
        }} }};
        self.sender = try start_context(&options);
    }

    /// Sends as much as is taken, up to `target` messages.
    fn send(self: *World, target: u64) void {
        const t = &self.sender.?.transmitters[0];
        var buffer: [20_000]u8 = undefined;
        while (self.sent < target) {
            const large = self.sent % self.large_every == self.large_every - 1;
            const bytes = buffer[0..if (large) buffer.len else 8 + self.sent % 100];
            for (bytes, 0..) |*b, i| b.* = @truncate(self.sent + i);
            std.mem.writeInt(u64, bytes[0..8], self.sent, .little);
            const status = t.send_data(&t.own, bytes, 1, 7);
            if (status != .ok) return;
            self.sent += 1;
        }
    }

    fn take(self: *World, node: *Node) !void {
        const c = node.context;
        const n = c.drain(node.processed, 256) orelse return error.Drain;
        const p: [*]const Descriptor = @ptrCast(@alignCast(c.descriptor_region.?.base));
        for (p[0..n]) |*d| {
            const payload = c.rx.?.log.payload_of(d);
            const number = std.mem.readInt(u64, payload[0..8], .little);
            if (number != node.next) {
                std.log.warn("got {d}, expected {d}", .{ number, node.next });
                return error.WrongOrder;
            }
            for (payload[8..], 8..) |b, i| {
                if (b != @as(u8, @truncate(number + i))) return error.WrongContent;
            }
            node.next += 1;
        }
        node.processed = n;
        _ = self;
    }

    fn turn(self: *World) !void {
        if (self.sender) |s| _ = s.work_inline();
        for (&self.nodes, 0..) |*place, i| {
            const node = if (place.*) |*n| n else continue;
            const tier = node.context.rx.?.tier.?;
            if (node.seen_serial != self.arbiter.view.serial) {
                node.seen_serial = self.arbiter.view.serial;
                tier.view(&self.arbiter.view);
            }
            if (tier.command()) |c| {
                const told = self.arbiter.carry_out(@intCast(i), &c);
                tier.answer(&told);
            }
            _ = node.context.work_inline();
            try self.take(node);
            var out: [16]abi.Notice = undefined;
            _ = node.context.notices(&out);
        }
        if (self.sender) |s| {
            var out: [16]abi.Notice = undefined;
            _ = s.notices(&out);
        }
    }

    fn run_until(self: *World, target: u64, holds: fn (*World) bool) !void {
        const until_ns = clock.monotonic_ns() + wait_limit_ns;
        while (!holds(self)) {
            if (self.sender != null) self.send(target);
            try self.turn();
            if (clock.monotonic_ns() > until_ns) {
                self.describe();
                return error.NeverHeld;
            }
        }
    }

    fn describe(self: *World) void {
        std.log.warn("sent {d} view {any}", .{ self.sent, self.arbiter.view });
        for (&self.nodes, 0..) |*place, i| {
            const node = if (place.*) |*n| n else continue;
            const tier = node.context.rx.?.tier.?;
            const m = &tier.member;
            std.log.warn("{d}: {t} role {t} next {d} committed {d} shown {d} given {d} " ++
                "attached {}", .{
                i,                m.phase,                        m.role(),
                tier.host.next(), m.committed,                    m.shown,
                node.next,        tier.host.tier_log.is_attached,
            });
            std.log.warn("   counters {any}\n   durable {any} failed {t}", .{
                m.counters, m.durable, m.failed,
            });
            for (node.context.rx.?.receiver.active()) |*s| {
                std.log.warn("   stream {t} next {any} announced {any} acked {any} " ++
                    "lane {any}", .{
                    s.phase, s.next, s.announced, s.acked, tier.host.stage.lanes[s.id],
                });
            }
        }
        const s = self.sender orelse return;
        for (s.channels) |c| std.log.warn("sender acked {d} written {d} {any}", .{
            c.window.acked(), c.window.written(), c.sender.phase,
        });
    }

    fn leader(self: *World) ?usize {
        for (&self.nodes, 0..) |*place, i| {
            const node = if (place.*) |*n| n else continue;
            const role = node.context.rx.?.tier.?.member.role();
            if (role == .active or role == .single) return i;
        }
        return null;
    }

    fn is_active(self: *World) bool {
        const l = self.leader() orelse return false;
        return self.nodes[l].?.context.rx.?.tier.?.member.role() == .active;
    }

    fn everybody_has_all(self: *World) bool {
        for (&self.nodes) |*place| {
            const node = if (place.*) |*n| n else continue;
            if (node.next != self.sent) return false;
        }
        return self.sent == goal and self.sender.?.channels[0].window.acked() == self.sent;
    }

    var goal: u64 = 0;

    fn bring(self: *World, count: u64) !void {
        goal = self.sent + count;
        try self.run_until(goal, everybody_has_all);
    }
};

fn run_failover(is_recorded: bool) !void {
    const world = try gpa.create(World);
    defer gpa.destroy(world);
    world.* = .{ .is_recorded = is_recorded };
    try world.init();
    defer world.deinit();
    for (0..members_max) |i| try world.start(i);
    try world.run_until(0, World.is_active);
    try world.start_sender();
    try world.bring(3000);
    const first = world.leader().?;
    world.kill(first);
    try world.run_until(0, World.is_active);
    try testing.expect(world.leader().? != first);
    try world.bring(3000);
    // It comes back, blank or on its record, and gets what it lacks.
    try world.start(first);
    try world.bring(500);
    try testing.expectEqual(6500, world.nodes[first].?.context.rx.?.tier.?.host.next());
}

test "a tier of contexts that record: a leader dies, its successor goes on, it comes back" {
    try run_failover(true);
}

test "a tier of contexts that record nothing does the same" {
    try run_failover(false);
}
