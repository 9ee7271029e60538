/** Delivery, sending and life cycle of the TypeScript side, over a native side in JavaScript. */

import assert from "node:assert/strict";
import process from "node:process";
import test from "node:test";
import type { RcmMessage, RcmMsgInfo, RcmReceiverCallback } from "../mod.ts";
import { RcmError, RcmReliability, RcmRole, RcmStatus } from "../mod.ts";
import { type Fake, type FakeContext, fakeContext, fakePlan } from "./api_fake.ts";

/** Fails after so long; nothing here waits for a time. */
const LIMIT_MS = 20_000;

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

const decoder = new TextDecoder();

/** A started context whose receiver keeps the texts it accepts. */
async function receiving(
  onMessage: (text: string, sqn: number, info: RcmMsgInfo) => unknown = () => {},
): Promise<FakeContext & { texts: string[] }> {
  const made = fakeContext();
  const texts: string[] = [];
  const cb = {
    onMessage(data: Uint8Array, sqn: number, _txArg: number, info: RcmMsgInfo) {
      const text = decoder.decode(data);
      const outcome = onMessage(text, sqn, info);
      if (outcome === undefined || outcome === 0) texts.push(text);
      return outcome;
    },
  } as RcmReceiverCallback;
  made.context.createReceiver(cb);
  await made.context.start();
  return { ...made, texts };
}

function keys(fake: Fake): number[] {
  return fake.lines.map((line) => line.key);
}

function code(error: unknown): string {
  assert.ok(error instanceof RcmError, String(error));
  return error.code;
}

function throwsCode(run: () => unknown, expected: string): void {
  try {
    run();
  } catch (error) {
    assert.equal(code(error), expected);
    return;
  }
  assert.fail(`nothing thrown, ${expected} expected`);
}

async function rejectsCode(promise: Promise<unknown>, expected: string): Promise<void> {
  const error = await promise.then(() => null, (reason: unknown) => reason);
  assert.notEqual(error, null, `resolved, ${expected} expected`);
  assert.equal(code(error), expected);
}

test("callback mode hands over every message in order, with its info", async () => {
  const seen: unknown[][] = [];
  const { fake, context } = fakeContext();
  context.createReceiver({
    onMessage(data, sqn, txArg, info) {
      seen.push([
        decoder.decode(data),
        sqn,
        txArg,
        info.getTopicName(),
        info.getPartitionNo(),
        info.getUserArg(),
        info.getTxContextName(),
        info.getTxMsgNo(),
        info.getMsgTimeMilli(),
        info.getThreadNo(),
        info.getMsgArg(),
      ]);
    },
  }, "mine");
  await context.start();
  fake.arrive("one", { msgArg: 7, txArg: 65535 });
  fake.arrive("");
  await until(() => seen.length === 2, "two messages");
  const time = 5000 + 2 ** 32;
  assert.deepEqual(seen, [
    ["one", 0, 65535, "in", 1, "mine", "peer", 100, time, 0, 7],
    ["", 1, 0, "in", 1, "mine", "peer", 101, time, 0, 0],
  ]);
  for (let i = 0; i < 3000; i += 1) fake.arrive("x");
  await until(() => seen.length === 3002, "all messages");
  assert.deepEqual(seen.map((entry) => entry[1]), [...seen.keys()]);
  await until(() => fake.processed === 3002, "all told to be processed");
  await context.stop();
});

test("rule 20: a refused message comes again and is never skipped", async () => {
  let refusals = 3;
  const { fake, context, texts } = await receiving((text) => {
    if (text !== "b" || refusals === 0) return undefined;
    refusals -= 1;
    if (refusals === 1) throw new Error("not yet");
    return 1;
  });
  for (const text of ["a", "b", "c"]) fake.arrive(text);
  await until(() => texts.length === 3, "all accepted");
  assert.deepEqual(texts, ["a", "b", "c"]);
  assert.equal(context.refusals(), 3);
  const warnings = fake.lines.filter((line) => line.key === 23002);
  assert.equal(warnings.length, 1, "one line for one trouble");
  assert.match(warnings[0]!.content, /return 0 or nothing to accept a message/);
  assert.match(warnings[0]!.content, /returned 1/);
  await context.stop();
});

