//! Pieces of bytes from one thread to another, in order, without a lock: one writer, one reader.
//! A piece lies in one run of memory, so that it is written and read where it lies.

const std = @import("std");
const assert = @import("../assert.zig").assert;

const Head = extern struct {
    length: u32,
    /// 1: nothing follows up to the end of the memory.
    is_pad: u32 = 0,
    number: u64 = 0,
    extra: u64 = 0,
};

const head_bytes = @sizeOf(Head);

pub const Piece = struct { number: u64, extra: u64, bytes: []const u8 };

pub const ByteRing = struct {
    memory: []align(8) u8,
    /// Bytes ever written and read; whole pieces.
    written: std.atomic.Value(u64) align(64) = .init(0),
    read: std.atomic.Value(u64) align(64) = .init(0),

    pub fn init(gpa: std.mem.Allocator, bytes: u32) error{OutOfMemory}!ByteRing {
        assert(std.math.isPowerOfTwo(bytes));
        return .{ .memory = try gpa.alignedAlloc(u8, .@"8", bytes) };
    }

    pub fn deinit(self: *ByteRing, gpa: std.mem.Allocator) void {
        gpa.free(self.memory);
        self.* = undefined;
    }

    /// Longest piece that is sure to find room once all before it was read.
    pub fn piece_bytes_max(self: *const ByteRing) u32 {
        return @intCast(self.memory.len / 4);
    }

    fn span_of(length: usize) u64 {
        return std.mem.alignForward(u64, head_bytes + length, 8);
    }

    fn head_at(self: *const ByteRing, at: u64) *Head {
        return @ptrCast(@alignCast(self.memory.ptr + at));
    }

    /// Writer. Room for a piece, to be filled and then `put`; null: not now.
    pub fn reserve(self: *ByteRing, length: u32) ?[]u8 {
        const size = self.memory.len;
        const span = span_of(length);
        const at = self.written.raw & (size - 1);
        const rest = size - at;
        const pad = if (span > rest) rest else 0;
        if (self.written.raw - self.read.load(.acquire) + pad + span > size) return null;
        if (pad >= head_bytes) self.head_at(at).* = .{ .length = 0, .is_pad = 1 };
        const start = if (pad > 0) 0 else at;
        return self.memory[start + head_bytes ..][0..length];
    }

    /// Writer. The piece that was reserved last is there.
    pub fn put(self: *ByteRing, bytes: []const u8, number: u64, extra: u64) void {
        const start = @intFromPtr(bytes.ptr) - @intFromPtr(self.memory.ptr) - head_bytes;
        self.head_at(start).* = .{
            .length = @intCast(bytes.len),
            .number = number,
            .extra = extra,
        };
        const size = self.memory.len;
        const at = self.written.raw & (size - 1);
        const pad = if (start == at) 0 else size - at;
        self.written.store(self.written.raw + pad + span_of(bytes.len), .release);
    }

    /// Reader. The next piece; it stays where it is until `pop`.
    pub fn peek(self: *ByteRing) ?Piece {
        const size = self.memory.len;
        const end = self.written.load(.acquire);
        while (self.read.raw != end) {
            const at = self.read.raw & (size - 1);
            const rest = size - at;
            if (rest < head_bytes or self.head_at(at).is_pad == 1) {
                self.read.store(self.read.raw + rest, .release);
                continue;
            }
            const head = self.head_at(at);
            return .{
                .number = head.number,
                .extra = head.extra,
                .bytes = self.memory[at + head_bytes ..][0..head.length],
            };
        }
        return null;
    }

    /// Reader. It is done with the piece that `peek` gave.
    pub fn pop(self: *ByteRing, piece: Piece) void {
        self.read.store(self.read.raw + span_of(piece.bytes.len), .release);
    }

    /// Any thread.
    pub fn is_empty(self: *const ByteRing) bool {
        return self.read.load(.acquire) == self.written.load(.acquire);
    }
};

test "pieces of all lengths go round and round" {
    const gpa = std.testing.allocator;
    var ring: ByteRing = try .init(gpa, 1 << 10);
    defer ring.deinit(gpa);
    var random: std.Random.DefaultPrng = .init(7);
    var put: u64 = 0;
    var got: u64 = 0;
    while (got < 5000) {
        const length = (put * 37) % (ring.piece_bytes_max() + 1);
        if (random.random().boolean()) if (ring.reserve(@intCast(length))) |room| {
            @memset(room, @truncate(put));
            ring.put(room, put, put * 3);
            put += 1;
        };
        if (random.random().boolean()) continue;
        const piece = ring.peek() orelse continue;
        try std.testing.expectEqual(got, piece.number);
        try std.testing.expectEqual(got * 3, piece.extra);
        try std.testing.expectEqual((got * 37) % (ring.piece_bytes_max() + 1), piece.bytes.len);
        try std.testing.expect(std.mem.allEqual(u8, piece.bytes, @truncate(got)));
        ring.pop(piece);
        got += 1;
    }
}

test "what finds no room finds it when the reader went on" {
    const gpa = std.testing.allocator;
    var ring: ByteRing = try .init(gpa, 1 << 10);
    defer ring.deinit(gpa);
    var n: u64 = 0;
    while (ring.reserve(200)) |room| : (n += 1) ring.put(room, n, 0);
    try std.testing.expectEqual(4, n);
    ring.pop(ring.peek().?);
    const room = ring.reserve(200) orelse return error.TestExpectedRoom;
    ring.put(room, n, 0);
    try std.testing.expect(!ring.is_empty());
}
