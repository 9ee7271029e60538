//! `udp.zig` over real sockets of the loopback interface.

const std = @import("std");
const linux = std.os.linux;
const udp = @import("udp.zig");
const address_module = @import("address.zig");

const Address = udp.Address;
const Failure = udp.Failure;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const localhost = address_module.ip_of(.{ 127, 0, 0, 1 });

/// A group and port that no other test of this machine is likely to use at this moment.
fn random_group() Address {
    var bytes: [5]u8 = undefined;
    _ = linux.getrandom(&bytes, bytes.len, 0);
    const ip = address_module.ip_of(.{ 239, 200, bytes[0], bytes[1] });
    return .init(ip, 20_000 + std.mem.readInt(u16, bytes[2..4], .little) % 10_000);
}

/// A local unicast address whose port was free a moment ago.
fn free_unicast(failure: *Failure) !Address {
    const probe = try udp.open_control(localhost, failure);
    defer udp.close(probe.fd);
    return probe.address;
}

fn open_group_sender(group: Address, failure: *Failure) !udp.Sender {
    return udp.open_sender(.{
        .destination = group,
        .source_ip = localhost,
        .ttl = 8,
        .mc_loop = true,
    }, failure);
}

/// What arrives within a second, at most.
fn receive_soon(fd: i32, buffer: []u8) ?udp.Received {
    var fds = [1]linux.pollfd{.{ .fd = fd, .events = linux.POLL.IN }};
    if (linux.poll(&fds, 1, 1000) != 1) return null;
    return udp.recv_from(fd, buffer);
}

fn get_int(fd: i32, level: i32, name: u32) c_int {
    var value: c_int = -1;
    var len: linux.socklen_t = @sizeOf(c_int);
    _ = linux.getsockopt(fd, level, name, std.mem.asBytes(&value), &len);
    return value;
}

test "open_group_receiver() and open_sender(): every receiver of the group gets a datagram" {
    var failure: Failure = .{};
    var buffer: [udp.receive_bytes_max]u8 = undefined;
    const group = random_group();
    const first = try udp.open_group_receiver(group, localhost, 1 << 18, &failure);
    defer udp.close(first.fd);
    const second = try udp.open_group_receiver(group, localhost, 1 << 18, &failure);
    defer udp.close(second.fd);
    var other = group;
    other.ip ^= address_module.ip_of(.{ 0, 0, 0, 1 });
    const stranger = try udp.open_group_receiver(other, localhost, 1 << 18, &failure);
    defer udp.close(stranger.fd);
    try expect(first.gro and first.gro_errno == 0);
    try expect(first.buffer_bytes > 0);
    var sender = try open_group_sender(group, &failure);
    defer udp.close(sender.fd);
    try expect(sender.gso and sender.source.port != 0 and sender.source.ip == localhost);

    try expectEqual(@as(?udp.Received, null), udp.recv_from(first.fd, &buffer));
    const result = udp.send_run(&sender, "hello, group", 1472);
    try expectEqual(@as(usize, 12), result.taken_bytes);
    try expectEqual(udp.SendResult{ .taken_bytes = 12 }, result);
    for ([_]i32{ first.fd, second.fd }) |fd| {
        const received = receive_soon(fd, &buffer).?;
        try std.testing.expectEqualStrings("hello, group", buffer[0..received.len]);
        try expect(received.from.eql(sender.source));
    }
    try expectEqual(@as(?udp.Received, null), udp.recv_from(stranger.fd, &buffer));
}

test "sockets are non-blocking and closed on exec" {
    var failure: Failure = .{};
    const endpoint = try udp.open_control(localhost, &failure);
    defer udp.close(endpoint.fd);
    const status = linux.fcntl(endpoint.fd, linux.F.GETFL, 0);
    const nonblock: u32 = @bitCast(linux.O{ .NONBLOCK = true });
    try expect(status & nonblock != 0);
    try expectEqual(@as(usize, linux.FD_CLOEXEC), linux.fcntl(endpoint.fd, linux.F.GETFD, 0));
}

const Pattern = struct {
    bytes: [120 * 1472 + 100]u8 = undefined,

    fn fill(self: *Pattern) void {
        for (&self.bytes, 0..) |*byte, index| byte.* = @truncate(index *% 31 +% index / 1472);
    }
};

