//! Every bound of the native side by name, with the relations between them asserted at compile
//! time. Bounds that a user meets are also in the configuration's table of keys.

const std = @import("std");

/// The simulator reaches a few bounds only when they are low.
const is_simulated = @import("build_options").mutants;

// ---- messages (guide 9.3, 10.1)

/// Longest message in bytes; longer ones answer TOO_LARGE.
pub const message_bytes_max: u64 = 1 << 30;
/// Header in front of every message in the arena, the same bytes as in a packed datagram.
pub const message_header_bytes: u32 = 8;
/// Every payload in shared memory and in the log begins at a multiple of this.
pub const payload_alignment: u32 = 8;

// ---- regions and chunks

pub const page_bytes: u32 = 4096;
pub const cache_line_bytes: u32 = 64;
/// Offsets of payloads travel as u32 in units of `payload_alignment`: no region can be larger.
pub const region_bytes_max: u64 = (1 << 32) * @as(u64, payload_alignment);
pub const chunk_bytes_min: u32 = 4 * 1024;
pub const chunk_bytes_max: u32 = 1024 * 1024;
/// A region is cut into about this many chunks as long as a chunk stays within its bounds.
pub const chunk_count_aim: u32 = 4096;
pub const pool_chunks_max: u32 = 1 << 16;
/// Runs over 1/8 of a pool are taken from its high end.
pub const pool_large_run_divisor: u32 = 8;
/// Allocations over 1/8 of a chunk try to extend the open chunk before they take one of their own.
pub const bump_small_divisor: u32 = 8;
/// Allocators on one pool at the same time (64 threads for each transmitter, made on first use).
pub const bump_owners_max: u32 = 4095;
/// Allocations that may lie in one chunk: the bits of a chunk's reference count.
pub const chunk_references_max: u32 = (1 << 20) - 1;

// ---- sending window (guide 8.3)

pub const node_bytes: u32 = 32;
pub const node_count_min: u32 = 1024;
pub const node_count_max: u32 = 1 << 20;
/// Arena bytes for each node of a window's ring.
pub const arena_bytes_per_node: u32 = 256;
/// Arena of a context, `MaxMemoryAllowedMBytes` (one chunk of slack and a page come on top).
pub const arena_bytes_min: u64 = 1 << 20;
pub const arena_bytes_max: u64 = region_bytes_max - chunk_bytes_max - page_bytes;

/// Pages that a background thread maps (`UsePreAllocate: 0`): of the arena so much over what is in
/// use, and how often it looks where that is not all.
pub const prefault_ahead_bytes: u64 = 256 << 20;
pub const prefault_look_every_ns: u64 = 100_000_000;
/// Of the arena before it turns to the nodes.
pub const prefault_first_bytes: u64 = 4 << 20;

// ---- windows that are read in place (guide 7.2.6)
/// Receivers that read one window in place.
pub const shm_peers_max = 32;
/// Messages that a receiver may have taken from a window and not processed.
pub const shm_claim_max = if (is_simulated) 64 else 1024;
/// Messages that it claims at once: a barrier each time.
pub const shm_claim_step = if (is_simulated) 16 else 256;
/// Of an arena's chunks, those that one receiver may hold once it hangs: one in so many. A message
/// that is larger is held all the same, alone.
pub const shm_claim_share = 16;
/// How often a thread that would sleep looks for frames of receivers, and for acknowledgements
/// while somebody waits for room.
pub const shm_look_ns = 20 * std.time.ns_per_ms;
pub const shm_look_soon_ns = 1 * std.time.ns_per_ms;

// ---- names and files (guide 8.3)

pub const context_name_bytes_max: u32 = 63;
pub const topic_name_bytes_max: u32 = 127;
pub const partition_max: u32 = 65535;
/// A file name in a folder of Linux.
pub const file_name_bytes_max: u32 = 255;
/// Released mappings of a process that are kept for reuse.
pub const region_cache_entries_max: u32 = 1024;

// ---- ordered log

/// Bytes of undelivered and half-assembled messages, `ReceiveMemoryMBytes`.
pub const receive_bytes_min: u64 = 8 << 20;
pub const receive_bytes_max: u64 = region_bytes_max;

// ---- record files (guide 8.4)

