/**
 * System programs that some tests use. They are installed on Debian as root; anywhere else the
 * command to install them is printed, and the tests that need them are skipped by name.
 */

import { capture, findProgram } from "./process.ts";

interface SystemProgram {
  /** A program, or the path of a file. */
  readonly program: string;
  readonly debianPackage: string;
  readonly purpose: string;
}

const systemPrograms: readonly SystemProgram[] = [
  { program: "nft", debianPackage: "nftables", purpose: "real packet loss in tests" },
  { program: "tshark", debianPackage: "tshark", purpose: "the test of the Wireshark dissector" },
  { program: "ip", debianPackage: "iproute2", purpose: "network namespaces in tests" },
  { program: "java", debianPackage: "default-jre-headless", purpose: "ZooKeeper for tests" },
  {
    program: "/usr/share/java/zookeeper.jar",
    debianPackage: "libzookeeper-java",
    purpose: "arbitration in tests and examples",
  },
  {
    program: "/usr/lib/x86_64-linux-gnu/libzookeeper_mt.so.2",
    debianPackage: "libzookeeper-mt2",
    purpose: "arbitration in ZooKeeper",
  },
];

/** Installs what is missing where it can; never fails. */
export async function ensureSystemPrograms(): Promise<void> {
  const missing = findMissing();
  if (missing.length === 0) return;
  const packages = missing.map((entry) => entry.debianPackage);
  const install = ["install", "-y", "--no-install-recommends", ...packages];
  const aptGet = findProgram("apt-get");
  let why = "only Debian and its like are known here";
  if (aptGet !== null && Deno.uid() !== 0) why = "this needs root";
  if (aptGet !== null && Deno.uid() === 0) {
    console.error(`installing ${packages.join(", ")} ...`);
    const options = {
      env: { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" },
      timeoutMs: 5 * 60_000,
    };
    const bounds = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"];
    let result = await capture(aptGet, [...bounds, ...install], options);
    if (result.code !== 0) {
      await capture(aptGet, [...bounds, "update"], options);
      result = await capture(aptGet, [...bounds, ...install], options);
    }
    const lines = result.output.trim().split("\n");
    why = `apt-get failed: ${lines[lines.length - 1] ?? ""}`;
  }
  for (const entry of findMissing()) {
    console.error(`${entry.program} is missing (${entry.purpose}); ${why}.`);
    console.error(`  to install it: sudo apt-get install -y ${entry.debianPackage}`);
  }
}

const findMissing = (): SystemProgram[] =>
  systemPrograms.filter(({ program }) =>
    program.startsWith("/") ? !isFile(program) : findProgram(program) === null
  );

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
