import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { collect } from '../../../test/support/collect.ts';
import { ConflictError, InvalidError, NotFoundError, UnavailableError } from '../../errors.ts';
import { initRepository, openRepository } from '../../repository.ts';
import type { MeteredBucket } from '../metrics.ts';
import { s3Bucket } from '../s3.ts';
import { parseS3Location } from './location.ts';

/* A store that answers as it is told, for what a good one does not do. It keeps objects, and knows neither signatures nor conditions. */

interface Asked {
  readonly method: string;
  /** `/bucket/key` */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
}

interface Answer {
  readonly status: number;
  readonly code?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

const secrets = { AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'topsecret' };

let directory: string;
let server: Server;
let endpoint: string;
let location: string;
let objects: Map<string, Buffer>;
/** `x-amz-meta-…` of objects. */
let metadata: Map<string, Record<string, string>>;
let asked: Asked[];
/** Undefined: as a simple store does. */
let answer: (asked: Asked) => Answer | undefined;
let bucket: MeteredBucket;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-answers-'));
  for (const [name, value] of Object.entries(secrets)) writeFileSync(join(directory, name), value);
  objects = new Map();
  metadata = new Map();
  asked = [];
  answer = () => undefined;
  server = createServer((request, response) => void serve(request, response)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  location = `s3://b/p?endpoint=${endpoint}&path-style=true&region=us-east-1&credentials=${directory}`;
  bucket = s3Bucket(parseS3Location(location), { retries: { attempts: 3, base: 1, longest: 5000 } });
});

afterEach(async () => {
  await bucket.close();
  server.closeAllConnections();
  server.close();
  rmSync(directory, { recursive: true });
});

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url!, endpoint);
  const one: Asked = {
    method: request.method!,
    // Not as `URL` has it, which takes dots for steps.
    path: decodeURIComponent(request.url!.split('?')[0]!),
    query: url.searchParams,
    headers: request.headers,
  };
  asked.push(one);
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const told = answer(one);
  if (told !== undefined) {
    const body =
      told.body ??
      (told.code === undefined ? '' : `<Error><Code>${told.code}</Code><Message>As told.</Message></Error>`);
    response.writeHead(told.status, { 'content-type': 'application/xml', ...told.headers });
    response.end(one.method === 'HEAD' ? '' : body);
    return;
  }
  if (one.query.has('list-type')) {
    const contents = [...objects.keys()].sort().filter((key) => key.startsWith(`/b/${one.query.get('prefix')}`));
    response.end(listing(contents.map((key) => key.slice(3))));
    return;
  }
  const known = objects.get(one.path);
  if (one.method === 'PUT') {
    const bytes = Buffer.concat(parts);
    objects.set(one.path, bytes);
    const mine = Object.entries(one.headers).filter(([name]) => name.startsWith('x-amz-meta-'));
    metadata.set(one.path, Object.fromEntries(mine) as Record<string, string>);
    response.writeHead(200, { etag: etagOf(bytes) }).end();
  } else if (one.method === 'DELETE') {
    objects.delete(one.path);
    response.writeHead(204).end();
  } else if (known === undefined) {
    response.writeHead(404).end(one.method === 'HEAD' ? '' : '<Error><Code>NoSuchKey</Code></Error>');
  } else {
    response
      .writeHead(200, { etag: etagOf(known), 'content-length': known.length, ...metadata.get(one.path) })
      .end(one.method === 'HEAD' ? '' : known);
  }
}

function etagOf(bytes: Buffer): string {
  return `"${createHash('md5').update(bytes).digest('hex')}"`;
}

function listing(keys: readonly string[], more = ''): string {
  const contents = keys.map((key) => {
    const bytes = objects.get(`/b/${key}`) ?? Buffer.from('1');
    return `<Contents><Key>${key}</Key><Size>${bytes.length}</Size><ETag>${etagOf(bytes)}</ETag></Contents>`;
  });
  return `<ListBucketResult>${contents.join('')}${more}</ListBucketResult>`;
}

/** The answer to the first `times` requests. */
function first(times: number, told: Answer): typeof answer {
  return () => (asked.length <= times ? told : undefined);
}

