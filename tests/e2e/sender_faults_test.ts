/**
 * Senders that are killed, paused, cut off or stopped: receivers are told exactly that, and what
 * was accepted arrives once the sender is back.
 */

import assert from "node:assert/strict";
import { e2e, LIMIT_MS, type Node, sleep, until } from "./harness/driver.ts";
import { txStats } from "./harness/stats.ts";

const T = { topic: "t" } as const;
const TX = { context: "tx", ...T } as const;
const STREAM = { from: "tx", ...T, partition: 1 } as const;
const HEARTBEAT_TIMEOUT_MS = 2000;
const SLACK_MS = 1500;

/** What events tell of transmitters, oldest first. */
function transmitterEvents(node: Node): string[] {
  const types = ["HEARTBEAT_TIMEOUT", "NO_TRANSMITTER", "NEW_TRANSMITTER", "MESSAGE_LOSS"];
  return node.events.filter(({ type }) => types.includes(type)).map(({ type, peer }) =>
    `${type} ${peer}`
  );
}

function assertArguments(node: Node, context: string): void {
  for (const event of node.events) {
    if (event.type === "FILL_GAP") continue;
    assert.deepEqual(
      [event.context, event.topic, event.partition, event.lossStart, event.lossEnd],
      [context, "t", 1, 0, 0],
      event.type,
    );
  }
}

e2e("a sender is killed and started again: all that it accepted arrives, once", async (bed) => {
  const config = bed.config({
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      { Name: "rx1", RxTopics: [{ Name: "t" }] },
      { Name: "rx2", RxTopics: [{ Name: "t" }] },
    ],
  });
  const rx1 = await bed.node("deno", config);
  const rx2 = await bed.node("bun", config);
  const first = await bed.node("deno", config);
  await Promise.all([rx1.receiver("rx1"), rx2.receiver("rx2"), first.sender("tx")]);
  assert.equal(await first.call("connected", { ...TX, receivers: 2, timeoutMs: LIMIT_MS }), true);
  const run = { seed: 51, sizes: { kind: "mixed", seed: 52 } } as const;
  // In full flow, so that some of what was accepted has not been sent.
  void first.call("send", { ...TX, ...run, count: 1_000_000 }).catch(() => {});
  await rx1.received("rx1", 20_000);
  await first.kill();
  const killedAt = Date.now();
  for (const [node, context] of [[rx1, "rx1"], [rx2, "rx2"]] as const) {
    const gone = await node.event({ type: "NO_TRANSMITTER", peer: "tx" });
    assert.ok(gone.ms - killedAt < HEARTBEAT_TIMEOUT_MS + SLACK_MS);
    assert.ok(gone.ms - killedAt > HEARTBEAT_TIMEOUT_MS - SLACK_MS);
    assertArguments(node, context);
  }

  const second = await bed.node("bun", config);
  await second.sender("tx");
  const { CurrentMsgNo: accepted } = await txStats(second, "tx");
  assert.ok(accepted >= 20_000);
  assert.equal(await second.call("connected", { ...TX, receivers: 2, timeoutMs: LIMIT_MS }), true);
  await second.call("send", { ...TX, ...run, first: accepted, count: 1000 });
  const all = { ...run, count: accepted + 1000 };
  for (const [node, context] of [[rx1, "rx1"], [rx2, "rx2"]] as const) {
    await node.received(context, all.count);
    await node.check(context, [{ ...STREAM, runs: [all] }]);
    assert.deepEqual(transmitterEvents(node), [
      "NEW_TRANSMITTER tx",
      "HEARTBEAT_TIMEOUT tx",
      "NO_TRANSMITTER tx",
      "NEW_TRANSMITTER tx",
    ]);
    assertArguments(node, context);
  }
  await second.log({ key: 20065 });
  await Promise.all([rx1, rx2, second].map((node) => node.close()));
});

