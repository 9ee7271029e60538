import assert from "node:assert/strict";
import { test } from "node:test";
import { loadConfig } from "../src/config/mod.ts";
import { RcmError } from "../src/errors.ts";
import { change, faultsOf, type Loose, type Sample, simple, tier } from "./config_fixture.ts";

/** Faults of a sample after changes. */
const of = (sample: Sample, changes: Record<string, Loose>) => faultsOf(change(sample, changes));

test("samples have no faults", () => {
  assert.deepEqual(faultsOf(simple()), []);
  assert.deepEqual(faultsOf(tier()), []);
});

test("one wrong configuration with eight faults gives one error that lists all eight", () => {
  const config = {
    Rcm: {
      Transports: [
        { Name: "Default", HeartbeatIntervalMili: 500 },
        { Id: 1, Topic: "req", Addr: "235.0.0.1", Port: 70000 },
        { Id: 2, Topic: "rsp", Addr: "235.0.0.2,10.0.0.1", Port: 30000 },
      ],
      Contexts: [
        { Name: "Default", Ip: "127.0.0.1", RepairPortStart: 50000 },
        { REF: "Defualt", Name: "client1", Id: 1, TxTopics: [{ Name: "req" }] },
        { Name: "server1", Id: 2, RxTopics: [{ Name: "reqq" }] },
        { Name: "server2", Id: 2, RxTopics: [{ Name: "req", Partitions: [2] }] },
      ],
    },
  };
  assert.throws(() => loadConfig(config), (error) => {
    assert.ok(error instanceof RcmError);
    assert.equal(error.code, "CONFIG");
    assert.deepEqual(error.details, [
      "Rcm.Transports[0].HeartbeatIntervalMili (Default): expected a key of a transport, " +
      'found "HeartbeatIntervalMili"; did you mean "HeartbeatIntervalMilli"?',
      "Rcm.Transports[1].Port (req): expected an integer 1..65535, found 70000",
      "Rcm.Transports[2].Addr (rsp): expected one IPv4 multicast group, or 1..64 IPv4 unicast " +
      'addresses by comma, found "235.0.0.2,10.0.0.1"',
      "Rcm.Contexts[0].RepairPortStart (Default): expected at most RepairPortEnd, 40000, " +
      "found 50000",
      'Rcm.Contexts[1].REF (client1): expected the name of a template, found "Defualt"; ' +
      'did you mean "Default"?',
      "Rcm.Contexts[2].RxTopics[0].Name (server1): expected a topic that has a transport, " +
      'found "reqq"; did you mean "req"?',
      "Rcm.Contexts[3].Id (server2): expected each context's Id once, found 2 again, as in " +
      "Rcm.Contexts[2]",
      'Rcm.Contexts[3].RxTopics[0].Partitions[0] (server2): expected a partition of "req" that ' +
      "has a transport, found 2; it has 1, the nearest is 1",
    ]);
    const lines = error.message.split("\n");
    assert.equal(lines[0], "the configuration: 8 faults");
    assert.deepEqual(lines.slice(1), error.details.map((line) => `  ${line}`));
    return true;
  });
});

// Keys

test("an unknown key is a fault at each place, with the nearest", () => {
  const sample = change(simple(), {
    "Transports[0]": { adr: "x" },
    "Contexts[0]": { TxTopics: [{ Name: "t", Partition: [1] }], Zzzzzzzzzzzzzzzz: 1 },
  });
  sample.Rcm["ClusterID"] = 1;
  assert.deepEqual(faultsOf({ ...sample, Rmc: {} }), [
    'Rmc: expected the key "Rcm", found "Rmc"; did you mean "Rcm"?',
    'Rcm.ClusterID: expected a key of Rcm, found "ClusterID"; did you mean "ClusterId"?',
    'Rcm.Transports[0].adr (t): expected a key of a transport, found "adr"; did you mean "Addr"?',
    "Rcm.Contexts[0].TxTopics[0].Partition (a): expected a key of an entry of TxTopics or " +
    'RxTopics, found "Partition"; did you mean "Partitions"?',
    "Rcm.Contexts[0].Zzzzzzzzzzzzzzzz (a): expected a key of a context, " +
    'found "Zzzzzzzzzzzzzzzz"; the nearest is "SendWindowSize"',
  ]);
});

