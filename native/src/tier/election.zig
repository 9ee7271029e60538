//! From an empty throne to an established epoch: campaign, promises, takeover, establishment
//! (design: Election). Functions over a `Member(Host)`.
//!
//! The tree's `running` has one winner. What it may do depends on logs: a quorum (S, need) of the
//! last established epoch says that every committed entry is held by |S| - need + 1 of S or more
//! if its leader counts; so whoever hears from |S| - need of S, or from that leader, hears from
//! somebody who has it. Blank members (whose log may lack what they acknowledged) do not count.

const std = @import("std");
const mutant = @import("../testing/mutant.zig");
const assert = @import("../assert.zig").assert;
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const epochs = @import("epoch.zig");
const tree = @import("tree.zig");
const limits = @import("limits.zig");
const leader = @import("leader.zig");
const member = @import("member.zig");
const number = @import("../session/notices.zig").number;

const Peer = member.Peer;
const Send = member.Send;
const Set = tree.Set;
const Epoch = epochs.Epoch;

// -------------------------------------------------------------------- who tries

/// Nobody in particular leads here: follow who does, or try.
pub fn decide(m: anytype, now_ns: u64) void {
    const v = &m.view.?;
    if (v.session != .connected) return;
    if (v.running != tree.nobody and (m.is_observer() or v.running != m.o.self.?)) {
        return begin_following(m, now_ns);
    }
    if (m.is_observer()) return begin_following(m, now_ns);
    if (v.running != tree.nobody) return claim_own(m, now_ns);
    if (m.pending != null or m.wants_resign or now_ns < m.stand_aside_until_ns) return;
    if (yields(m, now_ns)) return;
    if (!is_intact(m) and now_ns < m.started_ns + limits.blank_delay_ns) return;
    campaign(m);
}

/// The operator lets this member lead with the freshest log that it can reach.
fn is_forced(m: anytype) bool {
    const v = m.view orelse return false;
    if (mutant.on(.tier_forced_by_anybody)) return v.forced != tree.nobody;
    return m.o.self != null and v.forced == m.o.self.?;
}

/// The operator chose another member, and it is there: nobody gets in its way, for a while.
fn yields(m: anytype, now_ns: u64) bool {
    const forced = m.view.?.forced;
    if (forced == tree.nobody or is_forced(m) or !tree.has(m.present(), forced)) return false;
    return now_ns < m.forced_since_ns + m.o.start_timeout_ns;
}

fn begin_following(m: anytype, now_ns: u64) void {
    m.phase = .following;
    m.leader_id = 0;
    m.leader_epoch = .{};
    m.leader_heard_ns = now_ns;
    m.is_suspected = false;
    m.join = .{};
    m.ask.begin(now_ns);
    m.clear_ring();
}

/// `running` is ours and we do nothing with it: a win whose answer was lost, or one to give up.
fn claim_own(m: anytype, now_ns: u64) void {
    if (m.pending != null or m.wants_resign) return;
    const v = &m.view.?;
    const is_ours = v.candidate == m.o.self.? and epochs.eql(v.epoch, m.epoch) and
        !epochs.is_none(m.epoch) and !epochs.less(m.epoch, m.durable.promised) and
        !epochs.eql(m.epoch, m.resigned);
    if (!is_ours or now_ns < m.stand_aside_until_ns) {
        m.wants_resign = true;
        return;
    }
    m.version = v.master_version;
    begin_gathering(m, now_ns);
}

fn campaign(m: anytype) void {
    const v = &m.view.?;
    if (mutant.on(.tier_recorded_master)) m.was_master = v.candidate == m.o.self.?;
    var highest = @max(v.epoch.number, m.durable.promised.number);
    highest = @max(highest, @max(m.durable.adopted.number, m.floor.number));
    // Exact as a number of JavaScript, which writes it into the tree.
    m.epoch = .{ .number = highest + 1, .id = m.random().int(u53) | 1 };
    m.phase = .campaigning;
    m.counters.elections += 1;
    m.order_command(.campaign, .{});
}

