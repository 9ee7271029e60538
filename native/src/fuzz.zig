//! The fuzzers' command.
//!
//!     fuzz [TARGET...] [--seed N] [--count N]
//!
//! Runs every target (or those that are named) for `--count` executions each. A seed is one life of
//! a target: up to a thousand executions that build on each other; longer runs take the seeds that
//! follow. With `--seed N` alone just that life, which is how a failure is replayed.
//!
//! One target runs in this process. Several run in processes of their own, as many at a time as
//! there are processors, so that a crash of one is seen and the others go on; the canary, a decoder
//! with a bug, runs beside them, and passes when its crash was seen. The last line is `N passed,
//! N failed`.

const std = @import("std");
const Bench = @import("wire/forge_fuzz.zig").Bench;
const Dice = @import("wire/forge_fuzz.zig").Dice;
const frames = @import("wire/frame_fuzz.zig");
const sender = @import("session/sender_fuzz.zig");
const receiver = @import("session/receiver_fuzz.zig");
const recovery = @import("window/recovery_fuzz.zig");
const tier_frames = @import("wire/tier_frame_fuzz.zig");
const member = @import("tier/member_fuzz.zig");

const Target = struct {
    name: []const u8,
    run: *const fn (bench: *Bench, seed: u64, executions: u64) void,
};

const targets = [_]Target{
    .{ .name = "garbage", .run = frames.Garbage.run },
    .{ .name = "data", .run = frames.Decoder(.data).run },
    .{ .name = "fragment", .run = frames.Decoder(.fragment).run },
    .{ .name = "syn", .run = frames.Decoder(.syn).run },
    .{ .name = "syn_reply", .run = frames.Decoder(.syn_reply).run },
    .{ .name = "confirm", .run = frames.Decoder(.confirm).run },
    .{ .name = "heartbeat", .run = frames.Decoder(.heartbeat).run },
    .{ .name = "ack", .run = frames.Decoder(.ack).run },
    .{ .name = "nak", .run = frames.Decoder(.nak).run },
    .{ .name = "rst", .run = frames.Decoder(.rst).run },
    .{ .name = "fill", .run = frames.Decoder(.fill).run },
    .{ .name = "seal", .run = frames.Seal.run },
    .{ .name = "replay", .run = frames.Replay.run },
    .{ .name = "sender", .run = sender.run },
    .{ .name = "receiver", .run = receiver.run },
    .{ .name = "recovery", .run = recovery.run },
    .{ .name = "tier_frame", .run = tier_frames.run },
    .{ .name = "tier", .run = member.run },
};

const canary: Target = .{ .name = "canary", .run = frames.Canary.run };

/// Executions of one seed: state builds up, and a replay takes a moment.
const life_executions = 1000;
const count_default = 100_000;
/// An execution takes microseconds: who stands still for so long is in a loop.
const hang_seconds = 60;

// -------------------------------------------------------------------- last words

const Running = struct {
    target: []const u8 = "",
    seed: u64 = 0,
    bench: ?*Bench = null,
    /// Executions before this seed's.
    before: u64 = 0,
};

var running: Running = .{};

/// What runs now and how to run it again, without anything that could fail itself.
fn last_words(why: []const u8) void {
    const r = running;
    const bench = r.bench orelse return;
    running.bench = null;
    var buffer: [512]u8 = undefined;
    const text = std.fmt.bufPrint(&buffer, "\n{s}, seed {d}, execution {d}: {s}\n" ++
        "replay: deno task fuzz -- {s} --seed {d}\n0 passed, 1 failed\n", .{
        r.target, r.seed, bench.executions.raw - r.before, why[0..@min(why.len, 200)],
        r.target, r.seed,
    }) catch return;
    _ = std.os.linux.write(2, text.ptr, text.len);
}

fn panicked(message: []const u8, return_address: ?usize) noreturn {
    @branchHint(.cold);
    last_words(message);
    std.debug.defaultPanic(message, return_address);
}

pub const panic = std.debug.FullPanic(panicked);

