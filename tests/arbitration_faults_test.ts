/** Arbitration in ZooKeeper under faults: servers that are frozen, killed or missing. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { makeFolders } from "../src/arbitration/tree_folders.ts";
import { encodeRequests } from "../src/arbitration/native_session.ts";
import { openTree } from "../src/arbitration/open.ts";
import { ArbiterOp } from "../src/native/abi.ts";
import { nativeLibrary } from "../src/native/library.ts";
import {
  startZookeeper,
  type Zookeeper,
  zookeeperMissing,
  type ZookeeperOptions,
} from "../tools/zookeeper.ts";
import { type Bed, leading, makeBed, standing, state, until } from "./arbitration_bed.ts";
import { rejectsCode } from "./arbitration_errors.ts";
import { startChild } from "./arbitration_process.ts";

const missing = zookeeperMissing();
const reason = missing === false ? "" : ` (${missing})`;
const isBun = process.versions["bun"] !== undefined;

function faulty(
  name: string,
  options: ZookeeperOptions & { readonly sessionTimeoutMilli?: number },
  body: (bed: Bed, zookeeper: Zookeeper) => Promise<void>,
): void {
  test(name + reason, { skip: missing }, async () => {
    const zookeeper = await startZookeeper(options);
    const bed = makeBed(zookeeper.address, options.sessionTimeoutMilli ?? 2000);
    try {
      await body(bed, zookeeper);
    } finally {
      // What is frozen would hold up the closing.
      for (const server of zookeeper.servers) server.resume();
      await bed.close();
      await zookeeper.stop();
    }
  });
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Time in which the event loop stood still, at most, until `stop` is called. */
function watchLoop(): () => number {
  let last = performance.now();
  let longest = 0;
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 5);
  return () => {
    clearInterval(timer);
    return longest;
  };
}

faulty("a killed leader: another hears of it and leads within T and a moment", {}, async (bed) => {
  const child = startChild(bed, "A", 800);
  try {
    await child.line("won");
    const b = await bed.member("B", { sessionTimeoutMilli: 800 });
    await b.arbiter.join(state());
    assert.equal((await b.arbiter.read()).running?.node, "A");
    child.signal("SIGKILL");
    const view = await until("A's node is gone", () => b.view()?.running === null && b.view());
    const won = await b.arbiter.campaign(view.master!.version, standing("B", 2, view));
    assert.equal(won.kind, "done");
  } finally {
    await child.end();
  }
});

faulty("a paused leader: another leads; going on it hears that it is over", {}, async (bed) => {
  const child = startChild(bed, "A", 800);
  try {
    await child.line("won");
    const b = await bed.member("B", { sessionTimeoutMilli: 800 });
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
    assert.equal((await b.arbiter.read()).running?.node, "B");
  } finally {
    await child.end();
  }
});

faulty("cut off: the lease ends before the session does", { count: 3 }, async (bed, zk) => {
  const modes = await Promise.all(zk.servers.map((server) => server.mode()));
  const mine = zk.servers[modes.indexOf("follower")]!;
  const others = zk.servers.filter((server) => server !== mine).map(({ address }) => address);
  const a = await bed.member("A", { address: mine.address });
  const b = await bed.member("B", { address: others.join(",") });
  await a.arbiter.join(state());
  await b.arbiter.join(state());
  await a.arbiter.campaign(null, standing("A", 1));
  await until("a lease", () => a.arbiter.lease().leftMilli > 0);
  await until("B sees it", () => b.view()?.running?.node === "A");
  const { sessionTimeoutMilli } = a.arbiter.lease();
  mine.pause();
  // The last write may have been sent at this moment, never later.
  const from = performance.now();
  await until("the lease has ended", () => {
    assert.equal(b.view()?.running?.node, "A", "the session ended before the lease");
    return a.arbiter.lease().leftMilli === 0;
  });
  const tookMs = performance.now() - from;
  assert.ok(tookMs <= sessionTimeoutMilli * 2 / 3 + 200, `${tookMs} ms of ${sessionTimeoutMilli}`);
  const view = await until("A's node is gone", () => b.view()?.running === null && b.view());
  const led = await b.arbiter.campaign(view.master!.version, standing("B", 2, view));
  assert.equal(led.kind, "done");
  // It can't know that the session is over before a server says so.
  assert.equal(a.arbiter.session, "suspended");
  assert.equal(a.arbiter.lease().leftMilli, 0);
  mine.resume();
  await until("a server says so", () => a.states.includes("expired"));
  await rejectsCode(a.arbiter.read(), "ARBITRATION");
  await rejectsCode(a.arbiter.campaign(0, standing("A", 2)), "ARBITRATION");
  await a.arbiter.resign();
  // A dead handle is replaced by the next joining.
  const again = await a.arbiter.join(state());
  assert.deepEqual(again.running, { node: "B", mine: false });
  assert.deepEqual(again.members.map(({ node }) => node), ["A", "B"]);
  await b.arbiter.resign();
  const free = await until("A sees it", () => a.view()?.running === null && a.view());
  const won = await a.arbiter.campaign(free.master!.version, standing("A", 3, free));
  assert.equal(won.kind, "done");
  await until("a new lease", () => a.arbiter.lease().leftMilli > 0);
});

