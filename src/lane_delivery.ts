/**
 * Taking messages of lanes: a lane's deliveries are visits (`native/src/agent/lanes.zig`), and the
 * context's own thread visits all lanes in turn that no Worker has opened (guide 7.2.7).
 */

import type { Delivery } from "./delivery.ts";
import type { NativeCalls } from "./native/symbols.ts";

/** Messages of one lane before the next one has its turn. */
const TURN_MESSAGES = 256;

const ENTERED = 1;
const IS_BLOCKED = 1;
const STAYS = 2;

type LaneCalls = Pick<NativeCalls, "rcm_lane_enter" | "rcm_lane_leave">;

/** A lane from one thread's side. */
export interface LaneVisits {
  readonly delivery: Delivery;
  /**
   * Calls the handler for waiting messages.
   * @returns messages handed over; -1: the context has stopped
   */
  run(limit: number, deadlineMs: number): number;
  /** Goes in, and stays there if `work` gives true. False: somebody else is there. */
  hold(work: () => boolean): boolean;
  /** Ends a stay. */
  leave(): void;
  /** True while a message is being worked on, or has been taken. */
  isInside(): boolean;
}

/**
 * @param handle the lane's, for this thread
 * @param delivery takes its messages while this thread is inside
 */
export function createLaneVisits(
  calls: LaneCalls,
  handle: number,
  delivery: Delivery,
): LaneVisits {
  let inside = false;

  function leave(): void {
    inside = false;
    delivery.drop();
    calls.rcm_lane_leave(handle, delivery.held() ? IS_BLOCKED : 0);
  }

  return {
    delivery,
    run(limit, deadlineMs) {
      if (delivery.entered() || delivery.held()) return 0;
      const entered = calls.rcm_lane_enter(handle);
      if (entered !== ENTERED) return entered < 0 ? -1 : 0;
      inside = true;
      const given = delivery.run(limit, deadlineMs);
      // What is being worked on is nobody else's; its place is kept with it.
      if (delivery.working()) calls.rcm_lane_leave(handle, IS_BLOCKED | STAYS);
      else leave();
      return given;
    },
    hold(work) {
      if (!inside && calls.rcm_lane_enter(handle) !== ENTERED) return false;
      inside = true;
      if (work()) calls.rcm_lane_leave(handle, IS_BLOCKED | STAYS);
      else leave();
      return true;
    },
    leave() {
      if (inside) leave();
    },
    isInside: () => inside,
  };
}

/** @returns all lanes as one delivery, each with its turn */
export function createLanesDelivery(lanes: readonly LaneVisits[]): Delivery {
  const deliveries = lanes.map(({ delivery }) => delivery);
  let first = 0;
  let ended = false;
  /** The lane of the message that an iterator has taken. */
  let taken: LaneVisits | null = null;

  const inTurn = () => {
    const from = first;
    first = (first + 1) % lanes.length;
    return lanes.map((_, at) => lanes[(from + at) % lanes.length]!);
  };

  function release(): void {
    const lane = taken;
    taken = null;
    if (lane === null) return;
    lane.delivery.release();
    lane.leave();
  }

  return {
    run(limit, deadlineMs) {
      let given = 0;
      for (let round = -1; given > round && given < limit && !ended;) {
        round = given;
        for (const lane of inTurn()) {
          const most = Math.min(limit - given, TURN_MESSAGES);
          given += Math.max(0, lane.run(most, deadlineMs));
          if (given >= limit || ended) break;
        }
        if (deadlineMs !== Infinity && performance.now() >= deadlineMs) break;
      }
      return given;
    },
    take() {
      release();
      if (ended) return null;
      for (const lane of inTurn()) {
        let message = null;
        lane.hold(() => (message = lane.delivery.take()) !== null);
        if (message === null) continue;
        taken = lane;
        return message;
      }
      return null;
    },
    release,
    settle() {
      for (const lane of lanes) if (lane.isInside()) lane.delivery.settle();
    },
    // Lanes are of single nodes; a tier's messages have one order.
    giveBack() {},
    carried: () => 0,
    drop() {
      for (const lane of lanes) lane.leave();
    },
    sendAck: (sqn) => deliveries.filter((delivery) => delivery.sendAck(sqn)).length > 0,
    held: () => deliveries.every((delivery) => delivery.held()),
    working: () => deliveries.some((delivery) => delivery.working()),
    entered: () => deliveries.some((delivery) => delivery.entered()),
    refusals: () => deliveries.reduce((sum, delivery) => sum + delivery.refusals(), 0),
    end() {
      ended = true;
      for (const delivery of deliveries) delivery.end();
    },
  };
}
