/**
 * The edges of a tier, on the wire of real processes: its sockets, its sizes, its seal. What the
 * members say is captured and read by the dissector.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { forgedTierFrames } from "./fixtures/tier_frames.ts";
import { captureMissing, readCapture, startCapture } from "./harness/capture.ts";
import { type Bed, e2e, LIMIT_MS, type Node, sleep, until } from "./harness/driver.ts";
import { statsOf } from "./harness/stats.ts";
import { checkTier, makeTier, type Tier, type TierWish } from "./harness/tier.ts";

const SIZES = { kind: "mixed", seed: 5, bytes: 3000 } as const;
const KEY = "5a".repeat(32);
const OTHER_KEY = "a5".repeat(32);
/** Log key: a datagram does not fit the member's GroupKey. */
const UNAUTHENTICATED = 22113;
const SQN = 32;
const SQN_ACK = 33;
const PULL = 41;
const TIER_FILL = 42;

function local(bed: Bed) {
  return { address: `local:${join(bed.folder, "arbiter")}`, path: "/rcm" };
}

/** A test that captures; it is skipped where that can't be done, which counts in CI. */
function captured(name: string, run: (bed: Bed) => Promise<void>): void {
  const missing = captureMissing();
  if (missing === false || process.env["CI"] === "true") return e2e(name, run);
  test(`${name} [${missing}]`, { skip: missing }, () => {});
}

async function send(node: Node, count: number, first = 0): Promise<void> {
  const where = { context: "s1", topic: "t" };
  await node.call("send", { ...where, seed: 31, sizes: SIZES, count, first });
  assert.equal(await node.call("flush", { ...where, timeoutMs: LIMIT_MS }), true);
}

/** Starts members; one leads and the others follow. */
async function startAll(tier: Tier, places: readonly number[]): Promise<void> {
  await Promise.all(places.map((place) => tier.start(place)));
  await tier.settled();
}

async function failsToStart(tier: Tier, place: number, text: RegExp): Promise<void> {
  await assert.rejects(tier.start(place), text);
  await tier.kill(place);
}

captured("what is configured is what goes over the wire; an observer says nothing", async (bed) => {
  const repair = bed.port + 6;
  const fixed = bed.port + 12;
  const tier = makeTier(bed, {
    members: 4,
    senders: 1,
    arbitration: local(bed),
    values: {
      SyncIp: "127.0.0.3",
      SyncTTL: 5,
      SyncMTU: 700,
      SyncRepairPortStart: repair,
      SyncRepairPortEnd: repair + 5,
      SyncSocketBufferSizeKBytes: 3000,
    },
    of: (place) => place === 2 ? { SyncRepairPort: fixed } : place === 3 ? { IsObserver: 1 } : {},
  });
  const path = join(bed.folder, "tier.pcapng");
  const capture = await startCapture(
    path,
    `udp portrange ${bed.port + 5}-${fixed} or udp port 35010`,
  );
  try {
    await startAll(tier, [0, 1]);
    const sender = await tier.sender(0);
    await send(sender, 3000);
    await tier.delivered("s1", 3000);
    // Both have all of it to fetch.
    await startAll(tier, [2, 3]);
    await send(sender, 1000, 3000);
    await tier.delivered("s1", 4000);
    checkSockets(fixed, bed.port + 5);
  } finally {
    await capture.stop();
  }
  const rows = readCapture(path, "rcm.type >= 32", [
    "ip.src",
    "ip.dst",
    "ip.ttl",
    "udp.srcport",
    "udp.length",
    "rcm.type",
    "rcm.source",
    "_ws.expert.message",
  ]);
  assert.ok(rows.length > 100, `${rows.length} datagrams of the tier`);
  const one = (row: typeof rows[number], field: keyof typeof row) => row[field][0]!;
  const ids = new Map<string, Set<string>>();
  for (const row of rows) {
    assert.equal(one(row, "ip.src"), "127.0.0.3");
    if (one(row, "ip.dst").startsWith("239.")) assert.equal(one(row, "ip.ttl"), "5");
    // 700 without the headers of IP and UDP, but with UDP's 8 bytes in the field.
    assert.ok(Number(one(row, "udp.length")) <= 680, one(row, "udp.length"));
    assert.doesNotMatch(one(row, "_ws.expert.message"), /check|malformed|unknown/i);
    const id = one(row, "rcm.source");
    ids.set(id, (ids.get(id) ?? new Set()).add(one(row, "udp.srcport")));
  }
  assert.ok(rows.some((row) => Number(one(row, "udp.length")) > 640), "datagrams become full");
  const types = (type: number) => rows.filter((row) => Number(one(row, "rcm.type")) === type);
  for (const type of [SQN, SQN_ACK, PULL, TIER_FILL]) {
    assert.ok(types(type).length > 0, `no frame of type ${type}`);
  }
  // s1 is context 1, the members are 2 to 5.
  assert.deepEqual([...ids.keys()].sort(), ["2", "3", "4", "5"]);
  for (const [id, ports] of ids) {
    assert.equal(ports.size, 1, `context ${id} speaks from one port`);
    const port = Number([...ports][0]);
    if (id === "4") assert.equal(port, fixed);
    else assert.ok(port >= repair && port <= repair + 5, `port ${port}`);
  }
  const ackers = new Set(types(SQN_ACK).map((row) => one(row, "rcm.source")));
  assert.ok(!ackers.has("5"), "an observer acknowledges nothing");
  assert.ok(ackers.has("4"), "a follower does");
  checkTier(tier, { s1: 4000 });
});

