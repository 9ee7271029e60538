//! Three members over a perfect network and a perfect arbiter: the thin path of `member.zig`. What
//! can go wrong is the simulator's.

const std = @import("std");
const limits = @import("limits.zig");
const member = @import("member.zig");
const seal = @import("../wire/seal.zig");
const abi = @import("../abi.zig");
const Notices = @import("../session/notices.zig").Notices;
const tree = @import("tree.zig");
const bed = @import("test_tier.zig");
const Tier = bed.Tier;
const member_count = bed.member_count;

const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const ms = std.time.ns_per_ms;

test "members elect a leader, agree on the order, and go on when the leader dies" {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    for (0..member_count) |i| t.start(i);
    try t.run_until(Tier.has_two_followers);
    t.stage_everywhere(0, 1000, null);
    try t.run_until(Tier.has_all);
    const first = t.leads().?;
    t.kill(first);
    try t.run_until(Tier.is_active);
    const second = t.leads().?;
    try expect(second != first);
    t.stage_everywhere(1000, 1500, null);
    try t.run_until(Tier.has_all);
    try expectEqual(1500, t.hosts[second].next());
    try expectEqual(2, t.hosts[second].eras().len);
    try expectEqual(1000, t.hosts[second].eras()[1].first_sqn);
}

test "a follower pulls what its senders no longer have, and a late one the whole log" {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    t.start(0);
    t.start(1);
    try t.run_until(Tier.is_active);
    const lacks = 1 - t.leads().?;
    t.stage_everywhere(0, 700, lacks);
    try t.run_until(Tier.has_all);
    t.start(2);
    try t.run_until(Tier.has_all);
    try expectEqual(700, t.hosts[2].next());
    try t.run_until(Tier.has_two_followers);
}

test "alone a member is SINGLE, and its successor needs its log" {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    t.start(0);
    try t.run_until(Tier.is_first_single);
    t.stage_everywhere(0, 50, null);
    try t.run_until(Tier.has_all);
    t.kill(0);
    t.start(1);
    for (0..100_000) |_| t.step();
    try expect(t.members[1].phase != .leading);
    try expectEqual(member.Failure.no_quorum, t.members[1].failed);
}

test "members with one GroupKey agree; one that has another is refused, and both sides say so" {
    const gpa = std.testing.allocator;
    const key: seal.GroupKey = @splat(1);
    const t = try Tier.make_keyed(gpa, 1, .{ key, key, @splat(2) });
    defer t.free(gpa);
    for (0..member_count) |i| t.start(i);
    t.stage_everywhere(0, 600, null);
    try t.run_until(struct {
        fn holds(x: *Tier) bool {
            return @min(x.hosts[0].committed_sqn, x.hosts[1].committed_sqn) == 600;
        }
    }.holds);
    for (0..60_000) |_| t.step();
    try expectEqual(0, t.hosts[2].next());
    try expect(!t.members[2].started);
    for (&t.members, &t.notices) |*m, *notices| {
        try expect(m.counters.unauthenticated > 0);
        try expectEqual(0, m.counters.replayed);
        // Six seconds, and a line every ten.
        try expectEqual(1, lines_of(notices, .tier_unauthenticated));
    }
}

test "a member without a GroupKey and those with one do not hear each other" {
    const gpa = std.testing.allocator;
    const key: seal.GroupKey = @splat(1);
    const t = try Tier.make_keyed(gpa, 1, .{ key, key, null });
    defer t.free(gpa);
    for (0..member_count) |i| t.start(i);
    t.stage_everywhere(0, 10, null);
    for (0..60_000) |_| t.step();
    try expectEqual(10, @min(t.hosts[0].committed_sqn, t.hosts[1].committed_sqn));
    try expectEqual(0, t.hosts[2].next());
    for (&t.notices) |*n| try expectEqual(1, lines_of(n, .tier_unauthenticated));
}

fn lines_of(notices: *Notices, key: abi.LogKey) u32 {
    var count: u32 = 0;
    var out: [16]abi.Notice = undefined;
    while (true) {
        const n = notices.pop(&out);
        if (n == 0) return count;
        for (out[0..n]) |*notice| {
            if (notice.kind != @backingInt(abi.NoticeKind.log)) continue;
            count += @intFromBool(notice.code == @backingInt(key));
        }
    }
}

