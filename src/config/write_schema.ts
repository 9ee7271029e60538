#!/usr/bin/env -S deno run -A
/** Writes `schema/rcm.schema.json`, for editors. Run it after a change of the table of keys. */

import { mkdirSync, writeFileSync } from "node:fs";
import { jsonSchemaText } from "./schema.ts";

const folder = new URL("../../schema/", import.meta.url);
mkdirSync(folder, { recursive: true });
writeFileSync(new URL("rcm.schema.json", folder), jsonSchemaText());
