//! Style as a test: what a reviewer would otherwise say twice.
//!
//! Reads every file under `src` and checks what the compiler and `zig fmt` do not: columns,
//! lengths, headers, banned calls with what takes their place, the protocol's freedom from I/O,
//! and that no file is forgotten by `tests.zig`. Every offence is printed with its place.
//! Run by `zig build tidy`, from the folder `native`.

const std = @import("std");

const Ast = std.zig.Ast;
const Allocator = std.mem.Allocator;

const columns_max = 100;
const function_lines_max = 70;
const file_lines_max = 700;
/// A longer file is one thing, and its header says so in a line that starts with this.
const long_file_mark = "//! Long because ";

/// Functions over `function_lines_max`, as "path:name", that would not gain by a cut.
const long_functions = [_][]const u8{
    // A type that depends on its host is what a function returns.
    "tier/member.zig:Member",
};

/// Roots of programs: they print, and are not part of the library.
const programs = [_][]const u8{ "abi_gen.zig", "fuzz.zig", "sim.zig", "tests.zig", "tidy.zig" };

/// Folders of the protocol: state machines that get time and datagrams as arguments.
const pure_folders = [_][]const u8{ "order/", "repair/", "session/", "tier/", "window/", "wire/" };
/// What opens and maps the files of windows and record, although it lies in such a folder.
const impure_files = [_][]const u8{
    "order/disk.zig",
    "order/history.zig",
    "order/recorder.zig",
    "order/recording.zig",
    "order/replay.zig",
    "order/restoring.zig",
    "order/tier_log.zig",
    "tier/state_file.zig",
    "window/files.zig",
    "window/region.zig",
};

const Ban = struct {
    /// Consecutive tokens.
    tokens: []const []const u8,
    instead: []const u8,
    where: enum {
        everywhere,
        /// Not in programs, tests and code that runs at compile time.
        library,
        /// As `library`, and only in `pure_folders`.
        protocol,
    },
};

const bans = [_]Ban{
    .{
        .tokens = &.{ "debug", ".", "print" },
        .instead = "a notice (session/notices.zig); in a program its own writer",
        .where = .everywhere,
    },
    .{
        .tokens = &.{ "debug", ".", "assert" },
        .instead = "assert.zig, which stays on in the shipped library",
        .where = .library,
    },
    .{
        .tokens = &.{ "catch", "unreachable" },
        .instead = "handling the error: this is undefined behaviour in the shipped library",
        .where = .library,
    },
    .{
        .tokens = &.{ "orelse", "unreachable" },
        .instead = "an assertion (assert.zig): this is undefined behaviour in the shipped library",
        .where = .library,
    },
    .{
        .tokens = &.{ "linux", ".", "clock_gettime" },
        .instead = "agent/clock.zig: libc's clock is 8 times cheaper",
        .where = .everywhere,
    },
    .{
        .tokens = &.{ "linux", ".", "getauxval" },
        .instead = "libc's getauxval: this one knows nothing when libc is linked",
        .where = .everywhere,
    },
    .{
        .tokens = &.{ "Threaded", ".", "init", "(" },
        .instead = ".init_single_threaded, which leaves the host's signal handlers alone",
        .where = .everywhere,
    },
    .{
        .tokens = &.{ "os", ".", "linux" },
        .instead = "an argument: the protocol does no I/O (transport/, agent/ do)",
        .where = .protocol,
    },
    .{
        .tokens = &.{ "std", ".", "c", "." },
        .instead = "an argument: the protocol does no I/O (transport/, agent/ do)",
        .where = .protocol,
    },
    .{
        .tokens = &.{ "Thread", ".", "spawn" },
        .instead = "an agent: the protocol starts no thread",
        .where = .protocol,
    },
    .{
        .tokens = &.{ "Io", ".", "Clock" },
        .instead = "an argument: the protocol reads no clock",
        .where = .protocol,
    },
};

/// Words that say that something is not finished. Two halves, so that this file does not hold them.
const unfinished = [_][]const u8{ "TO" ++ "DO", "FIX" ++ "ME", "X" ++ "XX", "HA" ++ "CK" };

const File = struct {
    /// Relative to `src`.
    path: []const u8,
    source: [:0]const u8,
    ast: Ast,

    fn line_of(self: *const File, token: Ast.TokenIndex) usize {
        return self.ast.tokenLocation(0, token).line + 1;
    }
};

