//! Keeps the counters file of a context (`stats/counters_file.zig`) up to date.
//!
//! Whoever runs an agent also writes its sections, at the end of a step, when `interval_ms` have
//! passed: a comparison in each step, some hundred bytes copied ten times a second. A thread that
//! goes to sleep wakes once more to write what it had no time for.

const std = @import("std");
const abi = @import("../abi.zig");
const abi_hash = @import("../abi_hash.zig");
const assert = @import("../assert.zig").assert;
const clock = @import("clock.zig");
const context_stats = @import("context_stats.zig");
const counters = @import("../stats/counters.zig");
const file = @import("../stats/counters_file.zig");
const limits = @import("../session/limits.zig");
const snapshot = @import("../stats/snapshot.zig");
const Context = @import("context.zig").Context;
const TxChannel = @import("tx_channel.zig").TxChannel;

const interval_ms = 100;
const interval_ns = interval_ms * clock.ns_per_ms;
/// Receivers of a window that are shown; there may be more.
const acks_extra = 16;
const acks_shown_max = 64;
const per_section = counters.streams_per_section;
const stream_sections = limits.streams_max / per_section;
comptime {
    assert(stream_sections * per_section == limits.streams_max);
}

const plain_bytes = @sizeOf(snapshot.StatsHeader) + @sizeOf(snapshot.DeliverStats) +
    @sizeOf(snapshot.LatencyStats);
const tx_bytes = @sizeOf(snapshot.TxStats) + @sizeOf(snapshot.LatencyStats);

/// What is known of an agent's last writing.
const Written = struct {
    due_ns: u64 = 0,
    /// Changes when something happens.
    mark: u64 = 0,
};

