//! What is true of a simulated tier, and what its members may claim: the log as it was committed,
//! who led which epoch with which history, what each member could have acknowledged, what senders
//! wrote. Every check of the tier that does not need the cluster itself is here.

const std = @import("std");
const scenario_file = @import("tier_scenario.zig");
const verdict_file = @import("verdict.zig");
const dice_file = @import("dice.zig");
const epochs = @import("../tier/epoch.zig");
const tree = @import("../tier/tree.zig");
const results_file = @import("../tier/results.zig");
const Entry = @import("../tier/entry.zig").Entry;
const SimHost = @import("tier_host.zig").SimHost;
const Verdict = verdict_file.Verdict;
const Epoch = epochs.Epoch;
const Era = epochs.Era;

const senders_max = scenario_file.senders_max;
const members_max = scenario_file.members_max;

/// Connections of one window follow each other; a wiped window begins a new thousand.
pub const connections_of_window = 1000;

pub const Truth = struct { entry: Entry, epoch: Epoch };

/// Who assigned in an epoch, and the history of its log at its first assignment.
const Reign = struct {
    epoch: Epoch,
    node: u8,
    life: u32,
    eras: []Era,
};

const Held = struct { epoch: Epoch, next: u64 };
const Jump = struct { from: u64, to: u64 };

/// A window of a sender from its making to its loss: numbers [first, written).
const Window = struct { first: u64, written: u64 };

pub const SenderTruth = struct {
    windows: std.ArrayList(Window) = .empty,
    /// Of the committed log.
    next: u64 = 0,
    connection: u64 = 0,
    jumps: std.ArrayList(Jump) = .empty,
};

const Winner = struct { epoch: Epoch, member: u32 };

pub const Established = struct { epoch: Epoch, leader: u32, quorum: tree.Quorum };

