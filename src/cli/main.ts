#!/usr/bin/env -S deno run -A
/** The `rcm` command: `deno task rcm ...`, or `bun src/cli/main.ts ...`. */

import process from "node:process";
import { runProgram } from "./program.ts";
import { Exit, type Shell } from "./shell.ts";

const stop = new AbortController();
process.on("SIGINT", () => stop.abort());
process.on("SIGTERM", () => stop.abort());
// Who reads the result may have had enough of it (`rcm record dump | head`).
process.stdout.on("error", (error: Error & { code?: string }) => {
  if (error.code === "EPIPE") process.exit(Exit.OK);
  throw error;
});

const shell: Shell = {
  out: (line) => void process.stdout.write(`${line}\n`),
  err: (line) => void process.stderr.write(`${line}\n`),
  signal: stop.signal,
  terminal: process.stdout.isTTY
    ? { columns: process.stdout.columns, rows: process.stdout.rows }
    : null,
  exit: Exit.OK,
};
// Not process.exit(): what was written must reach its reader first.
process.exitCode = await runProgram(process.argv.slice(2), shell);
