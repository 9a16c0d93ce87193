import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Digest } from '../dataset/digest.ts';
import { DiskFullError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { type Cache, openCache } from './cache.ts';
import { type Capacity, type CapacityOptions, createCapacity } from './capacity.ts';
import { subscribe } from './events.ts';
import { createHydrator, type Hydrator } from './hydrate.ts';
import { type CacheIndex, openIndex } from './index.ts';
import { createRoom, openRoom, type Room } from './room.ts';
import { type BuiltVersion, buildVersion, randomFiles, temporaryRepository } from './staged.fixture.ts';
import { type TestBook, testBook } from './version-book.fixture.ts';

let stack: AsyncDisposableStack;
let repository: Repository;
let folder: string;
let cache: Cache;
let index: CacheIndex;
let book: TestBook;
let room: Room;
let hydrator: Hydrator;
let capacity: Capacity;
let freed: number;

/** The size of each file: whole blocks. */
const FILE = 12_288;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  ({ repository, folder } = stack.use(await temporaryRepository()));
  book = testBook();
  await start({});
});
afterEach(() => stack.disposeAsync());

let running: AsyncDisposableStack;
async function start(options: Partial<CapacityOptions>): Promise<void> {
  running = stack.use(new AsyncDisposableStack());
  cache = running.use(await openCache({ directory: join(folder, 'cache') }));
  index = running.use(openIndex(cache));
  const shared = createRoom();
  room = openRoom(shared);
  freed = 0;
  const makeRoom = (bytes: number) => capacity.makeRoom(bytes);
  hydrator = running.use(createHydrator({ cache, threads: 1, room: shared, makeRoom }));
  const release = async () => {
    freed += 1;
  };
  const isIdle = () => hydrator.stats().running === 0;
  const limits = { minFree: { bytes: 0 } };
  // Journals and the index are no smaller than what these tests fill; at once, and then no more.
  const intervals = { interval: 50, othersInterval: 3_600_000 };
  capacity = running.use(
    createCapacity({ cache, index, book, room: shared, limits, isIdle, ...intervals, release, ...options }),
  );
  await capacity.refresh();
}

/** Room for so many files above what the directory has besides. */
async function limitTo(files: number): Promise<number> {
  await pause(60);
  await capacity.refresh();
  const others = capacity.stats().held - index.totals().held;
  const bytes = others + files * FILE;
  await capacity.setLimits({ limit: { bytes }, minFree: { bytes: 0 } });
  return bytes;
}

async function build(count: number, folder: string): Promise<BuiltVersion> {
  return await buildVersion(repository, randomFiles(count, FILE, folder), { target: 200_000 });
}

const idsOf = ({ files }: BuiltVersion): Digest[] => [...files.values()].map(({ id }) => id);
const cached = (version: BuiltVersion): Digest[] => idsOf(version).filter((id) => cache.has(id));

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 200 && !condition(); tries += 1) await capacity.refresh().then(() => pause(20));
  expect(condition()).toBe(true);
}
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function fill(version: BuiltVersion): Promise<void> {
  using _registration = hydrator.register(version.staged);
  await hydrator.prefetch(version.staged);
}