test("a key at the wrong place: where it belongs", () => {
  assert.deepEqual(
    of(simple(), { "Transports[0]": { SendWindowSize: 1 }, "Contexts[0]": { Port: 1 } }),
    [
      "Rcm.Transports[0].SendWindowSize (t): not a key of a transport, but of a context",
      "Rcm.Contexts[0].Port (a): not a key of a context, but of a transport",
    ],
  );
  assert.deepEqual(faultsOf({ ...simple(), ClusterId: 1 }), [
    'ClusterId: not a key of the whole, but of Rcm: { "Rcm": { "ClusterId": ... } }',
  ]);
});

test("a misspelled key has one line: its value is taken as meant", () => {
  const sample = simple();
  sample.Rcm.Transports = [{ Id: 1, Topik: "t", Adr: "239.0.0.1", Prot: 30000 }];
  assert.deepEqual(faultsOf(sample), [
    'Rcm.Transports[0].Topik (Id 1): expected a key of a transport, found "Topik"; did you mean "Topic"?',
    'Rcm.Transports[0].Adr (Id 1): expected a key of a transport, found "Adr"; did you mean "Addr"?',
    'Rcm.Transports[0].Prot (Id 1): expected a key of a transport, found "Prot"; did you mean "Port"?',
  ]);
  // The right one wins, also when it comes later, and a wrong value is not spoken of.
  const wrong = { TTLL: "x", TTL: 9, StartTimeoutSec: "x" };
  assert.deepEqual(of(simple(), { "Contexts[0]": wrong }), [
    'Rcm.Contexts[0].TTLL (a): expected a key of a context, found "TTLL"; did you mean "TTL"?',
    'Rcm.Contexts[0].StartTimeoutSec (a): expected a key of a context, found "StartTimeoutSec"; ' +
    'did you mean "StartTimeoutSecs"?',
  ]);
});

test("the whole and its entries are objects; both arrays are needed", () => {
  assert.deepEqual(faultsOf({}), ["Rcm: expected an object, found nothing"]);
  assert.deepEqual(faultsOf({ Rcm: [] }), ["Rcm: expected an object, found an array of 0"]);
  assert.deepEqual(faultsOf({ Rcm: {} }), [
    "Rcm.Transports: expected an array of 1..65535 entries, found nothing",
    "Rcm.Contexts: expected an array of 1..65535 entries, found nothing",
  ]);
  assert.deepEqual(faultsOf({ Rcm: { Transports: 1, Contexts: {} } }), [
    "Rcm.Transports: expected an array of entries, found 1",
    "Rcm.Contexts: expected an array of entries, found an object",
  ]);
  assert.deepEqual(faultsOf({ Rcm: { Transports: [1], Contexts: ["c"] } }), [
    "Rcm.Transports[0]: expected an object: a transport, found 1",
    'Rcm.Contexts[0]: expected an object: a context, found "c"',
  ]);
  assert.deepEqual(faultsOf({ $schema: 1, ...simple() }), [
    "$schema: expected the address of a schema, found 1",
  ]);
  assert.deepEqual(faultsOf({ $schema: "../schema/rcm.schema.json", ...simple() }), []);
});

test("too many entries", () => {
  const sample = simple();
  const template = { Name: "x" };
  sample.Rcm.Transports.push(...Array.from({ length: 65535 }, () => template));
  const lines = faultsOf(sample);
  assert.equal(lines[0], "Rcm.Transports: expected 1..65535 entries, found 65536");
});

// Required keys

test("a transport needs Topic, Addr unless shared memory, and Port with Addr", () => {
  const sample = simple();
  sample.Rcm.Transports.push(
    { Id: 2, Addr: "239.0.0.2", Port: 1 },
    { Id: 3, Topic: "u", Port: 1 },
    { Id: 4, Topic: "v", Addr: "239.0.0.2", UseSharedMemory: 1 },
    { Id: 5, Topic: "w", UseSharedMemory: 1 },
    { Id: 6, Topic: "x" },
  );
  assert.deepEqual(faultsOf(sample), [
    "Rcm.Transports[1].Topic (Id 2): expected a topic's name, found nothing",
    "Rcm.Transports[2].Addr (u): expected an address, because UseSharedMemory is 0, found nothing",
    "Rcm.Transports[3].Port (v): expected a port, because there is an Addr, found nothing",
    "Rcm.Transports[5].Addr (x): expected an address, because UseSharedMemory is 0, found nothing",
  ]);
});

