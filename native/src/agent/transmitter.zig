//! The producer's side of a transmitter: memory from the arena, numbers from the windows,
//! `WOULD_BLOCK`.
//!
//! Runs in the thread that calls `send`. Everything that a message needs is there when `send`
//! answers 0: bytes in the arena, a node in the window, `written` moved. No system call but the one
//! that sends the datagram, and that one only where `AsynchronousRms` is 0.
//!
//! Threads that share a transmitter (`senderToken`) each have an `Allocator`: they reserve and fill
//! memory side by side, and meet only where a message gets its number (`commit`), for which one
//! after the other holds `publishing`. That gives a window one order, in which the messages of each
//! thread keep theirs. A transmitter that nobody shares pays one branch for it.

const std = @import("std");
const abi = @import("../abi.zig");
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const copy = @import("../copy.zig").copy;
const clock = @import("clock.zig");
const layout = @import("../window/node.zig");
const pool_file = @import("../window/pool.zig");
const TxChannel = @import("tx_channel.zig").TxChannel;
const Token = @import("token.zig").Token;
const Waiter = @import("wait.zig").Waiter;

const Status = abi.Status;
const ChunkPool = pool_file.ChunkPool;
const Bump = pool_file.Bump;
const header_bytes = limits.message_header_bytes;

/// A `sendto` costs about this long here: messages that come faster go together
/// (docs/decisions.md).
const send_cost_ns = 3 * clock.ns_per_us;

/// What was refused last, for `ready`.
pub const Refused = struct {
    /// 0: nothing.
    bytes: u64 = 0,
    /// It has its memory already and only needs a node.
    is_reserved: bool = false,
    partition: u32 = 0,
    /// It is to get its memory in the place of what this one has reserved, or beside it.
    grows: ?*Allocator = null,

    /// Stores only where there is something: other threads read what lies on the same line.
    inline fn clear(self: *Refused) void {
        if (self.bytes != 0) self.bytes = 0;
    }
};

/// Where a thread's messages lie, and what it was refused.
pub const Producer = struct {
    bump: Bump,
    refused: Refused = .{},
};

/// Memory for messages of one producing thread (`getAllocator`, `openSender`).
pub const Allocator = struct {
    /// A line of its own: other threads write theirs with each message.
    own: Producer align(64),
    context: *@import("context.zig").Context,
    transmitter: *Transmitter,
    /// Null: the thread of the context, whose `ready` covers all its allocators.
    thread_no: ?u6 = null,
    /// Reservation not yet sent: where its header is, and its payload's size.
    offset: u64 = 0,
    size: u32 = 0,
    is_reserved: bool = false,

    fn refused(self: *Allocator) *Refused {
        return if (self.thread_no == null) &self.transmitter.own.refused else &self.own.refused;
    }

    /// The reservation that was not sent goes back.
    pub fn forget(self: *Allocator) void {
        if (!self.is_reserved) return;
        self.own.bump.cancel(self.offset, header_bytes + @as(u64, self.size));
        self.is_reserved = false;
    }
};

