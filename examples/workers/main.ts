/**
 * Two Workers and the main thread send on one transmitter.
 *
 *     deno run -A examples/workers/main.ts        or        bun examples/workers/main.ts
 */

import { tmpdir } from "node:os";
import { newRcmFactory } from "../../mod.ts";

const WORKERS = 2;
const EACH = 1000;

await using factory = newRcmFactory({
  Rcm: {
    Transports: [{ Id: 1, Topic: "results", Addr: "127.0.0.1", Port: 30011 }],
    Contexts: [
      { Name: "workers_tx", Id: 1, Ip: "127.0.0.1", IsRecord: 0, TxTopics: [{ Name: "results" }] },
      { Name: "workers_rx", Id: 2, Ip: "127.0.0.1", IsRecord: 0, RxTopics: [{ Name: "results" }] },
    ],
  },
}, `${tmpdir()}/rcm-workers`);

const decoder = new TextDecoder();
const counts = new Map<string, number>();
let received = 0;
const { promise: finished, resolve: finish } = Promise.withResolvers<void>();

const receiver = factory.newRcmContext("workers_rx");
receiver.createReceiver({
  onMessage(data) {
    const [from = "", number] = decoder.decode(data).split(": ");
    const due = counts.get(from) ?? 0;
    // What one thread sends keeps its order.
    if (Number(number) !== due) throw new Error(`${from}: ${number} instead of ${due}`);
    counts.set(from, due + 1);
    received += 1;
    if (received === (WORKERS + 1) * EACH) finish();
  },
});
await receiver.start();

const sender = factory.newRcmContext("workers_tx");
const results = sender.createTransmitter("results");
await sender.start();
const workers = Array.from({ length: WORKERS }, (_, i) => {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  worker.postMessage({ token: results.senderToken(i), messages: EACH });
  return worker;
});
for (let i = 0; i < EACH; i += 1) results.sendData(`main thread: ${i}`);

await finished;
for (const [from, count] of counts) console.log(`${count} messages of ${from}, in order`);
for (const worker of workers) worker.terminate();
