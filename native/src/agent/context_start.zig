//! Builds a context from its options: memory, sockets, agents, threads; all or nothing.
//!
//! Long because a start is one sequence whose steps undo each other.

const std = @import("std");
const abi = @import("../abi.zig");
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("../limits.zig");
const session_limits = @import("../session/limits.zig");
const address = @import("../transport/address.zig");
const udp = @import("../transport/udp.zig");
const clock = @import("clock.zig");
const wait = @import("wait.zig");
const waker = @import("waker.zig");
const options_file = @import("options.zig");
const region_file = @import("../window/region.zig");
const store_file = @import("../window/store.zig");
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const Bump = @import("../window/pool.zig").Bump;
const Log = @import("../order/log.zig").Log;
const loss = @import("../repair/loss_detector.zig");
const peers = @import("../session/peers.zig");
const Sender = @import("../session/sender.zig").Sender;
const stream_file = @import("../session/stream.zig");
const Receiver = @import("../session/receiver.zig").Receiver;
const connection = @import("connection.zig");
const random_seed = connection.random_seed;
const injector_file = @import("injector.zig");
const Injector = injector_file.Injector;
const TxChannel = @import("tx_channel.zig").TxChannel;
const Transmitter = @import("transmitter.zig").Transmitter;
const rx_file = @import("rx_agent.zig");
const RxAgent = rx_file.RxAgent;
const RecordAgent = @import("record_agent.zig").RecordAgent;
const TierAgent = @import("tier_agent.zig").TierAgent;
const Context = @import("context.zig").Context;
const manual_ack = @import("manual_ack.zig");
const Counters = @import("counters.zig").Counters;
const lanes_file = @import("lanes.zig");
const ShmPeers = @import("../session/shm_peers.zig").ShmPeers;
const shm_windows = @import("shm_windows.zig");
const frame_ring = @import("../window/frame_ring.zig");
const Failure = udp.Failure;

pub const StartError = error{ Argument, Socket, Shm, OutOfMemory, Native };

pub const Request = struct {
    json: []const u8,
    waker_id: i32,
    wakers: *waker.WakerTable,
};

/// Starts a context. On failure everything is released and `failure` has the words.
pub fn start(gpa: std.mem.Allocator, r: Request, failure: *Failure) StartError!*Context {
    const parsed = options_file.parse(gpa, r.json) catch |e| {
        failure.set("the context's options are not readable: {t}", .{e});
        return error.Argument;
    };
    const self = gpa.create(Context) catch |e| {
        parsed.deinit();
        return e;
    };
    self.* = .{ .gpa = gpa, .parsed = parsed, .waker_id = r.waker_id, .wakers = r.wakers };
    errdefer self.close();
    // Where everything is read in place there may be no interface.
    if (self.o().ip.len > 0) {
        self.ip = address.resolve_local(self.o().ip, failure) catch return error.Socket;
    }
    const count: usize = switch (self.o().threading) {
        .@"inline" => 0,
        .shared => 1,
        .dedicated => 2,
    };
    for (self.waiters[0..count]) |*w| {
        const strategy = wait.Strategy.parse(self.o().waitStrategy) orelse {
            failure.set("WaitStrategy \"{s}\" is unknown", .{self.o().waitStrategy});
            return error.Argument;
        };
        w.* = wait.Waiter.init(strategy, failure) catch return error.Native;
    }
    if (self.o().tx.len > 0) try start_tx(self, failure);
    const receives = self.o().rx.len > 0 and self.o().deliver != .none;
    if (receives or self.o().tier != null) try start_rx(self, failure);
    try Counters.open(self, failure);
    if (self.rx) |rx| if (rx.record) |record| record.spawn() catch |e| {
        failure.set("cannot start a thread: {t}", .{e});
        return error.Native;
    };
    self.spawn() catch |e| {
        failure.set("cannot start a thread: {t}", .{e});
        return error.Native;
    };
    return self;
}

