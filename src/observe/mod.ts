/**
 * What the rest of the library uses to tell people and programs what happens: log, events,
 * notices, statistics.
 */

export {
  createEvent,
  createEventHub,
  type EventFields,
  type EventHub,
  type RcmEvent,
  type RcmEventCallback,
} from "./events.ts";
export { LogKey, type LogLanguage } from "./log_texts.ts";
export {
  errorText,
  isPromiseLike,
  type LogSink,
  type LogSinkOptions,
  openLogSink,
  type RcmLogger,
} from "./logger.ts";
export {
  createNoticeReader,
  type NoticeLayout,
  type NoticeReader,
  type NoticeTarget,
} from "./notices.ts";
export {
  parseStatisticsRequest,
  readSnapshot,
  roleText,
  type Snapshot,
  type StatisticsRequest,
  statisticsText,
  type StatsAbi,
  type StatsContext,
  type StatsTransport,
} from "./statistics.ts";
