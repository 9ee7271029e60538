/**
 * The configurations of the benchmarks: `near` sends on the topic "to" and gets answers on "back",
 * `far` (and `far2`) the other way round. What is not named here has its default.
 */

import { loadConfig, type RcmConfigInput, resolveContext } from "../src/config/mod.ts";
import { type Deliver, type Injection, NO_INJECTION, startText } from "../src/plan.ts";

/** What the rows choose. */
export interface Wiring {
  readonly transport: "multicast" | "unicast" | "shm";
  /** Both ways, or from `near` only. */
  readonly answers?: boolean;
  readonly receivers?: number;
  /** Keys of both transports. */
  readonly transportKeys?: Readonly<Record<string, string | number>>;
  /** Keys of all contexts, and of the receiving ones alone. */
  readonly contextKeys?: Readonly<Record<string, string | number>>;
  readonly farKeys?: Readonly<Record<string, string | number>>;
}

/** @returns the configuration, as it stands in a file */
export function configOf(wiring: Wiring): RcmConfigInput {
  const { transport, answers = false, receivers = 1 } = wiring;
  const inShm = transport === "shm";
  const shared = { ...(inShm ? { UseSharedMemory: 1 } : {}), ...wiring.transportKeys };
  const address = (no: number) => {
    if (inShm) return {};
    return { Addr: transport === "multicast" ? `239.77.1.${no}` : "127.0.0.1", Port: 47200 + no };
  };
  const to = { Id: 1, Topic: "to", ...address(1), ...shared };
  const back = { Id: 2, Topic: "back", ...address(2), ...shared };
  const common = { IsRecord: 0, ...(inShm ? {} : { Ip: "127.0.0.1" }), ...wiring.contextKeys };
  const reads = (...names: string[]) => (inShm ? { ShmContext: names } : {});
  const far = (name: string, id: number) => ({
    Name: name,
    Id: id,
    ...common,
    ...reads("near"),
    RxTopics: [{ Name: "to" }],
    ...(answers ? { TxTopics: [{ Name: "back" }] } : {}),
    ...wiring.farKeys,
  });
  return {
    Rcm: {
      Transports: answers ? [to, back] : [to],
      Contexts: [
        {
          Name: "near",
          Id: 1,
          ...common,
          TxTopics: [{ Name: "to" }],
          ...(answers ? { RxTopics: [{ Name: "back" }], ...reads("far") } : {}),
        },
        ...Array.from({ length: receivers }, (_, i) => far(i === 0 ? "far" : `far${i + 1}`, i + 2)),
      ],
    },
  } as RcmConfigInput;
}

/** @returns the keys of a context that this version can't act on */
export function unsupportedKeys(config: RcmConfigInput): readonly string[] {
  return resolveContext(loadConfig(config), "far").unsupportedKeys;
}

/** @returns the text by which a program without JavaScript starts a context */
export function nativeText(
  config: RcmConfigInput,
  context: string,
  prefix: string,
  workDir: string,
  injection: Injection = NO_INJECTION,
): string {
  const plan = resolveContext(loadConfig(config), context);
  const deliver: Deliver = plan.rx.length > 0 ? "poll" : "none";
  const tx = plan.tx.map((topic) => ({
    plan: topic,
    partitions: topic.partitions,
    txArg: 0,
    repairFd: -1,
  }));
  const { replayFrom } = plan.record;
  const record = plan.isRecord && deliver !== "none" ? { directory: workDir, replayFrom } : null;
  return startText(plan, {
    prefix,
    deliver,
    tx,
    injection,
    record,
    isManual: false,
    countersText: "{}",
    stateDirectory: workDir,
    startTransNo: 0,
  });
}
