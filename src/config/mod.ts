/** The configuration: reading, checking, and what each context needs of it. */

export type {
  ContextValues,
  RcmConfigInput,
  RcmContextInput,
  RcmTopicInput,
  RcmTransportInput,
} from "./key_types.ts";
export { loadConfig, loadConfigText, type LoadedConfig, type LoadOptions } from "./load.ts";
export { nearestName, suggestion } from "./names.ts";
export {
  contextName,
  contextNames,
  resolveContext,
  type ResolvedContext,
  type ResolvedRx,
  type ResolvedTx,
  type ResolvedTxPartition,
  type TransportInfo,
  transportInfo,
  unknownContext,
} from "./resolve.ts";
export { configView, type RcmConfig, type RcmContextConfig } from "./view.ts";