describe('the capacity of a cache', () => {
  it('lets epochs over a mounted dataset twice its size hit on half of it, each time the same half', async () => {
    const version = await build(120, 'a-');
    book.put(version, { lastStaged: 1 });
    book.staged.add(version.staged.version);
    const limit = await limitTo(60);
    using _registration = hydrator.register(version.staged);
    const epoch = async () => {
      const outcomes = { hit: 0, ready: 0, stream: 0, absent: 0 };
      for (const id of idsOf(version).sort(() => Math.random() - 0.5)) {
        if (cache.has(id)) outcomes.hit += 1;
        else outcomes[await hydrator.hydrate(id)] += 1;
      }
      return outcomes;
    };
    await epoch();
    const half = cached(version);
    expect(half.length).toBeGreaterThan(50);
    expect(half.length).toBeLessThanOrEqual(60);
    for (let again = 0; again < 2; again += 1) {
      const { hit, stream, ...rest } = await epoch();
      expect(rest.absent).toBe(0);
      expect(hit).toBeGreaterThanOrEqual(half.length);
      expect(stream).toBeGreaterThanOrEqual(50);
      expect(cached(version)).toEqual(expect.arrayContaining(half));
    }
    await capacity.refresh();
    expect(capacity.stats().held).toBeLessThanOrEqual(limit);
    expect(capacity.stats()).toMatchObject({ limit, evictedObjects: 0 });
  });

  it('evicts in the background what was mounted longest ago, before anybody meets the end of the room', async () => {
    const [a, b, c] = [await build(40, 'a-'), await build(40, 'b-'), await build(40, 'c-')];
    book.put(a, { lastStaged: 2 });
    book.put(b, { lastStaged: 1 });
    book.put(c, { lastStaged: 0, pinned: true });
    for (const version of [a, b, c]) await fill(version);
    const evicted: number[] = [];
    const end = subscribe('evicted', ({ objects }) => evicted.push(objects));
    await limitTo(100);
    await until(() => !capacity.stats().evicting && cached(b).length < 20);
    end();
    expect([cached(a).length, cached(c).length]).toEqual([40, 40]);
    // The limit and an eighth of it.
    expect(cached(b).length).toBeGreaterThan(0);
    expect(evicted.reduce((sum, one) => sum + one, 0)).toBe(40 - cached(b).length);
    expect(capacity.stats()).toMatchObject({ evictedObjects: 40 - cached(b).length });
    await until(() => room.bytes >= 4 * FILE);
  });

  it('makes room for what is mounted by what is not, and forgets a version when it is gone', async () => {
    const [old, wanted] = [await build(30, 'old-'), await build(50, 'wanted-')];
    book.put(old, { lastStaged: 1 });
    await fill(old);
    book.put(wanted, { lastStaged: 2 });
    book.staged.add(wanted.staged.version);
    await limitTo(52);
    using _registration = hydrator.register(wanted.staged);
    const outcomes = new Set<string>();
    for (const id of idsOf(wanted)) outcomes.add(await hydrator.hydrate(id));
    expect([...outcomes]).toEqual(['ready']);
    await until(() => book.forgotten.length > 0);
    expect(book.forgotten).toEqual([old.staged.version]);
    expect([cached(old).length, cached(wanted).length]).toEqual([0, 50]);
  });

  it('says at once that there is no room where nothing may go, and finds out when that has changed', async () => {
    const version = await build(20, 'a-');
    book.put(version, { lastStaged: 1 });
    await fill(version);
    book.staged.add(version.staged.version);
    await limitTo(20);
    expect(await capacity.makeRoom(1e6)).toBe(false);
    expect(await capacity.makeRoom(50_000)).toBe(false);
    expect(cached(version).length).toBe(20);
    book.staged.clear();
    expect(await capacity.makeRoom(50_000)).toBe(true);
    expect(cached(version).length).toBeLessThan(20);
    // More than the whole cache may take is not tried.
    const before = cached(version).length;
    expect(await capacity.makeRoom(1e9)).toBe(false);
    expect(cached(version).length).toBe(before);
  });

  it('keeps what is mounted when the limit was lowered while the daemon was down, and frees the rest', async () => {
    const [mounted, idle] = [await build(30, 'a-'), await build(30, 'b-')];
    book.put(mounted, { lastStaged: 1 });
    book.put(idle, { lastStaged: 2 });
    for (const version of [mounted, idle]) await fill(version);
    book.staged.add(mounted.staged.version);
    const limit = { bytes: (await limitTo(100)) - 85 * FILE };
    await running.disposeAsync();
    await start({ limits: { limit, minFree: { bytes: 0 } } });
    await until(() => cached(idle).length === 0);
    expect(cached(mounted).length).toBe(30);
    expect(capacity.stats().room).toBeLessThan(0);
    const more = await build(1, 'more-');
    using _registration = hydrator.register(more.staged);
    expect(await hydrator.hydrate(idsOf(more)[0]!)).toBe('stream');
  });

  it('counts what other folders of the cache take, and what is free of the disk', async () => {
    writeFileSync(join(cache.layout.images, 'x'), Buffer.alloc(1_000_000));
    await running.disposeAsync();
    await start({});
    const { held, diskFree, diskBytes } = capacity.stats();
    expect(held).toBeGreaterThanOrEqual(1_000_000);
    await capacity.setLimits({ limit: { percent: 50 }, minFree: { bytes: diskFree + 2e9 } });
    expect(capacity.stats().limit).toBe(Math.floor(diskBytes / 2));
    expect(room.bytes).toBeLessThan(0);
  });

  it('does not evict a version that is being fetched', async () => {
    const version = await build(20, 'a-');
    book.put(version, { lastStaged: 1 });
    await fill(version);
    await limitTo(20);
    {
      using _kept = capacity.keep(version.staged.version);
      using _again = capacity.keep(version.staged.version);
      expect(await capacity.makeRoom(50_000)).toBe(false);
    }
    expect(await capacity.makeRoom(50_000)).toBe(true);
  });

  it('gives what writers lost back when nobody writes', async () => {
    await limitTo(10);
    expect(room.take(5 * FILE)).toBe(true);
    await until(() => room.bytes >= 9 * FILE);
    expect(room.pending).toBe(0);
  });

  it('takes the room of an image before it is made, and gives it back where that failed', async () => {
    await limitTo(100);
    const before = room.bytes;
    const making = capacity.making('an image', 50 * FILE, async () => {
      expect(room.bytes).toBe(before - 50 * FILE);
      await capacity.refresh();
      expect(room.bytes).toBe(before - 50 * FILE);
      throw new Error('it failed');
    });
    await expect(making).rejects.toThrow('it failed');
    expect(room.bytes).toBe(before);
    expect(room.pending).toBe(0);
  });

  it('counts an image as what it takes once it is there', async () => {
    await limitTo(100);
    const before = room.bytes;
    const image = join(cache.layout.images, 'x');
    await capacity.making('an image', 50 * FILE, async () => writeFileSync(image, Buffer.alloc(30 * FILE)));
    await capacity.refresh();
    expect(room.pending).toBe(0);
    expect(Math.abs(before - room.bytes - 30 * FILE)).toBeLessThan(10 * FILE);
  });

  it('lets cached objects of mounted versions go for an image, as many as it needs', async () => {
    const version = await build(20, 'a-');
    book.put(version, { lastStaged: 1 });
    await fill(version);
    book.staged.add(version.staged.version);
    await limitTo(20);
    expect(await capacity.making('an image', 5 * FILE, async () => cached(version).length)).toBe(15);
  });

  it('makes no image that the disk has no room for, and lets nothing go for it', async () => {
    const version = await build(20, 'a-');
    book.put(version, { lastStaged: 1 });
    await fill(version);
    const making = capacity.making('an image', 1e15, async () => {
      throw new Error('it was made');
    });
    await expect(making).rejects.toThrow(DiskFullError);
    await expect(making).rejects.toThrow(
      /the disk of .* has \d+ bytes free, and an image takes about 1000000000000000/,
    );
    expect(cached(version)).toHaveLength(20);
  });

  it('asks mounts to let go when what was mounted is evicted', async () => {
    const version = await build(20, 'a-');
    book.put(version, { lastStaged: 1 });
    await fill(version);
    book.staged.add(version.staged.version);
    expect(await capacity.evict({})).toMatchObject({ objects: 0 });
    expect(await capacity.evict({ mounted: true, bytes: 5 * FILE })).toMatchObject({ objects: 5, bytes: 5 * FILE });
    expect(freed).toBe(1);
    expect(book.forgotten).toEqual([]);
  });
});
