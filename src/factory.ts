/** The factory: one configuration, its contexts, its log, its events (guide 7.1, 9.1, 9.13). */

import { join, resolve } from "node:path";
import process from "node:process";
import type { RcmContext, RcmFactory } from "./api.ts";
import { checkArbPath, parseArbAddress } from "./arbitration/address.ts";
import { readArbConfig } from "./arbitration/config_read.ts";
import {
  configView,
  contextName,
  contextNames,
  loadConfig,
  loadConfigText,
  type LoadedConfig,
  type RcmConfigInput,
  resolveContext,
  transportInfo,
} from "./config/mod.ts";
import { createContext, type FactoryContext } from "./context.ts";
import { RcmError } from "./errors.ts";
import { makeFolder } from "./folders.ts";
import * as abi from "./native/abi.ts";
import { nativeLibrary, nativeVersion } from "./native/library.ts";
import { createEventHub } from "./observe/events.ts";
import { openLogSink } from "./observe/logger.ts";
import {
  parseStatisticsRequest,
  readSnapshot,
  statisticsText,
  type StatsContext,
} from "./observe/statistics.ts";

/** Longest prefix of file names in `/dev/shm`, in bytes. */
const PREFIX_BYTES_MAX = 200;

/** Names of the contexts of this realm that have not stopped. */
const openNames = new Set<string>();

/** A context of a factory, and what its statistics need. */
interface Member {
  readonly name: string;
  readonly context: FactoryContext;
  readonly statistics: () => StatsContext;
  /** It has stopped: another may have its name. */
  stopped: boolean;
}

/**
 * The library's version (guide 9.1.3).
 *
 * @returns for example `"rcm version V1.0.0.0 ..."`, as `strings librcm.so` shows it
 * @throws RcmError `NATIVE` when the native library can't be opened
 */
export function getRcmVersion(): string {
  return nativeVersion();
}

/**
 * Creates a factory: checks the whole configuration and opens the native library, but no socket
 * and no file besides `<workDir>/log/` (guide 7.1.1, 9.1.1).
 *
 * @param config path or file URL of a JSON file, or its content as an object; null: the
 * configuration is read from arbitration (`setArbArg`)
 * @param workDir where `log/` is made; absent: the current directory
 * @param lang language of log texts; absent: `"zh_CN"`
 * @throws RcmError `CONFIG` with one line a fault in `details`, `ARGUMENT`, `NATIVE` when the
 * library is missing or does not fit
 *
 * @example A factory from an object
 * ```ts ignore
 * await using factory = newRcmFactory({
 *   Rcm: {
 *     Transports: [{ Id: 1, Topic: "orders", Addr: "239.0.1.1", Port: 30000 }],
 *     Contexts: [{ Name: "gateway", Id: 1, Ip: "127.0.0.1", TxTopics: [{ Name: "orders" }] }],
 *   },
 * }, "/var/rcm");
 * ```
 */
