import { once } from 'node:events';
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from './random.ts';

/** What is done to one request. `after` counts bytes of the answer's body. */
export type Fault =
  /** The answer comes, so many milliseconds late. */
  | { readonly kind: 'latency'; readonly milliseconds: number }
  /** 500 InternalError; the server never hears of the request. */
  | { readonly kind: 'error' }
  /** 503 SlowDown; the server never hears of the request. */
  | { readonly kind: 'slow-down' }
  /** The connection is reset before the server hears of the request. */
  | { readonly kind: 'refuse' }
  /** The connection is reset after so many bytes of the request's body; the server gets no more of it. */
  | { readonly kind: 'cut-upload'; readonly after: number }
  /** The connection is reset in the answer's body. */
  | { readonly kind: 'reset'; readonly after: number }
  /** The connection ends in the answer's body, which is shorter than its Content-Length. */
  | { readonly kind: 'truncate'; readonly after: number }
  /** The answer's body is shorter than it was to be, and its Content-Length agrees. */
  | { readonly kind: 'shorten'; readonly after: number }
  /** The answer's body stops coming, and the connection stays open until the client gives up. */
  | { readonly kind: 'stall'; readonly after: number }
  /** The server does it, and no answer comes, not even a head; the connection stays open until the client gives up. */
  | { readonly kind: 'silence' }
  /** The server does it; then the connection is reset before a byte of the answer. */
  | { readonly kind: 'lose-answer' }
  /** A range begins so many bytes later than was asked for, as its Content-Range says. Its length is as asked for. */
  | { readonly kind: 'wrong-range'; readonly shift: number }
  /** One bit of the answer's body is flipped. */
  | { readonly kind: 'flip'; readonly at: number };

export interface ProxiedRequest {
  /** S3's name of it: `GetObject`, `PutObject`, `ListObjectsV2`, `UploadPart`… */
  readonly kind: string;
  readonly method: string;
  /** Without the query, unescaped: `/bucket/key`. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** Whether it is a write on a condition. */
  readonly conditional: boolean;
}

/** Says what to do to a request; undefined lets it through. */
export type Plan = (request: ProxiedRequest) => Fault | undefined;

export interface Count {
  requests: number;
  /** Bytes of bodies, to the server and from it. */
  sent: number;
  received: number;
  /** Answers of the server with a status of 400 or more. */
  errors: number;
  /** Requests that something was done to. */
  faults: number;
}

/** An HTTP proxy before an S3 server, that counts requests and breaks them by a plan. */
export interface BreakingProxy extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  /** May be changed at any time; holds for requests that begin from then on. */
  plan: Plan;
  /** By kind of request, since the start or the last `reset`. */
  readonly counts: ReadonlyMap<string, Readonly<Count>>;
  /** All kinds together, or those that are named. */
  total(...kinds: string[]): Count;
  /** Faults that were done, by kind. */
  readonly faults: ReadonlyMap<Fault['kind'], number>;
  reset(): void;
  /** The same `s3://` location, by way of this proxy. */
  location(location: string): string;
  close(): Promise<void>;
}

/**
 * Starts a proxy before the server at `target` (`http://host:port`). Without a plan it only counts.
 * @param host the address that it listens on
 */
export async function startBreakingProxy(
  target: string,
  plan: Plan = () => undefined,
  host = '127.0.0.1',
): Promise<BreakingProxy> {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 });
  const counts = new Map<string, Count>();
  const faults = new Map<Fault['kind'], number>();
  const { hostname, port } = new URL(target);

  const server = createServer((request, response) => {
    const asked = describeRequest(request);
    const count = counts.get(asked.kind) ?? noCount();
    counts.set(asked.kind, count);
    count.requests += 1;
    const fault = proxy.plan(asked);
    if (fault !== undefined) {
      count.faults += 1;
      faults.set(fault.kind, (faults.get(fault.kind) ?? 0) + 1);
    }
    const forward = () =>
      new Promise<IncomingMessage>((resolve, reject) => {
        // The client's Host stays: it is signed.
        const headers = pairs(request.rawHeaders).filter(([name]) => !HOP.has(name.toLowerCase()));
        const onward = httpRequest({
          agent,
          hostname,
          port,
          method: request.method,
          path: request.url,
          headers: headers.flat(),
        });
        onward.once('response', resolve);
        onward.on('error', reject);
        let sent = 0;
        request.on('data', (bytes: Buffer) => {
          count.sent += bytes.length;
          sent += bytes.length;
          if (fault?.kind === 'cut-upload' && sent >= fault.after) {
            onward.destroy();
            request.socket.resetAndDestroy();
          } else if (!onward.write(bytes)) {
            request.pause();
            onward.once('drain', () => request.resume());
          }
        });
        request.once('end', () => onward.end());
        request.once('error', () => onward.destroy());
        // The client went away: so does what was asked for it.
        response.once('close', () => {
          if (!response.writableFinished && !asked.conditional) onward.destroy();
        });
      });
    serve({ request, response, fault, count, forward }).catch(() => response.destroy());
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, host);
  await once(server, 'listening');
  const endpoint = `http://${host}:${(server.address() as AddressInfo).port}`;

  const proxy: BreakingProxy = {
    endpoint,
    plan,
    counts,
    total: (...kinds) => {
      const sum = noCount();
      for (const [kind, count] of counts) {
        if (kinds.length > 0 && !kinds.includes(kind)) continue;
        for (const name of Object.keys(sum) as (keyof Count)[]) sum[name] += count[name];
      }
      return sum;
    },
    faults,
    reset: () => {
      counts.clear();
      faults.clear();
    },
    location: (location) => {
      const [place, query] = location.split('?') as [string, string];
      const parameters = query.split('&').filter((pair) => !pair.startsWith('endpoint='));
      return `${place}?${[`endpoint=${endpoint}`, ...parameters].join('&')}`;
    },
    close: async () => {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      agent.destroy();
      await closed;
    },
    [Symbol.asyncDispose]: () => proxy.close(),
  };
  return proxy;
}

