//! UDP sockets over raw Linux system calls: how they are opened, and the three calls that traffic
//! makes.
//!
//! Data leaves through one connected socket for each destination (a group, or one receiver of a
//! list) in runs: datagrams of equal length that lie one after the other go to the kernel in one
//! send (UDP_SEGMENT), which cuts a datagram's cost from 2.5 us to 0.1 us. Data arrives through one
//! socket for each (address, port) with UDP_GRO on, so one receive may yield a whole run again. It
//! is read without control data, which would cost 0.2 us; so a datagram must carry its own length,
//! and the reader walks a batch by it.
//!
//! Every socket is non-blocking and closed on exec. Set-up calls describe a refusal in a `Failure`;
//! traffic calls return what happened. Nothing here allocates, and no descriptor outlives an error.

const std = @import("std");
const linux = std.os.linux;
const address_module = @import("address.zig");
const failure_module = @import("failure.zig");

pub const Address = address_module.Address;
pub const Failure = failure_module.Failure;
const Ip = address_module.Ip;
const errno_of = failure_module.errno_of;
const assert = @import("../assert.zig").assert;

/// SOL_UDP, the level of UDP_SEGMENT and UDP_GRO.
const sol_udp = linux.IPPROTO.UDP;

/// Largest UDP payload over IPv4: 65,535 less 20 (IP) and 8 (UDP) bytes.
pub const datagram_bytes_max = 65_507;
/// Datagrams of one run that go to the kernel in one send; older kernels take no more.
pub const run_segments_max = 64;
/// A receive buffer of this size takes every datagram and every batch that GRO joins.
pub const receive_bytes_max = 65_536;
/// Asked for sending sockets: several runs fit while a network card drains, and more than the
/// kernel queues for an address that does not answer: a machine that is gone loses, never blocks.
pub const send_buffer_bytes = 2 << 20;
/// Asked for repair and control sockets: thousands of acknowledgements fit.
pub const control_buffer_bytes = 1 << 20;

/// A set-up call was refused; the `Failure` says by whom and why. No descriptor stays open.
pub const OpenError = error{
    /// Address, port or range is taken by another socket.
    Taken,
    /// Anything else the kernel refused.
    Refused,
};

/// A socket that receives data.
pub const Receiver = struct {
    fd: i32,
    /// The group or local address, and port, that it is bound to.
    address: Address,
    /// Receive buffer that the kernel granted, in the unit it was asked in. The kernel charges
    /// whole packet buffers against twice this number: 2.3 KiB for a datagram of 1,472 bytes.
    buffer_bytes: u32,
    /// The buffer was set without regard to `net.core.rmem_max` (CAP_NET_ADMIN).
    buffer_forced: bool,
    /// Batches may arrive joined.
    gro: bool,
    /// Why not, 0 when it works.
    gro_errno: u16,
};

/// A socket that sends data to one destination. One thread at a time may use it.
pub const Sender = struct {
    fd: i32,
    destination: Address,
    source: Address,
    /// Runs go out in one send. Turned off for good when the kernel refuses one.
    gso: bool,
    /// Why not, 0 while it works.
    gso_errno: u16,
};

/// An unconnected socket for `send_to` and `recv_from`: repair (ACK and NAK arrive) or control.
pub const Endpoint = struct {
    fd: i32,
    address: Address,
};

/// Opens a receiver of a multicast group, member on the interface that has `interface_ip`. Several
/// sockets may listen to one group and port. Only datagrams to this group that arrived on this
/// interface are received. A smaller buffer than `buffer_bytes` is no error: see `buffer_bytes` of
/// the result, and `net.core.rmem_max`.
pub fn open_group_receiver(
    group: Address,
    interface_ip: u32,
    buffer_bytes: u32,
    failure: *Failure,
) OpenError!Receiver {
    assert(group.is_multicast() and group.port != 0);
    const fd = try open_socket(failure);
    errdefer close(fd);
    // Order matters: bound and not yet filtered, it would take other members' datagrams.
    const errno_options = first_errno(.{
        set_int(fd, linux.SOL.SOCKET, linux.SO.REUSEADDR, 1),
        set_int(fd, linux.SOL.IP, linux.IP.MULTICAST_ALL, 0),
    });
    if (errno_options != 0) return fail_open("prepare", group, errno_options, failure);
    const granted = set_receive_buffer(fd, buffer_bytes);
    const gro_errno = set_int(fd, sol_udp, linux.UDP.GRO, 1);
    try bind(fd, group, failure);
    const membership: Membership = .{ .group = group.ip, .interface_ip = interface_ip };
    const errno_join = set_option(fd, linux.SOL.IP, linux.IP.ADD_MEMBERSHIP, membership);
    if (errno_join != 0) {
        failure.set_errno(errno_join, "cannot join group {f} on the interface of {f}", .{
            Ip{ .ip = group.ip }, Ip{ .ip = interface_ip },
        });
        return error.Refused;
    }
    return receiver_of(fd, group, granted, gro_errno);
}

