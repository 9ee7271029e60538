//! The record of a context, but for threads and clocks: opened and recovered at its start,
//! replayed, and looked after by an agent, which makes the next file before it is needed, forces
//! data to the disk where that is asked for (`RecordSync`), and closes what is full.
//!
//! Whoever has the first file of the record locked owns the record.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const mutant = @import("../testing/mutant.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Log = @import("log.zig").Log;
const Disk = @import("disk.zig").Disk;
const record_file = @import("record_file.zig");
const recorder_file = @import("recorder.zig");
const recovery = @import("recovery.zig");
const restoring = @import("restoring.zig");
const notices_file = @import("../session/notices.zig");
const Notices = notices_file.Notices;
const number = notices_file.number;
const Recorder = recorder_file.Recorder;
const Replay = @import("replay.zig").Replay;
const Sync = recorder_file.Sync;

const block_bytes = limits.record_block_bytes;

pub const Options = struct {
    context: []const u8,
    context_id: u32,
    file_bytes: u64,
    /// A number that only this start has.
    life: u64,
    sync: Sync = .async,
    /// First sqn that is delivered again.
    replay_from: u64 = 0,
};

pub const Recording = struct {
    o: Options,
    disk: Disk,
    /// The first file, for its lock, where it is not the current one.
    owner: ?files.File,
    found: recovery.Found,
    /// Files that were set aside or removed, as they held nothing of the order.
    files_cut: u32 = 0,
    recorder: Recorder,
    replay: Replay,
    next_no: u32,
    /// Where the data lies that is to be forced.
    sync_fd: i32 = -1,
    /// Recording stopped, and that was told.
    stop_told: bool = false,

    /// Everything that there is on the disk is looked at. The log begins at `first_sqn()`.
    pub fn open(
        gpa: std.mem.Allocator,
        self: *Recording,
        o: Options,
        disk: Disk,
        pool: *ChunkPool,
        text: *files.ErrorText,
    ) (files.Error || error{OutOfMemory})!void {
        var old: restoring.OldFiles = .{};
        defer old.deinit(gpa);
        try old.open(gpa, disk, o.context, text);
        var found = try recovery.scan(gpa, old.bytes.items);
        errdefer found.deinit();
        const kept = found.files_used();
        try restoring.repair(&found, &old);
        const cut = try restoring.set_aside(disk, &old, kept, found.damage != null, text);
        // What was recovered counts as recorded: also after a loss of power.
        var errno: u16 = if (o.sync == .async) 0 else old.force(disk, kept);
        const owner = old.take_owner(kept);
        errdefer if (owner) |file| file.close();
        const recorder_options: recorder_file.Options = .{
            .context = o.context,
            .context_id = o.context_id,
            .file_bytes = o.file_bytes,
            .life = o.life,
            .sync = o.sync,
        };
        const blocks: u32 = @intCast(o.file_bytes / block_bytes);
        var current: ?recorder_file.OpenFile = null;
        if (errno == 0) {
            const no: u32 = @intCast(kept);
            const sqn = found.next_sqn;
            const made = recorder_file.create_file(&recorder_options, disk, no, blocks, sqn, text);
            if (made) |file| current = file else |_| errno = text.errno;
        }
        errdefer if (current) |c| close_file(c);
        var recorder: Recorder = try .init(gpa, pool, recorder_options, current);
        recorder.forced_sqn = found.next_sqn;
        if (current == null) {
            recorder.errno = errno;
            recorder.stopped_sqn.store(found.next_sqn, .monotonic);
        }
        self.* = .{
            .o = o,
            .disk = disk,
            .owner = owner,
            .found = found,
            .files_cut = cut,
            .recorder = recorder,
            .replay = undefined,
            .next_no = @intCast(kept + 1),
            .sync_fd = if (current) |c| c.file.fd else -1,
        };
        const from = std.math.clamp(o.replay_from, found.first_sqn, found.next_sqn);
        const off: u64 = if (mutant.on(.replay_skips) and from < found.next_sqn) 1 else 0;
        self.replay = .init(disk, self.found.segments.items, from + off);
        for (found.streams.items) |known| self.recorder.set_stream(known.entry);
    }

    /// A tier delivers what is recorded in its own way (`tier_log.zig`).
    pub fn skip_replay(self: *Recording) void {
        self.replay.at = self.replay.segments.len;
    }

    /// Place of the first record that is delivered.
    pub fn first_sqn(self: *const Recording) u64 {
        return self.replay.next_sqn;
    }

    /// After the mappings of the log's memory are gone.
    pub fn deinit(self: *Recording, gpa: std.mem.Allocator) void {
        self.replay.deinit();
        const r = &self.recorder;
        switch (r.state.load(.acquire)) {
            .ready => {
                self.remove(r.next.file_no);
                close_file(r.next);
            },
            .turned => close_used(r.old),
            else => {},
        }
        // A tier's record that goes on in memory: the last file on the disk.
        const last = if (r.memory.items.len > 0) r.left else r.current;
        if (last) |current| {
            if (current.next_block == 1) self.remove(current.file_no);
            close_used(current);
        }
        self.forget(gpa);
    }

    /// The process is gone: files stay as they are.
    pub fn abandon(self: *Recording, gpa: std.mem.Allocator) void {
        self.replay.deinit();
        const r = &self.recorder;
        switch (r.state.load(.acquire)) {
            .ready => close_file(r.next),
            .turned => close_file(r.old),
            else => {},
        }
        if (r.current) |current| close_file(current);
        self.forget(gpa);
    }

    fn forget(self: *Recording, gpa: std.mem.Allocator) void {
        if (self.owner) |file| file.close();
        self.found.deinit();
        self.recorder.deinit(gpa);
        self.* = undefined;
    }

    fn remove(self: *Recording, file_no: u32) void {
        var buffer: [record_file.file_name_bytes]u8 = undefined;
        self.disk.remove(record_file.file_name(&buffer, file_no));
    }

    // ---------------------------------------------------------------- receive agent

    pub fn is_replaying(self: *const Recording) bool {
        return !self.replay.is_done();
    }

    /// Before anything is received: replays. The work count; null: that is over.
    pub fn step_rx(self: *Recording, log: *Log, notices: *Notices) ?u32 {
        self.recorder.look_at_disk();
        if (!self.stop_told and self.recorder.stopped_sqn.raw != recorder_file.never) {
            self.stop_told = true;
            notices.log(.record_stopped, .fatal, .{ .args = .{
                number(self.recorder.stopped_sqn.raw),
                number(self.recorder.errno),
                0,
                0,
            } });
        }
        if (self.replay.is_done()) return null;
        const work = self.replay.step(log);
        if (self.replay.is_done()) self.replay.deinit();
        if (mutant.on(.joint_early)) return null;
        return work;
    }

    /// What was found at the start.
    pub fn tell(self: *const Recording, notices: *Notices) void {
        const f = &self.found;
        if (f.next_sqn > f.first_sqn) notices.log(.record_recovered, .info, .{ .args = .{
            number(f.first_sqn),
            number(f.next_sqn),
            number(self.first_sqn()),
            0,
        } });
        if (f.damage) |d| notices.log(.record_cut, .err, .{ .args = .{
            number(f.next_sqn),
            number(d.place.file_no),
            number(d.place.offset() + d.offset),
            number(self.files_cut),
        } });
        if (f.damaged_heads > 0) notices.log(.record_head_damaged, .warn, .{ .args = .{
            number(f.damaged_heads),
            0,
            0,
            0,
        } });
    }

    // ---------------------------------------------------------------- agent

    /// Something was forced that somebody waits for (`is_forced`), or a file was made or left.
    pub const Did = enum { nothing, something, forced };

    /// The agent's work, in the order of its haste. `is_interval`: it is time to force.
    pub fn step(self: *Recording, is_interval: bool) Did {
        const r = &self.recorder;
        // First: what was asked for is covered by the file as it is from now on.
        const asked = r.asked.load(.acquire);
        const to = if (r.ordered) |ordered| ordered.load(.acquire) else 0;
        const late_count = r.late_count.load(.acquire);
        if (r.state.load(.acquire) == .turned) {
            self.leave_old();
            return .something;
        }
        if (asked != r.forced.raw or is_interval) {
            const is_done = self.force(self.sync_fd) and self.force_late(late_count);
            if (is_done) r.forced_sqn = @max(r.forced_sqn, to);
            r.forced.store(asked, .release);
            if (asked > 0) return .forced;
        }
        // Nobody may ask before there is room for one more.
        if (late_count != r.late_done.raw) _ = self.force_late(late_count);
        if (r.state.load(.acquire) != .wanted) return .nothing;
        var text: files.ErrorText = .{};
        if (r.make_file(self.disk, self.next_no, r.wanted_blocks, &text)) |file| {
            r.next = file;
            self.next_no += 1;
            r.state.store(.ready, .release);
        } else |_| {
            r.errno = text.errno;
            r.state.store(.failed, .release);
        }
        return .something;
    }

    /// The appender has gone over to the next file.
    fn leave_old(self: *Recording) void {
        const r = &self.recorder;
        if (self.o.sync != .async and !mutant.on(.old_unforced)) _ = self.force(r.old.file.fd);
        self.sync_fd = r.current.?.file.fd;
        if (r.old.file_no == 0) {
            self.owner = r.old.file;
            trim(r.old);
            region_file.release(r.old.head);
        } else close_used(r.old);
        r.state.store(.idle, .release);
    }

    /// Files that were left too early. False: the disk refused.
    fn force_late(self: *Recording, count: u32) bool {
        const r = &self.recorder;
        var buffer: [record_file.file_name_bytes]u8 = undefined;
        while (r.next_late(count)) |file_no| {
            const name = record_file.file_name(&buffer, file_no);
            const fd = self.disk.open_read(name) orelse {
                r.broken_errno.store(@backingInt(linux.E.NOENT), .release);
                return false;
            };
            defer _ = linux.close(fd);
            if (!self.force(fd)) return false;
            r.late_done.store(r.late_done.raw +% 1, .release);
        }
        return true;
    }

    /// A disk that refuses data ends the recording.
    fn force(self: *Recording, fd: i32) bool {
        const r = &self.recorder;
        if (fd < 0 or r.broken_errno.raw != 0) return false;
        const errno = self.disk.force(fd);
        if (errno != 0) r.broken_errno.store(errno, .release);
        return errno == 0;
    }
};

fn close_file(file: recorder_file.OpenFile) void {
    region_file.release(file.head);
    file.file.close();
}

/// Without the blocks that were not used.
fn close_used(file: recorder_file.OpenFile) void {
    trim(file);
    close_file(file);
}

fn trim(file: recorder_file.OpenFile) void {
    _ = linux.ftruncate(file.file.fd, @intCast(file.used_bytes()));
}
