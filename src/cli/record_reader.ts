/**
 * Reads record files (docs/files.md, "The record") as a start does, and changes nothing: the
 * longest prefix of the order in which everything is whole, and where it ends though something
 * follows. Neither the context nor its configuration is needed.
 */

import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import * as abi from "../native/abi.ts";
import { readStruct } from "../observe/structs.ts";
import { crc32c, CRC_INITIAL, crcFinish, crcUpdate } from "./crc32c.ts";
import { CommandError } from "./shell.ts";

const {
  recordBlockBytes: BLOCK_BYTES,
  recordBlockHeaderBytes: HEAD_BYTES,
  recordTableOffset: TABLE_OFFSET,
  recordEntriesMax: ENTRIES_MAX,
} = abi.constants;
const MAGIC = "RCM REC1";
const SEGMENT = 1;
const MESSAGE = 2;
const LENGTH_END = 0xffff_ffff;
const LENGTH_REFERENCE = 0xffff_fffe;
const MESSAGE_BYTES_MAX = abi.constants.messageBytesMax;
const RECORD_BYTES = abi.RecordHeader.bytes;
/** Of a large message at a time. */
const PIECE_BYTES = 1 << 20;
/** Where a context is writing, a record may be half there: so often it is looked at again. */
const TRIES_LIVE = 20;
const TRY_EVERY_MS = 10;

/** What the record knows of a stream: a sender's topic and partition. */
export interface RecordStream {
  readonly id: number;
  readonly contextId: number;
  readonly context: string;
  readonly transportId: number;
  readonly topic: string;
  readonly partitionNo: number;
}

/** A message in the record. */
export interface RecordedMessage {
  readonly sqn: number;
  readonly stream: RecordStream;
  readonly msgNo: number;
  /** Unix milliseconds of ordering. */
  readonly timeMs: number;
  readonly msgArg: number;
  readonly txArg: number;
  /** Bytes of payload. */
  readonly length: number;
  /** Number of its file, and where its payload begins there. */
  readonly file: number;
  readonly offset: number;
  /** Its first bytes, at most so many. */
  payload(most: number): Uint8Array;
}

/** Where the order ends though something follows. */
export interface RecordDamage {
  readonly file: number;
  readonly offset: number;
  readonly what: string;
}

/** What was found. */
export interface RecordSummary {
  readonly folder: string;
  readonly context: string;
  readonly files: number;
  readonly bytes: number;
  /** The record has [firstSqn, nextSqn). */
  readonly firstSqn: number;
  readonly nextSqn: number;
  readonly payloadBytes: number;
  readonly streams: readonly RecordStream[];
  readonly damage: RecordDamage | null;
  /** Headers of files and entries of streams that can't be believed. */
  readonly damagedHeads: readonly RecordDamage[];
}

/** @returns the path of a record file by its number */
export function recordPath(folder: string, no: number): string {
  return join(folder, `rcm_sqn_data_${no}.dat`);
}

/**
 * @param path a context's folder of record files, or one of them
 * @returns the folder
 * @throws CommandError when there is no record
 */
export function recordFolder(path: string): string {
  const absolute = resolve(path);
  let folder = absolute;
  try {
    if (!statSync(absolute).isDirectory()) folder = dirname(absolute);
  } catch (cause) {
    throw new CommandError(`${path}: ${cause instanceof Error ? cause.message : cause}`);
  }
  if (existsSync(recordPath(folder, 0))) return folder;
  throw new CommandError(
    `${folder}: no record there: expected rcm_sqn_data_0.dat; name the folder ` +
      "<RecordDir or workDir>/<Context>",
  );
}

/**
 * Reads a record from its begin.
 * @param isLive a context is writing it
 * @param onMessage called for each message in order; false: enough
 */
