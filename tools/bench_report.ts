/** What `deno task bench` prints and writes: a table, a page with plots, and JSON. */

import { type HistogramText, valueOf } from "../bench/histogram.ts";
import { type Line, type Run, show, showTarget, type Target } from "./bench_figures.ts";
import type { Row } from "./bench_rows.ts";

/** One row of the report. */
export interface RowResult {
  readonly row: Pick<
    Row,
    "id" | "work" | "configuration" | "reading" | "yardstick" | "targets"
  >;
  readonly runs: readonly Run[];
  readonly lines: readonly Line[];
  /** Why there are no figures, or not all of them. */
  readonly problems: readonly string[];
}

export interface Report {
  readonly machine: Readonly<Record<string, string | number>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly began: string;
  readonly command: string;
  readonly library: { readonly bytes: number; readonly atMost: number };
  readonly rows: readonly RowResult[];
}

const columns = [
  "work",
  "from",
  "ours",
  "p99",
  "p99.9",
  "yardstick",
  "ratio",
  "target",
  "met",
  "mood",
] as const;

/** @returns the cells of a row's lines; one line that says why where there are none */
export function cellsOf(result: RowResult): string[][] {
  const { row, lines } = result;
  const { unit } = row.reading;
  const own = lines.filter((line) => line.runner !== "raw");
  const cells = own.map((line, index) => [
    index === 0 ? row.id : "",
    line.runner === "zig" ? "Zig" : line.runner === "deno" ? "Deno" : "Bun",
    oursOf(line, result),
    Number.isNaN(line.p99) ? "" : show(line.p99, "ns"),
    Number.isNaN(line.p999) ? "" : show(line.p999, "ns"),
    show(line.yardstick, row.yardstick.reading.unit),
    Number.isNaN(line.ratio) || row.yardstick.reading.unit !== unit
      ? ""
      : `${line.ratio.toFixed(2)}x`,
    targetText(row.targets[line.runner], line, unit),
    line.met === null ? "" : line.met ? "yes" : "NO",
    `${line.mood ?? "changed"}${line.disturbed ? ", disturbed" : ""} (${line.rounds})`,
  ]);
  for (const problem of result.problems) {
    cells.push([cells.length === 0 ? row.id : "", "", problem, "", "", "", "", "", "", ""]);
  }
  return cells;
}

function oursOf(line: Line, { row }: RowResult): string {
  const { more } = line;
  if (more["repairP50"] !== undefined) {
    const p50 = show(more["repairP50"], "ns");
    const trips = (more["repairRoundTrips"] ?? NaN).toFixed(1);
    return `${p50} (${trips} RTT), p99 ${show(more["repairP99"] ?? NaN, "ns")}, ` +
      `${more["gaps"]} gaps`;
  }
  const cold = more["cold"] === undefined ? "" : `, cold ${show(more["cold"], row.reading.unit)}`;
  return `${show(line.value, row.reading.unit)}${cold}`;
}

function targetText(
  targets: readonly Target[] | undefined,
  line: Line,
  unit: Row["reading"]["unit"],
) {
  return (targets ?? [])
    .filter((target) => target.mood === undefined || target.mood === line.mood)
    .map((target) => showTarget(target, unit)).join(", ");
}

/** @returns the table as text of even columns */
export function tableText(results: readonly RowResult[]): string {
  const lines = [[...columns] as string[], ...results.flatMap(cellsOf)];
  // What says why there is no figure is as long as it is.
  const widths = columns.map((_, column) =>
    Math.max(...lines.map((cells) => isNote(cells) ? 0 : cells[column]!.length), 1)
  );
  return lines.map((cells) =>
    cells.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()
  ).join("\n");
}

const isNote = (cells: readonly string[]) => cells[1] === "";

