//! The datagrams between members of a tier (guide 8, design: replication and election).
//!
//! They share the first 32 bytes with all others (`frame.Header`): there `source` is the context
//! that says it, `transport` the tier's id (the lowest context id of its members), `connection` the
//! nonce of the speaker's start, `number` a sqn. The body begins with the epoch that it is said in
//! and whom it is for. A member that gets one of a lower epoch than it has promised refuses it.
//!
//!     leader -> all:         SQN (entries), COMMIT (heartbeat)
//!     follower -> leader:    SQN_ACK, SQN_NAK, JOIN, PULL, STREAM_ASK
//!     to who asked:          JOIN_REPLY, FILL (entries with their bytes), STREAM, SQN (again)
//!     candidate -> all:      PREPARE;   to the candidate: PROMISE;   to anybody: REFUSE
//!     leader -> followers:   TX_ACKED (what receivers acknowledged of the tier's own streams)

const std = @import("std");
const frame = @import("frame.zig");
const assert = @import("../assert.zig").assert;
const epoch_file = @import("../tier/epoch.zig");
const Entry = @import("../tier/entry.zig").Entry;
const StreamEntry = @import("../order/record_file.zig").StreamEntry;
const message_bytes_max = @import("../limits.zig").message_bytes_max;
const Header = frame.Header;
const Epoch = epoch_file.Epoch;
const Era = epoch_file.Era;

pub const Type = enum(u8) {
    sqn = 32,
    sqn_ack = 33,
    sqn_nak = 34,
    commit = 35,
    prepare = 36,
    promise = 37,
    refuse = 38,
    join = 39,
    join_reply = 40,
    pull = 41,
    fill = 42,
    stream_ask = 43,
    stream = 44,
    tx_acked = 45,
};

/// At the start of every body.
pub const Said = extern struct {
    epoch: Epoch,
    /// Context id; 0: everybody.
    to: u16 = 0,
    reserved: u16 = 0,
    reserved2: u32 = 0,
};

/// header.number: sqn of the first entry; `count` entries follow.
pub const Sqn = extern struct {
    said: Said,
    /// First sqn that the epoch assigned.
    first: u64,
    committed: u64,
    /// One past the last sqn that was assigned.
    next: u64,
    count: u32,
    reserved: u32 = 0,
};

/// header.number: one past the last sqn that was assigned.
pub const Commit = extern struct {
    said: Said,
    first: u64,
    committed: u64,
};

/// header.number: everything below is in this member's log, and forced where that is asked for.
pub const SqnAck = extern struct {
    said: Said,
    /// 1: this member's log is intact, so that it counts.
    is_intact: u32,
    reserved: u32 = 0,
    /// One past the last sqn that its program was given.
    handed: u64,
};

/// header.number: first sqn of the range whose entries are missing.
pub const SqnNak = extern struct {
    said: Said,
    end: u64,
};

/// header.number: 0.
pub const Prepare = extern struct {
    said: Said,
    config_hash: u64,
};

/// header.number: one past the last sqn of the log.
pub const Promise = extern struct {
    said: Said,
    adopted: Epoch,
    config_hash: u64,
    is_intact: u32,
    reserved: u32 = 0,
};

/// header.number: 0. `said.epoch` is the one that is refused.
pub const Refuse = extern struct {
    said: Said,
    promised: Epoch,
};

/// header.number: one past the last sqn of the log. `said.epoch`: the highest that was heard of.
pub const Join = extern struct {
    said: Said,
    config_hash: u64,
    /// First era that the answer is to have.
    era_from: u32,
    /// 1: an observer.
    is_observer: u32,
    /// Grows with each joining of a start; the answers quote it.
    question: u32,
    reserved: u32 = 0,
};

/// header.number: one past the last sqn that was assigned. `count` eras follow.
pub const JoinReply = extern struct {
    said: Said,
    /// Of the start that asked.
    nonce: u64,
    first: u64,
    committed: u64,
    config_hash: u64,
    era_total: u32,
    era_from: u32,
    count: u32,
    /// 1: an established leader answers; 0: a member whose log is taken over.
    is_leader: u32,
    /// Of the JOIN. A late answer to an earlier one names less than the log may have by now.
    question: u32,
    reserved: u32 = 0,
};

