//! Fuzzer of recovery: a window that an earlier process left, with any damage.
//!
//! A life is one window. Each execution sends, acknowledges and frees some messages, lets the
//! process die, damages page, nodes and arena (bits, words, cursors of which one half is older,
//! nodes that are wrong with a right check), and recovers. What comes out must be in order and
//! inside its bounds, whatever went in; undamaged, it must be all that was there. Then the window
//! goes on, and in the end every chunk is free.

const std = @import("std");
const limits = @import("../limits.zig");
const layout = @import("node.zig");
const recovery = @import("recovery.zig");
const forge_file = @import("../wire/forge_fuzz.zig");
const ChunkPool = @import("pool.zig").ChunkPool;
const Bump = @import("pool.zig").Bump;
const SendingWindow = @import("sending_window.zig").SendingWindow;
const Bench = forge_file.Bench;
const Forge = forge_file.Forge;
const expect = forge_file.expect;

const capacity = 32;
const chunk_count = 8;
const memory_bytes = chunk_count * limits.chunk_bytes_min;
const header_bytes = limits.message_header_bytes;

pub fn run(bench: *Bench, seed: u64, executions: u64) void {
    var gpa: std.heap.FixedBufferAllocator = .init(bench.memory);
    const world = gpa.allocator().create(World) catch @panic("the bench is too small");
    world.init(&gpa, seed) catch @panic("the bench is too small");
    for (0..executions) |_| {
        bench.count();
        world.execute() catch @panic("the bench is too small");
    }
}

