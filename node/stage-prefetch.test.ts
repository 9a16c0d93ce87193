import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Cache, openCache } from '../cache/cache.ts';
import { createHydrator, type Hydrator } from '../cache/hydrate.ts';
import { createRoom } from '../cache/room.ts';
import {
  type BuiltVersion,
  buildVersion,
  type CountingBucket,
  countingBucket,
  randomFiles,
  temporaryRepository,
} from '../cache/staged.fixture.ts';
import { createLogger } from './log.ts';
import type { StagedRecord } from './records.ts';
import { createStagePrefetches, type StagePrefetches } from './stage-prefetch.ts';

let stack: AsyncDisposableStack;
let bucket: CountingBucket;
let cache: Cache;
let version: BuiltVersion;
let room: SharedArrayBuffer;
let prefetches: StagePrefetches;
let lines: string[];

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const temporary = stack.use(await temporaryRepository());
  bucket = countingBucket(temporary.repository.bucket);
  const repository = { ...temporary.repository, bucket };
  cache = stack.use(await openCache({ directory: join(temporary.folder, 'cache') }));
  version = await buildVersion(
    repository,
    { ...randomFiles(40, 10_000), ...randomFiles(10, 10_000, 'test-') },
    { target: 60_000 },
  );
  room = createRoom();
  const hydrator: Hydrator = stack.use(createHydrator({ cache, threads: 1, room }));
  stack.use(hydrator.register(version.staged));
  lines = [];
  const log = stack.use(createLogger({ write: (line) => lines.push(line), format: 'text', component: 'node' }));
  const versions = {
    withSource: <T>(_: unknown, task: (source: typeof version.staged) => Promise<T>) => task(version.staged),
  };
  const repositories = { at: async () => repository };
  prefetches = stack.use(createStagePrefetches({ hydrator, versions, repositories, log }));
});
afterEach(() => stack.disposeAsync());

function record(prefetch?: string): StagedRecord {
  const { version: id, root, repository } = version.staged;
  return {
    volume: 'v',
    repository: repository.location,
    dataset: 'd',
    version: id,
    root,
    size: { bytes: 0, entries: 0 },
    kind: 'pinned',
    stagingPath: '/s',
    state: 'staged',
    published: [],
    ...(prefetch !== undefined && { prefetch }),
  };
}

async function ended(): Promise<void> {
  while (prefetches.stateOf('v')?.state === 'fetching') await new Promise((resolve) => setTimeout(resolve, 5));
}

const inCache = () => [...version.files].filter(([, { id }]) => cache.has(id)).map(([path]) => path);

describe('a volume that is staged', () => {
  it('has all of its version fetched where it says so', async () => {
    prefetches.begin(record('all'));
    await ended();
    expect(prefetches.stateOf('v')).toEqual({
      state: 'done',
      files: 50,
      bytes: 500_000,
      totalFiles: 50,
      totalBytes: 500_000,
    });
    expect(inCache().length).toBe(50);
  });

  it('has what lies under a glob fetched, and nothing beside it', async () => {
    prefetches.begin(record('test-*'));
    await ended();
    expect(prefetches.stateOf('v')).toEqual({
      state: 'done',
      files: 10,
      bytes: 100_000,
      totalFiles: 10,
      totalBytes: 100_000,
    });
    expect(inCache().every((path) => path.startsWith('test-'))).toBe(true);
  });

  it('has nothing fetched where it says nothing', async () => {
    prefetches.begin(record());
    expect(prefetches.stateOf('v')).toBeUndefined();
    expect(bucket.readsOf('packs/')).toBe(0);
  });

  it('keeps what there was room for, and says how much that is', async () => {
    new BigInt64Array(room)[0] = 205_000n;
    prefetches.begin(record('all'));
    await ended();
    const { state, files, totalFiles } = prefetches.stateOf('v')!;
    expect({ state, totalFiles }).toEqual({ state: 'partial', totalFiles: 50 });
    expect(files).toBe(inCache().length);
    expect(files).toBeGreaterThan(0);
    expect(files).toBeLessThanOrEqual(20);
    expect(lines.join('')).toMatch(new RegExp(`${files} of 50 files fetched, no room for the rest`));
  });

  it('has no more fetched once it is unstaged', async () => {
    const reading = Promise.withResolvers<void>();
    bucket.before = async (key) => {
      if (!key.startsWith('packs/')) return;
      reading.resolve();
      await new Promise((resolve) => setTimeout(resolve, 20));
    };
    prefetches.begin(record('all'));
    await reading.promise;
    prefetches.end('v');
    expect(prefetches.stateOf('v')).toBeUndefined();
    await prefetches[Symbol.asyncDispose]();
    expect(inCache().length).toBeLessThan(50);
  });
});
