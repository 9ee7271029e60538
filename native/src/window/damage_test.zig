//! Files of a context that were damaged while nobody had them open: every byte of headers, cursors
//! and nodes is changed in turn, bytes of messages at many places, files are cut, and come from
//! another version. Each time the start must refuse them with words, or tell the messages that it
//! lost, or be as if nothing had happened. It never gives one message's bytes under another number,
//! and never forgets a number.
//!
//! What a start can't see is a changed byte of a message's payload: it has no checksum
//! (`docs/files.md`). The test says so too: exactly that byte is different.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const layout = @import("node.zig");
const files = @import("files.zig");
const region_file = @import("region.zig");
const store_file = @import("store.zig");
const Bump = @import("pool.zig").Bump;

const testing = std.testing;
const io = testing.io;
const Store = store_file.Store;

const arena_bytes = 1 << 20;
const header_bytes = @offsetOf(layout.FileHeader, "pid");
/// Above two bytes, so that several bytes of each number matter.
const first_no = 70_000;
/// More than a lap of the ring, so that no node is unused.
const message_count = 6000;
const written = first_no + message_count;
const acked = written - 500;
const reclaimed = written - 900;
const connection_id = 7_777_777_777_777;

const File = enum(u2) { arena, page, block_1, block_2 };
const file_count = @typeInfo(File).@"enum".field_names.len;
const file_names = [file_count][:0]const u8{
    "client1_allocator",
    "client1_req_1_sendingwindow",
    "client1_req_1_sendingwindowblock_1",
    "client1_req_1_sendingwindowblock_2",
};

/// Whole files, and what they are after any damage was undone.
const Scene = struct {
    tmp: testing.TmpDir,
    path: [256]u8 = undefined,
    path_bytes: usize = 0,
    text: files.ErrorText = .{},
    /// The files as they lie there, and copies of them.
    now: [file_count]region_file.Region = undefined,
    good: [file_count][]u8 = undefined,

    fn init() !*Scene {
        const self = try testing.allocator.create(Scene);
        self.* = .{ .tmp = testing.tmpDir(.{}) };
        const length = try self.tmp.dir.realPath(io, &self.path);
        self.path[length] = '/';
        self.path_bytes = length + 1;
        try self.make();
        // Once more, so that it was taken over from an earlier process.
        (try self.open()).close();
        for (file_names, &self.now, &self.good) |name, *now, *good| {
            const flags: linux.O = .{ .ACCMODE = .RDWR, .CLOEXEC = true };
            const fd: i32 = @intCast(linux.openat(self.tmp.dir.handle, name, flags, 0));
            try testing.expect(fd >= 0);
            defer _ = linux.close(fd);
            const bytes = (try self.tmp.dir.statFile(io, name, .{})).size;
            now.* = try region_file.map_files(&.{.{ .fd = fd, .offset = 0, .bytes = bytes }});
            good.* = try testing.allocator.dupe(u8, now.slice());
        }
        return self;
    }

    fn deinit(self: *Scene) void {
        for (self.now, self.good) |now, good| {
            region_file.release(now);
            testing.allocator.free(good);
        }
        self.tmp.cleanup();
        testing.allocator.destroy(self);
    }

    /// A window in the middle of its life: some messages wait, some are kept for late repair.
    fn make(self: *Scene) !void {
        const store = try self.open();
        defer store.close();
        const window = &store.windows[0].window;
        window.start_at(first_no, &store.pool);
        window.set_connection(connection_id, first_no);
        var bump = Bump.init(&store.pool).?;
        for (first_no..written) |no| {
            if (no - first_no >= 900) {
                window.set_sent(no - 400, 0);
                window.set_acked(no - 500);
                window.reclaim_to(no - 899, &store.pool);
            }
            const length = length_of(no);
            const offset = bump.alloc(limits.message_header_bytes + length, 8).?;
            const payload = offset + limits.message_header_bytes;
            @memset(store.pool.slice(payload, length), @truncate(no));
            const given = window.publish(@intCast(payload / 8), length, @truncate(no), 0);
            try testing.expectEqual(no, given);
        }
        window.set_acked(acked);
        window.reclaim_to(reclaimed, &store.pool);
    }

    fn length_of(no: u64) u32 {
        return @intCast(if (no % 101 == 0) 9000 else no * 37 % 300);
    }

    fn open(self: *Scene) !*Store {
        return Store.open(testing.allocator, .{
            .directory = self.path[0..self.path_bytes],
            .context = "client1",
            .arena_bytes = arena_bytes,
            .windows = &.{.{ .topic = "req", .partition = 1 }},
        }, &self.text);
    }

    fn good_node(self: *const Scene, no: u64) *const layout.Node {
        const slot = no % limits.node_count_for(arena_bytes);
        const half = limits.node_count_for(arena_bytes) / 2;
        const block = self.good[@backingInt(if (slot < half) File.block_1 else File.block_2)];
        const at = limits.page_bytes + slot % half * limits.node_bytes;
        return @ptrCast(@alignCast(block[at..][0..limits.node_bytes]));
    }

    const Hit = struct { no: u64, payload: u64 };

    /// The message that is kept at this place of the arena, its header counted in.
    fn message_at(self: *const Scene, offset: u64) ?Hit {
        for (reclaimed..written) |no| {
            const node = self.good_node(no);
            const payload = @as(u64, node.offset8) * limits.payload_alignment;
            if (offset + limits.message_header_bytes < payload) continue;
            if (offset < payload + node.length) return .{ .no = no, .payload = payload };
        }
        return null;
    }

    fn expect_words(self: *const Scene, name: []const u8, bytes: u64) !void {
        const text = self.text.text();
        if (std.mem.indexOf(u8, text, name) != null) return;
        // What has no page can't be told from a file that was never finished: the window is named.
        if (bytes < limits.page_bytes and std.mem.indexOf(u8, text, "500 messages") != null) return;
        std.log.warn("cut to {d} bytes: {s}", .{ bytes, text });
        return error.WordMissing;
    }

    /// Undoes the damage and what a start stored since; the arena's messages it leaves alone.
    fn restore(self: *Scene) void {
        for (self.now, self.good, 0..) |now, good, i| {
            const bytes = if (i == @backingInt(File.arena)) limits.page_bytes else good.len;
            @memcpy(now.base[0..bytes], good[0..bytes]);
        }
    }

    const Verdict = union(enum) {
        refused,
        /// So many messages are told as lost; all others are as they were.
        lost: u64,
    };

    /// A start over what lies there now.
    fn judge(self: *Scene) !Verdict {
        const store = self.open() catch |err| {
            try testing.expectEqual(error.Shm, err);
            try testing.expect(self.text.text().len > 20);
            return .refused;
        };
        defer store.close();
        const window = &store.windows[0].window;
        const recovery = &store.windows[0].recovery;
        try testing.expect(recovery.resumed);
        try testing.expectEqual(written, window.written());
        try testing.expect(window.acked() <= acked);
        try testing.expect(window.reclaimed() >= reclaimed);
        try testing.expect(window.connection_id() >= connection_id);
        try testing.expect(window.connection_first() <= acked);
        var lost: u64 = 0;
        for (window.reclaimed()..written) |no| {
            const node = window.node(no);
            if (node.flags & layout.flag_lost != 0) {
                try testing.expect(no >= recovery.lost_from and no < recovery.lost_to);
                try testing.expect(no >= window.acked());
                lost += 1;
            } else if (!std.meta.eql(node.*, self.good_node(no).*)) {
                return error.WrongMessage;
            }
        }
        try testing.expectEqual(recovery.lost_count, lost);
        return .{ .lost = lost };
    }

    /// Changes one byte, starts, and undoes it.
    fn flip(self: *Scene, file: File, offset: usize, mask: u8) !Verdict {
        defer self.restore();
        self.now[@backingInt(file)].base[offset] ^= mask;
        errdefer std.log.warn("{t}, byte {d}, mask 0x{x}", .{ file, offset, mask });
        return self.judge();
    }
};

