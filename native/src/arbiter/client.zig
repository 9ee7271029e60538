//! ZooKeeper's C client, found at run time: its calls, and the structs that they read and fill
//! (zookeeper.h and zookeeper.jute.h of 3.8.0; the layout has been the same since 3.5).
//!
//! The library is not linked: who has no tier needs no ZooKeeper. It is opened once and stays.

const std = @import("std");
const Failure = @import("../transport/failure.zig").Failure;
const Token = @import("../agent/token.zig").Token;

pub const Handle = opaque {};

pub const Stat = extern struct {
    czxid: i64,
    mzxid: i64,
    ctime: i64,
    mtime: i64,
    version: i32,
    cversion: i32,
    aversion: i32,
    ephemeral_owner: i64,
    data_length: i32,
    num_children: i32,
    pzxid: i64,
};

pub const Strings = extern struct { count: i32, data: ?[*][*:0]const u8 };
pub const Identity = extern struct { scheme: [*:0]const u8, id: [*:0]const u8 };
pub const Acl = extern struct { permissions: i32, identity: Identity };
pub const AclVector = extern struct { count: i32, data: [*]const Acl };
pub const ClientId = extern struct { id: i64, password: [16]u8 };

/// One part of a transaction.
pub const Op = extern struct {
    kind: i32,
    what: extern union {
        create: extern struct {
            path: [*:0]const u8,
            data: ?[*]const u8,
            data_len: i32,
            path_buffer: ?[*]u8,
            path_buffer_len: i32,
            acl: *const AclVector,
            flags: i32,
            ttl: i64,
        },
        delete: extern struct { path: [*:0]const u8, version: i32 },
        set: extern struct {
            path: [*:0]const u8,
            data: ?[*]const u8,
            data_len: i32,
            version: i32,
            stat: ?*Stat,
        },
        check: extern struct { path: [*:0]const u8, version: i32 },
    },

    pub const create: i32 = 1;
    pub const delete: i32 = 2;
    pub const set: i32 = 5;
    pub const check: i32 = 13;
};

pub const OpResult = extern struct { err: i32, value: ?[*]u8, value_len: i32, stat: ?*Stat };

comptime {
    std.debug.assert(@sizeOf(Stat) == 72);
    std.debug.assert(@offsetOf(Stat, "ephemeral_owner") == 48);
    std.debug.assert(@sizeOf(Op) == 72);
    std.debug.assert(@sizeOf(OpResult) == 32);
    std.debug.assert(@sizeOf(ClientId) == 24);
}

pub const Watcher = *const fn (?*Handle, i32, i32, ?[*:0]const u8, ?*anyopaque) callconv(.c) void;
pub const LogCallback = *const fn ([*:0]const u8) callconv(.c) void;
const Data = ?*const anyopaque;
const Z = [*:0]const u8;
pub const VoidDone = *const fn (i32, Data) callconv(.c) void;
pub const StatDone = *const fn (i32, ?*const Stat, Data) callconv(.c) void;
pub const DataDone = *const fn (i32, ?[*]const u8, i32, ?*const Stat, Data) callconv(.c) void;
pub const StringsDone = *const fn (i32, ?*const Strings, Data) callconv(.c) void;
pub const StringDone = *const fn (i32, ?Z, Data) callconv(.c) void;

/// Answers by their numbers in zookeeper.h.
pub const Code = struct {
    pub const ok: i32 = 0;
    pub const connection_loss: i32 = -4;
    pub const timed_out: i32 = -7;
    pub const bad_arguments: i32 = -8;

    /// It is not known whether the request was done.
    pub fn is_lost(code: i32) bool {
        return code == connection_loss or code == timed_out;
    }
};

/// States of a session, and `expired`, `auth_failed` (-113).
pub const State = struct {
    pub const connected: i32 = 3;
    pub const expired: i32 = -112;
    pub const auth_failed: i32 = -113;
};

/// Type of a watch that tells of the session.
pub const session_event: i32 = -1;