/// Found by the standard library's handler of SIGSEGV, SIGBUS, SIGILL and SIGFPE.
pub const debug = struct {
    pub fn handleSegfault(
        address: ?usize,
        name: []const u8,
        context: ?std.debug.CpuContextPtr,
    ) noreturn {
        last_words(name);
        std.debug.defaultHandleSegfault(address, name, context);
    }
};

// -------------------------------------------------------------------- command

const Arguments = struct {
    targets: []const Target,
    seed: u64 = 1,
    count: u64 = count_default,
};

pub fn main(init: std.process.Init) !void {
    const arena = init.arena.allocator();
    const args = try init.minimal.args.toSlice(arena);
    const a = try parse(arena, args[1..]);
    const failed = if (a.targets.len == 1)
        try run_here(init.io, &a.targets[0], a)
    else
        try run_children(init, a);
    if (failed > 0) std.process.exit(1);
}

fn parse(arena: std.mem.Allocator, args: []const [:0]const u8) !Arguments {
    var named: std.ArrayList(Target) = .empty;
    var seed: ?u64 = null;
    var count: ?u64 = null;
    var i: usize = 0;
    while (i < args.len) : (i += 1) {
        const word = args[i];
        if (std.mem.eql(u8, word, "--")) continue;
        if (!std.mem.startsWith(u8, word, "--")) {
            try named.append(arena, find(word) orelse usage(word));
            continue;
        }
        i += 1;
        if (i == args.len) usage(word);
        const value = std.fmt.parseInt(u64, args[i], 10) catch usage(args[i]);
        if (std.mem.eql(u8, word, "--seed")) {
            seed = value;
        } else if (std.mem.eql(u8, word, "--count")) {
            count = value;
        } else usage(word);
    }
    return .{
        .targets = if (named.items.len > 0) named.items else &targets,
        .seed = seed orelse 1,
        .count = count orelse if (seed != null) life_executions else count_default,
    };
}

fn find(name: []const u8) ?Target {
    for (targets) |target| if (std.mem.eql(u8, target.name, name)) return target;
    return if (std.mem.eql(u8, canary.name, name)) canary else null;
}

fn usage(word: []const u8) noreturn {
    var buffer: [1024]u8 = undefined;
    var names: std.Io.Writer = .fixed(&buffer);
    for (targets) |target| names.print(" {s}", .{target.name}) catch break;
    std.process.fatal("{s}\nusage: fuzz [TARGET...] [--seed N] [--count N]\ntargets:{s}", .{
        word, names.buffered(),
    });
}

// -------------------------------------------------------------------- one target, here

/// Executions a second.
fn run_target(io: std.Io, bench: *Bench, target: *const Target, seed: u64, count: u64) u64 {
    const from = std.Io.Clock.awake.now(io);
    var left = count;
    var at = seed;
    while (left > 0) : (at +%= 1) {
        const executions = @min(left, life_executions);
        running = .{
            .target = target.name,
            .seed = at,
            .bench = bench,
            .before = bench.executions.raw,
        };
        target.run(bench, at, executions);
        left -= executions;
    }
    running = .{};
    const gone_ns = from.durationTo(.now(io, .awake)).toNanoseconds();
    return @intCast(@divFloor(@as(i96, count) * std.time.ns_per_s, @max(1, gone_ns)));
}

fn run_here(io: std.Io, target: *const Target, a: Arguments) !u64 {
    var bench: Bench = try .init();
    const watchdog = try std.Thread.spawn(.{}, watch, .{ io, &bench });
    watchdog.detach();
    const rate = run_target(io, &bench, target, a.seed, a.count);
    var buffer: [256]u8 = undefined;
    var stdout = std.Io.File.stdout().writerStreaming(io, &buffer);
    try stdout.interface.print("{s}: {d} executions from seed {d}, {d} a second\n" ++
        "1 passed, 0 failed\n", .{ target.name, a.count, a.seed, rate });
    try stdout.interface.flush();
    return 0;
}

