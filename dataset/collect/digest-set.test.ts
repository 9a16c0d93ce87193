import { expect, it } from 'vitest';
import { createRandom } from '../../test/support/random.ts';
import { sha256 } from '../digest.ts';
import { DigestSet } from './digest-set.ts';

it('a set of digests has what was added and nothing else, however large it grows', () => {
  const random = createRandom(3);
  const set = new DigestSet();
  const model = new Set<string>();
  for (let i = 0; i < 10_000; i++) {
    const digest = sha256(String(random.below(7_000)));
    expect(set.add(digest)).toBe(!model.has(digest));
    model.add(digest);
  }
  expect(set.size).toBe(model.size);
  expect([...set].sort()).toEqual([...model].sort());
  for (let i = 0; i < 8_000; i++) {
    const digest = sha256(String(i));
    expect(set.has(digest)).toBe(model.has(digest));
  }
});
