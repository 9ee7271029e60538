/**
 * `deno task test`: runs every suite and ends with `N passed, N failed` over all of them.
 *
 *     --only=zig,deno   these suites        --long   full length instead of half an hour
 *     --list            the suites' names
 *
 * A suite that crashes, or that reports no test, failed. With `CI=true` a skipped test failed too.
 */

import { parseArgs } from "node:util";
import { runTool, ToolError } from "./process.ts";
import { countLine, type Outcome, type Row, sum, table } from "./report.ts";
import { setUp } from "./setup.ts";
import { type Bench, type Suite, suites } from "./suites.ts";
import { ensureBun, ensureCommandLibrary, ensureZig } from "./toolchain.ts";

await runTool(async () => {
  const { values } = parseArgs({
    args: Deno.args.filter((arg) => arg !== "--"),
    options: {
      only: { type: "string" },
      long: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
    },
  });
  const chosen = choose(values.only);
  if (values.list) {
    for (const suite of chosen) console.log(`${suite.name.padEnd(12)}${suite.about}`);
    return 0;
  }
  // System programs are for end-to-end tests; a short run does not ask for them.
  const complete = chosen.some((suite) => suite.name === "e2e");
  const toolchain = complete ? await setUp() : { zig: await ensureZig(), bun: await ensureBun() };
  if (!complete) await ensureCommandLibrary(toolchain.bun);
  return await runSuites(chosen, { ...toolchain, long: values.long });
});

function choose(only: string | undefined): readonly Suite[] {
  if (only === undefined) return suites.filter((suite) => suite.onDemand !== true);
  const names = only.split(",");
  const unknown = names.filter((name) => !suites.some((suite) => suite.name === name));
  if (unknown.length > 0) {
    const known = suites.map((suite) => suite.name).join(", ");
    throw new ToolError(`no suite named ${unknown.join(", ")}; there are: ${known}`);
  }
  return suites.filter((suite) => names.includes(suite.name));
}

async function runSuites(chosen: readonly Suite[], bench: Bench): Promise<number> {
  const rows: Row[] = [];
  for (const suite of chosen) {
    console.log(`${suite.name}: ${suite.about}`);
    const start = performance.now();
    const outcome = await runSuite(suite, bench);
    const seconds = (performance.now() - start) / 1000;
    const { passed, failed, skipped, skippedNames } = outcome;
    rows.push({ suite: suite.name, passed, failed, skipped, skippedNames, seconds });
    if (failed > 0) console.log(outcome.output.trimEnd());
    console.log(`  ${countLine(outcome)} (${seconds.toFixed(1)} s)`);
  }
  console.log(`\n${table(rows)}\n`);
  const total = sum(rows);
  for (const name of total.skippedNames) console.log(`skipped: ${name}`);
  const skipFails = Deno.env.get("CI") === "true" && total.skipped > 0;
  if (skipFails) console.log("CI=true: what was skipped counts as failed");
  console.log(countLine(
    skipFails ? { ...total, failed: total.failed + total.skipped, skipped: 0 } : total,
  ));
  return total.failed > 0 || skipFails ? 1 : 0;
}

async function runSuite(suite: Suite, bench: Bench): Promise<Outcome> {
  try {
    return await suite.run(bench);
  } catch (error) {
    const output = error instanceof Error ? error.stack ?? error.message : String(error);
    return { passed: 0, failed: 1, skipped: 0, skippedNames: [], output };
  }
}
