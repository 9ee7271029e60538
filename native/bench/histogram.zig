//! A histogram of times: 128 steps for each doubling, so that a value is known to 0.8 %.
//!
//! `bench/histogram.ts` has the same buckets.

const std = @import("std");

const steps_bits = 7;
const steps = 1 << steps_bits;
const buckets = 40 * steps;

pub const Histogram = struct {
    counts: [buckets]u64 = @splat(0),
    count: u64 = 0,
    max_ns: u64 = 0,

    pub inline fn add(self: *Histogram, value_ns: u64) void {
        self.counts[@min(index_of(value_ns), buckets - 1)] += 1;
        self.count += 1;
        self.max_ns = @max(self.max_ns, value_ns);
    }

    inline fn index_of(value: u64) u64 {
        if (value < steps) return value;
        const shift: u6 = @intCast(63 - @clz(value) - steps_bits);
        return @as(u64, shift) * steps + (value >> shift);
    }

    /// The value that a share of all does not exceed.
    pub fn at(self: *const Histogram, share: f64) u64 {
        var left: u64 = @intFromFloat(@ceil(share * @as(f64, @floatFromInt(self.count))));
        for (self.counts, 0..) |n, i| {
            left -|= n;
            if (left == 0) return lowest(i);
        }
        return self.max_ns;
    }

    fn lowest(index: u64) u64 {
        if (index < 2 * steps) return index;
        const shift: u6 = @intCast(index / steps - 1);
        return (index - @as(u64, shift) * steps) << shift;
    }

    /// `"count":N,"maxNs":N,"buckets":[[index,count],...]`
    pub fn write(self: *const Histogram, out: *std.Io.Writer) !void {
        try out.print("\"count\":{d},\"maxNs\":{d},\"buckets\":[", .{ self.count, self.max_ns });
        var first = true;
        for (self.counts, 0..) |n, i| {
            if (n == 0) continue;
            try out.print("{s}[{d},{d}]", .{ if (first) "" else ",", i, n });
            first = false;
        }
        try out.writeAll("]");
    }
};
