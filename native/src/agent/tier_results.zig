//! Transactions between a tier's log and the program (`SyncMode` 1 and 2): two queues, and the
//! program's place among the messages. What is decided is decided in `tier/results.zig`.
//!
//!     program --made-->  log (the leader orders them with messages)
//!     log     --given--> program (`onSyn`), committed ones that others made
//!
//! The messages' consumer is the program's thread while the member is open (`holder`), else the
//! receive agent, which passes over what transactions cover. The agent gives it when it opens; the
//! program's thread gives it back with its first look after it was shut.

const std = @import("std");
const assert = @import("../assert.zig").assert;
const mutant = @import("../testing/mutant.zig");
const record = @import("../order/record.zig");
const results_file = @import("../tier/results.zig");
const challenge = @import("../session/challenge.zig");
const stream_file = @import("../session/stream.zig");
const ByteRing = @import("byte_ring.zig").ByteRing;
const Context = @import("context.zig").Context;
const Entry = @import("../tier/entry.zig").Entry;
const Log = @import("../order/log.zig").Log;
const Receiver = @import("../session/receiver.zig").Receiver;
const RxAgent = @import("rx_agent.zig").RxAgent;
const TierHost = @import("tier_host.zig").TierHost;

const Descriptor = record.Descriptor;
pub const Results = results_file.Results;

/// Each queue's memory; a transaction may have a quarter of it.
pub const queue_bytes = 1 << 25;
pub const result_bytes_max = queue_bytes / 4;
/// Transactions that were given ahead of their number, and their bytes.
const ahead_max = 4096;
const ahead_bytes_max = queue_bytes / 4;
/// Messages that the agent passes over in one step: twice as many descriptors are no problem.
const pass_step = 64;
const passes_per_step = 64;

pub const Holder = enum(u32) { agent, program };

/// What `sync` answers.
pub const Synced = enum { ok, would_block, too_large, bad_argument, not_leader };

/// A transaction that waits for those before it.
const Ahead = struct { number: u64, carried: u64, bytes: []u8 };

