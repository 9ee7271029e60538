/** `local:` arbitration: the contract, and what happens to processes. */

import { after } from "node:test";
import { makeLocal } from "./arbitration_bed.ts";
import { contract } from "./arbitration_contract.ts";

const local = makeLocal();
after(() => local.remove());

contract("local", () => local.address, false);
