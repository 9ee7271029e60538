//! Record files written by a log, cut, flipped, killed and read again.

const std = @import("std");
const testing = std.testing;
const linux = std.os.linux;
const limits = @import("../limits.zig");
const record = @import("record.zig");
const record_file = @import("record_file.zig");
const recovery = @import("recovery.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const record_agent = @import("../agent/record_agent.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Log = @import("log.zig").Log;
const Descriptor = record.Descriptor;
const RecordAgent = record_agent.RecordAgent;

const block_bytes = limits.record_block_bytes;

/// Messages by their number: everything about them follows from it.
const Message = struct {
    fn length(no: u64) u32 {
        if (no % 41 == 40) return block_bytes + @as(u32, @intCast(no));
        if (no % 7 == 3) return 0;
        return @intCast(no * 37 % 300);
    }

    fn byte(no: u64, i: usize) u8 {
        return @truncate(no *% 31 +% i *% 7 +% 1);
    }

    fn meta(no: u64) record.Meta {
        return .{
            .msg_no = no / 3,
            .time_ms = 1_700_000_000_000 + no,
            .stream = @intCast(no % 3),
            .msg_arg = @truncate(no),
            .tx_arg = 5,
        };
    }
};

const Life = struct {
    pool: ChunkPool,
    region: region_file.Region,
    log: Log,
    agent: RecordAgent,
    buffer: []u8,

    const chunks = 40;

    const How = struct {
        name: []const u8,
        file_bytes: u64 = limits.record_file_bytes_min,
        replay_from: u64 = 0,
        text: *files.ErrorText,
    };

    fn start(self: *Life, how: How) !void {
        const gpa = testing.allocator;
        self.region = try region_file.map_anonymous(chunks * block_bytes);
        self.pool = try .init(gpa, .{
            .base = self.region.base,
            .bytes = self.region.bytes,
            .chunk_bytes = block_bytes,
        });
        errdefer self.pool.deinit(gpa);
        try RecordAgent.open(gpa, &self.agent, .{
            .directory = "/dev/shm/",
            .context = how.name,
            .context_id = 7,
            .file_bytes = how.file_bytes,
            .replay_from = how.replay_from,
        }, &self.pool, how.text);
        self.log = try .init(gpa, &self.pool, self.agent.recording.first_sqn());
        self.log.record_with(&self.agent.recording.recorder);
        for (self.agent.recording.recorder.stream_count..3) |id| {
            var entry = std.mem.zeroes(record_file.StreamEntry);
            entry.id = @intCast(id);
            entry.connection = 100 + id;
            self.agent.recording.recorder.set_stream(entry);
        }
        self.buffer = try gpa.alloc(u8, 2 * block_bytes);
        try self.agent.spawn();
    }

    fn append(self: *Life, no: u64) !void {
        const payload = self.buffer[0..Message.length(no)];
        for (payload, 0..) |*b, i| b.* = Message.byte(no, i);
        // The next file may be under way.
        const until = 20_000;
        for (0..until) |_| {
            if (self.log.append(Message.meta(no), payload)) |sqn| {
                try testing.expectEqual(no, sqn);
                self.log.publish();
                return;
            } else |_| {}
            const pause: linux.timespec = .{ .sec = 0, .nsec = std.time.ns_per_ms };
            _ = linux.nanosleep(&pause, null);
        }
        return error.NoRoom;
    }

    /// Delivers what there is and compares it. The next number.
    fn take(self: *Life, first: u64) !u64 {
        var descriptors: [64]Descriptor = undefined;
        var no = first;
        while (true) {
            const n = self.log.fill(&descriptors, 64);
            if (n == 0 and self.agent.recording.replay.step(&self.log) == 0) return no;
            for (descriptors[0..n]) |*d| {
                const meta = Message.meta(no);
                try testing.expectEqual(@as(f64, @floatFromInt(no)), d.sqn);
                try testing.expectEqual(Message.length(no), d.length);
                try testing.expectEqual(meta.stream, d.stream);
                const header = self.log.header_of(d);
                try testing.expectEqual(meta.msg_no, header.msg_no);
                try testing.expectEqual(meta.time_ms, header.time_ms);
                try testing.expectEqual(meta.msg_arg, header.msg_arg);
                for (self.log.payload_of(d), 0..) |b, i| {
                    if (b != Message.byte(no, i)) return error.WrongContent;
                }
                no += 1;
            }
            self.log.processed(self.log.read_next());
        }
    }

    /// `is_killed`: the files stay as they are, as after a crash.
    fn end(self: *Life, is_killed: bool) void {
        const gpa = testing.allocator;
        self.agent.join();
        self.log.deinit(gpa);
        self.pool.deinit(gpa);
        region_file.release(self.region);
        if (is_killed) if (self.agent.recording.recorder.current) |*c| {
            c.next_block = c.block_count;
        };
        self.agent.deinit(gpa);
        gpa.free(self.buffer);
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
    for (0..100) |n| {
        folder.remove(record_file.file_name(&buffer, @intCast(n)));
        folder.remove(record_file.file_name_aside(&buffer, @intCast(n)));
    }
    var path: [128]u8 = undefined;
    const text_z = std.fmt.bufPrintSentinel(&path, "/dev/shm/{s}", .{name}, 0) catch return;
    _ = linux.rmdir(text_z);
}

test "a restart delivers the same again and goes on, however the process ended" {
    var buffer: [64]u8 = undefined;
    const name = try folder_name(&buffer, "record");
    remove_folder(name);
    defer remove_folder(name);
    var text: files.ErrorText = .{};
    var total: u64 = 0;
    for (0..6) |life_no| {
        var life: Life = undefined;
        try life.start(.{ .name = name, .text = &text });
        defer life.end(life_no % 2 == 0);
        try testing.expectEqual(total, life.agent.recording.found.next_sqn);
        try testing.expectEqual(null, life.agent.recording.found.damage);
        try testing.expectEqual(total, try life.take(0));
        try testing.expect(life.agent.recording.replay.is_done());
        const target = total + 150 + life_no;
        while (total < target) : (total += 1) {
            try life.append(total);
            if (total % 5 == 0) _ = try life.take(life.log.read_next());
        }
        try testing.expectEqual(total, try life.take(life.log.read_next()));
    }
    for ([_]u64{ 0, 1, 41, 333, total - 1, total, total + 5 }) |from| {
        var life: Life = undefined;
        try life.start(.{ .name = name, .text = &text, .replay_from = from });
        defer life.end(false);
        const first = @min(from, total);
        try testing.expectEqual(first, life.agent.recording.first_sqn());
        try testing.expectEqual(total, try life.take(first));
        const known = life.agent.recording.found.streams.items;
        try testing.expectEqual((total + 2) / 3, known[0].next_msg);
        try testing.expectEqual(@as(u64, 101), known[1].entry.connection);
    }
}

// -------------------------------------------------------------------- damage

/// The first file of a record of `count` messages, in memory.
const Copy = struct {
    bytes: []align(8) u8,
    /// By sqn: where its record begins and ends in the segment.
    spans: std.ArrayList([2]u64) = .empty,
    /// The large message, and where it lies.
    large_sqn: ?u64 = null,
    large: [2]u64 = .{ 0, 0 },

    fn make(count: u64) !Copy {
        const gpa = testing.allocator;
        var buffer: [64]u8 = undefined;
        const name = try folder_name(&buffer, "copy");
        remove_folder(name);
        defer remove_folder(name);
        var text: files.ErrorText = .{};
        var life: Life = undefined;
        try life.start(.{ .name = name, .text = &text });
        for (0..count) |no| try life.append(no);
        const current = &life.agent.recording.recorder.current.?;
        var self: Copy = .{ .bytes = try gpa.alignedAlloc(u8, .@"8", current.used_bytes()) };
        try testing.expect(current.file.read(self.bytes, 0));
        life.end(false);
        try self.find_spans(count);
        return self;
    }

    fn find_spans(self: *Copy, count: u64) !void {
        const gpa = testing.allocator;
        var found = try recovery.scan(gpa, &.{self.bytes});
        defer found.deinit();
        try testing.expectEqual(count, found.next_sqn);
        try testing.expectEqual(1, found.segments.items.len);
        const segment = found.segments.items[0];
        var at = segment.place.offset() + limits.record_block_header_bytes;
        for (0..count) |sqn| {
            const header: *const record.RecordHeader = @ptrCast(@alignCast(self.bytes.ptr + at));
            var bytes: u64 = record.header_bytes;
            if (header.length == record.length_reference) {
                const place: record_file.Place = @bitCast(header.time_ms);
                self.large_sqn = sqn;
                const start = place.offset();
                const whole = record.record_bytes(Message.length(sqn));
                self.large = .{ start, start + limits.record_block_header_bytes + whole };
            } else bytes = record.record_bytes(header.length);
            try self.spans.append(gpa, .{ at, at + bytes });
            at += bytes;
        }
    }

    fn deinit(self: *Copy) void {
        self.spans.deinit(testing.allocator);
        testing.allocator.free(self.bytes);
    }

    fn segment_start(self: *const Copy) u64 {
        return self.spans.items[0][0] - limits.record_block_header_bytes;
    }

    fn end(self: *const Copy) u64 {
        return self.spans.items[self.spans.items.len - 1][1];
    }

    /// One past the last sqn that can be read when the byte at `at` is wrong.
    fn prefix_without(self: *const Copy, at: u64) u64 {
        const all = self.spans.items.len;
        const table = record_file.table_offset;
        const entry_bytes = @sizeOf(record_file.StreamEntry);
        // Records of a stream depend on its entry and on those in front of it.
        if (at >= table and at < table + 3 * entry_bytes) return (at - table) / entry_bytes;
        if (at >= self.segment_start() and at < self.spans.items[0][0]) return 0;
        for (self.spans.items, 0..) |span, sqn| {
            if (at < span[0] or at >= span[1]) continue;
            // Where a message is mapped is nothing that is read from a file.
            const msg_no = span[0] + @offsetOf(record.RecordHeader, "msg_no");
            if (sqn == self.large_sqn and at >= msg_no and at < msg_no + 8) return all;
            return sqn;
        }
        if (at >= self.large[0] and at < self.large[1]) return self.large_sqn.?;
        return all;
    }
};

test "a record that is cut at any byte has exactly the records in front of it" {
    const count = 30;
    var copy: Copy = try .make(count);
    defer copy.deinit();
    const start = copy.segment_start();
    var cuts: u32 = 0;
    for (0..copy.end() + 64) |length| {
        // Between the table and the first segment there is nothing but zeros.
        if (length > 5200 and length < start) continue;
        cuts += 1;
        var found = try recovery.scan(testing.allocator, &.{copy.bytes[0..length]});
        defer found.deinit();
        var expected: u64 = 0;
        var is_torn = length > start and length < start + limits.record_block_header_bytes;
        for (copy.spans.items) |span| {
            if (length >= span[1]) expected += 1;
            // What is left of it may be zeros, as if there had been nothing.
            if (length > span[0] and length < span[1]) {
                if (!std.mem.allEqual(u8, copy.bytes[span[0]..length], 0)) is_torn = true;
            }
        }
        try testing.expectEqual(expected, found.next_sqn);
        try testing.expectEqual(is_torn, found.damage != null);
    }
    try testing.expect(cuts > 8_000);
}

test "a bit that is flipped anywhere is found, and costs nothing in front of it" {
    const count = 60;
    var copy: Copy = try .make(count);
    defer copy.deinit();
    try testing.expectEqual(40, copy.large_sqn.?);
    var prng: std.Random.DefaultPrng = .init(0xf11b);
    const random = prng.random();
    const start = copy.segment_start();
    for (0..10_000) |i| {
        const at = switch (i % 4) {
            0 => random.uintLessThan(u64, 5200),
            1, 2 => start + random.uintLessThan(u64, copy.end() + 40 - start),
            else => random.uintLessThan(u64, copy.bytes.len),
        };
        const bit = @as(u8, 1) << random.int(u3);
        copy.bytes[at] ^= bit;
        defer copy.bytes[at] ^= bit;
        var found = try recovery.scan(testing.allocator, &.{copy.bytes});
        defer found.deinit();
        const expected = copy.prefix_without(at);
        try testing.expectEqual(expected, found.next_sqn);
        if (expected < count) try testing.expect(found.damage != null);
    }
}

test "an entry behind the end of the order names nobody, and one in front of it does" {
    var copy: Copy = try .make(60);
    defer copy.deinit();
    const at = record_file.table_offset;
    const entry: *record_file.StreamEntry = @ptrCast(@alignCast(copy.bytes.ptr + at));
    try testing.expectEqual(0, entry.first_sqn);
    entry.first_sqn = 50;
    entry.check = entry.check_now();
    // It stays, so it may come late.
    var all = try recovery.scan(testing.allocator, &.{copy.bytes});
    defer all.deinit();
    try testing.expectEqual(60, all.next_sqn);
    // It goes with what is behind 30: the next start would not know whose the first message is.
    const torn_at = copy.bytes.ptr + copy.spans.items[30][0];
    const torn: *record.RecordHeader = @ptrCast(@alignCast(torn_at));
    torn.check ^= 1;
    var found = try recovery.scan(testing.allocator, &.{copy.bytes});
    defer found.deinit();
    try testing.expectEqual(0, found.next_sqn);
    try testing.expectEqual(0, found.streams.items.len);
    try testing.expect(found.damage != null);
}
