//! How bytes of a log go from one member to another: answers to JOIN, STREAM_ASK and SQN_NAK, and
//! PULL with FILL. Functions over a `Member(Host)`.
//!
//! Whoever lacks entries pulls them: it says from where on, and how many bytes may be under way;
//! the other sends pieces of its log up to there and goes on when more is allowed. What is lost on
//! the way ends the request, and a new one begins where the log ends then. So the reader sets the
//! pace, a burst never exceeds its socket's buffer, and the server keeps no more than a place.
//!
//! Bytes are counted as the reader's kernel counts them (`cost`). A gap shows a loss at once; a
//! timer has only to see that the last datagrams, or the request itself, were lost, and waits for
//! several times what answers took lately: a request that begins again too early has a whole window
//! sent twice.

const std = @import("std");
const mutant = @import("../testing/mutant.zig");
const assert = @import("../assert.zig").assert;
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const epochs = @import("epoch.zig");
const limits = @import("limits.zig");
const election = @import("election.zig");
const follower = @import("follower.zig");
const leader = @import("leader.zig");
const member = @import("member.zig");
const number = @import("../session/notices.zig").number;
const is_result = @import("results.zig").is_result;
const Entry = @import("entry.zig").Entry;

const Peer = member.Peer;
const Send = member.Send;

/// Where a member is served, if it pulls.
pub const Serving = struct {
    is_on: bool = false,
    /// Of the start that asks.
    nonce: u64 = 0,
    request: u32 = 0,
    sqn: u64 = 0,
    offset: u32 = 0,
    sent_bytes: u64 = 0,
    allowed_bytes: u64 = 0,
};

/// What is pulled, from whom.
pub const Pulling = struct {
    is_on: bool = false,
    is_asked: bool = false,
    from: u16 = 0,
    request: u32 = 0,
    /// Cost of the FILL datagrams that came for this request, and up to which it allowed them.
    got_bytes: u64 = 0,
    allowed_bytes: u64 = 0,
    /// What the last PULL had allowed. Beyond it only an answer to the next one goes.
    told_bytes: u64 = 0,
    /// When a PULL allowed more than `probe_bytes`, if it is not answered yet.
    probe_ns: ?u64 = null,
    probe_bytes: u64 = 0,
    /// How long an answer takes, lately; 0: not known.
    round_trip_ns: u64 = 0,
    offset: u32 = 0,
    due_ns: u64 = std.math.maxInt(u64),
    moved_ns: u64 = 0,
    /// Something came last: whoever is silent is given up.
    came_ns: u64 = 0,
    /// After so long without an answer it is asked again; doubled each time, because the way there
    /// and back may take longer.
    gap_ns: u64 = limits.pull_retry_ns,
    /// May be under way: what is lost ends a request, and all that is behind it is sent again, so
    /// that it is less where more is lost.
    window_bytes: u64 = 0,
    /// An entry whose stream is not known here.
    unknown: Entry = std.mem.zeroes(Entry),
    /// Something came in its turn and could not be taken: for what is missing here (memory, a
    /// stream's name) to ask again at once is of no use.
    refused_ns: u64 = 0,

    /// What the log lacks is pulled from `from`, until `end`.
    pub fn want(self: *Pulling, m: anytype, now_ns: u64, from: u16) void {
        if (self.is_on and self.from == from) return;
        // Often it is a message or two: the window opens as they come.
        self.window_bytes = 2 * cost(m.o.datagram_bytes);
        self.is_on = true;
        self.from = from;
        self.offset = 0;
        self.again(now_ns);
    }

    /// A request that begins where the log ends.
    fn again(self: *Pulling, now_ns: u64) void {
        self.request +%= 1;
        self.got_bytes = 0;
        self.told_bytes = 0;
        self.probe_ns = null;
        self.allowed_bytes = self.window_bytes;
        self.is_asked = false;
        self.moved_ns = now_ns;
        self.due_ns = now_ns;
    }

    pub fn end(self: *Pulling) void {
        self.is_on = false;
        self.due_ns = std.math.maxInt(u64);
    }

    pub fn poll_send(self: *Pulling, m: anytype, now_ns: u64, image: []align(8) u8) ?Send {
        if (!self.is_on or now_ns < self.due_ns) return null;
        // Nothing came for so long: something was lost.
        const is_late = now_ns -| self.moved_ns >= self.gap_ns;
        if (self.is_asked and is_late) {
            self.gap_ns = @min(self.gap_ns * 2, limits.ask_max_ns);
            self.narrow(m);
            m.counters.pulls_late += 1;
            self.again(now_ns);
        }
        if (self.probe_ns == null and self.allowed_bytes > self.told_bytes) {
            self.probe_ns = now_ns;
            self.probe_bytes = self.told_bytes;
        }
        self.told_bytes = self.allowed_bytes;
        self.is_asked = true;
        self.due_ns = now_ns + self.gap_ns;
        const b = wire.begin(wire.Pull, .pull, image, m.speaker(), m.host.next());
        const e = if (m.phase == .following) m.leader_epoch else m.epoch;
        b.said = .{ .epoch = e, .to = self.from };
        b.offset = self.offset;
        b.request = self.request;
        b.allowed_bytes = self.allowed_bytes;
        m.counters.pulls_sent += 1;
        const bytes = wire.finish(image, frame.header_bytes + @sizeOf(wire.Pull));
        return m.send_to(self.from, bytes);
    }

    fn narrow(self: *Pulling, m: anytype) void {
        self.window_bytes = @max(self.window_bytes / 2, cost(m.o.datagram_bytes));
    }

    /// The log moved on by a FILL of so much.
    fn widen(self: *Pulling, m: anytype, bytes: u64) void {
        const most = @max(m.o.pull_window_bytes, 2 * cost(m.o.datagram_bytes));
        self.window_bytes = @min(self.window_bytes + bytes, most);
        const patience_ns = limits.pull_round_trips * self.round_trip_ns;
        self.gap_ns = std.math.clamp(patience_ns, limits.pull_retry_ns, limits.ask_max_ns);
    }

    fn measure(self: *Pulling, now_ns: u64) void {
        const asked_ns = self.probe_ns orelse return;
        if (self.got_bytes <= self.probe_bytes) return;
        self.probe_ns = null;
        const took_ns = now_ns -| asked_ns;
        // What took longer than usual counts at once.
        self.round_trip_ns = @max(took_ns, (7 * self.round_trip_ns + took_ns) / 8);
    }
};