/// header.number: sqn from which bytes are wanted, from `offset` of its payload on.
pub const Pull = extern struct {
    said: Said,
    offset: u32,
    /// Grows with each new begin; the answers quote it.
    request: u32,
    /// Bytes of datagrams that may be sent for this request in all.
    allowed_bytes: u64,
};

/// header.number: sqn of the first piece; `count` pieces follow, of sqns that follow each other.
pub const Fill = extern struct {
    said: Said,
    request: u32,
    count: u32,
};

/// In front of each piece's bytes, which are padded to a multiple of 8.
pub const Piece = extern struct {
    entry: Entry,
    offset: u32,
    bytes: u32,
};

/// header.number: 0. Who knows the entry's stream is asked what it is.
pub const StreamAsk = extern struct {
    said: Said,
    entry: Entry,
};

pub const StreamTold = extern struct {
    said: Said,
    entry: StreamEntry,
};

/// header.number: 0. `count` positions follow.
pub const TxAcked = extern struct {
    said: Said,
    count: u32,
    reserved: u32 = 0,
};

pub const TxPosition = extern struct { transport: u64, acked: u64 };

comptime {
    const ok = std.debug.assert;
    ok(@sizeOf(Said) == 24);
    ok(@sizeOf(Sqn) == 56);
    ok(@sizeOf(Commit) == 40);
    ok(@sizeOf(SqnAck) == 40);
    ok(@sizeOf(SqnNak) == 32);
    ok(@sizeOf(Prepare) == 32);
    ok(@sizeOf(Promise) == 56);
    ok(@sizeOf(Refuse) == 40);
    ok(@sizeOf(Join) == 48);
    ok(@sizeOf(JoinReply) == 80);
    ok(@sizeOf(Pull) == 40);
    ok(@sizeOf(Fill) == 32);
    ok(@sizeOf(Piece) == 48);
    ok(@sizeOf(StreamAsk) == 64);
    ok(@sizeOf(StreamTold) == 280);
    ok(@sizeOf(TxAcked) == 32);
}

fn body_bytes_min(kind: Type) u32 {
    return switch (kind) {
        .sqn => @sizeOf(Sqn),
        .sqn_ack => @sizeOf(SqnAck),
        .sqn_nak => @sizeOf(SqnNak),
        .commit => @sizeOf(Commit),
        .prepare => @sizeOf(Prepare),
        .promise => @sizeOf(Promise),
        .refuse => @sizeOf(Refuse),
        .join => @sizeOf(Join),
        .join_reply => @sizeOf(JoinReply),
        .pull => @sizeOf(Pull),
        .fill => @sizeOf(Fill),
        .stream_ask => @sizeOf(StreamAsk),
        .stream => @sizeOf(StreamTold),
        .tx_acked => @sizeOf(TxAcked),
    };
}

pub fn type_of(h: *const Header) ?Type {
    return std.enums.fromInt(Type, h.type);
}

pub const Decoded = union(enum) { ok: *const Header, refused: frame.Refusal };

/// Checks everything that does not depend on the state of the member: lengths, check, numbers, and
/// what follows the body. `tier`: the tier's id. A datagram that is sealed is refused: who has the
/// key opens it between `decode_header` and `decode_body` (`tier/sealing.zig`).
pub fn decode(bytes: []align(8) const u8, cluster: u16, tier: u16) Decoded {
    const h = switch (decode_header(bytes, cluster, tier)) {
        .ok => |h| h,
        .refused => |why| return .{ .refused = why },
    };
    if (h.flags().sealed) return .{ .refused = .bad_check };
    if (!decode_body(h)) return .{ .refused = .out_of_range };
    return .{ .ok = h };
}

