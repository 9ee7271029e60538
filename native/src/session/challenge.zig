//! How a receiver agrees on a session with a sender: challenge, confirmation, start of the stream.
//! Part of `receiver.zig`.
//!
//! A SYN changes nothing but a place in a bounded table; the answer to it carries a random token,
//! and only a CONFIRM that quotes the token starts a stream, or moves one to a new connection.

const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("limits.zig");
const mutant = @import("../testing/mutant.zig");
const Address = @import("../transport/address.zig").Address;
const Notices = @import("notices.zig").Notices;
const number = @import("notices.zig").number;
const durable = @import("durable.zig");
const stream_file = @import("stream.zig");
const Receiver = @import("receiver.zig").Receiver;
const StreamEntry = @import("../order/record_file.zig").StreamEntry;
const Run = @import("sender.zig").Run;
const Stream = stream_file.Stream;
const Channel = stream_file.Channel;
const Key = stream_file.Key;
const Position = frame.Position;
const epochs = @import("../tier/epoch.zig");
const Epoch = epochs.Epoch;

/// A sender that announced itself and was challenged.
pub const Pending = struct {
    used: bool = false,
    key: Key = .{ .tier = false, .source = 0, .transport = 0 },
    channel: *const Channel = undefined,
    connection: u64 = 0,
    /// Of a tier's stream, else none.
    epoch: Epoch = .{},
    token: u64 = 0,
    repair: Address = .{ .ip = 0, .port = 0 },
    data_from: Address = .{ .ip = 0, .port = 0 },
    tx_arg: u16 = 0,
    name_len: u16 = 0,
    name: [64]u8 = @splat(0),
    reply_due: bool = false,
    /// The sender has no numbers yet, and asks for its first one.
    asks_first: bool = false,
    last_reply_ns: u64 = 0,
    touched_ns: u64 = 0,
    /// Sealed streams: key of the sender's frames.
    opening: seal.Key = @splat(0),
};

/// The same for frames before a session: SYN and CONFIRM.
fn authentic_start(
    self: *Receiver,
    channel: *const Channel,
    h: *const frame.Header,
    bytes: []align(8) u8,
    opening: *seal.Key,
) bool {
    const group_key = if (channel.group_key) |*k| k else {
        if (!h.flags().sealed) return true;
        self.counters.unauthenticated += 1;
        return false;
    };
    if (h.flags().sealed and seal.trailer_of(h).instance == h.connection()) {
        opening.* = seal.derive(group_key, .{
            .direction = .from_sender,
            .tier = h.flags().tier,
            .cluster = self.o.cluster,
            .source = h.source,
            .transport = h.transport,
            .receiver = 0,
            .instance = h.connection(),
        });
        if (seal.open(opening.*, bytes[0..h.length])) return true;
    }
    self.counters.unauthenticated += 1;
    return false;
}

pub fn on_syn(
    self: *Receiver,
    now_ns: u64,
    from: Address,
    h: *const frame.Header,
    bytes: []align(8) u8,
) void {
    const channel = self.channel_of(h.transport) orelse {
        self.counters.unknown_stream += 1;
        return;
    };
    var opening: seal.Key = @splat(0);
    if (!authentic_start(self, channel, h, bytes, &opening)) return;
    const syn = frame.decode_syn(h) orelse {
        self.counters.out_of_range += 1;
        return;
    };
    if (self.closing) return;
    const key: Key = .of(h);
    // Who is read in place is heard through memory, and nobody else is.
    const is_memory = from.ip == 0;
    if (channel.reads_in_place(h.source) != is_memory) {
        self.counters.unknown_stream += 1;
        return;
    }
    const epoch: Epoch = if (key.tier) syn.epoch else .{};
    if (self.find(key)) |s| if (!is_news(self, s, h, syn, epoch)) return;
    const p = pending_for(self, now_ns, key, h.connection());
    p.epoch = epoch;
    p.channel = channel;
    p.repair = if (is_memory) from else .{ .ip = syn.repair_ip, .port = syn.repair_port };
    p.data_from = from;
    p.tx_arg = syn.tx_arg;
    p.name_len = syn.name_len;
    p.name = syn.name;
    p.opening = opening;
    p.touched_ns = now_ns;
    p.reply_due = true;
    p.asks_first = h.flags().handshake;
    self.dirty = true;
    if (mutant.on(.challenge_skipped) and !h.flags().handshake) {
        activate(self, now_ns, p, h.number, false, &.{
            .receiver_token = 0,
            .session_token = 1,
            .stream_token = 1,
            .epoch = epoch,
            .first = syn.first,
            .announced = h.number,
            .connection_first = syn.first,
            .receiver = self.o.id,
            .tx_arg = syn.tx_arg,
            .fragment_bytes = syn.fragment_bytes,
            .group_size = syn.group_size,
            .window_datagrams = syn.window_datagrams,
        });
    }
}

