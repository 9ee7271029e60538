/**
 * Two processes, in both runtimes, exchange messages through shared memory: every size arrives
 * byte-equal however it is taken, no datagram leaves, and mixed company gets everything.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import type { RcmConfigInput } from "../../mod.ts";
import { type Bed, type Delivery, e2e, type Node, type Runtime } from "./harness/driver.ts";
import { statsOf, txStats } from "./harness/stats.ts";
import {
  closeAll,
  connect,
  countOf,
  flush,
  mappedFiles,
  NOWHERE,
  sharedConfig,
  STREAM,
  TX,
} from "./fixtures/shared.ts";

const directions: readonly (readonly [Runtime, Runtime])[] = [["deno", "bun"], ["bun", "deno"]];
const MIB = 2 ** 20;

/** Around the units of memory, pages and chunks, and what was several datagrams. */
function sizes(): number[] {
  const around = (size: number) => [-9, -8, -7, -1, 0, 1, 7, 8, 9].map((d) => size + d);
  return [0, 1, 2, 3, 7, 8, 9, 63, 64, 65, ...[1432, 4096, 8192, 65_536].flatMap(around), MIB];
}

/** Sends all sizes copied and written in place, then 16 MiB. */
async function exchange(tx: Node, receivers: readonly (readonly [Node, string])[]): Promise<void> {
  await connect(tx, receivers.length);
  const bytes = sizes();
  const small = { sizes: { kind: "list", bytes }, count: 4 * bytes.length } as const;
  const runs = [
    { ...small, seed: 11 },
    { ...small, seed: 12, allocator: true },
    { seed: 13, sizes: { kind: "fixed", bytes: 16 * MIB }, count: 1 },
  ] as const;
  let sha256: string | null = null;
  for (const run of runs) {
    const result = await tx.call("send", { ...TX, ...run });
    assert.deepEqual([result.status, result.sent], [0, run.count]);
    sha256 = result.sha256;
  }
  for (const [node, context] of receivers) {
    await node.received(context, 2 * small.count + 1);
    await node.check(context, [{ ...STREAM, runs }]);
    const big = node.bigs.at(-1)!;
    assert.deepEqual([big.context, big.bytes, big.isRight], [context, 16 * MIB, true]);
    assert.equal(big.sha256, sha256);
  }
  await flush(tx);
}

interface Taking {
  readonly name: string;
  readonly delivery: Delivery;
  readonly values: Record<string, unknown>;
}
const takings: readonly Taking[] = [
  { name: "callback", delivery: "callback", values: {} },
  { name: "callback, dedicated", delivery: "callback", values: { Threading: "dedicated" } },
  { name: "poll", delivery: "poll", values: {} },
  { name: "poll, inline", delivery: "poll", values: { Threading: "inline" } },
  { name: "iterate", delivery: "iterate", values: {} },
];

for (const [from, to] of directions) {
  for (const { name, delivery, values } of takings) {
    e2e(`${from} to ${to}, ${name}: every size arrives byte-equal, in place`, async (bed) => {
      const c = sharedConfig(bed, {
        all: { MaxMemoryAllowedMBytes: 40, ReceiveMemoryMBytes: 8 },
        receivers: { rx: values },
      });
      const rx = await bed.node(to, c);
      const tx = await bed.node(from, c);
      await Promise.all([rx.receiver("rx", { delivery }), tx.sender("tx")]);
      await exchange(tx, [[rx, "rx"]]);
      const { ReceiveUsedBytes, rx: { Rms: [stream] } } = await statsOf(rx, "rx");
      assert.ok(ReceiveUsedBytes <= MIB, `${ReceiveUsedBytes} bytes hold 16 MiB`);
      assert.deepEqual([stream!.NakSent, stream!.RepairCount, stream!.GapCount], [0, 0, 0]);
      await closeAll(rx, tx);
    });
  }
}

e2e("1 GiB is read where it was written", async (bed) => {
  const c = sharedConfig(bed, {
    tx: { MaxMemoryAllowedMBytes: 1100 },
    all: { ReceiveMemoryMBytes: 8 },
    transport: { AckTimeoutMilli: 20_000, HeartbeatTimeoutMilli: 20_000 },
  });
  const rx = await bed.node("bun", c);
  const tx = await bed.node("deno", c);
  await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
  await connect(tx, 1);
  const big = { seed: 21, sizes: { kind: "fixed", bytes: 2 ** 30 }, count: 1 } as const;
  const sent = await tx.call("send", { ...TX, ...big, allocator: true });
  assert.equal(sent.status, 0);
  const small = { seed: 22, sizes: { kind: "fixed", bytes: 100 }, count: 1000 } as const;
  await tx.call("send", { ...TX, ...small });
  await rx.received("rx", 1001, 120_000);
  await rx.check("rx", [{ ...STREAM, runs: [big, small] }]);
  assert.deepEqual(rx.bigs.map(({ bytes, sha256 }) => [bytes, sha256]), [[2 ** 30, sent.sha256]]);
  await closeAll(rx, tx);
});

// Nothing leaves

/** An interface that comes up looks for IPv6 routers by itself. */
const table = `
  table inet e2e {
    counter seen { }
    chain outgoing {
      type filter hook output priority 0; policy accept;
      meta l4proto != ipv6-icmp counter name seen
    }
  }`;

function countPackets(namespace: string): void {
  const made = spawnSync("ip", ["netns", "exec", namespace, "nft", "-f", "-"], { input: table });
  assert.equal(made.status, 0, String(made.stderr));
}

