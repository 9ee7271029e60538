/**
 * Waiting on a real bus: an AbortSignal wherever something waits (rule 17), and iterators that hold
 * the sender back (rule 26); one sender that can't hold back another (total order).
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { RcmStatus } from "../mod.ts";
import { collect, type Got, until, withBus } from "./api_bus.ts";

const encoder = new TextEncoder();
const enough = new Error("enough");

test("rule 17: ready, flush, connected and start end with the signal's reason", async () => {
  await withBus({ nodes: ["tx1", "rx1"] }, async (_bus, factory) => {
    const context = factory.newRcmContext("tx1");
    const tx = context.createTransmitter("t");
    await context.start();
    const waits = {
      connected: (signal: AbortSignal) => tx.connected(1, { signal }),
      flush: (signal: AbortSignal) => tx.flush({ signal }),
      ready: (signal: AbortSignal) => tx.ready({ signal }),
    };
    // Nobody listens: nothing is acknowledged, and in the end there is no room.
    const message = new Uint8Array(16 * 1024);
    while (tx.sendData(message) === RcmStatus.OK);
    assert.equal(tx.sendData(message), RcmStatus.WOULD_BLOCK);
    for (const [name, wait] of Object.entries(waits)) {
      const abort = new AbortController();
      const waiting = wait(abort.signal);
      abort.abort(enough);
      await assert.rejects(waiting, enough, name);
      await assert.rejects(wait(abort.signal), enough, `${name}, aborted before`);
    }
    const rx = factory.newRcmContext("rx1");
    const got: Got[] = [];
    rx.createReceiver(collect(got));
    await assert.rejects(rx.start({ signal: AbortSignal.abort(enough) }), enough);
    await rx.start();
    assert.equal(await tx.connected(1, 10_000), true);
    assert.equal(await tx.flush(10_000), true);
  });
});

test("rule 26: an iterator that does not ask holds the sender back, none is lost", async () => {
  const contexts = { rx1: { ReceiveMemoryMBytes: 8 }, tx1: { MaxMemoryAllowedMBytes: 4 } };
  await withBus({ contexts }, async (_bus, factory) => {
    const rx = factory.newRcmContext("rx1");
    const receiver = rx.createReceiver(null, null, { delivery: "iterate" });
    await rx.start();
    const context = factory.newRcmContext("tx1");
    const tx = context.createTransmitter("t");
    await context.start();
    assert.equal(await tx.connected(1, 10_000), true);
    const message = new Uint8Array(8 * 1024);
    const room = 12 * 1024 * 1024 / message.byteLength;
    let sent = 0;
    // Both memories are full in the end, and stay so: it is not room for a moment that is missing.
    for (let refused = 0; refused < 3;) {
      if (tx.sendData(message) === RcmStatus.OK) {
        sent += 1;
        refused = 0;
      } else if (!await tx.ready(300)) refused += 1;
      assert.ok(sent <= room, "what nobody takes is held by nobody");
    }
    let taken = 0;
    for await (const { msgSqn, data } of receiver) {
      assert.equal(msgSqn, taken);
      assert.equal(data.byteLength, message.byteLength);
      taken += 1;
      if (taken === sent) break;
    }
    assert.equal(await tx.flush(10_000), true);
    assert.equal(tx.sendData(message), RcmStatus.OK);
  });
});

/** Messages of one stream that are taken before the others have their turn (`ShmSource`). */
const BATCH = 256;

test("total order: a busy sender holds back another by a bounded batch", async () => {
  const ShmContext = ["tx1", "tx2"];
  const contexts = { rx1: { Threading: "inline", ShmContext } };
  const transport = { UseSharedMemory: 1 };
  const nodes = ["tx1", "tx2", "rx1"] as const;
  await withBus({ nodes: [...nodes], contexts, transport }, async (_bus, factory) => {
    const [busy, quiet] = await Promise.all((["tx1", "tx2"] as const).map(async (name) => {
      const context = factory.newRcmContext(name);
      const tx = context.createTransmitter("t");
      await context.start();
      return tx;
    }));
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got), null, { delivery: "poll" });
    await rx.start();
    const pumping = setInterval(() => void rx.poll(), 1);
    assert.equal(await busy!.connected(1, 10_000), true);
    assert.equal(await quiet!.connected(1, 10_000), true);
    clearInterval(pumping);
    const backlog = 4000;
    for (let round = 0; round < 5; round += 1) {
      got.length = 0;
      // Nobody looks before both have written.
      let sent = 0;
      while (sent < backlog && busy!.sendData(encoder.encode("busy")) === RcmStatus.OK) sent += 1;
      assert.ok(sent > 4 * BATCH, `a backlog of ${sent}`);
      assert.equal(quiet!.sendData(encoder.encode("quiet")), RcmStatus.OK);
      await until(() => {
        rx.poll();
        return got.length === sent + 1;
      }, "all were delivered");
      const place = got.findIndex(({ text }) => text === "quiet");
      assert.ok(place <= 2 * BATCH, `round ${round}: ${place} came before it`);
    }
  });
});
