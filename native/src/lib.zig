//! The exported functions of `librcm.so`: thin, over handles, numbers and pointers. Nothing panics
//! across the boundary on bad input: every handle, length and index is checked here, and the answer
//! is a code.
//!
//! Negative results of set-up calls are minus an `abi.ErrorCode`; `rcm_last_error` has the words.
//! Traffic calls answer an `abi.Status`. A handle of something that was closed answers STOPPED
//! (traffic) or STATE (set-up).
//!
//! Threads: a context is started, drained and closed by one JavaScript thread, which also makes all
//! calls on its transmitters and allocators. Other threads send by a sender of their own
//! (`rcm_sender_open`), whose handle stands in for that of a transmitter and of an allocator.
//!
//! Long because it is the table of exported functions, each a few lines.

const std = @import("std");
const abi = @import("abi.zig");
const abi_hash = @import("abi_hash.zig");
const build_options = @import("build_options");
const udp = @import("transport/udp.zig");
const frame = @import("wire/frame.zig");
const address = @import("transport/address.zig");
const waker = @import("agent/waker.zig");
const Context = @import("agent/context.zig").Context;
const TierAgent = @import("agent/tier_agent.zig").TierAgent;
const TierResults = @import("agent/tier_results.zig").TierResults;
const context_start = @import("agent/context_start.zig");
const record_agent = @import("agent/record_agent.zig");
const context_stats = @import("agent/context_stats.zig");
const transmitter_file = @import("agent/transmitter.zig");
const Bump = @import("window/pool.zig").Bump;
const files = @import("window/files.zig");
const Senders = @import("agent/senders.zig").Senders;
const arbiter = @import("arbiter/agent.zig");
const arbiter_client = @import("arbiter/client.zig");
const arbiter_local = @import("arbiter/local.zig");
const lanes = @import("agent/lanes.zig");

const Status = abi.Status;
const ErrorCode = abi.ErrorCode;
const Allocator = transmitter_file.Allocator;
const Transmitter = transmitter_file.Transmitter;

pub const std_options: std.Options = .{
    // The host's signal handlers are the host's.
    .enable_segfault_handler = false,
    // Else every thread that loads the library carries 256 KiB of thread-local memory.
    .signal_stack_size = null,
    .allow_stack_tracing = false,
};

pub const panic = std.debug.FullPanic(on_panic);

fn on_panic(message: []const u8, return_address: ?usize) noreturn {
    var buffer: [512]u8 = undefined;
    const at = return_address orelse 0;
    const text = std.fmt.bufPrint(&buffer, "librcm: {s} at 0x{x}\n", .{ message, at }) catch
        &buffer;
    _ = std.os.linux.write(2, text.ptr, text.len);
    std.process.abort();
}

const version_text = "rcm version V" ++ build_options.version;
const gpa = std.heap.c_allocator;

const contexts_max = 256;
const allocators_max = 4096;
const arbiters_max = 256;

fn Table(comptime T: type, comptime capacity: u32) type {
    return struct {
        const Self = @This();
        const Slot = struct { value: ?*T = null, generation: u16 = 0 };
        const index_bits = std.math.log2_int(u32, capacity);
        /// Handles of transmitters, 8 bits longer, stay below those of senders (2^30).
        const generation_mask: u16 = (1 << @min(14, 24 - index_bits)) - 1;

        slots: [capacity]Slot = @splat(.{}),
        lock: std.atomic.Value(u32) = .init(0),

        fn guard(self: *Self) void {
            while (self.lock.swap(1, .acquire) != 0) std.atomic.spinLoopHint();
        }
        fn unguard(self: *Self) void {
            self.lock.store(0, .release);
        }

        fn add(self: *Self, value: *T) ?u32 {
            self.guard();
            defer self.unguard();
            for (&self.slots, 0..) |*s, i| {
                if (s.value != null) continue;
                s.value = value;
                s.generation = (s.generation + 1) & generation_mask;
                return @as(u32, s.generation) << index_bits | @as(u32, @intCast(i));
            }
            return null;
        }

        inline fn get(self: *Self, handle: u32) ?*T {
            const s = &self.slots[handle & (capacity - 1)];
            if (s.generation != handle >> index_bits) return null;
            return s.value;
        }

        fn remove(self: *Self, handle: u32) void {
            self.guard();
            defer self.unguard();
            self.slots[handle & (capacity - 1)].value = null;
        }
    };
}

