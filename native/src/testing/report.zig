//! What the simulator prints.

const std = @import("std");
const cluster_file = @import("cluster.zig");
const scenario_file = @import("scenario.zig");
const verdict_file = @import("verdict.zig");
const Totals = @import("totals.zig").Totals;
const ShmPeers = @import("../session/shm_peers.zig").ShmPeers;
const Writer = std.Io.Writer;

/// The seed that runs now, for the last words of a crash.
pub var running: ?u64 = null;
/// A crash is expected, and noted by this.
pub var on_crash: ?*const fn () noreturn = null;

/// An assertion of the code under test failed: the seed must not get lost.
pub fn panicked(message: []const u8, return_address: ?usize) noreturn {
    @branchHint(.cold);
    if (on_crash) |note| note();
    if (running) |seed| {
        running = null;
        var buffer: [256]u8 = undefined;
        const text = std.fmt.bufPrint(&buffer, "\nseed {d}: crash: {s}\n" ++
            "replay: deno task sim -- --seed {d}\n0 passed, 1 failed\n", .{
            seed, message[0..@min(message.len, 100)], seed,
        }) catch "";
        _ = std.os.linux.write(2, text.ptr, text.len);
    }
    std.debug.defaultPanic(message, return_address);
}

pub fn violation(out: *Writer, seed: u64, v: *const verdict_file.Violation) !void {
    try out.print("seed {d}: {t} at {d}.{d:0>6} s: {s}\n  replay: deno task sim -- --seed {d}\n", .{
        seed,      v.check, v.at_ns / std.time.ns_per_s, v.at_ns % std.time.ns_per_s / 1000,
        v.words(), seed,
    });
}

pub fn scenario(out: *Writer, s: *const scenario_file.Scenario) !void {
    try out.print("seed {d}: {t}, {d} senders, {d} receivers, {d} transports\n", .{
        s.seed, s.kind, s.sender_count, s.receiver_count, s.transport_count,
    });
    for (s.transports[0..s.transport_count], 0..) |*t, i| {
        try out.print("  transport {d}: {s} mtu {d} key {} heartbeat {d}/{d} ms ack {d}/{d} ms, " ++
            "messages to {d} bytes\n", .{
            t.id,                                if (t.is_multicast) "group" else "list",
            t.mtu,                               t.group_key != null,
            t.heartbeat_interval_ns / 1_000_000, t.heartbeat_timeout_ns / 1_000_000,
            t.ack_interval_ns / 1_000_000,       t.ack_timeout_ns / 1_000_000,
            s.sizes[i].max,
        });
    }
    try out.print("  tx {any} rx {any} configured {x} window {d} cache {d} arena {d} nodes {d} " ++
        "receive memory {d}\n", .{
        s.tx_mask[0..s.sender_count], s.rx_mask[0..s.receiver_count], s.configured,
        s.window_datagrams,           s.cache_messages,               s.arena_bytes,
        s.nodes,                      s.receive_bytes,
    });
    try out.print("  handshake {} slow_disconnect {} total_order {} messages {d} every {d} us " ++
        "burst {d} runs {d} handler {d} us batch {d} joined {}\n", .{
        s.handshake,               s.slow_disconnect, s.is_total_order, s.messages,
        s.publish_every_ns / 1000, s.publish_burst,   s.runs_per_step,  s.handler_ns / 1000,
        s.batch,                   s.joined_buffers,
    });
    if (s.tier.members != 0) try out.print("  {any}\n", .{s.tier});
    if (s.in_place.transports != 0) try out.print("  {any}\n", .{s.in_place});
    if (s.record.receivers != 0) try out.print("  {any}\n", .{s.record});
    try out.print("  {any}\n  {any}\n  residual loss {d} ppm, drift {d} ppm, safety {d} ms, " ++
        "{d} events\n", .{
        s.faults,                s.mishaps,       s.residual_loss_ppm, s.drift_ppm,
        s.safety_ns / 1_000_000, s.safety_events,
    });
}

pub fn totals(out: *Writer, t: *const Totals, seeds: u64, took_ns: u64) !void {
    const n = &t.network;
    const seconds = @as(f64, @floatFromInt(took_ns)) / 1e9;
    const rate = @as(f64, @floatFromInt(t.events)) / @max(seconds, 1e-9);
    const hours = @as(f64, @floatFromInt(t.virtual_ns)) / 3.6e12;
    try out.print("seeds {d}, events {d} ({d:.0}/s), virtual hours {d:.2}\n", .{
        seeds, t.events, rate, hours,
    });
    try out.print("datagrams: {d} sent, {d} arrived\n", .{ n.sent, n.arrived });
    try out.print("faults: lost {d}, lost in bursts {d}, cut off {d}, doubled {d}, corrupted " ++
        "{d}, delayed {d}, queues full {d},\n", .{
        n.lost, n.lost_in_bursts, n.cut, n.duplicated, n.corrupted, n.reordered, n.overflowed,
    });
    try out.print("  partitions {d}, pauses {d}, receivers killed {d}, senders killed {d}, " ++
        "files wiped {d}, messages torn {d},\n", .{
        t.partitions, t.pauses, t.receiver_kills, t.sender_kills, t.wipes, t.torn,
    });
    try out.print("  died inside an operation {d}, inside a start {d}, with a message that " ++
        "counts {d};\n  lives without a window {d}, published between stores {d}\n", .{
        t.deaths_inside, t.deaths_in_start, t.tails, t.lone_lives, t.published_between,
    });
    try out.print("  clean stops {d}, slow handlers {d}, batches refused {d}, send flags " ++
        "changed {d}, hostile datagrams {d}\n", .{
        t.stops, t.stalls, t.refusals, t.flag_changes, t.hostile,
    });
    try out.print("repair: {d} NAKs, {d} datagrams sent again; {d} sessions, {d} disconnects\n", .{
        t.naks, t.repairs, t.sessions, t.disconnects,
    });
    try out.print("messages: {d} published, {d} delivered and checked, {d} delivered again, {d} " ++
        "told as lost, {d} gaps given up, {d} times WOULD_BLOCK\n", .{
        t.published, t.delivered, t.redelivered, t.lost_told, t.gaps_given_up, t.would_block,
    });
    try out.print("records: {d} messages delivered again from them, {d} losses of power, {d} " ++
        "bits flipped, {d} disks full or failing\n", .{
        t.replayed, t.power_losses, t.flips, t.disk_failures,
    });
    try out.print("tiers: {d} leaders\n", .{t.leaders});
    try out.print("in place: {d} messages, {d} of them kept by nobody, {d} steps of " ++
        "senders with memory that waits, {d} steps between two stores\n", .{
        t.in_place, t.forgotten, t.pinned_steps, t.cuts,
    });
}

