//! The datagrams of RCM: one file for every layout, one `decode` for each kind.
//!
//! A datagram is a 32-byte header and a body, little-endian, its length a multiple of 8. The header
//! names the stream (who sends it: a context or a tier, and its id; and the transport, that is
//! topic and partition) and the connection, a 53-bit number that orders the starts of a sender.
//! What follows depends on the type:
//!
//!     sender -> receivers:   SYN, CONFIRM, DATA, FRAGMENT, HEARTBEAT, FILL, RST
//!     receiver -> sender:    SYN_REPLY, ACK, NAK, RST
//!
//! Nothing read from the network is used before it was checked here: lengths, version, type, ids,
//! ranges, sums without overflow. `decode_header` tells why a datagram was refused, and the caller
//! counts it. The document `docs/protocol.md` has the same tables in words; the Wireshark dissector
//! follows them.

const std = @import("std");
const crc32c = @import("../crc32c.zig");
const builtin = @import("builtin");
const limits = @import("../session/limits.zig");
const assert = @import("../assert.zig").assert;

pub const magic: u16 = 0x4d52; // "RM"
pub const version: u8 = 1;
pub const header_bytes = @sizeOf(Header);
pub const message_header_bytes = @sizeOf(MessageHeader);
pub const fragment_header_bytes = @sizeOf(FragmentHeader);
/// Room that an IPv4 header without options and a UDP header take of the MTU.
pub const ip_udp_bytes = 28;
/// Message and connection numbers stay exact in a float64 (`number` in JavaScript).
pub const number_max: u64 = (1 << 53) - 1;

pub const Type = enum(u8) {
    data = 1,
    fragment = 2,
    syn = 3,
    syn_reply = 4,
    confirm = 5,
    heartbeat = 6,
    ack = 7,
    nak = 8,
    rst = 9,
    fill = 10,
    // 32..45 are the tier's (`tier_frame.zig`), which go between its members' sockets only.
};

pub const Flags = packed struct(u8) {
    /// The stream's sender is a tier (the id is the tier's), not a context.
    tier: bool = false,
    /// The sender asks for an acknowledgement at once.
    ack_request: bool = false,
    /// The body is sealed with the group key and followed by a `SealTrailer`.
    sealed: bool = false,
    /// DATA and FRAGMENT: sent again because somebody asked.
    repair: bool = false,
    /// SYN: the sender has no first number yet and asks what receivers expect (`IsHandshake`).
    handshake: bool = false,
    /// ACK, SYN_REPLY: acknowledges what was processed (manual acknowledgement, tier), not what was
    /// logged.
    mandatory: bool = false,
    /// CONFIRM: the connection's numbers continue no earlier ones: the window was wiped, or new.
    fresh: bool = false,
    reserved: u1 = 0,
};

pub const Header = extern struct {
    magic: u16 = magic,
    version: u8 = version,
    type: u8,
    /// Bytes of the whole datagram, padding and seal included: a joined GRO buffer is walked by it.
    length: u16,
    cluster: u16,
    /// CRC32C of the datagram with this field 0; 0 when sealed (the seal says more).
    check: u32,
    /// The stream's sender: id of a context, or of a tier.
    source: u16,
    transport: u16,
    connection_flags: ConnectionFlags,
    /// DATA, FRAGMENT: message number. Others: see their body.
    number: u64,

    pub fn connection(self: *const Header) u64 {
        return self.connection_flags.connection;
    }
    pub fn flags(self: *const Header) Flags {
        return self.connection_flags.flags;
    }
};

pub const ConnectionFlags = packed struct(u64) { connection: u56, flags: Flags };

/// In front of each message of a DATA datagram, and of each message in the sender's arena.
pub const MessageHeader = extern struct {
    length: u32,
    msg_arg: u16,
    reserved: u16 = 0,
};
/// `MessageHeader.length` of the padding that ends a DATA datagram before its length.
pub const pad_length: u32 = std.math.maxInt(u32);

pub const FragmentHeader = extern struct {
    message_length: u32,
    fragment_no: u32,
    /// Bytes of every fragment but the last: fragment k starts at k * fragment_bytes.
    fragment_bytes: u16,
    msg_arg: u16,
    reserved: u32 = 0,
};

