//! What a member of a tier must not forget: `<folder>/<Context>/rcm_tier_state.dat`.
//!
//! Two slots, written in turn, each with a serial and a check: what was forced last is found,
//! whatever happens during a write. Besides the two durable numbers (design/ha.md, Election 2) a
//! slot says whether the log is intact, that is, holds all that this member ever acknowledged
//! (Election 4). That is only believed after a restart on the own record, and if since the last
//! boot either everything was forced before it was acknowledged (`RecordSync: "commit"`), or the
//! context was closed cleanly, or the machine did not reboot. A start that finds itself blank says
//! so in the file before it writes anything else; no restart ever takes that back.

const std = @import("std");
const linux = std.os.linux;
const crc32c = @import("../crc32c.zig");
const limits = @import("../limits.zig");
const files = @import("../window/files.zig");
const epoch_file = @import("epoch.zig");

const Durable = epoch_file.Durable;
const Epoch = epoch_file.Epoch;

pub const file_name = "rcm_tier_state.dat";
const magic: u64 = 0x3154_4154_5352_4954; // "TIRSTAT1"
const slot_stride = limits.page_bytes;
const slots = 2;
const file_bytes = slots * slot_stride;

pub const Slot = extern struct {
    magic: u64 = magic,
    serial: u64 = 0,
    promised: Epoch = .{},
    adopted: Epoch = .{},
    /// Entries that the log had at the least when this was written.
    next_sqn: u64 = 0,
    boot_id: [16]u8 = @splat(0),
    is_intact: u32 = 0,
    /// Closed after everything was forced; nothing was appended since.
    is_clean: u32 = 0,
    /// All of the log is in record files.
    is_recorded: u32 = 0,
    /// CRC32C of what is in front of it.
    check: u32 = 0,

    fn check_now(self: *const Slot) u32 {
        const checked = std.mem.asBytes(self)[0..@offsetOf(Slot, "check")];
        return ~crc32c.update(crc32c.initial, checked);
    }

    fn is_true(self: *const Slot) bool {
        return self.magic == magic and self.check == self.check_now();
    }
};

comptime {
    std.debug.assert(@sizeOf(Slot) == 88);
}

/// What this start knows of the log that it goes on with.
pub const Log = struct {
    /// The record was read from disk, and is written there again.
    is_recorded: bool,
    /// `RecordSync: "commit"`.
    is_forced: bool,
    next_sqn: u64,
    /// Something in the files could not be believed.
    is_damaged: bool,
};

