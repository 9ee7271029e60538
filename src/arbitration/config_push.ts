/** Writes a configuration to `<path>/config/1..n`: what `newRcmFactory(null)` reads (guide 8.1). */

import { loadConfigText } from "../config/mod.ts";
import type { NativeLibrary } from "../native/library.ts";
import { partNames } from "./config_nodes.ts";
import { arbitrationError } from "./native_session.ts";
import { openTree } from "./open.ts";
import { DATA_BYTES_MAX, type Tree, type TreeChange } from "./tree.ts";
import { makeFolders } from "./tree_folders.ts";

/** Longest part; several and what else a transaction has fit below `DATA_BYTES_MAX`. */
const PART_BYTES_MAX = 900_000;
const SESSION_TIMEOUT_MS = 4_000;
const CONNECT_TIMEOUT_MS = 10_000;
const TRIES_MAX = 5;

/** What was written. */
export interface PushedConfig {
  readonly parts: number;
  readonly bytes: number;
  /**
   * It was written in one transaction. Over 1,000,000 bytes it can't be: who reads in between gets
   * an incomplete text, which is refused, never a mixture.
   */
  readonly isAtomic: boolean;
}

/**
 * Checks a configuration and puts it in place of the one that is there.
 *
 * @param address as `setArbArg` takes it
 * @param text of the whole configuration
 * @param origin what it is called in messages: the file's name
 * @throws RcmError `CONFIG` with one line a fault: then nothing is written; `ARBITRATION`
 */
export async function pushConfig(
  library: NativeLibrary,
  address: string,
  path: string,
  text: string,
  origin: string,
): Promise<PushedConfig> {
  loadConfigText(text, origin);
  const parts = splitText(text, PART_BYTES_MAX);
  const tree = await openTree(library, {
    address,
    path,
    sessionTimeoutMilli: SESSION_TIMEOUT_MS,
    events: { session() {}, changed() {}, watchdog() {}, fault() {} },
  });
  try {
    await tree.open(CONNECT_TIMEOUT_MS);
    const folder = `${path}/config`;
    await makeFolders(tree, folder);
    const bytes = new TextEncoder().encode(text).length;
    const isAtomic = bytes + 1000 <= DATA_BYTES_MAX;
    await write(tree, folder, parts, isAtomic ? parts.length : 1);
    for (const [i, data] of parts.entries()) {
      if (isAtomic || i === 0) continue;
      await add(tree, `${folder}/${i + 1}`, data);
    }
    return { parts: parts.length, bytes, isAtomic };
  } finally {
    await tree.close(SESSION_TIMEOUT_MS);
  }
}

/** Removes what is there and writes the first parts, in one transaction. */
async function write(
  tree: Tree,
  folder: string,
  parts: readonly string[],
  count: number,
): Promise<void> {
  const stamp = JSON.stringify({ pushed: new Date().toISOString(), parts: parts.length });
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    await tree.sync(folder);
    const found = await tree.get(folder, false);
    if (found?.data === stamp) return; // the answer was lost, the transaction was not
    const old = new Set(partNames(await tree.children(folder, false) ?? []));
    // The folder's version is what readers compare, and what two that push exclude each other by.
    const changes: TreeChange[] = [
      { op: "set", path: folder, data: stamp, version: found?.version ?? 0 },
    ];
    for (const [i, data] of parts.slice(0, count).entries()) {
      const path = `${folder}/${i + 1}`;
      const isThere = old.delete(`${i + 1}`);
      changes.push(
        isThere ? { op: "set", path, data, version: -1 } : { op: "create", path, data },
      );
    }
    for (const name of old) changes.push({ op: "remove", path: `${folder}/${name}`, version: -1 });
    if (await tree.change(changes) === "done") return;
  }
  throw arbitrationError(`${folder} can't be written: somebody else writes it at the same time`);
}

async function add(tree: Tree, path: string, data: string): Promise<void> {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const outcome = await tree.change([{ op: "create", path, data }]);
    if (outcome === "done" || outcome === "exists" && tries > 0) return;
    if (outcome !== "lost") break;
  }
  throw arbitrationError(`${path} can't be written: somebody else writes it at the same time`);
}

/** @returns the text in parts of at most so many bytes, cut between letters */
export function splitText(text: string, bytesMax: number): string[] {
  const parts: string[] = [];
  const bytes = new TextEncoder().encode(text);
  const decoder = new TextDecoder();
  let from = 0;
  while (bytes.length - from > bytesMax) {
    let to = from + bytesMax;
    // 10xxxxxx goes on with a letter.
    while ((bytes[to]! & 0xc0) === 0x80) to -= 1;
    parts.push(decoder.decode(bytes.subarray(from, to)));
    from = to;
  }
  parts.push(decoder.decode(bytes.subarray(from)));
  return parts;
}
