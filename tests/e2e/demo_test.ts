/** The demo, as a stranger runs it. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { e2e, programOf, within } from "./harness/driver.ts";
import { forgetChild, keepChild } from "./harness/run.ts";

const demo = fileURLToPath(new URL("../../examples/demo/demo.ts", import.meta.url));

async function runDemo(...args: readonly string[]): Promise<{ code: number; output: string }> {
  const [program = "", ...rest] = programOf("deno");
  const [bun = ""] = programOf("bun");
  const child = spawn(program, [...rest, demo, ...args], {
    env: { ...process.env, RCM_BUN: bun, NO_COLOR: "1" },
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
    return { code: await within(ended, 120_000, () => `the demo ends: ${output}`), output };
  } finally {
    forgetChild(pid);
    child.kill("SIGKILL");
  }
}

e2e("the demo: three equal files, whatever the lines are like", async (bed) => {
  const file = join(bed.folder, "lines.txt");
  const lines = Array.from(
    { length: 3000 },
    (_, i) =>
      i % 50 === 0
        ? ""
        : i % 777 === 0
        ? "long ".repeat(3000)
        : `line ${i} ${"ab\u00e9\u4e2d".repeat(i % 9)}`,
  );
  // Without a line feed at the end.
  const text = lines.join("\n") + "\nlast";
  writeFileSync(file, text);
  const sha256 = createHash("sha256").update(text).digest("hex");
  const { code, output } = await runDemo(file);
  assert.equal(code, 0, output);
  assert.equal(output.split(sha256).length - 1, 3, output);
  assert.match(output, /all three files are equal/);
  assert.match(output, /as deno got it/);
  assert.match(output, /as bun got it/);
  assert.match(output, /sent\s+3001 lines/);
  assert.match(output, /[1-9]\d* repairs/, "losses were repaired");
  assert.match(output, /p50 \d+ us, p99 \d+ us/);
});

e2e("the demo without its file says so and fails", async (bed) => {
  const { code, output } = await runDemo(join(bed.folder, "nothing"));
  assert.notEqual(code, 0);
  assert.match(output, /nothing is not there/);
});
