//! Windows that simulated receivers read in place: the memory, who finds whose, and steps of one
//! process between two stores of another.
//!
//! Memory of windows lives as files in /dev/shm do: a kill leaves it, a wipe makes new memory, and
//! whoever has mapped the old keeps it. A receiver's is made anew at each of its starts.

const std = @import("std");
const layout = @import("../window/node.zig");
const base_limits = @import("../limits.zig");
const frame_ring = @import("../window/frame_ring.zig");
const shm_peers = @import("../session/shm_peers.zig");
const shm_source = @import("../session/shm_source.zig");
const scenario_file = @import("scenario.zig");
const cluster_file = @import("cluster.zig");
const nodes = @import("sender_node.zig");
const crash = @import("crash.zig");
const cut = @import("cut.zig");
const stores = @import("../window/stores.zig");
const watch = @import("watch.zig");
const watch_sender = @import("watch_sender.zig");
const watch_receiver = @import("watch_receiver.zig");
const Address = @import("../transport/address.zig").Address;
const Peer = @import("../session/peers.zig").Peer;
const Cluster = cluster_file.Cluster;
const Timer = cluster_file.Timer;
const SenderNode = nodes.SenderNode;
const Window = nodes.Window;
const record = @import("../order/record.zig");
const model = @import("model.zig");
const receiver_node = @import("receiver_node.zig");
const ReceiverNode = receiver_node.ReceiverNode;
const Seen = receiver_node.Seen;
const ShmSource = shm_source.ShmSource;
const ShmPeers = shm_peers.ShmPeers;
const Packet = @import("packet_simulator.zig").Packet;

const windows_max = scenario_file.windows_max;
const transports_max = scenario_file.transports_max;
const senders_max = scenario_file.senders_max;
const ms = scenario_file.ms;
const us = scenario_file.us;

// -------------------------------------------------------------------- memory

pub fn make_ring(gpa: std.mem.Allocator) !*layout.FrameRing {
    const ring = try gpa.create(layout.FrameRing);
    ring.* = std.mem.zeroes(layout.FrameRing);
    return ring;
}

/// A sender's files without a name.
pub const Removed = union(enum) {
    arena: []align(4096) u8,
    window: struct { *layout.WindowPage, []layout.Node, *layout.FrameRing },

    pub fn deinit(self: *Removed, gpa: std.mem.Allocator) void {
        switch (self.*) {
            .arena => |memory| gpa.free(memory),
            .window => |w| {
                gpa.destroy(w[0]);
                gpa.free(w[1]);
                gpa.destroy(w[2]);
            },
        }
    }
};

/// The file of a receiving context in one of its lives.
pub const File = struct {
    page: layout.ReceiverPage,
    ring: layout.FrameRing,
    slots: [windows_max]layout.Slot,
    /// Bit w: has a slot for the window.
    reads: u16,
    receiver: u8,
    is_owned: bool,
};

const Region = struct { memory: []const u8, source: u8, files: u32 };

/// What a receiving context reads in place. Places are indices of windows.
pub const Reading = struct {
    files: std.ArrayList(*File) = .empty,
    file: ?*File = null,
    regions: std.ArrayList(Region) = .empty,
    sources: [windows_max]ShmSource = undefined,
    slots: [windows_max]*layout.Slot = undefined,
    frames: frame_ring.Writer = undefined,
    /// Which files of a window are mapped; 0: none.
    mapped: [windows_max]u32 = @splat(0),
    /// The checkers read the frames that the receiver is about to read.
    spies: [windows_max]frame_ring.Reader = undefined,
    ids: [transports_max][senders_max]u16 = undefined,
    /// All below was processed by the program.
    processed: [windows_max]u64 = @splat(0),

    pub fn deinit(self: *Reading, gpa: std.mem.Allocator) void {
        for (self.files.items) |file| gpa.destroy(file);
        self.files.deinit(gpa);
        self.regions.deinit(gpa);
    }

    pub fn end(self: *Reading) void {
        if (self.file) |file| file.is_owned = false;
        self.file = null;
    }

    pub fn bytes(self: *const Reading, region: u32, offset8: u32, length: u32) []const u8 {
        return self.regions.items[region - 1].memory[@as(u64, offset8) * 8 ..][0..length];
    }

    fn region_of(self: *Reading, gpa: std.mem.Allocator, w: *const Window) u32 {
        const memory = w.node.memory;
        for (self.regions.items, 1..) |*r, number| {
            if (r.memory.ptr == memory.ptr) return @intCast(number);
        }
        self.regions.append(gpa, .{
            .memory = memory,
            .source = w.node.index,
            .files = w.files,
        }) catch @panic("out of memory");
        return @intCast(self.regions.items.len);
    }
};

