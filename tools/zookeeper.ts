/**
 * Real ZooKeeper servers for tests and examples: plain Java processes on loopback, one or three,
 * ready in about a second, gone when whoever started them is.
 *
 * Written for both runtimes. The servers come from Debian's packages (`deno task setup`).
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** One server. */
export interface ZookeeperServer {
  readonly port: number;
  /** `127.0.0.1:port`, or with the address of its host. */
  readonly address: string;
  /** SIGKILL; `start` begins it again with its data. */
  kill(): Promise<void>;
  /** SIGSTOP and SIGCONT: it neither answers nor closes anything. */
  pause(): void;
  resume(): void;
  /** Begins it again after `kill`; ready when it answers. */
  start(): Promise<void>;
  /** `"leader"`, `"follower"`, `"standalone"`; null: it does not answer. */
  mode(): Promise<string | null>;
}

/** One server, or three that elect a leader. */
export interface Zookeeper {
  /** `127.0.0.1:port,...`, as `setArbArg` takes it. */
  readonly address: string;
  readonly servers: readonly ZookeeperServer[];
  /** The one that leads, or is alone. */
  leader(): Promise<ZookeeperServer>;
  /** Kills all and removes their data. Again: nothing. */
  stop(): Promise<void>;
}

export interface ZookeeperOptions {
  /** 1 (default) or 3. */
  readonly count?: number;
  /** A session's time-out is 2 to 20 of these, in milliseconds; default 200. */
  readonly tickMilli?: number;
  /** Network namespace and address of each server; absent: all on loopback, here. */
  readonly hosts?: readonly ZookeeperHost[];
}

/** Where a server runs. */
export interface ZookeeperHost {
  /** As `ip netns` names it. */
  readonly namespace: string;
  readonly ip: string;
}

const JARS = ["/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-nop.jar"];
const READY_LIMIT_MS = 60_000;
const LOOPBACK = "127.0.0.1";
const JAVA_OPTIONS = [
  "-Xmx64m",
  "-Xss256k",
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  "-XX:-UsePerfData",
  "-Dzookeeper.admin.enableServer=false",
  "-Dzookeeper.jmx.log4j.disable=true",
  "-Dzookeeper.forceSync=no",
  "-Dzookeeper.preAllocSize=64",
  "-Djava.net.preferIPv4Stack=true",
  "-Dzookeeper.nio.numSelectorThreads=1",
  "-Dzookeeper.nio.numWorkerThreads=2",
  "-Dzookeeper.commitProcessor.numWorkerThreads=1",
];
const FOUR_LETTER_WORDS = "ruok,srvr,stat,mntr,cons,dump,wchs,wchp,isro";

/** Where Debian puts the client library, unless `RCM_ZK_LIB` names another. */
const CLIENT = process.env["RCM_ZK_LIB"] ?? "/usr/lib/x86_64-linux-gnu/libzookeeper_mt.so.2";
const INSTALL = "deno task setup, or " +
  "sudo apt-get install -y libzookeeper-java libzookeeper-mt2 default-jre-headless";

/** Why there can be no servers and clients here; false: there can. */
export function zookeeperMissing(): string | false {
  const absent = [...JARS, CLIENT].find((file) => !existsSync(file));
  if (absent !== undefined) return `needs ${absent}: ${INSTALL}`;
  return spawnSync("java", ["-version"]).error === undefined ? false : `needs Java: ${INSTALL}`;
}

/**
 * Asks a server by ZooKeeper's own command line, which knows nothing of this project.
 *
 * @param command e.g. `["ls", "-R", "/rcm"]`
 * @returns the lines that begin with what an answer can begin with: `/`, `{` or `[`
 */
