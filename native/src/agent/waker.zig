//! Wakes JavaScript's event loop from any thread: a byte into a unix socket that `node:net` reads.
//!
//! A waker belongs to a JavaScript thread; several contexts may share it. Each context has an
//! `Armed` of its own, so that a batch costs one wake-up and a busy JavaScript none:
//!
//!     JavaScript                                data plane
//!     1. drains until nothing is left           1. publishes work (release)
//!     2. arm(): armed = 1                       2. notify(): armed 1 -> 0, and only
//!     3. looks for work once more:                 who changed it writes the byte
//!        found -> disarm(), back to 1
//!     4. returns to the event loop
//!     5. a byte came -> back to 1
//!
//! No wake-up is lost: `arm` stores and `notify` reads with a full barrier between publishing (or
//! looking) and the flag, so in any order of the two sides either step 3 sees the work or `notify`
//! sees the flag. At most one byte for each context is under way; the reader discards what it
//! reads. JavaScript may be woken once too often, after a `disarm` that came too late.

const std = @import("std");
const linux = std.os.linux;
const failure_module = @import("../transport/failure.zig");
const barrier = @import("barrier.zig");

pub const Failure = failure_module.Failure;
const errno_of = failure_module.errno_of;
const assert = @import("../assert.zig").assert;

/// Wakers open at a time, one for each JavaScript thread of the process that uses contexts.
pub const wakers_max = 64;

/// Longest path of a unix socket.
pub const path_bytes_max = 107;

pub const OpenError = error{
    /// All `wakers_max` are in use.
    TooMany,
    /// The path is empty or too long.
    BadPath,
    /// The kernel refused to connect (nobody listens at the path).
    Refused,
};

/// The process' wakers. All functions may be called from any thread.
pub const WakerTable = struct {
    slots: [wakers_max]Slot = @splat(.{}),

    /// Connects to the unix stream socket at `path`. The result is the waker's id, below 2^31;
    /// a closed waker's id is not used again soon, so a late `wake` reaches nobody else.
    pub fn open(self: *WakerTable, path: []const u8, failure: *Failure) OpenError!u32 {
        const fd = try connect(path, failure);
        for (&self.slots, 0..) |*slot, index| {
            const old = slot.word.load(.monotonic);
            const word: Word = @bitCast(old);
            if (word.fd_plus_one != 0) continue;
            const generation = (word.generation +% 1) & generation_mask;
            const new: Word = .{ .fd_plus_one = @intCast(fd + 1), .generation = generation };
            if (slot.word.cmpxchgStrong(old, @bitCast(new), .seq_cst, .monotonic) != null) continue;
            return generation * wakers_max + @as(u32, @intCast(index));
        }
        _ = linux.close(fd);
        failure.set("no more than {d} JavaScript threads can be woken", .{wakers_max});
        return error.TooMany;
    }

    /// Writes one byte to the waker's reader. Call it through `Armed.notify`, or bytes pile up. A
    /// full socket counts as woken (bytes wait there); a closed waker or reader is ignored.
    pub fn wake(self: *WakerTable, id: u32) void {
        const slot = &self.slots[id % wakers_max];
        // Held while the descriptor is used: `close` waits, so it is never another file's.
        _ = slot.users.fetchAdd(1, .seq_cst);
        defer _ = slot.users.fetchSub(1, .release);
        const word: Word = @bitCast(slot.word.load(.seq_cst));
        if (word.fd_plus_one == 0 or word.generation != id / wakers_max) return;
        const fd: i32 = @intCast(word.fd_plus_one - 1);
        const flags = linux.MSG.DONTWAIT | linux.MSG.NOSIGNAL;
        while (linux.errno(linux.sendto(fd, "w", 1, flags, null, 0)) == .INTR) {}
    }

    /// Disconnects; false when `id` is no open waker. After it returns nothing is written to it.
    pub fn close(self: *WakerTable, id: u32) bool {
        const slot = &self.slots[id % wakers_max];
        const old = slot.word.load(.seq_cst);
        const word: Word = @bitCast(old);
        if (word.fd_plus_one == 0 or word.generation != id / wakers_max) return false;
        // The slot stays taken until the last user has left: `closing` matches no id.
        const closing: Word = .{ .fd_plus_one = word.fd_plus_one, .generation = closing_mark };
        if (slot.word.cmpxchgStrong(old, @bitCast(closing), .seq_cst, .monotonic) != null) {
            return false; // Another thread closes it at this moment.
        }
        while (slot.users.load(.seq_cst) != 0) _ = linux.sched_yield();
        _ = linux.close(@intCast(word.fd_plus_one - 1));
        const free: Word = .{ .fd_plus_one = 0, .generation = word.generation };
        slot.word.store(@bitCast(free), .seq_cst);
        return true;
    }

    const Slot = struct {
        word: std.atomic.Value(u64) = .init(0),
        users: std.atomic.Value(u32) = .init(0),
    };

    const Word = packed struct(u64) {
        /// 0: the slot is free.
        fd_plus_one: u32,
        generation: u32,
    };

    const generation_mask: u32 = (1 << 25) - 1;
    const closing_mark: u32 = std.math.maxInt(u32);

    comptime {
        assert(generation_mask * wakers_max + wakers_max - 1 <= std.math.maxInt(i32));
        assert(std.math.maxInt(u32) / wakers_max < closing_mark);
    }
};

