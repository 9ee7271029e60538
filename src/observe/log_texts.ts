/**
 * Every log line of the library: its key, its level, and its text in both languages.
 *
 * * A key is a number for programs (guide 7.6): once given it keeps its meaning for ever, and a
 * key that is no longer raised is not used again. 20xxx senders, 21xxx receivers, 22xxx sockets
 * and threads, 221xx tiers (these three come from the native side, where `LogKey` in
 * `native/src/abi.zig` has the same numbers and names), 23xxx the TypeScript side.
 *
 * Texts hold `{placeholders}`: the names in `args`, in the order in which the native side gives
 * its numbers, and for its lines also `{stream}` ("topic.partition") and `{peer}` (the other
 * side's context). A range `{start}` to `{end}` has both ends in it unless its text says otherwise.
 */

import { errorName } from "./system_error.ts";

/** Language of log texts; `"zh_CN"` is the default (guide 7.1.1). */
export type LogLanguage = "zh_CN" | "en_US";

/** A line of the table. */
export interface LogText {
  /** Its name in the code of both languages. */
  readonly name: string;
  /** Its level (the names of `RcmLogLevel`). */
  readonly level: "DEBUG" | "INFO" | "WARN" | "ERROR" | "IMP" | "FATAL";
  /** Names of its numbers and texts, in order. */
  readonly args: readonly string[];
  readonly zh: string;
  readonly en: string;
}

