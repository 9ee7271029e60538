//! Events and log lines on their way from the protocol to JavaScript: a bounded ring with one
//! writer (whoever holds the agent) and one reader (the thread of the factory). A full ring drops
//! the newest and counts it: the protocol never waits for somebody who reads logs.

const std = @import("std");
const abi = @import("../abi.zig");
const frame = @import("../wire/frame.zig");
const limits = @import("limits.zig");

pub const Notices = struct {
    ring: [limits.notices_max]abi.Notice = undefined,
    written: std.atomic.Value(u32) = .init(0),
    read: std.atomic.Value(u32) = .init(0),
    dropped: u64 = 0,

    pub const Args = struct {
        transport: u16 = 0,
        name: []const u8 = "",
        args: [4]f64 = @splat(0),
    };

    pub fn event(self: *Notices, kind: abi.EventType, a: Args) void {
        self.push(.event, @backingInt(kind), .info, a);
    }

    pub fn log(self: *Notices, key: abi.LogKey, level: abi.LogLevel, a: Args) void {
        self.push(.log, @backingInt(key), level, a);
    }

    /// The number of a role (guide 9.9.6).
    pub fn role(self: *Notices, role_number: u32, a: Args) void {
        self.push(.role, role_number, .imp, a);
    }

    /// What may be missed goes no further than this, so that a loss always finds room.
    const ordinary_max = limits.notices_max / 4 * 3;

    fn is_ordinary(kind: abi.NoticeKind, code: u32, level: abi.LogLevel) bool {
        return switch (kind) {
            .event => code == @backingInt(abi.EventType.fill_gap),
            .log => @backingInt(level) < @backingInt(abi.LogLevel.err),
            .role => false,
        };
    }

    fn push(self: *Notices, kind: abi.NoticeKind, code: u32, level: abi.LogLevel, a: Args) void {
        const at = self.written.raw;
        const room: u32 = if (is_ordinary(kind, code, level)) ordinary_max else limits.notices_max;
        if (at -% self.read.load(.acquire) >= room) {
            self.dropped += 1;
            return;
        }
        self.ring[at % limits.notices_max] = .{
            .kind = @backingInt(kind),
            .code = code,
            .level = @backingInt(level),
            .transport_id = a.transport,
            .args = a.args,
            .name_len = @intCast(a.name.len),
            .pad = 0,
            .name = frame.name_copy(a.name),
            .reserved = 0,
        };
        self.written.store(at +% 1, .release);
    }

    /// A loss is told by up to this many notices.
    const loss_notices = 4;

    /// For a loss and all that is said of it. Who finds none passes over nothing yet.
    pub fn has_room_for_loss(self: *const Notices) bool {
        const used = self.written.raw -% self.read.load(.acquire);
        return used + loss_notices <= limits.notices_max;
    }

    pub fn empty(self: *const Notices) bool {
        return self.written.load(.acquire) == self.read.load(.monotonic);
    }

    pub fn pop(self: *Notices, out: []abi.Notice) u32 {
        var n: u32 = 0;
        const end = self.written.load(.acquire);
        var at = self.read.raw;
        while (at != end and n < out.len) : (n += 1) {
            out[n] = self.ring[at % limits.notices_max];
            at +%= 1;
        }
        self.read.store(at, .release);
        return n;
    }
};

/// A number as JavaScript reads it; all of ours stay below 2^53.
pub fn number(n: u64) f64 {
    return @floatFromInt(n);
}

test "a full ring drops the newest and keeps the order" {
    var notices: Notices = .{};
    for (0..limits.notices_max + 3) |i| {
        notices.event(.message_loss, .{ .args = .{ number(i), 0, 0, 0 }, .name = "peer" });
    }
    try std.testing.expectEqual(3, notices.dropped);
    var out: [limits.notices_max + 1]abi.Notice = undefined;
    try std.testing.expectEqual(limits.notices_max, notices.pop(&out));
    try std.testing.expectEqual(0, out[0].args[0]);
    try std.testing.expect(notices.empty());
}
