//! A tier for tests and fuzzers: three members over a perfect network and a perfect arbiter, with
//! logs and stages in memory. What goes wrong is up to who uses it.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const epochs = @import("epoch.zig");
const tree = @import("tree.zig");
const member = @import("member.zig");
const seal = @import("../wire/seal.zig");
const Address = @import("../transport/address.zig").Address;
const Notices = @import("../session/notices.zig").Notices;
const StreamEntry = @import("../order/record_file.zig").StreamEntry;
const Entry = @import("entry.zig").Entry;

const ms = std.time.ns_per_ms;

/// A log and a stage in memory; every message has eight bytes.
pub const TestHost = struct {
    gpa: std.mem.Allocator,
    log: std.ArrayList(Entry) = .empty,
    era_list: std.ArrayList(epochs.Era) = .empty,
    staged: std.ArrayList(u64) = .empty,
    durable: epochs.Durable = .{},
    shown: u64 = 0,
    committed_sqn: u64 = 0,

    pub fn deinit(h: *TestHost) void {
        h.log.deinit(h.gpa);
        h.era_list.deinit(h.gpa);
        h.staged.deinit(h.gpa);
    }
    pub fn next(h: *const TestHost) u64 {
        return h.log.items.len;
    }
    pub fn eras(h: *const TestHost) []const epochs.Era {
        return h.era_list.items;
    }
    pub fn begin_era(h: *TestHost, e: epochs.Epoch) void {
        if (h.era_list.getLastOrNull()) |last| {
            if (epochs.eql(last.epoch, e)) return;
            if (last.first_sqn == h.next()) _ = h.era_list.pop();
        }
        const era: epochs.Era = .{ .epoch = e, .first_sqn = h.next() };
        h.era_list.append(h.gpa, era) catch @panic("out of memory");
    }
    pub fn last_no(h: *const TestHost) ?u64 {
        return if (h.log.items.len == 0) null else h.log.items[h.log.items.len - 1].msg_no;
    }
    pub fn entry_of(no: u64, wall_ms: u64) Entry {
        return .{
            .connection = 5,
            .msg_no = no,
            .time_ms = wall_ms,
            .length = 8,
            .source = 9,
            .transport = 1,
            .tx_arg = 0,
            .msg_arg = 0,
            .is_tier = 0,
        };
    }
    pub fn append_staged(h: *TestHost, e: *const Entry) enum { ok, missing, gone, no_memory } {
        if (std.mem.indexOfScalar(u64, h.staged.items, e.msg_no) == null) return .missing;
        if (e.length != 8) return .gone;
        h.log.append(h.gpa, e.*) catch return .no_memory;
        return .ok;
    }
    pub fn append_fill(
        h: *TestHost,
        e: *const Entry,
        offset: u32,
        bytes: []const u8,
    ) enum { more, ok, no_memory, bad } {
        if (offset != 0 or bytes.len != 8 or e.length != 8) return .bad;
        if (std.mem.readInt(u64, bytes[0..8], .little) != e.msg_no) return .bad;
        h.log.append(h.gpa, e.*) catch return .no_memory;
        return .ok;
    }
    pub fn order(h: *TestHost, wall_ms: u64, max: u32) u32 {
        var count: u32 = 0;
        while (count < max) : (count += 1) {
            const no = if (h.last_no()) |last| last + 1 else 0;
            if (std.mem.indexOfScalar(u64, h.staged.items, no) == null) return count;
            h.log.append(h.gpa, entry_of(no, wall_ms)) catch return count;
        }
        return count;
    }
    pub fn entry_at(h: *const TestHost, sqn: u64) Entry {
        return h.log.items[sqn];
    }
    pub fn read(h: *const TestHost, sqn: u64, offset: u32, buffer: []u8) u32 {
        var bytes: [8]u8 = undefined;
        std.mem.writeInt(u64, &bytes, h.log.items[sqn].msg_no, .little);
        const n = @min(buffer.len, 8 - offset);
        @memcpy(buffer[0..n], bytes[offset..][0..n]);
        return @intCast(n);
    }
    pub fn truncate(h: *TestHost, sqn: u64) enum { done, busy, delivered } {
        if (sqn < h.shown) return .delivered;
        h.log.shrinkRetainingCapacity(sqn);
        while (h.era_list.getLastOrNull()) |last| {
            if (last.first_sqn < sqn) break;
            _ = h.era_list.pop();
        }
        return .done;
    }
    pub fn handed(h: *const TestHost) u64 {
        return h.shown;
    }
    pub fn show(h: *TestHost, limit: u64) void {
        h.shown = limit;
    }
    pub fn committed(h: *TestHost, limit: u64) void {
        h.committed_sqn = limit;
    }
    pub fn retire_stage(_: *TestHost) void {}
    pub fn pushes(_: *const TestHost) bool {
        return false;
    }
    pub fn stage_result(_: *TestHost, _: *const Entry, _: []const u8) void {}
    pub fn knows_stream(_: *TestHost, _: *const Entry) bool {
        return true;
    }
    pub fn describe(_: *TestHost, _: *const Entry, _: *StreamEntry) void {}
    pub fn learn(_: *TestHost, _: *const StreamEntry) void {}
    pub fn tx_acked(_: *TestHost, _: []const wire.TxPosition) void {}
    pub fn save(h: *TestHost, d: epochs.Durable) bool {
        h.durable = d;
        return true;
    }
    pub fn force(_: *TestHost) bool {
        return true;
    }
    pub fn durable_next(h: *const TestHost) u64 {
        return h.next();
    }
};

