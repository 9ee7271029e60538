/** What an operator has forced, on its way between the tree and the native member. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { MasterRecord, TierView } from "../src/arbitration/arbiter.ts";
import { TierView as Layout } from "../src/native/abi.ts";
import {
  type Command,
  createViewWriter,
  NOBODY,
  recordOfLeader,
  recordOfWin,
} from "../src/tier/codec.ts";

const epoch = (number: number) => ({ number, id: number });
const record: MasterRecord = {
  candidate: "a",
  epoch: epoch(3),
  established: { epoch: epoch(3), leader: "a", S: ["a"], need: 0 },
};
const forced = { node: "c", timeMilli: 5 };

test("the member is told whom an operator lets lead", () => {
  const write = createViewWriter(["a", "b", "c"], "b");
  const forcedIn = (master: MasterRecord | null) => {
    const view: TierView = {
      master: master === null ? null : { record: master, version: 7 },
      running: null,
      members: [],
      observers: [],
    };
    const bytes = write(view, "connected");
    return new DataView(bytes.buffer).getUint32(Layout.fields.forced.offset, true);
  };
  assert.equal(forcedIn(null), NOBODY);
  assert.equal(forcedIn(record), NOBODY);
  assert.equal(forcedIn({ ...record, forced }), 2);
  assert.equal(forcedIn({ ...record, forced: { ...forced, node: "stranger" } }), NOBODY);
});

test("a win leaves what was forced; a leader's record takes it away", () => {
  const command: Command = {
    kind: "establish",
    serial: 1,
    version: 8,
    epoch: epoch(4),
    established: { epoch: epoch(4), leader: "b", S: ["b"], need: 0 },
  };
  const won = recordOfWin(command, "b", { ...record, forced });
  assert.deepEqual(won, {
    candidate: "b",
    epoch: epoch(4),
    established: record.established,
    forced,
  });
  assert.deepEqual(recordOfLeader(command, "b"), {
    candidate: "b",
    epoch: epoch(4),
    established: command.established,
  });
});
