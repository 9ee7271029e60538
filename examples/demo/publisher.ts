/**
 * The demo's publisher: sends a file line by line, as it is, and notes when each line was sent.
 *
 *     publisher.ts FILE LINES_PER_SECOND TIMES_FILE PORT FOLDER
 *
 * Prints a line of JSON now and then, and a last one with `done` and what the statistics say.
 */

import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { setImmediate } from "node:timers";
import { newRcmFactory, RcmStatus } from "../../mod.ts";
import { demoConfig, endOfFile, preciseNow, topic } from "./config.ts";

const [file, rate, timesFile, port, folder] = process.argv.slice(2);
if (!file || !rate || !timesFile || !port || !folder) {
  throw new Error("usage: publisher.ts FILE LINES_PER_SECOND TIMES_FILE PORT FOLDER");
}

const bytes = new Uint8Array(readFileSync(file));
await using factory = newRcmFactory(demoConfig(Number(port)), folder, "en_US");
factory.setFilePrefix(`rcm-demo-${port}/`);
const context = factory.newRcmContext("publisher");
const transmitter = context.createTransmitter(topic);
await context.start();
if (!await transmitter.connected(2, 20_000)) throw new Error("the receivers did not come");

/** Where the line that begins at `from` ends, its line feed included. */
function lineEnd(from: number): number {
  const feed = bytes.indexOf(10, from);
  return feed < 0 ? bytes.length : feed + 1;
}

async function send(line: Uint8Array, arg = 0): Promise<void> {
  for (;;) {
    const status = transmitter.sendData(line, 1, arg);
    if (status === RcmStatus.OK) return;
    if (status !== RcmStatus.WOULD_BLOCK) throw new Error(`send answered ${status}`);
    await transmitter.ready();
  }
}

const times: number[] = [];
const start = preciseNow();
let told = start;
for (let at = 0; at < bytes.length;) {
  const due = start + (times.length * 1000) / Number(rate);
  const now = preciseNow();
  if (now < due) {
    await new Promise((resolve) => setImmediate(resolve));
    continue;
  }
  const end = lineEnd(at);
  times.push(preciseNow());
  await send(bytes.subarray(at, end));
  at = end;
  if (now - told > 100) {
    told = now;
    console.log(JSON.stringify({ count: times.length }));
  }
}
await send(new Uint8Array(0), endOfFile);
if (!await transmitter.flush(60_000)) throw new Error("not everything was acknowledged");
const milliseconds = preciseNow() - start;
writeFileSync(timesFile, new Uint8Array(Float64Array.from(times).buffer));
const sender = JSON.parse(factory.getStatistics()).ctxs[0].txs[0][0];
console.log(JSON.stringify({
  done: true,
  count: times.length,
  milliseconds,
  datagrams: sender.SendCount,
  repairs: sender.RepairCount,
}));
