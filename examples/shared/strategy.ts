/**
 * Reads the feed's quotes in the feed's own memory (guide 7.2.6), until there are as many as it
 * sends in a run.
 *
 *     deno run -A examples/shared/strategy.ts        or        bun examples/shared/strategy.ts
 */

import { tmpdir } from "node:os";
import { newRcmFactory } from "../../mod.ts";

const QUOTES = 100_000;

const config = new URL("./rcm.json", import.meta.url);
await using factory = newRcmFactory(config, `${tmpdir()}/rcm-shared`);
const strategy = factory.newRcmContext("strategy");
const done = Promise.withResolvers<void>();
let seen = 0;
let highest = -1;
strategy.createReceiver({
  onMessage(quote) {
    // A view of memory that the feed owns: it can be read, not written.
    const price = new DataView(quote.buffer, quote.byteOffset).getFloat64(0, true);
    highest = Math.max(highest, price);
    seen += 1;
    if (seen === QUOTES) done.resolve();
  },
});
await strategy.start();
await done.promise;
console.log(`${seen} quotes, the highest ${highest}`);
