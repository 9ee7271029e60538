//! A started context: its memory, sockets, agents and threads. Made by `start`, ended by `drain`
//! and `close`.
//!
//! Threads (`Threading`): `shared` runs all agents on one native thread, `dedicated` the send
//! agents on one and the receive agent on another, `inline` on whoever calls `work`. An agent's
//! token says who runs it at a moment, so that the caller of `send` can run a send agent itself
//! (`AsynchronousRms: 0`).
//!
//! JavaScript is woken through `armed` and a waker, once for a batch; it is never called.
//!
//! Long because it is the life of one context; its parts lie in files of their own.

const std = @import("std");
const abi = @import("../abi.zig");
const assert = @import("../assert.zig").assert;
const udp = @import("../transport/udp.zig");
const clock = @import("clock.zig");
const barrier = @import("barrier.zig");
const cpu = @import("cpu.zig");
const wait = @import("wait.zig");
const waker = @import("waker.zig");
const options_file = @import("options.zig");
const record = @import("../order/record.zig");
const region_file = @import("../window/region.zig");
const Prefault = @import("prefault.zig").Prefault;
const Store = @import("../window/store.zig").Store;
const TxChannel = @import("tx_channel.zig").TxChannel;
const transmitter_file = @import("transmitter.zig");
const Transmitter = transmitter_file.Transmitter;
const RxAgent = @import("rx_agent.zig").RxAgent;
const TierResults = @import("tier_results.zig").TierResults;
const RecordAgent = @import("record_agent.zig").RecordAgent;
const context_start = @import("context_start.zig");
const ShmReceivers = @import("shm_receivers.zig").ShmReceivers;
const Token = @import("token.zig").Token;
const Lending = @import("lending.zig").Lending;
const Epoch = @import("../tier/epoch.zig").Epoch;
const TxPosition = @import("../tier/tx_positions.zig").TxPosition;
const manual_ack = @import("manual_ack.zig");
const Counters = @import("counters.zig").Counters;
const lanes_file = @import("lanes.zig");
const Log = @import("../order/log.zig").Log;

const Descriptor = record.Descriptor;
const stack_bytes = 512 * 1024;
/// Between two full steps of an inline context: 10 us and less at 2.4 GHz and more. Longer than an
/// answer over UDP takes, so that who asked, and had a step then, is not in the next one when it
/// comes.
const look_ticks = 24_000;
/// A message that has come does not wait for a full step, unless that is due for so long.
const late_ticks = 2 * look_ticks;
/// How long one look at lent agents goes on while nothing comes, before the event loop's other work
/// has its turn: some times what such a turn costs by itself.
const linger_ticks = 12_000;
/// Most steps of a native thread for JavaScript in one go: far more than a window of datagrams.
const stand_in_steps = 64;
/// Sockets that a sleeping thread is woken by; what is beyond is looked at when it wakes.
const fds_max = 4096;

