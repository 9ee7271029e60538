//! What a stream has beyond its contiguous end, the gaps before it, and when to ask for them.
//!
//! Datagrams that arrive too early are held as copies in the receive memory, in a list ordered by
//! position. The gaps are what lies between `next` (the contiguous end), the held ones, and the
//! position that the sender announced. Each gap has a timer: a short random back-off at first
//! (scaled by the group's size, so that many receivers that lost the same datagram do not ask at
//! once), then retries that double. A gap that is split by a late arrival keeps its timer on both
//! sides. Bounded: so many held datagrams for a context, so many bytes.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const limits = @import("../session/limits.zig");
const assert = @import("../assert.zig").assert;
const mutant = @import("../testing/mutant.zig");
const pool_file = @import("../window/pool.zig");

const Position = frame.Position;
const none = std.math.maxInt(u32);

pub const Gap = struct {
    /// 0: no gap is known here.
    due_ns: u64 = 0,
    asked_ns: u64 = 0,
    attempts: u32 = 0,
    /// Time spent waiting for answers, as the lowest gap, since something of it came last. A pause
    /// of this process, or of the session, is not counted: nobody could have answered.
    waited_ns: u64 = 0,
};

pub const Kind = enum(u8) { datagram, unused, gone };

pub const Held = struct {
    begin: Position,
    end: Position,
    kind: Kind,
    offset: u64,
    bytes: u32,
    prev: u32,
    next: u32,
    /// The gap in front of this one.
    gap: Gap,
};

/// The places for held datagrams of all streams of a context, and their memory.
pub const HoldingPool = struct {
    entries: []Held,
    free_first: u32,
    /// Entries from here on were never used: their memory is not touched before it is needed.
    fresh: u32 = 0,
    used: u32 = 0,
    used_bytes: u64 = 0,
    bytes_max: u64,
    pool: *pool_file.ChunkPool,
    bump: pool_file.Bump,

    pub fn init(
        gpa: std.mem.Allocator,
        pool: *pool_file.ChunkPool,
        bytes_max: u64,
    ) !HoldingPool {
        const entries = try gpa.alloc(Held, limits.held_datagrams_max);
        return .{
            .entries = entries,
            .free_first = none,
            .bytes_max = bytes_max,
            .pool = pool,
            .bump = pool_file.Bump.init(pool) orelse return error.OutOfMemory,
        };
    }

    pub fn deinit(self: *HoldingPool, gpa: std.mem.Allocator) void {
        self.bump.close();
        gpa.free(self.entries);
    }

    fn take(self: *HoldingPool, datagram: []const u8) ?u32 {
        if (self.free_first == none and self.fresh == self.entries.len) return null;
        if (self.used_bytes + datagram.len > self.bytes_max) return null;
        var offset: u64 = 0;
        if (datagram.len > 0) {
            offset = self.bump.alloc(datagram.len, 8) orelse return null;
            @memcpy(self.pool.slice(offset, datagram.len), datagram);
        }
        const at = if (self.free_first != none) self.free_first else self.fresh;
        const e = &self.entries[at];
        if (self.free_first != none) self.free_first = e.next else self.fresh += 1;
        self.used += 1;
        self.used_bytes += datagram.len;
        e.offset = offset;
        e.bytes = @intCast(datagram.len);
        return at;
    }

    fn give(self: *HoldingPool, at: u32) void {
        const e = &self.entries[at];
        if (e.bytes > 0) self.pool.free(e.offset, e.bytes);
        self.used -= 1;
        self.used_bytes -= e.bytes;
        e.next = self.free_first;
        self.free_first = at;
    }

    pub fn bytes_of(self: *HoldingPool, e: *const Held) []align(8) u8 {
        return @alignCast(self.pool.slice(e.offset, e.bytes));
    }
};

pub const Timing = struct {
    /// Upper end of the random back-off before the first request.
    backoff_ns: u64,
    /// Time between a request and the next one for the same gap, doubled each time.
    retry_ns: u64,
};

pub const Insert = enum { held, duplicate, no_room };

