import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readObject } from '../../dataset/bucket/read-object.ts';
import { ConflictError, InvalidError, NotFoundError, UnavailableError } from '../../dataset/errors.ts';
import { packKey } from '../../dataset/keys.ts';
import { collect } from '../../test/support/collect.ts';
import { createRandom } from '../../test/support/random.ts';
import { createRoom, openRoom } from '../room.ts';
import { buildVersion, randomFiles, temporaryRepository } from '../staged.fixture.ts';
import { type ControlledBucket, controlledBucket } from './controlled-bucket.fixture.ts';
import { createOrigin, type Origin } from './origin.ts';
import { openStore, type Store, type StoreOptions } from './store.ts';

const seed = Number(process.env.LARDER_TEST_SEED ?? Date.now() % 1_000_000);

let made: Awaited<ReturnType<typeof temporaryRepository>>;
let top: string;
let key: string;
let pack: Buffer;
let keys: string[];
let folders = 0;

beforeAll(async () => {
  made = await temporaryRepository();
  top = mkdtempSync(join(tmpdir(), 'larder-neighbours-store-'));
  const { packs } = await buildVersion(made.repository, randomFiles(60, 100_000), { target: 1_000_000 });
  keys = packs.map(packKey);
  key = keys[0]!;
  pack = (await readObject(made.repository.bucket, key, 10 ** 8)).bytes;
});

afterAll(async () => {
  await made[Symbol.asyncDispose]();
  rmSync(top, { recursive: true, force: true });
});

interface Rig extends AsyncDisposable {
  readonly bucket: ControlledBucket;
  readonly origin: Origin;
  readonly store: Store;
  readonly directory: string;
  readonly warnings: string[];
  get(range?: readonly [offset: number, length: number], of?: string): Promise<Buffer>;
}

async function rig(options: Partial<StoreOptions> = {}): Promise<Rig> {
  const directory = options.directory ?? join(top, `store-${folders++}`);
  const warnings: string[] = [];
  const store = await openStore({ limit: 100_000_000, ...options, directory });
  const bucket = controlledBucket(made.repository.bucket);
  const origin = createOrigin({ store, onWarning: (text) => warnings.push(text), onFetched: () => {} });
  return {
    bucket,
    origin,
    store,
    directory,
    warnings,
    get: async (range, of = key) => {
      const options = range && { range: { offset: range[0], length: range[1] } };
      const { body, size } = await origin.get('repository', bucket, of, options);
      if (of === key) expect(size).toBe(pack.length);
      return Buffer.concat(await collect(body));
    },
    [Symbol.asyncDispose]: async () => {
      await origin.close();
      await store.close();
    },
  };
}

