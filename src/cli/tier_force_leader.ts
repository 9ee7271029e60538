/** `rcm tier force-leader`: lets a member lead although committed messages may be lost by it. */

import type { Command } from "commander";
import { hide } from "../arbitration/address.ts";
import {
  forceLeader,
  type ForcePlan,
  leaderOf,
  missingFor,
  planForce,
} from "../arbitration/force_leader.ts";
import { listTiers, openOutside, type OutsideTier, type TiersPlace } from "../arbitration/tiers.ts";
import { nativeLibrary } from "../native/library.ts";
import {
  addArbiterOptions,
  CommandError,
  Exit,
  group,
  pause,
  type Shell,
  table,
  wholeNumber,
} from "./shell.ts";

const LOOK_MS = 100;
const WAIT_SECONDS_MAX = 3600;

interface Options {
  readonly address: string;
  readonly path: string;
  readonly tier?: string;
  readonly yes?: true;
  readonly wait: string;
  readonly json?: true;
}

const ABOUT =
  "Lets a member lead without the members whose logs hold what was committed: the way out when " +
  "they are lost for ever (guide 8.7.3). It takes over the freshest log that it reaches, blank " +
  "or not, and the tier goes on with that; the permission counts once, and is over as soon as " +
  "any member leads. COMMITTED MESSAGES MAY BE LOST. Without --yes it only tells what it would do.";

/** Adds `rcm tier force-leader`. */
export function addTierForceLeader(program: Command, shell: Shell): void {
  const command = group(program, "tier", "Running tiers").command("force-leader")
    .summary("lets a member lead although committed messages may be lost by it")
    .description(ABOUT)
    .argument("<node>", "name of the member's context");
  addArbiterOptions(command)
    .option("-t, --tier <name>", "the tier; needed where there are several below the path")
    .option("--yes", "do it")
    .option("--wait <seconds>", "how long a member that runs is waited for; 0: not at all", "30")
    .option("--json", "the result as one line of JSON")
    .addHelpText(
      "after",
      "\nExit code 3: refused (a leader runs, nothing was ever established, an observer), or the " +
        "tree changed\nmeanwhile. Exit code 1: it was allowed, but does not lead after --wait.",
    )
    .action((node: string, options: Options) => force(node, options, shell));
}

async function force(node: string, options: Options, shell: Shell): Promise<void> {
  const waitSeconds = wholeNumber("--wait", options.wait, 0, WAIT_SECONDS_MAX);
  const library = nativeLibrary();
  const name = await tierOf(options);
  const tier = await openOutside(library, options, name);
  try {
    const plan = await planForce(tier.arbiter, node);
    if (plan.refusal !== null) throw new CommandError(`refused: ${plan.refusal}`);
    if (!options.json) { for (const line of planLines(name, plan, options)) shell.out(line); }
    const { outcome, text } = options.yes
      ? await carryOut(tier, plan, waitSeconds, shell)
      : { outcome: "planned" as const, text: "Nothing was changed. To do it, add --yes" };
    if (outcome === "waits" || outcome === "over") shell.exit = Exit.FAULT;
    if (options.json) shell.out(jsonOf(name, plan, outcome));
    else shell.out(`\n${text}`);
  } finally {
    await tier.close();
  }
}

/** What became of it: nothing was asked, it may lead when it starts, it leads, or it does not. */
type Result = {
  readonly outcome: "planned" | "allowed" | "leads" | "waits" | "over";
  text: string;
};

async function carryOut(
  tier: OutsideTier,
  plan: ForcePlan,
  waitSeconds: number,
  shell: Shell,
): Promise<Result> {
  const { node, view } = plan;
  const result = await forceLeader(tier.arbiter, plan);
  if (result.kind === "refused") throw new CommandError(`refused: ${result.why}; look again`);
  if (!view.members.some((member) => member.node === node)) {
    return { outcome: "allowed", text: `${node} may lead now: start it` };
  }
  if (waitSeconds === 0) return { outcome: "allowed", text: `${node} may lead now` };
  const leader = await leads(tier, waitSeconds, shell);
  if (leader === node) return { outcome: "leads", text: `${node} leads` };
  if (leader !== null) {
    return { outcome: "over", text: `${leader} leads, and ${node} may no longer` };
  }
  const text = `${node} may lead, but does not after ${waitSeconds} s: look at its log`;
  return { outcome: "waits", text };
}

async function tierOf({ address, path, tier }: Options): Promise<string> {
  const place: TiersPlace = { address, path };
  const names = await listTiers(nativeLibrary(), place);
  const where = `${path} of ${hide(address)}`;
  if (tier !== undefined && names.includes(tier)) return tier;
  if (tier !== undefined) throw new CommandError(`there is no tier ${tier} in ${where}`);
  const [only, ...more] = names;
  if (only === undefined) throw new CommandError(`there is no tier in ${where}`);
  if (more.length === 0) return only;
  throw new CommandError(`name one by --tier, of ${names.join(", ")} in ${where}`, Exit.USAGE);
}

/** @returns who leads by then; null: nobody */
async function leads(tier: OutsideTier, seconds: number, shell: Shell): Promise<string | null> {
  const limit = performance.now() + seconds * 1000;
  while (performance.now() < limit) {
    const leader = leaderOf(await tier.read());
    if (leader !== null) return leader;
    if (!await pause(LOOK_MS, shell.signal)) return null;
  }
  return null;
}

function planLines(name: string, plan: ForcePlan, { yes }: Options): string[] {
  const { node, view, notes } = plan;
  const established = view.master!.record.established!;
  const missing = missingFor(view, established);
  const members = view.members.map(({ node, state }) => [
    node,
    state?.adopted?.number ?? 0,
    state?.lastSqn ?? 0,
    state?.intact === true ? "intact" : "blank",
  ]);
  const { S, need, leader, epoch } = established;
  return [
    `tier ${name}: nobody leads; ${leader} did last, in epoch ${epoch.number}, when a commit needed`,
    need === 0
      ? "nobody else: only its log is sure to hold everything that was committed."
      : `${need} other${need === 1 ? "" : "s"} of ${S.join(", ")}.`,
    "",
    ...(members.length === 0
      ? ["No member runs."]
      : table([["RUNS NOW", "EPOCH", "NEXT SQN", "LOG"], ...members])),
    "",
    ...notes.flatMap((note) => [`Note: ${note}.`]),
    `${yes ? "Now" : "With --yes"} ${node} may lead, once, without the usual condition. It takes ` +
    "over the freshest log",
    "that it reaches when it does, blank or not, and the tier goes on from there.",
    "What may be lost: whatever was committed and is in none of the logs that it reaches" +
    (missing.length === 0 ? "." : ";"),
    ...(missing.length === 0 ? [] : [`not there, or blank: ${missing.join(", ")}.`]),
    "Senders were told that it is committed, and do not send it again; programs may have acted",
    "on it. A member that comes back with it later goes to SEPARATE: its record has to be removed.",
  ];
}

function jsonOf(tier: string, { node, view, notes }: ForcePlan, outcome: string): string {
  const established = view.master?.record.established ?? null;
  const missing = established === null ? [] : missingFor(view, established);
  return JSON.stringify({ tier, node, outcome, established, missing, notes });
}
