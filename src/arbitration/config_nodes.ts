/** Names of the nodes that hold a configuration: `<path>/config/1..n` (guide 8.1). */

import { arbitrationError } from "./native_session.ts";

/** @returns of these names those of parts, in numeric order; others are somebody's notes */
export function partNames(names: readonly string[]): string[] {
  return names.filter((name) => /^[1-9]\d{0,8}$/.test(name)).sort((a, b) => Number(a) - Number(b));
}

/** @throws RcmError `ARBITRATION` when there is none */
export function requireParts(path: string, names: readonly string[] | null): string[] {
  const parts = partNames(names ?? []);
  if (parts.length > 0) return parts;
  const found = names === null ? "there is no such node" : "it has no children 1, 2, ...";
  throw arbitrationError(`${path}: no configuration: ${found}; write it by rcm config push FILE`);
}
