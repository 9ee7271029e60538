/** The Worker of `main.ts`: sends what it has worked out on the main thread's transmitter. */

import { openSender, type RcmSenderToken, RcmStatus } from "../../mod.ts";

interface Task {
  readonly token: RcmSenderToken;
  readonly messages: number;
}

const realm = globalThis as unknown as { onmessage: (event: { readonly data: Task }) => void };

realm.onmessage = async ({ data: { token, messages } }) => {
  await using sender = openSender(token);
  for (let i = 0; i < messages; i += 1) {
    const text = `Worker ${token.threadNo}: ${i}`;
    while (sender.sendData(text) === RcmStatus.WOULD_BLOCK) await sender.ready();
  }
  await sender.flush();
};
