//! What a follower does: it joins the leader's epoch (its log becomes a prefix of the leader's),
//! completes the leader's entries with messages that it staged itself, and says how far it is
//! (design: Election 2 and 4, Replication, Joining). Functions over a `Member(Host)`.
//!
//! Nothing is acknowledged before the epoch is adopted: what the leader's log has not is removed,
//! everything below the epoch's first sqn is here, and `adopted` is on the disk. A member that is
//! blank does not count before it holds all that the answer to its question named.

const std = @import("std");
const mutant = @import("../testing/mutant.zig");
const assert = @import("../assert.zig").assert;
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const epochs = @import("epoch.zig");
const limits = @import("limits.zig");
const election = @import("election.zig");
const member = @import("member.zig");
const number = @import("../session/notices.zig").number;

const Peer = member.Peer;
const Send = member.Send;
const Epoch = epochs.Epoch;

/// From the question to a log that is a prefix of the other's.
pub const Joining = struct {
    is_wanted: bool = false,
    /// Number of the question; 0: not asked yet. While it is not answered nothing is appended.
    question: u32 = 0,
    /// Context id of who is asked; 0: whoever leads.
    from: u16 = 0,
    epoch: Epoch = .{},
    /// Eras that have come, of how many.
    have: u32 = 0,
    total: u32 = 0,
    /// One past the last sqn that the answer named.
    next: u64 = 0,
    first: u64 = 0,
    has_answer: bool = false,
    /// The log is a prefix of theirs.
    is_complete: bool = false,
    /// The epoch is adopted, and this start was answered: acknowledgements are sent.
    is_adopted: bool = false,
};

// -------------------------------------------------------------------- the leader is heard

pub fn on_leader(m: anytype, now_ns: u64, p: *Peer, h: *const frame.Header) void {
    const e = wire.said_of(h).epoch;
    if (m.place_of(p.id) == null) return;
    if (!accept_leader(m, now_ns, p.id, e)) return;
    m.leader_heard_ns = now_ns;
    m.is_suspected = false;
    const is_sqn = wire.type_of(h).? == .sqn;
    const next = if (is_sqn) wire.body(wire.Sqn, h).next else h.number;
    const told = if (is_sqn)
        wire.body(wire.Sqn, h).committed
    else
        wire.body(wire.Commit, h).committed;
    m.leader_first = if (is_sqn) wire.body(wire.Sqn, h).first else wire.body(wire.Commit, h).first;
    m.leader_next = @max(m.leader_next, next);
    m.leader_committed = @max(m.leader_committed, told);
    // A heartbeat is also a question.
    if (is_sqn) take_entries(m, h) else m.ack_due = true;
    apply(m, now_ns);
}

/// Whoever speaks as leader of this epoch is followed from now on, if nothing newer was promised.
fn accept_leader(m: anytype, now_ns: u64, id: u16, e: Epoch) bool {
    if (epochs.is_none(e)) return false;
    if (epochs.eql(e, m.epoch) and m.phase != .following) return false; // Ours.
    const promised = m.durable.promised;
    if (!epochs.eql(e, promised)) {
        if (e.number <= promised.number) {
            // Another tree's epoch with our number: it must take a higher one.
            if (m.peer_of(id)) |p| {
                p.due.refuse = true;
                p.refused = e;
                m.has_dues = true;
            }
            return false;
        }
        m.step_down(now_ns);
        if (!m.is_observer()) {
            if (!m.promise(e)) return false;
        } else m.floor = epochs.max(m.floor, e);
    } else m.step_down(now_ns);
    if (m.phase == .campaigning or m.phase == .separate or m.phase == .left) return false;
    m.phase = .following;
    if (m.leader_id == id and epochs.eql(m.leader_epoch, e)) return true;
    m.leader_id = id;
    m.leader_epoch = e;
    m.leader_next = 0;
    m.leader_committed = 0;
    m.leader_heard_ns = now_ns;
    m.acked = 0;
    m.clear_ring();
    m.puller.end();
    m.nak.end();
    m.stalled_since_ns = 0;
    // What was asked of whoever leads is asked of this one.
    const question = if (m.join.is_wanted) 0 else m.join.question;
    m.join = .{ .is_wanted = true, .question = question, .from = id, .epoch = e };
    m.ask.begin(now_ns);
    return true;
}

