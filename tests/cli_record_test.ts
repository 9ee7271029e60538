import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { test } from "node:test";
import { crc32c } from "../src/cli/crc32c.ts";
import { type Bus, collect, type Got, LIMIT_MS, until, withBus } from "./api_bus.ts";
import { rcm } from "./cli_run.ts";

const SMALL = 300;
/** Larger than a block: it lies in memory of its own. */
const LARGE_BYTES = 3_000_000;
const RECORDED = { contexts: { rx1: { IsRecord: 1, RecordSegmentMBytes: 8 } } };

interface Dumped {
  readonly sqn: number;
  readonly topic: string;
  readonly txContext: string;
  readonly msgNo: number;
  readonly msgArg: number;
  readonly txArg: number;
  readonly timeMs: number;
  readonly length: number;
  readonly file: number;
  readonly offset: number;
  readonly payload?: string;
}

/** A record of small messages, and a large one among them; what was delivered. */
async function withRecord(
  run: (folder: string, got: readonly Got[], bus: Bus) => Promise<void>,
  whileLive: (folder: string) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  await withBus({ ...RECORDED }, async (bus, factory) => {
    const got: Got[] = [];
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(got));
    await rx.start();
    const tx = factory.newRcmContext("tx1");
    const transmitter = tx.createTransmitter("t", null, 77);
    await tx.start();
    await transmitter.connected(1, LIMIT_MS);
    for (let i = 0; i < SMALL; i += 1) {
      assert.equal(transmitter.sendData(`message ${i}`, 1, i), 0);
      if (i === 100) assert.equal(transmitter.sendData(new Uint8Array(LARGE_BYTES).fill(5)), 0);
    }
    await until(() => got.length === SMALL + 1, "all messages");
    const folder = join(bus.workDir, "rx1");
    await whileLive(folder);
    await tx.stop();
    await rx.stop();
    await run(folder, got, bus);
  });
}

async function dump(folder: string, ...more: readonly string[]): Promise<Dumped[]> {
  const { exit, out, err } = await rcm("record", "dump", folder, "--json", ...more);
  assert.deepEqual([exit, err], [0, []]);
  return out.map((line) => JSON.parse(line) as Dumped);
}

test("CRC32C is the one of files and frames", () => {
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe306_9283);
  assert.equal(crc32c(new Uint8Array(0)), 0);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a91_36aa);
});

test("rcm record dump lists what was delivered, and verify sums it up", async () => {
  await withRecord(async (folder, got) => {
    const all = await dump(folder, "--payload", "1000");
    assert.deepEqual(
      all.map(({ sqn, topic, txContext, msgNo, msgArg, txArg, timeMs }) =>
        [sqn, topic, txContext, msgNo, msgArg, txArg, timeMs].join(" ")
      ),
      got.map((one) =>
        [one.sqn, one.topic, one.from, one.txMsgNo, one.msgArg, one.txArg, one.timeMs].join(" ")
      ),
    );
    const large = all.findIndex(({ length }) => length === LARGE_BYTES);
    assert.equal(all[large]?.payload, "05".repeat(1000));
    for (const [at, { payload }] of all.entries()) {
      if (at !== large) assert.equal(fromHex(payload!), got[at]?.text);
    }
    const bytes = readFileSync(join(folder, "rcm_sqn_data_0.dat"));
    const { offset, length } = all[7]!;
    assert.equal(String(bytes.subarray(offset, offset + length)), got[7]?.text);

    const some = await dump(folder, "--from", "10", "--count", "3");
    assert.deepEqual(some.map(({ sqn, payload }) => [sqn, payload]), [
      [10, undefined],
      [11, undefined],
      [12, undefined],
    ]);
    const lines = await rcm("record", "dump", folder, "--count", "1", "--payload", "4");
    assert.match(
      lines.out[0]!,
      /^0 {2}20\S+Z {2}t\/1 tx1 {2}no 0 {2}arg 0 txArg 77 {2}9 bytes {2}6d657373$/,
    );
    // A file of it names the record, too.
    assert.equal((await dump(join(folder, "rcm_sqn_data_0.dat"))).length, SMALL + 1);

    const verified = await rcm("record", "verify", folder, "--json");
    assert.equal(verified.exit, 0);
    const summary = JSON.parse(verified.out[0]!);
    const payload = got.reduce((sum, { text }) => sum + text.length, 0);
    assert.deepEqual(
      [summary.context, summary.firstSqn, summary.nextSqn, summary.payloadBytes, summary.damage],
      ["rx1", 0, SMALL + 1, payload, null],
    );
    assert.deepEqual([summary.isLive, summary.streams.length], [false, 1]);
    const text = await rcm("record", "verify", folder);
    assert.match(text.out.join("\n"), /messages \[0, 301\): 301, \d+ bytes of payload/);
  }, async (folder) => {
    const live = await rcm("record", "verify", folder, "--json");
    assert.deepEqual([live.exit, JSON.parse(live.out[0]!).nextSqn], [0, SMALL + 1]);
    assert.equal(JSON.parse(live.out[0]!).isLive, true);
    const refused = await rcm("record", "cut", folder, "5");
    assert.equal(refused.exit, 3);
    assert.match(refused.err.join(" "), /is in use by process|already open in this process/);
  });
});

