//! `<prefix><context>_counters`: what a running context counts, for other processes to read (guide
//! 9.13.4 without being asked for).
//!
//! The file is a page with a header, a text that names things (JSON, written by TypeScript), and
//! sections. A section is a snapshot (`snapshot.zig`) of one sending window, of the receiving side,
//! or of some of its streams. Each is written by whoever runs that agent, every `interval_ms` while
//! something changes, and by nobody else: the stores need no lock and no system call, and a reader,
//! who maps or reads the file, can't be noticed by the process that it looks at.
//!
//! A reader looks at `sequence` before and after: odd or changed, the section was being written.
//!
//! The file lives as long as its context: whoever owns it holds the kernel's lock on it. What a
//! killed process leaves is replaced by its next start, and removed by other contexts with the same
//! prefix when they start and stop.

const std = @import("std");
const linux = std.os.linux;
const assert = @import("../assert.zig").assert;
const limits = @import("../limits.zig");
const layout = @import("../window/node.zig");
const files = @import("../window/files.zig");
const region_file = @import("../window/region.zig");
const write_header = @import("../window/store.zig").write_header;

const counters = @import("counters.zig");

const CountersPage = counters.CountersPage;
const CountersSection = counters.CountersSection;
const SectionKind = counters.SectionKind;
const page_offset = counters.page_offset;
pub const ErrorText = files.ErrorText;
const FileHeader = layout.FileHeader;

pub const name_end = "_counters";
/// A section to be.
pub const Wish = struct { kind: SectionKind, index: u32, capacity: u32 };

pub const Options = struct {
    directory: []const u8 = "/dev/shm/",
    prefix: []const u8,
    context: []const u8,
    context_id: u32,
    abi_hash: u32,
    interval_ms: u32,
    started_ms: u64,
    text: []const u8,
    sections: []const Wish,
};

