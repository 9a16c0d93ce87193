import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type BreakingProxy,
  type Fault,
  faultsFor,
  firstOf,
  randomFaults,
  startBreakingProxy,
} from './breaking-proxy.ts';
import { createRandom } from './random.ts';

const BODY = createRandom(1).bytes(300_000);

let server: Server;
let proxy: BreakingProxy;
/** What the server heard: method, path and length of the body, once it had all of it. */
let heard: string[];

beforeAll(async () => {
  server = createServer(async (asked, response) => {
    let length = 0;
    try {
      for await (const part of asked) length += (part as Buffer).length;
    } catch {
      return;
    }
    heard.push(`${asked.method} ${asked.url} ${length}`);
    const range = /^bytes=(\d+)-(\d+)$/.exec(asked.headers.range ?? '');
    const [first, last] = range === null ? [0, BODY.length - 1] : [Number(range[1]), Number(range[2])];
    const body = asked.method === 'GET' ? BODY.subarray(first, last + 1) : Buffer.alloc(0);
    const about = range === null ? {} : { 'content-range': `bytes ${first}-${last}/${BODY.length}` };
    response.writeHead(range === null ? 200 : 206, { 'content-length': body.length, ...about });
    response.end(body);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

beforeEach(async () => {
  heard = [];
  proxy = await startBreakingProxy(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

afterEach(() => proxy.close());

interface Seen {
  readonly status?: number;
  readonly headers?: IncomingMessage['headers'];
  readonly body: Buffer;
  readonly error?: string;
  /** The time to wait ran out. */
  readonly gaveUp?: boolean;
}

const agent = new Agent({ keepAlive: true });

async function ask(
  method: string,
  path: string,
  options: { headers?: object; body?: Buffer; wait?: number } = {},
): Promise<Seen> {
  const parts: Buffer[] = [];
  const signal = AbortSignal.timeout(options.wait ?? 10_000);
  try {
    const asked = request(`${proxy.endpoint}${path}`, { method, agent, signal, headers: { ...options.headers } });
    const answered = once(asked, 'response');
    asked.end(options.body);
    const [response] = (await answered) as [IncomingMessage];
    try {
      for await (const part of response) parts.push(part as Buffer);
    } catch (error) {
      return {
        status: response.statusCode,
        body: Buffer.concat(parts),
        error: (error as NodeJS.ErrnoException).code,
        gaveUp: signal.aborted,
      };
    }
    return { status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) };
  } catch (error) {
    return { body: Buffer.concat(parts), error: (error as NodeJS.ErrnoException).code, gaveUp: signal.aborted };
  }
}

function breakNext(fault: Fault): void {
  proxy.plan = faultsFor(() => true, fault);
}

describe('the breaking proxy', () => {
  it('lets through what it has no plan for, and counts it by kind', async () => {
    const body = Buffer.alloc(200_000, 'u');
    expect((await ask('GET', '/b/k')).body.equals(BODY)).toBe(true);
    expect((await ask('PUT', '/b/k', { body })).status).toBe(200);
    expect((await ask('GET', '/b?list-type=2&prefix=x')).status).toBe(200);
    expect((await ask('PUT', '/b/k?partNumber=1&uploadId=2', { body })).status).toBe(200);
    expect((await ask('GET', '/b/k', { headers: { range: 'bytes=10-19' } })).body.equals(BODY.subarray(10, 20))).toBe(
      true,
    );
    expect(heard).toContain('PUT /b/k 200000');
    expect([...proxy.counts].map(([kind, { requests }]) => `${kind} ${requests}`).sort()).toEqual([
      'GetObject 2',
      'ListObjectsV2 1',
      'PutObject 1',
      'UploadPart 1',
    ]);
    expect(proxy.total('PutObject', 'UploadPart')).toMatchObject({ requests: 2, sent: 400_000, faults: 0 });
    expect(proxy.total()).toMatchObject({ requests: 5, received: 2 * BODY.length + 10 });
  });

  it('answers for the server, or not at all, so that it hears nothing', async () => {
    breakNext({ kind: 'error' });
    expect(await ask('PUT', '/b/k', { body: Buffer.alloc(10) })).toMatchObject({ status: 500 });
    breakNext({ kind: 'slow-down' });
    expect((await ask('GET', '/b/k')).body.toString()).toContain('<Code>SlowDown</Code>');
    breakNext({ kind: 'refuse' });
    expect((await ask('GET', '/b/k')).error).toBe('ECONNRESET');
    breakNext({ kind: 'cut-upload', after: 100_000 });
    expect((await ask('PUT', '/b/k', { body: Buffer.alloc(1_000_000) })).error).toMatch(/ECONNRESET|EPIPE/);
    expect(heard).toEqual([]);
    expect((await ask('GET', '/b/k')).body.equals(BODY)).toBe(true);
    expect(Object.fromEntries(proxy.faults)).toEqual({ error: 1, 'slow-down': 1, refuse: 1, 'cut-upload': 1 });
  });

  it('loses the answer to what the server did', async () => {
    breakNext({ kind: 'lose-answer' });
    expect((await ask('PUT', '/b/k', { body: Buffer.alloc(10) })).error).toBe('ECONNRESET');
    expect(heard).toEqual(['PUT /b/k 10']);
    breakNext({ kind: 'silence' });
    expect((await ask('PUT', '/b/k', { body: Buffer.alloc(11), wait: 300 })).gaveUp).toBe(true);
    expect(heard).toEqual(['PUT /b/k 10', 'PUT /b/k 11']);
  });

  it('breaks a body where it is told to', async () => {
    for (const after of [0, 1, 100_000, 10_000_000]) {
      const most = Math.min(after, BODY.length - 1);
      breakNext({ kind: 'reset', after });
      expect(await ask('GET', '/b/k')).toMatchObject({ error: 'ECONNRESET', gaveUp: false });
      breakNext({ kind: 'truncate', after });
      const cut = await ask('GET', '/b/k');
      expect(cut.error).toBe('ECONNRESET');
      expect(cut.body.equals(BODY.subarray(0, most))).toBe(true);
      breakNext({ kind: 'shorten', after });
      expect((await ask('GET', '/b/k')).body.equals(BODY.subarray(0, most))).toBe(true);
      breakNext({ kind: 'stall', after });
      const stalled = await ask('GET', '/b/k', { wait: 300 });
      expect(stalled.gaveUp).toBe(true);
      expect(stalled.body.equals(BODY.subarray(0, most))).toBe(true);
    }
    breakNext({ kind: 'flip', at: 250_000 });
    const { body } = await ask('GET', '/b/k');
    expect([...body.keys()].filter((at) => body[at] !== BODY[at])).toEqual([250_000]);
  });

  it('tells of another range than was asked for', async () => {
    breakNext({ kind: 'wrong-range', shift: 7 });
    const { headers, body } = await ask('GET', '/b/k', { headers: { range: 'bytes=10-19' } });
    expect(headers?.['content-range']).toBe(`bytes 17-26/${BODY.length}`);
    expect(body.length).toBe(10);
  });

  it('takes plans by kind and number, one after the other, and by chance that a seed repeats', async () => {
    proxy.plan = firstOf(
      faultsFor('PutObject', { kind: 'error' }, { skip: 1, times: 2 }),
      faultsFor(['GetObject'], { kind: 'slow-down' }),
    );
    const statuses = [];
    for (const method of ['PUT', 'GET', 'PUT', 'PUT', 'GET', 'PUT']) statuses.push((await ask(method, '/b/k')).status);
    expect(statuses).toEqual([200, 503, 500, 500, 200, 200]);
    const asked = {
      kind: 'GetObject',
      method: 'GET',
      path: '/b/k',
      query: new URLSearchParams(),
      headers: { range: 'bytes=0-9' },
      conditional: false,
    };
    const kinds = ['error', 'reset', 'stall', 'wrong-range'] as const;
    const seeded = () => {
      const plan = randomFaults(createRandom(4), { every: 3, kinds });
      return Array.from({ length: 300 }, () => plan(asked));
    };
    expect(seeded()).toEqual(seeded());
    expect(new Set(seeded().map((fault) => fault?.kind))).toEqual(new Set([undefined, ...kinds]));
  });
});
