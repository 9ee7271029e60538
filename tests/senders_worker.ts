/** The Worker of `senders_test.ts`: sends on a transmitter of another thread, as it is told. */

import { openSender, type RcmSender, type RcmSenderToken, RcmStatus } from "../mod.ts";

/** What it is to do, one task after the other. */
export type Task =
  /** Opens a sender. */
  | { readonly do: "open"; readonly token: RcmSenderToken }
  /** Sends so many, then waits until they are acknowledged. */
  | { readonly do: "send"; readonly messages: number }
  /** Sends until it is refused as stopped. */
  | { readonly do: "flood" }
  /** Waits for what can't come: acknowledgements without a receiver. */
  | { readonly do: "flush" }
  /** Reserves memory, writes into it all the time and tries to send it, until it is stopped. */
  | { readonly do: "write" }
  | { readonly do: "close" };

/** What came of it. */
export interface Answer {
  readonly did: Task["do"] | "failed";
  /** Messages accepted so far. */
  readonly sent: number;
  /** How often it was refused for want of room. */
  readonly refused: number;
  readonly status: number;
  readonly flushed: boolean;
  readonly text: string;
}

const realm = globalThis as unknown as {
  onmessage: (event: { readonly data: Task }) => void;
  postMessage(message: Answer): void;
};

const encoder = new TextEncoder();
let sender: RcmSender | null = null;
let threadNo = -1;
let sent = 0;
let refused = 0;

/** Sends the next message: short or long, copied or in place, in turn over the partitions. */
function sendNext(from: RcmSender): RcmStatus {
  const text = `${threadNo} ${sent} ${"x".repeat(sent % 500 === 0 ? 5000 : sent % 60)}`;
  if (sent % 2 === 0) return from.sendData(text, sent % 3);
  const memory = from.allocator.malloc(text.length);
  // Why there was none, only `send` tells.
  if (memory === null) return from.sendData(text, sent % 3);
  encoder.encodeInto(text, memory);
  return from.send(from.allocator, text.length, sent % 3);
}

async function send(from: RcmSender, messages: number): Promise<RcmStatus> {
  for (const end = sent + messages; sent < end;) {
    const status = sendNext(from);
    if (status === RcmStatus.OK) {
      sent += 1;
      // Lets the realm see its messages and timers.
      if (sent % 1000 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      continue;
    }
    if (status !== RcmStatus.WOULD_BLOCK) return status;
    refused += 1;
    await from.ready();
  }
  return RcmStatus.OK;
}

/** Writes into what it has reserved, as if the message never were complete. */
async function write(from: RcmSender): Promise<RcmStatus> {
  for (let round = 0;; round += 1) {
    const memory = from.allocator.malloc(64 * 1024);
    if (memory === null) {
      if (!await from.ready()) return from.sendData("");
      continue;
    }
    for (let i = 0; i < 20; i += 1) memory.fill(round + i);
    if (round % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

async function run(task: Task): Promise<Partial<Answer>> {
  if (task.do === "open") {
    sender = openSender(task.token);
    threadNo = task.token.threadNo;
    return {};
  }
  if (sender === null) throw new Error("no sender is open");
  switch (task.do) {
    case "send": {
      const status = await send(sender, task.messages);
      return { status, flushed: await sender.flush() };
    }
    case "flood":
      return { status: await send(sender, Infinity), flushed: await sender.ready() };
    case "flush":
      return { flushed: await sender.flush(), status: sender.sendData("") };
    case "write":
      return { status: await write(sender) };
    case "close":
      await sender[Symbol.asyncDispose]();
      return { status: sender.sendData("") };
  }
}

realm.onmessage = ({ data: task }) => {
  const say = (answer: Partial<Answer>) =>
    realm.postMessage({
      did: task.do,
      sent,
      refused,
      status: RcmStatus.OK,
      flushed: false,
      text: "",
      ...answer,
    });
  run(task).then(say, (error: unknown) => say({ did: "failed", text: String(error) }));
};
