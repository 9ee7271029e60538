/** Does a running context own a record? By the kernel's lock on its first file. */

import { nativeLibrary } from "../native/library.ts";
import { recordPath } from "./record_reader.ts";

/** @param folder a context's folder of record files */
export function isOwned(folder: string): boolean {
  const bytes = new TextEncoder().encode(recordPath(folder, 0));
  return nativeLibrary().calls.rcm_file_owned(bytes, bytes.byteLength) === 1;
}
