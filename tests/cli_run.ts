/** Runs command lines of `rcm` in this process, for the tests of `src/cli`. */

import { runProgram } from "../src/cli/program.ts";
import type { Shell } from "../src/cli/shell.ts";

/** What a command line has done. */
export interface Ran {
  readonly exit: number;
  readonly out: string[];
  readonly err: string[];
}

/** @param args what stands behind `rcm` */
export async function rcm(...args: readonly string[]): Promise<Ran> {
  return await rcmUntil(new AbortController().signal, ...args);
}

/** The same, and Ctrl-C when `signal` is aborted. */
export async function rcmUntil(signal: AbortSignal, ...args: readonly string[]): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const shell: Shell = {
    out: (line) => void out.push(...line.split("\n")),
    err: (line) => void err.push(...line.split("\n")),
    signal,
    terminal: null,
    exit: 0,
  };
  return { exit: await runProgram(args, shell), out, err };
}