/// A receiver's file that a sender has found.
pub const Link = struct {
    file: *File,
    /// By transport: the place, or none.
    places: [transports_max]?u32 = @splat(null),
    spies: [transports_max]frame_ring.Reader = undefined,
};

/// Receivers of a simulation never sleep in the kernel.
pub fn never_rung(bell: *layout.Bell) void {
    _ = bell;
    unreachable;
}

const calendar_ms = 1_700_000_000_000;

// -------------------------------------------------------------------- a receiver's start

pub fn open(c: *Cluster, node: *ReceiverNode) void {
    const s = &c.scenario;
    const r = &node.in_place;
    r.mapped = @splat(0);
    r.processed = @splat(0);
    var sources = s.in_place.sources[node.index];
    if (c.dice.chance(s.in_place.switch_ppm)) sources = ~sources;
    var reads: u16 = 0;
    for (c.windows[0..c.window_count]) |w| {
        if (!node.listens(w.transport) or !s.may_read_in_place(w.transport)) continue;
        if (sources >> @intCast(w.node.index) & 1 == 0) continue;
        reads |= @as(u16, 1) << @intCast(w.index);
    }
    tell_channels(c, node, reads);
    if (reads == 0) return;
    const file = c.gpa.create(File) catch @panic("out of memory");
    file.* = std.mem.zeroes(File);
    file.page.context_id = node.id;
    file.reads = reads;
    file.receiver = node.index;
    file.is_owned = true;
    r.files.append(c.gpa, file) catch @panic("out of memory");
    r.file = file;
    r.frames = .init(&file.ring);
    for (&r.slots, &file.slots) |*slot, *own| slot.* = own;
    for (c.windows[0..c.window_count]) |w| r.sources[w.index] = .{
        .source = w.node.id,
        .transport = s.transports[w.transport].id,
        .slot = &file.slots[w.index],
    };
    node.receiver.slots = &r.slots;
    map(c, node);
    for (c.senders) |sender| {
        c.wake(Timer.find + sender.index, c.now_ns + c.dice.below(s.in_place.find_ns));
    }
}

pub fn is_read(node: *const ReceiverNode, w: *const Window) bool {
    const file = node.in_place.file orelse return false;
    return file.reads >> @intCast(w.index) & 1 == 1;
}

fn tell_channels(c: *Cluster, node: *ReceiverNode, reads: u16) void {
    for (node.channels[0..node.channel_count], 0..) |*channel, i| {
        var count: usize = 0;
        for (c.windows[0..c.window_count]) |w| {
            if (reads >> @intCast(w.index) & 1 == 0) continue;
            if (c.scenario.transports[w.transport].id != channel.transport) continue;
            node.in_place.ids[i][count] = w.node.id;
            count += 1;
        }
        channel.in_place = node.in_place.ids[i][0..count];
    }
}

/// The process has ended: senders will see that its file has no owner.
pub fn life_ends(c: *Cluster, node: *ReceiverNode) void {
    if (node.in_place.file == null) return;
    for (c.senders) |sender| {
        c.wake(Timer.bury + sender.index, c.now_ns + c.dice.below(c.scenario.in_place.death_ns));
    }
}

