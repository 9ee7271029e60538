//! The producer's side of a transmitter: memory from the arena, numbers from the windows,
//! `WOULD_BLOCK`.
//!
//! Runs in the thread that calls `send`. Everything that a message needs is there when `send`
//! answers 0: bytes in the arena, a node in the window, `written` moved. No system call but the one
//! that sends the datagram, and that one only where `AsynchronousRms` is 0.

const std = @import("std");
const abi = @import("../abi.zig");
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const clock = @import("clock.zig");
const layout = @import("../window/node.zig");
const pool_file = @import("../window/pool.zig");
const TxChannel = @import("tx_channel.zig").TxChannel;
const Waiter = @import("wait.zig").Waiter;

const Status = abi.Status;
const ChunkPool = pool_file.ChunkPool;
const Bump = pool_file.Bump;
const header_bytes = limits.message_header_bytes;

/// A `sendto` costs about this long here: messages that come faster go together
/// (docs/decisions.md).
const send_cost_ns = 3 * clock.ns_per_us;

/// Memory for messages of one producing thread (`getAllocator`).
pub const Allocator = struct {
    context: *const @import("context.zig").Context,
    bump: Bump,
    transmitter: *Transmitter,
    /// Reservation not yet sent: where its header is, and its payload's size.
    offset: u64 = 0,
    size: u32 = 0,
    is_reserved: bool = false,
};

