//! The simulator's command.
//!
//!     sim [--seed N] [--seeds FIRST..LAST] [--events N] [--minutes N] [--verbose]
//!     sim --mutants | --mutant NAME [--seed N ...]
//!
//! Without arguments: the regression seeds, some in which senders die all the time (such are all
//! from 2^40 on), some in which receivers record (3 * 2^40), some with a tier that receives (2^42)
//! or sends (2^43), then seeds from 1 on until ten million events. Seeds from 2^44 on are members
//! of a tier among themselves. With `--seed N` alone just that one; with `--events` or `--minutes`
//! from it on. A violation prints the command that replays it.
//! The last line is `N passed, N failed`.

const std = @import("std");
const cluster_file = @import("testing/cluster.zig");
const verdict_file = @import("testing/verdict.zig");
const Totals = @import("testing/totals.zig").Totals;
const mutant_file = @import("testing/mutant.zig");
const dice = @import("testing/dice.zig");
const mutation = @import("testing/mutation.zig");
const report = @import("testing/report.zig");
const scenario = @import("testing/scenario.zig");
const tier_cluster = @import("testing/tier_cluster.zig");
const tier_report = @import("testing/tier_report.zig");
const tier_scenario = @import("testing/tier_scenario.zig");
const SendingTier = @import("testing/sending_tier.zig").SendingTier;
const Cluster = cluster_file.Cluster;
const Mutant = mutant_file.Mutant;

/// Seeds that found something; they run first. What was wrong:
const regression_seeds = [_]u64{
    // Early datagrams lay in the way of a message, and no other message could move them.
    97,
    149,
    516,
    // Held datagrams were not taken when room was back, or when a loss had led up to them.
    127,
    459,
    // Messages in assembly at two receivers waited for each other.
    1003,
    // The place in the order of a complete message found no memory.
    618,
    // A gap was given up because the receiver had no room, or had not asked.
    453,
    753,
    1419,
    // Endless repairs of what could not be held.
    205,
    1788,
    // The memory of a stream that had fallen silent was kept from the others.
    528,
    // NO_TRANSMITTER twice.
    425,
    1183,
    // Messages were passed over without a word.
    1454,
    2465,
    // An agent was due at once for ever: an acknowledgement wanted during the handshake.
    1461,
    2037,
    // A slow receiver that came back held the others up again at once.
    994,
    // Receivers with nearly full memory held each other up, or gave up what they had no room for.
    33624,
    43518,
    44247,
    45315,
    53006,
    // A stream was led astray by a sealed SYN that was played again from another address.
    23299,
    24849,
    // Many lost messages were asked for two by two, slower each time, and given up in the end.
    1103048970407,
    // MESSAGE_LOSS found no room among the events that waited to be read.
    3537342653,
    // False alarms: messages torn before a wipe; receivers that die faster than they are slow.
    8287,
    17478,
    // Recovery died while it marked a message as lost that had not been accepted.
    1099521629071,
    // Who acknowledges late went on in a segment that was given back.
    4398046511105,
};
const events_default = 10_000_000;
const deadly_seeds_default = 40;
const recorded_seeds_default = 40;
const tier_seeds_default = 40;

const Arguments = struct {
    seed: ?u64 = null,
    last: ?u64 = null,
    events: ?u64 = null,
    minutes: ?u64 = null,
    mutants: bool = false,
    mutant: ?Mutant = null,
    verbose: bool = false,
};

pub const panic = std.debug.FullPanic(report.panicked);

/// Memory that a seed gave back is the next seed's, without a page fault for every page.
fn keep_memory() void {
    const trim_threshold = -1;
    const mmap_threshold = -3;
    _ = mallopt(mmap_threshold, std.math.maxInt(c_int));
    _ = mallopt(trim_threshold, std.math.maxInt(c_int));
}

extern "c" fn mallopt(option: c_int, value: c_int) c_int;

