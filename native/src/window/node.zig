//! What lies in the files of a sending window (guide 8.3): layouts, and nothing else.
//!
//! The arena holds messages in wire form: an 8-byte header directly in front of the payload,
//! payloads at multiples of 8, and where messages were allocated one after another the next header
//! follows at the next multiple of 8, so that the network side copies a contiguous range of them
//! into a datagram at once.
//!
//! A node says where message `no` lies. Nodes form a ring over two block files, of which the first
//! holds the first half. `tag` is stored last with release, so that who sees `tag == no + 1` sees
//! the message.
//!
//! The cursors stand on a page of their own, each on its own cache line, each written by one
//! thread. A cursor that recovery depends on is stored twice, the complement first: a process that
//! dies between the two stores leaves the old value and the new one, both of which are true; a
//! flipped bit is seen.

const std = @import("std");
const builtin = @import("builtin");
const crc32c = @import("../crc32c.zig");
const limits = @import("../limits.zig");
const stores = @import("stores.zig");
const mutant = @import("../testing/mutant.zig");

/// In front of every payload in the arena; the same bytes as in a packed datagram.
pub const MessageHeader = extern struct {
    /// Bytes of payload.
    length: u32,
    msg_arg: u16,
    /// Reserved, 0.
    flags: u16 = 0,
};

/// The message was numbered while the send flag was off: nothing tells of it (api-rules 16).
pub const flag_unsent: u16 = 1 << 0;
/// Nothing is kept under this number: recovery found its node or message damaged. `length` is 0 and
/// there are no bytes; who asks for it is told that it is gone.
pub const flag_lost: u16 = 1 << 1;
pub const flags_known: u16 = flag_unsent | flag_lost;

pub const Node = extern struct {
    /// Message number + 1; 0 was never used. Stored last.
    tag: u64,
    /// Offset of the payload in the arena, in units of 8 bytes.
    offset8: u32,
    /// Bytes of payload.
    length: u32,
    msg_arg: u16,
    flags: u16,
    /// CRC32C of the other fields.
    check: u32,
    reserved: u64 = 0,

    /// The check that belongs to the other fields.
    pub inline fn checksum(self: *const Node) u32 {
        var crc = crc32c.initial;
        crc = crc32c.next_u64(crc, self.tag);
        crc = crc32c.next_u64(crc, @as(u64, self.length) << 32 | self.offset8);
        crc = crc32c.next_u64(crc, @as(u64, self.flags) << 16 | self.msg_arg);
        crc = crc32c.next_u64(crc, self.reserved);
        return ~crc;
    }
};

/// One cursor on its own cache line. One writer; readers load `value` with acquire.
pub const Cursor = extern struct {
    value: u64 align(64),
    /// Complement of `value`, stored before it.
    mirror: u64,
    pad: [48]u8,

    pub inline fn load(self: *const Cursor) u64 {
        return @atomicLoad(u64, &self.value, .acquire);
    }

    pub inline fn store(self: *Cursor, value: u64) void {
        stores.release(&self.mirror, ~(if (mutant.on(.mirror_late)) self.value else value));
        stores.release(&self.value, value);
    }
};

/// How far the network side sent: only this process needs it (recovery begins at `acked`).
pub const SentCursor = extern struct {
    msg: u64 align(64),
    frag: u64,
    pad: [48]u8,
};

/// Ids of the arena's generation that the nodes of this window belong to: see `generations.zig`.
pub const Generations = extern struct {
    current: u64 align(64),
    next: u64,
    pad: [48]u8,
};

pub const FileKind = enum(u32) {
    allocator = 1,
    window = 2,
    block_1 = 3,
    block_2 = 4,
    receiver = 5,
    counters = 6,
};

pub const file_magic: u64 = 0x314d_4853_204d_4352; // "RCM SHM1"
pub const file_version: u32 = 2;

/// At the start of each file; the page it stands on is `limits.page_bytes`.
pub const FileHeader = extern struct {
    magic: u64,
    version: u32,
    /// Of all structs here: files of another build with other layouts are refused.
    layout_hash: u32,
    kind: u32,
    header_bytes: u32,
    /// Bytes behind the header's page.
    body_bytes: u64,
    arena_bytes: u64,
    chunk_bytes: u32,
    node_count: u32,
    partition: u32,
    context_bytes: u16,
    topic_bytes: u16,
    context: [64]u8,
    topic: [128]u8,
    reserved: u64 = 0,
    /// CRC32C of everything in front of it.
    check: u32,
    /// Process that has the file open, for messages only (the lock decides).
    pid: u32,

    pub fn checksum(self: *const FileHeader) u32 {
        const bytes = std.mem.asBytes(self);
        return std.hash.crc.@"CRC-32/ISCSI".hash(bytes[0..@offsetOf(FileHeader, "check")]);
    }
};