/// The sender announces another connection than the one that we have with it.
fn is_news(
    self: *Receiver,
    s: *Stream,
    h: *const frame.Header,
    syn: *const frame.Syn,
    epoch: Epoch,
) bool {
    const alive = s.phase == .started and epochs.eql(epoch, s.epoch);
    if (alive and s.connection == h.connection()) {
        s.group_size = @max(1, syn.group_size);
        return false;
    }
    // A lower connection is an old datagram, unless the one that we have has fallen silent.
    const is_stale = alive and h.connection() < s.connection and !mutant.on(.stale_connection);
    if (!is_stale and !is_deposed(s, epoch)) return true;
    self.counters.out_of_range += 1;
    return false;
}

/// A leader of a sending tier whose reign is over, whatever it thinks: another one was agreed with.
/// Silence does not bring it back.
fn is_deposed(s: *const Stream, epoch: Epoch) bool {
    return s.phase != .init and epochs.less(epoch, s.epoch) and !mutant.on(.epoch_ignored);
}

/// The challenge to (key, connection): the one that is under way, a free place, or the oldest.
fn pending_for(self: *Receiver, now_ns: u64, key: Key, connection: u64) *Pending {
    var oldest = &self.pendings[0];
    for (&self.pendings) |*p| {
        if (p.used and p.key.eql(key) and p.connection == connection) return p;
        if (!p.used) {
            if (oldest.used) oldest = p;
        } else if (oldest.used and p.touched_ns < oldest.touched_ns) oldest = p;
    }
    oldest.* = .{
        .used = true,
        .key = key,
        .connection = connection,
        .token = self.rng.random().int(u64) | 1,
        .touched_ns = now_ns,
    };
    return oldest;
}

pub fn on_confirm(self: *Receiver, now_ns: u64, h: *const frame.Header, bytes: []align(8) u8) void {
    const key: Key = .of(h);
    const p = for (&self.pendings) |*p| {
        if (p.used and p.key.eql(key) and p.connection == h.connection()) break p;
    } else {
        self.counters.bad_token += 1;
        return;
    };
    var opening: seal.Key = undefined;
    if (!authentic_start(self, p.channel, h, bytes, &opening)) return;
    const c = frame.decode_confirm(h) orelse {
        self.counters.out_of_range += 1;
        return;
    };
    if (c.receiver_token != p.token or c.receiver != self.o.id) {
        self.counters.bad_token += 1;
        return;
    }
    if (self.closing) return;
    if (key.tier and !epochs.eql(c.epoch, p.epoch)) {
        self.counters.bad_token += 1;
        return;
    }
    // The stream may have moved since the challenge.
    if (self.find(key)) |s| if (is_deposed(s, p.epoch)) {
        self.counters.out_of_range += 1;
        p.used = false;
        return;
    };
    activate(self, now_ns, p, h.number, h.flags().fresh, c);
}

/// The stream of a sender that has confirmed; null: there are too many.
fn stream_of(self: *Receiver, p: *Pending) ?*Stream {
    if (self.find(p.key) orelse add_stream(self, p.key, p.channel)) |s| return s;
    self.notices.log(.stream_limit, .err, .{
        .transport = p.key.transport,
        .args = .{ number(limits.streams_max), 0, 0, 0 },
    });
    p.used = false;
    return null;
}

/// What was agreed on.
fn take_terms(s: *Stream, p: *const Pending, c: *const frame.Confirm) void {
    s.connection = p.connection;
    s.epoch = p.epoch;
    s.session_token = c.session_token;
    s.stream_token = c.stream_token;
    s.repair = p.repair;
    s.data_from = p.data_from;
    s.tx_arg = c.tx_arg;
    s.name = p.name;
    s.name_len = p.name_len;
    s.group_size = @max(1, c.group_size);
    s.window_datagrams = c.window_datagrams;
    s.opening = p.opening;
}

