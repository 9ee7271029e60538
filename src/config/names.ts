/** The known name that is nearest to one that is not known. */

/** Names as far apart as this, or a third of their length, were hardly meant to be the same. */
const NEAR = 2;

/**
 * Edits between two texts: insertions, deletions, substitutions, and swaps of neighbours
 * (Damerau-Levenshtein, each place edited once).
 *
 * @returns the smallest number of edits
 */
export function editDistance(a: string, b: string): number {
  const from = [...a];
  const to = [...b];
  let before: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= to.length; j += 1) {
      const cost = from[i - 1] === to[j - 1] ? 0 : 1;
      let best = Math.min(
        (previous[j] ?? 0) + 1,
        (current[j - 1] ?? 0) + 1,
        (previous[j - 1] ?? 0) + cost,
      );
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]) {
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      }
      current.push(best);
    }
    before = previous;
    previous = current;
  }
  return previous[to.length] ?? 0;
}

/** A known name, and whether it may have been meant. */
export interface Nearest {
  readonly name: string;
  readonly isNear: boolean;
  /** Edits between the two; half of one where only capitals differ. */
  readonly distance: number;
}

/**
 * Finds the known name nearest to another. Capitals count less than letters, and of names equally
 * far the first wins.
 *
 * @returns undefined when nothing is known
 */
export function nearestName(name: string, known: Iterable<string>): Nearest | undefined {
  const folded = name.toLowerCase();
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of known) {
    // Names whose lengths differ so much can't be nearer.
    if (Math.abs(candidate.length - name.length) > bestDistance * 2) continue;
    const distance = editDistance(folded, candidate.toLowerCase()) +
      (candidate.toLowerCase() === folded && candidate !== name ? 0.5 : 0);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  if (best === undefined) return undefined;
  const length = Math.max(name.length, best.length);
  const isNear = bestDistance <= Math.max(NEAR, length / 3) && bestDistance < length;
  return { name: best, isNear, distance: bestDistance };
}

/**
 * The end of a sentence that names what may have been meant.
 *
 * @param known all names that would have been right
 * @returns for example `'; did you mean "server1"?'`; "" when nothing is known
 */
export function suggestion(name: string, known: Iterable<string>): string {
  const nearest = nearestName(name, known);
  if (nearest === undefined) return "";
  const quoted = JSON.stringify(nearest.name);
  return nearest.isNear ? `; did you mean ${quoted}?` : `; the nearest is ${quoted}`;
}
