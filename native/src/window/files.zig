//! Files in shared memory: made, found, locked, reserved. What stands in them is `store.zig`'s
//! matter.
//!
//! A folder's files are reached through its descriptor, never followed through a symbolic link,
//! belong to this user, and can be read and written by nobody else. Each has one owner at a time,
//! by a lock of the kernel on the open file (OFD): it is gone when the owner is, however it ended,
//! and it also holds between two contexts of one process. Space is reserved when a file is made, so
//! that no later store can fail for want of memory.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const layout = @import("node.zig");
const failure = @import("../transport/failure.zig");

/// Words for a failed set-up: what was expected, what was found, where, and what to do.
pub const ErrorText = failure.Failure;
pub const Store = @import("store.zig").Store;

pub const Error = error{Shm};

/// The longest path that a message can name.
const path_bytes_max = 512;
/// Space is reserved in steps, so that a signal does not throw a large one back to its start.
const reserve_step_bytes = 64 << 20;

/// A file that this process owns.
pub const File = struct {
    fd: i32,
    bytes: u64,

    /// Gives up the lock too. Mappings stay.
    pub fn close(self: File) void {
        _ = linux.close(self.fd);
    }

    /// Reads from `offset` on; false when the file ends before.
    pub fn read(self: File, buffer: []u8, offset: u64) bool {
        var done: usize = 0;
        while (done < buffer.len) {
            const rest = buffer[done..];
            const result = linux.pread(self.fd, rest.ptr, rest.len, @intCast(offset + done));
            switch (linux.errno(result)) {
                .SUCCESS => if (result == 0) return false,
                .INTR => continue,
                else => return false,
            }
            done += result;
        }
        return true;
    }
};