var contexts: Table(Context, contexts_max) = .{};
var allocators: Table(Allocator, allocators_max) = .{};
var senders: Senders = .{ .gpa = gpa };
var opened_lanes: lanes.Opened = .{};
var wakers: waker.WakerTable = .{};
var arbiters: Table(arbiter.Agent, arbiters_max) = .{};
threadlocal var failure: udp.Failure = .{};

fn fail(code: ErrorCode) i32 {
    return -@as(i32, @intCast(@backingInt(code)));
}

fn dead() i32 {
    failure.set("the context was closed", .{});
    return fail(.state);
}

fn answer(status: Status) i32 {
    return @intCast(@backingInt(status));
}

fn slice(pointer: ?[*]u8, length: u32) []u8 {
    return if (pointer) |p| p[0..length] else &.{};
}

fn copy_text(text: []const u8, buffer: ?[*]u8, capacity: u32) i32 {
    const n = @min(text.len, capacity);
    @memcpy(slice(buffer, capacity)[0..n], text[0..n]);
    return @intCast(n);
}

// -------------------------------------------------------------------- the library

export fn rcm_abi_hash() u32 {
    return comptime abi_hash.of(abi);
}

export fn rcm_version(buffer: ?[*]u8, capacity: u32) i32 {
    return copy_text(version_text, buffer, capacity);
}

export fn rcm_last_error(buffer: ?[*]u8, capacity: u32) i32 {
    return copy_text(failure.text(), buffer, capacity);
}

export fn rcm_waker_open(path: ?[*]u8, length: u32) i32 {
    const id = wakers.open(slice(path, length), &failure) catch return fail(.native);
    return @intCast(id);
}

export fn rcm_waker_close(id: u32) i32 {
    return if (wakers.close(id)) 0 else fail(.state);
}

export fn rcm_repair_socket(ip: ?[*]u8, length: u32, port: u32) i32 {
    if (port == 0 or port > std.math.maxInt(u16)) {
        failure.set("RepairPort {d} is not a port", .{port});
        return fail(.argument);
    }
    const local = address.resolve_local(slice(ip, length), &failure) catch return fail(.socket);
    const endpoint = udp.open_repair_fixed(local, @intCast(port), &failure) catch
        return fail(.socket);
    return endpoint.fd;
}

export fn rcm_fd_close(fd: i32) i32 {
    if (fd < 0) return fail(.argument);
    udp.close(fd);
    return 0;
}

/// 1: somebody holds the lock on the file, as the owner of a context's file does; 0: nobody does,
/// or there is no such file of this user's. The owner does not notice.
export fn rcm_file_owned(path: ?[*]u8, length: u32) i32 {
    return @intFromBool(files.is_owned_path(slice(path, length)));
}

/// Cuts the record in `directory` (with a slash at its end) / `name` in front of `sqn`. The number
/// of files that were set aside.
export fn rcm_record_cut(
    directory: ?[*]u8,
    directory_bytes: u32,
    name: ?[*]u8,
    name_bytes: u32,
    sqn: f64,
) i32 {
    if (!(sqn >= 0 and sqn <= 1 << 53)) {
        failure.set("{d} is no sequence number", .{sqn});
        return fail(.argument);
    }
    const count = record_agent.cut_record(gpa, .{
        .directory = slice(directory, directory_bytes),
        .context = slice(name, name_bytes),
        .context_id = 0,
        .file_bytes = 0,
    }, @intFromFloat(sqn), &failure) catch |e| return switch (e) {
        error.Shm => fail(.shm),
        error.Record => fail(.record),
        error.OutOfMemory => blk: {
            failure.set("out of memory", .{});
            break :blk fail(.native);
        },
    };
    return @intCast(count);
}

// -------------------------------------------------------------------- contexts

export fn rcm_context_start(json: ?[*]u8, length: u32, waker_id: i32) i32 {
    const context = context_start.start(gpa, .{
        .json = slice(json, length),
        .waker_id = waker_id,
        .wakers = &wakers,
    }, &failure) catch |e| return switch (e) {
        error.Argument => fail(.argument),
        error.Socket => fail(.socket),
        error.Shm => fail(.shm),
        error.Native => fail(.native),
        error.OutOfMemory => blk: {
            failure.set("out of memory", .{});
            break :blk fail(.native);
        },
    };
    senders.lock.take();
    const added = contexts.add(context);
    senders.lock.give();
    const handle = added orelse {
        context.close();
        failure.set("no more than {d} contexts can be started in a process", .{contexts_max});
        return fail(.native);
    };
    return @intCast(handle);
}

