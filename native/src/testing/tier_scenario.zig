//! What a seed of the tier's simulator means: how many members, their configuration, the network,
//! and what goes wrong. Kinds direct the dice at what single rules are for; within a kind all is
//! random.

const std = @import("std");
const dice_file = @import("dice.zig");
const scenario = @import("scenario.zig");
const Dice = dice_file.Dice;

pub const Faults = scenario.Faults;

/// Seeds from here on are a tier's.
pub const first_seed: u64 = 1 << 44;
pub const members_max = 5;
pub const observers_max = 2;
/// One more: a member that was started a second time.
pub const nodes_max = members_max + observers_max + 1;
pub const senders_max = 4;

const ms = std.time.ns_per_ms;
const s = std.time.ns_per_s;

pub const Kind = enum {
    /// Anything.
    general,
    /// Nothing goes wrong but a little loss: what it costs is counted.
    calm,
    /// Five members, leaders cut off with a few followers.
    figure_eight,
    /// Two or three members that come and go: SINGLE and back.
    single,
    /// Disks are lost, machines crash.
    amnesia,
    /// Deaths in the middle of elections and takeovers.
    handover,
    /// AckCount -1: the set in sync shrinks and grows.
    in_sync,
    /// The arbiter's tree is wiped.
    wiped_tree,
    /// Senders lose their windows, members miss different parts.
    wiped_sender,
    /// Members and observers that start late.
    joiners,
    /// Datagrams and views that come very late.
    stale,
    /// Leaders that are paused or cut off from the arbiter go on.
    fenced,
    /// ElectionPolicy other than safe: only that they run, and say so.
    policies,
};

pub const Policy = enum { safe, freshest, race };
pub const Record = enum { none, interval, commit };

pub const Mishap = enum {
    kill,
    /// The process dies at a random call to its log or disk, in the middle of a step.
    kill_inside,
    crash,
    /// Several machines at once.
    power,
    wipe,
    disk_full,
    clean_stop,
    pause,
    /// The engine stands still, the arbiter's client goes on.
    hang,
    split,
    one_way,
    /// The leader with a minority on one side.
    split_leader,
    arbiter_cut,
    arbiter_outage,
    early_expiry,
    /// The arbiter gives a leader up that does not hear of it, and members restart.
    usurp,
    tree_wipe,
    sender_restart,
    sender_wipe,
    sender_cut,
    double,
    slow,
    no_memory,
};
pub const mishap_count = @typeInfo(Mishap).@"enum".field_names.len;
pub const Weights = [mishap_count]u8;

