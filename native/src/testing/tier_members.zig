//! A tier as senders see it: some receivers of a simulated run are its members. They run the
//! ordinary receiver; what they acknowledge is a common *committed* position, which a leader among
//! them moves, and of which each hears late, or never while it is dead. What the members say to
//! each other is not looked at here.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const scenario_file = @import("scenario.zig");
const cluster_file = @import("cluster.zig");
const nodes = @import("sender_node.zig");
const watch = @import("watch.zig");
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;
const Cluster = cluster_file.Cluster;
const Timer = cluster_file.Timer;
const Window = nodes.Window;

const receivers_max = scenario_file.receivers_max;
const windows_max = scenario_file.windows_max;

pub const name = "tier";
/// A member that the configuration names and that never starts.
pub const absent_id: u16 = 600;

pub const Members = struct {
    leader: ?u8 = null,
    /// By window: one past the last committed number.
    committed: [windows_max]u64 = @splat(0),
    /// What each member has heard of it in this life.
    known: [receivers_max][windows_max]u64 = @splat(@splat(0)),
    /// The highest that any member ever acknowledged, in this epoch of the window.
    told: [windows_max]u64 = @splat(0),
    told_epoch: [windows_max]u32 = @splat(std.math.maxInt(u32)),
    /// What the sender took for it last, in its life.
    taken: [windows_max]u64 = @splat(0),
};

/// The leader commits what it has, and the others hear of it.
pub fn step(c: *Cluster) void {
    const t = &c.scenario.tier;
    const m = &c.members;
    c.timers[Timer.tier] = c.now_ns + 1 + c.dice.below(2 * t.step_ns);
    if (m.leader) |index| if (!is_able(c, index)) {
        m.leader = null;
    };
    if (m.leader == null) {
        // Elections take their time.
        const index: u8 = @intCast(c.dice.below(c.receivers.len));
        if (!t.is_member(index) or !is_able(c, index)) return;
        m.leader = index;
        c.totals.leaders += 1;
    }
    const leader = c.receivers[m.leader.?];
    for (c.windows[0..c.window_count]) |w| {
        const stream = leader.receiver.find(watch.key_of(c, w)) orelse continue;
        if (!stream.has_position) continue;
        const at = &m.committed[w.index];
        at.* = @max(at.*, stream.next.msg);
    }
    for (c.receivers) |node| {
        if (!t.is_member(node.index) or !node.alive) continue;
        const hears = node.index == m.leader.? or c.dice.chance(t.hears_ppm);
        if (hears) m.known[node.index] = m.committed;
    }
}

fn is_able(c: *const Cluster, index: u8) bool {
    const node = c.receivers[index];
    return node.alive and c.now_ns >= node.paused_until_ns;
}

pub fn life_begins(c: *Cluster, node: *const ReceiverNode) void {
    c.members.known[node.index] = @splat(0);
}

/// Before a receiver says anything: what it may acknowledge.
pub fn limit_acks(c: *Cluster, node: *ReceiverNode) void {
    if (!c.scenario.tier.is_member(node.index)) return;
    for (c.windows[0..c.window_count]) |w| {
        const stream = node.receiver.find(watch.key_of(c, w)) orelse continue;
        stream.committed = c.members.known[node.index][w.index];
    }
}

/// A true acknowledgement of a member is on its way.
pub fn told(c: *Cluster, node: *const ReceiverNode, w: *const Window, h: *const frame.Header) void {
    if (!c.scenario.tier.is_member(node.index) or h.connection() != w.connection) return;
    const at = &c.members.told[w.index];
    at.* = @max(at.*, h.number);
}

pub fn window_starts(c: *Cluster, w: *const Window) void {
    const m = &c.members;
    const at = &m.told[w.index];
    m.taken[w.index] = 0;
    if (m.told_epoch[w.index] != w.published.epoch) at.* = w.window.acked();
    m.told_epoch[w.index] = w.published.epoch;
    // The last life may have died when a handshake had just given it its first number.
    at.* = @max(at.*, w.published.epochs[w.published.epoch].first);
}

/// The handshake has given the window its first number.
pub fn first_known(c: *Cluster, w: *const Window, first: u64) void {
    c.members.told[w.index] = first;
}

/// After a step of a sender: the tier holds its window, whoever of it is there.
pub fn look(c: *Cluster, w: *const Window) void {
    const m = &c.members;
    const tiers = w.sender.?.peers.tiers;
    if (tiers.len == 0 or w.first_open) return;
    const at = m.told[w.index];
    if (w.window.acked() > at or w.window.reclaimed() > at) {
        c.verdict.fail(.tier, c.now_ns, "window {d}: acknowledged below {d}, freed below {d}; " ++
            "the tier's members said {d}", .{
            w.index, w.window.acked(), w.window.reclaimed(), at,
        });
    }
    const taken = tiers[0].acked;
    if (taken > at or taken < m.taken[w.index]) {
        c.verdict.fail(.tier, c.now_ns, "window {d}: the tier is taken to be at {d}; its " ++
            "members said {d}, and it was taken to be at {d}", .{
            w.index, taken, at, m.taken[w.index],
        });
    }
    m.taken[w.index] = taken;
}

/// A member without a position begins where the tier is, never above.
pub fn look_at_begin(c: *Cluster, w: *const Window, node: *const ReceiverNode, at: u64) void {
    if (at <= c.members.told[w.index]) return;
    c.verdict.fail(.join_at, c.now_ns, "window {d} lets member {d} begin at {d}; the tier said " ++
        "{d}", .{ w.index, node.index, at, c.members.told[w.index] });
}
