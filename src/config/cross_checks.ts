/** Faults that two keys or two entries have together, and keys that others make necessary. */

import { type Entry, type Found, look } from "./entries.ts";
import { type Faults, show } from "./faults.ts";
import { splitAddresses } from "./formats.ts";
import type { ContextValues } from "./key_types.ts";
import type { Model, Node, Routes } from "./model.ts";
import { suggestion } from "./names.ts";

/** Checks everything that is not a key's own. */
export function checkAcross(model: Model, faults: Faults): void {
  for (const transport of model.transports) checkTransport(transport, faults);
  const names = new Set(model.nodes.map((node) => node.name).filter((name) => name !== ""));
  for (const node of model.nodes) checkNode(node, names, faults);
  for (const node of model.nodes) checkOrigins(node, model.nodes, faults);
  for (const [name, members] of tiersOf(model.nodes)) checkTier(name, members, faults);
}

function checkTransport(entry: Entry<"transport">, faults: Faults): void {
  checkLonger(
    ofTransport(entry, "HeartbeatIntervalMilli"),
    ofTransport(entry, "HeartbeatTimeoutMilli"),
    faults,
  );
  checkLonger(
    ofTransport(entry, "AckIntervalMilli"),
    ofTransport(entry, "AckTimeoutMilli"),
    faults,
  );
  const addr = look(entry, "Addr");
  const port = look(entry, "Port");
  const shared = look(entry, "UseSharedMemory");
  if (!addr.isGiven && addr.isKnown && shared.isKnown && !shared.value) {
    faults.expected(addr.at, "an address, because UseSharedMemory is 0", "nothing");
  }
  if (addr.isGiven && !port.isGiven && port.isKnown) {
    faults.expected(port.at, "a port, because there is an Addr", "nothing");
  }
}

function checkNode(node: Node, names: ReadonlySet<string>, faults: Faults): void {
  const { entry } = node;
  checkLonger(
    ofContext(entry, "SyncHeartbeatIntervalMilli"),
    ofContext(entry, "SyncHeartbeatTimeoutMilli"),
    faults,
  );
  checkLonger(
    ofContext(entry, "SyncAckIntervalMilli"),
    ofContext(entry, "SyncAckTimeoutMilli"),
    faults,
  );
  checkRange(ofContext(entry, "RepairPortStart"), ofContext(entry, "RepairPortEnd"), faults);
  checkRange(
    ofContext(entry, "SyncRepairPortStart"),
    ofContext(entry, "SyncRepairPortEnd"),
    faults,
  );
  checkRepairPort(node, faults);
  checkInterface(node, faults);
  checkShmContext(entry, names, faults);
  const singleton = look(entry, "IsSingleton");
  if (!singleton.isKnown) return;
  if (singleton.value) checkSingleton(entry, faults);
  else checkMember(node, faults);
}

/** A number by the name of its key. */
interface Named {
  readonly name: string;
  readonly found: Found<number>;
}

type Period = `${"Heartbeat" | "Ack"}${"Interval" | "Timeout"}Milli`;

function ofTransport(entry: Entry<"transport">, name: Period): Named {
  return { name, found: look(entry, name) };
}

function ofContext(
  entry: Entry<"context">,
  name: `Sync${Period}` | `${"" | "Sync"}RepairPort${"Start" | "End"}`,
): Named {
  return { name, found: look(entry, name) };
}

/** A time-out has to be longer than the period of what it waits for. */
function checkLonger(interval: Named, timeout: Named, faults: Faults): void {
  const short = interval.found;
  const long = timeout.found;
  if (!short.isKnown || !long.isKnown || long.value > short.value) return;
  // The line stands where it was written, so that a template's fault is told once.
  if (long.isGiven || !short.isGiven) {
    faults.expected(long.at, `more than ${interval.name}, ${short.value}`, `${long.value}`);
  } else {
    faults.expected(short.at, `less than ${timeout.name}, ${long.value}`, `${short.value}`);
  }
}

function checkRange(start: Named, end: Named, faults: Faults): void {
  const low = start.found;
  const high = end.found;
  if (!low.isKnown || !high.isKnown || low.value <= high.value) return;
  if (low.isGiven) faults.expected(low.at, `at most ${end.name}, ${high.value}`, `${low.value}`);
  else faults.expected(high.at, `at least ${start.name}, ${low.value}`, `${high.value}`);
}

