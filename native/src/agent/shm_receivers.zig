//! Finds the receivers that read this context's windows in place, and notices when they die.
//!
//! Each such receiver has a file beside ours (`receiver_file.zig`). The folder's time of change
//! says when to look for new ones; a lock of the kernel says who lives. Runs in the thread of the
//! send agents.

const std = @import("std");
const linux = std.os.linux;
const assert = @import("../assert.zig").assert;
const limits = @import("../limits.zig");
const clock = @import("clock.zig");
const files = @import("../window/files.zig");
const receiver_file = @import("../window/receiver_file.zig");
const TxChannel = @import("tx_channel.zig").TxChannel;

const links_max = 64;
const step_every_ns = clock.ns_per_ms;
const alive_every_ns = 20 * clock.ns_per_ms;
/// The kernel's stamps move in ticks: a change so soon after a look has the same stamp.
const stamp_doubt_ns = 50 * clock.ns_per_ms;
/// A file that was being made is looked at again so soon.
const again_every_ns = 20 * clock.ns_per_ms;

const Link = struct {
    other: receiver_file.Other,
    name: [limits.file_name_bytes_max]u8,
    name_bytes: u32,
    /// By channel: its place there, or none.
    places: []?u32,

    fn name_text(self: *const Link) []const u8 {
        return self.name[0..self.name_bytes];
    }
};

pub const ShmReceivers = struct {
    gpa: std.mem.Allocator,
    folder: files.Folder,
    prefix: [limits.file_name_bytes_max]u8,
    prefix_bytes: u32,
    source: u16,
    channels: []const *TxChannel,
    links: [links_max]?Link = @splat(null),
    seen_change_ns: u64 = std.math.maxInt(u64),
    doubt_until_ns: u64 = 0,
    /// When a file that was not whole is looked at again.
    again_ns: u64 = std.math.maxInt(u64),
    due_ns: u64 = 0,
    alive_due_ns: u64 = 0,

    pub fn init(
        gpa: std.mem.Allocator,
        prefix: []const u8,
        source: u16,
        channels: []const *TxChannel,
        text: *files.ErrorText,
    ) error{Shm}!ShmReceivers {
        const slash = std.mem.indexOfScalar(u8, prefix, '/');
        const rest = prefix[if (slash) |at| at + 1 else 0..];
        var self: ShmReceivers = .{
            .gpa = gpa,
            .folder = try .open("/dev/shm/", prefix[0 .. slash orelse 0], text),
            .prefix = undefined,
            .prefix_bytes = @intCast(rest.len),
            .source = source,
            .channels = channels,
        };
        @memcpy(self.prefix[0..rest.len], rest);
        return self;
    }

    /// The channels forget their receivers with their senders.
    pub fn deinit(self: *ShmReceivers) void {
        for (&self.links) |*entry| if (entry.*) |*link| {
            link.other.close();
            self.gpa.free(link.places);
        };
        self.folder.close();
    }

    pub fn step(self: *ShmReceivers, now_ns: u64) void {
        if (now_ns < self.due_ns) return;
        self.due_ns = now_ns + step_every_ns;
        if (now_ns >= self.alive_due_ns) {
            self.alive_due_ns = now_ns + alive_every_ns;
            self.look_who_lives(now_ns);
        }
        const change_ns = self.folder.changed_ns();
        if (change_ns != self.seen_change_ns) {
            self.seen_change_ns = change_ns;
            self.doubt_until_ns = now_ns + stamp_doubt_ns;
        } else if (now_ns >= self.doubt_until_ns and now_ns < self.again_ns) return;
        self.again_ns = std.math.maxInt(u64);
        if (self.scan()) self.again_ns = now_ns + again_every_ns;
    }

    fn look_who_lives(self: *ShmReceivers, now_ns: u64) void {
        for (&self.links) |*entry| {
            const link = if (entry.*) |*l| l else continue;
            if (link.other.is_alive()) continue;
            for (self.channels, link.places) |c, *place| {
                const at = place.* orelse continue;
                c.token.take();
                defer c.token.give();
                c.shm.?.detach(now_ns, &c.sender, at);
            }
            // Another one may have been put in its place by now; that one has an owner.
            self.folder.remove_leftover(link.name_text());
            link.other.close();
            self.gpa.free(link.places);
            entry.* = null;
        }
    }

    /// True when a file was not whole yet: its folder does not tell when it is.
    fn scan(self: *ShmReceivers) bool {
        var unfinished = false;
        var buffer: [16 * 1024]u8 align(8) = undefined;
        if (linux.errno(linux.lseek(self.folder.fd, 0, linux.SEEK.SET)) != .SUCCESS) return false;
        while (true) {
            const got = linux.getdents64(self.folder.fd, &buffer, buffer.len);
            if (linux.errno(got) != .SUCCESS or got == 0) return unfinished;
            var at: usize = 0;
            while (at < got) {
                const entry: *align(1) const linux.dirent64 = @ptrCast(&buffer[at]);
                const name_at = at + @offsetOf(linux.dirent64, "name");
                const name = std.mem.sliceTo(buffer[name_at .. at + entry.reclen], 0);
                at += entry.reclen;
                if (!std.mem.startsWith(u8, name, self.prefix[0..self.prefix_bytes])) continue;
                if (!std.mem.endsWith(u8, name, receiver_file.name_end)) continue;
                if (!self.found(name, entry.ino)) unfinished = true;
            }
        }
    }

    /// False when it has to be looked at again.
    fn found(self: *ShmReceivers, name: []const u8, inode: u64) bool {
        var free: ?*?Link = null;
        for (&self.links) |*entry| {
            if (entry.*) |*link| {
                if (link.other.inode == inode) return true;
            } else free = entry;
        }
        const place = free orelse return true;
        const other = switch (receiver_file.Other.open(&self.folder, name)) {
            .good => |other| other,
            .not_now => return false,
            .left_behind => {
                // It may be one that is being made: then it is there at the next look.
                self.folder.remove_leftover(name);
                return false;
            },
        };
        const places = self.gpa.alloc(?u32, self.channels.len) catch {
            other.close();
            return false;
        };
        var any = false;
        for (self.channels, places) |c, *at| {
            at.* = null;
            const slot = other.view.slot_for(self.source, c.transport) orelse continue;
            c.token.take();
            defer c.token.give();
            const shm = if (c.shm) |*shm| shm else continue;
            at.* = shm.attach(other.view.page, other.view.ring, slot);
            if (at.* != null) any = true;
        }
        if (!any) {
            // It reads other windows than ours; its name is looked at again with the next change.
            self.gpa.free(places);
            other.close();
            return true;
        }
        assert(name.len <= limits.file_name_bytes_max);
        place.* = .{
            .other = other,
            .name = undefined,
            .name_bytes = @intCast(name.len),
            .places = places,
        };
        @memcpy(place.*.?.name[0..name.len], name);
        return true;
    }
};
