//! Who gives way when the receive memory is full. Part of `receiver.zig`.
//!
//! Memory that holds ordered messages comes back by itself, when the program takes them. Two kinds
//! do not: early datagrams, and memory reserved for messages in assembly. A message that waits for
//! room (in one piece, if it is large) could wait for ever behind them:
//!   * early datagrams, also its own, lie in the way. They are dropped and asked for again;
//!   * other messages in assembly do, and wait themselves, because their senders' windows are held
//!     by receivers at which it is the other way round. What breaks such a circle is an order that
//!     is the same everywhere: the lower stream key goes first, and a message of a higher one that
//!     did not grow for `memory_stall_ns` is given up and asked for again.
//! While room is made for one stream, the others take none of it (`Shared.favoured`).

const limits = @import("limits.zig");
const mutant = @import("../testing/mutant.zig");
const stream_file = @import("stream.zig");
const Receiver = @import("receiver.zig").Receiver;
const Stream = stream_file.Stream;
const Shared = stream_file.Shared;

/// It was refused room; or asks for nothing because so little is left, and no program that takes
/// messages will bring more.
fn waits(shared: *Shared, s: *const Stream) bool {
    if (s.phase != .started) return false;
    return s.no_memory or is_drained(shared) and s.is_behind() and s.withheld(shared);
}

/// Nothing lies in the log that would come back by itself.
fn is_drained(shared: *const Shared) bool {
    return shared.log.processed_next() == shared.log.next();
}

/// Somebody waits for room, or is favoured: `find` has something to do.
pub fn is_wanted(self: *Receiver) bool {
    for (self.lanes) |*shared| if (shared.favoured != null) return true;
    for (self.active()) |*s| if (waits(self.shared_of(s), s)) return true;
    return false;
}

/// Lets those go on for whom there is room again, and makes room for the first of the others.
pub fn find(self: *Receiver, now_ns: u64) void {
    if (mutant.on(.room_never_made)) return;
    for (self.lanes) |*shared| find_in(self, now_ns, shared);
}

fn find_in(self: *Receiver, now_ns: u64, shared: *Shared) void {
    // In a tier each stream has its own room, and waits for nothing of another.
    if (shared.stage != null) return go_on(self, now_ns, shared);
    if (shared.favoured) |id| {
        if (!waits(shared, &self.streams[id])) shared.favoured = null;
    }
    go_on(self, now_ns, shared);
    const s = first_waiting(self, shared) orelse return;
    if (s.starved_since_ns == 0) s.starved_since_ns = now_ns;
    const is_stalled = now_ns >= s.starved_since_ns + limits.memory_stall_ns;
    var dropped = if (is_stalled) drop_stalled(self, now_ns, s) else false;
    // Without early datagrams it might fit.
    const may_fit = !s.no_memory or s.wanted_bytes <= shared.free_of_extents();
    const is_time = is_stalled or is_drained(shared);
    if (is_time and may_fit and drop_held(self, now_ns, shared)) dropped = true;
    if (!dropped) return;
    shared.favoured = s.id;
    go_on(self, now_ns, shared);
}

fn go_on(self: *Receiver, now_ns: u64, shared: *Shared) void {
    for (self.active()) |*s| {
        if (self.shared_of(s) != shared) continue;
        if (!s.no_memory or s.phase != .started) continue;
        if (shared.favoured) |id| if (id != s.id) continue;
        if (!s.would_fit(shared)) continue;
        s.no_memory = false;
        s.ack_now = true;
        self.watch(now_ns, s);
    }
    shared.log.publish();
}

fn first_waiting(self: *Receiver, shared: *Shared) ?*Stream {
    var first: ?*Stream = null;
    for (self.active()) |*s| {
        if (self.shared_of(s) != shared or !waits(shared, s)) continue;
        if (first == null or s.key.less(first.?.key)) first = s;
    }
    return first;
}

/// Drops all early datagrams. True when there were some.
fn drop_held(self: *Receiver, now_ns: u64, shared: *Shared) bool {
    var any = false;
    for (self.active()) |*s| {
        if (self.shared_of(s) != shared or s.detector.count == 0) continue;
        any = true;
        s.detector.clear(shared.holding);
        if (s.phase == .started) self.watch(now_ns, s);
    }
    return any;
}

/// Gives up messages in assembly that do not grow and have to stand back. True when there was one.
fn drop_stalled(self: *Receiver, now_ns: u64, favoured: *const Stream) bool {
    const shared = self.shared_of(favoured);
    var any = false;
    for (self.active()) |*s| {
        if (self.shared_of(s) != shared) continue;
        if (s.extent == null or !favoured.key.less(s.key)) continue;
        if (now_ns < s.moved_ns + limits.memory_stall_ns) continue;
        any = true;
        s.let_go(shared);
        if (s.phase == .started) self.watch(now_ns, s);
    }
    return any;
}
