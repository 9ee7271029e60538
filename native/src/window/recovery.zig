//! What an earlier process left in a sending window, and how far it can be believed.
//!
//! A process may die between any two stores; what it stored is there, in program order. So:
//!   * a cursor whose two words disagree was just being moved, or is damaged. Both candidates are
//!     tried, and the one that loses nothing is taken: the lower `acked` (receivers know what they
//!     have), the higher `reclaimed`, the lower `written` (the nodes say where it really ended);
//!   * a node is believed when its tag, its check, its bounds and the header in front of its
//!     message agree. A node at `written` that is whole was published, although `written` did not
//!     get there: its number may already be known to a receiver, so it counts;
//!   * a message in [acked, written) that can't be believed is lost. Its number stays used, because
//!     a receiver may have it: the node is marked, and whoever asks is told that nothing is kept;
//!   * what is kept for late repair, [reclaimed, acked), ends at the first node that can't be
//!     believed.
//!
//! The bytes of a message have no checksum: that its header, its node and the generation of the
//! arena agree is all that is known of them (`docs/files.md`).

const std = @import("std");
const build_options = @import("build_options");
const limits = @import("../limits.zig");
const layout = @import("node.zig");
const mutant = @import("../testing/mutant.zig");
const assert = @import("../assert.zig").assert;
const ChunkPool = @import("pool.zig").ChunkPool;
const SendingWindow = @import("sending_window.zig").SendingWindow;

const Cursor = layout.Cursor;
const Node = layout.Node;
const WindowPage = layout.WindowPage;

pub const Recovery = struct {
    /// The files were there, and the numbers go on.
    resumed: bool = false,
    reclaimed: u64 = 0,
    acked: u64 = 0,
    written: u64 = 0,
    /// Messages in [acked, written) of which nothing is left, all in [lost_from, lost_to).
    lost_count: u64 = 0,
    lost_from: u64 = 0,
    lost_to: u64 = 0,
};

/// The cursors that an earlier process left.
pub const Cursors = struct {
    reclaimed: u64,
    acked: u64,
    written: u64,

    /// Messages that were accepted and not acknowledged, as far as the cursors tell.
    pub fn pending(self: Cursors) u64 {
        return self.written - self.acked;
    }
};

/// Reads the cursors of a window over a ring of `capacity` nodes; null when no reading makes sense.
pub fn read_cursors(page: *const WindowPage, capacity: u32) ?Cursors {
    // A jump of the numbers counts as done as soon as its base is whole; until then nothing else
    // moved.
    const bases = candidates(&page.base);
    for ([_]u64{ @min(bases[0], bases[1]), @max(bases[0], bases[1]) }) |base| {
        for (sorted(&page.written, base, .up)) |written| {
            for (sorted(&page.acked, base, .up)) |acked| {
                for (sorted(&page.reclaimed, base, .down)) |reclaimed| {
                    if (reclaimed > acked or acked > written) continue;
                    if (written - reclaimed > capacity or written > number_max) continue;
                    return .{ .reclaimed = reclaimed, .acked = acked, .written = written };
                }
            }
        }
    }
    return null;
}

/// The id of the last connection, for the next one to be higher; 0 when there was none.
pub fn last_connection_id(page: *const WindowPage) u64 {
    const both = candidates(&page.connection_id);
    const high = @max(both[0], both[1]);
    return if (high <= number_max) high else @min(both[0], both[1], number_max);
}

/// Message and connection numbers stay exact in a float64.
pub const number_max: u64 = (1 << 53) - 1;

