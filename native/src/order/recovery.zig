//! What record files hold after their context ended, however it ended: the longest prefix of the
//! order in which every record is whole. No I/O: the files are given as bytes.
//!
//! Blocks are looked at in the order of files and places. A segment is believed when its header is
//! true and its first sqn is the next one; a record when its header and payload agree with its
//! check and its sqn is the next one; the message of a reference likewise where it lies. The first
//! thing that can't be believed ends the prefix, unless the next segment goes on without a gap.
//! What is not in use is zeros.

const std = @import("std");
const limits = @import("../limits.zig");
const mutant = @import("../testing/mutant.zig");
const assert = @import("../assert.zig").assert;
const record = @import("record.zig");
const record_file = @import("record_file.zig");

const RecordHeader = record.RecordHeader;
const RecordFileHeader = record_file.RecordFileHeader;
const StreamEntry = record_file.StreamEntry;
const BlockHeader = record_file.BlockHeader;
const Place = record_file.Place;
const Epoch = @import("../wire/frame.zig").Epoch;
const block_bytes = limits.record_block_bytes;
const head_bytes = limits.record_block_header_bytes;

/// Records [base_sqn, end_sqn) one behind the other.
pub const Segment = struct {
    place: Place,
    base_sqn: u64,
    end_sqn: u64,
    /// Behind the last of them, in the block.
    end_offset: u32,
    /// Some messages lie elsewhere.
    has_references: bool,
    /// Who gave the sqns.
    epoch: Epoch = .{},
};

/// A stream's sender has this connection from `first_sqn` on.
pub const Connection = struct { first_sqn: u64, stream: u32, connection: u64 };

/// A stream that the record knows.
pub const Known = struct {
    entry: StreamEntry,
    /// One past its last message.
    next_msg: u64,
    has_messages: bool,
};

/// Where the prefix ends though something follows.
pub const Damage = struct { place: Place, offset: u32 };

pub const Found = struct {
    gpa: std.mem.Allocator,
    segments: std.ArrayList(Segment) = .empty,
    /// By id. Every id below its length is known.
    streams: std.ArrayList(Known) = .empty,
    /// As the files tell them, in their order; the same may come again and again.
    connections: std.ArrayList(Connection) = .empty,
    /// By file: blocks that hold something of the prefix, and those in front of them.
    used_blocks: []u32 = &.{},
    first_sqn: u64 = 0,
    next_sqn: u64 = 0,
    damage: ?Damage = null,
    /// Headers of files and entries of streams that can't be believed; nothing else depends on them
    /// unless `damage` says so.
    damaged_heads: u32 = 0,

    pub fn deinit(self: *Found) void {
        self.segments.deinit(self.gpa);
        self.streams.deinit(self.gpa);
        self.connections.deinit(self.gpa);
        self.gpa.free(self.used_blocks);
        self.* = undefined;
    }

    /// One past the last file that holds something of the prefix.
    pub fn files_used(self: *const Found) usize {
        var n = self.used_blocks.len;
        while (n > 0 and self.used_blocks[n - 1] == 0) n -= 1;
        return n;
    }
};

