/**
 * Two topics are handled on two cores: a lane each, opened by a Worker each (guide 7.2.7). What two
 * Workers gain over one thread for both lanes is printed.
 *
 *     deno run -A examples/lanes/main.ts        or        bun examples/lanes/main.ts
 */

import { tmpdir } from "node:os";
import { newRcmFactory, type RcmContext, RcmStatus, type RcmTransmitter } from "../../mod.ts";
import { work } from "./work.ts";

const EACH = 20_000;
const TOPICS = ["orders", "quotes"];
const topics = TOPICS.map((Name) => ({ Name }));

await using factory = newRcmFactory({
  Rcm: {
    Transports: TOPICS.map((Topic, i) => ({
      Id: i + 1,
      Topic,
      Addr: "127.0.0.1",
      Port: 30021 + i,
    })),
    Contexts: [
      { Name: "lanes_tx", Id: 1, Ip: "127.0.0.1", TxTopics: topics },
      { Name: "lanes_rx", Id: 2, Ip: "127.0.0.1", RxTopics: topics, IsTotalOrder: 0 },
    ],
  },
}, `${tmpdir()}/rcm-lanes`);

async function startReceiver(onMessage: (data: Uint8Array) => void): Promise<RcmContext> {
  const receiver = factory.newRcmContext("lanes_rx");
  receiver.createReceiver({ onMessage });
  await receiver.start();
  return receiver;
}

const sender = factory.newRcmContext("lanes_tx");
const transmitters = TOPICS.map((topic) => sender.createTransmitter(topic));
await sender.start();

async function send(tx: RcmTransmitter): Promise<void> {
  for (let i = 0; i < EACH; i += 1) {
    while (tx.sendData(`${i}`) === RcmStatus.WOULD_BLOCK) await tx.ready();
    if (i % 1000 === 0) await new Promise((resolve) => setTimeout(resolve));
  }
}

async function run(what: string, done: Promise<unknown>): Promise<number> {
  for (const tx of transmitters) await tx.connected();
  const began = performance.now();
  await Promise.all(transmitters.map(send));
  await done;
  const took = performance.now() - began;
  console.log(`${what}: ${TOPICS.length * EACH} messages in ${took.toFixed(0)} ms`);
  return took;
}

// One thread for both.
let handled = 0;
const all = Promise.withResolvers<void>();
const alone = await startReceiver((data) => {
  work(data);
  handled += 1;
  if (handled === TOPICS.length * EACH) all.resolve();
});
const one = await run("one thread", all.promise);
await alone.stop();

// A Worker for each.
const receiver = await startReceiver(() => {
  throw new Error("both lanes are open in Workers");
});
const workers = TOPICS.map(() =>
  new Worker(new URL("./worker.ts", import.meta.url), { type: "module" })
);
const says = (worker: Worker, what: string) =>
  new Promise<void>((resolve) =>
    worker.addEventListener("message", ({ data }) => data === what && resolve())
  );
const opened = Promise.all(workers.map((worker) => says(worker, "open")));
const finished = Promise.all(workers.map((worker) => says(worker, "finished")));
workers.forEach((worker, threadNo) =>
  worker.postMessage({ token: receiver.laneToken(threadNo), messages: EACH })
);
await opened;
const two = await run("two Workers", finished);
console.log(`two Workers are ${(one / two).toFixed(2)} times as fast`);
await receiver.stop();
for (const worker of workers) worker.terminate();
