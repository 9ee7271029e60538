/** What the interface already has and nothing acts on yet: named, never silently ignored. */

import type { RcmLane, RcmLaneToken } from "./api.ts";
import type { RcmReceiverCallback, ReceiverOptions } from "./api.ts";
import { RcmError } from "./errors.ts";

/**
 * @param what what was asked for, as the caller would name it
 * @throws RcmError `UNSUPPORTED`, always
 */
export function unsupported(what: string): never {
  throw new RcmError("UNSUPPORTED", `${what}: not supported by this version`);
}

/**
 * Opens a lane in a Worker (guide 7.2.7).
 * @throws RcmError `UNSUPPORTED`: there are no lanes yet
 */
export function openLane(
  _token: RcmLaneToken,
  _cb: RcmReceiverCallback,
  _user?: unknown,
  _options?: Pick<ReceiverOptions, "delivery">,
): RcmLane {
  return unsupported("openLane (lanes in Workers)");
}
