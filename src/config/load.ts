/** Reading a configuration: a file or an object, checked as a whole. */

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { RcmError } from "../errors.ts";
import { checkAcross } from "./cross_checks.ts";
import { configError, createFaults, type Faults, show } from "./faults.ts";
import { JsonTextError, parseJsonText } from "./json_text.ts";
import type { RcmConfigInput } from "./key_types.ts";
import { keysAt } from "./keys.ts";
import { type Model, readModel } from "./model.ts";
import { suggestion } from "./names.ts";
import { checkKeys, type CheckOptions, coreCount, isRecord } from "./values.ts";

/** A configuration without faults. */
export interface LoadedConfig {
  /** What was read: the file's name, or `"the configuration"`. */
  readonly origin: string;
  readonly clusterId: number;
  readonly model: Model;
}

/** What a check depends on besides the configuration. */
export interface LoadOptions {
  /** Number of processor cores; default: those of this machine. */
  readonly cores?: number | undefined;
}

/** Name of what was given as an object. */
const OBJECT_ORIGIN = "the configuration";

/**
 * Reads a configuration and checks all of it, contexts and keys that this version can't run
 * included.
 *
 * @param source path or file URL of a JSON file (commas after the last element and comments are
 * allowed), or its content as an object
 * @throws RcmError `CONFIG` with one line for each fault in `details`; `ARGUMENT` when the source
 * is neither a path, a file URL, nor an object
 */
export function loadConfig(
  source: string | URL | RcmConfigInput,
  options: LoadOptions = {},
): LoadedConfig {
  return checkSource((faults) => readSource(source, faults), options);
}

/**
 * The same for a text that was read elsewhere.
 * @param origin what it is called in messages
 */
export function loadConfigText(
  text: string,
  origin: string,
  options: LoadOptions = {},
): LoadedConfig {
  return checkSource((faults) => readText(text, origin, faults), options);
}

function checkSource(
  read: (faults: Faults) => { origin: string; value: unknown },
  options: LoadOptions,
): LoadedConfig {
  const faults = createFaults();
  const { origin, value } = read(faults);
  const check = { faults, cores: () => options.cores ?? coreCount() };
  const { clusterId, model } = readRoot(value, check);
  if (model !== undefined) checkAcross(model, faults);
  if (faults.lines.length > 0 || model === undefined) throw configError(origin, faults.lines);
  return { origin, clusterId, model };
}

function readSource(source: unknown, faults: Faults): { origin: string; value: unknown } {
  if (typeof source === "string") return readFile(source, faults);
  if (source instanceof URL) {
    if (source.protocol !== "file:") {
      const what = `a configuration is read from a file: URL, not from ${source.protocol}`;
      throw new RcmError("ARGUMENT", what);
    }
    return readFile(fileURLToPath(source), faults);
  }
  if (isRecord(source)) return { origin: OBJECT_ORIGIN, value: source };
  const what = `a configuration is a path, a file URL or an object, not ${show(source)}`;
  throw new RcmError("ARGUMENT", what);
}

function readFile(path: string, faults: Faults): { origin: string; value: unknown } {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw configError(show(path), [`it can't be read: ${reason}`], { cause });
  }
  return readText(text, basename(path), faults);
}

function readText(
  text: string,
  origin: string,
  faults: Faults,
): { origin: string; value: unknown } {
  try {
    const { value, repeated } = parseJsonText(text);
    for (const { line, column, key } of repeated) {
      const at = { path: `line ${line}, column ${column}`, label: "" };
      faults.expected(at, "each key of an object once", `${show(key)} again`);
    }
    return { origin, value };
  } catch (cause) {
    if (!(cause instanceof JsonTextError)) throw cause;
    throw configError(origin, [cause.message], { cause });
  }
}

/** The file is `{ "Rcm": { ... } }`, and may name its schema for editors. */
function readRoot(
  root: unknown,
  options: CheckOptions,
): { clusterId: number; model: Model | undefined } {
  const { faults } = options;
  const none = { clusterId: 0, model: undefined };
  if (!isRecord(root)) {
    faults.expected({ path: "the whole", label: "" }, 'an object { "Rcm": ... }', show(root));
    return none;
  }
  let top = root["Rcm"];
  for (const [name, value] of Object.entries(root)) {
    if (name === "Rcm" || value === undefined) continue;
    const at = { path: name, label: "" };
    if (name === "$schema") {
      if (typeof value !== "string") faults.expected(at, "the address of a schema", show(value));
    } else if (keysAt("top").some((key) => key.name === name)) {
      faults.add(at, `not a key of the whole, but of Rcm: { "Rcm": { "${name}": ... } }`);
    } else {
      faults.expected(at, 'the key "Rcm"', show(name), suggestion(name, ["Rcm"]));
      // "RCM" or "rcm" was meant.
      if (top === undefined && name.toLowerCase() === "rcm") top = value;
    }
  }
  if (!isRecord(top)) {
    faults.expected({ path: "Rcm", label: "" }, "an object", show(top));
    return none;
  }
  const { values, wrong } = checkKeys("top", top, { path: "Rcm", label: "" }, options);
  for (const name of ["Transports", "Contexts"]) {
    if (values.has(name) || wrong.has(name)) continue;
    faults.expected({ path: `Rcm.${name}`, label: "" }, "an array of 1..65535 entries", "nothing");
  }
  const clusterId = values.get("ClusterId");
  return {
    clusterId: typeof clusterId === "number" ? clusterId : 0,
    model: readModel(top, options),
  };
}
