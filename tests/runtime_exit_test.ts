/**
 * How a process with running contexts ends: by itself after `stop`, by a signal as the program
 * wants it, by an error, by `process.exit`; never by a crash, and never not at all.
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import test from "node:test";
import { clearTimeout, setTimeout } from "node:timers";
import { fileURLToPath } from "node:url";
import { makeBus } from "./api_bus.ts";
import type { Program, Way } from "./runtime_program.ts";

const file = fileURLToPath(new URL("./runtime_program.ts", import.meta.url));
const isBun = process.versions["bun"] !== undefined;
const LIMIT_MS = 60_000;

interface Ending {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program; `onLine` may do something to it when it says something. */
async function run(
  way: Way,
  onLine: (child: ChildProcess, line: string) => void = () => {},
): Promise<Ending> {
  const bus = makeBus();
  const program: Program = {
    way,
    config: bus.config,
    workDir: bus.workDir,
    prefix: bus.prefix,
  };
  const first = isBun ? [] : ["run", "-A", "--quiet"];
  const child = spawn(process.execPath, [...first, file, JSON.stringify(program)], {
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, LIMIT_MS);
  try {
    return await new Promise<Ending>((resolve, reject) => {
      child.on("error", reject);
      child.stderr.on("data", (data: Uint8Array) => stderr += String(data));
      child.stdout.on("data", (data: Uint8Array) => {
        const from = stdout.lastIndexOf("\n") + 1;
        stdout += String(data);
        for (const line of stdout.slice(from).split("\n").slice(0, -1)) onLine(child, line);
      });
      child.on("close", (code, signal) => {
        if (isLate) reject(new Error(`it does not end: ${stdout} ${stderr}`));
        else resolve({ code, signal, stdout, stderr });
      });
    });
  } finally {
    clearTimeout(timer);
    child.kill("SIGKILL");
    await bus.close();
  }
}

const sendWhenFlowing = (signal: NodeJS.Signals) => (child: ChildProcess, line: string) => {
  // Not by `child.kill`: then Deno tells that signal as the end, whatever the process made of it.
  if (line === "flowing") process.kill(child.pid!, signal);
};

test("after stop nothing keeps the process", async () => {
  const { code, stdout, stderr } = await run("stop");
  assert.deepEqual([code, stdout], [0, "flowing\nstopped\nend\n"], stderr);
});

test("a program that stops its contexts in SIGTERM ends by itself", async () => {
  const { code, stdout, stderr } = await run("stop in SIGTERM", sendWhenFlowing("SIGTERM"));
  assert.equal(code, 0, stderr);
  assert.deepEqual(stdout.split("\n").sort(), ["", "end", "flowing", "stopped"]);
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`a program without a handler is ended by ${signal}`, async () => {
    const ending = await run("nothing", sendWhenFlowing(signal));
    assert.equal(ending.stderr, "");
    // A runtime may report the signal as the code that a shell would show.
    const expected = signal === "SIGTERM" ? 128 + 15 : 128 + 2;
    assert.ok(ending.signal === signal || ending.code === expected, JSON.stringify(ending));
  });
}

test("an error that nobody catches ends the process, and is shown", async () => {
  const { code, stdout, stderr } = await run("throw");
  assert.equal(code, 1, stderr);
  assert.match(stderr, /on purpose/);
  assert.equal(stdout, "flowing\n");
});

test("process.exit inside a handler ends the process with its code", async () => {
  const { code, stdout, stderr } = await run("exit in a handler");
  assert.deepEqual([code, stdout, stderr], [7, "flowing\n", ""]);
});

test("process.exit while messages fly ends the process with its code", async () => {
  const { code, stdout, stderr } = await run("exit");
  assert.deepEqual([code, stdout, stderr], [8, "flowing\n", ""]);
});