/** @returns the same in Markdown */
export function tableMarkdown(results: readonly RowResult[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const body = results.flatMap(cellsOf).map(line);
  return [line(columns), line(columns.map(() => "---")), ...body].join("\n");
}

const escapes: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const escapeHtml = (text: string) => text.replace(/[&<>]/g, (letter) => escapes[letter]!);

const colours = { raw: "#888888", zig: "#d9822b", deno: "#1f6feb", bun: "#c2255c" } as const;
const plot = { width: 640, height: 300, left: 70, right: 20, top: 20, bottom: 40 } as const;
/** Shares on the axis below, at even distances for each nine. */
const shares = [0, 0.5, 0.9, 0.99, 0.999, 0.9999] as const;

/** @returns where a share stands on its axis: a unit for each nine */
export function ninesOf(share: number): number {
  return -Math.log10(Math.max(1 - share, 1e-9));
}

interface Curve {
  readonly name: string;
  readonly colour: string;
  /** Share and value, both rising. */
  readonly points: readonly (readonly [share: number, ns: number])[];
}

/** @returns a histogram's steps, as shares that do not exceed a value */
export function pointsOf(histogram: HistogramText): [share: number, ns: number][] {
  let seen = 0;
  return histogram.buckets.map(([bucket, count]) => {
    seen += count;
    return [seen / histogram.count, valueOf(bucket)];
  });
}

/** @returns latency by percentile, both axes logarithmic */
export function plotSvg(title: string, curves: readonly Curve[]): string {
  const values = curves.flatMap(({ points }) => points.map(([, ns]) => ns));
  const low = Math.floor(Math.log10(Math.max(1, Math.min(...values))));
  const high = Math.ceil(Math.log10(Math.max(10, ...values)));
  const nines = ninesOf(shares[shares.length - 1]!);
  const x = (share: number) =>
    plot.left + Math.min(1, ninesOf(share) / nines) * (plot.width - plot.left - plot.right);
  const y = (ns: number) => {
    const part = (Math.log10(Math.max(1, ns)) - low) / Math.max(1, high - low);
    return plot.height - plot.bottom - part * (plot.height - plot.top - plot.bottom);
  };
  const text = (px: number, py: number, words: string, anchor = "middle") =>
    `<text x="${px.toFixed(1)}" y="${py.toFixed(1)}" text-anchor="${anchor}">${words}</text>`;
  const line = (x1: number, y1: number, x2: number, y2: number) =>
    `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" ` +
    `y2="${y2.toFixed(1)}" class="grid"/>`;
  const parts: string[] = [];
  for (const share of shares) {
    const at = x(share);
    parts.push(line(at, plot.top, at, plot.height - plot.bottom));
    parts.push(text(at, plot.height - plot.bottom + 16, `${share * 100} %`));
  }
  for (let power = low; power <= high; power += 1) {
    const at = y(10 ** power);
    parts.push(line(plot.left, at, plot.width - plot.right, at));
    parts.push(text(plot.left - 6, at + 4, show(10 ** power, "ns"), "end"));
  }
  curves.forEach(({ name, colour, points }, index) => {
    const path = points.filter(([share]) => ninesOf(share) <= nines + 0.5)
      .map(([share, ns]) => `${x(share).toFixed(1)},${y(ns).toFixed(1)}`).join(" ");
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.6"/>`);
    const at = plot.top + 14 + index * 15;
    parts.push(
      `<text x="${plot.left + 10}" y="${at}" fill="${colour}">${escapeHtml(name)}</text>`,
    );
  });
  return `<svg viewBox="0 0 ${plot.width} ${plot.height}" width="${plot.width}" role="img">` +
    `<title>${escapeHtml(title)}</title>${parts.join("")}</svg>`;
}

function curvesOf({ lines, row }: RowResult): Curve[] {
  return lines.flatMap((line) => {
    if (line.histogram === null || line.histogram.count === 0) return [];
    const name = line.runner === "raw" ? row.yardstick.name : line.runner;
    return [{
      name: `${name} ${line.mood ?? ""}${line.disturbed ? ", disturbed" : ""}`,
      colour: colours[line.runner],
      points: pointsOf(line.histogram),
    }];
  });
}

function pairs(record: Readonly<Record<string, string | number>>): string {
  return Object.entries(record).map(([name, value]) =>
    `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(`${value}`)}</td></tr>`
  ).join("");
}

/** @returns the report as a page without anything from elsewhere */
export function reportHtml(report: Report): string {
  const head = columns.map((name) => `<th>${name}</th>`).join("");
  const body = report.rows.flatMap((result) =>
    cellsOf(result).map((cells) =>
      isNote(cells)
        ? `<tr><td>${cells[0]}</td><td colspan="9" class="no">${escapeHtml(cells[2]!)}</td></tr>`
        : `<tr>${cells.map((cell, i) => cellHtml(cell, i)).join("")}</tr>`
    )
  ).join("\n");
  const sections = report.rows.map((result) => {
    const curves = curvesOf(result);
    const { row } = result;
    return `<section><h2>${row.id}</h2><p>${escapeHtml(row.work)}</p><p>Configuration: ${
      escapeHtml(row.configuration)
    }<br>Yardstick: ${escapeHtml(row.yardstick.name)}</p>${
      curves.length === 0 ? "" : plotSvg(row.work, curves)
    }</section>`;
  }).join("\n");
  const { bytes, atMost } = report.library;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>RCM benchmarks</title><style>
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: 2px 9px; text-align: left }
tr:nth-child(even) { background: #f5f5f5 } .no { color: #b00020; font-weight: 600 }
.yes { color: #1a7f37 } svg text { font: 11px system-ui, sans-serif; }
.grid { stroke: #ddd; stroke-width: 1 }
</style></head><body>
<h1>RCM benchmarks</h1>
<p>${escapeHtml(report.began)}, <code>${escapeHtml(report.command)}</code></p>
<table>${pairs(report.machine)}${pairs(report.versions)}
<tr><th>library</th><td>${bytes} bytes, at most ${atMost}</td></tr></table>
<p>Ours and yardstick ran one after the other; a ratio is the median of those of the rounds. Mood: a
cache line between the two cores takes less than 200 ns there and back (NEAR), or more (FAR);
rounds in which it changed, or somebody else used the cores, do not count where there are others
(how many counted stands in brackets). Latencies of open-loop rows begin when a message was due.</p>
<table><thead><tr>${head}</tr></thead><tbody>
${body}
</tbody></table>
${sections}
</body></html>
`;
}

function cellHtml(cell: string, column: number): string {
  const isVerdict = columns[column] === "met";
  const style = isVerdict && cell !== "" ? ` class="${cell.toLowerCase()}"` : "";
  return `<td${style}>${escapeHtml(cell)}</td>`;
}
