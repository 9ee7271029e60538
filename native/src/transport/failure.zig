//! Why a set-up call failed, in words: set where the kernel refused, read by whoever reports it.
//!
//! Set-up calls return a plain Zig error and fill a `Failure` of the caller, so that no text is
//! allocated and nothing is shared between threads. Traffic calls never use it.

const std = @import("std");
const linux = std.os.linux;

pub const Failure = struct {
    /// Kernel's error number, 0 when no system call was refused.
    errno: u16 = 0,
    len: u32 = 0,
    buffer: [text_bytes_max]u8 = undefined,

    pub const text_bytes_max = 512;

    /// The text: what was asked, and what stands against it. Empty before the first failure.
    pub fn text(self: *const Failure) []const u8 {
        return self.buffer[0..self.len];
    }

    /// Replaces the text; a longer one than `text_bytes_max` is cut.
    pub fn set(self: *Failure, comptime format: []const u8, arguments: anytype) void {
        var writer: std.Io.Writer = .fixed(&self.buffer);
        writer.print(format, arguments) catch {}; // A cut text is better than none.
        self.len = @intCast(writer.end);
        self.errno = 0;
    }

    /// As `set`, followed by ": " and the name of the kernel's error ("EADDRINUSE").
    pub fn set_errno(
        self: *Failure,
        errno: u16,
        comptime format: []const u8,
        arguments: anytype,
    ) void {
        self.set(format ++ ": {f}", arguments ++ .{Errno{ .number = errno }});
        self.errno = errno;
    }
};

/// Prints an error number by its name, "EINVAL", or as "error 200" if it has none here.
pub const Errno = struct {
    number: u16,

    pub fn format(self: Errno, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        const code: linux.E = @fromBackingInt(self.number);
        if (std.enums.tagName(linux.E, code)) |name| {
            try writer.print("E{s}", .{name});
        } else {
            try writer.print("error {d}", .{self.number});
        }
    }
};

/// The error number of a raw system call's result, 0 on success.
pub fn errno_of(result: usize) u16 {
    return @backingInt(linux.errno(result));
}

test "a failure carries text and the error's name" {
    var failure: Failure = .{};
    try std.testing.expectEqualStrings("", failure.text());
    failure.set_errno(@backingInt(linux.E.ADDRINUSE), "cannot bind {s}", .{"127.0.0.1:5"});
    try std.testing.expectEqualStrings("cannot bind 127.0.0.1:5: EADDRINUSE", failure.text());
    try std.testing.expectEqual(@as(u16, 98), failure.errno);
    failure.set("plain", .{});
    try std.testing.expectEqual(@as(u16, 0), failure.errno);
    failure.set("{s}", .{&@as([600]u8, @splat('x'))});
    try std.testing.expectEqual(@as(usize, Failure.text_bytes_max), failure.text().len);
}
