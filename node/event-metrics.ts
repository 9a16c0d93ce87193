import { Counter, Histogram, type Registry } from 'prom-client';
import { type CacheEvent, type CacheEvents, subscribe } from '../cache/events.ts';
import { boundedLabel } from './bounded-label.ts';
import { distributionOf, samplesOf, sumOf } from './samples.ts';
import { type DatasetStats, type EventCounts, OUTCOMES, SOURCES } from './stats-types.ts';

export interface EventMetricsOptions {
  readonly registry: Registry;
  /** The cache's directory: events of another are not ours. */
  readonly cache: string;
  /** Which dataset a version is of, where it is known. */
  readonly datasetOf: (version: string) => string | undefined;
  /** Datasets that have series of their own; the others share those of `other`. */
  readonly datasets?: number;
}

export interface EventMetrics extends Disposable {
  counts(): Promise<EventCounts>;
}

/** From a neighbour's answer to the longest deadline that anyone sets, in seconds. */
export const WAIT_BUCKETS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Of a miss whose version nobody knows. */
const UNKNOWN = 'unknown';

const DATASETS = 100;

/** Counts what the cache tells of itself, from now on. */
export function createEventMetrics(options: EventMetricsOptions): EventMetrics {
  const { registry, cache, datasetOf, datasets = DATASETS } = options;
  const registers = [registry];
  const label = boundedLabel(datasets);

  const misses = new Counter({
    name: 'larder_misses_total',
    help: 'Opens that waited for an object that was not cached, by how the wait ended',
    labelNames: ['dataset', 'outcome'],
    registers,
  });
  const missedBytes = new Counter({
    name: 'larder_missed_bytes_total',
    help: 'Size of the objects that opens waited for and got',
    labelNames: ['dataset'],
    registers,
  });
  const waits = new Histogram({
    name: 'larder_miss_wait_seconds',
    help: 'How long an open waited for its object, however that ended',
    labelNames: ['dataset'],
    buckets: WAIT_BUCKETS,
    registers,
  });
  const phases = new Histogram({
    name: 'larder_miss_phase_seconds',
    help: 'What a miss that came took: to find where the object lies, to begin to read it, to have it in place',
    labelNames: ['phase'],
    buckets: WAIT_BUCKETS,
    registers,
  });
  const fetches = new Counter({
    name: 'larder_fetches_total',
    help: 'Reads of a repository, of a neighbour that stands for it, or of a bucket imported in place',
    labelNames: ['from', 'result'],
    registers,
  });
  const fetchedBytes = new Counter({
    name: 'larder_fetched_bytes_total',
    help: 'Bytes that came over the network or from a repository on a disk',
    labelNames: ['from'],
    registers,
  });
  const fetchTimes = new Histogram({
    name: 'larder_fetch_seconds',
    help: 'How long a read took, to its last byte',
    labelNames: ['from'],
    buckets: WAIT_BUCKETS,
    registers,
  });
  const streamedBytes = new Counter({
    name: 'larder_streamed_bytes_total',
    help: 'Bytes of objects not whole in the cache that the main thread read for the ring',
    registers,
  });
  const evictedObjects = new Counter({
    name: 'larder_evicted_objects_total',
    help: 'Objects that were removed to make room',
    registers,
  });
  const evictedBytes = new Counter({
    name: 'larder_evicted_bytes_total',
    help: 'Size of the objects that were removed to make room',
    registers,
  });
  const damaged = new Counter({
    name: 'larder_damaged_objects_total',
    help: 'Cached objects that were found damaged and put aside, by what found them',
    labelNames: ['by'],
    registers,
  });
  const healed = new Counter({
    name: 'larder_healed_objects_total',
    help: 'Damaged objects that were brought again',
    registers,
  });

  // Series that are there from the start: a rate of one that appears with its first event misses that.
  for (const from of SOURCES) {
    fetchedBytes.inc({ from }, 0);
    for (const result of ['ok', 'failed']) fetches.inc({ from, result }, 0);
  }
  for (const by of ['scrub', 'verify', 'read']) damaged.inc({ by }, 0);

  const ends: (() => void)[] = [];
  const hear = <E extends CacheEvent>(event: E, heard: (message: CacheEvents[E]) => void) => {
    ends.push(subscribe(event, (message) => message.cache === cache && heard(message)));
  };

  const seen = new Set<string>();
  const datasetLabel = (version: string | undefined) => {
    const dataset = label((version === undefined ? undefined : datasetOf(version)) ?? UNKNOWN);
    if (!seen.has(dataset)) {
      seen.add(dataset);
      missedBytes.inc({ dataset }, 0);
      for (const outcome of OUTCOMES) misses.inc({ dataset, outcome }, 0);
    }
    return dataset;
  };

  hear('missed', ({ version, outcome, bytes = 0, began, located, started, ended }) => {
    const dataset = datasetLabel(version);
    misses.inc({ dataset, outcome });
    waits.observe({ dataset }, (ended - began) / 1000);
    if (outcome !== 'ready') return;
    missedBytes.inc({ dataset }, bytes);
    if (located !== undefined) phases.observe({ phase: 'locate' }, (located - began) / 1000);
    if (located !== undefined && started !== undefined) phases.observe({ phase: 'queue' }, (started - located) / 1000);
    if (started !== undefined) phases.observe({ phase: 'bring' }, (ended - started) / 1000);
  });
  hear('fetched', ({ from, bytes, milliseconds, failed }) => {
    fetches.inc({ from, result: failed ? 'failed' : 'ok' });
    fetchedBytes.inc({ from }, bytes);
    fetchTimes.observe({ from }, milliseconds / 1000);
  });
  hear('streamed', ({ bytes }) => streamedBytes.inc(bytes));
  hear('evicted', ({ objects, bytes }) => {
    evictedObjects.inc(objects);
    evictedBytes.inc(bytes);
  });
  hear('damaged', ({ by }) => damaged.inc({ by }));
  hear('healed', () => healed.inc());

  return {
    async counts() {
      const [ofMisses, ofBytes, ofWaits, ofFetches, ofFetched] = await Promise.all([
        samplesOf(misses),
        samplesOf(missedBytes),
        samplesOf(waits),
        samplesOf(fetches),
        samplesOf(fetchedBytes),
      ]);
      const dataset = (name: string): DatasetStats => {
        const here = { dataset: name };
        return {
          dataset: name,
          misses: record(OUTCOMES, (outcome) => sumOf(ofMisses, { ...here, outcome })),
          bytes: sumOf(ofBytes, here),
          waits: distributionOf(ofWaits, WAIT_BUCKETS, here),
        };
      };
      return {
        datasets: [...seen].sort().map(dataset),
        fetched: record(SOURCES, (from) => ({
          reads: sumOf(ofFetches, { from }),
          failed: sumOf(ofFetches, { from, result: 'failed' }),
          bytes: sumOf(ofFetched, { from }),
        })),
        streamedBytes: sumOf(await samplesOf(streamedBytes)),
        evictedObjects: sumOf(await samplesOf(evictedObjects)),
        evictedBytes: sumOf(await samplesOf(evictedBytes)),
        damaged: sumOf(await samplesOf(damaged)),
        healed: sumOf(await samplesOf(healed)),
      };
    },
    [Symbol.dispose]() {
      for (const end of ends) end();
    },
  };
}

function record<K extends string, V>(keys: readonly K[], make: (key: K) => V): Record<K, V> {
  return Object.fromEntries(keys.map((key) => [key, make(key)])) as Record<K, V>;
}