export fn rcm_context_state(handle: u32) i32 {
    const c = contexts.get(handle) orelse return dead();
    return @intCast(c.state());
}

export fn rcm_context_drain(handle: u32) i32 {
    const c = contexts.get(handle) orelse return dead();
    senders.lock.take();
    defer senders.lock.give();
    // Before the drain: what their threads have been told is accepted is what is waited for.
    senders.close_of_context(c);
    c.begin_drain();
    return 0;
}

export fn rcm_context_close(handle: u32) i32 {
    const c = contexts.get(handle) orelse return dead();
    {
        senders.lock.take();
        defer senders.lock.give();
        contexts.remove(handle);
        senders.close_of_context(c);
    }
    opened_lanes.close_of_context(c);
    for (&allocators.slots, 0..) |*s, i| {
        const a = s.value orelse continue;
        if (!owns(c, a.transmitter)) continue;
        allocators.slots[i].value = null;
        a.forget();
        a.own.bump.close();
        gpa.destroy(a);
    }
    c.close();
    return 0;
}

fn owns(c: *const Context, t: *const Transmitter) bool {
    for (c.transmitters) |*own| if (own == t) return true;
    return false;
}

export fn rcm_drain(handle: u32, processed: u32, max: u32) i32 {
    const c = contexts.get(handle) orelse return 0;
    const n = c.drain(processed, max) orelse {
        failure.set("{d} messages cannot be processed: fewer were handed out", .{processed});
        return fail(.argument);
    };
    return @intCast(n);
}

/// `next`: one past the sqn that was processed last.
export fn rcm_ack(handle: u32, next: f64) i32 {
    const c = contexts.get(handle) orelse return answer(.stopped);
    if (!(next >= 0 and next <= frame.number_max)) return answer(.bad_argument);
    return answer(if (c.ack(@intFromFloat(next))) .ok else .bad_argument);
}

export fn rcm_work(handle: u32) i32 {
    const c = contexts.get(handle) orelse return 0;
    return @intCast(c.work_inline());
}

export fn rcm_arm(handle: u32) i32 {
    const c = contexts.get(handle) orelse return 0;
    return @intFromBool(c.arm());
}

export fn rcm_interest(handle: u32, on: u32) i32 {
    const c = contexts.get(handle) orelse return dead();
    c.interest.store(on != 0, .seq_cst);
    for (c.channels) |channel| channel.awaited.store(on != 0, .monotonic);
    return 0;
}

export fn rcm_notices(handle: u32, out: ?[*]abi.Notice, max: u32) i32 {
    const c = contexts.get(handle) orelse return 0;
    const p = out orelse return 0;
    return @intCast(c.notices(p[0..max]));
}

export fn rcm_region(handle: u32, which: u32, out: ?*[2]f64) i32 {
    const c = contexts.get(handle) orelse return dead();
    const p = out orelse return fail(.argument);
    const first_shared = @backingInt(abi.Region.shared);
    const kind: abi.Region = if (which > first_shared)
        .shared
    else
        std.enums.fromInt(abi.Region, which) orelse return fail(.argument);
    const memory: []const u8 = switch (kind) {
        .shared => c.shared_region(which - first_shared) orelse return fail(.argument),
        .descriptors => if (c.descriptor_region) |r| r.slice() else &.{},
        .receive_log => if (c.receive_region) |r| r.slice() else &.{},
        .arena => if (c.store) |s| s.pool.base[0..s.pool.bytes] else &.{},
    };
    p.* = .{ @floatFromInt(@intFromPtr(memory.ptr)), @floatFromInt(memory.len) };
    return 0;
}

export fn rcm_stats(handle: u32, buffer: ?[*]u8, capacity: u32) i32 {
    const c = contexts.get(handle) orelse return dead();
    return @intCast(context_stats.write(c, slice(buffer, capacity)));
}

// -------------------------------------------------------------------- tiers

fn tier_of(handle: u32) ?*TierAgent {
    const c = contexts.get(handle) orelse return null;
    const rx = c.rx orelse return null;
    return rx.tier;
}

fn no_tier(handle: u32) i32 {
    if (contexts.get(handle) == null) return dead();
    failure.set("the context is not a member of a tier", .{});
    return fail(.state);
}

