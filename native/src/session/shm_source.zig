//! One sending window that a receiving context reads in place. No I/O.
//!
//! The window's nodes say what is there: the receiver follows their tags, so that one message costs
//! two transfers of cache lines, the node's and the message's own, and no cursor is read. Nothing
//! is copied: the ordered log gets a reference. What was processed stands in the slot that the
//! sender reads.

const std = @import("std");
const base_limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const cut = @import("../testing/cut.zig");
const mutant = @import("../testing/mutant.zig");
const durable = @import("durable.zig");
const barrier = @import("../agent/barrier.zig");
const frame = @import("../wire/frame.zig");
const layout = @import("../window/node.zig");
const record = @import("../order/record.zig");
const frame_ring = @import("../window/frame_ring.zig");
const Address = @import("../transport/address.zig").Address;
const Receiver = @import("receiver.zig").Receiver;
const challenge = @import("challenge.zig");
const stream_file = @import("stream.zig");
const Stream = stream_file.Stream;

pub const frames_per_step = 8;
/// Messages taken in one step, so that other streams have their turn.
pub const messages_per_step = 256;

/// A window's memory, mapped for reading.
pub const Window = struct {
    page: *const layout.WindowPage,
    ring: *const layout.FrameRing,
    nodes: [*]const layout.Node,
    /// Power of two.
    capacity: u32,
    /// Behind the arena's page.
    arena: [*]const u8,
    arena_bytes: u64,
    /// Of its chunks, in which what is taken and not processed may lie; and their size.
    claim_chunks: u32,
    chunk_shift: u6,
    /// By which JavaScript knows the arena's mapping; from 1.
    region: u32,
};

