import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openCache } from './cache.ts';
import { createHydrator } from './hydrate.ts';
import { openIndex } from './index.ts';
import { type BuiltVersion, buildVersion, randomFiles, temporaryRepository } from './staged.fixture.ts';
import { type MappedVersion, measureUsage } from './usage.ts';

it('tells of each version and of each dataset what is cached, and what nothing else has', async () => {
  await using stack = new AsyncDisposableStack();
  const { repository, folder } = stack.use(await temporaryRepository());
  const cache = stack.use(await openCache({ directory: join(folder, 'cache') }));
  const index = stack.use(openIndex(cache));
  // a and b share ten files, c is of another dataset and shares three of them; nobody knows d.
  const common = randomFiles(10, 1000, 'common-');
  const some = Object.fromEntries(Object.entries(common).slice(0, 3));
  const a = await buildVersion(repository, { ...common, ...randomFiles(5, 2000, 'a-') });
  const b = await buildVersion(repository, { ...common, ...randomFiles(7, 3000, 'b-') });
  const c = await buildVersion(repository, { ...some, ...randomFiles(2, 4000, 'c-') });
  const d = await buildVersion(repository, randomFiles(20, 500, 'd-'));
  await using hydrator = createHydrator({ cache, threads: 1 });
  for (const { staged } of [a, b, c, d]) {
    hydrator.register(staged);
    await hydrator.prefetch(staged);
  }
  cache.remove(a.files.get('a-file-000000')!.id);

  const mapped = ({ staged: { version, root, map } }: BuiltVersion, dataset: string): MappedVersion => ({
    known: { version, root, repository: 'r', dataset, lastStaged: 1, pinned: false },
    map,
  });
  const lost = { known: { ...mapped(d, 'lost').known } };
  const usage = await measureUsage(index, [mapped(a, 'one'), mapped(b, 'one'), mapped(c, 'two'), lost]);
  expect(usage).toMatchObject({ objects: 43, unknownObjects: 20, unknownBytes: 10_000 });
  expect(usage.versions[0]).toMatchObject({ objects: 15, bytes: 20_000, cachedObjects: 14, cachedBytes: 18_000 });
  expect(usage.versions.map(({ aloneBytes }) => aloneBytes)).toEqual([8_000, 21_000, 8_000, 0]);
  expect(usage.datasets).toEqual([
    {
      repository: 'r',
      dataset: 'one',
      versions: 2,
      cachedObjects: 21,
      cachedBytes: 39_000,
      aloneObjects: 18,
      aloneBytes: 36_000,
    },
    {
      repository: 'r',
      dataset: 'two',
      versions: 1,
      cachedObjects: 5,
      cachedBytes: 11_000,
      aloneObjects: 2,
      aloneBytes: 8_000,
    },
    {
      repository: 'r',
      dataset: 'lost',
      versions: 1,
      cachedObjects: 0,
      cachedBytes: 0,
      aloneObjects: 0,
      aloneBytes: 0,
    },
  ]);
});