test("a context needs a Name, and an Ip unless it has to do with shared memory only", () => {
  assert.deepEqual(of(simple(), { "Contexts[0]": { Name: undefined, Ip: undefined } }), [
    "Rcm.Contexts[0].Name (Id 1): expected the context's name, found nothing",
    "Rcm.Contexts[0].Ip (Id 1): expected the address or network of an interface, found nothing",
  ]);
  const mixed = simple();
  mixed.Rcm.Transports.push({ Id: 2, Topic: "s", UseSharedMemory: 1 });
  const RxTopics = [{ Name: "s" }, { Name: "t" }];
  change(mixed, {
    "Contexts[0]": { TxTopics: RxTopics },
    "Contexts[1]": { Ip: undefined, RxTopics, ShmContext: "a" },
  });
  assert.deepEqual(faultsOf(mixed), [
    "Rcm.Contexts[1].Ip (b): expected the address or network of an interface, found nothing",
  ]);
  change(mixed, { "Contexts[1]": { RxTopics: [{ Name: "s" }] } });
  assert.deepEqual(faultsOf(mixed), []);
});

test("an entry that is neither found by Id nor by Name", () => {
  const sample = simple();
  sample.Rcm.Transports.push({ Topic: "u" });
  sample.Rcm.Contexts.push({});
  assert.deepEqual(faultsOf(sample), [
    "Rcm.Transports[1] (u): expected an Id 1..65535, or a Name for a template, found neither",
    "Rcm.Contexts[2]: expected an Id 1..65535, or a Name for a template, found neither",
  ]);
});

// Templates

test("a REF to nothing, to an entry with an Id, to the other kind's template", () => {
  const sample = simple();
  sample.Rcm.Transports.push({ Name: "Fast" }, { Name: "Slow" });
  sample.Rcm.Contexts.push({ Name: "Node" });
  change(sample, {
    "Transports[0]": { REF: "Fsat" },
    "Contexts[0]": { REF: "b" },
    "Contexts[1]": { REF: "Fast" },
  });
  assert.deepEqual(faultsOf(sample), [
    'Rcm.Transports[0].REF (t): expected the name of a template, found "Fsat"; did you mean "Fast"?',
    'Rcm.Contexts[0].REF (a): expected the name of a template, found "b", which has an Id; ' +
    'the nearest is "Node"',
    'Rcm.Contexts[1].REF (b): expected the name of a template, found "Fast"; the nearest is "Node"',
  ]);
  assert.deepEqual(of(simple(), { "Contexts[0]": { REF: "Default" } }), [
    'Rcm.Contexts[0].REF (a): expected the name of a template, found "Default"',
  ]);
});

test("what a lost template would have given is not missed", () => {
  const sample = change(simple(), { "Contexts[0]": { REF: "Lost", Ip: undefined } });
  sample.Rcm.Contexts.push({ Name: "Found", Ip: "127.0.0.1" });
  assert.deepEqual(faultsOf(sample), [
    'Rcm.Contexts[0].REF (a): expected the name of a template, found "Lost"; the nearest is "Found"',
  ]);
});

test("a cycle is told once", () => {
  const cycle = (...templates: Loose[]) => {
    const sample = simple();
    sample.Rcm.Contexts.push(...templates);
    return faultsOf(sample);
  };
  assert.deepEqual(cycle({ Name: "x", REF: "x" }), [
    "Rcm.Contexts[2].REF (x): expected templates without a cycle, found x -> x",
  ]);
  assert.deepEqual(
    cycle({ Name: "x", REF: "z" }, { Name: "y", REF: "x" }, { Name: "z", REF: "y" }),
    [
      "Rcm.Contexts[2].REF (x): expected templates without a cycle, found x -> z -> y -> x",
    ],
  );
  // Without REF x has Default as its template.
  assert.deepEqual(cycle({ Name: "Default", REF: "x" }, { Name: "x" }), [
    "Rcm.Contexts[2].REF (Default): expected templates without a cycle, found Default -> x -> Default",
  ]);
  assert.deepEqual(cycle({ Name: "Default", REF: "Default" }), [
    "Rcm.Contexts[2].REF (Default): expected templates without a cycle, found Default -> Default",
  ]);
  const two = cycle({ Name: "x", REF: "x" }, { Name: "y", REF: "y" });
  assert.equal(two.length, 2, "two cycles");
});

