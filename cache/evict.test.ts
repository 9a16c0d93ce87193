import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { type Cache, openCache } from './cache.ts';
import { evict, planEviction } from './evict.ts';
import { createHydrator } from './hydrate.ts';
import { type CacheIndex, openIndex } from './index.ts';
import { type BuiltVersion, buildVersion, randomFiles, temporaryRepository } from './staged.fixture.ts';
import { type MappedVersion, measureUsage } from './usage.ts';

let stack: AsyncDisposableStack;
let cache: Cache;
let index: CacheIndex;
/** a and b share `common`; c is alone. */
let a: BuiltVersion;
let b: BuiltVersion;
let c: BuiltVersion;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const { repository, folder } = stack.use(await temporaryRepository());
  cache = stack.use(await openCache({ directory: join(folder, 'cache') }));
  index = stack.use(openIndex(cache));
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

function mapped({ staged }: BuiltVersion, lastStaged: number, pinned = false): MappedVersion {
  const { version, root } = staged;
  return { known: { version, root, repository: 'r', dataset: 'd', lastStaged, pinned }, map: staged.map };
}

function cached({ files }: BuiltVersion): number {
  return [...files.values()].filter(({ id }) => cache.has(id)).length;
}

const nothingStaged = () => false;

describe('usage', () => {
  it('tells of each version what is cached, and what no other has', async () => {
    cache.remove(a.files.get('a-file-000000')!.id);
    const usage = await measureUsage(index, [mapped(a, 1), mapped(b, 2)]);
    expect(usage).toMatchObject({ objects: 41, unknownObjects: 20, unknownBytes: 10_000 });
    expect(usage.versions[0]).toMatchObject({ objects: 15, bytes: 20_000, cachedObjects: 14, cachedBytes: 18_000 });
    expect(usage.versions[0]).toMatchObject({ aloneObjects: 4, aloneBytes: 8_000 });
    expect(usage.versions[1]).toMatchObject({ cachedObjects: 17, aloneObjects: 7, aloneBytes: 21_000 });
  });
});

describe('evicting', () => {
  it('takes what no version has first, then the version that was staged longest ago, and spares staged and pinned ones', async () => {
    const versions = [mapped(a, 2000), mapped(b, 1000)];
    const plan = await planEviction({ index, versions, isStaged: nothingStaged });
    expect(plan.steps.map(({ of, objects }) => [of?.version, objects])).toEqual([
      [undefined, 20],
      [b.staged.version, 7],
      [a.staged.version, 15],
    ]);
    const staged = await planEviction({ index, versions, isStaged: (version) => version === a.staged.version });
    expect(staged).toMatchObject({ objects: 27, bytes: 10_000 + 21_000 });
    const pinned = await planEviction({
      index,
      versions: [mapped(a, 2000, true), mapped(b, 1000)],
      isStaged: nothingStaged,
    });
    expect(pinned).toMatchObject({ objects: 27 });
  });

  it('takes no more than is wanted', async () => {
    const versions = [mapped(a, 1000), mapped(b, 2000), mapped(c, 3000)];
    const plan = await planEviction({ index, versions, isStaged: nothingStaged, bytes: 11_500 });
    // All five of a's own, of 2,000 bytes each; of b's, which have 1,000 or 3,000, as many as make up the rest.
    expect(plan.steps.map(({ of, all }) => [of?.version, all])).toEqual([
      [a.staged.version, true],
      [b.staged.version, false],
    ]);
    expect(plan.steps[0]).toMatchObject({ objects: 5, bytes: 10_000 });
    expect(plan.bytes).toBeGreaterThanOrEqual(11_500);
    expect(plan.bytes).toBeLessThan(11_500 + 3_000);
    const done = await evict(cache, plan, { index, versions, isStaged: nothingStaged });
    expect(done).toMatchObject({ objects: plan.objects, bytes: plan.bytes });
    expect(index.totals().objects).toBe(42 - plan.objects);
    expect(cached(c)).toBe(20);
  });

  it('removes nothing for a plan that is only looked at', async () => {
    await planEviction({ index, versions: [], isStaged: nothingStaged });
    expect(cached(a) + cached(b) + cached(c)).toBe(52);
  });

  it('spares a version that was staged after the plan was made', async () => {
    const versions = [mapped(a, 1000), mapped(b, 2000)];
    const plan = await planEviction({ index, versions, isStaged: nothingStaged });
    const stagedSince = (version: Digest) => version === b.staged.version;
    await evict(cache, plan, { index, versions, isStaged: stagedSince });
    expect([cached(a), cached(b), cached(c)]).toEqual([10, 17, 0]);
  });

  it('gives the disk its space back', async () => {
    const writer = cache.writer();
    for (let at = 0; at < 20; at += 1) {
      const bytes = Buffer.alloc(1_000_000, at + 1);
      writer.put(sha256(bytes), bytes);
    }
    writer.close();
    await cache.sealed();
    const versions = [mapped(a, 1, true), mapped(b, 1, true), mapped(c, 1, true)];
    const plan = await planEviction({ index, versions, isStaged: nothingStaged });
    expect(plan).toMatchObject({ objects: 20, bytes: 20_000_000 });
    const { bytes, freed } = await evict(cache, plan, { index, versions, isStaged: nothingStaged });
    expect(bytes).toBe(20_000_000);
    expect(Number.isFinite(freed)).toBe(true);
    expect([cached(a), cached(b), cached(c)]).toEqual([15, 17, 20]);
  });
});
