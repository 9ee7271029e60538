//! The network between simulated nodes: every datagram that somebody sent, and when it arrives, if
//! it does, how often, and what is left of it.
//!
//! Datagrams in flight lie in slots of one size; a heap orders their arrivals. Each arrival has a
//! copy of its own, because a receiver may decrypt in place and because a flipped bit is one
//! receiver's. Nothing is allocated after start but the slots, when the number in flight reaches a
//! new high.

const std = @import("std");
const scenario = @import("scenario.zig");
const Address = @import("../transport/address.zig").Address;
const dice_file = @import("dice.zig");
const Dice = dice_file.Dice;
const Faults = scenario.Faults;
const assert = std.debug.assert;

/// Senders' windows first, then receivers.
pub const Place = u8;
pub const windows_max = scenario.windows_max;
pub const places_max = windows_max + scenario.receivers_max;
/// More than this in flight is a full queue somewhere: dropped.
pub const in_flight_max = 32768;

pub const Packet = struct {
    arrives_ns: u64,
    order: u64,
    slot: u32,
    length: u32,
    from: Address,
    to_port: u16,
    to: Place,
    /// Injected by somebody who does not belong here.
    hostile: bool = false,
    /// A bit was flipped on the way.
    corrupted: bool = false,
    /// Of a hostile copy: the life of the receiver that got the true one.
    life: u32 = 0,
};

pub const Counters = struct {
    sent: u64 = 0,
    arrived: u64 = 0,
    lost: u64 = 0,
    /// Of them, before they forked.
    lost_at_source: u64 = 0,
    lost_in_bursts: u64 = 0,
    cut: u64 = 0,
    duplicated: u64 = 0,
    corrupted: u64 = 0,
    reordered: u64 = 0,
    overflowed: u64 = 0,
};

const Link = struct {
    burst_left: u32 = 0,
    cut: bool = false,
};

