//! The assertion that stays on in every mode, also in the shipped ReleaseFast library.
//!
//! `std.debug.assert` turns into undefined behaviour there. This one costs a compare and a jump
//! that is never taken; the failing side is out of line, so that the fast path stays short. It is
//! for conditions that only a bug in this library can break: what comes from a caller, a file or
//! the network is checked and answered with an error instead.

const std = @import("std");

/// Ends the process when `ok` is false. `ok` must have no side effects.
pub inline fn assert(ok: bool) void {
    if (!ok) {
        @branchHint(.cold);
        fail();
    }
}

noinline fn fail() noreturn {
    @branchHint(.cold);
    std.debug.panicExtra(@returnAddress(), "assertion failed", .{});
}

test "assert passes what holds" {
    assert(true);
    assert(1 + 1 == 2);
}
