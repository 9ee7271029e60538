/**
 * Native threads that leave their agents to JavaScript while it looks for messages
 * (`native/src/agent/lending.zig`), from idle to busy and back, and while JavaScript is held up.
 */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import test from "node:test";
import { RcmEventType } from "../mod.ts";
import { type BusOptions, makeBus, until } from "./api_bus.ts";
import type { Done, Order } from "./lending_sender.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Holds this thread up. */
function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** How often native threads of contexts have gone to sleep so far. */
function sleeps(): number {
  let sum = 0;
  for (const task of readdirSync("/proc/self/task")) {
    try {
      const status = readFileSync(`/proc/self/task/${task}/status`, "utf8");
      if (!/^Name:\s+rcm$/m.test(status)) continue;
      sum += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
    } catch {
      // The thread has ended meanwhile.
    }
  }
  return sum;
}

interface Scene {
  /** Numbers in the messages, as they came. */
  readonly got: number[];
  /** Called for each message. */
  onMessage: (count: number) => void;
  /** Orders the sender about, and waits until it has done it. */
  order(order: Order): Promise<string>;
}

/** A receiver in this thread, and a sender in a Worker. */
async function withScene(options: BusOptions, run: (scene: Scene) => Promise<void>): Promise<void> {
  const bus = makeBus(options);
  const worker = new Worker(new URL("./lending_sender.ts", import.meta.url), { type: "module" });
  const done: Done[] = [];
  worker.onmessage = ({ data }) => void done.push(data as Done);
  worker.onerror = (error) => void done.push({ kind: "failed", text: error.message });
  const order = async (what: Order) => {
    worker.postMessage(what);
    await until(() => done.length > 0, `the sender has done "${what.kind}"`);
    const { kind, text } = done.shift()!;
    assert.equal(kind, what.kind, text);
    return text;
  };
  const scene: Scene = { got: [], onMessage: () => {}, order };
  try {
    const context = bus.factory().newRcmContext("rx1");
    const decoder = new TextDecoder();
    context.createReceiver({
      onMessage(data) {
        scene.got.push(Number(decoder.decode(data)));
        scene.onMessage(scene.got.length);
      },
    });
    await context.start();
    const { config, workDir, prefix } = bus;
    await order({ kind: "start", config, workDir, prefix });
    await run(scene);
    const lost = [
      RcmEventType.MESSAGE_LOSS,
      RcmEventType.HEARTBEAT_TIMEOUT,
      RcmEventType.NO_TRANSMITTER,
    ] as const;
    const types = bus.events.map((event) => event.getEventType());
    assert.deepEqual(types.filter((type) => (lost as readonly number[]).includes(type)), []);
    assert.deepEqual(scene.got, scene.got.map((_, index) => index));
    assert.equal(await order({ kind: "stop" }), "0", "the receiver was never given up");
  } finally {
    worker.terminate();
    await bus.close();
  }
}

const wirings: readonly (readonly [string, BusOptions])[] = [
  ["shared", {}],
  ["dedicated", { all: { Threading: "dedicated" } }],
  ["spin", { contexts: { rx1: { WaitStrategy: "spin" } } }],
  ["yield", { contexts: { rx1: { WaitStrategy: "yield" } } }],
  ["memory", {
    transport: { UseSharedMemory: 1 },
    contexts: { rx1: { ShmContext: ["tx1"] } },
  }],
];

for (const [name, options] of wirings) {
  test(`nothing is lost from idle to busy and back: ${name}`, () =>
    withScene(options, async ({ got, order }) => {
      let count = 0;
      for (const [messages, atOnce] of [[20, 1], [20_000, 500], [100, 2], [3000, 20]] as const) {
        await order({ kind: "send", messages, atOnce });
        count += messages;
        await until(() => got.length === count, `${count} messages come`);
        await sleep(30);
      }
    }));
}

test("a handler that takes long keeps its sessions while traffic goes on", () => {
  const ackTimeoutMs = 500;
  const transport = { AckTimeoutMilli: ackTimeoutMs, HeartbeatTimeoutMilli: ackTimeoutMs };
  return withScene({ transport }, async (scene) => {
    let blocked = 0;
    scene.onMessage = (count) => {
      // In the middle of what comes at once, and where the thread was looking for the next.
      if (count % 500 !== 0) return;
      block(count === 500 ? 50 : 2 * ackTimeoutMs);
      blocked += 1;
    };
    await scene.order({ kind: "send", messages: 1500, atOnce: 1 });
    await until(() => scene.got.length === 1500, "everything comes");
    assert.equal(blocked, 3);
  });
});

test("after traffic an idle program sleeps, and so does its native thread", () =>
  withScene({}, async ({ got, order }) => {
    await order({ kind: "send", messages: 5000, atOnce: 50 });
    await until(() => got.length === 5000, "everything comes");
    // What the traffic left to the runtime (garbage, compiling) may take a while.
    let quiet = false;
    for (let look = 0; look < 20 && !quiet; look += 1) {
      const sleptBefore = sleeps();
      const cpuBefore = process.cpuUsage();
      await sleep(500);
      const { user, system } = process.cpuUsage(cpuBefore);
      quiet = user + system < 50_000 && sleeps() - sleptBefore < 150;
    }
    assert.ok(quiet, "half a second with less than 50 ms of CPU and 150 sleeps");
  }));
