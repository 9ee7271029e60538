//! Maps the pages of a sending context's files before messages get there (`UsePreAllocate: 0`).
//!
//! The memory itself was reserved when the files were made, but the first store into each page
//! still stops for the kernel to map it: a microsecond, in the middle of a `send`. So a thread of
//! low priority does that in small steps: all nodes, and of the arena a part that stays ahead of
//! what is in use. It ends as soon as all of it is mapped, which with the usual arena is soon after
//! the start; with a larger one it looks again now and then.
//!
//! Nobody waits for it: where it did not get in time, or was refused by the kernel, the store maps
//! its page itself.

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const cpu = @import("cpu.zig");
const region_file = @import("../window/region.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Region = region_file.Region;
const Store = @import("../window/store.zig").Store;

/// One step holds up whoever changes the process' mappings meanwhile, or runs on the same core;
/// this is about 10 us.
const step_bytes = 8 * limits.page_bytes;
/// Behind each step it sleeps: on a core that it shares with a thread that spins, the kernel would
/// let it run for milliseconds at a time in spite of its priority.
const pause_ns = 100 * std.time.ns_per_us;
const stack_bytes = 512 * 1024;

pub const Options = struct {
    /// So much of the arena, over what is in use, is mapped.
    ahead_bytes: u64 = limits.prefault_ahead_bytes,
    look_every_ns: u64 = limits.prefault_look_every_ns,
};

pub const Prefault = struct {
    store: *const Store,
    options: Options = .{},
    thread: ?std.Thread = null,
    /// 1: to end. The thread sleeps on it.
    stopping: std.atomic.Value(u32) = .init(0),
    /// Bytes of the arena's region that are mapped from its start on. The thread's.
    arena_done: u64 = 0,

    /// Where no thread can be had, pages are mapped by whoever comes first.
    pub fn start(self: *Prefault) void {
        assert(self.thread == null);
        const config: std.Thread.SpawnConfig = .{ .stack_size = stack_bytes };
        self.thread = std.Thread.spawn(config, run, .{self}) catch null;
    }

    /// Before the store is closed. Waits for one step at most.
    pub fn end(self: *Prefault) void {
        const thread = self.thread orelse return;
        self.stopping.store(1, .release);
        _ = linux.futex_3arg(&self.stopping.raw, .{ .cmd = .WAKE, .private = true }, 1);
        thread.join();
        self.thread = null;
    }

    fn run(self: *Prefault) void {
        cpu.name_current("rcm-pages");
        cpu.lower_priority();
        self.work() catch return;
    }

    fn work(self: *Prefault) region_file.MapError!void {
        // First what the first messages need.
        try self.advance_arena(@min(self.arena_target(), limits.prefault_first_bytes));
        for (self.store.windows) |*w| try self.map_nodes(w);
        while (!self.is_stopping()) {
            try self.advance_arena(self.arena_target());
            if (self.arena_done == self.store.arena_region.bytes) return;
            self.sleep(self.options.look_every_ns);
        }
    }

    /// Single chunks are taken from the low end, so what is in use lies there, but for gaps.
    fn arena_target(self: *const Prefault) u64 {
        const pool = &self.store.pool;
        const used_chunks = pool.chunk_count - pool.free_count();
        const used = @as(u64, used_chunks) << pool.chunk_shift;
        const target = limits.page_bytes + used + self.options.ahead_bytes;
        const aligned = std.mem.alignForward(u64, target, limits.page_bytes);
        return @min(aligned, self.store.arena_region.bytes);
    }

    fn advance_arena(self: *Prefault, target: u64) region_file.MapError!void {
        while (self.arena_done < target and !self.is_stopping()) {
            const bytes = @min(step_bytes, target - self.arena_done);
            try map(self.store.arena_region, self.arena_done, bytes);
            self.arena_done += bytes;
            self.sleep(pause_ns);
        }
    }

    /// From the next message's node on, once around.
    fn map_nodes(self: *Prefault, w: anytype) region_file.MapError!void {
        const region = w.nodes_region;
        const first = @as(u64, w.window.index_of(w.window.written())) * limits.node_bytes;
        const begin = std.mem.alignBackward(u64, first, limits.page_bytes);
        var done: u64 = 0;
        while (done < region.bytes and !self.is_stopping()) {
            const at = (begin + done) % region.bytes;
            const bytes = @min(step_bytes, region.bytes - done, region.bytes - at);
            try map(region, at, bytes);
            done += bytes;
            self.sleep(pause_ns);
        }
    }

    fn map(region: Region, at: u64, bytes: u64) region_file.MapError!void {
        assert(at + bytes <= region.bytes);
        try region_file.populate(.{ .base = @alignCast(region.base + at), .bytes = bytes });
    }

    fn is_stopping(self: *const Prefault) bool {
        return self.stopping.load(.acquire) != 0;
    }

    fn sleep(self: *Prefault, time_ns: u64) void {
        const timeout: linux.timespec = .{
            .sec = @intCast(time_ns / std.time.ns_per_s),
            .nsec = @intCast(time_ns % std.time.ns_per_s),
        };
        const op: linux.FUTEX_OP = .{ .cmd = .WAIT, .private = true };
        _ = linux.futex_4arg(&self.stopping.raw, op, 0, &timeout);
    }
};
