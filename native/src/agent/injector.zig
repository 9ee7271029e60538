//! Loses, doubles and delays datagrams on purpose: for the demo and for tests of real processes,
//! where the kernel has no such device. It stands between the socket and the protocol of one agent
//! and is off unless asked for. A joined receive buffer is taken apart, so that single datagrams of
//! a batch are hit.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const Address = @import("../transport/address.zig").Address;

const delayed_max = 64;
const datagram_bytes_max = 65536;

pub const Options = struct {
    /// Out of a million.
    drop_ppm: u32 = 0,
    duplicate_ppm: u32 = 0,
    delay_ppm: u32 = 0,
    seed: u64 = 0,

    pub fn is_on(self: Options) bool {
        return self.drop_ppm | self.duplicate_ppm | self.delay_ppm != 0;
    }
};

const Delayed = struct {
    due_ns: u64 = 0,
    from: Address = .{ .ip = 0, .port = 0 },
    bytes: []align(8) u8 = &.{},
    used: bool = false,
    room: []align(8) u8 = &.{},
};

pub const Injector = struct {
    options: Options,
    rng: std.Random.DefaultPrng,
    delayed: []Delayed,
    copy: []align(8) u8,
    dropped: u64 = 0,
    duplicated: u64 = 0,
    held: u64 = 0,

    pub fn init(gpa: std.mem.Allocator, options: Options) !Injector {
        const delayed = try gpa.alloc(Delayed, delayed_max);
        for (delayed) |*d| {
            d.* = .{ .room = try gpa.alignedAlloc(u8, .@"8", 2048) };
        }
        return .{
            .options = options,
            .rng = .init(options.seed),
            .delayed = delayed,
            .copy = try gpa.alignedAlloc(u8, .@"8", datagram_bytes_max),
        };
    }

    pub fn deinit(self: *Injector, gpa: std.mem.Allocator) void {
        for (self.delayed) |*d| gpa.free(d.room);
        gpa.free(self.delayed);
        gpa.free(self.copy);
    }

    fn hit(self: *Injector, ppm: u32) bool {
        return ppm != 0 and self.rng.random().uintLessThan(u32, 1_000_000) < ppm;
    }

    /// Hands what survives to `deliver(context, from, datagram)`.
    pub fn pass(
        self: *Injector,
        now_ns: u64,
        from: Address,
        bytes: []align(8) u8,
        context: anytype,
        comptime deliver: fn (@TypeOf(context), Address, []align(8) u8) void,
    ) void {
        var left = bytes;
        while (left.len > 0) {
            const length = first_length(left);
            const datagram = left[0..length];
            left = @alignCast(left[length..]);
            if (self.hit(self.options.drop_ppm)) {
                self.dropped += 1;
                continue;
            }
            if (self.hit(self.options.delay_ppm) and self.hold(now_ns, from, datagram)) continue;
            if (self.hit(self.options.duplicate_ppm)) {
                self.duplicated += 1;
                @memcpy(self.copy[0..length], datagram);
                deliver(context, from, @alignCast(self.copy[0..length]));
            }
            deliver(context, from, datagram);
        }
    }

    fn hold(self: *Injector, now_ns: u64, from: Address, datagram: []const u8) bool {
        for (self.delayed) |*d| {
            if (d.used or d.room.len < datagram.len) continue;
            @memcpy(d.room[0..datagram.len], datagram);
            d.bytes = @alignCast(d.room[0..datagram.len]);
            d.from = from;
            d.used = true;
            const wait_us = self.rng.random().uintLessThan(u64, 2000);
            d.due_ns = now_ns + wait_us * std.time.ns_per_us;
            self.held += 1;
            return true;
        }
        return false;
    }

    /// Delivers what was delayed long enough.
    pub fn release(
        self: *Injector,
        now_ns: u64,
        context: anytype,
        comptime deliver: fn (@TypeOf(context), Address, []align(8) u8) void,
    ) u32 {
        var n: u32 = 0;
        for (self.delayed) |*d| {
            if (!d.used or d.due_ns > now_ns) continue;
            d.used = false;
            deliver(context, d.from, d.bytes);
            n += 1;
        }
        return n;
    }

    /// When the next delayed datagram is due; maxInt when none is held.
    pub fn next_deadline_ns(self: *const Injector) u64 {
        var at: u64 = std.math.maxInt(u64);
        for (self.delayed) |*d| if (d.used) {
            at = @min(at, d.due_ns);
        };
        return at;
    }

    /// Length of the first datagram of a joined buffer by its header; all of it when that makes no
    /// sense.
    fn first_length(bytes: []align(8) const u8) usize {
        if (bytes.len < frame.header_bytes) return bytes.len;
        const h: *const frame.Header = @ptrCast(bytes.ptr);
        const length: usize = h.length;
        if (h.magic != frame.magic or length < frame.header_bytes or length % 8 != 0 or
            length > bytes.len) return bytes.len;
        return length;
    }
};
