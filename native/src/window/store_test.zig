//! Tests of the files of a context, over a folder of their own.

const std = @import("std");
const limits = @import("../limits.zig");
const layout = @import("node.zig");
const files = @import("files.zig");
const store_file = @import("store.zig");
const Bump = @import("pool.zig").Bump;

const testing = std.testing;
const io = testing.io;
const ErrorText = files.ErrorText;
const Store = store_file.Store;
const WindowName = store_file.WindowName;

const mib = 1 << 20;
const req_1 = [_]WindowName{.{ .topic = "req", .partition = 1 }};
const two = [_]WindowName{
    .{ .topic = "req", .partition = 1 },
    .{ .topic = "rsp", .partition = 7 },
};

const Setting = struct {
    tmp: testing.TmpDir,
    path: [256]u8 = undefined,
    path_bytes: usize = 0,
    text: ErrorText = .{},

    fn init() !Setting {
        var self: Setting = .{ .tmp = testing.tmpDir(.{ .iterate = true }) };
        const length = try self.tmp.dir.realPath(io, &self.path);
        self.path[length] = '/';
        self.path_bytes = length + 1;
        return self;
    }

    fn deinit(self: *Setting) void {
        self.tmp.cleanup();
    }

    fn options(self: *const Setting, windows: []const WindowName) store_file.Options {
        return .{
            .directory = self.path[0..self.path_bytes],
            .context = "client1",
            .arena_bytes = mib,
            .windows = windows,
        };
    }

    fn open(self: *Setting, with: store_file.Options) !*Store {
        return Store.open(testing.allocator, with, &self.text) catch |err| switch (err) {
            error.Shm => {
                std.log.warn("{s}", .{self.text.text()});
                return err;
            },
            else => return err,
        };
    }

    fn expect_refused(self: *Setting, with: store_file.Options, words: []const []const u8) !void {
        if (Store.open(testing.allocator, with, &self.text)) |store| {
            store.close();
            return error.NotRefused;
        } else |err| try testing.expectEqual(error.Shm, err);
        for (words) |word| {
            if (std.mem.indexOf(u8, self.text.text(), word) != null) continue;
            std.log.warn("no \"{s}\" in: {s}", .{ word, self.text.text() });
            return error.WordMissing;
        }
    }

    fn names(self: *Setting) ![]u8 {
        var list: std.ArrayList([]const u8) = .empty;
        defer list.deinit(testing.allocator);
        defer for (list.items) |name| testing.allocator.free(name);
        var it = self.tmp.dir.iterate();
        while (try it.next(io)) |entry| {
            try list.append(testing.allocator, try testing.allocator.dupe(u8, entry.name));
        }
        std.mem.sort([]const u8, list.items, {}, struct {
            fn less(_: void, a: []const u8, b: []const u8) bool {
                return std.mem.lessThan(u8, a, b);
            }
        }.less);
        return std.mem.join(testing.allocator, " ", list.items);
    }

    fn poke(self: *Setting, name: []const u8, offset: u64, bytes: []const u8) !void {
        const file = try self.tmp.dir.openFile(io, name, .{ .mode = .read_write });
        defer file.close(io);
        try file.writePositionalAll(io, bytes, offset);
    }

    fn peek(self: *Setting, name: []const u8, offset: u64) !u8 {
        const file = try self.tmp.dir.openFile(io, name, .{});
        defer file.close(io);
        var byte: [1]u8 = undefined;
        _ = try file.readPositionalAll(io, &byte, offset);
        return byte[0];
    }
};

fn send(store: *Store, bump: *Bump, index: usize, length: u32) !u64 {
    const window = &store.windows[index].window;
    const offset = bump.alloc(limits.message_header_bytes + length, 8) orelse return error.NoRoom;
    const payload = offset + limits.message_header_bytes;
    @memset(store.pool.slice(payload, length), @truncate(window.written()));
    return window.publish(@intCast(payload / 8), length, 5, 0) orelse error.NoNode;
}

fn expect_messages(store: *Store, index: usize, from: u64, to: u64) !void {
    const window = &store.windows[index].window;
    for (from..to) |no| {
        for (window.payload(window.node(no))) |byte| {
            try testing.expectEqual(@as(u8, @truncate(no)), byte);
        }
    }
}

