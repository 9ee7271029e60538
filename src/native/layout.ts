/** Where the hot path finds what it needs, as indices of 32-bit words and 64-bit floats. */

import { Descriptor, RecordHeader, StreamInfo } from "./abi.ts";

/** A descriptor of a message; the sequence number is a float, all else are words. */
export const descriptor = {
  bytes: Descriptor.bytes,
  words: Descriptor.bytes / 4,
  floats: Descriptor.bytes / 8,
  /** Payload position in its region, in units of 8 bytes. */
  unit: Descriptor.fields.offset8.offset / 4,
  length: Descriptor.fields.length.offset / 4,
  stream: Descriptor.fields.stream.offset / 4,
  /** `msg_arg | tx_arg << 16`. */
  args: Descriptor.fields.args.offset / 4,
  /** In floats. */
  sqn: Descriptor.fields.sqn.offset / 8,
  /** Position of the record's header in the receive log, in units of 8 bytes. */
  header: Descriptor.fields.header8.offset / 4,
  /** 0: the payload is in the receive log; else the number of a window that is read in place. */
  region: Descriptor.fields.region.offset / 4,
} as const;

/** A record's header; in words. */
export const recordHeader = {
  bytes: RecordHeader.bytes,
  msgNo: RecordHeader.fields.msgNo.offset / 4,
  timeMs: RecordHeader.fields.timeMs.offset / 4,
} as const;

/** The names of a stream; in words, but the name in bytes. */
export const streamInfo = {
  bytes: StreamInfo.bytes,
  transportId: StreamInfo.fields.transportId.offset / 4,
  nameLength: StreamInfo.fields.nameLen.offset / 4,
  name: StreamInfo.fields.name.offset,
} as const;
