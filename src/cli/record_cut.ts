/** `rcm record cut`: makes a record end in front of a sequence number. */

import type { Command } from "commander";
import { basename, dirname } from "node:path";
import { nativeError, nativeLibrary } from "../native/library.ts";
import { isOwned } from "./owner.ts";
import { readRecord, recordFolder } from "./record_reader.ts";
import { summaryLines } from "./record_verify.ts";
import { CommandError, group, type Shell, wholeNumber } from "./shell.ts";

const ABOUT =
  "Makes a record end in front of a sequence number, as if its context had been killed there: " +
  "its next start goes on at that number. Messages from there on are gone, but for whole files, " +
  "which become <name>.cut. Refused while a running context owns the record.";

/** Adds `rcm record cut`. */
export function addRecordCut(program: Command, shell: Shell): void {
  group(program, "record", "Record files of a context")
    .command("cut")
    .summary("makes a record end in front of a sequence number")
    .description(ABOUT)
    .argument("<folder>", "the context's folder, <RecordDir or workDir>/<Context>")
    .argument("<sqn>", "first sequence number that goes")
    .option("--json", "the result as one line of JSON")
    .action((path: string, text: string, options: { json?: true }) => {
      const sqn = wholeNumber("<sqn>", text, 0, Number.MAX_SAFE_INTEGER);
      const folder = recordFolder(path);
      const before = isOwned(folder) ? 0 : readRecord(folder, false, () => true).nextSqn;
      const setAside = cut(folder, sqn);
      const removed = before - sqn;
      if (options.json) return shell.out(JSON.stringify({ folder, sqn, removed, setAside }));
      shell.out(
        `${folder}: cut at ${sqn}, ${removed} messages removed, ${setAside} files set aside`,
      );
      if (sqn === 0) return;
      for (const line of summaryLines(readRecord(folder, false, () => true)).slice(1)) {
        shell.out(line);
      }
    });
}

/** Files that were set aside. The native side takes the locks first. */
function cut(folder: string, sqn: number): number {
  const library = nativeLibrary();
  const encoder = new TextEncoder();
  const directory = encoder.encode(`${dirname(folder)}/`);
  const name = encoder.encode(basename(folder));
  const result = library.calls.rcm_record_cut(
    directory,
    directory.byteLength,
    name,
    name.byteLength,
    sqn,
  );
  if (result >= 0) return result;
  throw new CommandError(nativeError(library, result, `${folder} is not cut`).message);
}