e2e("a sender paused for longer than HeartbeatTimeoutMilli goes on where it was", async (bed) => {
  const config = bed.config({
    contexts: [
      { Name: "tx", TxTopics: [{ Name: "t" }] },
      { Name: "rx", RxTopics: [{ Name: "t" }] },
    ],
  });
  const rx = await bed.node("bun", config);
  const tx = await bed.node("deno", config);
  await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
  assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
  const run = { seed: 53, sizes: { kind: "mixed", seed: 1 }, count: 20_000 } as const;
  const sending = tx.call("send", { ...TX, ...run, perSecond: 10_000 });
  await rx.received("rx", 2000);
  tx.freeze();
  await rx.event({ type: "NO_TRANSMITTER", peer: "tx" });
  await sleep(2 * HEARTBEAT_TIMEOUT_MS);
  tx.thaw();
  assert.equal((await sending).sent, run.count);
  await rx.received("rx", run.count);
  await rx.check("rx", [{ ...STREAM, runs: [run] }]);
  assert.deepEqual(transmitterEvents(rx), [
    "NEW_TRANSMITTER tx",
    "HEARTBEAT_TIMEOUT tx",
    "NO_TRANSMITTER tx",
    "NEW_TRANSMITTER tx",
  ]);
  assertArguments(rx, "rx");
  await Promise.all([rx, tx].map((node) => node.close()));
});

e2e("NO_TRANSMITTER comes when the last of two senders is gone", async (bed) => {
  const TxTopics = [{ Name: "t" }];
  const config = bed.config({
    contexts: [
      { Name: "a", TxTopics },
      { Name: "b", TxTopics },
      { Name: "rx", RxTopics: [{ Name: "t" }] },
    ],
  });
  const rx = await bed.node("deno", config);
  const a = await bed.node("bun", config);
  const b = await bed.node("deno", config);
  await rx.receiver("rx");
  const run = { seed: 54, sizes: { kind: "fixed", bytes: 50 }, count: 100 } as const;
  for (const [node, context] of [[a, "a"], [b, "b"]] as const) {
    await node.sender(context);
    await node.call("connected", { context, ...T, receivers: 1, timeoutMs: LIMIT_MS });
    await node.call("send", { context, ...T, ...run });
  }
  await rx.received("rx", 200);
  await a.kill();
  await rx.event({ type: "HEARTBEAT_TIMEOUT", peer: "a" });
  // Once a silence: it stays silent, and is not told of again.
  await sleep(HEARTBEAT_TIMEOUT_MS + 500);
  await b.close();
  await rx.event({ type: "NO_TRANSMITTER" });
  await sleep(HEARTBEAT_TIMEOUT_MS + 500);
  assert.deepEqual(transmitterEvents(rx), [
    "NEW_TRANSMITTER a",
    "NEW_TRANSMITTER b",
    "HEARTBEAT_TIMEOUT a",
    "NO_TRANSMITTER b",
  ]);
  assertArguments(rx, "rx");
  await rx.log({ key: 21064 });
  await rx.check("rx", ["a", "b"].map((from) => ({ ...STREAM, from, runs: [run] })));
  await rx.close();
});

e2e("a cable is pulled and put in again: both ends are told, nothing is lost", async (bed) => {
  const [senderHost, receiverHost] = bed.hosts(2);
  const config = bed.config({
    contexts: [
      { Name: "tx", Ip: senderHost!.ip, TxTopics: [{ Name: "t" }] },
      { Name: "rx", Ip: "10.99.0.0/24", RxTopics: [{ Name: "t" }] },
    ],
  });
  const rx = await bed.node("bun", config, { host: receiverHost! });
  const tx = await bed.node("deno", config, { host: senderHost! });
  await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
  assert.equal(await tx.call("connected", { ...TX, receivers: 1, timeoutMs: LIMIT_MS }), true);
  const run = { seed: 55, sizes: { kind: "mixed", seed: 2 }, count: 30_000 } as const;
  const sending = tx.call("send", { ...TX, ...run, perSecond: 5000 });
  await rx.received("rx", 3000);
  receiverHost!.setLink(false);
  await rx.event({ type: "HEARTBEAT_TIMEOUT", peer: "tx" });
  await tx.event({ type: "NO_RECEIVER", peer: "rx" });
  await sleep(1000);
  receiverHost!.setLink(true);
  await rx.event({ type: "NEW_TRANSMITTER", peer: "tx" }, 2);
  assert.equal((await sending).sent, run.count);
  await rx.received("rx", run.count);
  await rx.check("rx", [{ ...STREAM, runs: [run] }]);
  assert.ok(!rx.events.some(({ type }) => type === "MESSAGE_LOSS"));
  assertArguments(rx, "rx");
  assertArguments(tx, "tx");
  await until(
    async () => (await txStats(tx, "tx")).FirstMsgNo === run.count,
    () => "all is acknowledged",
  );
  await Promise.all([rx, tx].map((node) => node.close()));
}, { network: true });
