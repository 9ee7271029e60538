/** Contexts in Workers: the library is opened again in each realm, and wakes its own event loop. */

import assert from "node:assert/strict";
import test from "node:test";
import { RcmStatus } from "../mod.ts";
import { until, withBus } from "./api_bus.ts";

test("a receiver in a Worker gets what the main thread sends", () =>
  withBus({}, async (bus, factory) => {
    const messages = 2000;
    const worker = new Worker(new URL("./api_worker.ts", import.meta.url), { type: "module" });
    const answers: unknown[] = [];
    worker.onmessage = ({ data }) => void answers.push(data);
    worker.onerror = (error) => void answers.push(`failed: ${error.message}`);
    try {
      worker.postMessage({
        config: bus.config,
        workDir: bus.workDir,
        prefix: bus.prefix,
        messages,
      });
      await until(() => answers.length > 0, "the Worker's start");
      assert.equal(answers[0], "started");
      const sender = factory.newRcmContext("tx1");
      const tx = sender.createTransmitter("t");
      await sender.start();
      assert.equal(await tx.connected(1, 10_000), true);
      for (let i = 0; i < messages; i += 1) assert.equal(tx.sendData(`${i}`), RcmStatus.OK);
      await until(() => answers.length > 1, "the Worker's count");
      assert.equal(answers[1], messages);
    } finally {
      worker.terminate();
    }
  }));
