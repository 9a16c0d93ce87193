import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { directoryBucket } from '../bucket/directory.ts';
import { bytesOf } from '../byte-string.ts';
import { checkout } from '../checkout.ts';
import type { FileEntry } from '../entry.ts';
import { CorruptError } from '../errors.ts';
import { sourceKey } from '../keys.ts';
import { findEntry } from '../manifest.ts';
import { readFile } from '../read-file.ts';
import { initRepository, type Repository } from '../repository.ts';
import { readVersion } from '../version.ts';
import { importListing } from './import-listing.ts';
import { closeSources } from './sources.ts';
import { type SourceDamage, verifySources } from './verify-sources.ts';

let folder: string;
let source: string;
let repository: Repository;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'larder-source-'));
  source = join(folder, 'source');
  mkdirSync(source);
  process.env.LARDER_STATE = join(folder, 'state');
  repository = await initRepository(join(folder, 'repository'));
});

afterEach(async () => {
  await closeSources(repository);
  await repository.bucket.close();
  delete process.env.LARDER_STATE;
  rmSync(folder, { recursive: true, force: true });
});

describe('reading what stays in its bucket', () => {
  it('gives the bytes, and any range of them', async () => {
    const bytes = put('a/large', randomBytes(3_000_000));
    put('a/empty', Buffer.alloc(0));
    const root = await importInPlace();
    const large = await entryAt(root, 'a/large');
    expect((await read(large)).equals(bytes)).toBe(true);
    const middle = await read(large, { offset: 1_500_000, length: 70_000 });
    expect(middle.equals(bytes.subarray(1_500_000, 1_570_000))).toBe(true);
    expect(await read(large, { offset: 2_999_999, length: 50 })).toEqual(bytes.subarray(-1));
    expect((await read(await entryAt(root, 'a/empty'))).length).toBe(0);
  });

  it('fails with the key where the object has changed, also to as many bytes', async () => {
    put('a', Buffer.from('before'));
    put('b', Buffer.from('before'));
    const root = await importInPlace();
    put('a', Buffer.from('AFTER!'));
    unlinkSync(join(source, 'b'));
    for (const [path, what] of [
      ['a', /'a' in bucket 'photos' has changed/],
      ['b', /'b' is gone from bucket 'photos'/],
    ] as const) {
      const failed = read(await entryAt(root, path));
      await expect(failed).rejects.toThrow(CorruptError);
      await expect(failed).rejects.toThrow(what);
    }
  });

  it('fails where nothing tells where the bucket is', async () => {
    put('a', Buffer.from('x'));
    const root = await importInPlace();
    await repository.bucket.delete(sourceKey('photos'));
    await expect(read(await entryAt(root, 'a'))).rejects.toThrow(/sources\/photos is missing/);
  });

  it('checks out, with times and modes, and leaves nothing where it cannot', async () => {
    const files = new Map<string, Buffer>();
    for (let i = 0; i < 60; i++) {
      const key = `d${i % 7}/f${i}`;
      files.set(key, put(key, randomBytes(i * 3000)));
    }
    const root = await importInPlace();
    const target = join(folder, 'target');
    await checkout(repository, root, target);
    for (const [key, bytes] of files) expect(readFileSync(join(target, key)).equals(bytes), key).toBe(true);
    expect(statSync(join(target, 'd3/f3')).mtimeMs).toBe(Math.floor(statSync(join(source, 'd3/f3')).mtimeMs));
    put('d4/f11', randomBytes(5));
    const failed = checkout(repository, root, join(folder, 'second'));
    await expect(failed).rejects.toThrow(/d4\/f11/);
    await expect(failed).rejects.toThrow(CorruptError);
    expect(readdirSync(join(folder, 'second'))).toEqual([]);
  });

  it('is verified by asking for each object, and names keys and files', async () => {
    for (const key of ['a', 'b', 'c', 'd']) put(key, Buffer.from(key));
    const root = await importInPlace();
    expect(await damage(root)).toEqual([]);
    put('b', Buffer.from('changed'));
    unlinkSync(join(source, 'd'));
    expect(await damage(root)).toMatchObject([
      { bucket: 'photos', key: 'b', fault: 'changed', path: 'b' },
      { bucket: 'photos', key: 'd', fault: 'missing', path: 'd' },
    ]);
  });
});

function put(key: string, bytes: Buffer): Buffer {
  const file = join(source, key);
  mkdirSync(dirname(file), { recursive: true });
  rmSync(file, { force: true });
  writeFileSync(file, bytes);
  return bytes;
}

async function importInPlace() {
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
  await bucket.close();
  expect((await readVersion(repository, version.id)).bytes).toBe(version.bytes);
  return version.root;
}

async function entryAt(root: Parameters<typeof findEntry>[1], path: string): Promise<FileEntry> {
  return (await findEntry(repository, root, bytesOf(path))) as FileEntry;
}

async function read(entry: FileEntry, range?: { offset: number; length: number }): Promise<Buffer> {
  const blocks: Buffer[] = [];
  for await (const block of readFile(repository, entry, { range })) blocks.push(block);
  return Buffer.concat(blocks);
}

async function damage(root: Parameters<typeof findEntry>[1]): Promise<SourceDamage[]> {
  const found: SourceDamage[] = [];
  for await (const each of verifySources(repository, root)) found.push(each);
  return found;
}
