//! IPv4 addresses, networks, and which of them are this machine's.
//!
//! An `Ip` of the configuration is an address or a network `a.b.c.d/n` (guide 10.1); both name one
//! local address, on which sockets send, listen and join groups.

const std = @import("std");
const linux = std.os.linux;
const failure_module = @import("failure.zig");

pub const Failure = failure_module.Failure;
const errno_of = failure_module.errno_of;
const assert = @import("../assert.zig").assert;

/// An IPv4 address and port.
pub const Address = extern struct {
    /// The four bytes as they stand in a packet (network order).
    ip: u32 = 0,
    /// Host order.
    port: u16 = 0,
    /// Always zero, so that addresses compare and hash as eight bytes.
    pad: u16 = 0,

    pub fn init(ip: u32, port: u16) Address {
        return .{ .ip = ip, .port = port };
    }

    /// Reads "a.b.c.d:port", port 0..65535; null when the text is anything else.
    pub fn parse(text: []const u8) ?Address {
        const colon = std.mem.indexOfScalar(u8, text, ':') orelse return null;
        const ip = parse_ip(text[0..colon]) orelse return null;
        const port = parse_decimal(text[colon + 1 ..], 65535) orelse return null;
        return .init(ip, @intCast(port));
    }

    pub fn eql(self: Address, other: Address) bool {
        return self.ip == other.ip and self.port == other.port;
    }

    pub fn is_multicast(self: Address) bool {
        return is_multicast_ip(self.ip);
    }

    /// Prints "a.b.c.d:port" by `{f}`.
    pub fn format(self: Address, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        try writer.print("{f}:{d}", .{ Ip{ .ip = self.ip }, self.port });
    }

    pub fn to_sockaddr(self: Address) linux.sockaddr.in {
        return .{ .port = std.mem.nativeToBig(u16, self.port), .addr = self.ip };
    }

    pub fn from_sockaddr(from: linux.sockaddr.in) Address {
        return .{ .ip = from.addr, .port = std.mem.bigToNative(u16, from.port) };
    }
};

comptime {
    assert(@sizeOf(Address) == 8);
    assert(@alignOf(Address) == 4);
}

/// Prints an address in network order as "a.b.c.d" by `{f}`.
pub const Ip = struct {
    ip: u32,

    pub fn format(self: Ip, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        const bytes: [4]u8 = @bitCast(self.ip);
        try writer.print("{d}.{d}.{d}.{d}", .{ bytes[0], bytes[1], bytes[2], bytes[3] });
    }
};

/// The network-order value of four bytes, most significant first.
pub fn ip_of(bytes: [4]u8) u32 {
    return @bitCast(bytes);
}

/// Reads "a.b.c.d": four decimal numbers 0..255 without leading zeros (elsewhere they mean octal).
pub fn parse_ip(text: []const u8) ?u32 {
    var bytes: [4]u8 = undefined;
    var parts = std.mem.splitScalar(u8, text, '.');
    for (&bytes) |*byte| {
        byte.* = @intCast(parse_decimal(parts.next() orelse return null, 255) orelse return null);
    }
    if (parts.next() != null) return null;
    return @bitCast(bytes);
}

fn parse_decimal(text: []const u8, max: u32) ?u32 {
    if (text.len == 0 or text.len > 5) return null;
    if (text.len > 1 and text[0] == '0') return null;
    var value: u32 = 0;
    for (text) |digit| {
        if (digit < '0' or digit > '9') return null;
        value = value * 10 + (digit - '0');
    }
    return if (value <= max) value else null;
}

/// 224.0.0.0/4.
pub fn is_multicast_ip(ip: u32) bool {
    const bytes: [4]u8 = @bitCast(ip);
    return bytes[0] & 0xf0 == 0xe0;
}

/// 127.0.0.0/8: every one of these is this machine, whether an interface carries it or not.
pub fn is_loopback_ip(ip: u32) bool {
    const bytes: [4]u8 = @bitCast(ip);
    return bytes[0] == 127;
}

/// A network `a.b.c.d/n`.
pub const Network = struct {
    /// Network order, host bits cleared.
    ip: u32,
    /// Network order.
    mask: u32,
    /// 0..32.
    prefix_bits: u8,

    /// Reads "a.b.c.d/n", n 0..32. Host bits may be set ("192.168.86.7/24"): they do not count.
    pub fn parse(text: []const u8) ?Network {
        const slash = std.mem.indexOfScalar(u8, text, '/') orelse return null;
        const ip = parse_ip(text[0..slash]) orelse return null;
        const prefix_bits = parse_decimal(text[slash + 1 ..], 32) orelse return null;
        const mask = mask_of(@intCast(prefix_bits));
        return .{ .ip = ip & mask, .mask = mask, .prefix_bits = @intCast(prefix_bits) };
    }

    pub fn contains(self: Network, ip: u32) bool {
        return ip & self.mask == self.ip;
    }

    fn mask_of(prefix_bits: u6) u32 {
        assert(prefix_bits <= 32);
        if (prefix_bits == 0) return 0;
        const host_order = @as(u32, std.math.maxInt(u32)) << @intCast(32 - prefix_bits);
        return std.mem.nativeToBig(u32, host_order);
    }
};

