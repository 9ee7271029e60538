/** CRC32C (Castagnoli), as files and frames carry it: eight bytes a step, by tables. */

const POLYNOMIAL = 0x82f6_3b78;
/** Eight tables of 256: the remainder of a byte that 0 to 7 others follow. */
const TABLES = makeTables();
/** State before the first byte. */
export const CRC_INITIAL = 0xffff_ffff;

function makeTables(): Uint32Array {
  const tables = new Uint32Array(8 * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) * POLYNOMIAL);
    tables[byte] = crc;
  }
  for (let at = 256; at < tables.length; at += 1) {
    const shorter = tables[at - 256]!;
    tables[at] = (shorter >>> 8) ^ tables[shorter & 0xff]!;
  }
  return tables;
}

/** Continues a state by bytes. */
export function crcUpdate(state: number, bytes: Uint8Array): number {
  let crc = state;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    crc ^= bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24;
    crc = TABLES[1792 + (crc & 0xff)]! ^ TABLES[1536 + (crc >>> 8 & 0xff)]! ^
      TABLES[1280 + (crc >>> 16 & 0xff)]! ^ TABLES[1024 + (crc >>> 24)]! ^
      TABLES[768 + bytes[at + 4]!]! ^ TABLES[512 + bytes[at + 5]!]! ^
      TABLES[256 + bytes[at + 6]!]! ^ TABLES[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at += 1) crc = (crc >>> 8) ^ TABLES[(crc ^ bytes[at]!) & 0xff]!;
  return crc >>> 0;
}

/** @returns the check value of a state after the last byte */
export function crcFinish(state: number): number {
  return ~state >>> 0;
}

/** @returns the check value of bytes */
export function crc32c(bytes: Uint8Array): number {
  return crcFinish(crcUpdate(CRC_INITIAL, bytes));
}
