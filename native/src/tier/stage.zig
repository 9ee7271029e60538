//! Messages of a tier that are complete and have no place in the order yet, by stream.
//!
//! A stream's `next` runs ahead of the log here: what is complete is staged, the leader orders it,
//! followers complete entries with it. What may be acknowledged to a sender is what is committed.
//!
//!     stream:   committed <= log_next <= from ... staged ... next
//!
//! Memory is a pool shared by all streams, and each may have as much as is left to the others: one
//! that nobody orders can't keep another out. Large messages lie where the log will have them.
//! Small ones and those assembled from a few fragments are copied once more when they are ordered.

const std = @import("std");
const limits = @import("../limits.zig");
const session_limits = @import("../session/limits.zig");
const assert = @import("../assert.zig").assert;
const copy = @import("../copy.zig").copy;
const record = @import("../order/record.zig");
const log_file = @import("../order/log.zig");
const pool_file = @import("../window/pool.zig");
const frame = @import("../wire/frame.zig");
const stream_file = @import("../session/stream.zig");

const ChunkPool = pool_file.ChunkPool;
const Bump = pool_file.Bump;
const Log = log_file.Log;
const Extent = log_file.Extent;
const Stream = stream_file.Stream;
const Position = frame.Position;

const none = std.math.maxInt(u64);
const lanes_max = session_limits.streams_max;
/// `Extent.place` of one that lies in the stage's own memory.
pub const place_in_stage: u64 = none;
/// Fragments up to this are assembled in the stage: a block of a record file for each would be
/// mostly empty.
pub const assembled_bytes_max: u32 = limits.record_block_bytes / 4;

const Item = extern struct {
    /// Offset of the next one; `none`: the last.
    next: u64,
    msg_no: u64,
    length: u32,
    msg_arg: u16,
    tx_arg: u16,
    /// Where a large message lies in the log's memory and files; 0: the payload follows.
    extent_offset: u64,
    extent_place: u64,
};

const item_bytes = @sizeOf(Item);

/// One stream's.
pub const Lane = struct {
    bump: ?Bump = null,
    head: u64 = none,
    tail: u64 = none,
    count: u32 = 0,
    bytes: u64 = 0,
    /// Everything in [from, stream.next) is staged, or will never come.
    from: u64 = 0,
    /// One past its last message in the log, if it has one.
    log_next: u64 = 0,
    has_log: bool = false,
    /// One past its last message that is committed, as far as that is known.
    committed: u64 = 0,
    has_committed: bool = false,
    /// The sender is told when so much is committed.
    ack_mark: u64 = none,
};

pub const Staged = struct {
    msg_no: u64,
    msg_arg: u16,
    tx_arg: u16,
    payload: []const u8,
    extent: ?Extent,
};

