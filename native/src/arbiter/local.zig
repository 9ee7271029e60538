//! One session on this machine, without a service: a file that its process holds locked.
//!
//! The kernel's lock on the open file (OFD) is gone when the process is, however it ended; others
//! look for that (`is_held`). The member's state stands in the file and is written again every T/4,
//! so that its time of change says that the process runs: others end the session of one that is
//! paused for T. The tree itself is TypeScript's (`src/arbitration/local_tree.ts`).

const std = @import("std");
const linux = std.os.linux;
const abi = @import("../abi.zig");
const clock = @import("../agent/clock.zig");
const cpu = @import("../agent/cpu.zig");
const files = @import("../window/files.zig");
const Failure = @import("../transport/failure.zig").Failure;
const zk = @import("client.zig");
const agent_file = @import("agent.zig");
const request_file = @import("request.zig");

const Agent = agent_file.Agent;
const Request = request_file.Request;
const gpa = std.heap.c_allocator;
const stack_bytes = 256 << 10;

pub const Session = struct {
    agent: *Agent,
    number: u32,
    /// The word of a futex.
    stopping: std.atomic.Value(u32) = .init(0),
    // Under the agent's lock.
    /// Below 0: the watchdog has ended the session.
    fd: i32,
    kept: []u8,

    /// `path`: the file, which must not be there yet; `data`: what stands in it; `version`: T.
    pub fn start(agent: *Agent, r: Request, failure: *Failure) agent_file.Error!*Session {
        errdefer if (failure.len == 0) failure.set("no thread or memory for a session", .{});
        const fd = try make(r.path, failure);
        errdefer _ = linux.close(fd);
        if (!write_all(fd, r.data)) {
            failure.set("{s} can't be written: is the disk full?", .{r.path});
            return error.Shm;
        }
        const self = gpa.create(Session) catch return error.Native;
        errdefer gpa.destroy(self);
        const kept = gpa.dupe(u8, r.data) catch return error.Native;
        errdefer gpa.free(kept);
        self.* = .{ .agent = agent, .number = agent.sessions, .fd = fd, .kept = kept };
        agent.lock.take();
        const timeout_ms: u32 = @intCast(@max(1, r.version));
        agent.keeper.on_connected(timeout_ms * clock.ns_per_ms);
        agent.lock.give();
        agent.retain();
        errdefer agent.release();
        const config: std.Thread.SpawnConfig = .{ .stack_size = stack_bytes };
        const thread = std.Thread.spawn(config, run, .{self}) catch return error.Native;
        thread.detach();
        self.tell(zk.State.connected, timeout_ms);
        return self;
    }

    /// JavaScript: no request follows. `stopping` has been set, under the agent's lock.
    pub fn stop(self: *Session) void {
        _ = linux.futex_3arg(&self.stopping.raw, .{ .cmd = .WAKE, .private = true }, 1);
    }

    pub fn request(
        self: *Session,
        r: Request,
        _: *request_file.Reader,
        failure: *Failure,
    ) agent_file.Error!void {
        if (r.op != .keep) {
            failure.set("{s} is not asked of a local session", .{@tagName(r.op)});
            return error.Argument;
        }
        const data = gpa.dupe(u8, r.data) catch return error.Native;
        self.agent.lock.take();
        defer self.agent.lock.give();
        gpa.free(self.kept);
        self.kept = data;
        if (r.version != 0) self.agent.keeper.hurry();
    }

    fn run(self: *Session) void {
        cpu.name_current("rcm-arbiter");
        while (self.stopping.load(.acquire) == 0) self.sleep(self.keep());
        const agent = self.agent;
        if (self.fd >= 0) _ = linux.close(self.fd);
        agent.events.put(.{
            .kind = @backingInt(abi.ArbiterEventKind.ended),
            .session = self.number,
        }, "");
        gpa.free(self.kept);
        gpa.destroy(self);
        agent.release();
    }

    fn keep(self: *Session) u64 {
        const now_ns = clock.boottime_ns();
        self.agent.lock.take();
        defer self.agent.lock.give();
        const keeper = &self.agent.keeper;
        if (self.fd < 0 or self.stopping.load(.acquire) != 0) return clock.ns_per_s;
        switch (keeper.poll(now_ns)) {
            .none => {},
            .write => keeper.on_answer(now_ns, write_all(self.fd, self.kept)),
            .give_up => self.give_up(),
        }
        return keeper.interval_ns();
    }

    /// `running` goes with the session: who looks finds it unlocked at once.
    fn give_up(self: *Session) void {
        _ = linux.close(self.fd);
        self.fd = -1;
        self.agent.keeper.on_lost();
        self.agent.events.put(.{
            .kind = @backingInt(abi.ArbiterEventKind.watchdog),
            .session = self.number,
        }, "");
        self.tell(zk.State.expired, 0);
    }

    fn tell(self: *Session, state: i32, timeout_ms: u32) void {
        self.agent.events.put(.{
            .kind = @backingInt(abi.ArbiterEventKind.session),
            .code = state,
            .session = self.number,
            .version = @intCast(timeout_ms),
        }, "");
    }

    fn sleep(self: *Session, ns: u64) void {
        const timeout: linux.timespec = .{
            .sec = @intCast(ns / clock.ns_per_s),
            .nsec = @intCast(ns % clock.ns_per_s),
        };
        const op: linux.FUTEX_OP = .{ .cmd = .WAIT, .private = true };
        _ = linux.futex_4arg(&self.stopping.raw, op, 0, &timeout);
    }
};

fn make(path: [:0]const u8, failure: *Failure) agent_file.Error!i32 {
    const flags: linux.O = .{
        .ACCMODE = .RDWR,
        .CREAT = true,
        .EXCL = true,
        .CLOEXEC = true,
        .NOFOLLOW = true,
    };
    const opened = linux.open(path, flags, 0o600);
    const errno = linux.errno(opened);
    if (errno != .SUCCESS) {
        failure.set_errno(@backingInt(errno), "cannot make {s}", .{path});
        return error.Shm;
    }
    const fd: i32 = @intCast(opened);
    var range: linux.Flock = .{
        .type = linux.F.WRLCK,
        .whence = linux.SEEK.SET,
        .start = 0,
        .len = 0,
        .pid = 0,
        ._unused = {},
    };
    const locked = linux.errno(linux.fcntl(fd, linux.F.OFD_SETLK, @intFromPtr(&range)));
    if (locked == .SUCCESS) return fd;
    _ = linux.close(fd);
    failure.set_errno(@backingInt(locked), "cannot lock {s}", .{path});
    return error.Shm;
}

/// Replaces the file's content. Who reads in between finds no whole JSON, and reads again.
fn write_all(fd: i32, data: []const u8) bool {
    var done: usize = 0;
    while (done < data.len) {
        const result = linux.pwrite(fd, data[done..].ptr, data.len - done, @intCast(done));
        switch (linux.errno(result)) {
            .SUCCESS => done += result,
            .INTR => {},
            else => return false,
        }
    }
    return linux.errno(linux.ftruncate(fd, @intCast(data.len))) == .SUCCESS;
}

/// Whether a process holds that file locked. Null: there is no such file, or it can't be read.
pub fn is_held(path: [:0]const u8) ?bool {
    const opened = linux.open(path, .{ .ACCMODE = .RDONLY, .CLOEXEC = true, .NOFOLLOW = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return null;
    const fd: i32 = @intCast(opened);
    defer _ = linux.close(fd);
    return files.is_owned(fd);
}
