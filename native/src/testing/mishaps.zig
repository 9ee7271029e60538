//! What happens to nodes of a simulated cluster: cut links, pauses, kills, clean stops, slow
//! handlers, and how it is mended.

const std = @import("std");
const scenario_file = @import("scenario.zig");
const cluster_file = @import("cluster.zig");
const model = @import("model.zig");
const in_place = @import("in_place.zig");
const recorded = @import("recorded.zig");
const tier_members = @import("tier_members.zig");
const watch = @import("watch.zig");
const watch_sender = @import("watch_sender.zig");
const watch_receiver = @import("watch_receiver.zig");
const nodes = @import("sender_node.zig");
const crash = @import("crash.zig");
const Cluster = cluster_file.Cluster;
const Timer = cluster_file.Timer;
const SenderNode = nodes.SenderNode;
const Window = nodes.Window;
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;

const windows_max = scenario_file.windows_max;
const ms = scenario_file.ms;

pub const kinds = 8;
/// Cut links at one time.
pub const mends_max = 4;

const Kind = enum(u8) {
    partition,
    pause,
    kill_receiver,
    kill_sender,
    stop,
    slow_handler,
    send_flag,
    spoil_disk,
};

const Cut = struct { sender: u8, receiver: u8, there: bool, back: bool, is_on: bool = false };

pub const Mishaps = struct {
    cuts: [mends_max]Cut = @splat(.{ .sender = 0, .receiver = 0, .there = false, .back = false }),
    /// Restarts find the files gone.
    wiped: [scenario_file.senders_max]bool = @splat(true),
    dead_since_ns: [scenario_file.receivers_max]u64 = @splat(0),
};

fn every_ns(c: *const Cluster, kind: Kind) u64 {
    const m = &c.scenario.mishaps;
    return switch (kind) {
        .partition => m.partition_every_ns,
        .pause => m.pause_every_ns,
        .kill_receiver => m.kill_receiver_every_ns,
        .kill_sender => m.kill_sender_every_ns,
        .stop => m.stop_every_ns,
        .slow_handler => m.slow_handler_every_ns,
        .send_flag => m.send_flag_every_ns,
        .spoil_disk => c.scenario.record.spoil_every_ns,
    };
}

pub fn begin(c: *Cluster) void {
    for (0..kinds) |kind| plan(c, @fromBackingInt(@intCast(kind)));
}

fn plan(c: *Cluster, kind: Kind) void {
    const mean_ns = every_ns(c, kind);
    if (mean_ns == 0) return;
    const at_ns = c.now_ns + c.dice.between(1, mean_ns * 2);
    c.timers[Timer.mishap + @as(usize, @backingInt(kind))] = at_ns;
}

pub fn happen(c: *Cluster, index: u8) void {
    if (c.phase != .safety) return;
    const kind: Kind = @fromBackingInt(index);
    plan(c, kind);
    const lasts_ns = c.dice.magnitude(ms, c.scenario.mishaps.lasts_ns);
    switch (kind) {
        .partition => partition(c, lasts_ns),
        .pause => pause(c, lasts_ns),
        .kill_receiver => kill_receiver(c, any_receiver(c), lasts_ns),
        .kill_sender => kill_sender(c, any_sender(c), lasts_ns),
        .stop => if (c.dice.coin())
            stop_receiver(c, any_receiver(c), lasts_ns)
        else
            stop_sender(c, any_sender(c)),
        .slow_handler => {
            const node = any_receiver(c);
            node.stalled_until_ns = @max(node.stalled_until_ns, c.now_ns + lasts_ns);
            c.totals.stalls += 1;
        },
        .send_flag => {
            const w = c.windows[@intCast(c.dice.below(c.window_count))];
            w.send_flag = !w.send_flag;
            c.totals.flag_changes += 1;
        },
        .spoil_disk => recorded.spoil(c, any_receiver(c)),
    }
}

fn any_sender(c: *Cluster) *SenderNode {
    return c.senders[@intCast(c.dice.below(c.senders.len))];
}

fn any_receiver(c: *Cluster) *ReceiverNode {
    return c.receivers[@intCast(c.dice.below(c.receivers.len))];
}

fn partition(c: *Cluster, lasts_ns: u64) void {
    const slot = for (&c.mishaps.cuts, 0..) |*cut, i| {
        if (!cut.is_on) break i;
    } else return;
    const way = c.dice.below(3);
    const cut = &c.mishaps.cuts[slot];
    cut.* = .{
        .sender = any_sender(c).index,
        .receiver = any_receiver(c).index,
        .there = way != 0,
        .back = way != 1,
        .is_on = true,
    };
    set_cut(c, cut, true);
    watch.disturb(c, cut.sender, cut.receiver, c.now_ns + lasts_ns, .both);
    c.timers[Timer.mend + slot] = c.now_ns + lasts_ns;
    c.totals.partitions += 1;
}

