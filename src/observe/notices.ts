/**
 * Notices: events, log lines and role changes as the native side sends them (`Notice` in
 * `native/src/abi.zig`), turned into the program's.
 */

import { RcmEventType, RcmLogLevel, RcmRole } from "../enums.ts";
import type { EventHub } from "./events.ts";
import { LogKey } from "./log_texts.ts";
import { errorText, type LogSink } from "./logger.ts";
import { readField, readStruct, type StructLayout } from "./structs.ts";

/** The fields of the native struct. */
export type NoticeLayout = StructLayout<
  "kind" | "code" | "level" | "transportId" | "args" | "nameLen" | "name"
>;

/** Numbers of a notice's kinds (`NoticeKind`). */
const KIND_EVENT = 1;
const KIND_LOG = 2;
const KIND_ROLE = 3;

/** A notice, decoded. */
export interface Notice {
  readonly kind: number;
  /** Number of an event type, a log key or a role. */
  readonly code: number;
  readonly level: number;
  /** 0: of the context as a whole. */
  readonly transportId: number;
  readonly args: readonly number[];
  /** The other side's context, or "". */
  readonly name: string;
}

/** What a context's notices need to become the program's. */
export interface NoticeTarget {
  /** Name of the context that they come from. */
  readonly context: string;
  /** Topic and partition of a transport; undefined for one that the context does not have. */
  stream(
    transportId: number,
  ): { readonly topic: string; readonly partitionNo: number } | undefined;
  readonly log: Pick<LogSink, "log" | "logNative">;
  readonly events: Pick<EventHub, "emit">;
  /** The context's role has changed; what it throws is logged (23004). */
  onRole?(role: RcmRole): void;
}

/** Reads the notices that `rcm_notices` has copied. */
export interface NoticeReader {
  /** Where `rcm_notices` copies to; the same memory for ever. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** How many notices fit. */
  readonly max: number;
  /**
   * Handles the first `count` notices of the buffer, in order. Never throws. A callback may lead
   * back here (it polls, it stops a context): what is read then is handled after what was read
   * before.
   */
  handle(count: number, target: NoticeTarget): void;
}

/**
 * @param layout of the native struct
 * @param max notices that are read at once
 */
export function createNoticeReader(layout: NoticeLayout, max = 64): NoticeReader {
  const buffer = new Uint8Array(layout.bytes * max);
  const view = new DataView(buffer.buffer);
  const queue: { readonly notice: Notice; readonly target: NoticeTarget }[] = [];
  let handling = false;
  return {
    buffer,
    max,
    handle(count, target) {
      for (let i = 0; i < count; i += 1) {
        queue.push({ notice: decodeNotice(view, i * layout.bytes, layout), target });
      }
      if (handling) return;
      handling = true;
      try {
        for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
          handleNotice(next.notice, next.target);
        }
      } finally {
        handling = false;
      }
    },
  };
}

const decoder = new TextDecoder();

/** Decodes the notice at `at`. */
export function decodeNotice(view: DataView, at: number, layout: NoticeLayout): Notice {
  const scalars = readStruct(view, at, layout);
  const { args, name } = layout.fields;
  const values: number[] = [];
  for (let i = 0; i < (args.count ?? 0); i += 1) {
    values.push(readField(view, at, { offset: args.offset + i * 8, type: args.type }));
  }
  const length = Math.min(scalars.nameLen, name.count ?? 0);
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at + name.offset, length);
  return {
    kind: scalars.kind,
    code: scalars.code,
    level: scalars.level,
    transportId: scalars.transportId,
    args: values,
    name: decoder.decode(bytes),
  };
}

/** Turns one notice into a log line, an event or a role change. Never throws. */
export function handleNotice(notice: Notice, target: NoticeTarget): void {
  const { context } = target;
  const stream = notice.transportId === 0 ? undefined : target.stream(notice.transportId);
  if (notice.kind === KIND_EVENT) {
    if (!isEventType(notice.code)) return;
    const ranged = hasRange(notice.code);
    target.events.emit({
      type: notice.code,
      context,
      peer: notice.name,
      topic: stream?.topic ?? "",
      partitionNo: stream?.partitionNo ?? 0,
      lossStart: ranged ? notice.args[0] ?? 0 : 0,
      lossEnd: ranged ? notice.args[1] ?? 0 : 0,
    });
  } else if (notice.kind === KIND_LOG) {
    target.log.logNative({
      key: notice.code,
      level: isLevel(notice.level) ? notice.level : RcmLogLevel.INFO,
      args: notice.args,
      peer: notice.name,
      stream: stream === undefined ? "" : `${stream.topic}.${stream.partitionNo}`,
    }, context);
  } else if (notice.kind === KIND_ROLE) {
    if (!isRole(notice.code)) return;
    try {
      target.onRole?.(notice.code);
    } catch (error) {
      target.log.log(LogKey.ROLE_CALLBACK_THREW, { error: errorText(error) }, context);
    }
  }
}

/** Events that tell of a range of numbers. */
function hasRange(type: RcmEventType): boolean {
  return type === RcmEventType.MESSAGE_LOSS || type === RcmEventType.OUT_OF_SYNC ||
    type === RcmEventType.FILL_GAP;
}

function isEventType(code: number): code is RcmEventType {
  return (Object.values(RcmEventType) as number[]).includes(code);
}

function isLevel(level: number): level is RcmLogLevel {
  return (Object.values(RcmLogLevel) as number[]).includes(level);
}

function isRole(code: number): code is RcmRole {
  return (Object.values(RcmRole) as number[]).includes(code);
}
