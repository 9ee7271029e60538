//! The receivers of one sending window: who is connected, what each has acknowledged, and who holds
//! the window.
//!
//! A receiver *holds* when the window may not move past what it acknowledged: every connected one,
//! one that was just confirmed (for a moment, until its first ACK; not again and again, if no ACK
//! comes), and one that the configuration names, for the first `AckTimeoutMilli` of a connection
//! (protocol.md, "Flow control").
//!
//! Contexts that the configuration names as members of a tier do not hold: their *tier* does, as
//! one receiver, always: connected, failing over, or not yet started. Its position is the highest
//! that any of its members ever acknowledged as committed. An observer of a tier never counts.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("limits.zig");
const assert = @import("../assert.zig").assert;
const mutant = @import("../testing/mutant.zig");
const Address = @import("../transport/address.zig").Address;
const Bucket = @import("../repair/retransmit_handler.zig").Bucket;

const Position = frame.Position;

pub const State = enum(u32) { known, confirming, connected, disconnected };

/// A session that was offered by CONFIRM and not taken yet. It replaces the one in force, if any,
/// only when a frame quotes its token: an answer to SYN that somebody forged changes nothing.
pub const Candidate = struct {
    /// 0: none.
    token: u64 = 0,
    instance: u64 = 0,
    address: Address = .{ .ip = 0, .port = 0 },
    offered_ns: u64 = 0,
    key: seal.Key = @splat(0),
    replay: seal.ReplayWindow = .{},
    name_len: u16 = 0,
    name: [64]u8 = @splat(0),
    /// Where the receiver stands if that is above what a wiped sender has, else 0.
    left_at: u64 = 0,
};

pub const Peer = struct {
    id: u16,
    state: State,
    /// Named as a receiver by the loaded configuration.
    configured: bool,
    /// Index of the tier that it is a member of, by the configuration.
    tier: ?u16 = null,
    is_observer: bool = false,
    /// Reads the window in place.
    shared: bool = false,
    /// `IsHandshake`: told what it expects.
    answered: bool = false,
    reported: u64 = 0,
    address: Address = .{ .ip = 0, .port = 0 },
    instance: u64 = 0,
    session_token: u64 = 0,
    acked: Position = .{ .msg = 0 },
    /// What its log has, which moves the window: never below `acked`, and more than that where it
    /// acknowledges what was processed.
    taken: Position = .{ .msg = 0 },
    highest: u64 = 0,
    confirmed_ns: u64 = 0,
    /// While it is confirming, it holds the window until then.
    hold_until_ns: u64 = 0,
    last_heard_ns: u64 = 0,
    last_progress_ns: u64 = 0,
    last_rst_ns: u64 = 0,
    ack_count: u64 = 0,
    nak_count: u64 = 0,
    no_memory: bool = false,
    mandatory: bool = false,
    /// The range lost by a wiped sender was told once.
    wiped_told: bool = false,
    bucket: Bucket,
    key: seal.Key = @splat(0),
    replay: seal.ReplayWindow = .{},
    name_len: u16 = 0,
    name: [64]u8 = @splat(0),
    candidate: Candidate = .{},

    /// Nothing that was said before counts.
    pub fn begin_at(self: *Peer, at: Position) void {
        self.acked = at;
        self.taken = at;
    }

    pub fn name_slice(self: *const Peer) []const u8 {
        return self.name[0..self.name_len];
    }

    /// The window may have to wait for it: it is neither of a tier nor an observer.
    pub fn counts_alone(self: *const Peer) bool {
        return self.tier == null and !self.is_observer;
    }
};

pub const Configured = struct {
    id: u16,
    name: []const u8,
    shared: bool = false,
    /// Name of its tier; "": a single node.
    tier: []const u8 = "",
    is_observer: bool = false,
};

/// A tier that the configuration subscribes: one mandatory acker.
pub const Tier = struct {
    name_len: u16,
    name: [64]u8,
    /// Everything below is committed, as its members said.
    acked: u64 = 0,

    pub fn name_slice(self: *const Tier) []const u8 {
        return self.name[0..self.name_len];
    }
};

