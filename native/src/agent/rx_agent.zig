//! The receive agent of a context: its sockets, its `Receiver`, and the ordered log that JavaScript
//! drains.

const std = @import("std");
const assert = @import("../assert.zig").assert;
const limits = @import("../session/limits.zig");
const udp = @import("../transport/udp.zig");
const clock = @import("clock.zig");
const Address = udp.Address;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const frame = @import("../wire/frame.zig");
const Log = @import("../order/log.zig").Log;
const loss = @import("../repair/loss_detector.zig");
const Receiver = @import("../session/receiver.zig").Receiver;
const Injector = @import("injector.zig").Injector;
const Token = @import("token.zig").Token;
const RecordAgent = @import("record_agent.zig").RecordAgent;
const TierAgent = @import("tier_agent.zig").TierAgent;
const Lane = @import("lanes.zig").Lane;
const ShmWindows = @import("shm_windows.zig").ShmWindows;
const base_limits = @import("../limits.zig");
const frame_ring = @import("../window/frame_ring.zig");

const receives_per_step = 8;
/// Where nothing can come but through memory one call looks this often: a tenth of a microsecond,
/// and less than a call costs in JavaScript.
const looks_without_sockets = 16;
const sends_per_step = 64;
/// A reader at its writer's heels takes away the line that is being written, again and again. After
/// so many calls in a row that each found a few messages it keeps away for a moment: 2 us at 2.5
/// GHz. Who waits for single messages finds one at a time, and is never held up.
const close_max = 16;
const close_messages_min = close_max * 3 / 2;
const distance_ticks = 5_000;
/// So many at once: the reader is behind, and far enough away.
const long_take = 64;
/// Where the program's thread is also the one that receives: while so many messages wait for it,
/// datagrams wait in the sockets, whose senders stop at a window. Taken in faster than they are
/// processed, messages would come to lie in memory that was never touched, and out of the cache.
const ahead_messages = 1024;
/// But somebody who processes nothing is heard for all that: so often data is looked for anyway.
const data_every_ns = 10 * clock.ns_per_ms;
const receives_when_due = 64;
pub const image_bytes = 2048;
/// An empty receive costs a system call: the control socket, where little comes but answers, is
/// looked at this often while the data sockets are polled, and how often after a question.
const control_every_ns = 50 * clock.ns_per_us;
const control_soon_every_ns = 5 * clock.ns_per_us;
const control_soon_ns = 10 * clock.ns_per_ms;
const drops_every_ns = 1000 * clock.ns_per_ms;

pub const DataSocket = struct {
    socket: udp.Receiver,
    drops: u32 = 0,
};

