//! Numbers that a start needs and nobody may guess or repeat.

const std = @import("std");
const assert = @import("../assert.zig").assert;
const frame = @import("../wire/frame.zig");
const clock = @import("clock.zig");

pub fn random_seed(salt: u64) u64 {
    var bytes: [8]u8 = undefined;
    const got = std.os.linux.getrandom(&bytes, bytes.len, 0);
    assert(got == bytes.len);
    return std.mem.readInt(u64, &bytes, .little) ^ salt;
}

/// Start time in ms in the high bits, random in the low ones: a later start has a higher one, also
/// after a wipe.
pub fn next_id(last: u64) u64 {
    const random_bits = 11;
    const low = random_seed(0) & ((1 << random_bits) - 1);
    const fresh = ((clock.wall_ms() << random_bits) | low) & frame.number_max;
    return @max(fresh, last + 1);
}
