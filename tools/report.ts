/** What a suite came to, read from what test runners print or write, and the table at the end. */

/** Counts of a suite. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Names of skipped tests, which say what they miss. */
  readonly skippedNames: readonly string[];
}

/** A suite's counts and all that it printed. */
export interface Outcome extends Tally {
  readonly output: string;
}

/** A line of the table. */
export interface Row extends Tally {
  readonly suite: string;
  readonly seconds: number;
}

export const nothing: Tally = { passed: 0, failed: 0, skipped: 0, skippedNames: [] };

/** Outcome of one check that either holds or does not. */
export const single = (ok: boolean, output: string): Outcome => ({
  ...nothing,
  passed: ok ? 1 : 0,
  failed: ok ? 0 : 1,
  output,
});

/** Adds up counts. */
export function sum(tallies: readonly Tally[]): Tally {
  return tallies.reduce((left, right) => ({
    passed: left.passed + right.passed,
    failed: left.failed + right.failed,
    skipped: left.skipped + right.skipped,
    skippedNames: [...left.skippedNames, ...right.skippedNames],
  }), nothing);
}

/** Adds up outcomes; what they printed is kept in order. */
export const sumOutcomes = (outcomes: readonly Outcome[]): Outcome => ({
  ...sum(outcomes),
  output: outcomes.map((outcome) => outcome.output).join("\n"),
});

/**
 * A program that ended badly without naming a failure failed all the same, and one that names no
 * test at all did not test anything.
 */
export function judge(tally: Tally, code: number, output: string): Outcome {
  const { passed, failed, skipped } = tally;
  if (code !== 0 && failed === 0) {
    return { ...tally, failed: 1, output: `${output}\nfailed: exit code ${code}\n` };
  }
  if (passed + failed + skipped === 0) {
    return { ...tally, failed: 1, output: `${output}\nfailed: it reported no test\n` };
  }
  return { ...tally, output };
}

/** Reads the last `N passed, N failed[, N skipped]` that a program printed. */
export function readCountLine(output: string): Tally {
  const line = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm;
  const last = [...output.matchAll(line)].at(-1);
  if (last === undefined) return nothing;
  const [, passed = "0", failed = "0", skipped = "0"] = last;
  return {
    ...nothing,
    passed: Number(passed),
    failed: Number(failed),
    skipped: Number(skipped),
  };
}

/** Reads `5/9 tests passed (1 skipped, 2 failed, 1 crashed)` of `zig build --summary all`. */
export function readZigSummary(output: string): Tally {
  const found = /; (\d+)\/(\d+) tests passed(?: \(([^)]*)\))?/.exec(output);
  if (found === null) return nothing;
  const [, passed = "0", total = "0", rest = ""] = found;
  const skipped = Number(/(\d+) skipped/.exec(rest)?.[1] ?? "0");
  return {
    passed: Number(passed),
    failed: Number(total) - Number(passed) - skipped,
    skipped,
    skippedNames: skipped === 0 ? [] : [`${skipped} Zig unit tests`],
  };
}

/**
 * Reads a JUnit report of `deno test` or `bun test`. A test that only holds other tests, which Deno
 * reports as well, counts where it failed itself.
 */
export function readJunit(xml: string): Tally {
  const cases = [...xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)].map(
    ([, attributes = "", body = ""]) => ({
      name: unescapeXml(/\bname="([^"]*)"/.exec(attributes)?.[1] ?? "?"),
      failed: /<(failure|error)\b/.test(body),
      skipped: /<skipped\b/.test(body),
    }),
  );
  const counted = cases.filter(({ name, failed }) =>
    failed || !cases.some((other) => other.name.startsWith(`${name} > `))
  );
  const skippedNames = counted.filter((test) => test.skipped).map((test) => test.name);
  const failed = counted.filter((test) => test.failed).length;
  return {
    passed: counted.length - failed - skippedNames.length,
    failed,
    skipped: skippedNames.length,
    skippedNames,
  };
}

function unescapeXml(text: string): string {
  const names: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'" };
  return text
    .replace(/&(lt|gt|quot|apos);/g, (all, name: string) => names[name] ?? all)
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replace(/&amp;/g, "&");
}

/** The table of all suites. */
export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.suite,
    `${row.passed}`,
    `${row.failed}`,
    `${row.skipped}`,
    row.seconds.toFixed(1),
  ]);
  const lines = [["suite", "passed", "failed", "skipped", "seconds"], ...cells];
  const width = Math.max(...lines.map(([name = ""]) => name.length));
  return lines
    .map(([name = "", ...numbers]) =>
      name.padEnd(width) + numbers.map((number) => number.padStart(10)).join("")
    )
    .join("\n");
}

/** The last line: `N passed, N failed`, and `, N skipped` where some were. */
export const countLine = ({ passed, failed, skipped }: Tally): string =>
  `${passed} passed, ${failed} failed${skipped === 0 ? "" : `, ${skipped} skipped`}`;
