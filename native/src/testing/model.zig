//! What the checkers know: everything that a window ever published, and, for each receiver and
//! window, what must come next. No code under test is asked: the model is fed with what producers
//! did and with what receivers delivered and told.

const std = @import("std");
const messages = @import("messages.zig");
const verdict_file = @import("verdict.zig");
const Verdict = verdict_file.Verdict;

/// A window may be wiped so often in a run.
pub const epochs_max = 64;
/// Sessions that a receiver may be about to agree on.
const offers_max = 16;

/// A stretch of numbers between two wipes of the window's files.
pub const Epoch = struct {
    first: u64 = 0,
    /// Number of the next message.
    written: u64 = 0,
    /// Its process died while it published one more: who reads in place may see that.
    has_tail: bool = false,
};

pub const Published = struct {
    seed: u64,
    window: u32,
    sizes: *const messages.Sizes,
    epochs: [epochs_max]Epoch = @splat(.{}),
    epoch: u32 = 0,

    pub fn now(self: *Published) *Epoch {
        return &self.epochs[self.epoch];
    }

    pub fn content(self: *const Published, epoch: u32, number: u64) messages.Content {
        return messages.content(self.seed, self.window, epoch, number, self.sizes);
    }

    /// The first epoch from `from` on under which exactly this was published.
    fn epoch_of(
        self: *const Published,
        from: u32,
        number: u64,
        bytes: []const u8,
        arg: u16,
    ) ?u32 {
        for (from..self.epoch + 1) |i| {
            const e = &self.epochs[i];
            if (number < e.first or number >= e.written + @intFromBool(e.has_tail)) continue;
            const c = self.content(@intCast(i), number);
            if (c.arg != arg or c.length != bytes.len) continue;
            if (std.mem.eql(u8, c.bytes(), bytes)) return @intCast(i);
        }
        return null;
    }
};

pub const Range = struct {
    start: u64,
    /// The last number of it.
    end: u64,
};

/// Where a true sender said that a receiver begins.
const Offer = struct { connection: u64, start: u64 };

/// One stream at one receiver, in one life of the receiver.
pub const StreamCheck = struct {
    has_position: bool = false,
    next: u64 = 0,
    epoch: u32 = 0,
    connection: u64 = 0,
    delivered: u64 = 0,
    lost: u64 = 0,
    /// Told, and not yet passed by delivery.
    losses: std.ArrayList(Range) = .empty,
    /// The end of the last loss told.
    lost_end: u64 = 0,
    /// One past the last message that was delivered.
    delivered_end: u64 = 0,
    offers: [offers_max]Offer = undefined,
    offer_count: u32 = 0,
    gap_told_ns: u64 = 0,
    /// HEARTBEAT_TIMEOUT was told since the session was agreed.
    is_silent: bool = false,

    pub fn reset(self: *StreamCheck) void {
        self.losses.clearRetainingCapacity();
        const losses = self.losses;
        self.* = .{ .losses = losses };
    }

    /// A receiver with a record starts again: all below `recorded` comes from there, or came. What
    /// was told as lost beyond is told again.
    pub fn begin_life(self: *StreamCheck, recorded: u64) void {
        self.next = @min(self.next, recorded);
        self.delivered_end = @min(self.delivered_end, recorded);
        self.has_position = true;
        self.lost_end = recorded;
        self.offer_count = 0;
        self.gap_told_ns = 0;
        self.is_silent = false;
        while (self.losses.items.len > 0) {
            if (self.losses.items[self.losses.items.len - 1].start < recorded) break;
            _ = self.losses.pop();
        }
    }

    pub fn deinit(self: *StreamCheck, gpa: std.mem.Allocator) void {
        self.losses.deinit(gpa);
    }

    /// The sender told the receiver where it begins or goes on.
    pub fn offer(self: *StreamCheck, connection: u64, start: u64) void {
        const at = self.offer_count % offers_max;
        self.offers[at] = .{ .connection = connection, .start = start };
        self.offer_count += 1;
    }

    fn is_offered(self: *const StreamCheck, connection_low: u32, start: ?u64) bool {
        for (self.offers[0..@min(self.offer_count, offers_max)]) |o| {
            if (@as(u32, @truncate(o.connection)) != connection_low) continue;
            if (start == null or o.start == start.?) return true;
        }
        return false;
    }

    /// The receiver says that it has agreed on a session.
    pub fn agreed(
        self: *StreamCheck,
        verdict: *Verdict,
        now_ns: u64,
        connection_low: u32,
        to: u64,
    ) void {
        if (!self.is_offered(connection_low, null)) {
            return verdict.fail(.session, now_ns, "a session with connection ..{x} was agreed " ++
                "on that the sender did not confirm", .{connection_low});
        }
        self.is_silent = false;
        if (self.has_position) return;
        if (!self.is_offered(connection_low, to)) {
            return verdict.fail(.join_at, now_ns, "a receiver without a position begins at {d}, " ++
                "which the sender did not say", .{to});
        }
        self.has_position = true;
        self.next = to;
        self.lost_end = to;
    }

    /// A message on its first delivery.
    pub fn deliver(
        self: *StreamCheck,
        verdict: *Verdict,
        now_ns: u64,
        published: *const Published,
        number: u64,
        bytes: []const u8,
        arg: u16,
    ) void {
        if (!self.has_position) {
            return verdict.fail(.session, now_ns, "message {d} without a session", .{number});
        }
        self.pass_losses();
        if (number != self.next) {
            const check: verdict_file.Check = if (number < self.next)
                .at_most_once
            else if (number > self.next and self.losses.items.len == 0)
                .honesty
            else
                .order;
            return verdict.fail(check, now_ns, "window {d}: message {d} is delivered, {d} was " ++
                "to come; {d} losses told", .{
                published.window,      number, self.next,
                self.losses.items.len,
            });
        }
        const epoch = published.epoch_of(self.epoch, number, bytes, arg) orelse {
            return verdict.fail(.integrity, now_ns, "window {d}: message {d} with {d} bytes and " ++
                "argument {d} was never sent so", .{ published.window, number, bytes.len, arg });
        };
        self.epoch = epoch;
        self.next = number + 1;
        self.delivered_end = self.next;
        self.delivered += 1;
    }

    fn pass_losses(self: *StreamCheck) void {
        var passed: usize = 0;
        for (self.losses.items) |r| {
            if (r.start != self.next) break;
            self.next = r.end + 1;
            passed += 1;
        }
        if (passed == 0) return;
        const left = self.losses.items[passed..];
        std.mem.copyForwards(Range, self.losses.items, left);
        self.losses.shrinkRetainingCapacity(left.len);
    }

    /// MESSAGE_LOSS.
    pub fn lose(
        self: *StreamCheck,
        gpa: std.mem.Allocator,
        verdict: *Verdict,
        now_ns: u64,
        r: Range,
    ) void {
        if (!self.has_position or r.start > r.end or r.start < @max(self.next, self.lost_end)) {
            return verdict.fail(.honesty, now_ns, "MESSAGE_LOSS {d}..{d} after all below {d} " ++
                "was delivered or told", .{ r.start, r.end, @max(self.next, self.lost_end) });
        }
        self.lost_end = r.end + 1;
        self.lost += r.end + 1 - r.start;
        self.losses.append(gpa, r) catch @panic("out of memory");
    }

    /// Everything below this was delivered or told as lost.
    pub fn position(self: *StreamCheck) u64 {
        self.pass_losses();
        return self.next;
    }
};

