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
  let made = 0;
  const [region] = regions(1);
  const views = createViews(() => {
    made += 1;
    return region!;
  });
  for (let lap = 0; lap < 20; lap += 1) {
    for (let i = 0; i < 3000; i += 1) views.view(0, i * 9, 64);
  }
  assert.ok(made >= 3000 && made < 3000 * 8, `${made} views for 60,000 messages at 3,000 places`);
});