/// A place in a stream: fragment `frag` of message `msg`; a message that is not in fragments is
/// fragment 0.
pub const Position = struct {
    msg: u64,
    frag: u32 = 0,

    pub fn key(self: Position) u128 {
        return (@as(u128, self.msg) << 32) | self.frag;
    }
    pub fn less(a: Position, b: Position) bool {
        return a.msg < b.msg or (a.msg == b.msg and a.frag < b.frag);
    }
    pub fn eql(a: Position, b: Position) bool {
        return a.msg == b.msg and a.frag == b.frag;
    }
    pub fn max(a: Position, b: Position) Position {
        return if (less(a, b)) b else a;
    }
    pub fn min(a: Position, b: Position) Position {
        return if (less(a, b)) a else b;
    }
};

pub const Epoch = extern struct { number: u64 = 0, id: u64 = 0 };

/// header.number: the next message number (everything below was announced).
pub const Syn = extern struct {
    /// Lowest number that can still be repaired, and where a receiver without a position begins.
    first: u64,
    join_at: u64,
    epoch: Epoch,
    repair_ip: u32,
    repair_port: u16,
    tx_arg: u16,
    fragment_bytes: u16,
    group_size: u16,
    window_datagrams: u32,
    name_len: u16,
    pad: [6]u8 = @splat(0),
    name: [64]u8,
};

/// header.number: the number that the receiver expects next, if it has a position.
pub const SynReply = extern struct {
    /// Random, made for this challenge; CONFIRM must quote it.
    receiver_token: u64,
    /// Tells two starts of a receiver apart.
    instance: u64,
    receiver: u16,
    /// 0: none; 1: of this connection; 2: of an earlier one.
    has_position: u16,
    frag: u32,
    name_len: u16,
    pad: [6]u8 = @splat(0),
    name: [64]u8,
};

/// header.number: where the receiver begins or goes on.
pub const Confirm = extern struct {
    receiver_token: u64,
    /// ACK and NAK of this receiver quote it.
    session_token: u64,
    /// HEARTBEAT, FILL and RST of the sender quote it.
    stream_token: u64,
    epoch: Epoch,
    /// Lowest number that can still be repaired; a receiver below it has lost [its position,
    /// first).
    first: u64,
    announced: u64,
    /// The first number of the connection.
    connection_first: u64,
    receiver: u16,
    tx_arg: u16,
    fragment_bytes: u16,
    group_size: u16,
    window_datagrams: u32,
    pad: u32 = 0,
};

/// header.number: announced message; everything below (number, frag) was sent.
pub const Heartbeat = extern struct {
    stream_token: u64,
    epoch: Epoch,
    first: u64,
    frag: u32,
    group_size: u16,
    pad: u16 = 0,
};

/// header.number: everything below (number, frag) is in this context's log.
pub const Ack = extern struct {
    session_token: u64,
    /// Highest number heard of: tells the sender how far behind the receiver is.
    highest: u64,
    frag: u32,
    receiver: u16,
    /// 1: memory is used up, nothing is taken.
    no_memory: u16,
};

pub const Range = extern struct {
    start_msg: u64,
    end_msg: u64,
    start_frag: u32,
    end_frag: u32,

    pub fn start(self: Range) Position {
        return .{ .msg = self.start_msg, .frag = self.start_frag };
    }
    pub fn end(self: Range) Position {
        return .{ .msg = self.end_msg, .frag = self.end_frag };
    }
};

/// header.number: the number that the receiver expects next. `count` ranges follow, half open,
/// ascending.
pub const Nak = extern struct {
    session_token: u64,
    receiver: u16,
    count: u16,
    /// How often the first range was asked for: from the second on the repair may come by unicast.
    attempt: u32,
};

pub const RstReason = enum(u32) {
    /// Sender to receiver: this session is not (any more) known; answer the next SYN, or this, with
    /// a SYN_REPLY.
    unknown_session = 1,
    /// Either way: I stop now.
    closed = 2,
    /// Sender to receiver: disconnected after silence or without progress.
    disconnected = 3,
};

/// header.number: 0; of a sender that closes: its next message number.
pub const Rst = extern struct {
    /// The stream token (to receivers), or the session token (to the sender, or quoted back by it).
    token: u64,
    reason: u32,
    receiver: u16,
    pad: u16 = 0,
};

pub const FillReason = enum(u32) {
    /// Nothing was ever sent under these numbers: go on without a message.
    unused = 1,
    /// The messages are not kept any more: a loss.
    gone = 2,
};

