//! The checkers at the senders of a simulated run: what a sender believes, frees and says.
//!
//! Most of it sees the sender from outside: datagrams that leave, events. Some invariants look at
//! both ends at once, because nobody inside can: what a sender believes that a receiver has, and
//! what the receiver has.

const std = @import("std");
const abi = @import("../abi.zig");
const frame = @import("../wire/frame.zig");
const limits = @import("../session/limits.zig");
const cluster_file = @import("cluster.zig");
const nodes = @import("sender_node.zig");
const peers_file = @import("../session/peers.zig");
const in_place = @import("in_place.zig");
const tier_members = @import("tier_members.zig");
const watch = @import("watch.zig");
const Address = @import("../transport/address.zig").Address;
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;
const Cluster = cluster_file.Cluster;
const Window = nodes.Window;
const Packet = @import("packet_simulator.zig").Packet;
const Position = frame.Position;
const key_of = watch.key_of;

/// What a sender is about to get.
pub fn before_sender_gets(
    c: *Cluster,
    packet: *const Packet,
    bytes: []align(8) const u8,
) void {
    if (packet.hostile or packet.corrupted) return;
    note_reported(c, c.windows[packet.to], bytes);
    if (c.scenario.hostile_every_ns > 0) c.hostile.record(packet, 0, bytes);
}

/// A sender in its handshake learns what receivers expect.
pub fn note_reported(c: *Cluster, w: *Window, bytes: []align(8) const u8) void {
    if (!w.first_open) return;
    const h = switch (frame.decode_header(bytes, c.scenario.cluster)) {
        .ok => |h| h,
        .refused => return,
    };
    if (frame.type_of(h).? != .syn_reply or h.connection() != w.connection) return;
    if (watch.window_of(c, h.source, h.transport) != w) return;
    w.reported = @max(w.reported, h.number);
    const reply = frame.decode_syn_reply(h) orelse return;
    for (c.receivers) |node| {
        if (node.id != reply.receiver or !in_place.is_read(node, w)) continue;
        w.answered_by[node.index] = reply.instance;
    }
}

/// Before the sender does anything: how it stands.
pub fn before_sender(c: *Cluster, w: *Window) void {
    w.join_before = join_at(c, w);
    if (w.shm == null) return;
    w.acked_before = w.window.acked();
    for (c.receivers) |node| {
        const peer = w.sender.?.peers.find(node.id);
        w.held_before[node.index] = if (peer) |p| held_in_place(c, w, p) else 0;
    }
}

