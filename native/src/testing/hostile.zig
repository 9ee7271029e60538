//! Somebody who does not belong to the cluster and sends to its ports.
//!
//! *Blind*: knows addresses, ids and the wire format, but not the traffic, so neither connection
//! ids nor tokens. Sends well-formed frames of every type with valid checks and numbers of every
//! size, broken ones, and datagrams of other lives; from addresses of its own and from those of the
//! nodes.
//!
//! *Keyed*: the streams have a group key that the intruder does not have; otherwise it sees,
//! copies, changes and replays everything, in anybody's name.
//!
//! In both cases nothing may change but counters: the checkers do not know that anybody is there.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const session_limits = @import("../session/limits.zig");
const scenario_file = @import("scenario.zig");
const cluster_file = @import("cluster.zig");
const packet_simulator = @import("packet_simulator.zig");
const Address = @import("../transport/address.zig").Address;
const Dice = @import("dice.zig").Dice;
const Packet = packet_simulator.Packet;
const Cluster = cluster_file.Cluster;
const Timer = cluster_file.Timer;
const Window = @import("sender_node.zig").Window;

const windows_max = scenario_file.windows_max;
const records_max = 128;
const record_bytes = 9216;
const us = scenario_file.us;

const Record = struct {
    length: u32 = 0,
    to: packet_simulator.Place = 0,
    to_port: u16 = 0,
    from: Address = .{},
    life: u32 = 0,
    bytes: [record_bytes]u8 align(8) = undefined,
};

pub const Hostile = struct {
    dice: Dice,
    records: []Record,
    count: u64 = 0,
    buffer: [record_bytes]u8 align(8) = undefined,

    pub fn init(gpa: std.mem.Allocator, seed: u64) !Hostile {
        const records = try gpa.alloc(Record, records_max);
        for (records) |*r| r.length = 0;
        return .{ .dice = .init(seed), .records = records };
    }

    pub fn deinit(self: *Hostile, gpa: std.mem.Allocator) void {
        gpa.free(self.records);
    }

    /// Listens to what a node gets. Old ones stay for long: they are replayed to later lives.
    pub fn record(self: *Hostile, packet: *const Packet, life: u32, bytes: []const u8) void {
        if (bytes.len > record_bytes) return;
        const at = if (self.count < records_max or self.dice.chance(100_000))
            self.dice.below(records_max)
        else
            return;
        self.count += 1;
        const r = &self.records[@intCast(at)];
        r.length = @intCast(bytes.len);
        r.to = packet.to;
        r.to_port = packet.to_port;
        r.from = packet.from;
        r.life = life;
        @memcpy(r.bytes[0..bytes.len], bytes);
    }

    fn any_record(self: *Hostile) ?*const Record {
        const r = &self.records[@intCast(self.dice.below(records_max))];
        return if (r.length == 0) null else r;
    }

    /// A number of a size that somebody may have forgotten to check.
    fn any_number(self: *Hostile) u64 {
        return switch (self.dice.below(8)) {
            0 => 0,
            1 => frame.number_max,
            2 => frame.number_max - self.dice.below(4),
            3 => std.math.maxInt(u64) - self.dice.below(3),
            4 => self.dice.below(1 << 32),
            else => self.dice.magnitude(0, 1 << 53),
        };
    }
};

/// One hostile datagram, and when the next one comes.
pub fn act(c: *Cluster) void {
    if (c.phase != .safety) return;
    const self = &c.hostile;
    c.totals.hostile += 1;
    c.timers[Timer.hostile_at] = c.now_ns + 1 + self.dice.below(c.scenario.hostile_every_ns * 2);
    switch (c.scenario.kind) {
        .hostile_keyed => act_keyed(c),
        else => act_blind(c),
    }
}

fn own_address(self: *Hostile) Address {
    const ip = std.mem.nativeToBig(u32, 0x0a09_0001 + @as(u32, @intCast(self.dice.below(3))));
    return .init(ip, @intCast(self.dice.between(1024, 65535)));
}

