//! The checkers of a simulated run: what nodes do is compared with the model after every step.
//!
//! Most of it sees the system from outside: datagrams that leave, messages that programs get,
//! events. Some invariants look at both ends at once, because nobody inside can: what a sender
//! believes that a receiver has, and what the receiver has.
//!
//! Long because it is the list of everything that must hold, one function a property.

const std = @import("std");
const abi = @import("../abi.zig");
const frame = @import("../wire/frame.zig");
const limits = @import("../session/limits.zig");
const record = @import("../order/record.zig");
const scenario_file = @import("scenario.zig");
const cluster_file = @import("cluster.zig");
const model = @import("model.zig");
const nodes = @import("sender_node.zig");
const stream_file = @import("../session/stream.zig");
const peers_file = @import("../session/peers.zig");
const Address = @import("../transport/address.zig").Address;
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;
const Cluster = cluster_file.Cluster;
const Timer = cluster_file.Timer;
const Window = nodes.Window;
const Packet = @import("packet_simulator.zig").Packet;
const Position = frame.Position;

const ms = scenario_file.ms;
const s = scenario_file.s;
const look_every_ns = 20 * ms;

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

fn window_of(c: *Cluster, source: u16, transport: u16) ?*Window {
    for (c.windows[0..c.window_count]) |w| {
        if (w.node.id == source and c.scenario.transports[w.transport].id == transport) return w;
    }
    return null;
}

fn window_by_name(c: *Cluster, name: []const u8, transport: u32) ?*Window {
    for (c.windows[0..c.window_count]) |w| {
        if (c.scenario.transports[w.transport].id != transport) continue;
        if (std.mem.eql(u8, w.node.name(), name)) return w;
    }
    return null;
}

fn key_of(c: *const Cluster, w: *const Window) stream_file.Key {
    return .{
        .tier = false,
        .source = w.node.id,
        .transport = c.scenario.transports[w.transport].id,
    };
}

// -------------------------------------------------------------------- sender

/// What a sender is about to get.
pub fn before_sender_gets(c: *Cluster, packet: *const Packet, bytes: []const u8) void {
    if (c.scenario.hostile_every_ns == 0 or packet.hostile) return;
    c.hostile.record(packet, 0, bytes);
}

/// Before the sender does anything: how it stands.
pub fn before_sender(c: *Cluster, w: *Window) void {
    w.join_before = join_at(c, w);
}

/// Where a receiver without a position begins, by the rules.
fn join_at(c: *const Cluster, w: *const Window) u64 {
    const local_ns = w.node.clock.local(c.now_ns);
    const ack_timeout_ns = c.scenario.transports[w.transport].ack_timeout_ns;
    const at_first = !w.was_connected or local_ns < w.started_ns + ack_timeout_ns;
    return @max(if (at_first) w.connection_first else w.window.acked(), w.window.reclaimed());
}

/// After a step of the sender: what it believes and frees must be true.
pub fn after_sender(c: *Cluster, w: *Window) void {
    const sender = w.sender.?;
    if (w.first_open and sender.phase == .started) note_first(c, w);
    sender_notices(c, w);
    const reclaimed = w.window.reclaimed();
    const freed = reclaimed != w.reclaimed_seen;
    w.reclaimed_seen = reclaimed;
    for (c.receivers) |node| {
        const peer: ?*peers_file.Peer = sender.peers.find(node.id);
        const is_known = peer != null and node.alive and
            peer.?.instance == node.receiver.instance;
        const is_here = is_known and peer.?.state == .connected;
        look_at_session(c, w, node, if (is_known) peer else null);
        if (!is_here) {
            w.freed[node.index] = @max(w.freed[node.index], reclaimed);
            continue;
        }
        const stream = node.receiver.find(key_of(c, w)) orelse continue;
        if (stream.connection != w.connection) continue;
        // A part of a message may be given up again, as long as the sender keeps the message.
        if (peer.?.acked.msg > stream.next.msg) {
            c.verdict.fail(.false_ack, c.now_ns, "window {d} counts all below {d} as " ++
                "acknowledged by receiver {d}, which is at {d}.{d}", .{
                w.index, peer.?.acked.msg, node.index, stream.next.msg, stream.next.frag,
            });
        }
        if (freed and reclaimed > stream.next.msg) {
            c.verdict.fail(.freed_early, c.now_ns, "window {d} freed all below {d}; receiver " ++
                "{d} is connected and at {d}", .{
                w.index,
                reclaimed,
                node.index,
                stream.next.msg,
            });
        }
    }
    if (sender.sent.less(w.sent_seen)) {
        // Nobody listened so far: it begins again, and so does the count.
        w.shadow_count = 0;
        w.shadow_last_is_fragment = false;
    }
    w.sent_seen = sender.sent;
    const local_ns = w.node.clock.local(c.now_ns);
    pop_shadow(w, .{ .msg = w.window.acked() });
    if (nodes.lowest(w, sender, local_ns)) |low| return pop_shadow(w, low);
    // When the last who held let go, the window may have moved between two of them.
    while (w.shadow_count > sender.inflight_count) drop_shadow(w);
}

