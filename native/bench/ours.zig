//! The library driven from Zig, through the functions that JavaScript calls: the same rows as in
//! `bench/worker.ts`, so that the difference is what the boundary costs.

const std = @import("std");
const machine = @import("machine.zig");
const Histogram = @import("histogram.zig").Histogram;

extern fn rcm_context_start(json: ?[*]const u8, length: u32, waker: i32) i32;
extern fn rcm_last_error(buffer: ?[*]u8, capacity: u32) i32;
extern fn rcm_region(handle: u32, which: u32, out: *[2]f64) i32;
extern fn rcm_drain(handle: u32, processed: u32, max: u32) i32;
extern fn rcm_work(handle: u32) i32;
extern fn rcm_send_data(handle: u32, data: [*]const u8, length: u32, part: u32, arg: u32) i32;
extern fn rcm_allocator(handle: u32, tx: u32, thread_no: u32) i32;
extern fn rcm_malloc(handle: u32, size: u32) f64;
extern fn rcm_send(handle: u32, length: u32, part: u32, arg: u32) i32;
extern fn rcm_tx_connected(handle: u32) i32;

comptime {
    _ = @import("rcm");
}

/// What a program is told to do; the names are those of `bench/job.ts`.
pub const Job = struct {
    role: Role,
    /// File with the text for `rcm_context_start`.
    start: []const u8,
    /// The other end's, where one process has both.
    far: []const u8 = "",
    core: u32,
    bytes: u32 = 140,
    warm: u64 = 0,
    count: u64 = 0,
    /// Receivers that a sender waits for.
    receivers: u32 = 1,
    /// Time between two messages of a paced sender; 0: as fast as it goes.
    everyNs: u64 = 0,
    /// It shares its core: gives it away when nothing has come.
    shares: bool = false,
    /// A large message is copied in by the sender and read by the receiver within the time.
    readsAll: bool = false,
};

pub const Role = enum { ping, pong, flood, sink, paced, paced_sink, large, large_sink, start, solo };

const Status = enum(i32) { ok = 0, would_block = 1, _ };
/// As `native/src/order/record.zig` has it.
const Descriptor = extern struct {
    offset8: u32,
    length: u32,
    stream: u32,
    args: u32,
    sqn: f64,
    header8: u32,
    region: u32,
};
const region_arena = 2;
const region_shared = 16;
const regions_max = 8;
const batch = 256;
/// Messages between two looks at the network of a sender that never waits: 64 bytes each, they fill
/// the 44 datagrams that leave in one call.
const run_messages = 880;
/// Messages that are sent and taken one by one where both ends are in one thread.
const pairs = 100;

const Bus = struct {
    handle: u32,
    descriptors: [*]const Descriptor,
    /// The receive log, then the windows that are read in place.
    regions: [regions_max]?[*]const u8,
    processed: u32 = 0,
    next_sqn: f64 = 0,
    shares: bool,

    fn start(text: []const u8, shares: bool) Bus {
        const result = rcm_context_start(text.ptr, @intCast(text.len), -1);
        if (result < 0) {
            var buffer: [1024]u8 = undefined;
            const length = rcm_last_error(&buffer, buffer.len);
            machine.fail("start: {s}", .{buffer[0..@intCast(@max(0, length))]});
        }
        const handle: u32 = @intCast(result);
        var regions: [regions_max]?[*]const u8 = @splat(null);
        regions[0] = region(handle, 1);
        return .{
            .handle = handle,
            .descriptors = @ptrCast(@alignCast(region(handle, 0))),
            .regions = regions,
            .shares = shares,
        };
    }

    fn region(handle: u32, which: u32) [*]u8 {
        var place: [2]f64 = undefined;
        if (rcm_region(handle, which, &place) < 0) machine.fail("no region {d}", .{which});
        if (place[1] == 0) return @ptrFromInt(machine.page_bytes); // It has none, and needs none.
        return @ptrFromInt(@as(usize, @intFromFloat(place[0])));
    }

    /// The next messages, at most `max`; those before count as processed.
    inline fn poll(self: *Bus, max: u32) []const Descriptor {
        const n = rcm_drain(self.handle, self.processed, max);
        self.processed = 0;
        if (n <= 0) {
            if (self.shares) machine.yield();
            return &.{};
        }
        self.processed = @intCast(n);
        const found = self.descriptors[0..self.processed];
        if (found[0].sqn != self.next_sqn) machine.fail("message {d} instead of {d}", .{
            found[0].sqn, self.next_sqn,
        });
        self.next_sqn += @floatFromInt(n);
        return found;
    }

    inline fn payload(self: *Bus, d: *const Descriptor) []const u8 {
        const found = self.regions[d.region] orelse blk: {
            const mapped = region(self.handle, region_shared + d.region);
            self.regions[d.region] = mapped;
            break :blk mapped;
        };
        return found[@as(u64, d.offset8) * 8 ..][0..d.length];
    }

    inline fn send(self: *Bus, message: []const u8) void {
        while (true) {
            const bytes: u32 = @intCast(message.len);
            const status = rcm_send_data(self.handle << 8, message.ptr, bytes, 1, 0);
            switch (@as(Status, @fromBackingInt(status))) {
                .ok => return,
                .would_block => _ = rcm_work(self.handle),
                else => machine.fail("send: status {d}", .{status}),
            }
        }
    }

    fn connect(self: *Bus, receivers: u32) void {
        while (rcm_tx_connected(self.handle << 8) < receivers) _ = rcm_work(self.handle);
    }
};

