/**
 * A tier whose only copy of the data is lost for ever (guide 8.7.3), and the operator's way out, by
 * command lines as the operator types them: `rcm members`, `rcm tier force-leader`.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Bed, e2e, NodeError, programOf, type Runtime, until } from "./harness/driver.ts";
import { makeTier, type Tier } from "./harness/tier.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const SIZES = { kind: "mixed", seed: 8, bytes: 1000 } as const;
const COUNT = 2000;
/** `tier_forced` of `native/src/abi.zig`. */
const FORCED_KEY = 22108;

/** What `rcm members --json` says of a tier, as far as it is looked at here. */
interface Shown {
  readonly leader: string | null;
  readonly forced: string | null;
  readonly established: { readonly S: readonly string[]; readonly need: number } | null;
  readonly members: readonly {
    readonly node: string;
    readonly isThere: boolean;
    readonly role: string | null;
    readonly sqn: number | null;
    readonly isIntact: boolean | null;
  }[];
}

function operator(runtime: Runtime, arbitration: { address: string; path: string }) {
  const where = ["--address", arbitration.address, "--path", arbitration.path];
  function rcm(...args: string[]) {
    const [program = "", ...rest] = programOf(runtime);
    const { status, stdout, stderr } = spawnSync(program, [...rest, MAIN, ...args, ...where], {
      env: { ...process.env, NO_COLOR: "1" },
      encoding: "utf8",
    });
    return { status, stdout, stderr, all: `${stdout}${stderr}` };
  }
  return {
    rcm,
    members(): { status: number | null; tier: Shown } {
      const { status, stdout, all } = rcm("members", "--json");
      assert.ok(stdout.startsWith("{"), all);
      return { status, tier: (JSON.parse(stdout) as { tiers: Shown[] }).tiers[0]! };
    },
  };
}

async function send(tier: Tier, first: number, sender: Awaited<ReturnType<Tier["sender"]>>) {
  await sender.call("send", {
    context: tier.senders[0]!,
    topic: "t",
    seed: 31,
    sizes: SIZES,
    first,
    count: COUNT,
    perSecond: 5000,
  });
}

async function scene(bed: Bed, runtime: Runtime): Promise<void> {
  const arbitration = { address: `local:${join(bed.folder, "arbiter")}`, path: "/rcm" };
  const tier = makeTier(bed, {
    members: 3,
    senders: 1,
    arbitration,
    values: { StartTimeoutSecs: 2 },
  });
  const { rcm, members } = operator(runtime, arbitration);
  const force = (...args: string[]) => rcm("tier", "force-leader", ...args);

  const nothing = rcm("members");
  assert.equal(nothing.status, 3, nothing.all);
  await tier.start(0);
  const sender = await tier.sender(0);
  await send(tier, 0, sender);
  await tier.delivered("s1", COUNT);
  const alone = members();
  assert.equal(alone.status, 0);
  assert.equal(alone.tier.leader, "m1");
  assert.deepEqual(alone.tier.established, { ...alone.tier.established, S: ["m1"], need: 0 });
  const besides = force("m2", "--yes");
  assert.equal(besides.status, 3, besides.all);
  assert.match(besides.stderr, /refused: m1 leads .*nobody is forced beside a leader/);

  // The machine of the only copy is lost, for ever.
  await tier.kill(0);
  rmSync(tier.members[0]!.workDir, { recursive: true });
  await assert.rejects(tier.start(1), (error: unknown) => {
    assert.ok(error instanceof NodeError && error.code === "ARBITRATION", String(error));
    assert.match(error.message, /start the recorded leader first.*rcm tier force-leader m2/);
    return true;
  });
  await tier.kill(1);
  const lost = members();
  assert.equal(lost.status, 1, "a tier without a leader");
  assert.deepEqual([lost.tier.leader, lost.tier.forced], [null, null]);
  const plan = force("m2");
  assert.equal(plan.status, 0, plan.all);
  assert.match(plan.stdout, /nobody leads; m1 did last/);
  assert.match(plan.stdout, /What may be lost: .*not there, or blank: m1\./s);
  assert.match(plan.stdout, /Nothing was changed. To do it, add --yes/);
  assert.equal(members().tier.forced, null);
  const done = force("m2", "--yes");
  assert.equal(done.status, 0, done.all);
  assert.match(done.stdout, /m2 may lead now: start it/);
  assert.equal(members().tier.forced, "m2");

  const second = await tier.start(1);
  await second.log({ key: FORCED_KEY });
  await until(() => second.roles.at(-1)?.role === "SINGLE", () => "m2 leads alone");
  assert.equal(members().tier.forced, null, "it counts once");
  await send(tier, COUNT, sender);
  await tier.delivered("s1", 2 * COUNT);
  // Others follow it, the one that lost everything too.
  await tier.start(2);
  await tier.start(0);
  assert.equal(await tier.settled(), 1);
  await tier.delivered("s1", 2 * COUNT);
  const well = members();
  assert.equal(well.status, 0);
  assert.deepEqual(well.tier.members.map(({ node, role }) => [node, role]), [
    ["m1", "INACTIVE"],
    ["m2", "ACTIVE"],
    ["m3", "INACTIVE"],
  ]);
  // An election without the operator: two of three are enough now.
  await tier.kill(1);
  const next = await tier.settled();
  assert.notEqual(next, 1);
  await send(tier, 2 * COUNT, sender);
  await tier.delivered("s1", 3 * COUNT);
  assert.equal(members().tier.leader, tier.members[next]!.name);
}

for (const runtime of ["deno", "bun"] as const) {
  e2e(
    `the only copy of a tier is lost: rcm tier force-leader (${runtime}), and it goes on`,
    (bed) => scene(bed, runtime),
  );
}