pub const Peers = struct {
    list: []Peer,
    count: u32 = 0,
    tiers: []Tier = &.{},
    connected: u32 = 0,
    ever_connected: bool = false,
    /// Those who are confirmed before it hold the window until then.
    hold_until_ns: u64 = 0,
    /// Full, with receivers that are connected or configured; told once.
    limit_told: bool = false,

    pub fn init(gpa: std.mem.Allocator, configured: []const Configured) !Peers {
        const capacity = @max(limits.peers_max, configured.len);
        var self: Peers = .{ .list = try gpa.alloc(Peer, capacity) };
        errdefer gpa.free(self.list);
        const tiers = try gpa.alloc(Tier, configured.len);
        errdefer gpa.free(tiers);
        for (configured) |c| {
            if (self.find(c.id) != null) continue;
            const p = self.add(c.id, c.name, true);
            p.shared = c.shared;
            p.is_observer = c.is_observer;
            if (c.tier.len == 0 or c.is_observer) continue;
            p.tier = self.tier_of(c.tier) orelse blk: {
                const count = self.tiers.len;
                tiers[count] = .{
                    .name_len = @intCast(c.tier.len),
                    .name = frame.name_copy(c.tier),
                };
                self.tiers = tiers[0 .. count + 1];
                break :blk @intCast(count);
            };
        }
        self.tiers = try gpa.realloc(tiers, self.tiers.len);
        return self;
    }

    pub fn deinit(self: *Peers, gpa: std.mem.Allocator) void {
        gpa.free(self.tiers);
        gpa.free(self.list);
    }

    fn tier_of(self: *const Peers, name: []const u8) ?u16 {
        for (self.tiers, 0..) |*t, i| {
            if (std.mem.eql(u8, t.name_slice(), name)) return @intCast(i);
        }
        return null;
    }

    pub fn slice(self: *Peers) []Peer {
        return self.list[0..self.count];
    }

    pub fn find(self: *Peers, id: u16) ?*Peer {
        for (self.slice()) |*p| if (p.id == id) return p;
        return null;
    }

    /// Whoever was there is to agree anew; those whom the configuration names stay known.
    pub fn forget(self: *Peers) void {
        var kept: u32 = 0;
        for (self.slice()) |*p| {
            if (!p.configured) continue;
            const tier = p.tier;
            const shared = p.shared;
            const is_observer = p.is_observer;
            self.list[kept] = fresh(p.id, p.name_slice(), true);
            self.list[kept].tier = tier;
            self.list[kept].shared = shared;
            self.list[kept].is_observer = is_observer;
            kept += 1;
        }
        self.count = kept;
        self.connected = 0;
        self.ever_connected = false;
        self.hold_until_ns = 0;
        self.limit_told = false;
    }

    /// The entry of a receiver that answers. When the table is full, the place of one that is gone
    /// is used again, else of the one that was confirmed longest ago and never acknowledged.
    pub fn find_or_add(self: *Peers, id: u16, name: []const u8) ?*Peer {
        if (self.find(id)) |p| return p;
        if (self.count < self.list.len) return self.add(id, name, false);
        var place: ?*Peer = null;
        for (self.slice()) |*p| {
            if (p.configured or p.state == .connected) continue;
            if (p.state != .confirming) {
                place = p;
                break;
            }
            if (place == null or p.confirmed_ns < place.?.confirmed_ns) place = p;
        }
        const p = place orelse return null;
        p.* = fresh(id, name, false);
        return p;
    }

    /// A receiver was given a session: until its first ACK it holds the window, for a moment.
    pub fn confirm(self: *Peers, p: *Peer, now_ns: u64) void {
        assert(p.state != .connected);
        if (now_ns >= self.hold_until_ns + limits.confirming_rest_ns or self.hold_until_ns == 0) {
            self.hold_until_ns = now_ns + limits.confirming_hold_ns;
        }
        p.confirmed_ns = now_ns;
        p.hold_until_ns = self.hold_until_ns;
        self.set_state(p, .confirming);
    }

    fn add(self: *Peers, id: u16, name: []const u8, configured: bool) *Peer {
        assert(self.count < self.list.len);
        const p = &self.list[self.count];
        p.* = fresh(id, name, configured);
        self.count += 1;
        return p;
    }

    fn fresh(id: u16, name: []const u8, configured: bool) Peer {
        return .{
            .id = id,
            .state = .known,
            .configured = configured,
            .bucket = .init(limits.repair_burst_bytes, 0),
            .name_len = @intCast(name.len),
            .name = frame.name_copy(name),
        };
    }

    pub fn index_of(self: *const Peers, p: *const Peer) u16 {
        return @intCast((@intFromPtr(p) - @intFromPtr(self.list.ptr)) / @sizeOf(Peer));
    }

    pub fn set_state(self: *Peers, p: *Peer, state: State) void {
        if (p.state == state) return;
        if (p.state == .connected) self.connected -= 1;
        if (state == .connected) {
            self.connected += 1;
            self.ever_connected = true;
            self.hold_until_ns = 0;
        }
        p.state = state;
    }

    pub const Hold = struct {
        now_ns: u64,
        /// End of the time in which configured receivers hold as if connected.
        configured_until_ns: u64,
        connection_first: u64,
    };

    /// A member says that everything below `committed` is committed. True when that is news: a new
    /// leader may report less than the last one did.
    pub fn tier_acked(self: *Peers, p: *const Peer, committed: u64) bool {
        const t = p.tier orelse blk: {
            if (!p.is_observer or !mutant.on(.tier_observer_counts)) return false;
            break :blk if (self.tiers.len > 0) 0 else return false;
        };
        const tier = &self.tiers[t];
        if (committed <= tier.acked and !mutant.on(.tier_goes_back)) return false;
        tier.acked = committed;
        return true;
    }

    /// Where a tier stands; it holds the window whatever its members do.
    fn tier_position(self: *Peers, index: usize) ?Position {
        if (mutant.on(.tier_not_mandatory)) {
            for (self.slice()) |*p| {
                if (p.tier == @as(u16, @intCast(index)) and p.state == .connected) break;
            } else return null;
        }
        var at: u64 = self.tiers[index].acked;
        if (mutant.on(.tier_lowest_ack)) {
            for (self.slice()) |*p| {
                if (p.tier == @as(u16, @intCast(index))) at = @min(at, p.acked.msg);
            }
        }
        return .{ .msg = at };
    }

    /// How far a tier lets new data go on. Its pace is that of its commits; but a message that is
    /// longer than the window, and can only be committed as a whole, must get in.
    fn tier_taken(self: *Peers, index: usize) ?Position {
        const committed = self.tier_position(index) orelse return null;
        if (mutant.on(.tier_stops_inside)) return committed;
        var best = committed;
        for (self.slice()) |*p| {
            if (p.tier != @as(u16, @intCast(index)) or p.state != .connected) continue;
            best = Position.max(best, p.taken);
        }
        return Position.min(best, .{ .msg = committed.msg + 1 });
    }

    /// The lowest acknowledged position of those who hold, or null when nobody does.
    pub fn lowest(self: *Peers, hold: Hold) ?Position {
        return self.lowest_of(hold, "acked");
    }

    /// The same of what they have taken.
    pub fn lowest_taken(self: *Peers, hold: Hold) ?Position {
        if (mutant.on(.manual_holds_window)) return self.lowest(hold);
        return self.lowest_of(hold, "taken");
    }

    fn lowest_of(self: *Peers, hold: Hold, comptime cursor: []const u8) ?Position {
        var low: ?Position = null;
        for (0..self.tiers.len) |i| {
            const is_acked = comptime std.mem.eql(u8, cursor, "acked");
            const stands = if (is_acked) self.tier_position(i) else self.tier_taken(i);
            const at = stands orelse continue;
            low = if (low) |l| Position.min(l, at) else at;
        }
        for (self.slice()) |*p| {
            if (!p.counts_alone()) continue;
            const at: Position = switch (p.state) {
                .connected => @field(p, cursor),
                .confirming => if (hold.now_ns < p.hold_until_ns)
                    @field(p, cursor)
                else
                    continue,
                .known => if (p.configured and hold.now_ns < hold.configured_until_ns)
                    .{ .msg = hold.connection_first }
                else
                    continue,
                .disconnected => continue,
            };
            low = if (low) |l| Position.min(l, at) else at;
        }
        return low;
    }
};

