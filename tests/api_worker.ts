/** The Worker of `api_worker_test.ts`: a receiver of its own realm, which counts and stops. */

import { newRcmFactory, type RcmConfigInput } from "../mod.ts";

interface Task {
  readonly config: RcmConfigInput;
  readonly workDir: string;
  readonly prefix: string;
  readonly messages: number;
}

const realm = globalThis as unknown as {
  onmessage: (event: { readonly data: Task }) => void;
  postMessage(message: unknown): void;
};

realm.onmessage = async ({ data: task }) => {
  const factory = newRcmFactory(task.config, task.workDir);
  factory.setFilePrefix(task.prefix);
  const context = factory.newRcmContext("rx1");
  let inOrder = 0;
  let finish = () => {};
  const finished = new Promise<void>((resolve) => finish = resolve);
  context.createReceiver({
    onMessage(data, sqn) {
      if (new TextDecoder().decode(data) === `${inOrder}` && sqn === inOrder) inOrder += 1;
      if (sqn + 1 === task.messages) finish();
    },
  });
  await context.start();
  realm.postMessage("started");
  await finished;
  await factory[Symbol.asyncDispose]();
  realm.postMessage(inOrder);
};