pub const StateFile = struct {
    file: files.File,
    slot: Slot,
    /// Bytes that are still written; for tests that die in the middle.
    bytes_left: u64 = std.math.maxInt(u64),

    /// Reads what there is, decides whether the log is intact, and forces the beginning of this
    /// life to the disk.
    pub fn open(
        folder: *const files.Folder,
        log: Log,
        boot_id: [16]u8,
        text: *files.ErrorText,
    ) files.Error!StateFile {
        const found = try folder.find(file_name, text);
        const file = found orelse try folder.create(file_name, file_bytes, text);
        errdefer file.close();
        var self: StateFile = .{ .file = file, .slot = newest(file) orelse .{} };
        const is_intact = self.slot.is_intact != 0 and stays_intact(&self.slot, log, boot_id);
        if (self.slot.is_intact != 0 and !is_intact) {
            self.slot.is_intact = 0;
            if (!self.write()) return refuse(folder, text);
        }
        self.slot.boot_id = boot_id;
        self.slot.is_clean = 0;
        self.slot.is_recorded = @intFromBool(log.is_recorded);
        self.slot.next_sqn = log.next_sqn;
        if (!self.write()) return refuse(folder, text);
        return self;
    }

    fn refuse(folder: *const files.Folder, text: *files.ErrorText) files.Error {
        text.set("cannot write {s}{s}: a member of a tier must be able to keep its promises", .{
            folder.path_text(), file_name,
        });
        return error.Shm;
    }

    fn stays_intact(slot: *const Slot, log: Log, boot_id: [16]u8) bool {
        if (!log.is_recorded or slot.is_recorded == 0) return false;
        if (log.next_sqn < slot.next_sqn) return false;
        // The kernel had everything: at most a last record is torn, which was not acknowledged.
        if (std.mem.eql(u8, &slot.boot_id, &boot_id)) return true;
        if (log.is_forced) return true;
        return slot.is_clean != 0 and !log.is_damaged;
    }

    fn newest(file: files.File) ?Slot {
        var best: ?Slot = null;
        for (0..slots) |i| {
            var slot: Slot = undefined;
            if (!file.read(std.mem.asBytes(&slot), i * slot_stride)) continue;
            if (!slot.is_true()) continue;
            if (best == null or best.?.serial < slot.serial) best = slot;
        }
        return best;
    }

    pub fn close(self: *StateFile) void {
        self.file.close();
        self.* = undefined;
    }

    pub fn durable(self: *const StateFile) Durable {
        return .{
            .promised = self.slot.promised,
            .adopted = self.slot.adopted,
            .is_intact = self.slot.is_intact != 0,
        };
    }

    /// Forced to the disk when it returns true. `next_sqn`: what the log has now.
    pub fn save(self: *StateFile, d: Durable, next_sqn: u64) bool {
        self.slot.promised = d.promised;
        self.slot.adopted = d.adopted;
        self.slot.is_intact = @intFromBool(d.is_intact);
        self.slot.next_sqn = next_sqn;
        return self.write();
    }

    /// Before the log is cut at `sqn`.
    pub fn lower(self: *StateFile, sqn: u64) bool {
        if (self.slot.next_sqn <= sqn) return true;
        self.slot.next_sqn = sqn;
        return self.write();
    }

    /// The log goes on in memory: the next start is blank.
    pub fn stop_recording(self: *StateFile) bool {
        if (self.slot.is_recorded == 0) return true;
        self.slot.is_recorded = 0;
        return self.write();
    }

    /// After the log was forced; nothing is written after it.
    pub fn close_clean(self: *StateFile, next_sqn: u64) bool {
        self.slot.is_clean = 1;
        self.slot.next_sqn = next_sqn;
        return self.write();
    }

    fn write(self: *StateFile) bool {
        self.slot.serial += 1;
        self.slot.check = self.slot.check_now();
        const bytes = std.mem.asBytes(&self.slot);
        const count = @min(bytes.len, self.bytes_left);
        self.bytes_left -= count;
        const at = self.slot.serial % slots * slot_stride;
        if (!write_all(self.file.fd, bytes[0..count], at)) return false;
        while (true) switch (linux.errno(linux.fdatasync(self.file.fd))) {
            .SUCCESS => return count == bytes.len,
            .INTR => {},
            else => return false,
        };
    }
};

fn write_all(fd: i32, bytes: []const u8, offset: u64) bool {
    var done: usize = 0;
    while (done < bytes.len) {
        const rest = bytes[done..];
        const result = linux.pwrite(fd, rest.ptr, rest.len, @intCast(offset + done));
        switch (linux.errno(result)) {
            .SUCCESS => done += result,
            .INTR => {},
            else => return false,
        }
    }
    return true;
}