const testing = std.testing;

test "who holds the window" {
    var peers: Peers = try .init(testing.allocator, &.{.{ .id = 1, .name = "a" }});
    defer peers.deinit(testing.allocator);
    const hold: Peers.Hold = .{ .now_ns = 10, .configured_until_ns = 100, .connection_first = 7 };
    try testing.expectEqual(7, peers.lowest(hold).?.msg);
    const late: Peers.Hold = .{ .now_ns = 100, .configured_until_ns = 100, .connection_first = 7 };
    try testing.expectEqual(null, peers.lowest(late));
    const p = peers.find_or_add(2, "b").?;
    p.acked = .{ .msg = 9, .frag = 2 };
    peers.set_state(p, .connected);
    try testing.expectEqual(2, peers.lowest(late).?.frag);
    try testing.expectEqual(1, peers.connected);
    peers.set_state(p, .disconnected);
    try testing.expectEqual(null, peers.lowest(late));
    try testing.expectEqual(0, peers.connected);
}

test "a tier holds the window with the highest word of its members, there or not" {
    var peers: Peers = try .init(testing.allocator, &.{
        .{ .id = 1, .name = "a", .tier = "T" },
        .{ .id = 2, .name = "b", .tier = "T" },
        .{ .id = 3, .name = "watcher", .tier = "T", .is_observer = true },
        .{ .id = 4, .name = "c", .tier = "other" },
    });
    defer peers.deinit(testing.allocator);
    try testing.expectEqual(2, peers.tiers.len);
    const late: Peers.Hold = .{ .now_ns = 9, .configured_until_ns = 0, .connection_first = 0 };
    try testing.expectEqual(0, peers.lowest(late).?.msg);
    const a = peers.find(1).?;
    const b = peers.find(2).?;
    peers.set_state(a, .connected);
    try testing.expect(peers.tier_acked(a, 7));
    try testing.expectEqual(0, peers.lowest(late).?.msg);
    try testing.expect(peers.tier_acked(peers.find(4).?, 20));
    try testing.expectEqual(7, peers.lowest(late).?.msg);
    // The next leader may know less; an observer says nothing.
    peers.set_state(a, .disconnected);
    peers.set_state(b, .connected);
    try testing.expect(!peers.tier_acked(b, 5));
    try testing.expect(!peers.tier_acked(peers.find(3).?, 50));
    peers.set_state(peers.find(3).?, .connected);
    try testing.expectEqual(7, peers.lowest(late).?.msg);
    // A receiver of its own holds beside them.
    const d = peers.find_or_add(5, "d").?;
    peers.set_state(d, .connected);
    d.acked = .{ .msg = 6, .frag = 3 };
    try testing.expectEqual(6, peers.lowest(late).?.msg);
}

