/**
 * The Worker of `workers_test.ts`: a context of its own realm, which sends to everybody, checks
 * what everybody sends, and stops when it is told to.
 */

import { newRcmFactory, type RcmConfigInput, type RcmFactory, RcmStatus } from "../mod.ts";

/** What it is to do. */
export interface Talk {
  readonly config: RcmConfigInput;
  readonly workDir: string;
  readonly prefix: string;
  readonly context: string;
  /** How many receivers it waits for before it sends. */
  readonly receivers: number;
  readonly messages: number;
  /** How many contexts send so many. */
  readonly senders: number;
  readonly stop?: boolean;
}

export type Answer =
  | { readonly kind: "got"; readonly wrong: readonly string[] }
  | { readonly kind: "stopped" }
  | { readonly kind: "failed"; readonly text: string };

const realm = globalThis as unknown as {
  onmessage: (event: { readonly data: Talk }) => void;
  postMessage(message: Answer): void;
};

const decoder = new TextDecoder();
let factory: RcmFactory | null = null;

async function talk({ config, workDir, prefix, ...rest }: Talk): Promise<void> {
  const { context: name, receivers, messages, senders } = rest;
  factory = newRcmFactory(config, workDir, "en_US");
  factory.setFilePrefix(prefix);
  const context = factory.newRcmContext(name);
  const tx = context.createTransmitter("t");
  const next = new Map<string, number>();
  const wrong: string[] = [];
  let count = 0;
  context.createReceiver({
    onMessage(data, _sqn, _txArg, info) {
      const from = info.getTxContextName();
      const due = next.get(from) ?? 0;
      const text = decoder.decode(data);
      if (text !== `${from} ${due}` || info.getTxMsgNo() !== due) wrong.push(text);
      next.set(from, due + 1);
      count += 1;
      if (count === senders * messages) realm.postMessage({ kind: "got", wrong });
    },
  });
  await context.start();
  if (!await tx.connected(receivers, 20_000)) throw new Error(`${name} is not connected`);
  for (let i = 0; i < messages; i += 1) {
    while (tx.sendData(`${name} ${i}`) === RcmStatus.WOULD_BLOCK) await tx.ready();
    if (i % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

realm.onmessage = ({ data }) => {
  const run = async () => {
    if (data.stop !== true) return await talk(data);
    await factory?.[Symbol.asyncDispose]();
    realm.postMessage({ kind: "stopped" });
  };
  run().catch((error: unknown) => realm.postMessage({ kind: "failed", text: String(error) }));
};
