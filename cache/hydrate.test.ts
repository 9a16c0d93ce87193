import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { CorruptError, InvalidError, UnavailableError } from '../dataset/errors.ts';
import { packKey } from '../dataset/keys.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Cache } from './cache.ts';
import { createHydrator, type Hydrator, type HydratorOptions } from './hydrate.ts';
import { type BuiltVersion, buildVersion, type CountingBucket, countedCache, randomFiles } from './staged.fixture.ts';

let stack: AsyncDisposableStack;
let repository: Repository;
let bucket: CountingBucket;
let folder: string;
let cache: Cache;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  ({ folder, bucket, repository, cache } = await countedCache(stack));
});
afterEach(() => stack.disposeAsync());

function hydrator(options: Partial<HydratorOptions> = {}): Hydrator {
  return stack.use(createHydrator({ cache, threads: 2, ...options }));
}

function expectWhole({ files }: BuiltVersion, paths = [...files.keys()]): void {
  for (const path of paths) {
    const { id, bytes } = files.get(path)!;
    expect(readFileSync(cache.objectPath(id)).equals(bytes), path).toBe(true);
  }
}

/** Every object in the cache is what its name says; gives their ids. */
function objectsInPlace(known: BuiltVersion): Set<Digest> {
  const ids = new Set<Digest>();
  const bytesOf = new Map([...known.files.values()].map(({ id, bytes }) => [id, bytes]));
  for (const entry of readdirSync(cache.layout.objects, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const id = entry.name as Digest;
    expect(readFileSync(join(entry.parentPath, id)).equals(bytesOf.get(id)!), id).toBe(true);
    ids.add(id);
  }
  return ids;
}

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error('it did not come to pass within 20 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('hydrating', () => {
  it('brings an object, and with it the other wanted ones of its pack', async () => {
    const version = await buildVersion(repository, randomFiles(50, 20_000));
    const bring = hydrator();
    bring.register(version.staged);
    const { id } = version.files.get('file-000010')!;
    expect(await bring.hydrate(id)).toBe('ready');
    expectWhole(version, ['file-000010']);
    await until(() => [...version.files.values()].every((file) => cache.has(file.id)));
    expectWhole(version);
    expect(bucket.wholeReads.get(packKey(version.packs[0]!))).toBe(1);
    expect(statSync(cache.objectPath(id)).mode & 0o7777).toBe(0o444);
  });

  it('answers a thousand opens of one object with one read of it, and one of its pack', async () => {
    const version = await buildVersion(repository, randomFiles(50, 20_000));
    const bring = hydrator();
    bring.register(version.staged);
    const { id } = version.files.get('file-000049')!;
    const answers = await Promise.all(Array.from({ length: 1000 }, () => bring.hydrate(id)));
    expect(new Set(answers)).toEqual(new Set(['ready']));
    await until(() => [...version.files.values()].every((file) => cache.has(file.id)));
    expect(bucket.readsOf('packs/')).toBeLessThanOrEqual(2);
    expect(bucket.wholeReads.get(packKey(version.packs[0]!))).toBe(1);
    expectWhole(version, ['file-000049']);
  });

  it('answers a thousand opens of a thousand objects with a few reads of each pack, whole once at most', async () => {
    const version = await buildVersion(repository, randomFiles(1000, 5_000), { target: 600_000 });
    expect(version.packs.length).toBeGreaterThan(6);
    const bring = hydrator();
    bring.register(version.staged);
    const paths = [...version.files.keys()].sort(() => Math.random() - 0.5);
    await Promise.all(paths.map((path) => bring.hydrate(version.files.get(path)!.id)));
    expectWhole(version);
    // What they wait for may have come by ranges before the rest of a pack is read.
    for (const pack of version.packs) expect(bucket.wholeReads.get(packKey(pack)) ?? 0).toBeLessThanOrEqual(1);
    expect(bucket.readsOf('packs/')).toBeLessThan(100);
    expect(bucket.bytesRead).toBeLessThan(2.5 * 1000 * 5_000);
    for (const [key, count] of bucket.reads)
      if (key.startsWith('segments') || key.startsWith('locations')) expect(count, key).toBeLessThanOrEqual(2);
  });

  it('has its workers read a directory themselves where it may', async () => {
    const version = await buildVersion(repository, {
      ...randomFiles(50, 20_000),
      large: [randomBytes(90_000), 5, randomBytes(9)],
    });
    const bring = hydrator({ readDirectly: () => true });
    bring.register(version.staged);
    await Promise.all([...version.files.values()].map(({ id }) => bring.hydrate(id)));
    expectWhole(version);
    expect(bucket.readsOf('packs/')).toBe(0);
  });

  it('takes only what a staged version has, from a pack that holds more', async () => {
    const files = randomFiles(40, 10_000);
    const all = await buildVersion(repository, files);
    const some = await buildVersion(repository, Object.fromEntries(Object.entries(files).slice(0, 10)));
    // The second version's own pack goes: its ten files are to come from the first's.
    const bring = hydrator();
    bring.register(some.staged);
    expect(await bring.hydrate(all.files.get('file-000020')!.id)).toBe('absent');
    await bring.hydrate(some.files.get('file-000000')!.id);
    await until(() => objectsInPlace(all).size === 10);
  });

  it('answers absent for what no registered version has, also after the last that had it is gone', async () => {
    const version = await buildVersion(repository, randomFiles(3, 1000));
    const bring = hydrator();
    expect(await bring.hydrate(version.files.get('file-000000')!.id)).toBe('absent');
    const registration = bring.register(version.staged);
    expect(await bring.hydrate(sha256('nobody has it'))).toBe('absent');
    registration.dispose();
    expect(await bring.hydrate(version.files.get('file-000000')!.id)).toBe('absent');
    expect(bucket.readsOf('packs/')).toBe(0);
  });

  it('puts large files together from chunks of several packs, with holes left holes', async () => {
    const chunk = () => randomBytes(300_000);
    const repeated = chunk();
    const version = await buildVersion(
      repository,
      {
        large: Array.from({ length: 9 }, chunk),
        repeated: [repeated, chunk(), repeated, repeated],
        sparse: [8_000_000, chunk(), 4_000_000, chunk(), 2_000_000],
        empty: [16_000_000],
        small: chunk(),
      },
      { target: 700_000 },
    );
    const bring = hydrator();
    bring.register(version.staged);
    await Promise.all([...version.files.values()].map(({ id }) => bring.hydrate(id)));
    expectWhole(version);
    expect(statSync(cache.objectPath(version.files.get('sparse')!.id)).blocks * 512).toBeLessThan(1_000_000);
    expect(statSync(cache.objectPath(version.files.get('empty')!.id)).blocks).toBe(0);
  });

  it('shows what somebody waits for before its pack has been read to the end', async () => {
    const version = await buildVersion(repository, randomFiles(300, 100_000));
    const bring = hydrator();
    bring.register(version.staged);
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const get = bucket.get;
    bucket.get = async (key, options) => {
      const object = await get(key, options);
      async function* slow(): AsyncGenerator<Buffer> {
        let blocks = 0;
        for await (const block of object.body) {
          yield block;
          if (++blocks === 3) await held;
        }
      }
      return key.startsWith('packs/') ? { ...object, body: slow() } : object;
    };
    expect(await bring.hydrate(version.files.get('file-000001')!.id)).toBe('ready');
    expect(cache.has(version.files.get('file-000299')!.id)).toBe(false);
    release();
    await until(() => cache.has(version.files.get('file-000299')!.id));
  });

  it('reads no more packs at a time than it may', async () => {
    const version = await buildVersion(repository, randomFiles(200, 20_000), { target: 200_000 });
    const bring = hydrator({ reads: 3 });
    bring.register(version.staged);
    await Promise.all([...version.files.values()].map(({ id }) => bring.hydrate(id)));
    expect(bucket.mostUnderway).toBeLessThanOrEqual(3);
    expectWhole(version);
  });

  it('stops reading when the last who waited goes, and another may ask again', async () => {
    const version = await buildVersion(repository, randomFiles(20, 100_000));
    const bring = hydrator();
    bring.register(version.staged);
    const { id } = version.files.get('file-000019')!;
    let asked = () => {};
    const reading = new Promise<void>((resolve) => {
      asked = resolve;
    });
    let seen: AbortSignal | undefined;
    const get = bucket.get;
    bucket.get = async (key, options) => {
      if (!key.startsWith('packs/')) return get(key, options);
      seen = options?.signal;
      asked();
      return new Promise((_, reject) => {
        options?.signal?.addEventListener('abort', () => reject(options.signal?.reason));
      });
    };
    const [one, two] = [new AbortController(), new AbortController()];
    const first = bring.hydrate(id, { signal: one.signal });
    const second = bring.hydrate(id, { signal: two.signal });
    await reading;
    expect(bring.waiting).toBe(1);
    one.abort(new Error('killed'));
    await expect(first).rejects.toThrow('killed');
    expect(seen?.aborted).toBe(false);
    two.abort(new Error('killed too'));
    await expect(second).rejects.toThrow('killed too');
    await until(() => seen!.aborted);
    expect(bring.waiting).toBe(0);
    bucket.get = get;
    expect(await bring.hydrate(id)).toBe('ready');
  });

  it('tries again while the bucket is away, and then says so', async () => {
    const version = await buildVersion(repository, randomFiles(3, 1000));
    const bring = hydrator({ patience: 60_000 });
    bring.register(version.staged);
    let failures = 2;
    bucket.before = (key) => {
      if (key.startsWith('packs/') && failures-- > 0) throw new UnavailableError('the bucket does not answer');
    };
    expect(await bring.hydrate(version.files.get('file-000000')!.id)).toBe('ready');
    const other = await buildVersion(repository, randomFiles(3, 1000));
    bring.register(other.staged);
    const hasty = hydrator({ patience: 500 });
    hasty.register(other.staged);
    failures = Number.POSITIVE_INFINITY;
    const { id } = other.files.get('file-000000')!;
    const failed = await hasty.hydrate(id).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(UnavailableError);
    expect((failed as Error).message).toContain(id);
    expect((failed as Error).message).toContain('the bucket does not answer');
    failures = 0;
    expect(await bring.hydrate(id)).toBe('ready');
  });

  it('finds an object whose pack has been written anew elsewhere', async () => {
    const files = randomFiles(10, 10_000);
    const version = await buildVersion(repository, files);
    const bring = hydrator();
    bring.register(version.staged);
    const { id } = version.files.get('file-000003')!;
    // The segment is read now, with the old locations; then the pack goes.
    await bring.hydrate(version.files.get('file-000000')!.id);
    await until(() => objectsInPlace(version).size === 10);
    for (const object of objectsInPlace(version)) cache.remove(object);
    await repository.bucket.delete(packKey(version.packs[0]!));
    await buildVersion(repository, files, { target: 30_000 });
    expect(await bring.hydrate(id)).toBe('ready');
    objectsInPlace(version);
  });

  it('fails at once, and says what to do, when a pack is gone for good', async () => {
    const version = await buildVersion(repository, randomFiles(3, 1000));
    const bring = hydrator({ patience: 500 });
    bring.register(version.staged);
    await repository.bucket.delete(packKey(version.packs[0]!));
    await expect(bring.hydrate(version.files.get('file-000000')!.id)).rejects.toThrow(/is gone.*larder verify/);
  });

  it('leaves a thread for what is waited for while a prefetch runs', async () => {
    const version = await buildVersion(repository, randomFiles(400, 20_000), { target: 200_000 });
    const bring = hydrator({ reads: 2 });
    bring.register(version.staged);
    const order: string[] = [];
    const opened = Promise.withResolvers<void>();
    const last = packKey(version.packs.at(-1)!);
    bucket.before = async (key) => {
      if (!key.startsWith('packs/')) return;
      order.push(key);
      // Nothing that is only fetched ahead goes on before what is waited for is there.
      if (key !== last) await opened.promise;
    };
    const prefetching = bring.prefetch(version.staged);
    await until(() => order.length >= 1);
    const { id } = version.files.get('file-000399')!;
    expect(await bring.hydrate(id)).toBe('ready');
    opened.resolve();
    await prefetching;
    expectWhole(version);
    expect(new Set(order).size).toBe(version.packs.length);
  });
});

