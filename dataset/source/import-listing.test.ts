import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ListedObject } from '../bucket/bucket.ts';
import { bytesOf, textOf } from '../byte-string.ts';
import type { Entry } from '../entry.ts';
import { ConflictError, InvalidError } from '../errors.ts';
import { findEntry, readEntries, readSegments } from '../manifest.ts';
import { initRepository, type Repository } from '../repository.ts';
import { importListing, type ListingImportOptions } from './import-listing.ts';
import { listSources } from './sources.ts';

let folder: string;
let repository: Repository;
let state: string | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'larder-listing-'));
  state = process.env.LARDER_STATE;
  process.env.LARDER_STATE = join(folder, 'state');
  repository = await initRepository(join(folder, 'repository'));
});

afterEach(async () => {
  await repository.bucket.close();
  if (state === undefined) delete process.env.LARDER_STATE;
  else process.env.LARDER_STATE = state;
  rmSync(folder, { recursive: true, force: true });
});

describe('importing a listing in place', () => {
  it('makes an entry of each object, and of each folder', async () => {
    const { version, seen } = await run(['a-b', 'a/c', 'a/d/e.jpg', 'a0']);
    expect(seen).toBe(4);
    expect((await entries(version.root)).map(describeEntry)).toEqual([
      'directory ',
      'directory a',
      'file a/c 5 a/c/etag',
      'directory a/d',
      'file a/d/e.jpg 5 a/d/e.jpg/etag',
      'file a-b 5 a-b/etag',
      'file a0 5 a0/etag',
    ]);
    const entry = await findEntry(repository, version.root, bytesOf('a/c'));
    expect(entry).toMatchObject({ mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 1_700_000_000, mtimeNanos: 250_000_000 });
    expect(await all(listSources(repository))).toEqual([{ bucket: 'photos', location: '/buckets/photos' }]);
  });

  it('takes paths from below a prefix, and keys whole', async () => {
    const { version } = await run(['train/', 'train/x', 'train/y/z'], { prefix: 'train/' });
    expect((await entries(version.root)).map(describeEntry)).toEqual([
      'directory ',
      'file x 5 train/x/etag',
      'directory y',
      'file y/z 5 train/y/z/etag',
    ]);
  });

  it('keeps the bytes of keys beyond ASCII', async () => {
    const { version } = await run(['Füße/日本.png']);
    const found = await findEntry(repository, version.root, bytesOf('Füße/日本.png'));
    expect(found).toMatchObject({ content: { key: 'Füße/日本.png' } });
  });

  it('makes an empty directory of a marker, and nothing of an empty listing but the root', async () => {
    const { version } = await run([object('empty/', { size: 0 }), object('full/', { size: 0 }), 'full/x']);
    expect((await entries(version.root)).map(describeEntry)).toEqual([
      'directory ',
      'directory empty',
      'directory full',
      'file full/x 5 full/x/etag',
    ]);
    const empty = await run([], { dataset: 'nothing' });
    expect(empty.version.entries).toBe(1);
  });

  it('leaves out what cannot be a path, and says how much of it and why', async () => {
    const warnings: string[] = [];
    const long = 'x'.repeat(256);
    const result = await run(['/x', 'a/../b', 'a//b', 'b', object('c/', { size: 3 }), 'd/./e', long], {
      onWarning: (text) => warnings.push(text),
    });
    expect((await entries(result.version.root)).map(describeEntry)).toEqual(['directory ', 'file b 5 b/etag']);
    expect(result.leftOut).toBe(6);
    expect(warnings).toContain("left out the object 'a//b': as a path, it has an empty component");
    expect(warnings.join('\n')).toMatch(/component of 256 bytes/);
  });

  it('keeps the folder where a key is also the folder of others', async () => {
    const warnings: string[] = [];
    const { version, leftOut } = await run(['a', 'a-b', 'a/c', 'b'], { onWarning: (text) => warnings.push(text) });
    expect((await entries(version.root)).map(({ path }) => textOf(path))).toEqual(['', 'a', 'a/c', 'a-b', 'b']);
    expect(leftOut).toBe(1);
    expect(warnings).toEqual([
      "left out the object 'a': other keys have it as their folder, and a path is one or the other",
    ]);
  });

  it('stores only the difference when it imports again', async () => {
    const keys = Array.from({ length: 20_000 }, (_, i) => `d${Math.floor(i / 500)}/f${i}.jpg`).sort();
    const first = await run(keys);
    expect((await run(keys)).outcome).toBe('unchanged');
    const changed = keys
      .filter((key) => key !== 'd7/f3600.jpg')
      .map((key) => (key === 'd3/f1600.jpg' ? object(key, { etag: 'other' }) : key));
    const second = await run([...changed, 'new/x']);
    expect(second.outcome).toBe('created');
    const before = new Set((await all(readSegments(repository, first.version.root))).map((s) => s.digest));
    const after = await all(readSegments(repository, second.version.root));
    expect(after.filter(({ digest }) => !before.has(digest)).length).toBeLessThanOrEqual(5);
    expect(await findEntry(repository, second.version.root, bytesOf('d7/f3600.jpg'))).toBeUndefined();
    expect(await findEntry(repository, second.version.root, bytesOf('d3/f1600.jpg'))).toMatchObject({
      content: { etag: 'other' },
    });
  });

  it('is the same tree as a fresh import, whatever changed between', async () => {
    const all = ['a', 'a-1', 'a/x', 'a/y', 'b/c/d', 'b/c/e', 'b.c', 'c', 'd/e', 'd-e/f'];
    for (let seed = 0; seed < 40; seed++) {
      const pick = (salt: number) =>
        all
          .filter((_, i) => ((seed * 7919 + salt * 104_729 + i * 31) >> 2) % 3 !== 0)
          .toSorted((a, b) => (a < b ? -1 : 1));
      await run(pick(1), { dataset: `again-${seed}` });
      const again = await run(pick(2), { dataset: `again-${seed}` });
      const fresh = await run(pick(2), { dataset: `fresh-${seed}` });
      expect(again.version.root).toBe(fresh.version.root);
    }
  });

  it('refers to a version of the object where the bucket keeps versions', async () => {
    const { version } = await run([object('x', { version: 'v1' })]);
    expect(await findEntry(repository, version.root, bytesOf('x'))).toMatchObject({ content: { version: 'v1' } });
    const again = await run([object('x', { version: 'v2' })]);
    expect(again.outcome).toBe('created');
  });

  it('refuses a listing that is not in order, with nothing published', async () => {
    await expect(run(['b', 'a'])).rejects.toThrow(InvalidError);
    await expect(run(['b'])).resolves.toMatchObject({ outcome: 'created' });
  });

  it('refuses another bucket of the same name', async () => {
    await run(['x']);
    const elsewhere = { bucket: 'photos', location: '/elsewhere/photos' };
    await expect(run(['x'], { bucket: elsewhere })).rejects.toThrow(ConflictError);
    const at = (query: string) => ({ bucket: 'other', location: `s3://other${query}` });
    await run(['x'], { bucket: at('?endpoint=http://a') });
    await expect(run(['x'], { bucket: at('?endpoint=http://b') })).rejects.toThrow(ConflictError);
    // Other credentials are no other bucket.
    await run(['x'], { bucket: at('?endpoint=http://a&profile=mine') });
  });
});