/** One port serves one sender. */
function checkRepairPort({ entry, tx }: Node, faults: Faults): void {
  const fixed = look(entry, "RepairPort");
  if (!fixed.isKnown || fixed.value === 0 || tx.all.length <= 1) return;
  const what = "0, because the context sends more than one topic and partition " +
    `(${routesText(tx)})`;
  faults.expected(fixed.at, what, `${fixed.value}`);
}

function routesText({ all }: Routes): string {
  return all.map(({ topic, partitionNo }) => `${topic}.${partitionNo}`).join(", ");
}

/** Whoever has to do with the network needs an interface; a transport without `Addr` has not. */
function checkInterface({ entry, tx, rx }: Node, faults: Faults): void {
  const ip = look(entry, "Ip");
  if (ip.isGiven || !ip.isKnown) return;
  const routes = [...tx.all, ...rx.all];
  const isShared = ({ transport }: (typeof routes)[number]) => {
    const addr = look(transport, "Addr");
    return !addr.isGiven || !addr.isKnown;
  };
  if (routes.length > 0 && routes.every(isShared)) return;
  if (routes.length === 0 && !(tx.isWhole && rx.isWhole)) return;
  faults.expected(ip.at, "the address or network of an interface", "nothing");
}

function checkShmContext(
  entry: Entry<"context">,
  names: ReadonlySet<string>,
  faults: Faults,
): void {
  const shm = look(entry, "ShmContext");
  if (!shm.isKnown) return;
  for (const [index, name] of shm.value.entries()) {
    if (names.has(name)) continue;
    const path = shm.value.length === 1 ? shm.at.path : `${shm.at.path}[${index}]`;
    const at = { ...shm.at, path };
    faults.expected(at, "a context's name", show(name), suggestion(name, names));
  }
}

/** What has no address is received in place, or not at all. */
function checkOrigins(node: Node, nodes: readonly Node[], faults: Faults): void {
  const shm = look(node.entry, "ShmContext");
  if (!shm.isKnown) return;
  const senders = nodes.filter(({ name }) => shm.value.includes(name));
  const isCertain = senders.every(({ tx }) => tx.isWhole) &&
    shm.value.every((name) => senders.some((sender) => sender.name === name));
  if (!isCertain) return; // That is told already.
  for (const { topic, partitionNo, transport } of node.rx.all) {
    const addr = look(transport, "Addr");
    const shared = look(transport, "UseSharedMemory");
    if (addr.isGiven || !addr.isKnown || !shared.isKnown || !shared.value) continue;
    if (senders.some(({ tx }) => tx.all.some((route) => route.transport === transport))) continue;
    const what = `a context that sends ${topic}.${partitionNo}, because that has no Addr`;
    faults.expected(shm.at, what, shm.value.map(show).join(", ") || "nothing");
  }
}

function checkSingleton(entry: Entry<"context">, faults: Faults): void {
  const observer = look(entry, "IsObserver");
  if (observer.isKnown && observer.value) {
    faults.expected(observer.at, "0, because IsSingleton is 1", "1");
  }
  const tier = look(entry, "TierName");
  if (tier.isKnown && tier.value !== "") {
    faults.expected(tier.at, "no tier, because IsSingleton is 1", show(tier.value));
  }
}

/** Guide 7.2.8 and 7.2.10: what a member of a tier needs, and what it must not have. */
function checkMember({ entry, rx }: Node, faults: Faults): void {
  const because = "because IsSingleton is 0";
  const tier = look(entry, "TierName");
  if (tier.isKnown && tier.value === "") {
    faults.expected(tier.at, `the tier's name, ${because}`, "nothing");
  }
  const group = look(entry, "SyncAddr");
  if (group.isKnown && group.value === undefined) {
    faults.expected(group.at, `the tier's multicast group, ${because}`, "nothing");
  }
  const port = look(entry, "SyncPort");
  if (port.isKnown && port.value === undefined) {
    faults.expected(port.at, `the tier's port, ${because}`, "nothing");
  }
  const order = look(entry, "IsTotalOrder");
  if (order.isKnown && !order.value) faults.expected(order.at, `1, ${because}`, "0");
  const ip = look(entry, "Ip");
  const syncIp = look(entry, "SyncIp");
  // Without Ip (shared memory only) the tier still needs an interface.
  if (!ip.isGiven && ip.isKnown && !syncIp.isGiven && syncIp.isKnown) {
    faults.expected(syncIp.at, `an interface for the tier, ${because}`, "nothing");
  }
  checkReceived(entry, rx, group.value, faults);
}

