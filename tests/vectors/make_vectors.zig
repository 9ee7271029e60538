//! Prints `datagrams.json`: datagrams of every type as the library's own code makes them, with the
//! value of every field, so that an implementation of `docs/protocol.md` can be compared with it.
//!
//! It uses files below `native/src`, so `make_vectors.ts` builds it in a copy of that folder.

const std = @import("std");
const frame = @import("wire/frame.zig");
const seal = @import("wire/seal.zig");
const tier_frame = @import("wire/tier_frame.zig");
const tier_epoch = @import("tier/epoch.zig");
const Entry = @import("tier/entry.zig").Entry;
const StreamEntry = @import("order/record_file.zig").StreamEntry;
const packer_file = @import("wire/packer.zig");
const pool_file = @import("window/pool.zig");
const limits = @import("limits.zig");
const SendingWindow = @import("window/sending_window.zig").SendingWindow;
const address = @import("transport/address.zig");

const connection: u64 = 0x1a_3c5e_7f9b_d2e4;
const sender_id: u16 = 258;
const transport_id: u16 = 772;
const receiver_id: u16 = 3;
const cluster: u16 = 7;
const group_key: seal.GroupKey = key: {
    var key: seal.GroupKey = undefined;
    for (&key, 0..) |*byte, i| byte.* = @intCast(i * 7 + 1);
    break :key key;
};
const receiver_instance: u64 = 0xa1b2_c3d4_e5f6_0000 | @as(u64, receiver_id);

const Out = struct {
    writer: *std.Io.Writer,
    is_first: bool = true,

    fn begin(self: *Out, name: []const u8, datagram: []const u8) !void {
        if (!self.is_first) try self.writer.writeAll(" },\n");
        self.is_first = false;
        try self.writer.print("    {{ \"name\": \"{s}\", \"hex\": \"{x}\"", .{ name, datagram });
        const h: *const frame.Header = @ptrCast(@alignCast(datagram.ptr));
        const flags: u8 = @bitCast(h.flags());
        try self.writer.print(", \"header\": {{ \"magic\": \"{d}\", \"version\": \"{d}\", " ++
            "\"type\": \"{d}\", \"length\": \"{d}\", \"cluster\": \"{d}\", \"check\": \"{d}\", " ++
            "\"source\": \"{d}\", \"transport\": \"{d}\", \"connection\": \"{d}\", " ++
            "\"flags\": \"{d}\", \"number\": \"{d}\" }}", .{
            h.magic,  h.version,   h.type,         h.length, h.cluster, h.check,
            h.source, h.transport, h.connection(), flags,    h.number,
        });
    }

    fn end(self: *Out) !void {
        try self.writer.writeAll(" }\n");
    }

    /// All fields of an extern struct, in order, as decimal texts; arrays of bytes as hexadecimal.
    fn fields(self: *Out, key: []const u8, value: anytype) !void {
        try self.writer.print(", \"{s}\": ", .{key});
        try self.object(value);
    }

    fn object(self: *Out, value: anytype) !void {
        const T = @TypeOf(value);
        try self.writer.writeAll("{");
        const info = @typeInfo(T).@"struct";
        comptime var written = 0;
        inline for (info.field_names) |name| {
            const item = @field(value, name);
            // What has a layout of its own stands beside.
            if (comptime is_nested(@TypeOf(item))) continue;
            if (written > 0) try self.writer.writeAll(",");
            written += 1;
            switch (@typeInfo(@TypeOf(item))) {
                .int => try self.writer.print(" \"{s}\": \"{d}\"", .{ name, item }),
                .array => try self.writer.print(" \"{s}\": \"{x}\"", .{ name, &item }),
                .@"struct" => try self.writer.print(
                    " \"{s}.number\": \"{d}\", \"{s}.id\": \"{d}\"",
                    .{ name, item.number, name, item.id },
                ),
                else => @compileError("a field of another kind: " ++ name),
            }
        }
        try self.writer.writeAll(" }");
    }
};