/// Where a receiver without a position begins, by the rules.
pub fn join_at(c: *const Cluster, w: *const Window) u64 {
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
    tier_members.look(c, w);
    const reclaimed = w.window.reclaimed();
    const freed = reclaimed != w.reclaimed_seen;
    w.reclaimed_seen = reclaimed;
    w.has_laggard = in_place.has_laggard(c, w);
    for (c.receivers) |node| {
        const peer: ?*peers_file.Peer = sender.peers.find(node.id);
        const is_known = peer != null and node.alive and
            peer.?.instance == node.receiver.instance;
        const is_here = is_known and peer.?.state == .connected;
        const session = w.session[node.index];
        look_at_session(c, w, node, if (is_known) peer else null);
        look_at_processed(c, w, node, peer);
        // A member of a tier does not hold the window; its tier does.
        if (!is_here or c.scenario.tier.is_of(node.index)) {
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
        if (node.is_manual() and peer.?.acked.msg > node.unprocessed_of(w.index)) {
            c.verdict.fail(.false_ack, c.now_ns, "window {d} counts all below {d} as " ++
                "acknowledged by receiver {d}, whose program has acknowledged all below {d}", .{
                w.index, peer.?.acked.msg, node.index, node.unprocessed_of(w.index),
            });
        }
        // Of several frames in memory one may free, and the next connect.
        const is_new = w.shm != null and session != w.session[node.index];
        if (freed and is_new) w.freed[node.index] = @max(w.freed[node.index], reclaimed);
        if (freed and !is_new and reclaimed > stream.next.msg) {
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

/// Who reads in place still reads what it has taken: what it holds moves on when its program has
/// processed it.
fn look_at_processed(c: *Cluster, w: *Window, node: *ReceiverNode, peer: ?*peers_file.Peer) void {
    const acked = w.window.acked();
    if (w.shm == null or acked <= w.acked_before) return;
    // One that is not here any more, or came in this very step, does not hold the window.
    const instance = if (peer) |p| held_in_place(c, w, p) else 0;
    if (instance == 0 or instance != w.held_before[node.index]) return;
    if (!node.alive or instance != node.receiver.instance) return;
    if (acked <= node.in_place.processed[w.index] or acked <= node.unprocessed_of(w.index)) return;
    c.verdict.fail(.false_ack, c.now_ns, "window {d} counts all below {d} as acknowledged; " ++
        "receiver {d} reads it in place, and its program has processed all below {d}", .{
        w.index, acked, node.index, node.unprocessed_of(w.index),
    });
}

/// For which life of the receiver the window is held; 0: it is not, or not in place.
fn held_in_place(c: *Cluster, w: *const Window, peer: *const peers_file.Peer) u64 {
    switch (peer.state) {
        .connected => return if (peer.address.ip == 0) peer.instance else 0,
        .confirming => {
            if (w.node.clock.local(c.now_ns) >= peer.hold_until_ns) return 0;
            const offered = peer.candidate.token != 0;
            const address = if (offered) peer.candidate.address else peer.address;
            if (address.ip != 0) return 0;
            return if (offered) peer.candidate.instance else peer.instance;
        },
        .known, .disconnected => return 0,
    }
}

/// What a receiver has processed before it ended is acknowledged.
pub fn look_at_last_words(c: *Cluster, w: *Window, node: *ReceiverNode, processed: ?u64) void {
    const to = processed orelse return;
    // As for the sender (`on_consumed`): a position from before its numbers began anew counts for
    // nothing.
    if (to > w.window.written()) return;
    const peer = w.sender.?.peers.find(node.id) orelse return;
    if (peer.acked.msg >= to) return;
    c.verdict.fail(.false_ack, c.now_ns, "window {d}: receiver {d} has processed all below {d} " ++
        "and is gone; {d} counts as acknowledged", .{ w.index, node.index, to, peer.acked.msg });
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
    if (first != w.reported) {
        c.verdict.fail(.join_at, c.now_ns, "window {d} begins at {d} after its handshake; the " ++
            "highest number reported was {d}", .{ w.index, first, w.reported });
    }
    for (c.receivers) |node| {
        if (!node.alive or w.answered_by[node.index] != node.receiver.instance) continue;
        const stream = node.receiver.find(key_of(c, w)) orelse continue;
        if (stream.next.msg <= first) continue;
        c.verdict.fail(.join_at, c.now_ns, "window {d} begins at {d} after its handshake; " ++
            "receiver {d} has all below {d} and drops them", .{
            w.index, first, node.index, stream.next.msg,
        });
    }
    w.published.now().* = .{ .first = first, .written = first };
    tier_members.first_known(c, w, first);
    w.first_open = false;
    w.connection_first = first;
    w.started_ns = w.node.clock.local(c.now_ns);
    for (&w.freed) |*freed| freed.* = @max(freed.*, first);
}

/// The life of a window's sender is over: what it freed for those who were not there stays freed.
pub fn window_ends(c: *Cluster, w: *Window) void {
    if (w.sender == null) return;
    after_sender(c, w);
    window_dies(c, w);
}

/// The same where the process died inside an operation: what it believed then is not known.
pub fn window_dies(c: *Cluster, w: *Window) void {
    const sender = w.sender orelse return;
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
            const is_here = node.control.eql(to.?) or in_place.receiver_at(c, w, to.?) == node;
            if (!node.alive or !is_here) continue;
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
        .heartbeat => look_at_told(c, w, h.number, "is told by a heartbeat"),
        else => {},
    }
}

/// While the send flag is off, heartbeats end in front of what was numbered since.
pub fn look_at_told(c: *Cluster, w: *Window, told: u64, comptime who: []const u8) void {
    const ranges = w.unsent.items;
    if (w.send_flag or ranges.len == 0) return;
    const last = ranges[ranges.len - 1];
    if (last.end + 1 != w.window.written()) return;
    if (told <= @max(last.start, w.window.acked(), w.told_below)) return;
    c.verdict.fail(.told, c.now_ns, "window {d}: all below {d} " ++ who ++ "; from {d} " ++
        "on they were numbered while the send flag was off", .{ w.index, told, last.start });
}

fn confirm_leaves(c: *Cluster, w: *Window, node: *ReceiverNode, h: *const frame.Header) void {
    // To this life of the receiver, not to one that was before at the same address.
    const peer = w.sender.?.peers.find(node.id) orelse return;
    if (peer.candidate.instance != node.receiver.instance) return;
    const check = &node.checks[w.index];
    check.offer(h.connection(), h.number);
    if (check.has_position) return;
    if (c.scenario.tier.is_member(node.index)) {
        return tier_members.look_at_begin(c, w, node, h.number);
    }
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
