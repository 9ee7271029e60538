/** Configurations for tests, each made anew, and what loading them says. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { loadConfig, type RcmConfigInput } from "../src/config/mod.ts";
import { parseJsonText } from "../src/config/json_text.ts";
import { RcmError } from "../src/errors.ts";

/** An entry under construction. */
export type Loose = Record<string, unknown>;

/** A configuration under construction. */
export interface Sample {
  Rcm: { Transports: Loose[]; Contexts: Loose[]; [key: string]: unknown };
}

/** Topic "t" from context "a" to context "b". */
export function simple(): Sample {
  return {
    Rcm: {
      Transports: [{ Id: 1, Topic: "t", Addr: "239.0.0.1", Port: 30000 }],
      Contexts: [
        { Name: "a", Id: 1, Ip: "127.0.0.1", TxTopics: [{ Name: "t" }] },
        { Name: "b", Id: 2, Ip: "127.0.0.1", RxTopics: [{ Name: "t" }] },
      ],
    },
  };
}

/** Context "a" sends to the tier "T" of "m1" and "m2". */
export function tier(): Sample {
  const member = {
    Ip: "127.0.0.1",
    IsSingleton: 0,
    TierName: "T",
    SyncAddr: "239.4.1.1",
    SyncPort: 30000,
    RxTopics: [{ Name: "t" }],
  };
  const sample = simple();
  sample.Rcm.Contexts = [
    { Name: "a", Id: 1, Ip: "127.0.0.1", TxTopics: [{ Name: "t" }] },
    { Name: "m1", Id: 2, ...member },
    { Name: "m2", Id: 3, ...member },
  ];
  return sample;
}

/** Changes entries: `"Contexts[0]"` of a sample takes the values given. */
export function change(sample: Sample, changes: Record<string, Loose>): Sample {
  for (const [place, values] of Object.entries(changes)) {
    const [, array, index] = /^(Transports|Contexts)\[(\d+)\]$/.exec(place) ?? [];
    assert.ok(array === "Transports" || array === "Contexts", place);
    const entries = sample.Rcm[array];
    entries[Number(index)] = { ...entries[Number(index)], ...values };
  }
  return sample;
}

/** What is loaded as if it were right, however wrong it is. */
export function asInput(value: unknown): RcmConfigInput {
  return value as RcmConfigInput;
}

/** The lines of the one error; [] when there is none. */
export function faultsOf(value: unknown): readonly string[] {
  try {
    loadConfig(asInput(value), { cores: 8 });
    return [];
  } catch (error) {
    assert.ok(error instanceof RcmError, String(error));
    assert.equal(error.code, "CONFIG");
    assert.notEqual(error.details.length, 0);
    return error.details;
  }
}

/** Where the samples of the guide are. */
export const guideFolder = new URL("fixtures/guide/", import.meta.url);

/** A sample of the guide as an object. */
export function guideSample(name: string): Sample {
  return parseJsonText(readFileSync(new URL(name, guideFolder), "utf8")).value as Sample;
}
