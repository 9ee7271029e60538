/** `local:` arbitration: the contract, and what happens to processes. */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, test } from "node:test";
import { encodeRequests } from "../src/arbitration/native_session.ts";
import { ArbiterOp } from "../src/native/abi.ts";
import { nativeLibrary } from "../src/native/library.ts";
import { type Bed, makeBed, makeLocal, standing, state, until } from "./arbitration_bed.ts";
import { contract } from "./arbitration_contract.ts";
import { rejectsCode } from "./arbitration_errors.ts";
import { startChild } from "./arbitration_process.ts";

const local = makeLocal();
after(() => local.remove());

contract("local", () => local.address, false);

function run(name: string, body: (bed: Bed) => Promise<void>): void {
  test(`local: ${name}`, async () => {
    const bed = makeBed(local.address);
    try {
      await body(bed);
    } finally {
      await bed.close();
    }
  });
}

run("a killed leader is found by the kernel's lock, long before T", async (bed) => {
  const child = startChild(bed, "A", 60_000);
  try {
    await child.line("won");
    const b = await bed.member("B");
    await b.arbiter.join(state());
    assert.equal((await b.arbiter.read()).running?.node, "A");
    child.signal("SIGKILL");
    const view = await until("A's node is gone", () => b.view()?.running === null && b.view());
    assert.deepEqual(view.members.map(({ node }) => node), ["B"]);
    const won = await b.arbiter.campaign(view.master!.version, standing("B", 2, view));
    assert.equal(won.kind, "done");
  } finally {
    await child.end();
  }
});

run("a paused leader is ended after T, and hears of it when it goes on", async (bed) => {
  const child = startChild(bed, "A", 800);
  try {
    await child.line("won");
    const b = await bed.member("B");
    await b.arbiter.join(state());
    await b.arbiter.read();
    child.signal("SIGSTOP");
    const view = await until("A's node is gone", () => b.view()?.running === null && b.view());
    const won = await b.arbiter.campaign(view.master!.version, standing("B", 2, view));
    assert.equal(won.kind, "done");
    child.signal("SIGCONT");
    await child.line("expired");
    const from = child.lines.length;
    child.say("lease");
    assert.equal(await child.line("lease", from), "lease false");
  } finally {
    await child.end();
  }
});

run("three processes: each is killed in its turn, and another leads", async (bed) => {
  const children = new Map(["A", "B", "C"].map((node) => [node, startChild(bed, node, 2000)]));
  const watcher = await bed.member("rcm");
  try {
    await watcher.arbiter.join(state(), "none");
    let version = -1;
    for (let round = 0; round < 6; round += 1) {
      const view = await until("somebody leads", () => {
        const seen = watcher.view();
        return seen !== undefined && seen.running !== null &&
          (seen.master?.version ?? -1) > version && seen;
      });
      version = view.master!.version;
      const node = view.running!.node;
      assert.equal(view.master?.record.candidate, node);
      children.get(node)!.signal("SIGKILL");
      await children.get(node)!.end();
      children.set(node, startChild(bed, node, 2000));
    }
  } finally {
    await Promise.all([...children.values()].map((child) => child.end()));
  }
});

run("an engine that hangs ends the session", async (bed) => {
  const a = await bed.member("A", { sessionTimeoutMilli: 800 });
  const b = await bed.member("B");
  await a.arbiter.join(state());
  await b.arbiter.join(state());
  await a.arbiter.campaign(null, standing("A", 1));
  const request = encodeRequests([{ op: ArbiterOp.BEAT, version: 1 }]);
  nativeLibrary().calls.rcm_arbiter_request(a.arbiter.handle, request, request.length);
  await until("the watchdog", () => a.watchdogs === 1);
  await until("the session is over", () => a.states.at(-1) === "expired");
  await until("B sees it", () => b.view()?.running === null);
  await rejectsCode(a.arbiter.read(), "ARBITRATION");
  await a.arbiter.join(state());
  assert.deepEqual((await b.arbiter.read()).members.map(({ node }) => node), ["A", "B"]);
});

run("old versions and files of dead sessions are removed", async (bed) => {
  const a = await bed.member("A");
  const b = await bed.member("B");
  await a.arbiter.join(state());
  await b.arbiter.join(state());
  let view = await a.arbiter.read();
  for (let number = 1; number <= 30; number += 1) {
    await a.arbiter.campaign(view.master?.version ?? null, standing("A", number, view));
    await a.arbiter.resign();
    view = await a.arbiter.read();
  }
  assert.equal(view.master?.version, 29);
  await b.arbiter.close();
  const files = readdirSync(`${local.address.slice("local:".length)}${bed.path}`);
  const of = (start: string) => files.filter((name) => name.startsWith(start)).length;
  assert.ok(of("tree.") <= 10, `${files}`);
  assert.equal(of("session."), 1, `${files}`);
  assert.equal(of(".new-"), 0, `${files}`);
});