/// Null: no key. The configuration has checked the digits; this checks again.
fn group_key(hex: []const u8, failure: *Failure) StartError!?seal.GroupKey {
    if (hex.len == 0) return null;
    var key: seal.GroupKey = undefined;
    if (hex.len == 2 * key.len) {
        if (std.fmt.hexToBytes(&key, hex)) |_| return key else |_| {}
    }
    failure.set("GroupKey is not {d} hex digits", .{2 * key.len});
    return error.Argument;
}

fn injector_options(o: *const options_file.Options) injector_file.Options {
    return .{
        .drop_ppm = o.injectDropPpm,
        .duplicate_ppm = o.injectDuplicatePpm,
        .delay_ppm = o.injectDelayPpm,
        .seed = o.injectSeed,
    };
}

fn make_injector(self: *Context, salt: u64) !?Injector {
    var options = injector_options(self.o());
    if (!options.is_on()) return null;
    options.seed ^= salt *% 0x9e37_79b9_7f4a_7c15;
    return try .init(self.gpa, options);
}

// -------------------------------------------------------------------- sending

fn start_tx(self: *Context, failure: *Failure) StartError!void {
    const gpa = self.gpa;
    const o = self.o();
    var names: std.ArrayList(store_file.WindowName) = .empty;
    defer names.deinit(gpa);
    for (o.tx) |tx| for (tx.partitions) |p| {
        try names.append(gpa, .{ .topic = tx.topic, .partition = p.partitionNo });
    };
    if (o.tx.len > abi.constants.transmitters_max) {
        failure.set("a context has {d} transmitters at most, {d} were created", .{
            abi.constants.transmitters_max,
            o.tx.len,
        });
        return error.Argument;
    }
    const is_of_tier = o.txTierId != 0;
    const store = try store_file.Store.open(gpa, .{
        .prefix = o.prefix,
        .context = o.name,
        .arena_bytes = o.arenaBytes,
        .windows = names.items,
        .populate = o.usePreAllocate,
        // What a member of a tier sends it makes of what it is given: from the first sqn on it
        // makes all of it once more.
        .begin_anew = is_of_tier and o.rx.len > 0 and o.replayFrom == 0,
    }, failure);
    self.store = store;
    const channels = try gpa.alloc(*TxChannel, names.items.len);
    self.channels = channels[0..0];
    errdefer {
        for (self.channels) |c| {
            c.deinit(gpa);
            gpa.destroy(c);
        }
        gpa.free(channels);
        self.channels = &.{};
    }
    var i: usize = 0;
    for (o.tx) |*tx| for (tx.partitions) |*p| {
        channels[i] = try open_channel(self, tx, p, &store.windows[i], &store.pool, failure);
        i += 1;
        self.channels = channels[0..i];
    };
    try make_transmitters(self, store);
    for (self.channels) |c| {
        if (c.shm == null) continue;
        self.shm_receivers = try .init(gpa, o.prefix, o.id, self.channels, failure);
        break;
    }
    if (o.usePreAllocate) return;
    self.prefault = .{ .store = store };
    self.prefault.?.start();
}

fn make_transmitters(self: *Context, store: *store_file.Store) StartError!void {
    const gpa = self.gpa;
    const o = self.o();
    const transmitters = try gpa.alloc(Transmitter, o.tx.len);
    self.transmitters = transmitters[0..0];
    errdefer {
        for (self.transmitters) |*t| {
            t.own.bump.close();
            gpa.free(t.channels);
        }
        gpa.free(transmitters);
        self.transmitters = &.{};
    }
    var first: usize = 0;
    for (o.tx, 0..) |tx, i| {
        const own = try gpa.dupe(*TxChannel, self.channels[first..][0..tx.partitions.len]);
        errdefer gpa.free(own);
        std.mem.sort(*TxChannel, own, {}, lower_partition);
        transmitters[i] = .{
            .channels = own,
            .siblings = self.channels,
            .pool = &store.pool,
            .arena_bytes = o.arenaBytes,
            .alignment = alignment_of(own),
            .waiter = if (self.waiters[0]) |*w| w else null,
            .own = .{ .bump = Bump.init(&store.pool) orelse return error.OutOfMemory },
        };
        self.transmitters = transmitters[0 .. i + 1];
        first += tx.partitions.len;
    }
}

