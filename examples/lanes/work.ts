/** What a handler of `main.ts` does with a message: some 20 microseconds of arithmetic. */

/** @returns a number that depends on all of it, so that nothing is left out */
export function work(data: Uint8Array): number {
  let hash = 2166136261;
  for (let round = 0; round < 2000; round += 1) {
    for (const byte of data) hash = Math.imul(hash ^ byte ^ round, 16777619);
  }
  return hash;
}
