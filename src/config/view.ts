/** What a program sees of its configuration: `getConfig()` (guide 9.14, 9.15). */

import type { LoadedConfig } from "./load.ts";
import { findNode, routesByTopic } from "./resolve.ts";

/** A configuration, templates and defaults applied (guide 9.14). */
export interface RcmConfig {
  /**
   * @param name a context's name
   * @returns its configuration; null when there is none, or it is a template
   */
  getRcmContextConfig(name: string): RcmContextConfig | null;
}

/** The topics of one context (guide 9.15). */
export interface RcmContextConfig {
  /** @returns number of topics that it sends */
  getTxTopicCount(): number;
  /**
   * @param i from 0
   * @returns a topic that it sends, with its partitions; null when there is none
   */
  getTxTopic(i: number): { name: string; partitionNos: number[] } | null;
  /** @returns number of topics and partitions that it receives */
  getRxTopicCount(): number;
  /**
   * @param i from 0; one index for each topic and partition, in the file's order
   * @returns a topic and partition that it receives; null when there is none
   */
  getRxTopic(i: number): { name: string; partitionNo: number } | null;
}

/** @returns the view that `getConfig()` gives */
export function configView({ model }: LoadedConfig): RcmConfig {
  return {
    getRcmContextConfig(name) {
      const node = findNode(model, name);
      if (node === undefined) return null;
      const tx = routesByTopic(node.tx.all);
      const rx = node.rx.all;
      return {
        getTxTopicCount: () => tx.length,
        getTxTopic(i) {
          const topic = tx[i];
          if (topic === undefined) return null;
          return { name: topic.name, partitionNos: [...topic.partitionNos] };
        },
        getRxTopicCount: () => rx.length,
        getRxTopic(i) {
          const route = rx[i];
          return route === undefined ? null : { name: route.topic, partitionNo: route.partitionNo };
        },
      };
    },
  };
}
