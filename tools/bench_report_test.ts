import assert from "node:assert/strict";
import { it } from "node:test";
import { configOf, nativeText } from "../bench/config.ts";
import { linesOf } from "./bench_figures.ts";
import {
  cellsOf,
  ninesOf,
  pointsOf,
  type Report,
  reportHtml,
  type RowResult,
  tableMarkdown,
  tableText,
} from "./bench_report.ts";
import { rows } from "./bench_rows.ts";

const histogram = { count: 4, maxNs: 200, buckets: [[100, 3], [200, 1]] as const };
const common = { round: 0, mood: "NEAR", moodNs: [90, 90], disturbed: false, more: {} } as const;
const row = rows.find(({ id }) => id === "multicast-latency")!;
const runs = [
  { ...common, runner: "raw", value: 100, histogram },
  { ...common, runner: "zig", value: 105, histogram },
  { ...common, runner: "deno", value: 150, histogram },
] as const;
const measured: RowResult = { row, runs, lines: linesOf(runs, row.targets), problems: [] };
const missing: RowResult = { row, runs: [], lines: [], problems: ["needs <something>"] };

it("a row's cells say what was reached", () => {
  const [zig, deno] = cellsOf(measured);
  assert.deepEqual(zig?.slice(0, 3), ["multicast-latency", "Zig", "105 ns"]);
  assert.equal(zig[6], "1.05x");
  assert.equal(zig[8], "yes");
  assert.equal(deno?.[8], "NO");
  assert.equal(deno[9], "NEAR (1)");
});

it("a row without figures says why, by name", () => {
  assert.deepEqual(cellsOf(missing)[0]?.slice(0, 3), [
    "multicast-latency",
    "",
    "needs <something>",
  ]);
  assert.match(tableText([missing]), /multicast-latency\s+needs <something>/);
  assert.match(tableMarkdown([measured]), /\| multicast-latency \| Zig \| 105 ns \|/);
});

it("shares stand a unit apart for each nine", () => {
  assert.equal(ninesOf(0), -0);
  assert.ok(Math.abs(ninesOf(0.999) - 3) < 1e-9);
  assert.deepEqual(pointsOf(histogram), [[0.75, 100], [1, 200]]);
});

it("the page has everything in itself, escaped", () => {
  const report: Report = {
    machine: { cpu: "a & b", cores: 2 },
    versions: { zig: "0.17.0" },
    began: "now",
    command: "deno task bench",
    library: { bytes: 1, atMost: 2 },
    rows: [measured, missing],
  };
  const page = reportHtml(report);
  assert.match(page, /<polyline /);
  assert.match(page, /needs &lt;something&gt;/);
  assert.match(page, /a &amp; b/);
  assert.doesNotMatch(page, /(src|href)=|https?:/);
});

it("every row has a configuration that can be read, and one program that measures", () => {
  const ids = new Set<string>();
  for (const { id, wiring, programs, runners, targets } of rows) {
    assert.ok(!ids.has(id), id);
    ids.add(id);
    const config = configOf(wiring);
    assert.equal(programs.filter(({ measures }) => measures === true).length, 1, id);
    for (const { context } of programs) {
      const text = nativeText(config, context, "x-", "/nowhere");
      assert.equal((JSON.parse(text) as { name: string }).name, context);
    }
    for (const runner of Object.keys(targets)) {
      assert.ok((runners as readonly string[]).includes(runner), `${id}: ${runner}`);
    }
  }
});