/// Opens the receiver of a unicast address and port. They belong to one socket alone: taken is an
/// error that names them.
pub fn open_unicast_receiver(
    address: Address,
    buffer_bytes: u32,
    failure: *Failure,
) OpenError!Receiver {
    assert(!address.is_multicast() and address.port != 0);
    const fd = try open_socket(failure);
    errdefer close(fd);
    const granted = set_receive_buffer(fd, buffer_bytes);
    const gro_errno = set_int(fd, sol_udp, linux.UDP.GRO, 1);
    try bind(fd, address, failure);
    return receiver_of(fd, address, granted, gro_errno);
}

fn receiver_of(fd: i32, address: Address, granted: GrantedBuffer, gro_errno: u16) Receiver {
    return .{
        .fd = fd,
        .address = address,
        .buffer_bytes = granted.bytes,
        .buffer_forced = granted.forced,
        .gro = gro_errno == 0,
        .gro_errno = gro_errno,
    };
}

pub const SenderOptions = struct {
    /// A group or one receiver.
    destination: Address,
    /// Local address: source of the datagrams, and for a group the interface they leave by.
    source_ip: u32,
    /// Hops. 0 keeps multicast on this machine; for unicast it counts as 1.
    ttl: u8,
    /// Receivers of the group on this machine get the datagrams too (`McLoop`).
    mc_loop: bool,
};

/// Opens a sending socket connected to its destination, with an ephemeral source port.
pub fn open_sender(options: SenderOptions, failure: *Failure) OpenError!Sender {
    const destination = options.destination;
    assert(destination.port != 0 and options.source_ip != 0);
    const fd = try open_socket(failure);
    errdefer close(fd);
    const errno_options = if (destination.is_multicast()) first_errno(.{
        set_option(fd, linux.SOL.IP, linux.IP.MULTICAST_IF, Membership{
            .group = 0,
            .interface_ip = options.source_ip,
        }),
        set_int(fd, linux.SOL.IP, linux.IP.MULTICAST_TTL, options.ttl),
        set_int(fd, linux.SOL.IP, linux.IP.MULTICAST_LOOP, @intFromBool(options.mc_loop)),
    }) else set_ttl(fd, options.ttl);
    if (errno_options != 0) return fail_open("prepare", destination, errno_options, failure);
    set_send_buffer(fd, send_buffer_bytes);
    try bind(fd, .init(options.source_ip, 0), failure);
    const to = destination.to_sockaddr();
    const errno_connect = errno_of(linux.connect(fd, &to, @sizeOf(@TypeOf(to))));
    if (errno_connect != 0) {
        failure.set_errno(errno_connect, "cannot send from {f} to {f}", .{
            Ip{ .ip = options.source_ip }, destination,
        });
        return error.Refused;
    }
    var segment_bytes: c_int = 0;
    const gso_errno = get_option(fd, sol_udp, linux.UDP.SEGMENT, &segment_bytes);
    return .{
        .fd = fd,
        .destination = destination,
        .source = local_address(fd),
        .gso = gso_errno == 0,
        .gso_errno = gso_errno,
    };
}