/// What a datagram takes of the socket's buffer of who pulls; both sides count by it.
fn cost(datagram_bytes: u64) u64 {
    return datagram_bytes + limits.datagram_overhead_bytes;
}

// -------------------------------------------------------------------- questions

pub fn on_join(m: anytype, now_ns: u64, p: *Peer, h: *const frame.Header) void {
    const b = wire.body(wire.Join, h);
    const is_leading = m.phase == .leading and now_ns < m.lease_until_ns;
    // A log is taken over by a candidate whose epoch was promised.
    const is_source = b.said.to == m.o.id and epochs.eql(b.said.epoch, m.durable.promised) and
        (m.phase == .following or m.phase == .idle);
    if (!is_leading and !is_source) return;
    if (is_leading and b.said.epoch.number > m.epoch.number) return;
    _ = election.check_configuration(m, p, b.config_hash);
    p.join_nonce = h.connection();
    p.join_question = b.question;
    p.era_from = b.era_from;
    p.due.join_reply = true;
    m.has_dues = true;
    if (!is_leading or b.config_hash != m.o.config_hash) return;
    if (m.place_of(p.id) == null) {
        m.has_observers = true;
        return;
    }
    if (p.answered_nonce == p.join_nonce) return;
    p.answered_nonce = p.join_nonce;
    p.joined_nonce = p.join_nonce;
    p.is_intact = false;
    p.acked = 0;
    p.acked_ns = now_ns;
    if (h.number < m.host.next()) m.notices.event(.receiver_late_join, .{
        .name = m.o.members[m.place_of(p.id).?].name,
        .args = .{ number(h.number), number(m.host.next() - 1), 0, 0 },
    });
}

pub fn on_pull(m: anytype, p: *Peer, h: *const frame.Header) void {
    const b = wire.body(wire.Pull, h);
    const is_leading = m.phase == .leading and epochs.eql(b.said.epoch, m.epoch);
    const is_source = (m.phase == .following or m.phase == .idle) and
        epochs.eql(b.said.epoch, m.durable.promised);
    if (!is_leading and !is_source) return;
    if (h.number > m.host.next()) return;
    const is_same_start = p.pull.nonce == h.connection();
    // An old request that comes late would be answered in vain, all of it.
    if (is_same_start and p.pull.request -% b.request -% 1 < std.math.maxInt(u32) / 2) return;
    if (!p.pull.is_on or !is_same_start or p.pull.request != b.request) p.pull = .{
        .is_on = true,
        .nonce = h.connection(),
        .request = b.request,
        .sqn = h.number,
        .offset = b.offset,
    };
    p.pull.allowed_bytes = @max(p.pull.allowed_bytes, b.allowed_bytes);
    m.has_pullers = true;
}