test("a template's fault is told at the template, once for all who take it over", () => {
  const sample = simple();
  sample.Rcm.Contexts.push({ Name: "Default", TTL: 256, RepairPortEnd: 1 });
  assert.deepEqual(faultsOf(sample), [
    "Rcm.Contexts[2].TTL (Default): expected an integer 0..255, found 256",
    "Rcm.Contexts[2].RepairPortEnd (Default): expected at least RepairPortStart, 30001, found 1",
  ]);
});

// What may occur once

test("Ids, names, and a topic's partitions occur once", () => {
  const sample = simple();
  sample.Rcm.Transports.push(
    { Id: 1, Topic: "u", Addr: "239.0.0.2", Port: 1 },
    { Id: 2, Topic: "t", PartitionNo: 1, Addr: "239.0.0.3", Port: 1 },
    { Id: 3, Topic: "t", Context: "a", Addr: "239.0.0.4", Port: 1 },
    { Id: 4, Topic: "t", Context: "a", Addr: "239.0.0.5", Port: 1 },
    { Id: 5, Topic: "t", Context: "b", Addr: "239.0.0.6", Port: 1 },
    { Name: "x" },
    { Name: "x" },
    { Id: 6, Name: "x", Topic: "w", Addr: "239.0.0.6", Port: 1 },
  );
  sample.Rcm.Contexts.push(
    { Name: "a", Id: 3, Ip: "127.0.0.1" },
    { Name: "c", Id: 2, Ip: "127.0.0.1" },
    { Name: "b" },
  );
  assert.deepEqual(faultsOf(sample), [
    "Rcm.Transports[1].Id (u): expected each transport's Id once, found 1 again, as in Rcm.Transports[0]",
    'Rcm.Transports[2] (t.1): expected each partition of a topic once, found "t.1" again, ' +
    "as in Rcm.Transports[0]",
    'Rcm.Transports[4] (t): expected each partition of a topic once for context "a", ' +
    'found "t.1" again, as in Rcm.Transports[3]',
    'Rcm.Transports[7].Name (x): expected each template\'s name once, found "x" again, ' +
    "as in Rcm.Transports[6]",
    'Rcm.Contexts[2].Name (a): expected each context\'s name once, found "a" again, ' +
    "as in Rcm.Contexts[0]",
    "Rcm.Contexts[3].Id (c): expected each context's Id once, found 2 again, as in Rcm.Contexts[1]",
    'Rcm.Contexts[4].Name (b): expected each context\'s name once, found "b" again, ' +
    "as in Rcm.Contexts[1]",
  ]);
});

test("a transport's Context is a context", () => {
  const sample = simple();
  sample.Rcm.Contexts.push({ Name: "server", Id: 3, Ip: "127.0.0.1" }, { Name: "serve" });
  sample.Rcm.Transports.push({ Id: 2, Topic: "t", Context: "serve", Addr: "10.0.0.1", Port: 1 });
  assert.deepEqual(faultsOf(sample), [
    'Rcm.Transports[1].Context (t): expected a context\'s name, found "serve"; did you mean "server"?',
  ]);
});

// Topics

test("a topic or partition without a transport, in both lists", () => {
  const sample = simple();
  sample.Rcm.Transports.push(
    { Id: 3, Topic: "t", PartitionNo: 3, Addr: "239.0.0.3", Port: 1 },
    { Id: 4, Topic: "only_a", Context: "a", Addr: "239.0.0.4", Port: 1 },
  );
  change(sample, {
    "Contexts[0]": { TxTopics: [{ Name: "T2" }, { Name: "only_a" }] },
    "Contexts[1]": { RxTopics: [{ Name: "t", Partitions: [1, 4] }, { Name: "only_a" }] },
  });
  assert.deepEqual(faultsOf(sample), [
    'Rcm.Contexts[0].TxTopics[0].Name (a): expected a topic that has a transport, found "T2"; ' +
    'did you mean "t"?',
    'Rcm.Contexts[1].RxTopics[0].Partitions[1] (b): expected a partition of "t" that has a ' +
    "transport, found 4; it has 1, 3, the nearest is 3",
    "Rcm.Contexts[1].RxTopics[1].Name (b): expected a topic that has a transport, " +
    'found "only_a"; the nearest is "t"',
  ]);
});

test("a partition whose number is wrong is one fault", () => {
  assert.deepEqual(
    of(simple(), {
      "Transports[0]": { PartitionNo: "2" },
      "Contexts[1]": { RxTopics: [{ Name: "t", Partitions: [2] }] },
    }),
    ['Rcm.Transports[0].PartitionNo (t): expected an integer 1..65535, found "2"'],
  );
});

