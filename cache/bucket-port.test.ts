import { MessageChannel } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Bucket, GetOptions } from '../dataset/bucket/bucket.ts';
import { ConflictError } from '../dataset/errors.ts';
import { createRandom } from '../test/support/random.ts';
import { type Fetched, PortBuckets, readOnlyBucket, serveBuckets } from './bucket-port.ts';

const MIB = 1024 * 1024;
const info = { etag: 'e', modified: new Date(0) };
const random = createRandom(9);
const bytes = random.bytes(5 * MIB + 123);

/** How a bucket gives its bytes: by memory of its own, or by what the reader gives. */
type Way = (body: Buffer, options: GetOptions) => AsyncGenerator<Buffer>;

const own: Way = async function* (body) {
  for (let at = 0; at < body.length; ) {
    const block = Buffer.from(body.subarray(at, at + 1 + random.below(3 * MIB)));
    at += block.length;
    yield block;
    block.fill(0);
  }
};

const into: Way = async function* (body, options) {
  for (let at = 0; at < body.length; ) {
    const given = options.into!();
    const piece = given instanceof Promise ? await given : given;
    for (let filled = 0; filled < piece.length && at < body.length; ) {
      const part = body.subarray(at, at + Math.min(piece.length - filled, 1 + random.below(200_000)));
      piece.set(part, filled);
      yield Buffer.from(piece.buffer, piece.byteOffset + filled, part.length);
      filled += part.length;
      at += part.length;
    }
  }
};