/// Sends `bytes` as datagrams of 1,472 and checks that they arrive equal; the largest batch.
fn roundtrip(sender: *udp.Sender, receiver: udp.Receiver, bytes: []const u8) !usize {
    const segment_bytes = 1472;
    var buffer: [udp.receive_bytes_max]u8 = undefined;
    const result = udp.send_run(sender, bytes, segment_bytes);
    try expectEqual(bytes.len, result.taken_bytes);
    try expectEqual(@as(u32, 0), result.lost_datagrams);
    try expect(!result.would_block);
    var arrived: usize = 0;
    var batch_max: usize = 0;
    while (arrived < bytes.len) {
        const received = receive_soon(receiver.fd, &buffer) orelse return error.Lost;
        try expect(received.len % segment_bytes == 0 or arrived + received.len == bytes.len);
        const expected = bytes[arrived..][0..received.len];
        try std.testing.expectEqualSlices(u8, expected, buffer[0..received.len]);
        arrived += received.len;
        batch_max = @max(batch_max, received.len);
    }
    try expectEqual(@as(?udp.Received, null), udp.recv_from(receiver.fd, &buffer));
    return batch_max;
}

test "send_run(): a run of 44 x 1472 goes out in one send and arrives joined" {
    var failure: Failure = .{};
    const pattern = try std.testing.allocator.create(Pattern);
    defer std.testing.allocator.destroy(pattern);
    pattern.fill();
    const group = random_group();
    const at = try free_unicast(&failure);
    const receivers = [2]udp.Receiver{
        try udp.open_group_receiver(group, localhost, 1 << 20, &failure),
        try udp.open_unicast_receiver(at, 1 << 20, &failure),
    };
    defer for (receivers) |receiver| udp.close(receiver.fd);
    for (receivers) |receiver| {
        var sender = try open_group_sender(receiver.address, &failure);
        defer udp.close(sender.fd);
        try expectEqual(@as(u32, 44 * 1472), udp.run_bytes(1472));
        const batch = try roundtrip(&sender, receiver, pattern.bytes[0 .. 44 * 1472]);
        try expect(sender.gso and sender.gso_errno == 0);
        try expectEqual(@as(usize, 44 * 1472), batch);
        // A short last one, a lone one, and more than one send takes.
        _ = try roundtrip(&sender, receiver, pattern.bytes[0 .. 3 * 1472 + 8]);
        _ = try roundtrip(&sender, receiver, pattern.bytes[0..1472]);
        _ = try roundtrip(&sender, receiver, pattern.bytes[0..8]);
        _ = try roundtrip(&sender, receiver, &pattern.bytes);
        try expect(sender.gso);
    }
}

test "run_bytes() stays within what one send may carry" {
    for ([_]u32{ 1, 8, 548, 1023, 1024, 1472, 8972, 32_753, 32_754, 65_507 }) |segment_bytes| {
        const bytes = udp.run_bytes(segment_bytes);
        try expect(bytes <= udp.datagram_bytes_max and bytes % segment_bytes == 0);
        try expect(bytes / segment_bytes <= udp.run_segments_max and bytes > 0);
    }
}

test "send_run(): where the kernel refuses runs, datagrams go one by one, told once" {
    var failure: Failure = .{};
    const pattern = try std.testing.allocator.create(Pattern);
    defer std.testing.allocator.destroy(pattern);
    pattern.fill();
    const receiver = try udp.open_group_receiver(random_group(), localhost, 1 << 20, &failure);
    defer udp.close(receiver.fd);
    var sender = try open_group_sender(receiver.address, &failure);
    defer udp.close(sender.fd);
    // The kernel makes no runs without checksums.
    const on: c_int = 1;
    const bytes = std.mem.asBytes(&on);
    _ = linux.setsockopt(sender.fd, linux.SOL.SOCKET, linux.SO.NO_CHECK, bytes, bytes.len);
    const result = udp.send_run(&sender, pattern.bytes[0 .. 2 * 1472], 1472);
    try expect(result.gso_refused and !sender.gso and sender.gso_errno != 0);
    try expectEqual(@as(usize, 2 * 1472), result.taken_bytes);
    var buffer: [udp.receive_bytes_max]u8 = undefined;
    for (0..2) |_| try expectEqual(@as(u32, 1472), receive_soon(receiver.fd, &buffer).?.len);
    const batch = try roundtrip(&sender, receiver, pattern.bytes[0 .. 44 * 1472 + 16]);
    try expectEqual(@as(usize, 1472), batch);
    try expect(!udp.send_run(&sender, pattern.bytes[0 .. 2 * 1472], 1472).gso_refused);
}

test "open_unicast_receiver(): a taken port is an error that names it" {
    var failure: Failure = .{};
    const at = try free_unicast(&failure);
    const first = try udp.open_unicast_receiver(at, 1 << 16, &failure);
    defer udp.close(first.fd);
    const taken = udp.open_unicast_receiver(at, 1 << 16, &failure);
    try std.testing.expectError(error.Taken, taken);
    var text: [128]u8 = undefined;
    try std.testing.expectEqualStrings(try std.fmt.bufPrint(
        &text,
        "{f} is taken by another socket: EADDRINUSE",
        .{at},
    ), failure.text());
    // The same port of another local address is free.
    const beside: Address = .init(address_module.ip_of(.{ 127, 0, 0, 2 }), at.port);
    const second = try udp.open_unicast_receiver(beside, 1 << 16, &failure);
    udp.close(second.fd);
}

