//! What a tier's member and its arbiter say to each other: a view of the tree, commands, answers.
//!
//! The member (`member.zig`) decides, the arbiter (TypeScript: ZooKeeper or `local:`) carries out.
//! At most one command is under way; an answer that was lost is found out by the arbiter, which
//! reads the tree again and compares, before it answers. Members of a tier are numbered by their
//! place in the configuration, in the order of context ids, the same on all of them.

const std = @import("std");
const assert = @import("../assert.zig").assert;
const Epoch = @import("epoch.zig").Epoch;

/// Members of a tier, observers aside: a set of them is 64 bits. `AckCount` is at most 64.
pub const members_max = 64;
pub const nobody: u32 = std.math.maxInt(u32);
/// Sets of members by their numbers.
pub const Set = u64;

pub fn set_of(member: u32) Set {
    assert(member < members_max);
    return @as(Set, 1) << @intCast(member);
}

pub fn has(set: Set, member: u32) bool {
    return member < members_max and set & set_of(member) != 0;
}

pub fn count(set: Set) u32 {
    return @popCount(set);
}

/// What a commit needs: acknowledgements of `need` others of `set` than the leader.
pub const Quorum = extern struct { set: Set = 0, need: u32 = 0, pad: u32 = 0 };

pub const Session = enum(u32) {
    /// Not connected: nothing is known, nothing can be done. The lease goes on for its time.
    suspended = 0,
    connected = 1,
    /// Our ephemeral nodes are gone: a leader is none any more.
    expired = 2,
};

/// The tree at one moment. A newer one replaces it; `serial` grows with each.
pub const View = extern struct {
    serial: u32,
    session: Session,
    /// Version of `master` that was read.
    master_version: i32,
    /// `master.candidate`, or `nobody`.
    candidate: u32,
    /// `master.epoch`; number 0: no election yet.
    epoch: Epoch,
    /// `master.established`; epoch number 0: nothing was ever established.
    established_epoch: Epoch,
    established_leader: u32,
    /// Who holds `master/running`, or `nobody`.
    running: u32,
    established: Quorum,
    /// Who is in `classer`.
    present: Set,
    /// Whom the operator lets lead without the usual condition (`rcm tier force-leader`), or
    /// `nobody`. The next epoch that is established takes it out of the tree.
    forced: u32,
    pad: u32 = 0,
};

pub const CommandKind = enum(u32) {
    none = 0,
    /// One transaction: `master.candidate` and `.epoch` if `master` has `version`; create
    /// `running`.
    campaign = 1,
    /// `master.established` = (epoch, leader, quorum) if `master` has `version`.
    establish = 2,
    /// Delete `running`, if it is ours.
    resign = 3,
    /// Read the tree as it is now: a view that was begun after this comes before the answer.
    read = 4,
};

pub const Command = extern struct {
    kind: CommandKind,
    /// Grows with each command; the answer quotes it.
    serial: u32,
    version: i32,
    leader: u32,
    epoch: Epoch,
    quorum: Quorum,
};

pub const Outcome = enum(u32) {
    done = 1,
    /// The version was another one, or `running` exists: nothing was changed.
    refused = 2,
    /// The session expired, or the arbiter could not find out in time: nothing may be assumed.
    unknown = 3,
};

pub const Answer = extern struct {
    serial: u32,
    outcome: Outcome,
    /// Of `master` after it was done.
    version: i32,
    pad: u32 = 0,
};

comptime {
    std.debug.assert(@sizeOf(View) == 88);
    std.debug.assert(@sizeOf(Command) == 48);
    std.debug.assert(@sizeOf(Answer) == 16);
}
