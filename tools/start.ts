/**
 * Runs a program of this repository with the library up to date:
 *
 *     deno run -A tools/start.ts [--bun] [--with-bun] PROGRAM [arguments]
 *
 * `--bun` runs it in Bun instead of Deno. `--with-bun` makes Bun ready and names it to the program
 * in `RCM_BUN`.
 */

import { ensureLibrary } from "./native.ts";
import { passThrough, runTool, ToolError } from "./process.ts";
import { ensureBun, ensureCommandLibrary, projectRoot } from "./toolchain.ts";

await runTool(async () => {
  const at = Deno.args.findIndex((arg) => !arg.startsWith("--"));
  const program = Deno.args[at];
  if (program === undefined) {
    throw new ToolError("usage: start.ts [--bun] [--with-bun] PROGRAM [arguments]");
  }
  const flags = Deno.args.slice(0, at);
  // `deno task demo -- FILE` hands on the "--", `deno task simple:server --bun` the flag.
  const args = Deno.args.slice(at + 1).filter((arg, index) => index > 0 || arg !== "--");
  const inBun = flags.includes("--bun") || args[0] === "--bun";
  if (args[0] === "--bun") args.shift();
  await ensureLibrary();
  const env: Record<string, string> = {};
  if (inBun || flags.includes("--with-bun")) env["RCM_BUN"] = await ensureBun();
  const path = `${projectRoot}/${program}`;
  if (inBun && program.startsWith("src/cli/")) await ensureCommandLibrary(await ensureBun());
  if (inBun) return await passThrough(await ensureBun(), [path, ...args], { env });
  return await passThrough(Deno.execPath(), ["run", "-A", path, ...args], { env });
});