/// What a header says; the body may be sealed.
pub fn decode_header(bytes: []align(8) const u8, cluster: u16, tier: u16) Decoded {
    if (bytes.len < frame.header_bytes) return .{ .refused = .bad_length };
    const h: *const Header = @ptrCast(bytes.ptr);
    if (h.magic != frame.magic or h.version != frame.version) return .{ .refused = .bad_magic };
    if (h.length != bytes.len or h.length % 8 != 0) return .{ .refused = .bad_length };
    if (h.cluster != cluster or h.transport != tier) return .{ .refused = .other_cluster };
    const kind = type_of(h) orelse return .{ .refused = .unknown_type };
    const trailer: u32 = if (h.flags().sealed) @sizeOf(frame.SealTrailer) else 0;
    const least = frame.header_bytes + body_bytes_min(kind) + trailer;
    if (h.length < least) return .{ .refused = .bad_length };
    const check = if (h.flags().sealed) 0 else frame.check_of(bytes);
    if (h.check != check) return .{ .refused = .bad_check };
    if (h.source == 0 or h.flags().reserved != 0) return .{ .refused = .out_of_range };
    if (h.number > frame.number_max or h.connection() > frame.number_max) {
        return .{ .refused = .out_of_range };
    }
    return .{ .ok = h };
}

/// What lies behind the header, opened. `decode_header` was satisfied.
pub fn decode_body(h: *const Header) bool {
    assert(!h.flags().sealed);
    if (said_of(h).epoch.number > frame.number_max) return false;
    return is_body_whole(h, type_of(h).?);
}

fn is_body_whole(h: *const Header, kind: Type) bool {
    const rest = h.length - frame.header_bytes - body_bytes_min(kind);
    switch (kind) {
        .sqn => {
            const b = body(Sqn, h);
            const most = rest / @sizeOf(Entry);
            if (b.count > most or rest != b.count * @sizeOf(Entry)) return false;
            if (b.next > frame.number_max or b.committed > b.next or b.first > b.next) return false;
            if (h.number + b.count > b.next) return false;
            for (entries_of(h)) |*e| if (!is_entry_whole(e)) return false;
            return true;
        },
        .commit => {
            const b = body(Commit, h);
            return b.committed <= h.number and b.first <= h.number;
        },
        .sqn_nak => {
            const end = body(SqnNak, h).end;
            return end > h.number and end <= frame.number_max;
        },
        .join_reply => {
            const b = body(JoinReply, h);
            if (b.count > rest / @sizeOf(Era) or rest != b.count * @sizeOf(Era)) return false;
            if (b.first > h.number or b.committed > h.number) return false;
            if (b.era_from > b.era_total or b.count > b.era_total - b.era_from) return false;
            return are_eras_ordered(eras_of(h), h.number);
        },
        .fill => return are_pieces_whole(h),
        .tx_acked => {
            const b = body(TxAcked, h);
            return b.count <= rest / @sizeOf(TxPosition) and rest == b.count * @sizeOf(TxPosition);
        },
        .stream => return is_stream_whole(&body(StreamTold, h).entry),
        else => return true,
    }
}

/// What a log has room for. Whether its stream is known is the member's to see.
fn is_entry_whole(e: *const Entry) bool {
    return e.connection <= frame.number_max and e.msg_no <= frame.number_max and
        e.time_ms <= frame.number_max and e.length <= message_bytes_max and e.is_tier <= 1;
}

fn is_stream_whole(e: *const StreamEntry) bool {
    if (!e.is_true() or e.source == 0 or e.transport == 0 or e.is_tier > 1) return false;
    if (e.connection > frame.number_max) return false;
    return frame.name_ok(e.name_bytes, &e.name);
}

fn are_eras_ordered(eras: []align(8) const Era, next: u64) bool {
    var last: ?Era = null;
    for (eras) |era| {
        if (epoch_file.is_none(era.epoch) or era.first_sqn > next) return false;
        if (last) |l| {
            if (era.first_sqn < l.first_sqn or era.epoch.number <= l.epoch.number) return false;
        }
        last = era;
    }
    return true;
}

fn are_pieces_whole(h: *const Header) bool {
    var it: PieceIterator = .init(h);
    var count: u32 = 0;
    while (it.next()) |_| count += 1;
    return !it.broken and count == body(Fill, h).count and count > 0;
}

pub fn said_of(h: *const Header) *const Said {
    return body(Said, h);
}

/// Body of a fixed layout. The length was checked by `decode`.
pub fn body(comptime T: type, h: *const Header) *const T {
    assert(h.length >= frame.header_bytes + @sizeOf(T));
    const p: [*]align(8) const u8 = @ptrCast(h);
    return @ptrCast(@alignCast(p + frame.header_bytes));
}