/// Its calls, by their names in the library.
pub const Api = struct {
    zookeeper_init2: *const Init2,
    zookeeper_close: *const fn (*Handle) callconv(.c) i32,
    zoo_recv_timeout: *const fn (*Handle) callconv(.c) i32,
    zoo_get_context: *const fn (*Handle) callconv(.c) ?*anyopaque,
    zoo_client_id: *const fn (*Handle) callconv(.c) *const ClientId,
    zoo_set_servers_resolution_delay: *const fn (*Handle, i32) callconv(.c) i32,
    zoo_set_debug_level: *const fn (i32) callconv(.c) void,
    zoo_add_auth: *const AddAuth,
    zoo_acreate: *const Acreate,
    zoo_adelete: *const fn (*Handle, Z, i32, VoidDone, Data) callconv(.c) i32,
    zoo_aset: *const Aset,
    zoo_aget: *const fn (*Handle, Z, i32, DataDone, Data) callconv(.c) i32,
    zoo_awexists: *const Awexists,
    zoo_awget_children: *const AwgetChildren,
    zoo_async: *const fn (*Handle, Z, StringDone, Data) callconv(.c) i32,
    zoo_amulti: *const Amulti,

    const Init2 = fn (
        Z,
        ?Watcher,
        i32,
        ?*const ClientId,
        ?*anyopaque,
        i32,
        LogCallback,
    ) callconv(.c) ?*Handle;
    const AddAuth = fn (*Handle, Z, [*]const u8, i32, ?VoidDone, Data) callconv(.c) i32;
    const Acreate = fn (
        *Handle,
        Z,
        ?[*]const u8,
        i32,
        *const AclVector,
        i32,
        StringDone,
        Data,
    ) callconv(.c) i32;
    const Aset = fn (*Handle, Z, ?[*]const u8, i32, i32, StatDone, Data) callconv(.c) i32;
    const Awexists = fn (*Handle, Z, ?Watcher, ?*anyopaque, StatDone, Data) callconv(.c) i32;
    const AwgetChildren = fn (
        *Handle,
        Z,
        ?Watcher,
        ?*anyopaque,
        StringsDone,
        Data,
    ) callconv(.c) i32;
    const Amulti = fn (*Handle, i32, [*]const Op, [*]OpResult, VoidDone, Data) callconv(.c) i32;
};

var api: Api = undefined;
var loaded = false;
var lock: Token = .{};

/// What was loaded; for callbacks.
pub fn loaded_api() ?*const Api {
    return if (loaded) &api else null;
}

/// Opens the library at `path` (empty: Debian's name, as the loader finds it); once is enough.
pub fn load(path: []const u8, failure: *Failure) error{Native}!*const Api {
    lock.take();
    defer lock.give();
    if (loaded) return &api;
    var buffer: [4096]u8 = undefined;
    const name = if (path.len == 0) "libzookeeper_mt.so.2" else path;
    const name_z = std.fmt.bufPrintSentinel(&buffer, "{s}", .{name}, 0) catch {
        failure.set("RCM_ZK_LIB is longer than {d} bytes", .{buffer.len - 1});
        return error.Native;
    };
    const library = std.c.dlopen(name_z, .{ .NOW = true }) orelse {
        const reason = if (std.c.dlerror()) |text| std.mem.span(text) else "no reason given";
        failure.set("ZooKeeper's C client can't be opened ({s}): install it (Debian: apt-get " ++
            "install libzookeeper-mt2), or name a copy of it by RCM_ZK_LIB", .{reason});
        return error.Native;
    };
    const info = @typeInfo(Api).@"struct";
    inline for (info.field_names, info.field_types) |symbol, F| {
        const found = std.c.dlsym(library, symbol) orelse {
            failure.set("{s} has no {s}: version 3.5 or later of ZooKeeper's C client is needed", .{
                name, symbol,
            });
            return error.Native;
        };
        @field(api, symbol) = @as(F, @ptrCast(@alignCast(found)));
    }
    api.zoo_set_debug_level(0); // Its log would go to stderr, and has a use after free (4699).
    loaded = true;
    return &api;
}
