//! A member of a tier (guide 8): who leads, what is in the order, and what is committed. No I/O.
//!
//! The intuition: the arbiter's tree says who may try to lead; logs say who can. A winner asks all
//! for their promise to follow nobody older, takes over the freshest log among those that together
//! hold everything that was ever committed, and only then writes into the tree that its epoch is
//! established. From then on it alone gives out sqns; an sqn is committed when enough others hold
//! it in this epoch. Safety never rests on clocks: whatever an old leader still does, nobody who
//! promised a newer epoch acknowledges it.
//!
//!     idle -> campaigning -> gathering -> fetching -> establishing -> leading -> idle
//!     idle -> following -> idle;   anything -> separate
//!
//! This file has the state and the doors for the driver; `election.zig` what a winner does until it
//! leads, `leader.zig` what a leader does, `follower.zig` what a follower does, `fill.zig` how
//! bytes of the log go from one member to another. `Host` is the log, the stage and the disk
//! (`agent/tier_host.zig` in the engine, `testing/tier_host.zig` in the simulator).
//!
//! Long because it is one state with its doors; what each role does lies beside it.

const std = @import("std");
const mutant = @import("../testing/mutant.zig");
const assert = @import("../assert.zig").assert;
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const epochs = @import("epoch.zig");
const tree = @import("tree.zig");
const limits = @import("limits.zig");
const election = @import("election.zig");
const leader = @import("leader.zig");
const follower = @import("follower.zig");
const fill = @import("fill.zig");
const seal = @import("../wire/seal.zig");
const Sealing = @import("sealing.zig").Sealing;
const Address = @import("../transport/address.zig").Address;
const Notices = @import("../session/notices.zig").Notices;
const number = @import("../session/notices.zig").number;
const Entry = @import("entry.zig").Entry;

const Epoch = epochs.Epoch;
const Era = epochs.Era;
const Durable = epochs.Durable;
const Set = tree.Set;
const Quorum = tree.Quorum;

/// `RcmRole` of the public API (guide 9.9.6).
pub const Role = enum(u32) {
    separate = 0x00,
    init = 0x01,
    sync = 0x02,
    inactive = 0x04,
    active = 0x10,
    single = 0x11,
};

pub const Policy = enum(u32) { safe, freshest, race };

/// Why `start` of the context fails (design: `ARBITRATION`).
pub const Failure = enum(u32) {
    none = 0,
    /// Those whose logs hold what was committed are not there (guide 8.7.3).
    no_quorum = 1,
    /// The others' configuration of the tier is another one.
    other_configuration = 2,
    /// What must be durable can't be written.
    disk = 3,
    /// The log has what the tier's has not, and the program was given it.
    separate = 4,
};

pub const MemberOptions = struct { id: u16, name: []const u8 };

pub const Options = struct {
    cluster: u16 = 0,
    /// In the order of context ids. The first one's id is the tier's.
    members: []const MemberOptions,
    /// Place in `members`; null: an observer.
    self: ?u32,
    /// Context id.
    id: u16,
    /// -1: all that are in sync.
    ack_count: i32,
    use_committed: bool,
    /// Entries wait until a datagram is full, or for the next step (`AsynchronousSqn`).
    is_batched: bool,
    sync_max_diff: u64,
    /// Entries sent and not acknowledged by those a commit needs (`SyncSendWindowSize`).
    send_window: u32,
    heartbeat_interval_ns: u64,
    heartbeat_timeout_ns: u64,
    ack_interval_ns: u64,
    ack_timeout_ns: u64,
    start_timeout_ns: u64,
    session_timeout_ns: u64,
    policy: Policy,
    /// Over members, AckCount, SyncMode, UseCommitted and topics.
    config_hash: u64,
    /// The seal, where there is one, included.
    datagram_bytes: u32,
    /// `GroupKey` of the context; null: nothing is sealed.
    group_key: ?seal.GroupKey = null,
    /// What the socket's buffer takes of answers to PULL.
    pull_window_bytes: u32 = limits.pull_window_bytes,
    seed: u64,
};

