/** The lanes of a context, from its own thread's side (guide 7.2.7). */

import type { Delivery } from "./delivery.ts";
import { createLanesDelivery, createLaneVisits } from "./lane_delivery.ts";
import type { NativeCalls } from "./native/symbols.ts";

/** Bytes of a refusal's description that cross from a Worker. */
const FAULT_BYTES = 512;

/** Lines for the context's log. */
export interface LaneFaults {
  /** A handler in a Worker refused a message for the first time. */
  onRefused(outcome: string): void;
  /** It has gone on for another second. */
  onStillRefusing(count: number): void;
}

/** All lanes of a started context. */
export interface Lanes {
  /** Visits those that no Worker has opened. */
  readonly delivery: Delivery;
  /** Tells what went wrong in Workers. */
  readFaults(): void;
  /** Refusals by handlers in Workers. */
  refusalsElsewhere(): number;
}

/**
 * @param deliveryOf makes the delivery of a lane's handle
 */
export function createLanes(
  calls: NativeCalls,
  context: number,
  deliveryOf: (lane: number) => Delivery,
  faults: LaneFaults,
): Lanes {
  const count = calls.rcm_lanes(context);
  const handles = Array.from({ length: count }, (_, no) => context * 256 + no);
  const visits = handles.map((handle) => createLaneVisits(calls, handle, deliveryOf(handle)));
  const refused = handles.map(() => 0);
  const numbers = new Float64Array(2);
  const bytes = new Uint8Array(FAULT_BYTES);
  const decoder = new TextDecoder();

  function readFaults(): void {
    handles.forEach((handle, no) => {
      numbers[0] = -1;
      const length = calls.rcm_lane_fault(handle, numbers, bytes, bytes.byteLength);
      if (numbers[0]! >= 0) refused[no] = numbers[0]!;
      if (length < 0) return;
      if (numbers[1]! > 0) faults.onStillRefusing(numbers[1]!);
      else faults.onRefused(decoder.decode(bytes.subarray(0, length)));
    });
  }

  return {
    delivery: createLanesDelivery(visits),
    readFaults,
    refusalsElsewhere() {
      readFaults();
      return refused.reduce((sum, one) => sum + one, 0);
    },
  };
}
