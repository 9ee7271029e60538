//! The checkers of a simulated run that look at everything now and then and at its end: whether
//! something moves, who is dead or silent or held up, what repair cost, what is left. Those that
//! look at every step are `watch_sender.zig` and `watch_receiver.zig`.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const scenario_file = @import("scenario.zig");
const cluster_file = @import("cluster.zig");
const nodes = @import("sender_node.zig");
const stream_file = @import("../session/stream.zig");
const in_place = @import("in_place.zig");
const watch_sender = @import("watch_sender.zig");
const Bump = @import("../window/pool.zig").Bump;
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;
const Cluster = cluster_file.Cluster;
const Timer = cluster_file.Timer;
const Window = nodes.Window;
const Position = frame.Position;

const ms = scenario_file.ms;
const s = scenario_file.s;
const look_every_ns = 20 * ms;
/// Steps of one agent at one instant without an end in sight.
const steps_at_once_max = 20_000;

/// Sender and receiver may lose touch until then: `touch`; and gaps can't be repaired: `both`.
pub fn disturb(
    c: *Cluster,
    sender: u8,
    receiver: u8,
    until_ns: u64,
    how: enum { touch, both },
) void {
    var grace_ns: u64 = 0;
    for (c.scenario.transports[0..c.scenario.transport_count]) |*t| {
        grace_ns = @max(grace_ns, t.ack_timeout_ns + t.heartbeat_timeout_ns * 2);
    }
    const touch = &c.disturbed_ns[sender][receiver];
    touch.* = @max(touch.*, until_ns + grace_ns);
    if (how == .touch) return;
    const repair = &c.unrepairable_ns[sender][receiver];
    repair.* = @max(repair.*, until_ns + grace_ns);
}

pub fn window_of(c: *Cluster, source: u16, transport: u16) ?*Window {
    for (c.windows[0..c.window_count]) |w| {
        if (w.node.id == source and c.scenario.transports[w.transport].id == transport) return w;
    }
    return null;
}

pub fn window_by_name(c: *Cluster, name: []const u8, transport: u32) ?*Window {
    for (c.windows[0..c.window_count]) |w| {
        if (c.scenario.transports[w.transport].id != transport) continue;
        if (std.mem.eql(u8, w.node.name(), name)) return w;
    }
    return null;
}

pub fn key_of(c: *const Cluster, w: *const Window) stream_file.Key {
    return .{
        .tier = false,
        .source = w.node.id,
        .transport = c.scenario.transports[w.transport].id,
    };
}

// -------------------------------------------------------------------- always

/// An agent that is always due and has nothing to send burns a core for nothing.
pub fn look_for_spin(c: *Cluster, agent: anytype, runs: u32, due: bool) void {
    agent.idle_steps = if (due and runs == 0) agent.idle_steps + 1 else 0;
    if (agent.steps_at_ns != c.now_ns) agent.steps_here = 0;
    agent.steps_at_ns = c.now_ns;
    agent.steps_here += 1;
    if (agent.idle_steps < 8 and agent.steps_here < steps_at_once_max) return;
    c.verdict.fail(.storm, c.now_ns, "agent {d} is due at once {d} times and sends " ++
        "nothing; {d} steps at one instant", .{
        agent.index, agent.idle_steps, agent.steps_here,
    });
}

/// A receiver answers what it gets; it has no reason to say much more.
pub fn count_sent(c: *Cluster, node: *ReceiverNode) void {
    const this_ms = c.now_ns / ms;
    if (node.rate_ms != this_ms) {
        node.rate_ms = this_ms;
        node.sent_in_ms = 0;
        node.got_in_ms = 0;
    }
    node.sent_in_ms += 1;
    if (node.sent_in_ms <= 1000 + 4 * node.got_in_ms) return;
    c.verdict.fail(.storm, c.now_ns, "receiver {d} sends {d} datagrams within a " ++
        "millisecond, and got {d}", .{ node.index, node.sent_in_ms, node.got_in_ms });
}

// -------------------------------------------------------------------- now and then

