//! One session with ZooKeeper through its C client, and the thread that opens, keeps and closes it.
//!
//!     JavaScript      request() -> zoo_a...      the client only queues it
//!     client's thread completion -> an event     copied, no call into JavaScript
//!     own thread      zookeeper_init2, auth; then the keeper's writes; zookeeper_close
//!
//! JavaScript makes no request after `stop`, so the handle is never used while it is closed. The
//! client's completions may never come when it is closed (ZOOKEEPER-3868): what they would have
//! freed belongs to the session and goes with it.

const std = @import("std");
const linux = std.os.linux;
const abi = @import("../abi.zig");
const clock = @import("../agent/clock.zig");
const cpu = @import("../agent/cpu.zig");
const assert = @import("../assert.zig").assert;
const Failure = @import("../transport/failure.zig").Failure;
const zk = @import("client.zig");
const agent_file = @import("agent.zig");
const request_file = @import("request.zig");

const Agent = agent_file.Agent;
const Request = request_file.Request;
const gpa = std.heap.c_allocator;

/// Requests under way at a time; one is kept for the lease.
const pending_max = 128;
/// Parts of a transaction.
const parts_max = 128;
/// The client writes no environment into its log.
const no_environment: i32 = 2;
const permissions_all: i32 = 31;
const stack_bytes = 512 << 10;

const open_acl = [_]zk.Acl{.{
    .permissions = permissions_all,
    .identity = .{ .scheme = "world", .id = "anyone" },
}};
const creator_acl = [_]zk.Acl{.{
    .permissions = permissions_all,
    .identity = .{ .scheme = "auth", .id = "" },
}};
const open_acls: zk.AclVector = .{ .count = 1, .data = &open_acl };
const creator_acls: zk.AclVector = .{ .count = 1, .data = &creator_acl };

/// A request under way.
const Pending = struct {
    session: *Session,
    taken: std.atomic.Value(bool) = .init(false),
    id: u32 = 0,
    /// Of a write of the lease.
    sent_ns: u64 = 0,
    /// Of a transaction.
    parts: []zk.OpResult = &.{},
};

