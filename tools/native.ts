/**
 * Builds the native library when its sources changed.
 *
 * A stamp beside the library holds hashes of what it was made of and of itself, so that a run which
 * has nothing to build reads some files and starts no compiler.
 */

import { createHash } from "node:crypto";
import { listFiles } from "./paths.ts";
import { capture, ToolError } from "./process.ts";
import { ensureZig, projectRoot, withLock, zigEnvironment, zigVersion } from "./toolchain.ts";

export const nativeRoot = `${projectRoot}/native`;
export const libraryPath = `${nativeRoot}/out/librcm.so`;
const stampPath = `${nativeRoot}/out/librcm.stamp`;
const abiPath = `${projectRoot}/src/native/abi.ts`;
/** A cold build compiles parts of the standard library and of the build system first. */
const buildTimeoutMs = 20 * 60_000;

/** What a build is to bring up to date: the library, or TypeScript's view of its layout as well. */
export type BuildGoal = "library" | "library and layout";

/** Brings the library up to date. @returns whether a compiler ran */
export async function ensureLibrary(goal: BuildGoal = "library"): Promise<boolean> {
  if (isFresh(goal)) return false;
  return await withLock("build", async () => {
    if (isFresh(goal)) return false; // Another process was first.
    const zig = await ensureZig();
    console.error("building native/out/librcm.so (the first time takes minutes) ...");
    const steps = goal === "library" ? ["lib"] : ["lib", "abi"];
    const inputs = hashOfSources();
    const { code, output } = await capture(zig, ["build", ...steps], {
      cwd: nativeRoot,
      env: zigEnvironment(),
      timeoutMs: buildTimeoutMs,
    });
    if (code !== 0) throw new ToolError(`the native library can't be built:\n${output.trim()}`);
    Deno.writeTextFileSync(stampPath, stamp(inputs, goal));
    return true;
  });
}

function isFresh(goal: BuildGoal): boolean {
  try {
    const found = Deno.readTextFileSync(stampPath);
    if (found === stamp(hashOfSources(), "library and layout")) return true;
    return goal === "library" && found.startsWith(stamp(hashOfSources(), "library"));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A line each for what the library is made of, what it is, and the layout where it was made. */
function stamp(sources: string, goal: BuildGoal): string {
  const library = `sources ${sources}\nlibrary ${hashOf([libraryPath])}\n`;
  return goal === "library" ? library : `${library}layout ${hashOf([abiPath])}\n`;
}

function hashOfSources(): string {
  const files = [`${nativeRoot}/build.zig`, `${nativeRoot}/build.zig.zon`];
  return hashOf([...files, ...listFiles(`${nativeRoot}/src`, ".zig")], zigVersion);
}

function hashOf(paths: readonly string[], seed = ""): string {
  const hash = createHash("sha256").update(seed);
  for (const path of paths) {
    const bytes = Deno.readFileSync(path);
    hash.update(`\0${path.slice(projectRoot.length)}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest("hex");
}
