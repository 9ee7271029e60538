/**
 * The demo: a real file, line by line, over multicast to a Deno and a Bun receiver, while 2 % of
 * the datagrams are lost on purpose; then the files are compared.
 *
 *     deno task demo                  the largest file of the repository
 *     deno task demo -- FILE          this file
 *
 * Exits non-zero when anything differs.
 */

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import cliProgress from "npm:cli-progress@3.12.0";

const dropShare = 0.02;
const here = fileURLToPath(new URL(".", import.meta.url));
const root = resolve(here, "../..");

/** What a child prints. */
interface Report {
  count: number;
  done?: boolean;
  milliseconds?: number;
  datagrams?: number;
  repairs?: number;
  dropped?: number | null;
  naks?: number;
  gaps?: number;
}

interface Child {
  readonly name: string;
  readonly process: ChildProcess;
  /** The last report; rejects when the child ends without one. */
  readonly result: Promise<Report>;
}

function largestFile(): string {
  const listed = spawnSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" });
  const names = listed.status === 0 ? listed.stdout.split("\0").filter((name) => name !== "") : [];
  const sized = names.map((name) => ({ name: join(root, name), size: sizeOf(join(root, name)) }));
  const largest = sized.sort((a, b) => b.size - a.size)[0];
  return largest === undefined ? join(root, "README.md") : largest.name;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" && address !== null ? address.port : 30000;
}

function startChild(
  name: string,
  command: readonly string[],
  env: Record<string, string>,
  onReport: (report: Report) => void,
): Child {
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const result = new Promise<Report>((resolve, reject) => {
    let last: Report | null = null;
    const lines = createInterface({ input: child.stdout! });
    lines.on("line", (line) => {
      last = JSON.parse(line) as Report;
      onReport(last);
    });
    let exit: number | null | undefined;
    const finish = () => {
      if (exit === undefined) return;
      if (exit === 0 && last?.done) resolve(last);
      else reject(new Error(`${name} ended with exit code ${exit}`));
    };
    lines.on("close", finish);
    child.on("close", (code) => {
      exit = code;
      finish();
    });
  });
  return { name, process: child, result };
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function readTimes(path: string): Float64Array {
  const bytes = readFileSync(path);
  return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/** The value below which `share` of the sorted values lie. */
function percentile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

const argument = process.argv.slice(2).find((arg) => arg !== "--");
const file = argument === undefined ? largestFile() : resolve(argument);
const size = sizeOf(file);
if (size === 0) {
  console.error(`demo: ${file} is not there, or empty; name a file: deno task demo -- FILE`);
  process.exit(2);
}
const text = readFileSync(file);
let lines = text.at(-1) === 10 ? 0 : 1;
for (let at = text.indexOf(10); at >= 0; at = text.indexOf(10, at + 1)) lines += 1;
// About three seconds, so that there is something to see; a large file goes at 20,000 lines/s.
const rate = Math.min(20_000, Math.max(500, Math.ceil(lines / 3)));

const bun = process.env["RCM_BUN"];
if (bun === undefined) {
  console.error("demo: RCM_BUN does not name Bun; run it by: deno task demo");
  process.exit(2);
}
const folder = mkdtempSync(join(tmpdir(), "rcm-demo-"));
const port = await freePort();
console.log(`${file}: ${size} bytes, ${lines} lines`);
console.log(
  `multicast 239.255.7.1:${port} on 127.0.0.1, ${dropShare * 100} % of the datagrams lost\n`,
);

const bars = new cliProgress.MultiBar({
  format: "{name} {bar} {value}/{total}",
  hideCursor: true,
  noTTYOutput: true,
  notTTYSchedule: 1000,
}, cliProgress.Presets.shades_classic);
const runtimes = {
  deno: [process.execPath, "run", "-A"],
  bun: [bun],
};
const children: Child[] = [];

function receiver(name: "deno" | "bun"): Child {
  const bar = bars.create(lines, 0, { name: `${name} receiver`.padEnd(16) });
  return startChild(
    name,
    [
      ...runtimes[name],
      join(here, "receiver.ts"),
      name,
      join(folder, `${name}.out`),
      join(folder, `${name}.times`),
      String(port),
      folder,
    ],
    { RCM_INJECT: `drop=${dropShare},seed=${name === "deno" ? 11 : 12}` },
    (report) => bar.update(report.count),
  );
}

try {
  const bar = bars.create(lines, 0, { name: "deno publisher".padEnd(16) });
  const receivers = [receiver("deno"), receiver("bun")];
  children.push(...receivers);
  const publisher = startChild(
    "publisher",
    [
      ...runtimes.deno,
      join(here, "publisher.ts"),
      file,
      String(rate),
      join(folder, "sent.times"),
      String(port),
      folder,
    ],
    {},
    (report) => bar.update(report.count),
  );
  children.push(publisher);
  const [sent, ...received] = await Promise.all([
    publisher.result,
    ...receivers.map((r) => r.result),
  ]);
  bars.stop();

  const want = sha256(file);
  const sentTimes = readTimes(join(folder, "sent.times"));
  const perSecond = Math.round((sent.count * 1000) / (sent.milliseconds ?? NaN));
  console.log(`\nsha256  ${want}  ${file}`);
  let equal = true;
  for (const r of receivers) {
    const found = sha256(join(folder, `${r.name}.out`));
    if (found !== want) equal = false;
    console.log(`sha256  ${found}  as ${r.name} got it${found === want ? "" : "   DIFFERENT"}`);
  }
  console.log(
    `\nsent      ${sent.count} lines in ${sent.datagrams} datagrams, ${perSecond} lines/s; ` +
      `${sent.repairs} repairs`,
  );
  receivers.forEach((r, i) => {
    const times = readTimes(join(folder, `${r.name}.times`));
    const oneWay = times.map((time, line) => (time - (sentTimes[line] ?? NaN)) * 1000).sort();
    const report = received[i];
    console.log(
      `${r.name.padEnd(9)} ${report?.count} lines; ${report?.dropped} datagrams lost on purpose, ` +
        `${report?.naks} NAKs; one way p50 ${percentile(oneWay, 0.5).toFixed(0)} us, ` +
        `p99 ${percentile(oneWay, 0.99).toFixed(0)} us`,
    );
    if (times.length !== sentTimes.length) equal = false;
  });
  console.log(equal ? "\nall three files are equal" : "\nFILES DIFFER");
  process.exitCode = equal ? 0 : 1;
} catch (error) {
  bars.stop();
  console.error(`demo: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  for (const child of children) child.process.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
  rmSync(`/dev/shm/rcm-demo-${port}`, { recursive: true, force: true });
}
