//! Yardsticks of shared memory: a cache line that goes to and fro, and a ring of slots between two
//! processes, which publishes its index with every message, as ours does.

const std = @import("std");
const machine = @import("machine.zig");
const Histogram = @import("histogram.zig").Histogram;

const Word = std.atomic.Value(u64);

/// Round trips of one cache line, the median in nanoseconds: the mood of the machine.
pub fn mood_ns(cores: [2]u32) u64 {
    const Line = struct { word: Word align(64), pad: [56]u8 };
    const memory = machine.map_shared(machine.page_bytes);
    defer machine.unmap(memory);
    const lines: *[2]Line = @ptrCast(memory.ptr);
    const child = machine.fork(cores[1], lines, struct {
        fn run(l: *[2]Line) void {
            var seen: u64 = 0;
            while (true) {
                while (l[0].word.load(.acquire) == seen) std.atomic.spinLoopHint();
                seen += 1;
                l[1].word.store(seen, .release);
            }
        }
    }.run);
    defer machine.end(child);
    machine.pin(cores[0]);
    var histogram: Histogram = .{};
    const per_sample = 100;
    var n: u64 = 0;
    for (0..2200) |sample| {
        const from = machine.now_ns();
        for (0..per_sample) |_| {
            n += 1;
            lines[0].word.store(n, .release);
            while (lines[1].word.load(.acquire) != n) std.atomic.spinLoopHint();
        }
        if (sample >= 200) histogram.add((machine.now_ns() - from) / per_sample);
    }
    return histogram.at(0.5);
}

pub const slots = 4096;

/// Single producer, single consumer; the message's bytes lie in the slot.
pub fn Ring(comptime message_bytes: u32) type {
    const stride = std.mem.alignForward(u32, message_bytes, 64);
    return struct {
        const Self = @This();

        head: Word align(64),
        tail: Word align(64),
        memory: [slots * stride]u8 align(64),

        pub const Producer = struct {
            ring: *Self,
            head: u64 = 0,
            tail_seen: u64 = 0,

            pub inline fn push(self: *Producer, message: *const [message_bytes]u8) void {
                while (self.head - self.tail_seen == slots) {
                    self.tail_seen = self.ring.tail.load(.acquire);
                    std.atomic.spinLoopHint();
                }
                const at = (self.head % slots) * stride;
                @memcpy(self.ring.memory[at..][0..message_bytes], message);
                self.head += 1;
                self.ring.head.store(self.head, .release);
            }
        };

        pub const Consumer = struct {
            ring: *Self,
            tail: u64 = 0,
            head_seen: u64 = 0,

            /// The sum of the next message's bytes, or null when there is none.
            pub inline fn pop(self: *Consumer) ?u64 {
                if (self.tail == self.head_seen) {
                    self.head_seen = self.ring.head.load(.acquire);
                    if (self.tail == self.head_seen) return null;
                }
                const at = (self.tail % slots) * stride;
                const sum = machine.sum_of(self.ring.memory[at..][0..message_bytes]);
                self.tail += 1;
                // As ours: told once for a batch.
                if (self.tail == self.head_seen or self.tail % 256 == 0) {
                    self.ring.tail.store(self.tail, .release);
                }
                return sum;
            }
        };
    };
}

const bytes = 140;
const Ring140 = Ring(bytes);

/// Round trips of one message.
pub fn ping_pong(cores: [2]u32, warm: u64, count: u64, out: *Histogram) void {
    const memory = machine.map_shared(2 * @sizeOf(Ring140));
    defer machine.unmap(memory);
    const rings: *[2]Ring140 = @ptrCast(memory.ptr);
    const child = machine.fork(cores[1], rings, struct {
        fn run(r: *[2]Ring140) void {
            var in: Ring140.Consumer = .{ .ring = &r[0] };
            var back: Ring140.Producer = .{ .ring = &r[1] };
            var message: [bytes]u8 = @splat(1);
            while (true) {
                const sum = in.pop() orelse {
                    std.atomic.spinLoopHint();
                    continue;
                };
                message[0] = @truncate(sum);
                back.push(&message);
            }
        }
    }.run);
    defer machine.end(child);
    machine.pin(cores[0]);
    var to: Ring140.Producer = .{ .ring = &rings[0] };
    var in: Ring140.Consumer = .{ .ring = &rings[1] };
    var message: [bytes]u8 = @splat(2);
    var from = machine.now_ns();
    for (0..warm + count) |i| {
        to.push(&message);
        const sum = while (true) {
            if (in.pop()) |sum| break sum;
            std.atomic.spinLoopHint();
        };
        message[0] = @truncate(sum);
        const now = machine.now_ns();
        if (i >= warm) out.add(now - from);
        from = now;
    }
}

/// One way as fast as it goes: nanoseconds that `count` messages took at the consumer.
pub fn rate_ns(cores: [2]u32, warm: u64, count: u64) u64 {
    const memory = machine.map_shared(@sizeOf(Ring140));
    defer machine.unmap(memory);
    const ring: *Ring140 = @ptrCast(memory.ptr);
    const child = machine.fork(cores[1], ring, struct {
        fn run(r: *Ring140) void {
            var to: Ring140.Producer = .{ .ring = r };
            const message: [bytes]u8 = @splat(3);
            while (true) to.push(&message);
        }
    }.run);
    defer machine.end(child);
    machine.pin(cores[0]);
    var in: Ring140.Consumer = .{ .ring = ring };
    take(&in, warm);
    const from = machine.now_ns();
    take(&in, count);
    return machine.now_ns() - from;
}

fn take(in: *Ring140.Consumer, count: u64) void {
    var sum: u64 = 0;
    var n: u64 = 0;
    while (n < count) {
        sum +%= in.pop() orelse {
            std.atomic.spinLoopHint();
            continue;
        };
        n += 1;
    }
    machine.keep(sum);
}
