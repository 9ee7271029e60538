/** The Worker of `main.ts`: handles the messages of one lane. */

import { openLane, type RcmLaneToken } from "../../mod.ts";
import { work } from "./work.ts";

interface Task {
  readonly token: RcmLaneToken;
  readonly messages: number;
}

const realm = globalThis as unknown as {
  onmessage: (event: { readonly data: Task }) => void;
  postMessage(message: string): void;
};

realm.onmessage = ({ data: { token, messages } }) => {
  let handled = 0;
  openLane(token, {
    onMessage(data, _msgSqn, _txArg, info) {
      if (info.getThreadNo() !== token.threadNo) throw new Error("a message of another lane");
      work(data);
      handled += 1;
      if (handled === messages) realm.postMessage("finished");
    },
  });
  realm.postMessage("open");
};
