import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeBucket } from '../../test/support/bucket-suite.ts';
import { collect } from '../../test/support/collect.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../../test/support/s3-server.ts';
import { NotFoundError } from '../errors.ts';
import { readObject } from './read-object.ts';
import { parseS3Location } from './s3/location.ts';
import { s3Bucket } from './s3.ts';

describe.skipIf(!hasS3Server)('S3', () => {
  let server: S3Server;

  beforeAll(async () => {
    server = await startS3Server();
  }, S3_SERVER_TIMEOUT);

  afterAll(async () => {
    await server.close();
  });

  for (const [name, prefix, settings] of [
    ['s3, below a prefix', 'some/prefix', {}],
    ['s3, a whole bucket, with large objects in parts', undefined, { largest: 5 * 1024 * 1024, part: 5 * 1024 * 1024 }],
  ] as const)
    describeBucket(name, async () => {
      const location = parseS3Location(await server.location(prefix));
      const bucket = s3Bucket(location, settings);
      const another = s3Bucket(location, settings);
      const close = async () => {
        await bucket.close();
        await another.close();
      };
      return { bucket, another, close };
    });

  describe('a bucket that keeps versions', () => {
    test('gives each version by its id, also when it is no longer the newest or was deleted', async () => {
      const bucket = s3Bucket(parseS3Location(server.locationOf(await server.makeBucket({ versions: true }), 'p')));
      await bucket.put('x', Buffer.from('one'));
      const one = (await bucket.head('x'))!;
      await bucket.put('x', Buffer.from('second'));
      const two = (await bucket.head('x'))!;
      expect(one.version).not.toBe(two.version);
      const read = async (version?: string) =>
        (await readObject(bucket, 'x', 100, version === undefined ? {} : { version })).bytes.toString();
      expect([await read(one.version), await read(two.version), await read()]).toEqual(['one', 'second', 'second']);
      await bucket.delete('x');
      expect(await bucket.head('x')).toBeUndefined();
      expect(await read(one.version)).toBe('one');
      await expect(read()).rejects.toThrow(NotFoundError);
      await expect(read('01KB000000000000000000000')).rejects.toMatchObject({ facts: { key: 'p/x' } });
      await bucket.close();
    });

    test('lists the newest versions with their ids, over pages, and on after any key', async () => {
      const bucket = s3Bucket(parseS3Location(server.locationOf(await server.makeBucket({ versions: true }), 'p')));
      const keys = Array.from({ length: 1100 }, (_, i) => `d${i % 7}/${1000 + i}`).sort();
      await Promise.all(keys.map((key) => bucket.put(key, Buffer.from(key))));
      await bucket.put(keys[5]!, Buffer.from('anew'));
      await bucket.delete(keys[7]!);
      const there = keys.filter((key) => key !== keys[7]);
      const found = await collect(bucket.list('', { versions: true }));
      expect(found.map(({ key }) => key)).toEqual(there);
      for (const { key, version } of found.slice(0, 20)) expect(version).toBe((await bucket.head(key))!.version);
      expect(new Set(found.map(({ version }) => version)).size).toBe(there.length);
      const after = await collect(bucket.list('d3/', { versions: true, after: there[600]! }));
      expect(after.map(({ key }) => key)).toEqual(there.filter((key) => key.startsWith('d3/') && key > there[600]!));
      await bucket.close();
    });
  });

  test('a listing of several pages is whole and in order, and costs a request a page', async () => {
    const bucket = s3Bucket(parseS3Location(await server.location('p')));
    const keys = Array.from({ length: 2500 }, (_, i) => `k/${i.toString(36)}`).sort();
    await Promise.all(keys.map((key) => bucket.put(key, Buffer.alloc(0))));
    const listed = await collect(bucket.list('k/', { versions: true }));
    expect(listed.map(({ key }) => key)).toEqual(keys);
    expect(listed.every(({ version }) => version === undefined)).toBe(true);
    expect(bucket.requests.list!.count).toBe(3);
    for await (const { key } of bucket.list('k/')) if (key === keys[10]) break;
    await bucket.close();
  });

  test('bodies that are read by turns, with other requests between, wait for nothing, whatever may be in flight', async () => {
    const location = parseS3Location(await server.location('p'));
    const bucket = s3Bucket({ ...location, options: { ...location.options, requests: 1 } });
    await bucket.put('small', Buffer.alloc(200_000, 's'));
    await bucket.put('large', Buffer.alloc(3_000_000, 'l'));
    const bodies = [];
    for (const key of ['small', 'large', 'large', 'small']) bodies.push((await bucket.get(key)).body);
    const readers = bodies.map((body) => body[Symbol.asyncIterator]());
    const lengths = [0, 0, 0, 0];
    for (let left = readers.length; left > 0; ) {
      left = 0;
      for (const [i, reader] of readers.entries()) {
        const { done, value } = await reader.next();
        if (done) continue;
        left += 1;
        lengths[i]! += value.length;
        if (lengths[i]! < 300_000) await bucket.put(`${i}`, value);
      }
    }
    expect(lengths).toEqual([200_000, 3_000_000, 3_000_000, 200_000]);
    await bucket.close();
  });
});