pub const Counters = struct {
    file: file.CountersFile,
    /// By channel.
    tx: []Written,
    /// Transmitter of a channel.
    tx_index: []u32,
    rx: Written = .{},
    /// The streams that are written next; all are: nothing is left to do.
    next_streams: u32 = stream_sections,

    /// Before the context's threads start. Without a text there is no file.
    pub fn open(context: *Context, text: *file.ErrorText) error{ Shm, OutOfMemory }!void {
        if (context.o().countersText.len == 0) return;
        context.counters = try make(context, text);
        // Whoever looks at once finds what there is.
        const self = &context.counters.?;
        const now_ns = clock.monotonic_ns();
        for (0..self.tx.len) |place| self.write_tx(context, @intCast(place), now_ns);
        if (context.rx == null) return;
        self.write_rx(context, now_ns);
        for (0..stream_sections) |_| {
            if (self.next_streams < stream_sections) self.write_streams(context, now_ns);
        }
    }

    fn make(context: *Context, text: *file.ErrorText) error{ Shm, OutOfMemory }!Counters {
        const gpa = context.gpa;
        const o = context.o();
        const count = context.channels.len;
        const has_rx = context.rx != null;
        const rx_sections: usize = if (has_rx) 1 + stream_sections else 0;
        const wishes = try gpa.alloc(file.Wish, count + rx_sections);
        defer gpa.free(wishes);
        for (wishes[0..count], context.channels, 0..) |*wish, c, i| wish.* = .{
            .kind = .tx,
            .index = @intCast(i),
            .capacity = @intCast(plain_bytes + tx_bytes +
                acks_of(c) * @sizeOf(snapshot.AckStats)),
        };
        if (has_rx) for (wishes[count..], 0..) |*wish, i| {
            wish.* = if (i == 0) .{ .kind = .rx, .index = 0, .capacity = plain_bytes } else .{
                .kind = .streams,
                .index = @intCast(i - 1),
                .capacity = plain_bytes + per_section * @sizeOf(snapshot.RxStats),
            };
        };
        const tx = try gpa.alloc(Written, count);
        errdefer gpa.free(tx);
        @memset(tx, .{});
        const tx_index = try gpa.alloc(u32, count);
        errdefer gpa.free(tx_index);
        var i: usize = 0;
        for (o.tx, 0..) |t, index| for (t.partitions) |_| {
            tx_index[i] = @intCast(index);
            i += 1;
        };
        assert(i == count);
        return .{
            .file = try .open(gpa, .{
                .prefix = o.prefix,
                .context = o.name,
                .context_id = o.id,
                .abi_hash = comptime abi_hash.of(abi),
                .interval_ms = interval_ms,
                .started_ms = clock.wall_ms(),
                .text = o.countersText,
                .sections = wishes,
            }, text),
            .tx = tx,
            .tx_index = tx_index,
        };
    }

    pub fn close(self: *Counters, gpa: std.mem.Allocator) void {
        gpa.free(self.tx);
        gpa.free(self.tx_index);
        self.file.close(gpa);
    }

    fn acks_of(c: *const TxChannel) usize {
        return @min(c.sender.peers.count + acks_extra, acks_shown_max);
    }

    /// After a step of a channel, whose token the caller holds.
    pub inline fn after_tx(self: *Counters, context: *Context, place: usize, now_ns: u64) void {
        if (now_ns >= self.tx[place].due_ns) self.write_tx(context, @intCast(place), now_ns);
    }

    /// After a step of the receive agent, whose token the caller holds.
    pub inline fn after_rx(self: *Counters, context: *Context, now_ns: u64) void {
        if (now_ns >= self.rx.due_ns) {
            self.write_rx(context, now_ns);
        } else if (self.next_streams < stream_sections) self.write_streams(context, now_ns);
    }

    noinline fn write_tx(self: *Counters, context: *Context, place: u32, now_ns: u64) void {
        const written = &self.tx[place];
        written.* = .{
            .due_ns = now_ns + interval_ns,
            .mark = tx_mark(context.channels[place]),
        };
        const section = self.file.sections[place];
        const acks = (section.capacity - plain_bytes - tx_bytes) /
            @sizeOf(snapshot.AckStats);
        const room = file.begin(section);
        const index = self.tx_index[place];
        const bytes = context_stats.write_tx(context, place, index, acks, room);
        file.end(section, now_ns / clock.ns_per_ms, bytes);
    }

    noinline fn write_rx(self: *Counters, context: *Context, now_ns: u64) void {
        self.rx = .{ .due_ns = now_ns + interval_ns, .mark = rx_mark(context) };
        self.next_streams = 0;
        const section = self.file.sections[self.tx.len];
        const room = file.begin(section);
        const bytes = context_stats.write_rx(context, room);
        file.end(section, now_ns / clock.ns_per_ms, bytes);
    }

    noinline fn write_streams(self: *Counters, context: *Context, now_ns: u64) void {
        assert(self.next_streams < stream_sections);
        const first = self.next_streams * per_section;
        const is_last = first + per_section >= context.rx.?.receiver.count;
        const section = self.file.sections[self.tx.len + 1 + self.next_streams];
        self.next_streams = if (is_last) stream_sections else self.next_streams + 1;
        const room = file.begin(section);
        const bytes = context_stats.write_streams(context, first, per_section, room);
        file.end(section, now_ns / clock.ns_per_ms, bytes);
    }

    /// When a thread that would sleep has to write what changed; null: nothing did (racy).
    pub fn tx_deadline_ns(self: *const Counters, context: *const Context) ?u64 {
        var at: ?u64 = null;
        for (self.tx, context.channels) |written, c| {
            if (written.mark == tx_mark(c)) continue;
            at = @min(at orelse written.due_ns, written.due_ns);
        }
        return at;
    }

    pub fn rx_deadline_ns(self: *const Counters, context: *const Context) ?u64 {
        if (self.next_streams < stream_sections) return 0;
        const rx = context.rx.?;
        const is_still = self.rx.mark == rx_mark(context) and
            rx.taken_next() == rx.log.ordered_next();
        return if (is_still) null else self.rx.due_ns;
    }
};

fn tx_mark(c: *const TxChannel) u64 {
    const sent = @atomicLoad(u64, &c.sender.counters.datagrams_sent, .monotonic);
    const received = @atomicLoad(u64, &c.received_datagrams, .monotonic);
    return sent +% received +% c.window.written() +% c.window.acked();
}

fn rx_mark(context: *const Context) u64 {
    const rx = context.rx.?;
    const log = rx.log;
    const received = @atomicLoad(u64, &rx.received_bytes, .monotonic);
    const sent = @atomicLoad(u64, &rx.sent_datagrams, .monotonic);
    return received +% sent +% log.ordered_next() +% log.processed_next() +% rx.taken_next();
}
