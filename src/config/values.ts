/** The check of one value against its row of the table. */

import { cpus } from "node:os";
import { type FaultPlace, type Faults, show } from "./faults.ts";
import { FORMATS } from "./formats.ts";
import type { Key, Place } from "./key_kinds.ts";
import type { TopicValue } from "./key_types.ts";
import { keyAt, keysAt } from "./keys.ts";
import { nearestName, suggestion } from "./names.ts";

/** A checked value: flags are booleans, names an array, topics read. Undefined: it was wrong. */
export type Checked =
  | boolean
  | number
  | string
  | readonly string[]
  | readonly number[]
  | readonly TopicValue[]
  | undefined;

/** Numbers of processor cores are 0..1023 where their count can't be found. */
const CORES_FALLBACK = 1024;

/** @returns number of processor cores of this machine */
export function coreCount(): number {
  return cpus().length || CORES_FALLBACK;
}

/** What checks of single values need. */
export interface CheckOptions {
  readonly faults: Faults;
  /** Asked for the number of processor cores. */
  readonly cores: () => number;
}

/** What stands at the places, for messages. */
const PLACES: Readonly<Record<Place, string>> = {
  top: "Rcm",
  transport: "a transport",
  context: "a context",
  topic: "an entry of TxTopics or RxTopics",
};

/** Values by key; keys whose value was wrong are in `wrong` instead. */
export interface CheckedKeys {
  readonly values: ReadonlyMap<string, Checked>;
  readonly wrong: ReadonlySet<string>;
}

/** @returns whether a value is an object with keys */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Checks all keys of an object at a place. A misspelled key is a fault, and its value is taken for
 * that of the key that was meant: what follows from a missing key would only hide other faults.
 */
export function checkKeys(
  place: Place,
  object: Readonly<Record<string, unknown>>,
  where: FaultPlace,
  options: CheckOptions,
): CheckedKeys {
  const values = new Map<string, Checked>();
  const wrong = new Set<string>();
  for (const [name, value] of Object.entries(object)) {
    if (value === undefined) continue;
    const key = keyAt(place, name);
    const at = { path: `${where.path}.${name}`, label: where.label };
    if (key !== undefined) {
      store(key, checkValue(key, value, at, options));
      continue;
    }
    const meant = reportUnknown(place, name, object, at, options.faults);
    if (meant !== undefined && !values.has(meant.name)) {
      const silent = { ...options, faults: NO_FAULTS };
      store(meant, checkValue(meant, value, at, silent));
    }
  }
  return { values, wrong };

  function store(key: Key, checked: Checked): void {
    if (checked === undefined) wrong.add(key.name);
    else values.set(key.name, checked);
  }
}

/** Checks that are made to take a value over, and not to speak of it. */
const NO_FAULTS: Faults = { lines: [], expected() {}, add() {} };

function reportUnknown(
  place: Place,
  name: string,
  object: Readonly<Record<string, unknown>>,
  at: FaultPlace,
  faults: Faults,
): Key | undefined {
  const known = keysAt(place).map((key) => key.name);
  const elsewhere = (["top", "transport", "context", "topic"] as const)
    .find((other) => keyAt(other, name) !== undefined);
  if (elsewhere !== undefined) {
    const hint = nearestName(name, known)?.isNear ? suggestion(name, known) : "";
    faults.add(at, `not a key of ${PLACES[place]}, but of ${PLACES[elsewhere]}${hint}`);
    return undefined;
  }
  faults.expected(at, `a key of ${PLACES[place]}`, show(name), suggestion(name, known));
  const nearest = nearestName(name, known);
  if (nearest === undefined || nearest.distance * 3 > nearest.name.length) return undefined;
  return Object.hasOwn(object, nearest.name) ? undefined : keyAt(place, nearest.name);
}

