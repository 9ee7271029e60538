//! A record as it lies on a disk when its context starts: locked, read, and made to end where the
//! order ends (`docs/files.md`, "Recovery").

const std = @import("std");
const linux = std.os.linux;
const limits = @import("../limits.zig");
const mutant = @import("../testing/mutant.zig");
const files = @import("../window/files.zig");
const record = @import("record.zig");
const record_file = @import("record_file.zig");
const recovery = @import("recovery.zig");
const Disk = @import("disk.zig").Disk;

const block_bytes = limits.record_block_bytes;

/// The files of an earlier process, locked and mapped for reading.
pub const OldFiles = struct {
    opened: std.ArrayList(files.File) = .empty,
    bytes: std.ArrayList([]align(8) const u8) = .empty,

    /// `context`: whose record it must be.
    pub fn open(
        self: *OldFiles,
        gpa: std.mem.Allocator,
        disk: Disk,
        context: []const u8,
        text: *files.ErrorText,
    ) (files.Error || error{OutOfMemory})!void {
        var buffer: [record_file.file_name_bytes]u8 = undefined;
        while (self.opened.items.len < limits.record_files_max) {
            const no: u32 = @intCast(self.opened.items.len);
            const name = record_file.file_name(&buffer, no);
            const file = try disk.find(name, text) orelse return;
            {
                errdefer file.close();
                try self.opened.ensureUnusedCapacity(gpa, 1);
                try self.bytes.ensureUnusedCapacity(gpa, 1);
            }
            self.opened.appendAssumeCapacity(file);
            self.bytes.appendAssumeCapacity(&.{});
            if (file.bytes == 0) continue;
            const all = map_read(file) orelse {
                text.set("no memory to map {s}{s}", .{ disk.path_text(), name });
                return error.Shm;
            };
            self.bytes.items[no] = all;
            try check_identity(all, disk, name, context, text);
        }
    }

    fn map_read(file: files.File) ?[]align(8) const u8 {
        const flags: linux.MAP = .{ .TYPE = .SHARED };
        const result = linux.mmap(null, file.bytes, .{ .READ = true }, flags, file.fd, 0);
        if (linux.errno(result) != .SUCCESS) return null;
        const base: [*]align(limits.page_bytes) const u8 = @ptrFromInt(result);
        return base[0..file.bytes];
    }

    /// The lock on the record, if its first file stays.
    pub fn take_owner(self: *OldFiles, kept: usize) ?files.File {
        if (kept == 0) return null;
        const first = self.opened.items[0];
        self.opened.items[0].fd = -1;
        return first;
    }

    /// All that stays is on the disk. 0, or an errno.
    pub fn force(self: *const OldFiles, disk: Disk, kept: usize) u16 {
        for (self.opened.items[0..kept]) |file| {
            const errno = disk.force(file.fd);
            if (errno != 0) return errno;
        }
        return disk.force_names();
    }

    pub fn deinit(self: *OldFiles, gpa: std.mem.Allocator) void {
        for (self.bytes.items) |all| if (all.len > 0) {
            _ = linux.munmap(@ptrCast(@alignCast(all.ptr)), all.len);
        };
        for (self.opened.items) |file| if (file.fd >= 0) file.close();
        self.bytes.deinit(gpa);
        self.opened.deinit(gpa);
    }
};

fn check_identity(
    all: []align(8) const u8,
    disk: Disk,
    name: []const u8,
    context: []const u8,
    text: *files.ErrorText,
) files.Error!void {
    if (all.len < @sizeOf(record_file.RecordFileHeader)) return;
    const header: *const record_file.RecordFileHeader = @ptrCast(@alignCast(all.ptr));
    if (header.magic != record_file.magic or header.check != header.check_now()) return;
    if (header.version != record_file.version or header.layout_hash != record_file.layout_hash) {
        text.set("{s}{s} was written by another version of this library (version {d}, layout " ++
            "{x}; this one has {d}, {x}): move the folder away", .{
            disk.path_text(),   name,                header.version,
            header.layout_hash, record_file.version, record_file.layout_hash,
        });
        return error.Shm;
    }
    if (header.context_bytes <= header.context.len and
        std.mem.eql(u8, header.name(), context)) return;
    text.set("{s}{s} is the record of another context: move the folder away", .{
        disk.path_text(), name,
    });
    return error.Shm;
}

/// Makes the files end where the order ends. What it does depends on nothing but what stays, so a
/// start that dies in it is repeated.
pub fn repair(found: *const recovery.Found, old: *const OldFiles) files.Error!void {
    for (found.segments.items) |segment| {
        if (segment.end_offset == block_bytes) continue;
        const mark = record.length_end;
        write(old, segment.place, segment.end_offset, std.mem.asBytes(&mark));
    }
    for (found.used_blocks[0..found.files_used()], 0..) |used, n| {
        const no: u32 = @intCast(n);
        if (mutant.on(.behind_kept)) continue;
        cut_blocks(found, old, no, used);
        cut_entries(found, old, no);
        const bytes = @as(u64, @max(1, used)) * block_bytes;
        _ = linux.ftruncate(old.opened.items[n].fd, @intCast(bytes));
    }
}

