/** The JSON Schema (draft 7) of the configuration, for editors; made from the table of keys. */

import { FORMATS } from "./formats.ts";
import type { Key, Place } from "./key_kinds.ts";
import { keysAt } from "./keys.ts";

/** A schema, or a part of one. */
export type JsonSchema = { readonly [keyword: string]: unknown };

/** @returns the schema of `rcm.json`; `schema/rcm.schema.json` is this */
export function jsonSchema(): JsonSchema {
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Configuration of RCM",
    type: "object",
    properties: {
      $schema: { type: "string" },
      Rcm: { $ref: "#/definitions/top" },
    },
    required: ["Rcm"],
    additionalProperties: false,
    // For editors that know these two: the reader allows them.
    allowTrailingCommas: true,
    allowComments: true,
    definitions: {
      top: objectSchema("top", ["Transports", "Contexts"]),
      transport: objectSchema("transport", []),
      context: objectSchema("context", ["Name"]),
      topic: objectSchema("topic", ["Name"]),
    },
  };
}

/** @returns the text of the schema's file */
export function jsonSchemaText(): string {
  return `${JSON.stringify(jsonSchema(), null, 2)}\n`;
}

function objectSchema(place: Place, required: readonly string[]): JsonSchema {
  const properties: Record<string, JsonSchema> = {};
  for (const key of keysAt(place)) {
    properties[key.name] = { description: key.meaning, ...valueSchema(key), ...initial(key) };
  }
  return {
    type: "object",
    properties,
    ...(required.length === 0 ? {} : { required }),
    additionalProperties: false,
  };
}

function initial(key: Key): JsonSchema {
  if (key.default === null) return {};
  return { default: typeof key.default === "boolean" ? Number(key.default) : key.default };
}

function valueSchema(key: Key): JsonSchema {
  switch (key.kind) {
    case "flag":
      return { enum: [0, 1, false, true] };
    case "integer": {
      // The number of cores is another on each machine.
      const range = { minimum: key.min, ...(key.max === "cores" ? {} : { maximum: key.max }) };
      const isInside = key.default === null || key.default >= key.min;
      if (isInside) return { type: "integer", ...range };
      return { anyOf: [{ type: "integer", ...range }, { const: key.default }] };
    }
    case "text": {
      const { pattern } = FORMATS[key.format];
      return { type: "string", pattern: key.default === "" ? `^$|${pattern}` : pattern };
    }
    case "choice":
      return { enum: [...key.choices] };
    case "list":
      return listSchema(key.of, {
        ...(key.minItems === 0 ? {} : { minItems: key.minItems }),
        maxItems: key.maxItems,
      });
  }
}

function listSchema(of: (Key & { kind: "list" })["of"], count: JsonSchema): JsonSchema {
  switch (of) {
    case "transports":
      return { type: "array", items: { $ref: "#/definitions/transport" }, ...count };
    case "contexts":
      return { type: "array", items: { $ref: "#/definitions/context" }, ...count };
    case "topics":
      return { type: "array", items: { $ref: "#/definitions/topic" }, ...count };
    case "partitions": {
      const items = { type: "integer", minimum: 1, maximum: 0xffff };
      return { type: "array", items, uniqueItems: true, ...count };
    }
    case "names":
      return {
        anyOf: [{ type: "string" }, { type: "array", items: { type: "string" }, ...count }],
      };
  }
}
