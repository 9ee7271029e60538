/** What `setArbArg` is given (guide 9.13.6): servers or a folder, and a path in their tree. */

import { tmpdir } from "node:os";
import process from "node:process";
import { RcmError } from "../errors.ts";

/** Where arbitration lives. */
export type ArbAddress =
  | {
    readonly kind: "zookeeper";
    /** `host:port,host:port`, with a chroot behind it where one was given. */
    readonly hosts: string;
    /** `user:password`, or "". */
    readonly auth: string;
  }
  | { readonly kind: "local"; readonly folder: string };

/** The port of a server that is named without one. */
const DEFAULT_PORT = 2181;

/**
 * Reads the first argument of `setArbArg`:
 *
 * - `"192.168.86.102:2181"`, `"a:2181,b:2181,c:2181"`: ZooKeeper servers; port 2181 where none is
 *   given; `"a:2181/chroot"`: paths are below that node, which must exist
 * - `"digest:user:password@a:2181,..."`: authenticates, and what is made belongs to that user alone
 * - `"local:"`, `"local:/folder"`: a folder of this machine, without a service; the default is
 *   `/var/tmp/rcm-arbiter-<uid>`, which survives a restart of the machine
 *
 * @throws RcmError `ARGUMENT`
 */
export function parseArbAddress(address: string): ArbAddress {
  if (typeof address !== "string" || address === "") throw refuse(address, "is no text");
  // deno-lint-ignore no-control-regex -- these are what is looked for
  if (/[\u0000-\u0020\u007f]/.test(address)) throw refuse(address, "has a blank in it");
  if (address.startsWith("local:")) return parseLocal(address);
  const { auth, rest } = splitAuth(address);
  const slash = rest.indexOf("/");
  const list = slash < 0 ? rest : rest.slice(0, slash);
  const chroot = slash < 0 ? "" : rest.slice(slash);
  if (chroot !== "") checkArbPath(chroot);
  const hosts = list.split(",").map((host) => withPort(host, address));
  return { kind: "zookeeper", hosts: hosts.join(",") + chroot, auth };
}

function parseLocal(address: string): ArbAddress {
  const given = address.slice("local:".length);
  if (given !== "" && !given.startsWith("/")) {
    throw refuse(address, "names a folder that does not begin with /");
  }
  if (given !== "") return { kind: "local", folder: given.replace(/\/+$/, "") || "/" };
  const uid = process.getuid?.() ?? 0;
  return { kind: "local", folder: `${varTmp()}/rcm-arbiter-${uid}` };
}

/** Unlike `/tmp` it is kept when the machine restarts; `TMPDIR` names another place. */
const varTmp = (): string => process.env["TMPDIR"] === undefined ? "/var/tmp" : tmpdir();

function splitAuth(address: string): { auth: string; rest: string } {
  const at = address.lastIndexOf("@");
  if (!address.startsWith("digest:")) {
    if (at >= 0) throw refuse(hide(address), 'has an @; authentication is "digest:user:password@"');
    return { auth: "", rest: address };
  }
  const auth = address.slice("digest:".length, Math.max(at, 0));
  if (!/^[^:]+:.+$/.test(auth)) {
    throw refuse(hide(address), 'is not "digest:user:password@host:port,..."');
  }
  return { auth, rest: address.slice(at + 1) };
}

function withPort(host: string, address: string): string {
  const match = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?$/.exec(host);
  const port = Number(match?.[2] ?? DEFAULT_PORT);
  if (match === null || port < 1 || port > 65535) {
    throw refuse(hide(address), `${JSON.stringify(host)} is not host:port`);
  }
  return `${match[1]}:${port}`;
}

/** An address as it may be shown: without a password. */
export function hide(address: string): string {
  return address.replace(/^digest:([^:]*):.*@/, "digest:$1:***@");
}

function refuse(address: unknown, what: string): RcmError {
  return new RcmError("ARGUMENT", `setArbArg: the address ${JSON.stringify(address)} ${what}`);
}

/**
 * Checks the second argument of `setArbArg`: `"/rcm"`.
 * @throws RcmError `ARGUMENT`
 */
export function checkArbPath(path: string): void {
  const parts = typeof path === "string" ? path.split("/") : [];
  const isWhole = parts.length >= 2 && parts[0] === "";
  // deno-lint-ignore no-control-regex -- these are what is looked for
  const isGood = (part: string) => !/^$|^\.\.?$|[\u0000-\u001f\u007f-\u009f]/.test(part);
  if (isWhole && parts.slice(1).every(isGood)) return;
  throw new RcmError(
    "ARGUMENT",
    `setArbArg: the path ${JSON.stringify(path)} is not like "/rcm": it begins with /, ends ` +
      `without one, and no part is empty, "." or ".."`,
  );
}