describe('a store that', () => {
  test('keeps no conditions gets no repository, and is told why', async () => {
    await expect(initRepository(location)).rejects.toThrow(
      /s3:\/\/b\/p cannot hold a repository: it does not keep conditional writes \(of 2 racing writes that create one object, 2 succeeded\)/,
    );
    await expect(initRepository(location)).rejects.toThrow(InvalidError);
    expect([...objects.keys()]).toEqual([]);
  });

  test('makes an object where an unchanged one was required is found out', async () => {
    // As a store that looks at a condition only where there is an object.
    answer = ({ method, path, headers }) => {
      const known = objects.get(path);
      if (method !== 'PUT' || known === undefined) return undefined;
      const wrong = 'if-none-match' in headers || (headers['if-match'] ?? etagOf(known)) !== etagOf(known);
      return wrong ? { status: 412, code: 'PreconditionFailed' } : undefined;
    };
    await expect(initRepository(location)).rejects.toThrow('made an object where there was none');
    expect([...objects.keys()]).toEqual([]);
  });

  test('does not know conditions says so, and gets no repository', async () => {
    answer = ({ headers }) => ('if-none-match' in headers ? { status: 501, code: 'NotImplemented' } : undefined);
    await expect(initRepository(location)).rejects.toThrow(/does not have what it needs \(NotImplemented/);
  });

  describe('ignores a condition on a deletion', () => {
    /** Conditions on writes hold. */
    beforeEach(() => {
      answer = ({ method, path, headers }) => {
        if (method !== 'PUT') return undefined;
        const known = objects.get(path);
        const match = headers['if-match'];
        const holds =
          (headers['if-none-match'] === undefined || known === undefined) &&
          (match === undefined || (known !== undefined && match === etagOf(known)));
        return holds ? undefined : { status: 412, code: 'PreconditionFailed' };
      };
    });

    test('deletes only what is unchanged all the same', async () => {
      const old = await bucket.put('x', Buffer.from('1'));
      const now = await bucket.put('x', Buffer.from('2'));
      await expect(bucket.delete('x', { ifMatch: old })).rejects.toThrow(ConflictError);
      expect(await bucket.head('x')).toBeDefined();
      await bucket.delete('x', { ifMatch: now });
      await bucket.delete('x', { ifMatch: now });
      await bucket.delete('never', { ifMatch: now });
      expect(await bucket.head('x')).toBeUndefined();
      await expect(bucket.get('x')).rejects.toThrow(NotFoundError);
      expect(await collect(bucket.list(''))).toEqual([]);
    });

    test('takes what is made anew, once, and deletes that too', async () => {
      await bucket.delete('x', { ifMatch: await bucket.put('x', Buffer.from('1'), { condition: 'absent' }) });
      const makers = ['a', 'b', 'c'].map((name) => bucket.put('x', Buffer.from(name), { condition: 'absent' }));
      const made = (await Promise.allSettled(makers)).filter(({ status }) => status === 'fulfilled');
      expect(made).toHaveLength(1);
      const found = await collect(bucket.list(''));
      expect(found.map(({ key }) => key)).toEqual(['x']);
      await bucket.delete('x', { ifMatch: found[0]!.etag });
      expect(await bucket.head('x')).toBeUndefined();
      await bucket.put('x', Buffer.from('2'));
      await bucket.delete('x');
      expect([...objects.keys()]).toEqual([]);
    });

    test('is tried out once', async () => {
      const etag = await bucket.put('x', Buffer.from('1'));
      await bucket.delete('x', { ifMatch: etag });
      await bucket.delete('y', { ifMatch: etag });
      expect(asked.filter(({ method, path }) => method === 'DELETE' && path.startsWith('/b/p/probe/'))).toHaveLength(2);
      expect([...objects.keys()]).toEqual(['/b/p/x']);
    });
  });

  test('says when to come again is not asked before', async () => {
    answer = first(1, { status: 503, code: 'SlowDown', headers: { 'retry-after': '1' } });
    const before = performance.now();
    await bucket.put('x', Buffer.from('1'));
    // The wait is asked for in whole seconds; a timer may be a little early.
    expect(performance.now() - before).toBeGreaterThan(990);
    expect(asked).toHaveLength(2);
  });

  test.each([
    [409, 'ConditionalRequestConflict'],
    [409, 'OperationAborted'],
    [400, 'RequestTimeout'],
    [400, 'XAmzContentSHA256Mismatch'],
    [429, 'TooManyRequests'],
    [502, 'BadGateway'],
    [504, 'GatewayTimeout'],
  ])('answers with %i %s is asked again', async (status, code) => {
    answer = first(2, { status, code });
    await bucket.put('x', Buffer.from('1'), { condition: 'absent' });
    expect(asked).toHaveLength(3);
    asked = [];
    answer = () => ({ status, code });
    await expect(bucket.put('x', Buffer.from('1'))).rejects.toSatisfy(
      (error) => error instanceof UnavailableError && error.message.includes(`${status} ${code}`),
    );
    expect(asked).toHaveLength(3);
  });

  test('answers with a page that is cut short is asked again', async () => {
    const page = listing(['p/a', 'p/b']);
    answer = first(1, { status: 200, body: page.slice(0, page.length / 2) });
    objects.set('/b/p/a', Buffer.from('1'));
    expect((await collect(bucket.list(''))).map(({ key }) => key)).toEqual(['a']);
    expect(asked).toHaveLength(2);
  });

  test('lists in another order than that of bytes is refused', async () => {
    answer = () => ({ status: 200, body: listing(['p/b', 'p/a']) });
    await expect(collect(bucket.list(''))).rejects.toThrow('not listed in byte order: p/a comes after p/b');
  });

  test('says that there are more objects and not where is not believed', async () => {
    answer = () => ({ status: 200, body: listing(['p/a'], '<IsTruncated>true</IsTruncated>') });
    await expect(collect(bucket.list(''))).rejects.toThrow(UnavailableError);
  });

  test('denies it is named with the key and the permission', async () => {
    answer = () => ({ status: 403, code: 'AccessDenied' });
    const denied: [() => Promise<unknown>, RegExp][] = [
      [() => bucket.get('x'), /p\/x in s3:\/\/b cannot be read.*s3:GetObject/],
      [() => bucket.head('x'), /p\/x in s3:\/\/b cannot be looked at.*s3:GetObject/],
      [() => bucket.put('x', Buffer.from('1')), /p\/x in s3:\/\/b cannot be written.*s3:PutObject/],
      [() => bucket.delete('x'), /p\/x in s3:\/\/b cannot be deleted.*s3:DeleteObject/],
      [() => collect(bucket.list('x')), /s3:\/\/b\/p\/x cannot be listed.*s3:ListBucket on the bucket/],
    ];
    for (const [act, message] of denied) {
      const error = await act().catch((error: unknown) => error as Error);
      expect(error).toBeInstanceOf(UnavailableError);
      expect((error as Error).message).toMatch(message);
      expect((error as Error).message).not.toContain('topsecret');
    }
    // Asking again would not help; but an answer to a HEAD does not say whether it is the keys.
    expect(asked).toHaveLength(denied.length + 1);
  });

  test('refuses the keys is asked once more with what the Secret holds then', async () => {
    answer = ({ headers }) =>
      headers.authorization!.includes('Credential=renewed/') ? undefined : { status: 403, code: 'ExpiredToken' };
    await expect(bucket.get('x')).rejects.toThrow(`refuses the credentials of ${directory} (`);
    writeFileSync(join(directory, 'AWS_ACCESS_KEY_ID'), 'renewed');
    await bucket.put('x', Buffer.from('1'));
    expect([...objects.keys()]).toEqual(['/b/p/x']);
  });

  test('keeps an object in an archive is named with what to do', async () => {
    answer = () => ({ status: 403, code: 'InvalidObjectState' });
    await expect(bucket.get('x')).rejects.toThrow('p/x in s3://b cannot be read: it is archived; restore it');
  });

  test('has the bucket in another region is named with that', async () => {
    answer = () => ({ status: 301, code: 'PermanentRedirect', headers: { 'x-amz-bucket-region': 'eu-central-1' } });
    await expect(bucket.put('x', Buffer.from('1'))).rejects.toThrow(
      /another region, eu-central-1; name it with 'region='/,
    );
  });

  test('lacks the bucket is not taken for one without a repository', async () => {
    answer = () => ({ status: 404, code: 'NoSuchBucket' });
    await expect(openRepository(location)).rejects.toThrow("there is no bucket 'b' at http://127.0.0.1");
    await expect(initRepository(location)).rejects.toThrow(NotFoundError);
    answer = () => undefined;
    await expect(openRepository(location)).rejects.toThrow(/larder repository init --repository "s3:\/\/b\/p\?/);
  });

  test('answers a conditional write on what is gone with 404 means a conflict', async () => {
    answer = () => ({ status: 404, code: 'NoSuchKey' });
    await expect(bucket.put('x', Buffer.from('1'), { condition: { etag: 'e' } })).rejects.toThrow(ConflictError);
  });
});

test('a write asks for what the location says of storage, and signs its bytes', async () => {
  const parameters = 'sse=aws:kms&sse-key=key/1&storage-class=STANDARD_IA&tags=team%3Dvision%26n%3D1';
  const special = s3Bucket(parseS3Location(`${location}&${parameters}`), { largest: 10, part: 8 });
  answer = ({ query, method }) => {
    if (query.has('uploads'))
      return {
        status: 200,
        body: '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>',
      };
    if (query.has('partNumber')) return { status: 200, headers: { etag: '"part"' } };
    if (method === 'POST')
      return {
        status: 200,
        body: '<CompleteMultipartUploadResult><ETag>"whole-2"</ETag></CompleteMultipartUploadResult>',
      };
    return undefined;
  };
  await special.put('x', Buffer.from('12345'));
  expect(await special.put('large', Buffer.from('12345678abcd'), { condition: 'absent' })).toBe('whole-2');
  const storage = {
    'x-amz-server-side-encryption': 'aws:kms',
    'x-amz-server-side-encryption-aws-kms-key-id': 'key/1',
    'x-amz-storage-class': 'STANDARD_IA',
    'x-amz-tagging': 'team=vision&n=1',
  };
  expect(asked[0]!.headers).toMatchObject({
    ...storage,
    'content-length': '5',
    'x-amz-content-sha256': createHash('sha256').update('12345').digest('hex'),
    'x-amz-checksum-crc32': expect.stringMatching(/^.{6}==$/),
  });
  expect(asked[0]!.headers.authorization).toContain('x-amz-content-sha256');
  expect(asked[1]!.headers).toMatchObject(storage);
  const sent = asked.map(({ method, query, headers }) => [
    method,
    query.get('partNumber'),
    headers['content-length'],
    headers['if-none-match'],
  ]);
  expect(sent.slice(2, 4).sort()).toEqual([
    ['PUT', '1', '8', undefined],
    ['PUT', '2', '4', undefined],
  ]);
  expect(sent[4]).toMatchObject(['POST', null, expect.any(String), '*']);
  await special.close();
});

test('a store that keeps checksums of parts only gets those', async () => {
  const parts = s3Bucket(parseS3Location(location), { largest: 10, part: 8 });
  answer = ({ query, method, headers }) => {
    if (query.has('uploads'))
      return headers['x-amz-checksum-type'] === 'FULL_OBJECT'
        ? { status: 400, code: 'InvalidRequest' }
        : {
            status: 200,
            body: '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>',
          };
    if (query.has('partNumber')) return { status: 200, headers: { etag: '"part"' } };
    if (method === 'POST')
      return 'x-amz-checksum-crc32' in headers
        ? { status: 400, code: 'InvalidRequest' }
        : {
            status: 200,
            body: '<CompleteMultipartUploadResult><ETag>"whole-2"</ETag></CompleteMultipartUploadResult>',
          };
    return undefined;
  };
  expect(await parts.put('large', Buffer.from('12345678abcd'))).toBe('whole-2');
  await parts.close();
});

test('keys of any text are read as they are', async () => {
  const keys = ['ä b+c', '100%', 'a//b', 'q?x=1&y', 'dot/./x', '日本/😀', "it's(1)!*", '#'];
  for (const key of keys) {
    objects.set(`/b/p/${key}`, Buffer.from(key));
    const { body } = await bucket.get(key);
    expect(Buffer.concat(await collect(body)).toString()).toBe(key);
    expect((await bucket.head(key))!.size).toBe(Buffer.byteLength(key));
  }
});
