/** Errors that tests expect. */

import assert from "node:assert/strict";
import { RcmError, type RcmErrorCode } from "../src/errors.ts";

/** @returns the error of that code that the promise rejects with */
export async function rejectsCode(
  promise: Promise<unknown>,
  code: RcmErrorCode,
): Promise<RcmError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof RcmError, `${error}`);
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`it was expected to reject with ${code}`);
}
