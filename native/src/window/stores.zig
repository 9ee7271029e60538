//! Every store to memory that outlives the process, or that another process reads.
//!
//! In the library these are stores and nothing else. In the simulator, which may kill a process
//! between any two of them, they are counted while an operation of a doomed process runs. At the
//! last one that is allowed the process is dead; but the code under test can't be left in the
//! middle, so it runs on, and `end` takes back what it stored from there. What the operation
//! returns is to be thrown away with the process.
//!
//! Compilers may swap plain stores up to the next one with release: when the process dies among
//! such, any selection of them may have happened.
//!
//! Other threads go on between the stores of one: before each store with release the simulator may
//! let them act (`Between`).

const std = @import("std");
const builtin = @import("builtin");
const build_options = @import("build_options");
const assert = @import("../assert.zig").assert;

const is_hooked = build_options.mutants or builtin.is_test;

pub inline fn put(at: anytype, value: @TypeOf(at.*)) void {
    if (is_hooked) note(std.mem.asBytes(at), .plain);
    at.* = value;
}

pub inline fn release(at: anytype, value: @TypeOf(at.*)) void {
    if (is_hooked) note(std.mem.asBytes(at), .release);
    @atomicStore(@TypeOf(at.*), at, value, .release);
}

/// To be called before many bytes are stored at once.
pub inline fn will_put(place: []u8) void {
    if (!is_hooked or !is_armed) return;
    // The process may die in the middle.
    const step = std.mem.alignForward(usize, place.len / 4 + 1, 8);
    var at: usize = 0;
    while (at < place.len) : (at += step) note(place[at..@min(at + step, place.len)], .plain);
}

// ---- of the simulator

/// What other threads of the process may do before a store.
pub const Between = struct {
    context: *anyopaque,
    act: *const fn (*anyopaque) void,
};

/// More stores than any operation makes.
pub const never: u64 = std.math.maxInt(u64);

const Order = enum { plain, release };

const Place = struct {
    at: [*]u8,
    bytes: u32,
    /// Where its old bytes begin in `old`.
    old_at: usize,
    /// It may have happened before the process died, or not.
    is_loose: bool,
};

const allocator = std.heap.c_allocator;

var is_armed = false;
var stores_left: u64 = never;
var dead = false;
/// No store with release since the process died.
var is_same_run = false;
var between: ?Between = null;
var places: std.ArrayList(Place) = .empty;
var old: std.ArrayList(u8) = .empty;

/// An operation begins; its process dies instead of making one more than `left` stores.
pub fn begin(left: u64, others: ?Between) void {
    assert(!is_armed and places.items.len == 0);
    is_armed = true;
    dead = false;
    stores_left = left;
    between = others;
}

pub fn is_dead() bool {
    return is_armed and dead;
}

pub fn is_begun() bool {
    return is_armed;
}

/// The operation is over. How many stores the process has left; null: it died, and memory is as it
/// left it.
pub fn end(random: std.Random) ?u64 {
    assert(is_armed);
    is_armed = false;
    defer forget();
    if (!dead) return stores_left;
    while (places.pop()) |place| {
        if (place.is_loose and random.boolean()) continue;
        @memcpy(place.at[0..place.bytes], old.items[place.old_at..][0..place.bytes]);
    }
    return null;
}

inline fn note(place: []u8, order: Order) void {
    if (is_armed) count(place, order);
}

noinline fn count(place: []u8, order: Order) void {
    @branchHint(.cold);
    if (order == .release and !dead) let_others_act();
    if (!dead and stores_left > 0) {
        if (stores_left == never) return;
        stores_left -= 1;
        if (order == .release) forget() else remember(place, true);
        return;
    }
    if (!dead) is_same_run = true;
    dead = true;
    if (order == .release) is_same_run = false;
    remember(place, is_same_run);
}

fn let_others_act() void {
    const others = between orelse return;
    between = null;
    others.act(others.context);
    between = others;
}

fn remember(place: []u8, is_loose: bool) void {
    places.append(allocator, .{
        .at = place.ptr,
        .bytes = @intCast(place.len),
        .old_at = old.items.len,
        .is_loose = is_loose,
    }) catch @panic("out of memory");
    old.appendSlice(allocator, place) catch @panic("out of memory");
}

fn forget() void {
    places.clearRetainingCapacity();
    old.clearRetainingCapacity();
}

// ---- tests

const testing = std.testing;

const TestMemory = struct {
    a: u32 = 0,
    b: u32 = 0,
    tag: u64 = 0,
    text: [20]u8 = @splat('-'),
    last: u64 = 0,

    fn write(self: *TestMemory) void {
        put(&self.a, 1);
        put(&self.b, 2);
        release(&self.tag, 3);
        will_put(&self.text);
        @memset(&self.text, '+');
        release(&self.last, 4);
    }
};

test "a process dies between any two stores, and what came later did not happen" {
    var prng: std.Random.DefaultPrng = .init(5);
    const random = prng.random();
    var halves: u32 = 0;
    var loose: u32 = 0;
    for (0..400) |round| {
        var m: TestMemory = .{};
        const left = round % 9;
        begin(left, null);
        m.write();
        try testing.expectEqual(left < 7, is_dead());
        const rest = end(random);
        if (left >= 7) {
            try testing.expectEqual(left - 7, rest.?);
            try testing.expectEqual(4, m.last);
            continue;
        }
        try testing.expectEqual(null, rest);
        try testing.expectEqual(0, m.last);
        try testing.expectEqual(@as(u64, if (left >= 3) 3 else 0), m.tag);
        if (left >= 3) {
            try testing.expectEqual(1, m.a);
            try testing.expectEqual(2, m.b);
        } else {
            try testing.expect(std.mem.allEqual(u8, &m.text, '-'));
            if (m.a != m.b / 2) loose += 1;
        }
        const plus = std.mem.count(u8, &m.text, "+");
        if (plus > 0 and plus < m.text.len) halves += 1;
    }
    try testing.expect(halves > 10 and loose > 10);
}

test "others act before stores with release, and stores without a doomed process are just made" {
    const Other = struct {
        times: u32 = 0,

        fn act(context: *anyopaque) void {
            const self: *@This() = @ptrCast(@alignCast(context));
            self.times += 1;
            var word: u64 = 0;
            release(&word, 1);
        }
    };
    var prng: std.Random.DefaultPrng = .init(5);
    var other: Other = .{};
    var m: TestMemory = .{};
    begin(never, .{ .context = &other, .act = Other.act });
    m.write();
    try testing.expectEqual(never, end(prng.random()).?);
    try testing.expectEqual(2, other.times);
    try testing.expectEqual(4, m.last);
    m = .{};
    m.write();
    try testing.expectEqual(4, m.last);
    try testing.expectEqual(2, other.times);
}
