/** One context of a checked configuration, with all that it needs to start. */

import { RcmError } from "../errors.ts";
import { contextValues, defaultOf, type Entry, type Found, idOf, look } from "./entries.ts";
import { show } from "./faults.ts";
import { splitAddresses } from "./formats.ts";
import type { ContextValues } from "./key_types.ts";
import { BUILT_PARTS, keysAt, UNBUILT_VALUES } from "./keys.ts";
import type { LoadedConfig } from "./load.ts";
import type { Model, Node, Route, Routes } from "./model.ts";
import { type ResolvedTier, resolveTier } from "./tier.ts";
import { suggestion } from "./names.ts";

const MIB = 2 ** 20;
const KIB = 2 ** 10;

/** A context that the configuration lets receive a topic and partition. */
export interface ConfiguredReceiver {
  readonly id: number;
  readonly name: string;
  /** Reads the sender's window in place (`UseSharedMemory`, `ShmContext`). */
  readonly shared: boolean;
  /** Its tier's name: the tier as a whole acknowledges; "" for a single node. */
  readonly tier: string;
  /** Observes its tier: what it has does not count. */
  readonly observer: boolean;
}

/** A context whose window is read in place. */
export interface InPlaceSender {
  readonly id: number;
  readonly name: string;
}

/** A transport as a context sees it. Times are in milliseconds. */
export interface ResolvedTransport {
  readonly transportId: number;
  readonly partitionNo: number;
  /** One multicast group, or unicast addresses; none: shared memory only. */
  readonly addrs: readonly string[];
  /** 0: there are no addresses. */
  readonly port: number;
  /** Limit of IP packets in bytes: the transport's, else the context's. */
  readonly mtu: number;
  readonly heartbeatIntervalMs: number;
  readonly heartbeatTimeoutMs: number;
  readonly ackIntervalMs: number;
  readonly ackTimeoutMs: number;
  /** "" or 64 hexadecimal digits: the transport's, else the context's. */
  readonly groupKey: string;
}

/** A topic and partition that is sent. */
export interface ResolvedTxPartition extends ResolvedTransport {
  /** True: the network thread sends (`AsynchronousRms`). */
  readonly asynchronous: boolean;
  /** True: a receiver without progress is disconnected (`SlowReceiver`). */
  readonly slowDisconnect: boolean;
  /** Every context whose `RxTopics` come to this transport, observers and the sender included. */
  readonly receivers: readonly ConfiguredReceiver[];
  /** True: receivers on this machine may read the window in place (`UseSharedMemory`). */
  readonly sharedMemory: boolean;
}

/** A topic that is sent. */
export interface ResolvedTx {
  readonly topic: string;
  /** Ascending by number. */
  readonly partitions: readonly ResolvedTxPartition[];
}

/** A topic and partition that is received. */
export interface ResolvedRx extends ResolvedTransport {
  readonly topic: string;
  /** Index of the topic in `RxTopics`, from 0 (guide 7.2.7). */
  readonly lane: number;
  /** Contexts whose windows are read in place. */
  readonly inPlace: readonly InPlaceSender[];
  /** True: it may come from the network too. */
  readonly network: boolean;
}

/** What a context as a whole needs to start, in the units of the native side. */
export interface ResolvedBasics {
  readonly name: string;
  readonly id: number;
  readonly clusterId: number;
  /** An address, or a network `a.b.c.d/n`; "": shared memory only. */
  readonly ip: string;
  readonly threading: ContextValues["Threading"];
  readonly waitStrategy: ContextValues["WaitStrategy"];
  readonly bindCoreId: number;
  readonly mcLoop: boolean;
  readonly ttl: number;
  readonly socketBufferBytes: number;
  readonly repairPortStart: number;
  readonly repairPortEnd: number;
  readonly repairPort: number;
  readonly sendWindowSize: number;
  readonly arenaBytes: number;
  readonly maxCacheMsgCount: number;
  readonly receiveBytes: number;
  readonly isHandshake: boolean;
  readonly startTimeoutMs: number;
  readonly isTotalOrder: boolean;
  readonly usePreAllocate: boolean;
  /** Kept for the latency statistics; 0: none are taken. */
  readonly latencySamples: number;
  /**
   * The id that streams of a tier's members go by (guide 9.9.1): the lowest id of its contexts,
   * observers aside, so that all of them know it; 0 for a single node.
   */
  readonly txTierId: number;
  /** The name that they go by: the tier's; "" for a single node. */
  readonly txTierName: string;
}

/** How a context records what it receives, if it does. */
export interface ResolvedRecord {
  /** Parent of the context's folder; relative to the factory's `workDir`, "" for that itself. */
  readonly directory: string;
  readonly fileBytes: number;
  readonly sync: ContextValues["RecordSync"];
  /** First sequence number that is delivered again. */
  readonly replayFrom: number;
}