/// header.number: start of the range [number, end).
pub const Fill = extern struct {
    stream_token: u64,
    end: u64,
    reason: u32,
    pad: u32 = 0,
};

/// Behind the body of a sealed datagram; `instance` and `counter` make the nonce unique under the
/// derived key.
pub const SealTrailer = extern struct {
    instance: u64,
    counter: u64,
    tag: [16]u8,
};

comptime {
    const ok = std.debug.assert;
    ok(builtin.cpu.arch.endian() == .little);
    ok(@sizeOf(Header) == 32);
    ok(@offsetOf(Header, "check") == 8);
    ok(@offsetOf(Header, "connection_flags") == 16);
    ok(@sizeOf(MessageHeader) == 8);
    ok(@sizeOf(FragmentHeader) == 16);
    ok(@sizeOf(Syn) == 120);
    ok(@sizeOf(SynReply) == 96);
    ok(@sizeOf(Confirm) == 80);
    ok(@sizeOf(Heartbeat) == 40);
    ok(@sizeOf(Ack) == 24);
    ok(@sizeOf(Range) == 24);
    ok(@sizeOf(Nak) == 16);
    ok(@sizeOf(Rst) == 16);
    ok(@sizeOf(Fill) == 24);
    ok(@sizeOf(SealTrailer) == 32);
    for (.{ Syn, SynReply, Confirm, Heartbeat, Ack, Nak, Rst, Fill }) |T| {
        ok(@sizeOf(T) % 8 == 0);
        ok(header_bytes + @sizeOf(T) + @sizeOf(SealTrailer) <= 576 - ip_udp_bytes);
    }
}

/// Largest number of ranges in a NAK of `datagram_bytes`.
pub fn nak_ranges_max(datagram_bytes: usize) usize {
    assert(datagram_bytes >= header_bytes + @sizeOf(Nak) + @sizeOf(Range));
    const room = (datagram_bytes - header_bytes - @sizeOf(Nak)) / @sizeOf(Range);
    return @min(limits.nak_ranges_max, room);
}

/// Sizes that follow from the MTU (and from sealing), as guide 9.13.4 reports them.
pub const Sizes = struct {
    /// `MaxUdpSize`: what the MTU leaves for UDP payload.
    udp_bytes: u32,
    /// The same, cut to a multiple of 8: the longest datagram built.
    datagram_bytes: u32,
    /// `AvailableSpace`: the longest message that goes in one datagram with no fragment header.
    message_bytes: u32,
    /// `RegularLength`: message bytes in a full fragment.
    fragment_bytes: u32,

    pub fn init(mtu: u32, is_sealed: bool) Sizes {
        assert(mtu >= 576 and mtu <= 65535);
        const udp = mtu - ip_udp_bytes;
        const datagram = udp & ~@as(u32, 7);
        const seal: u32 = if (is_sealed) @sizeOf(SealTrailer) else 0;
        return .{
            .udp_bytes = udp,
            .datagram_bytes = datagram,
            .message_bytes = datagram - header_bytes - message_header_bytes - seal,
            .fragment_bytes = datagram - header_bytes - fragment_header_bytes - seal,
        };
    }

    /// Fragments that a message of `length` bytes takes; 1 when it fits in a DATA datagram.
    pub fn fragments(self: Sizes, length: u32) u32 {
        if (length <= self.message_bytes) return 1;
        return fragment_count(length, self.fragment_bytes);
    }
};

pub fn fragment_count(length: u32, fragment_bytes: u32) u32 {
    assert(fragment_bytes > 0);
    return @intCast((@as(u64, length) + fragment_bytes - 1) / fragment_bytes);
}

pub fn align8(n: anytype) @TypeOf(n) {
    return (n + 7) & ~@as(@TypeOf(n), 7);
}

/// Why a datagram was refused; each has its counter.
pub const Refusal = enum {
    bad_magic,
    bad_length,
    bad_check,
    other_cluster,
    unknown_type,
    out_of_range,
};

pub const Decoded = union(enum) {
    ok: *const Header,
    refused: Refusal,
};

