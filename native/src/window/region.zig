//! Mappings that JavaScript may look into, also after they were closed.
//!
//! A view that a program kept must stay readable for ever: unmapping would end the process at its
//! next read. So a region that is released is replaced by anonymous memory at the same place, which
//! reads as zeros and costs nothing, and is kept for the next region of the same size: a thousand
//! starts and stops do not grow the process. All functions may be called by any thread; they are
//! not for a message's path.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;

pub const Region = struct {
    base: [*]align(limits.page_bytes) u8,
    /// A multiple of the page.
    bytes: u64,

    pub fn slice(self: Region) []align(limits.page_bytes) u8 {
        return self.base[0..self.bytes];
    }
};

/// A part of a file, to be laid into a region one behind the other.
pub const FilePart = struct {
    fd: i32,
    /// Multiple of the page.
    offset: u64,
    bytes: u64,
};

pub const MapError = error{
    /// The kernel refused the address space or the memory.
    OutOfMemory,
};

/// Zeroed memory of this process; pages are taken when they are touched.
pub fn map_anonymous(bytes: u64) MapError!Region {
    const region = cache.take(bytes) orelse return map_new(bytes);
    // A program may have written into a view that it kept.
    map_at(region.base, bytes, read_write, anonymous_flags(true), -1, 0) catch |err| {
        cache.put(region);
        return err;
    };
    return region;
}

/// Parts of files, shared, behind each other in one region.
pub fn map_files(parts: []const FilePart) MapError!Region {
    return map_parts(parts, .{ .READ = true, .WRITE = true });
}

/// The same of files that another process writes: who writes here dies.
pub fn map_files_read_only(parts: []const FilePart) MapError!Region {
    return map_parts(parts, .{ .READ = true });
}

fn map_parts(parts: []const FilePart, protection: linux.PROT) MapError!Region {
    var bytes: u64 = 0;
    for (parts) |part| {
        assert(part.bytes % limits.page_bytes == 0 and part.offset % limits.page_bytes == 0);
        bytes += part.bytes;
    }
    const region = cache.take(bytes) orelse try map_new(bytes);
    errdefer release(region);
    var at = region.base;
    for (parts) |part| {
        const flags: linux.MAP = .{ .TYPE = .SHARED, .FIXED = true };
        try map_at(at, part.bytes, protection, flags, part.fd, part.offset);
        at = @alignCast(at + part.bytes);
    }
    return region;
}

pub const Sharing = enum { shared, private };

/// Lays a part of a file over memory of a region. `private`: what is written there stays here.
pub fn map_file_at(
    at: [*]align(limits.page_bytes) u8,
    bytes: u64,
    sharing: Sharing,
    fd: i32,
    offset: u64,
) MapError!void {
    const flags: linux.MAP = .{
        .TYPE = if (sharing == .shared) .SHARED else .PRIVATE,
        .FIXED = true,
        .NORESERVE = sharing == .private,
    };
    return map_at(at, bytes, read_write, flags, fd, offset);
}

/// What is mapped here from a file is written for the first time: nothing is read ahead. Where the
/// kernel reads ahead it makes large folios, and with each page that is written for the first time
/// ext4 goes through all of the folio.
pub fn write_only(at: [*]align(limits.page_bytes) u8, bytes: u64) void {
    _ = linux.madvise(at, bytes, linux.MADV.RANDOM);
}

/// Lays zeros of this process over memory of a region.
pub fn map_anonymous_at(at: [*]align(limits.page_bytes) u8, bytes: u64) MapError!void {
    return map_at(at, bytes, read_write, anonymous_flags(true), -1, 0);
}

/// Gives a region up. What still looks into it reads zeros from now on.
pub fn release(region: Region) void {
    // Should the kernel refuse this, the old mapping stays: readable all the same, and not reused.
    const flags = anonymous_flags(true);
    map_at(region.base, region.bytes, read_write, flags, -1, 0) catch return;
    cache.put(region);
}

/// As `release`, for a region into which another thread may still be writing: it is not reused.
pub fn abandon(region: Region) void {
    const flags = anonymous_flags(true);
    map_at(region.base, region.bytes, read_write, flags, -1, 0) catch return;
}

/// Takes the memory of all pages now, so that none is taken while messages flow.
pub fn populate(region: Region) MapError!void {
    const populate_write = 23; // MADV_POPULATE_WRITE, Linux 5.14
    switch (linux.errno(linux.madvise(region.base, region.bytes, populate_write))) {
        .SUCCESS => {},
        .INVAL => touch(region),
        else => return error.OutOfMemory,
    }
}

