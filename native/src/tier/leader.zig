//! What an established leader does: it orders what is staged, tells the entries, counts
//! acknowledgements, commits, and changes (S, need) as members come and go (design: Replication,
//! "What a commit needs"). Functions over a `Member(Host)`.
//!
//!     committed <= sent <= next
//!
//! A commit needs `need` others of S to hold the sqn in this epoch. While a change of (S, need) is
//! on its way to the tree both pairs must be satisfied: nobody knows which of them an election
//! would find.

const std = @import("std");
const mutant = @import("../testing/mutant.zig");
const assert = @import("../assert.zig").assert;
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const epochs = @import("epoch.zig");
const tree = @import("tree.zig");
const limits = @import("limits.zig");
const member = @import("member.zig");
const number = @import("../session/notices.zig").number;
const fill = @import("fill.zig");
const is_result = @import("results.zig").is_result;
const Entry = @import("entry.zig").Entry;

const Peer = member.Peer;
const Send = member.Send;
const Quorum = tree.Quorum;
const Set = tree.Set;

pub fn begin(m: anytype, now_ns: u64) void {
    m.phase = .leading;
    m.host.begin_era(m.epoch);
    m.host.retire_stage();
    m.first = m.host.next();
    m.sent = m.first;
    m.pushed = m.first;
    m.changing = null;
    m.acked_any_ns = now_ns;
    m.leader_id = m.o.id;
    m.clear_ring();
    for (&m.peers) |*p| {
        p.joined_nonce = 0;
        p.answered_nonce = 0;
        p.was_present = false;
        p.is_intact = false;
        p.acked = 0;
        p.acked_ns = now_ns;
        p.pull = .{};
    }
    m.heartbeat_due_ns = now_ns;
    m.heartbeat_gap_ns = limits.heartbeat_first_ns;
    m.notices.log(.tier_established, .imp, .{ .args = .{
        number(m.epoch.number),
        number(m.first),
        number(tree.count(m.quorum.set)),
        number(m.quorum.need),
    } });
}

/// SINGLE: nobody else needs to hold what is committed.
fn is_alone(q: Quorum) bool {
    return q.need == 0;
}

/// With `AckCount` >= 2 the first pair, {leader} and 0, only precedes (all, k): it commits nothing.
fn is_first_step(m: anytype, q: Quorum) bool {
    return is_alone(q) and m.o.ack_count >= 2 and m.o.members.len > 1;
}

pub fn role_of(m: anytype) member.Role {
    if (is_first_step(m, m.quorum)) return if (m.started) .inactive else .sync;
    return if (is_alone(m.quorum)) .single else .active;
}

// -------------------------------------------------------------------- time

pub fn tick(m: anytype, now_ns: u64, wall_ms: u64) void {
    // A session that may be over orders and commits nothing; what it did stands.
    if (now_ns >= m.lease_until_ns) return;
    order(m, wall_ms);
    commit(m);
    look_at_followers(m, now_ns);
    if (m.phase != .leading) return;
    if (m.pending == null and m.changing == null) change_quorum(m);
    if (now_ns >= m.heartbeat_due_ns) m.has_news = true;
}

fn order(m: anytype, wall_ms: u64) void {
    const ahead = m.host.next() - m.committed;
    if (ahead >= limits.ring_entries / 2) return;
    _ = m.host.order(wall_ms, limits.order_step);
}

/// The highest sqn that a pair lets be committed.
fn committable(m: anytype, q: Quorum) u64 {
    const own = m.host.durable_next();
    if (is_first_step(m, q)) return 0;
    if (is_alone(q)) return own;
    // The need-th highest of the others' acknowledgements.
    var acks: [tree.members_max]u64 = undefined;
    var count: usize = 0;
    for (m.peers[0..m.o.members.len], 0..) |*p, i| {
        if (!tree.has(q.set & m.others(), @intCast(i)) or !counts(p)) continue;
        acks[count] = p.acked;
        count += 1;
    }
    if (count < q.need) return 0;
    std.sort.insertion(u64, acks[0..count], {}, std.sort.desc(u64));
    return @min(own, acks[q.need - 1]);
}

/// It joined in this epoch, and its log is intact.
fn counts(p: *const Peer) bool {
    return p.joined_nonce != 0 and p.is_intact;
}

fn commit(m: anytype) void {
    var sqn = committable(m, m.quorum);
    if (m.changing) |q| if (!mutant.on(.tier_old_pair_commits)) {
        sqn = @min(sqn, committable(m, q));
    };
    if (sqn > m.committed) {
        m.commit_to(@min(sqn, m.host.next()));
        // Followers that deliver on commit wait for the word.
        if (m.o.use_committed or m.has_observers) m.has_news = true;
    }
    m.show_to(m.committed);
}

// -------------------------------------------------------------------- followers