pub const Phase = enum {
    idle,
    campaigning,
    gathering,
    fetching,
    establishing,
    leading,
    following,
    separate,
    left,
};

/// What a member knows of another one.
pub const Peer = struct {
    /// 0: a place for an observer that is not taken.
    id: u16 = 0,
    address: ?Address = null,
    heard_ns: u64 = 0,
    // ---- what it promised our epoch
    promise: ?Promise = null,
    // ---- at a leader: what it acknowledged in this epoch
    /// Nonce of the start that was answered in this epoch; 0: it has not joined.
    joined_nonce: u64 = 0,
    /// The same, also after it fell silent: it need not ask again.
    answered_nonce: u64 = 0,
    is_intact: bool = false,
    was_present: bool = false,
    acked: u64 = 0,
    handed: u64 = 0,
    acked_ns: u64 = 0,
    ack_count: u64 = 0,
    nak_count: u64 = 0,
    // ---- answers that it waits for
    due: packed struct {
        promise: bool = false,
        refuse: bool = false,
        join_reply: bool = false,
        stream: bool = false,
        entries: bool = false,
    } = .{},
    refused: Epoch = .{},
    era_from: u32 = 0,
    join_nonce: u64 = 0,
    join_question: u32 = 0,
    asked_stream: Entry = std.mem.zeroes(Entry),
    nak_from: u64 = 0,
    nak_end: u64 = 0,
    pull: fill.Serving = .{},
};

pub const Promise = struct { adopted: Epoch, next: u64, is_intact: bool, nonce: u64 };

pub const Send = struct { to: ?Address, bytes: u32 };

pub const Counters = struct {
    datagrams: u64 = 0,
    refused: [@typeInfo(frame.Refusal).@"enum".field_names.len]u64 = @splat(0),
    old_epoch: u64 = 0,
    out_of_range: u64 = 0,
    /// `GroupKey`: not sealed, or sealed with another one.
    unauthenticated: u64 = 0,
    replayed: u64 = 0,
    sqns_sent: u64 = 0,
    entries_sent: u64 = 0,
    entries_again: u64 = 0,
    naks_sent: u64 = 0,
    pulls_sent: u64 = 0,
    /// Requests that ended because nothing came for too long, and because of a gap.
    pulls_late: u64 = 0,
    pulls_broken: u64 = 0,
    fills_sent: u64 = 0,
    fill_bytes: u64 = 0,
    /// Of FILL datagrams that moved the log on here.
    fill_bytes_taken: u64 = 0,
    flow_controlled: u64 = 0,
    elections: u64 = 0,
};

const slot_empty = std.math.maxInt(u64);
pub const Slot = struct { sqn: u64, entry: Entry };