fn take_entries(m: anytype, h: *const frame.Header) void {
    const next = m.host.next();
    for (wire.entries_of(h), 0..) |*entry, i| {
        const sqn = h.number + i;
        if (sqn < next or sqn - next >= limits.ring_entries) continue;
        m.slot_of(sqn).* = .{ .sqn = sqn, .entry = entry.* };
    }
}

// -------------------------------------------------------------------- joining

pub fn on_join_reply(m: anytype, now_ns: u64, p: *Peer, h: *const frame.Header) void {
    const b = wire.body(wire.JoinReply, h);
    if (b.nonce != m.nonce and !mutant.on(.tier_join_without_nonce)) return;
    if (m.place_of(p.id) == null) return;
    if (!election.check_configuration(m, p, b.config_hash)) return;
    const e = b.said.epoch;
    if (m.phase == .fetching) {
        if (p.id != m.join.from or !epochs.eql(e, m.epoch)) return;
        if (h.connection() != m.source_nonce or h.number < m.source_next) return;
    } else {
        if (b.is_leader == 0 or !accept_leader(m, now_ns, p.id, e)) return;
        m.leader_heard_ns = now_ns;
        m.leader_first = b.first;
        m.leader_next = @max(m.leader_next, h.number);
        m.leader_committed = @max(m.leader_committed, b.committed);
    }
    if (!m.join.is_wanted or m.join.is_complete) return;
    if (b.question != m.join.question and !mutant.on(.tier_join_without_nonce)) return;
    if (!m.join.has_answer or m.join.total != b.era_total) {
        // What is named first is what must be held; a later answer would name more.
        if (!m.join.has_answer) m.join.next = h.number;
        m.join.has_answer = true;
        m.join.total = b.era_total;
        m.join.first = b.first;
        m.join.have = 0;
    }
    if (b.era_from != m.join.have or b.era_total > limits.eras_max) return;
    const eras = wire.eras_of(h);
    @memcpy(m.eras[m.join.have..][0..eras.len], eras);
    m.join.have += @intCast(eras.len);
    m.ask.begin(now_ns);
    if (m.join.have < m.join.total) return;
    m.eras_count = m.join.total;
    m.ask.end();
    align_log(m, now_ns, h.number);
}

/// All eras are known: removes what the other log has not. Repeats while the program is inside.
fn align_log(m: anytype, now_ns: u64, their_next: u64) void {
    const eras = m.eras[0..m.eras_count];
    const common = epochs.common_prefix(m.host.eras(), m.host.next(), eras, their_next);
    const keeps = mutant.on(.tier_adopt_untruncated) and common >= m.join.first;
    // Who has adopted the epoch has a prefix of its log, and maybe more of it than an answer that
    // comes late knows of.
    const is_prefix = m.phase == .following and epochs.eql(m.durable.adopted, m.leader_epoch);
    if (!keeps and !is_prefix and !m.truncate_to(common)) {
        if (m.phase != .separate) m.ask.begin(now_ns); // Asked again, until nobody is inside.
        m.join.have = 0;
        m.join.total = 0;
        return;
    }
    m.join.is_complete = true;
    m.host.retire_stage();
    adopt(m);
}

/// Everything below the epoch's first sqn is here: the epoch is adopted, durably, before anything
/// of it is appended or acknowledged.
fn adopt(m: anytype) void {
    if (m.phase != .following or !m.join.is_complete or m.join.is_adopted) return;
    if (m.host.next() < m.join.first) return;
    if (!epochs.eql(m.durable.adopted, m.leader_epoch)) {
        // More than that is here already where this epoch's log was taken over before, by a start
        // of ours that did not live to lead.
        var durable = m.durable;
        durable.adopted = m.leader_epoch;
        if (!m.is_observer()) {
            if (!m.save(durable)) return;
        } else m.durable = durable;
    }
    m.join.is_adopted = true;
    m.ack_due = true;
}

/// A blank member that holds all that was named is blank no more.
fn heal(m: anytype) void {
    if (m.durable.is_intact or m.is_observer() or !m.join.is_adopted) return;
    if (m.host.durable_next() < m.join.next) return;
    var durable = m.durable;
    durable.is_intact = true;
    if (m.save(durable)) m.ack_due = true;
}

/// The era that an entry is appended in, when its log is taken from another one.
pub fn enter_era(m: anytype, sqn: u64) void {
    var at = m.eras_count;
    while (at > 0) {
        at -= 1;
        if (m.eras[at].first_sqn > sqn) continue;
        return m.host.begin_era(m.eras[at].epoch);
    }
}