/// Everything about a run that stopped: for whoever replays a seed.
pub fn state(out: *Writer, c: *cluster_file.Cluster) !void {
    try out.print("at {d} ns, phase {t}\n", .{ c.now_ns, c.phase });
    for (c.windows[0..c.window_count]) |w| {
        const sender = w.sender orelse {
            try out.print("window {d} of {s}: not running\n", .{ w.index, w.node.name() });
            continue;
        };
        const local_ns = w.node.clock.local(c.now_ns);
        try out.print("window {d} of {s}: {t} connection ..{x} life {d} epoch {d} reclaimed {d} " ++
            "acked {d} sent {d}.{d} announced {d}.{d} written {d} credit {d} left {d} flag {} " ++
            "paused {d} free chunks {d}/{d}\n", .{
            w.index,                 w.node.name(),          sender.phase,
            w.connection,            w.life,                 w.published.epoch,
            w.window.reclaimed(),    w.window.acked(),       sender.sent.msg,
            sender.sent.frag,        sender.announced.msg,   sender.announced.frag,
            w.window.written(),      sender.credit(),        w.left,
            w.send_flag,             w.node.paused_until_ns, w.node.pool.free_count(),
            w.node.pool.chunk_count,
        });
        if (sender.repairs.peek()) |job| {
            try out.print("  {d} repairs, the first {d}.{d}..{d}.{d} for {d}, unicast {}\n", .{
                sender.repairs.count, job.start.msg, job.start.frag, job.end.msg,
                job.end.frag,         job.receiver,  job.unicast,
            });
        }
        if (w.shm) |shm| try places(out, shm);
        for (sender.peers.slice()) |*p| {
            try out.print("  peer {d} {s}: {t} configured {} acked {d}.{d} heard {d} us ago, " ++
                "progress {d} us ago, no_memory {}\n", .{
                p.id,                                 p.name_slice(),
                p.state,                              p.configured,
                p.acked.msg,                          p.acked.frag,
                (local_ns -| p.last_heard_ns) / 1000, (local_ns -| p.last_progress_ns) / 1000,
                p.no_memory,
            });
        }
    }
    for (c.receivers) |node| try receiver_state(out, c, node);
    try out.flush();
}

fn places(out: *Writer, shm: *const ShmPeers) !void {
    for (shm.places, 0..) |*entry, place| {
        const p = if (entry.*) |*p| p else continue;
        try out.print("  place {d} of context {d}: consumed {d} claimed {d} {d} pins\n", .{
            place, p.page.context_id, p.slot.consumed, p.slot.claimed, p.pins_count,
        });
    }
}

fn receiver_state(
    out: *Writer,
    c: *cluster_file.Cluster,
    node: *@import("receiver_node.zig").ReceiverNode,
) !void {
    try out.print("{s}: alive {} life {d} paused until {d} stalled until {d}", .{
        node.name(), node.alive, node.life, node.paused_until_ns, node.stalled_until_ns,
    });
    if (!node.alive) return out.print("\n", .{});
    try out.print(" log processed {d} ordered {d} free chunks {d}/{d} held {d}\n", .{
        node.log.processed_next(), node.log.ordered_next(), node.pool.free_count(),
        node.pool.chunk_count,     node.holding.used,
    });
    const local_ns = node.clock.local(c.now_ns);
    for (node.receiver.active()) |*x| {
        try out.print("  stream {d}/{d}: {t} connection ..{x} next {d}.{d} announced {d}.{d} " ++
            "acked {d}.{d} heard {d} us ago, held {d}, extent {d} no_memory {} gap due {d} us " ++
            "ack due {d} us ago\n", .{
            x.key.source,
            x.key.transport,
            x.phase,
            x.connection,
            x.next.msg,
            x.next.frag,
            x.announced.msg,
            x.announced.frag,
            x.acked.msg,
            x.acked.frag,
            (local_ns -| x.last_heard_ns) / 1000,
            x.detector.count,
            if (x.extent) |e| e.payload.len else 0,
            x.no_memory,
            (x.detector.due_ns -| local_ns) / 1000,
            (local_ns -| x.last_ack_ns) / 1000,
        });
    }
}
