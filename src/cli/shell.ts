/**
 * What every command of `rcm` shares: where it writes, how it ends, and how it is added.
 *
 * Exit codes: 0 done; 1 done, and what was looked at is at fault; 2 the command line is wrong;
 * 3 it could not be done.
 */

import type { Command } from "commander";

/** How a command ends. */
export const Exit = { OK: 0, FAULT: 1, USAGE: 2, FAILED: 3 } as const;
export type Exit = (typeof Exit)[keyof typeof Exit];

/** Where a command writes, and what stops it. */
export interface Shell {
  /** A line of its result. */
  out(line: string): void;
  /** A line about it: failures, advice. */
  err(line: string): void;
  /** Aborted when the user wants it to end (Ctrl-C). */
  readonly signal: AbortSignal;
  /** Columns and rows of the terminal; null: the result goes elsewhere. */
  readonly terminal: { readonly columns: number; readonly rows: number } | null;
  /** The exit code, unless something fails afterwards. */
  exit: Exit;
}

/**
 * Adds one command, or several that belong together, below `program`.
 * Each is one file of `src/cli/`, named in `commands.ts`.
 */
export type AddCommand = (program: Command, shell: Shell) => void;

/** A failure that the user can do something about: its text is shown without a stack. */
export class CommandError extends Error {
  readonly exit: Exit;

  constructor(message: string, exit: Exit = Exit.FAILED, options?: ErrorOptions) {
    super(message, options);
    this.name = "CommandError";
    this.exit = exit;
  }
}

/** @returns the command that groups others (`rcm record ...`), made when first asked for */
export function group(program: Command, name: string, about: string): Command {
  const known = program.commands.find((command) => command.name() === name);
  return known ?? program.command(name).description(about);
}

/** Adds how an arbiter is named, as `setArbArg` takes it. */
export function addArbiterOptions(command: Command): Command {
  return command
    .requiredOption(
      "--address <address>",
      'as setArbArg takes it: "host:port,...", "digest:user:password@host:port", "local:"',
    )
    .requiredOption("--path <path>", 'as setArbArg takes it: "/rcm"');
}

/**
 * Reads a number of an option.
 * @throws CommandError with exit code 2
 */
export function wholeNumber(what: string, text: string, least: number, most: number): number {
  const value = /^[0-9]+$/.test(text) ? Number(text) : NaN;
  if (value >= least && value <= most) return value;
  throw new CommandError(
    `${what}: expected a whole number ${least}..${most}, found ${JSON.stringify(text)}`,
    Exit.USAGE,
  );
}

/** Waits; false: the user wants to stop. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve(true);
    }, milliseconds);
    function stop(): void {
      clearTimeout(timer);
      resolve(false);
    }
    signal.addEventListener("abort", stop, { once: true });
  });
}

/** Columns of text, the first to the left, numbers to the right, two blanks apart. */
export function table(rows: readonly (readonly (string | number)[])[], indent = ""): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, at) => widths[at] = Math.max(widths[at] ?? 0, String(cell).length));
  }
  return rows.map((row) => {
    const cells = row.map((cell, at) => {
      const width = widths[at] ?? 0;
      return typeof cell === "number" ? String(cell).padStart(width) : cell.padEnd(width);
    });
    return (indent + cells.join("  ")).trimEnd();
  });
}
