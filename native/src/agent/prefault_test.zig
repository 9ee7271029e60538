//! Tests of the pages that are mapped in the background, by what the kernel says of them.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const store_file = @import("../window/store.zig");
const Prefault = @import("prefault.zig").Prefault;
const Bump = @import("../window/pool.zig").Bump;

const testing = std.testing;
const io = testing.io;
const Store = store_file.Store;

const mib = 1 << 20;
const limit_ms = 20_000;

const Scene = struct {
    tmp: testing.TmpDir,
    store: *Store,
    pagemap: i32,

    fn init(arena_bytes: u64) !Scene {
        var tmp = testing.tmpDir(.{});
        errdefer tmp.cleanup();
        var path: [256]u8 = undefined;
        const length = try tmp.dir.realPath(io, &path);
        path[length] = '/';
        var text: files.ErrorText = .{};
        const store = try Store.open(testing.allocator, .{
            .directory = path[0 .. length + 1],
            .context = "c",
            .arena_bytes = arena_bytes,
            .windows = &.{ .{ .topic = "t", .partition = 1 }, .{ .topic = "t", .partition = 2 } },
        }, &text);
        errdefer store.close();
        const flags: linux.O = .{ .ACCMODE = .RDONLY, .CLOEXEC = true };
        const result = linux.open("/proc/self/pagemap", flags, 0);
        try testing.expectEqual(.SUCCESS, linux.errno(result));
        return .{ .tmp = tmp, .store = store, .pagemap = @intCast(result) };
    }

    fn deinit(self: *Scene) void {
        _ = linux.close(self.pagemap);
        self.store.close();
        self.tmp.cleanup();
    }

    /// Pages of a region that are mapped in this process.
    fn mapped(self: *const Scene, region: region_file.Region) !u64 {
        var count: u64 = 0;
        var words: [512]u64 = undefined;
        const first = @intFromPtr(region.base) / limits.page_bytes;
        var page: u64 = 0;
        const pages = region.bytes / limits.page_bytes;
        while (page < pages) {
            const ask: u64 = @as(u64, @min(words.len, pages - page)) * 8;
            const bytes = std.mem.sliceAsBytes(&words);
            const got = linux.pread(self.pagemap, bytes.ptr, ask, @intCast((first + page) * 8));
            try testing.expectEqual(ask, got);
            for (words[0 .. got / 8]) |word| count += word >> 63;
            page += got / 8;
        }
        return count;
    }

    fn wait_mapped(self: *const Scene, region: region_file.Region, pages: u64) !void {
        for (0..limit_ms) |_| {
            if (try self.mapped(region) >= pages) return;
            const pause: linux.timespec = .{ .sec = 0, .nsec = std.time.ns_per_ms };
            _ = linux.nanosleep(&pause, null);
        }
        return error.TooSlow;
    }
};

fn pages_of(region: region_file.Region) u64 {
    return region.bytes / limits.page_bytes;
}

fn faults() u64 {
    const usage = std.posix.getrusage(linux.rusage.THREAD);
    return @intCast(usage.minflt);
}

test "all pages are mapped soon after the start, and sending takes no page fault" {
    var scene: Scene = try .init(16 * mib);
    defer scene.deinit();
    const store = scene.store;
    try testing.expect(try scene.mapped(store.arena_region) < 64);
    var prefault: Prefault = .{ .store = store };
    prefault.start();
    defer prefault.end();
    try scene.wait_mapped(store.arena_region, pages_of(store.arena_region));
    for (store.windows) |*w| try scene.wait_mapped(w.nodes_region, pages_of(w.nodes_region));
    var bump = Bump.init(&store.pool).?;
    defer bump.close();
    const window = &store.windows[0].window;
    const before = faults();
    for (0..10_000) |_| {
        const offset = bump.alloc(limits.message_header_bytes + 1000, 8).?;
        const payload = offset + limits.message_header_bytes;
        @memset(store.pool.slice(payload, 1000), 1);
        _ = window.publish(@intCast(payload / 8), 1000, 0, 0).?;
    }
    // The pool's own counts lie in other memory, a page of them for each 64 chunks.
    const own = store.pool.chunk_count / 64 + 16;
    try testing.expect(faults() - before <= own);
}

test "of a large arena a part ahead of what is in use is mapped, and not more" {
    var scene: Scene = try .init(32 * mib);
    defer scene.deinit();
    const store = scene.store;
    const page = limits.page_bytes;
    var prefault: Prefault = .{
        .store = store,
        .options = .{ .ahead_bytes = 4 * mib, .look_every_ns = std.time.ns_per_ms },
    };
    prefault.start();
    defer prefault.end();
    try scene.wait_mapped(store.arena_region, 4 * mib / page);
    // The nodes come after it, so by now it has looked again.
    const nodes = store.windows[1].nodes_region;
    try scene.wait_mapped(nodes, pages_of(nodes));
    try testing.expect(try scene.mapped(store.arena_region) <= 4 * mib / page + 16);
    var bump = Bump.init(&store.pool).?;
    defer bump.close();
    // 3 MiB are in use, none of it touched.
    for (0..3 * mib / 4096) |_| _ = bump.alloc(4096, 8).?;
    try scene.wait_mapped(store.arena_region, 7 * mib / page);
    try testing.expect(try scene.mapped(store.arena_region) <= 7 * mib / page + 16);
}

test "it ends at once wherever it is, and may be started where nothing is left to do" {
    var scene: Scene = try .init(64 * mib);
    defer scene.deinit();
    for (0..20) |_| {
        var prefault: Prefault = .{ .store = scene.store };
        prefault.start();
        prefault.end();
        prefault.end();
    }
    var prefault: Prefault = .{ .store = scene.store };
    prefault.start();
    try scene.wait_mapped(scene.store.arena_region, pages_of(scene.store.arena_region));
    prefault.end();
}
