//! Lanes: the orders of a context without a total order, one for each topic that it receives, and
//! who takes messages of them (guide 7.2.7).
//!
//! One agent receives for all lanes. Each has memory, an ordered log and descriptors of its own, so
//! that threads take messages side by side and a slow one stops only its lane. The context's own
//! JavaScript thread takes messages of every lane that no other thread has opened (`openLane`).
//!
//! *Who is inside.* A thread takes messages in visits: `enter`, any number of `drain`, `leave`. One
//! visitor at a time, by `visitor`; what it has not processed when it leaves is handed to the next
//! one. A context that ends lets nobody enter any more and waits, for a bounded time, for those who
//! are inside.
//!
//! *Handles.* The thread of a context may close it at any moment, and a handle may be used long
//! after that: each opened lane has a place that is never given back, with a word in it, as senders
//! have (`senders.zig`): the generation, and whether a call is under way. A thread that ends
//! without closing its lane (a Worker that was terminated) gives it back by a destructor of its
//! own.

const std = @import("std");
const linux = std.os.linux;
const abi = @import("../abi.zig");
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const record = @import("../order/record.zig");
const region_file = @import("../window/region.zig");
const loss = @import("../repair/loss_detector.zig");
const waker = @import("waker.zig");
const Log = @import("../order/log.zig").Log;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Failure = @import("../transport/failure.zig").Failure;
const Token = @import("token.zig").Token;
const Context = @import("context.zig").Context;

const Descriptor = record.Descriptor;

/// Lanes of a context: a handle has eight bits for them.
pub const lanes_max = 256;
/// Opened by other threads at the same time in a process.
pub const opened_max = 256;
/// Less memory than this holds nothing worth mentioning.
const lane_bytes_min = 1 << 20;

const index_bits = std.math.log2_int(u32, opened_max);
/// Tells the handle of an opened lane from that of a context's own.
const opened_bit: u32 = 1 << 30;
const generation_mask: u32 = (opened_bit >> index_bits) - 1;

pub const Visitor = enum(u32) { nobody, own, opened };

/// A line for the context's log, from a thread that has no logger.
pub const Fault = struct {
    const text_max = 512;
    /// 0: empty; 1: is being written; 2: can be read.
    state: std.atomic.Value(u32) = .init(0),
    /// 0: a handler refused a message; else so many times by now.
    count: u32 = 0,
    len: u32 = 0,
    text: [text_max]u8 = undefined,
};

pub const Lane = struct {
    no: u16,
    pool: *ChunkPool,
    holding: *loss.HoldingPool,
    log: *Log,
    descriptors: region_file.Region,
    visitor: std.atomic.Value(u32) align(64) = .init(0),
    /// Another thread has opened it: the context's own keeps out.
    is_opened: std.atomic.Value(bool) = .init(false),
    /// Its own thread waits for a promise or a pause: what is there is not looked for.
    is_blocked: std.atomic.Value(bool) = .init(false),
    refused: std.atomic.Value(u64) = .init(0),
    armed: waker.Armed = .{},
    waker_id: std.atomic.Value(i32) = .init(-1),
    /// The receive agent's.
    ordered_seen: u64 = 0,
    fault: Fault = .{},

    pub fn batch(self: *Lane) []Descriptor {
        const p: [*]Descriptor = @ptrCast(@alignCast(self.descriptors.base));
        return p[0..abi.constants.descriptor_batch];
    }

    fn enter(self: *Lane, who: Visitor) bool {
        const nobody = @backingInt(Visitor.nobody);
        const mine = @backingInt(who);
        const was = self.visitor.cmpxchgStrong(nobody, mine, .seq_cst, .seq_cst);
        if (was) |other| {
            // It stayed, with a message that a promise holds.
            return who == .own and other == mine;
        }
        if (who == .opened or !self.is_opened.load(.seq_cst)) return true;
        self.visitor.store(nobody, .seq_cst);
        return false;
    }

    pub fn has_messages(self: *const Lane) bool {
        return self.log.ordered_next() != self.log.processed_next();
    }

    /// For the context's own thread: there are messages that it may take.
    pub fn waits_for_own(self: *const Lane) bool {
        if (self.is_opened.load(.monotonic) or self.is_blocked.load(.monotonic)) return false;
        return self.has_messages();
    }
};

// -------------------------------------------------------------------- memory

