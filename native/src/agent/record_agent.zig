//! The record of a context: opened and recovered at its start, replayed, and looked after by a
//! thread of its own (`rcm-record`), which makes the next file before it is needed, forces data to
//! the disk where that is asked for (`RecordSync`), and closes what is full.
//!
//! Whoever has the first file of the record locked owns the record.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const clock = @import("clock.zig");
const cpu = @import("cpu.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Log = @import("../order/log.zig").Log;
const record = @import("../order/record.zig");
const record_file = @import("../order/record_file.zig");
const recorder_file = @import("../order/recorder.zig");
const recovery = @import("../order/recovery.zig");
const notices_file = @import("../session/notices.zig");
const Notices = notices_file.Notices;
const number = notices_file.number;
const Recorder = recorder_file.Recorder;
const Replay = @import("../order/replay.zig").Replay;

const block_bytes = limits.record_block_bytes;
const stack_bytes = 512 * 1024;
const interval_ns = 10 * std.time.ns_per_ms;

pub const Sync = enum { async, interval };

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
    o: Options,
    folder: files.Folder,
    /// The first file, for its lock, where it is not the current one.
    owner: ?files.File,
    found: recovery.Found,
    /// Files that were set aside or removed, as they held nothing of the order.
    files_cut: u32 = 0,
    recorder: Recorder,
    replay: Replay,
    thread: ?std.Thread = null,
    stopping: std.atomic.Value(bool) = .init(false),
    next_no: u32,
    /// Where the data lies that is to be forced.
    sync_fd: i32 = -1,
    /// Recording stopped, and that was told.
    stop_told: bool = false,

    /// Everything that there is on disk is looked at. The log begins at `first_sqn()`.
    pub fn open(
        gpa: std.mem.Allocator,
        self: *RecordAgent,
        o: Options,
        pool: *ChunkPool,
        text: *files.ErrorText,
    ) (files.Error || error{OutOfMemory})!void {
        var folder = try files.Folder.open(o.directory, o.context, text);
        errdefer folder.close();
        var old: OldFiles = .{};
        defer old.deinit(gpa);
        try old.open(gpa, &folder, &o, text);
        var found = try recovery.scan(gpa, old.bytes.items);
        errdefer found.deinit();
        const kept = found.files_used();
        try repair(&found, &old);
        const cut = try set_aside(&folder, &old, kept, found.damage != null, text);
        const owner = old.take_owner(kept);
        errdefer if (owner) |file| file.close();
        const recorder_options: recorder_file.Options = .{
            .context = o.context,
            .context_id = o.context_id,
            .file_bytes = o.file_bytes,
            .life = files.random_u64(),
        };
        const blocks: u32 = @intCast(o.file_bytes / block_bytes);
        const made = recorder_file.create_file(
            &recorder_options,
            &folder,
            @intCast(kept),
            blocks,
            found.next_sqn,
            text,
        );
        const current: ?recorder_file.OpenFile = made catch null;
        errdefer if (current) |c| close_file(c);
        var recorder = try Recorder.init(gpa, pool, recorder_options, current);
        if (current == null) {
            recorder.errno = text.errno;
            recorder.stopped_sqn.store(found.next_sqn, .monotonic);
        }
        self.* = .{
            .o = o,
            .folder = folder,
            .owner = owner,
            .found = found,
            .files_cut = cut,
            .recorder = recorder,
            .replay = undefined,
            .next_no = @intCast(kept + 1),
            .sync_fd = if (current) |c| c.file.fd else -1,
        };
        const from = std.math.clamp(o.replay_from, found.first_sqn, found.next_sqn);
        self.replay = .init(&self.folder, self.found.segments.items, from);
        for (found.streams.items) |known| self.recorder.set_stream(known.entry);
    }

    /// A tier delivers what is recorded in its own way (`tier_log.zig`).
    pub fn skip_replay(self: *RecordAgent) void {
        self.replay.at = self.replay.segments.len;
    }

    /// Place of the first record that is delivered.
    pub fn first_sqn(self: *const RecordAgent) u64 {
        return self.replay.next_sqn;
    }

    /// After the mappings of the log's memory are gone.
    pub fn deinit(self: *RecordAgent, gpa: std.mem.Allocator) void {
        assert(self.thread == null);
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
        if (self.owner) |file| file.close();
        self.found.deinit();
        r.deinit(gpa);
        self.folder.close();
        self.* = undefined;
    }

    fn remove(self: *RecordAgent, file_no: u32) void {
        var buffer: [record_file.file_name_bytes]u8 = undefined;
        self.folder.remove(record_file.file_name(&buffer, file_no));
    }

    // ---------------------------------------------------------------- receive agent

    pub fn is_replaying(self: *const RecordAgent) bool {
        return !self.replay.is_done();
    }

    /// Before anything is received: replays. The work count; null: that is over.
    pub fn step_rx(self: *RecordAgent, log: *Log, notices: *Notices) ?u32 {
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
        return work;
    }

    /// What was found at the start.
    pub fn tell(self: *const RecordAgent, notices: *Notices) void {
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

    // ---------------------------------------------------------------- thread

    pub fn spawn(self: *RecordAgent) !void {
        if (self.recorder.current == null) return;
        const config: std.Thread.SpawnConfig = .{ .stack_size = stack_bytes };
        self.thread = try std.Thread.spawn(config, run, .{self});
    }

    pub fn join(self: *RecordAgent) void {
        const thread = self.thread orelse return;
        self.stopping.store(true, .release);
        self.recorder.ring();
        thread.join();
        self.thread = null;
    }

    fn run(self: *RecordAgent) void {
        cpu.name_current("rcm-record");
        while (true) {
            const bell = self.recorder.bell.load(.acquire);
            if (self.stopping.load(.acquire)) return;
            if (self.step()) continue;
            self.sleep(bell);
        }
    }

    fn step(self: *RecordAgent) bool {
        const r = &self.recorder;
        if (self.o.sync == .interval) self.force(self.sync_fd);
        switch (r.state.load(.acquire)) {
            .idle, .ready, .failed => return false,
            .wanted => {
                var text: files.ErrorText = .{};
                const made = r.make_file(&self.folder, self.next_no, r.wanted_blocks, &text);
                if (made) |file| {
                    r.next = file;
                    self.next_no += 1;
                    r.state.store(.ready, .release);
                } else |_| {
                    r.errno = text.errno;
                    r.state.store(.failed, .release);
                }
            },
            .turned => {
                if (self.o.sync == .interval) self.force(r.old.file.fd);
                self.sync_fd = r.current.?.file.fd;
                if (r.old.file_no == 0) {
                    self.owner = r.old.file;
                    trim(r.old);
                    region_file.release(r.old.head);
                } else close_used(r.old);
                r.state.store(.idle, .release);
            },
        }
        return true;
    }

    /// A disk that refuses data ends the recording.
    fn force(self: *RecordAgent, fd: i32) void {
        if (fd < 0) return;
        const errno = linux.errno(linux.fdatasync(fd));
        if (errno == .SUCCESS or errno == .INTR) return;
        const r = &self.recorder;
        if (r.state.load(.acquire) != .idle) return;
        r.errno = @backingInt(errno);
        r.state.store(.failed, .release);
        self.sync_fd = -1;
    }

    fn sleep(self: *RecordAgent, bell: u32) void {
        const op: linux.FUTEX_OP = .{ .cmd = .WAIT, .private = true };
        const timeout: linux.timespec = .{ .sec = 0, .nsec = interval_ns };
        const limit = if (self.o.sync == .interval) &timeout else null;
        _ = linux.futex_4arg(&self.recorder.bell.raw, op, bell, limit);
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

// -------------------------------------------------------------------- recovery on disk

/// The files of an earlier process, locked and mapped for reading.
const OldFiles = struct {
    opened: std.ArrayList(files.File) = .empty,
    bytes: std.ArrayList([]align(8) const u8) = .empty,

    fn open(
        self: *OldFiles,
        gpa: std.mem.Allocator,
        folder: *const files.Folder,
        o: *const Options,
        text: *files.ErrorText,
    ) (files.Error || error{OutOfMemory})!void {
        var buffer: [record_file.file_name_bytes]u8 = undefined;
        while (self.opened.items.len < limits.record_files_max) {
            const no: u32 = @intCast(self.opened.items.len);
            const name = record_file.file_name(&buffer, no);
            const file = try folder.find(name, text) orelse return;
            {
                errdefer file.close();
                try self.opened.ensureUnusedCapacity(gpa, 1);
                try self.bytes.ensureUnusedCapacity(gpa, 1);
            }
            self.opened.appendAssumeCapacity(file);
            self.bytes.appendAssumeCapacity(&.{});
            if (file.bytes == 0) continue;
            const all = map_read(file) orelse {
                text.set("no memory to map {s}{s}", .{ folder.path_text(), name });
                return error.Shm;
            };
            self.bytes.items[no] = all;
            try check_identity(all, folder, name, o, text);
        }
    }

    fn map_read(file: files.File) ?[]align(8) const u8 {
        const flags: linux.MAP = .{ .TYPE = .SHARED };
        const result = linux.mmap(null, file.bytes, .{ .READ = true }, flags, file.fd, 0);
        if (linux.errno(result) != .SUCCESS) return null;
        const base: [*]align(limits.page_bytes) const u8 = @ptrFromInt(result);
        return base[0..file.bytes];
    }

    /// The lock on the record, if its first file stays.
    fn take_owner(self: *OldFiles, kept: usize) ?files.File {
        if (kept == 0) return null;
        const first = self.opened.items[0];
        self.opened.items[0].fd = -1;
        return first;
    }

    fn deinit(self: *OldFiles, gpa: std.mem.Allocator) void {
        for (self.bytes.items) |all| if (all.len > 0) {
            _ = linux.munmap(@ptrCast(@alignCast(all.ptr)), all.len);
        };
        for (self.opened.items) |file| if (file.fd >= 0) file.close();
        self.bytes.deinit(gpa);
        self.opened.deinit(gpa);
    }
};

fn check_identity(
    all: []align(8) const u8,
    folder: *const files.Folder,
    name: []const u8,
    o: *const Options,
    text: *files.ErrorText,
) files.Error!void {
    if (all.len < @sizeOf(record_file.RecordFileHeader)) return;
    const header: *const record_file.RecordFileHeader = @ptrCast(@alignCast(all.ptr));
    if (header.magic != record_file.magic or header.check != header.check_now()) return;
    if (header.version != record_file.version or header.layout_hash != record_file.layout_hash) {
        text.set("{s}{s} was written by another version of this library (version {d}, layout " ++
            "{x}; this one has {d}, {x}): move the folder away", .{
            folder.path_text(), name,                header.version,
            header.layout_hash, record_file.version, record_file.layout_hash,
        });
        return error.Shm;
    }
    if (header.context_bytes <= header.context.len and
        std.mem.eql(u8, header.name(), o.context)) return;
    text.set("{s}{s} is the record of another context: move the folder away", .{
        folder.path_text(), name,
    });
    return error.Shm;
}

/// Makes the files end where the order ends. What it does depends on nothing but what stays, so a
/// start that dies in it is repeated.
fn repair(found: *const recovery.Found, old: *const OldFiles) files.Error!void {
    for (found.segments.items) |segment| {
        if (segment.end_offset == block_bytes) continue;
        const mark = record.length_end;
        write(old, segment.place, segment.end_offset, std.mem.asBytes(&mark));
    }
    for (found.used_blocks[0..found.files_used()], 0..) |used, n| {
        const no: u32 = @intCast(n);
        cut_blocks(found, old, no, used);
        cut_entries(found, old, no);
        const bytes = @as(u64, @max(1, used)) * block_bytes;
        _ = linux.ftruncate(old.opened.items[n].fd, @intCast(bytes));
    }
}

fn write(old: *const OldFiles, place: record_file.Place, offset: u64, bytes: []const u8) void {
    const fd = old.opened.items[place.file_no].fd;
    _ = linux.pwrite(fd, bytes.ptr, bytes.len, @intCast(place.offset() + offset));
}

/// Segments that are not part of the order lose their headers.
fn cut_blocks(found: *const recovery.Found, old: *const OldFiles, file_no: u32, used: u32) void {
    const all = old.bytes.items[file_no];
    const zeros: [limits.record_block_header_bytes]u8 = @splat(0);
    for (1..@max(1, used)) |block| {
        const place: record_file.Place = .{ .file_no = file_no, .block = @intCast(block) };
        if (place.offset() + zeros.len > all.len) return;
        const at = all.ptr + place.offset();
        const header: *const record_file.BlockHeader = @ptrCast(@alignCast(at));
        if (!header.is_true(file_no, place.block)) continue;
        if (header.kind != @backingInt(record_file.BlockKind.segment)) continue;
        if (header.base_sqn < found.next_sqn) continue;
        write(old, place, 0, &zeros);
    }
}

/// Entries of streams from the end of the order on, which are the last ones of a table.
fn cut_entries(found: *const recovery.Found, old: *const OldFiles, file_no: u32) void {
    const all = old.bytes.items[file_no];
    const zeros: [@sizeOf(record_file.StreamEntry)]u8 = @splat(0);
    for (0..record_file.entries_max) |i| {
        const offset = record_file.table_offset + i * @sizeOf(record_file.StreamEntry);
        if (offset + zeros.len > all.len) return;
        const entry: *const record_file.StreamEntry = @ptrCast(@alignCast(all.ptr + offset));
        if (!entry.is_true() or entry.first_sqn < found.next_sqn) continue;
        write(old, .{ .file_no = file_no, .block = 0 }, offset, &zeros);
    }
}

/// Files behind the end: removed where they hold nothing, else renamed, the last one first. Without
/// damage nothing is missing, so they hold nothing.
fn set_aside(
    folder: *const files.Folder,
    old: *const OldFiles,
    kept: usize,
    is_damaged: bool,
    text: *files.ErrorText,
) files.Error!u32 {
    var buffers: [2][record_file.file_name_bytes]u8 = undefined;
    var n = old.opened.items.len;
    var count: u32 = 0;
    while (n > kept) {
        n -= 1;
        const name = record_file.file_name(&buffers[0], @intCast(n));
        const all = old.bytes.items[n];
        if (!is_damaged or is_unused(all)) {
            folder.remove(name);
            continue;
        }
        try folder.rename(name, record_file.file_name_aside(&buffers[1], @intCast(n)), text);
        count += 1;
    }
    return count;
}

/// No block was ever taken, as far as headers say.
fn is_unused(all: []align(8) const u8) bool {
    var at: u64 = block_bytes;
    while (at + @sizeOf(record_file.BlockHeader) <= all.len) : (at += block_bytes) {
        const header: *const record_file.BlockHeader = @ptrCast(@alignCast(all.ptr + at));
        if (!header.is_unused()) return false;
    }
    return true;
}

// -------------------------------------------------------------------- cutting on purpose

/// Makes the record of a context that does not run end in front of `sqn`, as if a process had died
/// there. Files that hold nothing of what stays are set aside; their number. A crash in the middle
/// leaves a record that the next start cuts at the same place, or has not cut yet.
pub fn cut_record(
    gpa: std.mem.Allocator,
    o: Options,
    sqn: u64,
    text: *files.ErrorText,
) (files.Error || error{ OutOfMemory, Record })!u32 {
    var folder = try files.Folder.open(o.directory, o.context, text);
    defer folder.close();
    var old: OldFiles = .{};
    defer old.deinit(gpa);
    try old.open(gpa, &folder, &o, text);
    if (old.opened.items.len == 0) {
        text.set("{s} has no record", .{folder.path_text()});
        return error.Record;
    }
    var found = try recovery.scan_to(gpa, old.bytes.items, sqn);
    defer found.deinit();
    if (sqn < found.first_sqn or found.next_sqn < sqn) {
        text.set("the record in {s} has [{d}, {d}): it can't be cut at {d}", .{
            folder.path_text(), found.first_sqn, found.next_sqn, sqn,
        });
        return error.Record;
    }
    try repair(&found, &old);
    return set_aside(&folder, &old, found.files_used(), true, text);
}
