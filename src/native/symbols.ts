/**
 * Every native call, once, typed for both runtimes.
 *
 * Only `u32`, `i32`, `f64` and buffers cross: Deno leaves its fast path for 64-bit integers, and a
 * pointer made per call is dearer than the call. 64-bit values are `f64` (exact to 2^53) or lie in
 * mapped memory. A negative `i32` of a set-up call is minus an `RcmErrorCode`, whose text
 * `rcm_last_error` tells. Above each call stands its C prototype.
 */

/** What a parameter or a result may be. */
export type NativeType = "u32" | "i32" | "f64" | "buffer";

/** One call: the types of its parameters and of its result. */
export interface NativeSignature {
  readonly parameters: readonly NativeType[];
  readonly result: Exclude<NativeType, "buffer">;
}

export const symbols = {
  // uint32_t rcm_abi_hash(void)
  rcm_abi_hash: { parameters: [], result: "u32" },
  // int32_t rcm_version(char *text, uint32_t capacity)
  rcm_version: { parameters: ["buffer", "u32"], result: "i32" },
  // int32_t rcm_last_error(char *text, uint32_t capacity)
  rcm_last_error: { parameters: ["buffer", "u32"], result: "i32" },
  // int32_t rcm_file_owned(const char *path, uint32_t length)
  rcm_file_owned: { parameters: ["buffer", "u32"], result: "i32" },
  // int32_t rcm_record_cut(const char *directory, uint32_t length, const char *name,
  //   uint32_t name_length, double sqn)
  rcm_record_cut: { parameters: ["buffer", "u32", "buffer", "u32", "f64"], result: "i32" },
  // int32_t rcm_context_start(const char *json, uint32_t length, int32_t waker)
  rcm_context_start: { parameters: ["buffer", "u32", "i32"], result: "i32" },
  // int32_t rcm_context_state(uint32_t context)
  rcm_context_state: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_context_drain(uint32_t context)
  rcm_context_drain: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_context_close(uint32_t context)
  rcm_context_close: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_drain(uint32_t context, uint32_t processed, uint32_t max)
  rcm_drain: { parameters: ["u32", "u32", "u32"], result: "i32" },
  // int32_t rcm_ack(uint32_t context, double next_sqn)
  rcm_ack: { parameters: ["u32", "f64"], result: "i32" },
  // int32_t rcm_work(uint32_t context)
  rcm_work: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_arm(uint32_t context)
  rcm_arm: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_notices(uint32_t context, Notice *notices, uint32_t max)
  rcm_notices: { parameters: ["u32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_interest(uint32_t context, uint32_t on)
  rcm_interest: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t rcm_region(uint32_t context, uint32_t which, double address_and_length[2])
  rcm_region: { parameters: ["u32", "u32", "buffer"], result: "i32" },
  // int32_t rcm_stats(uint32_t context, uint8_t *snapshot, uint32_t capacity)
  rcm_stats: { parameters: ["u32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_stream(uint32_t context, uint32_t stream, StreamInfo *info, uint32_t capacity)
  rcm_stream: { parameters: ["u32", "u32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_tier_view(uint32_t context, const TierView *view)
  rcm_tier_view: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t rcm_tier_answer(uint32_t context, const TierAnswer *answer)
  rcm_tier_answer: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t rcm_tier_command(uint32_t context, TierCommand *command)
  rcm_tier_command: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t rcm_tier_state(uint32_t context, TierState *state)
  rcm_tier_state: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t rcm_tier_leave(uint32_t context)
  rcm_tier_leave: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_tier_bind(uint32_t context, int32_t arbiter)
  rcm_tier_bind: { parameters: ["u32", "i32"], result: "i32" },
  // int32_t rcm_tier_sync(uint32_t context, const uint8_t *data, uint32_t length, double number,
  //   double carried)
  rcm_tier_sync: { parameters: ["u32", "buffer", "u32", "f64", "f64"], result: "i32" },
  // int32_t rcm_tier_syn(uint32_t context, uint32_t accepted, uint32_t settled, uint8_t *buffer,
  //   uint32_t capacity, double number_and_length[2])
  rcm_tier_syn: { parameters: ["u32", "u32", "u32", "buffer", "u32", "buffer"], result: "i32" },
  // int32_t rcm_tier_open(uint32_t context)
  rcm_tier_open: { parameters: ["u32"], result: "i32" },
  // Where a transmitter or an allocator is named, the sender of another thread may stand for it.
  // double rcm_malloc(uint32_t allocator, uint32_t size)
  rcm_malloc: { parameters: ["u32", "u32"], result: "f64" },
  // double rcm_realloc(uint32_t allocator, uint32_t size)
  rcm_realloc: { parameters: ["u32", "u32"], result: "f64" },
  // int32_t rcm_allocator(uint32_t context, uint32_t tx, uint32_t thread_no)
  rcm_allocator: { parameters: ["u32", "u32", "u32"], result: "i32" },
  // int32_t rcm_send(uint32_t allocator, uint32_t length, uint32_t partition, uint32_t arg)
  rcm_send: { parameters: ["u32", "u32", "u32", "u32"], result: "i32" },
  // int32_t rcm_send_data(uint32_t tx, const void *data, uint32_t length, uint32_t partition,
  //   uint32_t arg)
  rcm_send_data: { parameters: ["u32", "buffer", "u32", "u32", "u32"], result: "i32" },
  // int32_t rcm_send_flag(uint32_t tx, uint32_t flag)
  rcm_send_flag: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t rcm_tx_marks(uint32_t tx, double *marks)
  rcm_tx_marks: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t rcm_tx_flushed(uint32_t tx, const double *marks)
  rcm_tx_flushed: { parameters: ["u32", "buffer"], result: "i32" },
  // int32_t rcm_tx_ready(uint32_t tx)
  rcm_tx_ready: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_tx_connected(uint32_t tx)
  rcm_tx_connected: { parameters: ["u32"], result: "i32" },
  // Lanes: a handle is a context's handle << 8 | lane for its own thread, or rcm_lane_open's.
  // int32_t rcm_lanes(uint32_t context)
  rcm_lanes: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_lane_open(uint32_t context, uint32_t lane_no)
  rcm_lane_open: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t rcm_lane_close(uint32_t lane)
  rcm_lane_close: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_lane_waker(uint32_t lane, int32_t waker)
  rcm_lane_waker: { parameters: ["u32", "i32"], result: "i32" },
  // int32_t rcm_lane_enter(uint32_t lane)
  rcm_lane_enter: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_lane_leave(uint32_t lane, uint32_t how)
  rcm_lane_leave: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t rcm_lane_drain(uint32_t lane, uint32_t processed, uint32_t max)
  rcm_lane_drain: { parameters: ["u32", "u32", "u32"], result: "i32" },
  // int32_t rcm_lane_arm(uint32_t lane)
  rcm_lane_arm: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_lane_region(uint32_t lane, uint32_t which, double address_and_length[2])
  rcm_lane_region: { parameters: ["u32", "u32", "buffer"], result: "i32" },
  // int32_t rcm_lane_stream(uint32_t lane, uint32_t stream, StreamInfo *info, uint32_t capacity)
  rcm_lane_stream: { parameters: ["u32", "u32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_lane_topic(uint32_t lane, uint32_t transport, uint32_t *partition, char *text,
  //   uint32_t capacity)
  rcm_lane_topic: { parameters: ["u32", "u32", "buffer", "buffer", "u32"], result: "i32" },
  // int32_t rcm_lane_refused(uint32_t lane, uint32_t count, const char *text, uint32_t length)
  rcm_lane_refused: { parameters: ["u32", "u32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_lane_fault(uint32_t lane, double refusals[2], char *text, uint32_t capacity)
  rcm_lane_fault: { parameters: ["u32", "buffer", "buffer", "u32"], result: "i32" },
  // double rcm_process_nonce(void)
  rcm_process_nonce: { parameters: [], result: "f64" },
  // int32_t rcm_tx_share(uint32_t tx)
  rcm_tx_share: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_sender_open(uint32_t tx, uint32_t thread_no,
  //   double address_and_length_and_partitions[3])
  rcm_sender_open: { parameters: ["u32", "u32", "buffer"], result: "i32" },
  // int32_t rcm_sender_close(uint32_t sender)
  rcm_sender_close: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_repair_socket(const char *ip, uint32_t length, uint32_t port)
  rcm_repair_socket: { parameters: ["buffer", "u32", "u32"], result: "i32" },
  // int32_t rcm_fd_close(int32_t fd)
  rcm_fd_close: { parameters: ["i32"], result: "i32" },
  // int32_t rcm_waker_open(const char *path, uint32_t length)
  rcm_waker_open: { parameters: ["buffer", "u32"], result: "i32" },
  // int32_t rcm_waker_close(uint32_t waker)
  rcm_waker_close: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_arbiter_open(uint32_t local, int32_t waker, const char *path, uint32_t length)
  rcm_arbiter_open: { parameters: ["u32", "i32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_arbiter_request(uint32_t arbiter, const uint8_t *request, uint32_t length)
  rcm_arbiter_request: { parameters: ["u32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_arbiter_take(uint32_t arbiter, uint8_t *event, uint32_t capacity)
  rcm_arbiter_take: { parameters: ["u32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_arbiter_arm(uint32_t arbiter)
  rcm_arbiter_arm: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_arbiter_wait(uint32_t arbiter, uint32_t timeout_ms)
  rcm_arbiter_wait: { parameters: ["u32", "u32"], result: "i32" },
  // int32_t rcm_arbiter_lease(uint32_t arbiter, ArbiterLease *lease, uint32_t capacity)
  rcm_arbiter_lease: { parameters: ["u32", "buffer", "u32"], result: "i32" },
  // int32_t rcm_arbiter_end(uint32_t arbiter)
  rcm_arbiter_end: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_arbiter_close(uint32_t arbiter)
  rcm_arbiter_close: { parameters: ["u32"], result: "i32" },
  // int32_t rcm_arbiter_held(const char *path, uint32_t length)
  rcm_arbiter_held: { parameters: ["buffer", "u32"], result: "i32" },
} as const satisfies Record<string, NativeSignature>;

/** The name of a native call. */
export type NativeName = keyof typeof symbols;

/** What may be handed over as a buffer: its first byte's address is passed. */
export type NativeBuffer = Uint8Array | Uint32Array | Float64Array;

type Argument<T extends NativeType> = T extends "buffer" ? NativeBuffer : number;
type Arguments<P extends readonly NativeType[]> = { [I in keyof P]: Argument<P[I]> };

/** The native calls as JavaScript functions. */
export type NativeCalls = {
  readonly [N in NativeName]: (
    ...args: Arguments<(typeof symbols)[N]["parameters"]>
  ) => number;
};