export function readRecord(
  folder: string,
  isLive: boolean,
  onMessage: (message: RecordedMessage) => boolean,
): RecordSummary {
  const files: number[] = [];
  try {
    while (existsSync(recordPath(folder, files.length))) {
      files.push(openSync(recordPath(folder, files.length), "r"));
    }
    return scan(folder, files, isLive, onMessage);
  } catch (cause) {
    if (cause instanceof CommandError || !(cause instanceof Error) || !("code" in cause)) {
      throw cause;
    }
    throw new CommandError(`${folder}: ${cause.message}`, undefined, { cause });
  } finally {
    for (const file of files) closeSync(file);
  }
}

function scan(
  folder: string,
  files: readonly number[],
  isLive: boolean,
  onMessage: (message: RecordedMessage) => boolean,
): RecordSummary {
  const streams = new Map<number, RecordStream>();
  const damagedHeads: RecordDamage[] = [];
  let context = basename(folder);
  files.forEach((file, no) => {
    const head = readHead(file, no, damagedHeads);
    if (head !== null) context = head;
    readStreams(file, no, streams, damagedHeads);
  });
  let bytes = 0;
  let payloadBytes = 0;
  let firstSqn = 0;
  let nextSqn = 0;
  let isFirst = true;
  let damage: RecordDamage | null = null;
  const seen = new Set<RecordStream>();
  const note = (file: number, offset: number, what: string) => damage ??= { file, offset, what };

  /** Null: nothing there that counts. */
  function recordAt(no: number, block: number, view: Block, at: number): Taken | null {
    const header = readStruct(view.view, at, abi.RecordHeader);
    const offset = block * BLOCK_BYTES + at;
    if (header.length === LENGTH_REFERENCE) {
      if (header.sqn !== nextSqn || header.check !== checkOf(view, at, 0, true)) return null;
      return referenceAt(view, at);
    }
    const padded = Math.ceil(header.length / 8) * 8;
    const stream = streams.get(header.stream);
    if (header.sqn !== nextSqn || stream === undefined) return null;
    if (at + RECORD_BYTES + padded > view.length) return null;
    if (header.check !== checkOf(view, at, padded, false)) return null;
    const begin = at + RECORD_BYTES;
    const payload = (most: number) =>
      view.bytes.slice(begin, begin + Math.min(most, header.length));
    return {
      bytes: RECORD_BYTES + padded,
      message: { ...header, stream, file: no, offset: offset + RECORD_BYTES, payload },
    };
  }

  function referenceAt(view: Block, at: number): Taken | null {
    const { timeMs: _, ...reference } = readStruct(view.view, at, abi.RecordHeader);
    const timeAt = at + abi.RecordHeader.fields.timeMs.offset;
    const block = view.view.getUint32(timeAt, true);
    const no = view.view.getUint32(timeAt + 4, true);
    const file = files[no];
    if (file === undefined) return null;
    const start = block * BLOCK_BYTES;
    const head = readBlock(file, start, HEAD_BYTES + RECORD_BYTES);
    if (head.length < HEAD_BYTES + RECORD_BYTES) return null;
    const blockHeader = readStruct(head.view, 0, abi.RecordBlockHeader);
    if (!isTrueBlock(head, no, block) || blockHeader.kind !== MESSAGE) return null;
    const header = readStruct(head.view, HEAD_BYTES, abi.RecordHeader);
    const stream = streams.get(header.stream);
    if (header.sqn !== reference.sqn || stream === undefined) return null;
    if (header.length > MESSAGE_BYTES_MAX) return null;
    const padded = Math.ceil(header.length / 8) * 8;
    const begin = start + HEAD_BYTES + RECORD_BYTES;
    if (HEAD_BYTES + RECORD_BYTES + padded > blockHeader.blocks * BLOCK_BYTES) return null;
    let crc: number = CRC_INITIAL;
    for (let done = 0; done < padded; done += PIECE_BYTES) {
      const piece = readBlock(file, begin + done, Math.min(PIECE_BYTES, padded - done));
      if (piece.length < Math.min(PIECE_BYTES, padded - done)) return null;
      crc = crcUpdate(crc, piece.bytes);
    }
    if (header.check !== checkHeader(crc, head, HEAD_BYTES, false)) return null;
    const payload = (most: number) => readBlock(file, begin, Math.min(most, header.length)).bytes;
    return {
      bytes: RECORD_BYTES,
      message: { ...header, stream, file: no, offset: begin, payload },
    };
  }

  /** False: the prefix ends, or it is enough. */
  function segmentAt(no: number, block: number, first: Block): boolean {
    const file = files[no]!;
    const { baseSqn } = readStruct(first.view, 0, abi.RecordBlockHeader);
    if (isFirst) {
      isFirst = false;
      firstSqn = baseSqn;
      nextSqn = baseSqn;
    }
    if (baseSqn !== nextSqn) {
      note(
        no,
        block * BLOCK_BYTES,
        `expected a segment from ${nextSqn}, found one from ${baseSqn}`,
      );
      return false;
    }
    // What was wrong in front of here has cost nothing.
    damage = null;
    let view = first;
    let at = HEAD_BYTES;
    let tries = isLive ? TRIES_LIVE : 0;
    while (at < BLOCK_BYTES) {
      if (isEnd(view, at)) return true;
      const taken = at + RECORD_BYTES <= view.length ? recordAt(no, block, view, at) : null;
      if (taken === null) {
        if (tries > 0) {
          tries -= 1;
          sleep(TRY_EVERY_MS);
          view = readBlock(file, block * BLOCK_BYTES, BLOCK_BYTES);
          continue;
        }
        note(no, block * BLOCK_BYTES + at, `record ${nextSqn} is not whole`);
        return true;
      }
      at += taken.bytes;
      nextSqn += 1;
      payloadBytes += taken.message.length;
      seen.add(taken.message.stream);
      if (!onMessage(taken.message)) return false;
    }
    return true;
  }

  function fileAt(no: number): boolean {
    const file = files[no]!;
    const size = fstatSync(file).size;
    bytes += size;
    for (let block = 1; block * BLOCK_BYTES < size; block += 1) {
      const head = readBlock(file, block * BLOCK_BYTES, HEAD_BYTES);
      if (isZero(head.bytes)) continue;
      if (head.length < HEAD_BYTES || !isTrueBlock(head, no, block)) {
        note(no, block * BLOCK_BYTES, "a block's header is damaged");
        continue;
      }
      const { kind, blocks } = readStruct(head.view, 0, abi.RecordBlockHeader);
      if (kind === MESSAGE) {
        block += blocks - 1;
        continue;
      }
      const segment = readBlock(file, block * BLOCK_BYTES, BLOCK_BYTES);
      if (kind === SEGMENT && !segmentAt(no, block, segment)) return false;
    }
    return true;
  }

  for (let no = 0; no < files.length; no += 1) if (!fileAt(no)) break;
  return {
    folder,
    context,
    files: files.length,
    bytes,
    firstSqn,
    nextSqn,
    payloadBytes,
    streams: [...seen].sort((a, b) => a.id - b.id),
    damage,
    damagedHeads,
  };
}