fn alignment_of(channels: []const *TxChannel) u32 {
    for (channels) |c| {
        if (c.shm == null or c.outs.len > 0) return limits.payload_alignment;
    }
    return limits.cache_line_bytes;
}

fn lower_partition(_: void, a: *TxChannel, b: *TxChannel) bool {
    return a.partition < b.partition;
}

fn open_channel(
    self: *Context,
    tx: *const options_file.Tx,
    p: *const options_file.TxPartition,
    open: *store_file.OpenWindow,
    pool: *ChunkPool,
    failure: *Failure,
) StartError!*TxChannel {
    const gpa = self.gpa;
    const o = self.o();
    const is_of_tier = o.txTierId != 0;
    const has_network = sends_to_network(p);
    const repair = if (has_network) try open_repair(self, p, failure) else null;
    errdefer if (repair) |r| udp.close(r.fd);
    const outs = try open_outs(self, tx, p, has_network, failure);
    errdefer close_outs(gpa, outs);
    const configured = try configured_of(self.parsed.arena.allocator(), p);
    const key = try group_key(p.groupKey, failure);
    const c = try gpa.create(TxChannel);
    errdefer gpa.destroy(c);
    // A process that died in its first handshake has told nobody of its numbers.
    const kept = open.window.connection_id() != 0;
    var sender: Sender = try .init(gpa, .{
        .cluster = o.clusterId,
        .source = if (is_of_tier) o.txTierId else o.id,
        .tier = is_of_tier,
        .transport = p.transportId,
        .tx_arg = tx.txArg,
        .name = if (is_of_tier) o.txTierName else o.name,
        .sizes = .init(p.mtu, key != null),
        .is_multicast = has_network and outs[0].destination.is_multicast(),
        .has_network = has_network,
        .shared_memory = p.sharedMemory and !is_of_tier,
        .window_datagrams = o.sendWindowSize,
        .max_cache_messages = o.maxCacheMsgCount,
        .heartbeat_interval_ns = p.heartbeatIntervalMs * clock.ns_per_ms,
        .ack_timeout_ns = p.ackTimeoutMs * clock.ns_per_ms,
        .slow_disconnect = p.slowDisconnect,
        .handshake = o.isHandshake and !kept and !is_of_tier,
        .fresh = !kept and !is_of_tier,
        .start_timeout_ns = o.startTimeoutMs * clock.ns_per_ms,
        .configured = configured,
        .group_key = key,
        .repair_address = if (repair) |r| r.address else memory_only,
        .connection = connection.next_id(open.window.connection_id()),
        .seed = random_seed(p.transportId),
    }, &open.window, pool, clock.monotonic_ns());
    errdefer sender.deinit(gpa);
    c.* = .{
        .partition = p.partitionNo,
        .transport = p.transportId,
        .asynchronous = p.asynchronous,
        .window = &open.window,
        .sender = sender,
        .shm = if (sender.o.shared_memory) try open_shm(gpa, open, pool) else null,
        .on_network = .init(sender.network_on),
        .outs = outs,
        .repair = repair,
        .injector = try make_injector(self, p.transportId),
        .image = &.{},
        .buffer = &.{},
        .pending_done = &.{},
    };
    try c.init_buffers(gpa, o.latencySamples);
    c.sender.settle();
    if (c.shm) |*s| s.settle();
    tell_start(self, c, open);
    return c;
}

fn open_shm(
    gpa: std.mem.Allocator,
    open: *store_file.OpenWindow,
    pool: *ChunkPool,
) error{OutOfMemory}!ShmPeers {
    return .init(gpa, &open.window, pool, open.ring(), wait.ring);
}