export function newRcmFactory(
  config: string | URL | RcmConfigInput | null,
  workDir?: string,
  lang: "zh_CN" | "en_US" = "zh_CN",
): RcmFactory {
  if (lang !== "zh_CN" && lang !== "en_US") {
    throw new RcmError(
      "ARGUMENT",
      `newRcmFactory: lang is "zh_CN" or "en_US", not ${JSON.stringify(lang)}`,
    );
  }
  let loaded = config === null ? null : loadConfig(config);
  const library = nativeLibrary();
  const home = resolve(workDir ?? process.cwd());
  const folder = join(home, "log");
  makeFolder(folder, "newRcmFactory");
  const log = openLogSink({ folder, lang });
  const events = createEventHub(log);
  const members = new Set<Member>();
  const known = new WeakSet<RcmContext>();
  let prefix = "";
  let arbitration: { readonly address: string; readonly path: string } | null = null;
  let hadContext = false;
  let deleting: Promise<void> | null = null;

  function requireAlive(call: string): void {
    if (deleting !== null) throw new RcmError("STATE", `${call}: the factory has been deleted`);
  }

  function requireConfig(call: string): LoadedConfig {
    requireAlive(call);
    if (loaded !== null) return loaded;
    if (arbitration === null) {
      throw new RcmError(
        "STATE",
        `${call}: the configuration is to come from arbitration, and setArbArg has not been called`,
      );
    }
    const { address, path } = arbitration;
    loaded = loadConfigText(readArbConfig(library, address, path), `${path}/config`);
    return loaded;
  }

  function newRcmContext(name: string): RcmContext {
    const configured = requireConfig("newRcmContext");
    const plan = resolveContext(configured, name);
    const { tierName, unsupportedKeys } = plan;
    if (openNames.has(name)) {
      throw new RcmError("STATE", `newRcmContext: ${name} is open in this process already`);
    }
    if (unsupportedKeys.length > 0) {
      throw new RcmError(
        "UNSUPPORTED",
        `context ${name} uses ${unsupportedKeys.join(", ")}: not supported by this version`,
        { details: unsupportedKeys },
      );
    }
    if (plan.tier !== null && arbitration === null) {
      throw new RcmError(
        "STATE",
        `newRcmContext: context ${name} is a member of tier ${plan.tier.name}: call setArbArg first`,
      );
    }
    for (const old of [...members]) if (old.name === name && old.stopped) members.delete(old);
    hadContext = true;
    openNames.add(name);
    const context = createContext({
      plan,
      prefix,
      workDir: home,
      tierName,
      arbitration,
      contexts: contextNames(configured),
      library,
      log,
      events,
      onStopped() {
        openNames.delete(name);
        member.stopped = true;
      },
    });
    const member: Member = {
      name,
      context,
      stopped: false,
      statistics() {
        const bytes = context.snapshot();
        return {
          contextId: plan.context.id,
          context: name,
          tierName,
          role: context.getRole(),
          refusedCount: context.refusals(),
          transport: (id) => transportInfo(configured, id),
          contextName: (id) => contextName(configured, id),
          snapshot: bytes === null ? null : readSnapshot(bytes, abi),
        };
      },
    };
    members.add(member);
    known.add(context);
    return context;
  }

  async function deleteRcmContext(context: RcmContext): Promise<void> {
    if (!known.has(context)) {
      throw new RcmError("ARGUMENT", "deleteRcmContext: not a context of this factory");
    }
    await context.stop();
    for (const member of [...members]) if (member.context === context) members.delete(member);
  }

  function deleteFactory(): Promise<void> {
    deleting ??= (async () => {
      const results = await Promise.allSettled([...members].map(({ context }) => context.stop()));
      members.clear();
      log.close();
      for (const result of results) if (result.status === "rejected") throw result.reason;
    })();
    return deleting;
  }

  const factory: RcmFactory = {
    newRcmContext,
    deleteRcmContext,
    getConfig: () => configView(requireConfig("getConfig")),
    getStatistics(request) {
      requireAlive("getStatistics");
      const wanted = parseStatisticsRequest(request);
      const contexts = [...members]
        .filter(({ name }) => wanted.context === undefined || wanted.context === name)
        .map((member) => member.statistics());
      return statisticsText(wanted, contexts, abi);
    },
    setLogArg(minLevel, logger = null) {
      requireAlive("setLogArg");
      log.setLogArg(minLevel, logger);
    },
    setArbArg(address, path) {
      requireAlive("setArbArg");
      requireNoContext("setArbArg");
      parseArbAddress(address);
      checkArbPath(path);
      arbitration = { address, path };
      // What was read from somewhere else is not this.
      if (config === null) loaded = null;
    },
    setEventCallback(cb, user) {
      requireAlive("setEventCallback");
      events.setEventCallback(cb, user);
    },
    setFilePrefix(wanted) {
      requireAlive("setFilePrefix");
      requireNoContext("setFilePrefix");
      checkPrefix(wanted);
      prefix = wanted;
    },
    [Symbol.asyncDispose]: deleteFactory,
  };

  function requireNoContext(call: string): void {
    if (hadContext) throw new RcmError("STATE", `${call}: comes before the first context`);
  }

  return factory;
}

/**
 * Stops all contexts of a factory and forgets it (guide 7.1.2, 9.1.2); again: nothing.
 *
 * @throws RcmError `ARGUMENT` (as a rejection) for anything else than a factory
 */
export async function deleteRcmFactory(f: RcmFactory): Promise<void> {
  const dispose = (f as Partial<RcmFactory> | null)?.[Symbol.asyncDispose];
  if (typeof dispose !== "function" || typeof f.newRcmContext !== "function") {
    throw new RcmError("ARGUMENT", "deleteRcmFactory: not a factory");
  }
  await dispose.call(f);
}

/** A prefix is text that makes file names, and folders where it has a `/`. */
function checkPrefix(prefix: string): void {
  const fault = prefixFault(prefix);
  if (fault !== null) {
    throw new RcmError("ARGUMENT", `setFilePrefix: ${JSON.stringify(prefix)} ${fault}`);
  }
}

function prefixFault(prefix: string): string | null {
  if (typeof prefix !== "string") return "is not a string";
  // deno-lint-ignore no-control-regex -- these are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(prefix)) return "has control characters";
  if (new TextEncoder().encode(prefix).byteLength > PREFIX_BYTES_MAX) {
    return `is over ${PREFIX_BYTES_MAX} bytes`;
  }
  const folders = prefix.split("/").slice(0, -1);
  if (folders.some((part) => part === "")) return "has an empty folder's name";
  const parts = prefix.split("/");
  if (parts.some((part) => part === "." || part === "..")) return 'has a part "." or ".."';
  return null;
}
