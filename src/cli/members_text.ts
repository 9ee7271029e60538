/** How `rcm members` and the demo show a tier to people. */

import { table } from "./shell.ts";
import type { MemberLook, TierLook } from "./tier_look.ts";

const HEAD = ["MEMBER", "ROLE", "EPOCH", "SQN", "LAG", "LOG", "ADDRESS"] as const;
const HERE = ["COMMITTED", "GIVEN", "PROCESS"] as const;
/** Where there is nothing to say. */
const NONE = "-";

/** @returns the lines of one look */
export function tierLines(look: TierLook): string[] {
  const lines = [`tier ${look.tier}: ${headline(look)}`];
  if (look.forced !== null) {
    lines.push(`  an operator lets ${look.forced} lead, once (rcm tier force-leader)`);
  }
  if (look.members.length === 0) return [...lines, "  no member runs"];
  const hasHere = look.members.some(({ here }) => here !== null);
  const head = hasHere ? [...HEAD, ...HERE] : HEAD;
  return [...lines, ...table([head, ...look.members.map((m) => rowOf(m, hasHere))], "  ")];
}

function headline({ leader, running, established, epoch }: TierLook): string {
  if (leader !== null && established !== null) {
    return `${leader} leads in epoch ${established.epoch}; ${needText(established)}`;
  }
  const stands = running === null ? "" : `, ${running} stands for epoch ${epoch}`;
  if (established === null) return `nobody leads, and nobody did before${stands}`;
  return `NOBODY LEADS${stands}; ${established.leader} did in epoch ${established.epoch}, when ` +
    needText(established, "needed");
}

function needText({ S, need }: NonNullable<TierLook["established"]>, needs = "needs"): string {
  return need === 0
    ? `a commit ${needs} nobody else (SINGLE: one copy of the data)`
    : `a commit ${needs} ${need} other${need === 1 ? "" : "s"} of ${S.join(", ")}`;
}

function rowOf(member: MemberLook, hasHere: boolean): (string | number)[] {
  const { node, kind, role, isThere, epoch, sqn, lag, isIntact, address, here } = member;
  const log = isIntact === null ? NONE : isIntact ? "intact" : "blank";
  const row = [
    node,
    isThere ? `${role ?? "?"}${kind === "observer" ? " (observer)" : ""}` : "away",
    epoch ?? NONE,
    sqn ?? NONE,
    lag ?? NONE,
    kind === "observer" ? NONE : log,
    address ?? NONE,
  ];
  if (!hasHere) return row;
  if (here === null) return [...row, NONE, NONE, NONE];
  return [...row, here.committed, here.delivered, `${here.runtime}, pid ${here.pid}`];
}
