/** Arbitration in ZooKeeper: the contract, over a real server. */

import { after, before } from "node:test";
import { startZookeeper, type Zookeeper, zookeeperMissing } from "../tools/zookeeper.ts";
import { contract } from "./arbitration_contract.ts";

const missing = zookeeperMissing();
let zookeeper: Zookeeper | null = null;

before(async () => {
  if (missing === false) zookeeper = await startZookeeper();
});
after(() => zookeeper?.stop());

contract("ZooKeeper", () => zookeeper!.address, missing);
