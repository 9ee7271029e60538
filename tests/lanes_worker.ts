/** The Worker of `lanes_test.ts`: opens a lane and takes its messages, as it is told. */

import { openLane, type RcmLane, type RcmLaneToken } from "../mod.ts";

/** What it is to do. */
export type Task =
  | {
    readonly do: "open";
    readonly token: RcmLaneToken;
    readonly delivery?: "callback" | "poll";
    /** Refuses each message so often before it accepts it: numbers divisible by 10 only. */
    readonly refusals?: number;
    /** Never ends with the message of this number: its handler does not return, or its promise. */
    readonly stuckAt?: number;
    readonly stuckHow?: "loop" | "promise";
  }
  /** Goes on with a promise that is stuck. */
  | { readonly do: "go on" }
  /** In "poll" mode. */
  | { readonly do: "poll"; readonly limit?: number }
  | { readonly do: "ack"; readonly sqn: number }
  | { readonly do: "tell" }
  | { readonly do: "close" };

/** A message as the Worker saw it. */
export interface Taken {
  readonly text: string;
  readonly sqn: number;
  readonly topic: string;
  readonly partitionNo: number;
  readonly from: string;
  readonly txMsgNo: number;
  readonly threadNo: number;
  readonly txArg: number;
  readonly user: unknown;
}

/** What came of it. */
export interface Answer {
  readonly did: Task["do"] | "failed" | "stuck";
  readonly result: number;
  /** Accepted messages so far; with "tell" only. */
  readonly taken: readonly Taken[];
  readonly text: string;
}

const realm = globalThis as unknown as {
  onmessage: (event: { readonly data: Task }) => void;
  postMessage(message: Answer): void;
};

const decoder = new TextDecoder();
const taken: Taken[] = [];
let lane: RcmLane | null = null;
let refusals = 0;
let goOn: (() => void) | null = null;

const answer = (did: Answer["did"], result = 0, text = "") =>
  realm.postMessage({ did, result, text, taken: did === "tell" ? taken : [] });

function open(task: Extract<Task, { do: "open" }>): void {
  const { token, delivery = "callback", stuckAt = -1, stuckHow = "loop" } = task;
  lane = openLane(
    token,
    {
      onMessage(data, sqn, txArg, info) {
        if (sqn % 10 === 0 && refusals < (task.refusals ?? 0)) {
          refusals += 1;
          if (refusals % 2 === 1) throw new Error(`not ${sqn}`);
          return 5;
        }
        refusals = 0;
        const one = {
          text: decoder.decode(data),
          sqn,
          topic: info.getTopicName(),
          partitionNo: info.getPartitionNo(),
          from: info.getTxContextName(),
          txMsgNo: info.getTxMsgNo(),
          threadNo: info.getThreadNo(),
          txArg,
          user: info.getUserArg(),
        };
        if (sqn !== stuckAt) {
          taken.push(one);
          return undefined;
        }
        answer("stuck");
        if (stuckHow === "loop") { for (;;); }
        return new Promise<void>((resolve) => {
          goOn = () => {
            taken.push(one);
            resolve();
          };
        });
      },
    },
    "worker",
    { delivery },
  );
}

async function act(task: Task): Promise<void> {
  switch (task.do) {
    case "open":
      open(task);
      return answer("open");
    case "go on":
      goOn?.();
      return answer("go on");
    case "poll":
      return answer("poll", lane!.poll(task.limit));
    case "ack":
      return answer("ack", lane!.sendAck(task.sqn));
    case "tell":
      return answer("tell", taken.length);
    case "close":
      await lane![Symbol.asyncDispose]();
      return answer("close");
  }
}

realm.onmessage = ({ data }) =>
  void act(data).catch((error: unknown) => answer("failed", 0, String(error)));
