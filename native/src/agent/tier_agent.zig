//! A context's part in its tier: the tier's sockets, the member that decides, and the log, stage
//! and files that it decides over. Run by the receive agent, in each of its steps.
//!
//! Two sockets: one in the tier's group, and one of this member's own (`SyncRepairPort...`), from
//! which everything is sent, to the group too: so the others know where to answer.
//!
//! The arbiter (JavaScript) is spoken to through `view`, `answer` and `command`, by whoever holds
//! the receive agent's token.

const std = @import("std");
const linux = std.os.linux;
const abi = @import("../abi.zig");
const assert = @import("../assert.zig").assert;
const frame = @import("../wire/frame.zig");
const seal = @import("../wire/seal.zig");
const limits = @import("../limits.zig");
const udp = @import("../transport/udp.zig");
const address = @import("../transport/address.zig");
const clock = @import("clock.zig");
const files = @import("../window/files.zig");
const tree = @import("../tier/tree.zig");
const member_file = @import("../tier/member.zig");
const state_file = @import("../tier/state_file.zig");
const options_file = @import("options.zig");
const recorder_file = @import("../order/recorder.zig");
const arbiter_file = @import("../arbiter/agent.zig");
const TierTx = @import("tier_tx.zig").TierTx;
const Context = @import("context.zig").Context;
const TierHost = @import("tier_host.zig").TierHost;
const TierResults = @import("tier_results.zig").TierResults;
const RecordAgent = @import("record_agent.zig").RecordAgent;
const RxAgent = @import("rx_agent.zig").RxAgent;
const ChunkPool = @import("../window/pool.zig").ChunkPool;
const results_key = @import("../session/stream.zig").results_key;
const Failure = udp.Failure;

pub const Member = member_file.Member(TierHost);

const receives_per_step = 32;
/// Of the member's own socket, where the kernel grants it: what is under way to a member that
/// catches up must last until its thread and the leader's have had their cores.
const own_buffer_bytes_min = 2 * 1024 * 1024;
const sends_per_step = 128;
/// How soon what waits for the program's progress is looked at again.
const feed_every_ns = clock.ns_per_ms;
const beats_per_session = 16;

