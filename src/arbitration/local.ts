/**
 * The tree of `local:`: a folder of one machine, without a service (see `local_store.ts`).
 *
 * Who has a session looks every 20 ms for a new version and for sessions that are over: their
 * process died (the kernel has given up its lock), or it did not write for T (it was paused). It
 * ends them for everybody; the paused one finds that out when it goes on.
 */

import * as abi from "../native/abi.ts";
import type { NativeLibrary } from "../native/library.ts";
import type { SessionState } from "./arbiter.ts";
import {
  changedMs,
  childNames,
  endSessions,
  openLocalStore,
  remove,
  stepOf,
  type StoredNode,
  type StoredTree,
  textOf,
} from "./local_store.ts";
import { arbitrationError, openNativeSession } from "./native_session.ts";
import type { Tree, TreeEvents } from "./tree.ts";
import { ZkState } from "./zookeeper_codes.ts";

/** How often a session looks, in milliseconds. */
const POLL_MS = 20;
/** A session's file that no tree knows is a leftover after this time. */
const LEFTOVER_MS = 60_000;

export interface LocalOptions {
  readonly library: NativeLibrary;
  readonly folder: string;
  readonly sessionTimeoutMilli: number;
  readonly events: TreeEvents;
}

/** Opens the way; `open` begins the session. */
export async function createLocalTree(options: LocalOptions): Promise<Tree> {
  const { library, events, sessionTimeoutMilli } = options;
  const store = openLocalStore(options.folder);
  const encoder = new TextEncoder();
  /** Of each watched node, how it was read. */
  const watches = new Map<string, string>();
  /** Of each session, when its file was written last and since when this is known. */
  const seen = new Map<string, { changedMs: number | null; since: number }>();
  let state: SessionState = "closed";
  let id = "";
  let tree: StoredTree = { nodes: {}, sessions: {}, history: [] };
  let number = -1;
  let timer: ReturnType<typeof setInterval> | undefined;

  const native = await openNativeSession(library, true, "", {
    state(code) {
      if (code !== ZkState.CONNECTED) expire("the watchdog has ended the session");
    },
    watch() {},
    watchdog: () => events.watchdog(),
  });

  /** Listeners are told from the event loop: this may happen in the middle of a call. */
  function become(next: SessionState, why: string): void {
    if (state === next) return;
    state = next;
    const session = id;
    setTimeout(() => {
      if (id === session && state !== "closed") events.session(next, why);
    }, 0);
  }

  function expire(why: string): void {
    if (state !== "connected") return;
    clearInterval(timer);
    // Nobody is to take a lease or a lock for real that belongs to nobody.
    native.end();
    become("expired", why);
  }

  function load(): void {
    if (store.newest() === number) return;
    const now = store.read();
    tree = now.tree;
    number = now.number;
  }

  /** A node as a watch compares it: whether it is there, its version, and what is below it. */
  function signature(path: string): string {
    const node = tree.nodes[path];
    return JSON.stringify([node?.version, node?.owner, childNames(tree, path)]);
  }

  function fire(): void {
    for (const [path, before] of [...watches]) {
      if (signature(path) === before) continue;
      watches.delete(path);
      events.changed(path);
    }
  }

  /** Whether a session is over. */
  function isOver(session: string, timeoutMilli: number): string | null {
    const path = store.sessionPath(session);
    const bytes = encoder.encode(`${path}\0`);
    const held = library.calls.rcm_arbiter_held(bytes, bytes.length);
    if (held !== 1) return "its process has ended";
    const changed = changedMs(path);
    const known = seen.get(session);
    const now = performance.now();
    if (known === undefined || known.changedMs !== changed) {
      seen.set(session, { changedMs: changed, since: now });
      return null;
    }
    return now - known.since > timeoutMilli ? "it did not write for its time-out" : null;
  }

  function sweep(): void {
    const over = Object.entries(tree.sessions)
      .filter(([session, timeoutMilli]) => session !== id && isOver(session, timeoutMilli) !== null)
      .map(([session]) => session);
    if (over.length === 0) return;
    store.change(endSessions(over));
    for (const session of over) {
      seen.delete(session);
      remove(store.sessionPath(session));
    }
    load();
  }

  function look(): void {
    if (state !== "connected") return;
    try {
      load();
      sweep();
    } catch (error) {
      // A disk that fails for a moment; the lease ends when it lasts.
      return events.fault(error instanceof Error ? error.message : String(error));
    }
    if (tree.sessions[id] === undefined) return expire("others have ended the session");
    fire();
  }

  function removeLeftovers(): void {
    for (const session of store.sessionFiles()) {
      const path = store.sessionPath(session);
      const changed = changedMs(path);
      const isOld = changed !== null && Date.now() - changed > LEFTOVER_MS;
      if (!isOld || tree.sessions[session] !== undefined) continue;
      const bytes = encoder.encode(`${path}\0`);
      if (library.calls.rcm_arbiter_held(bytes, bytes.length) === 0) remove(path);
    }
  }

  /** The data of a node that its session keeps stands in the session's file. */
  function dataOf(path: string, node: StoredNode): string {
    const text = node.owner === "" ? null : textOf(store.sessionPath(node.owner));
    if (text === null) return node.data;
    try {
      const kept = JSON.parse(text) as { readonly path?: unknown; readonly data?: unknown };
      return kept.path === path && typeof kept.data === "string" ? kept.data : node.data;
    } catch {
      return node.data; // it is being written at this moment
    }
  }

  function requireSession(path: string): void {
    if (state === "connected") load();
    if (state !== "connected" || tree.sessions[id] === undefined) {
      expire("others have ended the session");
      throw arbitrationError(`${path}: the session is over`);
    }
  }

  return {
    handle: native.handle,
    get session() {
      return state;
    },
    timeoutMilli: sessionTimeoutMilli,
    // deno-lint-ignore require-await -- errors are rejections, as with the other tree
    async open() {
      clearInterval(timer);
      state = "connecting";
      const session = crypto.randomUUID();
      // The folder has to be there before the file; an empty change makes it.
      store.change((found) => found);
      native.connect(store.sessionPath(session), "{}", sessionTimeoutMilli);
      store.change((found) => ({
        ...found,
        sessions: { ...found.sessions, [session]: sessionTimeoutMilli },
      }));
      id = session;
      seen.clear();
      watches.clear();
      load();
      sweep();
      removeLeftovers();
      become("connected", `T is ${sessionTimeoutMilli} ms`);
      timer = setInterval(look, POLL_MS);
    },
    // deno-lint-ignore require-await
    async get(path, watch) {
      requireSession(path);
      if (watch) watches.set(path, signature(path));
      const node = tree.nodes[path];
      if (node === undefined) return null;
      return {
        data: dataOf(path, node),
        version: node.version,
        ephemeral: node.owner !== "",
        mine: node.owner === id,
      };
    },
    // deno-lint-ignore require-await
    async children(path, watch) {
      requireSession(path);
      if (watch) watches.set(path, signature(path));
      return tree.nodes[path] === undefined ? null : childNames(tree, path);
    },
    // deno-lint-ignore require-await
    async change(changes) {
      requireSession(changes[0]?.path ?? "");
      const mine = id;
      const step = stepOf(changes, mine);
      let isOver = false;
      const outcome = store.change((found) => {
        isOver = found.sessions[mine] === undefined;
        return isOver ? "missing" : step(found);
      });
      if (isOver) {
        expire("others have ended the session");
        throw arbitrationError(`${changes[0]?.path}: the session is over`);
      }
      return outcome;
    },
    // deno-lint-ignore require-await
    async sync(path) {
      requireSession(path);
    },
    keep(path, data, hurry) {
      if (state !== "connected") return;
      const text = JSON.stringify({ path, data });
      native.tell({ op: abi.ArbiterOp.KEEP, path, data: text, version: hurry ? 1 : 0 });
    },
    hold: (path, on) => native.tell({ op: abi.ArbiterOp.HOLD, path, version: on ? 1 : 0 }),
    lease: () => native.lease(),
    end() {
      leave();
      native.end();
    },
    async close(timeoutMilli) {
      leave();
      await native.close(timeoutMilli);
    },
  };

  function leave(): void {
    clearInterval(timer);
    const wasOpen = state === "connected";
    state = "closed";
    if (!wasOpen) return;
    try {
      store.change(endSessions([id]));
      remove(store.sessionPath(id));
    } catch {
      // The lock goes with the native side, and others see that.
    }
  }
}