/// Runs where the receive agent's token is held, and has its thread look at what changed.
fn with_tier(
    handle: u32,
    comptime T: type,
    value: *const T,
    call: fn (*TierAgent, *const T) void,
) i32 {
    const tier = tier_of(handle) orelse return no_tier(handle);
    const c = contexts.get(handle).?;
    {
        c.rx.?.token.take();
        defer c.rx.?.token.give();
        call(tier, value);
    }
    c.look_now();
    return 0;
}

export fn rcm_tier_view(handle: u32, view: ?*const abi.TierView) i32 {
    return with_tier(handle, abi.TierView, view orelse return fail(.argument), TierAgent.view);
}

export fn rcm_tier_answer(handle: u32, told: ?*const abi.TierAnswer) i32 {
    return with_tier(handle, abi.TierAnswer, told orelse return fail(.argument), TierAgent.answer);
}

/// 1: one was written. At most one is under way, until its answer.
export fn rcm_tier_command(handle: u32, out: ?*abi.TierCommand) i32 {
    const tier = tier_of(handle) orelse return no_tier(handle);
    const p = out orelse return fail(.argument);
    if (!tier.command_waits.load(.acquire)) return 0;
    const rx = contexts.get(handle).?.rx.?;
    rx.token.take();
    defer rx.token.give();
    p.* = tier.command() orelse return 0;
    return 1;
}

export fn rcm_tier_state(handle: u32, out: ?*abi.TierState) i32 {
    const tier = tier_of(handle) orelse return no_tier(handle);
    const p = out orelse return fail(.argument);
    const rx = contexts.get(handle).?.rx.?;
    rx.token.take();
    defer rx.token.give();
    p.* = tier.state();
    return 0;
}

export fn rcm_tier_leave(handle: u32) i32 {
    const tier = tier_of(handle) orelse return no_tier(handle);
    const c = contexts.get(handle).?;
    {
        c.rx.?.token.take();
        defer c.rx.?.token.give();
        tier.leave();
    }
    c.look_now();
    return 0;
}

/// `arbiter`: whose lease the member leads by; below 0: none any more.
export fn rcm_tier_bind(handle: u32, arbiter_handle: i32) i32 {
    const tier = tier_of(handle) orelse return no_tier(handle);
    const agent = if (arbiter_handle < 0) null else arbiter_of(@intCast(arbiter_handle)) orelse
        return no_arbiter();
    const rx = contexts.get(handle).?.rx.?;
    rx.token.take();
    defer rx.token.give();
    tier.bind(agent);
    return 0;
}

/// `number` below 0: the next one. Messages below `carried` need not be handled again once the
/// transaction is committed.
export fn rcm_tier_sync(
    handle: u32,
    data: ?[*]const u8,
    length: u32,
    number: f64,
    carried: f64,
) i32 {
    const results = results_of(handle) orelse return answer(.stopped);
    const is_number = number < 0 or number <= frame.number_max;
    const is_place = carried >= 0 and carried <= frame.number_max;
    if (!is_number or !is_place) return answer(.bad_argument);
    const bytes: []const u8 = if (data) |p| p[0..length] else &.{};
    const wanted: ?u64 = if (number < 0) null else @intFromFloat(number);
    const status: Status = switch (results.sync(bytes, wanted, @intFromFloat(carried))) {
        .ok => .ok,
        .would_block => .would_block,
        .too_large => .too_large,
        .bad_argument => .bad_argument,
        .not_leader => .not_leader,
    };
    if (status == .ok) contexts.get(handle).?.tell_made();
    return answer(status);
}

/// The next transaction that others made: its number and its length in `out`, its bytes in
/// `buffer` where they fit. 1: there is one. `accepted`: 1, the one before was accepted; `settled`:
/// 1, all that was given is applied.
export fn rcm_tier_syn(
    handle: u32,
    accepted: u32,
    settled: u32,
    buffer: ?[*]u8,
    capacity: u32,
    out: ?*[2]f64,
) i32 {
    const results = results_of(handle) orelse return no_tier(handle);
    const told = out orelse return fail(.argument);
    if (accepted != 0) results.accept();
    results.is_settled.store(settled != 0, .release);
    results.flush_ahead();
    const piece = results.look() orelse return 0;
    told.* = .{ @floatFromInt(piece.number), @floatFromInt(piece.bytes.len) };
    const length = piece.bytes.len;
    if (length <= capacity) @memcpy(slice(buffer, capacity)[0..length], piece.bytes);
    return 1;
}

