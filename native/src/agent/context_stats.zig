//! Puts the statistics of a context together (`rcm_stats`): a snapshot for
//! `src/observe/statistics.ts`. Each agent is read while its token is held, so its numbers fit
//! together.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const snapshot = @import("../stats/snapshot.zig");
const clock = @import("clock.zig");
const in_place = @import("../session/sender_in_place.zig");
const Context = @import("context.zig").Context;
const TxChannel = @import("tx_channel.zig").TxChannel;
const Peer = @import("../session/peers.zig").Peer;
const Stream = @import("../session/stream.zig").Stream;
const tier_stats = @import("tier_stats.zig");
const TierAgent = @import("tier_agent.zig").TierAgent;
const RxAgent = @import("rx_agent.zig").RxAgent;
const Latency = @import("../stats/latency.zig").Latency;
const ChunkPool = @import("../window/pool.zig").ChunkPool;

const role_init = 0x01;
const role_single = 0x11;
const ns_per_ms = clock.ns_per_ms;

pub fn write(self: *Context, buffer: []u8) usize {
    var w: snapshot.Writer = .{ .buffer = buffer };
    // In this order, as the receive agent of a tier tells the send agents of its role.
    if (self.rx) |rx| rx.token.take();
    defer if (self.rx) |rx| rx.token.give();
    for (self.channels) |c| {
        c.token.take();
        const shm = if (c.shm) |*shm| shm else continue;
        shm.collect(clock.monotonic_ns(), &c.sender);
        in_place.tell_in_place(&c.sender);
    }
    defer for (self.channels) |c| c.token.give();
    w.put(header(self));
    for (self.transmitters, 0..) |*t, i| {
        for (t.channels) |c| {
            w.put(tx_stats(self, c, @intCast(i)));
            w.put(latency_stats(c.latency));
            for (c.sender.peers.slice()) |*p| w.put(ack_stats(p));
        }
    }
    if (self.rx) |rx| {
        for (rx.receiver.active()) |*s| w.put(rx_stats(rx, s));
    }
    w.put(deliver_stats(self));
    w.put(latency_stats(if (self.rx) |rx| rx.log.latency else null));
    if (self.rx) |rx| if (rx.tier) |tier| tier_stats.write(tier, &w);
    return w.finish();
}

fn add_drops(h: *snapshot.StatsHeader, c: anytype) void {
    add_refused(h, &c.refused);
    h.dropped_out_of_range += c.out_of_range;
    h.dropped_unknown_stream += c.unknown_stream;
    h.dropped_bad_token += c.bad_token;
    h.dropped_unauthenticated += c.unauthenticated;
    h.dropped_replayed += c.replayed;
}

/// What the tier's sockets got and sent belongs to the context.
fn add_tier(h: *snapshot.StatsHeader, t: *const TierAgent) void {
    const c = &t.member.counters;
    h.datagrams_sent += t.sent_datagrams;
    h.bytes_sent += t.sent_bytes;
    h.datagrams_received += t.received_datagrams;
    h.bytes_received += t.received_bytes;
    h.send_failures += t.send_failures;
    if (t.last_errno != 0) h.last_errno = t.last_errno;
    add_refused(h, &c.refused);
    h.dropped_out_of_range += c.out_of_range;
    h.dropped_unauthenticated += c.unauthenticated;
    h.dropped_replayed += c.replayed;
}

fn add_refused(h: *snapshot.StatsHeader, r: []const u64) void {
    h.dropped_bad_magic += r[@backingInt(frame.Refusal.bad_magic)];
    h.dropped_bad_length += r[@backingInt(frame.Refusal.bad_length)];
    h.dropped_bad_check += r[@backingInt(frame.Refusal.bad_check)];
    h.dropped_other_cluster += r[@backingInt(frame.Refusal.other_cluster)];
    h.dropped_unknown_type += r[@backingInt(frame.Refusal.unknown_type)];
    h.dropped_out_of_range += r[@backingInt(frame.Refusal.out_of_range)];
}

fn header(self: *Context) snapshot.StatsHeader {
    var h = common_header(self);
    if (self.rx) |rx| h.has_tier = @intFromBool(rx.tier != null);
    h.tx_count = @intCast(self.channels.len);
    for (self.channels) |c| add_channel(&h, c);
    add_arena(&h, self);
    if (self.rx) |rx| {
        h.rx_count = rx.receiver.count;
        add_rx(&h, rx);
    }
    return h;
}