test("rule 20: a lasting refusal is an error each second", async () => {
  let refuse = true;
  const { fake, context, texts } = await receiving(() => refuse ? -1 : 0);
  fake.arrive("a");
  await until(() => keys(fake).includes(23003), "an error line");
  assert.deepEqual(texts, []);
  refuse = false;
  await until(() => texts.length === 1, "accepted at last");
  await context.stop();
});

test("rule 21: a promise holds delivery, a rejection refuses", async () => {
  const settle: { resolve: (value?: unknown) => void; reject: (error: Error) => void }[] = [];
  const seen: string[] = [];
  const { fake, context } = await receiving((text) => {
    seen.push(text);
    return new Promise((resolve, reject) => settle.push({ resolve, reject }));
  });
  fake.arrive("a");
  fake.arrive("b");
  await until(() => seen.length === 1, "the first");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(seen, ["a"]);
  settle[0]!.reject(new Error("no"));
  await until(() => seen.length === 2, "the first again");
  settle[1]!.resolve(0);
  await until(() => seen.length === 3, "the second");
  assert.deepEqual(seen, ["a", "a", "b"]);
  settle[2]!.resolve();
  await until(() => fake.processed === 2, "both processed");
  await context.stop();
});

test("rule 8: stop inside a handler that awaits it", async () => {
  let stopped = false;
  const made: FakeContext & { texts: string[] } = await receiving(async () => {
    await made.context.stop();
    stopped = true;
    return 0;
  });
  made.fake.arrive("a");
  made.fake.arrive("b");
  await until(() => stopped, "stop resolved inside the handler");
  assert.equal(made.fake.open, false);
  await made.context.stop();
  assert.deepEqual(made.stopped, ["node"]);
});

test("rule 8: no handler runs after a stop inside one", async () => {
  let calls = 0;
  const made: FakeContext & { texts: string[] } = await receiving(() => {
    calls += 1;
    void made.context.stop();
  });
  made.fake.arrive("a");
  made.fake.arrive("b");
  await until(() => made.stopped.length === 1, "stopped");
  assert.equal(calls, 1);
});

test("rule 23: poll answers 0 and set-up throws STATE inside a callback", async () => {
  const { fake, context } = fakeContext();
  const answers: unknown[] = [];
  context.createReceiver(
    {
      onMessage() {
        answers.push(context.poll());
        throwsCode(() => context.createTransmitter("out"), "STATE");
        answers.push("thrown");
      },
    },
    null,
    { delivery: "poll" },
  );
  await context.start();
  fake.arrive("a");
  fake.arrive("b");
  assert.equal(context.poll(), 2);
  assert.deepEqual(answers, [0, "thrown", 0, "thrown"]);
  await context.stop();
});

test("rule 24: poll delivers at most its limit, and only while started", async () => {
  const { fake, context } = fakeContext();
  let count = 0;
  context.createReceiver({ onMessage: () => void (count += 1) }, null, { delivery: "poll" });
  assert.equal(context.poll(), 0);
  await context.start();
  for (let i = 0; i < 2000; i += 1) fake.arrive("x");
  assert.equal(context.poll(3), 3);
  assert.equal(count, 3);
  assert.equal(context.poll(0), 1024, "below 1: the default");
  assert.equal(context.poll(), 973);
  assert.equal(context.poll(), 0);
  await context.stop();
  assert.equal(context.poll(), 0);
});

test("rule 24: poll mode holds for a promise and redelivers after a pause", async () => {
  const { fake, context } = fakeContext();
  const outcomes: (number | Promise<number>)[] = [Promise.resolve(5), 0];
  context.createReceiver({ onMessage: () => outcomes.shift() ?? 0 }, null, { delivery: "poll" });
  await context.start();
  fake.arrive("x");
  assert.equal(context.poll(), 1, "handed over");
  assert.equal(context.poll(), 0, "held");
  await until(() => context.poll() === 1, "delivered again");
  assert.equal(outcomes.length, 0);
  await context.stop();
});

