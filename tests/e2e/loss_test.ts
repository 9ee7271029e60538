/**
 * Real loss on all hosts: one sender, three receivers, mixed runtimes. Nothing is lost, doubled or
 * swapped, and what repair costs is in proportion to the losses.
 */

import assert from "node:assert/strict";
import { type Bed, e2e, isLong, LIMIT_MS, type Node } from "./harness/driver.ts";
import type { Host, Losses } from "./harness/hosts.ts";
import { statsOf, txStats } from "./harness/stats.ts";

const T = { topic: "t" };
const SHARE = 0.05;
/** NAKs, and repairs, for each lost datagram of data. */
const COST_MAX = 3;
const COUNT = isLong ? 2_000_000 : 100_000;
/** A slow machine with real loss. */
const ALL_MS = isLong ? 3_600_000 : 180_000;

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

async function underLoss(bed: Bed, addr: (hosts: readonly Host[]) => string): Promise<void> {
  const hosts = bed.hosts(4);
  const [senderHost, ...receiverHosts] = hosts;
  const names = receiverHosts.map((_, i) => `rx${i + 1}`);
  const config = bed.config({
    transport: { Addr: addr(receiverHosts) },
    contexts: [
      { Name: "tx", Ip: senderHost!.ip, TxTopics: [{ Name: "t" }] },
      ...receiverHosts.map(({ ip }, i) => ({ Name: names[i]!, Ip: ip, RxTopics: [{ Name: "t" }] })),
    ],
  });
  const tx = await bed.node("deno", config, { host: senderHost! });
  const runtimes = ["deno", "bun", "bun"] as const;
  const receivers: Node[] = [];
  for (const [i, host] of receiverHosts.entries()) {
    receivers.push(await bed.node(runtimes[i]!, config, { host }));
  }
  for (const host of hosts) host.lose(SHARE, bed.port);
  await Promise.all(receivers.map((node, i) => node.receiver(names[i]!)));
  await tx.sender("tx");
  const wait = { context: "tx", ...T };
  assert.equal(await tx.call("connected", { ...wait, receivers: 3, timeoutMs: LIMIT_MS }), true);

  const run = { seed: 31, sizes: { kind: "mixed", seed: 32 }, count: COUNT } as const;
  const sent = await tx.call("send", { ...wait, ...run });
  assert.equal(sent.status, 0);
  assert.equal(sent.sent, COUNT);
  const expected = [{ from: "tx", ...T, partition: 1, runs: [run] }];
  for (const [i, node] of receivers.entries()) {
    await node.received(names[i]!, COUNT, ALL_MS);
    await node.check(names[i]!, expected);
  }
  assert.equal(await tx.call("flush", { ...wait, timeoutMs: LIMIT_MS }), true);

  const losses = receiverHosts.map((host) => host.losses());
  await assertCost(tx, receivers, names, losses);
  const told = [tx, ...receivers].flatMap((node) => node.events.map((event) => event.type));
  assert.ok(!told.includes("MESSAGE_LOSS"), "nothing was given up");
  assert.ok(!told.includes("HEARTBEAT_TIMEOUT") && !told.includes("NO_RECEIVER"));
  assert.ok(told.includes("FILL_GAP"), "gaps were told of");
  await Promise.all([tx, ...receivers].map((node) => node.close()));
}

/** NAKs and repairs against the losses that nftables has counted. */
async function assertCost(
  tx: Node,
  receivers: readonly Node[],
  names: readonly string[],
  losses: readonly Losses[],
): Promise<void> {
  const dropped = sum(losses.map(({ data }) => data));
  const seen = sum(losses.map(({ dataSeen }) => dataSeen));
  const share = dropped / seen;
  assert.ok(share > 0.035 && share < 0.065, `${dropped} of ${seen} datagrams were dropped`);
  const streams = await Promise.all(
    receivers.map(async (node, i) => (await statsOf(node, names[i]!)).rx.Rms[0]!),
  );
  const kernelDrops = sum(
    await Promise.all(
      receivers.map(async (node, i) => (await statsOf(node, names[i]!)).KernelDrops),
    ),
  );
  const naks = sum(streams.map((stream) => stream.NakSent));
  const { RepairCount, NakCount, SendCount } = await txStats(tx, "tx");
  const lost = dropped + kernelDrops;
  const figures = `${SendCount} datagrams sent, ${dropped} dropped by nftables, ` +
    `${kernelDrops} by the kernel; ${naks} NAKs, ${NakCount} of which came; ${RepairCount} repairs`;
  console.log(`  ${figures}`);
  assert.ok(naks > 0 && RepairCount > 0, figures);
  assert.ok(naks <= COST_MAX * lost, figures);
  assert.ok(RepairCount <= COST_MAX * lost, figures);
  assert.ok(NakCount <= naks, figures);
  for (const stream of streams) assert.equal(stream.LostCount, 0);
}

e2e(
  `multicast: ${COUNT} messages to three receivers with 5 % loss on every host`,
  async (bed) => await underLoss(bed, () => bed.group),
  { network: true },
);

e2e(
  `a list of addresses: ${COUNT} messages to three receivers with 5 % loss on every host`,
  async (bed) => await underLoss(bed, (hosts) => hosts.map(({ ip }) => ip).join(",")),
  { network: true },
);