pub const TierResults = struct {
    gpa: std.mem.Allocator,
    logic: Results,
    host: *TierHost,
    log: *Log,
    /// Of transactions, in the receiver's table.
    stream: u32,
    made: ByteRing,
    given: ByteRing,
    holder: std.atomic.Value(Holder) = .init(.agent),

    // ---- told by the agent
    /// The program may make transactions, and is given messages.
    is_open: std.atomic.Value(bool) = .init(false),
    opening: std.atomic.Value(u32) = .init(0),
    first_no: u64 = 0,
    /// One past the number of the last transaction that is staged.
    staged_no: u64 = 0,
    /// Bytes of the queue of made ones that are in the log.
    made_done: u64 = 0,

    // ---- the program's
    seen_opening: u32 = 0,
    next_no: u64 = 0,
    ahead: std.ArrayList(Ahead) = .empty,
    ahead_bytes: u64 = 0,
    /// Transactions ahead of their number; for the agent.
    ahead_count: std.atomic.Value(u32) = .init(0),
    /// All that was given is applied, as the program says.
    is_settled: std.atomic.Value(bool) = .init(true),
    /// Number of the first transaction that was not accepted yet; for statistics and tests.
    applied_no: std.atomic.Value(u64),
    /// Messages of the batch that was handed over.
    batch: u32 = 0,

    // ---- of who holds the messages
    /// Transactions below what is processed.
    passed: u64 = 0,

    pub const Options = struct { is_synchronous: bool, start_no: u64 };

    pub fn create(
        gpa: std.mem.Allocator,
        host: *TierHost,
        receiver: *Receiver,
        o: Options,
    ) error{OutOfMemory}!*TierResults {
        const self = try gpa.create(TierResults);
        errdefer gpa.destroy(self);
        var made: ByteRing = try .init(gpa, queue_bytes);
        errdefer made.deinit(gpa);
        var given: ByteRing = try .init(gpa, queue_bytes);
        errdefer given.deinit(gpa);
        self.* = .{
            .gpa = gpa,
            .logic = .init(o.is_synchronous, o.start_no),
            .host = host,
            .log = host.log,
            .stream = try stream_of(receiver, host),
            .made = made,
            .given = given,
            .applied_no = .init(o.start_no),
        };
        return self;
    }

    pub fn destroy(self: *TierResults) void {
        const gpa = self.gpa;
        for (self.ahead.items) |a| gpa.free(a.bytes);
        self.ahead.deinit(gpa);
        self.made.deinit(gpa);
        self.given.deinit(gpa);
        gpa.destroy(self);
    }

    /// The stream of transactions, as it was recorded or new.
    fn stream_of(receiver: *Receiver, host: *TierHost) error{OutOfMemory}!u32 {
        if (receiver.find(stream_file.results_key)) |s| return s.id;
        const channel = &receiver.o.channels[0];
        const s = challenge.add_stream(receiver, stream_file.results_key, channel) orelse
            return error.OutOfMemory;
        var entry = challenge.entry_of(s);
        entry.connection = 0;
        host.tier_log.recorder.set_stream(entry);
        return s.id;
    }

    // ---------------------------------------------------------------- the agent's: `Results` asks

    pub fn next(self: *const TierResults) u64 {
        return self.host.next();
    }

    pub fn entry_at(self: *TierResults, sqn: u64) Entry {
        return self.host.entry_at(sqn);
    }

    /// False: no room, or it can't be read now.
    pub fn give(self: *TierResults, sqn: u64, e: *const Entry) bool {
        if (e.length > result_bytes_max) return true; // Nobody can have made it.
        const room = self.given.reserve(e.length) orelse return false;
        if (self.host.read(sqn, 0, room) != e.length) return false;
        self.given.put(room, e.msg_no, 0);
        return true;
    }

    pub fn is_applied(self: *const TierResults) bool {
        return self.given.is_empty() and self.is_settled.load(.acquire);
    }

    pub fn open(self: *TierResults, first_no: u64) void {
        assert(self.holder.load(.acquire) == .agent);
        self.first_no = first_no;
        self.opening.store(self.opening.raw +% 1, .release);
        self.is_open.store(true, .seq_cst);
        self.holder.store(.program, .release);
    }

    pub fn shut(self: *TierResults) void {
        self.is_open.store(false, .seq_cst);
    }

    /// The program was told that its transaction is taken, and it will never be in the tier's log.
    pub fn has_lost(self: *const TierResults) bool {
        if (self.logic.is_open or mutant.on(.result_of_old_reign)) return false;
        return !self.made.is_empty() or self.ahead_count.load(.seq_cst) > 0;
    }

    pub fn processed(self: *const TierResults) u64 {
        return self.log.processed_next();
    }

    pub fn made_mark(self: *const TierResults) u64 {
        return self.made.written.load(.acquire);
    }

    pub fn made_end(self: *const TierResults) u64 {
        return self.made_done;
    }

    /// Messages that transactions cover are nobody's to handle. True: all were passed over.
    pub fn pass_to(self: *TierResults, carried: u64) bool {
        if (self.holder.load(.acquire) != .agent) return false;
        var scratch: [pass_step]Descriptor = undefined;
        const log = self.log;
        for (0..passes_per_step) |_| {
            const at = log.processed_next() - self.passed;
            if (at >= carried) return true;
            const most: u32 = @intCast(@min(scratch.len, carried - at));
            const n = log.fill(&scratch, most);
            if (n == 0) return false;
            for (scratch[0..n]) |*d| self.passed += @intFromBool(d.stream == self.stream);
            log.processed(log.read_next());
        }
        return false;
    }

    /// The place of the program, if transactions cover all messages below and one more.
    pub fn covered(self: *const TierResults, carried: u64) ?u64 {
        if (self.holder.load(.acquire) != .agent) return null;
        const place = self.log.processed_next();
        return if (place - self.passed >= carried) null else place;
    }

    // ---------------------------------------------------------------- the agent's: the log

    /// Leader: gives transactions their places. The count.
    pub fn order(self: *TierResults, wall_ms: u64, max: u32) u32 {
        if (!self.logic.is_open) return 0;
        var n: u32 = 0;
        while (n < max) : (n += 1) {
            const piece = self.made.peek() orelse break;
            const length: u32 = @intCast(piece.bytes.len);
            const e = self.logic.next_entry(self, .{
                .number = piece.number,
                .carried = piece.extra,
                .length = length,
                .time_ms = wall_ms,
            }) orelse break;
            self.host.append_made(self.stream, &e, piece.bytes) catch break;
            self.made.pop(piece);
            self.logic.note_made(self);
        }
        self.made_done = self.made.read.raw;
        return n;
    }

    // ---------------------------------------------------------------- the program's thread

    /// `number`: null, the next one. Messages below `carried` need not be handled again once it is
    /// committed.
    pub fn sync(self: *TierResults, bytes: []const u8, number: ?u64, carried: u64) Synced {
        if (bytes.len > result_bytes_max) return .too_large;
        if (!self.is_open.load(.seq_cst)) return .not_leader;
        const opening = self.opening.load(.acquire);
        if (opening != self.seen_opening) {
            self.seen_opening = opening;
            self.next_no = self.first_no;
        }
        self.flush_ahead();
        const wanted = number orelse self.next_no;
        if (wanted < self.next_no) return .bad_argument;
        for (self.ahead.items) |*a| if (a.number == wanted) {
            return if (number == null or wanted == self.next_no) .would_block else .bad_argument;
        };
        if (wanted > self.next_no) return self.keep(bytes, wanted, carried);
        if (!self.push(bytes, wanted, carried)) return .would_block;
        self.next_no = wanted + 1;
        self.flush_ahead();
        return .ok;
    }

    fn push(self: *TierResults, bytes: []const u8, number: u64, carried: u64) bool {
        const room = self.made.reserve(@intCast(bytes.len)) orelse return false;
        @memcpy(room, bytes);
        self.made.put(room, number, carried);
        return true;
    }

    fn keep(self: *TierResults, bytes: []const u8, number: u64, carried: u64) Synced {
        const is_full = self.ahead.items.len >= ahead_max or
            self.ahead_bytes + bytes.len > ahead_bytes_max;
        if (is_full) return .would_block;
        self.ahead.ensureUnusedCapacity(self.gpa, 1) catch return .would_block;
        const copy = self.gpa.dupe(u8, bytes) catch return .would_block;
        var at = self.ahead.items.len;
        while (at > 0 and self.ahead.items[at - 1].number < number) at -= 1;
        self.ahead.insertAssumeCapacity(at, .{
            .number = number,
            .carried = carried,
            .bytes = copy,
        });
        self.ahead_bytes += bytes.len;
        self.ahead_count.store(@intCast(self.ahead.items.len), .seq_cst);
        return .ok;
    }

    /// Those whose turn has come; the lowest number is the last item.
    pub fn flush_ahead(self: *TierResults) void {
        while (self.ahead.items.len > 0) {
            const a = self.ahead.items[self.ahead.items.len - 1];
            if (a.number != self.next_no or !self.push(a.bytes, a.number, a.carried)) return;
            self.next_no += 1;
            self.ahead_bytes -= a.bytes.len;
            self.gpa.free(a.bytes);
            _ = self.ahead.pop();
            self.ahead_count.store(@intCast(self.ahead.items.len), .seq_cst);
        }
    }

    /// The next transaction that others made; it stays the next one until `accept`.
    pub fn look(self: *TierResults) ?@import("byte_ring.zig").Piece {
        return self.given.peek();
    }

    pub fn accept(self: *TierResults) void {
        const piece = self.given.peek() orelse return;
        self.applied_no.store(piece.number + 1, .release);
        self.given.pop(piece);
    }

    /// As `Context.drain`, over messages alone. Null: so many were not handed over.
    pub fn drain(self: *TierResults, c: *Context, rx: *RxAgent, done: u32, max: u32) ?u32 {
        if (done > self.batch) return null;
        const all = c.descriptors();
        const log = self.log;
        if (self.holder.load(.acquire) != .program) {
            assert(self.batch == 0);
            c.look(rx, 0, max);
            return 0;
        }
        if (done > 0) {
            const last = &all[done - 1];
            const place = log.header_of(last).sqn;
            c.note_processed(rx, log, all[0..done]);
            self.passed = place - @as(u64, @intFromFloat(last.sqn));
            log.processed(place + 1);
        }
        self.batch = 0;
        if (log.read_next() != log.processed_next()) log.rewind();
        if (!self.is_open.load(.seq_cst)) {
            self.holder.store(.agent, .release);
            return 0;
        }
        c.look(rx, done, max);
        while (self.batch == 0) {
            const n = log.fill(all, max);
            if (n == 0) break;
            self.squeeze(all[0..n]);
        }
        return self.batch;
    }

    /// Leaves the messages, and makes their places among messages of their places in the log.
    fn squeeze(self: *TierResults, filled: []Descriptor) void {
        var passed = self.passed;
        for (filled) |*d| {
            if (d.stream == self.stream) {
                passed += 1;
                continue;
            }
            filled[self.batch] = d.*;
            filled[self.batch].sqn -= @floatFromInt(passed);
            self.batch += 1;
        }
        if (self.batch > 0) return;
        self.passed = passed;
        self.log.processed(self.log.read_next());
    }

    /// The program has something to look at. Any thread.
    pub fn has_work(self: *const TierResults) bool {
        if (!self.given.is_empty()) return true;
        if (self.holder.load(.acquire) != .program) return false;
        return self.log.ordered_next() != self.log.processed_next();
    }
};
