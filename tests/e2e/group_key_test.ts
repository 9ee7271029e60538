/** `GroupKey`: only those who have it understand each other; everybody else changes nothing. */

import assert from "node:assert/strict";
import { e2e, LIMIT_MS, type Node, sleep } from "./harness/driver.ts";
import { statsOf } from "./harness/stats.ts";

const KEY = "5a".repeat(32);
const OTHER_KEY = "a5".repeat(32);
const topic = "t";
const sizes = { kind: "mixed", seed: 4 } as const;

async function connected(node: Node, context: string, timeoutMs = LIMIT_MS): Promise<boolean> {
  return await node.call("connected", { context, topic, receivers: 1, timeoutMs });
}

for (const [from, to] of [["deno", "bun"], ["bun", "deno"]] as const) {
  e2e(`${from} to ${to}, sealed: every size arrives, strangers change nothing`, async (bed) => {
    const TxTopics = [{ Name: topic }];
    const c = bed.config({
      all: { MaxMemoryAllowedMBytes: 40 },
      contexts: [
        { Name: "tx", TxTopics, GroupKey: KEY },
        { Name: "plain", TxTopics },
        { Name: "wrong", TxTopics, GroupKey: OTHER_KEY },
        { Name: "rx", RxTopics: [{ Name: topic }], GroupKey: KEY },
        { Name: "deaf", RxTopics: [{ Name: topic }] },
      ],
    });
    const rx = await bed.node(to, c);
    const strangers = await bed.node(to, c);
    const tx = await bed.node(from, c);
    await rx.receiver("rx");
    await strangers.receiver("deaf");
    await tx.sender("tx");
    await strangers.sender("plain");
    await strangers.sender("wrong");
    assert.equal(await connected(tx, "tx"), true);
    for (const context of ["plain", "wrong"]) {
      await strangers.call("send", { context, topic, seed: 91, sizes, count: 200 });
    }
    const bytes = Array.from({ length: 1500 }, (_, i) => i).concat(2 ** 16, 2 ** 22);
    const list = { kind: "list", bytes } as const;
    const run = { seed: 92, sizes: list, count: bytes.length } as const;
    await tx.call("send", { context: "tx", topic, ...run });
    await rx.received("rx", run.count);
    await sleep(500);
    await rx.check("rx", [{ from: "tx", topic, partition: 1, runs: [run] }]);
    assert.equal(await tx.call("flush", { context: "tx", topic, timeoutMs: LIMIT_MS }), true);
    const { Dropped } = await statsOf(rx, "rx");
    assert.ok(Dropped["Unauthenticated"]! > 0, "what the strangers sent was counted");
    assert.equal(await connected(strangers, "wrong", 0), false);
    // The one without a key hears the plain sender, and nobody else.
    const plain = { seed: 91, sizes, count: 200 };
    await strangers.received("deaf", 200);
    await strangers.check("deaf", [{ from: "plain", topic, partition: 1, runs: [plain] }]);
    await Promise.all([rx, tx, strangers].map((node) => node.close()));
  });
}

e2e("sealed, with 5 % loss, sender restarted: nothing is lost or doubled", async (bed) => {
  const c = bed.config({
    transport: { GroupKey: KEY },
    contexts: [
      { Name: "tx", TxTopics: [{ Name: topic }] },
      { Name: "rx", RxTopics: [{ Name: topic }] },
    ],
  });
  const env = { RCM_INJECT: "drop=0.05,duplicate=0.02,delay=0.02,seed=9" };
  const rx = await bed.node("bun", c, { env });
  await rx.receiver("rx");
  const run = { seed: 93, sizes } as const;
  const total = 6000;
  for (const [i, runtime] of (["deno", "bun"] as const).entries()) {
    const tx = await bed.node(runtime, c, { env });
    await tx.sender("tx");
    assert.equal(await connected(tx, "tx"), true);
    const half = { ...run, first: i * total / 2, count: total / 2 };
    await tx.call("send", { context: "tx", topic, ...half });
    await rx.received("rx", (i + 1) * total / 2);
    await tx.close();
  }
  await rx.check("rx", [{ from: "tx", topic, partition: 1, runs: [{ ...run, count: total }] }]);
  await rx.close();
});