/// Checks everything about a datagram that does not depend on a session. `bytes` is one datagram,
/// or what is left of a joined buffer: only `header.length` of it belongs to this datagram.
pub fn decode_header(bytes: []const u8, cluster: u16) Decoded {
    if (bytes.len < header_bytes) return .{ .refused = .bad_length };
    if (!std.mem.isAligned(@intFromPtr(bytes.ptr), 8)) return .{ .refused = .bad_length };
    const h: *const Header = @ptrCast(@alignCast(bytes.ptr));
    if (h.magic != magic or h.version != version) return .{ .refused = .bad_magic };
    if (h.length < header_bytes or h.length % 8 != 0 or h.length > bytes.len) {
        return .{ .refused = .bad_length };
    }
    if (h.cluster != cluster) return .{ .refused = .other_cluster };
    const kind = type_of(h) orelse return .{ .refused = .unknown_type };
    if (h.source == 0 or h.transport == 0) return .{ .refused = .out_of_range };
    if (h.number > number_max or h.connection() > number_max) return .{ .refused = .out_of_range };
    if (h.flags().reserved != 0) return .{ .refused = .out_of_range };
    if (h.flags().sealed) {
        if (h.length < header_bytes + body_bytes_min(kind) + @sizeOf(SealTrailer)) {
            return .{ .refused = .bad_length };
        }
        if (h.check != 0) return .{ .refused = .bad_check };
    } else {
        if (h.length < header_bytes + body_bytes_min(kind)) return .{ .refused = .bad_length };
        if (h.check != check_of(bytes[0..h.length])) return .{ .refused = .bad_check };
    }
    return .{ .ok = h };
}

pub fn type_of(h: *const Header) ?Type {
    return std.enums.fromInt(Type, h.type);
}

/// Something that its sender answers to the receiver that said it.
pub fn is_asking(datagram: []align(8) const u8) bool {
    const h: *const Header = @ptrCast(datagram.ptr);
    return h.type == @backingInt(Type.nak) or h.type == @backingInt(Type.syn_reply);
}

fn body_bytes_min(kind: Type) u32 {
    return switch (kind) {
        .data => message_header_bytes,
        .fragment => fragment_header_bytes,
        .syn => @sizeOf(Syn),
        .syn_reply => @sizeOf(SynReply),
        .confirm => @sizeOf(Confirm),
        .heartbeat => @sizeOf(Heartbeat),
        .ack => @sizeOf(Ack),
        .nak => @sizeOf(Nak),
        .rst => @sizeOf(Rst),
        .fill => @sizeOf(Fill),
    };
}

/// CRC32C of a datagram as if its check field were 0.
pub fn check_of(datagram: []const u8) u32 {
    assert(datagram.len >= header_bytes);
    const rest_at = @offsetOf(Header, "check") + @sizeOf(u32);
    const first = std.mem.readInt(u64, datagram[0..8], .little);
    // The check is the low half of the second word.
    const second = @as(u64, std.mem.readInt(u32, datagram[rest_at..][0..4], .little)) << 32;
    const begun = crc32c.next_u64(crc32c.next_u64(crc32c.initial, first), second);
    return ~crc32c.update(begun, datagram[16..]);
}

comptime {
    std.debug.assert(@offsetOf(Header, "check") == 8);
}

/// Last step of building a datagram that is not sealed.
pub fn write_check(datagram: []u8) void {
    assert(datagram.len >= header_bytes and datagram.len % 8 == 0);
    const h: *Header = @ptrCast(@alignCast(datagram.ptr));
    assert(h.length == datagram.len);
    h.check = check_of(datagram);
}

/// The bytes behind the header, without a seal.
pub fn body_of(h: *const Header) []const u8 {
    const p: [*]const u8 = @ptrCast(h);
    const seal: usize = if (h.flags().sealed) @sizeOf(SealTrailer) else 0;
    return p[header_bytes .. h.length - seal];
}

/// Body of a fixed layout. The length was checked by `decode_header`.
pub fn body(comptime T: type, h: *const Header) *const T {
    const bytes = body_of(h);
    assert(bytes.len >= @sizeOf(T));
    return @ptrCast(@alignCast(bytes.ptr));
}

pub fn decode_syn(h: *const Header) ?*const Syn {
    const s = body(Syn, h);
    if (s.first > s.join_at or s.first > h.number) return null;
    if (s.join_at > number_max) return null;
    if (s.fragment_bytes < fragment_bytes_min or s.window_datagrams == 0) return null;
    if (s.window_datagrams > limits.window_datagrams_max) return null;
    if (s.repair_port == 0 or s.repair_ip == 0) return null;
    if (!name_ok(s.name_len, &s.name)) return null;
    return s;
}

