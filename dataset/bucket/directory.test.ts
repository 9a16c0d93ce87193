import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeBucket } from '../../test/support/bucket-suite.ts';
import { collect } from '../../test/support/collect.ts';
import { directoryBucket } from './directory.ts';
import { readObject } from './read-object.ts';

describeBucket('directory', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'larder-bucket-'));
  const bucket = directoryBucket(join(directory, 'bucket'));
  const another = directoryBucket(join(directory, 'bucket'));
  const close = async () => {
    await bucket.close();
    await another.close();
    await rm(directory, { recursive: true });
  };
  return { bucket, another, close };
});

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'larder-bucket-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

test('processes that count in one object lose no count', async () => {
  const bucket = directoryBucket(directory);
  await bucket.put('count', Buffer.from('00000000'));
  const processes = Array.from({ length: 4 }, () => start('bucket-counter.ts', directory, 'count', '25'));
  const ends = await Promise.all(processes.map((each) => once(each, 'exit')));
  expect(ends.map(([status]) => status)).toEqual([0, 0, 0, 0]);
  expect((await readObject(bucket, 'count', 100)).bytes.toString()).toBe('00000100');
  await bucket.close();
  expect(await readdir(join(directory, '.larder', 'incoming'))).toEqual([]);
});

test('what a killed writer left is swept by the next, and no object is ever partial', async () => {
  for (let round = 0; round < 4; round++) {
    const writer = start('bucket-filler.ts', directory);
    await once(writer.stdout!, 'data');
    await sleep(20 + round * 7);
    writer.kill('SIGKILL');
    await once(writer, 'exit');
  }
  const incoming = join(directory, '.larder', 'incoming');
  expect(await readdir(incoming)).toHaveLength(1);
  const bucket = directoryBucket(directory);
  for await (const { size } of bucket.list('packs/')) expect(size).toBe(8 * 1024 * 1024);
  await bucket.put('x', Buffer.from('1'));
  expect(await readdir(incoming)).toHaveLength(1);
  await bucket.close();
  expect(await readdir(incoming)).toEqual([]);
});

test('a living writer keeps what it has not finished while others come and go', async () => {
  const first = directoryBucket(directory);
  await first.put('x', Buffer.from('1'));
  const incoming = join(directory, '.larder', 'incoming');
  const [folder] = await readdir(incoming);
  await writeFile(join(incoming, folder!, 'unfinished'), 'abc');
  const second = directoryBucket(directory);
  await second.put('y', Buffer.from('1'));
  await second.close();
  expect((await stat(join(incoming, folder!, 'unfinished'))).size).toBe(3);
  await first.close();
});

test('writers that come and go at once do not get into the way of each other', async () => {
  const writer = async (name: string) => {
    for (let round = 0; round < 10; round++) {
      const bucket = directoryBucket(directory);
      await bucket.put(name, Buffer.from(String(round)));
      await bucket.close();
    }
  };
  await Promise.all(Array.from({ length: 16 }, (_, i) => writer(`x${i}`)));
  const last = directoryBucket(directory);
  await last.put('y', Buffer.from('1'));
  await last.close();
  expect(await readdir(join(directory, '.larder', 'incoming'))).toEqual([]);
});

test('reading makes nothing, not even in a place that does not exist', async () => {
  const bucket = directoryBucket(join(directory, 'none'));
  expect(await collect(bucket.list(''))).toEqual([]);
  expect(await bucket.head('a')).toBeUndefined();
  await bucket.delete('a');
  await bucket.close();
  expect(await readdir(directory)).toEqual([]);
});

test('an object cannot take the place of a folder, nor lie in another object', async () => {
  const bucket = directoryBucket(directory);
  await bucket.put('a/b', Buffer.from('1'));
  await expect(bucket.put('a', Buffer.from('1'))).rejects.toMatchObject({
    kind: expect.stringMatching(/invalid|conflict/),
  });
  await expect(bucket.put('a/b/c', Buffer.from('1'))).rejects.toMatchObject({ kind: 'invalid' });
  await bucket.close();
});

test('a put survives that its folder was removed in between', async () => {
  const bucket = directoryBucket(directory);
  await bucket.put('a/b/c', Buffer.from('1'));
  await rm(join(directory, 'a'), { recursive: true });
  await bucket.put('a/b/c', Buffer.from('2'), { condition: 'absent' });
  expect((await readObject(bucket, 'a/b/c', 10)).bytes.toString()).toBe('2');
  await bucket.close();
});

test('a body holds a bounded part of a large object', async () => {
  const bucket = directoryBucket(directory);
  await bucket.put(
    'large',
    Array.from({ length: 64 }, () => Buffer.alloc(1024 * 1024, 'y')),
  );
  const { body } = await bucket.get('large');
  let length = 0;
  for await (const block of body) {
    expect(block.length).toBeLessThanOrEqual(1024 * 1024);
    length += block.length;
  }
  expect(length).toBe(64 * 1024 * 1024);
  await bucket.close();
});

function start(script: string, ...parameters: string[]) {
  const file = join(import.meta.dirname, '../../test/support', script);
  return spawn(process.execPath, [file, ...parameters], { stdio: ['ignore', 'pipe', 'inherit'] });
}
