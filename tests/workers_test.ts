/**
 * Contexts in Workers: two of them and the main thread send to each other; a Worker may also be
 * ended in the middle of it all without harm to the others.
 */

import assert from "node:assert/strict";
import test from "node:test";
import { deleteRcmFactory, newRcmFactory, type RcmConfigInput, RcmStatus } from "../mod.ts";
import { type Bus, collect, type Got, makeBus, until } from "./api_bus.ts";
import type { Answer, Talk } from "./workers_talker.ts";

const MESSAGES = 3000;

/** A Worker that talks, and what it has said so far. */
interface Talker {
  readonly answers: Answer[];
  talk(talk: Talk): void;
  end(): void;
}

function talker(): Talker {
  const worker = new Worker(new URL("./workers_talker.ts", import.meta.url), { type: "module" });
  const answers: Answer[] = [];
  worker.onmessage = ({ data }) => void answers.push(data as Answer);
  worker.onerror = (error) => void answers.push({ kind: "failed", text: error.message });
  return {
    answers,
    talk: (talk) => worker.postMessage(talk),
    end: () => worker.terminate(),
  };
}

const talkOf = (bus: Bus, context: string, others: number): Talk => ({
  config: bus.config,
  workDir: bus.workDir,
  prefix: bus.prefix,
  context,
  receivers: others,
  messages: MESSAGES,
  senders: others,
});

/** Three contexts that each send to topic "t" and receive it from all, themselves included. */
function threeTalkers(): Bus {
  const both = { TxTopics: [{ Name: "t" }], RxTopics: [{ Name: "t" }] };
  return makeBus({
    nodes: ["tx1", "tx2", "both"],
    transport: { AckTimeoutMilli: 2000, HeartbeatTimeoutMilli: 2000 },
    contexts: { tx1: both, tx2: both },
  });
}

const failures = (talkers: readonly Talker[]) =>
  talkers.flatMap(({ answers }) => answers).filter(({ kind }) => kind === "failed");

async function answered(talkers: readonly Talker[], kind: Answer["kind"]): Promise<void> {
  await until(
    () =>
      failures(talkers).length > 0 ||
      talkers.every(({ answers }) => answers.some((answer) => answer.kind === kind)),
    `every Worker says ${kind}`,
  );
  assert.deepEqual(failures(talkers), []);
}

/** Every sender's messages came in order, none twice, none missing. */
function assertWhole(got: readonly Got[], senders: readonly string[]): void {
  for (const from of senders) {
    const texts = got.filter((one) => one.from === from).map(({ text }) => text);
    assert.deepEqual(texts, Array.from({ length: MESSAGES }, (_, i) => `${from} ${i}`));
  }
  assert.equal(got.length, senders.length * MESSAGES);
  assert.deepEqual(got.map(({ sqn }) => sqn), got.map((_, i) => i));
}

test("two Workers and the main thread send to each other", async () => {
  const bus = threeTalkers();
  const talkers = [talker(), talker()];
  try {
    const [first, second] = talkers as [Talker, Talker];
    first.talk(talkOf(bus, "tx1", 3));
    second.talk(talkOf(bus, "tx2", 3));
    const context = bus.factory().newRcmContext("both");
    const tx = context.createTransmitter("t");
    const got: Got[] = [];
    context.createReceiver(collect(got));
    await context.start();
    assert.equal(await tx.connected(3, 20_000), true);
    for (let i = 0; i < MESSAGES; i += 1) {
      while (tx.sendData(`both ${i}`) === RcmStatus.WOULD_BLOCK) await tx.ready();
      if (i % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await until(() => got.length === 3 * MESSAGES, "everything comes to the main thread");
    assertWhole(got, ["tx1", "tx2", "both"]);
    await answered(talkers, "got");
    for (const { answers } of talkers) {
      const found = answers.find((answer) => answer.kind === "got");
      assert.deepEqual(found?.kind === "got" ? found.wrong : null, []);
    }
    // They stop while the main thread's context still runs, and the other way round.
    first.talk({ ...talkOf(bus, "tx1", 3), stop: true });
    await answered([first], "stopped");
    await bus.close();
    second.talk({ ...talkOf(bus, "tx2", 3), stop: true });
    await answered([second], "stopped");
  } finally {
    for (const { end } of talkers) end();
    await bus.close();
  }
});

test("a Worker that is ended in the middle harms nobody", async () => {
  const bus = threeTalkers();
  const doomed = talker();
  try {
    doomed.talk(talkOf(bus, "tx1", 2));
    const context = bus.factory().newRcmContext("both");
    const tx = context.createTransmitter("t");
    const got: Got[] = [];
    context.createReceiver(collect(got));
    await context.start();
    assert.equal(await tx.connected(2, 20_000), true);
    // What it hears of the Worker's context shows that it is in full flow.
    await until(() => got.some(({ from }) => from === "tx1"), "the Worker sends");
    doomed.end();
    const before = got.filter(({ from }) => from === "both").length;
    for (let i = 0; i < MESSAGES; i += 1) {
      while (tx.sendData(`both ${i}`) === RcmStatus.WOULD_BLOCK) await tx.ready(1000);
      if (i % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await until(
      () => got.filter(({ from }) => from === "both").length === before + MESSAGES,
      "the main thread's context goes on",
    );
    await context.stop();
  } finally {
    doomed.end();
    await bus.close();
  }
});

test("eight contexts of one process send to each other", async () => {
  const names = Array.from({ length: 8 }, (_, i) => `node${i}`);
  const bus = makeBus({ all: { MaxMemoryAllowedMBytes: 2, ReceiveMemoryMBytes: 8 } });
  const { Rcm } = bus.config as unknown as { Rcm: { Contexts: object[]; Transports: object[] } };
  const Contexts = names.map((Name, i) => ({
    ...Rcm.Contexts[0]!,
    Name,
    Id: i + 1,
    TxTopics: [{ Name: "t" }],
    RxTopics: [{ Name: "t" }],
  }));
  const config = { Rcm: { ...Rcm, Contexts } } as unknown as RcmConfigInput;
  const factory = newRcmFactory(config, bus.workDir, "en_US");
  factory.setFilePrefix(bus.prefix);
  const messages = 100;
  try {
    const nodes = names.map((name) => {
      const context = factory.newRcmContext(name);
      const got: Got[] = [];
      const tx = context.createTransmitter("t");
      context.createReceiver(collect(got));
      return { name, context, tx, got };
    });
    await Promise.all(nodes.map(({ context }) => context.start()));
    const connected = await Promise.all(nodes.map(({ tx }) => tx.connected(8, 20_000)));
    assert.ok(connected.every((is) => is));
    for (let i = 0; i < messages; i += 1) {
      for (const { name, tx } of nodes) assert.equal(tx.sendData(`${name} ${i}`), RcmStatus.OK);
    }
    await until(
      () => nodes.every(({ got }) => got.length === names.length * messages),
      "everybody gets everything",
    );
    for (const { got } of nodes) {
      for (const name of names) {
        const texts = got.filter(({ from }) => from === name).map(({ text }) => text);
        assert.deepEqual(texts, Array.from({ length: messages }, (_, i) => `${name} ${i}`));
      }
    }
    await Promise.all(nodes.map(({ context }) => context.stop()));
  } finally {
    await deleteRcmFactory(factory);
    await bus.close();
  }
});