/// A lane for each topic, each with an equal part of the receive memory.
pub fn make(
    gpa: std.mem.Allocator,
    region: region_file.Region,
    count: u32,
    failure: *Failure,
) error{ Argument, OutOfMemory, Shm, Native, Socket }![]Lane {
    const bytes = region.bytes / @max(1, count);
    if (count > lanes_max or bytes < lane_bytes_min) {
        failure.set("IsTotalOrder is 0 and {d} topics are received: a lane for each of at most " ++
            "{d}, with at least {d} MiB each of ReceiveMemoryMBytes ({d} MiB in all)", .{
            count, lanes_max, lane_bytes_min >> 20, region.bytes >> 20,
        });
        return error.Argument;
    }
    const chunk_bytes = limits.chunk_bytes_for(bytes);
    const whole = std.mem.alignBackward(u64, bytes, chunk_bytes);
    const lanes = try gpa.alloc(Lane, count);
    var made: usize = 0;
    errdefer {
        for (lanes[0..made]) |*lane| free_lane(gpa, lane);
        gpa.free(lanes);
    }
    while (made < count) : (made += 1) {
        lanes[made] = try make_lane(gpa, region.base + made * whole, whole, chunk_bytes);
        lanes[made].no = @intCast(made);
    }
    return lanes;
}

fn make_lane(gpa: std.mem.Allocator, base: [*]u8, bytes: u64, chunk_bytes: u32) !Lane {
    const pool = try gpa.create(ChunkPool);
    errdefer gpa.destroy(pool);
    pool.* = try .init(gpa, .{ .base = base, .bytes = bytes, .chunk_bytes = chunk_bytes });
    errdefer pool.deinit(gpa);
    const log = try gpa.create(Log);
    errdefer gpa.destroy(log);
    log.* = try .init(gpa, pool, 0);
    errdefer log.deinit(gpa);
    log.tells_number = true;
    const holding = try gpa.create(loss.HoldingPool);
    errdefer gpa.destroy(holding);
    holding.* = try .init(gpa, pool, bytes / limits.record_holding_divisor);
    errdefer holding.deinit(gpa);
    const batch_bytes = abi.constants.descriptor_batch * @sizeOf(Descriptor);
    const descriptors = try region_file.map_anonymous(
        std.mem.alignForward(u64, batch_bytes, limits.page_bytes),
    );
    return .{
        .no = 0,
        .pool = pool,
        .holding = holding,
        .log = log,
        .descriptors = descriptors,
    };
}

fn free_lane(gpa: std.mem.Allocator, lane: *Lane) void {
    region_file.release(lane.descriptors);
    lane.holding.deinit(gpa);
    gpa.destroy(lane.holding);
    lane.log.deinit(gpa);
    gpa.destroy(lane.log);
    lane.pool.deinit(gpa);
    gpa.destroy(lane.pool);
}

pub fn free(gpa: std.mem.Allocator, lanes: []Lane) void {
    for (lanes) |*lane| free_lane(gpa, lane);
    gpa.free(lanes);
}

// -------------------------------------------------------------------- taking messages

/// A lane that a call is about, with whoever calls.
pub const Reached = struct { context: *Context, lane: *Lane, who: Visitor };

/// 1: the calling thread is inside; 0: somebody else is, or the lane is another thread's.
pub fn enter(at: Reached) i32 {
    if (at.context.draining.load(.seq_cst)) return -1;
    if (!at.lane.enter(at.who)) return 0;
    // Who ends the context looks at visitors behind its own store.
    if (at.context.draining.load(.seq_cst)) {
        at.lane.visitor.store(@backingInt(Visitor.nobody), .seq_cst);
        return -1;
    }
    if (at.who == .own) at.lane.is_blocked.store(false, .monotonic);
    return 1;
}

/// `is_blocked`: there may be messages that the thread does not want now. `stays`: a message is
/// being worked on, so nobody else may come in. Into an opened lane nobody does anyway, and who
/// ends the context does not wait for what a promise holds.
pub fn leave(at: Reached, is_blocked: bool, stays: bool) void {
    if (at.who == .own) at.lane.is_blocked.store(is_blocked, .monotonic);
    if (stays and at.who == .own) return;
    if (at.lane.visitor.load(.monotonic) != @backingInt(at.who)) return;
    at.lane.visitor.store(@backingInt(Visitor.nobody), .seq_cst);
}

