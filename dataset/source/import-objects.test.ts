import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../../test/support/s3-server.ts';
import { bytesOf, textOf } from '../byte-string.ts';
import { checkout } from '../checkout.ts';
import { type Digest, sha256 } from '../digest.ts';
import type { Entry, FileEntry } from '../entry.ts';
import { CorruptError, InvalidError } from '../errors.ts';
import { findEntry, readEntries } from '../manifest.ts';
import { readFile } from '../read-file.ts';
import { initRepository, type Repository } from '../repository.ts';
import { importInPlace, importObjects, parseObjectsPlace } from './import-objects.ts';
import { closeSources, readSourceRecord } from './sources.ts';
import { member, tarOf } from './tar/test-tar.ts';
import { verifySources } from './verify-sources.ts';

describe.skipIf(!hasS3Server)('importing from a bucket', () => {
  let server: S3Server;
  let folder: string;
  let repository: Repository;
  let bucket: string;

  beforeAll(async () => {
    server = await startS3Server();
  }, S3_SERVER_TIMEOUT);
  afterAll(() => server?.close());

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'larder-objects-'));
    process.env.LARDER_STATE = join(folder, 'state');
    repository = await initRepository(join(folder, 'repository'));
    bucket = await server.makeBucket();
  });
  afterEach(async () => {
    await closeSources(repository);
    await repository.bucket.close();
    delete process.env.LARDER_STATE;
    rmSync(folder, { recursive: true, force: true });
  });

  it('refers to objects in place, and reads, checks out and verifies them there', async () => {
    const files = new Map([
      ['a-b.txt', randomBytes(10)],
      ['a/x y+z%&.bin', randomBytes(300_000)],
      ['a/Füße/日本', randomBytes(2000)],
      ['empty', Buffer.alloc(0)],
      ['large', randomBytes(5_000_000)],
    ]);
    for (const [key, bytes] of files) await put(`data/${key}`, bytes);
    await put('database', Buffer.from('not below the prefix'));
    const { version } = await inPlace('data');
    expect(await paths(version.root)).toEqual([
      '',
      'a',
      'a/Füße',
      'a/Füße/日本',
      'a/x y+z%&.bin',
      'a-b.txt',
      'empty',
      'large',
    ]);
    expect((await readSourceRecord(repository, bucket))!.location).toContain(
      encodeURIComponent(server.endpoint).slice(0, 4),
    );
    for (const [key, bytes] of files) expect((await read(version.root, key)).equals(bytes), key).toBe(true);
    const target = join(folder, 'copy');
    await checkout(repository, version.root, target);
    for (const [key, bytes] of files) expect(readFileSync(join(target, key)).equals(bytes), key).toBe(true);
    expect(await damage(version.root)).toEqual([]);
    expect((await inPlace('data')).outcome).toBe('unchanged');
  });

  it('fails with the key where an object was replaced or removed, and verify names it', async () => {
    for (const key of ['a', 'b', 'c']) await put(key, randomBytes(400_000));
    const { version } = await inPlace('');
    await put('a', randomBytes(400_000));
    await remove('b');
    await expect(read(version.root, 'a')).rejects.toThrow(CorruptError);
    await expect(read(version.root, 'a')).rejects.toThrow(`'a' in bucket '${bucket}' has changed`);
    await expect(read(version.root, 'b')).rejects.toThrow(`'b' is gone from bucket '${bucket}'`);
    expect((await read(version.root, 'c')).length).toBe(400_000);
    expect(await damage(version.root)).toEqual(['a changed', 'b missing']);
    const again = await inPlace('');
    expect(again.outcome).toBe('created');
    expect((await read(again.version.root, 'a')).length).toBe(400_000);
    expect(await paths(again.version.root)).toEqual(['', 'a', 'c']);
  });

  it('keeps reading the version of an object where the bucket keeps versions', async () => {
    bucket = await server.makeBucket({ versions: true });
    const first = randomBytes(300_000);
    await put('a', first);
    const { version } = await inPlace('');
    expect(await findEntry(repository, version.root, bytesOf('a'))).toMatchObject({
      content: { version: expect.any(String) },
    });
    await put('a', randomBytes(5));
    expect((await read(version.root, 'a')).equals(first)).toBe(true);
    expect(await damage(version.root)).toEqual([]);
    await remove('a');
    expect((await read(version.root, 'a')).equals(first)).toBe(true);
  });

  it('copies objects, and the next time only those that changed', async () => {
    const files = new Map([
      ['b/one', randomBytes(3_000_000)],
      ['b-two', Buffer.from('tiny')],
      ['c', randomBytes(70_000)],
    ]);
    for (const [key, bytes] of files) await put(`in/${key}`, bytes);
    const first = await copy('in');
    expect(first.read).toEqual({ files: 3, bytes: 3_070_004 });
    for (const [key, bytes] of files) expect((await read(first.version.root, key)).equals(bytes), key).toBe(true);
    const entry = (await findEntry(repository, first.version.root, bytesOf('c'))) as FileEntry;
    expect(entry.content).toMatchObject({ kind: 'chunk', id: sha256(files.get('c')!) });
    expect(await copy('in')).toMatchObject({ outcome: 'unchanged', read: { files: 0 } });
    await put('in/c', Buffer.from('changed'));
    await put('in/d/new', Buffer.from('new'));
    await remove('in/b-two');
    const second = await copy('in');
    expect(second.read).toEqual({ files: 2, bytes: 10 });
    expect(await paths(second.version.root)).toEqual(['', 'b', 'b/one', 'c', 'd', 'd/new']);
    expect((await read(second.version.root, 'c')).toString()).toBe('changed');
  });

  it('keeps shards as files, or opens them into their members', async () => {
    const shard = (n: number) =>
      tarOf([member(`${n}.jpg`, 'x'.repeat(1000 + n)), member(`${n}.cls`, `${n}`), member('meta/info', 'i')]);
    await put('s/train-0.tar', shard(0));
    await put('s/train-1.tar.gz', gzipSync(shard(1)));
    await put('s/train-1-readme', Buffer.from('read me'));
    expect(await paths((await copy('s')).version.root)).toEqual([
      '',
      'train-0.tar',
      'train-1-readme',
      'train-1.tar.gz',
    ]);
    const opened = await copy('s', { expand: true, branch: 'opened' });
    expect(opened.read.files).toBe(7);
    expect(await paths(opened.version.root)).toEqual([
      '',
      'train-0',
      'train-0/0.cls',
      'train-0/0.jpg',
      'train-0/meta',
      'train-0/meta/info',
      'train-1',
      'train-1/1.cls',
      'train-1/1.jpg',
      'train-1/meta',
      'train-1/meta/info',
      'train-1-readme',
    ]);
    expect((await read(opened.version.root, 'train-1/1.jpg')).toString()).toBe('x'.repeat(1001));
    expect(await copy('s', { expand: true, branch: 'opened' })).toMatchObject({
      outcome: 'unchanged',
      read: { files: 0 },
    });
    await put('s/train-0.tar', tarOf([member('0.cls', '0'), member('0.jpg', 'other')]));
    const again = await copy('s', { expand: true, branch: 'opened' });
    expect(again.read.files).toBe(2);
    expect((await paths(again.version.root)).filter((path) => path.startsWith('train-0'))).toEqual([
      'train-0',
      'train-0/0.cls',
      'train-0/0.jpg',
    ]);
    expect((await read(again.version.root, 'train-1/1.jpg')).toString()).toBe('x'.repeat(1001));
    await put('s/train-0/other', Buffer.from('x'));
    await expect(copy('s', { expand: true, branch: 'opened' })).rejects.toThrow(InvalidError);
  });

  it('names the shard that is damaged, and publishes nothing', async () => {
    await put('ok.tar', tarOf([member('a', 'x')]));
    await put('bad.tar', tarOf([member('a', 'x'.repeat(5000))]).subarray(0, 2048));
    const failed = copy('', { expand: true });
    await expect(failed).rejects.toThrow(CorruptError);
    await expect(failed).rejects.toThrow(/bad\.tar ends at byte 2048/);
  });

  const common = () => ({ repository, dataset: 'data', branch: 'main', message: '', author: 'a test' });
  const place = (prefix: string) => parseObjectsPlace(server.locationOf(bucket, prefix));
  const inPlace = (prefix: string) => importInPlace({ ...common(), place: place(prefix) });
  const copy = (prefix: string, options: { expand?: boolean; branch?: string } = {}) =>
    importObjects({ ...common(), place: place(prefix), ...options });

  async function request(method: string, key: string, body?: Uint8Array) {
    const path = key
      .split('/')
      .map((part) =>
        encodeURIComponent(part).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`),
      )
      .join('/');
    const { status } = await server.request(method, `/${bucket}/${path}`, body && { body });
    expect(status, `${method} ${key}`).toBeLessThan(300);
  }
  const put = (key: string, bytes: Buffer) => request('PUT', key, bytes);
  const remove = (key: string) => request('DELETE', key);

  async function paths(root: Digest): Promise<string[]> {
    const found: Entry[] = [];
    for await (const batch of readEntries(repository, root)) found.push(...batch);
    return found.map(({ path }) => textOf(path));
  }

  async function read(root: Digest, path: string): Promise<Buffer> {
    const entry = (await findEntry(repository, root, bytesOf(path))) as FileEntry;
    const blocks: Buffer[] = [];
    for await (const block of readFile(repository, entry, { root })) blocks.push(Buffer.from(block));
    return Buffer.concat(blocks);
  }

  async function damage(root: Digest): Promise<string[]> {
    const found: string[] = [];
    for await (const { key, fault } of verifySources(repository, root)) found.push(`${key} ${fault}`);
    return found;
  }
});