fn write(old: *const OldFiles, place: record_file.Place, offset: u64, bytes: []const u8) void {
    const fd = old.opened.items[place.file_no].fd;
    _ = linux.pwrite(fd, bytes.ptr, bytes.len, @intCast(place.offset() + offset));
}

/// Segments that are not part of the order lose their headers.
fn cut_blocks(found: *const recovery.Found, old: *const OldFiles, file_no: u32, used: u32) void {
    const all = old.bytes.items[file_no];
    const zeros: [limits.record_block_header_bytes]u8 = @splat(0);
    for (1..@max(1, used)) |block| {
        const place: record_file.Place = .{ .file_no = file_no, .block = @intCast(block) };
        if (place.offset() + zeros.len > all.len) return;
        const at = all.ptr + place.offset();
        const header: *const record_file.BlockHeader = @ptrCast(@alignCast(at));
        if (!header.is_true(file_no, place.block)) continue;
        if (header.kind != @backingInt(record_file.BlockKind.segment)) continue;
        if (header.base_sqn < found.next_sqn) continue;
        write(old, place, 0, &zeros);
    }
}

/// Entries of streams from the end of the order on, which are the last ones of a table.
fn cut_entries(found: *const recovery.Found, old: *const OldFiles, file_no: u32) void {
    const all = old.bytes.items[file_no];
    const zeros: [@sizeOf(record_file.StreamEntry)]u8 = @splat(0);
    for (0..record_file.entries_max) |i| {
        const offset = record_file.table_offset + i * @sizeOf(record_file.StreamEntry);
        if (offset + zeros.len > all.len) return;
        const entry: *const record_file.StreamEntry = @ptrCast(@alignCast(all.ptr + offset));
        if (!entry.is_true() or entry.first_sqn < found.next_sqn) continue;
        write(old, .{ .file_no = file_no, .block = 0 }, offset, &zeros);
    }
}

/// Files behind the end: removed where they hold nothing, else renamed, the last one first. Without
/// damage nothing is missing, so they hold nothing.
pub fn set_aside(
    disk: Disk,
    old: *const OldFiles,
    kept: usize,
    is_damaged: bool,
    text: *files.ErrorText,
) files.Error!u32 {
    var buffers: [2][record_file.file_name_bytes]u8 = undefined;
    var n = old.opened.items.len;
    var count: u32 = 0;
    while (n > kept) {
        n -= 1;
        const name = record_file.file_name(&buffers[0], @intCast(n));
        const all = old.bytes.items[n];
        if (!is_damaged or is_unused(all)) {
            disk.remove(name);
            continue;
        }
        try disk.rename(name, record_file.file_name_aside(&buffers[1], @intCast(n)), text);
        count += 1;
    }
    return count;
}

/// No block was ever taken, as far as headers say.
fn is_unused(all: []align(8) const u8) bool {
    var at: u64 = block_bytes;
    while (at + @sizeOf(record_file.BlockHeader) <= all.len) : (at += block_bytes) {
        const header: *const record_file.BlockHeader = @ptrCast(@alignCast(all.ptr + at));
        if (!header.is_unused()) return false;
    }
    return true;
}

// -------------------------------------------------------------------- cutting on purpose

/// Makes the record of a context that does not run end in front of `sqn`, as if a process had died
/// there. Files that hold nothing of what stays are set aside; their number. A crash in the middle
/// leaves a record that the next start cuts at the same place, or has not cut yet.
pub fn cut_record(
    gpa: std.mem.Allocator,
    disk: Disk,
    context: []const u8,
    sqn: u64,
    text: *files.ErrorText,
) (files.Error || error{ OutOfMemory, Record })!u32 {
    var old: OldFiles = .{};
    defer old.deinit(gpa);
    try old.open(gpa, disk, context, text);
    if (old.opened.items.len == 0) {
        text.set("{s} has no record", .{disk.path_text()});
        return error.Record;
    }
    var found = try recovery.scan_to(gpa, old.bytes.items, sqn);
    defer found.deinit();
    if (sqn < found.first_sqn or found.next_sqn < sqn) {
        text.set("the record in {s} has [{d}, {d}): it can't be cut at {d}", .{
            disk.path_text(), found.first_sqn, found.next_sqn, sqn,
        });
        return error.Record;
    }
    try repair(&found, &old);
    return set_aside(disk, &old, found.files_used(), true, text);
}