pub const LossDetector = struct {
    first: u32 = none,
    last: u32 = none,
    count: u32 = 0,
    /// Between the last held datagram (or `next`) and what the sender announced.
    tail_gap: Gap = .{},
    /// Not later than the earliest due time of a gap; maxInt when there is none.
    due_ns: u64 = std.math.maxInt(u64),

    pub fn insert(
        self: *LossDetector,
        hp: *HoldingPool,
        begin: Position,
        end: Position,
        kind: Kind,
        datagram: []const u8,
    ) Insert {
        assert(begin.less(end));
        const after = self.place(hp, begin);
        if (after != none and !hp.entries[after].end.less(end)) return .duplicate;
        const before = if (after == none) self.first else hp.entries[after].next;
        if (before != none) {
            const b = &hp.entries[before];
            if (b.begin.eql(begin) and !b.end.less(end)) return .duplicate;
        }
        const at = hp.take(datagram) orelse return .no_room;
        const e = &hp.entries[at];
        e.begin = begin;
        e.end = end;
        e.kind = kind;
        e.prev = after;
        e.next = before;
        // The gap that this one splits: both parts keep its timer.
        e.gap = if (before == none) self.tail_gap else hp.entries[before].gap;
        if (before == none) {
            self.tail_gap = .{};
            self.last = at;
        } else hp.entries[before].prev = at;
        if (after == none) self.first = at else hp.entries[after].next = at;
        self.count += 1;
        return .held;
    }

    /// The last entry that begins at or below `begin`; searched from the nearer end, which is
    /// nearly always it.
    fn place(self: *const LossDetector, hp: *HoldingPool, begin: Position) u32 {
        if (self.first == none) return none;
        if (begin.less(hp.entries[self.first].begin)) return none;
        const low = hp.entries[self.first].begin.msg;
        const high = hp.entries[self.last].begin.msg;
        if (begin.msg - low < high -| begin.msg) {
            var at = self.first;
            while (hp.entries[at].next != none and
                !begin.less(hp.entries[hp.entries[at].next].begin)) at = hp.entries[at].next;
            return at;
        }
        var at = self.last;
        while (begin.less(hp.entries[at].begin)) at = hp.entries[at].prev;
        return at;
    }

    pub fn peek(self: *const LossDetector, hp: *HoldingPool) ?*Held {
        return if (self.first == none) null else &hp.entries[self.first];
    }

    pub fn pop(self: *LossDetector, hp: *HoldingPool) void {
        const at = self.first;
        assert(at != none);
        const e = &hp.entries[at];
        self.first = e.next;
        if (self.first == none) self.last = none else hp.entries[self.first].prev = none;
        self.count -= 1;
        hp.give(at);
    }

    pub fn clear(self: *LossDetector, hp: *HoldingPool) void {
        while (self.first != none) self.pop(hp);
        self.tail_gap = .{};
        self.due_ns = std.math.maxInt(u64);
    }

    /// End of the last held datagram, or `next`.
    pub fn highest(self: *const LossDetector, hp: *HoldingPool, next: Position) Position {
        if (self.last == none) return next;
        return Position.max(next, hp.entries[self.last].end);
    }

    pub fn has_gap(
        self: *const LossDetector,
        hp: *HoldingPool,
        next: Position,
        announced: Position,
    ) bool {
        if (self.first != none) return next.less(hp.entries[self.first].begin);
        return next.less(announced);
    }

    /// Starts the timers of gaps that have none. Called after arrivals and announcements.
    pub fn watch(
        self: *LossDetector,
        hp: *HoldingPool,
        now_ns: u64,
        next: Position,
        announced: Position,
        timing: Timing,
        random: std.Random,
    ) void {
        // Only the newest gap can be new: the one before the last held datagram, and the tail.
        if (self.last != none) {
            const e = &hp.entries[self.last];
            const before: Position = if (e.prev == none) next else hp.entries[e.prev].end;
            if (before.less(e.begin)) self.start(&e.gap, now_ns, timing, random);
        }
        if (self.highest(hp, next).less(announced)) {
            self.start(&self.tail_gap, now_ns, timing, random);
        } else self.tail_gap = .{};
    }

    fn start(self: *LossDetector, gap: *Gap, now_ns: u64, timing: Timing, random: std.Random) void {
        if (gap.due_ns != 0) {
            self.due_ns = @min(self.due_ns, gap.due_ns);
            return;
        }
        const wait = random.uintLessThan(u64, timing.backoff_ns + 1);
        gap.* = .{ .due_ns = now_ns + wait };
        self.due_ns = @min(self.due_ns, gap.due_ns);
    }

    pub const Due = struct {
        count: u32 = 0,
        attempt: u32 = 0,
        /// How long the first gap has been asked for in vain.
        waited_ns: u64 = 0,
    };

    /// Writes the ranges that are to be asked for now, and sets their next time.
    pub fn collect(
        self: *LossDetector,
        hp: *HoldingPool,
        now_ns: u64,
        next: Position,
        announced: Position,
        limit: Position,
        timing: Timing,
        out: []frame.Range,
    ) Due {
        var due: Due = .{};
        var earliest: u64 = std.math.maxInt(u64);
        var at = next;
        var index = self.first;
        while (true) {
            const gap = if (index == none) &self.tail_gap else &hp.entries[index].gap;
            const far = if (index == none) announced else hp.entries[index].begin;
            const end = Position.min(far, limit);
            if (at.less(end)) {
                if (gap.due_ns == 0) gap.* = .{ .due_ns = now_ns };
                const is_lowest = at.eql(next);
                if (is_lowest) due.waited_ns = gap.waited_ns;
                const storm = mutant.on(.nak_storm);
                if ((gap.due_ns <= now_ns or storm) and due.count < out.len) {
                    ask(gap, now_ns, timing, is_lowest);
                    if (due.count == 0) due.attempt = gap.attempts;
                    out[due.count] = .{
                        .start_msg = at.msg,
                        .start_frag = at.frag,
                        .end_msg = end.msg,
                        .end_frag = end.frag,
                    };
                    due.count += 1;
                }
                earliest = @min(earliest, gap.due_ns);
            } else gap.* = .{};
            if (index == none) break;
            at = Position.max(at, hp.entries[index].end);
            index = hp.entries[index].next;
        }
        self.due_ns = earliest;
        return due;
    }

    fn ask(gap: *Gap, now_ns: u64, timing: Timing, is_lowest: bool) void {
        const doublings: u6 = @intCast(@min(gap.attempts, limits.nak_doublings_max));
        const retry = @min(timing.retry_ns << doublings, limits.nak_retry_max_ns);
        // The answer to a later gap may have come and found no room to be held.
        if (gap.asked_ns != 0 and is_lowest) {
            gap.waited_ns += @min(now_ns - gap.asked_ns, 2 * limits.nak_retry_max_ns);
        }
        gap.attempts += 1;
        gap.asked_ns = now_ns;
        gap.due_ns = now_ns + retry;
    }

    /// The front of the lowest gap is settled without a datagram: the rest is asked for at once.
    pub fn settled(self: *LossDetector, hp: *HoldingPool, now_ns: u64) void {
        const gap = if (self.first == none) &self.tail_gap else &hp.entries[self.first].gap;
        gap.* = .{ .due_ns = now_ns };
        self.due_ns = @min(self.due_ns, now_ns);
    }

    /// The answer to the lowest gap came, whatever became of it: it was not asked for in vain.
    pub fn answered(self: *LossDetector, hp: *HoldingPool) void {
        const gap = if (self.first == none) &self.tail_gap else &hp.entries[self.first].gap;
        gap.waited_ns = 0;
    }

    /// Something of the first gap arrived: it is being repaired, so the next request can wait its
    /// full time, and the doubling starts again.
    pub fn progressed(self: *LossDetector, hp: *HoldingPool, now_ns: u64, timing: Timing) ?u64 {
        const gap = if (self.first == none) &self.tail_gap else &hp.entries[self.first].gap;
        if (gap.due_ns == 0 or gap.asked_ns == 0) return null;
        const took = now_ns - gap.asked_ns;
        gap.attempts = 0;
        gap.waited_ns = 0;
        gap.due_ns = @max(gap.due_ns, now_ns + timing.retry_ns);
        return took;
    }
};

