import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CacheEvents, subscribe } from '../cache/events.ts';
import type { LogFields } from './log.ts';

/** Traces of misses, sent to a collector. */
export interface Tracing extends AsyncDisposable {
  /** Sends what is not sent yet. */
  flush(): Promise<void>;
}

export interface TracingOptions {
  /** The cache's directory: misses of another are not ours. */
  readonly cache: string;
  /** What is known of a version: its dataset, its volumes. */
  readonly about: (version: string) => LogFields;
  /** Larder's own. */
  readonly version: string;
  /** The share of misses that is traced: 1 is all of them. */
  readonly ratio?: number;
}

/** How long the end waits for what is not sent yet, in milliseconds. */
const LAST_WORDS = 2_000;

type Variables = Readonly<Record<string, string | undefined>>;

/** Whether somebody collects traces: OpenTelemetry's own variables say so. Its exporter reads the others of them. */
export function wantsTraces(env: Variables): boolean {
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === 'true' || env.OTEL_TRACES_EXPORTER === 'none') return false;
  return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT);
}

/**
 * A span for each miss, from the open to its end, with one for each part that the miss has come to: `locate`, `queue`, `bring`. They
 * are made when the miss has ended, of the times that it noted: nothing is done while somebody waits. The libraries are loaded here.
 */
export async function startTracing({ cache, about, version, ratio = 1 }: TracingOptions): Promise<Tracing> {
  const [{ SpanKind, SpanStatusCode, trace, ROOT_CONTEXT }, sdk, { OTLPTraceExporter }, resources] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ]);
  const own = { 'service.name': 'larder', 'service.version': version, 'host.name': hostname() };
  // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
  const said = resources.detectResources({ detectors: [resources.envDetector] });
  const provider = new sdk.TracerProvider({
    resource: resources.resourceFromAttributes(own).merge(said),
    sampler: new sdk.TraceIdRatioBasedSampler(ratio),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  });
  const tracer = provider.getTracer('larder', version);

  const record = (miss: CacheEvents['missed']) => {
    const { dataset, volume } = miss.version === undefined ? {} : about(miss.version);
    const attributes = {
      'larder.object': miss.id,
      'larder.outcome': miss.outcome,
      'larder.repository': miss.repository,
      'larder.version': miss.version,
      'larder.dataset': dataset,
      'larder.volume': volume,
      'larder.bytes': miss.bytes,
    };
    const span = tracer.startSpan(
      'miss',
      { kind: SpanKind.SERVER, startTime: epochOf(miss.began), attributes },
      ROOT_CONTEXT,
    );
    if (!span.isRecording()) return;
    const context = trace.setSpan(ROOT_CONTEXT, span);
    for (const { name, from, to } of partsOf(miss)) {
      tracer.startSpan(name, { startTime: epochOf(from) }, context).end(epochOf(to));
    }
    if (miss.outcome === 'failed') {
      const message = miss.error instanceof Error ? miss.error.message : String(miss.error);
      span.setStatus({ code: SpanStatusCode.ERROR, message });
    }
    span.end(epochOf(miss.ended));
  };
  const end = subscribe('missed', (miss) => {
    if (miss.cache === cache) record(miss);
  });

  return {
    flush: () => provider.forceFlush(),
    async [Symbol.asyncDispose]() {
      end();
      // A collector that is away must not hold up a daemon that was told to end.
      await Promise.race([provider.shutdown(), sleep(LAST_WORDS, undefined, { ref: false })]);
    },
  };
}

/** The parts of a miss, one after the other; the last one that it came to lasts until its end. */
function partsOf({ began, located, started, ended }: CacheEvents['missed']) {
  const queued = located ?? began;
  return [
    { name: 'locate', from: began, to: located ?? started ?? ended },
    ...(located === undefined ? [] : [{ name: 'queue', from: located, to: started ?? ended }]),
    ...(started === undefined ? [] : [{ name: 'bring', from: Math.max(queued, started), to: ended }]),
  ];
}

/** Milliseconds since 1970. */
function epochOf(mark: number): number {
  return performance.timeOrigin + mark;
}
