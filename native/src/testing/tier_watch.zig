//! What is looked at at every step of a simulated member: what it says, what it counts, what its
//! program is given. What needs no cluster is in `tier_model.zig`.

const std = @import("std");
const cluster_file = @import("tier_cluster.zig");
const model_file = @import("tier_model.zig");
const abi = @import("../abi.zig");
const epochs = @import("../tier/epoch.zig");
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const results = @import("tier_results.zig");
const Cluster = cluster_file.Cluster;
const Node = cluster_file.Node;

const ms = std.time.ns_per_ms;
const s = std.time.ns_per_s;

pub fn count_datagram(c: *Cluster, node: *Node, bytes: []align(8) const u8) void {
    const h: *const frame.Header = @ptrCast(bytes.ptr);
    if (h.type == 34) c.counts.naks += 1;
    if (h.type == 42) c.counts.fills += 1;
    if (c.now_ns - node.sent_since_ns >= s) {
        node.sent_since_ns = c.now_ns;
        node.sent_count = 0;
        node.sent_types = @splat(0);
    }
    node.sent_types[h.type & 63] += 1;
    check_said(c, node, h);
    // Bulk goes as fast as the links let it.
    if (h.type != 42) node.sent_count += 1;
    if (node.sent_count > 50_000) c.model.fail(.storm, "node {d} sent {d} datagrams in " ++
        "a second", .{ node.index, node.sent_count });
}

/// What is promised or acknowledged is on the disk.
fn check_said(c: *Cluster, node: *Node, h: *const frame.Header) void {
    const d = &node.host.disk.durable;
    const e = wire.said_of(h).epoch;
    if (h.type == @backingInt(wire.Type.promise) and !epochs.eql(e, d.promised)) {
        c.model.fail(.durability, "node {d} promises epoch {d}, its disk says {d}", .{
            node.index, e.number, d.promised.number,
        });
    }
    if (h.type != @backingInt(wire.Type.sqn_ack)) return;
    if (!epochs.eql(e, d.adopted) or h.number > node.host.durable_next_now()) {
        c.model.fail(.false_ack, "node {d} acknowledges {d} in epoch {d}, its disk has {d} " ++
            "in epoch {d}", .{
            node.index,       h.number, e.number, node.host.durable_next_now(),
            d.adopted.number,
        });
    }
    if (wire.body(wire.SqnAck, h).is_intact != 0 and !d.is_intact) {
        c.model.fail(.false_ack, "node {d} says that it is intact", .{node.index});
    }
}

/// A leader counts no more than what that very start of a member has.
pub fn check_counted(c: *Cluster, node: *Node) void {
    const core = node.core.?;
    if (core.phase != .leading) return;
    for (core.peers[0..c.scenario.members]) |*p| {
        if (p.acked == 0 or p.joined_nonce == 0) continue;
        for (c.nodes[0..c.node_count]) |*other| {
            if (!other.alive or other.core.?.nonce != p.joined_nonce) continue;
            const d = &other.host.disk.durable;
            if (!epochs.eql(d.adopted, core.epoch)) continue;
            if (p.acked <= other.host.next()) continue;
            c.model.fail(.false_ack, "node {d} counts {d} of node {d}, which has {d}", .{
                node.index, p.acked, other.index, other.host.next(),
            });
        }
    }
}

// ---- the program

pub fn consume(c: *Cluster, node: *Node) void {
    const h = &node.host;
    h.inside = false;
    if (h.dying or c.now_ns < node.stalled_until_ns) {
        h.inside = !h.dying;
        if (h.inside) c.wake(node, node.stalled_until_ns);
        return;
    }
    if (h.results) |*r| {
        results.consume(c, node, r);
        h.inside = c.dice.below(16) == 0;
        if (h.inside) c.wake(node, c.now_ns + 2 * ms);
        return;
    }
    const limit = @min(h.show_limit, h.handed_count + 256);
    while (h.handed_count < limit) {
        hand_over(c, node, h.handed_count);
        if (c.model.verdict.violation != null) return;
        h.handed_count += 1;
        c.counts.delivered += 1;
    }
    if (h.handed_count < h.show_limit) c.wake(node, c.now_ns + ms);
    h.inside = c.dice.below(16) == 0;
    if (h.inside) c.wake(node, c.now_ns + 2 * ms);
}