test "a context has the four files of the guide, and goes on where it was" {
    var s: Setting = try .init();
    defer s.deinit();
    const first = try s.open(s.options(&req_1));
    try testing.expect(!first.windows[0].recovery.resumed);
    const all = try s.names();
    defer testing.allocator.free(all);
    try testing.expectEqualStrings("client1_allocator client1_req_1_sendingwindow " ++
        "client1_req_1_sendingwindowblock_1 client1_req_1_sendingwindowblock_2", all);
    var bump = Bump.init(&first.pool).?;
    for (0..5000) |i| {
        const window = &first.windows[0].window;
        if (i > 3000) {
            window.set_acked(i - 3000);
            window.reclaim_to(i - 3000, &first.pool);
        }
        _ = try send(first, &bump, 0, @intCast(i % 200));
    }
    first.windows[0].window.set_connection(99, 0);
    const memory = first.pool.slice(4096, 4096);
    first.close();
    // Views that are left read zeros.
    for (memory) |byte| try testing.expectEqual(0, byte);
    const second = try s.open(s.options(&req_1));
    defer second.close();
    const recovery = second.windows[0].recovery;
    try testing.expect(recovery.resumed);
    try testing.expectEqual(1999, recovery.acked);
    try testing.expectEqual(5000, recovery.written);
    try testing.expectEqual(0, recovery.lost_count);
    try expect_messages(second, 0, 1999, 5000);
    try testing.expectEqual(99, second.windows[0].window.connection_id());
    // What waits is not given out again.
    var other = Bump.init(&second.pool).?;
    while (send(second, &other, 0, 1000)) |_| {} else |_| {}
    try expect_messages(second, 0, 1999, second.windows[0].window.written());
}

test "the nodes of both halves stand in their files" {
    var s: Setting = try .init();
    defer s.deinit();
    const store = try s.open(s.options(&req_1));
    defer store.close();
    var bump = Bump.init(&store.pool).?;
    for (0..2049) |_| _ = try send(store, &bump, 0, 8);
    const page = limits.page_bytes;
    const block_1 = "client1_req_1_sendingwindowblock_1";
    const block_2 = "client1_req_1_sendingwindowblock_2";
    try testing.expectEqual(1, try s.peek(block_1, page));
    try testing.expectEqual(8, try s.peek(block_1, page + 2047 * 32 + 1));
    try testing.expectEqual(1, try s.peek(block_2, page));
    try testing.expectEqual(0, try s.peek(block_2, page + 32));
}

test "a message of the whole arena fits" {
    var s: Setting = try .init();
    defer s.deinit();
    var options = s.options(&req_1);
    options.arena_bytes = 3 * mib;
    options.populate = true;
    const store = try s.open(options);
    defer store.close();
    var bump = Bump.init(&store.pool).?;
    try testing.expectEqual(0, try send(store, &bump, 0, 3 * mib));
    try expect_messages(store, 0, 0, 1);
}

test "a second owner is refused, in the same process too" {
    var s: Setting = try .init();
    defer s.deinit();
    const store = try s.open(s.options(&req_1));
    try s.expect_refused(s.options(&req_1), &.{ "client1_allocator", "open in this process" });
    // As another process would be named.
    const pid: u32 = 4_000_000;
    try s.poke("client1_allocator", @offsetOf(layout.FileHeader, "pid"), std.mem.asBytes(&pid));
    try s.expect_refused(s.options(&req_1), &.{"in use by process 4000000"});
    store.close();
    (try s.open(s.options(&req_1))).close();
}

