/**
 * The Wireshark dissector, run by tshark: over a capture of datagrams that the library made (the
 * test vectors), over broken ones, and over a real session.
 */

import { test } from "node:test";
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import process from "node:process";
import { type Packet, pcapFile } from "../vectors/pcap.ts";
import {
  bodyLayout,
  crc32c,
  encode,
  fromHex,
  readVectors,
  toHex,
  typeName,
  typeNumber,
  type Vector,
} from "../vectors/wire.ts";

const script = fileURLToPath(new URL("../../tools/wireshark/rcm.lua", import.meta.url));
const install = "install it with `deno task setup` (or: sudo apt-get install -y tshark)";
const isCi = process.env["CI"] === "true";
const hasTshark = spawnSync("tshark", ["--version"]).status === 0;
// In CI the tests run all the same, and fail: a test that is not run is not passed.
const needsTshark = { skip: hasTshark || isCi ? false : `tshark is missing: ${install}` };
const mayCapture = hasTshark && process.getuid?.() === 0;
const needsCapture = {
  skip: mayCapture || isCi ? false : `capturing needs tshark and root: ${install}`,
};
for (const { skip } of [needsTshark, needsCapture]) if (skip !== false) console.warn(skip);

/** All values of a packet by field, and the line of its column Info. */
interface Dissected {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly protocol: string;
  readonly info: string;
}