faulty(
  "a lost answer: what campaign and establish say is what the tree holds",
  { sessionTimeoutMilli: 4000 },
  async (bed, zk) => {
    const a = await bed.member("A");
    let view = await a.arbiter.join(state());
    let number = 0;
    for (let round = 0; round < 4; round += 1) {
      number += 1;
      const version = view.master?.version ?? null;
      const record = standing("A", number, view);
      zk.servers[0]!.pause();
      const since = a.states.length;
      const campaigning = a.arbiter.campaign(version, record);
      // The client gives the link up after 2T/3, the server the session after T.
      await until("the link is given up", () => a.states.slice(since).includes("suspended"));
      zk.servers[0]!.resume();
      const won = await campaigning;
      const seen = await a.arbiter.read();
      assert.equal(won.kind, "done");
      assert.deepEqual(seen.running, { node: "A", mine: true });
      assert.equal(seen.master?.version, won.kind === "done" ? won.version : -1);
      zk.servers[0]!.pause();
      const sinceThen = a.states.length;
      const establishing = a.arbiter.establish(seen.master!.version, leading(record, ["A"]));
      await until("the link is given up", () => a.states.slice(sinceThen).includes("suspended"));
      zk.servers[0]!.resume();
      const done = await establishing;
      assert.equal(done.kind, "done");
      await a.arbiter.resign();
      view = await a.arbiter.read();
      assert.equal(view.master?.version, done.kind === "done" ? done.version : -1);
      assert.deepEqual(view.master?.record, leading(record, ["A"]));
      assert.equal(view.running, null);
    }
    assert.ok(!a.states.includes("expired"), `${a.states}`);
  },
);

faulty("closing while the server is frozen does not block the event loop", {}, async (bed, zk) => {
  const a = await bed.member("A", { closeTimeoutMilli: 300 });
  await a.arbiter.join(state());
  zk.servers[0]!.pause();
  const longest = watchLoop();
  await a.arbiter.close();
  // The client goes on closing by itself.
  await sleep(1500);
  assert.ok(longest() < 1000, "the event loop stood still");
  assert.equal(a.arbiter.session, "closed");
});

faulty(
  "three servers: the loss of their leader loses no session",
  { count: 3 },
  async (bed, zk) => {
    const a = await bed.member("A");
    const b = await bed.member("B");
    const view = await a.arbiter.join(state());
    await b.arbiter.join(state());
    await a.arbiter.campaign(null, standing("A", 1, view));
    const leader = await zk.leader();
    await leader.kill();
    await until("another leads", () => b.arbiter.session === "connected");
    const seen = await b.arbiter.read();
    assert.equal(seen.running?.node, "A");
    await until("the lease is renewed", () => a.arbiter.lease().leftMilli > 1000);
    assert.ok(![...a.states, ...b.states].includes("expired"));
    const done = await a.arbiter.establish(0, leading(standing("A", 1), ["A", "B"], 1));
    assert.deepEqual(done, { kind: "done", version: 1 });
    await leader.start();
  },
);

faulty("an engine that hangs: running is given up, the session lives on", {}, async (bed) => {
  const a = await bed.member("A");
  const b = await bed.member("B");
  await a.arbiter.join(state());
  await b.arbiter.join(state());
  await a.arbiter.campaign(null, standing("A", 1));
  const { calls } = nativeLibrary();
  const request = encodeRequests([{ op: ArbiterOp.BEAT, version: 1 }]);
  const beat = () => calls.rcm_arbiter_request(a.arbiter.handle, request, request.length);
  const end = performance.now() + 3000;
  await until("three seconds of life", () => beat() !== 0 || performance.now() > end);
  assert.equal(a.watchdogs, 0);
  assert.equal((await b.arbiter.read()).running?.node, "A");
  await until("it is given up", () => a.watchdogs === 1);
  assert.equal(a.arbiter.lease().leftMilli, 0);
  await until("others see it", () => b.view()?.running === null);
  assert.deepEqual(a.states, ["connected"]);
  const view = await a.arbiter.read();
  assert.deepEqual(view.members.map(({ node }) => node), ["A", "B"]);
});

faulty("who may not read is told how to authenticate", {}, async (bed, zk) => {
  const owner = makeBed(`digest:rcm:a:se@cret@${zk.address}`);
  const same = { address: owner.address, path: bed.path };
  const a = await bed.member("A", same);
  await a.arbiter.join(state());
  const won = await a.arbiter.campaign(null, standing("A", 1));
  assert.equal(won.kind, "done");
  const b = await bed.member("B", same);
  assert.equal((await b.arbiter.join(state())).running?.node, "A");
  for (const address of [zk.address, `digest:rcm:wrong@${zk.address}`]) {
    const c = await bed.member("C", { address });
    const error = await rejectsCode(c.arbiter.join(state()), "ARBITRATION");
    assert.match(error.message, /digest:user:password@/);
    assert.doesNotMatch(error.message, /wrong/, "passwords are not shown");
  }
});

