/**
 * A node of the bus: its life cycle, and what it is made of (guide 7.2, 9.9).
 *
 * Long because start, stop and everything between share one state.
 */

import { resolve } from "node:path";
import process from "node:process";
import { performance } from "node:perf_hooks";
import type { TrafficGate } from "./allocator.ts";
import type {
  RcmContext,
  RcmLaneToken,
  RcmReceiver,
  RcmReceiverCallback,
  RcmTierSync,
  RcmTierSyncCallback,
  RcmTransmitter,
  ReceiverOptions,
  WaitOptions,
} from "./api.ts";
import {
  checkInitParam,
  checkReceiver,
  checkResults,
  checkTierSync,
  checkTransmitter,
  readInjection,
  type WantedTx,
} from "./context_checks.ts";
import { createDelivery, type Delivery, describeOutcome } from "./delivery.ts";
import { RcmReliability, RcmRole, RcmStatus } from "./enums.ts";
import { RcmError } from "./errors.ts";
import { makeFolder } from "./folders.ts";
import { newLaneToken } from "./lane.ts";
import { createLanes, type Lanes } from "./lanes.ts";
import { createStreamNames } from "./message.ts";
import { ContextState, Notice, Region as RegionKind } from "./native/abi.ts";
import { nativeError, type NativeLibrary } from "./native/library.ts";
import { openRegion, type Region } from "./native/memory.ts";
import type { NativeCalls } from "./native/symbols.ts";
import { acquireWaker, type WakerLease } from "./native/waker.ts";
import { type ContextPlan, type Deliver, type RecordStart, startText } from "./plan.ts";
import { createInlineDriver, createPump, type Pump } from "./pump.ts";
import { type ContextReceiver, createReceiver } from "./receiver.ts";
import type { EventHub } from "./observe/events.ts";
import { LogKey } from "./observe/log_texts.ts";
import { errorText, type LogSink } from "./observe/logger.ts";
import { type CountersPlace, countersText } from "./observe/counters_text.ts";
import { createNoticeReader, type NoticeTarget } from "./observe/notices.ts";
import { type ContextTransmitter, createTransmitter } from "./transmitter.ts";
import { type ContextTierSync, createTierSync } from "./tier/sync.ts";
import { joinTier, type Membership } from "./tier/tier.ts";
import { createWaitList } from "./wait.ts";

/** Messages that `poll()` hands over unless told otherwise. */
const POLL_LIMIT = 1024;
/** A poll without a message looks for notices every so often, one with messages more rarely. */
const POLL_IDLE_NOTICES = 8;
const POLL_BUSY_NOTICES = 256;
/**
 * How long the event loop looks again after the last message before it sleeps, by `WaitStrategy`.
 * Meanwhile it runs the agents itself: no native thread looks beside it (`agent/lending.zig`).
 */
const HOT_MS = { spin: 2, yield: 0.05, adaptive: 0.1, block: 0 } as const;
/** `stop()` closes after the longest AckTimeoutMilli and this, whatever the native side says. */
const STOP_GRACE_MS = 3000;
/** How often a start in a tier looks whether it has waited long enough. */
const START_LOOK_MS = 20;
/** Looks at a draining context by `setImmediate`, before it is looked at each millisecond. */
const STOP_QUICK_LOOKS = 50;

type State = "created" | "starting" | "started" | "stopping" | "stopped";

/** What a context is made of. */
export interface ContextOptions {
  readonly plan: ContextPlan;
  readonly prefix: string;
  /** Absolute. */
  readonly workDir: string;
  readonly tierName: string;
  /** What `setArbArg` was given; null: nothing. A tier's context needs it. */
  readonly arbitration: { readonly address: string; readonly path: string } | null;
  /** Contexts of the configuration, for who reads the counters file. */
  readonly contexts: CountersPlace["contexts"];
  readonly library: NativeLibrary;
  readonly log: LogSink;
  readonly events: EventHub;
  /** It has stopped: the name is free again. */
  onStopped(): void;
}

/** A context as its factory sees it. */
export interface FactoryContext extends RcmContext {
  /** The native snapshot of statistics; the last one after `stop()`, null before `start()`. */
  snapshot(): Uint8Array<ArrayBuffer> | null;
  /** How often handlers have refused a message. */
  refusals(): number;
  /** The topics of its transmitters, in the order of creation. */
  transmitterTopics(): readonly string[];
}

/** What one start has opened. */
interface Opened {
  readonly handle: number;
  readonly lease: WakerLease;
}

