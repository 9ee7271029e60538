/**
 * Senders and receivers that are run twice, with their files kept or wiped in between, with and
 * without `IsHandshake`: where numbers go on (rules 6 and 7).
 */

import assert from "node:assert/strict";
import type { RcmConfigInput } from "../../mod.ts";
import { type Bed, e2e, LIMIT_MS, type Node, runtimes, sleep, until } from "./harness/driver.ts";
import { txStats } from "./harness/stats.ts";

const TX = { context: "tx", topic: "t" } as const;
const STREAM = { from: "tx", topic: "t", partition: 1 } as const;
const sizes = { kind: "mixed", seed: 3 } as const;
const ACK_TIMEOUT_MS = 2000;

function config(bed: Bed, IsHandshake: number, receivers = ["rx"]): RcmConfigInput {
  return bed.config({
    all: { IsHandshake, StartTimeoutSecs: 3 },
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      ...receivers.map((Name) => ({ Name, RxTopics: [{ Name: "t" }] })),
    ],
  });
}

async function connect(tx: Node, receivers = 1): Promise<void> {
  const wait = { ...TX, receivers, timeoutMs: LIMIT_MS };
  assert.equal(await tx.call("connected", wait), true, "the receivers connect");
}

for (const IsHandshake of [0, 1]) {
  e2e(`a sender run twice goes on with its numbers, IsHandshake ${IsHandshake}`, async (bed) => {
    const c = config(bed, IsHandshake);
    const rx = await bed.node("bun", c);
    await rx.receiver("rx");
    const run = { seed: 61, sizes } as const;
    let sent = 0;
    for (const runtime of ["deno", "bun", "deno"] as const) {
      const tx = await bed.node(runtime, c);
      await tx.sender("tx");
      assert.equal((await txStats(tx, "tx")).CurrentMsgNo, sent);
      await connect(tx);
      await tx.call("send", { ...TX, ...run, first: sent, count: 500 });
      sent += 500;
      await tx.close();
    }
    await rx.received("rx", sent);
    await rx.check("rx", [{ ...STREAM, runs: [{ ...run, count: sent }] }]);
    assert.ok(!rx.events.some(({ type }) => type === "MESSAGE_LOSS"));
    await rx.close();
  });
}

e2e("a sender wiped in between asks for its first number with IsHandshake 1", async (bed) => {
  const c = config(bed, 1);
  const rx = await bed.node("bun", c);
  await rx.receiver("rx");
  const first = await bed.node("deno", c);
  await first.sender("tx");
  await connect(first);
  await first.call("send", { ...TX, seed: 62, sizes, count: 500 });
  await rx.received("rx", 500);
  await first.close();
  assert.ok(bed.files().some((name) => name.startsWith("tx_")), "its files are kept");
  bed.wipe("tx");

  const second = await bed.node("deno", c);
  await second.call("context", { context: "tx" });
  await second.call("transmitter", TX);
  const took = await second.call("start", { context: "tx" });
  assert.ok(took < 2500, `start waited ${took} ms, though the receiver answers`);
  assert.equal((await txStats(second, "tx")).CurrentMsgNo, 500);
  await connect(second);
  await second.call("send", { ...TX, seed: 63, sizes, count: 300 });
  await rx.received("rx", 800);
  const runs = [{ seed: 62, sizes, count: 500 }, { seed: 63, sizes, count: 300 }];
  await rx.check("rx", [{ ...STREAM, runs }]);
  const keys = [...second.logs, ...rx.logs].map(({ key }) => key);
  assert.ok(!keys.includes(20062) && !keys.includes(21061) && !keys.includes(20063));
  assert.ok(!rx.events.some(({ type }) => type === "MESSAGE_LOSS"));
  await Promise.all([second, rx].map((node) => node.close()));
});

e2e("IsHandshake 1: the highest number counts, and a silent receiver is named", async (bed) => {
  const c = config(bed, 1, ["rx", "fresh", "silent"]);
  const rx = await bed.node("bun", c);
  await rx.receiver("rx");
  const first = await bed.node("deno", c);
  await first.call("context", { context: "tx" });
  await first.call("transmitter", TX);
  const alone = await first.call("start", { context: "tx" });
  assert.ok(alone > 2900 && alone < 6000, `start waits StartTimeoutSecs, it took ${alone} ms`);
  await first.log({ key: 20063, content: /silent/ });
  await connect(first);
  await first.call("send", { ...TX, seed: 64, sizes, count: 400 });
  await rx.received("rx", 400);
  await first.close();
  bed.wipe("tx");

  const fresh = await bed.node("deno", c);
  await fresh.receiver("fresh");
  const second = await bed.node("bun", c);
  await second.sender("tx");
  assert.equal((await txStats(second, "tx")).CurrentMsgNo, 400);
  const line = await second.log({ key: 20063 });
  assert.match(line.content, /silent/);
  assert.equal(second.logs.filter(({ key }) => key === 20063).length, 1, "only the silent one");
  await connect(second, 2);
  await second.call("send", { ...TX, seed: 65, sizes, count: 100 });
  await rx.received("rx", 500);
  await fresh.received("fresh", 100);
  const last = { seed: 65, sizes, count: 100 };
  await rx.check("rx", [{ ...STREAM, runs: [{ seed: 64, sizes, count: 400 }, last] }]);
  await fresh.check("fresh", [{ ...STREAM, base: 400, runs: [last] }]);
  await Promise.all([second, rx, fresh].map((node) => node.close()));
});