/** Key to text. */
export const LOG_TEXTS = {
  // Senders.
  20060: {
    name: "session_agreed_tx",
    level: "INFO",
    args: ["connection", "first"],
    zh: "发送端 {stream} 序号协商成功, 接收端 {peer} 会话号 {connection} 起始消息序号 {first}",
    en: "sender {stream}: session agreed with receiver {peer}, connection {connection}, " +
      "first message number {first}",
  },
  20061: {
    name: "receiver_disconnected",
    level: "WARN",
    args: ["silentMs", "acked"],
    zh:
      "发送端 {stream} 断开接收端 {peer}: {silentMs} 毫秒没有收到任何报文, 已确认到消息序号 {acked}",
    en: "sender {stream}: receiver {peer} disconnected, silent for {silentMs} ms, " +
      "acknowledged up to message number {acked}",
  },
  20062: {
    name: "sender_wiped",
    level: "IMP",
    args: ["start", "end"],
    zh: "发送端 {stream} 清流重启: 接收端 {peer} 等待的消息序号为 {end}, " +
      "序号 {start} 至 {end} (不含) 的消息将被其丢弃",
    en: "sender {stream} was wiped: receiver {peer} waits for message number {end}, " +
      "it drops messages {start} up to, not including, {end}",
  },
  20063: {
    name: "handshake_timeout",
    level: "WARN",
    args: ["waitedMs"],
    zh: "发送端 {stream} 序号协商超时: {waitedMs} 毫秒内没有收到接收端 {peer} 的应答, 不再等待",
    en: "sender {stream}: handshake timed out, receiver {peer} did not answer within " +
      "{waitedMs} ms and is not waited for any longer",
  },
  20064: {
    name: "slow_receiver_disconnected",
    level: "WARN",
    args: ["stalledMs", "acked"],
    zh: "发送端 {stream} 断开慢接收端 {peer}: 窗口已满而其确认序号 {stalledMs} 毫秒没有前进, " +
      "已确认到消息序号 {acked}",
    en: "sender {stream}: slow receiver {peer} disconnected, no progress for {stalledMs} ms " +
      "while the window was full, acknowledged up to message number {acked}",
  },
  20065: {
    name: "window_recovered",
    level: "INFO",
    args: ["acked", "written"],
    zh: "发送端 {stream} 恢复发送窗口, 已确认消息序号 {acked}, 下一个消息序号 {written}",
    en: "sender {stream}: sending window recovered, acknowledged up to {acked}, " +
      "next message number {written}",
  },
  20066: {
    name: "drain_incomplete",
    level: "WARN",
    args: ["acked", "written"],
    zh: "发送端 {stream} 停止时仍有消息未被确认: 已确认到 {acked}, 已写入到 {written}, " +
      "剩余消息保留在共享内存文件中, 下次启动继续发送",
    en:
      "sender {stream}: stopped before everything was acknowledged: acknowledged up to {acked}, " +
      "written up to {written}; the rest stays in the shared memory files for the next start",
  },
  20067: {
    name: "receiver_limit",
    level: "ERROR",
    args: ["limit"],
    zh: "发送端 {stream} 的接收端数量已达上限 {limit}, 新的接收端将被拒绝",
    en: "sender {stream}: has {limit} receivers, the limit; further ones are refused",
  },

  // Receivers.
  21060: {
    name: "session_agreed_rx",
    level: "INFO",
    args: ["connection", "from", "to"],
    zh: "接收端 {stream} 序号协商成功, 会话号 {connection} 消息序号 {from}->{to}",
    en: "receiver {stream}: session agreed, connection {connection}, " +
      "message number {from}->{to}",
  },
  21061: {
    name: "sender_wiped_rx",
    level: "IMP",
    args: ["start", "end"],
    zh: "接收端 {stream} 发现发送端 {peer} 清流重启: 丢弃序号 {start} 至 {end} 的消息",
    en: "receiver {stream}: sender {peer} was wiped, messages {start} to {end} are dropped",
  },
  21062: {
    name: "heartbeat_timeout",
    level: "WARN",
    args: ["silentMs"],
    zh: "接收端 {stream} 心跳超时: {silentMs} 毫秒没有收到发送端 {peer} 的报文",
    en: "receiver {stream}: heartbeat timeout, sender {peer} silent for {silentMs} ms",
  },
  21063: {
    name: "message_loss",
    level: "ERROR",
    args: ["start", "end"],
    zh: "接收端 {stream} 消息丢失: 发送端 {peer} 的消息 {start} 至 {end} 无法补缺",
    en: "receiver {stream}: messages lost, {start} to {end} of sender {peer} " +
      "can no longer be repaired",
  },
  21064: {
    name: "transmitter_closed",
    level: "INFO",
    args: [],
    zh: "接收端 {stream} 收到发送端 {peer} 的关闭通知",
    en: "receiver {stream}: sender {peer} has closed",
  },
  21065: {
    name: "receive_memory_full",
    level: "WARN",
    args: ["bytes"],
    zh: "接收内存已用满 ({bytes} 字节), 暂停接收直到消息被处理; " +
      "可加快处理或调大配置项 ReceiveMemoryMBytes",
    en: "receive memory used up ({bytes} bytes): nothing is taken until messages are processed; " +
      "process faster or raise ReceiveMemoryMBytes",
  },
  21066: {
    name: "message_over_memory",
    level: "ERROR",
    args: ["number", "length", "memory"],
    zh: "接收端 {stream} 放弃发送端 {peer} 的消息 {number}: 长度 {length} 字节超出接收内存 " +
      "{memory} 字节, 请调大配置项 ReceiveMemoryMBytes",
    en: "receiver {stream}: message {number} of sender {peer} is given up, its {length} bytes do " +
      "not fit in {memory} bytes of receive memory; raise ReceiveMemoryMBytes",
  },
  21067: {
    name: "gap_given_up",
    level: "ERROR",
    args: ["start", "end", "waitedMs"],
    zh: "接收端 {stream} 补缺超时: 向发送端 {peer} 请求消息 {start} 至 {end} 已 {waitedMs} 毫秒, " +
      "放弃补缺",
    en: "receiver {stream}: messages {start} to {end} were asked of sender {peer} for " +
      "{waitedMs} ms in vain and are given up",
  },
  21068: {
    name: "stream_limit",
    level: "ERROR",
    args: ["limit"],
    zh: "接收端 {stream} 的发送端数量已达上限 {limit}, 新的发送端将被忽略",
    en:
      "receiver {stream}: the context has {limit} streams, the limit; further senders are ignored",
  },

  // The record.
  21069: {
    name: "record_recovered",
    level: "INFO",
    args: ["first", "next", "replay"],
    zh: "持久化数据已恢复: 序号 {first} 起, 下一序号 {next}, 从 {replay} 开始重放",
    en: "the record was recovered: from sqn {first} on, the next is {next}; " +
      "it is replayed from {replay} on",
  },
  21070: {
    name: "record_cut",
    level: "ERROR",
    args: ["next", "file", "offset", "files"],
    zh: "持久化数据不完整或已损坏: 在序号 {next} 处截断 (文件 {file}, 偏移 {offset}), " +
      "其后的 {files} 个文件改名为 .cut",
    en: "the record is torn or damaged: it ends before sqn {next} now (file {file}, offset " +
      "{offset}); {files} files behind that are renamed to .cut",
  },
  21071: {
    name: "record_head_damaged",
    level: "WARN",
    args: ["count"],
    zh: "持久化文件的 {count} 处文件头或流表已损坏, 消息未受影响",
    en: "{count} headers or entries of streams in the record are damaged; no message depends on " +
      "them",
  },
  21072: {
    name: "record_stopped",
    level: "FATAL",
    args: ["sqn", "errno"],
    zh: "从序号 {sqn} 起停止持久化: {errno}; 消息仍会投递, 释放磁盘空间后请重启",
    en: "nothing is recorded from sqn {sqn} on: {errno}; messages are delivered all the same; " +
      "make room on the disk and start again",
  },

  // Sockets and threads.
  22001: {
    name: "gso_unavailable",
    level: "INFO",
    args: ["errno"],
    zh: "内核不支持 UDP 分段卸载 (GSO): {errno}, 改为逐个报文发送",
    en: "the kernel refuses UDP segmentation offload (GSO): {errno}; " +
      "datagrams are sent one by one",
  },
  22002: {
    name: "gro_unavailable",
    level: "INFO",
    args: ["errno"],
    zh: "内核不支持 UDP 接收合并 (GRO): {errno}, 改为逐个报文接收",
    en: "the kernel refuses UDP receive offload (GRO): {errno}; " +
      "datagrams are received one by one",
  },
  22003: {
    name: "receive_buffer_small",
    level: "WARN",
    args: ["asked", "got"],
    zh: "套接字接收缓冲区只有 {got} 字节, 小于配置项 SocketBufferSizeKBytes 要求的 {asked} 字节, " +
      "突发流量可能丢包; 请调大内核参数 net.core.rmem_max",
    en: "a socket's receive buffer is {got} bytes, SocketBufferSizeKBytes asks for {asked}; " +
      "bursts may be lost: raise the kernel's net.core.rmem_max",
  },
  22004: {
    name: "send_failed",
    level: "ERROR",
    args: ["errno", "port"],
    zh: "向端口 {port} 发送报文失败: {errno}",
    en: "sending to port {port} failed: {errno}",
  },
  22005: {
    name: "kernel_drops",
    level: "WARN",
    args: ["dropped", "total"],
    zh: "内核接收缓冲区溢出, 新丢弃 {dropped} 个报文, 累计 {total} 个",
    en: "the kernel dropped {dropped} datagrams since the last report, {total} in all: " +
      "a socket's receive buffer was full",
  },
  22006: {
    name: "bind_core_failed",
    level: "WARN",
    args: ["core", "errno"],
    zh: "线程绑定到 CPU 核 {core} 失败: {errno}",
    en: "binding a thread to core {core} failed: {errno}",
  },
  22007: {
    name: "injector_on",
    level: "IMP",
    args: ["dropPpm", "seed"],
    zh: "故障注入已开启: 丢包率百万分之 {dropPpm}, 随机种子 {seed}, 仅用于测试",
    en: "fault injection is on: {dropPpm} of a million datagrams are dropped, seed {seed}; " +
      "for tests only",
  },
  22008: {
    name: "agent_failed",
    level: "FATAL",
    args: ["code"],
    zh: "内部线程异常停止, 错误码 {code}, 上下文不再收发消息",
    en: "an internal thread has failed with code {code}: the context no longer sends or receives",
  },

  // Tiers.
  22101: {
    name: "tier_established",
    level: "IMP",
    args: ["epoch", "first", "members", "need"],
    zh:
      "集群主节点就任: 纪元 {epoch}, 起始序号 {first}, 提交需要 {members} 个成员中 {need} 个其他成员的确认",
    en:
      "this member leads the tier: epoch {epoch}, first sqn {first}; a commit needs {need} others of {members} members",
  },
  22102: {
    name: "tier_quorum",
    level: "INFO",
    args: ["epoch", "members", "need", "committed"],
    zh:
      "纪元 {epoch}: 从已提交序号 {committed} 起, 提交需要 {members} 个成员中 {need} 个其他成员的确认",
    en:
      "epoch {epoch}: from committed sqn {committed} on a commit needs {need} others of {members} members",
  },
  22103: {
    name: "tier_single",
    level: "IMP",
    args: [],
    zh: "集群只有一个节点 (SINGLE): 数据只有一份, 存在单点风险",
    en: "this member is alone in its tier (SINGLE): there is one copy of the data",
  },
  22104: {
    name: "tier_no_quorum",
    level: "ERROR",
    args: ["leader", "members", "need", "found"],
    zh:
      "不能成为主节点: 需要原主节点 (编号 {leader}), 或其 {members} 个成员中除 {need} 个以外的全部数据, 只找到 {found} 个; 请先启动原主节点",
    en:
      "can't lead: the recorded leader (member {leader}), or all but {need} of its {members} members are needed, {found} with intact logs were found; start the recorded leader first",
  },
  22105: {
    name: "tier_other_configuration",
    level: "FATAL",
    args: ["member"],
    zh:
      "上下文 {member} 的集群配置 (成员, AckCount, SyncMode, UseCommitted, 主题) 与本节点不同, 已被忽略",
    en:
      "context {member} has another configuration of the tier (members, AckCount, SyncMode, UseCommitted, topics): it is ignored",
  },
  22106: {
    name: "tier_disk_failed",
    level: "FATAL",
    args: [],
    zh: "集群状态无法写入磁盘: 本节点不再参与选举; 请检查 RecordDir 所在磁盘",
    en:
      "the tier's state can't be written to disk: this member stands for no election; look at the disk of RecordDir",
  },
  22107: {
    name: "tier_separate",
    level: "FATAL",
    args: ["start", "end"],
    zh:
      "本节点已处理的序号 {start} 至 {end} 与集群不一致 (SEPARATE): 请退出程序, 清空持久化数据后重新加入",
    en:
      "sqns {start} to {end} that were delivered here are not the tier's (SEPARATE): end the program, remove its record and join again",
  },
  22108: {
    name: "tier_forced",
    level: "IMP",
    args: ["epoch", "source", "next"],
    zh:
      "运维强制选主: 纪元 {epoch}, 采用成员 {source} 的数据, 下一序号 {next}; 之前已提交的数据可能丢失",
    en:
      "the operator forces a leader: epoch {epoch}, log of member {source}, next sqn {next}; what was committed may be lost",
  },
  22109: {
    name: "tier_tree_wiped",
    level: "IMP",
    args: ["found", "source", "next"],
    zh:
      "仲裁服务没有主节点记录, 但成员有数据: 找到 {found} 个成员, 采用成员 {source} 的数据, 下一序号 {next}",
    en:
      "the arbiter knows of no leader, but logs are not empty: of {found} members the log of member {source} goes on, next sqn {next}",
  },
  22110: {
    name: "tier_unsafe_policy",
    level: "IMP",
    args: ["epoch", "next"],
    zh: "ElectionPolicy 不是 safe: 纪元 {epoch} 从序号 {next} 开始, 已提交的数据可能丢失",
    en:
      "ElectionPolicy is not safe: epoch {epoch} begins at sqn {next}, what was committed may be lost",
  },
  22111: {
    name: "tier_unheard",
    level: "ERROR",
    args: ["epoch", "committed", "next"],
    zh:
      "纪元 {epoch}: 在 SyncAckTimeoutMilli 内没有收到备节点的确认 (已提交 {committed}, 下一序号 {next}), 放弃主节点",
    en:
      "epoch {epoch}: no follower acknowledged for SyncAckTimeoutMilli (committed {committed}, next sqn {next}): giving up the lead",
  },
  22112: {
    name: "tier_leader_silent",
    level: "WARN",
    args: ["leader", "silentMs"],
    zh: "{silentMs} 毫秒没有收到主节点 (上下文 {leader}) 的心跳",
    en: "the leader (context {leader}) was not heard for {silentMs} ms",
  },
  22113: {
    name: "tier_unauthenticated",
    level: "ERROR",
    args: ["id", "sealed"],
    zh: "收到的集群报文与本节点的 GroupKey 不符, 已丢弃: 自称成员 {peer} (上下文 {id}), " +
      "已加密: {sealed} (1 是, 0 否); 同一集群所有成员的 GroupKey 必须相同",
    en: "a datagram of the tier does not fit this member's GroupKey and was dropped: it claims " +
      "to be of {peer} (context {id}), sealed: {sealed} (1: yes, 0: no); " +
      "give all members of a tier the same GroupKey, or none",
  },

  // The TypeScript side.
  23001: {
    name: "event_callback_threw",
    level: "ERROR",
    args: ["error"],
    zh: "事件回调 onEvent 抛出异常: {error}",
    en: "the event callback threw: {error}",
  },
  23002: {
    name: "handler_refused",
    level: "WARN",
    args: ["outcome"],
    zh: "onMessage 拒绝了消息, 将重新回调; 处理成功请返回 0 或不返回值. 结果: {outcome}",
    en: "onMessage refused a message, it is delivered again; " +
      "return 0 or nothing to accept a message. Outcome: {outcome}",
  },
  23003: {
    name: "handler_still_refusing",
    level: "ERROR",
    args: ["count"],
    zh: "onMessage 已连续 {count} 次拒绝同一条消息, 后续消息等待中; 处理成功请返回 0 或不返回值",
    en: "onMessage has refused the same message {count} times in a row, those behind it wait; " +
      "return 0 or nothing to accept a message",
  },
  23004: {
    name: "role_callback_threw",
    level: "ERROR",
    args: ["error"],
    zh: "角色回调 onRoleChanged 抛出异常: {error}",
    en: "onRoleChanged threw: {error}",
  },
  // Of versions that had no record; numbers are for ever.
  23005: {
    name: "not_recorded",
    level: "IMP",
    args: [],
    zh: "IsRecord 为 1, 但持久化功能尚未提供, 收到的消息不会写入磁盘",
    en: "IsRecord is 1, but nothing is recorded yet: received messages are not written to disk",
  },
  23006: {
    name: "context_started",
    level: "INFO",
    args: [],
    zh: "上下文已启动",
    en: "the context has started",
  },
  23007: {
    name: "context_stopped",
    level: "INFO",
    args: [],
    zh: "上下文已停止",
    en: "the context has stopped",
  },
  23008: {
    name: "logger_failed",
    level: "ERROR",
    args: ["error"],
    zh: "用户日志接口抛出异常, 其未能输出的日志写入日志文件: {error}",
    en: "the program's logger threw, lines that it fails to take go to the log files: {error}",
  },
  23009: {
    name: "log_lines_lost",
    level: "WARN",
    args: ["count"],
    zh: "日志文件曾无法写入, 丢失 {count} 行日志",
    en: "the log files could not be written for a while, {count} lines are lost",
  },
  23010: {
    name: "arbiter_fault",
    level: "WARN",
    args: ["reason"],
    zh: "仲裁服务: {reason}",
    en: "arbitration: {reason}",
  },
  23011: {
    name: "lanes_not_recorded",
    level: "IMP",
    args: [],
    zh: "IsTotalOrder 为 0, 没有全局顺序可供持久化: IsRecord 不生效",
    en: "IsTotalOrder is 0: without a total order nothing is recorded, whatever IsRecord says",
  },
} as const satisfies Readonly<Record<number, LogText>>;