function checkReceived(
  entry: Entry<"context">,
  rx: Routes,
  syncAddr: string | undefined,
  faults: Faults,
): void {
  let first: { readonly topic: string; readonly port: number } | undefined;
  for (const { topic, partitionNo, transport } of rx.all) {
    const addr = look(transport, "Addr");
    if (syncAddr !== undefined && splitAddresses(addr.value ?? "").includes(syncAddr)) {
      const what = `another group than that of the received topic ${topic}.${partitionNo}`;
      faults.expected(look(entry, "SyncAddr").at, what, show(syncAddr));
    }
    const port = look(transport, "Port");
    if (!port.isKnown || port.value === undefined) continue;
    if (first === undefined) first = { topic: `${topic}.${partitionNo}`, port: port.value };
    if (port.value === first.port) continue;
    const receiver = look(entry, "TierName").value || entry.label;
    const what =
      `the port of ${first.topic}, ${first.port}, because tier ${receiver} receives both`;
    faults.expected(port.at, what, `${port.value}`);
  }
}

/** Members by the name of their tier. */
function tiersOf(nodes: readonly Node[]): ReadonlyMap<string, readonly Node[]> {
  const tiers = new Map<string, Node[]>();
  for (const node of nodes) {
    const singleton = look(node.entry, "IsSingleton");
    const tier = look(node.entry, "TierName");
    if (!singleton.isKnown || singleton.value || tier.value === "") continue;
    const members = tiers.get(tier.value);
    if (members === undefined) tiers.set(tier.value, [node]);
    else members.push(node);
  }
  return tiers;
}

/** What all members of a tier must agree on, besides the topics. */
const AGREED = ["SyncAddr", "SyncPort", "AckCount", "SyncMode", "UseCommitted"] as const;

function checkTier(tier: string, members: readonly Node[], faults: Faults): void {
  const [first, ...others] = members;
  if (first === undefined) return;
  const because = `as ${first.name} of the same tier ${tier}`;
  for (const node of others) {
    for (const list of ["RxTopics", "TxTopics"] as const) {
      const routes = list === "RxTopics" ? "rx" : "tx";
      if (!first[routes].isWhole || !node[routes].isWhole) continue;
      const wanted = sortedText(first[routes]);
      const found = sortedText(node[routes]);
      if (found === wanted) continue;
      const { at } = look(node.entry, list);
      faults.expected(at, `${wanted || "no topics"}, ${because}`, found || "none");
    }
    for (const name of AGREED) {
      const wanted = look(first.entry, name);
      const found = look(node.entry, name);
      if (!wanted.isKnown || !found.isKnown) continue;
      // A member without SyncAddr or SyncPort has been told of that.
      if (wanted.value === undefined || found.value === undefined) continue;
      if (agreedValue(name, wanted.value) === agreedValue(name, found.value)) continue;
      faults.expected(found.at, `${plain(wanted.value)}, ${because}`, plain(found.value));
    }
    checkTierKey(first, node, because, faults);
  }
  checkAckCount(tier, members, faults);
}

/** Keys are not shown. */
function checkTierKey(first: Node, node: Node, because: string, faults: Faults): void {
  const wanted = look(first.entry, "GroupKey");
  const found = look(node.entry, "GroupKey");
  if (!wanted.isKnown || !found.isKnown || wanted.value === found.value) return;
  const what = wanted.value === undefined ? "nothing" : "the same key";
  const other = wanted.value === undefined ? "a key" : "another one";
  faults.expected(found.at, `${what}, ${because}`, found.value === undefined ? "nothing" : other);
}

function sortedText({ all }: Routes): string {
  return all.map(({ topic, partitionNo }) => `${topic}.${partitionNo}`).sort().join(", ");
}

/** `AckCount` 0 means 1. */
function agreedValue(name: keyof ContextValues, value: unknown): unknown {
  return name === "AckCount" && value === 0 ? 1 : value;
}

function plain(value: string | number | boolean): string {
  return typeof value === "boolean" ? `${Number(value)}` : show(value);
}

/** The leader waits for followers: there are fewer of them than members. Observers do not count. */
function checkAckCount(tier: string, members: readonly Node[], faults: Faults): void {
  const observers = members.map(({ entry }) => look(entry, "IsObserver"));
  if (observers.some(({ isKnown }) => !isKnown)) return;
  const count = observers.filter(({ value }) => !value).length;
  if (count <= 1) return;
  for (const { entry } of members) {
    const acks = look(entry, "AckCount");
    if (!acks.isKnown || acks.value < count) continue;
    const what = `less than ${count}, the number of members of tier ${tier}`;
    faults.expected(acks.at, what, `${acks.value}`);
  }
}