/// All sources, sorted by path, and the offences that a test found in them.
const Sources = struct {
    arena: std.heap.ArenaAllocator,
    files: []File,
    offences: usize = 0,

    fn read() !Sources {
        var self = Sources{ .arena = .init(std.heap.page_allocator), .files = &.{} };
        const arena = self.arena.allocator();
        const io = std.testing.io;
        const dir = try std.Io.Dir.cwd().openDir(io, "src", .{ .iterate = true });
        defer dir.close(io);
        var files: std.ArrayList(File) = .empty;
        var walker = try dir.walk(arena);
        while (try walker.next(io)) |entry| {
            if (entry.kind != .file or !std.mem.endsWith(u8, entry.path, ".zig")) continue;
            const bytes = try dir.readFileAlloc(io, entry.path, arena, .limited(1 << 22));
            const source = try arena.dupeSentinel(u8, bytes, 0);
            try files.append(arena, .{
                .path = try arena.dupe(u8, entry.path),
                .source = source,
                .ast = try Ast.parse(arena, source, .{ .mode = .zig }),
            });
        }
        self.files = files.items;
        std.mem.sort(File, self.files, {}, struct {
            fn less(_: void, left: File, right: File) bool {
                return std.mem.lessThan(u8, left.path, right.path);
            }
        }.less);
        return self;
    }

    fn offence(self: *Sources, path: []const u8, line: usize, text: []const u8) void {
        self.offences += 1;
        var buffer: [512]u8 = undefined;
        var stderr = std.Io.File.stderr().writerStreaming(std.testing.io, &buffer);
        stderr.interface.print("native/src/{s}:{d}: {s}\n", .{ path, line, text }) catch return;
        stderr.interface.flush() catch return;
    }

    fn finish(self: *Sources) !void {
        defer self.arena.deinit();
        try std.testing.expect(self.files.len > 1);
        if (self.offences > 0) return error.Untidy;
    }

    fn find(self: *const Sources, path: []const u8) ?*const File {
        for (self.files) |*file| {
            if (std.mem.eql(u8, file.path, path)) return file;
        }
        return null;
    }
};

fn contains(list: []const []const u8, item: []const u8) bool {
    for (list) |entry| {
        if (std.mem.eql(u8, entry, item)) return true;
    }
    return false;
}

fn is_pure(path: []const u8) bool {
    if (contains(&impure_files, path)) return false;
    for (pure_folders) |folder| {
        if (std.mem.startsWith(u8, path, folder)) return true;
    }
    return false;
}

test "lines are at most 100 columns" {
    var sources = try Sources.read();
    for (sources.files) |file| {
        var lines = std.mem.splitScalar(u8, file.source, '\n');
        var number: usize = 1;
        while (lines.next()) |line| : (number += 1) {
            const columns = try std.unicode.utf8CountCodepoints(line);
            if (columns > columns_max) sources.offence(file.path, number, "over 100 columns");
        }
    }
    try sources.finish();
}

test "files have a header, and over 700 lines it says why" {
    var sources = try Sources.read();
    for (sources.files) |file| {
        if (!std.mem.startsWith(u8, file.source, "//! ")) {
            sources.offence(file.path, 1, "no header; start with a line `//! What this is.`");
        }
        const lines = std.mem.countScalar(u8, file.source, '\n');
        if (lines <= file_lines_max) continue;
        if (std.mem.indexOf(u8, file.source, long_file_mark) == null) {
            const text = "over 700 lines; cut it, or say: " ++ long_file_mark;
            sources.offence(file.path, lines, text);
        }
    }
    try sources.finish();
}

test "functions are at most 70 lines" {
    var sources = try Sources.read();
    const arena = sources.arena.allocator();
    var met: [long_functions.len]bool = @splat(false);
    for (sources.files) |file| {
        for (0..file.ast.nodes.len) |index| {
            const node: Ast.Node.Index = @fromBackingInt(@intCast(index));
            if (file.ast.nodeTag(node) != .fn_decl) continue;
            const first = file.ast.firstToken(node);
            const lines = file.line_of(file.ast.lastToken(node)) - file.line_of(first) + 1;
            if (lines <= function_lines_max) continue;
            const name = function_name(&file.ast, node);
            const key = try std.fmt.allocPrint(arena, "{s}:{s}", .{ file.path, name });
            const allowed = for (long_functions, 0..) |entry, at| {
                if (std.mem.eql(u8, entry, key)) break at;
            } else null;
            if (allowed) |at| {
                met[at] = true;
            } else {
                const text = "{s} has {d} lines, over 70; cut it";
                sources.offence(file.path, file.line_of(first), try std.fmt.allocPrint(
                    arena,
                    text,
                    .{ name, lines },
                ));
            }
        }
    }
    // An allowance that nobody needs any more is removed.
    for (met) |was_met| try std.testing.expect(was_met);
    try sources.finish();
}

fn function_name(ast: *const Ast, node: Ast.Node.Index) []const u8 {
    var buffer: [1]Ast.Node.Index = undefined;
    const prototype = ast.fullFnProto(&buffer, node).?;
    return ast.tokenSlice(prototype.name_token orelse prototype.ast.fn_token);
}

test "banned calls have a better one, and the protocol does no I/O" {
    var sources = try Sources.read();
    const arena = sources.arena.allocator();
    for (sources.files) |file| {
        const exempt = try exempt_tokens(arena, &file.ast);
        const is_program = contains(&programs, file.path) or
            std.mem.startsWith(u8, file.path, "testing/");
        for (0..file.ast.tokens.len) |index| {
            const token: Ast.TokenIndex = @intCast(index);
            for (bans) |ban| {
                const applies = switch (ban.where) {
                    .everywhere => true,
                    .library => !is_program and !exempt.isSet(index),
                    .protocol => is_pure(file.path) and !exempt.isSet(index) and
                        !std.mem.endsWith(u8, file.path, "_test.zig") and
                        !std.mem.endsWith(u8, file.path, "_fuzz.zig"),
                };
                if (!applies or !matches(&file.ast, token, ban.tokens)) continue;
                const words = try std.mem.join(arena, " ", ban.tokens);
                const text = try std.mem.concat(arena, u8, &.{ words, ": use ", ban.instead });
                sources.offence(file.path, file.line_of(token), text);
            }
        }
    }
    try sources.finish();
}

