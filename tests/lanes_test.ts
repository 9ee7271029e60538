/**
 * Lanes (guide 7.2.7; rules 18, 19, 20, 27): a topic each, on the context's own thread and in
 * Workers, with real sockets and with windows that are read in place.
 */

import assert from "node:assert/strict";
import test from "node:test";
import {
  openLane,
  type RcmContext,
  type RcmFactory,
  type RcmLaneToken,
  RcmReliability,
  RcmStatus,
  type RcmTransmitter,
} from "../mod.ts";
import {
  type BusOptions,
  collect,
  type Got,
  LIMIT_MS,
  rejectsCode,
  throwsCode,
  until,
  withBus,
} from "./api_bus.ts";
import type { Answer, Taken, Task } from "./lanes_worker.ts";

const TOPICS = ["a", "b"];
const named = TOPICS.map((Name) => ({ Name }));
const LANES: BusOptions = {
  topics: TOPICS,
  contexts: {
    tx1: { TxTopics: named },
    rx1: { RxTopics: named, IsTotalOrder: 0 },
  },
};
const SHARED: BusOptions = {
  ...LANES,
  transport: { UseSharedMemory: 1, Addr: undefined, Port: undefined },
  all: { Ip: undefined },
  contexts: {
    tx1: { TxTopics: named },
    rx1: { RxTopics: named, IsTotalOrder: 0, ShmContext: "tx1" },
  },
};
const WAYS: readonly (readonly [string, BusOptions])[] = [
  ["datagrams", LANES],
  ["shared memory", SHARED],
];

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const texts = (topic: string, from: number, to: number) =>
  numbers(from, to).map((no) => `${topic}${no}`);

/** A Worker, and what it has answered. */
interface Taking {
  readonly answers: Answer[];
  tell(task: Task): void;
  /** Gives it a task and waits for its answer. */
  ask(task: Task): Promise<Answer>;
  taken(): Promise<readonly Taken[]>;
  end(): void;
}

function startWorker(): Taking {
  const worker = new Worker(new URL("./lanes_worker.ts", import.meta.url), { type: "module" });
  const answers: Answer[] = [];
  worker.onmessage = ({ data }) => void answers.push(data as Answer);
  worker.onerror = ({ message }) =>
    void answers.push({ did: "failed", result: 0, taken: [], text: String(message) });
  const ask = async (task: Task) => {
    const have = answers.length;
    worker.postMessage(task);
    const isDue = ({ did }: Answer) => did === task.do || did === "failed";
    await until(() => answers.slice(have).some(isDue), `a Worker's answer to ${task.do}`);
    const answer = answers.slice(have).find(isDue)!;
    assert.equal(answer.did, task.do, answer.text);
    return answer;
  };
  return {
    answers,
    tell: (task) => worker.postMessage(task),
    ask,
    taken: async () => (await ask({ do: "tell" })).taken,
    end: () => worker.terminate(),
  };
}

async function withWorkers(
  count: number,
  run: (workers: readonly Taking[]) => Promise<void>,
): Promise<void> {
  const workers = Array.from({ length: count }, startWorker);
  try {
    await run(workers);
  } finally {
    for (const { end } of workers) end();
  }
}

interface Scene {
  readonly rx: RcmContext;
  readonly tx: readonly RcmTransmitter[];
  /** What the receiving context's own thread got. */
  readonly got: Got[];
}

async function open(factory: RcmFactory): Promise<Scene> {
  const got: Got[] = [];
  const rx = factory.newRcmContext("rx1");
  rx.createReceiver(collect(got), "main");
  await rx.start();
  return { rx, got, tx: await openSenders(factory) };
}

async function openSenders(factory: RcmFactory): Promise<RcmTransmitter[]> {
  const sender = factory.newRcmContext("tx1");
  const tx = TOPICS.map((topic, at) => sender.createTransmitter(topic, null, 100 + at));
  await sender.start();
  for (const one of tx) assert.equal(await one.connected(1, 10_000), true);
  return tx;
}