pub fn on_campaigned(m: anytype, now_ns: u64, a: *const tree.Answer) void {
    if (m.phase != .campaigning) {
        if (a.outcome != .refused) m.wants_resign = true;
        return;
    }
    switch (a.outcome) {
        .done => {
            m.version = a.version;
            begin_gathering(m, now_ns);
        },
        .refused => m.phase = .idle,
        .unknown => {
            m.phase = .idle;
            m.wants_resign = true;
        },
    }
}

// -------------------------------------------------------------------- promises

fn begin_gathering(m: anytype, now_ns: u64) void {
    // Somebody may have been promised more while the answer was on its way.
    if (epochs.less(m.epoch, m.floor) or !may_promise(m, m.epoch) or !m.promise(m.epoch)) {
        m.phase = .idle;
        m.wants_resign = true;
        return;
    }
    m.phase = .gathering;
    m.since_ns = now_ns;
    m.is_tree_wiped = false;
    for (&m.peers) |*p| p.promise = null;
    m.ask.begin(now_ns);
    if (m.o.policy == .race) take_over(m, now_ns);
}

/// The log surely holds all that this member ever acknowledged.
pub fn is_intact(m: anytype) bool {
    if (m.durable.is_intact) return true;
    // Where nothing was ever established nothing was ever acknowledged.
    if (m.has_established()) return false;
    return !is_wiped(m) or m.host.next() > 0;
}

/// The tree knows of no leader, but logs or promises do: it was wiped (guide 8.7.2).
fn is_wiped(m: anytype) bool {
    if (m.has_established()) return false;
    if (m.host.next() > 0 or !epochs.is_none(m.durable.adopted)) return true;
    for (&m.peers) |*p| if (p.promise) |given| {
        if (given.next > 0 or !epochs.is_none(given.adopted)) return true;
    };
    return false;
}

fn may_promise(m: anytype, e: Epoch) bool {
    const promised = m.durable.promised;
    return epochs.eql(promised, e) or e.number > promised.number;
}

pub fn on_prepare(m: anytype, now_ns: u64, p: *Peer, h: *const frame.Header) void {
    if (m.is_observer() or m.place_of(p.id) == null) return;
    const b = wire.body(wire.Prepare, h);
    const e = b.said.epoch;
    if (!check_configuration(m, p, b.config_hash)) return;
    if (!may_promise(m, e)) {
        p.due.refuse = true;
        m.has_dues = true;
        p.refused = e;
        return;
    }
    if (mutant.on(.tier_promise_and_commit) and m.phase == .leading) {
        var durable = m.durable;
        durable.promised = e;
        if (!m.save(durable)) return;
        p.due.promise = true;
        m.has_dues = true;
        return;
    }
    if (!epochs.eql(m.durable.promised, e)) {
        // Whoever leads or tries under an older one stops first.
        m.step_down(now_ns);
        if (!m.promise(e)) return;
        if (m.phase == .following) begin_following(m, now_ns);
    } else if (m.phase != .idle and m.phase != .following) return;
    p.due.promise = true;
    m.has_dues = true;
}

/// Members must agree on what a commit needs.
pub fn check_configuration(m: anytype, p: *const Peer, hash: u64) bool {
    if (hash == m.o.config_hash) return true;
    if (m.failed == .none) m.notices.log(.tier_other_configuration, .fatal, .{
        .args = .{ number(p.id), 0, 0, 0 },
    });
    if (!m.started) m.fail(.other_configuration);
    return false;
}

pub fn on_promise(m: anytype, now_ns: u64, p: *Peer, h: *const frame.Header) void {
    if (m.phase != .gathering and m.phase != .fetching) return;
    const b = wire.body(wire.Promise, h);
    if (!epochs.eql(b.said.epoch, m.epoch) or m.place_of(p.id) == null) return;
    if (!check_configuration(m, p, b.config_hash)) return;
    p.promise = .{
        .adopted = b.adopted,
        .next = h.number,
        .is_intact = b.is_intact != 0,
        .nonce = h.connection(),
    };
    if (m.phase == .gathering) gather(m, now_ns);
}

