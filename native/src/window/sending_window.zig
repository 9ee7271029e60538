//! The sending window of one (topic, partition): a ring of nodes and cursors over messages in the
//! arena.
//!
//!     reclaimed <= acked <= sent <= written
//!
//! `publish` numbers a message and moves `written`; the network side moves `sent`, acknowledgements
//! move `acked`; what lies under `acked` stays for late repair until `reclaim_to`. Each cursor has
//! one writer thread (the producer: `written`; the network side: all others), the rest read.
//!
//! It works on memory that it is given: mapped files (`files.zig`) or plain memory
//! (`create_in_memory`, for the simulator and tests). A process that dies between any two stores
//! leaves a window which `recovery.zig` understands.

const std = @import("std");
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const barrier = @import("../agent/barrier.zig");
const cut = @import("../testing/cut.zig");
const layout = @import("node.zig");
const stores = @import("stores.zig");
const mutant = @import("../testing/mutant.zig");
const ChunkPool = @import("pool.zig").ChunkPool;

const Node = layout.Node;
const WindowPage = layout.WindowPage;
const MessageHeader = layout.MessageHeader;

pub const SendingWindow = struct {
    page: *WindowPage,
    /// The whole ring: both block files lie back to back in memory.
    nodes: [*]Node,
    capacity: u32,
    arena: [*]u8,
    arena_bytes: u64,
    /// The producer's own copies, on a line of their own.
    next_no: u64 align(64),
    reclaimed_seen: u64,
    /// The network side's.
    pad: [48]u8 = undefined,
    /// Asked before memory is given back, where others read it in place.
    guard: ?Guard = null,

    pub const Guard = struct {
        context: *anyopaque,
        /// `reclaimed` has moved from `from` to `to`; the memory of what lies between goes next.
        before_release: *const fn (context: *anyopaque, from: u64, to: u64) void,
    };

    pub const Options = struct {
        page: *WindowPage,
        nodes: [*]Node,
        /// Power of two.
        capacity: u32,
        /// Memory that offsets of messages count in: the chunks of the context's pool.
        arena: []u8,
    };

    pub fn init(options: Options) SendingWindow {
        assert(std.math.isPowerOfTwo(options.capacity));
        const next_no = options.page.written.load();
        const kept_from = options.page.reclaimed.load();
        assert(kept_from <= next_no and next_no - kept_from <= options.capacity);
        return .{
            .page = options.page,
            .nodes = options.nodes,
            .capacity = options.capacity,
            .arena = options.arena.ptr,
            .arena_bytes = options.arena.len,
            .next_no = next_no,
            .reclaimed_seen = kept_from,
        };
    }

    /// A window without files, empty, next number 0.
    pub fn create_in_memory(
        allocator: std.mem.Allocator,
        capacity: u32,
        arena: []u8,
    ) error{OutOfMemory}!SendingWindow {
        const page = try allocator.create(WindowPage);
        errdefer allocator.destroy(page);
        const nodes = try allocator.alloc(Node, capacity);
        page.* = std.mem.zeroes(WindowPage);
        @memset(nodes, std.mem.zeroes(Node));
        reset_page(page, 0);
        return init(.{ .page = page, .nodes = nodes.ptr, .capacity = capacity, .arena = arena });
    }

    pub fn destroy_in_memory(self: *SendingWindow, allocator: std.mem.Allocator) void {
        allocator.free(self.nodes[0..self.capacity]);
        allocator.destroy(self.page);
        self.* = undefined;
    }

    // ---- producer

    /// Numbers the message whose payload begins at `payload_offset8` * 8 in the arena, writes its
    /// header in front of it, and makes it visible. Null when the ring is full; nothing changed
    /// then. `flags`: `node.flag_unsent` or 0. One thread at a time.
    pub inline fn publish(
        self: *SendingWindow,
        payload_offset8: u32,
        length: u32,
        msg_arg: u16,
        flags: u16,
    ) ?u64 {
        const no = self.next_no;
        if (no - self.reclaimed_seen >= self.capacity) {
            self.reclaimed_seen = self.page.reclaimed.load();
            if (no - self.reclaimed_seen >= self.capacity) return null;
        }
        const offset = @as(u64, payload_offset8) * limits.payload_alignment;
        assert(length <= limits.message_bytes_max and flags & ~layout.flag_unsent == 0);
        assert(offset >= limits.message_header_bytes);
        assert(offset <= self.arena_bytes and length <= self.arena_bytes - offset);
        const header: *MessageHeader = @ptrCast(@alignCast(
            self.arena + offset - limits.message_header_bytes,
        ));
        stores.put(&header.length, length);
        stores.put(&header.msg_arg, msg_arg);
        stores.put(&header.flags, 0);
        self.clear_padding(offset + length);
        var value: Node = .{
            .tag = no + 1,
            .offset8 = payload_offset8,
            .length = length,
            .msg_arg = msg_arg,
            .flags = flags,
            .check = 0,
        };
        value.check = value.checksum();
        if (mutant.on(.written_first)) self.page.written.store(no + 1);
        self.put_node(&value);
        self.next_no = no + 1;
        self.page.written.store(no + 1);
        return no;
    }

    /// A message for which `publish` would find no node. Producer.
    pub fn ring_full(self: *SendingWindow) bool {
        if (self.next_no - self.reclaimed_seen < self.capacity) return false;
        self.reclaimed_seen = self.page.reclaimed.load();
        return self.next_no - self.reclaimed_seen >= self.capacity;
    }

    // ---- any thread

    /// Number of the next message.
    pub inline fn written(self: *const SendingWindow) u64 {
        return self.page.written.load();
    }

    pub inline fn acked(self: *const SendingWindow) u64 {
        return self.page.acked.load();
    }

    pub inline fn reclaimed(self: *const SendingWindow) u64 {
        return self.page.reclaimed.load();
    }

    pub inline fn sent_msg(self: *const SendingWindow) u64 {
        return @atomicLoad(u64, &self.page.sent.msg, .acquire);
    }

    pub inline fn sent_frag(self: *const SendingWindow) u64 {
        return @atomicLoad(u64, &self.page.sent.frag, .acquire);
    }

    pub fn connection_id(self: *const SendingWindow) u64 {
        return self.page.connection_id.load();
    }

    pub fn connection_first(self: *const SendingWindow) u64 {
        return self.page.connection_first.load();
    }

    /// Slot of a number in the ring (`FirstIndex`, `CurrentIndex` of the statistics).
    pub inline fn index_of(self: *const SendingWindow, no: u64) u32 {
        return @intCast(no & (self.capacity - 1));
    }

    // ---- network side

    /// Node of a message in [reclaimed, written).
    pub inline fn node(self: *const SendingWindow, no: u64) *const Node {
        const found = &self.nodes[self.index_of(no)];
        assert(@atomicLoad(u64, &found.tag, .acquire) == no + 1);
        return found;
    }

    /// The node if message `no` was published already: follows the tags without touching `written`.
    pub inline fn published(self: *const SendingWindow, no: u64) ?*const Node {
        const found = &self.nodes[self.index_of(no)];
        return if (@atomicLoad(u64, &found.tag, .acquire) == no + 1) found else null;
    }

    /// Offset of the message's header in the arena. Not for lost messages.
    pub inline fn header_offset(self: *const SendingWindow, of: *const Node) u64 {
        _ = self;
        assert(of.flags & layout.flag_lost == 0);
        return @as(u64, of.offset8) * limits.payload_alignment - limits.message_header_bytes;
    }

    /// The message's bytes. Not for lost messages.
    pub inline fn payload(self: *const SendingWindow, of: *const Node) []const u8 {
        const start = self.header_offset(of) + limits.message_header_bytes;
        return self.arena_slice(start, of.length);
    }

    pub inline fn arena_slice(self: *const SendingWindow, offset: u64, bytes: u64) []const u8 {
        assert(offset <= self.arena_bytes and bytes <= self.arena_bytes - offset);
        return self.arena[offset..][0..bytes];
    }

    /// The next thing to send is fragment `frag` of message `msg`. It may go back (after a new
    /// connection), never below `acked`.
    pub fn set_sent(self: *SendingWindow, msg: u64, frag: u64) void {
        assert(msg >= self.page.acked.load() and msg <= self.page.written.load());
        stores.release(&self.page.sent.frag, frag);
        stores.release(&self.page.sent.msg, msg);
    }

    /// Everything below `no` has arrived where it counts. Never goes back.
    pub fn set_acked(self: *SendingWindow, no: u64) void {
        assert(no >= self.page.acked.load() and no <= self.page.written.load());
        self.page.acked.store(no);
    }

    /// Frees the messages below `no` <= acked that are still kept. `reclaimed` moves first, so that
    /// a process that dies in between never takes reused memory for a kept message.
    pub fn reclaim_to(self: *SendingWindow, no: u64, pool: *ChunkPool) void {
        assert(no <= self.page.acked.load());
        var at = self.page.reclaimed.load();
        while (at < no) {
            const from = at;
            var spans: [64]ChunkPool.Span = undefined;
            var weights: [64]u32 = undefined;
            var count: u32 = 0;
            while (at < no) : (at += 1) {
                const of = self.node(at);
                if (of.flags & layout.flag_lost != 0) continue;
                const bytes = limits.message_header_bytes + @as(u64, of.length);
                const span = pool.span_of(self.header_offset(of), bytes);
                // Neighbours share a chunk: one subtraction for all of them.
                const same = count > 0 and span.count == 1 and spans[count - 1].count == 1 and
                    spans[count - 1].first == span.first;
                if (same) {
                    weights[count - 1] += 1;
                    continue;
                }
                if (count == spans.len) break;
                spans[count] = span;
                weights[count] = 1;
                count += 1;
            }
            if (!mutant.on(.freed_first)) self.page.reclaimed.store(at);
            if (self.guard) |g| g.before_release(g.context, from, at);
            for (spans[0..count], weights[0..count]) |span, weight| {
                if (span.count == 1) {
                    pool.release_many(span.first, weight);
                } else {
                    pool.release(span.first, span.count);
                }
            }
            if (mutant.on(.freed_first)) self.page.reclaimed.store(at);
        }
    }

    /// A connection begins: `id` is higher than the last one's, `first` its first number.
    pub fn set_connection(self: *SendingWindow, id: u64, first: u64) void {
        assert(id > self.page.connection_id.load());
        self.page.connection_first.store(first);
        self.page.connection_id.store(id);
    }

    /// An empty window (acked == written) goes on at a higher number (`IsHandshake`). What was
    /// cached is freed. Only while nobody publishes.
    pub fn start_at(self: *SendingWindow, no: u64, pool: *ChunkPool) void {
        const page = self.page;
        assert(page.acked.load() == page.written.load());
        assert(no >= page.written.load());
        self.reclaim_to(page.acked.load(), pool);
        // From here on all cursors count as at least this, wherever the process dies.
        if (!mutant.on(.base_last)) page.base.store(no);
        page.written.store(no);
        page.acked.store(no);
        page.reclaimed.store(no);
        if (mutant.on(.base_last)) page.base.store(no);
        self.set_sent(no, 0);
        self.next_no = no;
        self.reclaimed_seen = no;
    }

    /// All cursors at `no`, no connection: a new window.
    pub fn reset_page(page: *WindowPage, no: u64) void {
        page.base.store(no);
        page.written.store(no);
        page.sent.msg = no;
        page.sent.frag = 0;
        page.acked.store(no);
        page.reclaimed.store(no);
        page.connection_id.store(0);
        page.connection_first.store(no);
        page.generations.current = 0;
        page.generations.next = 0;
    }

    /// What lies between the payload and the next multiple of 8 goes on the wire: never old bytes.
    inline fn clear_padding(self: *SendingWindow, end: u64) void {
        const used = end % limits.payload_alignment;
        if (used == 0) return;
        const padding = self.arena[end..][0 .. limits.payload_alignment - used];
        stores.will_put(padding);
        @memset(padding, 0);
    }

    inline fn put_node(self: *SendingWindow, value: *const Node) void {
        const slot = &self.nodes[self.index_of(value.tag - 1)];
        // Who reads in place and is a lap behind must not take the new fields for the old number's.
        if (!mutant.on(.tag_kept)) stores.release(&slot.tag, 0);
        if (mutant.on(.tag_first)) stores.release(&slot.tag, value.tag);
        barrier.stores();
        stores.put(&slot.offset8, value.offset8);
        stores.put(&slot.length, value.length);
        stores.put(&slot.msg_arg, value.msg_arg);
        stores.put(&slot.flags, value.flags);
        stores.put(&slot.check, value.check);
        stores.put(&slot.reserved, 0);
        cut.at(.tag);
        stores.release(&slot.tag, value.tag);
    }

    /// Recovery: nothing is kept under this number, and whoever asks is told so.
    pub fn put_lost(self: *SendingWindow, no: u64) void {
        var value: Node = .{
            .tag = no + 1,
            .offset8 = 0,
            .length = 0,
            .msg_arg = 0,
            .flags = layout.flag_lost,
            .check = 0,
        };
        value.check = value.checksum();
        self.put_node(&value);
    }
};

