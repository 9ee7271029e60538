//! Yardstick of the record: the same bytes through mapped files, one behind the other, which the
//! kernel writes back.

const std = @import("std");
const linux = std.os.linux;
const machine = @import("machine.zig");

const file_bytes = 256 << 20;

pub const Task = struct { core: u32, folder: []const u8, count: u64, bytes: u32 };

/// Time to put `count` records of `bytes` each into files, which are made and reserved meanwhile.
pub fn write_ns(task: Task) u64 {
    machine.pin(task.core);
    var record: [4096]u8 = undefined;
    for (&record, 0..) |*byte, i| byte.* = @truncate(i);
    const from = record[0..@min(task.bytes, record.len)];
    const begin = machine.now_ns();
    var no: u32 = 0;
    var left = task.count;
    while (left > 0) : (no += 1) {
        const to = make_file(task.folder, no);
        defer machine.unmap(to);
        var at: usize = 0;
        while (left > 0 and at + from.len <= to.len) : (left -= 1) {
            @memcpy(to[at..][0..from.len], from);
            at += from.len;
        }
    }
    const took_ns = machine.now_ns() - begin;
    for (0..no) |n| {
        var buffer: [512]u8 = undefined;
        _ = linux.unlink(path_of(&buffer, task.folder, @intCast(n)));
    }
    return took_ns;
}

fn make_file(folder: []const u8, no: u32) []align(machine.page_bytes) u8 {
    var buffer: [512]u8 = undefined;
    const flags: linux.O = .{ .ACCMODE = .RDWR, .CREAT = true, .TRUNC = true };
    const opened = linux.open(path_of(&buffer, folder, no), flags, 0o600);
    const fd: i32 = @intCast(machine.must("open", opened));
    defer _ = linux.close(fd);
    _ = machine.must("fallocate", linux.fallocate(fd, 0, 0, file_bytes));
    return machine.map(file_bytes, fd, false);
}

fn path_of(buffer: *[512]u8, folder: []const u8, no: u32) [*:0]const u8 {
    return std.fmt.bufPrintSentinel(buffer, "{s}/mapped-{d}", .{ folder, no }, 0) catch
        machine.fail("the path of {s} is too long", .{folder});
}