/// 1: the program is the tier's: it has all that was committed before.
export fn rcm_tier_open(handle: u32) i32 {
    const results = results_of(handle) orelse return no_tier(handle);
    return @intFromBool(results.is_open.load(.acquire));
}

fn results_of(handle: u32) ?*TierResults {
    const tier = tier_of(handle) orelse return null;
    return tier.host.results;
}

export fn rcm_stream(handle: u32, stream: u32, out: ?*abi.StreamInfo, capacity: u32) i32 {
    const c = contexts.get(handle) orelse return dead();
    return stream_info(c, stream, out, capacity);
}

fn stream_info(c: *Context, stream: u32, out: ?*abi.StreamInfo, capacity: u32) i32 {
    const rx = c.rx orelse return fail(.argument);
    const p = out orelse return fail(.argument);
    if (capacity < @sizeOf(abi.StreamInfo) or stream >= rx.receiver.count) return fail(.argument);
    const s = &rx.receiver.streams[stream];
    p.* = .{
        .transport_id = s.key.transport,
        .context_id = s.key.source,
        .name_len = s.name_len,
        .pad = 0,
        .name = s.name,
    };
    return @sizeOf(abi.StreamInfo);
}

// -------------------------------------------------------------------- sending

/// `handle` is a context's handle << 8 | index of the transmitter.
inline fn transmitter_of(handle: u32) ?*Transmitter {
    const c = contexts.get(handle >> 8) orelse return null;
    const index = handle & 0xff;
    if (index >= c.transmitters.len) return null;
    return &c.transmitters[index];
}

inline fn sending(handle: u32) ?*Transmitter {
    const c = contexts.get(handle >> 8) orelse return null;
    if (c.draining.load(.monotonic)) return null;
    return transmitter_of(handle);
}

export fn rcm_allocator(handle: u32, tx: u32, thread_no: u32) i32 {
    const c = contexts.get(handle) orelse return dead();
    if (tx >= c.transmitters.len or thread_no > abi.constants.thread_no_max) return fail(.argument);
    const t = &c.transmitters[tx];
    const bump = Bump.init(t.pool) orelse {
        failure.set("too many allocators on one arena", .{});
        return fail(.native);
    };
    const a = gpa.create(Allocator) catch return fail(.native);
    a.* = .{ .own = .{ .bump = bump }, .transmitter = t, .context = c };
    const id = allocators.add(a) orelse {
        a.own.bump.close();
        gpa.destroy(a);
        failure.set("no more than {d} allocators in a process", .{allocators_max});
        return fail(.native);
    };
    return @intCast(id);
}

inline fn stopped(c: *const Context) bool {
    return c.draining.load(.monotonic);
}

const refused_stopped = -@as(f64, @floatFromInt(@backingInt(Status.stopped)));

export fn rcm_malloc(handle: u32, size: u32) f64 {
    if (Senders.is_sender(handle)) {
        const a = senders.enter(handle) orelse return refused_stopped;
        defer senders.leave(handle);
        return a.transmitter.malloc(a, size);
    }
    const a = allocators.get(handle) orelse return refused_stopped;
    if (stopped(a.context)) return refused_stopped;
    return a.transmitter.malloc(a, size);
}

export fn rcm_realloc(handle: u32, size: u32) f64 {
    if (Senders.is_sender(handle)) {
        const a = senders.enter(handle) orelse return refused_stopped;
        defer senders.leave(handle);
        return a.transmitter.realloc(a, size);
    }
    const a = allocators.get(handle) orelse return refused_stopped;
    if (stopped(a.context)) return refused_stopped;
    return a.transmitter.realloc(a, size);
}

export fn rcm_send(handle: u32, length: u32, partition: u32, arg: u32) i32 {
    if (Senders.is_sender(handle)) {
        const a = senders.enter(handle) orelse return answer(.stopped);
        defer senders.leave(handle);
        return answer(a.transmitter.send(a, length, partition, arg));
    }
    const a = allocators.get(handle) orelse return answer(.stopped);
    if (stopped(a.context)) return answer(.stopped);
    return answer(a.transmitter.send(a, length, partition, arg));
}

