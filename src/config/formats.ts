/** What texts of the configuration have to look like: names, addresses, keys. */

import type { Format } from "./key_kinds.ts";

/** Longest name of a context, in bytes of UTF-8 (the files' headers have room for it). */
export const NAME_BYTES_MAX = 63;
/** Longest name of a topic, in bytes of UTF-8 (guide 10.1). */
export const TOPIC_BYTES_MAX = 127;

/** Most addresses of one transport. */
export const ADDRESSES_MAX = 64;

const encoder = new TextEncoder();

/** A format as messages name it, and as it is checked. */
export interface FormatRule {
  /** Continues "expected ...". */
  readonly expected: string;
  /** Nearly the same for editors: a regular expression. */
  readonly pattern: string;
  /** True: errors must not show the text. */
  readonly isSecret?: boolean;
  matches(text: string): boolean;
}

const OCTET = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const GROUP_OCTET = "(?:22[4-9]|23\\d)";
const ADDRESS = `${OCTET}(?:\\.${OCTET}){3}`;
const GROUP = `${GROUP_OCTET}(?:\\.${OCTET}){3}`;

const addressExpression = new RegExp(`^${ADDRESS}$`);

/** @returns the address as a number 0..2^32-1; null when the text is no IPv4 address */
export function parseAddress(text: string): number | null {
  if (!addressExpression.test(text)) return null;
  return text.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

/** @returns whether an IPv4 address is a multicast group, 224.0.0.0 to 239.255.255.255 */
export function isMulticast(text: string): boolean {
  const address = parseAddress(text);
  return address !== null && address >= 0xe000_0000 && address < 0xf000_0000;
}

/** A host: neither "this network", nor a group, nor broadcast, nor reserved. */
function isUnicast(text: string): boolean {
  const address = parseAddress(text);
  return address !== null && address >= 0x0100_0000 && address < 0xe000_0000;
}

/**
 * @param text what stands in `Addr`
 * @returns its addresses, each once
 */
export function splitAddresses(text: string): readonly string[] {
  return [...new Set(text.split(",").map((part) => part.trim()))];
}

function isAddresses(text: string): boolean {
  const addresses = splitAddresses(text);
  const [first = ""] = addresses;
  if (addresses.length === 1 && isMulticast(first)) return true;
  return addresses.length <= ADDRESSES_MAX && addresses.every(isUnicast);
}

/** An interface is named by an address of it, or by a network that it is in. */
function isInterface(text: string): boolean {
  const [address = "", bits, ...more] = text.split("/");
  if (parseAddress(address) === null || isMulticast(address) || more.length > 0) return false;
  return bits === undefined || (/^\d{1,2}$/.test(bits) && Number(bits) <= 32);
}

/** Names become names of files: `.` and `..` are folders. */
function isName(text: string, bytesMax: number): boolean {
  const bytes = encoder.encode(text).length;
  return bytes >= 1 && bytes <= bytesMax && text !== "." && text !== ".." &&
    !/[/\p{Cc}]/u.test(text) && !/\p{Cs}/u.test(text);
}

const NAME_CHARACTERS = "[^/\\u0000-\\u001f\\u007f-\\u009f]";

/** The rules of all formats. */
export const FORMATS: Readonly<Record<Format, FormatRule>> = {
  name: {
    expected: `a name of 1..${NAME_BYTES_MAX} bytes without "/" and control characters`,
    pattern: `^${NAME_CHARACTERS}{1,${NAME_BYTES_MAX}}$`,
    matches: (text) => isName(text, NAME_BYTES_MAX),
  },
  topic: {
    expected: `a name of 1..${TOPIC_BYTES_MAX} bytes without "/" and control characters`,
    pattern: `^${NAME_CHARACTERS}{1,${TOPIC_BYTES_MAX}}$`,
    matches: (text) => isName(text, TOPIC_BYTES_MAX),
  },
  addresses: {
    expected: `one IPv4 multicast group, or 1..${ADDRESSES_MAX} IPv4 unicast addresses by comma`,
    pattern: `^\\s*(?:${GROUP}|${ADDRESS}(?:\\s*,\\s*${ADDRESS})*)\\s*$`,
    matches: isAddresses,
  },
  interface: {
    expected: "an IPv4 address of an interface, or a network a.b.c.d/n",
    pattern: `^${ADDRESS}(?:/(?:3[0-2]|[12]?\\d))?$`,
    matches: isInterface,
  },
  multicast: {
    expected: "one IPv4 multicast group (224.0.0.0 to 239.255.255.255)",
    pattern: `^${GROUP}$`,
    matches: isMulticast,
  },
  "hex key": {
    expected: "64 hexadecimal digits",
    pattern: "^[0-9a-fA-F]{64}$",
    isSecret: true,
    matches: (text) => /^[0-9a-fA-F]{64}$/.test(text),
  },
  folder: {
    expected: "a folder",
    pattern: "^[^\\u0000]+$",
    matches: (text) => text.length > 0 && !text.includes("\0"),
  },
};