describe.each<[string, Way]>([
  ['a bucket with memory of its own', own],
  ['a bucket that takes the memory of its reader', into],
])('%s, read by a worker', (_, way) => {
  let channel: MessageChannel;
  let stopping: AbortController;
  let asked: GetOptions[];
  let fetched: Fetched[];
  let read: number;
  let body: (options: GetOptions) => AsyncGenerator<Buffer>;
  /** The worker's. */
  let bucket: Bucket;

  beforeEach(() => {
    channel = new MessageChannel();
    stopping = new AbortController();
    asked = [];
    fetched = [];
    read = 0;
    body = (options) => way(bytes, options);
    const inner = readOnlyBucket('inner', async (key, options = {}) => {
      asked.push(options);
      if (key === 'changed') throw new ConflictError('changed was changed');
      return { ...info, size: bytes.length, body: body(options) };
    });
    const job = {
      bucket: inner,
      signal: stopping.signal,
      onRead: (count: number) => {
        read += count;
      },
      onFetched: (one: Fetched) => fetched.push(one),
    };
    serveBuckets(channel.port1, new Map([[7, job]]));
    bucket = new PortBuckets(channel.port2).bucket(7, 'inner', stopping.signal);
  });

  afterEach(() => {
    channel.port1.close();
    channel.port2.close();
  });

  const turn = () => new Promise((resolve) => setImmediate(resolve));

  async function all(slow: () => Promise<unknown> | undefined = () => undefined, options?: GetOptions) {
    const object = await bucket.get('x', options);
    const parts: Buffer[] = [];
    for await (const block of object.body) {
      // Its memory is not written to while it is read.
      await slow();
      parts.push(Buffer.from(block));
    }
    return { ...object, bytes: Buffer.concat(parts) };
  }

  test('comes whole, to a reader that is quick, slow or both', async () => {
    for (const slow of [() => undefined, turn, () => (random.oneIn(2) ? turn() : undefined)]) {
      const found = await all(slow);
      expect(found).toMatchObject({ ...info, size: bytes.length });
      expect(found.bytes.equals(bytes)).toBe(true);
    }
    expect(read).toBe(3 * bytes.length);
    expect(fetched).toEqual(
      Array.from({ length: 3 }, () =>
        expect.objectContaining({ bytes: bytes.length, failed: false, neighbour: false }),
      ),
    );
  });

  test('comes whole to many readers at once, and what they ask for is asked', async () => {
    const found = await Promise.all(Array.from({ length: 8 }, () => all(() => (random.oneIn(3) ? turn() : undefined))));
    expect(found.every((one) => one.bytes.equals(bytes))).toBe(true);
    const range = { offset: 3, length: 100 };
    body = (options) => way(bytes.subarray(3, 103), options);
    const part = await all(undefined, { range, ifMatch: 'e', version: 'v', checked: true });
    expect(part.bytes.equals(bytes.subarray(3, 103))).toBe(true);
    expect(asked.at(-1)).toMatchObject({ range, ifMatch: 'e', version: 'v', checked: true });
  });

  test('is read no further ahead of a reader than the ring is long', async () => {
    const object = await bucket.get('x');
    const blocks = object.body[Symbol.asyncIterator]();
    const first = await blocks.next();
    for (let turns = 0; turns < 200; turns++) await turn();
    expect(read).toBeLessThan(5 * MIB);
    expect((first.value as Buffer).equals(bytes.subarray(0, (first.value as Buffer).length))).toBe(true);
    await blocks.return!();
    await expect.poll(() => fetched).toEqual([expect.objectContaining({ failed: false })]);
  });

  test('ends with its error, after the bytes that came before it', async () => {
    body = async function* (options) {
      yield* way(bytes.subarray(0, 300_000), options);
      throw new ConflictError('it was changed');
    };
    const object = await bucket.get('x');
    let came = 0;
    const reading = async () => {
      for await (const block of object.body) came += block.length;
    };
    await expect(reading()).rejects.toThrow(ConflictError);
    expect(came).toBe(300_000);
    expect(fetched).toEqual([expect.objectContaining({ bytes: 300_000, failed: true })]);
    await expect(bucket.get('changed')).rejects.toThrow('changed was changed');
  });

  test('ends when its job is aborted, whoever waits', async () => {
    let isStuck = false;
    body = async function* (options) {
      yield* way(bytes.subarray(0, 100), options);
      isStuck = true;
      await new Promise((resolve) => options.signal!.addEventListener('abort', resolve));
      options.signal!.throwIfAborted();
    };
    const waiting = all();
    const full = (await bucket.get('x')).body[Symbol.asyncIterator]();
    await expect.poll(() => isStuck).toBe(true);
    stopping.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    await expect(full.next()).rejects.toThrow('enough');
    await expect.poll(() => fetched.length).toBe(2);
    expect(fetched.every(({ failed }) => !failed)).toBe(true);
  });

  test('leaves its memory to the next read, and to none before it has ended', async () => {
    const memories = new Set<ArrayBufferLike>();
    for (let times = 0; times < 5; times++) {
      const left = await bucket.get('x');
      for await (const block of left.body) {
        memories.add(block.buffer);
        break;
      }
      await expect.poll(() => fetched.length).toBe(times + 1);
      await turn();
    }
    expect(memories.size).toBe(1);
    const both = [await bucket.get('x'), await bucket.get('x')];
    const found = both.map(async ({ body }) => {
      const parts: Buffer[] = [];
      for await (const block of body) {
        memories.add(block.buffer);
        await turn();
        parts.push(Buffer.from(block));
      }
      return Buffer.concat(parts).equals(bytes);
    });
    expect(await Promise.all(found)).toEqual([true, true]);
    expect(memories.size).toBe(2);
  });
});

test('bytes of a bucket that has taken memory and gives others are refused', async () => {
  const { port1, port2 } = new MessageChannel();
  const inner = readOnlyBucket('inner', async (_, options) => {
    await options!.into!();
    return { ...info, size: 10, body: own(bytes.subarray(0, 10), options!) };
  });
  const { signal } = new AbortController();
  serveBuckets(port1, new Map([[1, { bucket: inner, signal, onRead: () => {}, onFetched: () => {} }]]));
  const { body } = await new PortBuckets(port2).bucket(1, 'inner', signal).get('x');
  await expect(body[Symbol.asyncIterator]().next()).rejects.toThrow('from elsewhere');
  port1.close();
  port2.close();
});
