//! The files of one sending context, opened as a whole (guide 8.3):
//!
//!     <prefix><context>_allocator                                 messages: a page, then chunks
//!     <prefix><context>_<topic>_<partition>_sendingwindow         cursors of a window: a page
//!     <prefix><context>_<topic>_<partition>_sendingwindowblock_1  nodes, first half: a page, nodes
//!     <prefix><context>_<topic>_<partition>_sendingwindowblock_2  second half
//!
//! What an earlier process left is checked before use (names, sizes, layout, checksums) and taken
//! over: numbers go on, messages that were not acknowledged are sent. Files of other sizes are made
//! anew, with the numbers, when nothing is waiting in them; otherwise the start is refused, with
//! words.
//!
//! Two different pairs of names can make one file name (`a_b` + `c`, `a` + `b_c`): the header has
//! both names in full, and such files are refused, never mixed up.

const std = @import("std");
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;
const layout = @import("node.zig");
const files = @import("files.zig");
const region_file = @import("region.zig");
const recovery_file = @import("recovery.zig");
const generations = @import("generations.zig");
const ChunkPool = @import("pool.zig").ChunkPool;
const SendingWindow = @import("sending_window.zig").SendingWindow;

const ErrorText = files.ErrorText;
const File = files.File;
const FileHeader = layout.FileHeader;
const FileKind = layout.FileKind;
const Recovery = recovery_file.Recovery;
const Region = region_file.Region;

pub const OpenError = error{ Shm, OutOfMemory };

pub const WindowName = struct {
    topic: []const u8,
    partition: u32,
};

pub const Options = struct {
    /// Where the files lie, with a slash at its end.
    directory: []const u8 = "/dev/shm/",
    /// In front of every file name; may begin with the name of one folder ("desk/").
    prefix: []const u8 = "",
    context: []const u8,
    /// `MaxMemoryAllowedMBytes` in bytes, a multiple of 1 MiB.
    arena_bytes: u64,
    windows: []const WindowName,
    /// Touch all memory now (`UsePreAllocate`).
    populate: bool = false,
    /// Numbers begin at 0, in windows without messages; the connections go on. Whoever asks for it
    /// makes all messages once more.
    begin_anew: bool = false,
};

/// One window that is open.
pub const OpenWindow = struct {
    window: SendingWindow,
    recovery: Recovery,
    /// What was acknowledged of the window that was found; 0: none was.
    acked_before: u64 = 0,
    /// The cursors' page, then both halves of the ring.
    files: [3]File,
    page_region: Region,
    nodes_region: Region,

    /// Frames to receivers that read this window in place.
    pub fn ring(self: *const OpenWindow) *layout.FrameRing {
        return @ptrCast(self.page_region.base + limits.page_bytes);
    }
};

/// All files of a context. `open` allocates, and is the only one that does.
pub const Store = struct {
    allocator: std.mem.Allocator,
    arena_file: File,
    arena_region: Region,
    /// Chunks of the arena; its memory is what JavaScript maps to write messages.
    pool: ChunkPool,
    /// In the order of `Options.windows`.
    windows: []OpenWindow,
    /// Another thread may still be writing a message: no other arena is to lie where this one lay.
    keep_arena: bool = false,

    /// Opens or makes everything, or nothing: on failure `text` has the words (error.Shm).
    pub fn open(
        allocator: std.mem.Allocator,
        options: Options,
        text: *ErrorText,
    ) OpenError!*Store {
        try check_options(options, text);
        var opener: Opener = try .init(allocator, options, text);
        defer opener.deinit();
        try opener.look();
        const self = try allocator.create(Store);
        errdefer allocator.destroy(self);
        const windows = try allocator.alloc(OpenWindow, options.windows.len);
        errdefer allocator.free(windows);
        const arena_region = try opener.open_arena();
        errdefer region_file.release(arena_region);
        var pool: ChunkPool = try .init(allocator, .{
            .base = arena_region.base + limits.page_bytes,
            .bytes = arena_region.bytes - limits.page_bytes,
            .chunk_bytes = limits.chunk_bytes_for(options.arena_bytes),
        });
        errdefer pool.deinit(allocator);
        var opened: usize = 0;
        errdefer for (windows[0..opened]) |*w| release_window(w);
        for (windows, 0..) |*w, i| {
            w.* = try opener.open_window(i, &pool);
            opened += 1;
        }
        if (options.populate) {
            try region_file.populate(arena_region);
            for (windows) |*w| try region_file.populate(w.nodes_region);
        }
        self.* = .{
            .allocator = allocator,
            .arena_file = opener.arena.file.?,
            .arena_region = arena_region,
            .pool = pool,
            .windows = windows,
        };
        for (windows, opener.windows) |*w, *found| {
            for (&w.files, found.parts) |*file, part| file.* = part.file.?;
        }
        self.take_over(opener.generation);
        opener.keep_files = true;
        return self;
    }

    /// Files stay where they are; what still looks into them reads zeros.
    pub fn close(self: *Store) void {
        const allocator = self.allocator;
        for (self.windows) |*w| {
            release_window(w);
            for (w.files) |file| file.close();
        }
        self.pool.deinit(allocator);
        if (self.keep_arena) {
            region_file.abandon(self.arena_region);
        } else region_file.release(self.arena_region);
        self.arena_file.close();
        allocator.free(self.windows);
        allocator.destroy(self);
    }

    /// From here on the messages in the arena are this process'.
    fn take_over(self: *Store, old: [2]u64) void {
        const pid = files.process_id();
        const page: *layout.ArenaPage = @ptrCast(self.arena_region.base);
        page.header.pid = pid;
        for (self.windows) |*w| w.window.page.header.pid = pid;
        generations.take_over(&page.generation, self.windows, old, files.random_u64());
    }

    fn release_window(w: *OpenWindow) void {
        region_file.release(w.nodes_region);
        region_file.release(w.page_region);
    }
};