fn common_header(self: *Context) snapshot.StatsHeader {
    var h = std.mem.zeroes(snapshot.StatsHeader);
    h.context_id = self.o().id;
    h.role = role_single;
    if (self.rx) |rx| if (rx.tier) |tier| {
        h.role = @backingInt(tier.member.role());
    };
    h.last_error_key = @atomicLoad(u32, &self.last_error_key, .monotonic);
    h.last_error_ms = @atomicLoad(u64, &self.last_error_ms, .monotonic);
    h.now_ms = clock.monotonic_ns() / ns_per_ms;
    return h;
}

fn add_channel(h: *snapshot.StatsHeader, c: *const TxChannel) void {
    h.datagrams_sent += c.sender.counters.datagrams_sent;
    h.bytes_sent += c.sender.counters.bytes_sent;
    h.datagrams_received += c.received_datagrams;
    h.bytes_received += c.received_bytes;
    h.send_failures += c.send_failures;
    h.notices_dropped += c.sender.notices.dropped;
    if (c.last_errno != 0) h.last_errno = c.last_errno;
    if (c.injector) |*i| h.dropped_injected += i.dropped;
    add_drops(h, &c.sender.counters);
}

fn add_arena(h: *snapshot.StatsHeader, self: *Context) void {
    const s = self.store orelse return;
    h.arena_bytes = s.pool.bytes;
    h.arena_used_bytes = s.pool.bytes - @as(u64, s.pool.free_count()) * s.pool.chunk_bytes;
}

fn add_rx(h: *snapshot.StatsHeader, rx: *RxAgent) void {
    h.datagrams_sent += rx.sent_datagrams;
    h.bytes_sent += rx.sent_bytes;
    h.datagrams_received += rx.receiver.counters.datagrams;
    h.bytes_received += rx.received_bytes;
    h.kernel_drops = rx.kernel_drops;
    h.send_failures += rx.send_failures;
    h.notices_dropped += rx.receiver.notices.dropped;
    if (rx.last_errno != 0) h.last_errno = rx.last_errno;
    if (rx.injector) |*i| h.dropped_injected += i.dropped;
    h.receive_bytes = rx.pool.bytes;
    h.receive_used_bytes = used_bytes(rx.pool);
    for (rx.lanes[@min(1, rx.lanes.len)..]) |*lane| {
        h.receive_bytes += lane.pool.bytes;
        h.receive_used_bytes += used_bytes(lane.pool);
    }
    add_drops(h, &rx.receiver.counters);
    if (rx.tier) |t| add_tier(h, t);
    for (rx.receiver.active()) |*s| h.dropped_out_of_range += s.counters.out_of_range;
}

// -------------------------------------------------------------------- the counters file
// Each is a snapshot of one agent, written by whoever runs it. A reader adds them up.

/// A sending window, with at most `acks_max` of its receivers. The bytes.
pub fn write_tx(self: *Context, place: u32, index: u32, acks_max: usize, buffer: []u8) usize {
    const c = self.channels[place];
    in_place.tell_in_place(&c.sender);
    var w: snapshot.Writer = .{ .buffer = buffer };
    var h = common_header(self);
    h.tx_count = 1;
    add_channel(&h, c);
    if (place == 0) add_arena(&h, self);
    w.put(h);
    const peers = c.sender.peers.slice();
    const shown = peers[0..@min(peers.len, acks_max)];
    var stats = tx_stats(self, c, index);
    stats.ack_count = @intCast(shown.len);
    w.put(stats);
    w.put(latency_stats(c.latency));
    for (shown) |*p| w.put(ack_stats(p));
    w.put(std.mem.zeroes(snapshot.DeliverStats));
    w.put(std.mem.zeroes(snapshot.LatencyStats));
    return w.finish();
}

/// The receiving side without its streams.
pub fn write_rx(self: *Context, buffer: []u8) usize {
    var w: snapshot.Writer = .{ .buffer = buffer };
    var h = common_header(self);
    add_rx(&h, self.rx.?);
    w.put(h);
    w.put(deliver_stats(self));
    w.put(latency_stats(if (self.rx) |rx| rx.log.latency else null));
    return w.finish();
}

