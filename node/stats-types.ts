/** A distribution: `counts[i]` values were at most `bounds[i]` (and more than the bound before); the last count is of those above all. */
export interface Distribution {
  /** In seconds, ascending. */
  readonly bounds: readonly number[];
  /** One more than there are bounds. */
  readonly counts: readonly number[];
  /** Of all values, in seconds. */
  readonly sum: number;
}

export const OUTCOMES = ['ready', 'absent', 'stream', 'failed', 'abandoned'] as const;
export type Outcome = (typeof OUTCOMES)[number];

export const SOURCES = ['bucket', 'neighbour', 'source'] as const;
export type Source = (typeof SOURCES)[number];

/** Opens of one dataset that waited for an object, by how that ended. */
export interface DatasetStats {
  readonly dataset: string;
  readonly misses: Readonly<Record<Outcome, number>>;
  /** Of the objects that came. */
  readonly bytes: number;
  readonly waits: Distribution;
}

export interface FetchStats {
  readonly reads: number;
  readonly failed: number;
  readonly bytes: number;
}

/** What has happened since the daemon started. All of it only grows. */
export interface EventCounts {
  readonly datasets: readonly DatasetStats[];
  readonly fetched: Readonly<Record<Source, FetchStats>>;
  readonly streamedBytes: number;
  readonly evictedObjects: number;
  readonly evictedBytes: number;
  readonly damaged: number;
  readonly healed: number;
}
