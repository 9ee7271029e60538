/**
 * Views of messages, kept to be handed out again.
 *
 * Making a view is the dearest step of a delivery: 20 to 40 ns in Deno, 40 to 120 in Bun, and the
 * garbage collector comes after. Messages of one size come to lie at the same places again and
 * again, because memory is taken where it is free first; so a view is kept by its place, and only
 * while the sizes are the same. A kept view costs a comparison.
 *
 * A view is good until the handler returns; that the next message at its place gets the same object
 * can't be told from what is promised.
 */

import type { Region } from "./memory.ts";

/** Places that are kept: more than a sender's cached messages by default (`MaxCacheMsgCount`). */
const PLACES = 16 * 1024;
/**
 * One of so many views that were not found is kept: where messages lie at more places than are
 * kept, replacing each time would cost more than it could gain.
 */
const KEEP_ONE_OF = 4;
/** A position in units of 8 bytes is less than this. */
const UNITS = 2 ** 32;
/** Longer messages are dear to read anyway, and may have mappings that should go with them. */
const LENGTH_MAX = 64 * 1024;
/** A cache line, in units. */
const LINE_UNITS = 8;

/** Hands out views. */
export interface Views {
  /**
   * @param number of the region
   * @param unit position in it, in units of 8 bytes
   * @param length bytes
   */
  view(number: number, unit: number, length: number): Uint8Array<ArrayBuffer>;
}

/** @param region gives a region by its number; it is asked each time a view is made */
export function createViews(region: (number: number) => Region): Views {
  const none = new Uint8Array(0);
  const kept: Uint8Array<ArrayBuffer>[] = new Array(PLACES).fill(none);
  /** Of each kept view: region and position in one number. */
  const places = new Float64Array(PLACES).fill(-1);
  let lengthBefore = -1;
  let unitBefore = 0;
  /** Units from one message of this length to the next: the least, and what was seen. */
  let least = 1;
  let spacing = 1;
  let perUnit = 1;
  let made = 0;

  /** Messages may begin on cache lines of their own; each place is to have its own slot. */
  function learn(distance: number): void {
    if (distance < least || distance >= least + LINE_UNITS || distance === spacing) return;
    spacing = distance;
    perUnit = 1 / distance;
  }

  return {
    view(number, unit, length) {
      const distance = unit - unitBefore;
      unitBefore = unit;
      if (length !== lengthBefore || length > LENGTH_MAX) {
        lengthBefore = length;
        least = ((length + 7) >>> 3) + 1;
        spacing = least;
        perUnit = 1 / least;
        return region(number).view(unit, length);
      }
      const slot = (unit * perUnit) & (PLACES - 1);
      const place = number * UNITS + unit;
      const known = kept[slot]!;
      if (places[slot] === place && known.length === length) return known;
      learn(distance);
      const view = region(number).view(unit, length);
      made += 1;
      if (made % KEEP_ONE_OF === 0) {
        kept[slot] = view;
        places[slot] = place;
      }
      return view;
    },
  };
}
