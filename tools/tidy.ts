/**
 * Style of the TypeScript sources as a test: what formatter, linter and compiler do not say.
 * Prints each offence as `path:line: what, and what instead`, and ends with `N passed, N failed`.
 */

import { listFiles } from "./paths.ts";
import { countLine, nothing } from "./report.ts";
import { projectRoot } from "./toolchain.ts";

const columnsMax = 100;
const fileLinesMax = 600;
/** A longer file is one thing, and a line of its first comment says so. */
const longFileMark = "Long because ";

interface Source {
  /** Relative to the project. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
}

/** A rule reports offences by the line they are in, counted from 1. */
interface Rule {
  readonly name: string;
  readonly check: (sources: readonly Source[], offence: Report) => void;
}
type Report = (source: Source, line: number, text: string) => void;

const folders = ["src", "tools", "tests", "examples", "bench"];
/** In halves, so that this file does not hold the words. */
const unfinishedWords = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"];
const unfinished = new RegExp(`\\b(${unfinishedWords.join("|")})\\b`);

const rules: readonly Rule[] = [
  {
    name: `lines are at most ${columnsMax} columns`,
    check: everyLine((line) => {
      // A text or an address that can't be broken stands on a line of its own.
      const isText = /^\s*(\S+\s)?["'`].*["'`][,;)]*$/.test(line) || line.includes("://");
      return [...line].length > columnsMax && !isText ? `over ${columnsMax} columns` : null;
    }),
  },
  {
    name: `files are at most ${fileLinesMax} lines`,
    check: (sources, offence) => {
      for (const source of sources) {
        if (source.lines.length <= fileLinesMax) continue;
        const header = source.text.slice(0, source.text.indexOf("*/"));
        if (!header.includes(longFileMark)) {
          offence(source, source.lines.length, `over ${fileLinesMax} lines; cut it`);
        }
      }
    },
  },
  {
    name: "files start with a comment that says what they are",
    check: (sources, offence) => {
      for (const source of sources) {
        if (!/^(#!.*\n)?\/\*\*/.test(source.text) && !source.path.endsWith("_test.ts")) {
          offence(source, 1, "no header; start with /** What this is. */");
        }
      }
    },
  },
  {
    name: "names of files are snake_case",
    check: (sources, offence) => {
      for (const source of sources) {
        if (!/^[a-z0-9_/]+\.ts$/.test(source.path)) offence(source, 1, "not snake_case");
      }
    },
  },
  {
    // The linter knows where `any` stands; here nobody tells it to look away.
    name: "nothing is of type any",
    check: everyLine((line) =>
      /\/\/ deno-lint-ignore\S* .*no-explicit-any/.test(line)
        ? "a silenced lint; say what the type is"
        : null
    ),
  },
  {
    name: "the compiler is not silenced",
    check: everyLine((line) =>
      /^\s*(\/\/|\/\*)\s*@ts-(ignore|nocheck|expect-error)/.test(line)
        ? "a silenced type error; say the type"
        : null
    ),
  },
  {
    name: "nothing is marked as unfinished",
    check: everyLine((line) => unfinished.test(line) ? "finish it, or leave it out" : null),
  },
  { name: "what mod.ts reaches imports relative paths and node: only", check: checkPublicImports },
  { name: "every file of src/ is imported by somebody", check: checkOrphans },
];

function everyLine(check: (line: string) => string | null): Rule["check"] {
  return (sources, offence) => {
    for (const source of sources) {
      source.lines.forEach((line, index) => {
        const text = check(line);
        if (text !== null) offence(source, index + 1, text);
      });
    }
  };
}

interface Import {
  readonly specifier: string;
  readonly line: number;
}

/** What a source imports or re-exports, statically or by a literal. */
function imports(source: Source): Import[] {
  const patterns = [
    /(?:^|\n)\s*(?:import|export)\b[^;"'`]*?\bfrom\s*(["'])(.+?)\1/g,
    /(?:^|\n)\s*import\s*(["'])(.+?)\1/g,
    /\bimport\(\s*(["'`])(.+?)\1/g,
    /\bnew URL\(\s*(["'])(.+?)\1\s*,\s*import\.meta\.url/g,
  ];
  return patterns.flatMap((pattern) =>
    [...source.text.matchAll(pattern)].map((match) => ({
      specifier: match[2] ?? "",
      line: source.text.slice(0, match.index).split("\n").length,
    }))
  );
}

function resolve(source: Source, specifier: string): string {
  return new URL(specifier, `file:///${source.path}`).pathname.slice(1);
}

/** All sources that `roots` reach over relative imports, the roots included. */
function reach(sources: readonly Source[], roots: readonly string[]): Source[] {
  const byPath = new Map(sources.map((source) => [source.path, source]));
  const reached = new Set<Source>();
  const queue = [...roots];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    const source = byPath.get(path);
    if (source === undefined || reached.has(source)) continue;
    reached.add(source);
    for (const { specifier } of imports(source)) {
      if (specifier.startsWith(".")) queue.push(resolve(source, specifier));
    }
  }
  return [...reached];
}

function checkPublicImports(sources: readonly Source[], offence: Report): void {
  for (const source of reach(sources, ["mod.ts"])) {
    for (const { specifier, line } of imports(source)) {
      if (specifier.startsWith("node:")) continue;
      if (!specifier.startsWith(".")) {
        offence(
          source,
          line,
          `imports "${specifier}"; only relative paths and node: work anywhere`,
        );
      } else if (!/^(src\/|mod\.ts)/.test(resolve(source, specifier)) && /\.ts$/.test(specifier)) {
        offence(source, line, `imports "${specifier}", which is no part of the library`);
      }
    }
  }
}

function checkOrphans(sources: readonly Source[], offence: Report): void {
  // A program is started by a task or has a first line of its own; everything outside is a user.
  const config = Deno.readTextFileSync(`${projectRoot}/deno.json`);
  const isRoot = ({ path, text }: Source) =>
    !path.startsWith("src/") || text.startsWith("#!") || config.includes(path) ||
    /\bimport\.meta\.main\b/.test(text);
  const reached = reach(sources, sources.filter(isRoot).map((source) => source.path));
  for (const source of sources) {
    if (!reached.includes(source)) offence(source, 1, "nobody imports it; import it, or delete it");
  }
}

function readSources(): Source[] {
  const paths = folders.flatMap((folder) =>
    listFiles(`${projectRoot}/${folder}`, ".ts", ["fixtures", "node_modules"])
  );
  return [`${projectRoot}/mod.ts`, ...paths].flatMap((absolute) => {
    const path = absolute.slice(projectRoot.length + 1);
    if (!isThere(absolute)) return []; // mod.ts in a tree that is only beginning.
    const text = Deno.readTextFileSync(absolute);
    return [{ path, text, lines: text.replace(/\n$/, "").split("\n") }];
  });
}

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

const sources = readSources();
let failed = 0;
for (const rule of rules) {
  let offences = 0;
  rule.check(sources, (source, line, text) => {
    offences += 1;
    console.log(`${source.path}:${line}: ${text}`);
  });
  if (offences > 0) {
    failed += 1;
    console.log(`failed: ${rule.name} (${offences})`);
  }
}
console.log(countLine({ ...nothing, passed: rules.length - failed, failed }));
Deno.exit(failed > 0 ? 1 : 0);