comptime {
    std.debug.assert(@offsetOf(SendingWindow, "next_no") % 64 == 0);
}

// ---- tests

const testing = std.testing;
const Bump = @import("pool.zig").Bump;

const TestWindow = struct {
    const chunks = 64;

    memory: []align(limits.page_bytes) u8,
    pool: *ChunkPool,
    window: SendingWindow,
    bump: Bump,

    fn init(capacity: u32) !TestWindow {
        const alignment: std.mem.Alignment = comptime .fromByteUnits(limits.page_bytes);
        const bytes = chunks * limits.chunk_bytes_min;
        const memory = try testing.allocator.alignedAlloc(u8, alignment, bytes);
        const pool = try testing.allocator.create(ChunkPool);
        pool.* = try .init(testing.allocator, .{
            .base = memory.ptr,
            .bytes = bytes,
            .chunk_bytes = limits.chunk_bytes_min,
        });
        const window: SendingWindow = try .create_in_memory(testing.allocator, capacity, memory);
        return .{ .memory = memory, .pool = pool, .window = window, .bump = Bump.init(pool).? };
    }

    fn deinit(self: *TestWindow) void {
        self.window.destroy_in_memory(testing.allocator);
        self.pool.deinit(testing.allocator);
        testing.allocator.destroy(self.pool);
        testing.allocator.free(self.memory);
    }

    /// Null when the arena or the ring is full.
    fn send(self: *TestWindow, text: []const u8, msg_arg: u16, flags: u16) ?u64 {
        if (self.window.ring_full()) return null;
        const header = limits.message_header_bytes;
        const offset = self.bump.alloc(header + text.len, 8) orelse return null;
        @memcpy(self.pool.slice(offset + header, text.len), text);
        const length: u32 = @intCast(text.len);
        return self.window.publish(@intCast((offset + header) / 8), length, msg_arg, flags).?;
    }
};

