/** `rcm record verify`: is everything in a record whole, and what is in it? */

import type { Command } from "commander";
import { isOwned } from "./owner.ts";
import { readRecord, recordFolder, type RecordSummary } from "./record_reader.ts";
import { Exit, group, type Shell } from "./shell.ts";

/** Adds `rcm record verify`. */
export function addRecordVerify(program: Command, shell: Shell): void {
  group(program, "record", "Record files of a context")
    .command("verify")
    .description("Reads all of a record, holds each message against its check, and sums up.")
    .argument("<folder>", "the context's folder, <RecordDir or workDir>/<Context>")
    .option("--json", "the result as one line of JSON")
    .addHelpText(
      "after",
      "\nExit code 1: it is damaged; the next start of its context would cut it there.",
    )
    .action((path: string, options: { json?: true }) => {
      const folder = recordFolder(path);
      const isLive = isOwned(folder);
      const summary = readRecord(folder, isLive, () => !shell.signal.aborted);
      if (toldFaults(summary)) shell.exit = Exit.FAULT;
      if (options.json) return shell.out(JSON.stringify({ ...summary, isLive }));
      for (const line of summaryLines(summary)) shell.out(line);
      if (isLive) shell.out("  a running context is writing it");
    });
}

/** @returns whether there is anything wrong with it */
export function toldFaults({ damage, damagedHeads }: RecordSummary): boolean {
  return damage !== null || damagedHeads.length > 0;
}

/** What a record is, for people. */
export function summaryLines(summary: RecordSummary): string[] {
  const { folder, context, files, bytes, firstSqn, nextSqn, payloadBytes, damage } = summary;
  const count = nextSqn - firstSqn;
  const each = count === 0 ? "" : `, ${(bytes / count).toFixed(1)} bytes of file a message`;
  return [
    `${folder}: record of context ${context}, ${files} files, ${bytes} bytes`,
    `  messages [${firstSqn}, ${nextSqn}): ${count}, ${payloadBytes} bytes of payload${each}`,
    ...summary.streams.map((stream) =>
      `  stream ${stream.id}: ${stream.topic}/${stream.partitionNo} of ${stream.context} ` +
      `(context ${stream.contextId}, transport ${stream.transportId})`
    ),
    ...[...summary.damagedHeads, ...(damage === null ? [] : [damage])].map((
      { file, offset, what },
    ) => `  damaged: file ${file}, byte ${offset}: ${what}`),
  ];
}
