//! One simulated run: nodes, network, timers and time. The run is a loop over the next thing that
//! happens, in virtual time; between two happenings nothing costs anything.
//!
//! Two phases. *Safety*: everything goes wrong that the scenario has. *Liveness*: the network
//! heals, the dead come back, and everything that is retained must arrive; the watchdog looks at
//! progress, not at total time. At the end there must be silence.
//!
//! Long because it is one loop and what happens in it.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const base_limits = @import("../limits.zig");
const record = @import("../order/record.zig");
const scenario_file = @import("scenario.zig");
const messages = @import("messages.zig");
const nodes = @import("sender_node.zig");
const crash = @import("crash.zig");
const watch = @import("watch.zig");
const watch_sender = @import("watch_sender.zig");
const watch_receiver = @import("watch_receiver.zig");
const in_place = @import("in_place.zig");
const recorded = @import("recorded.zig");
const mishaps = @import("mishaps.zig");
const tier_members = @import("tier_members.zig");
const hostile = @import("hostile.zig");
const dice_file = @import("dice.zig");
const verdict_file = @import("verdict.zig");
const Address = @import("../transport/address.zig").Address;
const SimClock = @import("sim_clock.zig").SimClock;
const Scenario = scenario_file.Scenario;
const SenderNode = nodes.SenderNode;
const Window = nodes.Window;
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;
const packet_simulator = @import("packet_simulator.zig");
pub const Totals = @import("totals.zig").Totals;
const PacketSimulator = packet_simulator.PacketSimulator;
const Packet = packet_simulator.Packet;
const Dice = dice_file.Dice;
const Run = @import("../session/sender.zig").Run;

const windows_max = scenario_file.windows_max;
const receivers_max = scenario_file.receivers_max;
const senders_max = scenario_file.senders_max;
const never = std.math.maxInt(u64);
const us = scenario_file.us;
const ms = scenario_file.ms;

const image_bytes = 65536;
const data_port = 5000;
/// Datagrams that a kernel keeps for a node that does not run.
const kernel_queue_datagrams = 256;

/// Places in the array of timers.
pub const Timer = struct {
    pub const step_window = 0;
    pub const publish = step_window + windows_max;
    pub const step_receiver = publish + windows_max;
    pub const drain = step_receiver + receivers_max;
    pub const start_sender = drain + receivers_max;
    pub const start_receiver = start_sender + senders_max;
    pub const mishap = start_receiver + receivers_max;
    pub const mend = mishap + mishaps.kinds;
    pub const hostile_at = mend + mishaps.mends_max;
    pub const phase = hostile_at + 1;
    pub const look = phase + 1;
    /// Senders look for receivers' files, and for dead ones; receivers for windows.
    pub const find = look + 1;
    pub const bury = find + senders_max;
    pub const map = bury + senders_max;
    pub const tier = map + receivers_max;
    /// What a receiver's record agent has to do.
    pub const record_agent = tier + 1;
    pub const count = record_agent + receivers_max;
};
const timers_count = 96;

comptime {
    std.debug.assert(Timer.count <= timers_count);
}

pub const Phase = enum { safety, liveness, quiet, done };

