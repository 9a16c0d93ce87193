import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { afterEach, expect, it, vi } from 'vitest';
import { type CacheEvents, publish } from '../cache/events.ts';
import type { Digest } from '../dataset/digest.ts';
import { startTracing, wantsTraces } from './trace.ts';

const cache = '/cache';
const id = 'aa'.padEnd(64, '0') as Digest;
const version = 'bb'.padEnd(64, '0') as Digest;

interface Span {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code: number; readonly message?: string };
}

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number | string };
}

interface TraceRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[];
  }[];
}

const ends: (() => unknown)[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const end of ends.splice(0).reverse()) await end();
});

/** A collector: what OTLP over HTTP is sent to. */
async function collector() {
  const requests: { readonly path: string; readonly body: TraceRequest }[] = [];
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    requests.push({ path: request.url!, body: JSON.parse(Buffer.concat(parts).toString('utf8')) });
    response.setHeader('content-type', 'application/json');
    response.end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => server.close());
  return { requests, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

function miss(more: Partial<CacheEvents['missed']> = {}) {
  publish('missed', { cache, id, version, outcome: 'ready', began: 1000, ended: 1080, bytes: 110_000, ...more });
}

const attribute = (attributes: readonly Attribute[], key: string) => {
  const value = attributes.find((one) => one.key === key)?.value;
  return value?.stringValue ?? value?.intValue;
};
const milliseconds = (span: Span) => Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)) / 1e6;

it('sends a miss as a span with its parts, to the collector that the environment names', async () => {
  const { requests, url } = await collector();
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', url);
  vi.stubEnv('OTEL_RESOURCE_ATTRIBUTES', 'k8s.node.name=gpu-7');
  const about = () => ({ dataset: 'emoji', volume: 'pvc-7' });
  const tracing = await startTracing({ cache, about, version: '1.2.3' });
  ends.push(() => tracing[Symbol.asyncDispose]());
  miss({ located: 1010, started: 1030 });
  miss({ cache: '/another' });
  await tracing.flush();

  const [{ path, body }] = requests as [(typeof requests)[number]];
  expect(path).toBe('/v1/traces');
  const { resource, scopeSpans } = body.resourceSpans[0]!;
  expect(attribute(resource.attributes, 'service.name')).toBe('larder');
  expect(attribute(resource.attributes, 'service.version')).toBe('1.2.3');
  expect(attribute(resource.attributes, 'host.name')).toBe(hostname());
  expect(attribute(resource.attributes, 'k8s.node.name')).toBe('gpu-7');

  const spans = scopeSpans.flatMap((scope) => scope.spans);
  const root = spans.find(({ name }) => name === 'miss')!;
  expect(spans).toHaveLength(4);
  expect(root.parentSpanId).toBeFalsy();
  expect(attribute(root.attributes, 'larder.object')).toBe(id);
  expect(attribute(root.attributes, 'larder.dataset')).toBe('emoji');
  expect(attribute(root.attributes, 'larder.volume')).toBe('pvc-7');
  expect(Number(attribute(root.attributes, 'larder.bytes'))).toBe(110_000);
  expect(milliseconds(root)).toBeCloseTo(80, 1);
  // Marks of performance.now() become times of the day.
  expect(Number(BigInt(root.startTimeUnixNano) / 1_000_000n)).toBeCloseTo(performance.timeOrigin + 1000, -1);

  const parts = spans.filter(({ parentSpanId }) => parentSpanId === root.spanId);
  expect(parts.map(({ name, traceId }) => [name, traceId])).toEqual([
    ['locate', root.traceId],
    ['queue', root.traceId],
    ['bring', root.traceId],
  ]);
  expect(parts.map((span) => Math.round(milliseconds(span)))).toEqual([10, 20, 50]);
});

it('has an error for a miss that failed, and only the parts that it came to', async () => {
  const { requests, url } = await collector();
  vi.stubEnv('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', `${url}/custom`);
  const tracing = await startTracing({ cache, about: () => ({}), version: '1' });
  ends.push(() => tracing[Symbol.asyncDispose]());
  miss({ outcome: 'failed', error: new Error('the bucket is away'), located: 1010, ended: 61_000 });
  await tracing.flush();
  expect(requests[0]?.path).toBe('/custom');
  const spans = requests[0]!.body.resourceSpans[0]!.scopeSpans.flatMap((scope) => scope.spans);
  expect(spans.map(({ name }) => name).sort()).toEqual(['locate', 'miss', 'queue']);
  expect(spans.find(({ name }) => name === 'miss')?.status).toEqual({ code: 2, message: 'the bucket is away' });
});

it('traces a share of all misses where that is enough', async () => {
  const { requests, url } = await collector();
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', url);
  const tracing = await startTracing({ cache, about: () => ({}), version: '1', ratio: 0.1 });
  ends.push(() => tracing[Symbol.asyncDispose]());
  for (let time = 0; time < 500; time += 1) miss();
  await tracing.flush();
  const spans = requests.flatMap(({ body }) => body.resourceSpans[0]!.scopeSpans.flatMap((scope) => scope.spans));
  const misses = spans.filter(({ name }) => name === 'miss').length;
  expect(misses).toBeGreaterThan(10);
  expect(misses).toBeLessThan(120);
});

it('is wanted where OpenTelemetry says where to, and not otherwise', () => {
  expect(wantsTraces({})).toBe(false);
  expect(wantsTraces({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' })).toBe(true);
  expect(wantsTraces({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://collector:4318/v1/traces' })).toBe(true);
  expect(wantsTraces({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318', OTEL_SDK_DISABLED: 'true' })).toBe(false);
});
