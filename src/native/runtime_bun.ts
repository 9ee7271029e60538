/** The native interface of Bun. Only `runtime.ts` imports this file. */

import process from "node:process";
import type { NativeRuntime } from "./runtime.ts";
import { type NativeCalls, type NativeType, symbols } from "./symbols.ts";

/** The part of `bun:ffi` that is used, so that other type checkers can read this file too. */
interface BunFfi {
  dlopen(path: string, symbols: Readonly<Record<string, unknown>>): { readonly symbols: unknown };
  toArrayBuffer(address: number, offset: number, bytes: number): ArrayBuffer;
}

/** Bun takes a typed array where a pointer is asked for. */
const typeNames: Readonly<Record<NativeType, string>> = {
  u32: "u32",
  i32: "i32",
  f64: "f64",
  buffer: "ptr",
};

/**
 * Libraries stay open as long as the realm: Bun closes one that is collected, and its threads would
 * run on unmapped code.
 */
const opened: unknown[] = [];

/** @returns the adapter. `bun:ffi` is asked for at run time: other runtimes can't resolve it. */
export function bunRuntime(): NativeRuntime {
  const ffi = process.getBuiltinModule("bun:ffi" as "node:fs") as unknown as BunFfi;
  return {
    name: "bun",
    open(path) {
      const definitions: Record<string, { args: string[]; returns: string }> = {};
      for (const [name, signature] of Object.entries(symbols)) {
        definitions[name] = {
          args: signature.parameters.map((type: NativeType) => typeNames[type]),
          returns: typeNames[signature.result],
        };
      }
      const library = ffi.dlopen(path, definitions);
      opened.push(library);
      return library.symbols as NativeCalls;
    },
    map: (address, bytes) => ffi.toArrayBuffer(address, 0, bytes),
  };
}