// -------------------------------------------------------------------- answers

pub fn has_due(p: *const Peer) bool {
    const d = p.due;
    return d.promise or d.refuse or d.join_reply or d.stream or d.entries;
}

pub fn answer(m: anytype, image: []align(8) u8) ?Send {
    if (!m.has_dues) return null;
    for (&m.peers) |*p| {
        if (p.id == 0 or !has_due(p)) continue;
        const bytes = answer_one(m, p, image) orelse continue;
        return .{ .to = p.address, .bytes = bytes };
    }
    m.has_dues = false;
    return null;
}

fn answer_one(m: anytype, p: *Peer, image: []align(8) u8) ?u32 {
    if (p.due.promise) {
        p.due.promise = false;
        return write_promise(m, p, image);
    }
    if (p.due.refuse) {
        p.due.refuse = false;
        const b = wire.begin(wire.Refuse, .refuse, image, m.speaker(), 0);
        b.said = .{ .epoch = p.refused, .to = p.id };
        const promised = m.durable.promised;
        b.promised = if (promised.number >= m.floor.number) promised else m.floor;
        return wire.finish(image, frame.header_bytes + @sizeOf(wire.Refuse));
    }
    if (p.due.join_reply) {
        p.due.join_reply = false;
        return write_join_reply(m, p, image);
    }
    if (p.due.stream) {
        p.due.stream = false;
        if (!m.host.knows_stream(&p.asked_stream)) return null;
        const b = wire.begin(wire.StreamTold, .stream, image, m.speaker(), 0);
        b.said = .{ .epoch = m.floor, .to = p.id };
        m.host.describe(&p.asked_stream, &b.entry);
        return wire.finish(image, frame.header_bytes + @sizeOf(wire.StreamTold));
    }
    assert(p.due.entries);
    return write_entries_again(m, p, image);
}

fn write_promise(m: anytype, p: *Peer, image: []align(8) u8) u32 {
    const b = wire.begin(wire.Promise, .promise, image, m.speaker(), m.host.next());
    b.said = .{ .epoch = m.durable.promised, .to = p.id };
    b.adopted = m.durable.adopted;
    b.config_hash = m.o.config_hash;
    b.is_intact = @intFromBool(election.is_intact(m));
    return wire.finish(image, frame.header_bytes + @sizeOf(wire.Promise));
}

fn write_join_reply(m: anytype, p: *Peer, image: []align(8) u8) u32 {
    const is_leading = m.phase == .leading;
    const eras = m.host.eras();
    const total: u32 = @intCast(eras.len);
    const from = @min(p.era_from, total);
    const count = @min(total - from, wire.eras_max(m.o.datagram_bytes));
    var next = m.host.next();
    if (mutant.on(.tier_join_committed) and is_leading) next = @max(m.first, m.committed);
    const b = wire.begin(wire.JoinReply, .join_reply, image, m.speaker(), next);
    b.said = .{ .epoch = if (is_leading) m.epoch else m.durable.promised, .to = p.id };
    b.nonce = p.join_nonce;
    b.question = p.join_question;
    b.first = if (is_leading) m.first else next;
    b.committed = m.committed;
    b.config_hash = m.o.config_hash;
    b.era_total = total;
    b.era_from = from;
    b.count = count;
    b.is_leader = @intFromBool(is_leading);
    const room = wire.room_behind(wire.JoinReply, image);
    const out: [*]epochs.Era = @ptrCast(@alignCast(room.ptr));
    @memcpy(out[0..count], eras[from..][0..count]);
    const bytes = frame.header_bytes + @sizeOf(wire.JoinReply) + count * @sizeOf(epochs.Era);
    return wire.finish(image, bytes);
}

fn write_entries_again(m: anytype, p: *Peer, image: []align(8) u8) ?u32 {
    if (m.phase != .leading) {
        p.due.entries = false;
        return null;
    }
    const end = @min(p.nak_end, m.host.next());
    const left = end -| p.nak_from;
    if (left == 0) {
        p.due.entries = false;
        return null;
    }
    const count: u32 = @intCast(@min(left, wire.entries_max(m.o.datagram_bytes)));
    const bytes = leader.write_entries(m, image, p.nak_from, count);
    p.nak_from += count;
    m.counters.entries_again += count;
    p.due.entries = p.nak_from < end;
    return bytes;
}

