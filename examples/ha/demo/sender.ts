/**
 * A sender of the demo: messages at a rate until it is told to stop, then it waits until the tier
 * has committed all of them and prints how many they were.
 *
 *     sender.ts NAME PORT FOLDER MESSAGES_PER_SECOND
 *
 * Ends when its input ends; "halt" stops it.
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { newRcmFactory, RcmStatus } from "../../../mod.ts";
import { contentOf, demoConfig, filePrefix, topic } from "./config.ts";

const STEP_MS = 5;
const FLUSH_MS = 30_000;

const [name, port, folder, perSecond] = process.argv.slice(2);
if (!name || !port || !folder || !perSecond) {
  throw new Error("usage: sender.ts NAME PORT FOLDER MESSAGES_PER_SECOND");
}
process.on("SIGINT", () => {});

let isHalted = false;
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => isHalted ||= line === "halt");
lines.on("close", () => process.exit(1));

await using factory = newRcmFactory(demoConfig(Number(port)), folder);
factory.setFilePrefix(filePrefix(Number(port)));
const context = factory.newRcmContext(name);
const transmitter = context.createTransmitter(topic);
await context.start();

let sent = 0;
const begin = performance.now();
let held = 0;
while (!isHalted) {
  const due = (performance.now() - begin - held) / 1000 * Number(perSecond);
  if (sent >= due) {
    await sleep(STEP_MS);
    continue;
  }
  const status = transmitter.sendData(contentOf(name, sent));
  if (status === RcmStatus.OK) {
    sent += 1;
    continue;
  }
  if (status !== RcmStatus.WOULD_BLOCK) throw new Error(`send answered ${status}`);
  // What could not be sent while nobody leads is not made up for.
  const since = performance.now();
  await transmitter.ready();
  held += performance.now() - since;
}
const isCommitted = await transmitter.flush(FLUSH_MS);
console.log(JSON.stringify({ sent, isCommitted }));
await factory[Symbol.asyncDispose]();
process.exit(isCommitted ? 0 : 1);
