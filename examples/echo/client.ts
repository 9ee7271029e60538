/**
 * The echo example's client (guide 4.1): asks ten times, each time when the answer has come.
 *
 *     deno run -A examples/echo/client.ts [1|2]        or        bun examples/echo/client.ts [1|2]
 *
 * Two clients may run at the same time: each receives its own partition of "ans" and names it in
 * `txArg`.
 */

import { performance } from "node:perf_hooks";
import { tmpdir } from "node:os";
import process from "node:process";
import { newRcmFactory, RcmStatus } from "../../mod.ts";

const REQUESTS = 10;
const partitionNo = process.argv[2] === "2" ? 2 : 1;

const config = new URL("./rcm.json", import.meta.url);
await using factory = newRcmFactory(config, `${tmpdir()}/rcm-echo`);
const context = factory.newRcmContext(`client${partitionNo}`);
const requests = context.createTransmitter("req", null, partitionNo);

const decoder = new TextDecoder();
let asked = 0;
let askedAt = 0;
let finish = (_complete: boolean) => {};
const finished = new Promise<boolean>((resolve) => finish = resolve);

function ask(): void {
  asked += 1;
  askedAt = performance.now();
  const status = requests.sendData(`request ${asked} of client${partitionNo}`, 1, asked);
  if (status !== RcmStatus.OK) console.log(`send: ${status}`);
}

context.createReceiver({
  onMessage(data, _msgSqn, _txArg, info) {
    // The request's number comes back as msgArg; an answer to an earlier run is not ours.
    if (info.getMsgArg() !== asked) return;
    const micros = Math.round((performance.now() - askedAt) * 1000);
    console.log(`answer "${decoder.decode(data)}" after ${micros} us`);
    if (asked < REQUESTS) ask();
    else finish(true);
  },
});
await context.start();

if (!await requests.connected(1, 5000)) console.log("no server yet; the request is kept");
ask();

const timer = setTimeout(() => finish(false), 10_000);
if (!await finished) {
  console.log(`no answer to request ${asked}; is the server running?`);
  process.exitCode = 1;
}
clearTimeout(timer);
