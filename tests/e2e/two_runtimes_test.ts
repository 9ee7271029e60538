/**
 * Two runtimes talk to each other, in both directions, over each kind of address: every size that
 * could be cut wrongly arrives byte-equal, up to 1 GiB.
 */

import assert from "node:assert/strict";
import type { RcmConfigInput } from "../../mod.ts";
import { type Bed, e2e, isLong, type Node, type Runtime, until } from "./harness/driver.ts";
import { longestGapMs } from "./harness/history.ts";
import { txStats } from "./harness/stats.ts";

const T = { topic: "t" };
const directions: readonly (readonly [Runtime, Runtime])[] = [["deno", "bun"], ["bun", "deno"]];
const MIB = 2 ** 20;

/** Around one datagram, two fragments and three. */
function criticalSizes(regularLength: number, maxUdpSize: number): number[] {
  const sizes = [0, 1];
  for (let parts = 1; parts <= 3; parts += 1) {
    for (let size = parts * regularLength - 8; size <= parts * maxUdpSize + 8; size += 1) {
      sizes.push(size);
    }
  }
  return [...sizes, 65_536];
}

async function connect(tx: Node, receivers: number): Promise<void> {
  const wait = { context: "tx", ...T, receivers, timeoutMs: 30_000 };
  assert.equal(await tx.call("connected", wait), true, "the receivers connect");
}

/** Sends all critical sizes twice (copied, and written in place), then 16 MiB. */
async function exchange(tx: Node, receivers: readonly (readonly [Node, string])[]): Promise<void> {
  await connect(tx, receivers.length);
  const { RegularLength, MaxUdpSize } = await txStats(tx, "tx");
  assert.ok(RegularLength > 1400 && MaxUdpSize === 1472, `${RegularLength} ${MaxUdpSize}`);
  const bytes = criticalSizes(RegularLength, MaxUdpSize);
  const small = { sizes: { kind: "list", bytes }, count: bytes.length } as const;
  const runs = [
    { ...small, seed: 11 },
    { ...small, seed: 12, allocator: true },
    { seed: 13, sizes: { kind: "fixed", bytes: 16 * MIB }, count: 1 },
  ] as const;
  let sha256: string | null = null;
  for (const run of runs) {
    const result = await tx.call("send", { context: "tx", ...T, ...run });
    assert.equal(result.status, 0);
    assert.equal(result.sent, run.count);
    sha256 = result.sha256;
  }
  const total = 2 * bytes.length + 1;
  for (const [node, context] of receivers) {
    await node.received(context, total);
    await node.check(context, [{ from: "tx", ...T, partition: 1, runs }]);
    assert.deepEqual(
      node.bigs.map((big) => [big.context, big.bytes, big.isRight, big.sha256]),
      [[context, 16 * MIB, true, sha256]],
    );
  }
  assert.equal(await tx.call("flush", { context: "tx", ...T, timeoutMs: 30_000 }), true);
}

function config(bed: Bed, addr: string, receivers: Record<string, string>): RcmConfigInput {
  return bed.config({
    transport: { Addr: addr },
    all: { MaxMemoryAllowedMBytes: 40 },
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      ...Object.entries(receivers).map(([Name, Ip]) => ({ Name, Ip, RxTopics: [{ Name: "t" }] })),
    ],
  });
}

