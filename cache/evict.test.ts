import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sha256 } from '../dataset/digest.ts';
import { type Cache, openCache } from './cache.ts';
import { evict, planEviction } from './evict.ts';
import { createHydrator } from './hydrate.ts';
import { type CacheIndex, openIndex } from './index.ts';
import { type BuiltVersion, buildVersion, randomFiles, temporaryRepository } from './staged.fixture.ts';
import { type TestBook, testBook } from './version-book.fixture.ts';
import { newProgress } from './victims.ts';

let stack: AsyncDisposableStack;
let cache: Cache;
let index: CacheIndex;
let book: TestBook;
/** a and b share `common`; c is alone. */
let a: BuiltVersion;
let b: BuiltVersion;
let c: BuiltVersion;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const { repository, folder } = stack.use(await temporaryRepository());
  cache = stack.use(await openCache({ directory: join(folder, 'cache') }));
  index = stack.use(openIndex(cache));
  book = testBook();
  const common = randomFiles(10, 1000, 'common-');
  a = await buildVersion(repository, { ...common, ...randomFiles(5, 2000, 'a-') });
  b = await buildVersion(repository, { ...common, ...randomFiles(7, 3000, 'b-') });
  c = await buildVersion(repository, randomFiles(20, 500, 'c-'));
  await using hydrator = createHydrator({ cache, threads: 1 });
  for (const { staged } of [a, b, c]) {
    hydrator.register(staged);
    await hydrator.prefetch(staged);
  }
});
afterEach(() => stack.disposeAsync());

function cached({ files }: BuiltVersion): number {
  return [...files.values()].filter(({ id }) => cache.has(id)).length;
}

const counts = () => [cached(a), cached(b), cached(c)];

describe('evicting', () => {
  it('takes what no version has first, then the version that was staged longest ago, and spares staged and pinned ones', async () => {
    book.put(a, { lastStaged: 2000 });
    book.put(b, { lastStaged: 1000 });
    const plan = await planEviction({ index, book });
    expect(plan.steps.map(({ of, objects, all }) => [of?.version, objects, all])).toEqual([
      [undefined, 20, true],
      [b.staged.version, 7, true],
      [a.staged.version, 15, true],
    ]);
    book.staged.add(a.staged.version);
    expect(await planEviction({ index, book })).toMatchObject({ objects: 27, bytes: 10_000 + 21_000 });
    book.staged.clear();
    book.put(a, { lastStaged: 2000, pinned: true });
    expect(await planEviction({ index, book, mounted: true })).toMatchObject({ objects: 27 });
    expect(counts()).toEqual([15, 17, 20]);
  });

  it('takes no more than is wanted', async () => {
    book.put(a, { lastStaged: 1000 });
    book.put(b, { lastStaged: 2000 });
    book.put(c, { lastStaged: 3000 });
    const plan = await planEviction({ index, book, bytes: 11_500 });
    // All five of a's own, of 2,000 bytes each; of b's, which have 1,000 or 3,000, as many as make up the rest.
    expect(plan.steps.map(({ of, all }) => [of?.version, all])).toEqual([
      [a.staged.version, true],
      [b.staged.version, false],
    ]);
    expect(plan.steps[0]).toMatchObject({ objects: 5, bytes: 10_000 });
    expect(plan.bytes).toBeGreaterThanOrEqual(11_500);
    expect(plan.bytes).toBeLessThan(11_500 + 3_000);
    // Every object takes a block of 4096 bytes.
    const done = await evict({ cache, index, book, bytes: 6 * 4096, onEmptied: book.forget });
    expect(done).toMatchObject({ objects: 6, held: 6 * 4096, exhausted: false });
    expect(index.totals().objects).toBe(42 - 6);
    expect(counts()).toEqual([expect.any(Number), expect.any(Number), 20]);
    expect(book.forgotten).toEqual([a.staged.version]);
  });

  it('takes up where it ended, and forgets a version when nothing is left that only it has', async () => {
    book.put(a, { lastStaged: 1000 });
    book.put(b, { lastStaged: 2000 });
    book.put(c, { lastStaged: 3000 });
    const progress = newProgress();
    const removed: number[] = [];
    for (;;) {
      const done = await evict({ cache, index, book, progress, bytes: 4 * 4096, onEmptied: book.forget });
      if (done.objects === 0) break;
      removed.push(done.objects);
    }
    expect(removed.reduce((sum, one) => sum + one, 0)).toBe(42);
    expect(Math.max(...removed)).toBe(4);
    expect(book.forgotten).toEqual([a, b, c].map(({ staged }) => staged.version));
    expect(counts()).toEqual([0, 0, 0]);
  });

  it('takes of one version only what no other has, when that one is named', async () => {
    book.put(a, { lastStaged: 1000 });
    book.put(b, { lastStaged: 2000 });
    const only = ({ version }: { version: string }) => version === b.staged.version;
    expect(await evict({ cache, index, book, only })).toMatchObject({ objects: 7, exhausted: true });
    expect(counts()).toEqual([15, 10, 20]);
  });

  it('takes what is mounted when that is asked for, but not what is pinned', async () => {
    book.put(a, { lastStaged: 1000 });
    book.put(b, { lastStaged: 2000, pinned: true });
    book.staged.add(a.staged.version);
    const only = ({ dataset }: { dataset: string }) => dataset === 'd';
    expect(await evict({ cache, index, book, only })).toMatchObject({ objects: 0 });
    expect(await evict({ cache, index, book, only, mounted: true })).toMatchObject({ objects: 5 });
    expect(counts()).toEqual([10, 17, 20]);
  });

  it('takes nothing while it cannot tell what must stay, and leaves aside a version that may go and is unknown', async () => {
    book.put(a, { lastStaged: 1000, pinned: true });
    book.put(b, { lastStaged: 2000 });
    book.lost.add(a.staged.version);
    expect(await evict({ cache, index, book })).toMatchObject({ objects: 0 });
    book.put(a, { lastStaged: 1000 });
    // Its own are of no known version then.
    expect((await planEviction({ index, book })).steps.map(({ objects }) => objects)).toEqual([25, 17]);
  });

  it('ends when a version comes into use meanwhile', async () => {
    book.put(a, { lastStaged: 1000 });
    book.put(b, { lastStaged: 2000 });
    const done = await evict({
      cache,
      index,
      book,
      onRemoved: () => {
        // After the twenty of no version.
        book.staged.add(a.staged.version);
        book.staged.add(b.staged.version);
        return true;
      },
    });
    expect(done.objects).toBe(20);
    expect(counts()).toEqual([15, 17, 0]);
  });

  it('sees versions that are new since it began, and leaves the rest to the next', async () => {
    book.put(a, { lastStaged: 1000 });
    const done = await evict({
      cache,
      index,
      book,
      onRemoved: () => {
        book.put(b, { lastStaged: 3000 });
        return true;
      },
    });
    expect(done.exhausted).toBe(false);
    expect(cached(a)).toBe(15);
  });

  it('removes large objects too, with their second names', async () => {
    const bytes = Buffer.alloc(17 * 2 ** 20, 1);
    const id = sha256(bytes);
    const writer = cache.writer();
    writer.put(id, bytes);
    writer.close();
    cache.ensureLate(id);
    book.put(a, { lastStaged: 1, pinned: true });
    book.put(b, { lastStaged: 1, pinned: true });
    book.put(c, { lastStaged: 1, pinned: true });
    expect(await evict({ cache, index, book })).toMatchObject({ objects: 1, bytes: bytes.length });
    expect(cache.has(id)).toBe(false);
    expect(() => cache.ensureLate(id)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });
});
