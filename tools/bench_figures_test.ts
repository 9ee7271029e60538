import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { bucketOf, Histogram, valueOf } from "../bench/histogram.ts";
import {
  busyShare,
  coreTimes,
  figuresOf,
  judge,
  linesOf,
  median,
  moodAround,
  percentile,
  type Run,
  show,
  showTarget,
  stolenShare,
} from "./bench_figures.ts";

describe("histogram", () => {
  it("keeps values to 0.8 %, and small ones exactly", () => {
    for (const value of [0, 1, 127, 128, 255, 256, 1000, 99_999, 123_456_789, 2 ** 33, 2 ** 40]) {
      const kept = valueOf(bucketOf(value));
      assert.ok(kept <= value && kept >= value * (1 - 1 / 128), `${value} became ${kept}`);
      if (value < 256) assert.equal(kept, value);
    }
  });

  it("has buckets that follow each other", () => {
    for (let bucket = 1; bucket < 3000; bucket += 1) {
      assert.ok(valueOf(bucket) > valueOf(bucket - 1));
      assert.equal(bucketOf(valueOf(bucket)), bucket);
    }
  });

  it("gives percentiles, also after it was text", () => {
    const histogram = new Histogram();
    for (let value = 1; value <= 100; value += 1) histogram.add(value);
    assert.equal(histogram.at(0.5), 50);
    assert.equal(histogram.at(0.99), 99);
    const text = histogram.toText();
    assert.equal(percentile(text, 0.999), 100);
    assert.equal(text.maxNs, 100);
    assert.ok(Number.isNaN(new Histogram().at(0.5)));
  });
});

describe("answers", () => {
  const latency = { kind: "latency", count: 2, maxNs: 200, buckets: [[100, 1], [200, 1]] } as const;

  it("are halved where a round trip stands for one way", () => {
    assert.equal(figuresOf(latency, { unit: "ns" }).value, 100);
    assert.equal(figuresOf(latency, { unit: "ns", half: true }).value, 50);
  });

  it("of rates are counted in the row's unit", () => {
    const rate = { kind: "rate", messages: 3e6, ns: 1e9 } as const;
    assert.equal(figuresOf(rate, { unit: "M/s" }).value, 3);
    assert.equal(figuresOf(rate, { unit: "GB/s", weight: 1e-3 }).value, 0.003);
  });

  it("of large messages tell the first one apart", () => {
    const times = { kind: "times", ns: [4e9, 1e9, 2e9, 1e9] } as const;
    const { value, more } = figuresOf(times, { unit: "GB/s", weight: 1e9 });
    assert.equal(value, 1);
    assert.equal(more["cold"], 0.25);
  });

  it("of open loops give repair as what came on top of the usual time, where it counts", () => {
    const paced = {
      kind: "paced",
      messages: 100,
      ns: 1e9,
      gaps: 1,
      all: { count: 3, maxNs: 120, buckets: [[100, 3]] },
      behind: { count: 1, maxNs: 180, buckets: [[180, 1]] },
    } as const;
    const { value, more } = figuresOf(paced, { unit: "ns", repair: true });
    assert.equal(value, 100);
    assert.equal(more["repairP50"], 80);
    assert.equal(more["perSecond"], 100);
    const plain = figuresOf(paced, { unit: "ns" });
    assert.equal(plain.value, 100);
    assert.deepEqual(Object.keys(plain.more), ["p99", "perSecond"]);
  });
});

function run(of: Partial<Run> & Pick<Run, "runner" | "value">): Run {
  return {
    round: 0,
    mood: "NEAR",
    moodNs: [90, 90],
    disturbed: false,
    more: {},
    histogram: null,
    ...of,
  };
}

describe("lines", () => {
  it("compare with the yardstick of the same round and mood", () => {
    const lines = linesOf([
      run({ runner: "raw", value: 100 }),
      run({ runner: "zig", value: 120 }),
      run({ runner: "raw", value: 300, round: 1, mood: "FAR" }),
      run({ runner: "zig", value: 330, round: 1, mood: "FAR" }),
      run({ runner: "zig", value: 999, round: 2 }),
    ], { zig: [{ of: "ratio", atMost: 1.15 }] });
    const near = lines.find((line) => line.runner === "zig" && line.mood === "NEAR");
    const far = lines.find((line) => line.runner === "zig" && line.mood === "FAR");
    assert.equal(near?.ratio, 1.2);
    assert.equal(near.met, false);
    assert.equal(far?.ratio, 1.1);
    assert.equal(far.met, true);
  });

  it("leave disturbed rounds and changed moods out where there are others", () => {
    const lines = linesOf([
      run({ runner: "deno", value: 1 }),
      run({ runner: "deno", value: 50, round: 1, disturbed: true }),
      run({ runner: "deno", value: 70, round: 2, mood: null }),
      run({ runner: "bun", value: 50, disturbed: true }),
    ], {});
    assert.deepEqual(lines.map((line) => [line.runner, line.value, line.disturbed]), [
      ["deno", 1, false],
      ["bun", 50, true],
    ]);
  });
});

describe("targets", () => {
  const targets = [
    { of: "value", atLeast: 10, mood: "NEAR" },
    { of: "ratio", atMost: 2 },
  ] as const;

  it("are met when all that apply are", () => {
    assert.equal(judge(targets, "NEAR", { value: 11, ratio: 1 }), true);
    assert.equal(judge(targets, "NEAR", { value: 9, ratio: 1 }), false);
    assert.equal(judge(targets, "FAR", { value: 9, ratio: 1 }), true);
    assert.equal(judge(targets, "FAR", { value: 9, ratio: NaN }), null);
  });

  it("are shown", () => {
    assert.equal(showTarget({ of: "ratio", atMost: 1.2 }, "ns"), "<= 1.20x");
    assert.equal(showTarget({ of: "value", atLeast: 15, mood: "FAR" }, "M/s"), ">= 15.0 M/s FAR");
    assert.equal(showTarget({ of: "p99", atMost: 250_000 }, "ns"), "p99 <= 250.00 us");
    assert.match(showTarget({ of: "repairRoundTrips", atMost: 5 }, "ns"), /<= 5 round trips/);
  });
});

describe("the machine", () => {
  it("has a mood only when it stayed", () => {
    assert.equal(moodAround(90, 110), "NEAR");
    assert.equal(moodAround(310, 330), "FAR");
    assert.equal(moodAround(90, 330), null);
  });

  it("is busy by what its own cores did", () => {
    const stat = (idle: number, busy: number, stolen: number) =>
      `cpu  1 2 3 4\ncpu0 ${busy} 0 0 ${idle} 0 0 0 ${stolen} 0 0\ncpu1 0 0 0 100 0 0 0 0 0 0\n` +
      "cpu2 999 0 0 0 0 0 0 0 0 0\n";
    const from = coreTimes(stat(100, 0, 0), [0, 1]);
    const to = coreTimes(stat(150, 40, 10), [0, 1]);
    assert.equal(busyShare(from, to), 0.5);
    assert.equal(stolenShare(from, to), 0.1);
    assert.equal(busyShare(from, from), 0);
  });
});

it("median() leaves out what is not a number", () => {
  assert.equal(median([3, NaN, 1, 2]), 2);
  assert.equal(median([1, 2]), 1.5);
  assert.ok(Number.isNaN(median([])));
});

it("show() chooses a unit", () => {
  assert.equal(show(95, "ns"), "95 ns");
  assert.equal(show(3310, "ns"), "3.31 us");
  assert.equal(show(2.5, "GB/s"), "2.50 GB/s");
  assert.equal(show(NaN, "ms"), "-");
});
