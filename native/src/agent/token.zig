//! Who runs an agent's state machine at this moment. Any thread may run any agent (the native
//! thread, the caller of `send`, an inline `poll`), one at a time; nobody waits on a message's
//! path: who does not get the token leaves the work to the one who has it, and that one looks once
//! more after giving it back.

const std = @import("std");
const assert = @import("../assert.zig").assert;

pub const Token = struct {
    word: std.atomic.Value(u32) align(64) = .init(0),
    /// Somebody needs the agent for a rare call (room, statistics) and spins for it: do not take it
    /// again at once.
    wanted: std.atomic.Value(u32) = .init(0),

    pub inline fn try_take(self: *Token) bool {
        if (self.word.load(.monotonic) != 0) return false;
        return self.word.cmpxchgStrong(0, 1, .acquire, .monotonic) == null;
    }

    /// Nobody runs the agent. Of use where only the calling thread could.
    pub inline fn is_free(self: *const Token) bool {
        return self.word.load(.monotonic) == 0;
    }

    /// For rare calls only: waits until the holder has done its bounded step.
    pub fn take(self: *Token) void {
        if (self.try_take()) return;
        _ = self.wanted.fetchAdd(1, .seq_cst);
        defer _ = self.wanted.fetchSub(1, .release);
        var spins: u32 = 0;
        while (!self.try_take()) : (spins += 1) {
            if (spins < 200) std.atomic.spinLoopHint() else std.Thread.yield() catch {};
        }
    }

    /// The native thread steps aside for somebody who waits.
    pub inline fn try_take_unwanted(self: *Token) bool {
        if (self.wanted.load(.monotonic) != 0) {
            std.Thread.yield() catch {};
            return false;
        }
        return self.try_take();
    }

    pub inline fn give(self: *Token) void {
        assert(self.word.load(.monotonic) == 1);
        self.word.store(0, .release);
    }
};
