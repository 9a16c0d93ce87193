import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packKey } from '../dataset/keys.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Cache } from './cache.ts';
import { createHydrator, type Hydrator } from './hydrate.ts';
import { createRoom, openRoom } from './room.ts';
import { type BuiltVersion, buildVersion, type CountingBucket, countedCache, randomFiles } from './staged.fixture.ts';

let stack: AsyncDisposableStack;
let repository: Repository;
let bucket: CountingBucket;
let cache: Cache;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  ({ bucket, repository, cache } = await countedCache(stack));
});
afterEach(() => stack.disposeAsync());

/** Files of a version of many segments, far from each other, in no order. */
const HERE_AND_THERE = [4_400, 3_500, 2_600, 800, 1_700, 100];

/** Many segments, and packs of about half of one. */
async function manySegments(): Promise<BuiltVersion> {
  const version = await buildVersion(repository, randomFiles(4_500, 400), { target: 100_000 });
  expect(version.staged.map.segments.length).toBeGreaterThan(9);
  return version;
}

function hydrator(version: BuiltVersion, room?: SharedArrayBuffer): Hydrator {
  const bring = stack.use(createHydrator({ cache, threads: 1, ...(room && { room }) }));
  stack.use(bring.register(version.staged));
  return bring;
}

const missingOf = ({ files }: BuiltVersion) => [...files.values()].filter(({ id }) => !cache.has(id));

async function untilIdle(bring: Hydrator): Promise<void> {
  for (let idle = 0; idle < 20; ) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { running, queued } = bring.stats();
    idle = running + queued.urgent + queued.next + queued.prefetch === 0 ? idle + 1 : 0;
  }
}

describe('reading ahead', () => {
  it('fetches the rest of a version that is opened at random here and there', async () => {
    const version = await manySegments();
    const bring = hydrator(version);
    const files = [...version.files.values()];
    for (const at of HERE_AND_THERE) await bring.hydrate(files[at]!.id);
    await untilIdle(bring);
    expect(missingOf(version)).toEqual([]);
    for (const pack of version.packs) expect(bucket.wholeReads.get(packKey(pack)) ?? 0).toBeLessThanOrEqual(1);
  });

  it('goes on in the order in which a version is opened, but not far beyond', async () => {
    const version = await manySegments();
    const bring = hydrator(version);
    const files = [...version.files.values()];
    let misses = 0;
    for (const { id } of files.slice(0, 1_500)) {
      if (cache.has(id)) continue;
      misses += 1;
      await bring.hydrate(id);
      await untilIdle(bring);
    }
    expect(misses).toBeLessThan(version.packs.length / 2);
    expect(missingOf(version).length).toBeGreaterThan(0);
  });

  it('leaves alone what nobody seems to go for', async () => {
    const version = await manySegments();
    const bring = hydrator(version);
    const { id } = version.files.get('file-001500')!;
    await bring.hydrate(id);
    await untilIdle(bring);
    expect(missingOf(version).length).toBeGreaterThan(4_000);
  });

  it('stays within the room', async () => {
    const version = await manySegments();
    const files = [...version.files.values()];
    for (const [bytes, rest] of [
      [10_000_000, true],
      [1_000_000_000, false],
    ] as const) {
      const room = createRoom(bytes);
      const bring = hydrator(version, room);
      for (const at of HERE_AND_THERE) await bring.hydrate(files[at]!.id);
      await untilIdle(bring);
      expect(missingOf(version).length > 1_000).toBe(rest);
      expect(missingOf(version).length === 0).toBe(!rest);
      const came = version.files.size - missingOf(version).length;
      expect(openRoom(room).bytes).toBe(bytes - came * 400);
      await bring.close();
      for (const { id } of files) cache.remove(id);
    }
  });
});

describe('of a pack of which little is missing', () => {
  it('what is wanted comes by itself, neighbours with one request', async () => {
    const version = await buildVersion(repository, randomFiles(100, 10_000));
    const before = hydrator(version);
    await before.prefetch(version.staged);
    await before.close();
    const gone = [10, 11, 12, 80].map((at) => version.files.get(`file-${String(at).padStart(6, '0')}`)!.id);
    for (const id of gone) cache.remove(id);
    bucket.reads.clear();
    bucket.wholeReads.clear();
    const bring = hydrator(version);
    await bring.prefetch(version.staged);
    expect(missingOf(version)).toEqual([]);
    expect(bucket.wholeReads.get(packKey(version.packs[0]!))).toBeUndefined();
    expect(bucket.readsOf('packs/')).toBe(2);
  });

  it('or little of a file by itself, the rest being pieces of larger files, what is wanted comes by itself', async () => {
    const part = () => Buffer.from(Array.from({ length: 100_000 }, () => Math.floor(Math.random() * 256)));
    const version = await buildVersion(repository, {
      ...randomFiles(3, 1_000),
      large: Array.from({ length: 20 }, part),
    });
    const bring = hydrator(version);
    await bring.hydrate(version.files.get('file-000001')!.id);
    await untilIdle(bring);
    expect(bucket.wholeReads.get(packKey(version.packs[0]!))).toBeUndefined();
    expect(bucket.bytesRead).toBeLessThan(100_000);
  });

  it('a glob brings nothing that it does not name', async () => {
    const version = await buildVersion(repository, randomFiles(100, 10_000));
    const bring = hydrator(version);
    await bring.prefetch(version.staged, { pattern: 'file-00001?' });
    expect(missingOf(version).length).toBe(90);
    expect(bucket.readsOf('packs/')).toBe(1);
    expect(bucket.wholeReads.get(packKey(version.packs[0]!))).toBeUndefined();
  });
});
