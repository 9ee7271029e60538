/** Several Workers send on one transmitter: `senderToken`, `openSender`. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import test from "node:test";
import { fileURLToPath } from "node:url";
import {
  openSender,
  type RcmContext,
  type RcmReceiverCallback,
  type RcmSenderToken,
  RcmStatus,
  type RcmTransmitter,
} from "../mod.ts";
import { makeBus, throwsCode, until, withBus } from "./api_bus.ts";
import type { Answer, Task } from "./senders_worker.ts";

const stranger = fileURLToPath(new URL("./senders_stranger.ts", import.meta.url));
const isBun = process.versions["bun"] !== undefined;
const WORKERS = 3;
const MESSAGES = 100_000;

/** A Worker, and what it has answered. */
interface Sending {
  readonly answers: Answer[];
  /** Gives it a task and waits for its answer. */
  ask(task: Task): Promise<Answer>;
  /** Gives it a task. */
  tell(task: Task): void;
  end(): void;
}

function startWorker(): Sending {
  const worker = new Worker(new URL("./senders_worker.ts", import.meta.url), { type: "module" });
  const answers: Answer[] = [];
  const failed = { sent: 0, refused: 0, status: -1, flushed: false };
  worker.onmessage = ({ data }) => void answers.push(data as Answer);
  worker.onerror = ({ message }) =>
    void answers.push({ ...failed, did: "failed", text: String(message) });
  return {
    answers,
    async ask(task) {
      const due = answers.length + 1;
      worker.postMessage(task);
      await until(() => answers.length >= due, `a Worker's answer to ${task.do}`);
      return answers[due - 1]!;
    },
    tell: (task) => worker.postMessage(task),
    end: () => worker.terminate(),
  };
}

async function withWorkers(
  count: number,
  run: (workers: readonly Sending[]) => Promise<void>,
): Promise<void> {
  const workers = Array.from({ length: count }, startWorker);
  try {
    await run(workers);
  } finally {
    for (const { end } of workers) end();
  }
}

/** Counts what comes from each thread, and checks its order and content. */
function createCheck(): RcmReceiverCallback & { readonly counts: number[]; total: number } {
  const decoder = new TextDecoder();
  /** By thread and partition: the number of the last message. */
  const last = new Map<string, number>();
  const counts: number[] = Array(WORKERS + 1).fill(0);
  const check = {
    counts,
    total: 0,
    onMessage(data: Uint8Array, _sqn: number, _txArg: number, info: { getPartitionNo(): number }) {
      const [thread, number, rest] = decoder.decode(data).split(" ").map(String);
      const key = `${thread} in ${info.getPartitionNo()}`;
      const no = Number(number);
      assert.ok(no > (last.get(key) ?? -1), `${key}: ${no} after ${last.get(key)}`);
      assert.match(rest!, /^x*$/);
      assert.equal(rest!.length, no % 500 === 0 ? 5000 : no % 60);
      last.set(key, no);
      counts[Number(thread)]! += 1;
      check.total += 1;
    },
  };
  return check;
}

/** The transmitter of a started context over two partitions, with its receiver beside it. */
async function startBoth(
  bus: ReturnType<typeof makeBus>,
  callback: RcmReceiverCallback,
): Promise<{ sender: RcmContext; receiver: RcmContext; tx: RcmTransmitter }> {
  const factory = bus.factory();
  const receiver = factory.newRcmContext("rx1");
  receiver.createReceiver(callback);
  await receiver.start();
  const sender = factory.newRcmContext("tx1");
  const tx = sender.createTransmitter("t");
  await sender.start();
  assert.equal(await tx.connected(1, 20_000), true);
  return { sender, receiver, tx };
}

async function openAll(workers: readonly Sending[], tx: RcmTransmitter): Promise<void> {
  const opened = await Promise.all(
    workers.map(({ ask }, i) => ask({ do: "open", token: tx.senderToken(i + 1) })),
  );
  assert.deepEqual(opened.map(({ did, text }) => [did, text]), opened.map(() => ["open", ""]));
}

const TWO = { partitions: 2, all: { MaxMemoryAllowedMBytes: 2 } };

/** How messages leave: in the thread that sends, in the network's, or they are read in place. */
const WAYS = {
  "AsynchronousRms 0": { transport: { AsynchronousRms: 0 } },
  "AsynchronousRms 1": { transport: { AsynchronousRms: 1 } },
  "shared memory": {
    transport: { UseSharedMemory: 1 },
    contexts: { rx1: { ShmContext: ["tx1"] } },
  },
};