/// Looks at everything: whether the phase is over, whether something moves, who is dead or silent.
pub fn look(c: *Cluster) void {
    const t = &c.scenario.transports[0];
    const every_ns = @max(look_every_ns, t.heartbeat_interval_ns / 4);
    if (c.quiet_from_ns != 0 and c.now_ns >= c.quiet_from_ns) {
        c.quiet_from_ns = 0;
        count_from_here(c);
    }
    c.timers[Timer.look] = c.now_ns + every_ns;
    for (c.windows[0..c.window_count]) |w| {
        look_at_dead(c, w);
        w.join_old = w.join_lately;
        w.join_lately = if (w.sender == null) 0 else watch_sender.join_at(c, w);
    }
    for (c.receivers) |node| look_at_silence(c, node);
    switch (c.phase) {
        .safety => {
            const is_over = c.phase_events >= c.scenario.safety_events;
            if (is_over or everything_arrived(c)) c.heal();
        },
        .liveness => look_at_progress(c),
        .quiet, .done => {},
    }
}

/// A receiver that is gone must not hold the window for longer than the time-out.
fn look_at_dead(c: *Cluster, w: *Window) void {
    const sender = w.sender orelse return;
    if (c.now_ns < w.node.paused_until_ns) return;
    const t = &c.scenario.transports[w.transport];
    const f = &c.scenario.faults;
    const way_ns = f.delay_ns + f.jitter_ns + f.reorder_ns + f.spread_ns;
    const slack_ns = t.ack_timeout_ns / 1000 + 2 * way_ns + ms;
    const local_ns = w.node.clock.local(c.now_ns);
    look_at_held_up(c, w, local_ns);
    look_at_gone(c, w);
    for (c.receivers) |node| {
        const peer = sender.peers.find(node.id) orelse continue;
        const silent_ns = local_ns -| peer.last_heard_ns;
        if (peer.state == .connected and silent_ns > t.ack_timeout_ns + slack_ns) {
            c.verdict.fail(.dead_receiver, c.now_ns, "window {d}: receiver {d} says nothing for " ++
                "{d} ms and is connected", .{ w.index, node.index, silent_ns / ms });
        }
        if (node.alive) continue;
        // What it said before may be read when the sender goes on.
        const since_ns = @max(c.mishaps.dead_since_ns[node.index], w.node.paused_until_ns);
        const dead_ns = c.now_ns -| since_ns;
        if (peer.state != .connected or dead_ns <= t.ack_timeout_ns + slack_ns) continue;
        c.verdict.fail(.dead_receiver, c.now_ns, "window {d}: receiver {d} is dead for {d} ms " ++
            "and still connected", .{ w.index, node.index, dead_ns / ms });
    }
}

/// Of a receiver that reads in place its sender sees that it is dead: it does not hold the window
/// until it is missed.
fn look_at_gone(c: *Cluster, w: *Window) void {
    for (w.sender.?.peers.slice()) |*peer| {
        if (peer.state != .connected or peer.address.ip != 0) continue;
        if (!in_place.is_found_dead(c, w, peer)) continue;
        c.verdict.fail(.dead_receiver, c.now_ns, "window {d}: receiver {d} was found dead and " ++
            "is still connected", .{ w.index, peer.id });
    }
}

/// `SlowReceiver: "disconnect"`: who does not move may hold the others up for the time-out, no
/// longer.
fn look_at_held_up(c: *Cluster, w: *Window, local_ns: u64) void {
    const sender = w.sender.?;
    const low = nodes.lowest(w, sender, local_ns) orelse Position{ .msg = 0 };
    const is_awake = c.now_ns >= w.node.paused_until_ns + s;
    if (!low.eql(w.low_seen) or sender.credit() > 0 or !is_awake) {
        w.low_seen = low;
        w.low_moved_ns = local_ns;
        return;
    }
    // A tier may hold its senders up for as long as it likes.
    if (c.scenario.tier.members != 0) return;
    if (!c.scenario.slow_disconnect or !has_ample_memory(c)) return;
    const ack_timeout_ns = c.scenario.transports[w.transport].ack_timeout_ns;
    const stuck_ns = local_ns - w.low_moved_ns;
    // They may be slow one after the other.
    if (stuck_ns <= (2 + c.receivers.len) * ack_timeout_ns + s) return;
    var ready = false;
    for (sender.peers.slice()) |*p| {
        if (p.state == .connected and !p.acked.less(sender.announced)) ready = true;
    }
    if (!ready) return;
    c.verdict.fail(.held_up, c.now_ns, "window {d} is full and stands at {d}.{d} for {d} ms, " ++
        "and one who has everything waits", .{ w.index, low.msg, low.frag, stuck_ns / ms });
}

/// All windows' largest messages find room at a receiver at once: none waits for another.
fn has_ample_memory(c: *const Cluster) bool {
    var bytes: u64 = 0;
    for (c.windows[0..c.window_count]) |w| bytes += c.scenario.sizes[w.transport].max + 8192;
    return c.scenario.receive_bytes >= 2 * bytes;
}