/// As `Context.drain`. Null: so many were not handed out, or the caller is not inside.
pub fn drain(at: Reached, processed: u32, max: u32) ?u32 {
    const lane = at.lane;
    const context = at.context;
    const rx = context.rx.?;
    const log = lane.log;
    if (lane.visitor.load(.monotonic) != @backingInt(at.who)) return null;
    const from = log.processed_next();
    if (processed > log.read_next() - from) return null;
    if (processed > 0) {
        context.note_processed(rx, log, lane.batch()[0..processed]);
        log.processed(from + processed);
        if (rx.windows != null) context.tell_processed(rx);
    }
    if (at.who == .own) context.look_inline(rx, log, max);
    if (log.read_next() != log.processed_next()) log.rewind();
    return log.fill(lane.batch(), max);
}

/// The thread that has opened a lane goes to sleep unless something waits for it.
pub fn arm(at: Reached) bool {
    at.lane.armed.arm();
    if (!at.lane.has_messages() and !at.context.draining.load(.acquire)) return false;
    _ = at.lane.armed.disarm();
    return true;
}

/// After a step of the receive agent: wakes the threads that have opened lanes. True when there are
/// new messages for the context's own thread.
pub fn notify(context: *Context, lanes: []Lane) bool {
    var has_messages = false;
    for (lanes) |*lane| {
        const ordered = lane.log.ordered_next();
        if (ordered == lane.ordered_seen) continue;
        lane.ordered_seen = ordered;
        if (lane.is_opened.load(.acquire)) {
            wake(context, lane);
        } else if (lane.has_messages()) has_messages = true;
    }
    return has_messages;
}

fn wake(context: *Context, lane: *Lane) void {
    const id = lane.waker_id.load(.acquire);
    if (id < 0 or !lane.armed.take()) return;
    context.wakers.wake(@intCast(id));
}

/// The context ends: whoever sleeps finds out.
pub fn wake_all(context: *Context) void {
    const rx = context.rx orelse return;
    for (rx.lanes) |*lane| if (lane.is_opened.load(.acquire)) wake(context, lane);
}

/// Another thread is inside.
pub fn any_visitor(context: *const Context) bool {
    const rx = context.rx orelse return false;
    const opened = @backingInt(Visitor.opened);
    for (rx.lanes) |*lane| if (lane.visitor.load(.seq_cst) == opened) return true;
    return false;
}

/// A handler in another thread refused a message: counted, and told unless a line waits already.
pub fn refused(at: Reached, count: u32, text: []const u8) void {
    const fault = &at.lane.fault;
    if (text.len == 0 and count == 0) {
        _ = at.lane.refused.fetchAdd(1, .monotonic);
        return;
    }
    if (fault.state.cmpxchgStrong(0, 1, .acquire, .monotonic) != null) return;
    fault.count = count;
    fault.len = @intCast(@min(text.len, Fault.text_max));
    @memcpy(fault.text[0..fault.len], text[0..fault.len]);
    fault.state.store(2, .release);
    at.context.call_own();
}

/// The line of a lane, if one waits: `refused` as it was called. The context's own thread.
pub fn take_fault(lane: *Lane, out: []u8) ?struct { count: u32, len: u32 } {
    const fault = &lane.fault;
    if (fault.state.load(.acquire) != 2) return null;
    const len: u32 = @intCast(@min(fault.len, out.len));
    @memcpy(out[0..len], fault.text[0..len]);
    const count = fault.count;
    fault.state.store(0, .release);
    return .{ .count = count, .len = len };
}

pub fn any_fault(context: *const Context) bool {
    const rx = context.rx orelse return false;
    for (rx.lanes) |*lane| if (lane.fault.state.load(.acquire) == 2) return true;
    return false;
}

// -------------------------------------------------------------------- in other threads

const Slot = struct {
    /// Generation << 1 | a call is under way.
    word: std.atomic.Value(u32) align(64) = .init(0),
    /// What a call works with. Changed under the lock while no call is under way.
    reached: ?Reached = null,
    thread_id: i32 = 0,
};