const testing = std.testing;

const Fixture = struct {
    memory: []align(4096) u8,
    pool: pool_file.ChunkPool,
    hp: HoldingPool,
    rng: std.Random.DefaultPrng = .init(1),

    fn init(self: *Fixture) !void {
        const gpa = testing.allocator;
        self.memory = try gpa.alignedAlloc(u8, .fromByteUnits(4096), 1 << 20);
        self.pool = try .init(gpa, .{
            .base = self.memory.ptr,
            .bytes = self.memory.len,
            .chunk_bytes = 64 * 1024,
        });
        self.hp = try .init(gpa, &self.pool, 1 << 19);
        self.rng = .init(1);
    }
    fn deinit(self: *Fixture) void {
        self.hp.deinit(testing.allocator);
        self.pool.deinit(testing.allocator);
        testing.allocator.free(self.memory);
    }
};

fn pos(msg: u64) Position {
    return .{ .msg = msg };
}

const usual: Timing = .{ .backoff_ns = 10, .retry_ns = 100 };

test "gaps are asked for after the back-off, and again later and later" {
    var f: Fixture = undefined;
    try f.init();
    defer f.deinit();
    var d: LossDetector = .{};
    defer d.clear(&f.hp);
    try testing.expectEqual(.held, d.insert(&f.hp, pos(5), pos(8), .datagram, "12345678"));
    d.watch(&f.hp, 1000, pos(3), pos(10), usual, f.rng.random());
    var out: [8]frame.Range = undefined;
    const first = d.collect(&f.hp, 1010, pos(3), pos(10), pos(10), usual, &out);
    try testing.expectEqual(2, first.count);
    try testing.expectEqual(3, out[0].start_msg);
    try testing.expectEqual(5, out[0].end_msg);
    try testing.expectEqual(8, out[1].start_msg);
    try testing.expectEqual(10, out[1].end_msg);
    try testing.expectEqual(1110, d.due_ns);
    try testing.expectEqual(0, d.collect(&f.hp, 1109, pos(3), pos(10), pos(10), usual, &out).count);
    const second = d.collect(&f.hp, 1110, pos(3), pos(10), pos(10), usual, &out);
    try testing.expectEqual(2, second.attempt);
    try testing.expectEqual(1310, d.due_ns);
}