test("rule 24: inline needs poll, and poll works for a context that only sends", async () => {
  const plan = fakePlan({ threading: "inline" });
  const first = fakeContext(plan);
  throwsCode(() => first.context.createReceiver({ onMessage() {} }), "ARGUMENT");
  throwsCode(
    () => first.context.createReceiver(null, null, { delivery: "iterate" }),
    "ARGUMENT",
  );
  first.context.createTransmitter("out");
  await first.context.start();
  assert.equal(first.context.poll(), 0);
  assert.equal(first.fake.works, 1);
  await first.context.stop();
});

test("what poll handed over is told at once, inline with the next look", async () => {
  for (const threading of ["shared", "inline"] as const) {
    const { fake, context } = fakeContext(fakePlan({ threading }));
    let count = 0;
    context.createReceiver({ onMessage: () => void (count += 1) }, null, { delivery: "poll" });
    await context.start();
    for (let i = 0; i < 300; i += 1) fake.arrive("x");
    assert.equal(context.poll(), 300, "more than one batch");
    // Nobody but the caller of an inline context's poll could act on it.
    assert.equal(fake.processed, threading === "shared" ? 300 : 256);
    fake.arrive("y");
    assert.equal(context.poll(), 1);
    if (threading === "inline") assert.equal(fake.processed, 300);
    assert.equal(context.poll(), 0);
    assert.equal(fake.processed, 301);
    fake.arrive("z");
    assert.equal(context.poll(), 1);
    await context.stop();
    assert.equal(fake.processed, 302, "stop tells the rest");
    assert.equal(count, 302);
  }
});

test("rule 25: timers run between turns of a busy context", async () => {
  let count = 0;
  let atTimer = -1;
  const { fake, context } = await receiving(() => {
    count += 1;
    const end = performance.now() + 0.3;
    while (performance.now() < end);
  });
  for (let i = 0; i < 500; i += 1) fake.arrive("x");
  await until(() => count > 0, "the first message");
  setTimeout(() => atTimer = count, 0);
  await until(() => count === 500, "all messages");
  assert.ok(atTimer > 0 && atTimer < 500, `the timer ran after ${atTimer} messages`);
  await context.stop();
});

test("rule 26: an iterator gives copies, and asking marks the last one processed", async () => {
  const { fake, context } = fakeContext();
  const receiver = context.createReceiver(null, "user", { delivery: "iterate" });
  await context.start();
  const messages = receiver.messages();
  throwsCode(() => receiver.messages(), "STATE");
  const first = messages.next();
  fake.arrive("a", { msgArg: 3, txArg: 4 });
  fake.arrive("b");
  const a = (await first).value as RcmMessage;
  assert.deepEqual({ ...a, data: decoder.decode(a.data) }, {
    data: "a",
    msgSqn: 0,
    txArg: 4,
    topicName: "in",
    partitionNo: 1,
    txContextName: "peer",
    txMsgNo: 100,
    msgTimeMilli: 5000 + 2 ** 32,
    threadNo: 0,
    msgArg: 3,
  });
  assert.equal(fake.processed, 0);
  assert.equal(decoder.decode(((await messages.next()).value as RcmMessage).data), "b");
  assert.deepEqual(await messages.return!(), { done: true, value: undefined });
  assert.equal(fake.processed, 2);
  assert.equal((await messages.next()).done, true);

  fake.arrive("c");
  for await (const message of receiver) {
    assert.equal(decoder.decode(message.data), "c");
    break;
  }
  assert.equal(fake.processed, 3);
  await context.stop();
});

test("rule 26: iterators end with stop, and belong to their mode", async () => {
  const { fake, context } = fakeContext();
  const receiver = context.createReceiver(null, null, { delivery: "iterate" });
  const early = receiver.messages();
  const waiting = early.next();
  await context.start();
  fake.arrive("a");
  assert.equal(decoder.decode(((await waiting).value as RcmMessage).data), "a");
  const next = early.next();
  await context.stop();
  assert.equal((await next).done, true);
  for await (const _ of receiver) assert.fail("nothing comes after stop");

  const other = fakeContext();
  const callback = other.context.createReceiver({ onMessage() {} });
  throwsCode(() => callback[Symbol.asyncIterator](), "STATE");
  throwsCode(() => callback.messages(), "STATE");
  await other.context.stop();
});

