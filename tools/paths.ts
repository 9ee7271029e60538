/** Small helpers over files that several tools share. */

import { fileURLToPath } from "node:url";

/** Path of a `file:` URL, with `%20` and its like as they are on disk. */
export const fromFileUrl = (url: URL): string => fileURLToPath(url);

/** Removes a file or a folder with all it holds, where it exists. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Files below a folder whose names end with `ending`, sorted; none where it does not exist. */
export function listFiles(
  folder: string,
  ending: string,
  skip: readonly string[] = [],
): string[] {
  const found: string[] = [];
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(folder)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return found;
    throw error;
  }
  for (const entry of entries) {
    if (skip.includes(entry.name)) continue;
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) found.push(...listFiles(path, ending, skip));
    else if (entry.isFile && entry.name.endsWith(ending)) found.push(path);
  }
  return found.sort();
}
