//! `RecordSync: "commit"`: what a receiver acknowledges is on its disk. Part of `receiver.zig`.
//!
//! One force after the other: before each, every stream notes how far it is (`forcing`); when it is
//! over, that is what may be acknowledged (`forced`), and the next one begins if anything came
//! meanwhile. So a force is shared by all that arrived during the one before.
//!
//! A message in assembly is acknowledged piece by piece all the same, once everything in front of
//! it is forced: its sender needs that to go on, and keeps a message until all of it is
//! acknowledged.

const frame = @import("../wire/frame.zig");
const mutant = @import("../testing/mutant.zig");
const stream_file = @import("stream.zig");
const Receiver = @import("receiver.zig").Receiver;
const Stream = stream_file.Stream;
const Shared = stream_file.Shared;
const Position = frame.Position;

/// While a force is under way it is looked for at least so often.
pub const look_ns = 1_000_000;

/// What of `at` is on the disk.
pub fn limit(s: *const Stream, shared: *const Shared, at: Position) Position {
    if (!shared.waits_for_disk or at.msg <= s.forced) return at;
    return .{ .msg = s.forced };
}

/// Before each tick. True: a force is under way.
pub fn step(self: *Receiver) bool {
    const shared = &self.lanes[0];
    const recorder = shared.log.recorder.?;
    if (!recorder.is_recording) {
        // The disk has failed: from now on an acknowledgement means memory only.
        shared.waits_for_disk = false;
        for (self.active()) |*s| release(self, s, s.next.msg);
        return false;
    }
    if (!recorder.is_forced() and !mutant.on(.force_unawaited)) return true;
    var is_behind = false;
    for (self.active()) |*s| {
        if (s.forced != s.forcing) release(self, s, s.forcing);
        if (s.forcing != s.next.msg) is_behind = true;
    }
    if (!is_behind) return false;
    if (mutant.on(.force_unawaited) and !recorder.is_forced()) return false;
    for (self.active()) |*s| s.forcing = s.next.msg;
    recorder.ask_force();
    if (mutant.on(.forced_at_once)) for (self.active()) |*s| release(self, s, s.forcing);
    return true;
}

fn release(self: *Receiver, s: *Stream, to: u64) void {
    s.forced = to;
    s.forcing = to;
    if (s.slot) |slot| if (!s.is_manual) {
        const consumed = @atomicLoad(u64, &slot.consumed, .monotonic);
        const done = @min(to, s.tail);
        if (done > consumed) @atomicStore(u64, &slot.consumed, done, .release);
    };
    if (s.phase != .started) return;
    s.ack_now = true;
    self.dirty = true;
}

/// The stream begins here, or what is below is on the disk already.
pub fn begin(s: *Stream) void {
    s.forced = s.next.msg;
    s.forcing = s.next.msg;
}