/// The receiver looks for windows, and for files that are others than before.
pub fn map(c: *Cluster, node: *ReceiverNode) void {
    if (!node.alive) return;
    if (c.now_ns < node.paused_until_ns) {
        return c.wake(Timer.map + node.index, node.paused_until_ns);
    }
    const r = &node.in_place;
    for (c.windows[0..c.window_count]) |w| {
        if (!is_read(node, w) or w.life == 0) continue;
        if (r.mapped[w.index] == w.files) continue;
        if (r.mapped[w.index] != 0) r.sources[w.index].detach();
        r.mapped[w.index] = w.files;
        r.sources[w.index].attach(.{
            .page = w.window.page,
            .ring = w.ring,
            .nodes = w.window.nodes,
            .capacity = w.window.capacity,
            .arena = w.node.memory.ptr,
            .arena_bytes = w.node.memory.len,
            .claim_chunks = base_limits.shm_claim_chunks(
                w.node.pool.bytes,
                w.node.pool.chunk_bytes,
            ),
            .chunk_shift = w.node.pool.chunk_shift,
            .region = r.region_of(c.gpa, w),
        });
        r.spies[w.index] = .init(w.ring);
    }
    c.wake(Timer.step_receiver + node.index, c.now_ns);
}

// -------------------------------------------------------------------- a sender's look

/// New files of receivers.
pub fn find(c: *Cluster, node: *SenderNode) void {
    if (!node.alive) return;
    if (c.now_ns < node.paused_until_ns) {
        return c.wake(Timer.find + node.index, node.paused_until_ns);
    }
    for (c.receivers) |receiver| {
        const file = receiver.in_place.file orelse continue;
        // A dead one's is not mapped, as in `receiver_file.Other.open`: nobody would bury it again.
        if (!file.is_owned) continue;
        for (node.links.items) |*link| {
            if (link.file == file) break;
        } else attach(c, node, file);
    }
}

fn attach(c: *Cluster, node: *SenderNode, file: *File) void {
    var link: Link = .{ .file = file };
    var any = false;
    for (node.windows) |w| {
        const shm = w.shm orelse continue;
        if (file.reads >> @intCast(w.index) & 1 == 0) continue;
        const place = shm.attach(&file.page, &file.ring, &file.slots[w.index]) orelse continue;
        link.places[w.transport] = place;
        link.spies[w.transport] = .init(&file.ring);
        any = true;
        c.wake(Timer.step_window + w.index, c.now_ns);
    }
    if (any) node.links.append(c.gpa, link) catch @panic("out of memory");
}

/// Pauses have ended: what was put off to their ends is looked at now.
pub fn heal(c: *Cluster) void {
    for (c.senders) |s| {
        c.wake(Timer.find + s.index, c.now_ns);
        c.wake(Timer.bury + s.index, c.now_ns);
    }
    for (c.receivers) |r| c.wake(Timer.map + r.index, c.now_ns);
}

/// Files of receivers that are dead.
pub fn bury(c: *Cluster, node: *SenderNode) void {
    if (!node.alive) return;
    if (c.now_ns < node.paused_until_ns) {
        return c.wake(Timer.bury + node.index, node.paused_until_ns);
    }
    var i: usize = 0;
    while (i < node.links.items.len) {
        const link = &node.links.items[i];
        if (link.file.is_owned) {
            i += 1;
            continue;
        }
        for (node.windows) |w| {
            const place = link.places[w.transport] orelse continue;
            watch_sender.before_sender(c, w);
            spy_answers(c, w, layout.cells);
            const processed = processed_by(c, w, link, place);
            w.shm.?.detach(node.clock.local(c.now_ns), w.sender.?, place);
            watch_sender.after_sender(c, w);
            watch_sender.look_at_last_words(c, w, c.receivers[link.file.receiver], processed);
            c.wake(Timer.step_window + w.index, c.now_ns);
        }
        _ = node.links.orderedRemove(i);
    }
}

/// What a connected receiver has processed of a window in this connection.
fn processed_by(c: *Cluster, w: *Window, link: *const Link, place: u32) ?u64 {
    const peer = w.sender.?.peers.find(c.receivers[link.file.receiver].id) orelse return null;
    if (peer.state != .connected or !peer.address.eql(ShmPeers.address_of(place))) return null;
    const slot = &link.file.slots[w.index];
    if (slot.connection != w.connection) return null;
    return if (slot.is_manual == 1) slot.processed else slot.consumed;
}

/// Who is at an address that no network has.
pub fn receiver_at(c: *Cluster, w: *const Window, to: Address) ?*ReceiverNode {
    if (to.ip != 0 or to.port == 0) return null;
    for (w.node.links.items) |*link| {
        const place = link.places[w.transport] orelse continue;
        if (place + 1 == to.port) return c.receivers[link.file.receiver];
    }
    return null;
}

