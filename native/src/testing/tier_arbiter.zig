//! The arbiter of a simulated tier: the tree of versions and ephemeral nodes, sessions that expire
//! late or early, watches and answers that come late or never, and the client that each member has
//! of it. Carries out the commands of `tier/tree.zig`.

const std = @import("std");
const cluster_file = @import("tier_cluster.zig");
const scenario_file = @import("tier_scenario.zig");
const epochs = @import("../tier/epoch.zig");
const tree = @import("../tier/tree.zig");
const mishaps = @import("tier_mishaps.zig");
const Cluster = cluster_file.Cluster;
const Node = cluster_file.Node;

const nodes_max = scenario_file.nodes_max;
const members_max = scenario_file.members_max;
const ms = std.time.ns_per_ms;
/// Of a deliberate bug: whatever the version is.
const any_version = -1;

/// One member's client, and what the service knows of its session.
pub const Client = struct {
    /// 0: none. Sessions are numbered, so that an old one's ephemerals are told apart.
    session: u64 = 0,
    /// `classer/<me>` is ours.
    joined: bool = false,
    wants_since_ns: u64 = 0,
    /// The member's own view of the link.
    state: tree.Session = .suspended,
    answered_ns: u64 = 0,
    lease_until_ns: u64 = 0,
    cut: bool = false,
    watch_pending: bool = false,
    view_on_the_way: ?tree.View = null,
    view_again: bool = false,
    missed: bool = false,
    last_view: ?tree.View = null,
    /// What was asked, until it is answered.
    command: ?tree.Command = null,
    command_session: u64 = 0,
    tick_due_ns: u64 = 0,
    /// The epoch whose `running` it gave up last.
    resigned: epochs.Epoch = .{},
};

/// What the service knows of a session.
const Session = struct { heard_ns: u64, is_alive: bool };

