/** The arbiter over a tree in memory: transactions are lost before or after they are done. */

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Arbiter, SessionState } from "../src/arbitration/arbiter.ts";
import {
  childNames,
  endSessions,
  openLocalStore,
  stepOf,
  type StoredTree,
} from "../src/arbitration/local_store.ts";
import { createArbiter } from "../src/arbitration/member.ts";
import type { Outcome, Tree, TreeEvents } from "../src/arbitration/tree.ts";
import { leading, standing, state, until } from "./arbitration_bed.ts";
import { rejectsCode } from "./arbitration_errors.ts";

/** What becomes of the next transactions; afterwards all are done and answered. */
type Fate = "answered" | "lost" | "lost when done";

interface Shared {
  tree: StoredTree;
  readonly watches: Set<(path: string) => void>;
}

const makeShared = (): Shared => ({
  tree: { nodes: {}, sessions: {}, history: [] },
  watches: new Set(),
});

interface Scripted {
  readonly arbiter: Arbiter;
  readonly fates: Fate[];
  readonly held: boolean[];
  readonly faults: string[];
  expire(): void;
}

/** An arbiter of the tree. */
async function member(shared: Shared, node: string): Promise<Scripted> {
  const fates: Fate[] = [];
  const held: boolean[] = [];
  const faults: string[] = [];
  let session: SessionState = "closed";
  let id = "";
  let lives = 0;
  let events: TreeEvents | null = null;
  const arbiter = await createArbiter(
    { address: "local:", path: "/p", tier: "T", node, sessionTimeoutMilli: 100 },
    (given) => {
      events = given;
      shared.watches.add((path) => setTimeout(() => given.changed(path), 0));
      const tree: Tree = {
        handle: 0,
        get session() {
          return session;
        },
        timeoutMilli: 100,
        open() {
          lives += 1;
          id = `${node}${lives}`;
          session = "connected";
          return Promise.resolve();
        },
        get(path) {
          const found = shared.tree.nodes[path];
          if (found === undefined) return Promise.resolve(null);
          const { data, version, owner } = found;
          return Promise.resolve({ data, version, ephemeral: owner !== "", mine: owner === id });
        },
        children(path) {
          const isThere = shared.tree.nodes[path] !== undefined;
          return Promise.resolve(isThere ? childNames(shared.tree, path) : null);
        },
        change(changes): Promise<Outcome> {
          const fate = fates.shift() ?? "answered";
          if (fate === "lost") return Promise.resolve("lost");
          const next = stepOf(changes, id)(shared.tree);
          if (typeof next === "string") {
            return Promise.resolve(fate === "answered" ? next : "lost");
          }
          shared.tree = next;
          for (const { path } of changes) for (const tell of shared.watches) tell(path);
          return Promise.resolve(fate === "answered" ? "done" : "lost");
        },
        sync: () => Promise.resolve(),
        keep() {},
        hold: (_path, on) => void held.push(on),
        lease: () => ({ leftMilli: 0, sessionTimeoutMilli: 100, holds: false }),
        end() {
          session = "closed";
        },
        close() {
          session = "closed";
          return Promise.resolve();
        },
      };
      return Promise.resolve(tree);
    },
  );
  arbiter.watch({ onFault: (text) => faults.push(text) });
  return {
    arbiter,
    fates,
    held,
    faults,
    expire() {
      session = "expired";
      shared.tree = endSessions([id])(shared.tree) as StoredTree;
      events?.session("expired", "a test");
      for (const tell of shared.watches) tell("/p/cluster_T/master/running");
    },
  };
}

const SCRIPTS: readonly (readonly Fate[])[] = [
  ["answered"],
  ["lost"],
  ["lost when done"],
  ["lost", "lost", "lost"],
  ["lost", "lost when done"],
];