const World = struct {
    gpa: *std.heap.FixedBufferAllocator,
    /// What `gpa` had given out before there was a pool.
    gpa_end: usize,
    forge: Forge,
    memory: []align(limits.page_bytes) u8,
    pool: ChunkPool,
    bump: Bump,
    window: SendingWindow,
    /// Nothing was damaged since the files were made: damaged nodes may lie where nobody looks yet.
    is_whole: bool,

    fn init(self: *World, gpa: *std.heap.FixedBufferAllocator, seed: u64) !void {
        const alignment: std.mem.Alignment = comptime .fromByteUnits(limits.page_bytes);
        self.gpa = gpa;
        self.forge = .init(seed);
        self.memory = try gpa.allocator().alignedAlloc(u8, alignment, memory_bytes);
        @memset(self.memory, 0);
        self.window = try .create_in_memory(gpa.allocator(), capacity, self.memory);
        self.gpa_end = gpa.end_index;
        self.is_whole = true;
        try self.start_pool();
        if (self.forge.once_in(2)) {
            self.window.start_at(self.forge.dice.magnitude(0, recovery.number_max), &self.pool);
        }
    }

    /// As after a start of the process: nothing but the files is left.
    fn start_pool(self: *World) !void {
        self.gpa.end_index = self.gpa_end;
        self.pool = try .init(self.gpa.allocator(), .{
            .base = self.memory.ptr,
            .bytes = self.memory.len,
            .chunk_bytes = limits.chunk_bytes_min,
        });
        self.bump = Bump.init(&self.pool) orelse return error.OutOfMemory;
    }

    fn execute(self: *World) !void {
        const d = &self.forge.dice;
        for (0..d.below(12)) |_| self.send();
        self.move_cursors();
        const page = self.window.page;
        const before: recovery.Cursors = .{
            .reclaimed = page.reclaimed.value,
            .acked = page.acked.value,
            .written = page.written.value,
        };
        self.forge.near = d.between(before.reclaimed, before.written);
        const damages = if (self.is_whole and d.coin()) 0 else d.below(5);
        for (0..damages) |_| self.damage();
        if (damages > 0) self.is_whole = false;
        try self.start_pool();
        const cursors = recovery.read_cursors(page, capacity) orelse {
            expect(!self.is_whole, "undamaged cursors are read");
            return self.give_up(before.written);
        };
        check_cursors(cursors);
        const trusted = !self.forge.once_in(8);
        const result = recovery.recover(&self.window, cursors, &self.pool, trusted);
        self.check(&result);
        if (self.is_whole) {
            expect(result.written == before.written, "nothing written is forgotten");
            expect(result.acked == before.acked, "nor what was acknowledged");
            const lost = before.written - before.acked;
            expect(!trusted or result.reclaimed == before.reclaimed, "all that was kept is kept");
            expect(trusted or result.lost_count == lost, "what can't be trusted is lost");
        }
        self.go_on();
    }

    // ---------------------------------------------------------------- the process that dies

    fn send(self: *World) void {
        const d = &self.forge.dice;
        if (self.window.ring_full()) return;
        const length: u32 = @intCast(d.below(if (self.forge.once_in(16)) 6000 else 60));
        const offset = self.bump.alloc(header_bytes + length, 8) orelse return;
        const at8: u32 = @intCast((offset + header_bytes) / limits.payload_alignment);
        const flags: u16 = if (self.forge.once_in(8)) layout.flag_unsent else 0;
        const given = self.window.publish(at8, length, @truncate(d.bits()), flags);
        expect(given != null, "a ring that is not full gives a number");
    }

    fn move_cursors(self: *World) void {
        const d = &self.forge.dice;
        const window = &self.window;
        const acked = d.between(window.acked(), window.written());
        if (window.sent_msg() < acked) window.set_sent(acked, 0);
        window.set_acked(acked);
        window.reclaim_to(d.between(window.reclaimed(), acked), &self.pool);
    }

    // ---------------------------------------------------------------- damage

    fn damage(self: *World) void {
        const f = &self.forge;
        const d = &f.dice;
        switch (d.below(12)) {
            0, 1, 2 => self.damage_cursor(),
            3 => {
                const bytes = std.mem.asBytes(self.window.page);
                bytes[@intCast(d.below(bytes.len))] = @truncate(d.bits());
            },
            4, 5, 6, 7 => self.damage_node(),
            8 => {
                const bytes = std.mem.sliceAsBytes(self.window.nodes[0..capacity]);
                bytes[@intCast(d.below(bytes.len))] ^= @as(u8, 1) << @intCast(d.below(8));
            },
            9 => if (f.once_in(8)) {
                // A whole page or ring of nothing, or of anything.
                const bytes = if (d.coin())
                    std.mem.asBytes(self.window.page)
                else
                    std.mem.sliceAsBytes(self.window.nodes[0..capacity]);
                if (d.coin()) @memset(bytes, 0) else d.random().bytes(bytes);
            },
            else => {
                // In front of a message, where that is known, else anywhere.
                const node = &self.window.nodes[@intCast(d.below(capacity))];
                const start = @as(u64, node.offset8) * 8 -| header_bytes;
                const at = if (start < memory_bytes - header_bytes)
                    start + d.below(header_bytes)
                else
                    d.below(memory_bytes);
                self.memory[@intCast(at)] ^= @as(u8, 1) << @intCast(d.below(8));
            },
        }
    }

    fn damage_cursor(self: *World) void {
        const f = &self.forge;
        const d = &f.dice;
        const page = self.window.page;
        const cursors = [_]*layout.Cursor{
            &page.written, &page.acked,         &page.reclaimed,
            &page.base,    &page.connection_id, &page.connection_first,
        };
        const cursor = d.one_of(*layout.Cursor, &cursors);
        const word = if (d.coin()) &cursor.value else &cursor.mirror;
        switch (d.below(4)) {
            0 => word.* ^= @as(u64, 1) << @intCast(d.below(64)),
            1 => word.* = f.number(),
            2 => cursor.mirror = ~f.number(),
            else => cursor.store(f.number()),
        }
    }

    /// A field is wrong, and the check mostly right: as if another program had written it.
    fn damage_node(self: *World) void {
        const f = &self.forge;
        const d = &f.dice;
        const node = &self.window.nodes[@intCast(d.below(capacity))];
        switch (d.below(8)) {
            0 => node.tag = f.number(),
            1 => node.offset8 = @truncate(f.number()),
            2 => node.offset8 = @intCast(d.below(memory_bytes / 8 + 2)),
            3 => node.length = @truncate(f.number()),
            4 => node.length = @intCast(d.below(memory_bytes)),
            5 => node.flags = @truncate(f.number()),
            6 => node.reserved = f.number(),
            else => node.* = self.window.nodes[@intCast(d.below(capacity))],
        }
        if (!f.once_in(4)) node.check = node.checksum();
        if (f.once_in(2)) self.write_header(node);
    }

    /// What a node says of its message stands in front of the message too.
    fn write_header(self: *World, node: *const layout.Node) void {
        const offset = @as(u64, node.offset8) * 8;
        if (offset < header_bytes or offset > memory_bytes) return;
        const at = self.memory[@intCast(offset - header_bytes)..][0..header_bytes];
        const header: *layout.MessageHeader = @ptrCast(@alignCast(at.ptr));
        header.* = .{ .length = node.length, .msg_arg = node.msg_arg };
    }

    // ---------------------------------------------------------------- what must hold

    fn check_cursors(cursors: recovery.Cursors) void {
        expect(cursors.reclaimed <= cursors.acked, "what is kept was acknowledged");
        expect(cursors.acked <= cursors.written, "what is acknowledged was written");
        expect(cursors.written - cursors.reclaimed <= capacity, "they fit into the ring");
        expect(cursors.written <= recovery.number_max, "they are exact");
    }

    fn check(self: *World, result: *const recovery.Recovery) void {
        const window = &self.window;
        expect(window.reclaimed() == result.reclaimed, "reclaimed is what was told");
        expect(window.acked() == result.acked, "acked is what was told");
        expect(window.written() == result.written, "written is what was told");
        expect(result.reclaimed <= result.acked and result.acked <= result.written, "in order");
        expect(result.written - result.reclaimed <= capacity, "and in the ring");
        expect(result.lost_count <= result.written - result.acked, "only what waited is lost");
        expect(result.lost_from <= result.lost_to, "it has a range");
        expect(recovery.last_connection_id(window.page) <= recovery.number_max, "ids are exact");
        var sum: u64 = 0;
        for (result.reclaimed..result.written) |no| {
            const node = window.node(no);
            if (node.flags & layout.flag_lost != 0) continue;
            const payload = window.payload(node);
            expect(payload.len == node.length, "a message that is kept has its bytes");
            if (payload.len > 0) sum +%= @as(u64, payload[0]) + payload[payload.len - 1];
        }
        std.mem.doNotOptimizeAway(sum);
    }

    // ---------------------------------------------------------------- going on

    /// Everything is delivered and freed, and the memory is whole again.
    fn go_on(self: *World) void {
        const window = &self.window;
        if (window.written() > recovery.number_max - 1000) return self.reset(0);
        const again = recovery.read_cursors(window.page, capacity);
        expect(again != null and again.?.written == window.written(), "what was settled is read");
        for (0..self.forge.dice.below(4)) |_| self.send();
        if (!self.forge.once_in(4)) return self.leave();
        const next = window.written();
        window.set_sent(next, 0);
        window.set_acked(next);
        window.reclaim_to(next, &self.pool);
        self.bump.close();
        expect(self.pool.free_count() == chunk_count, "all memory comes back");
        self.bump = Bump.init(&self.pool) orelse @panic("broken: an allocator was given back");
        if (self.forge.once_in(2)) self.reset(next);
    }

    /// The next process finds it as it is, but that a ring full of lost messages makes room.
    fn leave(self: *World) void {
        const window = &self.window;
        if (window.ring_full()) window.set_acked(window.written());
        if (window.ring_full()) window.reclaim_to(window.written(), &self.pool);
    }

    /// The files are refused: new ones, on a higher number.
    fn give_up(self: *World, written: u64) void {
        self.reset(if (written < recovery.number_max / 2) written else 0);
    }

    fn reset(self: *World, number: u64) void {
        SendingWindow.reset_page(self.window.page, number);
        @memset(self.window.nodes[0..capacity], std.mem.zeroes(layout.Node));
        self.window.next_no = number;
        self.window.reclaimed_seen = number;
        self.is_whole = true;
        self.gpa.end_index = self.gpa_end;
        self.start_pool() catch @panic("the bench is too small");
    }
};
