/** The demo's configuration: a tier of three members, and two contexts that send to it. */

import type { RcmConfigInput } from "../../../mod.ts";

/** What is sent, and to whom. */
export const topic = "orders";
export const tierName = "Demo";
export const memberNames = ["node1", "node2", "node3"] as const;
export const senderNames = ["sender1", "sender2"] as const;
/** How long a dead member's session lives on. */
export const sessionMilli = 1000;

/** Of all files in `/dev/shm`, so that two demos do not meet. */
export const filePrefix = (port: number) => `rcm-ha-${port}/`;

/** `port` is the demo's own. */
export function demoConfig(port: number): RcmConfigInput {
  const topics = [{ Name: topic }];
  const common = { Ip: "127.0.0.1" };
  return {
    Rcm: {
      Transports: [{ Id: 1, Topic: topic, Addr: "239.255.8.1", Port: port }],
      Contexts: [
        ...senderNames.map((Name, i) => ({ ...common, Name, Id: i + 1, TxTopics: topics })),
        ...memberNames.map((Name, i) => ({
          ...common,
          Name,
          Id: senderNames.length + i + 1,
          IsSingleton: 0,
          TierName: tierName,
          SyncIp: "127.0.0.1",
          SyncAddr: "239.255.8.2",
          SyncPort: port,
          UseSameMachine: 1,
          SyncHeartbeatIntervalMilli: 200,
          SyncHeartbeatTimeoutMilli: 1000,
          SyncAckIntervalMilli: 100,
          SyncAckTimeoutMilli: 2000,
          SessionTimeoutMilli: sessionMilli,
          StartTimeoutSecs: 30,
          IsRecord: 1,
          RecordSegmentMBytes: 16,
          RxTopics: topics,
        })),
      ],
    },
  };
}

/** What stands in message `number` of a sender: 24 to 279 bytes that nothing else has. */
export function contentOf(sender: string, number: number): string {
  const head = `${sender} ${number} `;
  const bytes = 24 + (number * 2_654_435_761 >>> 24);
  return head + String.fromCharCode(97 + number % 26).repeat(Math.max(0, bytes - head.length));
}