e2e("a sender wiped in between begins at 0 with IsHandshake 0: known numbers drop", async (bed) => {
  const c = config(bed, 0);
  const rx = await bed.node("deno", c);
  await rx.receiver("rx");
  const first = await bed.node("bun", c);
  await first.sender("tx");
  await connect(first);
  await first.call("send", { ...TX, seed: 66, sizes, count: 500 });
  await rx.received("rx", 500);
  await first.close();
  bed.wipe("tx");

  const second = await bed.node("bun", c);
  await second.sender("tx");
  assert.equal((await txStats(second, "tx")).CurrentMsgNo, 0);
  await connect(second);
  await second.call("send", { ...TX, seed: 67, sizes, count: 300 });
  assert.equal(await second.call("flush", { ...TX, timeoutMs: LIMIT_MS }), true);
  assert.equal((await rx.call("counts", { context: "rx" })).messages, 500, "all 300 are dropped");
  await second.call("send", { ...TX, seed: 67, sizes, first: 300, count: 500 });
  await rx.received("rx", 800);
  const runs = [
    { seed: 66, sizes, count: 500 },
    { seed: 67, sizes, first: 500, count: 300 },
  ];
  await rx.check("rx", [{ ...STREAM, runs }]);
  const told = await second.log({ key: 20062 });
  assert.match(told.content, /\brx\b.*\b(499|500)\b/);
  assert.equal(told.level, 4, "IMP");
  const heard = await rx.log({ key: 21061 });
  assert.match(heard.content, /\b0\b.*\b499\b/);
  assert.equal(heard.level, 4, "IMP");
  await sleep(500);
  assert.equal(second.logs.filter(({ key }) => key === 20062).length, 1, "once a session");
  assert.equal(rx.logs.filter(({ key }) => key === 21061).length, 1, "once a session");
  assert.ok(!rx.events.some(({ type }) => type === "MESSAGE_LOSS"));
  await Promise.all([second, rx].map((node) => node.close()));
});

for (const runtime of runtimes) {
  e2e(
    `a receiver run twice at once gets all from the connection's first: ${runtime}`,
    async (bed) => {
      const c = bed.config({
        transport: { AckTimeoutMilli: 20_000 },
        contexts: [
          { Name: "tx", TxTopics: [{ Name: "t" }] },
          { Name: "rx", RxTopics: [{ Name: "t" }] },
        ],
      });
      const tx = await bed.node("bun", c);
      await tx.sender("tx");
      const run = { seed: 68, sizes } as const;
      await tx.call("send", { ...TX, ...run, count: 300 });
      for (const count of [300, 400]) {
        const rx = await bed.node(runtime, c);
        await rx.receiver("rx");
        await connect(tx);
        if (count > 300) await tx.call("send", { ...TX, ...run, first: 300, count: 100 });
        await rx.received("rx", count);
        // Within the first AckTimeoutMilli: the second, too, gets all that is kept.
        await rx.check("rx", [{ ...STREAM, runs: [{ ...run, count }] }]);
        await rx.close();
        await tx.event({ type: "NO_RECEIVER", peer: "rx" });
      }
      await tx.close();
    },
  );

  e2e(`a receiver run twice later begins at acked: ${runtime}`, async (bed) => {
    const c = config(bed, 0);
    const tx = await bed.node("deno", c);
    await tx.sender("tx");
    const run = { seed: 69, sizes } as const;
    const first = await bed.node(runtime, c);
    await first.receiver("rx");
    await connect(tx);
    await tx.call("send", { ...TX, ...run, count: 300 });
    await first.received("rx", 300);
    await first.close();
    await sleep(ACK_TIMEOUT_MS + 200);
    await tx.call("send", { ...TX, ...run, first: 300, count: 50 });
    const second = await bed.node(runtime, c);
    await second.receiver("rx");
    await connect(tx);
    await tx.call("send", { ...TX, ...run, first: 350, count: 100 });
    await second.received("rx", 150);
    await second.check("rx", [{ ...STREAM, runs: [{ ...run, count: 450 }], fromNo: 300 }]);
    await until(
      async () => (await txStats(tx, "tx")).FirstMsgNo === 450,
      () => "all is acknowledged",
    );
    await Promise.all([tx, second].map((node) => node.close()));
  });
}