/// The file of a running context.
pub const CountersFile = struct {
    folder: files.Folder,
    file: files.File,
    region: region_file.Region,
    sections: []*CountersSection,
    name_buffer: [limits.file_name_bytes_max]u8,
    name_bytes: u32,
    /// Of the name, in front of the context's.
    prefix_bytes: u32,

    pub fn open(
        gpa: std.mem.Allocator,
        o: Options,
        text: *ErrorText,
    ) error{ Shm, OutOfMemory }!CountersFile {
        const slash = std.mem.indexOfScalar(u8, o.prefix, '/');
        const folder: files.Folder = try .open(o.directory, o.prefix[0 .. slash orelse 0], text);
        errdefer folder.close();
        const rest = o.prefix[if (slash) |at| at + 1 else 0..];
        var self: CountersFile = .{
            .folder = folder,
            .file = undefined,
            .region = undefined,
            .sections = undefined,
            .name_buffer = undefined,
            .name_bytes = 0,
            .prefix_bytes = @intCast(rest.len),
        };
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
        self.sweep();
        self.sections = try gpa.alloc(*CountersSection, o.sections.len);
        errdefer gpa.free(self.sections);
        self.file = try folder.create(name, bytes_for(o), text);
        errdefer {
            folder.remove(name);
            self.file.close();
        }
        self.region = try region_file.map_files(&.{
            .{ .fd = self.file.fd, .offset = 0, .bytes = self.file.bytes },
        });
        self.lay_out(o);
        return self;
    }

    fn lay_out(self: *CountersFile, o: Options) void {
        const memory = self.region.slice();
        const text_at = limits.page_bytes;
        @memcpy(memory[text_at..][0..o.text.len], o.text);
        const first = text_at + std.mem.alignForward(usize, o.text.len, limits.cache_line_bytes);
        var at = first;
        for (o.sections, self.sections) |wish, *section| {
            section.* = @ptrCast(@alignCast(memory.ptr + at));
            section.*.* = .{
                .sequence = 0,
                .stamp_ms = 0,
                .capacity = capacity_for(wish),
                .bytes = 0,
                .kind = wish.kind,
                .index = wish.index,
            };
            at += @sizeOf(CountersSection) + capacity_for(wish);
        }
        assert(at <= memory.len);
        const page: *CountersPage = @ptrCast(@alignCast(memory.ptr + page_offset));
        page.* = .{
            .abi_hash = o.abi_hash,
            .context_id = o.context_id,
            .interval_ms = o.interval_ms,
            .section_count = @intCast(o.sections.len),
            .text_offset = text_at,
            .text_bytes = @intCast(o.text.len),
            .sections_offset = @intCast(first),
            .started_ms = o.started_ms,
        };
        const header: *FileHeader = @ptrCast(memory.ptr);
        write_header(header, &header_for(o.context, self.file.bytes));
    }

    /// The file goes: nothing in it outlives its context.
    pub fn close(self: *CountersFile, gpa: std.mem.Allocator) void {
        self.folder.remove(self.file_name());
        self.sweep();
        region_file.release(self.region);
        self.file.close();
        self.folder.close();
        gpa.free(self.sections);
        self.* = undefined;
    }

    fn file_name(self: *const CountersFile) []const u8 {
        return self.name_buffer[0..self.name_bytes];
    }

    /// Removes files of the same prefix whose owners are dead.
    fn sweep(self: *const CountersFile) void {
        var buffer: [32 * 1024]u8 align(8) = undefined;
        // Its own descriptor: it has a place in the list of names.
        const flags: linux.O = .{ .DIRECTORY = true, .CLOEXEC = true };
        const opened = linux.openat(self.folder.fd, ".", flags, 0);
        if (linux.errno(opened) != .SUCCESS) return;
        const fd: i32 = @intCast(opened);
        defer _ = linux.close(fd);
        for (0..looks_max) |_| {
            const got = linux.getdents64(fd, &buffer, buffer.len);
            if (linux.errno(got) != .SUCCESS or got == 0) return;
            var at: usize = 0;
            while (at < got) {
                const entry: *align(1) const linux.dirent64 = @ptrCast(&buffer[at]);
                const name_at = at + @offsetOf(linux.dirent64, "name");
                const found = std.mem.sliceTo(buffer[name_at .. at + entry.reclen], 0);
                if (self.may_be_left(found)) remove_dead(&self.folder, found);
                at += entry.reclen;
            }
        }
    }

    const looks_max = 1024;

    fn may_be_left(self: *const CountersFile, found: []const u8) bool {
        return std.mem.endsWith(u8, found, name_end) and
            std.mem.startsWith(u8, found, self.file_name()[0..self.prefix_bytes]);
    }
};

/// A file by that name which nobody owns, and which is whole: one that is being made is not.
fn remove_dead(folder: *const files.Folder, name: []const u8) void {
    const entry = folder.open_other(name, false) orelse return;
    const file: files.File = .{ .fd = entry.fd, .bytes = entry.bytes };
    var header: FileHeader = undefined;
    const is_whole = file.read(std.mem.asBytes(&header), 0) and is_counters(&header);
    file.close();
    if (is_whole and !entry.is_owned) folder.remove_leftover(name);
}

fn is_counters(header: *const FileHeader) bool {
    return header.magic == layout.file_magic and header.check == header.checksum() and
        header.kind == @backingInt(layout.FileKind.counters);
}

fn capacity_for(wish: Wish) u32 {
    return std.mem.alignForward(u32, wish.capacity, 8);
}

fn bytes_for(o: Options) u64 {
    var bytes: u64 = limits.page_bytes +
        std.mem.alignForward(u64, o.text.len, limits.cache_line_bytes);
    for (o.sections) |wish| bytes += @sizeOf(CountersSection) + capacity_for(wish);
    return std.mem.alignForward(u64, bytes, limits.page_bytes);
}

fn header_for(context: []const u8, bytes: u64) FileHeader {
    var header: FileHeader = std.mem.zeroes(FileHeader);
    header.magic = layout.file_magic;
    header.version = layout.file_version;
    header.layout_hash = layout.layout_hash;
    header.kind = @backingInt(layout.FileKind.counters);
    header.header_bytes = limits.page_bytes;
    header.body_bytes = bytes - limits.page_bytes;
    header.context_bytes = @intCast(context.len);
    @memcpy(header.context[0..context.len], context);
    header.check = header.checksum();
    header.pid = files.process_id();
    return header;
}