// Keys that belong together

test("time-outs are longer than periods", () => {
  const transport = (values: Loose) => of(simple(), { "Transports[0]": values });
  const context = (values: Loose) => of(simple(), { "Contexts[0]": values });
  assert.deepEqual(transport({ HeartbeatIntervalMilli: 5, HeartbeatTimeoutMilli: 5 }), [
    "Rcm.Transports[0].HeartbeatTimeoutMilli (t): expected more than HeartbeatIntervalMilli, 5, found 5",
  ]);
  assert.deepEqual(transport({ HeartbeatIntervalMilli: 3000 }), [
    "Rcm.Transports[0].HeartbeatIntervalMilli (t): expected less than " +
    "HeartbeatTimeoutMilli, 3000, found 3000",
  ]);
  assert.deepEqual(transport({ AckTimeoutMilli: 999 }), [
    "Rcm.Transports[0].AckTimeoutMilli (t): expected more than AckIntervalMilli, 1000, found 999",
  ]);
  assert.deepEqual(context({ SyncHeartbeatTimeoutMilli: 1000 }), [
    "Rcm.Contexts[0].SyncHeartbeatTimeoutMilli (a): expected more than " +
    "SyncHeartbeatIntervalMilli, 1000, found 1000",
  ]);
  assert.deepEqual(context({ SyncAckIntervalMilli: 3001 }), [
    "Rcm.Contexts[0].SyncAckIntervalMilli (a): expected less than SyncAckTimeoutMilli, 3000, found 3001",
  ]);
  assert.deepEqual(transport({ HeartbeatIntervalMilli: 5, HeartbeatTimeoutMilli: 6 }), []);
  assert.deepEqual(transport({ AckIntervalMilli: 2999 }), []);
  // A wrong value is one fault.
  assert.equal(transport({ HeartbeatTimeoutMilli: 0 }).length, 1);
});

test("ranges of ports begin before they end; both ranges may be the same", () => {
  const context = (values: Loose) => of(simple(), { "Contexts[0]": values });
  assert.deepEqual(context({ RepairPortStart: 2, RepairPortEnd: 1 }), [
    "Rcm.Contexts[0].RepairPortStart (a): expected at most RepairPortEnd, 1, found 2",
  ]);
  assert.deepEqual(context({ SyncRepairPortEnd: 40000 }), [
    "Rcm.Contexts[0].SyncRepairPortEnd (a): expected at least SyncRepairPortStart, 40001, found 40000",
  ]);
  assert.deepEqual(
    context({ RepairPortStart: 1, RepairPortEnd: 1, SyncRepairPortStart: 1, SyncRepairPortEnd: 1 }),
    [],
  );
});

test("a fixed RepairPort is for one topic and partition", () => {
  const sample = simple();
  sample.Rcm.Transports.push({ Id: 2, Topic: "t", PartitionNo: 2, Addr: "239.0.0.2", Port: 1 });
  change(sample, { "Contexts[0]": { RepairPort: 5 } });
  assert.deepEqual(faultsOf(sample), [
    "Rcm.Contexts[0].RepairPort (a): expected 0, because the context sends more than one topic " +
    "and partition (t.1, t.2), found 5",
  ]);
  change(sample, { "Contexts[0]": { TxTopics: [{ Name: "t", Partitions: [2] }] } });
  assert.deepEqual(faultsOf(sample), []);
});

test("ShmContext names contexts", () => {
  const sample = simple();
  sample.Rcm.Contexts.push({ Name: "Default" });
  assert.deepEqual(of(sample, { "Contexts[1]": { ShmContext: ["a", "aa", "Default"] } }), [
    'Rcm.Contexts[1].ShmContext[1] (b): expected a context\'s name, found "aa"; did you mean "a"?',
    'Rcm.Contexts[1].ShmContext[2] (b): expected a context\'s name, found "Default"; the nearest is "a"',
  ]);
  assert.deepEqual(of(simple(), { "Contexts[1]": { ShmContext: "aa" } }), [
    'Rcm.Contexts[1].ShmContext (b): expected a context\'s name, found "aa"; did you mean "a"?',
  ]);
});

