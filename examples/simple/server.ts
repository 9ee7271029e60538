/**
 * The simple example's receiver (guide 5.1): prints what arrives until it is interrupted.
 *
 *     deno run -A examples/simple/server.ts        or        bun examples/simple/server.ts
 */

import { tmpdir } from "node:os";
import process from "node:process";
import { newRcmFactory, RcmLogLevel } from "../../mod.ts";

const config = new URL("./rcm.json", import.meta.url);
const factory = newRcmFactory(config, `${tmpdir()}/rcm-simple`);
factory.setLogArg(RcmLogLevel.INFO, {
  log(key, level, content) {
    console.log(`key:${key} Level:${level} Content:${content}`);
  },
});

const context = factory.newRcmContext("server1");
context.createReceiver({
  onMessage(data, msgSqn, _txArg, info) {
    console.log(
      `OnMessage TxContext:${info.getTxContextName()} Topic:${info.getTopicName()} ` +
        `PartitionNo:${info.getPartitionNo()} MsgNo:${info.getTxMsgNo()} ` +
        `Length:${data.length} MsgSqn: ${msgSqn}`,
    );
  },
});
await context.start();

const interrupted = () => void factory[Symbol.asyncDispose]();
process.once("SIGINT", interrupted);
process.once("SIGTERM", interrupted);
