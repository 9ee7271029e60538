/** The way to a tier's tree, by its address. */

import { join } from "node:path";
import type { NativeLibrary } from "../native/library.ts";
import { checkArbPath, parseArbAddress } from "./address.ts";
import type { Arbiter, ArbiterOptions } from "./arbiter.ts";
import { createLocalTree } from "./local.ts";
import { createArbiter } from "./member.ts";
import type { Tree, TreeEvents } from "./tree.ts";
import { createZookeeperTree } from "./zookeeper.ts";

/** Where a tree lies, and who hears of it. */
export interface TreeOptions {
  readonly address: string;
  readonly path: string;
  readonly sessionTimeoutMilli: number;
  readonly events: TreeEvents;
}

/**
 * @throws RcmError `ARGUMENT` for a wrong address or path; `NATIVE` when ZooKeeper's client library
 * is missing, naming the package
 */
export async function openTree(library: NativeLibrary, options: TreeOptions): Promise<Tree> {
  const address = parseArbAddress(options.address);
  checkArbPath(options.path);
  const { sessionTimeoutMilli, events } = options;
  if (address.kind === "local") {
    const folder = join(address.folder, ...options.path.split("/"));
    return await createLocalTree({ library, folder, sessionTimeoutMilli, events });
  }
  const { hosts, auth } = address;
  return await createZookeeperTree({ library, hosts, auth, sessionTimeoutMilli, events });
}

/**
 * Opens an arbiter; nothing is asked of anybody before `join`.
 *
 * @throws RcmError as `openTree`
 */
export async function openArbiter(
  library: NativeLibrary,
  options: ArbiterOptions,
): Promise<Arbiter> {
  return await createArbiter(options, (events) => openTree(library, { ...options, events }));
}
