//! What a simulated member has beneath it: the ordered log, the stage of messages that senders
//! delivered, and the disk. Payloads are functions of (sender, window, number), so that only
//! headers are kept; whoever pulls a payload from another member is checked byte by byte.
//!
//! Memory and disk differ in what a crash leaves: a killed process leaves all that was written, a
//! machine that crashes loses what was not forced, from a random place on.

const std = @import("std");
const scenario_file = @import("tier_scenario.zig");
const model_file = @import("tier_model.zig");
const epochs = @import("../tier/epoch.zig");
const mutant = @import("mutant.zig");
const record_file = @import("../order/record_file.zig");
const Dice = @import("dice.zig").Dice;
const results_file = @import("../tier/results.zig");
const Entry = @import("../tier/entry.zig").Entry;
const Model = model_file.Model;
const SimResults = @import("tier_results.zig").SimResults;
const Epoch = epochs.Epoch;
const Era = epochs.Era;
const Durable = epochs.Durable;

const senders_max = scenario_file.senders_max;
const turn_max = 64;
const pushed_max = 64;

/// What one member has of one sender's stream, besides its log: numbers [begin, end).
pub const Stage = struct {
    connection: u64 = 0,
    begin: u64 = 0,
    end: u64 = 0,
    /// The lowest that the sender can still send.
    first: u64 = 0,
    /// The name of the sender was heard or learned.
    known: bool = false,
    /// Below it, all is committed here: what the sender is told, and of which connection.
    committed: u64 = 0,
};

pub const Disk = struct {
    durable: Durable = .{},
    /// Entries and eras below are on the disk for good.
    forced: u64 = 0,
    forced_eras: u64 = 0,
    closed_cleanly: bool = false,
    /// Something was written ever.
    exists: bool = false,
};