test("what has no address is received from a context of ShmContext", () => {
  const shared = () => {
    const sample = simple();
    sample.Rcm.Transports = [{ Id: 1, Topic: "t", UseSharedMemory: 1 }];
    sample.Rcm.Contexts.push({ Name: "c", Id: 3, Ip: "127.0.0.1" });
    return sample;
  };
  const sender = "a context that sends t.1, because that has no Addr";
  assert.deepEqual(faultsOf(shared()), [
    `Rcm.Contexts[1].ShmContext (b): expected ${sender}, found nothing`,
  ]);
  assert.deepEqual(of(shared(), { "Contexts[1]": { ShmContext: ["c", "b"] } }), [
    `Rcm.Contexts[1].ShmContext (b): expected ${sender}, found "c", "b"`,
  ]);
  assert.deepEqual(of(shared(), { "Contexts[1]": { ShmContext: ["c", "a"] } }), []);
  // One fault at a time: what is not known is not a second one.
  assert.deepEqual(of(shared(), { "Contexts[1]": { ShmContext: "aa" } }), [
    'Rcm.Contexts[1].ShmContext (b): expected a context\'s name, found "aa"; did you mean "a"?',
  ]);
  const addressed = shared();
  addressed.Rcm.Transports = [
    { Id: 1, Topic: "t", UseSharedMemory: 1, Addr: "239.0.0.1", Port: 30000 },
  ];
  assert.deepEqual(faultsOf(addressed), []);
});

// Tiers

test("a single node has no tier and observes nobody", () => {
  assert.deepEqual(of(simple(), { "Contexts[1]": { IsObserver: 1, TierName: "T" } }), [
    "Rcm.Contexts[1].IsObserver (b): expected 0, because IsSingleton is 1, found 1",
    'Rcm.Contexts[1].TierName (b): expected no tier, because IsSingleton is 1, found "T"',
  ]);
});

test("a member of a tier needs name, group and port of it, and total order", () => {
  assert.deepEqual(of(simple(), { "Contexts[1]": { IsSingleton: 0, IsTotalOrder: 0 } }), [
    "Rcm.Contexts[1].TierName (b): expected the tier's name, because IsSingleton is 0, found nothing",
    "Rcm.Contexts[1].SyncAddr (b): expected the tier's multicast group, because " +
    "IsSingleton is 0, found nothing",
    "Rcm.Contexts[1].SyncPort (b): expected the tier's port, because IsSingleton is 0, found nothing",
    "Rcm.Contexts[1].IsTotalOrder (b): expected 1, because IsSingleton is 0, found 0",
  ]);
  assert.deepEqual(of(tier(), { "Contexts[1]": { SyncAddr: "10.0.0.1" } }), [
    "Rcm.Contexts[1].SyncAddr (m1): expected one IPv4 multicast group (224.0.0.0 to " +
    '239.255.255.255), found "10.0.0.1"',
  ]);
  const shared = tier();
  shared.Rcm.Transports = [{ Id: 1, Topic: "t", UseSharedMemory: 1 }];
  change(shared, {
    "Contexts[1]": { Ip: undefined, ShmContext: "a" },
    "Contexts[2]": { Ip: undefined, ShmContext: "a", SyncIp: "10.0.0.1" },
  });
  assert.deepEqual(faultsOf(shared), [
    "Rcm.Contexts[1].SyncIp (m1): expected an interface for the tier, because IsSingleton is 0, " +
    "found nothing",
  ]);
});

test("SyncAddr is not the group of a received topic", () => {
  const both = { SyncAddr: "239.0.0.1" };
  assert.deepEqual(of(tier(), { "Contexts[1]": both, "Contexts[2]": both }), [
    "Rcm.Contexts[1].SyncAddr (m1): expected another group than that of the received topic t.1, " +
    'found "239.0.0.1"',
    "Rcm.Contexts[2].SyncAddr (m2): expected another group than that of the received topic t.1, " +
    'found "239.0.0.1"',
  ]);
});

test("topics that a tier receives have one port; those of a single node need not", () => {
  const received = { RxTopics: [{ Name: "t" }, { Name: "u" }] };
  const another = { Id: 2, Topic: "u", Addr: "239.0.0.2", Port: 30001 };
  const sample = change(tier(), { "Contexts[1]": received, "Contexts[2]": received });
  sample.Rcm.Transports.push(another);
  assert.deepEqual(faultsOf(sample), [
    "Rcm.Transports[1].Port (u): expected the port of t.1, 30000, because tier T receives both, " +
    "found 30001",
  ]);
  const single = change(simple(), { "Contexts[1]": received });
  single.Rcm.Transports.push(another);
  assert.deepEqual(faultsOf(single), []);
});

