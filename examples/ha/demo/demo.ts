/**
 * The demo of a tier: an arbiter, three replicas in Deno and Bun, two senders, and a leader that is
 * killed twice. At the end the histories of all replicas, in all their lives, are compared.
 *
 *     deno task ha                        with a ZooKeeper of its own
 *     deno task ha --arbiter=local        without one: files of this machine
 *
 * Exits 0 when all are equal, 1 with the first difference, 2 when something is missing.
 */

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { startZookeeper, type Zookeeper, zookeeperMissing } from "../../../tools/zookeeper.ts";
import { filePrefix, memberNames, senderNames, sessionMilli } from "./config.ts";
import { compareHistories, type Verdict } from "./history.ts";
import { makeScreen, type Screen } from "./screen.ts";
import { makeStage, type Stage } from "./stage.ts";

const perSecond = 2000;
/** How long the tier is left alone between two events. */
const PAUSE_MS = 2500;
/** A member is back when it is less behind. */
const LAG_MAX = 1000;

const USAGE = "usage: deno task ha [--arbiter=zookeeper|local]";

async function freePort(): Promise<number> {
  const socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return port;
}

function arbiterKind(): "zookeeper" | "local" {
  const args = process.argv.slice(2).filter((arg) => arg !== "--");
  if (args.includes("--help")) {
    console.log(USAGE);
    process.exit(0);
  }
  const [kind = "--arbiter=zookeeper", ...more] = args;
  if (more.length > 0 || !/^--arbiter=(zookeeper|local)$/.test(kind)) {
    console.error(`ha: expected one of --arbiter=zookeeper, --arbiter=local; ${USAGE}`);
    process.exit(2);
  }
  return kind.endsWith("local") ? "local" : "zookeeper";
}

/** Who leads, with followers that are close behind; null: not so yet. */
function settledLeader(stage: Stage): (look: ReturnType<Stage["look"]>) => string | null {
  return (look) => {
    if (look === null || look.leader === null) return null;
    const running = look.members.filter(({ isThere }) => isThere);
    const isSettled = running.every(({ node, role, lag }) =>
      node === look.leader
        ? role === "ACTIVE"
        : role === "INACTIVE" && lag !== null && lag <= LAG_MAX
    );
    const isUp = stage.lives().length > 0 && running.length >= 2;
    return isSettled && isUp ? look.leader : null;
  };
}

async function play(stage: Stage, screen: Screen): Promise<readonly number[]> {
  for (const name of memberNames) stage.start(name);
  const settled = settledLeader(stage);
  const all = (look: ReturnType<Stage["look"]>) =>
    look?.members.filter(({ isThere }) => isThere).length === memberNames.length
      ? settled(look)
      : null;
  let leader = await stage.until("three members, one of which leads", all);
  screen.say(`${leader} leads, the others follow`);
  stage.startSenders();
  await stage.until("messages", (look) => (look.members[0]?.sqn ?? 0) > 0);
  screen.say(`${senderNames.join(" and ")} send, ${perSecond} messages a second each`);
  await stage.run(PAUSE_MS);
  for (let round = 0; round < 2; round += 1) {
    const killed = leader;
    const before = performance.now();
    await stage.kill(killed);
    screen.say(`${killed} is killed, the leader (SIGKILL)`);
    leader = await stage.until("another one leads", (look) => {
      const next = settled(look);
      return next !== killed && next;
    });
    screen.say(`${leader} leads, ${secondsSince(before)} after the kill`);
    await stage.run(PAUSE_MS);
    const restarted = performance.now();
    stage.start(killed);
    screen.say(`${killed} is started again, with the record that it left`);
    await stage.until("it is back", all);
    screen.say(`${killed} follows within ${LAG_MAX} messages, ${secondsSince(restarted)} later`);
    await stage.run(PAUSE_MS);
  }
  const sent = await stage.halt();
  const total = sent.reduce((sum, count) => sum + count, 0);
  screen.say(`the senders have stopped: ${total} messages, all of them committed`);
  await stage.until(
    "every member has been given all",
    (look) => look.members.every(({ here }) => (here?.delivered ?? 0) >= total),
  );
  screen.close();
  await stage.endMembers();
  return sent;
}

const secondsSince = (ms: number) => `${((performance.now() - ms) / 1000).toFixed(1)} s`;

function verdictLines(verdict: Verdict, stage: Stage, sent: readonly number[]): string[] {
  const short = (sha256: string) => sha256.slice(0, 16);
  const { lives, messages, sha256, difference } = verdict;
  const sums = senderNames.map((name, i) => `${sent[i]} of ${name}`).join(", ");
  const last = [
    `histories (sqn, sender, number, time, bytes), SHA-256:`,
    ...lives.map(({ life, messages: count, sha256: own }) =>
      `  ${life.member} life ${life.life}  ${`${count}`.padStart(8)} messages  ${short(own)}…` +
      (life.wasKilled ? "  killed; equal as far as it came" : "")
    ),
    "",
  ];
  if (difference !== null) return [...last, `HISTORIES DIFFER: ${difference}`];
  const members = new Set(stage.lives().map(({ member }) => member)).size;
  return [
    ...last,
    `${messages} messages (${sums}),`,
    `${members} members, ${lives.length} lives: all histories are equal`,
    `sha256 ${sha256}`,
  ];
}

const kind = arbiterKind();
const missing = kind === "zookeeper" ? zookeeperMissing() : false;
if (missing !== false) {
  console.error(`ha: ZooKeeper can't be started: ${missing} (as root)`);
  console.error("ha: without a service, by files of this machine: deno task ha --arbiter=local");
  process.exit(2);
}
const bun = process.env["RCM_BUN"];
if (bun === undefined) {
  console.error("ha: RCM_BUN does not name Bun; run it by: deno task ha");
  process.exit(2);
}

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => stop.abort());
}
// A terminal that is gone must not keep anything from being removed.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
const port = await freePort();
const folder = mkdtempSync(join(tmpdir(), "rcm-ha-"));
const screen = makeScreen();
let zookeeper: Zookeeper | null = null;
let stage: Stage | null = null;
try {
  if (kind === "zookeeper") {
    zookeeper = await startZookeeper();
    screen.say(`a ZooKeeper server answers at ${zookeeper.address}`);
  } else {
    mkdirSync(join(folder, "arbiter"));
    screen.say(`arbitration by files: ${join(folder, "arbiter")}`);
  }
  const arbiter = zookeeper?.address ?? `local:${join(folder, "arbiter")}`;
  screen.print(
    `         three members by multicast on 127.0.0.1:${port}; SessionTimeoutMilli ${sessionMilli}`,
  );
  stage = makeStage({ bun, port, folder, arbiter, perSecond, screen, signal: stop.signal });
  const sent = await play(stage, screen);
  const verdict = compareHistories(stage.lives(), sent);
  console.log("");
  for (const line of verdictLines(verdict, stage, sent)) console.log(line);
  process.exitCode = verdict.difference === null ? 0 : 1;
} catch (error) {
  screen.close();
  console.error(`\nha: ${error instanceof Error ? error.message : error}`);
  process.exitCode = stop.signal.aborted ? 130 : 1;
} finally {
  await stage?.close();
  await zookeeper?.stop();
  rmSync(folder, { recursive: true, force: true });
  rmSync(join("/dev/shm", filePrefix(port)), { recursive: true, force: true });
}
process.exit();