/// Of all bits one, another from byte to byte.
fn mask_of(offset: usize) u8 {
    return @as(u8, 1) << @intCast((offset *% 0x9e37_79b9 >> 7) % 8);
}

test "every byte of the headers, changed: refused, but for the pid" {
    const scene: *Scene = try .init();
    defer scene.deinit();
    try testing.expectEqual(Scene.Verdict{ .lost = 0 }, try scene.judge());
    scene.restore();
    for (std.enums.values(File)) |file| {
        for (0..@offsetOf(layout.WindowPage, "written")) |offset| {
            for ([_]u8{ mask_of(offset), 0xff }) |mask| {
                const verdict = try scene.flip(file, offset, mask);
                const expected: Scene.Verdict = if (offset < header_bytes)
                    .refused
                else
                    .{ .lost = 0 };
                try testing.expectEqual(expected, verdict);
            }
        }
    }
}

test "every byte of the cursors and of the frame ring, changed: nothing is lost" {
    const scene: *Scene = try .init();
    defer scene.deinit();
    for (@offsetOf(layout.WindowPage, "written")..limits.page_bytes) |offset| {
        for ([_]u8{ mask_of(offset), 0x80, 0xff }) |mask| {
            const verdict = try scene.flip(.page, offset, mask);
            try testing.expectEqual(Scene.Verdict{ .lost = 0 }, verdict);
            if (offset >= 1024) break;
        }
    }
    const ring_end = scene.good[@backingInt(File.page)].len;
    for (limits.page_bytes..ring_end) |offset| {
        const verdict = try scene.flip(.page, offset, mask_of(offset));
        try testing.expectEqual(Scene.Verdict{ .lost = 0 }, verdict);
    }
    for (@offsetOf(layout.ArenaPage, "generation")..limits.page_bytes) |offset| {
        const verdict = try scene.flip(.arena, offset, mask_of(offset));
        try testing.expectEqual(Scene.Verdict{ .lost = 0 }, verdict);
    }
}