/** Faults for one request in so many, any of `kinds`, repeatable by the seed of `random`. Retries can end them. */
export function randomFaults(
  random: Random,
  { every, kinds }: { every: number; kinds: readonly Fault['kind'][] },
): Plan {
  return ({ kind, conditional, headers }) => {
    if (!random.oneIn(every)) return undefined;
    const fault = random.pick(kinds);
    const after = random.oneIn(3) ? random.below(200) : random.below(300_000);
    // What is lost after it was done is worth the most on a conditional write.
    if (conditional && random.oneIn(2) && kinds.includes('lose-answer')) return { kind: 'lose-answer' };
    if (fault === 'latency') return { kind: fault, milliseconds: random.below(60) };
    if (fault === 'wrong-range') return 'range' in headers ? { kind: fault, shift: 1 + random.below(5000) } : undefined;
    if (fault === 'flip') return kind === 'GetObject' ? { kind: fault, at: after } : undefined;
    if (fault === 'shorten') return kind === 'GetObject' ? { kind: fault, after } : undefined;
    if (fault === 'cut-upload' || fault === 'reset' || fault === 'truncate' || fault === 'stall')
      return { kind: fault, after };
    return { kind: fault };
  };
}

/** The fault for the first `times` requests of these kinds, after `skip` of them; then nothing. */
export function faultsFor(
  kinds: string | readonly string[] | ((request: ProxiedRequest) => boolean),
  fault: Fault,
  { times = 1, skip = 0 }: { times?: number; skip?: number } = {},
): Plan {
  const matches = typeof kinds === 'function' ? kinds : ({ kind }: ProxiedRequest) => [kinds].flat().includes(kind);
  let seen = 0;
  return (request) => {
    if (!matches(request)) return undefined;
    seen += 1;
    return seen > skip && seen <= skip + times ? fault : undefined;
  };
}

