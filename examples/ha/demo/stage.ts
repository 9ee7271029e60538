/** The demo's tier: its members with all their lives, its senders, and who looks at them. */

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type TierLook, type TiersWatcher, watchTiers } from "../../../src/cli/tier_look.ts";
import { filePrefix, memberNames, senderNames, tierName } from "./config.ts";
import type { Life } from "./history.ts";
import { makeProcesses, type Running, type Runtime } from "./processes.ts";
import type { Screen, ScreenRow } from "./screen.ts";

const LOOK_MS = 100;
/** Longest wait for anything; a machine may be busy. */
const LIMIT_MS = 60_000;
const here = fileURLToPath(new URL(".", import.meta.url));
const runtimes: readonly Runtime[] = ["deno", "bun"];

export interface StageOptions {
  readonly bun: string;
  readonly port: number;
  readonly folder: string;
  /** As `setArbArg` takes it. */
  readonly arbiter: string;
  readonly perSecond: number;
  readonly screen: Screen;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

/** A member: the process that runs, and all its lives. */
interface Member {
  readonly name: string;
  readonly runtime: Runtime;
  readonly lives: { path: string; wasKilled: boolean }[];
  process: Running | null;
}

export interface Stage {
  readonly lives: () => readonly Life[];
  /** How it stands; null: not looked at yet. */
  readonly look: () => TierLook | null;
  start(name: string): void;
  kill(name: string): Promise<void>;
  startSenders(): void;
  /** @returns how many messages each sender has sent; the tier has committed all of them */
  halt(): Promise<readonly number[]>;
  /** Waits for something, with an eye on the processes. */
  until<T>(what: string, found: (look: TierLook) => T | null | false): Promise<T>;
  /** Goes on for a while. */
  run(ms: number): Promise<void>;
  endMembers(): Promise<void>;
  close(): Promise<void>;
}

export function makeStage(options: StageOptions): Stage {
  const { port, folder, arbiter, screen, signal, perSecond } = options;
  const processes = makeProcesses(options.bun);
  const members = memberNames.map((name, i): Member => ({
    name,
    runtime: runtimes[i % 2]!,
    lives: [],
    process: null,
  }));
  const senders: Running[] = [];
  let watcher: TiersWatcher | null = null;
  let last: TierLook | null = null;

  // Whoever waits for an arbiter that was interrupted too would wait long.
  const interrupted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(new Error("interrupted")), { once: true });
  });
  interrupted.catch(() => {});

  const memberOf = (name: string) => members.find((one) => one.name === name)!;

  async function lookNow(): Promise<TierLook | null> {
    const place = { address: arbiter, path: "/rcm" };
    if (watcher === null) {
      // The first member makes the tree.
      const found = await watchTiers(place, [tierName], join("/dev/shm", filePrefix(port)))
        .catch(() => null);
      if (found === null || found.tiers.length === 0) {
        await found?.close();
        return null;
      }
      watcher = found;
    }
    last = (await watcher.look())[0] ?? null;
    screen.show(members.map((member) => rowOf(member, last)));
    return last;
  }

  function check(): void {
    for (const one of [...members.map(({ process }) => process), ...senders]) {
      const code = one?.code() ?? null;
      if (one === null || code === null || code === 0) continue;
      throw new Error(`${one.name} ended with exit code ${code}:\n  ${lastLines(one)}`);
    }
  }

  async function until<T>(what: string, found: (look: TierLook) => T | null | false): Promise<T> {
    const limit = performance.now() + LIMIT_MS;
    while (true) {
      check();
      const look = await Promise.race([lookNow(), interrupted]);
      const result = look === null ? null : found(look);
      if (result !== null && result !== false) return result;
      if (performance.now() > limit) {
        const running = [...members.flatMap(({ process }) => process ?? []), ...senders];
        const texts = running.map((one) => `${one.name}:\n  ${lastLines(one)}`);
        throw new Error(`waited ${LIMIT_MS / 1000} s for: ${what}\n${texts.join("\n")}`);
      }
      await sleep(LOOK_MS);
    }
  }

  return {
    lives: () =>
      members.flatMap(({ name, lives }) =>
        lives.map(({ path, wasKilled }, i) => ({ member: name, life: i + 1, path, wasKilled }))
      ),
    look: () => last,
    start(name) {
      const member = memberOf(name);
      const path = join(folder, `${name}-${member.lives.length + 1}.history`);
      member.lives.push({ path, wasKilled: false });
      const work = join(folder, name);
      const args = [join(here, "member.ts"), name, `${port}`, work, arbiter, path];
      member.process = processes.start(name, member.runtime, args);
    },
    async kill(name) {
      const member = memberOf(name);
      const running = member.process;
      member.process = null;
      member.lives.at(-1)!.wasKilled = true;
      await running?.kill();
    },
    startSenders() {
      senderNames.forEach((name, i) => {
        const work = join(folder, name);
        const args = [join(here, "sender.ts"), name, `${port}`, work, `${perSecond}`];
        senders.push(processes.start(name, runtimes[(i + 1) % 2]!, args));
      });
    },
    async halt() {
      for (const sender of senders) void sender.halt();
      let isOver = false;
      void Promise.all(senders.map(({ ended }) => ended)).then(() => isOver = true);
      await until("the senders end", () => isOver);
      return senders.map(({ lines }) => (JSON.parse(lines.at(-1)!) as { sent: number }).sent);
    },
    until,
    async run(ms) {
      const end = performance.now() + ms;
      await until("time goes by", () => performance.now() > end);
    },
    async endMembers() {
      for (const member of members) {
        const running = member.process;
        const code = await running?.halt() ?? 0;
        if (running === null || code === 0) continue;
        throw new Error(`${running.name} ended with exit code ${code}:\n  ${lastLines(running)}`);
      }
    },
    async close() {
      await processes.killAll();
      await watcher?.close();
    },
  };
}

function rowOf({ name, runtime, lives, process }: Member, look: TierLook | null): ScreenRow {
  const found = look?.members.find(({ node }) => node === name);
  const isUp = process !== null && found !== undefined && found.isThere;
  const row = {
    member: name,
    runtime,
    life: lives.length,
    role: process === null ? "killed" : "starts",
    epoch: null,
    sqn: null,
    lag: null,
    committed: null,
    given: null,
  };
  if (!isUp) return row;
  return {
    ...row,
    role: found.role ?? "starts",
    epoch: found.epoch,
    sqn: found.sqn,
    lag: found.lag,
    committed: found.here?.committed ?? null,
    given: found.here?.delivered ?? null,
  };
}

function lastLines({ lines }: Running): string {
  return lines.length === 0 ? "(it printed nothing)" : lines.slice(-10).join("\n  ");
}
