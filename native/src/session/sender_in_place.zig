//! Where receivers read a sending window in place: whether datagrams are wanted at all, and cursors
//! of what nobody has to send. Part of `sender.zig`.

const frame = @import("../wire/frame.zig");
const layout = @import("../window/node.zig");
const Sender = @import("sender.zig").Sender;
const Position = frame.Position;

/// Does anybody want datagrams? Where all receivers are on this machine no data leaves it.
pub fn wants_network(self: *Sender) bool {
    if (!self.o.has_network) return false;
    if (!self.o.shared_memory) return true;
    for (self.peers.slice()) |*p| {
        if (p.shared) continue;
        if (p.configured or p.state == .connected or p.state == .confirming) return true;
    }
    return false;
}

/// After receivers came or went.
pub fn look_at_network(self: *Sender) void {
    if (!self.o.shared_memory or !self.o.has_network) return;
    const wanted = wants_network(self);
    if (wanted == self.network_on) return;
    self.network_on = wanted;
    self.inflight_first = 0;
    self.inflight_count = 0;
    if (!wanted or self.phase != .started) return;
    // For the first one on the network everything that is kept is new.
    self.sent = .{ .msg = self.window.acked() };
    self.announced = self.sent;
    self.window.set_sent(self.sent.msg, 0);
}

/// Receivers that read in place see what is written; the cursors follow.
pub fn tell_in_place(self: *Sender) void {
    if (self.network_on or self.phase != .started) return;
    const written = self.window.written();
    if (self.sent.msg == written) return;
    if (self.send_flag) {
        self.announced = Position.max(self.announced, .{ .msg = written });
    } else for (self.sent.msg..written) |no| {
        if (self.window.node(no).flags & layout.flags_known != 0) continue;
        self.announced = Position.max(self.announced, .{ .msg = no + 1 });
    }
    self.sent = .{ .msg = written };
    self.window.set_sent(written, 0);
}