fn activate(
    self: *Receiver,
    now_ns: u64,
    p: *Pending,
    start: u64,
    is_fresh: bool,
    c: *const frame.Confirm,
) void {
    const s = stream_of(self, p) orelse return;
    const is_new = s.connection != p.connection or !epochs.eql(s.epoch, p.epoch);
    if (mutant.on(.leader_begins_anew) and !epochs.eql(s.epoch, p.epoch)) s.has_position = false;
    const shared = self.shared_of(s);
    if (is_new) {
        // Nothing that is not ordered yet may be completed with bytes of another connection.
        if (!mutant.on(.mixed_connections)) s.let_go(shared);
        if (shared.stage) |stage| {
            const from = stage.renew(s);
            s.has_position = from != null;
            s.next = .{ .msg = from orelse 0 };
        }
        s.announced = .{ .msg = c.announced };
        s.acked = .{ .msg = 0 };
        s.replay = .{};
    } else {
        // It may be less than before: where nobody listened the sender begins again.
        const have = s.detector.highest(shared.holding, .{ .msg = 0 });
        s.announced = Position.max(have, .{ .msg = c.announced });
    }
    take_terms(s, p, c);
    s.last_heard_ns = now_ns;
    s.last_ack_ns = now_ns;
    s.ack_now = true;
    s.phase = .started;
    s.stuck_at = null;
    if (is_new) s.told = 0;
    // A tier's record has the connection of what is ordered, not of what comes.
    if (is_new) if (shared.log.recorder) |r| {
        if (shared.stage == null or s.id >= r.stream_count) r.set_stream(entry_of(s));
    };
    const from = s.next.msg;
    settle_position(self, s, start, c, is_new and is_fresh);
    s.confirmed = c.announced;
    start_in_place(self, s);
    if (is_new) s.acked = Position.min(s.next, s.announced);
    self.notices.log(.session_agreed_rx, .info, .{
        .transport = p.key.transport,
        .name = s.name_slice(),
        .args = .{
            number(s.connection & 0xffff_ffff),
            number(from),
            number(s.next.msg),
            0,
        },
    });
    const who: Notices.Args = .{ .transport = p.key.transport, .name = s.name_slice() };
    self.notices.event(.new_transmitter, who);
    p.used = false;
    self.dirty = true;
    self.deadline_ns = now_ns;
    if (s.slot != null) return;
    self.watch(now_ns, s);
    s.detector.due_ns = @min(s.detector.due_ns, now_ns + s.timing().backoff_ns);
}

/// A window that is read in place: tells its sender from where on.
fn start_in_place(self: *Receiver, s: *Stream) void {
    if (s.repair.ip != 0) return;
    const slot = self.slots[s.repair.port - 1];
    const consumed = @atomicLoad(u64, &slot.consumed, .acquire);
    if (s.is_manual) {
        // Copied: what was taken is not read any more.
        @atomicStore(u64, &slot.consumed, s.next.msg, .release);
        const to = durable.limit(s, &self.lanes[0], .{ .msg = s.processed_next() }).msg;
        @atomicStore(u64, &slot.processed, to, .release);
    } else if (s.slot == null or consumed >= s.tail) {
        // What the log still has is processed by its own numbers.
        s.tail = s.next.msg;
        const to = durable.limit(s, &self.lanes[0], s.next).msg;
        @atomicStore(u64, &slot.consumed, to, .release);
    }
    @atomicStore(u32, &slot.is_manual, @intFromBool(s.is_manual), .monotonic);
    s.slot = slot;
    s.claimed = s.next.msg;
    @atomicStore(u64, &slot.claimed, s.next.msg, .release);
    @atomicStore(u64, &slot.connection, s.connection, .release);
}

/// Where the stream goes on: its own position if it has one and the sender still keeps that.
fn settle_position(
    self: *Receiver,
    s: *Stream,
    start: u64,
    c: *const frame.Confirm,
    is_wiped: bool,
) void {
    if (!s.has_position or mutant.on(.position_forgotten)) {
        s.next = .{ .msg = start };
        s.has_position = true;
        durable.begin(s);
        if (self.lanes[0].stage) |stage| stage.begin(s);
    } else if (s.next.msg < c.first) {
        // Exactly one loss, also where some of it came early and is held.
        s.lose(self.shared_of(s), c.first);
    } else if (is_wiped and s.next.msg > c.connection_first) {
        self.notices.log(.sender_wiped_rx, .imp, .{
            .transport = s.key.transport,
            .name = s.name_slice(),
            .args = .{ number(c.connection_first), number(s.next.msg - 1), 0, 0 },
        });
    }
}