/** Runs tshark over a file, `dissect`'s capture by default. */
function dissectFile(path: string, options: readonly string[] = []): Dissected[] {
  const args = ["-n", "-r", path, "-X", `lua_script:${script}`, ...options];
  const columns = ["-T", "fields", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info"];
  const lines = runTshark([...args, ...columns]).split("\n").filter((line) => line !== "");
  const json = runTshark([...args, "-T", "json", "--no-duplicate-keys"]);
  const packets = JSON.parse(json) as { _source: { layers: Record<string, unknown> } }[];
  assert.equal(packets.length, lines.length);
  return packets.map((packet, i) => {
    const [protocol = "", info = ""] = lines[i]!.split("\t");
    return { values: flatten(packet._source.layers), protocol, info };
  });
}

function runTshark(args: readonly string[]): string {
  const run = spawnSync("tshark", args, { encoding: "utf8", maxBuffer: 1 << 28 });
  assert.equal(run.error, undefined, `tshark can't be run: ${install}`);
  assert.equal(run.status, 0, run.stderr);
  assert.doesNotMatch(run.stderr, /lua|error/i);
  return run.stdout;
}

function dissect(packets: readonly Packet[], options: readonly string[] = []): Dissected[] {
  const folder = mkdtempSync(join(tmpdir(), "rcm-dissector-"));
  try {
    const path = join(folder, "test.pcap");
    writeFileSync(path, pcapFile(packets));
    return dissectFile(path, options);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Values of all keys of a tree of JSON, in their order. */
function flatten(
  tree: unknown,
  into = new Map<string, string[]>(),
  key = "",
): Map<string, string[]> {
  if (Array.isArray(tree)) {
    for (const item of tree) flatten(item, into, key);
  } else if (tree !== null && typeof tree === "object") {
    for (const [name, item] of Object.entries(tree)) flatten(item, into, name);
  } else {
    into.set(key, [...into.get(key) ?? [], String(tree)]);
  }
  return into;
}

const prefixes: ReadonlyMap<number, string> = new Map([
  [2, "fragment"],
  [3, "syn"],
  [4, "syn_reply"],
  [5, "confirm"],
  [6, "heartbeat"],
  [7, "ack"],
  [8, "nak"],
  [9, "rst"],
  [10, "fill"],
  [32, "sqn"],
  [33, "sqn_ack"],
  [34, "sqn_nak"],
  [35, "commit"],
  [36, "prepare"],
  [37, "promise"],
  [38, "refuse"],
  [39, "join"],
  [40, "join_reply"],
  [41, "pull"],
  [42, "tier_fill"],
  [43, "stream_ask"],
  [44, "stream"],
  [45, "tx_acked"],
]);

/** What tshark should show for a field of a vector. */
function assertValue(actual: string | undefined, expected: string, field: string): void {
  assert.ok(actual !== undefined, `${field} is not shown`);
  if (field.endsWith(".name") || field.endsWith(".topic")) {
    const name = new TextDecoder().decode(fromHex(expected)).replace(/\0+$/, "");
    return assert.equal(actual, name, field);
  }
  const bytes = actual.replaceAll(":", "");
  if (field.endsWith(".tag") || field.endsWith(".zeros")) {
    return assert.equal(bytes, expected, field);
  }
  if (field.endsWith(".pad") && actual.includes(":")) {
    return assert.equal(BigInt(`0x${bytes}`), BigInt(`0x${expected}`), field);
  }
  if (field.endsWith("repair_ip")) {
    const ip = Number(expected);
    const parts = [ip & 255, ip >>> 8 & 255, ip >>> 16 & 255, ip >>> 24];
    return assert.equal(actual, parts.join("."), field);
  }
  assert.equal(BigInt(actual), BigInt(expected), field);
}

function assertFields(
  got: Dissected,
  values: Readonly<Record<string, string>>,
  prefix: string,
  index = 0,
): void {
  for (const [name, value] of Object.entries(values)) {
    const field = `rcm.${prefix}${name}`;
    assertValue(got.values.get(field)?.[index], value, field);
  }
}

/** What a tier's frames have besides. */
function assertTier(got: Dissected, vector: Vector): void {
  if (vector.said === undefined) return;
  assertFields(got, vector.said, "said.");
  const nested = typeName(vector) === "STREAM" ? "told." : "entry.";
  if (vector.entry !== undefined) assertFields(got, vector.entry, nested);
  vector.entries?.forEach((entry, n) => assertFields(got, entry, "entry.", n));
  vector.eras?.forEach((era, n) => assertFields(got, era, "era.", n));
  vector.positions?.forEach((position, n) => assertFields(got, position, "position.", n));
  vector.pieces?.forEach(({ head, entry, payload }, n) => {
    assertFields(got, entry, "entry.", n);
    assertFields(got, head, "piece.", n);
    assert.equal(got.values.get("rcm.piece.payload")?.[n]?.replaceAll(":", ""), payload);
  });
}

const packetOf = (vector: Vector): Packet => ({ payload: encode(vector), port: 20001 });
const expertKeys = (got: Dissected) =>
  [...got.values.keys()].filter((key) => key.startsWith("rcm.expert"));

test("the dissector shows every field of every datagram", needsTshark, () => {
  const vectors = readVectors();
  const packets = dissect(vectors.map(packetOf));
  assert.equal(packets.length, vectors.length);
  vectors.forEach((vector, i) => {
    const got = packets[i]!;
    const type = typeName(vector);
    assert.equal(got.protocol, "RCM", vector.name);
    assert.ok(got.info.startsWith(`${type} `), `${vector.name}: ${got.info}`);
    assertFields(got, vector.header, "");
    if (vector.trailer !== undefined) {
      assertFields(got, vector.trailer, "seal.");
      assert.match(got.info, /sealed/);
      const shown = got.values.get("rcm.seal.body")?.[0]?.replaceAll(":", "");
      assert.equal(shown, vector.hex.slice(64, -64), vector.name);
      return;
    }
    assert.deepEqual(got.values.get("rcm.check.ok"), ["1"], vector.name);
    const number = typeNumber(vector);
    if (bodyLayout(number) !== undefined) {
      assertFields(got, vector.body!, `${prefixes.get(number)}.`);
    }
    assertTier(got, vector);
    vector.ranges?.forEach((range, n) => assertFields(got, range, "nak.range.", n));
  });
});

test("messages and fragments are listed with their numbers and bytes", needsTshark, () => {
  const vectors = readVectors().filter((vector) => ["DATA", "FRAGMENT"].includes(typeName(vector)));
  dissect(vectors.map(packetOf)).forEach((got, i) => {
    const vector = vectors[i]!;
    const number = Number(vector.header["number"]);
    if (vector.messages === undefined) {
      const shown = got.values.get("rcm.fragment.payload")?.map((hex) => hex.replaceAll(":", ""));
      assert.deepEqual(shown, [vector.payload], vector.name);
      assert.deepEqual(got.values.get("rcm.fragment.count"), ["3"]);
      const { fragment_no, fragment_bytes } = vector.body!;
      const offset = Number(fragment_no) * Number(fragment_bytes);
      assert.deepEqual(got.values.get("rcm.fragment.offset"), [String(offset)]);
      return;
    }
    const messages = vector.messages;
    const numbers = messages.map((_, n) => String(number + n));
    assert.deepEqual(got.values.get("rcm.message.number"), numbers, vector.name);
    assert.deepEqual(got.values.get("rcm.message.count"), [String(messages.length)]);
    assert.deepEqual(
      got.values.get("rcm.message.length"),
      messages.map((message) => String(message.payload.length / 2)),
    );
    assert.deepEqual(
      got.values.get("rcm.message.payload")?.map((hex) => hex.replaceAll(":", "")),
      messages.map((message) => message.payload).filter((payload) => payload !== ""),
    );
    assert.deepEqual(
      got.values.get("rcm.message.msg_arg"),
      messages.map((message) => message.msg_arg),
    );
  });
});

test("datagrams joined in one payload are shown one behind the other", needsTshark, () => {
  const vectors = readVectors().slice(0, 5);
  const payload = fromHex(vectors.map((vector) => toHex(encode(vector))).join(""));
  const [got] = dissect([{ payload, port: 20001 }]);
  assert.deepEqual(
    got!.values.get("rcm.type"),
    vectors.map((vector) => vector.header["type"]),
  );
  assert.deepEqual(got!.values.get("rcm.check.ok"), vectors.map(() => "1"));
  assert.match(got!.info, /5 datagrams/);
});

test("what is broken is told of", needsTshark, () => {
  const vectors = new Map(readVectors().map((vector) => [vector.name, vector]));
  const bytesOf = (name: string) => encode(vectors.get(name)!);
  const withCheck = (bytes: Uint8Array) => {
    bytes.fill(0, 8, 12);
    new DataView(bytes.buffer).setUint32(8, crc32c(bytes), true);
    return bytes;
  };
  const flipped = bytesOf("ACK");
  flipped[40]! ^= 1;
  const overrun = bytesOf("DATA, three messages, padded");
  overrun[32] = 255;
  overrun[33] = 255;
  const disorder = bytesOf("NAK, three ranges");
  disorder[48 + 8] = 33;
  const unknown = bytesOf("ACK");
  unknown[3] = 66;
  const entries = bytesOf("SQN, two entries");
  entries[32 + 48] = 3;
  const pieces = bytesOf("FILL of a tier, two pieces");
  pieces[32 + 28] = 3;
  const eras = bytesOf("JOIN_REPLY, two eras");
  eras[32 + 64] = 1;
  const cases: [Uint8Array, string, number?][] = [
    [flipped, "rcm.expert.check"],
    [withCheck(overrun), "rcm.expert.malformed"],
    [withCheck(disorder), "rcm.expert.malformed rcm.expert.nak"],
    [withCheck(unknown), "rcm.expert.unknown"],
    [bytesOf("SYN"), "rcm.expert.cut", 100],
    [withCheck(entries), "rcm.expert.malformed"],
    [withCheck(pieces), "rcm.expert.malformed"],
    [withCheck(eras), "rcm.expert.malformed"],
    [bytesOf("SQN_NAK"), "rcm.expert.entries"],
    [bytesOf("REFUSE"), "rcm.expert.refused"],
    [bytesOf("FILL"), "rcm.expert.gone"],
    [bytesOf("NAK, three ranges"), "rcm.expert.nak"],
    [bytesOf("DATA, one message, repair"), "rcm.expert.repair"],
    [bytesOf("ACK without memory"), "rcm.expert.memory"],
  ];
  const packets = cases.map(([payload, , kept]) => ({
    payload,
    port: 20001,
    ...(kept === undefined ? {} : { kept }),
  }));
  dissect(packets).forEach((got, i) => {
    assert.deepEqual(expertKeys(got).sort(), cases[i]![1].split(" "), got.info);
  });
});

test("every cut and every flipped byte is shown without a script error", needsTshark, () => {
  const packets: Packet[] = [];
  for (const vector of readVectors()) {
    const payload = encode(vector);
    const step = Math.ceil(payload.length / 40);
    for (let at = 1; at < payload.length; at += step) {
      packets.push({ payload: payload.slice(0, at), port: 20001 });
      const changed = payload.slice();
      changed[at]! ^= 0xff;
      packets.push({ payload: changed, port: 20001 });
    }
  }
  const shown = dissect(packets, ["-o", "rcm.ports:20001"]);
  assert.ok(shown.every((got) => got.protocol === "RCM"));
  assert.ok(shown.every((got) => !got.values.has("_ws.lua.error")));
});

test("other traffic is left alone, unless its port is named", needsTshark, () => {
  const payload = new TextEncoder().encode("this is not a datagram of RCM, but it is long enough");
  const [found] = dissect([{ payload, port: 20001 }]);
  assert.notEqual(found!.protocol, "RCM");
  const [named] = dissect([{ payload, port: 20001 }], ["-o", "rcm.ports:20000-20005"]);
  assert.equal(named!.protocol, "RCM");
  assert.deepEqual(expertKeys(named!), ["rcm.expert.version"]);
  const ack = packetOf(readVectors().find((vector) => vector.name === "ACK")!);
  const [off] = dissect([ack], ["-o", "rcm.heuristic:FALSE"]);
  assert.notEqual(off!.protocol, "RCM");
});

test("a real session is dissected without a complaint", needsCapture, async () => {
  const folder = mkdtempSync(join(tmpdir(), "rcm-capture-"));
  const path = join(folder, "session.pcapng");
  const port = 20000 + process.pid % 10000;
  const capture = await startCapture(path, `udp port ${port} or udp portrange 35001-${PROBE_PORT}`);
  try {
    await runSession(folder, port);
    await capture.stop();
    const packets = dissectFile(path, ["-Y", `udp.dstport != ${PROBE_PORT}`]);
    assert.ok(packets.length > 0, "nothing was captured");
    const all = new Map<string, string[]>();
    for (const got of packets) {
      assert.equal(got.protocol, "RCM", got.info);
      const wrong = expertKeys(got).filter((key) => /check|malformed|unknown|version/.test(key));
      assert.deepEqual(wrong, [], got.info);
      for (const [key, values] of got.values) all.set(key, [...all.get(key) ?? [], ...values]);
    }
    const types = new Set(all.get("rcm.type"));
    for (const type of ["1", "2", "3", "4", "5", "6", "7", "9"]) {
      assert.ok(types.has(type), `no datagram of type ${type}`);
    }
    assert.ok(all.get("rcm.check.ok")!.every((ok) => ok === "1"));
    assert.ok(new Set(all.get("rcm.message.number")).size >= 100);
    assert.ok(all.get("rcm.syn.name")!.every((name) => name === "sender"));
    assert.ok(all.get("rcm.syn_reply.name")!.every((name) => name === "receiver"));
  } finally {
    await capture.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});

/** Nobody listens there: what is sent to it shows how far the capture has come. */
const PROBE_PORT = 35010;

/**
 * Captures on the loopback interface until `stop`. tshark tells that it captures before it does,
 * and writes in batches: at both ends probes are sent until they stand in the file.
 */
async function startCapture(path: string, filter: string): Promise<{ stop(): Promise<void> }> {
  const args = ["-i", "lo", "-f", filter, "-w", path, "-B", "64"];
  const child = spawn("tshark", args, { stdio: ["ignore", "ignore", "pipe"] });
  let text = "";
  child.stderr.on("data", (chunk: Uint8Array) => text += new TextDecoder().decode(chunk));
  let failure: string | null = null;
  const closed = new Promise<void>((resolve) => {
    child.on("error", (error) => {
      failure = error.message;
      resolve();
    });
    child.on("close", () => {
      failure ??= `tshark ended: ${text}`;
      resolve();
    });
  });
  const socket = createSocket("udp4");
  let number = 0;
  const reach = async () => {
    const from = number;
    for (const limit = Date.now() + 60_000; Date.now() < limit;) {
      if (failure !== null) throw new Error(failure);
      socket.send(`probe ${number}.`, PROBE_PORT, "127.0.0.1");
      number += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
      const captured = existsSync(path) ? readFileSync(path, "latin1") : "";
      for (let i = from; i < number; i += 1) if (captured.includes(`probe ${i}.`)) return;
    }
    throw new Error(`tshark writes nothing to ${path}: ${text}`);
  };
  const stop = async () => {
    child.kill("SIGINT");
    await closed;
  };
  try {
    await reach();
  } catch (error) {
    await stop();
    socket.close();
    throw error;
  }
  let stopped = false;
  return {
    async stop() {
      if (stopped) return;
      stopped = true;
      if (failure === null) await reach();
      await stop();
      socket.close();
    },
  };
}

/** A sender and a receiver in this process: small messages and one in fragments; all arrive. */
async function runSession(folder: string, port: number): Promise<void> {
  const { newRcmFactory } = await import("../../mod.ts");
  const factory = newRcmFactory({
    Rcm: {
      Transports: [{ Topic: "quotes", Id: 1, Addr: "127.0.0.1", Port: port }],
      Contexts: [
        {
          Name: "sender",
          Id: 1,
          Ip: "127.0.0.1",
          RepairPortStart: 35001,
          RepairPortEnd: 35009,
          TxTopics: [{ Name: "quotes" }],
        },
        { Name: "receiver", Id: 2, Ip: "127.0.0.1", RxTopics: [{ Name: "quotes" }] },
      ],
    },
  }, folder);
  await using _factory = factory;
  factory.setFilePrefix(`rcm_dissector_${process.pid}_`);
  const receiver = factory.newRcmContext("receiver");
  let received = 0;
  receiver.createReceiver({ onMessage: () => void (received += 1) });
  const sender = factory.newRcmContext("sender");
  const quotes = sender.createTransmitter("quotes");
  try {
    await receiver.start();
    await sender.start();
    assert.ok(await quotes.connected(1, 30_000), "the receiver did not connect");
    for (let i = 0; i < 100; i += 1) assert.equal(quotes.sendData(`quote ${i}`), 0);
    assert.equal(quotes.sendData(new Uint8Array(10_000).fill(7)), 0);
    assert.ok(await quotes.flush(30_000), "not everything was acknowledged");
    while (received < 101) await new Promise((resolve) => setTimeout(resolve, 5));
  } finally {
    await sender.stop();
    await receiver.stop();
    const { readdirSync } = await import("node:fs");
    for (const name of readdirSync("/dev/shm")) {
      if (name.startsWith(`rcm_dissector_${process.pid}_`)) rmSync(join("/dev/shm", name));
    }
  }
}
