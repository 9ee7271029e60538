//! A simulated sending context: its arena, its windows, and for each window the very `Sender` of
//! the engine, a producer, and what the checkers watch.
//!
//! The memory of the windows outlives the context, as the files in /dev/shm do: a start after a
//! kill recovers them with the engine's own code, or finds them wiped or torn.

const std = @import("std");
const base_limits = @import("../limits.zig");
const layout = @import("../window/node.zig");
const pool_file = @import("../window/pool.zig");
const recovery = @import("../window/recovery.zig");
const stores = @import("../window/stores.zig");
const crash = @import("crash.zig");
const messages = @import("messages.zig");
const verdict_file = @import("verdict.zig");
const sender_file = @import("../session/sender.zig");
const peers_file = @import("../session/peers.zig");
const frame = @import("../wire/frame.zig");
const scenario_file = @import("scenario.zig");
const model = @import("model.zig");
const SimClock = @import("sim_clock.zig").SimClock;
const Address = @import("../transport/address.zig").Address;
const SendingWindow = @import("../window/sending_window.zig").SendingWindow;
const dice_file = @import("dice.zig");
const Dice = dice_file.Dice;
const Sender = sender_file.Sender;
const ChunkPool = pool_file.ChunkPool;
const Bump = pool_file.Bump;
const ShmPeers = @import("../session/shm_peers.zig").ShmPeers;
const in_place = @import("in_place.zig");
const tier_members = @import("tier_members.zig");
const Position = frame.Position;
const assert = std.debug.assert;

const header_bytes = base_limits.message_header_bytes;
const receivers_max = scenario_file.receivers_max;
/// Datagrams in flight that the witness remembers: the window and some more.
const shadow_max = 1024;

pub const windows_of_node_max = scenario_file.transports_max;

/// That it is gone may still be on its way when the window is wiped.
pub const Torn = struct { epoch: u32, number: u64 };

/// A window in this life and over its lives.
pub const Window = struct {
    node: *SenderNode,
    index: u8,
    transport: u8,
    window: SendingWindow,
    sender: ?*Sender = null,
    published: model.Published,
    life: u32 = 0,
    connection: u64 = 0,
    repair: Address = .{},
    started_ns: u64 = 0,
    connection_first: u64 = 0,
    /// Handshake of a new window: the first number is not known yet.
    first_open: bool = false,
    was_connected: bool = false,
    /// The highest number that a receiver reported in the handshake.
    reported: u64 = 0,
    stopping_until_ns: u64 = 0,
    // ---- producer
    left: u64 = 0,
    send_flag: bool = true,
    want_ack: bool = false,
    blocked: bool = false,
    would_block: u64 = 0,
    progress_seen: u64 = 0,
    // ---- witness
    /// Below this the window may have freed while receiver r was not connected.
    freed: [receivers_max]u64 = @splat(0),
    reclaimed_seen: u64 = 0,
    low_seen: Position = .{ .msg = 0 },
    low_moved_ns: u64 = 0,
    /// Where a receiver without a position would begin: before this step, and at the last looks.
    join_before: u64 = 0,
    join_lately: u64 = 0,
    join_old: u64 = 0,
    has_receivers: bool = false,
    /// Numbers given while the send flag was off.
    unsent: std.ArrayList(model.Range) = .empty,
    /// All below may be told: the flag was on since.
    told_below: u64 = 0,
    /// The session that each receiver has: its token while connected, else 0; and whether the
    /// sender said that it ended.
    session: [receivers_max]u64 = @splat(0),
    session_ended: [receivers_max]bool = @splat(false),
    quiet_sent: u64 = 0,
    /// Messages that were torn at a restart.
    torn: std.ArrayList(Torn) = .empty,
    // ---- deaths
    marks: crash.Marks = .{},
    arena: crash.Arena = .ours,
    /// The process died while it published a message.
    in_flight: bool = false,
    shadow: [shadow_max]Position = undefined,
    shadow_first: u32 = 0,
    shadow_count: u32 = 0,
    shadow_last: Position = .{ .msg = 0 },
    shadow_last_is_fragment: bool = false,
    sent_seen: Position = .{ .msg = 0 },
    idle_steps: u32 = 0,
    steps_at_ns: u64 = 0,
    steps_here: u32 = 0,
    connected_count: u32 = 0,
    // ---- read in place
    /// Before this step: what was acknowledged, and for which life of each receiver the window was
    /// held; 0: none.
    acked_before: u64 = 0,
    held_before: [receivers_max]u64 = @splat(0),
    /// A receiver still reads below what was reclaimed.
    has_laggard: bool = false,
    /// The lives of receivers that have answered in this handshake, in memory.
    answered_by: [receivers_max]u64 = @splat(0),
    shm: ?*ShmPeers = null,
    ring: *layout.FrameRing,
    /// Counts its files: each wipe makes new ones.
    files: u32 = 0,
    /// By files: below this nobody knows what is read in place since the last start.
    forgotten_below: [model.epochs_max + 1]u64 = @splat(0),

    /// The message was torn, in the receiver's epoch or a later one.
    pub fn is_torn(self: *const Window, epoch: u32, number: u64) bool {
        for (self.torn.items) |torn| {
            if (torn.number == number and torn.epoch >= epoch) return true;
        }
        return false;
    }

    pub fn note_torn(self: *Window, number: u64) void {
        const torn: Torn = .{ .epoch = self.published.epoch, .number = number };
        self.torn.append(self.node.gpa, torn) catch @panic("out of memory");
    }

    pub fn is_done(self: *const Window) bool {
        const w = &self.window;
        return self.left == 0 and w.acked() == w.written();
    }
};