pub fn decode_syn_reply(h: *const Header) ?*const SynReply {
    const s = body(SynReply, h);
    if (s.receiver == 0 or s.has_position > 2) return null;
    if (s.has_position == 0 and (h.number != 0 or s.frag != 0)) return null;
    if (!name_ok(s.name_len, &s.name)) return null;
    return s;
}

pub fn decode_confirm(h: *const Header) ?*const Confirm {
    const c = body(Confirm, h);
    if (c.first > number_max or c.announced > number_max) return null;
    if (c.connection_first > number_max) return null;
    if (c.fragment_bytes < fragment_bytes_min or c.window_datagrams == 0) return null;
    if (c.window_datagrams > limits.window_datagrams_max) return null;
    if (c.receiver == 0) return null;
    return c;
}

pub fn decode_heartbeat(h: *const Header) ?*const Heartbeat {
    const b = body(Heartbeat, h);
    if (b.first > h.number) return null;
    return b;
}

pub fn decode_ack(h: *const Header) ?*const Ack {
    const a = body(Ack, h);
    if (a.receiver == 0 or a.highest > number_max or a.no_memory > 1) return null;
    return a;
}

pub fn decode_nak(h: *const Header) ?*const Nak {
    const n = body(Nak, h);
    if (n.receiver == 0 or n.count == 0 or n.count > limits.nak_ranges_max) return null;
    const bytes = body_of(h);
    if (bytes.len < @sizeOf(Nak) + @as(usize, n.count) * @sizeOf(Range)) return null;
    var last: Position = .{ .msg = 0 };
    for (ranges(h, n)) |r| {
        if (r.end_msg > number_max) return null;
        if (r.start().less(last) or !r.start().less(r.end())) return null;
        last = r.end();
    }
    return n;
}

pub fn ranges(h: *const Header, n: *const Nak) []const Range {
    const bytes = body_of(h);
    const first: [*]const Range = @ptrCast(@alignCast(bytes.ptr + @sizeOf(Nak)));
    return first[0..n.count];
}

pub fn decode_rst(h: *const Header) ?*const Rst {
    const r = body(Rst, h);
    _ = std.enums.fromInt(RstReason, r.reason) orelse return null;
    return r;
}

pub fn decode_fill(h: *const Header) ?*const Fill {
    const f = body(Fill, h);
    _ = std.enums.fromInt(FillReason, f.reason) orelse return null;
    if (f.end <= h.number or f.end > number_max) return null;
    return f;
}

pub const Fragment = struct { head: *const FragmentHeader, payload: []const u8, count: u32 };

/// Fragments below this would make a message of 1 GiB take more than a fragment number can count in
/// practice.
pub const fragment_bytes_min = 256;

pub fn decode_fragment(h: *const Header) ?Fragment {
    const f = body(FragmentHeader, h);
    if (f.message_length > limits.message_bytes_max or f.message_length == 0) return null;
    if (f.fragment_bytes < fragment_bytes_min) return null;
    const count = fragment_count(f.message_length, f.fragment_bytes);
    // What fits in one fragment goes without: a single one is not from a sender of this protocol.
    if (count < 2 or f.fragment_no >= count) return null;
    const at = @as(u64, f.fragment_no) * f.fragment_bytes;
    const len: u32 = @intCast(@min(f.fragment_bytes, f.message_length - at));
    const bytes = body_of(h)[fragment_header_bytes..];
    if (bytes.len < len) return null;
    return .{ .head = f, .payload = bytes[0..len], .count = count };
}

pub const Message = struct { head: *const MessageHeader, payload: []const u8 };

/// Walks the messages of a DATA datagram; stops at padding. `next` gives null at the end, and
/// `broken` tells whether that was a clean end.
pub const MessageIterator = struct {
    bytes: []const u8,
    at: usize = 0,
    broken: bool = false,

    pub fn init(h: *const Header) MessageIterator {
        return .{ .bytes = body_of(h) };
    }

    pub fn next(self: *MessageIterator) ?Message {
        const left = self.bytes.len - self.at;
        if (left < message_header_bytes) {
            self.broken = left != 0;
            return null;
        }
        const head: *const MessageHeader = @ptrCast(@alignCast(self.bytes.ptr + self.at));
        if (head.length == pad_length) return null;
        if (head.length > left - message_header_bytes) {
            self.broken = true;
            return null;
        }
        const start = self.at + message_header_bytes;
        self.at = @min(self.bytes.len, start + align8(@as(usize, head.length)));
        return .{ .head = head, .payload = self.bytes[start..][0..head.length] };
    }
};