pub const Scenario = struct {
    seed: u64,
    kind: Kind,
    members: u8,
    observers: u8 = 0,
    senders: u8 = 1,
    ack_count: i32 = 1,
    use_committed: bool = false,
    asynchronous_sqn: bool = false,
    sync_max_diff: u32 = 10000,
    send_window: u32 = 256,
    heartbeat_interval_ns: u64 = 200 * ms,
    heartbeat_timeout_ns: u64 = 1000 * ms,
    ack_interval_ns: u64 = 100 * ms,
    ack_timeout_ns: u64 = 1000 * ms,
    start_timeout_ns: u64 = 10 * s,
    session_timeout_ns: u64 = 2 * s,
    policy: Policy = .safe,
    record: Record = .interval,
    datagram_bytes: u32 = 1472,
    /// Members seal what they say (`GroupKey`).
    is_sealed: bool = false,
    bytes_max: u32 = 200,
    publish_every_ns: u64 = 20 * ms,
    publish_burst: u32 = 4,
    window_messages: u32 = 64,
    cache_messages: u32 = 0,
    handshake: bool = false,
    faults: Faults = .{},
    residual_loss_ppm: u32 = 0,
    data_delay_ns: u64 = 1 * ms,
    /// A delivery that was lost, and how long its repair takes at most.
    data_stall_ppm: u32 = 0,
    data_stall_ns: u64 = 200 * ms,
    drift_ppm: u32 = 0,
    mishap_every_ns: u64 = 0,
    mishap_lasts_ns: u64 = 5 * s,
    weights: Weights = @splat(0),
    /// Disks are lost only as far as the commits allow: the tier must go on in the end.
    within_bound: bool = true,
    /// Chance that a member stays away at the end.
    core_ppm: u32 = 300_000,
    arbiter_delay_ns: u64 = 2 * ms,
    late_watch_ppm: u32 = 0,
    late_watch_ns: u64 = 2 * s,
    late_expiry_ns: u64 = 0,
    answer_lost_ppm: u32 = 0,
    /// Members start one after another within this.
    start_spread_ns: u64 = 1 * s,
    safety_ns: u64 = 60 * s,
    safety_events: u64 = 30_000,
    publish_total: u64 = 3000,

    pub fn init(seed: u64) Scenario {
        var dice: Dice = .init(dice_file.mix(seed, 0x7469_6572));
        const kinds = comptime std.enums.values(Kind);
        var x: Scenario = .{
            .seed = seed,
            .kind = dice.one_of(Kind, kinds),
            .members = dice.one_of(u8, &.{ 2, 3, 3, 5 }),
        };
        x.configure(&dice);
        x.network(&dice);
        x.workload(&dice);
        x.misfortune(&dice);
        x.special(&dice);
        x.is_sealed = dice.chance(300_000);
        // As the configuration demands.
        if (x.ack_count >= x.members) x.ack_count = x.members - 1;
        return x;
    }

    fn configure(x: *Scenario, dice: *Dice) void {
        if (dice.chance(250_000)) x.observers = @intCast(dice.between(1, observers_max));
        x.senders = @intCast(dice.between(1, senders_max));
        x.ack_count = dice.one_of(i32, &.{ 0, 1, 1, 2, -1 });
        if (x.members == 5) x.ack_count = dice.one_of(i32, &.{ 0, 1, 2, 2, 2, 3, -1 });
        x.use_committed = dice.coin();
        x.asynchronous_sqn = dice.chance(300_000);
        x.sync_max_diff = dice.one_of(u32, &.{ 0, 10, 1000, 10000 });
        x.send_window = dice.one_of(u32, &.{ 4, 32, 256, 4096 });
        const beat = dice.one_of(u64, &.{ 50 * ms, 200 * ms, 1000 * ms });
        x.heartbeat_interval_ns = beat;
        x.heartbeat_timeout_ns = beat * dice.between(3, 5);
        x.ack_interval_ns = dice.one_of(u64, &.{ 20 * ms, 100 * ms, 1000 * ms });
        x.ack_timeout_ns = @max(x.ack_interval_ns, beat) * dice.between(3, 5);
        x.start_timeout_ns = dice.one_of(u64, &.{ 5 * s, 10 * s, 30 * s });
        x.session_timeout_ns = dice.one_of(u64, &.{ 800 * ms, 2 * s, 2 * s, 6 * s });
        x.record = dice.one_of(Record, &.{ .none, .interval, .interval, .commit, .commit });
        x.datagram_bytes = dice.one_of(u32, &.{ 548, 1472, 8972 });
        x.handshake = dice.coin();
        x.drift_ppm = dice.one_of(u32, &.{ 0, 100, 20_000 });
    }

    fn network(x: *Scenario, dice: *Dice) void {
        const f = &x.faults;
        f.delay_ns = dice.magnitude(20_000, 2 * ms);
        f.jitter_ns = dice.magnitude(1, f.delay_ns);
        f.spread_ns = if (dice.coin()) f.delay_ns else 0;
        f.loss_ppm = dice.one_of(u32, &.{ 0, 1000, 20_000, 100_000 });
        f.uplink_loss_ppm = dice.one_of(u32, &.{ 0, 0, 10_000 });
        f.burst_ppm = dice.one_of(u32, &.{ 0, 0, 2000 });
        f.burst_datagrams = @intCast(dice.between(2, 40));
        f.duplicate_ppm = dice.one_of(u32, &.{ 0, 5000, 50_000 });
        f.corrupt_ppm = dice.one_of(u32, &.{ 0, 0, 5000 });
        f.reorder_ppm = dice.one_of(u32, &.{ 0, 10_000, 100_000 });
        f.reorder_ns = dice.magnitude(1 * ms, 1 * s);
        x.residual_loss_ppm = dice.one_of(u32, &.{ 0, 0, 10_000 });
        x.data_delay_ns = dice.magnitude(100_000, 20 * ms);
        x.data_stall_ppm = dice.one_of(u32, &.{ 0, 20_000, 200_000 });
        x.data_stall_ns = dice.magnitude(20 * ms, 3 * s);
        x.arbiter_delay_ns = dice.magnitude(200_000, 50 * ms);
        x.late_watch_ppm = dice.one_of(u32, &.{ 0, 50_000, 300_000 });
        x.late_watch_ns = dice.magnitude(50 * ms, 5 * s);
        x.late_expiry_ns = dice.one_of(u64, &.{ 0, 500 * ms, 5 * s });
        x.answer_lost_ppm = dice.one_of(u32, &.{ 0, 20_000, 200_000 });
    }

    fn workload(x: *Scenario, dice: *Dice) void {
        x.bytes_max = dice.one_of(u32, &.{ 0, 64, 64, 400, 6000 });
        x.publish_every_ns = dice.magnitude(2 * ms, 400 * ms);
        x.publish_burst = @intCast(dice.magnitude(1, 64));
        x.window_messages = @intCast(dice.between(1, 200));
        x.cache_messages = @intCast(dice.one_of(u32, &.{ 0, 0, 20 }));
        x.start_spread_ns = dice.magnitude(1 * ms, 4 * s);
        x.safety_ns = dice.between(20, 120) * s;
        x.publish_total = dice.magnitude(100, 3000);
    }

    fn set(x: *Scenario, mishap: Mishap, weight: u8) void {
        x.weights[@backingInt(mishap)] = weight;
    }

    fn misfortune(x: *Scenario, dice: *Dice) void {
        x.mishap_every_ns = dice.magnitude(300 * ms, 20 * s);
        x.mishap_lasts_ns = dice.magnitude(200 * ms, 15 * s);
        for (&x.weights) |*w| w.* = @intCast(dice.below(4));
        x.set(.tree_wipe, 0);
        x.set(.disk_full, @intCast(dice.below(2)));
        x.set(.power, @intCast(dice.below(2)));
        x.within_bound = !dice.chance(100_000);
    }

    fn special(x: *Scenario, dice: *Dice) void {
        switch (x.kind) {
            .general => {},
            .calm => x.calm(dice),
            .figure_eight => x.figure_eight(dice),
            .single => x.single(dice),
            .amnesia => x.amnesia(dice),
            .handover => x.handover(dice),
            .in_sync => {
                x.ack_count = -1;
                x.weights = @splat(0);
                for ([_]Mishap{ .pause, .kill, .one_way, .split_leader, .wipe }) |m| x.set(m, 2);
                x.set(.early_expiry, 1);
                x.answer_lost_ppm = 100_000;
            },
            .wiped_tree => x.set(.tree_wipe, 3),
            .wiped_sender => {
                x.set(.sender_wipe, 20);
                x.set(.sender_restart, 6);
                x.data_stall_ppm = 300_000;
                x.senders = 2;
            },
            .joiners => {
                x.start_spread_ns = dice.between(5, 40) * s;
                x.observers = @intCast(dice.between(0, observers_max));
                x.set(.wipe, 5);
            },
            .stale => {
                x.faults.reorder_ppm = dice.one_of(u32, &.{ 20_000, 100_000 });
                x.faults.reorder_ns = dice.between(1, 20) * s;
                x.faults.duplicate_ppm = 100_000;
                x.set(.wipe, 6);
                x.set(.kill, 6);
                x.members = dice.one_of(u8, &.{ 3, 5 });
                x.set(.early_expiry, 3);
                x.mishap_every_ns = dice.between(200, 2000) * ms;
                x.record = dice.one_of(Record, &.{ .none, .interval });
            },
            .fenced => {
                x.weights = @splat(0);
                for ([_]Mishap{ .pause, .arbiter_cut, .early_expiry, .hang }) |m| x.set(m, 3);
                x.set(.split_leader, 2);
                x.set(.usurp, 8);
                x.mishap_lasts_ns = dice.between(1, 10) * s;
            },
            .policies => x.policy = if (dice.coin()) .freshest else .race,
        }
    }

    fn calm(x: *Scenario, dice: *Dice) void {
        x.weights = @splat(0);
        x.mishap_every_ns = 0;
        x.faults.loss_ppm = dice.one_of(u32, &.{ 0, 1000, 10_000, 50_000 });
        x.faults.uplink_loss_ppm = 0;
        x.faults.corrupt_ppm = 0;
        x.faults.burst_ppm = 0;
        x.faults.duplicate_ppm = 0;
        x.faults.reorder_ppm = 0;
        x.answer_lost_ppm = 0;
        x.late_watch_ppm = 0;
        x.core_ppm = 0;
        x.start_spread_ns = 500 * ms;
        if (x.heartbeat_interval_ns < 200 * ms) x.heartbeat_interval_ns = 200 * ms;
    }

    fn figure_eight(x: *Scenario, dice: *Dice) void {
        x.members = 5;
        x.ack_count = dice.one_of(i32, &.{ 1, 2, 2, 3 });
        x.weights = @splat(0);
        for ([_]Mishap{ .split_leader, .kill, .pause, .early_expiry }) |m| x.set(m, 3);
        x.set(.split, 2);
        x.set(.wipe, @intCast(dice.below(3)));
        x.set(.crash, @intCast(dice.below(3)));
        x.set(.one_way, 1);
        x.set(.usurp, 2);
        x.session_timeout_ns = dice.one_of(u64, &.{ 800 * ms, 2 * s });
        x.mishap_every_ns = dice.between(500, 4000) * ms;
        x.mishap_lasts_ns = dice.between(1, 8) * s;
        x.publish_every_ns = dice.between(5, 60) * ms;
        x.publish_total = 3000;
        x.data_stall_ppm = dice.one_of(u32, &.{ 20_000, 300_000 });
    }

    fn single(x: *Scenario, dice: *Dice) void {
        x.members = dice.one_of(u8, &.{ 2, 2, 3 });
        x.ack_count = dice.one_of(i32, &.{ 0, 1, -1 });
        x.weights = @splat(0);
        for ([_]Mishap{ .kill, .clean_stop, .wipe, .kill_inside }) |m| x.set(m, 3);
        x.set(.power, 1);
        x.start_spread_ns = dice.between(1, 20) * s;
        x.mishap_every_ns = dice.between(1, 6) * s;
        x.mishap_lasts_ns = dice.between(1, 20) * s;
    }

    fn amnesia(x: *Scenario, dice: *Dice) void {
        x.weights = @splat(0);
        for ([_]Mishap{ .wipe, .crash, .kill, .disk_full, .kill_inside }) |m| x.set(m, 3);
        x.set(.power, 1);
        x.set(.split_leader, @intCast(dice.below(3)));
        x.set(.early_expiry, 1);
        x.members = dice.one_of(u8, &.{ 3, 5, 5 });
        x.ack_count = if (x.members == 5) dice.one_of(i32, &.{ 1, 2, 2, -1 }) else 1;
        x.mishap_every_ns = dice.between(500, 5000) * ms;
        x.within_bound = !dice.chance(300_000);
    }

    fn handover(x: *Scenario, dice: *Dice) void {
        x.weights = @splat(0);
        x.set(.kill_inside, 8);
        x.set(.early_expiry, 4);
        x.set(.crash, 2);
        x.set(.split_leader, 2);
        x.set(.arbiter_cut, 1);
        x.set(.usurp, 4);
        x.mishap_every_ns = dice.between(300, 2000) * ms;
        x.mishap_lasts_ns = dice.between(200, 3000) * ms;
        x.answer_lost_ppm = 200_000;
        x.session_timeout_ns = dice.one_of(u64, &.{ 800 * ms, 2 * s });
    }
};

test "a scenario follows from its seed" {
    for (0..300) |i| {
        const a: Scenario = .init(first_seed + i);
        const b: Scenario = .init(first_seed + i);
        try std.testing.expectEqualDeep(a, b);
        try std.testing.expect(a.ack_count < a.members);
        try std.testing.expect(a.members <= members_max and a.observers <= observers_max);
    }
}
