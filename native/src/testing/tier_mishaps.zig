//! What goes wrong in a simulated tier, and what ends it. Disks are lost only as far as the commits
//! in force allow, unless the scenario says otherwise: within that bound the tier must go on.

const std = @import("std");
const cluster_file = @import("tier_cluster.zig");
const scenario_file = @import("tier_scenario.zig");
const tree = @import("../tier/tree.zig");
const epochs = @import("../tier/epoch.zig");
const Cluster = cluster_file.Cluster;
const Mishap = scenario_file.Mishap;
const Node = cluster_file.Node;

const ms = std.time.ns_per_ms;
const s = std.time.ns_per_s;

/// The time of another mishap.
pub fn strike(c: *Cluster) void {
    if (c.phase != .safety) return;
    const x = &c.scenario;
    c.schedule(.mishap, c.now_ns + 1 + c.dice.below(2 * x.mishap_every_ns), 0, 0, 0);
    var sum: u64 = 0;
    for (x.weights) |w| sum += w;
    if (sum == 0) return;
    var roll = c.dice.below(sum);
    for (x.weights, 0..) |w, i| {
        if (roll < w) return happen(c, @fromBackingInt(@intCast(i)));
        roll -= w;
    }
}

fn lasts_ns(c: *Cluster) u64 {
    return 10 * ms + c.dice.below(c.scenario.mishap_lasts_ns);
}

/// Somebody; the leader more often than others.
fn victim(c: *Cluster) *Node {
    const x = &c.scenario;
    if (c.dice.coin()) if (leader(c)) |node| return node;
    return &c.nodes[@intCast(c.dice.below(x.members + x.observers))];
}

fn leader(c: *Cluster) ?*Node {
    const running = c.arbiter.running;
    if (running >= c.scenario.members) return null;
    return &c.nodes[running];
}

fn happen(c: *Cluster, mishap: Mishap) void {
    const node = victim(c);
    const back_ns = c.now_ns + lasts_ns(c);
    c.counts.mishaps[@backingInt(mishap)] += 1;
    if (c.scenario.kind == .stale) c.replay(node, true);
    c.note(node.index, @tagName(mishap), .{ (back_ns - c.now_ns) / ms, 0, 0, 0 });
    switch (mishap) {
        .kill, .crash, .wipe, .clean_stop => lose(c, node, mishap, back_ns),
        .kill_inside => if (node.alive and may_lose(c, node, .kill)) {
            node.host.calls_left = @intCast(c.dice.below(40));
            // `is_over` does not know of it: a later start is in order in any case.
            c.schedule(.heal, back_ns, 0, @backingInt(mishap), node.index);
        },
        .power => for (c.nodes[0..c.scenario.members]) |*n| {
            if (c.dice.coin()) lose(c, n, .crash, c.now_ns + lasts_ns(c));
        },
        .disk_full => if (may_lose(c, node, .wipe)) {
            node.host.disk_full = true;
        },
        .pause => pause(c, node, back_ns, false),
        .hang => pause(c, node, back_ns, true),
        .split => split(c, c.dice.bits(), back_ns),
        .one_way => one_way(c, back_ns),
        .split_leader => split_leader(c, back_ns),
        .arbiter_cut => cut_arbiter(c, node, back_ns),
        .arbiter_outage => {
            c.arbiter.is_out = true;
            c.schedule(.heal, back_ns, 0, @backingInt(mishap), 0);
        },
        .usurp => usurp(c, back_ns),
        .early_expiry => {
            const session = c.arbiter.clients[node.index].session;
            if (c.arbiter.lives(session)) c.arbiter.end_session(c, session);
        },
        .tree_wipe => c.arbiter.wipe(c),
        .sender_restart, .sender_wipe, .sender_cut => trouble_sender(c, mishap, back_ns),
        .double => double(c, back_ns),
        .slow => node.stalled_until_ns = back_ns,
        .no_memory => {
            node.host.memory_full = true;
            c.schedule(.heal, back_ns, 0, @backingInt(mishap), node.index);
        },
    }
}

/// What it takes for the next start to be blank.
fn loses(c: *const Cluster, mishap: Mishap) bool {
    return switch (mishap) {
        .wipe => true,
        .crash => c.scenario.record != .commit,
        else => c.scenario.record == .none,
    };
}

fn may_lose(c: *Cluster, node: *const Node, mishap: Mishap) bool {
    if (node.is_observer() or !c.scenario.within_bound) return true;
    if (!loses(c, mishap) and mishap != .clean_stop) {
        if (c.scenario.record != .none and !node.host.disk_full) return true;
    }
    var all: u8 = 0;
    for (0..c.scenario.members) |m| {
        if (m != node.member) all |= @as(u8, 1) << @intCast(m);
    }
    return holds_all(c, all);
}