test("members of a tier agree", () => {
  const differing = (values: Loose) => {
    const sample = change(tier(), { "Contexts[2]": values });
    sample.Rcm.Transports.push({ Id: 2, Topic: "u", Addr: "239.0.0.2", Port: 30000 });
    sample.Rcm.Contexts.push({ ...sample.Rcm.Contexts[1], Name: "m3", Id: 4 });
    return faultsOf(sample);
  };
  const at = (key: string, expected: string, found: string) => [
    `Rcm.Contexts[2].${key} (m2): expected ${expected}, as m1 of the same tier T, found ${found}`,
  ];
  assert.deepEqual(differing({ RxTopics: [{ Name: "u" }] }), at("RxTopics", "t.1", "u.1"));
  assert.deepEqual(differing({ TxTopics: [{ Name: "u" }] }), at("TxTopics", "no topics", "u.1"));
  assert.deepEqual(
    differing({ SyncAddr: "239.4.1.2" }),
    at("SyncAddr", '"239.4.1.1"', '"239.4.1.2"'),
  );
  assert.deepEqual(differing({ SyncPort: 30001 }), at("SyncPort", "30000", "30001"));
  assert.deepEqual(differing({ AckCount: 2 }), at("AckCount", "1", "2"));
  assert.deepEqual(differing({ AckCount: -1 }), at("AckCount", "1", "-1"));
  assert.deepEqual(differing({ SyncMode: 1 }), at("SyncMode", "0", "1"));
  assert.deepEqual(differing({ UseCommitted: 1 }), at("UseCommitted", "0", "1"));
  const key = "5a".repeat(32);
  assert.deepEqual(differing({ GroupKey: key }), at("GroupKey", "nothing", "a key"));
  const keyed = change(tier(), {
    "Contexts[1]": { GroupKey: key },
    "Contexts[2]": { GroupKey: "a5".repeat(32) },
  });
  assert.deepEqual(faultsOf(keyed), at("GroupKey", "the same key", "another one"));
  assert.deepEqual(differing({ AckCount: 0 }), [], "0 means 1");
  assert.deepEqual(differing({ TTL: 1, SyncMaxDiff: 1, IsObserver: 1 }), [], "others may differ");
});

test("members of a tier agree on topics in any order, and other tiers do not matter", () => {
  const sample = change(tier(), {
    "Contexts[1]": { RxTopics: [{ Name: "t" }, { Name: "u", Partitions: [1, 2] }] },
    "Contexts[2]": { RxTopics: [{ Name: "u" }, { Name: "t", Partitions: [1] }] },
  });
  sample.Rcm.Transports.push(
    { Id: 2, Topic: "u", Addr: "239.0.0.2", Port: 30000 },
    { Id: 3, Topic: "u", PartitionNo: 2, Addr: "239.0.0.3", Port: 30000 },
  );
  sample.Rcm.Contexts.push({
    ...sample.Rcm.Contexts[1],
    Name: "o1",
    Id: 9,
    TierName: "Other",
    SyncPort: 7,
    RxTopics: [{ Name: "u" }],
  });
  assert.deepEqual(faultsOf(sample), []);
});

test("AckCount is less than the members, observers aside", () => {
  const counted = (AckCount: number, changes: Loose = {}) => {
    const sample = change(tier(), { "Contexts[1]": { AckCount }, "Contexts[2]": { AckCount } });
    sample.Rcm.Contexts.push({ ...sample.Rcm.Contexts[1], Name: "m3", Id: 4, ...changes });
    return faultsOf(sample);
  };
  const lines = ["1", "2", "3"].map((n) =>
    `Rcm.Contexts[${n}].AckCount (m${n}): expected less than 3, the number of members of tier T, ` +
    "found 3"
  );
  assert.deepEqual(counted(3), lines);
  assert.deepEqual(counted(2), []);
  assert.deepEqual(counted(-1), []);
  assert.equal(counted(2, { IsObserver: 1 }).length, 3, "two members and an observer");
  assert.deepEqual(counted(1, { IsObserver: 1 }), []);
  const alone = tier();
  alone.Rcm.Contexts.pop();
  assert.deepEqual(of(alone, { "Contexts[1]": { AckCount: 5 } }), [], "one member only");
});