/// Where the files of a context lie.
pub const Folder = struct {
    fd: i32,
    /// For messages, with a slash at its end.
    path: [path_bytes_max]u8,
    path_bytes: u32,

    /// Opens `directory` (an absolute path with a slash at its end) or, with a `name`, the folder
    /// of that name in it, which is made with rights for this user only.
    pub fn open(directory: []const u8, name: []const u8, text: *ErrorText) Error!Folder {
        var folder: Folder = .{ .fd = -1, .path = undefined, .path_bytes = 0 };
        if (directory.len + name.len + 2 > folder.path.len) {
            text.set("the path of {s}{s} is too long", .{ directory, name });
            return error.Shm;
        }
        var writer: std.Io.Writer = .fixed(&folder.path);
        writer.print("{s}", .{directory}) catch return error.Shm;
        folder.path_bytes = @intCast(writer.end);
        const flags: linux.O = .{ .DIRECTORY = true, .CLOEXEC = true };
        folder.fd = try open_directory(linux.AT.FDCWD, &folder, flags, text);
        if (name.len == 0) return folder;
        defer _ = linux.close(folder.fd);
        var inner = folder;
        writer.print("{s}/", .{name}) catch return error.Shm;
        @memcpy(inner.path[0..writer.end], folder.path[0..writer.end]);
        inner.path_bytes = @intCast(writer.end);
        var buffer: [limits.file_name_bytes_max + 1]u8 = undefined;
        const made = linux.mkdirat(folder.fd, try terminated(name, &buffer, text), 0o700);
        switch (linux.errno(made)) {
            .SUCCESS, .EXIST => {},
            else => |e| {
                text.set_errno(@backingInt(e), "cannot make the folder {s}", .{inner.path_text()});
                return error.Shm;
            },
        }
        const inner_flags: linux.O = .{ .DIRECTORY = true, .CLOEXEC = true, .NOFOLLOW = true };
        inner.fd = try open_directory(folder.fd, &inner, inner_flags, text);
        errdefer _ = linux.close(inner.fd);
        _ = try inner.check_rights(inner.fd, "", text);
        return inner;
    }

    pub fn close(self: Folder) void {
        _ = linux.close(self.fd);
    }

    pub fn path_text(self: *const Folder) []const u8 {
        return self.path[0..self.path_bytes];
    }

    /// The file of that name, owned by this process from now on; null when there is none.
    pub fn find(self: *const Folder, name: []const u8, text: *ErrorText) Error!?File {
        var buffer: [limits.file_name_bytes_max + 1]u8 = undefined;
        const name_z = try terminated(name, &buffer, text);
        for (0..tries_max) |_| {
            const flags: linux.O = .{ .ACCMODE = .RDWR, .CLOEXEC = true, .NOFOLLOW = true };
            const result = linux.openat(self.fd, name_z, flags, 0);
            switch (linux.errno(result)) {
                .SUCCESS => {},
                .NOENT => return null,
                .INTR => continue,
                else => |e| return self.refuse(e, "cannot open", name, text),
            }
            const file: File = .{ .fd = @intCast(result), .bytes = 0 };
            errdefer file.close();
            try self.lock(file, name, text);
            const opened = try self.check_rights(file.fd, name, text);
            // Whoever owned it before may have put another one in its place in the meantime.
            if (self.inode_of(name_z) == opened.inode) {
                return .{ .fd = file.fd, .bytes = opened.bytes };
            }
            file.close();
        }
        return self.refuse_restless(name, text);
    }

    /// The same where others may hold the lock for a moment, to remove what a dead process left.
    pub fn find_in_time(self: *const Folder, name: []const u8, text: *ErrorText) Error!?File {
        for (0..looks_max) |_| {
            if (self.find(name, text)) |found| return found else |_| {}
            pause();
        }
        return self.find(name, text);
    }

    fn refuse_restless(self: *const Folder, name: []const u8, text: *ErrorText) Error {
        text.set("{s}{s} changes all the time: another process starts on the same names", .{
            self.path_text(), name,
        });
        return error.Shm;
    }

    pub const Entry = struct { fd: i32, inode: u64, bytes: u64, is_owned: bool };

    /// A file that may be another process', to be mapped; null when there is none, or it is none of
    /// this user's. The caller closes the descriptor.
    pub fn open_other(self: *const Folder, name: []const u8, for_writing: bool) ?Entry {
        var buffer: [limits.file_name_bytes_max + 1]u8 = undefined;
        const name_z = std.fmt.bufPrintSentinel(&buffer, "{s}", .{name}, 0) catch return null;
        const flags: linux.O = .{
            .ACCMODE = if (for_writing) .RDWR else .RDONLY,
            .CLOEXEC = true,
            .NOFOLLOW = true,
            .NONBLOCK = true,
        };
        const result = linux.openat(self.fd, name_z, flags, 0);
        if (linux.errno(result) != .SUCCESS) return null;
        const fd: i32 = @intCast(result);
        var text: ErrorText = .{};
        const opened = self.check_rights(fd, name, &text) catch {
            _ = linux.close(fd);
            return null;
        };
        return .{
            .fd = fd,
            .inode = opened.inode,
            .bytes = opened.bytes,
            .is_owned = is_owned(fd),
        };
    }

    /// Inode of the file that has that name now; null: none has.
    pub fn inode_by_name(self: *const Folder, name: []const u8) ?u64 {
        var buffer: [limits.file_name_bytes_max + 1]u8 = undefined;
        const name_z = std.fmt.bufPrintSentinel(&buffer, "{s}", .{name}, 0) catch return null;
        return self.inode_of(name_z);
    }

    /// Removes what a process left that is dead. Nothing happens while somebody owns it.
    pub fn remove_leftover(self: *const Folder, name: []const u8) void {
        var text: ErrorText = .{};
        const file = (self.find(name, &text) catch return) orelse return;
        self.remove(name);
        file.close();
    }

    /// When the folder's list of names changed last, in nanoseconds; 0: not known.
    pub fn changed_ns(self: *const Folder) u64 {
        var stat: linux.Statx = undefined;
        const mask = linux.STATX.BASIC_STATS;
        const result = linux.statx(self.fd, "", linux.AT.EMPTY_PATH, mask, &stat);
        if (linux.errno(result) != .SUCCESS or stat.mtime.sec < 0) return 0;
        return @as(u64, @intCast(stat.mtime.sec)) * std.time.ns_per_s + stat.mtime.nsec;
    }

    /// A new file of zeros, owned by this process, its space reserved. Until it is locked it looks
    /// like a dead process' leftover: where somebody has removed it as such, it is made again.
    pub fn create(
        self: *const Folder,
        name: []const u8,
        bytes: u64,
        text: *ErrorText,
    ) Error!File {
        var buffer: [limits.file_name_bytes_max + 1]u8 = undefined;
        const name_z = try terminated(name, &buffer, text);
        const flags: linux.O = .{
            .ACCMODE = .RDWR,
            .CREAT = true,
            .EXCL = true,
            .CLOEXEC = true,
            .NOFOLLOW = true,
        };
        for (0..tries_max) |_| {
            const result = linux.openat(self.fd, name_z, flags, 0o600);
            switch (linux.errno(result)) {
                .SUCCESS => {},
                .INTR => continue,
                else => |e| return self.refuse(e, "cannot make", name, text),
            }
            const file: File = .{ .fd = @intCast(result), .bytes = bytes };
            errdefer file.close();
            try self.wait_lock(file, name, text);
            if (!self.has_name(file, name_z)) {
                file.close();
                continue;
            }
            errdefer self.remove(name);
            try self.reserve(file, name, text);
            return file;
        }
        return self.refuse_restless(name, text);
    }

    /// Whoever looks for leftovers holds the lock of a new file for two system calls at most.
    fn wait_lock(self: *const Folder, file: File, name: []const u8, text: *ErrorText) Error!void {
        for (0..looks_max) |_| {
            if (self.lock(file, name, text)) |_| return else |_| {}
            pause();
        }
        return self.lock(file, name, text);
    }

    fn has_name(self: *const Folder, file: File, name_z: [*:0]const u8) bool {
        var stat: linux.Statx = undefined;
        const mask = linux.STATX.BASIC_STATS;
        const result = linux.statx(file.fd, "", linux.AT.EMPTY_PATH, mask, &stat);
        return linux.errno(result) == .SUCCESS and self.inode_of(name_z) == stat.ino;
    }

    /// Takes the name away; who has the file open keeps it.
    pub fn remove(self: *const Folder, name: []const u8) void {
        var buffer: [limits.file_name_bytes_max + 1]u8 = undefined;
        const name_z = std.fmt.bufPrintSentinel(&buffer, "{s}", .{name}, 0) catch return;
        _ = linux.unlinkat(self.fd, name_z, 0);
    }

    /// Gives the file `from` the name `to`, in one step, in place of the one that has it.
    pub fn rename(
        self: *const Folder,
        from: []const u8,
        to: []const u8,
        text: *ErrorText,
    ) Error!void {
        var buffers: [2][limits.file_name_bytes_max + 1]u8 = undefined;
        const from_z = try terminated(from, &buffers[0], text);
        const to_z = try terminated(to, &buffers[1], text);
        switch (linux.errno(linux.renameat2(self.fd, from_z, self.fd, to_z, .{}))) {
            .SUCCESS => {},
            else => |e| return self.refuse(e, "cannot put in place", to, text),
        }
    }

    const tries_max = 100;
    /// Tenths of a second in all: the other may have to wait for its turn on a core.
    const looks_max = 200;

    fn pause() void {
        const request: linux.timespec = .{ .sec = 0, .nsec = std.time.ns_per_ms };
        _ = linux.nanosleep(&request, null);
    }

    fn refuse(
        self: *const Folder,
        e: linux.E,
        comptime what: []const u8,
        name: []const u8,
        text: *ErrorText,
    ) Error {
        const advice = switch (e) {
            .LOOP => " (a symbolic link: remove it)",
            .ACCES, .PERM => " (it belongs to another user)",
            .EXIST => " (another process starts on the same names)",
            else => "",
        };
        text.set_errno(@backingInt(e), what ++ " {s}{s}{s}", .{ self.path_text(), name, advice });
        return error.Shm;
    }

    fn lock(self: *const Folder, file: File, name: []const u8, text: *ErrorText) Error!void {
        var range: linux.Flock = .{
            .type = linux.F.WRLCK,
            .whence = linux.SEEK.SET,
            .start = 0,
            .len = 0,
            .pid = 0,
            ._unused = {},
        };
        const result = linux.fcntl(file.fd, linux.F.OFD_SETLK, @intFromPtr(&range));
        switch (linux.errno(result)) {
            .SUCCESS => return,
            .AGAIN, .ACCES => {},
            else => |e| return self.refuse(e, "cannot lock", name, text),
        }
        var pid: u32 = 0;
        _ = file.read(std.mem.asBytes(&pid), @offsetOf(layout.FileHeader, "pid"));
        if (pid == process_id()) {
            text.set("{s}{s} is already open in this process (pid {d}): a context can be open " ++
                "once, and its names must differ from those of others", .{
                self.path_text(), name, pid,
            });
        } else {
            text.set("{s}{s} is in use by process {d}: stop it, or use another context name or " ++
                "file prefix (setFilePrefix)", .{ self.path_text(), name, pid });
        }
        return error.Shm;
    }

    const Opened = struct { inode: u64, bytes: u64 };

    fn check_rights(
        self: *const Folder,
        fd: i32,
        name: []const u8,
        text: *ErrorText,
    ) Error!Opened {
        var stat: linux.Statx = undefined;
        const mask = linux.STATX.BASIC_STATS;
        switch (linux.errno(linux.statx(fd, "", linux.AT.EMPTY_PATH, mask, &stat))) {
            .SUCCESS => {},
            else => |e| return self.refuse(e, "cannot look at", name, text),
        }
        const kind = stat.mode & linux.S.IFMT;
        if (kind != linux.S.IFREG and kind != linux.S.IFDIR) {
            text.set("{s}{s} is not a file: remove it", .{ self.path_text(), name });
            return error.Shm;
        }
        if (stat.uid != linux.geteuid() or stat.mode & 0o022 != 0) {
            text.set("{s}{s} belongs to user {d} with rights {o}, expected user {d} and no " ++
                "rights to write for others: remove it or use another file prefix", .{
                self.path_text(), name, stat.uid, stat.mode & 0o777, linux.geteuid(),
            });
            return error.Shm;
        }
        return .{ .inode = stat.ino, .bytes = stat.size };
    }

    fn inode_of(self: *const Folder, name: [*:0]const u8) ?u64 {
        var stat: linux.Statx = undefined;
        const mask = linux.STATX.BASIC_STATS;
        const result = linux.statx(self.fd, name, linux.AT.SYMLINK_NOFOLLOW, mask, &stat);
        return if (linux.errno(result) == .SUCCESS) stat.ino else null;
    }

    fn reserve(self: *const Folder, file: File, name: []const u8, text: *ErrorText) Error!void {
        var at: u64 = 0;
        while (at < file.bytes) {
            const step = @min(file.bytes - at, reserve_step_bytes);
            switch (linux.errno(linux.fallocate(file.fd, 0, @intCast(at), @intCast(step)))) {
                .SUCCESS => at += step,
                .INTR => {},
                .NOSPC, .DQUOT => |e| {
                    // Given back first, so that what is told as available is what there would be.
                    _ = linux.ftruncate(file.fd, 0);
                    text.set("no room for {s}{s}: {d} bytes needed, {d} available: lower " ++
                        "MaxMemoryAllowedMBytes, remove what is not used there, or enlarge it", .{
                        self.path_text(), name, file.bytes, available_bytes(file.fd),
                    });
                    text.errno = @backingInt(e);
                    return error.Shm;
                },
                else => |e| return self.refuse(e, "cannot reserve space for", name, text),
            }
        }
    }
};

