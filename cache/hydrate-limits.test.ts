import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Cache } from './cache.ts';
import { createHydrator, type Hydrator, type HydratorOptions } from './hydrate.ts';
import { Rate } from './rate.ts';
import type { StagedSource } from './segment-reader.ts';
import { type BuiltVersion, buildVersion, type CountingBucket, countedCache, randomFiles } from './staged.fixture.ts';
import { createStreams } from './stream/streams.ts';

const MIB = 2 ** 20;

let stack: AsyncDisposableStack;
let repository: Repository;
let bucket: CountingBucket;
let cache: Cache;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  ({ bucket, repository, cache } = await countedCache(stack));
});
afterEach(() => stack.disposeAsync());

// As nodes do with repositories in a directory: what is limited must be held back there too.
function hydrator(options: Partial<HydratorOptions> = {}): Hydrator {
  return stack.use(createHydrator({ cache, threads: 2, readDirectly: () => true, ...options }));
}

function limited({ staged }: BuiltVersion, rate: Rate, patience?: number): StagedSource {
  return { ...staged, limits: { rate, patience: (own) => patience ?? own } };
}

/** Milliseconds. */
async function timed(task: Promise<unknown>): Promise<number> {
  const began = performance.now();
  await task;
  return performance.now() - began;
}

describe('a version with a bandwidth', () => {
  it('is fetched no faster, whole and by single opens, and as fast as that', async () => {
    const version = await buildVersion(repository, randomFiles(60, 50_000));
    const free = await buildVersion(repository, randomFiles(60, 50_000, 'free-'));
    const rate = new Rate(2 * MIB);
    const bring = hydrator();
    const staged = limited(version, rate);
    bring.register(staged);
    bring.register(free.staged);
    // What this machine needs for as much, busy as it is now.
    const unlimited = await timed(bring.prefetch(free.staged));
    const before = bucket.bytesRead;
    const milliseconds = await timed(
      Promise.all([
        bring.prefetch(staged),
        ...[...version.files.values()].slice(0, 20).map(({ id }) => bring.hydrate(id)),
      ]),
    );
    const bytes = bucket.bytesRead - before;
    // A little is asked twice: segments, and what was on its way when it was asked for by itself.
    expect(bytes).toBeGreaterThanOrEqual(60 * 50_000);
    expect(bytes).toBeLessThan(60 * 50_000 * 1.5);
    const perSecond = (60 * 50_000) / (milliseconds / 1000);
    // A quarter of a second's worth comes at once.
    expect(perSecond).toBeLessThan(2.8 * MIB);
    expect(milliseconds).toBeLessThan(((60 * 50_000) / (2 * MIB)) * 1000 * 1.5 + 5 * unlimited + 1_000);
    for (const { id, bytes } of version.files.values())
      expect(readFileSync(cache.objectPath(id)).equals(bytes)).toBe(true);
  });

  it('is not paid for with what lies beside a file, and takes nobody else any time', async () => {
    const slow = await buildVersion(repository, randomFiles(40, 100_000, 'slow-'));
    const fast = await buildVersion(repository, randomFiles(40, 100_000, 'fast-'));
    const bring = hydrator({ reads: 2, readAhead: false });
    const rate = new Rate(500_000);
    const staged = limited(slow, rate);
    bring.register(staged);
    bring.register(fast.staged);
    const [first] = [...slow.files.values()];
    await bring.hydrate(first!.id);
    expect([...slow.files.values()].filter(({ id }) => cache.has(id))).toHaveLength(1);
    const stopping = new AbortController();
    const slowly = bring.prefetch(staged, { signal: stopping.signal }).catch(() => 'stopped');
    const milliseconds = await timed(bring.prefetch(fast.staged));
    // The other needs seven seconds.
    expect(milliseconds).toBeLessThan(3_000);
    expect([...slow.files.values()].every(({ id }) => cache.has(id))).toBe(false);
    stopping.abort(new Error('enough'));
    expect(await slowly).toBe('stopped');
  });

  it('shares a file with a version that has none: then it comes at once', async () => {
    const files = randomFiles(20, 100_000);
    const version = await buildVersion(repository, files);
    const other = await buildVersion(repository, {
      ...files,
      more: Buffer.from('of its own, so that it is another tree'),
    });
    const bring = hydrator();
    const staged = limited(version, new Rate(10_000));
    bring.register(staged);
    bring.register(other.staged);
    expect(await timed(bring.prefetch(staged))).toBeLessThan(5_000);
  });

  it('has a large file read while it comes, at that speed', async () => {
    const parts = Object.values(randomFiles(8, 500_000));
    const version = await buildVersion(repository, { large: parts });
    const rate = new Rate(2 * MIB);
    const bring = hydrator();
    bring.register(limited(version, rate));
    const { id, bytes } = version.files.get('large')!;
    const streams = createStreams({
      cache,
      crew: bring.crew,
      locate: bring.locate,
      isStaged: bring.knows,
      patienceOf: bring.patienceOf,
      rateOf: bring.rateOf,
    });
    const began = performance.now();
    expect(await bring.hydrate(id)).toBe('stream');
    const file = (await streams.open(id))!;
    const first = await file.read(0, 1000);
    const untilFirst = performance.now() - began;
    expect(Buffer.from(first).equals(bytes.subarray(0, 1000))).toBe(true);
    for (let at = 0; at < bytes.length; at += 250_000) {
      expect(Buffer.from(await file.read(at, 250_000)).equals(bytes.subarray(at, at + 250_000))).toBe(true);
    }
    const seconds = (performance.now() - began) / 1000;
    file.close();
    await streams.close();
    expect(bytes.length / seconds).toBeLessThan(2.7 * MIB);
    expect(untilFirst).toBeLessThan(seconds * 700);
  });

  it('goes on at once when it is widened', async () => {
    const version = await buildVersion(repository, randomFiles(10, 100_000));
    const rate = new Rate(1_000);
    const bring = hydrator();
    const staged = limited(version, rate);
    bring.register(staged);
    const coming = bring.prefetch(staged);
    setTimeout(() => {
      rate.bytesPerSecond = Number.POSITIVE_INFINITY;
    }, 300);
    expect(await timed(coming)).toBeLessThan(5_000);
  });
});

describe('the patience of a version', () => {
  it('is the longest of those that have the object: who is in a hurry gives up, who is not gets it', async () => {
    const hurried = await buildVersion(repository, randomFiles(2, 1_000, 'hurried-'));
    const patient = await buildVersion(repository, randomFiles(2, 1_000, 'patient-'));
    const bring = hydrator({ patience: 1_000, readDirectly: () => false, readAhead: false });
    bring.register({ ...hurried.staged, limits: { rate: undefined, patience: () => 200 } });
    bring.register({ ...patient.staged, limits: { rate: undefined, patience: () => 20_000 } });
    const end = performance.now() + 2_500;
    bucket.before = () => {
      if (performance.now() < end) throw new UnavailableError('the bucket is away');
    };
    const [given, got] = [[...hurried.files.values()][0]!, [...patient.files.values()][0]!];
    const giving = timed(expect(bring.hydrate(given.id)).rejects.toThrow('within 0.2 s'));
    const getting = bring.hydrate(got.id);
    expect(await giving).toBeLessThan(1_500);
    expect(await getting).toBe('ready');
  });
});