fn configured_of(
    gpa: std.mem.Allocator,
    p: *const options_file.TxPartition,
) error{OutOfMemory}![]peers.Configured {
    const configured = try gpa.alloc(peers.Configured, p.receivers.len);
    for (p.receivers, configured) |r, *c| {
        c.* = .{
            .id = r.id,
            .name = r.name,
            .shared = r.shared,
            .tier = r.tier,
            .is_observer = r.observer,
        };
    }
    return configured;
}

/// SYN names an address to answer to. Who hears it through memory answers there and uses none.
const memory_only: udp.Address = .init(address.parse_ip("127.0.0.1").?, 1);

/// Where all receivers read in place there is nothing to do with the network.
fn sends_to_network(p: *const options_file.TxPartition) bool {
    if (p.addrs.len == 0) return false;
    if (!p.sharedMemory or p.receivers.len == 0) return true;
    for (p.receivers) |r| if (!r.shared) return true;
    return false;
}

fn open_outs(
    self: *Context,
    tx: *const options_file.Tx,
    p: *const options_file.TxPartition,
    has_network: bool,
    failure: *Failure,
) StartError![]udp.Sender {
    const outs = try self.gpa.alloc(udp.Sender, if (has_network) p.addrs.len else 0);
    var opened: usize = 0;
    errdefer {
        for (outs[0..opened]) |s| udp.close(s.fd);
        self.gpa.free(outs);
    }
    if (has_network) for (p.addrs, outs) |text, *out| {
        const ip = address.parse_ip(text) orelse {
            failure.set("Addr \"{s}\" of topic {s} is not an IPv4 address", .{ text, tx.topic });
            return error.Socket;
        };
        out.* = udp.open_sender(.{
            .destination = .init(ip, p.port),
            .source_ip = self.ip,
            .ttl = self.o().ttl,
            .mc_loop = self.o().mcLoop,
        }, failure) catch return error.Socket;
        opened += 1;
    };
    return outs;
}

fn close_outs(gpa: std.mem.Allocator, outs: []udp.Sender) void {
    for (outs) |s| udp.close(s.fd);
    gpa.free(outs);
}

fn tell_start(self: *Context, c: *TxChannel, open: *const store_file.OpenWindow) void {
    c.tell_acked(open.acked_before);
    if (open.recovery.resumed) c.sender.notices.log(.window_recovered, .info, .{
        .transport = c.transport,
        .args = .{
            @floatFromInt(open.recovery.acked),
            @floatFromInt(open.recovery.written),
            0,
            0,
        },
    });
    for (c.outs) |out| if (!out.gso) c.tell_gso(out.gso_errno);
    const injected = injector_options(self.o());
    if (injected.is_on()) c.sender.notices.log(.injector_on, .imp, .{
        .transport = c.transport,
        .args = .{ @floatFromInt(injected.drop_ppm), @floatFromInt(injected.seed), 0, 0 },
    });
}

fn open_repair(
    self: *Context,
    p: *const options_file.TxPartition,
    failure: *Failure,
) StartError!?udp.Endpoint {
    const o = self.o();
    if (p.repairFd >= 0) {
        // The caller's stays the caller's: a start that fails may be tried again with it.
        const copy = udp.duplicate(p.repairFd, failure) catch return error.Socket;
        _ = udp.set_ttl(copy, o.ttl);
        return .{ .fd = copy, .address = .init(self.ip, o.repairPort) };
    }
    const opened = if (o.repairPort != 0)
        udp.open_repair_fixed(self.ip, o.repairPort, failure)
    else
        udp.open_repair(self.ip, o.repairPortStart, o.repairPortEnd, failure);
    const endpoint = opened catch return error.Socket;
    _ = udp.set_ttl(endpoint.fd, o.ttl);
    return endpoint;
}

// -------------------------------------------------------------------- receiving

