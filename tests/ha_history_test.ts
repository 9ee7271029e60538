/** The comparison at the end of `deno task ha`: it tells equal histories from others. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { contentOf, senderNames } from "../examples/ha/demo/config.ts";
import {
  compareHistories,
  type Given,
  type Life,
  writeHistory,
} from "../examples/ha/demo/history.ts";

const COUNT = 100;
const encoder = new TextEncoder();

/** Both senders by turns. */
const given = (sqn: number): Given => ({
  sqn,
  sender: senderNames[sqn % 2]!,
  number: Math.floor(sqn / 2),
  timeMilli: 1_700_000_000_000 + sqn,
});

type Change = (one: Given, text: string) => { one: Given; text: string };

/** @returns what a comparison of these lives says is different */
function differenceOf(
  lives: readonly { count: number; wasKilled?: boolean; change?: Change; cutBytes?: number }[],
  sent: readonly number[] = [COUNT / 2, COUNT / 2],
): string | null {
  const folder = mkdtempSync(join(tmpdir(), "rcm-history-"));
  try {
    const written = lives.map(({ count, change, cutBytes, wasKilled = false }, at): Life => {
      const path = join(folder, `${at}`);
      const history = writeHistory(path);
      let bytes = 0;
      for (let sqn = 0; sqn < count; sqn += 1) {
        const plain = given(sqn);
        const text = contentOf(plain.sender, plain.number);
        const { one, text: content } = change?.(plain, text) ?? { one: plain, text };
        const data = encoder.encode(content);
        bytes += 32 + data.length;
        history.add(one, data);
      }
      history.close();
      if (cutBytes !== undefined) truncateSync(path, bytes - cutBytes);
      return { member: `node${at + 1}`, life: 1, path, wasKilled };
    });
    return compareHistories(written, sent).difference;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Something is different at place 40. */
const at40 = (change: Change): Change => (one, text) =>
  one.sqn === 40 ? change(one, text) : { one, text };

test("equal histories are equal, and so is the beginning of one that was killed", () => {
  const whole = { count: COUNT };
  assert.equal(differenceOf([whole, whole]), null);
  assert.equal(differenceOf([{ count: 30, wasKilled: true }, whole]), null);
  assert.equal(differenceOf([whole, { count: 50, wasKilled: true, cutBytes: 3 }]), null);
});

test("the first difference is told: sqn, sender, number, time and bytes", () => {
  const whole = { count: COUNT };
  const changes: Change[] = [
    (one, text) => ({ one: { ...one, sender: senderNames[1]! }, text }),
    (one, text) => ({ one: { ...one, number: 7 }, text }),
    (one, text) => ({ one: { ...one, timeMilli: one.timeMilli + 1 }, text }),
    (one, text) => ({ one, text: text.slice(0, -1) + "!" }),
    (one, text) => ({ one: { ...one, sqn: 41 }, text }),
  ];
  for (const change of changes) {
    const text = differenceOf([whole, { ...whole, change: at40(change) }]);
    assert.match(text ?? "none", /^place 40: node2, life 1 was given sqn 4/);
    const killed = { count: 60, wasKilled: true, change: at40(change) };
    assert.match(differenceOf([killed, whole]) ?? "none", /^place 40: node1, life 1/);
  }
});

test("what all of them have wrong is told too", () => {
  const wrong = (change: Change) => {
    const all = { count: COUNT, change: at40(change) };
    return differenceOf([all, all]) ?? "none";
  };
  assert.match(wrong((one, text) => ({ one, text: `${text}!` })), /not what sender1 has sent/);
  assert.match(wrong((one, text) => ({ one: { ...one, number: 21 }, text })), /number 20 was due/);
  assert.match(wrong((one, text) => ({ one: { ...one, sqn: 39 }, text })), /^place 40 has sqn 39/);
  const short = { count: COUNT - 1 };
  assert.match(differenceOf([short, short]) ?? "none", /99 messages, 100 were sent/);
  const more = differenceOf([{ count: COUNT }, { count: COUNT }], [51, 49]);
  assert.match(more ?? "none", /sender1 has sent 51 messages, 50 were given/);
});
