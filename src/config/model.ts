/**
 * The configuration as a whole: who finds which transport for a topic and partition, and the faults
 * that need more than one entry to be seen.
 */

import {
  type Entry,
  idOf,
  linkTemplates,
  look,
  ownText,
  placeOf,
  readEntries,
  sameAs,
} from "./entries.ts";
import { type Faults, show } from "./faults.ts";
import { suggestion } from "./names.ts";
import type { CheckOptions } from "./values.ts";

/** A transport of a context, by topic. */
export interface Route {
  readonly topic: string;
  readonly partitionNo: number;
  readonly transport: Entry<"transport">;
  /** Index of the topic among the topics of its list, each counted once. */
  readonly lane: number;
}

/** A list of topics of a context, with what it comes to. */
export interface Routes {
  /** In the order of the list; without `Partitions` in the order of `Transports`. */
  readonly all: readonly Route[];
  /** False: some are wrong, faults of them are told. */
  readonly isWhole: boolean;
}

/** A context with its transports. */
export interface Node {
  readonly entry: Entry<"context">;
  readonly name: string;
  readonly id: number;
  readonly tx: Routes;
  readonly rx: Routes;
}

/** The entries that are no templates, linked. */
export interface Model {
  readonly transports: readonly Entry<"transport">[];
  readonly nodes: readonly Node[];
  /** Names of the contexts' templates. */
  readonly contextTemplates: readonly string[];
}

/** Reads both arrays and links what they refer to. */
export function readModel(
  top: { readonly Transports?: unknown; readonly Contexts?: unknown },
  options: CheckOptions,
): Model {
  const { faults } = options;
  const allTransports = readEntries("transport", top.Transports, options);
  const allContexts = readEntries("context", top.Contexts, options);
  linkTemplates(allTransports, faults);
  linkTemplates(allContexts, faults);
  const transports = allTransports.filter((entry) => !entry.isTemplate);
  const contexts = allContexts.filter((entry) => !entry.isTemplate);
  checkNames(allContexts, faults);
  checkIds(transports, faults);
  checkIds(contexts, faults);
  checkScopes(transports, contexts, faults);
  const find = createFinder(transports, faults);
  const nodes = contexts.map((entry) => ({
    entry,
    name: ownText(entry, "Name"),
    id: idOf(entry),
    tx: findRoutes(entry, "TxTopics", find, faults),
    rx: findRoutes(entry, "RxTopics", find, faults),
  }));
  const contextTemplates = allContexts
    .filter((entry) => entry.isTemplate)
    .map((entry) => ownText(entry, "Name"));
  return { transports, nodes, contextTemplates };
}

/** Contexts are found by name: each has one, for itself. */
function checkNames(contexts: readonly Entry<"context">[], faults: Faults): void {
  const names = new Map<string, Entry>();
  for (const entry of contexts) {
    const name = ownText(entry, "Name");
    const at = placeOf(entry, "Name");
    if (name === "") {
      const isTold = entry.wrong.has("Name") || entry.isTemplate;
      if (!isTold) faults.expected(at, "the context's name", "nothing");
    } else if (names.has(name)) {
      faults.expected(at, "each context's name once", sameAs(name, names.get(name)));
    } else {
      names.set(name, entry);
    }
  }
}

function checkIds(entries: readonly Entry[], faults: Faults): void {
  const ids = new Map<number, Entry>();
  for (const entry of entries) {
    const id = idOf(entry);
    if (id === 0) continue;
    const first = ids.get(id);
    if (first === undefined) ids.set(id, entry);
    else {
      const what = `each ${entry.kind}'s Id once`;
      faults.expected(placeOf(entry, "Id"), what, sameAs(id, first));
    }
  }
}

function checkScopes(
  transports: readonly Entry<"transport">[],
  contexts: readonly Entry<"context">[],
  faults: Faults,
): void {
  const names = new Set(contexts.map((entry) => ownText(entry, "Name")));
  for (const entry of transports) {
    const scope = ownText(entry, "Context");
    if (scope === "" || names.has(scope)) continue;
    const at = placeOf(entry, "Context");
    faults.expected(at, "a context's name", show(scope), suggestion(scope, names));
  }
}

/** What a context finds for its topics. */
interface Finder {
  /** Transports by partition for a context: those of its own first, in the file's order. */
  partitions(context: string, topic: string): ReadonlyMap<number, Entry<"transport">> | undefined;
  /** True: a transport of the topic has a partition that can't be told. */
  isUncertain(topic: string): boolean;
  /** Topics that a context finds. */
  topics(context: string): readonly string[];
}

