//! One number for everything in `abi.zig`: names, order, offsets, types, sizes, values.
//!
//! The library answers it (`rcm_abi_hash`), the generator writes it into `src/native/abi.ts`, and
//! the loader compares the two. It is made of the layouts themselves, not of the compiler's names
//! for types, so that it does not depend on which program is compiled.

const std = @import("std");
const builtin = @import("builtin");
const build_options = @import("build_options");
const abi = @import("abi.zig");

/// Hash of `abi.zig` as it stands.
pub const value: u32 = of(abi);

/// What `strings librcm.so | grep "rcm version"` shows (guide, chapter 2). Where the guide's
/// example has the time of the build stands what tells two libraries apart, so that a build can be
/// repeated bit by bit.
pub const version_text: [:0]const u8 = std.fmt.comptimePrint(
    "rcm version V{s} abi {x:0>8} {s} zig {s}",
    .{ build_options.version, value, build_options.target, builtin.zig_version_string },
);

/// Hash of any namespace that is built like `abi.zig`; called at compile time.
pub fn of(comptime namespace: type) u32 {
    @setEvalBranchQuota(1_000_000);
    var hash = std.hash.Fnv1a_32.init();
    const structs = namespace.shared_structs;
    for (@typeInfo(@TypeOf(structs)).@"struct".field_names) |name| {
        hash.update("struct " ++ name);
        hash.update(layout_text(@field(structs, name)));
    }
    const enums = namespace.shared_enums;
    for (@typeInfo(@TypeOf(enums)).@"struct".field_names) |name| {
        hash.update("enum " ++ name);
        hash.update(enum_text(@field(enums, name)));
    }
    for (@typeInfo(namespace.constants).@"struct".decl_names) |name| {
        const number = @field(namespace.constants, name);
        hash.update(std.fmt.comptimePrint("const {s}={d};", .{ name, number }));
    }
    return hash.final();
}

fn layout_text(comptime T: type) []const u8 {
    const info = @typeInfo(T).@"struct";
    if (info.layout != .@"extern") {
        @compileError(@typeName(T) ++ " crosses the boundary and must be an extern struct");
    }
    var text: []const u8 = std.fmt.comptimePrint("({d},{d})", .{ @sizeOf(T), @alignOf(T) });
    for (info.field_names, info.field_types) |name, Field| {
        text = text ++ std.fmt.comptimePrint(
            "{s}@{d}:{s};",
            .{ name, @offsetOf(T, name), type_text(Field) },
        );
    }
    return text;
}

fn enum_text(comptime T: type) []const u8 {
    const info = @typeInfo(T).@"enum";
    var text: []const u8 = "(" ++ type_text(info.tag_type) ++ ")";
    for (info.field_names, info.field_values) |name, number| {
        text = text ++ std.fmt.comptimePrint("{s}={d};", .{ name, number });
    }
    return text;
}

fn type_text(comptime T: type) []const u8 {
    return switch (@typeInfo(T)) {
        .array => |array| std.fmt.comptimePrint("[{d}]{s}", .{ array.len, type_text(array.child) }),
        .@"struct" => layout_text(T),
        .@"enum" => enum_text(T),
        else => @tagName(Element.of(T)),
    };
}

/// The numbers that may stand in a shared struct; TypeScript has a typed array for each.
pub const Element = enum {
    u8,
    u16,
    u32,
    u64,
    i32,
    i64,
    f64,

    pub fn of(comptime T: type) Element {
        return switch (@typeInfo(T)) {
            .@"enum" => |info| Element.of(info.tag_type),
            else => for (.{ u8, u16, u32, u64, i32, i64, f64 }, 0..) |Known, index| {
                if (T == Known) break @fromBackingInt(@intCast(index));
            } else @compileError(@typeName(T) ++ " does not cross the boundary"),
        };
    }
};

const Sample = extern struct { a: u32, b: u16, c: [2]u8 };
const Renamed = extern struct { a: u32, d: u16, c: [2]u8 };
const Moved = extern struct { b: u16, c: [2]u8, a: u32 };
const Retyped = extern struct { a: u32, b: u16, c: u16 };

fn Namespace(comptime Shared: type, comptime ok: u32, comptime bound: u32) type {
    return struct {
        pub const shared_structs = .{ .Sample = Shared };
        pub const shared_enums = .{ .Answer = enum(u32) { ok = ok } };
        pub const constants = struct {
            pub const batch: u32 = bound;
        };
    };
}

test "the hash tells names, order, types, enum values and constants apart" {
    const hashes = comptime [_]u32{
        of(Namespace(Sample, 0, 1)),
        of(Namespace(Renamed, 0, 1)),
        of(Namespace(Moved, 0, 1)),
        of(Namespace(Retyped, 0, 1)),
        of(Namespace(Sample, 1, 1)),
        of(Namespace(Sample, 0, 2)),
    };
    for (hashes, 0..) |left, index| {
        for (hashes[index + 1 ..]) |right| try std.testing.expect(left != right);
    }
    try std.testing.expectEqual(hashes[0], comptime of(Namespace(Sample, 0, 1)));
}

test "the version text is what the guide greps for, and carries the hash" {
    try std.testing.expect(std.mem.startsWith(u8, version_text, "rcm version V1."));
    var hex: [8]u8 = undefined;
    _ = try std.fmt.bufPrint(&hex, "{x:0>8}", .{value});
    try std.testing.expect(std.mem.indexOf(u8, version_text, &hex) != null);
}