/// Makes an earlier process' window usable: cursors settled, lost messages marked, and the chunks
/// of all kept messages held in `pool`. `trusted`: the arena is of the generation that the nodes
/// belong to. One thread, before anybody allocates.
pub fn recover(
    window: *SendingWindow,
    found: Cursors,
    pool: *ChunkPool,
    trusted: bool,
) Recovery {
    const cursors = if (build_options.mutants) mutated(window, found) else found;
    assert(cursors.reclaimed <= cursors.acked and cursors.acked <= cursors.written);
    assert(cursors.written - cursors.reclaimed <= window.capacity);
    var result: Recovery = .{ .resumed = true, .acked = cursors.acked };
    var written = cursors.written;
    while (written - cursors.reclaimed < window.capacity) : (written += 1) {
        if (believe(window, written) == null or mutant.on(.tail_ignored)) break;
    }
    result.written = written;
    var reclaimed = cursors.acked;
    while (trusted and reclaimed > cursors.reclaimed) : (reclaimed -= 1) {
        if (believe(window, reclaimed - 1) == null) break;
    }
    result.reclaimed = reclaimed;
    for (reclaimed..written) |no| {
        const kept: ?*const Node = if (trusted) believe(window, no) else null;
        if (kept) |node| {
            if (node.flags & layout.flag_lost != 0) continue;
            const bytes = limits.message_header_bytes + @as(u64, node.length);
            if (!mutant.on(.kept_not_held)) pool.adopt(window.header_offset(node), bytes);
            continue;
        }
        assert(no >= cursors.acked);
        window.put_lost(no);
        if (result.lost_count == 0) result.lost_from = no;
        result.lost_count += 1;
        result.lost_to = no + 1;
    }
    const page = window.page;
    page.base.store(@min(page.base.load(), reclaimed));
    page.written.store(written);
    page.acked.store(cursors.acked);
    page.reclaimed.store(reclaimed);
    const id = if (mutant.on(.connection_forgotten)) 0 else last_connection_id(page);
    page.connection_id.store(id);
    page.connection_first.store(@min(page.connection_first.load(), cursors.acked));
    window.next_no = written;
    window.reclaimed_seen = reclaimed;
    window.set_sent(cursors.acked, 0);
    return result;
}

fn mutated(window: *const SendingWindow, found: Cursors) Cursors {
    var cursors = found;
    if (mutant.on(.recovered_from_sent)) cursors.acked = @max(found.acked, window.sent_msg());
    if (mutant.on(.numbers_anew)) cursors = .{ .reclaimed = 0, .acked = 0, .written = 0 };
    return cursors;
}

/// The node of message `no` if it and its message are whole.
fn believe(window: *const SendingWindow, no: u64) ?*const Node {
    const node = window.published(no) orelse return null;
    const is_whole = node.check == node.checksum() or mutant.on(.damage_believed);
    if (!is_whole or node.reserved != 0) return null;
    if (node.flags & ~layout.flags_known != 0) return null;
    if (node.flags & layout.flag_lost != 0) return if (node.length == 0) node else null;
    if (node.length > limits.message_bytes_max) return null;
    const offset = @as(u64, node.offset8) * limits.payload_alignment;
    if (offset < limits.message_header_bytes or offset > window.arena_bytes) return null;
    if (node.length > window.arena_bytes - offset) return null;
    const place = window.arena + offset - limits.message_header_bytes;
    const header: *const layout.MessageHeader = @ptrCast(@alignCast(place));
    if (header.length != node.length or header.msg_arg != node.msg_arg) return null;
    return if (header.flags == 0) node else null;
}

fn candidates(cursor: *const Cursor) [2]u64 {
    return .{ cursor.value, ~cursor.mirror };
}

/// Both candidates of a cursor, at least `base`, in the order in which they are preferred.
fn sorted(cursor: *const Cursor, base: u64, order: enum { up, down }) [2]u64 {
    const both = candidates(cursor);
    const low = @max(@min(both[0], both[1]), base);
    const high = @max(@max(both[0], both[1]), base);
    return if (order == .up) .{ low, high } else .{ high, low };
}

// ---- tests

const testing = std.testing;
const Bump = @import("pool.zig").Bump;

