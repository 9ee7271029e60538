/** Guide 10.1: keys of the configuration that only hosts of their own show at work. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { e2e, LIMIT_MS, until } from "./harness/driver.ts";
import type { Host } from "./harness/hosts.ts";

/** Counts datagrams to a port that come in at a host, by their TTL. */
function countHops(host: Host, port: number, ttl: number): () => { right: number; wrong: number } {
  const nft = (args: readonly string[], input = "") => {
    const all = ["netns", "exec", host.namespace, "nft", ...args];
    const { status, stdout, stderr } = spawnSync("ip", all, { input, encoding: "utf8" });
    assert.equal(status, 0, stderr);
    return stdout;
  };
  nft(
    ["-f", "-"],
    `table ip hops {
      counter right { }
      counter wrong { }
      chain incoming {
        type filter hook prerouting priority 0; policy accept;
        udp dport ${port} ip ttl ${ttl} counter name right
        udp dport ${port} ip ttl != ${ttl} counter name wrong
      }
    }`,
  );
  return () => {
    const { nftables } = JSON.parse(nft(["-j", "list", "counters"])) as {
      nftables: { counter?: { name: string; packets: number } }[];
    };
    const of = (name: string) =>
      nftables.find(({ counter }) => counter?.name === name)?.counter?.packets ?? 0;
    return { right: of("right"), wrong: of("wrong") };
  };
}

e2e("10.1 TTL: hops of multicast datagrams, and of unicast ones", async (bed) => {
  const [from, to] = bed.hosts(2);
  for (const [ttl, addr] of [[3, bed.group], [77, to!.ip]] as const) {
    const config = bed.config({
      transport: { Addr: addr },
      contexts: [
        { Name: "tx", Ip: from!.ip, TTL: ttl, TxTopics: [{ Name: "t" }] },
        { Name: "rx", Ip: to!.ip, RxTopics: [{ Name: "t" }] },
      ],
    });
    const counted = countHops(to!, bed.port, ttl);
    const tx = await bed.node("deno", config, { host: from! });
    const rx = await bed.node("bun", config, { host: to! });
    await rx.receiver("rx");
    await tx.sender("tx");
    const wait = { context: "tx", topic: "t" };
    assert.equal(await tx.call("connected", { ...wait, receivers: 1, timeoutMs: LIMIT_MS }), true);
    const run = { seed: ttl, sizes: { kind: "mixed", seed: 1 }, count: 100 } as const;
    await tx.call("send", { ...wait, ...run });
    await rx.received("rx", 100);
    const { right, wrong } = counted();
    assert.ok(right > 3, `${right} had a TTL of ${ttl}`);
    assert.equal(wrong, 0);
    await Promise.all([tx.close(), rx.close()]);
    const dropped = ["netns", "exec", to!.namespace, "nft", "delete", "table", "ip", "hops"];
    assert.equal(spawnSync("ip", dropped).status, 0);
    bed.wipe("tx");
  }
}, { network: true });

e2e("10.1 McLoop: 0: other machines hear the sender, its own does not", async (bed) => {
  const [here, there] = bed.hosts(2);
  for (const loop of [1, 0]) {
    const config = bed.config({
      contexts: [
        { Name: "tx", Ip: here!.ip, McLoop: loop, TxTopics: [{ Name: "t" }] },
        { Name: "near", Ip: here!.ip, RxTopics: [{ Name: "t" }] },
        { Name: "far", Ip: there!.ip, RxTopics: [{ Name: "t" }] },
      ],
    });
    const near = await bed.node("deno", config, { host: here! });
    const far = await bed.node("bun", config, { host: there! });
    await near.receiver("near");
    await far.receiver("far");
    const tx = await bed.node("bun", config, { host: here! });
    await tx.sender("tx");
    const wait = { context: "tx", topic: "t" };
    const receivers = loop === 1 ? 2 : 1;
    assert.equal(await tx.call("connected", { ...wait, receivers, timeoutMs: LIMIT_MS }), true);
    const run = { seed: loop, sizes: { kind: "mixed", seed: 1 }, count: 100 } as const;
    await tx.call("send", { ...wait, ...run });
    await far.received("far", 100);
    if (loop === 1) await near.received("near", 100);
    const { DatagramsReceived } = await near.statistics("near");
    assert.equal(Number(DatagramsReceived) > 0, loop === 1, `${DatagramsReceived} came in`);
    await Promise.all([tx, near, far].map((node) => node.close()));
    bed.wipe("tx");
  }
  await until(() => bed.files().length === 0, () => "nothing is left");
}, { network: true });