fn start_rx(self: *Context, failure: *Failure) StartError!void {
    const gpa = self.gpa;
    const o = self.o();
    const region = try map_receive_memory(self, failure);
    const sockets = try open_sockets(self, failure);
    errdefer {
        for (sockets) |s| udp.close(s.socket.fd);
        gpa.free(sockets);
    }
    const control: ?udp.Endpoint = if (sockets.len > 0)
        udp.open_control(self.ip, failure) catch return error.Socket
    else
        null;
    errdefer if (control) |c| udp.close(c.fd);
    if (control) |c| _ = udp.set_ttl(c.fd, o.ttl);

    const made: Orders = try .make(self, region, failure);
    errdefer made.free(gpa);
    const orders = try orders_of(self, made.lanes, made.log, made.holding);

    const channels = try self.parsed.arena.allocator().alloc(stream_file.Channel, o.rx.len);
    const datagram_bytes = try describe_channels(self, channels, failure);
    const rx = try gpa.create(RxAgent);
    errdefer gpa.destroy(rx);
    rx.* = .{
        .receiver = try .init_lanes(gpa, .{
            .cluster = o.clusterId,
            .id = o.id,
            .name = o.name,
            .channels = channels,
            .is_total_order = o.isTotalOrder,
            // A tier acknowledges what is committed, whatever its programs do.
            .is_manual = o.ackManual and o.tier == null,
            .seed = random_seed(o.id),
            .datagram_bytes = @min(datagram_bytes, rx_file.image_bytes),
        }, orders),
        .pool = made.pools[0],
        .holding_pool = made.pools[1],
        .record = made.record,
        .log = made.log,
        .holding = made.holding,
        .sockets = sockets,
        .control = control,
        .is_inline = self.is_inline(),
        .is_manual = o.ackManual and o.tier == null,
        .lanes = made.lanes,
        .delivered = .init(made.log.processed_next()),
        .injector = try make_injector(self, 1 << 20),
        .buffer = &.{},
        .image = &.{},
    };
    // Lanes have no latency statistics: each would need its own.
    try rx.init_buffers(gpa, if (made.lanes.len > 0) 0 else o.latencySamples);
    rx.receiver.settle();
    try attach_record(self, rx, failure);
    errdefer if (rx.tier) |tier| tier.destroy();
    if (rx.record) |r| try restore_streams(self, rx, r, failure);
    try start_windows(self, rx, failure);
    tell_sockets(self, rx);
    self.rx = rx;
}

/// What the receiving side waits for: the disk, or its tier.
fn attach_record(self: *Context, rx: *RxAgent, failure: *Failure) StartError!void {
    const o = self.o();
    rx.receiver.lanes[0].waits_for_disk = o.recordSync == .commit and rx.record != null and
        o.tier == null;
    if (rx.record) |r| {
        const is_second = self.channels.len > 0 and self.waiters[1] != null;
        r.waiter = if (self.waiters[@intFromBool(is_second)]) |*w| w else null;
    }
    const t = if (o.tier) |*t| t else return;
    if (rx.record) |r| r.recording.skip_replay();
    rx.tier = try .create(self.gpa, .{
        .o = o,
        .tier = t,
        .rx = rx,
        .context = if (o.txTierId != 0 and self.channels.len > 0) self else null,
        .group_key = try group_key(t.groupKey, failure),
        .seed = random_seed(o.id),
    }, failure);
}

/// What received messages lie in: one order, or one for each lane.
const Orders = struct {
    lanes: []lanes_file.Lane,
    /// The log's, and that of early datagrams.
    pools: [2]*ChunkPool,
    record: ?*RecordAgent,
    log: *Log,
    holding: *loss.HoldingPool,

    fn make(self: *Context, region: region_file.Region, failure: *Failure) StartError!Orders {
        const gpa = self.gpa;
        const lanes = try make_lanes(self, region, failure);
        if (lanes.len > 0) return .{
            .lanes = lanes,
            .pools = .{ lanes[0].pool, lanes[0].pool },
            .record = null,
            .log = lanes[0].log,
            .holding = lanes[0].holding,
        };
        const pools = try make_pools(self, region);
        errdefer free_pools(gpa, pools);
        const record = try open_record(self, pools[0], failure);
        errdefer free_record(gpa, record);
        const log = try make_log(gpa, pools[0], record);
        errdefer free_log(gpa, log);
        return .{
            .lanes = lanes,
            .pools = pools,
            .record = record,
            .log = log,
            .holding = try make_holding(self, pools[1]),
        };
    }

    fn free(self: *const Orders, gpa: std.mem.Allocator) void {
        if (self.lanes.len > 0) return lanes_file.free(gpa, self.lanes);
        self.holding.deinit(gpa);
        gpa.destroy(self.holding);
        free_log(gpa, self.log);
        free_record(gpa, self.record);
        free_pools(gpa, self.pools);
    }

    fn free_log(gpa: std.mem.Allocator, log: *Log) void {
        log.deinit(gpa);
        gpa.destroy(log);
    }

    fn free_record(gpa: std.mem.Allocator, record: ?*RecordAgent) void {
        const r = record orelse return;
        r.deinit(gpa);
        gpa.destroy(r);
    }
};

