//! Members of a tier that send (guide 9.9.1): all number and keep the same messages, one of them
//! sends. Part of `sender.zig`.
//!
//! A *follower* is silent: it says nothing, hears nothing, and gives up what the leader says its
//! receivers have acknowledged. Who becomes leader announces the stream from its own address, under
//! its epoch, with a connection of its own and the same numbers; from the lowest message on that
//! the last leader's receivers had not acknowledged everything goes again as new data, and
//! receivers drop what they have.

const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const assert = @import("../assert.zig").assert;
const mutant = @import("../testing/mutant.zig");
const epochs = @import("../tier/epoch.zig");
const sender_file = @import("sender.zig");
const Sender = sender_file.Sender;

/// The tier has a new leader, or none: `is_leader` when it is this member. `connection`: an id of
/// this moment, for a leader. What is told of an older epoch changes nothing.
pub fn set(
    self: *Sender,
    now_ns: u64,
    is_leader: bool,
    epoch: epochs.Epoch,
    connection: u64,
) void {
    assert(self.o.tier);
    if (self.phase == .closed) return;
    if (!is_leader) {
        self.epoch = epochs.max(self.epoch, epoch);
        if (self.phase != .follower) fall_silent(self, now_ns);
        return;
    }
    const is_over = epochs.less(epoch, self.epoch);
    if (is_over or self.phase == .started and epochs.eql(epoch, self.epoch)) return;
    self.epoch = epoch;
    fall_silent(self, now_ns);
    speak(self, now_ns, connection);
}

fn fall_silent(self: *Sender, now_ns: u64) void {
    self.peers.forget();
    self.repairs = .{};
    self.controls_first = 0;
    self.controls_count = 0;
    self.inflight_first = 0;
    self.inflight_count = 0;
    self.ack_wanted = false;
    self.stuck_since_ns = 0;
    self.set_phase(.follower, now_ns);
}

fn speak(self: *Sender, now_ns: u64, connection: u64) void {
    apply_told(self);
    self.o.connection = @max(connection, self.window.connection_id() + 1);
    assert(self.o.connection <= frame.number_max);
    if (self.o.group_key) |*k| self.sealer = .init(k, identity(&self.o));
    self.packer.head = self.head(.data, 0, .{});
    self.stream_token = self.rng.random().int(u64) | 1;
    self.network_on = self.o.has_network;
    const first = if (mutant.on(.leader_from_written))
        self.window.written()
    else
        self.window.acked();
    if (mutant.on(.leader_from_written)) self.window.set_acked(first);
    self.begin(first, now_ns);
}

/// By which a connection's frames are sealed.
pub fn identity(o: *const sender_file.Options) seal.Identity {
    return .{
        .direction = .from_sender,
        .tier = o.tier,
        .cluster = o.cluster,
        .source = o.source,
        .transport = o.transport,
        .receiver = 0,
        .instance = o.connection,
    };
}

/// The leader's receivers have acknowledged all below `acked`.
pub fn told(self: *Sender, acked: u64) void {
    assert(self.o.tier);
    self.told_acked = @max(self.told_acked, acked);
    apply_told(self);
}

/// What was acknowledged to a leader need not be kept, nor sent; this member may only come to it.
pub fn apply_told(self: *Sender) void {
    const to = if (mutant.on(.follower_keeps_nothing))
        self.window.written()
    else
        @min(self.told_acked, self.window.written());
    if (to <= self.window.acked()) return;
    self.window.set_acked(to);
    if (self.sent.msg < to) {
        self.sent = .{ .msg = to };
        self.window.set_sent(to, 0);
    }
    self.announced = frame.Position.max(self.announced, .{ .msg = to });
    self.progress += 1;
}