export fn rcm_send_data(handle: u32, data: ?[*]u8, length: u32, partition: u32, arg: u32) i32 {
    if (data == null and length > 0) return answer(.bad_argument);
    const bytes = slice(data, length);
    if (Senders.is_sender(handle)) {
        const a = senders.enter(handle) orelse return answer(.stopped);
        defer senders.leave(handle);
        return answer(a.transmitter.send_data(&a.own, bytes, partition, arg));
    }
    const t = sending(handle) orelse return answer(.stopped);
    return answer(t.send_data(&t.own, bytes, partition, arg));
}

export fn rcm_send_flag(handle: u32, flag: u32) i32 {
    const t = transmitter_of(handle) orelse return dead();
    t.set_send_flag(flag != 0);
    return 0;
}

export fn rcm_tx_marks(handle: u32, marks: ?[*]f64) i32 {
    const p = marks orelse return fail(.argument);
    if (Senders.is_sender(handle)) {
        const a = senders.enter(handle) orelse return dead();
        defer senders.leave(handle);
        return @intCast(a.transmitter.marks(p[0..a.transmitter.channels.len]));
    }
    const t = transmitter_of(handle) orelse return dead();
    return @intCast(t.marks(p[0..t.channels.len]));
}

export fn rcm_tx_flushed(handle: u32, marks: ?[*]f64) i32 {
    const p = marks orelse return fail(.argument);
    if (Senders.is_sender(handle)) {
        const a = senders.enter(handle) orelse return dead();
        defer senders.leave(handle);
        return @intFromBool(a.transmitter.flushed(p[0..a.transmitter.channels.len]));
    }
    const t = transmitter_of(handle) orelse return 0;
    return @intFromBool(t.flushed(p[0..t.channels.len]));
}

export fn rcm_tx_ready(handle: u32) i32 {
    if (Senders.is_sender(handle)) {
        const a = senders.enter(handle) orelse return dead();
        defer senders.leave(handle);
        return @intFromBool(a.transmitter.ready(&a.own));
    }
    const t = sending(handle) orelse return 0;
    return @intFromBool(t.ready(&t.own));
}

export fn rcm_tx_connected(handle: u32) i32 {
    const t = transmitter_of(handle) orelse return 0;
    return @intCast(t.connected());
}

// -------------------------------------------------------------------- sending in other threads

/// A number that no other process has: handles are good in one process only.
export fn rcm_process_nonce() f64 {
    senders.lock.take();
    defer senders.lock.give();
    if (process_nonce == 0) process_nonce = 1 + (files.random_u64() >> 12);
    return @floatFromInt(process_nonce);
}

var process_nonce: u64 = 0;

/// The context's thread allows other threads to open senders on this transmitter.
export fn rcm_tx_share(handle: u32) i32 {
    const t = sending(handle) orelse return dead();
    t.is_shared = true;
    return 0;
}

/// A sender of the calling thread: its handle. `out`: address and length of the arena, and how many
/// partitions there are.
export fn rcm_sender_open(handle: u32, thread_no: u32, out: ?*[3]f64) i32 {
    const p = out orelse return fail(.argument);
    if (thread_no > abi.constants.thread_no_max) return fail(.argument);
    senders.lock.take();
    defer senders.lock.give();
    const c = contexts.get(handle >> 8) orelse return dead();
    const t = sending(handle) orelse return dead();
    if (!t.is_shared) {
        failure.set("no senderToken was made of this transmitter", .{});
        return fail(.state);
    }
    const id = senders.open(c, t, @intCast(thread_no), &failure) orelse return fail(.state);
    p.* = .{
        @floatFromInt(@intFromPtr(t.pool.base)),
        @floatFromInt(t.pool.bytes),
        @floatFromInt(t.channels.len),
    };
    return @intCast(id);
}

export fn rcm_sender_close(handle: u32) i32 {
    return if (senders.close(handle)) 0 else dead();
}

// -------------------------------------------------------------------- arbitration

/// `local` 1: sessions are files of this machine. Else ZooKeeper's client is loaded from `path`
/// (empty: where the system has it). `waker_id` below 0: nobody is woken, `rcm_arbiter_wait` is
/// called instead.
export fn rcm_arbiter_open(local: u32, waker_id: i32, path: ?[*]u8, length: u32) i32 {
    const api = if (local != 0)
        null
    else
        arbiter_client.load(slice(path, length), &failure) catch return fail(.native);
    const agent = arbiter.Agent.open(&wakers, waker_id, api) catch return fail(.native);
    const handle = arbiters.add(agent) orelse {
        agent.release();
        failure.set("no more than {d} arbiters can be open in a process", .{arbiters_max});
        return fail(.native);
    };
    return @intCast(handle);
}

