/**
 * The demo's configuration: one topic over multicast on this machine, a publisher and two
 * receivers.
 */

import type { RcmConfigInput } from "../../mod.ts";

/** The topic that the file's lines are published on. */
export const topic = "lines";
/** `msgArg` of the message that says that the file is over. */
export const endOfFile = 1;

/** One transport, three contexts; `port` is the demo's own, so that two demos do not meet. */
export function demoConfig(port: number): RcmConfigInput {
  const common = { Ip: "127.0.0.1", IsRecord: 0 };
  return {
    Rcm: {
      Transports: [{ Id: 1, Topic: topic, Addr: "239.255.7.1", Port: port }],
      Contexts: [
        { ...common, Name: "publisher", Id: 1, TxTopics: [{ Name: topic }] },
        { ...common, Name: "deno", Id: 2, RxTopics: [{ Name: topic }] },
        { ...common, Name: "bun", Id: 3, RxTopics: [{ Name: topic }] },
      ],
    },
  };
}

/** The moment in milliseconds since 1970, as fine as the clock is: comparable between processes. */
export function preciseNow(): number {
  return performance.timeOrigin + performance.now();
}
