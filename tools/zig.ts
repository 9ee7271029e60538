/** `deno task zig ...`: the pinned Zig in `native/`; `deno task sim`, `fuzz`, `fmt` use it too. */

import { nativeRoot } from "./native.ts";
import { passThrough, runTool } from "./process.ts";
import { ensureZig, zigEnvironment } from "./toolchain.ts";

await runTool(async () => {
  // `deno task sim -- --seed 5` hands on its own "--" behind the one that the task has.
  const args = Deno.args.filter((arg, index) => arg !== "--" || Deno.args.indexOf("--") === index);
  return await passThrough(await ensureZig(), args, { cwd: nativeRoot, env: zigEnvironment() });
});
