//! The checkers at the receivers of a simulated run: what a receiver says, tells its program, and
//! delivers, against the model.

const std = @import("std");
const abi = @import("../abi.zig");
const frame = @import("../wire/frame.zig");
const limits = @import("../session/limits.zig");
const record = @import("../order/record.zig");
const scenario_file = @import("scenario.zig");
const cluster_file = @import("cluster.zig");
const model = @import("model.zig");
const nodes = @import("sender_node.zig");
const in_place = @import("in_place.zig");
const recorded = @import("recorded.zig");
const tier_members = @import("tier_members.zig");
const watch = @import("watch.zig");
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;
const Cluster = cluster_file.Cluster;
const Window = nodes.Window;
const Packet = @import("packet_simulator.zig").Packet;
const key_of = watch.key_of;
const window_of = watch.window_of;
const window_by_name = watch.window_by_name;

const ms = scenario_file.ms;

/// What a receiver is about to get.
pub fn before_receiver(
    c: *Cluster,
    node: *ReceiverNode,
    packet: *const Packet,
    bytes: []align(8) const u8,
) void {
    // A copy of what an earlier life got is news to this one.
    if (packet.hostile and (packet.life == 0 or packet.life == node.life)) return;
    var left = bytes;
    while (left.len > 0) {
        const h = switch (frame.decode_header(left, c.scenario.cluster)) {
            .ok => |h| h,
            .refused => return,
        };
        receiver_hears(c, node, packet, h, left[0..h.length]);
        left = @alignCast(left[h.length..]);
    }
}

fn receiver_hears(
    c: *Cluster,
    node: *ReceiverNode,
    packet: *const Packet,
    h: *const frame.Header,
    bytes: []const u8,
) void {
    const w = window_of(c, h.source, h.transport) orelse return;
    // Who is read in place is heard through memory only.
    if (in_place.is_read(node, w) != (packet.from.ip == 0)) return;
    switch (frame.type_of(h).?) {
        .data, .fragment, .heartbeat => {
            const stream = node.receiver.find(key_of(c, w)) orelse return;
            if (stream.connection != h.connection()) return;
            node.heard_ns[w.index] = node.clock.local(c.now_ns);
            node.heard_data_ns[w.index] = node.heard_ns[w.index];
            // The intruder copies what was accepted here: none of it counts a second time.
            if (stream.phase != .started) return;
        },
        .confirm => node.heard_ns[w.index] = node.clock.local(c.now_ns),
        else => {},
    }
    if (c.scenario.hostile_every_ns > 0 and !packet.hostile) {
        c.hostile.record(packet, node.life, bytes);
    }
}

/// A datagram of a receiver on its way out.
pub fn leaves_receiver(c: *Cluster, node: *ReceiverNode, bytes: []align(8) const u8) void {
    const h: *const frame.Header = @ptrCast(bytes.ptr);
    c.note(h.number ^ @as(u64, h.check) << 32 ^ @as(u64, h.type) << 24 ^ bytes.len);
    const w = window_of(c, h.source, h.transport) orelse return;
    if (frame.type_of(h).? == .ack) tier_members.told(c, node, w, h);
    if (frame.type_of(h).? != .syn_reply) return;
    const stream = node.receiver.find(key_of(c, w)) orelse return;
    if (stream.phase != .started or h.connection() >= stream.connection) return;
    c.verdict.fail(.session, c.now_ns, "receiver {d} answers connection ..{x} of window {d}; it " ++
        "has a session with the later ..{x}", .{
        node.index, h.connection() & 0xffff_ffff, w.index, stream.connection & 0xffff_ffff,
    });
}

/// After a step of a receiver: events and log lines.
pub fn after_receiver(c: *Cluster, node: *ReceiverNode) void {
    const receiver = node.receiver;
    if (!node.alive or receiver.notices.empty()) return;
    var out: [limits.notices_max]abi.Notice = undefined;
    for (out[0..receiver.notices.pop(&out)]) |*n| {
        const w = window_by_name(c, n.name[0..n.name_len], n.transport_id) orelse continue;
        if (n.kind == @backingInt(abi.NoticeKind.event)) {
            receiver_event(c, node, w, @fromBackingInt(n.code), &n.args);
        } else if (n.kind == @backingInt(abi.NoticeKind.log)) {
            receiver_log(c, node, w, @fromBackingInt(n.code), &n.args);
        }
    }
    if (node.out_of_sync_due != null) {
        c.verdict.fail(.honesty, c.now_ns, "receiver {d}: MESSAGE_LOSS without OUT_OF_SYNC", .{
            node.index,
        });
    }
}

