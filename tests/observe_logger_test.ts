import { afterEach, beforeEach, test } from "node:test";
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { RcmLogLevel } from "../src/enums.ts";
import { RcmError } from "../src/errors.ts";
import { openLogFiles } from "../src/observe/log_files.ts";
import { LogKey } from "../src/observe/log_texts.ts";
import { errorText, type LogSink, openLogSink } from "../src/observe/logger.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rcm-log-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** All lines of all files of a folder, oldest file first. */
function linesOf(dir: string): string[] {
  return readdirSync(dir).sort()
    .flatMap((name) => readFileSync(join(dir, name), "utf8").split("\n").slice(0, -1));
}

/** A program's logger that keeps what it gets. */
function keeper() {
  const seen: [number, number, string][] = [];
  return {
    seen,
    log(key: number, level: RcmLogLevel, content: string) {
      seen.push([key, level, content]);
    },
  };
}

/** The line of guide 5.4. */
function guideLine(sink: LogSink): void {
  sink.logNative({
    key: 21060,
    level: RcmLogLevel.INFO,
    args: [26904, 0, 0, 0],
    peer: "client1",
    stream: "req.1",
  }, "server1");
}

test("a logger gets key, level and the text of the guide, with the context behind it", () => {
  const sink = openLogSink({ folder });
  const logger = keeper();
  sink.setLogArg(RcmLogLevel.INFO, logger);
  guideLine(sink);
  assert.deepEqual(logger.seen, [
    [21060, 1, "接收端 req.1 序号协商成功, 会话号 26904 消息序号 0->0(server1)"],
  ]);
  sink.close();
  assert.deepEqual(readdirSync(folder), []);
});

test("texts are English on demand", () => {
  const sink = openLogSink({ folder, lang: "en_US" });
  const logger = keeper();
  sink.setLogArg(RcmLogLevel.INFO, logger);
  guideLine(sink);
  sink.log(LogKey.HANDLER_REFUSED, { outcome: "7" });
  assert.equal(
    logger.seen[0]?.[2],
    "receiver req.1: session agreed, connection 26904, message number 0->0(server1)",
  );
  assert.match(logger.seen[1]?.[2] ?? "", /return 0 or nothing to accept a message.*7$/);
  sink.close();
});

test("lines go to files by default, with time, level, key and context", () => {
  const now = () => Date.UTC(2026, 0, 31, 12, 0, 0, 5);
  const sink = openLogSink({ folder, now });
  assert.deepEqual(readdirSync(folder), [], "no file before the first line");
  guideLine(sink);
  sink.log(LogKey.CONTEXT_STARTED, {});
  sink.close();
  assert.deepEqual(linesOf(folder), [
    "2026-01-31T12:00:00.005Z INFO 21060 server1 " +
    "接收端 req.1 序号协商成功, 会话号 26904 消息序号 0->0",
    "2026-01-31T12:00:00.005Z INFO 23006 - 上下文已启动",
  ]);
  assert.match(readdirSync(folder)[0]!, /^rcm_20260131T120000\.005Z_\d+_[0-9a-f]{8}\.log$/);
});

test("a native key that the table does not have is told with its numbers", () => {
  const sink = openLogSink({ folder });
  const logger = keeper();
  sink.setLogArg(RcmLogLevel.DEBUG, logger);
  sink.logNative({ key: 29999, level: RcmLogLevel.WARN, args: [1, 2], peer: "", stream: "" }, "");
  assert.equal(logger.seen[0]?.[0], 29999);
  assert.match(logger.seen[0]?.[2] ?? "", /key 29999: .*1 2/);
  sink.close();
});

test("the level decides, INFO unless set, and may change at any time", () => {
  const sink = openLogSink({ folder });
  const logger = keeper();
  const line = (level: RcmLogLevel) =>
    sink.logNative({ key: 21064, level, args: [], peer: "p", stream: "t.1" }, "");
  sink.setLogArg(RcmLogLevel.INFO, logger);
  line(RcmLogLevel.DEBUG);
  line(RcmLogLevel.INFO);
  sink.setLogArg(RcmLogLevel.ERROR, logger);
  line(RcmLogLevel.WARN);
  sink.log(LogKey.CONTEXT_STARTED, {});
  line(RcmLogLevel.IMP);
  sink.setLogArg(RcmLogLevel.DEBUG, logger);
  line(RcmLogLevel.DEBUG);
  assert.deepEqual(logger.seen.map(([, level]) => level), [1, 4, 0]);
  sink.close();
});

