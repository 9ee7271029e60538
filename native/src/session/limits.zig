//! Bounds and times of the protocol: sessions, repair, flow control. Times that a user can set are
//! in the configuration; these follow from what was measured (`docs/decisions.md`).

const std = @import("std");
const base = @import("../limits.zig");

const us = std.time.ns_per_us;
const ms = std.time.ns_per_ms;

/// `SendWindowSize` at most.
pub const window_datagrams_max = 65536;
/// Ranges in one NAK at most (fewer where the MTU is small).
pub const nak_ranges_max = 56;
/// Receivers that a sender keeps track of, unless the configuration names more.
pub const peers_max = 256;
/// Streams of one receiving context.
pub const streams_max = 1024;
/// Challenges under way at a receiver.
pub const pendings_max = 64;
/// Frames to single receivers that wait to be sent.
pub const controls_max = 128;
pub const notices_max = 256;
/// Early datagrams held by a context.
pub const held_datagrams_max = 65536;

/// A kernel takes 64 segments and 65,507 bytes at once; 44 of the usual 1472 bytes.
pub const gso_segments_max = 64;
pub const gso_bytes_max = 65507;
/// Smallest message with its header: bounds what a number can jump by in one window.
pub const messages_per_datagram_max = 65536 / 8;
/// What a full datagram of the smallest messages takes in the log at most is more; of usual ones,
/// this.
pub const log_bytes_per_datagram = 8 * 1024;

// ---- session
pub const syn_first_ns = 5 * ms;
/// While somebody who is expected is missing.
pub const syn_waiting_max_ns = 200 * ms;
pub const syn_reply_interval_ns = 2 * ms;
pub const rst_interval_ns = 20 * ms;
/// Between CONFIRM and the first ACK a receiver holds the window.
pub const confirming_hold_ns = 250 * ms;
/// When nobody acknowledged in that time, nobody who was only confirmed holds for so long: answers
/// to SYN that somebody forges can't stop the window.
pub const confirming_rest_ns = 2000 * ms;
pub const closing_repeats = 3;
/// What the program says it has processed is looked at, and acknowledged, this often at most.
pub const processed_look_ns = 10 * ms;
/// After its sender has disconnected it, a receiver that processes nothing of what it has keeps
/// away for so long.
pub const processed_rest_ns = 1000 * ms;
/// A first number that receivers may ask for (`IsHandshake`): far enough from the end of numbers.
pub const first_number_max = 4503599627370496;
/// Numbers given while the send flag was off come as one jump, up to a whole ring of nodes.
pub const numbers_ahead_min = 1048576;

// ---- heartbeats: 1, 5, 21, 85, ... ms after the last data, then the configured interval
pub const heartbeat_first_ns = 1 * ms;
pub const want_ack_interval_ns = 1 * ms;

// ---- repair
pub const repair_jobs_max = 128;
pub const repair_recent_max = 32;
/// Shorter than the earliest second request, longer than it takes all receivers to ask.
pub const repair_hold_off_ns = 150 * us;
pub const repair_bytes_per_s = 400 << 20;
pub const repair_burst_bytes = 256 << 10;
pub const round_trip_first_ns = 50 * us;
/// For each receiver of the group.
pub const nak_backoff_ns = 10 * us;
pub const nak_backoff_max_ns = 2 * ms;
pub const nak_retry_min_ns = 300 * us;
pub const nak_retry_max_ns = 100 * ms;
pub const nak_doublings_max = 8;
/// A gap that is not repaired for this many heartbeat timeouts while the sender is heard is a loss.
pub const give_up_heartbeat_timeouts = 10;
/// Messages in assembly that did not grow for so long give way to others (`room.zig`).
pub const memory_stall_ns = 1000 * ms;
pub const gap_event_interval_ns = 100 * ms;

/// Messages freed in one step of the cache.
pub const reclaim_step = 4096;

pub const message_bytes_max = base.message_bytes_max;

comptime {
    const assert = std.debug.assert;
    assert(repair_hold_off_ns < nak_retry_min_ns);
    assert(nak_retry_min_ns < nak_retry_max_ns);
    assert(std.math.isPowerOfTwo(notices_max));
    assert(repair_burst_bytes >= gso_bytes_max);
    assert(streams_max == base.record_streams_max);
    assert(confirming_hold_ns > syn_waiting_max_ns);
    assert(first_number_max == 1 << 52);
    assert(numbers_ahead_min == base.node_count_max);
}
