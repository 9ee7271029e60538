/** What tokens for other threads have in common: which library and process they are good in. */

import { ABI_HASH } from "./native/abi.ts";
import type { NativeCalls } from "./native/symbols.ts";

type Calls = Pick<NativeCalls, "rcm_process_nonce">;

function layoutOf(): string {
  return ABI_HASH.toString(16).padStart(8, "0");
}

/** @returns what tells this library's layout, and this process from all others */
export function tokenIdentity(calls: Calls): string {
  return `${layoutOf()}-${calls.rcm_process_nonce().toString(36)}`;
}

/**
 * @param maker the call that gives such tokens
 * @param handleEnd its handles are below
 * @returns why this is no token of this kind that is good here; null: it is
 */
export function tokenRefusal(
  token: unknown,
  wanted: string,
  maker: string,
  calls: Calls,
  handleEnd: number,
): string | null {
  const { kind, abi, handle } = (token ?? {}) as {
    readonly kind?: unknown;
    readonly abi?: unknown;
    readonly handle?: unknown;
  };
  if (kind !== wanted || typeof abi !== "string") {
    return `not a token of ${maker} (its kind is ${JSON.stringify(kind) ?? "missing"})`;
  }
  const layout = abi.split("-")[0];
  if (layout !== layoutOf()) return `a token of the layout ${layout}, this is ${layoutOf()}`;
  if (abi !== tokenIdentity(calls)) {
    return "a token of another process, or of another copy of the library";
  }
  if (!Number.isInteger(handle) || (handle as number) < 0 || (handle as number) >= handleEnd) {
    return `a token with the handle ${String(handle)}`;
  }
  return null;
}
