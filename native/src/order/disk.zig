//! What the record needs of a disk besides its files' bytes: names, room, and force. The engine has
//! a folder of the machine (`FolderDisk`); the simulator has one that loses power
//! (`testing/sim_disk.zig`). Files are descriptors either way: they are mapped, read and cut the
//! same.

const std = @import("std");
const linux = std.os.linux;
const files = @import("../window/files.zig");

const ErrorText = files.ErrorText;
const File = files.File;

pub const Disk = struct {
    context: *anyopaque,
    calls: *const Calls,

    pub const Calls = struct {
        create: *const fn (*anyopaque, []const u8, u64, *ErrorText) files.Error!File,
        find: *const fn (*anyopaque, []const u8, *ErrorText) files.Error!?File,
        open_read: *const fn (*anyopaque, []const u8) ?i32,
        remove: *const fn (*anyopaque, []const u8) void,
        rename: *const fn (*anyopaque, []const u8, []const u8, *ErrorText) files.Error!void,
        force: *const fn (*anyopaque, i32) u16,
        force_names: *const fn (*anyopaque) u16,
        path_text: *const fn (*const anyopaque) []const u8,
    };

    /// A new file of zeros, its room reserved, owned.
    pub fn create(self: Disk, name: []const u8, bytes: u64, text: *ErrorText) files.Error!File {
        return self.calls.create(self.context, name, bytes, text);
    }

    /// The file of that name, owned from now on; null when there is none.
    pub fn find(self: Disk, name: []const u8, text: *ErrorText) files.Error!?File {
        return self.calls.find(self.context, name, text);
    }

    /// A descriptor to map the file of that name from; the caller closes it.
    pub fn open_read(self: Disk, name: []const u8) ?i32 {
        return self.calls.open_read(self.context, name);
    }

    pub fn remove(self: Disk, name: []const u8) void {
        self.calls.remove(self.context, name);
    }

    pub fn rename(self: Disk, from: []const u8, to: []const u8, text: *ErrorText) files.Error!void {
        return self.calls.rename(self.context, from, to, text);
    }

    /// All that was stored in the file before the call survives the loss of power after it. 0, or
    /// an errno: then nothing since the last force that returned 0 is certain.
    pub fn force(self: Disk, fd: i32) u16 {
        return self.calls.force(self.context, fd);
    }

    /// The same for names of files.
    pub fn force_names(self: Disk) u16 {
        return self.calls.force_names(self.context);
    }

    /// For messages, with a slash at its end.
    pub fn path_text(self: Disk) []const u8 {
        return self.calls.path_text(self.context);
    }
};

/// A folder of this machine.
pub const FolderDisk = struct {
    folder: files.Folder,

    /// `directory` has a slash at its end; the folder `name` is made in it. Only a forced name is
    /// there after a loss of power.
    pub fn open(
        directory: []const u8,
        name: []const u8,
        is_forced: bool,
        text: *ErrorText,
    ) files.Error!FolderDisk {
        const folder: files.Folder = try .open(directory, name, text);
        errdefer folder.close();
        if (!is_forced) return .{ .folder = folder };
        const outer: files.Folder = try .open(directory, "", text);
        defer outer.close();
        const errno = force_fd(outer.fd, .all);
        if (errno == 0) return .{ .folder = folder };
        text.set_errno(errno, "cannot force the name {s} to the disk", .{folder.path_text()});
        return error.Shm;
    }

    pub fn close(self: FolderDisk) void {
        self.folder.close();
    }

    pub fn disk(self: *FolderDisk) Disk {
        return .{ .context = self, .calls = &calls };
    }

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

    fn of(context: *anyopaque) *FolderDisk {
        return @ptrCast(@alignCast(context));
    }

    fn create(c: *anyopaque, name: []const u8, bytes: u64, text: *ErrorText) files.Error!File {
        return of(c).folder.create(name, bytes, text);
    }

    fn find(c: *anyopaque, name: []const u8, text: *ErrorText) files.Error!?File {
        return of(c).folder.find(name, text);
    }

    fn open_read(c: *anyopaque, name: []const u8) ?i32 {
        const entry = of(c).folder.open_other(name, false) orelse return null;
        return entry.fd;
    }

    fn remove(c: *anyopaque, name: []const u8) void {
        of(c).folder.remove(name);
    }

    fn rename(
        c: *anyopaque,
        from: []const u8,
        to: []const u8,
        text: *ErrorText,
    ) files.Error!void {
        return of(c).folder.rename(from, to, text);
    }

    fn force(_: *anyopaque, fd: i32) u16 {
        return force_fd(fd, .data);
    }

    fn force_names(c: *anyopaque) u16 {
        return force_fd(of(c).folder.fd, .all);
    }

    fn path_text(c: *const anyopaque) []const u8 {
        const self: *const FolderDisk = @ptrCast(@alignCast(c));
        return self.folder.path_text();
    }
};

fn force_fd(fd: i32, what: enum { data, all }) u16 {
    while (true) {
        const result = if (what == .data) linux.fdatasync(fd) else linux.fsync(fd);
        const errno = linux.errno(result);
        if (errno == .INTR) continue;
        return @backingInt(errno);
    }
}