/** The files of a store, by folder. */
function filesIn(directory: string, folder: 'whole' | 'incoming'): string[] {
  return readdirSync(join(directory, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

describe('an owner', () => {
  it('reads a pack once from the bucket, however many ask for it at a time and later', async () => {
    await using rigged = await rig();
    const all = await Promise.all(Array.from({ length: 8 }, () => rigged.get()));
    all.push(await rigged.get());
    for (const bytes of all) expect(bytes.equals(pack)).toBe(true);
    expect(rigged.bucket.bytes.get(key)).toBe(pack.length);
    expect(rigged.bucket.gets).toBe(1);
    expect(rigged.warnings).toEqual([]);
  });

  it('gives on what has come while the rest is on its way', async () => {
    await using rigged = await rig();
    const gate = Promise.withResolvers<void>();
    rigged.bucket.before = (_, offset) => (offset > 600_000 ? gate.promise : undefined);
    const { body } = await rigged.origin.get('repository', rigged.bucket, key);
    const blocks = body[Symbol.asyncIterator]();
    const parts: Buffer[] = [];
    let length = 0;
    while (length < 500_000) {
      const { value } = await blocks.next();
      parts.push(value);
      length += value.length;
    }
    // Nobody let the bucket go on.
    expect(rigged.bucket.bytes.get(key)).toBeLessThan(700_000);
    const other = rigged.get([100_000, 300_000]);
    expect((await other).equals(pack.subarray(100_000, 400_000))).toBe(true);
    gate.resolve();
    for (let next = await blocks.next(); !next.done; next = await blocks.next()) parts.push(next.value);
    expect(Buffer.concat(parts).equals(pack)).toBe(true);
    expect(rigged.bucket.bytes.get(key)).toBe(pack.length);
  });

  it('reads of a pack that is asked for by ranges only those, each byte once', async () => {
    const random = createRandom(seed);
    await using rigged = await rig();
    const ranges = Array.from({ length: 30 }, () => {
      const offset = random.below(pack.length);
      return [offset, 1 + random.below(Math.min(80_000, pack.length - offset))] as const;
    });
    const small = await rigged.get([500_000, 1000]);
    expect(small.equals(pack.subarray(500_000, 501_000))).toBe(true);
    expect(rigged.bucket.bytes.get(key)).toBe(64 * 1024);
    expect(rigged.bucket).toMatchObject({ gets: 1, heads: 0 });
    await Promise.all(
      ranges.map(async ([offset, length]) => {
        const bytes = await rigged.get([offset, length]);
        expect(bytes.equals(pack.subarray(offset, offset + length)), `${offset} ${length} (seed ${seed})`).toBe(true);
      }),
    );
    expect((await rigged.get()).equals(pack)).toBe(true);
    expect(rigged.bucket.bytes.get(key), `seed ${seed}`).toBe(pack.length);
    await rigged.origin.close();
    expect(filesIn(rigged.directory, 'incoming')).toEqual([]);
    expect(filesIn(rigged.directory, 'whole')).toHaveLength(1);
  });

  it('finds out how long the last block of a pack is', async () => {
    await using rigged = await rig();
    expect((await rigged.get([pack.length - 10, 10])).equals(pack.subarray(-10))).toBe(true);
    expect(rigged.bucket.heads).toBe(1);
    expect(rigged.bucket.bytes.get(key)).toBe(pack.length % (64 * 1024));
  });

  it('goes on fetching when the one who asked has gone', async () => {
    await using rigged = await rig();
    const gate = Promise.withResolvers<void>();
    rigged.bucket.before = (_, offset) => (offset > 300_000 ? gate.promise : undefined);
    const { body } = await rigged.origin.get('repository', rigged.bucket, key);
    for await (const _ of body) break;
    gate.resolve();
    expect((await rigged.get()).equals(pack)).toBe(true);
    expect(rigged.bucket.gets).toBe(1);
  });

  it('lets a reader go who gives up while he waits', async () => {
    await using rigged = await rig();
    const gate = Promise.withResolvers<void>();
    rigged.bucket.before = () => gate.promise;
    const leaving = new AbortController();
    const { body } = await rigged.origin.get('repository', rigged.bucket, key, { signal: leaving.signal });
    const reading = collect(body);
    leaving.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    gate.resolve();
  });

  it('tells all who wait that the bucket failed, and asks it again for who comes later', async () => {
    await using rigged = await rig();
    rigged.bucket.before = (_, offset) => {
      if (offset > 400_000) throw new UnavailableError('the bucket is away');
    };
    const outcomes = await Promise.allSettled([rigged.get(), rigged.get(), rigged.get([700_000, 1000])]);
    expect(outcomes.map(({ status }) => status)).toContain('rejected');
    rigged.bucket.before = () => {};
    expect((await rigged.get()).equals(pack)).toBe(true);
    // What had come is kept: what was on its way is fetched again, at most.
    expect(rigged.bucket.bytes.get(key)).toBeLessThan(pack.length + 300_000);
  });

  it('answers as the bucket does to what cannot be', async () => {
    await using rigged = await rig();
    const missing = packKey(packNotThere());
    await expect(rigged.get(undefined, missing)).rejects.toBeInstanceOf(NotFoundError);
    await expect(rigged.get([0, 10], missing)).rejects.toBeInstanceOf(NotFoundError);
    await expect(rigged.get([pack.length - 5, 6])).rejects.toBeInstanceOf(InvalidError);
    const other = rigged.origin.get('repository', rigged.bucket, key, { ifMatch: 'other' });
    await expect(other).rejects.toBeInstanceOf(ConflictError);
    const { etag } = (await made.repository.bucket.head(key))!;
    const same = await rigged.origin.get('repository', rigged.bucket, key, { ifMatch: etag });
    expect(Buffer.concat(await collect(same.body)).equals(pack)).toBe(true);
  });

  it('does not keep a pack that is none', async () => {
    await using rigged = await rig();
    const wrong = packKey(packNotThere());
    await made.repository.bucket.put(wrong, Buffer.alloc(200_000, 7));
    try {
      expect((await rigged.get(undefined, wrong)).equals(Buffer.alloc(200_000, 7))).toBe(true);
      await rigged.origin.close();
      expect(rigged.warnings.join()).toMatch(/is not kept for neighbours/);
      expect(rigged.store.bytes).toBe(0);
    } finally {
      await made.repository.bucket.delete(wrong);
    }
  });
});

function packNotThere() {
  return 'ab'.repeat(32) as Parameters<typeof packKey>[0];
}

describe('the store', () => {
  it('keeps whole packs over a restart, and nothing of what was on its way', async () => {
    const first = await rig();
    await first.get();
    await first.get([0, 1000], keys[1]);
    await first.origin.close();
    expect(filesIn(first.directory, 'incoming')).toHaveLength(1);
    await first[Symbol.asyncDispose]();
    writeFileSync(join(first.directory, 'incoming', 'left-by-a-crash'), 'half');

    await using second = await rig({ directory: first.directory });
    expect(filesIn(second.directory, 'incoming')).toEqual([]);
    expect((await second.get()).equals(pack)).toBe(true);
    expect((await second.get([5000, 10])).equals(pack.subarray(5000, 5010))).toBe(true);
    expect(second.bucket.gets).toBe(0);
    expect(second.store.objects).toBe(1);
  });

  it('gives no byte that its disk changed, but the bucket’s', async () => {
    const first = await rig();
    await first.get();
    await first[Symbol.asyncDispose]();
    const [file] = filesIn(first.directory, 'whole');
    const bytes = readFileSync(file!);
    bytes[700_000]! ^= 1;
    writeFileSync(file!, bytes);

    await using second = await rig({ directory: first.directory });
    expect((await second.get()).equals(pack)).toBe(true);
    expect(second.bucket.total()).toBeGreaterThan(0);
    expect(existsSync(file!)).toBe(false);
    expect(second.store.bytes).toBe(0);
  });

  it.each([0, 1, 1000, 500_000, -1, -13])('drops a file that a crash left with %i bytes', async (length) => {
    const first = await rig();
    await first.get();
    await first[Symbol.asyncDispose]();
    const [file] = filesIn(first.directory, 'whole');
    truncateSync(file!, length < 0 ? readFileSync(file!).length + length : length);
    await using second = await rig({ directory: first.directory });
    expect((await second.get([10, 10])).equals(pack.subarray(10, 20))).toBe(true);
    expect((await second.get()).equals(pack)).toBe(true);
    expect(second.bucket.bytes.get(key)).toBe(pack.length);
  });

  it('stays within its limit, and lets the oldest go first', async () => {
    await using rigged = await rig({ limit: 5_000_000 });
    for (const each of keys) {
      await rigged.get(undefined, each);
      expect(rigged.store.bytes).toBeLessThanOrEqual(5_000_000);
    }
    const before = rigged.bucket.total();
    await rigged.get(undefined, keys.at(-1));
    expect(rigged.bucket.total()).toBe(before);
    await rigged.get(undefined, keys[0]);
    expect(rigged.bucket.total()).toBeGreaterThan(before);
    const held = filesIn(rigged.directory, 'whole').length;
    const freed = rigged.store.release(1);
    expect(freed).toBeGreaterThan(900_000);
    expect(filesIn(rigged.directory, 'whole')).toHaveLength(held - 1);
  });

  it('keeps nothing where the disk has no room, and the pack is read all the same', async () => {
    const room = openRoom(createRoom(1_500_000));
    await using rigged = await rig({ room });
    await rigged.get();
    expect(room.bytes).toBeLessThan(600_000);
    // The other one goes for it.
    await rigged.get(undefined, keys[1]);
    expect(rigged.store.objects).toBe(1);
    room.set(0);
    rigged.store.release(Number.POSITIVE_INFINITY);
    room.set(0);
    expect((await rigged.get()).equals(pack)).toBe(true);
    expect((await rigged.get([3, 4])).equals(pack.subarray(3, 7))).toBe(true);
    expect(rigged.store.objects).toBe(0);
  });
});
