/** Faults of a configuration: collected, so that one error lists them all. */

import { RcmError } from "../errors.ts";

/** Longest text that a fault shows, in characters. */
const SHOWN_MAX = 80;

/** Where a fault is. */
export interface FaultPlace {
  /** For example `Rcm.Contexts[2].RxTopics[0].Name`. */
  readonly path: string;
  /** Name of the entry; "": it has none. */
  readonly label: string;
}

/** The faults of one configuration. */
export interface Faults {
  /** Each line once, in the order of the file's entries. */
  readonly lines: readonly string[];
  /**
   * Adds a line `path (label): expected <expected>, found <found><hint>`.
   * @param hint begins with its own punctuation
   */
  expected(place: FaultPlace, expected: string, found: string, hint?: string): void;
  /** Adds a line `path (label): what`. */
  add(place: FaultPlace, what: string): void;
}

/** Lines of one entry of the file. */
interface EntryLines {
  readonly rank: number;
  readonly lines: Set<string>;
}

/** Ranks: what is no entry first, then transports, then contexts; each less than 2^16. */
const ARRAYS: Readonly<Record<string, number>> = { Transports: 1, Contexts: 2 };

/** @returns an empty collection */
export function createFaults(): Faults {
  const entries = new Map<number, EntryLines>();
  const add = ({ path, label }: FaultPlace, what: string): void => {
    const [, array = "", index = "0"] = /^Rcm\.(\w+)\[(\d+)\]/.exec(path) ?? [];
    const rank = (ARRAYS[array] ?? 0) * 2 ** 16 + Number(index);
    const entry = entries.get(rank) ?? { rank, lines: new Set() };
    entries.set(rank, entry);
    entry.lines.add(`${path}${label === "" ? "" : ` (${label})`}: ${what}`);
  };
  return {
    get lines() {
      const sorted = [...entries.values()].sort((a, b) => a.rank - b.rank);
      return sorted.flatMap(({ lines }) => [...lines]);
    },
    expected(place, expected, found, hint = "") {
      add(place, `expected ${expected}, found ${found}${hint}`);
    },
    add,
  };
}

/**
 * @param origin what was read: a file's name, or `"the configuration"`
 * @returns the one error for all faults
 */
export function configError(
  origin: string,
  lines: readonly string[],
  options?: ErrorOptions,
): RcmError {
  const count = lines.length === 1 ? "1 fault" : `${lines.length} faults`;
  const message = `${origin}: ${count}\n${lines.map((line) => `  ${line}`).join("\n")}`;
  return new RcmError("CONFIG", message, { ...options, details: lines });
}

/** @returns a value as a fault shows it, short */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") {
    const characters = [...value];
    if (characters.length <= SHOWN_MAX) return JSON.stringify(value);
    return `${JSON.stringify(characters.slice(0, SHOWN_MAX).join(""))}...`;
  }
  if (Array.isArray(value)) {
    return value.length === 1 ? "an array of 1" : `an array of ${value.length}`;
  }
  if (value === null || typeof value === "number" || typeof value === "boolean") return `${value}`;
  if (typeof value === "object") return "an object";
  return `a ${typeof value}`;
}