const testing = std.testing;

const Fixture = struct {
    published: Published,
    verdict: Verdict = .{},
    check: StreamCheck = .{},

    const sizes: messages.Sizes = .{
        .max = 100,
        .message_bytes = 500,
        .fragment_bytes = 490,
        .large_ppm = 0,
        .edge_ppm = 0,
        .usual_max = 100,
    };

    fn init() Fixture {
        messages.prepare();
        var self: Fixture = .{ .published = .{ .seed = 3, .window = 1, .sizes = &sizes } };
        self.published.now().written = 100;
        self.check.offer(77, 5);
        self.check.agreed(&self.verdict, 0, 77, 5);
        return self;
    }

    fn deliver(self: *Fixture, number: u64) void {
        const c = self.published.content(0, number);
        self.check.deliver(&self.verdict, 0, &self.published, number, c.bytes(), c.arg);
    }

    fn expect(self: *Fixture, check: ?verdict_file.Check) !void {
        defer self.check.deinit(testing.allocator);
        if (check) |c| {
            try testing.expectEqual(c, self.verdict.violation.?.check);
        } else try testing.expectEqual(null, self.verdict.violation);
    }
};

test "what comes in order is fine, also behind a loss that was told" {
    var f: Fixture = .init();
    for (5..9) |n| f.deliver(n);
    f.check.lose(testing.allocator, &f.verdict, 0, .{ .start = 9, .end = 11 });
    f.check.lose(testing.allocator, &f.verdict, 0, .{ .start = 12, .end = 12 });
    f.deliver(13);
    try testing.expectEqual(14, f.check.position());
    try f.expect(null);
}

test "a message twice, out of order, or behind an untold gap is seen" {
    var twice: Fixture = .init();
    twice.deliver(5);
    twice.deliver(5);
    try twice.expect(.at_most_once);
    var gap: Fixture = .init();
    gap.deliver(6);
    try gap.expect(.honesty);
    var short: Fixture = .init();
    short.check.lose(testing.allocator, &short.verdict, 0, .{ .start = 5, .end = 6 });
    short.deliver(8);
    try short.expect(.honesty);
    var long: Fixture = .init();
    long.check.lose(testing.allocator, &long.verdict, 0, .{ .start = 5, .end = 6 });
    long.deliver(6);
    try long.expect(.at_most_once);
    var again: Fixture = .init();
    again.deliver(5);
    again.check.lose(testing.allocator, &again.verdict, 0, .{ .start = 5, .end = 6 });
    try again.expect(.honesty);
}

test "other bytes, another argument, and what was not published yet are seen" {
    var f: Fixture = .init();
    const c = f.published.content(0, 5);
    f.check.deliver(&f.verdict, 0, &f.published, 5, c.bytes(), c.arg +% 1);
    try f.expect(.integrity);
    var g: Fixture = .init();
    g.published.now().written = 5;
    g.deliver(5);
    try g.expect(.integrity);
}

test "a session needs the sender's word, and a beginning too" {
    var f: Fixture = .init();
    f.check.agreed(&f.verdict, 0, 78, 5);
    try f.expect(.session);
    var g: Fixture = .init();
    g.check.reset();
    g.check.offer(77, 5);
    g.check.agreed(&g.verdict, 0, 77, 6);
    try g.expect(.join_at);
}