test "addresses that are not local, and interfaces that do not exist, are refused with text" {
    var failure: Failure = .{};
    const foreign = address_module.ip_of(.{ 192, 0, 2, 1 }); // TEST-NET-1
    const bound = udp.open_unicast_receiver(.init(foreign, 30_000), 1 << 16, &failure);
    try std.testing.expectError(error.Refused, bound);
    try std.testing.expectEqualStrings(
        "cannot bind the socket for 192.0.2.1:30000: EADDRNOTAVAIL",
        failure.text(),
    );
    const group = udp.open_group_receiver(random_group(), foreign, 1 << 16, &failure);
    try std.testing.expectError(error.Refused, group);
    try expect(std.mem.endsWith(u8, failure.text(), "on the interface of 192.0.2.1: ENODEV"));
    const control = udp.open_control(foreign, &failure);
    try std.testing.expectError(error.Refused, control);
}

test "open_repair(): every port of the range once, then an error that names the range" {
    var failure: Failure = .{};
    const probe = try free_unicast(&failure);
    const start: u16 = @min(probe.port, 65_500);
    // Others may hold a port of the range; own ones must be distinct and within.
    var fds: [8]i32 = undefined;
    var count: usize = 0;
    defer for (fds[0..count]) |fd| udp.close(fd);
    var seen: [8]bool = @splat(false);
    while (count < fds.len) {
        const endpoint = udp.open_repair(localhost, start, start + 7, &failure) catch |e| {
            try expectEqual(error.Taken, e);
            break;
        };
        fds[count] = endpoint.fd;
        count += 1;
        const index = endpoint.address.port - start;
        try expect(index < 8 and !seen[index]);
        seen[index] = true;
    }
    try expect(count > 0);
    const exhausted = udp.open_repair(localhost, start, start + 7, &failure);
    try std.testing.expectError(error.Taken, exhausted);
    var text: [128]u8 = undefined;
    try std.testing.expectEqualStrings(try std.fmt.bufPrint(
        &text,
        "all 8 repair ports {d}..{d} of 127.0.0.1 are taken",
        .{ start, start + 7 },
    ), failure.text());
    const mine = start + @as(u16, @intCast(std.mem.indexOfScalar(bool, &seen, true).?));
    const fixed = udp.open_repair_fixed(localhost, mine, &failure);
    try std.testing.expectError(error.Taken, fixed);
}

test "send_to() and recv_from(): control socket and repair socket answer each other" {
    var failure: Failure = .{};
    var buffer: [udp.receive_bytes_max]u8 = undefined;
    const repair = try udp.open_repair(localhost, 30_001, 40_000, &failure);
    defer udp.close(repair.fd);
    const control = try udp.open_control(localhost, &failure);
    defer udp.close(control.fd);
    try expect(repair.address.port >= 30_001 and repair.address.port <= 40_000);
    try expectEqual(@as(usize, 3), udp.send_to(control.fd, repair.address, "nak").taken_bytes);
    const received = receive_soon(repair.fd, &buffer).?;
    try expect(received.from.eql(control.address));
    try std.testing.expectEqualStrings("nak", buffer[0..received.len]);
    _ = udp.send_to(repair.fd, received.from, "repair");
    try expectEqual(@as(u32, 6), receive_soon(control.fd, &buffer).?.len);
    // Nobody at that port: lost like on the wire, and nothing is left for the next receive.
    const nobody = try free_unicast(&failure);
    for (0..3) |_| {
        const result = udp.send_to(control.fd, nobody, "x");
        try expectEqual(@as(usize, 1), result.taken_bytes);
        try expect(!result.would_block);
    }
    try expectEqual(@as(?udp.Received, null), udp.recv_from(control.fd, &buffer));
}

test "send_run(): a unicast receiver that is gone costs nothing but its datagrams" {
    var failure: Failure = .{};
    const at = try free_unicast(&failure);
    var sender = try open_group_sender(at, &failure);
    defer udp.close(sender.fd);
    var refused: u32 = 0;
    for (0..10) |_| {
        const result = udp.send_run(&sender, "anybody there?", 1472);
        try expectEqual(@as(usize, 14), result.taken_bytes);
        try expect(!result.would_block);
        refused += result.refused_reports;
    }
    try expect(refused > 0);
    // When it comes back, the next datagram arrives: no report eats it.
    const receiver = try udp.open_unicast_receiver(at, 1 << 16, &failure);
    defer udp.close(receiver.fd);
    const result = udp.send_run(&sender, "again", 1472);
    try expectEqual(@as(u32, 0), result.lost_datagrams);
    var buffer: [udp.receive_bytes_max]u8 = undefined;
    try expectEqual(@as(u32, 5), receive_soon(receiver.fd, &buffer).?.len);
}

