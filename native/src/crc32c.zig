//! CRC32C (Castagnoli) as frames and files carry it, by the processor's instruction.
//!
//! The instruction takes 8 bytes and answers three cycles later, but a new one can begin in each
//! cycle: a long range is cut into three lanes that run beside each other, and the lanes' results
//! are put together at the end. A lane is moved past the bytes that follow it by a multiplication
//! with x^n modulo the polynomial: one carry-less product, which the same instruction reduces.

const std = @import("std");
const builtin = @import("builtin");

const polynomial_reflected: u32 = 0x82f6_3b78;

const has_instruction = builtin.cpu.arch == .x86_64 and builtin.cpu.has(.x86, .sse4_2);
const has_product = has_instruction and builtin.cpu.has(.x86, .pclmul) and
    builtin.cpu.has(.x86, .avx);

/// Bytes of a lane. Three of the larger make up a full datagram of MTU 1500 but for its last words.
const lane_large_bytes = 480;
const lane_small_bytes = 64;

/// State before the first byte; the result is the complement of the state after the last.
pub const initial: u32 = std.math.maxInt(u32);

/// Continues a state by 8 bytes.
pub inline fn next_u64(state: u32, value: u64) u32 {
    if (comptime !has_instruction) return update_plain(state, std.mem.asBytes(&value));
    return @truncate(asm ("crc32q %[value], %[state]"
        : [state] "=r" (-> u64),
        : [value] "r" (value),
          [old] "0" (@as(u64, state)),
    ));
}

/// Continues a state by any number of bytes.
pub fn update(state: u32, bytes: []const u8) u32 {
    if (comptime !has_product) return update_plain(state, bytes);
    var crc = state;
    var left = bytes;
    while (left.len >= 3 * lane_large_bytes) {
        crc = three_lanes(lane_large_bytes, crc, left.ptr);
        left = left[3 * lane_large_bytes ..];
    }
    while (left.len >= 3 * lane_small_bytes) {
        crc = three_lanes(lane_small_bytes, crc, left.ptr);
        left = left[3 * lane_small_bytes ..];
    }
    while (left.len >= 8) {
        crc = next_u64(crc, word(left.ptr, 0));
        left = left[8..];
    }
    return if (left.len == 0) crc else update_plain(crc, left);
}

/// Without any instruction: for the last bytes, and for processors that have none.
fn update_plain(state: u32, bytes: []const u8) u32 {
    var crc = state;
    for (bytes) |byte| {
        crc ^= byte;
        for (0..8) |_| crc = times_x(crc);
    }
    return crc;
}

inline fn times_x(state: u32) u32 {
    return (state >> 1) ^ (if (state & 1 != 0) polynomial_reflected else 0);
}

inline fn word(at: [*]const u8, offset: usize) u64 {
    return std.mem.readInt(u64, (at + offset)[0..8], .little);
}

inline fn three_lanes(comptime lane_bytes: usize, state: u32, at: [*]const u8) u32 {
    comptime std.debug.assert(lane_bytes % 8 == 0);
    var a = state;
    var b: u32 = 0;
    var c: u32 = 0;
    var offset: usize = 0;
    while (offset < lane_bytes) : (offset += 8) {
        a = next_u64(a, word(at, offset));
        b = next_u64(b, word(at, offset + lane_bytes));
        c = next_u64(c, word(at, offset + 2 * lane_bytes));
    }
    const past_two = product(a, comptime shift_by(2 * lane_bytes));
    const past_one = product(b, comptime shift_by(lane_bytes));
    return c ^ next_u64(0, past_two ^ past_one);
}

/// Carry-less.
inline fn product(a: u32, b: u32) u64 {
    const V = @Vector(2, u64);
    const result = asm ("vpclmulqdq $0, %[b], %[a], %[out]"
        : [out] "=x" (-> V),
        : [a] "x" (V{ a, 0 }),
          [b] "x" (V{ b, 0 }),
    );
    return result[0];
}

/// The factor that moves a state past `bytes` bytes: x^(8 n - 33), reflected. 32 of the 33 are what
/// the instruction multiplies by while it reduces, one is what a product of reflected words lacks.
fn shift_by(comptime bytes: usize) u32 {
    @setEvalBranchQuota(100_000);
    var value: u32 = 1 << 31;
    for (0..8 * bytes - 33) |_| value = times_x(value);
    return value;
}

const Std = std.hash.crc.@"CRC-32/ISCSI";

test "the same as the standard library's for all lengths and beginnings" {
    var bytes: [5000]u8 = undefined;
    var prng: std.Random.DefaultPrng = .init(0xc3c);
    prng.random().bytes(&bytes);
    for (0..bytes.len - 8) |length| {
        const start = length % 8;
        const range = bytes[start..][0..length];
        try std.testing.expectEqual(Std.hash(range), ~update(initial, range));
    }
    try std.testing.expectEqual(@as(u32, 0xe306_9283), ~update(initial, "123456789"));
}

test "continued in pieces" {
    var bytes: [3000]u8 = undefined;
    var prng: std.Random.DefaultPrng = .init(7);
    const random = prng.random();
    random.bytes(&bytes);
    for (0..200) |_| {
        const cut = random.uintAtMost(usize, bytes.len);
        const first = update(initial, bytes[0..cut]);
        try std.testing.expectEqual(update(initial, &bytes), update(first, bytes[cut..]));
    }
    const value = std.mem.readInt(u64, bytes[0..8], .little);
    try std.testing.expectEqual(update(initial, bytes[0..8]), next_u64(initial, value));
}