test "an owner that died is taken over from, a living process is not" {
    const linux = std.os.linux;
    var s: Setting = try .init();
    defer s.deinit();
    const store = try s.open(s.options(&req_1));
    store.close();
    const child = linux.fork();
    if (child == 0) {
        // The child owns the files, as soon as it gets them, until it is killed.
        const pause: linux.timespec = .{ .sec = 0, .nsec = 1_000_000 };
        var owned = false;
        while (true) {
            if (!owned) {
                var text: ErrorText = .{};
                owned = if (Store.open(testing.allocator, s.options(&req_1), &text)) |_|
                    true
                else |_|
                    false;
            }
            _ = linux.nanosleep(&pause, null);
        }
    }
    var refused = false;
    for (0..1000) |_| {
        if (Store.open(testing.allocator, s.options(&req_1), &s.text)) |mine| {
            mine.close();
            const pause: linux.timespec = .{ .sec = 0, .nsec = 5_000_000 };
            _ = linux.nanosleep(&pause, null);
        } else |_| {
            refused = std.mem.indexOf(u8, s.text.text(), "in use by process") != null;
            if (refused) break;
        }
    }
    _ = linux.kill(@intCast(child), .KILL);
    var status: i32 = 0;
    _ = linux.waitpid(@intCast(child), &status, 0);
    try testing.expect(refused);
    (try s.open(s.options(&req_1))).close();
}

test "two pairs of names that make one file name are never mixed up" {
    var s: Setting = try .init();
    defer s.deinit();
    var options = s.options(&.{.{ .topic = "c", .partition = 1 }});
    options.context = "a_b";
    (try s.open(options)).close();
    options.context = "a";
    options.windows = &.{.{ .topic = "b_c", .partition = 1 }};
    try s.expect_refused(options, &.{ "belongs to context \"a_b\", topic \"c\"", "setFilePrefix" });
}

test "a damaged header is refused, whichever byte" {
    var s: Setting = try .init();
    defer s.deinit();
    (try s.open(s.options(&req_1))).close();
    const file_names = [_][]const u8{
        "client1_allocator",
        "client1_req_1_sendingwindow",
        "client1_req_1_sendingwindowblock_1",
        "client1_req_1_sendingwindowblock_2",
    };
    for (file_names) |name| {
        for (0..@offsetOf(layout.FileHeader, "pid")) |offset| {
            const old = try s.peek(name, offset);
            try s.poke(name, offset, &.{old ^ 0x10});
            try s.expect_refused(s.options(&req_1), &.{name});
            try s.poke(name, offset, &.{old});
        }
    }
    (try s.open(s.options(&req_1))).close();
    const file = try s.tmp.dir.openFile(io, file_names[2], .{ .mode = .read_write });
    defer file.close(io);
    try file.setLength(io, 8192);
    try s.expect_refused(s.options(&req_1), &.{ file_names[2], "cut or lengthened" });
}

test "files that were never finished are made anew" {
    var s: Setting = try .init();
    defer s.deinit();
    try s.tmp.dir.writeFile(io, .{ .sub_path = "client1_allocator", .data = "" });
    const zeros: [8192]u8 = @splat(0);
    const block_1 = "client1_req_1_sendingwindowblock_1";
    try s.tmp.dir.writeFile(io, .{ .sub_path = block_1, .data = &zeros });
    try s.tmp.dir.writeFile(io, .{ .sub_path = "client1_req_1_sendingwindow.new", .data = "x" });
    for ([_][]const u8{ "client1_allocator", "client1_req_1_sendingwindowblock_1" }) |name| {
        const file = try s.tmp.dir.openFile(io, name, .{ .mode = .read_write });
        defer file.close(io);
        try file.setPermissions(io, .fromMode(0o600));
    }
    const store = try s.open(s.options(&req_1));
    try testing.expect(!store.windows[0].recovery.resumed);
    store.close();
}

test "another arena size: the numbers go on when nothing waits, otherwise it is refused" {
    var s: Setting = try .init();
    defer s.deinit();
    const store = try s.open(s.options(&req_1));
    var bump = Bump.init(&store.pool).?;
    for (0..10) |_| _ = try send(store, &bump, 0, 100);
    store.windows[0].window.set_connection(41, 3);
    store.windows[0].window.set_acked(9);
    store.close();
    var options = s.options(&req_1);
    options.arena_bytes = 4 * mib;
    try s.expect_refused(options, &.{ "1 messages are not ack", "MaxMemoryAllowedMBytes" });
    const again = try s.open(s.options(&req_1));
    try testing.expectEqual(9, again.windows[0].recovery.acked);
    again.windows[0].window.set_acked(10);
    again.close();
    const larger = try s.open(options);
    try testing.expect(larger.windows[0].recovery.resumed);
    try testing.expectEqual(10, larger.windows[0].window.written());
    try testing.expectEqual(10, larger.windows[0].window.reclaimed());
    try testing.expectEqual(41, larger.windows[0].window.connection_id());
    try testing.expectEqual(3, larger.windows[0].window.connection_first());
    try testing.expectEqual(16384, larger.windows[0].window.capacity);
    var other = Bump.init(&larger.pool).?;
    try testing.expectEqual(10, try send(larger, &other, 0, 2 * mib));
    larger.close();
}

