//! Builds DATA and FRAGMENT datagrams straight from the sender's arena: messages that lie one after
//! another there are copied into the datagram at once, with their headers, because the arena keeps
//! them in wire form. The same function serves new data and repairs: a datagram is made from
//! numbers, never remembered.

const std = @import("std");
const frame = @import("frame.zig");
const seal = @import("seal.zig");
const assert = @import("../assert.zig").assert;
const SendingWindow = @import("../window/sending_window.zig").SendingWindow;
const layout = @import("../window/node.zig");

const Position = frame.Position;

pub const Packer = struct {
    sizes: frame.Sizes,
    /// Type, length, flags and number are set for each datagram.
    head: frame.Header,
    sealer: ?*seal.Sealer,

    pub const Piece = struct {
        /// First position that is not in this datagram.
        end: Position,
        bytes: u32,
    };

    pub const Options = struct {
        flags: frame.Flags = .{},
        /// Stop before a message that was numbered while the send flag was off.
        skip_unsent: bool = false,
    };

    /// One datagram of what lies in [at, limit); `limit` is a message boundary or inside the first
    /// message. Padded to full length when more follows, so that a run of datagrams has one segment
    /// size.
    pub fn build(
        self: *Packer,
        window: *const SendingWindow,
        at: Position,
        limit: Position,
        buffer: []align(8) u8,
        options: Options,
    ) Piece {
        assert(at.less(limit));
        assert(buffer.len >= self.sizes.datagram_bytes);
        const node = window.node(at.msg);
        const is_fragment = node.length > self.sizes.message_bytes;
        assert(is_fragment or at.frag == 0);
        const h: *frame.Header = @ptrCast(buffer.ptr);
        h.* = self.head;
        h.number = at.msg;
        h.check = 0;
        var flags = options.flags;
        flags.tier = self.head.flags().tier;
        flags.sealed = self.sealer != null;
        h.connection_flags = .{ .connection = @intCast(self.head.connection()), .flags = flags };
        const seal_bytes: u32 = if (self.sealer != null) @sizeOf(frame.SealTrailer) else 0;
        const space = self.sizes.datagram_bytes - seal_bytes;
        var used: u32 = undefined;
        const end = if (is_fragment)
            self.put_fragment(window, at, buffer[0..space], &used)
        else
            put_messages(window, at, limit, buffer[0..space], &used, options.skip_unsent);
        h.type = @backingInt(if (is_fragment) frame.Type.fragment else frame.Type.data);
        if (end.less(limit) and used < space) {
            pad(buffer[used..space], is_fragment);
            used = space;
        }
        assert(used % 8 == 0);
        h.length = @intCast(used + seal_bytes);
        seal.finish(self.sealer, buffer[0..h.length]);
        return .{ .end = end, .bytes = h.length };
    }

    fn put_fragment(
        self: *const Packer,
        window: *const SendingWindow,
        at: Position,
        buffer: []align(8) u8,
        used: *u32,
    ) Position {
        const node = window.node(at.msg);
        const size = self.sizes.fragment_bytes;
        const count = frame.fragment_count(node.length, size);
        assert(at.frag < count);
        const f: *frame.FragmentHeader = @ptrCast(@alignCast(buffer.ptr + frame.header_bytes));
        f.* = .{
            .message_length = node.length,
            .fragment_no = at.frag,
            .fragment_bytes = @intCast(size),
            .msg_arg = node.msg_arg,
        };
        const from = @as(u64, at.frag) * size;
        const len: u32 = @intCast(@min(size, node.length - from));
        const start = frame.header_bytes + frame.fragment_header_bytes;
        const payload = window.payload(node);
        @memcpy(buffer[start..][0..len], payload[from..][0..len]);
        const total = frame.align8(start + len);
        @memset(buffer[start + len .. total], 0);
        used.* = total;
        if (at.frag + 1 == count) return .{ .msg = at.msg + 1 };
        return .{ .msg = at.msg, .frag = at.frag + 1 };
    }

    fn put_messages(
        window: *const SendingWindow,
        at: Position,
        limit: Position,
        buffer: []u8,
        used: *u32,
        skip_unsent: bool,
    ) Position {
        var filled: u32 = frame.header_bytes;
        var msg = at.msg;
        // [run_start, run_end) of the arena is copied at once when the next message does not
        // continue it.
        var run_start: u64 = 0;
        var run_end: u64 = 0;
        const skip = layout.flag_lost | (if (skip_unsent) layout.flag_unsent else 0);
        while (msg < limit.msg) : (msg += 1) {
            const node = window.node(msg);
            const need = frame.message_header_bytes + frame.align8(node.length);
            if (need > buffer.len - filled) break;
            if (node.flags & skip != 0) break;
            const start = window.header_offset(node);
            if (start != run_end) {
                const n: u32 = @intCast(run_end - run_start);
                @memcpy(buffer[filled - n .. filled], window.arena_slice(run_start, n));
                run_start = start;
            }
            run_end = start + need;
            filled += need;
        }
        assert(msg > at.msg);
        const n: u32 = @intCast(run_end - run_start);
        @memcpy(buffer[filled - n .. filled], window.arena_slice(run_start, n));
        used.* = filled;
        return .{ .msg = msg };
    }

    fn pad(rest: []u8, is_fragment: bool) void {
        @memset(rest, 0);
        if (is_fragment) return;
        if (rest.len < frame.message_header_bytes) return;
        const head: *frame.MessageHeader = @ptrCast(@alignCast(rest.ptr));
        head.* = .{ .length = frame.pad_length, .msg_arg = 0 };
    }
};