pub const Context = struct {
    gpa: std.mem.Allocator,
    parsed: options_file.Parsed,
    waker_id: i32,
    wakers: *waker.WakerTable,
    armed: waker.Armed = .{},
    ip: u32 = 0,
    store: ?*Store = null,
    prefault: ?Prefault = null,
    channels: []*TxChannel = &.{},
    transmitters: []Transmitter = &.{},
    rx: ?*RxAgent = null,
    /// Who reads our windows in place, where somebody may.
    shm_receivers: ?ShmReceivers = null,
    shm_token: Token = .{},
    /// Passes rings on to the receive agent's thread, where that sleeps on sockets.
    relay: ?std.Thread = null,
    receive_region: ?region_file.Region = null,
    descriptor_region: ?region_file.Region = null,
    waiters: [2]?wait.Waiter = .{ null, null },
    threads: [2]?std.Thread = .{ null, null },
    stopping: std.atomic.Value(bool) = .init(false),
    draining: std.atomic.Value(bool) = .init(false),
    drain_until_ns: u64 = 0,
    tx_closed: std.atomic.Value(bool) = .init(false),
    rx_closed: std.atomic.Value(bool) = .init(false),
    interest: std.atomic.Value(bool) = .init(false),
    progressed: std.atomic.Value(bool) = .init(false),
    ordered_seen: u64 = 0,
    /// The native thread may leave its agents to JavaScript while that looks for messages.
    is_lending: bool = false,
    lending: Lending = .{},
    /// Of who looks on behalf of JavaScript: when everything was looked at last.
    step_ns: u64 = 0,
    step_ticks: u64 = 0,
    /// Key and time of the last line of level ERROR or FATAL.
    last_error_key: u32 = 0,
    last_error_ms: u64 = 0,
    /// What other processes may read of it.
    counters: ?Counters = null,

    pub fn o(self: *const Context) *const options_file.Options {
        return &self.parsed.value;
    }

    pub fn is_inline(self: *const Context) bool {
        return self.o().threading == .@"inline";
    }

    // ---------------------------------------------------------------- running

    /// What a native thread runs.
    const Role = enum { all, tx, rx };

    pub fn spawn(self: *Context) !void {
        self.is_lending = self.may_lend();
        const roles: []const Role = switch (self.o().threading) {
            .@"inline" => &.{},
            .shared => &.{.all},
            .dedicated => if (self.rx == null)
                &.{.tx}
            else if (self.channels.len == 0)
                &.{.rx}
            else
                &.{ .tx, .rx },
        };
        for (roles, 0..) |role, i| {
            const waiter = &self.waiters[i].?;
            if (role == .tx or !self.reads_in_place()) continue;
            waiter.bell = &self.rx.?.windows.?.file.view.page.bell;
            var fds: [2]wait.PollFd = undefined;
            if (self.poll_fds(role, &fds) == 1) continue;
            waiter.is_relayed = true;
            self.relay = try std.Thread.spawn(
                .{ .stack_size = stack_bytes },
                wait.Waiter.relay,
                .{ waiter, waiter.bell.?.rings, &self.stopping },
            );
        }
        for (roles, 0..) |role, i| {
            self.threads[i] = try std.Thread.spawn(
                .{ .stack_size = stack_bytes },
                run,
                .{ self, role, &self.waiters[i].? },
            );
        }
    }

    /// A program that polls is not known to look again soon; who blocks wants no thread to look.
    fn may_lend(self: *const Context) bool {
        const rx = self.rx orelse return false;
        if (self.is_inline() or self.waker_id < 0 or rx.lanes.len > 0) return false;
        if (wait.Strategy.parse(self.o().waitStrategy).? == .block) return false;
        return self.o().deliver == .callback or self.o().deliver == .iterate;
    }

    /// Waiter of the thread that runs the receive agent.
    fn rx_waiter(self: *Context) *wait.Waiter {
        const last: usize = if (self.threads[1] != null) 1 else 0;
        return &self.waiters[last].?;
    }

    fn reads_in_place(self: *const Context) bool {
        const rx = self.rx orelse return false;
        return rx.windows != null;
    }

    fn run(self: *Context, role: Role, waiter: *wait.Waiter) void {
        cpu.name_current(switch (role) {
            .all => "rcm",
            .tx => "rcm-send",
            .rx => "rcm-receive",
        });
        cpu.precise_timers();
        const core = self.o().bindCoreId;
        if (role != .tx and core >= 0) {
            const errno = cpu.bind_current(@intCast(core));
            if (errno != 0) self.tell_bind(core, errno);
        }
        var fds: [fds_max]wait.PollFd = undefined;
        const count = self.poll_fds(role, &fds);
        while (!self.stopping.load(.acquire)) {
            if (role != .tx and self.lending.is_lent()) {
                if (self.lending.park(waiter)) self.stand_in(role);
                continue;
            }
            const now_ns = clock.monotonic_ns();
            const worked = self.step(now_ns, role);
            if (worked > 0) {
                waiter.busy();
                continue;
            }
            const sleep: Sleep = .{
                .context = self,
                .role = role,
                .now_ns = now_ns,
                .deadline_ns = self.deadline(now_ns, role),
            };
            _ = waiter.idle(now_ns, fds[0..count], sleep.deadline_ns, &sleep, Sleep.has_work);
        }
    }

    /// JavaScript runs something else: what has come is taken, and what is due is said. Where it
    /// was put aside in the middle of a look it gets the core to go on with it.
    fn stand_in(self: *Context, role: Role) void {
        const looks = self.lending.looks.load(.monotonic);
        for (0..stand_in_steps) |_| {
            if (!self.rx.?.token.is_free() or !self.lending.is_unused(looks)) return;
            if (self.step(clock.monotonic_ns(), role) == 0) return;
        }
    }

    fn tell_bind(self: *Context, core: i32, errno: u16) void {
        const rx = self.rx orelse return;
        rx.token.take();
        defer rx.token.give();
        rx.receiver.notices.log(.bind_core_failed, .warn, .{
            .args = .{ @floatFromInt(core), @floatFromInt(errno), 0, 0 },
        });
    }

    fn poll_fds(self: *Context, role: Role, fds: []wait.PollFd) usize {
        var n: usize = 1;
        const in = std.os.linux.POLL.IN;
        if (role != .rx) for (self.channels) |c| {
            if (n == fds.len) break;
            const repair = c.repair orelse continue;
            fds[n] = .{ .fd = repair.fd, .events = in, .revents = 0 };
            n += 1;
        };
        if (role != .tx) if (self.rx) |rx| {
            for (rx.sockets) |s| {
                if (n == fds.len) break;
                fds[n] = .{ .fd = s.socket.fd, .events = in, .revents = 0 };
                n += 1;
            }
            if (rx.tier) |tier| if (n + 2 <= fds.len) {
                fds[n] = .{ .fd = tier.repair.fd, .events = in, .revents = 0 };
                fds[n + 1] = .{ .fd = tier.group.fd, .events = in, .revents = 0 };
                n += 2;
            };
            if (n < fds.len) if (rx.control) |control| {
                fds[n] = .{ .fd = control.fd, .events = in, .revents = 0 };
                n += 1;
            };
        };
        return n;
    }

    /// One duty cycle over the agents of a role. The work count.
    fn step(self: *Context, now_ns: u64, role: Role) u32 {
        var work: u32 = 0;
        if (role != .rx) work += self.step_tx(now_ns);
        if (role != .tx) work += self.step_rx(now_ns);
        if (self.draining.load(.acquire)) self.advance_drain(now_ns, role);
        self.notify(role);
        return work;
    }

    fn step_tx(self: *Context, now_ns: u64) u32 {
        var work: u32 = 0;
        if (self.shm_receivers) |*shm| if (self.shm_token.try_take()) {
            defer self.shm_token.give();
            shm.step(now_ns);
        };
        for (self.channels, 0..) |c, place| {
            if (!c.token.try_take_unwanted()) {
                work += 1;
                continue;
            }
            defer c.token.give();
            work += c.step(now_ns);
            if (self.counters) |*k| k.after_tx(self, place, now_ns);
            if (!c.take_progress()) continue;
            barrier.full(); // JavaScript stores its interest, then reads the cursors.
            if (self.interest.load(.monotonic)) {
                self.progressed.store(true, .release);
                self.armed.notify(self.wakers, @intCast(self.waker_id));
            }
        }
        return work;
    }

    fn step_rx(self: *Context, now_ns: u64) u32 {
        const rx = self.rx orelse return 0;
        if (!rx.token.try_take_unwanted()) return 1;
        defer rx.token.give();
        const work = rx.step(now_ns);
        if (self.counters) |*k| k.after_rx(self, now_ns);
        return work;
    }

    /// Wakes JavaScript when there is something for it: messages, events, log lines.
    fn notify(self: *Context, role: Role) void {
        var wake = false;
        var has_messages = false;
        if (role != .rx) for (self.channels) |c| {
            if (!c.sender.notices.empty()) wake = true;
        };
        if (role != .tx) if (self.rx) |rx| {
            if (!rx.receiver.notices.empty()) wake = true;
            if (rx.tier) |tier| if (tier.command_waits.load(.monotonic)) {
                wake = true;
            };
            const ordered = rx.log.ordered_next();
            if (rx.lanes.len > 0) {
                has_messages = lanes_file.notify(self, rx.lanes);
            } else if (results_of(rx)) |r| {
                has_messages = r.has_work();
            } else if (ordered != self.ordered_seen) {
                self.ordered_seen = ordered;
                // JavaScript may have looked itself meanwhile, and have processed them.
                has_messages = ordered != rx.taken_next();
            }
        };
        if (!(wake or has_messages) or self.waker_id < 0 or !self.armed.take()) return;
        // JavaScript comes soon and looks itself: until then this thread does not take its core.
        if (has_messages and self.is_lending and !self.draining.load(.monotonic)) {
            self.lending.lend();
        }
        self.wakers.wake(@intCast(self.waker_id));
    }

    /// What a thread knows when it goes to sleep, to be looked at once more just before.
    const Sleep = struct {
        context: *Context,
        role: Role,
        now_ns: u64,
        deadline_ns: ?u64,

        fn has_work(self: *const Sleep) bool {
            const c = self.context;
            if (c.stopping.load(.acquire)) return true;
            if (self.role != .rx) for (c.channels) |channel| {
                if (channel.has_work()) return true;
            };
            if (self.role != .tx) if (c.rx) |rx| if (rx.has_work()) return true;
            // Who sent in its own thread may have left heartbeats to this one.
            const fresh_ns = c.deadline(self.now_ns, self.role) orelse return false;
            return fresh_ns < self.deadline_ns orelse return true;
        }
    };

    fn deadline(self: *Context, now_ns: u64, role: Role) ?u64 {
        var at: u64 = std.math.maxInt(u64);
        if (role != .rx) for (self.channels) |c| {
            at = @min(at, c.next_deadline_ns(now_ns));
        };
        if (role != .tx) if (self.rx) |rx| {
            at = @min(at, rx.next_deadline_ns(now_ns));
        };
        if (self.counters) |*k| {
            if (role != .rx) if (k.tx_deadline_ns(self)) |due_ns| {
                at = @min(at, due_ns);
            };
            if (role != .tx and self.rx != null) if (k.rx_deadline_ns(self)) |due_ns| {
                at = @min(at, due_ns);
            };
        }
        if (self.draining.load(.acquire) and !self.is_drained()) {
            at = @min(at, now_ns + clock.ns_per_ms);
        }
        return if (at == std.math.maxInt(u64)) null else at;
    }

    /// Inline contexts: the caller runs the agents. The work count.
    pub fn work_inline(self: *Context) u32 {
        if (!self.is_inline()) return 0;
        return self.full_step();
    }

    fn full_step(self: *Context) u32 {
        self.step_ticks = clock.ticks();
        self.step_ns = clock.monotonic_ns();
        return self.step(self.step_ns, .all);
    }

    /// Inline contexts, for who asks for messages again and again: most looks are for messages
    /// alone, and everything else has its turn every few microseconds.
    pub fn look_inline(self: *Context, rx: *RxAgent, log: *const Log, wanted: u32) void {
        if (!self.is_inline()) return;
        const now_ticks = clock.ticks();
        const since_ticks = now_ticks -% self.step_ticks;
        if (since_ticks >= late_ticks) {
            _ = self.full_step();
            return;
        }
        if (log.ordered_next() - log.read_next() >= wanted) return;
        // No lock is needed: nobody but this thread runs the receive agent of an inline context.
        if (!rx.token.is_free()) return;
        if (rx.look(self.step_ns, now_ticks)) {
            if (rx.is_due()) _ = self.full_step();
            return;
        }
        // Losses are injected in steps alone.
        const is_due = since_ticks >= look_ticks or rx.injector != null;
        if (is_due or self.has_unsent()) _ = self.full_step();
        rx.has_looked = false;
    }

    /// Looks at agents that are lent, for a moment where nothing waits. They are asked for when
    /// JavaScript, awake, has processed all there was: then it will look again soon.
    fn look_lent(self: *Context, rx: *RxAgent, processed: u32, wanted: u32) void {
        const waiting = rx.log.ordered_next() != rx.log.read_next();
        if (!self.lending.is_lent()) {
            if (waiting or processed == 0 or wanted == 0 or !self.armed.is_awake()) return;
            if (self.draining.load(.monotonic)) return;
            self.lending.lend();
        }
        self.lending.note_look();
        const from_ticks = clock.ticks();
        var now_ticks = from_ticks;
        if (now_ticks -% self.step_ticks >= late_ticks) self.step_lent();
        while (rx.log.ordered_next() == rx.log.read_next()) {
            if (!rx.token.try_take()) {
                // The native thread is in its last step and may want this core.
                if (!self.lending.is_parked()) std.Thread.yield() catch {};
            } else {
                const came = rx.look(self.step_ns, now_ticks);
                const is_due = if (came) rx.is_due() else self.has_unsent() or
                    now_ticks -% self.step_ticks >= look_ticks;
                if (!is_due) rx.has_looked = false;
                rx.token.give();
                if (is_due) self.step_lent();
            }
            now_ticks = clock.ticks();
            if (now_ticks -% from_ticks >= linger_ticks) return;
        }
    }

    /// What the native thread would do; JavaScript needs not to be woken.
    fn step_lent(self: *Context) void {
        self.step_ticks = clock.ticks();
        self.step_ns = clock.monotonic_ns();
        if (self.o().threading == .shared) _ = self.step_tx(self.step_ns);
        _ = self.step_rx(self.step_ns);
    }

    /// Messages that were accepted and not sent, or whose sender waits for room.
    fn has_unsent(self: *Context) bool {
        for (self.channels) |c| if (c.is_pressed()) return true;
        return false;
    }

    // ---------------------------------------------------------------- delivery

    /// Of a tier whose leader's program replicates its results.
    pub fn results_of(rx: *const RxAgent) ?*TierResults {
        const tier = rx.tier orelse return null;
        return tier.host.results;
    }

    pub fn descriptors(self: *Context) []Descriptor {
        const bytes = self.descriptor_region.?.slice();
        const p: [*]Descriptor = @ptrCast(@alignCast(bytes.ptr));
        return p[0..abi.constants.descriptor_batch];
    }

    /// Marks messages as processed and fills descriptors of those that follow.
    pub fn drain(self: *Context, processed: u32, max: u32) ?u32 {
        const rx = self.rx orelse return 0;
        if (rx.is_manual) return self.drain_manual(rx, processed, max);
        if (results_of(rx)) |r| return r.drain(self, rx, processed, max);
        const log = rx.log;
        const at = log.processed_next();
        if (processed > log.read_next() - at) return null;
        if (processed > 0) {
            self.note_processed(rx, log, self.descriptors()[0..processed]);
            log.processed(at + processed);
            if (rx.windows != null) self.tell_processed(rx);
        }
        self.look(rx, processed, max);
        if (log.read_next() != log.processed_next()) log.rewind();
        return self.hand_over(log, max);
    }

    pub fn look(self: *Context, rx: *RxAgent, processed: u32, max: u32) void {
        if (self.is_lending) return self.look_lent(rx, processed, max);
        self.look_inline(rx, rx.log, max);
    }

    fn hand_over(self: *Context, log: *Log, max: u32) u32 {
        const filled = log.fill(self.descriptors(), max);
        if (log.latency) |l| if (filled > 0) l.reach(log.read_next(), clock.monotonic_ns());
        return filled;
    }

    /// The same where `ack` tells what was processed: `accepted` messages were handed over for
    /// good.
    fn drain_manual(self: *Context, rx: *RxAgent, accepted: u32, max: u32) ?u32 {
        const at = rx.delivered.load(.monotonic);
        if (accepted > rx.log.read_next() - at) return null;
        if (accepted > 0) rx.delivered.store(at + accepted, .release);
        self.look(rx, accepted, max);
        return self.hand_over(rx.log, max);
    }

    /// The program has processed everything below `next`. False: it was not handed so much.
    pub fn ack(self: *Context, next: u64) bool {
        const rx = self.rx orelse return false;
        if (!rx.is_manual or next > rx.log.read_next()) return false;
        manual_ack.process(rx, next);
        return true;
    }

    /// Positions of streams move on; who is read in place is told, once for a run of messages.
    pub fn note_processed(
        self: *Context,
        rx: *RxAgent,
        log: *const Log,
        done: []const Descriptor,
    ) void {
        _ = self;
        for (done, 1..) |*d, next| {
            if (next < done.len and done[next].stream == d.stream) continue;
            const msg_next = log.header_of(d).msg_no + 1;
            rx.delivered_next[d.stream] = msg_next;
            if (d.region == 0) continue;
            const slot = rx.receiver.streams[d.stream].slot.?;
            @atomicStore(u64, &slot.consumed, msg_next, .release);
        }
    }

    /// What waited for that is taken now.
    pub fn tell_processed(self: *Context, rx: *RxAgent) void {
        barrier.full(); // The agent stores that it is stalled, then looks at what is processed.
        if (!rx.stalled.load(.monotonic)) return;
        for (&self.waiters) |*w| if (w.*) |*waiter| {
            _ = waiter.wake_if_sleeping();
        };
    }

    /// Memory of a window that is read in place, by its number in descriptors.
    pub fn shared_region(self: *Context, number: u32) ?[]const u8 {
        const rx = self.rx orelse return null;
        const windows = if (rx.windows) |*w| w else return null;
        rx.token.take();
        defer rx.token.give();
        return windows.region(number);
    }

    /// Something was changed under the receive agent's token: its thread looks at once.
    pub fn look_now(self: *Context) void {
        for (&self.waiters) |*w| if (w.*) |*waiter| {
            _ = waiter.wake_if_sleeping();
        };
    }

    /// JavaScript goes to sleep unless something waits for it.
    pub fn arm(self: *Context) bool {
        self.armed.arm();
        // Not earlier: the thread, which may take this core at once, shall know whom to wake.
        if (self.is_lending) self.lending.give_back(self.rx_waiter());
        if (!self.something_waits()) return false;
        _ = self.armed.disarm();
        return true;
    }

    fn something_waits(self: *Context) bool {
        if (self.progressed.swap(false, .acq_rel)) return true;
        for (self.channels) |c| if (!c.sender.notices.empty()) return true;
        const rx = self.rx orelse return false;
        if (!rx.receiver.notices.empty()) return true;
        if (rx.tier) |tier| if (tier.command_waits.load(.acquire)) return true;
        if (results_of(rx)) |r| return r.has_work();
        if (rx.lanes.len == 0) return rx.log.ordered_next() != rx.taken_next();
        for (rx.lanes) |*lane| if (lane.waits_for_own()) return true;
        return lanes_file.any_fault(self);
    }

    /// The program has made a transaction. Its thread.
    pub fn tell_made(self: *Context) void {
        barrier.full(); // The agent's thread stores that it sleeps, then looks at what was made.
        for (&self.waiters) |*w| if (w.*) |*waiter| {
            _ = waiter.wake_if_sleeping();
        };
    }

    /// The context's own thread has something to look at that came from another one. Any thread.
    pub fn call_own(self: *Context) void {
        if (self.waker_id < 0) return;
        self.progressed.store(true, .release);
        self.armed.notify(self.wakers, @intCast(self.waker_id));
    }

    pub fn notices(self: *Context, out: []abi.Notice) u32 {
        var n: u32 = 0;
        for (self.channels) |c| n += c.sender.notices.pop(out[n..]);
        if (self.rx) |rx| n += rx.receiver.notices.pop(out[n..]);
        for (out[0..n]) |*notice| self.note_error(notice);
        return n;
    }

    /// For the statistics: the last line of level ERROR or FATAL.
    fn note_error(self: *Context, notice: *const abi.Notice) void {
        if (notice.kind != @backingInt(abi.NoticeKind.log)) return;
        const is_error = notice.level == @backingInt(abi.LogLevel.err) or
            notice.level == @backingInt(abi.LogLevel.fatal);
        if (!is_error) return;
        const now_ms = clock.monotonic_ns() / clock.ns_per_ms;
        @atomicStore(u32, &self.last_error_key, notice.code, .monotonic);
        @atomicStore(u64, &self.last_error_ms, now_ms, .monotonic);
    }

    // ---------------------------------------------------------------- of a tier

    /// Of a member of a tier that sends (guide 9.9.1): it leads from now on, or follows, in the
    /// reign of `epoch`. Called with each change of the role, by the thread that runs the tier.
    pub fn set_tier_role(self: *Context, is_leader: bool, epoch: Epoch) void {
        for (self.channels) |c| c.set_tier_role(is_leader, epoch);
        // Whoever sleeps has something to announce.
        if (self.waiters[0]) |*w| _ = w.wake_if_sleeping();
    }

    /// The host of `TxPositions`: what the leader tells of its windows, and what a follower hears.
    pub fn tx_count(self: *const Context) u32 {
        return @intCast(self.channels.len);
    }

    pub fn tx_position(self: *const Context, index: u32) TxPosition {
        const c = self.channels[index];
        return .{ .transport = c.transport, .acked = c.window.acked() };
    }

    pub fn tx_told(self: *Context, transport: u16, acked: u64) void {
        for (self.channels) |c| if (c.transport == transport) c.tell_acked(acked);
    }

    // ---------------------------------------------------------------- state

    pub fn state(self: *Context) u32 {
        var bits: u32 = 0;
        for (self.channels) |c| {
            if (c.sender.phase == .handshake) bits |= @backingInt(abi.ContextState.handshaking);
        }
        if (self.draining.load(.acquire)) bits |= @backingInt(abi.ContextState.draining);
        if (self.is_drained()) bits |= @backingInt(abi.ContextState.drained);
        if (lanes_file.any_visitor(self)) bits |= @backingInt(abi.ContextState.visited);
        return bits;
    }

    fn is_drained(self: *Context) bool {
        return self.tx_closed.load(.acquire) and self.rx_closed.load(.acquire);
    }

    /// Begin of the end: nothing more is accepted; what was accepted goes out and is acknowledged.
    pub fn begin_drain(self: *Context) void {
        if (self.draining.load(.acquire)) return;
        var longest_ms: u64 = 0;
        for (self.o().tx) |tx| for (tx.partitions) |p| {
            longest_ms = @max(longest_ms, p.ackTimeoutMs);
        };
        self.drain_until_ns = clock.monotonic_ns() + longest_ms * clock.ns_per_ms;
        for (self.channels) |c| c.want_ack.store(true, .monotonic);
        self.draining.store(true, .seq_cst);
        lanes_file.wake_all(self);
        if (self.is_lending) self.lending.give_back(self.rx_waiter());
        for (&self.waiters) |*w| if (w.*) |*x| x.wake();
    }

    fn advance_drain(self: *Context, now_ns: u64, role: Role) void {
        if (role != .rx and !self.tx_closed.load(.acquire)) {
            var done = true;
            for (self.channels) |c| {
                if (c.is_drained()) continue;
                done = false;
                c.want_ack.store(true, .monotonic);
            }
            if (done or now_ns >= self.drain_until_ns) self.close_tx(now_ns);
        }
        if (self.channels.len == 0) self.tx_closed.store(true, .release);
        // The receiver acknowledges until its own senders are done: it may be its own sender's
        // receiver.
        if (role != .tx and self.tx_closed.load(.acquire) and !self.rx_closed.load(.acquire)) {
            if (self.rx) |rx| {
                rx.token.take();
                defer rx.token.give();
                rx.receiver.close();
                rx.say_goodbye(now_ns);
            }
            self.rx_closed.store(true, .release);
        }
        if (self.rx == null) self.rx_closed.store(true, .release);
        if (self.is_drained() and self.waker_id >= 0) {
            self.progressed.store(true, .release);
            self.armed.notify(self.wakers, @intCast(self.waker_id));
        }
    }

    fn close_tx(self: *Context, now_ns: u64) void {
        for (self.channels) |c| {
            c.token.take();
            defer c.token.give();
            if (!c.is_drained()) c.sender.notices.log(.drain_incomplete, .warn, .{
                .transport = c.transport,
                .args = .{
                    @floatFromInt(c.window.acked()),
                    @floatFromInt(c.window.written()),
                    0,
                    0,
                },
            });
            c.sender.close(now_ns);
            _ = c.flush(now_ns);
        }
        self.tx_closed.store(true, .release);
    }

    /// Ends threads and gives everything back; the files in /dev/shm stay. Views stay readable.
    pub fn close(self: *Context) void {
        self.stopping.store(true, .release);
        for (&self.waiters) |*w| if (w.*) |*x| x.wake();
        if (self.relay) |thread| {
            wait.ring(&self.rx.?.windows.?.file.view.page.bell);
            thread.join();
        }
        self.relay = null;
        for (&self.threads) |*t| {
            if (t.*) |thread| thread.join();
            t.* = null;
        }
        if (self.rx) |rx| if (rx.record) |record_agent| record_agent.join();
        for (&self.waiters) |*w| if (w.*) |*x| {
            x.deinit();
            w.* = null;
        };
        self.release();
    }

    /// Gives back what `start` has taken so far, in reverse order.
    pub fn release(self: *Context) void {
        const gpa = self.gpa;
        var record_agent: ?*RecordAgent = null;
        if (self.counters) |*k| k.close(gpa);
        if (self.shm_receivers) |*shm| shm.deinit();
        if (self.rx) |rx| {
            rx.deinit(gpa);
            if (rx.lanes.len > 0) lanes_file.free(gpa, rx.lanes) else {
                rx.holding.deinit(gpa);
                rx.log.deinit(gpa);
                context_start.free_pools(gpa, .{ rx.pool, rx.holding_pool });
                gpa.destroy(rx.holding);
                gpa.destroy(rx.log);
            }
            record_agent = rx.record;
            gpa.destroy(rx);
        }
        for (self.transmitters) |*t| {
            t.own.bump.close();
            gpa.free(t.channels);
        }
        gpa.free(self.transmitters);
        for (self.channels) |c| {
            c.deinit(gpa);
            gpa.destroy(c);
        }
        gpa.free(self.channels);
        if (self.prefault) |*p| p.end();
        if (self.store) |s| s.close();
        if (self.receive_region) |r| region_file.release(r);
        // Files are cut to what is in use: nothing may be mapped from them any more.
        if (record_agent) |r| {
            r.deinit(gpa);
            gpa.destroy(r);
        }
        if (self.descriptor_region) |r| region_file.release(r);
        self.parsed.deinit();
        gpa.destroy(self);
    }
};