/** A context as configured, templates and defaults applied. */
export interface ResolvedContext {
  readonly context: ResolvedBasics;
  /** Its tier's name; the context's own for a single node. */
  readonly tierName: string;
  /** null: a single node. */
  readonly tier: ResolvedTier | null;
  readonly isRecord: boolean;
  readonly record: ResolvedRecord;
  /** In the order of `TxTopics`. */
  readonly tx: readonly ResolvedTx[];
  /** In the order of `RxTopics`. */
  readonly rx: readonly ResolvedRx[];
  /** All values by key, named as in the file. */
  readonly values: ContextValues;
  /**
   * Paths of the keys that this version can't act on, for example
   * `Rcm.Contexts[0].IsTotalOrder (Default)`; empty: the context can be created.
   */
  readonly unsupportedKeys: readonly string[];
}

/** What statistics and events say of a transport. */
export interface TransportInfo {
  readonly topic: string;
  readonly partitionNo: number;
  readonly addrs: readonly string[];
  readonly port: number;
}

/**
 * Looks a context up.
 *
 * @param call name of the function that was asked, for the message
 * @throws RcmError `ARGUMENT` with the nearest name when there is none, or it is a template
 */
export function resolveContext(
  loaded: LoadedConfig,
  name: string,
  call = "newRcmContext",
): ResolvedContext {
  const { model, clusterId } = loaded;
  const node = findNode(model, name);
  if (node === undefined) {
    throw new RcmError("ARGUMENT", `${call}: ${unknownContext(loaded, name)}`);
  }
  const { entry } = node;
  const values = valuesOf(entry);
  const senders = nodesByTransport(model, "tx");
  return {
    context: basicsOf(node, clusterId, values, model),
    tierName: values.IsSingleton ? node.name : values.TierName,
    tier: resolveTier(model, node, values),
    isRecord: values.IsRecord,
    record: {
      directory: values.RecordDir ?? "",
      fileBytes: values.RecordSegmentMBytes * 2 ** 20,
      sync: values.RecordSync,
      replayFrom: values.RecordReplayStartPoint,
    },
    tx: txOf(node, model),
    rx: node.rx.all.map((route) => ({
      ...transportOf(route, entry),
      topic: route.topic,
      lane: route.lane,
      ...originsOf(node, route, senders.get(route.transport) ?? []),
    })),
    values,
    unsupportedKeys: unsupportedKeys(node),
  };
}

/**
 * @returns why there is no context of a name, with the nearest that there is; begins in lower case
 */
export function unknownContext({ origin, model }: LoadedConfig, name: unknown): string {
  if (typeof name !== "string") return `a context's name is a string, not ${show(name)}`;
  const hint = suggestion(name, model.nodes.map((node) => node.name));
  return model.contextTemplates.includes(name)
    ? `${show(name)} is a template of ${origin}: it has no Id${hint}`
    : `there is no context ${show(name)} in ${origin}${hint}`;
}

/** @returns what a transport's number stands for; undefined: there is none */
export function transportInfo(
  { model }: LoadedConfig,
  transportId: number,
): TransportInfo | undefined {
  const entry = model.transports.find((one) => idOf(one) === transportId);
  if (entry === undefined) return undefined;
  return {
    topic: look(entry, "Topic").value ?? "",
    partitionNo: look(entry, "PartitionNo").value,
    ...addressesOf(entry),
  };
}

/** @returns the name of a context by its number; "": there is none */
export function contextName({ model }: LoadedConfig, contextId: number): string {
  return model.nodes.find((node) => node.id === contextId)?.name ?? "";
}

/** Contexts that {@linkcode contextNames} tells of at most: their text lies in shared memory. */
const NAMES_MAX = 4096;

/** @returns ids and names of contexts, in the order of the file; the first ones of very many */
export function contextNames(
  { model }: LoadedConfig,
): readonly { readonly id: number; readonly name: string }[] {
  return model.nodes.slice(0, NAMES_MAX).map(({ id, name }) => ({ id, name }));
}

/** @returns a context by its name, templates aside */
export function findNode(model: Model, name: string): Node | undefined {
  return model.nodes.find((node) => node.name === name);
}

/** With the defaults that other keys give. */
function valuesOf(entry: Entry<"context">): ContextValues {
  const values = contextValues(entry, keysAt("context").map((key) => key.name));
  return {
    ...values,
    SyncIp: values.SyncIp ?? values.Ip,
    AckCount: values.AckCount === 0 ? 1 : values.AckCount,
  };
}

