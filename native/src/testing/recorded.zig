//! Simulated receivers that record: their disks, their record agents, what happens to both, and
//! the checkers of the record. The code under test is the engine's `Recording`, `Recorder`,
//! recovery and replay; only the disk below them is another (`sim_disk.zig`).
//!
//! The rules. What a process recorded is the begin of the order of the next, byte for byte under
//! the same sqns, and nothing more. A kill costs nothing that was ordered. A loss of power costs
//! nothing that was forced, and with `RecordSync: "commit"` nothing that was acknowledged. A full
//! or failing disk costs nothing below the sqn that is named.

const std = @import("std");
const base_limits = @import("../limits.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const record = @import("../order/record.zig");
const recorder_file = @import("../order/recorder.zig");
const scenario_file = @import("scenario.zig");
const cluster_file = @import("cluster.zig");
const model = @import("model.zig");
const nodes = @import("sender_node.zig");
const watch = @import("watch.zig");
const Recording = @import("../order/recording.zig").Recording;
const SimDisk = @import("sim_disk.zig").SimDisk;
const Dice = @import("dice.zig").Dice;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const ReceiverNode = @import("receiver_node.zig").ReceiverNode;
const Cluster = cluster_file.Cluster;
const Window = nodes.Window;
const assert = std.debug.assert;

const windows_max = scenario_file.windows_max;
const ms = scenario_file.ms;
const block_bytes = base_limits.record_block_bytes;

/// A message that the program was given.
const Entry = struct {
    window: u8,
    epoch: u32,
    number: u64,
    time_ms: u64,
    length: u32,
    args: u32,
    hash: u64,
};

/// How a life ended.
const End = enum { none, stopped, killed, power };

pub const Record = struct {
    gpa: std.mem.Allocator,
    disk: SimDisk,
    recording: Recording = undefined,
    region: region_file.Region,
    holding_memory: []align(4096) u8,
    holding_pool: ChunkPool = undefined,
    /// What the program was given, by sqn.
    history: std.ArrayList(Entry) = .empty,
    /// A force is under way, and what was ordered when it began.
    is_forcing: bool = false,
    force_from: std.atomic.Value(u64) = .init(0),
    interval_due_ns: u64 = 0,
    // ---- what the last life left
    end: End = .none,
    ordered: u64 = 0,
    /// What is promised whatever happens.
    promised: u64 = 0,
    stopped: bool = false,
    flipped: bool = false,
    connections: [windows_max]u64 = @splat(0),
    /// By window: the most that any life acknowledged to one connection. What is under way when a
    /// life ends arrives in the next one.
    said: [windows_max]struct { connection: u64, to: u64 } = @splat(.{ .connection = 0, .to = 0 }),
    /// By window: acknowledged before what a death took that may take it.
    forgiven: [windows_max]u64 = @splat(0),
    /// By window: from its recorded end on all up to there was told as lost, in any life.
    told: [windows_max]struct { from: u64, to: u64 } = @splat(.{ .from = 0, .to = 0 }),

    pub fn init(gpa: std.mem.Allocator, s: *const scenario_file.Scenario) !*Record {
        const self = try gpa.create(Record);
        self.* = .{
            .gpa = gpa,
            .disk = .{ .gpa = gpa },
            .region = try region_file.map_anonymous(s.receive_bytes),
            .holding_memory = try gpa.alignedAlloc(u8, .fromByteUnits(4096), s.receive_bytes / 4),
        };
        return self;
    }

    pub fn deinit(self: *Record) void {
        self.disk.deinit();
        region_file.release(self.region);
        self.gpa.free(self.holding_memory);
        self.history.deinit(self.gpa);
        self.gpa.destroy(self);
    }

    // ---------------------------------------------------------------- a life

    /// Before the log is made: what is on the disk is looked at.
    pub fn open(self: *Record, node: *ReceiverNode, dice: *Dice) !void {
        const s = node.scenario;
        self.holding_pool = try .init(self.gpa, .{
            .base = self.holding_memory.ptr,
            .bytes = self.holding_memory.len,
            .chunk_bytes = base_limits.chunk_bytes_min,
        });
        var text: files.ErrorText = .{};
        self.disk.is_broken = false;
        // The last process did not live to see the end of it.
        self.disk.forget_force();
        try Recording.open(self.gpa, &self.recording, .{
            .context = node.name(),
            .context_id = node.id,
            .file_bytes = @as(u64, s.record.file_blocks) * block_bytes,
            .life = dice.bits(),
            .sync = s.record.sync,
        }, self.disk.disk(), &node.pool, &text);
        self.is_forcing = false;
        self.interval_due_ns = 0;
    }

    /// Once the receiver is there.
    pub fn restore(self: *Record, node: *ReceiverNode) !void {
        const recording = &self.recording;
        recording.recorder.ordered = &self.force_from;
        node.receiver.lanes[0].waits_for_disk = node.scenario.record.sync == .commit;
        for (recording.found.streams.items) |*known| {
            if (!node.receiver.restore(&known.entry, known.next_msg, known.has_messages)) {
                return error.Refused;
            }
        }
    }

    /// The process is about to end.
    pub fn note_end(self: *Record, node: *ReceiverNode, end: End) void {
        const r = &self.recording.recorder;
        self.end = end;
        // A life that ends while it replays has the rest of it still.
        self.ordered = @max(node.log.ordered_next(), self.recording.found.next_sqn);
        self.promised = r.forced_sqn;
        self.stopped = !r.is_recording;
        if (self.stopped) self.promised = @min(self.ordered, r.stopped_sqn.raw);
    }

    /// After the log is gone.
    pub fn close(self: *Record) void {
        region_file.map_anonymous_at(self.region.base, self.region.bytes) catch
            @panic("no memory");
        if (self.end == .stopped) {
            self.recording.deinit(self.gpa);
        } else self.recording.abandon(self.gpa);
        self.holding_pool.deinit(self.gpa);
    }
};

// -------------------------------------------------------------------- agent

/// After each step of the receiver: what its record agent has to do is due.
pub fn look(c: *Cluster, node: *ReceiverNode) void {
    const rec = node.record orelse return;
    const r = &rec.recording.recorder;
    const timer = cluster_file.Timer.record_agent + node.index;
    const s = &c.scenario.record;
    if (!r.is_forced() and !rec.is_forcing) begin_force(c, rec, node);
    switch (r.state.load(.monotonic)) {
        .wanted, .turned => c.wake(timer, c.now_ns + c.dice.below(s.work_ns + 1)),
        else => {},
    }
    if (s.sync != .interval) return;
    if (rec.interval_due_ns == 0) rec.interval_due_ns = c.now_ns + 10 * ms;
    c.wake(timer, rec.interval_due_ns);
}

fn begin_force(c: *Cluster, rec: *Record, node: *ReceiverNode) void {
    rec.is_forcing = true;
    rec.force_from.store(node.log.ordered_next(), .monotonic);
    rec.disk.begin_force(rec.recording.sync_fd);
    c.wake(cluster_file.Timer.record_agent + node.index, c.now_ns + c.dice.magnitude(
        1,
        c.scenario.record.force_ns,
    ));
}

/// The record agent's turn.
pub fn step(c: *Cluster, node: *ReceiverNode) void {
    const rec = node.record orelse return;
    if (!node.alive) return;
    if (c.now_ns < node.paused_until_ns) {
        return c.wake(cluster_file.Timer.record_agent + node.index, node.paused_until_ns);
    }
    const r = &rec.recording.recorder;
    const is_due = c.scenario.record.sync == .interval and c.now_ns >= rec.interval_due_ns;
    if (is_due and !rec.is_forcing) {
        rec.interval_due_ns = c.now_ns + 10 * ms;
        return begin_force(c, rec, node);
    }
    for (0..8) |_| {
        if (r.state.load(.monotonic) == .turned) {
            // The file is left behind as it is now.
            rec.disk.forget_force();
            rec.force_from.store(node.log.ordered_next(), .monotonic);
            rec.is_forcing = false;
            _ = rec.recording.step(false);
            continue;
        }
        const is_over = rec.is_forcing;
        if (!r.is_forced() and !is_over) {
            begin_force(c, rec, node);
            break;
        }
        rec.is_forcing = false;
        if (rec.recording.step(is_over and c.scenario.record.sync == .interval) == .nothing) break;
        rec.disk.forget_force();
    }
    c.wake(cluster_file.Timer.step_receiver + node.index, c.now_ns);
    look(c, node);
}

// -------------------------------------------------------------------- mishaps

/// A recording receiver dies; its disk may do more than stand still.
pub fn kill(c: *Cluster, node: *ReceiverNode) void {
    const rec = node.record orelse return;
    const s = &c.scenario.record;
    const is_power = c.dice.chance(s.power_ppm);
    rec.note_end(node, if (is_power) .power else .killed);
    remember_connections(c, rec, node);
}

/// After the process is gone.
pub fn dead(c: *Cluster, node: *ReceiverNode) void {
    const rec = node.record orelse return;
    const s = &c.scenario.record;
    rec.flipped = false;
    if (rec.end == .power) {
        c.totals.power_losses += 1;
        rec.disk.lose_power(&c.dice);
    }
    if (c.dice.chance(s.flip_ppm)) {
        rec.flipped = rec.disk.flip_bit(&c.dice);
        c.totals.flips += @intFromBool(rec.flipped);
    }
    rec.disk.capacity_bytes = std.math.maxInt(u64);
}

pub fn stop(c: *Cluster, node: *ReceiverNode) void {
    const rec = node.record orelse return;
    rec.note_end(node, .stopped);
    remember_connections(c, rec, node);
}

fn remember_connections(c: *Cluster, rec: *Record, node: *ReceiverNode) void {
    for (c.windows[0..c.window_count]) |w| {
        const stream = node.receiver.find(watch.key_of(c, w));
        rec.connections[w.index] = if (stream) |x| x.connection else 0;
        const x = stream orelse continue;
        const said = &rec.said[w.index];
        if (said.connection != x.connection) said.* = .{ .connection = x.connection, .to = 0 };
        said.to = @max(said.to, x.next.msg);
    }
}

/// A disk is full from now on, or refuses to force.
pub fn spoil(c: *Cluster, node: *ReceiverNode) void {
    const rec = node.record orelse return;
    if (!node.alive) return;
    c.totals.disk_failures += 1;
    if (c.scenario.record.sync != .async and c.dice.coin()) {
        rec.disk.is_broken = true;
    } else rec.disk.capacity_bytes = 0;
}

// -------------------------------------------------------------------- checkers

/// A life begins: what the disk gave back is what the last life left.
pub fn begin(c: *Cluster, node: *ReceiverNode) void {
    const rec = node.record orelse return;
    const found = &rec.recording.found;
    const next = found.next_sqn;
    judge_end(c, rec, node, next);
    if (rec.recording.first_sqn() != found.first_sqn) {
        c.verdict.fail(.record, c.now_ns, "receiver {d}: replay begins at {d}, the record at " ++
            "{d}", .{
            node.index, rec.recording.first_sqn(), found.first_sqn,
        });
    }
    judge_acked(c, rec, node);
    if (c.verdict.violation != null) return;
    const was = rec.history.items.len;
    if (next < was) rec.history.shrinkRetainingCapacity(@intCast(next));
    for (c.windows[0..c.window_count]) |w| go_on(c, rec, node, w, next < was);
    node.next_sqn = rec.recording.first_sqn();
}

fn judge_end(c: *Cluster, rec: *Record, node: *ReceiverNode, next: u64) void {
    if (rec.flipped) return;
    const is_safe = rec.end == .stopped or rec.end == .killed;
    const low = if (rec.stopped)
        if (is_safe) rec.promised else 0
    else if (is_safe)
        rec.ordered
    else if (rec.end == .power and c.scenario.record.sync != .async) rec.promised else 0;
    if (next >= low and (next <= rec.ordered or rec.end == .none)) return;
    c.verdict.fail(.record, c.now_ns, "receiver {d}: the record ends at {d} after the process " ++
        "ended ({t}) at {d}, of which {d} are promised", .{
        node.index, next, rec.end, rec.ordered, low,
    });
}

/// Nothing is lost that its sender counts as acknowledged.
fn judge_acked(c: *Cluster, rec: *Record, node: *ReceiverNode) void {
    const is_open = rec.flipped or rec.stopped or rec.end == .none or
        (rec.end == .power and c.scenario.record.sync != .commit);
    for (c.windows[0..c.window_count]) |w| {
        const restored = restored_next(c, node, w) orelse continue;
        const covered = covered_from(rec, node, w, restored);
        const sender = w.sender orelse continue;
        const peer = sender.peers.find(node.id) orelse continue;
        if (is_open) {
            const said = &rec.said[w.index];
            const under_way = if (said.connection == w.connection) said.to else 0;
            rec.forgiven[w.index] = @max(peer.acked.msg, under_way);
        }
        if (is_open or rec.connections[w.index] != w.connection) continue;
        if (peer.acked.msg <= rec.forgiven[w.index]) continue;
        if (peer.acked.msg <= covered) continue;
        c.verdict.fail(.record, c.now_ns, "receiver {d} goes on at {d} of window {d} ({t}); {d} " ++
            "counts as acknowledged", .{
            node.index, restored, w.index, rec.end, peer.acked.msg,
        });
    }
}

/// Up to where nothing is missing but what was told as lost.
fn covered_from(rec: *Record, node: *ReceiverNode, w: *const Window, restored: u64) u64 {
    const told = &rec.told[w.index];
    const check = &node.checks[w.index];
    var covered = if (told.from == restored) @max(told.to, restored) else restored;
    if (check.has_position) {
        if (check.delivered_end <= restored) covered = @max(covered, check.position());
    }
    // Losses that were told, and numbers that were never sent, in any order.
    for (0..check.losses.items.len + w.unsent.items.len) |_| {
        const before = covered;
        for ([_][]const model.Range{ check.losses.items, w.unsent.items }) |ranges| {
            for (ranges) |r| if (r.start <= covered) {
                covered = @max(covered, r.end + 1);
            };
        }
        if (covered == before) break;
    }
    told.* = .{ .from = restored, .to = covered };
    return covered;
}

fn restored_next(c: *Cluster, node: *ReceiverNode, w: *const Window) ?u64 {
    const stream = node.receiver.find(watch.key_of(c, w)) orelse return null;
    return if (stream.has_position) stream.next.msg else null;
}

/// What the checker of a stream expects in the new life.
fn go_on(c: *Cluster, rec: *Record, node: *ReceiverNode, w: *Window, is_cut: bool) void {
    const check = &node.checks[w.index];
    const known = for (rec.recording.found.streams.items) |*known| {
        const same = known.entry.source == w.node.id and
            known.entry.transport == c.scenario.transports[w.transport].id;
        if (same and known.has_messages) break known;
    } else return check.reset();
    check.begin_life(known.next_msg);
    w.freed[node.index] = @max(w.freed[node.index], w.window.reclaimed());
    if (!is_cut) return;
    check.epoch = 0;
    for (rec.history.items) |*e| {
        if (e.window == w.index) check.epoch = e.epoch;
    }
}

/// A message that the program is given. True: it was given it before, and it is the same.
pub fn delivered(
    c: *Cluster,
    node: *ReceiverNode,
    d: *const record.Descriptor,
    w: *const Window,
) bool {
    const rec = node.record orelse return false;
    const sqn: u64 = @intFromFloat(d.sqn);
    if (sqn >= rec.history.items.len) return false;
    const e = &rec.history.items[@intCast(sqn)];
    const now = entry_of(node, d, w, e.epoch);
    c.totals.replayed += 1;
    if (std.meta.eql(e.*, now)) return true;
    c.verdict.fail(.record, c.now_ns, "receiver {d}: sqn {d} was message {d} of window {d}, and " ++
        "is message {d} of window {d} with {d} bytes after a restart", .{
        node.index, sqn, e.number, e.window, now.number, now.window, now.length,
    });
    return true;
}

pub fn remember(
    node: *ReceiverNode,
    d: *const record.Descriptor,
    w: *const Window,
    epoch: u32,
) void {
    const rec = node.record orelse return;
    assert(rec.history.items.len == @as(u64, @intFromFloat(d.sqn)));
    rec.history.append(rec.gpa, entry_of(node, d, w, epoch)) catch @panic("out of memory");
}

fn entry_of(
    node: *ReceiverNode,
    d: *const record.Descriptor,
    w: *const Window,
    epoch: u32,
) Entry {
    const h = node.log.header_of(d);
    return .{
        .window = w.index,
        .epoch = epoch,
        .number = h.msg_no,
        .time_ms = h.time_ms,
        .length = d.length,
        .args = d.args,
        .hash = std.hash.Wyhash.hash(0, node.bytes_of(d)),
    };
}