/// The sender has looked since the process of this connected receiver ended.
pub fn is_found_dead(c: *const Cluster, w: *const Window, peer: *const Peer) bool {
    for (w.node.links.items) |*link| {
        const place = link.places[w.transport] orelse continue;
        if (place + 1 != peer.address.port) continue;
        if (!link.file.is_owned) {
            return c.timers[Timer.bury + w.node.index] == std.math.maxInt(u64);
        }
        // The place may be another's by now, or that of the receiver's next life.
        const node = c.receivers[link.file.receiver];
        return node.id != peer.id or node.receiver.instance != peer.instance;
    }
    return true;
}

pub fn has_pins(w: *const Window) bool {
    const shm = w.shm orelse return false;
    for (shm.places) |*place| if (place.*) |*p| if (p.pins_count > 0) return true;
    return false;
}

/// A receiver reads the window in place, and stands below what was reclaimed.
pub fn has_laggard(c: *Cluster, w: *const Window) bool {
    if (w.shm == null) return false;
    for (c.receivers) |node| {
        if (!node.alive or !is_read(node, w) or node.in_place.mapped[w.index] != w.files) continue;
        const at = position(c, node, w) orelse continue;
        if (at < w.window.reclaimed()) return true;
    }
    return false;
}

// -------------------------------------------------------------------- steps

/// Frames of receivers. The work count.
pub fn poll(c: *Cluster, w: *Window, local_ns: u64) u32 {
    const shm = w.shm orelse return 0;
    watch_sender.before_sender(c, w);
    spy_answers(c, w, shm_peers.frames_per_step);
    crash.enter(w.node, false);
    const work = shm.poll(local_ns, w.sender.?);
    if (c.died(w.node)) return 0;
    watch_sender.after_sender(c, w);
    return work;
}

fn spy_answers(c: *Cluster, w: *Window, max: u32) void {
    var buffer: [frame_ring.frame_bytes_max]u8 align(8) = undefined;
    for (w.node.links.items) |*link| {
        if (link.places[w.transport] == null) continue;
        for (0..max) |_| {
            const bytes = link.spies[w.transport].read(&buffer) orelse break;
            watch_sender.note_reported(c, w, bytes);
        }
    }
}

/// What was processed in place is seen when the sender looks.
pub fn look_again(c: *Cluster, w: *const Window) void {
    const shm = w.shm orelse return;
    const soon_ns = if (w.blocked) ms else c.scenario.in_place.look_ns;
    c.wake(Timer.step_window + w.index, c.now_ns + if (shm.has_frame()) us else soon_ns);
    c.totals.pinned_steps += @intFromBool(has_pins(w));
}

/// Windows that the receiver reads in place. The work count.
pub fn read(c: *Cluster, node: *ReceiverNode) u32 {
    const r = &node.in_place;
    const local_ns = node.clock.local(c.now_ns);
    var work: u32 = 0;
    node.receiver.set_wall(calendar_ms);
    for (c.windows[0..c.window_count]) |w| {
        if (!is_read(node, w) or r.mapped[w.index] == 0) continue;
        spy(c, node, w);
        const before = position(c, node, w);
        work += r.sources[w.index].step(local_ns, node.receiver, w.index);
        const after = position(c, node, w);
        if (before == null or after == null or after.? <= before.?) continue;
        node.heard_ns[w.index] = local_ns;
        node.heard_data_ns[w.index] = local_ns;
        const stream = node.receiver.find(watch.key_of(c, w)).?;
        if (stream.connection != w.connection) continue;
        watch_sender.look_at_told(c, w, after.?, "is taken by a receiver");
    }
    return work;
}

fn position(c: *Cluster, node: *ReceiverNode, w: *const Window) ?u64 {
    const stream = node.receiver.find(watch.key_of(c, w)) orelse return null;
    return if (stream.phase == .started) stream.next.msg else null;
}

