/** `rcm config check`: every fault of a configuration file, each with its path. */

import type { Command } from "commander";
import { loadConfig, resolveContext } from "../config/mod.ts";
import { RcmError } from "../errors.ts";
import { Exit, group, type Shell } from "./shell.ts";

interface Checked {
  readonly file: string;
  readonly faults: readonly string[];
  readonly contexts: readonly string[];
  /** Keys that this version does not act on, by context: it can't be created. */
  readonly unsupported: readonly { readonly context: string; readonly keys: readonly string[] }[];
}

/** Adds `rcm config check`. */
export function addConfigCheck(program: Command, shell: Shell): void {
  group(program, "config", "Configuration files")
    .command("check")
    .description("Checks a configuration file as newRcmFactory does, and lists all its faults.")
    .argument("<file>", "the JSON file")
    .option("--json", "the result as one line of JSON")
    .action((file: string, options: { json?: true }) => {
      const checked = check(file);
      if (checked.faults.length > 0) shell.exit = Exit.FAULT;
      if (options.json) return shell.out(JSON.stringify(checked));
      for (const line of linesOf(checked)) shell.out(line);
    });
}

function check(file: string): Checked {
  try {
    const loaded = loadConfig(file);
    const contexts = loaded.model.nodes.map(({ name }) => name);
    const unsupported = contexts
      .map((context) => ({ context, keys: resolveContext(loaded, context).unsupportedKeys }))
      .filter(({ keys }) => keys.length > 0);
    return { file, faults: [], contexts, unsupported };
  } catch (error) {
    if (!(error instanceof RcmError) || error.code !== "CONFIG") throw error;
    const faults = error.details.length > 0 ? error.details : [error.message];
    return { file, faults, contexts: [], unsupported: [] };
  }
}

function linesOf({ file, faults, contexts, unsupported }: Checked): string[] {
  if (faults.length > 0) {
    const count = faults.length === 1 ? "1 fault" : `${faults.length} faults`;
    return [`${file}: ${count}`, ...faults.map((fault) => `  ${fault}`)];
  }
  return [
    `${file}: good, contexts: ${contexts.join(", ")}`,
    ...unsupported.map(({ context, keys }) =>
      `  ${context} can't be created by this version: ${keys.join(", ")}`
    ),
  ];
}