test("setLogArg() without a logger, and with null, goes back to the files", () => {
  const sink = openLogSink({ folder });
  const logger = keeper();
  sink.setLogArg(RcmLogLevel.INFO, logger);
  sink.log(LogKey.CONTEXT_STARTED, {}, "a");
  sink.setLogArg(RcmLogLevel.INFO, null);
  sink.log(LogKey.CONTEXT_STARTED, {}, "b");
  sink.setLogArg(RcmLogLevel.INFO, logger);
  sink.setLogArg(RcmLogLevel.INFO);
  sink.log(LogKey.CONTEXT_STARTED, {}, "c");
  sink.close();
  assert.equal(logger.seen.length, 1);
  assert.deepEqual(linesOf(folder).map((line) => line.split(" ")[3]), ["b", "c"]);
});

test("setLogArg() refuses a level and a logger that are none", () => {
  const sink = openLogSink({ folder });
  const bad = (e: unknown) => e instanceof RcmError && e.code === "ARGUMENT";
  assert.throws(() => sink.setLogArg(6 as never), bad);
  assert.throws(() => sink.setLogArg(0.5 as never), bad);
  assert.throws(() => sink.setLogArg("INFO" as never), bad);
  assert.throws(() => sink.setLogArg(RcmLogLevel.INFO, {} as never), bad);
  sink.close();
});

test("a logger that throws is told of once; its lines go to the files", async () => {
  const sink = openLogSink({ folder, lang: "en_US" });
  sink.setLogArg(RcmLogLevel.INFO, {
    log() {
      throw new Error("broken logger");
    },
  });
  sink.log(LogKey.CONTEXT_STARTED, {}, "a");
  sink.log(LogKey.CONTEXT_STOPPED, {}, "a");
  sink.flush();
  const keys = () => linesOf(folder).map((line) => Number(line.split(" ")[2]));
  assert.deepEqual(keys(), [23008, 23006, 23007]);
  assert.match(linesOf(folder)[0]!, /ERROR 23008 - .*broken logger/);

  // A new logger has a new chance; a rejection counts as a throw.
  sink.setLogArg(RcmLogLevel.INFO, { log: () => Promise.reject(new Error("later")) as never });
  sink.log(LogKey.CONTEXT_STARTED, {}, "b");
  await new Promise((resolve) => setTimeout(resolve, 5));
  sink.close();
  assert.deepEqual(keys(), [23008, 23006, 23007, 23008, 23006]);
});

test("what a logger raises itself goes to the files, not round and round", () => {
  const sink = openLogSink({ folder });
  let calls = 0;
  sink.setLogArg(RcmLogLevel.INFO, {
    log() {
      calls += 1;
      sink.log(LogKey.CONTEXT_STOPPED, {}, "inner");
    },
  });
  sink.log(LogKey.CONTEXT_STARTED, {}, "outer");
  sink.close();
  assert.equal(calls, 1);
  assert.equal(linesOf(folder).length, 1);
});

test("ERROR and above are in the file at once, others after a moment", async () => {
  const sink = openLogSink({ folder });
  sink.log(LogKey.CONTEXT_STARTED, {});
  assert.deepEqual(readdirSync(folder), []);
  sink.log(LogKey.EVENT_CALLBACK_THREW, { error: "e" });
  assert.equal(linesOf(folder).length, 2);
  sink.log(LogKey.CONTEXT_STOPPED, {});
  assert.equal(linesOf(folder).length, 2);
  await new Promise((resolve) => setTimeout(resolve, 400));
  assert.equal(linesOf(folder).length, 3);
  sink.close();
});

test("a stack stays in its line", () => {
  const sink = openLogSink({ folder });
  sink.log(LogKey.EVENT_CALLBACK_THREW, { error: errorText(new Error("first\nsecond")) });
  sink.close();
  const lines = linesOf(folder);
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /Error: first \| second \| .*at /);
});

test("a closed sink drops lines and writes nothing more", () => {
  const sink = openLogSink({ folder });
  sink.close();
  sink.close();
  sink.log(LogKey.EVENT_CALLBACK_THREW, { error: "late" });
  sink.flush();
  assert.deepEqual(readdirSync(folder), []);
});

test("errorText() shows any value and never throws", () => {
  assert.match(errorText(new TypeError("bad")), /TypeError: bad/);
  assert.equal(errorText("text"), "text");
  assert.equal(errorText(7), "7");
  assert.equal(errorText(undefined), "undefined");
  assert.equal(errorText({ a: 1 }), '{"a":1}');
  assert.equal(errorText(7n), "(a value that can't be shown)");
});

