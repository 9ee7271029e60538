//! A tier that sends (guide 9.9.1), in a simulated run of its own: members that number the same
//! messages, each at its pace, with the very `Sender` of the engine; leaders that die, pause, or
//! are deposed and hear of it late; plain receivers. Who leads is rolled here, as the arbiter would
//! say it.
//!
//! Checked: one logical stream, in which each receiver gets each number once and none is lost; a
//! lower epoch never comes back; nobody frees what a receiver lacks; at the end everybody has
//! everything, and followers keep nothing of it.

const std = @import("std");
const abi = @import("../abi.zig");
const assert = @import("../assert.zig").assert;
const base_limits = @import("../limits.zig");
const epochs = @import("../tier/epoch.zig");
const frame = @import("../wire/frame.zig");
const limits = @import("../session/limits.zig");
const messages = @import("messages.zig");
const model = @import("model.zig");
const packet_simulator = @import("packet_simulator.zig");
const peers_file = @import("../session/peers.zig");
const pool_file = @import("../window/pool.zig");
const record = @import("../order/record.zig");
const recovery = @import("../window/recovery.zig");
const role = @import("../session/sender_role.zig");
const scenario_file = @import("scenario.zig");
const sender_file = @import("../session/sender.zig");
const tx_positions = @import("../tier/tx_positions.zig");
const dice_file = @import("dice.zig");
const Address = @import("../transport/address.zig").Address;
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;
const SendingWindow = @import("../window/sending_window.zig").SendingWindow;
const SimClock = @import("sim_clock.zig").SimClock;
const Totals = @import("totals.zig").Totals;
const verdict_file = @import("verdict.zig");
const Check = verdict_file.Check;
const Verdict = verdict_file.Verdict;

const Dice = dice_file.Dice;
const Epoch = epochs.Epoch;
const Packet = packet_simulator.Packet;
const PacketSimulator = packet_simulator.PacketSimulator;
const Sender = sender_file.Sender;
const TxPosition = tx_positions.TxPosition;

const us = scenario_file.us;
const ms = scenario_file.ms;
const s = scenario_file.s;
const windows_max = scenario_file.windows_max;
const header_bytes = base_limits.message_header_bytes;
const members_max = 3;
const tier_id = 1;
const tier_name = "tier";
const data_port = 5000;
const image_bytes = 65536;
const key: @import("../session/stream.zig").Key = .{
    .tier = true,
    .source = tier_id,
    .transport = 1,
};
/// After the network healed everything has arrived by then.
const patience_ns = 60 * s;

const News = struct { at_ns: u64, is_leader: bool, epoch: Epoch };
const Positions = tx_positions.TxPositions(Member);
/// A TX_ACKED frame on its way.
const Telling = struct { at_ns: u64, to: u8, epoch: Epoch, position: TxPosition };

const Member = struct {
    index: u8,
    clock: SimClock,
    memory: []align(4096) u8,
    pool: pool_file.ChunkPool,
    bump: pool_file.Bump,
    window: SendingWindow,
    /// Null: it is dead.
    sender: ?*Sender = null,
    positions: Positions = undefined,
    repair: Address = .{},
    life: u16 = 0,
    starts_ns: u64 = 0,
    paused_until_ns: u64 = 0,
    publish_ns: u64 = 0,
    /// What it will hear of its role next.
    news: ?News = null,
    epoch: Epoch = epochs.none,

    pub fn tx_count(_: *const Member) u32 {
        return 1;
    }
    pub fn tx_position(self: *const Member, _: u32) TxPosition {
        return .{ .transport = key.transport, .acked = self.window.acked() };
    }
    pub fn tx_told(self: *Member, transport: u16, acked: u64) void {
        assert(transport == key.transport);
        role.told(self.sender.?, acked);
    }

    fn leads(self: *const Member) bool {
        const sender = self.sender orelse return false;
        return sender.phase == .started;
    }
};