/// Most interface addresses that are looked at; a machine with more finds only the first ones.
pub const local_addresses_max = 512;

/// Local IPv4 addresses in the kernel's order, network order each, no more than fit in `buffer`.
/// Empty when the kernel tells none (or no socket can be opened).
pub fn local_addresses(buffer: []u32) []u32 {
    const fd_result = linux.socket(linux.AF.INET, linux.SOCK.DGRAM | linux.SOCK.CLOEXEC, 0);
    if (errno_of(fd_result) != 0) return buffer[0..0];
    const fd: i32 = @intCast(fd_result);
    defer _ = linux.close(fd);

    var requests: [local_addresses_max]InterfaceRequest = undefined;
    var list: InterfaceList = .{ .len = @sizeOf(@TypeOf(requests)), .requests = &requests };
    if (errno_of(linux.ioctl(fd, linux.SIOCGIFCONF, @intFromPtr(&list))) != 0) return buffer[0..0];
    const found = @as(usize, @intCast(list.len)) / @sizeOf(InterfaceRequest);
    var count: usize = 0;
    for (requests[0..found]) |request| {
        if (request.address.family != linux.AF.INET) continue;
        if (count == buffer.len) break;
        buffer[count] = request.address.addr;
        count += 1;
    }
    return buffer[0..count];
}

/// `struct ifreq` as SIOCGIFCONF fills it: a name and an address.
const InterfaceRequest = extern struct {
    name: [16]u8,
    address: linux.sockaddr.in,
    rest: [8]u8,
};

/// `struct ifconf`.
const InterfaceList = extern struct {
    len: i32,
    requests: [*]InterfaceRequest,
};

comptime {
    assert(@sizeOf(InterfaceRequest) == @sizeOf(linux.ifreq));
    assert(@sizeOf(InterfaceList) == 16);
}

pub const ResolveError = error{
    /// The text is neither an address nor a network.
    NotAnAddress,
    /// No interface of this machine has that address, or one in that network.
    NotLocal,
};

/// The local address that an `Ip` of the configuration names: itself for an address of this machine
/// (any 127.x.y.z is one), the first local address inside for a network `a.b.c.d/n`; there, an
/// address of a real interface goes before one of the loopback's. Network order. On an error
/// `failure` says what was asked and which local addresses exist.
pub fn resolve_local(text: []const u8, failure: *Failure) ResolveError!u32 {
    var storage: [local_addresses_max]u32 = undefined;
    return resolve_among(text, local_addresses(&storage), failure);
}

/// `resolve_local` over a given list of local addresses (network order).
pub fn resolve_among(text: []const u8, local: []const u32, failure: *Failure) ResolveError!u32 {
    if (parse_ip(text)) |ip| {
        if (is_loopback_ip(ip)) return ip;
        if (std.mem.indexOfScalar(u32, local, ip) != null) return ip;
        set_not_local("\"{s}\" is not an address of this machine", text, local, failure);
        return error.NotLocal;
    }
    const network = Network.parse(text) orelse {
        failure.set("\"{s}\" is neither an IPv4 address nor a network a.b.c.d/n", .{text});
        return error.NotAnAddress;
    };
    for (local) |ip| {
        if (network.contains(ip) and !is_loopback_ip(ip)) return ip;
    }
    for (local) |ip| {
        if (network.contains(ip)) return ip;
    }
    // Part of 127.0.0.0/8 without an interface's address inside: its first host is local, too.
    if (is_loopback_ip(network.ip) and network.prefix_bits >= 8) {
        return if (network.prefix_bits >= 31) network.ip else network.ip | ip_of(.{ 0, 0, 0, 1 });
    }
    set_not_local("this machine has no address in the network \"{s}\"", text, local, failure);
    return error.NotLocal;
}

fn set_not_local(
    comptime sentence: []const u8,
    text: []const u8,
    local: []const u32,
    failure: *Failure,
) void {
    failure.set(sentence ++ " (it has: {f})", .{ text, IpList{ .ips = local } });
}

const IpList = struct {
    ips: []const u32,

    pub fn format(self: IpList, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        if (self.ips.len == 0) return writer.writeAll("none");
        for (self.ips, 0..) |ip, index| {
            if (index > 0) try writer.writeAll(", ");
            try writer.print("{f}", .{Ip{ .ip = ip }});
        }
    }
};

const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const expectEqualStrings = std.testing.expectEqualStrings;