fn is_nested(comptime T: type) bool {
    return T == tier_frame.Said or T == Entry or T == StreamEntry;
}

fn header(kind: frame.Type, number: u64, flags: frame.Flags) frame.Header {
    return .{
        .type = @backingInt(kind),
        .length = 0,
        .cluster = cluster,
        .check = 0,
        .source = sender_id,
        .transport = transport_id,
        .connection_flags = .{ .connection = @intCast(connection), .flags = flags },
        .number = number,
    };
}

fn fixed(out: *Out, name: []const u8, head: frame.Header, value: anytype) !void {
    var buffer: [512]u8 align(8) = undefined;
    frame.begin(@TypeOf(value), &buffer, head).* = value;
    const h: *const frame.Header = @ptrCast(&buffer);
    seal.finish(null, buffer[0..h.length]);
    try out.begin(name, buffer[0..h.length]);
    try out.fields("body", value);
}

fn sealed(
    out: *Out,
    name: []const u8,
    head: frame.Header,
    id: seal.Identity,
    counter: u64,
    value: anytype,
) !void {
    var buffer: [512]u8 align(8) = undefined;
    const T = @TypeOf(value);
    frame.begin(T, &buffer, head).* = value;
    const h: *frame.Header = @ptrCast(&buffer);
    h.length += @sizeOf(frame.SealTrailer);
    var sealer: seal.Sealer = .init(&group_key, id);
    sealer.counter = counter - 1;
    sealer.seal(buffer[0..h.length]);
    try out.begin(name, buffer[0..h.length]);
    try out.fields("body", value);
    try out.fields("trailer", seal.trailer_of(h).*);
    try out.writer.print(", \"groupKey\": \"{x}\", \"key\": \"{x}\"", .{ &group_key, &sealer.key });
    var plain: [256]u8 = undefined;
    @memcpy(plain[0..@sizeOf(T)], std.mem.asBytes(&value));
    try out.writer.print(", \"plain\": \"{x}\"", .{plain[0..@sizeOf(T)]});
}

const Arena = struct {
    pool: pool_file.ChunkPool,
    bump: pool_file.Bump,
    window: SendingWindow,

    fn send(self: *Arena, text: []const u8, length: u32, msg_arg: u16) !void {
        const at = self.bump.alloc(limits.message_header_bytes + length, 8) orelse return error.Room;
        const payload = self.pool.slice(at + limits.message_header_bytes, length);
        for (payload, 0..) |*byte, i| byte.* = text[i % text.len];
        const offset8: u32 = @intCast((at + limits.message_header_bytes) / 8);
        _ = self.window.publish(offset8, length, msg_arg, 0) orelse return error.Room;
    }
};

fn packed_datagrams(out: *Out, gpa: std.mem.Allocator) !void {
    const memory = try gpa.alignedAlloc(u8, .fromByteUnits(4096), 1 << 20);
    var arena: Arena = undefined;
    arena.pool = try .init(gpa, .{ .base = memory.ptr, .bytes = memory.len, .chunk_bytes = 65536 });
    arena.bump = pool_file.Bump.init(&arena.pool).?;
    arena.window = try .create_in_memory(gpa, 1024, memory);
    try arena.send("hello", 5, 9);
    try arena.send("x", 0, 0);
    try arena.send("0123456789abcdef", 16, 65535);
    const sizes: frame.Sizes = .init(576, false);
    try arena.send("the quick brown fox ", sizes.fragment_bytes * 2 + 3, 77);
    try arena.send("tail", 4, 1);
    var packer: packer_file.Packer = .{
        .sizes = sizes,
        .head = header(.data, 0, .{}),
        .sealer = null,
    };
    const limit: frame.Position = .{ .msg = 5 };
    var at: frame.Position = .{ .msg = 0 };
    var image: [576]u8 align(8) = undefined;
    const names = [_][]const u8{
        "DATA, three messages, padded",      "FRAGMENT, first of three",
        "FRAGMENT, second, ack_request set", "FRAGMENT, last, padded",
        "DATA, one message, repair",
    };
    for (names, 0..) |name, i| {
        const flags: frame.Flags = .{ .ack_request = i == 2, .repair = i == 4 };
        const piece = packer.build(&arena.window, at, limit, &image, .{ .flags = flags });
        const datagram = image[0..piece.bytes];
        try out.begin(name, datagram);
        const h: *const frame.Header = @ptrCast(&image);
        if (h.type == @backingInt(frame.Type.data)) {
            try out.writer.writeAll(", \"messages\": [");
            var it: frame.MessageIterator = .init(h);
            var n: u32 = 0;
            while (it.next()) |m| : (n += 1) {
                if (n > 0) try out.writer.writeAll(", ");
                try out.writer.print("{{ \"msg_arg\": \"{d}\", \"payload\": \"{x}\" }}", .{
                    m.head.msg_arg, m.payload,
                });
            }
            try out.writer.writeAll("]");
        } else {
            const f = frame.decode_fragment(h).?;
            try out.fields("body", f.head.*);
            try out.writer.print(", \"payload\": \"{x}\"", .{f.payload});
        }
        at = piece.end;
    }
    std.debug.assert(at.eql(limit));
}

