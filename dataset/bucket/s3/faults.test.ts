import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type BreakingProxy, type Fault, faultsFor, startBreakingProxy } from '../../../test/support/breaking-proxy.ts';
import { collect } from '../../../test/support/collect.ts';
import { createRandom } from '../../../test/support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../../../test/support/s3-server.ts';
import { ConflictError, CorruptError, InvalidError, UnavailableError } from '../../errors.ts';
import type { MeteredBucket } from '../metrics.ts';
import { readObject } from '../read-object.ts';
import { type S3Settings, s3Bucket } from '../s3.ts';
import { parseS3Location } from './location.ts';

const MIB = 1024 * 1024;
/** A busy machine must not look like a store that stands still. */
const QUICK: S3Settings = {
  retries: { attempts: 4, base: 2, longest: 20 },
  timeouts: { connect: 30_000, stall: 30_000 },
  largest: 12 * MIB,
  part: 5 * MIB,
};

/** For faults that only a timeout ends. */
const HASTY: S3Settings = { ...QUICK, timeouts: { connect: 30_000, stall: 1_000 } };

const needsTimeout = ({ kind }: Fault) => kind === 'silence' || kind === 'stall';

describe.skipIf(!hasS3Server)('a bucket in a store that fails', () => {
  let server: S3Server;
  let proxy: BreakingProxy;
  let location: string;
  /** By way of the proxy. */
  let bucket: MeteredBucket;
  /** Straight to the store. */
  let straight: MeteredBucket;
  const bytes = createRandom(1).bytes(2 * MIB);

  beforeAll(async () => {
    server = await startS3Server();
    proxy = await startBreakingProxy(server.endpoint);
    location = await server.location('p');
  }, S3_SERVER_TIMEOUT);

  afterAll(async () => {
    await proxy.close();
    await server.close();
  });

  beforeEach(async () => {
    bucket = s3Bucket(parseS3Location(proxy.location(location)), QUICK);
    straight = s3Bucket(parseS3Location(location));
    await straight.put('x', bytes);
    await straight.put('small', Buffer.from('0123456789'));
  });

  afterEach(async () => {
    proxy.plan = () => undefined;
    await bucket.close();
    await straight.close();
  });

  function hurry(fault: Fault): void {
    if (needsTimeout(fault)) bucket = s3Bucket(parseS3Location(proxy.location(location)), HASTY);
  }

  async function read(key: string, range?: { offset: number; length: number }): Promise<Buffer> {
    const { body } = await bucket.get(key, range === undefined ? {} : { range });
    return Buffer.concat(await collect(body));
  }

  test('gives its place to the next request when a body is left before it began', async () => {
    const narrow = s3Bucket(parseS3Location(`${location}&requests=1`), QUICK);
    const { body } = await narrow.get('x');
    await body[Symbol.asyncIterator]().return?.();
    expect((await narrow.head('x'))!.size).toBe(bytes.length);
    await narrow.close();
  });

  describe.each<[string, Fault]>([
    ['500', { kind: 'error' }],
    ['503 SlowDown', { kind: 'slow-down' }],
    ['a connection that is reset before anything', { kind: 'refuse' }],
    ['a lost answer', { kind: 'lose-answer' }],
    ['silence', { kind: 'silence' }],
  ])('with %s', (_, fault) => {
    beforeEach(() => hurry(fault));

    test('reads, looks, lists and deletes all the same', async () => {
      proxy.plan = faultsFor(['GetObject', 'HeadObject', 'ListObjectsV2', 'DeleteObject'], fault);
      expect((await read('small')).toString()).toBe('0123456789');
      proxy.plan = faultsFor('HeadObject', fault);
      expect((await bucket.head('small'))!.size).toBe(10);
      proxy.plan = faultsFor('ListObjectsV2', fault);
      expect((await collect(bucket.list('s'))).map(({ key }) => key)).toEqual(['small']);
      proxy.plan = faultsFor('DeleteObject', fault);
      await bucket.delete('small');
      expect(await straight.head('small')).toBeUndefined();
      if (!needsTimeout(fault))
        expect(bucket.requests.get).toMatchObject({ count: 2, errors: 1, retries: 1, bytes: 10 });
    });

    test('finds out that a conditional write of its own has won', async () => {
      proxy.plan = faultsFor('PutObject', fault);
      const etag = await bucket.put(`new-${fault.kind}`, Buffer.from('mine'), { condition: 'absent' });
      proxy.plan = faultsFor('PutObject', fault);
      const next = await bucket.put(`new-${fault.kind}`, Buffer.from('mine too'), { condition: { etag } });
      expect(await straight.head(`new-${fault.kind}`)).toMatchObject({ etag: next, size: 8 });
    });

    test('gives up in the end, and names the key and what came', async () => {
      proxy.plan = () => fault;
      await expect(bucket.put('never', Buffer.from('x'), { condition: 'absent' })).rejects.toSatisfy(
        (error) => error instanceof UnavailableError && /p\/never in s3:\/\//.test(error.message),
      );
      expect(bucket.requests.put!.count).toBe(4);
    });
  });

  test('a write whose answer was lost, and that another has replaced since, is a conflict that says so', async () => {
    let raced = false;
    proxy.plan = (request) => {
      if (request.kind !== 'PutObject' || raced) return undefined;
      raced = true;
      return { kind: 'lose-answer' };
    };
    const etag = await straight.put('raced', Buffer.from('base'));
    const mine = bucket.put('raced', Buffer.from('mine'), { condition: { etag } }).catch((error: unknown) => error);
    for (;;) {
      const { bytes: found, etag: now } = await readObject(straight, 'raced', 100);
      if (found.toString() !== 'mine') continue;
      await straight.put('raced', Buffer.from('theirs'), { condition: { etag: now } });
      break;
    }
    const outcome = await mine;
    // The client may have been quick enough to see its own bytes.
    if (typeof outcome !== 'string') {
      expect(outcome).toBeInstanceOf(ConflictError);
      expect(outcome).toMatchObject({ facts: { uncertain: true } });
    }
    expect((await readObject(straight, 'raced', 100)).bytes.toString()).toBe('theirs');
  });

  test('equal bytes of another are not taken for its own', async () => {
    await straight.put('equal', Buffer.from('same'), { condition: 'absent' });
    proxy.plan = faultsFor('PutObject', { kind: 'error' });
    await expect(bucket.put('equal', Buffer.from('same'), { condition: 'absent' })).rejects.toThrow(ConflictError);
  });

  describe.each<[string, Fault]>([
    ['is reset', { kind: 'reset', after: 700_000 }],
    ['is cut short', { kind: 'truncate', after: 700_000 }],
    ['stands still', { kind: 'stall', after: 700_000 }],
  ])('a body that %s', (_, fault) => {
    beforeEach(() => hurry(fault));

    test('goes on from where it was', async () => {
      proxy.plan = faultsFor('GetObject', fault, { times: 2 });
      proxy.reset();
      expect((await read('x')).equals(bytes)).toBe(true);
      expect(bucket.requests.get!.bytes).toBe(bytes.length);
      if (!needsTimeout(fault)) expect(bucket.requests.get).toMatchObject({ count: 3, errors: 2, retries: 2 });
      expect(proxy.total('GetObject').received).toBeLessThan(bytes.length * 1.5);
    });

    test('goes on in the memory that its reader gave', async () => {
      proxy.plan = faultsFor('GetObject', fault, { times: 2 });
      const memory = Buffer.alloc(bytes.length);
      let given = 0;
      const into = () => {
        given += 300_000;
        return memory.subarray(given - 300_000, given);
      };
      const { body } = await bucket.get('x', { into, checked: true });
      for await (const block of body) expect(block.buffer).toBe(memory.buffer);
      expect(memory.equals(bytes)).toBe(true);
    });

    test('goes on within its range', async () => {
      proxy.plan = faultsFor('GetObject', fault);
      expect((await read('x', { offset: 1000, length: MIB })).equals(bytes.subarray(1000, 1000 + MIB))).toBe(true);
    });

    test('does not go on in another object', async () => {
      const etag = (await straight.head('x'))!.etag;
      proxy.plan = (request) => (request.headers.range === undefined ? fault : undefined);
      const replaced = async (ifMatch?: string) => {
        await straight.put('x', bytes);
        const { body } = await bucket.get('x', ifMatch === undefined ? {} : { ifMatch });
        await straight.put('x', Buffer.concat([bytes, Buffer.from('!')]));
        return await collect(body);
      };
      await expect(replaced()).rejects.toThrow(UnavailableError);
      await expect(replaced(etag)).rejects.toThrow(ConflictError);
    });
  });

  test('a body that never gets on ends with an error', async () => {
    proxy.plan = faultsFor('GetObject', { kind: 'reset', after: 0 }, { times: 100 });
    await expect(read('x')).rejects.toSatisfy(
      (error) => error instanceof UnavailableError && error.message.includes('x in s3://'),
    );
  });

  test('another range than was asked for is asked for again, and never given out', async () => {
    const range = { offset: 1000, length: 5000 };
    proxy.plan = faultsFor('GetObject', { kind: 'wrong-range', shift: 10 }, { times: 2 });
    expect((await read('x', range)).equals(bytes.subarray(1000, 6000))).toBe(true);
    proxy.plan = () => ({ kind: 'wrong-range', shift: 10 });
    await expect(read('x', range)).rejects.toThrow('where 5000 bytes from 1000 were asked for');
  });

  test('bytes that change on their way are read again while nobody has seen them, and never given out whole', async () => {
    proxy.plan = faultsFor('GetObject', { kind: 'flip', at: 3 }, { times: 2 });
    expect((await read('small')).toString()).toBe('0123456789');
    proxy.plan = () => ({ kind: 'flip', at: 3 });
    await expect(read('small')).rejects.toThrow(CorruptError);
    await expect(read('x')).rejects.toThrow(/x in s3:.*is not what was stored: its CRC-32/);
  });

  test('an object that comes shorter than it is, with a length that agrees, is found out by its checksum', async () => {
    proxy.plan = faultsFor('GetObject', { kind: 'shorten', after: 5 });
    expect((await read('small')).toString()).toBe('0123456789');
    proxy.plan = () => ({ kind: 'shorten', after: 500_000 });
    await expect(read('x')).rejects.toThrow(CorruptError);
  });

  test('a reader that is slower than the timeout is no stalled body', async () => {
    hurry({ kind: 'silence' });
    const { body } = await bucket.get('x');
    const parts: Buffer[] = [];
    let waited = false;
    for await (const part of body) {
      if (!waited) await new Promise((resolve) => setTimeout(resolve, 2_500));
      waited = true;
      parts.push(part);
    }
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
    expect(bucket.requests.get).toMatchObject({ count: 1, retries: 0 });
  });

  test('a body that is cut off while it is sent is sent again', async () => {
    proxy.plan = faultsFor('PutObject', { kind: 'cut-upload', after: 300_000 }, { times: 2 });
    await bucket.put('up', [bytes.subarray(0, 10), bytes.subarray(10)], { condition: 'absent' });
    expect((await straight.head('up'))!.size).toBe(bytes.length);
    expect(bucket.requests.put).toMatchObject({ count: 3, retries: 2 });
  });

  describe('an object in parts', () => {
    const large = [createRandom(2).bytes(9 * MIB), createRandom(3).bytes(7 * MIB + 5)];
    const whole = Buffer.concat(large);

    test.each<[string, string, Fault]>([
      ['its beginning', 'CreateMultipartUpload', { kind: 'error' }],
      ['a part', 'UploadPart', { kind: 'cut-upload', after: MIB }],
      ['two parts', 'UploadPart', { kind: 'slow-down' }],
      ['the answer to a part', 'UploadPart', { kind: 'lose-answer' }],
      ['its end', 'CompleteMultipartUpload', { kind: 'error' }],
      ['the answer to its end', 'CompleteMultipartUpload', { kind: 'lose-answer' }],
    ])('comes whole where %s is lost', async (what, kind, fault) => {
      const key = `large-${what.replaceAll(' ', '-')}`;
      proxy.plan = faultsFor(kind, fault, { times: what === 'two parts' ? 2 : 1 });
      const etag = await bucket.put(key, large, { condition: 'absent' });
      const found = await readObject(straight, key, whole.length);
      expect(found.etag).toBe(etag);
      expect(found.bytes.equals(whole)).toBe(true);
      await expect(bucket.put(key, large, { condition: 'absent' })).rejects.toThrow(ConflictError);
      await straight.delete(key);
    });

    test('leaves nothing behind where it fails', async () => {
      proxy.plan = faultsFor('UploadPart', { kind: 'error' }, { skip: 1, times: 100 });
      await expect(bucket.put('large', large)).rejects.toThrow(UnavailableError);
      const { bucket: name } = parseS3Location(location);
      const { body } = await server.request('GET', `/${name}?uploads=`);
      expect(body.toString()).toContain('ListMultipartUploadsResult');
      expect(body.toString()).not.toContain('<UploadId>');
    });
  });

  test('fewer requests are in flight after the store asked for that, and no more than allowed ever', async () => {
    let running = 0;
    let most = 0;
    const few = s3Bucket(
      {
        ...parseS3Location(proxy.location(location)),
        options: { ...parseS3Location(proxy.location(location)).options, requests: 3 },
      },
      QUICK,
    );
    proxy.plan = () => {
      running += 1;
      most = Math.max(most, running);
      setTimeout(() => {
        running -= 1;
      }, 20);
      return { kind: 'latency', milliseconds: 30 };
    };
    await Promise.all(Array.from({ length: 20 }, () => few.head('x')));
    expect(most).toBeLessThanOrEqual(3);
    await few.close();
  });

  test('a signal ends the wait before another attempt', async () => {
    const slow = s3Bucket(parseS3Location(proxy.location(location)), {
      ...QUICK,
      retries: { attempts: 5, base: 60_000, longest: 60_000 },
      random: () => 1,
    });
    proxy.plan = () => ({ kind: 'error' });
    const abort = new AbortController();
    const waiting = slow.head('x', abort.signal);
    setTimeout(() => abort.abort(new Error('enough')), 100);
    await expect(waiting).rejects.toThrow('enough');
    await slow.close();
  });

  test('a store that is not there is named, with the cause', async () => {
    const gone = s3Bucket(parseS3Location('s3://bucket/p?endpoint=http://127.0.0.1:1&path-style=true'), QUICK);
    await expect(gone.head('x')).rejects.toSatisfy(
      (error) =>
        error instanceof UnavailableError &&
        /http:\/\/127\.0\.0\.1:1 cannot be reached.*ECONNREFUSED/.test(error.message),
    );
    await gone.close();
  });

  test('a bucket that is not there is named', async () => {
    const gone = s3Bucket(parseS3Location(server.locationOf('no-such-bucket')), QUICK);
    await expect(gone.get('x')).rejects.toMatchObject({
      kind: 'not-found',
      message: expect.stringContaining("'no-such-bucket'"),
    });
    await expect(collect(gone.list(''))).rejects.toMatchObject({ kind: 'not-found' });
    await expect(gone.put('x', Buffer.from('1'))).rejects.toMatchObject({ kind: 'not-found' });
    await gone.close();
  });

  test('a range outside the object is wrong at once, not after many attempts', async () => {
    await expect(bucket.get('small', { range: { offset: 8, length: 5 } })).rejects.toThrow(InvalidError);
    await expect(bucket.get('small', { range: { offset: 80, length: 5 } })).rejects.toThrow(InvalidError);
    expect(bucket.requests.get!.count).toBe(2);
  });
});
