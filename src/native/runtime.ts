/** The only place that knows Deno from Bun. */

import process from "node:process";
import { RcmError } from "../errors.ts";
import { bunRuntime } from "./runtime_bun.ts";
import { denoRuntime } from "./runtime_deno.ts";
import type { NativeCalls } from "./symbols.ts";

/** What a runtime has to offer: calls into a library and views of memory. */
export interface NativeRuntime {
  readonly name: "deno" | "bun";
  /** Opens a library and binds every call; throws what the runtime throws. */
  open(path: string): NativeCalls;
  /** A view of memory at an address; made once for a mapping and kept (4 to 41 microseconds). */
  map(address: number, bytes: number): ArrayBuffer;
}

/**
 * @returns the adapter of the runtime that runs this.
 * @throws RcmError `NATIVE` in a runtime without an adapter
 */
export function currentRuntime(): NativeRuntime {
  const versions: Readonly<Record<string, string | undefined>> = process.versions;
  if (versions["bun"] !== undefined) return bunRuntime();
  if (versions["deno"] !== undefined) return denoRuntime();
  throw new RcmError(
    "NATIVE",
    `RCM runs in Deno and in Bun; this is Node.js ${versions["node"] ?? "(unknown runtime)"}`,
  );
}
