/**
 * A reader of JSON as people write it: commas after the last element are allowed (the guide's own
 * samples have them, 7.2.8 to 7.2.10), and so are comments. Errors say where and what was expected.
 */

/** Deeper nesting than this is no configuration. */
const DEPTH_MAX = 64;
/** Longest part of a wrong text that an error shows, in characters. */
const SHOWN_MAX = 24;

/** A text that is not JSON. */
export class JsonTextError extends Error {
  /** Counted from 1. */
  readonly line: number;
  /** Counted from 1, in characters. */
  readonly column: number;

  constructor(place: TextPlace, what: string) {
    super(`line ${place.line}, column ${place.column}: ${what}`);
    this.name = "JsonTextError";
    this.line = place.line;
    this.column = place.column;
  }
}

/** A place in a text, counted from 1. */
export interface TextPlace {
  readonly line: number;
  readonly column: number;
}

/** A key that one object has twice. */
export interface RepeatedKey extends TextPlace {
  readonly key: string;
}

/** A text as read. */
export interface JsonText {
  readonly value: unknown;
  /** The last of them counts. */
  readonly repeated: readonly RepeatedKey[];
}

/**
 * Reads one JSON value.
 *
 * @param text with or without a byte order mark
 * @throws JsonTextError with line, column, what was expected and what was found
 */
export function parseJsonText(text: string): JsonText {
  let at = text.startsWith("\uFEFF") ? 1 : 0;
  let depth = 0;
  const repeated: RepeatedKey[] = [];

  skipBlank();
  const value = readValue("a JSON value");
  skipBlank();
  if (at < text.length) expected("the end of the file");
  return { value, repeated };

  function readValue(wanted: string): unknown {
    const c = text[at];
    if (c === "{") return nested(readObject);
    if (c === "[") return nested(readArray);
    if (c === '"') return readString();
    if (c === "-" || (c !== undefined && c >= "0" && c <= "9")) return readNumber();
    const word = /[A-Za-z_$][\w$]*/y;
    word.lastIndex = at;
    switch (word.exec(text)?.[0]) {
      case "true":
        at += 4;
        return true;
      case "false":
        at += 5;
        return false;
      case "null":
        at += 4;
        return null;
      default:
        return expected(wanted);
    }
  }

  function nested(read: () => unknown): unknown {
    depth += 1;
    if (depth > DEPTH_MAX) fail(at, `more than ${DEPTH_MAX} levels of nesting`);
    const result = read();
    depth -= 1;
    return result;
  }

  function readObject(): unknown {
    const object: Record<string, unknown> = {};
    at += 1;
    skipBlank();
    while (text[at] !== "}") {
      const keyAt = at;
      if (text[at] !== '"') expected('a key in quotes or "}"');
      const key = readString();
      skipBlank();
      if (text[at] !== ":") expected('":"');
      at += 1;
      skipBlank();
      const value = readValue(`a value of ${JSON.stringify(key)}`);
      if (Object.hasOwn(object, key)) repeated.push({ ...place(keyAt), key });
      // An assignment to "__proto__" would not make a property.
      const property = { value, enumerable: true, configurable: true, writable: true };
      Object.defineProperty(object, key, property);
      skipBlank();
      if (text[at] === ",") {
        at += 1;
        skipBlank();
      } else if (text[at] !== "}") {
        expected('"," or "}"');
      }
    }
    at += 1;
    return object;
  }

  function readArray(): unknown {
    const array: unknown[] = [];
    at += 1;
    skipBlank();
    while (text[at] !== "]") {
      array.push(readValue('a value or "]"'));
      skipBlank();
      if (text[at] === ",") {
        at += 1;
        skipBlank();
      } else if (text[at] !== "]") {
        expected('"," or "]"');
      }
    }
    at += 1;
    return array;
  }

  function readString(): string {
    let result = "";
    at += 1;
    for (;;) {
      // deno-lint-ignore no-control-regex -- JSON wants these as escapes
      const plain = /[^"\\\u0000-\u001f]*/y;
      plain.lastIndex = at;
      const part = plain.exec(text)?.[0] ?? "";
      result += part;
      at += part.length;
      const c = text[at];
      if (c === '"') {
        at += 1;
        return result;
      }
      if (c !== "\\") return expected('the closing "\\""');
      result += readEscape();
    }
  }

  function readEscape(): string {
    const escape = /\\(?:(["\\/bfnrt])|u([0-9a-fA-F]{4}))/y;
    escape.lastIndex = at;
    const match = escape.exec(text);
    if (match === null) {
      at += 1;
      return expected('one of " \\ / b f n r t, or u with four hexadecimal digits, after "\\"');
    }
    at += match[0].length;
    const [, simple, hex] = match;
    if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
    return { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" }[simple ?? ""] ?? simple ?? "";
  }

  function readNumber(): number {
    const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
    number.lastIndex = at;
    const match = number.exec(text);
    const end = at + (match?.[0].length ?? 0);
    // Digits that go on (007, 1.2.3, 5x) are no number of JSON.
    if (match === null || /[\w.]/.test(text[end] ?? "")) return expected("a number of JSON");
    at = end;
    return Number(match[0]);
  }

  function skipBlank(): void {
    for (;;) {
      const blank = /[ \t\r\n]+|\/\/[^\r\n]*|\/\*[^]*?\*\//y;
      blank.lastIndex = at;
      const match = blank.exec(text);
      if (match === null) break;
      at += match[0].length;
    }
    if (text.startsWith("/*", at)) fail(at, 'a comment without its "*/"');
  }

  function expected(wanted: string): never {
    return fail(at, `expected ${wanted}, found ${found()}`);
  }

  function found(): string {
    if (at >= text.length) return "the end of the file";
    const rest = text.slice(at, at + SHOWN_MAX * 2);
    if (/^[\r\n]/.test(rest)) return "the end of the line";
    const word = /^[\w.+-]+/.exec(rest)?.[0] ?? [...rest][0] ?? "";
    return JSON.stringify([...word].slice(0, SHOWN_MAX).join(""));
  }

  function fail(position: number, what: string): never {
    throw new JsonTextError(place(position), what);
  }

  function place(position: number): TextPlace {
    const lines = text.slice(text.startsWith("\uFEFF") ? 1 : 0, position).split(/\r\n|\r|\n/);
    return { line: lines.length, column: [...(lines.at(-1) ?? "")].length + 1 };
  }
}
