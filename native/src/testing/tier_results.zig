//! Transactions of a simulated member (`SyncMode` 1 and 2): the two queues between log and program,
//! the program that handles messages and makes transactions, and what must hold of both. What is
//! decided is the very `Results` of the engine.
//!
//! A program's life knows each transaction once, in order from 0 on: those that it was given, then
//! those that it made. It is given committed ones only, and begins with messages only when it has
//! all that was committed before.

const std = @import("std");
const cluster_file = @import("tier_cluster.zig");
const host_file = @import("tier_host.zig");
const model_file = @import("tier_model.zig");
const mutant = @import("mutant.zig");
const epochs = @import("../tier/epoch.zig");
const results_file = @import("../tier/results.zig");
const Cluster = cluster_file.Cluster;
const Entry = @import("../tier/entry.zig").Entry;
const Node = cluster_file.Node;
const SimHost = host_file.SimHost;
const Results = results_file.Results;

const ms = std.time.ns_per_ms;
const given_max = 64;
const made_max = 32;
const per_step = 256;

const Piece = struct { number: u64, carried: u64, length: u32, epoch: epochs.Epoch };

/// After a message was handled: the number of the first transaction that is none of its results.
const Handled = struct { place: u64, next_no: u64 };

pub const SimResults = struct {
    gpa: std.mem.Allocator,
    host: *SimHost,
    logic: Results,
    made: std.ArrayList(Piece) = .empty,
    made_total: u64 = 0,
    made_done: u64 = 0,
    given: std.ArrayList(u64) = .empty,
    is_open: bool = false,
    is_held: bool = false,
    passed: u64 = 0,
    /// The program's: the next transaction that it does not know, and the next message.
    next_no: u64 = 0,
    handled_to: u64 = 0,
    handled: std.ArrayList(Handled) = .empty,
    told: u64 = 0,
    /// One past the last one that came in front of its entry.
    pushed_no: u64 = 0,

    pub fn init(gpa: std.mem.Allocator, host: *SimHost, is_synchronous: bool) SimResults {
        return .{ .gpa = gpa, .host = host, .logic = .init(is_synchronous, 0) };
    }

    pub fn deinit(self: *SimResults) void {
        self.made.deinit(self.gpa);
        self.given.deinit(self.gpa);
        self.handled.deinit(self.gpa);
    }

    // ---- what `Results` asks for

    pub fn next(self: *const SimResults) u64 {
        return self.host.next();
    }

    pub fn entry_at(self: *const SimResults, sqn: u64) Entry {
        return self.host.entry_at(sqn);
    }

    pub fn give(self: *SimResults, sqn: u64, e: *const Entry) bool {
        _ = e;
        if (self.given.items.len >= given_max) return false;
        self.given.append(self.gpa, sqn) catch @panic("out of memory");
        return true;
    }

    pub fn is_applied(self: *const SimResults) bool {
        return self.given.items.len == 0;
    }

    pub fn open(self: *SimResults, first_no: u64) void {
        const model = self.host.model;
        std.debug.assert(!self.is_held);
        self.is_open = true;
        self.is_held = true;
        self.handled.clearRetainingCapacity();
        if (first_no != self.next_no and !model.relaxed) {
            model.fail(.order, "node {d} leads from transaction {d} on, its program knows {d}", .{
                self.host.index, first_no, self.next_no,
            });
        }
        self.next_no = first_no;
    }

    pub fn shut(self: *SimResults) void {
        self.is_open = false;
    }

    pub fn processed(self: *const SimResults) u64 {
        return self.host.handed_count;
    }

    pub fn made_mark(self: *const SimResults) u64 {
        return self.made_total;
    }

    pub fn made_end(self: *const SimResults) u64 {
        return self.made_done;
    }

    pub fn pass_to(self: *SimResults, carried: u64) bool {
        if (self.is_held) return false;
        const h = self.host;
        while (h.handed_count - self.passed < carried) {
            if (h.handed_count >= self.visible()) return false;
            self.pass(&h.log.items[@intCast(h.handed_count)]);
        }
        return true;
    }

    pub fn covered(self: *const SimResults, carried: u64) ?u64 {
        if (self.is_held or self.host.handed_count - self.passed >= carried) return null;
        return self.host.handed_count;
    }

    fn pass(self: *SimResults, e: *const Entry) void {
        const h = self.host;
        if (results_file.is_result(e)) {
            self.passed += 1;
        } else h.delivered_next[e.source - 1] = e.msg_no + 1;
        h.handed_count += 1;
    }

    pub fn visible(self: *const SimResults) u64 {
        return @min(self.logic.message_end, self.host.next());
    }

    pub fn has_lost(self: *const SimResults) bool {
        if (self.logic.is_open or mutant.on(.result_of_old_reign)) return false;
        return self.made.items.len > 0;
    }

    // ---- the log

    pub fn order(self: *SimResults, wall_ms: u64, max: u32) u32 {
        if (!self.logic.is_open) return 0;
        var n: u32 = 0;
        while (n < max and self.made.items.len > 0) {
            const piece = self.made.items[0];
            const e = self.logic.next_entry(self, .{
                .number = piece.number,
                .carried = piece.carried,
                .length = piece.length,
                .time_ms = wall_ms,
            }) orelse return n;
            if (!self.host.append_made(&e, piece.epoch)) return n;
            _ = self.made.orderedRemove(0);
            self.made_done += 1;
            self.logic.note_made(self);
            n += 1;
        }
        return n;
    }

    // ---- the program

    fn make(self: *SimResults, c: *Cluster, message: u64) void {
        if (!self.is_open or self.made.items.len >= made_max) return;
        const most = c.scenario.bytes_max;
        self.made.append(self.gpa, .{
            .number = self.next_no,
            .carried = message + 1,
            .length = @intCast(c.dice.below(most + 1)),
            .epoch = self.logic.epoch,
        }) catch @panic("out of memory");
        self.made_total += 1;
        self.next_no += 1;
        c.counts.results += 1;
    }

    /// Everything that was told of messages of this reign has its results committed.
    pub fn check_told(self: *SimResults) void {
        const model = self.host.model;
        if (model.relaxed or !self.logic.is_synchronous) return;
        for (self.handled.items) |h| {
            if (h.place >= self.told) return;
            if (h.next_no <= model.next_result) continue;
            return model.fail(.false_ack, "node {d} tells of message {d}, which made " ++
                "transactions below {d}, and {d} are committed", .{
                self.host.index, h.place, h.next_no, model.next_result,
            });
        }
    }
};

