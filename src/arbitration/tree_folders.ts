/** Nodes that others are put below. */

import { arbitrationError } from "./native_session.ts";
import type { Outcome, Tree } from "./tree.ts";

/** A creation whose answer was lost is tried again so often. */
const TRIES_MAX = 5;

/**
 * Makes a node and those above it where they are missing.
 * @throws RcmError `ARBITRATION`
 */
export async function makeFolders(tree: Tree, leaf: string): Promise<void> {
  const parts = leaf.split("/").slice(1);
  for (let i = 1; i <= parts.length; i += 1) {
    const path = "/" + parts.slice(0, i).join("/");
    if (await tree.get(path, false) !== null) continue;
    let outcome: Outcome = "lost";
    for (let tries = 0; outcome === "lost" && tries < TRIES_MAX; tries += 1) {
      outcome = await tree.change([{ op: "create", path, data: "" }]);
    }
    if (outcome === "done" || outcome === "exists") continue;
    throw arbitrationError(
      outcome === "missing"
        ? `${path} can't be made: its parent is missing (a chroot in the address has to exist)`
        : `${path} can't be made (${outcome})`,
    );
  }
}