fn lose(c: *Cluster, node: *Node, mishap: Mishap, back_ns: u64) void {
    if (!may_lose(c, node, mishap)) return;
    if (!node.alive) {
        // A machine that is down may still lose its disk.
        if (mishap == .wipe and node.life > 0) node.host.die(.wipe);
        return;
    }
    c.end(node, switch (mishap) {
        .crash => .crash,
        .wipe => .wipe,
        .clean_stop => .clean,
        else => .kill,
    }, mishap == .clean_stop);
    c.start_at(node, back_ns);
}

/// Whether members of these nodes hold all that was ever committed, as their own records say.
fn holds_all(c: *const Cluster, nodes: u8) bool {
    if (epochs.is_none(c.arbiter.established_epoch)) return true;
    var intact: tree.Set = 0;
    for (c.nodes[0..c.scenario.members]) |*node| {
        if (nodes >> @intCast(node.index) & 1 == 0) continue;
        if (node.host.disk.durable.is_intact) intact |= tree.set_of(node.member);
    }
    if (!holds_pair(intact, c.arbiter.established_leader, c.arbiter.quorum)) return false;
    for (&c.arbiter.clients) |*client| {
        const command = client.command orelse continue;
        if (command.kind != .establish) continue;
        if (!holds_pair(intact, command.leader, command.quorum)) return false;
    }
    return true;
}

fn holds_pair(intact: tree.Set, chief: u32, q: tree.Quorum) bool {
    if (tree.has(intact, chief)) return true;
    return tree.count(intact & q.set) >= tree.count(q.set) -| q.need;
}

/// Whether a tier of these nodes alone must get on.
pub fn can_go_on(c: *const Cluster, nodes: u8) bool {
    const x = &c.scenario;
    var members: i32 = 0;
    for (0..x.members) |m| members += nodes >> @intCast(m) & 1;
    if (members == 0) return false;
    if (x.ack_count >= 2 and members - 1 < x.ack_count) return false;
    if (x.policy != .safe) return true;
    if (epochs.is_none(c.arbiter.established_epoch)) return knows_enough(c, nodes);
    return holds_all(c, nodes);
}

/// Nothing is established: either nothing ever was, or the tree was wiped and somebody's log is
/// left. Who has nothing and knows that there was something waits for those who have more.
fn knows_enough(c: *const Cluster, nodes: u8) bool {
    var is_new = true;
    for (c.nodes[0..c.scenario.members]) |*node| {
        if (nodes >> @intCast(node.index) & 1 == 0) continue;
        const h = &node.host;
        if (h.disk.durable.is_intact or h.next() > 0) return true;
        if (!epochs.is_none(h.disk.durable.adopted)) is_new = false;
    }
    return is_new;
}

fn pause(c: *Cluster, node: *Node, back_ns: u64, only_engine: bool) void {
    if (!node.alive) return;
    if (only_engine) {
        node.hung_until_ns = back_ns;
        const third_ns = c.scenario.session_timeout_ns / 3;
        c.schedule(.watchdog, c.now_ns + third_ns, node.index, node.life, 0);
    } else node.stopped_until_ns = back_ns;
    c.schedule(.resume_node, back_ns, node.index, 0, 0);
}

fn split(c: *Cluster, sides: u64, back_ns: u64) void {
    for (0..c.node_count) |a| for (0..c.node_count) |b| {
        if ((sides >> @intCast(a) ^ sides >> @intCast(b)) & 1 == 0) continue;
        c.net.set_cut(@intCast(a), @intCast(b), true);
    };
    c.schedule(.heal, back_ns, 0, @backingInt(Mishap.split), 0);
}

fn one_way(c: *Cluster, back_ns: u64) void {
    for (0..1 + c.dice.below(4)) |_| {
        const from: u8 = @intCast(c.dice.below(c.node_count));
        const to: u8 = @intCast(c.dice.below(c.node_count));
        if (from != to) c.net.set_cut(from, to, true);
    }
    c.schedule(.heal, back_ns, 0, @backingInt(Mishap.split), 0);
}

fn split_leader(c: *Cluster, back_ns: u64) void {
    const node = leader(c) orelse return;
    var side = @as(u64, 1) << @intCast(node.index);
    if (c.scenario.kind == .figure_eight and c.dice.coin()) return thin_out(c, node, back_ns);
    const friends = c.dice.below(c.scenario.members / 2 + 1);
    for (0..friends) |_| side |= @as(u64, 1) << @intCast(c.dice.below(c.scenario.members));
    split(c, side, back_ns);
    switch (c.dice.below(3)) {
        // The arbiter is on the other side, or it stays, or the session ends at once.
        0 => cut_arbiter(c, node, back_ns),
        1 => {
            const session = c.arbiter.clients[node.index].session;
            if (c.arbiter.lives(session)) c.arbiter.end_session(c, session);
        },
        else => {},
    }
}

