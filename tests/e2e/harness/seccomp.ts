/**
 * A disk that fails, for this process only: from now on the kernel answers EIO to all its threads
 * where they force data to a disk (fdatasync), by a seccomp filter. There is no way back.
 */

import process from "node:process";

/** Of the architectures that the library is built for: seccomp, fdatasync, and the AUDIT_ARCH. */
const NUMBERS: Readonly<Record<string, readonly [number, number]>> = {
  x64: [317, 75],
  arm64: [277, 83],
};
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
const EIO = 5;

type Syscall = (number: number, operation: number, flags: number, program: Uint8Array) => number;

interface DenoFfi {
  dlopen(path: string, symbols: unknown): { readonly symbols: { readonly syscall: Syscall } };
  readonly UnsafePointer: { of(bytes: Uint8Array): object; value(pointer: object): bigint };
}
interface BunFfi {
  dlopen(path: string, symbols: unknown): { readonly symbols: { readonly syscall: Syscall } };
  ptr(bytes: Uint8Array): number;
}

/** Why it can't be done here; false: it can. */
export function seccompMissing(): string | false {
  if (process.getuid?.() !== 0) return "needs root: sudo -E deno task test --only=e2e";
  return NUMBERS[process.arch] === undefined ? `not written for ${process.arch}` : false;
}

function libc(): { readonly syscall: Syscall; addressOf(bytes: Uint8Array): bigint } {
  const path = "libc.so.6";
  if (process.versions["bun"] !== undefined) {
    const ffi = process.getBuiltinModule("bun:ffi" as "node:fs") as unknown as BunFfi;
    const { symbols } = ffi.dlopen(path, {
      syscall: { args: ["i64", "u32", "u32", "ptr"], returns: "i64" },
    });
    return { syscall: symbols.syscall, addressOf: (bytes) => BigInt(ffi.ptr(bytes)) };
  }
  const { Deno } = globalThis as unknown as { readonly Deno: DenoFfi };
  const { symbols } = Deno.dlopen(path, {
    syscall: { parameters: ["i64", "u32", "u32", "buffer"], result: "i64" },
  });
  return {
    syscall: (number, ...rest) => symbols.syscall(BigInt(number) as unknown as number, ...rest),
    addressOf: (bytes) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)),
  };
}

export function refuseForces(): void {
  const [seccomp, fdatasync] = NUMBERS[process.arch]!;
  // Load the number of the call; where it is fdatasync answer EIO, else allow it.
  const steps: readonly (readonly [number, number, number, number])[] = [
    [0x20, 0, 0, 0],
    [0x15, 0, 1, fdatasync],
    [0x06, 0, 0, 0x0005_0000 | EIO],
    [0x06, 0, 0, 0x7fff_0000],
  ];
  const filter = new Uint8Array(steps.length * 8);
  const words = new DataView(filter.buffer);
  steps.forEach(([code, yes, no, k], at) => {
    words.setUint16(at * 8, code, true);
    words.setUint8(at * 8 + 2, yes);
    words.setUint8(at * 8 + 3, no);
    words.setUint32(at * 8 + 4, k, true);
  });
  const { syscall, addressOf } = libc();
  const program = new Uint8Array(16);
  new DataView(program.buffer).setUint16(0, steps.length, true);
  new DataView(program.buffer).setBigUint64(8, addressOf(filter), true);
  const result = Number(
    syscall(seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program),
  );
  if (result !== 0) throw new Error(`seccomp: ${result}`);
}
