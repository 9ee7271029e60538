import assert from "node:assert/strict";
import { test } from "node:test";
import { KEYS } from "../src/config/keys.ts";
import type { Key, Place } from "../src/config/key_kinds.ts";
import { loadConfig, resolveContext } from "../src/config/mod.ts";
import { asInput, change, faultsOf, type Loose, type Sample, simple } from "./config_fixture.ts";

const I31 = 2 ** 31 - 1;

/** Guide 10.1 and what this library fixed, written down a second time: default, lowest, highest. */
const integers: Record<string, readonly [number | null, number, number]> = {
  "top.ClusterId": [0, 0, 65535],
  "transport.Id": [0, 1, 65535],
  "context.Id": [0, 1, 65535],
  "transport.MTU": [1500, 576, 65535],
  "context.MTU": [1500, 576, 65535],
  "transport.PartitionNo": [1, 1, 65535],
  "transport.HeartbeatIntervalMilli": [1000, 1, 3600000],
  "transport.HeartbeatTimeoutMilli": [3000, 1, 3600000],
  "transport.AckIntervalMilli": [1000, 1, 3600000],
  "transport.AckTimeoutMilli": [3000, 1, 3600000],
  "transport.Port": [null, 1, 65535],
  "context.BindCoreId": [-1, -1, 7],
  "context.TTL": [8, 0, 255],
  "context.StartTimeoutSecs": [5, 0, 3600],
  "context.MaxCacheMsgCount": [10240, 0, I31],
  "context.RecordReplayStartPoint": [0, 0, 2 ** 53 - 1],
  "context.LatencyStatisticCount": [0, 0, 10000000],
  "context.SendWindowSize": [256, 1, 65536],
  "context.MaxMemoryAllowedMBytes": [256, 1, 65536],
  "context.SocketBufferSizeKBytes": [256, 4, 4194303],
  "context.RepairPortStart": [30001, 1, 65535],
  "context.RepairPortEnd": [40000, 1, 65535],
  "context.RepairPort": [0, 0, 65535],
  "context.ReceiveMemoryMBytes": [1024, 8, 65536],
  "context.RecordSegmentMBytes": [256, 8, 2048],
  "context.TierRmsLimitCount": [0, 0, I31],
  "context.SyncPort": [null, 1, 65535],
  "context.SyncTTL": [8, 0, 255],
  "context.SyncMTU": [1500, 576, 65535],
  "context.SyncMode": [0, 0, 2],
  "context.SyncHeartbeatIntervalMilli": [1000, 1, 3600000],
  "context.SyncHeartbeatTimeoutMilli": [3000, 1, 3600000],
  "context.SyncAckIntervalMilli": [1000, 1, 3600000],
  "context.SyncAckTimeoutMilli": [3000, 1, 3600000],
  "context.SyncSendWindowSize": [256, 1, 65536],
  "context.SyncSocketBufferSizeKBytes": [256, 4, 4194303],
  "context.SyncRepairPortStart": [40001, 1, 65535],
  "context.SyncRepairPortEnd": [50000, 1, 65535],
  "context.SyncRepairPort": [0, 0, 65535],
  "context.SyncMaxDiff": [10000, 0, I31],
  "context.AckCount": [1, -1, 64],
  "context.SessionTimeoutMilli": [2000, 800, 60000],
};

const flags: Record<string, boolean> = {
  "transport.UseSharedMemory": false,
  "transport.AsynchronousRms": false,
  "context.McLoop": true,
  "context.IsSingleton": true,
  "context.IsRecord": true,
  "context.IsHandshake": false,
  "context.IsTotalOrder": true,
  "context.UsePreAllocate": false,
  "context.TierAsync": false,
  "context.SyncMcLoop": true,
  "context.AsynchronousSqn": false,
  "context.IsObserver": false,
  "context.UseSameMachine": false,
  "context.UseCommitted": false,
};

