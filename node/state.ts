import { statfs } from 'node:fs/promises';
import type { CapacityStats } from '../cache/capacity.ts';
import type { HydratorStats } from '../cache/hydrate.ts';
import type { NeighbourStats } from '../cache/neighbours/neighbours.ts';
import type { ScrubStats } from '../cache/scrub.ts';
import type { StreamStats } from '../cache/stream/streams.ts';
import { type Requests, requestsOf } from '../dataset/bucket/metrics.ts';
import type { Node } from './node.ts';
import type { SaveStats } from './saves/saves.ts';

/** What a node's daemon holds and does now, and what its parts have counted themselves. */
export interface NodeState {
  readonly hydrator: HydratorStats;
  readonly streams: StreamStats;
  /** See `RingCounters`. */
  readonly ring: Readonly<Record<string, number>>;
  readonly cache: CacheState;
  readonly capacity: CapacityStats;
  /** Absent where it is turned off. */
  readonly scrub?: ScrubStats;
  /** Absent where this node asks no others. */
  readonly neighbours?: NeighbourStats;
  readonly keeper: boolean;
  readonly volumes: { readonly pinned: number; readonly workspace: number };
  readonly stagedVersions: number;
  /** Of workspaces with records; absent where the daemon has nothing to do with those. */
  readonly saves?: SaveStats;
  /** Snapshots whose content is on this node only, still; absent likewise. */
  readonly snapshots?: { readonly pending: number };
  /** The repositories in object stores that are open, by their locations. */
  readonly requests: Readonly<Record<string, Requests>>;
}

export interface CacheState {
  readonly objects: number;
  readonly bytes: number;
  /** Of the file system that the cache is on: all of it, and what users may still write. */
  readonly diskBytes: number;
  readonly diskFreeBytes: number;
}

export type StateReader = () => Promise<NodeState>;

export function createStateReader(node: Node): StateReader {
  const { cache, index, capacity, care, hydrator, streams, ring, volumes, versions, repositories } = node;

  return async () => {
    const { objects, bytes } = index.totals();
    const disk = await statfs(cache.layout.directory);
    const kinds = volumes.records.all().map(({ kind }) => kind);
    const requests = repositories
      .opened()
      .flatMap(({ location, bucket }) => (requestsOf(bucket) === undefined ? [] : [[location, requestsOf(bucket)!]]));
    return {
      hydrator: hydrator.stats(),
      streams: streams.stats(),
      capacity: capacity.stats(),
      ...(care.scrub && { scrub: care.scrub.stats() }),
      ...(node.neighbours && { neighbours: node.neighbours.stats() }),
      ring: { ...ring.server.counters() },
      cache: { objects, bytes, diskBytes: disk.blocks * disk.bsize, diskFreeBytes: disk.bavail * disk.bsize },
      keeper: ring.keeperPid() !== undefined,
      volumes: {
        pinned: kinds.filter((kind) => kind === 'pinned').length,
        workspace: kinds.filter((kind) => kind === 'workspace').length,
      },
      stagedVersions: versions.sources().length,
      ...(volumes.saves.isMember && { saves: volumes.saves.stats() }),
      ...(node.snapshots && { snapshots: { pending: node.snapshots.pending().length } }),
      requests: Object.fromEntries(requests),
    };
  };
}
