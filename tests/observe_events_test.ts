import { test } from "node:test";
import assert from "node:assert/strict";
import { RcmEventType } from "../src/enums.ts";
import { RcmError } from "../src/errors.ts";
import { createEvent, createEventHub, type RcmEvent } from "../src/observe/events.ts";

/** A log that keeps what it is given. */
function recorder() {
  const lines: { key: number; values: Record<string, unknown>; context: string }[] = [];
  return {
    lines,
    log(key: number, values: object, context = "") {
      lines.push({ key, values: { ...values }, context });
    },
  };
}

test('an event answers its getters, with "" and 0 where nothing applies', () => {
  const full = createEvent({
    type: RcmEventType.MESSAGE_LOSS,
    context: "server1",
    peer: "client1",
    topic: "req",
    partitionNo: 2,
    lossStart: 7,
    lossEnd: 9,
  });
  assert.equal(full.getEventType(), 1);
  assert.equal(full.getRcmContext(), "server1");
  assert.equal(full.getPeerName(), "client1");
  assert.equal(full.getTopicName(), "req");
  assert.equal(full.getPartitionNo(), 2);
  assert.equal(full.getLossMsgNoStart(), 7);
  assert.equal(full.getLossMsgNoEnd(), 9);

  const bare = createEvent({ type: RcmEventType.OUT_OF_SYNC, context: "c" });
  assert.equal(bare.getPeerName(), "");
  assert.equal(bare.getTopicName(), "");
  assert.equal(bare.getPartitionNo(), 0);
  assert.equal(bare.getLossMsgNoStart(), 0);
  assert.equal(bare.getLossMsgNoEnd(), 0);
});

test("an event may be kept and never changes", () => {
  const hub = createEventHub(recorder());
  const kept: RcmEvent[] = [];
  hub.setEventCallback({ onEvent: (_user, event) => kept.push(event) });
  hub.emit({ type: RcmEventType.NEW_RECEIVER, context: "a", peer: "p" });
  hub.emit({ type: RcmEventType.NO_RECEIVER, context: "b", peer: "q" });
  assert.deepEqual(kept.map((e) => [e.getEventType(), e.getRcmContext(), e.getPeerName()]), [
    [RcmEventType.NEW_RECEIVER, "a", "p"],
    [RcmEventType.NO_RECEIVER, "b", "q"],
  ]);
  assert.throws(() => {
    "use strict";
    (kept[0] as unknown as Record<string, unknown>)["getPeerName"] = () => "other";
  }, TypeError);
});

test("a hub forgets what comes before a callback, and tells the one that was set last", () => {
  const hub = createEventHub(recorder());
  const seen: string[] = [];
  hub.emit({ type: RcmEventType.NEW_RECEIVER, context: "early" });
  hub.setEventCallback({ onEvent: (user, e) => void seen.push(`${user}:${e.getRcmContext()}`) }, 1);
  hub.emit({ type: RcmEventType.NEW_RECEIVER, context: "x" });
  hub.setEventCallback({ onEvent: (user, e) => void seen.push(`${user}:${e.getRcmContext()}`) });
  hub.emit({ type: RcmEventType.NEW_RECEIVER, context: "y" });
  hub.setEventCallback(null, "ignored");
  hub.emit({ type: RcmEventType.NEW_RECEIVER, context: "z" });
  assert.deepEqual(seen, ["1:x", "undefined:y"]);
});

test("a callback's this is the callback object", () => {
  const hub = createEventHub(recorder());
  const callback = {
    seen: 0,
    onEvent() {
      this.seen += 1;
    },
  };
  hub.setEventCallback(callback);
  hub.emit({ type: RcmEventType.FILL_GAP, context: "c" });
  assert.equal(callback.seen, 1);
});

test("a callback that throws is logged, and stays", async () => {
  const log = recorder();
  const hub = createEventHub(log);
  let calls = 0;
  hub.setEventCallback({
    onEvent() {
      calls += 1;
      throw new Error("broken callback");
    },
  });
  hub.emit({ type: RcmEventType.FILL_GAP, context: "c1" });
  hub.emit({ type: RcmEventType.FILL_GAP, context: "c2" });
  assert.equal(calls, 2);
  assert.deepEqual(log.lines.map(({ key, context }) => [key, context]), [
    [23001, "c1"],
    [23001, "c2"],
  ]);
  assert.match(String(log.lines[0]?.values["error"]), /broken callback/);

  hub.setEventCallback({ onEvent: () => Promise.reject(new Error("broken promise")) as never });
  hub.emit({ type: RcmEventType.FILL_GAP, context: "c3" });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.match(String(log.lines[2]?.values["error"]), /broken promise/);
});

test("setEventCallback() refuses what is no callback", () => {
  const hub = createEventHub(recorder());
  assert.throws(
    () => hub.setEventCallback({} as never),
    (e: unknown) => e instanceof RcmError && e.code === "ARGUMENT",
  );
});
