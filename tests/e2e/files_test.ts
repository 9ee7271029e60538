/** The files of a sender in `/dev/shm`: their names and rights, and no room for them. */

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { RcmStatus } from "../../mod.ts";
import { e2e, LIMIT_MS, refused, runtimes } from "./harness/driver.ts";

const TX = { context: "client1", topic: "req" } as const;
const TRANSPORTS = [1, 2].map((PartitionNo) => ({ Topic: "req", PartitionNo }));
const NAMES = [
  "client1_allocator",
  "client1_req_1_sendingwindow",
  "client1_req_1_sendingwindowblock_1",
  "client1_req_1_sendingwindowblock_2",
  "client1_req_2_sendingwindow",
  "client1_req_2_sendingwindowblock_1",
  "client1_req_2_sendingwindowblock_2",
];
const run = { ...TX, seed: 121, sizes: { kind: "mixed", seed: 4 } } as const;

for (const runtime of runtimes) {
  e2e(`${runtime}: a sender has the guide's files, for this user only`, async (bed) => {
    const c = bed.config({
      transports: TRANSPORTS,
      contexts: [
        { Name: "client1", TxTopics: [{ Name: "req" }] },
        { Name: "rx", RxTopics: [{ Name: "req" }] },
      ],
    });
    const shm = join("/dev/shm", bed.prefix);
    const rights = (path: string) => (statSync(path).mode & 0o777).toString(8);
    const rx = await bed.node("deno", c);
    await rx.receiver("rx");
    assert.deepEqual(bed.files(), ["rx_counters"], "who only receives has none of them");
    const tx = await bed.node(runtime, c);
    await tx.sender("client1", { topics: ["req"] });
    const running = [...NAMES, "client1_counters", "rx_counters"].sort();
    assert.deepEqual(bed.files().sort(), running);
    assert.equal(rights(shm), "700");
    for (const name of running) assert.equal(rights(join(shm, name)), "600", name);
    await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS });
    await tx.call("send", { ...run, count: 100 });
    await rx.received("rx", 100);
    await tx.close();
    assert.deepEqual(bed.files().sort(), [...NAMES, "rx_counters"], "they stay");

    // What the guide calls an emptied start: all of it by hand, then as if nothing had been.
    bed.wipe("client1");
    assert.deepEqual(bed.files(), ["rx_counters"]);
    const again = await bed.node(runtime, c);
    await again.sender("client1", { topics: ["req"] });
    assert.deepEqual(bed.files().sort(), running);
    await Promise.all([again, rx].map((node) => node.close()));
  });

  e2e(
    `${runtime}: a full /dev/shm is SHM, with the bytes that are needed and available`,
    async (bed) => {
      const c = bed.config({
        transports: TRANSPORTS,
        contexts: [
          { Name: "client1", TxTopics: [{ Name: "req" }], MaxMemoryAllowedMBytes: 64 },
          { Name: "small", TxTopics: [{ Name: "req" }], MaxMemoryAllowedMBytes: 1 },
        ],
      });
      const node = await bed.node(runtime, c, { shmMBytes: 8 });
      await node.call("context", { context: "client1" });
      await node.call("transmitter", TX);
      const error = await refused(node.call("start", { context: "client1" }), "SHM");
      const found = /client1_allocator: (\d+) bytes needed, (\d+) available/.exec(error.message);
      assert.ok(found !== null, error.message);
      const [needed, available] = found.slice(1).map(Number) as [number, number];
      assert.ok(needed >= 64 * 2 ** 20 && needed < 65 * 2 ** 20, error.message);
      assert.ok(available > 7 * 2 ** 20 && available <= 8 * 2 ** 20, error.message);
      assert.match(error.message, /MaxMemoryAllowedMBytes/);
      // Nothing half made takes room, and the process goes on.
      await node.sender("small", { topics: ["req"] });
      const sent = await node.call("send", { ...run, context: "small", count: 100 });
      assert.deepEqual([sent.sent, sent.status], [100, RcmStatus.OK]);
      await node.close();
    },
    { network: true },
  );
}
