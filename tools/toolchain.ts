/**
 * The pinned toolchain, fetched into `.toolchain/` of the project by the registries' own clients:
 * Zig from PyPI by pip, Bun from npm by npm or by Deno. Nothing outside the project is written, and
 * where everything is there nothing is asked of the network.
 *
 * A folder's name holds its version, and it gets that name only when what lies in it answered with
 * that version; so that the name is all a later run has to look at.
 */

import { fromFileUrl, removeIfThere } from "./paths.ts";
import { capture, findProgram, ToolError } from "./process.ts";

export const zigVersion = "0.17.0";
export const bunVersion = "1.4.5";
/** For machines without Deno: `npx -y deno@...` (README). */
export const denoVersion = "2.9.6";

/** Root of the project, without a slash at the end. */
export const projectRoot = fromFileUrl(new URL("..", import.meta.url)).replace(/\/$/, "");
export const toolchainRoot = `${projectRoot}/.toolchain`;

const zigFolder = `${toolchainRoot}/zig-${zigVersion}`;
const bunFolder = `${toolchainRoot}/bun-${bunVersion}`;
/** Bun's binary for glibc and CPUs from 2013 on, which the native library asks for as well. */
const bunPackage = "@oven/bun-linux-x64";

/** Path of Zig. `RCM_ZIG` names another copy of the same version. */
export async function ensureZig(): Promise<string> {
  requirePlatform();
  const own = Deno.env.get("RCM_ZIG");
  if (own !== undefined) return await requireVersion(own, ["version"], zigVersion, "RCM_ZIG");
  const zig = `${zigFolder}/ziglang/zig`;
  if (!exists(zig)) await withLock("zig", () => exists(zig) ? Promise.resolve() : fetchZig());
  return zig;
}

/** Path of Bun. `RCM_BUN` names another copy of the same version. */
export async function ensureBun(): Promise<string> {
  requirePlatform();
  const own = Deno.env.get("RCM_BUN");
  if (own !== undefined) return await requireVersion(own, ["--version"], bunVersion, "RCM_BUN");
  const bun = `${bunFolder}/bun`;
  if (!exists(bun)) await withLock("bun", () => exists(bun) ? Promise.resolve() : fetchBun());
  return bun;
}

/** What the command line (`src/cli`) is made with, in the version that `package.json` names. */
const commandPackage = "commander";

/** Makes the command-line library ready for both runtimes; nothing else needs one. */
export async function ensureCommandLibrary(bun: string): Promise<void> {
  const manifest = `${projectRoot}/node_modules/${commandPackage}/package.json`;
  const { devDependencies } = JSON.parse(Deno.readTextFileSync(`${projectRoot}/package.json`));
  const wanted = devDependencies[commandPackage];
  const isThere = () =>
    exists(manifest) && JSON.parse(Deno.readTextFileSync(manifest)).version === wanted;
  if (!isThere()) {
    await withLock("packages", async () => {
      if (isThere()) return; // Another process was first.
      console.error(`fetching ${commandPackage} ${wanted} into node_modules/ ...`);
      const options = { cwd: projectRoot, timeoutMs: 5 * 60_000 };
      const { output } = await capture(bun, ["install", "--no-save"], options);
      if (!isThere()) throw new ToolError(`${commandPackage} can't be fetched:\n${output.trim()}`);
    });
  }
  // Deno has a cache of its own, and asks nobody where that is filled.
  const spec = `npm:${commandPackage}@${wanted}`;
  const { code, output } = await capture(Deno.execPath(), ["cache", spec], { cwd: projectRoot });
  if (code !== 0) throw new ToolError(`${spec} can't be fetched:\n${output.trim()}`);
}

/** Zig's caches stay in the project unless the user has chosen a place. */
export function zigEnvironment(): Record<string, string> {
  const cache = Deno.env.get("ZIG_GLOBAL_CACHE_DIR") ?? `${toolchainRoot}/zig-cache`;
  return { ZIG_GLOBAL_CACHE_DIR: cache };
}

/** Runs `work` while no other process of this project does the same. */
export async function withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
  await Deno.mkdir(toolchainRoot, { recursive: true });
  using file = await Deno.open(`${toolchainRoot}/${name}.lock`, { create: true, write: true });
  await file.lock(true);
  return await work();
}

function requirePlatform(): void {
  if (Deno.build.os === "linux" && Deno.build.arch === "x86_64") return;
  throw new ToolError(
    `RCM is built for Linux on x86_64; this is ${Deno.build.os} on ${Deno.build.arch}`,
  );
}

async function requireVersion(
  path: string,
  args: readonly string[],
  wanted: string,
  variable: string,
): Promise<string> {
  const { code, output } = await capture(path, args, { timeoutMs: 30_000 });
  const found = output.trim();
  if (code === 0 && found === wanted) return path;
  throw new ToolError(`${variable}=${path}: expected version ${wanted}, found: ${found}`);
}