pub fn run(job: *const Job, text: []const u8, far_text: []const u8, out: *std.Io.Writer) !void {
    machine.pin(job.core);
    const began_ns = machine.now_ns();
    var bus: Bus = .start(text, job.shares);
    const started_ns = machine.now_ns() - began_ns;
    switch (job.role) {
        .ping => try ping(job, &bus, out),
        .pong => pong(job, &bus),
        .flood => flood(job, &bus),
        .sink => try sink(job, &bus, out),
        .paced => paced(job, &bus),
        .paced_sink => try paced_sink(job, &bus, out),
        .large => large(job, &bus),
        .large_sink => try large_sink(job, &bus, out),
        .solo => try solo(job, &bus, far_text, out),
        .start => try out.print("{{\"kind\":\"time\",\"ns\":{d}}}\n", .{started_ns}),
    }
    try out.flush();
}

fn ping(job: *const Job, bus: *Bus, out: *std.Io.Writer) !void {
    var message: [65536]u8 = @splat(2);
    bus.connect(1);
    const histogram = try std.heap.page_allocator.create(Histogram);
    histogram.* = .{};
    var from = machine.now_ns();
    for (0..job.warm + job.count) |i| {
        if (job.everyNs > 0) {
            const due = from + job.everyNs;
            while (machine.now_ns() < due) _ = rcm_work(bus.handle);
            from = machine.now_ns();
        }
        bus.send(message[0..job.bytes]);
        const sum = while (true) {
            const found = bus.poll(batch);
            if (found.len > 0) break machine.sum_of(bus.payload(&found[0]));
        };
        message[0] = @truncate(sum);
        const now = machine.now_ns();
        if (i >= job.warm) histogram.add(now - from);
        from = now;
    }
    try out.writeAll("{\"kind\":\"latency\",");
    try histogram.write(out);
    try out.writeAll("}\n");
}

fn pong(job: *const Job, bus: *Bus) void {
    var message: [65536]u8 = @splat(1);
    while (true) {
        for (bus.poll(batch)) |*d| {
            message[0] = @truncate(machine.sum_of(bus.payload(d)));
            bus.send(message[0..job.bytes]);
        }
    }
}

/// Both ends in one thread, so that nobody waits: what a message costs in each step. Robust against
/// others on the core, because a step takes microseconds and most are not disturbed.
fn solo(job: *const Job, near: *Bus, far_text: []const u8, out: *std.Io.Writer) !void {
    const message: [65536]u8 = @splat(3);
    var far: Bus = .start(far_text, false);
    while (rcm_tx_connected(near.handle << 8) < 1) {
        _ = rcm_work(near.handle);
        _ = far.poll(0);
    }
    const steps = try std.heap.page_allocator.create([5]Histogram);
    steps.* = @splat(.{});
    for (0..job.count) |_| {
        var at: [6]u64 = undefined;
        at[0] = machine.now_ns();
        for (0..run_messages) |_| near.send(message[0..job.bytes]);
        at[1] = machine.now_ns();
        _ = rcm_work(near.handle);
        at[2] = machine.now_ns();
        machine.keep(take(&far, run_messages));
        at[3] = machine.now_ns();
        for (0..run_messages / 16) |_| _ = far.poll(batch);
        at[4] = machine.now_ns();
        for (0..pairs) |_| {
            near.send(message[0..job.bytes]);
            _ = rcm_work(near.handle); // Where the window is asynchronous nothing else sends.
            machine.keep(take(&far, 1));
        }
        at[5] = machine.now_ns();
        for (steps, at[0..5], at[1..6]) |*step, from, to| step.add(to - from);
        while (rcm_work(near.handle) > 0) _ = far.poll(0);
    }
    const names = [_][]const u8{ "send", "pack", "take", "idle", "one" };
    const counts = [_]f64{ run_messages, run_messages, run_messages, run_messages / 16, pairs };
    for (steps, names, counts) |*step, name, count| {
        const ns: f64 = @floatFromInt(step.at(0.2));
        try out.print("{s} {d:.1} ns ", .{ name, ns / count });
    }
    try out.writeAll("a message, an idle look, one sent and taken\n");
}

fn flood(job: *const Job, bus: *Bus) void {
    const message: [65536]u8 = @splat(3);
    bus.connect(job.receivers);
    while (true) {
        for (0..run_messages) |_| bus.send(message[0..job.bytes]);
        _ = rcm_work(bus.handle);
    }
}

