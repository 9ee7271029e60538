//! Results that a leader's program replicates (`SyncMode` 1 and 2, `RcmTierSync.sync`): what is a
//! transaction in the tier's log, who is given it, where a new leader's program begins, and what
//! senders are told. No I/O; the host has the log, the program's two queues and its place.
//!
//! A transaction is an entry of the same log as the messages, of a stream that no sender has
//! (`source` 0). So everything that holds of entries holds of it: freshness, takeover, truncation,
//! commit, late joining, replay and repair. An entry's number of its stream is the transaction's;
//! its two arguments say how many messages lie between the first one that it does not cover and
//! itself. Programs never see places of the log: what they are told as a message's sqn is its place
//! less the transactions before it.
//!
//!     scanned <= committed:   everything below was looked through, and given to the program
//!     carried:                the first message (counted among messages) that nothing covers
//!
//! A member whose program handles messages owns them from `open` to `shut`. It may open when all
//! that was in its log as it began to lead is committed and applied, and its place among the
//! messages is behind what transactions carry. What its program made is never given to it again.

const std = @import("std");
const mutant = @import("../testing/mutant.zig");
const assert = @import("../assert.zig").assert;
const epochs = @import("epoch.zig");
const Entry = @import("entry.zig").Entry;
const Epoch = epochs.Epoch;

/// Entries that are looked through in one step.
pub const scan_step = 4096;

/// A transaction, not a message.
pub inline fn is_result(e: *const Entry) bool {
    return e.source == 0 and e.is_tier != 0;
}

/// `distance`: messages from the first one that it does not cover to itself.
pub fn entry_of(number: u64, length: u32, distance: u32, time_ms: u64) Entry {
    return .{
        .connection = 0,
        .msg_no = number,
        .time_ms = time_ms,
        .length = length,
        .source = 0,
        .transport = 0,
        .tx_arg = @intCast(distance >> 16),
        .msg_arg = @truncate(distance),
        .is_tier = 1,
    };
}

pub fn distance_of(e: *const Entry) u64 {
    assert(is_result(e));
    return @as(u64, e.tx_arg) << 16 | e.msg_arg;
}

/// What the member knows, after a step of it.
pub const Seen = struct {
    is_leading: bool,
    epoch: Epoch,
    /// First sqn of the epoch, where it leads.
    first: u64,
    committed: u64,
};

/// Everything of messages below `below` is at the senders' when the log is committed to `end`.
const Waiting = struct { below: u64, end: u64 };

/// Messages below `below` were handled, and what their handlers made is in the first `mark`.
const Handled = struct { below: u64, mark: u64 };