test "confirmed receivers hold for a moment, and not again before a rest or an ACK" {
    var peers: Peers = try .init(testing.allocator, &.{});
    defer peers.deinit(testing.allocator);
    const hold = struct {
        fn at(now_ns: u64) Peers.Hold {
            return .{ .now_ns = now_ns, .configured_until_ns = 0, .connection_first = 0 };
        }
    }.at;
    const a = peers.find_or_add(1, "a").?;
    peers.confirm(a, 1000);
    const until = 1000 + limits.confirming_hold_ns;
    try testing.expectEqual(0, peers.lowest(hold(until - 1)).?.msg);
    try testing.expectEqual(null, peers.lowest(hold(until)));
    // Another one, and the same again: whoever forges answers has as many names as it likes.
    peers.confirm(peers.find_or_add(2, "b").?, until);
    peers.confirm(a, until);
    try testing.expectEqual(null, peers.lowest(hold(until + 1)));
    const rested = until + limits.confirming_rest_ns;
    peers.confirm(a, rested);
    try testing.expectEqual(0, peers.lowest(hold(rested + 1)).?.msg);
    // A true receiver ends the rest.
    peers.set_state(a, .connected);
    a.acked = .{ .msg = 7 };
    peers.confirm(peers.find(2).?, rested + 2);
    try testing.expectEqual(0, peers.lowest(hold(rested + 3)).?.msg);
    const later = rested + 2 + limits.confirming_hold_ns;
    try testing.expectEqual(7, peers.lowest(hold(later)).?.msg);
}

test "a full table gives up who was confirmed longest ago and never acknowledged" {
    var peers: Peers = try .init(testing.allocator, &.{.{ .id = 1, .name = "a" }});
    defer peers.deinit(testing.allocator);
    peers.set_state(peers.find_or_add(2, "b").?, .connected);
    for (3..limits.peers_max + 1) |i| {
        peers.confirm(peers.find_or_add(@intCast(i), "x").?, 1000 + i);
    }
    try testing.expectEqual(limits.peers_max, peers.count);
    try testing.expect(peers.find_or_add(60000, "y") != null);
    try testing.expectEqual(null, peers.find(3));
    for (1..3) |i| try testing.expect(peers.find(@intCast(i)) != null);
}

test "a full table reuses the place of one that is gone, never of one that is connected" {
    var peers: Peers = try .init(testing.allocator, &.{});
    defer peers.deinit(testing.allocator);
    for (0..limits.peers_max) |i| {
        const p = peers.find_or_add(@intCast(i + 1), "x").?;
        peers.set_state(p, .connected);
    }
    try testing.expectEqual(null, peers.find_or_add(60000, "y"));
    peers.set_state(peers.find(5).?, .disconnected);
    try testing.expect(peers.find_or_add(60000, "y") != null);
    try testing.expectEqual(null, peers.find(5));
}
