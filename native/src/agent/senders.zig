//! Transmitters in other threads than their context's (`openSender`): a handle for each sender.
//!
//! The thread of a context may stop and close it at any moment, also while another thread is inside
//! a call on one of its senders; and a handle may be used long after the context has gone. So each
//! sender has a place that is never given back, with a word in it: the generation, and whether a
//! call is under way. A call begins by setting that bit, if the generation is still the handle's
//! (one locked instruction), and ends by clearing it (a store). Who takes a sender away waits for
//! the bit, then changes the generation: after that no call begins. A call is bounded and waits for
//! nobody who takes senders away, so that this wait is short.
//!
//! A sender whose thread ends without closing it (a Worker that was terminated) is taken away by
//! that thread itself, in a destructor of thread-specific data. A Worker is never ended inside a
//! native call: what is half done is done.

const std = @import("std");
const linux = std.os.linux;
const abi = @import("../abi.zig");
const assert = @import("../assert.zig").assert;
const pool_file = @import("../window/pool.zig");
const transmitter_file = @import("transmitter.zig");
const Failure = @import("../transport/failure.zig").Failure;
const Token = @import("token.zig").Token;

const Allocator = transmitter_file.Allocator;
const Context = @import("context.zig").Context;
const Transmitter = transmitter_file.Transmitter;

/// Open at the same time in a process.
pub const senders_max = 1024;
const index_bits = std.math.log2_int(u32, senders_max);
/// Tells a sender's handle from that of a transmitter or an allocator.
const sender_bit: u32 = 1 << 30;
const generation_mask: u32 = (sender_bit >> index_bits) - 1;

const Slot = struct {
    /// Generation << 1 | a call is under way.
    word: std.atomic.Value(u32) align(64) = .init(0),
    /// What a call works with. Changed under the lock while no call is under way.
    allocator: ?*Allocator = null,
    thread_id: i32 = 0,
};

pub const Senders = struct {
    gpa: std.mem.Allocator,
    slots: [senders_max]Slot = @splat(.{}),
    /// Held by who opens a sender, takes one away, or starts or closes a context. Calls on senders
    /// do not take it.
    lock: Token = .{},

    pub inline fn is_sender(handle: u32) bool {
        return handle & sender_bit != 0;
    }

    inline fn slot_of(self: *Senders, handle: u32) *Slot {
        return &self.slots[handle & (senders_max - 1)];
    }

    inline fn idle_word(handle: u32) u32 {
        return ((handle & ~sender_bit) >> index_bits) << 1;
    }

    /// The sender's thread begins a call; null: it was taken away. `leave` ends the call.
    pub inline fn enter(self: *Senders, handle: u32) ?*Allocator {
        const slot = self.slot_of(handle);
        const idle = idle_word(handle);
        if (slot.word.cmpxchgStrong(idle, idle | 1, .seq_cst, .monotonic) != null) return null;
        if (slot.allocator) |a| return a;
        slot.word.store(idle, .release);
        return null;
    }

    pub inline fn leave(self: *Senders, handle: u32) void {
        self.slot_of(handle).word.store(idle_word(handle), .release);
    }

    /// A sender of the calling thread; the caller holds the lock. Null: `failure` tells why.
    pub fn open(
        self: *Senders,
        context: *Context,
        transmitter: *Transmitter,
        thread_no: u6,
        failure: *Failure,
    ) ?u32 {
        const bit = @as(u64, 1) << thread_no;
        if (transmitter.threads & bit != 0) {
            failure.set("thread number {d} has an open sender already", .{thread_no});
            return null;
        }
        const index = for (&self.slots, 0..) |*slot, i| {
            if (slot.allocator == null) break i;
        } else {
            failure.set("no more than {d} senders in a process", .{senders_max});
            return null;
        };
        const a = self.gpa.create(Allocator) catch {
            failure.set("out of memory", .{});
            return null;
        };
        const bump = pool_file.Bump.init(transmitter.pool) orelse {
            self.gpa.destroy(a);
            failure.set("too many allocators on one arena", .{});
            return null;
        };
        a.* = .{
            .context = context,
            .own = .{ .bump = bump },
            .transmitter = transmitter,
            .thread_no = thread_no,
        };
        transmitter.threads |= bit;
        const slot = &self.slots[index];
        slot.thread_id = linux.gettid();
        slot.allocator = a;
        watch_thread(self);
        const generation = slot.word.load(.acquire) >> 1;
        return sender_bit | generation << index_bits | @as(u32, @intCast(index));
    }

    /// False: it had been taken away already.
    pub fn close(self: *Senders, handle: u32) bool {
        self.lock.take();
        defer self.lock.give();
        const slot = self.slot_of(handle);
        if (slot.word.load(.acquire) & ~@as(u32, 1) != idle_word(handle)) return false;
        if (slot.allocator == null) return false;
        self.take_away(slot);
        return true;
    }

    /// No sender of this context accepts anything any more, and the context is about to end; the
    /// caller holds the lock. A thread may be writing into its reservation at this moment, so what
    /// is reserved stays so, and no other arena is laid where this one lies.
    pub fn close_of_context(self: *Senders, context: *const Context) void {
        for (&self.slots) |*slot| {
            const a = slot.allocator orelse continue;
            if (a.context != context) continue;
            end_calls(slot);
            if (a.is_reserved) context.store.?.keep_arena = true;
            self.release(slot);
        }
    }

    fn close_of_thread(self: *Senders, thread_id: i32) void {
        self.lock.take();
        defer self.lock.give();
        for (&self.slots) |*slot| {
            if (slot.allocator != null and slot.thread_id == thread_id) self.take_away(slot);
        }
    }

    fn take_away(self: *Senders, slot: *Slot) void {
        end_calls(slot);
        const a = slot.allocator.?;
        a.forget();
        a.own.bump.close();
        self.release(slot);
    }

    /// Waits for the call that is under way, and lets no other one begin.
    fn end_calls(slot: *Slot) void {
        const idle = slot.word.load(.monotonic) & ~@as(u32, 1);
        const next = ((idle >> 1) + 1) & generation_mask;
        var spins: u32 = 0;
        while (slot.word.cmpxchgStrong(idle, next << 1, .seq_cst, .monotonic) != null) {
            spins += 1;
            if (spins < 200) std.atomic.spinLoopHint() else std.Thread.yield() catch {};
        }
    }

    fn release(self: *Senders, slot: *Slot) void {
        const a = slot.allocator.?;
        const bit = @as(u64, 1) << a.thread_no.?;
        assert(a.transmitter.threads & bit != 0);
        a.transmitter.threads &= ~bit;
        slot.allocator = null;
        self.gpa.destroy(a);
    }

    // ---- threads that end

    /// Under the lock: the calling thread's end closes its senders.
    fn watch_thread(self: *Senders) void {
        if (!has_key) {
            if (std.c.pthread_key_create(&key, thread_ends) != .SUCCESS) return;
            has_key = true;
        }
        _ = std.c.pthread_setspecific(key, self);
    }

    fn thread_ends(senders: *anyopaque) callconv(.c) void {
        const self: *Senders = @ptrCast(@alignCast(senders));
        self.close_of_thread(linux.gettid());
    }
};

/// Of all tables of the process: there is one, but for tests.
var key: std.c.pthread_key_t = undefined;
var has_key = false;
