//! The second phase of a simulated tier: faults end, a core of members stays, and everything that
//! senders keep must be delivered everywhere, judged by a watchdog on progress.

const std = @import("std");
const cluster_file = @import("tier_cluster.zig");
const mishaps = @import("tier_mishaps.zig");
const tree = @import("../tier/tree.zig");
const results = @import("tier_results.zig");
const Cluster = cluster_file.Cluster;
const Node = cluster_file.Node;

const s = std.time.ns_per_s;
const never = std.math.maxInt(u64);
/// Without any progress for so long in virtual time, the tier stands still for good.
const watchdog_ns = 300 * s;

pub fn begin_liveness(c: *Cluster) void {
    c.phase = .liveness;
    c.liveness_from_ns = c.now_ns;
    mishaps.heal_all(c);
    choose_core(c);
    c.progress_ns = c.now_ns;
    c.liveness_events = c.counts.events;
}

/// Some stay away, as far as the tier can do without them.
fn choose_core(c: *Cluster) void {
    const x = &c.scenario;
    const regular = x.members + x.observers;
    c.core_nodes = @as(u8, 1) << @intCast(regular);
    c.core_nodes -= 1;
    if (c.dice.chance(x.core_ppm)) for (0..x.members) |_| {
        const away: u8 = @intCast(c.dice.below(x.members));
        const without = c.core_nodes & ~(@as(u8, 1) << @intCast(away));
        if (mishaps.can_go_on(c, without)) c.core_nodes = without;
        if (c.dice.coin()) break;
    };
    for (c.nodes[0..c.node_count]) |*node| {
        const stays = c.core_nodes >> @intCast(node.index) & 1 == 1;
        if (!stays) {
            if (node.alive) c.end(node, .kill, c.dice.coin());
            node.starts_ns = never;
        } else if (!node.alive) {
            c.start_at(node, c.now_ns + c.dice.below(2 * s));
        }
    }
}

fn in_core(c: *const Cluster, node: *const Node) bool {
    return c.core_nodes >> @intCast(node.index) & 1 == 1;
}

pub fn look_at_progress(c: *Cluster) void {
    var sum: u64 = c.model.truth.items.len;
    for (c.senders[0..c.scenario.senders]) |*x| sum +%= x.acked + x.written;
    for (c.nodes[0..c.node_count]) |*node| if (node.alive) {
        sum +%= node.host.handed_count;
        if (node.host.results) |*r| sum +%= r.next_no + r.logic.scanned;
    };
    if (sum != c.progress) {
        c.progress = sum;
        c.progress_ns = c.now_ns;
    }
    if (c.arbiter.obeyed != tree.nobody) kill_forced(c);
    if (is_finished(c)) {
        c.phase = .done;
        return;
    }
    const still_ns = c.now_ns - c.progress_ns;
    if (still_ns < watchdog_ns + 4 * c.scenario.start_timeout_ns) return;
    const may_force = !c.was_forced and !mishaps.can_go_on(c, c.core_nodes);
    if (may_force and force(c)) return;
    c.model.fail(.liveness, "no progress for {d} s: committed {d}, running {d}", .{
        still_ns / s, c.model.truth.items.len, c.arbiter.running,
    });
}

/// More members are lost than commits allow: the tier waits, as it must, until the operator
/// takes the loss and names a leader. False: somebody leads.
fn force(c: *Cluster) bool {
    var chosen: u32 = @intCast(c.dice.below(c.scenario.members));
    while (c.core_nodes >> @intCast(chosen) & 1 == 0) chosen = (chosen + 1) % c.scenario.members;
    if (!c.arbiter.force(c, chosen)) return false;
    c.counts.stuck += 1;
    c.model.relaxed = true;
    c.was_forced = true;
    c.progress_ns = c.now_ns;
    return true;
}

/// Whom the operator made a leader dies as such: the next one is elected as always, for the word
/// counted once.
fn kill_forced(c: *Cluster) void {
    const node = &c.nodes[c.arbiter.obeyed];
    c.arbiter.obeyed = tree.nobody;
    c.counts.forced += 1;
    // A kill is to lose nothing: nobody is forced twice.
    if (c.scenario.record == .none or node.host.disk_full) return;
    if (!node.alive or !in_core(c, node)) return;
    c.counts.forced_killed += 1;
    c.end(node, .kill, c.dice.coin());
    c.start_at(node, c.now_ns + c.dice.below(4 * s));
}

fn is_finished(c: *Cluster) bool {
    for (c.senders[0..c.scenario.senders]) |*x| if (!x.is_finished()) return false;
    // What was lost by leave may not be told again: all logs are alike all the same.
    var next: u64 = c.model.truth.items.len;
    if (c.model.relaxed) for (c.nodes[0..c.node_count]) |*node| {
        if (in_core(c, node)) next = @max(next, node.host.next());
    };
    for (c.nodes[0..c.node_count]) |*node| {
        if (!in_core(c, node)) continue;
        if (!node.alive) return false;
        const h = &node.host;
        const is_given = if (h.results) |*r|
            results.is_finished(r, node.core.?.phase == .leading)
        else
            h.handed_count == next;
        if (!is_given or h.next() != next or h.diverged_at != null) return false;
        if (node.core.?.role() == .sync or node.core.?.role() == .init) return false;
    }
    check_end(c);
    return true;
}

/// Everything that a sender published and kept is in the log, in order and once.
fn check_end(c: *Cluster) void {
    if (!c.model.relaxed) for (c.senders[0..c.scenario.senders], 0..) |*x, i| {
        const stream = &c.model.senders[i];
        const windows = stream.windows.items;
        // A window that was wiped may begin behind numbers that no leader has any more.
        const begin = @max(stream.next, windows[windows.len - 1].first);
        if (x.written > begin) {
            c.model.fail(.liveness, "sender {d} wrote {d}, the tier has {d}", .{
                i + 1, x.written, stream.next,
            });
        }
    };
    // Where something was lost by leave the model does not know which log is the tier's.
    if (c.model.relaxed) return;
    for (c.nodes[0..c.node_count]) |*node| {
        if (!in_core(c, node)) continue;
        for (c.model.truth.items, 0..) |*t, sqn| {
            if (!std.meta.eql(t.entry, node.host.log.items[sqn])) {
                return c.model.fail(.agreement, "node {d} has another log at {d}", .{
                    node.index, sqn,
                });
            }
        }
    }
}