/// What was found under one name.
const Part = struct {
    state: enum {
        absent,
        /// Made by a process that died before the header was written: nothing was ever in it.
        unfinished,
        /// Of this context and window, but of other sizes.
        resized,
        good,
    } = .absent,
    file: ?File = null,
};

const Found = struct {
    /// As `OpenWindow.files`.
    parts: [3]Part = @splat(.{}),
    /// Of the cursors' page, when it is there.
    cursors: recovery_file.Cursors = .{ .reclaimed = 0, .acked = 0, .written = 0 },
    acked_before: u64 = 0,
    connection_id: u64 = 0,
    connection_first: u64 = 0,

    /// As if its files were of other sizes, and nothing waited in them.
    fn forget_messages(self: *Found) void {
        self.acked_before = self.cursors.acked;
        self.cursors = .{ .reclaimed = 0, .acked = 0, .written = 0 };
        self.connection_first = 0;
        for (&self.parts) |*part| {
            if (part.state == .good) part.state = .resized;
        }
    }

    fn has_page(self: *const Found) bool {
        return self.parts[0].state == .good or self.parts[0].state == .resized;
    }

    fn all_good(self: *const Found) bool {
        for (self.parts) |part| {
            if (part.state != .good) return false;
        }
        return true;
    }
};

const part_kinds = [3]FileKind{ .window, .block_1, .block_2 };