const TestWindow = struct {
    const capacity = 64;
    const chunks = 16;

    memory: []align(limits.page_bytes) u8,
    pool: *ChunkPool,
    window: SendingWindow,
    bump: Bump,

    fn init() !TestWindow {
        const alignment: std.mem.Alignment = comptime .fromByteUnits(limits.page_bytes);
        const bytes = chunks * limits.chunk_bytes_min;
        const memory = try testing.allocator.alignedAlloc(u8, alignment, bytes);
        const pool = try testing.allocator.create(ChunkPool);
        pool.* = try new_pool(memory);
        const window: SendingWindow = try .create_in_memory(testing.allocator, capacity, memory);
        return .{ .memory = memory, .pool = pool, .window = window, .bump = Bump.init(pool).? };
    }

    fn new_pool(memory: []u8) !ChunkPool {
        return .init(testing.allocator, .{
            .base = memory.ptr,
            .bytes = memory.len,
            .chunk_bytes = limits.chunk_bytes_min,
        });
    }

    fn deinit(self: *TestWindow) void {
        self.window.destroy_in_memory(testing.allocator);
        self.pool.deinit(testing.allocator);
        testing.allocator.destroy(self.pool);
        testing.allocator.free(self.memory);
    }

    fn send(self: *TestWindow, length: u32) !u64 {
        const header = limits.message_header_bytes;
        const offset = self.bump.alloc(header + length, 8) orelse return error.NoRoom;
        const no = self.window.next_no;
        @memset(self.pool.slice(offset + header, length), @truncate(no));
        const payload: u32 = @intCast((offset + header) / 8);
        return self.window.publish(payload, length, @truncate(no *% 7), 0) orelse error.NoNode;
    }

    /// As after the death of the process: only what lies in the files is left.
    fn die(self: *TestWindow) !void {
        self.pool.deinit(testing.allocator);
        self.pool.* = try new_pool(self.memory);
        self.bump = Bump.init(self.pool).?;
        self.window.next_no = 0;
        self.window.reclaimed_seen = 0;
    }

    fn restart(self: *TestWindow) !Recovery {
        try self.die();
        const cursors = read_cursors(self.window.page, capacity) orelse return error.Damaged;
        return recover(&self.window, cursors, self.pool, true);
    }

    fn expect_messages(self: *TestWindow, from: u64, to: u64) !void {
        for (from..to) |no| {
            const node = self.window.node(no);
            try testing.expectEqual(@as(u16, @truncate(no *% 7)), node.msg_arg);
            for (self.window.payload(node)) |byte| {
                try testing.expectEqual(@as(u8, @truncate(no)), byte);
            }
        }
    }
};

test "a window goes on after the death of its process" {
    var t: TestWindow = try .init();
    defer t.deinit();
    for (0..40) |i| try testing.expectEqual(i, try t.send(@intCast(i * 13)));
    t.window.set_sent(30, 0);
    t.window.set_acked(20);
    t.window.reclaim_to(8, t.pool);
    const used = TestWindow.chunks - t.pool.free_count();
    const result = try t.restart();
    try testing.expectEqual(Recovery{
        .resumed = true,
        .reclaimed = 8,
        .acked = 20,
        .written = 40,
    }, result);
    // The same chunks are held, but for the open one when it had nothing in it.
    try testing.expect(TestWindow.chunks - t.pool.free_count() <= used);
    try t.expect_messages(8, 40);
    try testing.expectEqual(20, t.window.sent_msg());
    try testing.expectEqual(40, try t.send(100));
    try t.expect_messages(8, 41);
    t.window.set_acked(41);
    t.window.reclaim_to(41, t.pool);
    t.bump.close();
    try testing.expectEqual(TestWindow.chunks, t.pool.free_count());
}

test "a message that was numbered counts although written did not get there" {
    var t: TestWindow = try .init();
    defer t.deinit();
    for (0..10) |_| _ = try t.send(50);
    t.window.page.written.store(9);
    var result = try t.restart();
    try testing.expectEqual(10, result.written);
    // Between the two stores of the cursor.
    t.window.page.written.mirror = ~@as(u64, 11);
    result = try t.restart();
    try testing.expectEqual(10, result.written);
    // A node without its tag was not published.
    _ = try t.send(50);
    t.window.page.written.store(10);
    t.window.nodes[10].tag = 0;
    result = try t.restart();
    try testing.expectEqual(10, result.written);
    try testing.expectEqual(10, try t.send(50));
    try t.expect_messages(0, 11);
}