pub const Session = struct {
    agent: *Agent,
    api: *const zk.Api,
    number: u32,
    hosts: [:0]u8,
    auth: []u8,
    timeout_ms: i32,
    /// Null: not opened yet.
    zh: std.atomic.Value(?*zk.Handle) = .init(null),
    /// The word of a futex.
    stopping: std.atomic.Value(u32) = .init(0),
    pending: [pending_max]Pending,

    // Under the agent's lock.
    /// Opened and authenticated: states may be told.
    ready: bool = false,
    state: i32 = 0,
    kept_path: [:0]const u8 = "",
    kept_data: []u8 = &.{},
    running_path: [:0]const u8 = "",
    /// Whether the watchdog has still to remove `running`.
    giving_up: enum { no, wanted, asked } = .no,

    /// `path`: the servers; `data`: what to authenticate with ("" or "user:password"); `version`:
    /// the time-out to ask for, in milliseconds.
    pub fn start(agent: *Agent, api: *const zk.Api, r: Request) !*Session {
        const self = try gpa.create(Session);
        errdefer gpa.destroy(self);
        const hosts = try gpa.dupeSentinel(u8, r.path, 0);
        errdefer gpa.free(hosts);
        const auth = try gpa.dupe(u8, r.data);
        errdefer gpa.free(auth);
        self.* = .{
            .agent = agent,
            .api = api,
            .number = agent.sessions,
            .hosts = hosts,
            .auth = auth,
            .timeout_ms = r.version,
            .pending = undefined,
        };
        for (&self.pending) |*p| p.* = .{ .session = self };
        agent.retain();
        errdefer agent.release();
        const thread = try std.Thread.spawn(.{ .stack_size = stack_bytes }, run, .{self});
        thread.detach();
        return self;
    }

    /// JavaScript: no request follows. The thread closes the handle and frees the session.
    /// `stopping` has been set, under the agent's lock.
    pub fn stop(self: *Session) void {
        _ = linux.futex_3arg(&self.stopping.raw, .{ .cmd = .WAKE, .private = true }, 1);
    }

    // ---------------------------------------------------------------- the session's thread

    fn run(self: *Session) void {
        cpu.name_current("rcm-arbiter");
        const flags = no_environment;
        std.c._errno().* = 0;
        const opened = self.api.zookeeper_init2(
            self.hosts,
            on_session,
            self.timeout_ms,
            null,
            self,
            flags,
            on_log,
        );
        if (opened) |zh| {
            self.open(zh);
            while (self.stopping.load(.acquire) == 0) self.sleep(self.keep(zh));
            // The client's threads end in here, and with them all callbacks.
            _ = self.api.zookeeper_close(zh);
        } else {
            self.tell_unopened();
            while (self.stopping.load(.acquire) == 0) self.sleep(clock.ns_per_s);
        }
        self.agent.events.put(.{
            .kind = @backingInt(abi.ArbiterEventKind.ended),
            .session = self.number,
        }, "");
        const agent = self.agent;
        self.free();
        agent.release();
    }

    fn open(self: *Session, zh: *zk.Handle) void {
        // Else names are resolved again at every look for a better server.
        _ = self.api.zoo_set_servers_resolution_delay(zh, -1);
        if (self.auth.len > 0) {
            const len: i32 = @intCast(self.auth.len);
            _ = self.api.zoo_add_auth(zh, "digest", self.auth.ptr, len, null, null);
        }
        self.zh.store(zh, .release);
        self.agent.lock.take();
        defer self.agent.lock.give();
        self.ready = true;
        if (self.state != 0) self.tell_state(zh);
    }

    fn tell_unopened(self: *Session) void {
        const errno: u16 = @intCast(std.c._errno().*);
        var text: Failure = .{};
        text.set_errno(errno, "{s} can't be used: a name is not known, or it is no list of " ++
            "host:port", .{self.hosts});
        self.agent.events.put(.{
            .kind = @backingInt(abi.ArbiterEventKind.session),
            .code = zk.Code.bad_arguments,
            .session = self.number,
        }, text.text());
    }

    /// Keeps the lease. Returns how long to sleep.
    fn keep(self: *Session, zh: *zk.Handle) u64 {
        const now_ns = clock.boottime_ns();
        self.agent.lock.take();
        defer self.agent.lock.give();
        const keeper = &self.agent.keeper;
        if (self.kept_path.len == 0 or self.stopping.load(.acquire) != 0) return idle_ns;
        switch (keeper.poll(now_ns)) {
            .none => {},
            .write => self.write_lease(zh, now_ns),
            .give_up => self.give_up(),
        }
        if (self.giving_up == .wanted) self.ask_running(zh);
        return keeper.interval_ns();
    }

    fn write_lease(self: *Session, zh: *zk.Handle, now_ns: u64) void {
        const p = self.take_pending() orelse return self.agent.keeper.on_answer(now_ns, false);
        p.sent_ns = now_ns;
        const len: i32 = @intCast(self.kept_data.len);
        const data = self.kept_data.ptr;
        if (self.api.zoo_aset(zh, self.kept_path, data, len, -1, on_lease, p) == zk.Code.ok) return;
        give_pending(p);
        self.agent.keeper.on_answer(now_ns, false);
    }

    /// The lease has ended; now others may stand.
    fn give_up(self: *Session) void {
        self.agent.events.put(.{
            .kind = @backingInt(abi.ArbiterEventKind.watchdog),
            .session = self.number,
        }, "");
        if (self.running_path.len > 0) self.giving_up = .wanted;
    }

    /// It is looked at before it is removed: after a lost answer it may be another session's.
    fn ask_running(self: *Session, zh: *zk.Handle) void {
        const p = self.take_pending() orelse return;
        const path = self.running_path;
        if (self.api.zoo_awexists(zh, path, null, null, on_running, p) == zk.Code.ok) {
            self.giving_up = .asked;
        } else give_pending(p);
    }

    fn remove_running(self: *Session, p: *Pending) void {
        const zh = self.zh.load(.acquire).?;
        const code = self.api.zoo_adelete(zh, self.running_path, -1, on_removed, p);
        if (code == zk.Code.ok) return;
        give_pending(p);
        self.giving_up = .wanted;
    }

    const idle_ns = 20 * clock.ns_per_ms;

    fn sleep(self: *Session, ns: u64) void {
        const timeout: linux.timespec = .{
            .sec = @intCast(ns / clock.ns_per_s),
            .nsec = @intCast(ns % clock.ns_per_s),
        };
        const op: linux.FUTEX_OP = .{ .cmd = .WAIT, .private = true };
        _ = linux.futex_4arg(&self.stopping.raw, op, 0, &timeout);
    }

    fn free(self: *Session) void {
        for (&self.pending) |*p| gpa.free(p.parts);
        gpa.free(self.hosts);
        std.crypto.secureZero(u8, self.auth);
        gpa.free(self.auth);
        if (self.kept_path.len > 0) gpa.free(self.kept_path);
        if (self.running_path.len > 0) gpa.free(self.running_path);
        gpa.free(self.kept_data);
        gpa.destroy(self);
    }

    // ---------------------------------------------------------------- requests of JavaScript

    /// Under the agent's lock.
    pub fn set_running(self: *Session, path: []const u8, holding: bool) void {
        if (holding) self.giving_up = .no;
        const copy = gpa.dupeSentinel(u8, path, 0) catch return;
        if (self.running_path.len > 0) gpa.free(self.running_path);
        self.running_path = copy;
    }

    pub fn request(
        self: *Session,
        r: Request,
        reader: *request_file.Reader,
        failure: *Failure,
    ) agent_file.Error!void {
        if (r.op == .keep) return self.set_kept(r, failure);
        const zh = self.zh.load(.acquire) orelse return self.refuse(r.id, zk.Code.connection_loss);
        const p = self.take_pending() orelse {
            failure.set("more than {d} requests wait for ZooKeeper's answer", .{pending_max});
            return error.State;
        };
        p.id = r.id;
        const code = if (r.op == .multi)
            try self.transact(zh, r, reader, p, failure)
        else
            self.call(zh, r, p);
        if (code == zk.Code.ok) return;
        give_pending(p);
        self.refuse(r.id, code);
    }

    fn call(self: *Session, zh: *zk.Handle, r: Request, p: *Pending) i32 {
        const api = self.api;
        const watcher: ?zk.Watcher = if (r.has(.watch)) on_watch else null;
        // The client keeps one watch for each path, function and context: setting it again is free.
        const context: ?*anyopaque = @ptrFromInt(@as(usize, r.count) + 1);
        const len: i32 = @intCast(r.data.len);
        const data = r.data.ptr;
        return switch (r.op) {
            .create => api.zoo_acreate(zh, r.path, data, len, acl_of(r), mode_of(r), on_string, p),
            .remove => api.zoo_adelete(zh, r.path, r.version, on_void, p),
            .set => api.zoo_aset(zh, r.path, r.data.ptr, len, r.version, on_stat, p),
            .get => api.zoo_aget(zh, r.path, 0, on_data, p),
            .exists => api.zoo_awexists(zh, r.path, watcher, context, on_stat, p),
            .children => api.zoo_awget_children(zh, r.path, watcher, context, on_strings, p),
            .sync => api.zoo_async(zh, r.path, on_string, p),
            .connect, .multi, .check, .keep, .hold, .beat => zk.Code.bad_arguments,
        };
    }

    fn transact(
        self: *Session,
        zh: *zk.Handle,
        r: Request,
        reader: *request_file.Reader,
        p: *Pending,
        failure: *Failure,
    ) agent_file.Error!i32 {
        errdefer give_pending(p);
        var ops: [parts_max]zk.Op = undefined;
        if (r.count == 0 or r.count > parts_max) {
            failure.set("a transaction has 1 to {d} parts, not {d}", .{ parts_max, r.count });
            return error.Argument;
        }
        for (ops[0..r.count]) |*op| {
            const part = reader.next() orelse {
                failure.set("a transaction's part can't be read", .{});
                return error.Argument;
            };
            op.* = part_of(part) orelse {
                failure.set("{s} can't be part of a transaction", .{@tagName(part.op)});
                return error.Argument;
            };
        }
        p.parts = gpa.alloc(zk.OpResult, r.count) catch return error.Native;
        @memset(p.parts, .{ .err = 0, .value = null, .value_len = 0, .stat = null });
        return self.api.zoo_amulti(zh, @intCast(r.count), &ops, p.parts.ptr, on_multi, p);
    }

    fn set_kept(self: *Session, r: Request, failure: *Failure) agent_file.Error!void {
        errdefer failure.set("out of memory", .{});
        const data = gpa.dupe(u8, r.data) catch return error.Native;
        const path = gpa.dupeSentinel(u8, r.path, 0) catch {
            gpa.free(data);
            return error.Native;
        };
        self.agent.lock.take();
        defer self.agent.lock.give();
        if (self.kept_path.len > 0) gpa.free(self.kept_path);
        gpa.free(self.kept_data);
        self.kept_path = path;
        self.kept_data = data;
        if (r.version != 0) self.agent.keeper.hurry();
    }

    fn refuse(self: *Session, id: u32, code: i32) void {
        self.put(id, code, .{}, "");
    }

    // ---------------------------------------------------------------- what comes back

    fn take_pending(self: *Session) ?*Pending {
        for (&self.pending) |*p| {
            if (p.taken.load(.monotonic)) continue;
            if (p.taken.cmpxchgStrong(false, true, .acquire, .monotonic) == null) return p;
        }
        return null;
    }

    fn put(self: *Session, id: u32, code: i32, of: Node, data: []const u8) void {
        self.agent.events.put(.{
            .kind = @backingInt(abi.ArbiterEventKind.answer),
            .id = id,
            .code = code,
            .session = self.number,
            .version = of.version,
            .flags = of.flags,
        }, data);
    }

    /// Under the agent's lock, so that states are told in their order.
    fn tell_state(self: *Session, zh: *zk.Handle) void {
        const agent = self.agent;
        const timeout_ms: u32 = @intCast(@max(1, self.api.zoo_recv_timeout(zh)));
        switch (self.state) {
            zk.State.connected => agent.keeper.on_connected(timeout_ms * clock.ns_per_ms),
            zk.State.expired, zk.State.auth_failed => agent.keeper.on_lost(),
            else => {},
        }
        agent.events.put(.{
            .kind = @backingInt(abi.ArbiterEventKind.session),
            .code = self.state,
            .session = self.number,
            .version = @intCast(timeout_ms),
        }, "");
    }

    fn node_of(self: *Session, stat: ?*const zk.Stat) Node {
        const s = stat orelse return .{};
        var node: Node = .{ .version = s.version };
        if (s.ephemeral_owner == 0) return node;
        node.flags |= @backingInt(abi.ArbiterFlag.ephemeral);
        const zh = self.zh.load(.acquire) orelse return node;
        if (self.api.zoo_client_id(zh).id == s.ephemeral_owner) {
            node.flags |= @backingInt(abi.ArbiterFlag.mine);
        }
        return node;
    }
};