/// The steps of `Store.open`.
const Opener = struct {
    allocator: std.mem.Allocator,
    options: Options,
    text: *ErrorText,
    folder: files.Folder,
    arena: Part = .{},
    windows: []Found,
    /// Both readings of the arena's generation as it was found; 0 when the arena is new.
    generation: [2]u64 = .{ 0, 0 },
    keep_files: bool = false,

    fn init(allocator: std.mem.Allocator, options: Options, text: *ErrorText) OpenError!Opener {
        const slash = std.mem.indexOfScalar(u8, options.prefix, '/');
        const folder_name = options.prefix[0 .. slash orelse 0];
        const folder: files.Folder = try .open(options.directory, folder_name, text);
        errdefer folder.close();
        const windows = try allocator.alloc(Found, options.windows.len);
        @memset(windows, .{});
        return .{
            .allocator = allocator,
            .options = options,
            .text = text,
            .folder = folder,
            .windows = windows,
        };
    }

    fn deinit(self: *Opener) void {
        if (!self.keep_files) {
            if (self.arena.file) |file| file.close();
            for (self.windows) |found| {
                for (found.parts) |part| if (part.file) |file| file.close();
            }
        }
        self.folder.close();
        self.allocator.free(self.windows);
    }

    /// Locks and judges what is there, and changes nothing.
    fn look(self: *Opener) OpenError!void {
        self.arena = try self.look_at(.allocator, 0);
        for (self.windows, 0..) |*found, i| {
            for (&found.parts, part_kinds) |*part, kind| part.* = try self.look_at(kind, i);
            if (!found.has_page()) continue;
            try self.read_page(found, i);
            if (self.options.begin_anew) found.forget_messages();
            const waiting = found.cursors.pending();
            if (waiting == 0) continue;
            if (self.arena.state == .good and found.all_good()) continue;
            return self.refuse_waiting(found, i, waiting);
        }
    }

    fn refuse_waiting(self: *Opener, found: *const Found, index: usize, waiting: u64) files.Error {
        var buffer: [limits.file_name_bytes_max]u8 = undefined;
        const name = self.file_name(.window, index, &buffer) catch |err| return err;
        const resized = self.arena.state == .resized or found.parts[0].state == .resized;
        const reason = if (resized)
            "its files were made with another MaxMemoryAllowedMBytes"
        else
            "other files of it are missing or incomplete";
        const advice = if (resized)
            "start once with the old value until they are delivered, or remove the files"
        else
            "remove the rest of its files too; numbers then begin anew";
        self.text.set("{s}{s}: {d} messages are not acknowledged, but {s}: {s}", .{
            self.folder.path_text(), name, waiting, reason, advice,
        });
        return error.Shm;
    }

    /// Cursors of a window that is there, checked.
    fn read_page(self: *Opener, found: *Found, index: usize) files.Error!void {
        var buffer: [limits.file_name_bytes_max]u8 = undefined;
        const name = try self.file_name(.window, index, &buffer);
        var page: layout.WindowPage = undefined;
        const capacity = blk: {
            if (!found.parts[0].file.?.read(std.mem.asBytes(&page), 0)) break :blk null;
            break :blk page.header.node_count;
        } orelse return self.damaged(name, "it can't be read");
        found.cursors = recovery_file.read_cursors(&page, capacity) orelse
            return self.damaged(name, "its cursors contradict each other");
        found.connection_id = recovery_file.last_connection_id(&page);
        found.connection_first = @min(page.connection_first.value, found.cursors.written);
        // A message that was numbered just before the process died counts too.
        var node: layout.Node = undefined;
        const slot = found.cursors.written & (capacity - 1);
        const block = &found.parts[if (slot < capacity / 2) 1 else 2];
        if (block.state == .absent or block.state == .unfinished) return;
        const at = limits.page_bytes + slot % (capacity / 2) * limits.node_bytes;
        if (!block.file.?.read(std.mem.asBytes(&node), at)) return;
        const whole = node.tag == found.cursors.written + 1 and node.check == node.checksum();
        if (whole and found.cursors.written - found.cursors.reclaimed < capacity) {
            found.cursors.written += 1;
        }
    }

    fn look_at(self: *Opener, kind: FileKind, index: usize) files.Error!Part {
        var buffer: [limits.file_name_bytes_max]u8 = undefined;
        const name = try self.file_name(kind, index, &buffer);
        const file = try self.folder.find(name, self.text) orelse return .{};
        errdefer file.close();
        var header: FileHeader = undefined;
        const has_header = file.bytes >= limits.page_bytes and
            file.read(std.mem.asBytes(&header), 0) and
            !std.mem.allEqual(u8, std.mem.asBytes(&header), 0);
        if (!has_header) {
            // The cursors' page got its name when it was whole.
            if (kind == .window) return self.damaged(name, "it has no header");
            return .{ .state = .unfinished, .file = file };
        }
        const wanted = self.header_for(kind, index);
        try self.check_header(&header, &wanted, name);
        if (file.bytes != header.header_bytes + header.body_bytes) {
            return self.damaged(name, "it was cut or lengthened");
        }
        const same = header.body_bytes == wanted.body_bytes and
            header.arena_bytes == wanted.arena_bytes and
            header.chunk_bytes == wanted.chunk_bytes and
            header.node_count == wanted.node_count;
        return .{ .state = if (same) .good else .resized, .file = file };
    }

    fn check_header(
        self: *Opener,
        header: *const FileHeader,
        wanted: *const FileHeader,
        name: []const u8,
    ) files.Error!void {
        const path = self.folder.path_text();
        if (header.magic != wanted.magic) {
            self.text.set("{s}{s} is not a file of RCM (magic {x}, expected {x}): remove it, or " ++
                "use another file prefix", .{ path, name, header.magic, wanted.magic });
            return error.Shm;
        }
        if (header.version != wanted.version or header.layout_hash != wanted.layout_hash) {
            self.text.set("{s}{s} was made by another version of RCM (file version {d}, layout " ++
                "{x}; expected {d}, {x}): deliver what waits in it with that version, or " ++
                "remove it", .{
                path,           name,
                header.version, header.layout_hash,
                wanted.version, wanted.layout_hash,
            });
            return error.Shm;
        }
        if (header.check != header.checksum()) return self.damaged(name, "its header is wrong");
        if (header.kind != wanted.kind or header.header_bytes != wanted.header_bytes) {
            return self.damaged(name, "it is a file of another kind");
        }
        const same = header.partition == wanted.partition and
            std.mem.eql(u8, &header.context, &wanted.context) and
            std.mem.eql(u8, &header.topic, &wanted.topic);
        if (same) return self.check_counts(header, name);
        self.text.set("{s}{s} belongs to context \"{s}\", topic \"{s}\", partition {d}, " ++
            "expected context \"{s}\", topic \"{s}\", partition {d}: both make the same file " ++
            "name; rename one or use another file prefix (setFilePrefix)", .{
            path,
            name,
            header.context[0..@min(header.context_bytes, header.context.len)],
            header.topic[0..@min(header.topic_bytes, header.topic.len)],
            header.partition,
            self.options.context,
            wanted.topic[0..wanted.topic_bytes],
            wanted.partition,
        });
        return error.Shm;
    }

    /// The numbers in a header of other sizes are used, so they must be possible.
    fn check_counts(self: *Opener, header: *const FileHeader, name: []const u8) files.Error!void {
        const kind: FileKind = switch (header.kind) {
            1...4 => @fromBackingInt(header.kind),
            else => return self.damaged(name, "it is a file of another kind"),
        };
        if (header.arena_bytes < limits.arena_bytes_min or
            header.arena_bytes > limits.arena_bytes_max or
            header.chunk_bytes != limits.chunk_bytes_for(header.arena_bytes) or
            header.node_count != limits.node_count_for(header.arena_bytes) or
            header.body_bytes != body_bytes_of(kind, header.arena_bytes))
        {
            return self.damaged(name, "its sizes contradict each other");
        }
    }

    fn damaged(self: *Opener, name: []const u8, reason: []const u8) files.Error {
        self.text.set("{s}{s} is damaged: {s}. Remove the files of this context or topic; " ++
            "what was not acknowledged is lost and numbers begin anew", .{
            self.folder.path_text(), name, reason,
        });
        return error.Shm;
    }

    // ---- making and mapping

    /// The arena's region, of a file that was there or a new one.
    fn open_arena(self: *Opener) OpenError!Region {
        const header = self.header_for(.allocator, 0);
        const bytes = header.header_bytes + header.body_bytes;
        if (self.arena.state != .good) try self.make(&self.arena, .allocator, 0);
        const file = self.arena.file.?;
        const region = try region_file.map_files(&.{
            .{ .fd = file.fd, .offset = 0, .bytes = bytes },
        });
        const page: *layout.ArenaPage = @ptrCast(region.base);
        if (self.arena.state == .good) {
            self.generation = generations.read(&page.generation);
        } else {
            write_header(&page.header, &header);
        }
        return region;
    }

    fn open_window(self: *Opener, index: usize, pool: *ChunkPool) OpenError!OpenWindow {
        const found = &self.windows[index];
        const resume_it = found.all_good() and self.arena.state == .good;
        if (!resume_it) try self.make_window(found, index);
        const half = self.header_for(.block_1, index).body_bytes;
        const page_bytes = limits.page_bytes;
        const page_region = try region_file.map_files(&.{
            .{ .fd = found.parts[0].file.?.fd, .offset = 0, .bytes = window_file_bytes },
        });
        errdefer region_file.release(page_region);
        const nodes_region = try region_file.map_files(&.{
            .{ .fd = found.parts[1].file.?.fd, .offset = page_bytes, .bytes = half },
            .{ .fd = found.parts[2].file.?.fd, .offset = page_bytes, .bytes = half },
        });
        const page: *layout.WindowPage = @ptrCast(page_region.base);
        var result: OpenWindow = .{
            .window = undefined,
            .recovery = .{ .resumed = found.has_page() },
            .files = undefined,
            .page_region = page_region,
            .nodes_region = nodes_region,
        };
        const capacity = limits.node_count_for(self.options.arena_bytes);
        result.window = .{
            .page = page,
            .nodes = @ptrCast(nodes_region.base),
            .capacity = capacity,
            .arena = pool.base,
            .arena_bytes = pool.bytes,
            .next_no = 0,
            .reclaimed_seen = 0,
        };
        const cursors = recovery_file.read_cursors(page, capacity);
        const trusted = generations.is_trusted(&page.generations, self.generation);
        // It was read from the file a moment ago, or made by us.
        assert(cursors != null);
        result.acked_before = found.acked_before;
        result.recovery = recovery_file.recover(&result.window, cursors.?, pool, trusted);
        result.recovery.resumed = found.has_page();
        return result;
    }

    /// New files of a window, with the numbers of the old one if there was one; nothing waits in
    /// it. The page comes last, and in one step: while it is the old one, its numbers are safe.
    fn make_window(self: *Opener, found: *Found, index: usize) OpenError!void {
        assert(!found.has_page() or found.cursors.pending() == 0);
        for (found.parts[1..], part_kinds[1..]) |*part, kind| {
            try self.make(part, kind, index);
            const header = self.header_for(kind, index);
            try self.write_first_page(part.file.?, &header);
        }
        var buffers: [2][limits.file_name_bytes_max]u8 = undefined;
        const name = try self.file_name(.window, index, &buffers[0]);
        const temporary = std.fmt.bufPrint(&buffers[1], "{s}.new", .{name}) catch return error.Shm;
        self.folder.remove(temporary);
        const file = try self.folder.create(temporary, window_file_bytes, self.text);
        errdefer {
            self.folder.remove(temporary);
            file.close();
        }
        const region = try region_file.map_files(&.{
            .{ .fd = file.fd, .offset = 0, .bytes = limits.page_bytes },
        });
        defer region_file.release(region);
        const page: *layout.WindowPage = @ptrCast(region.base);
        SendingWindow.reset_page(page, found.cursors.written);
        page.connection_id.store(found.connection_id);
        page.connection_first.store(found.connection_first);
        const header = self.header_for(.window, index);
        write_header(&page.header, &header);
        try self.folder.rename(temporary, name, self.text);
        if (found.parts[0].file) |old| old.close();
        found.parts[0].file = file;
    }

    /// A new file in place of the one that was found, if any.
    fn make(self: *Opener, part: *Part, kind: FileKind, index: usize) files.Error!void {
        var buffer: [limits.file_name_bytes_max]u8 = undefined;
        const name = try self.file_name(kind, index, &buffer);
        const header = self.header_for(kind, index);
        if (part.file) |old| {
            self.folder.remove(name);
            old.close();
            part.file = null;
        }
        const bytes = header.header_bytes + header.body_bytes;
        part.file = try self.folder.create(name, bytes, self.text);
    }

    fn write_first_page(self: *Opener, file: File, header: *const FileHeader) OpenError!void {
        _ = self;
        const region = try region_file.map_files(&.{
            .{ .fd = file.fd, .offset = 0, .bytes = limits.page_bytes },
        });
        defer region_file.release(region);
        write_header(@ptrCast(region.base), header);
    }

    fn header_for(self: *const Opener, kind: FileKind, index: usize) FileHeader {
        const arena_bytes = self.options.arena_bytes;
        var header: FileHeader = std.mem.zeroes(FileHeader);
        header.magic = layout.file_magic;
        header.version = layout.file_version;
        header.layout_hash = layout.layout_hash;
        header.kind = @backingInt(kind);
        header.header_bytes = limits.page_bytes;
        header.body_bytes = body_bytes_of(kind, arena_bytes);
        header.arena_bytes = arena_bytes;
        header.chunk_bytes = limits.chunk_bytes_for(arena_bytes);
        header.node_count = limits.node_count_for(arena_bytes);
        header.context_bytes = @intCast(self.options.context.len);
        @memcpy(header.context[0..header.context_bytes], self.options.context);
        if (kind != .allocator) {
            const window = self.options.windows[index];
            header.partition = window.partition;
            header.topic_bytes = @intCast(window.topic.len);
            @memcpy(header.topic[0..header.topic_bytes], window.topic);
        }
        header.check = header.checksum();
        header.pid = files.process_id();
        return header;
    }

    fn file_name(
        self: *const Opener,
        kind: FileKind,
        index: usize,
        buffer: []u8,
    ) files.Error![]const u8 {
        const slash = std.mem.indexOfScalar(u8, self.options.prefix, '/');
        const prefix = self.options.prefix[if (slash) |at| at + 1 else 0..];
        const context = self.options.context;
        var writer: std.Io.Writer = .fixed(buffer);
        const done = if (kind == .allocator)
            writer.print("{s}{s}_allocator", .{ prefix, context })
        else blk: {
            const window = self.options.windows[index];
            const end = switch (kind) {
                .allocator, .window => "",
                .block_1 => "block_1",
                .block_2 => "block_2",
                .receiver, .counters => unreachable,
            };
            break :blk writer.print("{s}{s}_{s}_{d}_sendingwindow{s}", .{
                prefix, context, window.topic, window.partition, end,
            });
        };
        done catch {
            self.text.set("a file name of context {s} would have more than {d} bytes: use " ++
                "shorter names or a shorter file prefix", .{ context, buffer.len });
            return error.Shm;
        };
        return writer.buffered();
    }
};

