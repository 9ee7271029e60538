//! The frames that a sender makes besides new data: SYN, CONFIRM, heartbeats, repairs, FILL, RST.
//! Part of `sender.zig`.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const limits = @import("limits.zig");
const mutant = @import("../testing/mutant.zig");
const layout = @import("../window/node.zig");
const retransmit = @import("../repair/retransmit_handler.zig");
const Address = @import("../transport/address.zig").Address;
const sender_file = @import("sender.zig");
const inbox = @import("sender_inbox.zig");
const Sender = sender_file.Sender;
const Control = sender_file.Control;
const Run = sender_file.Run;
const Position = frame.Position;

fn one(bytes: u32, to: ?Address) Run {
    return .{ .to = to, .bytes = bytes, .segment_bytes = bytes };
}

pub fn control_run(self: *Sender, image: []align(8) u8, c: Control) Run {
    switch (c) {
        .confirm => |x| {
            const p = &self.peers.list[x.peer];
            const bytes = self.put(frame.Confirm, image, self.head(.confirm, x.start, .{
                .fresh = self.o.fresh,
            }), .{
                .receiver_token = x.token,
                .session_token = x.session_token,
                .stream_token = self.stream_token,
                .epoch = self.epoch,
                .first = self.window.reclaimed(),
                .announced = self.announced.msg,
                .connection_first = self.window.connection_first(),
                .receiver = p.id,
                .tx_arg = self.o.tx_arg,
                .fragment_bytes = @intCast(self.o.sizes.fragment_bytes),
                .group_size = group_size(self),
                .window_datagrams = self.o.window_datagrams,
            });
            return one(bytes, p.candidate.address);
        },
        .rst => |x| return one(self.put(frame.Rst, image, self.head(.rst, 0, .{}), .{
            .token = x.token,
            .reason = @backingInt(x.reason),
            .receiver = x.receiver,
        }), x.to),
        .heartbeat => |x| {
            const bytes = put_heartbeat(self, image, false);
            return one(bytes, self.peers.list[x.peer].address);
        },
        .fill => |x| {
            const bytes = self.put(frame.Fill, image, self.head(.fill, x.start, .{}), .{
                .stream_token = self.stream_token,
                .end = x.end,
                .reason = @backingInt(x.reason),
            });
            return one(bytes, self.peers.list[x.peer].address);
        },
    }
}

fn group_size(self: *const Sender) u16 {
    return @intCast(@max(1, @min(self.peers.connected, std.math.maxInt(u16))));
}

pub fn syn_run(self: *Sender, now_ns: u64, image: []align(8) u8) Run {
    self.last_syn_ns = now_ns;
    const asking = self.phase == .handshake;
    var waiting = asking or self.peers.connected == 0;
    for (self.peers.slice()) |*p| {
        if (p.configured and p.state != .connected) waiting = true;
    }
    const slowest = @min(limits.syn_waiting_max_ns, self.o.heartbeat_interval_ns);
    self.syn_step_ns = if (waiting)
        @min(self.syn_step_ns * 2, slowest)
    else
        self.o.heartbeat_interval_ns;
    self.syn_due_ns = now_ns + self.syn_step_ns;
    const bytes = self.put(frame.Syn, image, self.head(.syn, self.announced.msg, .{
        .handshake = asking,
    }), .{
        .first = if (asking) 0 else self.window.reclaimed(),
        .join_at = if (asking) 0 else inbox.join_at(self, now_ns),
        .epoch = self.epoch,
        .repair_ip = self.o.repair_address.ip,
        .repair_port = self.o.repair_address.port,
        .tx_arg = self.o.tx_arg,
        .fragment_bytes = @intCast(self.o.sizes.fragment_bytes),
        .group_size = group_size(self),
        .window_datagrams = self.o.window_datagrams,
        .name_len = @intCast(self.o.name.len),
        .name = frame.name_copy(self.o.name),
    });
    return one(bytes, null);
}

fn put_heartbeat(self: *Sender, image: []align(8) u8, ack_request: bool) u32 {
    var told = self.announced;
    if (mutant.on(.heartbeat_silent)) told = .{ .msg = self.window.acked() };
    const flags: frame.Flags = .{ .ack_request = ack_request };
    return self.put(frame.Heartbeat, image, self.head(.heartbeat, told.msg, flags), .{
        .stream_token = self.stream_token,
        .epoch = self.epoch,
        .first = @min(self.window.reclaimed(), told.msg),
        .frag = told.frag,
        .group_size = group_size(self),
    });
}

