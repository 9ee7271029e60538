//! Forged datagrams to members of a tier that lives: its leader, a follower, and one that joins.
//!
//! Three kinds of forgers. A *blind* one has seen nothing: it knows ids and formats, not the epoch.
//! What it says changes neither order nor commits, roles nor durable numbers, whatever it is. A
//! blind one that *deposes* guesses a higher epoch: members may promise it, and the tier must find
//! a leader again and go on. One that *knows* has read the group: without a `GroupKey` it can say
//! what the leader says; it must not crash anybody, nor make anybody work without end. With a
//! `GroupKey` all three are blind.

const std = @import("std");
const frame = @import("../wire/frame.zig");
const wire = @import("../wire/tier_frame.zig");
const seal = @import("../wire/seal.zig");
const forge_file = @import("../wire/forge_fuzz.zig");
const tier_forge = @import("../wire/tier_frame_fuzz.zig");
const epochs = @import("epoch.zig");
const member = @import("member.zig");
const bed = @import("test_tier.zig");
const Address = @import("../transport/address.zig").Address;
const Bench = forge_file.Bench;
const Forge = forge_file.Forge;
const Member = bed.Member;
const Tier = bed.Tier;
const expect = forge_file.expect;

const Forger = enum { blind, deposes, knows };
const cluster = forge_file.cluster;
/// Datagrams that one forged one may cause at once: entries again, and pieces of the log.
const answers_max = 512;
const steps_max = 400_000;

const World = struct {
    bench: *Bench,
    forge: Forge,
    tier: *Tier,
    forger: Forger,
    is_sealed: bool,
    /// Of a forger who has the wrong key.
    sealer: seal.Sealer,
    victim: usize = 0,
    staged: u64 = 0,

    fn init(bench: *Bench, gpa: std.mem.Allocator, seed: u64) World {
        var forge: Forge = .init(seed);
        const d = &forge.dice;
        const is_sealed = d.below(3) == 0;
        const key: ?seal.GroupKey = if (is_sealed) @splat(3) else null;
        const t = Tier.make_with(gpa, .{ .keys = @splat(key), .cluster = cluster }) catch
            @panic("out of memory");
        return .{
            .bench = bench,
            .forge = forge,
            .tier = t,
            .forger = d.one_of(Forger, &.{ .blind, .deposes, .knows }),
            .is_sealed = is_sealed,
            .sealer = .init(&@as(seal.GroupKey, @splat(4)), .{
                .direction = .from_member,
                .tier = false,
                .cluster = cluster,
                .source = Tier.names[0].id,
                .transport = Tier.names[0].id,
                .receiver = 0,
                .instance = 1000,
            }),
        };
    }

    /// Two members at least lead and follow; the third may still be on its way.
    fn begin(self: *World) void {
        const t = self.tier;
        const joins = self.forge.dice.coin();
        t.start(0);
        t.start(1);
        if (!joins) t.start(2);
        self.stage(100 + self.forge.dice.below(300));
        self.settle();
        const leader = t.leads().?;
        self.victim = switch (self.forge.dice.below(3)) {
            0 => leader,
            1 => if (leader == 0) 1 else 0,
            else => 2,
        };
        if (joins and self.victim == 2) t.start(2);
    }

    fn stage(self: *World, count: u64) void {
        self.tier.stage_everywhere(self.staged, self.staged + count, null);
        self.staged += count;
    }

    /// Until all that live have all.
    fn settle(self: *World) void {
        for (0..steps_max) |_| {
            if (self.tier.has_all()) return;
            self.step();
        }
        expect(false, "the tier goes on");
    }

    /// Who may speak as a leader of any epoch can bring a member to SEPARATE, which then says so;
    /// nobody else can. The others go on, if two are left. False: they are not.
    fn settle_without_separate(self: *World) bool {
        const t = self.tier;
        var left: u32 = 0;
        for (&t.members, 0..) |*m, i| {
            if (m.phase != .separate) {
                left += 1;
                continue;
            }
            expect(self.forger == .deposes and !self.is_sealed, "nobody is brought to SEPARATE");
            t.kill(i);
        }
        if (left < 2) return false;
        for (0..steps_max) |_| {
            if (t.has_all()) return true;
            self.step();
            for (&t.members, t.alive, 0..) |*m, alive, i| {
                if (!alive or m.phase != .separate) continue;
                expect(self.forger == .deposes and !self.is_sealed, "none ends as SEPARATE later");
                t.kill(i);
                left -= 1;
                if (left < 2) return false;
            }
        }
        expect(false, "the tier goes on");
        return false;
    }

    fn step(self: *World) void {
        self.tier.step();
        expect(self.tier.sent_in_step < 20_000, "a step has an end");
    }

    fn speech(self: *World) tier_forge.Speech {
        const t = self.tier;
        const d = &self.forge.dice;
        const v = &t.members[self.victim];
        const other = (self.victim + 1 + d.below(2)) % bed.member_count;
        const known = v.floor;
        const epoch: frame.Epoch = switch (self.forger) {
            .knows => if (self.forge.once_in(4)) v.epoch else known,
            .blind => .{ .number = known.number -| d.below(3), .id = d.bits() >> 12 },
            .deposes => .{
                .number = known.number +| d.magnitude(1, 1 << 52),
                .id = d.bits() >> 12,
            },
        };
        return .{
            .tier = t.members[0].tier,
            .source = if (self.forge.once_in(16))
                @as(u16, @truncate(d.bits())) | 1
            else
                Tier.names[other].id,
            .nonce = if (self.forge.once_in(4)) d.bits() >> 11 else 1000 + other,
            .to = if (d.coin()) Tier.names[self.victim].id else 0,
            .epoch = epoch,
        };
    }

    fn forge_one(self: *World) []align(8) u8 {
        const f = &self.forge;
        const v = &self.tier.members[self.victim];
        f.near = if (f.once_in(2)) self.tier.hosts[self.victim].next() else v.committed;
        tier_forge.whole(f, f.dice.one_of(wire.Type, tier_forge.kinds), self.speech());
        const is_bent = f.once_in(2);
        // Who is blind and bends an epoch may hit any.
        const epoch = f.body(wire.Said).epoch;
        if (is_bent) tier_forge.bend(f);
        if (self.forger == .blind and !self.is_sealed) f.body(wire.Said).epoch = epoch;
        const sealer = if (self.is_sealed and !f.once_in(4)) &self.sealer else null;
        if (sealer) |s| s.instance = f.head().connection();
        f.finish(sealer, is_bent);
        return self.bench.place(f.bytes());
    }

    fn execute(self: *World) void {
        const t = self.tier;
        const m = &t.members[self.victim];
        const before = Seen.of(t, self.victim);
        const from: Address = if (self.forge.once_in(2)) .init(99, 5000) else Tier.address(0);
        m.on_datagram(t.now_ns, from, self.forge_one());
        if (self.forger == .blind or self.is_sealed) {
            expect(before.is(Seen.of(t, self.victim)), "who is blind changes nothing");
        }
        var answers: u32 = 0;
        while (m.poll_send(t.now_ns, t.image[0..1472])) |_| answers += 1;
        expect(answers < answers_max, "a datagram causes so much and no more");
    }
};