fn open_directory(parent: i32, folder: *const Folder, flags: linux.O, text: *ErrorText) Error!i32 {
    var buffer: [path_bytes_max + 1]u8 = undefined;
    const all = folder.path_text();
    // Relative to its parent where there is one: the last part of the path, without the slash.
    const part = if (parent == linux.AT.FDCWD) all else blk: {
        const trimmed = all[0 .. all.len - 1];
        const slash = std.mem.lastIndexOfScalar(u8, trimmed, '/') orelse 0;
        break :blk trimmed[slash + 1 ..];
    };
    const path = std.fmt.bufPrintSentinel(&buffer, "{s}", .{part}, 0) catch return error.Shm;
    const result = linux.openat(parent, path, flags, 0);
    switch (linux.errno(result)) {
        .SUCCESS => return @intCast(result),
        else => |e| {
            text.set_errno(@backingInt(e), "cannot open the folder {s}", .{all});
            return error.Shm;
        },
    }
}

fn terminated(name: []const u8, buffer: []u8, text: *ErrorText) Error![*:0]const u8 {
    if (name.len > limits.file_name_bytes_max) {
        text.set("the file name {s} has {d} bytes, at most {d} are possible: use shorter names", .{
            name, name.len, limits.file_name_bytes_max,
        });
        return error.Shm;
    }
    return std.fmt.bufPrintSentinel(buffer, "{s}", .{name}, 0) catch return error.Shm;
}

