/**
 * Reads native structs by the layouts that the build generates from Zig (`src/native/abi.ts`).
 *
 * Layouts come in as arguments: the readers here are tested with layouts of their own, and a
 * reader's type says which fields it needs, so a field that goes missing in Zig fails the check.
 */

/** Where a field lies and what it is. */
export interface FieldLayout {
  /** Bytes from the struct's begin. */
  readonly offset: number;
  /** `"u8"`, `"u16"`, `"u32"`, `"i32"`, `"u64"`, `"f64"`. */
  readonly type: string;
  /** How many, where it is an array. */
  readonly count?: number;
}

/** A struct with at least the fields `F`. */
export interface StructLayout<F extends string> {
  /** Its size. */
  readonly bytes: number;
  readonly fields: { readonly [K in F]: FieldLayout };
}

/** A struct's scalar fields as numbers; 64-bit integers are exact to 2^53. */
export type StructValues<F extends string> = { readonly [K in F]: number };

/**
 * Reads one scalar, little-endian.
 *
 * @throws RangeError when the field's type is none that a number can hold
 */
export function readField(view: DataView, at: number, field: FieldLayout): number {
  const offset = at + field.offset;
  switch (field.type) {
    case "u8":
      return view.getUint8(offset);
    case "u16":
      return view.getUint16(offset, true);
    case "u32":
      return view.getUint32(offset, true);
    case "i32":
      return view.getInt32(offset, true);
    case "u64":
      return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
    case "f64":
      return view.getFloat64(offset, true);
    default:
      throw new RangeError(`no reader for a field of type ${field.type}`);
  }
}

/**
 * Reads all scalar fields of a struct.
 *
 * @param view the memory
 * @param at where in `view` the struct begins
 * @param layout arrays in it are skipped
 */
export function readStruct<F extends string>(
  view: DataView,
  at: number,
  layout: StructLayout<F>,
): StructValues<F> {
  const values: Record<string, number> = {};
  for (const [name, field] of Object.entries<FieldLayout>(layout.fields)) {
    if (field.count === undefined) values[name] = readField(view, at, field);
  }
  return values as StructValues<F>;
}
