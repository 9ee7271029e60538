//! A member of a tier that also sends (guide 9.9.1): its senders lead or follow as the member does,
//! and what receivers acknowledged goes from the leader to the others.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const positions_file = @import("../tier/tx_positions.zig");
const epochs = @import("../tier/epoch.zig");
const udp = @import("../transport/udp.zig");
const clock = @import("clock.zig");
const Context = @import("context.zig").Context;
const TierAgent = @import("tier_agent.zig").TierAgent;

const Positions = positions_file.TxPositions(Context);
const TxPosition = positions_file.TxPosition;
const positions_max = 64;
const interval_ns = 5 * clock.ns_per_ms;
const repeat_ns = 100 * clock.ns_per_ms;

comptime {
    std.debug.assert(@sizeOf(TxPosition) == @sizeOf(wire.TxPosition));
}

pub const TierTx = struct {
    context: *Context,
    positions: Positions,
    is_leader: bool = false,
    epoch: epochs.Epoch = .{},

    pub fn init(gpa: std.mem.Allocator, context: *Context) error{OutOfMemory}!TierTx {
        return .{
            .context = context,
            .positions = try .init(gpa, .{
                .interval_ns = interval_ns,
                .repeat_ns = repeat_ns,
            }, context),
        };
    }

    pub fn deinit(self: *TierTx, gpa: std.mem.Allocator) void {
        self.positions.deinit(gpa);
    }

    /// Each step: tells the senders of a change.
    pub fn step(self: *TierTx, now_ns: u64, agent: *const TierAgent) void {
        const m = &agent.member;
        const is_leader = m.phase == .leading;
        const epoch = switch (m.phase) {
            .leading, .following => m.epoch_now(),
            // Whoever neither leads nor follows sends nothing new, in the reign that it knew.
            else => self.epoch,
        };
        if (is_leader == self.is_leader and epochs.eql(epoch, self.epoch)) return;
        self.is_leader = is_leader;
        self.epoch = epoch;
        if (epochs.is_none(epoch)) return;
        self.context.set_tier_role(is_leader, epoch);
        if (is_leader) self.positions.lead(now_ns);
    }

    pub fn hear(context: *anyopaque, told: []const wire.TxPosition) void {
        const self: *TierTx = @ptrCast(@alignCast(context));
        const first: [*]const TxPosition = @ptrCast(told.ptr);
        self.positions.take(first[0..told.len]);
    }

    /// Leader: the next frame for the group. Its bytes.
    pub fn poll_send(self: *TierTx, now_ns: u64, agent: *TierAgent, image: []align(8) u8) ?u32 {
        if (!self.is_leader) return null;
        const m = &agent.member;
        if (m.phase != .leading or now_ns >= m.lease_until_ns) return null;
        const b = wire.begin(wire.TxAcked, .tx_acked, image, m.speaker(), 0);
        b.said.epoch = m.epoch;
        const room = wire.room_behind(wire.TxAcked, image);
        const first: [*]TxPosition = @ptrCast(@alignCast(room.ptr));
        const most = @min(room.len / @sizeOf(TxPosition), positions_max);
        const count = self.positions.poll(now_ns, first[0..most]);
        if (count == 0) return null;
        b.count = count;
        const bytes = frame.header_bytes + @sizeOf(wire.TxAcked) + count * @sizeOf(TxPosition);
        return wire.finish(image, @intCast(bytes));
    }

    pub fn next_deadline_ns(self: *const TierTx) u64 {
        return if (self.is_leader) self.positions.next_deadline_ns() else std.math.maxInt(u64);
    }
};