/// Opens a repair socket at the first free port of `port_start`..`port_end` (both included),
/// looking from a random place on, so that many processes started together seldom meet.
pub fn open_repair(
    ip: u32,
    port_start: u16,
    port_end: u16,
    failure: *Failure,
) OpenError!Endpoint {
    assert(port_start >= 1 and port_start <= port_end);
    const count = @as(u32, port_end) - port_start + 1;
    const offset = random_u32() % count;
    for (0..count) |step| {
        const port = port_start + (offset + @as(u32, @intCast(step))) % count;
        return open_endpoint(.init(ip, @intCast(port)), failure) catch |e| switch (e) {
            error.Taken => continue,
            error.Refused => return e,
        };
    }
    failure.set("all {d} repair ports {d}..{d} of {f} are taken", .{
        count, port_start, port_end, Ip{ .ip = ip },
    });
    return error.Taken;
}

/// Opens a repair socket at a fixed port (`RepairPort`); taken is an error that names it.
pub fn open_repair_fixed(ip: u32, port: u16, failure: *Failure) OpenError!Endpoint {
    assert(port != 0);
    return open_endpoint(.init(ip, port), failure);
}

/// Opens a socket at an ephemeral port, for what a receiver tells its senders.
pub fn open_control(ip: u32, failure: *Failure) OpenError!Endpoint {
    return open_endpoint(.init(ip, 0), failure);
}

fn open_endpoint(at: Address, failure: *Failure) OpenError!Endpoint {
    const fd = try open_socket(failure);
    errdefer close(fd);
    _ = set_receive_buffer(fd, control_buffer_bytes);
    set_send_buffer(fd, control_buffer_bytes);
    try bind(fd, at, failure);
    return .{ .fd = fd, .address = local_address(fd) };
}

/// Sets the hops of unicast datagrams of a socket; 0, which the kernel refuses, counts as 1. 0 on
/// success, otherwise the kernel's error number.
pub fn set_ttl(fd: i32, ttl: u8) u16 {
    return set_int(fd, linux.SOL.IP, linux.IP.TTL, @max(ttl, 1));
}

pub const GroupSending = struct {
    interface_ip: u32,
    ttl: u8,
    loop: bool,
    /// Asked for.
    receive_buffer_bytes: u32,
};

/// Prepares an endpoint to send to groups too. 0 on success, otherwise the kernel's error number.
pub fn send_to_groups(fd: i32, o: GroupSending) u16 {
    const errno = first_errno(.{
        set_option(fd, linux.SOL.IP, linux.IP.MULTICAST_IF, Membership{
            .group = 0,
            .interface_ip = o.interface_ip,
        }),
        set_int(fd, linux.SOL.IP, linux.IP.MULTICAST_TTL, o.ttl),
        set_int(fd, linux.SOL.IP, linux.IP.MULTICAST_LOOP, @intFromBool(o.loop)),
        set_ttl(fd, o.ttl),
    });
    if (errno != 0) return errno;
    _ = set_receive_buffer(fd, @max(o.receive_buffer_bytes, control_buffer_bytes));
    return 0;
}

/// Each receive brings one datagram: the kernel joins none.
pub fn leave_apart(fd: i32) void {
    _ = set_int(fd, sol_udp, linux.UDP.GRO, 0);
}

/// Another descriptor of the same socket.
pub fn duplicate(fd: i32, failure: *Failure) OpenError!i32 {
    const result = linux.fcntl(fd, linux.F.DUPFD_CLOEXEC, 0);
    if (errno_of(result) == 0) return @intCast(result);
    failure.set_errno(errno_of(result), "cannot duplicate the descriptor of a socket", .{});
    return error.Refused;
}

pub fn close(fd: i32) void {
    assert(fd >= 0);
    _ = linux.close(fd); // Nothing is to be done about an error: the descriptor is gone either way.
}

/// What a sending call did.
pub const SendResult = struct {
    /// Bytes from the front, whole datagrams only, that are done: sent, or lost like on the wire.
    /// What follows them was refused for now (`would_block`).
    taken_bytes: usize = 0,
    /// Datagrams among them that the kernel did not send (a filter, a missing route). Repair, or
    /// the next heartbeat, covers them as any loss.
    lost_datagrams: u32 = 0,
    /// Reports, found by this call, that an earlier datagram met no receiver (ICMP).
    refused_reports: u32 = 0,
    /// Kernel's reason for the last of `lost_datagrams`, 0 when there is none. EPERM is a netfilter
    /// rule.
    errno: u16 = 0,
    /// The socket's buffer is full: try the rest again later (POLLOUT tells when).
    would_block: bool = false,
    /// This call found that the kernel refuses runs here: `Sender.gso_errno` says why. True once
    /// for a sender; its runs go one datagram at a time from now on.
    gso_refused: bool = false,
};