/// A session ends by a word of the sender, or when the receiver takes a new one.
fn look_at_session(c: *Cluster, w: *Window, node: *ReceiverNode, peer: ?*peers_file.Peer) void {
    const token = &w.session[node.index];
    const had = token.*;
    const ended = w.session_ended[node.index];
    w.session_ended[node.index] = false;
    token.* = 0;
    const p = peer orelse return;
    if (p.state == .connected) {
        token.* = p.session_token;
    } else if (had != 0 and had == p.session_token and !ended) {
        c.verdict.fail(.session, c.now_ns, "window {d}: the session of receiver {d} is {t}, and " ++
            "nobody ended it", .{ w.index, node.index, p.state });
    }
}

fn note_first(c: *Cluster, w: *Window) void {
    const first = w.window.written();
    w.published.now().* = .{ .first = first, .written = first };
    w.first_open = false;
    w.connection_first = first;
    w.started_ns = w.node.clock.local(c.now_ns);
    for (&w.freed) |*freed| freed.* = @max(freed.*, first);
}

/// The life of a receiver is over: what it did not get is nobody's loss.
pub fn life_ends(c: *Cluster, node: *ReceiverNode) void {
    after_receiver(c, node);
}

/// The life of a window's sender is over: what it freed for those who were not there stays freed.
pub fn window_ends(c: *Cluster, w: *Window) void {
    const sender = w.sender orelse return;
    after_sender(c, w);
    c.totals.naks += sender.counters.naks_received;
    c.totals.repairs += sender.counters.repairs_sent;
    c.totals.disconnects += sender.counters.disconnects;
    // In its next life everybody begins as a stranger.
    for (&w.freed) |*freed| freed.* = @max(freed.*, w.window.reclaimed());
}

fn sender_notices(c: *Cluster, w: *Window) void {
    const sender = w.sender.?;
    if (sender.notices.empty()) return;
    var out: [limits.notices_max]abi.Notice = undefined;
    for (out[0..sender.notices.pop(&out)]) |*n| {
        const name = n.name[0..n.name_len];
        if (n.kind == @backingInt(abi.NoticeKind.event)) {
            sender_event(c, w, @fromBackingInt(n.code), name);
        } else if (n.kind == @backingInt(abi.NoticeKind.log)) {
            sender_log(c, w, @fromBackingInt(n.code), name);
        }
    }
}

fn sender_event(c: *Cluster, w: *Window, code: abi.EventType, name: []const u8) void {
    switch (code) {
        .new_receiver => {
            w.was_connected = true;
            w.has_receivers = true;
            c.totals.sessions += 1;
        },
        .no_receiver => {
            if (!w.has_receivers) c.verdict.fail(.events, c.now_ns, "window {d}: NO_RECEIVER " ++
                "({s}), and there was none", .{ w.index, name });
            w.has_receivers = false;
        },
        else => c.verdict.fail(.events, c.now_ns, "window {d}: event {t} at a sender", .{
            w.index, code,
        }),
    }
}

fn sender_log(c: *Cluster, w: *Window, code: abi.LogKey, name: []const u8) void {
    if (code != .receiver_disconnected and code != .slow_receiver_disconnected) return;
    for (c.receivers) |node| {
        if (!std.mem.eql(u8, node.name(), name)) continue;
        w.session_ended[node.index] = true;
        if (code != .receiver_disconnected) return;
        if (!c.scenario.is_calm() or c.now_ns < c.disturbed_ns[w.node.index][node.index]) return;
        c.verdict.fail(.events, c.now_ns, "window {d}: receiver {d} was disconnected as silent, " ++
            "and nothing was wrong with it", .{ w.index, node.index });
    }
}

/// A datagram of the window on its way out.
pub fn leaves_window(c: *Cluster, w: *Window, bytes: []align(8) const u8, to: ?Address) void {
    const h: *const frame.Header = @ptrCast(bytes.ptr);
    c.note(h.number ^ @as(u64, h.check) << 32 ^ @as(u64, h.type) << 24 ^ bytes.len);
    switch (frame.type_of(h).?) {
        .confirm => for (c.receivers) |node| {
            if (!node.alive or !node.control.eql(to.?)) continue;
            confirm_leaves(c, w, node, h);
        },
        .data, .fragment => |kind| if (!h.flags().repair) {
            push_shadow(c, w, .{ .msg = h.number }, kind == .fragment);
            for (w.unsent.items) |r| {
                if (h.number < r.start or h.number > r.end) continue;
                c.verdict.fail(.told, c.now_ns, "window {d}: message {d} is sent; it was " ++
                    "numbered while the send flag was off", .{ w.index, h.number });
            }
        },
        .heartbeat => look_at_told(c, w, h.number),
        else => {},
    }
}

/// While the send flag is off, heartbeats end in front of what was numbered since.
fn look_at_told(c: *Cluster, w: *Window, told: u64) void {
    const ranges = w.unsent.items;
    if (w.send_flag or ranges.len == 0) return;
    const last = ranges[ranges.len - 1];
    if (last.end + 1 != w.window.written()) return;
    if (told <= @max(last.start, w.window.acked(), w.told_below)) return;
    c.verdict.fail(.told, c.now_ns, "window {d}: a heartbeat tells of all below {d}; from {d} " ++
        "on they were numbered while the send flag was off", .{ w.index, told, last.start });
}