/** A key of the table. */
export type LogKeyNumber = keyof typeof LOG_TEXTS;

/** What a line's placeholders stand for. */
export type LogValues<K extends LogKeyNumber> = {
  readonly [A in (typeof LOG_TEXTS)[K]["args"][number]]: string | number;
};

/** The keys that the TypeScript side raises, by name. */
export const LogKey = {
  EVENT_CALLBACK_THREW: 23001,
  HANDLER_REFUSED: 23002,
  HANDLER_STILL_REFUSING: 23003,
  ROLE_CALLBACK_THREW: 23004,
  NOT_RECORDED: 23005,
  CONTEXT_STARTED: 23006,
  CONTEXT_STOPPED: 23007,
  LOGGER_FAILED: 23008,
  LOG_LINES_LOST: 23009,
  ARBITER_FAULT: 23010,
  LANES_NOT_RECORDED: 23011,
} as const satisfies Readonly<Record<string, LogKeyNumber>>;

/**
 * The table's line of a key that came as a plain number.
 *
 * @param key the number
 * @returns undefined when no line has this key
 */
export function logTextOf(key: number): LogText | undefined {
  return (LOG_TEXTS as Readonly<Record<number, LogText>>)[key];
}

/**
 * Puts values in place of a text's placeholders.
 *
 * A placeholder without a value stays as it is: a line with a hole says more than no line. A
 * number named `errno` is told with its system name.
 *
 * @param template a text of the table
 * @param values what the placeholders stand for
 */
export function fillText(
  template: string,
  values: Readonly<Record<string, string | number>>,
): string {
  return template.replace(/\{(\w+)\}/g, (hole, name: string) => {
    const value = values[name];
    if (value === undefined) return hole;
    return name === "errno" ? errorName(Number(value)) : String(value);
  });
}
