//! A region of memory cut into chunks, shared by any number of threads without a lock.
//!
//! Messages are allocated one after another inside a chunk by a `Bump`, each by one thread, and
//! freed in any order by another thread (in order of acknowledgement, as it happens). Nothing is
//! freed byte by byte: a chunk counts the allocations that touch it and goes back to the pool with
//! the last of them. That is enough because messages die in nearly the order in which they were
//! born.
//!
//! Two structures, both in private memory (after a crash they are rebuilt from the nodes):
//!   * a bitmap, a set bit being a free chunk. One chunk is the lowest free one, which keeps the
//!     touched part of a large region small and warm; runs lie together, and those over 1/8 of the
//!     pool come from the high end, so that small traffic does not break the room of the next large
//!     message.
//!   * a word for each chunk: references in the low 20 bits, above them the id of the `Bump` for
//!     which the chunk is open. A chunk is free when the whole word is 0.
//!
//! An open chunk without allocations belongs to nobody in need: whoever finds no room takes it away
//! (`take_idle`). Its `Bump` finds out when it next adds a reference. So whenever everything was
//! freed, the whole pool can be had, however many allocators are open, and nothing waits for an
//! idle thread.

const std = @import("std");
const limits = @import("../limits.zig");
const assert = @import("../assert.zig").assert;

const Word = std.atomic.Value(u64);
const Count = std.atomic.Value(u32);

const owner_shift = 20;
const references_mask: u32 = (1 << owner_shift) - 1;

/// A line for each chunk: the sender's thread adds where the network's thread subtracts.
const Chunk = struct {
    count: Count align(64) = .init(0),
};