/// Whether JavaScript sleeps and wants to be woken; one for each context.
pub const Armed = struct {
    flag: std.atomic.Value(u32) = .init(0),

    /// JavaScript: about to sleep. Look for work after this, and `disarm` if there is some.
    pub fn arm(self: *Armed) void {
        self.flag.store(1, .seq_cst);
        barrier.full(); // The caller's look for work must not move before the store.
    }

    /// JavaScript itself: whether it is between a wake-up and the next `arm`.
    pub fn is_awake(self: *const Armed) bool {
        return self.flag.load(.monotonic) == 0;
    }

    /// JavaScript: stays awake. True when no byte was written for the last `arm`.
    pub fn disarm(self: *Armed) bool {
        return self.flag.swap(0, .seq_cst) == 1;
    }

    /// Data plane: work was published. True when JavaScript sleeps and the caller must wake it;
    /// at most one caller is told so after each `arm`. Costs a few ns when JavaScript is awake.
    pub fn take(self: *Armed) bool {
        barrier.full(); // The work must be visible before the flag is read.
        if (self.flag.load(.monotonic) == 0) return false;
        return self.flag.swap(0, .seq_cst) == 1;
    }

    /// `take`, then the wake-up itself.
    pub fn notify(self: *Armed, table: *WakerTable, id: u32) void {
        if (self.take()) table.wake(id);
    }
};

fn connect(path: []const u8, failure: *Failure) OpenError!i32 {
    if (path.len == 0 or path.len > path_bytes_max) {
        failure.set("a unix socket's path has 1 to {d} bytes, this one {d}", .{
            path_bytes_max, path.len,
        });
        return error.BadPath;
    }
    const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC | linux.SOCK.NONBLOCK;
    const result = linux.socket(linux.AF.UNIX, kind, 0);
    if (errno_of(result) != 0) {
        failure.set_errno(errno_of(result), "cannot open a unix socket", .{});
        return error.Refused;
    }
    const fd: i32 = @intCast(result);
    var name: linux.sockaddr.un = .{ .path = @splat(0) };
    @memcpy(name.path[0..path.len], path);
    // A path that starts with NUL is an abstract name, and ends by its length instead of a NUL.
    const terminator_bytes: usize = if (path[0] == 0) 0 else 1;
    const name_bytes = @offsetOf(linux.sockaddr.un, "path") + path.len + terminator_bytes;
    const errno = errno_of(linux.connect(fd, &name, @intCast(name_bytes)));
    if (errno != 0) {
        _ = linux.close(fd);
        failure.set_errno(errno, "cannot connect to the event loop at {s}", .{path});
        return error.Refused;
    }
    return fd;
}

const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