/** Default first. */
const choices: Record<string, readonly string[]> = {
  "transport.SlowReceiver": ["wait", "disconnect"],
  "context.WaitStrategy": ["adaptive", "spin", "yield", "block"],
  "context.Threading": ["shared", "dedicated", "inline"],
  "context.RecordSync": ["async", "interval", "commit"],
  "context.ElectionPolicy": ["safe", "freshest", "race"],
};

/** Default, texts that are right, texts that are wrong. */
const texts: Record<string, readonly [string | null, readonly string[], readonly string[]]> = {
  "transport.Name": ["", ["n", "名".repeat(21)], [
    "a/b",
    "a\0",
    "a\n",
    "x".repeat(64),
    "..",
    "\ud800",
  ]],
  "context.Name": ["", ["n", "x".repeat(63)], ["a/b", "a\0", "\x7f", "名".repeat(22)]],
  "transport.REF": ["Default", ["Other"], ["", "x".repeat(64)]],
  "context.REF": ["Default", ["Other"], ["", "x".repeat(64)]],
  "transport.GroupKey": [null, ["0aF".repeat(21) + "0"], ["", "0".repeat(63), "g".repeat(64)]],
  "context.GroupKey": [null, ["0".repeat(64)], ["", "0".repeat(65)]],
  "transport.Topic": [null, ["t", "x".repeat(127)], ["", "a/b", "x".repeat(128), "."]],
  "transport.Addr": [
    null,
    [
      "224.0.0.0",
      "239.255.255.255",
      "192.168.0.1",
      "192.168.0.1,192.168.0.2",
      "10.0.0.1, 10.0.0.2",
      Array.from({ length: 64 }, (_, n) => `10.0.0.${n}`).join(","),
    ],
    [
      "",
      "req",
      "239.0.0",
      "239.0.0.256",
      "0.0.0.0",
      "240.0.0.1",
      "255.255.255.255",
      "10.0.0.01",
      "10.0.0.1,",
      "239.0.0.1,10.0.0.1",
      "10.0.0.1,239.0.0.1",
      "239.0.0.1,239.0.0.2",
      "::1",
      Array.from({ length: 65 }, (_, n) => `10.0.0.${n}`).join(","),
    ],
  ],
  "transport.Context": ["", ["n"], ["a/b", "x".repeat(64)]],
  "context.Ip": [
    null,
    ["127.0.0.1", "192.168.86.0/24", "10.1.2.3/32", "0.0.0.0/0"],
    ["", "127.0.0.1/33", "127.0.0/8", "127.0.0.1/", "239.0.0.1", "1.2.3.4/8/8", "localhost"],
  ],
  "context.RecordDir": [null, ["data", "/var/rcm", "../x"], ["", "a\0b"]],
  "context.TierName": ["", ["T", "x".repeat(63)], ["x".repeat(64), "a/b"]],
  "context.SyncIp": [null, ["127.0.0.1", "10.0.0.0/8"], ["", "10.0.0.0/99"]],
  "context.SyncAddr": [null, ["239.4.1.1"], ["", "10.0.0.1", "239.4.1.1,239.4.1.2"]],
  "topic.Name": [null, ["t", "x".repeat(127)], ["", "x".repeat(128)]],
};

const lists = [
  "top.Transports",
  "top.Contexts",
  "context.ShmContext",
  "context.TxTopics",
  "context.RxTopics",
  "topic.Partitions",
];

/** All rows of the table, `place.name` each. */
const rows: readonly (readonly [string, Place, Key])[] = KEYS.flatMap((key: Key) =>
  key.where.map((place) => [`${place}.${key.name}`, place, key] as const)
);

