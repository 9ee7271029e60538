/** What the arbiter's tests have in common: trees of both kinds, members, waiting. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type {
  Arbiter,
  ArbiterListener,
  ArbiterOptions,
  Epoch,
  MasterRecord,
  MemberState,
  SessionState,
  TierView,
} from "../src/arbitration/arbiter.ts";
import { openArbiter } from "../src/arbitration/open.ts";
import { nativeLibrary } from "../src/native/library.ts";

/** Longest wait for a condition; a machine may be busy. */
export const LIMIT_MS = 30_000;

/** Waits until `look` gives something. */
export async function until<T>(what: string, look: () => T | null | undefined | false): Promise<T> {
  const limit = performance.now() + LIMIT_MS;
  while (true) {
    const found = look();
    if (found !== null && found !== undefined && found !== false) return found;
    if (performance.now() > limit) assert.fail(`${what}: not within ${LIMIT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** An arbiter and what it has told. */
export interface Member {
  readonly node: string;
  readonly arbiter: Arbiter;
  readonly views: TierView[];
  readonly states: SessionState[];
  readonly faults: string[];
  watchdogs: number;
  /** The last view. */
  view(): TierView | undefined;
}

/** A place for trees; arbiters of it are closed with it. */
export interface Bed {
  readonly address: string;
  readonly path: string;
  readonly tier: string;
  member(node: string, options?: Partial<ArbiterOptions>): Promise<Member>;
  close(): Promise<void>;
}

let beds = 0;

/** @param address as `setArbArg` takes it */
export function makeBed(address: string, sessionTimeoutMilli = 2000): Bed {
  beds += 1;
  const path = `/rcm${beds}`;
  const members: Member[] = [];
  return {
    address,
    path,
    tier: "T",
    async member(node, options = {}) {
      const arbiter = await openArbiter(nativeLibrary(), {
        address,
        path,
        tier: "T",
        node,
        sessionTimeoutMilli,
        ...options,
      });
      const views: TierView[] = [];
      const states: SessionState[] = [];
      const faults: string[] = [];
      const member: Member = {
        node,
        arbiter,
        views,
        states,
        faults,
        watchdogs: 0,
        view: () => views.at(-1),
      };
      const listener: ArbiterListener = {
        onView: (view) => views.push(view),
        onSession: (state) => states.push(state),
        onWatchdog: () => member.watchdogs += 1,
        onFault: (text) => faults.push(text),
      };
      arbiter.watch(listener);
      members.push(member);
      return member;
    },
    async close() {
      await Promise.all(members.map(({ arbiter }) => arbiter.close()));
    },
  };
}

/** A folder for `local:`, removed at the end. */
export function makeLocal(): { readonly address: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "rcm-local-"));
  return {
    address: `local:${folder}`,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export const state = (lastSqn = 0): MemberState => ({
  adopted: null,
  lastSqn,
  address: "127.0.0.1:1",
});

export const epoch = (number: number, id = number * 1000): Epoch => ({ number, id });

/** A record as a winner writes it, with `established` of the view it saw. */
export function standing(node: string, number: number, view?: TierView | null): MasterRecord {
  return {
    candidate: node,
    epoch: epoch(number),
    established: view?.master?.record.established ?? null,
  };
}

/** The record with this leader established. */
export function leading(record: MasterRecord, members: readonly string[], need = 0): MasterRecord {
  return {
    ...record,
    established: { epoch: record.epoch, leader: record.candidate, S: members, need },
  };
}