const window_file_bytes = limits.page_bytes + @sizeOf(layout.FrameRing);

/// The checksum and the names first; a file whose first words are zero was never finished.
pub fn write_header(at: *FileHeader, header: *const FileHeader) void {
    const magic = header.magic;
    var rest = header.*;
    rest.magic = 0;
    at.* = rest;
    @atomicStore(u64, &at.magic, magic, .release);
}

fn body_bytes_of(kind: FileKind, arena_bytes: u64) u64 {
    return switch (kind) {
        // A chunk of slack: a message of exactly the arena's size fits, with its header.
        .allocator => arena_bytes + limits.chunk_bytes_for(arena_bytes),
        .window => @sizeOf(layout.FrameRing),
        .receiver, .counters => unreachable, // `receiver_file.zig`'s.
        .block_1, .block_2 => @as(u64, limits.node_count_for(arena_bytes)) / 2 * limits.node_bytes,
    };
}

/// The configuration was checked before; this is the last door in front of the file system.
fn check_options(options: Options, text: *ErrorText) files.Error!void {
    const arena = options.arena_bytes;
    if (arena < limits.arena_bytes_min or arena > limits.arena_bytes_max or
        arena % limits.arena_bytes_min != 0)
    {
        text.set("MaxMemoryAllowedMBytes: {d} MiB can't be kept, expected 1 to {d} MiB", .{
            arena >> 20, limits.arena_bytes_max >> 20,
        });
        return error.Shm;
    }
    const slash = std.mem.indexOfScalar(u8, options.prefix, '/');
    if (slash) |at| {
        const folder = options.prefix[0..at];
        if (at == 0 or std.mem.eql(u8, folder, ".") or std.mem.eql(u8, folder, "..")) {
            text.set("the file prefix \"{s}\" does not name a folder", .{options.prefix});
            return error.Shm;
        }
        try check_name("folder of the file prefix", folder, limits.file_name_bytes_max, text);
    }
    const rest = options.prefix[if (slash) |at| at + 1 else 0..];
    if (rest.len > 0) try check_name("file prefix", rest, limits.file_name_bytes_max, text);
    try check_name("context", options.context, limits.context_name_bytes_max, text);
    for (options.windows) |window| {
        try check_name("topic", window.topic, limits.topic_name_bytes_max, text);
        if (window.partition == 0 or window.partition > limits.partition_max) {
            text.set("partition {d} of topic {s}, expected 1 to {d}", .{
                window.partition, window.topic, limits.partition_max,
            });
            return error.Shm;
        }
    }
}

fn check_name(
    what: []const u8,
    name: []const u8,
    bytes_max: u32,
    text: *ErrorText,
) files.Error!void {
    if (name.len == 0 or name.len > bytes_max) {
        text.set("{s} \"{s}\": {d} bytes, expected 1 to {d}", .{ what, name, name.len, bytes_max });
        return error.Shm;
    }
    for (name) |byte| {
        if (byte < ' ' or byte == '/' or byte == 0x7f) {
            text.set("{s} \"{s}\": byte 0x{x:0>2} can't be part of a file name", .{
                what, name, byte,
            });
            return error.Shm;
        }
    }
}
