import { Counter, Gauge, type Registry } from 'prom-client';
import type { NodeState } from './state.ts';

/** Sets the series of what the daemon holds and does, when somebody asks for them. */
export type StateMetrics = (state: NodeState) => void;

/** How a lookup in the ring ended; which of them there are is the ring's matter. */
const RING_OUTCOMES = ['ready', 'absent', 'stream', 'failed', 'expired', 'interrupted'] as const;

/** @param registry where the series belong */
export function createStateMetrics(registry: Registry): StateMetrics {
  const registers = [registry];
  const setters: StateMetrics[] = [];

  const gauge = (name: string, help: string, read: (state: NodeState) => number | undefined) => {
    const made = new Gauge({ name, help, registers });
    setters.push((state) => {
      const value = read(state);
      if (value !== undefined) made.set(value);
    });
  };
  const gauges = (name: string, help: string, label: string, valuesOf: (state: NodeState) => Values) => {
    const made = new Gauge({ name, help, labelNames: [label], registers });
    setters.push((state) => {
      for (const [value, number] of Object.entries(valuesOf(state))) made.set({ [label]: value }, number);
    });
  };
  const counter = (name: string, help: string, read: (state: NodeState) => number | undefined) => {
    const made = new Counter({ name, help, registers });
    setters.push((state) => {
      made.reset();
      made.inc(read(state) ?? 0);
    });
  };
  const counters = (
    name: string,
    help: string,
    labelNames: readonly string[],
    valuesOf: (state: NodeState) => readonly Value[],
  ) => {
    const made = new Counter({ name, help, labelNames, registers });
    setters.push((state) => {
      made.reset();
      for (const { labels, value } of valuesOf(state)) made.inc(labels, value);
    });
  };

  gauge('larder_hydrate_waiting', 'Objects that opens wait for now', ({ hydrator }) => hydrator.waiting);
  gauges(
    'larder_hydrate_queued',
    'Jobs that have not begun, by priority: somebody waits, next in an order that is being read, prefetch',
    'priority',
    ({ hydrator }) => hydrator.queued,
  );
  gauge('larder_hydrate_running', 'Jobs that read a repository now', ({ hydrator }) => hydrator.running);
  gauge(
    'larder_hydrate_in_flight_bytes',
    'What the running jobs have still to read, as far as they know',
    ({ hydrator }) => hydrator.bytesInFlight,
  );

  gauge('larder_ring_held', 'Requests of the kernel that wait for an answer now', ({ ring }) => ring.held);
  gauge('larder_ring_nodes', 'Nodes of the ring that the kernel knows now', ({ ring }) => ring.nodes);
  counters('larder_ring_lookups_total', 'Lookups of missing objects, by how they ended', ['outcome'], ({ ring }) =>
    RING_OUTCOMES.flatMap((outcome) => {
      const value = ring[outcome];
      return value === undefined ? [] : [{ labels: { outcome }, value }];
    }),
  );
  counter('larder_ring_faults_total', 'Opens that ended with EIO or EINTR', ({ ring }) => ring.faults);
  counter(
    'larder_ring_requests_total',
    'Messages of the kernel that the main thread answered',
    ({ ring }) => ring.requests,
  );
  counter('larder_ring_late_answers_total', 'Answers that the kernel no longer waited for', ({ ring }) => ring.late);

  gauge('larder_cache_objects', 'Objects in the cache', ({ cache }) => cache.objects);
  gauge('larder_cache_bytes', 'Size of the objects in the cache', ({ cache }) => cache.bytes);
  gauge('larder_cache_disk_bytes', "Size of the cache's file system", ({ cache }) => cache.diskBytes);
  gauge('larder_cache_disk_free_bytes', 'What may still be written to it', ({ cache }) => cache.diskFreeBytes);

  gauge('larder_keeper_connected', '1 while a keeper holds the ring', ({ keeper }) => (keeper ? 1 : 0));
  gauges('larder_volumes', 'Volumes that are staged, by kind', 'kind', ({ volumes }) => volumes);
  gauge('larder_staged_versions', 'Versions that are staged', ({ stagedVersions }) => stagedVersions);

  const requests = (field: 'count' | 'bytes' | 'errors' | 'retries') => (state: NodeState) =>
    Object.entries(state.requests).flatMap(([repository, kinds]) =>
      Object.entries(kinds).map(([kind, counts]) => ({ labels: { repository, kind }, value: counts[field] })),
    );
  const labels = ['repository', 'kind'];
  counters('larder_repository_requests_total', 'Requests sent to object stores', labels, requests('count'));
  counters('larder_repository_request_bytes_total', 'Of objects, sent or received', labels, requests('bytes'));
  counters('larder_repository_request_errors_total', 'Requests that failed', labels, requests('errors'));
  counters('larder_repository_request_retries_total', 'Requests sent once more', labels, requests('retries'));

  return (state) => {
    for (const set of setters) set(state);
  };
}

type Values = Readonly<Record<string, number>>;

interface Value {
  readonly labels: Values | Readonly<Record<string, string>>;
  readonly value: number;
}
