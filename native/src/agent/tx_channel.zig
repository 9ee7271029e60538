//! One sending window with its sockets: the send agent of a (topic, partition).
//!
//! Whoever holds the token runs it: the native thread, or the caller of `send` (`AsynchronousRms:
//! 0`), or an inline `poll`. A run that a socket does not take now is kept and tried again first.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const assert = @import("../assert.zig").assert;
const udp = @import("../transport/udp.zig");
const clock = @import("clock.zig");
const Address = udp.Address;
const SendingWindow = @import("../window/sending_window.zig").SendingWindow;
const ShmPeers = @import("../session/shm_peers.zig").ShmPeers;
const base_limits = @import("../limits.zig");
const Sender = @import("../session/sender.zig").Sender;
const role = @import("../session/sender_role.zig");
const connection = @import("connection.zig");
const Epoch = @import("../tier/epoch.zig").Epoch;
const Injector = @import("injector.zig").Injector;
const Token = @import("token.zig").Token;
const Latency = @import("../stats/latency.zig").Latency;

const image_bytes = 65536;
/// Bounds of one step, so that nobody who shares the thread waits long.
const receives_per_step = 32;
const runs_per_step = 4;
/// An empty receive costs a system call: with credit left, acknowledgements can wait this long.
const receive_every_ns = 5 * clock.ns_per_us;
/// Time-outs are in milliseconds: the agent looks at them this often while it is awake.
const tick_every_ns = clock.ns_per_ms;