/// Some of its streams.
pub fn write_streams(self: *Context, first: usize, count: usize, buffer: []u8) usize {
    const rx = self.rx.?;
    const active = rx.receiver.active();
    const begin = @min(first, active.len);
    const shown = active[begin..@min(begin + count, active.len)];
    var w: snapshot.Writer = .{ .buffer = buffer };
    var h = common_header(self);
    h.rx_count = @intCast(shown.len);
    w.put(h);
    for (shown) |*s| w.put(rx_stats(rx, s));
    w.put(std.mem.zeroes(snapshot.DeliverStats));
    w.put(std.mem.zeroes(snapshot.LatencyStats));
    return w.finish();
}

fn latency_stats(latency: ?*const Latency) snapshot.LatencyStats {
    return if (latency) |l| l.stats() else std.mem.zeroes(snapshot.LatencyStats);
}

fn used_bytes(pool: *const ChunkPool) u64 {
    return pool.bytes - @as(u64, pool.free_count()) * pool.chunk_bytes;
}

fn tx_stats(self: *Context, c: *TxChannel, index: u32) snapshot.TxStats {
    const s = &c.sender;
    const w = c.window;
    const reclaimed = w.reclaimed();
    const acked = w.acked();
    const draining = self.draining.load(.acquire);
    const transmitter = &self.transmitters[index];
    return .{
        .tx_index = index,
        .ack_count = s.peers.count,
        .transport_id = c.transport,
        .phase = switch (s.phase) {
            .init => .init,
            .handshake => .handshake,
            .started => if (draining) .draining else .started,
            .closed => .closed,
            .follower => .follower,
        },
        .send_flag = @intFromBool(c.send_flag.load(.monotonic)),
        .max_udp_size = s.o.sizes.udp_bytes,
        .available_space = s.o.sizes.message_bytes,
        .regular_length = s.o.sizes.fragment_bytes,
        .first_index = w.index_of(acked),
        .current_index = w.index_of(w.written()),
        .first_frag_no = first_fragment(c, acked),
        .to_send_frag_no = s.sent.frag,
        .connected_count = s.peers.connected,
        .window_full = @intFromBool(s.credit() == 0),
        .connection_id = s.o.connection,
        .used_msg_no = reclaimed,
        .first_msg_no = acked,
        .to_send_msg_no = s.sent.msg,
        .current_msg_no = w.written(),
        .last_send_ms = s.last_send_ns / ns_per_ms,
        .phase_since_ms = s.phase_since_ns / ns_per_ms,
        .last_syn_ms = s.last_syn_ns / ns_per_ms,
        .send_count = s.counters.datagrams_sent,
        .bytes_sent = s.counters.bytes_sent,
        .repair_count = s.counters.repairs_sent,
        .nak_count = s.counters.naks_received,
        .heartbeat_count = s.counters.heartbeats_sent,
        .would_block_count = transmitter.would_block.load(.monotonic),
        .window_full_count = s.counters.window_full,
        .repairs_suppressed = s.repairs.suppressed + s.repairs.dropped,
        .datagrams_dropped = c.send_failures,
        .disconnect_count = s.counters.disconnects,
    };
}

/// The fragment up to which everybody has the message at `acked`.
fn first_fragment(c: *TxChannel, acked: u64) u32 {
    // What a tier has committed ends with a message.
    if (c.sender.peers.tiers.len > 0) return 0;
    var low: ?u32 = null;
    for (c.sender.peers.slice()) |*p| {
        if (p.state != .connected or !p.counts_alone()) continue;
        const frag: u32 = if (p.acked.msg == acked) p.acked.frag else 0;
        low = @min(low orelse frag, frag);
    }
    return low orelse 0;
}

fn ack_stats(p: *const Peer) snapshot.AckStats {
    return .{
        .context_id = p.id,
        .state = if (p.state == .connected) .connected else .disconnect,
        .ip = p.address.ip,
        .port = p.address.port,
        .is_mandatory_acker = @intFromBool(p.mandatory or p.tier != null),
        .is_configured = @intFromBool(p.configured),
        .frag_no = p.acked.frag,
        .is_out_of_memory = @intFromBool(p.no_memory),
        .msg_no = p.acked.msg,
        .highest_msg_no = p.highest,
        .last_recv_ms = p.last_heard_ns / ns_per_ms,
        .ack_count = p.ack_count,
        .nak_count = p.nak_count,
    };
}

