/** Load balance over partitions (guide 7.2.5, 7.2.9; rule 15), and receivers by partition. */

import assert from "node:assert/strict";
import test from "node:test";
import { RcmStatus } from "../mod.ts";
import { collect, type Got, until, withBus } from "./api_bus.ts";

const PARTITIONS = [1, 2];
const MESSAGES = 10_000;

for (const IsTotalOrder of [1, 0]) {
  test(`two partitions balanced, a receiver each (IsTotalOrder ${IsTotalOrder})`, () => {
    const of = (no: number) => ({ IsTotalOrder, RxTopics: [{ Name: "t", Partitions: [no] }] });
    return withBus(
      { nodes: ["tx1", "rx1", "rx2"], partitions: 2, contexts: { rx1: of(1), rx2: of(2) } },
      async (_bus, factory) => {
        const got: Got[][] = [[], []];
        for (const [at, own] of got.entries()) {
          const rx = factory.newRcmContext(`rx${at + 1}`);
          rx.createReceiver(collect(own));
          await rx.start();
        }
        const sender = factory.newRcmContext("tx1");
        const tx = sender.createTransmitter("t");
        await sender.start();
        assert.equal(await tx.connected(1, 10_000), true);
        for (let i = 0; i < MESSAGES; i += 1) {
          while (tx.sendData(`${i}`, 0) === RcmStatus.WOULD_BLOCK) await tx.ready();
        }
        assert.equal(await tx.flush(20_000), true);
        await until(() => got[0]!.length + got[1]!.length === MESSAGES, "all messages");
        for (const [at, own] of got.entries()) {
          // Within 1 % of even.
          assert.ok(Math.abs(own.length - MESSAGES / 2) <= MESSAGES / 200, `${own.length}`);
          assert.ok(own.every(({ partitionNo }) => partitionNo === PARTITIONS[at]));
          assert.deepEqual(own.map(({ txMsgNo }) => txMsgNo), own.map((_, i) => i));
          const sqns = own.map(({ sqn }) => sqn);
          assert.deepEqual(sqns, own.map((_, i) => i));
        }
        const both = got.flat().map(({ text }) => Number(text)).sort((a, b) => a - b);
        assert.deepEqual(both, Array.from({ length: MESSAGES }, (_, i) => i));
      },
    );
  });
}
