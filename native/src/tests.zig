//! Root of the unit tests: every file that has some is imported here, and `tidy` checks that none
//! is forgotten.

test {
    _ = @import("lib.zig");
    _ = @import("tidy.zig");
    _ = @import("abi_gen.zig");
    _ = @import("abi_hash.zig");
    _ = @import("assert.zig");
    _ = @import("fuzz.zig");
    _ = @import("limits.zig");
    _ = @import("agent/barrier.zig");
    _ = @import("agent/clock.zig");
    _ = @import("agent/cpu.zig");
    _ = @import("agent/senders_test.zig");
    _ = @import("agent/wait.zig");
    _ = @import("agent/waker.zig");
    _ = @import("order/log.zig");
    _ = @import("order/record.zig");
    _ = @import("repair/loss_detector.zig");
    _ = @import("repair/retransmit_handler.zig");
    _ = @import("session/notices.zig");
    _ = @import("session/peers.zig");
    _ = @import("session/receiver.zig");
    _ = @import("session/sender.zig");
    _ = @import("sim.zig");
    _ = @import("stats/snapshot.zig");
    _ = @import("testing/cluster.zig");
    _ = @import("testing/dice.zig");
    _ = @import("testing/messages.zig");
    _ = @import("testing/model.zig");
    _ = @import("testing/packet_simulator.zig");
    _ = @import("testing/scenario.zig");
    _ = @import("testing/sim_clock.zig");
    _ = @import("transport/address.zig");
    _ = @import("transport/failure.zig");
    _ = @import("transport/udp.zig");
    _ = @import("transport/udp_test.zig");
    _ = @import("window/damage_test.zig");
    _ = @import("window/node.zig");
    _ = @import("window/pool_test.zig");
    _ = @import("window/recovery.zig");
    _ = @import("window/region.zig");
    _ = @import("window/sending_window.zig");
    _ = @import("window/store_test.zig");
    _ = @import("wire/frame.zig");
    _ = @import("wire/seal.zig");
}
