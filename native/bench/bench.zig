//! The yardsticks, and the library driven from Zig: one program, one piece of work a run, told by
//! one JSON argument, answered by one line of JSON. `deno task bench` starts it; alone:
//!
//!     native/out/bench '{"work":"mood","cores":[0,1]}'

const std = @import("std");
const machine = @import("machine.zig");
const ring = @import("ring.zig");
const raw_udp = @import("raw_udp.zig");
const copy = @import("copy.zig");
const mapped_file = @import("mapped_file.zig");
const ours = @import("ours.zig");
const Histogram = @import("histogram.zig").Histogram;

/// What is to be done. `ours` has a `Job` of its own.
const Task = struct {
    work: Work,
    cores: [2]u32 = .{ 0, 1 },
    warm: u64 = 130_000,
    count: u64 = 1_000_000,
    bytes: u32 = 140,
    receivers: u32 = 1,
    everyNs: u64 = 0,
    /// Where files on disk go.
    folder: []const u8 = "",
    job: ?ours.Job = null,
};

const Work = enum {
    mood,
    ring_ping_pong,
    ring_rate,
    multicast_ping_pong,
    unicast_ping_pong,
    flood,
    copy,
    mapped_file,
    ours,
};

pub fn main(init: std.process.Init) !void {
    const arena = init.arena.allocator();
    const args = try init.minimal.args.toSlice(arena);
    if (args.len != 2) machine.fail("usage: bench JSON", .{});
    const task = std.json.parseFromSliceLeaky(Task, arena, args[1], .{}) catch |e|
        machine.fail("{s}: {t}", .{ args[1], e });
    var buffer: [65536]u8 = undefined;
    var stdout = std.Io.File.stdout().writerStreaming(init.io, &buffer);
    const out = &stdout.interface;
    if (task.work == .ours) {
        const job = task.job orelse machine.fail("no job", .{});
        const text = try std.Io.Dir.cwd().readFileAlloc(init.io, job.start, arena, .unlimited);
        const far = if (job.far.len == 0)
            ""
        else
            try std.Io.Dir.cwd().readFileAlloc(init.io, job.far, arena, .unlimited);
        return ours.run(&job, text, far, out);
    }
    try measure(&task, out, try arena.create(Histogram));
    try out.flush();
}

fn measure(task: *const Task, out: *std.Io.Writer, histogram: *Histogram) !void {
    histogram.* = .{};
    switch (task.work) {
        .mood => return out.print("{{\"kind\":\"time\",\"ns\":{d}}}\n", .{ring.mood_ns(task.cores)}),
        .ring_rate => return rate(out, task.count, ring.rate_ns(
            task.cores,
            task.warm,
            task.count,
        )),
        .flood => return rate(out, task.count, raw_udp.flood_ns(.{
            .cores = task.cores,
            .receivers = task.receivers,
            .warm_bytes = task.warm,
            .bytes = task.count,
        })),
        .copy => {
            const c = copy.copy_ns(task.cores[0], task.bytes, 3);
            return out.print("{{\"kind\":\"copy\",\"bytes\":{d},\"coldNs\":{d},\"warmNs\":{d}," ++
                "\"readNs\":{d}}}\n", .{ task.bytes, c.cold_ns, c.warm_ns, c.read_ns });
        },
        .mapped_file => return rate(out, task.count, mapped_file.write_ns(.{
            .core = task.cores[1],
            .folder = task.folder,
            .count = task.count,
            .bytes = task.bytes,
        })),
        .ring_ping_pong => ring.ping_pong(task.cores, task.warm, task.count, histogram),
        .multicast_ping_pong, .unicast_ping_pong => raw_udp.ping_pong(.{
            .kind = if (task.work == .multicast_ping_pong) .multicast else .unicast,
            .cores = task.cores,
            .warm = task.warm,
            .count = task.count,
            .bytes = task.bytes,
            .every_ns = task.everyNs,
        }, histogram),
        .ours => unreachable,
    }
    try out.writeAll("{\"kind\":\"latency\",");
    try histogram.write(out);
    try out.writeAll("}\n");
}

fn rate(out: *std.Io.Writer, count: u64, took_ns: u64) !void {
    try out.print("{{\"kind\":\"rate\",\"messages\":{d},\"ns\":{d}}}\n", .{ count, took_ns });
}
