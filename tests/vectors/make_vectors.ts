/**
 * Makes `datagrams.json` anew, after a change of the wire format that was meant:
 *
 *     deno run -A tests/vectors/make_vectors.ts
 *
 * Zig takes only imports below the root file, so the program is built in a copy of `native/src`.
 */

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import process from "node:process";
import { ensureZig, zigEnvironment } from "../../tools/toolchain.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const zig = await ensureZig();
const folder = mkdtempSync(join(tmpdir(), "rcm-vectors-"));
try {
  cpSync(here("../../native/src"), folder, { recursive: true });
  cpSync(here("make_vectors.zig"), join(folder, "make_vectors.zig"));
  const options = join(folder, "build_options.zig");
  writeFileSync(options, "pub const mutants = false;\n");
  const program = join(folder, "make_vectors");
  const args = ["build-exe", "-lc", `-femit-bin=${program}`, "--dep", "build_options"];
  const modules = [`-Mroot=${join(folder, "make_vectors.zig")}`, `-Mbuild_options=${options}`];
  const env = { ...process.env, ...zigEnvironment() };
  const built = spawnSync(zig, [...args, ...modules], { stdio: "inherit", env });
  if (built.status !== 0) throw new Error(`zig failed: ${built.error ?? built.status}`);
  const run = spawnSync(program, { encoding: "utf8" });
  if (run.status !== 0) throw new Error(`the program failed: ${run.stderr}`);
  writeFileSync(here("datagrams.json"), JSON.stringify(JSON.parse(run.stdout), null, 2) + "\n");
} finally {
  rmSync(folder, { recursive: true, force: true });
}