pub fn on_ack(m: anytype, now_ns: u64, p: *Peer, h: *const frame.Header) void {
    if (m.phase != .leading) return;
    const b = wire.body(wire.SqnAck, h);
    const is_of_epoch = epochs.eql(b.said.epoch, m.epoch) or mutant.on(.tier_old_epoch_acks);
    if (!is_of_epoch or m.place_of(p.id) == null) return;
    // Of an earlier start than the one that joined: what it held may be gone.
    const is_of_start = p.answered_nonce == h.connection() or mutant.on(.tier_old_start_acks);
    if (p.answered_nonce == 0 or !is_of_start) {
        // It was answered in this epoch, or it would not acknowledge; what made us forget that was
        // an earlier start's question that came late. The next one counts.
        return greet(p, now_ns, h.connection());
    }
    if (h.number > m.host.next()) return;
    p.joined_nonce = p.answered_nonce;
    p.acked_ns = now_ns;
    p.ack_count += 1;
    m.acked_any_ns = now_ns;
    p.is_intact = p.is_intact or b.is_intact != 0;
    p.handed = b.handed;
    if (h.number <= p.acked) return;
    p.acked = h.number;
    m.heartbeat_gap_ns = limits.heartbeat_first_ns;
    if (now_ns < m.lease_until_ns) commit(m);
}

pub fn on_nak(m: anytype, p: *Peer, h: *const frame.Header) void {
    if (m.phase != .leading) return;
    const b = wire.body(wire.SqnNak, h);
    if (!epochs.eql(b.said.epoch, m.epoch)) return;
    p.nak_count += 1;
    p.nak_from = h.number;
    // Whoever lacks more pulls it.
    p.nak_end = @min(@min(b.end, h.number + limits.order_step), m.sent);
    p.due.entries = p.nak_from < p.nak_end;
    m.has_dues = true;
}

/// Another start of a member speaks: nothing that was acknowledged before counts.
pub fn greet(p: *Peer, now_ns: u64, nonce: u64) void {
    p.answered_nonce = nonce;
    p.joined_nonce = nonce;
    p.is_intact = false;
    p.acked = 0;
    p.acked_ns = now_ns;
}

fn look_at_followers(m: anytype, now_ns: u64) void {
    var waits_for_somebody = false;
    for (m.peers[0..m.o.members.len], 0..) |*p, i| {
        const bit = tree.set_of(@intCast(i));
        if (bit & m.others() == 0) continue;
        const is_present = bit & m.present() != 0;
        if (is_present) waits_for_somebody = true;
        if (p.joined_nonce == 0) continue;
        const is_silent = now_ns -| p.acked_ns >= m.o.ack_timeout_ns;
        // One that joined may be seen in the tree later than it is heard.
        const has_left = p.was_present and !is_present;
        p.was_present = is_present;
        if (!is_silent and !has_left) continue;
        p.joined_nonce = 0;
        p.is_intact = false;
        p.acked = 0;
        m.notices.event(.tier_receiver_down, .{ .name = m.o.members[i].name });
    }
    // It reaches the arbiter but nobody else: another may do better.
    const needs = m.quorum.need > 0 or m.changing != null and m.changing.?.need > 0;
    if (!needs or !waits_for_somebody) {
        m.acked_any_ns = now_ns;
        return;
    }
    if (now_ns -| m.acked_any_ns < m.o.ack_timeout_ns) return;
    m.notices.log(.tier_unheard, .err, .{ .args = .{
        number(m.epoch.number), number(m.committed), number(m.host.next()), 0,
    } });
    m.stand_aside(now_ns);
}

// -------------------------------------------------------------------- (S, need)

/// Everything below is acknowledged in this epoch before a pair may change.
fn point(m: anytype) u64 {
    if (mutant.on(.tier_grow_after_committed)) return m.committed;
    return @max(m.first, m.committed);
}

/// Others that hold everything below the point.
fn in_sync(m: anytype) Set {
    var set: Set = 0;
    for (m.peers[0..m.o.members.len], 0..) |*p, i| {
        const bit = tree.set_of(@intCast(i));
        const is_known = counts(p) or mutant.on(.tier_grow_after_committed);
        if (bit & m.others() == 0 or !is_known or p.acked < point(m)) continue;
        set |= bit;
    }
    return set;
}

fn wanted(m: anytype) Quorum {
    const alone: Quorum = .{ .set = m.self_set(), .need = 0 };
    if (m.o.members.len == 1) return alone;
    const followers = m.present() & m.others();
    if (m.o.ack_count <= 1 and followers == 0) return alone;
    if (mutant.on(.tier_s_from_classer)) return .{
        .set = m.self_set() | followers,
        .need = @min(@as(u32, @intCast(@max(1, m.o.ack_count))), tree.count(followers)),
    };
    if (m.o.ack_count >= 0) {
        return .{ .set = m.all, .need = @intCast(@max(1, m.o.ack_count)) };
    }
    // Whoever is in S stays in it as long as it is there; others come in when they are in sync.
    const set = m.self_set() | ((m.quorum.set | in_sync(m)) & followers);
    if (set == m.self_set()) return m.quorum;
    return .{ .set = set, .need = tree.count(set) - 1 };
}

