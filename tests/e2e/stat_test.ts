/**
 * `rcm stat` as a program beside others: it shows contexts of other processes, of any runtime, and
 * none that are dead.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { flushed, pair, send } from "./fixtures/pair.ts";
import { type Bed, e2e, programOf, type Runtime, runtimes, until } from "./harness/driver.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

interface Shown {
  readonly Context: string;
  readonly txs: readonly (readonly {
    readonly CurrentMsgNo: number;
    readonly Ack: readonly { readonly MsgNo: number; readonly Status: string }[];
  }[])[];
  readonly Tier: { readonly Deliver: { readonly NextMsgSqnDeliver: number } };
  readonly Process: { readonly Pid: number; readonly Runtime: string };
}

/** What a process of its own shows of this test's contexts. */
function stat(runtime: Runtime, bed: Bed): Shown[] {
  const [program = "", ...args] = programOf(runtime);
  const command = [...args, MAIN, "stat", "--json", "-i", "0", "--prefix", bed.prefix];
  const { stdout, stderr, status } = spawnSync(program, command, {
    env: { ...process.env, NO_COLOR: "1" },
    encoding: "utf8",
  });
  assert.equal(stderr, "");
  const { ctxs, faults } = JSON.parse(stdout) as { ctxs: Shown[]; faults: unknown[] };
  assert.deepEqual(faults, []);
  assert.equal(status, ctxs.length > 0 ? 0 : 1);
  return ctxs;
}

for (const runtime of runtimes) {
  e2e(`${runtime}: rcm stat shows other processes, the living ones`, async (bed) => {
    const { tx, rx } = await pair(bed, { runtimes: ["deno", "bun"] });
    await send(tx, 100, 300);
    await rx.received("rx", 300);
    await flushed(tx);
    let shown: Shown[] = [];
    await until(
      () => {
        shown = stat(runtime, bed);
        return shown.length === 2 && shown[0]!.Tier.Deliver.NextMsgSqnDeliver === 300 &&
          shown[1]!.txs[0]![0]!.Ack[0]!.MsgNo === 300;
      },
      () => `both are shown; it is ${JSON.stringify(shown)}`,
    );
    assert.deepEqual(shown.map(({ Context }) => Context), ["rx", "tx"]);
    assert.deepEqual(shown.map(({ Process }) => Process.Pid), [rx.pid, tx.pid]);
    assert.match(shown[0]!.Process.Runtime, /^bun /);
    assert.match(shown[1]!.Process.Runtime, /^deno /);
    assert.equal(shown[1]!.txs[0]![0]!.CurrentMsgNo, 300);
    assert.equal(shown[1]!.txs[0]![0]!.Ack[0]!.Status, "CONNECTED");

    await rx.kill();
    assert.ok(bed.files().includes("rx_counters"), "a killed one can't remove its file");
    assert.deepEqual(stat(runtime, bed).map(({ Context }) => Context), ["tx"]);
    await tx.kill();
    assert.deepEqual(stat(runtime, bed), []);
  });
}