/** @returns a context that has not been started */
export function createContext(options: ContextOptions): FactoryContext {
  const { plan, library, log } = options;
  const { calls } = library;
  const { name, threading } = plan.context;
  const inline = threading === "inline";

  let state: State = "created";
  let role: RcmRole = RcmRole.INIT;
  let mode: Deliver = "none";
  let isManual = false;
  let callback: RcmReceiverCallback | null = null;
  let receiverUser: unknown;
  let receiver: ContextReceiver | null = null;
  let delivery: Delivery | null = null;
  let lanes: Lanes | null = null;
  let pump: Pump | null = null;
  let opened: Opened | null = null;
  let membership: Membership | null = null;
  let tierSync: ContextTierSync | null = null;
  let heldRole: RcmRole | null = null; // told once all that was committed is applied
  let givesBack = false; // messages in hand are another leader's
  let starting: Promise<void> | null = null;
  let stopping: Promise<void> | null = null;
  let lastSnapshot: Uint8Array<ArrayBuffer> | null = null;
  let replayFrom = plan.record.replayFrom;
  let inCallback = false;
  let idlePolls = 0;
  let busyPolls = 0;
  let repairFd = -1;

  const gate: TrafficGate = { status: RcmStatus.NOT_STARTED, context: -1, arena: null };
  const transmitters: ContextTransmitter[] = [];
  const chosen: WantedTx[] = [];
  const notices = createNoticeReader(Notice);
  const noticeTarget: NoticeTarget = {
    context: name,
    stream: (transportId) => transports.get(transportId),
    log,
    events: options.events,
    onRole,
  };
  /** Topic and partition by transport, for notices and statistics. */
  const transports = new Map<number, { topic: string; partitionNo: number }>();
  for (const { topic, partitions } of plan.tx) {
    for (const { transportId, partitionNo } of partitions) {
      transports.set(transportId, { topic, partitionNo });
    }
  }
  for (const { transportId, topic, partitionNo } of plan.rx) {
    transports.set(transportId, { topic, partitionNo });
  }
  let snapshotBytes = new Uint8Array(16 * 1024);

  const driver = createInlineDriver(() => {
    if (waits.size() === 0 || opened === null) return false;
    runInline();
    waits.check();
    return waits.size() > 0;
  });
  const waits = createWaitList((on) => {
    if (opened === null) return;
    if (inline && on) driver.start();
    else calls.rcm_interest(opened.handle, on ? 1 : 0);
  });

  // Set-up

  function requireCreated(call: string): void {
    if (state === "created") return;
    const reason = state === "stopping" || state === "stopped"
      ? "it has been stopped; make a new context"
      : "it has been started";
    throw new RcmError("STATE", `${call} of context ${name}: ${reason}`);
  }

  function newTransmitter(
    topic: string,
    partitionNos: readonly number[] | null | undefined,
    txArg: number,
  ): RcmTransmitter {
    requireCreated("createTransmitter");
    const wanted = checkTransmitter(plan, topic, partitionNos, txArg);
    if (chosen.some((other) => other.plan === wanted.plan)) {
      throw new RcmError(
        "STATE",
        `createTransmitter of context ${name}: topic ${topic} has a transmitter already`,
      );
    }
    openRepairSocket();
    const transmitter = createTransmitter({
      topic,
      tx: transmitters.length,
      partitionNos: wanted.partitions.map((partition) => partition.partitionNo),
      gate,
      calls,
      waits,
    });
    transmitters.push(transmitter);
    chosen.push(wanted);
    return transmitter;
  }

  /**
   * A fixed `RepairPort` is taken when the transmitter is made, so that its fault shows there, and
   * kept until `stop()`: each start works on a copy.
   */
  function openRepairSocket(): void {
    const { repairPort, ip } = plan.context;
    if (repairPort === 0 || repairFd >= 0) return;
    const address = new TextEncoder().encode(ip);
    const fd = calls.rcm_repair_socket(address, address.byteLength, repairPort);
    if (fd < 0) throw nativeError(library, fd, `RepairPort ${repairPort} of context ${name}`);
    repairFd = fd;
  }

  function newReceiver(
    cb: RcmReceiverCallback | null,
    user: unknown,
    wanted: ReceiverOptions,
  ): RcmReceiver {
    requireCreated("createReceiver");
    const checked = checkReceiver(plan, cb, wanted);
    if (receiver !== null) {
      throw new RcmError("STATE", `createReceiver of context ${name}: it has its receiver already`);
    }
    mode = checked.delivery;
    isManual = checked.isManual;
    callback = cb;
    receiverUser = user;
    receiver = createReceiver(checked.delivery, gate, () => pump?.resume());
    return receiver;
  }

  function newTierSync(
    startTransNo: number,
    cb: RcmTierSyncCallback,
    user: unknown,
  ): RcmTierSync {
    requireCreated("createTierSync");
    checkTierSync(plan, startTransNo, cb);
    if (tierSync !== null) {
      throw new RcmError("STATE", `createTierSync of context ${name}: it has its object already`);
    }
    tierSync = createTierSync({
      calls,
      gate,
      startTransNo,
      callback: cb,
      user,
      isManual: () => isManual,
      leads,
      carried: () => delivery?.carried() ?? 0,
      onRefused: (outcome, thrown) =>
        tell(LogKey.HANDLER_REFUSED, { outcome: describeOutcome(outcome, thrown) }),
      onStillRefusing: (count) => tell(LogKey.HANDLER_STILL_REFUSING, { count }),
      onResume: () => pump?.resume(),
    });
    return tierSync;
  }

  // Life cycle

  async function start(wait: WaitOptions): Promise<void> {
    requireCreated("start");
    state = "starting";
    const attempt = open(wait).catch(async (error: unknown) => {
      await release();
      state = stopping === null ? "created" : "stopped";
      throw error;
    }).finally(() => starting = null);
    starting = attempt;
    await attempt;
  }

  async function open(wait: WaitOptions): Promise<void> {
    const { signal } = wait;
    signal?.throwIfAborted();
    checkResults(plan, { hasReceiver: receiver !== null, hasTierSync: tierSync !== null });
    const injection = readInjection();
    const lease = await acquireWaker(library, () => pump?.wake());
    try {
      refuseWhenStopped();
      signal?.throwIfAborted();
      const tx = chosen.map((entry) => ({ ...entry, repairFd }));
      const text = new TextEncoder().encode(
        startText(plan, {
          prefix: options.prefix,
          deliver: mode,
          tx,
          injection,
          record: recordStart(),
          isManual,
          countersText: countersText(plan, options),
          stateDirectory: stateDirectory(),
          startTransNo: tierSync?.startTransNo ?? 0,
        }),
      );
      const handle = calls.rcm_context_start(text, text.byteLength, lease.id);
      if (handle < 0) throw nativeError(library, handle, `start of context ${name}`);
      opened = { handle, lease };
    } catch (error) {
      await lease.release();
      throw error;
    }
    const { handle } = opened;
    gate.context = handle;
    if (transmitters.length > 0) gate.arena = region(handle, RegionKind.ARENA);
    for (const transmitter of transmitters) transmitter.onStarted();
    if (waits.size() > 0) calls.rcm_interest(handle, 1);
    if (!inline) pump = newPump(handle);

    const agreed = () =>
      stopping !== null || (calls.rcm_context_state(handle) & ContextState.HANDSHAKING) === 0;
    if (!await waits.wait(agreed, wait) && stopping === null) {
      throw new RcmError("TIMEOUT", `start of context ${name}: ${wait.timeoutMs} ms have passed`);
    }
    refuseWhenStopped();
    if (plan.tier !== null) await join(handle, wait);
    if (receiver !== null) {
      delivery = newDelivery(handle);
      receiver.onStarted(delivery);
    }
    gate.status = RcmStatus.OK;
    state = "started";
    tell(LogKey.CONTEXT_STARTED, {});
    if (plan.tier === null) changeRole(RcmRole.SINGLE);
    pump?.resume();
    if (inline && waits.size() > 0) driver.start();
  }

  /** A tier's member has started when it leads, or follows closely enough. */
  async function join(handle: number, wait: WaitOptions): Promise<void> {
    membership = await joinTier({
      library,
      context: handle,
      name,
      tier: plan.tier!,
      arbitration: options.arbitration!,
      onFault: (reason) => tell(LogKey.ARBITER_FAULT, { reason }),
    });
    refuseWhenStopped();
    let failure: RcmError | null = null;
    const decided = () => {
      if (stopping !== null || membership === null) return true;
      membership.pump();
      failure = membership.isStarted() ? null : membership.failure();
      return failure !== null || membership.isStarted();
    };
    const look = setInterval(() => waits.check(), START_LOOK_MS);
    try {
      if (!await waits.wait(decided, wait) && stopping === null) {
        throw new RcmError("TIMEOUT", `start of context ${name}: ${wait.timeoutMs} ms have passed`);
      }
    } finally {
      clearInterval(look);
    }
    refuseWhenStopped();
    if (failure !== null) throw failure;
  }

  function refuseWhenStopped(): void {
    if (stopping !== null) {
      throw new RcmError("STATE", `start of context ${name}: it was stopped meanwhile`);
    }
  }

  /** After a failed start: everything is given back. */
  async function release(): Promise<void> {
    gate.status = stopping === null ? RcmStatus.NOT_STARTED : RcmStatus.STOPPED;
    endLoop();
    await membership?.leave();
    membership = null;
    const was = opened;
    opened = null;
    gate.context = -1;
    gate.arena = null;
    if (was === null) return;
    calls.rcm_context_close(was.handle);
    await was.lease.release();
  }

  function stop(): Promise<void> {
    if (stopping !== null) return stopping;
    gate.status = RcmStatus.STOPPED;
    // The assignment comes first: what runs in close() must see that the context is stopping.
    let resolve!: (done: Promise<void>) => void;
    stopping = new Promise<void>((settle) => resolve = settle);
    resolve(close());
    return stopping;
  }

  async function close(): Promise<void> {
    if (starting !== null) {
      waits.check();
      await starting.catch(() => {}); // whoever called start() is told
    }
    const wasStarted = state === "started";
    state = "stopping";
    waits.end();
    receiver?.end();
    if (opened !== null) {
      const { handle, lease } = opened;
      delivery?.settle();
      delivery?.end();
      tierSync?.end();
      pump?.end();
      // Others can take over at once; what this member still sends is acknowledged meanwhile.
      const left = membership?.leave();
      calls.rcm_context_drain(handle);
      await drained(handle);
      await left;
      membership = null;
      delivery?.settle();
      readNotices();
      lastSnapshot = readSnapshot();
      gate.context = -1;
      gate.arena = null;
      opened = null;
      calls.rcm_context_close(handle);
      await lease.release();
    }
    if (repairFd >= 0) calls.rcm_fd_close(repairFd);
    repairFd = -1;
    state = "stopped";
    if (wasStarted) tell(LogKey.CONTEXT_STOPPED, {});
    options.onStopped();
  }

  /** Waits until the native side has drained, which it bounds itself. */
  async function drained(handle: number): Promise<void> {
    const timeouts = chosen.flatMap((tx) =>
      tx.partitions.map((partition) => partition.ackTimeoutMs)
    );
    const deadline = performance.now() + Math.max(0, ...timeouts) + STOP_GRACE_MS;
    for (let looks = 0; performance.now() < deadline; looks += 1) {
      if (inline) calls.rcm_work(handle);
      const bits = calls.rcm_context_state(handle) & (ContextState.DRAINED | ContextState.VISITED);
      if (bits === ContextState.DRAINED) return;
      await new Promise<void>((resolve) => {
        if (looks < STOP_QUICK_LOOKS) setImmediate(resolve);
        else setTimeout(resolve, 1);
      });
      readNotices();
    }
  }

  function endLoop(): void {
    delivery?.end();
    pump?.end();
    delivery = null;
    pump = null;
  }

  // Running

  function region(handle: number, which: number, call = calls.rcm_region): Region {
    const place = new Float64Array(2);
    const result = call(handle, which, place);
    if (result < 0) throw nativeError(library, result, `memory ${which} of context ${name}`);
    return openRegion(library.map, place[0]!, place[1]!);
  }

  function newPump(handle: number): Pump {
    return createPump({
      calls,
      context: handle,
      hotMs: HOT_MS[plan.context.waitStrategy],
      notices: readNotices,
      check: () => waits.check(),
      delivers() {
        if (delivery === null) return false;
        if (tierSync !== null && mode !== "poll" && !tierSync.held()) return true;
        return mode === "callback" ? !delivery.held() : receiver?.hungry() ?? false;
      },
      deliver(limit, deadlineMs) {
        const given = mode === "poll" ? 0 : deliverResults(limit, deadlineMs);
        if (!leads() || given >= limit) return given;
        if (mode === "callback") return given + (delivery?.run(limit - given, deadlineMs) ?? 0);
        return given + (receiver?.feed() ?? 0);
      },
    });
  }

  /** Messages are this program's: always, but for tiers whose leader replicates its results. */
  function leads(): boolean {
    return tierSync === null || isLeading(role);
  }

  /** What others made, then what follows from it. @returns transactions that were accepted */
  function deliverResults(limit: number, deadlineMs: number): number {
    if (tierSync === null || delivery === null) return 0;
    if (givesBack && !delivery.working() && !delivery.entered()) {
      givesBack = false;
      delivery.giveBack();
    }
    let given = 0;
    callingBack(() => given = tierSync?.run(limit, deadlineMs) ?? 0);
    tellHeldRole();
    return given;
  }

  function tellHeldRole(): void {
    if (heldRole === null || opened === null || givesBack) return;
    if (calls.rcm_tier_open(opened.handle) !== 1) return;
    changeRole(heldRole);
    pump?.resume();
  }

  /** A leader's role is told when it has everything that was committed before. */
  function onRole(next: RcmRole): void {
    heldRole = null;
    if (tierSync === null || !isLeading(next) || isLeading(role)) changeRole(next);
    else {
      heldRole = next;
      tellHeldRole();
    }
    if (!isLeading(next) && tierSync !== null && delivery !== null) {
      givesBack = true;
      pump?.resume();
    }
  }

  function newDelivery(handle: number): Delivery {
    if (plan.context.isTotalOrder) return deliveryOf(handle, calls, region);
    // `calls` of lanes take their handles.
    const laneCalls = { rcm_drain: calls.rcm_lane_drain, rcm_ack: calls.rcm_ack };
    const laneRegion = (lane: number, which: number) => region(lane, which, calls.rcm_lane_region);
    lanes = createLanes(calls, handle, (lane) => deliveryOf(lane, laneCalls, laneRegion), {
      onRefused: (outcome) => tell(LogKey.HANDLER_REFUSED, { outcome }),
      onStillRefusing: (count) => tell(LogKey.HANDLER_STILL_REFUSING, { count }),
    });
    return lanes.delivery;
  }

  /** @param handle the context's, or a lane's with the calls of lanes */
  function deliveryOf(
    handle: number,
    drain: Pick<NativeCalls, "rcm_drain" | "rcm_ack">,
    region: (handle: number, which: number) => Region,
  ): Delivery {
    return createDelivery({
      calls: drain,
      context: handle,
      descriptors: region(handle, RegionKind.DESCRIPTORS),
      log: region(handle, RegionKind.RECEIVE_LOG),
      sharedRegion: (number) => region(handle, RegionKind.SHARED + number),
      callback: mode === "iterate" ? null : callback,
      user: receiverUser,
      copy: process.env["RCM_COPY"] === "1",
      tellsAtOnce: !inline || !plan.context.isTotalOrder,
      // A tier acknowledges what is committed, whatever its programs do.
      isManual: isManual && plan.tier === null,
      streamNames: createStreamNames(calls, opened?.handle ?? -1, plan),
      onRefused: (outcome, thrown) =>
        tell(LogKey.HANDLER_REFUSED, { outcome: describeOutcome(outcome, thrown) }),
      onStillRefusing: (count) => tell(LogKey.HANDLER_STILL_REFUSING, { count }),
      onResume: () => pump?.resume(),
    });
  }

  function changeRole(next: RcmRole): void {
    role = next;
    heldRole = null;
    const told = tierSync === null ? [callback] : [tierSync.callback, callback];
    for (const each of told) {
      callingBack(() => {
        try {
          each?.onRoleChanged?.(next);
        } catch (error) {
          log.log(LogKey.ROLE_CALLBACK_THREW, { error: errorText(error) }, name);
        }
      });
    }
  }

  /** A line about this context; the logger may be the program's. */
  const tell: LogSink["log"] = (key, values) => callingBack(() => log.log(key, values, name));

  function recordStart(): RecordStart | null {
    if (!plan.isRecord || receiver === null) return null;
    if (!plan.context.isTotalOrder) {
      tell(LogKey.LANES_NOT_RECORDED, {});
      return null;
    }
    const directory = resolve(options.workDir, plan.record.directory);
    makeFolder(directory, `RecordDir of context ${name}`);
    return { directory, replayFrom };
  }

  /** Where a tier's member keeps its promises, recording or not. */
  function stateDirectory(): string {
    if (plan.tier === null) return "";
    const directory = resolve(options.workDir, plan.record.directory);
    makeFolder(directory, `RecordDir of context ${name}`);
    return directory;
  }

  function readNotices(): void {
    if (inCallback || opened === null) return;
    if (lanes !== null) callingBack(lanes.readFaults);
    for (;;) {
      const count = calls.rcm_notices(opened.handle, notices.buffer, notices.max);
      if (count <= 0) break;
      callingBack(() => notices.handle(count, noticeTarget));
      // A callback may have stopped the context; what is left is read before it closes.
      if (opened === null) return;
      if (count < notices.max) break;
    }
    tellHeldRole();
    membership?.pump();
  }

  /** Runs what calls the program, so that a `poll()` in there answers 0. */
  function callingBack(run: () => void): void {
    const outer = inCallback;
    inCallback = true;
    try {
      run();
    } finally {
      inCallback = outer;
    }
  }

  /** Network and delivery of a context without native threads. */
  function runInline(): void {
    if (opened === null) return;
    if (state === "started") poll(POLL_LIMIT);
    else calls.rcm_work(opened.handle);
    readNotices();
  }

  function poll(limit: number): number {
    if (state !== "started" || opened === null || inCallback) return 0;
    if (delivery === null || mode !== "poll") {
      if (!inline) return 0;
      calls.rcm_work(opened.handle);
      pollNotices(0);
      return 0;
    }
    if (delivery.entered() || tierSync?.entered()) return 0;
    const most = limit >= 1 ? Math.floor(limit) : POLL_LIMIT;
    const results = deliverResults(most, Infinity);
    const held = inline && (delivery.held() || !leads());
    if (held) calls.rcm_work(opened.handle);
    const messages = held || !leads() || results >= most
      ? 0
      : delivery.run(most - results, Infinity);
    const given = results + messages;
    pollNotices(given);
    return given;
  }

  function pollNotices(given: number): void {
    if (given === 0) {
      idlePolls += 1;
      if (idlePolls % POLL_IDLE_NOTICES === 0) readNotices();
    } else {
      busyPolls += 1;
      if (busyPolls % POLL_BUSY_NOTICES === 0) readNotices();
    }
  }

  function laneToken(threadNo: number): RcmLaneToken {
    const where = `laneToken of context ${name}`;
    if (plan.context.isTotalOrder) {
      throw new RcmError("ARGUMENT", `${where}: IsTotalOrder is 1, so there are no lanes`);
    }
    if (state !== "started" || opened === null) {
      throw new RcmError(
        "STATE",
        `${where}: it is not started; a token is good from start to stop`,
      );
    }
    const count = calls.rcm_lanes(opened.handle);
    if (count === 0) throw new RcmError("STATE", `${where}: it has no receiver`);
    if (!Number.isInteger(threadNo) || threadNo < 0 || threadNo >= count) {
      throw new RcmError(
        "ARGUMENT",
        `${where}: its lanes are 0..${count - 1}, one a topic, not ${String(threadNo)}`,
      );
    }
    return newLaneToken(calls, opened.handle, threadNo);
  }

  function readSnapshot(): Uint8Array<ArrayBuffer> | null {
    if (opened === null) return lastSnapshot;
    delivery?.settle();
    for (;;) {
      const length = calls.rcm_stats(opened.handle, snapshotBytes, snapshotBytes.byteLength);
      if (length < 0) throw nativeError(library, length, `statistics of context ${name}`);
      if (length <= snapshotBytes.byteLength) return snapshotBytes.slice(0, length);
      snapshotBytes = new Uint8Array(length);
    }
  }

  return {
    createTransmitter: (topic, partitionNos, txArg = 0) =>
      newTransmitter(topic, partitionNos, txArg),
    createReceiver: (cb, user, wanted = {}) => newReceiver(cb, user, wanted),
    createTierSync: (startTransNo, cb, user) => newTierSync(startTransNo, cb, user),
    start: (wait = {}) => start(wait),
    stop,
    poll: (limit = POLL_LIMIT) => poll(limit),
    getRole: () => role,
    getReliability: () =>
      plan.tier !== null
        ? RcmReliability.TIER
        : plan.context.isTotalOrder
        ? RcmReliability.ORDERED
        : RcmReliability.NOT_ORDERED,
    getTierName: () => options.tierName,
    setInitParam(key, value) {
      requireCreated("setInitParam");
      replayFrom = checkInitParam(plan, key, value);
    },
    laneToken,
    snapshot: readSnapshot,
    refusals: () =>
      (delivery?.refusals() ?? 0) + (lanes?.refusalsElsewhere() ?? 0) + (tierSync?.refusals() ?? 0),
    transmitterTopics: () => chosen.map((tx) => tx.plan.topic),
    [Symbol.asyncDispose]: stop,
  };
}

function isLeading(role: RcmRole): boolean {
  return role === RcmRole.ACTIVE || role === RcmRole.SINGLE;
}