const Scan = struct {
    gpa: std.mem.Allocator,
    files: []const []align(8) const u8,
    found: *Found,
    /// Nothing from here on is looked at.
    limit_sqn: u64,
    /// Where the order ends for want of an entry, though something follows.
    unnamed_sqn: u64 = std.math.maxInt(u64),
    /// All that can be believed, in the order of their sqns.
    entries: std.ArrayList(*const StreamEntry) = .empty,
    /// By id: the sqn of the first record that calls for an entry of the stream.
    called_for: std.ArrayList(u64) = .empty,

    /// An entry is cut with the records behind it. A stream all of whose entries would go has no
    /// name at the next start, so its records go too; each time the end comes nearer.
    fn run(self: *Scan) error{OutOfMemory}!void {
        for (self.files, 0..) |bytes, n| try self.read_table(bytes, @intCast(n));
        std.mem.sort(*const StreamEntry, self.entries.items, {}, is_earlier);
        for (0..limits.record_streams_max + 1) |_| {
            try self.read_files();
            const end = self.first_unnamed() orelse break;
            if (mutant.on(.named_by_what_goes)) return;
            assert(end < self.found.next_sqn);
            self.limit_sqn = end;
            self.unnamed_sqn = end;
            self.forget_records();
        } else unreachable; // Each time there is a stream less.
        for (self.found.streams.items) |*known| {
            known.entry = self.last_entry(known.entry.id, self.found.next_sqn).?.*;
        }
    }

    fn is_earlier(_: void, a: *const StreamEntry, b: *const StreamEntry) bool {
        return a.first_sqn < b.first_sqn;
    }

    /// What the stream was in front of `sqn`; null: no entry tells.
    fn last_entry(self: *const Scan, id: u32, sqn: u64) ?*const StreamEntry {
        var i = self.entries.items.len;
        while (i > 0) {
            i -= 1;
            const entry = self.entries.items[i];
            if (entry.id == id and entry.first_sqn < sqn) return entry;
        }
        return null;
    }

    /// The first record of a stream whose entries lie all behind the end.
    fn first_unnamed(self: *const Scan) ?u64 {
        var first: ?u64 = null;
        for (self.called_for.items, 0..) |sqn, id| {
            if (self.last_entry(@intCast(id), self.found.next_sqn) != null) continue;
            first = @min(first orelse sqn, sqn);
        }
        return first;
    }

    fn forget_records(self: *Scan) void {
        const f = self.found;
        f.segments.clearRetainingCapacity();
        f.streams.clearRetainingCapacity();
        self.called_for.clearRetainingCapacity();
        @memset(f.used_blocks, 0);
        f.damage = null;
    }

    fn read_files(self: *Scan) error{OutOfMemory}!void {
        self.found.first_sqn = self.first_sqn();
        self.found.next_sqn = self.found.first_sqn;
        for (self.files, 0..) |bytes, n| {
            const count: u32 = @intCast((bytes.len + block_bytes - 1) / block_bytes);
            var block: u32 = 1;
            while (block < count) {
                const place: Place = .{ .file_no = @intCast(n), .block = block };
                const header = self.header_at(BlockHeader, place, 0) orelse {
                    if (!self.is_zero_rest(place)) self.note(place, 0);
                    break;
                };
                block += 1;
                if (header.is_unused()) continue;
                if (!header.is_true(place.file_no, place.block)) {
                    self.note(place, 0);
                    continue;
                }
                if (header.kind == @backingInt(record_file.BlockKind.message)) {
                    block = place.block +| header.blocks;
                    continue;
                }
                if (!try self.read_segment(place, header)) return;
            }
        }
    }

    /// Where the order begins: a first segment that is damaged does not make it begin later.
    fn first_sqn(self: *const Scan) u64 {
        const header = self.header_at(RecordFileHeader, .{ .file_no = 0, .block = 0 }, 0) orelse
            return 0;
        return if (header.is_true(0)) header.base_sqn else 0;
    }

    /// Something is wrong here. It matters only if the order does not go on elsewhere.
    fn note(self: *Scan, place: Place, offset: u32) void {
        if (self.found.damage == null) self.found.damage = .{ .place = place, .offset = offset };
    }

    fn is_zero_rest(self: *const Scan, place: Place) bool {
        return std.mem.allEqual(u8, self.files[place.file_no][place.offset()..], 0);
    }

    fn header_at(self: *const Scan, comptime T: type, place: Place, offset: u32) ?*const T {
        if (place.file_no >= self.files.len) return null;
        const bytes = self.files[place.file_no];
        const at = place.offset() + offset;
        if (at + @sizeOf(T) > bytes.len) return null;
        return @ptrCast(@alignCast(bytes.ptr + at));
    }

    fn read_table(self: *Scan, bytes: []align(8) const u8, file_no: u32) error{OutOfMemory}!void {
        const place: Place = .{ .file_no = file_no, .block = 0 };
        const header = self.header_at(RecordFileHeader, place, 0);
        if (header == null or !header.?.is_true(file_no)) self.found.damaged_heads += 1;
        for (0..record_file.entries_max) |i| {
            const offset = record_file.table_offset + i * @sizeOf(StreamEntry);
            if (offset + @sizeOf(StreamEntry) > bytes.len) break;
            const entry: *const StreamEntry = @ptrCast(@alignCast(bytes.ptr + offset));
            if (entry.is_unused()) break;
            if (!entry.is_true() or entry.id >= limits.record_streams_max) {
                self.found.damaged_heads += 1;
                continue;
            }
            try self.found.connections.append(self.gpa, .{
                .first_sqn = entry.first_sqn,
                .stream = entry.id,
                .connection = entry.connection,
            });
            try self.entries.append(self.gpa, entry);
        }
    }

    /// False: the prefix ends.
    fn read_segment(self: *Scan, place: Place, header: *const BlockHeader) error{OutOfMemory}!bool {
        const f = self.found;
        if (f.next_sqn >= self.limit_sqn) {
            if (f.next_sqn == self.unnamed_sqn) self.note(place, 0);
            return false;
        }
        if (header.base_sqn != f.next_sqn and !mutant.on(.segment_gap_believed)) {
            self.note(place, 0);
            return false;
        }
        // What was wrong in front of here has cost nothing.
        f.damage = null;
        var segment: Segment = .{
            .place = place,
            .base_sqn = header.base_sqn,
            .end_sqn = header.base_sqn,
            .end_offset = head_bytes,
            .has_references = false,
            .epoch = .{ .number = header.epoch_number, .id = header.epoch_id },
        };
        while (segment.end_offset < block_bytes and segment.end_sqn < self.limit_sqn) {
            const bytes = try self.read_record(&segment) orelse break;
            segment.end_offset += bytes;
            segment.end_sqn += 1;
        }
        if (segment.end_sqn == self.unnamed_sqn) self.note(place, segment.end_offset);
        f.next_sqn = segment.end_sqn;
        if (segment.end_sqn == segment.base_sqn) return true;
        self.use(place, 1);
        try f.segments.append(f.gpa, segment);
        return true;
    }

    fn use(self: *Scan, place: Place, blocks: u32) void {
        const used = &self.found.used_blocks[place.file_no];
        used.* = @max(used.*, place.block + blocks);
    }

    /// Bytes of the whole record behind the segment's end; null: there is none.
    fn read_record(self: *Scan, segment: *Segment) error{OutOfMemory}!?u32 {
        const place = segment.place;
        const at = segment.end_offset;
        const header = self.header_at(RecordHeader, place, at) orelse {
            // The file ends: in a record, unless zeros come to its end.
            if (!self.is_zero_from(place, at)) self.note(place, at);
            return null;
        };
        if (header.length == record.length_end) return null;
        if (std.mem.allEqual(u8, std.mem.asBytes(header), 0)) return null;
        if (header.sqn == segment.end_sqn) {
            if (header.length == record.length_reference) {
                if (try self.read_reference(header)) {
                    segment.has_references = true;
                    return record.header_bytes;
                }
            } else if (header.length <= block_bytes) {
                const bytes = record.record_bytes(header.length);
                if (bytes <= block_bytes - at and self.is_whole(place, at, bytes)) {
                    if (try self.take_record(header)) return @intCast(bytes);
                }
            }
        }
        self.note(place, at);
        return null;
    }

    fn is_zero_from(self: *const Scan, place: Place, offset: u32) bool {
        const bytes = self.files[place.file_no];
        const begin = @min(place.offset() + offset, bytes.len);
        const end = @min(place.offset() + block_bytes, bytes.len);
        // An end mark is four bytes of ones.
        const rest = bytes[begin..end];
        return std.mem.allEqual(u8, rest, 0) or
            rest.len >= 4 and std.mem.allEqual(u8, rest[0..4], 0xff);
    }

    fn is_whole(self: *const Scan, place: Place, at: u32, bytes: u64) bool {
        const all = self.files[place.file_no];
        const start = place.offset() + at;
        if (start + bytes > all.len) return false;
        const header: *const RecordHeader = @ptrCast(@alignCast(all.ptr + start));
        const padded = all[start + record.header_bytes .. start + bytes];
        if (mutant.on(.torn_believed)) return true;
        return header.check == record.check_of(header, padded);
    }

    fn read_reference(self: *Scan, reference: *const RecordHeader) error{OutOfMemory}!bool {
        if (reference.check != record.check_of_reference(reference)) return false;
        const place: Place = @bitCast(reference.time_ms);
        const block = self.header_at(BlockHeader, place, 0) orelse return false;
        if (!block.is_true(place.file_no, place.block)) return false;
        if (block.kind != @backingInt(record_file.BlockKind.message)) return false;
        const header = self.header_at(RecordHeader, place, head_bytes) orelse return false;
        const bytes = record.record_bytes(header.length);
        if (header.sqn != reference.sqn or header.length > limits.message_bytes_max) return false;
        if (head_bytes + bytes > @as(u64, block.blocks) * block_bytes) return false;
        if (!self.is_whole(place, head_bytes, bytes)) return false;
        if (!try self.take_record(header)) return false;
        self.use(place, block.blocks);
        return true;
    }

    /// A record is there. False: its stream is not known.
    fn take_record(self: *Scan, header: *const RecordHeader) error{OutOfMemory}!bool {
        const streams = &self.found.streams;
        if (header.stream >= limits.record_streams_max) return false;
        for (streams.items.len..@max(streams.items.len, header.stream + 1)) |id| {
            if (self.last_entry(@intCast(id), std.math.maxInt(u64)) == null) return false;
        }
        while (streams.items.len <= header.stream) {
            const id: u32 = @intCast(streams.items.len);
            const entry = self.last_entry(id, std.math.maxInt(u64)).?;
            try self.called_for.append(self.gpa, header.sqn);
            try streams.append(self.found.gpa, .{
                .entry = entry.*,
                .next_msg = 0,
                .has_messages = false,
            });
        }
        const known = &streams.items[header.stream];
        known.next_msg = header.msg_no + 1;
        known.has_messages = true;
        return true;
    }
};

/// Reads all files; the last may be cut anywhere, and all may hold anything.
pub fn scan(
    gpa: std.mem.Allocator,
    files: []const []align(8) const u8,
) error{OutOfMemory}!Found {
    return scan_to(gpa, files, std.math.maxInt(u64));
}

/// The same as if nothing were there from `limit_sqn` on.
pub fn scan_to(
    gpa: std.mem.Allocator,
    files: []const []align(8) const u8,
    limit_sqn: u64,
) error{OutOfMemory}!Found {
    var found: Found = .{ .gpa = gpa };
    errdefer found.deinit();
    found.used_blocks = try gpa.alloc(u32, files.len);
    @memset(found.used_blocks, 0);
    var s: Scan = .{ .gpa = gpa, .files = files, .found = &found, .limit_sqn = limit_sqn };
    defer s.entries.deinit(gpa);
    defer s.called_for.deinit(gpa);
    try s.run();
    assert(found.next_sqn >= found.first_sqn);
    return found;
}