test "kernel_drops(): received and dropped make up what was sent" {
    var failure: Failure = .{};
    var buffer: [udp.receive_bytes_max]u8 = undefined;
    const at = try free_unicast(&failure);
    const unicast = try udp.open_unicast_receiver(at, 16 << 10, &failure);
    defer udp.close(unicast.fd);
    const group = try udp.open_group_receiver(random_group(), localhost, 16 << 10, &failure);
    defer udp.close(group.fd);
    for ([_]udp.Receiver{ unicast, group }) |receiver| {
        var sender = try open_group_sender(receiver.address, &failure);
        defer udp.close(sender.fd);
        try expectEqual(@as(?u32, 0), udp.kernel_drops(receiver.fd));
        const sent = 500;
        for (0..sent) |_| {
            const bytes: [1000]u8 = @splat(7);
            try expectEqual(bytes.len, udp.send_run(&sender, &bytes, 1472).taken_bytes);
        }
        var received: u32 = 0;
        while (udp.recv_from(receiver.fd, &buffer)) |_| received += 1;
        const drops = udp.kernel_drops(receiver.fd).?;
        try expect(received > 0 and drops > 0);
        try expectEqual(@as(u32, sent), received + drops);
    }
}

test "kernel_drops(): a joined run that did not fit counts once" {
    var failure: Failure = .{};
    var buffer: [udp.receive_bytes_max]u8 = undefined;
    const receiver = try udp.open_group_receiver(random_group(), localhost, 16 << 10, &failure);
    defer udp.close(receiver.fd);
    var sender = try open_group_sender(receiver.address, &failure);
    defer udp.close(sender.fd);
    const pattern = try std.testing.allocator.create(Pattern);
    defer std.testing.allocator.destroy(pattern);
    pattern.fill();
    const runs = 10;
    for (0..runs) |_| _ = udp.send_run(&sender, pattern.bytes[0 .. 44 * 1472], 1472);
    var received: u32 = 0;
    while (udp.recv_from(receiver.fd, &buffer)) |batch| received += batch.len / (44 * 1472);
    // Even the smallest buffer takes one whole run.
    try expect(received > 0);
    try expectEqual(@as(u32, runs), received + udp.kernel_drops(receiver.fd).?);
}

test "TTL, McLoop and buffers reach the kernel" {
    var failure: Failure = .{};
    for ([_]bool{ true, false }, [_]u8{ 8, 0 }) |mc_loop, ttl| {
        const sender = try udp.open_sender(.{
            .destination = random_group(),
            .source_ip = localhost,
            .ttl = ttl,
            .mc_loop = mc_loop,
        }, &failure);
        defer udp.close(sender.fd);
        const level = linux.SOL.IP;
        try expectEqual(ttl, get_int(sender.fd, level, linux.IP.MULTICAST_TTL));
        const loop: c_int = @intFromBool(mc_loop);
        try expectEqual(loop, get_int(sender.fd, level, linux.IP.MULTICAST_LOOP));
    }
    for ([_]u8{ 0, 1, 8, 255 }) |ttl| {
        const sender = try udp.open_sender(.{
            .destination = .init(localhost, 9),
            .source_ip = localhost,
            .ttl = ttl,
            .mc_loop = true,
        }, &failure);
        defer udp.close(sender.fd);
        try expectEqual(@max(ttl, 1), get_int(sender.fd, linux.SOL.IP, linux.IP.TTL));
    }
    const receiver = try udp.open_group_receiver(random_group(), localhost, 100 << 10, &failure);
    defer udp.close(receiver.fd);
    try expectEqual(@as(u32, 100 << 10), receiver.buffer_bytes);
    const doubled = get_int(receiver.fd, linux.SOL.SOCKET, linux.SO.RCVBUF);
    try expectEqual(@as(c_int, 200 << 10), doubled);
    try expectEqual(@as(c_int, 0), get_int(receiver.fd, linux.SOL.IP, linux.IP.MULTICAST_ALL));
    // The largest number of the configuration is more than the kernel can be asked for.
    const huge = try udp.open_group_receiver(random_group(), localhost, 4194303 << 10, &failure);
    defer udp.close(huge.fd);
    try expect(huge.buffer_bytes > 0);
}