pub const TierAgent = struct {
    gpa: std.mem.Allocator,
    host: TierHost,
    member: Member,
    group: udp.Receiver,
    repair: udp.Endpoint,
    folder: files.Folder,
    /// Of a context that records nothing on disk: its log is in files in memory all the same.
    own_recorder: ?*recorder_file.Recorder,
    members: []member_file.MemberOptions,
    image: []align(8) u8,
    /// Of a member that sends too.
    tx: ?TierTx = null,
    /// Its lease says until when the session is surely alive.
    arbiter: ?*arbiter_file.Agent = null,
    /// The arbiter has something to do. Read by any thread.
    command_waits: std.atomic.Value(bool) = .init(false),
    is_left: bool = false,
    received_bytes: u64 = 0,
    received_datagrams: u64 = 0,
    sent_datagrams: u64 = 0,
    sent_bytes: u64 = 0,
    send_failures: u64 = 0,
    last_send_ns: u64 = 0,
    last_errno: u16 = 0,

    // ---------------------------------------------------------------- start

    pub const Start = struct {
        o: *const options_file.Options,
        tier: *const options_file.Tier,
        rx: *RxAgent,
        /// Whose senders lead and follow with the member; null: it has none.
        context: ?*Context,
        group_key: ?seal.GroupKey = null,
        seed: u64,
    };

    pub const Error = error{ Argument, Socket, Shm, OutOfMemory };

    /// `rx` is complete, but has no streams yet; its log is recorded, or will be in memory.
    pub fn create(gpa: std.mem.Allocator, s: Start, failure: *Failure) Error!*TierAgent {
        const self = try gpa.create(TierAgent);
        errdefer gpa.destroy(self);
        self.* = .{
            .gpa = gpa,
            .host = undefined,
            .member = undefined,
            .group = undefined,
            .repair = undefined,
            .folder = try .open(s.tier.stateDirectory, s.o.name, failure),
            .own_recorder = null,
            .members = &.{},
            .image = &.{},
        };
        errdefer self.folder.close();
        try self.open_sockets(s.tier, s.o, failure);
        errdefer self.close_sockets();
        const sizes: frame.Sizes = .init(s.tier.mtu, s.group_key != null);
        self.image = try gpa.alignedAlloc(u8, .@"8", sizes.datagram_bytes);
        errdefer gpa.free(self.image);
        try self.start_host(s, failure);
        errdefer self.end_host();
        try self.start_member(s, failure);
        const context = s.context orelse return self;
        self.tx = TierTx.init(gpa, context) catch |e| {
            self.member.deinit(gpa);
            gpa.free(self.members);
            return e;
        };
        self.host.tx = .{ .context = &self.tx.?, .call = TierTx.hear };
        return self;
    }

    /// Before the log, the receiver and the pools go.
    pub fn destroy(self: *TierAgent) void {
        const gpa = self.gpa;
        self.bind(null);
        if (self.tx) |*tx| tx.deinit(gpa);
        self.member.deinit(gpa);
        gpa.free(self.members);
        if (self.host.results) |r| r.destroy();
        self.host.close_clean();
        self.end_host();
        gpa.free(self.image);
        self.close_sockets();
        self.folder.close();
        gpa.destroy(self);
    }

    fn open_sockets(
        self: *TierAgent,
        t: *const options_file.Tier,
        o: *const options_file.Options,
        failure: *Failure,
    ) Error!void {
        const ip_text = if (t.ip.len > 0) t.ip else o.ip;
        const ip = address.resolve_local(ip_text, failure) catch return error.Socket;
        const group_ip = address.parse_ip(t.addr) orelse {
            failure.set("SyncAddr \"{s}\" is not an IPv4 address", .{t.addr});
            return error.Argument;
        };
        const group: udp.Address = .init(group_ip, t.port);
        if (!group.is_multicast()) {
            failure.set("SyncAddr \"{s}\" is not a multicast group", .{t.addr});
            return error.Argument;
        }
        const repair = if (t.repairPort != 0)
            udp.open_repair_fixed(ip, t.repairPort, failure)
        else
            udp.open_repair(ip, t.repairPortStart, t.repairPortEnd, failure);
        self.repair = repair catch return error.Socket;
        errdefer udp.close(self.repair.fd);
        // Members on this machine hear each other where that is asked for.
        const errno = udp.send_to_groups(self.repair.fd, .{
            .interface_ip = ip,
            .ttl = @intCast(@min(t.ttl, 255)),
            .loop = t.mcLoop or t.useSameMachine,
            .receive_buffer_bytes = @max(t.socketBufferBytes, own_buffer_bytes_min),
        });
        if (errno != 0) {
            failure.set_errno(errno, "cannot send to {f} on the interface of {f}", .{
                group, address.Ip{ .ip = ip },
            });
            return error.Socket;
        }
        self.group = udp.open_group_receiver(group, ip, t.socketBufferBytes, failure) catch
            return error.Socket;
        udp.leave_apart(self.group.fd);
    }

    fn close_sockets(self: *TierAgent) void {
        udp.close(self.group.fd);
        udp.close(self.repair.fd);
    }

    fn start_host(self: *TierAgent, s: Start, failure: *Failure) Error!void {
        const gpa = self.gpa;
        const rx = s.rx;
        const record = rx.record;
        if (record == null) {
            const recorder = try gpa.create(recorder_file.Recorder);
            errdefer gpa.destroy(recorder);
            recorder.* = try .init(gpa, rx.pool, .{
                .context = s.o.name,
                .context_id = s.o.id,
                .file_bytes = 0,
                .life = files.random_u64(),
            }, null);
            self.own_recorder = recorder;
            rx.log.record_with(recorder);
        }
        errdefer self.end_recorder();
        const is_on_disk = if (record) |r| r.recording.recorder.current != null else false;
        const is_forced = s.o.recordSync == .commit and is_on_disk;
        const kept: state_file.StateFile = try .open(&self.folder, .{
            .is_recorded = is_on_disk,
            .is_forced = is_forced,
            .next_sqn = if (record) |r| r.recording.found.next_sqn else 0,
            .is_damaged = if (record) |r| r.recording.found.damage != null else false,
        }, state_file.boot_id_now(), failure);
        const holding = rx.holding_pool;
        errdefer kept.file.close();
        try self.host.init(gpa, rx.log, &rx.receiver, holding, kept, .{
            .stage_bytes = holding.bytes / 2,
            .limit_count = s.tier.rmsLimitCount,
            .is_observer = s.tier.isObserver,
            .from_sqn = rx.log.next(),
            .found = if (record) |r| &r.recording.found else null,
            .folder = if (record) |r| &r.disk.folder else null,
            .is_forced = is_forced,
        });
    }

    fn end_host(self: *TierAgent) void {
        self.host.deinit();
        self.end_recorder();
    }

    fn end_recorder(self: *TierAgent) void {
        const recorder = self.own_recorder orelse return;
        recorder.deinit(self.gpa);
        self.gpa.destroy(recorder);
        self.own_recorder = null;
    }

    fn start_member(self: *TierAgent, s: Start, failure: *Failure) Error!void {
        const gpa = self.gpa;
        const t = s.tier;
        const ms = clock.ns_per_ms;
        self.members = try gpa.alloc(member_file.MemberOptions, t.members.len);
        errdefer gpa.free(self.members);
        var own: ?u32 = null;
        for (t.members, self.members, 0..) |*m, *out, i| {
            out.* = .{ .id = m.id, .name = m.name };
            if (m.id == s.o.id) own = @intCast(i);
        }
        if (t.members.len == 0 or t.members.len > tree.members_max or
            (own == null) != t.isObserver)
        {
            failure.set("tier {s}: {d} members, and context {s} is {s} of them", .{
                t.name, t.members.len, s.o.name, if (own == null) "none" else "one",
            });
            return error.Argument;
        }
        const config_hash = std.fmt.parseInt(u64, t.configHash, 16) catch {
            failure.set("configHash \"{s}\" is not a number", .{t.configHash});
            return error.Argument;
        };
        self.member = try .init(gpa, .{
            .cluster = s.o.clusterId,
            .members = self.members,
            .self = own,
            .id = s.o.id,
            .ack_count = t.ackCount,
            // A transaction is given to others when it is committed, whatever is configured.
            .use_committed = t.useCommitted or t.syncMode != 0,
            .is_batched = t.asynchronousSqn,
            .sync_max_diff = t.syncMaxDiff,
            .send_window = t.sendWindowSize,
            .heartbeat_interval_ns = t.heartbeatIntervalMs * ms,
            .heartbeat_timeout_ns = t.heartbeatTimeoutMs * ms,
            .ack_interval_ns = t.ackIntervalMs * ms,
            .ack_timeout_ns = t.ackTimeoutMs * ms,
            .start_timeout_ns = t.startTimeoutMs * ms,
            .session_timeout_ns = t.sessionTimeoutMs * ms,
            .policy = t.policy,
            .config_hash = config_hash,
            .datagram_bytes = @intCast(self.image.len),
            .group_key = s.group_key,
            // Half of what the kernel keeps: entries and questions come by the same socket.
            .pull_window_bytes = udp.receive_buffer(self.repair.fd),
            .seed = s.seed,
        }, &self.host, &s.rx.receiver.notices);
        const nonce_mask = (1 << 53) - 1;
        const nonce = @max(1, files.random_u64() & nonce_mask);
        self.member.start(clock.monotonic_ns(), self.host.state.durable(), nonce);
    }

    // ---------------------------------------------------------------- steps

    /// One step; the caller holds the receive agent's token. The work count.
    pub fn step(self: *TierAgent, now_ns: u64, wall_ms: u64, buffer: []align(8) u8) u32 {
        if (self.arbiter) |a| a.lease.beat();
        var work = self.host.step(now_ns);
        work += self.receive(now_ns, self.repair.fd, buffer);
        work += self.receive(now_ns, self.group.fd, buffer);
        self.host.stage.is_leader = self.member.phase == .leading;
        const before = self.host.next();
        if (self.host.results) |r| r.logic.note_handled(r);
        self.member.tick(now_ns, wall_ms, self.lease_until(now_ns));
        if (self.host.results) |r| work += self.look_at_results(r);
        work += @intFromBool(self.host.next() != before);
        if (self.tx) |*tx| tx.step(now_ns, self);
        work += self.flush(now_ns);
        self.note_command();
        return work;
    }

    fn look_at_results(self: *TierAgent, r: *TierResults) u32 {
        const m = &self.member;
        const was_open = r.logic.is_open;
        const work = self.host.look_at_results(r, .{
            .is_leading = m.phase == .leading,
            .epoch = m.epoch,
            .first = m.first,
            .committed = m.committed,
        });
        if (r.logic.is_open and !was_open) m.notices.log(.tier_results_open, .imp, .{ .args = .{
            @floatFromInt(m.epoch.number),
            @floatFromInt(r.logic.next_no),
            @floatFromInt(r.logic.carried),
            0,
        } });
        const is_over = m.phase == .separate or m.phase == .left;
        if (!is_over and r.has_lost()) m.separate(self.host.next(), self.host.next() + 1);
        return work;
    }

    fn receive(self: *TierAgent, now_ns: u64, fd: i32, buffer: []align(8) u8) u32 {
        var n: u32 = 0;
        while (n < receives_per_step) : (n += 1) {
            const got = udp.recv_from(fd, buffer) orelse break;
            self.received_bytes += got.len;
            self.received_datagrams += 1;
            self.member.on_datagram(now_ns, got.from, buffer[0..got.len]);
        }
        return n;
    }

    /// The lease on this clock. A leader reads it in each step: a suspended machine's clock stood
    /// still, the session's did not.
    fn lease_until(self: *const TierAgent, now_ns: u64) u64 {
        const a = self.arbiter orelse return 0;
        const until_ns = a.lease.until_ns.load(.acquire);
        if (until_ns == 0) return 0;
        return now_ns + (until_ns -| clock.boottime_ns());
    }

    fn flush(self: *TierAgent, now_ns: u64) u32 {
        var n: u32 = 0;
        while (n < sends_per_step) : (n += 1) {
            const send = self.poll_send(now_ns) orelse break;
            const to = send.to orelse self.group.address;
            const r = udp.send_to(self.repair.fd, to, self.image[0..send.bytes]);
            // What the kernel does not take is lost like on the wire.
            if (r.lost_datagrams > 0 or r.would_block) {
                self.send_failures += 1;
                self.last_errno = r.errno;
                if (r.would_block) break;
                continue;
            }
            self.last_send_ns = now_ns;
            self.sent_datagrams += 1;
            self.sent_bytes += send.bytes;
        }
        return n;
    }

    fn poll_send(self: *TierAgent, now_ns: u64) ?member_file.Send {
        var send = self.member.poll_send(now_ns, self.image) orelse self.poll_tx(now_ns) orelse
            return null;
        send.bytes = self.member.finish(self.image, send.bytes);
        return send;
    }

    fn poll_tx(self: *TierAgent, now_ns: u64) ?member_file.Send {
        const tx = if (self.tx) |*tx| tx else return null;
        const image = self.image[0..self.member.o.datagram_bytes];
        const bytes = tx.poll_send(now_ns, self, image) orelse return null;
        return .{ .to = null, .bytes = bytes };
    }

    fn note_command(self: *TierAgent) void {
        const waits = self.member.has_command();
        if (waits != self.command_waits.raw) self.command_waits.store(waits, .release);
    }

    pub fn next_deadline_ns(self: *const TierAgent, now_ns: u64) u64 {
        // The heart beats in each step, and must not stand still for a third of the session's time.
        const beat_ns = self.member.o.session_timeout_ns / beats_per_session;
        var at = @min(self.member.next_deadline_ns(now_ns), now_ns + beat_ns);
        const told_to = if (self.host.results) |r| r.logic.told else self.host.committed_sqn;
        const waits = !self.host.tier_log.is_attached or self.host.told_sqn < told_to or
            self.waits_for_program();
        if (waits) at = @min(at, now_ns + feed_every_ns);
        if (self.tx) |*tx| at = @min(at, tx.next_deadline_ns());
        return at;
    }

    /// What the program applies, handles and makes, it does without a word to this thread.
    fn waits_for_program(self: *const TierAgent) bool {
        const r = self.host.results orelse return false;
        if (r.logic.scanned != self.member.committed) return true;
        if (r.logic.is_open) return r.logic.told < r.logic.message_end;
        return self.member.phase == .leading;
    }

    // ---------------------------------------------------------------- results

    /// Once the streams of the record are known.
    pub fn start_results(
        self: *TierAgent,
        t: *const options_file.Tier,
        rx: *RxAgent,
        failure: *Failure,
    ) Error!void {
        if (t.syncMode == 0) {
            if (rx.receiver.find(results_key) == null) return;
            failure.set("tier {s}: the record has transactions of SyncMode 1 or 2, and SyncMode " ++
                "is 0: go back, or move the record away", .{t.name});
            return error.Argument;
        }
        if (rx.receiver.o.channels.len == 0) {
            failure.set("tier {s}: SyncMode {d} needs RxTopics and a receiver", .{
                t.name, t.syncMode,
            });
            return error.Argument;
        }
        self.host.results = try .create(self.gpa, &self.host, &rx.receiver, .{
            .is_synchronous = t.syncMode == 1 and !t.tierAsync,
            .start_no = t.startTransNo,
        });
    }

    // ---------------------------------------------------------------- the arbiter

    /// The arbiter whose session this member has; it was retained for us. Null: none any more.
    pub fn bind(self: *TierAgent, agent: ?*arbiter_file.Agent) void {
        if (self.arbiter) |old| {
            old.lease.watch(false);
            old.release();
        }
        self.arbiter = agent;
        if (agent) |a| a.lease.watch(true);
    }

    pub fn view(self: *TierAgent, v: *const tree.View) void {
        self.member.on_view(clock.monotonic_ns(), v);
        self.note_command();
    }

    pub fn answer(self: *TierAgent, a: *const tree.Answer) void {
        self.member.on_answer(clock.monotonic_ns(), a);
        self.note_command();
    }

    pub fn command(self: *TierAgent) ?tree.Command {
        const c = self.member.command();
        self.note_command();
        return c;
    }

    /// A clean stop.
    pub fn leave(self: *TierAgent) void {
        if (self.is_left) return;
        self.is_left = true;
        self.member.leave(clock.monotonic_ns());
        self.note_command();
    }

    pub fn state(self: *const TierAgent) abi.TierState {
        const m = &self.member;
        const epoch = m.epoch_now();
        const adopted = m.durable.adopted;
        const leader: u32 = switch (m.phase) {
            .leading => m.o.id,
            .following => m.leader_id,
            else => 0,
        };
        return .{
            .role = @backingInt(m.role()),
            .started = @intFromBool(m.is_started()),
            .failure = @backingInt(m.failed),
            .has_command = @intFromBool(m.has_command()),
            .epoch_number = epoch.number,
            .epoch_id = epoch.id,
            .adopted_number = adopted.number,
            .adopted_id = adopted.id,
            .next = self.host.next(),
            .committed = m.committed,
            .leader_id = leader,
            .is_intact = @intFromBool(m.durable.is_intact),
            .ip = self.repair.address.ip,
            .port = self.repair.address.port,
            .separate_from = m.separate_from,
            .separate_to = m.separate_to,
        };
    }
};