// -------------------------------------------------------------------- entries

/// Completes entries in order, as far as their messages are staged.
pub fn apply(m: anytype, now_ns: u64) void {
    if (!m.join.is_complete) return;
    var count: u32 = 0;
    while (count < limits.apply_step) : (count += 1) {
        const sqn = m.host.next();
        adopt(m);
        if (sqn >= m.join.first and !m.join.is_adopted) break;
        const slot = m.slot_of(sqn);
        if (slot.sqn != sqn) break;
        if (!m.host.knows_stream(&slot.entry)) {
            if (!m.stream_ask.is_on()) m.stream_ask.begin(now_ns);
            break;
        }
        enter_era(m, sqn);
        switch (m.host.append_staged(&slot.entry)) {
            .ok => {
                m.stalled_since_ns = 0;
                m.puller.offset = 0;
                m.ack_due = true;
            },
            .missing => {
                if (m.stalled_since_ns == 0) m.stalled_since_ns = now_ns;
                break;
            },
            .gone => {
                m.stalled_since_ns = 1;
                break;
            },
            .no_memory => break,
        }
    }
    follow_cursors(m);
}

pub fn follow_cursors(m: anytype) void {
    adopt(m);
    if (!m.join.is_adopted) return;
    heal(m);
    const next = m.host.next();
    m.commit_to(@min(m.leader_committed, next));
    m.show_to(if (m.o.use_committed or m.is_observer()) m.committed else next);
    if (!m.started and m.leader_next -| next <= m.o.sync_max_diff) m.started = true;
}

// -------------------------------------------------------------------- time

pub fn tick(m: anytype, now_ns: u64) void {
    const v = &m.view.?;
    apply(m, now_ns);
    if (m.phase != .following) return;
    chase(m, now_ns);
    if (m.acked != m.host.durable_next() and m.join.is_adopted) m.ack_due = true;
    if (now_ns >= m.ack_at_ns and m.join.is_adopted) m.ack_due = true;
    const silent_ns = now_ns -| m.leader_heard_ns;
    if (m.leader_id != 0 and !m.is_suspected and silent_ns >= m.o.heartbeat_timeout_ns) {
        m.is_suspected = true;
        m.notices.log(.tier_leader_silent, .warn, .{ .args = .{
            number(m.leader_id), number(silent_ns / std.time.ns_per_ms), 0, 0,
        } });
    }
    if (v.session != .connected or m.is_observer()) return;
    if (v.running == std.math.maxInt(u32)) {
        // The throne is empty. One far behind would have to fetch all that first.
        if (m.leader_next -| m.host.next() > m.o.sync_max_diff) {
            const until_ns = now_ns + @max(limits.blank_delay_ns, m.o.session_timeout_ns / 4);
            m.stand_aside_until_ns = @max(m.stand_aside_until_ns, until_ns);
        }
        m.phase = .idle;
        m.join = .{};
        // Who led is greeted anew if it leads again.
        m.leader_id = 0;
        m.leader_epoch = .{};
        m.puller.end();
        m.nak.end();
        m.ask.end();
        m.stream_ask.end();
    }
}

/// What is missing is asked for: entries, or where their messages will not come, these too.
fn chase(m: anytype, now_ns: u64) void {
    if (!m.join.is_complete) {
        if (!m.ask.is_on()) m.ask.begin(now_ns);
        return;
    }
    const next = m.host.next();
    if (next >= m.leader_next) {
        m.nak.end();
        m.puller.end();
        m.stalled_since_ns = 0;
        return;
    }
    const has_entry = m.slot_of(next).sqn == next;
    const is_far = m.leader_next - next > limits.pull_lag;
    const is_before = next < m.join.next and !has_entry;
    const is_stalled = has_entry and m.stalled_since_ns != 0 and
        now_ns -| m.stalled_since_ns >= limits.missing_patience_ns;
    // Once it goes on it ends where the stage has what comes next: what was not staged while the
    // log was far behind is missing as a whole, not by a message.
    const goes_on = m.puller.is_on and (!has_entry or m.stalled_since_ns != 0);
    if (is_far or is_before or is_stalled or goes_on) {
        m.nak.end();
        return m.puller.want(m, now_ns, m.leader_id);
    }
    m.puller.end();
    if (has_entry) return m.nak.end();
    if (!m.nak.is_on()) m.nak = .{
        .due_ns = now_ns + limits.nak_backoff_ns,
        .gap_ns = limits.nak_retry_ns,
    };
}