// -------------------------------------------------------------------- with a group key

/// Replays, changes or cuts what it heard, and sends it to where it went.
fn act_keyed(c: *Cluster) void {
    const self = &c.hostile;
    if (self.dice.chance(100_000)) return act_blind(c);
    const r = self.any_record() orelse return;
    var length: usize = r.length;
    const bytes = self.buffer[0..];
    @memcpy(bytes[0..length], r.bytes[0..length]);
    const h: *frame.Header = @ptrCast(&self.buffer);
    switch (self.dice.below(6)) {
        0, 1, 2 => {},
        3 => for (0..self.dice.between(1, 4)) |_| {
            bytes[@intCast(self.dice.below(length))] = @truncate(self.dice.bits());
        },
        4 => {
            length = @intCast(self.dice.between(8, length));
            length -= length % 8;
            if (length >= frame.header_bytes) h.length = @intCast(length);
        },
        else => {
            h.number = self.any_number();
            h.type = @intCast(self.dice.between(0, 12));
        },
    }
    send_as(c, r, bytes[0..length]);
}

/// In the name of who sent it (or in its own), to where it went.
fn send_as(c: *Cluster, r: *const Record, bytes: []const u8) void {
    const self = &c.hostile;
    const from = if (self.dice.chance(800_000)) r.from else own_address(self);
    put_of_life(c, r.to, r.to_port, from, bytes, r.life);
}

fn put(c: *Cluster, to: u8, port: u16, from: Address, bytes: []const u8) void {
    put_of_life(c, to, port, from, bytes, 0);
}

fn put_of_life(
    c: *Cluster,
    to: u8,
    port: u16,
    from: Address,
    bytes: []const u8,
    life: u32,
) void {
    _ = c.net.put(.{
        .arrives_ns = c.now_ns + c.hostile.dice.below(100 * us),
        .order = 0,
        .slot = 0,
        .length = @intCast(bytes.len),
        .from = from,
        .to_port = port,
        .to = to,
        .hostile = true,
        .life = life,
    }, bytes[0..@min(bytes.len, c.net.slot_bytes)]);
}

// -------------------------------------------------------------------- without having seen anything

fn act_blind(c: *Cluster) void {
    const self = &c.hostile;
    if (self.dice.chance(50_000)) return act_as_broken(c);
    const length = switch (self.dice.below(10)) {
        0 => garbage(self),
        1 => changed_record(c),
        else => forged(c),
    };
    if (length == 0) return;
    const bytes = self.buffer[0..length];
    const w = c.windows[@intCast(self.dice.below(c.window_count))];
    const node = c.receivers[@intCast(self.dice.below(c.receivers.len))];
    const spoofed = self.dice.coin();
    if (self.dice.coin()) {
        const from = if (spoofed) node.control else own_address(self);
        return put(c, w.index, w.repair.port, from, bytes);
    }
    const t = &c.scenario.transports[w.transport];
    const out: u16 = if (t.is_multicast) 0 else node.index + 1;
    const from = if (!spoofed)
        own_address(self)
    else if (self.dice.coin()) w.repair else Cluster.data_from(w, out);
    const port = if (self.dice.coin()) 5000 else node.control.port;
    put(c, windows_max + node.index, port, from, bytes);
}

