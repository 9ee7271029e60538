import { test } from "node:test";
import assert from "node:assert/strict";
import { countLine, judge, nothing, readCountLine, readJunit, readZigSummary } from "./report.ts";

test("readCountLine() takes the last line of counts and no other text", () => {
  const output = "1 passed, 9 failed\nseed 4: 3 passed, 1 failed\n12 passed, 0 failed, 2 skipped\n";
  assert.deepEqual(readCountLine(output), { ...nothing, passed: 12, skipped: 2 });
  assert.deepEqual(readCountLine("all is well"), nothing);
});

test("readZigSummary() counts failed, crashed and timed out tests as failed", () => {
  const line = "Build Summary: 2/4 steps succeeded (1 failed); 7/12 tests passed " +
    "(1 skipped, 2 failed, 1 crashed, 1 timed out)";
  const { passed, failed, skipped } = readZigSummary(line);
  assert.deepEqual({ passed, failed, skipped }, { passed: 7, failed: 4, skipped: 1 });
  const all = readZigSummary("Build Summary: 4/4 steps succeeded; 9/9 tests passed");
  assert.deepEqual(all, { ...nothing, passed: 9 });
  assert.deepEqual(readZigSummary("Build Summary: 1/4 steps succeeded (1 failed)"), nothing);
});

test("readJunit() counts a group only where the group itself failed", () => {
  const deno = `<testsuites><testsuite name="a">
    <testcase name="group" classname="a"> </testcase>
    <testcase name="group &gt; one"> </testcase>
    <testcase name="group &gt; two"><failure message="x">y</failure></testcase>
    <testcase name="broken"><failure>outer</failure></testcase>
    <testcase name="broken &gt; inner"/>
    <testcase name="needs &quot;nft&quot;"><skipped/></testcase>
  </testsuite></testsuites>`;
  assert.deepEqual(readJunit(deno), {
    passed: 2,
    failed: 2,
    skipped: 1,
    skippedNames: ['needs "nft"'],
  });
});

test("judge() fails what crashed and what tested nothing", () => {
  assert.equal(judge({ ...nothing, passed: 3 }, 139, "").failed, 1);
  assert.equal(judge(nothing, 0, "").failed, 1);
  assert.equal(judge({ ...nothing, passed: 3 }, 0, "").failed, 0);
  assert.equal(judge({ ...nothing, passed: 3, failed: 2 }, 1, "").failed, 2);
});

test("countLine() names skipped tests only where there are some", () => {
  assert.equal(countLine({ ...nothing, passed: 2 }), "2 passed, 0 failed");
  assert.equal(countLine({ ...nothing, skipped: 1 }), "0 passed, 0 failed, 1 skipped");
});
