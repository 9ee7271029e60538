//! What a member of a tier decides over: the real log, stage, record files and disk (the `Host` of
//! `tier/member.zig`). Everything here runs where the receive agent runs.
//!
//!     stage -> log:    order (leader), append_staged, append_fill (follower)
//!     log -> program:  show           log -> senders:  committed
//!     log -> members:  entry_at, read
//!
//! Long because it is one host with its doors; what the log itself does lies in `order`.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const session_limits = @import("../session/limits.zig");
const assert = @import("../assert.zig").assert;
const record = @import("../order/record.zig");
const record_file = @import("../order/record_file.zig");
const tier_log_file = @import("../order/tier_log.zig");
const epoch_file = @import("../tier/epoch.zig");
const tier_limits = @import("../tier/limits.zig");
const results_file = @import("../tier/results.zig");
const stage_file = @import("../tier/stage.zig");
const state_file = @import("../tier/state_file.zig");
const challenge = @import("../session/challenge.zig");
const stream_file = @import("../session/stream.zig");
const wire = @import("../wire/tier_frame.zig");
const Entry = @import("../tier/entry.zig").Entry;
const Log = @import("../order/log.zig").Log;
const Receiver = @import("../session/receiver.zig").Receiver;

const Durable = epoch_file.Durable;
const Epoch = epoch_file.Epoch;
const Era = epoch_file.Era;
const Stage = stage_file.Stage;
const StateFile = state_file.StateFile;
const Stream = stream_file.Stream;
const StreamEntry = record_file.StreamEntry;
const TierResults = @import("tier_results.zig").TierResults;
const TierLog = tier_log_file.TierLog;
const Truncated = tier_log_file.Truncated;
const block_bytes = limits.record_block_bytes;

/// Messages of one stream in a turn of the leader.
const turn_max = 64;
/// Entries told to senders as committed in one go.
const commits_per_step = 16 * 1024;
const lanes_max = session_limits.streams_max;
const lookup_slots = 256;
const ring_mask = tier_limits.ring_entries - 1;
const never = std.math.maxInt(u64);
/// Segments that are looked through for where a stream stood before a truncation.
const look_back_segments = 4096;

/// An entry that was appended not long ago, and where it lies.
const Recent = struct {
    sqn: u64 = never,
    entry: Entry = undefined,
    stream: u32 = 0,
    segment: u32 = 0,
    offset: u32 = 0,
};

comptime {
    assert(@sizeOf(Recent) == 64);
    assert(std.math.isPowerOfTwo(tier_limits.ring_entries));
}

pub const Appended = enum { ok, missing, gone, no_memory };
pub const Filled = enum { more, ok, no_memory, bad };

/// A message that comes from another member, piece by piece, for the entry at `next()`.
const Filling = struct {
    is_on: bool = false,
    sqn: u64 = 0,
    /// What the first piece said it is of.
    entry: Entry = std.mem.zeroes(Entry),
    have: u32 = 0,
    loose: ?TierLog.Loose = null,
};

pub const Options = struct {
    /// Bytes that staged messages may take of the pool of early datagrams.
    stage_bytes: u64,
    /// `TierRmsLimitCount`.
    limit_count: u64,
    is_observer: bool,
    /// First sqn that the program is given.
    from_sqn: u64,
    found: ?*const @import("../order/recovery.zig").Found,
    folder: ?*const @import("../window/files.zig").Folder,
    /// Whether the record is forced before it is acknowledged (`RecordSync: "commit"`).
    is_forced: bool = false,
};

