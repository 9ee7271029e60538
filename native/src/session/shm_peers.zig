//! The receivers that read one sending window in place, as its sender sees them. No I/O.
//!
//! Frames go by rings (`frame_ring.zig`): the window's own to all, each receiver's own back.
//! Messages do not go anywhere. What a receiver has processed stands in its slot, and is taken for
//! an acknowledgement.
//!
//! *Memory that is being read.* A connected receiver holds the window, as any other. One that was
//! disconnected (it hangs, or was stopped) may still stand in the middle of a message. So each
//! receiver claims the numbers that it may be reading (`Slot.claimed`), and what is claimed is
//! pinned before its memory is given back: the window goes on, the bytes stay until the receiver
//! has processed them, or is dead. Receiver: stores the claim, then looks at `reclaimed`. Sender:
//! moves `reclaimed`, then looks at the claim. Whoever comes second sees the other.

const std = @import("std");
const base_limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const cut = @import("../testing/cut.zig");
const mutant = @import("../testing/mutant.zig");
const barrier = @import("../agent/barrier.zig");
const layout = @import("../window/node.zig");
const frame_ring = @import("../window/frame_ring.zig");
const Address = @import("../transport/address.zig").Address;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const SendingWindow = @import("../window/sending_window.zig").SendingWindow;
const Sender = @import("sender.zig").Sender;

const Slot = layout.Slot;
const ReceiverPage = layout.ReceiverPage;
const FrameRing = layout.FrameRing;

/// Frames taken from one receiver in a step.
pub const frames_per_step = 8;

/// A message whose memory waits for a receiver.
const Pin = struct { no: u64, span: ChunkPool.Span };

pub const ShmPeer = struct {
    page: *ReceiverPage,
    slot: *const Slot,
    frames: frame_ring.Reader,
    /// Ring of pins, in order of their numbers.
    pins: []Pin,
    pins_first: u32 = 0,
    pins_count: u32 = 0,

    fn consumed(self: *const ShmPeer) u64 {
        return @atomicLoad(u64, &self.slot.consumed, .acquire);
    }

    /// What counts as acknowledged.
    fn acknowledged(self: *const ShmPeer) u64 {
        if (@atomicLoad(u32, &self.slot.is_manual, .monotonic) == 0) return self.consumed();
        return @atomicLoad(u64, &self.slot.processed, .acquire);
    }

    /// False: the receiver can't have taken so much.
    fn pin(self: *ShmPeer, no: u64, span: ChunkPool.Span, chunks_max: u32) bool {
        if (self.pins_count == self.pins.len) return false;
        if (self.pins_count > 0 and self.chunks_with(span) > chunks_max) return false;
        self.pins[(self.pins_first + self.pins_count) % self.pins.len] = .{
            .no = no,
            .span = span,
        };
        self.pins_count += 1;
        return true;
    }

    /// Chunks of all pins and one more, counted as the receiver does (`ShmSource.chunks_for`).
    fn chunks_with(self: *const ShmPeer, span: ChunkPool.Span) u32 {
        var chunks: u32 = span.count;
        var later = span;
        for (0..self.pins_count) |i| {
            const k = self.pins_first + self.pins_count - 1 - @as(u32, @intCast(i));
            const earlier = self.pins[k % self.pins.len].span;
            const last = earlier.first + earlier.count - 1;
            chunks += earlier.count - @intFromBool(last == later.first);
            later = earlier;
        }
        return chunks;
    }

    /// Gives back what the receiver is done with.
    fn unpin_below(self: *ShmPeer, pool: *ChunkPool, no: u64) void {
        while (self.pins_count > 0) {
            const oldest = self.pins[self.pins_first];
            if (oldest.no >= no) return;
            pool.release(oldest.span.first, oldest.span.count);
            self.pins_first = (self.pins_first + 1) % @as(u32, @intCast(self.pins.len));
            self.pins_count -= 1;
        }
    }
};