/// What a forger must not change.
const Seen = struct {
    next: u64,
    committed: u64,
    shown: u64,
    floor: epochs.Epoch,
    durable: epochs.Durable,
    phase: member.Phase,
    leader_id: u16,

    fn of(t: *Tier, i: usize) Seen {
        const m = &t.members[i];
        return .{
            .next = t.hosts[i].next(),
            .committed = m.committed,
            .shown = t.hosts[i].shown,
            .floor = m.floor,
            .durable = m.durable,
            .phase = m.phase,
            .leader_id = m.leader_id,
        };
    }

    fn is(a: Seen, b: Seen) bool {
        return std.meta.eql(a, b);
    }
};

/// The target.
pub fn run(bench: *Bench, seed: u64, executions: u64) void {
    var memory: std.heap.FixedBufferAllocator = .init(bench.memory);
    const gpa = memory.allocator();
    var w: World = .init(bench, gpa, seed);
    w.begin();
    for (0..executions) |i| {
        bench.count();
        w.execute();
        if (i % 16 != 0) continue;
        if (w.forge.once_in(4)) w.stage(1 + w.forge.dice.below(8));
        for (0..1 + w.forge.dice.below(40)) |_| w.step();
    }
    // Who has read the group and may speak as the leader has said what it liked.
    if (w.forger == .knows and !w.is_sealed) return;
    for (0..bed.member_count) |i| {
        if (!w.tier.alive[i]) w.tier.start(i);
    }
    w.stage(50);
    if (!w.settle_without_separate()) return;
    expect(w.tier.agree(), "all members have one order");
}