test "what arrives twice is held once; what arrives between splits the gap" {
    var f: Fixture = undefined;
    try f.init();
    defer f.deinit();
    var d: LossDetector = .{};
    defer d.clear(&f.hp);
    try testing.expectEqual(.held, d.insert(&f.hp, pos(10), pos(12), .datagram, "a"));
    try testing.expectEqual(.duplicate, d.insert(&f.hp, pos(10), pos(12), .datagram, "a"));
    try testing.expectEqual(.duplicate, d.insert(&f.hp, pos(11), pos(12), .datagram, "a"));
    try testing.expectEqual(.held, d.insert(&f.hp, pos(5), pos(6), .datagram, "a"));
    try testing.expectEqual(.held, d.insert(&f.hp, pos(20), pos(21), .datagram, "a"));
    try testing.expectEqual(3, d.count);
    var out: [8]frame.Range = undefined;
    const due = d.collect(&f.hp, 7, pos(0), pos(21), pos(21), usual, &out);
    try testing.expectEqual(3, due.count);
    try testing.expectEqual(12, out[2].start_msg);
    try testing.expectEqual(20, out[2].end_msg);
}

test "holding is bounded by bytes and by places" {
    var f: Fixture = undefined;
    try f.init();
    defer f.deinit();
    f.hp.bytes_max = 20;
    var d: LossDetector = .{};
    defer d.clear(&f.hp);
    try testing.expectEqual(.held, d.insert(&f.hp, pos(10), pos(11), .datagram, "0123456789"));
    try testing.expectEqual(.held, d.insert(&f.hp, pos(12), pos(13), .datagram, "0123456789"));
    try testing.expectEqual(.no_room, d.insert(&f.hp, pos(14), pos(15), .datagram, "0"));
    d.pop(&f.hp);
    try testing.expectEqual(.held, d.insert(&f.hp, pos(14), pos(15), .datagram, "0"));
}