test "messages lie in the arena as they go on the wire" {
    var t: TestWindow = try .init(1024);
    defer t.deinit();
    @memset(t.memory, 0xaa);
    try testing.expectEqual(0, t.send("hello", 7, 0).?);
    try testing.expectEqual(1, t.send("", 8, layout.flag_unsent).?);
    try testing.expectEqual(2, t.send("12345678", 0xffff, 0).?);
    const expected = "\x05\x00\x00\x00\x07\x00\x00\x00hello\x00\x00\x00" ++
        "\x00\x00\x00\x00\x08\x00\x00\x00" ++
        "\x08\x00\x00\x00\xff\xff\x00\x0012345678";
    const start = t.window.header_offset(t.window.node(0));
    try testing.expectEqualStrings(expected, t.window.arena_slice(start, expected.len));
    const node = t.window.node(1);
    try testing.expectEqual(layout.flag_unsent, node.flags);
    try testing.expectEqual(node.checksum(), node.check);
    try testing.expectEqualStrings("hello", t.window.payload(t.window.node(0)));
    try testing.expectEqual(null, t.window.published(3));
    try testing.expectEqual(3, t.window.written());
}

test "a full ring refuses until something is reclaimed" {
    var t: TestWindow = try .init(1024);
    defer t.deinit();
    for (0..1024) |i| try testing.expectEqual(i, t.send("x", 0, 0).?);
    try testing.expect(t.window.ring_full());
    try testing.expectEqual(null, t.window.publish(1, 0, 0, 0));
    t.window.set_sent(1000, 0);
    t.window.set_acked(3);
    try testing.expectEqual(null, t.send("x", 0, 0));
    t.window.reclaim_to(2, t.pool);
    try testing.expectEqual(1024, t.send("x", 0, 0).?);
    try testing.expectEqual(1025, t.send("x", 0, 0).?);
    try testing.expectEqual(null, t.send("x", 0, 0));
    try testing.expectEqual(1, t.window.index_of(1025));
}