/// After the member's step; false: the process is over.
pub fn step(c: *Cluster, node: *Node, r: *SimResults) void {
    const core = node.core.?;
    const was_open = r.logic.is_open;
    if (node.host.dying) return;
    _ = r.logic.step(r, .{
        .is_leading = core.phase == .leading,
        .epoch = core.epoch,
        .first = core.first,
        .committed = core.committed,
    });
    if (r.logic.is_open and !was_open) check_open(c, node, r);
    node.host.tell_to(@min(r.logic.told, core.committed));
    r.told = r.logic.told;
    r.check_told();
    const is_over = core.phase == .separate or core.phase == .left;
    if (!is_over and r.has_lost()) {
        core.separate(node.host.next(), node.host.next() + 1);
    }
    const waits = r.logic.scanned != core.committed or r.made.items.len > 0 or
        r.logic.told < r.logic.message_end and r.is_open or
        core.phase == .leading and !r.is_open;
    if (waits and node.alive) c.wake(node, c.now_ns + ms);
}

/// A program is given messages: it has all that was committed before, and nothing else.
fn check_open(c: *Cluster, node: *Node, r: *SimResults) void {
    const model = &c.model;
    c.counts.openings += 1;
    if (model.relaxed) return;
    const first = node.core.?.first;
    if (model.truth.items.len < first) return model.fail(.durability, "node {d} opens with {d} " ++
        "entries, {d} of them committed", .{ node.index, first, model.truth.items.len });
    var count: u64 = 0;
    var carried: u64 = 0;
    for (model.truth.items[0..@intCast(first)], 0..) |*t, place| {
        if (!results_file.is_result(&t.entry)) continue;
        carried = @max(carried, place - count - results_file.distance_of(&t.entry));
        count += 1;
    }
    if (r.next_no != count) return model.fail(.order, "node {d} opens with {d} transactions, " ++
        "the tier has {d}", .{ node.index, r.next_no, count });
    const message = node.host.handed_count - r.passed;
    if (message != @max(carried, r.handled_to)) model.fail(.order, "node {d} goes on with " ++
        "message {d}, transactions cover {d}, it has handled {d}", .{
        node.index, message, carried, r.handled_to,
    });
}

