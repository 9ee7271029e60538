//! Simulated senders of a tier: they publish, deliver to each member what it has not (late, and
//! with different gaps at each), keep everything until a member of the tier acknowledged it as
//! committed, and start again with their window or without.

const std = @import("std");
const cluster_file = @import("tier_cluster.zig");
const model_file = @import("tier_model.zig");
const scenario_file = @import("tier_scenario.zig");
const Cluster = cluster_file.Cluster;
const Node = cluster_file.Node;

const ms = std.time.ns_per_ms;
const s = std.time.ns_per_s;
const beat_ns = s / 2;

pub const Sender = struct {
    index: u8,
    alive: bool = true,
    connection: u64 = 1,
    /// Numbers of this window: [first, written) can still be sent.
    first: u64 = 0,
    acked: u64 = 0,
    written: u64 = 0,
    published: u64 = 0,
    /// Members that it does not reach.
    cut: u8 = 0,
    /// A wiped window that asks where to go on.
    waits: bool = false,
    /// Everything is published.
    done: bool = false,

    pub fn init(c: *Cluster, index: u8) Sender {
        c.model.senders[index].windows.append(c.gpa, .{ .first = 0, .written = 0 }) catch
            @panic("out of memory");
        c.schedule(.publish, c.dice.below(s), index, 0, 0);
        c.schedule(.beat, beat_ns, index, 0, 0);
        return .{ .index = index };
    }

    fn window(self: *const Sender, c: *Cluster) *@TypeOf(c.model.senders[0].windows.items[0]) {
        const windows = c.model.senders[self.index].windows.items;
        return &windows[windows.len - 1];
    }

    pub fn publish(self: *Sender, c: *Cluster) void {
        const x = &c.scenario;
        const ends = c.phase == .liveness and c.now_ns > c.liveness_from_ns + 20 * s;
        if (self.published >= x.publish_total or ends) {
            self.done = true;
            return;
        }
        const next_ns = c.now_ns + c.dice.below(2 * x.publish_every_ns) + 1;
        c.schedule(.publish, next_ns, self.index, 0, 0);
        if (!self.alive or self.waits) return;
        const room = x.window_messages - @min(self.written - self.acked, x.window_messages);
        const n = @min(room, c.dice.between(1, x.publish_burst));
        if (n == 0) return;
        self.written += n;
        self.published += n;
        c.counts.published += n;
        self.window(c).written = self.written;
        for (c.nodes[0..c.node_count]) |*node| self.look(c, node);
    }

    /// Heartbeats and what they answer: positions are told again.
    pub fn beat(self: *Sender, c: *Cluster) void {
        c.schedule(.beat, c.now_ns + beat_ns, self.index, 0, 0);
        if (!self.alive or self.waits) return;
        for (c.nodes[0..c.node_count]) |*node| {
            if (!node.alive or node.stands_still(c.now_ns)) continue;
            self.look(c, node);
            if (!node.is_observer()) self.hear(c, node);
        }
    }

    /// Something for this node?
    pub fn look(self: *Sender, c: *Cluster, node: *Node) void {
        if (!node.alive or !self.alive or self.waits) return;
        if (node.delivery_pending[self.index]) return;
        const stage = &node.host.stages[self.index];
        const is_new = stage.connection < self.connection or stage.first != self.first;
        if (stage.end >= self.written and !is_new) return;
        node.delivery_pending[self.index] = true;
        const x = &c.scenario;
        var delay_ns = c.dice.below(2 * x.data_delay_ns) + 1;
        const stalls = if (c.phase == .safety) x.data_stall_ppm else x.data_stall_ppm / 10;
        if (c.dice.chance(stalls)) delay_ns += c.dice.below(x.data_stall_ns + 1);
        c.schedule(.deliver, c.now_ns + delay_ns, node.index, 0, self.index);
    }

    pub fn deliver(self: *Sender, c: *Cluster, node: *Node) void {
        node.delivery_pending[self.index] = false;
        if (!node.alive or !self.alive or self.waits) return;
        if (node.stands_still(c.now_ns) or self.cut >> @intCast(node.index) & 1 == 1) {
            node.delivery_pending[self.index] = true;
            const at_ns = @max(c.now_ns + 50 * ms, node.runs_again_ns());
            return c.schedule(.deliver, at_ns, node.index, 0, self.index);
        }
        const from = node.host.stages[self.index].end;
        const most = from + c.dice.magnitude(1, 128);
        const before = node.host.stages[self.index];
        node.host.receive(self.index, .{
            .connection = self.connection,
            .first = self.first,
            .to = @min(most, self.written),
        });
        if (!std.meta.eql(before, node.host.stages[self.index])) c.wake(node, c.now_ns);
        // What can't be sent any more comes from other members, if at all.
        if (node.host.stages[self.index].end >= self.first) self.look(c, node);
    }

    /// A member says what is committed there.
    pub fn hear(self: *Sender, c: *Cluster, node: *Node) void {
        const stage = &node.host.stages[self.index];
        if (stage.connection != self.connection or stage.committed <= self.acked) return;
        if (self.cut >> @intCast(node.index) & 1 == 1) return;
        const x = &c.scenario;
        var delay_ns = c.dice.below(2 * x.data_delay_ns) + 1;
        if (c.dice.chance(x.data_stall_ppm)) delay_ns += c.dice.below(x.data_stall_ns + 1);
        c.schedule(.ack, c.now_ns + delay_ns, self.index, self.connection, stage.committed);
    }

    pub fn acknowledged(self: *Sender, c: *Cluster, connection: u64, position: u64) void {
        if (!self.alive or connection != self.connection) return;
        self.acked = @max(self.acked, @min(position, self.written));
        const kept = @min(self.acked, c.scenario.cache_messages);
        self.first = @max(self.first, self.acked - kept);
        if (!c.model.relaxed and c.model.senders[self.index].next < self.acked) {
            c.model.fail(.false_ack, "sender {d} was told {d}, committed are {d}", .{
                self.index + 1, self.acked, c.model.senders[self.index].next,
            });
        }
        for (c.nodes[0..c.node_count]) |*node| self.look(c, node);
    }

    pub fn stop(self: *Sender, c: *Cluster, back_ns: u64) void {
        self.alive = false;
        c.schedule(.sender_start, back_ns, self.index, 0, 0);
    }

    /// The window is lost: what was in it and not committed is lost with it.
    pub fn wipe(self: *Sender, c: *Cluster) void {
        c.model.senders[self.index].windows.append(c.gpa, .{ .first = 0, .written = 0 }) catch
            @panic("out of memory");
        const count = c.model.senders[self.index].windows.items.len;
        self.connection = (count - 1) * model_file.connections_of_window;
        self.first = 0;
        self.acked = 0;
        self.written = 0;
        self.waits = c.scenario.handshake;
    }

    pub fn start(self: *Sender, c: *Cluster) void {
        if (!self.alive) {
            self.alive = true;
            self.connection += 1;
        }
        if (self.waits) self.agree(c);
        if (self.waits) return c.schedule(.sender_start, c.now_ns + 200 * ms, self.index, 0, 0);
        for (c.nodes[0..c.node_count]) |*node| self.look(c, node);
    }

    /// The first number is what the leader says.
    fn agree(self: *Sender, c: *Cluster) void {
        for (c.nodes[0..c.node_count]) |*node| {
            if (!node.alive or node.stands_still(c.now_ns)) continue;
            if (node.role != .active and node.role != .single) continue;
            if (self.cut >> @intCast(node.index) & 1 == 1) continue;
            const n = node.host.stages[self.index].begin;
            self.first = n;
            self.acked = n;
            self.written = n;
            self.waits = false;
            self.window(c).* = .{ .first = n, .written = n };
            return;
        }
    }

    pub fn is_finished(self: *const Sender) bool {
        return self.alive and !self.waits and self.acked == self.written and self.done;
    }
};
