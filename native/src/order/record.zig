//! What a record of the ordered log looks like, and the descriptor by which JavaScript is told of
//! one.
//!
//! A record is its header with the payload directly behind it, at a multiple of 8. The same bytes
//! are used in memory and in record files (`record_file.zig`): names, topic and arguments of a
//! stream stand once in a stream table, epoch and base sqn once a segment, so that a record costs
//! 40 bytes over its payload.
//!
//! In a segment records follow each other at multiples of 8. A header whose `length` is one of the
//! two marks below is not a record of its own:
//!   * `length_end`: nothing more in this segment, the order goes on in the next one (only its
//!     first four bytes are written; where a segment is full to the last byte there is no mark);
//!   * `length_reference`: the record with this place in the order lies in memory of its own,
//!     because it was assembled there (large messages); `msg_no` holds its offset in the region;
//!   * `length_in_place`: the payload lies in its sender's memory; a `Reference` follows.

const std = @import("std");
const crc32c = @import("../crc32c.zig");
const limits = @import("../limits.zig");

/// Directly in front of every payload in the log.
pub const RecordHeader = extern struct {
    /// Bytes of payload, or one of the marks.
    length: u32,
    /// CRC32C over payload, its padding and header where the record lies in a file; 0 in memory.
    check: u32,
    /// Place in the order of this context, contiguous.
    sqn: u64,
    /// Number of the message in its stream (sender context, topic, partition).
    msg_no: u64,
    /// Unix milliseconds of ordering; kept by replay.
    time_ms: u64,
    /// Id in the stream table of the context.
    stream: u32,
    msg_arg: u16,
    tx_arg: u16,
};

pub const length_end: u32 = std.math.maxInt(u32);
pub const length_reference: u32 = std.math.maxInt(u32) - 1;
pub const length_in_place: u32 = std.math.maxInt(u32) - 2;

/// Where a payload lies that is read in place.
pub const Reference = extern struct {
    /// Offset of the payload in that region, in units of 8 bytes.
    offset8: u32,
    /// Bytes of payload.
    length: u32,
    /// Number of the mapping, from 1; 0 is the receive log itself.
    region: u32,
    reserved: u32 = 0,
};

/// One message of a batch, in memory that native code owns and JavaScript reads.
pub const Descriptor = extern struct {
    /// Offset of the payload in its region, in units of 8 bytes.
    offset8: u32,
    /// Bytes of payload.
    length: u32,
    stream: u32,
    /// Low half: msg_arg. High half: tx_arg.
    args: u32,
    /// Exact: sqns stay below 2^53.
    sqn: f64,
    /// Offset of the record's header in the receive log, in units of 8 bytes.
    header8: u32,
    /// Which mapping holds the payload: 0, the receive log; others, windows that are read in place.
    region: u32,
};

/// What the appender knows of a message besides its bytes.
pub const Meta = struct {
    msg_no: u64,
    time_ms: u64,
    stream: u32,
    msg_arg: u16,
    tx_arg: u16,
};

pub const header_bytes: u32 = @sizeOf(RecordHeader);
/// A record whose payload lies elsewhere.
pub const in_place_bytes: u32 = header_bytes + @sizeOf(Reference);

/// Bytes that a record of `length` payload bytes takes in a segment.
pub inline fn record_bytes(length: u64) u64 {
    return std.mem.alignForward(u64, header_bytes + length, limits.payload_alignment);
}

/// The check of a record whose header is otherwise complete. `padded`: payload up to the end of
/// the record, where zeros follow.
pub inline fn check_of(header: *const RecordHeader, padded: []const u8) u32 {
    return check_from(crc32c.update(crc32c.initial, padded), header);
}

/// The same where the state behind `padded` is known.
pub inline fn check_from(state: u32, header: *const RecordHeader) u32 {
    var crc = state;
    crc = crc32c.next_u64(crc, @as(u64, header.stream) << 32 | header.length);
    crc = crc32c.next_u64(crc, header.sqn);
    crc = crc32c.next_u64(crc, header.msg_no);
    crc = crc32c.next_u64(crc, header.time_ms);
    crc = crc32c.next_u64(crc, @as(u64, header.tx_arg) << 16 | header.msg_arg);
    return ~crc;
}

/// The same of a reference, but for `msg_no`: where its message is mapped is another matter in
/// each process. In a file `time_ms` says where it lies (`record_file.Place`).
pub fn check_of_reference(header: *const RecordHeader) u32 {
    var stored = header.*;
    stored.msg_no = 0;
    return check_of(&stored, &.{});
}

comptime {
    const ok = std.debug.assert;
    ok(@sizeOf(RecordHeader) == 40 and @alignOf(RecordHeader) == 8);
    ok(@offsetOf(RecordHeader, "length") == 0);
    ok(@offsetOf(RecordHeader, "check") == 4);
    ok(@offsetOf(RecordHeader, "sqn") == 8);
    ok(@offsetOf(RecordHeader, "msg_no") == 16);
    ok(@offsetOf(RecordHeader, "time_ms") == 24);
    ok(@offsetOf(RecordHeader, "stream") == 32);
    ok(@offsetOf(RecordHeader, "msg_arg") == 36);
    ok(@offsetOf(RecordHeader, "tx_arg") == 38);
    ok(@sizeOf(Descriptor) == 32);
    ok(@offsetOf(Descriptor, "offset8") == 0);
    ok(@offsetOf(Descriptor, "length") == 4);
    ok(@offsetOf(Descriptor, "stream") == 8);
    ok(@offsetOf(Descriptor, "args") == 12);
    ok(@offsetOf(Descriptor, "sqn") == 16 and @offsetOf(Descriptor, "header8") == 24);
    ok(@sizeOf(Reference) == 16);
    ok(header_bytes % limits.payload_alignment == 0);
    ok(limits.message_bytes_max < length_in_place);
    ok(@import("builtin").cpu.arch.endian() == .little);
}

test "records stay aligned" {
    try std.testing.expectEqual(40, record_bytes(0));
    try std.testing.expectEqual(48, record_bytes(1));
    try std.testing.expectEqual(48, record_bytes(8));
    try std.testing.expectEqual(40 + (1 << 30), record_bytes(1 << 30));
}