/// A sender of which nothing came for the time-out must not count as alive.
fn look_at_silence(c: *Cluster, node: *ReceiverNode) void {
    if (!node.alive or c.now_ns < node.paused_until_ns + 100 * ms) return;
    const local_ns = node.clock.local(c.now_ns);
    for (c.windows[0..c.window_count]) |w| {
        if (node.heard_ns[w.index] == 0) continue;
        const t = &c.scenario.transports[w.transport];
        const silent_ns = local_ns -| node.heard_ns[w.index];
        if (silent_ns <= t.heartbeat_timeout_ns + 2 * ms) continue;
        const stream = node.receiver.find(key_of(c, w)) orelse continue;
        if (stream.phase != .started) continue;
        c.verdict.fail(.silence, c.now_ns, "receiver {d} heard nothing true of window {d} for " ++
            "{d} ms and takes it for alive", .{ node.index, w.index, silent_ns / ms });
    }
}

fn everything_arrived(c: *Cluster) bool {
    for (c.windows[0..c.window_count]) |w| {
        const sender = w.sender orelse return false;
        if (sender.phase != .started or !w.is_done()) return false;
        for (c.receivers) |node| {
            if (!node.listens(w.transport)) continue;
            if (!node.alive) return false;
            const check = &node.checks[w.index];
            if (!check.has_position or check.position() < w.window.written()) return false;
            if (node.log.processed_next() != node.log.ordered_next()) return false;
            if (!node.receives) return false;
        }
    }
    return true;
}

fn look_at_progress(c: *Cluster) void {
    if (everything_arrived(c)) {
        look_at_bill(c);
        return c.begin_quiet();
    }
    var sum: u64 = c.totals.delivered + c.totals.lost_told;
    var patience_ns: u64 = 5 * s + c.scenario.start_timeout_ns;
    for (c.windows[0..c.window_count]) |w| {
        sum +%= w.window.acked() + w.window.written() + w.life;
        if (w.sender) |sender| sum +%= sender.peers.connected;
        const t = &c.scenario.transports[w.transport];
        patience_ns = @max(patience_ns, 12 * t.heartbeat_timeout_ns + 4 * t.ack_timeout_ns);
        for (c.receivers) |node| {
            if (!node.alive) continue;
            const stream = node.receiver.find(key_of(c, w)) orelse continue;
            sum +%= stream.next.msg + stream.next.frag;
        }
    }
    if (sum != c.progress) {
        c.progress = sum;
        c.progress_ns = c.now_ns;
    }
    if (c.phase_events > 4_000_000) {
        c.verdict.fail(.storm, c.now_ns, "no end after 4 million events in a healed network", .{});
    }
    if (c.now_ns - c.progress_ns < patience_ns) return;
    tell_who_waits(c);
}

fn tell_who_waits(c: *Cluster) void {
    for (c.windows[0..c.window_count]) |w| {
        const sender = w.sender orelse continue;
        for (c.receivers) |node| {
            if (!node.listens(w.transport) or !node.alive) continue;
            const check = &node.checks[w.index];
            if (check.has_position and check.position() >= w.window.written()) continue;
            const stream = node.receiver.find(key_of(c, w));
            return c.verdict.fail(.liveness, c.now_ns, "window {d} ({t}): written {d} sent " ++
                "{d}.{d} acked {d} reclaimed {d} credit {d} connected {d}; receiver {d}: " ++
                "delivered {d} next {d}.{d} announced {d}.{d} phase {t} held {d} " ++
                "free {d}/{d} no_memory {}", .{
                w.index,                                 sender.phase,
                w.window.written(),                      sender.sent.msg,
                sender.sent.frag,                        w.window.acked(),
                w.reclaimed_seen,                        sender.credit(),
                sender.peers.connected,                  node.index,
                check.next,                              if (stream) |x| x.next.msg else 0,
                if (stream) |x| x.next.frag else 0,      if (stream) |x| x.announced.msg else 0,
                if (stream) |x| x.announced.frag else 0, if (stream) |x| x.phase else .init,
                if (stream) |x| x.detector.count else 0, node.pool.free_count(),
                node.pool.chunk_count,                   if (stream) |x| x.no_memory else false,
            });
        }
    }
    for (c.windows[0..c.window_count]) |w| {
        const sender = w.sender orelse continue;
        if (w.is_done() and sender.phase == .started) continue;
        return c.verdict.fail(.liveness, c.now_ns, "window {d} ({t}): written {d} acked {d}, " ++
            "{d} to publish, {d} connected, blocked {}", .{
            w.index,
            sender.phase,
            w.window.written(),
            w.window.acked(),
            w.left,
            sender.peers.connected,
            w.blocked,
        });
    }
    c.verdict.fail(.liveness, c.now_ns, "nothing moves", .{});
}

