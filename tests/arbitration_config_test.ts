/** Configuration from arbitration: `newRcmFactory(null)`, and writing it (guide 8.1). */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { deleteRcmFactory, newRcmFactory, RcmError, type RcmFactory } from "../mod.ts";
import { hide, parseArbAddress } from "../src/arbitration/address.ts";
import { pushConfig, splitText } from "../src/arbitration/config_push.ts";
import { nativeLibrary } from "../src/native/library.ts";
import { startZookeeper, type Zookeeper, zookeeperMissing } from "../tools/zookeeper.ts";
import { makeBed, makeLocal, state } from "./arbitration_bed.ts";
import { rejectsCode } from "./arbitration_errors.ts";

const missing = zookeeperMissing();
const reason = missing === false ? "" : ` (${missing})`;
const local = makeLocal();
const workDir = mkdtempSync(join(tmpdir(), "rcm-config-"));
let zookeeper: Zookeeper | null = null;
before(async () => {
  if (missing === false) zookeeper = await startZookeeper();
});
after(async () => {
  local.remove();
  rmSync(workDir, { recursive: true, force: true });
  await zookeeper?.stop();
});

const textOf = (name: string, topics = 1) =>
  JSON.stringify({
    Rcm: {
      Transports: Array.from({ length: topics }, (_, i) => ({
        Id: i + 1,
        Topic: `${name}_${i}_${"t".repeat(40)}`,
        Addr: "239.0.1.1",
        Port: 30000,
      })),
      Contexts: [{ Name: name, Id: 1, Ip: "127.0.0.1", RxTopics: [{ Name: "*" }] }],
    },
  }).replace(
    '"*"',
    JSON.stringify(`${name}_0_${"t".repeat(40)}`),
  );

function throwsCode(call: () => unknown, code: string): RcmError {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof RcmError, `${error}`);
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`it was expected to throw ${code}`);
}

async function withFactory(body: (factory: RcmFactory) => void | Promise<void>): Promise<void> {
  const factory = newRcmFactory(null, workDir);
  try {
    await body(factory);
  } finally {
    await deleteRcmFactory(factory);
  }
}

function both(name: string, body: (address: string, path: string) => Promise<void>): void {
  let path = 0;
  test(`local: ${name}`, () => body(local.address, `/c${name.length}_${path += 1}`));
  test(
    `ZooKeeper: ${name}${reason}`,
    { skip: missing },
    () => body(zookeeper!.address, `/c${name.length}_${path += 1}`),
  );
}

both("what was pushed is what a factory without a file has", async (address, path) => {
  await withFactory((factory) => {
    factory.setArbArg(address, path);
    const none = throwsCode(() => factory.getConfig(), "ARBITRATION");
    assert.match(none.message, /no configuration/);
  });
  const pushed = await pushConfig(nativeLibrary(), address, path, textOf("one"), "one.json");
  assert.deepEqual(pushed, { parts: 1, bytes: textOf("one").length, isAtomic: true });
  await withFactory(async (factory) => {
    factory.setArbArg(address, path);
    const context = factory.newRcmContext("one");
    throwsCode(() => factory.setArbArg(address, path), "STATE");
    throwsCode(() => factory.newRcmContext("two"), "ARGUMENT");
    await factory.deleteRcmContext(context);
  });
  await pushConfig(nativeLibrary(), address, path, textOf("two"), "two.json");
  await withFactory(async (factory) => {
    factory.setArbArg(address, path);
    await factory.deleteRcmContext(factory.newRcmContext("two"));
  });
});

both("over 900,000 bytes: several parts, and fewer again", async (address, path) => {
  const large = textOf("large", 9_500);
  assert.ok(large.length > 1_000_000, `${large.length}`);
  const pushed = await pushConfig(nativeLibrary(), address, path, large, "large.json");
  assert.deepEqual(pushed, { parts: 2, bytes: large.length, isAtomic: false });
  await withFactory(async (factory) => {
    factory.setArbArg(address, path);
    await factory.deleteRcmContext(factory.newRcmContext("large"));
  });
  const bed = makeBed(address);
  const tool = await bed.member("rcm", { path, tier: "" });
  await tool.arbiter.join(state(), "none");
  assert.equal(await tool.arbiter.readConfig(), large);
  await pushConfig(nativeLibrary(), address, path, textOf("small"), "small.json");
  assert.equal(await tool.arbiter.readConfig(), textOf("small"));
  await bed.close();
});

both("one with faults is not written, and what is there stays", async (address, path) => {
  await pushConfig(nativeLibrary(), address, path, textOf("one"), "one.json");
  const wrong = textOf("one").replace("Ip", "Ipp");
  const error = await rejectsCode(
    pushConfig(nativeLibrary(), address, path, wrong, "wrong.json"),
    "CONFIG",
  );
  assert.ok(error.details.some((line) => line.includes("Ipp")), `${error.details}`);
  await withFactory(async (factory) => {
    factory.setArbArg(address, path);
    await factory.deleteRcmContext(factory.newRcmContext("one"));
  });
});

both("two that push at one moment: one of them, whole", async (address, path) => {
  const texts = ["a", "b", "c", "d"].map((name) => textOf(name, 20));
  await Promise.allSettled(
    texts.map((text) => pushConfig(nativeLibrary(), address, path, text, "x.json")),
  );
  const bed = makeBed(address);
  const tool = await bed.member("rcm", { path, tier: "" });
  await tool.arbiter.join(state(), "none");
  assert.ok(texts.includes(await tool.arbiter.readConfig()));
  await bed.close();
});

test(
  `no server: ARBITRATION, synchronously, within ten seconds${reason}`,
  { skip: missing },
  () =>
    withFactory((factory) => {
      factory.setArbArg("127.0.0.1:1", "/rcm");
      const error = throwsCode(() => factory.newRcmContext("x"), "ARBITRATION");
      assert.match(error.message, /127\.0\.0\.1:1/);
    }),
);

test("addresses and paths are checked when they are given", () =>
  withFactory((factory) => {
    for (const path of ["", "rcm", "/", "/rcm/", "/a//b", "/a/../b", "/a\nb"]) {
      throwsCode(() => factory.setArbArg("127.0.0.1:2181", path), "ARGUMENT");
    }
    const bad = ["", "a:0", "a:70000", "a b:1", "a:1,,b:1", "digest:x@a:1", "x@a:1", "local:rel"];
    for (const address of bad) throwsCode(() => factory.setArbArg(address, "/rcm"), "ARGUMENT");
    const good = [
      "10.0.0.1",
      "a:1,b:2,c",
      "[::1]:2181",
      "a:1/chroot",
      "digest:u:p@q@a:1",
      "local:",
    ];
    for (const address of good) factory.setArbArg(address, "/rcm/deep");
    assert.deepEqual(parseArbAddress("digest:u:p@q@a:1,b"), {
      kind: "zookeeper",
      hosts: "a:1,b:2181",
      auth: "u:p@q",
    });
    assert.equal(hide("digest:u:p@q@a:1"), "digest:u:***@a:1");
  }));

test("a text is cut between letters", () => {
  const text = "aé€😀".repeat(50);
  for (let most = 4; most < 40; most += 1) {
    const parts = splitText(text, most);
    assert.equal(parts.join(""), text);
    for (const part of parts) assert.ok(new TextEncoder().encode(part).length <= most);
  }
  assert.deepEqual(splitText("", 10), [""]);
});