test("rule 17: an iterator's signal rejects the wait and ends it", async () => {
  const { context } = fakeContext();
  const receiver = context.createReceiver(null, null, { delivery: "iterate" });
  await context.start();
  const abort = new AbortController();
  const messages = receiver.messages({ signal: abort.signal });
  const next = messages.next();
  abort.abort(new Error("enough"));
  await assert.rejects(next, /enough/);
  assert.equal((await messages.next()).done, true);
  const aborted = receiver.messages({ signal: abort.signal });
  await assert.rejects(aborted.next(), /enough/);
  receiver.messages();
  await context.stop();
});

test("rule 27: sendAck covers what was delivered", async () => {
  const { fake, context } = fakeContext();
  const receiver = context.createReceiver({ onMessage() {} }, null, { delivery: "poll" });
  assert.equal(receiver.sendAck(0), RcmStatus.NOT_STARTED);
  await context.start();
  fake.arrive("a");
  assert.equal(receiver.sendAck(0), RcmStatus.BAD_ARGUMENT);
  context.poll();
  assert.equal(receiver.sendAck(0), RcmStatus.OK);
  assert.equal(receiver.sendAck(1), RcmStatus.BAD_ARGUMENT);
  assert.equal(receiver.sendAck(-1), RcmStatus.BAD_ARGUMENT);
  await context.stop();
  assert.equal(receiver.sendAck(0), RcmStatus.STOPPED);
});

test("RCM_COPY=1 hands out copies", async () => {
  process.env["RCM_COPY"] = "1";
  try {
    const kept: Uint8Array<ArrayBuffer>[] = [];
    const { fake, context } = fakeContext();
    context.createReceiver({ onMessage: (data) => void kept.push(data) });
    await context.start();
    fake.arrive("a");
    await until(() => kept.length === 1, "a message");
    assert.equal(kept[0]!.byteLength, kept[0]!.buffer.byteLength);
    await context.stop();
  } finally {
    delete process.env["RCM_COPY"];
  }
});

test("rules 3, 4: what createTransmitter and createReceiver refuse", async () => {
  const { context } = fakeContext();
  throwsCode(() => context.createTransmitter("nowhere"), "ARGUMENT");
  throwsCode(() => context.createTransmitter("out", [3]), "ARGUMENT");
  throwsCode(() => context.createTransmitter("out", [1, 0]), "ARGUMENT");
  throwsCode(() => context.createTransmitter("out", []), "ARGUMENT");
  throwsCode(() => context.createTransmitter("out", null, 65536), "ARGUMENT");
  throwsCode(() => context.createTransmitter("out", null, -1), "ARGUMENT");
  context.createTransmitter("out", [2]);
  throwsCode(() => context.createTransmitter("out"), "STATE");
  throwsCode(() => context.createReceiver(null), "ARGUMENT");
  const odd = { ack: "never" } as unknown as { ack: "manual" };
  throwsCode(() => context.createReceiver({ onMessage() {} }, 0, odd), "ARGUMENT");
  const unknown = { delivery: "push" } as unknown as { delivery: "poll" };
  throwsCode(() => context.createReceiver({ onMessage() {} }, 0, unknown), "ARGUMENT");
  context.createReceiver({ onMessage() {} });
  throwsCode(() => context.createReceiver({ onMessage() {} }), "STATE");
  throwsCode(() => context.setInitParam("replay_start_point", "1x"), "ARGUMENT");
  throwsCode(() => context.setInitParam("replay_point" as "replay_start_point", "1"), "ARGUMENT");
  context.setInitParam("replay_start_point", "1");
  throwsCode(() => context.laneToken(0), "ARGUMENT");
  throwsCode(() => context.createTierSync(0, { onSyn() {} }), "ARGUMENT");
  await context.start();
  throwsCode(() => context.createTransmitter("out"), "STATE");
  throwsCode(() => context.createReceiver({ onMessage() {} }), "STATE");
  throwsCode(() => context.setInitParam("replay_start_point", "1"), "STATE");
  await context.stop();
  throwsCode(() => context.createTransmitter("out"), "STATE");

  const sender = fakeContext({ ...fakePlan(), rx: [] });
  throwsCode(() => sender.context.createReceiver({ onMessage() {} }), "ARGUMENT");
});