// -------------------------------------------------------------------- FILL

/// A datagram for one who pulls; they take turns.
pub fn serve(m: anytype, image: []align(8) u8) ?Send {
    if (!m.has_pullers or m.fills_left == 0) return null;
    for (0..m.peers.len) |_| {
        const p = &m.peers[m.next_peer];
        if (p.id != 0 and p.pull.is_on and p.pull.sent_bytes < p.pull.allowed_bytes) {
            if (write_fill(m, p, image)) |bytes| {
                m.fills_left -= 1;
                m.fills_in_turn += 1;
                if (m.fills_in_turn < limits.fills_per_turn) {
                    return .{ .to = p.address, .bytes = bytes };
                }
                step_turn(m);
                return .{ .to = p.address, .bytes = bytes };
            }
        }
        step_turn(m);
    }
    m.has_pullers = false;
    return null;
}

fn step_turn(m: anytype) void {
    m.fills_in_turn = 0;
    m.next_peer = if (m.next_peer + 1 < m.peers.len) m.next_peer + 1 else 0;
}

fn write_fill(m: anytype, p: *Peer, image: []align(8) u8) ?u32 {
    const s = &p.pull;
    if (s.sqn >= m.host.next()) return null;
    return write_pieces(m, image, s, .{ .to = p.id });
}

pub const Wanted = struct {
    /// Context id; 0: all.
    to: u16,
    /// Whole transactions, and nothing behind a message.
    only_results: bool = false,
};

/// As many entries with their bytes as a datagram takes; null: none.
pub fn write_pieces(m: anytype, image: []align(8) u8, s: *Serving, wanted: Wanted) ?u32 {
    const next = m.host.next();
    const b = wire.begin(wire.Fill, .fill, image, m.speaker(), s.sqn);
    const epoch = if (m.phase == .leading) m.epoch else m.durable.promised;
    b.said = .{ .epoch = epoch, .to = wanted.to };
    b.request = s.request;
    const room = wire.room_behind(wire.Fill, image);
    const space = @min(room.len, m.o.datagram_bytes - frame.header_bytes - @sizeOf(wire.Fill));
    var at: u32 = 0;
    while (s.sqn < next) {
        const head = at + @sizeOf(wire.Piece);
        if (head + 8 > space) break;
        const entry = m.host.entry_at(s.sqn);
        if (wanted.only_results and !is_result(&entry)) break;
        if (s.offset > 0 and s.offset >= entry.length) break;
        const left = entry.length - s.offset;
        const fits: u32 = @intCast((space - head) & ~@as(usize, 7));
        // A message that fits in a datagram is not cut.
        if (left > fits and (b.count > 0 or wanted.only_results)) break;
        const bytes = @min(left, fits);
        const piece: *wire.Piece = @ptrCast(@alignCast(room.ptr + at));
        piece.* = .{ .entry = entry, .offset = s.offset, .bytes = bytes };
        const padded = frame.align8(bytes);
        const target = room[head..][0..padded];
        @memset(target[bytes..], 0);
        const read = m.host.read(s.sqn, s.offset, target[0..bytes]);
        assert(read == bytes);
        at = head + padded;
        b.count += 1;
        s.offset += bytes;
        if (s.offset < entry.length) break;
        s.sqn += 1;
        s.offset = 0;
    }
    if (b.count == 0) {
        s.is_on = false;
        return null;
    }
    const all = wire.finish(image, frame.header_bytes + @sizeOf(wire.Fill) + at);
    s.sent_bytes += cost(all);
    m.counters.fills_sent += 1;
    m.counters.fill_bytes += all;
    return all;
}

