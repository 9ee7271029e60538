/**
 * What a context needs of the configuration, and the text that starts its native side.
 *
 * The names of `StartPlan` and below are those of the native side's JSON reader; all are required.
 */

/** A receiver that the configuration knows of a sent topic and partition. */
export interface PlanReceiver {
  readonly id: number;
  readonly name: string;
}

/** What a topic and partition is for senders and receivers alike. */
export interface PlanTransport {
  readonly transportId: number;
  readonly partitionNo: number;
  readonly addrs: readonly string[];
  readonly port: number;
  readonly mtu: number;
  readonly heartbeatIntervalMs: number;
  readonly heartbeatTimeoutMs: number;
  readonly ackIntervalMs: number;
  readonly ackTimeoutMs: number;
  /** "" or 64 hexadecimal digits. */
  readonly groupKey: string;
}

/** A sent topic and partition. */
export interface PlanTxPartition extends PlanTransport {
  readonly asynchronous: boolean;
  readonly slowDisconnect: boolean;
  readonly receivers: readonly PlanReceiver[];
}

/** A topic that may be sent. */
export interface PlanTx {
  readonly topic: string;
  /** Ascending by number. */
  readonly partitions: readonly PlanTxPartition[];
}

/** A received topic and partition, in the file's order. */
export interface PlanRx extends PlanTransport {
  readonly topic: string;
  readonly lane: number;
}

/** The context as a whole. */
export interface PlanContext {
  readonly name: string;
  readonly id: number;
  readonly clusterId: number;
  readonly ip: string;
  readonly threading: "shared" | "dedicated" | "inline";
  readonly waitStrategy: "spin" | "yield" | "adaptive" | "block";
  readonly bindCoreId: number;
  readonly mcLoop: boolean;
  readonly ttl: number;
  readonly socketBufferBytes: number;
  readonly repairPortStart: number;
  readonly repairPortEnd: number;
  readonly repairPort: number;
  readonly sendWindowSize: number;
  readonly arenaBytes: number;
  readonly maxCacheMsgCount: number;
  readonly receiveBytes: number;
  readonly isHandshake: boolean;
  readonly startTimeoutMs: number;
  readonly isTotalOrder: boolean;
  readonly usePreAllocate: boolean;
}

/** Everything that a context asks of its configuration. */
export interface ContextPlan {
  readonly context: PlanContext;
  /** True: the configuration asks for a record (`IsRecord`). */
  readonly isRecord: boolean;
  readonly tx: readonly PlanTx[];
  readonly rx: readonly PlanRx[];
}

/** A created transmitter: its topic, and the chosen of its partitions. */
export interface ChosenTx {
  readonly plan: PlanTx;
  readonly partitions: readonly PlanTxPartition[];
  readonly txArg: number;
  /** A socket that is bound to the fixed `RepairPort` already; -1: none. */
  readonly repairFd: number;
}

/** Faults that the native side puts into received and sent datagrams: a tool for tests. */
export interface Injection {
  readonly dropPpm: number;
  readonly delayPpm: number;
  readonly duplicatePpm: number;
  readonly seed: number;
}

/** No faults. */
export const NO_INJECTION: Injection = { dropPpm: 0, delayPpm: 0, duplicatePpm: 0, seed: 0 };

/**
 * Reads `RCM_INJECT`, for example `"drop=0.02,duplicate=0.01,delay=0.01,seed=7"`: fractions of
 * datagrams, and the seed of the choice.
 * @throws RangeError naming what can't be read
 */
export function parseInjection(text: string | undefined): Injection {
  if (text === undefined || text.trim() === "") return NO_INJECTION;
  const injection = { ...NO_INJECTION };
  for (const part of text.split(",")) {
    const [key = "", value = ""] = part.split("=").map((side) => side.trim());
    const number = value === "" ? NaN : Number(value);
    if (key === "seed" && Number.isInteger(number) && number >= 0 && number < 2 ** 32) {
      injection.seed = number;
    } else if (isFault(key) && number >= 0 && number <= 1) {
      injection[`${key}Ppm`] = Math.round(number * 1e6);
    } else {
      throw new RangeError(
        `RCM_INJECT: "${part}" is not drop=, duplicate= or delay= with a fraction 0..1, nor ` +
          "seed= with an integer",
      );
    }
  }
  return injection;
}

function isFault(key: string): key is "drop" | "delay" | "duplicate" {
  return key === "drop" || key === "delay" || key === "duplicate";
}

/** How the program takes its messages; `"none"`: it has no receiver. */
export type Deliver = "callback" | "poll" | "iterate" | "none";

/**
 * @param prefix what stands in front of file names in `/dev/shm`
 * @returns the JSON text for `rcm_context_start`
 */
export function startText(
  plan: ContextPlan,
  prefix: string,
  deliver: Deliver,
  chosen: readonly ChosenTx[],
  injection: Injection,
): string {
  return JSON.stringify({
    ...plan.context,
    prefix,
    deliver,
    ackManual: false,
    injectDropPpm: injection.dropPpm,
    injectDelayPpm: injection.delayPpm,
    injectDuplicatePpm: injection.duplicatePpm,
    injectSeed: injection.seed,
    tx: chosen.map(({ plan: tx, partitions, txArg, repairFd }) => ({
      topic: tx.topic,
      txArg,
      partitions: partitions.map((partition) => ({ ...partition, repairFd })),
    })),
    rx: deliver === "none" ? [] : plan.rx,
  });
}