pub fn main() !void {
    var threaded: std.Io.Threaded = .init_single_threaded;
    const io = threaded.io();
    var buffer: [65536]u8 = undefined;
    var file_writer = std.Io.File.stdout().writer(io, &buffer);
    var out: Out = .{ .writer = &file_writer.interface };
    const gpa = std.heap.page_allocator;
    try out.writer.writeAll("{\n  \"version\": 1,\n  \"datagrams\": [\n");
    const name = frame.name_copy("client1");
    const peer_name = frame.name_copy("\u{63a5}\u{6536}\u{7aef}"); // three characters of UTF-8
    try fixed(&out, "SYN", header(.syn, 42, .{}), frame.Syn{
        .first = 30,
        .join_at = 40,
        .epoch = .{},
        .repair_ip = address.ip_of(.{ 192, 168, 86, 5 }),
        .repair_port = 30001,
        .tx_arg = 11,
        .fragment_bytes = 1424,
        .group_size = 2,
        .window_datagrams = 256,
        .name_len = 7,
        .name = name,
    });
    try fixed(&out, "SYN that asks (handshake)", header(.syn, 0, .{ .handshake = true }), frame.Syn{
        .first = 0,
        .join_at = 0,
        .epoch = .{},
        .repair_ip = address.ip_of(.{ 127, 0, 0, 1 }),
        .repair_port = 40000,
        .tx_arg = 65535,
        .fragment_bytes = 1424,
        .group_size = 1,
        .window_datagrams = 65536,
        .name_len = 7,
        .name = name,
    });
    try fixed(&out, "SYN_REPLY with a position", header(.syn_reply, 41, .{}), frame.SynReply{
        .receiver_token = 0x0102030405060708,
        .instance = receiver_instance,
        .receiver = receiver_id,
        .has_position = 1,
        .frag = 2,
        .name_len = 9,
        .name = peer_name,
    });
    try fixed(&out, "SYN_REPLY without", header(.syn_reply, 0, .{}), frame.SynReply{
        .receiver_token = 0xffeeddccbbaa9988,
        .instance = receiver_instance,
        .receiver = receiver_id,
        .has_position = 0,
        .frag = 0,
        .name_len = 9,
        .name = peer_name,
    });
    try fixed(&out, "CONFIRM", header(.confirm, 40, .{}), frame.Confirm{
        .receiver_token = 0x0102030405060708,
        .session_token = 0x1122334455667788,
        .stream_token = 0x99aabbccddeeff01,
        .epoch = .{},
        .first = 30,
        .announced = 42,
        .connection_first = 7,
        .receiver = receiver_id,
        .tx_arg = 11,
        .fragment_bytes = 1424,
        .group_size = 2,
        .window_datagrams = 256,
    });
    try packed_datagrams(&out, gpa);
    const beat: frame.Heartbeat = .{
        .stream_token = 0x99aabbccddeeff01,
        .epoch = .{},
        .first = 30,
        .frag = 6,
        .group_size = 2,
    };
    try fixed(&out, "HEARTBEAT", header(.heartbeat, 42, .{ .ack_request = true }), beat);
    const ack: frame.Ack = .{
        .session_token = 0x1122334455667788,
        .highest = 42,
        .frag = 5,
        .receiver = receiver_id,
        .no_memory = 0,
    };
    try fixed(&out, "ACK", header(.ack, 41, .{}), ack);
    var full = ack;
    full.no_memory = 1;
    try fixed(&out, "ACK without memory", header(.ack, 41, .{ .mandatory = true }), full);
    try nak(&out);
    try fixed(&out, "RST closed", header(.rst, 42, .{}), frame.Rst{
        .token = 0x99aabbccddeeff01,
        .reason = @backingInt(frame.RstReason.closed),
        .receiver = 0,
    });
    try fixed(&out, "RST unknown session", header(.rst, 0, .{ .tier = true }), frame.Rst{
        .token = 0x1122334455667788,
        .reason = @backingInt(frame.RstReason.unknown_session),
        .receiver = receiver_id,
    });
    try fixed(&out, "FILL", header(.fill, 30, .{}), frame.Fill{
        .stream_token = 0x99aabbccddeeff01,
        .end = 35,
        .reason = @backingInt(frame.FillReason.gone),
    });
    try sealed(&out, "HEARTBEAT, sealed by the sender", header(.heartbeat, 42, .{
        .sealed = true,
    }), .{
        .direction = .from_sender,
        .tier = false,
        .cluster = cluster,
        .source = sender_id,
        .transport = transport_id,
        .receiver = 0,
        .instance = connection,
    }, 1, beat);
    try sealed(&out, "ACK, sealed by the receiver", header(.ack, 41, .{ .sealed = true }), .{
        .direction = .from_receiver,
        .tier = false,
        .cluster = cluster,
        .source = sender_id,
        .transport = transport_id,
        .receiver = receiver_id,
        .instance = receiver_instance,
    }, 77, ack);
    try tier_datagrams(&out);
    try out.end();
    try out.writer.writeAll("  ]\n}\n");
    try out.writer.flush();
}