function object(key: string, fields: Partial<ListedObject> = {}): ListedObject {
  return { key, size: 5, etag: `${key}/etag`, modified: new Date(1_700_000_000_250), ...fields };
}

async function* listed(keys: readonly (string | ListedObject)[]): AsyncGenerator<ListedObject> {
  for (const key of keys)
    yield typeof key === 'string' ? (key.endsWith('/') ? object(key, { size: 0 }) : object(key)) : key;
}

function run(keys: readonly (string | ListedObject)[], options: Partial<ListingImportOptions> = {}) {
  return importListing({
    repository,
    dataset: 'photos',
    branch: 'main',
    message: '',
    author: 'a test',
    bucket: { bucket: 'photos', location: '/buckets/photos' },
    prefix: '',
    listing: listed(keys),
    ...options,
  });
}

async function entries(root: Parameters<typeof readEntries>[1]): Promise<Entry[]> {
  return (await all(readEntries(repository, root))).flat();
}

function describeEntry(entry: Entry): string {
  const path = textOf(entry.path);
  if (entry.type !== 'file') return `${entry.type} ${path}`;
  return `file ${path} ${entry.size} ${entry.content.kind === 'source' ? entry.content.etag : entry.content.kind}`;
}

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const value of values) found.push(value);
  return found;
}
