import type { MountedVolume, NodeStats } from '../../node/protocol.ts';
import {
  type DatasetStats,
  type Distribution,
  OUTCOMES,
  type Outcome,
  SOURCES,
  type Source,
} from '../../node/stats-types.ts';

/** What a node did in a span of time, and how it is at the end of it. Field names are stable. */
export interface TopReport {
  /** ISO 8601, the end of the span. */
  readonly at: string;
  /** The span's length. */
  readonly seconds: number;
  readonly uptimeSeconds: number;
  readonly process: { readonly residentBytes: number; readonly cpuPercent: number };
  readonly health: NodeStats['health'];
  readonly datasets: readonly DatasetReport[];
  readonly fetched: Readonly<Record<Source, FetchReport>>;
  readonly streamedBytesPerSecond: number;
  readonly evictedBytesPerSecond: number;
  /** In the span. */
  readonly damaged: number;
  readonly healed: number;
  readonly state: NodeStats['state'];
  readonly volumes: readonly MountedVolume[];
}

export interface DatasetReport {
  readonly dataset: string;
  /** In the span. */
  readonly misses: Readonly<Record<Outcome, number>>;
  readonly missesPerSecond: number;
  /** Of objects that were waited for. */
  readonly bytesPerSecond: number;
  /** How long opens waited; absent where none did. */
  readonly waitSeconds?: { readonly median: number; readonly p99: number };
}

export interface FetchReport {
  readonly bytesPerSecond: number;
  readonly readsPerSecond: number;
  /** In the span. */
  readonly failed: number;
}

/**
 * @param before an earlier answer of the daemon; without it, or where the daemon was started anew since, the span is the daemon's whole
 * life
 */
export function topReport(now: NodeStats, before?: NodeStats): TopReport {
  const first = before !== undefined && before.uptimeSeconds <= now.uptimeSeconds ? before : undefined;
  const seconds = Math.max(0.001, now.uptimeSeconds - (first?.uptimeSeconds ?? 0));
  const { counts } = now;
  const grown = (read: (stats: NodeStats) => number) => read(now) - (first === undefined ? 0 : read(first));
  const rate = (read: (stats: NodeStats) => number) => grown(read) / seconds;
  return {
    at: new Date(now.at).toISOString(),
    seconds,
    uptimeSeconds: now.uptimeSeconds,
    process: {
      residentBytes: now.process.residentBytes,
      cpuPercent: 100 * rate(({ process }) => process.cpuSeconds),
    },
    health: now.health,
    datasets: counts.datasets.map((dataset) =>
      datasetReport(
        dataset,
        first?.counts.datasets.find((one) => one.dataset === dataset.dataset),
        seconds,
      ),
    ),
    fetched: record(SOURCES, (source) => ({
      bytesPerSecond: rate(({ counts }) => counts.fetched[source].bytes),
      readsPerSecond: rate(({ counts }) => counts.fetched[source].reads),
      failed: grown(({ counts }) => counts.fetched[source].failed),
    })),
    // The reading threads give many of them, and publish no events.
    streamedBytesPerSecond: rate(({ state: { ring } }) => (ring.readBytes ?? 0) + (ring.blockBytes ?? 0)),
    evictedBytesPerSecond: rate(({ counts }) => counts.evictedBytes),
    damaged: grown(({ counts }) => counts.damaged),
    healed: grown(({ counts }) => counts.healed),
    state: now.state,
    volumes: now.volumes,
  };
}

function datasetReport(now: DatasetStats, before: DatasetStats | undefined, seconds: number): DatasetReport {
  const misses = record(OUTCOMES, (outcome) => now.misses[outcome] - (before?.misses[outcome] ?? 0));
  const waits = since(now.waits, before?.waits);
  return {
    dataset: now.dataset,
    misses,
    missesPerSecond: Object.values(misses).reduce((sum, count) => sum + count) / seconds,
    bytesPerSecond: (now.bytes - (before?.bytes ?? 0)) / seconds,
    ...(waits.counts.some((count) => count > 0) && {
      waitSeconds: { median: quantile(waits, 0.5), p99: quantile(waits, 0.99) },
    }),
  };
}

function since(now: Distribution, before: Distribution | undefined): Distribution {
  if (before === undefined) return now;
  return {
    bounds: now.bounds,
    counts: now.counts.map((count, at) => count - before.counts[at]!),
    sum: now.sum - before.sum,
  };
}

/** As Prometheus guesses it: evenly spread between the bounds of the bucket in which it lies; above the last bound, that. */
export function quantile({ bounds, counts }: Distribution, share: number): number {
  const rank = share * counts.reduce((sum, count) => sum + count, 0);
  let below = 0;
  for (const [at, count] of counts.entries()) {
    if (below + count < rank || count === 0) {
      below += count;
      continue;
    }
    const from = bounds[at - 1] ?? 0;
    const to = bounds[at] ?? from;
    return from + ((to - from) * (rank - below)) / count;
  }
  return bounds.at(-1) ?? 0;
}

function record<K extends string, V>(keys: readonly K[], make: (key: K) => V): Record<K, V> {
  return Object.fromEntries(keys.map((key) => [key, make(key)])) as Record<K, V>;
}
