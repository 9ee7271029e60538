/**
 * The log: what is raised, at which level, goes to the program's logger or to files (guide 7.6).
 *
 * A line of the files is `2026-01-31T12:00:00.000Z INFO 21060 server1 text`. A program's logger
 * gets key, level and text; the context's name stands behind the text in parentheses, where the
 * guide's own lines (5.4) name their source.
 */

import { RcmError } from "../errors.ts";
import { RcmLogLevel } from "../enums.ts";
import {
  fillText,
  LogKey,
  type LogKeyNumber,
  type LogLanguage,
  logTextOf,
  type LogValues,
} from "./log_texts.ts";
import { type LogFiles, type LogFilesOptions, openLogFiles } from "./log_files.ts";

/** Takes log lines instead of the files (guide 9.10). */
export interface RcmLogger {
  /**
   * One line. A throw is caught: the line goes to the files.
   * @param key what the line tells of; stable, the same in all languages
   * @param level how much it matters
   * @param content its text, in the factory's language
   */
  log(key: number, level: RcmLogLevel, content: string): void;
}

/** A line that the native side raises. */
export interface NativeLine {
  /** Key of `LOG_TEXTS`. */
  readonly key: number;
  readonly level: RcmLogLevel;
  /** Numbers, in the order of the key's `args`. */
  readonly args: readonly number[];
  /** The other side's context, or "". */
  readonly peer: string;
  /** "topic.partition", or "" when the line is of the context as a whole. */
  readonly stream: string;
}

/** Where lines are raised. */
export interface LogSink {
  /** `RcmFactory.setLogArg` (guide 9.13.5). */
  setLogArg(minLevel: RcmLogLevel, logger?: RcmLogger | null): void;
  /**
   * Raises a line of the TypeScript side.
   * @param values what the text's placeholders stand for
   * @param context name of the context it tells of, or ""
   */
  log<K extends LogKeyNumber>(key: K, values: LogValues<K>, context?: string): void;
  /** Raises a line that the native side has sent. */
  logNative(line: NativeLine, context: string): void;
  /** Writes what has gathered for the files. */
  flush(): void;
  /** Writes what has gathered and closes the files; later lines are dropped. */
  close(): void;
}

/** How the log is set up. */
export interface LogSinkOptions extends Omit<LogFilesOptions, "lostLine"> {
  /** Default `"zh_CN"`. */
  readonly lang?: LogLanguage;
}

const LEVEL_NAMES = ["DEBUG", "INFO", "WARN", "ERROR", "IMP", "FATAL"] as const;

/**
 * @param options the folder is made by the factory; files in it only for a first line
 * @returns a sink that writes files from INFO on
 */
export function openLogSink(options: LogSinkOptions): LogSink {
  const lang = options.lang ?? "zh_CN";
  const now = options.now ?? Date.now;
  const files: LogFiles = openLogFiles({
    ...options,
    lostLine: (count) => {
      const { key, level, text } = lineOf(LogKey.LOG_LINES_LOST, { count });
      return fileLine(key, level, text, "");
    },
  });
  let minLevel: RcmLogLevel = RcmLogLevel.INFO;
  let logger: RcmLogger | null = null;
  /** The logger at hand has failed and that was told. */
  let failureTold = false;
  /** The logger is being called: what it raises itself goes to the files. */
  let entered = false;
  let closed = false;

  function lineOf(key: number, values: Readonly<Record<string, string | number>>) {
    const entry = logTextOf(key);
    if (entry === undefined) {
      const rest = Object.values(values).filter((value) => value !== "").join(" ");
      return { key, level: RcmLogLevel.INFO, text: `key ${key}: ${rest}` };
    }
    const template = lang === "en_US" ? entry.en : entry.zh;
    return { key, level: RcmLogLevel[entry.level], text: fillText(template, values) };
  }

  function fileLine(key: number, level: RcmLogLevel, text: string, context: string): string {
    const time = new Date(now()).toISOString();
    // A stack in a text stays in its line, so that a line is a record.
    const flat = text.replace(/\r?\n\s*/g, " | ");
    return `${time} ${LEVEL_NAMES[level]} ${key} ${context === "" ? "-" : context} ${flat}`;
  }

  function toFiles(key: number, level: RcmLogLevel, text: string, context: string): void {
    files.write(fileLine(key, level, text, context), level >= RcmLogLevel.ERROR);
  }

  function loggerFailed(error: unknown): void {
    if (failureTold) return;
    failureTold = true;
    const line = lineOf(LogKey.LOGGER_FAILED, { error: errorText(error) });
    toFiles(line.key, line.level, line.text, "");
  }

  function raise(key: number, level: RcmLogLevel, text: string, context: string): void {
    if (level < minLevel || closed) return;
    if (logger === null || entered) {
      toFiles(key, level, text, context);
      return;
    }
    const called = logger;
    entered = true;
    try {
      const result: unknown = called.log(key, level, context === "" ? text : `${text}(${context})`);
      // An async logger is a `void` one to the compiler; its rejection must not end the program.
      if (isPromiseLike(result)) {
        result.then(undefined, (error: unknown) => {
          if (called === logger) loggerFailed(error);
          if (!closed) toFiles(key, level, text, context);
        });
      }
    } catch (error) {
      if (called === logger) loggerFailed(error);
      toFiles(key, level, text, context);
    } finally {
      entered = false;
    }
  }

  return {
    setLogArg(level, next) {
      if (LEVEL_NAMES[level] === undefined) {
        throw new RcmError(
          "ARGUMENT",
          `setLogArg: minLevel ${String(level)} is not one of RcmLogLevel (0 to 5)`,
        );
      }
      const taken: unknown = next ?? null;
      if (taken !== null && typeof (taken as { log?: unknown }).log !== "function") {
        throw new RcmError("ARGUMENT", "setLogArg: the logger has no method log");
      }
      minLevel = level;
      logger = next ?? null;
      failureTold = false;
    },
    log(key, values, context = "") {
      const line = lineOf(key, values);
      raise(line.key, line.level, line.text, context);
    },
    logNative(native, context) {
      if (native.level < minLevel) return;
      const values: Record<string, string | number> = {
        stream: native.stream === "" ? "-" : native.stream,
        peer: native.peer === "" ? "-" : native.peer,
      };
      const names: readonly string[] = logTextOf(native.key)?.args ?? ["0", "1", "2", "3"];
      for (let i = 0; i < names.length; i += 1) values[names[i]!] = native.args[i] ?? 0;
      raise(native.key, native.level, lineOf(native.key, values).text, context);
    },
    flush: () => files.flush(),
    close() {
      closed = true;
      files.close();
    },
  };
}

/**
 * What somebody threw, as text for a log line.
 *
 * @returns the stack where there is one; never throws, whatever the value
 */
export function errorText(error: unknown): string {
  try {
    if (error instanceof Error) {
      // Some engines leave name and message out of the stack.
      const head = `${error.name}: ${error.message}`;
      const stack = error.stack ?? "";
      return stack.includes(head) ? stack : `${head}\n${stack}`.trimEnd();
    }
    return typeof error === "string" ? error : JSON.stringify(error) ?? String(error);
  } catch {
    return "(a value that can't be shown)";
  }
}

/** True for a value that callers may wait for. */
export function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null &&
    typeof (value as { then?: unknown }).then === "function";
}