function createFinder(transports: readonly Entry<"transport">[], faults: Faults): Finder {
  /** By scope, topic, partition; scope "" is everybody's. */
  const scopes = new Map<string, Map<string, Map<number, Entry<"transport">>>>();
  const uncertain = new Set<string>();
  for (const entry of transports) {
    const topic = look(entry, "Topic");
    const partition = look(entry, "PartitionNo");
    if (topic.value === undefined) {
      if (topic.isKnown) faults.expected(topic.at, "a topic's name", "nothing");
      continue;
    }
    if (!partition.isKnown) {
      uncertain.add(topic.value);
      continue;
    }
    if (entry.wrong.has("Context")) continue;
    const scope = ownText(entry, "Context");
    const topics = getOrMake(scopes, scope, () => new Map());
    const partitions = getOrMake(topics, topic.value, () => new Map<number, Entry<"transport">>());
    const first = partitions.get(partition.value);
    if (first === undefined) partitions.set(partition.value, entry);
    else {
      const whose = scope === "" ? "" : ` for context ${show(scope)}`;
      const what = `each partition of a topic once${whose}`;
      const found = sameAs(`${topic.value}.${partition.value}`, first);
      faults.expected({ path: entry.path, label: entry.label }, what, found);
    }
  }

  function partitions(context: string, topic: string) {
    const own = scopes.get(context)?.get(topic);
    const everybody = scopes.get("")?.get(topic);
    if (own === undefined || context === "") return everybody;
    const chosen = [...new Map([...everybody ?? [], ...own])];
    return new Map(chosen.sort(([, a], [, b]) => a.index - b.index));
  }

  return {
    partitions,
    isUncertain: (topic) => uncertain.has(topic),
    topics: (context) => [
      ...new Set([
        ...scopes.get(context)?.keys() ?? [],
        ...scopes.get("")?.keys() ?? [],
        ...uncertain,
      ]),
    ],
  };
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const old = map.get(key);
  if (old !== undefined) return old;
  const made = make();
  map.set(key, made);
  return made;
}

function findRoutes(
  entry: Entry<"context">,
  list: "TxTopics" | "RxTopics",
  find: Finder,
  faults: Faults,
): Routes {
  const { value: topics, at, isKnown } = look(entry, list);
  const context = ownText(entry, "Name");
  const all: Route[] = [];
  const chosen = new Set<Entry<"transport">>();
  const lanes: string[] = [];
  let isWhole = isKnown;
  for (const [index, { name, partitions: wanted }] of topics.entries()) {
    const here = { ...at, path: `${at.path}[${index}]` };
    if (name === undefined) {
      isWhole = false;
      continue;
    }
    const known = find.partitions(context, name);
    const isUncertain = find.isUncertain(name);
    if (!lanes.includes(name)) lanes.push(name);
    if (wanted === null || isUncertain) isWhole = false;
    if (known === undefined) {
      isWhole = false;
      if (isUncertain) continue;
      const place = { ...here, path: `${here.path}.Name` };
      const hint = suggestion(name, find.topics(context));
      faults.expected(place, "a topic that has a transport", show(name), hint);
      continue;
    }
    const lane = lanes.indexOf(name);
    for (const [place, partitionNo] of (wanted ?? [...known.keys()]).entries()) {
      const path = wanted ? `${here.path}.Partitions[${place}]` : `${here.path}.Name`;
      const transport = known.get(partitionNo);
      if (transport === undefined) {
        isWhole = false;
        if (isUncertain) continue;
        const what = `a partition of ${show(name)} that has a transport`;
        const nearest = nearestNumber(partitionNo, [...known.keys()]);
        const hint = `; it has ${[...known.keys()].join(", ")}, the nearest is ${nearest}`;
        faults.expected({ ...here, path }, what, `${partitionNo}`, hint);
      } else if (chosen.has(transport)) {
        const what = "each topic and partition once";
        faults.expected({ ...here, path }, what, `${show(`${name}.${partitionNo}`)} again`);
      } else {
        chosen.add(transport);
        all.push({ topic: name, partitionNo, transport, lane });
      }
    }
  }
  return { all, isWhole };
}

function nearestNumber(wanted: number, known: readonly number[]): number {
  return known.reduce((best, one) => Math.abs(one - wanted) < Math.abs(best - wanted) ? one : best);
}
