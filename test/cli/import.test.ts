import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasS3Server, type S3Server, startS3Server } from '../support/s3-server.ts';
import { createWorld } from './support.ts';

// First: it sets the environment that the program is to have.
const server: S3Server | undefined = hasS3Server ? await startS3Server() : undefined;
afterAll(() => server?.close());

const { directory, larder, ok, documents, shell } = createWorld();
const source = join(directory, 'source');
const large = randomBytes(2_000_000);

beforeAll(() => {
  mkdirSync(join(source, 'images'), { recursive: true });
  writeFileSync(join(source, 'labels.csv'), 'file,class\n');
  writeFileSync(join(source, 'images', 'a.png'), large);
  execFileSync('tar', ['-C', source, '-cf', join(directory, 'all.tar'), '.']);
  execFileSync('tar', ['-C', source, '-czf', join(directory, 'all.tgz'), '.']);
  ok('repository', 'init');
});

describe('import of tar archives', () => {
  it('takes a file, compressed or not, and standard input', () => {
    const [first] = documents('import', 'all.tar', 'tar', '-m', 'from a file');
    expect(first).toMatchObject({ dataset: 'tar', unchanged: false, entries: 4, read: { files: 2 } });
    expect(documents('import', 'all.tgz', 'tar')).toMatchObject([{ unchanged: true }]);
    const piped = shell(`tar -C source -c . | larder import - tar --json`);
    expect(JSON.parse(piped.stdout)).toMatchObject({ unchanged: true, version: first!.version });
    expect(shell('larder cat tar images/a.png | cmp - source/images/a.png').status).toBe(0);
  });

  it('refuses what is no archive, and what is cut short, and makes nothing', () => {
    expect(larder('import', 'source/labels.csv', 'none')).toMatchObject({ status: 2 });
    writeFileSync(join(directory, 'short.tar'), readFileSync(join(directory, 'all.tar')).subarray(0, 1_000_000));
    const { status, stderr } = larder('import', 'short.tar', 'none');
    expect(status).toBe(5);
    expect(stderr).toMatch(/short\.tar ends at byte 1000000, .*cut short/);
    expect(larder('show', 'none').status).toBe(3);
  });

  it('opens shards of a directory into their members', () => {
    mkdirSync(join(directory, 'shards'));
    execFileSync('cp', [join(directory, 'all.tar'), join(directory, 'shards', 'train-0.tar')]);
    writeFileSync(join(directory, 'shards', 'README'), 'read me');
    expect(documents('import', 'shards', 'kept', '--meta', 'kind=shards')).toMatchObject([{ entries: 3 }]);
    expect(documents('import', 'shards', 'opened', '--expand', '--from', 'kept')).toMatchObject([{ entries: 6 }]);
    expect(documents('files', 'opened').map(({ path }) => path)).toEqual([
      '',
      'README',
      'train-0',
      'train-0/images',
      'train-0/images/a.png',
      'train-0/labels.csv',
    ]);
    expect(documents('import', 'shards', 'opened', '--expand')).toMatchObject([
      { unchanged: true, read: { files: 0 } },
    ]);
    expect(documents('show', 'kept')).toMatchObject([{ meta: { kind: 'shards' } }]);
    expect(documents('show', 'opened')).toMatchObject([{ from: [{ dataset: 'kept' }] }]);
  });

  it('says which options do not go together', () => {
    for (const args of [
      ['source', '--in-place'],
      ['all.tar', '--in-place'],
      ['s3://bucket/x', '--in-place', '--expand'],
      ['ftp://host/x'],
    ])
      expect(larder('import', args[0]!, 'none', ...args.slice(1))).toMatchObject({ status: 2 });
  });
});

describe.skipIf(server === undefined)('import from a bucket', () => {
  let bucket: string;
  let location: string;
  const put = async (key: string, body: Buffer) =>
    expect((await server!.request('PUT', `/${bucket}/${key}`, { body })).status).toBe(200);

  beforeAll(async () => {
    bucket = await server!.makeBucket();
    location = server!.locationOf(bucket, 'photos');
    await put('photos/a.png', large);
    await put('photos/b/c', Buffer.from('c'));
  });

  it('copies the objects, or refers to them in place', async () => {
    const [copied] = documents('import', location, 'copied');
    expect(copied).toMatchObject({ entries: 4, read: { files: 2, bytes: 2_000_001 }, leftOut: 0 });
    const [inPlace] = documents('import', location, 'in-place', '--in-place');
    expect(inPlace).toMatchObject({ entries: 4, bytes: 2_000_001, stored: { packs: 0 } });
    expect(shell('larder cat in-place a.png | cmp - source/images/a.png').status).toBe(0);
    ok('checkout', 'in-place', 'checked-out');
    expect(readFileSync(join(directory, 'checked-out', 'a.png')).equals(large)).toBe(true);
    expect(larder('verify').status).toBe(0);
  });

  it('ends with status 5 and the key where an object in place has changed', async () => {
    await put('photos/a.png', randomBytes(2_000_000));
    for (const args of [
      ['cat', 'in-place', 'a.png'],
      ['checkout', 'in-place', 'again'],
    ]) {
      const { status, stderr } = larder(...args);
      expect(status).toBe(5);
      expect(stderr).toContain(`'photos/a.png' in bucket '${bucket}' has changed`);
    }
    const { status, stdout } = larder('verify', '--deep', '--json');
    expect(status).toBe(5);
    expect(stdout).toContain('photos/a.png');
    expect(documents('cat', 'copied', 'b/c')).toHaveLength(1);
  });
});