/// Sends datagrams that lie one after the other in `bytes`: all of `segment_bytes`, the last one
/// may be shorter. As many as the kernel takes at once go in one send.
pub fn send_run(sender: *Sender, bytes: []const u8, segment_bytes: u32) SendResult {
    assert(bytes.len > 0);
    assert(segment_bytes > 0 and segment_bytes <= datagram_bytes_max);
    const run_bytes_max = run_bytes(segment_bytes);
    var result: SendResult = .{};
    while (result.taken_bytes < bytes.len) {
        const rest = bytes[result.taken_bytes..];
        const chunk = rest[0..@min(rest.len, if (sender.gso) run_bytes_max else segment_bytes)];
        const is_run = chunk.len > segment_bytes;
        const errno = if (is_run)
            transmit_run(sender.fd, chunk, @intCast(segment_bytes), &result)
        else
            transmit(sender.fd, chunk, null, &result);
        if (errno == 0) {
            result.taken_bytes += chunk.len;
        } else if (is_would_block(errno)) {
            result.would_block = true;
            return result;
        } else if (is_run and is_gso_refusal(errno)) {
            sender.gso = false;
            sender.gso_errno = errno;
            result.gso_refused = true;
        } else {
            result.errno = errno;
            result.lost_datagrams += @intCast((chunk.len + segment_bytes - 1) / segment_bytes);
            result.taken_bytes += chunk.len;
        }
    }
    return result;
}

/// Sends one datagram from an unconnected socket.
pub fn send_to(fd: i32, destination: Address, bytes: []const u8) SendResult {
    assert(bytes.len > 0 and bytes.len <= datagram_bytes_max);
    var result: SendResult = .{};
    const to = destination.to_sockaddr();
    const errno = transmit(fd, bytes, &to, &result);
    if (is_would_block(errno)) {
        result.would_block = true;
        return result;
    }
    result.taken_bytes = bytes.len;
    result.errno = errno;
    result.lost_datagrams = @intFromBool(errno != 0);
    return result;
}

/// What one receive brought.
pub const Received = struct {
    /// 0 is a datagram without payload. With GRO several datagrams of one sender may stand one
    /// after the other, all of the first one's length, the last one may be shorter.
    len: u32,
    from: Address,
};

/// Takes what arrived next; null when nothing waits. `buffer` must have `receive_bytes_max` bytes,
/// or what does not fit is cut off.
pub fn recv_from(fd: i32, buffer: []u8) ?Received {
    assert(buffer.len >= receive_bytes_max);
    // A report of an earlier datagram's fate comes out as an error, once; data may wait behind it.
    for (0..3) |_| {
        var from: linux.sockaddr.in = undefined;
        var from_bytes: linux.socklen_t = @sizeOf(@TypeOf(from));
        const result = linux.recvfrom(
            fd,
            buffer.ptr,
            buffer.len,
            linux.MSG.DONTWAIT,
            @ptrCast(&from),
            &from_bytes,
        );
        switch (linux.errno(result)) {
            .SUCCESS => return .{ .len = @intCast(result), .from = .from_sockaddr(from) },
            .AGAIN => return null,
            else => |errno| assert(errno != .BADF and errno != .NOTSOCK and errno != .FAULT),
        }
    }
    return null;
}

/// Datagrams that the kernel threw away at this socket since it was opened (buffer full, bad
/// checksum); a run that arrived joined counts once. Wraps at 2^32. Null where the kernel does not
/// tell (before Linux 4.12). A system call.
pub fn kernel_drops(fd: i32) ?u32 {
    const drops_index = 8; // SK_MEMINFO_DROPS
    var info: [drops_index + 1]u32 = undefined;
    var info_bytes: linux.socklen_t = @sizeOf(@TypeOf(info));
    const result = linux.getsockopt(
        fd,
        linux.SOL.SOCKET,
        linux.SO.MEMINFO,
        @ptrCast(&info),
        &info_bytes,
    );
    if (errno_of(result) != 0 or info_bytes < @sizeOf(@TypeOf(info))) return null;
    return info[drops_index];
}

