//! A tier's log against a model: appended in all ways, shown, taken slowly, cut, killed, read
//! again.

const std = @import("std");
const testing = std.testing;
const linux = std.os.linux;
const limits = @import("../limits.zig");
const record = @import("record.zig");
const record_file = @import("record_file.zig");
const recorder_file = @import("recorder.zig");
const recovery = @import("recovery.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const epoch_file = @import("../tier/epoch.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Log = @import("log.zig").Log;
const TierLog = @import("tier_log.zig").TierLog;
const Recorder = recorder_file.Recorder;
const RecordAgent = @import("../agent/record_agent.zig").RecordAgent;
const Descriptor = record.Descriptor;
const Epoch = epoch_file.Epoch;

const block_bytes = limits.record_block_bytes;
const streams = 3;

/// Everything about an entry follows from its place and its epoch.
const Message = struct {
    fn length(sqn: u64, epoch: u64) u32 {
        const no = sqn *% 7 +% epoch;
        if (no % 97 == 40) return block_bytes + @as(u32, @intCast(sqn % 1000));
        if (no % 7 == 3) return 0;
        return @intCast(no *% 37 % 4000);
    }

    fn byte(sqn: u64, epoch: u64, i: usize) u8 {
        return @truncate(sqn *% 31 +% i *% 7 +% epoch *% 101 +% 1);
    }

    fn fill(sqn: u64, epoch: u64, out: []u8) void {
        for (out, 0..) |*b, i| b.* = byte(sqn, epoch, i);
    }

    fn meta(sqn: u64, epoch: u64) record.Meta {
        return .{
            .msg_no = sqn * 2,
            .time_ms = 1_700_000_000_000 + sqn,
            .stream = @intCast((sqn + epoch) % streams),
            .msg_arg = @truncate(sqn),
            .tx_arg = 5,
        };
    }

    fn connection(stream: u32, epoch: u64) u64 {
        return 1000 * (epoch / 2) + stream + 1;
    }
};

const Life = struct {
    pool: ChunkPool,
    region: region_file.Region,
    log: Log,
    tier: TierLog,
    agent: ?RecordAgent,
    recorder: Recorder,
    buffer: []u8,
    epoch: u64 = 0,

    const How = struct { name: ?[]const u8, chunks: u32 = 12, from_sqn: u64 = 0 };

    fn start(self: *Life, how: How) !void {
        const gpa = testing.allocator;
        self.epoch = 0;
        self.region = try region_file.map_anonymous(how.chunks * @as(u64, block_bytes));
        self.pool = try .init(gpa, .{
            .base = self.region.base,
            .bytes = self.region.bytes,
            .chunk_bytes = block_bytes,
        });
        self.agent = null;
        const recorder = if (how.name) |name| blk: {
            var text: files.ErrorText = .{};
            self.agent = @as(RecordAgent, undefined);
            try RecordAgent.open(gpa, &self.agent.?, .{
                .directory = "/dev/shm/",
                .context = name,
                .context_id = 7,
                .file_bytes = limits.record_file_bytes_min,
            }, &self.pool, &text);
            break :blk &self.agent.?.recording.recorder;
        } else blk: {
            const o: recorder_file.Options =
                .{ .context = "memory", .context_id = 7, .file_bytes = 0, .life = 9 };
            self.recorder = try .init(gpa, &self.pool, o, null);
            break :blk &self.recorder;
        };
        self.log = try .init(gpa, &self.pool, how.from_sqn);
        self.log.record_with(recorder);
        try self.tier.init(gpa, &self.log, .{
            .folder = if (self.agent) |*a| &a.disk.folder else null,
            .found = if (self.agent) |*a| &a.recording.found else null,
            .from_sqn = how.from_sqn,
        });
        for (recorder.stream_count..streams) |id| {
            var entry = std.mem.zeroes(record_file.StreamEntry);
            entry.id = @intCast(id);
            recorder.set_stream(entry);
        }
        if (self.tier.eras.items.len > 0) {
            self.epoch = self.tier.eras.items[self.tier.eras.items.len - 1].epoch.number;
        }
        self.buffer = try gpa.alloc(u8, 2 * block_bytes);
        if (self.agent) |*a| try a.spawn();
    }

    fn end(self: *Life, is_killed: bool) void {
        const gpa = testing.allocator;
        if (self.agent) |*a| a.join();
        self.tier.deinit();
        self.log.deinit(gpa);
        self.pool.deinit(gpa);
        region_file.release(self.region);
        if (self.agent) |*a| {
            if (is_killed) if (a.recording.recorder.current) |*c| {
                c.next_block = c.block_count;
            };
            a.deinit(gpa);
        } else self.recorder.deinit(gpa);
        gpa.free(self.buffer);
    }

    fn begin_era(self: *Life, number: u64) !void {
        self.epoch = number;
        try testing.expect(self.tier.begin_era(.{ .number = number, .id = number * 3 }));
    }

    const Way = enum { copied, assembled, loose };

    fn append(self: *Life, way: Way) !void {
        const until = 20_000;
        for (0..until) |_| {
            if (try self.append_once(way)) return;
            _ = self.tier.feed();
            const pause: linux.timespec = .{ .sec = 0, .nsec = std.time.ns_per_ms };
            _ = linux.nanosleep(&pause, null);
        }
        return error.NoRoom;
    }

    fn append_once(self: *Life, way: Way) !bool {
        const sqn = self.log.next();
        const payload = self.buffer[0..Message.length(sqn, self.epoch)];
        Message.fill(sqn, self.epoch, payload);
        const meta = Message.meta(sqn, self.epoch);
        const connection = Message.connection(meta.stream, self.epoch);
        try testing.expect(self.tier.set_connection(meta.stream, connection));
        switch (way) {
            .copied => if (payload.len < block_bytes / 2) {
                _ = self.log.append(meta, payload) catch return false;
                return true;
            },
            .assembled => if (self.log.reserve(@intCast(payload.len))) |extent| {
                @memcpy(extent.payload, payload);
                _ = self.tier.commit(extent, meta) catch {
                    self.log.abort(extent);
                    return false;
                };
                return true;
            },
            .loose => {},
        }
        var loose = self.tier.begin_loose(@intCast(payload.len)) catch return false;
        const half = payload.len / 2;
        try self.tier.add_loose(&loose, payload[0..half]);
        try self.tier.add_loose(&loose, payload[half..]);
        _ = self.tier.commit_loose(&loose, meta) catch return false;
        return true;
    }
};

/// What the log must be: the epoch of each sqn.
const Model = struct {
    epochs: std.ArrayList(u64) = .empty,

    fn deinit(self: *Model) void {
        self.epochs.deinit(testing.allocator);
    }

    fn check_read(self: *const Model, life: *Life, sqn: u64) !void {
        const epoch = self.epochs.items[sqn];
        const l = life.tier.history.locate(sqn) orelse return error.NotFound;
        const length = Message.length(sqn, epoch);
        const meta = Message.meta(sqn, epoch);
        try testing.expectEqual(length, l.header.length);
        try testing.expectEqual(meta.msg_no, l.header.msg_no);
        try testing.expectEqual(meta.time_ms, l.header.time_ms);
        try testing.expectEqual(meta.stream, l.header.stream);
        const connection = life.tier.connection_at(meta.stream, sqn);
        try testing.expectEqual(Message.connection(meta.stream, epoch), connection.?);
        const skipped = length / 3;
        const out = life.buffer[0 .. length - skipped];
        try testing.expectEqual(out.len, life.tier.history.read(&l, skipped, out));
        for (out, skipped..) |b, i| {
            if (b != Message.byte(sqn, epoch, i)) return error.WrongContent;
        }
    }

    fn check_eras(self: *const Model, life: *Life) !void {
        var at: usize = 0;
        for (self.epochs.items, 0..) |epoch, sqn| {
            if (sqn > 0 and self.epochs.items[sqn - 1] == epoch) continue;
            const era = life.tier.eras.items[at];
            try testing.expectEqual(epoch, era.epoch.number);
            try testing.expectEqual(sqn, era.first_sqn);
            at += 1;
        }
        // One may have begun in which nothing was assigned yet.
        try testing.expect(life.tier.eras.items.len - at <= 1);
    }

    fn take(self: *const Model, life: *Life, max: u32) !u32 {
        var descriptors: [64]Descriptor = undefined;
        const first = life.log.read_next();
        const n = life.log.fill(&descriptors, @min(max, descriptors.len));
        for (descriptors[0..n], first..) |*d, sqn| {
            const epoch = self.epochs.items[sqn];
            try testing.expectEqual(@as(f64, @floatFromInt(sqn)), d.sqn);
            try testing.expectEqual(Message.length(sqn, epoch), d.length);
            for (life.log.payload_of(d), 0..) |b, i| {
                if (b != Message.byte(sqn, epoch, i)) return error.WrongContent;
            }
        }
        return n;
    }
};

fn folder_name(buffer: []u8, what: []const u8) ![]const u8 {
    return std.fmt.bufPrint(buffer, "rcmtest_{s}_{d}", .{ what, files.process_id() });
}

fn remove_folder(name: []const u8) void {
    var text: files.ErrorText = .{};
    const folder = files.Folder.open("/dev/shm/", name, &text) catch return;
    defer folder.close();
    var buffer: [record_file.file_name_bytes]u8 = undefined;
    for (0..200) |n| {
        folder.remove(record_file.file_name(&buffer, @intCast(n)));
        folder.remove(record_file.file_name_aside(&buffer, @intCast(n)));
    }
    var path: [128]u8 = undefined;
    const text_z = std.fmt.bufPrintSentinel(&path, "/dev/shm/{s}", .{name}, 0) catch return;
    _ = linux.rmdir(text_z);
}

fn run_model(name: ?[]const u8, seed: u64, steps: u32) !void {
    const gpa = testing.allocator;
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    var model: Model = .{};
    defer model.deinit();
    var life: Life = undefined;
    try life.start(.{ .name = name });
    errdefer std.log.warn("seed {d}", .{seed});
    errdefer life.end(true);
    var epoch: u64 = 1;
    try life.begin_era(epoch);
    for (0..steps) |_| {
        switch (random.uintLessThan(u32, 100)) {
            0...59 => for (0..random.uintAtMost(u32, 60)) |_| {
                const way = random.enumValue(Life.Way);
                try life.append(if (random.boolean()) .copied else way);
                try model.epochs.append(gpa, life.epoch);
            },
            60...69 => life.tier.show(random.intRangeAtMost(
                u64,
                life.log.ordered_next(),
                life.log.next(),
            )),
            70...79 => {
                _ = try model.take(&life, random.uintAtMost(u32, 64));
                if (random.boolean()) life.log.processed(life.log.read_next());
                if (random.uintLessThan(u32, 8) == 0) life.log.rewind();
            },
            80...87 => _ = life.tier.feed(),
            88...89 => {
                const limit = life.log.next();
                const sqn = random.intRangeAtMost(u64, limit -| 200, limit);
                const handed = life.tier.handed();
                const expected = sqn >= handed or sqn == limit;
                const done = life.tier.truncate(sqn) == .done;
                try testing.expectEqual(expected, done);
                if (!done) continue;
                model.epochs.shrinkRetainingCapacity(sqn);
                epoch += 1;
                try life.begin_era(epoch);
            },
            90...91 => {
                epoch += 1;
                try life.begin_era(epoch);
            },
            92...98 => {
                if (model.epochs.items.len == 0) continue;
                const from = random.uintLessThan(usize, model.epochs.items.len);
                const to = @min(model.epochs.items.len, from + 20);
                for (from..to) |sqn| try model.check_read(&life, sqn);
            },
            else => {
                if (name == null) continue;
                const next = life.log.next();
                life.end(random.boolean());
                const from = if (random.boolean()) 0 else random.uintAtMost(u64, next);
                try life.start(.{ .name = name, .from_sqn = from });
                try testing.expectEqual(next, life.log.next());
                epoch += 1;
                if (random.boolean()) try life.begin_era(epoch);
                if (life.epoch == 0) try life.begin_era(epoch);
            },
        }
        try testing.expectEqual(model.epochs.items.len, life.log.next());
    }
    try finish(&model, &life);
}

/// Everything comes out, and the life ends.
fn finish(model: *Model, life: *Life) !void {
    try model.check_eras(life);
    life.tier.show(life.log.next());
    while (life.log.processed_next() < life.log.next()) {
        const before = life.log.processed_next();
        const fed = life.tier.feed();
        const taken = try model.take(life, 64);
        life.log.processed(life.log.read_next());
        const freed = life.log.processed_next() != before;
        if (fed == 0 and taken == 0 and !freed) return error.Stuck;
    }
    life.end(false);
}

test "a tier's log in memory is what was appended and not cut, for the program and by sqn" {
    for (0..6) |seed| try run_model(null, seed, 400);
}

test "a tier's log on disk is the same after each restart, however the process ended" {
    var buffer: [64]u8 = undefined;
    const name = try folder_name(&buffer, "tierlog");
    for (100..106) |seed| {
        remove_folder(name);
        defer remove_folder(name);
        try run_model(name, seed, 400);
    }
}

/// Cuts a log at `sqn`, dying after `stores` stores to its files, and compares what is found then.
fn cut_and_die(name: []const u8, sqn: u64, stores: u64) !bool {
    remove_folder(name);
    defer remove_folder(name);
    var model: Model = .{};
    defer model.deinit();
    var life: Life = undefined;
    try life.start(.{ .name = name });
    for (1..6) |epoch| {
        try life.begin_era(epoch);
        for (0..60) |_| {
            try life.append(.assembled);
            try model.epochs.append(testing.allocator, epoch);
        }
    }
    const full = life.log.next();
    life.tier.stores_left = stores;
    try testing.expectEqual(.done, life.tier.truncate(sqn));
    const is_over = life.tier.stores_left > 0;
    life.end(true);
    try life.start(.{ .name = name });
    defer life.end(false);
    const next = life.log.next();
    try testing.expect(next >= sqn and next <= full);
    if (is_over) try testing.expectEqual(sqn, next);
    for (0..next) |at| try model.check_read(&life, at);
    model.epochs.shrinkRetainingCapacity(next);
    try model.check_eras(&life);
    // What is appended now is what is found next time.
    try testing.expectEqual(.done, life.tier.truncate(sqn));
    try life.begin_era(9);
    try life.append(.copied);
    try testing.expectEqual(sqn + 1, life.log.next());
    return is_over;
}

test "a truncation that dies between any two stores leaves a true prefix" {
    var buffer: [64]u8 = undefined;
    const name = try folder_name(&buffer, "tiercut");
    for ([_]u64{ 0, 7, 60, 61, 119, 250, 299 }) |sqn| {
        var stores: u64 = 0;
        while (!try cut_and_die(name, sqn, stores)) stores += 1;
    }
}

const Race = struct {
    life: *Life,
    stop: std.atomic.Value(bool) = .init(false),
    failed: std.atomic.Value(bool) = .init(false),
    taken: std.atomic.Value(u64) = .init(0),

    /// The program: takes what it sees, and must never be given two things under one sqn.
    fn consume(self: *Race) void {
        var descriptors: [32]Descriptor = undefined;
        var next: u64 = 0;
        while (!self.stop.load(.acquire)) {
            const n = self.life.log.fill(&descriptors, 32);
            for (descriptors[0..n]) |*d| {
                const payload = self.life.log.payload_of(d);
                if (d.sqn != @as(f64, @floatFromInt(next))) self.failed.store(true, .release);
                const told = std.mem.readInt(u64, payload[0..8], .little);
                if (told != next) self.failed.store(true, .release);
                next += 1;
            }
            if (n > 0) {
                self.life.log.processed(self.life.log.read_next());
                self.taken.store(next, .release);
            }
        }
    }
};

test "truncating beside a program that takes messages" {
    var life: Life = undefined;
    try life.start(.{ .name = null });
    defer life.end(false);
    var race: Race = .{ .life = &life };
    const thread = try std.Thread.spawn(.{}, Race.consume, .{&race});
    var prng: std.Random.DefaultPrng = .init(5);
    const random = prng.random();
    var cuts: u32 = 0;
    try life.begin_era(1);
    try testing.expect(life.tier.set_connection(0, 1));
    var payload: [400]u8 = @splat(7);
    for (0..30_000) |round| {
        for (0..random.uintAtMost(u32, 6)) |_| {
            std.mem.writeInt(u64, payload[0..8], life.log.next(), .little);
            var meta = Message.meta(life.log.next(), 1);
            meta.stream = 0;
            _ = life.log.append(meta, &payload) catch break;
        }
        const next = life.log.next();
        const visible = life.log.ordered_next();
        if (round % 3 == 0) life.tier.show(random.intRangeAtMost(u64, visible, next));
        _ = life.tier.feed();
        if (round % 7 != 0) continue;
        const sqn = random.intRangeAtMost(u64, visible -| 8, next);
        switch (life.tier.truncate(sqn)) {
            .done => {
                if (sqn < next) cuts += 1;
                try life.begin_era(round + 2);
            },
            .busy, .delivered => {},
        }
    }
    life.tier.show(life.log.next());
    while (race.taken.load(.acquire) < life.log.next() and !race.failed.load(.acquire)) {
        _ = life.tier.feed();
    }
    race.stop.store(true, .release);
    thread.join();
    try testing.expect(!race.failed.load(.acquire));
    try testing.expect(cuts > 100);
}
