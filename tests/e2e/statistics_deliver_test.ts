/**
 * The deliverer of guide 9.13.4 (`Tier.Deliver`) with a record, over restarts, and while it waits
 * for a stream; and the latencies (`LatencyStatisticCount`, guide 10.1).
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { becomes, flushed, pair, send, some } from "./fixtures/pair.ts";
import { type DeliverPart, oneRx, oneTx, readStatistics } from "./fixtures/statistics.ts";
import { e2e, runtimes } from "./harness/driver.ts";

const deliverOf = (part: DeliverPart) =>
  some(
    part,
    "FirstMsgSqn",
    "NextMsgSqn",
    "NextMsgSqnDeliver",
    "MsgsDelivered",
    "NextMsgSqnRecord",
    "MsgsRecorded",
    "CommittedSqn",
  );

for (const runtime of runtimes) {
  e2e(`${runtime}: the deliverer's numbers with a record, and after a restart`, async (bed) => {
    const record = { IsRecord: 1, RecordDir: join(bed.folder, "record") };
    const options = { runtimes: ["deno", runtime] as const, rx: record };
    const first = await pair(bed, options);
    await send(first.tx, 100, 100);
    await first.rx.received("rx", 100);
    await flushed(first.tx);
    const { Tier } = await readStatistics(first.rx, "rx");
    assert.deepEqual(deliverOf(Tier.Deliver), {
      FirstMsgSqn: 0,
      NextMsgSqn: 100,
      NextMsgSqnDeliver: 100,
      MsgsDelivered: 100,
      NextMsgSqnRecord: 100,
      MsgsRecorded: 100,
      CommittedSqn: 100,
    });
    await first.close();

    // The same record again, from place 40 on; then ten new ones.
    const again = await pair(bed, { ...options, rx: { ...record, RecordReplayStartPoint: 40 } });
    await again.rx.received("rx", 60);
    const replayed = await readStatistics(again.rx, "rx");
    assert.deepEqual(deliverOf(replayed.Tier.Deliver), {
      FirstMsgSqn: 0,
      NextMsgSqn: 100,
      NextMsgSqnDeliver: 100,
      MsgsDelivered: 60,
      NextMsgSqnRecord: 100,
      MsgsRecorded: 0,
      CommittedSqn: 100,
    });
    await send(again.tx, 100, 10);
    await again.rx.received("rx", 70);
    await flushed(again.tx);
    const last = await readStatistics(again.rx, "rx");
    assert.deepEqual(deliverOf(last.Tier.Deliver), {
      FirstMsgSqn: 0,
      NextMsgSqn: 110,
      NextMsgSqnDeliver: 110,
      MsgsDelivered: 70,
      NextMsgSqnRecord: 110,
      MsgsRecorded: 10,
      CommittedSqn: 110,
    });
    await again.close();
  });

  e2e(`${runtime}: latencies of the last messages, at both ends`, async (bed) => {
    const kept = { LatencyStatisticCount: 500 };
    const { tx, rx, close } = await pair(bed, {
      runtimes: [runtime, runtime],
      tx: kept,
      rx: kept,
    });
    const { Tier: before } = await readStatistics(rx, "rx");
    assert.equal(before.Deliver.DeliverLatency?.Samples, 0);
    await send(tx, 100, 2000);
    await rx.received("rx", 2000);
    await flushed(tx);
    const sent = await becomes(
      () => oneTx(tx),
      ({ AckLatency }) => AckLatency !== undefined && AckLatency.Total > 0,
      "acknowledgements are measured",
    );
    const { Tier } = await readStatistics(rx, "rx");
    for (const latency of [sent.AckLatency!, Tier.Deliver.DeliverLatency!]) {
      const { Samples, Total, MinNano, P50Nano, P90Nano, P99Nano, P999Nano, MaxNano } = latency;
      assert.ok(Total > 0 && Total <= 2000, `${Total}`);
      assert.equal(Samples, Math.min(500, Total));
      // 0: less than from one reading of the clock to the next.
      const sizes = [0, MinNano, P50Nano, P90Nano, P99Nano, P999Nano, MaxNano, 60e9];
      assert.deepEqual(sizes, sizes.toSorted((a, b) => a - b));
    }
    // Every message passes the log in order: none is left out.
    assert.equal(Tier.Deliver.DeliverLatency?.Total, 2000);
    await close();
  });

  e2e(`${runtime}: without LatencyStatisticCount nothing is measured`, async (bed) => {
    const { tx, rx, close } = await pair(bed, { runtimes: [runtime, runtime] });
    await send(tx, 100, 10);
    await rx.received("rx", 10);
    assert.equal((await oneTx(tx)).AckLatency, undefined);
    assert.equal((await readStatistics(rx, "rx")).Tier.Deliver.DeliverLatency, undefined);
    await close();
  });
}

e2e("the deliverer tells which stream it waits for", async (bed) => {
  const { tx, rx, close } = await pair(bed, { rxEnv: { RCM_INJECT: "drop=0.4,seed=9" } });
  let sent = 0;
  for (;;) {
    await send(tx, 1000, 50);
    sent += 50;
    tx.freeze();
    const { Tier, rx: { Rms } } = await readStatistics(rx, "rx");
    const [stream] = Rms;
    if (stream!.GapsOpen === 0) {
      // This time all of it came through, or nothing yet.
      assert.deepEqual(some(Tier.Deliver, "WaitContextId", "WaitTransportId"), {
        WaitContextId: 0,
        WaitTransportId: 0,
      });
      tx.thaw();
      continue;
    }
    assert.ok(stream!.MaxMsgNo >= stream!.NextMsgNo);
    assert.deepEqual(some(Tier.Deliver, "WaitContextId", "WaitTransportId"), {
      WaitContextId: 7,
      WaitTransportId: stream!.TransportId,
    });
    tx.thaw();
    break;
  }
  await rx.received("rx", sent);
  await becomes(() => oneRx(rx), ({ GapsOpen }) => GapsOpen === 0, "no gap is left");
  const { Tier } = await readStatistics(rx, "rx");
  assert.equal(Tier.Deliver.WaitContextId, 0);
  await close();
});