async function fetchZig(): Promise<void> {
  console.error(`fetching Zig ${zigVersion} from PyPI into .toolchain/ ...`);
  const python = findProgram("python3");
  const requirement = `ziglang==${zigVersion}`;
  if (python === null) {
    throw new ToolError(
      `Python 3 is needed to fetch Zig ${zigVersion}. Install it: ` +
        "apt-get install -y python3 python3-pip   (Debian, Ubuntu; other systems: their package)",
    );
  }
  await fetchInto(zigFolder, async (folder) => {
    const env = { TMPDIR: folder, PIP_DISABLE_PIP_VERSION_CHECK: "1" };
    const hasPip = (await capture(python, ["-m", "pip", "--version"])).code === 0;
    const options = ["--no-cache-dir", "--no-deps", "--only-binary=:all:", "--no-compile"];
    const args = hasPip
      ? ["-m", "pip", "install", "--target", folder, ...options, requirement]
      : [`${projectRoot}/tools/fetch_wheel.py`, "ziglang", zigVersion, folder];
    const result = await capture(python, args, { env, timeoutMs: 15 * 60_000 });
    const found = await capture(`${folder}/ziglang/zig`, ["version"], { timeoutMs: 60_000 });
    if (result.code === 0 && found.output.trim() === zigVersion) return;
    throw new ToolError(
      `Zig ${zigVersion} can't be fetched:\n${result.output.trim()}\nTo do it by hand:\n` +
        `  python3 -m pip install --target ${zigFolder} ${requirement}\n` +
        "or name a copy of that version: RCM_ZIG=/path/to/zig",
    );
  });
}

async function fetchBun(): Promise<void> {
  console.error(`fetching Bun ${bunVersion} from npm into .toolchain/ ...`);
  const spec = `${bunPackage}@${bunVersion}`;
  await fetchInto(bunFolder, async (folder) => {
    let log = "";
    for (const attempt of [fetchByNpm, fetchByDeno]) {
      const { binary, output } = await attempt(`${folder}/fetched`, spec);
      log += output;
      if (binary === null) continue;
      await Deno.rename(binary, `${folder}/bun`);
      await Deno.chmod(`${folder}/bun`, 0o755);
      await removeIfThere(`${folder}/fetched`);
      const found = await capture(`${folder}/bun`, ["--version"], { timeoutMs: 60_000 });
      if (found.code === 0 && found.output.trim() === bunVersion) return;
      log += found.output;
    }
    throw new ToolError(
      `Bun ${bunVersion} can't be fetched:\n${log.trim()}\nTo do it by hand:\n` +
        `  npm install -g bun@${bunVersion}\nand name it: RCM_BUN=$(which bun)`,
    );
  });
}

interface Fetched {
  /** The executable, or null where this way does not lead to one. */
  readonly binary: string | null;
  readonly output: string;
}

/** The platform's package holds the executable itself, so that no install script has to run. */
async function fetchByNpm(folder: string, spec: string): Promise<Fetched> {
  const npm = findProgram("npm");
  if (npm === null) return { binary: null, output: "" };
  await Deno.mkdir(folder, { recursive: true });
  const flags = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"];
  const places = ["--prefix", folder, "--cache", `${folder}/cache`];
  const { code, output } = await capture(npm, ["install", ...places, ...flags, spec], {
    cwd: folder,
  });
  const binary = `${folder}/node_modules/${bunPackage}/bin/bun`;
  return { binary: code === 0 && exists(binary) ? binary : null, output };
}

/** Deno's own npm client, with a cache of its own that is thrown away afterwards. */
async function fetchByDeno(folder: string, spec: string): Promise<Fetched> {
  await Deno.mkdir(folder, { recursive: true });
  const cache = `${folder}/deno`;
  const args = ["cache", "--no-config", "--no-lock", `npm:${spec}`];
  const { output } = await capture(Deno.execPath(), args, {
    cwd: folder,
    env: { DENO_DIR: cache, DENO_NO_UPDATE_CHECK: "1" },
  });
  const ending = `/${bunPackage}/${bunVersion}/bin/bun`;
  return { binary: await findFile(`${cache}/npm`, ending), output };
}

async function findFile(folder: string, ending: string): Promise<string | null> {
  if (!exists(folder)) return null;
  for await (const entry of Deno.readDir(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isFile && path.endsWith(ending)) return path;
    const found = entry.isDirectory ? await findFile(path, ending) : null;
    if (found !== null) return found;
  }
  return null;
}

/** Lets `fill` work in a folder beside `target`, which gets the target's name when it succeeded. */
async function fetchInto(target: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const folder = `${target}.part`;
  await removeIfThere(folder);
  await Deno.mkdir(folder, { recursive: true });
  try {
    await fill(folder);
    await removeIfThere(target);
    await Deno.rename(folder, target);
  } finally {
    await removeIfThere(folder);
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