pub fn consume(c: *Cluster, node: *Node, r: *SimResults) void {
    apply(c, node, r);
    const h = &node.host;
    if (r.is_held and !r.is_open) r.is_held = false;
    if (!r.is_held) return;
    var n: u32 = 0;
    while (h.handed_count < r.visible() and n < per_step) : (n += 1) {
        const e = &h.log.items[@intCast(h.handed_count)];
        if (results_file.is_result(e)) {
            r.pass(e);
            continue;
        }
        // Refused: again, a little later.
        if (c.dice.below(64) == 0) break;
        @import("tier_watch.zig").hand_over(c, node, h.handed_count);
        if (c.model.verdict.violation != null) return;
        const message = h.handed_count - r.passed;
        for (0..@intCast(c.dice.below(3))) |_| r.make(c, message);
        h.handed_count += 1;
        r.handled_to = message + 1;
        r.handled.append(r.gpa, .{ .place = h.handed_count - 1, .next_no = r.next_no }) catch
            @panic("out of memory");
        c.counts.delivered += 1;
    }
    if (h.handed_count < r.visible()) c.wake(node, c.now_ns + ms);
}

fn apply(c: *Cluster, node: *Node, r: *SimResults) void {
    const model = &c.model;
    while (r.given.items.len > 0) {
        if (c.dice.below(64) == 0) break; // Refused.
        const sqn = r.given.orderedRemove(0);
        const e = node.host.entry_at(sqn);
        if (e.msg_no != r.next_no and !model.relaxed) return model.fail(.order, "node {d} is " ++
            "given transaction {d}, {d} is the next", .{ node.index, e.msg_no, r.next_no });
        r.next_no = e.msg_no + 1;
        c.counts.applied += 1;
        const truth = model.truth.items;
        if (model.relaxed) continue;
        const is_true = sqn < truth.len and std.meta.eql(truth[@intCast(sqn)].entry, e);
        if (!is_true) return model.fail(.agreement, "node {d} is given transaction {d} at {d}, " ++
            "which is not committed ({d} are)", .{ node.index, e.msg_no, sqn, truth.len });
    }
    if (r.given.items.len > 0) c.wake(node, c.now_ns + ms);
}

/// Only whose program made what the tier will not have separates for it.
pub fn may_separate(model: *const model_file.Model, r: *const SimResults, from: u64) bool {
    if (r.made.items.len > 0) return true;
    const log = r.host.log.items;
    for (@intCast(@min(from, log.len))..@intCast(@min(r.logic.own_end, log.len))) |place| {
        if (!results_file.is_result(&log[place])) continue;
        if (place >= model.truth.items.len) return true;
        if (!std.meta.eql(model.truth.items[place].entry, log[place])) return true;
    }
    return false;
}

/// All that is in the log is committed, given and handled.
pub fn is_finished(r: *const SimResults, is_leading: bool) bool {
    if (r.logic.scanned != r.host.next() or r.given.items.len > 0) return false;
    if (r.made.items.len > 0) return false;
    if (!is_leading) return true;
    return r.is_open and r.host.handed_count >= r.logic.message_end;
}
