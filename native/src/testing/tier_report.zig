//! What the tier's simulator prints.

const std = @import("std");
const cluster_file = @import("tier_cluster.zig");
const scenario_file = @import("tier_scenario.zig");
const Writer = std.Io.Writer;

pub fn scenario(out: *Writer, x: *const scenario_file.Scenario) !void {
    try out.print("seed {d}: tier, {t}, {d} members, {d} observers, {d} senders, AckCount {d}, " ++
        "UseCommitted {}, record {t}, policy {t}\n  {any}\n", .{
        x.seed,      x.kind,          x.members, x.observers, x.senders,
        x.ack_count, x.use_committed, x.record,  x.policy,    x.*,
    });
}

pub fn totals(
    out: *Writer,
    n: *const cluster_file.Counts,
    seeds: u64,
    took_ns: u64,
) !void {
    const seconds = @as(f64, @floatFromInt(took_ns)) / 1e9;
    const rate = @as(f64, @floatFromInt(n.events)) / @max(seconds, 1e-9);
    const hours = @as(f64, @floatFromInt(n.virtual_ns)) / 3.6e12;
    try out.print("tiers: seeds {d}, events {d} ({d:.0}/s), virtual hours {d:.2}\n", .{
        seeds, n.events, rate, hours,
    });
    try out.print("  lives {d}, campaigns {d}, leaders {d}, (S, need) written {d}, " ++
        "separated {d}, out of bound {d}, forced {d} (then killed {d}), " ++
        "logs lost by leave {d}\n", .{
        n.lives,     n.campaigns, n.leaders, n.establishes,
        n.separated, n.stuck,     n.forced,  n.forced_killed,
        n.resets,
    });
    try out.print("  messages: {d} published, {d} committed, {d} delivered and checked\n", .{
        n.published, n.committed, n.delivered,
    });
    if (n.openings > 0) try out.print("  transactions: {d} made, {d} applied and checked, " ++
        "{d} openings\n", .{ n.results, n.applied, n.openings });
    const w = &n.network;
    try out.print("  datagrams: {d} sent, {d} arrived, lost {d}, in bursts {d}, cut off {d}, " ++
        "doubled {d}, corrupted {d}, delayed {d}; {d} NAKs, {d} FILLs\n", .{
        w.sent,      w.arrived,   w.lost, w.lost_in_bursts, w.cut, w.duplicated,
        w.corrupted, w.reordered, n.naks, n.fills,
    });
    try out.print("  late watches {d}, answers lost {d};", .{ n.late_watches, n.answers_lost });
    inline for (@typeInfo(scenario_file.Mishap).@"enum".field_names, 0..) |name, i| {
        try out.print(" " ++ name ++ " {d}", .{n.mishaps[i]});
    }
    try out.print("\n", .{});
}

/// Everything about a run that stopped: for whoever replays a seed.
pub fn state(out: *Writer, c: *cluster_file.Cluster) !void {
    const last = c.note_count;
    for (last -| cluster_file.notes_max..last) |i| {
        const n = &c.notes[i % cluster_file.notes_max];
        try out.print("{d}.{d:0>6} node {d} {s} {any}\n", .{
            n.at_ns / std.time.ns_per_s, n.at_ns % std.time.ns_per_s / 1000, n.node, n.text, n.args,
        });
    }
    const a = &c.arbiter;
    try out.print("at {d} ns, phase {t}, core {x}, committed {d}\n", .{
        c.now_ns, c.phase, c.core_nodes, c.model.truth.items.len,
    });
    try out.print("tree: version {d} candidate {d} epoch {d} established {d} by {d} S {x} need " ++
        "{d} running {d} classer {any}\n", .{
        a.version,                  a.candidate,          a.epoch.number,
        a.established_epoch.number, a.established_leader, a.quorum.set,
        a.quorum.need,              a.running,            a.classer,
    });
    for (c.senders[0..c.scenario.senders]) |*x| try out.print("{any}\n", .{x.*});
    for (c.nodes[0..c.node_count]) |*node| {
        const h = &node.host;
        const d = &h.disk.durable;
        try out.print("node {d} (member {d}): alive {} life {d} adopted {d} promised {d} intact " ++
            "{} next {d} committed {d} handed {d} shown {d} diverged {?d} runs again {d}\n", .{
            node.index,           node.member,       node.alive,   node.life,
            d.adopted.number,     d.promised.number, d.is_intact,  h.next(),
            h.committed_count,    h.handed_count,    h.show_limit, h.diverged_at,
            node.runs_again_ns(),
        });
        for (node.sent_types, 0..) |n, kind| if (n > 0) try out.print("  sent of {d}: {d}", .{
            kind, n,
        });
        for (h.era_list.items) |e| try out.print("  era {d}..{x} from {d}", .{
            e.epoch.number, e.epoch.id & 0xffff, e.first_sqn,
        });
        try out.print("\n", .{});
        const m = node.core orelse continue;
        if (!node.alive) continue;
        try out.print("  client {any}\n", .{a.clients[node.index]});
        try out.print("  {t} {t} epoch {d} leader {d} of {d} floor {d} S {x} need {d} " ++
            "changing {any} first {d} sent {d} committed {d}\n", .{
            m.role(),       m.phase,      m.epoch.number, m.leader_id, m.leader_epoch.number,
            m.floor.number, m.quorum.set, m.quorum.need,  m.changing,  m.first,
            m.sent,         m.committed,
        });
        try out.print("  leader next {d} committed {d} first {d}, join {any}\n  pull {any}\n", .{
            m.leader_next, m.leader_committed, m.leader_first, m.join, m.puller,
        });
        for (m.peers[0..c.scenario.members]) |*p| {
            try out.print("  peer {d}: joined {x} intact {} acked {d} promise {any}\n", .{
                p.id, p.joined_nonce, p.is_intact, p.acked, p.promise,
            });
        }
        for (h.stages[0..c.scenario.senders]) |*st| try out.print("  stage {any}\n", .{st.*});
    }
    try out.flush();
}