pub fn next_deadline_ns(m: anytype, now_ns: u64) u64 {
    if (m.ack_due) return now_ns;
    var at = @min(m.ask.due_ns, m.nak.due_ns);
    at = @min(at, m.stream_ask.due_ns);
    at = @min(at, m.puller.due_ns);
    if (m.join.is_adopted and !m.is_observer()) at = @min(at, m.ack_at_ns);
    if (m.stalled_since_ns != 0 and !m.puller.is_on) {
        at = @min(at, m.stalled_since_ns + limits.missing_patience_ns);
    }
    if (m.leader_id != 0 and !m.is_suspected) {
        at = @min(at, m.leader_heard_ns + m.o.heartbeat_timeout_ns);
    }
    return @max(at, now_ns + 100 * std.time.ns_per_us);
}

// -------------------------------------------------------------------- to send

pub fn poll_send(m: anytype, now_ns: u64, image: []align(8) u8) ?Send {
    if (m.ack_due and m.join.is_adopted and !m.is_observer()) return send_ack(m, now_ns, image);
    m.ack_due = false;
    if (m.stream_ask.take(now_ns)) return send_stream_ask(m, image);
    if (m.nak.take(now_ns)) if (send_nak(m, image)) |send| return send;
    return poll_ask(m, now_ns, image);
}

fn send_ack(m: anytype, now_ns: u64, image: []align(8) u8) Send {
    const next = if (mutant.on(.tier_ack_unforced)) m.host.next() else m.host.durable_next();
    const b = wire.begin(wire.SqnAck, .sqn_ack, image, m.speaker(), next);
    b.said = .{ .epoch = m.leader_epoch, .to = m.leader_id };
    b.is_intact = @intFromBool(m.durable.is_intact);
    b.handed = m.host.handed();
    m.acked = next;
    m.ack_due = false;
    m.ack_at_ns = now_ns + m.o.ack_interval_ns;
    const bytes = wire.finish(image, frame.header_bytes + @sizeOf(wire.SqnAck));
    return m.send_to(m.leader_id, bytes);
}

fn send_nak(m: anytype, image: []align(8) u8) ?Send {
    const next = m.host.next();
    if (next >= m.leader_next) return null;
    // Up to the next entry that has come.
    var end = next + 1;
    while (end < m.leader_next and end - next < limits.order_step) : (end += 1) {
        if (m.slot_of(end).sqn == end) break;
    }
    const b = wire.begin(wire.SqnNak, .sqn_nak, image, m.speaker(), next);
    b.said = .{ .epoch = m.leader_epoch, .to = m.leader_id };
    b.end = end;
    m.counters.naks_sent += 1;
    const bytes = wire.finish(image, frame.header_bytes + @sizeOf(wire.SqnNak));
    return m.send_to(m.leader_id, bytes);
}

fn send_stream_ask(m: anytype, image: []align(8) u8) Send {
    const b = wire.begin(wire.StreamAsk, .stream_ask, image, m.speaker(), 0);
    b.said = .{ .epoch = m.floor, .to = m.join.from };
    const slot = m.slot_of(m.host.next());
    b.entry = if (slot.sqn == m.host.next()) slot.entry else m.puller.unknown;
    const bytes = wire.finish(image, frame.header_bytes + @sizeOf(wire.StreamAsk));
    return m.send_to(m.join.from, bytes);
}

/// JOIN as long as it is not answered; then what is pulled.
pub fn poll_ask(m: anytype, now_ns: u64, image: []align(8) u8) ?Send {
    if (!m.join.is_complete and m.ask.take(now_ns)) {
        const b = wire.begin(wire.Join, .join, image, m.speaker(), m.host.next());
        const e = if (m.phase == .fetching) m.epoch else m.floor;
        b.said = .{ .epoch = e, .to = m.join.from };
        b.config_hash = m.o.config_hash;
        if (m.join.question == 0) {
            m.questions += 1;
            m.join.question = m.questions;
        }
        b.era_from = m.join.have;
        b.question = m.join.question;
        b.is_observer = @intFromBool(m.is_observer());
        const bytes = wire.finish(image, frame.header_bytes + @sizeOf(wire.Join));
        if (m.join.from == 0) return .{ .to = null, .bytes = bytes };
        return m.send_to(m.join.from, bytes);
    }
    if (m.stream_ask.take(now_ns)) return send_stream_ask(m, image);
    return m.puller.poll_send(m, now_ns, image);
}