pub const PacketSimulator = struct {
    gpa: std.mem.Allocator,
    dice: Dice,
    faults: Faults,
    slot_bytes: u32,
    slots: std.ArrayList([]align(8) u8) = .empty,
    free: std.ArrayList(u32) = .empty,
    heap: std.ArrayList(Packet) = .empty,
    links: [places_max][places_max]Link = @splat(@splat(.{})),
    next_order: u64 = 0,
    counters: Counters = .{},

    pub fn init(
        gpa: std.mem.Allocator,
        seed: u64,
        faults: Faults,
        slot_bytes: u32,
    ) !PacketSimulator {
        var self: PacketSimulator = .{
            .gpa = gpa,
            .dice = .init(seed),
            .faults = faults,
            .slot_bytes = slot_bytes,
        };
        errdefer self.deinit();
        try self.heap.ensureTotalCapacity(gpa, in_flight_max);
        try self.free.ensureTotalCapacity(gpa, in_flight_max);
        try self.slots.ensureTotalCapacity(gpa, in_flight_max);
        return self;
    }

    pub fn deinit(self: *PacketSimulator) void {
        for (self.slots.items) |slot| self.gpa.free(slot);
        self.slots.deinit(self.gpa);
        self.free.deinit(self.gpa);
        self.heap.deinit(self.gpa);
    }

    /// Cuts or joins one direction of a link.
    pub fn set_cut(self: *PacketSimulator, from: Place, to: Place, cut: bool) void {
        self.links[from][to].cut = cut;
    }

    /// A group's datagram that is lost before it forks.
    pub fn lost_at_source(self: *PacketSimulator) bool {
        if (!self.dice.chance(self.faults.uplink_loss_ppm)) return false;
        self.counters.lost += 1;
        self.counters.lost_at_source += 1;
        return true;
    }

    pub const Send = struct {
        now_ns: u64,
        source: Place,
        from: Address,
        to: Place,
        to_port: u16,
        /// So that the datagrams of one run arrive together unless something happens to one.
        delay_ns: u64,
    };

    /// Delay of one run of datagrams.
    pub fn roll_delay(self: *PacketSimulator) u64 {
        const jitter = self.faults.jitter_ns;
        return self.faults.delay_ns + if (jitter > 0) self.dice.below(jitter) else 0;
    }

    /// One datagram on one link.
    pub fn send(self: *PacketSimulator, o: Send, bytes: []const u8) void {
        assert(bytes.len <= self.slot_bytes);
        self.counters.sent += 1;
        const link = &self.links[o.source][o.to];
        if (link.cut) {
            self.counters.cut += 1;
            return;
        }
        if (self.is_lost(link)) return;
        var copies: u32 = 1;
        if (self.dice.chance(self.faults.duplicate_ppm)) {
            self.counters.duplicated += 1;
            copies += 1;
        }
        for (0..copies) |copy| {
            var delay_ns = o.delay_ns + self.distance(o.source, o.to);
            if (copy > 0) delay_ns += self.dice.below(self.faults.delay_ns + 1);
            if (self.dice.chance(self.faults.reorder_ppm)) {
                self.counters.reordered += 1;
                delay_ns += self.dice.below(self.faults.reorder_ns + 1);
            }
            const corrupted = self.dice.chance(self.faults.corrupt_ppm);
            const slot = self.put(.{
                .arrives_ns = o.now_ns + delay_ns,
                .order = 0,
                .slot = 0,
                .length = @intCast(bytes.len),
                .from = o.from,
                .to_port = o.to_port,
                .to = o.to,
                .corrupted = corrupted,
            }, bytes) orelse return;
            if (corrupted) {
                self.counters.corrupted += 1;
                slot[@intCast(self.dice.below(bytes.len))] ^=
                    @as(u8, 1) << @intCast(self.dice.below(8));
            }
        }
    }

    /// Links differ in length, each by the same all the time.
    fn distance(self: *const PacketSimulator, from: Place, to: Place) u64 {
        if (self.faults.spread_ns == 0) return 0;
        const low = @min(from, to);
        const high = @max(from, to);
        return dice_file.mix(low, high) % self.faults.spread_ns;
    }

    fn is_lost(self: *PacketSimulator, link: *Link) bool {
        if (link.burst_left > 0) {
            link.burst_left -= 1;
            self.counters.lost_in_bursts += 1;
            return true;
        }
        if (self.dice.chance(self.faults.burst_ppm)) {
            link.burst_left = @intCast(self.dice.below(self.faults.burst_datagrams * 2));
            self.counters.lost_in_bursts += 1;
            return true;
        }
        if (self.dice.chance(self.faults.loss_ppm)) {
            self.counters.lost += 1;
            return true;
        }
        return false;
    }

    /// Puts a datagram on the way without any fault; null when too many are on the way.
    pub fn put(self: *PacketSimulator, packet: Packet, bytes: []const u8) ?[]align(8) u8 {
        if (self.heap.items.len == in_flight_max) {
            self.counters.overflowed += 1;
            return null;
        }
        const slot = self.take_slot() orelse return null;
        const room = self.slots.items[slot];
        @memcpy(room[0..bytes.len], bytes);
        var p = packet;
        p.slot = slot;
        self.push(p);
        return room;
    }

    /// The same datagram once more, later: its receiver was not running.
    pub fn put_back(self: *PacketSimulator, packet: Packet, arrives_ns: u64) void {
        var p = packet;
        p.arrives_ns = arrives_ns;
        self.push(p);
    }

    fn take_slot(self: *PacketSimulator) ?u32 {
        if (self.free.pop()) |slot| return slot;
        const room = self.gpa.alignedAlloc(u8, .@"8", self.slot_bytes) catch return null;
        self.slots.appendAssumeCapacity(room);
        return @intCast(self.slots.items.len - 1);
    }

    /// The slot's bytes are no longer needed.
    pub fn release(self: *PacketSimulator, packet: *const Packet) void {
        self.free.appendAssumeCapacity(packet.slot);
    }

    pub fn bytes_of(self: *PacketSimulator, packet: *const Packet) []align(8) u8 {
        return self.slots.items[packet.slot][0..packet.length];
    }

    // ---- the heap of arrivals

    fn before(a: *const Packet, b: *const Packet) bool {
        if (a.arrives_ns != b.arrives_ns) return a.arrives_ns < b.arrives_ns;
        return a.order < b.order;
    }

    fn push(self: *PacketSimulator, packet: Packet) void {
        var p = packet;
        p.order = self.next_order;
        self.next_order += 1;
        self.heap.appendAssumeCapacity(p);
        const items = self.heap.items;
        var at = items.len - 1;
        while (at > 0) {
            const parent = (at - 1) / 2;
            if (!before(&p, &items[parent])) break;
            items[at] = items[parent];
            at = parent;
        }
        items[at] = p;
    }

    /// When the next datagram arrives, or maxInt.
    pub fn next_ns(self: *const PacketSimulator) u64 {
        if (self.heap.items.len == 0) return std.math.maxInt(u64);
        return self.heap.items[0].arrives_ns;
    }

    pub fn peek(self: *const PacketSimulator) ?*const Packet {
        return if (self.heap.items.len == 0) null else &self.heap.items[0];
    }

    pub fn pop(self: *PacketSimulator) Packet {
        const items = self.heap.items;
        const first = items[0];
        const last = items[items.len - 1];
        self.heap.items.len -= 1;
        const count = self.heap.items.len;
        var at: usize = 0;
        while (true) {
            var child = at * 2 + 1;
            if (child >= count) break;
            if (child + 1 < count and before(&items[child + 1], &items[child])) child += 1;
            if (!before(&items[child], &last)) break;
            items[at] = items[child];
            at = child;
        }
        if (count > 0) items[at] = last;
        return first;
    }
};

test "datagrams arrive in order of time, those of one time in order of sending" {
    var net: PacketSimulator = try .init(std.testing.allocator, 1, .{ .delay_ns = 10 }, 64);
    defer net.deinit();
    for ([_]u64{ 50, 20, 20, 90, 10 }, 0..) |delay_ns, i| {
        net.send(.{
            .now_ns = 0,
            .source = 0,
            .from = .init(1, 1),
            .to = 13,
            .to_port = @intCast(i),
            .delay_ns = delay_ns,
        }, "12345678");
    }
    for ([_]u16{ 4, 1, 2, 0, 3 }) |port| {
        const p = net.pop();
        try std.testing.expectEqual(port, p.to_port);
        try std.testing.expectEqualStrings("12345678", net.bytes_of(&p));
        net.release(&p);
    }
    try std.testing.expectEqual(null, net.peek());
}

test "a cut link carries nothing, certain loss loses everything" {
    var net: PacketSimulator = try .init(std.testing.allocator, 1, .{}, 64);
    defer net.deinit();
    const o: PacketSimulator.Send = .{
        .now_ns = 0,
        .source = 0,
        .from = .init(1, 1),
        .to = 13,
        .to_port = 1,
        .delay_ns = 0,
    };
    net.set_cut(0, 13, true);
    net.send(o, "x");
    try std.testing.expectEqual(null, net.peek());
    net.set_cut(0, 13, false);
    net.faults.loss_ppm = 1_000_000;
    net.send(o, "x");
    try std.testing.expectEqual(null, net.peek());
    net.faults.loss_ppm = 0;
    net.faults.duplicate_ppm = 1_000_000;
    net.send(o, "x");
    try std.testing.expectEqual(2, net.heap.items.len);
}