/// The life of a receiver is over: what it did not get is nobody's loss.
pub fn life_ends(c: *Cluster, node: *ReceiverNode) void {
    after_receiver(c, node);
}

fn range_of(args: *const [4]f64) model.Range {
    return .{ .start = @intFromFloat(args[0]), .end = @intFromFloat(args[1]) };
}

fn receiver_event(
    c: *Cluster,
    node: *ReceiverNode,
    w: *Window,
    code: abi.EventType,
    args: *const [4]f64,
) void {
    if (node.out_of_sync_due) |due| {
        node.out_of_sync_due = null;
        const same = code == .out_of_sync and std.meta.eql(due, range_of(args));
        if (!same) c.verdict.fail(.honesty, c.now_ns, "receiver {d}: behind MESSAGE_LOSS comes " ++
            "{t} {d}..{d}", .{ node.index, code, args[0], args[1] });
        return;
    }
    switch (code) {
        .message_loss => {
            const r = range_of(args);
            const check = &node.checks[w.index];
            check.lose(c.gpa, &c.verdict, c.now_ns, r);
            if (c.verdict.violation != null) return;
            judge_loss(c, node, w, r);
            c.totals.lost_told += r.end - r.start + 1;
            if (c.scenario.is_total_order) node.out_of_sync_due = r;
        },
        .out_of_sync => c.verdict.fail(.honesty, c.now_ns, "receiver {d}: OUT_OF_SYNC alone", .{
            node.index,
        }),
        .fill_gap => gap_told(c, node, w, range_of(args)),
        .heartbeat_timeout => heartbeat_timeout(c, node, w),
        .new_transmitter => node.has_transmitter[w.transport] = true,
        .no_transmitter => {
            if (!node.has_transmitter[w.transport]) {
                c.verdict.fail(.events, c.now_ns, "receiver {d}: NO_TRANSMITTER, and there was " ++
                    "none", .{node.index});
            }
            node.has_transmitter[w.transport] = false;
        },
        else => c.verdict.fail(.events, c.now_ns, "receiver {d}: event {t}", .{
            node.index, code,
        }),
    }
}

fn gap_told(c: *Cluster, node: *ReceiverNode, w: *Window, r: model.Range) void {
    const check = &node.checks[w.index];
    const local_ns = node.clock.local(c.now_ns);
    const too_soon = check.gap_told_ns != 0 and
        local_ns < check.gap_told_ns + limits.gap_event_interval_ns;
    if (too_soon or r.start > r.end) {
        c.verdict.fail(.events, c.now_ns, "receiver {d}: FILL_GAP {d}..{d} {d} ms after " ++
            "the last", .{
            node.index, r.start, r.end, (local_ns - check.gap_told_ns) / ms,
        });
    }
    check.gap_told_ns = local_ns;
}

fn heartbeat_timeout(c: *Cluster, node: *ReceiverNode, w: *Window) void {
    const check = &node.checks[w.index];
    if (check.is_silent) c.verdict.fail(.events, c.now_ns, "receiver {d}: HEARTBEAT_TIMEOUT of " ++
        "window {d} twice in one silence", .{ node.index, w.index });
    check.is_silent = true;
    const t = &c.scenario.transports[w.transport];
    const local_ns = node.clock.local(c.now_ns);
    const heard_ns = node.heard_data_ns[w.index];
    // A copy that the network made of a sealed datagram is refused, and rightly.
    if (t.group_key != null or local_ns >= heard_ns + t.heartbeat_timeout_ns) return;
    c.verdict.fail(.events, c.now_ns, "receiver {d}: HEARTBEAT_TIMEOUT of window {d}, heard {d} " ++
        "us ago", .{ node.index, w.index, (local_ns - heard_ns) / 1000 });
}

fn receiver_log(
    c: *Cluster,
    node: *ReceiverNode,
    w: *Window,
    code: abi.LogKey,
    args: *const [4]f64,
) void {
    switch (code) {
        .session_agreed_rx => {
            const low: u32 = @intFromFloat(args[0]);
            const check = &node.checks[w.index];
            check.agreed(&c.verdict, c.now_ns, low, @intFromFloat(args[2]));
        },
        .sender_wiped_rx => if (w.published.epoch == 0) {
            c.verdict.fail(.events, c.now_ns, "receiver {d}: window {d} is said to be wiped, " ++
                "and never was", .{ node.index, w.index });
        },
        .gap_given_up => {
            c.totals.gaps_given_up += 1;
            node.given_up = range_of(args);
            judge_give_up(c, node, w);
        },
        else => {},
    }
}

