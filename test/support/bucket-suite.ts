import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Bucket, BucketObject } from '../../dataset/bucket/bucket.ts';
import { proveConditionalWrites } from '../../dataset/bucket/prove-conditions.ts';
import { ConflictError, InvalidError, NotFoundError } from '../../dataset/errors.ts';
import { collect } from './collect.ts';
import { createRandom } from './random.ts';

export interface BucketFixture {
  readonly bucket: Bucket;
  /** Another handle on the same place, as another process has it. */
  readonly another: Bucket;
  close(): Promise<void>;
}

/** What every bucket must do. `open` makes an empty one. */
export function describeBucket(name: string, open: () => Promise<BucketFixture>): void {
  describe(`a bucket: ${name}`, () => {
    let fixture: BucketFixture;
    let bucket: Bucket;
    let another: Bucket;

    beforeEach(async () => {
      fixture = await open();
      ({ bucket, another } = fixture);
    });

    afterEach(async () => {
      await fixture.close();
    });

    describe('get', () => {
      test('gives back the bytes that were put, from none to several blocks', async () => {
        const random = createRandom(1);
        for (const size of [0, 1, 1000, 1024 * 1024, 5 * 1024 * 1024 + 3]) {
          const bytes = random.bytes(size);
          const etag = await bucket.put('a/b', bytes);
          const object = await another.get('a/b');
          expect(object.size).toBe(size);
          expect(object.etag).toBe(etag);
          expect((await read(object)).equals(bytes)).toBe(true);
        }
      });

      test('joins the buffers of one put in their order', async () => {
        const random = createRandom(2);
        const parts = Array.from({ length: 3000 }, (_, i) => random.bytes(i % 7));
        await bucket.put('parts', parts);
        expect((await read(await bucket.get('parts'))).equals(Buffer.concat(parts))).toBe(true);
      });

      test('gives exactly the range that was asked for', async () => {
        const bytes = createRandom(3).bytes(3 * 1024 * 1024);
        await bucket.put('x', bytes);
        const ranges = [
          [0, 1],
          [0, bytes.length],
          [bytes.length - 1, 1],
          [1_000_000, 1_500_000],
          [77, 100],
        ] as const;
        for (const [offset, length] of ranges) {
          const object = await bucket.get('x', { range: { offset, length } });
          expect(object.size).toBe(bytes.length);
          expect((await read(object)).equals(bytes.subarray(offset, offset + length))).toBe(true);
        }
      });

      test('refuses a range that is not wholly inside the object', async () => {
        await bucket.put('x', Buffer.from('12345'));
        for (const range of [
          { offset: 0, length: 6 },
          { offset: 5, length: 1 },
          { offset: 4, length: 2 },
        ])
          await expect(bucket.get('x', { range })).rejects.toThrow(InvalidError);
      });

      test('names the key that does not exist', async () => {
        await bucket.put('a/b', Buffer.from('1'));
        for (const key of ['no-such-key', 'a', 'a/b/c', 'a/c'])
          await expect(bucket.get(key)).rejects.toSatisfy((e) => e instanceof NotFoundError && e.message.includes(key));
      });

      test('refuses an object that has changed, where it is asked to', async () => {
        const old = await bucket.put('x', Buffer.from('one'));
        const now = await bucket.put('x', Buffer.from('two'));
        await expect(bucket.get('x', { ifMatch: old })).rejects.toThrow(ConflictError);
        expect((await read(await bucket.get('x', { ifMatch: now }))).toString()).toBe('two');
      });

      test('reads on in the old object when a new one takes its place', async () => {
        const bytes = createRandom(4).bytes(6 * 1024 * 1024);
        await bucket.put('x', bytes);
        const object = await bucket.get('x');
        await another.put('x', Buffer.from('new'));
        const found = await read(object).catch((error: unknown) => error);
        // A store may also refuse to go on; never may it mix the two.
        if (found instanceof Buffer) expect(found.equals(bytes)).toBe(true);
        else expect(found).toBeInstanceOf(Error);
      });

      test('may be left early', async () => {
        await bucket.put('x', Buffer.alloc(8 * 1024 * 1024));
        for (let i = 0; i < 50; i++) {
          const { body } = await bucket.get('x');
          for await (const block of body) {
            expect(block.length).toBeGreaterThan(0);
            break;
          }
        }
      });
    });

    describe('put', () => {
      test('replaces where no condition is given, and changes the ETag', async () => {
        const etags = new Set<string>();
        for (let i = 0; i < 20; i++) etags.add(await bucket.put('x', Buffer.from(`${i % 10}`)));
        expect(etags.size).toBeGreaterThanOrEqual(10);
        expect((await read(await bucket.get('x'))).toString()).toBe('9');
      });

      test('never gives two objects of the same length one ETag', async () => {
        let last = '';
        for (let i = 0; i < 200; i++) {
          const etag = await bucket.put('x', Buffer.from(String(i % 2)));
          expect(etag).not.toBe(last);
          last = etag;
        }
      });

      test('with the condition absent makes an object once', async () => {
        await bucket.put('x', Buffer.from('first'), { condition: 'absent' });
        await expect(another.put('x', Buffer.from('second'), { condition: 'absent' })).rejects.toThrow(ConflictError);
        expect((await read(await bucket.get('x'))).toString()).toBe('first');
      });

      test('with an ETag replaces that object only', async () => {
        const first = await bucket.put('x', Buffer.from('first'));
        const second = await another.put('x', Buffer.from('other'), { condition: { etag: first } });
        await expect(bucket.put('x', Buffer.from('third'), { condition: { etag: first } })).rejects.toThrow(
          ConflictError,
        );
        await expect(bucket.put('y', Buffer.from('y'), { condition: { etag: second } })).rejects.toThrow(ConflictError);
        expect((await read(await bucket.get('x'))).toString()).toBe('other');
      });

      test('lets one of many racing writers win', async () => {
        for (let round = 0; round < 5; round++) {
          const key = `race/${round}`;
          const create = await winners(key, 'create', 'absent');
          expect(create).toHaveLength(1);
          // Other bytes: the same ones may keep the ETag.
          expect(await winners(key, 'replace', { etag: create[0]! })).toHaveLength(1);
        }
      });

      test('takes many objects at once', async () => {
        const keys = Array.from({ length: 200 }, (_, i) => `many/${i % 16}/${i}`);
        await Promise.all(keys.map((key) => bucket.put(key, Buffer.from(key), { condition: 'absent' })));
        const found = await collect(another.list('many/'));
        expect(found.map(({ key }) => key)).toEqual([...keys].sort());
      });

      test('passes the proof that a repository asks for', async () => {
        await proveConditionalWrites(bucket);
        expect(await collect(bucket.list(''))).toEqual([]);
      });
    });

    describe('head', () => {
      test('tells of an object what get tells, and undefined where there is none', async () => {
        const before = Date.now();
        const etag = await bucket.put('a/b', Buffer.from('12345'));
        const info = await another.head('a/b');
        expect(info).toMatchObject({ size: 5, etag });
        expect(Math.abs(info!.modified.getTime() - before)).toBeLessThan(60_000);
        for (const key of ['a', 'a/c', 'a/b/c']) expect(await bucket.head(key)).toBeUndefined();
      });
    });

    describe('list', () => {
      const keys = ['a_', 'a-b/1', 'a.b', 'a/0', 'a0/x/y', 'b/1', 'b/10', 'b/2', 'b/2a/z', 'b1', 'c%2Fd', 'Z/z'];

      test('gives every key with the prefix in byte order, with sizes and ETags', async () => {
        for (const key of keys) await bucket.put(key, Buffer.from(key));
        const sorted = [...keys].sort();
        for (const prefix of ['', 'a', 'a/', 'b/', 'b/1', 'b/2', 'b/2a/', 'b/2a/z', 'c%2F', 'zz', 'b/2a/z/']) {
          const found = await collect(another.list(prefix));
          expect(found.map(({ key }) => key)).toEqual(sorted.filter((key) => key.startsWith(prefix)));
          for (const { key, size, etag } of found) {
            expect(size).toBe(key.length);
            expect(etag).toBe((await bucket.head(key))!.etag);
          }
        }
      });

      test('goes on after any key, whether there or not', async () => {
        for (const key of keys) await bucket.put(key, Buffer.from(key));
        const sorted = [...keys].sort();
        for (const after of [...keys, 'b', 'b/', 'b/1z', 'b/2a', 'a/', 'zzz', 'b0']) {
          for (const prefix of ['', 'b/']) {
            const found = await collect(bucket.list(prefix, { after }));
            expect(found.map(({ key }) => key)).toEqual(sorted.filter((key) => key.startsWith(prefix) && key > after));
          }
        }
      });

      test('gives nothing where there is nothing', async () => {
        expect(await collect(bucket.list(''))).toEqual([]);
        expect(await collect(bucket.list('a/b'))).toEqual([]);
      });
    });

    describe('delete', () => {
      test('removes an object, and is content where there is none', async () => {
        await bucket.put('a/b', Buffer.from('1'));
        await another.delete('a/b');
        await another.delete('a/b');
        await another.delete('no/such');
        expect(await bucket.head('a/b')).toBeUndefined();
        await bucket.put('a/b', Buffer.from('2'), { condition: 'absent' });
      });

      test('with an ETag removes that object only', async () => {
        const old = await bucket.put('x', Buffer.from('one'));
        const now = await bucket.put('x', Buffer.from('two'));
        await expect(bucket.delete('x', { ifMatch: old })).rejects.toThrow(ConflictError);
        expect(await bucket.head('x')).toBeDefined();
        await bucket.delete('x', { ifMatch: now });
        expect(await bucket.head('x')).toBeUndefined();
      });
    });

    test('refuses keys that are none', async () => {
      for (const key of [
        '',
        '/a',
        'a/',
        'a//b',
        '.',
        '..',
        'a/../b',
        '.hidden',
        'a/.b',
        'ä',
        'a b',
        'a\0b',
        'a\nb',
        'a\n',
      ])
        await expect(bucket.put(key, Buffer.from('1'))).rejects.toThrow(InvalidError);
      expect(await collect(bucket.list(''))).toEqual([]);
    });

    test('ends what a signal aborts', async () => {
      await bucket.put('x', Buffer.alloc(8 * 1024 * 1024));
      const abort = new AbortController();
      const { body } = await bucket.get('x', { signal: abort.signal });
      const reading = (async () => {
        for await (const _ of body) abort.abort(new Error('enough'));
      })();
      await expect(reading).rejects.toThrow('enough');
      await expect(bucket.put('y', Buffer.from('1'), { signal: abort.signal })).rejects.toThrow('enough');
      expect(await bucket.head('y')).toBeUndefined();
    });

    async function winners(
      key: string,
      what: string,
      condition: 'absent' | { readonly etag: string },
    ): Promise<string[]> {
      const writes = Array.from({ length: 12 }, async (_, i) => {
        try {
          return await (i % 2 === 0 ? bucket : another).put(key, Buffer.from(`${what} by ${i}`), { condition });
        } catch (error) {
          if (error instanceof ConflictError) return undefined;
          throw error;
        }
      });
      return (await Promise.all(writes)).filter((etag) => etag !== undefined);
    }
  });
}

async function read({ body }: BucketObject): Promise<Buffer> {
  return Buffer.concat(await collect(body));
}
