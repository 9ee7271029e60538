/**
 * The echo example's server (guide 4.1): prints a request and sends it back as it came.
 *
 *     deno run -A examples/echo/server.ts        or        bun examples/echo/server.ts
 *
 * Where the answer goes, the request says: its `txArg` is the partition of "ans" that its sender
 * receives (guide 9.5.1).
 */

import { tmpdir } from "node:os";
import process from "node:process";
import { newRcmFactory } from "../../mod.ts";

const config = new URL("./rcm.json", import.meta.url);
const factory = newRcmFactory(config, `${tmpdir()}/rcm-echo`);
const context = factory.newRcmContext("server1");
const answers = context.createTransmitter("ans");

const decoder = new TextDecoder();
context.createReceiver({
  onMessage(data, msgSqn, txArg, info) {
    console.log(
      `${info.getTxContextName()} asks "${decoder.decode(data)}", message ${msgSqn}; ` +
        `answering on partition ${txArg}`,
    );
    // Anything but 0 has the request delivered again: a full arena delays it, nothing is lost.
    return answers.sendData(data, txArg, info.getMsgArg());
  },
});
await context.start();
console.log("echo server runs; interrupt to stop");

const interrupted = () => void factory[Symbol.asyncDispose]();
process.once("SIGINT", interrupted);
process.once("SIGTERM", interrupted);
