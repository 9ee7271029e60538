//! Authentication and encryption of datagrams with a group key (`GroupKey`, optional).
//!
//! Every sender of datagrams has a key of its own: HKDF-SHA256 over the group key, who sends
//! (direction, stream, receiver) and an instance number that is never used twice (the connection id
//! of a sender; a random number of each start of a receiver, or of a tier's member). Under it a
//! counter makes each nonce unique, so two processes that share the group key can never meet on a
//! nonce. The header is authenticated, the body is encrypted (Aegis128L, RFC-draft AEGIS). A
//! datagram that was recorded and played again is refused by a sliding window over the counter.

const std = @import("std");
const frame = @import("frame.zig");
const assert = @import("../assert.zig").assert;

const Aead = std.crypto.aead.aegis.Aegis128L;
const Hkdf = std.crypto.kdf.hkdf.HkdfSha256;

pub const GroupKey = [32]u8;
pub const Key = [Aead.key_length]u8;

/// `from_member`: of a tier, to the others of it.
pub const Direction = enum(u8) { from_sender = 0, from_receiver = 1, from_member = 2 };

/// Who seals. `receiver` is 0 for frames of the stream's sender.
pub const Identity = struct {
    direction: Direction,
    tier: bool,
    cluster: u16,
    source: u16,
    transport: u16,
    receiver: u16,
    instance: u64,
};

pub fn derive(group_key: *const GroupKey, id: Identity) Key {
    var info: [32]u8 = @splat(0);
    @memcpy(info[0..8], "rcm seal");
    info[8] = @backingInt(id.direction);
    info[9] = @intFromBool(id.tier);
    std.mem.writeInt(u16, info[10..12], id.cluster, .little);
    std.mem.writeInt(u16, info[12..14], id.source, .little);
    std.mem.writeInt(u16, info[14..16], id.transport, .little);
    std.mem.writeInt(u16, info[16..18], id.receiver, .little);
    std.mem.writeInt(u64, info[18..26], id.instance, .little);
    const prk = Hkdf.extract("rcm group key v1", group_key);
    var key: Key = undefined;
    Hkdf.expand(&key, &info, prk);
    return key;
}

pub const Sealer = struct {
    key: Key,
    instance: u64,
    counter: u64 = 0,

    pub fn init(group_key: *const GroupKey, id: Identity) Sealer {
        return .{ .key = derive(group_key, id), .instance = id.instance };
    }

    /// `datagram` ends with room for the trailer, which `header.length` already counts.
    pub fn seal(self: *Sealer, datagram: []u8) void {
        assert(datagram.len >= frame.header_bytes + @sizeOf(frame.SealTrailer));
        const h: *frame.Header = @ptrCast(@alignCast(datagram.ptr));
        assert(h.length == datagram.len);
        assert(h.flags().sealed);
        h.check = 0;
        self.counter += 1;
        const body_end = datagram.len - @sizeOf(frame.SealTrailer);
        const trailer: *frame.SealTrailer = @ptrCast(@alignCast(datagram.ptr + body_end));
        trailer.instance = self.instance;
        trailer.counter = self.counter;
        const body = datagram[frame.header_bytes..body_end];
        const nonce = nonce_of(self.instance, self.counter);
        Aead.encrypt(body, &trailer.tag, body, datagram[0..frame.header_bytes], nonce, self.key);
    }
};

/// Ends a datagram: seals it where there is a key, writes the check where there is none.
pub fn finish(sealer: ?*Sealer, datagram: []u8) void {
    if (sealer) |s| s.seal(datagram) else frame.write_check(datagram);
}

pub fn trailer_of(h: *const frame.Header) *const frame.SealTrailer {
    assert(h.flags().sealed);
    const p: [*]const u8 = @ptrCast(h);
    return @ptrCast(@alignCast(p + h.length - @sizeOf(frame.SealTrailer)));
}

/// Decrypts in place. False: not of this key, or changed on the way; the bytes are then worthless.
pub fn open(key: Key, datagram: []u8) bool {
    const h: *const frame.Header = @ptrCast(@alignCast(datagram.ptr));
    assert(h.length == datagram.len);
    const trailer = trailer_of(h);
    const body = datagram[frame.header_bytes .. datagram.len - @sizeOf(frame.SealTrailer)];
    const nonce = nonce_of(trailer.instance, trailer.counter);
    Aead.decrypt(body, body, trailer.tag, datagram[0..frame.header_bytes], nonce, key) catch
        return false;
    return true;
}

