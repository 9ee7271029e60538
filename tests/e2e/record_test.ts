/**
 * The record: a receiver that is stopped or killed delivers the same again after its restart, in
 * the same order, and goes on without a gap; a full disk stops the recording and nothing else.
 */

import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { RcmConfigInput } from "../../mod.ts";
import { type Bed, e2e, isLong, LIMIT_MS, type Node, runtimes, sleep } from "./harness/driver.ts";
import type { Host } from "./harness/hosts.ts";
import type { Delivered } from "./harness/history.ts";

const SENDERS = [
  { context: "tx1", topic: "a" },
  { context: "tx2", topic: "a" },
  { context: "tx3", topic: "b" },
] as const;
const sizes = { kind: "mixed", seed: 5 } as const;

function config(
  bed: Bed,
  record: Record<string, unknown> = {},
  hosts: readonly Host[] = [],
): RcmConfigInput {
  const RecordDir = join(bed.folder, "record");
  const at = (no: number) => hosts.length === 0 ? {} : { Ip: hosts[no]!.ip };
  return bed.config({
    transports: [{ Topic: "a" }, { Topic: "b" }],
    contexts: [
      ...SENDERS.map(({ context, topic }) => ({
        Name: context,
        ...at(0),
        TxTopics: [{ Name: topic }],
      })),
      {
        Name: "rx",
        ...at(1),
        IsRecord: 1,
        RecordDir,
        RecordSegmentMBytes: 8,
        RxTopics: [{ Name: "a" }, { Name: "b" }],
        ...record,
      },
    ],
  });
}

async function startSenders(bed: Bed, c: RcmConfigInput, host?: Host): Promise<Node> {
  const node = await bed.node("deno", c, host === undefined ? {} : { host });
  for (const { context, topic } of SENDERS) await node.sender(context, { topics: [topic] });
  return node;
}

/** All of it but the times at which it was delivered. */
function contentOf(records: readonly Delivered[], streams: readonly { from: string }[]): string[] {
  return records.map((r) =>
    [r.sqn, streams[r.stream]?.from, r.no, r.seed, r.index, r.length, r.msgArg, r.txArg, r.isRight]
      .join(" ")
  );
}

async function content(rx: Node): Promise<string[]> {
  const { records, streams } = await rx.history("rx");
  return contentOf(records, streams);
}

function assertBegins(longer: readonly string[], shorter: readonly string[], what: string): void {
  const differs = shorter.findIndex((line, at) => longer[at] !== line);
  if (differs < 0) return;
  assert.fail(`${what}: at ${differs}: ${longer[differs]}, it was ${shorter[differs]}`);
}

const KILLS = isLong ? 100 : 20;
/** Of all datagrams on their way to either host. */
const LOSS = 0.03;

/** The order is one sequence: the first sqn is 0, and none is left out. */
function assertContiguous(lines: readonly string[]): void {
  lines.forEach((line, at) => assert.ok(line.startsWith(`${at} `), `place ${at}: ${line}`));
}

e2e(`three senders, two topics, loss: ${KILLS} kills, one history`, async (bed) => {
  const hosts = bed.hosts(2);
  const [txHost, rxHost] = hosts;
  const c = config(bed, {}, hosts);
  const senders = await startSenders(bed, c, txHost!);
  for (const host of hosts) host.lose(LOSS, bed.port);
  const sending = SENDERS.map(({ context, topic }, at) =>
    senders.call("send", { context, topic, seed: 70 + at, sizes, count: 1e9, perSecond: 3000 })
  );
  let before: string[] = [];
  for (let life = 0; life < KILLS; life += 1) {
    const rx = await bed.node(runtimes[life % 2]!, c, { host: rxHost! });
    await rx.receiver("rx");
    await rx.received("rx", before.length + 200);
    const now = await content(rx);
    assertBegins(now, before, `life ${life}`);
    before = now;
    // Anywhere in what comes then; in between it is stopped in order.
    await sleep(life * 7 % 40);
    if (life % 4 === 2) await rx.close();
    else await rx.kill();
  }
  for (const { context, topic } of SENDERS) await senders.call("halt", { context, topic });
  const rx = await bed.node("bun", c, { host: rxHost! });
  await rx.receiver("rx");
  // One that waits for room goes on only now.
  const sent = await Promise.all(sending);
  const total = sent.reduce((sum, run) => sum + run.sent, 0);
  await rx.received("rx", total);
  const all = await content(rx);
  assertBegins(all, before, "the last life");
  assert.equal(all.length, total);
  assertContiguous(all);
  assert.ok(rxHost!.losses().data > 0, "datagrams were lost");
  const expected = SENDERS.map(({ context, topic }, at) => ({
    from: context,
    topic,
    partition: 1,
    runs: [{ seed: 70 + at, sizes, count: sent[at]!.sent }],
  }));
  await rx.check("rx", expected);
  assert.ok(!rx.events.some(({ type }) => type === "MESSAGE_LOSS"));
  const folder = join(bed.folder, "record", "rx");
  assert.ok(readdirSync(folder).length > KILLS, "each start begins a file");

  // Stopped in order, and from a later place on.
  await rx.close();
  const later = config(bed, { RecordReplayStartPoint: total - 100 }, hosts);
  const late = await bed.node("deno", later, { host: rxHost! });
  await late.receiver("rx");
  await late.received("rx", 100);
  assert.deepEqual(await content(late), all.slice(-100));
  await late.close();
  await senders.close();
}, { network: true });

