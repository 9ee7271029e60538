//! Copying a message. Most are short, and for those a call of memcpy costs as much as its work:
//! here the length chooses a few moves of fixed size, of which the last ones may overlap the first.

const std = @import("std");
const assert = @import("assert.zig").assert;

/// Longer ranges go to memcpy.
const moves_bytes_max = 256;

/// `to` and `from` have one length and do not overlap.
pub inline fn copy(to: []u8, from: []const u8) void {
    const n = from.len;
    assert(to.len == n);
    if (n > moves_bytes_max) return @memcpy(to, from);
    if (n > 128) return ends(128, to.ptr, from.ptr, n);
    if (n > 64) return ends(64, to.ptr, from.ptr, n);
    if (n > 32) return ends(32, to.ptr, from.ptr, n);
    if (n >= 16) return ends(16, to.ptr, from.ptr, n);
    if (n >= 8) return ends(8, to.ptr, from.ptr, n);
    if (n >= 4) return ends(4, to.ptr, from.ptr, n);
    if (n >= 2) return ends(2, to.ptr, from.ptr, n);
    if (n == 1) to[0] = from[0];
}

/// The first and the last `part` bytes, which are all where `part` <= n <= 2 * `part`.
inline fn ends(comptime part: usize, to: [*]u8, from: [*]const u8, n: usize) void {
    const Bytes = @Vector(part, u8);
    // Vectors stay in registers; arrays would be stored beside the stack and loaded again.
    const first: Bytes = from[0..part].*;
    const last: Bytes = (from + n - part)[0..part].*;
    to[0..part].* = first;
    (to + n - part)[0..part].* = last;
}

test "all lengths, nothing beside them" {
    var from: [600]u8 = undefined;
    for (&from, 0..) |*byte, i| byte.* = @truncate(i *% 7 +% 1);
    for (0..500) |n| {
        var to: [600]u8 = @splat(0);
        const start = n % 32;
        copy(to[start..][0..n], from[5..][0..n]);
        try std.testing.expectEqualSlices(u8, from[5..][0..n], to[start..][0..n]);
        for (to[0..start]) |byte| try std.testing.expectEqual(@as(u8, 0), byte);
        for (to[start + n ..]) |byte| try std.testing.expectEqual(@as(u8, 0), byte);
    }
}
