//! The windows of other contexts that this one reads in place: found, mapped for reading, and
//! mapped again when their sender has made new files. Runs in the thread of the receive agent.

const std = @import("std");
const linux = std.os.linux;
const assert = @import("../assert.zig").assert;
const limits = @import("../limits.zig");
const clock = @import("clock.zig");
const layout = @import("../window/node.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const receiver_file = @import("../window/receiver_file.zig");
const ShmSource = @import("../session/shm_source.zig").ShmSource;
const Receiver = @import("../session/receiver.zig").Receiver;

const FileHeader = layout.FileHeader;
const look_every_ns = 10 * clock.ns_per_ms;
/// Mappings of arenas in a context's life: their numbers are never given twice.
const regions_max = 1 << 16;

/// A window as the configuration names it.
pub const Wish = struct {
    context: []const u8,
    source: u16,
    topic: []const u8,
    partition: u16,
    transport: u16,
};

/// An arena that is mapped, shared by all windows in it.
const Arena = struct {
    inode: u64,
    region: region_file.Region,
    /// By which JavaScript knows it.
    number: u32,
    users: u32,
};

const Mapping = struct {
    fd: i32,
    inode: u64,
    page: region_file.Region,
    nodes: region_file.Region,
    arena: u32,
};

/// A mapping that was replaced: messages of it may still wait to be processed.
const Retired = struct { arena: u32, place: u32, tail: u64 };

pub const ShmWindows = struct {
    gpa: std.mem.Allocator,
    file: receiver_file.ReceiverFile,
    prefix: []const u8,
    wishes: []const Wish,
    sources: []ShmSource,
    mappings: []?Mapping,
    slots: []*layout.Slot,
    arenas: std.ArrayList(Arena) = .empty,
    retired: std.ArrayList(Retired) = .empty,
    next_number: u32 = 1,
    look_due_ns: u64 = 0,
    populate: bool,

    pub const Options = struct {
        prefix: []const u8,
        context: []const u8,
        context_id: u16,
        sleeps: bool,
        populate: bool,
        /// Kept, not copied.
        wishes: []const Wish,
    };

    pub fn init(
        gpa: std.mem.Allocator,
        o: Options,
        text: *files.ErrorText,
    ) error{ Shm, OutOfMemory }!ShmWindows {
        const streams = try gpa.alloc(receiver_file.Stream, o.wishes.len);
        defer gpa.free(streams);
        for (o.wishes, streams) |wish, *stream| {
            stream.* = .{ .source = wish.source, .transport = wish.transport };
        }
        var file: receiver_file.ReceiverFile = try .open(.{
            .prefix = o.prefix,
            .context = o.context,
            .context_id = o.context_id,
            .sleeps = o.sleeps,
            .streams = streams,
        }, text);
        errdefer file.close();
        const sources = try gpa.alloc(ShmSource, o.wishes.len);
        errdefer gpa.free(sources);
        const mappings = try gpa.alloc(?Mapping, o.wishes.len);
        errdefer gpa.free(mappings);
        const slots = try gpa.alloc(*layout.Slot, o.wishes.len);
        @memset(mappings, null);
        for (o.wishes, sources, slots, file.view.slots) |wish, *source, *slot, *own| {
            source.* = .{
                .source = wish.source,
                .transport = wish.transport,
                .slot = own,
            };
            slot.* = own;
        }
        const slash = std.mem.indexOfScalar(u8, o.prefix, '/');
        return .{
            .gpa = gpa,
            .file = file,
            .prefix = o.prefix[if (slash) |at| at + 1 else 0..],
            .wishes = o.wishes,
            .sources = sources,
            .mappings = mappings,
            .slots = slots,
            .populate = o.populate,
        };
    }

    pub fn deinit(self: *ShmWindows) void {
        for (self.mappings) |*m| if (m.*) |*mapping| self.unmap(mapping);
        for (self.arenas.items) |arena| {
            if (arena.users > 0) region_file.release(arena.region);
        }
        self.arenas.deinit(self.gpa);
        self.retired.deinit(self.gpa);
        self.gpa.free(self.slots);
        self.gpa.free(self.mappings);
        self.gpa.free(self.sources);
        self.file.close();
    }

    /// Memory of an arena by its number: the payloads' offsets count from its start.
    pub fn region(self: *const ShmWindows, number: u32) ?[]const u8 {
        for (self.arenas.items) |arena| {
            if (arena.number != number or arena.users == 0) continue;
            return arena.region.slice()[limits.page_bytes..];
        }
        return null;
    }

    /// Windows that are not there yet, and those whose sender has died or made new ones.
    pub fn look(self: *ShmWindows, now_ns: u64) void {
        if (now_ns < self.look_due_ns) return;
        self.look_due_ns = now_ns + look_every_ns;
        self.release_retired();
        for (self.mappings, 0..) |*m, i| {
            if (m.*) |*mapping| {
                if (files.is_owned(mapping.fd)) continue;
                const inode = self.inode_of(i) orelse continue;
                if (inode == mapping.inode) continue;
                self.retire(@intCast(i));
            }
            self.map(@intCast(i));
        }
    }

    /// True while a window is looked for.
    pub fn is_waiting(self: *const ShmWindows) bool {
        for (self.mappings) |m| if (m == null) return true;
        return false;
    }

    // ---------------------------------------------------------------- mapping

    fn name_of(self: *const ShmWindows, i: usize, end: []const u8, buffer: []u8) ?[]const u8 {
        const wish = &self.wishes[i];
        if (end.len == 0) {
            return std.fmt.bufPrint(buffer, "{s}{s}_allocator", .{
                self.prefix, wish.context,
            }) catch null;
        }
        return std.fmt.bufPrint(buffer, "{s}{s}_{s}_{d}_{s}", .{
            self.prefix, wish.context, wish.topic, wish.partition, end,
        }) catch null;
    }

    fn inode_of(self: *const ShmWindows, i: usize) ?u64 {
        var buffer: [limits.file_name_bytes_max]u8 = undefined;
        const name = self.name_of(i, "sendingwindow", &buffer) orelse return null;
        return self.file.folder.inode_by_name(name);
    }

    const Found = struct { entry: files.Folder.Entry, header: FileHeader };

    /// A sender's file, if it is whole, of this build, and belongs to the window.
    fn find(self: *ShmWindows, i: usize, end: []const u8, kind: layout.FileKind) ?Found {
        var buffer: [limits.file_name_bytes_max]u8 = undefined;
        const name = self.name_of(i, end, &buffer) orelse return null;
        const entry = self.file.folder.open_other(name, false) orelse return null;
        var header: FileHeader = undefined;
        const file: files.File = .{ .fd = entry.fd, .bytes = entry.bytes };
        const wish = &self.wishes[i];
        const fits = file.read(std.mem.asBytes(&header), 0) and
            header.magic == layout.file_magic and header.version == layout.file_version and
            header.layout_hash == layout.layout_hash and header.check == header.checksum() and
            header.kind == @backingInt(kind) and
            entry.bytes == header.header_bytes + header.body_bytes and
            std.mem.eql(u8, std.mem.sliceTo(&header.context, 0), wish.context);
        const names_fit = fits and (kind == .allocator or (header.partition == wish.partition and
            std.mem.eql(u8, std.mem.sliceTo(&header.topic, 0), wish.topic)));
        if (names_fit) return .{ .entry = entry, .header = header };
        _ = linux.close(entry.fd);
        return null;
    }

    fn map(self: *ShmWindows, i: u32) void {
        const ends = [_][]const u8{
            "", "sendingwindow", "sendingwindowblock_1", "sendingwindowblock_2",
        };
        const kinds = [_]layout.FileKind{ .allocator, .window, .block_1, .block_2 };
        var found: [4]Found = undefined;
        var count: usize = 0;
        defer for (found[0..count]) |f| {
            if (f.entry.fd >= 0) _ = linux.close(f.entry.fd);
        };
        for (ends, kinds) |end, kind| {
            found[count] = self.find(i, end, kind) orelse return;
            count += 1;
        }
        const h = &found[0].header;
        for (found[1..]) |*f| {
            if (f.header.arena_bytes != h.arena_bytes) return;
            if (f.header.node_count != h.node_count) return;
        }
        const is_possible = h.arena_bytes >= limits.arena_bytes_min and
            h.arena_bytes <= limits.arena_bytes_max and
            h.node_count == limits.node_count_for(h.arena_bytes);
        if (!is_possible) return;
        self.map_found(i, &found) catch return;
    }

    fn map_found(self: *ShmWindows, i: u32, found: *[4]Found) !void {
        const page = limits.page_bytes;
        const half = found[2].header.body_bytes;
        const capacity = found[0].header.node_count;
        if (half != @as(u64, capacity) / 2 * limits.node_bytes or
            found[3].header.body_bytes != half) return error.Shm;
        const arena = try self.arena_of(&found[0]);
        self.arenas.items[arena].users += 1;
        errdefer self.drop_arena(arena);
        const page_region = try region_file.map_files_read_only(&.{
            .{ .fd = found[1].entry.fd, .offset = 0, .bytes = found[1].entry.bytes },
        });
        errdefer region_file.release(page_region);
        const nodes = try region_file.map_files_read_only(&.{
            .{ .fd = found[2].entry.fd, .offset = page, .bytes = half },
            .{ .fd = found[3].entry.fd, .offset = page, .bytes = half },
        });
        self.mappings[i] = .{
            .fd = found[1].entry.fd,
            .inode = found[1].entry.inode,
            .page = page_region,
            .nodes = nodes,
            .arena = arena,
        };
        found[1].entry.fd = -1;
        const arena_bytes = self.arenas.items[arena].region.bytes - page;
        const chunk_bytes = limits.chunk_bytes_for(found[0].header.arena_bytes);
        self.sources[i].attach(.{
            .page = @ptrCast(page_region.base),
            .ring = @ptrCast(page_region.base + page),
            .nodes = @ptrCast(nodes.base),
            .capacity = capacity,
            .arena = self.arenas.items[arena].region.base + page,
            .arena_bytes = arena_bytes,
            .claim_chunks = limits.shm_claim_chunks(arena_bytes, chunk_bytes),
            .chunk_shift = @intCast(std.math.log2_int(u32, chunk_bytes)),
            .region = self.arenas.items[arena].number,
        });
    }

    fn arena_of(self: *ShmWindows, found: *const Found) !u32 {
        for (self.arenas.items, 0..) |arena, k| {
            if (arena.users > 0 and arena.inode == found.entry.inode) return @intCast(k);
        }
        if (self.next_number == regions_max) return error.Shm;
        const mapped = try region_file.map_files_read_only(&.{
            .{ .fd = found.entry.fd, .offset = 0, .bytes = found.entry.bytes },
        });
        errdefer region_file.release(mapped);
        if (self.populate) region_file.populate_read(mapped);
        try self.arenas.append(self.gpa, .{
            .inode = found.entry.inode,
            .region = mapped,
            .number = self.next_number,
            .users = 0,
        });
        self.next_number += 1;
        return @intCast(self.arenas.items.len - 1);
    }

    fn drop_arena(self: *ShmWindows, k: u32) void {
        const arena = &self.arenas.items[k];
        assert(arena.users > 0);
        arena.users -= 1;
        if (arena.users == 0) region_file.release(arena.region);
    }

    fn unmap(self: *ShmWindows, mapping: *const Mapping) void {
        _ = self;
        region_file.release(mapping.nodes);
        region_file.release(mapping.page);
        _ = linux.close(mapping.fd);
    }

    /// The sender has made other files. What waits to be processed still lies in the old ones.
    fn retire(self: *ShmWindows, i: u32) void {
        const mapping = self.mappings[i].?;
        self.retired.append(self.gpa, .{
            .arena = mapping.arena,
            .place = i,
            .tail = self.sources[i].tail,
        }) catch return; // With the next look.
        self.sources[i].detach();
        self.unmap(&mapping);
        self.mappings[i] = null;
    }

    fn release_retired(self: *ShmWindows) void {
        var k: usize = 0;
        while (k < self.retired.items.len) {
            const old = self.retired.items[k];
            const consumed = @atomicLoad(u64, &self.slots[old.place].consumed, .acquire);
            if (consumed < old.tail) {
                k += 1;
                continue;
            }
            self.drop_arena(old.arena);
            _ = self.retired.orderedRemove(k);
        }
    }
};