fn nak(out: *Out) !void {
    const ranges = [_]frame.Range{
        .{ .start_msg = 33, .start_frag = 0, .end_msg = 35, .end_frag = 0 },
        .{ .start_msg = 36, .start_frag = 2, .end_msg = 36, .end_frag = 9 },
        .{ .start_msg = 40, .start_frag = 1, .end_msg = 42, .end_frag = 6 },
    };
    const body: frame.Nak = .{
        .session_token = 0x1122334455667788,
        .receiver = receiver_id,
        .count = ranges.len,
        .attempt = 2,
    };
    var buffer: [512]u8 align(8) = undefined;
    frame.begin(frame.Nak, &buffer, header(.nak, 33, .{})).* = body;
    const h: *frame.Header = @ptrCast(&buffer);
    @memcpy(buffer[h.length..][0..@sizeOf(@TypeOf(ranges))], std.mem.asBytes(&ranges));
    h.length += @sizeOf(@TypeOf(ranges));
    frame.write_check(buffer[0..h.length]);
    try out.begin("NAK, three ranges", buffer[0..h.length]);
    try out.fields("body", body);
    try out.writer.writeAll(", \"ranges\": [");
    for (ranges, 0..) |range, i| {
        if (i > 0) try out.writer.writeAll(", ");
        try out.object(range);
    }
    try out.writer.writeAll("]");
}

// -------------------------------------------------------------------- the tier

const member_nonce: u64 = 0x12_3456_789a_bcde;
const said: tier_frame.Said = .{ .epoch = .{ .number = 5, .id = 0x0fed_cba9_8765 }, .to = 0 };
const said_to: tier_frame.Said = .{ .epoch = said.epoch, .to = 12 };

