import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { deleteRcmFactory, newRcmFactory } from "../mod.ts";
import { makeLocal } from "./arbitration_bed.ts";
import { rcm } from "./cli_run.ts";

const GOOD = `{
  // As in a file.
  "Rcm": {
    "Transports": [{ "Id": 1, "Topic": "t", "Addr": "239.0.1.1", "Port": 30000 }],
    "Contexts": [{ "Name": "rx", "Id": 1, "Ip": "127.0.0.1", "RxTopics": [{ "Name": "t" }] }],
  },
}`;

test("rcm config push: what it wrote is what newRcmFactory(null) reads", async () => {
  const local = makeLocal();
  const folder = mkdtempSync(join(tmpdir(), "rcm-push-"));
  const file = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  try {
    const good = file("good.json", GOOD);
    const where = ["--address", local.address, "--path", "/rcm"];
    assert.deepEqual(await rcm("config", "push", good, ...where), {
      exit: 0,
      out: [`${good}: ${GOOD.length} bytes in 1 node of /rcm/config`],
      err: [],
    });
    const bad = file("bad.json", GOOD.replace('"Id"', '"Idd"'));
    const refused = await rcm("config", "push", bad, ...where);
    assert.equal(refused.exit, 1);
    assert.deepEqual(refused.out, []);
    assert.match(refused.err.join("\n"), /not written, it has faults:\n.*Idd/);
    const again = await rcm("config", "push", good, ...where, "--json");
    assert.deepEqual(JSON.parse(again.out.join("")), {
      file: good,
      path: "/rcm",
      parts: 1,
      bytes: GOOD.length,
      isAtomic: true,
    });
    const none = await rcm("config", "push", join(folder, "none.json"), ...where);
    assert.deepEqual([none.exit, none.out], [3, []]);
    const nowhere = await rcm("config", "push", good, "--address", "local:", "--path", "rcm");
    assert.equal(nowhere.exit, 3);
    assert.match(nowhere.err.join("\n"), /ARGUMENT/);
    assert.equal((await rcm("config", "push", good)).exit, 2);
    const factory = newRcmFactory(null, folder);
    factory.setArbArg(local.address, "/rcm");
    await factory.deleteRcmContext(factory.newRcmContext("rx"));
    await deleteRcmFactory(factory);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    local.remove();
  }
});