pub fn add_stream(self: *Receiver, key: Key, channel: *const Channel) ?*Stream {
    if (self.count == self.streams.len) return null;
    const s = &self.streams[self.count];
    s.* = .{ .id = self.count, .key = key, .channel = channel, .is_manual = self.o.is_manual };
    if (channel.group_key) |*k| s.sealing = sealing_key(self, k, key);
    self.count += 1;
    return s;
}

/// What the record says of a stream from its next message on.
pub fn entry_of(s: *const Stream) StreamEntry {
    const topic = s.channel.topic;
    var entry: StreamEntry = .{
        .id = s.id,
        .connection = s.connection,
        .first_sqn = 0,
        .source = s.key.source,
        .transport = s.key.transport,
        .partition = s.channel.partition,
        .tx_arg = s.tx_arg,
        .is_tier = @intFromBool(s.key.tier),
        .name_bytes = @intCast(s.name_len),
        .topic_bytes = @intCast(topic.len),
        .name = s.name,
        .topic = @splat(0),
    };
    @memcpy(entry.topic[0..topic.len], topic);
    return entry;
}

fn sealing_key(self: *const Receiver, group_key: *const seal.GroupKey, key: Key) seal.Key {
    return seal.derive(group_key, .{
        .direction = .from_receiver,
        .tier = key.tier,
        .cluster = self.o.cluster,
        .source = key.source,
        .transport = key.transport,
        .receiver = self.o.id,
        .instance = self.instance,
    });
}

pub fn challenge_again(self: *Receiver, now_ns: u64, s: *Stream) void {
    if (now_ns < s.last_reply_ns + limits.rst_interval_ns) return;
    if (s.is_stuck()) return;
    s.last_reply_ns = now_ns;
    const p = pending_for(self, now_ns, s.key, s.connection);
    p.epoch = s.epoch;
    p.channel = s.channel;
    p.repair = s.repair;
    p.data_from = s.data_from;
    p.tx_arg = s.tx_arg;
    p.name = s.name;
    p.name_len = s.name_len;
    p.opening = s.opening;
    p.touched_ns = now_ns;
    p.reply_due = true;
    self.dirty = true;
}

/// A leader tells what it has ordered, everybody else what is committed.
fn tier_position(self: *const Receiver, s: ?*const Stream, same: bool) ?Position {
    const stage = self.lanes[0].stage orelse return null;
    return stage.told_position(s orelse return null, same);
}

pub fn syn_reply_run(self: *Receiver, image: []align(8) u8, p: *const Pending) Run {
    const s = self.find(p.key);
    const same = s != null and s.?.has_position and s.?.connection == p.connection;
    const told = tier_position(self, s, same);
    const has = if (self.lanes[0].stage != null) told != null else s != null and s.?.has_position;
    // What is not processed yet may not be given back; a sender without numbers has nothing to give
    // back, and may not begin with one that was taken under its old window. A tier says where its
    // log ends.
    const is_kept = has and s.?.is_mandatory() and s.?.committed == null;
    const unprocessed = is_kept and (!p.asks_first or mutant.on(.first_processed));
    const at: Position = if (unprocessed and !mutant.on(.position_taken))
        durable.limit(s.?, &self.lanes[0], .{
            .msg = @min(s.?.next.msg, s.?.processed_next()),
        })
    else if (told) |position|
        position
    else if (!has)
        .{ .msg = 0 }
    else if (p.asks_first) s.?.next else durable.limit(s.?, &self.lanes[0], s.?.next);
    const sealed = p.channel.group_key != null;
    const body = frame.begin(
        frame.SynReply,
        image,
        self.head(.syn_reply, p.key, p.connection, sealed, at.msg),
    );
    const h: *frame.Header = @ptrCast(image.ptr);
    h.connection_flags.flags.mandatory = p.repair.ip == 0 or self.o.is_manual or
        self.is_tier_member();
    body.* = .{
        .receiver_token = p.token,
        .instance = self.instance,
        .receiver = self.o.id,
        .has_position = if (!has) 0 else if (same) 1 else 2,
        .frag = if (same) at.frag else 0,
        .name_len = @intCast(self.o.name.len),
        .name = frame.name_copy(self.o.name),
    };
    const key: seal.Key = if (p.channel.group_key) |*k|
        sealing_key(self, k, p.key)
    else
        @splat(0);
    return self.finish(sealed, &key, p.repair, image);
}