pub const Cluster = struct {
    gpa: std.mem.Allocator,
    scenario: Scenario,
    dice: Dice,
    net: PacketSimulator,
    now_ns: u64 = 0,
    phase: Phase = .safety,
    senders: []*SenderNode,
    receivers: []*ReceiverNode,
    windows: [windows_max]*Window = undefined,
    window_count: u8 = 0,
    timers: [timers_count]u64 align(64) = @splat(never),
    verdict: verdict_file.Verdict = .{},
    totals: Totals = .{},
    digest: u64 = 0,
    mishaps: mishaps.Mishaps = .{},
    members: tier_members.Members = .{},
    hostile: hostile.Hostile,
    progress: u64 = 0,
    progress_ns: u64 = 0,
    quiet_naks: u64 = 0,
    quiet_ns: u64 = 0,
    /// Until then what was asked for before everything had arrived may be answered; 0: it is over.
    quiet_from_ns: u64 = 0,
    phase_events: u64 = 0,
    /// One process runs between two steps of another.
    is_between: bool = false,
    /// Until then sender s and receiver r may have lost touch with good reason.
    disturbed_ns: [senders_max][receivers_max]u64 = @splat(@splat(0)),
    /// Until then what is lost between the two may stay lost.
    unrepairable_ns: [senders_max][receivers_max]u64 = @splat(@splat(0)),
    image: []align(8) u8,
    joined: []align(8) u8,

    pub fn init(gpa: std.mem.Allocator, seed: u64) !*Cluster {
        messages.prepare();
        const self = try gpa.create(Cluster);
        const scenario: Scenario = .of(seed);
        var slot_bytes: u32 = 0;
        for (scenario.transports[0..scenario.transport_count]) |*t| {
            slot_bytes = @max(slot_bytes, t.sizes.datagram_bytes);
        }
        self.* = .{
            .gpa = gpa,
            .scenario = scenario,
            .dice = .init(dice_file.mix(seed, 1)),
            .net = try .init(gpa, dice_file.mix(seed, 2), scenario.faults, @max(2048, slot_bytes)),
            .senders = try gpa.alloc(*SenderNode, scenario.sender_count),
            .receivers = try gpa.alloc(*ReceiverNode, scenario.receiver_count),
            .hostile = try .init(gpa, dice_file.mix(seed, 3)),
            .image = try gpa.alignedAlloc(u8, .@"8", image_bytes),
            .joined = try gpa.alignedAlloc(u8, .@"8", image_bytes),
        };
        try self.make_nodes();
        self.start_timers();
        return self;
    }

    fn roll_clock(self: *Cluster) SimClock {
        const drift: i32 = @intCast(self.dice.between(0, self.scenario.drift_ppm * 2));
        return .{
            .offset_ns = self.dice.magnitude(1, 1 << 50),
            .drift_ppm = drift - @as(i32, @intCast(self.scenario.drift_ppm)),
        };
    }

    fn make_nodes(self: *Cluster) !void {
        for (self.senders, 0..) |*node, i| {
            node.* = try .init(self.gpa, &self.scenario, @intCast(i), self.roll_clock());
            try node.*.add_windows(self.window_count);
            for (node.*.windows) |w| {
                self.windows[self.window_count] = w;
                self.window_count += 1;
            }
        }
        for (self.receivers, 0..) |*node, i| {
            node.* = try .init(self.gpa, &self.scenario, @intCast(i), self.roll_clock());
        }
    }

    fn start_timers(self: *Cluster) void {
        // Nodes start within the first moments, in any order.
        for (0..self.senders.len) |i| {
            self.timers[Timer.start_sender + i] = self.dice.magnitude(0, 500 * ms);
        }
        for (0..self.receivers.len) |i| {
            self.timers[Timer.start_receiver + i] = self.dice.magnitude(0, 500 * ms);
        }
        self.timers[Timer.phase] = self.scenario.safety_ns;
        self.timers[Timer.look] = 10 * ms;
        if (self.scenario.hostile_every_ns > 0) self.timers[Timer.hostile_at] = ms;
        if (self.scenario.tier.members != 0) self.timers[Timer.tier] = ms;
        mishaps.begin(self);
    }

    pub fn deinit(self: *Cluster) void {
        const gpa = self.gpa;
        for (self.senders) |node| node.deinit();
        for (self.receivers) |node| node.deinit();
        gpa.free(self.senders);
        gpa.free(self.receivers);
        self.net.deinit();
        self.hostile.deinit(gpa);
        gpa.free(self.image);
        gpa.free(self.joined);
        gpa.destroy(self);
    }

    /// Every happening leaves its mark: two runs are the same when their digests are.
    pub inline fn note(self: *Cluster, what: u64) void {
        self.digest = (self.digest ^ what) *% 0x9e37_79b9_7f4a_7c15;
        self.digest ^= self.digest >> 29;
    }

    // ---------------------------------------------------------------- the loop

    /// Runs to the end or to the first violation.
    pub fn run(self: *Cluster) void {
        in_place.begin_cuts(self);
        defer in_place.end_cuts();
        while (self.phase != .done and self.verdict.violation == null) self.next();
        self.totals.virtual_ns = self.now_ns;
        self.totals.network = self.net.counters;
        for (self.receivers) |r| {
            self.totals.refusals += r.refused;
        }
        for (self.senders) |node| {
            self.totals.tails += node.tails;
            self.totals.lone_lives += node.lone_lives;
            self.totals.published += node.published_between + node.tails;
            self.totals.published_between += node.published_between;
        }
        for (self.windows[0..self.window_count]) |w| self.totals.torn += w.torn.items.len;
    }

    fn next(self: *Cluster) void {
        var at: u64 = never;
        var which: usize = timers_count;
        const lanes = 8;
        var low: @Vector(lanes, u64) = self.timers[0..lanes].*;
        inline for (1..timers_count / lanes) |i| {
            low = @min(low, @as(@Vector(lanes, u64), self.timers[i * lanes ..][0..lanes].*));
        }
        at = @reduce(.Min, low);
        self.totals.events += 1;
        self.phase_events += 1;
        if (self.net.next_ns() <= at) {
            const packet = self.net.pop();
            self.advance(packet.arrives_ns);
            self.note(packet.arrives_ns ^ @as(u64, packet.to) << 56);
            return self.arrive(packet);
        }
        for (&self.timers, 0..) |t, i| {
            if (t == at) {
                which = i;
                break;
            }
        }
        self.advance(at);
        self.timers[which] = never;
        self.note(at ^ @as(u64, which) << 56);
        self.fire(which);
    }

    fn advance(self: *Cluster, at_ns: u64) void {
        std.debug.assert(at_ns >= self.now_ns);
        self.now_ns = at_ns;
    }

    fn fire(self: *Cluster, which: usize) void {
        if (which < Timer.publish) return self.step_window(self.windows[which]);
        if (which < Timer.step_receiver) {
            return self.publish(self.windows[which - Timer.publish]);
        }
        if (which < Timer.drain) {
            return self.step_receiver(self.receivers[which - Timer.step_receiver]);
        }
        if (which < Timer.start_sender) return self.drain(self.receivers[which - Timer.drain]);
        if (which < Timer.start_receiver) {
            return mishaps.start_sender(self, self.senders[which - Timer.start_sender]);
        }
        if (which < Timer.mishap) {
            return mishaps.start_receiver(self, self.receivers[which - Timer.start_receiver]);
        }
        if (which < Timer.mend) return mishaps.happen(self, @intCast(which - Timer.mishap));
        if (which < Timer.hostile_at) return mishaps.mend(self, which - Timer.mend);
        if (which == Timer.hostile_at) return hostile.act(self);
        if (which == Timer.phase) return self.end_phase();
        if (which == Timer.look) return watch.look(self);
        if (which < Timer.bury) return in_place.find(self, self.senders[which - Timer.find]);
        if (which < Timer.map) return in_place.bury(self, self.senders[which - Timer.bury]);
        if (which == Timer.tier) return tier_members.step(self);
        if (which >= Timer.record_agent) {
            return recorded.step(self, self.receivers[which - Timer.record_agent]);
        }
        in_place.map(self, self.receivers[which - Timer.map]);
    }

    // ---------------------------------------------------------------- phases

    fn end_phase(self: *Cluster) void {
        switch (self.phase) {
            .safety => self.heal(),
            .liveness, .done => {},
            .quiet => {
                watch.end(self);
                self.phase = .done;
            },
        }
    }

    /// Faults end; what died comes back.
    pub fn heal(self: *Cluster) void {
        if (self.phase != .safety) return;
        self.phase = .liveness;
        self.phase_events = 0;
        self.progress_ns = self.now_ns;
        self.timers[Timer.phase] = never;
        self.timers[Timer.hostile_at] = never;
        const residual = self.scenario.residual_loss_ppm;
        if (self.scenario.kind == .cost) return;
        self.net.faults.loss_ppm = residual;
        self.net.faults.uplink_loss_ppm = 0;
        self.net.faults.burst_ppm = 0;
        self.net.faults.corrupt_ppm = 0;
        self.net.faults.duplicate_ppm = 0;
        self.net.faults.reorder_ppm = 0;
        for (&self.net.links) |*row| {
            for (row) |*link| link.* = .{};
        }
        mishaps.heal(self);
        in_place.heal(self);
        for (self.windows[0..self.window_count]) |w| {
            w.left = @min(w.left, 20);
            if (w.left == 0) w.left = 1;
            w.send_flag = true;
            self.timers[Timer.publish + w.index] = self.now_ns;
        }
    }

    pub fn begin_quiet(self: *Cluster) void {
        self.phase = .quiet;
        watch.begin_quiet(self);
        var longest_ns: u64 = 0;
        for (self.scenario.transports[0..self.scenario.transport_count]) |*t| {
            longest_ns = @max(longest_ns, t.heartbeat_interval_ns);
        }
        self.quiet_ns = longest_ns * 3;
        self.quiet_from_ns = self.now_ns + watch.round_trip_max_ns(self);
        self.timers[Timer.phase] = self.quiet_from_ns + self.quiet_ns;
    }

    // ---------------------------------------------------------------- arrivals

    fn arrive(self: *Cluster, first: Packet) void {
        if (first.to < windows_max) return self.arrive_at_window(first);
        const node = self.receivers[first.to - windows_max];
        if (!node.alive) return self.net.release(&first);
        if (self.now_ns < node.paused_until_ns) {
            return self.wait_for(first, node.paused_until_ns, &node.waiting);
        }
        node.waiting = 0;
        node.got_in_ms += 1;
        if (first.to_port >= 40000 and first.to_port != node.control.port) {
            return self.net.release(&first);
        }
        if (!node.receives) return self.net.release(&first);
        const bytes = self.join(first);
        watch_receiver.before_receiver(self, node, &first, bytes);
        const local_ns = node.clock.local(self.now_ns);
        self.net.counters.arrived += 1;
        node.receiver.on_buffer(local_ns, 1_700_000_000_000 + self.now_ns / ms, first.from, bytes);
        self.net.release(&first);
        watch_receiver.after_receiver(self, node);
        if (node.log.ordered_next() != node.log.read_next()) {
            self.wake(Timer.drain + node.index, self.now_ns + self.scenario.handler_ns);
        }
        self.step_receiver(node);
    }

    fn wait_for(self: *Cluster, packet: Packet, until_ns: u64, waiting: *u32) void {
        if (waiting.* >= kernel_queue_datagrams) {
            self.net.counters.overflowed += 1;
            return self.net.release(&packet);
        }
        waiting.* += 1;
        self.net.put_back(packet, until_ns);
    }

    /// What the kernel joins: datagrams of one sender that arrive together, all of one length but
    /// the last.
    fn join(self: *Cluster, first: Packet) []align(8) u8 {
        const slot = self.net.bytes_of(&first);
        if (!self.scenario.joined_buffers or slot.len % 8 != 0) return slot;
        var end = slot.len;
        while (self.net.peek()) |packet| {
            if (packet.arrives_ns != first.arrives_ns or packet.to != first.to or
                packet.to_port != first.to_port or !packet.from.eql(first.from) or
                packet.hostile or first.hostile or packet.length > first.length or
                end + packet.length > self.joined.len) break;
            if (end == slot.len) @memcpy(self.joined[0..slot.len], slot);
            const more = self.net.pop();
            @memcpy(self.joined[end..][0..more.length], self.net.bytes_of(&more));
            end += more.length;
            self.net.release(&more);
            if (more.length < first.length) break;
        }
        return if (end == slot.len) slot else self.joined[0..end];
    }

    fn arrive_at_window(self: *Cluster, packet: Packet) void {
        const w = self.windows[packet.to];
        const node = w.node;
        const sender = w.sender orelse return self.net.release(&packet);
        if (self.now_ns < node.paused_until_ns) {
            return self.wait_for(packet, node.paused_until_ns, &node.waiting);
        }
        node.waiting = 0;
        if (packet.to_port != w.repair.port) return self.net.release(&packet);
        self.net.counters.arrived += 1;
        const bytes = self.net.bytes_of(&packet);
        const local_ns = node.clock.local(self.now_ns);
        watch_sender.before_sender_gets(self, &packet, bytes);
        watch_sender.before_sender(self, w);
        crash.enter(node, false);
        sender.on_datagram(local_ns, packet.from, bytes);
        self.net.release(&packet);
        if (self.died(node)) return;
        watch_sender.after_sender(self, w);
        self.step_window(w);
    }

    // ---------------------------------------------------------------- agents

    pub fn wake(self: *Cluster, timer: usize, at_ns: u64) void {
        self.timers[timer] = @min(self.timers[timer], @max(at_ns, self.now_ns));
    }

    /// The node's operation is over, or the node.
    pub fn died(self: *Cluster, node: *SenderNode) bool {
        const published = node.published_between;
        if (crash.leave(node)) {
            mishaps.die_inside(self, node);
            return true;
        }
        if (published != node.published_seen) {
            node.published_seen = published;
            for (node.windows) |w| {
                w.idle_steps = 0;
                self.wake(Timer.step_window + w.index, self.now_ns + 1);
            }
        }
        return false;
    }

    pub fn step_window(self: *Cluster, w: *Window) void {
        const sender = w.sender orelse return;
        const node = w.node;
        const timer = &self.timers[Timer.step_window + w.index];
        if (self.now_ns < node.paused_until_ns) {
            timer.* = node.paused_until_ns;
            return;
        }
        const local_ns = node.clock.local(self.now_ns);
        sender.send_flag = w.send_flag;
        if (w.send_flag) w.told_below = w.window.written();
        const polled = in_place.poll(self, w, local_ns);
        if (w.sender == null) return;
        if (w.want_ack) {
            w.want_ack = false;
            if (sender.network_on) sender.want_ack(local_ns);
        }
        watch_sender.before_sender(self, w);
        crash.enter(node, false);
        if (w.shm) |shm| shm.collect(local_ns, sender);
        if (local_ns >= sender.next_deadline_ns(local_ns)) sender.tick(local_ns);
        if (self.died(node)) return;
        watch_sender.after_sender(self, w);
        var runs: u32 = 0;
        while (runs < self.scenario.runs_per_step) : (runs += 1) {
            crash.enter(node, false);
            const built = sender.poll_send(local_ns, self.image);
            if (self.died(node)) return;
            self.send_from_window(w, built orelse break);
            if (self.verdict.violation != null) return;
        }
        watch_sender.after_sender(self, w);
        if (runs == self.scenario.runs_per_step) {
            w.idle_steps = 0;
            timer.* = self.now_ns + 3 * us;
        } else {
            const due_ns = sender.next_deadline_ns(local_ns);
            watch.look_for_spin(self, w, runs + polled, due_ns <= local_ns);
            timer.* = @max(self.now_ns + @intFromBool(due_ns <= local_ns), node.clock.when(due_ns));
        }
        in_place.look_again(self, w);
        if (w.stopping_until_ns != 0) mishaps.stop_further(self, w);
        if (w.blocked and w.progress_seen != sender.progress) {
            w.progress_seen = sender.progress;
            self.wake(Timer.publish + w.index, self.now_ns);
        }
    }

    fn step_receiver(self: *Cluster, node: *ReceiverNode) void {
        if (!node.alive) return;
        const timer = &self.timers[Timer.step_receiver + node.index];
        if (self.now_ns < node.paused_until_ns) {
            timer.* = node.paused_until_ns;
            return;
        }
        node.receives = node.step_record() == null;
        if (!node.receives) {
            self.wake(Timer.drain + node.index, self.now_ns);
            timer.* = self.now_ns + ms;
            return;
        }
        const local_ns = node.clock.local(self.now_ns);
        const receiver = node.receiver;
        const work = in_place.read(self, node);
        tier_members.limit_acks(self, node);
        receiver.tick(local_ns);
        var runs: u32 = 0;
        while (runs < 64) : (runs += 1) {
            const run_ = receiver.poll_send(local_ns, self.image) orelse break;
            self.send_from_receiver(node, run_);
        }
        watch_receiver.after_receiver(self, node);
        if (node.log.ordered_next() != node.log.read_next()) {
            self.wake(Timer.drain + node.index, self.now_ns + self.scenario.handler_ns);
        }
        recorded.look(self, node);
        const due_ns = receiver.next_deadline_ns(local_ns);
        watch.look_for_spin(self, node, runs + work, due_ns <= local_ns);
        timer.* = @max(self.now_ns + @intFromBool(due_ns <= local_ns), node.clock.when(due_ns));
        const busy = if (work > 0) self.now_ns + us else in_place.receiver_due_ns(self, node);
        self.wake(Timer.step_receiver + node.index, busy);
    }

    // ---------------------------------------------------------------- sending

    fn send_from_window(self: *Cluster, w: *Window, run_: Run) void {
        var at: u32 = 0;
        const delay_ns = self.net.roll_delay();
        const t = &self.scenario.transports[w.transport];
        while (at < run_.bytes) {
            const end = @min(run_.bytes, at + run_.segment_bytes);
            const bytes = self.image[at..end];
            at = end;
            watch_sender.leaves_window(self, w, @alignCast(bytes), run_.to);
            if (w.shm != null) {
                const for_memory = if (run_.to) |to| to.ip == 0 else !run_.is_data;
                if (for_memory) in_place.send(self, w, bytes);
                if (for_memory and run_.to != null) continue;
            }
            if (run_.to) |to| {
                for (self.receivers) |r| {
                    if (!to.eql(r.control)) continue;
                    self.send(w.index, w.repair, windows_max + r.index, to.port, delay_ns, bytes);
                }
                continue;
            }
            if (t.is_multicast and self.net.lost_at_source()) continue;
            for (self.receivers) |r| {
                if (!r.listens(w.transport)) continue;
                const from = data_from(w, if (t.is_multicast) 0 else r.index + 1);
                self.send(w.index, from, windows_max + r.index, data_port, delay_ns, bytes);
            }
        }
    }

    /// Where data of a window comes from: each address of a list has a socket of its own.
    pub fn data_from(w: *const Window, out: u16) Address {
        const life: u16 = @intCast(w.life % 50);
        return .init(w.repair.ip, 30000 + @as(u16, w.index) * 512 + life * 8 + out);
    }

    fn send_from_receiver(self: *Cluster, node: *ReceiverNode, run_: Run) void {
        const bytes = self.image[0..run_.bytes];
        const to = run_.to.?;
        watch.count_sent(self, node);
        watch_receiver.leaves_receiver(self, node, @alignCast(bytes));
        if (to.ip == 0) return in_place.answer(self, node, bytes);
        const delay_ns = self.net.roll_delay();
        for (self.windows[0..self.window_count]) |w| {
            if (!to.eql(w.repair)) continue;
            const source = windows_max + node.index;
            return self.send(source, node.control, w.index, to.port, delay_ns, bytes);
        }
    }

    fn send(
        self: *Cluster,
        source: u8,
        from: Address,
        to: u8,
        to_port: u16,
        delay_ns: u64,
        bytes: []const u8,
    ) void {
        self.net.send(.{
            .now_ns = self.now_ns,
            .source = source,
            .from = from,
            .to = to,
            .to_port = to_port,
            .delay_ns = delay_ns,
        }, bytes);
    }

    /// Everything that a closed sender has to say.
    pub fn flush_window(self: *Cluster, w: *Window) void {
        const local_ns = w.node.clock.local(self.now_ns);
        while (w.sender.?.poll_send(local_ns, self.image)) |run_| self.send_from_window(w, run_);
    }

    /// Everything that a closed receiver has to say.
    pub fn flush_receiver(self: *Cluster, node: *ReceiverNode) void {
        const local_ns = node.clock.local(self.now_ns);
        while (node.receiver.poll_send(local_ns, self.image)) |run_| {
            self.send_from_receiver(node, run_);
        }
    }

    // ---------------------------------------------------------------- programs

    fn publish(self: *Cluster, w: *Window) void {
        const sender = w.sender orelse return;
        const node = w.node;
        const timer = Timer.publish + w.index;
        if (w.left == 0 or w.stopping_until_ns != 0) return;
        if (self.now_ns < node.paused_until_ns) return self.wake(timer, node.paused_until_ns);
        if (sender.phase != .started or !self.may_begin(w)) {
            return self.wake(timer, self.now_ns + ms);
        }
        const burst = self.dice.between(1, self.scenario.publish_burst);
        for (0..burst) |_| {
            if (w.left == 0) break;
            crash.enter(node, true);
            const outcome = node.publish(w, self.now_ns);
            if (self.died(node)) return;
            if (outcome == .sent) {
                self.totals.published += 1;
                in_place.tell_readers(self, w);
                continue;
            }
            self.totals.would_block += 1;
            w.progress_seen = sender.progress;
            if (node.is_deadlocked(self.now_ns)) {
                self.verdict.fail(.deadlock, self.now_ns, "window {d}: WOULD_BLOCK for message " ++
                    "{d}, and everything is acknowledged", .{ w.index, w.window.written() });
            }
            for (node.windows) |sibling| {
                self.wake(Timer.step_window + sibling.index, self.now_ns);
            }
            return self.wake(timer, self.now_ns + 5 * ms);
        }
        // Who reads in place sees it without the sender's help.
        if (sender.network_on) self.wake(Timer.step_window + w.index, self.now_ns);
        const mean_ns = if (self.phase == .safety) self.scenario.publish_every_ns else ms;
        self.wake(timer, self.now_ns + 1 + self.dice.below(mean_ns * 2));
    }

    /// Where the bill is looked at, everybody is there before anything is sent.
    fn may_begin(self: *Cluster, w: *Window) bool {
        if (self.scenario.kind != .cost) return true;
        var listeners: u32 = 0;
        for (self.receivers) |r| listeners += @intFromBool(r.listens(w.transport));
        return w.sender.?.peers.connected == listeners;
    }

    /// The receiving program: accepts what it was given, or refuses a part, and asks for more.
    pub fn drain(self: *Cluster, node: *ReceiverNode) void {
        if (!node.alive) return;
        const timer = Timer.drain + node.index;
        const busy_until_ns = @max(node.paused_until_ns, node.stalled_until_ns);
        if (self.now_ns < busy_until_ns) return self.wake(timer, busy_until_ns);
        const log = &node.log;
        if (node.is_manual()) return self.drain_manual(node);
        const waiting = log.read_next() - log.processed_next();
        if (waiting > 0) {
            const refuses = self.phase == .safety and
                self.dice.chance(self.scenario.mishaps.refuse_ppm);
            const taken = if (refuses) self.dice.below(waiting) else waiting;
            watch_receiver.processed(self, node, taken);
            log.processed(log.processed_next() + taken);
            node.forget(taken);
            if (taken < waiting) {
                log.rewind();
                node.refused += 1;
            }
        }
        var descriptors: [1024]record.Descriptor = undefined;
        const count = log.fill(&descriptors, self.scenario.batch);
        for (descriptors[0..count]) |*d| watch_receiver.delivered(self, node, d);
        if (count > 0) {
            self.wake(timer, self.now_ns + 1 + self.scenario.handler_ns);
        }
    }

    /// The same of one that takes what comes, and says later what of it was processed: all up to
    /// any message, not the last one it took.
    fn drain_manual(self: *Cluster, node: *ReceiverNode) void {
        const timer = Timer.drain + node.index;
        const log = &node.log;
        const waiting = log.read_next() - log.processed_next();
        const is_late = self.phase == .safety;
        if (waiting > 0 and (!is_late or self.dice.chance(self.scenario.manual_ack_ppm))) {
            const done = if (is_late) self.dice.between(1, waiting) else waiting;
            watch_receiver.processed(self, node, done);
            node.receiver.process_to(log.processed_next() + done);
            node.forget(done);
        }
        var descriptors: [1024]record.Descriptor = undefined;
        const count = log.fill(&descriptors, self.scenario.batch);
        for (descriptors[0..count]) |*d| watch_receiver.delivered(self, node, d);
        const soon_ns = if (count > 0) 1 + self.scenario.handler_ns else 2 * ms;
        if (count > 0 or log.read_next() != log.processed_next()) {
            self.wake(timer, self.now_ns + soon_ns);
        }
    }
};

const testing = std.testing;

fn run_for_test(seed: u64) !struct { u64, u64 } {
    const cluster: *Cluster = try .init(std.heap.c_allocator, seed);
    defer cluster.deinit();
    cluster.run();
    if (cluster.verdict.violation != null) return error.Violation;
    return .{ cluster.digest, cluster.totals.events };
}

test "the same seed is the same run, another seed is another" {
    const first = try run_for_test(7);
    const again = try run_for_test(7);
    try testing.expectEqual(first[0], again[0]);
    try testing.expectEqual(first[1], again[1]);
    const other = try run_for_test(8);
    try testing.expect(first[0] != other[0]);
}