/// Bytes that the kernel granted to the receive buffer; it keeps twice as many, for what it adds to
/// each datagram.
pub fn receive_buffer(fd: i32) u32 {
    var doubled: c_int = 0;
    if (get_option(fd, linux.SOL.SOCKET, linux.SO.RCVBUF, &doubled) != 0) return 0;
    return @intCast(@divTrunc(@max(doubled, 0), 2));
}

/// Most bytes of datagrams of `segment_bytes` that go out in one send: 44 of 1,472, for example.
pub fn run_bytes(segment_bytes: u32) u32 {
    assert(segment_bytes > 0 and segment_bytes <= datagram_bytes_max);
    return segment_bytes * @min(run_segments_max, datagram_bytes_max / segment_bytes);
}

// ---- one datagram or one run ----

fn transmit(
    fd: i32,
    bytes: []const u8,
    to: ?*const linux.sockaddr.in,
    result: *SendResult,
) u16 {
    var errno: u16 = 0;
    for (0..attempts_max) |_| {
        errno = errno_of(linux.sendto(
            fd,
            bytes.ptr,
            bytes.len,
            linux.MSG.DONTWAIT | linux.MSG.NOSIGNAL,
            @ptrCast(to),
            if (to == null) 0 else @sizeOf(linux.sockaddr.in),
        ));
        if (!is_worth_another(errno, result)) break;
    }
    return errno;
}

fn transmit_run(fd: i32, bytes: []const u8, segment_bytes: u16, result: *SendResult) u16 {
    const parts = [1]std.posix.iovec_const{.{ .base = bytes.ptr, .len = bytes.len }};
    const control: SegmentControl = .{ .segment_bytes = segment_bytes };
    const message: linux.msghdr_const = .{
        .name = null,
        .namelen = 0,
        .iov = &parts,
        .iovlen = parts.len,
        .control = &control,
        .controllen = @sizeOf(SegmentControl),
        .flags = 0,
    };
    var errno: u16 = 0;
    for (0..attempts_max) |_| {
        errno = errno_of(linux.sendmsg(
            fd,
            &message,
            linux.MSG.DONTWAIT | linux.MSG.NOSIGNAL,
        ));
        if (!is_worth_another(errno, result)) break;
    }
    return errno;
}

/// The first try may only fetch a report about an earlier datagram; the second tells the truth.
const attempts_max = 2;

/// `cmsghdr` and its one value, padded as CMSG_SPACE does. Said with each run instead of once for
/// the socket: a lone datagram must never be cut by the length of the last run.
const SegmentControl = extern struct {
    header: linux.cmsghdr = .{
        .len = @sizeOf(linux.cmsghdr) + @sizeOf(u16),
        .level = sol_udp,
        .type = linux.UDP.SEGMENT,
    },
    segment_bytes: u16,
    pad: [6]u8 = @splat(0),
};

comptime {
    assert(@sizeOf(SegmentControl) == 24);
    assert(@offsetOf(SegmentControl, "segment_bytes") == 16);
    assert(@sizeOf(linux.msghdr_const) == 56);
}

fn is_worth_another(errno: u16, result: *SendResult) bool {
    if (errno == 0 or is_would_block(errno) or errno == code(.PERM)) return false;
    if (errno == code(.CONNREFUSED)) result.refused_reports += 1;
    return true;
}

fn is_would_block(errno: u16) bool {
    return errno == code(.AGAIN) or errno == code(.NOBUFS) or errno == code(.NOMEM);
}

/// The socket or its way out can't do runs: EINVAL and EMSGSIZE for a segment over the path's MTU,
/// EIO for a device without checksum offload, ENOPROTOOPT and EOPNOTSUPP for an old kernel.
fn is_gso_refusal(errno: u16) bool {
    return errno == code(.INVAL) or errno == code(.IO) or errno == code(.NOPROTOOPT) or
        errno == code(.MSGSIZE) or errno == code(.OPNOTSUPP);
}