/// Record files are laid out in blocks of this size, and the receive log's chunks are as large
/// while it is recorded: a block is mapped where its chunk lies.
pub const record_block_bytes: u32 = if (is_simulated) 16 * 1024 else 512 * 1024;
/// In front of the records of a block.
pub const record_block_header_bytes: u32 = 64;
/// One record file, `RecordSegmentMBytes`. A message that is larger gets a file of its own size.
pub const record_file_bytes_min: u64 = 8 << 20;
pub const record_file_bytes_max: u64 = 2 << 30;
/// Streams that a record may know; the sessions' own bound is the same.
pub const record_streams_max: u32 = 1024;
/// The next file is made when so much is left of the current one.
pub const record_ahead_bytes: u64 = if (is_simulated) 64 * 1024 else 64 << 20;
/// Record files of one context.
pub const record_files_max: u32 = 100_000;
/// Early datagrams are not mapped from files: they get this part of the receive memory.
pub const record_holding_divisor = 4;

/// Chunk size of a region: a power of two that gives about `chunk_count_aim` chunks.
pub fn chunk_bytes_for(region_bytes: u64) u32 {
    const aim = std.math.clamp(region_bytes / chunk_count_aim, chunk_bytes_min, chunk_bytes_max);
    return @intCast(std.math.floorPowerOfTwo(u64, aim));
}

/// Chunks of an arena that a receiver may hold once it hangs.
pub fn shm_claim_chunks(pool_bytes: u64, chunk_bytes: u32) u32 {
    return @max(1, @as(u32, @intCast(pool_bytes / chunk_bytes)) / shm_claim_share);
}

/// Nodes in the ring of a window over an arena: the next power of two of a node for each
/// `arena_bytes_per_node`, within its bounds.
pub fn node_count_for(arena_bytes: u64) u32 {
    const wanted = arena_bytes / arena_bytes_per_node;
    if (wanted >= node_count_max) return node_count_max;
    if (wanted <= node_count_min) return node_count_min;
    return @intCast(std.math.ceilPowerOfTwoAssert(u64, wanted));
}

comptime {
    const ok = std.debug.assert;
    ok(std.math.isPowerOfTwo(chunk_bytes_min) and std.math.isPowerOfTwo(chunk_bytes_max));
    ok(chunk_bytes_min >= page_bytes);
    ok(pool_chunks_max >= region_bytes_max / chunk_bytes_max);
    ok(pool_chunks_max > chunk_count_aim * 2);
    // A chunk full of the smallest allocations can't overflow its reference count.
    ok(chunk_bytes_max / payload_alignment <= chunk_references_max);
    ok(bump_owners_max <= std.math.maxInt(u12));
    ok(std.math.isPowerOfTwo(node_count_min) and std.math.isPowerOfTwo(node_count_max));
    // Half a ring is whole pages, so that the two block files map back to back.
    ok(node_count_min / 2 * node_bytes % page_bytes == 0);
    ok(node_count_max * node_bytes <= region_bytes_max);
    ok(message_bytes_max <= std.math.maxInt(u32) - 2);
    ok(shm_claim_step <= shm_claim_max);
    ok(message_header_bytes % payload_alignment == 0);
    ok(record_block_bytes % page_bytes == 0 and record_block_bytes >= chunk_bytes_min);
    ok(record_block_bytes <= chunk_bytes_max);
    ok(record_file_bytes_min % record_block_bytes == 0);
    ok(is_simulated or pool_chunks_max >= region_bytes_max / record_block_bytes);
    ok(record_block_header_bytes % cache_line_bytes == 0);
    ok(arena_bytes_min >= 8 * chunk_bytes_min);
}

test "chunk sizes follow the region" {
    const expectEqual = std.testing.expectEqual;
    try expectEqual(4096, chunk_bytes_for(1 << 20));
    try expectEqual(4096, chunk_bytes_for(31 << 20));
    try expectEqual(64 << 10, chunk_bytes_for(256 << 20));
    try expectEqual(256 << 10, chunk_bytes_for(1100 << 20));
    try expectEqual(1 << 20, chunk_bytes_for(region_bytes_max));
}

test "node counts follow the arena" {
    const expectEqual = std.testing.expectEqual;
    try expectEqual(4096, node_count_for(1 << 20));
    try expectEqual(1024, node_count_for(1));
    try expectEqual(1 << 20, node_count_for(256 << 20));
    try expectEqual(1 << 20, node_count_for(1 << 34));
    try expectEqual(32768, node_count_for(5 << 20));
}
