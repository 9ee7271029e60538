//! Bounds and times of the tier that the configuration does not set.

const std = @import("std");
const build_options = @import("build_options");
const tree = @import("tree.zig");

/// The simulator reaches a few bounds only when they are low.
const is_simulated = @import("build_options").mutants;

const us = std.time.ns_per_us;
const ms = std.time.ns_per_ms;

/// Members, then observers.
pub const observers_max = 32;
pub const peers_max = tree.members_max + observers_max;
/// Eras of a log: one an election that led to a leader.
pub const eras_max = 4096;
/// An epoch further ahead than this of any that was heard of is nobody's: numbers grow by one with
/// each election, and one forged word must not use them up.
pub const epochs_ahead_max = 1 << 32;
/// Entries that a follower keeps ahead of its log, and a leader orders ahead of its commits.
pub const ring_entries = if (is_simulated) 1 << 9 else 1 << 17;
/// Staged messages that are ordered, entries that are completed, in one step.
pub const order_step = if (is_simulated) 32 else 512;
pub const apply_step = if (is_simulated) 64 else 1024;

/// A question is asked again after this; doubled up to the most.
pub const ask_first_ns = 5 * ms;
pub const ask_max_ns = 200 * ms;
/// An entry whose message has not come is pulled after this: senders repair faster.
pub const missing_patience_ns = 5 * ms;
/// Between a gap in the entries and the first request for it.
pub const nak_backoff_ns = 100 * us;
pub const nak_retry_ns = 2 * ms;
/// Follower further behind than this many entries pull instead of asking for entries.
pub const pull_lag = ring_entries / 4;
/// Bytes under way to one who pulls, where its socket's buffer is not known.
pub const pull_window_bytes = 96 * 1024;
/// What the kernel keeps of a datagram besides its bytes, about.
pub const datagram_overhead_bytes = 832;
/// An answer is waited for so long at least: a thread may have to wait for its core.
pub const pull_retry_ns = 10 * ms;
/// After so many times what an answer took lately something was lost.
pub const pull_round_trips = 4;
/// FILL datagrams in a row to one who pulls.
pub const fills_per_turn = 8;
/// FILL datagrams in one step: what is live waits for no more than these.
pub const fills_per_step = 8;
/// Heartbeats behind the last entry: 1, 4, 16 ms ... up to the configured interval.
pub const heartbeat_first_ns = 1 * ms;
/// With `AsynchronousSqn: 1` entries wait so long for others, unless a datagram is full.
pub const batch_ns = 200 * us;
/// That somebody's `GroupKey` is another one is said this often at most.
pub const seal_told_every_ns = 10_000 * ms;
/// A winner that is blank lets others try first.
pub const blank_delay_ns = 100 * ms;

comptime {
    std.debug.assert(std.math.isPowerOfTwo(ring_entries));
    std.debug.assert(pull_lag < ring_entries);
    std.debug.assert(apply_step < ring_entries and order_step < ring_entries);
}