e2e("a full disk stops the recording, not delivery; the next start goes on there", async (bed) => {
  const folder = join(bed.folder, "record");
  mkdirSync(folder);
  const c = config(bed);
  const senders = await startSenders(bed, c);
  const run = {
    context: "tx3",
    topic: "b",
    seed: 80,
    sizes: { kind: "fixed", bytes: 1000 },
  } as const;
  const rx = await bed.node("bun", c, { disk: { folder, mBytes: 20 } });
  await rx.receiver("rx");
  await senders.call("connected", {
    context: "tx3",
    topic: "b",
    receivers: 1,
    timeoutMs: LIMIT_MS,
  });
  // 40 MB do not fit.
  const count = 40_000;
  await senders.call("send", { ...run, count });
  await rx.received("rx", count);
  const line = await rx.log({ key: 21072 });
  assert.equal(line.level, 5, "FATAL");
  const stopped = Number(/sqn (\d+)/.exec(line.content)?.[1]);
  assert.ok(stopped > 5000 && stopped < 21_000, line.content);
  assert.match(line.content, /ENOSPC/);
  const statistics = JSON.stringify(await rx.statistics("rx"));
  assert.ok(statistics.includes(`"NextMsgSqnRecord":${stopped}`), statistics);
  const first = await content(rx);
  assert.equal(first.length, count);
  // What was delivered beyond that is in no record.
  await rx.call("stop", { context: "rx" });
  await rx.receiver("rx");
  await rx.received("rx", stopped);
  const again = await content(rx);
  assert.deepEqual(again.slice(0, stopped), first.slice(0, stopped));
  await rx.close();
  await senders.close();
}, { network: true });

e2e(
  "what comes through shared memory is recorded too, and the sender's memory is free",
  async (bed) => {
    const c = bed.config({
      transports: [{ Topic: "a", UseSharedMemory: 1 }],
      contexts: [
        { Name: "tx1", TxTopics: [{ Name: "a" }] },
        {
          Name: "rx",
          IsRecord: 1,
          RecordDir: join(bed.folder, "record"),
          RecordSegmentMBytes: 8,
          ShmContext: ["tx1"],
          RxTopics: [{ Name: "a" }],
        },
      ],
    });
    const tx = await bed.node("bun", c);
    await tx.sender("tx1", { topics: ["a"] });
    const run = { context: "tx1", topic: "a", seed: 90, sizes } as const;
    let before: string[] = [];
    for (let life = 0; life < 4; life += 1) {
      const rx = await bed.node(runtimes[life % 2]!, c);
      await rx.receiver("rx");
      await rx.received("rx", before.length);
      const wait = { context: "tx1", topic: "a", receivers: 1, timeoutMs: LIMIT_MS };
      assert.equal(await tx.call("connected", wait), true);
      await tx.call("send", { ...run, first: life * 500, count: 500 });
      await rx.received("rx", (life + 1) * 500);
      const now = await content(rx);
      assertBegins(now, before, `life ${life}`);
      before = now;
      await rx.check("rx", [{
        from: "tx1",
        topic: "a",
        partition: 1,
        runs: [{ seed: 90, sizes, count: (life + 1) * 500 }],
      }]);
      assert.equal(
        await tx.call("flush", { context: "tx1", topic: "a", timeoutMs: LIMIT_MS }),
        true,
      );
      await rx.kill();
    }
    await tx.close();
  },
);