for (const script of SCRIPTS) {
  test(`one member, transactions ${script.join(", ")}: each is done once`, async () => {
    const shared = makeShared();
    const a = await member(shared, "A");
    a.fates.push(...script);
    let view = await a.arbiter.join(state());
    for (let number = 1; number <= 3; number += 1) {
      const version = view.master?.version ?? null;
      a.fates.push(...script);
      const won = await a.arbiter.campaign(version, standing("A", number, view));
      assert.deepEqual(won, { kind: "done", version: version === null ? 0 : version + 1 });
      assert.equal(a.held.at(-1), true);
      a.fates.push(...script);
      const record = leading(standing("A", number), ["A"]);
      const done = await a.arbiter.establish((version ?? -1) + 1, record);
      assert.deepEqual(done, { kind: "done", version: (version ?? -1) + 2 });
      a.fates.push(...script);
      await a.arbiter.resign();
      assert.equal(a.held.at(-1), false);
      view = await a.arbiter.read();
      assert.equal(view.running, null);
      assert.deepEqual(view.master, { record, version: (version ?? -1) + 2 });
      a.fates.length = 0;
    }
    assert.deepEqual(a.faults, []);
    await a.arbiter.close();
  });

  test(`another stands, transactions ${script.join(", ")}: it is refused`, async () => {
    const shared = makeShared();
    const a = await member(shared, "A");
    const b = await member(shared, "B");
    await a.arbiter.join(state());
    await b.arbiter.join(state());
    assert.equal((await b.arbiter.campaign(null, standing("B", 1))).kind, "done");
    for (const version of [null, 0, 1]) {
      a.fates.push(...script);
      const result = await a.arbiter.campaign(version, standing("A", 2));
      a.fates.length = 0;
      assert.equal(result.kind, "refused");
      assert.deepEqual(a.held, []);
    }
    // The same text of somebody else is not this one's.
    const record = leading(standing("B", 1), ["B"]);
    assert.equal((await b.arbiter.establish(0, record)).kind, "done");
    const again = await a.arbiter.establish(0, record);
    assert.equal(again.kind, "refused");
    assert.equal((await b.arbiter.read()).running?.mine, true);
  });
}

test("what can't be known rejects, and what was done of it is given up later", async () => {
  const shared = makeShared();
  const a = await member(shared, "A");
  const b = await member(shared, "B");
  await a.arbiter.join(state());
  await b.arbiter.join(state());
  a.fates.push("lost", "lost", "lost", "lost", "lost");
  await rejectsCode(a.arbiter.campaign(null, standing("A", 1)), "ARBITRATION");
  assert.deepEqual(a.held, []);
  // The last of them was under way all the time.
  shared.tree = stepOf([
    { op: "create", path: "/p/cluster_T/master", data: JSON.stringify(standing("A", 1)) },
    { op: "create", path: "/p/cluster_T/master/running", data: "A", ephemeral: true },
  ], "A1")(shared.tree) as StoredTree;
  for (const tell of shared.watches) tell("/p/cluster_T/master/running");
  await until("A gives it up", () => !("/p/cluster_T/master/running" in shared.tree.nodes));
  const view = await b.arbiter.read();
  assert.equal(view.running, null);
  const won = await b.arbiter.campaign(0, standing("B", 2, view));
  assert.deepEqual(won, { kind: "done", version: 1 });
});

test("a session that is over: calls reject, joining begins another", async () => {
  const shared = makeShared();
  const a = await member(shared, "A");
  await a.arbiter.join(state());
  await a.arbiter.campaign(null, standing("A", 1));
  const again = await a.arbiter.campaign(0, standing("A", 2));
  assert.equal(again.kind, "refused");
  assert.equal((await a.arbiter.read()).running?.mine, true);
  a.expire();
  await rejectsCode(a.arbiter.read(), "ARBITRATION");
  await rejectsCode(a.arbiter.establish(0, standing("A", 1)), "ARBITRATION");
  await rejectsCode(a.arbiter.campaign(0, standing("A", 1)), "ARBITRATION");
  await a.arbiter.resign();
  const view = await a.arbiter.join(state());
  assert.equal(view.running, null);
  assert.equal((await a.arbiter.campaign(0, standing("A", 2, view))).kind, "done");
});

