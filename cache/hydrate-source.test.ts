import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { directoryBucket } from '../dataset/bucket/directory.ts';
import { bytesOf } from '../dataset/byte-string.ts';
import type { Digest } from '../dataset/digest.ts';
import { CorruptError } from '../dataset/errors.ts';
import { findEntry } from '../dataset/manifest.ts';
import type { Repository } from '../dataset/repository.ts';
import { importListing } from '../dataset/source/import-listing.ts';
import { closeSources } from '../dataset/source/sources.ts';
import { type Cache, openCache } from './cache.ts';
import { createHydrator, type Hydrator } from './hydrate.ts';
import { stage, temporaryRepository } from './staged.fixture.ts';
import { verifyCache } from './verify.ts';

let stack: AsyncDisposableStack;
let repository: Repository;
let source: string;
let cache: Cache;
let hydrator: Hydrator;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const temporary = stack.use(await temporaryRepository());
  ({ repository } = temporary);
  stack.defer(() => closeSources(repository));
  source = join(temporary.folder, 'source');
  mkdirSync(source);
  cache = stack.use(await openCache({ directory: join(temporary.folder, 'cache') }));
  hydrator = stack.use(createHydrator({ cache, threads: 2, readDirectly: () => true }));
});
afterEach(() => stack.disposeAsync());

describe('hydrating what stays in its bucket', () => {
  it('brings objects of any size under their content ids', async () => {
    const files = { empty: Buffer.alloc(0), small: Buffer.from('few bytes'), large: randomBytes(9_000_000) };
    for (const [key, bytes] of Object.entries(files)) writeFileSync(join(source, key), bytes);
    const { staged, idOf } = await stagedInPlace();
    stack.use(hydrator.register(staged));
    for (const [key, bytes] of Object.entries(files)) {
      expect(await hydrator.hydrate(await idOf(key))).toBe('ready');
      expect(readFileSync(cache.objectPath(await idOf(key))).equals(bytes)).toBe(true);
    }
  });

  it('brings all of a version', async () => {
    for (let i = 0; i < 50; i++) writeFileSync(join(source, `f${i}`), randomBytes(20_000));
    const { staged } = await stagedInPlace();
    stack.use(hydrator.register(staged));
    expect(await hydrator.prefetch(staged)).toMatchObject({ files: 50, bytes: 1_000_000, totalFiles: 50 });
  });

  it('fails at once with the key, and puts nothing in place, where an object changed or is gone', async () => {
    writeFileSync(join(source, 'changed'), randomBytes(5_000_000));
    writeFileSync(join(source, 'gone'), 'gone');
    const { staged, idOf } = await stagedInPlace();
    stack.use(hydrator.register(staged));
    writeFileSync(join(source, 'changed'), randomBytes(5_000_000));
    unlinkSync(join(source, 'gone'));
    for (const key of ['changed', 'gone']) {
      const failed = hydrator.hydrate(await idOf(key));
      await expect(failed).rejects.toThrow(CorruptError);
      await expect(failed).rejects.toThrow(`'${key}'`);
      expect(existsSync(cache.objectPath(await idOf(key)))).toBe(false);
    }
  });
});

describe('verifying objects that stay in their bucket', () => {
  it('takes them as they are at first, and finds what changed since', async () => {
    for (const key of ['kept', 'flipped', 'cut']) writeFileSync(join(source, key), randomBytes(50_000));
    const { staged, idOf } = await stagedInPlace();
    stack.use(hydrator.register(staged));
    await hydrator.prefetch(staged);
    const [flipped, cut] = [await idOf('flipped'), await idOf('cut')];
    truncateSync(cache.objectPath(cut), 49_999);
    expect(await verifyCache({ cache, sources: [staged] })).toMatchObject({ objects: 3, damaged: [cut], unknown: [] });
    const bytes = readFileSync(cache.objectPath(flipped));
    bytes[7]! ^= 1;
    writeFileSync(cache.objectPath(flipped), bytes);
    expect(await verifyCache({ cache, sources: [staged] })).toMatchObject({ objects: 2, damaged: [flipped] });
    await hydrator.prefetch(staged);
    expect(await verifyCache({ cache, sources: [staged] })).toMatchObject({ objects: 3, damaged: [] });
  });
});

async function stagedInPlace() {
  const bucket = directoryBucket(source);
  const { version } = await importListing({
    repository,
    dataset: 'photos',
    branch: 'main',
    message: '',
    author: 'a test',
    bucket: { bucket: 'photos', location: source },
    prefix: '',
    listing: bucket.list(''),
  });
  const idOf = async (path: string): Promise<Digest> => {
    const entry = await findEntry(repository, version.root, bytesOf(path));
    return (entry as { content: { id: Digest } }).content.id;
  };
  return { staged: await stage(repository, version.root), idOf };
}