/// A listening unix socket, as `node:net` opens one.
const TestServer = struct {
    fd: i32,
    path: [path_bytes_max]u8,
    path_len: usize,

    fn open(name: []const u8) !TestServer {
        var self: TestServer = .{ .fd = undefined, .path = undefined, .path_len = undefined };
        // An abstract name, so that nothing stays behind.
        const text = try std.fmt.bufPrint(&self.path, "\x00rcm-{s}-{d}", .{ name, linux.getpid() });
        self.path_len = text.len;
        const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;
        self.fd = @intCast(linux.socket(linux.AF.UNIX, kind, 0));
        errdefer _ = linux.close(self.fd);
        var address: linux.sockaddr.un = .{ .path = @splat(0) };
        @memcpy(address.path[0..text.len], text);
        const bytes = @offsetOf(linux.sockaddr.un, "path") + text.len;
        const bound = linux.bind(self.fd, @ptrCast(&address), @intCast(bytes));
        if (errno_of(bound) != 0) return error.Refused;
        if (errno_of(linux.listen(self.fd, 128)) != 0) return error.Refused;
        return self;
    }

    fn close(self: *TestServer) void {
        _ = linux.close(self.fd);
    }

    fn name_text(self: *const TestServer) []const u8 {
        return self.path[0..self.path_len];
    }

    fn accept(self: *TestServer) !i32 {
        const result = linux.accept4(self.fd, null, null, linux.SOCK.CLOEXEC);
        if (errno_of(result) != 0) return error.Refused;
        return @intCast(result);
    }
};

/// Bytes that wait at `fd`, which are taken.
fn take_bytes(fd: i32, timeout_ms: i32) usize {
    var fds = [1]linux.pollfd{.{ .fd = fd, .events = linux.POLL.IN }};
    if (linux.poll(&fds, 1, timeout_ms) != 1) return 0;
    var bytes: [256]u8 = undefined;
    return linux.read(fd, &bytes, bytes.len);
}

test "a waker writes one byte for each arm, and none when JavaScript is awake" {
    var failure: Failure = .{};
    var server: TestServer = try .open("one");
    defer server.close();
    var table: WakerTable = .{};
    const id = try table.open(server.name_text(), &failure);
    const reader = try server.accept();
    defer _ = linux.close(reader);
    var armed: Armed = .{};
    armed.notify(&table, id);
    try expectEqual(@as(usize, 0), take_bytes(reader, 0));
    armed.arm();
    for (0..3) |_| armed.notify(&table, id);
    try expectEqual(@as(usize, 1), take_bytes(reader, 1000));
    armed.arm();
    try expect(armed.disarm());
    armed.notify(&table, id);
    try expectEqual(@as(usize, 0), take_bytes(reader, 0));
    // Two contexts of one thread: each has its own wake-up.
    var other: Armed = .{};
    armed.arm();
    other.arm();
    armed.notify(&table, id);
    other.notify(&table, id);
    try expectEqual(@as(usize, 2), take_bytes(reader, 1000));
    try expect(table.close(id));
    try expect(!table.close(id));
    table.wake(id);
    try expectEqual(@as(usize, 0), take_bytes(reader, 1000)); // End of the stream.
}

test "a closed waker's id reaches nobody else, and a reader that is gone does no harm" {
    var failure: Failure = .{};
    var server: TestServer = try .open("gone");
    defer server.close();
    var table: WakerTable = .{};
    const first = try table.open(server.name_text(), &failure);
    const first_reader = try server.accept();
    try expect(table.close(first));
    _ = linux.close(first_reader);
    const second = try table.open(server.name_text(), &failure);
    const second_reader = try server.accept();
    try expect(first != second and second <= std.math.maxInt(i32));
    table.wake(first);
    try expectEqual(@as(usize, 0), take_bytes(second_reader, 0));
    table.wake(second);
    try expectEqual(@as(usize, 1), take_bytes(second_reader, 1000));
    _ = linux.close(second_reader);
    for (0..3) |_| table.wake(second); // No SIGPIPE.
    try expect(table.close(second));
}

