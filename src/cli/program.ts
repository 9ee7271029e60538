/** Runs a command line of `rcm`. The command-line library is known here and in commands only. */

import { Command, CommanderError } from "commander";
import { RcmError } from "../errors.ts";
import { commands } from "./commands.ts";
import { CommandError, Exit, type Shell } from "./shell.ts";

const EXIT_CODES = `
Exit codes: 0 done; 1 done, and what was looked at is at fault (a damaged record, a wrong
configuration); 2 the command line is wrong; 3 it could not be done.`;

/**
 * @param args what stands behind `rcm`
 * @returns the exit code
 */
export async function runProgram(args: readonly string[], shell: Shell): Promise<Exit> {
  const program = new Command("rcm")
    .description("Looks at running RCM contexts and tiers, at record files and at configurations.")
    .addHelpText("after", EXIT_CODES)
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError("(add --help for what there is)")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => shell.out(text.replace(/\n$/, "")),
      writeErr: (text) => shell.err(text.replace(/\n$/, "")),
    });
  for (const add of commands) add(program, shell);
  for (const command of below(program)) inherit(command, program);
  try {
    await program.parseAsync([...args], { from: "user" });
    return shell.exit;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    if (error instanceof CommandError) {
      shell.err(`rcm: ${error.message}`);
      return error.exit;
    }
    if (error instanceof RcmError) {
      shell.err(`rcm: ${error.code}: ${error.message}`);
      return Exit.FAILED;
    }
    throw error;
  }
}

function below(command: Command): Command[] {
  return command.commands.flatMap((one) => [one, ...below(one)]);
}

/** A command that was added later does not have the program's settings by itself. */
function inherit(command: Command, program: Command): void {
  command.copyInheritedSettings(program);
  command.exitOverride();
  command.addHelpText("after", EXIT_CODES);
}
