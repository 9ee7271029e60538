/**
 * Guide 10.1: keys of the configuration that no other test shows at work. `docs/configuration.md`
 * says for each key which test does; keys that need hosts of their own are in
 * `tests/e2e/conformance_test.ts`.
 */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import process from "node:process";
import { test } from "node:test";
import type { RcmFactory } from "../../mod.ts";
import { collect, type Got, LIMIT_MS, rejectsCode, until, withBus } from "../api_bus.ts";

const TASKS = "/proc/self/task";

interface Task {
  readonly id: string;
  readonly name: string;
}

/** Native threads of this process by their name. */
function tasks(name: string): Task[] {
  return readdirSync(TASKS).flatMap((id) => {
    try {
      const found = readFileSync(`${TASKS}/${id}/comm`, "utf8").trim();
      return found === name ? [{ id, name: found }] : [];
    } catch {
      return []; // It has ended.
    }
  });
}

/** The one thread of that name; it gives itself the name when it begins to run. */
async function task(name: string): Promise<Task> {
  await until(() => tasks(name).length === 1, `one thread ${name}`);
  return tasks(name)[0]!;
}

const coresOf = ({ id }: Task) =>
  /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync(`${TASKS}/${id}/status`, "utf8"))![1]!;
/** Milliseconds that a thread has run. */
const ranMs = ({ id }: Task) =>
  Number(readFileSync(`${TASKS}/${id}/schedstat`, "utf8").split(" ")[0]) / 1e6;

async function startReceiver(factory: RcmFactory, name: string, got: Got[] = []) {
  const context = factory.newRcmContext(name);
  context.createReceiver(collect(got));
  await context.start();
  return context;
}

interface Latency {
  readonly Total: number;
  readonly Samples: number;
  readonly MinNano: number;
  readonly MaxNano: number;
}

interface Answer {
  readonly ctxs: readonly {
    readonly rx: { readonly Rms: readonly { readonly Address: string }[] };
    readonly Dropped: { readonly OtherCluster: number };
    readonly Tier: { readonly Deliver: { readonly DeliverLatency?: Latency } };
  }[];
}

const statistics = (factory: RcmFactory, context: string) =>
  (JSON.parse(factory.getStatistics(JSON.stringify({ Context: context }))) as Answer).ctxs[0]!;

test(
  "10.1 BindCoreId: the receiving thread is bound to that core, and only it",
  { skip: availableParallelism() < 2 ? "needs two cores" : false },
  () =>
    withBus({
      nodes: ["both"],
      all: { BindCoreId: 1, Threading: "dedicated" },
    }, async (_bus, factory) => {
      const context = factory.newRcmContext("both");
      context.createReceiver({ onMessage() {} });
      context.createTransmitter("t");
      await context.start();
      const [receiving, sending] = [await task("rcm-receive"), await task("rcm-send")];
      await until(() => coresOf(receiving) === "1", "it has bound itself");
      assert.notEqual(coresOf(sending), "1");
      const main = { id: String(process.pid), name: "" };
      assert.equal(coresOf(sending), coresOf(main));
    }),
);

test("10.1 ClusterId: datagrams of another cluster are counted, and nothing else", () =>
  withBus({ nodes: ["tx1", "rx1", "rx2"] }, async (bus, factory) => {
    const got: Got[] = [];
    await startReceiver(factory, "rx1", got);
    Object.assign(bus.config.Rcm!, { ClusterId: 7 });
    const other = bus.factory();
    const tx = other.newRcmContext("tx1");
    const transmitter = tx.createTransmitter("t");
    await tx.start();
    const kept: Got[] = [];
    await startReceiver(other, "rx2", kept);
    assert.equal(await transmitter.connected(1, LIMIT_MS), true);
    assert.equal(transmitter.sendData("seven"), 0);
    await until(() => kept.length === 1, "its own cluster hears it");
    await until(() => statistics(factory, "rx1").Dropped.OtherCluster > 1, "the other counts");
    assert.deepEqual(got, []);
    assert.deepEqual(statistics(factory, "rx1").rx.Rms, []);
    assert.equal(statistics(other, "rx2").Dropped.OtherCluster, 0);
  }));

test("10.1 RepairPortStart, RepairPortEnd: the range that receivers answer to", () => {
  const port = 20_000 + process.pid % 9000;
  return withBus({
    nodes: ["tx1", "tx2", "rx1"],
    contexts: {
      tx1: { RepairPortStart: port, RepairPortEnd: port },
      tx2: { RepairPortStart: port, RepairPortEnd: port },
    },
  }, async (_bus, factory) => {
    await startReceiver(factory, "rx1");
    const first = factory.newRcmContext("tx1");
    const transmitter = first.createTransmitter("t");
    await first.start();
    assert.equal(await transmitter.connected(1, LIMIT_MS), true);
    const [stream] = statistics(factory, "rx1").rx.Rms;
    assert.equal(stream?.Address, `127.0.0.1:${port}`);
    // There is no other port in it.
    const second = factory.newRcmContext("tx2");
    second.createTransmitter("t");
    const error = await rejectsCode(second.start(), "SOCKET");
    assert.match(error.message, new RegExp(String(port)));
  });
});