pub fn hand_over(c: *Cluster, node: *Node, sqn: u64) void {
    const h = &node.host;
    const t: model_file.Truth = .{ .entry = h.log.items[@intCast(sqn)], .epoch = h.epoch_of(sqn) };
    const i = t.entry.source - 1;
    if (t.entry.msg_no != h.delivered_next[i] and
        !c.model.may_jump(i, h.delivered_next[i], t.entry.msg_no))
    {
        return c.model.fail(.honesty, "node {d}: sender {d} goes from {d} to {d} at {d}", .{
            node.index, i + 1, h.delivered_next[i], t.entry.msg_no, sqn,
        });
    }
    h.delivered_next[i] = t.entry.msg_no + 1;
    const truth = c.model.truth.items;
    const is_true = sqn < truth.len and epochs.eql(truth[@intCast(sqn)].epoch, t.epoch) and
        std.meta.eql(truth[@intCast(sqn)].entry, t.entry);
    const role = node.core.?.role();
    // What it was shown as a follower, a leader's program may still be given.
    const leads = (role == .active or role == .single) and node.phase == .leading and
        sqn >= node.shown_before;
    const strict = c.scenario.use_committed or node.is_observer() or leads;
    // A log that was lost by leave may be found again.
    if (c.model.relaxed) return;
    if (strict and !is_true) {
        return c.model.fail(.agreement, "node {d} ({t}) delivers {d}, which is not " ++
            "committed ({d} are)", .{ node.index, role, sqn, truth.len });
    }
    if (is_true and h.diverged_at != null and h.diverged_at.? < sqn) {
        return c.model.fail(.honesty, "node {d} delivered another message at {d} and " ++
            "goes on at {d}", .{ node.index, h.diverged_at.?, sqn });
    }
    if (!is_true and sqn < truth.len) h.diverged(sqn);
}

pub fn read_notices(node: *Node) void {
    var out: [16]abi.Notice = undefined;
    while (true) {
        const n = node.notices.pop(&out);
        if (n == 0) return;
        for (out[0..n]) |*notice| {
            if (notice.kind != @backingInt(abi.NoticeKind.event)) continue;
            if (notice.code != @backingInt(abi.EventType.out_of_sync)) continue;
            node.out_of_sync = .{
                @trunc(notice.args[0]),
                @trunc(notice.args[1]),
            };
        }
    }
}

/// Only who delivered what the tier does not have separates, and says exactly what.
pub fn check_separate(c: *Cluster, node: *Node) void {
    const h = &node.host;
    const range = node.out_of_sync orelse {
        return c.model.fail(.honesty, "node {d} separates without OUT_OF_SYNC", .{
            node.index,
        });
    };
    if (range[0] > range[1] or range[1] + 1 < h.handed_count) {
        return c.model.fail(.honesty, "node {d} separates: {d}..{d}, delivered up to {d}", .{
            node.index, range[0], range[1], h.handed_count,
        });
    }
    if (c.model.relaxed) return;
    if (h.results) |*r| {
        if (!results.may_separate(&c.model, r, range[0])) c.model.fail(.agreement, "node {d} " ++
            "separates from {d} on, but all that its program made is committed", .{
            node.index, range[0],
        });
        return;
    }
    if (h.diverged_at) |at| if (range[0] > at) {
        return c.model.fail(.honesty, "node {d} separates from {d} on, delivered " ++
            "another message at {d}", .{ node.index, range[0], at });
    };
    if (h.handed_count > c.model.truth.items.len) return;
    if (h.diverged_at == null) c.model.fail(.agreement, "node {d} separates from {d} on, " ++
        "but all that it delivered ({d}) is committed", .{
        node.index, range[0], h.handed_count,
    });
}
