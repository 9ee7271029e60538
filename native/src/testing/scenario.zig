//! What a seed stands for: how many senders and receivers, how they are configured, what they
//! publish, and what goes wrong. Each fault is in about half of the scenarios and absent from the
//! others, so that they meet in every combination and none hides another for ever.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("../session/limits.zig");
const limits_all = @import("../limits.zig");
const Sync = @import("../order/recorder.zig").Sync;
const dice_file = @import("dice.zig");
const Dice = dice_file.Dice;
const messages = @import("messages.zig");

pub const us: u64 = 1_000;
pub const ms: u64 = 1_000_000;
pub const s: u64 = 1_000_000_000;

pub const senders_max = 4;
pub const receivers_max = 4;
pub const transports_max = 3;
pub const windows_max = senders_max * transports_max;

/// From this seed on, senders die all the time, and little else goes wrong.
pub const first_deadly_seed: u64 = 1 << 40;
/// From this one on, windows are read in place, and what goes wrong is what that calls for.
pub const first_in_place_seed: u64 = 1 << 41;
/// From this one on, receivers acknowledge what they have processed, late.
pub const first_manual_seed: u64 = 7 << 39;
/// From this one on, some of the receivers are members of a tier.
pub const first_tier_seed: u64 = 1 << 42;
const tier_salt = 0x7163;
/// From this one on, a tier sends: a run of its own (`sending_tier.zig`).
pub const first_sending_tier_seed: u64 = 1 << 43;
/// From this one on, and below those with tiers, receivers record, and what goes wrong is their
/// processes, machines and disks.
pub const first_recorded_seed: u64 = 3 << 40;
const recorded_salt = 0x4ec0;
/// So that the seeds of old findings mean what they meant.
const in_place_salt = 0x6907;
const manual_salt = 0xac4a;

pub const Kind = enum {
    /// Any mixture of faults.
    general,
    /// Only loss, and the bill for its repair is looked at.
    cost,
    /// Somebody who sees no traffic sends to every port.
    hostile_blind,
    /// Somebody who sees and copies all traffic, and sends from anybody's address, but does not
    /// have the group key.
    hostile_keyed,
};

/// One (topic, partition).
pub const Transport = struct {
    id: u16,
    is_multicast: bool,
    mtu: u32,
    group_key: ?seal.GroupKey,
    heartbeat_interval_ns: u64,
    heartbeat_timeout_ns: u64,
    ack_interval_ns: u64,
    ack_timeout_ns: u64,
    sizes: frame.Sizes,
};

/// What happens to datagrams, out of a million.
pub const Faults = struct {
    loss_ppm: u32 = 0,
    /// Of a group's datagrams, before they fork: nobody gets them.
    uplink_loss_ppm: u32 = 0,
    /// A link falls into a burst, and how long that lasts on average, in datagrams.
    burst_ppm: u32 = 0,
    burst_datagrams: u32 = 0,
    duplicate_ppm: u32 = 0,
    corrupt_ppm: u32 = 0,
    /// Held back long enough to be overtaken.
    reorder_ppm: u32 = 0,
    reorder_ns: u64 = 0,
    delay_ns: u64 = 0,
    jitter_ns: u64 = 0,
    /// Links differ in length by up to this.
    spread_ns: u64 = 0,
};

/// What happens to nodes: mean time between two events of a kind, 0: never.
pub const Mishaps = struct {
    partition_every_ns: u64 = 0,
    pause_every_ns: u64 = 0,
    kill_receiver_every_ns: u64 = 0,
    kill_sender_every_ns: u64 = 0,
    stop_every_ns: u64 = 0,
    slow_handler_every_ns: u64 = 0,
    send_flag_every_ns: u64 = 0,
    /// Upper end of how long each of them lasts.
    lasts_ns: u64 = 0,
    wipe_ppm: u32 = 0,
    torn_ppm: u32 = 0,
    refuse_ppm: u32 = 0,
};

/// Windows that are read in place, where both run on one machine.
pub const InPlace = struct {
    /// Bit t: receivers may read transport t in place.
    transports: u8 = 0,
    /// Bit s: receiver r reads the windows of sender s in place.
    sources: [receivers_max]u8 = @splat(0),
    /// A receiver reads the other senders in place after a start.
    switch_ppm: u32 = 0,
    /// A thread that has nothing to do looks so often, and something new is seen so late.
    look_ns: u64 = 0,
    notice_ns: u64 = 0,
    /// New files are found so late, and the death of an owner.
    find_ns: u64 = 0,
    death_ns: u64 = 0,
    /// Another process comes in between two steps of one.
    cut_ppm: u32 = 0,
};

