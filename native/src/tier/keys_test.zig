//! Keys of a tier that act in `member.zig` and the files beside it: each is set one way and the
//! other, and what members do differs.

const std = @import("std");
const epochs = @import("epoch.zig");
const bed = @import("test_tier.zig");
const Tier = bed.Tier;
const member_count = bed.member_count;

const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const gpa = std.testing.allocator;

fn leads_two(t: *Tier) bool {
    const l = t.leads() orelse return false;
    return t.members[l].role() == .active;
}

/// SQN datagrams for 400 messages that come one by one.
fn datagrams_for(is_batched: bool) !u64 {
    const t = try Tier.make_with(gpa, .{ .is_batched = is_batched });
    defer t.free(gpa);
    for (0..member_count) |i| t.start(i);
    try t.run_until(Tier.has_two_followers);
    const leader = &t.members[t.leads().?];
    const before = leader.counters.sqns_sent;
    for (0..400) |no| {
        t.stage_everywhere(no, no + 1, null);
        t.step();
    }
    try t.run_until(Tier.has_all);
    return leader.counters.sqns_sent - before;
}

test "AsynchronousSqn: entries wait for each other" {
    try expectEqual(400, try datagrams_for(false));
    // A step is 100 us, and they wait for 200.
    const batched = try datagrams_for(true);
    try expect(batched <= 201 and batched >= 100);
}

test "SyncSendWindowSize: so many entries are told beyond what is committed" {
    for ([_]u32{ 4, 32 }) |window| {
        const t = try Tier.make_with(gpa, .{ .send_window = window });
        defer t.free(gpa);
        t.start(0);
        t.start(1);
        try t.run_until(leads_two);
        const l = t.leads().?;
        // Nobody acknowledges any more.
        t.alive[1 - l] = false;
        t.stage_everywhere(0, 500, null);
        for (0..100) |_| t.step();
        const m = &t.members[l];
        try expectEqual(500, t.hosts[l].next());
        try expectEqual(window, m.sent - @max(m.first, m.committed));
        try expect(m.counters.flow_controlled > 0);
        t.alive[1 - l] = true;
        try t.run_until(Tier.has_all);
    }
}

test "SyncMaxDiff: a start is done so close to the leader's end" {
    const Start = struct {
        fn lag(max_diff: u64) !u64 {
            const t = try Tier.make_with(gpa, .{ .sync_max_diff = max_diff });
            defer t.free(gpa);
            t.start(0);
            t.start(1);
            try t.run_until(leads_two);
            t.stage_everywhere(0, 3000, null);
            try t.run_until(Tier.has_all);
            t.start(2);
            try t.run_until(struct {
                fn holds(x: *Tier) bool {
                    return x.members[2].is_started();
                }
            }.holds);
            return 3000 - t.hosts[2].next();
        }
    };
    try expectEqual(0, try Start.lag(0));
    const lag = try Start.lag(1000);
    try expect(lag > 0 and lag <= 1000);
}

/// One leads alone and dies; the other, which has nothing of it, starts.
fn successor_of_single(policy: @import("member.zig").Policy) !bool {
    const t = try Tier.make_with(gpa, .{ .policy = policy });
    defer t.free(gpa);
    t.start(0);
    try t.run_until(Tier.is_first_single);
    t.stage_everywhere(0, 50, null);
    try t.run_until(Tier.has_all);
    t.kill(0);
    t.start(1);
    for (0..100_000) |_| {
        if (t.leads() != null) return true;
        t.step();
    }
    return false;
}

test "ElectionPolicy: who may lose takes what there is" {
    try expect(!try successor_of_single(.safe));
    try expect(try successor_of_single(.freshest));
    try expect(try successor_of_single(.race));
}

test "IsObserver: it is given what is committed, and has no voice" {
    const t = try Tier.make_with(gpa, .{ .has_observer = true });
    defer t.free(gpa);
    for (0..member_count) |i| t.start(i);
    try t.run_until(leads_two);
    t.stage_everywhere(0, 300, null);
    try t.run_until(Tier.has_all);
    try t.run_until(struct {
        fn holds(x: *Tier) bool {
            return x.hosts[2].shown == 300 and x.members[2].is_started();
        }
    }.holds);
    for (t.members[0..2]) |*m| {
        for (&m.peers) |*p| if (p.id == Tier.names[2].id) {
            try expectEqual(0, p.ack_count);
            try expect(p.promise == null);
        };
    }
    // The other one is gone: the observer makes no commit possible, and does not lead either.
    const l = t.leads().?;
    t.alive[1 - l] = false;
    t.stage_everywhere(300, 310, null);
    for (0..200) |_| t.step();
    try expectEqual(310, t.hosts[l].next());
    try expectEqual(300, t.hosts[l].committed_sqn);
    t.kill(l);
    for (0..50_000) |_| t.step();
    try expect(t.members[2].phase != .leading);
    try expect(epochs.is_none(t.members[2].epoch));
}
