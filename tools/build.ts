/** `deno task build`: `native/out/librcm.so`, and `src/native/abi.ts` from the same sources. */

import { ensureLibrary, libraryPath } from "./native.ts";
import { runTool } from "./process.ts";

await runTool(async () => {
  const built = await ensureLibrary("library and layout");
  console.log(`${libraryPath}${built ? "" : " (nothing to build)"}`);
  return 0;
});