/// First page of the allocator's file; chunks follow at `limits.page_bytes`.
pub const ArenaPage = extern struct {
    header: FileHeader,
    pad: [512 - @sizeOf(FileHeader)]u8,
    /// Random, another at each start of an owner.
    generation: Cursor,
};

/// First page of the `..._sendingwindow` file; its `FrameRing` follows.
pub const WindowPage = extern struct {
    header: FileHeader,
    pad: [512 - @sizeOf(FileHeader)]u8,
    /// Number of the next message. Writer: the producer.
    written: Cursor,
    /// Next message, and fragment of it, to be sent. Writer: the network side.
    sent: SentCursor,
    /// Every receiver that counts has all below. Writer: the network side.
    acked: Cursor,
    /// Nothing is kept below. Writer: the network side.
    reclaimed: Cursor,
    /// Orders the starts of this sender; 0: never connected. Writer: the network side.
    connection_id: Cursor,
    /// First number of the connection. Writer: the network side.
    connection_first: Cursor,
    /// The other cursors are never below this: set first when the numbers jump ahead.
    base: Cursor,
    generations: Generations,
    rest: [limits.page_bytes - 1024]u8,
};

/// One frame on its way through shared memory. Who writes it clears `tag`, writes, and stores `tag`
/// last; who reads it looks at `tag` before and after.
pub const Cell = extern struct {
    /// Number of the frame + 1.
    tag: u64 align(64),
    bytes: u32,
    reserved: u32,
    data: [240]u8,
};

pub const cell_data_bytes = 240;
pub const cells = 32;

/// The last frames of one writer, for any number of readers; who is too slow misses some, as on a
/// network. A sender's lies behind its `WindowPage`, a receiver's behind its `ReceiverPage`.
pub const FrameRing = extern struct {
    cells: [32]Cell,
};

/// What a thread sleeps on that others wake through shared memory.
pub const Bell = extern struct {
    /// 1 while the owner sleeps or is about to; whoever takes it back to 0 has to ring.
    sleeping: u32 align(64),
    /// Counted up by each ring; the word of the futex.
    rings: u32,
    pad: [56]u8,
};

/// First page of the `..._receiver` file of a context that reads others' windows: its `FrameRing`
/// and its `Slot`s follow. Writer: the receiving context; senders only ring the bell.
pub const ReceiverPage = extern struct {
    header: FileHeader,
    pad: [512 - @sizeOf(FileHeader)]u8,
    bell: Bell,
    /// Id of the context.
    context_id: u32 align(64),
    slot_count: u32,
    /// 1: its thread sleeps when there is nothing to do. 0: it never does, and is not rung for.
    sleeps: u32,
    line: [52]u8,
    rest: [limits.page_bytes - 640]u8,
};

/// What a receiving context tells the sender of one stream. One of these for each window that it
/// reads or may come to read.
pub const Slot = extern struct {
    /// Everything below was processed. Writer: the thread that processes.
    consumed: u64 align(64),
    pad: [56]u8,
    /// The receiver may read what lies below, wherever `reclaimed` goes. Writer: the receive agent.
    claimed: u64 align(64),
    /// Connection that `consumed` counts in; 0: none agreed. Writer: the receive agent.
    connection: u64,
    /// Everything below was acknowledged by the program, where `is_manual` is 1; `consumed` then
    /// says what was copied. Writer: the receive agent.
    processed: u64,
    is_manual: u32,
    pad_2: [36]u8,
    /// Context that sends, and its transport; 0: not in use. Writer: start.
    source: u32 align(64),
    transport: u32,
    pad_3: [120]u8,
};