pub const Arbiter = struct {
    /// By number; 0 is none.
    sessions: std.ArrayList(Session) = .empty,
    version: i32 = 0,
    candidate: u32 = tree.nobody,
    epoch: epochs.Epoch = .{},
    established_epoch: epochs.Epoch = .{},
    established_leader: u32 = 0,
    quorum: tree.Quorum = .{},
    running: u32 = tree.nobody,
    running_session: u64 = 0,
    classer: [members_max]u64 = @splat(0),
    clients: [nodes_max]Client = @splat(.{}),
    is_out: bool = false,
    /// The operator lets this member lead.
    forced: u32 = tree.nobody,
    /// Whom the operator's word has made a leader.
    obeyed: u32 = tree.nobody,
    wipes: u64 = 0,

    pub fn deinit(self: *Arbiter, gpa: std.mem.Allocator) void {
        self.sessions.deinit(gpa);
    }

    pub fn reaches(self: *const Arbiter, node: *const Node) bool {
        return !self.is_out and !self.clients[node.index].cut;
    }

    /// A process starts: a new client.
    pub fn start(self: *Arbiter, c: *Cluster, node: *Node) void {
        const old = self.clients[node.index];
        self.clients[node.index] = .{ .cut = old.cut, .wants_since_ns = c.now_ns };
        c.schedule(.client_tick, c.now_ns + c.dice.below(10 * ms), node.index, node.life, 0);
    }

    /// The process is gone. Its session ends at once if it said goodbye.
    pub fn leave(self: *Arbiter, c: *Cluster, node: *Node, goodbye: bool) void {
        const client = &self.clients[node.index];
        if (goodbye and self.lives(client.session)) self.end_session(c, client.session);
        client.command = null;
        client.view_on_the_way = null;
        client.joined = false;
    }

    /// Every T/4: the session lives, the lease is renewed, time-outs are noticed.
    pub fn client_tick(self: *Arbiter, c: *Cluster, node: *Node) void {
        const client = &self.clients[node.index];
        const t = c.scenario.session_timeout_ns;
        c.schedule(.client_tick, c.now_ns + t / 4, node.index, node.life, 0);
        if (!self.reaches(node)) {
            if (client.state == .connected and c.now_ns - client.answered_ns >= t / 3 * 2) {
                client.state = .suspended;
                self.tell_locally(c, node, .suspended);
            }
            return;
        }
        if (client.session != 0 and !self.lives(client.session)) {
            // Heard only now that the service is reached again.
            client.session = 0;
            client.joined = false;
            client.state = .expired;
            client.wants_since_ns = c.now_ns;
            if (client.command) |x| self.answer(c, node, x, .unknown);
            self.tell_locally(c, node, .expired);
            return;
        }
        const sent_local_ns = node.clock.local(c.now_ns);
        if (client.session == 0) self.connect(c, node);
        if (node.member < members_max and !self.join(c, node)) return;
        client.joined = true;
        self.sessions.items[client.session].heard_ns = c.now_ns;
        client.answered_ns = c.now_ns;
        client.lease_until_ns = sent_local_ns + t / 3 * 2;
        if (client.state != .connected or client.missed) {
            client.missed = false;
            client.state = .connected;
            self.watch(c, node, c.now_ns + c.scenario.arbiter_delay_ns);
        }
        // Drift and late checks at the service, never earlier than T.
        c.schedule(.expire, c.now_ns + t + self.lateness(c), node.index, client.session, 0);
    }

    fn lateness(self: *const Arbiter, c: *Cluster) u64 {
        _ = self;
        const late = c.scenario.late_expiry_ns;
        return c.scenario.session_timeout_ns / 10 + if (late > 0) c.dice.below(late) else 0;
    }

    fn connect(self: *Arbiter, c: *Cluster, node: *Node) void {
        const client = &self.clients[node.index];
        if (self.sessions.items.len == 0) self.add_session(c, false);
        client.session = self.sessions.items.len;
        self.add_session(c, true);
    }

    fn add_session(self: *Arbiter, c: *Cluster, is_alive: bool) void {
        self.sessions.append(c.gpa, .{ .heard_ns = c.now_ns, .is_alive = is_alive }) catch
            @panic("out of memory");
    }

    pub fn lives(self: *const Arbiter, session: u64) bool {
        return session != 0 and self.sessions.items[session].is_alive;
    }

    /// `classer/<me>`: ours, or another session's for now.
    fn join(self: *Arbiter, c: *Cluster, node: *Node) bool {
        const client = &self.clients[node.index];
        const holder = self.classer[node.member];
        if (holder == client.session) return true;
        if (holder != 0) {
            if (c.now_ns - client.wants_since_ns > 2 * c.scenario.session_timeout_ns +
                c.scenario.late_expiry_ns + c.scenario.session_timeout_ns / 10)
            {
                // "already running"
                node.is_refused = true;
                c.schedule(.step, c.now_ns, node.index, node.life, 0);
            }
            self.sessions.items[client.session].heard_ns = c.now_ns;
            const at_ns = c.now_ns + c.scenario.session_timeout_ns + self.lateness(c);
            c.schedule(.expire, at_ns, node.index, client.session, 0);
            return false;
        }
        self.classer[node.member] = client.session;
        mishaps.replaced(c, node);
        self.changed(c);
        return true;
    }

    /// The service looks whether a session has been silent for too long.
    pub fn expire(self: *Arbiter, c: *Cluster, session: u64) void {
        if (!self.lives(session)) return;
        const heard_ns = self.sessions.items[session].heard_ns;
        if (c.now_ns < heard_ns + c.scenario.session_timeout_ns) return;
        if (self.is_out) {
            // Nobody expires while the service is out: it gives everybody time to come back.
            c.schedule(.expire, c.now_ns + c.scenario.session_timeout_ns, 0, session, 0);
            return;
        }
        self.end_session(c, session);
    }

    /// Its ephemeral nodes are gone.
    pub fn end_session(self: *Arbiter, c: *Cluster, session: u64) void {
        self.sessions.items[session].is_alive = false;
        var any = false;
        if (self.running_session == session) {
            self.running = tree.nobody;
            self.running_session = 0;
            any = true;
        }
        for (&self.classer) |*holder| if (holder.* == session) {
            holder.* = 0;
            any = true;
        };
        if (any) self.changed(c);
    }

    /// The service lost everything, and its clients their sessions.
    pub fn wipe(self: *Arbiter, c: *Cluster) void {
        self.wipes += 1;
        c.model.relaxed = true;
        self.version = 0;
        self.candidate = tree.nobody;
        self.epoch = .{};
        self.established_epoch = .{};
        self.established_leader = 0;
        self.quorum = .{};
        self.running = tree.nobody;
        self.running_session = 0;
        self.forced = tree.nobody;
        self.classer = @splat(0);
        for (self.sessions.items) |*x| x.is_alive = false;
    }

    // ---- views

    pub fn changed(self: *Arbiter, c: *Cluster) void {
        for (c.nodes[0..c.node_count]) |*node| {
            if (!node.alive) continue;
            var at_ns = c.now_ns + c.dice.below(c.scenario.arbiter_delay_ns + 1);
            if (c.dice.chance(c.late_ppm())) {
                at_ns += c.dice.below(c.scenario.late_watch_ns + 1);
                c.counts.late_watches += 1;
            }
            self.watch(c, node, at_ns);
        }
    }

    fn watch(self: *Arbiter, c: *Cluster, node: *Node, at_ns: u64) void {
        const client = &self.clients[node.index];
        if (client.watch_pending) return;
        client.watch_pending = true;
        c.schedule(.watch, at_ns, node.index, node.life, 0);
    }

    /// The watch fires: the client reads the tree; what it reads takes time to arrive.
    pub fn fire(self: *Arbiter, c: *Cluster, node: *Node) void {
        const client = &self.clients[node.index];
        client.watch_pending = false;
        if (!self.reaches(node)) {
            // Told again when the link is back.
            client.missed = true;
            return;
        }
        if (!client.joined or !self.lives(client.session)) {
            return;
        }
        if (client.view_on_the_way != null) {
            client.view_again = true;
            return;
        }
        // Read in this order: `running`, then the rest, which may be newer.
        client.view_on_the_way = self.read();
        const at_ns = c.now_ns + c.dice.below(c.scenario.arbiter_delay_ns + 1);
        c.schedule(.view, at_ns, node.index, node.life, 0);
    }

    fn read(self: *const Arbiter) tree.View {
        var present: tree.Set = 0;
        for (self.classer, 0..) |holder, m| {
            if (holder != 0) present |= tree.set_of(@intCast(m));
        }
        return .{
            .serial = 0,
            .session = .connected,
            .master_version = self.version,
            .candidate = self.candidate,
            .epoch = self.epoch,
            .established_epoch = self.established_epoch,
            .established_leader = self.established_leader,
            .running = self.running,
            .established = self.quorum,
            .present = present,
            .forced = self.forced,
        };
    }

    /// The view arrives at the member; a paused one gets it when it runs again.
    pub fn arrive(self: *Arbiter, c: *Cluster, node: *Node) void {
        const client = &self.clients[node.index];
        const begun = client.view_on_the_way orelse return;
        if (node.stands_still(c.now_ns)) {
            const at_ns = @max(c.now_ns + 1, node.runs_again_ns());
            c.schedule(.view, at_ns, node.index, node.life, 0);
            return;
        }
        client.view_on_the_way = null;
        if (client.view_again) {
            client.view_again = false;
            self.watch(c, node, c.now_ns);
        }
        if (client.state != .connected) return;
        var view = self.read();
        view.running = begun.running;
        self.give(c, node, view);
    }

    fn tell_locally(self: *Arbiter, c: *Cluster, node: *Node, session: tree.Session) void {
        const client = &self.clients[node.index];
        var view = client.last_view orelse return;
        view.session = session;
        self.give(c, node, view);
    }

    fn give(self: *Arbiter, c: *Cluster, node: *Node, view: tree.View) void {
        const client = &self.clients[node.index];
        var v = view;
        node.view_serial += 1;
        v.serial = node.view_serial;
        client.last_view = v;
        c.give_view(node, &v);
    }

    // ---- commands

    pub fn command(self: *Arbiter, c: *Cluster, node: *Node, x: tree.Command) void {
        const client = &self.clients[node.index];
        if (client.command != null) {
            return c.model.fail(.events, "node {d}: a second command is under way", .{node.index});
        }
        client.command = x;
        client.command_session = client.session;
        const delay_ns = c.dice.below(c.scenario.arbiter_delay_ns + 1);
        c.schedule(.command, c.now_ns + delay_ns, node.index, node.life, client.session);
        c.schedule(
            .command_late,
            c.now_ns + 2 * c.scenario.session_timeout_ns,
            node.index,
            node.life,
            x.serial,
        );
    }

    /// A command arrives at the service. `session`: that it was sent in.
    pub fn execute(self: *Arbiter, c: *Cluster, node: *Node, session: u64) void {
        const client = &self.clients[node.index];
        const x = client.command orelse return;
        if (client.command_session != session) return;
        if (!self.reaches(node)) {
            c.schedule(.command, c.now_ns + 100 * ms, node.index, node.life, session);
            return;
        }
        if (client.session != session or !self.lives(session)) return;
        const outcome = self.carry_out(c, node, x, session);
        if (c.dice.chance(c.lost_ppm())) {
            // The answer is lost: the client finds out by reading, or not.
            c.counts.answers_lost += 1;
            if (c.dice.below(4) == 0) return;
            const at_ns = c.now_ns + c.dice.below(c.scenario.session_timeout_ns);
            c.schedule(.answer, at_ns, node.index, x.serial, @backingInt(outcome));
            return;
        }
        const at_ns = c.now_ns + c.dice.below(c.scenario.arbiter_delay_ns + 1);
        c.schedule(.answer, at_ns, node.index, x.serial, @backingInt(outcome));
    }

    fn carry_out(
        self: *Arbiter,
        c: *Cluster,
        node: *Node,
        x: tree.Command,
        session: u64,
    ) tree.Outcome {
        switch (x.kind) {
            .none => return .refused,
            .read => return .done,
            .campaign => {
                if (x.version != self.version or self.running != tree.nobody) return .refused;
                if (!epochs.less(self.epoch, x.epoch)) {
                    c.model.fail(.one_leader, "node {d} campaigns with {d}, master has {d}", .{
                        node.index, x.epoch.number, self.epoch.number,
                    });
                }
                self.version += 1;
                self.candidate = node.member;
                self.epoch = x.epoch;
                self.running = node.member;
                self.running_session = session;
                c.counts.campaigns += 1;
                c.model.on_win(x.epoch, node.member);
            },
            .establish => {
                if (x.version != self.version and x.version != any_version) return .refused;
                if (!epochs.eql(x.epoch, self.epoch)) {
                    c.model.fail(.one_leader, "node {d} " ++
                        "establishes epoch {d}, master has {d}", .{
                        node.index, x.epoch.number, self.epoch.number,
                    });
                    return .refused;
                }
                self.version += 1;
                const is_new = !epochs.eql(self.established_epoch, x.epoch);
                if (is_new) self.check_pair(c, node, &x);
                if (is_new and epochs.eql(self.clients[node.index].resigned, x.epoch)) {
                    c.model.fail(.one_leader, "node {d} establishes epoch {d}, which it has " ++
                        "given up", .{ node.index, x.epoch.number });
                }
                self.established_epoch = x.epoch;
                self.established_leader = x.leader;
                self.quorum = x.quorum;
                c.counts.establishes += 1;
                if (self.forced == x.leader) self.obeyed = x.leader;
                self.forced = tree.nobody;
                c.counts.leaders += @intFromBool(is_new);
                c.model.on_establish(&node.host, .{
                    .epoch = x.epoch,
                    .leader = x.leader,
                    .quorum = x.quorum,
                });
            },
            .resign => {
                if (self.running_session != session) return .refused;
                self.clients[node.index].resigned = self.epoch;
                self.running = tree.nobody;
                self.running_session = 0;
            },
        }
        self.changed(c);
        return .done;
    }

    /// The operator lets a member lead (`rcm tier force-leader`). False: somebody leads.
    pub fn force(self: *Arbiter, c: *Cluster, chosen: u32) bool {
        const leads = self.running != tree.nobody and self.running == self.established_leader and
            epochs.eql(self.established_epoch, self.epoch);
        if (leads) return false;
        self.version += 1;
        self.forced = chosen;
        self.changed(c);
        return true;
    }

    /// A new leader goes on with the pair that it found. Only the operator's word lets one begin
    /// anew, alone, and only once.
    fn check_pair(
        self: *const Arbiter,
        c: *Cluster,
        node: *const Node,
        x: *const tree.Command,
    ) void {
        const is_new_tier = epochs.is_none(self.established_epoch) or c.scenario.members == 1;
        if (is_new_tier or c.scenario.policy != .safe or self.forced == x.leader) return;
        var q = self.quorum;
        if (!tree.has(q.set, x.leader)) {
            q.set |= tree.set_of(x.leader);
            q.need += 1;
        }
        if (std.meta.eql(q, x.quorum)) return;
        c.model.fail(.one_leader, "node {d} establishes epoch {d} with {x}, {d}: {x}, {d} was " ++
            "established, and the operator asked for {d}", .{
            node.index, x.epoch.number, x.quorum.set, x.quorum.need, q.set, q.need, self.forced,
        });
    }

    /// The native watchdog: `running` is given up for a hung engine.
    pub fn give_up(self: *Arbiter, c: *Cluster, node: *Node) void {
        const client = &self.clients[node.index];
        if (!self.reaches(node) or client.session == 0) return;
        if (self.running_session != client.session) return;
        self.running = tree.nobody;
        self.running_session = 0;
        self.changed(c);
    }

    /// Nothing was heard of a command for too long.
    pub fn command_late(self: *Arbiter, c: *Cluster, node: *Node, serial: u64) void {
        const client = &self.clients[node.index];
        const x = client.command orelse return;
        if (x.serial != serial) return;
        self.answer(c, node, x, .unknown);
    }

    pub fn answer_arrives(
        self: *Arbiter,
        c: *Cluster,
        node: *Node,
        serial: u64,
        outcome: tree.Outcome,
    ) void {
        const client = &self.clients[node.index];
        const x = client.command orelse return;
        if (x.serial != serial) return;
        if (node.stands_still(c.now_ns) or !self.reaches(node)) {
            const at_ns = @max(c.now_ns + 50 * ms, node.runs_again_ns());
            c.schedule(.answer, at_ns, node.index, serial, @backingInt(outcome));
            return;
        }
        if (client.session != client.command_session) return;
        self.answer(c, node, x, outcome);
    }

    fn answer(
        self: *Arbiter,
        c: *Cluster,
        node: *Node,
        x: tree.Command,
        outcome: tree.Outcome,
    ) void {
        self.clients[node.index].command = null;
        if (x.kind == .read and outcome == .done) self.give(c, node, self.read());
        c.give_answer(node, &.{
            .serial = x.serial,
            .outcome = outcome,
            // What the master got when it was done; others may have written since.
            .version = if (outcome == .done and x.kind != .resign) x.version + 1 else self.version,
        });
    }
};