pub fn on_refuse(m: anytype, now_ns: u64, h: *const frame.Header) void {
    const b = wire.body(wire.Refuse, h);
    // It quotes our epoch; but numbers end somewhere, and elections must not.
    if (b.promised.number > frame.number_max - limits.epochs_ahead_max) return;
    if (!epochs.eql(b.said.epoch, m.epoch)) return;
    if (b.promised.number < m.epoch.number) return;
    switch (m.phase) {
        .gathering, .fetching, .establishing, .leading => {},
        else => return,
    }
    // The next one begins above it.
    m.floor = epochs.max(m.floor, b.promised);
    m.step_down(now_ns);
}

// -------------------------------------------------------------------- is it enough?

pub fn gather(m: anytype, now_ns: u64) void {
    // The tree is being read again: whether the throne is still ours is not known.
    if (m.pending != null) return;
    const waited_ns = now_ns - m.since_ns;
    const intact = intact_promises(m);
    m.is_tree_wiped = is_wiped(m);
    if (is_enough(m, intact, waited_ns)) {
        const has_waited = heard_all(m) or waited_ns >= m.o.heartbeat_interval_ns;
        if (has_waited) take_freshest(m, now_ns, intact);
        return;
    }
    if (waited_ns < m.o.start_timeout_ns) return;
    if (!m.started) m.fail(.no_quorum);
    m.notices.log(.tier_no_quorum, .err, .{ .args = .{
        number(m.view.?.established_leader),
        number(tree.count(m.view.?.established.set)),
        number(m.view.?.established.need),
        number(tree.count(intact)),
    } });
    m.stand_aside(now_ns);
}

/// Q: who promised and has all it ever acknowledged, ourselves included.
fn intact_promises(m: anytype) Set {
    // Who may lose takes what there is.
    const anybody = is_forced(m) or m.o.policy == .freshest;
    var set: Set = if (is_intact(m)) m.self_set() else 0;
    for (m.peers[0..m.o.members.len], 0..) |*p, i| {
        const given = p.promise orelse continue;
        if (given.is_intact or anybody) set |= tree.set_of(@intCast(i));
    }
    if (anybody) set |= m.self_set();
    if (mutant.on(.tier_blank_winner_counts)) set |= m.self_set();
    return set;
}

fn heard_all(m: anytype) bool {
    for (m.peers[0..m.o.members.len], 0..) |*p, i| {
        const bit = tree.set_of(@intCast(i));
        if (bit & m.present() & m.others() != 0 and p.promise == null) return false;
    }
    return true;
}

fn is_enough(m: anytype, intact: Set, waited_ns: u64) bool {
    const v = &m.view.?;
    if (intact == 0) return false;
    if (mutant.on(.tier_recorded_master) and m.was_master) return true;
    if (m.o.policy == .freshest or is_forced(m)) {
        return heard_all(m) or waited_ns >= m.o.heartbeat_interval_ns;
    }
    if (epochs.is_none(v.established_epoch)) {
        return !m.is_tree_wiped or heard_all(m) or waited_ns >= m.o.start_timeout_ns;
    }
    if (tree.has(intact, v.established_leader)) return true;
    const s = v.established;
    return tree.count(intact & s.set) >= tree.count(s.set) -| s.need;
}

// -------------------------------------------------------------------- takeover

fn take_freshest(m: anytype, now_ns: u64, intact: Set) void {
    var best: u32 = tree.nobody;
    var adopted: Epoch = .{};
    var next: u64 = 0;
    if (intact & m.self_set() != 0) {
        best = m.o.self.?;
        adopted = m.durable.adopted;
        next = m.host.next();
    }
    for (m.peers[0..m.o.members.len], 0..) |*p, i| {
        if (!tree.has(intact, @intCast(i))) continue;
        const given = p.promise orelse continue;
        var is_fresher = epochs.less(adopted, given.adopted) or
            (epochs.eql(adopted, given.adopted) and given.next > next);
        if (mutant.on(.tier_longest_log)) is_fresher = given.next > next;
        if (best != tree.nobody and !is_fresher) continue;
        best = @intCast(i);
        adopted = given.adopted;
        next = given.next;
    }
    assert(best != tree.nobody);
    if (is_forced(m)) m.notices.log(.tier_forced, .imp, .{ .args = .{
        number(m.epoch.number), number(best), number(next), 0,
    } });
    if (m.is_tree_wiped) m.notices.log(.tier_tree_wiped, .imp, .{ .args = .{
        number(tree.count(intact)), number(best), number(next), 0,
    } });
    if (best == m.o.self.?) return take_over(m, now_ns);
    m.phase = .fetching;
    m.source = best;
    m.source_next = next;
    m.source_nonce = m.peers[best].promise.?.nonce;
    m.join = .{ .is_wanted = true, .from = m.peers[best].id };
    m.ask.begin(now_ns);
    m.since_ns = now_ns;
}