pub const ShmPeers = struct {
    window: *SendingWindow,
    pool: *ChunkPool,
    writer: frame_ring.Writer,
    /// Places keep their index, which is the address of who is there.
    places: []?ShmPeer,
    pins: []Pin,
    /// Who sleeps and has to be woken: read by producers while places come and go.
    bells: []std.atomic.Value(?*layout.Bell),
    bells_high: std.atomic.Value(u32) = .init(0),
    /// Where no receiver ever sleeps nobody looks.
    sleepers: std.atomic.Value(u32) = .init(0),
    buffer: [frame_ring.frame_bytes_max]u8 align(8) = undefined,
    /// Calls the kernel for a receiver that sleeps. The driver's.
    ring_bell: *const fn (bell: *layout.Bell) void,

    pub fn init(
        gpa: std.mem.Allocator,
        window: *SendingWindow,
        pool: *ChunkPool,
        ring: *FrameRing,
        ring_bell: *const fn (bell: *layout.Bell) void,
    ) !ShmPeers {
        const places = try gpa.alloc(?ShmPeer, base_limits.shm_peers_max);
        errdefer gpa.free(places);
        @memset(places, null);
        const pins = try gpa.alloc(Pin, base_limits.shm_peers_max * base_limits.shm_claim_max);
        errdefer gpa.free(pins);
        const bells = try gpa.alloc(std.atomic.Value(?*layout.Bell), base_limits.shm_peers_max);
        @memset(bells, .init(null));
        return .{
            .window = window,
            .pool = pool,
            .writer = .init(ring),
            .places = places,
            .pins = pins,
            .bells = bells,
            .ring_bell = ring_bell,
        };
    }

    /// To be called once the struct is where it stays.
    pub fn settle(self: *ShmPeers) void {
        self.window.guard = .{ .context = self, .before_release = before_release };
    }

    pub fn deinit(self: *ShmPeers, gpa: std.mem.Allocator) void {
        self.window.guard = null;
        gpa.free(self.bells);
        gpa.free(self.pins);
        gpa.free(self.places);
    }

    // ---------------------------------------------------------------- who is there

    /// A receiver's memory is there. Null: there are too many. Its place, until `detach`.
    pub fn attach(
        self: *ShmPeers,
        page: *ReceiverPage,
        ring: *const FrameRing,
        slot: *const Slot,
    ) ?u32 {
        for (self.places, 0..) |*place, i| {
            if (place.* != null) continue;
            place.* = .{
                .page = page,
                .slot = slot,
                .frames = .init(ring),
                .pins = self.pins[i * base_limits.shm_claim_max ..][0..base_limits.shm_claim_max],
            };
            if (page.sleeps != 0) {
                self.bells[i].store(&page.bell, .release);
                const index: u32 = @intCast(i);
                _ = self.bells_high.fetchMax(index + 1, .release);
                _ = self.sleepers.fetchAdd(1, .seq_cst);
            }
            return @intCast(i);
        }
        return null;
    }

    /// It is dead, or its memory is another's now. What it said and processed until then counts:
    /// who ends in peace says goodbye in its ring, and is gone before anybody has looked.
    pub fn detach(self: *ShmPeers, now_ns: u64, sender: *Sender, place: u32) void {
        if (!mutant.on(.last_words_lost)) {
            self.collect(now_ns, sender);
            _ = self.hear(now_ns, sender, place, layout.cells);
        }
        const p = &(self.places[place].?);
        const id: u16 = @intCast(p.page.context_id & 0xffff);
        if (self.bells[place].swap(null, .acq_rel) != null) {
            _ = self.sleepers.fetchSub(1, .release);
        }
        if (!mutant.on(.dead_keeps_pins)) p.unpin_below(self.pool, std.math.maxInt(u64));
        self.places[place] = null;
        if (mutant.on(.dead_unnoticed)) return;
        const peer = sender.peers.find(id) orelse return;
        if (!peer.address.eql(address_of(place))) return;
        sender.on_receiver_gone(now_ns, peer);
    }

    /// Where frames to and from a place go; no network has such an address.
    pub fn address_of(place: u32) Address {
        return .{ .ip = 0, .port = @intCast(place + 1) };
    }

    // ---------------------------------------------------------------- frames

    /// Frames of all receivers. The work count.
    pub fn poll(self: *ShmPeers, now_ns: u64, sender: *Sender) u32 {
        var work: u32 = 0;
        for (self.places, 0..) |*place, i| {
            if (place.* == null) continue;
            work += self.hear(now_ns, sender, @intCast(i), frames_per_step);
        }
        return work;
    }

    /// Frames of one receiver. How many there were.
    fn hear(self: *ShmPeers, now_ns: u64, sender: *Sender, place: u32, max: u32) u32 {
        const p = &(self.places[place].?);
        for (0..max) |n| {
            const bytes = p.frames.read(&self.buffer) orelse return @intCast(n);
            sender.on_datagram(now_ns, address_of(place), bytes);
        }
        return max;
    }

    pub fn has_frame(self: *const ShmPeers) bool {
        for (self.places) |*place| {
            if (place.*) |*p| if (p.frames.has_frame()) return true;
        }
        return false;
    }

    /// To all receivers: the frame says for whom it is.
    pub fn send(self: *ShmPeers, bytes: []const u8) void {
        self.writer.write(bytes);
        self.wake();
    }

    /// Something was published: whoever sleeps is woken. Any thread.
    pub inline fn wake(self: *ShmPeers) void {
        if (self.sleepers.load(.monotonic) == 0) return;
        self.wake_sleepers();
    }

    fn wake_sleepers(self: *ShmPeers) void {
        barrier.full(); // What was published must be visible before the flags are read.
        for (self.bells[0..self.bells_high.load(.acquire)]) |*entry| {
            const bell = entry.load(.acquire) orelse continue;
            if (@atomicLoad(u32, &bell.sleeping, .monotonic) == 0) continue;
            if (@atomicRmw(u32, &bell.sleeping, .Xchg, 0, .seq_cst) == 0) continue;
            self.ring_bell(bell);
        }
    }

    // ---------------------------------------------------------------- acknowledgement

    /// What receivers have processed counts as acknowledged.
    pub fn collect(self: *ShmPeers, now_ns: u64, sender: *Sender) void {
        var moved = false;
        for (self.places, 0..) |*place, i| {
            const p = if (place.*) |*x| x else continue;
            const id: u16 = @intCast(p.page.context_id & 0xffff);
            if (mutant.on(.pins_dropped)) p.unpin_below(self.pool, std.math.maxInt(u64));
            if (p.pins_count > 0) p.unpin_below(self.pool, p.consumed());
            const peer = sender.peers.find(id) orelse continue;
            if (peer.state != .connected or !peer.address.eql(address_of(@intCast(i)))) continue;
            if (@atomicLoad(u64, &p.slot.connection, .acquire) != sender.o.connection) continue;
            if (sender.on_consumed(now_ns, peer, p.acknowledged())) moved = true;
        }
        if (moved) sender.advance_acked(now_ns);
    }

    /// The producer found no room: what was processed meanwhile is given back. True when something
    /// was freed.
    pub fn make_room(self: *ShmPeers, now_ns: u64, sender: *Sender) bool {
        const kept_from = self.window.reclaimed();
        const pinned = self.pinned_count();
        self.collect(now_ns, sender);
        // Pins hold memory of messages that were given up long ago.
        const is_more = self.window.reclaimed() != kept_from or self.pinned_count() < pinned;
        return sender.make_room(now_ns) or is_more;
    }

    fn pinned_count(self: *const ShmPeers) u64 {
        var count: u64 = 0;
        for (self.places) |*place| if (place.*) |*p| {
            count += p.pins_count;
        };
        return count;
    }

    /// `SendingWindow.reclaim_to` has moved `reclaimed` from `from` to `to` and is about to give
    /// the memory back.
    fn before_release(context: *anyopaque, from: u64, to: u64) void {
        const self: *ShmPeers = @ptrCast(@alignCast(context));
        barrier.full();
        cut.at(.release);
        if (mutant.on(.claims_ignored)) return;
        const chunks_max = base_limits.shm_claim_chunks(self.pool.bytes, self.pool.chunk_bytes);
        for (self.places) |*place| {
            const p = if (place.*) |*x| x else continue;
            const consumed = p.consumed();
            if (consumed >= to) continue;
            // A claim is as long as the protocol allows, whatever the memory says.
            const claimed = @min(
                @atomicLoad(u64, &p.slot.claimed, .acquire),
                consumed +| base_limits.shm_claim_max,
            );
            p.unpin_below(self.pool, consumed);
            for (@max(from, consumed)..@max(from, consumed, @min(to, claimed))) |no| {
                const node = self.window.node(no);
                if (node.flags & layout.flag_lost != 0) continue;
                const bytes = base_limits.message_header_bytes + @as(u64, node.length);
                const span = self.pool.span_of(self.window.header_offset(node), bytes);
                if (!p.pin(no, span, chunks_max)) break;
                self.pool.retain(span.first, span.count);
            }
        }
    }
};