/** Receive buffers, as the kernel has them: twice of what was asked for. */
function checkSockets(repair: number, group: number): void {
  const most = Number(readFileSync("/proc/sys/net/core/rmem_max", "utf8"));
  const run = spawnSync("ss", ["-Huanm"], { encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
  const lines = run.stdout.split("\n").join(" ").split("UNCONN");
  const sizes = [repair, group].map((port) => {
    const found = lines.find((line) => line.includes(`:${port} `));
    assert.ok(found, `a socket on port ${port}: ${run.stdout}`);
    return Number(/rb(\d+)/.exec(found)![1]);
  });
  const asked = 2 * 3000 * 1024;
  for (const size of sizes) assert.ok(size === asked || size === 2 * most, `${size} bytes`);
}

e2e("a port that is taken is told of, and nothing starts", async (bed) => {
  const tier = makeTier(bed, {
    members: 2,
    senders: 0,
    arbitration: local(bed),
    of: (place) =>
      place === 0
        ? { SyncRepairPort: bed.port + 6 }
        : { SyncRepairPortStart: bed.port + 7, SyncRepairPortEnd: bed.port + 8 },
  });
  const sockets: Socket[] = [];
  try {
    for (const port of [6, 7, 8]) {
      const socket = createSocket("udp4");
      sockets.push(socket);
      await new Promise<void>((resolve) => socket.bind(bed.port + port, "127.0.0.1", resolve));
    }
    await failsToStart(tier, 0, new RegExp(`${bed.port + 6}`));
    await failsToStart(tier, 1, new RegExp(`${bed.port + 7}`));
  } finally {
    for (const socket of sockets) socket.close();
  }
  await startAll(tier, [0, 1]);
});

for (
  const [values, hear] of [
    [{ UseSameMachine: 0, SyncMcLoop: 0 }, false],
    [{ UseSameMachine: 0, SyncMcLoop: 1 }, true],
    [{ UseSameMachine: 1, SyncMcLoop: 0 }, true],
  ] as const
) {
  const name = `members of one machine ${hear ? "hear each other" : "are deaf"} with ` +
    `UseSameMachine ${values.UseSameMachine}, SyncMcLoop ${values.SyncMcLoop}`;
  e2e(name, async (bed) => {
    const [host] = bed.hosts(1);
    const tier = makeTier(bed, {
      members: 2,
      senders: 0,
      arbitration: local(bed),
      values: { Ip: host!.ip, StartTimeoutSecs: 3, IsRecord: 0, ...values },
      hosts: [host!, host!],
    });
    await tier.start(0);
    if (!hear) return await failsToStart(tier, 1, /ARBITRATION/);
    await tier.start(1);
    await tier.settled();
  }, { network: true });
}

const keyed = (bed: Bed, key: string): TierWish => ({
  members: 3,
  senders: 1,
  arbitration: local(bed),
  values: { GroupKey: key, StartTimeoutSecs: 3 },
  transport: { GroupKey: KEY },
});

captured(
  "with a GroupKey nothing of a tier is in the clear; another key is refused",
  async (bed) => {
    const tier = makeTier(bed, keyed(bed, KEY));
    const stranger = makeTier(bed, keyed(bed, OTHER_KEY));
    const path = join(bed.folder, "sealed.pcapng");
    const capture = await startCapture(
      path,
      `udp and (dst port ${bed.port + 5} or dst port 35010)`,
    );
    try {
      await startAll(tier, [0, 1]);
      const sender = await tier.sender(0);
      await send(sender, 2000);
      await tier.delivered("s1", 2000);
      const [first, second] = tier.members;
      const node = await bed.node("deno", stranger.config, {
        arbitration: local(bed),
        workDir: join(bed.folder, "work-stranger"),
      });
      await assert.rejects(node.receiver("m3"), /ARBITRATION/);
      await node.log({ key: UNAUTHENTICATED, content: /GroupKey/ });
      await until(
        () =>
          [first!, second!].every((m) => m.node!.logs.some(({ key }) => key === UNAUTHENTICATED)),
        () => "both members say that they don't understand the third",
      );
      await node.kill();
      const { Dropped } = await statsOf(first!.node!, "m1");
      assert.ok(Dropped["Unauthenticated"]! > 0);
      // Nobody noticed, and the right key opens.
      await tier.start(2);
      await tier.settled();
      await send(sender, 500, 2000);
      await tier.delivered("s1", 2500);
    } finally {
      await capture.stop();
    }
    const rows = readCapture(path, "rcm.type >= 32", ["rcm.flags.sealed", "rcm.seal.counter"]);
    assert.ok(rows.length > 100, `${rows.length} datagrams of the tier`);
    for (const row of rows) assert.match(row["rcm.flags.sealed"][0]!, /^(1|True)$/);
    checkTier(tier, { s1: 2500 });
  },
);

e2e("hostile datagrams at a tier's ports change nothing", async (bed) => {
  const tier = makeTier(bed, {
    members: 3,
    senders: 1,
    arbitration: local(bed),
    of: (place) => ({ SyncRepairPort: bed.port + 6 + place }),
  });
  await startAll(tier, [0, 1, 2]);
  const leader = await tier.settled();
  const sender = await tier.sender(0);
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  socket.setMulticastInterface("127.0.0.1");
  // s1 is context 1, the members are 2 to 4.
  const forged = forgedTierFrames({ cluster: 0, members: [2, 3, 4] });
  let flooding = true;
  const flood = (async () => {
    const group = `${bed.group.split(".").slice(0, 3).join(".")}.253`;
    for (let n = 0; flooding; n += 1) {
      const bytes = forged(n);
      const port = bed.port + 5 + n % 4;
      socket.send(bytes, port, n % 4 === 0 ? group : "127.0.0.1");
      if (n % 200 === 0) await sleep(5);
    }
  })();
  await send(sender, 5000);
  await tier.delivered("s1", 5000);
  flooding = false;
  await flood;
  socket.close();
  assert.equal(await tier.settled(), leader, "the same one leads");
  const dropped = await Promise.all(
    tier.members.map(async ({ node, name }) => (await statsOf(node!, name)).Dropped),
  );
  for (const counts of dropped) {
    const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
    assert.ok(all > 100, `what came was counted: ${JSON.stringify(counts)}`);
  }
  for (const { node } of tier.members) {
    assert.ok(!node!.events.some(({ type }) => ["MESSAGE_LOSS", "OUT_OF_SYNC"].includes(type)));
  }
  checkTier(tier, { s1: 5000 });
});