test "who makes everything once more begins at 0 again, with a later connection" {
    var s: Setting = try .init();
    defer s.deinit();
    const store = try s.open(s.options(&req_1));
    var bump = Bump.init(&store.pool).?;
    for (0..10) |_| _ = try send(store, &bump, 0, 100);
    store.windows[0].window.set_connection(41, 3);
    store.windows[0].window.set_acked(7);
    store.close();
    var options = s.options(&req_1);
    options.begin_anew = true;
    const anew = try s.open(options);
    const w = &anew.windows[0];
    try testing.expectEqual(7, w.acked_before);
    try testing.expectEqual(0, w.window.written());
    try testing.expectEqual(0, w.window.acked());
    try testing.expectEqual(41, w.window.connection_id());
    try testing.expectEqual(anew.pool.chunk_count, anew.pool.free_count());
    var other = Bump.init(&anew.pool).?;
    try testing.expectEqual(0, try send(anew, &other, 0, 50));
    anew.close();
    // Without asking for it numbers go on.
    const again = try s.open(s.options(&req_1));
    try testing.expectEqual(1, again.windows[0].window.written());
    try testing.expectEqual(0, again.windows[0].acked_before);
    again.close();
}

test "files that are missing: refused while something waits, the numbers go on otherwise" {
    var s: Setting = try .init();
    defer s.deinit();
    const missing = [_][]const u8{ "client1_allocator", "client1_req_1_sendingwindowblock_2" };
    for (missing, 1..) |name, round| {
        const store = try s.open(s.options(&req_1));
        var bump = Bump.init(&store.pool).?;
        _ = try send(store, &bump, 0, 100);
        store.close();
        const renamed = try std.fmt.allocPrint(testing.allocator, "{s}.old", .{name});
        defer testing.allocator.free(renamed);
        try s.tmp.dir.rename(name, s.tmp.dir, renamed, io);
        try s.expect_refused(s.options(&req_1), &.{ "1 messages are not acknowledged", "missing" });
        try s.tmp.dir.rename(renamed, s.tmp.dir, name, io);
        const back = try s.open(s.options(&req_1));
        back.windows[0].window.set_acked(round);
        back.close();
        try s.tmp.dir.deleteFile(io, name);
        const fresh = try s.open(s.options(&req_1));
        try testing.expectEqual(round, fresh.windows[0].window.written());
        fresh.close();
    }
    // Without its own page a window begins anew.
    try s.tmp.dir.deleteFile(io, "client1_req_1_sendingwindow");
    const store = try s.open(s.options(&req_1));
    defer store.close();
    try testing.expectEqual(0, store.windows[0].window.written());
    try testing.expect(!store.windows[0].recovery.resumed);
}

test "a window that was left out for a while lost its messages, and says so" {
    var s: Setting = try .init();
    defer s.deinit();
    const store = try s.open(s.options(&two));
    var bump = Bump.init(&store.pool).?;
    for (0..5) |_| _ = try send(store, &bump, 1, 100);
    for (0..5) |_| _ = try send(store, &bump, 0, 100);
    store.close();
    const without = try s.open(s.options(&req_1));
    try testing.expectEqual(0, without.windows[0].recovery.lost_count);
    without.close();
    const with = try s.open(s.options(&two));
    defer with.close();
    try testing.expectEqual(0, with.windows[0].recovery.lost_count);
    try expect_messages(with, 0, 0, 5);
    try testing.expectEqual(5, with.windows[1].recovery.lost_count);
    try testing.expectEqual(5, with.windows[1].window.written());
    try testing.expect(with.windows[1].window.node(4).flags & layout.flag_lost != 0);
}

