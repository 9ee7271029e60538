//! What the yardsticks need of the machine: a clock, a core to stay on, memory and a second process.

const std = @import("std");
const linux = std.os.linux;

pub const page_bytes = 4096;

pub fn fail(comptime format: []const u8, values: anytype) noreturn {
    std.process.fatal(format, values);
}

/// A system call's result, or the end of the program with its name.
pub fn must(name: []const u8, result: usize) usize {
    const errno = linux.errno(result);
    if (errno != .SUCCESS) fail("{s}: {t}", .{ name, errno });
    return result;
}

/// CLOCK_MONOTONIC, the same in all processes of the machine (about 20 ns).
pub fn now_ns() u64 {
    var now: std.c.timespec = undefined;
    if (std.c.clock_gettime(.MONOTONIC, &now) != 0) fail("no clock", .{});
    return @as(u64, @intCast(now.sec)) * std.time.ns_per_s + @as(u64, @intCast(now.nsec));
}

/// Binds the calling thread to a core.
pub fn pin(core: u32) void {
    var set: [16]usize = @splat(0);
    set[core / 64] = @as(usize, 1) << @intCast(core % 64);
    const bytes = @sizeOf(@TypeOf(set));
    _ = must("sched_setaffinity", linux.syscall3(
        .sched_setaffinity,
        0,
        bytes,
        @intFromPtr(&set),
    ));
}

/// Zeroed memory that a forked process shares; every page is there already.
pub fn map_shared(bytes: usize) []align(page_bytes) u8 {
    return map(bytes, -1, true);
}

/// Memory that is `fd`'s, or nobody else's for -1; touched when it is used.
pub fn map(bytes: usize, fd: i32, populate: bool) []align(page_bytes) u8 {
    const result = must("mmap", linux.mmap(
        null,
        bytes,
        .{ .READ = true, .WRITE = true },
        .{ .TYPE = .SHARED, .ANONYMOUS = fd < 0, .POPULATE = populate },
        fd,
        0,
    ));
    const start: [*]align(page_bytes) u8 = @ptrFromInt(result);
    return start[0..bytes];
}

pub fn unmap(memory: []align(page_bytes) u8) void {
    _ = must("munmap", linux.munmap(memory.ptr, memory.len));
}

/// A file in memory.
pub fn memory_file(bytes: usize) i32 {
    const fd: i32 = @intCast(must("memfd_create", linux.memfd_create("bench", 0)));
    _ = must("ftruncate", linux.ftruncate(fd, @intCast(bytes)));
    return fd;
}

/// Runs `work(context)` in a process of its own on `core`, until it returns or is ended.
pub fn fork(core: u32, context: anytype, comptime work: fn (@TypeOf(context)) void) i32 {
    const parent = linux.getpid();
    const pid: i32 = @intCast(must("fork", linux.fork()));
    if (pid != 0) return pid;
    // It never outlives the program that measures.
    _ = linux.prctl(@backingInt(linux.PR.SET_PDEATHSIG), @backingInt(linux.SIG.KILL), 0, 0, 0);
    if (linux.getppid() != parent) linux.exit_group(1);
    pin(core);
    work(context);
    linux.exit_group(0);
}

pub fn end(pid: i32) void {
    _ = linux.kill(pid, .KILL);
    var status: i32 = 0;
    _ = linux.waitpid(pid, &status, 0);
}

pub fn yield() void {
    _ = linux.sched_yield();
}

/// Sums a payload word by word, so that all of it is read.
pub inline fn sum_of(payload: []const u8) u64 {
    var sum: u64 = 0;
    var at: usize = 0;
    while (at + 8 <= payload.len) : (at += 8) {
        sum +%= std.mem.readInt(u64, payload[at..][0..8], .little);
    }
    while (at < payload.len) : (at += 1) sum +%= payload[at];
    return sum;
}

/// Keeps the compiler from leaving out what `value` was made by.
pub inline fn keep(value: anytype) void {
    std.mem.doNotOptimizeAway(value);
}
