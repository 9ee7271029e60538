/**
 * `RecordSync`: when what was recorded is on the disk, and what an acknowledgement says of it; a
 * disk that refuses to force data.
 *
 * What the kernel has written back is seen in /proc/PID/smaps: pages of a mapped file that nobody
 * has written since are not dirty any more. That needs a file system with a disk behind it.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RcmConfigInput } from "../../mod.ts";
import { type Bed, e2e, LIMIT_MS, type Node, runtimes, until } from "./harness/driver.ts";
import { seccompMissing } from "./harness/seccomp.ts";

const sizes = { kind: "mixed", seed: 6 } as const;
/** A round of 400 messages is hundreds. */
const MARKS_KB = 16;
const T = { context: "tx", topic: "t" } as const;

function config(bed: Bed, sync: string, memory = false): RcmConfigInput {
  return bed.config({
    transports: [{ Topic: "t", ...(memory ? { UseSharedMemory: 1 } : {}) }],
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      {
        Name: "rx",
        IsRecord: 1,
        RecordDir: join(bed.folder, "record"),
        RecordSegmentMBytes: 8,
        RecordSync: sync,
        ...(memory ? { ShmContext: ["tx"] } : {}),
        RxTopics: [{ Name: "t" }],
      },
    ],
  });
}

/** The bed's folder has a disk: pages in memory file systems are never clean. */
function hasDisk(bed: Bed): boolean {
  const { stdout } = spawnSync("stat", ["-f", "-c", "%T", bed.folder], { encoding: "utf8" });
  return stdout.trim() !== "tmpfs";
}

/** Kilobytes of record files that the process has written and the disk has not. */
function dirtyOf(pid: number): number {
  let sum = 0;
  let isRecord = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isRecord = line.includes("rcm_sqn_data_");
    const dirty = /^(?:Shared|Private)_Dirty: +(\d+) kB/.exec(line);
    if (isRecord && dirty !== null) sum += Number(dirty[1]);
  }
  return sum;
}

async function start(bed: Bed, sync: string, at: number, memory = false): Promise<[Node, Node]> {
  const c = config(bed, sync, memory);
  const tx = await bed.node(runtimes[at % 2]!, c);
  await tx.sender("tx");
  const rx = await bed.node(runtimes[(at + 1) % 2]!, c);
  await rx.receiver("rx");
  assert.equal(await tx.call("connected", { ...T, receivers: 1, timeoutMs: LIMIT_MS }), true);
  return [tx, rx];
}

async function content(rx: Node): Promise<string[]> {
  const { records } = await rx.history("rx");
  return records.map((r) => [r.sqn, r.no, r.seed, r.index, r.length, r.isRight].join(" "));
}

for (const memory of [false, true]) {
  const way = memory ? "shared memory" : "UDP";
  e2e(`commit, ${way}: what is acknowledged is on the disk`, async (bed) => {
    const [tx, rx] = await start(bed, "commit", memory ? 1 : 0, memory);
    for (let round = 0; round < 5; round += 1) {
      await tx.call("send", { ...T, seed: 11, sizes, first: round * 400, count: 400 });
      assert.equal(await tx.call("flush", { ...T, timeoutMs: LIMIT_MS }), true);
      // Everything was acknowledged, and nothing came after it but marks where segments end, which
      // recovery does without.
      if (hasDisk(bed)) {
        const dirty = dirtyOf(rx.pid);
        assert.ok(dirty <= MARKS_KB, `round ${round}: ${dirty} KB`);
      }
    }
    await rx.received("rx", 2000);
    const before = await content(rx);
    await rx.kill();
    const again = await bed.node("deno", config(bed, "commit", memory));
    await again.receiver("rx");
    await again.received("rx", 2000);
    assert.deepEqual(await content(again), before);
    await again.close();
    await tx.close();
  });
}

e2e("interval: on the disk soon, without waiting for it; async: not", async (bed) => {
  const [tx, rx] = await start(bed, "interval", 0);
  await tx.call("send", { ...T, seed: 12, sizes, count: 2000 });
  await rx.received("rx", 2000);
  if (hasDisk(bed)) {
    await until(() => dirtyOf(rx.pid) === 0, () => "forced within the limit", LIMIT_MS);
  }
  await rx.close();
  const slow = await bed.node("bun", config(bed, "async"));
  await slow.receiver("rx");
  await slow.received("rx", 2000);
  await tx.call("send", { ...T, seed: 12, sizes, first: 2000, count: 100 });
  await slow.received("rx", 2100);
  // The kernel leaves what was just written alone for seconds.
  if (hasDisk(bed)) assert.ok(dirtyOf(slow.pid) > 0, "the check sees what is not on the disk");
  await slow.close();
  await tx.close();
});

for (const [at, sync] of ["interval", "commit"].entries()) {
  if (seccompMissing() !== false) break;
  e2e(`${sync}: a disk that fails ends the recording, not delivery`, async (bed) => {
    const [tx, rx] = await start(bed, sync, at);
    const run = { ...T, seed: 13, sizes } as const;
    await tx.call("send", { ...run, count: 1000 });
    await rx.received("rx", 1000);
    assert.equal(await tx.call("flush", { ...T, timeoutMs: LIMIT_MS }), true);
    await rx.call("refuseForces", {});
    await tx.call("send", { ...run, first: 1000, count: 1000 });
    await rx.received("rx", 2000);
    const line = await rx.log({ key: 21072 });
    assert.equal(line.level, 5, "FATAL");
    assert.match(line.content, /EIO/);
    const stopped = Number(/sqn (\d+)/.exec(line.content)?.[1]);
    assert.ok(stopped <= 2000, line.content);
    if (sync === "commit") assert.ok(stopped >= 1000, "what was acknowledged is below it");
    // From now on an acknowledgement means memory.
    await tx.call("send", { ...run, first: 2000, count: 1000 });
    await rx.received("rx", 3000);
    assert.equal(await tx.call("flush", { ...T, timeoutMs: LIMIT_MS }), true);
    const statistics = JSON.stringify(await rx.statistics("rx"));
    assert.ok(statistics.includes(`"NextMsgSqnRecord":${stopped}`), statistics);
    const before = await content(rx);
    assert.equal(before.length, 3000);
    await rx.close();

    const again = await bed.node(runtimes[at % 2]!, config(bed, sync));
    await again.receiver("rx");
    await again.received("rx", stopped);
    const after = await content(again);
    assert.deepEqual(after.slice(0, stopped), before.slice(0, stopped));
    await tx.call("send", { ...run, first: 3000, count: 100 });
    await again.received("rx", after.length + 100);
    await again.close();
    await tx.close();
  });
}
