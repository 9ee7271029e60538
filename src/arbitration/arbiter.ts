/**
 * The arbiter: what a tier asks of ZooKeeper, or of a folder on one machine (`local:`).
 *
 * It holds a small tree (guide 8.1) and nothing of the election's rules:
 *
 *     <path>/config/1..n                      configuration, concatenated in numeric order
 *     <path>/cluster_<Tier>/classer/<Node>    ephemeral: MemberState
 *     <path>/cluster_<Tier>/master            persistent, versioned: MasterRecord
 *     <path>/cluster_<Tier>/master/running    ephemeral: the candidate's or leader's session lives
 *     <path>/cluster_<Tier>/observer/<Node>   ephemeral: MemberState
 *
 * What the two implementations promise alike, and what an election may rest on:
 *
 * - `master` changes only by `campaign` and `establish`, each conditional on the version that the
 *   caller names: of two that name the same version one is done. `campaign` also makes `running`,
 *   in the same transaction: while `running` exists nobody wins.
 * - An ephemeral is gone when its session is: at once after `close` or `resign`, soon after the
 *   process died (`local:` a few milliseconds, ZooKeeper its session's time-out T), after T when it
 *   is paused or cut off.
 * - An answer that the network lost is never guessed: the arbiter reads again and compares before
 *   it says `"done"` or `"refused"`; where it can't know, the call rejects with `ARBITRATION` and
 *   the caller reads again by `read()`.
 * - A view may be old by the time it is seen. Nothing rests on its being fresh: what follows from
 *   it is conditional on the version in it.
 *
 * One member of a tier, from start to stop:
 *
 *     const arbiter = await openArbiter(library, { address, path, tier, node, ... });
 *     const unwatch = arbiter.watch({ onView, onSession });
 *     const view = await arbiter.join(state, "member");          // classer/<me>, first view
 *     if (view.running === null) {
 *       const version = view.master?.version ?? null;
 *       const won = await arbiter.campaign(version, { candidate, epoch, established });
 *       if (won.kind === "done") {                               // promises, takeover, then
 *         const done = await arbiter.establish(won.version, { ...record, established });
 *         if (done.kind === "refused") await arbiter.resign();   // step down at once
 *       }
 *     }
 *     await arbiter.close();
 *
 * Everything runs on the event loop of the thread that made it; listeners are called from it and
 * never from inside a call. The lease alone is native: `handle` leads the engine to it (see
 * `native/src/arbiter/lease.zig`).
 */

/** An epoch of a tier: ordered by number, then id; equal only when both are. */
export interface Epoch {
  /** 1, 2, 3, ...; 0 is "none". At most 2^53 - 1. */
  readonly number: number;
  /** Random, 0..2^53 - 1: two winners with one number (after a wiped tree) differ in it. */
  readonly id: number;
}

/** Who may lead, and what a commit needs, as the leader of an epoch has established it. */
export interface Established {
  readonly epoch: Epoch;
  /** The node that leads. */
  readonly leader: string;
  /** Nodes of which a commit needs acknowledgements, the leader among them, sorted. */
  readonly S: readonly string[];
  /** Other members of S that have to acknowledge; 0: the leader alone. */
  readonly need: number;
}

/** What stands in `master`. */
export interface MasterRecord {
  /** The node that won `running` last. */
  readonly candidate: string;
  /** The epoch it won with. */
  readonly epoch: Epoch;
  /** null: nothing was ever established on this tree. */
  readonly established: Established | null;
  /** An operator's `rcm tier force-leader`: the node that may lead without the usual condition. */
  readonly forced?: { readonly node: string; readonly timeMilli: number };
}

/** What stands in `classer/<Node>` and `observer/<Node>`. */
export interface MemberState {
  /** Last epoch whose leader's log was taken over; null: none. */
  readonly adopted: Epoch | null;
  /** The next sqn: 0 for an empty log. */
  readonly lastSqn: number;
  /** Where it takes tier datagrams: `"ip:port"`. */
  readonly address: string;
  /** Its log is whole (`intact`), for people and `rcm members`; nothing rests on it. */
  readonly intact?: boolean;
  /** Its role, for people and `rcm members`; nothing rests on it. */
  readonly role?: string;
}

/** A member as it was read. */
export interface MemberView {
  readonly node: string;
  /** null: its data could not be read (it left in between, or wrote something else). */
  readonly state: MemberState | null;
}

/** The tree of one tier as it was read. The parts are read one after the other. */
export interface TierView {
  /** null: there is no record yet (a new or a wiped tree). */
  readonly master: { readonly record: MasterRecord; readonly version: number } | null;
  /** null: nobody stands; `mine`: it belongs to this arbiter's session. */
  readonly running: { readonly node: string; readonly mine: boolean } | null;
  /**
   * Nodes of `classer`, sorted. Their states are read when the list of names changes and by
   * `read()`, not whenever a member writes.
   */
  readonly members: readonly MemberView[];
  /** Nodes of `observer`, sorted. */
  readonly observers: readonly MemberView[];
}

/**
 * - `"connecting"`: never connected since `join`
 * - `"connected"`: requests are answered
 * - `"suspended"`: the link is lost, the session may live on; ephemerals are still there
 * - `"expired"`: the session is over, its ephemerals are gone or will be; `join` begins a new one
 * - `"closed"`: after `close`, and before the first `join`
 */
export type SessionState = "connecting" | "connected" | "suspended" | "expired" | "closed";

/** A conditional write: done, with the version that it made; or refused, with what stands there. */
export type WriteResult =
  | { readonly kind: "done"; readonly version: number }
  | { readonly kind: "refused"; readonly why: string; readonly view: TierView };