for (const [name, way] of Object.entries(WAYS)) {
  test(`three Workers and the main thread send (${name})`, () =>
    withWorkers(WORKERS, async (workers) => {
      const transport = { ...way.transport, AckTimeoutMilli: 10_000 };
      const bus = makeBus({ ...TWO, ...way, transport });
      try {
        const check = createCheck();
        const { tx, sender } = await startBoth(bus, check);
        await openAll(workers, tx);
        const each = MESSAGES / (WORKERS + 1);
        const asked = workers.map(({ ask }) => ask({ do: "send", messages: each }));
        for (let i = 0; i < each;) {
          const text = `0 ${i} ${"x".repeat(i % 500 === 0 ? 5000 : i % 60)}`;
          const status = tx.sendData(text, i % 3);
          if (status === RcmStatus.WOULD_BLOCK) await tx.ready();
          else assert.equal(status, RcmStatus.OK);
          if (status === RcmStatus.OK) i += 1;
          // The receiver is in this event loop too.
          if (i % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
        }
        for (const answer of await Promise.all(asked)) {
          assert.equal(answer.text, "");
          assert.equal(answer.status, RcmStatus.OK);
          assert.equal(answer.flushed, true);
        }
        assert.equal(await tx.flush(10_000), true);
        await until(() => check.total === MESSAGES, "everything comes");
        assert.deepEqual(check.counts, Array(WORKERS + 1).fill(each));
        await sender.stop();
      } finally {
        await bus.close();
      }
    }));
}

test("a context stops while Workers send: they are told, and nothing accepted is lost", () =>
  withWorkers(WORKERS, async (workers) => {
    const bus = makeBus({ ...TWO, transport: { AckTimeoutMilli: 10_000 } });
    try {
      const check = createCheck();
      const { tx, sender } = await startBoth(bus, check);
      await openAll(workers, tx);
      const token = tx.senderToken(9);
      const asked = workers.map(({ ask }) => ask({ do: "flood" }));
      await until(() => check.counts.slice(1).every((count) => count > 1000), "all of them send");
      await sender.stop();
      const answers = await Promise.all(asked);
      for (const { status, text, flushed } of answers) {
        assert.equal(text, "");
        assert.equal(status, RcmStatus.STOPPED);
        assert.equal(flushed, false);
      }
      await until(
        () => workers.every((_, i) => check.counts[i + 1] === answers[i]!.sent),
        `what was accepted comes: ${check.counts} of ${answers.map(({ sent }) => sent)}`,
      );
      throwsCode(() => openSender(token), "STATE");
      throwsCode(() => tx.senderToken(9), "STATE");
      // Afterwards its name is free, and old senders do not reach the new one.
      const again = bus.factory().newRcmContext("tx1");
      const newTx = again.createTransmitter("t");
      await again.start();
      for (const { ask } of workers) {
        assert.equal((await ask({ do: "close" })).status, RcmStatus.STOPPED);
      }
      throwsCode(() => openSender(token), "STATE");
      await openAll(workers, newTx);
      await again.stop();
    } finally {
      await bus.close();
    }
  }));

test("contexts start and stop while Workers write into what they reserved", () =>
  withWorkers(WORKERS, async (workers) => {
    const bus = makeBus({ ...TWO, transport: { AckTimeoutMilli: 10_000 } });
    try {
      for (let round = 0; round < 5; round += 1) {
        const check = createCheck();
        const { tx, sender, receiver } = await startBoth(bus, check);
        await openAll(workers, tx);
        const [flooding, ...writing] = workers as [Sending, ...Sending[]];
        for (const { tell } of writing) tell({ do: "write" });
        const asked = flooding.ask({ do: "flood" });
        const before = flooding.answers.at(-1)!.sent;
        await until(() => check.total > 500, "messages come between what is written");
        await sender.stop();
        const { sent, status } = await asked;
        assert.equal(status, RcmStatus.STOPPED);
        await until(() => check.total === sent - before, "what was accepted comes, undamaged");
        for (const { answers } of writing) {
          await until(() => answers.at(-1)?.did === "write", "the writer is stopped");
          assert.equal(answers.at(-1)!.status, RcmStatus.STOPPED);
        }
        await receiver.stop();
        bus.wipe();
      }
    } finally {
      await bus.close();
    }
  }));

test("a Worker that is ended gives its thread number and its memory back", async () => {
  const bus = makeBus({ ...TWO, transport: { AckTimeoutMilli: 10_000 } });
  try {
    let total = 0;
    const { tx } = await startBoth(bus, { onMessage: () => void (total += 1) });
    for (let round = 0; round < 4; round += 1) {
      const worker = startWorker();
      try {
        const token = tx.senderToken(1);
        assert.equal((await worker.ask({ do: "open", token })).text, "");
        throwsCode(() => openSender(token), "STATE");
        worker.tell({ do: round % 2 === 0 ? "flood" : "write" });
        const before = total;
        if (round % 2 === 0) await until(() => total > before + 500, "it sends");
        else await new Promise((resolve) => setTimeout(resolve, 20));
      } finally {
        worker.end();
      }
      // Its thread ends some time after that.
      await until(() => {
        try {
          void openSender(tx.senderToken(1))[Symbol.asyncDispose]();
          return true;
        } catch {
          return false;
        }
      }, "the number is free");
      assert.equal(await tx.flush(10_000), true);
      const most = 1_800_000;
      assert.notEqual(tx.getAllocator(0).malloc(most), null);
      tx.getAllocator(0).malloc(0);
    }
  } finally {
    await bus.close();
  }
});

test("a sender in the transmitter's own thread", () =>
  withBus({}, async (_bus, factory) => {
    const context = factory.newRcmContext("tx1");
    const tx = context.createTransmitter("t");
    throwsCode(() => tx.senderToken(0), "STATE");
    await context.start();
    for (const no of [-1, 64, 1.5, NaN, "1" as unknown as number]) {
      throwsCode(() => tx.senderToken(no), "ARGUMENT");
    }
    const token = tx.senderToken(5);
    assert.deepEqual(structuredClone(token), token);
    assert.deepEqual(Object.keys(token).sort(), ["abi", "handle", "kind", "threadNo"]);
    const sender = openSender(token);
    const refused = throwsCode(() => openSender(token), "STATE");
    assert.match(refused.message, /thread number 5/);
    const other = openSender(tx.senderToken(6));
    assert.equal(sender.allocator, sender.allocator);
    assert.notEqual(sender.allocator, tx.getAllocator(5));
    // Allocators belong to what they came from.
    assert.ok(sender.allocator.malloc(4));
    assert.equal(other.send(sender.allocator, 4), RcmStatus.BAD_ARGUMENT);
    assert.equal(tx.send(sender.allocator, 4), RcmStatus.BAD_ARGUMENT);
    assert.equal(sender.send(sender.allocator, 5), RcmStatus.BAD_ARGUMENT);
    assert.equal(sender.send(sender.allocator, 4, 9), RcmStatus.BAD_PARTITION);
    assert.equal(sender.send(sender.allocator, 4), RcmStatus.OK);
    assert.equal(sender.send(sender.allocator, 4), RcmStatus.BAD_ARGUMENT);
    assert.equal(sender.sendData(new Uint8Array(5 << 20)), RcmStatus.TOO_LARGE);
    assert.equal(sender.sendData("", 1, -1), RcmStatus.BAD_ARGUMENT);
    assert.equal(sender.sendData("", 2), RcmStatus.BAD_PARTITION);
    assert.equal(sender.sendData(""), RcmStatus.OK);
    assert.equal(await sender.flush(20), false);
    // Refusals are each sender's own.
    while (sender.sendData(new Uint8Array(100_000)) === RcmStatus.OK);
    assert.equal(await sender.ready(0), false);
    assert.equal(await other.ready(0), true);
    await other[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
    assert.equal(other.sendData(""), RcmStatus.STOPPED);
    assert.equal(await other.ready(), false);
    const again = openSender(tx.senderToken(6));
    const waiting = [sender.ready(), sender.flush(), again.flush()];
    await context.stop();
    assert.deepEqual(await Promise.all(waiting), [false, false, false]);
    assert.equal(sender.allocator.malloc(1), null);
    // STOPPED comes before what else is wrong.
    assert.equal(again.send(again.allocator, 4), RcmStatus.STOPPED);
    assert.equal(again.sendData("", -1), RcmStatus.STOPPED);
    assert.equal(sender.sendData(""), RcmStatus.STOPPED);
    throwsCode(() => openSender(token), "STATE");
    throwsCode(() => tx.senderToken(5), "STATE");
    await sender[Symbol.asyncDispose]();
  }));

test("tokens that are none are refused", () =>
  withBus({}, async (_bus, factory) => {
    const context = factory.newRcmContext("tx1");
    const tx = context.createTransmitter("t");
    await context.start();
    const good = tx.senderToken(1);
    const [layout, nonce] = good.abi.split("-") as [string, string];
    const wrong: Record<string, unknown>[] = [
      { kind: "rcm-lane" },
      { kind: undefined },
      { abi: undefined },
      { abi: "" },
      { abi: `0${layout.slice(1)}x-${nonce}` },
      { abi: `${layout}-1` },
      { abi: layout },
      { handle: -1 },
      { handle: 2 ** 30 },
      { handle: 1.5 },
      { handle: "1" },
      { threadNo: 64 },
      { threadNo: undefined },
    ];
    for (const change of wrong) {
      throwsCode(() => openSender({ ...good, ...change } as RcmSenderToken), "ARGUMENT");
    }
    for (const none of [null, undefined, 1, "rcm-sender", {}]) {
      throwsCode(() => openSender(none as unknown as RcmSenderToken), "ARGUMENT");
    }
    const elsewhere = throwsCode(() => openSender({ ...good, abi: `${layout}-z` }), "ARGUMENT");
    assert.match(elsewhere.message, /another process/);
    // A handle of nothing, or of a transmitter that was not shared.
    for (const handle of [good.handle + 1, good.handle + 256, 2 ** 30 - 1]) {
      throwsCode(() => openSender({ ...good, handle }), "STATE");
    }
    // The same token in a process of its own.
    const ran = spawnSync(
      process.execPath,
      [...(isBun ? [] : ["run", "-A", "--quiet"]), stranger],
      {
        input: JSON.stringify(good),
        encoding: "utf8",
        timeout: 60_000,
      },
    );
    assert.match(ran.stdout, /^ARGUMENT openSender: a token of another process/, ran.stderr);
    assert.equal(ran.status, 0);
    await context.stop();
    throwsCode(() => openSender(good), "STATE");
  }));
