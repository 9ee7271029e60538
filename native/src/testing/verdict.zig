//! What a simulation found: the first violation of a property ends the seed.

const std = @import("std");

/// The properties (design of the verification, and the rules of the API they come from).
pub const Check = enum {
    /// What is delivered was sent: bytes, arguments.
    integrity,
    /// Numbers of a stream in order, without gaps that nobody named.
    order,
    at_most_once,
    /// The context's own count.
    sqn,
    /// A gap is passed only with MESSAGE_LOSS and OUT_OF_SYNC naming exactly the range.
    honesty,
    /// A loss although the sender kept the message and the receiver was there.
    loss_without_cause,
    /// Where a receiver without a position begins.
    join_at,
    /// A session that the true sender did not agree on, or with a stale connection.
    session,
    /// An acknowledgement of what the receiver does not have.
    false_ack,
    /// Freed although somebody who is connected still needs it.
    freed_early,
    /// Numbers given while the send flag was off are told.
    told,
    /// More datagrams unacknowledged than SendWindowSize.
    window,
    /// Everything acknowledged, and still no room.
    deadlock,
    /// The network healed, and nothing moves any more.
    liveness,
    /// k lost datagrams cost more than about 2k NAKs or repairs.
    repair_cost,
    /// An agent that always has something to do and does nothing, or a storm of datagrams.
    storm,
    /// A receiver that does not move holds the others up for longer than it may.
    held_up,
    /// A dead or silent receiver that still counts as connected.
    dead_receiver,
    /// A sender whose silence is not noticed.
    silence,
    /// Events with wrong arguments, out of turn, or too often.
    events,
    /// A tier's position: gone on without a member's word, or back.
    tier,
    /// Memory that does not come back, or bounds that do not hold.
    memory,
    /// A window that does not go on where its process died.
    recovery,
    /// A record that does not give back what was recorded.
    record,
    /// Two members of a tier delivered different messages at one sqn, and neither said so.
    agreement,
    /// What was committed is not with a later leader, or was committed too early.
    durability,
    /// Two leaders of an epoch, or one that was not established.
    one_leader,
    /// An assertion in the code under test, or a fault of the processor.
    crash,
};

pub const Violation = struct {
    check: Check,
    at_ns: u64,
    length: u32,
    text: [320]u8,

    pub fn words(self: *const Violation) []const u8 {
        return self.text[0..self.length];
    }
};

pub const Verdict = struct {
    violation: ?Violation = null,

    /// Notes the first violation; later ones follow from it.
    pub fn fail(
        self: *Verdict,
        check: Check,
        at_ns: u64,
        comptime format: []const u8,
        args: anytype,
    ) void {
        @branchHint(.cold);
        if (self.violation != null) return;
        self.violation = .{ .check = check, .at_ns = at_ns, .length = 0, .text = undefined };
        const v = &self.violation.?;
        const text = std.fmt.bufPrint(&v.text, format, args) catch &v.text;
        v.length = @intCast(text.len);
    }
};
