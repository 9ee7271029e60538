/**
 * Native memory as JavaScript sees it.
 *
 * A region is one native mapping, seen through windows of 4 MiB which begin every 2 MiB: a message
 * of at most 2 MiB lies wholly inside the window in which it begins. Windows are mapped when first
 * used and kept. Larger messages are rare, and are seen through a mapping of their own.
 *
 * Windows are small because Bun counts all of a window's bytes as memory that its views hold:
 * with one of 1 GiB it collects so seldom that a view costs six times as much (measured).
 */

const MIB = 2 ** 20;
const WINDOW_BYTES = 4 * MIB;
const STEP_BYTES = 2 * MIB;
/** A position in units of 8 bytes shifted by this is its window's number. */
const WINDOW_SHIFT = 18;

/** One window: the memory, its 32-bit words, and where in the region it begins. */
export interface Window {
  readonly memory: ArrayBuffer;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly base: number;
}

/** A native mapping, seen through windows. */
export interface Region {
  /** Bytes of the mapping. */
  readonly length: number;
  /**
   * The bytes at `unit * 8`.
   * @param unit position in units of 8 bytes
   * @param length bytes, at most 1 GiB
   */
  view(unit: number, length: number): Uint8Array<ArrayBuffer>;
  /** The first window, for a region that is one array. */
  first(): Window;
  /** The window in which what lies at `unit` begins. */
  windowAt(unit: number): Window;
  /** The index, in that window's words, of what lies at `unit`. */
  wordAt(unit: number): number;
}

/** How memory at an address becomes an ArrayBuffer (see `NativeRuntime.map`). */
export type MapMemory = (address: number, bytes: number) => ArrayBuffer;

/**
 * @param map maps memory
 * @param address where the mapping begins; a multiple of 8
 * @param length its bytes
 * @returns the region; its windows are mapped when first used
 */
export function openRegion(map: MapMemory, address: number, length: number): Region {
  const windows: (Window | undefined)[] = [];

  function window(number: number): Window {
    const known = windows[number];
    if (known !== undefined) return known;
    const base = number * STEP_BYTES;
    const bytes = Math.min(WINDOW_BYTES, length - base);
    if (!(bytes > 0)) throw new RangeError(`window ${number} of a region of ${length} bytes`);
    const memory = map(address + base, bytes);
    const made = { memory, words: new Uint32Array(memory, 0, Math.floor(bytes / 4)), base };
    windows[number] = made;
    return made;
  }

  return {
    length,
    view(unit, bytes) {
      if (bytes > STEP_BYTES) return new Uint8Array(map(address + unit * 8, bytes));
      const { memory, base } = window(unit >>> WINDOW_SHIFT);
      return new Uint8Array(memory, unit * 8 - base, bytes);
    },
    first: () => window(0),
    windowAt: (unit) => window(unit >>> WINDOW_SHIFT),
    wordAt: (unit) => (unit % (STEP_BYTES / 8)) * 2,
  };
}
