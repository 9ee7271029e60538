/**
 * The sender of the guide's tier (guide 6.2): eleven greetings, then it waits until the tier has
 * committed them and ends.
 *
 *     deno run -A examples/ha/client.ts        or        bun examples/ha/client.ts
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { newRcmFactory, RcmLogLevel, RcmStatus } from "../../mod.ts";

const MESSAGES = 11;
/** With the 0 that ends it in C, as the guide sends it. */
const GREETING = "hello world\0";

const work = process.env["RCM_WORK"] ?? join(tmpdir(), "rcm-ha");
await using factory = newRcmFactory(new URL("./rcm.json", import.meta.url), work);
factory.setLogArg(RcmLogLevel.INFO, {
  log(key, level, content) {
    console.log(`key:${key} Level:${level} Content:${content}`);
  },
});

const context = factory.newRcmContext("client1");
const transmitter = context.createTransmitter("req");
await context.start();

for (let sent = 0; sent < MESSAGES; sent += 1) {
  if (transmitter.sendData(GREETING) === RcmStatus.WOULD_BLOCK) await transmitter.ready();
  await sleep(100);
}
if (await transmitter.flush(30_000)) {
  console.log(`${MESSAGES} messages sent and committed by the tier`);
} else {
  console.log("not committed yet: does the tier run? The messages are kept in /dev/shm");
  process.exitCode = 1;
}