pub const ShmSource = struct {
    /// Context that sends, and transport.
    source: u16,
    transport: u16,
    /// In this context's own file.
    slot: *layout.Slot,
    window: ?Window = null,
    /// One past the last number that was taken.
    tail: u64 = 0,
    /// Chunks touched by all that was taken so far, and, by number, when each message was taken.
    spent: u32 = 0,
    spent_at: [base_limits.shm_claim_max]u32 = @splat(0),
    last_chunk: u32 = 0,
    /// What the claim leaves; `is_first`: it holds for one message of any size.
    chunks_left: u32 = 0,
    is_first: bool = false,
    frames: frame_ring.Reader = undefined,
    buffer: [frame_ring.frame_bytes_max]u8 align(8) = undefined,

    pub fn attach(self: *ShmSource, window: Window) void {
        assert(std.math.isPowerOfTwo(window.capacity) and window.region > 0);
        self.window = window;
        self.frames = .init(window.ring);
    }

    pub fn detach(self: *ShmSource) void {
        self.window = null;
    }

    /// One step: frames, then messages; the driver has set the calendar's time (`wall_ms` of what
    /// streams share). The work count.
    pub fn step(self: *ShmSource, now_ns: u64, r: *Receiver, place: u32) u32 {
        if (self.window == null) return 0;
        var work: u32 = 0;
        while (work < frames_per_step) : (work += 1) {
            const bytes = self.frames.read(&self.buffer) orelse break;
            // Not a frame of this window: its memory is not what it should be.
            const h = switch (frame.decode_header(bytes, r.o.cluster)) {
                .ok => |h| h,
                .refused => null,
            };
            if (h) |x| if (x.source != self.source or x.transport != self.transport) continue;
            r.on_buffer(now_ns, r.lanes[0].wall_ms, address_of(place), bytes);
        }
        return work + self.take(now_ns, r);
    }

    /// As `ShmPeers.address_of`, of this side.
    pub fn address_of(place: u32) Address {
        return .{ .ip = 0, .port = @intCast(place + 1) };
    }

    /// True when `step` would find something. For a thread that is about to sleep.
    pub fn has_work(self: *const ShmSource, r: *Receiver) bool {
        const w = if (self.window) |*x| x else return false;
        if (self.frames.has_frame()) return true;
        const s = self.started(r) orelse return false;
        if (tag_of(w, s.next.msg) != s.next.msg + 1 or is_kept_back(w, s)) return false;
        // While the program is behind there is nothing to do.
        return !self.must_wait(w, s);
    }

    /// The next number was published. Reads nothing but its node.
    pub inline fn has_message(self: *const ShmSource, r: *Receiver) bool {
        const w = if (self.window) |*x| x else return false;
        const s = self.started(r) orelse return false;
        return tag_of(w, s.next.msg) == s.next.msg + 1;
    }

    fn started(self: *const ShmSource, r: *Receiver) ?*Stream {
        const key: stream_file.Key = .{
            .tier = false,
            .source = self.source,
            .transport = self.transport,
        };
        const s = r.find(key) orelse return null;
        if (s.phase != .started or s.slot != self.slot) return null;
        return s;
    }

    inline fn node_at(w: *const Window, no: u64) *const layout.Node {
        return &w.nodes[@intCast(no & (w.capacity - 1))];
    }

    inline fn tag_of(w: *const Window, no: u64) u64 {
        return @atomicLoad(u64, &node_at(w, no).tag, .acquire);
    }

    /// Numbered while the send flag was off, and not told of yet. Of what recovery found damaged
    /// nobody knows.
    fn is_kept_back(w: *const Window, s: *const Stream) bool {
        const flags = @atomicLoad(u16, &node_at(w, s.next.msg).flags, .monotonic);
        if (mutant.on(.flag_ignored) or mutant.on(.flag_ignored_in_place)) return false;
        return flags & layout.flags_known != 0 and s.next.msg >= s.announced.msg;
    }

    /// Appends what was published since. The work count.
    fn take(self: *ShmSource, now_ns: u64, r: *Receiver) u32 {
        const w = &self.window.?;
        const s = self.started(r) orelse return 0;
        if (s.is_manual) self.tell_processed(r, s);
        if (self.tail != s.next.msg and !self.begin_at_next(s)) return 0;
        const before = s.next.msg;
        var n: u32 = 0;
        while (n < messages_per_step) : (n += 1) {
            const tag = tag_of(w, s.next.msg);
            if (tag != s.next.msg + 1 or is_kept_back(w, s)) {
                // The slot is another number's by now: this one was given up.
                if (tag > s.next.msg + 1) self.agree_anew(now_ns, r, s);
                break;
            }
            if (s.next.msg >= s.claimed and !self.claim(now_ns, r, s)) break;
            if (!self.take_one(now_ns, w, r, s)) break;
        }
        if (s.next.msg == before) {
            self.look_at_written(w, r, s);
            return 0;
        }
        s.last_heard_ns = now_ns;
        s.announced = frame.Position.max(s.announced, s.next);
        r.shared_of(s).log.publish();
        return n;
    }

    /// What the program has acknowledged, for a sender that frees by it.
    fn tell_processed(self: *ShmSource, r: *const Receiver, s: *const Stream) void {
        const at = durable.limit(s, &r.lanes[0], .{ .msg = s.processed_next() }).msg;
        if (self.slot.processed == at) return;
        @atomicStore(u64, &self.slot.processed, at, .release);
    }

    /// A sender that begins anew below this position: what it has written up to here is not taken,
    /// and acknowledged all the same.
    fn look_at_written(self: *ShmSource, w: *const Window, r: *Receiver, s: *Stream) void {
        _ = self;
        if (!s.announced.less(s.next)) return;
        const written = @min(w.page.written.load(), s.next.msg);
        if (written <= s.announced.msg) return;
        s.announced = .{ .msg = written };
        s.ack_now = true;
        r.dirty = true;
    }

    fn take_one(self: *ShmSource, now_ns: u64, w: *const Window, r: *Receiver, s: *Stream) bool {
        const no = s.next.msg;
        cut.at(.node);
        const node = node_at(w, no).*;
        asm volatile ("" ::: .{ .memory = true });
        if (tag_of(w, no) != no + 1 and !mutant.on(.tag_unchecked)) {
            self.agree_anew(now_ns, r, s);
            return false;
        }
        const offset = @as(u64, node.offset8) * base_limits.payload_alignment;
        const in_bounds = offset >= base_limits.message_header_bytes and
            offset <= w.arena_bytes and node.length <= w.arena_bytes - offset and
            node.length <= base_limits.message_bytes_max;
        const is_copied = copies(r, s);
        const fits = !is_copied or node.length <= r.shared_of(s).log.payload_bytes_max();
        if (node.flags & layout.flag_lost != 0 or !in_bounds or !fits) {
            s.lose(r.shared_of(s), no + 1);
            r.dirty = true;
            return true;
        }
        fetch(w.arena + offset, node.length);
        var chunks = self.chunks_for(w, &node);
        if (chunks > self.chunks_left and !self.is_first) {
            if (!self.claim(now_ns, r, s)) return false;
            chunks = self.chunks_for(w, &node);
            if (chunks > self.chunks_left and !self.is_first) return false;
        }
        if (!append(w, r, s, &node)) {
            s.counters.no_room += 1;
            return false;
        }
        self.spent_at[@intCast(no % base_limits.shm_claim_max)] = self.spent;
        self.spent +%= chunks;
        self.chunks_left -|= chunks;
        self.is_first = false;
        self.last_chunk = last_chunk_of(w, &node);
        s.counters.messages += 1;
        s.counters.bytes += node.length;
        s.next = .{ .msg = no + 1 };
        s.tail = no + 1;
        self.tail = no + 1;
        if (s.is_manual) r.look_soon(now_ns);
        const is_done = is_copied and (s.is_manual or !r.lanes[0].waits_for_disk);
        if (is_done or mutant.on(.ack_taken)) {
            @atomicStore(u64, &self.slot.consumed, no + 1, .release);
        }
        return true;
    }

    /// What is recorded is copied, and what the program acknowledges when it likes: its sender's
    /// memory is not held for that. Else the order gets a reference.
    fn copies(r: *Receiver, s: *const Stream) bool {
        return r.shared_of(s).log.recorder != null or s.is_manual;
    }

    /// False: there is no room.
    fn append(w: *const Window, r: *Receiver, s: *const Stream, node: *const layout.Node) bool {
        const meta: record.Meta = .{
            .stream = s.id,
            .msg_no = s.next.msg,
            .time_ms = r.shared_of(s).wall_ms,
            .msg_arg = node.msg_arg,
            .tx_arg = s.tx_arg,
        };
        if (copies(r, s)) {
            const offset = @as(u64, node.offset8) * base_limits.payload_alignment;
            const payload = w.arena[offset..][0..node.length];
            _ = r.shared_of(s).log.append(meta, payload) catch return false;
            return true;
        }
        _ = r.shared_of(s).log.append_reference(meta, .{
            .offset8 = node.offset8,
            .length = node.length,
            .region = w.region,
        }) catch return false;
        return true;
    }

    /// Numbers jumped ahead. What was taken before is processed first: a claim is one range.
    fn begin_at_next(self: *ShmSource, s: *Stream) bool {
        const next = s.next.msg;
        if (!s.is_manual) {
            if (@atomicLoad(u64, &self.slot.consumed, .acquire) < s.tail) return false;
            s.tail = next;
        }
        @atomicStore(u64, &self.slot.consumed, next, .release);
        self.tail = next;
        return true;
    }

    /// The message's own lines are on their way while it takes its place in the order.
    inline fn fetch(payload: [*]const u8, length: u32) void {
        const line_bytes = 64;
        const lines_max = 4;
        var at: u32 = 0;
        while (at < @min(length, lines_max * line_bytes)) : (at += line_bytes) {
            @prefetch(payload + at, .{ .rw = .read, .locality = 3, .cache = .data });
        }
    }

    /// May read on: nothing of what is claimed now is overwritten before it was processed. False:
    /// as much waits to be processed as may, or what comes next is gone.
    fn claim(self: *ShmSource, now_ns: u64, r: *Receiver, s: *Stream) bool {
        const next = s.next.msg;
        const processed = s.released_next();
        const to = @min(next + base_limits.shm_claim_step, processed + base_limits.shm_claim_max);
        if (to <= next) return false;
        if (!mutant.on(.claim_late)) @atomicStore(u64, &self.slot.claimed, to, .seq_cst);
        barrier.full();
        cut.at(.claim);
        const w = &self.window.?;
        if (w.page.reclaimed.load() > next) {
            self.agree_anew(now_ns, r, s);
            return false;
        }
        if (mutant.on(.claim_late)) {
            cut.at(.claim);
            @atomicStore(u64, &self.slot.claimed, to, .seq_cst);
        }
        s.claimed = to;
        self.is_first = processed == next;
        // The sender counts from here on, too: all chunks of the first one.
        if (self.is_first) self.last_chunk = std.math.maxInt(u32);
        self.chunks_left = w.claim_chunks -| self.held_from(s, processed);
        return true;
    }

    /// Chunks that all from `processed` on lies in, at most.
    fn held_from(self: *const ShmSource, s: *const Stream, processed: u64) u32 {
        if (processed == s.next.msg) return 0;
        // The first one may share its first chunk with what was processed.
        return self.spent -% self.spent_at[@intCast(processed % base_limits.shm_claim_max)] + 1;
    }

    fn chunks_for(self: *const ShmSource, w: *const Window, node: *const layout.Node) u32 {
        const at = @as(u64, node.offset8) * base_limits.payload_alignment;
        const first: u32 = @intCast((at - base_limits.message_header_bytes) >> w.chunk_shift);
        return last_chunk_of(w, node) - first + @intFromBool(first != self.last_chunk);
    }

    fn last_chunk_of(w: *const Window, node: *const layout.Node) u32 {
        const end = @as(u64, node.offset8) * base_limits.payload_alignment + node.length;
        return @intCast((end - 1) >> w.chunk_shift);
    }

    /// The message that is there has to wait until the program has processed others.
    fn must_wait(self: *const ShmSource, w: *const Window, s: *const Stream) bool {
        assert(s.slot.? == self.slot);
        const next = s.next.msg;
        if (s.is_manual) return false;
        if (self.tail != next) return @atomicLoad(u64, &self.slot.consumed, .acquire) < s.tail;
        const processed = s.processed_next();
        if (processed == next) return false;
        if (next >= s.claimed and next >= processed + base_limits.shm_claim_max) return true;
        const node = node_at(w, next).*;
        if (node.offset8 == 0) return false; // `take_one` sees to it.
        return self.held_from(s, processed) +| self.chunks_for(w, &node) > w.claim_chunks;
    }

    /// Messages wait that the program must make room for.
    pub fn is_stalled(self: *const ShmSource, r: *Receiver) bool {
        const w = if (self.window) |*x| x else return false;
        const s = self.started(r) orelse return false;
        if (tag_of(w, s.next.msg) != s.next.msg + 1) return false;
        return self.must_wait(w, s);
    }

    /// The sender has gone on without this receiver: the next session says where it goes on.
    fn agree_anew(self: *ShmSource, now_ns: u64, r: *Receiver, s: *Stream) void {
        _ = self;
        challenge.challenge_again(r, now_ns, s);
    }
};