pub const SenderNode = struct {
    gpa: std.mem.Allocator,
    scenario: *const scenario_file.Scenario,
    index: u8,
    id: u16,
    clock: SimClock,
    memory: []align(4096) u8,
    pool: ChunkPool,
    bump: Bump,
    windows: []*Window,
    /// Files that were removed: some still have them mapped.
    removed: std.ArrayList(in_place.Removed) = .empty,
    links: std.ArrayList(in_place.Link) = .empty,
    alive: bool = false,
    paused_until_ns: u64 = 0,
    /// Datagrams that wait in the kernel while the node is paused.
    waiting: u32 = 0,
    /// Of the arena, as in its file.
    generation: layout.Cursor = std.mem.zeroes(layout.Cursor),
    /// What decides over its deaths.
    crash_dice: Dice,
    /// It dies instead of making one more than so many stores, and then stays dead so long.
    doom: ?u64 = null,
    doom_lasts_ns: u64 = 0,
    died_inside: bool = false,
    /// Producers act between the stores of the network side.
    has_threads: bool,
    published_between: u64 = 0,
    published_seen: u64 = 0,
    /// Messages that died in their publication, and counted.
    tails: u64 = 0,
    lone_lives: u64 = 0,
    name_buffer: [16]u8 = undefined,
    name_len: u8 = 0,

    pub fn name(self: *const SenderNode) []const u8 {
        return self.name_buffer[0..self.name_len];
    }

    pub fn init(
        gpa: std.mem.Allocator,
        scenario: *const scenario_file.Scenario,
        index: u8,
        clock: SimClock,
    ) !*SenderNode {
        const self = try gpa.create(SenderNode);
        const chunk = base_limits.chunk_bytes_min;
        const bytes = scenario.arena_bytes + chunk;
        const memory = try gpa.alignedAlloc(u8, .fromByteUnits(4096), bytes);
        self.* = .{
            .gpa = gpa,
            .scenario = scenario,
            .index = index,
            .id = @as(u16, index) + 1,
            .clock = clock,
            .memory = memory,
            .pool = undefined,
            .bump = undefined,
            .windows = &.{},
            .crash_dice = .init(dice_file.mix(dice_file.mix(scenario.seed, 4), index)),
            .has_threads = false,
        };
        self.has_threads = scenario.mishaps.kill_sender_every_ns > 0 and self.crash_dice.coin();
        const text = try std.fmt.bufPrint(&self.name_buffer, "sender{d}", .{index});
        self.name_len = @intCast(text.len);
        try self.init_pool();
        self.bump = Bump.init(&self.pool).?;
        return self;
    }

    fn init_pool(self: *SenderNode) !void {
        self.pool = try .init(self.gpa, .{
            .base = self.memory.ptr,
            .bytes = self.memory.len,
            .chunk_bytes = base_limits.chunk_bytes_min,
        });
    }

    pub fn deinit(self: *SenderNode) void {
        for (self.removed.items) |*r| r.deinit(self.gpa);
        self.removed.deinit(self.gpa);
        self.links.deinit(self.gpa);
        for (self.windows) |w| {
            self.drop_sender(w);
            self.gpa.destroy(w.ring);
            w.torn.deinit(self.gpa);
            w.unsent.deinit(self.gpa);
            w.window.destroy_in_memory(self.gpa);
            self.gpa.destroy(w);
        }
        self.gpa.free(self.windows);
        self.pool.deinit(self.gpa);
        self.gpa.free(self.memory);
        self.gpa.destroy(self);
    }

    pub fn add_windows(self: *SenderNode, first_index: u8) !void {
        const o = self.scenario;
        const mask = o.tx_mask[self.index];
        self.windows = try self.gpa.alloc(*Window, @popCount(mask));
        var n: u8 = 0;
        for (0..o.transport_count) |t| {
            if (mask >> @intCast(t) & 1 == 0) continue;
            const w = try self.gpa.create(Window);
            w.* = .{
                .node = self,
                .index = first_index + n,
                .transport = @intCast(t),
                .window = try .create_in_memory(self.gpa, o.nodes, self.memory),
                .ring = try in_place.make_ring(self.gpa),
                .published = .{
                    .seed = o.seed,
                    .window = first_index + n,
                    .sizes = &o.sizes[t],
                },
                .left = o.messages,
            };
            self.windows[n] = w;
            n += 1;
        }
    }

    // ---------------------------------------------------------------- life

    pub fn drop_sender(self: *SenderNode, w: *Window) void {
        const sender = w.sender orelse return;
        if (w.shm) |shm| {
            shm.deinit(self.gpa);
            self.gpa.destroy(shm);
            w.shm = null;
        }
        sender.deinit(self.gpa);
        self.gpa.destroy(sender);
        w.sender = null;
    }

    pub fn fresh_pool(self: *SenderNode) !void {
        self.pool.deinit(self.gpa);
        try self.init_pool();
    }

    pub fn open_bump(self: *SenderNode) void {
        self.bump = Bump.init(&self.pool).?;
    }

    /// The process ends at once; files and memory of the windows stay.
    pub fn kill(self: *SenderNode) void {
        crash.killed(self);
        for (self.windows) |w| self.drop_sender(w);
        self.links.clearRetainingCapacity();
        self.alive = false;
    }

    pub const Start = struct {
        now_ns: u64,
        torn_ppm: u32,
        /// Before this life there is one without one of the windows.
        is_second: bool,
        verdict: *verdict_file.Verdict,
    };

    /// Opens the windows again, as the engine does at `start`. It may die in it.
    pub fn start(self: *SenderNode, dice: *Dice, o: Start) !void {
        assert(!self.alive);
        if (o.is_second) try crash.live_without_one(self, o);
        if (stores.is_dead()) return;
        try self.fresh_pool();
        for (self.windows) |w| {
            self.recover(w, dice, o);
            if (stores.is_dead()) return;
        }
        crash.take_over(self, self.windows);
        if (stores.is_dead() or o.verdict.violation != null) return;
        self.open_bump();
        for (self.windows) |w| {
            try self.start_window(w, dice, o);
            if (stores.is_dead()) return;
        }
        self.alive = true;
    }

    /// The files are removed, and made anew.
    pub fn wipe_all(self: *SenderNode) !void {
        assert(!self.alive);
        self.generation = std.mem.zeroes(layout.Cursor);
        if (self.is_read_in_place()) try self.remove_files();
        for (self.windows) |w| try self.wipe(w);
    }

    pub fn is_read_in_place(self: *const SenderNode) bool {
        for (self.windows) |w| if (self.scenario.may_read_in_place(w.transport)) return true;
        return false;
    }

    /// Whoever has mapped the files keeps them; new ones are made.
    fn remove_files(self: *SenderNode) !void {
        try self.removed.append(self.gpa, .{ .arena = self.memory });
        const memory = try self.gpa.alignedAlloc(u8, .fromByteUnits(4096), self.memory.len);
        @memset(memory, 0);
        self.memory = memory;
        for (self.windows) |w| {
            const nodes = w.window.nodes[0..w.window.capacity];
            try self.removed.append(self.gpa, .{ .window = .{ w.window.page, nodes, w.ring } });
            w.window = try .create_in_memory(self.gpa, self.scenario.nodes, memory);
            w.ring = try in_place.make_ring(self.gpa);
        }
    }

    fn wipe(self: *SenderNode, w: *Window) !void {
        const is_first = w.life == 0;
        w.files += 1;
        w.window.destroy_in_memory(self.gpa);
        w.window = try .create_in_memory(self.gpa, self.scenario.nodes, self.memory);
        w.unsent.clearRetainingCapacity();
        w.marks = .{};
        w.arena = .ours;
        const was_in_flight = w.in_flight;
        w.in_flight = false;
        if (!is_first) {
            w.published.now().has_tail = was_in_flight;
            w.published.epoch += 1;
            w.published.now().* = .{};
            return;
        }
        const first = self.scenario.first_number;
        if (first == 0) return;
        SendingWindow.reset_page(w.window.page, first);
        w.window.next_no = first;
        w.window.reclaimed_seen = first;
        w.published.now().* = .{ .first = first, .written = first };
        w.marks = .{ .acked_low = first, .acked_high = first, .written_high = first };
    }

    fn recover(self: *SenderNode, w: *Window, dice: *Dice, o: Start) void {
        const cursors = recovery.read_cursors(w.window.page, w.window.capacity);
        if (o.torn_ppm > 0 and cursors != null) tear(w, dice, cursors.?, o.torn_ppm);
        crash.recover(self, w, o);
        w.forgotten_below[w.files] = w.window.reclaimed();
    }

    /// Some messages that nobody has yet are damaged.
    fn tear(w: *Window, dice: *Dice, cursors: recovery.Cursors, torn_ppm: u32) void {
        // One that was never accepted may go.
        const written = @min(cursors.written, w.published.now().written);
        for (@min(cursors.acked, written)..written) |no| {
            // A start that died may have torn it before.
            if (!dice.chance(torn_ppm) or w.is_torn(w.published.epoch, no)) continue;
            const node = &w.window.nodes[w.window.index_of(no)];
            node.check ^= 1;
            w.note_torn(no);
        }
    }

    fn start_window(self: *SenderNode, w: *Window, dice: *Dice, o: Start) !void {
        const s = self.scenario;
        const t = &s.transports[w.transport];
        const local_ns = self.clock.local(o.now_ns);
        const kept = w.window.page.connection_id.load() != 0;
        w.answered_by = @splat(0);
        w.connection = @max(w.connection + dice.between(1, 1000), 1 << 40);
        w.life += 1;
        const shift: u16 = if (dice.coin()) 0 else @intCast(w.life % 60);
        w.repair = .init(sender_ip(self.index), 20000 + @as(u16, w.index) * 64 + shift);
        const is_shared = s.may_read_in_place(w.transport);
        var configured: [receivers_max + 1]peers_file.Configured = undefined;
        const count = self.configured_receivers(w, &configured);
        const handshake = s.handshake and !kept;
        const sender = try self.gpa.create(Sender);
        sender.* = try .init(self.gpa, .{
            .cluster = s.cluster,
            .source = self.id,
            .transport = t.id,
            .tx_arg = tx_arg(w),
            .name = self.name(),
            .sizes = t.sizes,
            .is_multicast = t.is_multicast,
            .window_datagrams = s.window_datagrams,
            .max_cache_messages = s.cache_messages,
            .heartbeat_interval_ns = t.heartbeat_interval_ns,
            .ack_timeout_ns = t.ack_timeout_ns,
            .slow_disconnect = s.slow_disconnect,
            .handshake = handshake,
            .fresh = !kept,
            .shared_memory = is_shared,
            .start_timeout_ns = s.start_timeout_ns,
            .configured = configured[0..count],
            .group_key = t.group_key,
            .repair_address = w.repair,
            .connection = w.connection,
            .seed = dice.bits(),
        }, &w.window, &self.pool, local_ns);
        sender.settle();
        w.sender = sender;
        if (is_shared) {
            const shm = try self.gpa.create(ShmPeers);
            shm.* = try .init(self.gpa, &w.window, &self.pool, w.ring, in_place.never_rung);
            shm.settle();
            w.shm = shm;
        }
        w.first_open = handshake;
        w.reported = w.window.written();
        w.low_moved_ns = local_ns;
        w.started_ns = local_ns;
        w.connection_first = w.window.acked();
        w.was_connected = false;
        w.join_before = 0;
        w.join_lately = 0;
        w.join_old = 0;
        w.has_receivers = false;
        w.session = @splat(0);
        w.shadow_last_is_fragment = false;
        w.sent_seen = .{ .msg = 0 };
        w.connected_count = 0;
        w.shadow_count = 0;
        w.shadow_last = .{ .msg = 0 };
        w.reclaimed_seen = w.window.reclaimed();
        w.stopping_until_ns = 0;
        w.blocked = false;
        w.want_ack = false;
    }

    pub fn tx_arg(w: *const Window) u16 {
        return 1000 + @as(u16, w.index);
    }

    fn configured_receivers(
        self: *SenderNode,
        w: *const Window,
        out: *[receivers_max + 1]peers_file.Configured,
    ) usize {
        const s = self.scenario;
        var n: usize = 0;
        for (0..s.receiver_count) |r| {
            if (s.configured >> @intCast(r) & 1 == 0) continue;
            if (s.rx_mask[r] >> @intCast(w.transport) & 1 == 0) continue;
            out[n] = .{
                .id = receiver_id(r),
                .name = receiver_name(r),
                .shared = s.reads_in_place(@intCast(r), self.index, w.transport),
                .tier = if (s.tier.is_of(@intCast(r))) tier_members.name else "",
                .is_observer = s.tier.is_observer(@intCast(r)),
            };
            n += 1;
        }
        if (!s.tier.has_absent) return n;
        out[n] = .{ .id = tier_members.absent_id, .name = "absent", .tier = tier_members.name };
        return n + 1;
    }

    // ---------------------------------------------------------------- producer

    pub const Outcome = enum { sent, would_block };

    /// One message by the steps of the engine's transmitter.
    pub fn publish(self: *SenderNode, w: *Window, now_ns: u64) Outcome {
        const local_ns = self.clock.local(now_ns);
        if (w.window.ring_full()) {
            _ = make_room(w, local_ns);
            if (w.window.ring_full()) return self.refuse(w);
        }
        const c = w.published.content(w.published.epoch, w.published.now().written);
        const bytes = header_bytes + @as(u64, c.length);
        const offset = self.reserve(bytes, local_ns) orelse return self.refuse(w);
        self.put(w, offset, c);
        return .sent;
    }

    /// The same while the network side is at work: only if there is room.
    pub fn publish_at_once(self: *SenderNode, w: *Window) bool {
        if (w.left == 0 or w.window.ring_full()) return false;
        const c = w.published.content(w.published.epoch, w.published.now().written);
        const offset = self.bump.alloc(header_bytes + @as(u64, c.length), 8) orelse return false;
        self.put(w, offset, c);
        if (stores.is_dead()) return false;
        self.published_between += 1;
        return true;
    }

    fn put(self: *SenderNode, w: *Window, offset: u64, c: messages.Content) void {
        const number = w.published.now().written;
        const place = self.pool.slice(offset + header_bytes, c.length);
        stores.will_put(place);
        @memcpy(place, c.bytes());
        const flags: u16 = if (w.send_flag) 0 else layout.flag_unsent;
        const at8: u32 = @intCast((offset + header_bytes) / base_limits.payload_alignment);
        const given = w.window.publish(at8, c.length, c.arg, flags);
        if (stores.is_dead()) {
            w.in_flight = true;
            return;
        }
        assert(given.? == number);
        self.accept(w, number, flags);
    }

    /// The model takes notice of a message that the window has.
    pub fn accept(self: *SenderNode, w: *Window, number: u64, flags: u16) void {
        if (flags & layout.flag_unsent != 0) self.note_unsent(w, number);
        w.published.now().written = number + 1;
        w.left -|= 1;
        w.blocked = false;
    }

    fn note_unsent(self: *SenderNode, w: *Window, number: u64) void {
        const ranges = w.unsent.items;
        if (ranges.len > 0 and ranges[ranges.len - 1].end + 1 == number) {
            ranges[ranges.len - 1].end = number;
        } else {
            w.unsent.append(self.gpa, .{ .start = number, .end = number }) catch
                @panic("out of memory");
        }
    }

    fn reserve(self: *SenderNode, bytes: u64, local_ns: u64) ?u64 {
        if (self.bump.alloc(bytes, 8)) |offset| return offset;
        for (self.windows) |w| {
            if (w.sender == null) continue;
            while (make_room(w, local_ns)) {
                if (self.bump.alloc(bytes, 8)) |offset| return offset;
            }
        }
        return null;
    }

    /// As the engine's channel does.
    pub fn make_room(w: *Window, local_ns: u64) bool {
        const sender = w.sender.?;
        if (sender.make_room(local_ns)) return true;
        const shm = w.shm orelse return false;
        return shm.make_room(local_ns, sender);
    }

    fn refuse(self: *SenderNode, w: *Window) Outcome {
        w.blocked = true;
        w.would_block += 1;
        for (self.windows) |sibling| sibling.want_ack = true;
        return .would_block;
    }

    /// Nothing that was accepted waits for anybody, and still there is no room.
    pub fn is_deadlocked(self: *SenderNode, now_ns: u64) bool {
        const local_ns = self.clock.local(now_ns);
        for (self.windows) |w| {
            const sender = w.sender orelse return false;
            if (w.window.acked() != w.window.written()) return false;
            if (in_place.has_pins(w)) return false;
            const low = sender.peers.lowest(hold_of(w, sender, local_ns)) orelse continue;
            if (low.msg < w.window.acked()) return false;
        }
        return true;
    }
};

/// The lowest position of those who hold the window.
pub fn lowest(w: *const Window, sender: *Sender, local_ns: u64) ?Position {
    return sender.peers.lowest_taken(hold_of(w, sender, local_ns));
}

fn hold_of(w: *const Window, sender: *const Sender, local_ns: u64) peers_file.Peers.Hold {
    return .{
        .now_ns = local_ns,
        .configured_until_ns = sender.started_ns + sender.o.ack_timeout_ns,
        .connection_first = w.window.connection_first(),
    };
}

pub fn sender_ip(index: u8) u32 {
    return std.mem.nativeToBig(u32, 0x0a01_0001 + @as(u32, index));
}

pub fn receiver_ip(index: u8) u32 {
    return std.mem.nativeToBig(u32, 0x0a02_0001 + @as(u32, index));
}

pub fn receiver_id(index: usize) u16 {
    return @intCast(500 + index);
}

pub fn receiver_name(index: usize) []const u8 {
    const names = [receivers_max][]const u8{ "receiver0", "receiver1", "receiver2", "receiver3" };
    return names[index];
}
