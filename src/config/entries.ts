/**
 * Entries of `Transports` and `Contexts`, and the templates that they take values from (guide
 * 6.2.1): an entry without an `Id` of its own is a template, `REF` names one, and without `REF` the
 * one called `Default` applies, also to other templates.
 */

import { type FaultPlace, type Faults, show } from "./faults.ts";
import type { Key } from "./key_kinds.ts";
import type { ContextValues, TransportValues } from "./key_types.ts";
import { keyAt } from "./keys.ts";
import { suggestion } from "./names.ts";
import { type Checked, checkKeys, type CheckOptions, isRecord } from "./values.ts";

/** The template that applies without `REF`. */
const DEFAULT_TEMPLATE = "Default";

/** Keys that an entry has for itself. */
const NOT_INHERITED: ReadonlySet<string> = new Set(["Name", "Id", "REF", "Context"]);

/** What kind of entry it is. */
export type EntryKind = "transport" | "context";

interface ValuesOf {
  readonly transport: TransportValues;
  readonly context: ContextValues;
}

/** An entry of the file. */
export interface Entry<K extends EntryKind = EntryKind> {
  readonly kind: K;
  readonly index: number;
  /** Name, topic or number of the entry, as messages show it; "": it has none. */
  readonly label: string;
  /** For example `Rcm.Contexts[2]`. */
  readonly path: string;
  readonly isTemplate: boolean;
  /** Its own values. */
  readonly values: ReadonlyMap<string, Checked>;
  /** Keys of its own whose value was wrong. */
  readonly wrong: ReadonlySet<string>;
  /** The template that it takes values from. */
  parent: Entry<K> | undefined;
  /** True: its template can't be told, so what it does not have itself is not known. */
  isCut: boolean;
}

/** A value after templates and defaults. */
export interface Found<T> {
  readonly value: T;
  /** False: it was wrong, or can't be told; `value` is the default. Faults of it are told. */
  readonly isKnown: boolean;
  /** True: the file has it. */
  readonly isGiven: boolean;
  /** Where it was written; where it could be written if it was not. */
  readonly at: FaultPlace;
}

/** Checks the entries of an array, each by itself. */
export function readEntries<K extends EntryKind>(
  kind: K,
  list: unknown,
  options: CheckOptions,
): readonly Entry<K>[] {
  if (!Array.isArray(list)) return [];
  const array = kind === "transport" ? "Transports" : "Contexts";
  const entries: Entry<K>[] = [];
  for (const [index, value] of list.entries()) {
    const path = `Rcm.${array}[${index}]`;
    if (!isRecord(value)) {
      options.faults.expected({ path, label: "" }, `an object: a ${kind}`, show(value));
      continue;
    }
    const label = labelOf(value);
    const { values, wrong } = checkKeys(kind, value, { path, label }, options);
    const isTemplate = !wrong.has("Id") && (values.get("Id") ?? 0) === 0;
    entries.push({
      kind,
      index,
      label,
      path,
      isTemplate,
      values,
      wrong,
      parent: undefined,
      isCut: false,
    });
  }
  return entries;
}

/** What people call an entry: its name, its topic and partition, or its number. */
function labelOf(entry: Readonly<Record<string, unknown>>): string {
  const { Name: name, Topic: topic, PartitionNo: partition, Id: id } = entry;
  if (typeof name === "string" && name !== "") return show(name).slice(1, -1);
  if (typeof topic === "string" && topic !== "") {
    const suffix = typeof partition === "number" ? `.${partition}` : "";
    return `${show(topic).slice(1, -1)}${suffix}`;
  }
  return typeof id === "number" ? `Id ${id}` : "";
}