pub fn main(init: std.process.Init) !void {
    keep_memory();
    const arena = init.arena.allocator();
    const args = try init.minimal.args.toSlice(arena);
    const a = parse(args[1..]);
    var buffer: [4096]u8 = undefined;
    var stdout = std.Io.File.stdout().writerStreaming(init.io, &buffer);
    const out = &stdout.interface;
    const failed = if (a.mutants)
        try mutation.run_all(out)
    else if (a.mutant != null and a.seed == null)
        try run_mutant(out, a.mutant.?)
    else
        try run_seeds(out, init.io, a);
    try out.flush();
    if (failed > 0) std.process.exit(1);
}

fn run_mutant(out: *std.Io.Writer, mutant: Mutant) !u64 {
    const caught = try mutation.run_one(out, mutant);
    try out.print("{d} passed, {d} failed\n", .{ @intFromBool(caught), @intFromBool(!caught) });
    return @intFromBool(!caught);
}

fn usage(text: []const u8) noreturn {
    std.process.fatal("{s}\nusage: sim [--seed N] [--seeds FIRST..LAST] [--events N] " ++
        "[--minutes N] [--mutants] [--mutant NAME] [--verbose]", .{text});
}

fn parse(args: []const [:0]const u8) Arguments {
    var a: Arguments = .{};
    var i: usize = 0;
    while (i < args.len) : (i += 1) {
        const name = args[i];
        if (std.mem.eql(u8, name, "--")) continue;
        if (std.mem.eql(u8, name, "--mutants")) {
            a.mutants = true;
            continue;
        }
        if (std.mem.eql(u8, name, "--verbose")) {
            a.verbose = true;
            continue;
        }
        i += 1;
        if (i == args.len) usage(name);
        const value = args[i];
        if (std.mem.eql(u8, name, "--seed")) {
            a.seed = number(value);
        } else if (std.mem.eql(u8, name, "--seeds")) {
            const dots = std.mem.indexOf(u8, value, "..") orelse usage(value);
            a.seed = number(value[0..dots]);
            a.last = number(value[dots + 2 ..]);
        } else if (std.mem.eql(u8, name, "--events")) {
            a.events = number(value);
        } else if (std.mem.eql(u8, name, "--minutes")) {
            a.minutes = number(value);
        } else if (std.mem.eql(u8, name, "--mutant")) {
            a.mutant = std.meta.stringToEnum(Mutant, value) orelse usage(value);
        } else usage(name);
    }
    return a;
}

fn number(text: []const u8) u64 {
    return std.fmt.parseInt(u64, text, 10) catch usage(text);
}

const Tally = struct {
    totals: Totals = .{},
    tiers: tier_cluster.Counts = .{},
    tier_seeds: u64 = 0,
    seeds: u64 = 0,
    digest: u64 = 0,
    passed: u64 = 0,
    failed: u64 = 0,
};

fn run_seeds(out: *std.Io.Writer, io: std.Io, a: Arguments) !u64 {
    var tally: Tally = .{};
    mutant_file.active = a.mutant orelse .none;
    const from = std.Io.Clock.awake.now(io);
    if (a.seed == null) {
        for (regression_seeds) |seed| try run_seed(out, &tally, seed, a.verbose);
        for (0..deadly_seeds_default) |i| {
            try run_seed(out, &tally, scenario.first_deadly_seed + i, a.verbose);
        }
        for (0..recorded_seeds_default) |i| {
            try run_seed(out, &tally, scenario.first_recorded_seed + i, a.verbose);
        }
        for (0..tier_seeds_default) |i| {
            try run_seed(out, &tally, scenario.first_tier_seed + i, a.verbose);
            try run_seed(out, &tally, scenario.first_sending_tier_seed + i, a.verbose);
            try run_seed(out, &tally, tier_scenario.first_results_seed + i, a.verbose);
        }
    }
    const only_one = a.seed != null and a.last == null and a.events == null and a.minutes == null;
    const first = a.seed orelse 1;
    const last = if (only_one) first else a.last orelse std.math.maxInt(u64);
    const open_end = a.last == null and a.minutes == null and !only_one;
    const events: ?u64 = a.events orelse if (open_end) events_default else null;
    var seed = first;
    while (true) : (seed += 1) {
        try run_seed(out, &tally, seed, a.verbose or only_one);
        if (seed == last) break;
        if (events) |n| if (tally.totals.events + tally.tiers.events >= n) break;
        const gone_ns = from.durationTo(.now(io, .awake)).toNanoseconds();
        if (a.minutes) |n| if (gone_ns >= @as(i96, n) * std.time.ns_per_min) break;
        if (tally.failed >= 20) break;
    }
    const gone_ns = from.durationTo(.now(io, .awake)).toNanoseconds();
    const took_ns: u64 = @intCast(gone_ns);
    if (tally.seeds > 0) try report.totals(out, &tally.totals, tally.seeds, took_ns);
    if (tally.tier_seeds > 0) {
        try tier_report.totals(out, &tally.tiers, tally.tier_seeds, took_ns);
    }
    try out.print("digest {x:0>16}\n", .{tally.digest});
    try out.print("{d} passed, {d} failed\n", .{ tally.passed, tally.failed });
    return tally.failed;
}