pub const Stage = struct {
    log: *Log,
    pool: *ChunkPool,
    lanes: []Lane,
    /// By lane: it has messages.
    ready: [lanes_max / 64]u64 = @splat(0),
    limit_bytes: u64,
    used_bytes: u64 = 0,
    /// Of large messages, staged and in assembly.
    extent_bytes: u64 = 0,
    /// `TierRmsLimitCount`; 0: no limit.
    limit_count: u64,
    /// Only a leader loses messages: others get them from it.
    is_leader: bool = false,
    /// An observer's acknowledgements hold nobody.
    is_observer: bool = false,

    pub fn init(
        gpa: std.mem.Allocator,
        log: *Log,
        pool: *ChunkPool,
        limit_bytes: u64,
        limit_count: u64,
    ) error{OutOfMemory}!Stage {
        const lanes = try gpa.alloc(Lane, lanes_max);
        @memset(lanes, .{});
        return .{
            .log = log,
            .pool = pool,
            .lanes = lanes,
            .limit_bytes = limit_bytes,
            .limit_count = limit_count,
        };
    }

    pub fn deinit(self: *Stage, gpa: std.mem.Allocator) void {
        for (self.lanes, 0..) |*lane, id| {
            self.discard(@intCast(id));
            if (lane.bump) |*bump| bump.close();
        }
        gpa.free(self.lanes);
        self.* = undefined;
    }

    // ---------------------------------------------------------------- taken from the sender

    /// Stages a message behind those of its stream.
    pub fn put(
        self: *Stage,
        id: u32,
        msg_no: u64,
        msg_arg: u16,
        tx_arg: u16,
        payload: []const u8,
    ) error{NoMemory}!void {
        const lane = &self.lanes[id];
        if (self.is_over_count(lane, msg_no)) return error.NoMemory;
        const at = try self.alloc(lane, item_bytes + payload.len);
        const item = self.item_at(at);
        item.length = @intCast(payload.len);
        copy(self.pool.slice(at + item_bytes, payload.len), payload);
        item.extent_offset = 0;
        item.msg_no = msg_no;
        item.msg_arg = msg_arg;
        item.tx_arg = tx_arg;
        self.link(id, at);
    }

    /// Messages beyond this wait for others of their stream to be committed.
    fn is_over_count(self: *const Stage, lane: *const Lane, msg_no: u64) bool {
        if (self.limit_count == 0) return false;
        const confirmed = if (lane.has_committed) lane.committed else lane.from;
        return msg_no >= confirmed +| self.limit_count;
    }

    /// Memory for a message that comes in fragments.
    pub fn reserve(self: *Stage, id: u32, msg_no: u64, length: u32) ?Extent {
        const lane = &self.lanes[id];
        if (self.is_over_count(lane, msg_no)) return null;
        if (length > assembled_bytes_max) return self.reserve_large(length);
        const at = self.alloc(lane, item_bytes + @as(u64, length)) catch return null;
        const item = self.item_at(at);
        item.length = length;
        item.extent_offset = 0;
        return .{
            .offset = at,
            .payload = self.pool.slice(at + item_bytes, length),
            .place = place_in_stage,
        };
    }

    /// One at least; more only as long as half the log's memory stays free.
    fn reserve_large(self: *Stage, length: u32) ?Extent {
        const pool = self.log.pool;
        const bytes = self.large_bytes(length);
        const free = @as(u64, pool.free_count()) * pool.chunk_bytes;
        if (self.extent_bytes > 0 and bytes + pool.bytes / 4 > free) return null;
        const extent = self.log.reserve(length) orelse return null;
        self.extent_bytes += bytes;
        return extent;
    }

    fn large_bytes(self: *const Stage, length: u64) u64 {
        const head = self.log.head_bytes;
        const chunk = self.log.pool.chunk_bytes;
        return std.mem.alignForward(u64, head + record.record_bytes(length), chunk);
    }

    /// An assembled message is complete. Refused, it stays the caller's.
    pub fn commit(
        self: *Stage,
        id: u32,
        extent: Extent,
        msg_no: u64,
        msg_arg: u16,
        tx_arg: u16,
    ) error{NoMemory}!void {
        const is_large = extent.place != place_in_stage;
        const at = if (is_large) try self.alloc(&self.lanes[id], item_bytes) else extent.offset;
        const item = self.item_at(at);
        if (is_large) {
            item.length = @intCast(extent.payload.len);
            item.extent_offset = extent.offset;
            item.extent_place = extent.place;
        }
        item.msg_no = msg_no;
        item.msg_arg = msg_arg;
        item.tx_arg = tx_arg;
        self.link(id, at);
    }

    /// Gives back what was reserved.
    pub fn abort(self: *Stage, id: u32, extent: Extent) void {
        if (extent.place == place_in_stage) {
            self.give_back(&self.lanes[id], extent.offset, item_bytes + extent.payload.len);
            return;
        }
        self.extent_bytes -= self.large_bytes(extent.payload.len);
        self.log.abort(extent);
    }

    /// What was refused would not be refused now.
    pub fn would_fit(self: *Stage, id: u32, msg_no: u64, length: u64) bool {
        if (length <= assembled_bytes_max) {
            const lane = &self.lanes[id];
            if (self.is_over_count(lane, msg_no)) return false;
            const at = self.alloc(lane, item_bytes + length) catch return false;
            self.give_back(lane, at, item_bytes + length);
            return true;
        }
        const extent = self.reserve(id, msg_no, @intCast(length)) orelse return false;
        self.abort(id, extent);
        return true;
    }

    fn alloc(self: *Stage, lane: *Lane, bytes: u64) error{NoMemory}!u64 {
        // As much as is left to the others; a first message only has to find a place.
        if (lane.bytes > 0 and lane.bytes + bytes > self.limit_bytes -| self.used_bytes) {
            return error.NoMemory;
        }
        if (lane.bump == null) lane.bump = Bump.init(self.pool) orelse return error.NoMemory;
        const at = lane.bump.?.alloc(bytes, limits.payload_alignment) orelse return error.NoMemory;
        lane.bytes += bytes;
        self.used_bytes += bytes;
        return at;
    }

    fn give_back(self: *Stage, lane: *Lane, at: u64, bytes: u64) void {
        lane.bytes -= bytes;
        self.used_bytes -= bytes;
        self.pool.free(at, bytes);
    }

    fn link(self: *Stage, id: u32, at: u64) void {
        const lane = &self.lanes[id];
        self.item_at(at).next = none;
        if (lane.tail == none) lane.head = at else self.item_at(lane.tail).next = at;
        lane.tail = at;
        lane.count += 1;
        self.ready[id / 64] |= @as(u64, 1) << @intCast(id % 64);
    }

    inline fn item_at(self: *const Stage, at: u64) *Item {
        return @ptrCast(@alignCast(self.pool.base + at));
    }

    // ---------------------------------------------------------------- given to the log

    /// The first staged message of a stream.
    pub fn peek(self: *const Stage, id: u32) ?Staged {
        const lane = &self.lanes[id];
        if (lane.head == none) return null;
        const item = self.item_at(lane.head);
        const is_large = item.extent_offset != 0;
        const payload = if (is_large)
            self.log.pool.slice(item.extent_offset + record.header_bytes, item.length)
        else
            self.pool.slice(lane.head + item_bytes, item.length);
        return .{
            .msg_no = item.msg_no,
            .msg_arg = item.msg_arg,
            .tx_arg = item.tx_arg,
            .payload = payload,
            .extent = if (is_large) .{
                .offset = item.extent_offset,
                .payload = payload,
                .place = item.extent_place,
            } else null,
        };
    }

    /// The first one is in the log, and its extent with it.
    pub fn took(self: *Stage, id: u32) void {
        const item = self.item_at(self.lanes[id].head);
        if (item.extent_offset != 0) self.extent_bytes -= self.large_bytes(item.length);
        self.pop(id);
    }

    fn drop(self: *Stage, id: u32) void {
        const staged = self.peek(id).?;
        if (staged.extent) |extent| self.abort(id, extent);
        self.pop(id);
    }

    fn pop(self: *Stage, id: u32) void {
        const lane = &self.lanes[id];
        const at = lane.head;
        const item = self.item_at(at);
        lane.from = item.msg_no + 1;
        lane.head = item.next;
        lane.count -= 1;
        if (lane.head == none) {
            lane.tail = none;
            self.ready[id / 64] &= ~(@as(u64, 1) << @intCast(id % 64));
        }
        const inside: u64 = if (item.extent_offset != 0) 0 else item.length;
        self.give_back(lane, at, item_bytes + inside);
    }

    /// What lies below `msg_no` has no place in the order any more.
    pub fn drop_below(self: *Stage, id: u32, msg_no: u64) void {
        while (self.lanes[id].head != none) {
            if (self.item_at(self.lanes[id].head).msg_no >= msg_no) return;
            self.drop(id);
        }
    }

    pub fn discard(self: *Stage, id: u32) void {
        self.drop_below(id, none);
    }

    // ---------------------------------------------------------------- positions of a stream

    /// A stream that is in the log goes on behind its last message there.
    pub fn restore(self: *Stage, s: *const Stream) void {
        const lane = &self.lanes[s.id];
        lane.from = s.next.msg;
        lane.log_next = s.next.msg;
        lane.has_log = s.has_position;
    }

    /// A stream without a position begins.
    pub fn begin(self: *Stage, s: *const Stream) void {
        const lane = &self.lanes[s.id];
        lane.from = s.next.msg;
        if (lane.has_log) return;
        lane.committed = s.next.msg;
    }

    /// A new connection of the sender: nothing of the old one is ordered any more. True: the stream
    /// goes on from the log's position, else it has none.
    pub fn renew(self: *Stage, s: *const Stream) ?u64 {
        const lane = &self.lanes[s.id];
        self.discard(s.id);
        lane.ack_mark = none;
        if (!lane.has_log) return null;
        lane.from = lane.log_next;
        return lane.log_next;
    }

    /// What the sender may be told that the tier has.
    pub fn ack_position(self: *const Stage, s: *const Stream) Position {
        const lane = &self.lanes[s.id];
        const at: Position = .{
            .msg = lane.committed,
            .frag = if (lane.committed == s.next.msg) s.next.frag else 0,
        };
        return Position.min(at, s.announced);
    }

    /// Where a sender that asks shall go on; null: nothing is known here.
    pub fn told_position(self: *const Stage, s: *const Stream, same: bool) ?Position {
        const lane = &self.lanes[s.id];
        const msg = if (self.is_leader and lane.has_log)
            lane.log_next
        else if (lane.has_committed or !lane.has_log and s.has_position and same)
            lane.committed
        else
            return null;
        return .{ .msg = msg, .frag = if (same and msg == s.next.msg) s.next.frag else 0 };
    }

    /// The sender wants to know when what it sent is committed. True: it is.
    pub fn mark(self: *Stage, s: *const Stream, msg_no: u64) bool {
        const lane = &self.lanes[s.id];
        if (lane.committed >= msg_no) return true;
        lane.ack_mark = @min(lane.ack_mark, msg_no);
        return false;
    }

    /// True: the sender is to be told now.
    pub fn note_committed(self: *Stage, s: *const Stream, msg_next: u64) bool {
        const lane = &self.lanes[s.id];
        lane.committed = @max(if (lane.has_committed) lane.committed else 0, msg_next);
        lane.has_committed = true;
        if (lane.committed < lane.ack_mark) return false;
        const is_behind = s.since_ack_datagrams >= @max(1, s.window_datagrams / 4);
        const goes_on = is_behind and lane.committed < s.next.msg;
        lane.ack_mark = if (goes_on) s.next.msg else none;
        return true;
    }
};
