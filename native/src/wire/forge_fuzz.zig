//! What all fuzzers share: datagrams that are whole, datagrams that are bent, and the bench on
//! which they are tried.
//!
//! A forged datagram starts as a valid one of its type. Bending changes a few fields, preferring
//! values at which something changes (0, the largest number, powers of two, what the session
//! stands at), lengths and the type; then magic, length and check are mostly made right again,
//! because what fails there never reaches the code behind. The bytes are put in front of a page
//! that can't be touched, so that reading one byte too many ends the process, also where nothing
//! checks it.

const std = @import("std");
const linux = std.os.linux;
const frame = @import("frame.zig");
const seal = @import("seal.zig");
const limits = @import("../limits.zig");
const session_limits = @import("../session/limits.zig");
const assert = @import("../assert.zig").assert;

pub const Dice = @import("../testing/dice.zig").Dice;
pub const cluster: u16 = 7;
/// Room for the longest forged datagram with its seal.
pub const image_bytes = 4096;

/// Ends the run with the target and seed (`fuzz.zig`) when a property does not hold.
pub inline fn expect(ok: bool, comptime property: []const u8) void {
    if (!ok) {
        @branchHint(.cold);
        @panic("broken: " ++ property);
    }
}

/// Where executions take place: memory for one life of a target, and for one datagram.
pub const Bench = struct {
    /// Reused by every life.
    memory: []align(limits.page_bytes) u8,
    /// A page that can't be touched begins here.
    fence: [*]align(limits.page_bytes) u8,
    /// All executions so far; read by the watchdog.
    executions: std.atomic.Value(u64) = .init(0),

    const memory_bytes = 64 << 20;
    const cell_bytes = 64 << 10;

    pub fn init() error{OutOfMemory}!Bench {
        const memory = try map(memory_bytes);
        const cell = try map(cell_bytes + limits.page_bytes);
        const fence: [*]align(limits.page_bytes) u8 = @alignCast(cell.ptr + cell_bytes);
        if (linux.errno(linux.mprotect(fence, limits.page_bytes, .{})) != .SUCCESS) {
            return error.OutOfMemory;
        }
        return .{ .memory = memory, .fence = fence };
    }

    pub fn deinit(self: *Bench) void {
        _ = linux.munmap(self.memory.ptr, self.memory.len);
        _ = linux.munmap(self.fence - cell_bytes, cell_bytes + limits.page_bytes);
    }

    fn map(bytes: usize) error{OutOfMemory}![]align(limits.page_bytes) u8 {
        const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };
        const result = linux.mmap(null, bytes, .{ .READ = true, .WRITE = true }, flags, -1, 0);
        if (linux.errno(result) != .SUCCESS) return error.OutOfMemory;
        const base: [*]align(limits.page_bytes) u8 = @ptrFromInt(result);
        return base[0..bytes];
    }

    /// A copy that ends in front of the fence (for lengths that are no multiple of 8: nearly).
    pub fn place(self: *Bench, bytes: []const u8) []align(8) u8 {
        assert(bytes.len <= cell_bytes);
        const start: [*]align(8) u8 = @alignCast(self.fence - frame.align8(bytes.len));
        @memcpy(start[0..bytes.len], bytes);
        return start[0..bytes.len];
    }

    pub inline fn count(self: *Bench) void {
        self.executions.store(self.executions.raw + 1, .monotonic);
    }
};

