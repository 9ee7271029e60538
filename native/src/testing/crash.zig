//! Deaths of a simulated sender between any two stores to its windows, and what its next life must
//! find there: all that was accepted, nothing that was not, and no byte of it changed.

const std = @import("std");
const layout = @import("../window/node.zig");
const generations = @import("../window/generations.zig");
const recovery = @import("../window/recovery.zig");
const stores = @import("../window/stores.zig");
const nodes = @import("sender_node.zig");
const SenderNode = nodes.SenderNode;
const Window = nodes.Window;

/// Where a window stood when its process died: before and after the operation in which it died.
pub const Marks = struct {
    acked_low: u64 = 0,
    acked_high: u64 = 0,
    written_high: u64 = 0,
    connection_low: u64 = 0,
};

/// Whose messages the arena holds.
pub const Arena = enum {
    ours,
    /// A process without this window died while it took the arena over.
    doubtful,
    /// A process without this window has used it.
    foreign,
};

/// An operation of the node begins. `is_producer`: what other threads do in between is not what
/// this one does.
pub fn enter(self: *SenderNode, is_producer: bool) void {
    if (self.doom == null and !self.has_threads) return;
    mark(self);
    const others: stores.Between = .{ .context = self, .act = act_between };
    stores.begin(self.doom orelse stores.never, if (is_producer) null else others);
}

/// A start: what it dies in has no acknowledgements.
pub fn enter_start(self: *SenderNode) void {
    if (self.doom) |left| stores.begin(left, null);
}

/// The operation is over. True when the process died in it.
pub fn leave(self: *SenderNode) bool {
    if (!stores.is_begun()) return false;
    if (stores.is_dead()) for (self.windows) |w| {
        w.marks.acked_high = w.window.acked();
        w.marks.written_high = w.window.written();
    };
    return leave_start(self);
}

pub fn leave_start(self: *SenderNode) bool {
    if (!stores.is_begun()) return false;
    const left = stores.end(self.crash_dice.random());
    if (self.doom != null) self.doom = left;
    self.died_inside = left == null;
    return left == null;
}

/// The process is killed, at the last between two operations.
pub fn killed(self: *SenderNode) void {
    if (!self.died_inside) mark(self);
    self.died_inside = false;
    self.doom = null;
}

fn mark(self: *SenderNode) void {
    for (self.windows) |w| w.marks = .{
        .acked_low = w.window.acked(),
        .acked_high = w.window.acked(),
        .written_high = w.window.written(),
        .connection_low = w.window.connection_id(),
    };
}

/// The producer is another thread: it may publish between two stores of the network side.
fn act_between(context: *anyopaque) void {
    const self: *SenderNode = @ptrCast(@alignCast(context));
    const dice = &self.crash_dice;
    if (!dice.chance(self.scenario.publish_between_ppm)) return;
    const w = self.windows[@intCast(dice.below(self.windows.len))];
    const sender = w.sender orelse return;
    if (sender.phase != .started or w.stopping_until_ns != 0) return;
    _ = self.publish_at_once(w);
}

/// A window that an earlier process left: as the engine opens it.
pub fn recover(self: *SenderNode, w: *Window, o: SenderNode.Start) void {
    const page = w.window.page;
    const cursors = recovery.read_cursors(page, w.window.capacity) orelse {
        return o.verdict.fail(.recovery, o.now_ns, "window {d}: its cursors contradict each " ++
            "other", .{w.index});
    };
    const arena = generations.read(&self.generation);
    const is_trusted = generations.is_trusted(&page.generations, arena);
    const tail = look_for_tail(w, o);
    const result = recovery.recover(&w.window, cursors, &self.pool, is_trusted);
    // What a process that dies in its recovery has found out dies with it.
    if (stores.is_dead() or o.verdict.violation != null) return;
    look_at_cursors(w, o, &result, if (is_trusted) tail else null);
    if (o.verdict.violation != null) return;
    settle(self, w, &result);
    look_at_messages(w, o, &result);
}

/// A message that was numbered and not accepted yet when the process died.
fn look_for_tail(w: *const Window, o: SenderNode.Start) ?u64 {
    if (!w.in_flight) return null;
    const number = w.published.epochs[w.published.epoch].written;
    const node = &w.window.nodes[w.window.index_of(number)];
    if (node.tag != number + 1) return null;
    // In a foreign arena it is lost, and recovery may have died while it wrote that down.
    const is_whole = node.check == node.checksum() or w.arena != .ours;
    if (!is_whole) o.verdict.fail(.recovery, o.now_ns, "window {d}: message {d} has its tag, " ++
        "and its node is not whole", .{ w.index, number });
    return number;
}

