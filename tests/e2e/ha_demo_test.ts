/** The demo of a tier, as a stranger runs it: to its end, and interrupted. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { e2e, LIMIT_MS, programOf, until, within } from "./harness/driver.ts";
import { forgetChild, keepChild } from "./harness/run.ts";
import { zookeeperMissing } from "./harness/zookeeper.ts";

const demo = fileURLToPath(new URL("../../examples/ha/demo/demo.ts", import.meta.url));
/** Its own limits are a minute for each step. */
const DEMO_MS = 5 * LIMIT_MS;

interface Demo {
  readonly child: ChildProcess;
  readonly code: Promise<number>;
  text(): string;
  end(): void;
}

function startDemo(folder: string, env: Record<string, string>, ...args: string[]): Demo {
  const [program = "", ...rest] = programOf("deno");
  const [bun = ""] = programOf("bun");
  const child = spawn(program, [...rest, demo, ...args], {
    env: { ...process.env, RCM_BUN: bun, NO_COLOR: "1", TMPDIR: folder, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  keepChild(child.pid!);
  let output = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (data: Uint8Array) => output += String(data));
  }
  return {
    child,
    code: new Promise((resolve) => child.on("close", (code) => resolve(code ?? -1))),
    text: () => output,
    end() {
      forgetChild(child.pid!);
      child.kill("SIGKILL");
    },
  };
}

/** Its files, here and in shared memory, are gone. */
function assertNothingLeft(folder: string, output: string): void {
  assert.deepEqual(readdirSync(folder), []);
  const port = /multicast on 127\.0\.0\.1:(\d+)/.exec(output)?.[1];
  assert.ok(port !== undefined, output);
  assert.ok(!existsSync(join("/dev/shm", `rcm-ha-${port}`)));
}

async function playToTheEnd(folder: string, kind: string): Promise<void> {
  const run = startDemo(folder, {}, `--arbiter=${kind}`);
  try {
    const code = await within(run.code, DEMO_MS, () => `the demo ends: ${run.text()}`);
    const output = run.text();
    assert.equal(code, 0, output);
    assert.equal(output.match(/is killed, the leader/g)?.length, 2, output);
    assert.equal(output.match(/leads, [0-9.]+ s after the kill/g)?.length, 2, output);
    assert.match(output, /node\d ACTIVE epoch \d+ sqn \d+ lag 0/, "the table, in lines");
    assert.match(output, /3 members, 5 lives: all histories are equal/);
    const [, messages, sha256] = /^(\d+) messages [^]*^sha256 ([0-9a-f]{64})$/m.exec(output) ?? [];
    const whole = `${messages} messages  ${sha256?.slice(0, 16)}`;
    assert.equal(output.split(whole).length - 1, 3, `three whole lives: ${output}`);
    assert.ok(Number(messages) > 1000, output);
    assertNothingLeft(folder, output);
  } finally {
    run.end();
  }
}

e2e("deno task ha by files of this machine: equal histories, nothing left", async (bed) => {
  await playToTheEnd(bed.folder, "local");
});

const NAME = "deno task ha with its own ZooKeeper: equal histories, nothing left";
const missing = zookeeperMissing();
if (missing !== false && process.env["CI"] === "true") throw new Error(missing);
if (missing === false) e2e(NAME, async (bed) => await playToTheEnd(bed.folder, "zookeeper"));
else test(`${NAME} [${missing}]`, { skip: missing }, () => {});

e2e("deno task ha, interrupted: it ends what it has started", async (bed) => {
  const run = startDemo(bed.folder, {}, "--arbiter=local");
  try {
    await until(() => run.text().includes("is killed, the leader"), () => run.text());
    // Deno tells of who was sent a signal by `kill` of the child that it ended by it.
    process.kill(run.child.pid!, "SIGINT");
    assert.equal(await within(run.code, LIMIT_MS, () => `it ends: ${run.text()}`), 130);
    assert.match(run.text(), /ha: interrupted/);
    assertNothingLeft(bed.folder, run.text());
  } finally {
    run.end();
  }
});

e2e("deno task ha without ZooKeeper says what is missing, and what goes without", async (bed) => {
  const run = startDemo(bed.folder, { RCM_ZK_LIB: "/nonexistent/libzookeeper.so" });
  try {
    assert.equal(await within(run.code, LIMIT_MS, run.text), 2, run.text());
    assert.match(run.text(), /needs .*: deno task setup/);
    assert.match(run.text(), /deno task ha --arbiter=local/);
    assert.deepEqual(readdirSync(bed.folder), []);
  } finally {
    run.end();
  }
});
