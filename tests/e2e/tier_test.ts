/** A tier of real processes, Deno and Bun mixed, by `local:` arbitration on this machine. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { type Bed, e2e, LIMIT_MS, type Node } from "./harness/driver.ts";
import { checkTier, makeTier, type Tier } from "./harness/tier.ts";

const SIZES = { kind: "mixed", seed: 5, bytes: 3000 } as const;
const ENDLESS = 1_000_000_000;

function local(bed: Bed) {
  return { address: `local:${join(bed.folder, "arbiter")}`, path: "/rcm" };
}

/** Everything that a sender's calls accepted: it has halted, and the tier has committed it all. */
async function finish(
  tier: Tier,
  place: number,
  sent: Promise<{ sent: number }>,
  node: Node,
): Promise<number> {
  const where = { context: tier.senders[place]!, topic: "t" };
  await node.call("halt", where);
  const { sent: count } = await sent;
  const flushed = await node.call("flush", { ...where, timeoutMs: LIMIT_MS });
  assert.equal(flushed, true, "the tier committed everything");
  return count;
}

e2e("three members agree while the leader is killed twice and comes back", async (bed) => {
  const tier = makeTier(bed, { members: 3, senders: 2, arbitration: local(bed) });
  await Promise.all([0, 1, 2].map((place) => tier.start(place)));
  await tier.settled();
  const senders = [await tier.sender(0), await tier.sender(1)];
  const runs = senders.map((node, place) =>
    node.call("send", {
      context: tier.senders[place]!,
      topic: "t",
      seed: 11 + place,
      sizes: SIZES,
      count: ENDLESS,
      perSecond: 5000,
    })
  );
  await tier.delivered("s1", 5000);
  await tellsOfItsTier(tier, await tier.settled());
  for (let round = 0; round < 2; round += 1) {
    const place = await tier.settled();
    const before = await sentOf(tier, place);
    await tier.kill(place);
    await tier.settled();
    await tier.delivered("s1", before + 5000);
    await tier.start(place);
    await tier.settled();
    await tier.delivered("s2", before + 5000);
  }
  const counts = await Promise.all(
    senders.map((node, place) => finish(tier, place, runs[place]!, node)),
  );
  await tier.delivered("s1", counts[0]!);
  await tier.delivered("s2", counts[1]!);
  for (const { node, name } of tier.members) await node!.call("stop", { context: name });
  const history = checkTier(tier, { s1: counts[0]!, s2: counts[1]! });
  assert.equal(history.lives, 5);
});

e2e("what a tier sends arrives once, whoever of it sends it", async (bed) => {
  const tier = makeTier(bed, {
    members: 3,
    senders: 1,
    arbitration: local(bed),
    forward: "u",
  });
  const sink = await bed.node("deno", tier.config);
  await sink.receiver("sink");
  await Promise.all([0, 1, 2].map((place) => tier.start(place)));
  await tier.settled();
  const sender = await tier.sender(0);
  const sent = sender.call("send", {
    context: "s1",
    topic: "t",
    seed: 21,
    sizes: SIZES,
    count: ENDLESS,
    perSecond: 3000,
  });
  await sink.received("sink", 3000);
  for (let round = 0; round < 2; round += 1) {
    const place = await tier.settled();
    await tier.kill(place);
    await tier.settled();
    const { messages } = await sink.call("counts", { context: "sink" });
    await sink.received("sink", messages + 3000);
    await tier.start(place);
    await tier.settled();
  }
  const count = await finish(tier, 0, sent, sender);
  await tier.delivered("s1", count);
  await sink.received("sink", count);
  const { messages, wrong, streams } = await sink.call("counts", { context: "sink" });
  assert.deepEqual({ messages, wrong, streams: streams.length }, {
    messages: count,
    wrong: 0,
    streams: 1,
  });
  const { from, topic, lastNo } = streams[0]!;
  assert.deepEqual({ from, topic, lastNo }, { from: "tier", topic: "u", lastNo: count - 1 });
  assert.ok(!sink.events.some(({ type }) => type === "MESSAGE_LOSS"), "nothing was lost");
  checkTier(tier, { s1: count });
});

/** Guide 9.13.4: `Tier.Deliver`, `Send` and its `Ack`, at the leader. */
async function tellsOfItsTier(tier: Tier, place: number): Promise<void> {
  const { name, node } = tier.members[place]!;
  const told = (await node!.statistics(name))["Tier"] as {
    Deliver: Record<string, unknown>;
    Send: { ToSendMsgSqn: number; Ack: { Context: string; MsgNo: number }[] };
  };
  assert.equal(told.Deliver["TierName"], "tier");
  assert.equal(told.Deliver["Role"], "Active");
  assert.ok(Number(told.Deliver["CommittedSqn"]) >= 5000);
  assert.ok(told.Send.ToSendMsgSqn >= Number(told.Deliver["CommittedSqn"]));
  const others = tier.members.map((member) => member.name).filter((other) => other !== name);
  assert.deepEqual(told.Send.Ack.map(({ Context }) => Context).sort(), others);
  assert.ok(told.Send.Ack.some(({ MsgNo }) => MsgNo >= 5000), "a commit waits for one of them");
}

async function sentOf(tier: Tier, place: number): Promise<number> {
  const member = tier.members[place]!;
  const { streams } = await member.node!.call("counts", { context: member.name });
  return streams.find(({ from }) => from === "s1")?.lastNo ?? 0;
}
