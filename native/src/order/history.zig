//! Reads a tier's log by sqn, for ever: what members catch up from (design/ha.md, "Joining").
//!
//! Every segment of the log is a block of a file, on a disk or in memory; an index says which.
//! A few blocks are mapped at a time, each with a cursor, so that who reads one entry after the
//! other finds the next one at once. One thread: the appender's.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const record = @import("record.zig");
const record_file = @import("record_file.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const Recorder = @import("recorder.zig").Recorder;

const RecordHeader = record.RecordHeader;
const Place = record_file.Place;
const block_bytes = limits.record_block_bytes;
const head_bytes = limits.record_block_header_bytes;
const nowhere = std.math.maxInt(u32);
/// Blocks that are mapped for reading: some more than members that catch up at the same time.
const windows_max = 16;
const fds_max = 8;

/// Records [base_sqn, ..) of the log, in one block.
pub const Segment = struct {
    place: Place,
    base_sqn: u64,
    /// Behind the last record, once the segment is closed.
    end_offset: u32,
    /// Where it lies in the log's memory, as long as it does.
    chunk: u32 = no_chunk,

    pub const no_chunk = nowhere;
};

/// Descriptors of record files, opened when they are needed.
pub const Files = struct {
    recorder: *Recorder,
    /// Null: there is no disk.
    folder: ?*const files.Folder,
    nos: [fds_max]u32 = @splat(nowhere),
    fds: [fds_max]i32 = @splat(-1),
    oldest: u32 = 0,

    pub fn deinit(self: *Files) void {
        for (&self.fds) |*fd| {
            if (fd.* >= 0) _ = linux.close(fd.*);
            fd.* = -1;
        }
    }

    pub fn fd_of(self: *Files, file_no: u32) ?i32 {
        const r = self.recorder;
        if (r.current) |c| if (c.file_no == file_no) return c.file.fd;
        for (r.memory.items) |m| if (m.file_no == file_no) return m.fd;
        if (r.left) |c| if (c.file_no == file_no) return c.file.fd;
        for (self.nos, self.fds) |no, fd| if (no == file_no and fd >= 0) return fd;
        const folder = self.folder orelse return null;
        var buffer: [record_file.file_name_bytes]u8 = undefined;
        const name = record_file.file_name(&buffer, file_no);
        const entry = folder.open_other(name, true) orelse return null;
        const at = self.oldest;
        self.oldest = (self.oldest + 1) % fds_max;
        if (self.fds[at] >= 0) _ = linux.close(self.fds[at]);
        self.fds[at] = entry.fd;
        self.nos[at] = file_no;
        return entry.fd;
    }

    /// False: the file can't be read there.
    pub fn read(self: *Files, place: Place, offset: u64, buffer: []u8) bool {
        const fd = self.fd_of(place.file_no) orelse return false;
        const file: files.File = .{ .fd = fd, .bytes = 0 };
        return file.read(buffer, place.offset() + offset);
    }
};

/// A place that is read on from.
const Cursor = struct {
    segment: u32 = nowhere,
    sqn: u64 = 0,
    offset: u32 = 0,
    used: u64 = 0,
};

/// A record of the log: its header in the segment and what it says of the message.
pub const Located = struct {
    segment: u32,
    offset: u32,
    /// Of the message, also where the segment has a reference only.
    header: RecordHeader,
    /// In the segment; null: the message lies at `place`.
    payload: ?[]const u8,
    place: Place,
};

pub const History = struct {
    gpa: std.mem.Allocator,
    files: Files,
    segments: std.ArrayList(Segment) = .empty,
    region: region_file.Region,
    cursors: [windows_max]Cursor = @splat(.{}),
    turn: u64 = 0,

    pub fn init(
        gpa: std.mem.Allocator,
        recorder: *Recorder,
        folder: ?*const files.Folder,
    ) !History {
        return .{
            .gpa = gpa,
            .files = .{ .recorder = recorder, .folder = folder },
            .region = try region_file.map_anonymous(windows_max * block_bytes),
        };
    }

    pub fn deinit(self: *History) void {
        self.files.deinit();
        region_file.release(self.region);
        self.segments.deinit(self.gpa);
        self.* = undefined;
    }

    pub fn count(self: *const History) u32 {
        return @intCast(self.segments.items.len);
    }

    /// The segment that has `sqn`, or would.
    pub fn find(self: *const History, sqn: u64) ?u32 {
        const all = self.segments.items;
        var low: usize = 0;
        var high = all.len;
        while (low < high) {
            const middle = low + (high - low) / 2;
            if (all[middle].base_sqn <= sqn) low = middle + 1 else high = middle;
        }
        return if (low == 0) null else @intCast(low - 1);
    }

    /// Segments from `kept` on are none any more.
    pub fn forget(self: *History, kept: u32) void {
        self.segments.shrinkRetainingCapacity(kept);
        for (&self.cursors) |*c| {
            if (c.segment != nowhere and c.segment >= kept) c.segment = nowhere;
        }
    }

    /// `sqn` is in the log. Null: its file can't be read.
    pub fn locate(self: *History, sqn: u64) ?Located {
        const segment = self.find(sqn) orelse return null;
        const at = self.cursor_for(segment, sqn) orelse return null;
        const cursor = &self.cursors[at];
        while (cursor.sqn < sqn) {
            const header = self.header_at(at, cursor.offset) orelse return null;
            if (header.sqn != cursor.sqn) return null;
            cursor.offset += span_of(header);
            cursor.sqn += 1;
        }
        return self.located(at, segment, sqn, cursor.offset);
    }

    /// The same where segment and offset are known.
    pub fn locate_at(self: *History, sqn: u64, segment: u32, offset: u32) ?Located {
        const at = self.cursor_for(segment, sqn) orelse return null;
        self.cursors[at].sqn = sqn;
        self.cursors[at].offset = offset;
        return self.located(at, segment, sqn, offset);
    }

    fn located(self: *History, at: usize, segment: u32, sqn: u64, offset: u32) ?Located {
        const header = self.header_at(at, offset) orelse return null;
        if (header.sqn != sqn) return null;
        var l: Located = .{
            .segment = segment,
            .offset = offset,
            .header = header.*,
            .payload = null,
            .place = .{ .block = 0, .file_no = 0 },
        };
        if (header.length != record.length_reference) {
            if (offset + record.record_bytes(header.length) > block_bytes) return null;
            const start = at * block_bytes + offset + record.header_bytes;
            l.payload = self.region.slice()[start..][0..header.length];
            return l;
        }
        l.place = @bitCast(header.time_ms);
        if (!self.files.read(l.place, head_bytes, std.mem.asBytes(&l.header))) return null;
        return if (l.header.sqn == sqn) l else null;
    }

    /// Payload bytes from `offset` on; 0: there are none, or they can't be read.
    pub fn read(self: *History, l: *const Located, offset: u32, buffer: []u8) u32 {
        const length = l.header.length;
        if (offset >= length) return 0;
        const bytes: u32 = @intCast(@min(buffer.len, length - offset));
        const out = buffer[0..bytes];
        if (l.payload) |payload| {
            @memcpy(out, payload[offset..][0..bytes]);
            return bytes;
        }
        const at = @as(u64, head_bytes) + record.header_bytes + offset;
        return if (self.files.read(l.place, at, out)) bytes else 0;
    }

    pub fn span_of(header: *const RecordHeader) u32 {
        if (header.length == record.length_reference) return record.header_bytes;
        return @intCast(record.record_bytes(header.length));
    }

    fn header_at(self: *const History, at: usize, offset: u32) ?*const RecordHeader {
        if (offset + record.header_bytes > block_bytes) return null;
        return @ptrCast(@alignCast(self.region.base + at * block_bytes + offset));
    }

    /// A window on the segment whose cursor is not behind `sqn`, as near as there is one.
    fn cursor_for(self: *History, segment: u32, sqn: u64) ?usize {
        self.turn += 1;
        var best: ?usize = null;
        var same: ?usize = null;
        var oldest: usize = 0;
        for (&self.cursors, 0..) |*c, i| {
            if (c.used < self.cursors[oldest].used) oldest = i;
            if (c.segment != segment) continue;
            same = i;
            if (c.sqn > sqn) continue;
            if (best == null or self.cursors[best.?].sqn < c.sqn) best = i;
        }
        if (best) |i| {
            self.cursors[i].used = self.turn;
            return i;
        }
        const at = same orelse oldest;
        if (same == null and !self.map(at, segment)) return null;
        self.cursors[at] = .{
            .segment = segment,
            .sqn = self.segments.items[segment].base_sqn,
            .offset = head_bytes,
            .used = self.turn,
        };
        return at;
    }

    fn map(self: *History, at: usize, segment: u32) bool {
        const place = self.segments.items[segment].place;
        self.cursors[at].segment = nowhere;
        const fd = self.files.fd_of(place.file_no) orelse return false;
        const base: [*]align(limits.page_bytes) u8 =
            @alignCast(self.region.base + at * block_bytes);
        region_file.map_file_at(base, block_bytes, .shared, fd, place.offset()) catch return false;
        // Past the end of a file that was cut to what is used there is nothing to be mapped.
        region_file.populate_read(.{ .base = base, .bytes = block_bytes });
        return true;
    }
};
