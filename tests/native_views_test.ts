/** Views that are kept: always those of the place, the length and the region asked for. */

import assert from "node:assert/strict";
import test from "node:test";
import { openRegion, type Region } from "../src/native/memory.ts";
import { createViews } from "../src/native/views.ts";

const BYTES = 1 << 20;

/** Regions of plain memory, each byte of which tells its place. */
function regions(count: number): readonly Region[] {
  return Array.from({ length: count }, (_, number) => {
    const memory = new ArrayBuffer(BYTES);
    const words = new Uint32Array(memory);
    for (let i = 0; i < words.length; i += 1) words[i] = Math.imul(i + number, 0x9e3779b1);
    return openRegion(() => memory, 8, BYTES);
  });
}

test("a view is of what was asked for, in any order of places, lengths and regions", () => {
  const all = regions(3);
  const views = createViews((number) => all[number]!);
  let state = 1;
  const random = (below: number) => {
    state = Math.imul(state, 0x41c64e6d) + 12345 >>> 0;
    return (state >>> 8) % below;
  };
  for (let round = 0; round < 2000; round += 1) {
    // Runs of one length, as a sender makes them, at places that come again, or a lap of memory.
    const length = random(5) === 0 ? 0 : random(400);
    const stride = (length + 7 >>> 3) + 1 + random(3);
    const number = random(3);
    let unit = random(2000);
    for (let i = random(60); i > 0; i -= 1) {
      const got = views.view(number, unit, length);
      const wanted = all[number]!.view(unit, length);
      assert.equal(got.buffer, wanted.buffer);
      assert.equal(got.byteOffset, wanted.byteOffset);
      assert.equal(got.byteLength, length);
      unit = (unit + stride) % (BYTES / 8 - 100);
    }
  }
});

test("places that come again get the view that was made", () => {
  // Packed, and on lines of their own: the slots learn how far messages are from each other.
  for (const spacing of [9, 16]) {
    let made = 0;
    const [region] = regions(1);
    const views = createViews(() => {
      made += 1;
      return region!;
    });
    const places = 8000;
    const lap = () => {
      for (let i = 0; i < places; i += 1) views.view(0, i * spacing, 64);
    };
    for (let laps = 0; laps < 20; laps += 1) lap();
    const before = made;
    lap();
    assert.ok(before >= places && before < places * 8, `${before} views at ${places} places`);
    assert.ok(made - before < places / 20, `${made - before} more in another lap`);
  }
});
