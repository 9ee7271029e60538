//! What a sender does with frames of its receivers: SYN_REPLY, ACK, NAK, RST. Part of `sender.zig`.
//!
//! A frame counts only if it quotes the session token that its receiver got with CONFIRM, and the
//! connection; anything else is counted, and answered by a RST at a bounded rate, so that a
//! receiver that is not known any more agrees on a session anew.

const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("limits.zig");
const mutant = @import("../testing/mutant.zig");
const Address = @import("../transport/address.zig").Address;
const Peer = @import("peers.zig").Peer;
const number = @import("notices.zig").number;
const Sender = @import("sender.zig").Sender;
const in_place = @import("sender_in_place.zig");
const Position = frame.Position;

pub fn authentic(self: *Sender, h: *const frame.Header, bytes: []align(8) u8) bool {
    const group_key = if (self.o.group_key) |*k| k else {
        if (!h.flags().sealed) return true;
        self.counters.unauthenticated += 1;
        return false;
    };
    if (!h.flags().sealed) {
        self.counters.unauthenticated += 1;
        return false;
    }
    const trailer = frame.SealTrailer{
        .instance = seal.trailer_of(h).instance,
        .counter = seal.trailer_of(h).counter,
        .tag = undefined,
    };
    const receiver: u16 = @truncate(trailer.instance);
    const peer = self.peers.find(receiver);
    const session = Session.of(peer, trailer.instance);
    const key = session.key orelse receiver_key(self, group_key, receiver, trailer.instance);
    if (!seal.open(key, bytes[0..h.length])) {
        self.counters.unauthenticated += 1;
        return false;
    }
    if (session.replay) |replay| if (!replay.accept(trailer.counter)) {
        self.counters.replayed += 1;
        return false;
    };
    return true;
}

/// Key and replay window of a known start of a receiver.
const Session = struct {
    key: ?seal.Key = null,
    replay: ?*seal.ReplayWindow = null,

    fn of(peer: ?*Peer, instance: u64) Session {
        const p = peer orelse return .{};
        if (p.session_token != 0 and p.instance == instance) {
            return .{ .key = p.key, .replay = &p.replay };
        }
        if (p.candidate.token != 0 and p.candidate.instance == instance) {
            return .{ .key = p.candidate.key, .replay = &p.candidate.replay };
        }
        return .{};
    }
};

pub fn on_syn_reply(self: *Sender, now_ns: u64, from: Address, h: *const frame.Header) void {
    const r = frame.decode_syn_reply(h) orelse {
        self.counters.out_of_range += 1;
        return;
    };
    if (h.connection() != self.o.connection) {
        self.counters.bad_token += 1;
        return;
    }
    if (self.sealer != null and @as(u16, @truncate(r.instance)) != r.receiver) {
        self.counters.unauthenticated += 1;
        return;
    }
    const p = self.peers.find_or_add(r.receiver, r.name[0..r.name_len]) orelse {
        if (!self.peers.limit_told) self.notices.log(.receiver_limit, .err, .{
            .transport = self.o.transport,
            .args = .{ number(self.peers.list.len), 0, 0, 0 },
        });
        self.peers.limit_told = true;
        return;
    };
    if (self.phase == .handshake) {
        if (h.number > limits.first_number_max) {
            self.counters.out_of_range += 1;
            return;
        }
        p.answered = true;
        p.reported = @max(p.reported, h.number);
        return;
    }
    if (self.phase != .started) return;
    agree(self, now_ns, from, p, h, r);
}

