/** What both arbiters promise alike, as tests: `arbitration_*_test.ts` run them over each tree. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Bed,
  epoch,
  leading,
  makeBed,
  type Member,
  standing,
  state,
  until,
} from "./arbitration_bed.ts";
import { rejectsCode } from "./arbitration_errors.ts";

type Run = (name: string, body: (bed: Bed) => Promise<void>) => void;

/** A member that won, as the only one so far. */
async function winner(bed: Bed, node: string, number = 1): Promise<Member> {
  const member = await bed.member(node);
  const view = await member.arbiter.join(state());
  const version = view.master?.version ?? null;
  const won = await member.arbiter.campaign(version, standing(node, number, view));
  assert.equal(won.kind, "done");
  return member;
}

const names = (views: readonly { node: string }[]) => views.map(({ node }) => node);

/**
 * @param kind which tree, for the names
 * @param address of it; asked for when a test runs
 * @param skip why it can't run here
 */
export function contract(
  kind: string,
  address: () => string,
  skip: string | false,
): void {
  const reason = skip === false ? "" : ` (${skip})`;
  const run: Run = (name, body) =>
    test(`${kind}: ${name}${reason}`, { skip }, async () => {
      const bed = makeBed(address());
      try {
        await body(bed);
      } finally {
        await bed.close();
      }
    });

  run("joining makes the nodes of the guide, leaving takes them away", async (bed) => {
    const a = await bed.member("A");
    const first = await a.arbiter.join(state(7));
    assert.deepEqual(first, {
      master: null,
      running: null,
      members: [{ node: "A", state: state(7) }],
      observers: [],
    });
    const o = await bed.member("O");
    await o.arbiter.join(state(3), "observer");
    const view = await until("A sees O", () => a.view()?.observers.length === 1 && a.view());
    assert.deepEqual(names(view.members), ["A"]);
    assert.deepEqual(view.observers, [{ node: "O", state: state(3) }]);
    await o.arbiter.close();
    await until("O is gone", () => a.view()?.observers.length === 0);
    assert.deepEqual(o.states, ["connected"]);
    assert.equal(o.arbiter.session, "closed");
    await rejectsCode(o.arbiter.read(), "STATE");
    await rejectsCode(a.arbiter.join(state()), "STATE");
  });

  run("of those who stand at one moment one wins", async (bed) => {
    const nodes = ["A", "B", "C", "D", "E"];
    const members = await Promise.all(nodes.map((node) => bed.member(node)));
    await Promise.all(members.map(({ arbiter }) => arbiter.join(state())));
    for (let round = 1; round <= 20; round += 1) {
      const view = await members[0]!.arbiter.read();
      const version = view.master?.version ?? null;
      const results = await Promise.all(
        members.map(({ arbiter, node }) => arbiter.campaign(version, standing(node, round, view))),
      );
      const won = results.flatMap((result, i) => result.kind === "done" ? [i] : []);
      assert.equal(won.length, 1, `round ${round}: ${won.length} have won`);
      const leader = members[won[0]!]!;
      const seen = await members[(won[0]! + 1) % nodes.length]!.arbiter.read();
      assert.deepEqual(seen.running, { node: leader.node, mine: false });
      assert.equal(seen.master?.record.candidate, leader.node);
      const own = await leader.arbiter.read();
      assert.deepEqual(own.running, { node: leader.node, mine: true });
      await leader.arbiter.resign();
      assert.equal((await members[0]!.arbiter.read()).running, null);
    }
  });

  run("establishing is refused when somebody wrote in between", async (bed) => {
    const a = await winner(bed, "A");
    const record = standing("A", 1);
    const done = await a.arbiter.establish(0, leading(record, ["A"]));
    assert.deepEqual(done, { kind: "done", version: 1 });
    const other = await bed.member("rcm");
    await other.arbiter.join(state(), "none");
    const view = await other.arbiter.read();
    const forced = { ...view.master!.record, forced: { node: "B", timeMilli: 1 } };
    assert.equal((await other.arbiter.establish(1, forced)).kind, "done");
    const refused = await a.arbiter.establish(1, leading(record, ["A", "B"], 1));
    assert.equal(refused.kind, "refused");
    assert.deepEqual(refused.kind === "refused" && refused.view.master?.record, forced);
    assert.equal(refused.kind === "refused" && refused.view.master?.version, 2);
    // What `master` says is refused a second time too, although the text would be the same.
    assert.equal((await a.arbiter.establish(1, forced)).kind, "refused");
  });

  run("a version that is not the newest does not win", async (bed) => {
    const a = await winner(bed, "A");
    await a.arbiter.establish(0, leading(standing("A", 1), ["A"]));
    await a.arbiter.resign();
    for (const version of [null, 0, 2]) {
      const result = await a.arbiter.campaign(version, standing("A", 2));
      assert.equal(result.kind, "refused", `version ${version}`);
    }
    const view = await a.arbiter.read();
    assert.equal(view.running, null);
    const won = await a.arbiter.campaign(1, standing("A", 2, view));
    assert.deepEqual(won, { kind: "done", version: 2 });
    const record = (await a.arbiter.read()).master!.record;
    assert.deepEqual(record.established, leading(standing("A", 1), ["A"]).established);
    assert.deepEqual(record.epoch, epoch(2));
  });

  run("others hear at once when the leader leaves, and stand with what they saw", async (bed) => {
    const a = await winner(bed, "A");
    const b = await bed.member("B");
    await b.arbiter.join(state());
    await a.arbiter.close();
    const view = await until(
      "B sees that nobody stands",
      () => b.view()?.running === null && b.view(),
    );
    const won = await b.arbiter.campaign(view.master!.version, standing("B", 2, view));
    assert.equal(won.kind, "done");
    assert.deepEqual(names((await b.arbiter.read()).members), ["B"]);
  });

  run("a name that another session holds: already running, and its node stays", async (bed) => {
    const a = await bed.member("A");
    await a.arbiter.join(state());
    const twin = await bed.member("A", { sessionTimeoutMilli: 800 });
    const error = await rejectsCode(twin.arbiter.join(state()), "ARBITRATION");
    assert.match(error.message, /already running/);
    assert.deepEqual(names((await a.arbiter.read()).members), ["A"]);
    // It is waited for as long as a dead process' session may last.
    const third = await bed.member("A");
    const joining = third.arbiter.join(state());
    await a.arbiter.close();
    assert.deepEqual(names((await joining).members), ["A"]);
  });

  run("a state that is published goes with the next write", async (bed) => {
    const a = await bed.member("A", { sessionTimeoutMilli: 800 });
    await a.arbiter.join(state(1));
    const b = await bed.member("B");
    await b.arbiter.join(state());
    const published = { ...state(500), adopted: epoch(3), intact: true, role: "ACTIVE" };
    a.arbiter.publish(published);
    let found: unknown = null;
    for (let tries = 0; tries < 2000 && JSON.stringify(found) !== JSON.stringify(published);) {
      found = (await b.arbiter.read()).members.find(({ node }) => node === "A")?.state;
      tries += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.deepEqual(found, published);
  });

  run("the lease is there while running is held, and is renewed", async (bed) => {
    const a = await winner(bed, "A");
    await until("a lease", () => a.arbiter.lease().leftMilli > 0);
    const { sessionTimeoutMilli, holds } = a.arbiter.lease();
    assert.equal(holds, true);
    assert.ok(sessionTimeoutMilli >= 800, `T is ${sessionTimeoutMilli}`);
    const end = performance.now() + 1.5 * sessionTimeoutMilli;
    let least = Infinity;
    await until("one and a half T", () => {
      const { leftMilli } = a.arbiter.lease();
      assert.ok(leftMilli <= sessionTimeoutMilli * 2 / 3, `${leftMilli} ms left`);
      least = Math.min(least, leftMilli);
      return performance.now() > end;
    });
    assert.ok(least > 0, "it never ended");
    await a.arbiter.resign();
    assert.deepEqual(a.arbiter.lease().leftMilli, 0);
    assert.equal(a.arbiter.lease().holds, false);
  });

  run("configuration: parts in numeric order, none is an error", async (bed) => {
    const a = await bed.member("A");
    await a.arbiter.join(state());
    await rejectsCode(a.arbiter.readConfig(), "ARBITRATION");
  });

  run("a tool that only reads makes nothing", async (bed) => {
    const tool = await bed.member("rcm");
    const view = await tool.arbiter.join(state(), "none");
    assert.deepEqual(view, { master: null, running: null, members: [], observers: [] });
    await winner(bed, "A");
    const seen = await tool.arbiter.read();
    assert.deepEqual(names(seen.members), ["A"]);
    assert.equal(seen.running?.node, "A");
  });

  run("closing twice, and before joining", async (bed) => {
    const a = await bed.member("A");
    await a.arbiter.close();
    await a.arbiter.close();
    await rejectsCode(a.arbiter.join(state()), "STATE");
    const b = await bed.member("B");
    await b.arbiter.join(state());
    await Promise.all([b.arbiter.close(), b.arbiter.close()]);
  });
}