fn look_at_cursors(
    w: *const Window,
    o: SenderNode.Start,
    result: *const recovery.Recovery,
    tail: ?u64,
) void {
    const known = w.published.epochs[w.published.epoch].written;
    const has_jumped = w.first_open and result.written == w.marks.written_high;
    const expected = if (tail) |number| number + 1 else known;
    const may_have_tail = w.in_flight and w.arena != .ours and result.written == known + 1;
    if (result.written != expected and !has_jumped and !may_have_tail) {
        return o.verdict.fail(.recovery, o.now_ns, "window {d} goes on at {d}; accepted was all " ++
            "below {d}, in flight {}", .{ w.index, result.written, known, w.in_flight });
    }
    const m = &w.marks;
    if (result.acked < m.acked_low or result.acked > m.acked_high) {
        return o.verdict.fail(.recovery, o.now_ns, "window {d}: all below {d} counts as " ++
            "acknowledged; it was {d} or at most {d}", .{
            w.index, result.acked, m.acked_low, m.acked_high,
        });
    }
    const id = w.window.connection_id();
    if (id < m.connection_low or id > w.connection) {
        return o.verdict.fail(.recovery, o.now_ns, "window {d}: its last connection was {x} or " ++
            "{x}, not {x}", .{ w.index, m.connection_low, w.connection, id });
    }
    if (w.window.sent_msg() == result.acked and w.window.sent_frag() == 0) return;
    o.verdict.fail(.recovery, o.now_ns, "window {d} goes on from {d}; all below {d} is " ++
        "acknowledged", .{ w.index, w.window.sent_msg(), result.acked });
}

/// The model takes notice of what the dead process had done.
fn settle(self: *SenderNode, w: *Window, result: *const recovery.Recovery) void {
    const epoch = w.published.now();
    if (w.in_flight and result.written == epoch.written + 1) {
        self.accept(w, epoch.written, w.window.node(epoch.written).flags);
        self.tails += 1;
    } else if (w.first_open and result.written != epoch.written) {
        epoch.* = .{ .first = result.written, .written = result.written };
    }
    w.in_flight = false;
    // Recovery settles which it was; the next process finds the same.
    w.marks.acked_low = result.acked;
    w.marks.acked_high = result.acked;
}

/// Every message that is kept is what was published, and only those are lost that were damaged.
fn look_at_messages(
    w: *Window,
    o: SenderNode.Start,
    result: *const recovery.Recovery,
) void {
    for (result.reclaimed..result.written) |no| {
        const node = w.window.node(no);
        if (node.flags & layout.flag_lost != 0) {
            if (w.is_torn(w.published.epoch, no)) continue;
            if (w.arena == .ours) return o.verdict.fail(.recovery, o.now_ns, "window {d}: " ++
                "message {d} counts as lost, and nothing was wrong with it", .{ w.index, no });
            w.note_torn(no);
            continue;
        }
        const is_whole = w.arena != .foreign and !w.is_torn(w.published.epoch, no);
        const c = w.published.content(w.published.epoch, no);
        const bytes = w.window.payload(node);
        const same = node.msg_arg == c.arg and std.mem.eql(u8, bytes, c.bytes());
        if (is_whole and same) continue;
        return o.verdict.fail(.recovery, o.now_ns, "window {d}: message {d} is believed; whole " ++
            "{}, as it was {}", .{ w.index, no, is_whole, same });
    }
}

/// A life of the process with one window less: it sends nothing, accepts some messages and dies.
pub fn live_without_one(self: *SenderNode, o: SenderNode.Start) !void {
    const dice = &self.crash_dice;
    const out: usize = @intCast(dice.below(self.windows.len));
    var open: [nodes.windows_of_node_max]*Window = undefined;
    var count: usize = 0;
    for (self.windows, 0..) |w, i| {
        if (i == out) continue;
        open[count] = w;
        count += 1;
    }
    try self.fresh_pool();
    for (open[0..count]) |w| {
        recover(self, w, o);
        if (stores.is_dead() or o.verdict.violation != null) return;
    }
    const w = self.windows[out];
    if (w.arena == .ours) w.arena = .doubtful;
    take_over(self, open[0..count]);
    if (stores.is_dead()) return;
    w.arena = .foreign;
    self.lone_lives += 1;
    self.open_bump();
    for (0..dice.magnitude(1, 200)) |_| {
        const other = open[@intCast(dice.below(count))];
        if (other.window.connection_id() == 0) continue;
        _ = self.publish_at_once(other);
        if (stores.is_dead()) return;
    }
}

pub fn take_over(self: *SenderNode, windows: []*Window) void {
    const old = generations.read(&self.generation);
    generations.take_over(&self.generation, windows, old, self.crash_dice.bits() | 1);
    if (stores.is_dead()) return;
    for (windows) |w| w.arena = .ours;
}
