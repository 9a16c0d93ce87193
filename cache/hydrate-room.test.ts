import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Cache } from './cache.ts';
import { type CacheEvents, subscribe } from './events.ts';
import { createHydrator, type Hydrator, type HydratorOptions } from './hydrate.ts';
import { createRoom, openRoom, type Room } from './room.ts';
import { buildVersion, type CountingBucket, countedCache, randomFiles } from './staged.fixture.ts';

let stack: AsyncDisposableStack;
let repository: Repository;
let bucket: CountingBucket;
let cache: Cache;
let shared: SharedArrayBuffer;
let room: Room;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  ({ bucket, repository, cache } = await countedCache(stack));
  shared = createRoom();
  room = openRoom(shared);
});
afterEach(() => stack.disposeAsync());

function hydrator(options: Partial<HydratorOptions> = {}): Hydrator {
  return stack.use(createHydrator({ cache, threads: 1, room: shared, ...options }));
}

function heard<E extends keyof CacheEvents>(event: E): CacheEvents[E][] {
  const messages: CacheEvents[E][] = [];
  stack.defer(subscribe(event, (message) => messages.push(message)));
  return messages;
}

describe('an object that is larger than what is waited for', () => {
  it('is to be streamed by who opens it, and is fetched for him no further', async () => {
    const version = await buildVersion(repository, {
      large: [randomBytes(60_000), randomBytes(60_000)],
      small: randomBytes(60_000),
    });
    const bring = hydrator({ streamOver: 100_000 });
    bring.register(version.staged);
    expect(await bring.hydrate(version.files.get('large')!.id)).toBe('stream');
    expect(bucket.readsOf('packs/')).toBe(0);
    expect(await bring.hydrate(version.files.get('small')!.id)).toBe('ready');
    expect(await bring.bring(version.files.get('large')!.id)).toBe('ready');
  });

  it('is brought by a prefetch all the same, also while others go off to stream it', async () => {
    const version = await buildVersion(repository, { large: [randomBytes(60_000), randomBytes(60_000)] });
    const bring = hydrator({ streamOver: 100_000 });
    bring.register(version.staged);
    const { id } = version.files.get('large')!;
    const prefetching = bring.prefetch(version.staged);
    expect(['stream', 'ready']).toContain(await bring.hydrate(id));
    await prefetching;
    expect(await bring.hydrate(id)).toBe('ready');
  });
});

