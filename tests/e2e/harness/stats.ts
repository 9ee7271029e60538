/** The parts of `getStatistics` that end-to-end tests look at. */

import type { Node } from "./driver.ts";

/** Counters and cursors of one partition of a transmitter. */
export interface TxStats {
  readonly RegularLength: number;
  readonly MaxUdpSize: number;
  readonly AvailableSpace: number;
  readonly TopicName: string;
  readonly PartitionNo: number;
  readonly SendCount: number;
  readonly RepairCount: number;
  readonly NakCount: number;
  readonly UsedMsgNo: number;
  readonly FirstMsgNo: number;
  readonly ToSendMsgNo: number;
  readonly CurrentMsgNo: number;
  readonly ConnectedCount: number;
  readonly WouldBlockCount: number;
  readonly DisconnectCount: number;
  readonly WindowFull: boolean;
}

/** Counters of one stream at a receiver. */
export interface RxStats {
  readonly Context: string;
  readonly TopicName: string;
  readonly PartitionNo: number;
  readonly NextMsgNo: number;
  readonly DatagramsReceived: number;
  readonly NakSent: number;
  readonly RepairCount: number;
  readonly GapCount: number;
  readonly LostCount: number;
  readonly DuplicateCount: number;
  readonly MessageCount: number;
}

/** What a context tells of itself. */
export interface ContextStats {
  readonly txs: readonly (readonly TxStats[])[];
  readonly rx: { readonly Rms: readonly RxStats[] };
  readonly Dropped: Readonly<Record<string, number>>;
  readonly KernelDrops: number;
  readonly ArenaBytes: number;
  readonly ArenaUsedBytes: number;
  readonly ReceiveBytes: number;
  readonly ReceiveUsedBytes: number;
}

export async function statsOf(node: Node, context: string): Promise<ContextStats> {
  return await node.statistics(context) as unknown as ContextStats;
}

/** Of the first transmitter, or of that of a topic; its first partition unless named. */
export async function txStats(
  node: Node,
  context: string,
  topic?: string,
  partition = 1,
): Promise<TxStats> {
  const { txs } = await statsOf(node, context);
  const found = txs.flat().find((tx) =>
    (topic === undefined || tx.TopicName === topic) && tx.PartitionNo === partition
  );
  if (found === undefined) throw new Error(`${context} has no transmitter of ${topic}`);
  return found;
}
