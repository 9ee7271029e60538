/**
 * Sends quotes to programs on this machine, which read them where they lie (guide 7.2.6): no
 * address, no port, no datagram.
 *
 *     deno run -A examples/shared/feed.ts        or        bun examples/shared/feed.ts
 */

import { tmpdir } from "node:os";
import process from "node:process";
import { newRcmFactory, RcmStatus } from "../../mod.ts";

const QUOTES = 100_000;
/** Until a strategy runs, messages are kept; without one the feed gives up. */
const PATIENCE_MS = 60_000;

const config = new URL("./rcm.json", import.meta.url);
await using factory = newRcmFactory(config, `${tmpdir()}/rcm-shared`);
const feed = factory.newRcmContext("feed");
const quotes = feed.createTransmitter("quotes");
const allocator = quotes.getAllocator(0);
await feed.start();

for (let price = 0; price < QUOTES; price += 1) {
  // Written once, into the memory that receivers read.
  let quote = allocator.malloc(16);
  while (quote === null) {
    if (!await quotes.ready(PATIENCE_MS)) throw new Error("nobody reads");
    quote = allocator.malloc(16);
  }
  new DataView(quote.buffer, quote.byteOffset).setFloat64(0, price, true);
  while (quotes.send(allocator, 16) === RcmStatus.WOULD_BLOCK) await quotes.ready(PATIENCE_MS);
}
if (await quotes.flush(PATIENCE_MS)) {
  console.log(`${QUOTES} quotes read`);
} else {
  console.log("not read yet: is the strategy running? The quotes are kept in /dev/shm");
  process.exitCode = 1;
}