export async function askZookeeper(
  server: { readonly address: string },
  command: readonly string[],
  host: ZookeeperHost | null = null,
): Promise<string[]> {
  const main = "org.apache.zookeeper.ZooKeeperMain";
  const java = ["java", ...JAVA_OPTIONS, "-cp", JARS.join(":"), main, "-server", server.address];
  const [program = "", ...args] = enter(host, ...java, ...command);
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (bytes: Uint8Array) => text += String(bytes));
  }
  const code = await new Promise<number>((resolve) => child.on("close", (c) => resolve(c ?? -1)));
  if (code !== 0) throw new Error(`${command.join(" ")}: code ${code}: ${text}`);
  return text.split("\n").filter((line) => /^[/{[]/.test(line));
}

/** Starts servers; they answer when this resolves. */
export async function startZookeeper(options: ZookeeperOptions = {}): Promise<Zookeeper> {
  const count = options.count ?? 1;
  const tickMs = options.tickMilli ?? 200;
  const folder = mkdtempSync(join(tmpdir(), "rcm-zookeeper-"));
  const ports = await freePorts(count * 3);
  const hostOf = (i: number) => options.hosts?.[i] ?? null;
  const ipOf = (i: number) => hostOf(i)?.ip ?? LOOPBACK;
  const peers = count === 1 ? [] : [
    "standaloneEnabled=false",
    "reconfigEnabled=false",
    "quorumListenOnAllIPs=false",
    ...Array.from(
      { length: count },
      (_, i) => `server.${i + 1}=${ipOf(i)}:${ports[count + i]}:${ports[2 * count + i]}`,
    ),
  ];
  const processes: (ChildProcess | null)[] = [];
  const servers = Array.from({ length: count }, (_, i) => {
    const port = ports[i]!;
    const home = join(folder, `${i + 1}`);
    mkdirSync(home);
    writeFileSync(join(home, "myid"), `${i + 1}`);
    writeFileSync(
      join(home, "zoo.cfg"),
      [
        `tickTime=${tickMs}`,
        "initLimit=25",
        "syncLimit=5",
        `dataDir=${home}`,
        `clientPort=${port}`,
        `clientPortAddress=${ipOf(i)}`,
        "admin.enableServer=false",
        `4lw.commands.whitelist=${FOUR_LETTER_WORDS}`,
        "maxClientCnxns=0",
        "autopurge.purgeInterval=0",
        ...peers,
        "",
      ].join("\n"),
    );
    return makeServer(i, { port, ip: ipOf(i), host: hostOf(i), home }, processes);
  });
  const guard = guardOf(processes, folder);
  let stopped = false;

  async function stop(): Promise<void> {
    if (stopped) return;
    stopped = true;
    process.off("exit", killAll);
    guard.end();
    await Promise.all(servers.map((server) => server.kill()));
    rmSync(folder, { recursive: true, force: true });
  }

  function killAll(): void {
    for (const child of processes) child?.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }

  process.on("exit", killAll);
  try {
    for (const server of servers) server.spawn();
    guard.begin();
    await Promise.all(servers.map((server) => server.ready()));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    address: servers.map(({ address }) => address).join(","),
    servers: servers.map(({ spawn: _, ready: __, ...server }) => server),
    async leader() {
      const limit = performance.now() + READY_LIMIT_MS;
      while (performance.now() < limit) {
        for (const server of servers) {
          const mode = await server.mode();
          if (mode === "leader" || mode === "standalone") return server;
        }
        await pause(20);
      }
      throw new Error("no ZooKeeper server leads");
    },
    stop,
  };
}

interface ServerPlace {
  readonly port: number;
  readonly ip: string;
  readonly host: ZookeeperHost | null;
  readonly home: string;
}

function makeServer(
  index: number,
  { port, ip, host, home }: ServerPlace,
  processes: (ChildProcess | null)[],
): ZookeeperServer & { spawn(): void; ready(): Promise<void> } {
  processes[index] = null;

  function begin(): void {
    const main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    const args = [...JAVA_OPTIONS, "-cp", JARS.join(":"), main, join(home, "zoo.cfg")];
    const [program = "", ...rest] = enter(host, "java", ...args);
    processes[index] = spawn(program, rest, { stdio: "ignore", cwd: home });
  }

  const mode = () => (host === null ? modeOf(port) : modeInside(host, port));

  async function ready(): Promise<void> {
    const limit = performance.now() + READY_LIMIT_MS;
    while (await mode() === null) {
      if (performance.now() > limit) throw new Error(`ZooKeeper at ${port} did not come up`);
      const code = processes[index]?.exitCode ?? null;
      if (code !== null) throw new Error(`ZooKeeper at ${port} has ended with code ${code}`);
      await pause(20);
    }
  }

  function signal(name: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    const pid = processes[index]?.pid;
    // `ChildProcess.kill` does nothing after a SIGCONT in Deno.
    if (pid !== undefined) process.kill(pid, name);
  }

  return {
    port,
    address: `${ip}:${port}`,
    async kill() {
      const child = processes[index];
      if (child === null || child === undefined) return;
      const gone = new Promise((resolve) => child.once("exit", resolve));
      if (child.exitCode === null && child.signalCode === null) {
        signal("SIGKILL");
        await gone;
      }
      processes[index] = null;
    },
    pause: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    async start() {
      begin();
      await ready();
    },
    spawn: begin,
    ready,
    mode,
  };
}

/** @returns the command that runs a program on a host; `ip` gives it its own process id */
function enter(host: ZookeeperHost | null, ...command: readonly string[]): readonly string[] {
  return host === null ? command : ["ip", "netns", "exec", host.namespace, ...command];
}

/** A process that kills the servers when this one is gone, however it ended. */
function guardOf(processes: readonly (ChildProcess | null)[], folder: string) {
  let guard: ChildProcess | null = null;
  return {
    begin() {
      const pids = processes.flatMap((child) => child?.pid ?? []).join(" ");
      const script = `while kill -0 ${process.pid} 2>/dev/null; do sleep 1; done
        for pid in ${pids}; do
          grep -q QuorumPeerMain /proc/$pid/cmdline 2>/dev/null && kill -9 $pid
        done
        rm -rf '${folder}'`;
      guard = spawn("sh", ["-c", script], { stdio: "ignore", detached: true });
      guard.unref();
    },
    end() {
      // The shell and its sleep are a group of their own.
      if (guard?.pid === undefined) return;
      try {
        process.kill(-guard.pid, "SIGKILL");
      } catch {
        guard.kill("SIGKILL");
      }
    },
  };
}

async function freePorts(count: number): Promise<number[]> {
  const listeners = Array.from({ length: count }, () => net.createServer());
  await Promise.all(
    listeners.map((l) => new Promise<void>((resolve) => l.listen(0, "127.0.0.1", () => resolve()))),
  );
  const ports = listeners.map((l) => (l.address() as net.AddressInfo).port);
  await Promise.all(listeners.map((l) => new Promise<void>((resolve) => l.close(() => resolve()))));
  return ports;
}

/** The same of a server on another host. */
function modeInside(host: ZookeeperHost, port: number): Promise<string | null> {
  const ask = `exec 3<>/dev/tcp/${host.ip}/${port} && printf srvr >&3 && cat <&3`;
  const [program = "", ...args] = enter(host, "timeout", "1", "bash", "-c", ask);
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "ignore"] });
    let text = "";
    child.stdout!.on("data", (bytes: Uint8Array) => text += String(bytes));
    child.on("error", () => resolve(null));
    child.on("close", () => resolve(modeIn(text)));
  });
}

const modeIn = (text: string) => /^Mode: (\S+)$/m.exec(text)?.[1] ?? null;

/** The mode that a server's `srvr` tells; null: it does not answer, or has none yet. */
function modeOf(port: number): Promise<string | null> {
  return new Promise((resolve) => {
    let text = "";
    const socket = net.connect({ port, host: "127.0.0.1" }, () => socket.write("srvr"));
    const end = () => {
      socket.destroy();
      resolve(modeIn(text));
    };
    socket.setTimeout(1000, end);
    socket.on("data", (bytes) => text += bytes.toString());
    socket.on("end", end);
    socket.on("error", end);
  });
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
