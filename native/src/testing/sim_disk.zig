//! A disk of a simulated receiver. Files are memory files, so that they are mapped like real ones
//! and survive the process; what would survive a loss of power is kept beside them, and anything
//! that was not forced may then be there or not, sector by sector, in any order.

const std = @import("std");
const linux = std.os.linux;
const files = @import("../window/files.zig");
const Disk = @import("../order/disk.zig").Disk;
const record_file = @import("../order/record_file.zig");
const Dice = @import("dice.zig").Dice;
const assert = std.debug.assert;

const ErrorText = files.ErrorText;
const File = files.File;
const sector_bytes = 512;

const Entry = struct {
    name: [record_file.file_name_bytes]u8 = @splat(0),
    name_len: usize = 0,
    fd: i32,
    inode: u64,
    /// As long as the file was made; what was cut from its end must not be touched.
    map: []align(4096) u8,
    /// What survives a loss of power for certain.
    on_disk: std.ArrayList(u8) = .empty,
    /// What a force that is under way will leave there.
    pending: std.ArrayList(u8) = .empty,
    is_pending: bool = false,
    is_named: bool = false,

    fn content(self: *const Entry) []u8 {
        return self.map[0..@intCast(@min(self.map.len, status(self.fd).size))];
    }

    fn copy(self: *const Entry, gpa: std.mem.Allocator, to: *std.ArrayList(u8)) void {
        const all = self.content();
        to.ensureTotalCapacity(gpa, self.map.len) catch @panic("out of memory");
        to.items.len = all.len;
        @memcpy(to.items, all);
    }

    fn is_called(self: *const Entry, name: []const u8) bool {
        return std.mem.eql(u8, self.name[0..self.name_len], name);
    }

    fn call(self: *Entry, name: []const u8) void {
        self.name_len = name.len;
        @memcpy(self.name[0..name.len], name);
    }
};