fn spy(c: *Cluster, node: *ReceiverNode, w: *Window) void {
    var buffer: [frame_ring.frame_bytes_max]u8 align(8) = undefined;
    const packet = std.mem.zeroInit(Packet, .{ .from = Address{}, .to = windows_max + node.index });
    for (0..shm_source.frames_per_step) |_| {
        const bytes = node.in_place.spies[w.index].read(&buffer) orelse return;
        watch_receiver.before_receiver(c, node, &packet, bytes);
    }
}

/// When the receiver looks again by itself.
pub fn receiver_due_ns(c: *Cluster, node: *ReceiverNode) u64 {
    const r = &node.in_place;
    var due_ns: u64 = std.math.maxInt(u64);
    for (c.windows[0..c.window_count]) |w| {
        if (!is_read(node, w) or r.mapped[w.index] == 0) continue;
        const source = &r.sources[w.index];
        const is_stalled = source.is_stalled(node.receiver);
        // What the log has no room for is looked at again and again.
        if (is_stalled or source.has_work(node.receiver)) due_ns = c.now_ns + ms;
    }
    return due_ns;
}

/// Somebody has written for those who read the window in place.
pub fn tell_readers(c: *Cluster, w: *const Window) void {
    if (w.shm == null) return;
    for (c.receivers) |node| {
        if (!is_read(node, w)) continue;
        c.wake(Timer.step_receiver + node.index, c.now_ns + notice(c));
    }
}

fn notice(c: *Cluster) u64 {
    return c.dice.magnitude(1, c.scenario.in_place.notice_ns);
}

/// A frame of a window to all who read it.
pub fn send(c: *Cluster, w: *Window, bytes: []const u8) void {
    w.shm.?.send(bytes);
    damage(c, w.ring, w.shm.?.writer.next);
    tell_readers(c, w);
}

/// A frame of a receiver to all whom it reads.
pub fn answer(c: *Cluster, node: *ReceiverNode, bytes: []const u8) void {
    const r = &node.in_place;
    r.frames.write(bytes);
    damage(c, r.frames.ring, r.frames.next);
    for (c.windows[0..c.window_count]) |w| {
        if (!is_read(node, w) or w.shm == null) continue;
        c.wake(Timer.step_window + w.index, c.now_ns + notice(c));
    }
}

/// Now and then what is read is not what was written.
fn damage(c: *Cluster, ring: *layout.FrameRing, next: u64) void {
    if (!c.dice.chance(c.net.faults.corrupt_ppm)) return;
    const cell = &ring.cells[(next - 1) % layout.cells];
    const bit = c.dice.below(@as(u64, cell.bytes) * 8);
    cell.data[@intCast(bit / 8)] ^= @as(u8, 1) << @intCast(bit % 8);
}

// -------------------------------------------------------------------- what is read

/// What a message's bytes are, or should be where nobody keeps them.
pub fn true_bytes(
    c: *Cluster,
    node: *ReceiverNode,
    w: *const Window,
    d: *const record.Descriptor,
    number: u64,
) []const u8 {
    // Where it was read, or copied from.
    const files = if (d.region > 0)
        node.in_place.regions.items[d.region - 1].files
    else if (node.is_manual() and is_read(node, w) and node.in_place.mapped[w.index] != 0)
        node.in_place.mapped[w.index]
    else
        return node.bytes_of(d);
    if (!is_forgotten(node, w, files, number)) return node.bytes_of(d);
    c.totals.forgotten += 1;
    for (node.checks[w.index].epoch..w.published.epoch + 1) |epoch| {
        const content = w.published.content(@intCast(epoch), number);
        if (content.length == d.length and content.arg == d.args & 0xffff) return content.bytes();
    }
    return node.bytes_of(d);
}

/// A sender that was restarted does not know what is read in place of what it no longer kept, nor
/// of what it found damaged.
fn is_forgotten(node: *const ReceiverNode, w: *const Window, files: u32, number: u64) bool {
    return number < w.forgotten_below[files] or w.is_torn(node.checks[w.index].epoch, number);
}

/// The program has read a message until now.
pub fn look_at_processed(c: *Cluster, node: *ReceiverNode, seen: *const Seen) void {
    const w = c.windows[seen.window];
    const files = node.in_place.regions.items[seen.region - 1].files;
    if (is_forgotten(node, w, files, seen.number)) return;
    const content = w.published.content(seen.epoch, seen.number);
    const bytes = node.in_place.bytes(seen.region, seen.offset8, seen.length);
    if (std.mem.eql(u8, bytes, content.bytes())) return;
    c.verdict.fail(.integrity, c.now_ns, "receiver {d}: the bytes of message {d} of window {d} " ++
        "changed before it was processed", .{ node.index, seen.number, seen.window });
}

