/**
 * Waiting in shared memory: a full arena blocks and goes on, who has nothing to do takes no
 * processor time, and who sleeps is woken every time.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { RcmConfigInput } from "../../mod.ts";
import {
  type Bed,
  e2e,
  isLong,
  LIMIT_MS,
  type Node,
  programOf,
  type Runtime,
  sleep,
  within,
} from "./harness/driver.ts";
import { fileURLToPath } from "node:url";
import { forgetChild, keepChild, RUN_VARIABLE } from "./harness/run.ts";
import { runProgram } from "./fixtures/program.ts";
import type { EchoResult, EchoRun } from "./fixtures/shared_echo.ts";
import {
  closeAll,
  connect,
  countOf,
  flush,
  NOWHERE,
  sharedConfig,
  SLACK_MS,
  STREAM,
  TX,
} from "./fixtures/shared.ts";

const WOULD_BLOCK = 1;
const directions = [["deno", "bun"], ["bun", "deno"]] as const;

/** Share of one core that a process takes while nothing happens. */
async function idleShare(node: Node, ms: number): Promise<number> {
  const before = (await node.call("usage", {})).cpuMs;
  const begin = performance.now();
  await sleep(ms);
  const after = (await node.call("usage", {})).cpuMs;
  return (after - before) / (performance.now() - begin);
}

for (const [from, to] of directions) {
  e2e(`in place, ${from} to ${to}: a full arena is WOULD_BLOCK, and bounded`, async (bed) => {
    const c = sharedConfig(bed, {
      all: { MaxMemoryAllowedMBytes: 2, MaxCacheMsgCount: 0 },
      transport: { AckTimeoutMilli: 30_000, HeartbeatTimeoutMilli: 30_000 },
    });
    const rx = await bed.node(to, c);
    const tx = await bed.node(from, c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    await connect(tx, 1);
    await rx.call("handler", { context: "rx", paused: true });
    const run = { seed: 81, sizes: { kind: "fixed", bytes: 1000 } } as const;
    const first = await tx.call("send", { ...TX, ...run, count: 10_000, whenFull: "stop" });
    assert.equal(first.status, WOULD_BLOCK);
    assert.ok(first.sent > 1500 && first.sent < 2200, `${first.sent} of 1000 bytes in 2 MB`);
    // Nobody goes on: neither side takes time for it.
    const ready = tx.call("ready", { ...TX, timeoutMs: LIMIT_MS });
    const [sender, receiver] = await Promise.all([idleShare(tx, 1000), idleShare(rx, 1000)]);
    assert.ok(sender < 0.15 && receiver < 0.15, `they take ${sender} and ${receiver} of a core`);
    const begin = performance.now();
    await rx.call("handler", { context: "rx", paused: false });
    assert.equal(await ready, true);
    assert.ok(performance.now() - begin < SLACK_MS, "room is told soon");
    const more = 20_000;
    const sending = tx.call("send", { ...TX, ...run, first: first.sent, count: more });
    const rest = await within(sending, LIMIT_MS, () => "the sender goes on");
    assert.equal(rest.sent, more);
    await rx.received("rx", first.sent + more);
    await rx.check("rx", [{ ...STREAM, runs: [{ ...run, count: first.sent + more }] }]);
    assert.equal(countOf(rx, "MESSAGE_LOSS"), 0);
    await flush(tx);
    await closeAll(rx, tx);
  });

  e2e(`in place, ${from} to ${to}: who has nothing to do takes no time`, async (bed) => {
    const c = sharedConfig(bed);
    const rx = await bed.node(to, c);
    const tx = await bed.node(from, c);
    await Promise.all([rx.receiver("rx"), tx.sender("tx")]);
    await connect(tx, 1);
    await tx.call("send", { ...TX, seed: 82, sizes: { kind: "fixed", bytes: 64 }, count: 100 });
    await flush(tx);
    await sleep(300);
    const [sender, receiver] = await Promise.all([idleShare(tx, 2000), idleShare(rx, 2000)]);
    assert.ok(sender < 0.05 && receiver < 0.05, `they take ${sender} and ${receiver} of a core`);
    await closeAll(rx, tx);
  });
}

const echoFile = fileURLToPath(new URL("./fixtures/shared_echo.ts", import.meta.url));
/** Timers of those who wait would make up for a lost wake-up, but not within what a test allows. */
const PATIENT = {
  HeartbeatIntervalMilli: 20_000,
  HeartbeatTimeoutMilli: 60_000,
  AckIntervalMilli: 20_000,
  AckTimeoutMilli: 60_000,
};

/** Far less than those, and more than a busy machine keeps a process from running. */
const SLEPT_MS = 10_000;

function echoConfig(bed: Bed, values: Record<string, unknown>, network: boolean): RcmConfigInput {
  return bed.config({
    transports: ["ping", "pong"].map((Topic) => ({
      Topic,
      UseSharedMemory: 1,
      ...PATIENT,
      ...NOWHERE,
    })).concat(network ? [{ Topic: "net", ...PATIENT } as never] : []),
    all: network ? {} : { Ip: undefined },
    contexts: [["ping", "pong"], ["pong", "ping"]].map(([own, other]) => ({
      Name: own!,
      TxTopics: [{ Name: own }],
      // With a socket besides, another thread passes rings on.
      RxTopics: [{ Name: other }, ...(network ? [{ Name: "net" }] : [])],
      ShmContext: other,
      ...values,
    })),
  });
}

async function pingPong(bed: Bed, runtimes: readonly [Runtime, Runtime], run: Partial<EchoRun>) {
  const common = {
    prefix: bed.prefix,
    pauseMs: 200,
    every: 1000,
    gapUs: 300,
    rounds: isLong ? 100_000 : 4000,
    budgetMs: isLong ? LIMIT_MS : 2500,
    ...run,
  };
  const argument = (role: "ping" | "pong", workDir: string) => {
    mkdirSync(workDir);
    return JSON.stringify({ ...common, role, workDir });
  };
  const [program = "", ...args] = programOf(runtimes[1]);
  const pong = spawn(program, [...args, echoFile, argument("pong", join(bed.folder, "pong"))], {
    env: { ...process.env, NO_COLOR: "1", [RUN_VARIABLE]: String(process.pid) },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const { pid = 0 } = pong;
  keepChild(pid);
  const ended = new Promise<number>((resolve) => pong.on("close", (code) => resolve(code ?? -1)));
  try {
    const { code, stdout, stderr } = await runProgram(runtimes[0], echoFile, {
      args: [argument("ping", join(bed.folder, "ping"))],
    });
    assert.equal(code, 0, stderr);
    pong.stdin.end();
    assert.equal(await within(ended, LIMIT_MS, () => "pong ends"), 0);
    return JSON.parse(stdout) as EchoResult;
  } finally {
    forgetChild(pid);
    pong.kill("SIGKILL");
  }
}

for (const runtimes of directions) {
  for (const WaitStrategy of ["block", "adaptive"]) {
    for (const network of [false, true]) {
      const besides = network ? ", with a socket besides" : "";
      e2e(
        `${runtimes.join(" and ")}, ${WaitStrategy}${besides}: nobody is left asleep`,
        async (bed) => {
          const config = echoConfig(bed, { WaitStrategy }, network);
          const result = await pingPong(bed, runtimes, { config });
          assert.equal(result.wrong, 0);
          assert.ok(result.rounds >= 100, `only ${result.rounds} rounds`);
          assert.ok(result.longestMs < SLEPT_MS, `a round trip took ${result.longestMs} ms`);
        },
      );
    }
  }
}
