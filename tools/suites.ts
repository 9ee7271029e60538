/** The suites of `deno task test`, in their order: what fails fast first, what takes long last. */

import { readElf } from "./elf.ts";
import { ensureLibrary, libraryPath, nativeRoot } from "./native.ts";
import { listFiles, removeIfThere } from "./paths.ts";
import { capture, ToolError } from "./process.ts";
import {
  judge,
  nothing,
  type Outcome,
  readCountLine,
  readJunit,
  readZigSummary,
  single,
  sumOutcomes,
} from "./report.ts";
import { projectRoot, toolchainRoot, zigEnvironment } from "./toolchain.ts";

/** What a run of the suites has at hand. */
export interface Bench {
  readonly zig: string;
  readonly bun: string;
  /** Full length instead of what fits into half an hour. */
  readonly long: boolean;
}

export interface Suite {
  readonly name: string;
  readonly about: string;
  /** Runs only when named by `--only`, because other suites cover it. */
  readonly onDemand?: boolean;
  readonly run: (bench: Bench) => Promise<Outcome>;
}

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const reports = `${toolchainRoot}/reports`;

/** Budgets in CI, and at full length. */
const budgets = {
  simulatorFixedEvents: { ci: 6_000_000, long: 500_000_000 },
  simulatorFreshEvents: { ci: 5_000_000, long: 800_000_000 },
  simulatorDeadlyEvents: { ci: 1_000_000, long: 200_000_000 },
  simulatorRecordedEvents: { ci: 1_000_000, long: 100_000_000 },
  simulatorTierEvents: { ci: 1_000_000, long: 200_000_000 },
  simulatorMemberEvents: { ci: 10_000_000, long: 1_000_000_000 },
  fuzzExecutions: { ci: 10_000_000, long: 1_000_000_000 },
  nativeTimeoutMs: { ci: 20 * minuteMs, long: 12 * hourMs },
  fileTimeoutMs: { ci: 8 * minuteMs, long: 6 * hourMs },
} as const;

const budget = (of: keyof typeof budgets, bench: Bench): number =>
  budgets[of][bench.long ? "long" : "ci"];

export const suites: readonly Suite[] = [
  { name: "library", about: "native/out/librcm.so builds and loads where it has to", run: library },
  { name: "format", about: "deno fmt, zig fmt", run: format },
  { name: "lint", about: "deno lint", run: () => deno("lint") },
  { name: "types", about: "deno check", run: () => deno("check") },
  {
    name: "abi",
    about: "src/native/abi.ts is fresh",
    run: async (bench) => await zigCheck(bench, "abi-check"),
  },
  { name: "tidy", about: "style of both languages", run: tidy },
  {
    name: "native",
    about: "all native code compiles",
    onDemand: true,
    run: async (bench) => await zigCheck(bench, "check"),
  },
  { name: "zig", about: "native unit tests", run: async (bench) => await zigTests(bench, "test") },
  { name: "simulator", about: "fixed and fresh seeds", run: simulator },
  {
    name: "mutants",
    about: "deliberate bugs that the simulator must catch",
    run: async (bench) => await zigProgram(bench, "sim", ["--mutants"]),
  },
  { name: "fuzz", about: "decoders against mutated input", run: fuzz },
  { name: "tools", about: "tests of the tools", run: toolTests },
  { name: "deno", about: "tests/ in Deno", run: async (bench) => await files(bench, denoTest) },
  { name: "bun", about: "tests/ in Bun", run: async (bench) => await files(bench, bunTest) },
  { name: "e2e", about: "processes, namespaces, the demo", run: endToEnd },
];

async function library(_bench: Bench): Promise<Outcome> {
  try {
    await ensureLibrary();
  } catch (error) {
    if (error instanceof ToolError) return single(false, error.message);
    throw error;
  }
  const bytes = Deno.readFileSync(libraryPath);
  const { noDelete, glibc, version } = readElf(bytes);
  const glibcText = glibc.join(".");
  return sumOutcomes([
    single(true, "it builds"),
    single(bytes.length < 1 << 20, `it has ${bytes.length} bytes, at most 1 MiB is wanted`),
    single(noDelete, `it stays loaded (-z nodelete): ${noDelete}`),
    single(glibc[0] === 2 && glibc[1] <= 17, `it asks for glibc ${glibcText}, 2.17 is wanted`),
    single(version !== null, `its version text: ${version}`),
  ]);
}

async function deno(...args: readonly string[]): Promise<Outcome> {
  const env = { NO_COLOR: "1" };
  const { code, output } = await capture(Deno.execPath(), args, { cwd: projectRoot, env });
  return single(code === 0, output);
}

async function format(bench: Bench): Promise<Outcome> {
  return sumOutcomes([await deno("fmt", "--check"), await zigCheck(bench, "fmt")]);
}

async function tidy(bench: Bench): Promise<Outcome> {
  const args = ["run", "-A", `${projectRoot}/tools/tidy.ts`];
  const { code, output } = await capture(Deno.execPath(), args, { cwd: projectRoot });
  const typescript = judge(readCountLine(output), code, output);
  return sumOutcomes([await zigTests(bench, "tidy"), typescript]);
}

/** A step of `native/build.zig`; arguments behind `--` go to the program that it runs. */
async function zigBuild(bench: Bench, ...args: readonly string[]) {
  const env = { ...zigEnvironment(), NO_COLOR: "1", ...(bench.long ? { RCM_LONG: "1" } : {}) };
  const timeoutMs = budget("nativeTimeoutMs", bench);
  return await capture(bench.zig, ["build", ...args], { cwd: nativeRoot, env, timeoutMs });
}

