//! What happened at the arbitration, on its way to JavaScript: answers, watches, states of the
//! session, copied here by whichever thread met them and taken by one JavaScript thread.
//!
//! The control plane: some events a second, so each is memory of its own behind a lock. Several
//! threads put (the client's, the keeper's, the closing one). There are never more answers than
//! requests, nor watches than JavaScript has set.

const std = @import("std");
const linux = std.os.linux;
const assert = @import("../assert.zig").assert;
const abi = @import("../abi.zig");
const waker = @import("../agent/waker.zig");
const Token = @import("../agent/token.zig").Token;

const gpa = std.heap.c_allocator;
pub const Event = abi.ArbiterEvent;

const Entry = struct {
    next: ?*Entry = null,
    header: Event,
    data: []const u8,

    fn free(self: *Entry) void {
        gpa.free(self.data);
        gpa.destroy(self);
    }
};

pub const Events = struct {
    lock: Token = .{},
    first: ?*Entry = null,
    last: ?*Entry = null,
    /// Counted up by each event; the word of a futex, for who waits without an event loop.
    count: std.atomic.Value(u32) = .init(0),
    armed: waker.Armed = .{},
    wakers: *waker.WakerTable,
    /// Below 0: nobody is woken.
    waker_id: i32,

    /// Copies `data`. Without memory the event is lost, and `header.code` of a later one tells.
    pub fn put(self: *Events, header: Event, data: []const u8) void {
        const copy = gpa.dupe(u8, data) catch return;
        const entry = gpa.create(Entry) catch return gpa.free(copy);
        entry.* = .{ .header = header, .data = copy };
        const padded = std.mem.alignForward(usize, data.len, 8);
        entry.header.bytes = @intCast(@sizeOf(Event) + padded);
        entry.header.data_len = @intCast(data.len);
        {
            self.lock.take();
            defer self.lock.give();
            if (self.last) |last| last.next = entry else self.first = entry;
            self.last = entry;
        }
        _ = self.count.fetchAdd(1, .release);
        _ = linux.futex_3arg(&self.count.raw, .{ .cmd = .WAKE, .private = true }, 1);
        if (self.waker_id >= 0) self.armed.notify(self.wakers, @intCast(self.waker_id));
    }

    /// The oldest event into `buffer`. 0: there is none. More than the buffer has: so many bytes it
    /// needs, and it stays.
    pub fn take(self: *Events, buffer: []u8) u32 {
        self.lock.take();
        const entry = self.first orelse {
            self.lock.give();
            return 0;
        };
        const bytes = entry.header.bytes;
        if (bytes > buffer.len) {
            self.lock.give();
            return bytes;
        }
        self.first = entry.next;
        if (entry.next == null) self.last = null;
        self.lock.give();
        defer entry.free();
        @memcpy(buffer[0..@sizeOf(Event)], std.mem.asBytes(&entry.header));
        @memcpy(buffer[@sizeOf(Event)..][0..entry.data.len], entry.data);
        return bytes;
    }

    pub fn is_empty(self: *Events) bool {
        self.lock.take();
        defer self.lock.give();
        return self.first == null;
    }

    /// JavaScript is about to sleep. True: it need not, something waits.
    pub fn arm(self: *Events) bool {
        self.armed.arm();
        if (self.is_empty()) return false;
        _ = self.armed.disarm();
        return true;
    }

    /// Blocks until an event waits, or so long. True: one does.
    pub fn wait(self: *Events, timeout_ms: u32) bool {
        const count = self.count.load(.acquire);
        if (!self.is_empty()) return true;
        const timeout: linux.timespec = .{
            .sec = timeout_ms / 1000,
            .nsec = @as(isize, timeout_ms % 1000) * std.time.ns_per_ms,
        };
        _ = linux.futex_4arg(&self.count.raw, .{ .cmd = .WAIT, .private = true }, count, &timeout);
        return !self.is_empty();
    }

    pub fn clear(self: *Events) void {
        self.lock.take();
        defer self.lock.give();
        while (self.first) |entry| {
            self.first = entry.next;
            entry.free();
        }
        self.last = null;
    }
};

test "events come in order, whole, and a small buffer is told how large it has to be" {
    var wakers: waker.WakerTable = .{};
    var events: Events = .{ .wakers = &wakers, .waker_id = -1 };
    var buffer: [128]u8 = undefined;
    try std.testing.expectEqual(@as(u32, 0), events.take(&buffer));
    try std.testing.expect(!events.wait(0));
    events.put(.{ .kind = 1, .id = 7 }, "abc");
    events.put(.{ .kind = 2, .id = 8 }, &@as([100]u8, @splat('x')));
    try std.testing.expect(events.wait(0) and events.arm());
    try std.testing.expectEqual(@as(u32, @sizeOf(Event) + 8), events.take(&buffer));
    const header = std.mem.bytesToValue(Event, buffer[0..@sizeOf(Event)]);
    try std.testing.expectEqual(@as(u32, 7), header.id);
    try std.testing.expectEqualStrings("abc", buffer[@sizeOf(Event)..][0..header.data_len]);
    const needed = events.take(&buffer);
    try std.testing.expectEqual(@as(u32, @sizeOf(Event) + 104), needed);
    try std.testing.expectEqual(needed, events.take(&buffer));
    events.clear();
    try std.testing.expectEqual(@as(u32, 0), events.take(&buffer));
    assert(events.is_empty());
}
