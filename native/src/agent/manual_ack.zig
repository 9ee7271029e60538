//! What a program has processed where it says so itself (`ack: "manual"`, `sendAck`).
//!
//! The order is walked up to there, so that each stream knows how far it was processed: that is
//! what its sender is told. Runs on the thread that takes messages; the receive agent reads the
//! positions.
//!
//! After a restart nothing that is replayed counts as processed before the program has said so
//! again: it is replayed because the program wants it, and a sender keeps the highest position that
//! it was ever told. Where the replay ends, a stream of which nothing was replayed is processed
//! too.

const RxAgent = @import("rx_agent.zig").RxAgent;

/// Everything below `next` was processed; it is not beyond what was read.
pub fn process(rx: *RxAgent, next: u64) void {
    const from = rx.log.processed_next();
    if (next <= from) return;
    rx.receiver.process_to(next);
    settle_replay(rx, from);
}

/// At a start, and when `processed` has moved on from `from`.
pub fn settle_replay(rx: *RxAgent, from: u64) void {
    const record = rx.record orelse return;
    const end = record.recording.found.next_sqn;
    if (from > end or rx.log.processed_next() < end) return;
    for (record.recording.found.streams.items, 0..) |*known, id| {
        const stream = &rx.receiver.streams[id];
        if (stream.processed >= known.next_msg) continue;
        @atomicStore(u64, &stream.processed, known.next_msg, .release);
    }
}