function basicsOf(
  node: Node,
  clusterId: number,
  values: ContextValues,
  model: Model,
): ResolvedBasics {
  return {
    name: node.name,
    id: node.id,
    clusterId,
    ip: values.Ip ?? "",
    threading: values.Threading,
    waitStrategy: values.WaitStrategy,
    bindCoreId: values.BindCoreId,
    mcLoop: values.McLoop,
    ttl: values.TTL,
    socketBufferBytes: values.SocketBufferSizeKBytes * KIB,
    repairPortStart: values.RepairPortStart,
    repairPortEnd: values.RepairPortEnd,
    repairPort: values.RepairPort,
    sendWindowSize: values.SendWindowSize,
    arenaBytes: values.MaxMemoryAllowedMBytes * MIB,
    maxCacheMsgCount: values.MaxCacheMsgCount,
    receiveBytes: values.ReceiveMemoryMBytes * MIB,
    isHandshake: values.IsHandshake,
    startTimeoutMs: values.StartTimeoutSecs * 1000,
    isTotalOrder: values.IsTotalOrder,
    usePreAllocate: values.UsePreAllocate,
    latencySamples: values.LatencyStatisticCount,
    txTierId: values.IsSingleton ? 0 : tierId(model, values.TierName),
    txTierName: values.IsSingleton ? "" : values.TierName,
  };
}

/** @returns the lowest id of a tier's members; of its observers where it has none */
function tierId(model: Model, tier: string): number {
  const contexts = model.nodes.filter(({ entry }) => placeInTier(entry).tier === tier);
  const members = contexts.filter(({ entry }) => !placeInTier(entry).observer);
  return Math.min(...(members.length > 0 ? members : contexts).map(({ id }) => id));
}

/** True where a receiver reads a sender's window of a transport in place (guide 7.2.6). */
function readsInPlace(receiver: Node, sender: Node, transport: Entry<"transport">): boolean {
  // What a tier sends comes from whoever leads, and what it receives all its members take.
  const isAlone = ({ entry }: Node) => look(entry, "IsSingleton").value;
  return look(transport, "UseSharedMemory").value && isAlone(sender) && isAlone(receiver) &&
    look(receiver.entry, "ShmContext").value.includes(sender.name);
}

/** What a sender has to know of a receiver's tier. */
function placeInTier(entry: Entry<"context">): Pick<ConfiguredReceiver, "tier" | "observer"> {
  if (look(entry, "IsSingleton").value) return { tier: "", observer: false };
  return { tier: look(entry, "TierName").value, observer: look(entry, "IsObserver").value };
}

/** Where a received transport comes from: windows on this machine, the network, or both. */
function originsOf(
  node: Node,
  { transport }: Route,
  senders: readonly Node[],
): Pick<ResolvedRx, "inPlace" | "network"> {
  const inPlace = senders.filter((sender) => readsInPlace(node, sender, transport));
  return {
    inPlace: inPlace.map(({ id, name }) => ({ id, name })),
    network: inPlace.length === 0 || inPlace.length < senders.length,
  };
}

function txOf(node: Node, model: Model): readonly ResolvedTx[] {
  const { entry, tx } = node;
  const receivers = nodesByTransport(model, "rx");
  const topics = new Map<string, ResolvedTxPartition[]>();
  for (const route of tx.all) {
    const { transport } = route;
    const partition = {
      ...transportOf(route, entry),
      asynchronous: look(transport, "AsynchronousRms").value,
      slowDisconnect: look(transport, "SlowReceiver").value === "disconnect",
      receivers: (receivers.get(transport) ?? []).map((receiver) => ({
        id: receiver.id,
        name: receiver.name,
        shared: readsInPlace(receiver, node, transport),
        ...placeInTier(receiver.entry),
      })),
      sharedMemory: look(transport, "UseSharedMemory").value && look(entry, "IsSingleton").value,
    };
    const partitions = topics.get(route.topic);
    if (partitions === undefined) topics.set(route.topic, [partition]);
    else partitions.push(partition);
  }
  return [...topics].map(([topic, partitions]) => ({
    topic,
    partitions: partitions.sort((a, b) => a.partitionNo - b.partitionNo),
  }));
}

/** Who receives or sends a transport, in the order of `Contexts`. */
function nodesByTransport(
  model: Model,
  side: "tx" | "rx",
): ReadonlyMap<Entry<"transport">, readonly Node[]> {
  const nodes = new Map<Entry<"transport">, Node[]>();
  for (const node of model.nodes) {
    for (const { transport } of node[side].all) {
      const others = nodes.get(transport);
      if (others === undefined) nodes.set(transport, [node]);
      else others.push(node);
    }
  }
  return nodes;
}

