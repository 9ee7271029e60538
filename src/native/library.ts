/**
 * Finding, checking and opening the native library, once a realm (a Worker opens it again; the
 * system gives it the same library).
 */

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { errorCodeOfNative, RcmError } from "../errors.ts";
import { ABI_HASH } from "./abi.ts";
import { currentRuntime, type NativeRuntime } from "./runtime.ts";
import type { NativeCalls } from "./symbols.ts";

/** The opened library. */
export interface NativeLibrary {
  readonly calls: NativeCalls;
  readonly map: NativeRuntime["map"];
  /** Where it was found. */
  readonly path: string;
}

const FILE_NAME = "librcm.so";
const BUILD_HINT = "run `deno task build` in the project's folder";

/** CPU flags as `/proc/cpuinfo` names them; the library is built for x86_64_v3 with AES. */
const CPU_FLAGS = [
  "avx2",
  "bmi1",
  "bmi2",
  "fma",
  "f16c",
  "movbe",
  "abm",
  "popcnt",
  "sse4_2",
  "aes",
  "pclmulqdq",
] as const;

const decoder = new TextDecoder();
let opened: NativeLibrary | null = null;

/**
 * @returns the native library, opened when first asked for
 * @throws RcmError `NATIVE` saying what was found and which command to run
 */
export function nativeLibrary(): NativeLibrary {
  opened ??= openLibrary();
  return opened;
}

/** @returns the text of this thread's last native error, "" when there is none */
function lastNativeError(library: NativeLibrary): string {
  const text = new Uint8Array(4096);
  const length = library.calls.rcm_last_error(text, text.byteLength);
  return decoder.decode(text.subarray(0, Math.max(0, Math.min(length, text.byteLength))));
}

/**
 * @param library whose call has failed
 * @param result negative result of a native set-up call
 * @param doing what was tried, for the message
 * @returns the error that tells of it
 */
export function nativeError(library: NativeLibrary, result: number, doing: string): RcmError {
  const text = lastNativeError(library);
  return new RcmError(
    errorCodeOfNative(result),
    `${doing}: ${text === "" ? `native result ${result}` : text}`,
  );
}

/** @returns the library's version text, as `strings librcm.so` shows it (guide 9.1.3) */
export function nativeVersion(): string {
  const text = new Uint8Array(256);
  const length = nativeLibrary().calls.rcm_version(text, text.byteLength);
  return decoder.decode(text.subarray(0, Math.max(0, Math.min(length, text.byteLength))));
}

/** @internal Where the library is looked for: an explicit place, else the first that exists. */
export function libraryCandidates(
  environment: Readonly<Record<string, string | undefined>>,
  moduleUrl: string,
  execPath: string,
): string[] {
  const explicit = environment["RCM_LIBRARY"];
  if (explicit !== undefined && explicit !== "") return [explicit];
  const candidates: string[] = [];
  if (moduleUrl.startsWith("file:")) {
    candidates.push(fileURLToPath(new URL(`../../native/out/${FILE_NAME}`, moduleUrl)));
  }
  if (execPath !== "") candidates.push(join(dirname(execPath), FILE_NAME));
  return candidates;
}

/** @internal The CPU flags that a `/proc/cpuinfo` lacks. */
export function missingCpuFlags(cpuinfo: string): string[] {
  const line = cpuinfo.split("\n").find((text) => text.startsWith("flags"));
  const flags = new Set((line ?? "").slice((line ?? "").indexOf(":") + 1).trim().split(/\s+/));
  return CPU_FLAGS.filter((flag) => !flags.has(flag));
}

function openLibrary(): NativeLibrary {
  checkMachine();
  const candidates = libraryCandidates(process.env, import.meta.url, process.execPath);
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    const looked = candidates.join(", ");
    throw process.env["RCM_LIBRARY"]
      ? new RcmError("NATIVE", `RCM_LIBRARY names ${looked}, which does not exist; ${BUILD_HINT}`)
      : new RcmError("NATIVE", `no native library at ${looked}; ${BUILD_HINT}`);
  }
  const runtime = currentRuntime();
  let calls: NativeCalls;
  try {
    calls = runtime.open(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RcmError("NATIVE", `${path} can't be opened (${reason}); ${openHint(runtime)}`, {
      cause,
    });
  }
  const found = calls.rcm_abi_hash();
  if (found !== ABI_HASH) {
    throw new RcmError(
      "NATIVE",
      `${path} has the ABI ${hex(found)}, this code needs ${hex(ABI_HASH)}; ${BUILD_HINT}`,
    );
  }
  return { calls, map: runtime.map, path };
}

function openHint(runtime: NativeRuntime): string {
  return runtime.name === "deno" ? `allow it with --allow-ffi, or ${BUILD_HINT}` : BUILD_HINT;
}

function checkMachine(): void {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new RcmError(
      "NATIVE",
      `the native library needs Linux on x86_64; this is ${process.platform} on ${process.arch}`,
    );
  }
  let cpuinfo: string;
  try {
    cpuinfo = readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    return; // without /proc the flags can't be known; refusing would be wrong more often
  }
  const missing = missingCpuFlags(cpuinfo);
  if (missing.length > 0) {
    throw new RcmError(
      "NATIVE",
      `the native library needs a CPU with ${missing.join(", ")} (x86_64_v3 with AES)`,
    );
  }
}

function hex(value: number): string {
  return "0x" + value.toString(16).padStart(8, "0");
}
