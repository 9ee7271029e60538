//! Frames through shared memory: a ring that one side writes and any number of others read.
//!
//! It behaves as a network does. The writer never waits: who reads too slowly, or is stopped in the
//! middle of a cell, misses frames, and the protocol's timers make up for it. Nobody writes what he
//! reads, so a reader that dies leaves nothing behind.

const std = @import("std");
const assert = @import("../assert.zig").assert;
const layout = @import("node.zig");

pub const FrameRing = layout.FrameRing;
pub const frame_bytes_max = layout.cell_data_bytes;

/// A reader that begins sees this many frames of before: what was said last counts still.
const look_back = 4;
const number_max = (1 << 53) - 1;

/// Number of the next frame of a ring, from what lies in it.
pub fn next_of(ring: *const FrameRing) u64 {
    var next: u64 = 0;
    for (&ring.cells) |*cell| {
        const tag = @atomicLoad(u64, &cell.tag, .acquire);
        // No ring gets there: a cell that was damaged, and is written anew when its turn comes.
        if (tag <= number_max) next = @max(next, tag);
    }
    return next;
}

pub const Writer = struct {
    ring: *FrameRing,
    next: u64,

    /// Goes on behind what an earlier writer left.
    pub fn init(ring: *FrameRing) Writer {
        return .{ .ring = ring, .next = next_of(ring) };
    }

    pub fn write(self: *Writer, bytes: []const u8) void {
        assert(bytes.len <= frame_bytes_max);
        const cell = &self.ring.cells[self.next % layout.cells];
        @atomicStore(u64, &cell.tag, 0, .release);
        // No store below may be seen before the tag is gone.
        _ = @atomicRmw(u64, &cell.tag, .Add, 0, .seq_cst);
        cell.bytes = @intCast(bytes.len);
        @memcpy(cell.data[0..bytes.len], bytes);
        self.next += 1;
        @atomicStore(u64, &cell.tag, self.next, .release);
    }
};

pub const Reader = struct {
    ring: *const FrameRing,
    next: u64,
    /// Frames that were overwritten before they were read.
    missed: u64 = 0,

    pub fn init(ring: *const FrameRing) Reader {
        return .{ .ring = ring, .next = next_of(ring) -| look_back };
    }

    /// Copies the next frame into `buffer` and gives it, or null when there is none.
    pub fn read(self: *Reader, buffer: []align(8) u8) ?[]align(8) u8 {
        assert(buffer.len >= frame_bytes_max);
        while (true) {
            const cell = &self.ring.cells[self.next % layout.cells];
            const tag = @atomicLoad(u64, &cell.tag, .acquire);
            if (tag <= self.next) return null;
            if (tag == self.next + 1) {
                // Read once: what the writer does meanwhile must not pass the check below.
                const bytes = @min(@atomicLoad(u32, &cell.bytes, .monotonic), frame_bytes_max);
                @memcpy(buffer[0..bytes], cell.data[0..bytes]);
                asm volatile ("" ::: .{ .memory = true });
                if (@atomicLoad(u64, &cell.tag, .acquire) == tag) {
                    self.next += 1;
                    return buffer[0..bytes];
                }
            }
            const next = next_of(self.ring) -| layout.cells / 2;
            if (next <= self.next) return null; // Being written: with the next look.
            self.missed += next - self.next;
            self.next = next;
        }
    }

    pub fn has_frame(self: *const Reader) bool {
        const cell = &self.ring.cells[self.next % layout.cells];
        return @atomicLoad(u64, &cell.tag, .acquire) > self.next;
    }
};

const testing = std.testing;

test "a damaged cell stops nobody" {
    var ring: FrameRing = std.mem.zeroes(FrameRing);
    var writer: Writer = .init(&ring);
    for (0..40) |i| writer.write(&.{@intCast(i)});
    var buffer: [frame_bytes_max]u8 align(8) = undefined;
    for ([_]u64{ 0, 1, 39, 41, 1 << 40, 1 << 53, std.math.maxInt(u64) }) |tag| {
        for (0..layout.cells) |place| {
            var damaged = ring;
            damaged.cells[place].tag = tag;
            damaged.cells[place].bytes = std.math.maxInt(u32);
            var reader: Reader = .init(&damaged);
            for (0..layout.cells) |_| _ = reader.read(&buffer);
            var next: Writer = .init(&damaged);
            var seen = false;
            for (0..3 * layout.cells) |i| {
                next.write(&.{ @intCast(i), 7 });
                while (reader.read(&buffer)) |frame| {
                    if (i == 3 * layout.cells - 1 and frame[0] == i) seen = true;
                }
            }
            try testing.expect(seen);
        }
    }
}

test "frames come out in order, and a slow reader misses the oldest" {
    var ring: FrameRing = std.mem.zeroes(FrameRing);
    var writer: Writer = .init(&ring);
    var reader: Reader = .init(&ring);
    var buffer: [frame_bytes_max]u8 align(8) = undefined;
    try testing.expectEqual(null, reader.read(&buffer));
    for (0..100) |i| {
        const byte = [1]u8{@intCast(i)};
        writer.write(&byte);
        try testing.expect(reader.has_frame());
        try testing.expectEqualSlices(u8, &byte, reader.read(&buffer).?);
    }
    for (0..100) |i| writer.write(&.{ @intCast(i), 1 });
    const first = reader.read(&buffer).?[0];
    try testing.expectEqual(100 - layout.cells / 2, first);
    try testing.expectEqual(100 - layout.cells / 2, reader.missed);
    for (first + 1..100) |i| {
        try testing.expectEqual(@as(u8, @intCast(i)), reader.read(&buffer).?[0]);
    }
    try testing.expectEqual(null, reader.read(&buffer));
    // Another writer and another reader go on where the first were.
    var second: Writer = .init(&ring);
    try testing.expectEqual(200, second.next);
    var late: Reader = .init(&ring);
    try testing.expectEqual(96, late.read(&buffer).?[0]);
    second.write("x");
    for (0..3) |_| _ = late.read(&buffer).?;
    try testing.expectEqualStrings("x", late.read(&buffer).?);
}

test "a cell that is being written is not read" {
    var ring: FrameRing = std.mem.zeroes(FrameRing);
    const Talker = struct {
        fn run(r: *FrameRing, stop: *std.atomic.Value(bool)) void {
            var writer: Writer = .init(r);
            var no: u8 = 0;
            while (!stop.load(.monotonic)) : (no +%= 1) {
                const bytes: [200]u8 = @splat(no);
                writer.write(bytes[0 .. 1 + @as(usize, no) % 200]);
            }
        }
    };
    var stop: std.atomic.Value(bool) = .init(false);
    const thread = try std.Thread.spawn(.{}, Talker.run, .{ &ring, &stop });
    defer thread.join();
    defer stop.store(true, .monotonic);
    var reader: Reader = .init(&ring);
    var buffer: [frame_bytes_max]u8 align(8) = undefined;
    var read: u32 = 0;
    while (read < 20_000) {
        const bytes = reader.read(&buffer) orelse {
            std.Thread.yield() catch {};
            continue;
        };
        try testing.expectEqual(1 + @as(usize, bytes[0]) % 200, bytes.len);
        for (bytes) |byte| try testing.expectEqual(bytes[0], byte);
        read += 1;
    }
}