/// The receiver asked for ten heartbeat timeouts and got nothing: something must have been wrong
/// between the two, or on the sender's side.
fn judge_give_up(c: *Cluster, node: *ReceiverNode, w: *Window) void {
    const f = &c.scenario.faults;
    if (f.burst_ppm > 0 or f.loss_ppm > 100_000 or f.uplink_loss_ppm > 100_000) return;
    if (c.scenario.kind == .hostile_blind) return;
    if (c.now_ns < c.unrepairable_ns[w.node.index][node.index]) return;
    const r = node.given_up.?;
    c.verdict.fail(.loss_without_cause, c.now_ns, "receiver {d} gave up {d}..{d} of window {d}; " ++
        "nothing was wrong between the two", .{ node.index, r.start, r.end, w.index });
}

/// Every number of a loss must be gone for a reason.
fn judge_loss(c: *Cluster, node: *ReceiverNode, w: *Window, r: model.Range) void {
    if (node.given_up) |given_up| {
        node.given_up = null;
        if (std.meta.eql(given_up, r)) return;
    }
    var no = @max(r.start, w.freed[node.index]);
    while (no <= r.end) : (no += 1) {
        if (w.is_torn(node.checks[w.index].epoch, no)) continue;
        if (over_memory(node, w, no)) continue;
        return c.verdict.fail(.loss_without_cause, c.now_ns, "receiver {d}: loss {d}..{d} of " ++
            "window {d}, but the sender has {d} (freed below {d})", .{
            node.index, r.start, r.end, w.index, no, w.freed[node.index],
        });
    }
}

fn over_memory(node: *const ReceiverNode, w: *const Window, no: u64) bool {
    for (0..w.published.epoch + 1) |epoch| {
        const length = w.published.content(@intCast(epoch), no).length;
        if (length > node.log.payload_bytes_max()) return true;
    }
    return false;
}

/// A message that the receiving program gets.
pub fn delivered(c: *Cluster, node: *ReceiverNode, d: *const record.Descriptor) void {
    const h = node.log.header_of(d);
    c.note(h.sqn ^ h.msg_no << 20);
    const sqn: u64 = @intFromFloat(d.sqn);
    if (node.seen_at(sqn)) |seen| {
        c.totals.redelivered += 1;
        const same = seen.stream == d.stream and seen.number == h.msg_no and
            seen.length == d.length and seen.arg == d.args;
        if (!same) c.verdict.fail(.sqn, c.now_ns, "receiver {d}: another message at sqn {d} " ++
            "when it is offered again", .{ node.index, sqn });
        return;
    }
    if (sqn != node.next_sqn) {
        c.verdict.fail(.sqn, c.now_ns, "receiver {d}: sqn {d}, {d} was to come", .{
            node.index, sqn, node.next_sqn,
        });
    }
    node.next_sqn = sqn + 1;
    const seen = node.remember(d, h.msg_no);
    const stream = &node.receiver.streams[d.stream];
    const w = window_of(c, stream.key.source, stream.key.transport) orelse {
        return c.verdict.fail(.integrity, c.now_ns, "receiver {d}: a message of nobody", .{
            node.index,
        });
    };
    if (d.args >> 16 != nodes.SenderNode.tx_arg(w) or !node.listens(w.transport)) {
        c.verdict.fail(.integrity, c.now_ns, "receiver {d}: txArg {d} from window {d}", .{
            node.index, d.args >> 16, w.index,
        });
    }
    seen.window = w.index;
    if (recorded.delivered(c, node, d, w)) {
        seen.epoch = node.record.?.history.items[@intCast(sqn)].epoch;
        return;
    }
    const check = &node.checks[w.index];
    // Who reads in place may have what its sender did not live to finish, copied or not.
    w.published.now().has_tail = w.in_flight and in_place.is_read(node, w);
    const bytes = in_place.true_bytes(c, node, w, d, h.msg_no);
    check.deliver(&c.verdict, c.now_ns, &w.published, h.msg_no, bytes, @truncate(d.args));
    recorded.remember(node, d, w, check.epoch);
    seen.epoch = check.epoch;
    seen.life = w.life;
    if (d.region > 0) c.totals.in_place += 1;
    c.totals.delivered += 1;
    node.delivered += 1;
}

/// The program is done with the next `count` messages: until now it could read them.
pub fn processed(c: *Cluster, node: *ReceiverNode, count: u64) void {
    for (node.seen.items[node.seen_first..][0..@intCast(count)]) |*seen| {
        const r = &node.in_place;
        if (seen.region == 0) continue;
        in_place.look_at_processed(c, node, seen);
        r.processed[seen.window] = seen.number + 1;
        const slot = node.receiver.streams[seen.stream].slot.?;
        @atomicStore(u64, &slot.consumed, seen.number + 1, .release);
    }
}
