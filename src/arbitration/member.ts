/** The arbiter over a tree: joining, standing for election, watching; the same for both trees. */

import { RcmError } from "../errors.ts";
import type {
  Arbiter,
  ArbiterListener,
  ArbiterOptions,
  MasterRecord,
  MemberState,
  MemberView,
  SessionState,
  TierView,
  WriteResult,
} from "./arbiter.ts";
import { requireParts } from "./config_nodes.ts";
import { makeFolders } from "./tree_folders.ts";
import { arbitrationError } from "./native_session.ts";
import { masterText, readMaster, readMember, sameMaster } from "./records.ts";
import type { Tree, TreeChange, TreeEvents } from "./tree.ts";

/** How long a first connection may take, in milliseconds. */
const CONNECT_TIMEOUT_MS = 10_000;
/** How often a name that another session holds is looked at. */
const HELD_POLL_MS = 50;
/** A transaction whose answer was lost and that was not done is tried again so often. */
const TRIES_MAX = 5;
/** A configuration that changes while it is read is read again so often. */
const CONFIG_READS_MAX = 10;

const NOTHING: TierView = { master: null, running: null, members: [], observers: [] };

/**
 * @param makeTree opens the tree; it is given what is to be told
 * @param path second argument of `setArbArg`
 */
export async function createArbiter(
  options: ArbiterOptions,
  makeTree: (events: TreeEvents) => Promise<Tree>,
): Promise<Arbiter> {
  const { path, tier, node } = options;
  const base = `${path}/cluster_${tier}`;
  const masterPath = `${base}/master`;
  const runningPath = `${base}/master/running`;
  const folders = { member: `${base}/classer`, observer: `${base}/observer`, none: "" } as const;
  const watched = new Set([masterPath, runningPath, folders.member, folders.observer]);
  const listeners = new Set<ArbiterListener>();
  let mine = "";
  let joined = false;
  /** What this session wants of `running`: a node of it without a claim is removed. */
  let claim: "none" | "standing" | "held" = "none";
  /** How often it was won. */
  let claims = 0;
  let closing: Promise<void> | null = null;
  let lastShown = "";
  /** A reading is due; one runs at a time. */
  let stale = false;
  let refreshing = false;

  const tree = await makeTree({
    session(state, why) {
      tell((l) => l.onSession?.(state, why));
      if (state === "expired") {
        joined = false;
        claim = "none";
      }
      if (state === "connected") refresh();
    },
    changed(changedPath) {
      if (watched.has(changedPath)) refresh();
    },
    watchdog() {
      claim = "none";
      tell((l) => l.onWatchdog?.());
    },
    fault: (text) => tell((l) => l.onFault?.(text)),
  });

  function tell(call: (listener: ArbiterListener) => void): void {
    for (const listener of [...listeners]) {
      try {
        call(listener);
      } catch (error) {
        listener.onFault?.(`a listener threw: ${textOf(error)}`);
      }
    }
  }

  const textOf = (error: unknown) => error instanceof Error ? error.message : String(error);

  async function readMembers(folder: string): Promise<MemberView[]> {
    const names = await tree.children(folder, true) ?? [];
    const views: MemberView[] = [];
    for (const name of names) {
      const found = await tree.get(`${folder}/${name}`, false);
      if (found !== null) views.push({ node: name, state: readMember(found.data) });
    }
    return views;
  }

  async function readTier(): Promise<TierView> {
    if (tier === "") return NOTHING;
    // In this order: a record that is read after `running` was gone is what to stand with.
    const running = await tree.get(runningPath, true);
    const master = await tree.get(masterPath, true);
    return {
      master: master === null
        ? null
        : { record: readMaster(masterPath, master.data), version: master.version },
      running: running === null ? null : { node: running.data, mine: running.mine },
      members: await readMembers(folders.member),
      observers: await readMembers(folders.observer),
    };
  }

  function show(view: TierView): TierView {
    const text = JSON.stringify(view);
    if (text !== lastShown) {
      lastShown = text;
      tell((l) => l.onView?.(view));
    }
    return view;
  }

  /** Something changed: read it all, and again when more changed meanwhile. */
  function refresh(): void {
    if (!joined) return;
    stale = true;
    if (!refreshing) void refreshNow();
  }

  async function refreshNow(): Promise<void> {
    refreshing = true;
    while (stale && joined && closing === null) {
      stale = false;
      try {
        const held = claim === "held" ? claims : -1;
        const view = await readTier();
        if (held === claims && claim === "held" && view.running?.mine !== true) {
          // Somebody has removed it by hand: there is nothing left to have a lease of.
          claim = "none";
          tree.hold(runningPath, false);
        }
        show(view);
        // A transaction that was given up as lost was done after all.
        if (view.running?.mine === true && claim === "none") await resign();
      } catch (error) {
        // Whoever is cut off reads again when the link is back ("connected").
        if (tree.session === "connected" && closing === null) {
          tell((l) => l.onFault?.(textOf(error)));
        }
      }
    }
    refreshing = false;
  }

  async function read(): Promise<TierView> {
    requireJoined("read");
    await tree.sync(tier === "" ? path : masterPath);
    const view = await readTier();
    // In an order with what the watches tell: the next one is read after this one.
    refresh();
    return view;
  }

  function requireJoined(call: string): void {
    if (closing !== null) throw new RcmError("STATE", `arbiter.${call}: it has been closed`);
    if (joined) return;
    if (tree.session === "expired") throw arbitrationError(`${call}: the session has expired`);
    throw new RcmError("STATE", `arbiter.${call}: there is no session; join first`);
  }

  /** Makes the own node; waits while another session has it. */
  async function takeName(state: MemberState): Promise<void> {
    const data = JSON.stringify(state);
    const deadline = performance.now() + 2 * tree.timeoutMilli;
    while (true) {
      const outcome = await tree.change([{ op: "create", path: mine, data, ephemeral: true }]);
      if (outcome === "done") return;
      if (outcome === "missing") throw arbitrationError(`${mine}: its parent was removed`);
      const found = await tree.get(mine, false);
      if (found?.mine === true) return; // the answer was lost, or the same was asked before
      if (performance.now() > deadline) {
        throw arbitrationError(
          found === null
            ? `${mine} can't be made (${outcome})`
            : `${node} is already running: another session holds ${mine}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, HELD_POLL_MS));
    }
  }

  async function join(
    state: MemberState,
    kind: "member" | "observer" | "none" = "member",
  ): Promise<TierView> {
    if (closing !== null) throw new RcmError("STATE", "arbiter.join: it has been closed");
    if (joined) throw new RcmError("STATE", "arbiter.join: it has joined already");
    try {
      await tree.open(options.connectTimeoutMilli ?? CONNECT_TIMEOUT_MS);
      mine = "";
      if (tier !== "" && kind !== "none") {
        for (const folder of [folders.member, folders.observer]) await makeFolders(tree, folder);
        mine = `${folders[kind]}/${node}`;
        await takeName(state);
        tree.keep(mine, JSON.stringify(state), true);
      }
      lastShown = "";
      await tree.sync(tier === "" ? path : masterPath);
      const view = await readTier();
      joined = true;
      return show(view);
    } catch (error) {
      // Nothing of a session that failed to join stays behind.
      if (closing === null) tree.end();
      throw error;
    }
  }

  async function campaign(
    expectedVersion: number | null,
    record: MasterRecord,
  ): Promise<WriteResult> {
    requireJoined("campaign");
    if (claim === "standing") {
      throw new RcmError("STATE", "arbiter.campaign: a campaign is under way");
    }
    const held = claim === "held";
    claim = "standing";
    try {
      const result = await stand(expectedVersion, record);
      const isHeld = result.kind === "done" || held && result.view.running?.mine === true;
      if (claim === "standing") claim = isHeld ? "held" : "none";
      return result;
    } catch (error) {
      if (claim === "standing") claim = held ? "held" : "none";
      throw error;
    }
  }

  async function stand(
    expectedVersion: number | null,
    record: MasterRecord,
  ): Promise<WriteResult> {
    const data = masterText(record);
    const running: TreeChange = { op: "create", path: runningPath, data: node, ephemeral: true };
    const changes: TreeChange[] = expectedVersion === null
      ? [{ op: "create", path: masterPath, data }, running]
      : [{ op: "set", path: masterPath, data, version: expectedVersion }, running];
    const version = expectedVersion === null ? 0 : expectedVersion + 1;
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const outcome = await tree.change(changes);
      if (outcome === "missing" && expectedVersion === null) await makeFolders(tree, base);
      const view = outcome === "done" ? null : await read();
      const isDone = view === null || view.running?.mine === true &&
          view.master?.version === version && sameMaster(view.master.record, record);
      if (isDone) {
        claims += 1;
        tree.hold(runningPath, true);
        return { kind: "done", version };
      }
      const isOpen = view.running === null && (view.master?.version ?? null) === expectedVersion;
      if (isOpen && (outcome === "lost" || outcome === "missing")) continue;
      return { kind: "refused", why: refusal(view, outcome), view };
    }
    throw arbitrationError(`${runningPath}: ${TRIES_MAX} transactions were lost`);
  }

  function refusal(view: TierView, outcome: string): string {
    if (view.running !== null) return `${view.running.node} stands`;
    return `${masterPath} has version ${view.master?.version ?? "none"} (${outcome})`;
  }

  async function establish(expectedVersion: number, record: MasterRecord): Promise<WriteResult> {
    requireJoined("establish");
    const data = masterText(record);
    const version = expectedVersion + 1;
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const outcome = await tree.change([
        { op: "set", path: masterPath, data, version: expectedVersion },
      ]);
      if (outcome === "done") return { kind: "done", version };
      const view = await read();
      const found = view.master;
      // Only a lost answer may have been done: two that write the same are still two.
      const isOurs = outcome === "lost" || tries > 0;
      if (isOurs && found?.version === version && sameMaster(found.record, record)) {
        return { kind: "done", version };
      }
      if (outcome === "lost" && found?.version === expectedVersion) continue;
      return { kind: "refused", why: refusal(view, outcome), view };
    }
    throw arbitrationError(`${masterPath}: ${TRIES_MAX} writes were lost`);
  }

  async function resign(): Promise<void> {
    if (closing !== null) return;
    claim = "none";
    tree.hold(runningPath, false);
    while (joined && tier !== "") {
      const running = await tree.get(runningPath, true);
      if (running?.mine !== true) return;
      await tree.change([{ op: "remove", path: runningPath, version: -1 }]);
    }
  }

  async function readConfig(): Promise<string> {
    requireJoined("readConfig");
    const folder = `${path}/config`;
    await tree.sync(path);
    for (let reads = 0; reads < CONFIG_READS_MAX; reads += 1) {
      const before = await tree.get(folder, false);
      const names = requireParts(folder, await tree.children(folder, false));
      const parts: (string | undefined)[] = [];
      for (const name of names) parts.push((await tree.get(`${folder}/${name}`, false))?.data);
      const after = await tree.get(folder, false);
      const isWhole = parts.every((part) => part !== undefined);
      if (isWhole && before?.version === after?.version) return parts.join("");
    }
    throw arbitrationError(`${folder} changes all the time`);
  }

  return {
    handle: tree.handle,
    get session(): SessionState {
      return closing !== null ? "closed" : tree.session;
    },
    join,
    read,
    campaign,
    establish,
    resign,
    publish(state) {
      if (joined && mine !== "") tree.keep(mine, JSON.stringify(state), false);
    },
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    readConfig,
    lease: () => tree.lease(),
    close() {
      closing ??= tree.close(options.closeTimeoutMilli ?? tree.timeoutMilli);
      return closing;
    },
  };
}