/// Without a total order: a lane for each topic.
fn make_lanes(
    self: *Context,
    region: region_file.Region,
    failure: *Failure,
) StartError![]lanes_file.Lane {
    if (self.o().isTotalOrder) return &.{};
    var count: u32 = 0;
    for (self.o().rx) |r| count = @max(count, @as(u32, r.lane) + 1);
    return lanes_file.make(self.gpa, region, count, failure);
}

fn make_log(gpa: std.mem.Allocator, pool: *ChunkPool, record: ?*RecordAgent) StartError!*Log {
    const log = try gpa.create(Log);
    errdefer gpa.destroy(log);
    log.* = try .init(gpa, pool, if (record) |r| r.recording.first_sqn() else 0);
    if (record) |r| log.record_with(&r.recording.recorder);
    return log;
}

fn make_holding(self: *Context, pool: *ChunkPool) StartError!*loss.HoldingPool {
    const holding = try self.gpa.create(loss.HoldingPool);
    errdefer self.gpa.destroy(holding);
    const bytes_max = self.o().receiveBytes / limits.record_holding_divisor;
    holding.* = try .init(self.gpa, pool, bytes_max);
    return holding;
}

fn orders_of(
    self: *Context,
    lanes: []lanes_file.Lane,
    log: *Log,
    holding: *loss.HoldingPool,
) StartError![]Receiver.Lane {
    const arena = self.parsed.arena.allocator();
    const orders = try arena.alloc(Receiver.Lane, @max(1, lanes.len));
    orders[0] = .{ .log = log, .holding = holding };
    for (lanes, 0..) |*lane, i| orders[i] = .{ .log = lane.log, .holding = lane.holding };
    return orders;
}

/// Memory of the log and of early datagrams: one pool, or two where the log's is mapped from files.
fn make_pools(self: *Context, region: region_file.Region) StartError![2]*ChunkPool {
    const gpa = self.gpa;
    const is_tier = self.o().tier != null;
    const is_recorded = is_tier or self.o().recordDirectory.len > 0;
    const holding_bytes = if (is_recorded) std.mem.alignForward(
        u64,
        // A tier's stage lies there too.
        region.bytes / @as(u64, if (is_tier) 2 else limits.record_holding_divisor),
        limits.record_block_bytes,
    ) else 0;
    const log_bytes = region.bytes - holding_bytes;
    const pool = try gpa.create(ChunkPool);
    errdefer gpa.destroy(pool);
    const chunk_bytes = limits.chunk_bytes_for(region.bytes);
    pool.* = try .init(gpa, .{
        .base = region.base,
        .bytes = log_bytes,
        .chunk_bytes = if (is_recorded) limits.record_block_bytes else chunk_bytes,
    });
    if (!is_recorded) return .{ pool, pool };
    errdefer pool.deinit(gpa);
    const holding = try gpa.create(ChunkPool);
    errdefer gpa.destroy(holding);
    holding.* = try .init(gpa, .{
        .base = region.base + log_bytes,
        .bytes = holding_bytes,
        .chunk_bytes = @min(limits.chunk_bytes_for(holding_bytes), limits.record_block_bytes),
    });
    return .{ pool, holding };
}

