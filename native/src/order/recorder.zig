//! Writes the ordered log into record files: the log's chunks are blocks of files, mapped where
//! they lie, so that what is in the log is in the files, whatever happens to the process. Nothing
//! is copied for that, and nothing waits for a disk: the kernel writes back.
//!
//! The appender takes blocks from the current file. The next file is made by somebody else
//! (`agent/record_agent.zig`), long before it is needed; where it is not there yet the appender has
//! no memory for a moment. When a file can't be made, recording stops for good: the log goes on in
//! anonymous memory, and what was recorded stays a true prefix.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const record_file = @import("record_file.zig");
const files = @import("../window/files.zig");
const Disk = @import("disk.zig").Disk;
const region_file = @import("../window/region.zig");
const mutant = @import("../testing/mutant.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;

const BlockHeader = record_file.BlockHeader;
const RecordFileHeader = record_file.RecordFileHeader;
const StreamEntry = record_file.StreamEntry;
const Place = record_file.Place;
const Epoch = @import("../wire/frame.zig").Epoch;
const block_bytes = limits.record_block_bytes;

/// The next file is made when this is left of the current one.
const ahead_blocks = limits.record_ahead_bytes / block_bytes;

const late_max = 64;
/// A file of a tier's record that is nowhere but in memory. It takes memory as it fills.
pub const MemoryFile = struct { file_no: u32, fd: i32 };
const memory_file_blocks = (1 << 30) / block_bytes;

pub const never = std.math.maxInt(u64);

/// When what was recorded is forced to the disk (`RecordSync`): when the kernel likes, every 10 ms,
/// before it is acknowledged.
pub const Sync = enum { async, interval, commit };

pub const Options = struct {
    context: []const u8,
    context_id: u32,
    file_bytes: u64,
    /// A number that only this start has.
    life: u64,
    sync: Sync = .async,
};

/// A file that is written, and its first block.
pub const OpenFile = struct {
    file: files.File,
    file_no: u32,
    head: region_file.Region,
    block_count: u32,
    next_block: u32 = 1,
    entries: u32 = 0,

    pub fn used_bytes(self: *const OpenFile) u64 {
        return @as(u64, self.next_block) * block_bytes;
    }
};

/// Who has the next file: the appender asks (`wanted`), the agent makes it (`ready`), the appender
/// goes over to it and leaves the old one (`turned`), the agent closes that.
pub const NextState = enum(u32) { idle, wanted, ready, turned, failed };

pub const Recorder = struct {
    o: Options,
    pool: *ChunkPool,

    // ---- the appender's
    current: ?OpenFile,
    /// What is appended now goes into files.
    is_recording: bool,
    /// By stream id: what its entry says.
    streams: []StreamEntry,
    /// By stream id: the file that has its entry, by `serial`; 0: none has.
    noted: []u32,
    stream_count: u32 = 0,
    serial: u32 = 1,

    // ---- a tier's (`tier_log.zig`): its log is read by sqn for ever, and goes on without a disk
    is_tier: bool = false,
    gpa: ?std.mem.Allocator = null,
    /// Number of the first file where there is none on a disk.
    first_no: u32 = 0,
    /// Who gives the sqns of the segments to come.
    epoch: Epoch = .{},
    /// Files in memory, in use and before, and the last file on the disk once those follow.
    memory: std.ArrayList(MemoryFile) = .empty,
    left: ?OpenFile = null,

    // ---- handed over by `state`
    next: OpenFile = undefined,
    old: OpenFile = undefined,
    wanted_blocks: u32 = 0,
    errno: u16 = 0,
    state: std.atomic.Value(NextState) = .init(.idle),

    // ---- forces: one at a time. The appender asks and notes what they cover (`asked`); the agent
    // forces, then says so (`forced`).
    asked: std.atomic.Value(u64) = .init(0),
    forced: std.atomic.Value(u64) = .init(0),
    /// Files that were left before a message in them was complete: they are forced once more. A
    /// ring; entries below `late_count` are there, those below `late_done` were forced.
    late: [late_max]u32 = undefined,
    late_count: std.atomic.Value(u32) = .init(0),
    late_done: std.atomic.Value(u32) = .init(0),
    /// The agent's: all below is on the disk. And why the disk has refused to force; 0: it has not.
    forced_sqn: u64 = 0,
    broken_errno: std.atomic.Value(u16) = .init(0),
    /// End of the order, as the log publishes it.
    ordered: ?*const std.atomic.Value(u64) = null,

    // ---- read by others
    /// From which sqn on nothing is recorded.
    stopped_sqn: std.atomic.Value(u64) = .init(never),
    base_hint: std.atomic.Value(u64) = .init(0),
    /// Rings when the agent has something to do.
    bell: std.atomic.Value(u32) = .init(0),

    pub fn init(
        gpa: std.mem.Allocator,
        pool: *ChunkPool,
        o: Options,
        current: ?OpenFile,
    ) error{OutOfMemory}!Recorder {
        assert(pool.chunk_bytes == block_bytes);
        const streams = try gpa.alloc(StreamEntry, limits.record_streams_max);
        errdefer gpa.free(streams);
        const noted = try gpa.alloc(u32, limits.record_streams_max);
        @memset(noted, 0);
        return .{
            .o = o,
            .pool = pool,
            .current = current,
            .is_recording = current != null,
            .streams = streams,
            .noted = noted,
        };
    }

    pub fn deinit(self: *Recorder, gpa: std.mem.Allocator) void {
        if (self.memory.items.len > 0) region_file.release(self.current.?.head);
        for (self.memory.items) |m| _ = linux.close(m.fd);
        self.memory.deinit(gpa);
        gpa.free(self.noted);
        gpa.free(self.streams);
        self.* = undefined;
    }

    // ---------------------------------------------------------------- appender

    /// What a stream is from now on; the next record of it is preceded by an entry.
    pub fn set_stream(self: *Recorder, entry: StreamEntry) void {
        assert(entry.id < self.streams.len and entry.id <= self.stream_count);
        self.stream_count = @max(self.stream_count, entry.id + 1);
        self.streams[entry.id] = entry;
        self.noted[entry.id] = 0;
    }

    /// The file must know the stream before it has a record of it.
    pub inline fn note(self: *Recorder, stream: u32, sqn: u64) error{NoMemory}!void {
        if (self.noted[stream] == self.serial) return;
        return self.note_slow(stream, sqn);
    }

    /// With it all streams of lower ids, so that no id is ever without an entry.
    noinline fn note_slow(self: *Recorder, stream: u32, sqn: u64) error{NoMemory}!void {
        assert(stream < self.stream_count);
        if (self.noted[stream] != self.serial and !self.has_entries(stream)) {
            // The table is full, and the rest of the blocks stays unused.
            self.current.?.next_block = self.current.?.block_count;
            _ = self.would_fit(1, sqn);
            return if (self.is_recording) error.NoMemory else {};
        }
        const current = &self.current.?;
        for (self.streams[0 .. stream + 1], self.noted[0 .. stream + 1]) |*known, *noted| {
            if (noted.* == self.serial) continue;
            const at = record_file.table_offset + current.entries * @sizeOf(StreamEntry);
            const entry: *StreamEntry = @ptrCast(@alignCast(current.head.base + at));
            var copy = known.*;
            copy.first_sqn = sqn;
            copy.check = copy.check_now();
            if (!mutant.on(.entry_forgotten)) entry.* = copy;
            current.entries += 1;
            noted.* = self.serial;
        }
    }

    fn has_entries(self: *const Recorder, stream: u32) bool {
        var wanted = self.current.?.entries;
        for (self.noted[0 .. stream + 1]) |noted| wanted += @intFromBool(noted != self.serial);
        return wanted <= record_file.entries_max;
    }

    pub fn has_room_for_late(self: *Recorder) bool {
        if (self.late_count.raw -% self.late_done.load(.acquire) < late_max) return true;
        self.ring();
        return false;
    }

    /// The message that lies at `place` has its place in the order. There is room for one more.
    pub fn note_message(self: *Recorder, place: u64) void {
        if (self.o.sync == .async or !self.is_recording) return;
        const file_no = @as(Place, @bitCast(place)).file_no;
        if (file_no == self.current.?.file_no or mutant.on(.late_unforced)) return;
        const count = self.late_count.raw;
        self.late[count % late_max] = file_no;
        self.late_count.store(count +% 1, .release);
    }

    /// The agent's: a file to be forced, of the first `count`; null: no more.
    pub fn next_late(self: *const Recorder, count: u32) ?u32 {
        const done = self.late_done.raw;
        return if (done == count) null else self.late[done % late_max];
    }

    /// A block for the records from `sqn` on, mapped where the chunk lies.
    pub fn map_segment(self: *Recorder, chunk: u32, sqn: u64) error{NoMemory}!void {
        self.base_hint.store(sqn, .monotonic);
        _ = try self.map(.segment, chunk, 1, sqn);
    }

    /// Blocks for one message. Where it lies: 0 when it is not recorded.
    pub fn map_message(self: *Recorder, first: u32, count: u32, sqn: u64) error{NoMemory}!u64 {
        const place = try self.map(.message, first, count, sqn) orelse return 0;
        return @bitCast(place);
    }

    pub fn map(
        self: *Recorder,
        kind: record_file.BlockKind,
        first: u32,
        count: u32,
        sqn: u64,
    ) error{NoMemory}!?Place {
        const at = self.chunk_at(first);
        const bytes = @as(u64, count) * block_bytes;
        const place = try self.take_blocks(count, sqn) orelse {
            try anonymous(at, bytes);
            return null;
        };
        const fd = self.current.?.file.fd;
        region_file.map_file_at(at, bytes, .shared, fd, place.offset()) catch {
            if (self.is_tier) return error.NoMemory;
            self.stop(sqn, @backingInt(linux.E.NOMEM));
            try anonymous(at, bytes);
            return null;
        };
        region_file.write_only(at, bytes);
        const header: *BlockHeader = @ptrCast(at);
        assert(header.is_unused());
        header.* = self.block_header(kind, place, count, sqn);
        return place;
    }

    pub fn block_header(
        self: *const Recorder,
        kind: record_file.BlockKind,
        place: Place,
        count: u32,
        sqn: u64,
    ) BlockHeader {
        var built: BlockHeader = .{
            .kind = @backingInt(kind),
            .blocks = count,
            .file_no = place.file_no,
            .block = place.block,
            .base_sqn = sqn,
            .life = self.o.life,
            .epoch_number = self.epoch.number,
            .epoch_id = self.epoch.id,
        };
        built.check = built.check_now();
        return built;
    }

    fn anonymous(at: [*]align(limits.page_bytes) u8, bytes: u64) error{NoMemory}!void {
        region_file.map_anonymous_at(at, bytes) catch return error.NoMemory;
    }

    fn chunk_at(self: *const Recorder, chunk: u32) [*]align(limits.page_bytes) u8 {
        return @alignCast(self.pool.base + @as(u64, chunk) * block_bytes);
    }

    /// Null: nothing is recorded any more.
    pub fn take_blocks(self: *Recorder, count: u32, sqn: u64) error{NoMemory}!?Place {
        if (!self.is_recording) return null;
        if (!self.would_fit(count, sqn)) return error.NoMemory;
        if (!self.is_recording) return null;
        const current = &self.current.?;
        const place: Place = .{ .file_no = current.file_no, .block = current.next_block };
        current.next_block += count;
        if (self.memory.items.len > 0) return place;
        if (current.block_count - current.next_block < ahead_blocks) self.want_next(1);
        return place;
    }

    /// There are blocks now, or nothing is recorded; else they are asked for.
    pub fn would_fit(self: *Recorder, count: u32, sqn: u64) bool {
        if (!self.is_recording or self.has_room(count)) return true;
        if (self.memory.items.len > 0) {
            self.next_in_memory(count) catch return false;
            return true;
        }
        switch (self.state.load(.acquire)) {
            .ready => self.turn_over(),
            .failed => {
                if (!self.is_tier) {
                    self.stop(sqn, self.errno);
                    return true;
                }
                self.leave_disk(count, sqn) catch return false;
            },
            else => self.want_next(count),
        }
        return self.has_room(count);
    }

    fn has_room(self: *const Recorder, count: u32) bool {
        const current = &self.current.?;
        return count <= current.block_count - current.next_block;
    }

    fn want_next(self: *Recorder, count: u32) void {
        if (self.state.load(.acquire) != .idle) return;
        const usual: u32 = @intCast(self.o.file_bytes / block_bytes);
        self.wanted_blocks = @max(usual, count + 1);
        self.state.store(.wanted, .release);
        self.ring();
    }

    fn turn_over(self: *Recorder) void {
        self.old = self.current.?;
        self.current = self.next;
        self.serial += 1;
        self.state.store(.turned, .release);
        self.ring();
    }

    /// A force failed: what came after the last one that did not is not certain, so recording ends
    /// there. Before anything is appended in a step.
    pub fn look_at_disk(self: *Recorder) void {
        const errno = self.broken_errno.load(.acquire);
        if (errno == 0 or !self.is_recording or self.memory.items.len > 0) return;
        if (mutant.on(.failure_ignored)) return;
        if (!self.is_tier) return self.stop(self.forced_sqn, errno);
        self.errno = errno;
        // Without memory it is tried again with the next step.
        self.leave_disk(1, self.forced_sqn) catch {};
    }

    /// Nobody waits for a force that was asked for. The appender's.
    pub fn is_forced(self: *const Recorder) bool {
        return self.forced.load(.acquire) == self.asked.raw;
    }

    /// All that was appended until now is to be forced.
    pub fn ask_force(self: *Recorder) void {
        assert(self.is_recording and self.is_forced());
        self.asked.store(self.asked.raw + 1, .release);
        self.ring();
    }

    /// A tier's log goes on where no disk is needed; what was recorded stays a true prefix.
    fn leave_disk(self: *Recorder, count: u32, sqn: u64) error{NoMemory}!void {
        assert(self.is_tier and self.memory.items.len == 0);
        const old = self.current;
        try self.next_in_memory(count);
        self.left = old;
        self.stopped_sqn.store(sqn, .release);
    }

    /// The next file, in memory; the one before stays to be read.
    pub fn next_in_memory(self: *Recorder, count: u32) error{NoMemory}!void {
        assert(self.is_tier);
        const gpa = self.gpa.?;
        self.memory.ensureUnusedCapacity(gpa, 1) catch return error.NoMemory;
        const file_no = if (self.current) |c| c.file_no + 1 else self.first_no;
        const fresh = create_memory_file(file_no, @max(memory_file_blocks, count + 1)) orelse
            return error.NoMemory;
        if (self.memory.items.len > 0) region_file.release(self.current.?.head);
        self.memory.appendAssumeCapacity(.{ .file_no = file_no, .fd = fresh.file.fd });
        self.current = fresh;
        self.is_recording = true;
        self.serial += 1;
    }

    fn stop(self: *Recorder, sqn: u64, errno: u16) void {
        assert(self.is_recording);
        self.is_recording = false;
        self.errno = errno;
        self.stopped_sqn.store(sqn, .release);
    }

    pub fn ring(self: *Recorder) void {
        _ = self.bell.fetchAdd(1, .release);
        _ = linux.futex_3arg(&self.bell.raw, .{ .cmd = .WAKE, .private = true }, 1);
    }

    // ---------------------------------------------------------------- agent

    /// Makes a file; its header is written last.
    pub fn make_file(
        self: *const Recorder,
        disk: Disk,
        file_no: u32,
        block_count: u32,
        text: *files.ErrorText,
    ) files.Error!OpenFile {
        const base_sqn = self.base_hint.load(.monotonic);
        return create_file(&self.o, disk, file_no, block_count, base_sqn, text);
    }
};

fn create_memory_file(file_no: u32, block_count: u32) ?OpenFile {
    const bytes = @as(u64, block_count) * block_bytes;
    const fd = std.posix.memfd_create("rcm_sqn_data", linux.MFD.CLOEXEC) catch return null;
    const part: region_file.FilePart = .{ .fd = fd, .offset = 0, .bytes = block_bytes };
    if (linux.errno(linux.ftruncate(fd, @intCast(bytes))) == .SUCCESS) {
        if (region_file.map_files(&.{part})) |head| return .{
            .file = .{ .fd = fd, .bytes = bytes },
            .file_no = file_no,
            .head = head,
            .block_count = block_count,
        } else |_| {}
    }
    _ = linux.close(fd);
    return null;
}

pub fn create_file(
    o: *const Options,
    disk: Disk,
    file_no: u32,
    block_count: u32,
    base_sqn: u64,
    text: *files.ErrorText,
) files.Error!OpenFile {
    assert(block_count > 1);
    var buffer: [record_file.file_name_bytes]u8 = undefined;
    const name = record_file.file_name(&buffer, file_no);
    const file = try disk.create(name, @as(u64, block_count) * block_bytes, text);
    errdefer {
        disk.remove(name);
        file.close();
    }
    const part: region_file.FilePart = .{ .fd = file.fd, .offset = 0, .bytes = block_bytes };
    const head = region_file.map_files(&.{part}) catch {
        text.set("no memory to map {s}{s}", .{ disk.path_text(), name });
        return error.Shm;
    };
    const header: *RecordFileHeader = @ptrCast(head.base);
    var built: RecordFileHeader = .{
        .layout_hash = record_file.layout_hash,
        .file_no = file_no,
        .block_count = block_count,
        .context_id = o.context_id,
        .base_sqn = base_sqn,
        .life = o.life,
        .context_bytes = @intCast(o.context.len),
        .context = @splat(0),
        .pid = files.process_id(),
    };
    @memcpy(built.context[0..o.context.len], o.context);
    built.check = built.check_now();
    built.magic = 0;
    header.* = built;
    @atomicStore(u64, &header.magic, record_file.magic, .release);
    errdefer region_file.release(head);
    if (o.sync != .async) {
        const errno = disk.force(file.fd);
        const names_errno = if (errno == 0) disk.force_names() else errno;
        if (names_errno != 0) {
            text.set_errno(names_errno, "cannot force {s}{s} to the disk", .{
                disk.path_text(), name,
            });
            return error.Shm;
        }
    }
    return .{ .file = file, .file_no = file_no, .head = head, .block_count = block_count };
}
