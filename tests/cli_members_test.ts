/** `rcm members` and `rcm tier force-leader`, over trees as members write them. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { MemberState } from "../src/arbitration/arbiter.ts";
import {
  type Bed,
  leading,
  LIMIT_MS,
  makeBed,
  makeLocal,
  type Member,
  standing,
  until,
} from "./arbitration_bed.ts";
import { rcm, rcmUntil } from "./cli_run.ts";

interface Scene {
  readonly bed: Bed;
  /** Options that name the tree. */
  readonly where: readonly string[];
}

async function withScene(run: (scene: Scene) => Promise<void>): Promise<void> {
  const local = makeLocal();
  const bed = makeBed(local.address);
  try {
    await run({
      bed,
      where: ["--address", bed.address, "--path", bed.path, "--directory", "/none"],
    });
  } finally {
    await bed.close();
    local.remove();
  }
}

/** As a member publishes it. */
const state = (epoch: number, lastSqn: number, role: string, intact = true): MemberState => ({
  adopted: epoch === 0 ? null : { number: epoch, id: epoch * 1000 },
  lastSqn,
  address: "127.0.0.1:40001",
  intact,
  role,
});

/** Stands and is established, as the native member would be. */
async function lead(member: Member, number: number, S: readonly string[], need = 0) {
  const view = await member.arbiter.read();
  const record = { ...standing(member.node, number, view) };
  const won = await member.arbiter.campaign(view.master?.version ?? null, record);
  assert.equal(won.kind, "done");
  if (won.kind !== "done") return;
  const done = await member.arbiter.establish(won.version, leading(record, S, need));
  assert.equal(done.kind, "done");
}

test("rcm members shows roles, epochs, logs and who is behind", () =>
  withScene(async ({ bed, where }) => {
    const a = await bed.member("a");
    await a.arbiter.join(state(1, 120, "ACTIVE"));
    const b = await bed.member("b");
    await b.arbiter.join(state(1, 100, "INACTIVE", false));
    const o = await bed.member("o");
    await o.arbiter.join(state(0, 90, "INACTIVE"), "observer");
    const before = await rcm("members", ...where);
    assert.equal(before.exit, 1, "nobody leads");
    assert.match(before.out[0]!, /^tier T: nobody leads, and nobody did before$/);
    await lead(a, 1, ["a", "b", "c"], 1);
    const { exit, out, err } = await rcm("members", ...where);
    assert.deepEqual([exit, err], [0, []]);
    assert.deepEqual(out.map((line) => line.trim().replace(/ {2,}/g, " | ")), [
      "tier T: a leads in epoch 1; a commit needs 1 other of a, b, c",
      "MEMBER | ROLE | EPOCH | SQN | LAG | LOG | ADDRESS",
      "a | ACTIVE | 1 | 120 | 0 | intact | 127.0.0.1:40001",
      "b | INACTIVE | 1 | 100 | 20 | blank | 127.0.0.1:40001",
      "c | away | - | - | - | - | -",
      "o | INACTIVE (observer) | 0 | 90 | 30 | - | 127.0.0.1:40001",
    ]);
    const json = JSON.parse((await rcm("members", ...where, "--json")).out[0]!);
    assert.deepEqual(json.tiers[0].established, {
      epoch: 1,
      leader: "a",
      S: ["a", "b", "c"],
      need: 1,
    });
    assert.deepEqual(
      json.tiers[0].members.map((one: { node: string; lag: number | null }) => [one.node, one.lag]),
      [["a", 0], ["b", 20], ["c", null], ["o", 30]],
    );
    b.arbiter.publish(state(1, 120, "SEPARATE"));
    // It goes with the next write of the lease.
    const limit = performance.now() + LIMIT_MS;
    let separate = await rcm("members", ...where);
    while (!separate.out.join().includes("SEPARATE") && performance.now() < limit) {
      separate = await rcm("members", ...where);
    }
    assert.match(separate.out.join("\n"), /b +SEPARATE/);
    assert.equal(separate.exit, 1, "a member in SEPARATE");
  }));

test("rcm members --watch looks again and again until Ctrl-C, and leaves nothing", () =>
  withScene(async ({ bed, where }) => {
    const a = await bed.member("a");
    await a.arbiter.join(state(1, 5, "SINGLE"));
    await lead(a, 1, ["a"]);
    const twice = await rcm("members", ...where, "--watch", "-n", "2", "-i", "1", "--json");
    assert.deepEqual([twice.exit, twice.out.length], [0, 2]);
    const stop = new AbortController();
    const watching = rcmUntil(stop.signal, "members", ...where, "--watch", "-i", "1");
    await new Promise((resolve) => setTimeout(resolve, 50));
    stop.abort();
    const { exit, out } = await watching;
    assert.equal(exit, 0);
    assert.match(out.join("\n"), /SINGLE: one copy of the data/);
    // A tool has neither a name in the tree nor a place in an election.
    assert.deepEqual((await a.arbiter.read()).members.map(({ node }) => node), ["a"]);
  }));