const Node = struct { version: i32 = 0, flags: u32 = 0 };

fn give_pending(p: *Pending) void {
    gpa.free(p.parts);
    p.parts = &.{};
    p.sent_ns = 0;
    p.taken.store(false, .release);
}

fn acl_of(r: Request) *const zk.AclVector {
    return if (r.has(.private)) &creator_acls else &open_acls;
}

fn mode_of(r: Request) i32 {
    return @intFromBool(r.has(.ephemeral));
}

fn part_of(r: Request) ?zk.Op {
    const data = r.data.ptr;
    const data_len: i32 = @intCast(r.data.len);
    return switch (r.op) {
        .create => .{ .kind = zk.Op.create, .what = .{ .create = .{
            .path = r.path,
            .data = data,
            .data_len = data_len,
            .path_buffer = null,
            .path_buffer_len = 0,
            .acl = acl_of(r),
            .flags = mode_of(r),
            .ttl = -1,
        } } },
        .remove => .{
            .kind = zk.Op.delete,
            .what = .{ .delete = .{ .path = r.path, .version = r.version } },
        },
        .set => .{ .kind = zk.Op.set, .what = .{ .set = .{
            .path = r.path,
            .data = data,
            .data_len = data_len,
            .version = r.version,
            .stat = null,
        } } },
        .check => .{
            .kind = zk.Op.check,
            .what = .{ .check = .{ .path = r.path, .version = r.version } },
        },
        else => null,
    };
}

