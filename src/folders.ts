/** Folders that the library makes. */

import { mkdirSync } from "node:fs";
import { RcmError } from "./errors.ts";

/**
 * Makes a folder and those above it where they are missing.
 * @param what what it is for: begins the message
 * @throws RcmError `ARGUMENT`
 */
export function makeFolder(folder: string, what: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RcmError("ARGUMENT", `${what}: ${folder} can't be made: ${reason}`, { cause });
  }
}