/// How many messages a DATA datagram holds, or null when its body is malformed or empty.
pub fn message_count(h: *const Header) ?u32 {
    var it: MessageIterator = .init(h);
    var n: u32 = 0;
    while (it.next()) |_| n += 1;
    if (it.broken or n == 0) return null;
    return n;
}

pub fn name_ok(len: u16, name: *const [64]u8) bool {
    if (len == 0 or len > 63) return false;
    for (name[0..len]) |c| if (c < 0x20 or c == '/' or c == 0x7f) return false;
    return std.unicode.utf8ValidateSlice(name[0..len]);
}

pub fn name_copy(name: []const u8) [64]u8 {
    assert(name.len < 64);
    var out: [64]u8 = @splat(0);
    @memcpy(out[0..name.len], name);
    return out;
}

/// Starts a datagram of a fixed body in `buffer`; the caller fills the body and ends with
/// `Sealer.finish`.
pub fn begin(comptime T: type, buffer: []align(8) u8, head: Header) *T {
    assert(buffer.len >= header_bytes + @sizeOf(T));
    const h: *Header = @ptrCast(buffer.ptr);
    h.* = head;
    h.length = header_bytes + @sizeOf(T);
    h.check = 0;
    return @ptrCast(@alignCast(buffer.ptr + header_bytes));
}

const testing = std.testing;

fn test_header(kind: Type) Header {
    return .{
        .type = @backingInt(kind),
        .length = 0,
        .cluster = 7,
        .check = 0,
        .source = 1,
        .transport = 2,
        .connection_flags = .{ .connection = 99, .flags = .{} },
        .number = 5,
    };
}

test "a datagram is accepted only with its own check" {
    var buffer: [256]u8 align(8) = undefined;
    const a = begin(Ack, &buffer, test_header(.ack));
    a.* = .{ .session_token = 1, .highest = 5, .frag = 0, .receiver = 3, .no_memory = 0 };
    const bytes = buffer[0 .. header_bytes + @sizeOf(Ack)];
    write_check(bytes);
    try testing.expect(decode_header(bytes, 7) == .ok);
    try testing.expect(decode_header(bytes, 8).refused == .other_cluster);
    for (0..bytes.len) |i| {
        bytes[i] ^= 0x10;
        try testing.expect(decode_header(bytes, 7) == .refused);
        bytes[i] ^= 0x10;
    }
    for (0..bytes.len) |n| try testing.expect(decode_header(bytes[0..n], 7) == .refused);
}

test "messages of a datagram are walked to the padding, and malformed ones are refused" {
    var buffer: [128]u8 align(8) = @splat(0);
    const h: *Header = @ptrCast(&buffer);
    h.* = test_header(.data);
    h.length = 128;
    const first: *MessageHeader = @ptrCast(@alignCast(buffer[32..].ptr));
    first.* = .{ .length = 3, .msg_arg = 9 };
    const second: *MessageHeader = @ptrCast(@alignCast(buffer[48..].ptr));
    second.* = .{ .length = 0, .msg_arg = 1 };
    const pad: *MessageHeader = @ptrCast(@alignCast(buffer[56..].ptr));
    pad.* = .{ .length = pad_length, .msg_arg = 0 };
    try testing.expectEqual(2, message_count(h).?);
    pad.length = 64;
    try testing.expectEqual(3, message_count(h).?);
    pad.length = 65;
    try testing.expectEqual(null, message_count(h));
    pad.length = pad_length - 1;
    try testing.expectEqual(null, message_count(h));
}

test "sizes follow from the MTU" {
    const plain: Sizes = .init(1500, false);
    try testing.expectEqual(1472, plain.udp_bytes);
    try testing.expectEqual(1432, plain.message_bytes);
    try testing.expectEqual(1424, plain.fragment_bytes);
    try testing.expectEqual(1, plain.fragments(1432));
    try testing.expectEqual(2, plain.fragments(1433));
    const keyed: Sizes = .init(1500, true);
    try testing.expectEqual(1400, keyed.message_bytes);
    const odd: Sizes = .init(1497, false);
    try testing.expectEqual(0, odd.datagram_bytes % 8);
}