/// Receivers with a record.
pub const Record = struct {
    /// Bit r: receiver r records.
    receivers: u8 = 0,
    sync: Sync = .async,
    file_blocks: u32 = 8,
    /// A force takes up to so long, and other work of the record agent.
    force_ns: u64 = 0,
    work_ns: u64 = 0,
    /// A death is the machine's; the disk has a bit wrong afterwards.
    power_ppm: u32 = 0,
    flip_ppm: u32 = 0,
    /// The disk is full, or refuses to force.
    spoil_every_ns: u64 = 0,
};

/// Receivers that are members of one tier, or observe it.
pub const Tier = struct {
    /// Bit r.
    members: u8 = 0,
    observers: u8 = 0,
    /// The configuration names one more member, which never starts.
    has_absent: bool = false,
    /// Mean time between two looks of the leader at what it has, and how often a member hears of
    /// it.
    step_ns: u64 = 0,
    hears_ppm: u32 = 0,

    pub fn is_member(self: *const Tier, receiver: u8) bool {
        return self.members >> @intCast(receiver) & 1 == 1;
    }
    pub fn is_observer(self: *const Tier, receiver: u8) bool {
        return self.observers >> @intCast(receiver) & 1 == 1;
    }
    pub fn is_of(self: *const Tier, receiver: u8) bool {
        return self.is_member(receiver) or self.is_observer(receiver);
    }
};

