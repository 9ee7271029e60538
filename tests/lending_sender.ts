/** The Worker of `lending_test.ts`: sends as told, a few messages each millisecond. */

import { newRcmFactory, type RcmConfigInput, RcmEventType, RcmStatus } from "../mod.ts";
import type { RcmFactory, RcmTransmitter } from "../mod.ts";

export type Order =
  | {
    readonly kind: "start";
    readonly config: RcmConfigInput;
    readonly workDir: string;
    readonly prefix: string;
  }
  | { readonly kind: "send"; readonly messages: number; readonly atOnce: number }
  | { readonly kind: "stop" };

export interface Done {
  readonly kind: Order["kind"] | "failed";
  /** Times that its receiver was given up; or why it failed. */
  readonly text: string;
}

const realm = globalThis as unknown as {
  onmessage: (event: { readonly data: Order }) => void;
  postMessage(message: Done): void;
};

let factory: RcmFactory | null = null;
let tx: RcmTransmitter | null = null;
let sent = 0;
let givenUp = 0;

async function start(order: Order & { kind: "start" }): Promise<void> {
  factory = newRcmFactory(order.config, order.workDir, "en_US");
  factory.setFilePrefix(order.prefix);
  factory.setEventCallback({
    onEvent(_user, event) {
      if (event.getEventType() === RcmEventType.NO_RECEIVER) givenUp += 1;
    },
  });
  const context = factory.newRcmContext("tx1");
  tx = context.createTransmitter("t");
  await context.start();
  if (!await tx.connected(1, 20_000)) throw new Error("nobody connects");
}

async function send(messages: number, atOnce: number): Promise<void> {
  for (let i = 0; i < messages; i += 1) {
    while (tx?.sendData(`${sent}`) === RcmStatus.WOULD_BLOCK) await tx.ready();
    sent += 1;
    if (i % atOnce === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

realm.onmessage = ({ data }) => {
  const run = async () => {
    if (data.kind === "start") await start(data);
    else if (data.kind === "send") await send(data.messages, data.atOnce);
    else await factory?.[Symbol.asyncDispose]();
    realm.postMessage({ kind: data.kind, text: `${givenUp}` });
  };
  run().catch((error: unknown) => realm.postMessage({ kind: "failed", text: String(error) }));
};
