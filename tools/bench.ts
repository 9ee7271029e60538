/**
 * `deno task bench [-- --only=row,... --quick --rounds=N --json=FILE --list]`: how far the library
 * is from the raw limits of this machine.
 *
 * A yardstick and ours run one after the other, in Zig, in Deno and in Bun, several rounds. The
 * table is printed; `bench/report.html` and `bench/report.json` are written. Nothing else should
 * use the machine meanwhile: rounds in which somebody did are marked.
 */

import { linesOf, type Run, type Runner } from "./bench_figures.ts";
import { type Report, reportHtml, type RowResult, tableText } from "./bench_report.ts";
import { type Row, rows } from "./bench_rows.ts";
import { missingOf, openStage, runOnce, type Stage } from "./bench_run.ts";
import { ensureLibrary, libraryPath, nativeRoot } from "./native.ts";
import { capture, runTool, ToolError } from "./process.ts";
import { ensureBun, ensureZig, projectRoot, zigEnvironment, zigVersion } from "./toolchain.ts";

const libraryBytesMax = 1_000_000;
const defaultRounds = 3;

interface Wishes {
  readonly only: readonly Row[];
  readonly rounds: number;
  readonly patienceMs: number;
  readonly json: string | null;
  readonly html: string | null;
  readonly runners: readonly Runner[] | null;
}

function readWishes(args: readonly string[]): Wishes {
  const value = (name: string) =>
    args.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3) ?? null;
  for (const arg of args) {
    if (!/^--($|quick$|list$|(only|rounds|json|html|runners)=)/.test(arg)) {
      throw new ToolError(
        `${arg}: known are --only=ROW,... --runners=zig,deno,bun --quick --rounds=N --json=FILE ` +
          "--html=FILE --list",
      );
    }
  }
  const quick = args.includes("--quick");
  const names = value("only")?.split(",") ?? rows.map((row) => row.id);
  const only = names.flatMap((name) => rows.filter((row) => row.id === name));
  if (only.length !== names.length) {
    throw new ToolError(`rows are: ${rows.map((row) => row.id).join(", ")}`);
  }
  const isPart = value("only") !== null || value("runners") !== null || quick;
  return {
    only,
    rounds: Number(value("rounds") ?? (quick ? 1 : defaultRounds)),
    patienceMs: quick ? 1000 : 20_000,
    // A part of the rows does not replace the report of all.
    json: value("json") ?? (isPart ? null : `${projectRoot}/bench/report.json`),
    html: value("html") ?? (isPart ? null : `${projectRoot}/bench/report.html`),
    runners: value("runners")?.split(",") as Runner[] | undefined ?? null,
  };
}

async function ensureBenchProgram(): Promise<void> {
  const zig = await ensureZig();
  const { code, output } = await capture(zig, ["build", "bench"], {
    cwd: nativeRoot,
    env: zigEnvironment(),
    timeoutMs: 20 * 60_000,
  });
  if (code !== 0) throw new ToolError(`native/bench can't be built:\n${output.trim()}`);
}

async function runRow(stage: Stage, row: Row, wishes: Wishes): Promise<RowResult> {
  const runs: Run[] = [];
  const problems = new Set<string>();
  const missing = missingOf(row);
  if (missing !== null) problems.add(missing);
  else {
    const runners: Runner[] = ["raw", ...row.runners];
    for (let round = 0; round < wishes.rounds; round += 1) {
      for (const runner of runners) {
        if (runner !== "raw" && !(wishes.runners?.includes(runner) ?? true)) continue;
        try {
          runs.push(await runOnce(stage, row, runner, round));
        } catch (error) {
          if (!(error instanceof Error)) throw error;
          problems.add(`${runner}: ${error.message.split("\n")[0]}`);
        }
      }
    }
  }
  return { row, runs, lines: linesOf(runs, row.targets), problems: [...problems] };
}

async function machine(): Promise<Record<string, string | number>> {
  const cpuinfo = await Deno.readTextFile("/proc/cpuinfo");
  const model = /^model name\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? "unknown";
  return {
    cpu: model,
    cores: navigator.hardwareConcurrency,
    kernel: Deno.osRelease(),
    memoryMiB: Math.round(Deno.systemMemoryInfo().total / 2 ** 20),
  };
}

async function versions(bun: string): Promise<Record<string, string>> {
  const { output } = await capture(bun, ["--version"]);
  return { zig: zigVersion, deno: Deno.version.deno, bun: output.trim() };
}

await runTool(async () => {
  const wishes = readWishes(Deno.args);
  if (Deno.args.includes("--list")) {
    for (const row of rows) console.log(`${row.id.padEnd(26)} ${row.work}`);
    return 0;
  }
  await ensureLibrary();
  await ensureBenchProgram();
  const bun = await ensureBun();
  const began = new Date().toISOString();
  await using stage = await openStage(bun, wishes.patienceMs);
  const results: RowResult[] = [];
  for (const row of wishes.only) {
    console.error(`${row.id}: ${row.work} ...`);
    results.push(await runRow(stage, row, wishes));
  }
  const report: Report = {
    machine: {
      ...await machine(),
      network: stage.namespace === null ? "lo of the machine" : "lo of a namespace, MTU 1500",
    },
    versions: await versions(bun),
    began,
    command: ["deno task bench", ...Deno.args].join(" "),
    library: { bytes: Deno.statSync(libraryPath).size, atMost: libraryBytesMax },
    rows: results,
  };
  console.log(tableText(results));
  const { bytes, atMost } = report.library;
  console.log(`library: ${bytes} bytes, at most ${atMost}: ${bytes <= atMost ? "yes" : "NO"}`);
  if (wishes.json !== null) await Deno.writeTextFile(wishes.json, jsonText(report));
  if (wishes.html !== null) await Deno.writeTextFile(wishes.html, reportHtml(report));
  return 0;
});

/** Readable, with a histogram a line. */
function jsonText(report: Report): string {
  const text = JSON.stringify(report, (key, value) => {
    return key === "buckets" ? JSON.stringify(value) : value;
  }, 2);
  return `${text.replace(/"buckets": "(.*)"/g, '"buckets": $1')}\n`;
}
