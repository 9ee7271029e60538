/** The tree in ZooKeeper, through its C client (guide 8.1). */

import process from "node:process";
import { RcmError } from "../errors.ts";
import * as abi from "../native/abi.ts";
import type { NativeLibrary } from "../native/library.ts";
import type { SessionState } from "./arbiter.ts";
import { type ArbiterRequest, arbitrationError, openNativeSession } from "./native_session.ts";
import {
  DATA_BYTES_MAX,
  type Outcome,
  type Tree,
  type TreeChange,
  type TreeEvents,
} from "./tree.ts";
import { isLost, ZkCode, zkError, ZkState } from "./zookeeper_codes.ts";

/** Which servers, and as whom. */
export interface ZookeeperOptions {
  readonly library: NativeLibrary;
  /** `host:port,...`, with a chroot behind. */
  readonly hosts: string;
  /** `user:password`, or "". */
  readonly auth: string;
  readonly sessionTimeoutMilli: number;
  readonly events: TreeEvents;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const { ArbiterOp, ArbiterFlag } = abi;

/** Name or path of the client library; "": where the system has it. */
export const clientPath = (): string => process.env["RCM_ZK_LIB"] ?? "";

/** Data of a node and of a transaction is bounded: beyond it ZooKeeper drops the link for ever. */
export function checkSize(changes: readonly TreeChange[]): void {
  const sizes = changes.map((c) => c.op === "remove" ? 0 : encoder.encode(c.data).length);
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  if (bytes <= DATA_BYTES_MAX) return;
  const what = changes.length === 1 ? changes[0]!.path : `a transaction of ${changes.length} parts`;
  throw arbitrationError(`${what}: ${bytes} bytes, at most ${DATA_BYTES_MAX} are taken`);
}

/** @returns what an answer's code means; null: it is an error */
export function outcomeOf(code: number): Outcome | null {
  if (code === ZkCode.OK) return "done";
  if (code === ZkCode.NODE_EXISTS) return "exists";
  if (code === ZkCode.NO_NODE) return "missing";
  if (code === ZkCode.BAD_VERSION) return "version";
  if (code === ZkCode.NOT_EMPTY) return "busy";
  return isLost(code) ? "lost" : null;
}

/** @returns a transaction as requests */
export function transactionOf(
  changes: readonly TreeChange[],
  isPrivate: boolean,
): ArbiterRequest[] {
  const owned = isPrivate ? ArbiterFlag.PRIVATE : 0;
  return [
    { op: ArbiterOp.MULTI, count: changes.length },
    ...changes.map((c): ArbiterRequest => {
      if (c.op === "remove") return { op: ArbiterOp.REMOVE, path: c.path, version: c.version };
      if (c.op === "set") {
        return { op: ArbiterOp.SET, path: c.path, data: c.data, version: c.version };
      }
      const flags = owned | (c.ephemeral === true ? ArbiterFlag.EPHEMERAL : 0);
      return { op: ArbiterOp.CREATE, path: c.path, data: c.data, flags };
    }),
  ];
}

/** Opens the way; `open` begins the session. */
export async function createZookeeperTree(options: ZookeeperOptions): Promise<Tree> {
  const { events, auth } = options;
  const isPrivate = auth !== "";
  const watches = new Map<string, number>();
  const paths: string[] = [];
  /** Who waits for the state to change. */
  const waiters = new Set<() => void>();
  let state: SessionState = "closed";
  let timeoutMilli = options.sessionTimeoutMilli;
  let fault = "";

  const native = await openNativeSession(options.library, false, clientPath(), {
    state(code, negotiatedMilli, text) {
      if (code === ZkState.CONNECTED) {
        timeoutMilli = negotiatedMilli;
        become("connected", `T is ${negotiatedMilli} ms`);
      } else if (code === ZkCode.EXPIRED || code === ZkCode.AUTH_FAILED) {
        become("expired", zkError(code, "session").message);
      } else if (code === ZkCode.BAD_ARGUMENTS) {
        fault = text;
        become("expired", text);
      } else if (state === "connected") become("suspended", "the link to the server is lost");
    },
    watch(id) {
      const path = paths[id];
      if (path !== undefined) events.changed(path);
    },
    watchdog: () => events.watchdog(),
  });

  function become(next: SessionState, why: string): void {
    if (state === next) return;
    state = next;
    for (const waiter of [...waiters]) waiter();
    events.session(next, why);
  }

  function stateChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(0, timeoutMs));
      waiters.add(done);
    });
  }

  async function connected(deadline: number, doing: string): Promise<void> {
    while (state !== "connected") {
      if (state === "expired" || state === "closed") {
        throw arbitrationError(`${doing}: ${fault === "" ? "the session is over" : fault}`);
      }
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) {
        throw arbitrationError(`${doing}: no server of ${options.hosts} answers`);
      }
      await stateChange(leftMs);
    }
  }

  /** Reading again does no harm: a lost link is waited out. */
  async function read(r: ArbiterRequest, doing: string) {
    const deadline = performance.now() + 2 * timeoutMilli;
    while (true) {
      await connected(deadline, doing);
      const answer = await within(native.ask([r]), deadline, doing);
      if (answer === null) throw arbitrationError(`${doing}: the session is over`);
      if (!isLost(answer.code)) return answer;
      // The state follows; where it does not, the same is asked again after a moment.
      if (state === "connected") await stateChange(20);
    }
  }

  async function within<T>(answer: Promise<T>, deadline: number, doing: string): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      const leftMs = Math.max(0, deadline - performance.now());
      timer = setTimeout(() => reject(arbitrationError(`${doing}: no answer in time`)), leftMs);
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  function watchId(path: string): number {
    const known = watches.get(path);
    if (known !== undefined) return known;
    const id = paths.push(path) - 1;
    watches.set(path, id);
    return id;
  }

  const watching = (path: string, watch: boolean) =>
    watch ? { flags: ArbiterFlag.WATCH, count: watchId(path) } : {};

  return {
    handle: native.handle,
    get session() {
      return state;
    },
    get timeoutMilli() {
      return timeoutMilli;
    },
    async open(connectTimeoutMilli) {
      state = "connecting";
      fault = "";
      native.connect(options.hosts, auth, options.sessionTimeoutMilli);
      await connected(performance.now() + connectTimeoutMilli, "arbitration");
    },
    async get(path, watch) {
      if (watch) {
        // On what is not there too; what comes in between makes the watch fire.
        const seen = await read({ op: ArbiterOp.EXISTS, path, ...watching(path, true) }, path);
        if (seen.code === ZkCode.NO_NODE) return null;
        if (seen.code !== ZkCode.OK) throw zkError(seen.code, path);
      }
      const { code, data, version, flags } = await read({ op: ArbiterOp.GET, path }, path);
      if (code === ZkCode.NO_NODE) return null;
      if (code !== ZkCode.OK) throw zkError(code, path);
      return {
        data: decoder.decode(data),
        version,
        ephemeral: (flags & ArbiterFlag.EPHEMERAL) !== 0,
        mine: (flags & ArbiterFlag.MINE) !== 0,
      };
    },
    async children(path, watch) {
      const asked = { op: ArbiterOp.CHILDREN, path, ...watching(path, watch) };
      const { code, data } = await read(asked, path);
      if (code === ZkCode.NO_NODE) return null;
      if (code !== ZkCode.OK) throw zkError(code, path);
      return decoder.decode(data).split("\0").filter((name) => name !== "").sort();
    },
    async change(changes) {
      checkSize(changes);
      if (state !== "connected" && state !== "suspended") {
        throw arbitrationError(`${changes[0]?.path}: the session is over`);
      }
      const deadline = performance.now() + 2 * timeoutMilli;
      let answer;
      try {
        const asked = native.ask(transactionOf(changes, isPrivate));
        answer = await within(asked, deadline, changes[0]?.path ?? "");
      } catch (error) {
        if (error instanceof RcmError && error.code === "ARBITRATION") return "lost";
        throw error;
      }
      if (answer === null) return "lost";
      const outcome = outcomeOf(answer.code);
      if (outcome === null) throw zkError(answer.code, changes[0]?.path ?? "");
      return outcome;
    },
    async sync(path) {
      const { code } = await read({ op: ArbiterOp.SYNC, path }, path);
      if (code !== ZkCode.OK && code !== ZkCode.NO_NODE) throw zkError(code, path);
    },
    keep(path, data, hurry) {
      if (state === "closed" || state === "expired") return;
      native.tell({ op: ArbiterOp.KEEP, path, data, version: hurry ? 1 : 0 });
    },
    hold: (path, on) => native.tell({ op: ArbiterOp.HOLD, path, version: on ? 1 : 0 }),
    lease: () => native.lease(),
    end() {
      leave();
      native.end();
    },
    async close(timeoutMs) {
      leave();
      await native.close(timeoutMs);
    },
  };

  function leave(): void {
    state = "closed";
    for (const waiter of [...waiters]) waiter();
  }
}
