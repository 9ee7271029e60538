/**
 * A node of the guide's tier (guide 6.2): prints its role and what arrives until it is interrupted.
 *
 *     deno run -A examples/ha/node.ts HaNode1      or      bun examples/ha/node.ts HaNode2
 *
 * `RCM_ARB` is the arbiter: ZooKeeper's servers, `local:` and a folder otherwise. `RCM_ARB_PATH`
 * is the path in it, `/rcm` unless it says otherwise; `RCM_WORK` the folder of record and log.
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { newRcmFactory, RcmLogLevel, RcmRole } from "../../mod.ts";

const name = process.argv[2] ?? "HaNode1";
const work = process.env["RCM_WORK"] ?? join(tmpdir(), "rcm-ha");
const roles = Object.fromEntries(Object.entries(RcmRole).map(([text, role]) => [role, text]));

const factory = newRcmFactory(new URL("./rcm.json", import.meta.url), work);
factory.setArbArg(
  process.env["RCM_ARB"] ?? `local:${join(work, "arbiter")}`,
  process.env["RCM_ARB_PATH"] ?? "/rcm",
);
factory.setLogArg(RcmLogLevel.INFO, {
  log(key, level, content) {
    console.log(`key:${key} Level:${level} Content:${content}`);
  },
});

const context = factory.newRcmContext(name);
context.createReceiver({
  onRoleChanged(role) {
    console.log(`OnRoleChanged ${name} ${roles[role]}`);
  },
  onMessage(data, msgSqn, _txArg, info) {
    console.log(
      `OnMessage TxContext:${info.getTxContextName()} Topic:${info.getTopicName()} ` +
        `PartitionNo:${info.getPartitionNo()} MsgNo:${info.getTxMsgNo()} ` +
        `Length:${data.length} MsgSqn: ${msgSqn}`,
    );
  },
});

const interrupted = () => void factory[Symbol.asyncDispose]();
process.once("SIGINT", interrupted);
process.once("SIGTERM", interrupted);
await context.start();