test("rcm members of what is not there says so, and makes nothing", () =>
  withScene(async ({ bed, where }) => {
    const folder = bed.address.slice("local:".length);
    const none = await rcm("members", "--address", `local:${folder}/none`, "--path", "/rcm");
    assert.deepEqual([none.exit, none.out], [3, []]);
    assert.match(none.err[0]!, /ARBITRATION: there is no \/rcm in local:.*none: .* is missing/);
    assert.ok(!existsSync(join(folder, "none")));
    const a = await bed.member("a");
    await a.arbiter.join(state(0, 0, "SYNC"));
    const other = await rcm("members", ...where, "--tier", "T", "Other");
    assert.equal(other.exit, 1);
    assert.match(other.err[0]!, /there is no tier Other in \/rcm/);
    assert.equal((await rcm("members", "--path", "/rcm")).exit, 2);
    const wrong = await rcm("members", "--address", "local:", "--path", "rcm");
    assert.deepEqual([wrong.exit, wrong.out], [3, []]);
    assert.match(wrong.err[0]!, /ARGUMENT/);
  }));

const arbitration = (where: readonly string[]) => where.slice(0, 4);

test("rcm tier force-leader refuses beside a leader, and where nothing was established", () =>
  withScene(async ({ bed, where }) => {
    const force = (...args: string[]) =>
      rcm("tier", "force-leader", ...args, ...arbitration(where), "--wait", "0");
    const a = await bed.member("a");
    await a.arbiter.join(state(1, 10, "SINGLE"));
    const early = await force("a", "--yes");
    assert.equal(early.exit, 3);
    assert.match(early.err[0]!, /refused: nothing was ever established here/);
    await lead(a, 1, ["a"]);
    const besides = await force("b", "--yes");
    assert.equal(besides.exit, 3);
    assert.match(besides.err[0]!, /refused: a leads \(epoch 1\): nobody is forced beside a leader/);
    await a.arbiter.close();
    const o = await bed.member("o");
    await o.arbiter.join(state(0, 0, "INACTIVE"), "observer");
    const observer = await force("o", "--yes");
    assert.equal(observer.exit, 3);
    assert.match(observer.err[0]!, /refused: o is an observer/);
    const nowhere = await force("b", "--tier", "Other");
    assert.equal(nowhere.exit, 3);
    assert.match(nowhere.err[0]!, /there is no tier Other/);
    assert.equal((await o.arbiter.read()).master?.record.forced, undefined, "nothing was written");
    assert.equal((await rcm("tier", "force-leader", ...arbitration(where))).exit, 2);
  }));

test("rcm tier force-leader only tells without --yes; the next leader takes the word away", () =>
  withScene(async ({ bed, where }) => {
    const force = (...args: string[]) =>
      rcm("tier", "force-leader", ...args, ...arbitration(where));
    const a = await bed.member("a");
    await a.arbiter.join(state(1, 10, "SINGLE"));
    await lead(a, 1, ["a"]);
    await a.arbiter.close();
    const b = await bed.member("b");
    await b.arbiter.join(state(0, 7, "SYNC", false));
    const { version } = (await b.arbiter.read()).master!;

    const plan = await force("b");
    assert.deepEqual([plan.exit, plan.err], [0, []]);
    const text = plan.out.join("\n");
    assert.match(text, /nobody leads; a did last, in epoch 1, when a commit needed\nnobody else/);
    assert.match(text, /b +0 +7 {2}blank/);
    assert.match(text, /What may be lost: [^]*not there, or blank: a\./);
    assert.match(text, /Nothing was changed. To do it, add --yes$/);
    const stranger = (await force("c")).out.join("\n");
    assert.match(stranger, /Note: c does not run now.*The tree does not know this name/);
    assert.equal((await b.arbiter.read()).master?.version, version);

    const done = await force("b", "--yes", "--wait", "0", "--json");
    assert.equal(done.exit, 0);
    const { outcome, missing } = JSON.parse(done.out[0]!);
    assert.deepEqual([outcome, missing], ["allowed", ["a"]]);
    const forced = (await b.arbiter.read()).master!;
    assert.equal(forced.version, version + 1);
    assert.equal(forced.record.forced?.node, "b");
    assert.equal(forced.record.established?.leader, "a", "nothing else was changed");
    assert.equal(
      (await rcm("members", ...where)).out[1]!.trim().split(" lead")[0],
      "an operator lets b",
    );

    // Somebody who waits for it sees it lead.
    const waiting = force("b", "--yes");
    await until("it is asked again", () => (b.view()?.master?.version ?? 0) > forced.version);
    await lead(b, 2, ["b"]);
    const led = await waiting;
    assert.equal(led.exit, 0, led.err.join());
    assert.equal(led.out.at(-1), "b leads");
    assert.equal((await b.arbiter.read()).master?.record.forced, undefined);
  }));