pub fn on_fill(m: anytype, now_ns: u64, p: *Peer, h: *const frame.Header) void {
    const b = wire.body(wire.Fill, h);
    if (b.said.to == 0) return on_pushed(m, now_ns, p, h);
    const pull = &m.puller;
    const e = if (m.phase == .following) m.leader_epoch else m.epoch;
    if (m.phase != .following and m.phase != .fetching) return;
    if (!pull.is_on or p.id != pull.from) return;
    if (!epochs.eql(b.said.epoch, e)) return;
    const is_asked_for = b.request == pull.request;
    const is_beyond = begins_beyond(m, h);
    pull.came_ns = now_ns;
    const bytes = cost(h.length);
    // An earlier request's answer that was late is as good, if it goes on where the log ends.
    if (take_pieces(m, now_ns, h)) {
        m.counters.fill_bytes_taken += h.length;
        pull.widen(m, bytes);
        pull.moved_ns = now_ns;
    }
    if (is_asked_for) go_on(m, now_ns, bytes, is_beyond);
    if (m.phase == .following) follower.apply(m, now_ns);
}

/// More is allowed in good time; where something was lost the request ends.
fn go_on(m: anytype, now_ns: u64, bytes: u64, is_beyond: bool) void {
    const pull = &m.puller;
    pull.got_bytes += bytes;
    pull.measure(now_ns);
    if (is_beyond and now_ns -| pull.refused_ns >= limits.pull_retry_ns) {
        // What lies between was lost, and what follows of this request is of no use.
        pull.narrow(m);
        m.counters.pulls_broken += 1;
        return pull.again(now_ns);
    }
    if (pull.got_bytes + pull.window_bytes / 2 >= pull.allowed_bytes) {
        pull.allowed_bytes = pull.got_bytes + pull.window_bytes;
    }
    // Many come in one step: what one of them allows is due, whatever follows it, until it is told.
    const is_told = pull.allowed_bytes == pull.told_bytes;
    pull.due_ns = if (is_told) now_ns + pull.gap_ns else now_ns;
}

/// Something is missing in front of it.
fn begins_beyond(m: anytype, h: *const frame.Header) bool {
    const next = m.host.next();
    if (h.number != next) return h.number > next;
    var it: wire.PieceIterator = .init(h);
    return it.next().?.piece.offset > m.puller.offset;
}

/// True: something of it was of use.
fn take_pieces(m: anytype, now_ns: u64, h: *const frame.Header) bool {
    var is_of_use = false;
    var sqn = h.number;
    var it: wire.PieceIterator = .init(h);
    while (it.next()) |item| {
        const is_new = sqn >= m.host.next();
        if (!take_piece(m, now_ns, sqn, item)) break;
        is_of_use = is_of_use or is_new;
        if (@as(u64, item.piece.offset) + item.piece.bytes == item.piece.entry.length) sqn += 1;
    }
    return is_of_use;
}

/// Transactions of the leader, in front of their entries.
fn on_pushed(m: anytype, now_ns: u64, p: *Peer, h: *const frame.Header) void {
    if (m.phase != .following or p.id != m.leader_id or !m.join.is_adopted) return;
    if (!epochs.eql(wire.said_of(h).epoch, m.leader_epoch)) return;
    var it: wire.PieceIterator = .init(h);
    while (it.next()) |item| {
        const e = &item.piece.entry;
        const is_whole = item.piece.offset == 0 and item.piece.bytes == e.length;
        if (is_whole and is_result(e)) m.host.stage_result(e, item.bytes);
    }
    follower.apply(m, now_ns);
}

/// False: what follows is of no use either.
fn take_piece(m: anytype, now_ns: u64, sqn: u64, item: wire.PieceIterator.Item) bool {
    const next = m.host.next();
    const pull = &m.puller;
    if (sqn < next) {
        pull.offset = 0;
        return true;
    }
    if (sqn > next or item.piece.offset != pull.offset) return false;
    if (m.phase == .following and sqn >= m.join.first and !m.join.is_adopted) {
        follower.follow_cursors(m);
        if (!m.join.is_adopted) {
            pull.refused_ns = now_ns;
            return false;
        }
    }
    if (!m.host.knows_stream(&item.piece.entry)) {
        pull.unknown = item.piece.entry;
        pull.refused_ns = now_ns;
        if (!m.stream_ask.is_on()) m.stream_ask.begin(now_ns);
        return false;
    }
    follower.enter_era(m, sqn);
    switch (m.host.append_fill(&item.piece.entry, item.piece.offset, item.bytes)) {
        .more => pull.offset += item.piece.bytes,
        .ok => {
            // What follows may be missing here too: `apply` says when the stage has it again.
            pull.offset = 0;
            m.ack_due = true;
        },
        .no_memory => {
            pull.refused_ns = now_ns;
            return false;
        },
        .bad => {
            pull.offset = 0;
            return false;
        },
    }
    return true;
}
