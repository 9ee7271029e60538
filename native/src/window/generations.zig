//! Which start of the context the messages in the arena belong to.
//!
//! A window that is left out of the configuration for a while does not defend its messages in the
//! arena. So each start gives the arena a new random generation, and a window whose nodes belong to
//! another one has lost its messages. Each window holds the old and the new id before the arena
//! gets the new one: a process that dies in between harms nothing.

const std = @import("std");
const layout = @import("node.zig");
const stores = @import("stores.zig");
const mutant = @import("../testing/mutant.zig");

const Cursor = layout.Cursor;
const Generations = layout.Generations;

/// Both readings of the arena's generation; of a new arena, none.
pub fn read(arena: *const Cursor) [2]u64 {
    if (arena.value == 0 and arena.mirror == 0) return .{ 0, 0 };
    return .{ arena.value, ~arena.mirror };
}

/// The nodes of the window belong to what lies in the arena.
pub fn is_trusted(of_window: *const Generations, arena: [2]u64) bool {
    if (mutant.on(.generation_ignored)) return true;
    return is_of(of_window.current, arena) or is_of(of_window.next, arena);
}

fn is_of(generation: u64, arena: [2]u64) bool {
    return generation != 0 and (generation == arena[0] or generation == arena[1]);
}

/// From here on the messages in the arena, of generation `old`, are this process', of generation
/// `new`. `windows`: things with a `window`, all that are open.
pub fn take_over(arena: *Cursor, windows: anytype, old: [2]u64, new: u64) void {
    if (mutant.on(.generation_early)) arena.store(new);
    for (windows) |*item| {
        const generations: *Generations = &item.*.window.page.generations;
        if (is_of(generations.next, old)) {
            stores.release(&generations.current, generations.next);
        } else if (!is_of(generations.current, old)) {
            stores.release(&generations.current, new);
        }
        stores.release(&generations.next, new);
    }
    arena.store(new);
    // From here on one of the two may be damaged.
    for (windows) |*item| stores.release(&item.*.window.page.generations.current, new);
}

const testing = std.testing;

test "a window that is left out once is not trusted again, those that were there are" {
    const Item = struct { window: struct { page: *layout.WindowPage } };
    var pages: [2]layout.WindowPage = @splat(std.mem.zeroes(layout.WindowPage));
    var both: [2]Item = .{
        .{ .window = .{ .page = &pages[0] } },
        .{ .window = .{ .page = &pages[1] } },
    };
    var arena: Cursor = std.mem.zeroes(Cursor);
    try testing.expect(!is_trusted(&pages[0].generations, read(&arena)));
    take_over(&arena, &both, read(&arena), 11);
    take_over(&arena, &both, read(&arena), 12);
    for (&pages) |*page| try testing.expect(is_trusted(&page.generations, read(&arena)));
    take_over(&arena, both[0..1], read(&arena), 13);
    try testing.expect(is_trusted(&pages[0].generations, read(&arena)));
    try testing.expect(!is_trusted(&pages[1].generations, read(&arena)));
    take_over(&arena, &both, read(&arena), 14);
    for (&pages) |*page| try testing.expect(is_trusted(&page.generations, read(&arena)));
}

test "a process that dies while it takes over harms no window that was there" {
    const Item = struct { window: struct { page: *layout.WindowPage } };
    var prng: std.Random.DefaultPrng = .init(9);
    const random = prng.random();
    for (0..500) |_| {
        var pages: [3]layout.WindowPage = @splat(std.mem.zeroes(layout.WindowPage));
        var all: [3]Item = undefined;
        for (&all, &pages) |*item, *page| item.* = .{ .window = .{ .page = page } };
        var arena: Cursor = std.mem.zeroes(Cursor);
        take_over(&arena, &all, read(&arena), 100);
        for (101..106) |new| {
            const open = all[0..random.intRangeAtMost(usize, 2, 3)];
            stores.begin(random.uintLessThan(u64, 9), null);
            take_over(&arena, open, read(&arena), new);
            const died = stores.end(random) == null;
            const trusted = is_trusted(&pages[2].generations, read(&arena));
            for (open[0..2]) |*item| {
                try testing.expect(is_trusted(&item.window.page.generations, read(&arena)));
            }
            if (open.len == 2 and !died) try testing.expect(!trusted);
        }
    }
}