/** The first of `plans` that has a fault for a request. */
export function firstOf(...plans: readonly Plan[]): Plan {
  return (request) => {
    for (const plan of plans) {
      const fault = plan(request);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

/** Headers that are a connection's own. `expect` is answered by this proxy itself. */
const HOP = new Set(['connection', 'keep-alive', 'expect', 'proxy-connection']);

interface Served {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly fault: Fault | undefined;
  readonly count: Count;
  forward(): Promise<IncomingMessage>;
}

async function serve({ request, response, fault, count, forward }: Served): Promise<void> {
  const reset = () => request.socket.resetAndDestroy();
  switch (fault?.kind) {
    case 'error':
      return await answerError(request, response, 500, 'InternalError');
    case 'slow-down':
      return await answerError(request, response, 503, 'SlowDown');
    case 'refuse':
      reset();
      return;
    case 'latency':
      await sleep(fault.milliseconds);
  }
  const answer = await forward();
  const status = answer.statusCode as number;
  if (status >= 400) count.errors += 1;
  if (fault?.kind === 'lose-answer' || fault?.kind === 'silence') {
    // All of the answer: then the server has surely done it.
    for await (const bytes of answer) count.received += (bytes as Buffer).length;
    if (fault.kind === 'lose-answer') reset();
    return;
  }
  const length = Number(answer.headers['content-length'] ?? Number.NaN);
  const headers = pairs(answer.rawHeaders).filter(([name]) => !HOP.has(name.toLowerCase()));
  let left = Number.POSITIVE_INFINITY;
  if (fault !== undefined && 'after' in fault && fault.kind !== 'cut-upload') {
    left = Number.isNaN(length) ? fault.after : Math.min(fault.after, Math.max(0, length - 1));
  }
  if (fault?.kind === 'shorten') setHeader(headers, 'content-length', String(Math.min(left, length)));
  if (fault?.kind === 'wrong-range') shiftRange(headers, fault.shift);
  response.writeHead(status, headers.flat());
  response.flushHeaders();
  let seen = 0;
  for await (const bytes of answer as AsyncIterable<Buffer>) {
    count.received += bytes.length;
    if (fault?.kind === 'flip' && fault.at >= seen && fault.at < seen + bytes.length) bytes[fault.at - seen]! ^= 1;
    seen += bytes.length;
    const part = bytes.subarray(0, left);
    left -= part.length;
    if (part.length > 0) await written(response, part);
    if (left === 0 || response.destroyed) break;
  }
  switch (left === 0 ? fault?.kind : undefined) {
    case 'reset':
      reset();
      return;
    case 'truncate':
      response.socket?.end();
      return;
    case 'stall':
      return;
  }
  response.end();
}

/** The bytes are with the kernel, so that no reset can overtake them. */
function written(response: ServerResponse, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    response.once('close', resolve);
    response.write(bytes, () => {
      response.off('close', resolve);
      resolve();
    });
  });
}

async function answerError(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  code: string,
): Promise<void> {
  for await (const _ of request);
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>The proxy of the tests says so.</Message></Error>`;
  response.writeHead(status, { 'content-type': 'application/xml', 'content-length': Buffer.byteLength(body) });
  response.end(request.method === 'HEAD' ? undefined : body);
}

function shiftRange(headers: [string, string][], shift: number): void {
  const found = headers.find(([name]) => name.toLowerCase() === 'content-range');
  const match = /^bytes (\d+)-(\d+)\/(.*)$/.exec(found?.[1] ?? '');
  if (match === null) return;
  const [, first, last, size] = match;
  setHeader(headers, 'content-range', `bytes ${Number(first) + shift}-${Number(last) + shift}/${size}`);
}

function setHeader(headers: [string, string][], name: string, value: string): void {
  const found = headers.find(([each]) => each.toLowerCase() === name);
  if (found === undefined) headers.push([name, value]);
  else found[1] = value;
}

function pairs(raw: readonly string[]): [string, string][] {
  return Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i]!, raw[2 * i + 1]!]);
}

function noCount(): Count {
  return { requests: 0, sent: 0, received: 0, errors: 0, faults: 0 };
}

function describeRequest({ method = 'GET', url = '/', headers }: IncomingMessage): ProxiedRequest {
  const { pathname, searchParams: query } = new URL(url, 'http://proxy');
  const path = decodeURIComponent(pathname);
  const conditional = method !== 'GET' && method !== 'HEAD' && ('if-match' in headers || 'if-none-match' in headers);
  return { kind: kindOf(method, path, query, headers), method, path, query, headers, conditional };
}

function kindOf(method: string, path: string, query: URLSearchParams, headers: IncomingHttpHeaders): string {
  if (path.split('/').filter((part) => part !== '').length < 2) {
    if (query.has('versions')) return 'ListObjectVersions';
    if (query.has('uploads')) return 'ListMultipartUploads';
    if (query.has('delete')) return 'DeleteObjects';
    if (query.has('versioning')) return `${method === 'PUT' ? 'Put' : 'Get'}BucketVersioning`;
    if (method === 'GET') return query.get('list-type') === '2' ? 'ListObjectsV2' : 'ListObjects';
    return `${method} bucket`;
  }
  if (method === 'POST' && query.has('uploads')) return 'CreateMultipartUpload';
  if (method === 'POST' && query.has('uploadId')) return 'CompleteMultipartUpload';
  if (method === 'PUT' && query.has('partNumber')) return 'UploadPart';
  if (method === 'DELETE' && query.has('uploadId')) return 'AbortMultipartUpload';
  if (method === 'PUT' && 'x-amz-copy-source' in headers) return 'CopyObject';
  const names: Record<string, string> = {
    GET: 'GetObject',
    HEAD: 'HeadObject',
    PUT: 'PutObject',
    DELETE: 'DeleteObject',
  };
  return names[method] ?? `${method} object`;
}

/* As a program, `breaking-proxy.ts TARGET` only counts: it prints its endpoint, and for each line on stdin the counts so far. */
if (import.meta.main) {
  const proxy = await startBreakingProxy(process.argv[2]!);
  process.stdout.write(`${proxy.endpoint}\n`);
  for await (const _ of process.stdin) {
    process.stdout.write(`${JSON.stringify(Object.fromEntries(proxy.counts))}\n`);
    proxy.reset();
  }
  await proxy.close();
}