/// The service gives the leader up while the leader believes in its session, and some members
/// hear it alone: whoever is fenced by epochs and not by time.
fn usurp(c: *Cluster, back_ns: u64) void {
    const node = leader(c) orelse return;
    const session = c.arbiter.clients[node.index].session;
    cut_arbiter(c, node, back_ns);
    if (c.arbiter.lives(session)) c.arbiter.end_session(c, session);
    if (c.dice.below(3) > 0) {
        const other = &c.nodes[@intCast(c.dice.below(c.scenario.members))];
        if (other != node) lose(c, other, if (c.dice.coin()) .wipe else .kill, c.now_ns + 50 * ms);
    }
    const later_ns = c.now_ns + c.dice.between(50, 700) * ms;
    c.schedule(.heal, later_ns, 0, @backingInt(Mishap.usurp), node.index);
    // It does not hear who comes next either.
    if (c.dice.coin()) return split(c, @as(u64, 1) << @intCast(node.index), back_ns);
    // One of the others hears nobody but the old leader, and not of the tree either.
    const late = &c.nodes[@intCast(c.dice.below(c.scenario.members))];
    if (late == node or c.dice.below(3) == 0) return;
    cut_arbiter(c, late, back_ns);
    for (0..c.scenario.members) |m| {
        if (m == late.index or m == node.index) continue;
        c.net.set_cut(late.index, @intCast(m), true);
        c.net.set_cut(@intCast(m), late.index, true);
    }
    c.schedule(.heal, back_ns, 0, @backingInt(Mishap.split), 0);
}

/// A new leader is established, and the old one does not know. A member that promised the new one
/// loses its disk, and hears only the old one when it is back.
fn forget(c: *Cluster, old: *const Node) void {
    if (!old.alive or old.core.?.phase != .leading) return;
    if (c.arbiter.established_leader == old.member) return;
    const node = &c.nodes[@intCast(c.dice.below(c.scenario.members))];
    if (node == old or !node.alive or !may_lose(c, node, .wipe)) return;
    for (0..c.node_count) |n| {
        if (n == node.index or n == old.index) continue;
        c.net.set_cut(node.index, @intCast(n), true);
        c.net.set_cut(@intCast(n), node.index, true);
    }
    c.net.set_cut(node.index, old.index, false);
    c.net.set_cut(old.index, node.index, false);
    c.arbiter.clients[node.index].cut = false;
    c.end(node, .wipe, true);
    c.start_at(node, c.now_ns + 20 * ms);
    c.schedule(.heal, c.now_ns + 4 * s, 0, @backingInt(Mishap.split), 0);
}

/// A candidate has just begun to fetch a log: now and then it can't.
pub fn cut_source(c: *Cluster, node: *const Node) void {
    if (c.phase != .safety or c.scenario.weights[@backingInt(Mishap.usurp)] == 0) return;
    if (c.dice.below(3) == 0) return;
    const source: u8 = @intCast(node.core.?.source);
    c.net.set_cut(node.index, source, true);
    c.net.set_cut(source, node.index, true);
    c.schedule(.heal, c.now_ns + 20 * s, 0, @backingInt(Mishap.split), 0);
}

/// Two of five fall behind; then the leader is cut off with one that did not, so that of the three
/// that are left one alone has what was committed last.
fn thin_out(c: *Cluster, node: *const Node, back_ns: u64) void {
    const n: u8 = c.scenario.members;
    const turn: u8 = @intCast(1 + c.dice.below(n - 1));
    var mates: [4]u8 = undefined;
    for (0..4) |i| {
        const step: u8 = @intCast((turn - 1 + i) % (n - 1));
        mates[i] = (node.index + 1 + step) % n;
    }
    for (mates[0..2]) |slow| c.net.set_cut(node.index, slow, true);
    const side = @as(u64, 1) << @intCast(node.index) | @as(u64, 1) << @intCast(mates[2]);
    const later_ns = c.now_ns + c.dice.between(100, 900) * ms;
    c.schedule(.heal, later_ns, 0, @backingInt(Mishap.split_leader), side);
    c.schedule(.heal, @max(back_ns, later_ns + s), 0, @backingInt(Mishap.split), 0);
}

fn cut_off(c: *Cluster, side: u64) void {
    for (0..c.node_count) |a| for (0..c.node_count) |b| {
        if ((side >> @intCast(a) ^ side >> @intCast(b)) & 1 == 0) continue;
        c.net.set_cut(@intCast(a), @intCast(b), true);
    };
    const node = leader(c) orelse return;
    if (side >> @intCast(node.index) & 1 == 0) return;
    const session = c.arbiter.clients[node.index].session;
    if (c.arbiter.lives(session)) c.arbiter.end_session(c, session);
}

