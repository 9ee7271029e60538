/** The examples that run to their end, as a reader runs them, in both runtimes. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { e2e, programOf, within } from "./harness/driver.ts";
import { forgetChild, keepChild } from "./harness/run.ts";

/** @returns what the example printed; it ended well */
async function runExample(
  runtime: "deno" | "bun",
  name: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  const file = fileURLToPath(new URL(`../../examples/${name}`, import.meta.url));
  const [program = "", ...rest] = programOf(runtime);
  const child = spawn(program, [...rest, file], {
    env: { ...process.env, NO_COLOR: "1", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const pid = child.pid!;
  keepChild(pid);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data: Uint8Array) => output += String(data));
  }
  const ended = new Promise<number>((resolve) => child.on("close", (code) => resolve(code ?? -1)));
  try {
    assert.equal(await within(ended, 60_000, () => `${name} ends: ${output}`), 0, output);
    return output;
  } finally {
    forgetChild(pid);
    child.kill("SIGKILL");
    const folder = name.split("/")[0]!;
    for (const left of readdirSync("/dev/shm")) {
      if (
        left.startsWith(`${folder}_tx_`) || name === "shared/feed.ts" && left.startsWith("feed_")
      ) {
        rmSync(`/dev/shm/${left}`);
      }
    }
  }
}

for (const runtime of ["deno", "bun"] as const) {
  e2e(
    `what a handler keeps: slice() lasts, a view does not, RCM_COPY=1 tells (${runtime})`,
    async () => {
      const plain = await runExample(runtime, "keep/keep.ts", { RCM_COPY: "0" });
      assert.match(plain, /slice\(\): 1000 of 1000/);
      assert.doesNotMatch(plain, /views: +1000 of 1000/);
      const copied = await runExample(runtime, "keep/keep.ts", { RCM_COPY: "1" });
      assert.match(copied, /slice\(\): 1000 of 1000/);
      assert.match(copied, /views: +1000 of 1000/);
    },
  );

  e2e(`Workers that send (${runtime})`, async () => {
    const output = await runExample(runtime, "workers/main.ts");
    for (const from of ["main thread", "Worker 0", "Worker 1"]) {
      assert.match(output, new RegExp(`1000 messages of ${from}, in order`));
    }
  });

  e2e(`a Worker for each lane (${runtime})`, async () => {
    const output = await runExample(runtime, "lanes/main.ts");
    assert.match(output, /one thread: 40000 messages/);
    assert.match(output, /two Workers: 40000 messages/);
  });

  e2e(`two programs that share memory (feed in ${runtime})`, async () => {
    const reader = runExample(runtime === "deno" ? "bun" : "deno", "shared/strategy.ts");
    assert.match(await runExample(runtime, "shared/feed.ts"), /100000 quotes read/);
    assert.match(await reader, /100000 quotes, the highest 99999/);
  });
}