/// The lanes of a process that other threads have opened.
pub const Opened = struct {
    slots: [opened_max]Slot = @splat(.{}),
    /// Held by who opens a lane or takes one away. Calls on lanes do not take it.
    lock: Token = .{},

    pub inline fn is_opened(handle: u32) bool {
        return handle & opened_bit != 0;
    }

    inline fn idle_word(handle: u32) u32 {
        return ((handle & ~opened_bit) >> index_bits) << 1;
    }

    /// A call begins; null: the lane was taken away. `end` ends it.
    pub fn begin(self: *Opened, handle: u32) ?Reached {
        const slot = &self.slots[handle & (opened_max - 1)];
        const idle = idle_word(handle);
        if (slot.word.cmpxchgStrong(idle, idle | 1, .seq_cst, .monotonic) != null) return null;
        if (slot.reached) |reached| return reached;
        slot.word.store(idle, .release);
        return null;
    }

    pub fn end(self: *Opened, handle: u32) void {
        self.slots[handle & (opened_max - 1)].word.store(idle_word(handle), .release);
    }

    /// The calling thread opens a lane. Null: `failure` tells why.
    pub fn open(self: *Opened, context: *Context, lane: *Lane, failure: *Failure) ?u32 {
        self.lock.take();
        defer self.lock.give();
        if (lane.is_opened.load(.seq_cst)) {
            failure.set("lane {d} is open already", .{lane.no});
            return null;
        }
        const index = for (&self.slots, 0..) |*slot, i| {
            if (slot.reached == null) break i;
        } else {
            failure.set("no more than {d} lanes can be open in a process", .{opened_max});
            return null;
        };
        lane.waker_id.store(-1, .monotonic);
        _ = lane.armed.disarm();
        lane.is_opened.store(true, .seq_cst);
        const slot = &self.slots[index];
        slot.thread_id = linux.gettid();
        slot.reached = .{ .context = context, .lane = lane, .who = .opened };
        watch_thread(self);
        const generation = slot.word.load(.acquire) >> 1;
        return opened_bit | generation << index_bits | @as(u32, @intCast(index));
    }

    /// False: it had been taken away already.
    pub fn close(self: *Opened, handle: u32) bool {
        self.lock.take();
        defer self.lock.give();
        const slot = &self.slots[handle & (opened_max - 1)];
        if (slot.word.load(.acquire) & ~@as(u32, 1) != idle_word(handle)) return false;
        if (slot.reached == null) return false;
        take_away(slot);
        return true;
    }

    /// The context is about to end.
    pub fn close_of_context(self: *Opened, context: *const Context) void {
        self.lock.take();
        defer self.lock.give();
        for (&self.slots) |*slot| {
            const reached = slot.reached orelse continue;
            if (reached.context == context) take_away(slot);
        }
    }

    fn close_of_thread(self: *Opened, thread_id: i32) void {
        self.lock.take();
        defer self.lock.give();
        for (&self.slots) |*slot| {
            if (slot.reached != null and slot.thread_id == thread_id) take_away(slot);
        }
    }

    /// Waits for the call that is under way and lets no other one begin; then the lane is the
    /// context's own again, and what was not processed waits for it.
    fn take_away(slot: *Slot) void {
        const idle = slot.word.load(.monotonic) & ~@as(u32, 1);
        const next = ((idle >> 1) + 1) & generation_mask;
        var spins: u32 = 0;
        while (slot.word.cmpxchgStrong(idle, next << 1, .seq_cst, .monotonic) != null) {
            spins += 1;
            if (spins < 200) std.atomic.spinLoopHint() else std.Thread.yield() catch {};
        }
        const reached = slot.reached.?;
        slot.reached = null;
        const lane = reached.lane;
        lane.waker_id.store(-1, .monotonic);
        lane.is_opened.store(false, .seq_cst);
        if (lane.visitor.load(.seq_cst) == @backingInt(Visitor.opened)) {
            lane.visitor.store(@backingInt(Visitor.nobody), .seq_cst);
        }
        if (lane.has_messages()) reached.context.call_own();
    }

    /// Under the lock: the calling thread's end closes its lanes.
    fn watch_thread(self: *Opened) void {
        if (!has_key) {
            if (std.c.pthread_key_create(&key, thread_ends) != .SUCCESS) return;
            has_key = true;
        }
        _ = std.c.pthread_setspecific(key, self);
    }

    fn thread_ends(opened: *anyopaque) callconv(.c) void {
        const self: *Opened = @ptrCast(@alignCast(opened));
        self.close_of_thread(linux.gettid());
    }
};

/// Of all tables of the process: there is one, but for tests.
var key: std.c.pthread_key_t = undefined;
var has_key = false;

comptime {
    assert(lanes_max == 256 and opened_max <= 1 << 8);
}