test("rcm record cut: what stays is whole, and the next start goes on there", async () => {
  await withRecord(async (folder, got, bus) => {
    for (const sqn of [250, 101, 50]) {
      const { exit, out } = await rcm("record", "cut", folder, String(sqn), "--json");
      assert.equal(exit, 0);
      assert.equal(JSON.parse(out[0]!).sqn, sqn);
      assert.equal((await dump(folder)).length, sqn);
      assert.equal((await rcm("record", "verify", folder)).exit, 0);
    }
    for (const sqn of ["51", "9007199254740991"]) {
      const beyond = await rcm("record", "cut", folder, sqn);
      assert.equal(beyond.exit, 3);
      assert.match(beyond.err.join(" "), /has \[0, 50\): it can't be cut at/);
    }
    // The sender still has what the receiver forgot.
    const again: Got[] = [];
    const factory = bus.factory();
    const rx = factory.newRcmContext("rx1");
    rx.createReceiver(collect(again));
    await rx.start();
    const tx = factory.newRcmContext("tx1");
    tx.createTransmitter("t", null, 77);
    await tx.start();
    await until(() => again.length === got.length, "everything again");
    assert.deepEqual(
      again.map(({ sqn, text, txMsgNo }) => [sqn, text, txMsgNo]),
      got.map(({ sqn, text, txMsgNo }) => [sqn, text, txMsgNo]),
    );
    assert.ok(!bus.lines.some(({ content }) => content.includes("damaged")));
    await tx.stop();
    await rx.stop();
    const all = await rcm("record", "cut", folder, "0");
    assert.equal(all.exit, 0);
    assert.ok(readdirSync(folder).every((name) => name.endsWith(".cut")));
  });
});

test("a flipped bit is found, and so is a torn tail; what is in front is shown", async () => {
  await withRecord(async (folder) => {
    const all = await dump(folder);
    const path = join(folder, "rcm_sqn_data_0.dat");
    const whole = readFileSync(path);
    for (const victim of [0, 100, 101, 200]) {
      const { file, offset, length } = all[victim]!;
      assert.equal(file, 0);
      const bytes = Buffer.from(whole);
      bytes[offset + length - 1]! ^= 4;
      writeFileSync(path, bytes);
      const { exit, out, err } = await rcm("record", "dump", folder);
      assert.deepEqual([exit, out.length], [1, victim], `message ${victim}`);
      assert.match(err.join("\n"), new RegExp(`damaged: file 0, byte \\d+: record ${victim} is`));
      const verified = await rcm("record", "verify", folder, "--json");
      assert.equal(verified.exit, 1);
      assert.equal(JSON.parse(verified.out[0]!).damage.file, 0);
      const beyond = await rcm("record", "cut", folder, String(victim + 1));
      assert.equal(beyond.exit, 3);
    }
    writeFileSync(path, whole.subarray(0, all[150]!.offset + 3));
    // The large one, 101, lies behind the segment.
    const torn = await rcm("record", "dump", folder);
    assert.deepEqual([torn.exit, torn.out.length], [1, 101]);
    writeFileSync(path, Buffer.concat([Buffer.alloc(300), whole.subarray(300)]));
    const headless = await rcm("record", "verify", folder);
    assert.equal(headless.exit, 1);
    assert.match(headless.out.join("\n"), /damaged: file 0, byte 0: the file's header/);
    // What can be made good by a cut is good afterwards.
    const { offset } = all[200]!;
    const bytes = Buffer.from(whole);
    bytes[offset]! ^= 1;
    writeFileSync(path, bytes);
    assert.equal((await rcm("record", "cut", folder, "200")).exit, 0);
    assert.equal((await rcm("record", "verify", folder)).exit, 0);
    assert.equal((await dump(folder)).length, 200);
  });
});

test("what is no record is told", async () => {
  await withRecord(async (folder, _got, bus) => {
    for (const command of ["dump", "verify"]) {
      const nowhere = await rcm("record", command, join(bus.workDir, "nowhere"));
      assert.equal(nowhere.exit, 3);
      assert.match(nowhere.err[0]!, /^rcm: .*nowhere: ENOENT/);
      const empty = await rcm("record", command, bus.workDir);
      assert.equal(empty.exit, 3);
      assert.match(empty.err[0]!, /no record there: expected rcm_sqn_data_0.dat/);
    }
    for (const text of ["-1", "x", "1.5", "99999999999999999"]) {
      const wrong = await rcm("record", "dump", folder, `--from=${text}`);
      assert.deepEqual([wrong.exit, wrong.out], [2, []], text);
      assert.match(wrong.err[0]!, /--from: expected a whole number/);
    }
    assert.equal((await rcm("record", "dump", folder, "--from", "302")).exit, 3);
    assert.equal((await rcm("record", "cut", folder)).exit, 2);
    assert.equal((await rcm("record", "cut", folder, "ten")).exit, 2);
    // Another context's folder.
    const moved = join(bus.workDir, "other");
    mkdirSync(moved, { mode: 0o700 });
    for (const name of readdirSync(folder)) copyFileSync(join(folder, name), join(moved, name));
    const foreign = await rcm("record", "cut", moved, "5");
    assert.equal(foreign.exit, 3);
    assert.match(foreign.err.join(" "), /is the record of another context/);
    renameSync(join(folder, "rcm_sqn_data_0.dat"), join(folder, "x"));
    assert.equal((await rcm("record", "verify", folder)).exit, 3);
    assert.equal(existsSync(join(folder, "rcm_sqn_data_0.dat")), false);
  });
});

function fromHex(text: string): string {
  return String(Buffer.from(text, "hex"));
}