// -------------------------------------------------------------------- callbacks of the client

fn pending_of(data: ?*const anyopaque) *Pending {
    assert(data != null);
    return @ptrCast(@alignCast(@constCast(data)));
}

fn answer(p: *Pending, code: i32, of: Node, data: []const u8) void {
    const session = p.session;
    const id = p.id;
    give_pending(p);
    if (id != 0) session.put(id, code, of, data);
}

fn on_void(code: i32, data: ?*const anyopaque) callconv(.c) void {
    answer(pending_of(data), code, .{}, "");
}

fn on_string(code: i32, _: ?[*:0]const u8, data: ?*const anyopaque) callconv(.c) void {
    answer(pending_of(data), code, .{}, "");
}

fn on_stat(code: i32, stat: ?*const zk.Stat, data: ?*const anyopaque) callconv(.c) void {
    const p = pending_of(data);
    answer(p, code, if (code == zk.Code.ok) p.session.node_of(stat) else .{}, "");
}

fn on_data(
    code: i32,
    value: ?[*]const u8,
    len: i32,
    stat: ?*const zk.Stat,
    data: ?*const anyopaque,
) callconv(.c) void {
    const p = pending_of(data);
    if (code != zk.Code.ok) return answer(p, code, .{}, "");
    const bytes: []const u8 = if (value != null and len > 0) value.?[0..@intCast(len)] else "";
    answer(p, code, p.session.node_of(stat), bytes);
}