fn set_cut(c: *Cluster, cut: *const Cut, is_on: bool) void {
    const r = windows_max + cut.receiver;
    for (c.senders[cut.sender].windows) |w| {
        if (cut.there) c.net.set_cut(w.index, r, is_on);
        if (cut.back) c.net.set_cut(r, w.index, is_on);
    }
}

pub fn mend(c: *Cluster, slot: usize) void {
    const cut = &c.mishaps.cuts[slot];
    if (!cut.is_on) return;
    set_cut(c, cut, false);
    cut.is_on = false;
    // Where two cuts met on one link, the other one stays.
    for (&c.mishaps.cuts) |*other| {
        if (other.is_on) set_cut(c, other, true);
    }
}

fn pause(c: *Cluster, lasts_ns: u64) void {
    c.totals.pauses += 1;
    const until_ns = c.now_ns + lasts_ns;
    if (c.dice.coin()) {
        const node = any_sender(c);
        node.paused_until_ns = @max(node.paused_until_ns, until_ns);
        for (c.receivers) |r| watch.disturb(c, node.index, r.index, until_ns, .both);
    } else {
        const node = any_receiver(c);
        node.paused_until_ns = @max(node.paused_until_ns, until_ns);
        for (c.senders) |s| watch.disturb(c, s.index, node.index, until_ns, .touch);
    }
}

// -------------------------------------------------------------------- receivers

fn kill_receiver(c: *Cluster, node: *ReceiverNode, lasts_ns: u64) void {
    if (!node.alive) return;
    c.totals.receiver_kills += 1;
    recorded.kill(c, node);
    end_receiver(c, node, lasts_ns);
}

fn end_receiver(c: *Cluster, node: *ReceiverNode, lasts_ns: u64) void {
    watch_receiver.life_ends(c, node);
    in_place.life_ends(c, node);
    node.drop();
    recorded.dead(c, node);
    c.mishaps.dead_since_ns[node.index] = c.now_ns;
    for (c.senders) |s| watch.disturb(c, s.index, node.index, c.now_ns + lasts_ns, .touch);
    c.timers[Timer.start_receiver + node.index] = c.now_ns + lasts_ns;
}

fn stop_receiver(c: *Cluster, node: *ReceiverNode, lasts_ns: u64) void {
    if (!node.alive or c.now_ns < node.paused_until_ns) return;
    c.totals.stops += 1;
    node.receiver.close();
    c.flush_receiver(node);
    recorded.stop(c, node);
    end_receiver(c, node, lasts_ns);
}

pub fn start_receiver(c: *Cluster, node: *ReceiverNode) void {
    if (node.alive) return;
    node.paused_until_ns = 0;
    node.start(&c.dice) catch @panic("out of memory");
    recorded.begin(c, node);
    in_place.open(c, node);
    tier_members.life_begins(c, node);
    for (c.senders) |s| watch.disturb(c, s.index, node.index, c.now_ns, .touch);
    // Its new life has the whole time-out to take something.
    for (c.windows[0..c.window_count]) |w| w.low_moved_ns = w.node.clock.local(c.now_ns);
    c.wake(Timer.step_receiver + node.index, c.now_ns);
}

// -------------------------------------------------------------------- senders

fn kill_sender(c: *Cluster, node: *SenderNode, lasts_ns: u64) void {
    if (!node.alive) return;
    c.totals.sender_kills += 1;
    const dice = &node.crash_dice;
    if (node.doom != null or dice.chance(250_000)) return end_sender(c, node, lasts_ns);
    // Soon, between two stores.
    node.doom = dice.magnitude(0, 500);
    node.doom_lasts_ns = lasts_ns;
}

pub fn die_inside(c: *Cluster, node: *SenderNode) void {
    c.totals.deaths_inside += 1;
    for (node.windows) |w| {
        watch_sender.window_dies(c, w);
        w.stopping_until_ns = 0;
    }
    stay_dead(c, node, node.doom_lasts_ns);
}

fn end_sender(c: *Cluster, node: *SenderNode, lasts_ns: u64) void {
    for (node.windows) |w| {
        watch_sender.window_ends(c, w);
        w.stopping_until_ns = 0;
    }
    stay_dead(c, node, lasts_ns);
}

fn stay_dead(c: *Cluster, node: *SenderNode, lasts_ns: u64) void {
    node.kill();
    const epochs_left = node.windows[0].published.epoch + 1 < model.epochs_max;
    const wiped = epochs_left and c.dice.chance(c.scenario.mishaps.wipe_ppm);
    c.mishaps.wiped[node.index] = wiped;
    for (c.receivers) |r| watch.disturb(c, node.index, r.index, c.now_ns + lasts_ns, .both);
    c.timers[Timer.start_sender + node.index] = c.now_ns + lasts_ns;
}