pub const TxChannel = struct {
    token: Token = .{},
    partition: u16,
    transport: u16,
    asynchronous: bool,
    window: *SendingWindow,
    sender: Sender,
    /// Receivers on this machine that read the window in place (`UseSharedMemory`).
    shm: ?ShmPeers = null,
    /// Datagrams are wanted too; without `shm` always. What the producer knows of it.
    on_network: std.atomic.Value(bool) = .init(true),
    /// One for a group, one for each address of a list; none where there is no network.
    outs: []udp.Sender,
    repair: ?udp.Endpoint,
    injector: ?Injector,
    image: []align(8) u8,
    buffer: []align(8) u8,
    /// A run that waits for room in a socket.
    pending_bytes: u32 = 0,
    pending_segment_bytes: u32 = 0,
    pending_to: ?Address = null,
    pending_done: []u32,
    want_ack: std.atomic.Value(bool) = .init(false),
    /// Somebody in JavaScript waits for acknowledgements or connections.
    awaited: std.atomic.Value(bool) = .init(false),
    /// Set by the producer, read by the agent: the send flag of messages to come.
    send_flag: std.atomic.Value(bool) = .init(true),
    /// Of a tier: its leader's receivers have all below. Any thread tells it.
    told_acked: std.atomic.Value(u64) = .init(0),
    /// Of a tier: what it was told of its role, by another thread; the agent's next step does it.
    role_told: struct { is_leader: bool, epoch: Epoch } = .{ .is_leader = false, .epoch = .{} },
    role_serial: std.atomic.Value(u32) = .init(0),
    role_seen: u32 = 0,
    /// For a moment, while the two above are written or read. Nothing else is taken meanwhile.
    role_token: Token = .{},
    receive_due_ns: u64 = 0,
    tick_due_ns: u64 = 0,
    received_datagrams: u64 = 0,
    received_bytes: u64 = 0,
    send_failures: u64 = 0,
    last_errno: u16 = 0,
    told_gso: bool = false,
    told_failure_ns: u64 = 0,
    progress_seen: u64 = 0,
    /// Measures from `send` to the acknowledgement of everybody; null: nobody wants to know.
    latency: ?*Latency = null,

    pub fn init_buffers(self: *TxChannel, gpa: std.mem.Allocator) !void {
        self.image = try gpa.alignedAlloc(u8, .@"8", image_bytes);
        self.buffer = try gpa.alignedAlloc(u8, .@"8", udp.receive_bytes_max);
        self.pending_done = try gpa.alloc(u32, self.outs.len);
    }

    pub fn deinit(self: *TxChannel, gpa: std.mem.Allocator) void {
        for (self.outs) |o| udp.close(o.fd);
        if (self.repair) |r| udp.close(r.fd);
        if (self.injector) |*i| i.deinit(gpa);
        if (self.shm) |*shm| shm.deinit(gpa);
        if (self.latency) |l| l.destroy(gpa);
        self.sender.deinit(gpa);
        gpa.free(self.outs);
        gpa.free(self.image);
        gpa.free(self.buffer);
        gpa.free(self.pending_done);
    }

    /// One step of the agent; the caller holds the token. The work count.
    pub fn step(self: *TxChannel, now_ns: u64) u32 {
        var work: u32 = 0;
        self.sender.send_flag = self.send_flag.load(.monotonic);
        if (self.sender.o.tier) {
            self.hear_acked();
            self.hear_role(now_ns);
        }
        if (now_ns >= self.receive_due_ns or self.sender.credit() == 0) {
            self.receive_due_ns = now_ns + receive_every_ns;
            if (self.repair) |r| work += self.receive(now_ns, r.fd);
            if (self.shm) |*shm| work += shm.poll(now_ns, &self.sender);
        }
        if (self.want_ack.load(.monotonic)) {
            self.want_ack.store(false, .monotonic);
            if (self.sender.network_on) self.sender.want_ack(now_ns);
            if (self.shm) |*shm| shm.collect(now_ns, &self.sender);
        }
        if (now_ns >= self.tick_due_ns or now_ns >= self.sender.next_deadline_ns(now_ns)) {
            self.tick_due_ns = now_ns + tick_every_ns;
            if (self.shm) |*shm| shm.collect(now_ns, &self.sender);
            self.sender.tick(now_ns);
            self.on_network.store(self.sender.network_on, .monotonic);
        }
        work += self.flush(now_ns);
        if (self.latency) |l| l.reach(self.window.acked(), now_ns);
        return work;
    }

    /// The producer found no room. True when something was freed.
    pub fn make_room(self: *TxChannel, now_ns: u64) bool {
        if (self.sender.o.tier) self.hear_acked();
        if (self.sender.make_room(now_ns)) return true;
        const shm = if (self.shm) |*shm| shm else return false;
        return shm.make_room(now_ns, &self.sender);
    }

    // ---------------------------------------------------------------- of a tier

    /// Of a member of a tier: it leads from now on, or follows, in the reign of `epoch`. Any
    /// thread, whatever else it holds: the agent's next step does it. Of several changes before
    /// that the last one counts.
    pub fn set_tier_role(self: *TxChannel, is_leader: bool, epoch: Epoch) void {
        assert(self.sender.o.tier);
        self.role_token.take();
        defer self.role_token.give();
        self.role_told = .{ .is_leader = is_leader, .epoch = epoch };
        _ = self.role_serial.fetchAdd(1, .release);
    }

    fn hear_role(self: *TxChannel, now_ns: u64) void {
        if (self.role_serial.load(.acquire) == self.role_seen) return;
        self.role_token.take();
        const told = self.role_told;
        self.role_seen = self.role_serial.raw;
        self.role_token.give();
        const id = connection.next_id(self.window.connection_id());
        role.set(&self.sender, now_ns, told.is_leader, told.epoch, id);
        self.tick_due_ns = 0;
    }

    /// All below was acknowledged to the tier's leader. Any thread.
    pub fn tell_acked(self: *TxChannel, acked: u64) void {
        _ = self.told_acked.fetchMax(acked, .monotonic);
    }

    fn hear_acked(self: *TxChannel) void {
        const acked = self.told_acked.load(.monotonic);
        if (acked > self.sender.told_acked) role.told(&self.sender, acked);
    }

    // ---------------------------------------------------------------- I/O

    fn receive(self: *TxChannel, now_ns: u64, fd: i32) u32 {
        var n: u32 = 0;
        while (n < receives_per_step) : (n += 1) {
            const got = udp.recv_from(fd, self.buffer) orelse break;
            self.received_datagrams += 1;
            self.received_bytes += got.len;
            const bytes: []align(8) u8 = self.buffer[0..got.len];
            if (self.injector) |*i| {
                i.pass(now_ns, got.from, bytes, self, deliver);
            } else self.sender.on_datagram(now_ns, got.from, bytes);
        }
        if (self.injector) |*i| n += i.release(now_ns, self, deliver);
        return n;
    }

    fn deliver(self: *TxChannel, from: Address, bytes: []align(8) u8) void {
        self.sender.on_datagram(clock.monotonic_ns(), from, bytes);
    }

    /// Sends what the protocol has to send now, within the bounds of a step.
    pub fn flush(self: *TxChannel, now_ns: u64) u32 {
        var n: u32 = 0;
        if (self.pending_bytes > 0 and !self.transmit(now_ns)) return 0;
        while (n < runs_per_step) : (n += 1) {
            const run = self.sender.poll_send(now_ns, self.image) orelse break;
            if (self.shm) |*shm| {
                const for_memory = if (run.to) |to| to.ip == 0 else !run.is_data;
                if (for_memory) shm.send(self.image[0..run.bytes]);
                if (self.outs.len == 0 or for_memory and run.to != null) continue;
            }
            self.pending_bytes = run.bytes;
            self.pending_segment_bytes = run.segment_bytes;
            self.pending_to = run.to;
            @memset(self.pending_done, 0);
            if (!self.transmit(now_ns)) break;
        }
        return n;
    }

    /// True when the pending run is gone.
    fn transmit(self: *TxChannel, now_ns: u64) bool {
        const bytes = self.image[0..self.pending_bytes];
        if (self.pending_to) |to| {
            if (!self.transmit_to(now_ns, to, bytes)) return false;
        } else {
            var blocked = false;
            for (self.outs, self.pending_done) |*out, *done| {
                if (done.* == bytes.len) continue;
                const r = udp.send_run(out, bytes[done.*..], self.pending_segment_bytes);
                self.note(now_ns, &r);
                if (r.gso_refused) self.tell_gso(out.gso_errno);
                done.* += @intCast(r.taken_bytes);
                if (r.would_block) blocked = true;
            }
            if (blocked) return false;
        }
        self.pending_bytes = 0;
        return true;
    }

    fn transmit_to(self: *TxChannel, now_ns: u64, to: Address, bytes: []const u8) bool {
        var at: usize = self.pending_done[0];
        while (at < bytes.len) {
            const end = @min(bytes.len, at + self.pending_segment_bytes);
            const r = udp.send_to(self.repair.?.fd, to, bytes[at..end]);
            self.note(now_ns, &r);
            if (r.would_block) {
                self.pending_done[0] = @intCast(at);
                return false;
            }
            at = end;
        }
        return true;
    }

    fn note(self: *TxChannel, now_ns: u64, r: *const udp.SendResult) void {
        if (r.lost_datagrams == 0) return;
        self.send_failures += r.lost_datagrams;
        self.last_errno = r.errno;
        if (self.told_failure_ns != 0 and now_ns < self.told_failure_ns + clock.ns_per_s) return;
        self.told_failure_ns = now_ns;
        self.sender.notices.log(.send_failed, .err, .{
            .transport = self.transport,
            .args = .{ @floatFromInt(r.errno), @floatFromInt(self.outs[0].destination.port), 0, 0 },
        });
    }

    pub fn tell_gso(self: *TxChannel, errno: u16) void {
        if (self.told_gso) return;
        self.told_gso = true;
        self.sender.notices.log(.gso_unavailable, .info, .{
            .transport = self.transport,
            .args = .{ @floatFromInt(errno), 0, 0, 0 },
        });
    }

    /// Whether a step would find something to do without a datagram coming in. Any thread (racy,
    /// for sleeping).
    pub fn has_work(self: *TxChannel) bool {
        if (self.want_ack.load(.monotonic)) return true;
        if (self.role_serial.load(.monotonic) != self.role_seen) return true;
        if (self.shm) |*shm| if (shm.has_frame()) return true;
        return self.sender.has_new_data() and self.pending_bytes == 0;
    }

    /// A step would be of use at once. Touches no line that a receiver writes.
    pub fn is_pressed(self: *TxChannel) bool {
        if (self.want_ack.load(.monotonic)) return true;
        if (!self.sender.network_on) return false;
        return self.sender.has_new_data() or self.sender.credit() == 0;
    }

    pub fn next_deadline_ns(self: *TxChannel, now_ns: u64) u64 {
        // A socket without room: the kernel frees it soon; there is no event worth waiting for.
        if (self.pending_bytes > 0) return now_ns + 50 * clock.ns_per_us;
        var at = self.sender.next_deadline_ns(now_ns);
        // Who reads in place writes to memory, which wakes nobody here.
        if (self.shm != null) at = @min(at, now_ns + self.look_ns());
        if (self.injector) |*i| at = @min(at, i.next_deadline_ns());
        return at;
    }

    fn look_ns(self: *const TxChannel) u64 {
        const is_awaited = self.awaited.load(.monotonic) or self.sender.peers.connected == 0;
        return if (is_awaited) base_limits.shm_look_soon_ns else base_limits.shm_look_ns;
    }

    /// After a step: did anything change that a waiter in JavaScript cares for?
    pub fn take_progress(self: *TxChannel) bool {
        if (self.progress_seen == self.sender.progress) return false;
        self.progress_seen = self.sender.progress;
        return true;
    }

    /// Nothing accepted is left to be sent or acknowledged.
    pub fn is_drained(self: *TxChannel) bool {
        const w = self.window;
        if (self.sender.phase != .started) return true;
        if (!self.sender.send_flag) return w.acked() >= self.sender.announced.msg;
        return w.acked() == w.written();
    }
};