fn cut_arbiter(c: *Cluster, node: *Node, back_ns: u64) void {
    c.arbiter.clients[node.index].cut = true;
    c.schedule(.heal, back_ns, 0, @backingInt(Mishap.arbiter_cut), node.index);
}

fn trouble_sender(c: *Cluster, mishap: Mishap, back_ns: u64) void {
    const sender = &c.senders[@intCast(c.dice.below(c.scenario.senders))];
    if (mishap == .sender_cut) {
        sender.cut |= @truncate(c.dice.bits());
        return c.schedule(.heal, back_ns, 0, @backingInt(mishap), sender.index);
    }
    if (!sender.alive) return;
    if (mishap == .sender_wipe) sender.wipe(c);
    sender.stop(c, c.now_ns + c.dice.below(2 * s));
}

/// The second start of a member has its place in the tree, because the first one's session is over:
/// the operator has replaced it. An old disk that came back then would be one that lost something
/// without knowing it: nobody may start it.
pub fn replaced(c: *Cluster, node: *Node) void {
    const second = c.scenario.members + c.scenario.observers;
    if (node.index != second) return;
    const first = &c.nodes[node.member];
    if (!may_lose(c, first, .wipe)) {
        node.is_refused = true;
        return c.wake(node, c.now_ns);
    }
    c.end(first, .wipe, false);
    first.host.die(.wipe);
    if (first.starts_ns == std.math.maxInt(u64)) c.start_at(first, c.now_ns + 20 * s);
}

/// The same member is started on another machine, with nothing on its disk.
fn double(c: *Cluster, back_ns: u64) void {
    const node = &c.nodes[c.scenario.members + c.scenario.observers];
    if (node.alive) return;
    node.member = @intCast(c.dice.below(c.scenario.members));
    node.id = @intCast(node.member + 1);
    node.host.member = node.member;
    node.host.die(.wipe);
    c.start_at(node, c.now_ns);
    c.schedule(.heal, back_ns, 0, @backingInt(Mishap.double), 0);
}

/// A mishap is over.
pub fn heal(c: *Cluster, mishap: Mishap, what: u64) void {
    switch (mishap) {
        .split => {
            c.net.links = @splat(@splat(.{}));
            // Those who come back have logs of their own; who led meanwhile may be gone just now.
            if (c.scenario.kind == .figure_eight and c.phase == .safety and c.dice.coin()) {
                if (leader(c)) |node| lose(c, node, .kill, c.now_ns + 10 * s);
            }
        },
        .arbiter_cut => c.arbiter.clients[@intCast(what)].cut = false,
        .arbiter_outage => c.arbiter.is_out = false,
        .sender_cut => c.senders[@intCast(what)].cut = 0,
        .no_memory => {
            c.nodes[@intCast(what)].host.memory_full = false;
            c.wake(&c.nodes[@intCast(what)], c.now_ns);
        },
        .double => {
            const node = &c.nodes[c.scenario.members + c.scenario.observers];
            c.end(node, .wipe, c.dice.coin());
        },
        .split_leader => if (c.phase == .safety) cut_off(c, what),
        .usurp => if (c.phase == .safety) forget(c, &c.nodes[@intCast(what)]),
        .kill_inside => {
            const node = &c.nodes[@intCast(what)];
            node.host.calls_left = null;
            if (!node.alive and node.starts_ns == std.math.maxInt(u64)) c.start_at(node, c.now_ns);
        },
        else => {},
    }
}

/// The faults end; those who are ill start again.
pub fn heal_all(c: *Cluster) void {
    c.net.links = @splat(@splat(.{}));
    c.net.faults = .{
        .delay_ns = c.scenario.faults.delay_ns,
        .jitter_ns = c.scenario.faults.jitter_ns,
        .spread_ns = c.scenario.faults.spread_ns,
        .loss_ppm = c.scenario.residual_loss_ppm,
    };
    if (c.scenario.kind == .calm) c.net.faults.loss_ppm = c.scenario.faults.loss_ppm;
    c.arbiter.is_out = false;
    for (&c.arbiter.clients) |*client| client.cut = false;
    for (c.senders[0..c.scenario.senders]) |*sender| {
        sender.cut = 0;
        if (!sender.alive) c.schedule(.sender_start, c.now_ns + s, sender.index, 0, 0);
    }
    heal(c, .double, 0);
    for (c.nodes[0..c.node_count]) |*node| {
        node.host.memory_full = false;
        node.host.calls_left = null;
        if (node.host.disk_full) c.end(node, .kill, false);
        c.wake(node, c.now_ns);
    }
}
