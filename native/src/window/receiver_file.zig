//! The file of a context that reads others' windows in place: `<prefix><context>_receiver`, its
//! `ReceiverPage`, its `FrameRing`, and a `Slot` for each window that it may come to read.
//!
//! It is made anew at each start and removed at the end: nothing in it outlives its process. What a
//! killed one left is replaced at its next start, or removed by a sender that finds it without an
//! owner.

const std = @import("std");
const limits = @import("../limits.zig");
const layout = @import("node.zig");
const files = @import("files.zig");
const region_file = @import("region.zig");
const write_header = @import("store.zig").write_header;

const ErrorText = files.ErrorText;
const FileHeader = layout.FileHeader;
const ReceiverPage = layout.ReceiverPage;
const Slot = layout.Slot;

pub const name_end = "_receiver";
pub const slots_max = 4096;

pub const Stream = struct { source: u16, transport: u16 };

pub const Options = struct {
    directory: []const u8 = "/dev/shm/",
    prefix: []const u8,
    context: []const u8,
    context_id: u16,
    /// Its thread sleeps when there is nothing to do.
    sleeps: bool,
    streams: []const Stream,
};

/// What lies in the memory of such a file.
pub const View = struct {
    page: *ReceiverPage,
    ring: *layout.FrameRing,
    slots: []Slot,

    pub fn of(memory: []align(limits.page_bytes) u8, slot_count: u32) View {
        const ring_at = limits.page_bytes;
        const slots_at = ring_at + @sizeOf(layout.FrameRing);
        const slots: [*]Slot = @ptrCast(@alignCast(memory.ptr + slots_at));
        return .{
            .page = @ptrCast(memory.ptr),
            .ring = @ptrCast(@alignCast(memory.ptr + ring_at)),
            .slots = slots[0..slot_count],
        };
    }

    /// The slot for a window, where the receiver may come to read it.
    pub fn slot_for(self: View, source: u16, transport: u16) ?*Slot {
        for (self.slots) |*slot| {
            if (slot.source == source and slot.transport == transport) return slot;
        }
        return null;
    }
};

pub fn file_bytes(slot_count: u32) u64 {
    const body = @sizeOf(layout.FrameRing) + @as(u64, slot_count) * @sizeOf(Slot);
    return limits.page_bytes + std.mem.alignForward(u64, body, limits.page_bytes);
}

/// The file of a running context.
pub const ReceiverFile = struct {
    folder: files.Folder,
    file: files.File,
    region: region_file.Region,
    view: View,
    name_buffer: [limits.file_name_bytes_max]u8,
    name_bytes: u32,

    pub fn open(o: Options, text: *ErrorText) error{ Shm, OutOfMemory }!ReceiverFile {
        if (o.streams.len > slots_max) {
            text.set("context {s} reads {d} windows in place, at most {d} are possible", .{
                o.context, o.streams.len, slots_max,
            });
            return error.Shm;
        }
        const slash = std.mem.indexOfScalar(u8, o.prefix, '/');
        const folder: files.Folder = try .open(o.directory, o.prefix[0 .. slash orelse 0], text);
        errdefer folder.close();
        var self: ReceiverFile = .{
            .folder = folder,
            .file = undefined,
            .region = undefined,
            .view = undefined,
            .name_buffer = undefined,
            .name_bytes = 0,
        };
        const rest = o.prefix[if (slash) |at| at + 1 else 0..];
        const name = std.fmt.bufPrint(&self.name_buffer, "{s}{s}" ++ name_end, .{
            rest, o.context,
        }) catch {
            text.set("a file name of context {s} would have more than {d} bytes: use shorter " ++
                "names or a shorter file prefix", .{ o.context, limits.file_name_bytes_max });
            return error.Shm;
        };
        self.name_bytes = @intCast(name.len);
        if (try folder.find_in_time(name, text)) |old| {
            // Nobody owns it, or `find_in_time` had failed.
            folder.remove(name);
            old.close();
        }
        const count: u32 = @intCast(o.streams.len);
        self.file = try folder.create(name, file_bytes(count), text);
        errdefer {
            folder.remove(name);
            self.file.close();
        }
        self.region = try region_file.map_files(&.{
            .{ .fd = self.file.fd, .offset = 0, .bytes = self.file.bytes },
        });
        self.view = .of(self.region.slice(), count);
        for (self.view.slots, o.streams) |*slot, stream| {
            slot.source = stream.source;
            slot.transport = stream.transport;
        }
        const page = self.view.page;
        page.context_id = o.context_id;
        page.slot_count = count;
        page.sleeps = @intFromBool(o.sleeps);
        write_header(&page.header, &header_for(o.context, self.file.bytes));
        return self;
    }

    /// The file goes: nothing in it outlives its context.
    pub fn close(self: *ReceiverFile) void {
        self.folder.remove(self.name_buffer[0..self.name_bytes]);
        region_file.release(self.region);
        self.file.close();
        self.folder.close();
    }
};

fn header_for(context: []const u8, bytes: u64) FileHeader {
    var header: FileHeader = std.mem.zeroes(FileHeader);
    header.magic = layout.file_magic;
    header.version = layout.file_version;
    header.layout_hash = layout.layout_hash;
    header.kind = @backingInt(layout.FileKind.receiver);
    header.header_bytes = limits.page_bytes;
    header.body_bytes = bytes - limits.page_bytes;
    header.context_bytes = @intCast(context.len);
    @memcpy(header.context[0..context.len], context);
    header.check = header.checksum();
    header.pid = files.process_id();
    return header;
}

