/**
 * What an end-to-end test leaves on the machine, and how it goes away: processes, network
 * namespaces, files in /dev/shm and in the temporary folder. All of it carries the id of the test
 * process in its name, so that a later run finds what one that was killed has left.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const BASE = "rcm-e2e-";
/** In the environment of every process that a run starts. */
export const RUN_VARIABLE = "RCM_E2E_RUN";

/** Everything of this test process begins with it. */
export const runId = `${BASE}${process.pid}`;

const children = new Set<number>();
const namespaces = new Set<string>();
let begun = false;

/** Removes what dead runs have left, and sees to it that this one leaves nothing. */
export function beginRun(): void {
  if (begun) return;
  begun = true;
  removeStale();
  process.on("exit", endRun);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      endRun();
      process.exit(1);
    });
  }
}

/** @returns a new folder of this run; whoever has made it removes it */
export function makeFolder(): string {
  return mkdtempSync(join(tmpdir(), `${runId}-`));
}

/** Also when a test fails, or is interrupted: everything at once, without waiting. */
function endRun(): void {
  for (const pid of children) killNow(pid);
  for (const name of namespaces) deleteNamespace(name);
  removeFiles(runId);
}

/** A process of this run; it is killed at the end if it is still there. */
export function keepChild(pid: number): void {
  children.add(pid);
}

/** It has ended by itself: its id may belong to another soon. */
export function forgetChild(pid: number): void {
  children.delete(pid);
}

export function keepNamespace(name: string): void {
  namespaces.add(name);
}

/** Deletes a namespace of this run, and what runs in it. */
export function dropNamespace(name: string): void {
  deleteNamespace(name);
  namespaces.delete(name);
}

/** SIGKILL works on a stopped process too. */
export function killNow(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

function deleteNamespace(name: string): void {
  const inside = spawnSync("ip", ["netns", "pids", name], { encoding: "utf8" });
  for (const pid of (inside.stdout ?? "").split("\n")) {
    if (/^\d+$/.test(pid)) killNow(Number(pid));
  }
  spawnSync("ip", ["netns", "delete", name]);
}

function removeFiles(id: string): void {
  for (const folder of ["/dev/shm", tmpdir()]) {
    for (const name of namesIn(folder)) {
      if (name.startsWith(`${id}-`)) rmSync(join(folder, name), { recursive: true, force: true });
    }
  }
}

function removeStale(): void {
  for (const pid of orphans()) killNow(pid);
  for (const name of namesIn("/run/netns")) {
    if (isStale(name)) deleteNamespace(name);
  }
  for (const name of [...namesIn("/dev/shm"), ...namesIn(tmpdir())]) {
    if (isStale(name)) removeFiles(`${BASE}${ownerOf(name)}`);
  }
}

/** Processes whose run has died without taking them along. */
function orphans(): number[] {
  const found: number[] = [];
  for (const name of namesIn("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = readFileSync(`/proc/${name}/environ`, "latin1");
      const owner = new RegExp(`(?:^|\0)${RUN_VARIABLE}=(\\d+)`).exec(environment)?.[1];
      if (owner !== undefined && !isAlive(Number(owner))) found.push(Number(name));
    } catch {
      // It has ended, or is somebody else's.
    }
  }
  return found;
}

function ownerOf(name: string): number {
  return Number(new RegExp(`^${BASE}(\\d+)-`).exec(name)?.[1] ?? NaN);
}

function isStale(name: string): boolean {
  const owner = ownerOf(name);
  return !Number.isNaN(owner) && !isAlive(owner);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
