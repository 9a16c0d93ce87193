import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { type Cache, openCache } from './cache.ts';
import { createHydrator, type Hydrator } from './hydrate.ts';
import { type CacheIndex, openIndex } from './index.ts';
import { latePath } from './layout.ts';
import { type BuiltVersion, buildVersion, randomFiles, temporaryRepository } from './staged.fixture.ts';
import { verifyCache } from './verify.ts';

let stack: AsyncDisposableStack;
let cache: Cache;
let index: CacheIndex;
let hydrator: Hydrator;
let version: BuiltVersion;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const { repository, folder } = stack.use(await temporaryRepository());
  cache = stack.use(await openCache({ directory: join(folder, 'cache') }));
  index = stack.use(openIndex(cache));
  hydrator = stack.use(createHydrator({ cache, threads: 1 }));
  const parts = () => [randomBytes(50_000), 200_000, randomBytes(70_000), 10_000];
  version = await buildVersion(repository, { ...randomFiles(20, 3000), one: parts(), two: parts(), three: parts() });
  hydrator.register(version.staged);
  await hydrator.prefetch(version.staged);
});
afterEach(() => stack.disposeAsync());

function idOf(path: string): Digest {
  return version.files.get(path)!.id;
}

function change(path: string, act: (bytes: Buffer) => void): void {
  const file = cache.objectPath(idOf(path));
  const bytes = readFileSync(file);
  act(bytes);
  chmodSync(file, 0o644);
  writeFileSync(file, bytes);
}

describe('verifying a cache', () => {
  it('finds nothing in one that is whole, and notes when each object was checked', async () => {
    const started = Date.now();
    const result = await verifyCache({ cache, index, sources: [version.staged] });
    expect(result).toEqual({ objects: 23, bytes: 20 * 3000 + 3 * 330_000, damaged: [], unknown: [] });
    for (const { id } of version.files.values()) expect(index.get(id)!.verified).toBeGreaterThanOrEqual(started);
  });

  it('takes damaged objects away, whatever happened to them, and they come again whole', async () => {
    cache.ensureLate(idOf('file-000003'));
    change('file-000003', (bytes) => {
      bytes[1000]! ^= 1;
    });
    truncateSync(cache.objectPath(idOf('file-000004')), 2999);
    truncateSync(cache.objectPath(idOf('file-000005')), 0);
    change('one', (bytes) => {
      bytes[260_000]! ^= 1;
    });
    change('two', (bytes) => {
      bytes[100_000] = 1;
    });
    truncateSync(cache.objectPath(idOf('three')), 330_001);
    const broken = ['file-000003', 'file-000004', 'file-000005', 'one', 'two', 'three'].map(idOf);
    const result = await verifyCache({ cache, index, sources: [version.staged] });
    expect([...result.damaged].sort()).toEqual([...broken].sort());
    expect(result.unknown).toEqual([]);
    for (const id of broken) {
      expect(cache.has(id)).toBe(false);
      expect(existsSync(latePath(cache.layout, id))).toBe(false);
      expect(existsSync(join(cache.layout.quarantine, id))).toBe(true);
    }
    for (const id of broken) expect(await hydrator.hydrate(id)).toBe('ready');
    const again = await verifyCache({ cache, index, sources: [version.staged] });
    expect(again).toMatchObject({ objects: 23, damaged: [] });
  });

  it('removes what nothing tells the right bytes of', async () => {
    const writer = cache.writer();
    const file = writer.begin(sha256('some file of parts'), 8);
    file.write(Buffer.from('whatever'), 0);
    file.finish(8);
    writer.close();
    const result = await verifyCache({ cache, sources: [version.staged] });
    expect(result.unknown).toEqual([sha256('some file of parts')]);
    expect(cache.has(sha256('some file of parts'))).toBe(false);
  });

  it('checks objects of one chunk without any version', async () => {
    const result = await verifyCache({ cache, sources: [] });
    expect(result.damaged).toEqual([]);
    expect(result.unknown.length).toBe(3);
    expect(cache.has(idOf('file-000000'))).toBe(true);
  });
});
