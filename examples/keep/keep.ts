/**
 * Keeping what a handler gets: `data` is a view of memory that is used again, `data.slice()` is a
 * copy of one's own.
 *
 *     deno run -A examples/keep/keep.ts        or        bun examples/keep/keep.ts
 *
 * With RCM_COPY=1 in the environment every handler gets copies: when that makes a fault go away,
 * some handler keeps a view.
 */

import { tmpdir } from "node:os";
import { newRcmFactory, RcmStatus } from "../../mod.ts";

/** More than the receiver's memory holds, so that all of it is used again. */
const MESSAGES = 40_000;
const BYTES = 1024;
const KEPT = 1000;

await using factory = newRcmFactory({
  Rcm: {
    Transports: [{ Id: 1, Topic: "prices", Addr: "127.0.0.1", Port: 30010 }],
    Contexts: [
      { Name: "keep_tx", Id: 1, Ip: "127.0.0.1", IsRecord: 0, TxTopics: [{ Name: "prices" }] },
      {
        Name: "keep_rx",
        Id: 2,
        Ip: "127.0.0.1",
        IsRecord: 0,
        ReceiveMemoryMBytes: 8,
        RxTopics: [{ Name: "prices" }],
      },
    ],
  },
}, `${tmpdir()}/rcm-keep`);

const views: Uint8Array[] = [];
const copies: Uint8Array[] = [];
let received = 0;
const { promise: finished, resolve: finish } = Promise.withResolvers<void>();

const receiver = factory.newRcmContext("keep_rx");
receiver.createReceiver({
  onMessage(data) {
    if (received < KEPT) {
      views.push(data); // wrong: other messages will stand there
      copies.push(data.slice()); // right
    }
    received += 1;
    if (received === MESSAGES) finish();
  },
});
await receiver.start();

const sender = factory.newRcmContext("keep_tx");
const prices = sender.createTransmitter("prices");
await sender.start();
await prices.connected();
for (let i = 0; i < MESSAGES; i += 1) {
  const message = `price ${i} `.padEnd(BYTES, ".");
  while (prices.sendData(message) === RcmStatus.WOULD_BLOCK) await prices.ready();
}
await finished;

const decoder = new TextDecoder();
const right = (kept: readonly Uint8Array[]) =>
  kept.filter((data, i) => decoder.decode(data).startsWith(`price ${i} `)).length;
console.log(`kept by slice(): ${right(copies)} of ${KEPT} are what they were`);
console.log(`kept as views:   ${right(views)} of ${KEPT} are what they were`);