pub const layout_hash: u32 = blk: {
    var hash: u32 = 2166136261;
    const all = .{
        MessageHeader, Node,       Cursor,    SentCursor,
        Generations,   FileHeader, ArenaPage, WindowPage,
        Cell,          FrameRing,  Bell,      ReceiverPage,
        Slot,
    };
    @setEvalBranchQuota(20_000);
    for (all) |T| {
        for (@typeInfo(T).@"struct".field_names) |name| {
            for (name) |byte| hash = (hash ^ byte) *% 16777619;
            hash = (hash ^ @as(u32, @offsetOf(T, name))) *% 16777619;
        }
        hash = (hash ^ @as(u32, @sizeOf(T))) *% 16777619;
    }
    break :blk hash;
};

comptime {
    const ok = std.debug.assert;
    ok(builtin.cpu.arch.endian() == .little);
    ok(@sizeOf(MessageHeader) == limits.message_header_bytes);
    ok(@offsetOf(MessageHeader, "msg_arg") == 4 and @offsetOf(MessageHeader, "flags") == 6);
    ok(@sizeOf(Node) == limits.node_bytes and @alignOf(Node) == 8);
    ok(@offsetOf(Node, "offset8") == 8 and @offsetOf(Node, "length") == 12);
    ok(@offsetOf(Node, "msg_arg") == 16 and @offsetOf(Node, "flags") == 18);
    ok(@offsetOf(Node, "check") == 20 and @offsetOf(Node, "reserved") == 24);
    ok(@sizeOf(Cursor) == 64 and @sizeOf(SentCursor) == 64 and @sizeOf(Generations) == 64);
    ok(@sizeOf(FileHeader) == 264);
    ok(@offsetOf(FileHeader, "context") == 56 and @offsetOf(FileHeader, "topic") == 120);
    ok(@offsetOf(FileHeader, "check") == 256 and @offsetOf(FileHeader, "pid") == 260);
    ok(@sizeOf(WindowPage) == limits.page_bytes);
    ok(@sizeOf(ArenaPage) <= limits.page_bytes);
    ok(@offsetOf(ArenaPage, "generation") == 512);
    ok(@offsetOf(WindowPage, "written") == 512 and @offsetOf(WindowPage, "sent") == 576);
    ok(@offsetOf(WindowPage, "acked") == 640 and @offsetOf(WindowPage, "reclaimed") == 704);
    ok(@offsetOf(WindowPage, "connection_id") == 768);
    ok(@offsetOf(WindowPage, "connection_first") == 832);
    ok(@offsetOf(WindowPage, "base") == 896 and @offsetOf(WindowPage, "generations") == 960);
    ok(@sizeOf(Cell) == 256 and @offsetOf(Cell, "data") == 16);
    ok(@sizeOf(FrameRing) % limits.page_bytes == 0 and @sizeOf(Bell) == 64);
    ok(@sizeOf(ReceiverPage) == limits.page_bytes and @offsetOf(ReceiverPage, "bell") == 512);
    ok(@offsetOf(ReceiverPage, "context_id") == 576);
    ok(@sizeOf(Slot) == 256 and @offsetOf(Slot, "claimed") == 64);
    ok(@offsetOf(Slot, "source") == 128);
    ok(limits.context_name_bytes_max < 64 and limits.topic_name_bytes_max < 128);
}

test "the check of a node is CRC32C and sees every bit" {
    var node: Node = .{
        .tag = 0x1234_5678_9abc,
        .offset8 = 77,
        .length = 1000,
        .msg_arg = 5,
        .flags = flag_unsent,
        .check = 0,
    };
    var words: [4]u64 = undefined;
    words[0] = node.tag;
    words[1] = @as(u64, node.length) << 32 | node.offset8;
    words[2] = @as(u64, node.flags) << 16 | node.msg_arg;
    words[3] = 0;
    const expected = std.hash.crc.@"CRC-32/ISCSI".hash(std.mem.asBytes(&words));
    try std.testing.expectEqual(expected, node.checksum());
    const bytes = std.mem.asBytes(&node);
    for (bytes, 0..) |*byte, i| {
        if (i >= @offsetOf(Node, "check") and i < @offsetOf(Node, "reserved")) continue;
        for (0..8) |bit| {
            byte.* ^= @as(u8, 1) << @intCast(bit);
            try std.testing.expect(node.checksum() != expected);
            byte.* ^= @as(u8, 1) << @intCast(bit);
        }
    }
}

test "a cursor is stored with its complement" {
    var cursor: Cursor = std.mem.zeroes(Cursor);
    cursor.store(99);
    try std.testing.expectEqual(99, cursor.load());
    try std.testing.expectEqual(~@as(u64, 99), cursor.mirror);
}
