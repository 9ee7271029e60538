/**
 * Hosts for tests: network namespaces with an interface each, joined by a bridge in a namespace of
 * its own. Nothing of it is seen outside, so that addresses may be the same in every run.
 *
 * Loss is real: nftables drops datagrams where they come in, and counts them. Segmentation is off
 * on the interfaces, so that what is dropped is one datagram, as on a wire.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { beginRun, dropNamespace, keepNamespace, runId } from "./run.ts";

/** `10.99.0.1` is the first host. */
const NETWORK = "10.99.0.";

export interface Host {
  /** Name of its namespace. */
  readonly namespace: string;
  readonly ip: string;
  /**
   * Drops a share of the datagrams that come in, from now on; counters begin at 0.
   *
   * @param share 0..1; 0 ends it
   * @param dataPort counted on its own
   */
  lose(share: number, dataPort: number): void;
  /** What was dropped since `lose`, and what of the data came in, dropped or not. */
  losses(): Losses;
  /** Pulls the cable, or puts it in again. */
  setLink(up: boolean): void;
}

export interface Losses {
  /** Datagrams to the data port. */
  readonly data: number;
  /** All others: acknowledgements, requests for repair, answers. */
  readonly other: number;
  readonly dataSeen: number;
}

export interface Network {
  readonly hosts: readonly Host[];
  close(): void;
}

let made = 0;

/** Why a test that needs hosts can't run here; false: it can. */
export function networkMissing(): string | false {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root: sudo -E deno task test --only=e2e";
  for (const program of ["ip", "nft"]) {
    if (spawnSync(program, ["-V"]).error !== undefined) {
      return `needs ${program}: deno task setup`;
    }
  }
  const probe = `${runId}-probe`;
  keepNamespace(probe);
  const added = spawnSync("ip", ["netns", "add", probe]);
  dropNamespace(probe);
  return added.status === 0 ? false : "needs the right to make network namespaces";
}

/** Makes hosts that reach each other, by multicast too. */
export function makeNetwork(count: number): Network {
  beginRun();
  made += 1;
  const base = `${runId}-${made}`;
  const bridge = `${base}-sw`;
  addNamespace(bridge);
  // Without snooping every port gets every group.
  inside(bridge, "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0");
  inside(bridge, "ip", "link", "set", "br0", "up");
  const hosts = Array.from({ length: count }, (_, i) => makeHost(base, bridge, i + 1));
  return {
    hosts,
    close() {
      for (const { namespace } of hosts) dropNamespace(namespace);
      dropNamespace(bridge);
    },
  };
}

function makeHost(base: string, bridge: string, no: number): Host {
  const namespace = `${base}-h${no}`;
  const ip = `${NETWORK}${no}`;
  const port = `p${no}`;
  addNamespace(namespace);
  const pair = ["link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", port];
  run("ip", ...pair, "netns", bridge);
  // A segmented send is cut here, as no interface does it: a loss is a loss of one datagram.
  inside(namespace, "ip", "link", "set", "eth0", "mtu", "1500", "gso_max_segs", "1", "up");
  inside(bridge, "ip", "link", "set", port, "master", "br0", "mtu", "1500", "up");
  inside(namespace, "ip", "address", "add", `${ip}/24`, "dev", "eth0");
  inside(namespace, "ip", "route", "add", "224.0.0.0/4", "dev", "eth0");
  return {
    namespace,
    ip,
    lose: (share, dataPort) => lose(namespace, share, dataPort),
    losses: () => readLosses(namespace),
    setLink: (up) => void inside(bridge, "ip", "link", "set", port, up ? "up" : "down"),
  };
}

function addNamespace(name: string): void {
  keepNamespace(name);
  run("ip", "netns", "add", name);
  inside(name, "ip", "link", "set", "lo", "up");
}

function lose(namespace: string, share: number, dataPort: number): void {
  const drop = `numgen random mod 1000 < ${Math.round(share * 1000)} counter name`;
  const rules = `
    table ip e2e
    delete table ip e2e
    table ip e2e {
      counter data { }
      counter other { }
      counter data_seen { }
      chain incoming {
        type filter hook prerouting priority 0; policy accept;
        udp dport ${dataPort} counter name data_seen
        udp dport ${dataPort} ${drop} data drop
        udp dport != ${dataPort} ${drop} other drop
      }
    }`;
  run("ip", { input: rules }, "netns", "exec", namespace, "nft", "-f", "-");
}

function readLosses(namespace: string): Losses {
  const text = inside(namespace, "nft", "-j", "list", "counters");
  const { nftables } = JSON.parse(text) as {
    nftables: { counter?: { name: string; packets: number } }[];
  };
  const packets = (name: string) =>
    nftables.find(({ counter }) => counter?.name === name)?.counter?.packets ?? 0;
  return { data: packets("data"), other: packets("other"), dataSeen: packets("data_seen") };
}

function inside(namespace: string, ...command: readonly string[]): string {
  return run("ip", "netns", "exec", namespace, ...command);
}

/** Runs a system program that must succeed. @returns what it printed */
function run(program: string, ...rest: readonly (string | { readonly input: string })[]): string {
  const args = rest.filter((arg): arg is string => typeof arg === "string");
  const input = rest.find((arg): arg is { input: string } => typeof arg !== "string")?.input;
  const options = { encoding: "utf8" as const, ...(input === undefined ? {} : { input }) };
  const { status, stderr, stdout } = spawnSync(program, args, options);
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stderr}`);
  return stdout;
}