pub const Results = struct {
    /// Senders are told of a message when what its handler made is committed (`SyncMode` 1).
    is_synchronous: bool,
    /// The first transaction that the program is given, and the number of the very first one.
    start_no: u64,

    scanned: u64 = 0,
    /// Transactions below `scanned`, and one past the number of the last of them.
    count: u64 = 0,
    next_no: u64,
    carried: u64 = 0,
    /// One past the place of the last message below `scanned`.
    message_end: u64 = 0,

    /// One past the place of the last transaction that this program made itself.
    own_end: u64 = 0,
    is_open: bool = false,
    /// In which it is open.
    epoch: Epoch = .{},
    /// Transactions below the end of the log, while it is open.
    made: u64 = 0,

    /// Senders are told of messages below this place.
    told: u64 = 0,
    handled: ?Handled = null,
    waiting: ?Waiting = null,

    pub fn init(is_synchronous: bool, start_no: u64) Results {
        return .{
            .is_synchronous = is_synchronous,
            .start_no = start_no,
            .next_no = start_no,
        };
    }

    // ---------------------------------------------------------------- steps

    /// Before the member's step: what was handled until now has made what is in the queue now.
    pub fn note_handled(self: *Results, host: anytype) void {
        if (!self.is_synchronous or !self.is_open or self.handled != null) return;
        const below = host.processed();
        if (below <= self.told or self.waiting != null and below <= self.waiting.?.below) return;
        self.handled = .{ .below = below, .mark = host.made_mark() };
    }

    /// After the member's step. The work count.
    pub fn step(self: *Results, host: anytype, seen: Seen) u32 {
        const before = self.scanned;
        self.scan(host, if (mutant.on(.result_uncommitted)) host.next() else seen.committed);
        if (self.is_open and !(seen.is_leading and epochs.eql(seen.epoch, self.epoch))) {
            self.shut(host);
        }
        if (!self.is_open) {
            self.note_covered(host, seen.committed);
            const is_there = host.pass_to(self.carried);
            const is_whole = self.scanned >= seen.first or mutant.on(.result_uncommitted);
            if (seen.is_leading and is_there and is_whole and host.is_applied()) {
                self.open(host, seen.epoch);
            }
        }
        self.tell(host, seen.committed);
        return @intFromBool(self.scanned != before);
    }

    fn open(self: *Results, host: anytype, epoch: Epoch) void {
        self.is_open = true;
        self.epoch = epoch;
        // From the scanned place on there are messages only: nothing was made in this epoch.
        self.made = self.count;
        self.handled = null;
        self.waiting = null;
        host.open(self.next_no);
    }

    fn shut(self: *Results, host: anytype) void {
        self.is_open = false;
        self.handled = null;
        self.waiting = null;
        host.shut();
    }

    /// Gives the program what others made, in the log's order.
    fn scan(self: *Results, host: anytype, limit: u64) void {
        const end = @min(limit, self.scanned + scan_step);
        while (self.scanned < end) {
            const e = host.entry_at(self.scanned);
            if (!is_result(&e)) {
                self.scanned += 1;
                self.message_end = self.scanned;
                continue;
            }
            const is_own = self.scanned < self.own_end and !mutant.on(.result_own_again);
            if (!is_own and e.msg_no >= self.start_no) {
                if (!host.give(self.scanned, &e)) return;
            }
            const messages = self.scanned - self.count;
            self.carried = @max(self.carried, messages -| distance_of(&e));
            self.count += 1;
            self.scanned += 1;
            self.next_no = @max(self.next_no, e.msg_no + 1);
        }
    }

    /// What a later message's transactions follow has no more of its own. The last one that is
    /// covered may still make some; and a program that led may have handled more than is covered.
    fn note_covered(self: *Results, host: anytype, committed: u64) void {
        if (!self.is_synchronous) return;
        const place = host.covered(self.carried) orelse return;
        self.told = @max(self.told, @min(place, committed));
    }

    fn tell(self: *Results, host: anytype, committed: u64) void {
        if (!self.is_synchronous) {
            self.told = committed;
            return;
        }
        if (!self.is_open) return;
        if (self.waiting == null) if (self.handled) |h| if (host.made_end() >= h.mark) {
            self.waiting = .{ .below = h.below, .end = host.next() };
            self.handled = null;
        };
        const w = self.waiting orelse return;
        if (committed < w.end and !mutant.on(.result_told_early)) return;
        self.told = w.below;
        self.waiting = null;
    }

    // ---------------------------------------------------------------- what the program makes

    pub const Made = struct {
        number: u64,
        /// Messages that it covers, with those before it.
        carried: u64,
        length: u32,
        time_ms: u64,
    };

    /// The entry that a transaction becomes at the log's end; null: it can't be expressed.
    pub fn next_entry(self: *const Results, host: anytype, made: Made) ?Entry {
        const messages = host.next() - self.made;
        assert(made.carried <= messages);
        const distance = messages - made.carried;
        if (distance > std.math.maxInt(u32)) return null;
        return entry_of(made.number, made.length, @intCast(distance), made.time_ms);
    }

    /// It is the last entry of the log.
    pub fn note_made(self: *Results, host: anytype) void {
        self.made += 1;
        self.own_end = host.next();
    }

    /// The program was given what lies below, or made it.
    pub fn known_end(self: *const Results, handed: u64) u64 {
        return @max(handed, self.own_end);
    }
};