fn rx_stats(rx: *RxAgent, s: *Stream) snapshot.RxStats {
    const highest = s.detector.highest(rx.receiver.shared_of(s).holding, s.next);
    var drops: u64 = 0;
    for (rx.sockets) |x| drops += x.drops;
    return .{
        .stream = s.id,
        .context_id = s.key.source,
        .transport_id = s.key.transport,
        .phase = switch (s.phase) {
            .init => .init,
            .started => .started,
            .lost => .silent,
            .closed => .closed,
        },
        .ip = s.repair.ip,
        .port = s.repair.port,
        .is_mandatory_acker = @intFromBool(s.is_mandatory()),
        .next_frag_no = s.next.frag,
        .max_frag_no = if (highest.frag > 0) highest.frag - 1 else 0,
        .max_frag_no_nak = s.nak_end.frag,
        .gaps_open = @intFromBool(s.is_behind()) * (s.detector.count + 1),
        .connection_id = s.connection,
        .next_msg_no = s.next.msg,
        .next_msg_no_deliver = if (s.is_manual)
            @atomicLoad(u64, &s.processed, .monotonic)
        else
            @atomicLoad(u64, &rx.delivered_next[s.id], .monotonic),
        .msg_no_acked = if (s.is_manual) s.told else s.acked.msg,
        .max_msg_no = if (highest.frag > 0) highest.msg else highest.msg -| 1,
        .max_msg_no_nak = if (s.nak_end.frag > 0) s.nak_end.msg else s.nak_end.msg -| 1,
        .last_recv_ms = s.last_heard_ns / ns_per_ms,
        .last_ack_ms = s.last_ack_ns / ns_per_ms,
        .last_nak_ms = s.last_nak_ns / ns_per_ms,
        .last_rst_ms = s.last_reply_ns / ns_per_ms,
        .datagrams_received = s.counters.datagrams,
        .bytes_received = s.counters.bytes,
        .message_count = s.counters.messages,
        .gap_count = s.counters.gaps,
        .nak_sent = s.counters.naks_sent,
        .ack_sent = s.counters.acks_sent,
        .repair_count = s.counters.repairs,
        .duplicate_count = s.counters.duplicates,
        .dropped_count = s.counters.out_of_range + s.counters.no_room,
        .out_of_order_held = s.detector.count,
        .lost_count = s.counters.lost_messages,
        .kernel_drops = drops,
    };
}

fn deliver_stats(self: *Context) snapshot.DeliverStats {
    var d = std.mem.zeroes(snapshot.DeliverStats);
    const rx = self.rx orelse return d;
    const log = rx.log;
    var delivered = rx.taken_next();
    var ordered = log.ordered_next();
    // Lanes have no sequence of their own: they are counted together.
    for (rx.lanes[@min(1, rx.lanes.len)..]) |*lane| {
        delivered += lane.log.processed_next();
        ordered += lane.log.ordered_next();
    }
    // What is not recorded goes when it was processed.
    d.first_msg_sqn = if (rx.record) |record|
        record.recording.found.first_sqn
    else if (rx.lanes.len > 0) delivered else log.processed_next();
    d.next_msg_sqn = ordered;
    d.next_msg_sqn_deliver = delivered;
    d.msgs_delivered = delivered - rx.first_sqn;
    d.committed_sqn = ordered;
    if (rx.tier) |tier| {
        // A tier's log is never recycled.
        d.first_msg_sqn = 0;
        d.next_msg_sqn = tier.host.next();
        d.committed_sqn = tier.member.committed;
    }
    if (rx.record) |record| {
        const stopped = record.recording.recorder.stopped_sqn.load(.acquire);
        d.next_msg_sqn_record = @min(d.next_msg_sqn, stopped);
        d.msgs_recorded = d.next_msg_sqn_record -| record.recording.found.next_sqn;
    }
    for (rx.receiver.active()) |*s| {
        if (!s.is_behind()) continue;
        d.wait_context_id = s.key.source;
        d.wait_transport_id = s.key.transport;
    }
    return d;
}
