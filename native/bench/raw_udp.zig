//! Yardsticks of UDP: the same datagrams over plain sockets, without anything on top.

const std = @import("std");
const linux = std.os.linux;
const machine = @import("machine.zig");
const Histogram = @import("histogram.zig").Histogram;

const loopback = std.mem.readInt(u32, &[_]u8{ 127, 0, 0, 1 }, .little);
const group_to = std.mem.readInt(u32, &[_]u8{ 239, 77, 0, 1 }, .little);
const group_back = std.mem.readInt(u32, &[_]u8{ 239, 77, 0, 2 }, .little);
const port_to = 47101;
const port_back = 47102;

/// `struct ip_mreqn`.
const Membership = extern struct { group: u32, interface_ip: u32, index: c_int = 0 };

fn address(ip: u32, port: u16) linux.sockaddr.in {
    return .{ .port = std.mem.nativeToBig(u16, port), .addr = ip };
}

fn set(fd: i32, level: i32, name: u32, value: anytype) void {
    const bytes = std.mem.asBytes(&value);
    _ = machine.must("setsockopt", linux.setsockopt(fd, level, name, bytes, bytes.len));
}

fn open(flags: u32) i32 {
    const kind = linux.SOCK.DGRAM | linux.SOCK.CLOEXEC | flags;
    return @intCast(machine.must("socket", linux.socket(linux.AF.INET, kind, 0)));
}

fn bind(fd: i32, at: linux.sockaddr.in) void {
    _ = machine.must("bind", linux.bind(fd, @ptrCast(&at), @sizeOf(linux.sockaddr.in)));
}

fn connect(fd: i32, to: linux.sockaddr.in) void {
    _ = machine.must("connect", linux.connect(fd, &to, @sizeOf(linux.sockaddr.in)));
}

fn group_sender(group: u32, port: u16) i32 {
    const fd = open(linux.SOCK.NONBLOCK);
    set(fd, linux.SOL.IP, linux.IP.MULTICAST_IF, Membership{
        .group = 0,
        .interface_ip = loopback,
    });
    bind(fd, address(loopback, 0));
    connect(fd, address(group, port));
    return fd;
}

fn group_receiver(group: u32, port: u16, flags: u32) i32 {
    const fd = open(flags);
    set(fd, linux.SOL.SOCKET, linux.SO.REUSEADDR, @as(c_int, 1));
    bind(fd, address(group, port));
    set(fd, linux.SOL.IP, linux.IP.ADD_MEMBERSHIP, Membership{
        .group = group,
        .interface_ip = loopback,
    });
    return fd;
}

fn unicast(port: u16, to: u16) i32 {
    const fd = open(linux.SOCK.NONBLOCK);
    bind(fd, address(loopback, port));
    connect(fd, address(loopback, to));
    return fd;
}

/// `blocks`: it sleeps until something comes, and answers when it came.
const Ends = struct { out: i32, in: i32, bytes: usize, blocks: bool = false };

inline fn receive(ends: Ends, buffer: []u8) usize {
    const flags: u32 = if (ends.blocks) 0 else linux.MSG.DONTWAIT;
    while (true) {
        const n = linux.recvfrom(ends.in, buffer.ptr, buffer.len, flags, null, null);
        if (linux.errno(n) == .SUCCESS) return n;
    }
}

inline fn send(fd: i32, bytes: []const u8) void {
    while (true) {
        const n = linux.sendto(fd, bytes.ptr, bytes.len, linux.MSG.DONTWAIT, null, 0);
        if (linux.errno(n) == .SUCCESS) return;
    }
}

pub const Kind = enum { multicast, unicast };

pub const PingPong = struct {
    kind: Kind,
    cores: [2]u32,
    warm: u64,
    count: u64,
    bytes: u32,
    /// The answering side sleeps in `recv` (what waking a process costs), and is asked this often;
    /// what is measured is one way then.
    every_ns: u64 = 0,
};

/// Round trips of one datagram, the payload read.
pub fn ping_pong(o: PingPong, out: *Histogram) void {
    const blocks = o.every_ns > 0;
    const wait: u32 = if (blocks) 0 else linux.SOCK.NONBLOCK;
    const far: Ends, const near: Ends = switch (o.kind) {
        .multicast => .{
            .{
                .in = group_receiver(group_to, port_to, wait),
                .out = group_sender(group_back, port_back),
                .bytes = o.bytes,
                .blocks = blocks,
            },
            .{
                .in = group_receiver(group_back, port_back, linux.SOCK.NONBLOCK),
                .out = group_sender(group_to, port_to),
                .bytes = o.bytes,
            },
        },
        .unicast => blk: {
            const a = unicast(port_to, port_back);
            const b = unicast(port_back, port_to);
            break :blk .{
                .{ .in = a, .out = a, .bytes = o.bytes },
                .{ .in = b, .out = b, .bytes = o.bytes },
            };
        },
    };
    const child = machine.fork(o.cores[1], far, echo);
    defer machine.end(child);
    machine.pin(o.cores[0]);
    var buffer: [65536]u8 = undefined;
    @memset(buffer[0..o.bytes], 7);
    var from = machine.now_ns();
    for (0..o.warm + o.count) |i| {
        if (o.every_ns > 0) {
            const due = from + o.every_ns;
            while (machine.now_ns() < due) std.atomic.spinLoopHint();
            from = machine.now_ns();
        }
        send(near.out, buffer[0..o.bytes]);
        const n = receive(near, &buffer);
        const sum = machine.sum_of(buffer[0..n]);
        const now = if (blocks) std.mem.readInt(u64, buffer[8..16], .little) else machine.now_ns();
        if (i >= o.warm) out.add(now -| from);
        buffer[0] = @truncate(sum);
        from = now;
    }
}