test "wakers are bounded, and wrong paths are refused with text" {
    var failure: Failure = .{};
    var server: TestServer = try .open("many");
    defer server.close();
    var table: WakerTable = .{};
    var ids: [wakers_max]u32 = undefined;
    for (&ids) |*id| id.* = try table.open(server.name_text(), &failure);
    const one_more = table.open(server.name_text(), &failure);
    try std.testing.expectError(error.TooMany, one_more);
    for (ids) |id| try expect(table.close(id));
    const again = try table.open(server.name_text(), &failure);
    try expect(table.close(again));
    const missing = table.open("/nonexistent/rcm", &failure);
    try std.testing.expectError(error.Refused, missing);
    try std.testing.expectEqualStrings(
        "cannot connect to the event loop at /nonexistent/rcm: ENOENT",
        failure.text(),
    );
    try std.testing.expectError(error.BadPath, table.open("", &failure));
    const long: [path_bytes_max + 1]u8 = @splat('x');
    try std.testing.expectError(error.BadPath, table.open(&long, &failure));
}

/// A data plane that publishes numbers, and a JavaScript thread that sleeps when it saw them all.
const Stress = struct {
    table: WakerTable = .{},
    armed: Armed = .{},
    id: u32 = 0,
    published: std.atomic.Value(u32) = .init(0),
    seen: std.atomic.Value(u32) = .init(0),

    const rounds = 20_000;

    fn data_plane(self: *Stress) void {
        for (1..rounds + 1) |round| {
            self.published.store(@intCast(round), .release);
            self.armed.notify(&self.table, self.id);
            // Sometimes lets the sleeper catch up, sometimes runs ahead of it.
            if (round % 3 != 0) continue;
            for (0..round % 89) |_| std.atomic.spinLoopHint();
            while (round % 2 == 0 and self.seen.load(.acquire) < round) _ = linux.sched_yield();
        }
    }
};

test "no wake-up is lost between a data plane and a sleeper" {
    var failure: Failure = .{};
    var server: TestServer = try .open("stress");
    defer server.close();
    var stress: Stress = .{};
    stress.id = try stress.table.open(server.name_text(), &failure);
    const reader = try server.accept();
    defer _ = linux.close(reader);
    const thread = try std.Thread.spawn(.{}, Stress.data_plane, .{&stress});
    var bytes: usize = 0;
    var sleeps: usize = 0;
    var seen: u32 = 0;
    while (seen < Stress.rounds) {
        const now_published = stress.published.load(.acquire);
        if (now_published != seen) {
            seen = now_published;
            stress.seen.store(seen, .release);
            continue;
        }
        stress.armed.arm();
        if (stress.published.load(.acquire) != seen) {
            _ = stress.armed.disarm();
            continue;
        }
        sleeps += 1;
        const taken = take_bytes(reader, 5_000);
        bytes += taken;
        try expect(taken > 0); // A sleep without a byte is a lost wake-up.
    }
    thread.join();
    bytes += take_bytes(reader, 0);
    try expect(sleeps > 0 and bytes >= sleeps);
    try expect(stress.table.close(stress.id));
}

/// Threads that wake while the waker is closed and opened again.
const CloseRace = struct {
    table: WakerTable = .{},
    id: std.atomic.Value(u32) = .init(0),
    stop: std.atomic.Value(bool) = .init(false),

    fn wake(self: *CloseRace) void {
        while (!self.stop.load(.acquire)) self.table.wake(self.id.load(.acquire));
    }
};

test "wake() never writes to a descriptor that close() gave back" {
    var failure: Failure = .{};
    var server: TestServer = try .open("race");
    defer server.close();
    var race: CloseRace = .{};
    const thread = try std.Thread.spawn(.{}, CloseRace.wake, .{&race});
    for (0..300) |_| {
        const id = try race.table.open(server.name_text(), &failure);
        race.id.store(id, .release);
        const reader = try server.accept();
        _ = take_bytes(reader, 1000);
        try expect(race.table.close(id));
        _ = linux.close(reader);
        // These very likely get the descriptors that were just given back.
        var pair: [2]i32 = undefined;
        const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;
        try expectEqual(@as(u16, 0), errno_of(linux.socketpair(linux.AF.UNIX, kind, 0, &pair)));
        try expectEqual(@as(usize, 0), take_bytes(pair[0], 0));
        try expectEqual(@as(usize, 0), take_bytes(pair[1], 0));
        for (pair) |fd| _ = linux.close(fd);
    }
    race.stop.store(true, .release);
    thread.join();
}