fn change_quorum(m: anytype) void {
    const q = wanted(m);
    if (q.set == m.quorum.set and q.need == m.quorum.need) return;
    // In this order: both pairs in force, then the look, then the write.
    m.changing = q;
    if (tree.count(in_sync(m) & q.set) < q.need and !mutant.on(.tier_s_from_classer)) {
        m.changing = null;
        return;
    }
    m.order_command(.establish, q);
}

pub fn on_changed(m: anytype, now_ns: u64, a: *const tree.Answer) void {
    if (a.outcome != .done) return m.step_down(now_ns);
    m.version = a.version;
    m.quorum = m.changing.?;
    m.changing = null;
    m.acked_any_ns = now_ns;
    m.notices.log(.tier_quorum, .info, .{ .args = .{
        number(m.epoch.number),
        number(tree.count(m.quorum.set)),
        number(m.quorum.need),
        number(m.committed),
    } });
}

// -------------------------------------------------------------------- to send

pub fn poll_send(m: anytype, now_ns: u64, image: []align(8) u8) ?Send {
    if (now_ns >= m.lease_until_ns) return null;
    if (m.host.pushes()) if (push_results(m, image)) |send| return send;
    if (next_entries(m, now_ns)) |count| {
        const bytes = write_entries(m, image, m.sent, count);
        m.sent += count;
        m.counters.sqns_sent += 1;
        m.counters.entries_sent += count;
        m.has_news = false;
        m.heartbeat_gap_ns = limits.heartbeat_first_ns;
        m.heartbeat_due_ns = now_ns + m.heartbeat_gap_ns;
        return .{ .to = null, .bytes = bytes };
    }
    if (!m.has_news) return null;
    const b = wire.begin(wire.Commit, .commit, image, m.speaker(), m.host.next());
    b.said.epoch = m.epoch;
    b.first = m.first;
    b.committed = m.committed;
    const bytes = wire.finish(image, frame.header_bytes + @sizeOf(wire.Commit));
    m.has_news = false;
    m.heartbeat_gap_ns = @min(m.heartbeat_gap_ns * 4, m.o.heartbeat_interval_ns);
    m.heartbeat_due_ns = now_ns + m.heartbeat_gap_ns;
    return .{ .to = null, .bytes = bytes };
}

/// How many entries go now: a window beyond what a commit needs.
fn next_entries(m: anytype, now_ns: u64) ?u32 {
    const next = m.host.next();
    if (m.sent == next) return null;
    const most = wire.entries_max(m.o.datagram_bytes);
    const limit = send_limit(m);
    if (m.sent >= limit) {
        m.counters.flow_controlled += 1;
        return null;
    }
    const count: u32 = @intCast(@min(next - m.sent, limit - m.sent, most));
    if (m.o.is_batched and count < most) {
        // `AsynchronousSqn`: a moment for others to come along.
        if (m.batch_due_ns == 0) m.batch_due_ns = now_ns + limits.batch_ns;
        if (now_ns < m.batch_due_ns) return null;
    }
    m.batch_due_ns = 0;
    return count;
}

fn send_limit(m: anytype) u64 {
    const base = if (is_alone(m.quorum) and m.changing == null) m.sent else m.committed;
    return @max(base, m.first) + m.o.send_window;
}

/// Nobody else sends transactions: their bytes go to all, in front of their entries. What is longer
/// than a datagram, or lost, others pull.
fn push_results(m: anytype, image: []align(8) u8) ?Send {
    m.pushed = @max(m.pushed, m.sent);
    const target = @min(m.host.next(), send_limit(m), m.sent + limits.order_step);
    while (m.pushed < target) {
        const e = m.host.entry_at(m.pushed);
        if (!is_result(&e)) {
            m.pushed += 1;
            continue;
        }
        var serving: fill.Serving = .{ .sqn = m.pushed };
        const bytes = fill.write_pieces(m, image, &serving, .{ .to = 0, .only_results = true });
        m.pushed = @max(serving.sqn, m.pushed + 1);
        return .{ .to = null, .bytes = bytes orelse continue };
    }
    return null;
}

pub fn write_entries(m: anytype, image: []align(8) u8, from: u64, count: u32) u32 {
    const b = wire.begin(wire.Sqn, .sqn, image, m.speaker(), from);
    b.said.epoch = m.epoch;
    b.first = m.first;
    b.committed = m.committed;
    b.next = m.host.next();
    b.count = count;
    const room = wire.room_behind(wire.Sqn, image);
    const entries: [*]Entry = @ptrCast(@alignCast(room.ptr));
    for (0..count) |i| entries[i] = m.host.entry_at(from + i);
    const bytes = frame.header_bytes + @sizeOf(wire.Sqn) + count * @sizeOf(Entry);
    return wire.finish(image, bytes);
}

pub fn next_deadline_ns(m: anytype, now_ns: u64) u64 {
    if (now_ns >= m.lease_until_ns) return now_ns + std.time.ns_per_ms;
    if (m.has_news) return now_ns;
    if (m.sent != m.host.next() and m.sent < send_limit(m)) return @max(now_ns, m.batch_due_ns);
    var at = @min(m.heartbeat_due_ns, m.lease_until_ns);
    at = @min(at, now_ns + m.o.ack_timeout_ns / 4 + 1);
    return at;
}