for (const [from, to] of directions) {
  e2e(`${from} to ${to} by multicast: every critical size arrives byte-equal`, async (bed) => {
    const c = config(bed, bed.group, { rx: "127.0.0.1" });
    const rx = await bed.node(to, c);
    const tx = await bed.node(from, c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    await exchange(tx, [[rx, "rx"]]);
    await Promise.all([rx.close(), tx.close()]);
  });

  e2e(`${from} to ${to} to one address: every critical size arrives byte-equal`, async (bed) => {
    const c = config(bed, "127.0.0.1", { rx: "127.0.0.1" });
    const rx = await bed.node(to, c);
    const tx = await bed.node(from, c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    await exchange(tx, [[rx, "rx"]]);
    await Promise.all([rx.close(), tx.close()]);
  });

  e2e(`${from} to a list of two addresses: both runtimes get every critical size`, async (bed) => {
    const c = config(bed, "127.0.0.2,127.0.0.3", { rx1: "127.0.0.2", rx2: "127.0.0.3" });
    const rx1 = await bed.node(to, c);
    const rx2 = await bed.node(from, c);
    const tx = await bed.node(from, c);
    await Promise.all([rx1.receiver("rx1"), rx2.receiver("rx2"), tx.sender("tx")]);
    await exchange(tx, [[rx1, "rx1"], [rx2, "rx2"]]);
    await Promise.all([rx1.close(), rx2.close(), tx.close()]);
  });
}

/**
 * 1 GiB, while two streams of small messages flow to the same receiver: one of the same sending
 * context, one of another process.
 */
async function gibibyte(bed: Bed, from: Runtime, to: Runtime, addr: string): Promise<void> {
  const c = bed.config({
    transports: [{ Topic: "t" }, { Topic: "same" }, { Topic: "other" }],
    transport: { Addr: addr, AckTimeoutMilli: 10_000, HeartbeatTimeoutMilli: 10_000 },
    contexts: [
      {
        Name: "tx",
        TxTopics: [{ Name: "t" }, { Name: "same" }],
        MaxMemoryAllowedMBytes: 1100,
      },
      { Name: "small", TxTopics: [{ Name: "other" }] },
      {
        Name: "rx",
        RxTopics: [{ Name: "t" }, { Name: "same" }, { Name: "other" }],
        ReceiveMemoryMBytes: 1200,
      },
    ],
  });
  const rx = await bed.node(to, c);
  const tx = await bed.node(from, c);
  const other = await bed.node(to, c);
  await Promise.all([
    rx.receiver("rx"),
    tx.sender("tx", { topics: ["t", "same"] }),
    other.sender("small", { topics: ["other"] }),
  ]);
  await connect(tx, 1);
  const big = { seed: 21, sizes: { kind: "fixed", bytes: 2 ** 30 }, count: 1 } as const;
  const sent = await tx.call("send", { context: "tx", ...T, ...big, allocator: true });
  assert.equal(sent.status, 0);
  const begin = Date.now();
  let index = 0;
  // Small ones until the big one is there.
  while (rx.bigs.length === 0) {
    const small = { sizes: { kind: "fixed", bytes: 100 }, count: 50, first: index } as const;
    const rate = { perSecond: 1000 };
    await Promise.all([
      tx.call("send", { context: "tx", topic: "same", seed: 22, ...small, ...rate }),
      other.call("send", { context: "small", topic: "other", seed: 23, ...small, ...rate }),
    ]);
    index += small.count;
    assert.ok(Date.now() - begin < 240_000, "1 GiB takes longer than 4 minutes");
  }
  const [got] = rx.bigs;
  assert.equal(got!.bytes, 2 ** 30);
  assert.equal(got!.isRight, true);
  assert.equal(got!.sha256, sent.sha256);
  await rx.received("rx", 1 + 2 * index);
  const small = { sizes: { kind: "fixed", bytes: 100 }, count: index } as const;
  const expected = [
    { from: "tx", topic: "t", partition: 1, runs: [big] },
    { from: "tx", topic: "same", partition: 1, runs: [{ seed: 22, ...small }] },
    { from: "small", topic: "other", partition: 1, runs: [{ seed: 23, ...small }] },
  ];
  await rx.check("rx", expected);
  await assertFlow(rx, begin, got!.ms);
  await until(
    async () => (await txStats(tx, "tx", "t")).FirstMsgNo === 1,
    () => "1 GiB is acknowledged",
  );
  await Promise.all([rx.close(), tx.close(), other.close()]);
}

/** Small messages of both streams came all the time between two moments (Unix milliseconds). */
async function assertFlow(rx: Node, fromMs: number, toMs: number): Promise<void> {
  const { records, streams } = await rx.history("rx");
  for (const [stream, { topic }] of streams.entries()) {
    if (topic === "t") continue;
    const times = records.filter((r) => r.stream === stream).map((r) => r.ms);
    // A slow machine may need half a second for something else; a stream that waits takes all.
    const longest = longestGapMs(times, fromMs, toMs);
    const most = Math.max(500, (toMs - fromMs) / 4);
    assert.ok(
      longest < most,
      `${topic}: nothing for ${longest} ms of the ${toMs - fromMs} that 1 GiB took`,
    );
    const meanwhile = times.filter((ms) => ms > fromMs && ms < toMs).length;
    assert.ok(meanwhile > 50, `${topic}: ${meanwhile} small messages meanwhile`);
  }
}

for (const [from, to] of directions) {
  e2e(
    `${from} to ${to}: 1 GiB arrives byte-equal while small messages flow`,
    async (bed) => await gibibyte(bed, from, to, bed.group),
  );
  if (isLong) {
    e2e(
      `${from} to ${to}, one address: 1 GiB arrives byte-equal while small messages flow`,
      async (bed) => await gibibyte(bed, from, to, "127.0.0.1"),
    );
  }
}