describe('the room', () => {
  it('is taken by what is written, once, and by nothing that is not', async () => {
    const version = await buildVersion(repository, {
      ...randomFiles(20, 10_000),
      sparse: [5_000_000, randomBytes(10_000)],
    });
    room.set(1_000_000);
    const bring = hydrator();
    bring.register(version.staged);
    await bring.prefetch(version.staged);
    expect(room.bytes).toBe(1_000_000 - 21 * 10_000);
    await Promise.all([...version.files.values()].map(({ id }) => bring.hydrate(id)));
    expect(room.bytes).toBe(1_000_000 - 21 * 10_000);
  });

  it('that is not there makes an open stream its object, without reading it, and says so', async () => {
    const version = await buildVersion(repository, randomFiles(20, 10_000));
    const missed = heard('missed');
    room.set(9_999);
    const asked: number[] = [];
    const bring = hydrator({
      makeRoom: async (bytes) => {
        asked.push(bytes);
        return false;
      },
    });
    bring.register(version.staged);
    const { id } = version.files.get('file-000003')!;
    expect(await bring.hydrate(id)).toBe('stream');
    expect(asked).toEqual([10_000]);
    expect(bucket.readsOf('packs/')).toBe(0);
    expect(room.bytes).toBe(9_999);
    expect(missed).toMatchObject([{ id, outcome: 'stream', bytes: 10_000, version: version.staged.version }]);
  });

  it('is made where it can be', async () => {
    const version = await buildVersion(repository, randomFiles(20, 10_000));
    room.set(0);
    const bring = hydrator({
      makeRoom: async () => {
        room.set(500_000);
        return true;
      },
    });
    bring.register(version.staged);
    expect(await bring.hydrate(version.files.get('file-000003')!.id)).toBe('ready');
  });

  it('that is left goes to what is waited for, not to what lies beside it', async () => {
    const version = await buildVersion(repository, randomFiles(20, 10_000));
    room.set(25_000);
    const bring = hydrator();
    bring.register(version.staged);
    expect(await bring.hydrate(version.files.get('file-000019')!.id)).toBe('ready');
    await bring.close();
    // He has it maybe before anything else of its pack was reached.
    const there = [...version.files.values()].filter(({ id }) => cache.has(id));
    expect([1, 2]).toContain(there.length);
    expect(room.bytes).toBe(25_000 - there.length * 10_000);
  });

  it('that ends under a prefetch ends it, with how far it came', async () => {
    const version = await buildVersion(repository, randomFiles(20, 10_000), { target: 45_000 });
    room.set(95_000);
    const bring = hydrator();
    bring.register(version.staged);
    const failed = await bring.prefetch(version.staged).catch((error: unknown) => error as UnavailableError);
    expect(failed).toBeInstanceOf(UnavailableError);
    expect((failed as UnavailableError).message).toMatch(/^\d+ of 20 files fetched, no room for the rest/);
    const { full, files, totalFiles } = (failed as UnavailableError).facts;
    expect({ full, totalFiles }).toEqual({ full: true, totalFiles: 20 });
    expect(files).toBeLessThanOrEqual(9);
    expect(room.bytes).toBeGreaterThanOrEqual(0);
  });
});

describe('what a hydrator tells', () => {
  it('is of each miss how long its steps took, and of each read how many bytes came', async () => {
    const version = await buildVersion(repository, randomFiles(20, 10_000));
    const missed = heard('missed');
    const fetched = heard('fetched');
    const bring = hydrator();
    bring.register(version.staged);
    const { id } = version.files.get('file-000003')!;
    await bring.hydrate(id);
    await bring.hydrate(id);
    expect(await bring.hydrate(sha256('nobody has it') as Digest)).toBe('absent');
    await bring.prefetch(version.staged);
    await bring.close();
    expect(missed.map(({ outcome }) => outcome)).toEqual(['ready', 'absent']);
    const [miss] = missed;
    expect(miss).toMatchObject({ cache: cache.layout.directory, id, repository: repository.id, bytes: 10_000 });
    const marks = [miss!.began, miss!.located!, miss!.started!, miss!.ended];
    expect(marks).toEqual([...marks].sort((a, b) => a - b));
    expect(fetched.every(({ from, failed }) => from === 'bucket' && !failed)).toBe(true);
    expect(fetched.reduce((sum, { bytes }) => sum + bytes, 0)).toBeGreaterThanOrEqual(200_000);
  });

  it('is what failed, and what was given up', async () => {
    const version = await buildVersion(repository, randomFiles(2, 10_000));
    const missed = heard('missed');
    const bring = hydrator({ patience: 50 });
    bring.register(version.staged);
    bucket.before = (key) => {
      if (key.startsWith('packs/')) throw new UnavailableError('the bucket does not answer');
    };
    const { id } = version.files.get('file-000000')!;
    await expect(bring.hydrate(id)).rejects.toThrow('does not answer');
    const stop = new AbortController();
    bucket.before = (key) => (key.startsWith('packs/') ? new Promise(() => {}) : undefined);
    const given = bring.hydrate(id, { signal: stop.signal });
    stop.abort(new Error('killed'));
    await expect(given).rejects.toThrow('killed');
    expect(missed.map(({ outcome }) => outcome)).toEqual(['failed', 'abandoned']);
    expect(missed[0]!.error).toBeInstanceOf(UnavailableError);
  });
});
