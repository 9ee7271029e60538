/**
 * The configuration from arbitration, read synchronously: `newRcmContext` and `getConfig` return
 * what they say (guide 8.1). The thread waits natively; its event loop stands still meanwhile.
 */

import { join } from "node:path";
import * as abi from "../native/abi.ts";
import type { NativeLibrary } from "../native/library.ts";
import { hide, parseArbAddress } from "./address.ts";
import { requireParts } from "./config_nodes.ts";
import { childNames, openLocalStore } from "./local_store.ts";
import {
  type ArbiterEvent,
  type ArbiterRequest,
  arbitrationError,
  openNativeArbiter,
  textOf,
} from "./native_session.ts";
import { clientPath } from "./zookeeper.ts";
import { isLost, ZkCode, zkError, ZkState } from "./zookeeper_codes.ts";

/** How long all of it may take, in milliseconds. */
const LIMIT_MS = 10_000;
/** Of the session that reads. */
const SESSION_TIMEOUT_MS = 4_000;
const { ArbiterOp, ArbiterEventKind } = abi;

/**
 * @param address as `setArbArg` takes it
 * @param path of which `config` is below
 * @returns the text of all parts
 * @throws RcmError `ARBITRATION`: no server answers within ten seconds, or there is no
 * configuration; `NATIVE`: ZooKeeper's client library is missing
 */
export function readArbConfig(library: NativeLibrary, address: string, path: string): string {
  const where = parseArbAddress(address);
  const folder = `${path}/config`;
  if (where.kind === "local") {
    const { tree } = openLocalStore(join(where.folder, ...path.split("/"))).read();
    const names = tree.nodes[folder] === undefined ? null : childNames(tree, folder);
    return requireParts(folder, names).map((name) => tree.nodes[`${folder}/${name}`]!.data).join(
      "",
    );
  }
  const native = openNativeArbiter(library, false, -1, clientPath());
  try {
    const deadline = performance.now() + LIMIT_MS;
    const version = SESSION_TIMEOUT_MS;
    native.request(
      [{ op: ArbiterOp.CONNECT, path: where.hosts, data: where.auth, version }],
      "arbitration",
    );
    let lastId = 0;
    const next: Next = (isWanted) => {
      while (true) {
        const e = native.take();
        if (e !== null && isWanted(e)) return e;
        if (e !== null) continue;
        const leftMs = deadline - performance.now();
        if (leftMs <= 0) {
          throw arbitrationError(
            `${folder}: no answer of ${hide(address)} within ${LIMIT_MS / 1000} s`,
          );
        }
        native.wait(Math.ceil(leftMs));
      }
    };
    return readParts(folder, next, (r) => {
      lastId += 1;
      native.request([{ ...r, id: lastId }], "arbitration");
      return lastId;
    });
  } finally {
    // The client closes on a thread of its own.
    native.close();
  }
}

type Next = (isWanted: (e: ArbiterEvent) => boolean) => ArbiterEvent;

/** Reads all parts, and again when they changed meanwhile. */
function readParts(folder: string, next: Next, send: (r: ArbiterRequest) => number): string {
  waitConnected(next);
  const ask = (r: ArbiterRequest): ArbiterEvent => {
    while (true) {
      const id = send(r);
      const answer = next((e) => e.kind === ArbiterEventKind.ANSWER && e.id === id);
      if (!isLost(answer.code)) return answer;
      waitConnected(next);
    }
  };
  const get = (path: string): ArbiterEvent | null => {
    const answer = ask({ op: ArbiterOp.GET, path });
    if (answer.code === ZkCode.NO_NODE) return null;
    if (answer.code !== ZkCode.OK) throw zkError(answer.code, path);
    return answer;
  };
  ask({ op: ArbiterOp.SYNC, path: folder });
  while (true) {
    const before = get(folder);
    const list = before === null ? null : ask({ op: ArbiterOp.CHILDREN, path: folder });
    const names = list === null || list.code === ZkCode.NO_NODE
      ? null
      : textOf(list).split("\0").filter((name) => name !== "");
    const parts = requireParts(folder, names).map((name) => get(`${folder}/${name}`));
    const after = get(folder);
    const isWhole = parts.every((part) => part !== null);
    if (isWhole && before?.version === after?.version) return joined(parts);
  }
}

/** Bytes, not texts, are joined: a part may end in the middle of a letter. */
function joined(parts: readonly (ArbiterEvent | null)[]): string {
  const decoder = new TextDecoder();
  const texts = parts.map((part) =>
    part === null ? "" : decoder.decode(part.data, { stream: true })
  );
  return texts.join("") + decoder.decode();
}

function waitConnected(next: Next): void {
  next((e) => {
    if (e.kind !== ArbiterEventKind.SESSION) return false;
    if (e.code === ZkCode.BAD_ARGUMENTS) throw arbitrationError(`arbitration: ${textOf(e)}`);
    if (e.code === ZkCode.EXPIRED || e.code === ZkCode.AUTH_FAILED) {
      throw zkError(e.code, "arbitration");
    }
    return e.code === ZkState.CONNECTED;
  });
}