/// Offers a session. What is in force stays so until the receiver quotes the new token.
fn agree(
    self: *Sender,
    now_ns: u64,
    from: Address,
    p: *Peer,
    h: *const frame.Header,
    r: *const frame.SynReply,
) void {
    in_place.tell_in_place(self);
    const c = &p.candidate;
    const repeated = c.token != 0 and c.instance == r.instance and c.address.eql(from) and
        now_ns < c.offered_ns + limits.confirming_hold_ns;
    if (!repeated) c.* = .{
        .token = self.rng.random().int(u64) | 1,
        .instance = r.instance,
        .address = from,
        .offered_ns = now_ns,
        .key = if (self.o.group_key) |*k| receiver_key(self, k, p.id, r.instance) else @splat(0),
        .name_len = r.name_len,
        .name = r.name,
    };
    const start: Position = if (r.has_position != 0)
        .{ .msg = h.number, .frag = r.frag }
    else
        .{ .msg = begin_at(self, now_ns, p) };
    // The session that was ended may not come to life again by an ACK that is still under way.
    if (p.state == .disconnected) p.session_token = 0;
    if (p.state == .connected and mutant.on(.offer_replaces)) self.peers.set_state(p, .known);
    if (p.state != .connected) {
        p.mandatory = h.flags().mandatory;
        p.shared = from.ip == 0;
        p.begin_at(Position.min(.{ .msg = start.msg }, self.announced));
        self.peers.confirm(p, now_ns);
        in_place.look_at_network(self);
    }
    const is_left = r.has_position == 2 and self.o.fresh and
        start.msg > self.window.connection_first();
    c.left_at = if (is_left) start.msg else 0;
    self.control(.{ .confirm = .{
        .peer = self.peers.index_of(p),
        .token = r.receiver_token,
        .session_token = c.token,
        .start = start.msg,
        .frag = start.frag,
    } });
}

fn receiver_key(
    self: *const Sender,
    group_key: *const seal.GroupKey,
    receiver: u16,
    instance: u64,
) seal.Key {
    return seal.derive(group_key, .{
        .direction = .from_receiver,
        .tier = self.o.tier,
        .cluster = self.o.cluster,
        .source = self.o.source,
        .transport = self.o.transport,
        .receiver = receiver,
        .instance = instance,
    });
}

/// The receiver has quoted the token of the offered session: from here on it is the one in force.
fn take_candidate(self: *Sender, now_ns: u64, p: *Peer) void {
    const c = &p.candidate;
    // One window for one key: what was accepted once under it is not accepted again.
    if (p.instance != c.instance) p.replay = c.replay;
    p.instance = c.instance;
    p.session_token = c.token;
    p.address = c.address;
    p.shared = c.address.ip == 0;
    p.key = c.key;
    p.name_len = c.name_len;
    p.name = c.name;
    c.token = 0;
    if (c.left_at > 0 and !p.wiped_told) {
        p.wiped_told = true;
        self.notices.log(.sender_wiped, .imp, .{
            .transport = self.o.transport,
            .name = p.name_slice(),
            .args = .{ number(self.window.connection_first()), number(c.left_at), 0, 0 },
        });
    }
    // Its position may be another one now: it connects anew.
    if (p.state == .confirming) return;
    self.peers.set_state(p, .known);
    self.peers.confirm(p, now_ns);
    in_place.look_at_network(self);
}

/// Where a receiver without a position begins (protocol.md, "Session"; rule 7).
pub fn join_at(self: *const Sender, now_ns: u64) u64 {
    const at_first = !self.peers.ever_connected or
        now_ns < self.started_ns + self.o.ack_timeout_ns;
    if (mutant.on(.join_anywhere)) return self.sent.msg;
    const at = if (at_first) self.window.connection_first() else self.window.acked();
    return @max(at, self.window.reclaimed());
}

/// The same for one receiver. What its tier has committed a member takes from the tier.
fn begin_at(self: *const Sender, now_ns: u64, p: *const Peer) u64 {
    const t = p.tier orelse return join_at(self, now_ns);
    return @max(self.peers.tiers[t].acked, self.window.reclaimed());
}