/// A receiver with a session that acknowledges and asks for what was never written.
fn act_as_broken(c: *Cluster) void {
    const self = &c.hostile;
    const node = c.receivers[@intCast(self.dice.below(c.receivers.len))];
    if (!node.alive) return;
    const streams = node.receiver.active();
    if (streams.len == 0) return;
    const s = &streams[@intCast(self.dice.below(streams.len))];
    if (s.phase != .started or s.channel.group_key != null) return;
    for (c.windows[0..c.window_count]) |w| {
        if (!w.repair.eql(s.repair)) continue;
        const beyond = @min(frame.number_max, w.window.written() +| (1 << 20) +| self.any_number());
        const head: frame.Header = .{
            .type = @backingInt(frame.Type.ack),
            .length = 0,
            .cluster = c.scenario.cluster,
            .check = 0,
            .source = w.node.id,
            .transport = s.key.transport,
            .connection_flags = .{ .connection = @intCast(s.connection), .flags = .{} },
            .number = beyond,
        };
        frame.begin(frame.Ack, &self.buffer, head).* = .{
            .session_token = s.session_token,
            .highest = beyond,
            .frag = 0,
            .receiver = node.id,
            .no_memory = 0,
        };
        const bytes = self.buffer[0 .. frame.header_bytes + @sizeOf(frame.Ack)];
        frame.write_check(bytes);
        return put(c, w.index, w.repair.port, node.control, bytes);
    }
}

fn garbage(self: *Hostile) usize {
    const length: usize = @intCast(self.dice.magnitude(1, 2048));
    self.dice.random().bytes(self.buffer[0..length]);
    if (self.dice.coin() and length >= 4) {
        const h: *frame.Header = @ptrCast(&self.buffer);
        h.magic = frame.magic;
        h.version = frame.version;
    }
    return length;
}

/// A datagram of its own making that looks like one of the cluster's, with what only an eye-witness
/// can know made up.
fn changed_record(c: *Cluster) usize {
    const self = &c.hostile;
    const r = self.any_record() orelse return 0;
    const length = r.length;
    @memcpy(self.buffer[0..length], r.bytes[0..length]);
    const h: *frame.Header = @ptrCast(&self.buffer);
    const body = self.buffer[frame.header_bytes..length];
    // Tokens stand within the first 32 bytes of every body.
    self.dice.random().bytes(body[0..@min(32, body.len)]);
    if (h.type != @backingInt(frame.Type.syn)) {
        h.connection_flags.connection = @intCast(self.dice.below(1 << 53));
    }
    seal_off(self, h, length);
    return length;
}

fn seal_off(self: *Hostile, h: *frame.Header, length: usize) void {
    h.length = @intCast(length);
    if (h.flags().sealed) return;
    frame.write_check(self.buffer[0..length]);
}

/// A frame of some type, valid as far as it can be, with numbers of every size.
fn forged(c: *Cluster) usize {
    const self = &c.hostile;
    const w = c.windows[@intCast(self.dice.below(c.window_count))];
    const h: *frame.Header = @ptrCast(&self.buffer);
    const kind: frame.Type = @fromBackingInt(@intCast(self.dice.between(1, 10)));
    h.* = .{
        .type = @backingInt(kind),
        .length = 0,
        .cluster = if (self.dice.chance(950_000)) c.scenario.cluster else 12345,
        .check = 0,
        .source = if (self.dice.chance(950_000)) w.node.id else @intCast(self.dice.below(65536)),
        .transport = c.scenario.transports[w.transport].id,
        .connection_flags = .{
            .connection = @intCast(self.dice.below(1 << 53)),
            .flags = .{
                .ack_request = self.dice.coin(),
                .repair = self.dice.coin(),
                .handshake = self.dice.chance(100_000),
            },
        },
        .number = if (self.dice.coin()) self.any_number() else self.dice.below(1000),
    };
    const body_bytes = write_body(c, w, kind, h);
    var length = frame.header_bytes + frame.align8(body_bytes);
    if (self.dice.chance(50_000)) length = @max(frame.header_bytes, length -| 8);
    seal_off(self, h, length);
    return length;
}