faulty("data that a server would drop the link for is refused before", {}, async (bed, zk) => {
  const tree = await openTree(nativeLibrary(), {
    address: zk.address,
    path: bed.path,
    sessionTimeoutMilli: 2000,
    events: { session() {}, changed() {}, watchdog() {}, fault() {} },
  });
  try {
    await tree.open(10_000);
    await makeFolders(tree, "/big");
    const fits = "x".repeat(1_000_000);
    const create = { op: "create", path: "/big/a", data: fits } as const;
    assert.equal(await tree.change([create]), "done");
    assert.equal((await tree.get("/big/a", false))?.data, fits);
    const over = { op: "set", path: "/big/a", data: `${fits}y`, version: 0 } as const;
    const error = await rejectsCode(tree.change([over]), "ARBITRATION");
    assert.match(error.message, /1000001 bytes, at most 1000000/);
    assert.equal(tree.session, "connected");
    // All or nothing, and why not.
    const parts = [{ op: "set", path: "/big/a", data: "", version: 0 }, {
      op: "create",
      path: "/big/none/a",
      data: "",
    }] as const;
    assert.equal(await tree.change(parts), "missing");
    assert.equal((await tree.get("/big/a", false))?.version, 0);
    const remove = { op: "remove", path: "/big", version: -1 } as const;
    assert.equal(await tree.change([remove]), "busy");
  } finally {
    await tree.close(5000);
  }
});

faulty("a record that is none stops whoever joins", {}, async (bed, zk) => {
  const tree = await openTree(nativeLibrary(), {
    address: zk.address,
    path: bed.path,
    sessionTimeoutMilli: 2000,
    events: { session() {}, changed() {}, watchdog() {}, fault() {} },
  });
  await tree.open(10_000);
  await makeFolders(tree, `${bed.path}/cluster_T`);
  const path = `${bed.path}/cluster_T/master`;
  await tree.change([{ op: "create", path, data: '{"candidate":"A"}' }]);
  await tree.close(5000);
  const a = await bed.member("A");
  const error = await rejectsCode(a.arbiter.join(state()), "ARBITRATION");
  assert.match(error.message, /master holds no record of a tier/);
});

faulty("a chroot that is missing is named; one that is there works", {}, async (bed, zk) => {
  const address = `${zk.address}/sub`;
  const a = await bed.member("A", { address });
  const error = await rejectsCode(a.arbiter.join(state()), "ARBITRATION");
  assert.match(error.message, /chroot/);
  const tree = await openTree(nativeLibrary(), {
    address: zk.address,
    path: "/x",
    sessionTimeoutMilli: 2000,
    events: { session() {}, changed() {}, watchdog() {}, fault() {} },
  });
  await tree.open(10_000);
  await makeFolders(tree, "/sub");
  const b = await bed.member("B", { address });
  await b.arbiter.join(state());
  assert.deepEqual(await tree.children(`/sub${bed.path}/cluster_T/classer`, false), ["B"]);
  await tree.close(5000);
});

faulty("a server that is slow to answer is waited for", {}, async (bed, zk) => {
  zk.servers[0]!.pause();
  const a = await bed.member("A", { connectTimeoutMilli: 30_000 });
  const joining = a.arbiter.join(state());
  await sleep(1500);
  zk.servers[0]!.resume();
  assert.deepEqual((await joining).members.map(({ node }) => node), ["A"]);
});

test(
  `nobody answers: ARBITRATION after the time that was given${reason}`,
  { skip: missing },
  async () => {
    const bed = makeBed("127.0.0.1:1");
    const a = await bed.member("A", { connectTimeoutMilli: 700 });
    const error = await rejectsCode(a.arbiter.join(state()), "ARBITRATION");
    assert.match(error.message, /no server of 127\.0\.0\.1:1 answers/);
    await bed.close();
    const unknown = makeBed("no-such-host.invalid:2181");
    const b = await unknown.member("B", { connectTimeoutMilli: 20_000 });
    const told = await rejectsCode(b.arbiter.join(state()), "ARBITRATION");
    assert.match(told.message, /no-such-host\.invalid/);
    await unknown.close();
  },
);

test("without the client library: NATIVE, naming package and variable", () => {
  const program = `
    import { openArbiter } from ${JSON.stringify(fileOf("../src/arbitration/open.ts"))};
    import { nativeLibrary } from ${JSON.stringify(fileOf("../src/native/library.ts"))};
    const options = { address: "127.0.0.1:1", path: "/rcm", tier: "T", node: "A" };
    try {
      await openArbiter(nativeLibrary(), { ...options, sessionTimeoutMilli: 2000 });
    } catch (error) {
      console.log(error.code, error.message);
    }`;
  const args = isBun ? ["-e", program] : ["eval", program];
  const { stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    env: { ...process.env, RCM_ZK_LIB: "/nonexistent/libzookeeper.so" },
  });
  assert.match(stdout, /^NATIVE .*libzookeeper-mt2.*RCM_ZK_LIB/, stderr);
});

const fileOf = (path: string) => fileURLToPath(new URL(path, import.meta.url));
