/**
 * The default end of the log: files in `<workDir>/log`, bounded in size and in number.
 *
 * Programs often share a work directory (guide 5.4 runs sender and receiver in one), so each
 * writer has files of its own, `rcm_<UTC time>_<pid>_<tag>.log`, whose names sort by time. When a
 * file is full the next one is made; whoever makes one removes the oldest of the folder beyond the
 * bound, but never the newest of a process that is still alive.
 *
 * Lines are gathered and written at once when they matter (`urgent`), when enough have gathered,
 * after a moment, and when the process exits. A disk that fails must not stop a program: the first
 * failure is told on stderr, lines are dropped and counted, and writing is tried again later.
 */

import { Buffer } from "node:buffer";
import { closeSync, mkdirSync, openSync, readdirSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { clearTimeout, setTimeout } from "node:timers";

/** Most bytes of one file; a line that does not fit goes into the next file. */
export const LOG_FILE_BYTES = 16 * 2 ** 20;
/** Most files of one folder (those of living processes may exceed it). */
export const LOG_FILE_COUNT = 16;
/** Lines wait at most this long in memory, milliseconds. */
export const LOG_DELAY_MS = 200;
/** More than so many characters don't wait. */
const PENDING_CHARS_MAX = 64 * 2 ** 10;
/** After a failure nothing is tried for so long, milliseconds. */
const RETRY_MS = 10_000;

/** Where lines go. */
export interface LogFilesOptions {
  /** `<workDir>/log`. */
  readonly folder: string;
  /** Default {@linkcode LOG_FILE_BYTES}. */
  readonly fileBytes?: number;
  /** Default {@linkcode LOG_FILE_COUNT}. */
  readonly fileCount?: number;
  /** Unix time in milliseconds; default `Date.now`. */
  readonly now?: () => number;
  /** Takes the one note of a failing disk; default: stderr. */
  readonly complain?: (text: string) => void;
  /** Makes the line that tells, once the disk works again, how many lines are lost. */
  readonly lostLine: (count: number) => string;
}

/** Files that take lines. */
export interface LogFiles {
  /**
   * Appends a line (without its line end); never throws.
   * @param urgent true: it is in the file when this returns
   */
  write(line: string, urgent: boolean): void;
  /** Writes what has gathered. */
  flush(): void;
  /** Writes what has gathered and closes the file; later lines are dropped. */
  close(): void;
}

const NAME = /^rcm_\d{8}T\d{6}\.\d{3}Z_(\d+)_([0-9a-f]{8})\.log$/;

/** Those with lines that wait: what they have is written when the process exits. */
const waiting = new Set<LogFiles>();
let exitHook = false;

/** Opens nothing yet: the first file is made for the first line. */
export function openLogFiles(options: LogFilesOptions): LogFiles {
  const { folder, lostLine } = options;
  const fileBytes = options.fileBytes ?? LOG_FILE_BYTES;
  const fileCount = options.fileCount ?? LOG_FILE_COUNT;
  const now = options.now ?? Date.now;
  const complain = options.complain ?? complainOnStderr;
  const tag = Math.floor(Math.random() * 2 ** 32).toString(16).padStart(8, "0");

  let fd = -1;
  let written = 0;
  let lastStamp = 0;
  let pending: string[] = [];
  let pendingChars = 0;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let closed = false;
  let complained = false;
  let retryAt = 0;
  let lost = 0;

  /** @throws what the file system throws */
  function openNext(): void {
    closeFile();
    // Names sort by time and are never used twice, however fast files fill.
    lastStamp = Math.max(now(), lastStamp + 1);
    // It exists unless somebody has tidied up meanwhile.
    mkdirSync(folder, { recursive: true });
    const stamp = new Date(lastStamp).toISOString().replace(/[-:]/g, "");
    fd = openSync(join(folder, `rcm_${stamp}_${process.pid}_${tag}.log`), "ax", 0o644);
    written = 0;
    removeOldest(folder, fileCount);
  }

  function closeFile(): void {
    if (fd < 0) return;
    const old = fd;
    fd = -1;
    closeSync(old);
  }

  /** @throws what the file system throws */
  function append(bytes: Uint8Array): void {
    if (fd < 0 || (written > 0 && written + bytes.length > fileBytes)) openNext();
    let done = 0;
    while (done < bytes.length) {
      const n = writeSync(fd, bytes, done);
      if (n === 0) throw new Error("the disk takes no bytes");
      done += n;
      written += n;
    }
  }

  function failed(error: unknown, lines: number): void {
    lost += lines;
    retryAt = now() + RETRY_MS;
    try {
      closeFile();
    } catch {
      // Already told below.
    }
    if (complained) return;
    complained = true;
    const reason = error instanceof Error ? error.message : String(error);
    complain(`rcm: can't write log files in ${folder}: ${reason}\n`);
  }

  function flush(): void {
    waiting.delete(files);
    if (timer !== null) clearTimeout(timer);
    timer = null;
    const lines = pending;
    if (lines.length === 0) return;
    pending = [];
    pendingChars = 0;
    if (retryAt > now()) {
      lost += lines.length;
      return;
    }
    let done = 0;
    try {
      if (lost > 0) {
        append(encoder.encode(lostLine(lost) + "\n"));
        lost = 0;
      }
      while (done < lines.length) {
        const group = encodeGroup(lines, done, fileBytes - (fd < 0 ? 0 : written));
        append(group.bytes);
        done = group.end;
      }
    } catch (error) {
      failed(error, lines.length - done);
    }
  }

  const files: LogFiles = {
    write(line, urgent) {
      if (closed) return;
      pending.push(line);
      pendingChars += line.length;
      if (urgent || pendingChars > PENDING_CHARS_MAX) {
        flush();
        return;
      }
      if (timer !== null) return;
      waiting.add(files);
      hookExit();
      // A waiting line does not keep a program alive: the exit hook writes it.
      timer = setTimeout(flush, LOG_DELAY_MS);
      timer.unref();
    },
    flush,
    close() {
      if (closed) return;
      flush();
      closed = true;
      try {
        closeFile();
      } catch (error) {
        failed(error, 0);
      }
    },
  };
  return files;
}

const encoder = new TextEncoder();

/**
 * Encodes lines from `begin` on, as many as fit into `room` bytes but at least one: few writes, and
 * no line is cut by the end of a file.
 */
function encodeGroup(
  lines: readonly string[],
  begin: number,
  room: number,
): { bytes: Uint8Array; end: number } {
  let text = lines[begin]! + "\n";
  let end = begin + 1;
  let bytes = Buffer.byteLength(text);
  while (end < lines.length) {
    const line = lines[end]! + "\n";
    bytes += Buffer.byteLength(line);
    if (bytes > room) break;
    text += line;
    end += 1;
  }
  return { bytes: encoder.encode(text), end };
}

/** Removes the oldest log files beyond `keep`; other processes may be doing the same. */
function removeOldest(folder: string, keep: number): void {
  const names = readdirSync(folder).filter((name) => NAME.test(name)).sort();
  const surplus = names.length - keep;
  if (surplus <= 0) return;
  const newest = new Map<string, string>();
  for (const name of names) newest.set(ownerOf(name), name);
  let removed = 0;
  for (const name of names) {
    if (removed >= surplus) break;
    const pid = Number(NAME.exec(name)?.[1]);
    if (newest.get(ownerOf(name)) === name && isAlive(pid)) continue;
    try {
      unlinkSync(join(folder, name));
    } catch {
      // Another process was faster, or it is not ours to remove.
    }
    removed += 1;
  }
}

/** Process and writer of a file. */
function ownerOf(name: string): string {
  const parts = NAME.exec(name);
  return `${parts?.[1]}_${parts?.[2]}`;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It exists, and belongs to somebody else.
    return (error as { code?: unknown }).code === "EPERM";
  }
}

function hookExit(): void {
  if (exitHook) return;
  exitHook = true;
  process.on("exit", () => {
    for (const files of [...waiting]) files.flush();
  });
}

function complainOnStderr(text: string): void {
  try {
    process.stderr.write(text);
  } catch {
    // Nobody is left to be told.
  }
}
