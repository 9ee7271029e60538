//! Epochs of a tier, and the history of who assigned which part of the order.
//!
//! An epoch is the reign of one leader: a number that grows with each election, and a random id
//! that tells two winners with one number apart (a tree that was wiped). An *era* is the part of
//! the log that one epoch's leader assigned. An entry is the same in two logs iff its sqn and its
//! assigning epoch are; so the longest common prefix of two logs follows from their eras alone.

const std = @import("std");
const assert = @import("../assert.zig").assert;
pub const Epoch = @import("../wire/frame.zig").Epoch;

/// The number before any election: nobody leads, nothing was promised.
pub const none: Epoch = .{};

pub fn eql(a: Epoch, b: Epoch) bool {
    return a.number == b.number and a.id == b.id;
}

/// Order of (number, id). Equal numbers with different ids never agree: who meets one refuses it.
pub fn less(a: Epoch, b: Epoch) bool {
    return a.number < b.number or (a.number == b.number and a.id < b.id);
}

pub fn max(a: Epoch, b: Epoch) Epoch {
    return if (less(a, b)) b else a;
}

pub fn is_none(e: Epoch) bool {
    return e.number == 0;
}

/// From `first_sqn` on, up to the next era's, entries were assigned by the leader of `epoch`.
pub const Era = extern struct { epoch: Epoch, first_sqn: u64 };

/// The numbers that a member forces to disk before it answers (design/ha.md, Election 2 and 4).
pub const Durable = struct {
    /// Highest epoch seen: anything older is refused.
    promised: Epoch = none,
    /// Last epoch whose leader's log was taken over.
    adopted: Epoch = none,
    /// The log holds all that this member ever acknowledged.
    is_intact: bool = false,
};

/// One past the last sqn of the longest common prefix of two logs. `ours`, `theirs`: eras in order;
/// `our_next`, `their_next`: one past the last sqn of each.
pub fn common_prefix(ours: []const Era, our_next: u64, theirs: []const Era, their_next: u64) u64 {
    var a: Walk = .{ .eras = ours, .next_sqn = our_next };
    var b: Walk = .{ .eras = theirs, .next_sqn = their_next };
    var common: u64 = 0;
    while (a.next()) |x| {
        const y = b.next() orelse return common;
        if (!eql(x.epoch, y.epoch) or x.start != y.start) return common;
        assert(x.end > common and y.end > common);
        common = @min(x.end, y.end);
        if (x.end != y.end) return common;
    }
    return common;
}

/// Over the eras that have entries: one without left no trace in a log.
const Walk = struct {
    eras: []const Era,
    next_sqn: u64,
    at: usize = 0,

    const Part = struct { epoch: Epoch, start: u64, end: u64 };

    fn next(self: *Walk) ?Part {
        while (self.at < self.eras.len) {
            const era = self.eras[self.at];
            self.at += 1;
            const is_last = self.at == self.eras.len;
            const end = if (is_last) self.next_sqn else self.eras[self.at].first_sqn;
            if (end > era.first_sqn) return .{
                .epoch = era.epoch,
                .start = era.first_sqn,
                .end = end,
            };
        }
        return null;
    }
};

test "the common prefix of two logs follows from their eras" {
    const expectEqual = std.testing.expectEqual;
    const e1: Epoch = .{ .number = 1, .id = 7 };
    const e2: Epoch = .{ .number = 2, .id = 9 };
    const e2b: Epoch = .{ .number = 2, .id = 8 };
    const a: [2]Era = .{ .{ .epoch = e1, .first_sqn = 0 }, .{ .epoch = e2, .first_sqn = 10 } };
    const b: [2]Era = .{ .{ .epoch = e1, .first_sqn = 0 }, .{ .epoch = e2b, .first_sqn = 12 } };
    const c: [2]Era = .{ .{ .epoch = e1, .first_sqn = 0 }, .{ .epoch = e2b, .first_sqn = 10 } };
    try expectEqual(20, common_prefix(&a, 20, &a, 30));
    try expectEqual(10, common_prefix(&a, 20, &b, 30));
    try expectEqual(10, common_prefix(&a, 20, &c, 30));
    try expectEqual(5, common_prefix(a[0..1], 5, &b, 30));
    try expectEqual(10, common_prefix(a[0..1], 10, &c, 30));
    try expectEqual(0, common_prefix(&.{}, 0, &c, 30));
    // An era without entries is not one: d has e1 up to 10, e2 nothing, e3 from 10 on.
    const e3: Epoch = .{ .number = 3, .id = 1 };
    const d: [3]Era = .{ a[0], a[1], .{ .epoch = e3, .first_sqn = 10 } };
    const d2: [2]Era = .{ a[0], .{ .epoch = e3, .first_sqn = 10 } };
    try expectEqual(20, common_prefix(&d, 20, &d2, 25));
    try expectEqual(10, common_prefix(&a, 10, &d, 25));
}

test "epochs are ordered by number, then id" {
    const expect = std.testing.expect;
    try expect(less(.{ .number = 1, .id = 9 }, .{ .number = 2, .id = 0 }));
    try expect(less(.{ .number = 2, .id = 0 }, .{ .number = 2, .id = 1 }));
    try expect(!less(.{ .number = 2, .id = 1 }, .{ .number = 2, .id = 1 }));
    try expect(is_none(none));
}
