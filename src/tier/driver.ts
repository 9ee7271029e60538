/**
 * Between a tier's native member, which decides, and its arbiter, which carries out: views of the
 * tree go one way, commands and their answers the other. It has no rule of the election in it; what
 * it must keep is the order: a member sees the view that refused its command before the answer.
 */

import type {
  Arbiter,
  MemberState,
  SessionState,
  TierView,
  WriteResult,
} from "../arbitration/arbiter.ts";
import type { RcmError } from "../errors.ts";
import {
  answerBytes,
  type Command,
  createCommandReader,
  createViewWriter,
  NO_VERSION,
  type Outcome,
  recordOfLeader,
  recordOfWin,
} from "./codec.ts";

/** How long between two tries to join again after the session expired, in milliseconds. */
const REJOIN_MS = 250;

/** The native member, as the driver needs it. */
export interface TierNative {
  view(bytes: Uint8Array<ArrayBuffer>): void;
  answer(bytes: Uint8Array<ArrayBuffer>): void;
  /** True: a command was written into `bytes`. */
  command(bytes: Uint8Array<ArrayBuffer>): boolean;
}

/** What a driver is made of. */
export interface TierDriverOptions {
  readonly arbiter: Arbiter;
  readonly native: TierNative;
  /** Names of the members, observers aside, in the order of their ids. */
  readonly members: readonly string[];
  /** Name of this context. */
  readonly self: string;
  readonly isObserver: boolean;
  /** What stands in `classer/<self>`. */
  state(): MemberState;
  /** Something went wrong that nobody waits for. */
  onFault(text: string): void;
}

/** A member's way to its arbiter. */
export interface TierDriver {
  /**
   * Joins, and gives the member its first view.
   * @throws RcmError `ARBITRATION` where the arbiter can't be reached or the name is taken
   */
  join(): Promise<void>;
  /** Takes what the member asks for. To be called when it may have something; cheap. */
  pump(): void;
  /** The member's state may have changed: it is written with the next lease. */
  publish(): void;
  /** Waits for what is under way, and ends the session. */
  close(): Promise<void>;
}

/** @returns a driver that has not joined */
export function createTierDriver(options: TierDriverOptions): TierDriver {
  const { arbiter, native, members, self } = options;
  const writeView = createViewWriter(members, self);
  const commands = createCommandReader(members);
  let last: TierView | null = null;
  let working: Promise<void> = Promise.resolve();
  let busy = false;
  let closed = false;
  let rejoining: Promise<void> | null = null;

  const unwatch = arbiter.watch({
    onView: show,
    onSession,
    onWatchdog: () => options.onFault("the engine did not run for a third of SessionTimeoutMilli"),
    onFault: options.onFault,
  });

  function show(view: TierView): void {
    last = view;
    tellView(view, arbiter.session);
  }

  function tellView(view: TierView, session: SessionState): void {
    if (closed) return;
    native.view(writeView(view, session));
    pump();
  }

  function onSession(session: SessionState): void {
    if (closed || last === null) return;
    if (session !== "connected") tellView(last, session);
    if (arbiter.session === "expired") rejoining ??= rejoin().finally(() => rejoining = null);
  }

  async function rejoin(): Promise<void> {
    while (!closed) {
      try {
        show(await arbiter.join(options.state(), options.isObserver ? "observer" : "member"));
        return;
      } catch (error) {
        if (closed) return;
        options.onFault(textOf(error));
        await new Promise<void>((resolve) => setTimeout(resolve, REJOIN_MS));
      }
    }
  }

  function pump(): void {
    if (busy || closed) return;
    if (!native.command(commands.bytes)) return;
    const command = commands.read();
    busy = true;
    working = carryOut(command).catch((error) => options.onFault(textOf(error))).finally(() => {
      busy = false;
      pump();
    });
  }

  async function carryOut(command: Command): Promise<void> {
    try {
      const result = await write(command);
      if (result.kind === "refused") {
        show(result.view);
        answer(command, "refused", NO_VERSION);
      } else answer(command, "done", result.version);
    } catch (error) {
      options.onFault(textOf(error));
      answer(command, "unknown", NO_VERSION);
      await arbiter.read().then(show).catch(() => {}); // the next session brings a view
    }
  }

  function answer(command: Command, outcome: Outcome, version: number): void {
    if (!closed) native.answer(answerBytes(command.serial, outcome, version));
  }

  async function write(command: Command): Promise<WriteResult> {
    const before = last?.master ?? null;
    switch (command.kind) {
      case "campaign": {
        const version = before?.version ?? NO_VERSION;
        if (last === null || version !== command.version) {
          return { kind: "refused", why: "the tree has changed", view: await arbiter.read() };
        }
        const record = recordOfWin(command, self, before?.record ?? null);
        return await arbiter.campaign(before?.version ?? null, record);
      }
      case "establish":
        return await arbiter.establish(command.version, recordOfLeader(command, self));
      case "resign":
        await arbiter.resign();
        return { kind: "done", version: NO_VERSION };
      case "read":
        show(await arbiter.read());
        return { kind: "done", version: NO_VERSION };
    }
  }

  return {
    async join() {
      show(await arbiter.join(options.state(), options.isObserver ? "observer" : "member"));
    },
    pump,
    publish() {
      if (!closed) arbiter.publish(options.state());
    },
    async close() {
      pump();
      await working;
      pump();
      await working;
      closed = true;
      unwatch();
      await arbiter.close();
    },
  };
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error as RcmError).message : String(error);
}
