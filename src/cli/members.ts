/** `rcm members`: who is in a tier, who leads, and how far everybody is, as the arbiter knows. */

import type { Command } from "commander";
import { hide } from "../arbitration/address.ts";
import { COUNTERS_FOLDER } from "./counters_file.ts";
import { tierLines } from "./members_text.ts";
import { addArbiterOptions, CommandError, Exit, pause, type Shell, wholeNumber } from "./shell.ts";
import { type TierLook, watchTiers } from "./tier_look.ts";

const HOUR_MS = 3_600_000;
const LOOKS_MAX = 1_000_000_000;
const HOME = "\x1b[H\x1b[J";

interface Options {
  readonly address: string;
  readonly path: string;
  readonly tier?: string[];
  readonly watch?: true;
  readonly interval: string;
  readonly count?: string;
  readonly directory: string;
  readonly json?: true;
}

const ABOUT =
  "Shows the tiers of an arbiter: members and observers, who leads, epochs, logs and how far " +
  "behind the leader each is. What is read was written by the members themselves, about once a " +
  "second; those that run on this machine, for this user, are looked at in shared memory, which " +
  "is a tenth of a second old. Nothing is changed, and no member is asked.";

/** Adds `rcm members`. */
export function addMembers(program: Command, shell: Shell): void {
  const command = program.command("members")
    .summary("shows a running tier: roles, epochs, logs, who leads")
    .description(ABOUT);
  addArbiterOptions(command)
    .option("-t, --tier <name...>", "these tiers only; otherwise all below the path")
    .option("-w, --watch", "go on until Ctrl-C, like top")
    .option("-i, --interval <ms>", "between two looks of --watch", "1000")
    .option("-n, --count <looks>", "with --watch: end after so many")
    .option("--directory <folder>", "where counters files lie", COUNTERS_FOLDER)
    .option("--json", "one line of JSON a look")
    .addHelpText(
      "after",
      "\nExit code 1: a tier that was asked for is not there, has no leader, or has a member in " +
        "SEPARATE\n(with --watch: at the last look).",
    )
    .action((options: Options) => members(options, shell));
}

async function members(options: Options, shell: Shell): Promise<void> {
  const { address, path, tier = [] } = options;
  const intervalMs = wholeNumber("--interval", options.interval, 1, HOUR_MS);
  const most = options.count === undefined
    ? LOOKS_MAX
    : wholeNumber("--count", options.count, 1, LOOKS_MAX);
  const watcher = await watchTiers({ address, path }, tier, options.directory);
  try {
    const absent = tier.filter((name) => !watcher.tiers.includes(name));
    if (absent.length > 0 || watcher.tiers.length === 0) {
      const what = absent.length > 0 ? `no tier ${absent.join(", ")}` : "no tier";
      throw new CommandError(`there is ${what} in ${path} of ${hide(address)}`, Exit.FAULT);
    }
    for (let looks = 1;; looks += 1) {
      const tiers = await watcher.look();
      show(tiers, options, shell);
      shell.exit = tiers.every(isWell) ? Exit.OK : Exit.FAULT;
      if (!options.watch || looks >= most) return;
      if (!await pause(intervalMs, shell.signal)) return;
    }
  } finally {
    await watcher.close();
  }
}

function isWell({ leader, members }: TierLook): boolean {
  return leader !== null && members.every(({ role }) => role !== "SEPARATE");
}

function show(tiers: readonly TierLook[], { watch, json, path }: Options, shell: Shell): void {
  if (json) return shell.out(JSON.stringify({ path, tiers }));
  const lines = tiers.flatMap((tier, at) => at === 0 ? tierLines(tier) : ["", ...tierLines(tier)]);
  if (!watch || shell.terminal === null) {
    for (const line of lines) shell.out(line);
    return;
  }
  const { columns, rows } = shell.terminal;
  const shown = lines.slice(0, Math.max(1, rows - 2)).map((line) => line.slice(0, columns));
  shell.out(HOME + shown.join("\n"));
}