test("rule 5: starting twice, a failed start, a start that times out", async () => {
  const { fake, context } = fakeContext();
  const roles: RcmRole[] = [];
  context.createReceiver({ onMessage() {}, onRoleChanged: (role) => void roles.push(role) });
  fake.startResult = -5;
  await rejectsCode(context.start(), "SOCKET");
  assert.equal(fake.wakers, 0, "everything is released");

  fake.startResult = 7;
  fake.state = 1;
  await rejectsCode(context.start({ timeoutMs: 5 }), "TIMEOUT");
  assert.deepEqual([fake.open, fake.wakers, context.getRole()], [false, 0, RcmRole.INIT]);
  const abort = new AbortController();
  const aborted = context.start({ signal: abort.signal });
  await rejectsCode(context.start(), "STATE");
  await until(() => fake.open, "the native start");
  abort.abort(new Error("no patience"));
  await assert.rejects(aborted, /no patience/);

  const started = context.start();
  await until(() => fake.open, "the native start");
  fake.state = 0;
  fake.wake();
  await started;
  assert.deepEqual(roles, [RcmRole.SINGLE]);
  assert.equal(context.getRole(), RcmRole.SINGLE);
  assert.equal(context.getReliability(), RcmReliability.ORDERED);
  assert.equal(context.getTierName(), "node");
  await rejectsCode(context.start(), "STATE");
  await context.stop();
  await rejectsCode(context.start(), "STATE");
  assert.equal(fake.wakers, 0);
});

test("rule 8: stop while starting, and before", async () => {
  const { fake, context, stopped } = fakeContext();
  fake.state = 1;
  const started = context.start();
  await until(() => fake.open, "the native start");
  const stop = context.stop();
  await rejectsCode(started, "STATE");
  await stop;
  assert.deepEqual([fake.open, fake.wakers, stopped], [false, 0, ["node"]]);

  const other = fakeContext();
  await other.context.stop();
  await rejectsCode(other.context.start(), "STATE");
});

test("rule 11: what is answered first", async () => {
  const { fake, context } = fakeContext();
  const tx = context.createTransmitter("out", null, 9);
  const a = tx.getAllocator(0);
  assert.equal(tx.getAllocator(0), a);
  throwsCode(() => tx.getAllocator(64), "ARGUMENT");
  assert.equal(tx.sendData("x", 99, -1), RcmStatus.NOT_STARTED);
  assert.equal(a.malloc(1), null);
  await context.start();
  assert.equal(tx.send(a, 0), RcmStatus.BAD_ARGUMENT, "no malloc");
  assert.equal(tx.sendData("x", 70000, 65536), RcmStatus.BAD_ARGUMENT);
  assert.equal(tx.sendData("x", 1, 0.5), RcmStatus.BAD_ARGUMENT);
  assert.equal(tx.sendData("x", 70000), RcmStatus.BAD_PARTITION);
  assert.equal(tx.sendData("x", -1), RcmStatus.BAD_PARTITION);
  assert.equal(tx.sendData(null as unknown as string), RcmStatus.BAD_ARGUMENT);
  assert.equal(a.malloc(2 ** 30 + 1), null);
  assert.equal(a.malloc(-1), null);
  assert.equal(a.realloc(5), null, "nothing to realloc");

  assert.equal(tx.sendData("grüße", 2, 65535), RcmStatus.OK);
  assert.equal(tx.sendData(new Uint8Array(0)), RcmStatus.OK);
  const view = a.malloc(3)!;
  view.set([65, 66, 67]);
  assert.equal(tx.send(a, 4), RcmStatus.BAD_ARGUMENT, "more than was reserved");
  fake.sendStatus = RcmStatus.WOULD_BLOCK;
  assert.equal(tx.send(a, 2), RcmStatus.WOULD_BLOCK);
  fake.sendStatus = 0;
  assert.equal(tx.send(a, 2, 1, 8), RcmStatus.OK, "a failed send keeps the reservation");
  assert.equal(tx.send(a, 2), RcmStatus.BAD_ARGUMENT, "a good one does not");
  const tx2 = (7 * 256) + 0;
  assert.deepEqual(fake.sent, [
    { data: "grüße", partitionNo: 2, arg: 65535, tx: tx2 },
    { data: "", partitionNo: 1, arg: 0, tx: tx2 },
    { data: "AB", partitionNo: 1, arg: 8, tx: 0 },
  ]);
  await context.stop();
  assert.equal(tx.sendData("x"), RcmStatus.STOPPED);
  assert.equal(tx.send(a, 0), RcmStatus.STOPPED);
  assert.equal(a.malloc(1), null);
});

