/**
 * The clock that all processes of a machine share, and giving a core away: two calls of libc, over
 * each runtime's own FFI (30 ns; `performance.now()` begins anew in each process and costs more).
 */

import process from "node:process";

interface Libc {
  clock_gettime(id: number, out: Int32Array): number;
  sched_yield(): number;
}

interface DenoFfi {
  dlopen(path: string, symbols: Readonly<Record<string, unknown>>): { readonly symbols: unknown };
}

interface BunFfi {
  dlopen(path: string, symbols: Readonly<Record<string, unknown>>): { readonly symbols: unknown };
}

const LIBC = "libc.so.6";
const CLOCK_MONOTONIC = 1;

function openLibc(): Libc {
  if (process.versions["bun"] !== undefined) {
    const ffi = process.getBuiltinModule("bun:ffi" as "node:fs") as unknown as BunFfi;
    return ffi.dlopen(LIBC, {
      clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
      sched_yield: { args: [], returns: "i32" },
    }).symbols as Libc;
  }
  const { Deno } = globalThis as unknown as { readonly Deno: DenoFfi };
  return Deno.dlopen(LIBC, {
    clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
    sched_yield: { parameters: [], result: "i32" },
  }).symbols as Libc;
}

const libc = openLibc();
/** `struct timespec`: seconds and nanoseconds in 64 bits each, of which the low halves are used. */
const timespec = new Int32Array(4);

/** @returns CLOCK_MONOTONIC in nanoseconds, exact for a hundred days of uptime */
export function nowNs(): number {
  libc.clock_gettime(CLOCK_MONOTONIC, timespec);
  return timespec[0]! * 1e9 + timespec[2]!;
}

/** Lets another process of this core run. */
export function yieldCore(): void {
  libc.sched_yield();
}
