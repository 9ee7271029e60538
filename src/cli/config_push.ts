/** `rcm config push`: writes a configuration to where `newRcmFactory(null)` reads it. */

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import type { Command } from "commander";
import { pushConfig } from "../arbitration/config_push.ts";
import { RcmError } from "../errors.ts";
import { nativeLibrary } from "../native/library.ts";
import { addArbiterOptions, CommandError, Exit, group, type Shell } from "./shell.ts";

interface Options {
  readonly address: string;
  readonly path: string;
  readonly json?: true;
}

/** Adds `rcm config push`. */
export function addConfigPush(program: Command, shell: Shell): void {
  const command = group(program, "config", "Configuration files").command("push")
    .description(
      "Checks a configuration file and writes it to <path>/config/1..n of the arbitration, in " +
        "place of what is there.",
    )
    .argument("<file>", "the JSON file");
  addArbiterOptions(command)
    .option("--json", "the result as one line of JSON")
    .action(async (file: string, { address, path, json }: Options) => {
      const text = read(file);
      try {
        const pushed = await pushConfig(nativeLibrary(), address, path, text, basename(file));
        if (json) return shell.out(JSON.stringify({ file, path, ...pushed }));
        const parts = pushed.parts === 1 ? "1 node" : `${pushed.parts} nodes`;
        shell.out(`${file}: ${pushed.bytes} bytes in ${parts} of ${path}/config`);
        if (!pushed.isAtomic) {
          shell.err("rcm: too large for one transaction: who read in between was refused");
        }
      } catch (error) {
        if (!(error instanceof RcmError) || error.code !== "CONFIG") throw error;
        shell.exit = Exit.FAULT;
        shell.err(`${file}: not written, it has faults:`);
        for (const line of error.details) shell.err(`  ${line}`);
      }
    });
}

function read(file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CommandError(`${file} can't be read: ${reason}`, Exit.FAILED, { cause });
  }
}