fn sink(job: *const Job, bus: *Bus, out: *std.Io.Writer) !void {
    _ = take(bus, job.warm);
    const from = machine.now_ns();
    const taken = take(bus, job.count);
    const took = machine.now_ns() - from;
    try out.print("{{\"kind\":\"rate\",\"messages\":{d},\"ns\":{d}}}\n", .{ taken, took });
}

fn take(bus: *Bus, count: u64) u64 {
    var sum: u64 = 0;
    var n: u64 = 0;
    while (n < count) {
        const found = bus.poll(batch);
        for (found) |*d| sum +%= machine.sum_of(bus.payload(d));
        n += found.len;
    }
    machine.keep(sum);
    return n;
}

/// Open loop: a message is stamped with the time at which it was due, so that a sender that was held
/// up makes the messages late instead of leaving them out.
fn paced(job: *const Job, bus: *Bus) void {
    var message: [65536]u8 = @splat(4);
    bus.connect(job.receivers);
    var due = machine.now_ns();
    while (true) {
        due += job.everyNs;
        while (machine.now_ns() < due) _ = rcm_work(bus.handle);
        std.mem.writeInt(u64, message[0..8], @bitCast(@as(f64, @floatFromInt(due))), .little);
        bus.send(message[0..job.bytes]);
    }
}

/// Latencies from when a message was due; and those of messages behind a gap: the one that showed
/// the gap was due before its predecessor, which had to be repaired, was delivered.
const Paced = struct {
    all: Histogram = .{},
    behind: Histogram = .{},
    gaps: u64 = 0,
    late_ns: u64 = 0,
    late_before_ns: u64 = 0,

    fn add(self: *Paced, late_ns: u64, every_ns: u64) void {
        self.all.add(late_ns);
        if (self.late_ns > every_ns and self.late_before_ns <= every_ns) {
            self.gaps += 1;
            self.behind.add(late_ns);
        }
        self.late_before_ns = self.late_ns;
        self.late_ns = late_ns;
    }
};

fn paced_sink(job: *const Job, bus: *Bus, out: *std.Io.Writer) !void {
    _ = take(bus, job.warm);
    const seen = try std.heap.page_allocator.create(Paced);
    seen.* = .{};
    var n: u64 = 0;
    const from = machine.now_ns();
    while (n < job.count) {
        const found = bus.poll(batch);
        if (found.len == 0) continue;
        const now = machine.now_ns();
        for (found) |*d| seen.add(now -| stamp(bus.payload(d)), job.everyNs);
        n += found.len;
    }
    const took = machine.now_ns() - from;
    try out.print("{{\"kind\":\"paced\",\"messages\":{d},\"ns\":{d},\"gaps\":{d},\"all\":{{", .{
        n, took, seen.gaps,
    });
    try seen.all.write(out);
    try out.writeAll("},\"behind\":{");
    try seen.behind.write(out);
    try out.writeAll("}}\n");
}

fn stamp(payload: []const u8) u64 {
    const value: f64 = @bitCast(std.mem.readInt(u64, payload[0..8], .little));
    return @intFromFloat(value);
}

/// Large messages, one at a time: the next one goes when room is there again.
fn large(job: *const Job, bus: *Bus) void {
    const allocator = rcm_allocator(bus.handle, 0, 0);
    if (allocator < 0) machine.fail("no allocator", .{});
    const arena = Bus.region(bus.handle, region_arena);
    const source = std.heap.page_allocator.alloc(u8, job.bytes) catch machine.fail("memory", .{});
    @memset(source, 5);
    bus.connect(job.receivers);
    while (true) {
        var due = machine.now_ns();
        const offset = rcm_malloc(@intCast(allocator), job.bytes);
        if (offset < 0) {
            _ = rcm_work(bus.handle);
            continue;
        }
        const message = arena[@intFromFloat(offset)..][0..job.bytes];
        if (job.readsAll) due = machine.now_ns();
        @memcpy(message[8..], source[8..]);
        if (!job.readsAll) due = machine.now_ns();
        std.mem.writeInt(u64, message[0..8], @bitCast(@as(f64, @floatFromInt(due))), .little);
        while (rcm_send(@intCast(allocator), job.bytes, 1, 0) != 0) _ = rcm_work(bus.handle);
        // One at a time: what is measured is a message, not a queue of them.
        const quiet = machine.now_ns() + job.everyNs;
        while (machine.now_ns() < quiet) _ = rcm_work(bus.handle);
    }
}

/// Nanoseconds of each message from its stamp to the hand-over, or to its last byte's reading.
fn large_sink(job: *const Job, bus: *Bus, out: *std.Io.Writer) !void {
    try out.writeAll("{\"kind\":\"times\",\"ns\":[");
    var n: u64 = 0;
    while (n < job.count) {
        for (bus.poll(1)) |*d| {
            const payload = bus.payload(d);
            if (job.readsAll) machine.keep(machine.sum_of(payload));
            const took = machine.now_ns() - stamp(payload);
            try out.print("{s}{d}", .{ if (n == 0) "" else ",", took });
            n += 1;
        }
    }
    try out.writeAll("]}\n");
}
