//! Hosts of two members over real logs: one orders, the other follows in every way it can, and is
//! cut back, restarted and made to lead.

const std = @import("std");
const testing = std.testing;
const linux = std.os.linux;
const limits = @import("../limits.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const record = @import("../order/record.zig");
const record_file = @import("../order/record_file.zig");
const loss = @import("../repair/loss_detector.zig");
const state_file = @import("../tier/state_file.zig");
const stream_file = @import("../session/stream.zig");
const challenge = @import("../session/challenge.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Log = @import("../order/log.zig").Log;
const Receiver = @import("../session/receiver.zig").Receiver;
const RecordAgent = @import("record_agent.zig").RecordAgent;
const Entry = @import("../tier/entry.zig").Entry;
const TierHost = @import("tier_host.zig").TierHost;

const block_bytes = limits.record_block_bytes;
const streams = 3;
const connection = 77;

fn length_of(id: u32, msg_no: u64) u32 {
    const no = msg_no *% 13 +% id;
    if (no % 211 == 5) return block_bytes + 1000;
    if (no % 53 == 7) return 90_000;
    return @intCast(no *% 97 % 3000);
}

fn byte_of(id: u32, msg_no: u64, i: usize) u8 {
    return @truncate(msg_no *% 31 +% i *% 7 +% id *% 101 +% 3);
}

const channels = blk: {
    var all: [streams]stream_file.Channel = undefined;
    for (&all, 0..) |*c, i| c.* = .{
        .transport = 10 + i,
        .topic = "T",
        .partition = i,
        .is_multicast = true,
        .heartbeat_timeout_ns = 1_000_000_000,
        .ack_interval_ns = 1_000_000_000,
    };
    break :blk all;
};

const Node = struct {
    log_pool: ChunkPool,
    holding_pool: ChunkPool,
    log_region: region_file.Region,
    holding_region: region_file.Region,
    holding: loss.HoldingPool,
    log: Log,
    agent: RecordAgent,
    receiver: Receiver,
    host: TierHost,
    buffer: []u8,

    const log_chunks = 24;
    const holding_bytes = 8 << 20;

    fn start(self: *Node, name: []const u8, from_sqn: u64) !void {
        const gpa = testing.allocator;
        self.log_region = try region_file.map_anonymous(log_chunks * @as(u64, block_bytes));
        self.holding_region = try region_file.map_anonymous(holding_bytes);
        self.log_pool = try .init(gpa, .{
            .base = self.log_region.base,
            .bytes = self.log_region.bytes,
            .chunk_bytes = block_bytes,
        });
        self.holding_pool = try .init(gpa, .{
            .base = self.holding_region.base,
            .bytes = holding_bytes,
            .chunk_bytes = 32 * 1024,
        });
        var text: files.ErrorText = .{};
        try RecordAgent.open(gpa, &self.agent, .{
            .directory = "/dev/shm/",
            .context = name,
            .context_id = 7,
            .file_bytes = limits.record_file_bytes_min * 4,
        }, &self.log_pool, &text);
        self.log = try .init(gpa, &self.log_pool, from_sqn);
        self.log.record_with(&self.agent.recording.recorder);
        self.holding = try .init(gpa, &self.holding_pool, holding_bytes / 4);
        self.receiver = try .init(gpa, .{
            .id = 5,
            .name = "member",
            .channels = &channels,
            .seed = 1,
        }, &self.log, &self.holding);
        self.receiver.settle();
        const state = try state_file.StateFile.open(&self.agent.disk.folder, .{
            .is_recorded = true,
            .is_forced = false,
            .next_sqn = self.agent.recording.found.next_sqn,
            .is_damaged = false,
        }, state_file.boot_id_now(), &text);
        try self.host.init(gpa, &self.log, &self.receiver, &self.holding_pool, state, .{
            .stage_bytes = holding_bytes / 2,
            .limit_count = 0,
            .is_observer = false,
            .from_sqn = from_sqn,
            .found = &self.agent.recording.found,
            .folder = &self.agent.disk.folder,
        });
        for (self.agent.recording.found.streams.items) |*known| {
            const ok = self.receiver.restore(&known.entry, known.next_msg, known.has_messages);
            try testing.expect(ok);
        }
        for (self.receiver.count..streams) |id| self.add_stream(@intCast(id));
        self.buffer = try gpa.alloc(u8, 2 * block_bytes);
        try self.agent.spawn();
    }

    /// A session that was agreed.
    fn add_stream(self: *Node, id: u32) void {
        const transport: u16 = @intCast(10 + id);
        const key: stream_file.Key = .{ .tier = false, .source = 20, .transport = transport };
        const s = challenge.add_stream(&self.receiver, key, &channels[id]).?;
        s.connection = connection;
        s.has_position = true;
        self.agent.recording.recorder.set_stream(challenge.entry_of(s));
        self.host.stage.begin(s);
    }

    fn end(self: *Node) void {
        const gpa = testing.allocator;
        self.agent.join();
        self.host.deinit();
        self.receiver.deinit(gpa);
        self.holding.deinit(gpa);
        self.log.deinit(gpa);
        self.holding_pool.deinit(gpa);
        self.log_pool.deinit(gpa);
        region_file.release(self.log_region);
        region_file.release(self.holding_region);
        self.agent.deinit(gpa);
        gpa.free(self.buffer);
    }

    /// The next message of a stream comes from its sender. False: there is no room.
    fn receive(self: *Node, id: u32) !bool {
        const s = &self.receiver.streams[id];
        const msg_no = s.next.msg;
        const payload = self.buffer[0..length_of(id, msg_no)];
        for (payload, 0..) |*b, i| b.* = byte_of(id, msg_no, i);
        const stage = &self.host.stage;
        if (payload.len > 60_000) {
            const extent = stage.reserve(id, msg_no, @intCast(payload.len)) orelse return false;
            @memcpy(extent.payload, payload);
            stage.commit(id, extent, msg_no, @truncate(msg_no), 4) catch {
                stage.abort(id, extent);
                return false;
            };
        } else {
            stage.put(id, msg_no, @truncate(msg_no), 4, payload) catch return false;
        }
        s.next = .{ .msg = msg_no + 1 };
        s.announced = stream_file.Position.max(s.announced, s.next);
        return true;
    }

    /// The program takes what it sees. The count.
    fn take(self: *Node, max: u32) !u32 {
        var descriptors: [64]record.Descriptor = undefined;
        const n = self.log.fill(&descriptors, @min(max, descriptors.len));
        for (descriptors[0..n]) |*d| {
            const h = self.log.header_of(d);
            for (self.log.payload_of(d), 0..) |b, i| {
                if (b != byte_of(h.stream, h.msg_no, i)) return error.WrongContent;
            }
        }
        self.log.processed(self.log.read_next());
        return n;
    }

    fn check(self: *Node, sqn: u64, e: *const Entry) !void {
        const own = self.host.entry_at(sqn);
        try testing.expectEqual(e.*, own);
        var offset: u32 = 0;
        const id: u32 = e.transport - 10;
        while (offset < e.length) {
            const got = self.host.read(sqn, offset, self.buffer[0..70_000]);
            if (got == 0) return error.CannotRead;
            for (self.buffer[0..got], offset..) |b, i| {
                if (b != byte_of(id, e.msg_no, i)) return error.WrongContent;
            }
            offset += got;
        }
        try testing.expectEqual(0, self.host.read(sqn, e.length, self.buffer[0..100]));
    }

    /// What this member lacks comes from another one.
    fn pull(self: *Node, from: *Node, random: std.Random) !bool {
        const sqn = self.host.next();
        const e = from.host.entry_at(sqn);
        var told: record_file.StreamEntry = undefined;
        if (!self.host.knows_stream(&e)) {
            from.host.describe(&e, &told);
            try testing.expect(told.is_true());
            self.host.learn(&told);
        }
        var offset: u32 = 0;
        while (true) {
            const most = random.intRangeAtMost(u32, 1, 40_000);
            const got = from.host.read(sqn, offset, self.buffer[0..most]);
            if (got == 0 and offset < e.length) return error.CannotRead;
            switch (self.host.append_fill(&e, offset, self.buffer[0..got])) {
                .ok => return true,
                .more => {},
                .no_memory => return false,
                .bad => return error.Bad,
            }
            offset += got;
        }
    }
};

fn names(buffers: *[2][64]u8) ![2][]const u8 {
    var out: [2][]const u8 = undefined;
    for (buffers, &out, 0..) |*b, *name, i| {
        name.* = try std.fmt.bufPrint(b, "rcmtest_host{d}_{d}", .{ i, files.process_id() });
        remove(name.*);
    }
    return out;
}

fn remove(name: []const u8) void {
    var text: files.ErrorText = .{};
    const folder = files.Folder.open("/dev/shm/", name, &text) catch return;
    defer folder.close();
    var buffer: [record_file.file_name_bytes]u8 = undefined;
    for (0..100) |n| folder.remove(record_file.file_name(&buffer, @intCast(n)));
    folder.remove(state_file.file_name);
    var path: [128]u8 = undefined;
    const z = std.fmt.bufPrintSentinel(&path, "/dev/shm/{s}", .{name}, 0) catch return;
    _ = linux.rmdir(z);
}

const World = struct {
    nodes: [2]*Node,
    names: [2][]const u8,
    leader: usize = 0,
    epoch: u64 = 1,
    committed: u64 = 0,
    random: std.Random,

    fn begin(self: *World) void {
        const l = &self.nodes[self.leader].host;
        l.begin_era(.{ .number = self.epoch, .id = self.epoch * 7 });
        l.stage.is_leader = true;
        l.retire_stage();
    }

    fn follower(self: *World) *Node {
        return self.nodes[1 - self.leader];
    }

    /// The follower completes as many entries as it can.
    fn apply(self: *World) !void {
        const l = self.nodes[self.leader];
        const f = self.follower();
        for (0..200) |_| {
            const sqn = f.host.next();
            if (sqn == l.host.next()) return;
            f.host.begin_era(self.era_of(l, sqn));
            const e = l.host.entry_at(sqn);
            const how = if (self.random.uintLessThan(u32, 10) == 0)
                .gone
            else
                f.host.append_staged(&e);
            switch (how) {
                .ok => {},
                .missing => if (self.random.boolean()) return,
                .gone => {},
                .no_memory => return,
            }
            if (how == .ok) continue;
            if (!try f.pull(l, self.random)) return;
        }
    }

    fn era_of(self: *World, l: *Node, sqn: u64) @import("../tier/epoch.zig").Epoch {
        _ = self;
        var epoch: @import("../tier/epoch.zig").Epoch = .{};
        for (l.host.eras()) |era| if (era.first_sqn <= sqn) {
            epoch = era.epoch;
        };
        return epoch;
    }

    fn commit(self: *World) void {
        const next = @min(self.nodes[0].host.next(), self.nodes[1].host.next());
        if (next <= self.committed) return;
        self.committed = self.random.intRangeAtMost(u64, self.committed, next);
        for (self.nodes) |n| n.host.committed(self.committed);
    }

    /// The follower leads from now on; what the old leader has more is cut.
    fn change(self: *World) !void {
        const old = self.nodes[self.leader];
        self.leader = 1 - self.leader;
        self.epoch += 1;
        const common = self.nodes[self.leader].host.next();
        old.host.stage.is_leader = false;
        self.begin();
        switch (old.host.truncate(common)) {
            .done => {},
            else => return error.NotCut,
        }
        old.host.retire_stage();
        try testing.expectEqual(common, old.host.next());
        for (old.receiver.active()) |*s| {
            const lane = &old.host.stage.lanes[s.id];
            if (lane.has_log) try testing.expect(s.next.msg >= lane.log_next);
        }
    }

    fn restart(self: *World, which: usize) !void {
        const node = self.nodes[which];
        const next = node.host.next();
        node.end();
        try node.start(self.names[which], 0);
        try testing.expectEqual(next, node.host.next());
        if (self.committed > 0) node.host.committed(self.committed);
        node.host.stage.is_leader = which == self.leader;
        if (which != self.leader) return;
        self.epoch += 1;
        self.begin();
    }

    fn step(self: *World) !void {
        const random = self.random;
        switch (random.uintLessThan(u32, 100)) {
            0...39 => for (0..random.uintAtMost(u32, 40)) |_| {
                const node = self.nodes[random.uintLessThan(usize, 2)];
                _ = try node.receive(random.uintLessThan(u32, streams));
            },
            40...59 => _ = self.nodes[self.leader].host.order(
                1_700_000_000_000 + self.epoch,
                random.uintAtMost(u32, 200),
            ),
            60...79 => try self.apply(),
            80...85 => self.commit(),
            86...91 => for (self.nodes) |n| {
                // No further than what can't be cut any more.
                if (self.committed > n.log.ordered_next()) n.host.show(self.committed);
                _ = try n.take(random.uintAtMost(u32, 64));
                _ = n.host.step(1);
            },
            92...95 => try self.change(),
            96 => try self.restart(random.uintLessThan(usize, 2)),
            else => {
                const l = self.nodes[self.leader];
                const f = self.follower();
                const next = @min(l.host.next(), f.host.next());
                if (next == 0) return;
                const from = random.uintLessThan(u64, next);
                for (from..@min(from + 10, next)) |sqn| {
                    const e = l.host.entry_at(sqn);
                    try l.check(sqn, &e);
                    try f.check(sqn, &e);
                }
            },
        }
    }

    /// Each stream's messages are in the log in their order, none missing, none twice.
    fn check_streams(self: *World) !void {
        for (self.nodes) |n| {
            var expected: [streams]u64 = @splat(0);
            for (0..n.host.next()) |sqn| {
                const e = n.host.entry_at(sqn);
                const id = e.transport - 10;
                try testing.expectEqual(expected[id], e.msg_no);
                expected[id] += 1;
            }
            for (n.receiver.active()) |*s| {
                const id = s.key.transport - 10;
                const at = n.host.stage.ack_position(s);
                try testing.expect(at.msg <= expected[id]);
                try testing.expect(s.next.msg >= expected[id]);
            }
        }
    }
};

fn run_world(seed: u64) !void {
    const gpa = testing.allocator;
    errdefer std.log.warn("seed {d}", .{seed});
    var buffers: [2][64]u8 = undefined;
    const both = try names(&buffers);
    defer for (both) |name| remove(name);
    var prng: std.Random.DefaultPrng = .init(seed);
    var world: World = .{ .nodes = undefined, .names = both, .random = prng.random() };
    for (&world.nodes, both) |*node, name| {
        node.* = try gpa.create(Node);
        try node.*.start(name, 0);
    }
    defer for (world.nodes) |node| {
        node.end();
        gpa.destroy(node);
    };
    world.begin();
    for (0..600) |_| try world.step();
    for (0..400) |_| try world.apply();
    try world.check_streams();
    try testing.expect(world.nodes[0].host.next() > 300);
}

test "two members over real logs agree, whatever they complete entries from" {
    for (0..5) |seed| try run_world(seed);
}

test "a full stream does not keep another one out" {
    const gpa = testing.allocator;
    var buffers: [2][64]u8 = undefined;
    const both = try names(&buffers);
    defer for (both) |name| remove(name);
    const node = try gpa.create(Node);
    defer gpa.destroy(node);
    try node.start(both[0], 0);
    defer node.end();
    var count: u32 = 0;
    while (try node.receive(0)) count += 1;
    try testing.expect(count > 100);
    const s = &node.receiver.streams[1];
    for (0..200) |_| try testing.expect(try node.receive(1));
    try testing.expectEqual(200, s.next.msg);
    // Nobody has ordered anything: nothing is acknowledged.
    try testing.expectEqual(0, node.host.stage.ack_position(s).msg);
    node.host.begin_era(.{ .number = 1, .id = 1 });
    // In turns of 64.
    try testing.expectEqual(128, node.host.order(5, 128));
    try testing.expectEqual(10, node.host.entry_at(0).transport);
    try testing.expectEqual(11, node.host.entry_at(64).transport);
    node.host.committed(node.host.next());
    try testing.expectEqual(64, node.host.stage.ack_position(s).msg);
}

test "a limit on messages ahead of what is committed" {
    const gpa = testing.allocator;
    var buffers: [2][64]u8 = undefined;
    const both = try names(&buffers);
    defer for (both) |name| remove(name);
    const node = try gpa.create(Node);
    defer gpa.destroy(node);
    try node.start(both[0], 0);
    defer node.end();
    node.host.stage.limit_count = 10;
    for (0..10) |_| try testing.expect(try node.receive(0));
    try testing.expect(!try node.receive(0));
    try testing.expect(try node.receive(1));
    node.host.begin_era(.{ .number = 1, .id = 1 });
    _ = node.host.order(5, 100);
    try testing.expect(!try node.receive(0));
    node.host.committed(4);
    for (0..4) |_| try testing.expect(try node.receive(0));
    try testing.expect(!try node.receive(0));
}