/// The peer that a frame with a session token belongs to, or null (counted, and answered by a RST).
fn session_peer(
    self: *Sender,
    now_ns: u64,
    from: Address,
    h: *const frame.Header,
    receiver: u16,
    token: u64,
) ?*Peer {
    if (self.phase != .started) return null;
    const p = self.peers.find(receiver);
    if (p) |q| if (token != 0 and q.candidate.token == token and
        h.connection() == self.o.connection) take_candidate(self, now_ns, q);
    const known = p != null and token != 0 and p.?.session_token == token and
        h.connection() == self.o.connection;
    if (known and p.?.state != .disconnected) return p;
    if (mutant.on(.token_ignored) and p != null) return p;
    if (!known) self.counters.bad_token += 1;
    if (p) |q| {
        if (now_ns < q.last_rst_ns + limits.rst_interval_ns) return null;
        q.last_rst_ns = now_ns;
    }
    self.control(.{ .rst = .{
        .to = from,
        .token = token,
        .reason = if (known) .disconnected else .unknown_session,
        .receiver = receiver,
    } });
    return null;
}

/// One that was disconnected because it is slow comes back when it can take something, not before:
/// else it would hold the others up again at once.
fn is_disconnected(self: *Sender, receiver: u16, token: u64) bool {
    const p = self.peers.find(receiver) orelse return false;
    return p.state == .disconnected and p.session_token == token and token != 0;
}

pub fn on_ack(self: *Sender, now_ns: u64, from: Address, h: *const frame.Header) void {
    const a = frame.decode_ack(h) orelse {
        self.counters.out_of_range += 1;
        return;
    };
    if (a.no_memory == 1 and is_disconnected(self, a.receiver, a.session_token)) return;
    const p = session_peer(self, now_ns, from, h, a.receiver, a.session_token) orelse return;
    const position = kept_part(self, p, .{ .msg = h.number, .frag = a.frag });
    const is_processed = h.flags().mandatory and from.ip != 0;
    const at: Position = if (is_processed) .{ .msg = h.number } else position;
    const taken = kept_part(self, p, taken_of(self, from, h, a, at));
    const is_plausible = plausible(self, at) and plausible(self, taken);
    if (!is_plausible and !mutant.on(.ack_beyond_written)) {
        self.counters.out_of_range += 1;
        return;
    }
    p.ack_count += 1;
    p.last_heard_ns = now_ns;
    p.highest = a.highest;
    p.no_memory = a.no_memory == 1;
    p.mandatory = h.flags().mandatory;
    p.address = from;
    const was_connected = p.state == .connected;
    const is_committed = p.mandatory or mutant.on(.tier_observer_counts);
    const is_news = is_committed and self.peers.tier_acked(p, at.msg);
    if (!was_connected) connect(self, now_ns, p, at, taken);
    if (p.acked.less(at) or p.taken.less(taken) or !was_connected or is_news) {
        p.last_progress_ns = now_ns;
        p.acked = Position.max(p.acked, at);
        p.taken = Position.max(p.taken, taken);
        self.advance_acked(now_ns);
    }
}

/// A member of a tier, or an observer, may stand in a message that is gone since the tier has it.
fn kept_part(self: *const Sender, p: *const Peer, at: Position) Position {
    if (p.counts_alone() or at.msg >= self.window.reclaimed()) return at;
    return .{ .msg = at.msg };
}

/// What the receiver's log has. Who acknowledges what was processed tells it besides; who reads in
/// place has what was written.
fn taken_of(
    self: *const Sender,
    from: Address,
    h: *const frame.Header,
    a: *const frame.Ack,
    at: Position,
) Position {
    if (!h.flags().mandatory) return at;
    const highest: Position = .{ .msg = a.highest, .frag = a.frag };
    if (from.ip != 0) return Position.max(at, highest);
    return Position.max(at, .{ .msg = @min(a.highest, self.window.written()) });
}

/// The highest that anybody can have is what was ever written; a fragment must be one of its
/// message.
fn plausible(self: *const Sender, at: Position) bool {
    const written = self.window.written();
    if (at.msg > written) return false;
    if (at.frag == 0) return true;
    if (at.msg == written or at.msg < self.window.reclaimed()) return false;
    return at.frag < self.o.sizes.fragments(self.window.node(at.msg).length);
}

