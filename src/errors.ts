/**
 * The one error of the library.
 *
 * Set-up (factory, context, create, start, stop) throws it; traffic never does, it answers an
 * `RcmStatus`. A program tells conditions apart by `code`, a person by `message` and `details`.
 */

/** What kind of condition an {@linkcode RcmError} tells of. */
export type RcmErrorCode =
  | "CONFIG"
  | "ARGUMENT"
  | "STATE"
  | "NATIVE"
  | "SOCKET"
  | "SHM"
  | "ARBITRATION"
  | "RECORD"
  | "TIMEOUT"
  | "UNSUPPORTED";

/**
 * The codes in the order of the native side's error numbers: a native result of `-n` is the code
 * at index `n - 1`. (`ErrorCode` in `native/src/abi.zig` is the other end.)
 */
export const ERROR_CODES: readonly RcmErrorCode[] = Object.freeze([
  "CONFIG",
  "ARGUMENT",
  "STATE",
  "NATIVE",
  "SOCKET",
  "SHM",
  "ARBITRATION",
  "RECORD",
  "TIMEOUT",
  "UNSUPPORTED",
]);

/**
 * A call of set-up failed.
 *
 * @example Telling a wrong configuration from the rest
 * ```ts ignore
 * try {
 *   newRcmFactory("./rcm.json");
 * } catch (e) {
 *   if (e instanceof RcmError && e.code === "CONFIG") console.error(e.details.join("\n"));
 *   else throw e;
 * }
 * ```
 */
export class RcmError extends Error {
  /** What kind of condition it is. */
  readonly code: RcmErrorCode;
  /** One line a fault; empty where the message says everything. */
  readonly details: readonly string[];

  /**
   * @param code what kind of condition it is
   * @param message what was wrong and where, in one sentence
   * @param options `cause` as in `Error`; `details`: one line a fault
   */
  constructor(
    code: RcmErrorCode,
    message: string,
    options?: ErrorOptions & { details?: readonly string[] },
  ) {
    super(message, options);
    this.name = "RcmError";
    this.code = code;
    this.details = Object.freeze([...(options?.details ?? [])]);
  }
}

/**
 * The code of a negative native result.
 *
 * @param result what a native call returned, below 0
 * @returns its code; `"NATIVE"` for a number that no code has
 */
export function errorCodeOfNative(result: number): RcmErrorCode {
  return ERROR_CODES[-result - 1] ?? "NATIVE";
}