fn write_body(c: *Cluster, w: *Window, kind: frame.Type, h: *frame.Header) usize {
    const self = &c.hostile;
    const body = self.buffer[frame.header_bytes..];
    const dice = &self.dice;
    dice.random().bytes(body[0..256]);
    switch (kind) {
        .syn => {
            const b: *frame.Syn = @ptrCast(@alignCast(body.ptr));
            const own = own_address(self);
            b.* = .{
                .first = @min(h.number, self.any_number()),
                .join_at = @min(h.number, self.any_number()),
                .epoch = .{},
                .repair_ip = if (dice.coin()) w.repair.ip else own.ip,
                .repair_port = if (dice.coin()) w.repair.port else own.port,
                .tx_arg = 1,
                .fragment_bytes = @truncate(dice.magnitude(1, 65535)),
                .group_size = @truncate(dice.bits()),
                .window_datagrams = @truncate(dice.magnitude(1, 65536)),
                .name_len = @intCast(dice.below(70)),
                .name = frame.name_copy("sender0"),
            };
            return @sizeOf(frame.Syn);
        },
        .syn_reply => {
            const b: *frame.SynReply = @ptrCast(@alignCast(body.ptr));
            b.receiver = any_receiver(c);
            b.has_position = @intCast(dice.below(2));
            b.name_len = 9;
            b.name = frame.name_copy("receiver0");
            return @sizeOf(frame.SynReply);
        },
        .confirm => {
            const b: *frame.Confirm = @ptrCast(@alignCast(body.ptr));
            b.first = self.any_number();
            b.announced = self.any_number();
            b.fragment_bytes = 1400;
            b.window_datagrams = 64;
            b.receiver = any_receiver(c);
            return @sizeOf(frame.Confirm);
        },
        .ack => {
            const b: *frame.Ack = @ptrCast(@alignCast(body.ptr));
            b.highest = self.any_number();
            b.receiver = any_receiver(c);
            b.no_memory = @intCast(dice.below(2));
            b.frag = @truncate(self.any_number());
            return @sizeOf(frame.Ack);
        },
        .nak => return write_nak(c, body),
        .heartbeat => {
            const b: *frame.Heartbeat = @ptrCast(@alignCast(body.ptr));
            b.first = @min(h.number, self.any_number());
            return @sizeOf(frame.Heartbeat);
        },
        .rst => {
            const b: *frame.Rst = @ptrCast(@alignCast(body.ptr));
            b.reason = @intCast(dice.between(0, 4));
            b.receiver = any_receiver(c);
            return @sizeOf(frame.Rst);
        },
        .fill => {
            const b: *frame.Fill = @ptrCast(@alignCast(body.ptr));
            b.end = self.any_number();
            b.reason = @intCast(dice.between(0, 3));
            return @sizeOf(frame.Fill);
        },
        .data, .fragment => return @intCast(dice.between(8, 1400)),
    }
}

fn write_nak(c: *Cluster, body: []u8) usize {
    const self = &c.hostile;
    const b: *frame.Nak = @ptrCast(@alignCast(body.ptr));
    const count = self.dice.between(0, 10);
    b.receiver = any_receiver(c);
    b.count = @intCast(if (self.dice.chance(900_000)) count else self.dice.below(65536));
    var last: u64 = 0;
    for (0..count) |i| {
        const offset = @sizeOf(frame.Nak) + i * @sizeOf(frame.Range);
        const r: *frame.Range = @ptrCast(@alignCast(body.ptr + offset));
        const end = last +| self.any_number();
        r.* = .{ .start_msg = last, .end_msg = end, .start_frag = 0, .end_frag = 0 };
        last = end;
    }
    return @sizeOf(frame.Nak) + count * @sizeOf(frame.Range);
}

fn any_receiver(c: *Cluster) u16 {
    const dice = &c.hostile.dice;
    if (dice.chance(100_000)) return @truncate(dice.bits());
    return c.receivers[@intCast(dice.below(c.receivers.len))].id;
}

comptime {
    std.debug.assert(record_bytes >= 9000);
    std.debug.assert(session_limits.nak_ranges_max >= 10);
    std.debug.assert(packet_simulator.windows_max == windows_max);
}
