//! A simulated receiving context: the very `Receiver` and `Log` of the engine, a program that takes
//! messages from the log (slowly, or refusing some), and what the checkers expect of each stream.

const std = @import("std");
const base_limits = @import("../limits.zig");
const record = @import("../order/record.zig");
const log_file = @import("../order/log.zig");
const loss = @import("../repair/loss_detector.zig");
const pool_file = @import("../window/pool.zig");
const receiver_file = @import("../session/receiver.zig");
const stream_file = @import("../session/stream.zig");
const scenario_file = @import("scenario.zig");
const model = @import("model.zig");
const nodes = @import("sender_node.zig");
const SimClock = @import("sim_clock.zig").SimClock;
const Address = @import("../transport/address.zig").Address;
const Dice = @import("dice.zig").Dice;
const in_place = @import("in_place.zig");
const recorded = @import("recorded.zig");
const ChunkPool = pool_file.ChunkPool;
const Receiver = receiver_file.Receiver;
const assert = std.debug.assert;

const windows_max = scenario_file.windows_max;

/// A message that the program was given and has not accepted.
pub const Seen = struct {
    stream: u32,
    number: u64,
    length: u32,
    arg: u32,
    window: u8 = 0,
    epoch: u32 = 0,
    /// Where it is read: 0, in the log; else the number of a mapping, and the life of its sender.
    region: u32 = 0,
    offset8: u32 = 0,
    life: u32 = 0,
};