/// A clean stop: what was accepted goes out first, for at most the acknowledgement's time.
fn stop_sender(c: *Cluster, node: *SenderNode) void {
    if (!node.alive or c.now_ns < node.paused_until_ns) return;
    c.totals.stops += 1;
    var longest_ns: u64 = 0;
    for (node.windows) |w| {
        longest_ns = @max(longest_ns, c.scenario.transports[w.transport].ack_timeout_ns);
    }
    for (node.windows) |w| {
        w.stopping_until_ns = c.now_ns + longest_ns;
        c.wake(Timer.step_window + w.index, c.now_ns);
    }
}

pub fn stop_further(c: *Cluster, w: *Window) void {
    const node = w.node;
    var drained = true;
    for (node.windows) |sibling| {
        if (is_drained(sibling)) continue;
        drained = false;
        sibling.want_ack = true;
    }
    if (!drained and c.now_ns < w.stopping_until_ns) {
        return c.wake(Timer.step_window + w.index, c.now_ns + ms);
    }
    for (node.windows) |sibling| {
        sibling.sender.?.close(node.clock.local(c.now_ns));
        c.flush_window(sibling);
    }
    end_sender(c, node, c.dice.magnitude(ms, c.scenario.mishaps.lasts_ns));
}

fn is_drained(w: *const Window) bool {
    const sender = w.sender.?;
    if (sender.phase != .started) return true;
    if (!sender.send_flag) return w.window.acked() >= sender.announced.msg;
    return w.window.acked() == w.window.written();
}

pub fn start_sender(c: *Cluster, node: *SenderNode) void {
    if (node.alive) return;
    const wiped = c.mishaps.wiped[node.index];
    node.paused_until_ns = 0;
    if (wiped and node.windows[0].life > 0) c.totals.wipes += 1;
    if (wiped) node.wipe_all() catch @panic("out of memory");
    c.mishaps.wiped[node.index] = false;
    const dice = &node.crash_dice;
    const is_risky = c.phase == .safety and c.scenario.mishaps.kill_sender_every_ns > 0 and
        node.windows[0].life > 0;
    if (is_risky and dice.chance(300_000)) {
        node.doom = dice.below(100);
        node.doom_lasts_ns = dice.magnitude(1, c.scenario.mishaps.lasts_ns);
    }
    crash.enter_start(node);
    node.start(&c.dice, .{
        .now_ns = c.now_ns,
        .torn_ppm = c.scenario.mishaps.torn_ppm,
        .is_second = is_risky and !wiped and node.windows.len > 1 and
            !node.is_read_in_place() and dice.chance(200_000),
        .verdict = &c.verdict,
    }) catch @panic("out of memory");
    if (crash.leave_start(node)) {
        c.totals.deaths_in_start += 1;
        return stay_dead(c, node, node.doom_lasts_ns);
    }
    if (c.verdict.violation != null) return;
    for (node.windows) |w| tier_members.window_starts(c, w);
    in_place.find(c, node);
    for (c.receivers) |r| {
        if (r.in_place.file == null) continue;
        c.wake(Timer.map + r.index, c.now_ns + c.dice.below(c.scenario.in_place.find_ns));
    }
    for (c.receivers) |r| watch.disturb(c, node.index, r.index, c.now_ns, .both);
    for (node.windows) |w| {
        for (&w.freed) |*freed| freed.* = @max(freed.*, w.window.reclaimed());
        c.wake(Timer.step_window + w.index, c.now_ns);
        c.wake(Timer.publish + w.index, c.now_ns + 1);
    }
}

/// Everything is mended, and the dead come back.
pub fn heal(c: *Cluster) void {
    for (0..kinds) |kind| c.timers[Timer.mishap + kind] = std.math.maxInt(u64);
    for (&c.mishaps.cuts, 0..) |*cut, slot| {
        cut.is_on = false;
        c.timers[Timer.mend + slot] = std.math.maxInt(u64);
    }
    for (c.senders) |node| {
        node.doom = null;
        node.paused_until_ns = @min(node.paused_until_ns, c.now_ns);
        for (node.windows) |w| w.stopping_until_ns = 0;
        if (!node.alive) {
            c.wake(Timer.start_sender + node.index, c.now_ns + c.dice.below(100 * ms));
        }
        for (node.windows) |w| c.wake(Timer.step_window + w.index, c.now_ns);
    }
    for (c.receivers) |node| {
        node.paused_until_ns = @min(node.paused_until_ns, c.now_ns);
        node.stalled_until_ns = @min(node.stalled_until_ns, c.now_ns);
        if (!node.alive) {
            c.wake(Timer.start_receiver + node.index, c.now_ns + c.dice.below(100 * ms));
        }
        c.wake(Timer.step_receiver + node.index, c.now_ns);
        c.wake(Timer.drain + node.index, c.now_ns);
    }
}