fn run_sending_tier(out: *std.Io.Writer, tally: *Tally, seed: u64, verbose: bool) !void {
    const run: *SendingTier = try .init(std.heap.c_allocator, seed);
    defer run.deinit();
    run.run();
    tally.seeds += 1;
    tally.digest = dice.mix(tally.digest, run.digest);
    tally.totals.add(&run.totals);
    if (run.verdict.violation) |*v| {
        tally.failed += 1;
        try report.violation(out, seed, v);
        try out.flush();
    } else tally.passed += 1;
    if (!verbose) return;
    try out.print("seed {d}: {d} members, {d} receivers, {d} messages, {d} reigns, {d} steps, " ++
        "digest {x:0>16}\n", .{
        seed,               run.members.len,   run.receivers.len, run.total,
        run.totals.leaders, run.totals.events, run.digest,
    });
    try out.flush();
}

fn run_seed(out: *std.Io.Writer, tally: *Tally, seed: u64, verbose: bool) !void {
    report.running = seed;
    if (seed >= tier_scenario.first_seed) return run_tier(out, tally, seed, verbose);
    if (seed >= scenario.first_sending_tier_seed) {
        return run_sending_tier(out, tally, seed, verbose);
    }
    const cluster: *Cluster = try .init(std.heap.c_allocator, seed);
    defer cluster.deinit();
    if (verbose) {
        try report.scenario(out, &cluster.scenario);
        try out.flush();
    }
    cluster.run();
    tally.seeds += 1;
    tally.digest = dice.mix(tally.digest, cluster.digest);
    tally.totals.add(&cluster.totals);
    if (cluster.verdict.violation) |*v| {
        tally.failed += 1;
        try report.violation(out, seed, v);
        if (verbose) try report.state(out, cluster);
        try out.flush();
    } else tally.passed += 1;
    if (verbose) {
        try out.print("seed {d}: {d} events, digest {x:0>16}\n", .{
            seed, cluster.totals.events, cluster.digest,
        });
        try out.flush();
    }
}

fn run_tier(out: *std.Io.Writer, tally: *Tally, seed: u64, verbose: bool) !void {
    const cluster: *tier_cluster.Cluster = try .init(std.heap.c_allocator, seed);
    defer cluster.deinit();
    if (verbose) {
        try tier_report.scenario(out, &cluster.scenario);
        try out.flush();
    }
    cluster.run();
    tally.tier_seeds += 1;
    tally.digest = dice.mix(tally.digest, cluster.digest);
    tally.tiers.add(&cluster.counts);
    if (cluster.model.verdict.violation) |*v| {
        tally.failed += 1;
        try report.violation(out, seed, v);
        if (verbose) try tier_report.state(out, cluster);
        try out.flush();
    } else tally.passed += 1;
    if (verbose) {
        try out.print("seed {d}: {d} events, digest {x:0>16}\n", .{
            seed, cluster.counts.events, cluster.digest,
        });
        try out.flush();
    }
}

test {
    _ = @import("testing/tier_cluster.zig");
    _ = @import("testing/cluster.zig");
}