/// Begins to write a section; its room for a snapshot.
pub fn begin(section: *CountersSection) []u8 {
    const sequence = section.sequence;
    assert(sequence % 2 == 0);
    @atomicStore(u64, &section.sequence, sequence + 1, .monotonic);
    // On x86_64 stores are seen in their order; the compiler must keep it, too.
    _ = @atomicRmw(u64, &section.stamp_ms, .Xchg, 0, .acq_rel);
    const start: [*]u8 = @ptrCast(section);
    return start[@sizeOf(CountersSection)..][0..section.capacity];
}

/// Ends it. A snapshot that had no room is told by `bytes` = 0.
pub fn end(section: *CountersSection, now_ms: u64, bytes: usize) void {
    assert(section.sequence % 2 == 1);
    section.bytes = if (bytes <= section.capacity) @intCast(bytes) else 0;
    @atomicStore(u64, &section.stamp_ms, @max(1, now_ms), .monotonic);
    @atomicStore(u64, &section.sequence, section.sequence + 1, .release);
}

const testing = std.testing;

fn test_options(prefix: []const u8, sections: []const Wish) Options {
    return .{
        .prefix = prefix,
        .context = "engine",
        .context_id = 7,
        .abi_hash = 0x1234,
        .interval_ms = 100,
        .started_ms = 5,
        .text = "{\"a\":1}",
        .sections = sections,
    };
}

test "sections lie behind each other, and a reader sees whole ones" {
    var text: ErrorText = .{};
    var prefix_buffer: [64]u8 = undefined;
    const prefix = try std.fmt.bufPrint(&prefix_buffer, "rcm-test-{x}-", .{files.random_u64()});
    const o = test_options(prefix, &.{
        .{ .kind = .tx, .index = 0, .capacity = 100 },
        .{ .kind = .rx, .index = 0, .capacity = 64 },
    });
    var file: CountersFile = try .open(testing.allocator, o, &text);
    try testing.expectEqual(104, file.sections[0].capacity);
    try testing.expectEqual(
        @intFromPtr(file.sections[0]) + @sizeOf(CountersSection) + 104,
        @intFromPtr(file.sections[1]),
    );
    const room = begin(file.sections[1]);
    try testing.expectEqual(1, file.sections[1].sequence);
    try testing.expectEqual(64, room.len);
    @memset(room[0..10], 0xaa);
    end(file.sections[1], 77, 10);
    try testing.expectEqual(2, file.sections[1].sequence);
    try testing.expectEqual(77, file.sections[1].stamp_ms);
    try testing.expectEqual(10, file.sections[1].bytes);
    _ = begin(file.sections[1]);
    end(file.sections[1], 78, 65);
    try testing.expectEqual(0, file.sections[1].bytes);
    try testing.expectError(error.Shm, CountersFile.open(testing.allocator, o, &text));
    const folder = file.folder;
    try testing.expect(folder.inode_by_name(file.file_name()) != null);
    var name_buffer: [limits.file_name_bytes_max]u8 = undefined;
    const name = try std.fmt.bufPrint(&name_buffer, "{s}", .{file.file_name()});
    file.close(testing.allocator);
    var again: files.Folder = try .open("/dev/shm/", "", &text);
    defer again.close();
    try testing.expectEqual(null, again.inode_by_name(name));
}

test "what a dead process left goes when another context starts" {
    var text: ErrorText = .{};
    var prefix_buffer: [64]u8 = undefined;
    const prefix = try std.fmt.bufPrint(&prefix_buffer, "rcm-test-{x}-", .{files.random_u64()});
    var dead: CountersFile = try .open(testing.allocator, test_options(prefix, &.{}), &text);
    // As after a kill: the file stays, the lock goes, with the mapping, which holds it too.
    region_file.release(dead.region);
    dead.file.close();
    defer testing.allocator.free(dead.sections);
    defer dead.folder.close();
    var o = test_options(prefix, &.{});
    o.context = "other";
    var file: CountersFile = try .open(testing.allocator, o, &text);
    defer file.close(testing.allocator);
    try testing.expectEqual(null, dead.folder.inode_by_name(dead.file_name()));
    try testing.expect(dead.folder.inode_by_name(file.file_name()) != null);
}