fn no_arbiter() i32 {
    failure.set("the arbiter was closed", .{});
    return fail(.state);
}

export fn rcm_arbiter_request(handle: u32, bytes: ?[*]u8, length: u32) i32 {
    const agent = arbiters.get(handle) orelse return no_arbiter();
    agent.request(slice(bytes, length), &failure) catch |e| return switch (e) {
        error.Argument => fail(.argument),
        error.State => fail(.state),
        error.Native => fail(.native),
        error.Shm => fail(.shm),
    };
    return 0;
}

/// The oldest event. 0: none; more than `capacity`: so many bytes it needs.
export fn rcm_arbiter_take(handle: u32, buffer: ?[*]u8, capacity: u32) i32 {
    const agent = arbiters.get(handle) orelse return 0;
    return @intCast(agent.events.take(slice(buffer, capacity)));
}

export fn rcm_arbiter_arm(handle: u32) i32 {
    const agent = arbiters.get(handle) orelse return 0;
    return @intFromBool(agent.events.arm());
}

/// Blocks the calling thread until an event waits (1) or the time is over (0).
export fn rcm_arbiter_wait(handle: u32, timeout_ms: u32) i32 {
    const agent = arbiters.get(handle) orelse return no_arbiter();
    return @intFromBool(agent.events.wait(timeout_ms));
}

export fn rcm_arbiter_lease(handle: u32, out: ?*abi.ArbiterLease, capacity: u32) i32 {
    const agent = arbiters.get(handle) orelse return no_arbiter();
    const p = out orelse return fail(.argument);
    if (capacity < @sizeOf(abi.ArbiterLease)) return fail(.argument);
    p.* = agent.describe();
    return @sizeOf(abi.ArbiterLease);
}

/// Ends the session, if there is one: 1, and an event tells when it has ended.
export fn rcm_arbiter_end(handle: u32) i32 {
    const agent = arbiters.get(handle) orelse return 0;
    return @intFromBool(agent.end_session());
}

/// Forgets the arbiter; a session that has not ended yet ends without it.
export fn rcm_arbiter_close(handle: u32) i32 {
    const agent = arbiters.get(handle) orelse return no_arbiter();
    arbiters.remove(handle);
    _ = agent.end_session();
    agent.release();
    return 0;
}

/// 1: a process holds the file of that path (with a 0 behind it) locked; 0: nobody; below: no file.
export fn rcm_arbiter_held(path: ?[*]u8, length: u32) i32 {
    const text = slice(path, length);
    if (text.len == 0 or text[text.len - 1] != 0) return fail(.argument);
    const held = arbiter_local.is_held(text[0 .. text.len - 1 :0]) orelse return fail(.shm);
    return @intFromBool(held);
}

/// The lease of an arbiter, for a tier's engine: it calls `release` on the agent when it ends.
pub fn arbiter_of(handle: u32) ?*arbiter.Agent {
    const agent = arbiters.get(handle) orelse return null;
    agent.retain();
    return agent;
}

// -------------------------------------------------------------------- lanes
// `handle`: a context's handle << 8 | lane for its own thread, or what `rcm_lane_open` gave.

fn lane_begin(handle: u32) ?lanes.Reached {
    if (lanes.Opened.is_opened(handle)) return opened_lanes.begin(handle);
    const c = contexts.get(handle >> 8) orelse return null;
    const rx = c.rx orelse return null;
    const no = handle & 0xff;
    if (no >= rx.lanes.len) return null;
    return .{ .context = c, .lane = &rx.lanes[no], .who = .own };
}

fn lane_end(handle: u32) void {
    if (lanes.Opened.is_opened(handle)) opened_lanes.end(handle);
}

/// How many lanes the context has; 0 with a total order.
export fn rcm_lanes(handle: u32) i32 {
    const c = contexts.get(handle) orelse return dead();
    const rx = c.rx orelse return 0;
    return @intCast(rx.lanes.len);
}