/// Chunks of one region. `init` allocates; nothing else does. All functions may be called by any
/// thread unless they say otherwise.
pub const ChunkPool = struct {
    base: [*]u8,
    /// Bytes of the region: a whole number of chunks.
    bytes: u64,
    chunk_bytes: u32,
    chunk_shift: u5,
    chunk_count: u32,
    words: []Word,
    chunks: []Chunk,
    /// By owner id - 1: its open chunk + 1, or 0. Read by those who look for room.
    open_chunks: []Count,
    owners: []Word,
    /// Owner ids above this were never used.
    owners_high: Count = .init(0),
    /// Never less than what is free.
    free_chunks: Count align(64) = .init(0),
    /// No free chunk is below this word, but for races: a hint.
    low_word: Count align(64) = .init(0),

    pub const Options = struct {
        /// Start of the region, at a multiple of `limits.page_bytes`.
        base: [*]u8,
        /// At most `limits.region_bytes_max`: larger values are the caller's to refuse.
        bytes: u64,
        /// Power of two, `limits.chunk_bytes_min`..`limits.chunk_bytes_max`; `bytes` is a multiple.
        chunk_bytes: u32,
    };

    pub fn init(allocator: std.mem.Allocator, options: Options) error{OutOfMemory}!ChunkPool {
        assert(std.math.isPowerOfTwo(options.chunk_bytes));
        assert(options.chunk_bytes >= limits.chunk_bytes_min);
        assert(options.chunk_bytes <= limits.chunk_bytes_max);
        assert(options.bytes % options.chunk_bytes == 0 and options.bytes > 0);
        assert(options.bytes <= limits.region_bytes_max);
        assert(options.bytes / options.chunk_bytes <= limits.pool_chunks_max);
        assert(@intFromPtr(options.base) % limits.page_bytes == 0);
        const count: u32 = @intCast(options.bytes / options.chunk_bytes);
        const words = try allocator.alloc(Word, (count + 63) / 64);
        errdefer allocator.free(words);
        const chunks = try allocator.alloc(Chunk, count);
        errdefer allocator.free(chunks);
        const open_chunks = try allocator.alloc(Count, limits.bump_owners_max);
        errdefer allocator.free(open_chunks);
        const owners = try allocator.alloc(Word, (limits.bump_owners_max + 63) / 64);
        errdefer allocator.free(owners);
        for (words, 0..) |*word, i| {
            const left = count - @as(u32, @intCast(i)) * 64;
            word.* = .init(mask_of(0, @min(left, 64)));
        }
        @memset(chunks, .{});
        @memset(open_chunks, .init(0));
        for (owners, 0..) |*word, i| {
            const left = limits.bump_owners_max - @as(u32, @intCast(i)) * 64;
            word.* = .init(mask_of(0, @min(left, 64)));
        }
        return .{
            .base = options.base,
            .bytes = options.bytes,
            .chunk_bytes = options.chunk_bytes,
            .chunk_shift = @intCast(std.math.log2_int(u32, options.chunk_bytes)),
            .chunk_count = count,
            .words = words,
            .chunks = chunks,
            .open_chunks = open_chunks,
            .owners = owners,
            .free_chunks = .init(count),
        };
    }

    /// The region itself is its maker's.
    pub fn deinit(self: *ChunkPool, allocator: std.mem.Allocator) void {
        allocator.free(self.owners);
        allocator.free(self.open_chunks);
        allocator.free(self.chunks);
        allocator.free(self.words);
        self.* = undefined;
    }

    /// Bytes of the region.
    pub inline fn slice(self: *const ChunkPool, offset: u64, bytes: u64) []u8 {
        assert(offset <= self.bytes and bytes <= self.bytes - offset);
        return self.base[offset..][0..bytes];
    }

    /// Chunks not in use. Exact while nobody takes or releases; idle open chunks count as used.
    pub fn free_count(self: *const ChunkPool) u32 {
        return self.free_chunks.load(.acquire);
    }

    /// Takes `count` chunks that lie together, each with one reference; null when there is no such
    /// room, or (rarely) when another thread was taking or giving back at the same moment.
    pub fn take(self: *ChunkPool, count: u32) ?u32 {
        assert(count > 0);
        if (count > self.chunk_count) return null;
        if (self.take_free(count)) |first| return first;
        if (!self.take_idle()) return null;
        return self.take_free(count);
    }

    /// Takes exactly these chunks if all are free, to extend what ends in front of them.
    pub fn take_at(self: *ChunkPool, first: u32, count: u32) bool {
        assert(count > 0);
        if (first >= self.chunk_count or count > self.chunk_count - first) return false;
        if (!self.claim(first, count)) return false;
        self.start_counts(first, count);
        return true;
    }

    /// One more reference on each; the caller holds one already.
    pub fn retain(self: *ChunkPool, first: u32, count: u32) void {
        for (self.chunks[first..][0..count]) |*chunk| {
            const old = chunk.count.fetchAdd(1, .monotonic);
            assert(old != 0 and old & references_mask < references_mask);
        }
    }

    /// One reference less on each; the last one frees the chunk.
    pub fn release(self: *ChunkPool, first: u32, count: u32) void {
        for (first..first + count) |index| self.release_many(@intCast(index), 1);
    }

    /// `references` references less on one chunk.
    pub fn release_many(self: *ChunkPool, index: u32, references: u32) void {
        const old = self.chunks[index].count.fetchSub(references, .acq_rel);
        assert(old & references_mask >= references);
        if (old == references) self.make_free(index);
    }

    /// Frees an allocation of a `Bump`, from any thread.
    pub fn free(self: *ChunkPool, offset: u64, bytes: u64) void {
        const span = self.span_of(offset, bytes);
        self.release(span.first, span.count);
    }

    pub const Span = struct { first: u32, count: u32 };

    /// The chunks that `bytes` > 0 bytes at `offset` touch.
    pub inline fn span_of(self: *const ChunkPool, offset: u64, bytes: u64) Span {
        assert(bytes > 0 and offset < self.bytes and bytes <= self.bytes - offset);
        const first: u32 = @intCast(offset >> self.chunk_shift);
        const last: u32 = @intCast((offset + bytes - 1) >> self.chunk_shift);
        return .{ .first = first, .count = last - first + 1 };
    }

    /// Recovery, one thread: an allocation that an earlier process made holds its chunks again.
    pub fn adopt(self: *ChunkPool, offset: u64, bytes: u64) void {
        const span = self.span_of(offset, bytes);
        for (span.first..span.first + span.count) |i| {
            const index: u32 = @intCast(i);
            if (self.chunks[index].count.load(.monotonic) == 0) {
                const claimed = self.take_at(index, 1);
                assert(claimed);
            } else {
                self.retain(index, 1);
            }
        }
    }

    // ---- owners: which open chunk belongs to which Bump

    fn add_owner(self: *ChunkPool) ?u32 {
        for (self.owners, 0..) |*word, i| {
            var old = word.load(.monotonic);
            while (old != 0) {
                const bit: u6 = @intCast(@ctz(old));
                const new = old & ~(@as(u64, 1) << bit);
                if (word.cmpxchgWeak(old, new, .acquire, .monotonic)) |actual| {
                    old = actual;
                    continue;
                }
                const id = @as(u32, @intCast(i)) * 64 + bit + 1;
                assert(self.open_chunks[id - 1].load(.monotonic) == 0);
                _ = self.owners_high.fetchMax(id, .release);
                return id;
            }
        }
        return null;
    }

    fn remove_owner(self: *ChunkPool, id: u32) void {
        self.open_chunks[id - 1].store(0, .monotonic);
        const bit = @as(u64, 1) << @intCast((id - 1) % 64);
        const old = self.owners[(id - 1) / 64].fetchOr(bit, .release);
        assert(old & bit == 0);
    }

    /// The caller holds a reference on `index` and makes it the open chunk of `id`.
    fn set_open(self: *ChunkPool, id: u32, index: u32) void {
        const old = self.chunks[index].count.fetchAdd(id << owner_shift, .monotonic);
        assert(old >> owner_shift == 0 and old & references_mask > 0);
        self.open_chunks[id - 1].store(index + 1, .release);
    }

    /// One more reference on the open chunk of `id`; false when the chunk was taken away.
    inline fn retain_open(self: *ChunkPool, id: u32, index: u32) bool {
        const count = &self.chunks[index].count;
        var old = count.load(.monotonic);
        while (old >> owner_shift == id) {
            assert(old & references_mask < references_mask);
            old = count.cmpxchgWeak(old, old + 1, .acquire, .monotonic) orelse return true;
        }
        return false;
    }

    /// The chunk is not open any more; without references it becomes free.
    fn clear_open(self: *ChunkPool, id: u32, index: u32) void {
        const count = &self.chunks[index].count;
        const part = id << owner_shift;
        var old = count.load(.monotonic);
        while (old >> owner_shift == id) {
            old = count.cmpxchgWeak(old, old - part, .acq_rel, .monotonic) orelse {
                if (old == part) self.make_free(index);
                return;
            };
        }
    }

    /// Frees every open chunk that holds nothing; true when there was one.
    fn take_idle(self: *ChunkPool) bool {
        var found = false;
        const high = self.owners_high.load(.acquire);
        for (self.open_chunks[0..high], 1..) |*open, id| {
            const place = open.load(.acquire);
            if (place == 0) continue;
            const part = @as(u32, @intCast(id)) << owner_shift;
            const count = &self.chunks[place - 1].count;
            if (count.load(.monotonic) != part) continue;
            if (count.cmpxchgStrong(part, 0, .acq_rel, .monotonic) == null) {
                self.make_free(place - 1);
                found = true;
            }
        }
        return found;
    }

    // ---- the bitmap

    fn start_counts(self: *ChunkPool, first: u32, count: u32) void {
        for (self.chunks[first..][0..count]) |*chunk| {
            assert(chunk.count.load(.monotonic) == 0);
            chunk.count.store(1, .monotonic);
        }
    }

    fn make_free(self: *ChunkPool, index: u32) void {
        // First the number, so that it is never less than the bits.
        _ = self.free_chunks.fetchAdd(1, .monotonic);
        const bit = @as(u64, 1) << @intCast(index % 64);
        const old = self.words[index / 64].fetchOr(bit, .release);
        assert(old & bit == 0);
        if (index / 64 < self.low_word.load(.monotonic)) {
            _ = self.low_word.fetchMin(index / 64, .monotonic);
        }
    }

    fn take_free(self: *ChunkPool, count: u32) ?u32 {
        if (self.free_chunks.load(.monotonic) < count) return null;
        const first = if (count == 1)
            self.find_one() orelse return null
        else if (count > self.chunk_count / limits.pool_large_run_divisor)
            self.find_run_high(count) orelse return null
        else
            self.find_run_low(count) orelse return null;
        self.start_counts(first, count);
        return first;
    }

    fn find_one(self: *ChunkPool) ?u32 {
        const start = @min(self.low_word.load(.monotonic), self.words.len - 1);
        for (0..self.words.len) |i| {
            const at = if (start + i < self.words.len) start + i else start + i - self.words.len;
            const word = &self.words[at];
            var old = word.load(.monotonic);
            while (old != 0) {
                const bit: u6 = @intCast(@ctz(old));
                const new = old & ~(@as(u64, 1) << bit);
                if (word.cmpxchgWeak(old, new, .acquire, .monotonic)) |actual| {
                    old = actual;
                    continue;
                }
                _ = self.free_chunks.fetchSub(1, .monotonic);
                if (at > start) {
                    const from: u32 = @intCast(start);
                    const to: u32 = @intCast(at);
                    _ = self.low_word.cmpxchgStrong(from, to, .monotonic, .monotonic);
                }
                return @as(u32, @intCast(at)) * 64 + bit;
            }
        }
        return null;
    }

    fn find_run_low(self: *ChunkPool, count: u32) ?u32 {
        var from: u32 = 0;
        while (self.next_free(from)) |first| {
            if (self.chunk_count - first < count) return null;
            const end = self.next_used(first, first + count);
            if (end - first < count) {
                from = end;
            } else if (self.claim(first, count)) {
                return first;
            } else {
                // Another thread took a part of it: look again from the next place on.
                from = first + 1;
            }
        }
        return null;
    }

    fn find_run_high(self: *ChunkPool, count: u32) ?u32 {
        var below = self.chunk_count;
        while (below >= count) {
            const last = self.last_free(below) orelse return null;
            const end = last + 1;
            if (end < count) return null;
            const start = self.last_used_end(end, end - count);
            if (end - start < count) {
                below = start;
            } else if (self.claim(start, count)) {
                return start;
            } else {
                below = last;
            }
        }
        return null;
    }

    /// First free chunk at or after `from`.
    fn next_free(self: *const ChunkPool, from: u32) ?u32 {
        if (from >= self.chunk_count) return null;
        var at = from / 64;
        var word = self.words[at].load(.monotonic) & ~mask_of(0, from % 64);
        while (word == 0) {
            at += 1;
            if (at == self.words.len) return null;
            word = self.words[at].load(.monotonic);
        }
        return at * 64 + @ctz(word);
    }

    /// First used chunk in [from, end), or `end`.
    fn next_used(self: *const ChunkPool, from: u32, end: u32) u32 {
        var at = from / 64;
        var word = ~self.words[at].load(.monotonic) & ~mask_of(0, from % 64);
        while (word == 0) {
            at += 1;
            if (at * 64 >= end) return end;
            word = ~self.words[at].load(.monotonic);
        }
        return @min(at * 64 + @ctz(word), end);
    }

    /// Highest free chunk under `below`.
    fn last_free(self: *const ChunkPool, below: u32) ?u32 {
        if (below == 0) return null;
        var at = (below - 1) / 64;
        var word = self.words[at].load(.monotonic) & mask_of(0, (below - 1) % 64 + 1);
        while (word == 0) {
            if (at == 0) return null;
            at -= 1;
            word = self.words[at].load(.monotonic);
        }
        return at * 64 + 63 - @clz(word);
    }

    /// One past the highest used chunk in [start, end), or `start`.
    fn last_used_end(self: *const ChunkPool, end: u32, start: u32) u32 {
        assert(end > start);
        var at = (end - 1) / 64;
        var word = ~self.words[at].load(.monotonic) & mask_of(0, (end - 1) % 64 + 1);
        while (word == 0) {
            if (at * 64 <= start) return start;
            at -= 1;
            word = ~self.words[at].load(.monotonic);
        }
        return @max(at * 64 + 64 - @clz(word), start);
    }

    /// Makes free chunks used, all or none.
    fn claim(self: *ChunkPool, first: u32, count: u32) bool {
        var at = first;
        const end = first + count;
        while (at < end) {
            const bits = @min(64 - at % 64, end - at);
            const mask = mask_of(at % 64, bits);
            const word = &self.words[at / 64];
            var old = word.load(.monotonic);
            while (old & mask == mask) {
                old = word.cmpxchgWeak(old, old & ~mask, .acquire, .monotonic) orelse break;
            } else {
                self.unclaim(first, at);
                return false;
            }
            at += bits;
        }
        _ = self.free_chunks.fetchSub(count, .monotonic);
        return true;
    }

    fn unclaim(self: *ChunkPool, first: u32, end: u32) void {
        var at = first;
        while (at < end) {
            const bits = @min(64 - at % 64, end - at);
            _ = self.words[at / 64].fetchOr(mask_of(at % 64, bits), .release);
            at += bits;
        }
        _ = self.low_word.fetchMin(first / 64, .monotonic);
    }
};

