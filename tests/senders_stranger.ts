/** The program of `senders_test.ts`: tries a token that another process has made. */

import { readFileSync } from "node:fs";
import { openSender, RcmError, type RcmSenderToken } from "../mod.ts";

const token = JSON.parse(readFileSync(0, "utf8")) as RcmSenderToken;
try {
  openSender(token);
  console.log("opened");
} catch (error) {
  console.log(error instanceof RcmError ? `${error.code} ${error.message}` : String(error));
}