/** A record that is whole. */
interface Taken {
  /** Bytes in its segment. */
  readonly bytes: number;
  readonly message: RecordedMessage;
}

/** Part of a file. */
interface Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly length: number;
}

/** Shorter where the file ends. */
function readBlock(file: number, offset: number, bytes: number): Block {
  const buffer = new Uint8Array(bytes);
  let done = 0;
  while (done < bytes) {
    const got = readSync(file, buffer, done, bytes - done, offset + done);
    if (got === 0) break;
    done += got;
  }
  const read = buffer.subarray(0, done);
  return { bytes: read, view: new DataView(read.buffer, 0, done), length: done };
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** An end mark, or nothing more up to the block's or the file's end. */
function isEnd(block: Block, at: number): boolean {
  if (at + 4 <= block.length && block.view.getUint32(at, true) === LENGTH_END) return true;
  return isZero(block.bytes.subarray(at, at + RECORD_BYTES));
}

function isTrueBlock(block: Block, file: number, no: number): boolean {
  const header = readStruct(block.view, 0, abi.RecordBlockHeader);
  const checked = block.bytes.subarray(0, abi.RecordBlockHeader.fields.check.offset);
  return hasMagic(block) && header.check === crc32c(checked) && header.fileNo === file &&
    header.block === no && header.blocks > 0;
}

function hasMagic(block: Block): boolean {
  return new TextDecoder().decode(block.bytes.subarray(0, 8)) === MAGIC;
}

/** The check of a record in a segment. */
function checkOf(block: Block, at: number, padded: number, isReference: boolean): number {
  const begin = at + RECORD_BYTES;
  const crc = crcUpdate(CRC_INITIAL, block.bytes.subarray(begin, begin + padded));
  return checkHeader(crc, block, at, isReference);
}

/** Stream and length, sqn, msg_no (of a reference: 0), time_ms, args, as numbers of 64 bits. */
function checkHeader(crc: number, block: Block, at: number, isReference: boolean): number {
  const { fields } = abi.RecordHeader;
  const words = new Uint8Array(40);
  const put = (to: number, field: { offset: number }, bytes: number) =>
    words.set(block.bytes.subarray(at + field.offset, at + field.offset + bytes), to);
  put(0, fields.length, 4);
  put(4, fields.stream, 4);
  put(8, fields.sqn, 8);
  if (!isReference) put(16, fields.msgNo, 8);
  put(24, fields.timeMs, 8);
  put(32, fields.msgArg, 2);
  put(34, fields.txArg, 2);
  return crcFinish(crcUpdate(crc, words));
}

/** The context's name; null: the header can't be believed. */
function readHead(file: number, no: number, damaged: RecordDamage[]): string | null {
  const layout = abi.RecordFileHeader;
  const block = readBlock(file, 0, layout.bytes);
  if (block.length === layout.bytes) {
    const header = readStruct(block.view, 0, layout);
    const checked = block.bytes.subarray(0, layout.fields.check.offset);
    if (hasMagic(block) && header.check === crc32c(checked) && header.fileNo === no) {
      if (header.version !== abi.constants.recordVersion) {
        throw new CommandError(
          `file ${no} of the record has version ${header.version}, ` +
            `${abi.constants.recordVersion} is what this can read`,
        );
      }
      return textAt(block, layout.fields.context.offset, header.contextBytes);
    }
  }
  damaged.push({ file: no, offset: 0, what: "the file's header is damaged" });
  return null;
}

function readStreams(
  file: number,
  no: number,
  streams: Map<number, RecordStream>,
  damaged: RecordDamage[],
): void {
  const layout = abi.RecordStreamEntry;
  const table = readBlock(file, TABLE_OFFSET, ENTRIES_MAX * layout.bytes);
  for (let at = 0; at + layout.bytes <= table.length; at += layout.bytes) {
    const bytes = table.bytes.subarray(at, at + layout.bytes);
    if (isZero(bytes)) break;
    const entry = readStruct(table.view, at, layout);
    if (entry.check !== crc32c(bytes.subarray(4))) {
      damaged.push({ file: no, offset: TABLE_OFFSET + at, what: "a stream's entry is damaged" });
      continue;
    }
    if (streams.has(entry.id)) continue; // Another connection of the same stream.
    streams.set(entry.id, {
      id: entry.id,
      contextId: entry.source,
      context: textAt(table, at + layout.fields.name.offset, entry.nameBytes),
      transportId: entry.transport,
      topic: textAt(table, at + layout.fields.topic.offset, entry.topicBytes),
      partitionNo: entry.partition,
    });
  }
}

function textAt(block: Block, at: number, bytes: number): string {
  return new TextDecoder().decode(block.bytes.subarray(at, at + bytes));
}

const never = new Int32Array(new SharedArrayBuffer(4));

function sleep(milliseconds: number): void {
  Atomics.wait(never, 0, 0, milliseconds);
}