fn after(comptime T: type, h: *const Header) []align(8) const u8 {
    const p: [*]align(8) const u8 = @ptrCast(h);
    const at = frame.header_bytes + @sizeOf(T);
    return @alignCast(p[at..h.length]);
}

pub fn entries_of(h: *const Header) []const Entry {
    const bytes = after(Sqn, h);
    const first: [*]const Entry = @ptrCast(bytes.ptr);
    return first[0..body(Sqn, h).count];
}

pub fn eras_of(h: *const Header) []align(8) const Era {
    const bytes = after(JoinReply, h);
    const first: [*]const Era = @ptrCast(bytes.ptr);
    return first[0..body(JoinReply, h).count];
}

pub fn positions_of(h: *const Header) []const TxPosition {
    const bytes = after(TxAcked, h);
    const first: [*]const TxPosition = @ptrCast(bytes.ptr);
    return first[0..body(TxAcked, h).count];
}

pub const PieceIterator = struct {
    left: []align(8) const u8,
    broken: bool = false,

    pub fn init(h: *const Header) PieceIterator {
        return .{ .left = after(Fill, h) };
    }

    pub const Item = struct { piece: *const Piece, bytes: []const u8 };

    pub fn next(self: *PieceIterator) ?Item {
        if (self.left.len == 0) return null;
        if (self.left.len < @sizeOf(Piece)) return self.stop();
        const piece: *const Piece = @ptrCast(self.left.ptr);
        const rest = self.left[@sizeOf(Piece)..];
        const padded = frame.align8(@as(u64, piece.bytes));
        if (padded > rest.len) return self.stop();
        const end = @as(u64, piece.offset) + piece.bytes;
        if (end > piece.entry.length or !is_entry_whole(&piece.entry)) return self.stop();
        if (piece.bytes == 0 and piece.entry.length != 0) return self.stop();
        self.left = @alignCast(rest[@intCast(padded)..]);
        return .{ .piece = piece, .bytes = rest[0..piece.bytes] };
    }

    fn stop(self: *PieceIterator) ?Item {
        self.broken = true;
        return null;
    }
};

/// Entries that one SQN datagram of `datagram_bytes` takes.
pub fn entries_max(datagram_bytes: u32) u32 {
    return (datagram_bytes - frame.header_bytes - @sizeOf(Sqn)) / @sizeOf(Entry);
}

pub fn eras_max(datagram_bytes: u32) u32 {
    return (datagram_bytes - frame.header_bytes - @sizeOf(JoinReply)) / @sizeOf(Era);
}

/// Who says it: the same in all datagrams of a member's life.
pub const Speaker = struct { cluster: u16, tier: u16, id: u16, nonce: u64 };

/// Begins a datagram: header and zeroed body, which the caller fills. What follows the body is
/// written behind it, and `finish` is told the end.
pub fn begin(
    comptime T: type,
    kind: Type,
    image: []align(8) u8,
    speaker: Speaker,
    number: u64,
) *T {
    assert(image.len >= frame.header_bytes + @sizeOf(T));
    const h: *Header = @ptrCast(image.ptr);
    h.* = .{
        .type = @backingInt(kind),
        .length = frame.header_bytes + @sizeOf(T),
        .cluster = speaker.cluster,
        .check = 0,
        .source = speaker.id,
        .transport = speaker.tier,
        .connection_flags = .{ .connection = @intCast(speaker.nonce), .flags = .{} },
        .number = number,
    };
    const b: *T = @ptrCast(@alignCast(image.ptr + frame.header_bytes));
    b.* = std.mem.zeroes(T);
    return b;
}

/// Ends a datagram of `bytes`; they are a multiple of 8.
pub fn finish(image: []align(8) u8, bytes: u32) u32 {
    const h: *Header = @ptrCast(image.ptr);
    h.length = @intCast(bytes);
    frame.write_check(image[0..bytes]);
    return bytes;
}

pub fn room_behind(comptime T: type, image: []align(8) u8) []align(8) u8 {
    return @alignCast(image[frame.header_bytes + @sizeOf(T) ..]);
}