function packets(namespace: string): number {
  const list = ["netns", "exec", namespace, "nft", "-j", "list", "counters"];
  const { stdout } = spawnSync("ip", list, { encoding: "utf8" });
  const { nftables } = JSON.parse(stdout) as { nftables: { counter?: { packets: number } }[] };
  return nftables.find(({ counter }) => counter !== undefined)!.counter!.packets;
}

for (const hasAddress of [false, true]) {
  const title = hasAddress ? "although there is an Addr" : "without Addr and Ip";
  e2e(`no packet leaves, ${title}`, async (bed) => {
    const [host] = bed.hosts(1);
    countPackets(host!.namespace);
    const c = sharedConfig(bed, {
      transport: hasAddress ? { Addr: bed.group, Port: bed.port } : NOWHERE,
      all: { Ip: hasAddress ? host!.ip : undefined },
    });
    const rx = await bed.node("bun", c, { host: host! });
    const tx = await bed.node("deno", c, { host: host! });
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    await connect(tx, 1);
    const run = { seed: 31, sizes: { kind: "mixed", seed: 3 }, count: 5000 } as const;
    await tx.call("send", { ...TX, ...run });
    await rx.received("rx", run.count);
    await rx.check("rx", [{ ...STREAM, runs: [run] }]);
    await flush(tx);
    await closeAll(rx, tx);
    assert.equal(packets(host!.namespace), 0);
  }, { network: true });
}

// Mixed company

e2e("one reads in place, one by network, and both get everything", async (bed) => {
  const c = sharedConfig(bed, {
    transport: { Addr: bed.group, Port: bed.port },
    all: { Ip: "127.0.0.1" },
    receivers: { near: {}, far: { ShmContext: undefined } },
  });
  const near = await bed.node("bun", c);
  const far = await bed.node("deno", c);
  const tx = await bed.node("bun", c);
  await Promise.all([near.receiver("near"), far.receiver("far"), tx.sender("tx")]);
  await connect(tx, 2);
  const run = { seed: 32, sizes: { kind: "mixed", seed: 4 }, count: 20_000 } as const;
  await tx.call("send", { ...TX, ...run });
  for (const [node, name] of [[near, "near"], [far, "far"]] as const) {
    await node.received(name, run.count);
    await node.check(name, [{ ...STREAM, runs: [run] }]);
  }
  assert.deepEqual(
    mappedFiles(near.pid, bed.prefix),
    [
      "near_counters",
      "near_receiver",
      "tx_allocator",
      "tx_t_1_sendingwindow",
      "tx_t_1_sendingwindowblock_1",
      "tx_t_1_sendingwindowblock_2",
    ],
  );
  assert.deepEqual(mappedFiles(far.pid, bed.prefix), ["far_counters"]);
  await flush(tx);
  // The one by network goes, and comes back.
  await far.kill();
  const more = { ...run, first: run.count };
  await tx.call("send", { ...TX, ...more });
  await near.received("near", 2 * run.count);
  const again = await bed.node("deno", c);
  await again.receiver("far");
  await connect(tx, 2);
  const last = { ...run, first: 2 * run.count, count: 1000 } as const;
  await tx.call("send", { ...TX, ...last });
  await near.received("near", 2 * run.count + last.count);
  await near.check("near", [{ ...STREAM, runs: [run, more, last] }]);
  await again.received("far", last.count);
  const { records } = await again.history("far");
  const fromNo = records[0]!.no;
  await again.received("far", 2 * run.count + last.count - fromNo);
  await again.check("far", [{ ...STREAM, runs: [run, more, last], fromNo }]);
  assert.equal(countOf(tx, "NO_RECEIVER"), 0, "the other one was there");
  await closeAll(near, again, tx);
});

/** Two senders of one topic; the receiver reads the first in place. */
function twoSenders(bed: Bed): RcmConfigInput {
  return bed.config({
    transport: { UseSharedMemory: 1 },
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      { Name: "ty", TxTopics: [{ Name: "t" }] },
      { Name: "rx", ShmContext: ["tx"], RxTopics: [{ Name: "t" }] },
    ],
  });
}

e2e("of two senders one is read in place: nothing comes twice", async (bed) => {
  const c = twoSenders(bed);
  const rx = await bed.node("deno", c);
  const tx = await bed.node("bun", c);
  const ty = await bed.node("deno", c);
  await Promise.all([rx.receiver("rx"), tx.sender("tx"), ty.sender("ty")]);
  await connect(tx, 1);
  const wait = { context: "ty", topic: "t", receivers: 1, timeoutMs: 30_000 };
  assert.equal(await ty.call("connected", wait), true);
  const run = { sizes: { kind: "mixed", seed: 5 }, count: 10_000 } as const;
  await Promise.all([
    tx.call("send", { ...TX, ...run, seed: 33 }),
    ty.call("send", { context: "ty", topic: "t", ...run, seed: 34 }),
  ]);
  await rx.received("rx", 2 * run.count);
  await rx.check("rx", [
    { ...STREAM, runs: [{ ...run, seed: 33 }] },
    { ...STREAM, from: "ty", runs: [{ ...run, seed: 34 }] },
  ]);
  assert.equal(countOf(rx, "NEW_TRANSMITTER"), 2);
  const [own, other] = [mappedFiles(tx.pid, bed.prefix), mappedFiles(ty.pid, bed.prefix)];
  assert.deepEqual([own.includes("rx_receiver"), other.includes("rx_receiver")], [true, false]);
  // Frames count as datagrams: a few of them went, and no messages.
  const { SendCount: frames } = await txStats(tx, "tx");
  const { SendCount: datagrams } = await txStats(ty, "ty");
  assert.ok(frames < 1000 && datagrams > 1000, `${frames} ${datagrams}`);
  assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
  await closeAll(rx, tx, ty);
});
