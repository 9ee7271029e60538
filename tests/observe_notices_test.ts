import { test } from "node:test";
import assert from "node:assert/strict";
import { RcmEventType, RcmLogLevel, RcmRole } from "../src/enums.ts";
import type { EventFields } from "../src/observe/events.ts";
import type { NativeLine } from "../src/observe/logger.ts";
import {
  createNoticeReader,
  type NoticeLayout,
  type NoticeReader,
  type NoticeTarget,
} from "../src/observe/notices.ts";
import {
  type ReadLayout,
  writeScalar,
  writeStruct,
  zigSource,
  zigStruct,
} from "./observe_layouts.ts";

const layout = zigStruct(zigSource("abi.zig"), "Notice");

interface Written {
  readonly kind: number;
  readonly code: number;
  readonly level?: number;
  readonly transportId?: number;
  readonly args?: readonly number[];
  readonly name?: string;
}

function write(reader: NoticeReader, index: number, notice: Written): void {
  const view = new DataView(reader.buffer.buffer);
  const at = index * layout.bytes;
  const name = new TextEncoder().encode(notice.name ?? "");
  writeStruct(view, at, layout, {
    kind: notice.kind,
    code: notice.code,
    level: notice.level ?? 0,
    transportId: notice.transportId ?? 0,
    nameLen: name.length,
  });
  for (let i = 0; i < 4; i += 1) {
    writeScalar(view, at + layout.fields["args"]!.offset + i * 8, "f64", notice.args?.[i] ?? 0);
  }
  reader.buffer.fill(0xff, at + layout.fields["name"]!.offset, at + layout.bytes);
  reader.buffer.set(name, at + layout.fields["name"]!.offset);
}

function target(): NoticeTarget & {
  readonly events: { emit(e: EventFields): void };
  readonly seen: {
    events: EventFields[];
    native: [NativeLine, string][];
    lines: number[];
    roles: RcmRole[];
  };
} {
  const seen = {
    events: [] as EventFields[],
    native: [] as [NativeLine, string][],
    lines: [] as number[],
    roles: [] as RcmRole[],
  };
  return {
    seen,
    context: "server1",
    stream: (id) => id === 5 ? { topic: "req", partitionNo: 2 } : undefined,
    log: {
      log: (key: number) => void seen.lines.push(key),
      logNative: (line, context) => void seen.native.push([line, context]),
    },
    events: { emit: (event) => void seen.events.push(event) },
    onRole: (role) => void seen.roles.push(role),
  };
}

function reader(layoutRead: ReadLayout = layout, max?: number): NoticeReader {
  return createNoticeReader(layoutRead as NoticeLayout, max);
}

test("the Notice struct is the 128 bytes that the boundary says", () => {
  assert.equal(layout.bytes, 128);
  assert.equal(reader(layout, 3).buffer.length, 3 * 128);
});

test("an event notice becomes an event with topic, partition, peer and range", () => {
  const r = reader();
  const t = target();
  write(r, 0, { kind: 1, code: 1, transportId: 5, args: [7, 2 ** 52], name: "客户端1" });
  write(r, 1, { kind: 1, code: 2, args: [7, 9] });
  r.handle(2, t);
  assert.deepEqual(t.seen.events, [
    {
      type: RcmEventType.MESSAGE_LOSS,
      context: "server1",
      peer: "客户端1",
      topic: "req",
      partitionNo: 2,
      lossStart: 7,
      lossEnd: 2 ** 52,
    },
    {
      type: RcmEventType.OUT_OF_SYNC,
      context: "server1",
      peer: "",
      topic: "",
      partitionNo: 0,
      lossStart: 7,
      lossEnd: 9,
    },
  ]);
});

test("only events that tell of a range have one", () => {
  const ranged = new Set<number>([
    RcmEventType.MESSAGE_LOSS,
    RcmEventType.OUT_OF_SYNC,
    RcmEventType.FILL_GAP,
  ]);
  const r = reader();
  for (const type of Object.values(RcmEventType)) {
    const t = target();
    write(r, 0, { kind: 1, code: type, transportId: 5, args: [3, 4] });
    r.handle(1, t);
    const event = t.seen.events[0]!;
    assert.deepEqual([event.lossStart, event.lossEnd], ranged.has(type) ? [3, 4] : [0, 0]);
  }
});

test("a log notice becomes a line with its stream and peer", () => {
  const r = reader();
  const t = target();
  write(r, 0, { kind: 2, code: 21060, level: 1, transportId: 5, args: [26904, 0, 0], name: "c1" });
  write(r, 1, { kind: 2, code: 22008, level: 5, args: [3] });
  r.handle(2, t);
  assert.deepEqual(t.seen.native, [
    [
      { key: 21060, level: RcmLogLevel.INFO, args: [26904, 0, 0, 0], peer: "c1", stream: "req.2" },
      "server1",
    ],
    [{ key: 22008, level: RcmLogLevel.FATAL, args: [3, 0, 0, 0], peer: "", stream: "" }, "server1"],
  ]);
});

test("a role notice calls onRole, whose throw is logged", () => {
  const r = reader();
  const t = target();
  write(r, 0, { kind: 3, code: RcmRole.SINGLE });
  r.handle(1, t);
  assert.deepEqual(t.seen.roles, [RcmRole.SINGLE]);
  r.handle(1, {
    ...t,
    onRole() {
      throw new Error("no");
    },
  });
  assert.deepEqual(t.seen.lines, [23004]);
});

test("notices of an unknown kind, type or role are passed over", () => {
  const r = reader();
  const t = target();
  write(r, 0, { kind: 9, code: 1 });
  write(r, 1, { kind: 1, code: 99 });
  write(r, 2, { kind: 3, code: 0x77 });
  r.handle(3, t);
  assert.deepEqual(t.seen, { events: [], native: [], lines: [], roles: [] });
});

test("what is read inside a callback is handled after what was read before", () => {
  const r = reader();
  const order: number[] = [];
  const t: NoticeTarget = {
    ...target(),
    events: {
      emit(event) {
        order.push(event.type);
        if (order.length !== 1) return;
        write(r, 0, { kind: 1, code: 8 });
        r.handle(1, t);
      },
    },
  };
  write(r, 0, { kind: 1, code: 6 });
  write(r, 1, { kind: 1, code: 7 });
  r.handle(2, t);
  assert.deepEqual(order, [6, 7, 8]);
});
