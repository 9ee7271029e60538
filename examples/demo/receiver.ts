/**
 * A receiver of the demo: writes what it gets to a file and notes when each line came.
 *
 *     receiver.ts deno|bun OUT_FILE TIMES_FILE PORT FOLDER
 *
 * Prints a line of JSON now and then, and a last one with `done` and what the statistics say.
 * `RCM_INJECT` in the environment makes it lose datagrams.
 */

import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import process from "node:process";
import { newRcmFactory } from "../../mod.ts";
import { demoConfig, endOfFile, preciseNow } from "./config.ts";

const [name, outFile, timesFile, port, folder] = process.argv.slice(2);
if (!name || !outFile || !timesFile || !port || !folder) {
  throw new Error("usage: receiver.ts deno|bun OUT_FILE TIMES_FILE PORT FOLDER");
}

const flushBytes = 1 << 20;
const out = openSync(outFile, "w");
const buffer = new Uint8Array(flushBytes);
let used = 0;

function write(data: Uint8Array): void {
  if (used + data.length > buffer.length) flush();
  if (data.length > buffer.length) {
    writeSync(out, data.slice());
    return;
  }
  buffer.set(data, used);
  used += data.length;
}

function flush(): void {
  writeSync(out, buffer, 0, used);
  used = 0;
}

const factory = newRcmFactory(demoConfig(Number(port)), folder, "en_US");
factory.setFilePrefix(`rcm-demo-${port}/`);
const context = factory.newRcmContext(name);
const times: number[] = [];
let told = 0;
let finished = () => {};
const end = new Promise<void>((resolve) => finished = resolve);
context.createReceiver({
  onMessage(data, _msgSqn, _txArg, info) {
    if (info.getMsgArg() === endOfFile) {
      finished();
      return;
    }
    const now = preciseNow();
    times.push(now);
    write(data);
    if (now - told > 100) {
      told = now;
      console.log(JSON.stringify({ count: times.length }));
    }
  },
});
await context.start();
await end;
flush();
closeSync(out);
writeFileSync(timesFile, new Uint8Array(Float64Array.from(times).buffer));
const statistics = JSON.parse(factory.getStatistics()).ctxs[0];
const stream = statistics.rx.Rms[0];
await factory[Symbol.asyncDispose]();
console.log(JSON.stringify({
  done: true,
  count: times.length,
  dropped: statistics.Dropped?.Injected ?? null,
  naks: stream.NakSent,
  gaps: stream.GapCount,
}));