pub const Transmitter = struct {
    channels: []*TxChannel,
    /// All windows that share the arena: room for one may have to come from the cache of another.
    siblings: []const *TxChannel,
    pool: *ChunkPool,
    arena_bytes: u64,
    /// Of messages in the arena: those that are packed into datagrams lie closely behind each
    /// other, those that are only read in place begin on cache lines of their own.
    alignment: u32,
    waiter: ?*Waiter,
    /// Of the thread of the context; a line of its own.
    own: Producer align(64),
    send_flag: std.atomic.Value(bool) = .init(true),
    /// Other threads may send too. Set by the thread of the context, which is the only one that
    /// sends while it is false; it stays.
    is_shared: bool = false,
    /// Thread numbers of open senders, a bit each; changed under the lock of `Senders`.
    threads: u64 = 0,
    /// Who holds it may number messages and look at the rings' ends, where the transmitter is
    /// shared. Private memory: a process that dies takes it along.
    publishing: Token = .{},
    next_channel: u32 = 0,
    would_block: std.atomic.Value(u64) = .init(0),

    // ---------------------------------------------------------------- memory

    /// Room for a message of `size` bytes: offset of its header.
    fn reserve(self: *Transmitter, bump: *Bump, size: u64) ?u64 {
        const bytes = header_bytes + size;
        if (bump.alloc(bytes, self.alignment)) |offset| return offset;
        // What is only cached goes before anybody has to wait.
        for (self.siblings) |c| {
            c.token.take();
            defer c.token.give();
            while (c.make_room(clock.monotonic_ns())) {
                if (bump.alloc(bytes, self.alignment)) |offset| return offset;
            }
        }
        return null;
    }

    fn would_block_now(
        self: *Transmitter,
        refused: *Refused,
        size: u64,
        partition: u32,
        is_reserved: bool,
    ) Status {
        refused.* = .{
            .bytes = @max(1, size),
            .is_reserved = is_reserved,
            .partition = partition,
        };
        _ = self.would_block.fetchAdd(1, .monotonic);
        for (self.siblings) |c| c.want_ack.store(true, .monotonic);
        self.wake();
        return .would_block;
    }

    fn too_large(self: *const Transmitter, size: u64) bool {
        return size > limits.message_bytes_max or size > self.arena_bytes;
    }

    /// Offset of the payload, or a negative status.
    pub fn malloc(self: *Transmitter, a: *Allocator, size: u32) f64 {
        a.forget();
        if (self.too_large(size)) return refusal(.too_large);
        const offset = self.reserve(&a.own.bump, size) orelse
            return refusal(self.would_block_now(a.refused(), size, 0, false));
        a.offset = offset;
        a.size = size;
        a.is_reserved = true;
        return @floatFromInt(offset + header_bytes);
    }

    /// Like `malloc`, but the first bytes stay; the place may change.
    pub fn realloc(self: *Transmitter, a: *Allocator, size: u32) f64 {
        if (!a.is_reserved) return self.malloc(a, size);
        if (self.too_large(size)) return refusal(.too_large);
        const old = header_bytes + @as(u64, a.size);
        const new = header_bytes + @as(u64, size);
        if (new <= old) {
            a.own.bump.shrink_last(a.offset, old, new);
        } else if (!a.own.bump.grow_last(a.offset, old, new)) {
            const offset = self.reserve_more(a, size) orelse {
                const status = self.would_block_now(a.refused(), size, 0, false);
                a.refused().grows = a;
                return refusal(status);
            };
            if (offset != a.offset) {
                const from = self.pool.slice(a.offset + header_bytes, a.size);
                @memcpy(self.pool.slice(offset + header_bytes, a.size), from);
                self.pool.free(a.offset, old);
                a.offset = offset;
            }
        }
        a.size = size;
        return @floatFromInt(a.offset + header_bytes);
    }

    /// Room for a message of `size` bytes behind what `a` has reserved (the same offset), or beside
    /// it. What is only cached may lie in the way of either.
    fn reserve_more(self: *Transmitter, a: *Allocator, size: u64) ?u64 {
        const bump = &a.own.bump;
        const old = header_bytes + @as(u64, a.size);
        const new = header_bytes + size;
        if (bump.alloc(new, 8)) |offset| return offset;
        for (self.siblings) |c| {
            c.token.take();
            defer c.token.give();
            while (c.sender.make_room(clock.monotonic_ns())) {
                if (bump.grow_last(a.offset, old, new)) return a.offset;
                if (bump.alloc(new, 8)) |offset| return offset;
            }
        }
        // Looking for room has taken chunks away that are open and empty.
        return if (bump.grow_last(a.offset, old, new)) a.offset else null;
    }

    /// Whether a reservation that could not grow now would: it stays as it is.
    fn may_grow(self: *Transmitter, a: *Allocator, size: u64) bool {
        const old = header_bytes + @as(u64, a.size);
        const new = header_bytes + size;
        if (new <= old) return true;
        const bump = &a.own.bump;
        const offset = if (bump.grow_last(a.offset, old, new))
            a.offset
        else
            self.reserve_more(a, size) orelse return false;
        if (offset == a.offset) bump.shrink_last(offset, new, old) else bump.cancel(offset, new);
        return true;
    }

    fn refusal(status: Status) f64 {
        return -@as(f64, @floatFromInt(@backingInt(status)));
    }

    // ---------------------------------------------------------------- send

    /// Sends what was written into the reservation of `a`. A refused one stays and may be sent
    /// again.
    pub fn send(self: *Transmitter, a: *Allocator, length: u32, partition: u32, arg: u32) Status {
        if (arg > std.math.maxInt(u16)) return .bad_argument;
        if (!a.is_reserved or length > a.size) return .bad_argument;
        const wanted = self.find(partition) orelse return .bad_partition;
        const message: Message = .{ .offset = a.offset, .length = length, .arg = @intCast(arg) };
        const channel = self.commit(wanted, message, a) orelse
            return self.would_block_now(a.refused(), length, partition, true);
        a.is_reserved = false;
        a.refused().clear();
        self.tell(channel);
        return .ok;
    }

    /// Copies `data` and sends it; `from` is the calling thread's.
    pub fn send_data(
        self: *Transmitter,
        from: *Producer,
        data: []const u8,
        partition: u32,
        arg: u32,
    ) Status {
        if (arg > std.math.maxInt(u16)) return .bad_argument;
        const wanted = self.find(partition) orelse return .bad_partition;
        if (self.too_large(data.len)) return .too_large;
        const offset = self.reserve(&from.bump, data.len) orelse
            return self.would_block_now(&from.refused, data.len, partition, false);
        copy(self.pool.slice(offset + header_bytes, data.len), data);
        const message: Message = .{
            .offset = offset,
            .length = @intCast(data.len),
            .arg = @intCast(arg),
        };
        const channel = self.commit(wanted, message, null) orelse {
            from.bump.cancel(offset, header_bytes + data.len);
            return self.would_block_now(&from.refused, data.len, partition, false);
        };
        from.refused.clear();
        self.tell(channel);
        return .ok;
    }

    const Message = struct { offset: u64, length: u32, arg: u16 };

    /// Where a message is to go: a window, or any in turn.
    const Wanted = union(enum) { one: *TxChannel, any };

    /// Null: there is no such partition.
    inline fn find(self: *const Transmitter, partition: u32) ?Wanted {
        if (partition == 0) return .any;
        for (self.channels) |c| if (c.partition == partition) return .{ .one = c };
        return null;
    }

    inline fn begin_publishing(self: *Transmitter) void {
        if (self.is_shared) self.publishing.take();
    }

    inline fn end_publishing(self: *Transmitter) void {
        if (self.is_shared) self.publishing.give();
    }

    /// Chooses the window and makes the message visible there; null: no node is free. Only here do
    /// threads that share a transmitter wait for each other: some 20 ns, or one step of an agent
    /// where a full ring has to give up what it only caches. A reservation of `from` is cut to what
    /// is sent before anybody can free it.
    inline fn commit(
        self: *Transmitter,
        wanted: Wanted,
        message: Message,
        from: ?*Allocator,
    ) ?*TxChannel {
        self.begin_publishing();
        defer self.end_publishing();
        const channel = switch (wanted) {
            .one => |c| if (has_node(c)) c else return null,
            .any => self.next_with_node() orelse return null,
        };
        if (from) |a| a.own.bump.shrink_last(
            message.offset,
            header_bytes + @as(u64, a.size),
            header_bytes + @as(u64, message.length),
        );
        const flags: u16 = if (self.send_flag.load(.monotonic)) 0 else layout.flag_unsent;
        if (channel.latency) |l| {
            l.now_ns = clock.monotonic_ns();
            l.mark(channel.window.written() + 1);
        }
        const at8: u32 = @intCast((message.offset + header_bytes) / limits.payload_alignment);
        const no = channel.window.publish(at8, message.length, message.arg, flags);
        assert(no != null);
        return channel;
    }

    /// Strict round robin; one without room is skipped. Null: none has room.
    fn next_with_node(self: *Transmitter) ?*TxChannel {
        for (0..self.channels.len) |_| {
            const c = self.channels[self.next_channel];
            self.next_channel = (self.next_channel + 1) % @as(u32, @intCast(self.channels.len));
            if (has_node(c)) return c;
        }
        return null;
    }

    inline fn has_node(c: *TxChannel) bool {
        if (!c.window.ring_full()) return true;
        c.token.take();
        defer c.token.give();
        _ = c.make_room(clock.monotonic_ns());
        return !c.window.ring_full();
    }

    /// The message is in the window: sees to it that it leaves.
    fn tell(self: *Transmitter, c: *TxChannel) void {
        if (c.shm) |*shm| {
            shm.wake();
            if (!c.on_network.load(.monotonic)) return;
        }
        if (c.asynchronous) return self.wake();
        self.send_now(c);
    }

    /// `AsynchronousRms: 0`: the datagram leaves in the caller's thread, unless one left so
    /// recently that waiting for company costs less than another system call; whoever comes next
    /// takes it along.
    fn send_now(self: *Transmitter, c: *TxChannel) void {
        if (c.token.try_take()) {
            const now_ns = clock.monotonic_ns();
            if (now_ns -% c.sender.last_send_ns >= send_cost_ns) {
                c.sender.send_flag = c.send_flag.load(.monotonic);
                _ = c.flush(now_ns);
            }
            const heartbeat_ns = c.sender.heartbeat_due_ns;
            c.token.give();
            if (!c.sender.has_new_data()) {
                // The native thread may sleep for long; it is to send the heartbeats that follow.
                if (self.waiter) |w| _ = w.wake_if_later(heartbeat_ns);
                return;
            }
        }
        self.wake();
    }

    fn wake(self: *Transmitter) void {
        if (self.waiter) |w| _ = w.wake_if_sleeping();
    }

    // ---------------------------------------------------------------- waiting

    pub fn set_send_flag(self: *Transmitter, flag: bool) void {
        self.send_flag.store(flag, .monotonic);
        for (self.channels) |c| c.send_flag.store(flag, .monotonic);
        self.wake();
    }

    /// The numbers to be acknowledged for everything sent so far, a partition each.
    pub fn marks(self: *Transmitter, out: []f64) u32 {
        for (self.channels, 0..) |c, i| {
            if (i >= out.len) break;
            var mark = c.window.written();
            if (!self.send_flag.load(.monotonic)) {
                c.token.take();
                defer c.token.give();
                mark = c.sender.announced.msg;
            }
            out[i] = @floatFromInt(mark);
        }
        return @intCast(@min(out.len, self.channels.len));
    }

    pub fn flushed(self: *Transmitter, at: []const f64) bool {
        var all = true;
        for (self.channels, 0..) |c, i| {
            if (i >= at.len) break;
            const mark: u64 = @intFromFloat(at[i]);
            if (c.sender.is_flushed(mark)) continue;
            c.want_ack.store(true, .monotonic);
            all = false;
        }
        if (!all) self.wake();
        return all;
    }

    /// Would the message refused last fit now? (None refused: any room.)
    pub fn ready(self: *Transmitter, from: *Producer) bool {
        const refused = from.refused;
        if (!self.any_has_node(refused.partition)) return self.not_ready();
        if (refused.bytes > 0 and refused.is_reserved) return true;
        if (refused.bytes > 0) if (refused.grows) |a| if (a.is_reserved) {
            return self.may_grow(a, refused.bytes) or self.not_ready();
        };
        const size = @max(1, refused.bytes);
        const offset = self.reserve(&from.bump, size) orelse return self.not_ready();
        from.bump.cancel(offset, header_bytes + size);
        return true;
    }

    fn not_ready(self: *Transmitter) bool {
        for (self.siblings) |c| c.want_ack.store(true, .monotonic);
        self.wake();
        return false;
    }

    fn any_has_node(self: *Transmitter, partition: u32) bool {
        self.begin_publishing();
        defer self.end_publishing();
        for (self.channels) |c| {
            if (partition != 0 and c.partition != partition) continue;
            if (has_node(c)) return true;
        }
        return false;
    }

    pub fn connected(self: *const Transmitter) u32 {
        var low: u32 = std.math.maxInt(u32);
        for (self.channels) |c| low = @min(low, c.sender.peers.connected);
        return low;
    }
};