pub const Model = struct {
    gpa: std.mem.Allocator,
    verdict: Verdict = .{},
    now_ns: u64 = 0,
    bytes_max: u32,
    members: u32,
    truth: std.ArrayList(Truth) = .empty,
    reigns: std.ArrayList(Reign) = .empty,
    established: std.ArrayList(Established) = .empty,
    /// Who won which epoch in the tree.
    winners: std.ArrayList(Winner) = .empty,
    held: [members_max]std.ArrayList(Held) = @splat(.empty),
    senders: [senders_max]SenderTruth = @splat(.{}),
    /// More was lost than commits allow, by force, by a wiped tree, or by policy: a leader may
    /// lack what was committed, and members that delivered it must find out.
    relaxed: bool = false,
    resets: u64 = 0,
    /// Transactions that programs made, and in which reign.
    made: std.ArrayList(Truth) = .empty,
    /// Number of the transaction that is committed next.
    next_result: u64 = 0,
    hosts: []const *SimHost = &.{},

    pub fn deinit(self: *Model) void {
        for (self.reigns.items) |r| self.gpa.free(r.eras);
        self.truth.deinit(self.gpa);
        self.made.deinit(self.gpa);
        self.reigns.deinit(self.gpa);
        self.established.deinit(self.gpa);
        self.winners.deinit(self.gpa);
        for (&self.held) |*h| h.deinit(self.gpa);
        for (&self.senders) |*x| {
            x.windows.deinit(self.gpa);
            x.jumps.deinit(self.gpa);
        }
    }

    fn oom() noreturn {
        @panic("out of memory");
    }

    // ---- what senders wrote

    pub fn length_of(self: *const Model, source: u16, connection: u64, number: u64) u32 {
        const window = connection / connections_of_window;
        const roll = dice_file.mix(dice_file.mix(source, window), number);
        return if (self.bytes_max == 0) 0 else @intCast(roll % (self.bytes_max + 1));
    }

    /// Byte `offset` and on of a message.
    pub fn bytes_of(entry: *const Entry, offset: u32, buffer: []u8) u32 {
        const window = entry.connection / connections_of_window;
        const salt = if (entry.source == 0) entry.time_ms else window;
        const seed = dice_file.mix(dice_file.mix(entry.source, salt), entry.msg_no);
        const n: u32 = @intCast(@min(buffer.len, entry.length -| offset));
        for (buffer[0..n], 0..) |*b, i| {
            const at = offset + i;
            b.* = @truncate((seed >> @intCast(at % 8 * 8)) +% at);
        }
        return n;
    }

    pub fn entry_of(self: *const Model, source: u16, connection: u64, number: u64) Entry {
        return .{
            .connection = connection,
            .msg_no = number,
            .time_ms = 0,
            .length = self.length_of(source, connection, number),
            .source = source,
            .transport = 1,
            .tx_arg = source,
            .msg_arg = @truncate(number),
            .is_tier = 0,
        };
    }

    /// A program made a transaction in the reign of `epoch`.
    pub fn on_made(self: *Model, entry: *const Entry, epoch: Epoch, assigned: Epoch) void {
        self.made.append(self.gpa, .{ .entry = entry.*, .epoch = assigned }) catch oom();
        if (!epochs.eql(epoch, assigned)) self.fail(.one_leader, "transaction {d} of epoch {d} " ++
            "becomes one of epoch {d}", .{ entry.msg_no, epoch.number, assigned.number });
    }

    fn was_made(self: *const Model, entry: *const Entry) bool {
        var i = self.made.items.len;
        while (i > 0) {
            i -= 1;
            if (std.meta.eql(self.made.items[i].entry, entry.*)) return true;
        }
        return false;
    }

    pub fn check_sent(self: *Model, entry: *const Entry, node: u8) void {
        if (results_file.is_result(entry)) {
            if (!self.was_made(entry)) self.fail(.integrity, "node {d}: nobody made " ++
                "transaction {d}", .{ node, entry.msg_no });
            return;
        }
        if (entry.source == 0 or entry.source > senders_max) {
            return self.fail(.integrity, "node {d}: an entry of sender {d}", .{
                node, entry.source,
            });
        }
        const windows = self.senders[entry.source - 1].windows.items;
        const w = entry.connection / connections_of_window;
        var expected = self.entry_of(entry.source, entry.connection, entry.msg_no);
        expected.time_ms = entry.time_ms;
        const known = w < windows.len and entry.msg_no >= windows[w].first and
            entry.msg_no < windows[w].written;
        if (!known or !std.meta.eql(expected, entry.*)) {
            self.fail(.integrity, "node {d}: nobody sent {d} of connection {d} of sender {d}", .{
                node, entry.msg_no, entry.connection, entry.source,
            });
        }
    }

    pub fn jumped(self: *Model, source: usize, from: u64, to: u64) void {
        self.senders[source].jumps.append(self.gpa, .{ .from = from, .to = to }) catch oom();
    }

    /// Whether a stream may go on at `to` where `from` was expected.
    pub fn may_jump(self: *const Model, source: usize, from: u64, to: u64) bool {
        var at = from;
        // Several jumps may have followed each other.
        for (0..self.senders[source].jumps.items.len + 1) |_| {
            if (at == to) return true;
            var best = at;
            for (self.senders[source].jumps.items) |j| {
                if (j.from <= at and j.to <= to) best = @max(best, j.to);
            }
            if (best == at) return false;
            at = best;
        }
        return at == to;
    }

    // ---- who could have acknowledged what

    /// Called after every change of a member's log or durable numbers.
    pub fn note_held(self: *Model, host: *const SimHost) void {
        if (host.member >= members_max) return;
        const d = &host.disk.durable;
        if (!d.is_intact) return;
        const list = &self.held[host.member];
        const next = host.durable_next_now();
        var i = list.items.len;
        while (i > 0) {
            i -= 1;
            const h = &list.items[i];
            if (!epochs.eql(h.epoch, d.adopted)) continue;
            h.next = @max(h.next, next);
            return;
        }
        list.append(self.gpa, .{ .epoch = d.adopted, .next = next }) catch oom();
    }

    pub fn held_in(self: *const Model, member: usize, epoch: Epoch) u64 {
        for (self.held[member].items) |h| if (epochs.eql(h.epoch, epoch)) return h.next;
        return 0;
    }

    pub fn established_in(self: *const Model, epoch: Epoch) ?Established {
        var i = self.established.items.len;
        while (i > 0) {
            i -= 1;
            if (epochs.eql(self.established.items[i].epoch, epoch)) {
                return self.established.items[i];
            }
        }
        return null;
    }

    // ---- commits

    /// A member says that everything below `limit` is committed.
    pub fn on_committed(self: *Model, host: *SimHost, from: u64, limit: u64) void {
        if (limit > host.log.items.len) {
            return self.fail(.durability, "node {d}: {d} committed, {d} in its log", .{
                host.index, limit, host.log.items.len,
            });
        }
        const epoch = host.disk.durable.adopted;
        const e = self.established_in(epoch);
        const leads = e != null and e.?.leader == host.member and host.member < self.members;
        if (!leads and self.relaxed) return;
        if (leads and limit > from) self.check_need(host, &e.?, limit);
        if (leads and self.relaxed) self.check_contains(host, epoch);
        for (from..limit) |sqn| {
            const t: Truth = .{ .entry = host.log.items[sqn], .epoch = host.epoch_of(sqn) };
            if (sqn < self.truth.items.len) {
                if (!same(&t, &self.truth.items[sqn])) {
                    return self.disagree(host, sqn, "committed");
                }
                continue;
            }
            if (!leads) return self.fail(.durability, "node {d}: {d} committed by no leader " ++
                "(epoch {d})", .{ host.index, sqn, epoch.number });
            self.extend(host, sqn, t, epoch);
            if (self.verdict.violation != null) return;
        }
    }

    fn same(a: *const Truth, b: *const Truth) bool {
        return epochs.eql(a.epoch, b.epoch) and std.meta.eql(a.entry, b.entry);
    }

    /// The rule itself: `need` others of S hold it, in this epoch.
    fn check_need(self: *Model, host: *SimHost, e: *const Established, limit: u64) void {
        var n: u32 = 0;
        for (0..self.members) |m| {
            if (m == host.member or !tree.has(e.quorum.set, @intCast(m))) continue;
            if (self.held_in(m, e.epoch) >= limit) n += 1;
        }
        if (n < e.quorum.need) return self.fail(.durability, "node {d} commits up to {d} in " ++
            "epoch {d}: {d} others of {x} hold it, {d} needed", .{
            host.index, limit, e.epoch.number, n, e.quorum.set, e.quorum.need,
        });
        if (host.durable_next_now() < limit) self.fail(.durability, "node {d} commits up to {d} " ++
            "before its own disk has it ({d})", .{ host.index, limit, host.durable_next_now() });
    }

    fn extend(self: *Model, host: *SimHost, sqn: usize, t: Truth, epoch: Epoch) void {
        if (!self.relaxed) for (self.reigns.items) |r| {
            if (!epochs.less(epoch, r.epoch)) continue;
            if (!lies_in(r.eras, sqn, t.epoch)) return self.fail(.durability, "node {d} commits " ++
                "{d} in epoch {d}, but the leader of {d} does not have it", .{
                host.index, sqn, epoch.number, r.epoch.number,
            });
        };
        if (results_file.is_result(&t.entry)) return self.extend_result(host, sqn, t);
        const stream = &self.senders[t.entry.source - 1];
        if (!self.relaxed and t.entry.msg_no != stream.next and
            !self.may_jump(t.entry.source - 1, stream.next, t.entry.msg_no))
        {
            return self.fail(.order, "sqn {d}: sender {d} goes from {d} to {d}", .{
                sqn, t.entry.source, stream.next, t.entry.msg_no,
            });
        }
        if (t.entry.connection < stream.connection) {
            return self.fail(.session, "sqn {d}: sender {d} goes back to an old connection", .{
                sqn, t.entry.source,
            });
        }
        stream.next = t.entry.msg_no + 1;
        stream.connection = t.entry.connection;
        self.note_truth(sqn, t);
    }

    fn extend_result(self: *Model, host: *const SimHost, sqn: usize, t: Truth) void {
        if (!self.relaxed and t.entry.msg_no != self.next_result) {
            return self.fail(.order, "node {d} commits transaction {d} at {d}, {d} is the next", .{
                host.index, t.entry.msg_no, sqn, self.next_result,
            });
        }
        self.next_result = t.entry.msg_no + 1;
        self.note_truth(sqn, t);
    }

    fn note_truth(self: *Model, sqn: usize, t: Truth) void {
        self.truth.append(self.gpa, t) catch oom();
        for (self.hosts) |other| {
            if (!other.alive or other.handed_count <= sqn) continue;
            const theirs: Truth = .{ .entry = other.log.items[sqn], .epoch = other.epoch_of(sqn) };
            if (!same(&theirs, &t)) other.diverged(sqn);
        }
    }

    /// Whether the entry that `epoch` assigned at `sqn` is in a log of these eras, whose last one
    /// is only begun.
    fn lies_in(eras: []const Era, sqn: u64, epoch: Epoch) bool {
        var i = eras.len;
        while (i > 0) {
            i -= 1;
            if (sqn >= eras[i].first_sqn) return epochs.eql(eras[i].epoch, epoch);
        }
        return false;
    }

    fn disagree(self: *Model, host: *const SimHost, sqn: usize, what: []const u8) void {
        const t = &self.truth.items[sqn];
        const o = &host.log.items[sqn];
        self.fail(.agreement, "node {d} {s} at {d} message {d} of {d} by epoch {d}, the tier " ++
            "{d} of {d} by {d}", .{
            host.index,                what,           sqn,            o.msg_no,       o.source,
            host.epoch_of(sqn).number, t.entry.msg_no, t.entry.source, t.epoch.number,
        });
    }

    // ---- leaders

    /// A leader is about to assign its first sqn of an epoch, or another one.
    pub fn on_assign(self: *Model, host: *SimHost) void {
        const epoch = host.era_list.items[host.era_list.items.len - 1].epoch;
        for (self.reigns.items) |r| {
            if (!epochs.eql(r.epoch, epoch)) continue;
            if (r.node != host.index or r.life != host.life) {
                self.fail(.one_leader, "epoch {d} is led by node {d} and by node {d}", .{
                    epoch.number, r.node, host.index,
                });
            }
            return;
        }
        const e = self.established_in(epoch);
        if (e == null or e.?.leader != host.member) {
            return self.fail(.one_leader, "node {d} assigns in epoch {d}, which is not " ++
                "established", .{ host.index, epoch.number });
        }
        if (!epochs.eql(host.disk.durable.adopted, epoch)) {
            return self.fail(.durability, "node {d} assigns in epoch {d} and has adopted {d}", .{
                host.index, epoch.number, host.disk.durable.adopted.number,
            });
        }
        self.fail(.one_leader, "node {d} assigns in epoch {d}, which another life won", .{
            host.index, epoch.number,
        });
    }

    /// Its log is the tier's from now on.
    fn begin_reign(self: *Model, host: *SimHost, epoch: Epoch) void {
        self.check_contains(host, epoch);
        const eras = self.gpa.alloc(Era, host.era_list.items.len + 1) catch oom();
        @memcpy(eras[0..host.era_list.items.len], host.era_list.items);
        eras[host.era_list.items.len] = .{ .epoch = epoch, .first_sqn = host.log.items.len };
        self.reigns.append(self.gpa, .{
            .epoch = epoch,
            .node = host.index,
            .life = host.life,
            .eras = eras,
        }) catch oom();
    }

    /// What was committed is in the log of who leads.
    fn check_contains(self: *Model, host: *SimHost, epoch: Epoch) void {
        for (self.truth.items, 0..) |*t, sqn| {
            if (sqn < host.log.items.len) {
                const o: Truth = .{ .entry = host.log.items[sqn], .epoch = host.epoch_of(sqn) };
                if (same(&o, t)) continue;
            }
            if (self.relaxed) return self.reset(sqn);
            return self.fail(.durability, "node {d} leads epoch {d} without the committed sqn " ++
                "{d} of epoch {d} (its log ends at {d}, committed are {d})", .{
                host.index,     epoch.number,       sqn,
                t.epoch.number, host.log.items.len, self.truth.items.len,
            });
        }
    }

    /// What was committed from `sqn` on is gone, and may be.
    fn reset(self: *Model, sqn: usize) void {
        self.resets += 1;
        for (self.hosts) |h| {
            if (h.alive and h.handed_count > sqn) h.diverged(sqn);
            h.committed_count = @min(h.committed_count, sqn);
            h.told_count = @min(h.told_count, sqn);
        }
        self.truth.shrinkRetainingCapacity(sqn);
        for (&self.senders) |*x| {
            x.next = 0;
            x.connection = 0;
        }
        self.next_result = 0;
        for (self.truth.items) |t| {
            if (results_file.is_result(&t.entry)) {
                self.next_result = t.entry.msg_no + 1;
                continue;
            }
            self.senders[t.entry.source - 1].next = t.entry.msg_no + 1;
            self.senders[t.entry.source - 1].connection = t.entry.connection;
        }
    }

    /// `master.established` was written.
    pub fn on_establish(self: *Model, host: *SimHost, e: Established) void {
        if (self.established_in(e.epoch)) |old| {
            // The same again: a win whose answer was lost.
            if (!std.meta.eql(old, e)) self.check_change(host, &e);
        } else {
            const d = &host.disk.durable;
            if (!epochs.eql(d.adopted, e.epoch) or !d.is_intact) {
                return self.fail(.durability, "node {d} establishes epoch {d} before it has " ++
                    "adopted it ({d}, intact {})", .{
                    host.index, e.epoch.number, d.adopted.number, d.is_intact,
                });
            }
            self.begin_reign(host, e.epoch);
        }
        self.established.append(self.gpa, e) catch oom();
    }

    /// (S, need) changes only when the new pair holds all that an election could need of it.
    fn check_change(self: *Model, host: *const SimHost, e: *const Established) void {
        var point = host.committed_count;
        for (host.era_list.items) |era| if (epochs.eql(era.epoch, e.epoch)) {
            point = @max(point, era.first_sqn);
        };
        var n: u32 = 0;
        for (0..self.members) |m| {
            if (m == host.member or !tree.has(e.quorum.set, @intCast(m))) continue;
            if (self.held_in(m, e.epoch) >= point) n += 1;
        }
        // With nothing below, nobody need hold anything.
        if (point == 0) return;
        if (n < e.quorum.need) self.fail(.durability, "node {d} changes the pair of epoch " ++
            "{d} to {x}, {d}, but {d} of them hold all below {d}", .{
            host.index, e.epoch.number, e.quorum.set, e.quorum.need, n, point,
        });
    }

    pub fn on_win(self: *Model, epoch: Epoch, member: u32) void {
        self.winners.append(self.gpa, .{ .epoch = epoch, .member = member }) catch oom();
    }

    /// A member's durable numbers are about to change.
    pub fn on_save(self: *Model, host: *const SimHost, new: *const epochs.Durable) void {
        const old = &host.disk.durable;
        if (epochs.less(new.promised, old.promised) or epochs.less(new.promised, new.adopted)) {
            return self.fail(.durability, "node {d} promised {d} and writes {d}, adopted {d}", .{
                host.index,         old.promised.number, new.promised.number,
                new.adopted.number,
            });
        }
        const adopts = !epochs.eql(old.adopted, new.adopted);
        if (adopts and self.established_in(new.adopted) == null) {
            var won = false;
            for (self.winners.items) |w| {
                if (epochs.eql(w.epoch, new.adopted) and w.member == host.member) won = true;
            }
            if (!won) self.fail(.durability, "node {d} adopts epoch {d}, which is not " ++
                "established", .{ host.index, new.adopted.number });
        }
        if (adopts) self.check_prefix(host, new.adopted);
        if (!new.is_intact or old.is_intact or host.member >= self.members) return;
        const had = self.held_in(host.member, new.adopted);
        if (host.durable_next_now() < had) self.fail(.durability, "node {d} counts as intact " ++
            "with {d} sqns, and could have acknowledged {d} in epoch {d}", .{
            host.index, host.durable_next_now(), had, new.adopted.number,
        });
    }

    /// In the life in which it won; the next one may have lost its log.
    fn reigns_now(self: *const Model, host: *const SimHost, epoch: Epoch) bool {
        for (self.reigns.items) |r| {
            if (epochs.eql(r.epoch, epoch)) return r.node == host.index and r.life == host.life;
        }
        return false;
    }

    /// Who adopts an epoch has a prefix of its leader's log.
    fn check_prefix(self: *Model, host: *const SimHost, epoch: Epoch) void {
        const e = self.established_in(epoch) orelse return;
        for (self.hosts) |other| {
            if (!other.alive or other.member != e.leader or other == host) continue;
            if (!epochs.eql(other.disk.durable.adopted, epoch)) continue;
            if (!self.reigns_now(other, epoch)) continue;
            const n = host.log.items.len;
            const is_longer = n > other.log.items.len;
            const differs = !is_longer and n > 0 and
                !epochs.eql(host.epoch_of(n - 1), other.epoch_of(n - 1));
            if (is_longer or differs) self.fail(.durability, "node {d} adopts epoch {d} with " ++
                "{d} sqns that its leader, node {d}, does not have", .{
                host.index, epoch.number, n, other.index,
            });
        }
    }

    pub fn fail(
        self: *Model,
        check: verdict_file.Check,
        comptime format: []const u8,
        args: anytype,
    ) void {
        self.verdict.fail(check, self.now_ns, format, args);
    }
};