/// The log of `source` is on its way: truncation first, then all of its entries.
pub fn fetch(m: anytype, now_ns: u64) void {
    if (m.pending != null) return; // The tree is being read again.
    const p = &m.peers[m.source];
    const given = p.promise orelse return drop_source(m, now_ns);
    if (given.nonce != m.source_nonce) return drop_source(m, now_ns);
    if (m.join.is_complete and m.host.next() >= @max(m.source_next, given.next)) {
        m.puller.end();
        m.join = .{};
        return take_over(m, now_ns);
    }
    if (m.join.is_complete) m.puller.want(m, now_ns, p.id);
    const heard_ns = @max(m.since_ns, m.puller.came_ns);
    if (now_ns - @min(now_ns, heard_ns) < m.o.ack_timeout_ns) return;
    drop_source(m, now_ns);
}

/// It can't be had from there: is it still enough without?
fn drop_source(m: anytype, now_ns: u64) void {
    m.peers[m.source].promise = null;
    m.puller.end();
    m.join = .{};
    m.phase = .gathering;
    m.since_ns = now_ns;
    m.ask.begin(now_ns);
    if (mutant.on(.tier_next_best)) {
        const intact = intact_promises(m);
        if (intact != 0) take_freshest(m, now_ns, intact);
    }
}

/// Our log is the one that goes on. To disk with it, then into the tree, only then anything more.
fn take_over(m: anytype, now_ns: u64) void {
    if (mutant.on(.tier_establish_first)) {
        m.phase = .establishing;
        m.quorum = first_quorum(m);
        return m.order_command(.establish, m.quorum);
    }
    if (!m.host.force()) {
        m.fail(.disk);
        return m.stand_aside(now_ns);
    }
    var durable = m.durable;
    durable.adopted = m.epoch;
    durable.is_intact = true;
    if (!m.save(durable)) return m.stand_aside(now_ns);
    if (m.o.policy != .safe) m.notices.log(.tier_unsafe_policy, .imp, .{ .args = .{
        number(m.epoch.number), number(m.host.next()), 0, 0,
    } });
    m.phase = .establishing;
    m.quorum = first_quorum(m);
    m.order_command(.establish, m.quorum);
}

fn first_quorum(m: anytype) tree.Quorum {
    const v = &m.view.?;
    const self = m.self_set();
    const is_alone = epochs.is_none(v.established_epoch) or is_forced(m) or
        m.o.members.len == 1 or m.o.policy == .race;
    if (is_alone) return .{ .set = self, .need = 0 };
    var q = v.established;
    if (q.set & self == 0) {
        q.set |= self;
        q.need += 1;
    }
    return q;
}

pub fn on_established(m: anytype, now_ns: u64, a: *const tree.Answer) void {
    assert(m.phase == .establishing);
    if (a.outcome != .done or epochs.less(m.epoch, m.floor)) return m.step_down(now_ns);
    m.version = a.version;
    if (mutant.on(.tier_establish_first)) {
        var durable = m.durable;
        durable.adopted = m.epoch;
        durable.is_intact = true;
        if (!m.host.force() or !m.save(durable)) return m.step_down(now_ns);
    }
    leader.begin(m, now_ns);
}

pub fn poll_send(m: anytype, now_ns: u64, image: []align(8) u8) ?Send {
    if (!m.ask.take(now_ns)) return null;
    const b = wire.begin(wire.Prepare, .prepare, image, m.speaker(), 0);
    b.said.epoch = m.epoch;
    b.config_hash = m.o.config_hash;
    const bytes = wire.finish(image, frame.header_bytes + @sizeOf(wire.Prepare));
    return .{ .to = null, .bytes = bytes };
}
