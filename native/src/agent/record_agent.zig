//! The thread of a context's record (`rcm-record`): runs the agent part of `Recording` over a
//! folder of this machine, when it is rung for and, with `RecordSync: "interval"`, every 10 ms.

const std = @import("std");
const linux = std.os.linux;
const assert = @import("../assert.zig").assert;
const clock = @import("clock.zig");
const cpu = @import("cpu.zig");
const files = @import("../window/files.zig");
const disk_file = @import("../order/disk.zig");
const recorder_file = @import("../order/recorder.zig");
const restoring = @import("../order/restoring.zig");
const Recording = @import("../order/recording.zig").Recording;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Waiter = @import("wait.zig").Waiter;

const stack_bytes = 512 * 1024;
const interval_ns = 10 * clock.ns_per_ms;

pub const Sync = recorder_file.Sync;

pub const Options = struct {
    /// With a slash at its end; the context's folder in it is made.
    directory: []const u8,
    context: []const u8,
    context_id: u32,
    file_bytes: u64,
    sync: Sync = .async,
    /// First sqn that is delivered again.
    replay_from: u64 = 0,
};

pub const RecordAgent = struct {
    disk: disk_file.FolderDisk,
    recording: Recording,
    thread: ?std.Thread = null,
    stopping: std.atomic.Value(bool) = .init(false),
    /// Who waits for forces; null: it looks by itself.
    waiter: ?*Waiter = null,

    /// `self` stays where it is.
    pub fn open(
        gpa: std.mem.Allocator,
        self: *RecordAgent,
        o: Options,
        pool: *ChunkPool,
        text: *files.ErrorText,
    ) (files.Error || error{OutOfMemory})!void {
        const disk: disk_file.FolderDisk =
            try .open(o.directory, o.context, o.sync != .async, text);
        self.* = .{ .disk = disk, .recording = undefined };
        errdefer self.disk.close();
        try Recording.open(gpa, &self.recording, .{
            .context = o.context,
            .context_id = o.context_id,
            .file_bytes = o.file_bytes,
            .life = files.random_u64(),
            .sync = o.sync,
            .replay_from = o.replay_from,
        }, self.disk.disk(), pool, text);
    }

    /// After the mappings of the log's memory are gone.
    pub fn deinit(self: *RecordAgent, gpa: std.mem.Allocator) void {
        assert(self.thread == null);
        self.recording.deinit(gpa);
        self.disk.close();
        self.* = undefined;
    }

    pub fn spawn(self: *RecordAgent) !void {
        if (self.recording.recorder.current == null) return;
        const config: std.Thread.SpawnConfig = .{ .stack_size = stack_bytes };
        self.thread = try std.Thread.spawn(config, run, .{self});
    }

    pub fn join(self: *RecordAgent) void {
        const thread = self.thread orelse return;
        self.stopping.store(true, .release);
        self.recording.recorder.ring();
        thread.join();
        self.thread = null;
    }

    fn run(self: *RecordAgent) void {
        cpu.name_current("rcm-record");
        const is_interval = self.recording.o.sync == .interval;
        var due_ns = clock.monotonic_ns() + interval_ns;
        while (true) {
            const bell = self.recording.recorder.bell.load(.acquire);
            if (self.stopping.load(.acquire)) return;
            const now_ns = clock.monotonic_ns();
            const is_due = is_interval and now_ns >= due_ns;
            if (is_due) due_ns = now_ns + interval_ns;
            switch (self.recording.step(is_due)) {
                .something => {},
                .forced => if (self.waiter) |w| {
                    _ = w.wake_if_sleeping();
                },
                .nothing => self.sleep(bell, if (is_interval) due_ns -| now_ns else null),
            }
        }
    }

    fn sleep(self: *RecordAgent, bell: u32, wait_ns: ?u64) void {
        const op: linux.FUTEX_OP = .{ .cmd = .WAIT, .private = true };
        const timeout: linux.timespec = .{ .sec = 0, .nsec = @intCast(wait_ns orelse 0) };
        const limit = if (wait_ns == null) null else &timeout;
        _ = linux.futex_4arg(&self.recording.recorder.bell.raw, op, bell, limit);
    }
};

/// `restoring.cut_record` over a folder of this machine.
pub fn cut_record(
    gpa: std.mem.Allocator,
    o: Options,
    sqn: u64,
    text: *files.ErrorText,
) (files.Error || error{ OutOfMemory, Record })!u32 {
    var disk: disk_file.FolderDisk = try .open(o.directory, o.context, false, text);
    defer disk.close();
    return restoring.cut_record(gpa, disk.disk(), o.context, sqn, text);
}
