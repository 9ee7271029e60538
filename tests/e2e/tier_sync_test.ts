/** `SyncMode` 1 and 2 with real processes, Deno and Bun mixed, by `local:` arbitration. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { type Bed, e2e, LIMIT_MS, type Node, until } from "./harness/driver.ts";
import { readJournal } from "./harness/journal.ts";
import { checkResults } from "./harness/results.ts";
import { makeTier, type Tier } from "./harness/tier.ts";

const SIZES = { kind: "mixed", seed: 5, bytes: 800 } as const;
const ENDLESS = 1_000_000_000;

function resultsOf(tier: Tier, place: number): number {
  return readJournal(tier.members[place]!.results.at(-1)!).length;
}

/** Waits until every running member has made or was given so many transactions. */
async function replicated(tier: Tier, count: number): Promise<void> {
  for (const [place, { name, node }] of tier.members.entries()) {
    if (node === null) continue;
    await until(
      () => resultsOf(tier, place) >= count,
      () => `${name} has ${count} transactions: ${resultsOf(tier, place)}`,
      LIMIT_MS,
    );
  }
}

async function killLeaders(bed: Bed, values: Record<string, unknown>): Promise<void> {
  const tier = makeTier(bed, {
    members: 3,
    senders: 1,
    arbitration: { address: `local:${join(bed.folder, "arbiter")}`, path: "/rcm" },
    results: true,
    values,
  });
  await Promise.all([0, 1, 2].map((place) => tier.start(place)));
  await tier.settled();
  const sender: Node = await tier.sender(0);
  const where = { context: "s1", topic: "t" };
  const running = sender.call("send", {
    ...where,
    seed: 11,
    sizes: SIZES,
    count: ENDLESS,
    perSecond: 2000,
  });
  await replicated(tier, 2000);
  for (let round = 0; round < 2; round += 1) {
    const place = await tier.settled();
    const before = resultsOf(tier, place);
    await tier.kill(place);
    await tier.settled();
    await replicated(tier, before + 2000);
    await tier.start(place);
    await tier.settled();
    await replicated(tier, before + 3000);
  }
  await sender.call("halt", where);
  const { sent } = await running;
  const flushed = await sender.call("flush", { ...where, timeoutMs: LIMIT_MS });
  assert.equal(flushed, true, "the tier committed everything");
  await replicated(tier, sent);
  for (const { node, name } of tier.members) await node!.call("stop", { context: name });
  assert.equal(checkResults(tier), sent);
  // Only who led was given messages, and the others none.
  const given = tier.members.map(({ journals }) =>
    journals.map((path) => readJournal(path).length)
  );
  const all = given.flat().reduce((sum, count) => sum + count, 0);
  assert.ok(all < 2 * sent, `messages were handled once, but for a few: ${all} of ${sent}`);
}

e2e("followers apply what the leader made while leaders die (SyncMode 1)", async (bed) => {
  await killLeaders(bed, { SyncMode: 1 });
});

e2e("followers apply what the leader made while leaders die (SyncMode 2)", async (bed) => {
  await killLeaders(bed, { SyncMode: 2 });
});
