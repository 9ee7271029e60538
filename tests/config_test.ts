/**
 * The configuration: templates, scoping, faults, what contexts get.
 *
 * Long because each rule is a few lines.
 */

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import {
  configView,
  contextName,
  loadConfig,
  resolveContext,
  transportInfo,
  unknownContext,
} from "../src/config/mod.ts";
import { RcmError } from "../src/errors.ts";
import {
  asInput,
  change,
  guideFolder,
  guideSample,
  type Sample,
  simple,
  tier,
} from "./config_fixture.ts";

const load = (sample: unknown) => loadConfig(asInput(sample), { cores: 8 });

function thrown(run: () => unknown): RcmError {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof RcmError, String(error));
    return error;
  }
  return assert.fail("nothing thrown");
}

// The guide's samples

test("all complete samples of the guide load as they are", () => {
  const names = readdirSync(guideFolder).filter((name) => name.endsWith(".json"));
  assert.deepEqual(names.sort(), [
    "5_2_simple.json",
    "7_2_10_tier.json",
    "7_2_4_no_partitions.json",
    "7_2_5_load_balancing.json",
    "7_2_7_lanes.json",
    "7_2_8_total_order.json",
    "7_2_9_partition.json",
  ]);
  for (const name of names) loadConfig(new URL(name, guideFolder));
});

test("guide 5.2: client1 sends to server1 and server2", () => {
  const loaded = loadConfig(fileURLToPath(new URL("5_2_simple.json", guideFolder)));
  const client = resolveContext(loaded, "client1");
  assert.equal(client.context.id, 1);
  assert.equal(client.context.ip, "192.168.86.102", "from the template");
  assert.equal(client.tierName, "client1");
  assert.deepEqual(client.rx, []);
  assert.deepEqual(client.unsupportedKeys, []);
  assert.equal(client.tx.length, 1);
  assert.equal(client.tx[0]?.topic, "req");
  assert.deepEqual(client.tx[0]?.partitions.map(({ receivers }) => receivers), [
    [
      { id: 2, name: "server1", shared: false, tier: "", observer: false },
      { id: 3, name: "server2", shared: false, tier: "", observer: false },
    ],
  ]);
  const [rx] = resolveContext(loaded, "server2").rx;
  assert.deepEqual([rx?.transportId, rx?.topic, rx?.partitionNo, rx?.lane], [1, "req", 1, 0]);
});

test("guide 7.2.5 and 7.2.9: two partitions sent, one received", () => {
  const sender = resolveContext(load(guideSample("7_2_5_load_balancing.json")), "MiniContext");
  assert.deepEqual(sender.tx[0]?.partitions.map(({ partitionNo, addrs }) => [partitionNo, addrs]), [
    [1, ["239.0.1.1"]],
    [2, ["239.0.1.2"]],
  ]);
  const receiver = resolveContext(load(guideSample("7_2_9_partition.json")), "MiniContext");
  assert.deepEqual(receiver.rx.map(({ partitionNo }) => partitionNo), [1]);
});

test("guide 7.2.7: a lane for each topic", () => {
  const { rx, unsupportedKeys } = resolveContext(
    load(guideSample("7_2_7_lanes.json")),
    "MiniContext",
  );
  assert.deepEqual(rx.map(({ topic, lane }) => [topic, lane]), [["MiniTopic0", 0], [
    "MiniTopic1",
    1,
  ]]);
  assert.deepEqual(unsupportedKeys, []);
});

test("guide 7.2.10: values come from HaNode1, Tier and Default", () => {
  const { values, tierName, unsupportedKeys, context } = resolveContext(
    load(guideSample("7_2_10_tier.json")),
    "HaNode1",
  );
  assert.equal(tierName, "HaTest", "its own");
  assert.equal(values.SyncAddr, "239.4.1.1", "of Tier");
  assert.equal(values.IsSingleton, false, "of Tier, which wins over Default");
  assert.equal(values.UseSameMachine, true, "of Tier");
  assert.equal(context.ip, "192.168.86.102", "of Default");
  assert.equal(context.id, 2);
  assert.deepEqual(unsupportedKeys, []);
});

/** The text of a fragment of the guide. */
const fragment = (name: string) => readFileSync(new URL(name, guideFolder), "utf8").trim();