pub const SimDisk = struct {
    gpa: std.mem.Allocator,
    entries: std.ArrayList(Entry) = .empty,
    capacity_bytes: u64 = std.math.maxInt(u64),
    /// Forces fail.
    is_broken: bool = false,

    pub fn deinit(self: *SimDisk) void {
        for (self.entries.items) |*e| self.drop(e);
        self.entries.deinit(self.gpa);
    }

    fn drop(self: *SimDisk, e: *Entry) void {
        _ = linux.close(e.fd);
        std.posix.munmap(e.map);
        e.on_disk.deinit(self.gpa);
        e.pending.deinit(self.gpa);
    }

    pub fn disk(self: *SimDisk) Disk {
        return .{ .context = self, .calls = &calls };
    }

    // ---------------------------------------------------------------- faults

    /// A force of the file begins: it will cover what is there now. Every other force is over as
    /// soon as it is called: nobody has looked for what is to be forced before that.
    pub fn begin_force(self: *SimDisk, fd: i32) void {
        if (fd < 0) return;
        const inode = status(fd).ino;
        for (self.entries.items) |*e| {
            if (e.inode != inode) continue;
            e.copy(self.gpa, &e.pending);
            e.is_pending = true;
        }
    }

    /// What was begun is not what counts.
    pub fn forget_force(self: *SimDisk) void {
        for (self.entries.items) |*e| e.is_pending = false;
    }

    /// All processes are gone, and with them the page cache.
    pub fn lose_power(self: *SimDisk, dice: *Dice) void {
        self.forget_force();
        self.lose_names(dice);
        const ppm = dice.one_of(u64, &.{ 0, 100_000, 500_000, 900_000, 1_000_000 });
        for (self.entries.items) |*e| {
            const now = e.content();
            const old = e.on_disk.items;
            var at: usize = 0;
            while (at < now.len) : (at += sector_bytes) {
                const end = @min(now.len, at + sector_bytes);
                if (dice.chance(@intCast(ppm))) continue;
                for (now[at..end], at..) |*byte, i| byte.* = if (i < old.len) old[i] else 0;
            }
            e.copy(self.gpa, &e.on_disk);
            e.is_named = true;
        }
    }

    /// Names come to the disk in their order.
    fn lose_names(self: *SimDisk, dice: *Dice) void {
        while (self.entries.items.len > 0) {
            const last = &self.entries.items[self.entries.items.len - 1];
            if (last.is_named or dice.coin()) return;
            self.drop(last);
            _ = self.entries.pop();
        }
    }

    /// False: there is nothing.
    pub fn flip_bit(self: *SimDisk, dice: *Dice) bool {
        if (self.entries.items.len == 0) return false;
        const e = &self.entries.items[@intCast(dice.below(self.entries.items.len))];
        const all = e.content();
        if (all.len == 0) return false;
        const at: usize = @intCast(dice.below(all.len));
        all[at] ^= @as(u8, 1) << @intCast(dice.below(8));
        if (at < e.on_disk.items.len) e.on_disk.items[at] = all[at];
        return true;
    }

    // ---------------------------------------------------------------- calls

    const calls: Disk.Calls = .{
        .create = create,
        .find = find,
        .open_read = open_read,
        .remove = remove,
        .rename = rename,
        .force = force,
        .force_names = force_names,
        .path_text = path_text,
    };

    fn of(context: *anyopaque) *SimDisk {
        return @ptrCast(@alignCast(context));
    }

    fn entry(self: *SimDisk, name: []const u8) ?*Entry {
        for (self.entries.items) |*e| if (e.is_called(name)) return e;
        return null;
    }

    fn create(c: *anyopaque, name: []const u8, bytes: u64, text: *ErrorText) files.Error!File {
        const self = of(c);
        var used = bytes;
        for (self.entries.items) |*e| used += status(e.fd).size;
        const errno: linux.E = if (self.entry(name) != null)
            .EXIST
        else if (used > self.capacity_bytes) .NOSPC else .SUCCESS;
        if (errno != .SUCCESS) {
            text.set_errno(@backingInt(errno), "cannot make {s}", .{name});
            return error.Shm;
        }
        const fd = std.posix.memfd_create("rcm-sim-record", linux.MFD.CLOEXEC) catch
            @panic("no memory file");
        if (linux.errno(linux.ftruncate(fd, @intCast(bytes))) != .SUCCESS) @panic("no room");
        const map = std.posix.mmap(
            null,
            @intCast(bytes),
            .{ .READ = true, .WRITE = true },
            .{ .TYPE = .SHARED },
            fd,
            0,
        ) catch @panic("no room");
        var e: Entry = .{ .fd = fd, .inode = status(fd).ino, .map = map };
        e.call(name);
        self.entries.append(self.gpa, e) catch @panic("out of memory");
        return .{ .fd = duplicate(fd), .bytes = bytes };
    }

    fn find(c: *anyopaque, name: []const u8, _: *ErrorText) files.Error!?File {
        const e = of(c).entry(name) orelse return null;
        return .{ .fd = duplicate(e.fd), .bytes = status(e.fd).size };
    }

    fn open_read(c: *anyopaque, name: []const u8) ?i32 {
        const e = of(c).entry(name) orelse return null;
        return duplicate(e.fd);
    }

    fn remove(c: *anyopaque, name: []const u8) void {
        const self = of(c);
        for (self.entries.items, 0..) |*e, i| {
            if (!e.is_called(name)) continue;
            self.drop(e);
            _ = self.entries.orderedRemove(i);
            return;
        }
    }

    fn rename(c: *anyopaque, from: []const u8, to: []const u8, _: *ErrorText) files.Error!void {
        const self = of(c);
        remove(c, to);
        if (self.entry(from)) |e| e.call(to);
    }

    fn force(c: *anyopaque, fd: i32) u16 {
        const self = of(c);
        if (self.is_broken) return @backingInt(linux.E.IO);
        const inode = status(fd).ino;
        for (self.entries.items) |*e| {
            if (e.inode != inode) continue;
            if (e.is_pending) {
                std.mem.swap(std.ArrayList(u8), &e.on_disk, &e.pending);
            } else e.copy(self.gpa, &e.on_disk);
            e.is_pending = false;
        }
        return 0;
    }

    fn force_names(c: *anyopaque) u16 {
        const self = of(c);
        if (self.is_broken) return @backingInt(linux.E.IO);
        for (self.entries.items) |*e| e.is_named = true;
        return 0;
    }

    fn path_text(_: *const anyopaque) []const u8 {
        return "simulated/";
    }

    fn duplicate(fd: i32) i32 {
        const result = linux.dup(fd);
        assert(linux.errno(result) == .SUCCESS);
        return @intCast(result);
    }
};

fn status(fd: i32) linux.Statx {
    var stat: linux.Statx = undefined;
    const mask = linux.STATX.BASIC_STATS;
    const result = linux.statx(fd, "", linux.AT.EMPTY_PATH, mask, &stat);
    assert(linux.errno(result) == .SUCCESS);
    return stat;
}