/// `count` (0..64) set bits from bit `from` on.
inline fn mask_of(from: u32, count: u32) u64 {
    assert(from + count <= 64);
    if (count == 0) return 0;
    const ones = @as(u64, std.math.maxInt(u64)) >> @intCast(64 - count);
    return ones << @intCast(from);
}

/// Allocations of one thread in a pool, one behind the other.
///
/// Each allocation holds a reference on every chunk it touches, so that any thread frees it by
/// `ChunkPool.free` with the offset and size it has then. Waste: what a chunk's tail loses is less
/// than the allocation that did not fit, so the chunks in use have less than twice the bytes that
/// live in them, plus one open chunk for each Bump (which others take when it is idle), as long as
/// the allocations of a Bump are freed about in order. For allocations up to 1/8 of a chunk the
/// loss is under 1/7.
pub const Bump = struct {
    pool: *ChunkPool,
    id: u32,
    /// Offset of the next allocation before alignment, and end of the open chunk; equal when there
    /// is none.
    at: u64 = 0,
    end: u64 = 0,
    /// Offset of the allocation that ends at `at`: only that one can grow or give bytes back.
    last: u64 = no_last,

    const no_last = std.math.maxInt(u64);

    /// Null when `limits.bump_owners_max` are open on this pool.
    pub fn init(pool: *ChunkPool) ?Bump {
        const id = pool.add_owner() orelse return null;
        return .{ .pool = pool, .id = id };
    }

    /// Gives the open chunk up. What was allocated stays until it is freed.
    pub fn close(self: *Bump) void {
        self.close_chunk();
        self.pool.remove_owner(self.id);
        self.* = undefined;
    }

    /// Offset in the pool of `bytes` > 0 bytes, or null when there is no room now.
    /// `alignment`: a power of two up to `limits.page_bytes`.
    pub inline fn alloc(self: *Bump, bytes: u64, alignment: u32) ?u64 {
        assert(bytes > 0);
        const offset = std.mem.alignForward(u64, self.at, alignment);
        if (offset + bytes <= self.end) {
            if (self.pool.retain_open(self.id, self.open_index())) {
                self.at = offset + bytes;
                self.last = offset;
                return offset;
            }
            self.forget_chunk();
        }
        return self.alloc_in_other_chunks(bytes, alignment);
    }

    /// Cuts an allocation to `new_bytes` > 0: chunks behind it lose its reference, and where it was
    /// the last one, its bytes are the next to be given out.
    pub fn shrink_last(self: *Bump, offset: u64, bytes: u64, new_bytes: u64) void {
        assert(new_bytes > 0 and new_bytes <= bytes);
        if (new_bytes == bytes) return;
        const pool = self.pool;
        const old = pool.span_of(offset, bytes);
        const new = pool.span_of(offset, new_bytes);
        if (offset == self.last) {
            assert(offset + bytes == self.at);
            if (new.count < old.count) {
                pool.clear_open(self.id, old.first + old.count - 1);
                self.open_chunk(new.first + new.count - 1);
            }
            self.at = offset + new_bytes;
        }
        if (new.count < old.count) pool.release(new.first + new.count, old.count - new.count);
    }

    /// Frees an allocation of this Bump; the last one gives its bytes back at once.
    pub fn cancel(self: *Bump, offset: u64, bytes: u64) void {
        self.shrink_last(offset, bytes, 1);
        if (self.last == offset) {
            self.at = offset;
            self.last = no_last;
        }
        self.pool.free(offset, 1);
    }

    /// Lengthens the last allocation where it lies; false when it is not the last or there is no
    /// room.
    pub fn grow_last(self: *Bump, offset: u64, bytes: u64, new_bytes: u64) bool {
        assert(bytes > 0 and new_bytes >= bytes);
        if (offset != self.last) return false;
        assert(offset + bytes == self.at);
        if (new_bytes > self.pool.bytes - offset) return false;
        if (offset + new_bytes > self.end) {
            const count = self.chunks_for(offset + new_bytes - self.end);
            // Our allocation touches the open chunk, so that nobody can have taken it away.
            if (!self.extend(count)) return false;
        }
        self.at = offset + new_bytes;
        return true;
    }

    fn alloc_in_other_chunks(self: *Bump, bytes: u64, alignment: u32) ?u64 {
        @branchHint(.unlikely);
        const pool = self.pool;
        assert(std.math.isPowerOfTwo(alignment) and alignment <= limits.page_bytes);
        if (bytes > pool.bytes) return null;
        const offset = std.mem.alignForward(u64, self.at, alignment);
        if (offset < self.end and bytes > pool.chunk_bytes / limits.bump_small_divisor) {
            if (self.alloc_extended(offset, bytes)) return offset;
        }
        const count = self.chunks_for(bytes);
        const first = pool.take(count) orelse return null;
        const start = @as(u64, first) << pool.chunk_shift;
        const run_end = start + (@as(u64, count) << pool.chunk_shift);
        // The chunk with more room stays open; the other's tail is given up.
        if (run_end - (start + bytes) >= self.end - self.at) {
            self.close_chunk();
            self.open_chunk(first + count - 1);
            self.at = start + bytes;
            self.last = start;
        } else {
            self.last = no_last;
        }
        return start;
    }

    /// From the open chunk into the free ones behind it.
    fn alloc_extended(self: *Bump, offset: u64, bytes: u64) bool {
        const pool = self.pool;
        if (bytes > pool.bytes - offset) return false;
        if (!pool.retain_open(self.id, self.open_index())) {
            self.forget_chunk();
            return false;
        }
        const old_index = self.open_index();
        if (!self.extend(self.chunks_for(offset + bytes - self.end))) {
            pool.release_many(old_index, 1);
            return false;
        }
        self.at = offset + bytes;
        self.last = offset;
        return true;
    }

    /// Takes the chunks behind the open one, which the caller holds, and opens the last of them.
    fn extend(self: *Bump, count: u32) bool {
        const open = self.open_index();
        if (!self.pool.take_at(open + 1, count)) return false;
        self.pool.clear_open(self.id, open);
        self.open_chunk(open + count);
        return true;
    }

    inline fn open_index(self: *const Bump) u32 {
        assert(self.end > 0);
        return @intCast((self.end - 1) >> self.pool.chunk_shift);
    }

    fn chunks_for(self: *const Bump, bytes: u64) u32 {
        return @intCast((bytes + self.pool.chunk_bytes - 1) >> self.pool.chunk_shift);
    }

    fn open_chunk(self: *Bump, index: u32) void {
        self.pool.set_open(self.id, index);
        self.end = @as(u64, index + 1) << self.pool.chunk_shift;
    }

    fn close_chunk(self: *Bump) void {
        if (self.end != 0) self.pool.clear_open(self.id, self.open_index());
        self.forget_chunk();
    }

    fn forget_chunk(self: *Bump) void {
        self.at = 0;
        self.end = 0;
        self.last = no_last;
    }
};
