//! What a tier's own transmitters have had acknowledged, on its way from the leader to those who
//! keep the same messages (guide 9.9.1). No I/O.
//!
//! The leader says where each of its sending windows stands: soon after it moved, and every now and
//! then again, as nobody acknowledges it. Positions only grow, so that a lost or late one costs a
//! follower memory for a while and nothing else; whoever follows takes one of the epoch that it
//! follows only, which the frame around it says.

const std = @import("std");
const assert = @import("../assert.zig").assert;

/// The transport's id, and: all below `acked` was acknowledged to the leader.
pub const TxPosition = @import("../wire/tier_frame.zig").TxPosition;

/// Sending windows of a context at most: transports of a configuration.
pub const windows_max = std.math.maxInt(u16);

pub const Options = struct {
    /// At least so long between two frames about the same move.
    interval_ns: u64,
    /// Everything is said again after this.
    repeat_ns: u64,
};

/// `Host` has the windows: `tx_count(h) u32`, `tx_position(h, i) TxPosition`, in a fixed order, and
/// `tx_told(h, transport: u16, acked: u64) void`.
pub fn TxPositions(comptime Host: type) type {
    return struct {
        const Self = @This();

        o: Options,
        host: *Host,
        /// What was said of each window last.
        said: []u64,
        /// Everything is due from here on; at the end: only what moved.
        repeat_at: u32 = 0,
        repeat_due_ns: u64 = 0,
        due_ns: u64 = 0,

        pub fn init(gpa: std.mem.Allocator, o: Options, host: *Host) error{OutOfMemory}!Self {
            const count = host.tx_count();
            assert(count <= windows_max and o.interval_ns <= o.repeat_ns);
            const said = try gpa.alloc(u64, count);
            @memset(said, 0);
            return .{ .o = o, .host = host, .said = said, .repeat_at = count };
        }

        pub fn deinit(self: *Self, gpa: std.mem.Allocator) void {
            gpa.free(self.said);
        }

        /// This member leads from now on: all followers are to hear everything.
        pub fn lead(self: *Self, now_ns: u64) void {
            self.repeat_at = 0;
            self.repeat_due_ns = now_ns;
            self.due_ns = now_ns;
        }

        /// Leader: positions for the next frame, as many as fit into `out`; 0: nothing now.
        pub fn poll(self: *Self, now_ns: u64, out: []TxPosition) u32 {
            assert(out.len > 0);
            if (now_ns < self.due_ns or self.said.len == 0) return 0;
            return gather(self, now_ns, out);
        }

        /// When `poll` may have something again.
        pub fn next_deadline_ns(self: *const Self) u64 {
            return if (self.said.len == 0) std.math.maxInt(u64) else self.due_ns;
        }

        /// Follower: what its leader said.
        pub fn take(self: *Self, positions: []const TxPosition) void {
            for (positions) |p| {
                if (p.transport == 0 or p.transport > std.math.maxInt(u16)) continue;
                self.host.tx_told(@intCast(p.transport), p.acked);
            }
        }
    };
}

/// `self`: a `TxPositions`.
fn gather(self: anytype, now_ns: u64, out: []TxPosition) u32 {
    const end: u32 = @intCast(self.said.len);
    if (now_ns >= self.repeat_due_ns) {
        self.repeat_at = 0;
        self.repeat_due_ns = now_ns + self.o.repeat_ns;
    }
    var n: u32 = 0;
    while (self.repeat_at < end and n < out.len) : (self.repeat_at += 1) {
        out[n] = self.host.tx_position(self.repeat_at);
        self.said[self.repeat_at] = out[n].acked;
        n += 1;
    }
    // The rest of it with the next frame, at once.
    if (n == out.len) return n;
    for (self.said, 0..) |*said, i| {
        if (n == out.len) return n;
        const at = self.host.tx_position(@intCast(i));
        if (at.acked <= said.*) continue;
        said.* = at.acked;
        out[n] = at;
        n += 1;
    }
    self.due_ns = now_ns + self.o.interval_ns;
    return n;
}

const testing = std.testing;

const TestHost = struct {
    acked: [3]u64 = .{ 5, 0, 7 },
    told: [4]u64 = @splat(0),

    fn tx_count(_: *const TestHost) u32 {
        return 3;
    }
    fn tx_position(self: *const TestHost, i: u32) TxPosition {
        return .{ .transport = i + 1, .acked = self.acked[i] };
    }
    fn tx_told(self: *TestHost, transport: u16, acked: u64) void {
        if (transport < self.told.len) self.told[transport] = @max(self.told[transport], acked);
    }
};

test "a leader says everything, then what moved, then everything again" {
    var host: TestHost = .{};
    var other: TestHost = .{};
    const o: Options = .{ .interval_ns = 10, .repeat_ns = 100 };
    var t: TxPositions(TestHost) = try .init(testing.allocator, o, &host);
    defer t.deinit(testing.allocator);
    var f: TxPositions(TestHost) = try .init(testing.allocator, o, &other);
    defer f.deinit(testing.allocator);
    t.lead(1000);
    // Two frames, as not all fit into one.
    var out: [2]TxPosition = undefined;
    try testing.expectEqual(2, t.poll(1000, &out));
    f.take(&out);
    try testing.expectEqual(1, t.poll(1000, &out));
    f.take(out[0..1]);
    try testing.expectEqual([4]u64{ 0, 5, 0, 7 }, other.told);
    try testing.expectEqual(0, t.poll(1000, &out));
    host.acked[1] = 3;
    try testing.expectEqual(0, t.poll(1009, &out));
    try testing.expectEqual(1, t.poll(1010, &out));
    try testing.expectEqual(TxPosition{ .transport = 2, .acked = 3 }, out[0]);
    try testing.expectEqual(0, t.poll(1020, &out));
    try testing.expectEqual(1020 + 10, t.next_deadline_ns());
    try testing.expectEqual(2, t.poll(1100, &out));
    try testing.expectEqual(1, t.poll(1100, &out));
}

test "what can't be true is passed over" {
    var host: TestHost = .{};
    const o: Options = .{ .interval_ns = 10, .repeat_ns = 100 };
    var t: TxPositions(TestHost) = try .init(testing.allocator, o, &host);
    defer t.deinit(testing.allocator);
    t.take(&.{ .{ .transport = 0, .acked = 1 }, .{ .transport = 1 << 20, .acked = 1 } });
    try testing.expectEqual([4]u64{ 0, 0, 0, 0 }, host.told);
}
