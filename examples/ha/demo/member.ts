/**
 * A member of the demo's tier: notes everything that it is given.
 *
 *     member.ts NAME PORT FOLDER ARBITER HISTORY_FILE
 *
 * Ends when it reads "halt", and when its input ends: whoever has started it is gone.
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { newRcmFactory, RcmLogLevel } from "../../../mod.ts";
import { demoConfig, filePrefix } from "./config.ts";
import { writeHistory } from "./history.ts";

/** What was given is in the file at most so much later. */
const FLUSH_MS = 20;

const [name, port, folder, arbiter, file] = process.argv.slice(2);
if (!name || !port || !folder || !arbiter || !file) {
  throw new Error("usage: member.ts NAME PORT FOLDER ARBITER HISTORY_FILE");
}

const history = writeHistory(file);
const factory = newRcmFactory(demoConfig(Number(port)), folder);
factory.setFilePrefix(filePrefix(Number(port)));
factory.setArbArg(arbiter, "/rcm");
factory.setLogArg(RcmLogLevel.IMP, {
  log: (_key, _level, content) => console.error(content),
});
const context = factory.newRcmContext(name);
context.createReceiver({
  onMessage(data, sqn, _txArg, info) {
    const sender = info.getTxContextName();
    const [number, timeMilli] = [info.getTxMsgNo(), info.getMsgTimeMilli()];
    history.add({ sqn, sender, number, timeMilli }, data);
  },
});
const timer = setInterval(history.flush, FLUSH_MS);

let isEnding = false;
async function end(): Promise<void> {
  if (isEnding) return;
  isEnding = true;
  await factory[Symbol.asyncDispose]();
  clearInterval(timer);
  history.close();
  process.exit(0);
}
// Ctrl-C reaches everybody in front of a terminal: the demo ends its processes by itself.
process.on("SIGINT", () => {});
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => line === "halt" && void end());
lines.on("close", () => isEnding || process.exit(1));

await context.start();
