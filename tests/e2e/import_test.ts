/**
 * Importing the library from anywhere, in both runtimes: by absolute path from an empty folder,
 * without a configuration of the runtime, and with a native library that is missing or another.
 */

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readElf } from "../../tools/elf.ts";
import { type Ended, runProgram } from "./fixtures/program.ts";
import { type Bed, e2e, type Runtime, runtimes } from "./harness/driver.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const library = join(root, "native/out/librcm.so");
const BUILD = "deno task build";

/** A program in an otherwise empty folder. */
function program(bed: Bed, name: string, text: string): { folder: string; file: string } {
  const folder = join(bed.folder, name);
  mkdirSync(folder);
  const file = join(folder, "main.ts");
  writeFileSync(file, text);
  return { folder, file };
}

/** The public module and what it needs, elsewhere: without a library. */
function copyOfSource(bed: Bed, name: string): string {
  const folder = join(bed.folder, name);
  mkdirSync(folder);
  cpSync(join(root, "mod.ts"), join(folder, "mod.ts"));
  cpSync(join(root, "src"), join(folder, "src"), { recursive: true });
  return folder;
}

async function run(
  runtime: Runtime,
  { folder, file }: { folder: string; file: string },
  env: Record<string, string> = {},
): Promise<Ended> {
  const ended = await runProgram(runtime, file, {
    folder,
    // Set to nothing: neither this process's own choice counts, nor the project's configuration.
    env: { RCM_LIBRARY: "", ...env },
    runtimeArgs: runtime === "deno" ? ["--no-config", "--no-lock", "--cached-only"] : [],
  });
  assert.equal(ended.isLate, false, ended.stderr);
  return ended;
}

const useIt = (module: string) => `
  import { getRcmVersion, newRcmFactory, RcmError } from ${JSON.stringify(module)};
  const config = {
    Rcm: {
      Transports: [{ Id: 1, Topic: "t", Addr: "127.0.0.1", Port: 23456 }],
      Contexts: [{ Name: "tx", Id: 1, Ip: "127.0.0.1", TxTopics: [{ Name: "t" }] }],
    },
  };
  try {
    const factory = newRcmFactory(config, ".");
    factory.newRcmContext("tx").createTransmitter("t");
    console.log(JSON.stringify({ version: getRcmVersion() }));
    await factory[Symbol.asyncDispose]();
  } catch (error) {
    if (!(error instanceof RcmError)) throw error;
    console.log(JSON.stringify({ code: error.code, message: error.message }));
  }
`;

interface Told {
  readonly version?: string;
  readonly code?: string;
  readonly message?: string;
}

function told({ code, stdout, stderr }: Ended): Told {
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout.trim()) as Told;
}

for (const runtime of runtimes) {
  e2e(`${runtime}: the module works by its absolute path from an empty folder`, async (bed) => {
    const main = program(bed, "empty", useIt(join(root, "mod.ts")));
    const { version } = told(await run(runtime, main));
    assert.equal(version, readElf(new Uint8Array(readFileSync(library))).version);
    assert.match(version!, /^rcm version V\d+\.\d+\.\d+\.\d+/);
  });

  e2e(`${runtime}: without a library the error names the command that builds it`, async (bed) => {
    const source = copyOfSource(bed, "source");
    const main = program(bed, "empty", useIt(join(source, "mod.ts")));
    const { code, message } = told(await run(runtime, main));
    assert.equal(code, "NATIVE");
    assert.ok(message!.includes(join(source, "native/out/librcm.so")), message);
    assert.ok(message!.includes(BUILD), message);
  });

  e2e(`${runtime}: RCM_LIBRARY names a library that lies elsewhere`, async (bed) => {
    const source = copyOfSource(bed, "source");
    const elsewhere = join(bed.folder, "another name.so");
    cpSync(library, elsewhere);
    const main = program(bed, "empty", useIt(join(source, "mod.ts")));
    const { version } = told(await run(runtime, main, { RCM_LIBRARY: elsewhere }));
    assert.match(version!, /^rcm version V/);
  });

  e2e(`${runtime}: RCM_LIBRARY that names nothing, or no library, is an error`, async (bed) => {
    const main = program(bed, "empty", useIt(join(root, "mod.ts")));
    const text = join(bed.folder, "text.so");
    writeFileSync(text, "no library");
    for (const path of [join(bed.folder, "nowhere.so"), text]) {
      const { code, message } = told(await run(runtime, main, { RCM_LIBRARY: path }));
      assert.equal(code, "NATIVE");
      assert.ok(message!.includes(path), message);
      assert.ok(message!.includes(BUILD), message);
    }
  });

  e2e(`${runtime}: a library of another layout is refused, with the command`, async (bed) => {
    const source = copyOfSource(bed, "source");
    const path = join(source, "src/native/abi.ts");
    const abi = readFileSync(path, "utf8");
    const hash = /(export const ABI_HASH\b[^=]*= )(0x[0-9a-f]+)/.exec(abi);
    assert.ok(hash, "src/native/abi.ts has no hash");
    const other = `0x${((Number(hash[2]) ^ 1) >>> 0).toString(16).padStart(8, "0")}`;
    writeFileSync(path, abi.replace(hash[0], hash[1] + other));
    const main = program(bed, "empty", useIt(join(source, "mod.ts")));
    const { code, message } = told(await run(runtime, main, { RCM_LIBRARY: library }));
    assert.equal(code, "NATIVE");
    for (const part of [library, other, hash[2]!, BUILD]) {
      assert.ok(message!.includes(part), `${part} in: ${message}`);
    }
  });

  e2e(
    `${runtime}: importing opens nothing: the library is loaded when it is needed`,
    async (bed) => {
      const main = program(
        bed,
        "empty",
        `import * as rcm from ${JSON.stringify(join(root, "mod.ts"))};
       console.log(JSON.stringify({ version: Object.keys(rcm).sort().join() }));`,
      );
      const { version } = told(await run(runtime, main, { RCM_LIBRARY: "/nowhere" }));
      assert.ok(version!.includes("newRcmFactory"), version);
    },
  );
}

e2e("the library says its version, and asks for no newer glibc than 2.17", () => {
  const { version, glibc, noDelete } = readElf(new Uint8Array(readFileSync(library)));
  assert.match(version!, /^rcm version V\d+\.\d+\.\d+\.\d+/);
  assert.ok(glibc[0] === 2 && glibc[1] <= 17, `glibc ${glibc.join(".")}`);
  assert.equal(noDelete, true, "its threads outlive a dlclose");
  return Promise.resolve();
});