pub fn free_pools(gpa: std.mem.Allocator, pools: [2]*ChunkPool) void {
    for (pools, 0..) |pool, i| {
        if (i > 0 and pool == pools[0]) continue;
        pool.deinit(gpa);
        gpa.destroy(pool);
    }
}

fn open_record(self: *Context, pool: *ChunkPool, failure: *Failure) StartError!?*RecordAgent {
    const o = self.o();
    if (o.recordDirectory.len == 0) return null;
    const record = try self.gpa.create(RecordAgent);
    errdefer self.gpa.destroy(record);
    try RecordAgent.open(self.gpa, record, .{
        .directory = o.recordDirectory,
        .context = o.name,
        .context_id = o.id,
        .file_bytes = o.recordFileBytes,
        .sync = o.recordSync,
        .replay_from = o.replayFrom,
    }, pool, failure);
    return record;
}

/// The streams of the record go on where it ends.
fn restore_streams(
    self: *Context,
    rx: *RxAgent,
    record: *RecordAgent,
    failure: *Failure,
) StartError!void {
    for (record.recording.found.streams.items) |*known| {
        const e = &known.entry;
        if (rx.receiver.restore(e, known.next_msg, known.has_messages)) continue;
        failure.set("the record in {s} has messages of topic {s}, partition {d} (transport " ++
            "{d}), which context {s} does not receive: add it to RxTopics, or move it away", .{
            record.disk.folder.path_text(), e.topic[0..e.topic_bytes], e.partition,
            e.transport,                    self.o().name,
        });
        return error.Argument;
    }
    if (rx.is_manual) manual_ack.settle_replay(rx, record.recording.first_sqn());
    record.recording.tell(&rx.receiver.notices);
}

/// Windows that are read in place.
fn start_windows(self: *Context, rx: *RxAgent, failure: *Failure) StartError!void {
    const o = self.o();
    var wishes: std.ArrayList(shm_windows.Wish) = .empty;
    const arena = self.parsed.arena.allocator();
    for (o.rx) |*r| for (r.inPlace) |p| try wishes.append(arena, .{
        .context = p.name,
        .source = p.id,
        .topic = r.topic,
        .partition = r.partitionNo,
        .transport = r.transportId,
    });
    if (wishes.items.len == 0) return;
    const strategy = wait.Strategy.parse(o.waitStrategy).?;
    const never_sleeps = self.is_inline() or strategy == .spin or strategy == .yield;
    rx.windows = try .init(self.gpa, .{
        .prefix = o.prefix,
        .context = o.name,
        .context_id = o.id,
        .sleeps = !never_sleeps,
        .populate = o.usePreAllocate,
        .wishes = wishes.items,
    }, failure);
    rx.receiver.slots = rx.windows.?.slots;
    rx.frames = .init(rx.windows.?.file.view.ring);
}

/// Region of the receive log, and the one of the descriptors beside it.
fn map_receive_memory(self: *Context, failure: *Failure) StartError!region_file.Region {
    const o = self.o();
    const batch_bytes = abi.constants.descriptor_batch * @sizeOf(@import("../order/record.zig")
        .Descriptor);
    self.descriptor_region = try region_file.map_anonymous(std.mem.alignForward(
        u64,
        batch_bytes,
        limits.page_bytes,
    ));
    if (o.receiveBytes > limits.receive_bytes_max) {
        failure.set("ReceiveMemoryMBytes: at most {d} MiB can be addressed, not {d}", .{
            limits.receive_bytes_max >> 20,
            o.receiveBytes >> 20,
        });
        return error.Argument;
    }
    const region = try region_file.map_anonymous(o.receiveBytes);
    self.receive_region = region;
    return region;
}

