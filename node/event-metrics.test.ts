import { Registry } from 'prom-client';
import { afterEach, expect, it } from 'vitest';
import { type CacheEvents, publish } from '../cache/events.ts';
import type { Digest } from '../dataset/digest.ts';
import { createEventMetrics, type EventMetrics } from './event-metrics.ts';

const id = 'aa'.padEnd(64, '0') as Digest;
const versionOf = (dataset: string) => dataset.padEnd(64, '0') as Digest;
const cache = '/cache';

let metrics: EventMetrics | undefined;
afterEach(() => metrics?.[Symbol.dispose]());

function start(datasets?: number) {
  const registry = new Registry();
  const datasetOf = (version: string) => version.replace(/0+$/, '') || undefined;
  const made = createEventMetrics({ registry, cache, datasetOf, datasets });
  metrics = made;
  const lines = async () => (await registry.metrics()).split('\n');
  return { metrics: made, lines };
}

function missed(dataset: string, outcome: CacheEvents['missed']['outcome'], seconds: number, more: object = {}) {
  const began = 5_000;
  publish('missed', { cache, id, version: versionOf(dataset), outcome, began, ended: began + seconds * 1000, ...more });
}

it('counts misses by dataset and outcome, and how long they took', async () => {
  const { metrics, lines } = start();
  missed('emoji', 'ready', 0.02, { bytes: 1000, located: 5_005, started: 5_015 });
  missed('emoji', 'ready', 0.4, { bytes: 500 });
  missed('emoji', 'failed', 60);
  missed('birds', 'stream', 0.003);
  expect(await lines()).toEqual(
    expect.arrayContaining([
      'larder_misses_total{dataset="emoji",outcome="ready"} 2',
      'larder_misses_total{dataset="emoji",outcome="failed"} 1',
      'larder_misses_total{dataset="birds",outcome="abandoned"} 0',
      'larder_missed_bytes_total{dataset="emoji"} 1500',
      'larder_miss_wait_seconds_bucket{le="0.025",dataset="emoji"} 1',
      'larder_miss_wait_seconds_bucket{le="0.5",dataset="emoji"} 2',
      'larder_miss_wait_seconds_count{dataset="emoji"} 3',
      'larder_miss_phase_seconds_sum{phase="locate"} 0.005',
      'larder_miss_phase_seconds_sum{phase="queue"} 0.01',
      'larder_miss_phase_seconds_sum{phase="bring"} 0.005',
    ]),
  );
  const { datasets } = await metrics.counts();
  expect(datasets.map(({ dataset }) => dataset)).toEqual(['birds', 'emoji']);
  expect(datasets[1]).toMatchObject({ misses: { ready: 2, failed: 1, absent: 0 }, bytes: 1500 });
  const { bounds, counts, sum } = datasets[1]!.waits;
  expect(sum).toBeCloseTo(60.42);
  expect(counts).toHaveLength(bounds.length + 1);
  expect([counts[bounds.indexOf(0.025)], counts[bounds.indexOf(0.5)], counts[bounds.indexOf(60)]]).toEqual([1, 1, 1]);
});

it('counts what was read, from where', async () => {
  const { metrics } = start();
  const read = { cache, repository: 'r', milliseconds: 12, failed: false };
  publish('fetched', { ...read, from: 'bucket', bytes: 100 });
  publish('fetched', { ...read, from: 'bucket', bytes: 11, failed: true });
  publish('fetched', { ...read, from: 'neighbour', bytes: 7 });
  publish('streamed', { cache, id, bytes: 3 });
  publish('evicted', { cache, objects: 2, bytes: 20 });
  publish('damaged', { cache, id, by: 'scrub' });
  publish('healed', { cache, id });
  expect(await metrics.counts()).toEqual({
    datasets: [],
    fetched: {
      bucket: { reads: 2, failed: 1, bytes: 111 },
      neighbour: { reads: 1, failed: 0, bytes: 7 },
      source: { reads: 0, failed: 0, bytes: 0 },
    },
    streamedBytes: 3,
    evictedObjects: 2,
    evictedBytes: 20,
    damaged: 1,
    healed: 1,
  });
});

it('has series of its own for so many datasets and no more', async () => {
  const { metrics } = start(2);
  for (const dataset of ['one', 'two', 'three', 'four', 'one']) missed(dataset, 'ready', 1);
  const { datasets } = await metrics.counts();
  expect(datasets.map(({ dataset, misses }) => [dataset, misses.ready])).toEqual([
    ['one', 2],
    ['other', 2],
    ['two', 1],
  ]);
});

it('hears nothing of other caches, and nothing after its end', async () => {
  const { metrics } = start();
  publish('streamed', { cache: '/another', id, bytes: 3 });
  metrics[Symbol.dispose]();
  publish('streamed', { cache, id, bytes: 3 });
  expect((await metrics.counts()).streamedBytes).toBe(0);
});
