//! The one barrier that stores and loads of atomics do not give: a store before it is visible to
//! every thread before a load after it reads. Both sides of a "look, then sleep" need it.

const std = @import("std");
const builtin = @import("builtin");

/// A full memory barrier, about 5 ns.
pub inline fn full() void {
    switch (builtin.cpu.arch) {
        .x86_64 => asm volatile ("lock addl $0, (%%rsp)" ::: .{ .memory = true, .cc = true }),
        .aarch64 => asm volatile ("dmb ish" ::: .{ .memory = true }),
        else => {
            var word: std.atomic.Value(u32) = .init(0);
            _ = word.fetchAdd(0, .seq_cst);
        },
    }
}
