import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { rcm } from "./cli_run.ts";

const MAIN = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
const COMMANDS = [
  ["stat"],
  ["members"],
  ["tier", "force-leader"],
  ["record", "dump"],
  ["record", "verify"],
  ["record", "cut"],
  ["config", "check"],
  ["config", "push"],
] as const;

/** A process of its own, in the runtime that runs this. */
function main(...args: readonly string[]) {
  const isBun = process.versions["bun"] !== undefined;
  const command = isBun ? [MAIN] : ["run", "-A", "--quiet", MAIN];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...command, ...args], {
    env: { ...process.env, NO_COLOR: "1" },
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

test("--help of everything says what there is, and the exit codes", async () => {
  for (const command of [[], ["record"], ["config"], ...COMMANDS]) {
    const { exit, out, err } = await rcm(...command, "--help");
    assert.deepEqual([exit, err], [0, []], command.join(" "));
    const text = out.join("\n");
    assert.ok(text.startsWith(`Usage: ${["rcm", ...command].join(" ")} `), text);
    assert.match(text, /Exit codes: 0 done; 1 done, .*2 the command line is wrong; 3 it could/s);
    if (command.length === 2 || ["stat", "members"].includes(command[0] ?? "")) {
      assert.match(text, /--json/);
    }
  }
});

test("a wrong command line has exit code 2, and says what is wrong", async () => {
  const wrong: [string[], RegExp][] = [
    [["foo"], /unknown command 'foo'/],
    [["record", "bar"], /unknown command 'bar'/],
    [["stat", "--nope"], /unknown option '--nope'/],
    [
      ["stat", "--interval", "soon"],
      /--interval: expected a whole number 0..3600000, found "soon"/,
    ],
    [["stat", "--count", "0"], /--count: expected/],
    [["stat", "one", "two"], /too many arguments/],
    [["members"], /required option '--address <address>' not specified/],
    [["members", "--address", "local:", "--path", "/rcm", "-n", "0"], /--count: expected/],
    [
      ["tier", "force-leader", "--address", "local:", "--path", "/rcm"],
      /missing required argument 'node'/,
    ],
    [["record", "dump"], /missing required argument 'folder'/],
    [["config", "check"], /missing required argument 'file'/],
    [["config", "check", "--json"], /missing required argument 'file'/],
  ];
  for (const [args, text] of wrong) {
    const { exit, out, err } = await rcm(...args);
    assert.equal(exit, 2, args.join(" "));
    assert.deepEqual(out, [], args.join(" "));
    assert.match(err.join("\n"), text);
  }
  for (const args of [[], ["record"]]) {
    const { exit, out, err } = await rcm(...args);
    assert.deepEqual([exit, out], [2, []]);
    assert.match(err.join("\n"), /^Usage: rcm/);
  }
});

test("rcm config check lists every fault with its path", async () => {
  const folder = mkdtempSync(join(tmpdir(), "rcm-cli-"));
  try {
    const file = (name: string, content: unknown) => {
      const path = join(folder, name);
      writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
      return path;
    };
    const transport = { Id: 1, Topic: "t", Addr: "239.1.1.1", Port: 5000 };
    const tx = { Name: "a", Id: 1, Ip: "127.0.0.1", TxTopics: [{ Name: "t" }] };
    const good = file("good.json", { Rcm: { Transports: [transport], Contexts: [tx] } });
    assert.deepEqual(await rcm("config", "check", good), {
      exit: 0,
      out: [`${good}: good, contexts: a`],
      err: [],
    });
    const bad = file("bad.json", {
      Rcm: {
        Transports: [{ ...transport, Port: 70000, Adr: "x" }],
        Contexts: [{ ...tx, TTL: 256 }, { ...tx, Name: "b" }],
      },
    });
    const { exit, out, err } = await rcm("config", "check", bad);
    assert.deepEqual([exit, err], [1, []]);
    assert.equal(out[0], `${bad}: ${out.length - 1} faults`);
    for (
      const path of ["Transports[0].Port", "Transports[0].Adr", "Contexts[0].TTL", "Contexts[1].Id"]
    ) {
      assert.ok(
        out.some((line) => line.startsWith(`  Rcm.${path} `)),
        `${path}: ${out.join("\n")}`,
      );
    }
    const json = await rcm("config", "check", "--json", bad);
    assert.equal(json.exit, 1);
    const parsed = JSON.parse(json.out[0]!);
    assert.deepEqual(parsed.faults, out.slice(1).map((line) => line.slice(2)));
    const broken = await rcm("config", "check", file("broken.json", '{ "Rcm": '));
    assert.equal(broken.exit, 1);
    assert.match(broken.out[1]!, /line 1/);
    const missing = await rcm("config", "check", join(folder, "none.json"));
    assert.equal(missing.exit, 1);
    assert.match(missing.out[1]!, /can't be read: .*ENOENT/);
    const member = { ...tx, IsSingleton: 0, TierName: "T", SyncAddr: "239.2.2.2", SyncPort: 6000 };
    const tier = file("tier.json", { Rcm: { Transports: [transport], Contexts: [member] } });
    const checked = await rcm("config", "check", "--json", tier);
    assert.equal(checked.exit, 0, checked.out.join("\n"));
    assert.deepEqual(JSON.parse(checked.out[0]!).contexts, ["a"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("rcm as a program: its exit code, and results apart from messages", () => {
  const help = main("--help");
  assert.deepEqual([help.status, help.stderr], [0, ""]);
  assert.match(help.stdout, /^Usage: rcm/);
  const wrong = main("record", "dump");
  assert.deepEqual([wrong.status, wrong.stdout], [2, ""]);
  assert.match(wrong.stderr, /missing required argument/);
  const nowhere = main("record", "verify", "/nonexistent/folder");
  assert.deepEqual([nowhere.status, nowhere.stdout], [3, ""]);
  assert.match(nowhere.stderr, /^rcm: \/nonexistent\/folder: /);
  const none = main("stat", "--json", "-i", "0", "-c", "no such context");
  assert.equal(none.status, 1);
  assert.deepEqual(JSON.parse(none.stdout).ctxs, []);
});