pub const Transmitter = struct {
    channels: []*TxChannel,
    /// All windows that share the arena: room for one may have to come from the cache of another.
    siblings: []const *TxChannel,
    pool: *ChunkPool,
    arena_bytes: u64,
    waiter: ?*Waiter,
    own: Bump,
    send_flag: bool = true,
    next_channel: u32 = 0,
    /// What was refused last, for `ready`; 0: nothing.
    refused_bytes: u64 = 0,
    /// It has its memory already and only needs a node.
    refused_reserved: bool = false,
    refused_partition: u32 = 0,
    would_block: u64 = 0,

    // ---------------------------------------------------------------- memory

    /// Room for a message of `size` bytes: offset of its header.
    fn reserve(self: *Transmitter, bump: *Bump, size: u64) ?u64 {
        const bytes = header_bytes + size;
        if (bump.alloc(bytes, 8)) |offset| return offset;
        // What is only cached goes before anybody has to wait.
        for (self.siblings) |c| {
            c.token.take();
            defer c.token.give();
            while (c.sender.make_room(clock.monotonic_ns())) {
                if (bump.alloc(bytes, 8)) |offset| return offset;
            }
        }
        return null;
    }

    fn would_block_now(self: *Transmitter, size: u64, partition: u32) Status {
        self.refused_bytes = @max(1, size);
        self.refused_partition = partition;
        self.refused_reserved = false;
        self.would_block += 1;
        for (self.siblings) |c| c.want_ack.store(true, .monotonic);
        self.wake();
        return .would_block;
    }

    fn too_large(self: *const Transmitter, size: u64) bool {
        return size > limits.message_bytes_max or size > self.arena_bytes;
    }

    /// Offset of the payload, or a negative status.
    pub fn malloc(self: *Transmitter, a: *Allocator, size: u32) f64 {
        self.forget(a);
        if (self.too_large(size)) return refusal(.too_large);
        const offset = self.reserve(&a.bump, size) orelse
            return refusal(self.would_block_now(size, 0));
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
            a.bump.shrink_last(a.offset, old, new);
        } else if (!a.bump.grow_last(a.offset, old, new)) {
            const offset = self.reserve(&a.bump, size) orelse
                return refusal(self.would_block_now(size, 0));
            const from = self.pool.slice(a.offset + header_bytes, a.size);
            @memcpy(self.pool.slice(offset + header_bytes, a.size), from);
            self.pool.free(a.offset, old);
            a.offset = offset;
        }
        a.size = size;
        return @floatFromInt(a.offset + header_bytes);
    }

    fn refusal(status: Status) f64 {
        return -@as(f64, @floatFromInt(@backingInt(status)));
    }

    pub fn forget(self: *Transmitter, a: *Allocator) void {
        _ = self;
        if (!a.is_reserved) return;
        a.bump.cancel(a.offset, header_bytes + @as(u64, a.size));
        a.is_reserved = false;
    }

    // ---------------------------------------------------------------- send

    /// Sends what was written into the reservation of `a`. A refused one stays and may be sent
    /// again.
    pub fn send(self: *Transmitter, a: *Allocator, length: u32, partition: u32, arg: u32) Status {
        if (arg > std.math.maxInt(u16)) return .bad_argument;
        if (!a.is_reserved or length > a.size) return .bad_argument;
        const channel = switch (self.choose(partition)) {
            .found => |c| c,
            .unknown => return .bad_partition,
            .full => {
                defer self.refused_reserved = true;
                return self.would_block_now(length, partition);
            },
        };
        const old = header_bytes + @as(u64, a.size);
        a.bump.shrink_last(a.offset, old, header_bytes + @as(u64, length));
        a.is_reserved = false;
        self.publish(channel, a.offset, length, @intCast(arg));
        return .ok;
    }

    /// Copies `data` and sends it.
    pub fn send_data(self: *Transmitter, data: []const u8, partition: u32, arg: u32) Status {
        if (arg > std.math.maxInt(u16)) return .bad_argument;
        const channel = switch (self.choose(partition)) {
            .found => |c| c,
            .unknown => return .bad_partition,
            .full => {
                if (self.too_large(data.len)) return .too_large;
                return self.would_block_now(data.len, partition);
            },
        };
        if (self.too_large(data.len)) return .too_large;
        const offset = self.reserve(&self.own, data.len) orelse
            return self.would_block_now(data.len, partition);
        @memcpy(self.pool.slice(offset + header_bytes, data.len), data);
        self.publish(channel, offset, @intCast(data.len), @intCast(arg));
        return .ok;
    }

    const Choice = union(enum) { found: *TxChannel, unknown, full };

    /// Partition 0: strict round robin; one without room is skipped.
    fn choose(self: *Transmitter, partition: u32) Choice {
        if (partition != 0) {
            for (self.channels) |c| {
                if (c.partition != partition) continue;
                return if (self.has_node(c)) .{ .found = c } else .full;
            }
            return .unknown;
        }
        for (0..self.channels.len) |_| {
            const c = self.channels[self.next_channel];
            self.next_channel = (self.next_channel + 1) % @as(u32, @intCast(self.channels.len));
            if (self.has_node(c)) return .{ .found = c };
        }
        return .full;
    }

    fn has_node(self: *Transmitter, c: *TxChannel) bool {
        _ = self;
        if (!c.window.ring_full()) return true;
        c.token.take();
        defer c.token.give();
        _ = c.sender.make_room(clock.monotonic_ns());
        return !c.window.ring_full();
    }

    fn publish(self: *Transmitter, c: *TxChannel, offset: u64, length: u32, arg: u16) void {
        const flags: u16 = if (self.send_flag) 0 else layout.flag_unsent;
        const at8: u32 = @intCast((offset + header_bytes) / limits.payload_alignment);
        const no = c.window.publish(at8, length, arg, flags);
        assert(no != null);
        self.refused_bytes = 0;
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
        self.send_flag = flag;
        for (self.channels) |c| c.send_flag.store(flag, .monotonic);
        self.wake();
    }

    /// The numbers to be acknowledged for everything sent so far, a partition each.
    pub fn marks(self: *Transmitter, out: []f64) u32 {
        for (self.channels, 0..) |c, i| {
            if (i >= out.len) break;
            var mark = c.window.written();
            if (!self.send_flag) {
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
    pub fn ready(self: *Transmitter) bool {
        const size = if (self.refused_bytes == 0) 1 else self.refused_bytes;
        switch (self.choose_without_turn(self.refused_partition)) {
            true => {},
            false => return self.not_ready(),
        }
        if (self.refused_bytes > 0 and self.refused_reserved) return true;
        const offset = self.reserve(&self.own, size) orelse return self.not_ready();
        self.own.cancel(offset, header_bytes + size);
        return true;
    }

    fn not_ready(self: *Transmitter) bool {
        for (self.siblings) |c| c.want_ack.store(true, .monotonic);
        self.wake();
        return false;
    }

    fn choose_without_turn(self: *Transmitter, partition: u32) bool {
        for (self.channels) |c| {
            if (partition != 0 and c.partition != partition) continue;
            if (self.has_node(c)) return true;
        }
        return false;
    }

    pub fn connected(self: *const Transmitter) u32 {
        var low: u32 = std.math.maxInt(u32);
        for (self.channels) |c| low = @min(low, c.sender.peers.connected);
        return low;
    }
};
