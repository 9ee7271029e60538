//! A simulated tier: members and observers (the very `Member` of the engine), the senders whose
//! messages they order, the network between them, the arbiter, and virtual time. Two phases, as in
//! `cluster.zig`: in *safety* anything goes wrong, in *liveness* the network heals, and everything
//! that senders keep must be delivered everywhere.

const std = @import("std");
const scenario_file = @import("tier_scenario.zig");
const model_file = @import("tier_model.zig");
const host_file = @import("tier_host.zig");
const arbiter_file = @import("tier_arbiter.zig");
const mishaps = @import("tier_mishaps.zig");
const liveness = @import("tier_liveness.zig");
const watch = @import("tier_watch.zig");
const senders_file = @import("tier_senders.zig");
const packet_simulator = @import("packet_simulator.zig");
const dice_file = @import("dice.zig");
const member_file = @import("../tier/member.zig");
const epochs = @import("../tier/epoch.zig");
const tree = @import("../tier/tree.zig");
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const abi = @import("../abi.zig");
const Address = @import("../transport/address.zig").Address;
const Notices = @import("../session/notices.zig").Notices;
const SimClock = @import("sim_clock.zig").SimClock;
const Arbiter = arbiter_file.Arbiter;
const Dice = dice_file.Dice;
const Model = model_file.Model;
const PacketSimulator = packet_simulator.PacketSimulator;
const Scenario = scenario_file.Scenario;
const Sender = senders_file.Sender;
const SimHost = host_file.SimHost;
pub const Member = member_file.Member(SimHost);

const nodes_max = scenario_file.nodes_max;
const members_max = scenario_file.members_max;
const senders_max = scenario_file.senders_max;
const ms = std.time.ns_per_ms;
const s = std.time.ns_per_s;
const never = std.math.maxInt(u64);

/// Milliseconds since 1970 where virtual time begins.
const wall_ms_at_start = 1_700_000_000_000;
const datagram_bytes_max = 8976;
/// Acknowledgements, promises and answers that are played again in some seeds.
const captured_max = 64;
const captured_bytes = 256;
const Captured = struct {
    from: u8 = 0,
    to: u8 = 0,
    bytes: u32 = 0,
    image: [captured_bytes]u8 = undefined,
};
const names: [members_max][]const u8 = .{ "m0", "m1", "m2", "m3", "m4" };

pub const Node = struct {
    index: u8,
    /// Number of the member; `tree.nobody` for an observer.
    member: u32,
    id: u16,
    clock: SimClock,
    host: SimHost,
    notices: *Notices,
    core: ?*Member = null,
    alive: bool = false,
    /// Not before (or never again).
    starts_ns: u64 = never,
    life: u32 = 0,
    stopped_until_ns: u64 = 0,
    hung_until_ns: u64 = 0,
    stalled_until_ns: u64 = 0,
    step_at_ns: u64 = never,
    view_serial: u32 = 0,
    /// "already running"
    is_refused: bool = false,
    role: member_file.Role = .init,
    phase: member_file.Phase = .idle,
    sent_types: [64]u32 = @splat(0),
    delivery_pending: [senders_max]bool = @splat(false),
    steps_at_once: u32 = 0,
    last_step_ns: u64 = 0,
    sent_since_ns: u64 = 0,
    sent_count: u64 = 0,
    shown_before: u64 = 0,
    out_of_sync: ?[2]u64 = null,

    pub fn stands_still(self: *const Node, now_ns: u64) bool {
        return now_ns < self.runs_again_ns();
    }

    pub fn runs_again_ns(self: *const Node) u64 {
        return @max(self.stopped_until_ns, self.hung_until_ns);
    }

    pub fn address(self: *const Node) Address {
        return .init(0x0100_000a + (@as(u32, self.index) << 24), 40001);
    }

    pub fn is_observer(self: *const Node) bool {
        return self.member == tree.nobody;
    }
};

pub const EventKind = enum(u8) {
    step,
    start,
    client_tick,
    watch,
    view,
    command,
    command_late,
    answer,
    expire,
    watchdog,
    publish,
    beat,
    deliver,
    ack,
    sender_start,
    mishap,
    heal,
    resume_node,
};

const Event = struct { at_ns: u64, order: u64, kind: EventKind, node: u8, a: u64, b: u64 };

