import { Counter, Gauge, type Registry } from 'prom-client';
import type { NodeState } from './state.ts';

/** Sets the series of what the daemon holds and does, when somebody asks for them. */
export type StateMetrics = (state: NodeState) => void;

/** How a lookup in the ring ended; which of them there are is the ring's matter. */
const RING_OUTCOMES = ['ready', 'absent', 'streamed', 'known', 'failed', 'expired', 'interrupted'] as const;

/** @param registry where the series belong */
export function createStateMetrics(registry: Registry): StateMetrics {
  const registers = [registry];
  const setters: StateMetrics[] = [];

  const gauge = (name: string, help: string, read: (state: NodeState) => number | undefined) => {
    const made = new Gauge({ name, help, registers });
    setters.push((state) => {
      const value = read(state);
      // What there is not has no series, rather than one that says 0.
      if (value === undefined) made.remove({});
      else made.set(value);
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
    'larder_hydrate_reads',
    'How many packs and large files are read at a time at most: it follows what that brings',
    ({ hydrator }) => hydrator.reads,
  );
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
  counter(
    'larder_ring_carried_total',
    'Requests that had waited for an earlier daemon or the keeper, and had only the rest of their deadline',
    ({ ring }) => ring.carried,
  );
  counter(
    'larder_ring_last_chances_total',
    'Of them, those that had so little left that they were given a last chance',
    ({ ring }) => ring.lastChances,
  );

  counter('larder_ring_reads_total', 'Reads of files that the ring gave out', ({ ring }) =>
    sum(ring.reads, ring.blockReads),
  );
  counter('larder_ring_read_bytes_total', 'Bytes that readers got of them', ({ ring }) =>
    sum(ring.readBytes, ring.blockBytes),
  );
  counter('larder_ring_failed_reads_total', 'Reads of them that ended with EIO', ({ ring }) =>
    sum(ring.readsFailed, ring.readsExpired),
  );
  counter('larder_ring_opens_total', 'Opens of files that the ring gave out', ({ ring }) => ring.opens);
  counter(
    'larder_ring_passed_opens_total',
    'Of them, those that the kernel reads by itself, from a file of the cache',
    ({ ring }) => ring.passedOpens,
  );

  gauge('larder_stream_open_files', 'Objects that are open and not whole in the cache', ({ streams }) => streams.open);
  gauge(
    'larder_stream_memory_files',
    'Of them, those that the disk has no room for',
    ({ streams }) => streams.inMemory,
  );
  gauge('larder_stream_disk_bytes', 'What partial files take of the disk', ({ streams }) => streams.diskBytes);
  gauge('larder_stream_memory_bytes', 'What pieces take of the memory', ({ streams }) => streams.memoryBytes);
  gauges(
    'larder_stream_queued',
    'Pieces that are not asked for yet, by priority: somebody waits, read ahead',
    'priority',
    ({ streams }) => ({ ...streams.fetches.queued }),
  );
  gauge('larder_stream_running', 'Pieces that are being fetched', ({ streams }) => streams.fetches.running);
  gauge('larder_stream_in_flight_bytes', 'Size of them', ({ streams }) => streams.fetches.bytesInFlight);

  gauge('larder_cache_objects', 'Objects in the cache', ({ cache }) => cache.objects);
  gauge('larder_cache_bytes', 'Size of the objects in the cache', ({ cache }) => cache.bytes);
  gauge('larder_cache_disk_bytes', "Size of the cache's file system", ({ cache }) => cache.diskBytes);
  gauge('larder_cache_disk_free_bytes', 'What may still be written to it', ({ cache }) => cache.diskFreeBytes);

  gauge('larder_cache_held_bytes', "What the cache's directory takes of the disk", ({ capacity }) => capacity.held);
  gauge(
    'larder_cache_limit_bytes',
    'What it may take, where LARDER_CACHE_LIMIT says so',
    ({ capacity }) => capacity.limit,
  );
  gauge('larder_cache_min_free_bytes', 'What must stay free of the disk', ({ capacity }) => capacity.minFree);
  gauge(
    'larder_cache_room_bytes',
    'What may still be written; negative where there is too much',
    ({ capacity }) => capacity.room,
  );
  gauge('larder_cache_evicting', '1 while room is being made', ({ capacity }) => Number(capacity.evicting));

  counter('larder_scrub_objects_total', 'Objects that the scrub has read', ({ scrub }) => scrub?.objects);
  counter('larder_scrub_bytes_total', 'Bytes that it has read', ({ scrub }) => scrub?.bytes);
  gauge('larder_scrub_pace_bytes_per_second', 'How fast it may read', ({ scrub }) => scrub?.rate);
  gauge(
    'larder_scrub_oldest_check_timestamp_seconds',
    'When the object was last checked, or came, that comes next',
    ({ scrub }) => scrub?.oldest && scrub.oldest / 1000,
  );

  gauge('larder_neighbours', 'Nodes in the list, this one among them', ({ neighbours }) => neighbours?.nodes.length);
  gauge(
    'larder_neighbours_passed_over',
    'Of them, those that are not asked for a while',
    ({ neighbours }) => neighbours?.passedOver.length,
  );
  counter('larder_neighbour_sent_bytes_total', 'Bytes given to neighbours', ({ neighbours }) => neighbours?.sent);
  counter(
    'larder_neighbour_served_total',
    'Requests of neighbours that got an object',
    ({ neighbours }) => neighbours?.served,
  );
  counter(
    'larder_neighbour_refused_total',
    'Requests of neighbours that were sent to the bucket',
    ({ neighbours }) => neighbours?.refused,
  );
  gauge(
    'larder_neighbour_active',
    'Requests of neighbours that are being answered',
    ({ neighbours }) => neighbours?.active,
  );
  gauge(
    'larder_neighbour_store_bytes',
    'What is kept on the disk for neighbours',
    ({ neighbours }) => neighbours?.store.bytes,
  );
  gauge('larder_neighbour_store_objects', 'Packs and segments among it', ({ neighbours }) => neighbours?.store.objects);
  gauge('larder_neighbour_store_limit_bytes', 'What it may take', ({ neighbours }) => neighbours?.store.limit);

  gauge('larder_keeper_connected', '1 while a keeper holds the ring', ({ keeper }) => (keeper ? 1 : 0));
  gauges('larder_volumes', 'Volumes that are staged, by kind', 'kind', ({ volumes }) => volumes);
  gauge('larder_staged_versions', 'Versions that are staged', ({ stagedVersions }) => stagedVersions);

  counters('larder_saves_total', 'Saves of workspaces, by how they ended', ['outcome'], ({ saves }) =>
    Object.entries(saves?.saves ?? {}).map(([outcome, value]) => ({ labels: { outcome }, value })),
  );
  counter('larder_save_seconds_total', 'Time that saves took', ({ saves }) => saves && saves.milliseconds / 1000);
  gauges(
    'larder_save_workspaces',
    'Workspaces with a record, by what becomes of their changes',
    'state',
    ({ saves }) =>
      saves === undefined
        ? ({} as Values)
        : { staged: saves.staged, unsaved: saves.unsaved, failing: saves.failing, fenced: saves.fenced },
  );
  gauge(
    'larder_save_lag_seconds',
    'How old a change may be that is not saved',
    ({ saves }) => saves && saves.lag / 1000,
  );

  gauge(
    'larder_snapshots_pending',
    'Snapshots whose content is on this node only, still',
    ({ snapshots }) => snapshots?.pending,
  );

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

/** Of what there is. */
function sum(...counts: readonly (number | undefined)[]): number {
  return counts.reduce<number>((total, count) => total + (count ?? 0), 0);
}