pub const Scenario = struct {
    seed: u64,
    kind: Kind,
    sender_count: u8,
    receiver_count: u8,
    transport_count: u8,
    transports: [transports_max]Transport,
    /// Bit t: has transport t.
    tx_mask: [senders_max]u8,
    rx_mask: [receivers_max]u8,
    cluster: u16,
    window_datagrams: u32,
    cache_messages: u64,
    arena_bytes: u64,
    nodes: u32,
    receive_bytes: u64,
    handshake: bool,
    start_timeout_ns: u64,
    slow_disconnect: bool,
    is_total_order: bool,
    /// Number of the first message of all, in windows that are not wiped before.
    first_number: u64,
    /// Bit r: named as a receiver by the configuration of the senders.
    configured: u8,
    /// Bit r: its program says by itself what it has processed (`sendAck`), and so seldom.
    manual: u8 = 0,
    manual_ack_ppm: u32 = 0,
    /// Messages of each window in the whole run.
    messages: u64,
    sizes: [transports_max]messages.Sizes,
    /// Mean time between bursts of messages, and how many there are in one.
    publish_every_ns: u64,
    publish_burst: u32,
    /// How often a producer publishes between two stores of the network side.
    publish_between_ppm: u32,
    /// Hours in which next to nothing happens.
    is_idle: bool,
    /// Runs that a sender's socket takes at once.
    runs_per_step: u32,
    handler_ns: u64,
    batch: u32,
    joined_buffers: bool,
    /// Clocks go wrong by so much, in millionths.
    drift_ppm: u32,
    faults: Faults,
    /// What is left of loss when the network has healed.
    residual_loss_ppm: u32,
    mishaps: Mishaps,
    in_place: InPlace,
    record: Record,
    tier: Tier,
    /// Hostile datagrams: mean time between two.
    hostile_every_ns: u64,
    /// The first phase ends at this time, or after so many events.
    safety_ns: u64,
    safety_events: u64,

    /// The scenario of a seed.
    pub fn of(seed: u64) Scenario {
        var dice: Dice = .init(seed *% 0x9e37_79b9_7f4a_7c15 +% 1);
        const has_tier = seed >= first_tier_seed;
        const is_recorded = seed >= first_recorded_seed and seed < first_manual_seed;
        const is_in_place = seed >= first_in_place_seed and seed < first_recorded_seed;
        const roll = dice.below(20);
        const kind: Kind = if (seed >= first_in_place_seed) .general else switch (roll) {
            0, 1, 2 => .cost,
            3, 4 => .hostile_blind,
            5, 6 => .hostile_keyed,
            else => .general,
        };
        var self: Scenario = undefined;
        self.seed = seed;
        self.kind = kind;
        self.manual = 0;
        self.manual_ack_ppm = 0;
        self.publish_between_ppm = 20_000;
        self.roll_shape(&dice);
        self.roll_sizes(&dice);
        self.roll_traffic(&dice);
        self.roll_faults(&dice);
        self.roll_mishaps(&dice);
        if (kind == .cost) self.only_loss(&dice);
        const is_deadly = seed >= first_deadly_seed and seed < first_in_place_seed;
        if (is_deadly) self.only_deaths(&dice);
        self.in_place = .{};
        self.tier = .{};
        self.record = .{};
        if (has_tier) {
            self.roll_tier();
            return self;
        }
        const may_read = kind == .general and !self.is_idle and !is_deadly;
        if (may_read or is_in_place) self.roll_in_place();
        if (kind == .general and !is_deadly and !is_recorded) self.roll_manual();
        if (is_recorded) self.roll_record();
        return self;
    }

    /// With dice of its own, as `roll_in_place`.
    fn roll_manual(self: *Scenario) void {
        const roll = dice_file.mix(self.seed, manual_salt);
        const is_chosen = self.seed >= first_manual_seed and self.seed < first_tier_seed;
        if (roll % 1000 >= 200 and !is_chosen) return;
        var dice: Dice = .init(roll);
        self.manual = @intCast(dice.one_of(u64, &.{ 0xff, 0xff, dice.below(256) | 1 }));
        self.manual_ack_ppm = @intCast(dice.one_of(u64, &.{ 5_000, 50_000, 500_000, 1_000_000 }));
    }

    fn roll_shape(self: *Scenario, dice: *Dice) void {
        self.sender_count = @intCast(dice.one_of(u64, &.{ 1, 1, 1, 2, 2, 3, 4 }));
        self.receiver_count = @intCast(dice.one_of(u64, &.{ 1, 1, 2, 2, 3, 4 }));
        self.transport_count = @intCast(dice.one_of(u64, &.{ 1, 1, 1, 2, 3 }));
        self.cluster = @intCast(dice.one_of(u64, &.{ 0, 7, 65535 }));
        const first = dice.between(1, 60000);
        const fast = dice.coin();
        for (self.transports[0..self.transport_count], 0..) |*t, i| {
            self.roll_transport(dice, t, @intCast(first + i), fast);
        }
        const all: u8 = (@as(u8, 1) << @intCast(self.transport_count)) - 1;
        for (&self.tx_mask) |*mask| {
            mask.* = @as(u8, @intCast(dice.below(256))) & all;
            if (mask.* == 0) mask.* = @as(u8, 1) << @intCast(dice.below(self.transport_count));
        }
        for (&self.rx_mask) |*mask| {
            mask.* = if (dice.chance(700_000)) all else @as(u8, @intCast(dice.below(256))) & all;
        }
        // Somebody listens to everything: without a receiver a window rightly fills.
        self.rx_mask[0] = all;
        self.configured = if (dice.coin()) 0xff else @intCast(dice.below(256));
        self.drift_ppm = @intCast(dice.one_of(u64, &.{ 0, 0, 50, 500 }));
    }

    fn roll_transport(self: *Scenario, dice: *Dice, t: *Transport, id: u16, fast: bool) void {
        const keyed = switch (self.kind) {
            .hostile_keyed => true,
            .hostile_blind => false,
            else => dice.chance(250_000),
        };
        const mtu: u32 = @intCast(dice.one_of(u64, &.{ 576, 1500, 1500, 1499, 4000, 9000 }));
        const interval = if (fast)
            dice.between(10, 50) * ms
        else
            dice.one_of(u64, &.{ 100, 500, 1000, 3000 }) * ms;
        const ack_interval = dice.between(5, 100) * ms;
        var key: seal.GroupKey = undefined;
        dice.random().bytes(&key);
        t.* = .{
            .id = id,
            .is_multicast = dice.coin(),
            .mtu = mtu,
            .group_key = if (keyed) key else null,
            .heartbeat_interval_ns = interval,
            .heartbeat_timeout_ns = interval * dice.between(3, 6),
            .ack_interval_ns = ack_interval,
            .ack_timeout_ns = @max(
                ack_interval * dice.between(5, 20),
                dice.one_of(u64, &.{ 100, 500, 2000, 5000 }) * ms,
            ),
            .sizes = .init(mtu, keyed),
        };
    }

    fn roll_sizes(self: *Scenario, dice: *Dice) void {
        self.window_datagrams = @intCast(dice.magnitude(1, 512));
        self.cache_messages = if (dice.coin()) 0 else dice.magnitude(1, 5000);
        const chunks = dice.magnitude(16, 512);
        self.arena_bytes = chunks * 4096;
        self.nodes = @as(u32, 1) << @intCast(dice.between(4, 12));
        self.receive_bytes = dice.magnitude(32, 1024) * 4096;
        const room = @min(self.arena_bytes, self.receive_bytes);
        const large_max = @min(room, 256 * 1024);
        for (self.transports[0..self.transport_count], 0..) |*t, i| {
            const small: u32 = @intCast(dice.magnitude(1, 2000));
            const most = dice.one_of(u64, &.{ large_max / 2, large_max / 8, 8 * 1024, 300 });
            self.sizes[i] = .{
                .max = @intCast(@min(@max(most, 64), large_max - 8192)),
                .message_bytes = t.sizes.message_bytes,
                .fragment_bytes = t.sizes.fragment_bytes,
                .large_ppm = @intCast(dice.one_of(u64, &.{ 0, 0, 2_000, 20_000, 200_000 })),
                .edge_ppm = @intCast(dice.one_of(u64, &.{ 0, 50_000, 500_000 })),
                .usual_max = small,
            };
        }
    }

    fn roll_traffic(self: *Scenario, dice: *Dice) void {
        self.handshake = dice.chance(250_000);
        self.start_timeout_ns = dice.between(100, 3000) * ms;
        self.slow_disconnect = dice.chance(300_000);
        self.is_total_order = dice.chance(800_000);
        const far = limits.first_number_max - (1 << 20);
        self.first_number = dice.one_of(u64, &.{ 0, 0, 0, (1 << 32) - 50, 1 << 48, far });
        self.messages = dice.magnitude(50, 4000);
        self.publish_every_ns = dice.magnitude(5 * us, 20 * ms);
        self.publish_burst = @intCast(dice.magnitude(1, 100));
        if (dice.chance(50_000)) self.publish_every_ns = dice.between(1, 60) * s;
        self.runs_per_step = @intCast(dice.one_of(u64, &.{ 1, 4, 1000 }));
        self.handler_ns = dice.one_of(u64, &.{ 0, 0, 5 * us, 200 * us, 5 * ms });
        self.batch = @intCast(dice.one_of(u64, &.{ 1, 7, 64, 1024 }));
        self.joined_buffers = dice.coin();
        self.safety_ns = dice.between(1, 20) * s;
        self.safety_events = dice.magnitude(5_000, 100_000);
        self.is_idle = false;
        if (dice.chance(40_000)) self.be_idle(dice);
        self.hostile_every_ns = switch (self.kind) {
            .hostile_blind, .hostile_keyed => dice.magnitude(20 * us, 5 * ms),
            else => 0,
        };
    }

    /// Hours in which next to nothing happens.
    fn be_idle(self: *Scenario, dice: *Dice) void {
        for (self.transports[0..self.transport_count]) |*t| {
            t.heartbeat_interval_ns = dice.between(1, 10) * s;
            t.heartbeat_timeout_ns = t.heartbeat_interval_ns * 4;
            t.ack_interval_ns = dice.between(1, 10) * s;
            t.ack_timeout_ns = t.ack_interval_ns * 5;
        }
        self.publish_every_ns = dice.between(1, 600) * s;
        self.publish_burst = 3;
        self.is_idle = true;
        self.safety_ns = dice.between(1, 6) * 3600 * s;
        self.safety_events = 200_000;
    }

    fn roll_faults(self: *Scenario, dice: *Dice) void {
        var f: Faults = .{};
        f.delay_ns = dice.one_of(u64, &.{ 5, 20, 100, 1000, 10_000 }) * us;
        if (dice.coin()) f.jitter_ns = dice.magnitude(1, f.delay_ns * 2);
        if (dice.coin()) f.spread_ns = dice.magnitude(1, f.delay_ns * 2);
        if (dice.coin()) f.loss_ppm = @intCast(dice.magnitude(100, 200_000));
        if (dice.chance(300_000)) f.uplink_loss_ppm = @intCast(dice.magnitude(100, 100_000));
        if (dice.chance(300_000)) {
            f.burst_ppm = @intCast(dice.magnitude(100, 10_000));
            f.burst_datagrams = @intCast(dice.magnitude(2, 200));
        }
        if (dice.chance(400_000)) f.duplicate_ppm = @intCast(dice.magnitude(100, 100_000));
        if (dice.chance(400_000)) f.corrupt_ppm = @intCast(dice.magnitude(100, 50_000));
        if (dice.chance(400_000)) {
            f.reorder_ppm = @intCast(dice.magnitude(100, 300_000));
            f.reorder_ns = dice.magnitude(10 * us, 50 * ms);
        }
        self.faults = f;
        self.residual_loss_ppm = @intCast(dice.one_of(u64, &.{ 0, 0, 2_000, 20_000 }));
    }

    fn roll_mishaps(self: *Scenario, dice: *Dice) void {
        var m: Mishaps = .{};
        const every = if (self.is_idle)
            dice.magnitude(60 * s, 7200 * s)
        else
            dice.magnitude(50 * ms, 5 * s);
        const slots = [_]*u64{
            &m.partition_every_ns,
            &m.pause_every_ns,
            &m.kill_receiver_every_ns,
            &m.kill_sender_every_ns,
            &m.stop_every_ns,
            &m.slow_handler_every_ns,
            &m.send_flag_every_ns,
        };
        if (dice.chance(750_000)) {
            for (slots) |slot| {
                if (dice.chance(350_000)) slot.* = dice.between(every / 2, every * 2);
            }
        }
        m.lasts_ns = dice.magnitude(5 * ms, 8 * s);
        m.wipe_ppm = @intCast(dice.one_of(u64, &.{ 0, 300_000, 1_000_000 }));
        m.torn_ppm = @intCast(dice.one_of(u64, &.{ 0, 0, 0, 50_000 }));
        m.refuse_ppm = @intCast(dice.one_of(u64, &.{ 0, 0, 0, 20_000, 300_000 }));
        self.mishaps = m;
    }

    /// With dice of its own: all else stays as it was before anything was read in place.
    fn roll_in_place(self: *Scenario) void {
        const roll = dice_file.mix(self.seed, in_place_salt);
        const is_chosen = self.seed >= first_in_place_seed and self.seed < first_recorded_seed;
        if (self.seed >= first_recorded_seed and self.seed < first_manual_seed) return;
        if (roll % 1000 >= 300 and !is_chosen) return;
        var dice: Dice = .init(roll);
        const any: u8 = @intCast(dice.one_of(u64, &.{ 0xff, 0xff, dice.below(256) }));
        var i: InPlace = .{ .transports = any };
        const all = dice.coin();
        for (&i.sources) |*mask| {
            mask.* = if (all or dice.coin()) 0xff else @intCast(dice.below(256));
        }
        i.switch_ppm = @intCast(dice.one_of(u64, &.{ 0, 0, 0, 200_000 }));
        i.look_ns = dice.one_of(u64, &.{ 1, 1, 20 }) * ms;
        if (self.is_idle) i.look_ns = 500 * ms;
        i.notice_ns = dice.magnitude(1, i.look_ns);
        i.find_ns = dice.one_of(u64, &.{ 1, 10, 10, 300 }) * ms;
        i.death_ns = dice.one_of(u64, &.{ 1, 20, 20, 100 }) * ms;
        i.cut_ppm = @intCast(dice.one_of(u64, &.{ 0, 10_000, 300_000 }));
        self.in_place = i;
        // A ring of nodes that comes round, and time-outs within reach.
        if (dice.coin()) self.nodes = @as(u32, 1) << @intCast(dice.between(4, 7));
        if ((is_chosen or dice.coin()) and !self.is_idle) self.hasten(&dice);
    }

    /// With dice of its own, as before.
    fn roll_record(self: *Scenario) void {
        var dice: Dice = .init(dice_file.mix(self.seed, recorded_salt));
        const all = dice.coin();
        self.record = .{
            .receivers = if (all) 0xff else @intCast(dice.below(256)),
            .sync = dice.random().enumValue(Sync),
            .file_blocks = @intCast(dice.one_of(u64, &.{ 3, 4, 8 })),
            .force_ns = dice.magnitude(10 * us, 20 * ms),
            .work_ns = dice.magnitude(10 * us, 5 * ms),
            .power_ppm = @intCast(dice.one_of(u64, &.{ 0, 300_000, 1_000_000 })),
            .flip_ppm = @intCast(dice.one_of(u64, &.{ 0, 0, 0, 300_000 })),
            .spoil_every_ns = dice.one_of(u64, &.{ 0, 0, 1, 5 }) * s,
        };
        self.receive_bytes = std.mem.alignForward(
            u64,
            @max(self.receive_bytes, 1 << 20),
            4 * limits_all.record_block_bytes,
        );
        self.messages = @min(self.messages, 1500);
        for (self.sizes[0..self.transport_count]) |*sizes| {
            sizes.max = @min(sizes.max, 48 * 1024);
            sizes.large_ppm = @min(sizes.large_ppm, 20_000);
        }
        const m = &self.mishaps;
        m.kill_receiver_every_ns = dice.magnitude(20 * ms, s);
        m.lasts_ns = dice.magnitude(ms, 500 * ms);
        m.stop_every_ns = dice.one_of(u64, &.{ 0, 500 * ms });
        if (dice.coin()) m.pause_every_ns = 0;
        m.kill_sender_every_ns = dice.one_of(u64, &.{ 0, 0, s });
    }

    fn roll_tier(self: *Scenario) void {
        var dice: Dice = .init(dice_file.mix(self.seed, tier_salt));
        if (dice.chance(150_000)) self.only_deaths(&dice);
        self.receiver_count = @intCast(dice.between(2, receivers_max));
        const most = @min(3, self.receiver_count);
        const members = dice.between(if (dice.coin()) 1 else 2, most);
        var t: Tier = .{ .members = (@as(u8, 1) << @intCast(members)) - 1 };
        if (members < self.receiver_count and dice.chance(400_000)) {
            t.observers = @as(u8, 1) << @intCast(members);
        }
        t.has_absent = members == 1 or dice.chance(300_000);
        t.step_ns = dice.magnitude(100 * us, 50 * ms);
        t.hears_ppm = @intCast(dice.one_of(u64, &.{ 50_000, 500_000, 1_000_000 }));
        self.tier = t;
        for (self.rx_mask[0..self.receiver_count], 0..) |*mask, r| {
            if (t.is_of(@intCast(r))) mask.* = self.rx_mask[0];
        }
        self.configured |= t.members | t.observers;
        if (self.is_idle or dice.coin()) return;
        self.hasten(&dice);
        if (self.mishaps.kill_receiver_every_ns == 0 and dice.coin()) {
            self.mishaps.kill_receiver_every_ns = dice.between(100, 2000) * ms;
        }
    }

    /// Pauses become longer than time-outs.
    fn hasten(self: *Scenario, dice: *Dice) void {
        for (self.transports[0..self.transport_count]) |*t| {
            t.ack_interval_ns = dice.between(5, 20) * ms;
            t.ack_timeout_ns = t.ack_interval_ns * dice.between(5, 10);
        }
        const m = &self.mishaps;
        m.lasts_ns = @max(m.lasts_ns, s);
        if (m.pause_every_ns == 0) m.pause_every_ns = dice.between(100, 2000) * ms;
        if (m.slow_handler_every_ns == 0) {
            m.slow_handler_every_ns = dice.between(100, 2000) * ms;
        }
    }

    /// Loss and nothing else, on a quick network: what it costs to repair can be said exactly.
    fn only_loss(self: *Scenario, dice: *Dice) void {
        const delay_ns = dice.between(5, 60) * us;
        const spread_us = dice.one_of(u64, &.{ 0, 40, 100 });
        self.faults = .{ .delay_ns = delay_ns, .spread_ns = spread_us * us };
        if (dice.chance(600_000)) {
            for (self.transports[0..self.transport_count]) |*t| t.is_multicast = true;
            self.receiver_count = @max(self.receiver_count, 3);
            self.faults.uplink_loss_ppm = @intCast(dice.magnitude(500, 100_000));
        } else {
            self.faults.loss_ppm = @intCast(dice.magnitude(500, 100_000));
        }
        self.residual_loss_ppm = 0;
        self.mishaps = .{};
        self.handler_ns = 0;
        self.window_datagrams = @min(self.window_datagrams, 64);
        // What is early must find room, or it is lost too.
        const windows = @as(u64, self.sender_count) * self.transport_count;
        const in_flight = windows * self.window_datagrams * 9000;
        self.receive_bytes = std.mem.alignForward(u64, @max(4 << 20, 8 * in_flight), 4096);
        self.arena_bytes = @max(self.arena_bytes, 1 << 20);
        self.runs_per_step = 1000;
        self.slow_disconnect = false;
        self.publish_every_ns = @min(self.publish_every_ns, 20 * ms);
        self.messages = @max(self.messages, 500);
        self.safety_ns = 600 * s;
        self.safety_events = 200_000;
        self.drift_ppm = 0;
    }

    /// Senders live for some milliseconds, in windows and arenas that are soon full.
    fn only_deaths(self: *Scenario, dice: *Dice) void {
        const all: u8 = (@as(u8, 1) << @intCast(self.transport_count)) - 1;
        self.kind = .general;
        self.hostile_every_ns = 0;
        self.tx_mask = @splat(all);
        self.sender_count = @min(self.sender_count, 2);
        self.receiver_count = @min(self.receiver_count, 2);
        self.is_idle = false;
        self.nodes = @as(u32, 1) << @intCast(dice.between(4, 8));
        self.cache_messages = dice.one_of(u64, &.{ 0, 10, 1000 });
        self.messages = dice.magnitude(500, 20_000);
        self.publish_every_ns = dice.magnitude(20 * us, ms);
        self.publish_burst = @intCast(dice.magnitude(1, 30));
        self.publish_between_ppm = 200_000;
        self.handshake = dice.coin();
        self.start_timeout_ns = dice.magnitude(ms, 30 * ms);
        self.faults = .{ .delay_ns = dice.magnitude(5 * us, ms) };
        self.mishaps = .{
            .kill_sender_every_ns = dice.magnitude(5 * ms, 50 * ms),
            .kill_receiver_every_ns = dice.one_of(u64, &.{ 0, 0, 200 * ms }),
            .send_flag_every_ns = dice.one_of(u64, &.{ 0, 0, 100 * ms }),
            .lasts_ns = dice.magnitude(ms, 50 * ms),
            .wipe_ppm = @intCast(dice.one_of(u64, &.{ 0, 50_000, 300_000 })),
            .torn_ppm = @intCast(dice.one_of(u64, &.{ 0, 0, 10_000 })),
        };
        self.safety_ns = dice.between(1, 5) * s;
        self.safety_events = dice.magnitude(5_000, 40_000);
    }

    pub fn may_read_in_place(self: *const Scenario, transport: u8) bool {
        return self.in_place.transports >> @intCast(transport) & 1 == 1;
    }

    /// Receiver r reads sender s in place, by the configuration that the senders have.
    pub fn reads_in_place(self: *const Scenario, receiver: u8, sender: u8, transport: u8) bool {
        return self.may_read_in_place(transport) and
            self.in_place.sources[receiver] >> @intCast(sender) & 1 == 1;
    }

    /// Nothing but the traffic's own faults: nobody may lose touch with anybody.
    pub fn is_calm(self: *const Scenario) bool {
        const m = &self.mishaps;
        // In hours, even several losses in a row come about.
        const loss_max_ppm: u32 = if (self.is_idle) 2_000 else 50_000;
        return m.partition_every_ns == 0 and m.pause_every_ns == 0 and
            m.kill_receiver_every_ns == 0 and m.kill_sender_every_ns == 0 and
            m.stop_every_ns == 0 and self.faults.burst_ppm == 0 and
            self.faults.loss_ppm <= loss_max_ppm and
            self.faults.uplink_loss_ppm <= loss_max_ppm and
            self.faults.corrupt_ppm <= loss_max_ppm and self.kind != .hostile_blind;
    }
};

test "a seed always means the same scenario" {
    for (0..200) |seed| {
        const a: Scenario = .of(seed);
        const b: Scenario = .of(seed);
        try std.testing.expectEqual(a.kind, b.kind);
        try std.testing.expectEqual(a.window_datagrams, b.window_datagrams);
        try std.testing.expectEqual(a.safety_events, b.safety_events);
        try std.testing.expectEqual(a.mishaps, b.mishaps);
        try std.testing.expect(a.window_datagrams >= 1 and a.window_datagrams <= 512);
        try std.testing.expect(a.rx_mask[0] != 0);
        for (a.transports[0..a.transport_count]) |t| {
            try std.testing.expect(t.mtu >= 576 and t.mtu <= 9000);
        }
    }
}
