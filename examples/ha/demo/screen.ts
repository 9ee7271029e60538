/**
 * What the demo shows: lines about what happens, and below them a table that is drawn again and
 * again. Where the output is no terminal, the table is a line now and then.
 */

import process from "node:process";

/** Without a terminal the table is shown so often. */
const PLAIN_MS = 2000;
const CLEAR_BELOW = "\x1b[J";
const HIDE_CURSOR = "\x1b[?25l";
const SHOW_CURSOR = "\x1b[?25h";

/** A member, as the table has it. */
export interface ScreenRow {
  readonly member: string;
  readonly runtime: string;
  /** 1, 2, ... */
  readonly life: number;
  readonly role: string;
  readonly epoch: number | null;
  readonly sqn: number | null;
  readonly lag: number | null;
  readonly committed: number | null;
  readonly given: number | null;
}

const TITLES = ["MEMBER", "IN", "LIFE", "ROLE", "EPOCH", "SQN", "LAG", "COMMITTED", "GIVEN"];
/** Of columns; a number of messages has up to seven digits here. */
const WIDTHS = [7, 5, 5, 10, 6, 9, 7, 10, 9];

/** @returns the lines of the table */
export function tableLines(rows: readonly ScreenRow[]): string[] {
  const line = (cells: readonly (string | number | null)[]) =>
    cells.map((cell, at) => {
      const width = WIDTHS[at] ?? 0;
      const text = cell === null ? "-" : `${cell}`;
      return at === 0 || at === 1 || at === 3
        ? text.padEnd(width)
        : text.padStart(width - 2) + "  ";
    }).join("").trimEnd();
  return [
    line(TITLES),
    ...rows.map(({ member, runtime, life, role, epoch, sqn, lag, committed, given }) =>
      line([member, runtime, life, role, epoch, sqn, lag, committed, given])
    ),
  ];
}

/** One line for those who keep a log of it. */
function plainLine(rows: readonly ScreenRow[]): string {
  return rows.map(({ member, role, epoch, sqn, lag }) =>
    role === "killed"
      ? `${member} killed`
      : `${member} ${role} epoch ${epoch ?? "-"} sqn ${sqn ?? "-"} lag ${lag ?? "-"}`
  ).join(" | ");
}

/** A screen; `close` leaves the terminal as it was. */
export function makeScreen() {
  const isTerminal = process.stdout.isTTY === true;
  const begin = performance.now();
  let drawn = 0;
  let last: readonly ScreenRow[] = [];
  let plainMs = -PLAIN_MS;

  const seconds = () => ((performance.now() - begin) / 1000).toFixed(1).padStart(5);
  const write = (text: string) => void process.stdout.write(text);

  function erase(): string {
    const up = drawn > 0 ? `\x1b[${drawn}A\r${CLEAR_BELOW}` : "";
    drawn = 0;
    return up;
  }

  function table(): string {
    if (last.length === 0) return "";
    const width = process.stdout.columns ?? 80;
    // A line that the terminal would break counts as two when it is erased.
    const lines = ["", ...tableLines(last)].map((line) => line.slice(0, width - 1));
    drawn = lines.length;
    return lines.join("\n") + "\n";
  }

  if (isTerminal) write(HIDE_CURSOR);
  return {
    /** Something happened. */
    say(text: string): void {
      const line = `${seconds()} s  ${text}\n`;
      write(isTerminal ? erase() + line + table() : line);
    },
    /** How it stands. */
    show(rows: readonly ScreenRow[]): void {
      last = rows;
      if (isTerminal) return write(erase() + table());
      if (rows.length === 0 || performance.now() - plainMs < PLAIN_MS) return;
      plainMs = performance.now();
      write(`${seconds()} s    ${plainLine(rows)}\n`);
    },
    /** Lines without a time. */
    print(...lines: readonly string[]): void {
      write(
        (isTerminal ? erase() : "") + lines.map((line) => `${line}\n`).join("") +
          (isTerminal ? table() : ""),
      );
    },
    /** The table stays as it is. */
    close(): void {
      last = [];
      drawn = 0;
      if (isTerminal) write(SHOW_CURSOR);
    },
  };
}

export type Screen = ReturnType<typeof makeScreen>;