/// What happened, for the report.
pub const Counts = struct {
    events: u64 = 0,
    virtual_ns: u64 = 0,
    committed: u64 = 0,
    delivered: u64 = 0,
    published: u64 = 0,
    campaigns: u64 = 0,
    establishes: u64 = 0,
    leaders: u64 = 0,
    lives: u64 = 0,
    separated: u64 = 0,
    late_watches: u64 = 0,
    answers_lost: u64 = 0,
    stuck: u64 = 0,
    /// Led by the operator's word, and killed as a leader then.
    forced: u64 = 0,
    forced_killed: u64 = 0,
    resets: u64 = 0,
    naks: u64 = 0,
    fills: u64 = 0,
    mishaps: [scenario_file.mishap_count]u64 = @splat(0),
    network: packet_simulator.Counters = .{},

    pub fn add(self: *Counts, o: *const Counts) void {
        inline for (@typeInfo(Counts).@"struct".field_names) |field| {
            if (@TypeOf(@field(self, field)) == u64) @field(self, field) += @field(o, field);
        }
        for (&self.mishaps, o.mishaps) |*mine, theirs| mine.* += theirs;
        inline for (@typeInfo(packet_simulator.Counters).@"struct".field_names) |field| {
            @field(self.network, field) += @field(o.network, field);
        }
    }
};

/// What is printed of a seed that failed: the last steps that changed something.
pub const Note = struct {
    at_ns: u64 = 0,
    node: u8 = 0,
    text: []const u8 = "",
    args: [4]u64 = @splat(0),
};
pub const notes_max = 1 << 12;

pub const Phase = enum { safety, liveness, done };