/// Fills `channels`; the largest datagram that fits the MTU of all.
fn describe_channels(
    self: *Context,
    channels: []stream_file.Channel,
    failure: *Failure,
) StartError!u32 {
    var datagram_bytes: u32 = 65504;
    for (self.o().rx, channels) |r, *c| {
        const key = try group_key(r.groupKey, failure);
        datagram_bytes = @min(datagram_bytes, frame.Sizes.init(r.mtu, key != null).datagram_bytes);
        const in_place = try self.parsed.arena.allocator().alloc(u16, r.inPlace.len);
        for (r.inPlace, in_place) |p, *id| id.* = p.id;
        const is_multicast = r.addrs.len > 0 and
            address.is_multicast_ip(address.parse_ip(r.addrs[0]).?);
        c.* = .{
            .transport = r.transportId,
            .topic = r.topic,
            .partition = r.partitionNo,
            .lane = if (self.o().isTotalOrder) 0 else r.lane,
            .is_multicast = is_multicast,
            .in_place = in_place,
            .heartbeat_timeout_ns = r.heartbeatTimeoutMs * clock.ns_per_ms,
            .ack_interval_ns = r.ackIntervalMs * clock.ns_per_ms,
            .group_key = key,
        };
    }
    return datagram_bytes;
}

fn tell_sockets(self: *Context, rx: *RxAgent) void {
    const asked = self.o().socketBufferBytes;
    for (rx.sockets) |s| {
        if (!s.socket.gro) rx.receiver.notices.log(.gro_unavailable, .info, .{
            .args = .{ @floatFromInt(s.socket.gro_errno), 0, 0, 0 },
        });
        if (s.socket.buffer_bytes < asked) rx.receiver.notices.log(.receive_buffer_small, .warn, .{
            .args = .{ @floatFromInt(asked), @floatFromInt(s.socket.buffer_bytes), 0, 0 },
        });
    }
    const injected = injector_options(self.o());
    if (injected.is_on()) rx.receiver.notices.log(.injector_on, .imp, .{
        .args = .{ @floatFromInt(injected.drop_ppm), @floatFromInt(injected.seed), 0, 0 },
    });
}

/// One socket for each (address, port) that this context receives at.
fn open_sockets(self: *Context, failure: *Failure) StartError![]rx_file.DataSocket {
    const gpa = self.gpa;
    var list: std.ArrayList(rx_file.DataSocket) = .empty;
    errdefer {
        for (list.items) |s| udp.close(s.socket.fd);
        list.deinit(gpa);
    }
    const buffer_bytes: u32 = @intCast(@min(self.o().socketBufferBytes, std.math.maxInt(i32) / 2));
    for (self.o().rx) |*r| {
        if (!r.network or r.addrs.len == 0) {
            if (r.inPlace.len > 0) continue;
            failure.set("topic {s}, partition {d} has no Addr, and no context of ShmContext " ++
                "sends it", .{ r.topic, r.partitionNo });
            return error.Argument;
        }
        const at: udp.Address = .init(try own_address(self, r, failure), r.port);
        const known = for (list.items) |s| {
            if (s.socket.address.eql(at)) break true;
        } else false;
        if (known) continue;
        const socket = if (at.is_multicast())
            udp.open_group_receiver(at, self.ip, buffer_bytes, failure)
        else
            udp.open_unicast_receiver(at, buffer_bytes, failure);
        try list.append(gpa, .{ .socket = socket catch return error.Socket });
    }
    return list.toOwnedSlice(gpa);
}

/// The group; or, of a list, the address that is this context's own.
fn own_address(self: *Context, r: *const options_file.Rx, failure: *Failure) StartError!u32 {
    const network = address.Network.parse(self.o().ip);
    for (r.addrs) |text| {
        const ip = address.parse_ip(text) orelse continue;
        if (address.is_multicast_ip(ip) or ip == self.ip) return ip;
    }
    if (network) |n| for (r.addrs) |text| {
        const ip = address.parse_ip(text) orelse continue;
        if (n.contains(ip) and address.is_loopback_ip(ip)) return ip;
    };
    failure.set("topic {s}, partition {d}: none of the addresses in Addr is this context's (Ip " ++
        "\"{s}\" is {f}); a receiver of a unicast list binds the one that is its own", .{
        r.topic,
        r.partitionNo,
        self.o().ip,
        address.Ip{ .ip = self.ip },
    });
    return error.Socket;
}