test "the operator lets a member lead, once, with the freshest log that it reaches" {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    const is_single = struct {
        fn holds(x: *Tier) bool {
            const l = x.leads() orelse return false;
            return x.members[l].role() == .single and x.view.running == l;
        }
    }.holds;
    t.start(0);
    try t.run_until(is_single);
    t.stage_everywhere(0, 50, null);
    try t.run_until(Tier.has_all);
    // Member 2 has a part of it, and member 1 nothing.
    t.hosts[2].begin_era(t.view.established_epoch);
    for (0..20) |no| try t.hosts[2].log.append(gpa, bed.TestHost.entry_of(no, 1));
    t.hosts[2].durable = t.hosts[0].durable;
    t.hosts[2].durable.is_intact = false;
    t.kill(0);
    t.start(1);
    t.start(2);
    for (0..100_000) |_| t.step();
    try expectEqual(null, t.leads());
    // The one with nothing is chosen: it takes over what the other one has.
    t.view.forced = 1;
    t.view.master_version += 1;
    t.changed();
    const asked_ns = t.now_ns;
    try t.run_until(struct {
        fn holds(x: *Tier) bool {
            return x.leads() == 1 and x.members[1].role() == .active;
        }
    }.holds);
    // Long before a candidate without a quorum would have tried again.
    try expect(t.now_ns - asked_ns < 4000 * ms);
    const eras = t.hosts[1].eras();
    try expectEqual(20, eras[eras.len - 1].first_sqn);
    try expectEqual(tree.nobody, t.view.forced);
    // What was lost is ordered again where senders still have it.
    try t.run_until(struct {
        fn holds(x: *Tier) bool {
            return x.hosts[1].next() == 50 and x.hosts[2].next() == 50;
        }
    }.holds);
}

test "what the operator asked of a member that is not there keeps nobody else from leading" {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    t.view.forced = 2;
    t.start(0);
    try t.run_until(Tier.is_first_single);
    try expectEqual(tree.nobody, t.view.forced);
}

test "members make way for the one that the operator chose, for a while" {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    t.view.forced = 2;
    // It is there, and does nothing.
    t.view.present |= tree.set_of(2);
    t.start(0);
    const began_ns = t.now_ns;
    try t.run_until(Tier.is_first_single);
    try expect(t.now_ns - began_ns >= 5000 * ms);
}

/// Two lead and follow with a log, the third one has nothing; what the pull costs.
const Cost = struct { sent: u64, taken: u64, late: u64, took_ms: u64 };

fn catch_up(delay_ns: u64, fill_lost_of: u32, messages: u64) !Cost {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    t.start(0);
    t.start(1);
    try t.run_until(Tier.is_active);
    t.stage_everywhere(0, messages, 2);
    try t.run_until(Tier.has_all);
    t.delay_ns = delay_ns;
    t.fill_lost_of = fill_lost_of;
    const from_ns = t.now_ns;
    t.start(2);
    try t.run_until(Tier.has_all);
    try t.run_until(Tier.has_two_followers);
    return .{
        .late = t.members[2].counters.pulls_late,
        .took_ms = (t.now_ns - from_ns) / ms,
        .sent = t.members[t.leads().?].counters.fill_bytes,
        .taken = t.members[2].counters.fill_bytes_taken,
    };
}

test "whatever comes in one step, more is asked for before the last datagram is there" {
    const cost = try catch_up(1 * ms, 0, 20_000);
    try expectEqual(0, cost.late);
    // 800 datagrams, 42 under way; a request that has to time out takes 10 ms for these.
    try expect(cost.took_ms <= 150);
}

test "answers that take longer than a request waits at first are not sent twice" {
    const cost = try catch_up(8 * ms, 0, 20_000);
    try expect(cost.taken > 20_000 * 8);
    try expect(cost.sent * 4 <= cost.taken * 5);
}

test "where a datagram of a hundred is lost a log still costs less than three times its bytes" {
    const cost = try catch_up(1 * ms, 100, 20_000);
    try expect(cost.sent <= cost.taken * 3);
}

test "what a follower's senders never brought it pulls in one go, not a message at a time" {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    for (0..member_count) |i| t.start(i);
    try t.run_until(Tier.has_two_followers);
    const lacks = (t.leads().? + 1) % member_count;
    t.delay_ns = 1 * ms;
    // It hears of all entries, so that it is not far behind, and has none of the messages.
    const messages = @min(5000, limits.pull_lag / 2);
    t.stage_everywhere(0, messages, lacks);
    const from_ns = t.now_ns;
    try t.run_until(Tier.has_all);
    // 25 of them in a datagram, and two datagrams in each 5 ms were 10,000 in a second.
    try expect((t.now_ns - from_ns) / ms <= 60 + messages / 25);
}

test "one far behind lets others try to lead first" {
    const gpa = std.testing.allocator;
    const t = try Tier.make(gpa, 1);
    defer t.free(gpa);
    t.start(0);
    t.start(1);
    try t.run_until(Tier.is_active);
    t.stage_everywhere(0, 20_000, 2);
    try t.run_until(Tier.has_all);
    t.delay_ns = 8 * ms;
    t.start(2);
    try t.run_until(struct {
        fn holds(x: *Tier) bool {
            return x.hosts[2].next() > 500;
        }
    }.holds);
    try expect(t.hosts[2].next() < 15_000);
    // A blank one and a dead one are too many: who wins waits. But the one with the log tries.
    t.kill(t.leads().?);
    try t.run_until(struct {
        fn holds(x: *Tier) bool {
            return x.view.running != tree.nobody;
        }
    }.holds);
    try expect(t.view.running != 2);
    try expectEqual(0, t.members[2].counters.elections);
}