fn matches(ast: *const Ast, first: Ast.TokenIndex, wanted: []const []const u8) bool {
    if (first + wanted.len > ast.tokens.len) return false;
    for (wanted, first..) |text, token| {
        if (!std.mem.eql(u8, ast.tokenSlice(@intCast(token)), text)) return false;
    }
    return true;
}

/// Tokens of tests and of code that runs at compile time.
fn exempt_tokens(arena: Allocator, ast: *const Ast) !std.bit_set.DynamicBitSetUnmanaged {
    var set: std.bit_set.DynamicBitSetUnmanaged = try .initEmpty(arena, ast.tokens.len);
    for (0..ast.nodes.len) |index| {
        const node: Ast.Node.Index = @fromBackingInt(@intCast(index));
        switch (ast.nodeTag(node)) {
            .test_decl, .@"comptime" => set.setRangeValue(.{
                .start = ast.firstToken(node),
                .end = ast.lastToken(node) + 1,
            }, true),
            else => {},
        }
    }
    return set;
}

test "nothing is marked as unfinished" {
    var sources = try Sources.read();
    for (sources.files) |file| {
        var lines = std.mem.splitScalar(u8, file.source, '\n');
        var number: usize = 1;
        while (lines.next()) |line| : (number += 1) {
            for (unfinished) |word| {
                if (has_word(line, word)) {
                    sources.offence(file.path, number, "unfinished: finish it, or leave it out");
                }
            }
        }
    }
    try sources.finish();
}

/// Not as part of a longer word: `mkdtemp` wants six of a letter.
fn has_word(line: []const u8, word: []const u8) bool {
    const at = std.mem.indexOf(u8, line, word) orelse return false;
    const end = at + word.len;
    const joins_before = at > 0 and std.ascii.isAlphanumeric(line[at - 1]);
    const joins_after = end < line.len and std.ascii.isAlphanumeric(line[end]);
    return !joins_before and !joins_after;
}

test "names of files are snake_case" {
    var sources = try Sources.read();
    for (sources.files) |file| {
        for (file.path) |letter| {
            const fits = std.ascii.isLower(letter) or std.ascii.isDigit(letter) or
                std.mem.indexOfScalar(u8, "_/.", letter) != null;
            if (fits) continue;
            sources.offence(file.path, 1, "the file's name is not snake_case");
            break;
        }
    }
    try sources.finish();
}

test "tests.zig imports every file with tests, and reaches every other" {
    var sources = try Sources.read();
    const arena = sources.arena.allocator();
    const root = sources.find("tests.zig") orelse return error.NoTestRoot;
    const direct = try imports(arena, root);
    var reached: std.StringHashMapUnmanaged(void) = .empty;
    try reached.put(arena, root.path, {});
    var queue: std.ArrayList([]const u8) = .empty;
    try queue.append(arena, root.path);
    while (queue.pop()) |path| {
        const file = sources.find(path) orelse continue; // The compiler says more about it.
        for (try imports(arena, file)) |imported| {
            if ((try reached.getOrPut(arena, imported)).found_existing) continue;
            try queue.append(arena, imported);
        }
    }
    for (sources.files) |file| {
        if (std.mem.eql(u8, file.path, "tidy.zig")) continue; // The step `tidy` runs it.
        const is_root = std.mem.eql(u8, file.path, root.path);
        if (!is_root and has_tests(&file.ast) and !contains(direct, file.path)) {
            sources.offence(file.path, 1, "has tests that do not run; import it in tests.zig");
        }
        if (!reached.contains(file.path)) {
            sources.offence(file.path, 1, "nobody imports it; name it in tests.zig, or delete it");
        }
    }
    try sources.finish();
}

fn has_tests(ast: *const Ast) bool {
    for (0..ast.nodes.len) |index| {
        if (ast.nodeTag(@fromBackingInt(@intCast(index))) == .test_decl) return true;
    }
    return false;
}

/// Paths, relative to `src`, of the files that a file imports.
fn imports(arena: Allocator, file: *const File) ![]const []const u8 {
    var found: std.ArrayList([]const u8) = .empty;
    const folder = std.fs.path.dirname(file.path) orelse "";
    for (0..file.ast.tokens.len) |index| {
        const token: Ast.TokenIndex = @intCast(index);
        if (!matches(&file.ast, token, &.{ "@import", "(" })) continue;
        const literal = file.ast.tokenSlice(token + 2);
        const name = std.mem.trim(u8, literal, "\"");
        if (!std.mem.endsWith(u8, name, ".zig")) continue;
        try found.append(arena, try std.fs.path.resolvePosix(arena, &.{ folder, name }));
    }
    return found.items;
}