describe('a damaged pack', () => {
  it('never yields a wrong byte, wherever it is damaged, and every other file is still had', async () => {
    const version = await buildVersion(repository, randomFiles(8, 3_000));
    const file = join(folder, 'repository', packKey(version.packs[0]!));
    const good = readFileSync(file);
    const bring = hydrator({ patience: 300, threads: 1 });
    bring.register(version.staged);
    const ids = [...version.files.values()].map(({ id }) => id);
    const step = Math.ceil(good.length / 120);
    for (let at = 0; at < good.length; at += at < 700 ? 23 : step) {
      const bad = Buffer.from(good);
      bad[at]! ^= 1 << (at % 8);
      writeFileSync(file, bad);
      const outcomes = await Promise.allSettled(ids.map((id) => bring.hydrate(id)));
      const failed = outcomes.filter((outcome) => outcome.status === 'rejected');
      // The pack's own index is not needed to find a chunk; a flipped bit in a chunk's bytes costs that chunk.
      expect(failed.length, `bit flipped at ${at} of ${good.length}`).toBeLessThanOrEqual(1);
      for (const { reason } of failed) {
        expect(reason).toBeInstanceOf(CorruptError);
        expect((reason as CorruptError).facts.pack).toBe(version.packs[0]);
        expect(ids).toContain((reason as CorruptError).facts.chunk);
      }
      expect(objectsInPlace(version).size).toBe(ids.length - failed.length);
      for (const id of ids) cache.remove(id);
    }
    writeFileSync(file, good.subarray(0, good.length - 100));
    const cut = await Promise.allSettled(ids.map((id) => bring.hydrate(id)));
    expect(cut.filter(({ status }) => status === 'rejected').length).toBe(1);
    expect(objectsInPlace(version).size).toBe(ids.length - 1);
  });

  it('fails a large file of which one chunk is damaged, and leaves nothing of it', async () => {
    const version = await buildVersion(repository, { large: Array.from({ length: 5 }, () => randomBytes(100_000)) });
    const file = join(folder, 'repository', packKey(version.packs[0]!));
    const bytes = readFileSync(file);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(file, bytes);
    const bring = hydrator();
    bring.register(version.staged);
    await expect(bring.hydrate(version.files.get('large')!.id)).rejects.toThrow(CorruptError);
    expect(objectsInPlace(version).size).toBe(0);
    expect(
      readdirSync(cache.layout.incoming, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()),
    ).toEqual([]);
  });
});

