/** What the interface already has and nothing acts on yet: named, never silently ignored. */

import { RcmError } from "./errors.ts";

/**
 * @param what what was asked for, as the caller would name it
 * @throws RcmError `UNSUPPORTED`, always
 */
export function unsupported(what: string): never {
  throw new RcmError("UNSUPPORTED", `${what}: not supported by this version`);
}
