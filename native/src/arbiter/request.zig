//! A request of JavaScript to the arbitration, decoded: a header, a path that ends with a 0, data.
//! A transaction is a header with `count` requests behind it.

const std = @import("std");
const abi = @import("../abi.zig");

pub const Header = abi.ArbiterRequest;

pub const Request = struct {
    op: abi.ArbiterOp,
    id: u32,
    version: i32,
    flags: u32,
    count: u32,
    path: [:0]const u8,
    data: []const u8,

    pub fn has(self: *const Request, flag: abi.ArbiterFlag) bool {
        return self.flags & @backingInt(flag) != 0;
    }
};

/// Reads requests one after the other. Null: at the end, or what stands there is none.
pub const Reader = struct {
    bytes: []const u8,
    at: usize = 0,

    pub fn next(self: *Reader) ?Request {
        const rest = self.bytes[self.at..];
        if (rest.len < @sizeOf(Header)) return null;
        const h = std.mem.bytesToValue(Header, rest[0..@sizeOf(Header)]);
        const body = @sizeOf(Header) + @as(usize, h.path_len) + 1 + h.data_len;
        if (h.bytes < body or h.bytes > rest.len or h.bytes % 8 != 0) return null;
        const path = rest[@sizeOf(Header)..][0..h.path_len];
        if (rest[@sizeOf(Header) + path.len] != 0) return null;
        if (std.mem.findScalar(u8, path, 0) != null) return null;
        self.at += h.bytes;
        return .{
            .op = std.enums.fromInt(abi.ArbiterOp, h.op) orelse return null,
            .id = h.id,
            .version = h.version,
            .flags = h.flags,
            .count = h.count,
            .path = path.ptr[0..path.len :0],
            .data = rest[@sizeOf(Header) + path.len + 1 ..][0..h.data_len],
        };
    }
};

fn encode(buffer: []u8, header: Header, path: []const u8, data: []const u8) []u8 {
    var h = header;
    const used = @sizeOf(Header) + path.len + 1 + data.len;
    h.bytes = @intCast(std.mem.alignForward(usize, used, 8));
    h.path_len = @intCast(path.len);
    h.data_len = @intCast(data.len);
    @memset(buffer[0..h.bytes], 0);
    @memcpy(buffer[0..@sizeOf(Header)], std.mem.asBytes(&h));
    @memcpy(buffer[@sizeOf(Header)..][0..path.len], path);
    @memcpy(buffer[@sizeOf(Header) + path.len + 1 ..][0..data.len], data);
    return buffer[0..h.bytes];
}

test "requests are read as they were written, and a cut or a wrong one is none" {
    var buffer: [256]u8 = undefined;
    const first = encode(&buffer, .{ .op = 4, .id = 9, .version = -1 }, "/a", "data");
    const second = encode(buffer[first.len..], .{ .op = 5, .id = 10 }, "/b/c", "");
    const bytes = buffer[0 .. first.len + second.len];
    var reader: Reader = .{ .bytes = bytes };
    const a = reader.next().?;
    try std.testing.expectEqual(abi.ArbiterOp.set, a.op);
    try std.testing.expectEqualStrings("/a", a.path);
    try std.testing.expectEqualStrings("data", a.data);
    try std.testing.expectEqual(@as(i32, -1), a.version);
    try std.testing.expectEqualStrings("/b/c", reader.next().?.path);
    try std.testing.expectEqual(@as(?Request, null), reader.next());
    for (0..first.len) |len| {
        var cut: Reader = .{ .bytes = bytes[0..len] };
        try std.testing.expectEqual(@as(?Request, null), cut.next());
    }
    for (0..@sizeOf(Header)) |i| for (0..256) |value| {
        var wrong: [256]u8 = undefined;
        @memcpy(wrong[0..bytes.len], bytes);
        wrong[i] = @intCast(value);
        var mutated: Reader = .{ .bytes = wrong[0..bytes.len] };
        for (0..3) |_| _ = mutated.next() orelse break; // It must not read outside.
    };
}
