/**
 * The tree of `local:` in files of one folder, changed by whole versions and without a lock, so
 * that nobody who is stopped in the middle of a change holds up the others:
 *
 *     tree.<n>        version n of the whole tree, JSON; the highest n is the tree
 *     session.<id>    held locked by its process while its session lives (arbiter/local.zig)
 *
 * Version n + 1 is written beside and gets its name by `link`, which fails where the name is taken:
 * of two that change version n one succeeds, the other reads again. Old versions are removed in
 * their order. Who was stopped for so long that its name had come and gone in between finds newer
 * versions that do not know of it, and reads again.
 */

import { linkSync, readdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeFolder } from "../folders.ts";
import { arbitrationError } from "./native_session.ts";
import type { Outcome, TreeChange } from "./tree.ts";

/** A node in the file. */
export interface StoredNode {
  readonly data: string;
  readonly version: number;
  /** Session that it goes with; "": it stays. */
  readonly owner: string;
}

/** One version of the tree. */
export interface StoredTree {
  readonly nodes: Readonly<Record<string, StoredNode>>;
  /** Sessions that live, with their time-outs in milliseconds. */
  readonly sessions: Readonly<Record<string, number>>;
  /** Who made the last versions: `[n, nonce]`, the newest first. */
  readonly history: readonly (readonly [number, string])[];
}

/** How many old versions stay, for who is just reading one. */
const KEPT = 8;
/** Versions that `history` tells of. */
const HISTORY = 64;
const TRIES_MAX = 10_000;
const EMPTY: StoredTree = { nodes: {}, sessions: {}, history: [] };

/** What a change makes of a tree: the new one, or why not. */
export type Step = (tree: StoredTree) => StoredTree | Exclude<Outcome, "done">;

export interface LocalStore {
  readonly folder: string;
  /** Number of the newest version; 0: there is none. */
  newest(): number;
  /** The newest version. */
  read(): { readonly tree: StoredTree; readonly number: number };
  /** Changes it, reading again as long as others were faster. */
  change(step: Step): Outcome;
  /** The file of a session. */
  sessionPath(id: string): string;
  /** Sessions that have a file. */
  sessionFiles(): string[];
}

const reasonOf = (error: unknown) => error instanceof Error ? error.message : String(error);
const codeOf = (error: unknown) => (error as { readonly code?: string } | null)?.code ?? "";

/**
 * @param folder where it lies; made when a change is the first
 * @throws RcmError `ARBITRATION` when the folder can't be used
 */
export function openLocalStore(folder: string): LocalStore {
  let written = 0;

  function versions(): number[] {
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch (error) {
      if (codeOf(error) === "ENOENT") return [];
      throw arbitrationError(`local: ${folder} can't be read: ${reasonOf(error)}`, error);
    }
    return names.flatMap((name) => /^tree\.(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  }

  const newest = (): number => Math.max(0, ...versions());
  const pathOf = (number: number) => join(folder, `tree.${number}`);

  function read(): { tree: StoredTree; number: number } {
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const number = newest();
      if (number === 0) return { tree: EMPTY, number };
      try {
        return { tree: JSON.parse(readFileSync(pathOf(number), "utf8")), number };
      } catch (error) {
        // Removed as an old one in between.
        if (codeOf(error) === "ENOENT") continue;
        throw arbitrationError(`local: ${pathOf(number)} can't be read: ${reasonOf(error)}`, error);
      }
    }
    throw arbitrationError(`local: ${folder} changes all the time`);
  }

  function removeOld(number: number): void {
    for (const old of versions().sort((a, b) => a - b)) {
      if (old <= number - KEPT) remove(pathOf(old));
    }
  }

  /** False: the name is taken, or had been. */
  function publish(tree: StoredTree, number: number): boolean {
    written += 1;
    const nonce = crypto.randomUUID();
    const beside = join(folder, `.new-${nonce}`);
    const history = [[number, nonce] as const, ...tree.history].slice(0, HISTORY);
    try {
      writeFileSync(beside, JSON.stringify({ ...tree, history }), { mode: 0o600, flag: "wx" });
      try {
        linkSync(beside, pathOf(number));
      } catch (error) {
        if (codeOf(error) === "EEXIST") return false;
        throw error;
      }
    } catch (error) {
      throw arbitrationError(`local: ${folder} can't be written: ${reasonOf(error)}`, error);
    } finally {
      remove(beside);
    }
    const now = read();
    if (now.number === number) return true;
    return now.tree.history.some(([n, by]) => n === number && by === nonce);
  }

  return {
    folder,
    newest,
    read,
    change(step) {
      makeFolder(folder, "local arbitration");
      for (let tries = 0; tries < TRIES_MAX; tries += 1) {
        const { tree, number } = read();
        const next = step(tree);
        if (typeof next === "string") return next;
        if (!publish(next, number + 1)) continue;
        removeOld(number + 1);
        return "done";
      }
      throw arbitrationError(`local: ${folder} changes all the time`);
    },
    sessionPath: (id) => join(folder, `session.${id}`),
    sessionFiles() {
      try {
        return readdirSync(folder).flatMap((name) => /^session\.(.+)$/.exec(name)?.[1] ?? []);
      } catch {
        return [];
      }
    },
  };
}

/** Removes a file, if it is there. */
export function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
}

/** When a file was written last, in milliseconds; null: there is none. */
export function changedMs(path: string): number | null {
  try {
    return statSync(path).mtimeMs;
  } catch {
    return null;
  }
}

/** @returns the text of a file; null: it can't be read */
export function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

const parentOf = (path: string) => path.slice(0, path.lastIndexOf("/"));

/** @returns the names below a node, sorted */
export function childNames(tree: StoredTree, path: string): string[] {
  const prefix = `${path}/`;
  return Object.keys(tree.nodes)
    .filter((other) => other.startsWith(prefix) && !other.includes("/", prefix.length))
    .map((other) => other.slice(prefix.length)).sort();
}

/** The transaction of a session as a step; its rules are ZooKeeper's. */
export function stepOf(changes: readonly TreeChange[], session: string): Step {
  return (tree) => {
    const nodes: Record<string, StoredNode> = { ...tree.nodes };
    for (const c of changes) {
      const found = nodes[c.path];
      if (c.op === "create") {
        if (found !== undefined) return "exists";
        const parent = parentOf(c.path);
        if (parent !== "" && nodes[parent] === undefined) return "missing";
        nodes[c.path] = { data: c.data, version: 0, owner: c.ephemeral === true ? session : "" };
        continue;
      }
      if (found === undefined) return "missing";
      if (c.version >= 0 && c.version !== found.version) return "version";
      if (c.op === "set") {
        nodes[c.path] = { ...found, data: c.data, version: found.version + 1 };
      } else if (childNames({ ...tree, nodes }, c.path).length > 0) return "busy";
      else delete nodes[c.path];
    }
    return { ...tree, nodes };
  };
}

/** Ends sessions, with their ephemerals. */
export function endSessions(ids: readonly string[]): Step {
  return (tree) => {
    const gone = new Set(ids);
    const keep = <T>(entries: readonly (readonly [string, T])[]) => Object.fromEntries(entries);
    return {
      ...tree,
      nodes: keep(Object.entries(tree.nodes).filter(([, node]) => !gone.has(node.owner))),
      sessions: keep(Object.entries(tree.sessions).filter(([id]) => !gone.has(id))),
    };
  };
}