/// Maps all pages of a region that is only read. Best effort.
pub fn populate_read(region: Region) void {
    const populate_read_advice = 22; // MADV_POPULATE_READ, Linux 5.14
    _ = linux.madvise(region.base, region.bytes, populate_read_advice);
}

fn touch(region: Region) void {
    var at: u64 = 0;
    while (at < region.bytes) : (at += limits.page_bytes) {
        // Adding 0 writes without changing what others may be writing.
        _ = @atomicRmw(u8, &region.base[at], .Add, 0, .monotonic);
    }
}

fn map_new(bytes: u64) MapError!Region {
    assert(bytes > 0 and bytes % limits.page_bytes == 0);
    const result = linux.mmap(null, bytes, read_write, anonymous_flags(false), -1, 0);
    if (linux.errno(result) != .SUCCESS) return error.OutOfMemory;
    return .{ .base = @ptrFromInt(result), .bytes = bytes };
}

const read_write: linux.PROT = .{ .READ = true, .WRITE = true };

fn map_at(
    at: [*]u8,
    bytes: u64,
    protection: linux.PROT,
    flags: linux.MAP,
    fd: i32,
    offset: u64,
) MapError!void {
    assert(flags.FIXED);
    const result = linux.mmap(at, bytes, protection, flags, fd, @intCast(offset));
    if (linux.errno(result) != .SUCCESS) return error.OutOfMemory;
    assert(result == @intFromPtr(at));
}

fn anonymous_flags(fixed: bool) linux.MAP {
    return .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true, .FIXED = fixed };
}

/// Released regions of this process, by size.
const Cache = struct {
    lock: std.atomic.Value(u32) = .init(0),
    count: u32 = 0,
    entries: [limits.region_cache_entries_max]Region = undefined,

    fn take(self: *Cache, bytes: u64) ?Region {
        self.enter();
        defer self.leave();
        var i = self.count;
        while (i > 0) {
            i -= 1;
            const found = self.entries[i];
            if (found.bytes != bytes) continue;
            self.count -= 1;
            self.entries[i] = self.entries[self.count];
            return found;
        }
        return null;
    }

    /// A full table forgets the region: its addresses stay taken, its memory does not.
    fn put(self: *Cache, region: Region) void {
        self.enter();
        defer self.leave();
        if (self.count == self.entries.len) return;
        self.entries[self.count] = region;
        self.count += 1;
    }

    fn enter(self: *Cache) void {
        while (self.lock.swap(1, .acquire) != 0) std.atomic.spinLoopHint();
    }

    fn leave(self: *Cache) void {
        self.lock.store(0, .release);
    }
};

var cache: Cache = .{};

test "a released region reads zeros and is used again" {
    // A size that no other test uses.
    const bytes = 37 * limits.page_bytes;
    const first = try map_anonymous(bytes);
    @memset(first.slice(), 0x5a);
    release(first);
    for (first.slice()) |byte| try std.testing.expectEqual(0, byte);
    first.base[100] = 7; // A program scribbles into a view that it kept.
    const second = try map_anonymous(bytes);
    try std.testing.expectEqual(first.base, second.base);
    release(second);
    try std.testing.expectEqual(0, first.base[100]);
}

test "parts of files lie behind each other, and the file keeps what was written" {
    const fd = try std.posix.memfd_create("rcm-region-test", linux.MFD.CLOEXEC);
    defer _ = linux.close(fd);
    const page = limits.page_bytes;
    try std.testing.expectEqual(.SUCCESS, linux.errno(linux.ftruncate(fd, 4 * page)));
    const parts = [_]FilePart{
        .{ .fd = fd, .offset = 2 * page, .bytes = 2 * page },
        .{ .fd = fd, .offset = 0, .bytes = page },
    };
    const region = try map_files(&parts);
    region.base[0] = 1;
    region.base[2 * page] = 2;
    try populate(region);
    release(region);
    try std.testing.expectEqual(0, region.base[0]);
    var byte: [1]u8 = undefined;
    _ = linux.pread(fd, &byte, 1, 2 * page);
    try std.testing.expectEqual(1, byte[0]);
    _ = linux.pread(fd, &byte, 1, 0);
    try std.testing.expectEqual(2, byte[0]);
    const again = try map_files(&parts);
    try std.testing.expectEqual(region.base, again.base);
    try std.testing.expectEqual(1, again.base[0]);
    release(again);
}

test "many starts and stops do not grow the process" {
    const bytes = 41 * limits.page_bytes;
    const first = try map_anonymous(bytes);
    release(first);
    for (0..1000) |_| {
        const region = try map_anonymous(bytes);
        try std.testing.expectEqual(first.base, region.base);
        region.base[0] = 1;
        release(region);
    }
}