test "damaged messages are marked as lost, the others stay" {
    var t: TestWindow = try .init();
    defer t.deinit();
    for (0..30) |_| _ = try t.send(100);
    t.window.set_sent(12, 0);
    t.window.set_acked(10);
    t.window.nodes[4].length += 1; // Kept for late repair: what is older goes too.
    t.window.nodes[15].offset8 ^= 1;
    const header = t.window.header_offset(t.window.node(17));
    t.memory[header] ^= 8;
    const result = try t.restart();
    try testing.expectEqual(5, result.reclaimed);
    try testing.expectEqual(10, result.acked);
    try testing.expectEqual(30, result.written);
    try testing.expectEqual(2, result.lost_count);
    try testing.expectEqual(15, result.lost_from);
    try testing.expectEqual(18, result.lost_to);
    try testing.expect(t.window.node(15).flags & layout.flag_lost != 0);
    try t.expect_messages(5, 15);
    try t.expect_messages(18, 30);
    // They stay lost after another start, and are told once.
    const again = try t.restart();
    try testing.expectEqual(0, again.lost_count);
    t.window.set_acked(30);
    t.window.reclaim_to(30, t.pool);
    try testing.expectEqual(TestWindow.chunks, t.pool.free_count());
}

test "in another generation of the arena nothing is believed, and numbers go on" {
    var t: TestWindow = try .init();
    defer t.deinit();
    for (0..10) |_| _ = try t.send(100);
    t.window.set_acked(6);
    try t.die();
    const cursors = read_cursors(t.window.page, TestWindow.capacity).?;
    const result = recover(&t.window, cursors, t.pool, false);
    try testing.expectEqual(6, result.reclaimed);
    try testing.expectEqual(10, result.written);
    try testing.expectEqual(4, result.lost_count);
    try testing.expectEqual(TestWindow.chunks, t.pool.free_count());
}

test "numbers that jump are whole wherever the process dies" {
    var t: TestWindow = try .init();
    defer t.deinit();
    for (0..10) |_| _ = try t.send(20);
    t.window.set_acked(10);
    const page = t.window.page;
    const before = page.*;
    t.window.start_at(1000, t.pool);
    const after = page.*;
    // The stores in their order; every prefix of them is a place to die.
    const words = [_][]const u8{ "base", "written", "acked", "reclaimed" };
    for (0..words.len * 2 + 1) |cut| {
        page.* = before;
        page.reclaimed.store(10); // What was cached goes before the numbers jump.
        var step: usize = 0;
        inline for (words) |name| {
            if (step < cut) @field(page, name).mirror = @field(after, name).mirror;
            if (step + 1 < cut) @field(page, name).value = @field(after, name).value;
            step += 2;
        }
        const cursors = read_cursors(page, TestWindow.capacity) orelse return error.Damaged;
        try testing.expectEqual(0, cursors.pending());
        const jumped = cursors.written == 1000 and cursors.reclaimed == 1000;
        const stayed = cursors.written == 10 and cursors.reclaimed == 10;
        try testing.expect(jumped or stayed);
    }
    page.* = after;
    const result = try t.restart();
    try testing.expectEqual(1000, result.written);
    try testing.expectEqual(1000, try t.send(20));
}

test "a flipped bit in a cursor is seen" {
    var t: TestWindow = try .init();
    defer t.deinit();
    for (0..40) |_| _ = try t.send(20);
    t.window.set_acked(30);
    t.window.reclaim_to(10, t.pool);
    const page = t.window.page;
    const good = page.*;
    inline for (.{ "written", "acked", "reclaimed", "base" }) |name| {
        for (0..128) |bit| {
            page.* = good;
            const cursor = &@field(page, name);
            if (bit < 64) {
                cursor.value ^= @as(u64, 1) << @intCast(bit);
            } else {
                cursor.mirror ^= @as(u64, 1) << @intCast(bit - 64);
            }
            // One of the two words is right; nothing accepted is ever given up.
            if (read_cursors(page, TestWindow.capacity)) |cursors| {
                const result = recover(&t.window, cursors, t.pool, true);
                try testing.expectEqual(40, result.written);
                try testing.expect(result.acked <= 30);
                try testing.expectEqual(0, result.lost_count);
                try t.die();
            }
        }
    }
}
