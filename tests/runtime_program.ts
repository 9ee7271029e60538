/**
 * The program of `runtime_exit_test.ts`: a sender and a receiver of one process in full flow. Its
 * arguments are what it does then, and how to reach the bus, as JSON. It writes a line for each
 * step, and calls `process.exit` only where that is what is tried.
 */

import process from "node:process";
import { setImmediate } from "node:timers";
import { newRcmFactory, type RcmConfigInput, RcmStatus } from "../mod.ts";

/** How the process is to end. */
export type Way =
  | "stop"
  | "stop in SIGTERM"
  | "nothing"
  | "throw"
  | "exit in a handler"
  | "exit";

export interface Program {
  readonly way: Way;
  readonly config: RcmConfigInput;
  readonly workDir: string;
  readonly prefix: string;
}

/** Messages after which it does what it is there for. */
const FLOW = 500;

const { way, config, workDir, prefix } = JSON.parse(process.argv[2] ?? "") as Program;
const say = (line: string) => void process.stdout.write(`${line}\n`);

const factory = newRcmFactory(config, workDir, "en_US");
factory.setFilePrefix(prefix);
const receiver = factory.newRcmContext("rx1");
const sender = factory.newRcmContext("tx1");
const tx = sender.createTransmitter("t");
let isStopped = false;
let count = 0;

async function stop(): Promise<void> {
  await factory[Symbol.asyncDispose]();
  isStopped = true;
  say("stopped");
}

receiver.createReceiver({
  onMessage() {
    count += 1;
    if (isStopped) say("called after the stop");
    if (count !== FLOW) return;
    say("flowing");
    if (way === "exit in a handler") process.exit(7);
  },
});

if (way === "stop in SIGTERM") process.on("SIGTERM", () => void stop());

await receiver.start();
await sender.start();
if (!await tx.connected(1, 20_000)) throw new Error("not connected");
let isDone = false;
while (!isDone) {
  for (let i = 0; i < 20; i += 1) {
    const status = tx.sendData("a message");
    if (status === RcmStatus.STOPPED) isDone = true;
    if (status === RcmStatus.WOULD_BLOCK) await tx.ready();
  }
  await new Promise<void>((resolve) => setImmediate(resolve));
  if (count < FLOW || isDone) continue;
  if (way === "stop") {
    await stop();
    isDone = true;
  } else if (way === "throw") throw new Error("on purpose");
  else if (way === "exit") process.exit(8);
}
say("end");