test("files are bounded in size and number, and no line is cut", () => {
  let time = 0;
  const files = openLogFiles({
    folder,
    fileBytes: 100,
    fileCount: 3,
    now: () => time,
    lostLine: () => "",
  });
  for (let i = 0; i < 60; i += 1) {
    time += 1;
    files.write(`line ${String(i).padStart(2, "0")} ${"字".repeat(10)}`, i % 7 === 6);
  }
  files.close();
  const names = readdirSync(folder).sort();
  assert.equal(names.length, 3);
  for (const name of names) {
    const text = readFileSync(join(folder, name), "utf8");
    assert.ok(new TextEncoder().encode(text).length <= 100, name);
    for (const line of text.split("\n").slice(0, -1)) assert.match(line, /^line \d\d 字{10}$/);
  }
  const last = linesOf(folder).at(-1);
  assert.match(last ?? "", /^line 59 /);
});

test("a line longer than a file has a file of its own", () => {
  const files = openLogFiles({ folder, fileBytes: 50, fileCount: 9, lostLine: () => "" });
  files.write("a", false);
  files.write("b".repeat(200), false);
  files.write("c", false);
  files.close();
  assert.deepEqual(linesOf(folder), ["a", "b".repeat(200), "c"]);
  assert.equal(readdirSync(folder).length, 3);
});

test("old files of ended processes go first, the newest of a living one stays", () => {
  // No process has a number over the kernel's limit of 2^22.
  const dead = [1, 2, 3].map((n) => `rcm_2020010${n}T000000.000Z_99999999_0000000${n}.log`);
  const alive = `rcm_20190101T000000.000Z_${process.pid}_aaaaaaaa.log`;
  for (const name of [...dead, alive, "notes.txt"]) writeFileSync(join(folder, name), "x\n");
  const files = openLogFiles({ folder, fileCount: 3, lostLine: () => "" });
  files.write("line", true);
  files.close();
  const names = readdirSync(folder).sort();
  assert.ok(names.includes(alive));
  assert.ok(names.includes("notes.txt"));
  assert.deepEqual(names.filter((name) => dead.includes(name)), [dead[2]]);
  assert.equal(names.length, 4);
});

test("two writers in one folder have files of their own", () => {
  const a = openLogFiles({ folder, lostLine: () => "" });
  const b = openLogFiles({ folder, lostLine: () => "" });
  a.write("a", true);
  b.write("b", true);
  a.close();
  b.close();
  assert.equal(readdirSync(folder).length, 2);
});

test("a failing disk is told of once, and the lost lines are counted when it works again", () => {
  // A file where the folder should be: nothing can be made in it, whoever runs this.
  const path = join(folder, "log");
  writeFileSync(path, "");
  let time = 1_000_000;
  const complaints: string[] = [];
  const sink = openLogSink({
    folder: path,
    lang: "en_US",
    now: () => time,
    complain: (text) => void complaints.push(text),
  });
  sink.log(LogKey.EVENT_CALLBACK_THREW, { error: "1" });
  sink.log(LogKey.EVENT_CALLBACK_THREW, { error: "2" });
  time += 60_000;
  sink.log(LogKey.EVENT_CALLBACK_THREW, { error: "3" });
  assert.equal(complaints.length, 1);
  assert.match(complaints[0]!, /can't write log files in .*log: /);

  rmSync(path);
  mkdirSync(path);
  sink.log(LogKey.EVENT_CALLBACK_THREW, { error: "4, too early" });
  assert.deepEqual(readdirSync(path), []);
  time += 60_000;
  sink.log(LogKey.EVENT_CALLBACK_THREW, { error: "5" });
  sink.close();
  const lines = linesOf(path);
  assert.equal(lines.length, 2);
  assert.match(lines[0]!, /WARN 23009 - .*, 4 lines are lost$/);
  assert.match(lines[1]!, /23001 - .*5$/);
});

test("waiting lines are written when the process exits, and do not keep it alive", () => {
  const module = new URL("../src/observe/logger.ts", import.meta.url).href;
  const script = join(folder, "exit.ts");
  const log = join(folder, "log");
  writeFileSync(
    script,
    `import { openLogSink } from ${JSON.stringify(module)};
     openLogSink({ folder: ${JSON.stringify(log)} }).log(23006, {}, "ctx");
     if (process.argv.includes("exit")) process.exit(0);`,
  );
  const run = process.versions["bun"] === undefined ? ["run", "-A"] : ["run"];
  for (const argument of ["exit", "end"]) {
    const done = spawnSync(
      process.execPath,
      [...run, fileURLToPath(`file://${script}`), argument],
      {
        encoding: "utf8",
      },
    );
    assert.equal(done.status, 0, done.stderr);
    assert.equal(linesOf(log).length, 1);
    rmSync(log, { recursive: true });
  }
});
