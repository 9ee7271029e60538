/** The way to a tier's tree, by its address. */

import { join } from "node:path";
import type { NativeLibrary } from "../native/library.ts";
import { checkArbPath, parseArbAddress } from "./address.ts";
import type { Arbiter, ArbiterOptions } from "./arbiter.ts";
import { createLocalTree } from "./local.ts";
import { createArbiter } from "./member.ts";
import { createZookeeperTree } from "./zookeeper.ts";

/**
 * Opens an arbiter; nothing is asked of anybody before `join`.
 *
 * @throws RcmError `ARGUMENT` for a wrong address or path; `NATIVE` when ZooKeeper's client library
 * is missing, naming the package
 */
export async function openArbiter(
  library: NativeLibrary,
  options: ArbiterOptions,
): Promise<Arbiter> {
  const address = parseArbAddress(options.address);
  checkArbPath(options.path);
  const { sessionTimeoutMilli } = options;
  return await createArbiter(options, (events) =>
    address.kind === "local"
      ? createLocalTree({
        library,
        folder: join(address.folder, ...options.path.split("/")),
        sessionTimeoutMilli,
        events,
      })
      : createZookeeperTree({
        library,
        hosts: address.hosts,
        auth: address.auth,
        sessionTimeoutMilli,
        events,
      }));
}