/// Changes with each boot of the machine; zeros where that is not told, which is never believed to
/// be the same one.
pub fn boot_id_now() [16]u8 {
    var id: [16]u8 = undefined;
    const unknown = files.random_u64();
    std.mem.writeInt(u64, id[0..8], unknown, .little);
    std.mem.writeInt(u64, id[8..16], ~unknown, .little);
    const path = "/proc/sys/kernel/random/boot_id";
    const opened = linux.open(path, .{ .CLOEXEC = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return id;
    const fd: i32 = @intCast(opened);
    defer _ = linux.close(fd);
    var text: [64]u8 = undefined;
    const got = linux.read(fd, &text, text.len);
    if (linux.errno(got) != .SUCCESS or got < 36) return id;
    var digits: [32]u8 = undefined;
    var n: usize = 0;
    for (text[0..36]) |c| {
        if (c == '-') continue;
        if (n == digits.len) return id;
        digits[n] = c;
        n += 1;
    }
    var parsed: [16]u8 = undefined;
    if (n != digits.len) return id;
    _ = std.fmt.hexToBytes(&parsed, &digits) catch return id;
    return parsed;
}

// -------------------------------------------------------------------- tests

const testing = std.testing;

const Fixture = struct {
    name_buffer: [64]u8 = undefined,
    name: []const u8 = "",

    fn init(self: *Fixture) !void {
        const name = "rcmtest_state_{d}";
        self.name = try std.fmt.bufPrint(&self.name_buffer, name, .{files.process_id()});
        self.remove();
    }

    fn remove(self: *Fixture) void {
        var text: files.ErrorText = .{};
        const folder = files.Folder.open("/dev/shm/", self.name, &text) catch return;
        folder.remove(file_name);
        folder.close();
        var path: [128]u8 = undefined;
        const z = std.fmt.bufPrintSentinel(&path, "/dev/shm/{s}", .{self.name}, 0) catch return;
        _ = linux.rmdir(z);
    }

    fn open(self: *Fixture, log: Log, boot: u8) !StateFile {
        var text: files.ErrorText = .{};
        const folder = try files.Folder.open("/dev/shm/", self.name, &text);
        defer folder.close();
        return StateFile.open(&folder, log, @splat(boot), &text);
    }
};

const whole: Log =
    .{ .is_recorded = true, .is_forced = false, .next_sqn = 10, .is_damaged = false };
const saved: Durable = .{
    .promised = .{ .number = 5, .id = 6 },
    .adopted = .{ .number = 4, .id = 7 },
    .is_intact = true,
};

test "a log is intact after a restart on the own record, and blank otherwise" {
    var fixture: Fixture = .{};
    try fixture.init();
    defer fixture.remove();
    const Case = struct { log: Log, boot: u8, clean: bool, stopped: bool, intact: bool };
    var damaged = whole;
    damaged.is_damaged = true;
    var memory = whole;
    memory.is_recorded = false;
    var forced = whole;
    forced.is_forced = true;
    var shorter = whole;
    shorter.next_sqn = 9;
    const cases = [_]Case{
        .{ .log = whole, .boot = 1, .clean = false, .stopped = false, .intact = true },
        .{ .log = damaged, .boot = 1, .clean = false, .stopped = false, .intact = true },
        .{ .log = whole, .boot = 2, .clean = false, .stopped = false, .intact = false },
        .{ .log = whole, .boot = 2, .clean = true, .stopped = false, .intact = true },
        .{ .log = damaged, .boot = 2, .clean = true, .stopped = false, .intact = false },
        .{ .log = forced, .boot = 2, .clean = false, .stopped = false, .intact = true },
        .{ .log = memory, .boot = 1, .clean = true, .stopped = false, .intact = false },
        .{ .log = whole, .boot = 1, .clean = true, .stopped = true, .intact = false },
        .{ .log = shorter, .boot = 1, .clean = true, .stopped = false, .intact = false },
    };
    for (cases) |case| {
        fixture.remove();
        var first = try fixture.open(whole, 1);
        try testing.expect(!first.durable().is_intact);
        try testing.expect(first.save(saved, 10));
        if (case.stopped) try testing.expect(first.stop_recording());
        if (case.clean) try testing.expect(first.close_clean(10));
        first.close();
        var second = try fixture.open(case.log, case.boot);
        const d = second.durable();
        second.close();
        try testing.expectEqual(case.intact, d.is_intact);
        try testing.expectEqual(saved.promised, d.promised);
        try testing.expectEqual(saved.adopted, d.adopted);
        // No restart makes a blank one intact.
        var third = try fixture.open(whole, case.boot);
        defer third.close();
        if (!case.intact) try testing.expect(!third.durable().is_intact);
    }
}

test "what was forced last is found, however a write ends" {
    var fixture: Fixture = .{};
    try fixture.init();
    defer fixture.remove();
    for (0..@sizeOf(Slot) + 1) |bytes| {
        fixture.remove();
        var first = try fixture.open(whole, 1);
        try testing.expect(first.save(saved, 10));
        first.bytes_left = bytes;
        var later = saved;
        later.promised = .{ .number = 9, .id = 9 };
        const is_done = first.save(later, 10);
        try testing.expectEqual(bytes == @sizeOf(Slot), is_done);
        first.close();
        var second = try fixture.open(whole, 1);
        defer second.close();
        const expected = if (is_done) later else saved;
        try testing.expectEqual(expected, second.durable());
    }
}

test "a start that dies while it finds itself blank stays blank" {
    var fixture: Fixture = .{};
    try fixture.init();
    defer fixture.remove();
    var first = try fixture.open(whole, 1);
    try testing.expect(first.save(saved, 10));
    first.close();
    // Another boot: blank. The next life is of the same boot as this one.
    var second = try fixture.open(whole, 2);
    try testing.expect(!second.durable().is_intact);
    second.close();
    var third = try fixture.open(whole, 2);
    defer third.close();
    try testing.expect(!third.durable().is_intact);
    const id = boot_id_now();
    try testing.expectEqual(id, boot_id_now());
}