/** Messages `from`..`to - 1` of each topic, one after the other. */
async function send(tx: readonly RcmTransmitter[], from: number, to: number): Promise<void> {
  for (let i = from; i < to; i += 1) {
    for (const [at, one] of tx.entries()) {
      while (one.sendData(`${TOPICS[at]}${i}`) === RcmStatus.WOULD_BLOCK) await one.ready();
    }
  }
}

async function untilTaken(worker: Taking, count: number): Promise<readonly Taken[]> {
  const deadline = performance.now() + LIMIT_MS;
  for (;;) {
    const taken = await worker.taken();
    if (taken.length >= count) return taken;
    if (performance.now() > deadline) assert.fail(`${taken.length} of ${count} messages taken`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const ofTopic = (got: readonly Got[], topic: string) => got.filter((one) => one.topic === topic);

for (const way of WAYS) {
  test(`rules 18, 19: one thread takes all lanes (${way[0]})`, () =>
    withBus(way[1], async (_bus, factory) => {
      const { rx, tx, got } = await open(factory);
      assert.equal(rx.getReliability(), RcmReliability.NOT_ORDERED);
      await send(tx, 0, 3000);
      await until(() => got.length >= 6000, "all messages");
      for (const [at, topic] of TOPICS.entries()) {
        const own = ofTopic(got, topic);
        assert.deepEqual(own.map(({ text }) => text), texts(topic, 0, 3000));
        assert.deepEqual(own.map(({ sqn }) => sqn), numbers(0, 3000));
        assert.deepEqual(own.map(({ txMsgNo }) => txMsgNo), numbers(0, 3000));
        assert.ok(own.every(({ threadNo, txArg }) => threadNo === at && txArg === 100 + at));
      }
      for (const one of tx) assert.equal(await one.flush(10_000), true);
      const { Deliver } = JSON.parse(factory.getStatistics('{"Context":"rx1"}')).ctxs[0].Tier;
      assert.equal(Deliver.MsgsDelivered, 6000);
    }));

  test(`two lanes in two Workers (${way[0]})`, () =>
    withWorkers(2, (workers) =>
      withBus(way[1], async (_bus, factory) => {
        const { rx, tx, got } = await open(factory);
        await Promise.all(
          workers.map((worker, no) => worker.ask({ do: "open", token: rx.laneToken(no) })),
        );
        await send(tx, 0, 5000);
        for (const [no, worker] of workers.entries()) {
          const topic = TOPICS[no]!;
          const taken = await untilTaken(worker, 5000);
          assert.deepEqual(taken.map(({ text }) => text), texts(topic, 0, 5000));
          assert.deepEqual(taken.map(({ sqn }) => sqn), numbers(0, 5000));
          assert.deepEqual({ ...taken[4999], text: "" }, {
            text: "",
            sqn: 4999,
            topic,
            partitionNo: 1,
            from: "tx1",
            txMsgNo: 4999,
            threadNo: no,
            txArg: 100 + no,
            user: "worker",
          });
          assert.equal((await worker.ask({ do: "ack", sqn: 4999 })).result, RcmStatus.OK);
          assert.equal((await worker.ask({ do: "ack", sqn: 5000 })).result, RcmStatus.BAD_ARGUMENT);
        }
        assert.deepEqual(got, []);
        for (const one of tx) assert.equal(await one.flush(10_000), true);
        await rx.stop();
      })));
}

test("a lane that stands still holds no other one", () =>
  withWorkers(1, ([worker]) =>
    withBus(LANES, async (_bus, factory) => {
      const { rx, tx, got } = await open(factory);
      await worker!.ask({
        do: "open",
        token: rx.laneToken(0),
        stuckAt: 10,
        stuckHow: "promise",
      });
      await send(tx, 0, 2000);
      await until(() => got.length >= 2000, "the other lane's messages");
      assert.deepEqual(got.map(({ text }) => text), texts("b", 0, 2000));
      assert.equal((await worker!.taken()).length, 10);
      await worker!.ask({ do: "go on" });
      const taken = await untilTaken(worker!, 2000);
      assert.deepEqual(taken.map(({ text }) => text), texts("a", 0, 2000));
    })));

test("rule 20: refusals of a handler in a Worker are counted and told, nothing is skipped", () =>
  withWorkers(1, ([worker]) =>
    withBus(LANES, async (bus, factory) => {
      const { rx, tx } = await open(factory);
      await worker!.ask({ do: "open", token: rx.laneToken(1), refusals: 3 });
      await send(tx, 0, 35);
      const taken = await untilTaken(worker!, 35);
      assert.deepEqual(taken.map(({ text }) => text), texts("b", 0, 35));
      const statistics = () => JSON.parse(factory.getStatistics('{"Context":"rx1"}')).ctxs[0];
      await until(() => statistics().RefusedCount === 12, "4 messages, 3 times each");
      await until(() => bus.lines.some(({ key }) => key === 23002), "a line");
      const line = bus.lines.find(({ key }) => key === 23002)!;
      assert.match(line.content, /not 0/);
    })));

test("rule 20: on the context's own thread a refusal or a promise holds its lane only", () =>
  withBus(LANES, async (_bus, factory) => {
    const got: string[] = [];
    let refusals = 0;
    let settle: () => void = () => {};
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({
      onMessage(data) {
        const text = new TextDecoder().decode(data);
        if (text === "a5" && refusals < 20) {
          refusals += 1;
          return -1;
        }
        got.push(text);
        if (text === "a7") return new Promise<void>((resolve) => settle = resolve);
        return undefined;
      },
    });
    await rx.start();
    const tx = await openSenders(factory);
    await send(tx, 0, 100);
    await until(() => got.filter((text) => text.startsWith("b")).length === 100, "the other lane");
    await until(() => got.includes("a7"), "the refused one, and on");
    assert.equal(refusals, 20);
    assert.equal(got.includes("a8"), false);
    settle();
    await until(() => got.length === 200, "all");
    assert.deepEqual(got.filter((text) => text.startsWith("a")), texts("a", 0, 100));
  }));

test("a Worker that ends gives its lane back, with what it has not processed", () =>
  withWorkers(2, ([first, second]) =>
    withBus(LANES, async (_bus, factory) => {
      const { rx, tx, got } = await open(factory);
      const token = rx.laneToken(0);
      await first!.ask({ do: "open", token, stuckAt: 50, stuckHow: "promise" });
      await send(tx, 0, 500);
      await until(() => first!.answers.some(({ did }) => did === "stuck"), "it works on a message");
      await until(() => ofTopic(got, "b").length === 500, "the other lane");
      assert.deepEqual(ofTopic(got, "a"), []);
      first!.end();
      await until(() => ofTopic(got, "a").length > 0, "the lane is back");
      // What the batch had processed was not told any more: it comes again, as after a crash.
      await until(() => ofTopic(got, "a").at(-1)?.text === "a499", "the rest");
      const back = ofTopic(got, "a").map(({ sqn }) => sqn);
      assert.ok(back[0]! <= 50, `${back[0]}`);
      assert.deepEqual(back, numbers(back[0]!, 500));
      // And another one may have it.
      await second!.ask({ do: "open", token });
      await send(tx, 500, 600);
      const taken = await untilTaken(second!, 100);
      assert.deepEqual(taken.map(({ sqn }) => sqn), numbers(500, 600));
      await second!.ask({ do: "close" });
      await send(tx, 600, 700);
      await until(() => ofTopic(got, "a").at(-1)?.text === "a699", "the context's own again");
    })));

test("a lane that is polled", () =>
  withWorkers(1, ([worker]) =>
    withBus(LANES, async (_bus, factory) => {
      const { rx, tx } = await open(factory);
      await worker!.ask({ do: "open", token: rx.laneToken(0), delivery: "poll" });
      await send(tx, 0, 100);
      for (const one of tx) assert.equal(await one.flush(10_000), true);
      assert.equal((await worker!.taken()).length, 0);
      let polled = (await worker!.ask({ do: "poll", limit: 30 })).result;
      assert.equal(polled, 30);
      while (polled < 100) polled += (await worker!.ask({ do: "poll" })).result;
      const taken = await worker!.taken();
      assert.deepEqual(taken.map(({ text }) => text), texts("a", 0, 100));
    })));

test("rule 8: no handler of a Worker runs after stop", () =>
  withWorkers(2, (workers) =>
    withBus(LANES, async (_bus, factory) => {
      const { rx, tx } = await open(factory);
      const tokens = TOPICS.map((_, no) => rx.laneToken(no));
      await Promise.all(
        workers.map((worker, no) => worker.ask({ do: "open", token: tokens[no]! })),
      );
      let sending = true;
      const sent = (async () => {
        for (let i = 0; sending; i += 1) {
          await send(tx, i, i + 1);
          if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve));
        }
      })();
      for (const worker of workers) await untilTaken(worker, 500);
      await rx.stop();
      const after = await Promise.all(workers.map((worker) => worker.taken()));
      sending = false;
      await sent;
      const later = await Promise.all(workers.map((worker) => worker.taken()));
      assert.deepEqual(later.map(({ length }) => length), after.map(({ length }) => length));
      for (const [no, worker] of workers.entries()) {
        const topic = TOPICS[no]!;
        assert.deepEqual(later[no]!.map(({ text }) => text), texts(topic, 0, later[no]!.length));
        assert.equal((await worker.ask({ do: "ack", sqn: 0 })).result, RcmStatus.STOPPED);
        await worker.ask({ do: "close" });
      }
      throwsCode(() => openLane(tokens[0]!, { onMessage() {} }), "STATE");
    })));

test("rule 8: a handler that hangs in a Worker does not hold stop for ever", () =>
  withWorkers(1, ([worker]) =>
    withBus(LANES, async (_bus, factory) => {
      const { rx, tx } = await open(factory);
      await worker!.ask({ do: "open", token: rx.laneToken(0), stuckAt: 0 });
      await send(tx, 0, 1);
      await until(() => worker!.answers.some(({ did }) => did === "stuck"), "it hangs");
      await rx.stop();
    })));

test("rules 24, 26: polled and iterated, all lanes come", () =>
  withBus({ ...LANES, nodes: ["tx1", "rx1"] }, async (_bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got), null, { delivery: "poll" });
    await rx.start();
    const tx = await openSenders(factory);
    await send(tx, 0, 400);
    await until(() => rx.poll() >= 0 && got.length >= 800, "all messages");
    for (const topic of TOPICS) {
      assert.deepEqual(ofTopic(got, topic).map(({ text }) => text), texts(topic, 0, 400));
    }
    await rx.stop();

    const next = factory.newRcmContext("rx1");
    const receiver = next.createReceiver(null, null, { delivery: "iterate" });
    await next.start();
    for (const one of tx) assert.equal(await one.connected(1, 10_000), true);
    await send(tx, 400, 500);
    const seen: string[] = [];
    for await (const { data, topicName, threadNo } of receiver) {
      assert.equal(TOPICS[threadNo], topicName);
      const text = new TextDecoder().decode(data);
      if (Number(text.slice(1)) < 400) continue;
      if (seen.push(text) === 200) break;
    }
    for (const topic of TOPICS) {
      assert.deepEqual(seen.filter((text) => text.startsWith(topic)), texts(topic, 400, 500));
    }
  }));

