/** Looks at tiers from outside, without a name in their trees: for tools. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { NativeLibrary } from "../native/library.ts";
import { checkArbPath, hide, parseArbAddress } from "./address.ts";
import type { Arbiter, TierView } from "./arbiter.ts";
import { arbitrationError } from "./native_session.ts";
import { openArbiter, openTree } from "./open.ts";

const SESSION_TIMEOUT_MS = 4_000;
const CONNECT_TIMEOUT_MS = 10_000;
const CLUSTER = "cluster_";

/** Where tiers lie, as `setArbArg` takes it. */
export interface TiersPlace {
  readonly address: string;
  readonly path: string;
}

/** A tier as somebody from outside sees it. */
export interface OutsideTier {
  readonly name: string;
  readonly arbiter: Arbiter;
  /** As new as the call; a session that expired begins anew. */
  read(): Promise<TierView>;
  close(): Promise<void>;
}

/**
 * @returns the names of the tiers below the path, sorted
 * @throws RcmError `ARGUMENT`; `ARBITRATION`: nobody answers, or there is no such path
 */
export async function listTiers(library: NativeLibrary, place: TiersPlace): Promise<string[]> {
  requirePlace(place);
  const tree = await openTree(library, {
    ...place,
    sessionTimeoutMilli: SESSION_TIMEOUT_MS,
    events: { session() {}, changed() {}, watchdog() {}, fault() {} },
  });
  try {
    await tree.open(CONNECT_TIMEOUT_MS);
    await tree.sync(place.path);
    const names = await tree.children(place.path, false);
    if (names === null) throw arbitrationError(`there is no ${place.path} in ${shown(place)}`);
    return names.filter((name) => name.startsWith(CLUSTER))
      .map((name) => name.slice(CLUSTER.length)).sort();
  } finally {
    await tree.close(SESSION_TIMEOUT_MS);
  }
}

/**
 * @throws RcmError `ARBITRATION`: nobody answers, or `master` holds no record
 */
export async function openOutside(
  library: NativeLibrary,
  place: TiersPlace,
  name: string,
): Promise<OutsideTier> {
  requirePlace(place);
  const arbiter = await openArbiter(library, {
    ...place,
    tier: name,
    node: "",
    sessionTimeoutMilli: SESSION_TIMEOUT_MS,
    connectTimeoutMilli: CONNECT_TIMEOUT_MS,
  });
  const join = () => arbiter.join({ adopted: null, lastSqn: 0, address: "" }, "none");
  try {
    await join();
  } catch (error) {
    await arbiter.close();
    throw error;
  }
  return {
    name,
    arbiter,
    read: () => arbiter.session === "expired" ? join() : arbiter.read(),
    close: () => arbiter.close(),
  };
}

/** Looking makes nothing: neither a folder nor a tree. */
function requirePlace(place: TiersPlace): void {
  const address = parseArbAddress(place.address);
  checkArbPath(place.path);
  if (address.kind !== "local") return;
  const folder = join(address.folder, ...place.path.split("/"));
  if (!existsSync(folder)) {
    throw arbitrationError(`there is no ${place.path} in ${shown(place)}: ${folder} is missing`);
  }
}

const shown = ({ address }: TiersPlace) => hide(address);