pub const Member = member.Member(TestHost);
pub const member_count = 3;

/// Three members, and the tree as an arbiter would keep it.
pub const Tier = struct {
    now_ns: u64 = ms,
    hosts: [member_count]TestHost,
    notices: [member_count]Notices = @splat(.{}),
    members: [member_count]Member,
    alive: [member_count]bool = @splat(false),
    view: tree.View = .{
        .serial = 1,
        .session = .connected,
        .master_version = 0,
        .candidate = tree.nobody,
        .epoch = .{},
        .established_epoch = .{},
        .established_leader = tree.nobody,
        .running = tree.nobody,
        .established = .{},
        .present = 0,
        .forced = tree.nobody,
    },
    image: [2048]u8 align(8) = undefined,
    /// Datagrams of the last step.
    sent_in_step: u64 = 0,
    /// How long every datagram takes; 0: none.
    delay_ns: u64 = 0,
    /// One of so many FILL datagrams is lost; 0: none. Only where nothing is sealed.
    fill_lost_of: u32 = 0,
    fills: u32 = 0,
    under_way: std.ArrayList(*UnderWay) = .empty,

    const UnderWay = struct {
        at_ns: u64,
        from: usize,
        to: usize,
        length: u32,
        bytes: [1472]u8 align(8),
    };

    pub const names = [member_count]member.MemberOptions{
        .{ .id = 11, .name = "a" },
        .{ .id = 12, .name = "b" },
        .{ .id = 13, .name = "c" },
    };

    pub fn make(gpa: std.mem.Allocator, ack_count: i32) !*Tier {
        return make_keyed(gpa, ack_count, @splat(null));
    }

    pub const Keys = [member_count]?seal.GroupKey;

    pub fn make_keyed(gpa: std.mem.Allocator, ack_count: i32, keys: Keys) !*Tier {
        return make_with(gpa, .{ .ack_count = ack_count, .keys = keys });
    }

    pub const Make = struct {
        ack_count: i32 = 1,
        keys: Keys = @splat(null),
        cluster: u16 = 0,
        is_batched: bool = false,
        send_window: u32 = 256,
        sync_max_diff: u64 = 10,
        policy: member.Policy = .safe,
        /// The last one follows only.
        has_observer: bool = false,
    };

    pub fn make_with(gpa: std.mem.Allocator, o: Make) !*Tier {
        const t = try gpa.create(Tier);
        t.* = .{ .hosts = @splat(.{ .gpa = gpa }), .members = undefined };
        const voters = member_count - @as(usize, @intFromBool(o.has_observer));
        for (0..member_count) |i| t.members[i] = try .init(gpa, .{
            .cluster = o.cluster,
            .members = names[0..voters],
            .self = if (i < voters) @intCast(i) else null,
            .id = names[i].id,
            .ack_count = o.ack_count,
            .use_committed = false,
            .is_batched = o.is_batched,
            .sync_max_diff = o.sync_max_diff,
            .send_window = o.send_window,
            .heartbeat_interval_ns = 1000 * ms,
            .heartbeat_timeout_ns = 3000 * ms,
            .ack_interval_ns = 1000 * ms,
            .ack_timeout_ns = 3000 * ms,
            .start_timeout_ns = 5000 * ms,
            .session_timeout_ns = 2000 * ms,
            .policy = o.policy,
            .config_hash = 77,
            .datagram_bytes = 1472,
            .group_key = o.keys[i],
            .seed = i + 1,
        }, &t.hosts[i], &t.notices[i]);
        return t;
    }

    pub fn free(t: *Tier, gpa: std.mem.Allocator) void {
        for (&t.members) |*m| m.deinit(gpa);
        for (t.under_way.items) |x| gpa.destroy(x);
        t.under_way.deinit(gpa);
        for (&t.hosts) |*h| h.deinit();
        gpa.destroy(t);
    }

    pub fn start(t: *Tier, i: usize) void {
        t.alive[i] = true;
        t.members[i].start(t.now_ns, t.hosts[i].durable, 1000 + i);
        if (!t.members[i].is_observer()) t.view.present |= tree.set_of(@intCast(i));
        t.changed();
    }

    pub fn kill(t: *Tier, i: usize) void {
        t.alive[i] = false;
        t.view.present &= ~tree.set_of(@intCast(i));
        if (t.view.running == i) t.view.running = tree.nobody;
        t.changed();
    }

    pub fn changed(t: *Tier) void {
        t.view.serial += 1;
        for (&t.members, t.alive) |*m, alive| if (alive) m.on_view(t.now_ns, &t.view);
    }

    pub fn carry_out(t: *Tier, i: usize, c: tree.Command) void {
        const v = &t.view;
        var outcome: tree.Outcome = .refused;
        switch (c.kind) {
            .none => unreachable,
            .campaign => if (v.master_version == c.version and v.running == tree.nobody) {
                v.candidate = @intCast(i);
                v.epoch = c.epoch;
                v.running = @intCast(i);
                v.master_version += 1;
                outcome = .done;
            },
            .establish => if (v.master_version == c.version) {
                v.established_epoch = c.epoch;
                v.established_leader = c.leader;
                v.established = c.quorum;
                v.forced = tree.nobody;
                v.master_version += 1;
                outcome = .done;
            },
            .read => outcome = .done,
            .resign => if (v.running == i) {
                v.running = tree.nobody;
                outcome = .done;
            },
        }
        const answer: tree.Answer = .{
            .serial = c.serial,
            .outcome = outcome,
            .version = v.master_version,
        };
        t.members[i].on_answer(t.now_ns, &answer);
        t.changed();
    }

    pub fn address(i: usize) Address {
        return .init(@intCast(i + 1), 4000);
    }

    pub fn step(t: *Tier) void {
        t.now_ns += ms / 10;
        t.sent_in_step = 0;
        for (0..member_count) |i| {
            if (!t.alive[i]) continue;
            const m = &t.members[i];
            m.tick(t.now_ns, t.now_ns / ms, t.now_ns + 1000 * ms);
            if (m.command()) |c| t.carry_out(i, c);
            while (m.poll_send(t.now_ns, t.image[0..1472])) |send| {
                t.sent_in_step += 1;
                const bytes = t.image[0..m.finish(t.image[0..1472], send.bytes)];
                for (0..member_count) |j| {
                    if (!t.alive[j] or j == i) continue;
                    if (send.to) |to| if (!to.eql(address(j))) continue;
                    t.carry(i, j, bytes);
                }
            }
        }
        t.arrive();
    }

    fn carry(t: *Tier, from: usize, to: usize, bytes: []align(8) const u8) void {
        const h: *const frame.Header = @ptrCast(bytes.ptr);
        if (h.type == @backingInt(wire.Type.fill)) {
            t.fills += 1;
            if (t.fill_lost_of > 0 and t.fills % t.fill_lost_of == 0) return;
        }
        if (t.delay_ns == 0) {
            var copy: [2048]u8 align(8) = undefined;
            @memcpy(copy[0..bytes.len], bytes);
            return t.members[to].on_datagram(t.now_ns, address(from), copy[0..bytes.len]);
        }
        const gpa = t.hosts[0].gpa;
        const x = gpa.create(UnderWay) catch @panic("out of memory");
        x.* = .{
            .at_ns = t.now_ns + t.delay_ns,
            .from = from,
            .to = to,
            .length = @intCast(bytes.len),
            .bytes = undefined,
        };
        @memcpy(x.bytes[0..bytes.len], bytes);
        t.under_way.append(gpa, x) catch @panic("out of memory");
    }

    /// All take the same time: what was sent first comes first.
    fn arrive(t: *Tier) void {
        var n: usize = 0;
        for (t.under_way.items) |x| {
            if (x.at_ns > t.now_ns) break;
            n += 1;
            if (t.alive[x.to]) {
                t.members[x.to].on_datagram(t.now_ns, address(x.from), x.bytes[0..x.length]);
            }
            t.hosts[0].gpa.destroy(x);
        }
        t.under_way.replaceRangeAssumeCapacity(0, n, &.{});
    }

    pub fn run_until(t: *Tier, comptime holds: fn (*Tier) bool) !void {
        for (0..200_000) |_| {
            if (holds(t)) return;
            t.step();
        }
        return error.NeverHeld;
    }

    pub fn leads(t: *Tier) ?usize {
        for (&t.members, t.alive, 0..) |*m, alive, i| {
            if (alive and m.phase == .leading) return i;
        }
        return null;
    }

    pub fn is_active(t: *Tier) bool {
        const l = t.leads() orelse return false;
        return t.members[l].role() == .active;
    }

    pub fn is_first_single(t: *Tier) bool {
        return t.members[0].role() == .single;
    }

    pub fn has_two_followers(t: *Tier) bool {
        const l = t.leads() orelse return false;
        var followers: u32 = 0;
        for (&t.members) |*m| if (m.role() == .inactive) {
            followers += 1;
        };
        return t.members[l].role() == .active and followers == 2;
    }

    pub fn has_all(t: *Tier) bool {
        const l = t.leads() orelse return false;
        for (&t.hosts, t.alive) |*h, alive| {
            if (alive and h.next() != t.hosts[l].staged.items.len) return false;
        }
        return t.hosts[l].committed_sqn == t.hosts[l].next();
    }

    pub fn stage_everywhere(t: *Tier, from: u64, to: u64, without: ?usize) void {
        for (&t.hosts, 0..) |*h, i| {
            if (without == i) continue;
            for (from..to) |no| h.staged.append(h.gpa, no) catch @panic("out of memory");
        }
    }

    /// The logs of all that live are one.
    pub fn agree(t: *Tier) bool {
        for (&t.hosts, t.alive) |*a, alive| {
            if (!alive) continue;
            for (&t.hosts, t.alive) |*b, other| {
                if (!other) continue;
                const common = @min(a.log.items.len, b.log.items.len);
                for (a.log.items[0..common], b.log.items[0..common]) |*x, *y| {
                    if (!std.meta.eql(x.*, y.*)) return false;
                }
            }
        }
        return true;
    }
};
