import { describe, expect, it } from 'vitest';
import { type ByteString, bytesOf } from '../byte-string.ts';
import { comparePaths } from '../path.ts';
import { inPathOrder, type PathOrderOptions } from './path-order.ts';

describe('putting a listing into path order', () => {
  it("puts what is below a folder before its siblings with a byte below '/'", async () => {
    expect(await ordered(['a', 'a-b', 'a.txt', 'a/c', 'a0'])).toEqual(['a', 'a/c', 'a-b', 'a.txt', 'a0']);
  });

  it('nests folders whose names begin alike', async () => {
    const keys = ['a-b-c', 'a-b.d', 'a-b/x-1', 'a-b/x/1', 'a-c', 'a/y', 'b'];
    expect(await ordered(keys)).toEqual(['a/y', 'a-b/x/1', 'a-b/x-1', 'a-b-c', 'a-b.d', 'a-c', 'b']);
  });

  it('compares bytes, not characters', async () => {
    // U+FFFD comes before U+1F600 in UTF-8, and after it in UTF-16.
    const keys = ['\u{fffd}', '\u{1f600}', 'z'].map((name) => bytesOf(name)).sort();
    expect(await ordered(keys)).toEqual([bytesOf('z'), bytesOf('\u{fffd}'), bytesOf('\u{1f600}')]);
  });

  it('gives what can have nothing before it without waiting for the end', async () => {
    let asked = 0;
    async function* listing() {
      for (;;) yield [{ path: `n${String(asked++).padStart(6, '0')}.jpg` as ByteString }];
    }
    const iterator = inPathOrder(listing());
    expect((await iterator.next()).value).toEqual([{ path: 'n000000.jpg' }]);
    expect(asked).toBeLessThan(4);
    await iterator.return(undefined);
  });

  it('is a sort by path of any listing, whatever must wait in a file', async () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = randomOf(seed);
      const keys = randomKeys(random, 1 + Math.floor(random() * 400));
      const expected = keys.toSorted(comparePaths);
      const step = 1 + Math.floor(random() * 40);
      expect(await ordered(keys, { step }, 1 + Math.floor(random() * 30)), `seed ${seed}`).toEqual(expected);
    }
  });

  it('holds back a hundred thousand siblings for the one folder that belongs before them', async () => {
    const keys = Array.from({ length: 100_000 }, (_, i) => `part-${String(i).padStart(6, '0')}`);
    const result = await ordered([...keys, 'part/first'], { step: 500 }, 1000);
    expect(result[0]).toBe('part/first');
    expect(result.slice(1)).toEqual(keys);
  });
});

async function ordered(keys: readonly string[], options?: PathOrderOptions, batch = 3): Promise<string[]> {
  async function* listing() {
    for (let i = 0; i < keys.length; i += batch)
      yield keys.slice(i, i + batch).map((path) => ({ path: path as ByteString }));
  }
  const found: string[] = [];
  for await (const values of inPathOrder(listing(), options)) found.push(...values.map(({ path }) => path));
  return found;
}

/** Distinct paths in byte order, of few letters around '/', so that most share beginnings. */
function randomKeys(random: () => number, count: number): ByteString[] {
  const letters = ['a', 'a', 'b', '-', '.', '!', '/', '/', '0', 'ä'.charCodeAt(0) === 0xe4 ? '\u00e4' : 'c'];
  const keys = new Set<string>();
  for (let i = 0; i < count; i++) {
    let key = '';
    const length = 1 + Math.floor(random() * 8);
    for (let k = 0; k < length; k++) key += letters[Math.floor(random() * letters.length)];
    key = key
      .split('/')
      .filter((part) => part !== '' && part !== '.')
      .join('/');
    if (key !== '') keys.add(key);
  }
  return [...keys].sort((a, b) => (a < b ? -1 : 1)) as ByteString[];
}

function randomOf(seed: number): () => number {
  let state = seed * 2654435761;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
