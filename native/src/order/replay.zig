//! Delivers again what an earlier process recorded: its segments are mapped into the log's memory
//! and become the begin of the order, as if they had just been appended. Nothing is copied or
//! checked here: `recovery.zig` has looked at every byte.
//!
//! A segment at a time, as memory allows; nothing is appended before the last one is in its place,
//! so there is no joint at which something could be missing or come twice. The mappings are
//! private: where a message lies in this process is written into its reference.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const record = @import("record.zig");
const record_file = @import("record_file.zig");
const recovery = @import("recovery.zig");
const files = @import("../window/files.zig");
const Disk = @import("disk.zig").Disk;
const region_file = @import("../window/region.zig");
const Log = @import("log.zig").Log;

const RecordHeader = record.RecordHeader;
const Place = record_file.Place;
const Segment = recovery.Segment;
const block_bytes = limits.record_block_bytes;
const head_bytes = limits.record_block_header_bytes;
/// In one step, so that who runs it can look at other things.
const segments_per_step = 16;

pub const Replay = struct {
    disk: Disk,
    segments: []const Segment,
    /// The segment that is put in its place next, or is being put there.
    at: usize = 0,
    /// Where it is mapped, and the place in it; null: nowhere yet.
    chunk: ?u32 = null,
    offset: u32 = 0,
    next_sqn: u64,
    /// The files that were read last.
    open_nos: [2]u32 = @splat(std.math.maxInt(u32)),
    open_fds: [2]i32 = @splat(-1),
    failed_errno: u16 = 0,

    /// From `first_sqn` on, which lies in the record; the log begins there.
    pub fn init(disk: Disk, segments: []const Segment, first_sqn: u64) Replay {
        var self: Replay = .{ .disk = disk, .segments = segments, .next_sqn = first_sqn };
        while (self.at < segments.len and segments[self.at].end_sqn <= first_sqn) self.at += 1;
        return self;
    }

    pub fn deinit(self: *Replay) void {
        for (&self.open_fds) |*fd| {
            if (fd.* >= 0) _ = linux.close(fd.*);
            fd.* = -1;
        }
    }

    pub fn is_done(self: *const Replay) bool {
        return self.at == self.segments.len;
    }

    /// The work count; 0: there is no memory until messages are processed, or a file can't be read.
    pub fn step(self: *Replay, log: *Log) u32 {
        var n: u32 = 0;
        while (n < segments_per_step and !self.is_done()) : (n += 1) {
            if (!self.advance(log)) break;
        }
        return n;
    }

    fn advance(self: *Replay, log: *Log) bool {
        const segment = &self.segments[self.at];
        if (self.chunk == null) {
            const chunk = log.pool.take(1) orelse return false;
            if (!self.map(log, segment.place, chunk, 1)) {
                log.pool.release(chunk, 1);
                return false;
            }
            self.chunk = chunk;
            self.offset = self.offset_of(log, segment);
            log.adopt_segment(chunk, self.offset);
        }
        if (segment.has_references) {
            if (!self.place_messages(log, segment)) return false;
        }
        self.next_sqn = segment.end_sqn;
        log.adopt_to(self.next_sqn);
        self.chunk = null;
        self.at += 1;
        return true;
    }

    /// Where the record `next_sqn` lies in the segment just mapped.
    fn offset_of(self: *const Replay, log: *const Log, segment: *const Segment) u32 {
        var offset: u32 = head_bytes;
        for (segment.base_sqn..self.next_sqn) |sqn| {
            const header = self.header_at(log, offset);
            assert(header.sqn == sqn);
            offset += bytes_of(header);
        }
        return offset;
    }

    fn header_at(self: *const Replay, log: *const Log, offset: u32) *RecordHeader {
        const at = @as(u64, self.chunk.?) * block_bytes + offset;
        return @ptrCast(@alignCast(log.pool.base + at));
    }

    fn bytes_of(header: *const RecordHeader) u32 {
        if (header.length == record.length_reference) return record.header_bytes;
        return @intCast(record.record_bytes(header.length));
    }

    /// Records become visible up to the first whose message finds no room.
    fn place_messages(self: *Replay, log: *Log, segment: *const Segment) bool {
        while (self.next_sqn < segment.end_sqn) {
            const header = self.header_at(log, self.offset);
            if (header.length == record.length_reference and !self.place_message(log, header)) {
                log.adopt_to(self.next_sqn);
                return false;
            }
            self.offset += bytes_of(header);
            self.next_sqn += 1;
        }
        return true;
    }

    fn place_message(self: *Replay, log: *Log, reference: *RecordHeader) bool {
        const place: Place = @bitCast(reference.time_ms);
        const fd = self.fd_of(place.file_no) orelse return false;
        var header: RecordHeader = undefined;
        const file: files.File = .{ .fd = fd, .bytes = 0 };
        if (!file.read(std.mem.asBytes(&header), place.offset() + head_bytes)) return false;
        const bytes = head_bytes + record.record_bytes(header.length);
        const count: u32 = @intCast((bytes + block_bytes - 1) / block_bytes);
        const first = log.pool.take(count) orelse return false;
        if (!self.map(log, place, first, count)) {
            log.pool.release(first, count);
            return false;
        }
        reference.msg_no = @as(u64, first) * block_bytes + head_bytes;
        return true;
    }

    fn map(self: *Replay, log: *const Log, place: Place, first: u32, count: u32) bool {
        const fd = self.fd_of(place.file_no) orelse return false;
        const bytes = @as(u64, count) * block_bytes;
        const at: [*]align(limits.page_bytes) u8 =
            @alignCast(log.pool.base + @as(u64, first) * block_bytes);
        region_file.map_file_at(at, bytes, .private, fd, place.offset()) catch {
            self.failed_errno = @backingInt(linux.E.NOMEM);
            return false;
        };
        region_file.populate_read(.{ .base = at, .bytes = bytes });
        return true;
    }

    fn fd_of(self: *Replay, file_no: u32) ?i32 {
        for (self.open_nos, self.open_fds) |no, fd| if (no == file_no and fd >= 0) return fd;
        var buffer: [record_file.file_name_bytes]u8 = undefined;
        const name = record_file.file_name(&buffer, file_no);
        const fd = self.disk.open_read(name) orelse {
            self.failed_errno = @backingInt(linux.E.NOENT);
            return null;
        };
        if (self.open_fds[1] >= 0) _ = linux.close(self.open_fds[1]);
        self.open_fds[1] = self.open_fds[0];
        self.open_nos[1] = self.open_nos[0];
        self.open_fds[0] = fd;
        self.open_nos[0] = file_no;
        return fd;
    }
};
