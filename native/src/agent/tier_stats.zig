//! A tier's part of the statistics (guide 9.13.4, `Tier.Send` and `Tier.Send.Ack`).

const std = @import("std");
const snapshot = @import("../stats/snapshot.zig");
const tree = @import("../tier/tree.zig");
const clock = @import("clock.zig");
const TierAgent = @import("tier_agent.zig").TierAgent;

const ns_per_ms = clock.ns_per_ms;

/// The receive agent's token is held.
pub fn write(agent: *TierAgent, w: *snapshot.Writer) void {
    const m = &agent.member;
    const is_leader = m.phase == .leading;
    var highest: u64 = 0;
    for (m.peers[0..m.o.members.len]) |*p| highest = @max(highest, p.acked);
    w.put(snapshot.TierSendStats{
        .ack_count = @intCast(m.o.members.len - @intFromBool(m.o.self != null)),
        .need = m.quorum.need,
        .to_send_msg_sqn = if (is_leader) m.sent else 0,
        .flow_control_count = m.counters.flow_controlled,
        .wait_ack_msg_sqn = if (is_leader) highest else m.acked,
        .last_send_ms = agent.last_send_ns / ns_per_ms,
    });
    for (m.peers[0..m.o.members.len], 0..) |*p, i| {
        if (m.o.self == @as(u32, @intCast(i))) continue;
        const is_there = tree.has(m.present(), @intCast(i));
        const at = p.address;
        w.put(snapshot.AckStats{
            .context_id = p.id,
            .state = if (is_there and at != null) .connected else .disconnect,
            .ip = if (at) |a| a.ip else 0,
            .port = if (at) |a| a.port else 0,
            .is_mandatory_acker = @intFromBool(tree.has(m.quorum.set, @intCast(i))),
            .is_configured = 1,
            .frag_no = 0,
            .is_out_of_memory = 0,
            .msg_no = p.acked,
            .highest_msg_no = p.handed,
            .last_recv_ms = p.heard_ns / ns_per_ms,
            .ack_count = p.ack_count,
            .nak_count = p.nak_count,
        });
    }
}
