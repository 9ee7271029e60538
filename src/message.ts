/** What a message is besides its bytes: the reused info object, and plain messages. */

import type { RcmMessage, RcmMsgInfo } from "./api.ts";
import { recordHeader, streamInfo } from "./native/layout.ts";
import type { Region } from "./native/memory.ts";
import type { NativeCalls } from "./native/symbols.ts";
import type { ContextPlan } from "./plan.ts";

const HIGH_WORD = 2 ** 32;
const TOPIC_BYTES_MAX = 128;

/** The names behind a stream's number, looked up once a stream. */
export interface StreamNames {
  readonly topicName: string;
  readonly partitionNo: number;
  readonly txContextName: string;
  readonly threadNo: number;
}

const NO_NAMES: StreamNames = { topicName: "", partitionNo: 0, txContextName: "", threadNo: 0 };

/** @returns a look-up that asks the native side once for each stream */
export function createStreamNames(
  calls: Pick<NativeCalls, "rcm_stream">,
  context: number,
  plan: ContextPlan,
): (stream: number) => StreamNames {
  const known: (StreamNames | undefined)[] = [];
  const bytes = new Uint8Array(streamInfo.bytes);
  const words = new Uint32Array(bytes.buffer);
  const decoder = new TextDecoder();
  return (stream) => {
    const names = known[stream];
    if (names !== undefined) return names;
    // A stream that the context no longer has: only after close, when nothing reads on.
    if (calls.rcm_stream(context, stream, bytes, bytes.byteLength) < 0) return NO_NAMES;
    const transportId = words[streamInfo.transportId]!;
    const length = words[streamInfo.nameLength]!;
    const rx = plan.rx.find((candidate) => candidate.transportId === transportId);
    const made: StreamNames = {
      topicName: rx?.topic ?? "",
      partitionNo: rx?.partitionNo ?? 0,
      txContextName: decoder.decode(bytes.subarray(streamInfo.name, streamInfo.name + length)),
      threadNo: plan.context.isTotalOrder ? 0 : rx?.lane ?? 0,
    };
    known[stream] = made;
    return made;
  };
}

/** @returns the same for a thread that has opened a lane, and has no configuration */
export function createLaneStreamNames(
  calls: Pick<NativeCalls, "rcm_lane_stream" | "rcm_lane_topic">,
  lane: number,
  threadNo: number,
): (stream: number) => StreamNames {
  const known: (StreamNames | undefined)[] = [];
  const bytes = new Uint8Array(Math.max(streamInfo.bytes, TOPIC_BYTES_MAX));
  const words = new Uint32Array(bytes.buffer);
  const partition = new Uint32Array(1);
  const decoder = new TextDecoder();
  return (stream) => {
    const names = known[stream];
    if (names !== undefined) return names;
    if (calls.rcm_lane_stream(lane, stream, bytes, bytes.byteLength) < 0) return NO_NAMES;
    const transportId = words[streamInfo.transportId]!;
    const length = words[streamInfo.nameLength]!;
    const from = bytes.subarray(streamInfo.name, streamInfo.name + length);
    const txContextName = decoder.decode(from);
    const topic = calls.rcm_lane_topic(lane, transportId, partition, bytes, bytes.byteLength);
    const made: StreamNames = {
      topicName: decoder.decode(bytes.subarray(0, Math.max(0, topic))),
      partitionNo: partition[0]!,
      txContextName,
      threadNo,
    };
    known[stream] = made;
    return made;
  };
}

/** The info object of a receiver, moved from message to message. */
export interface MessageCursor extends RcmMsgInfo {
  /**
   * Points it to a message.
   * @param unit position of its record's header in the receive log, in units of 8 bytes
   * @param stream the stream's number
   * @param args `msg_arg | tx_arg << 16`
   */
  point(unit: number, stream: number, args: number): void;
}

/**
 * @param log the receive log, whose record headers hold number and time
 * @param streamNames looks up a stream
 * @param user what `getUserArg()` gives
 */
export function createMessageCursor(
  log: Region,
  streamNames: (stream: number) => StreamNames,
  user: unknown,
): MessageCursor {
  let unit = 0;
  let stream = 0;
  let args = 0;

  function headerNumber(word: number): number {
    const { words } = log.windowAt(unit);
    const index = log.wordAt(unit) + word;
    return words[index]! + words[index + 1]! * HIGH_WORD;
  }

  return {
    point(atUnit, ofStream, withArgs) {
      unit = atUnit;
      stream = ofStream;
      args = withArgs;
    },
    getTopicName: () => streamNames(stream).topicName,
    getPartitionNo: () => streamNames(stream).partitionNo,
    getUserArg: () => user,
    getTxContextName: () => streamNames(stream).txContextName,
    getTxMsgNo: () => headerNumber(recordHeader.msgNo),
    getMsgTimeMilli: () => headerNumber(recordHeader.timeMs),
    getThreadNo: () => streamNames(stream).threadNo,
    getMsgArg: () => args & 0xffff,
  };
}

/** @returns a plain object with what the cursor points to, and `data`, which is not copied here */
export function plainMessage(
  data: Uint8Array<ArrayBuffer>,
  msgSqn: number,
  txArg: number,
  info: RcmMsgInfo,
): RcmMessage {
  return {
    data,
    msgSqn,
    txArg,
    topicName: info.getTopicName(),
    partitionNo: info.getPartitionNo(),
    txContextName: info.getTxContextName(),
    txMsgNo: info.getTxMsgNo(),
    msgTimeMilli: info.getMsgTimeMilli(),
    threadNo: info.getThreadNo(),
    msgArg: info.getMsgArg(),
  };
}
