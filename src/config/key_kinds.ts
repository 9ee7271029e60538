/** What rows of the table of keys are: their kinds, and how a row is made. */

/** Where a key may stand. `topic`: in an entry of `TxTopics` or `RxTopics`. */
export type Place = "top" | "transport" | "context" | "topic";

/** What makes a key act. */
export type Part = "bus" | "shared memory" | "record" | "ordered log" | "tier";

/** What a text has to look like; `formats.ts` has the checks. */
export type Format =
  | "name"
  | "topic"
  | "addresses"
  | "interface"
  | "multicast"
  | "hex key"
  | "folder";

/** What all kinds of key have. */
interface KeyCommon<N extends string, P extends Place> {
  readonly name: N;
  readonly where: readonly P[];
  /** One line: what it does, with its unit. */
  readonly meaning: string;
  /** What makes a value that differs from the default act. */
  readonly part: Part;
}

/** 0, 1, false or true. */
export interface FlagKey<N extends string, P extends Place> extends KeyCommon<N, P> {
  readonly kind: "flag";
  readonly default: boolean;
}

/** An integer `min`..`max`. */
export interface IntegerKey<N extends string, P extends Place, D extends number | null>
  extends KeyCommon<N, P> {
  readonly kind: "integer";
  /** Null: there is none. Always a value that may be written, even outside of the range. */
  readonly default: D;
  readonly min: number;
  /** `"cores"`: the number of this machine's processor cores, less one. */
  readonly max: number | "cores";
}

/** A text of a format. */
export interface TextKey<N extends string, P extends Place, D extends string | null>
  extends KeyCommon<N, P> {
  readonly kind: "text";
  /** Null: there is none. Always a value that may be written, even if not of the format. */
  readonly default: D;
  readonly format: Format;
}

/** One of a few words. */
export interface ChoiceKey<N extends string, P extends Place, C extends string>
  extends KeyCommon<N, P> {
  readonly kind: "choice";
  readonly default: C;
  readonly choices: readonly C[];
}

/** What lists hold: entries of the file, topics, partition numbers, or contexts' names. */
export type ListOf = "transports" | "contexts" | "topics" | "partitions" | "names";

/** An array. */
export interface ListKey<N extends string, P extends Place, L extends ListOf>
  extends KeyCommon<N, P> {
  readonly kind: "list";
  readonly default: null;
  readonly of: L;
  readonly minItems: number;
  readonly maxItems: number;
}

/** A row of the table. */
export type Key =
  | FlagKey<string, Place>
  | IntegerKey<string, Place, number | null>
  | TextKey<string, Place, string | null>
  | ChoiceKey<string, Place, string>
  | ListKey<string, Place, ListOf>;

/** A row: 0 or 1. */
export function flag<const N extends string, const P extends Place>(
  name: N,
  where: readonly P[],
  initial: 0 | 1,
  part: Part,
  meaning: string,
): FlagKey<N, P> {
  return { kind: "flag", name, where, default: initial === 1, part, meaning };
}

/** A row: an integer of a range; `initial` null: no default. */
export function integer<
  const N extends string,
  const P extends Place,
  const D extends number | null,
>(
  name: N,
  where: readonly P[],
  initial: D,
  [min, max]: readonly [number, number | "cores"],
  part: Part,
  meaning: string,
): IntegerKey<N, P, D> {
  return { kind: "integer", name, where, default: initial, min, max, part, meaning };
}

/** A row: a text of a format; `initial` null: no default. */
export function text<const N extends string, const P extends Place, const D extends string | null>(
  name: N,
  where: readonly P[],
  initial: D,
  format: Format,
  part: Part,
  meaning: string,
): TextKey<N, P, D> {
  return { kind: "text", name, where, default: initial, format, part, meaning };
}

/** A row: one of some words, the first by default. */
export function choice<const N extends string, const P extends Place, const C extends string>(
  name: N,
  where: readonly P[],
  choices: readonly [C, ...C[]],
  part: Part,
  meaning: string,
): ChoiceKey<N, P, C> {
  return { kind: "choice", name, where, default: choices[0], choices, part, meaning };
}

/** A row: an array of so many elements. */
export function list<const N extends string, const P extends Place, const L extends ListOf>(
  name: N,
  where: readonly P[],
  of: L,
  [minItems, maxItems]: readonly [number, number],
  part: Part,
  meaning: string,
): ListKey<N, P, L> {
  return { kind: "list", name, where, default: null, of, minItems, maxItems, part, meaning };
}
