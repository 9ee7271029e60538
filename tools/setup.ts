/** `deno task setup`: the pinned toolchain, and system programs for tests where possible. */

import { runTool } from "./process.ts";
import { ensureSystemPrograms } from "./system.ts";
import { bunVersion, ensureBun, ensureCommandLibrary, ensureZig, zigVersion } from "./toolchain.ts";

/** Makes everything ready that `build`, `demo` and `test` need. */
export async function setUp(): Promise<{ readonly zig: string; readonly bun: string }> {
  const zig = await ensureZig();
  const bun = await ensureBun();
  await ensureCommandLibrary(bun);
  await ensureSystemPrograms();
  return { zig, bun };
}

if (import.meta.main) {
  await runTool(async () => {
    const { zig, bun } = await setUp();
    console.log(`Zig ${zigVersion}  ${zig}\nBun ${bunVersion}   ${bun}`);
    return 0;
  });
}
