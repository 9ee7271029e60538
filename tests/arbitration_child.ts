/**
 * A member in a process of its own: joins, stands whenever nobody does, and says what happens, a
 * line each. Arguments: address, path, name, T.
 */

import process from "node:process";
import { openArbiter } from "../src/arbitration/open.ts";
import { nativeLibrary } from "../src/native/library.ts";
import { standing, state } from "./arbitration_bed.ts";

const [address = "", path = "", node = "", timeout = "2000"] = process.argv.slice(2);
const say = (line: string) => process.stdout.write(`${line}\n`);

const arbiter = await openArbiter(nativeLibrary(), {
  address,
  path,
  tier: "T",
  node,
  sessionTimeoutMilli: Number(timeout),
});
let standingNow = false;
let number = 0;
arbiter.watch({
  onSession: (session) => say(session),
  onView(view) {
    if (view.running !== null || standingNow) return;
    standingNow = true;
    number = Math.max(number, view.master?.record.epoch.number ?? 0) + 1;
    arbiter.campaign(view.master?.version ?? null, standing(node, number, view)).then(
      (result) => say(result.kind === "done" ? `won ${result.version}` : "refused"),
      (error) => say(`failed ${error.message}`),
    ).finally(() => standingNow = false);
  },
});
await arbiter.join(state());
say("joined");
process.stdin.on("data", (bytes) => {
  if (bytes.toString().startsWith("lease")) say(`lease ${arbiter.lease().leftMilli > 0}`);
});
process.stdin.on("end", () => void arbiter.close().then(() => process.exit(0)));
