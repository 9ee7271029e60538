//! What happened in simulated runs, counted.

const std = @import("std");
const packet_simulator = @import("packet_simulator.zig");

pub const Totals = struct {
    events: u64 = 0,
    virtual_ns: u64 = 0,
    delivered: u64 = 0,
    published: u64 = 0,
    redelivered: u64 = 0,
    lost_told: u64 = 0,
    would_block: u64 = 0,
    naks: u64 = 0,
    repairs: u64 = 0,
    hostile: u64 = 0,
    partitions: u64 = 0,
    pauses: u64 = 0,
    receiver_kills: u64 = 0,
    sender_kills: u64 = 0,
    wipes: u64 = 0,
    deaths_inside: u64 = 0,
    deaths_in_start: u64 = 0,
    tails: u64 = 0,
    lone_lives: u64 = 0,
    published_between: u64 = 0,
    torn: u64 = 0,
    stops: u64 = 0,
    stalls: u64 = 0,
    flag_changes: u64 = 0,
    refusals: u64 = 0,
    sessions: u64 = 0,
    disconnects: u64 = 0,
    gaps_given_up: u64 = 0,
    /// Messages that were read in place; of them, those whose bytes nobody kept.
    in_place: u64 = 0,
    forgotten: u64 = 0,
    /// Steps of a sender with memory that waits for a receiver.
    pinned_steps: u64 = 0,
    cuts: u64 = 0,
    /// Messages delivered again from a record, and what happened to disks.
    replayed: u64 = 0,
    power_losses: u64 = 0,
    flips: u64 = 0,
    disk_failures: u64 = 0,
    /// Leaders of tiers that senders had to do with.
    leaders: u64 = 0,
    network: packet_simulator.Counters = .{},

    pub fn add(self: *Totals, other: *const Totals) void {
        inline for (@typeInfo(Totals).@"struct".field_names) |field| {
            if (comptime std.mem.eql(u8, field, "network")) continue;
            @field(self, field) += @field(other, field);
        }
        inline for (@typeInfo(packet_simulator.Counters).@"struct".field_names) |field| {
            @field(self.network, field) += @field(other.network, field);
        }
    }
};
