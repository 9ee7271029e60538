/** TypeScript types of the configuration, made from the table of keys. */

import type { Place } from "./key_kinds.ts";
import type { KEYS } from "./keys.ts";

type Row = (typeof KEYS)[number];

/** The rows that may stand at a place. */
export type RowAt<P extends Place> = Row extends infer R
  ? R extends { readonly where: readonly (infer W)[] } ? P extends W ? R : never : never
  : never;

/** A flag as it may be written: JSON imports say `number`. */
export type RcmFlag = boolean | number;

type InputOf<R> = R extends { kind: "flag" } ? RcmFlag
  : R extends { kind: "integer" } ? number
  : R extends { kind: "text" } ? string
  : R extends { kind: "choice"; choices: readonly (infer C)[] }
    ? C | (string & Record<never, never>)
  : R extends { kind: "list"; of: infer L } ? ListInput<L>
  : never;

type ListInput<L> = L extends "names" ? string | readonly string[]
  : L extends "partitions" ? readonly number[]
  : L extends "topics" ? readonly RcmTopicInput[]
  : L extends "transports" ? readonly RcmTransportInput[]
  : L extends "contexts" ? readonly RcmContextInput[]
  : never;

type InputAt<P extends Place> = {
  readonly [R in RowAt<P> as R["name"]]?: InputOf<R> | undefined;
};

/** An entry of `TxTopics` or `RxTopics`. */
export interface RcmTopicInput extends InputAt<"topic"> {}
/** An entry of `Transports`: a topic and partition, or a template. */
export interface RcmTransportInput extends InputAt<"transport"> {}
/** An entry of `Contexts`: a node, or a template. */
export interface RcmContextInput extends InputAt<"context"> {}
/** What stands in `Rcm`. */
export interface RcmTopInput extends InputAt<"top"> {}

/**
 * A configuration as an object: the content of `rcm.json` (guide 10.1). An imported JSON file is
 * one; what is wrong in it shows when a factory is made.
 */
export interface RcmConfigInput {
  /** For editors: where the JSON Schema is. */
  readonly $schema?: string | undefined;
  readonly Rcm: RcmTopInput;
}

type ValueOf<R> = R extends { kind: "flag" } ? boolean
  : R extends { kind: "integer"; default: infer D } ? number | (D extends null ? undefined : never)
  : R extends { kind: "text"; default: infer D } ? string | (D extends null ? undefined : never)
  : R extends { kind: "choice"; choices: readonly (infer C)[] } ? C
  : R extends { kind: "list"; of: infer L } ? ListValue<L>
  : never;

type ListValue<L> = L extends "names" ? readonly string[]
  : L extends "partitions" ? readonly number[] | undefined
  : L extends "topics" ? readonly TopicValue[]
  : never;

/** A checked entry of `TxTopics` or `RxTopics`. */
export interface TopicValue {
  /** Undefined: it was wrong. */
  readonly name: string | undefined;
  /** In the file's order; undefined: all; null: it was wrong. */
  readonly partitions: readonly number[] | undefined | null;
}

/** Checked values by key. What has no default and is not given is undefined. */
export type ValuesAt<P extends Place> = {
  readonly [R in RowAt<P> as R["name"]]: ValueOf<R>;
};

/** All values of a context after templates and defaults, named as in the file. */
export type ContextValues = ValuesAt<"context">;
/** All values of a transport after templates and defaults, named as in the file. */
export type TransportValues = ValuesAt<"transport">;