test "a prefix may name one folder, which is made for this user only" {
    var s: Setting = try .init();
    defer s.deinit();
    var options = s.options(&req_1);
    options.prefix = "desk/x_";
    const store = try s.open(options);
    defer store.close();
    _ = try s.peek("desk/x_client1_req_1_sendingwindowblock_1", 0);
    const stat = try s.tmp.dir.statFile(io, "desk", .{});
    try testing.expectEqual(0o700, stat.permissions.toMode() & 0o777);
    const file_stat = try s.tmp.dir.statFile(io, "desk/x_client1_allocator", .{});
    try testing.expectEqual(0o600, file_stat.permissions.toMode() & 0o777);
    for ([_][]const u8{ "a/b/", "../", "/", "./x" }) |prefix| {
        options.prefix = prefix;
        try s.expect_refused(options, &.{"prefix"});
    }
}

test "links, rights and names that must not be" {
    var s: Setting = try .init();
    defer s.deinit();
    try s.tmp.dir.writeFile(io, .{ .sub_path = "elsewhere", .data = "precious" });
    try s.tmp.dir.symLink(io, "elsewhere", "client1_allocator", .{});
    try s.expect_refused(s.options(&req_1), &.{ "client1_allocator", "symbolic link" });
    try testing.expectEqual('p', try s.peek("elsewhere", 0));
    try s.tmp.dir.deleteFile(io, "client1_allocator");
    const shared = try s.tmp.dir.createFile(io, "client1_allocator", .{});
    try shared.setPermissions(io, .fromMode(0o666));
    shared.close(io);
    try s.expect_refused(s.options(&req_1), &.{"rights"});
    try s.tmp.dir.deleteFile(io, "client1_allocator");
    var options = s.options(&req_1);
    const long: [64]u8 = @splat('n');
    for ([_][]const u8{ "", "a/b", "a\x00b", "a\nb", &long }) |name| {
        options.context = name;
        try s.expect_refused(options, &.{"context"});
    }
    options = s.options(&.{.{ .topic = &@as([128]u8, @splat('t')), .partition = 1 }});
    try s.expect_refused(options, &.{"topic"});
    options = s.options(&.{.{ .topic = "t", .partition = 0 }});
    try s.expect_refused(options, &.{"partition 0"});
    options = s.options(&.{.{ .topic = &@as([127]u8, @splat('t')), .partition = 65535 }});
    options.context = &@as([63]u8, @splat('c'));
    (try s.open(options)).close();
    options.prefix = &@as([50]u8, @splat('p'));
    try s.expect_refused(options, &.{"255"});
    options = s.options(&req_1);
    options.arena_bytes = mib * 65536;
    try s.expect_refused(options, &.{"MaxMemoryAllowedMBytes"});
}

test "a full file system is told with what is needed and available" {
    const linux = std.os.linux;
    // A tmpfs of its own, where that is allowed.
    var s: Setting = try .init();
    defer s.deinit();
    var path: [300]u8 = undefined;
    const target = try std.fmt.bufPrintSentinel(&path, "{s}", .{s.path[0..s.path_bytes]}, 0);
    const mounted = linux.mount("rcm-test", target, "tmpfs", 0, @intFromPtr("size=2m"));
    if (linux.errno(mounted) != .SUCCESS) return error.SkipZigTest;
    defer _ = linux.umount2(target, linux.MNT.DETACH);
    var options = s.options(&req_1);
    options.arena_bytes = 64 * mib;
    try s.expect_refused(options, &.{ "no room", "67129344 bytes needed", "2097152 available" });
    // Nothing half made is left, and what fits is made.
    options.arena_bytes = mib;
    (try s.open(options)).close();
}

test "a thousand starts and stops do not grow the process" {
    var s: Setting = try .init();
    defer s.deinit();
    const first = try s.open(s.options(&req_1));
    const base = first.pool.base;
    first.close();
    for (0..1000) |round| {
        const store = try s.open(s.options(&req_1));
        try testing.expectEqual(base, store.pool.base);
        var bump = Bump.init(&store.pool).?;
        try testing.expectEqual(round, try send(store, &bump, 0, 64));
        store.windows[0].window.set_acked(round + 1);
        // What is kept for late repair goes when room is needed.
        store.windows[0].window.reclaim_to(round -| 10, &store.pool);
        store.close();
    }
}
