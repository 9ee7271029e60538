/** ZooKeeper servers for tests: those of `tools/zookeeper.ts`, which examples use too. */

export {
  askZookeeper,
  startZookeeper,
  type Zookeeper,
  type ZookeeperHost,
  zookeeperMissing,
  type ZookeeperOptions,
  type ZookeeperServer,
} from "../../../tools/zookeeper.ts";