pub const Forge = struct {
    dice: Dice,
    /// A number that matters now: bent fields come near it.
    near: u64 = 0,
    length: u32 = 0,
    image: [image_bytes]u8 align(8) = @splat(0),

    pub fn init(seed: u64) Forge {
        return .{ .dice = .init(seed) };
    }

    pub fn head(self: *Forge) *frame.Header {
        return @ptrCast(&self.image);
    }

    pub fn body(self: *Forge, comptime T: type) *T {
        return @ptrCast(@alignCast(self.image[frame.header_bytes..].ptr));
    }

    pub fn bytes(self: *const Forge) []const u8 {
        return self.image[0..self.length];
    }

    /// True once in `n` times.
    pub inline fn once_in(self: *Forge, n: u64) bool {
        return self.dice.below(n) == 0;
    }

    // ---------------------------------------------------------------- whole

    /// A valid datagram of a type, not yet finished: the caller may set what the session knows.
    pub fn whole(self: *Forge, kind: frame.Type) void {
        const d = &self.dice;
        const bits = d.bits();
        self.head().* = .{
            .type = @backingInt(kind),
            .length = 0,
            .cluster = cluster,
            .check = 0,
            .source = @as(u16, @truncate(bits)) | 1,
            .transport = @as(u16, @truncate(bits >> 16)) | 2,
            .connection_flags = .{
                .connection = @intCast((bits >> 11) & frame.number_max),
                .flags = .{
                    .tier = bits >> 32 & 15 == 0,
                    .ack_request = bits >> 36 & 3 == 0,
                    .repair = bits >> 38 & 3 == 0,
                },
            },
            .number = self.true_number(),
        };
        const body_bytes = switch (kind) {
            .data => self.put_messages(),
            .fragment => self.put_fragment(),
            .syn => self.put_syn(),
            .syn_reply => self.put_syn_reply(),
            .confirm => self.put_confirm(),
            .heartbeat => self.put_heartbeat(),
            .ack => self.put_ack(),
            .nak => self.put_nak(),
            .rst => self.put_rst(),
            .fill => self.put_fill(),
        };
        self.length = frame.header_bytes + body_bytes;
    }

    /// A number that may stand in a header.
    pub fn true_number(self: *Forge) u64 {
        const d = &self.dice;
        return switch (d.below(4)) {
            0 => @min(self.near +| d.below(8), frame.number_max),
            1 => self.near -| d.below(8),
            2 => frame.number_max - d.below(3),
            else => d.bits() >> 11 >> @intCast(d.below(53)),
        };
    }

    /// Any number, mostly one at which something changes.
    pub fn number(self: *Forge) u64 {
        const d = &self.dice;
        return switch (d.below(8)) {
            0 => d.below(4),
            1 => frame.number_max -% 1 +% d.below(4),
            2 => std.math.maxInt(u64) - d.below(3),
            3 => (@as(u64, 1) << @intCast(d.below(64))) +% d.below(3) -% 1,
            4 => d.bits(),
            else => self.near +% d.below(33) -% 16,
        };
    }

    fn put_messages(self: *Forge) u32 {
        const d = &self.dice;
        const few = d.below(8) + 1;
        var used: u32 = 0;
        for (0..few) |_| {
            const length: u32 = @intCast(if (self.once_in(64)) d.below(1000) else d.below(80));
            if (used + length > 1400) break;
            used += self.put_message(used, length, @truncate(d.bits()));
        }
        if (self.once_in(4)) {
            const pad: *frame.MessageHeader = @ptrCast(@alignCast(self.rest(used).ptr));
            pad.* = .{ .length = frame.pad_length, .msg_arg = 0 };
            used += 8 + 8 * @as(u32, @intCast(d.below(4)));
        }
        return used;
    }

    /// Header and room of a message at `at` of the body; what is in the room stays. Bytes taken.
    pub fn put_message(self: *Forge, at: u32, length: u32, msg_arg: u16) u32 {
        const m: *frame.MessageHeader = @ptrCast(@alignCast(self.rest(at).ptr));
        m.* = .{ .length = length, .msg_arg = msg_arg };
        return frame.message_header_bytes + frame.align8(length);
    }

    /// The body from `at` on.
    pub fn rest(self: *Forge, at: u32) []u8 {
        return self.image[frame.header_bytes + at ..];
    }

    fn put_fragment(self: *Forge) u32 {
        const d = &self.dice;
        const size: u32 = @intCast(frame.fragment_bytes_min + d.below(if (self.once_in(8))
            1200
        else
            16));
        const most = session_limits.message_bytes_max;
        const more: u32 = @intCast(if (self.once_in(4))
            d.between(size + 1, most)
        else
            size + 1 + d.below(size * 4));
        const count = frame.fragment_count(more, size);
        const no: u32 = @intCast(if (self.once_in(4)) count - 1 else d.below(count));
        return self.put_fragment_of(more, size, no, @truncate(d.bits()));
    }

    /// Header and room of fragment `no`; what is in the room stays. Bytes taken.
    pub fn put_fragment_of(self: *Forge, length: u32, size: u32, no: u32, msg_arg: u16) u32 {
        self.body(frame.FragmentHeader).* = .{
            .message_length = length,
            .fragment_no = no,
            .fragment_bytes = @intCast(size),
            .msg_arg = msg_arg,
        };
        const here = @min(size, length - @as(u64, no) * size);
        return frame.align8(frame.fragment_header_bytes + @as(u32, @intCast(here)));
    }

    pub const names = [_][]const u8{ "a", "receiver", "\xe5\x8f\x91\xe9\x80\x81", "n" ++ "ame" };

    fn name(self: *Forge) []const u8 {
        return self.dice.one_of([]const u8, &names);
    }

    fn put_syn(self: *Forge) u32 {
        const d = &self.dice;
        const first = d.between(0, self.head().number);
        const text = self.name();
        self.body(frame.Syn).* = .{
            .first = first,
            .join_at = d.between(first, frame.number_max),
            .epoch = .{},
            .repair_ip = @as(u32, @truncate(d.bits())) | 1,
            .repair_port = @as(u16, @truncate(d.bits())) | 1,
            .tx_arg = @truncate(d.bits()),
            .fragment_bytes = @intCast(d.between(frame.fragment_bytes_min, 65535)),
            .group_size = @truncate(d.bits()),
            .window_datagrams = @intCast(d.between(1, session_limits.window_datagrams_max)),
            .name_len = @intCast(text.len),
            .name = frame.name_copy(text),
        };
        return @sizeOf(frame.Syn);
    }

    fn put_syn_reply(self: *Forge) u32 {
        const d = &self.dice;
        const text = self.name();
        const has: u16 = @intCast(d.below(3));
        if (has == 0) self.head().number = 0;
        self.body(frame.SynReply).* = .{
            .receiver_token = d.bits(),
            .instance = d.bits(),
            .receiver = @as(u16, @truncate(d.bits())) | 1,
            .has_position = has,
            .frag = if (has == 0) 0 else @intCast(d.below(4)),
            .name_len = @intCast(text.len),
            .name = frame.name_copy(text),
        };
        return @sizeOf(frame.SynReply);
    }

    fn put_confirm(self: *Forge) u32 {
        const d = &self.dice;
        self.body(frame.Confirm).* = .{
            .receiver_token = d.bits(),
            .session_token = d.bits(),
            .stream_token = d.bits(),
            .epoch = .{},
            .first = self.true_number(),
            .announced = self.true_number(),
            .connection_first = self.true_number(),
            .receiver = @as(u16, @truncate(d.bits())) | 1,
            .tx_arg = @truncate(d.bits()),
            .fragment_bytes = @intCast(d.between(frame.fragment_bytes_min, 65535)),
            .group_size = @truncate(d.bits()),
            .window_datagrams = @intCast(d.between(1, session_limits.window_datagrams_max)),
        };
        return @sizeOf(frame.Confirm);
    }

    fn put_heartbeat(self: *Forge) u32 {
        const d = &self.dice;
        self.body(frame.Heartbeat).* = .{
            .stream_token = d.bits(),
            .epoch = .{},
            .first = d.between(0, self.head().number),
            .frag = @intCast(d.below(4)),
            .group_size = @truncate(d.bits()),
        };
        return @sizeOf(frame.Heartbeat);
    }

    fn put_ack(self: *Forge) u32 {
        const d = &self.dice;
        self.body(frame.Ack).* = .{
            .session_token = d.bits(),
            .highest = self.true_number(),
            .frag = @intCast(d.below(4)),
            .receiver = @as(u16, @truncate(d.bits())) | 1,
            .no_memory = @intCast(d.below(2)),
        };
        return @sizeOf(frame.Ack);
    }

    fn put_nak(self: *Forge) u32 {
        const d = &self.dice;
        const count = if (self.once_in(16))
            d.between(1, session_limits.nak_ranges_max)
        else
            d.between(1, 4);
        self.body(frame.Nak).* = .{
            .session_token = d.bits(),
            .receiver = @as(u16, @truncate(d.bits())) | 1,
            .count = @intCast(count),
            .attempt = @intCast(d.below(4)),
        };
        // So far from the end of numbers that all ranges are in front of it.
        var at: u64 = @min(self.near -| d.below(16), frame.number_max - (1 << 20));
        for (self.nak_ranges(@intCast(count))) |*r| {
            const frag: u32 = @intCast(if (self.once_in(4)) d.below(4) else 0);
            const end = at + 1 + if (self.once_in(16)) d.below(1000) else d.below(3);
            r.* = .{ .start_msg = at, .start_frag = frag, .end_msg = end, .end_frag = frag };
            at = end + 1 + d.below(3);
        }
        return @intCast(@sizeOf(frame.Nak) + count * @sizeOf(frame.Range));
    }

    pub fn nak_ranges(self: *Forge, count: u32) []frame.Range {
        const first: [*]frame.Range = @ptrCast(@alignCast(self.rest(@sizeOf(frame.Nak)).ptr));
        return first[0..count];
    }

    fn put_rst(self: *Forge) u32 {
        const d = &self.dice;
        self.body(frame.Rst).* = .{
            .token = d.bits(),
            .reason = @intCast(d.between(1, 3)),
            .receiver = @truncate(d.bits()),
        };
        return @sizeOf(frame.Rst);
    }

    fn put_fill(self: *Forge) u32 {
        const d = &self.dice;
        const start = @min(self.head().number, frame.number_max - 1);
        self.head().number = start;
        self.body(frame.Fill).* = .{
            .stream_token = d.bits(),
            .end = @min(start + 1 + d.below(4), frame.number_max),
            .reason = @intCast(d.between(1, 2)),
        };
        return @sizeOf(frame.Fill);
    }

    // ---------------------------------------------------------------- bent

    /// Changes one to three things.
    pub fn bend(self: *Forge) void {
        for (0..1 + self.dice.below(3)) |_| self.bend_once();
    }

    fn bend_once(self: *Forge) void {
        const d = &self.dice;
        const start: u64 = if (self.once_in(6)) 0 else frame.header_bytes;
        const at: usize = @intCast(d.between(start, @max(start, self.length - 1)));
        switch (d.below(12)) {
            0 => self.image[at] ^= @as(u8, 1) << @intCast(d.below(8)),
            1 => self.image[at] = @truncate(d.bits()),
            2, 3 => self.field(u64, at).* = self.number(),
            4, 5 => self.field(u32, at).* = @truncate(self.number()),
            6 => self.field(u16, at).* = @truncate(self.number()),
            7 => self.field(u64, at).* +%= d.below(17) -% 8,
            8 => self.field(u32, at).* +%= @truncate(d.below(17) -% 8),
            9 => self.head().type = @intCast(d.below(13)),
            10 => self.resize(),
            else => self.field(u64, at).* = self.field(u64, @intCast(d.below(self.length))).*,
        }
    }

    fn field(self: *Forge, comptime T: type, at: usize) *T {
        const aligned = at & ~@as(usize, @sizeOf(T) - 1);
        return @ptrCast(@alignCast(self.image[aligned..].ptr));
    }

    /// Shorter, or longer with what an earlier datagram left there.
    fn resize(self: *Forge) void {
        const d = &self.dice;
        const eights = if (self.once_in(2))
            d.below(self.length / 8 + 1)
        else
            self.length / 8 + d.below(12);
        const most = image_bytes - 2 * @sizeOf(frame.SealTrailer);
        self.length = @intCast(std.math.clamp(eights * 8, frame.header_bytes, most));
    }

    /// Whole datagrams get all that makes them valid; bent ones mostly do.
    pub fn finish(self: *Forge, sealer: ?*seal.Sealer, is_bent: bool) void {
        const h = self.head();
        const repaired = !is_bent or !self.once_in(32);
        var flags = h.flags();
        if (repaired) {
            h.magic = frame.magic;
            h.version = frame.version;
            h.cluster = cluster;
            flags.reserved = 0;
            flags.sealed = sealer != null;
            h.connection_flags.flags = flags;
        }
        if (sealer) |s| if (repaired) {
            self.length += @sizeOf(frame.SealTrailer);
            h.length = @intCast(self.length);
            return s.seal(self.image[0..self.length]);
        };
        if (repaired) h.length = @intCast(self.length);
        const said = std.math.clamp(h.length, frame.header_bytes, self.length);
        if (!is_bent or !self.once_in(32)) h.check = frame.check_of(self.image[0..said]);
    }

    /// After it was finished: a bit flips, or the tail is missing.
    pub fn damage(self: *Forge) void {
        const d = &self.dice;
        if (self.once_in(2)) {
            self.length = @intCast(d.below(self.length) + 1);
        } else {
            self.image[@intCast(d.below(self.length))] ^= @as(u8, 1) << @intCast(d.below(8));
        }
    }
};