/** Loads a text through a file, as programs do. */
function loadText(text: string) {
  const folder = mkdtempSync(join(tmpdir(), "rcm-config-"));
  try {
    const path = join(folder, "rcm.json");
    writeFileSync(path, text);
    return loadConfig(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("guide 6.2.1: the tier's contexts merge into 5.2", () => {
  const whole = readFileSync(new URL("5_2_simple.json", guideFolder), "utf8");
  // The fragment ends with one brace too many; it goes behind the last context.
  const contexts = fragment("6_2_1_tier.fragment").replace(/\}\s*\}$/, "}");
  const end = whole.lastIndexOf("]");
  const loaded = loadText(`${whole.slice(0, end)}, ${contexts} ${whole.slice(end)}`);
  const node = resolveContext(loaded, "HaNode2");
  assert.equal(node.values.SyncRepairPortStart, 35000);
  assert.equal(node.values.SyncIp, "192.168.86.102");
  assert.equal(node.tierName, "HaTest");
  const receivers = resolveContext(loaded, "client1").tx[0]?.partitions[0]?.receivers;
  assert.deepEqual(receivers?.map(({ name, tier }) => [name, tier]), [
    ["server1", ""],
    ["server2", ""],
    ["HaNode1", "HaTest"],
    ["HaNode2", "HaTest"],
  ]);
  assert.deepEqual(receivers?.map(({ observer }) => observer), [false, false, false, false]);
});

test("guide 9.9.1: streams of a tier go by the lowest id of its members, and its name", () => {
  const sample = change(tier(), {
    "Contexts[1]": { TxTopics: [{ Name: "t" }], IsObserver: 1, ShmContext: "m2" },
    "Contexts[2]": { TxTopics: [{ Name: "t" }] },
    "Transports[0]": { UseSharedMemory: 1 },
  });
  const identity = (name: string) => {
    const { txTierId, txTierName } = resolveContext(load(sample), name).context;
    return [txTierId, txTierName];
  };
  assert.deepEqual(identity("a"), [0, ""], "a single node's is its own");
  assert.deepEqual(identity("m1"), [3, "T"], "an observer's id is nobody's");
  assert.deepEqual(identity("m2"), [3, "T"]);
  const sent = resolveContext(load(sample), "m2").tx[0]?.partitions[0];
  assert.equal(sent?.sharedMemory, false, "a tier's stream comes over the network");
  assert.deepEqual(resolveContext(load(sample), "m1").rx[0]?.inPlace, []);
  assert.deepEqual(
    resolveContext(load(sample), "a").tx[0]?.partitions[0]?.receivers,
    [
      { id: 2, name: "m1", shared: false, tier: "T", observer: true },
      { id: 3, name: "m2", shared: false, tier: "T", observer: false },
    ],
  );
});

test("a tier's streams go over the network: what has no Addr can't be its", () => {
  const sample = change(tier(), {
    "Contexts[1]": { ShmContext: "a" },
    "Contexts[2]": { ShmContext: "a" },
    "Transports[0]": { UseSharedMemory: 1 },
  });
  const { rx } = resolveContext(load(sample), "m1");
  assert.deepEqual([rx[0]?.inPlace, rx[0]?.network], [[], true]);
  delete sample.Rcm.Transports[0]?.["Addr"];
  delete sample.Rcm.Transports[0]?.["Port"];
  const { unsupportedKeys } = resolveContext(load(sample), "m1");
  const key = "Rcm.Transports[0].UseSharedMemory (t)";
  assert.ok(unsupportedKeys.includes(key), unsupportedKeys.join());
});

test("what a sending tier can't do is told by its keys", () => {
  const sample = change(tier(), {
    "Contexts[1]": { TxTopics: [{ Name: "t" }] },
    "Contexts[2]": { TxTopics: [{ Name: "t" }], IsHandshake: 1 },
  });
  const { unsupportedKeys } = resolveContext(load(sample), "m2");
  assert.ok(unsupportedKeys.includes("Rcm.Contexts[2].IsHandshake (m2)"), unsupportedKeys.join());
  const receiving = change(tier(), { "Contexts[2]": { IsHandshake: 1 } });
  const { unsupportedKeys: others } = resolveContext(load(receiving), "m2");
  assert.ok(!others.some((key) => key.includes("IsHandshake")), others.join());
});

test("guide 7.2.6: shared memory merges into 5.2", () => {
  const sample = guideSample("5_2_simple.json");
  change(sample, {
    "Transports[1]": { UseSharedMemory: 1 },
    "Contexts[2]": { ShmContext: ["ShmSender1", "ShmSender1"] },
  });
  sample.Rcm.Contexts.push({ Name: "ShmSender1", Id: 9, TxTopics: [{ Name: "req" }] });
  const receiver = resolveContext(load(sample), "server1");
  assert.deepEqual(receiver.values.ShmContext, ["ShmSender1", "ShmSender1"]);
  assert.deepEqual(receiver.unsupportedKeys, []);
  assert.deepEqual(receiver.rx[0]?.inPlace, [{ id: 9, name: "ShmSender1" }]);
  assert.equal(receiver.rx[0]?.network, true, "client1 sends it too");
  const sender = resolveContext(load(sample), "ShmSender1").tx[0]?.partitions[0];
  assert.equal(sender?.sharedMemory, true);
  assert.deepEqual(sender?.receivers.map(({ name, shared }) => [name, shared]), [
    ["server1", true],
    ["server2", false],
  ]);
});

test("guide 7.3: topics over multicast and over a list of addresses", () => {
  for (
    const [name, addrs] of [
      ["7_3_multicast.fragment", ["239.0.1.1"]],
      ["7_3_unicast.fragment", ["192.168.0.1", "192.168.0.2"]],
    ] as const
  ) {
    const context =
      '{ "Name": "c", "Id": 1, "Ip": "10.0.0.1", "TxTopics": [{"Name": "MiniTopic"}] }';
    const loaded = loadText(`{ "Rcm": { ${fragment(name)}, "Contexts": [${context}] } }`);
    assert.deepEqual(resolveContext(loaded, "c").tx[0]?.partitions[0]?.addrs, addrs);
  }
});

test("guide 8.3 and 8.9: windows, memory, packets, observers merge into 5.2", () => {
  const sample = change(guideSample("5_2_simple.json"), {
    "Transports[1]": { MTU: 1400 },
    "Contexts[1]": { SendWindowSize: 1024, MaxMemoryAllowedMBytes: 128, MTU: 1500 },
  });
  const client = resolveContext(load(sample), "client1");
  assert.equal(client.context.sendWindowSize, 1024);
  assert.equal(client.context.arenaBytes, 128 * 1024 * 1024);
  assert.equal(client.tx[0]?.partitions[0]?.mtu, 1400);
  assert.deepEqual(client.unsupportedKeys, []);
  change(sample, { "Contexts[1]": { SyncSendWindowSize: 1024 } });
  assert.equal(resolveContext(load(sample), "client1").values.SyncSendWindowSize, 1024);
  const observed = change(tier(), { "Contexts[2]": { IsObserver: true } });
  assert.equal(resolveContext(load(observed), "m2").values.IsObserver, true);
});

// Templates

test("the template Default applies to entries and templates without REF, not to itself", () => {
  const sample = simple();
  sample.Rcm.Contexts.push(
    { Name: "Default", TTL: 1, SendWindowSize: 10, StartTimeoutSecs: 9 },
    { Name: "Middle", SendWindowSize: 20 },
    { Name: "c", Id: 3, REF: "Middle", Ip: "127.0.0.1", StartTimeoutSecs: 8 },
  );
  const loaded = load(sample);
  const { values } = resolveContext(loaded, "c");
  assert.deepEqual([values.TTL, values.SendWindowSize, values.StartTimeoutSecs], [1, 20, 8]);
  assert.equal(resolveContext(loaded, "a").values.SendWindowSize, 10);
});

test("REF wins over Default; a template may stand behind its users", () => {
  const sample = change(simple(), { "Contexts[0]": { REF: "Other" } });
  sample.Rcm.Contexts.push(
    { Name: "Other", REF: "Root", TTL: 2 },
    { Name: "Root", REF: "Default", MaxCacheMsgCount: 3 },
    { Name: "Default", TTL: 1, StartTimeoutSecs: 4 },
  );
  const { values } = resolveContext(load(sample), "a");
  assert.deepEqual([values.TTL, values.MaxCacheMsgCount, values.StartTimeoutSecs], [2, 3, 4]);
});

test("transports and contexts have templates of their own", () => {
  const sample = simple();
  sample.Rcm.Transports.push({ Name: "Default", MTU: 576 });
  sample.Rcm.Contexts.push({ Name: "Default", TTL: 3 });
  const { values, tx } = resolveContext(load(sample), "a");
  assert.deepEqual([values.TTL, values.MTU, tx[0]?.partitions[0]?.mtu], [3, 1500, 576]);
});

test("Id 0 is none: the entry is a template", () => {
  const sample = simple();
  sample.Rcm.Contexts.push({ Name: "Default", Id: 0, TTL: 3 });
  assert.equal(resolveContext(load(sample), "a").values.TTL, 3);
});

test("Name, Id, REF and Context are not taken over", () => {
  const sample = simple();
  sample.Rcm.Transports = [
    { Name: "Default", Context: "a", Topic: "t", Addr: "239.0.0.1", Port: 30000 },
    { Id: 1 },
  ];
  // A transport of "a" only would be none for "b".
  assert.deepEqual(resolveContext(load(sample), "b").rx.map(({ transportId }) => transportId), [1]);
  const named = simple();
  named.Rcm.Contexts.push({ Name: "Default" }, { Id: 3, Ip: "127.0.0.1" });
  assert.deepEqual(thrown(() => load(named)).details, [
    "Rcm.Contexts[3].Name (Id 3): expected the context's name, found nothing",
  ]);
});

test("an array replaces that of the template", () => {
  const sample = simple();
  sample.Rcm.Transports.push({ Id: 2, Topic: "u", Addr: "239.0.0.2", Port: 30000 });
  sample.Rcm.Contexts.push(
    { Name: "Default", RxTopics: [{ Name: "t" }, { Name: "u" }] },
    { Name: "all", Id: 3, Ip: "127.0.0.1" },
    { Name: "one", Id: 4, Ip: "127.0.0.1", RxTopics: [{ Name: "u" }] },
    { Name: "none", Id: 5, Ip: "127.0.0.1", RxTopics: [] },
  );
  const loaded = load(sample);
  const topics = (name: string) => resolveContext(loaded, name).rx.map(({ topic }) => topic);
  assert.deepEqual(topics("all"), ["t", "u"]);
  assert.deepEqual(topics("one"), ["u"]);
  assert.deepEqual(topics("none"), []);
});

// Scoping

/** Everybody's transport of "t", and one for context "a" only. */
function scoped(): Sample {
  const sample = simple();
  sample.Rcm.Transports.push(
    { Id: 7, Topic: "t", Addr: "10.0.0.7", Port: 31000, Context: "a" },
    { Id: 8, Topic: "t", PartitionNo: 2, Addr: "10.0.0.8", Port: 32000 },
    { Id: 9, Topic: "t", PartitionNo: 3, Addr: "10.0.0.9", Port: 32000, Context: "b" },
  );
  return sample;
}

test("a context finds its own transport before everybody's", () => {
  const loaded = load(scoped());
  const ids = (name: string) => {
    const { tx, rx } = resolveContext(loaded, name);
    return [...tx.flatMap(({ partitions }) => partitions), ...rx]
      .map(({ partitionNo, transportId }) => [partitionNo, transportId]);
  };
  assert.deepEqual(ids("a"), [[1, 7], [2, 8]]);
  assert.deepEqual(ids("b"), [[1, 1], [2, 8], [3, 9]]);
});

test("configured receivers are the contexts that come to the same transport", () => {
  const sample = scoped();
  sample.Rcm.Contexts.push(
    { Name: "c", Id: 3, Ip: "127.0.0.1", RxTopics: [{ Name: "t", Partitions: [2] }] },
    { Name: "d", Id: 4, Ip: "127.0.0.1", TxTopics: [{ Name: "t" }], RxTopics: [{ Name: "t" }] },
  );
  const loaded = load(sample);
  const receivers = (name: string) =>
    resolveContext(loaded, name).tx[0]?.partitions.map((partition) => [
      partition.transportId,
      partition.receivers.map((receiver) => receiver.name).join(),
    ]);
  assert.deepEqual(receivers("a"), [[7, ""], [8, "b,c,d"]], "b's own 1 is not a's 7");
  assert.deepEqual(receivers("d"), [[1, "b,d"], [8, "b,c,d"]], "itself included");
});

test("partitions: the list's order when received, ascending when sent", () => {
  const sample = simple();
  sample.Rcm.Transports = [3, 1, 2].map((n) => ({
    Id: n,
    Topic: "t",
    PartitionNo: n,
    Addr: `239.0.0.${n}`,
    Port: 30000,
  }));
  change(sample, {
    "Contexts[0]": { TxTopics: [{ Name: "t", Partitions: [2, 1] }] },
    "Contexts[1]": { RxTopics: [{ Name: "t", Partitions: [3, 1] }] },
  });
  sample.Rcm.Contexts.push({ Name: "c", Id: 3, Ip: "127.0.0.1", RxTopics: [{ Name: "t" }] });
  const loaded = load(sample);
  const rx = (name: string) =>
    resolveContext(loaded, name).rx.map(({ partitionNo }) => partitionNo);
  assert.deepEqual(rx("b"), [3, 1]);
  assert.deepEqual(rx("c"), [3, 1, 2], "all: the order of Transports");
  const tx = resolveContext(loaded, "a").tx[0]?.partitions.map(({ partitionNo }) => partitionNo);
  assert.deepEqual(tx, [1, 2]);
  assert.deepEqual(configView(loaded).getRcmContextConfig("a")?.getTxTopic(0), {
    name: "t",
    partitionNos: [2, 1],
  });
});

test("a topic's partitions share its lane, lanes are in the order of RxTopics", () => {
  const sample = simple();
  sample.Rcm.Transports.push(
    { Id: 2, Topic: "u", Addr: "239.0.0.2", Port: 30000 },
    { Id: 3, Topic: "t", PartitionNo: 2, Addr: "239.0.0.3", Port: 30000 },
  );
  change(sample, {
    "Contexts[1]": {
      RxTopics: [{ Name: "u" }, { Name: "t", Partitions: [2] }, { Name: "t", Partitions: [1] }],
    },
  });
  assert.deepEqual(
    resolveContext(load(sample), "b").rx.map((
      { topic, partitionNo, lane },
    ) => [topic, partitionNo, lane]),
    [["u", 1, 0], ["t", 2, 1], ["t", 1, 1]],
  );
});

test("MTU and GroupKey: the transport's wins, also from its template", () => {
  const [ofContext, ofTransport] = ["a".repeat(64), "b".repeat(64)];
  const seen = (transport: object, template?: object) => {
    const sample = change(simple(), {
      "Transports[0]": { ...transport },
      "Contexts[0]": { MTU: 9000, GroupKey: ofContext },
    });
    if (template !== undefined) sample.Rcm.Transports.push({ Name: "Default", ...template });
    const [partition] = resolveContext(load(sample), "a").tx[0]?.partitions ?? [];
    return [partition?.mtu, partition?.groupKey];
  };
  assert.deepEqual(seen({}), [9000, ofContext]);
  assert.deepEqual(seen({ MTU: 1500, GroupKey: ofTransport }), [1500, ofTransport]);
  assert.deepEqual(seen({}, { MTU: 600, GroupKey: ofTransport }), [600, ofTransport]);
});

// What this version can't do

test("keys that say nothing together are named: of a tier's results and its replay", () => {
  const named = (values: Record<string, unknown>) => {
    const both = { "Contexts[1]": values, "Contexts[2]": values };
    return resolveContext(load(change(tier(), both)), "m2").unsupportedKeys;
  };
  for (const mode of [1, 2]) assert.deepEqual(named({ SyncMode: mode }), []);
  assert.deepEqual(named({ SyncMode: 1, TierAsync: 1 }), []);
  assert.deepEqual(named({ TierAsync: 1 }), ["Rcm.Contexts[2].TierAsync (m2)"]);
  assert.deepEqual(named({ RecordReplayStartPoint: 5 }), []);
  const replayed = named({ SyncMode: 1, RecordReplayStartPoint: 5 });
  assert.deepEqual(replayed, ["Rcm.Contexts[2].RecordReplayStartPoint (m2)"]);
  const member = resolveContext(load(change(tier(), { "Contexts[2]": { IsObserver: 1 } })), "m2");
  assert.deepEqual(member.unsupportedKeys, []);
  assert.equal(member.tier?.isObserver, true);
  assert.deepEqual(member.tier?.members.map(({ name }) => name).includes("m2"), false);
});

test("a default that is written out is no use of a key, nor is what the record has", () => {
  const sample = change(simple(), {
    "Transports[0]": { UseSharedMemory: 0 },
    "Contexts[1]": {
      IsTotalOrder: true,
      IsSingleton: 1,
      ShmContext: [],
      TierName: "",
      SyncIp: "127.0.0.1",
      AckCount: 0,
      RecordSync: "async",
      SyncMode: 0,
      IsRecord: 0,
    },
  });
  assert.deepEqual(resolveContext(load(sample), "b").unsupportedKeys, []);
  assert.equal(resolveContext(load(sample), "b").isRecord, false);
  const keys = { RecordDir: "data", RecordReplayStartPoint: 7, RecordSegmentMBytes: 8 };
  change(sample, { "Contexts[1]": { IsRecord: 1, RecordSync: "interval", ...keys } });
  const { unsupportedKeys, isRecord, record } = resolveContext(load(sample), "b");
  assert.deepEqual(unsupportedKeys, []);
  assert.equal(isRecord, true);
  const wanted = { directory: "data", fileBytes: 8 << 20, sync: "interval", replayFrom: 7 };
  assert.deepEqual(record, wanted);
});

test("a window is read in place where both UseSharedMemory and ShmContext say so", () => {
  const seen = (UseSharedMemory: number, ShmContext: readonly string[]) => {
    const sample = change(simple(), {
      "Transports[0]": { UseSharedMemory },
      "Contexts[1]": { ShmContext },
    });
    const loaded = load(sample);
    const [sent] = resolveContext(loaded, "a").tx[0]!.partitions;
    const [received] = resolveContext(loaded, "b").rx;
    return [
      sent!.receivers.map(({ shared }) => shared),
      received!.inPlace.length,
      received!.network,
    ];
  };
  assert.deepEqual(seen(1, ["a"]), [[true], 1, false]);
  assert.deepEqual(seen(0, ["a"]), [[false], 0, true]);
  assert.deepEqual(seen(1, []), [[false], 0, true]);
  assert.deepEqual(seen(1, ["b"]), [[false], 0, true]);
});

test("shared memory only: neither Addr and Port, nor Ip", () => {
  const sample = simple();
  sample.Rcm.Transports = [{ Id: 1, Topic: "t", UseSharedMemory: 1 }];
  for (const context of sample.Rcm.Contexts) delete context["Ip"];
  change(sample, { "Contexts[1]": { ShmContext: "a" } });
  const { context, tx } = resolveContext(load(sample), "a");
  assert.equal(context.ip, "");
  assert.deepEqual([tx[0]?.partitions[0]?.addrs, tx[0]?.partitions[0]?.port], [[], 0]);
});

// Looking up

test("an unknown context, a template and nonsense are ARGUMENT with the nearest name", () => {
  const loaded = load(guideSample("5_2_simple.json"));
  const failure = thrown(() => resolveContext(loaded, "sevrer2"));
  assert.equal(failure.code, "ARGUMENT");
  assert.equal(
    failure.message,
    'newRcmContext: there is no context "sevrer2" in the configuration; did you mean "server2"?',
  );
  const template = thrown(() => resolveContext(loaded, "Default"));
  assert.equal(template.code, "ARGUMENT");
  assert.match(template.message, /"Default" is a template of the configuration: it has no Id/);
  assert.match(unknownContext(loaded, 5), /a string, not 5/);
  assert.equal(thrown(() => resolveContext(loaded, "toString")).code, "ARGUMENT");
});

test("numbers of transports and contexts have names", () => {
  const loaded = load(guideSample("7_2_5_load_balancing.json"));
  assert.deepEqual(transportInfo(loaded, 2), {
    topic: "MiniTopic",
    partitionNo: 2,
    addrs: ["239.0.1.2"],
    port: 30000,
  });
  assert.equal(transportInfo(loaded, 3), undefined);
  assert.equal(transportInfo(loaded, 0), undefined, "templates have none");
  assert.equal(contextName(loaded, 1), "MiniContext");
  assert.equal(contextName(loaded, 2), "");
  assert.equal(contextName(loaded, 0), "");
});

test("getConfig: topics and partitions of a context, null for what is none", () => {
  const sample = scoped();
  sample.Rcm.Transports.push({ Id: 2, Topic: "u", Addr: "239.0.0.2", Port: 30000 });
  change(sample, { "Contexts[1]": { RxTopics: [{ Name: "u" }, { Name: "t" }] } });
  sample.Rcm.Contexts.push({ Name: "Default" });
  const config = configView(load(sample));
  const a = config.getRcmContextConfig("a");
  const b = config.getRcmContextConfig("b");
  assert.equal(a?.getTxTopicCount(), 1);
  assert.deepEqual(a?.getTxTopic(0), { name: "t", partitionNos: [1, 2] });
  assert.equal(a?.getTxTopic(1), null);
  assert.equal(a?.getTxTopic(-1), null);
  assert.equal(a?.getRxTopicCount(), 0);
  assert.equal(b?.getRxTopicCount(), 4);
  assert.deepEqual([0, 1, 2, 3, 4].map((i) => b?.getRxTopic(i)), [
    { name: "u", partitionNo: 1 },
    { name: "t", partitionNo: 1 },
    { name: "t", partitionNo: 2 },
    { name: "t", partitionNo: 3 },
    null,
  ]);
  a?.getTxTopic(0)?.partitionNos.push(99);
  assert.deepEqual(a?.getTxTopic(0)?.partitionNos, [1, 2], "a copy each time");
  assert.equal(config.getRcmContextConfig("Default"), null);
  assert.equal(config.getRcmContextConfig("c"), null);
});

// Sources

test("a path, a file URL and an object are the same configuration", () => {
  const url = new URL("5_2_simple.json", guideFolder);
  const seen = [
    loadConfig(fileURLToPath(url)),
    loadConfig(url),
    loadConfig(pathToFileURL(fileURLToPath(url))),
    load(guideSample("5_2_simple.json")),
  ].map((loaded) => resolveContext(loaded, "client1"));
  for (const other of seen) assert.deepEqual(other, seen[0]);
});

test("keys that are undefined are not given, and later changes do not show", () => {
  const sample = change(simple(), { "Contexts[0]": { TTL: undefined, REF: undefined } });
  const topics = [{ Name: "t", Partitions: undefined }];
  change(sample, { "Contexts[0]": { TxTopics: topics } });
  const loaded = load(sample);
  topics.push({ Name: "u", Partitions: undefined });
  change(sample, { "Contexts[0]": { TTL: 1 } });
  const { values, tx } = resolveContext(loaded, "a");
  assert.equal(values.TTL, 8);
  assert.equal(tx.length, 1);
  assert.equal(values.TxTopics.length, 1);
});

test("what is no source is ARGUMENT, what can't be read is CONFIG with the reason", () => {
  for (const source of [5, undefined, null, [], true]) {
    assert.equal(thrown(() => load(source)).code, "ARGUMENT", String(source));
  }
  const remote = thrown(() => loadConfig(new URL("https://example.com/rcm.json")));
  assert.equal(remote.code, "ARGUMENT");
  assert.match(remote.message, /https:/);
  const missing = thrown(() => loadConfig("/nowhere/rcm.json"));
  assert.equal(missing.code, "CONFIG");
  assert.match(missing.message, /"\/nowhere\/rcm\.json"/);
  assert.match(missing.details[0] ?? "", /ENOENT/);
  assert.ok(missing.cause instanceof Error);
});

test("errors in a file say line and column, and keys given twice are faults like others", () => {
  const syntax = thrown(() => loadText('{\n  "Rcm": {\n    "Contexts" [\n'));
  assert.equal(syntax.code, "CONFIG");
  assert.deepEqual(syntax.details, ['line 3, column 16: expected ":", found "["']);
  assert.match(syntax.message, /^rcm\.json: 1 fault\n/);
  const text = JSON.stringify(change(simple(), { "Contexts[0]": { TTL: 256 } }))
    .replace('"TTL"', '"TTL":1,"TTL"');
  assert.deepEqual(thrown(() => loadText(text)).details, [
    `line 1, column ${
      text.lastIndexOf('"TTL"') + 1
    }: expected each key of an object once, found "TTL" again`,
    "Rcm.Contexts[0].TTL (a): expected an integer 0..255, found 256",
  ]);
});
