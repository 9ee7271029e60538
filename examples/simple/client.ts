/**
 * The simple example's sender (guide 5.1): eleven greetings, then it waits until they are
 * acknowledged and ends.
 *
 *     deno run -A examples/simple/client.ts        or        bun examples/simple/client.ts
 *
 * Run it again and its message numbers go on: its window is kept in /dev/shm.
 */

import { tmpdir } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { newRcmFactory, RcmLogLevel, RcmStatus } from "../../mod.ts";

const MESSAGES = 11;
/** With the 0 that ends it in C, as the guide sends it. */
const GREETING = "hello world\0";

const config = new URL("./rcm.json", import.meta.url);
await using factory = newRcmFactory(config, `${tmpdir()}/rcm-simple`);
factory.setLogArg(RcmLogLevel.INFO, {
  log(key, level, content) {
    console.log(`key:${key} Level:${level} Content:${content}`);
  },
});

const context = factory.newRcmContext("client1");
const transmitter = context.createTransmitter("req");
await context.start();

for (let sent = 0; sent < MESSAGES; sent += 1) {
  const status = transmitter.sendData(GREETING);
  if (status !== RcmStatus.OK) console.log(`Send: ${status}`);
  await sleep(100);
}
if (await transmitter.flush(5000)) {
  console.log(`${MESSAGES} messages sent and acknowledged`);
} else {
  console.log(`not acknowledged yet: is the server running? The messages are kept in /dev/shm`);
  process.exitCode = 1;
}