pub fn heartbeat_run(self: *Sender, now_ns: u64, image: []align(8) u8) Run {
    // After the last data several come soon, so that a lost tail is seen quickly; then the usual
    // interval.
    self.heartbeat_step_ns = @min(self.heartbeat_step_ns * 4, self.o.heartbeat_interval_ns);
    if (mutant.on(.heartbeats_hurry)) self.heartbeat_step_ns = limits.heartbeat_first_ns;
    self.heartbeat_due_ns = now_ns + self.heartbeat_step_ns;
    if (self.send_flag) self.announced = Position.max(self.announced, self.sent);
    const unacked = self.window.acked() < self.announced.msg or self.announced.frag > 0;
    const ask = self.ack_wanted or unacked;
    self.ack_wanted = false;
    self.counters.heartbeats_sent += 1;
    return one(put_heartbeat(self, image, ask), null);
}

fn repair_bytes_per_s(self: *const Sender) u64 {
    return limits.repair_bytes_per_s / @max(1, self.peers.connected);
}

pub fn repair_ready_ns(self: *Sender, now_ns: u64, job: *const retransmit.Job) u64 {
    const need = self.o.sizes.datagram_bytes;
    const p = &self.peers.list[job.receiver];
    const all = self.budget.ready_ns(need, limits.repair_bytes_per_s);
    const own = p.bucket.ready_ns(need, repair_bytes_per_s(self));
    return @max(now_ns, @max(all, own));
}

pub fn repair_run(self: *Sender, now_ns: u64, image: []align(8) u8) ?Run {
    while (self.repairs.peek()) |job| {
        const kept = self.window.reclaimed();
        if (job.start.msg < kept) {
            job.start = .{ .msg = kept };
            if (!job.start.less(job.end)) {
                self.repairs.finish();
                continue;
            }
        }
        const p = &self.peers.list[job.receiver];
        if (self.window.node(job.start.msg).flags & layout.flag_lost != 0) {
            const lost = job.start.msg;
            var end = lost + 1;
            while (end < job.end.msg and
                self.window.node(end).flags & layout.flag_lost != 0) end += 1;
            self.control(.{ .fill = .{
                .peer = job.receiver,
                .start = lost,
                .end = end,
                .reason = .gone,
            } });
            self.repairs.advance(now_ns, .{ .msg = end }, 0);
            continue;
        }
        self.budget.refill(now_ns, limits.repair_bytes_per_s);
        p.bucket.refill(now_ns, repair_bytes_per_s(self));
        const tokens = @min(self.budget.tokens, p.bucket.tokens);
        const size = self.o.sizes.datagram_bytes;
        if (tokens < size) return null;
        const room = @min(segments_max(self, image), tokens / size);
        const segments = @min(room, job.left);
        const to: ?Address = if (job.unicast) p.address else null;
        var built: u32 = 0;
        var n: u32 = 0;
        var at = job.start;
        while (n < segments and at.less(job.end)) : (n += 1) {
            if (self.window.node(at.msg).flags & layout.flag_lost != 0) break;
            const piece = self.packer.build(
                self.window,
                at,
                repair_limit(at, job.end),
                @alignCast(image[built..]),
                .{ .flags = .{ .repair = true } },
            );
            built += piece.bytes;
            at = piece.end;
            if (piece.bytes != size) {
                n += 1;
                break;
            }
        }
        self.repairs.advance(now_ns, at, n);
        self.budget.take(built);
        p.bucket.take(built);
        self.counters.repairs_sent += n;
        return .{
            .to = to,
            .bytes = built,
            .segment_bytes = @min(built, size),
            .is_data = true,
        };
    }
    return null;
}

/// The packer takes a message boundary as its limit; a range that ends inside a message ends that
/// message's datagrams one by one.
fn repair_limit(at: Position, end: Position) Position {
    if (at.msg == end.msg) return end;
    return .{ .msg = end.msg };
}

pub fn segments_max(self: *const Sender, image: []const u8) u32 {
    const size = self.o.sizes.datagram_bytes;
    const room = @min(image.len, limits.gso_bytes_max);
    return @min(limits.gso_segments_max, @as(u32, @intCast(room / size)));
}

pub fn closing_run(self: *Sender, image: []align(8) u8) ?Run {
    if (self.closing_left == 0) return null;
    self.closing_left -= 1;
    return one(self.put(frame.Rst, image, self.head(.rst, self.announced.msg, .{}), .{
        .token = self.stream_token,
        .reason = @backingInt(frame.RstReason.closed),
        .receiver = 0,
    }), null);
}
