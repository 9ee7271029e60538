/**
 * Guide 6.2 as written: the example's two nodes, its client and its configuration, with a real
 * ZooKeeper; the tree is read by ZooKeeper's own command line. Then the leader is killed.
 *
 * All of it runs in a network namespace with a `/dev/shm` of its own: the ports are the guide's.
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  type Bed,
  e2e,
  LIMIT_MS,
  programOf,
  type Runtime,
  until,
  within,
} from "./harness/driver.ts";
import type { Host } from "./harness/hosts.ts";
import { forgetChild, keepChild, RUN_VARIABLE } from "./harness/run.ts";
import { askZookeeper, startZookeeper, zookeeperMissing } from "./harness/zookeeper.ts";

const MESSAGES = 11;
const TIER = "/rcm/cluster_HaTest";

/** A program of the example that runs. */
interface Program {
  readonly name: string;
  readonly lines: readonly string[];
  readonly ended: Promise<number>;
  kill(): Promise<void>;
}

/** Holds the `/dev/shm` of the test; all programs enter its mount namespace. */
async function makeRoom(host: Host): Promise<ChildProcess> {
  const script = "mount -t tmpfs -o size=1g rcm-e2e /dev/shm && echo ready && exec cat";
  const args = ["netns", "exec", host.namespace, "unshare", "--mount", "sh", "-c", script];
  const room = spawn("ip", args, {
    env: { ...process.env, [RUN_VARIABLE]: `${process.pid}` },
    stdio: ["pipe", "pipe", "inherit"],
  });
  keepChild(room.pid!);
  await within(
    new Promise((resolve) => room.stdout!.once("data", resolve)),
    LIMIT_MS,
    () => "a /dev/shm of its own",
  );
  return room;
}

function makeStage(bed: Bed, room: ChildProcess, arbitration: string) {
  const programs: Program[] = [];

  function run(runtime: Runtime, file: string, name: string, ...args: string[]): Program {
    const path = fileURLToPath(new URL(`../../examples/ha/${file}`, import.meta.url));
    // The mount namespace is of the room; `ip netns exec` has made one for it too.
    const enter = ["--target", `${room.pid}`, "--mount", "--net"];
    const child = spawn("nsenter", [...enter, ...programOf(runtime), path, ...args], {
      env: {
        ...process.env,
        NO_COLOR: "1",
        RCM_ARB: arbitration,
        RCM_WORK: join(bed.folder, name),
        [RUN_VARIABLE]: `${process.pid}`,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    keepChild(child.pid!);
    const lines: string[] = [];
    let rest = "";
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on("data", (bytes: Uint8Array) => {
        const parts = (rest + String(bytes)).split("\n");
        rest = parts.pop()!;
        lines.push(...parts);
      });
    }
    const ended = new Promise<number>((resolve) => {
      child.on("close", (code) => {
        forgetChild(child.pid!);
        resolve(code ?? -1);
      });
    });
    const program: Program = {
      name,
      lines,
      ended,
      async kill() {
        child.kill("SIGKILL");
        await ended;
      },
    };
    programs.push(program);
    return program;
  }

  return {
    run,
    async end() {
      for (const program of programs) await program.kill();
    },
    text: () => programs.map(({ name, lines }) => `${name}:\n  ${lines.join("\n  ")}`).join("\n"),
  };
}

const roleOf = ({ lines }: Program) =>
  lines.findLast((line) => line.startsWith("OnRoleChanged "))?.split(" ").at(-1) ?? null;

const messagesOf = ({ lines }: Program) => lines.filter((line) => line.startsWith("OnMessage "));

/** What the guide shows, from message `first` on. */
const expected = (count: number, first = 0) =>
  Array.from(
    { length: count },
    (_, i) =>
      `OnMessage TxContext:client1 Topic:req PartitionNo:1 MsgNo:${first + i} Length:12 MsgSqn: ${
        first + i
      }`,
  );

async function scene(bed: Bed): Promise<void> {
  const [host] = bed.hosts(1);
  const inside = { namespace: host!.namespace, ip: "127.0.0.1" };
  const zookeeper = await startZookeeper({ hosts: [inside] });
  const room = await makeRoom(host!);
  const stage = makeStage(bed, room, zookeeper.address);
  const ask = (...command: string[]) => askZookeeper(zookeeper, command, inside);
  const has = async (what: string, condition: () => boolean) =>
    await until(condition, () => `${what}\n${stage.text()}`);
  const client = async (runtime: Runtime, name: string) => {
    const program = stage.run(runtime, "client.ts", name);
    const code = await within(program.ended, LIMIT_MS, () => `client ends\n${stage.text()}`);
    assert.equal(code, 0, stage.text());
  };
  try {
    const first = stage.run("deno", "node.ts", "HaNode1", "HaNode1");
    await has("the first one is SINGLE", () => roleOf(first) === "SINGLE");
    const second = stage.run("bun", "node.ts", "HaNode2", "HaNode2");
    await has("the second one follows", () => roleOf(second) === "INACTIVE");
    await has("the first one has a follower", () => roleOf(first) === "ACTIVE");

    await client("deno", "client1");
    await has("the first one was given all", () => messagesOf(first).length >= MESSAGES);
    await has("the second one was given all", () => messagesOf(second).length >= MESSAGES);
    assert.deepEqual(messagesOf(first), expected(MESSAGES));
    assert.deepEqual(messagesOf(second), expected(MESSAGES));

    const tree = await ask("ls", "-R", TIER);
    for (const node of ["classer/HaNode1", "classer/HaNode2", "master", "master/running"]) {
      assert.ok(tree.includes(`${TIER}/${node}`), `${node} is in the tree: ${tree.join(" ")}`);
    }
    const [master] = await ask("get", `${TIER}/master`);
    const record = JSON.parse(master!) as {
      candidate: string;
      established: { leader: string; S: string[]; need: number };
    };
    const { leader, S, need } = record.established;
    assert.deepEqual({ leader, S: [...S].sort(), need }, {
      leader: "HaNode1",
      S: ["HaNode1", "HaNode2"],
      need: 1,
    });

    await first.kill();
    await has("the other one leads alone", () => roleOf(second) === "SINGLE");
    await client("bun", "client1");
    await has("it goes on", () => messagesOf(second).length >= 2 * MESSAGES);
    assert.deepEqual(messagesOf(second), expected(2 * MESSAGES));
    const left = await ask("ls", `${TIER}/classer`);
    assert.deepEqual(left, ["[HaNode2]"]);

    const again = stage.run("deno", "node.ts", "HaNode1", "HaNode1");
    await has("it follows now", () => roleOf(again) === "INACTIVE");
    await has("and has all", () => messagesOf(again).length >= 2 * MESSAGES);
    assert.deepEqual(messagesOf(again), expected(2 * MESSAGES));
  } finally {
    await stage.end();
    room.kill("SIGKILL");
    forgetChild(room.pid!);
    await zookeeper.stop();
  }
}

const NAME =
  "guide 6.2: two nodes, a client, ZooKeeper; the leader is killed and the other goes on";
const missing = zookeeperMissing();
if (missing !== false && process.env["CI"] === "true") throw new Error(missing);
if (missing === false) e2e(NAME, scene, { network: true });
else test(`${NAME} [${missing}]`, { skip: missing }, () => {});