function transportOf(route: Route, context: Entry<"context">): ResolvedTransport {
  const { transport, partitionNo } = route;
  return {
    transportId: idOf(transport),
    partitionNo,
    ...addressesOf(transport),
    mtu: nearer(look(transport, "MTU"), look(context, "MTU")),
    heartbeatIntervalMs: look(transport, "HeartbeatIntervalMilli").value,
    heartbeatTimeoutMs: look(transport, "HeartbeatTimeoutMilli").value,
    ackIntervalMs: look(transport, "AckIntervalMilli").value,
    ackTimeoutMs: look(transport, "AckTimeoutMilli").value,
    groupKey: nearer(look(transport, "GroupKey"), look(context, "GroupKey")) ?? "",
  };
}

function addressesOf(transport: Entry<"transport">) {
  const { value: addr } = look(transport, "Addr");
  const { value: port } = look(transport, "Port");
  if (addr === undefined) return { addrs: [], port: 0 };
  return { addrs: splitAddresses(addr), port: port ?? 0 };
}

/** The transport's value wins where it has one. */
function nearer<T>(transport: Found<T>, context: Found<T>): T {
  return transport.isGiven ? transport.value : context.value;
}

function unsupportedKeys({ entry, tx, rx }: Node): readonly string[] {
  const transports = [...tx.all, ...rx.all].map((route) => route.transport);
  const found = [...new Set(transports), entry].flatMap(unsupportedOf);
  return [...new Set([...found, ...unsupportedOfTier(entry, tx, rx)])];
}

/** What single nodes can do and a tier can't. */
function unsupportedOfTier(entry: Entry<"context">, tx: Routes, rx: Routes): readonly string[] {
  if (look(entry, "IsSingleton").value) return [];
  // Members that send number alike from 0 on, or go on: none asks receivers for another number.
  const handshake = look(entry, "IsHandshake");
  const isAsked = handshake.value && tx.all.length > 0;
  // A tier's streams go over the network; one that has no address can't.
  const withoutAddr = [...tx.all, ...rx.all]
    .filter(({ transport }) => !look(transport, "Addr").isGiven)
    .map(({ transport }) => look(transport, "UseSharedMemory").at);
  // What its members acknowledge to each other does not wait for their disks.
  const sync = look(entry, "RecordSync");
  const isForced = sync.value === "commit";
  // `createTierSync` says from which transaction on a program is given them again; and without
  // transactions none is replicated later than the others.
  const hasResults = look(entry, "SyncMode").value !== 0;
  const replay = look(entry, "RecordReplayStartPoint");
  const later = look(entry, "TierAsync");
  const isReplayed = hasResults && replay.value !== 0;
  const isLater = !hasResults && later.value;
  const keys = [
    ...(isAsked ? [handshake.at] : []),
    ...(isForced ? [sync.at] : []),
    ...(isReplayed ? [replay.at] : []),
    ...(isLater ? [later.at] : []),
  ];
  return [...keys, ...withoutAddr].map(pathText);
}

function unsupportedOf(entry: Entry): readonly string[] {
  return keysAt(entry.kind).flatMap((key) => {
    const unbuilt = UNBUILT_VALUES[key.name];
    if (BUILT_PARTS.has(key.part) && unbuilt === undefined) return [];
    // The table's names are those of the kind's values.
    const { value, at } = look(entry as Entry<"context">, key.name as keyof ContextValues);
    if (unbuilt !== undefined && !unbuilt.includes(value)) return [];
    const isDefault = Array.isArray(value)
      ? value.length === 0
      : value === defaultOf(key) || isSameThing(entry as Entry<"context">, key.name, value);
    return isDefault ? [] : [pathText(at)];
  });
}

function pathText({ path, label }: Found<unknown>["at"]): string {
  return `${path}${label === "" ? "" : ` (${label})`}`;
}

/** Values that are written another way than the default and mean the same. */
function isSameThing(entry: Entry<"context">, name: string, value: unknown): boolean {
  if (name === "AckCount") return value === 0;
  return name === "SyncIp" && value === look(entry, "Ip").value;
}

/** @returns what `getRcmContextConfig` shows of a topic's transports: the list's own order */
export function routesByTopic(
  routes: readonly Route[],
): readonly { readonly name: string; readonly partitionNos: readonly number[] }[] {
  const topics = new Map<string, number[]>();
  for (const { topic, partitionNo } of routes) {
    const numbers = topics.get(topic);
    if (numbers === undefined) topics.set(topic, [partitionNo]);
    else numbers.push(partitionNo);
  }
  return [...topics].map(([name, partitionNos]) => ({ name, partitionNos }));
}