fn echo(ends: Ends) void {
    var buffer: [65536]u8 = undefined;
    while (true) {
        const n = receive(ends, &buffer);
        buffer[0] = @truncate(machine.sum_of(buffer[0..n]));
        if (ends.blocks) std.mem.writeInt(u64, buffer[8..16], machine.now_ns(), .little);
        send(ends.out, buffer[0..ends.bytes]);
    }
}

const segment_bytes = 1472;
const segments = 44;
const run_bytes = segment_bytes * segments;
/// Runs under way: as many datagrams as a window of 256 holds.
const runs_ahead = 5;
const receivers_max = 2;

const Credit = struct {
    taken: [receivers_max]Line,

    const Line = struct { bytes: std.atomic.Value(u64) align(64), pad: [56]u8 };

    fn least(self: *const Credit, receivers: u32) u64 {
        var low: u64 = std.math.maxInt(u64);
        for (self.taken[0..receivers]) |*line| low = @min(low, line.bytes.load(.acquire));
        return low;
    }
};

pub const Flood = struct {
    cores: [2]u32,
    receivers: u32,
    warm_bytes: u64,
    bytes: u64,
};

const Sink = struct { fd: i32, credit: *Credit, index: u32, shares: bool };

/// Full datagrams in runs (GSO into GRO), none lost: credit goes back through shared memory, so that
/// acknowledging costs nothing. Nanoseconds that `bytes` took at the first receiver.
pub fn flood_ns(o: Flood) u64 {
    const memory = machine.map_shared(machine.page_bytes);
    defer machine.unmap(memory);
    const credit: *Credit = @ptrCast(memory.ptr);
    var children: [receivers_max]i32 = undefined;
    for (0..o.receivers) |i| {
        const fd = group_receiver(group_to, port_to, linux.SOCK.NONBLOCK);
        set(fd, linux.SOL.SOCKET, linux.SO.RCVBUF, @as(c_int, 8 << 20));
        const forced: c_int = 8 << 20;
        const bytes = std.mem.asBytes(&forced);
        // Only as root: without it fewer runs are under way.
        _ = linux.setsockopt(fd, linux.SOL.SOCKET, linux.SO.RCVBUFFORCE, bytes, bytes.len);
        set(fd, linux.IPPROTO.UDP, linux.UDP.GRO, @as(c_int, 1));
        const sink: Sink = .{
            .fd = fd,
            .credit = credit,
            .index = @intCast(i),
            .shares = o.receivers > 1,
        };
        children[i] = machine.fork(o.cores[1], sink, drain);
    }
    defer for (children[0..o.receivers]) |child| machine.end(child);
    machine.pin(o.cores[0]);
    const fd = group_sender(group_to, port_to);
    set(fd, linux.IPPROTO.UDP, linux.UDP.SEGMENT, @as(c_int, segment_bytes));
    const image: [run_bytes]u8 = @splat(5);
    var sent: u64 = 0;
    var from: u64 = 0;
    var from_bytes: u64 = 0;
    while (true) {
        const taken = credit.least(o.receivers);
        if (from == 0 and taken >= o.warm_bytes) {
            from = machine.now_ns();
            from_bytes = taken;
        }
        if (from != 0 and taken >= from_bytes + o.bytes) {
            const took = machine.now_ns() - from;
            // As if exactly `bytes` had come.
            return @intFromFloat(@as(f64, @floatFromInt(took)) *
                @as(f64, @floatFromInt(o.bytes)) / @as(f64, @floatFromInt(taken - from_bytes)));
        }
        if (sent - taken > (runs_ahead - 1) * run_bytes) {
            std.atomic.spinLoopHint();
            continue;
        }
        send(fd, &image);
        sent += run_bytes;
    }
}

fn drain(sink: Sink) void {
    var buffer: [65536]u8 = undefined;
    var taken: u64 = 0;
    while (true) {
        const n = linux.recvfrom(sink.fd, &buffer, buffer.len, linux.MSG.DONTWAIT, null, null);
        if (linux.errno(n) != .SUCCESS) {
            if (sink.shares) machine.yield();
            continue;
        }
        taken += n;
        sink.credit.taken[sink.index].bytes.store(taken, .release);
    }
}