pub const SimHost = struct {
    gpa: std.mem.Allocator,
    model: *Model,
    dice: *Dice,
    index: u8,
    /// Number of the member, or `tree.nobody` for an observer.
    member: u32,
    record: scenario_file.Record,
    log: std.ArrayList(Entry) = .empty,
    era_list: std.ArrayList(Era) = .empty,
    disk: Disk = .{},
    alive: bool = false,
    life: u32 = 0,
    stages: [senders_max]Stage = @splat(.{}),
    /// Next number of each stream after the log.
    log_next: [senders_max]u64 = @splat(0),
    handed_count: u64 = 0,
    delivered_next: [senders_max]u64 = @splat(0),
    show_limit: u64 = 0,
    committed_count: u64 = 0,
    /// First sqn that was delivered here and is another message in the tier.
    diverged_at: ?u64 = null,
    /// The program is inside of a handler: nothing can be cut off.
    inside: bool = false,
    fill_offset: u32 = 0,
    fill_entry: ?Entry = null,
    disk_full: bool = false,
    memory_full: bool = false,
    /// Calls until the process dies in the middle of a step; then nothing has an effect any more.
    calls_left: ?u32 = null,
    dying: bool = false,
    turn: u32 = 0,
    acks_changed: bool = false,
    now_ms: u64 = 0,
    /// Of its program in this life; null: programs make none.
    results: ?SimResults = null,
    results_mode: scenario_file.ResultsMode = .none,
    told_count: u64 = 0,
    /// Transactions that came in front of their entries.
    pushed: std.ArrayList(Entry) = .empty,

    pub fn deinit(self: *SimHost) void {
        self.pushed.deinit(self.gpa);
        if (self.results) |*r| r.deinit();
        self.log.deinit(self.gpa);
        self.era_list.deinit(self.gpa);
    }

    /// True when the process is already dead.
    fn dead(self: *SimHost) bool {
        if (self.calls_left) |*n| {
            if (n.* == 0) self.dying = true else n.* -= 1;
        }
        return self.dying;
    }

    // ---- lives

    /// What the member is told at its start, after what must be said of the disk first.
    pub fn load(self: *SimHost) Durable {
        self.stages = @splat(.{});
        self.handed_count = 0;
        self.delivered_next = @splat(0);
        self.show_limit = 0;
        self.committed_count = 0;
        self.told_count = 0;
        self.pushed.clearRetainingCapacity();
        self.diverged_at = null;
        self.inside = false;
        if (self.results) |*r| r.deinit();
        self.results = null;
        if (self.results_mode != .none) {
            self.results = .init(self.gpa, self, self.results_mode == .synchronous);
        }
        self.fill_entry = null;
        self.disk_full = false;
        self.memory_full = false;
        self.calls_left = null;
        self.dying = false;
        self.follow_log();
        for (&self.stages, 0..) |*st, i| st.known = self.log_next[i] > 0;
        self.disk.exists = true;
        self.disk.closed_cleanly = false;
        return self.disk.durable;
    }

    pub const Death = enum { kill, clean, crash, wipe };

    pub fn die(self: *SimHost, death: Death) void {
        self.alive = false;
        const stopped = self.disk_full;
        switch (death) {
            .clean => self.disk.closed_cleanly = !stopped,
            .kill => {},
            .crash => self.crash(),
            .wipe => {
                self.cut(0);
                self.disk = .{};
            },
        }
        if (self.record == .none) self.cut(0);
        // Known at the next start, before anything else is written.
        if (self.record == .none or stopped) self.disk.durable.is_intact = false;
    }

    fn crash(self: *SimHost) void {
        const end = self.log.items.len;
        const forced = @min(self.disk.forced, end);
        if (self.record != .none) {
            self.cut_keeping(self.dice.between(forced, end), self.disk.forced_eras);
        }
        if (self.record != .commit) self.disk.durable.is_intact = false;
    }

    fn cut(self: *SimHost, sqn: u64) void {
        self.cut_keeping(sqn, 0);
    }

    /// As many `eras` as given stay, also empty ones.
    fn cut_keeping(self: *SimHost, sqn: u64, eras_kept: u64) void {
        std.debug.assert(sqn <= self.next());
        self.log.shrinkRetainingCapacity(@intCast(sqn));
        while (self.era_list.items.len > eras_kept) {
            const last = self.era_list.items[self.era_list.items.len - 1];
            if (last.first_sqn < sqn or (last.first_sqn == 0 and sqn > 0)) break;
            _ = self.era_list.pop();
        }
        self.disk.forced = @min(self.disk.forced, sqn);
        self.disk.forced_eras = @min(self.disk.forced_eras, self.era_list.items.len);
        self.follow_log();
    }

    /// Streams go on where the log ends.
    fn follow_log(self: *SimHost) void {
        self.log_next = @splat(0);
        var connections: [senders_max]u64 = @splat(0);
        for (self.log.items) |*e| {
            if (results_file.is_result(e)) continue;
            self.log_next[e.source - 1] = e.msg_no + 1;
            connections[e.source - 1] = e.connection;
        }
        for (&self.stages, 0..) |*st, i| {
            if (connections[i] > st.connection) {
                st.connection = connections[i];
                st.begin = 0;
                st.end = 0;
                st.first = 0;
            }
            if (st.begin != self.log_next[i]) {
                if (st.begin > self.log_next[i]) st.end = self.log_next[i];
                st.begin = self.log_next[i];
                st.end = @max(st.end, st.begin);
            }
        }
    }

    pub fn epoch_of(self: *const SimHost, sqn: u64) Epoch {
        var i = self.era_list.items.len;
        while (i > 0) {
            i -= 1;
            if (self.era_list.items[i].first_sqn <= sqn) return self.era_list.items[i].epoch;
        }
        return epochs.none;
    }

    pub fn diverged(self: *SimHost, sqn: u64) void {
        if (self.model.relaxed) return;
        self.diverged_at = @min(self.diverged_at orelse sqn, sqn);
    }

    // ---- the network of senders

    pub const Delivery = struct { connection: u64, first: u64, to: u64 };

    /// The sender's data arrived: everything below `to` that it still has.
    pub fn receive(self: *SimHost, sender: usize, d: Delivery) void {
        const st = &self.stages[sender];
        if (d.connection < st.connection) return;
        st.known = true;
        if (d.connection > st.connection) {
            st.connection = d.connection;
            st.end = st.begin;
        }
        st.first = d.first;
        if (d.first <= st.end) st.end = @max(st.end, d.to);
    }

    pub fn staged_to(self: *const SimHost, sender: usize) u64 {
        return self.stages[sender].end;
    }

    // ---- log

    pub fn next(self: *const SimHost) u64 {
        return self.log.items.len;
    }

    pub fn eras(self: *const SimHost) []const Era {
        return self.era_list.items;
    }

    pub fn begin_era(self: *SimHost, epoch: Epoch) void {
        if (self.dead()) return;
        while (self.era_list.items.len > 0) {
            const last = self.era_list.items[self.era_list.items.len - 1];
            if (epochs.eql(last.epoch, epoch)) return;
            if (last.first_sqn < self.next()) break;
            // Nothing was assigned in it.
            _ = self.era_list.pop();
        }
        self.era_list.append(self.gpa, .{ .epoch = epoch, .first_sqn = self.next() }) catch
            @panic("out of memory");
    }

    fn append(self: *SimHost, entry: *const Entry) void {
        self.model.check_sent(entry, self.index);
        self.log.append(self.gpa, entry.*) catch @panic("out of memory");
        if (results_file.is_result(entry)) return self.model.note_held(self);
        const i = entry.source - 1;
        self.log_next[i] = entry.msg_no + 1;
        const st = &self.stages[i];
        if (entry.connection > st.connection) {
            st.connection = entry.connection;
            st.end = 0;
            st.first = 0;
        }
        st.begin = self.log_next[i];
        st.end = @max(st.end, st.begin);
        st.known = true;
        self.model.note_held(self);
    }

    pub fn pushes(self: *const SimHost) bool {
        return self.results != null;
    }

    pub fn stage_result(self: *SimHost, entry: *const Entry, bytes: []const u8) void {
        if (self.dead()) return;
        const r = if (self.results) |*r| r else return;
        if (!is_right(entry, bytes)) return self.model.fail(.integrity, "node {d}: bytes of " ++
            "transaction {d} differ", .{ self.index, entry.msg_no });
        if (self.pushed.items.len < pushed_max and entry.msg_no >= r.pushed_no) {
            self.pushed.append(self.gpa, entry.*) catch @panic("out of memory");
            r.pushed_no = entry.msg_no + 1;
        }
    }

    fn is_right(entry: *const Entry, bytes: []const u8) bool {
        var expected: [9000]u8 = undefined;
        const n = Model.bytes_of(entry, 0, expected[0..bytes.len]);
        return n == bytes.len and std.mem.eql(u8, expected[0..n], bytes);
    }

    fn append_pushed(self: *SimHost, entry: *const Entry) Staged {
        while (self.pushed.items.len > 0) {
            const first = self.pushed.items[0];
            if (first.msg_no > entry.msg_no) return .gone;
            _ = self.pushed.orderedRemove(0);
            if (first.msg_no < entry.msg_no or first.length != entry.length) continue;
            // As the engine does: the entry as it was told, with the bytes that were staged.
            std.debug.assert(std.meta.eql(first, entry.*));
            self.append(&first);
            return .ok;
        }
        return .gone;
    }

    pub const Staged = enum { ok, missing, gone, no_memory };

    pub fn append_staged(self: *SimHost, entry: *const Entry) Staged {
        if (self.dead()) return .no_memory;
        if (self.memory_full and self.dice.coin()) return .no_memory;
        if (results_file.is_result(entry)) return self.append_pushed(entry);
        if (entry.source == 0 or entry.source > senders_max) return .missing;
        const st = &self.stages[entry.source - 1];
        if (entry.connection < st.connection) return .gone;
        if (entry.connection > st.connection) return .missing;
        if (entry.msg_no < st.begin) return .gone;
        if (entry.msg_no >= st.end) return .missing;
        var ours = self.model.entry_of(entry.source, st.connection, entry.msg_no);
        ours.time_ms = entry.time_ms;
        if (ours.length != entry.length) return .gone;
        self.append(&ours);
        return .ok;
    }

    /// Leader: a transaction that its program made in the reign of `epoch`.
    pub fn append_made(self: *SimHost, entry: *const Entry, epoch: Epoch) bool {
        if (self.dead() or self.memory_full and self.dice.coin()) return false;
        self.model.on_assign(self);
        self.model.on_made(entry, epoch, self.era_list.items[self.era_list.items.len - 1].epoch);
        self.append(entry);
        return true;
    }

    pub const Filled = enum { more, ok, no_memory, bad };

    pub fn append_fill(self: *SimHost, entry: *const Entry, offset: u32, bytes: []const u8) Filled {
        if (self.dead()) return .no_memory;
        if (self.memory_full and self.dice.coin()) return .no_memory;
        const is_other = self.fill_entry == null or !std.meta.eql(self.fill_entry.?, entry.*);
        if (is_other or offset == 0) {
            self.fill_entry = entry.*;
            self.fill_offset = 0;
        }
        if (offset != self.fill_offset or bytes.len > entry.length - offset) return .bad;
        var expected: [512]u8 = undefined;
        var done: usize = 0;
        while (done < bytes.len) {
            const n = @min(expected.len, bytes.len - done);
            const at = offset + @as(u32, @intCast(done));
            _ = Model.bytes_of(entry, at, expected[0..n]);
            if (!std.mem.eql(u8, expected[0..n], bytes[done..][0..n])) {
                self.model.fail(.integrity, "node {d}: pulled bytes of {d} of {d} differ", .{
                    self.index, entry.msg_no, entry.source,
                });
                return .bad;
            }
            done += n;
        }
        self.fill_offset += @intCast(bytes.len);
        if (self.fill_offset < entry.length) return .more;
        self.fill_entry = null;
        self.append(entry);
        return .ok;
    }

    /// The leader's turn: streams one after another, at most `turn_max` of one.
    pub fn order(self: *SimHost, wall_ms: u64, max: u32) u32 {
        if (self.dead() or max == 0) return 0;
        var n: u32 = if (self.results) |*r| r.order(wall_ms, max) else 0;
        const made = n;
        var idle: u32 = 0;
        while (n < max and idle < senders_max) {
            const i = self.turn % senders_max;
            self.turn +%= 1;
            const st = &self.stages[i];
            if (st.begin == st.end and st.first > st.begin and st.connection > 0) {
                // Nobody can send it any more: MESSAGE_LOSS.
                self.model.jumped(i, st.begin, st.first);
                st.begin = st.first;
                st.end = st.first;
            }
            var taken: u32 = 0;
            while (n < max and taken < turn_max and st.begin < st.end) {
                if (self.memory_full and self.dice.coin()) break;
                if (n == made) self.model.on_assign(self);
                var e = self.model.entry_of(@intCast(i + 1), st.connection, st.begin);
                e.time_ms = wall_ms;
                self.append(&e);
                n += 1;
                taken += 1;
            }
            idle = if (taken == 0) idle + 1 else 0;
        }
        return n;
    }

    pub fn entry_at(self: *const SimHost, sqn: u64) Entry {
        return self.log.items[@intCast(sqn)];
    }

    pub fn read(self: *const SimHost, sqn: u64, offset: u32, buffer: []u8) u32 {
        return Model.bytes_of(&self.log.items[@intCast(sqn)], offset, buffer);
    }

    pub const Truncated = enum { done, busy, delivered };

    pub fn truncate(self: *SimHost, sqn: u64) Truncated {
        if (self.dead()) return .busy;
        if (self.inside) return .busy;
        if (sqn < self.handed()) return .delivered;
        if (sqn < self.committed_count and !self.model.relaxed) {
            self.model.fail(.durability, "node {d} cuts its log to {d}, committed are {d}", .{
                self.index, sqn, self.committed_count,
            });
        }
        self.cut(sqn);
        self.show_limit = @min(self.show_limit, sqn);
        return .done;
    }

    pub fn handed(self: *const SimHost) u64 {
        const r = if (self.results) |*r| r else return self.handed_count;
        return r.logic.known_end(self.handed_count);
    }

    pub fn show(self: *SimHost, limit: u64) void {
        if (self.dead()) return;
        std.debug.assert(limit <= self.next());
        std.debug.assert(limit >= self.show_limit);
        self.show_limit = limit;
    }

    pub fn committed(self: *SimHost, limit: u64) void {
        if (self.dead() or limit <= self.committed_count) return;
        self.model.on_committed(self, self.committed_count, limit);
        if (self.model.verdict.violation != null) return;
        self.committed_count = limit;
        if (self.results == null) self.tell_to(limit);
    }

    /// Senders are told of what lies below.
    pub fn tell_to(self: *SimHost, limit: u64) void {
        if (self.dying or limit <= self.told_count) return;
        for (self.log.items[@intCast(self.told_count)..@intCast(limit)]) |*e| {
            if (results_file.is_result(e)) continue;
            self.stages[e.source - 1].committed = e.msg_no + 1;
        }
        self.told_count = limit;
        self.acks_changed = true;
    }

    pub fn retire_stage(self: *SimHost) void {
        if (self.dead()) return;
        self.follow_log();
        self.pushed.clearRetainingCapacity();
        if (self.results) |*r| r.pushed_no = 0;
    }

    pub fn knows_stream(self: *const SimHost, entry: *const Entry) bool {
        if (results_file.is_result(entry)) return true;
        if (entry.source == 0 or entry.source > senders_max) return false;
        return self.stages[entry.source - 1].known;
    }

    pub fn describe(self: *SimHost, entry: *const Entry, out: *record_file.StreamEntry) void {
        _ = self;
        out.* = std.mem.zeroes(record_file.StreamEntry);
        out.source = entry.source;
        out.transport = entry.transport;
        out.name[0] = 's';
        out.name_bytes = 1;
        out.check = out.check_now();
    }

    pub fn learn(self: *SimHost, stream: *const record_file.StreamEntry) void {
        if (stream.source == 0 or stream.source > senders_max) return;
        self.stages[stream.source - 1].known = true;
    }

    pub fn tx_acked(self: *SimHost, positions: anytype) void {
        _ = self;
        _ = positions;
    }

    // ---- disk

    pub fn save(self: *SimHost, durable: Durable) bool {
        if (self.dead() or self.disk_full) return false;
        self.model.on_save(self, &durable);
        self.disk.durable = durable;
        self.model.note_held(self);
        return true;
    }

    pub fn force(self: *SimHost) bool {
        if (self.dead() or self.disk_full) return false;
        self.set_forced();
        self.model.note_held(self);
        return true;
    }

    fn set_forced(self: *SimHost) void {
        self.disk.forced = self.next();
        self.disk.forced_eras = self.era_list.items.len;
    }

    pub fn durable_next(self: *SimHost) u64 {
        if (self.record == .commit and self.alive and !self.disk_full and !self.dying) {
            // The writer's thread forces when it can.
            if (self.dice.below(3) > 0) self.set_forced();
            self.model.note_held(self);
        }
        return self.durable_next_now();
    }

    pub fn durable_next_now(self: *const SimHost) u64 {
        return if (self.record == .commit) @min(self.disk.forced, self.next()) else self.next();
    }
};
