//! A member of a tier and its own transmitters (guide 9.9.1): they are told who leads, a leader
//! tells the others what its receivers have acknowledged, and a follower hears it. Run by the tier's
//! agent.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const epochs = @import("../tier/epoch.zig");
const clock = @import("clock.zig");
const tx_positions = @import("../tier/tx_positions.zig");
const assert = @import("../assert.zig").assert;
const Context = @import("context.zig").Context;
const Member = @import("tier_agent.zig").Member;
const TierHost = @import("tier_host.zig").TierHost;

const interval_ns = 10 * clock.ns_per_ms;
/// An agent that sleeps looks this often.
const look_ns = 100 * clock.ns_per_ms;

pub const TierSenders = struct {
    context: *Context,
    positions: tx_positions.TxPositions(Context),
    leads: bool = false,
    epoch: epochs.Epoch = epochs.none,

    /// Null: the context has no transmitters.
    pub fn init(
        gpa: std.mem.Allocator,
        context: *Context,
        heartbeat_ns: u64,
    ) error{OutOfMemory}!?TierSenders {
        if (context.channels.len == 0) return null;
        const o: tx_positions.Options = .{
            .interval_ns = interval_ns,
            .repeat_ns = @max(heartbeat_ns, interval_ns),
        };
        return .{ .context = context, .positions = try .init(gpa, o, context) };
    }

    /// To be called once the struct is where it stays.
    pub fn settle(self: *TierSenders, host: *TierHost) void {
        host.tx = .{ .context = self, .call = hear };
    }

    pub fn deinit(self: *TierSenders, gpa: std.mem.Allocator) void {
        self.positions.deinit(gpa);
    }

    /// After each step of the member.
    pub fn look(self: *TierSenders, now_ns: u64, member: *const Member) void {
        const leads = member.phase == .leading;
        const epoch = member.epoch_now();
        if (leads == self.leads and epochs.eql(epoch, self.epoch)) return;
        self.leads = leads;
        self.epoch = epoch;
        if (leads) self.positions.lead(now_ns);
        self.context.set_tier_role(leads, epoch);
    }

    /// Leader: the next TX_ACKED frame to all, in `image`. Its bytes, or null.
    pub fn poll_send(
        self: *TierSenders,
        now_ns: u64,
        member: *const Member,
        image: []align(8) u8,
    ) ?u32 {
        if (!self.leads or now_ns >= member.lease_until_ns) return null;
        const room = wire.room_behind(wire.TxAcked, image);
        const out: []wire.TxPosition = @ptrCast(room[0 .. room.len / 16 * 16]);
        const count = self.positions.poll(now_ns, out);
        if (count == 0) return null;
        const b = wire.begin(wire.TxAcked, .tx_acked, image, member.speaker(), 0);
        b.said.epoch = self.epoch;
        b.count = count;
        const fixed = frame.header_bytes + @sizeOf(wire.TxAcked);
        return wire.finish(image, fixed + count * @sizeOf(wire.TxPosition));
    }

    pub fn next_deadline_ns(self: *const TierSenders, now_ns: u64) u64 {
        if (!self.leads) return std.math.maxInt(u64);
        return @max(self.positions.next_deadline_ns(), now_ns + look_ns);
    }

    /// Follower: its leader said so.
    fn hear(context: *anyopaque, positions: []const wire.TxPosition) void {
        const self: *TierSenders = @ptrCast(@alignCast(context));
        self.positions.take(positions);
    }
};

comptime {
    assert(@sizeOf(wire.TxPosition) == 16);
}