/** The fault lines of one value, other faults that it causes aside. */
function faultsOfValue(place: Place, name: string, value: unknown): readonly string[] {
  const sample = withValue(place, name, value);
  const path = {
    top: `Rcm.${name}`,
    transport: `Rcm.Transports[0].${name}`,
    context: `Rcm.Contexts[0].${name}`,
    topic: `Rcm.Contexts[0].TxTopics[0].${name}`,
  }[place];
  // A topic of another name has no transport, a tier's name no tier, and so on.
  return faultsOf(sample).filter((line) =>
    line.startsWith(path) && /^[ :[]/.test(line.slice(path.length)) &&
    line.includes(expectedOf(name))
  );
}

/** What faults of the value itself expect, as against those that others make of it. */
function expectedOf(name: string): string {
  const row = KEYS.find((key) => key.name === name);
  if (row?.kind === "integer") return "expected an integer";
  if (row?.kind === "flag") return "expected 0, 1, false or true";
  if (row?.kind === "choice") return 'expected "';
  return ["Name", "REF", "Topic", "Context", "TierName"].includes(name)
    ? "expected a name of "
    : "expected ";
}

function withValue(place: Place, name: string, value: unknown): Sample {
  const sample = simple();
  const values: Loose = { [name]: value };
  if (place === "top") Object.assign(sample.Rcm, values);
  else if (place === "transport") change(sample, { "Transports[0]": values });
  else if (place === "context") change(sample, { "Contexts[0]": values });
  else change(sample, { "Contexts[0]": { TxTopics: [{ Name: "t", ...values }] } });
  return sample;
}

/** What no kind of key takes. */
const nonsense = [null, {}, Number.NaN, Number.POSITIVE_INFINITY, () => 0];

test("the table has the keys of the guide and of this library, and no others", () => {
  const known = [integers, flags, choices, texts].flatMap((table) => Object.keys(table));
  assert.deepEqual(rows.map(([path]) => path).sort(), [...known, ...lists].sort());
  assert.equal(new Set(rows.map(([, , key]) => key.name)).size, 76);
});

for (const [path, place, key] of rows) {
  if (key.kind === "integer") {
    test(`${path}: default and both ends of its range`, () => {
      const [initial, min, max] = integers[path] ?? assert.fail(path);
      assert.equal(key.default, initial);
      for (const value of [min, max, ...(initial === null ? [] : [initial])]) {
        assert.deepEqual(faultsOfValue(place, key.name, value), [], `${value}`);
      }
      const tooSmall = min - 1 === initial ? min - 2 : min - 1;
      for (const value of [tooSmall, max + 1, min + 0.5, `${min}`, true, [min], ...nonsense]) {
        const lines = faultsOfValue(place, key.name, value);
        assert.equal(lines.length, 1, String(value));
        assert.ok(lines[0]?.includes(`expected an integer ${min}..${max}, found `), lines[0]);
      }
    });
  } else if (key.kind === "flag") {
    test(`${path}: default, and all four ways to write it`, () => {
      assert.equal(key.default, flags[path]);
      for (const value of [0, 1, false, true]) {
        assert.deepEqual(faultsOfValue(place, key.name, value), [], `${value}`);
      }
      for (const value of [2, -1, 0.5, "1", "true", [], ...nonsense]) {
        assert.equal(faultsOfValue(place, key.name, value).length, 1, String(value));
      }
    });
  } else if (key.kind === "choice") {
    test(`${path}: default and words`, () => {
      const [initial, ...others] = choices[path] ?? assert.fail(path);
      assert.equal(key.default, initial);
      assert.deepEqual([...key.choices].sort(), [initial, ...others].sort());
      for (const value of key.choices) {
        assert.deepEqual(faultsOfValue(place, key.name, value), [], value);
      }
      for (const value of ["", initial?.toUpperCase(), 0, true, ...nonsense]) {
        assert.equal(faultsOfValue(place, key.name, value).length, 1, String(value));
      }
      const [line = ""] = faultsOfValue(place, key.name, `${initial}x`);
      assert.ok(line.endsWith(`; did you mean "${initial}"?`), line);
    });
  } else if (key.kind === "text") {
    test(`${path}: default, right texts and wrong ones`, () => {
      const [initial, right, wrong] = texts[path] ?? assert.fail(path);
      assert.equal(key.default, initial);
      for (const value of [...right, ...(initial === null ? [] : [initial])]) {
        assert.deepEqual(faultsOfValue(place, key.name, value), [], value);
      }
      for (const value of [...wrong, 1, true, [], ...nonsense]) {
        assert.equal(faultsOfValue(place, key.name, value).length, 1, String(value));
      }
    });
  }
}

test("defaults reach a context that gives nothing", () => {
  const { values, context, rx } = resolveContext(loadConfig(asInput(simple())), "b");
  for (const [, , key] of rows.filter(([, place]) => place === "context")) {
    if (key.kind === "list" || ["Name", "Id", "Ip", "SyncIp"].includes(key.name)) continue;
    const value: unknown = Reflect.get(values, key.name);
    assert.equal(value, key.default ?? undefined, key.name);
  }
  assert.equal(values.SyncIp, "127.0.0.1", "SyncIp is Ip");
  assert.deepEqual(values.TxTopics, []);
  assert.deepEqual(values.ShmContext, []);
  assert.deepEqual(rx, [{
    transportId: 1,
    topic: "t",
    partitionNo: 1,
    lane: 0,
    inPlace: [],
    network: true,
    addrs: ["239.0.0.1"],
    port: 30000,
    mtu: 1500,
    heartbeatIntervalMs: 1000,
    heartbeatTimeoutMs: 3000,
    ackIntervalMs: 1000,
    ackTimeoutMs: 3000,
    groupKey: "",
  }]);
  assert.deepEqual(context, {
    name: "b",
    id: 2,
    clusterId: 0,
    ip: "127.0.0.1",
    threading: "shared",
    waitStrategy: "adaptive",
    bindCoreId: -1,
    mcLoop: true,
    ttl: 8,
    socketBufferBytes: 256 * 1024,
    repairPortStart: 30001,
    repairPortEnd: 40000,
    repairPort: 0,
    sendWindowSize: 256,
    arenaBytes: 256 * 1024 * 1024,
    maxCacheMsgCount: 10240,
    receiveBytes: 1024 * 1024 * 1024,
    isHandshake: false,
    startTimeoutMs: 5000,
    isTotalOrder: true,
    usePreAllocate: false,
    latencySamples: 0,
    txTierId: 0,
    txTierName: "",
  });
});

test("given values reach the context, in its units", () => {
  const sample = change(simple(), {
    "Transports[0]": {
      AsynchronousRms: 1,
      SlowReceiver: "disconnect",
      HeartbeatIntervalMilli: 10,
      HeartbeatTimeoutMilli: 20,
      AckIntervalMilli: 30,
      AckTimeoutMilli: 40,
      Addr: " 10.0.0.1, 10.0.0.2,10.0.0.1",
    },
    "Contexts[0]": {
      Ip: "10.0.0.0/8",
      Threading: "inline",
      WaitStrategy: "spin",
      BindCoreId: 0,
      McLoop: false,
      TTL: 0,
      SocketBufferSizeKBytes: 4,
      RepairPortStart: 1,
      RepairPortEnd: 2,
      RepairPort: 3,
      SendWindowSize: 4,
      MaxMemoryAllowedMBytes: 5,
      MaxCacheMsgCount: 6,
      ReceiveMemoryMBytes: 8,
      IsHandshake: 1,
      StartTimeoutSecs: 7,
      IsRecord: false,
    },
  });
  sample.Rcm["ClusterId"] = 9;
  const { context, isRecord, tx, tierName } = resolveContext(loadConfig(asInput(sample)), "a");
  assert.deepEqual(context, {
    name: "a",
    id: 1,
    clusterId: 9,
    ip: "10.0.0.0/8",
    threading: "inline",
    waitStrategy: "spin",
    bindCoreId: 0,
    mcLoop: false,
    ttl: 0,
    socketBufferBytes: 4096,
    repairPortStart: 1,
    repairPortEnd: 2,
    repairPort: 3,
    sendWindowSize: 4,
    arenaBytes: 5 * 1024 * 1024,
    maxCacheMsgCount: 6,
    receiveBytes: 8 * 1024 * 1024,
    isHandshake: true,
    startTimeoutMs: 7000,
    isTotalOrder: true,
    usePreAllocate: false,
    latencySamples: 0,
    txTierId: 0,
    txTierName: "",
  });
  assert.equal(isRecord, false);
  assert.equal(tierName, "a");
  const [partition] = tx[0]?.partitions ?? [];
  assert.deepEqual(partition?.addrs, ["10.0.0.1", "10.0.0.2"], "each address once");
  assert.equal(partition?.asynchronous, true);
  assert.equal(partition?.slowDisconnect, true);
  assert.deepEqual(
    [
      partition?.heartbeatIntervalMs,
      partition?.heartbeatTimeoutMs,
      partition?.ackIntervalMs,
      partition?.ackTimeoutMs,
    ],
    [10, 20, 30, 40],
  );
});

test("a group key that is wrong is not shown", () => {
  const key = `${"5ec2e7".repeat(10)}xyz`;
  const lines = faultsOf(change(simple(), { "Contexts[0]": { GroupKey: key } }));
  assert.deepEqual(lines, [
    "Rcm.Contexts[0].GroupKey (a): expected 64 hexadecimal digits, found a text of 63 characters",
  ]);
});

test("lists: kinds, counts, repeats", () => {
  const of = (changes: Loose) => faultsOf(change(simple(), { "Contexts[1]": changes }));
  const topics = (...RxTopics: unknown[]) => of({ RxTopics });
  const at = "Rcm.Contexts[1].RxTopics";
  const what = 'topic { "Name": ..., "Partitions": [...] }';
  assert.deepEqual(of({ RxTopics: "t" }), [
    `${at} (b): expected an array of topics { "Name": ..., "Partitions": [...] }, found "t"`,
  ]);
  assert.deepEqual(topics("t"), [`${at}[0] (b): expected a ${what}, found "t"`]);
  assert.deepEqual(topics({}), [`${at}[0].Name (b): expected a topic's name, found nothing`]);
  assert.deepEqual(topics({ Name: "t", Partitions: 1 }), [
    `${at}[0].Partitions (b): expected an array of partition numbers, found 1`,
  ]);
  assert.deepEqual(topics({ Name: "t", Partitions: [] }), [
    `${at}[0].Partitions (b): expected 1..65535 partition numbers, found 0`,
  ]);
  assert.deepEqual(topics({ Name: "t", Partitions: [0, 65536, "1", 1, 1] }), [
    `${at}[0].Partitions[0] (b): expected an integer 1..65535, found 0`,
    `${at}[0].Partitions[1] (b): expected an integer 1..65535, found 65536`,
    `${at}[0].Partitions[2] (b): expected an integer 1..65535, found "1"`,
    `${at}[0].Partitions[4] (b): expected each partition once, found 1 again`,
  ]);
  assert.deepEqual(topics({ Name: "t" }, { Name: "t", Partitions: [1] }), [
    `${at}[1].Partitions[0] (b): expected each topic and partition once, found "t.1" again`,
  ]);
  assert.deepEqual(of({ ShmContext: "a" }), []);
  assert.deepEqual(of({ ShmContext: ["a", "a"] }), [], "as in guide 7.2.6");
  assert.deepEqual(of({ ShmContext: "" }), []);
  assert.deepEqual(of({ ShmContext: 1 }), [
    "Rcm.Contexts[1].ShmContext (b): expected a context's name, or an array of them, found 1",
  ]);
  assert.deepEqual(of({ ShmContext: ["a", 1] }), [
    "Rcm.Contexts[1].ShmContext[1] (b): expected a context's name, or an array of them, found 1",
  ]);
  assert.deepEqual(faultsOf({ Rcm: { Transports: [], Contexts: [] } }), [
    "Rcm.Transports: expected 1..65535 entries, found 0",
    "Rcm.Contexts: expected 1..65535 entries, found 0",
  ]);
});
