/**
 * What the log costs: at most 150 bytes all told for a message of 100 bytes that waits to be
 * delivered, recorded or not, so that 100 million fit into 14 GiB.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { RcmStatus } from "../mod.ts";
import { withBus } from "./api_bus.ts";

const MESSAGES = 1_000_000;
const MESSAGE_BYTES = 100;
const ATMOST_BYTES = 150;
const FLUSH_MS = 60_000;

/** Memory of this process that is not shared between processes by name: its own and its files'. */
function residentBytes(): number {
  const status = readFileSync("/proc/self/status", "utf8");
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)![1]);
  return (kib("RssAnon") + kib("RssFile")) * 1024;
}

for (const IsRecord of [0, 1]) {
  test(`a message of 100 bytes takes at most 150 in the log (IsRecord ${IsRecord})`, () => {
    const rx1 = { IsRecord, ReceiveMemoryMBytes: 512, RxTopics: [{ Name: "t" }] };
    const options = { addr: "127.0.0.1", contexts: { rx1 } };
    return withBus(options, async (_bus, factory) => {
      const rx = factory.newRcmContext("rx1");
      // Nobody polls: all of it waits in the log.
      rx.createReceiver({ onMessage: () => 0 }, undefined, { delivery: "poll" });
      await rx.start();
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      await sender.start();
      assert.equal(await tx.connected(1, 10_000), true);
      const message = new Uint8Array(MESSAGE_BYTES).fill(7);
      const send = async (count: number) => {
        for (let i = 0; i < count; i += 1) {
          while (tx.sendData(message) === RcmStatus.WOULD_BLOCK) await tx.ready();
        }
        assert.equal(await tx.flush(FLUSH_MS), true, "everything is in the log");
      };
      // What is there once, whatever comes: compiled code, the first blocks, the sender's window.
      await send(MESSAGES / 10);
      const before = residentBytes();
      await send(MESSAGES);
      const each = (residentBytes() - before) / MESSAGES;
      console.log(`IsRecord ${IsRecord}: ${each.toFixed(1)} bytes a message`);
      assert.ok(each >= MESSAGE_BYTES, `${each} bytes a message: they are not all in the log`);
      assert.ok(each <= ATMOST_BYTES, `${each} bytes a message of ${MESSAGE_BYTES}`);
    });
  });
}