/// Names, each with a 0 behind it.
fn on_strings(code: i32, strings: ?*const zk.Strings, data: ?*const anyopaque) callconv(.c) void {
    const p = pending_of(data);
    const none = code != zk.Code.ok or strings == null or strings.?.count <= 0;
    if (none) return answer(p, code, .{}, "");
    var text: std.ArrayList(u8) = .empty;
    defer text.deinit(gpa);
    for (strings.?.data.?[0..@intCast(strings.?.count)]) |name| {
        text.appendSlice(gpa, std.mem.span(name)) catch break;
        text.append(gpa, 0) catch break;
    }
    answer(p, code, .{}, text.items);
}

/// The code of each part, 32 bits each.
fn on_multi(code: i32, data: ?*const anyopaque) callconv(.c) void {
    const p = pending_of(data);
    var codes: [parts_max]i32 = undefined;
    for (p.parts, codes[0..p.parts.len]) |part, *c| c.* = part.err;
    answer(p, code, .{}, std.mem.sliceAsBytes(codes[0..p.parts.len]));
}

fn on_lease(code: i32, _: ?*const zk.Stat, data: ?*const anyopaque) callconv(.c) void {
    const p = pending_of(data);
    const session = p.session;
    const agent = session.agent;
    const sent_ns = p.sent_ns;
    give_pending(p);
    agent.lock.take();
    defer agent.lock.give();
    if (session.stopping.load(.acquire) != 0) return;
    agent.keeper.on_answer(sent_ns, code == zk.Code.ok);
}

fn on_running(code: i32, stat: ?*const zk.Stat, data: ?*const anyopaque) callconv(.c) void {
    const p = pending_of(data);
    const self = p.session;
    self.agent.lock.take();
    defer self.agent.lock.give();
    const mine = @backingInt(abi.ArbiterFlag.mine);
    if (self.giving_up == .asked and code == zk.Code.ok and self.node_of(stat).flags & mine != 0) {
        return self.remove_running(p);
    }
    give_pending(p);
    if (self.giving_up != .asked) return;
    self.giving_up = if (zk.Code.is_lost(code)) .wanted else .no;
}

fn on_removed(code: i32, data: ?*const anyopaque) callconv(.c) void {
    const p = pending_of(data);
    const self = p.session;
    give_pending(p);
    self.agent.lock.take();
    defer self.agent.lock.give();
    if (self.giving_up != .asked) return;
    self.giving_up = if (zk.Code.is_lost(code)) .wanted else .no;
}

fn on_session(
    zh: ?*zk.Handle,
    kind: i32,
    state: i32,
    _: ?[*:0]const u8,
    context: ?*anyopaque,
) callconv(.c) void {
    const self: *Session = @ptrCast(@alignCast(context orelse return));
    if (kind != zk.session_event) return;
    self.agent.lock.take();
    defer self.agent.lock.give();
    if (self.stopping.load(.acquire) != 0) return;
    self.state = state;
    if (self.ready) self.tell_state(zh.?);
}

/// Each watch also hears of the session, which `on_session` tells.
fn on_watch(
    zh: ?*zk.Handle,
    kind: i32,
    _: i32,
    _: ?[*:0]const u8,
    context: ?*anyopaque,
) callconv(.c) void {
    if (kind == zk.session_event) return;
    const handle = zh orelse return;
    const self = session_of(handle) orelse return;
    self.agent.events.put(.{
        .kind = @backingInt(abi.ArbiterEventKind.watch),
        .id = @intCast(@intFromPtr(context) - 1),
        .code = kind,
        .session = self.number,
    }, "");
}

fn session_of(zh: *zk.Handle) ?*Session {
    const api = zk.loaded_api() orelse return null;
    return @ptrCast(@alignCast(api.zoo_get_context(zh)));
}

fn on_log(_: [*:0]const u8) callconv(.c) void {}
