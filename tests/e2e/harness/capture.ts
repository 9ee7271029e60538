/** Captures what goes over the loopback interface, and reads it with RCM's dissector. */

import { spawn, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { existsSync, readFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

const script = fileURLToPath(new URL("../../../tools/wireshark/rcm.lua", import.meta.url));
const install = "sudo apt-get install tshark";

/** Why nothing can be captured here; false: it can. */
export function captureMissing(): string | false {
  if (process.getuid?.() !== 0) return `capturing needs root and tshark: ${install}`;
  return spawnSync("tshark", ["-v"]).error === undefined ? false : `needs tshark: ${install}`;
}

/** Values of some fields of each packet of a capture: lists, as a field may come several times. */
export function readCapture<Field extends string>(
  path: string,
  filter: string,
  fields: readonly Field[],
): readonly Readonly<Record<Field, readonly string[]>>[] {
  const args = ["-n", "-r", path, "-X", `lua_script:${script}`, "-Y", filter, "-T", "fields"];
  for (const field of fields) args.push("-e", field);
  const run = spawnSync("tshark", [...args, "-E", "occurrence=a", "-E", "aggregator=,"], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (run.status !== 0) throw new Error(`tshark: ${run.error?.message ?? run.stderr}`);
  return run.stdout.split("\n").filter((line) => line !== "").map((line) => {
    const cells = line.split("\t");
    const row = fields.map((field, i) => [field, (cells[i] ?? "").split(",")] as const);
    return Object.fromEntries(row) as unknown as Record<Field, readonly string[]>;
  });
}

/** Nobody listens there: what is sent to it shows how far the capture has come. */
export const PROBE_PORT = 35010;

/**
 * Captures on the loopback interface until `stop`. tshark tells that it captures before it does,
 * and writes in batches: at both ends probes are sent until they stand in the file.
 */
export async function startCapture(
  path: string,
  filter: string,
): Promise<{ stop(): Promise<void> }> {
  const args = ["-i", "lo", "-f", filter, "-w", path, "-B", "64"];
  const child = spawn("tshark", args, { stdio: ["ignore", "ignore", "pipe"] });
  let text = "";
  child.stderr.on("data", (chunk: Uint8Array) => text += new TextDecoder().decode(chunk));
  let failure: string | null = null;
  const closed = new Promise<void>((resolve) => {
    child.on("error", (error) => {
      failure = error.message;
      resolve();
    });
    child.on("close", () => {
      failure ??= `tshark ended: ${text}`;
      resolve();
    });
  });
  const socket = createSocket("udp4");
  let number = 0;
  const reach = async () => {
    const from = number;
    for (const limit = Date.now() + 60_000; Date.now() < limit;) {
      if (failure !== null) throw new Error(failure);
      socket.send(`probe ${number}.`, PROBE_PORT, "127.0.0.1");
      number += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
      const captured = existsSync(path) ? readFileSync(path, "latin1") : "";
      for (let i = from; i < number; i += 1) if (captured.includes(`probe ${i}.`)) return;
    }
    throw new Error(`tshark writes nothing to ${path}: ${text}`);
  };
  const stop = async () => {
    child.kill("SIGINT");
    await closed;
  };
  try {
    await reach();
  } catch (error) {
    await stop();
    socket.close();
    throw error;
  }
  let stopped = false;
  return {
    async stop() {
      if (stopped) return;
      stopped = true;
      if (failure === null) await reach();
      await stop();
      socket.close();
    },
  };
}
