/** Members in processes of their own (`arbitration_child.ts`), to be killed and paused. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Bed, until } from "./arbitration_bed.ts";

const file = fileURLToPath(new URL("./arbitration_child.ts", import.meta.url));
const isBun = process.versions["bun"] !== undefined;

export interface Child {
  readonly lines: readonly string[];
  /** Waits until a line begins with that, behind the first `from` lines. */
  line(start: string, from?: number): Promise<string>;
  signal(name: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void;
  say(line: string): void;
  end(): Promise<void>;
}

/** Starts a member. */
export function startChild(bed: Bed, node: string, sessionTimeoutMilli = 2000): Child {
  const runtime = isBun ? [] : ["run", "-A", "--no-check", "--quiet"];
  const args = [...runtime, file, bed.address, bed.path, node, `${sessionTimeoutMilli}`];
  const child: ChildProcess = spawn(process.execPath, args, {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines: string[] = [];
  let rest = "";
  child.stdout!.on("data", (bytes) => {
    const parts = (rest + bytes.toString()).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
  });
  let isOver = false;
  const gone = new Promise<void>((resolve) =>
    child.once("exit", () => {
      isOver = true;
      resolve();
    })
  );
  const killed = () => child.kill("SIGKILL");
  process.on("exit", killed);
  return {
    lines,
    line: (start, from = 0) =>
      until(`"${start}" of ${node}, which said ${JSON.stringify(lines)}`, () => {
        const found = lines.slice(from).find((text) => text.startsWith(start));
        assert.ok(found !== undefined || !isOver, `${node} has ended: ${JSON.stringify(lines)}`);
        return found;
      }),
    // `ChildProcess.kill` does nothing after a SIGCONT in Deno.
    signal: (name) => void process.kill(child.pid!, name),
    say: (line) => void child.stdin!.write(`${line}\n`),
    async end() {
      process.off("exit", killed);
      if (!isOver) process.kill(child.pid!, "SIGKILL");
      await gone;
    },
  };
}