const Tier = struct {
    out: *Out,
    image: [2048]u8 align(8) = undefined,
    bytes: u32 = 0,

    /// A frame of the member 11 of the tier 11; what follows its body is in `rest`.
    fn write(
        self: *Tier,
        name: []const u8,
        kind: tier_frame.Type,
        number: u64,
        value: anytype,
        rest: []const u8,
    ) !void {
        const T = @TypeOf(value);
        const speaker: tier_frame.Speaker = .{
            .cluster = cluster,
            .tier = 11,
            .id = 11,
            .nonce = member_nonce,
        };
        tier_frame.begin(T, kind, &self.image, speaker, number).* = value;
        const end = frame.header_bytes + @sizeOf(T);
        @memcpy(self.image[end..][0..rest.len], rest);
        self.bytes = tier_frame.finish(&self.image, @intCast(end + rest.len));
        const bytes: []align(8) const u8 = self.image[0..self.bytes];
        std.debug.assert(tier_frame.decode(bytes, cluster, 11) == .ok);
        try self.out.begin(name, bytes);
        try self.out.fields("said", value.said);
        try self.out.fields("body", value);
        if (@hasField(T, "entry")) try self.out.fields("entry", value.entry);
    }

    fn list(self: *Tier, comptime key: []const u8, items: anytype) !void {
        try self.out.writer.writeAll(", \"" ++ key ++ "\": [");
        for (items, 0..) |item, i| {
            if (i > 0) try self.out.writer.writeAll(", ");
            try self.out.object(item);
        }
        try self.out.writer.writeAll("]");
    }
};

fn entry_of(msg_no: u64, length: u32) Entry {
    return .{
        .connection = connection,
        .msg_no = msg_no,
        .time_ms = 1_700_000_000_123,
        .length = length,
        .source = sender_id,
        .transport = transport_id,
        .tx_arg = 11,
        .msg_arg = 9,
        .is_tier = 0,
    };
}

fn tier_datagrams(out: *Out) !void {
    var t: Tier = .{ .out = out };
    const entries = [_]Entry{ entry_of(7, 5), entry_of(8, 2000) };
    try t.write("SQN, two entries", .sqn, 40, tier_frame.Sqn{
        .said = said,
        .first = 30,
        .committed = 38,
        .next = 42,
        .count = entries.len,
    }, std.mem.sliceAsBytes(&entries));
    try t.list("entries", entries);
    try t.write("SQN_ACK", .sqn_ack, 42, tier_frame.SqnAck{
        .said = said_to,
        .is_intact = 1,
        .handed = 39,
    }, "");
    try t.write("SQN_NAK", .sqn_nak, 40, tier_frame.SqnNak{ .said = said_to, .end = 42 }, "");
    const commit: tier_frame.Commit = .{ .said = said, .first = 30, .committed = 42 };
    try t.write("COMMIT", .commit, 42, commit, "");
    try t.write("PREPARE", .prepare, 0, tier_frame.Prepare{
        .said = said,
        .config_hash = 0x8899_aabb_ccdd_eeff,
    }, "");
    try t.write("PROMISE", .promise, 42, tier_frame.Promise{
        .said = said_to,
        .adopted = .{ .number = 4, .id = 77 },
        .config_hash = 0x8899_aabb_ccdd_eeff,
        .is_intact = 1,
    }, "");
    try t.write("REFUSE", .refuse, 0, tier_frame.Refuse{
        .said = said_to,
        .promised = .{ .number = 6, .id = 1234 },
    }, "");
    try t.write("JOIN", .join, 12, tier_frame.Join{
        .said = said,
        .config_hash = 0x8899_aabb_ccdd_eeff,
        .era_from = 0,
        .is_observer = 0,
        .question = 3,
    }, "");
    const eras = [_]tier_epoch.Era{
        .{ .epoch = .{ .number = 4, .id = 77 }, .first_sqn = 0 },
        .{ .epoch = said.epoch, .first_sqn = 30 },
    };
    try t.write("JOIN_REPLY, two eras", .join_reply, 42, tier_frame.JoinReply{
        .said = said_to,
        .nonce = 4711,
        .first = 30,
        .committed = 38,
        .config_hash = 0x8899_aabb_ccdd_eeff,
        .era_total = 2,
        .era_from = 0,
        .count = eras.len,
        .is_leader = 1,
        .question = 3,
    }, std.mem.sliceAsBytes(&eras));
    try t.list("eras", eras);
    try t.write("PULL", .pull, 12, tier_frame.Pull{
        .said = said_to,
        .offset = 1000,
        .request = 2,
        .allowed_bytes = 2944,
    }, "");
    try tier_fill(&t);
    try t.write("STREAM_ASK", .stream_ask, 0, tier_frame.StreamAsk{
        .said = said_to,
        .entry = entries[0],
    }, "");
    try tier_stream(&t);
    const positions = [_]tier_frame.TxPosition{
        .{ .transport = 3, .acked = 1000 },
        .{ .transport = 4, .acked = 0 },
    };
    try t.write("TX_ACKED, two positions", .tx_acked, 0, tier_frame.TxAcked{
        .said = said,
        .count = positions.len,
    }, std.mem.sliceAsBytes(&positions));
    try t.list("positions", positions);
    try tier_sealed(out, commit);
}