pub const ReceiverNode = struct {
    gpa: std.mem.Allocator,
    scenario: *const scenario_file.Scenario,
    index: u8,
    id: u16,
    clock: SimClock,
    memory: []align(4096) u8,
    pool: ChunkPool = undefined,
    log: log_file.Log = undefined,
    holding: loss.HoldingPool = undefined,
    receiver: *Receiver,
    channels: [scenario_file.transports_max]stream_file.Channel = undefined,
    channel_count: u32 = 0,
    alive: bool = false,
    life: u32 = 0,
    control: Address = .{},
    paused_until_ns: u64 = 0,
    /// The handler does not return before.
    stalled_until_ns: u64 = 0,
    /// Datagrams that wait in the kernel while the node is paused.
    waiting: u32 = 0,
    /// Datagrams of this millisecond.
    rate_ms: u64 = 0,
    sent_in_ms: u32 = 0,
    got_in_ms: u32 = 0,
    idle_steps: u32 = 0,
    steps_at_ns: u64 = 0,
    steps_here: u32 = 0,
    // ---- program
    next_sqn: u64 = 0,
    seen: std.ArrayList(Seen) = .empty,
    seen_first: usize = 0,
    delivered: u64 = 0,
    refused: u64 = 0,
    // ---- checkers, by window
    checks: [windows_max]model.StreamCheck = @splat(.{}),
    /// When something honest of the window's sender last arrived here, on this node's clock.
    heard_ns: [windows_max]u64 = @splat(0),
    /// The same without frames that start a session: they may be refused.
    heard_data_ns: [windows_max]u64 = @splat(0),
    /// A MESSAGE_LOSS whose OUT_OF_SYNC must come next.
    out_of_sync_due: ?model.Range = null,
    /// By transport: NEW_TRANSMITTER was told, and no NO_TRANSMITTER since.
    has_transmitter: [scenario_file.transports_max]bool = @splat(false),
    /// A gap that was given up: its MESSAGE_LOSS comes next.
    given_up: ?model.Range = null,
    in_place: in_place.Reading = .{},
    record: ?*recorded.Record = null,
    /// What arrives is taken: what was recorded is in its place.
    receives: bool = false,

    pub fn init(
        gpa: std.mem.Allocator,
        scenario: *const scenario_file.Scenario,
        index: u8,
        clock: SimClock,
    ) !*ReceiverNode {
        const self = try gpa.create(ReceiverNode);
        const memory = try gpa.alignedAlloc(u8, .fromByteUnits(4096), scenario.receive_bytes);
        self.* = .{
            .gpa = gpa,
            .scenario = scenario,
            .index = index,
            .id = nodes.receiver_id(index),
            .clock = clock,
            .memory = memory,
            .receiver = try gpa.create(Receiver),
        };
        if (scenario.record.receivers >> @intCast(index) & 1 == 1) {
            self.record = try .init(gpa, scenario);
        }
        for (scenario.transports[0..scenario.transport_count], 0..) |*t, i| {
            if (scenario.rx_mask[index] >> @intCast(i) & 1 == 0) continue;
            self.channels[self.channel_count] = .{
                .transport = t.id,
                .is_multicast = t.is_multicast,
                .heartbeat_timeout_ns = t.heartbeat_timeout_ns,
                .ack_interval_ns = t.ack_interval_ns,
                .group_key = t.group_key,
            };
            self.channel_count += 1;
        }
        return self;
    }

    pub fn deinit(self: *ReceiverNode) void {
        self.drop();
        self.in_place.deinit(self.gpa);
        if (self.record) |r| r.deinit();
        for (&self.checks) |*check| check.deinit(self.gpa);
        self.seen.deinit(self.gpa);
        self.gpa.destroy(self.receiver);
        self.gpa.free(self.memory);
        self.gpa.destroy(self);
    }

    pub fn name(self: *const ReceiverNode) []const u8 {
        return nodes.receiver_name(self.index);
    }

    /// Its program acknowledges by itself.
    pub fn is_manual(self: *const ReceiverNode) bool {
        return self.scenario.manual >> @intCast(self.index) & 1 == 1;
    }

    pub fn listens(self: *const ReceiverNode, transport: u8) bool {
        return self.scenario.rx_mask[self.index] >> @intCast(transport) & 1 == 1;
    }

    // ---------------------------------------------------------------- life

    pub fn start(self: *ReceiverNode, dice: *Dice) !void {
        assert(!self.alive);
        const gpa = self.gpa;
        self.life += 1;
        self.pool = try .init(gpa, if (self.record) |r| .{
            .base = r.region.base,
            .bytes = r.region.bytes,
            .chunk_bytes = base_limits.record_block_bytes,
        } else .{
            .base = self.memory.ptr,
            .bytes = self.memory.len,
            .chunk_bytes = base_limits.chunk_bytes_min,
        });
        if (self.record) |r| try r.open(self, dice);
        self.log = try .init(gpa, &self.pool, if (self.record) |r| r.recording.first_sqn() else 0);
        if (self.record) |r| self.log.record_with(&r.recording.recorder);
        const early = if (self.record) |r| &r.holding_pool else &self.pool;
        self.holding = try .init(gpa, early, self.memory.len / 4);
        self.receiver.* = try .init(gpa, .{
            .cluster = self.scenario.cluster,
            .id = self.id,
            .name = self.name(),
            .channels = self.channels[0..self.channel_count],
            .is_total_order = self.scenario.is_total_order,
            .is_manual = self.is_manual(),
            .seed = dice.bits(),
            .datagram_bytes = self.datagram_bytes(),
        }, &self.log, &self.holding);
        self.receiver.settle();
        if (self.record) |r| try r.restore(self);
        const shift: u16 = if (dice.coin()) 0 else @intCast(self.life % 1000);
        self.control = .init(nodes.receiver_ip(self.index), 40000 + shift);
        self.next_sqn = 0;
        self.seen.clearRetainingCapacity();
        self.seen_first = 0;
        self.stalled_until_ns = 0;
        if (self.record == null) for (&self.checks) |*check| check.reset();
        self.heard_ns = @splat(0);
        self.heard_data_ns = @splat(0);
        self.out_of_sync_due = null;
        self.given_up = null;
        self.has_transmitter = @splat(false);
        self.receives = self.record == null;
        self.alive = true;
    }

    fn datagram_bytes(self: *const ReceiverNode) u32 {
        var bytes: u32 = 2048;
        for (self.scenario.transports[0..self.scenario.transport_count], 0..) |*t, i| {
            if (self.listens(@intCast(i))) bytes = @min(bytes, t.sizes.datagram_bytes);
        }
        return bytes;
    }

    /// The process ends, and with it its log.
    pub fn drop(self: *ReceiverNode) void {
        if (!self.alive) return;
        self.receiver.deinit(self.gpa);
        self.holding.deinit(self.gpa);
        self.log.deinit(self.gpa);
        self.pool.deinit(self.gpa);
        if (self.record) |r| r.close();
        self.in_place.end();
        self.alive = false;
    }

    /// As the engine's receive agent: null when there is nothing to do before others.
    pub fn step_record(self: *ReceiverNode) ?u32 {
        const r = self.record orelse return null;
        return r.recording.step_rx(&self.log, &self.receiver.notices);
    }

    /// Payload of a message that the program is given.
    pub fn bytes_of(self: *const ReceiverNode, d: *const record.Descriptor) []const u8 {
        if (d.region == 0) return self.log.payload_of(d);
        return self.in_place.bytes(d.region, d.offset8, d.length);
    }

    // ---------------------------------------------------------------- the program's memory

    pub fn remember(self: *ReceiverNode, d: *const record.Descriptor, number: u64) *Seen {
        self.seen.append(self.gpa, .{
            .stream = d.stream,
            .number = number,
            .length = d.length,
            .arg = d.args,
            .region = d.region,
            .offset8 = d.offset8,
        }) catch @panic("out of memory");
        return &self.seen.items[self.seen.items.len - 1];
    }

    /// What was given at this place before, if it was.
    pub fn seen_at(self: *const ReceiverNode, sqn: u64) ?*const Seen {
        const back = self.next_sqn - sqn;
        if (back == 0 or back > self.seen.items.len - self.seen_first) return null;
        return &self.seen.items[self.seen.items.len - @as(usize, @intCast(back))];
    }

    /// The first number of a window that its program has not processed.
    pub fn unprocessed_of(self: *ReceiverNode, window: u8) u64 {
        for (self.seen.items[self.seen_first..]) |*seen| {
            if (seen.window == window) return seen.number;
        }
        return self.checks[window].position();
    }

    pub fn forget(self: *ReceiverNode, count: u64) void {
        self.seen_first += @intCast(count);
        if (self.seen_first < 4096 and self.seen_first < self.seen.items.len) return;
        const left = self.seen.items[self.seen_first..];
        std.mem.copyForwards(Seen, self.seen.items, left);
        self.seen.shrinkRetainingCapacity(left.len);
        self.seen_first = 0;
    }
};
