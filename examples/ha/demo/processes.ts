/** The demo's processes: members and senders, in Deno and in Bun. */

import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";

/** How a process ends that is told to, before it is killed. */
const END_MS = 40_000;
const LINES_MAX = 200;

export type Runtime = "deno" | "bun";

/** A process that runs, or did. */
export interface Running {
  readonly name: string;
  readonly runtime: Runtime;
  readonly pid: number;
  /** What it printed, the last lines. */
  readonly lines: readonly string[];
  /** Exit code; null: it runs. */
  code(): number | null;
  write(line: string): void;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** "halt", and SIGKILL after a while; resolves with the exit code. */
  halt(): Promise<number>;
  /** Its exit code, when it has ended by itself. */
  readonly ended: Promise<number>;
}

/** Starts processes, and knows all that it has started. */
export function makeProcesses(bun: string) {
  const all = new Set<Running>();
  const commands: Readonly<Record<Runtime, readonly string[]>> = {
    deno: [process.execPath, "run", "-A", "--quiet"],
    bun: [bun],
  };

  function start(name: string, runtime: Runtime, args: readonly string[]): Running {
    const [program = "", ...before] = commands[runtime];
    const child = spawn(program, [...before, ...args], {
      env: { ...process.env, NO_COLOR: "1" },
      stdio: ["pipe", "pipe", "pipe"],
    });
    // Who has ended takes no more orders.
    child.stdin!.on("error", () => {});
    const lines: string[] = [];
    for (const stream of [child.stdout!, child.stderr!]) gather(stream, lines);
    let code: number | null = null;
    const ended = new Promise<number>((resolve) => {
      const end = (found: number) => {
        code ??= found;
        all.delete(running);
        resolve(code);
      };
      child.on("error", (error) => {
        lines.push(error.message);
        end(127);
      });
      child.on("close", (found, signal) => {
        if (signal !== null) lines.push(`ended by ${signal}`);
        end(found ?? 137);
      });
    });
    const running: Running = {
      name,
      runtime,
      pid: child.pid ?? 0,
      lines,
      ended,
      code: () => code,
      write: (line) => void child.stdin!.write(`${line}\n`),
      async kill() {
        child.kill("SIGKILL");
        await ended;
      },
      async halt() {
        running.write("halt");
        const timer = setTimeout(() => child.kill("SIGKILL"), END_MS);
        const found = await ended;
        clearTimeout(timer);
        return found;
      },
    };
    all.add(running);
    return running;
  }

  return {
    start,
    /** Kills all that run. */
    async killAll(): Promise<void> {
      await Promise.all([...all].map((one) => one.kill()));
    },
  };
}

function gather(stream: NonNullable<ChildProcess["stdout"]>, lines: string[]): void {
  let rest = "";
  stream.on("data", (bytes: Uint8Array) => {
    const parts = (rest + String(bytes)).split("\n");
    rest = parts.pop()!;
    lines.push(...parts);
    lines.splice(0, Math.max(0, lines.length - LINES_MAX));
  });
}