/// A receiver's file as a sender sees it.
pub const Other = struct {
    file: files.File,
    inode: u64,
    region: region_file.Region,
    view: View,

    pub const Outcome = union(enum) {
        good: Other,
        /// Being made, or not a file of this build: perhaps later.
        not_now,
        /// Its owner is dead.
        left_behind,
    };

    pub fn open(folder: *const files.Folder, name: []const u8) Outcome {
        const entry = folder.open_other(name, true) orelse return .not_now;
        var keep = false;
        const file: files.File = .{ .fd = entry.fd, .bytes = entry.bytes };
        defer if (!keep) file.close();
        var page: ReceiverPage = undefined;
        if (!file.read(std.mem.asBytes(&page), 0) or page.header.magic == 0) {
            return if (entry.is_owned) .not_now else .left_behind;
        }
        const header = &page.header;
        const is_ours = header.magic == layout.file_magic and
            header.kind == @backingInt(layout.FileKind.receiver) and
            header.check == header.checksum();
        if (!is_ours) return .not_now;
        if (!entry.is_owned) return .left_behind;
        const fits = header.version == layout.file_version and
            header.layout_hash == layout.layout_hash and page.slot_count <= slots_max and
            entry.bytes == file_bytes(page.slot_count) and page.context_id != 0 and
            page.context_id <= std.math.maxInt(u16);
        if (!fits) return .not_now;
        const region = region_file.map_files(&.{
            .{ .fd = entry.fd, .offset = 0, .bytes = entry.bytes },
        }) catch return .not_now;
        keep = true;
        return .{ .good = .{
            .file = file,
            .inode = entry.inode,
            .region = region,
            .view = .of(region.slice(), page.slot_count),
        } };
    }

    pub fn is_alive(self: *const Other) bool {
        return files.is_owned(self.file.fd);
    }

    pub fn close(self: *const Other) void {
        region_file.release(self.region);
        self.file.close();
    }
};

const testing = std.testing;

test "a sender sees a receiver's file while its owner lives" {
    var text: ErrorText = .{};
    var prefix_buffer: [64]u8 = undefined;
    const prefix = try std.fmt.bufPrint(&prefix_buffer, "rcm-test-{x}-", .{files.random_u64()});
    var file: ReceiverFile = try .open(.{
        .prefix = prefix,
        .context = "engine",
        .context_id = 7,
        .sleeps = true,
        .streams = &.{ .{ .source = 3, .transport = 9 }, .{ .source = 4, .transport = 9 } },
    }, &text);
    const name = file.name_buffer[0..file.name_bytes];
    try testing.expectError(error.Shm, ReceiverFile.open(.{
        .prefix = prefix,
        .context = "engine",
        .context_id = 7,
        .sleeps = true,
        .streams = &.{},
    }, &text));
    var folder: files.Folder = try .open("/dev/shm/", "", &text);
    defer folder.close();
    const other = switch (Other.open(&folder, name)) {
        .good => |other| other,
        else => return error.NotFound,
    };
    defer other.close();
    try testing.expect(other.is_alive());
    try testing.expectEqual(7, other.view.page.context_id);
    @atomicStore(u64, &file.view.slots[1].consumed, 5, .release);
    try testing.expectEqual(5, other.view.slot_for(4, 9).?.consumed);
    try testing.expectEqual(null, other.view.slot_for(4, 8));
    // As after a kill: the file stays, the lock goes, with the mapping, which holds it too.
    region_file.release(file.region);
    file.file.close();
    try testing.expect(!other.is_alive());
    try testing.expect(Other.open(&folder, name) == .left_behind);
    folder.remove_leftover(name);
    try testing.expectEqual(null, folder.inode_by_name(name));
    file.folder.close();
}

test "a file that is being made is not taken for a dead process'" {
    const rounds = 2000;
    var text: ErrorText = .{};
    var prefix_buffer: [64]u8 = undefined;
    const prefix = try std.fmt.bufPrint(&prefix_buffer, "rcm-test-{x}-", .{files.random_u64()});
    var name_buffer: [128]u8 = undefined;
    const name = try std.fmt.bufPrint(&name_buffer, "{s}engine" ++ name_end, .{prefix});
    const Remover = struct {
        stop: std.atomic.Value(bool) = .init(false),

        fn run(self: *@This(), leftover: []const u8) void {
            var own_text: ErrorText = .{};
            const folder = files.Folder.open("/dev/shm/", "", &own_text) catch return;
            defer folder.close();
            while (!self.stop.load(.acquire)) folder.remove_leftover(leftover);
        }
    };
    var remover: Remover = .{};
    const thread = try std.Thread.spawn(.{}, Remover.run, .{ &remover, name });
    defer thread.join();
    defer remover.stop.store(true, .release);
    for (0..rounds) |_| {
        var file: ReceiverFile = try .open(.{
            .prefix = prefix,
            .context = "engine",
            .context_id = 7,
            .sleeps = true,
            .streams = &.{.{ .source = 3, .transport = 9 }},
        }, &text);
        defer file.close();
        try testing.expect(file.folder.inode_by_name(name) != null);
    }
}
