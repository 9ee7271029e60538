//! The ordered log in memory: one appender, one consumer, and the order of appending is the order.
//!
//! Records lie one behind the other in segments, which are chunks of a pool; a message larger than
//! a segment, or one that is assembled piece by piece, lies in a run of chunks of its own
//! (`reserve`), and a small reference record in the segments gives it its place in the order
//! (`commit`). Either way a payload is copied once.
//!
//!     processed <= read <= ordered <= next
//!
//! The appender writes records up to `next` and makes them visible by `publish`, one store for a
//! batch. The consumer fills descriptors from `read`, and `processed` gives the segments below it
//! back to the pool. `rewind` offers again what was not processed. Memory is bounded by the pool:
//! the appender gets `error.NoMemory`, never waits, and tries again when the consumer has gone on.
//!
//! While everything is processed the open segment holds nothing that anybody needs, so the appender
//! may give it back and go on elsewhere (`leave_segment`): without that, a segment in the middle of
//! an empty pool could stand in the way of a large message for ever.
//!
//! A log that is recorded has its chunks mapped from record files (`recorder.zig`), each with a
//! block's header in front, and its records carry checks. What an earlier process recorded is
//! adopted segment by segment (`replay.zig`), before anything is appended.

const std = @import("std");
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const copy = @import("../copy.zig").copy;
const record = @import("record.zig");
const mutant = @import("../testing/mutant.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Recorder = @import("recorder.zig").Recorder;
const Latency = @import("../stats/latency.zig").Latency;
const TierLog = @import("tier_log.zig").TierLog;

const RecordHeader = record.RecordHeader;
const Descriptor = record.Descriptor;
const Meta = record.Meta;

/// Memory reserved for one message; `payload` is filled by the caller in any order.
pub const Extent = struct {
    /// Offset of the record's header in the region.
    offset: u64,
    payload: []u8,
    /// Where it lies in record files (`record_file.Place`).
    place: u64 = 0,
};

/// Goes on from place `sqn` at `offset`: set while everything below was processed.
const Jump = struct { sqn: u64, offset: u64 };

/// Memory that can go when everything below `sqn` is processed: a segment that ended in front of
/// record `sqn`, or the extent of record `sqn` - 1.
const Retired = struct { sqn: u64, first: u32, count: u32, is_segment: bool };

/// In front of record `sqn`: at `offset` in the segment that ends at `end`, or, where that segment
/// has ended, at the start of the next one.
const Position = struct { sqn: u64, offset: u64, end: u64 };

pub const Log = struct {
    pool: *ChunkPool,
    /// Whose files the chunks are mapped from; null: nobody's.
    recorder: ?*Recorder = null,
    /// Measures from `publish` to `fill`; null: nobody wants to know.
    latency: ?*Latency = null,
    /// Of a tier: decides what is visible, and where segments lie.
    history: ?*TierLog = null,
    /// Bytes in front of the first record of a chunk.
    head_bytes: u32 = 0,
    /// Without a total order: descriptors tell the sender's number instead of the place.
    tells_number: bool = false,
    /// By chunk: the segment that follows it. Written before the publication of what is there.
    next_chunk: []u32,
    retired: []Retired,

    // ---- the appender's
    next_sqn: u64 align(64),
    /// Where the next record goes, and the end of the open segment; equal when there is none.
    at: u64,
    end: u64,
    /// Nothing is appended here from there on: the end, or less where the record has gone over to
    /// another file. What is appended lies in the file that is forced.
    full: u64 = 0,
    /// The file of the open segment (`Recorder.serial`).
    serial: u32 = 0,
    jump: Jump,

    // ---- published by the appender
    ordered: std.atomic.Value(u64) align(64),

    // ---- published by the consumer
    processed_sqn: std.atomic.Value(u64) align(64),

    // ---- the consumer's
    read: Position align(64),
    /// A position at or below `processed`, in the oldest segment that was not given back.
    oldest: Position,
    /// Where `next_done` is: at or above `processed`, not beyond `read`.
    done: Position,
    retired_head: u32,
    retired_count: u32,

    /// The log takes chunks of `pool`, alone or beside others. `first_sqn`: place of the first
    /// record.
    pub fn init(
        allocator: std.mem.Allocator,
        pool: *ChunkPool,
        first_sqn: u64,
    ) error{OutOfMemory}!Log {
        const next_chunk = try allocator.alloc(u32, pool.chunk_count);
        errdefer allocator.free(next_chunk);
        const retired = try allocator.alloc(Retired, pool.chunk_count + 1);
        return .{
            .pool = pool,
            .next_chunk = next_chunk,
            .retired = retired,
            .next_sqn = first_sqn,
            .at = 0,
            .end = 0,
            .jump = .{ .sqn = first_sqn, .offset = 0 },
            .ordered = .init(first_sqn),
            .processed_sqn = .init(first_sqn),
            .read = .{ .sqn = first_sqn, .offset = 0, .end = 0 },
            .oldest = .{ .sqn = first_sqn, .offset = 0, .end = 0 },
            .done = .{ .sqn = first_sqn, .offset = 0, .end = 0 },
            .retired_head = 0,
            .retired_count = 0,
        };
    }

    /// From now on everything is recorded. Before anything is appended.
    pub fn record_with(self: *Log, recorder: *Recorder) void {
        assert(self.end == 0 and self.next_sqn == self.ordered.raw);
        self.recorder = recorder;
        recorder.ordered = &self.ordered;
        self.head_bytes = limits.record_block_header_bytes;
    }

    /// The pool's chunks are not given back one by one: the pool goes too.
    pub fn deinit(self: *Log, allocator: std.mem.Allocator) void {
        if (self.latency) |latency| latency.destroy(allocator);
        allocator.free(self.retired);
        allocator.free(self.next_chunk);
        self.* = undefined;
    }

    /// Longest payload that can ever be appended or reserved: all chunks but one, or a tier's spare
    /// one too.
    pub fn payload_bytes_max(self: *const Log) u64 {
        const heads = record.header_bytes + self.head_bytes;
        const kept: u64 = if (self.history != null) 2 else 1;
        const all = self.pool.bytes - kept * self.pool.chunk_bytes - heads;
        return @min(all, limits.message_bytes_max);
    }

    // ---- appender

    /// Appends one message, copying its payload, and gives its place. It becomes visible with
    /// `publish`.
    pub fn append(self: *Log, meta: Meta, payload: []const u8) error{NoMemory}!u64 {
        const bytes = record.record_bytes(payload.len);
        if (bytes > self.full - self.at) {
            const room = self.pool.chunk_bytes - self.head_bytes;
            if (bytes > room) return self.append_large(meta, payload);
            if (!self.open_segment()) return error.NoMemory;
        }
        const sqn = self.next_sqn;
        const header = self.header_at(self.at);
        header.* = make_header(meta, @intCast(payload.len), sqn);
        const start = self.at + record.header_bytes;
        copy(self.pool.base[start..][0..payload.len], payload);
        const padded = self.pool.base[start .. self.at + bytes];
        if (self.recorder) |r| try self.check_record(r, header, padded);
        self.at += bytes;
        self.next_sqn = sqn + 1;
        return sqn;
    }

    /// A record that is complete but for its check. Refused, it was not appended.
    inline fn check_record(
        self: *Log,
        r: *Recorder,
        header: *RecordHeader,
        padded: []const u8,
    ) error{NoMemory}!void {
        if (!r.is_recording) return;
        r.note(header.stream, header.sqn) catch |err| {
            self.look_at_file(r);
            return err;
        };
        if (!r.is_recording) return;
        header.check = record.check_of(header, padded);
    }

    /// Appends a message whose payload stays where its sender wrote it, and gives its place.
    pub fn append_reference(
        self: *Log,
        meta: Meta,
        reference: record.Reference,
    ) error{NoMemory}!u64 {
        assert(self.recorder == null);
        const bytes = record.in_place_bytes;
        if (bytes > self.full - self.at and !self.open_segment()) return error.NoMemory;
        const sqn = self.next_sqn;
        self.header_at(self.at).* = make_header(meta, record.length_in_place, sqn);
        self.reference_at(self.at).* = reference;
        self.at += bytes;
        self.next_sqn = sqn + 1;
        return sqn;
    }

    /// `reserve` would find room now. Nothing is taken for that: blocks of a record file that were
    /// taken once are used up.
    pub fn could_reserve(self: *Log, length: u32) bool {
        const bytes = self.head_bytes + record.record_bytes(length);
        const count: u32 = @intCast((bytes + self.pool.chunk_bytes - 1) >> self.pool.chunk_shift);
        const first = self.pool.take(count) orelse blk: {
            if (!self.leave_segment()) return false;
            break :blk self.pool.take(count) orelse return false;
        };
        defer self.pool.release(first, count);
        if (self.recorder) |r| {
            defer self.look_at_file(r);
            if (!r.would_fit(count, self.next_sqn)) return false;
        }
        if (self.end != 0) return true;
        const spare = self.pool.take(1) orelse return false;
        self.pool.release(spare, 1);
        return true;
    }

    /// Memory of its own for a message of `length` bytes; null when there is no room now.
    /// `length` is at most `payload_bytes_max`.
    pub fn reserve(self: *Log, length: u32) ?Extent {
        assert(length <= self.payload_bytes_max());
        const bytes = self.head_bytes + record.record_bytes(length);
        const count: u32 = @intCast((bytes + self.pool.chunk_bytes - 1) >> self.pool.chunk_shift);
        const first = self.pool.take(count) orelse blk: {
            if (!self.leave_segment()) return null;
            break :blk self.pool.take(count) orelse return null;
        };
        if (self.end == 0) {
            // Without a segment of its own the log needs a chunk for the reference.
            const spare = self.pool.take(1) orelse {
                self.pool.release(first, count);
                return null;
            };
            self.pool.release(spare, 1);
        }
        const place = if (self.recorder) |r| r.map_message(first, count, self.next_sqn) catch {
            self.look_at_file(r);
            self.pool.release(first, count);
            return null;
        } else 0;
        if (self.recorder) |r| self.look_at_file(r);
        const offset = (@as(u64, first) << self.pool.chunk_shift) + self.head_bytes;
        return .{
            .offset = offset,
            .payload = self.pool.slice(offset + record.header_bytes, length),
            .place = place,
        };
    }

    /// Gives a filled extent its place in the order. Without room for the reference the extent
    /// stays the caller's, who tries again later. The memory is the log's afterwards.
    pub fn commit(self: *Log, extent: Extent, meta: Meta) error{NoMemory}!u64 {
        if (self.full - self.at < record.header_bytes) {
            if (!self.open_segment()) return error.NoMemory;
        }
        if (self.recorder) |r| if (!r.has_room_for_late()) return error.NoMemory;
        const sqn = self.next_sqn;
        const header = self.header_at(extent.offset);
        header.* = make_header(meta, @intCast(extent.payload.len), sqn);
        const reference = self.header_at(self.at);
        reference.* = make_header(meta, record.length_reference, sqn);
        reference.msg_no = extent.offset;
        if (self.recorder) |r| {
            const bytes = record.record_bytes(extent.payload.len) - record.header_bytes;
            try self.check_record(r, header, extent.payload.ptr[0..bytes]);
            reference.time_ms = extent.place;
            if (r.is_recording) reference.check = record.check_of_reference(reference);
            r.note_message(extent.place);
        }
        self.at += record.header_bytes;
        self.next_sqn = sqn + 1;
        return sqn;
    }

    /// Gives back an extent that was not committed.
    pub fn abort(self: *Log, extent: Extent) void {
        self.pool.free(extent.offset, record.record_bytes(extent.payload.len));
    }

    /// A segment of an earlier process, mapped at `chunk`; its next record lies at `offset` of it.
    /// `adopt_to` makes its records visible.
    pub fn adopt_segment(self: *Log, chunk: u32, offset: u32) void {
        const start = @as(u64, chunk) << self.pool.chunk_shift;
        assert(self.recorder != null and offset >= self.head_bytes);
        assert(offset == self.head_bytes or self.end == 0);
        self.link(chunk, start + offset);
        // What is appended later goes elsewhere.
        self.end = start + self.pool.chunk_bytes;
        self.at = self.end;
        self.full = self.end;
    }

    /// Everything adopted below `sqn` is in its place.
    pub fn adopt_to(self: *Log, sqn: u64) void {
        assert(sqn >= self.next_sqn);
        self.next_sqn = sqn;
        self.publish();
    }

    /// Makes everything appended so far visible to the consumer, but for a tier's.
    pub inline fn publish(self: *Log) void {
        if (self.history != null) return; // What is visible is the tier's decision.
        // First: the consumer looks for its mark as soon as it sees a message.
        if (self.latency) |latency| latency.mark(self.next_sqn);
        self.ordered.store(self.next_sqn, .release);
    }

    /// Place of the next message to be appended. Appender.
    pub inline fn next(self: *const Log) u64 {
        return self.next_sqn;
    }

    // ---- consumer

    /// Descriptors of the published messages from the read position on, at most `max` and
    /// `descriptors.len`; the read position follows. The count.
    pub fn fill(self: *Log, descriptors: []Descriptor, max: u32) u32 {
        const history = self.history orelse return self.fill_visible(descriptors, max);
        if (!history.gate.enter()) return 0;
        defer history.gate.leave(self.read.sqn);
        return self.fill_visible(descriptors, max);
    }

    inline fn fill_visible(self: *Log, descriptors: []Descriptor, max: u32) u32 {
        const limit = self.ordered.load(.acquire);
        assert(limit >= self.read.sqn);
        const wanted: u32 = @intCast(@min(limit - self.read.sqn, max, descriptors.len));
        if (wanted == 0) return 0;
        self.follow_jump();
        for (descriptors[0..wanted]) |*descriptor| {
            const offset = self.read_record();
            const header = self.header_at(offset);
            assert(header.sqn + 1 == self.read.sqn);
            const here: record.Reference = .{
                .offset8 = @intCast((offset + record.header_bytes) >> 3),
                .length = header.length,
                .region = 0,
            };
            const is_in_place = header.length == record.length_in_place;
            const at = if (is_in_place) self.reference_at(offset).* else here;
            descriptor.* = .{
                .offset8 = at.offset8,
                .length = at.length,
                .stream = header.stream,
                .args = @as(u32, header.tx_arg) << 16 | header.msg_arg,
                .sqn = @floatFromInt(if (self.tells_number) header.msg_no else header.sqn),
                .header8 = @intCast(offset >> 3),
                .region = at.region,
            };
        }
        return wanted;
    }

    /// Everything below `sqn` <= read was processed: its memory goes back to the pool.
    pub fn processed(self: *Log, sqn: u64) void {
        assert(sqn >= self.processed_sqn.load(.monotonic) and sqn <= self.read.sqn);
        while (self.retired_count > 0) {
            const oldest = self.retired[self.retired_head];
            if (oldest.sqn > sqn) break;
            self.retired_head = self.slot_after(self.retired_head, 1);
            self.retired_count -= 1;
            // First out of the segment, then the segment goes.
            if (oldest.is_segment) {
                self.oldest = self.segment_after(oldest.first, oldest.sqn);
                if (self.done.sqn == oldest.sqn) self.done = self.oldest;
            }
            self.pool.release(oldest.first, oldest.count);
        }
        if (sqn == self.read.sqn) self.oldest = self.read;
        // Last: from here on the appender may leave its segment.
        self.processed_sqn.store(sqn, .release);
    }

    /// For a consumer that says later than it reads what was processed, and never rewinds: headers
    /// of messages below `read_next`, one after the other, from where `processed` has not been
    /// told.
    pub fn next_done(self: *Log) *const RecordHeader {
        assert(self.done.sqn < self.read.sqn);
        // What is read and not processed keeps the appender from changing it.
        if (self.jump.sqn == self.done.sqn) self.done = self.position_of_jump();
        _ = self.skip_end(&self.done);
        const header = self.header_at(self.skip_record(&self.done));
        return if (header.length == record.length_reference)
            self.header_at(header.msg_no)
        else
            header;
    }

    /// The next `fill` begins at the first message that was not processed.
    pub fn rewind(self: *Log) void {
        const sqn = self.processed_sqn.load(.monotonic);
        if (self.read.sqn == sqn) return;
        // What is still to be retired lies behind this place and will be noted again when it is
        // read again.
        self.retired_count = 0;
        while (self.oldest.sqn < sqn) {
            while (self.skip_end(&self.oldest)) |_| {}
            _ = self.skip_record(&self.oldest);
        }
        self.read = self.oldest;
    }

    /// First message that was not processed. Any thread.
    pub inline fn processed_next(self: *const Log) u64 {
        return self.processed_sqn.load(.acquire);
    }

    /// One past the last visible message. Any thread.
    pub inline fn ordered_next(self: *const Log) u64 {
        return self.ordered.load(.acquire);
    }

    /// The next message that `fill` gives. Consumer.
    pub inline fn read_next(self: *const Log) u64 {
        return self.read.sqn;
    }

    /// Header of a record whose payload a descriptor names.
    pub fn header_of(self: *const Log, descriptor: *const Descriptor) *const RecordHeader {
        return self.header_at(@as(u64, descriptor.header8) * 8);
    }

    /// Payload of a descriptor whose payload is in the log.
    pub fn payload_of(self: *const Log, descriptor: *const Descriptor) []const u8 {
        assert(descriptor.region == 0);
        return self.pool.slice(@as(u64, descriptor.offset8) * 8, descriptor.length);
    }

    // ---- appender, inside

    fn append_large(self: *Log, meta: Meta, payload: []const u8) error{NoMemory}!u64 {
        if (payload.len > self.payload_bytes_max()) return error.NoMemory;
        const extent = self.reserve(@intCast(payload.len)) orelse return error.NoMemory;
        errdefer self.abort(extent);
        @memcpy(extent.payload, payload);
        return self.commit(extent, meta);
    }

    fn open_segment(self: *Log) bool {
        if (self.history) |history| return history.open_segment();
        const chunk = self.pool.take(1) orelse blk: {
            if (!self.leave_segment()) return false;
            break :blk self.pool.take(1) orelse return false;
        };
        if (self.recorder) |r| r.map_segment(chunk, self.next_sqn) catch {
            self.pool.release(chunk, 1);
            return false;
        };
        const start = @as(u64, chunk) << self.pool.chunk_shift;
        self.link(chunk, start + self.head_bytes);
        self.at = start + self.head_bytes;
        self.end = start + self.pool.chunk_bytes;
        self.full = self.end;
        if (self.recorder) |r| self.serial = r.serial;
        return true;
    }

    /// Where the record has gone over to another file the open segment gets nothing more.
    fn look_at_file(self: *Log, r: *const Recorder) void {
        if (r.is_tier) return;
        if (r.serial != self.serial and !mutant.on(.segment_left_open)) self.full = self.at;
    }

    /// The order goes on in another chunk, with the record at `offset`.
    fn link(self: *Log, chunk: u32, offset: u64) void {
        if (self.end != 0) {
            const open: u32 = @intCast((self.end - 1) >> self.pool.chunk_shift);
            if (self.at < self.end) self.header_at(self.at).length = record.length_end;
            self.next_chunk[open] = chunk;
        } else {
            self.jump = .{ .sqn = self.next_sqn, .offset = offset };
        }
    }

    /// Gives the open segment back if all that was ever appended is processed. The consumer then
    /// holds no position that it will use: it takes `jump` with the next record, which is published
    /// later.
    pub fn leave_segment(self: *Log) bool {
        if (self.end == 0) return false;
        if (self.history) |history| if (!history.is_attached) return false;
        if (self.processed_sqn.load(.acquire) != self.next_sqn) return false;
        assert(self.ordered.load(.monotonic) == self.next_sqn);
        const open: u32 = @intCast((self.end - 1) >> self.pool.chunk_shift);
        if (self.history) |history| {
            history.left();
        } else if (self.recorder != null and self.at < self.end) {
            self.header_at(self.at).length = record.length_end;
        }
        self.at = 0;
        self.end = 0;
        self.full = 0;
        self.pool.release(open, 1);
        return true;
    }

    pub fn make_header(meta: Meta, length: u32, sqn: u64) RecordHeader {
        return .{
            .length = length,
            .check = 0,
            .sqn = sqn,
            .msg_no = meta.msg_no,
            .time_ms = meta.time_ms,
            .stream = meta.stream,
            .msg_arg = meta.msg_arg,
            .tx_arg = meta.tx_arg,
        };
    }

    // ---- consumer, inside

    /// The position in front of place `jump.sqn` is not where the records before it ended. The
    /// appender changes `jump` only while nothing unprocessed is published, so it stands still
    /// here.
    inline fn follow_jump(self: *Log) void {
        if (self.jump.sqn != self.read.sqn) return;
        self.read = self.position_of_jump();
        self.oldest = self.read;
    }

    inline fn position_of_jump(self: *const Log) Position {
        const end = (self.jump.offset | (self.pool.chunk_bytes - 1)) + 1;
        return .{ .sqn = self.jump.sqn, .offset = self.jump.offset, .end = end };
    }

    /// Offset of the next record's header; the read position moves behind it, and memory that is
    /// left behind is noted for `processed`.
    inline fn read_record(self: *Log) u64 {
        const sqn = self.read.sqn;
        // A tier's segment may be empty.
        while (self.skip_end(&self.read)) |left| {
            self.add_retired(.{ .sqn = sqn, .first = left, .count = 1, .is_segment = true });
        }
        const offset = self.skip_record(&self.read);
        const header = self.header_at(offset);
        if (header.length != record.length_reference) return offset;
        const bytes = record.record_bytes(self.header_at(header.msg_no).length);
        const span = self.pool.span_of(header.msg_no, bytes);
        self.add_retired(.{
            .sqn = sqn + 1,
            .first = span.first,
            .count = span.count,
            .is_segment = false,
        });
        return header.msg_no;
    }

    /// At the end of a segment: on to the next one. The chunk that was left.
    inline fn skip_end(self: *Log, position: *Position) ?u32 {
        const at_end = position.offset == position.end or
            self.header_at(position.offset).length == record.length_end;
        if (!at_end) return null;
        const left: u32 = @intCast((position.end - 1) >> self.pool.chunk_shift);
        position.* = self.segment_after(left, position.sqn);
        return left;
    }

    /// Offset of the header at a position, which moves behind it.
    inline fn skip_record(self: *Log, position: *Position) u64 {
        const offset = position.offset;
        const header = self.header_at(offset);
        assert(header.sqn == position.sqn);
        const bytes = switch (header.length) {
            record.length_reference => record.header_bytes,
            record.length_in_place => record.in_place_bytes,
            else => record.record_bytes(header.length),
        };
        position.offset += bytes;
        position.sqn += 1;
        assert(position.offset <= position.end);
        return offset;
    }

    fn segment_after(self: *const Log, chunk: u32, sqn: u64) Position {
        const start = @as(u64, self.next_chunk[chunk]) << self.pool.chunk_shift;
        const end = start + self.pool.chunk_bytes;
        return .{ .sqn = sqn, .offset = start + self.head_bytes, .end = end };
    }

    fn add_retired(self: *Log, retired: Retired) void {
        assert(self.retired_count < self.retired.len);
        self.retired[self.slot_after(self.retired_head, self.retired_count)] = retired;
        self.retired_count += 1;
    }

    fn slot_after(self: *const Log, slot: u32, steps: u32) u32 {
        const count: u32 = @intCast(self.retired.len);
        return if (slot + steps >= count) slot + steps - count else slot + steps;
    }

    // ---- both

    inline fn reference_at(self: *const Log, offset: u64) *record.Reference {
        assert(offset + record.in_place_bytes <= self.pool.bytes);
        return @ptrCast(@alignCast(self.pool.base + offset + record.header_bytes));
    }

    pub inline fn header_at(self: *const Log, offset: u64) *RecordHeader {
        assert(offset < self.pool.bytes);
        return @ptrCast(@alignCast(self.pool.base + offset));
    }
};
