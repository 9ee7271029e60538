//! Runs the deliberate bugs of `mutant.zig`, each over the fixed seeds until a checker catches it.
//! A bug that is not caught shows that a checker is blind: that fails.
//!
//! Each runs in a process of its own, because a deliberate bug may well end in an assertion; that
//! counts as caught, by `crash`.

const std = @import("std");
const build_options = @import("build_options");
const cluster_file = @import("cluster.zig");
const mutant_file = @import("mutant.zig");
const report = @import("report.zig");
const scenario = @import("scenario.zig");
const tier_cluster = @import("tier_cluster.zig");
const tier_scenario = @import("tier_scenario.zig");
const verdict_file = @import("verdict.zig");
const SendingTier = @import("sending_tier.zig").SendingTier;
const Mutant = mutant_file.Mutant;
const linux = std.os.linux;

/// Within so many events each must be caught.
pub const events_max = 30_000_000;
/// Events of tiers are cheap, and some bugs need an election at the wrong moment.
pub const tier_events_max = 100_000_000;

/// What the child tells, in memory that both see.
const Result = extern struct {
    seed: u64,
    events: u64,
    is_caught: u32,
    check: u32,
};

pub fn run_all(out: *std.Io.Writer) !u64 {
    var passed: u64 = 0;
    var failed: u64 = 0;
    inline for (@typeInfo(Mutant).@"enum".field_names) |name| {
        const mutant = @field(Mutant, name);
        if (mutant != .none) {
            if (try run_one(out, mutant)) passed += 1 else failed += 1;
        }
    }
    try out.print("{d} passed, {d} failed\n", .{ passed, failed });
    return failed;
}

/// True when it was caught.
pub fn run_one(out: *std.Io.Writer, mutant: Mutant) !bool {
    if (!build_options.mutants) {
        std.process.fatal("this build has no mutants in it (-Dmutants=true)", .{});
    }
    const shared = try std.posix.mmap(
        null,
        std.heap.page_size_min,
        .{ .READ = true, .WRITE = true },
        .{ .TYPE = .SHARED, .ANONYMOUS = true },
        -1,
        0,
    );
    defer std.posix.munmap(shared);
    const result: *volatile Result = @ptrCast(shared.ptr);
    result.* = .{ .seed = 0, .events = 0, .is_caught = 0, .check = 0 };
    try out.flush();
    const pid = linux.fork();
    if (linux.errno(pid) != .SUCCESS) return error.ForkFailed;
    if (pid == 0) run_child(mutant, result);
    var raw: i32 = 0;
    _ = linux.wait4(@intCast(pid), &raw, 0, null);
    const status: u32 = @bitCast(raw);
    if (status & 0x7f != 0) {
        // A signal ended it.
        result.is_caught = 1;
        result.check = @backingInt(verdict_file.Check.crash);
    }
    if (result.is_caught == 1) {
        const check: verdict_file.Check = @fromBackingInt(@intCast(result.check));
        try out.print("mutant {t} caught by {t} at seed {d} after {d} events\n", .{
            mutant, check, result.seed, result.events,
        });
    } else try out.print("mutant {t} NOT CAUGHT in {d} events\n", .{ mutant, result.events });
    try out.flush();
    return result.is_caught == 1;
}

/// What goes wrong only when a sender dies is soonest seen where they die all the time.
fn first_seed(mutant: Mutant) u64 {
    return switch (mutant) {
        // Power must go between two forces of one block.
        .named_by_what_goes => scenario.first_recorded_seed + 750,
        // From the first one on it takes 40 million events.
        .tag_kept => scenario.first_in_place_seed + 103_000,
        .tag_first,
        .written_first,
        .mirror_late,
        .freed_first,
        .base_last,
        .generation_early,
        .generation_ignored,
        .recovered_from_sent,
        .tail_ignored,
        .damage_believed,
        .kept_not_held,
        .numbers_anew,
        .connection_forgotten,
        => scenario.first_deadly_seed,
        .claims_ignored,
        .pins_dropped,
        .claim_late,
        .ack_taken,
        .position_taken,
        .first_processed,
        .dead_keeps_pins,
        .last_words_lost,
        .dead_unnoticed,
        .tag_unchecked,
        .flag_ignored_in_place,
        => scenario.first_in_place_seed,
        .manual_ack_logged, .manual_holds_window => scenario.first_manual_seed,
        .tier_not_mandatory,
        .tier_lowest_ack,
        .tier_goes_back,
        .tier_stops_inside,
        .tier_observer_counts,
        => scenario.first_tier_seed,
        .leader_from_written,
        .follower_keeps_nothing,
        .epoch_ignored,
        .leader_begins_anew,
        => scenario.first_sending_tier_seed,
        .forced_at_once,
        .old_unforced,
        .segment_left_open,
        .replay_skips,
        .torn_believed,
        .restore_forgotten,
        .entry_forgotten,
        .failure_ignored,
        .force_unawaited,
        .late_unforced,
        .joint_early,
        .segment_gap_believed,
        .behind_kept,
        => scenario.first_recorded_seed,
        .result_uncommitted,
        .result_of_old_reign,
        .result_own_again,
        .result_told_early,
        => tier_scenario.first_results_seed,
        else => first_seed_of_tier(mutant) orelse 1,
    };
}