async function zigCheck(bench: Bench, step: string): Promise<Outcome> {
  const { code, output } = await zigBuild(bench, step);
  return single(code === 0, output);
}

async function zigTests(bench: Bench, step: string): Promise<Outcome> {
  const { code, output } = await zigBuild(bench, step, "--summary", "all");
  return judge(readZigSummary(output), code, output);
}

async function zigProgram(
  bench: Bench,
  step: string,
  args: readonly string[],
): Promise<Outcome> {
  const { code, output } = await zigBuild(bench, step, "--", ...args);
  return judge(readCountLine(output), code, output);
}

/** The same seeds every time, so that a change shows, and others every time, so that luck helps. */
async function simulator(bench: Bench): Promise<Outcome> {
  const fresh = freshSeed();
  console.log(`  fresh seeds from ${fresh}`);
  const run = async (events: number, seed?: number) => {
    const from = seed === undefined ? [] : ["--seed", `${seed}`];
    return await zigProgram(bench, "sim", [...from, "--events", `${events}`]);
  };
  return sumOutcomes([
    await run(budget("simulatorFixedEvents", bench)),
    await run(budget("simulatorFreshEvents", bench), fresh),
    await run(budget("simulatorDeadlyEvents", bench), FIRST_DEADLY_SEED + fresh),
    await run(budget("simulatorDeadlyEvents", bench), FIRST_IN_PLACE_SEED + fresh),
    await run(budget("simulatorRecordedEvents", bench), FIRST_RECORDED_SEED + fresh),
    await run(budget("simulatorTierEvents", bench), FIRST_TIER_SEED + fresh),
    await run(budget("simulatorTierEvents", bench), FIRST_SENDING_TIER_SEED + fresh),
    await run(budget("simulatorMemberEvents", bench), FIRST_MEMBER_SEED),
    await run(budget("simulatorTierEvents", bench), FIRST_MEMBER_SEED + fresh),
  ]);
}

/** From this seed on the simulator's senders die all the time. */
const FIRST_DEADLY_SEED = 2 ** 40;
/** From this one on windows are read in place. */
const FIRST_IN_PLACE_SEED = 2 ** 41;
/** From this one on receivers record, on disks that lose power. */
const FIRST_RECORDED_SEED = 3 * 2 ** 40;
/** From this one on some of its receivers are members of a tier. */
const FIRST_TIER_SEED = 2 ** 42;

/** From this one on a tier sends. */
const FIRST_SENDING_TIER_SEED = 2 ** 43;
/** From this one on members of a tier elect, replicate and commit. */
const FIRST_MEMBER_SEED = 2 ** 44;

async function fuzz(bench: Bench): Promise<Outcome> {
  const seed = freshSeed();
  console.log(`  seed ${seed}`);
  const count = budget("fuzzExecutions", bench);
  return await zigProgram(bench, "fuzz", ["--seed", `${seed}`, "--count", `${count}`]);
}

const freshSeed = (): number => crypto.getRandomValues(new Uint32Array(1))[0] ?? 1;

/** The command that runs one file in a runtime and writes a JUnit report. */
type FileRunner = (bench: Bench, file: string, report: string) => readonly [string, string[]];

const denoTest: FileRunner = (_bench, file, report) => {
  // Types are a suite of their own.
  return [Deno.execPath(), ["test", "-A", "--no-check", `--junit-path=${report}`, file]];
};

const bunTest: FileRunner = (bench, file, report) => {
  const reporter = ["--reporter=junit", `--reporter-outfile=${report}`];
  const timeout = `--timeout=${budget("fileTimeoutMs", bench)}`;
  return [bench.bun, ["test", timeout, ...reporter, `./${file}`]];
};

/** Each file in a process of its own: what crashes has a name, and takes nothing else along. */
async function files(bench: Bench, runner: FileRunner): Promise<Outcome> {
  const all = listFiles(`${projectRoot}/tests`, "_test.ts", ["e2e", "fixtures"]);
  return await runFiles(bench, runner, all);
}

async function toolTests(bench: Bench): Promise<Outcome> {
  return await runFiles(bench, denoTest, listFiles(`${projectRoot}/tools`, "_test.ts"));
}

async function endToEnd(bench: Bench): Promise<Outcome> {
  const all = listFiles(`${projectRoot}/tests/e2e`, "_test.ts", ["fixtures"]);
  return await runFiles(bench, denoTest, all);
}

async function runFiles(
  bench: Bench,
  runner: FileRunner,
  paths: readonly string[],
): Promise<Outcome> {
  if (paths.length === 0) return judge(nothing, 0, "");
  await Deno.mkdir(reports, { recursive: true });
  const outcomes: Outcome[] = [];
  for (const path of paths) {
    const file = path.slice(projectRoot.length + 1);
    const report = `${reports}/${file.replaceAll("/", "-")}.xml`;
    await removeIfThere(report);
    const [command, args] = runner(bench, file, report);
    const { code, output } = await capture(command, args, {
      cwd: projectRoot,
      env: {
        NO_COLOR: "1",
        RCM_DENO: Deno.execPath(),
        RCM_BUN: bench.bun,
        ...(bench.long ? { RCM_LONG: "1" } : {}),
      },
      timeoutMs: budget("fileTimeoutMs", bench),
    });
    const outcome = judge(await readReport(report), code, output);
    const failed = outcome.failed > 0;
    if (failed) console.log(`  ${file}: ${outcome.failed} failed`);
    // What passed has nothing to say.
    outcomes.push({ ...outcome, output: failed ? `${file}:\n${outcome.output}` : "" });
  }
  return sumOutcomes(outcomes);
}

async function readReport(path: string) {
  try {
    return readJunit(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return nothing; // It crashed before it wrote one.
    throw error;
  }
}