/// Somebody holds the lock on the file: its owner lives.
pub fn is_owned(fd: i32) bool {
    var range: linux.Flock = .{
        .type = linux.F.WRLCK,
        .whence = linux.SEEK.SET,
        .start = 0,
        .len = 0,
        .pid = 0,
        ._unused = {},
    };
    const result = linux.fcntl(fd, linux.F.OFD_GETLK, @intFromPtr(&range));
    return linux.errno(result) == .SUCCESS and range.type != linux.F.UNLCK;
}

/// The same of a file by its path; false: there is none that this user may read.
pub fn is_owned_path(path: []const u8) bool {
    var buffer: [path_bytes_max + limits.file_name_bytes_max + 1]u8 = undefined;
    const path_z = std.fmt.bufPrintSentinel(&buffer, "{s}", .{path}, 0) catch return false;
    const flags: linux.O = .{ .CLOEXEC = true, .NOFOLLOW = true, .NONBLOCK = true };
    const result = linux.openat(linux.AT.FDCWD, path_z, flags, 0);
    if (linux.errno(result) != .SUCCESS) return false;
    const fd: i32 = @intCast(result);
    defer _ = linux.close(fd);
    return is_owned(fd);
}

/// Free bytes of the file system that `fd` lies on.
fn available_bytes(fd: i32) u64 {
    // struct statfs: type, block size, blocks, free, available to us, ...
    var words: [32]u64 = @splat(0);
    const result = linux.syscall2(.fstatfs, @intCast(fd), @intFromPtr(&words));
    return if (linux.errno(result) == .SUCCESS) words[1] *| words[4] else 0;
}

/// This process, as other processes of its pid namespace see it.
pub fn process_id() u32 {
    return @intCast(linux.getpid());
}

/// A number that no other start has.
pub fn random_u64() u64 {
    var value: u64 = 0;
    while (value == 0) {
        const result = linux.getrandom(std.mem.asBytes(&value), @sizeOf(u64), 0);
        if (linux.errno(result) != .SUCCESS) value = 0;
    }
    return value;
}