/// Ends the process when executions stand still.
fn watch(io: std.Io, bench: *Bench) void {
    var seen: u64 = 0;
    var still: u32 = 0;
    while (true) {
        io.sleep(.fromSeconds(1), .awake) catch return;
        const now = bench.executions.load(.monotonic);
        still = if (now == seen) still + 1 else 0;
        seen = now;
        if (still >= hang_seconds and running.bench != null) @panic("it hangs");
    }
}

// -------------------------------------------------------------------- several, in processes

const Children = struct {
    io: std.Io,
    program: []const u8,
    a: Arguments,
    next: std.atomic.Value(usize) = .init(0),
    failed: std.atomic.Value(u64) = .init(0),

    /// Targets one after another, and last the canary.
    fn work(self: *Children) void {
        while (true) {
            const at = self.next.fetchAdd(1, .monotonic);
            if (at > self.a.targets.len) return;
            const is_canary = at == self.a.targets.len;
            const target = if (is_canary) canary else self.a.targets[at];
            const ok = self.run_child(target, is_canary) catch |err| blk: {
                self.say("{s}: {t}\n", .{ target.name, err });
                break :blk false;
            };
            if (!ok) _ = self.failed.fetchAdd(1, .monotonic);
        }
    }

    fn run_child(self: *Children, target: Target, is_canary: bool) !bool {
        const gpa = std.heap.c_allocator;
        var buffers: [2][24]u8 = undefined;
        const count = if (is_canary) @min(self.a.count, count_default) else self.a.count;
        const result = try std.process.run(gpa, self.io, .{ .argv = &.{
            self.program,
            target.name,
            "--seed",
            try std.fmt.bufPrint(&buffers[0], "{d}", .{self.a.seed}),
            "--count",
            try std.fmt.bufPrint(&buffers[1], "{d}", .{count}),
        } });
        defer gpa.free(result.stdout);
        defer gpa.free(result.stderr);
        if (is_canary) {
            const ok = is_replayable(result);
            const text = if (ok) "its bug was caught" else "NOT CAUGHT: crashes are not seen";
            self.say("canary: {s}\n", .{text});
            return ok;
        }
        if (result.term.success()) {
            const end = std.mem.indexOfScalar(u8, result.stdout, '\n') orelse result.stdout.len;
            self.say("{s}\n", .{result.stdout[0..end]});
            return true;
        }
        self.say("{s}: {f}\n{s}", .{ target.name, result.term, result.stderr });
        return false;
    }

    /// It crashed, and said how to see that again.
    fn is_replayable(result: std.process.RunResult) bool {
        if (result.term.success()) return false;
        const command = "replay: deno task fuzz -- canary --seed ";
        return std.mem.indexOf(u8, result.stderr, command) != null;
    }

    /// Whole lines in one write: several threads talk.
    fn say(self: *Children, comptime format: []const u8, args: anytype) void {
        const gpa = std.heap.c_allocator;
        const text = std.fmt.allocPrint(gpa, format, args) catch return;
        defer gpa.free(text);
        std.Io.File.stdout().writeStreamingAll(self.io, text) catch return;
    }
};

fn run_children(init: std.process.Init, a: Arguments) !u64 {
    var buffer: [std.Io.Dir.max_path_bytes]u8 = undefined;
    const length = try std.process.executablePath(init.io, &buffer);
    var children: Children = .{ .io = init.io, .program = buffer[0..length], .a = a };
    const others = @min(std.Thread.getCpuCount() catch 1, a.targets.len + 1) - 1;
    const threads = try init.arena.allocator().alloc(std.Thread, others);
    for (threads) |*thread| thread.* = try std.Thread.spawn(.{}, Children.work, .{&children});
    children.work();
    for (threads) |thread| thread.join();
    const failed = children.failed.load(.monotonic);
    const all = a.targets.len + 1;
    children.say("{d} passed, {d} failed\n", .{ all - failed, failed });
    return failed;
}

test "every target lives a few lives" {
    var bench: Bench = try .init();
    defer bench.deinit();
    for (&targets) |*target| {
        for (0..3) |seed| target.run(&bench, seed, life_executions);
    }
}
