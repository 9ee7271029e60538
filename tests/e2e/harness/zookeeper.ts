/** ZooKeeper servers for tests: those of `tools/zookeeper.ts`, which examples use too. */

export {
  startZookeeper,
  type Zookeeper,
  zookeeperMissing,
  type ZookeeperOptions,
  type ZookeeperServer,
} from "../../../tools/zookeeper.ts";