fn first_seed_of_tier(mutant: Mutant) ?u64 {
    const first = tier_scenario.first_seed;
    return switch (mutant) {
        // From the first seed on each takes more than 100 million events.
        .tier_promise_and_commit => first + 100_000_030,
        .tier_longest_log => first + 100_000_450,
        else => if (std.mem.startsWith(u8, @tagName(mutant), "tier_")) first else null,
    };
}

var child_result: *volatile Result = undefined;
var child_cluster: ?*cluster_file.Cluster = null;
var child_tier: ?*tier_cluster.Cluster = null;

fn note_crash() noreturn {
    child_result.is_caught = 1;
    child_result.check = @backingInt(verdict_file.Check.crash);
    if (child_cluster) |cluster| child_result.events += cluster.totals.events;
    if (child_tier) |tier| child_result.events += tier.counts.events;
    linux.exit(0);
}

/// True when it was caught.
fn run_sending_tier(seed: u64, result: *volatile Result) bool {
    const run = SendingTier.init(std.heap.c_allocator, seed) catch linux.exit(1);
    defer run.deinit();
    run.run();
    result.events += run.totals.events;
    const v = if (run.verdict.violation) |*v| v else return false;
    result.check = @backingInt(v.check);
    result.is_caught = 1;
    return true;
}

fn run_child(mutant: Mutant, result: *volatile Result) noreturn {
    mutant_file.active = mutant;
    child_result = result;
    report.on_crash = note_crash;
    var seed: u64 = first_seed(mutant);
    const budget: u64 = if (seed >= tier_scenario.first_seed) tier_events_max else events_max;
    while (result.events < budget) : (seed += 1) {
        result.seed = seed;
        if (seed >= tier_scenario.first_seed) {
            // Seeds of a kind in which the bug may show.
            const kind = tier_scenario.Scenario.init(seed).kind;
            if (focus(mutant)) |only| if (kind != only) continue;
            if (run_tier(seed, result)) break else continue;
        }
        if (seed >= scenario.first_sending_tier_seed) {
            if (run_sending_tier(seed, result)) break else continue;
        }
        if (!may_show(mutant, seed)) continue;
        const cluster: *cluster_file.Cluster = cluster_file.Cluster.init(
            std.heap.c_allocator,
            seed,
        ) catch linux.exit(1);
        child_cluster = cluster;
        cluster.run();
        child_cluster = null;
        result.events += cluster.totals.events;
        if (cluster.verdict.violation) |*v| {
            result.check = @backingInt(v.check);
            result.is_caught = 1;
            break;
        }
        cluster.deinit();
    }
    linux.exit(0);
}

/// What goes wrong with a record shows only on the right disk.
fn may_show(mutant: Mutant, seed: u64) bool {
    const s: scenario.Scenario = .of(seed);
    const r = &s.record;
    const has_power = r.power_ppm > 0;
    // A bit that flips, or a disk that fails, excuses what is lost.
    const is_clean = r.flip_ppm == 0 and r.spoil_every_ns == 0;
    return switch (mutant) {
        .failure_ignored => r.sync == .commit and has_power and r.flip_ppm == 0 and
            r.spoil_every_ns > 0 and r.spoil_every_ns <= scenario.s,
        .force_unawaited => r.sync == .commit and has_power and is_clean and
            r.force_ns >= scenario.ms,
        .late_unforced => r.sync != .async and has_power and is_clean and has_large(&s),
        .segment_gap_believed => r.sync == .async and has_power,
        .behind_kept => has_power,
        .named_by_what_goes => r.sync != .commit and has_power and is_clean,
        else => true,
    };
}

fn has_large(s: *const scenario.Scenario) bool {
    for (s.sizes[0..s.transport_count]) |*sizes| {
        if (sizes.large_ppm > 0 and sizes.max > 16 * 1024) return true;
    }
    return false;
}

fn focus(mutant: Mutant) ?tier_scenario.Kind {
    return switch (mutant) {
        .tier_join_without_nonce, .tier_old_start_acks, .tier_old_epoch_acks => .stale,
        .tier_promise_and_commit, .tier_master_unread => .fenced,
        .tier_longest_log, .tier_next_best => .figure_eight,
        else => null,
    };
}

/// True when the bug was caught.
fn run_tier(seed: u64, result: *volatile Result) bool {
    const tier: *tier_cluster.Cluster = tier_cluster.Cluster.init(
        std.heap.c_allocator,
        seed,
    ) catch linux.exit(1);
    child_tier = tier;
    tier.run();
    child_tier = null;
    result.events += tier.counts.events;
    const v = if (tier.model.verdict.violation) |*v| v else {
        tier.deinit();
        return false;
    };
    result.check = @backingInt(v.check);
    result.is_caught = 1;
    return true;
}
