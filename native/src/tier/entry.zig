//! One place in a tier's order as the leader tells it: which message lies there, without its bytes.

const std = @import("std");

/// 40 bytes: what SQN and FILL frames carry for each sqn.
pub const Entry = extern struct {
    /// Of the sender's session: a member completes the entry only with bytes of that connection.
    connection: u64,
    msg_no: u64,
    /// Unix milliseconds of ordering, the leader's.
    time_ms: u64,
    /// Bytes of payload.
    length: u32,
    /// The stream's sender: id of a context or of a tier.
    source: u16,
    transport: u16,
    tx_arg: u16,
    msg_arg: u16,
    /// 1: the sender is a tier.
    is_tier: u16,
    reserved: u16 = 0,

    pub fn same_stream(a: *const Entry, b: *const Entry) bool {
        return a.source == b.source and a.transport == b.transport and a.is_tier == b.is_tier;
    }
};

comptime {
    std.debug.assert(@sizeOf(Entry) == 40);
}
