/**
 * Many lives of contexts in one process leave nothing behind: no memory, descriptor, thread,
 * mapping or file; and the process ends by itself after the last one.
 */

import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Cycles, Sample } from "./fixtures/cycles.ts";
import { runProgram } from "./fixtures/program.ts";
import { NOWHERE } from "./fixtures/shared.ts";
import { type Bed, e2e, isLong, type Runtime, runtimes } from "./harness/driver.ts";

const cyclesFile = fileURLToPath(new URL("./fixtures/cycles.ts", import.meta.url));
const CYCLES = isLong ? 10_000 : 500;
const LIMIT_MS = isLong ? 3_600_000 : 300_000;
/**
 * Between the second quarter of the lives and the last: what a runtime's own heap and threads may
 * differ by. What every life left behind, or every fiftieth, would be more.
 */
const GROWTH_MAX: Sample = {
  residentBytes: 8 * 2 ** 20,
  descriptors: 5,
  threads: 5,
  mappings: 40,
  files: 0,
};

/** How a pair speaks. */
const ways = ["network", "shared memory"] as const;
type Way = (typeof ways)[number];

/** A pair of contexts for each way of threading, with a topic of its own. */
function plan(bed: Bed, way: Way): Cycles {
  const isShared = way === "shared memory";
  const pairs = ["shared", "dedicated"] as const;
  const config = bed.config({
    transports: pairs.map((Topic) => ({ Topic })),
    transport: isShared ? { UseSharedMemory: 1, ...NOWHERE } : {},
    all: {
      MaxMemoryAllowedMBytes: 4,
      ReceiveMemoryMBytes: 8,
      ...(isShared ? { Ip: undefined } : {}),
    },
    contexts: pairs.flatMap((Threading) => [
      { Name: `tx-${Threading}`, Threading, TxTopics: [{ Name: Threading }] },
      {
        Name: `rx-${Threading}`,
        Threading,
        RxTopics: [{ Name: Threading }],
        ...(isShared ? { ShmContext: `tx-${Threading}` } : {}),
      },
    ]),
  });
  return { config, prefix: bed.prefix, workDir: bed.folder, cycles: CYCLES };
}

async function live(bed: Bed, runtime: Runtime, way: Way): Promise<Sample[]> {
  const temporary = join(bed.folder, "temporary");
  mkdirSync(temporary);
  const { code, isLate, stdout, stderr } = await runProgram(runtime, cyclesFile, {
    args: [JSON.stringify(plan(bed, way))],
    env: { TMPDIR: temporary },
    runtimeArgs: runtime === "deno" ? ["--v8-flags=--expose-gc"] : [],
    limitMs: LIMIT_MS,
  });
  assert.equal(isLate, false, `it does not end: ${stdout.slice(-500)} ${stderr}`);
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "");
  assert.deepEqual(readdirSync(temporary), [], "temporary files");
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as Sample[];
}

function median(samples: readonly Sample[], field: keyof Sample): number {
  return samples.map((sample) => sample[field]).sort((a, b) => a - b)[samples.length >> 1]!;
}

for (const runtime of runtimes) {
  for (const way of ways) {
    e2e(
      `${runtime}: ${CYCLES} lives of a sender and a receiver leave nothing behind, by ${way}`,
      async (bed) => {
        const samples = await live(bed, runtime, way);
        assert.equal(samples.length, CYCLES);
        const quarter = CYCLES / 4;
        const early = samples.slice(quarter, 2 * quarter);
        const late = samples.slice(-quarter);
        for (const [name, most] of Object.entries(GROWTH_MAX)) {
          const field = name as keyof Sample;
          const [before, after] = [median(early, field), median(late, field)];
          assert.ok(after - before <= most, `${field}: ${before}, later ${after}`);
        }
      },
    );
  }
}
