/** The native interface of Deno. Only `runtime.ts` imports this file. */

import type { NativeRuntime } from "./runtime.ts";
import { type NativeCalls, symbols } from "./symbols.ts";

/** The part of `Deno` that is used, so that other type checkers can read this file too. */
interface DenoFfi {
  dlopen(path: string, symbols: Readonly<Record<string, unknown>>): { readonly symbols: unknown };
  readonly UnsafePointer: { create(address: bigint): object | null };
  readonly UnsafePointerView: { getArrayBuffer(pointer: object, bytes: number): ArrayBuffer };
}

/** @returns the adapter. Opening needs `--allow-ffi` without a path: memory is mapped as well. */
export function denoRuntime(): NativeRuntime {
  const { Deno } = globalThis as unknown as { readonly Deno: DenoFfi };
  return {
    name: "deno",
    open: (path) => Deno.dlopen(path, symbols).symbols as NativeCalls,
    map(address, bytes) {
      const pointer = Deno.UnsafePointer.create(BigInt(address));
      if (pointer === null) throw new TypeError("a mapping can't be at address 0");
      return Deno.UnsafePointerView.getArrayBuffer(pointer, bytes);
    },
  };
}
