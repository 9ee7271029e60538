//! The calling thread's core, name and timer precision (`BindCoreId`, guide 10.1).

const std = @import("std");
const linux = std.os.linux;
const errno_of = @import("../transport/failure.zig").errno_of;

/// Most cores that a core number can name here.
pub const cores_max = 1024;

/// Binds the calling thread to `core` (0-based). 0 on success, otherwise the kernel's error number
/// (EINVAL: no such core, or this process may not use it).
pub fn bind_current(core: u32) u16 {
    if (core >= cores_max) return @backingInt(linux.E.INVAL);
    var set: [cores_max / @bitSizeOf(usize)]usize = @splat(0);
    set[core / @bitSizeOf(usize)] = @as(usize, 1) << @intCast(core % @bitSizeOf(usize));
    const bytes = @sizeOf(@TypeOf(set));
    return errno_of(linux.syscall3(.sched_setaffinity, 0, bytes, @intFromPtr(&set)));
}

/// Core that the calling thread runs on at this moment.
pub fn current_core() u32 {
    var core: u32 = 0;
    _ = linux.syscall3(.getcpu, @intFromPtr(&core), 0, 0);
    return core;
}

/// Names the calling thread, as `top -H` and debuggers show it; cut to the kernel's 15 bytes.
pub fn name_current(name: []const u8) void {
    var text: [16]u8 = @splat(0);
    const len = @min(name.len, text.len - 1);
    @memcpy(text[0..len], name[0..len]);
    _ = linux.prctl(@backingInt(linux.PR.SET_NAME), @intFromPtr(&text), 0, 0, 0);
}

/// Lets timed waits of the calling thread end within about a microsecond of their deadline; the
/// kernel's default rounds them up by 50 us, more than a repair's back-off may cost.
pub fn precise_timers() void {
    _ = linux.prctl(@backingInt(linux.PR.SET_TIMERSLACK), 1, 0, 0, 0);
}

/// The calling thread gets a tenth of the time beside others that want the core. Not less: while it
/// is in the kernel for the process' memory, others wait for it.
pub fn lower_priority() void {
    const nice = 10;
    // Of the calling thread only: 0 names a thread here, whatever the manual calls it.
    _ = linux.syscall3(.setpriority, 0, 0, nice);
}

test "a thread is bound and named" {
    const Bound = struct {
        fn run(out: *[3]u32, name: *[16]u8) void {
            const core = current_core(); // One that this process may use.
            out[0] = bind_current(core);
            out[1] = @intFromBool(current_core() == core);
            out[2] = bind_current(cores_max - 1);
            name_current("rcm-a-name-that-is-too-long");
            precise_timers();
            _ = linux.prctl(@backingInt(linux.PR.GET_NAME), @intFromPtr(name), 0, 0, 0);
        }
    };
    var out: [3]u32 = undefined;
    var name: [16]u8 = undefined;
    const thread = try std.Thread.spawn(.{}, Bound.run, .{ &out, &name });
    thread.join();
    try std.testing.expectEqual(@as(u32, 0), out[0]);
    try std.testing.expectEqual(@as(u32, 1), out[1]);
    try std.testing.expectEqual(@as(u32, @backingInt(linux.E.INVAL)), out[2]);
    try std.testing.expectEqualStrings("rcm-a-name-that", std.mem.sliceTo(&name, 0));
    try std.testing.expectEqual(@as(u16, @backingInt(linux.E.INVAL)), bind_current(cores_max));
}