pub fn Member(comptime Host: type) type {
    return struct {
        const Self = @This();

        o: Options,
        host: *Host,
        notices: *Notices,
        rng: std.Random.DefaultPrng,
        all: Set,
        tier: u16,
        counters: Counters = .{},

        // ---- durable, as last forced
        durable: Durable = .{},
        nonce: u64 = 0,
        /// `GroupKey`.
        sealing: ?Sealing = null,
        /// A line about it is said again from then on.
        seal_told_ns: u64 = 0,

        // ---- tree
        view: ?tree.View = null,
        command_serial: u32 = 0,
        /// Under way: not answered yet.
        pending: ?tree.Command = null,
        is_command_taken: bool = false,
        wants_resign: bool = false,
        /// The last epoch whose `running` was given up, or was to be: never to be claimed.
        resigned: Epoch = .{},
        /// A view says that `running` is not ours; it may have been read before our win.
        wants_read: bool = false,
        stand_aside_until_ns: u64 = 0,
        /// Since when the tree names the one whom the operator lets lead.
        forced_since_ns: u64 = 0,

        // ---- role
        phase: Phase = .idle,
        role_told: Role = .init,
        started: bool = false,
        failed: Failure = .none,
        started_ns: u64 = 0,
        separate_from: u64 = 0,
        separate_to: u64 = 0,
        /// Refused below: the highest epoch that was read in the tree, promised or heard of.
        floor: Epoch = .{},
        lease_until_ns: u64 = 0,

        // ---- candidate and leader
        epoch: Epoch = .{},
        version: i32 = 0,
        since_ns: u64 = 0,
        ask: Ask = .{},
        source: u32 = tree.nobody,
        source_next: u64 = 0,
        /// The start of the source that promised: another one may have lost its log.
        source_nonce: u64 = 0,
        quorum: Quorum = .{},
        changing: ?Quorum = null,
        first: u64 = 0,
        sent: u64 = 0,
        /// Transactions below were told with their bytes, where they are short.
        pushed: u64 = 0,
        heartbeat_due_ns: u64 = 0,
        heartbeat_gap_ns: u64 = 0,
        has_news: bool = false,
        acked_any_ns: u64 = 0,
        is_tree_wiped: bool = false,
        /// Of a deliberate bug.
        was_master: bool = false,

        // ---- follower
        leader_id: u16 = 0,
        leader_epoch: Epoch = .{},
        leader_first: u64 = 0,
        leader_next: u64 = 0,
        leader_committed: u64 = 0,
        leader_heard_ns: u64 = 0,
        is_suspected: bool = false,
        join: follower.Joining = .{},
        questions: u32 = 0,
        ack_due: bool = false,
        ack_at_ns: u64 = 0,
        acked: u64 = 0,
        stalled_since_ns: u64 = 0,
        stream_ask: Ask = .{},
        nak: Ask = .{},
        puller: fill.Pulling = .{},

        // ---- both
        committed: u64 = 0,
        shown: u64 = 0,
        ring: []Slot,
        eras: []Era,
        eras_count: u32 = 0,
        peers: [limits.peers_max]Peer = @splat(.{}),
        next_peer: u32 = 0,
        fills_in_turn: u32 = 0,
        /// FILL datagrams that may go before the next `tick`.
        fills_left: u32 = 0,
        /// Somebody may wait for an answer, or pull.
        has_dues: bool = false,
        has_pullers: bool = false,
        has_observers: bool = false,
        batch_due_ns: u64 = 0,

        /// A question that is asked again and again until it is answered.
        pub const Ask = struct {
            due_ns: u64 = std.math.maxInt(u64),
            gap_ns: u64 = limits.ask_first_ns,

            pub fn begin(self: *Ask, now_ns: u64) void {
                self.* = .{ .due_ns = now_ns };
            }
            pub fn end(self: *Ask) void {
                self.* = .{};
            }
            pub fn is_on(self: *const Ask) bool {
                return self.due_ns != std.math.maxInt(u64);
            }
            /// It is time; the next time is twice as far.
            pub fn take(self: *Ask, now_ns: u64) bool {
                if (now_ns < self.due_ns) return false;
                self.due_ns = now_ns + self.gap_ns;
                self.gap_ns = @min(self.gap_ns * 2, limits.ask_max_ns);
                return true;
            }
        };

        pub fn init(gpa: std.mem.Allocator, o: Options, host: *Host, notices: *Notices) !Self {
            assert(o.members.len > 0 and o.members.len <= tree.members_max);
            if (o.self) |i| assert(o.members[i].id == o.id);
            const ring = try gpa.alloc(Slot, limits.ring_entries);
            errdefer gpa.free(ring);
            const count: u6 = @intCast(o.members.len - 1);
            var self: Self = .{
                .o = o,
                .host = host,
                .notices = notices,
                .rng = .init(o.seed),
                .all = (@as(Set, 2) << count) -% 1,
                .tier = o.members[0].id,
                .ring = ring,
                .eras = try gpa.alloc(Era, limits.eras_max),
            };
            errdefer gpa.free(self.eras);
            if (o.group_key) |key| {
                self.sealing = try .init(gpa, .{
                    .group_key = key,
                    .cluster = o.cluster,
                    .tier = self.tier,
                    .peers = limits.peers_max,
                });
                // What is written leaves room for the seal.
                self.o.datagram_bytes -= @sizeOf(frame.SealTrailer);
            }
            for (o.members, 0..) |m, i| self.peers[i].id = m.id;
            self.clear_ring();
            return self;
        }

        pub fn deinit(self: *Self, gpa: std.mem.Allocator) void {
            if (self.sealing) |*sealing| sealing.deinit(gpa);
            gpa.free(self.ring);
            gpa.free(self.eras);
            self.* = undefined;
        }

        /// A life begins. `durable`: as it was loaded; a member that is blank has said so to the
        /// disk already. `nonce`: random, of this start, below 2^53, not 0.
        pub fn start(self: *Self, now_ns: u64, durable: Durable, nonce: u64) void {
            assert(self.phase == .idle and self.nonce == 0 and nonce != 0);
            self.durable = durable;
            if (mutant.on(.tier_intact_by_restart) and !epochs.is_none(durable.promised)) {
                self.durable.is_intact = true;
            }
            self.nonce = nonce;
            if (self.sealing) |*sealing| sealing.begin(self.o.id, nonce);
            self.started_ns = now_ns;
            self.floor = epochs.max(durable.promised, durable.adopted);
        }

        // ------------------------------------------------------------ small things

        pub fn self_set(self: *const Self) Set {
            return if (self.o.self) |i| tree.set_of(i) else 0;
        }

        pub fn others(self: *const Self) Set {
            return self.all & ~self.self_set();
        }

        pub fn is_observer(self: *const Self) bool {
            return self.o.self == null;
        }

        pub fn random(self: *Self) std.Random {
            return self.rng.random();
        }

        pub fn speaker(self: *const Self) wire.Speaker {
            return .{
                .cluster = self.o.cluster,
                .tier = self.tier,
                .id = self.o.id,
                .nonce = self.nonce,
            };
        }

        pub fn clear_ring(self: *Self) void {
            for (self.ring) |*slot| slot.sqn = slot_empty;
        }

        pub fn slot_of(self: *Self, sqn: u64) *Slot {
            return &self.ring[sqn & (limits.ring_entries - 1)];
        }

        pub fn place_of(self: *const Self, id: u16) ?u32 {
            for (self.o.members, 0..) |m, i| if (m.id == id) return @intCast(i);
            return null;
        }

        /// The peer of a context id; an observer gets a place when it is heard first.
        pub fn peer_of(self: *Self, id: u16) ?*Peer {
            if (id == self.o.id) return null;
            if (self.place_of(id)) |i| return &self.peers[i];
            for (self.peers[tree.members_max..]) |*p| if (p.id == id) return p;
            var oldest: *Peer = &self.peers[tree.members_max];
            for (self.peers[tree.members_max..]) |*p| {
                if (p.id == 0) {
                    oldest = p;
                    break;
                }
                if (p.heard_ns < oldest.heard_ns) oldest = p;
            }
            oldest.* = .{ .id = id };
            return oldest;
        }

        /// Present in `classer`, as far as is known.
        pub fn present(self: *const Self) Set {
            const v = self.view orelse return 0;
            return v.present & self.all;
        }

        /// Something was ever established on this tier.
        pub fn has_established(self: *const Self) bool {
            const v = self.view orelse return false;
            return !epochs.is_none(v.established_epoch);
        }

        /// Forces the durable numbers. Without the disk nothing may be answered.
        pub fn save(self: *Self, durable: Durable) bool {
            assert(!epochs.less(durable.promised, self.durable.promised));
            if (!self.host.save(durable)) {
                self.fail(.disk);
                self.notices.log(.tier_disk_failed, .fatal, .{});
                return false;
            }
            self.durable = durable;
            return true;
        }

        /// Nothing of a lower epoch counts from now on, also after a restart.
        pub fn promise(self: *Self, epoch: Epoch) bool {
            if (epochs.eql(self.durable.promised, epoch)) return true;
            assert(epochs.less(self.durable.promised, epoch));
            var durable = self.durable;
            durable.promised = epoch;
            if (mutant.on(.tier_promise_as_adopted)) durable.adopted = epoch;
            if (mutant.on(.tier_promise_volatile)) {
                self.durable = durable;
            } else if (!self.save(durable)) return false;
            self.floor = epochs.max(self.floor, epoch);
            return true;
        }

        pub fn fail(self: *Self, why: Failure) void {
            if (self.failed == .none) self.failed = why;
        }

        // ------------------------------------------------------------ role

        pub fn role(self: *const Self) Role {
            return switch (self.phase) {
                .separate => .separate,
                .leading => leader.role_of(self),
                .following => if (self.started) .inactive else .sync,
                .left => self.role_told,
                else => if (self.started) .inactive else if (self.view == null) .init else .sync,
            };
        }

        fn tell_role(self: *Self) void {
            const now_role = self.role();
            if (now_role == self.role_told) return;
            self.role_told = now_role;
            switch (now_role) {
                .active, .single, .inactive => self.started = true,
                else => {},
            }
            self.notices.role(@backingInt(now_role), .{ .args = .{
                number(self.epoch_now().number),
                number(self.host.next()),
                number(self.committed),
                0,
            } });
            if (now_role == .single and self.o.members.len > 1) {
                self.notices.log(.tier_single, .imp, .{});
            }
        }

        /// Epoch in which this member leads or follows.
        pub fn epoch_now(self: *const Self) Epoch {
            return if (self.phase == .following) self.leader_epoch else self.epoch;
        }

        /// Leads, or follows within `SyncMaxDiff`: `start` of the context is done.
        pub fn is_started(self: *const Self) bool {
            return self.started;
        }

        /// The log has what the tier's has not, from `from` on, and the program was given it.
        pub fn separate(self: *Self, from: u64, to: u64) void {
            assert(from < to);
            self.separate_from = from;
            self.separate_to = to;
            self.phase = .separate;
            self.wants_resign = true;
            self.fail(.separate);
            const args: [4]f64 = .{ number(from), number(to - 1), 0, 0 };
            self.notices.log(.tier_separate, .fatal, .{ .args = args });
            self.notices.event(.out_of_sync, .{ .args = args });
        }

        // ------------------------------------------------------------ tree

        pub fn on_view(self: *Self, now_ns: u64, v: *const tree.View) void {
            if (self.phase == .separate or self.phase == .left) return;
            if (self.view) |old| if (v.serial -% old.serial > std.math.maxInt(u32) / 2) return;
            const is_first = self.view == null;
            if (is_first and v.session != .connected) return;
            if (is_first or self.view.?.forced != v.forced) self.on_forced(now_ns, v);
            self.view = v.*;
            if (!mutant.on(.tier_master_unread)) self.floor = epochs.max(self.floor, v.epoch);
            switch (self.phase) {
                .gathering, .fetching, .establishing, .leading => {
                    const is_over = v.session == .expired or self.is_replaced(v);
                    if (is_over) self.step_down(now_ns) else self.wants_read = self.is_in_doubt(v);
                },
                .campaigning => if (v.session == .expired) self.step_down(now_ns),
                else => {},
            }
            self.tell_role();
        }

        /// The operator has chosen, or what was chosen has led: nobody waits for what came before.
        fn on_forced(self: *Self, now_ns: u64, v: *const tree.View) void {
            self.forced_since_ns = now_ns;
            if (self.o.self != null and v.forced == self.o.self.?) self.stand_aside_until_ns = 0;
        }

        /// Somebody else wrote `master`: this member's win is over.
        fn is_replaced(self: *const Self, v: *const tree.View) bool {
            if (v.session != .connected or self.pending != null) return false;
            return v.master_version > self.version;
        }

        /// `running` is not ours, or was not yet: it is read before `master`, so that a view may
        /// have our win in one and not in the other.
        fn is_in_doubt(self: *const Self, v: *const tree.View) bool {
            if (v.session != .connected or v.master_version < self.version) return false;
            return v.running != self.o.self.?;
        }

        /// The tree was read again: now it says what is so.
        fn on_read(self: *Self, now_ns: u64, a: *const tree.Answer) void {
            switch (self.phase) {
                .gathering, .fetching, .establishing, .leading => {},
                else => return,
            }
            self.wants_read = false;
            if (a.outcome == .done and self.is_in_doubt(&self.view.?)) self.step_down(now_ns);
        }

        pub fn on_answer(self: *Self, now_ns: u64, a: *const tree.Answer) void {
            const c = self.pending orelse return;
            if (a.serial != c.serial) return;
            self.pending = null;
            switch (c.kind) {
                .none => {},
                .resign => self.on_resigned(a),
                .read => self.on_read(now_ns, a),
                .campaign => election.on_campaigned(self, now_ns, a),
                .establish => if (self.phase == .establishing)
                    election.on_established(self, now_ns, a)
                else if (self.phase == .leading)
                    leader.on_changed(self, now_ns, a),
            }
            self.tell_role();
        }

        /// `running` is gone, though the view that says so may be on its way.
        fn on_resigned(self: *Self, a: *const tree.Answer) void {
            const v = if (self.view) |*v| v else return;
            const me = self.o.self orelse return;
            if (a.outcome == .done and v.running == me) v.running = tree.nobody;
        }

        /// What the arbiter is to do, once. Nothing while it is at something.
        pub fn command(self: *Self) ?tree.Command {
            if (self.pending) |c| {
                if (self.is_command_taken) return null;
                self.is_command_taken = true;
                return c;
            }
            if (!self.wants_resign and !self.wants_read) return null;
            if (self.wants_resign) self.resigned = self.epoch;
            self.order_command(if (self.wants_resign) .resign else .read, self.quorum);
            if (self.wants_resign) self.wants_resign = false;
            self.wants_read = false;
            self.is_command_taken = true;
            return self.pending;
        }

        /// `command` would give one.
        pub fn has_command(self: *const Self) bool {
            if (self.pending == null) return self.wants_resign or self.wants_read;
            return !self.is_command_taken;
        }

        pub fn order_command(self: *Self, kind: tree.CommandKind, quorum: Quorum) void {
            assert(self.pending == null);
            self.command_serial +%= 1;
            self.is_command_taken = false;
            var version = if (kind == .campaign) self.view.?.master_version else self.version;
            if (mutant.on(.tier_establish_blindly) and kind == .establish) version = -1;
            self.pending = .{
                .kind = kind,
                .serial = self.command_serial,
                .version = version,
                .leader = self.o.self orelse tree.nobody,
                .epoch = self.epoch,
                .quorum = quorum,
            };
        }

        /// No leader, no candidate any more: assigns and commits nothing from here on.
        pub fn step_down(self: *Self, now_ns: u64) void {
            switch (self.phase) {
                .gathering, .fetching, .establishing, .leading => self.wants_resign = true,
                .campaigning => self.wants_resign = true,
                else => return,
            }
            self.phase = .idle;
            self.changing = null;
            self.ask.end();
            self.puller.end();
            self.join = .{};
            self.clear_ring();
            self.leader_id = 0;
            // Whoever noticed first that it is over goes first.
            const delay = self.random().uintLessThan(u64, 20 * std.time.ns_per_ms);
            self.stand_aside_until_ns = @max(self.stand_aside_until_ns, now_ns + delay);
            self.host.retire_stage();
        }

        pub fn stand_aside(self: *Self, now_ns: u64) void {
            self.step_down(now_ns);
            self.stand_aside_until_ns = now_ns + 2 * self.o.session_timeout_ns;
        }

        /// A clean end: others need not wait for a session to expire.
        pub fn leave(self: *Self, now_ns: u64) void {
            if (self.phase == .separate) return;
            self.step_down(now_ns);
            self.phase = .left;
        }

        // ------------------------------------------------------------ datagrams

        pub fn on_datagram(self: *Self, now_ns: u64, from: Address, bytes: []align(8) u8) void {
            self.counters.datagrams += 1;
            const h = switch (wire.decode_header(bytes, self.o.cluster, self.tier)) {
                .ok => |h| h,
                .refused => |why| {
                    self.counters.refused[@backingInt(why)] += 1;
                    return;
                },
            };
            if (h.source == self.o.id) return; // Our own, looped back.
            const key = self.unseal(now_ns, h, bytes) orelse return;
            if (!wire.decode_body(h)) {
                self.counters.out_of_range += 1;
                return;
            }
            if (self.view == null or self.phase == .separate or self.phase == .left) return;
            const said = wire.said_of(h);
            if (said.to != 0 and said.to != self.o.id) return;
            const p = self.peer_of(h.source) orelse return;
            if (self.sealing) |*sealing| if (!sealing.accept(self.index_of(p), h, key)) {
                self.counters.replayed += 1;
                return;
            };
            p.heard_ns = now_ns;
            p.address = from;
            if (!self.is_agreed(p, h)) return;
            self.dispatch(now_ns, p, h);
            self.tell_role();
        }

        /// Opens what is sealed, in place. Null: it is not of those who have our key, or have none
        /// as we do. The key is of use only where there is one.
        fn unseal(
            self: *Self,
            now_ns: u64,
            h: *const frame.Header,
            bytes: []align(8) u8,
        ) ?seal.Key {
            const was_sealed = h.flags().sealed;
            if (self.sealing) |*sealing| {
                if (was_sealed) {
                    const opening = self.known_place(h.source);
                    const known = if (opening) |i| &sealing.openings[i] else null;
                    if (sealing.open(known, bytes)) |key| return key;
                }
            } else if (!was_sealed) return @splat(0);
            self.counters.unauthenticated += 1;
            if (now_ns < self.seal_told_ns or self.place_of(h.source) == null) return null;
            self.seal_told_ns = now_ns + limits.seal_told_every_ns;
            self.notices.log(.tier_unauthenticated, .err, .{
                .name = self.o.members[self.place_of(h.source).?].name,
                .args = .{ number(h.source), number(@intFromBool(was_sealed)), 0, 0 },
            });
            return null;
        }

        /// Place of one who was heard before.
        fn known_place(self: *const Self, id: u16) ?usize {
            if (self.place_of(id)) |i| return i;
            for (self.peers[tree.members_max..], tree.members_max..) |*p, i| {
                if (p.id == id) return i;
            }
            return null;
        }

        fn index_of(self: *const Self, p: *const Peer) usize {
            return (@intFromPtr(p) - @intFromPtr(&self.peers)) / @sizeOf(Peer);
        }

        /// Ends what `poll_send` wrote: sealed, where there is a key. Its bytes then.
        pub fn finish(self: *Self, image: []align(8) u8, bytes: u32) u32 {
            const sealing = if (self.sealing) |*s| s else return bytes;
            return sealing.seal_datagram(image, bytes);
        }

        /// Nothing of an older epoch is taken, nor of another one with the same number.
        fn is_agreed(self: *Self, p: *Peer, h: *const frame.Header) bool {
            const kind = wire.type_of(h).?;
            const e = wire.said_of(h).epoch;
            if (e.number > self.floor.number +| limits.epochs_ahead_max) {
                self.counters.out_of_range += 1;
                return false;
            }
            switch (kind) {
                // Questions, and a word about an epoch that was refused.
                .join, .refuse, .stream_ask, .stream => return true,
                else => {},
            }
            if (mutant.on(.tier_old_epoch_acks) and kind == .sqn_ack) return true;
            if (e.number > self.floor.number) return true;
            if (epochs.eql(e, self.floor)) return true;
            self.counters.old_epoch += 1;
            const is_higher_claim = kind == .prepare or kind == .sqn or kind == .commit;
            if (is_higher_claim and self.place_of(p.id) != null) {
                p.due.refuse = true;
                p.refused = e;
                self.has_dues = true;
            }
            return false;
        }

        fn dispatch(self: *Self, now_ns: u64, p: *Peer, h: *const frame.Header) void {
            switch (wire.type_of(h).?) {
                .sqn, .commit => follower.on_leader(self, now_ns, p, h),
                .sqn_ack => leader.on_ack(self, now_ns, p, h),
                .sqn_nak => leader.on_nak(self, p, h),
                .prepare => election.on_prepare(self, now_ns, p, h),
                .promise => election.on_promise(self, now_ns, p, h),
                .refuse => election.on_refuse(self, now_ns, h),
                .join => fill.on_join(self, now_ns, p, h),
                .join_reply => follower.on_join_reply(self, now_ns, p, h),
                .pull => fill.on_pull(self, p, h),
                .fill => fill.on_fill(self, now_ns, p, h),
                .stream_ask => {
                    p.asked_stream = wire.body(wire.StreamAsk, h).entry;
                    p.due.stream = true;
                    self.has_dues = true;
                },
                .stream => {
                    self.host.learn(&wire.body(wire.StreamTold, h).entry);
                    self.stream_ask.end();
                },
                .tx_acked => if (self.phase == .following and
                    epochs.eql(wire.said_of(h).epoch, self.leader_epoch))
                {
                    self.host.tx_acked(wire.positions_of(h));
                },
            }
        }

        // ------------------------------------------------------------ time

        /// Each step. `lease_until_ns`: until when the session is surely alive, on the same clock.
        pub fn tick(self: *Self, now_ns: u64, wall_ms: u64, lease_until_ns: u64) void {
            self.lease_until_ns = lease_until_ns;
            self.fills_left = limits.fills_per_step;
            if (self.view == null) return;
            switch (self.phase) {
                .separate, .left => return,
                .idle => election.decide(self, now_ns),
                .campaigning, .establishing => {},
                .gathering => election.gather(self, now_ns),
                .fetching => election.fetch(self, now_ns),
                .leading => leader.tick(self, now_ns, wall_ms),
                .following => follower.tick(self, now_ns),
            }
            self.tell_role();
        }

        pub fn next_deadline_ns(self: *const Self, now_ns: u64) u64 {
            const never = std.math.maxInt(u64);
            if (self.view == null or self.phase == .separate or self.phase == .left) return never;
            if (self.has_dues or self.has_pullers) return now_ns;
            return switch (self.phase) {
                .idle => @max(self.stand_aside_until_ns, now_ns + std.time.ns_per_ms),
                .campaigning, .establishing => never,
                .gathering => @min(self.ask.due_ns, now_ns + std.time.ns_per_ms),
                .fetching => @min(self.ask.due_ns, now_ns + std.time.ns_per_ms),
                .leading => leader.next_deadline_ns(self, now_ns),
                .following => follower.next_deadline_ns(self, now_ns),
                .separate, .left => never,
            };
        }

        // ------------------------------------------------------------ to send

        pub fn poll_send(self: *Self, now_ns: u64, image: []align(8) u8) ?Send {
            if (self.view == null or self.phase == .separate) return null;
            if (fill.answer(self, image)) |send| return send;
            const send = switch (self.phase) {
                .gathering => election.poll_send(self, now_ns, image),
                .fetching => follower.poll_ask(self, now_ns, image),
                .leading => leader.poll_send(self, now_ns, image),
                .following => follower.poll_send(self, now_ns, image),
                else => null,
            };
            return send orelse fill.serve(self, image);
        }

        /// To one member, or where its address is not known, to the group with its name on it.
        pub fn send_to(self: *Self, id: u16, bytes: u32) Send {
            const p = self.peer_of(id) orelse return .{ .to = null, .bytes = bytes };
            return .{ .to = p.address, .bytes = bytes };
        }

        // ------------------------------------------------------------ cursors

        /// Everything below is committed; never goes back.
        pub fn commit_to(self: *Self, sqn: u64) void {
            assert(sqn <= self.host.next());
            if (sqn <= self.committed) return;
            self.committed = sqn;
            self.host.committed(sqn);
        }

        /// The program may be given what lies below.
        pub fn show_to(self: *Self, sqn: u64) void {
            if (sqn <= self.shown) return;
            self.shown = sqn;
            self.host.show(sqn);
        }

        /// Removes what the tier's log has not. False: not now, or never (`separate`).
        pub fn truncate_to(self: *Self, sqn: u64) bool {
            const next = self.host.next();
            if (sqn >= next) return true;
            if (sqn < self.committed) {
                // Never, as long as no more members are lost than a commit waited for.
                self.separate(sqn, next);
                return false;
            }
            switch (self.host.truncate(sqn)) {
                .busy => return false,
                .delivered => {
                    self.separate(sqn, @max(sqn + 1, self.host.handed()));
                    return false;
                },
                .done => {
                    self.shown = @min(self.shown, sqn);
                    self.host.retire_stage();
                    return true;
                },
            }
        }
    };
}