pub const Cluster = struct {
    gpa: std.mem.Allocator,
    scenario: Scenario,
    dice: Dice,
    model: Model,
    net: PacketSimulator,
    arbiter: Arbiter = .{},
    nodes: [nodes_max]Node = undefined,
    node_count: u8 = 0,
    hosts: [nodes_max]*SimHost = undefined,
    senders: [senders_max]Sender = undefined,
    options: [members_max]member_file.MemberOptions = undefined,
    heap: std.ArrayList(Event) = .empty,
    next_order: u64 = 0,
    now_ns: u64 = 0,
    phase: Phase = .safety,
    counts: Counts = .{},
    digest: u64 = 0,
    core_nodes: u8 = 0,
    progress: u64 = 0,
    progress_ns: u64 = 0,
    liveness_from_ns: u64 = 0,
    liveness_events: u64 = 0,
    was_forced: bool = false,
    notes: [notes_max]Note = @splat(.{}),
    note_count: u64 = 0,
    captured: [captured_max]Captured = @splat(.{}),
    image: [datagram_bytes_max]u8 align(8) = undefined,

    pub fn init(gpa: std.mem.Allocator, seed: u64) !*Cluster {
        const self = try gpa.create(Cluster);
        errdefer gpa.destroy(self);
        const x: Scenario = .init(seed);
        self.* = .{
            .gpa = gpa,
            .scenario = x,
            .dice = .init(dice_file.mix(seed, 1)),
            .model = .{ .gpa = gpa, .bytes_max = x.bytes_max, .members = x.members },
            .net = try .init(gpa, dice_file.mix(seed, 2), x.faults, datagram_bytes_max),
        };
        self.model.relaxed = x.policy != .safe;
        for (0..x.members) |i| self.options[i] = .{ .id = @intCast(i + 1), .name = names[i] };
        const regular = x.members + x.observers;
        for (0..regular) |i| self.add_node(@intCast(i), if (i < x.members) @intCast(i) else null);
        // The second start of a member, if a mishap wants it.
        self.add_node(@intCast(regular), 0);
        for (0..self.node_count) |i| self.hosts[i] = &self.nodes[i].host;
        self.model.hosts = self.hosts[0..self.node_count];
        for (0..x.senders) |i| self.senders[i] = .init(self, @intCast(i));
        for (self.nodes[0..regular]) |*node| {
            self.start_at(node, self.dice.below(x.start_spread_ns + 1));
        }
        if (x.mishap_every_ns > 0) self.schedule(.mishap, x.mishap_every_ns, 0, 0, 0);
        return self;
    }

    fn add_node(self: *Cluster, index: u8, member: ?u32) void {
        const x = &self.scenario;
        const drift: i32 = if (x.drift_ppm == 0) 0 else @as(i32, @intCast(
            self.dice.below(2 * x.drift_ppm + 1),
        )) - @as(i32, @intCast(x.drift_ppm));
        const notices = self.gpa.create(Notices) catch @panic("out of memory");
        notices.* = .{};
        self.nodes[index] = .{
            .index = index,
            .member = member orelse tree.nobody,
            .id = if (member) |m| @intCast(m + 1) else @as(u16, index) + 1,
            .clock = .{ .offset_ns = self.dice.below(1000 * s), .drift_ppm = drift },
            .notices = notices,
            .host = .{
                .gpa = self.gpa,
                .model = &self.model,
                .dice = &self.dice,
                .index = index,
                .member = member orelse tree.nobody,
                .record = x.record,
            },
        };
        self.node_count = index + 1;
    }

    pub fn deinit(self: *Cluster) void {
        for (self.nodes[0..self.node_count]) |*node| {
            self.drop_core(node);
            node.host.deinit();
            self.gpa.destroy(node.notices);
        }
        self.arbiter.deinit(self.gpa);
        self.model.deinit();
        self.net.deinit();
        self.heap.deinit(self.gpa);
        self.gpa.destroy(self);
    }

    fn drop_core(self: *Cluster, node: *Node) void {
        const core = node.core orelse return;
        core.deinit(self.gpa);
        self.gpa.destroy(core);
        node.core = null;
    }

    pub fn note(self: *Cluster, node: u8, text: []const u8, args: [4]u64) void {
        self.notes[@intCast(self.note_count % notes_max)] = .{
            .at_ns = self.now_ns,
            .node = node,
            .text = text,
            .args = args,
        };
        self.note_count += 1;
    }

    // ---- time

    fn before(a: *const Event, b: *const Event) bool {
        return a.at_ns < b.at_ns or (a.at_ns == b.at_ns and a.order < b.order);
    }

    pub fn schedule(
        self: *Cluster,
        kind: EventKind,
        at_ns: u64,
        node: u8,
        a: u64,
        b: u64,
    ) void {
        const e: Event = .{
            .at_ns = @max(at_ns, self.now_ns),
            .order = self.next_order,
            .kind = kind,
            .node = node,
            .a = a,
            .b = b,
        };
        self.next_order += 1;
        self.heap.append(self.gpa, e) catch @panic("out of memory");
        const items = self.heap.items;
        var at = items.len - 1;
        while (at > 0) {
            const parent = (at - 1) / 2;
            if (!before(&e, &items[parent])) break;
            items[at] = items[parent];
            at = parent;
        }
        items[at] = e;
    }

    fn pop(self: *Cluster) Event {
        const items = self.heap.items;
        const first = items[0];
        const last = items[items.len - 1];
        const count = items.len - 1;
        var at: usize = 0;
        while (true) {
            var child = at * 2 + 1;
            if (child >= count) break;
            if (child + 1 < count and before(&items[child + 1], &items[child])) child += 1;
            if (!before(&items[child], &last)) break;
            items[at] = items[child];
            at = child;
        }
        items[at] = last;
        self.heap.items.len = count;
        return first;
    }

    pub fn run(self: *Cluster) void {
        while (self.phase != .done and self.model.verdict.violation == null) self.advance();
        self.counts.virtual_ns = self.now_ns;
        self.counts.committed = self.model.truth.items.len;
        self.counts.resets = self.model.resets;
        self.counts.network = self.net.counters;
    }

    fn advance(self: *Cluster) void {
        const packet_ns = self.net.next_ns();
        const event_ns = if (self.heap.items.len > 0) self.heap.items[0].at_ns else never;
        if (packet_ns == never and event_ns == never) {
            self.phase = .done;
            return;
        }
        self.counts.events += 1;
        if (packet_ns < event_ns) {
            self.set_now(packet_ns);
            self.arrive();
        } else {
            const e = self.pop();
            self.set_now(e.at_ns);
            self.handle(&e);
        }
        switch (self.phase) {
            .safety => if (self.now_ns >= self.scenario.safety_ns or
                self.counts.events >= self.scenario.safety_events) liveness.begin_liveness(self),
            .liveness => if (self.counts.events % 32 == 0) liveness.look_at_progress(self),
            .done => {},
        }
    }

    fn set_now(self: *Cluster, now_ns: u64) void {
        self.now_ns = now_ns;
        self.model.now_ns = now_ns;
    }

    fn handle(self: *Cluster, e: *const Event) void {
        self.digest = dice_file.mix(self.digest, e.at_ns +% @backingInt(e.kind) +% e.node);
        const node = &self.nodes[e.node];
        const lives = node.alive and node.life == e.a;
        switch (e.kind) {
            .step => if (lives and e.at_ns == node.step_at_ns) self.step(node),
            .start => if (!node.alive and node.starts_ns == e.at_ns) self.start(node),
            .client_tick => if (lives) {
                if (self.now_ns < node.stopped_until_ns) {
                    self.schedule(.client_tick, node.stopped_until_ns, e.node, e.a, 0);
                } else self.arbiter.client_tick(self, node);
            },
            .watch => if (lives) self.arbiter.fire(self, node),
            .view => if (lives) self.arbiter.arrive(self, node),
            .command => if (lives) self.arbiter.execute(self, node, e.b),
            .command_late => if (lives) self.arbiter.command_late(self, node, e.b),
            .answer => if (node.alive) {
                self.arbiter.answer_arrives(self, node, e.a, @fromBackingInt(@intCast(e.b)));
            },
            .expire => self.arbiter.expire(self, e.a),
            .watchdog => if (lives and self.now_ns < node.hung_until_ns) {
                self.arbiter.give_up(self, node);
            },
            .publish => self.senders[e.node].publish(self),
            .beat => self.senders[e.node].beat(self),
            .deliver => self.senders[@intCast(e.b)].deliver(self, node),
            .ack => self.senders[e.node].acknowledged(self, e.a, e.b),
            .sender_start => self.senders[e.node].start(self),
            .mishap => mishaps.strike(self),
            .heal => mishaps.heal(self, @fromBackingInt(@intCast(e.a)), e.b),
            .resume_node => self.wake(node, self.now_ns),
        }
    }

    /// The node's next step is at this time, if it is not sooner.
    pub fn wake(self: *Cluster, node: *Node, at_ns: u64) void {
        if (!node.alive) return;
        const at = @max(@max(at_ns, self.now_ns), node.runs_again_ns());
        if (at >= node.step_at_ns and node.step_at_ns >= self.now_ns) return;
        node.step_at_ns = at;
        self.schedule(.step, at, node.index, node.life, 0);
    }

    // ---- lives

    pub fn start_at(self: *Cluster, node: *Node, at_ns: u64) void {
        node.starts_ns = at_ns;
        self.schedule(.start, at_ns, node.index, 0, 0);
    }

    fn start(self: *Cluster, node: *Node) void {
        const x = &self.scenario;
        self.drop_core(node);
        node.life += 1;
        node.alive = true;
        node.starts_ns = never;
        node.stopped_until_ns = 0;
        node.hung_until_ns = 0;
        node.stalled_until_ns = 0;
        node.step_at_ns = never;
        node.is_refused = false;
        node.role = .init;
        node.view_serial = 0;
        node.out_of_sync = null;
        node.notices.* = .{};
        node.host.alive = true;
        node.host.life = node.life;
        self.counts.lives += 1;
        self.note(node.index, "starts: life, adopted, next", .{
            node.life, node.host.disk.durable.adopted.number, node.host.next(), 0,
        });
        const durable = node.host.load();
        const core = self.gpa.create(Member) catch @panic("out of memory");
        core.* = Member.init(self.gpa, self.options_of(node), &node.host, node.notices) catch
            @panic("out of memory");
        node.core = core;
        core.start(node.clock.local(self.now_ns), durable, self.dice.below((1 << 53) - 2) + 1);
        self.arbiter.start(self, node);
        for (self.senders[0..x.senders]) |*sender| sender.look(self, node);
        self.wake(node, self.now_ns);
        self.replay(node, false);
    }

    /// What was said before, by or to this node, arrives once more: copies that were late.
    pub fn replay(self: *Cluster, node: *const Node, only_one: bool) void {
        if (self.scenario.kind != .stale or self.phase != .safety) return;
        for (&self.captured) |*x| {
            if (x.bytes == 0 or x.to != node.index and x.from != node.index) continue;
            if (only_one and self.dice.below(16) > 0) continue;
            _ = self.net.put(.{
                .arrives_ns = self.now_ns + self.dice.magnitude(1000, 300 * ms),
                .order = 0,
                .slot = 0,
                .length = x.bytes,
                .from = self.nodes[x.from].address(),
                .to_port = 40001,
                .to = x.to,
            }, x.image[0..x.bytes]);
        }
    }

    fn capture(self: *Cluster, from: u8, to: u8, bytes: []const u8) void {
        if (bytes.len > captured_bytes or self.dice.below(3) > 0) return;
        const x = &self.captured[@intCast(self.dice.below(captured_max))];
        x.* = .{ .from = from, .to = to, .bytes = @intCast(bytes.len) };
        @memcpy(x.image[0..bytes.len], bytes);
    }

    fn options_of(self: *const Cluster, node: *const Node) member_file.Options {
        const x = &self.scenario;
        return .{
            .cluster = 7,
            .members = self.options[0..x.members],
            .self = if (node.is_observer()) null else node.member,
            .id = node.id,
            .ack_count = x.ack_count,
            .use_committed = x.use_committed,
            .is_batched = x.asynchronous_sqn,
            .sync_max_diff = x.sync_max_diff,
            .send_window = x.send_window,
            .heartbeat_interval_ns = x.heartbeat_interval_ns,
            .heartbeat_timeout_ns = x.heartbeat_timeout_ns,
            .ack_interval_ns = x.ack_interval_ns,
            .ack_timeout_ns = x.ack_timeout_ns,
            .start_timeout_ns = x.start_timeout_ns,
            .session_timeout_ns = x.session_timeout_ns,
            .policy = switch (x.policy) {
                .safe => .safe,
                .freshest => .freshest,
                .race => .race,
            },
            .config_hash = 4711,
            .datagram_bytes = x.datagram_bytes & ~@as(u32, 7),
            .group_key = if (x.is_sealed) @splat(0x5a) else null,
            .seed = dice_file.mix(x.seed, @as(u64, node.index) << 32 | node.life),
        };
    }

    pub fn end(self: *Cluster, node: *Node, death: SimHost.Death, goodbye: bool) void {
        if (!node.alive) return;
        if (death == .clean) {
            const local_ns = node.clock.local(self.now_ns);
            node.core.?.leave(local_ns);
            self.flush(node, local_ns);
        }
        node.alive = false;
        node.host.die(death);
        self.note(node.index, @tagName(death), .{ node.life, node.host.next(), 0, 0 });
        self.arbiter.leave(self, node, goodbye);
    }

    // ---- steps

    pub fn give_view(self: *Cluster, node: *Node, view: *const tree.View) void {
        if (!node.alive) return;
        self.note(node.index, "view: session, version, running, present", .{
            @backingInt(view.session), @intCast(view.master_version), view.running, view.present,
        });
        node.core.?.on_view(node.clock.local(self.now_ns), view);
        self.after(node);
    }

    pub fn give_answer(self: *Cluster, node: *Node, answer: *const tree.Answer) void {
        if (!node.alive) return;
        self.note(node.index, "answer: serial, outcome, version", .{
            answer.serial, @backingInt(answer.outcome), @intCast(answer.version), 0,
        });
        node.core.?.on_answer(node.clock.local(self.now_ns), answer);
        self.after(node);
    }

    fn arrive(self: *Cluster) void {
        const p = self.net.pop();
        const node = &self.nodes[p.to];
        if (!node.alive) {
            self.net.release(&p);
            return;
        }
        if (node.stands_still(self.now_ns)) {
            // It waits in the socket's buffer, which has an end.
            if (self.dice.below(4) == 0) {
                self.net.release(&p);
            } else self.net.put_back(p, node.runs_again_ns() + 1);
            return;
        }
        self.net.counters.arrived += 1;
        node.core.?.on_datagram(node.clock.local(self.now_ns), p.from, self.net.bytes_of(&p));
        self.net.release(&p);
        self.after(node);
    }

    /// After something came: often at once, else with what comes next.
    fn after(self: *Cluster, node: *Node) void {
        if (node.host.dying) return self.end(node, .kill, false);
        if (node.stands_still(self.now_ns)) return self.wake(node, node.runs_again_ns());
        if (self.dice.below(4) > 0) self.step(node) else self.wake(node, self.now_ns + 1000);
    }

    fn step(self: *Cluster, node: *Node) void {
        if (!node.alive) return;
        if (node.stands_still(self.now_ns)) return self.wake(node, node.runs_again_ns());
        node.step_at_ns = never;
        self.count_step(node);
        const local_ns = node.clock.local(self.now_ns);
        const lease = self.arbiter.clients[node.index].lease_until_ns;
        const wall_ms = wall_ms_at_start + self.now_ns / ms + node.index;
        const core = node.core.?;
        core.tick(local_ns, wall_ms, lease);
        self.flush(node, local_ns);
        if (core.command()) |x| {
            self.note(node.index, "command: kind, epoch, S, need", .{
                @backingInt(x.kind), x.epoch.number, x.quorum.set, x.quorum.need,
            });
            self.arbiter.command(self, node, x);
        }
        watch.check_counted(self, node);
        watch.consume(self, node);
        watch.read_notices(node);
        self.tell_senders(node);
        if (node.host.dying) return self.end(node, .kill, false);
        if (node.role != core.role() or node.phase != core.phase) self.note(
            node.index,
            @tagName(core.phase),
            .{
                @backingInt(core.role()), core.epoch_now().number,
                node.host.next(),         core.committed,
            },
        );
        if (core.phase == .fetching and node.phase != .fetching) mishaps.cut_source(self, node);
        // What it was shown as a follower may still be taken.
        if (core.phase == .leading and node.phase != .leading) {
            node.shown_before = node.host.show_limit;
        }
        node.role = core.role();
        node.phase = core.phase;
        if (self.is_over(node)) return;
        const due = core.next_deadline_ns(local_ns);
        if (due != never) self.wake(node, node.clock.when(due));
    }

    fn count_step(self: *Cluster, node: *Node) void {
        if (node.last_step_ns != self.now_ns) node.steps_at_once = 0;
        node.last_step_ns = self.now_ns;
        node.steps_at_once += 1;
        if (node.steps_at_once > 10_000) {
            self.model.fail(.storm, "node {d} is due at once for ever", .{node.index});
        }
    }

    fn flush(self: *Cluster, node: *Node, local_ns: u64) void {
        const delay_ns = self.net.roll_delay();
        var n: u32 = 0;
        const image = self.image[0 .. self.scenario.datagram_bytes & ~@as(u32, 7)];
        while (node.core.?.poll_send(local_ns, image)) |send| {
            n += 1;
            if (n > 20_000) {
                return self.model.fail(.storm, "node {d} sends without end", .{node.index});
            }
            if (node.host.dying) continue;
            watch.count_datagram(self, node, image[0..send.bytes]);
            const bytes = image[0..node.core.?.finish(image, send.bytes)];
            const kind = @as(*const frame.Header, @ptrCast(bytes.ptr)).type;
            const may_capture = self.scenario.kind == .stale and switch (kind) {
                33, 37, 39, 40 => true,
                else => false,
            };
            if (send.to == null and self.net.lost_at_source()) continue;
            for (self.nodes[0..self.node_count]) |*to| {
                if (to.index == node.index) continue;
                if (send.to) |address| if (!to.address().eql(address)) continue;
                if (may_capture and send.to != null) self.capture(node.index, to.index, bytes);
                self.net.send(.{
                    .now_ns = self.now_ns,
                    .source = node.index,
                    .from = node.address(),
                    .to = to.index,
                    .to_port = 40001,
                    .delay_ns = delay_ns,
                }, bytes);
            }
        }
    }

    fn tell_senders(self: *Cluster, node: *Node) void {
        if (!node.host.acks_changed or node.host.dying) return;
        if (node.is_observer()) return;
        node.host.acks_changed = false;
        for (self.senders[0..self.scenario.senders]) |*sender| sender.hear(self, node);
    }

    /// A process that ends by itself.
    fn is_over(self: *Cluster, node: *Node) bool {
        const core = node.core.?;
        const lasts_ns = @max(self.scenario.mishap_lasts_ns, s);
        if (core.role() == .separate) {
            watch.check_separate(self, node);
            self.counts.separated += 1;
            self.end(node, .kill, false);
        } else if (node.is_refused or core.failed != .none) {
            self.end(node, .kill, true);
        } else return false;
        if (node.index < self.scenario.members + self.scenario.observers) {
            self.start_at(node, self.now_ns + self.dice.below(lasts_ns) + 100 * ms);
        }
        return true;
    }

    // ---- liveness

    pub fn late_ppm(self: *const Cluster) u32 {
        return if (self.phase == .safety) self.scenario.late_watch_ppm else 0;
    }

    pub fn lost_ppm(self: *const Cluster) u32 {
        return if (self.phase == .safety) self.scenario.answer_lost_ppm else 0;
    }
};