test("an inline context with lanes", () =>
  withBus(
    {
      ...LANES,
      contexts: { ...LANES.contexts, rx1: { ...LANES.contexts!["rx1"], Threading: "inline" } },
    },
    async (_bus, factory) => {
      const got: Got[] = [];
      const rx = factory.newRcmContext("rx1");
      rx.createReceiver(collect(got), null, { delivery: "poll" });
      await rx.start();
      const timer = setInterval(() => rx.poll(), 1);
      try {
        const tx = await openSenders(factory);
        await send(tx, 0, 1000);
        await until(() => got.length >= 2000, "all messages");
        for (const topic of TOPICS) {
          assert.deepEqual(ofTopic(got, topic).map(({ text }) => text), texts(topic, 0, 1000));
        }
      } finally {
        clearInterval(timer);
      }
    },
  ));

const TWO: BusOptions = {
  ...LANES,
  nodes: ["tx1", "rx1", "rx2"],
  contexts: { ...LANES.contexts, rx2: { RxTopics: named } },
};

test("what laneToken and openLane refuse", () =>
  withBus(TWO, async (bus, factory) => {
    const { rx } = await open(factory);
    const callback = { onMessage() {} };
    throwsCode(() => rx.laneToken(2), "ARGUMENT");
    throwsCode(() => rx.laneToken(-1), "ARGUMENT");
    throwsCode(() => rx.laneToken(0.5), "ARGUMENT");
    const token = rx.laneToken(1);
    assert.deepEqual(structuredClone(token), token);
    const lane = openLane(token, callback);
    assert.equal(lane.threadNo, 1);
    assert.equal(lane.poll(), 0);
    throwsCode(() => openLane(token, callback), "STATE");
    await lane[Symbol.asyncDispose]();
    assert.equal(lane.sendAck(0), RcmStatus.STOPPED);
    await using again = openLane(token, callback, null, { delivery: "poll" });
    assert.equal(again.sendAck(0), RcmStatus.BAD_ARGUMENT);
    assert.equal(again.poll(), 0);
    const other = rx.laneToken(0);
    const wrong: unknown[] = [
      null,
      {},
      { ...other, kind: "rcm-sender" },
      { ...other, abi: "00000000-1" },
      { ...other, abi: `${other.abi}x` },
      { ...other, handle: -1 },
      { ...other, threadNo: -1 },
    ];
    for (const one of wrong) {
      throwsCode(() => openLane(one as RcmLaneToken, callback), "ARGUMENT");
    }
    throwsCode(() => openLane({ ...other, threadNo: 7 }, callback), "ARGUMENT");
    throwsCode(() => openLane(other, null as unknown as typeof callback), "ARGUMENT");
    throwsCode(() => openLane(other, callback, null, { delivery: "iterate" }), "ARGUMENT");
    const ordered = factory.newRcmContext("rx2");
    throwsCode(() => ordered.laneToken(0), "ARGUMENT");
    await rx.stop();
    throwsCode(() => rx.laneToken(0), "STATE");
    throwsCode(() => openLane(other, callback), "STATE");
    assert.equal(bus.lines.filter(({ key }) => key === 23011).length, 0);
  }));

test("without a total order nothing is recorded, and that is said", () =>
  withBus(
    { ...LANES, contexts: { ...LANES.contexts, rx1: { ...LANES.contexts!["rx1"], IsRecord: 1 } } },
    async (bus, factory) => {
      const { tx, got } = await open(factory);
      await send(tx, 0, 10);
      await until(() => got.length === 20, "all messages");
      assert.equal(bus.lines.filter(({ key }) => key === 23011).length, 1);
    },
  ));

const MANY = Array.from({ length: 9 }, (_, i) => `t${i}`);

test("memory for less than a lane is refused at the start", () =>
  withBus({
    topics: MANY,
    nodes: ["rx1"],
    contexts: {
      rx1: {
        RxTopics: MANY.map((Name) => ({ Name })),
        IsTotalOrder: 0,
        ReceiveMemoryMBytes: 8,
      },
    },
  }, async (_bus, factory) => {
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver({ onMessage() {} });
    const error = await rejectsCode(rx.start(), "ARGUMENT");
    assert.match(error.message, /ReceiveMemoryMBytes/);
  }));
