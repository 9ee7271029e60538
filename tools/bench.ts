/**
 * `deno task bench [filter]`: benchmarks with their yardsticks. The native ones (`native/bench/`)
 * come first, then each `bench/*_bench.ts` in Deno and in Bun. Nothing else should run meanwhile.
 */

import { ensureLibrary, nativeRoot } from "./native.ts";
import { listFiles } from "./paths.ts";
import { passThrough, runTool, ToolError } from "./process.ts";
import { ensureBun, ensureZig, projectRoot, zigEnvironment } from "./toolchain.ts";

await runTool(async () => {
  const filter = Deno.args.find((arg) => !arg.startsWith("-")) ?? "";
  const native = listFiles(`${nativeRoot}/bench`, "bench.zig");
  const scripts = listFiles(`${projectRoot}/bench`, "_bench.ts")
    .filter((path) => path.includes(filter));
  if (native.length + scripts.length === 0) {
    throw new ToolError(`no benchmark matches "${filter}" in native/bench/ and bench/`);
  }
  await ensureLibrary();
  let worst = 0;
  if (native.length > 0) {
    const args = ["build", "bench", "--", ...(filter === "" ? [] : [filter])];
    const options = { cwd: nativeRoot, env: zigEnvironment() };
    worst = Math.max(worst, await passThrough(await ensureZig(), args, options));
  }
  for (const script of scripts) {
    console.log(`\n${script.slice(projectRoot.length + 1)} in Deno`);
    worst = Math.max(worst, await passThrough(Deno.execPath(), ["run", "-A", script]));
    console.log(`\n${script.slice(projectRoot.length + 1)} in Bun`);
    worst = Math.max(worst, await passThrough(await ensureBun(), [script]));
  }
  return worst;
});
