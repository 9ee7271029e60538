//! Writes `src/native/abi.ts` from `abi.zig` by reflection.
//!
//!     abi_gen FILE            writes FILE
//!     abi_gen --check FILE    fails when FILE is not what would be written

const std = @import("std");
const abi = @import("abi.zig");
const abi_hash = @import("abi_hash.zig");

const Element = abi_hash.Element;
const Writer = std.Io.Writer;

pub fn main(init: std.process.Init) !void {
    const arena = init.arena.allocator();
    const args = try init.minimal.args.toSlice(arena);
    var text: Writer.Allocating = .init(arena);
    try generate(abi, &text.writer);
    const generated = text.written();

    const cwd = std.Io.Dir.cwd();
    if (args.len == 2) {
        try cwd.writeFile(init.io, .{ .sub_path = args[1], .data = generated });
    } else if (args.len == 3 and std.mem.eql(u8, args[1], "--check")) {
        const found = try cwd.readFileAlloc(init.io, args[2], arena, .limited(1 << 20));
        if (!std.mem.eql(u8, found, generated)) {
            std.process.fatal("{s} is not what abi.zig says; run: deno task build", .{args[2]});
        }
    } else std.process.fatal("usage: abi_gen [--check] FILE", .{});
}

fn generate(comptime namespace: type, w: *Writer) !void {
    @setEvalBranchQuota(1_000_000);
    try w.print(
        \\/**
        \\ * What both languages see, made from `native/src/abi.zig` by `deno task build`.
        \\ *
        \\ * A struct is its size in bytes and its fields: byte offset, type, and how many there are
        \\ * where it is an array.
        \\ *
        \\ * Long because it is generated.
        \\ */
        \\
        \\/** Compared with the library's own at load. */
        \\export const ABI_HASH = 0x{x:0>8};
        \\
    , .{comptime abi_hash.of(namespace)});

    try w.writeAll("\n/** Bounds and versions. */\nexport const constants = {\n");
    inline for (@typeInfo(namespace.constants).@"struct".decl_names) |name| {
        const number = @field(namespace.constants, name);
        comptime if (number > 1 << 53) @compileError(name ++ " is not exact as a number");
        try w.print("  {s}: {d},\n", .{ comptime camel_case(name), number });
    }
    try w.writeAll("} as const;\n");

    inline for (@typeInfo(@TypeOf(namespace.shared_enums)).@"struct".field_names) |name| {
        try write_enum(w, name, @field(namespace.shared_enums, name));
    }
    inline for (@typeInfo(@TypeOf(namespace.shared_structs)).@"struct".field_names) |name| {
        try write_struct(w, name, @field(namespace.shared_structs, name));
    }
}

fn write_enum(w: *Writer, comptime name: []const u8, comptime T: type) !void {
    const info = @typeInfo(T).@"enum";
    try w.print("\nexport const {s} = {{\n", .{name});
    inline for (info.field_names, info.field_values) |field, number| {
        try w.print("  {s}: {d},\n", .{ comptime upper_case(field), number });
    }
    try w.writeAll("} as const;\n");
    try w.print("export type {s} = (typeof {s})[keyof typeof {s}];\n", .{ name, name, name });
}

fn write_struct(w: *Writer, comptime name: []const u8, comptime T: type) !void {
    const info = @typeInfo(T).@"struct";
    try w.print("\nexport const {s} = {{\n  bytes: {d},\n  fields: {{\n", .{ name, @sizeOf(T) });
    inline for (info.field_names, info.field_types) |field, Field| {
        const offset = @offsetOf(T, field);
        try w.print("    {s}: {{ offset: {d}, ", .{ comptime camel_case(field), offset });
        switch (@typeInfo(Field)) {
            .array => |array| {
                const element = comptime Element.of(array.child);
                try w.print("type: \"{t}\", count: {d} }},\n", .{ element, array.len });
            },
            // One inside another is so many bytes; its own fields are known by their places in it.
            .@"struct" => try w.print("type: \"u8\", count: {d} }},\n", .{@sizeOf(Field)}),
            else => try w.print("type: \"{t}\" }},\n", .{comptime Element.of(Field)}),
        }
    }
    try w.writeAll("  },\n} as const;\n");
}

fn camel_case(comptime name: []const u8) []const u8 {
    var text: []const u8 = "";
    var parts = std.mem.splitScalar(u8, name, '_');
    while (parts.next()) |part| {
        if (part.len == 0) continue;
        const first = if (text.len == 0) part[0] else std.ascii.toUpper(part[0]);
        text = text ++ &[_]u8{first} ++ part[1..];
    }
    return text;
}

fn upper_case(comptime name: []const u8) []const u8 {
    var text: []const u8 = "";
    for (name) |letter| text = text ++ &[_]u8{std.ascii.toUpper(letter)};
    return text;
}

const sample = struct {
    const Color = enum(u32) { dark_red = 3 };
    const Point = extern struct { x_bytes: u32, color: Color, name: [8]u8 };
    pub const shared_structs = .{ .Point = Point };
    pub const shared_enums = .{ .Color = Color };
    pub const constants = struct {
        pub const batch_max: u32 = 7;
    };
};

test "constants, enums and structs become TypeScript" {
    var text: Writer.Allocating = .init(std.testing.allocator);
    defer text.deinit();
    try generate(sample, &text.writer);
    const wanted =
        \\
        \\/** Bounds and versions. */
        \\export const constants = {
        \\  batchMax: 7,
        \\} as const;
        \\
        \\export const Color = {
        \\  DARK_RED: 3,
        \\} as const;
        \\export type Color = (typeof Color)[keyof typeof Color];
        \\
        \\export const Point = {
        \\  bytes: 16,
        \\  fields: {
        \\    xBytes: { offset: 0, type: "u32" },
        \\    color: { offset: 4, type: "u32" },
        \\    name: { offset: 8, type: "u8", count: 8 },
        \\  },
        \\} as const;
        \\
    ;
    try std.testing.expect(std.mem.endsWith(u8, text.written(), wanted));
}
