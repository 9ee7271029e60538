/**
 * How native threads wake this event loop: one byte on a unix socket that `node:net` reads.
 *
 * The same code serves both runtimes, and no foreign thread ever calls into JavaScript (Deno blocks
 * such a thread until the callback has run, Bun queues without bound). There is one socket a realm,
 * shared by its contexts and open exactly while one of them runs, so it is also what keeps the
 * process alive until the last `stop()`.
 */

import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RcmError } from "../errors.ts";
import { nativeError, type NativeLibrary } from "./library.ts";

/** A context's share of the waker. */
export interface WakerLease {
  /** The number that native code knows the waker by. */
  readonly id: number;
  /** Gives the share back; the last one closes the socket. */
  release(): Promise<void>;
}

interface Waker {
  readonly library: NativeLibrary;
  readonly id: number;
  readonly connection: net.Socket;
  readonly listeners: Set<() => void>;
}

/** Longest path of a unix socket, without the 0 behind it. */
const PATH_BYTES_MAX = 107;

/** What is open in this realm: one waker for a library, and how many share it. */
interface Sharing {
  waker: Promise<Waker> | null;
  shares: number;
}

const sharings = new WeakMap<NativeLibrary, Sharing>();

/**
 * @param library whose native threads are to wake
 * @param onWake called once for a wake-up, whichever context it was for
 * @throws RcmError `SOCKET` when no socket can be made
 */
export async function acquireWaker(
  library: NativeLibrary,
  onWake: () => void,
): Promise<WakerLease> {
  const sharing = sharings.get(library) ?? { waker: null, shares: 0 };
  sharings.set(library, sharing);
  sharing.shares += 1;
  sharing.waker ??= openWaker(library);
  const mine = sharing.waker;
  let waker: Waker;
  try {
    waker = await mine;
  } catch (error) {
    sharing.shares -= 1;
    if (sharing.waker === mine) sharing.waker = null;
    throw error;
  }
  waker.listeners.add(onWake);
  let released = false;
  return {
    id: waker.id,
    async release() {
      if (released) return;
      released = true;
      waker.listeners.delete(onWake);
      sharing.shares -= 1;
      if (sharing.shares > 0) return;
      sharing.waker = null;
      await closeWaker(waker);
    },
  };
}

async function openWaker(library: NativeLibrary): Promise<Waker> {
  const folder = makeFolder();
  const path = join(folder, "w");
  const server = net.createServer();
  try {
    const accepted = new Promise<net.Socket>((resolve, reject) => {
      server.once("connection", resolve);
      server.once("error", reject);
    });
    accepted.catch(() => {}); // whoever awaits it below is told; nobody else need be
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    const bytes = new TextEncoder().encode(path);
    const id = library.calls.rcm_waker_open(bytes, bytes.byteLength);
    if (id < 0) throw nativeError(library, id, `the waker's socket ${path}`);
    const connection = await accepted;
    const listeners = new Set<() => void>();
    connection.on("data", () => {
      for (const listener of [...listeners]) listener();
    });
    connection.on("error", () => {}); // a broken waker shows as "close"; nothing is lost but speed
    return { library, id, connection, listeners };
  } catch (cause) {
    if (cause instanceof RcmError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RcmError("SOCKET", `the waker's socket ${path}: ${reason}`, { cause });
  } finally {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function closeWaker(waker: Waker): Promise<void> {
  const closed = new Promise<void>((resolve) => waker.connection.once("close", () => resolve()));
  waker.library.calls.rcm_waker_close(waker.id);
  waker.connection.destroy();
  await closed;
}

/** Makes a folder that only this user can enter, with a path short enough for a socket. */
function makeFolder(): string {
  const faults: string[] = [];
  for (const parent of [tmpdir(), "/tmp", "/dev/shm"]) {
    const prefix = join(parent, "rcm-");
    if (new TextEncoder().encode(prefix).byteLength + "XXXXXX/w".length > PATH_BYTES_MAX) {
      faults.push(`${parent}: path too long`);
      continue;
    }
    try {
      return mkdtempSync(prefix);
    } catch (error) {
      faults.push(`${parent}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new RcmError("SOCKET", "no folder for the waker's socket", { details: faults });
}
