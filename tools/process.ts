/** Child processes of the tools: captured and bounded in time, or passed through. */

/** What a captured child left behind. */
export interface Captured {
  /** Exit code; 128 + number where a signal ended it, 124 where it took too long. */
  readonly code: number;
  /** Standard output and error as they came. */
  readonly output: string;
}

export interface RunOptions {
  readonly cwd?: string;
  /** Added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Longest run in milliseconds; the default is ten minutes. */
  readonly timeoutMs?: number;
}

const defaultTimeoutMs = 10 * 60_000;
/** How long the pipes of a killed child, which its own children may hold open, are waited for. */
const drainMs = 2_000;

/** Runs a program to its end. A program that is not there is code 127. */
export async function capture(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Captured> {
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(command, {
      args: [...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: { ...options.env } }),
    }).spawn();
  } catch (error) {
    return { code: 127, output: `${command}: ${error instanceof Error ? error.message : error}\n` };
  }
  const chunks: string[] = [];
  const drained = Promise.all([collect(child.stdout, chunks), collect(child.stderr, chunks)]);
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  const status = await child.status;
  clearTimeout(timer);
  let graceTimer: ReturnType<typeof setTimeout> | undefined;
  const grace = new Promise((resolve) => graceTimer = setTimeout(resolve, drainMs));
  await Promise.race([drained, grace]);
  clearTimeout(graceTimer);
  if (timedOut) chunks.push(`\nkilled: it ran longer than ${timeoutMs / 1000} s\n`);
  else if (status.signal !== null) chunks.push(`\nended by ${status.signal}\n`);
  return { code: timedOut ? 124 : status.code, output: chunks.join("") };
}

async function collect(stream: ReadableStream<Uint8Array>, chunks: string[]): Promise<void> {
  const decoder = new TextDecoder();
  for await (const bytes of stream) chunks.push(decoder.decode(bytes, { stream: true }));
}

/** Runs a program on this terminal; interrupts reach it. @returns its exit code */
export async function passThrough(
  command: string,
  args: readonly string[],
  options: Omit<RunOptions, "timeoutMs"> = {},
): Promise<number> {
  const child = new Deno.Command(command, {
    args: [...args],
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
  }).spawn();
  // The terminal sends the interrupt to the child too; a kill of this process is handed on.
  const ignore = () => {};
  const forward = () => child.kill("SIGTERM");
  Deno.addSignalListener("SIGINT", ignore);
  Deno.addSignalListener("SIGTERM", forward);
  try {
    return (await child.status).code;
  } finally {
    Deno.removeSignalListener("SIGINT", ignore);
    Deno.removeSignalListener("SIGTERM", forward);
  }
}

/** Finds a program on the PATH and in the folders that the PATH of ordinary users leaves out. */
export function findProgram(name: string): string | null {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  for (const folder of [...folders, "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]) {
    if (folder === "") continue;
    try {
      if (Deno.statSync(`${folder}/${name}`).isFile) return `${folder}/${name}`;
    } catch {
      // Not there: the next one.
    }
  }
  return null;
}

/** Ends the tool with a message of one or more lines instead of a stack. */
export class ToolError extends Error {
  override readonly name = "ToolError";
}

/** Runs a tool's `main`; prints what went wrong without a stack where the cause is known. */
export async function runTool(main: () => Promise<number>): Promise<never> {
  // Deno trusts its own list of authorities alone; behind a proxy with a certificate of its own the
  // system's list is what other package clients go by.
  if (Deno.env.get("DENO_TLS_CA_STORE") === undefined) {
    Deno.env.set("DENO_TLS_CA_STORE", "mozilla,system");
  }
  try {
    Deno.exit(await main());
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    console.error(`error: ${error.message}`);
    Deno.exit(1);
  }
}
