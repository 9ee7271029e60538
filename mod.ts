/**
 * RCM, a reliable message bus over UDP multicast and unicast, for Deno and Bun.
 *
 * Everything public is here. Begin with {@linkcode newRcmFactory}.
 *
 * @module
 */

export { deleteRcmFactory, getRcmVersion, newRcmFactory } from "./src/factory.ts";
export { openSender } from "./src/sender.ts";
export { openLane } from "./src/lane.ts";
export { RcmError, type RcmErrorCode } from "./src/errors.ts";
export { RcmEventType, RcmLogLevel, RcmReliability, RcmRole, RcmStatus } from "./src/enums.ts";
export type {
  RcmAllocator,
  RcmContext,
  RcmFactory,
  RcmLane,
  RcmLaneToken,
  RcmMessage,
  RcmMsgInfo,
  RcmReceiver,
  RcmReceiverCallback,
  RcmSender,
  RcmSenderToken,
  RcmTierSync,
  RcmTierSyncCallback,
  RcmTransmitter,
  ReceiverOptions,
  WaitOptions,
} from "./src/api.ts";
export type { RcmConfig, RcmConfigInput, RcmContextConfig } from "./src/config/mod.ts";
export type { RcmEvent, RcmEventCallback } from "./src/observe/events.ts";
export type { RcmLogger } from "./src/observe/logger.ts";