/** Finds each entry's template. Faults: an unknown one, two of one name, a cycle. */
export function linkTemplates<K extends EntryKind>(
  entries: readonly Entry<K>[],
  faults: Faults,
): void {
  const templates = new Map<string, Entry<K>>();
  for (const entry of entries) {
    if (!entry.isTemplate) continue;
    const name = ownText(entry, "Name");
    if (name === "") {
      if (entry.wrong.has("Name")) continue;
      const either = `an Id 1..65535, or a Name for a template`;
      faults.expected({ path: entry.path, label: entry.label }, either, "neither");
    } else if (!templates.has(name)) {
      templates.set(name, entry);
    } else if (entry.kind === "transport") {
      // Names of contexts are compared with those of all other contexts.
      const first = templates.get(name);
      faults.expected(placeOf(entry, "Name"), "each template's name once", sameAs(name, first));
    }
  }
  for (const entry of entries) {
    if (entry.wrong.has("REF")) {
      entry.isCut = true;
      continue;
    }
    const isGiven = entry.values.has("REF");
    const wanted = isGiven ? ownText(entry, "REF") : DEFAULT_TEMPLATE;
    const template = templates.get(wanted);
    if (isGiven && template === undefined) {
      const isEntry = entries.some((other) => ownText(other, "Name") === wanted);
      const found = isEntry ? `${show(wanted)}, which has an Id` : show(wanted);
      const hint = suggestion(wanted, templates.keys());
      faults.expected(placeOf(entry, "REF"), "the name of a template", found, hint);
      entry.isCut = true;
    } else if (isGiven || template !== entry) {
      entry.parent = template;
    }
  }
  cutCycles(entries, faults);
}

/** A cycle is told once, at its first entry in the file. */
function cutCycles<K extends EntryKind>(entries: readonly Entry<K>[], faults: Faults): void {
  const done = new Set<Entry<K>>();
  for (const start of entries) {
    const chain: Entry<K>[] = [];
    let entry: Entry<K> | undefined = start;
    while (entry !== undefined && !done.has(entry) && !chain.includes(entry)) {
      chain.push(entry);
      entry = entry.parent;
    }
    if (entry !== undefined && !done.has(entry)) {
      const cycle = chain.slice(chain.indexOf(entry)).sort((a, b) => a.index - b.index);
      const [first = entry] = cycle;
      const names = [first.label];
      for (let next = first.parent; next !== undefined; next = next.parent) {
        names.push(next.label);
        if (next === first) break;
      }
      faults.expected(placeOf(first, "REF"), "templates without a cycle", names.join(" -> "));
      for (const member of cycle) {
        member.parent = undefined;
        member.isCut = true;
      }
    }
    for (const member of chain) done.add(member);
  }
}

/** @returns a text that an entry has itself; "" when there is none or it was wrong */
export function ownText(entry: Entry, name: "Name" | "REF" | "Context"): string {
  const value = entry.values.get(name);
  return typeof value === "string" ? value : "";
}

/** @returns the number of an entry; 0: it is a template, or the number was wrong */
export function idOf(entry: Entry): number {
  const value = entry.values.get("Id");
  return typeof value === "number" ? value : 0;
}

/** @returns where a key stands, or could stand, in an entry */
export function placeOf(entry: Entry, key: string): FaultPlace {
  return { path: `${entry.path}.${key}`, label: entry.label };
}

/** @returns for example `"req" again, as in Rcm.Contexts[1]` */
export function sameAs(value: string | number, first: Entry | undefined): string {
  return `${show(value)} again${first === undefined ? "" : `, as in ${first.path}`}`;
}

/** Looks a value up: the entry's own, else its templates', else the default. */
export function look<K extends EntryKind, N extends string & keyof ValuesOf[K]>(
  entry: Entry<K>,
  name: N,
): Found<ValuesOf[K][N]> {
  // The table's row and the check of the value make sure of the type.
  return lookAny(entry, name) as Found<ValuesOf[K][N]>;
}

function lookAny(entry: Entry, name: string): Found<unknown> {
  const initial = defaultOf(keyAt(entry.kind, name));
  const own = placeOf(entry, name);
  for (let from: Entry | undefined = entry; from !== undefined; from = from.parent) {
    const at = from === entry ? own : placeOf(from, name);
    if (from.wrong.has(name)) return { value: initial, isKnown: false, isGiven: true, at };
    if (from.values.has(name)) {
      return { value: from.values.get(name), isKnown: true, isGiven: true, at };
    }
    if (NOT_INHERITED.has(name)) break;
    if (from.isCut) return { value: initial, isKnown: false, isGiven: false, at: own };
  }
  return { value: initial, isKnown: true, isGiven: false, at: own };
}

/** @returns what a key is where it is not given; lists are empty, and no partitions are all */
export function defaultOf(key: Key | undefined): Checked {
  if (key === undefined || key.default === null) {
    return key?.kind === "list" && key.of !== "partitions" ? [] : undefined;
  }
  return key.default;
}

/** All values of a context, after templates and defaults. */
export function contextValues(entry: Entry<"context">, names: readonly string[]): ContextValues {
  const values: Record<string, unknown> = {};
  for (const name of names) values[name] = lookAny(entry, name).value;
  return values as unknown as ContextValues;
}
