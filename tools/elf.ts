/** The few facts about a shared library that decide where it loads. */

/** What a 64-bit little-endian ELF file says about itself. */
export interface ElfFacts {
  /** `DF_1_NODELETE`: it stays mapped after `dlclose`. */
  readonly noDelete: boolean;
  /** The newest version of glibc that it asks for, as `[2, 17]`. */
  readonly glibc: readonly [number, number];
  /** What `strings FILE | grep "rcm version"` shows. */
  readonly version: string | null;
}

const programHeaderDynamic = 2;
const tagFlags1 = 0x6ffffffb;
const flagNoDelete = 0x8;

/** Reads the facts. @throws RangeError when the file is cut short */
export function readElf(bytes: Uint8Array<ArrayBuffer>): ElfFacts {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = new TextDecoder("latin1").decode(bytes);
  const versions = [...text.matchAll(/GLIBC_(\d+)\.(\d+)/g)]
    .map(([, major = "0", minor = "0"]) => [Number(major), Number(minor)] as const)
    .sort((left, right) => left[0] - right[0] || left[1] - right[1]);
  return {
    noDelete: (readFlags1(view) & flagNoDelete) !== 0,
    glibc: versions.at(-1) ?? [0, 0],
    version: /rcm version V[ -~]+/.exec(text)?.[0] ?? null,
  };
}

function readFlags1(view: DataView): number {
  const headers = Number(view.getBigUint64(0x20, true));
  const headerBytes = view.getUint16(0x36, true);
  const headerCount = view.getUint16(0x38, true);
  for (let index = 0; index < headerCount; index += 1) {
    const at = headers + index * headerBytes;
    if (view.getUint32(at, true) !== programHeaderDynamic) continue;
    const start = Number(view.getBigUint64(at + 0x08, true));
    const length = Number(view.getBigUint64(at + 0x20, true));
    for (let entry = start; entry < start + length; entry += 16) {
      if (Number(view.getBigUint64(entry, true)) !== tagFlags1) continue;
      return Number(view.getBigUint64(entry + 8, true));
    }
  }
  return 0;
}