describe('prefetching', () => {
  it('brings a whole version in the order of its packs, and counts up to the total', async () => {
    const shared = randomBytes(50_000);
    const version = await buildVersion(
      repository,
      {
        ...randomFiles(500, 4_000),
        'twin-1': shared,
        'twin-2': shared,
        large: [randomBytes(200_000), 1_000_000, randomBytes(200_000)],
      },
      { target: 300_000 },
    );
    const bring = hydrator({ reads: 1 });
    bring.register(version.staged);
    const order: string[] = [];
    bucket.before = (key) => {
      if (key.startsWith('packs/') && !order.includes(key)) order.push(key);
    };
    const seen: number[] = [];
    const done = await bring.prefetch(version.staged, { onProgress: ({ files }) => seen.push(files) });
    expect(done).toEqual({
      files: 502,
      bytes: 500 * 4_000 + 50_000 + 1_400_000,
      totalFiles: 502,
      totalBytes: 3_450_000,
    });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expectWhole(version);
    expect(order).toEqual(version.packs.map((pack) => packKey(pack)));
    bucket.reads.clear();
    expect((await bring.prefetch(version.staged)).files).toBe(502);
    expect(bucket.readsOf('packs/')).toBe(0);
  });

  it('brings what lies under a pattern', async () => {
    const version = await buildVersion(
      repository,
      { ...randomFiles(30, 1_000), 'other.txt': randomBytes(500) },
      { target: 2_000 },
    );
    const bring = hydrator();
    bring.register(version.staged);
    const done = await bring.prefetch(version.staged, { pattern: '*.txt' });
    expect(done).toEqual({ files: 1, bytes: 500, totalFiles: 1, totalBytes: 500 });
    expect(existsSync(cache.objectPath(version.files.get('other.txt')!.id))).toBe(true);
    expect(cache.has(version.files.get('file-000000')!.id)).toBe(false);
  });

  it('goes on past damage and names it at the end', async () => {
    const version = await buildVersion(repository, randomFiles(20, 3_000), { target: 12_000 });
    const file = join(folder, 'repository', packKey(version.packs[1]!));
    const bytes = readFileSync(file);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(file, bytes);
    const bring = hydrator();
    bring.register(version.staged);
    await expect(bring.prefetch(version.staged)).rejects.toThrow(CorruptError);
    expect(objectsInPlace(version).size).toBe(19);
  });

  it('ends when it is told to', async () => {
    const version = await buildVersion(repository, randomFiles(100, 10_000), { target: 50_000 });
    const bring = hydrator({ reads: 1 });
    bring.register(version.staged);
    const stop = new AbortController();
    const prefetching = bring.prefetch(version.staged, {
      signal: stop.signal,
      onProgress: ({ files }) => files > 5 && stop.abort(new Error('enough')),
    });
    await expect(prefetching).rejects.toThrow('enough');
    expect(objectsInPlace(version).size).toBeLessThan(100);
  });

  it('refuses a version that is not registered', async () => {
    const version = await buildVersion(repository, randomFiles(2, 1_000));
    await expect(hydrator().prefetch(version.staged)).rejects.toThrow(InvalidError);
  });
});
