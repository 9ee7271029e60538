//! What lies in the record files of a context (guide 8.4): layouts, and nothing else.
//!
//! A file is blocks of one size. The first holds the file's header and its table of streams; each
//! of the others is a segment of the log, the first of a run that holds one large message, or not
//! in use (zeros). A block in use begins with a `BlockHeader`; records follow as in memory
//! (`record.zig`), with their checks. Segments follow each other in the order of their numbers;
//! their first sqn must be the one that follows the last record of the segment in front of them.
//!
//! Nothing that was written is written again, but for what recovery cuts.

const std = @import("std");
const crc32c = @import("../crc32c.zig");
const limits = @import("../limits.zig");
const layout = @import("../window/node.zig");

pub const magic: u64 = 0x3143_4552_204d_4352; // "RCM REC1"
pub const version: u32 = 2;

/// At the start of a file.
pub const RecordFileHeader = extern struct {
    /// Written last: 0 means never finished.
    magic: u64 = magic,
    version: u32 = version,
    layout_hash: u32,
    file_no: u32,
    block_bytes: u32 = limits.record_block_bytes,
    /// Blocks, the first included.
    block_count: u32,
    context_id: u32,
    /// No segment in this file begins below.
    base_sqn: u64,
    /// A number that only this start has.
    life: u64,
    reserved_epoch: [16]u8 = @splat(0),
    context_bytes: u32,
    reserved: u32 = 0,
    context: [64]u8,
    zeros: [120]u8 = @splat(0),
    /// CRC32C of what is in front of it.
    check: u32 = 0,
    /// Process that has it open.
    pid: u32,

    pub fn check_now(self: *const RecordFileHeader) u32 {
        const checked = std.mem.asBytes(self)[0..@offsetOf(RecordFileHeader, "check")];
        return ~crc32c.update(crc32c.initial, checked);
    }

    pub fn is_true(self: *const RecordFileHeader, file_no: u32) bool {
        return self.magic == magic and self.version == version and
            self.layout_hash == layout_hash and self.check == self.check_now() and
            self.file_no == file_no and self.block_bytes == limits.record_block_bytes and
            self.context_bytes <= self.context.len;
    }

    pub fn name(self: *const RecordFileHeader) []const u8 {
        return self.context[0..self.context_bytes];
    }
};

/// What a stream is, from one sqn on. Behind the file's header, from `table_offset` on.
pub const StreamEntry = extern struct {
    /// CRC32C of what is behind it.
    check: u32 = 0,
    /// Number of the stream in records.
    id: u32,
    /// Of the sender's session, from `first_sqn` on.
    connection: u64,
    first_sqn: u64,
    source: u16,
    transport: u16,
    partition: u16,
    tx_arg: u16,
    /// 1: the sender is a tier.
    is_tier: u8,
    name_bytes: u8,
    topic_bytes: u8,
    pad: u8 = 0,
    reserved: u32 = 0,
    /// Name of the sending context.
    name: [64]u8,
    topic: [128]u8,
    zeros: [24]u8 = @splat(0),

    pub fn check_now(self: *const StreamEntry) u32 {
        return ~crc32c.update(crc32c.initial, std.mem.asBytes(self)[@sizeOf(u32)..]);
    }

    pub fn is_true(self: *const StreamEntry) bool {
        return self.check == self.check_now() and self.name_bytes <= self.name.len and
            self.topic_bytes <= self.topic.len;
    }

    pub fn is_unused(self: *const StreamEntry) bool {
        return std.mem.allEqual(u8, std.mem.asBytes(self), 0);
    }
};

pub const BlockKind = enum(u32) { segment = 1, message = 2 };

/// At the start of a block that is in use.
pub const BlockHeader = extern struct {
    magic: u64 = magic,
    kind: u32,
    /// Blocks that belong together: 1 of a segment.
    blocks: u32,
    file_no: u32,
    block: u32,
    /// First sqn of a segment. Of a message: the next one when its memory was taken.
    base_sqn: u64,
    life: u64,
    /// Who gave the sqns of a segment (design of tiers: an era begins with a segment); 0 on a
    /// single node.
    epoch_number: u64 = 0,
    epoch_id: u64 = 0,
    zeros: [4]u8 = @splat(0),
    /// CRC32C of what is in front of it.
    check: u32 = 0,

    pub fn check_now(self: *const BlockHeader) u32 {
        const checked = std.mem.asBytes(self)[0..@offsetOf(BlockHeader, "check")];
        return ~crc32c.update(crc32c.initial, checked);
    }

    pub fn is_true(self: *const BlockHeader, file_no: u32, block: u32) bool {
        return self.magic == magic and self.check == self.check_now() and
            self.file_no == file_no and self.block == block and self.blocks > 0;
    }

    pub fn is_unused(self: *const BlockHeader) bool {
        return std.mem.allEqual(u8, std.mem.asBytes(self), 0);
    }
};

/// Where a block lies.
pub const Place = packed struct(u64) {
    block: u32,
    file_no: u32,

    pub fn offset(self: Place) u64 {
        return @as(u64, self.block) * limits.record_block_bytes;
    }
};

/// From here to the table: zeros, kept for what a tier changes while the file is open.
pub const state_offset: u32 = 512;
pub const table_offset: u32 = limits.page_bytes;
pub const entries_max: u32 = (limits.record_block_bytes - table_offset) / @sizeOf(StreamEntry);

pub const file_name_bytes = 32;

/// `rcm_sqn_data_<n>.dat`
pub fn file_name(buffer: *[file_name_bytes]u8, file_no: u32) []const u8 {
    return name_of(buffer, file_no, ".dat");
}

/// `rcm_sqn_data_<n>.dat.cut`
pub fn file_name_aside(buffer: *[file_name_bytes]u8, file_no: u32) []const u8 {
    return name_of(buffer, file_no, ".dat.cut");
}

fn name_of(buffer: *[file_name_bytes]u8, file_no: u32, comptime end: []const u8) []const u8 {
    var writer: std.Io.Writer = .fixed(buffer);
    const longest = "rcm_sqn_data_4294967295" ++ end;
    comptime std.debug.assert(longest.len <= file_name_bytes);
    writer.print("rcm_sqn_data_{d}" ++ end, .{file_no}) catch {}; // Never: it fits.
    return buffer[0..writer.end];
}

/// Changes with every change of a layout here.
pub const layout_hash: u32 = blk: {
    @setEvalBranchQuota(20_000);
    var hash: u32 = 0x811c_9dc5;
    for (.{ RecordFileHeader, StreamEntry, BlockHeader, @import("record.zig").RecordHeader }) |T| {
        const names = @typeInfo(T).@"struct".field_names;
        for (names) |field| {
            for (field) |byte| hash = (hash ^ byte) *% 0x0100_0193;
            hash = (hash ^ @as(u32, @offsetOf(T, field))) *% 0x0100_0193;
        }
        hash = (hash ^ @as(u32, @sizeOf(T))) *% 0x0100_0193;
    }
    break :blk hash;
};

comptime {
    const ok = std.debug.assert;
    ok(@sizeOf(RecordFileHeader) == 264);
    // `window/files.zig` names the owner of a file by the word that stands here.
    ok(@offsetOf(RecordFileHeader, "pid") == @offsetOf(layout.FileHeader, "pid"));
    ok(@offsetOf(RecordFileHeader, "check") == 256);
    ok(@sizeOf(StreamEntry) == 256);
    ok(@sizeOf(BlockHeader) == limits.record_block_header_bytes);
    ok(@sizeOf(RecordFileHeader) <= state_offset and state_offset < table_offset);
}