// -------------------------------------------------------------------- between two steps

var active: ?*Cluster = null;

pub fn begin_cuts(c: *Cluster) void {
    if (c.scenario.in_place.cut_ppm == 0) return;
    active = c;
    cut.hook = come_between;
}

pub fn end_cuts() void {
    active = null;
    cut.hook = null;
}

fn come_between(point: cut.Point) void {
    const c = active.?;
    if (stores.is_dead() or c.is_between) return;
    const is_aimed = switch (point) {
        .node => stands_behind(c),
        .claim => c.scenario.seed >= scenario_file.first_in_place_seed and stands_alone(c),
        .release, .tag => false,
    };
    const ppm = c.scenario.in_place.cut_ppm;
    const aim: u32 = if (point == .claim) 1_000_000 else aimed_ppm;
    if (!c.dice.chance(if (is_aimed) @max(ppm, aim) else ppm)) return;
    c.is_between = true;
    defer c.is_between = false;
    c.totals.cuts += 1;
    c.note(@backingInt(point));
    switch (point) {
        .claim, .node => for (c.windows[0..c.window_count]) |w| {
            sender_acts(c, w, is_aimed, point == .node);
        },
        .release, .tag => for (c.receivers) |node| receiver_acts(c, node),
    }
}

/// How often a sender comes in between where its next messages take the very node or memory that is
/// read.
const aimed_ppm = 500_000;

/// A receiver reads what its sender has given up without it: the node may become another number's.
fn stands_behind(c: *Cluster) bool {
    for (c.windows[0..c.window_count]) |w| if (w.has_laggard) return true;
    return false;
}

/// A receiver reads on where its sender does not wait for it any more: only its claim holds what it
/// reads.
fn stands_alone(c: *Cluster) bool {
    for (c.windows[0..c.window_count]) |w| {
        if (w.shm == null) continue;
        const sender = w.sender orelse continue;
        for (c.receivers) |node| {
            if (!node.alive or !is_read(node, w) or node.in_place.mapped[w.index] != w.files) {
                continue;
            }
            if (sender.peers.find(node.id)) |peer| {
                if (peer.state == .connected or peer.state == .confirming) continue;
            }
            const at = position(c, node, w) orelse continue;
            if (at >= w.window.reclaimed() and at < w.window.written()) return true;
        }
    }
    return false;
}

/// `goes_round`: its nodes become those of other numbers.
fn sender_acts(c: *Cluster, w: *Window, is_aimed: bool, goes_round: bool) void {
    const node = w.node;
    const sender = w.sender orelse return;
    if (c.now_ns < node.paused_until_ns or sender.phase != .started) return;
    if (!is_aimed and c.dice.coin()) return;
    const local_ns = node.clock.local(c.now_ns);
    watch_sender.before_sender(c, w);
    sender.send_flag = w.send_flag;
    if (w.send_flag) w.told_below = w.window.written();
    if (w.shm) |shm| shm.collect(local_ns, sender);
    sender.tick(local_ns);
    const rounds = if (is_aimed and !goes_round) w.window.capacity else c.dice.below(4);
    for (0..rounds) |_| if (!SenderNode.make_room(w, local_ns) and is_aimed) break;
    watch_sender.after_sender(c, w);
    if (w.stopping_until_ns != 0) return;
    const all = is_aimed and goes_round;
    const count = if (all) w.window.capacity else c.dice.below(w.window.capacity);
    for (0..count) |_| {
        if (w.left == 0 or node.publish(w, c.now_ns) != .sent) break;
        c.totals.published += 1;
    }
}

fn receiver_acts(c: *Cluster, node: *ReceiverNode) void {
    if (!node.alive or c.now_ns < node.paused_until_ns or c.dice.coin()) return;
    _ = read(c, node);
    watch_receiver.after_receiver(c, node);
    if (c.dice.coin()) c.drain(node);
}
