/**
 * A histogram of times: 128 steps for each doubling, so that a value is known to 0.8 %.
 *
 * `native/bench/histogram.zig` has the same buckets.
 */

const STEPS_BITS = 7;
const STEPS = 1 << STEPS_BITS;
const BUCKETS = 40 * STEPS;

/** A histogram as text: index and count of each bucket that is not empty. */
export interface HistogramText {
  readonly count: number;
  readonly maxNs: number;
  readonly buckets: readonly (readonly [index: number, count: number])[];
}

/** @returns the bucket of a value of at most 2^46 ns */
export function bucketOf(valueNs: number): number {
  const value = Math.max(0, Math.floor(valueNs));
  if (value < 2 * STEPS) return value;
  const log2 = value < 2 ** 31
    ? 31 - Math.clz32(value)
    : 62 - Math.clz32(Math.floor(value / 2 ** 31));
  const shift = log2 - STEPS_BITS;
  return Math.min(BUCKETS - 1, shift * STEPS + Math.floor(value / 2 ** shift));
}

/** @returns the lowest value of a bucket */
export function valueOf(bucket: number): number {
  if (bucket < 2 * STEPS) return bucket;
  const shift = Math.floor(bucket / STEPS) - 1;
  return (bucket - shift * STEPS) * 2 ** shift;
}

/** Counts values. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #maxNs = 0;

  /** One more value. */
  add(valueNs: number): void {
    const bucket = bucketOf(valueNs);
    this.#counts[bucket] = this.#counts[bucket]! + 1;
    this.#count += 1;
    if (valueNs > this.#maxNs) this.#maxNs = valueNs;
  }

  /** All values of another one. */
  merge(other: HistogramText): void {
    for (const [bucket, count] of other.buckets) {
      this.#counts[bucket] = this.#counts[bucket]! + count;
    }
    this.#count += other.count;
    this.#maxNs = Math.max(this.#maxNs, other.maxNs);
  }

  /** All values of another one, each multiplied. @returns this one */
  mergeScaled(other: HistogramText, factor: number): this {
    for (const [bucket, count] of other.buckets) {
      const at = bucketOf(valueOf(bucket) * factor);
      this.#counts[at] = this.#counts[at]! + count;
    }
    this.#count += other.count;
    this.#maxNs = Math.max(this.#maxNs, other.maxNs * factor);
    return this;
  }

  /** @returns the value that a share of all values does not exceed; NaN when there are none */
  at(share: number): number {
    let left = Math.ceil(this.#count * share);
    if (this.#count === 0) return NaN;
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      left -= this.#counts[bucket]!;
      if (left <= 0) return valueOf(bucket);
    }
    return this.#maxNs;
  }

  /** @returns it as text */
  toText(): HistogramText {
    const buckets: [number, number][] = [];
    this.#counts.forEach((count, bucket) => {
      if (count > 0) buckets.push([bucket, count]);
    });
    return { count: this.#count, maxNs: this.#maxNs, buckets };
  }
}