/** Never called inside a call of the arbiter; what one throws is told to its `onFault`. */
export interface ArbiterListener {
  /** The tree changed, or the first view after a (re)connection. Views come in order. */
  onView?(view: TierView): void;
  /** The session's state changed. After `"expired"`: step down, then `join` again. */
  onSession?(state: SessionState, why: string): void;
  /**
   * The watchdog has given `running` up: the engine had not run for T/3. Step down; `join` is still
   * valid with ZooKeeper, with `local:` the session has ended too (`"expired"` follows).
   */
  onWatchdog?(): void;
  /** A listener threw, or the tree holds something unreadable: for the log. */
  onFault?(text: string): void;
}

/** How the lease stands, for statistics and tests; the engine reads it in native memory. */
export interface LeaseView {
  /** Milliseconds that it is still good for; 0: it is over, or there is none. */
  readonly leftMilli: number;
  /** T as negotiated, in milliseconds; 0 before the first connection. */
  readonly sessionTimeoutMilli: number;
  /** `running` is this session's (as told by `campaign` and `resign`). */
  readonly holds: boolean;
}

/** One member's way to the tree of its tier. */
export interface Arbiter {
  /**
   * Number of the native side: hand it to the tier engine, which finds lease and heart by it. The
   * same for the arbiter's life, through all its sessions.
   */
  readonly handle: number;
  /** State of the session now. */
  readonly session: SessionState;

  /**
   * Opens a session (again after `"expired"`) and makes `classer/<me>` or `observer/<me>`; parents
   * and `<path>` are made where they are missing.
   *
   * Where another session holds the name it waits up to 2T (the session of a process that died
   * goes by itself), and never deletes it.
   *
   * @param kind `"none"`: only connects, for tools that read and `rcm config push`
   * @returns the first view, read after a sync
   * @throws RcmError `ARBITRATION`: no server answers within `connectTimeoutMilli`, the chroot of
   * the address does not exist, authentication is needed, "already running", `master` holds no
   * record; nothing is left behind then, and it may be called again; `STATE`: joined already, or
   * closed
   */
  join(state: MemberState, kind?: "member" | "observer" | "none"): Promise<TierView>;

  /** Reads the tree, states of members too, after a sync: as new as the moment of the call. */
  read(): Promise<TierView>;

  /**
   * Stands for election: one transaction that sets `master` and makes `running`.
   *
   * @param expectedVersion of the view that the record was made from; null: there is no `master`
   * @param record with `established` (and `forced`) unchanged from that view
   * Where the promise rejects, the transaction may still be done when the link is back: the arbiter
   * then gives `running` up by itself as soon as it sees it. `master` may then name this candidate.
   *
   * @returns `"done"`: this node is the only candidate, and `version` is what `establish` names
   * first; `"refused"`: somebody else stands or stood
   * @throws RcmError `ARBITRATION`: it is not known, or there is no session; `STATE`: a campaign is
   * under way
   */
  campaign(expectedVersion: number | null, record: MasterRecord): Promise<WriteResult>;

  /**
   * Writes `master` if it still has that version: the first establishment, a change of (S, need),
   * an operator's `forced`. A leader or candidate that is refused steps down at once.
   *
   * While the answer is on its way both pairs (S, need) are in force; a rejection means that it is
   * not known which one stands: go on with both and `read()`, or step down.
   */
  establish(expectedVersion: number, record: MasterRecord): Promise<WriteResult>;

  /** Gives `running` up, if it is this session's; the lease ends first. Nothing otherwise. */
  resign(): Promise<void>;

  /**
   * Writes this member's state. It goes with the next write of the lease (within T/4) and is kept
   * for all later ones; nothing is lost when the link is down.
   */
  publish(state: MemberState): void;

  /** Watches the tree and the session until the returned function is called. */
  watch(listener: ArbiterListener): () => void;

  /**
   * @returns the nodes of `<path>/config`, concatenated in numeric order
   * @throws RcmError `ARBITRATION` when there is none
   */
  readConfig(): Promise<string>;

  /** How the lease stands. */
  lease(): LeaseView;

  /**
   * Ends the session: ephemerals go at once if a server can be reached. Never blocks the event
   * loop; resolves when the client is gone (a frozen server: up to `closeTimeoutMilli`, the rest is
   * left to a native thread). Again: nothing.
   */
  close(): Promise<void>;
}

/** Where a tier's tree lies, and who asks. */
export interface ArbiterOptions {
  /** First argument of `setArbArg`: see `parseArbAddress`. */
  readonly address: string;
  /** Second argument of `setArbArg`: `"/rcm"`; with `local:` a name below the folder. */
  readonly path: string;
  /** `TierName`; "" for tools that only read or push configuration. */
  readonly tier: string;
  /** Name of the context. */
  readonly node: string;
  /** `SessionTimeoutMilli` asked for (800..60000); the servers may answer another. */
  readonly sessionTimeoutMilli: number;
  /** How long `join` waits for a first connection; default 10 s. */
  readonly connectTimeoutMilli?: number;
  /** How long `close` waits; default: T. */
  readonly closeTimeoutMilli?: number;
}

/** @returns below 0: `a` is the older epoch; 0: they are one; null is older than any */
export function compareEpochs(a: Epoch | null, b: Epoch | null): number {
  if (a === null || b === null) return (a === null ? 0 : 1) - (b === null ? 0 : 1);
  return a.number === b.number ? a.id - b.id : a.number - b.number;
}