test "addresses are read and printed" {
    const address = Address.parse("239.1.2.3:45000").?;
    try expectEqual(ip_of(.{ 239, 1, 2, 3 }), address.ip);
    try expectEqual(@as(u16, 45000), address.port);
    try expect(address.is_multicast());
    try expect(address.eql(.init(ip_of(.{ 239, 1, 2, 3 }), 45000)));
    try expect(!address.eql(.init(ip_of(.{ 239, 1, 2, 3 }), 45001)));
    var buffer: [32]u8 = undefined;
    try expectEqualStrings("239.1.2.3:45000", try std.fmt.bufPrint(&buffer, "{f}", .{address}));
    try expect(Address.from_sockaddr(address.to_sockaddr()).eql(address));
    for ([_][]const u8{
        "",       "1.2.3",    "1.2.3.4.5", "1.2.3.256",   "01.2.3.4",     "1.2.3.4 ",
        "1..3.4", "1.2.3.-4", "a.b.c.d",   "1.2.3.99999", "1.2.3.4:5678",
    }) |bad| try expectEqual(@as(?u32, null), parse_ip(bad));
    for ([_][]const u8{ "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:1:2" }) |bad| {
        try expectEqual(@as(?Address, null), Address.parse(bad));
    }
    try expect(is_multicast_ip(ip_of(.{ 224, 0, 0, 0 })));
    try expect(is_multicast_ip(ip_of(.{ 239, 255, 255, 255 })));
    try expect(!is_multicast_ip(ip_of(.{ 240, 0, 0, 0 })));
    try expect(!is_multicast_ip(ip_of(.{ 223, 255, 255, 255 })));
}

test "networks contain what their prefix says" {
    const network = Network.parse("192.168.86.7/24").?;
    try expectEqual(ip_of(.{ 192, 168, 86, 0 }), network.ip);
    try expect(network.contains(ip_of(.{ 192, 168, 86, 255 })));
    try expect(!network.contains(ip_of(.{ 192, 168, 87, 1 })));
    try expect(Network.parse("0.0.0.0/0").?.contains(ip_of(.{ 8, 8, 8, 8 })));
    const one = Network.parse("10.0.0.1/32").?;
    try expect(one.contains(ip_of(.{ 10, 0, 0, 1 })) and !one.contains(ip_of(.{ 10, 0, 0, 0 })));
    try expect(Network.parse("10.1.2.3/12").?.contains(ip_of(.{ 10, 15, 255, 255 })));
    try expect(!Network.parse("10.1.2.3/12").?.contains(ip_of(.{ 10, 16, 0, 0 })));
    for ([_][]const u8{ "10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "10.0.0.0/08" }) |bad| {
        try expectEqual(@as(?Network, null), Network.parse(bad));
    }
}

test "an Ip resolves to a local address or to an error that lists them" {
    const local = [_]u32{
        ip_of(.{ 127, 0, 0, 1 }), ip_of(.{ 10, 0, 0, 5 }), ip_of(.{ 192, 168, 86, 3 }),
    };
    var failure: Failure = .{};
    try expectEqual(local[2], try resolve_among("192.168.86.0/24", &local, &failure));
    try expectEqual(local[1], try resolve_among("10.0.0.5", &local, &failure));
    try expectEqual(local[1], try resolve_among("0.0.0.0/0", &local, &failure));
    try expectEqual(local[0], try resolve_among("127.0.0.0/8", &local, &failure));
    try expectEqual(ip_of(.{ 127, 5, 0, 1 }), try resolve_among("127.5.0.0/16", &.{}, &failure));
    try expectEqual(ip_of(.{ 127, 9, 9, 9 }), try resolve_among("127.9.9.9", &local, &failure));
    try std.testing.expectError(error.NotLocal, resolve_among("10.0.0.6", &local, &failure));
    try expectEqualStrings("\"10.0.0.6\" is not an address of this machine " ++
        "(it has: 127.0.0.1, 10.0.0.5, 192.168.86.3)", failure.text());
    try std.testing.expectError(error.NotLocal, resolve_among("172.16.0.0/12", &.{}, &failure));
    try expectEqualStrings(
        "this machine has no address in the network \"172.16.0.0/12\" (it has: none)",
        failure.text(),
    );
    try std.testing.expectError(error.NotAnAddress, resolve_among("eth0", &local, &failure));
}

test "the kernel's list of local addresses resolves to itself" {
    var storage: [local_addresses_max]u32 = undefined;
    var failure: Failure = .{};
    for (local_addresses(&storage)) |ip| {
        var buffer: [32]u8 = undefined;
        const text = try std.fmt.bufPrint(&buffer, "{f}", .{Ip{ .ip = ip }});
        try expectEqual(ip, try resolve_local(text, &failure));
        const network = try std.fmt.bufPrint(&buffer, "{f}/32", .{Ip{ .ip = ip }});
        try expectEqual(ip, try resolve_local(network, &failure));
    }
    try expectEqual(ip_of(.{ 127, 0, 0, 1 }), try resolve_local("127.0.0.0/8", &failure));
}