test("running that was removed by hand has no lease, and can be won again", async () => {
  const shared = makeShared();
  const a = await member(shared, "A");
  await a.arbiter.join(state());
  await a.arbiter.campaign(null, standing("A", 1));
  const standingTwice = a.arbiter.campaign(0, standing("A", 2));
  await rejectsCode(a.arbiter.campaign(0, standing("A", 3)), "STATE");
  await standingTwice;
  const path = "/p/cluster_T/master/running";
  shared.tree = stepOf([{ op: "remove", path, version: -1 }], "")(shared.tree) as StoredTree;
  for (const tell of shared.watches) tell(path);
  await until("the lease is given up", () => a.held.at(-1) === false);
  assert.equal((await a.arbiter.campaign(0, standing("A", 2))).kind, "done");
  assert.deepEqual(a.held, [true, false, true]);
});

test("a listener that throws is told of, and the others are called", async () => {
  const shared = makeShared();
  const a = await member(shared, "A");
  const seen: number[] = [];
  a.arbiter.watch({
    onView() {
      throw new Error("no");
    },
    onFault: (text) => assert.match(text, /no/),
  });
  a.arbiter.watch({ onView: (view) => seen.push(view.members.length) });
  await a.arbiter.join(state());
  assert.deepEqual(seen, [1]);
});

test("local store: who slept while its name came and went reads again", () => {
  const folder = mkdtempSync(join(tmpdir(), "rcm-store-"));
  try {
    const sleeper = openLocalStore(folder);
    const others = openLocalStore(folder);
    const add = (name: string) => stepOf([{ op: "create", path: `/${name}`, data: "" }], "");
    for (const changes of [0, 1, 5, 20, 100]) {
      let reads = 0;
      const outcome = sleeper.change((tree) => {
        reads += 1;
        if (reads === 1) {
          for (let i = 0; i < changes; i += 1) others.change(add(`other${changes}_${i}`));
        }
        return add(`mine${changes}`)(tree);
      });
      assert.equal(outcome, "done");
      assert.equal(reads, changes === 0 ? 1 : 2, `${changes} changes in between`);
      const { nodes } = others.read().tree;
      const found = Object.keys(nodes).filter((path) => path.startsWith(`/other${changes}_`));
      assert.equal(found.length, changes, "nothing of the others is lost");
      assert.ok(`/mine${changes}` in nodes, "nor of this one");
    }
    assert.ok(readdirSync(folder).length <= 10);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("local store: transactions are all or nothing, as ZooKeeper's are", () => {
  const empty: StoredTree = { nodes: {}, sessions: {}, history: [] };
  const made = stepOf([
    { op: "create", path: "/a", data: "1" },
    { op: "create", path: "/a/b", data: "2", ephemeral: true },
  ], "s")(empty) as StoredTree;
  assert.deepEqual(made.nodes, {
    "/a": { data: "1", version: 0, owner: "" },
    "/a/b": { data: "2", version: 0, owner: "s" },
  });
  const refused = (changes: Parameters<typeof stepOf>[0]) => stepOf(changes, "s")(made);
  assert.equal(refused([{ op: "create", path: "/a", data: "" }]), "exists");
  assert.equal(refused([{ op: "create", path: "/x/y", data: "" }]), "missing");
  assert.equal(refused([{ op: "set", path: "/a", data: "", version: 1 }]), "version");
  assert.equal(refused([{ op: "set", path: "/x", data: "", version: -1 }]), "missing");
  assert.equal(refused([{ op: "remove", path: "/a", version: 0 }]), "busy");
  const both = refused([
    { op: "remove", path: "/a/b", version: -1 },
    { op: "remove", path: "/a", version: 0 },
  ]) as StoredTree;
  assert.deepEqual(both.nodes, {});
  assert.deepEqual((endSessions(["s"])(made) as StoredTree).nodes, { "/a": made.nodes["/a"] });
});
