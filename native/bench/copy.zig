//! Yardstick of large messages: copying and reading memory that two mappings share.

const machine = @import("machine.zig");

pub const Copied = struct { cold_ns: u64, warm_ns: u64, read_ns: u64 };

/// Copies `bytes` into a file in memory: into pages that are not there yet, then again; and reads.
pub fn copy_ns(core: u32, bytes: usize, rounds: u32) Copied {
    machine.pin(core);
    const from = machine.map_shared(bytes);
    defer machine.unmap(from);
    @memset(from, 1);
    const fd = machine.memory_file(bytes);
    defer _ = @import("std").os.linux.close(fd);
    const to = machine.map(bytes, fd, false);
    defer machine.unmap(to);
    var best: Copied = .{ .cold_ns = 0, .warm_ns = ~@as(u64, 0), .read_ns = ~@as(u64, 0) };
    var at = machine.now_ns();
    @memcpy(to, from);
    best.cold_ns = machine.now_ns() - at;
    for (0..rounds) |round| {
        from[0] = @truncate(round);
        at = machine.now_ns();
        @memcpy(to, from);
        best.warm_ns = @min(best.warm_ns, machine.now_ns() - at);
        at = machine.now_ns();
        machine.keep(machine.sum_of(to));
        best.read_ns = @min(best.read_ns, machine.now_ns() - at);
    }
    return best;
}