/// The calling thread takes the messages of a lane from now on: its handle.
export fn rcm_lane_open(handle: u32, lane_no: u32) i32 {
    senders.lock.take(); // No context ends meanwhile.
    defer senders.lock.give();
    const c = contexts.get(handle) orelse return dead();
    if (c.draining.load(.acquire)) return dead();
    const rx = c.rx orelse return fail(.argument);
    if (lane_no >= rx.lanes.len) {
        failure.set("there is no lane {d}", .{lane_no});
        return fail(.argument);
    }
    const id = opened_lanes.open(c, &rx.lanes[lane_no], &failure) orelse return fail(.state);
    return @intCast(id);
}

export fn rcm_lane_close(handle: u32) i32 {
    return if (opened_lanes.close(handle)) 0 else dead();
}

/// Whose event loop is woken for it.
export fn rcm_lane_waker(handle: u32, waker_id: i32) i32 {
    const at = lane_begin(handle) orelse return dead();
    defer lane_end(handle);
    at.lane.waker_id.store(waker_id, .release);
    return 0;
}

export fn rcm_lane_enter(handle: u32) i32 {
    const at = lane_begin(handle) orelse return -1;
    defer lane_end(handle);
    return lanes.enter(at);
}

/// `how`: 1, it may have messages that are not wanted now; 2, nobody else may come in.
export fn rcm_lane_leave(handle: u32, how: u32) i32 {
    const at = lane_begin(handle) orelse return -1;
    defer lane_end(handle);
    lanes.leave(at, how & 1 != 0, how & 2 != 0);
    return 0;
}

export fn rcm_lane_drain(handle: u32, processed: u32, max: u32) i32 {
    const at = lane_begin(handle) orelse return 0;
    defer lane_end(handle);
    return @intCast(lanes.drain(at, processed, max) orelse return fail(.argument));
}

export fn rcm_lane_arm(handle: u32) i32 {
    const at = lane_begin(handle) orelse return 0;
    defer lane_end(handle);
    return @intFromBool(lanes.arm(at));
}

export fn rcm_lane_region(handle: u32, which: u32, out: ?*[2]f64) i32 {
    const p = out orelse return fail(.argument);
    const at = lane_begin(handle) orelse return dead();
    defer lane_end(handle);
    const first_shared = @backingInt(abi.Region.shared);
    const memory: []const u8 = if (which > first_shared)
        at.context.shared_region(which - first_shared) orelse return fail(.argument)
    else if (which == @backingInt(abi.Region.descriptors))
        at.lane.descriptors.slice()
    else
        at.lane.pool.base[0..at.lane.pool.bytes];
    p.* = .{ @floatFromInt(@intFromPtr(memory.ptr)), @floatFromInt(memory.len) };
    return 0;
}

export fn rcm_lane_stream(handle: u32, stream: u32, out: ?*abi.StreamInfo, capacity: u32) i32 {
    const at = lane_begin(handle) orelse return dead();
    defer lane_end(handle);
    return stream_info(at.context, stream, out, capacity);
}

/// Topic of a transport; its partition goes to `partition`.
export fn rcm_lane_topic(
    handle: u32,
    transport: u32,
    partition: ?*[1]u32,
    text: ?[*]u8,
    capacity: u32,
) i32 {
    const at = lane_begin(handle) orelse return dead();
    defer lane_end(handle);
    const p = partition orelse return fail(.argument);
    for (at.context.o().rx) |*r| {
        if (r.transportId != transport) continue;
        p[0] = r.partitionNo;
        return copy_text(r.topic, text, capacity);
    }
    return fail(.argument);
}

/// A handler in another thread refused a message. `count` 0 without a text: counted; with one: the
/// first time; else so many times by now.
export fn rcm_lane_refused(handle: u32, count: u32, text: ?[*]u8, length: u32) i32 {
    const at = lane_begin(handle) orelse return dead();
    defer lane_end(handle);
    lanes.refused(at, count, slice(text, length));
    return 0;
}

/// What another thread has told so: the length of its text, or -1. How often in all: `refusals[0]`;
/// by now: `refusals[1]`.
export fn rcm_lane_fault(handle: u32, refusals: ?*[2]f64, text: ?[*]u8, capacity: u32) i32 {
    const at = lane_begin(handle) orelse return -1;
    const p = refusals orelse return -1;
    p[0] = @floatFromInt(at.lane.refused.load(.monotonic));
    const fault = lanes.take_fault(at.lane, slice(text, capacity)) orelse return -1;
    p[1] = @floatFromInt(fault.count);
    return @intCast(fault.len);
}