pub const TierHost = struct {
    gpa: std.mem.Allocator,
    log: *Log,
    tier_log: TierLog,
    stage: Stage,
    receiver: *Receiver,
    state: StateFile,
    is_forced: bool,
    ring: []Recent,
    lookup: [lookup_slots]u32 = @splat(0),
    filling: Filling = .{},
    buffer: []u8,
    /// Lane whose turn it is.
    turn: u32 = 0,
    /// Senders were told up to here; and what is committed.
    told_sqn: u64 = 0,
    committed_sqn: u64 = 0,
    /// On the disk, as far as it was forced here.
    forced_sqn: u64 = 0,
    /// `RecordSync: "commit"`: what the force that is under way covers.
    asked_sqn: u64 = 0,
    /// What `durable_next` said last.
    durable_sqn: u64 = 0,
    now_ns: u64 = 0,
    /// A file of the log could not be read.
    read_failures: u64 = 0,
    tx: ?TxAcked = null,
    /// Transactions that the program makes (`SyncMode` 1 and 2); null: it is given messages alone.
    results: ?*TierResults = null,

    /// Who wants to hear what receivers acknowledged of the tier's own streams.
    pub const TxAcked = struct {
        context: *anyopaque,
        call: *const fn (context: *anyopaque, positions: []const wire.TxPosition) void,
    };

    /// `self` stays where it is. `log` is recorded and begins at `from_sqn`; `holding` is the pool
    /// of early datagrams. The state file is the host's from now on.
    pub fn init(
        self: *TierHost,
        gpa: std.mem.Allocator,
        log: *Log,
        receiver: *Receiver,
        holding: *@import("../window/pool.zig").ChunkPool,
        state: StateFile,
        o: Options,
    ) !void {
        const ring = try gpa.alloc(Recent, tier_limits.ring_entries);
        errdefer gpa.free(ring);
        @memset(ring, .{});
        const buffer = try gpa.alloc(u8, stage_file.assembled_bytes_max);
        errdefer gpa.free(buffer);
        var stage: Stage = try .init(gpa, log, holding, o.stage_bytes, o.limit_count);
        errdefer stage.deinit(gpa);
        stage.is_observer = o.is_observer;
        self.* = .{
            .gpa = gpa,
            .log = log,
            .tier_log = undefined,
            .stage = stage,
            .receiver = receiver,
            .state = state,
            .is_forced = o.is_forced,
            .ring = ring,
            .buffer = buffer,
        };
        try self.tier_log.init(gpa, log, .{
            .folder = o.folder,
            .found = o.found,
            .from_sqn = o.from_sqn,
        });
        // What was recovered was forced.
        if (o.is_forced) self.forced_sqn = log.next();
        try self.tier_log.eras.ensureTotalCapacity(gpa, tier_limits.eras_max + 1);
        receiver.lanes[0].stage = &self.stage;
    }

    pub fn deinit(self: *TierHost) void {
        for (self.receiver.active()) |*s| s.abort_extent(&self.receiver.lanes[0]);
        self.receiver.lanes[0].stage = null;
        self.stage.deinit(self.gpa);
        self.tier_log.deinit();
        self.gpa.free(self.ring);
        self.gpa.free(self.buffer);
        self.state.close();
        self.* = undefined;
    }

    /// Each step of the agent. The work count.
    pub fn step(self: *TierHost, now_ns: u64) u32 {
        self.now_ns = now_ns;
        _ = self.note_memory();
        if (self.is_forced) self.look_at_force();
        self.tell_committed();
        return self.tier_log.feed();
    }

    /// Recording stopped: what is acknowledged from now on is lost with the process, so that the
    /// next start is blank. False: even that can't be written.
    fn note_memory(self: *TierHost) bool {
        if (!self.is_in_memory()) return true;
        return self.state.stop_recording();
    }

    fn is_in_memory(self: *const TierHost) bool {
        return self.tier_log.recorder.memory.items.len > 0;
    }

    /// One force after the other, each for all that was appended before it.
    fn look_at_force(self: *TierHost) void {
        const r = self.tier_log.recorder;
        if (self.is_in_memory() or r.broken_errno.load(.acquire) != 0 or !r.is_forced()) return;
        self.forced_sqn = @max(self.forced_sqn, self.asked_sqn);
        if (self.forced_sqn == self.next()) return;
        self.asked_sqn = self.next();
        r.ask_force();
    }

    /// A clean end: all is on the disk, and the file says so.
    pub fn close_clean(self: *TierHost) void {
        if (self.is_in_memory() or !self.force()) return;
        _ = self.state.close_clean(self.next());
    }

    // ---------------------------------------------------------------- log

    pub fn next(self: *const TierHost) u64 {
        return self.log.next();
    }

    pub fn eras(self: *const TierHost) []const Era {
        return self.tier_log.eras.items;
    }

    pub fn begin_era(self: *TierHost, epoch: Epoch) void {
        const is_begun = self.tier_log.begin_era(epoch);
        assert(is_begun); // Room for all eras was reserved.
    }

    /// What its program was given, or made.
    pub fn handed(self: *const TierHost) u64 {
        const given = self.tier_log.handed();
        return if (self.results) |r| r.logic.known_end(given) else given;
    }

    pub fn show(self: *TierHost, limit: u64) void {
        // With transactions the program sees what was looked through (`look_at_results`).
        if (self.results == null) self.tier_log.show(limit);
    }

    /// After each step of the member. The work count.
    pub fn look_at_results(self: *TierHost, r: *TierResults, seen: results_file.Seen) u32 {
        const work = r.logic.step(r, seen);
        self.tier_log.show(r.logic.message_end);
        self.tell_committed();
        return work;
    }

    fn find_stream(self: *TierHost, e: *const Entry) ?*Stream {
        const key: stream_file.Key = .{
            .tier = e.is_tier != 0,
            .source = e.source,
            .transport = e.transport,
        };
        const hash = (@as(u32, e.source) *% 31 +% e.transport +% e.is_tier *% 7) % lookup_slots;
        const known = self.lookup[hash];
        const streams = self.receiver.active();
        if (known < streams.len and streams[known].key.eql(key)) return &streams[known];
        const s = self.receiver.find(key) orelse return null;
        self.lookup[hash] = s.id;
        return s;
    }

    /// Completes the entry at `next()` from the stage.
    pub fn append_staged(self: *TierHost, e: *const Entry) Appended {
        const s = self.find_stream(e) orelse return .missing;
        if (s.connection < e.connection) return .missing;
        if (s.connection > e.connection) return .gone;
        // The leader has passed over what is in front of it.
        self.stage.drop_below(s.id, e.msg_no);
        // Nobody else sends it: what has not come with the entry is pulled at once.
        if (results_file.is_result(e) and self.stage.peek(s.id) == null) return .gone;
        const staged = self.stage.peek(s.id) orelse {
            return if (s.next.msg <= e.msg_no) .missing else .gone;
        };
        if (staged.msg_no != e.msg_no or staged.payload.len != e.length) return .gone;
        self.put_staged(s, e, &staged) catch return .no_memory;
        self.filling = .{}; // Another member's bytes of it, if some have come.
        return .ok;
    }

    /// Its program makes transactions.
    pub fn pushes(self: *const TierHost) bool {
        return self.results != null;
    }

    /// Bytes of a transaction, in front of its entry. What is not staged is pulled.
    pub fn stage_result(self: *TierHost, e: *const Entry, bytes: []const u8) void {
        const r = self.results orelse return;
        const lane = &self.stage.lanes[r.stream];
        if (e.msg_no < lane.log_next or e.msg_no < r.staged_no) return;
        self.stage.put(r.stream, e.msg_no, e.msg_arg, e.tx_arg, bytes) catch return;
        r.staged_no = e.msg_no + 1;
    }

    /// Leader: a transaction of its own program.
    pub fn append_made(
        self: *TierHost,
        stream: u32,
        e: *const Entry,
        bytes: []const u8,
    ) error{NoMemory}!void {
        const s = &self.receiver.streams[stream];
        assert(bytes.len == e.length);
        if (e.length <= self.buffer.len) return self.put_bytes(s, e, bytes);
        var loose = try self.tier_log.begin_loose(e.length);
        try self.tier_log.add_loose(&loose, bytes);
        _ = try self.tier_log.commit_loose(&loose, try self.meta_of(s, e));
        self.note_appended(s, e, record.header_bytes);
    }

    fn put_staged(
        self: *TierHost,
        s: *Stream,
        e: *const Entry,
        staged: *const stage_file.Staged,
    ) error{NoMemory}!void {
        const meta = try self.meta_of(s, e);
        if (staged.extent) |extent| {
            _ = try self.tier_log.commit(extent, meta);
            self.note_appended(s, e, record.header_bytes);
        } else {
            _ = try self.log.append(meta, staged.payload);
            self.note_appended(s, e, record.record_bytes(e.length));
        }
        self.stage.took(s.id);
    }

    fn meta_of(self: *TierHost, s: *const Stream, e: *const Entry) error{NoMemory}!record.Meta {
        if (!self.tier_log.set_connection(s.id, e.connection)) return error.NoMemory;
        return .{
            .msg_no = e.msg_no,
            .time_ms = e.time_ms,
            .stream = s.id,
            .msg_arg = e.msg_arg,
            .tx_arg = e.tx_arg,
        };
    }

    /// The last record of the log, of so many bytes in its segment, is this entry's.
    fn note_appended(self: *TierHost, s: *const Stream, e: *const Entry, bytes: u64) void {
        const sqn = self.log.next() - 1;
        self.ring[sqn & ring_mask] = .{
            .sqn = sqn,
            .entry = e.*,
            .stream = s.id,
            .segment = self.tier_log.history.count() - 1,
            .offset = @intCast((self.log.at - bytes) & (block_bytes - 1)),
        };
        const lane = &self.stage.lanes[s.id];
        lane.log_next = e.msg_no + 1;
        lane.has_log = true;
    }

    /// Payload that another member sent for the entry at `next()`.
    pub fn append_fill(self: *TierHost, e: *const Entry, offset: u32, bytes: []const u8) Filled {
        const s = self.find_stream(e) orelse return .bad;
        if (offset > e.length or bytes.len > e.length - offset) return .bad;
        const f = &self.filling;
        if (offset == 0) f.* = .{ .is_on = true, .sqn = self.next(), .entry = e.* };
        if (!f.is_on or f.sqn != self.next() or f.have != offset) return .bad;
        if (!std.meta.eql(f.entry, e.*)) return .bad;
        self.fill(s, e, bytes) catch {
            f.* = .{};
            return .no_memory;
        };
        if (f.have < e.length) return .more;
        f.* = .{};
        self.follow(s, e);
        return .ok;
    }

    fn fill(self: *TierHost, s: *Stream, e: *const Entry, bytes: []const u8) error{NoMemory}!void {
        const f = &self.filling;
        const is_last = f.have + bytes.len == e.length;
        if (e.length <= self.buffer.len) {
            if (f.have == 0 and is_last) {
                try self.put_bytes(s, e, bytes);
            } else {
                @memcpy(self.buffer[f.have..][0..bytes.len], bytes);
                if (is_last) try self.put_bytes(s, e, self.buffer[0..e.length]);
            }
            f.have += @intCast(bytes.len);
            return;
        }
        if (f.loose == null) f.loose = try self.tier_log.begin_loose(e.length);
        try self.tier_log.add_loose(&f.loose.?, bytes);
        f.have += @intCast(bytes.len);
        if (!is_last) return;
        const meta = try self.meta_of(s, e);
        _ = try self.tier_log.commit_loose(&f.loose.?, meta);
        self.note_appended(s, e, record.header_bytes);
    }

    fn put_bytes(
        self: *TierHost,
        s: *const Stream,
        e: *const Entry,
        bytes: []const u8,
    ) error{NoMemory}!void {
        const meta = try self.meta_of(s, e);
        _ = try self.log.append(meta, bytes);
        self.note_appended(s, e, record.record_bytes(e.length));
    }

    /// The log grew by what its stream's own sender did not bring here: the stream goes on behind.
    fn follow(self: *TierHost, s: *Stream, e: *const Entry) void {
        const end = e.msg_no + 1;
        self.stage.drop_below(s.id, end);
        if (s.next.msg < end) self.move_stream(s, end);
        const lane = &self.stage.lanes[s.id];
        lane.from = @max(lane.from, end);
    }

    fn move_stream(self: *TierHost, s: *Stream, msg_no: u64) void {
        const shared = &self.receiver.lanes[0];
        s.abort_extent(shared);
        s.next = .{ .msg = msg_no };
        s.has_position = true;
        s.announced = stream_file.Position.max(s.announced, s.next);
        if (s.phase == .started) self.receiver.watch(self.now_ns, s);
    }

    /// Leader: appends up to `max` staged messages, of all streams in turn.
    pub fn order(self: *TierHost, wall_ms: u64, max: u32) u32 {
        var n: u32 = if (self.results) |r| r.order(wall_ms, max) else 0;
        while (n < max) {
            const id = self.next_ready() orelse break;
            const s = &self.receiver.streams[id];
            const most = @min(turn_max, max - n);
            for (0..most) |_| {
                const staged = self.stage.peek(id) orelse break;
                const e: Entry = .{
                    .connection = s.connection,
                    .msg_no = staged.msg_no,
                    .time_ms = wall_ms,
                    .length = @intCast(staged.payload.len),
                    .source = s.key.source,
                    .transport = s.key.transport,
                    .tx_arg = staged.tx_arg,
                    .msg_arg = staged.msg_arg,
                    .is_tier = @intFromBool(s.key.tier),
                };
                self.put_staged(s, &e, &staged) catch return n;
                n += 1;
            }
        }
        return n;
    }

    /// The next lane that has messages; the turn moves behind it.
    fn next_ready(self: *TierHost) ?u32 {
        const words = self.stage.ready.len;
        const start = self.turn / 64;
        for (0..words + 1) |i| {
            const at = (start + i) % words;
            var word = self.stage.ready[at];
            if (i == 0) word &= @as(u64, never) << @intCast(self.turn % 64);
            if (i == words) word &= ~(@as(u64, never) << @intCast(self.turn % 64));
            if (word == 0) continue;
            const id: u32 = @intCast(at * 64 + @ctz(word));
            self.turn = (id + 1) % lanes_max;
            return id;
        }
        return null;
    }

    /// Header of an entry of the log.
    pub fn entry_at(self: *TierHost, sqn: u64) Entry {
        assert(sqn < self.next());
        const recent = &self.ring[sqn & ring_mask];
        if (recent.sqn == sqn) return recent.entry;
        const l = self.tier_log.history.locate(sqn) orelse {
            self.read_failures += 1;
            return std.mem.zeroes(Entry); // Of no stream: refused by whoever gets it.
        };
        const h = &l.header;
        const stream = &self.tier_log.recorder.streams[h.stream];
        return .{
            .connection = self.tier_log.connection_at(h.stream, sqn) orelse 0,
            .msg_no = h.msg_no,
            .time_ms = h.time_ms,
            .length = h.length,
            .source = stream.source,
            .transport = stream.transport,
            .tx_arg = h.tx_arg,
            .msg_arg = h.msg_arg,
            .is_tier = stream.is_tier,
        };
    }

    /// Payload of an entry of the log from `offset` on, as much as fits.
    pub fn read(self: *TierHost, sqn: u64, offset: u32, out: []u8) u32 {
        assert(sqn < self.next());
        const history = &self.tier_log.history;
        const recent = &self.ring[sqn & ring_mask];
        const located = if (recent.sqn == sqn)
            history.locate_at(sqn, recent.segment, recent.offset)
        else
            history.locate(sqn);
        const l = located orelse {
            self.read_failures += 1;
            return 0;
        };
        return history.read(&l, offset, out);
    }

    // ---------------------------------------------------------------- truncation

    pub fn truncate(self: *TierHost, sqn: u64) Truncated {
        const end = self.next();
        if (sqn >= end) return self.tier_log.truncate(sqn);
        if (sqn < self.handed()) return .delivered;
        if (!self.state.lower(sqn)) return .busy;
        var first_removed: [lanes_max]u64 = @splat(never);
        if (!self.note_removed(sqn, end, &first_removed)) return .busy;
        const result = self.tier_log.truncate(sqn);
        if (result != .done) return result;
        self.filling = .{};
        self.forced_sqn = @min(self.forced_sqn, sqn);
        self.asked_sqn = @min(self.asked_sqn, sqn);
        self.durable_sqn = @min(self.durable_sqn, sqn);
        self.rewind_streams(&first_removed);
        return .done;
    }

    fn note_removed(self: *TierHost, from: u64, end: u64, first: *[lanes_max]u64) bool {
        for (from..end) |sqn| {
            const recent = &self.ring[sqn & ring_mask];
            if (recent.sqn == sqn) {
                first[recent.stream] = @min(first[recent.stream], recent.entry.msg_no);
                continue;
            }
            const l = self.tier_log.history.locate(sqn) orelse return false;
            first[l.header.stream] = @min(first[l.header.stream], l.header.msg_no);
        }
        return true;
    }

    /// The next number of a stream is its last one in the log + 1.
    fn rewind_streams(self: *TierHost, first_removed: *const [lanes_max]u64) void {
        var last: [lanes_max]u64 = @splat(never);
        const is_whole = self.find_last(first_removed, &last);
        for (self.receiver.active()) |*s| {
            if (first_removed[s.id] == never) continue;
            const lane = &self.stage.lanes[s.id];
            const is_known = last[s.id] != never;
            if (!is_known and is_whole) lane.has_log = false;
            lane.log_next = if (is_known) last[s.id] + 1 else first_removed[s.id];
            self.rewind_stream(s, lane.log_next);
        }
    }

    /// By stream: its last number in the log, for those asked for. True: all was looked through.
    fn find_last(
        self: *TierHost,
        wanted: *const [lanes_max]u64,
        last: *[lanes_max]u64,
    ) bool {
        var left: u32 = 0;
        for (wanted) |w| left += @intFromBool(w != never);
        const history = &self.tier_log.history;
        var segment = history.count();
        var end = self.next();
        for (0..look_back_segments) |_| {
            if (segment == 0 or left == 0) return true;
            segment -= 1;
            const base = history.segments.items[segment].base_sqn;
            // From its begin on: the last one that is seen is the last one.
            var fresh: [lanes_max]bool = @splat(false);
            for (base..end) |sqn| {
                const l = history.locate(sqn) orelse return false;
                const id = l.header.stream;
                if (wanted[id] == never or last[id] != never and !fresh[id]) continue;
                if (last[id] == never) left -= 1;
                fresh[id] = true;
                last[id] = l.header.msg_no;
            }
            end = base;
        }
        return false;
    }

    /// The stream goes on from `msg_no`; what was taken beyond comes from its sender again.
    fn rewind_stream(self: *TierHost, s: *Stream, msg_no: u64) void {
        const shared = &self.receiver.lanes[0];
        self.stage.discard(s.id);
        s.detector.clear(shared.holding);
        self.stage.lanes[s.id].from = msg_no;
        self.move_stream(s, msg_no);
    }

    /// After catching up, or another role: stages begin where the log ends.
    pub fn retire_stage(self: *TierHost) void {
        if (self.results) |r| {
            // Another leader may give their numbers to other ones.
            self.stage.discard(r.stream);
            r.staged_no = 0;
        }
        for (self.receiver.active()) |*s| {
            const lane = &self.stage.lanes[s.id];
            if (!lane.has_log) continue;
            const at = lane.log_next;
            self.stage.drop_below(s.id, at);
            if (s.next.msg < at) {
                lane.from = at;
                self.move_stream(s, at);
            } else if (lane.from > at) {
                self.rewind_stream(s, at);
            } else lane.from = at;
        }
    }

    // ---------------------------------------------------------------- senders

    /// Everything below is committed: senders may be told.
    pub fn committed(self: *TierHost, limit: u64) void {
        assert(limit <= self.next());
        self.committed_sqn = @max(self.committed_sqn, limit);
        self.tell_committed();
    }

    fn tell_committed(self: *TierHost) void {
        const limit = if (self.results) |r| r.logic.told else self.committed_sqn;
        if (self.told_sqn >= limit) return;
        const is_far = limit - self.told_sqn > tier_limits.ring_entries / 2;
        if (is_far and limit == self.next()) return self.tell_all();
        const end = @min(limit, self.told_sqn + commits_per_step);
        while (self.told_sqn < end) : (self.told_sqn += 1) {
            const recent = &self.ring[self.told_sqn & ring_mask];
            if (recent.sqn == self.told_sqn) {
                self.tell_stream(recent.stream, recent.entry.msg_no + 1);
                continue;
            }
            const l = self.tier_log.history.locate(self.told_sqn) orelse return;
            self.tell_stream(l.header.stream, l.header.msg_no + 1);
        }
    }

    inline fn tell_stream(self: *TierHost, id: u32, msg_next: u64) void {
        if (id >= self.receiver.count) return;
        const s = &self.receiver.streams[id];
        if (!self.stage.note_committed(s, msg_next)) return;
        s.ack_now = true;
        self.receiver.dirty = true;
    }

    fn tell_all(self: *TierHost) void {
        for (self.receiver.active()) |*s| {
            const lane = &self.stage.lanes[s.id];
            if (lane.has_log) self.tell_stream(s.id, lane.log_next);
        }
        self.told_sqn = self.next();
    }

    pub fn tx_acked(self: *TierHost, positions: []const wire.TxPosition) void {
        if (self.tx) |tx| tx.call(tx.context, positions);
    }

    // ---------------------------------------------------------------- streams

    pub fn knows_stream(self: *TierHost, e: *const Entry) bool {
        return self.find_stream(e) != null;
    }

    /// What another member has to know of the entry's stream.
    pub fn describe(self: *TierHost, e: *const Entry, out: *StreamEntry) void {
        const s = self.find_stream(e) orelse return;
        out.* = challenge.entry_of(s);
        out.connection = e.connection;
        out.check = out.check_now();
    }

    /// A stream that another member knows; nothing where its topic is not received here.
    pub fn learn(self: *TierHost, told: *const StreamEntry) void {
        const key: stream_file.Key = .{
            .tier = told.is_tier != 0,
            .source = told.source,
            .transport = told.transport,
        };
        if (self.receiver.find(key) != null) return;
        const channel = self.receiver.channel_of(told.transport) orelse return;
        const s = challenge.add_stream(self.receiver, key, channel) orelse return;
        s.tx_arg = told.tx_arg;
        s.name = told.name;
        s.name_len = told.name_bytes;
        var entry = told.*;
        entry.id = s.id;
        entry.partition = channel.partition;
        self.tier_log.recorder.set_stream(entry);
    }

    // ---------------------------------------------------------------- disk

    /// On the disk when it returns true.
    pub fn save(self: *TierHost, durable: Durable) bool {
        return self.state.save(durable, self.next());
    }

    /// The log up to `next()` is on the disk when it returns true.
    pub fn force(self: *TierHost) bool {
        const end = self.next();
        if (self.forced_sqn == end) return true;
        if (!self.tier_log.force(self.forced_sqn)) return false;
        self.forced_sqn = end;
        return true;
    }

    /// What may be acknowledged.
    pub fn durable_next(self: *TierHost) u64 {
        if (!self.note_memory()) return self.durable_sqn;
        const waits = self.is_forced and !self.is_in_memory();
        self.durable_sqn = if (waits) self.forced_sqn else self.next();
        return self.durable_sqn;
    }
};
