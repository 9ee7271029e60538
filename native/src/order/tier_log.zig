//! What a tier adds to the ordered log: it is never recycled, can be cut at its end, and does not
//! wait for the program.
//!
//!     handed <= read <= visible (`ordered`) <= linked <= next
//!
//! The log's segments lie in files (`recorder.zig`), and memory is only where the program reads
//! them. As long as there is memory the log is *attached*: segments are appended where the program
//! reads them, as on a single node. When the program is slow, and at a start on a long record, it
//! is *detached*: what is appended goes through one spare chunk into the files, and segments are
//! laid before the program as it takes them (`feed`), from their files.
//!
//! `truncate` takes entries back that no program was given. The program's thread may be in `fill`
//! at that moment: it says so (`busy`), and looks whether it may (`gate`).
//!
//! A truncation that dies at any moment leaves a true prefix of the log that is not shorter than
//! what was to stay: first the segments behind it lose their headers, the last one first, then the
//! end is marked, then the tables lose what they say of the streams from there on.
//!
//! Long because its cursors, its memory and its cut are one set of invariants.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const barrier = @import("../agent/barrier.zig");
const record = @import("record.zig");
const record_file = @import("record_file.zig");
const recovery = @import("recovery.zig");
const region_file = @import("../window/region.zig");
const history_file = @import("history.zig");
const Epoch = @import("../tier/epoch.zig").Epoch;
const epoch_file = @import("../tier/epoch.zig");
const Log = @import("log.zig").Log;
const Extent = @import("log.zig").Extent;
const Recorder = @import("recorder.zig").Recorder;

const Era = epoch_file.Era;
const History = history_file.History;
const Segment = history_file.Segment;
const Place = record_file.Place;
const RecordHeader = record.RecordHeader;
const StreamEntry = record_file.StreamEntry;
const Connection = recovery.Connection;
const block_bytes = limits.record_block_bytes;
const head_bytes = limits.record_block_header_bytes;
const segments_per_feed = 16;
/// How long the program's thread is waited for when something is to be truncated.
const gate_spins = 20_000;
const no_limit = std.math.maxInt(u64);

pub const Truncated = enum { done, busy, delivered };

/// Of the consumer's thread and the appender's.
pub const Gate = struct {
    shut: std.atomic.Value(u32) align(64) = .init(0),
    busy: std.atomic.Value(u32) align(64) = .init(0),
    /// One past the last sqn that the program was given.
    handed: std.atomic.Value(u64) = .init(0),

    /// Consumer. False: what is visible is being changed.
    pub fn enter(self: *Gate) bool {
        self.busy.store(1, .monotonic);
        barrier.full();
        if (self.shut.load(.acquire) == 0) return true;
        self.busy.store(0, .release);
        return false;
    }

    pub fn leave(self: *Gate, read_sqn: u64) void {
        if (read_sqn > self.handed.load(.monotonic)) self.handed.store(read_sqn, .monotonic);
        self.busy.store(0, .release);
    }

    /// Appender. False: the consumer is inside.
    fn close(self: *Gate) bool {
        self.shut.store(1, .monotonic);
        barrier.full();
        for (0..gate_spins) |_| {
            if (self.busy.load(.acquire) == 0) return true;
            std.atomic.spinLoopHint();
        }
        self.open();
        return false;
    }

    fn open(self: *Gate) void {
        self.shut.store(0, .release);
    }
};

/// A segment of which messages are being laid out before the program.
const Placing = struct { offset: u32, sqn: u64 };

