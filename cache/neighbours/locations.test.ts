import { describe, expect, it } from 'vitest';
import type { BucketObject } from '../../dataset/bucket/bucket.ts';
import { UnavailableError } from '../../dataset/errors.ts';
import { collect } from '../../test/support/collect.ts';
import { createLocationsKeeper, LOCATIONS_AGE } from './locations.ts';
import type { Source } from './origin.ts';

function rig(size = 10) {
  let time = 0;
  let reads = 0;
  const bucket: Source & { failing: boolean } = {
    name: 'bucket',
    failing: false,
    get: async (): Promise<BucketObject> => {
      reads += 1;
      if (bucket.failing) throw new UnavailableError('the bucket is away');
      const bytes = Buffer.alloc(size, reads);
      async function* body() {
        yield bytes;
      }
      return { size, etag: String(reads), modified: new Date(0), body: body() };
    },
    head: async () => undefined,
  };
  const keeper = createLocationsKeeper(() => time);
  return {
    bucket,
    reads: () => reads,
    pass: (milliseconds: number) => {
      time += milliseconds;
    },
    get: async (key: string, repository = 'repository') => {
      const { body, etag } = await keeper.get(repository, bucket, key, undefined);
      const bytes = Buffer.concat(await collect(body));
      expect(bytes).toHaveLength(size);
      return etag;
    },
  };
}

describe("an owner's locations", () => {
  it('are read once for all who ask, while they are young', async () => {
    const { get, pass, reads } = rig();
    expect(await Promise.all([get('a'), get('a'), get('b')])).toEqual(['1', '1', '2']);
    pass(LOCATIONS_AGE);
    expect(await get('a')).toBe('1');
    pass(1);
    expect(await get('a')).toBe('3');
    expect(await get('a', 'another')).toBe('4');
    expect(reads()).toBe(4);
  });

  it('are not kept where they could not be read', async () => {
    const { bucket, get } = rig();
    bucket.failing = true;
    const both = await Promise.allSettled([get('a'), get('a')]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    bucket.failing = false;
    expect(await get('a')).toBe('2');
  });

  it('take a bounded part of memory: the oldest go first', async () => {
    const { get } = rig(3 * 1024 * 1024);
    for (const key of ['a', 'b', 'c']) await get(key);
    expect(await get('b')).toBe('2');
    expect(await get('c')).toBe('3');
    expect(await get('a')).toBe('4');
  });
});
