//! An arbiter's native side: one session after the other, the lease that outlives them, and the
//! events on their way to JavaScript. `zookeeper.zig` and `local.zig` are the two kinds of session.
//!
//! One JavaScript thread makes all requests. Each session has a thread of its own, which opens it
//! (names are resolved there, never on the event loop), keeps the lease, and closes it, which may
//! take seconds while a server is frozen. The agent's memory goes with the last who refers to it:
//! JavaScript, a tier's engine, sessions that are not closed yet.

const std = @import("std");
const abi = @import("../abi.zig");
const waker = @import("../agent/waker.zig");
const clock = @import("../agent/clock.zig");
const Token = @import("../agent/token.zig").Token;
const assert = @import("../assert.zig").assert;
const Failure = @import("../transport/failure.zig").Failure;
const client = @import("client.zig");
const lease_file = @import("lease.zig");
const Events = @import("events.zig").Events;
const request_file = @import("request.zig");
const ZookeeperSession = @import("zookeeper.zig").Session;
const LocalSession = @import("local.zig").Session;

pub const Lease = lease_file.Lease;
pub const Keeper = lease_file.Keeper;
const gpa = std.heap.c_allocator;

pub const Error = error{ Argument, State, Native, Shm };

pub const Agent = struct {
    lease: Lease = .{},
    /// Guards the keeper and what a session's thread and JavaScript share of a session.
    lock: Token = .{},
    keeper: Keeper,
    events: Events,
    /// Null: sessions are local.
    api: ?*const client.Api,
    session: union(enum) { none, zookeeper: *ZookeeperSession, local: *LocalSession } = .none,
    /// How many sessions there were.
    sessions: u32 = 0,
    references: std.atomic.Value(u32) = .init(1),

    pub fn open(
        wakers: *waker.WakerTable,
        waker_id: i32,
        api: ?*const client.Api,
    ) error{OutOfMemory}!*Agent {
        const self = try gpa.create(Agent);
        self.* = .{
            .keeper = .{ .lease = &self.lease },
            .events = .{ .wakers = wakers, .waker_id = waker_id },
            .api = api,
        };
        return self;
    }

    /// An engine, or a session, refers to it from now on.
    pub fn retain(self: *Agent) void {
        assert(self.references.fetchAdd(1, .monotonic) > 0);
    }

    pub fn release(self: *Agent) void {
        if (self.references.fetchSub(1, .acq_rel) > 1) return;
        self.events.clear();
        gpa.destroy(self);
    }

    /// The session's thread closes it; `ended` follows. False: there is none.
    pub fn end_session(self: *Agent) bool {
        {
            // Together: what still comes of the old session does not reach the next one's lease.
            self.lock.take();
            defer self.lock.give();
            self.keeper.on_lost();
            switch (self.session) {
                .none => return false,
                inline else => |session| session.stopping.store(1, .release),
            }
        }
        switch (self.session) {
            .none => return false,
            inline else => |session| session.stop(),
        }
        self.session = .none;
        return true;
    }

    /// One request, and what follows it in a transaction. Answers come as events.
    pub fn request(self: *Agent, bytes: []const u8, failure: *Failure) Error!void {
        var reader: request_file.Reader = .{ .bytes = bytes };
        const r = reader.next() orelse {
            failure.set("an arbiter's request of {d} bytes can't be read", .{bytes.len});
            return error.Argument;
        };
        switch (r.op) {
            .connect => try self.connect(r, failure),
            .hold, .beat => self.steer(r),
            else => switch (self.session) {
                .none => {
                    failure.set("the arbiter has no session", .{});
                    return error.State;
                },
                inline else => |session| try session.request(r, &reader, failure),
            },
        }
    }

    fn connect(self: *Agent, r: request_file.Request, failure: *Failure) Error!void {
        _ = self.end_session();
        self.sessions += 1;
        if (self.api) |api| {
            const session = ZookeeperSession.start(self, api, r) catch |e| {
                failure.set("no thread or memory for a session: {s}", .{@errorName(e)});
                return error.Native;
            };
            self.session = .{ .zookeeper = session };
        } else {
            self.session = .{ .local = try LocalSession.start(self, r, failure) };
        }
    }

    fn steer(self: *Agent, r: request_file.Request) void {
        self.lock.take();
        defer self.lock.give();
        if (r.op == .beat) {
            self.lease.watch(r.version != 0);
            self.lease.beat();
            return;
        }
        switch (self.session) {
            .zookeeper => |session| session.set_running(r.path, r.version != 0),
            .local, .none => {},
        }
        self.keeper.hold(r.version != 0);
    }

    pub fn describe(self: *Agent) abi.ArbiterLease {
        self.lock.take();
        defer self.lock.give();
        const now_ns = clock.boottime_ns();
        const left_ns = self.lease.until_ns.load(.acquire) -| now_ns;
        return .{
            .left_ms = @as(f64, @floatFromInt(left_ns)) / clock.ns_per_ms,
            .timeout_ms = @as(f64, @floatFromInt(self.keeper.timeout_ns)) / clock.ns_per_ms,
            .holding = @intFromBool(self.keeper.holding),
            .beats = @truncate(self.lease.heart.load(.monotonic)),
        };
    }
};