/** Checks one value. */
function checkValue(key: Key, value: unknown, at: FaultPlace, options: CheckOptions): Checked {
  switch (key.kind) {
    case "flag":
      if (value === 0 || value === 1) return value === 1;
      if (typeof value === "boolean") return value;
      return wrong("0, 1, false or true");
    case "integer": {
      const max = key.max === "cores" ? options.cores() - 1 : key.max;
      const isRight = Number.isSafeInteger(value) && typeof value === "number" &&
        ((value >= key.min && value <= max) || value === key.default);
      // -0 is an integer for JavaScript and JSON, and 0 for us.
      return isRight ? value + 0 : wrong(`an integer ${key.min}..${max}`);
    }
    case "text": {
      const format = FORMATS[key.format];
      if (typeof value === "string" && (format.matches(value) || value === key.default)) {
        return value;
      }
      const isHidden = format.isSecret === true && typeof value === "string";
      const found = isHidden ? `a text of ${value.length} characters` : show(value);
      return wrong(format.expected, found);
    }
    case "choice":
      if (typeof value === "string" && key.choices.includes(value)) return value;
      return wrong(
        key.choices.map((one) => JSON.stringify(one)).join(" or "),
        show(value),
        typeof value === "string" ? suggestion(value, key.choices) : "",
      );
    case "list":
      return checkList();
  }

  function wrong(expected: string, found: string = show(value), hint = ""): undefined {
    options.faults.expected(at, expected, found, hint);
    return undefined;
  }

  function checkList(): Checked {
    if (key.kind !== "list") return undefined;
    if (key.of === "names") return checkNames(value, at, options.faults);
    const what = LISTS[key.of];
    if (!Array.isArray(value)) return wrong(`an array of ${what}`);
    if (value.length < key.minItems || value.length > key.maxItems) {
      return wrong(`${key.minItems}..${key.maxItems} ${what}`, `${value.length}`);
    }
    if (key.of === "partitions") return checkPartitions(value, at, options.faults);
    if (key.of === "topics") return checkTopics(value, at, options);
    // Entries of the file: what is in them is checked entry by entry.
    return [];
  }
}

const LISTS = {
  transports: "entries",
  contexts: "entries",
  topics: 'topics { "Name": ..., "Partitions": [...] }',
  partitions: "partition numbers",
  names: "contexts' names",
} as const;

/** A name, or an array of names (guide 7.2.6 has one twice). */
function checkNames(value: unknown, at: FaultPlace, faults: Faults): Checked {
  const names: readonly unknown[] = Array.isArray(value) ? value : value === "" ? [] : [value];
  const wrong = names.findIndex((name) => typeof name !== "string");
  if (wrong < 0) return names.filter((name) => typeof name === "string");
  const path = Array.isArray(value) ? `${at.path}[${wrong}]` : at.path;
  faults.expected({ ...at, path }, "a context's name, or an array of them", show(names[wrong]));
  return undefined;
}

function checkPartitions(list: readonly unknown[], at: FaultPlace, faults: Faults): Checked {
  const numbers = new Set<number>();
  for (const [index, value] of list.entries()) {
    const here = { ...at, path: `${at.path}[${index}]` };
    if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > 0xffff) {
      faults.expected(here, "an integer 1..65535", show(value));
    } else if (numbers.has(value)) {
      faults.expected(here, "each partition once", `${value} again`);
    } else {
      numbers.add(value);
    }
  }
  return numbers.size === list.length ? [...numbers] : undefined;
}

function checkTopics(list: readonly unknown[], at: FaultPlace, options: CheckOptions): Checked {
  return list.map((value, index): TopicValue => {
    const here = { ...at, path: `${at.path}[${index}]` };
    if (!isRecord(value)) {
      options.faults.expected(here, 'a topic { "Name": ..., "Partitions": [...] }', show(value));
      return { name: undefined, partitions: null };
    }
    const { values, wrong } = checkKeys("topic", value, here, options);
    const name = values.get("Name");
    const partitions = values.get("Partitions");
    if (name === undefined && !wrong.has("Name")) {
      options.faults.expected({ ...here, path: `${here.path}.Name` }, "a topic's name", "nothing");
    }
    return {
      name: typeof name === "string" ? name : undefined,
      partitions: wrong.has("Partitions") ? null : partitions as readonly number[] | undefined,
    };
  });
}