fn nonce_of(instance: u64, counter: u64) [Aead.nonce_length]u8 {
    var nonce: [Aead.nonce_length]u8 = undefined;
    std.mem.writeInt(u64, nonce[0..8], instance, .little);
    std.mem.writeInt(u64, nonce[8..16], counter, .little);
    return nonce;
}

/// Which counters of one sender were seen: each is accepted once, and none that is older than the
/// window.
pub const ReplayWindow = struct {
    const width = 4096;
    top: u64 = 0,
    bits: [width / 64]u64 = @splat(0),

    /// One that has seen everything up to `top`.
    pub fn after(top: u64) ReplayWindow {
        return .{ .top = top, .bits = @splat(std.math.maxInt(u64)) };
    }

    /// True the first time; call it only after `open` succeeded.
    pub fn accept(self: *ReplayWindow, counter: u64) bool {
        if (counter == 0) return false;
        if (counter > self.top) {
            const step = counter - self.top;
            if (step >= width) {
                self.bits = @splat(0);
            } else {
                var c = self.top;
                while (c < counter) {
                    c += 1;
                    self.clear(c);
                }
            }
            self.top = counter;
        } else if (self.top - counter >= width) {
            return false;
        }
        const word = &self.bits[(counter / 64) % self.bits.len];
        const bit = @as(u64, 1) << @intCast(counter % 64);
        if (word.* & bit != 0) return false;
        word.* |= bit;
        return true;
    }

    fn clear(self: *ReplayWindow, counter: u64) void {
        const word = &self.bits[(counter / 64) % self.bits.len];
        word.* &= ~(@as(u64, 1) << @intCast(counter % 64));
    }
};

const testing = std.testing;

test "a sealed datagram opens with its key once, and with no other" {
    var buffer: [256]u8 align(8) = @splat(0);
    const id: Identity = .{
        .direction = .from_sender,
        .tier = false,
        .cluster = 0,
        .source = 3,
        .transport = 4,
        .receiver = 0,
        .instance = 77,
    };
    var group_key: GroupKey = @splat(0x42);
    var sealer: Sealer = .init(&group_key, id);
    const h: *frame.Header = @ptrCast(&buffer);
    h.* = .{
        .type = @backingInt(frame.Type.ack),
        .length = 32 + 24 + 32,
        .cluster = 0,
        .check = 0,
        .source = 3,
        .transport = 4,
        .connection_flags = .{ .connection = 77, .flags = .{ .sealed = true } },
        .number = 1,
    };
    const datagram = buffer[0..h.length];
    sealer.seal(datagram);
    var copy: [256]u8 align(8) = buffer;
    try testing.expect(open(derive(&group_key, id), copy[0..datagram.len]));
    for (0..datagram.len) |i| {
        // Length and flags are refused before, by decode_header.
        if (i == 4 or i == 5 or i == 23) continue;
        copy = buffer;
        copy[i] ^= 1;
        try testing.expect(!open(derive(&group_key, id), copy[0..datagram.len]));
    }
    group_key[0] ^= 1;
    copy = buffer;
    try testing.expect(!open(derive(&group_key, id), copy[0..datagram.len]));
}

test "the replay window accepts each counter once" {
    var w: ReplayWindow = .{};
    try testing.expect(!w.accept(0));
    try testing.expect(w.accept(1));
    try testing.expect(!w.accept(1));
    try testing.expect(w.accept(3));
    try testing.expect(w.accept(2));
    try testing.expect(!w.accept(2));
    try testing.expect(w.accept(5000));
    try testing.expect(!w.accept(3));
    try testing.expect(w.accept(4999));
    try testing.expect(w.accept(905));
    try testing.expect(!w.accept(904));
    try testing.expect(w.accept(9096));
    try testing.expect(w.accept(9095));
    const last = std.math.maxInt(u64);
    try testing.expect(w.accept(last - 1));
    try testing.expect(w.accept(last));
    try testing.expect(!w.accept(last));
}