fn tier_fill(t: *Tier) !void {
    const pieces = [_]tier_frame.Piece{
        .{ .entry = entry_of(7, 5), .offset = 0, .bytes = 5 },
        .{ .entry = entry_of(8, 2000), .offset = 0, .bytes = 16 },
    };
    const texts = [_][]const u8{ "hello", "0123456789abcdef" };
    var rest: [256]u8 = @splat(0);
    var at: usize = 0;
    for (pieces, texts) |piece, text| {
        @memcpy(rest[at..][0..@sizeOf(tier_frame.Piece)], std.mem.asBytes(&piece));
        at += @sizeOf(tier_frame.Piece);
        @memcpy(rest[at..][0..text.len], text);
        at += frame.align8(text.len);
    }
    try t.write("FILL of a tier, two pieces", .fill, 40, tier_frame.Fill{
        .said = said_to,
        .request = 2,
        .count = pieces.len,
    }, rest[0..at]);
    try t.out.writer.writeAll(", \"pieces\": [");
    for (pieces, texts, 0..) |piece, text, i| {
        if (i > 0) try t.out.writer.writeAll(", ");
        try t.out.writer.print("{{ \"payload\": \"{x}\"", .{text});
        try t.out.fields("entry", piece.entry);
        try t.out.fields("head", piece);
        try t.out.writer.writeAll(" }");
    }
    try t.out.writer.writeAll("]");
}

fn tier_stream(t: *Tier) !void {
    var topic: [128]u8 = @splat(0);
    @memcpy(topic[0..6], "quotes");
    var entry: StreamEntry = .{
        .id = 0,
        .connection = connection,
        .first_sqn = 0,
        .source = sender_id,
        .transport = transport_id,
        .partition = 1,
        .tx_arg = 11,
        .is_tier = 0,
        .name_bytes = 7,
        .topic_bytes = 6,
        .name = frame.name_copy("client1"),
        .topic = topic,
    };
    entry.check = entry.check_now();
    try t.write("STREAM", .stream, 0, tier_frame.StreamTold{ .said = said_to, .entry = entry }, "");
}

fn tier_sealed(out: *Out, value: tier_frame.Commit) !void {
    const id: seal.Identity = .{
        .direction = .from_member,
        .tier = false,
        .cluster = cluster,
        .source = 11,
        .transport = 11,
        .receiver = 0,
        .instance = member_nonce,
    };
    const head: frame.Header = .{
        .type = @backingInt(tier_frame.Type.commit),
        .length = 0,
        .cluster = cluster,
        .check = 0,
        .source = 11,
        .transport = 11,
        .connection_flags = .{ .connection = member_nonce, .flags = .{ .sealed = true } },
        .number = 42,
    };
    try sealed(out, "COMMIT, sealed by a member", head, id, 9, value);
    try out.fields("said", value.said);
}
