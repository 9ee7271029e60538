/** `rcm record dump`: the messages of a record, each held against its check. */

import type { Command } from "commander";
import { isOwned } from "./owner.ts";
import { readRecord, type RecordedMessage, recordFolder } from "./record_reader.ts";
import { summaryLines, toldFaults } from "./record_verify.ts";
import { CommandError, Exit, group, type Shell, wholeNumber } from "./shell.ts";

/** Payload bytes that are shown unless told otherwise. */
const PAYLOAD_BYTES = "64";

interface DumpOptions {
  readonly json?: true;
  readonly from: string;
  readonly count?: string;
  readonly payload?: string | true;
}

/** Adds `rcm record dump`. */
export function addRecordDump(program: Command, shell: Shell): void {
  group(program, "record", "Record files of a context")
    .command("dump")
    .description(
      "Lists the messages of a record in their order: sqn, time, stream, number, argument, bytes.",
    )
    .argument("<folder>", "the context's folder, <RecordDir or workDir>/<Context>")
    .option("--from <sqn>", "first sequence number that is shown", "0")
    .option("--count <messages>", "so many at most")
    .option("--payload [bytes]", `the first bytes of each in hex (${PAYLOAD_BYTES})`)
    .option("--json", "one line of JSON a message")
    .addHelpText("after", "\nExit code 1: the record is damaged; what is whole was shown.")
    .action((path: string, options: DumpOptions) => dump(path, options, shell));
}

function dump(path: string, options: DumpOptions, shell: Shell): void {
  const most = Number.MAX_SAFE_INTEGER;
  const from = wholeNumber("--from", options.from, 0, most);
  const count = options.count === undefined ? most : wholeNumber("--count", options.count, 0, most);
  const payload = payloadBytes(options.payload);
  const folder = recordFolder(path);
  let shown = 0;
  const summary = readRecord(folder, isOwned(folder), (message) => {
    if (shell.signal.aborted) return false;
    if (message.sqn < from) return true;
    if (shown >= count) return false;
    shown += 1;
    shell.out(options.json ? messageJson(message, payload) : messageLine(message, payload));
    return shown < count;
  });
  if (from > summary.nextSqn) {
    throw new CommandError(
      `--from ${from}: the record has [${summary.firstSqn}, ${summary.nextSqn})`,
    );
  }
  if (!toldFaults(summary)) return;
  shell.exit = Exit.FAULT;
  for (const line of summaryLines(summary)) shell.err(line);
}

function payloadBytes(option: DumpOptions["payload"]): number {
  if (option === undefined) return 0;
  return wholeNumber("--payload", option === true ? PAYLOAD_BYTES : option, 1, 2 ** 30);
}

function messageLine(message: RecordedMessage, payload: number): string {
  const { sqn, timeMs, stream, msgNo, msgArg, txArg, length } = message;
  const from = `${stream.topic}/${stream.partitionNo} ${stream.context}`;
  const args = `arg ${msgArg} txArg ${txArg}`;
  const time = new Date(timeMs).toISOString();
  const line = `${sqn}  ${time}  ${from}  no ${msgNo}  ${args}  ${length} bytes`;
  return payload === 0 ? line : `${line}  ${hex(message.payload(payload))}`;
}

function messageJson(message: RecordedMessage, payload: number): string {
  const { sqn, timeMs, stream, msgNo, msgArg, txArg, length, file, offset } = message;
  return JSON.stringify({
    sqn,
    timeMs,
    topic: stream.topic,
    partitionNo: stream.partitionNo,
    txContext: stream.context,
    stream: stream.id,
    msgNo,
    msgArg,
    txArg,
    length,
    file,
    offset,
    ...(payload === 0 ? {} : { payload: hex(message.payload(payload)) }),
  });
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