pub const TierLog = struct {
    gpa: std.mem.Allocator,
    log: *Log,
    recorder: *Recorder,
    history: History,
    eras: std.ArrayList(Era) = .empty,
    /// Connections of streams from their sqns on, in the order of these.
    connections: std.ArrayList(Connection) = .empty,
    /// By stream: the last of these; 0: there is none.
    connected: []u64 = &.{},
    gate: Gate = .{},

    is_attached: bool = true,
    /// The last segment is appended to.
    is_open: bool = false,
    /// It has references to messages that are nowhere in memory.
    has_unplaced: bool = false,
    /// What is appended to while the log is detached.
    spare: u32,
    /// Last chunk that the program finds its way to; null: it begins with `log.jump`.
    tail: ?u32 = null,
    linked_count: u32 = 0,
    /// What is visible lies below.
    linked_sqn: u64 = no_limit,
    placing: ?Placing = null,
    show_limit: u64,
    /// The program begins there.
    from_sqn: u64,
    /// Stores to files that are still made; for tests that die between any two.
    stores_left: u64 = no_limit,

    pub const Options = struct {
        folder: ?*const @import("../window/files.zig").Folder,
        /// Of an earlier process.
        found: ?*const recovery.Found,
        /// First sqn that the program is given.
        from_sqn: u64,
    };

    /// To be called before anything is appended; `log` begins at `from_sqn`.
    pub fn init(self: *TierLog, gpa: std.mem.Allocator, log: *Log, o: Options) !void {
        const recorder = log.recorder.?;
        assert(log.end == 0 and log.next_sqn == o.from_sqn);
        const spare = log.pool.take(1) orelse return error.OutOfMemory;
        errdefer log.pool.release(spare, 1);
        self.* = .{
            .gpa = gpa,
            .log = log,
            .recorder = recorder,
            .history = try .init(gpa, recorder, o.folder),
            .spare = spare,
            .show_limit = o.from_sqn,
            .from_sqn = o.from_sqn,
        };
        errdefer self.deinit();
        self.connected = try gpa.alloc(u64, limits.record_streams_max);
        @memset(self.connected, 0);
        self.gate.handed.raw = o.from_sqn;
        recorder.is_tier = true;
        recorder.gpa = gpa;
        if (o.found) |found| try self.load(found);
        if (recorder.current == null) {
            recorder.next_in_memory(1) catch return error.OutOfMemory;
        }
        log.history = self;
    }

    fn load(self: *TierLog, found: *const recovery.Found) !void {
        for (found.segments.items) |s| {
            try self.history.segments.append(self.gpa, .{
                .place = s.place,
                .base_sqn = s.base_sqn,
                .end_offset = s.end_offset,
            });
            if (self.current_epoch()) |e| if (epoch_file.eql(e, s.epoch)) continue;
            try self.eras.append(self.gpa, .{ .epoch = s.epoch, .first_sqn = s.base_sqn });
        }
        for (found.connections.items) |c| {
            if (c.first_sqn < found.next_sqn) try self.connections.append(self.gpa, c);
        }
        std.mem.sort(Connection, self.connections.items, {}, earlier);
        for (self.connections.items) |c| {
            self.connected[c.stream] = c.connection;
            self.recorder.streams[c.stream].connection = c.connection;
        }
        const log = self.log;
        self.recorder.epoch = self.current_epoch() orelse .{};
        log.next_sqn = found.next_sqn;
        if (found.next_sqn == self.from_sqn) {
            self.linked_count = self.history.count();
            return;
        }
        self.is_attached = false;
        self.linked_sqn = self.from_sqn;
        self.linked_count = self.history.find(self.from_sqn).?;
    }

    fn earlier(_: void, a: Connection, b: Connection) bool {
        return a.first_sqn < b.first_sqn;
    }

    pub fn deinit(self: *TierLog) void {
        self.log.history = null;
        self.history.deinit();
        self.eras.deinit(self.gpa);
        self.connections.deinit(self.gpa);
        self.gpa.free(self.connected);
        self.* = undefined;
    }

    // ---------------------------------------------------------------- appending

    fn segments(self: *TierLog) []Segment {
        return self.history.segments.items;
    }

    fn current_epoch(self: *const TierLog) ?Epoch {
        const all = self.eras.items;
        return if (all.len == 0) null else all[all.len - 1].epoch;
    }

    /// What is appended from now on was assigned by this epoch's leader. False: no memory.
    pub fn begin_era(self: *TierLog, epoch: Epoch) bool {
        if (self.current_epoch()) |e| if (epoch_file.eql(e, epoch)) return true;
        const next = self.log.next_sqn;
        self.eras.ensureUnusedCapacity(self.gpa, 1) catch return false;
        self.drop_eras(next);
        self.close_segment();
        self.eras.appendAssumeCapacity(.{ .epoch = epoch, .first_sqn = next });
        self.recorder.epoch = epoch;
        return true;
    }

    fn drop_eras(self: *TierLog, sqn: u64) void {
        while (self.eras.items.len > 0) {
            if (self.eras.items[self.eras.items.len - 1].first_sqn < sqn) return;
            _ = self.eras.pop();
        }
    }

    /// For `Log`: it needs a segment for what comes next.
    pub fn open_segment(self: *TierLog) bool {
        const log = self.log;
        self.history.segments.ensureUnusedCapacity(self.gpa, 1) catch return false;
        self.close_segment();
        const chunk = self.chunk_to_open();
        const place = self.map_segment(chunk) orelse {
            if (chunk != self.spare) log.pool.release(chunk, 1);
            return false;
        };
        self.history.segments.appendAssumeCapacity(.{
            .place = place,
            .base_sqn = log.next_sqn,
            .end_offset = head_bytes,
        });
        self.is_open = true;
        self.has_unplaced = false;
        const start = @as(u64, chunk) * block_bytes;
        log.at = start + head_bytes;
        log.end = start + block_bytes;
        log.full = log.end;
        if (!self.is_attached) return true;
        self.link_chunk(chunk, log.at, log.next_sqn);
        self.segments()[self.linked_count].chunk = chunk;
        self.linked_count += 1;
        return true;
    }

    fn chunk_to_open(self: *TierLog) u32 {
        if (!self.is_attached) return self.spare;
        const pool = self.log.pool;
        if (pool.take(1)) |chunk| return chunk;
        if (self.log.leave_segment()) if (pool.take(1)) |chunk| return chunk;
        self.detach();
        return self.spare;
    }

    fn map_segment(self: *TierLog, chunk: u32) ?Place {
        const sqn = self.log.next_sqn;
        self.recorder.base_hint.store(sqn, .monotonic);
        return self.recorder.map(.segment, chunk, 1, sqn) catch null;
    }

    /// The program goes from the chunk before to this one.
    fn link_chunk(self: *TierLog, chunk: u32, offset: u64, sqn: u64) void {
        if (self.tail) |tail| {
            self.log.next_chunk[tail] = chunk;
        } else {
            self.log.jump = .{ .sqn = sqn, .offset = offset };
        }
        self.tail = chunk;
    }

    /// What comes next goes into another segment.
    pub fn close_segment(self: *TierLog) void {
        if (!self.is_open) return;
        const log = self.log;
        const start = log.end - block_bytes;
        self.segments()[self.history.count() - 1].end_offset = @intCast(log.at - start);
        if (log.at < log.end) log.header_at(log.at).length = record.length_end;
        log.at = log.end;
        log.full = log.end;
        self.is_open = false;
    }

    /// For `Log`: everything is processed, and it gives its last chunk back.
    pub fn left(self: *TierLog) void {
        assert(self.is_attached and self.linked_count == self.history.count());
        self.close_segment();
        self.tail = null;
    }

    fn detach(self: *TierLog) void {
        assert(self.is_attached and !self.is_open);
        self.is_attached = false;
        self.linked_sqn = self.log.next_sqn;
    }

    fn attach(self: *TierLog) void {
        assert(!self.is_open and self.linked_count == self.history.count());
        const log = self.log;
        self.is_attached = true;
        self.linked_sqn = no_limit;
        log.end = if (self.tail) |tail| (@as(u64, tail) + 1) * block_bytes else 0;
        log.at = log.end;
        log.full = log.end;
    }

    /// Gives an assembled message its place in the order.
    pub fn commit(self: *TierLog, extent: Extent, meta: record.Meta) error{NoMemory}!u64 {
        const sqn = try self.log.commit(extent, meta);
        if (self.is_attached) return sqn;
        // It is read from the file when its turn comes.
        self.log.abort(extent);
        self.has_unplaced = true;
        return sqn;
    }

    /// Gives a message its place that lies in files and nowhere else (`Loose`).
    pub fn commit_loose(
        self: *TierLog,
        loose: *Loose,
        meta: record.Meta,
    ) error{NoMemory}!u64 {
        assert(loose.written == loose.length);
        const log = self.log;
        if (self.is_attached) {
            // The program has to come to it by way of the files.
            self.close_segment();
            self.detach();
        }
        if (log.end - log.at < record.header_bytes or !self.is_open) {
            if (!self.open_segment()) return error.NoMemory;
        }
        const sqn = log.next_sqn;
        var header = Log.make_header(meta, loose.length, sqn);
        try self.recorder.note(meta.stream, sqn);
        header.check = loose.check_with(&header);
        if (!self.write(loose.place, head_bytes, std.mem.asBytes(&header))) return error.NoMemory;
        const reference = log.header_at(log.at);
        reference.* = Log.make_header(meta, record.length_reference, sqn);
        reference.msg_no = 0;
        reference.time_ms = @bitCast(loose.place);
        reference.check = record.check_of_reference(reference);
        self.has_unplaced = true;
        log.at += record.header_bytes;
        log.next_sqn = sqn + 1;
        return sqn;
    }

    /// A large message that comes piece by piece and lies in no memory.
    pub const Loose = struct {
        place: Place,
        length: u32,
        written: u32 = 0,
        crc: u32,

        fn check_with(self: *const Loose, header: *const RecordHeader) u32 {
            const padded = record.record_bytes(self.length) - record.header_bytes;
            const zeros: [8]u8 = @splat(0);
            const crc = crc32c.update(self.crc, zeros[0..@intCast(padded - self.length)]);
            return record.check_from(crc, header);
        }
    };

    pub fn begin_loose(self: *TierLog, length: u32) error{NoMemory}!Loose {
        const bytes = head_bytes + record.record_bytes(length);
        const count: u32 = @intCast((bytes + block_bytes - 1) / block_bytes);
        const sqn = self.log.next_sqn;
        const place = try self.recorder.take_blocks(count, sqn) orelse return error.NoMemory;
        const header = self.recorder.block_header(.message, place, count, sqn);
        if (!self.write(place, 0, std.mem.asBytes(&header))) return error.NoMemory;
        return .{ .place = place, .length = length, .crc = crc32c.initial };
    }

    pub fn add_loose(self: *TierLog, loose: *Loose, bytes: []const u8) error{NoMemory}!void {
        assert(bytes.len <= loose.length - loose.written);
        const at = @as(u64, head_bytes) + record.header_bytes + loose.written;
        if (!self.write(loose.place, at, bytes)) return error.NoMemory;
        loose.crc = crc32c.update(loose.crc, bytes);
        loose.written += @intCast(bytes.len);
    }

    fn write(self: *TierLog, place: Place, offset: u64, bytes: []const u8) bool {
        const fd = self.history.files.fd_of(place.file_no) orelse return false;
        return write_all(fd, place.offset() + offset, bytes);
    }

    // ---------------------------------------------------------------- visible to the program

    /// The program may be given what lies below `limit`.
    pub fn show(self: *TierLog, limit: u64) void {
        assert(limit <= self.log.next_sqn);
        if (limit > self.show_limit) self.show_limit = limit;
        self.publish_visible();
    }

    fn publish_visible(self: *TierLog) void {
        const visible = @min(self.show_limit, self.linked_sqn);
        const log = self.log;
        if (visible <= log.ordered.raw) return;
        // First: the program looks for its mark as soon as it sees a message.
        if (log.latency) |l| if (visible > l.next) l.mark(visible);
        log.ordered.store(visible, .release);
    }

    /// Lays segments before the program, as far as there is memory. The work count.
    pub fn feed(self: *TierLog) u32 {
        if (self.is_attached) return 0;
        const before = self.linked_sqn;
        var n: u32 = 0;
        while (n < segments_per_feed and !self.is_attached) : (n += 1) {
            if (!self.feed_one()) break;
        }
        self.publish_visible();
        return n + @intFromBool(self.linked_sqn != before);
    }

    fn feed_one(self: *TierLog) bool {
        const i = self.linked_count;
        if (i == self.history.count()) {
            self.attach();
            return true;
        }
        if (self.is_open and i + 1 == self.history.count()) {
            if (!self.has_unplaced) return self.link_open();
            self.close_segment();
        }
        return self.link_closed(i);
    }

    /// The program has come so far that it reads where is appended.
    fn link_open(self: *TierLog) bool {
        const fresh = self.log.pool.take(1) orelse return false;
        const s = &self.segments()[self.linked_count];
        s.chunk = self.spare;
        self.spare = fresh;
        const offset = @as(u64, s.chunk) * block_bytes + head_bytes;
        self.link_chunk(s.chunk, offset, s.base_sqn);
        self.linked_count += 1;
        self.is_attached = true;
        self.linked_sqn = no_limit;
        return true;
    }

    /// Some memory is left to messages in assembly, unless the program has nothing else to do.
    fn may_feed(self: *const TierLog) bool {
        const pool = self.log.pool;
        if (pool.free_count() > pool.chunk_count / 4) return true;
        return self.log.processed_next() >= self.linked_sqn;
    }

    fn link_closed(self: *TierLog, i: u32) bool {
        const s = &self.segments()[i];
        const log = self.log;
        if (self.placing == null) {
            if (s.end_offset == head_bytes) {
                self.linked_count += 1;
                return true;
            }
            if (!self.may_feed()) return false;
            const chunk = log.pool.take(1) orelse return false;
            if (!self.map(s.place, chunk, 1)) {
                log.pool.release(chunk, 1);
                return false;
            }
            s.chunk = chunk;
            const sqn = if (self.tail == null) @max(s.base_sqn, self.from_sqn) else s.base_sqn;
            const offset = self.offset_in(s, sqn);
            self.link_chunk(chunk, @as(u64, chunk) * block_bytes + offset, sqn);
            self.placing = .{ .offset = offset, .sqn = sqn };
        }
        const is_whole = self.place_messages(s);
        self.linked_sqn = self.placing.?.sqn;
        if (!is_whole) return false;
        self.placing = null;
        self.linked_count += 1;
        return true;
    }

    fn offset_in(self: *TierLog, s: *const Segment, sqn: u64) u32 {
        var offset: u32 = head_bytes;
        for (s.base_sqn..sqn) |_| offset += History.span_of(self.mapped(s, offset));
        return offset;
    }

    fn mapped(self: *TierLog, s: *const Segment, offset: u32) *RecordHeader {
        return self.log.header_at(@as(u64, s.chunk) * block_bytes + offset);
    }

    /// Records become visible up to the first whose message finds no room.
    fn place_messages(self: *TierLog, s: *const Segment) bool {
        const p = &self.placing.?;
        while (p.offset < s.end_offset) {
            const header = self.mapped(s, p.offset);
            assert(header.sqn == p.sqn);
            if (header.length == record.length_reference) {
                if (!self.place_message(header)) return false;
            }
            p.offset += History.span_of(header);
            p.sqn += 1;
        }
        return true;
    }

    fn place_message(self: *TierLog, reference: *RecordHeader) bool {
        const place: Place = @bitCast(reference.time_ms);
        var header: RecordHeader = undefined;
        const bytes_of = std.mem.asBytes(&header);
        if (!self.history.files.read(place, head_bytes, bytes_of)) return false;
        const bytes = head_bytes + record.record_bytes(header.length);
        const count: u32 = @intCast((bytes + block_bytes - 1) / block_bytes);
        const pool = self.log.pool;
        const first = pool.take(count) orelse return false;
        if (!self.map(place, first, count)) {
            pool.release(first, count);
            return false;
        }
        reference.msg_no = @as(u64, first) * block_bytes + head_bytes;
        return true;
    }

    /// Private: where a message lies in this process is written into its reference.
    fn map(self: *TierLog, place: Place, first: u32, count: u32) bool {
        const fd = self.history.files.fd_of(place.file_no) orelse return false;
        const bytes = @as(u64, count) * block_bytes;
        const at: [*]align(limits.page_bytes) u8 =
            @alignCast(self.log.pool.base + @as(u64, first) * block_bytes);
        region_file.map_file_at(at, bytes, .private, fd, place.offset()) catch return false;
        region_file.populate_read(.{ .base = at, .bytes = bytes });
        return true;
    }

    // ---------------------------------------------------------------- connections

    /// What connection a stream's sender has from the next entry on. False: no memory.
    pub inline fn set_connection(self: *TierLog, stream: u32, connection: u64) bool {
        return self.connected[stream] == connection or self.change_connection(stream, connection);
    }

    noinline fn change_connection(self: *TierLog, stream: u32, connection: u64) bool {
        assert(connection != 0);
        self.connections.append(self.gpa, .{
            .first_sqn = self.log.next_sqn,
            .stream = stream,
            .connection = connection,
        }) catch return false;
        self.connected[stream] = connection;
        self.recorder.streams[stream].connection = connection;
        self.recorder.noted[stream] = 0;
        return true;
    }

    /// Of the entry `sqn`, which is one of this stream.
    pub fn connection_at(self: *const TierLog, stream: u32, sqn: u64) ?u64 {
        var i = self.connections.items.len;
        while (i > 0) {
            i -= 1;
            const c = &self.connections.items[i];
            if (c.stream == stream and c.first_sqn <= sqn) return c.connection;
        }
        return null;
    }

    // ---------------------------------------------------------------- truncation

    /// One past the last sqn that the program was given.
    pub fn handed(self: *const TierLog) u64 {
        return self.gate.handed.load(.monotonic);
    }

    /// Takes everything from `sqn` on back, here and in the files.
    pub fn truncate(self: *TierLog, sqn: u64) Truncated {
        const log = self.log;
        if (sqn >= log.next_sqn) {
            self.drop_eras(sqn + 1);
            self.recorder.epoch = self.current_epoch() orelse .{};
            return .done;
        }
        if (!self.gate.close()) return .busy;
        defer self.gate.open();
        if (sqn < self.handed()) return .delivered;
        self.close_segment();
        const i = self.history.find(sqn).?;
        const cut = self.offset_of(i, sqn) orelse return .busy;
        self.cut_files(sqn, i, cut);
        self.cut_memory(sqn, i, cut);
        self.drop_eras(sqn);
        self.recorder.epoch = self.current_epoch() orelse .{};
        self.history.forget(i + 1);
        self.segments()[i].end_offset = cut;
        log.next_sqn = sqn;
        self.show_limit = @min(self.show_limit, sqn);
        if (log.ordered.raw > sqn) log.ordered.store(sqn, .release);
        self.settle(i);
        return .done;
    }

    fn offset_of(self: *TierLog, i: u32, sqn: u64) ?u32 {
        if (self.segments()[i].base_sqn == sqn) return head_bytes;
        const l = self.history.locate(sqn) orelse return null;
        assert(l.segment == i);
        return l.offset;
    }

    /// Memory of what goes: chunks that the program would come to, and large messages.
    fn cut_memory(self: *TierLog, sqn: u64, i: u32, cut: u32) void {
        const pool = self.log.pool;
        const is_placing = self.placing != null;
        const in_memory = self.linked_count + @intFromBool(is_placing);
        var j = in_memory;
        while (j > i) {
            j -= 1;
            const s = &self.segments()[j];
            const placed = if (is_placing and j == self.linked_count)
                self.placing.?.offset
            else
                s.end_offset;
            const begin = if (j == i) cut else head_bytes;
            // One without records was passed over.
            if (s.chunk == Segment.no_chunk) continue;
            if (placed > begin) self.free_large(s, begin, placed);
            if (j > i) pool.release(s.chunk, 1);
        }
        if (in_memory <= i) return;
        const s = &self.segments()[i];
        if (s.chunk == Segment.no_chunk) return;
        self.mapped(s, cut).length = record.length_end;
        if (self.placing) |*p| {
            if (self.linked_count > i or p.sqn >= sqn) self.placing = null;
            if (self.linked_count == i and self.placing == null) self.linked_count += 1;
        }
    }

    fn free_large(self: *TierLog, s: *const Segment, begin: u32, end: u32) void {
        var offset = begin;
        while (offset < end) {
            const header = self.mapped(s, offset);
            if (header.length == record.length_end) return;
            if (header.length == record.length_reference and header.msg_no != 0) {
                const length = self.log.header_at(header.msg_no).length;
                self.log.pool.free(header.msg_no, record.record_bytes(length));
            }
            offset += History.span_of(header);
        }
    }

    /// After a truncation segment `i` is the last one, and closed.
    fn settle(self: *TierLog, i: u32) void {
        const log = self.log;
        self.has_unplaced = false;
        self.linked_count = @min(self.linked_count, i + 1);
        self.linked_sqn = @min(self.linked_sqn, log.next_sqn);
        if (self.linked_count == i + 1) {
            const chunk = self.segments()[i].chunk;
            // Without one everything below was processed, and the memory given back.
            self.tail = if (chunk == Segment.no_chunk) null else chunk;
            self.attach();
            return;
        }
        self.is_attached = false;
        log.end = (@as(u64, self.spare) + 1) * block_bytes;
        log.at = log.end;
        log.full = log.end;
    }

    fn cut_files(self: *TierLog, sqn: u64, i: u32, cut: u32) void {
        const zeros: [head_bytes]u8 = @splat(0);
        var j = self.history.count();
        while (j > i + 1) {
            j -= 1;
            self.store(self.segments()[j].place, 0, &zeros);
        }
        const mark = record.length_end;
        const place = self.segments()[i].place;
        if (cut < block_bytes) self.store(place, cut, std.mem.asBytes(&mark));
        self.cut_connections(sqn);
        var file_no = self.recorder.current.?.file_no;
        while (true) : (file_no -= 1) {
            self.cut_table(sqn, file_no);
            self.force_file(file_no);
            if (file_no <= place.file_no) break;
        }
    }

    fn cut_connections(self: *TierLog, sqn: u64) void {
        while (self.connections.items.len > 0) {
            const last = self.connections.items[self.connections.items.len - 1];
            if (last.first_sqn < sqn) break;
            _ = self.connections.pop();
            const before = self.connection_at(last.stream, no_limit) orelse 0;
            self.connected[last.stream] = before;
            self.recorder.streams[last.stream].connection = before;
            self.recorder.noted[last.stream] = 0;
        }
    }

    /// What the table of a file says of streams from `sqn` on, which comes last.
    fn cut_table(self: *TierLog, sqn: u64, file_no: u32) void {
        const zeros: [@sizeOf(StreamEntry)]u8 = @splat(0);
        const place: Place = .{ .file_no = file_no, .block = 0 };
        const current = &self.recorder.current.?;
        const is_current = current.file_no == file_no;
        var n = if (is_current) current.entries else self.entries_in(place);
        while (n > 0) {
            var entry: StreamEntry = undefined;
            const at = record_file.table_offset + (n - 1) * @sizeOf(StreamEntry);
            if (!self.history.files.read(place, at, std.mem.asBytes(&entry))) return;
            if (entry.first_sqn < sqn) break;
            self.store(place, at, &zeros);
            n -= 1;
            if (!is_current) continue;
            current.entries = n;
            if (entry.id < self.recorder.stream_count) self.recorder.noted[entry.id] = 0;
        }
    }

    fn entries_in(self: *TierLog, place: Place) u32 {
        var n: u32 = 0;
        while (n < record_file.entries_max) : (n += 1) {
            var entry: StreamEntry = undefined;
            const at = record_file.table_offset + n * @sizeOf(StreamEntry);
            if (!self.history.files.read(place, at, std.mem.asBytes(&entry))) break;
            if (entry.is_unused()) break;
        }
        return n;
    }

    fn store(self: *TierLog, place: Place, offset: u64, bytes: []const u8) void {
        if (self.stores_left == 0) return;
        if (self.stores_left != no_limit) self.stores_left -= 1;
        _ = self.write(place, offset, bytes);
    }

    fn force_file(self: *TierLog, file_no: u32) void {
        const fd = self.history.files.fd_of(file_no) orelse return;
        _ = linux.fdatasync(fd);
    }

    /// The log is on the disk. False: it is not.
    pub fn force(self: *TierLog, from_sqn: u64) bool {
        const first = self.history.find(from_sqn) orelse 0;
        if (self.history.count() == 0) return true;
        const current = self.recorder.current.?;
        for (self.segments()[first].place.file_no..current.file_no + 1) |no| {
            const fd = self.history.files.fd_of(@intCast(no)) orelse return false;
            if (linux.errno(linux.fdatasync(fd)) != .SUCCESS) return false;
        }
        return true;
    }
};

const crc32c = @import("../crc32c.zig");

fn write_all(fd: i32, offset: u64, bytes: []const u8) bool {
    var done: usize = 0;
    while (done < bytes.len) {
        const rest = bytes[done..];
        const result = linux.pwrite(fd, rest.ptr, rest.len, @intCast(offset + done));
        switch (linux.errno(result)) {
            .SUCCESS => done += result,
            .INTR => continue,
            else => return false,
        }
    }
    return true;
}
