/** Names of system errors. */

import { constants } from "node:os";

const names = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno)) {
  // Some numbers have two names (EAGAIN, EWOULDBLOCK): the first is the one that manuals use.
  if (!names.has(number)) names.set(number, name);
}

/**
 * A system error number as people know it.
 *
 * @param errno positive number, as in `errno.h`
 * @returns for example `"EPERM (1)"`; only the number when the system has no name for it
 */
export function errorName(errno: number): string {
  const name = names.get(errno);
  return name === undefined ? String(errno) : `${name} (${errno})`;
}