test("10.1 UsePreAllocate: 1: all memory of the window is mapped when start resolves", () =>
  withBus({
    contexts: { tx1: { UsePreAllocate: 1, MaxMemoryAllowedMBytes: 16 } },
  }, async (bus, factory) => {
    const tx = factory.newRcmContext("tx1");
    tx.createTransmitter("t");
    await tx.start();
    for (const name of bus.files().filter((one) => /_(allocator|block_[12])$/.test(one))) {
      const path = `/dev/shm/${bus.prefix}${name}`;
      const { size, resident } = mappings(path);
      assert.ok(size > 0, `${name} is mapped`);
      assert.equal(resident, size, name);
    }
  }));

/** KiB of a file that are mapped into this process, and of these the ones that are there. */
function mappings(path: string): { size: number; resident: number } {
  let [size, resident] = [0, 0];
  const entries = readFileSync("/proc/self/smaps", "utf8").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  for (const entry of entries.filter((one) => one.split("\n")[0]!.endsWith(path))) {
    size += Number(/^Size: +(\d+) kB$/m.exec(entry)![1]);
    resident += Number(/^Rss: +(\d+) kB$/m.exec(entry)![1]);
  }
  return { size, resident };
}

test("10.1 and WaitStrategy: spin takes a core, block takes none", async () => {
  await withBus({
    nodes: ["rx1", "rx2"],
    contexts: {
      rx1: { WaitStrategy: "spin", Threading: "dedicated" },
      rx2: { WaitStrategy: "block", Threading: "shared" },
    },
  }, async (_bus, factory) => {
    await startReceiver(factory, "rx1");
    await startReceiver(factory, "rx2");
    const [spinning, blocking] = [await task("rcm-receive"), await task("rcm")];
    const before = ranMs(blocking);
    const from = ranMs(spinning);
    await until(() => ranMs(spinning) - from > 300, "it has run for 300 ms");
    const rested = ranMs(blocking) - before;
    assert.ok(rested < 100, `meanwhile the other ran for ${rested} ms`);
  });
});

for (const strategy of ["adaptive", "spin", "yield", "block"] as const) {
  for (const threading of ["shared", "dedicated", "inline"] as const) {
    test(`10.1 and WaitStrategy ${strategy}, Threading ${threading}: messages come`, () =>
      withBus({
        all: { WaitStrategy: strategy, Threading: threading },
      }, async (_bus, factory) => {
        const got: Got[] = [];
        const rx = factory.newRcmContext("rx1");
        rx.createReceiver(collect(got), 0, {
          delivery: threading === "inline" ? "poll" : "callback",
        });
        await rx.start();
        const tx = factory.newRcmContext("tx1");
        const transmitter = tx.createTransmitter("t");
        await tx.start();
        const both = () => {
          rx.poll();
          tx.poll();
          return true;
        };
        await until(() => both() && statistics(factory, "rx1").rx.Rms.length > 0, "they meet");
        for (let i = 0; i < 100; i += 1) assert.equal(transmitter.sendData(`${i}`), 0);
        await until(() => both() && got.length === 100, "all messages");
        assert.deepEqual(got.map(({ text }) => Number(text)), [...got.keys()]);
      }));
  }
}

for (const ack of ["auto", "manual"] as const) {
  test(`10.1 LatencyStatisticCount: every message that is handed over counts, ack ${ack}`, () =>
    withBus({ all: { LatencyStatisticCount: 40 } }, async (_bus, factory) => {
      const got: Got[] = [];
      const rx = factory.newRcmContext("rx1");
      const receiver = rx.createReceiver(collect(got), 0, { ack });
      await rx.start();
      const tx = factory.newRcmContext("tx1");
      const transmitter = tx.createTransmitter("t");
      await tx.start();
      assert.equal(await transmitter.connected(1, LIMIT_MS), true);
      for (let i = 0; i < 100; i += 1) assert.equal(transmitter.sendData(`${i}`), 0);
      await until(() => got.length === 100, "all messages");
      if (ack === "manual") assert.equal(receiver.sendAck(99), 0);
      const { DeliverLatency } = statistics(factory, "rx1").Tier.Deliver;
      assert.deepEqual([DeliverLatency?.Total, DeliverLatency?.Samples], [100, 40]);
      assert.ok(DeliverLatency!.MinNano <= DeliverLatency!.MaxNano);
    }));
}
