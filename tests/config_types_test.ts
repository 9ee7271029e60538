import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type ContextValues,
  loadConfig,
  type RcmConfigInput,
  resolveContext,
} from "../src/config/mod.ts";
import type { ContextPlan } from "../src/plan.ts";
import balancing from "./fixtures/guide/7_2_5_load_balancing.json" with { type: "json" };
import simple from "./fixtures/guide/5_2_simple.json" with { type: "json" };

// The compiler is the test here; what runs makes sure that it was asked.

/** True where both types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : false;

test("an imported JSON file is a configuration", () => {
  const first: RcmConfigInput = simple;
  const second: RcmConfigInput = balancing;
  assert.equal(resolveContext(loadConfig(first), "client1").context.id, 1);
  assert.equal(resolveContext(loadConfig(second), "MiniContext").context.id, 1);
});

test("words stay open, flags are numbers or booleans, all keys may be undefined", () => {
  const threading: string = "dedicated";
  const config: RcmConfigInput = {
    $schema: undefined,
    Rcm: {
      ClusterId: undefined,
      Transports: [{ Id: 1, Topic: "t", Addr: "10.0.0.1", Port: 1, SlowReceiver: "disconnect" }],
      Contexts: [{
        Name: "c",
        REF: undefined,
        Id: 1,
        Ip: "10.0.0.1",
        Threading: threading,
        WaitStrategy: "spin",
        IsHandshake: true,
        IsRecord: 0,
        ShmContext: "c",
        TxTopics: [{ Name: "t", Partitions: undefined }],
        RxTopics: [{ Name: "t", Partitions: [1] as readonly number[] }],
      }, { Name: "x", ShmContext: ["c"] as readonly string[] }],
    },
  };
  assert.equal(resolveContext(loadConfig(config), "c").context.threading, "dedicated");
});

test("values have the types of their keys", () => {
  const same: readonly true[] = [
    true satisfies Same<ContextValues["TTL"], number>,
    true satisfies Same<ContextValues["SyncPort"], number | undefined>,
    true satisfies Same<ContextValues["Ip"], string | undefined>,
    true satisfies Same<ContextValues["TierName"], string>,
    true satisfies Same<ContextValues["IsRecord"], boolean>,
    true satisfies Same<ContextValues["Threading"], "shared" | "dedicated" | "inline">,
    true satisfies Same<ContextValues["ShmContext"], readonly string[]>,
  ];
  assert.equal(same.length, 7);
});

test("a resolved context is a plan, with nothing else for the native side", () => {
  const resolved = resolveContext(loadConfig(simple), "client1");
  const plan: ContextPlan = resolved;
  true satisfies Same<keyof typeof resolved.context, keyof ContextPlan["context"]>;
  true satisfies Same<
    keyof (typeof resolved.tx)[0]["partitions"][0],
    keyof ContextPlan["tx"][0]["partitions"][0]
  >;
  true satisfies Same<keyof (typeof resolved.rx)[0], keyof ContextPlan["rx"][0]>;
  assert.equal(plan.context.name, "client1");
});