fn code(errno: linux.E) u16 {
    return @backingInt(errno);
}

// ---- set-up ----

/// `struct ip_mreqn`: the interface is named by its address, in any network namespace.
const Membership = extern struct {
    group: u32,
    interface_ip: u32,
    interface_index: c_int = 0,
};

fn open_socket(failure: *Failure) OpenError!i32 {
    const kind = linux.SOCK.DGRAM | linux.SOCK.CLOEXEC | linux.SOCK.NONBLOCK;
    const result = linux.socket(linux.AF.INET, kind, 0);
    const errno = errno_of(result);
    if (errno != 0) {
        failure.set_errno(errno, "cannot open a UDP socket", .{});
        return error.Refused;
    }
    return @intCast(result);
}

fn bind(fd: i32, at: Address, failure: *Failure) OpenError!void {
    const name = at.to_sockaddr();
    const errno = errno_of(linux.bind(fd, @ptrCast(&name), @sizeOf(@TypeOf(name))));
    if (errno == 0) return;
    if (errno == code(.ADDRINUSE)) {
        failure.set_errno(errno, "{f} is taken by another socket", .{at});
        return error.Taken;
    }
    return fail_open("bind", at, errno, failure);
}

fn fail_open(
    comptime verb: []const u8,
    at: Address,
    errno: u16,
    failure: *Failure,
) error{Refused} {
    failure.set_errno(errno, "cannot " ++ verb ++ " the socket for {f}", .{at});
    return error.Refused;
}

fn local_address(fd: i32) Address {
    var name: linux.sockaddr.in = undefined;
    var name_bytes: linux.socklen_t = @sizeOf(@TypeOf(name));
    const result = linux.getsockname(fd, @ptrCast(&name), &name_bytes);
    assert(errno_of(result) == 0);
    return .from_sockaddr(name);
}

const GrantedBuffer = struct { bytes: u32, forced: bool };

fn set_receive_buffer(fd: i32, asked_bytes: u32) GrantedBuffer {
    const bytes = clamp_buffer(asked_bytes);
    // Forced goes over net.core.rmem_max; it takes CAP_NET_ADMIN.
    const forced = set_int(fd, linux.SOL.SOCKET, linux.SO.RCVBUFFORCE, bytes) == 0;
    if (!forced) _ = set_int(fd, linux.SOL.SOCKET, linux.SO.RCVBUF, bytes);
    return .{ .bytes = receive_buffer(fd), .forced = forced };
}

fn set_send_buffer(fd: i32, asked_bytes: u32) void {
    const bytes = clamp_buffer(asked_bytes);
    if (set_int(fd, linux.SOL.SOCKET, linux.SO.SNDBUFFORCE, bytes) == 0) return;
    _ = set_int(fd, linux.SOL.SOCKET, linux.SO.SNDBUF, bytes);
}

/// The kernel doubles the number in an int: more than half of that can't be asked for.
fn clamp_buffer(asked_bytes: u32) c_int {
    return @intCast(@min(asked_bytes, std.math.maxInt(c_int) / 2));
}

fn set_int(fd: i32, level: i32, name: u32, value: c_int) u16 {
    return set_option(fd, level, name, value);
}

fn set_option(fd: i32, level: i32, name: u32, value: anytype) u16 {
    const bytes = std.mem.asBytes(&value);
    return errno_of(linux.setsockopt(fd, level, name, bytes, bytes.len));
}

fn get_option(fd: i32, level: i32, name: u32, value: anytype) u16 {
    const bytes = std.mem.asBytes(value);
    var len: linux.socklen_t = bytes.len;
    return errno_of(linux.getsockopt(fd, level, name, bytes, &len));
}

fn first_errno(errnos: anytype) u16 {
    inline for (errnos) |errno| {
        if (errno != 0) return errno;
    }
    return 0;
}

fn random_u32() u32 {
    var value: u32 = 0;
    const result = linux.getrandom(std.mem.asBytes(&value), @sizeOf(u32), 0);
    // Without the kernel's randomness the thread's number still spreads processes.
    if (errno_of(result) != 0) value = @bitCast(linux.gettid() *% 0x61c8_8647);
    return value;
}

test {
    _ = @import("udp_test.zig");
}
