/** A context's tier as configured: members, what a commit needs, its network (guide 8, 10.1). */

import { createHash } from "node:crypto";
import { look } from "./entries.ts";
import type { ContextValues } from "./key_types.ts";
import type { Model, Node, Routes } from "./model.ts";

const KIB = 1024;

/** A member of a tier. */
export interface TierMember {
  readonly id: number;
  readonly name: string;
}

/** What a member needs to know of its tier. Names are those of the native side's JSON reader. */
export interface ResolvedTier {
  readonly name: string;
  /** Observers aside, ascending by id: the same list on all members. */
  readonly members: readonly TierMember[];
  readonly isObserver: boolean;
  readonly ackCount: number;
  readonly useCommitted: boolean;
  readonly asynchronousSqn: boolean;
  readonly syncMode: number;
  readonly tierAsync: boolean;
  readonly syncMaxDiff: number;
  readonly sendWindowSize: number;
  readonly rmsLimitCount: number;
  readonly heartbeatIntervalMs: number;
  readonly heartbeatTimeoutMs: number;
  readonly ackIntervalMs: number;
  readonly ackTimeoutMs: number;
  readonly startTimeoutMs: number;
  readonly sessionTimeoutMs: number;
  readonly policy: ContextValues["ElectionPolicy"];
  /** Over what members must agree on, 16 hexadecimal digits; travels with every promise. */
  readonly configHash: string;
  /** The context's `GroupKey`, 64 hexadecimal digits; "": nothing is sealed. */
  readonly groupKey: string;
  readonly ip: string;
  readonly addr: string;
  readonly port: number;
  readonly mcLoop: boolean;
  readonly ttl: number;
  readonly mtu: number;
  readonly socketBufferBytes: number;
  readonly repairPortStart: number;
  readonly repairPortEnd: number;
  readonly repairPort: number;
  readonly useSameMachine: boolean;
}

/** @returns the tier of a context; null for a single node */
export function resolveTier(model: Model, node: Node, values: ContextValues): ResolvedTier | null {
  if (values.IsSingleton) return null;
  const members = tierMembers(model, values.TierName);
  return {
    name: values.TierName,
    members,
    isObserver: values.IsObserver,
    ackCount: values.AckCount,
    useCommitted: values.UseCommitted,
    asynchronousSqn: values.AsynchronousSqn,
    syncMode: values.SyncMode,
    tierAsync: values.TierAsync,
    syncMaxDiff: values.SyncMaxDiff,
    sendWindowSize: values.SyncSendWindowSize,
    rmsLimitCount: values.TierRmsLimitCount,
    heartbeatIntervalMs: values.SyncHeartbeatIntervalMilli,
    heartbeatTimeoutMs: values.SyncHeartbeatTimeoutMilli,
    ackIntervalMs: values.SyncAckIntervalMilli,
    ackTimeoutMs: values.SyncAckTimeoutMilli,
    startTimeoutMs: values.StartTimeoutSecs * 1000,
    sessionTimeoutMs: values.SessionTimeoutMilli,
    policy: values.ElectionPolicy,
    configHash: hashOf(members, values, node),
    groupKey: values.GroupKey ?? "",
    ip: values.SyncIp ?? values.Ip ?? "",
    addr: values.SyncAddr ?? "",
    port: values.SyncPort ?? 0,
    mcLoop: values.SyncMcLoop,
    ttl: values.SyncTTL,
    mtu: values.SyncMTU,
    socketBufferBytes: values.SyncSocketBufferSizeKBytes * KIB,
    repairPortStart: values.SyncRepairPortStart,
    repairPortEnd: values.SyncRepairPortEnd,
    repairPort: values.SyncRepairPort,
    useSameMachine: values.UseSameMachine,
  };
}

/** @returns the members of a tier, observers aside, ascending by id */
export function tierMembers(model: Model, tier: string): readonly TierMember[] {
  return model.nodes
    .filter(({ entry }) =>
      !look(entry, "IsSingleton").value && look(entry, "TierName").value === tier &&
      !look(entry, "IsObserver").value
    )
    .map(({ id, name }) => ({ id, name }))
    .sort((a, b) => a.id - b.id);
}

function hashOf(
  members: readonly TierMember[],
  values: ContextValues,
  { rx, tx }: Node,
): string {
  const agreed = {
    tier: values.TierName,
    members: members.map(({ id, name }) => [id, name]),
    ackCount: values.AckCount,
    syncMode: values.SyncMode,
    useCommitted: values.UseCommitted,
    rx: namesOf(rx),
    tx: namesOf(tx),
  };
  return createHash("sha256").update(JSON.stringify(agreed)).digest("hex").slice(0, 16);
}

function namesOf({ all }: Routes): readonly string[] {
  return all.map(({ topic, partitionNo }) => `${topic}.${partitionNo}`).sort();
}