// -------------------------------------------------------------------- at the end

/// Everything has arrived: what is said from here on is counted.
pub fn begin_quiet(c: *Cluster) void {
    c.quiet_naks = naks_of(c);
    count_from_here(c);
}

fn count_from_here(c: *Cluster) void {
    for (c.windows[0..c.window_count]) |w| {
        const sender = w.sender orelse continue;
        w.quiet_sent = sender.counters.datagrams_sent;
    }
}

/// Of the longest link of a network that has healed.
pub fn round_trip_max_ns(c: *const Cluster) u64 {
    const f = &c.scenario.faults;
    return 2 * (f.delay_ns + f.jitter_ns + f.spread_ns);
}

fn look_at_quiet(c: *Cluster) void {
    for (c.windows[0..c.window_count]) |w| {
        const t = &c.scenario.transports[w.transport];
        const sent = w.sender.?.counters.datagrams_sent - w.quiet_sent;
        const step_ns = @min(t.heartbeat_interval_ns, 100 * ms);
        const allowed = 100 + 8 * c.quiet_ns / step_ns;
        if (sent <= allowed) continue;
        c.verdict.fail(.storm, c.now_ns, "window {d} sends {d} datagrams in {d} ms when " ++
            "everything has arrived", .{ w.index, sent, c.quiet_ns / ms });
    }
}

pub fn naks_of(c: *Cluster) u64 {
    var naks: u64 = 0;
    for (c.receivers) |node| {
        if (!node.alive) continue;
        for (node.receiver.active()) |*stream| naks += stream.counters.nak_ranges_sent;
    }
    return naks;
}

/// Only loss: k lost datagrams may cost about 2k requests and 2k repairs, and a little more.
fn look_at_bill(c: *Cluster) void {
    if (c.scenario.kind != .cost) return;
    // What is lost before it forks is missed by each, and repaired once.
    const lost = c.net.counters.lost;
    const missed = lost + c.net.counters.lost_at_source * (c.receivers.len - 1);
    const spare = 8 * c.receivers.len * c.window_count;
    const asked = naks_of(c);
    var repaired: u64 = 0;
    for (c.windows[0..c.window_count]) |w| repaired += w.sender.?.counters.repairs_sent;
    if (asked <= 2 * missed + spare and repaired <= 2 * lost + spare) return;
    c.verdict.fail(.repair_cost, c.now_ns, "{d} lost datagrams, missed {d} times, cost {d} " ++
        "requests and {d} repairs", .{ lost, missed, asked, repaired });
}

/// Everything has arrived and nobody says anything new: nothing may go on, and memory is back.
pub fn end(c: *Cluster) void {
    if (naks_of(c) != c.quiet_naks) {
        c.verdict.fail(.storm, c.now_ns, "{d} requests after everything arrived", .{
            naks_of(c) - c.quiet_naks,
        });
    }
    look_at_quiet(c);
    for (c.receivers) |node| look_at_receive_memory(c, node);
    for (c.senders) |node| {
        const local_ns = node.clock.local(c.now_ns);
        var all_acked = true;
        for (node.windows) |w| {
            const sender = w.sender.?;
            while (sender.make_room(local_ns)) {}
            watch_sender.window_ends(c, w);
            if (w.window.reclaimed() != w.window.written()) all_acked = false;
        }
        if (!all_acked) continue;
        node.bump.close();
        node.bump = Bump.init(&node.pool).?;
        if (node.pool.free_count() == node.pool.chunk_count) continue;
        c.verdict.fail(.memory, c.now_ns, "sender {d}: {d} of {d} chunks are free at the end", .{
            node.index, node.pool.free_count(), node.pool.chunk_count,
        });
    }
}

fn look_at_receive_memory(c: *Cluster, node: *ReceiverNode) void {
    if (!node.alive) return;
    // The open segment, and the open chunk for early datagrams.
    const still_used = node.pool.chunk_count - node.pool.free_count();
    if (still_used <= 2 and node.holding.used == 0 and node.holding.used_bytes == 0) return;
    c.verdict.fail(.memory, c.now_ns, "receiver {d}: {d} chunks and {d} early datagrams are " ++
        "still used at the end", .{ node.index, still_used, node.holding.used });
}
