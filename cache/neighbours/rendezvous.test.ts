import { describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { createRandom } from '../../test/support/random.ts';
import { digestSeed, peerSeed, ranked, score } from './rendezvous.ts';

const seed = Number(process.env.LARDER_TEST_SEED ?? Date.now() % 1_000_000);

function peersOf(count: number, from = 0) {
  return Array.from({ length: count }, (_, at) => {
    const name = `10.0.${(from + at) >> 8}.${(from + at) & 255}:7411`;
    return { name, seed: peerSeed(name) };
  });
}

function digests(count: number) {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => sha256(random.bytes(16)));
}

describe(`owners (seed ${seed})`, () => {
  it('are the same on every node, whatever the order of its list', () => {
    const peers = peersOf(9);
    for (const digest of digests(50))
      expect(ranked(peers.toReversed(), digest).map(({ name }) => name)).toEqual(
        ranked(peers, digest).map(({ name }) => name),
      );
  });

  it('are the same in every version: these scores are part of the protocol', () => {
    const digest = '6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b';
    expect(score(peerSeed('10.0.0.1:7411'), digestSeed(digest))).toMatchInlineSnapshot(`3629639383090738`);
    expect(score(peerSeed('[fd00::2]:7411'), digestSeed(digest))).toMatchInlineSnapshot(`401292804593214`);
  });

  it.each([2, 3, 8, 32, 100])('have even parts among %i nodes', (count) => {
    const peers = peersOf(count);
    const owned = new Map(peers.map(({ name }) => [name, 0]));
    const all = digests(count * 200);
    for (const digest of all) {
      const { name } = ranked(peers, digest)[0]!;
      owned.set(name, owned.get(name)! + 1);
    }
    // 200 each, with a standard deviation of 14 at most: six of them.
    for (const [name, part] of owned) expect(Math.abs(part - 200), `${name}: ${part}`).toBeLessThan(85);
  });

  it('are even also in the second place, so that a dead node is stood in for by all', () => {
    const [dead, ...others] = peersOf(9);
    const owned = new Map(others.map(({ name }) => [name, 0]));
    for (const digest of digests(9 * 3200)) {
      const [first, second] = ranked([dead!, ...others], digest);
      if (first === dead) owned.set(second!.name, owned.get(second!.name)! + 1);
    }
    for (const [name, part] of owned) expect(Math.abs(part - 400), `${name}: ${part}`).toBeLessThan(140);
  });

  it('change only for what a new node gets, and for what a lost node had', () => {
    for (const count of [1, 2, 8, 31]) {
      const peers = peersOf(count);
      const [joined] = peersOf(1, 1000);
      let moved = 0;
      const all = digests(2000);
      for (const digest of all) {
        const before = ranked(peers, digest)[0]!;
        const after = ranked([...peers, joined!], digest);
        if (after[0] !== joined) expect(after[0]).toBe(before);
        else moved += 1;
        // Without it again, the order of the others is what it was.
        expect(after.filter((peer) => peer !== joined)).toEqual(ranked(peers, digest));
      }
      const expected = all.length / (count + 1);
      expect(Math.abs(moved - expected)).toBeLessThan(6 * Math.sqrt(expected) + 1);
    }
  });
});