fn confirm_leaves(c: *Cluster, w: *Window, node: *ReceiverNode, h: *const frame.Header) void {
    // To this life of the receiver, not to one that was before at the same address.
    const peer = w.sender.?.peers.find(node.id) orelse return;
    if (peer.candidate.instance != node.receiver.instance) return;
    const check = &node.checks[w.index];
    check.offer(h.connection(), h.number);
    if (check.has_position) return;
    const now = join_at(c, w);
    const low = @min(now, @min(w.join_before, w.join_old));
    if (h.number >= low and h.number <= @max(now, w.join_before)) return;
    c.verdict.fail(.join_at, c.now_ns, "window {d} lets receiver {d} begin at {d}; by the rules " ++
        "it is {d} (lately {d})", .{ w.index, node.index, h.number, now, low });
}

// ---- datagrams that are new and not acknowledged

fn push_shadow(c: *Cluster, w: *Window, at: Position, is_fragment: bool) void {
    var begin = at;
    if (is_fragment and w.shadow_last.msg == at.msg and w.shadow_last_is_fragment) {
        begin.frag = w.shadow_last.frag + 1;
    }
    w.shadow_last = begin;
    w.shadow_last_is_fragment = is_fragment;
    if (w.shadow_count >= w.shadow.len or w.shadow_count >= c.scenario.window_datagrams) {
        return c.verdict.fail(.window, c.now_ns, "window {d}: more than {d} datagrams are not " ++
            "acknowledged", .{ w.index, c.scenario.window_datagrams });
    }
    w.shadow[(w.shadow_first + w.shadow_count) % w.shadow.len] = begin;
    w.shadow_count += 1;
}

fn pop_shadow(w: *Window, low: Position) void {
    while (w.shadow_count > 0) {
        if (!w.shadow[w.shadow_first].less(low)) return;
        drop_shadow(w);
    }
}

fn drop_shadow(w: *Window) void {
    w.shadow_first = (w.shadow_first + 1) % @as(u32, w.shadow.len);
    w.shadow_count -= 1;
}

// -------------------------------------------------------------------- receiver

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
    if (frame.type_of(h).? != .syn_reply) return;
    const w = window_of(c, h.source, h.transport) orelse return;
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
            judge_loss(c, node, w, r);
            c.totals.lost_told += r.end - r.start + 1;
            if (c.scenario.is_total_order) node.out_of_sync_due = r;
        },
        .out_of_sync => c.verdict.fail(.honesty, c.now_ns, "receiver {d}: OUT_OF_SYNC alone", .{
            node.index,
        }),
        .fill_gap => gap_told(c, node, w, range_of(args)),
        .heartbeat_timeout => heartbeat_timeout(c, node, w),
        .new_transmitter, .no_transmitter => {},
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
        if (std.mem.indexOfScalar(u64, w.torn.items, no) != null) continue;
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
    node.remember(d, h.msg_no);
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
    const check = &node.checks[w.index];
    const bytes = node.log.payload_of(d);
    check.deliver(&c.verdict, c.now_ns, &w.published, h.msg_no, bytes, @truncate(d.args));
    c.totals.delivered += 1;
    node.delivered += 1;
}

// -------------------------------------------------------------------- now and then

/// Looks at everything: whether the phase is over, whether something moves, who is dead or silent.
pub fn look(c: *Cluster) void {
    const t = &c.scenario.transports[0];
    const every_ns = @max(look_every_ns, t.heartbeat_interval_ns / 4);
    c.timers[Timer.look] = c.now_ns + every_ns;
    for (c.windows[0..c.window_count]) |w| {
        look_at_dead(c, w);
        w.join_old = w.join_lately;
        w.join_lately = if (w.sender == null) 0 else join_at(c, w);
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
    const slack_ns = t.ack_timeout_ns / 1000 + 2 * (f.delay_ns + f.jitter_ns + f.reorder_ns) + ms;
    for (c.receivers) |node| {
        if (node.alive) continue;
        const peer = sender.peers.find(node.id) orelse continue;
        // What it said before may be read when the sender goes on.
        const since_ns = @max(c.mishaps.dead_since_ns[node.index], w.node.paused_until_ns);
        const dead_ns = c.now_ns -| since_ns;
        if (peer.state != .connected or dead_ns <= t.ack_timeout_ns + slack_ns) continue;
        c.verdict.fail(.dead_receiver, c.now_ns, "window {d}: receiver {d} is dead for {d} ms " ++
            "and still connected", .{ w.index, node.index, dead_ns / ms });
    }
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
    for (c.windows[0..c.window_count]) |w| w.quiet_sent = w.sender.?.counters.datagrams_sent;
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
            window_ends(c, w);
            if (w.window.reclaimed() != w.window.written()) all_acked = false;
        }
        if (!all_acked) continue;
        node.bump.close();
        node.bump = @import("../window/pool.zig").Bump.init(&node.pool).?;
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