test "numbers, cursors and memory through many laps" {
    var t: TestWindow = try .init(1024);
    defer t.deinit();
    var prng: std.Random.DefaultPrng = .init(0x5e);
    const random = prng.random();
    var text: [9000]u8 = undefined;
    var next: u64 = 0;
    while (next < 20_000) {
        if (random.boolean()) {
            const length = random.uintLessThan(usize, if (next % 50 == 0) text.len else 200);
            @memset(text[0..length], @truncate(next));
            if (t.send(text[0..length], @truncate(next), 0)) |no| {
                try testing.expectEqual(next, no);
                next += 1;
                continue;
            }
        }
        const acked = random.intRangeAtMost(u64, t.window.acked(), next);
        if (t.window.sent_msg() < acked) t.window.set_sent(acked, 0);
        for (t.window.acked()..acked) |no| {
            const node = t.window.node(no);
            for (t.window.payload(node)) |byte| {
                if (byte != @as(u8, @truncate(no))) return error.WrongContent;
            }
        }
        t.window.set_acked(acked);
        t.window.reclaim_to(random.intRangeAtMost(u64, t.window.reclaimed(), acked), t.pool);
    }
    t.window.set_acked(next);
    t.window.reclaim_to(next, t.pool);
    t.bump.close();
    try testing.expectEqual(TestWindow.chunks, t.pool.free_count());
}

test "an empty window goes on at a higher number" {
    var t: TestWindow = try .init(1024);
    defer t.deinit();
    for (0..10) |_| _ = t.send("abc", 1, 0).?;
    t.window.set_acked(10);
    t.window.start_at(5000, t.pool);
    t.bump.close();
    try testing.expectEqual(TestWindow.chunks, t.pool.free_count());
    t.bump = Bump.init(t.pool).?;
    t.window.set_connection(17, 5000);
    try testing.expectEqual(5000, t.send("abc", 1, 0).?);
    try testing.expectEqual(5000, t.window.reclaimed());
    try testing.expectEqual(5000, t.window.sent_msg());
    try testing.expectEqual(17, t.window.connection_id());
    try testing.expectEqual(5000, t.window.connection_first());
}