pub const SendingTier = struct {
    gpa: std.mem.Allocator,
    scenario: scenario_file.Scenario,
    dice: Dice,
    net: PacketSimulator,
    members: []*Member,
    receivers: []*ReceiverNode,
    published: model.Published,
    /// The highest epoch under which each receiver agreed.
    agreed: [scenario_file.receivers_max]Epoch = @splat(epochs.none),
    expected: [scenario_file.receivers_max]u64 = @splat(0),
    tellings: std.ArrayList(Telling) = .empty,
    leader: ?u8 = null,
    epoch: Epoch = epochs.none,
    elect_ns: u64 = 0,
    mishap_ns: u64 = 0,
    now_ns: u64 = 0,
    step_ns: u64,
    total: u64,
    is_healed: bool = false,
    image: []align(8) u8,
    verdict: Verdict = .{},
    totals: Totals = .{},
    digest: u64 = 0,

    pub fn init(gpa: std.mem.Allocator, seed: u64) !*SendingTier {
        messages.prepare();
        const self = try gpa.create(SendingTier);
        var dice: Dice = .init(dice_file.mix(seed, 5));
        const scenario = scenario_of(seed, &dice);
        const slot_bytes = @max(2048, scenario.transports[0].sizes.datagram_bytes);
        self.* = .{
            .gpa = gpa,
            .scenario = scenario,
            .dice = dice,
            .net = try .init(gpa, dice_file.mix(seed, 2), scenario.faults, slot_bytes),
            .members = try gpa.alloc(*Member, @intCast(dice.between(2, members_max))),
            .receivers = try gpa.alloc(*ReceiverNode, scenario.receiver_count),
            .published = undefined,
            .step_ns = dice.magnitude(20 * us, 300 * us),
            .total = dice.magnitude(100, 3000),
            .image = try gpa.alignedAlloc(u8, .@"8", image_bytes),
        };
        self.published = .{ .seed = seed, .window = 0, .sizes = &self.scenario.sizes[0] };
        self.dice = dice;
        for (self.members, 0..) |*m, i| m.* = try self.make_member(@intCast(i));
        for (self.receivers, 0..) |*node, i| {
            node.* = try .init(gpa, &self.scenario, @intCast(i), self.roll_clock());
            try node.*.start(&self.dice);
        }
        for (self.members) |m| try self.start(m);
        self.mishap_ns = self.dice.below(s);
        return self;
    }

    /// Some rolls of an ordinary scenario; times within which nobody loses touch.
    fn scenario_of(seed: u64, dice: *Dice) scenario_file.Scenario {
        var o: scenario_file.Scenario = .of(seed);
        o.transport_count = 1;
        o.transports[0].id = key.transport;
        const t = &o.transports[0];
        t.heartbeat_interval_ns = dice.between(20, 200) * ms;
        t.heartbeat_timeout_ns = t.heartbeat_interval_ns * 4;
        t.ack_interval_ns = dice.between(5, 50) * ms;
        t.ack_timeout_ns = dice.between(3, 5) * s;
        o.receiver_count = @intCast(dice.between(1, 3));
        o.rx_mask = @splat(1);
        o.is_total_order = true;
        o.receive_bytes = @max(o.receive_bytes, 2 << 20);
        o.sizes[0].max = @min(o.sizes[0].max, 64 * 1024);
        o.arena_bytes = @max(o.arena_bytes, 256 * 1024);
        o.faults = .{ .delay_ns = dice.magnitude(5 * us, 2 * ms) };
        if (dice.coin()) o.faults.jitter_ns = o.faults.delay_ns;
        if (dice.coin()) o.faults.loss_ppm = @intCast(dice.magnitude(100, 50_000));
        if (dice.coin()) o.faults.duplicate_ppm = @intCast(dice.magnitude(100, 50_000));
        if (dice.coin()) o.faults.reorder_ppm = @intCast(dice.magnitude(100, 200_000));
        o.faults.reorder_ns = dice.magnitude(10 * us, 20 * ms);
        o.publish_every_ns = dice.magnitude(20 * us, 5 * ms);
        o.mishaps.lasts_ns = dice.magnitude(ms, s);
        o.safety_ns = dice.between(2, 10) * s;
        return o;
    }

    fn roll_clock(self: *SendingTier) SimClock {
        return .{ .offset_ns = self.dice.magnitude(1, 1 << 50) };
    }

    fn make_member(self: *SendingTier, index: u8) !*Member {
        const gpa = self.gpa;
        const m = try gpa.create(Member);
        const bytes = self.scenario.arena_bytes + base_limits.chunk_bytes_min;
        const memory = try gpa.alignedAlloc(u8, .fromByteUnits(4096), bytes);
        m.* = .{
            .index = index,
            .clock = self.roll_clock(),
            .memory = memory,
            .pool = try make_pool(gpa, memory),
            .bump = undefined,
            .window = try .create_in_memory(gpa, self.scenario.nodes, memory),
        };
        return m;
    }

    fn make_pool(gpa: std.mem.Allocator, memory: []align(4096) u8) !pool_file.ChunkPool {
        return .init(gpa, .{
            .base = memory.ptr,
            .bytes = memory.len,
            .chunk_bytes = base_limits.chunk_bytes_min,
        });
    }

    pub fn deinit(self: *SendingTier) void {
        const gpa = self.gpa;
        for (self.members) |m| {
            self.drop(m);
            m.window.destroy_in_memory(gpa);
            m.pool.deinit(gpa);
            gpa.free(m.memory);
            gpa.destroy(m);
        }
        for (self.receivers) |node| node.deinit();
        gpa.free(self.members);
        gpa.free(self.receivers);
        gpa.free(self.image);
        self.tellings.deinit(gpa);
        self.net.deinit();
        gpa.destroy(self);
    }

    // ---------------------------------------------------------------- lives

    fn drop(self: *SendingTier, m: *Member) void {
        const sender = m.sender orelse return;
        m.positions.deinit(self.gpa);
        sender.deinit(self.gpa);
        self.gpa.destroy(sender);
        m.sender = null;
    }

    /// As the engine does: with its window, or, where everything is made again, without.
    fn start(self: *SendingTier, m: *Member) !void {
        const gpa = self.gpa;
        var acked_before: u64 = 0;
        m.pool.deinit(gpa);
        m.pool = try make_pool(gpa, m.memory);
        if (m.life > 0 and self.dice.coin()) {
            acked_before = m.window.acked();
            m.window.destroy_in_memory(gpa);
            m.window = try .create_in_memory(gpa, self.scenario.nodes, m.memory);
        } else if (m.life > 0) {
            const cursors = recovery.read_cursors(m.window.page, m.window.capacity).?;
            _ = recovery.recover(&m.window, cursors, &m.pool, true);
        }
        m.bump = pool_file.Bump.init(&m.pool).?;
        m.life += 1;
        m.repair = .init(ip_of(m.index), 20000 + m.life);
        m.epoch = epochs.none;
        m.news = null;
        m.paused_until_ns = 0;
        m.publish_ns = self.now_ns;
        const sender = try gpa.create(Sender);
        sender.* = try self.make_sender(m);
        sender.settle();
        m.sender = sender;
        m.positions = try .init(gpa, .{ .interval_ns = 5 * ms, .repeat_ns = 100 * ms }, m);
        role.told(sender, acked_before);
        if (self.epoch.number > 0) self.tell_role(m);
    }

    fn make_sender(self: *SendingTier, m: *Member) !Sender {
        const o = &self.scenario;
        const t = &o.transports[0];
        var configured: [scenario_file.receivers_max]peers_file.Configured = undefined;
        for (self.receivers, configured[0..self.receivers.len]) |node, *c| {
            c.* = .{ .id = node.id, .name = node.name() };
        }
        return .init(self.gpa, .{
            .cluster = o.cluster,
            .source = tier_id,
            .tier = true,
            .transport = t.id,
            .tx_arg = 7,
            .name = tier_name,
            .sizes = t.sizes,
            .is_multicast = t.is_multicast,
            .window_datagrams = o.window_datagrams,
            .max_cache_messages = o.cache_messages,
            .heartbeat_interval_ns = t.heartbeat_interval_ns,
            .ack_timeout_ns = t.ack_timeout_ns,
            .configured = configured[0..self.receivers.len],
            .group_key = t.group_key,
            .repair_address = m.repair,
            .connection = self.roll_connection(m),
            .seed = self.dice.bits(),
        }, &m.window, &m.pool, m.clock.local(self.now_ns));
    }

    /// Clocks differ: a later leader's may well be lower. No two are the same.
    fn roll_connection(self: *SendingTier, m: *const Member) u64 {
        return (self.dice.below(1 << 40) * 1000 + m.life) * members_max + m.index + 1;
    }

    // ---------------------------------------------------------------- who leads

    fn elect(self: *SendingTier) void {
        const index: u8 = @intCast(self.dice.below(self.members.len));
        const m = self.members[index];
        if (m.sender == null or self.now_ns < m.paused_until_ns) return;
        self.leader = index;
        self.epoch = .{ .number = self.epoch.number + 1, .id = self.dice.bits() };
        self.totals.leaders += 1;
        for (self.members) |other| if (other.sender != null) self.tell_role(other);
    }

    /// It hears of it soon, or late.
    fn tell_role(self: *SendingTier, m: *Member) void {
        const is_leader = self.leader == m.index;
        const late_ns = if (is_leader) 0 else self.dice.magnitude(1, 500 * ms);
        m.news = .{
            .at_ns = self.now_ns + late_ns,
            .is_leader = is_leader,
            .epoch = self.epoch,
        };
    }

    fn hear_role(self: *SendingTier, m: *Member, local_ns: u64) void {
        const news = m.news orelse return;
        if (self.now_ns < news.at_ns) return;
        m.news = null;
        m.epoch = news.epoch;
        role.set(m.sender.?, local_ns, news.is_leader, news.epoch, self.roll_connection(m));
        if (news.is_leader) m.positions.lead(local_ns);
    }

    fn mishap(self: *SendingTier) void {
        self.mishap_ns = self.now_ns + self.dice.magnitude(ms, s);
        const lasts_ns = self.dice.magnitude(ms, self.scenario.mishaps.lasts_ns);
        const leader = self.leader orelse return;
        const m = self.members[if (self.dice.coin()) leader else self.any_member()];
        switch (self.dice.below(3)) {
            0 => {
                self.totals.sender_kills += 1;
                self.drop(m);
                m.starts_ns = self.now_ns + lasts_ns;
                if (m.index == leader) self.depose();
            },
            1 => {
                self.totals.pauses += 1;
                m.paused_until_ns = self.now_ns + lasts_ns;
                if (m.index == leader and self.dice.coin()) self.depose();
            },
            else => self.depose(),
        }
    }

    fn any_member(self: *SendingTier) u8 {
        return @intCast(self.dice.below(self.members.len));
    }

    fn depose(self: *SendingTier) void {
        self.leader = null;
        self.elect_ns = self.now_ns + self.dice.magnitude(1, 300 * ms);
    }

    fn heal(self: *SendingTier) void {
        self.is_healed = true;
        self.net.faults.loss_ppm = @min(self.net.faults.loss_ppm, 2_000);
        for (self.members) |m| {
            m.paused_until_ns = @min(m.paused_until_ns, self.now_ns);
            m.starts_ns = @min(m.starts_ns, self.now_ns);
        }
    }

    // ---------------------------------------------------------------- the loop

    pub fn run(self: *SendingTier) void {
        while (self.verdict.violation == null) {
            self.now_ns += self.step_ns;
            self.totals.events += 1;
            if (!self.is_healed and self.now_ns >= self.scenario.safety_ns) self.heal();
            if (!self.is_healed and self.now_ns >= self.mishap_ns) self.mishap();
            if (self.leader == null and self.now_ns >= self.elect_ns) self.elect();
            self.arrivals();
            for (self.members) |m| self.step_member(m);
            for (self.receivers) |node| self.step_receiver(node);
            self.deliver_tellings();
            self.look_at_members();
            if (self.is_healed and self.is_over()) break;
            if (self.now_ns > self.scenario.safety_ns + patience_ns) self.tell_who_waits();
        }
        self.totals.virtual_ns = self.now_ns;
        self.totals.network = self.net.counters;
    }

    inline fn note(self: *SendingTier, what: u64) void {
        self.digest = dice_file.mix(self.digest, what);
    }

    fn arrivals(self: *SendingTier) void {
        while (self.net.next_ns() <= self.now_ns) {
            const packet = self.net.pop();
            self.totals.events += 1;
            self.note(packet.arrives_ns ^ @as(u64, packet.to) << 56);
            defer self.net.release(&packet);
            self.arrive(&packet);
            if (self.verdict.violation != null) return;
        }
    }

    fn arrive(self: *SendingTier, packet: *const Packet) void {
        const bytes = self.net.bytes_of(packet);
        self.net.counters.arrived += 1;
        if (packet.to < windows_max) {
            const m = self.members[packet.to];
            const sender = m.sender orelse return;
            // What waits in the kernel meanwhile comes again.
            if (self.now_ns < m.paused_until_ns or packet.to_port != m.repair.port) return;
            return sender.on_datagram(m.clock.local(self.now_ns), packet.from, bytes);
        }
        const node = self.receivers[packet.to - windows_max];
        if (packet.to_port >= 40000 and packet.to_port != node.control.port) return;
        const local_ns = node.clock.local(self.now_ns);
        node.receiver.on_buffer(local_ns, 1_700_000_000_000, packet.from, bytes);
        self.look_at_receiver(node);
    }

    fn step_member(self: *SendingTier, m: *Member) void {
        if (m.sender == null and self.now_ns >= m.starts_ns) {
            self.start(m) catch @panic("out of memory");
        }
        const sender = m.sender orelse return;
        if (self.now_ns < m.paused_until_ns) return;
        const local_ns = m.clock.local(self.now_ns);
        self.hear_role(m, local_ns);
        self.publish(m, local_ns);
        if (local_ns >= sender.next_deadline_ns(local_ns)) sender.tick(local_ns);
        if (sender.phase == .follower) sender.tick(local_ns);
        var runs: u32 = 0;
        while (runs < 16) : (runs += 1) {
            const run_ = sender.poll_send(local_ns, self.image) orelse break;
            assert(m.leads());
            self.send(m, run_);
        }
        self.tell_positions(m, local_ns);
        var out: [limits.notices_max]abi.Notice = undefined;
        _ = sender.notices.pop(&out);
    }

    fn publish(self: *SendingTier, m: *Member, local_ns: u64) void {
        if (self.now_ns < m.publish_ns) return;
        const every_ns = if (self.is_healed) 50 * us else self.scenario.publish_every_ns;
        m.publish_ns = self.now_ns + self.dice.below(2 * every_ns + 1);
        for (0..self.dice.between(1, 20)) |_| {
            const number = m.window.next_no;
            if (number >= self.total) return;
            if (m.window.ring_full() and !m.sender.?.make_room(local_ns)) return;
            if (m.window.ring_full()) return;
            const c = self.published.content(0, number);
            const bytes = header_bytes + @as(u64, c.length);
            const offset = m.bump.alloc(bytes, 8) orelse blk: {
                if (!m.sender.?.make_room(local_ns)) return;
                break :blk m.bump.alloc(bytes, 8) orelse return;
            };
            @memcpy(m.pool.slice(offset + header_bytes, c.length), c.bytes());
            const at8: u32 = @intCast((offset + header_bytes) / base_limits.payload_alignment);
            assert(m.window.publish(at8, c.length, c.arg, 0).? == number);
            self.published.now().written = @max(self.published.now().written, number + 1);
            self.totals.published += 1;
        }
    }

    fn tell_positions(self: *SendingTier, m: *Member, local_ns: u64) void {
        if (!m.leads()) return;
        var out: [1]TxPosition = undefined;
        if (m.positions.poll(local_ns, &out) == 0) return;
        for (self.members) |other| {
            if (other == m or self.dice.chance(100_000)) continue;
            self.tellings.append(self.gpa, .{
                .at_ns = self.now_ns + self.dice.magnitude(1, 20 * ms),
                .to = other.index,
                .epoch = m.epoch,
                .position = out[0],
            }) catch @panic("out of memory");
        }
    }

    fn deliver_tellings(self: *SendingTier) void {
        var i: usize = 0;
        while (i < self.tellings.items.len) {
            const t = self.tellings.items[i];
            if (self.now_ns < t.at_ns) {
                i += 1;
                continue;
            }
            _ = self.tellings.swapRemove(i);
            const m = self.members[t.to];
            if (m.sender == null or self.now_ns < m.paused_until_ns) continue;
            // Of the epoch that it follows, and no other.
            if (m.leads() or !epochs.eql(m.epoch, t.epoch)) continue;
            m.positions.take(&.{t.position});
        }
    }

    // ---------------------------------------------------------------- the network

    fn send(self: *SendingTier, m: *Member, run_: sender_file.Run) void {
        const delay_ns = self.net.roll_delay();
        const is_multicast = self.scenario.transports[0].is_multicast;
        var at: u32 = 0;
        while (at < run_.bytes) {
            const end = @min(run_.bytes, at + run_.segment_bytes);
            const bytes = self.image[at..end];
            at = end;
            for (self.receivers) |node| {
                const out: u16 = if (is_multicast) 0 else node.index + 1;
                var from: Address = .init(m.repair.ip, 30000 + m.life * 8 + out);
                var to_port: u16 = data_port;
                if (run_.to) |to| {
                    if (!to.eql(node.control)) continue;
                    from = m.repair;
                    to_port = to.port;
                }
                self.put(m.index, from, windows_max + node.index, to_port, delay_ns, bytes);
            }
        }
    }

    fn put(
        self: *SendingTier,
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

    fn step_receiver(self: *SendingTier, node: *ReceiverNode) void {
        const local_ns = node.clock.local(self.now_ns);
        node.receiver.tick(local_ns);
        var runs: u32 = 0;
        while (runs < 64) : (runs += 1) {
            const run_ = node.receiver.poll_send(local_ns, self.image) orelse break;
            const to = run_.to.?;
            const bytes = self.image[0..run_.bytes];
            const delay_ns = self.net.roll_delay();
            const source = windows_max + node.index;
            for (self.members) |m| {
                if (!to.eql(m.repair)) continue;
                self.put(source, node.control, m.index, to.port, delay_ns, bytes);
            }
        }
        self.look_at_receiver(node);
    }

    // ---------------------------------------------------------------- checks

    fn look_at_receiver(self: *SendingTier, node: *ReceiverNode) void {
        var out: [limits.notices_max]abi.Notice = undefined;
        for (out[0..node.receiver.notices.pop(&out)]) |*n| {
            if (n.kind != @backingInt(abi.NoticeKind.event)) continue;
            const code: abi.EventType = @fromBackingInt(n.code);
            if (code != .message_loss and code != .out_of_sync) continue;
            self.verdict.fail(.loss_without_cause, self.now_ns, "receiver {d}: {t} {d}..{d}; it " ++
                "was there all the time", .{ node.index, code, n.args[0], n.args[1] });
        }
        const stream = node.receiver.find(key) orelse return;
        const agreed = &self.agreed[node.index];
        if (epochs.less(stream.epoch, agreed.*)) {
            self.verdict.fail(.session, self.now_ns, "receiver {d} agreed with epoch {d} after " ++
                "epoch {d}", .{ node.index, stream.epoch.number, agreed.number });
        }
        agreed.* = stream.epoch;
        self.drain(node);
    }

    fn drain(self: *SendingTier, node: *ReceiverNode) void {
        var descriptors: [256]record.Descriptor = undefined;
        while (true) {
            const count = node.log.fill(&descriptors, descriptors.len);
            if (count == 0) return;
            for (descriptors[0..count]) |*d| self.delivered(node, d);
            node.log.processed(node.log.processed_next() + count);
            if (self.verdict.violation != null) return;
        }
    }

    fn delivered(self: *SendingTier, node: *ReceiverNode, d: *const record.Descriptor) void {
        const h = node.log.header_of(d);
        self.note(h.sqn ^ h.msg_no << 20);
        const expected = &self.expected[node.index];
        if (h.msg_no != expected.*) {
            const wrong: Check = if (h.msg_no < expected.*) .at_most_once else .order;
            return self.verdict.fail(wrong, self.now_ns, "receiver {d}: message {d} is " ++
                "delivered, {d} was to come", .{ node.index, h.msg_no, expected.* });
        }
        expected.* += 1;
        const c = self.published.content(0, h.msg_no);
        const same = std.mem.eql(u8, node.bytes_of(d), c.bytes()) and d.args & 0xffff == c.arg;
        if (!same or h.msg_no >= self.published.now().written) {
            self.verdict.fail(.integrity, self.now_ns, "receiver {d}: message {d} was never " ++
                "sent so", .{ node.index, h.msg_no });
        }
        self.totals.delivered += 1;
    }

    /// What counts as acknowledged anywhere, every receiver has.
    fn look_at_members(self: *SendingTier) void {
        var low: u64 = std.math.maxInt(u64);
        for (self.receivers) |node| {
            const stream = node.receiver.find(key);
            low = @min(low, if (stream) |x| x.next.msg else 0);
        }
        for (self.members) |m| {
            if (m.sender == null or m.window.acked() <= low) continue;
            self.verdict.fail(.freed_early, self.now_ns, "member {d} ({t}) counts all below {d} " ++
                "as acknowledged; a receiver is at {d}", .{
                m.index, m.sender.?.phase, m.window.acked(), low,
            });
        }
    }

    fn is_over(self: *SendingTier) bool {
        for (self.receivers) |node| {
            if (self.expected[node.index] != self.total) return false;
        }
        for (self.members) |m| {
            if (m.sender == null or m.window.acked() != self.total) return false;
        }
        return true;
    }

    fn tell_who_waits(self: *SendingTier) void {
        for (self.receivers) |node| {
            if (self.expected[node.index] == self.total) continue;
            const stream = node.receiver.find(key);
            return self.verdict.fail(.liveness, self.now_ns, "receiver {d} has {d} of {d}; " ++
                "epoch {d}, the tier's {d}, phase {t}", .{
                node.index,
                self.expected[node.index],
                self.total,
                if (stream) |x| x.epoch.number else 0,
                self.epoch.number,
                if (stream) |x| x.phase else .init,
            });
        }
        for (self.members) |m| {
            const sender = m.sender orelse continue;
            if (m.window.acked() == self.total) continue;
            return self.verdict.fail(.liveness, self.now_ns, "member {d} ({t}): written {d}, " ++
                "acknowledged {d}, told {d} of {d}", .{
                m.index,          sender.phase,      m.window.written(),
                m.window.acked(), sender.told_acked, self.total,
            });
        }
    }
};

fn ip_of(index: u8) u32 {
    return std.mem.nativeToBig(u32, 0x0a03_0001 + @as(u32, index));
}
