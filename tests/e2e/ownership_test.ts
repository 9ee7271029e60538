/** What one process has, another can't take: contexts, fixed ports, unicast addresses. */

import assert from "node:assert/strict";
import dgram from "node:dgram";
import { type Bed, e2e, LIMIT_MS, type Node, refused, runtimes } from "./harness/driver.ts";

const TX = { context: "tx", topic: "t" } as const;
const STREAM = { from: "tx", topic: "t", partition: 1 } as const;

function contexts(more: Record<string, unknown> = {}) {
  return [
    { Name: "tx", TxTopics: [{ Name: "t" }], ...more },
    { Name: "tx2", TxTopics: [{ Name: "t" }], ...more },
    { Name: "rx", RxTopics: [{ Name: "t" }] },
    { Name: "rx2", RxTopics: [{ Name: "t" }] },
  ];
}

/** A sender that is made, but not started. */
async function prepare(node: Node, context = "tx"): Promise<void> {
  await node.call("context", { context });
  await node.call("transmitter", { context, topic: "t" });
}

for (const runtime of runtimes) {
  e2e(
    `a second ${runtime} process on a live context gets SHM with the owner's pid`,
    async (bed) => {
      const c = bed.config({ contexts: contexts() });
      const owner = await bed.node(runtime === "deno" ? "bun" : "deno", c);
      const rx = await bed.node("deno", c);
      await rx.receiver("rx");
      await owner.sender("tx");
      await owner.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS });
      const run = { seed: 81, sizes: { kind: "mixed", seed: 1 } } as const;
      await owner.call("send", { ...TX, ...run, count: 100 });

      const other = await bed.node(runtime, c);
      await prepare(other);
      const error = await refused(other.call("start", { context: "tx" }), "SHM");
      assert.match(error.message, new RegExp(`\\b${owner.pid}\\b`));
      // The owner has not felt it.
      await owner.call("send", { ...TX, ...run, first: 100, count: 100 });
      await owner.kill();
      // A failed start has released everything and may be called again.
      await other.call("start", { context: "tx" });
      await other.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS });
      await other.call("send", { ...TX, ...run, first: 200, count: 100 });
      await rx.received("rx", 300);
      await rx.check("rx", [{ ...STREAM, runs: [{ ...run, count: 300 }] }]);
      await Promise.all([other, rx].map((node) => node.close()));
    },
  );
}

async function takenPort(bed: Bed): Promise<{ port: number; free(): Promise<void> }> {
  const socket = dgram.createSocket("udp4");
  const port = bed.port + 5;
  await new Promise<void>((resolve) => socket.bind(port, "127.0.0.1", resolve));
  return { port, free: () => new Promise((resolve) => socket.close(() => resolve())) };
}

e2e("a RepairPort that is taken fails createTransmitter with SOCKET", async (bed) => {
  const taken = await takenPort(bed);
  const c = bed.config({ contexts: contexts({ RepairPort: taken.port }) });
  try {
    for (const runtime of runtimes) {
      const node = await bed.node(runtime, c);
      await node.call("context", { context: "tx" });
      const error = await refused(node.call("transmitter", TX), "SOCKET");
      assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${taken.port}`));
      await node.close();
    }
  } finally {
    await taken.free();
  }
  const first = await bed.node("deno", c);
  await first.sender("tx");
  const second = await bed.node("bun", c);
  await second.call("context", { context: "tx2" });
  await refused(second.call("transmitter", { context: "tx2", topic: "t" }), "SOCKET");
  await first.close();
  await second.call("transmitter", { context: "tx2", topic: "t" });
  await second.call("start", { context: "tx2" });
  await second.close();
});

e2e("a unicast address belongs to one context: another gets SOCKET naming it", async (bed) => {
  const c = bed.config({ transport: { Addr: "127.0.0.1" }, contexts: contexts() });
  const owner = await bed.node("deno", c);
  await owner.receiver("rx");
  const other = await bed.node("bun", c);
  await other.call("context", { context: "rx2" });
  await other.call("receiver", { context: "rx2" });
  const error = await refused(other.call("start", { context: "rx2" }), "SOCKET");
  assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${bed.port}`));
  // It has taken nothing away.
  const tx = await bed.node("deno", c);
  await tx.sender("tx");
  await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS });
  const run = { seed: 82, sizes: { kind: "mixed", seed: 1 }, count: 200 } as const;
  await tx.call("send", { ...TX, ...run });
  await owner.received("rx", 200);
  await owner.check("rx", [{ ...STREAM, runs: [run] }]);
  await owner.close();
  await other.call("start", { context: "rx2" });
  await Promise.all([tx, other].map((node) => node.close()));
});

e2e("several receivers of one machine share a group and a port", async (bed) => {
  const c = bed.config({ contexts: contexts() });
  const a = await bed.node("deno", c);
  const b = await bed.node("bun", c);
  const tx = await bed.node("bun", c);
  await Promise.all([a.receiver("rx"), b.receiver("rx2"), tx.sender("tx"), a.sender("tx2")]);
  const run = { seed: 83, sizes: { kind: "mixed", seed: 1 }, count: 3000 } as const;
  for (const [node, context] of [[tx, "tx"], [a, "tx2"]] as const) {
    const wait = { context, topic: "t", receivers: 2, timeoutMs: LIMIT_MS };
    assert.equal(await node.call("connected", wait), true);
  }
  await Promise.all([
    tx.call("send", { ...TX, ...run }),
    a.call("send", { ...TX, ...run, context: "tx2" }),
  ]);
  const expected = ["tx", "tx2"].map((from) => ({ ...STREAM, from, runs: [run] }));
  for (const [node, context] of [[a, "rx"], [b, "rx2"]] as const) {
    await node.received(context, 2 * run.count);
    await node.check(context, expected);
  }
  await Promise.all([a, b, tx].map((node) => node.close()));
});