test "every byte of the nodes, changed: its message is told as lost, if it waits" {
    const scene: *Scene = try .init();
    defer scene.deinit();
    // At full length one byte at a time; otherwise the same byte of nodes that lie far apart.
    const is_long = std.c.getenv("RCM_LONG") != null;
    const half_bytes = limits.node_count_for(arena_bytes) / 2 * limits.node_bytes;
    const step = if (is_long) half_bytes else half_bytes / 8;
    var lost_count: u64 = 0;
    for (0..step) |first| {
        for ([_]File{ .block_1, .block_2 }) |file| {
            defer scene.restore();
            errdefer std.log.warn("{t}, bytes {d} + n * {d}", .{ file, first, step });
            var waiting: u64 = 0;
            var at = first;
            while (at < half_bytes) : (at += step) {
                const offset = limits.page_bytes + at;
                const tag = scene.good[@backingInt(file)][offset - offset % limits.node_bytes ..];
                const no = std.mem.readInt(u64, tag[0..8], .little) - 1;
                if (no >= acked) waiting += 1;
                scene.now[@backingInt(file)].base[offset] ^= mask_of(offset);
            }
            lost_count += waiting;
            try testing.expectEqual(Scene.Verdict{ .lost = waiting }, try scene.judge());
        }
    }
    try testing.expectEqual((written - acked) * limits.node_bytes, lost_count);
}

test "bytes of messages, changed: a header is seen, a payload's byte is not" {
    const scene: *Scene = try .init();
    defer scene.deinit();
    const arena = scene.now[@backingInt(File.arena)].base;
    const bytes = arena_bytes + limits.chunk_bytes_for(arena_bytes);
    var prng: std.Random.DefaultPrng = .init(0xda3a);
    const random = prng.random();
    var in_headers: u64 = 0;
    var in_payloads: u64 = 0;
    for (0..10_000) |_| {
        const offset = random.uintLessThan(u64, bytes);
        const hit = scene.message_at(offset);
        const at = &arena[limits.page_bytes + offset];
        const good = at.*;
        at.* ^= mask_of(offset);
        defer at.* = good;
        defer scene.restore();
        const in_header = if (hit) |h| offset < h.payload else false;
        const lost = in_header and hit.?.no >= acked;
        if (lost) in_headers += 1;
        try testing.expectEqual(Scene.Verdict{ .lost = @intFromBool(lost) }, try scene.judge());
        if (in_header or hit == null) continue;
        // As the network side would read it: this byte is wrong, under its own number.
        in_payloads += 1;
        const node = scene.good_node(hit.?.no);
        const payload = arena[limits.page_bytes + hit.?.payload ..][0..node.length];
        for (payload, hit.?.payload..) |byte, place| {
            const right: u8 = @truncate(hit.?.no);
            try testing.expectEqual(if (place == offset) right ^ mask_of(offset) else right, byte);
        }
    }
    try testing.expect(in_headers > 10 and in_payloads > 1000);
}

test "files that were cut are refused, wherever" {
    const scene: *Scene = try .init();
    defer scene.deinit();
    for (std.enums.values(File)) |file| {
        const name = file_names[@backingInt(file)];
        const good = scene.good[@backingInt(file)];
        const handle = try scene.tmp.dir.openFile(io, name, .{ .mode = .read_write });
        defer handle.close(io);
        var bytes: u64 = 0;
        while (bytes < good.len) : (bytes += if (bytes < 5000) 61 else good.len / 97 + 1) {
            errdefer std.log.warn("{t} cut to {d} bytes", .{ file, bytes });
            try handle.writePositionalAll(io, good, 0);
            try handle.setLength(io, bytes);
            try testing.expectEqual(.refused, try scene.judge());
            try scene.expect_words(name, bytes);
        }
        // Cut and lengthened again: what is left of it is zeros.
        try handle.setLength(io, 0);
        try handle.setLength(io, good.len);
        try testing.expectEqual(.refused, try scene.judge());
        try handle.writePositionalAll(io, good, 0);
        try handle.setLength(io, good.len + 1);
        try testing.expectEqual(.refused, try scene.judge());
        try handle.setLength(io, good.len);
        try handle.writePositionalAll(io, good, 0);
        try testing.expectEqual(Scene.Verdict{ .lost = 0 }, try scene.judge());
        scene.restore();
    }
}

test "files of another version are refused, and say so" {
    const scene: *Scene = try .init();
    defer scene.deinit();
    for (std.enums.values(File)) |file| {
        for ([_][]const u8{ "version", "layout_hash" }) |field| {
            defer scene.restore();
            const header: *layout.FileHeader = @ptrCast(scene.now[@backingInt(file)].base);
            const value = if (field[0] == 'v') &header.version else &header.layout_hash;
            value.* +%= 1;
            header.check = header.checksum();
            try testing.expectEqual(.refused, try scene.judge());
            const text = scene.text.text();
            try testing.expect(std.mem.indexOf(u8, text, "another version of RCM") != null);
            try testing.expect(std.mem.indexOf(u8, text, file_names[@backingInt(file)]) != null);
        }
    }
}