test("rule 17: waits look, wait, time out, abort and end with stop", async () => {
  const { fake, context } = fakeContext();
  const tx = context.createTransmitter("out");
  assert.equal(await tx.ready(0), false);
  await context.start();
  assert.equal(await tx.connected(1, 0), false);
  assert.equal(await tx.connected(0, 0), true);
  assert.equal(await tx.flush(5), false);
  const ready = tx.ready();
  await until(() => fake.interest === 1, "native interest");
  fake.ready = true;
  fake.wake();
  assert.equal(await ready, true);
  assert.equal(fake.interest, 0);

  const abort = new AbortController();
  const flushed = tx.flush({ signal: abort.signal });
  abort.abort(new Error("enough"));
  await assert.rejects(flushed, /enough/);
  await assert.rejects(tx.flush({ signal: abort.signal }), /enough/);
  await rejectsCode(tx.flush(NaN), "ARGUMENT");
  await rejectsCode(tx.connected(-1), "ARGUMENT");

  const waiting = [tx.flush(), tx.connected(3, { timeoutMs: 1e12 })];
  await context.stop();
  assert.deepEqual(await Promise.all(waiting), [false, false]);
  assert.equal(await tx.ready(), false);
});

test("rule 17: in inline, waits drive the context themselves", async () => {
  const plan = fakePlan({ threading: "inline" });
  const { fake, context } = fakeContext(plan);
  const tx = context.createTransmitter("out");
  let count = 0;
  context.createReceiver({ onMessage: () => void (count += 1) }, null, { delivery: "poll" });
  await context.start();
  fake.arrive("x");
  const flushed = tx.flush();
  await until(() => count === 1, "a delivery by the wait");
  fake.flushed = true;
  assert.equal(await flushed, true);
  await context.stop();
});

test("rule 31: notices become log lines, inside poll too; poll in them is 0", async () => {
  const { fake, context } = fakeContext();
  context.createReceiver({ onMessage() {} }, null, { delivery: "poll" });
  await context.start();
  fake.notice(2, 21060, 1, [26904, 0, 0]);
  await until(() => keys(fake).includes(21060), "the line");
  const line = fake.lines.find((candidate) => candidate.key === 21060)!;
  assert.match(line.content, /in\.1/);
  await context.stop();
  assert.deepEqual(keys(fake).filter((key) => key > 23000), [23006, 23007]);
});

test("the JSON of a start holds everything chosen", async () => {
  process.env["RCM_INJECT"] = "drop=0.02,seed=1,duplicate=0.01";
  try {
    const { fake, context } = fakeContext();
    context.createTransmitter("out", [2], 5);
    await context.start();
    const [json] = fake.starts;
    assert.ok(json);
    assert.deepEqual(
      [json["injectDropPpm"], json["injectDuplicatePpm"], json["injectSeed"], json["deliver"]],
      [20000, 10000, 1, "none"],
    );
    assert.deepEqual(json["rx"], []);
    const [tx] = json["tx"] as { topic: string; txArg: number; partitions: unknown[] }[];
    assert.equal(tx!.txArg, 5);
    assert.equal(tx!.partitions.length, 1);
    await context.stop();
    process.env["RCM_INJECT"] = "drop=2";
    const other = fakeContext();
    await rejectsCode(other.context.start(), "ARGUMENT");
  } finally {
    delete process.env["RCM_INJECT"];
  }
});