fn connect(self: *Sender, now_ns: u64, p: *Peer, at: Position, taken: Position) void {
    const alone = self.peers.connected == 0;
    self.peers.set_state(p, .connected);
    p.begin_at(at);
    p.taken = taken;
    p.last_progress_ns = now_ns;
    self.progress += 1;
    self.notices.log(.session_agreed_tx, .info, .{
        .transport = self.o.transport,
        .name = p.name_slice(),
        .args = .{ number(self.o.connection & 0xffff_ffff), number(at.msg), 0, 0 },
    });
    self.notices.event(.new_receiver, .{ .transport = self.o.transport, .name = p.name_slice() });
    var wanted = taken;
    for (self.peers.tiers) |*t| wanted = Position.min(wanted, .{ .msg = t.acked });
    const back = Position.max(wanted, .{ .msg = self.window.acked() });
    if (alone and back.less(self.sent)) {
        // Nobody listened so far: what was sent into the void goes again as new data, in window's
        // pace.
        self.sent = back;
        self.inflight_first = 0;
        self.inflight_count = 0;
        self.window.set_sent(back.msg, back.frag);
    }
}

pub fn on_nak(self: *Sender, now_ns: u64, from: Address, h: *const frame.Header) void {
    const n = frame.decode_nak(h) orelse {
        self.counters.out_of_range += 1;
        return;
    };
    const p = session_peer(self, now_ns, from, h, n.receiver, n.session_token) orelse return;
    self.counters.naks_received += 1;
    p.nak_count += 1;
    p.last_heard_ns = now_ns;
    p.address = from;
    for (frame.ranges(h, n)) |r| request_repair(self, now_ns, p, r, n.attempt);
}

fn request_repair(self: *Sender, now_ns: u64, p: *Peer, r: frame.Range, attempt: u32) void {
    const index = self.peers.index_of(p);
    var start = r.start();
    var end = Position.min(r.end(), self.announced);
    if (!start.less(end)) {
        // Asks for what was not sent (a damaged or forged number led it there): tell it the truth.
        self.counters.out_of_range += 1;
        self.control(.{ .heartbeat = .{ .peer = index } });
        return;
    }
    const kept = self.window.reclaimed();
    if (start.msg < kept) {
        self.control(.{ .fill = .{
            .peer = index,
            .start = start.msg,
            .end = @min(kept, @max(end.msg, start.msg + 1)),
            .reason = .gone,
        } });
        start = .{ .msg = kept };
        if (!start.less(end)) return;
    }
    if (start.frag > 0 and
        start.frag >= self.o.sizes.fragments(self.window.node(start.msg).length))
    {
        self.counters.out_of_range += 1;
        return;
    }
    if (mutant.on(.repair_no_hold_off)) self.repairs.recent = @splat(.{
        .start = start,
        .end = start,
        .until_ns = 0,
    });
    if (mutant.on(.repair_late)) start.msg += 1;
    end = message_boundary(self, end);
    if (!start.less(end)) return;
    self.repairs.request(now_ns, .{
        .start = start,
        .end = end,
        .receiver = index,
        .attempt = attempt,
        .has_group = self.o.is_multicast,
        .datagrams_max = self.o.window_datagrams,
    });
}

/// A range may end inside a message only at one of its fragments.
fn message_boundary(self: *const Sender, end: Position) Position {
    if (end.frag == 0) return end;
    const fragments = self.o.sizes.fragments(self.window.node(end.msg).length);
    return if (end.frag < fragments) end else .{ .msg = end.msg + 1 };
}

pub fn on_rst(self: *Sender, now_ns: u64, h: *const frame.Header) void {
    const r = frame.decode_rst(h) orelse {
        self.counters.out_of_range += 1;
        return;
    };
    const p = self.peers.find(r.receiver) orelse return;
    if (r.token == 0 or p.session_token != r.token or h.connection() != self.o.connection) {
        self.counters.bad_token += 1;
        return;
    }
    if (r.reason != @backingInt(frame.RstReason.closed)) return;
    self.disconnect(now_ns, p);
}