pub const RxAgent = struct {
    token: Token = .{},
    receiver: Receiver,
    pool: *ChunkPool,
    /// Of early datagrams; the log's own unless that is recorded.
    holding_pool: *ChunkPool,
    record: ?*RecordAgent,
    /// Null: a single node.
    tier: ?*TierAgent = null,
    log: *Log,
    holding: *loss.HoldingPool,
    sockets: []DataSocket,
    /// None where everything is read in place.
    control: ?udp.Endpoint,
    /// Windows of others that are read in place (`ShmContext`).
    windows: ?ShmWindows = null,
    /// A window has messages that wait for the program to process others: it tells when it did.
    stalled: std.atomic.Value(bool) = .init(false),
    frames: frame_ring.Writer = undefined,
    injector: ?Injector,
    buffer: []align(8) u8,
    image: []align(8) u8,
    /// By stream: the number that the program gets next. The consumer's.
    delivered_next: []u64 = &.{},
    /// The program says by itself what it has processed (`sendAck`). All below `delivered` was then
    /// handed to it and accepted. The consumer's.
    is_manual: bool = false,
    /// Without a total order: an order for each topic; `log`, `pool` and `holding` are the first's.
    lanes: []Lane = &.{},
    delivered: std.atomic.Value(u64) = .init(0),
    /// Whoever processes runs this agent too (`Threading: inline`).
    is_inline: bool = false,
    /// Place of the first message that this start delivers.
    first_sqn: u64 = 0,
    /// The last look went through all data sockets in vain, and a step follows at once.
    has_looked: bool = false,
    data_due_ns: u64 = 0,
    control_due_ns: u64 = 0,
    /// When something that is answered was said last (SYN_REPLY, NAK).
    asked_ns: u64 = 0,
    calendar: clock.Calendar = .{},
    /// Calls in a row that found a few messages in memory, and whether the last one found any.
    close: u32 = 0,
    close_messages: u32 = 0,
    has_found: bool = false,
    first_socket: u32 = 0,
    first_window: u32 = 0,
    received_bytes: u64 = 0,
    sent_datagrams: u64 = 0,
    sent_bytes: u64 = 0,
    kernel_drops: u64 = 0,
    drops_due_ns: u64 = 0,
    send_failures: u64 = 0,
    last_errno: u16 = 0,

    /// Before anything was appended to the log.
    pub fn init_buffers(self: *RxAgent, gpa: std.mem.Allocator, latency_samples: u32) !void {
        self.first_sqn = self.log.next();
        self.log.latency = try .wanted(gpa, latency_samples, self.first_sqn);
        self.buffer = try gpa.alignedAlloc(u8, .@"8", udp.receive_bytes_max);
        self.image = try gpa.alignedAlloc(u8, .@"8", image_bytes);
        self.delivered_next = try gpa.alloc(u64, limits.streams_max);
        @memset(self.delivered_next, 0);
    }

    pub fn deinit(self: *RxAgent, gpa: std.mem.Allocator) void {
        if (self.tier) |tier| tier.destroy();
        for (self.sockets) |s| udp.close(s.socket.fd);
        if (self.control) |c| udp.close(c.fd);
        if (self.injector) |*i| i.deinit(gpa);
        self.receiver.deinit(gpa);
        if (self.windows) |*w| w.deinit();
        gpa.free(self.sockets);
        gpa.free(self.buffer);
        gpa.free(self.image);
        gpa.free(self.delivered_next);
    }

    /// One step of the agent; the caller holds the token. The work count.
    pub fn step(self: *RxAgent, now_ns: u64) u32 {
        if (self.record) |record| {
            const replayed = record.recording.step_rx(self.log, &self.receiver.notices);
            if (replayed) |work| return work;
        }
        if (self.log.latency) |l| l.now_ns = now_ns;
        var work: u32 = 0;
        var i: u32 = 0;
        const count: u32 = @intCast(self.sockets.len);
        const is_data_due = now_ns >= self.data_due_ns;
        if (is_data_due or !self.is_ahead()) self.data_due_ns = now_ns + data_every_ns;
        const most: u32 = if (is_data_due) receives_when_due else receives_per_step;
        // A look has just found them empty: each receive more would cost a system call.
        const is_empty = self.has_looked;
        self.has_looked = false;
        while (i < count and !is_empty and (is_data_due or !self.is_ahead())) : (i += 1) {
            const socket = &self.sockets[(self.first_socket + i) % count].socket;
            work += self.receive(now_ns, socket.fd, most);
        }
        // Each step begins at another socket, so that a busy one does not come first for ever.
        self.first_socket = (self.first_socket + 1) % @max(1, count);
        if (now_ns >= self.control_due_ns) {
            const is_soon = now_ns < self.asked_ns + control_soon_ns;
            self.control_due_ns = now_ns + if (is_soon) control_soon_every_ns else control_every_ns;
            if (self.control) |c| work += self.receive(now_ns, c.fd, receives_per_step);
        }
        if (self.windows) |*w| work += self.read_windows(now_ns, w);
        if (self.injector) |*inj| {
            const n = inj.release(now_ns, self, deliver);
            if (n > 0) self.receiver.publish();
            work += n;
        }
        if (now_ns >= self.drops_due_ns) self.look_at_drops(now_ns);
        if (self.tier) |tier| work += tier.step(now_ns, self.calendar.ms(now_ns), self.buffer);
        self.receiver.tick(now_ns);
        return work + self.flush(now_ns);
    }

    /// Looks at nothing but what messages come by, between two steps that are close together: no
    /// clock is read where nothing came. `step_ns` is the time of the last step, `now_ticks` what
    /// `clock.ticks` says. False: nothing came. What is to be answered waits for the next step.
    pub fn look(self: *RxAgent, step_ns: u64, now_ticks: u64) bool {
        if (self.is_replaying()) return false;
        // What comes for a tier is ordered, told and acknowledged in a whole step.
        if (self.tier != null) return false;
        if (self.windows) |*w| {
            self.keep_distance(now_ticks);
            const looks: u32 = if (self.sockets.len == 0) looks_without_sockets else 1;
            for (0..looks) |_| {
                for (w.sources, 0..) |*source, place| {
                    if (!source.has_message(&self.receiver)) continue;
                    self.receiver.set_wall(self.calendar.ms(step_ns));
                    if (self.log.latency) |l| l.now_ns = clock.monotonic_ns();
                    const taken = source.step(step_ns, &self.receiver, @intCast(place));
                    if (taken == 0) continue;
                    self.note_find(taken);
                    return true;
                }
            }
        }
        if (self.injector != null) return false;
        for (self.sockets) |s| {
            const got = udp.recv_from(s.socket.fd, self.buffer) orelse continue;
            self.received_bytes += got.len;
            const now_ns = clock.monotonic_ns();
            const wall_ms = self.calendar.ms(now_ns);
            if (self.log.latency) |l| l.now_ns = now_ns;
            self.receiver.on_buffer(now_ns, wall_ms, got.from, self.buffer[0..got.len]);
            if (self.receiver.dirty) _ = self.flush(now_ns);
            return true;
        }
        self.has_looked = true;
        return false;
    }

    fn keep_distance(self: *RxAgent, now_ticks: u64) void {
        if (!self.has_found) self.close = 0;
        self.has_found = false;
        if (self.close < close_max) return;
        self.close = 0;
        if (self.close_messages < close_messages_min) return;
        while (clock.ticks() -% now_ticks < distance_ticks) std.atomic.spinLoopHint();
    }

    fn note_find(self: *RxAgent, taken: u32) void {
        self.has_found = true;
        self.close_messages = if (self.close == 0) taken else self.close_messages +| taken;
        self.close = if (taken < long_take) self.close + 1 else 0;
    }

    /// Something is to be said that does not wait.
    pub fn is_due(self: *const RxAgent) bool {
        return self.receiver.dirty;
    }

    fn read_windows(self: *RxAgent, now_ns: u64, w: *ShmWindows) u32 {
        w.look(now_ns);
        self.receiver.set_wall(self.calendar.ms(now_ns));
        var work: u32 = 0;
        const count: u32 = @intCast(w.sources.len);
        for (0..count) |i| {
            const turn = self.first_window + @as(u32, @intCast(i));
            const place = if (turn < count) turn else turn - count;
            work += w.sources[place].step(now_ns, &self.receiver, place);
        }
        self.first_window = if (self.first_window + 1 < count) self.first_window + 1 else 0;
        return work;
    }

    /// For a thread that is about to sleep: a window has something. Any thread (racy).
    pub fn has_work(self: *RxAgent) bool {
        if (self.tier) |tier| if (tier.host.results) |r| {
            if (r.logic.is_open and !r.made.is_empty()) return true;
        };
        const w = if (self.windows) |*w| w else return false;
        for (w.sources) |*source| if (source.has_work(&self.receiver)) return true;
        return false;
    }

    fn is_replaying(self: *const RxAgent) bool {
        const record = self.record orelse return false;
        return record.recording.is_replaying();
    }

    fn is_ahead(self: *const RxAgent) bool {
        if (!self.is_inline) return false;
        if (self.lanes.len == 0) {
            return self.log.ordered_next() - self.taken_next() >= ahead_messages;
        }
        for (self.lanes) |*lane| {
            if (lane.log.next() - lane.log.processed_next() < ahead_messages) return false;
        }
        return true;
    }

    /// Everything below needs no handing over any more. Any thread.
    pub fn taken_next(self: *const RxAgent) u64 {
        return if (self.is_manual) self.delivered.load(.acquire) else self.log.processed_next();
    }

    fn receive(self: *RxAgent, now_ns: u64, fd: i32, most: u32) u32 {
        var n: u32 = 0;
        while (n < most) : (n += 1) {
            if (n > 0 and most == receives_per_step and self.is_ahead()) break;
            const got = udp.recv_from(fd, self.buffer) orelse break;
            self.received_bytes += got.len;
            if (self.log.latency) |l| l.now_ns = clock.monotonic_ns();
            const bytes: []align(8) u8 = self.buffer[0..got.len];
            if (self.injector) |*i| {
                i.pass(now_ns, got.from, bytes, self, deliver);
                self.receiver.publish();
            } else self.receiver.on_buffer(now_ns, self.calendar.ms(now_ns), got.from, bytes);
        }
        return n;
    }

    fn deliver(self: *RxAgent, from: Address, bytes: []align(8) u8) void {
        const now_ns = clock.monotonic_ns();
        self.receiver.on_buffer(now_ns, self.calendar.ms(now_ns), from, bytes);
    }

    fn flush(self: *RxAgent, now_ns: u64) u32 {
        var n: u32 = 0;
        while (n < sends_per_step) : (n += 1) {
            const run = self.receiver.poll_send(now_ns, self.image) orelse break;
            if (run.to.?.ip == 0) {
                self.frames.write(self.image[0..run.bytes]);
                continue;
            }
            if (frame.is_asking(self.image)) self.asked_ns = now_ns;
            const r = udp.send_to(self.control.?.fd, run.to.?, self.image[0..run.bytes]);
            // An ACK or NAK that the kernel refuses comes again by its timer.
            if (r.lost_datagrams > 0) {
                self.send_failures += r.lost_datagrams;
                self.last_errno = r.errno;
                continue;
            }
            if (r.would_block) break;
            self.sent_datagrams += 1;
            self.sent_bytes += run.bytes;
        }
        return n;
    }

    /// Sends what is left to say, to every sender.
    pub fn say_goodbye(self: *RxAgent, now_ns: u64) void {
        while (self.flush(now_ns) > 0) {}
    }

    fn look_at_drops(self: *RxAgent, now_ns: u64) void {
        self.drops_due_ns = now_ns + drops_every_ns;
        var fresh: u64 = 0;
        for (self.sockets) |*s| {
            const now = udp.kernel_drops(s.socket.fd) orelse continue;
            fresh += now -% s.drops;
            s.drops = now;
        }
        if (fresh == 0) return;
        self.kernel_drops += fresh;
        self.receiver.notices.log(.kernel_drops, .warn, .{
            .args = .{ @floatFromInt(fresh), @floatFromInt(self.kernel_drops), 0, 0 },
        });
    }

    pub fn next_deadline_ns(self: *RxAgent, now_ns: u64) u64 {
        if (self.is_replaying()) return now_ns + clock.ns_per_ms;
        var at = @min(self.receiver.next_deadline_ns(now_ns), self.drops_due_ns);
        if (self.injector) |*i| at = @min(at, i.next_deadline_ns());
        if (self.tier) |tier| at = @min(at, tier.next_deadline_ns(now_ns));
        if (self.windows) |*w| {
            if (w.is_waiting()) at = @min(at, now_ns + base_limits.shm_look_ns);
            var stalled = false;
            for (w.sources) |*source| {
                if (source.is_stalled(&self.receiver)) stalled = true;
            }
            self.stalled.store(stalled, .monotonic);
        }
        return at;
    }
};
